"""Several commands at once against one Exchange: jobs in, outcomes out, each job exactly once.

Every worker is a thread with a session of its own, opened in it. Jobs are taken from their iterator, and outcomes
given, in the caller's thread, so that what the caller keeps in a database (the intent before a command, its outcome
after) needs no other thread; the workers touch none. When Exchange asks to slow down, all wait and fewer go on, and
nothing fails by it. It sends nothing twice whose outcome is not known, and never more than a job's attempts.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from connectors.exchange.client import ExchangeClient, Throttling, never
from connectors.exchange.errors import (
    CanceledError,
    ExchangeError,
    OutcomeUnknownError,
    ThrottledError,
    TransientError,
)

logger = logging.getLogger(__name__)

Job = TypeVar("Job")
Result = TypeVar("Result")
OnEvent = Callable[[str, dict[str, object]], None]

# How often a job is tried that failed by what passes.
ATTEMPTS = 3
# So many sessions may break or not open one after another, besides one for each in flight, with no job done between.
LOSSES = 3
# Seconds of waiting for Exchange's sake, all together, after which jobs end with ThrottledError.
THROTTLE_BUDGET = 1800.0
# So many jobs for each that is in flight go well, then one more is tried at once.
RECOVERY = 4
# Seconds between two looks at should_stop, and those that workers are given to leave.
LOOK = 0.25
LEAVE = 20.0
# Failures of one command that leave its session as good as it was.
HARMLESS_CODES = frozenset({"exchange_transient", "cmdlet_proxy_failed", "listing_incomplete"})


class Sessions(Protocol):
    """Where sessions come from: connectors.gateway.SessionSet."""

    def open(self, *, should_stop: Callable[[], bool]) -> AbstractContextManager[ExchangeClient]:
        """A session for the calling thread."""

    def settle(self) -> None:
        """Called in the caller's thread now and again, for what must be written there."""


@dataclass(frozen=True, slots=True)
class Outcome(Generic[Job, Result]):
    """What became of a job. error: None, or why there is no result. CanceledError: it was not begun, or a reading was
    broken off. OutcomeUnknownError: what it was to change may have changed."""

    job: Job
    result: Result | None
    error: Exception | None
    server: str = ""


def _ignore(code: str, params: dict[str, object]) -> None:
    """The on_event of a caller that does not listen."""


def parallel(
    sessions: Sessions,
    jobs: Iterable[Job],
    do: Callable[[ExchangeClient, Job], Result],
    *,
    in_flight: int = 4,
    should_stop: Callable[[], bool] = never,
    on_event: OnEvent = _ignore,
    throttle_budget: float = THROTTLE_BUDGET,
    throttling: Throttling | None = None,
) -> Iterator[Outcome[Job, Result]]:
    """Do every job, `in_flight` at once at most; outcomes in the order in which they end.

    `do` runs in a worker's thread and may use no database. `jobs` is taken from in the caller's thread, at most twice
    `in_flight` ahead of the outcomes. The first session is opened alone, so that a wrong password is tried once; where
    Exchange allows no further one, fewer do.

    A job that is throttled is tried again when Exchange allows, within `throttle_budget` seconds of waiting in all; one
    that fails by a TransientError is tried again, three times in all, in a new session where the old one broke. Any
    other error is its outcome. `throttling` counts both what Exchange held back and what was waited.
    on_event, in the caller's thread: "throttled" {retry_after, in_flight, error_code}, "session_lost" {server,
    error_code}, "sessions_limited" {sessions, error_code}.

    When should_stop() turns true, or no session can be had, no more jobs are taken; those taken come back with their
    outcomes, and then CanceledError or the ExchangeError is raised. Also whatever `jobs` raises comes after the
    outcomes of what it gave. Who leaves the iteration early learns nothing of the jobs under way.
    """
    crew = _Crew(sessions, do, in_flight, throttle_budget, throttling or Throttling())
    source = iter(jobs)
    looked_at = 0.0
    try:
        while not crew.is_finished:
            sessions.settle()
            for code, params in crew.events():
                on_event(code, params)
            if time.monotonic() - looked_at >= LOOK:
                looked_at = time.monotonic()
                if should_stop():
                    crew.stop()
            crew.feed(source)
            yield from crew.outcomes(LOOK)
    finally:
        crew.close()
        sessions.settle()
    if crew.failure is not None:
        raise crew.failure
    if crew.interruption is not None:
        raise crew.interruption


class Pace:
    """How many may be under way, and from when on. Halved when Exchange asks to slow down, and slowly raised again.

    Times are of a monotonic clock, in seconds. Not thread-safe: whoever holds it holds a lock.
    """

    def __init__(self, most: int, budget: float) -> None:
        self.most = self.allowed = max(most, 1)
        self.resumes_at = 0.0
        self.waited = 0.0
        self._budget = budget
        self._went_well = 0

    def throttled(self, seconds: float, now: float) -> bool:
        """Exchange asked to wait so long. False: the patience for that is used up."""
        added = max(now + seconds - max(self.resumes_at, now), 0.0)
        if self.waited + added > self._budget:
            return False
        if now >= self.resumes_at:
            # Several are refused at one blow; that is one reason to slow down, not several.
            self.allowed = max(self.allowed // 2, 1)
        self.waited += added
        self.resumes_at = max(self.resumes_at, now + seconds)
        self._went_well = 0
        return True

    def went_well(self) -> None:
        """A job ended as it should."""
        self._went_well += 1
        if self.allowed < self.most and self._went_well >= RECOVERY * self.allowed:
            self.allowed += 1
            self._went_well = 0


@dataclass(slots=True)
class _Task(Generic[Job]):
    job: Job
    attempts: int = 0


class _Crew(Generic[Job, Result]):
    """The workers and what lies between them and the caller, all of it under one condition."""

    def __init__(
        self,
        sessions: Sessions,
        do: Callable[[ExchangeClient, Job], Result],
        in_flight: int,
        budget: float,
        throttling: Throttling,
    ) -> None:
        self.failure: Exception | None = None
        self.interruption: Exception | None = None  # by the jobs' own iterator
        self._sessions, self._do, self._throttling = sessions, do, throttling
        self._pace = Pace(in_flight, budget)
        self._changed = threading.Condition()
        self._stop = threading.Event()
        self._pending: deque[_Task[Job]] = deque()
        self._outcomes: deque[Outcome[Job, Result]] = deque()
        self._events: deque[tuple[str, dict[str, object]]] = deque()
        self._threads: list[threading.Thread] = []
        self._most_workers = self._pace.most
        self._workers = 0  # threads that are not on their way out
        self._sessions_open = 0
        self._was_let_in = False
        self._working = 0  # tasks in workers' hands
        self._losses = 0
        self._is_exhausted = False
        self._is_closed = False

    # The caller's side

    @property
    def is_finished(self) -> bool:
        """Whether every job taken has come back, and none will be taken any more."""
        with self._changed:
            is_over = self._is_exhausted or self.failure is not None
            return is_over and not self._pending and not self._working and not self._outcomes

    def events(self) -> list[tuple[str, dict[str, object]]]:
        with self._changed:
            found = list(self._events)
            self._events.clear()
            return found

    def stop(self) -> None:
        """Take no more; give back what nobody has begun."""
        self._fail(CanceledError())
        self._stop.set()

    def feed(self, source: Iterator[Job]) -> None:
        """Take jobs as there is room for, and have as many workers as there is work."""
        while not self._is_exhausted and self.failure is None and self._has_room():
            try:
                job = next(source)
            except StopIteration:
                self._exhaust()
            except Exception as error:  # noqa: BLE001 - the caller's own; raised to it after the outcomes
                self.interruption = error
                self._exhaust()
            else:
                self._add(job)
        self._hire()

    def outcomes(self, timeout: float) -> Iterator[Outcome[Job, Result]]:
        """Those that are there; waits so long for the first."""
        with self._changed:
            if not self._outcomes and (self._working or self._pending):
                self._changed.wait(timeout)
            found = list(self._outcomes)
            self._outcomes.clear()
        yield from found

    def close(self) -> None:
        """Have every worker leave, and wait until it has."""
        with self._changed:
            self._pending.clear()
            self._is_exhausted = self._is_closed = True
            self._changed.notify_all()
        self._stop.set()
        end = time.monotonic() + LEAVE
        for thread in self._threads:
            thread.join(max(end - time.monotonic(), 0.0))
            if thread.is_alive():
                logger.warning("a session with Exchange was left behind: it does not come to its end")

    def _has_room(self) -> bool:
        with self._changed:
            return len(self._pending) + self._working < 2 * self._pace.most

    def _add(self, job: Job) -> None:
        with self._changed:
            if self.failure is None:
                self._pending.append(_Task(job))
            else:  # which came while the job was made
                self._outcomes.append(Outcome(job, None, self.failure))
            self._changed.notify_all()

    def _exhaust(self) -> None:
        with self._changed:
            self._is_exhausted = True
            self._changed.notify_all()

    def _hire(self) -> None:
        with self._changed:
            if self.failure is not None:
                return
            # The first one alone, until it was let in.
            most = self._most_workers if self._was_let_in else 1
            wanted = min(len(self._pending) + self._working, most) - self._workers
            hired = [threading.Thread(target=self._work, name="exchange-worker", daemon=True) for _ in range(wanted)]
            self._workers += len(hired)
            self._threads = [thread for thread in self._threads if thread.is_alive()] + hired
        for thread in hired:
            thread.start()

    def _fail(self, error: Exception) -> None:
        """Nothing more can be done: what is pending comes back with the reason."""
        with self._changed:
            self.failure = self.failure or error
            while self._pending:
                self._outcomes.append(Outcome(self._pending.popleft().job, None, self.failure))
            self._changed.notify_all()

    # The workers' side

    def _work(self) -> None:
        reason: ExchangeError | None = None
        try:
            while self._awaits_work():
                is_in = False
                try:
                    with self._sessions.open(should_stop=self._stop.is_set) as client:
                        is_in = True
                        self._serve(client)
                    return
                except CanceledError:
                    return
                except ExchangeError as error:
                    reason = error
                    if not (self._may_replace(error) if is_in else self._may_knock_again(error)):
                        return
        except Exception as error:  # a fault of our own; the caller shall see it
            logger.exception("a worker ended by an error of its own")
            self._fail(error)
        finally:
            self._leave(reason)

    def _awaits_work(self) -> bool:
        """Wait for something to do; False: there will be nothing."""
        with self._changed:
            while not self._pending:
                if self._is_exhausted or self.failure is not None:
                    return False
                self._changed.wait(LOOK)
            return self.failure is None

    def _may_replace(self, error: ExchangeError) -> bool:
        """After a session that broke, or could not be opened."""
        with self._changed:
            self._losses += 1
            if self._losses > LOSSES + self._pace.most:
                self._fail(error)
            return self.failure is None

    def _may_knock_again(self, error: ExchangeError) -> bool:
        """After a session that could not be opened: whether to try again. Others that are in go on without it."""
        with self._changed:
            if not isinstance(error, TransientError):
                self._fail(error)
                return False
            if self._sessions_open:
                self._most_workers = max(self._workers - 1, 1)
                params: dict[str, object] = {"sessions": self._most_workers, "error_code": error.code}
                self._events.append(("sessions_limited", params))
                return False
            if not isinstance(error, ThrottledError):
                # Every server was tried. A worker that comes after this one may try them once more, not for ever.
                self._may_replace(error)
                return False
            if not self._slow_down(error):
                return False
            pause = self._pace.resumes_at - time.monotonic()
            self._changed.wait_for(lambda: self._is_closed or self.failure is not None, pause)
            return self.failure is None

    def _leave(self, reason: ExchangeError | None) -> None:
        """A worker goes. Where it was the last and there is work left, what kept it from it is why nothing goes on."""
        with self._changed:
            self._workers -= 1
            is_stuck = bool(self._pending) and not self._workers and reason is not None
            self._changed.notify_all()
        if is_stuck and reason is not None:
            self._fail(reason)

    def _serve(self, client: ExchangeClient) -> None:
        """Do tasks in one session until there are none. Raises what broke the session."""
        server = client.endpoint.fqdn
        with self._changed:
            self._sessions_open += 1
            self._was_let_in = True
            self._changed.notify_all()
        try:
            while (task := self._take()) is not None:
                self._try(client, server, task)
        finally:
            with self._changed:
                self._sessions_open -= 1
                self._throttling.seconds += client.throttling.seconds
                self._throttling.events += client.throttling.events

    def _try(self, client: ExchangeClient, server: str, task: _Task[Job]) -> None:
        task.attempts += 1
        try:
            result = self._do(client, task.job)
        except ThrottledError as error:
            # Refused before it was carried out: no attempt.
            task.attempts -= 1
            with self._changed:
                may_wait = self._slow_down(error)
            self._done(task, server, error, is_again=may_wait)
        except TransientError as error:
            self._done(task, server, error, is_again=task.attempts < ATTEMPTS)
            if error.code not in HARMLESS_CODES:
                self._tell_lost(server, error)
                raise
        except OutcomeUnknownError as error:
            self._done(task, server, error)
            self._tell_lost(server, error)
            raise
        except CanceledError as error:
            self._done(task, server, error)
            raise
        except Exception as error:  # noqa: BLE001 - the outcome of this one job
            self._done(task, server, error)
        else:
            with self._changed:
                self._losses = 0
                self._pace.went_well()
            self._done(task, server, None, result)

    def _take(self) -> _Task[Job] | None:
        """The next task, as soon as the pace allows it; None: there are none for this worker."""
        with self._changed:
            while self.failure is None:
                pause = self._pace.resumes_at - time.monotonic()
                if self._pending and pause <= 0 and self._working < self._pace.allowed:
                    self._working += 1
                    return self._pending.popleft()
                if not self._pending and self._is_exhausted:
                    return None
                self._changed.wait(min(pause, LOOK) if pause > 0 else LOOK)
            return None

    def _done(
        self,
        task: _Task[Job],
        server: str,
        error: Exception | None,
        result: Result | None = None,
        *,
        is_again: bool = False,
    ) -> None:
        """A task leaves a worker's hands: to be tried again, or with its outcome."""
        with self._changed:
            self._working -= 1
            if is_again and self.failure is None:
                self._pending.appendleft(task)
            elif is_again:
                # It was not carried out, and will not be: that counts more than why it was not at first.
                self._outcomes.append(Outcome(task.job, None, self.failure, server))
            else:
                self._outcomes.append(Outcome(task.job, result, error, server))
            self._changed.notify_all()

    def _slow_down(self, error: ThrottledError) -> bool:
        """Under the condition. False: it has been waited long enough."""
        before = self._pace.waited
        if not self._pace.throttled(error.retry_after, time.monotonic()):
            return False
        self._throttling.seconds += self._pace.waited - before
        self._throttling.events += 1
        params: dict[str, object] = {
            "retry_after": error.retry_after,
            "in_flight": self._pace.allowed,
            "error_code": error.code,
        }
        self._events.append(("throttled", params))
        return True

    def _tell_lost(self, server: str, error: ExchangeError) -> None:
        code = error.because if isinstance(error, OutcomeUnknownError) else error.code
        with self._changed:
            self._events.append(("session_lost", {"server": server, "error_code": code}))

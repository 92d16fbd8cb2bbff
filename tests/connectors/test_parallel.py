"""Many jobs at once: each comes back exactly once, in the caller's thread, whatever sessions and Exchange do."""

from __future__ import annotations

import itertools
import random
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from connectors import parallel as module
from connectors.exchange.client import Endpoint, Throttling
from connectors.exchange.errors import (
    BadRequestError,
    CanceledError,
    ExchangeError,
    NotFoundError,
    OutcomeUnknownError,
    StopError,
    ThrottledError,
    TransientError,
)
from connectors.parallel import Outcome, Pace, parallel

SERVER = Endpoint("ex01.contoso.com", 443, use_tls=True)


@dataclass
class Client:
    """As much of an ExchangeClient as parallel() looks at, and which thread it belongs to."""

    number: int
    thread: int = field(default_factory=threading.get_ident)
    endpoint: Endpoint = SERVER
    throttling: Throttling = field(default_factory=Throttling)


@dataclass
class FakeSessions:
    """Sessions that open as `opening` says: for the n-th one an error, or None. `most`: then too_many_shells."""

    opening: Callable[[int], Exception | None] = lambda number: None
    most: int = 18
    opened: int = 0
    is_open: int = 0
    highest: int = 0
    broken: list[str] = field(default_factory=list)
    settled: set[int] = field(default_factory=set)
    should_stop: Callable[[], bool] = lambda: False
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @contextmanager
    def open(self, *, should_stop: Callable[[], bool]) -> Iterator[Any]:
        with self._lock:
            self.should_stop = should_stop
            number = self.opened
            self.opened += 1
            if error := self.opening(number):
                raise error
            if self.is_open >= self.most:
                raise ThrottledError("x", code="too_many_shells", retry_after=0.05)
            self.is_open += 1
            self.highest = max(self.highest, self.is_open)
        try:
            yield Client(number)
        except ExchangeError as error:
            self.broken.append(error.code)
            raise
        finally:
            with self._lock:
                self.is_open -= 1

    def settle(self) -> None:
        self.settled.add(threading.get_ident())


def run(
    sessions: FakeSessions, jobs: Any, do: Callable[[Any, Any], Any], **options: Any
) -> tuple[list[Outcome[Any, Any]], Exception | None]:
    """The outcomes, and what was raised after them."""
    found: list[Outcome[Any, Any]] = []
    try:
        found.extend(parallel(sessions, jobs, do, **options))
    except Exception as error:
        return found, error
    return found, None


def codes(outcomes: list[Outcome[Any, Any]]) -> Counter[str]:
    return Counter(getattr(one.error, "code", type(one.error).__name__) for one in outcomes)


# What goes well


def test_every_job_comes_back_with_its_result() -> None:
    sessions = FakeSessions()
    found, error = run(sessions, range(100), lambda client, job: job * 2, in_flight=4)
    assert error is None
    assert {one.job: one.result for one in found} == {job: job * 2 for job in range(100)}
    assert {one.server for one in found} == {"ex01.contoso.com"}
    assert sessions.is_open == 0
    assert sessions.settled == {threading.get_ident()}


def test_no_job_opens_no_session() -> None:
    sessions = FakeSessions()
    assert run(sessions, [], lambda client, job: job) == ([], None)
    assert sessions.opened == 0


def test_one_job_opens_one_session() -> None:
    sessions = FakeSessions()
    run(sessions, [1], lambda client, job: job, in_flight=8)
    assert sessions.opened == 1


def test_as_many_at_once_as_asked_and_no_more() -> None:
    under_way, most, lock = 0, 0, threading.Lock()

    def do(client: Client, job: int) -> None:
        nonlocal under_way, most
        assert client.thread == threading.get_ident()  # a session belongs to the thread that opened it
        with lock:
            under_way += 1
            most = max(most, under_way)
        time.sleep(0.01)
        with lock:
            under_way -= 1

    sessions = FakeSessions()
    run(sessions, range(60), do, in_flight=6)
    assert (most, sessions.highest, sessions.opened) == (6, 6, 6)


def test_jobs_are_taken_in_the_callers_thread_and_not_far_ahead() -> None:
    taken, given_back = 0, 0

    def jobs() -> Iterator[int]:
        nonlocal taken
        for number in range(50):
            assert threading.get_ident() == caller
            taken += 1
            assert taken - given_back <= 2 * 3 + 1
            yield number

    caller = threading.get_ident()
    for _ in parallel(FakeSessions(), jobs(), lambda client, job: time.sleep(0.002), in_flight=3):
        given_back += 1
    assert given_back == 50


# What a job may meet

FINAL: dict[str, Exception] = {
    "refused": BadRequestError("x", code="argument_refused"),
    "gone": NotFoundError("x"),
    "not granted": StopError("x", code="forbidden"),
    "ours": ZeroDivisionError("x"),
}


@pytest.mark.parametrize("error", FINAL.values(), ids=FINAL.keys())
def test_an_error_of_one_job_is_its_outcome_and_the_rest_goes_on(error: Exception) -> None:
    tries: Counter[int] = Counter()

    def do(client: Client, job: int) -> int:
        tries[job] += 1
        if job == 7:
            raise error
        return job

    sessions = FakeSessions()
    found, raised = run(sessions, range(20), do)
    assert raised is None
    assert [one.error for one in found if one.job == 7] == [error]
    assert sorted(one.job for one in found if one.error is None) == [job for job in range(20) if job != 7]
    assert tries[7] == 1
    assert sessions.broken == []


def test_a_job_that_breaks_its_session_is_tried_again_in_a_new_one() -> None:
    seen: dict[int, list[int]] = defaultdict(list)

    def do(client: Client, job: int) -> int:
        seen[job].append(client.number)
        if job == 3 and len(seen[job]) < 3:
            raise TransientError("x", code="connection_dropped")
        return job

    events: list[tuple[str, dict[str, object]]] = []
    sessions = FakeSessions()
    found, error = run(sessions, range(8), do, in_flight=2, on_event=lambda *event: events.append(event))
    assert (error, codes(found)) == (None, Counter({"NoneType": 8}))
    assert len(seen[3]) == 3
    assert sessions.broken == ["connection_dropped"] * 2
    assert events == [("session_lost", {"server": "ex01.contoso.com", "error_code": "connection_dropped"})] * 2


def test_a_job_is_tried_three_times_at_most() -> None:
    def do(client: Client, job: int) -> int:
        if job == 3:
            raise TransientError("x", code="exchange_transient")
        return job

    sessions = FakeSessions()
    found, error = run(sessions, range(8), do, in_flight=2)
    assert error is None
    assert codes(found) == Counter({"NoneType": 7, "exchange_transient": 1})
    assert sessions.broken == []  # an error of Exchange's own leaves the session as it was


def test_what_is_not_known_to_be_undone_is_never_done_twice() -> None:
    tries: Counter[int] = Counter()

    def do(client: Client, job: int) -> int:
        tries[job] += 1
        if job == 3:
            raise OutcomeUnknownError("x")
        return job

    sessions = FakeSessions()
    found, error = run(sessions, range(8), do, in_flight=2)
    assert error is None
    assert codes(found) == Counter({"NoneType": 7, "outcome_unknown": 1})
    assert tries[3] == 1
    assert sessions.broken == ["outcome_unknown"]  # and with it its session


def test_sessions_that_break_again_and_again_end_it() -> None:
    def do(client: Client, job: int) -> int:
        raise TransientError("x", code="pool_broken")

    sessions = FakeSessions()
    found, error = run(sessions, range(50), do, in_flight=2)
    assert isinstance(error, TransientError)
    assert sessions.opened <= module.LOSSES + 2 + 2
    assert set(codes(found)) == {"pool_broken"}
    assert len({one.job for one in found}) == len(found) < 50


# Being slowed down


def test_throttling_slows_down_and_fails_nothing() -> None:
    tries: Counter[int] = Counter()

    def do(client: Client, job: int) -> int:
        tries[job] += 1
        if job % 10 == 5 and tries[job] <= 4:
            raise ThrottledError("x", code="user_load_quota", retry_after=0.01)
        return job

    events: list[tuple[str, dict[str, object]]] = []
    throttling = Throttling()
    found, error = run(
        FakeSessions(), range(60), do, in_flight=8, throttling=throttling, on_event=lambda *event: events.append(event)
    )
    assert (error, codes(found)) == (None, Counter({"NoneType": 60}))
    assert throttling.events == 24
    assert throttling.seconds >= 0.05
    assert {code for code, _ in events} == {"throttled"}
    assert min(int(str(params["in_flight"])) for _, params in events) == 1


def test_nobody_sends_while_exchange_asked_to_wait() -> None:
    refused_at: list[float] = []
    others: list[float] = []

    def do(client: Client, job: int) -> None:
        if job == 9 and not refused_at:
            refused_at.append(time.monotonic())
            raise ThrottledError("x", retry_after=0.4)
        time.sleep(0.01)
        if refused_at:
            others.append(time.monotonic() - 0.01)

    run(FakeSessions(), range(40), do, in_flight=4)
    begun_after = [moment - refused_at[0] for moment in others]
    # What was under way ends; what begins, begins after the pause.
    assert len(begun_after) >= 30
    assert all(after < 0.1 or after >= 0.39 for after in begun_after)


def test_patience_ends() -> None:
    def do(client: Client, job: int) -> int:
        raise ThrottledError("x", code="server_busy", retry_after=0.05)

    found, error = run(FakeSessions(), range(6), do, in_flight=2, throttle_budget=0.12)
    assert error is None
    assert codes(found) == Counter({"server_busy": 6})


@given(
    st.integers(1, 20),
    st.lists(st.one_of(st.none(), st.floats(0.1, 60.0)), max_size=60),
)
@hypothesis_settings(max_examples=100)
def test_the_pace_stays_between_one_and_the_most(most: int, events: list[float | None]) -> None:
    pace = Pace(most, budget=300.0)
    now = 100.0
    for seconds in events:
        before = pace.allowed
        if seconds is None:
            pace.went_well()
            assert pace.allowed in (before, before + 1)
        elif pace.throttled(seconds, now):
            assert pace.resumes_at >= now + seconds
            assert pace.allowed <= before
        assert 1 <= pace.allowed <= most
        assert pace.waited <= 300.0
        now += 1.0


def test_the_pace_recovers_and_one_blow_counts_once() -> None:
    pace = Pace(8, budget=300.0)
    for _ in range(8):
        assert pace.throttled(2.0, now=10.0)
    assert (pace.allowed, pace.resumes_at, pace.waited) == (4, 12.0, 2.0)
    assert pace.throttled(2.0, now=13.0)
    assert pace.allowed == 2
    for _ in range(1000):
        pace.went_well()
    assert pace.allowed == 8


# Sessions that cannot be had


def test_fewer_sessions_than_wanted_do_it_too() -> None:
    events: list[str] = []
    sessions = FakeSessions(most=2)
    found, error = run(
        sessions, range(40), lambda client, job: time.sleep(0.005), in_flight=8,
        on_event=lambda code, params: events.append(code),
    )  # fmt: skip
    assert (error, codes(found)) == (None, Counter({"NoneType": 40}))
    assert sessions.highest == 2
    assert "sessions_limited" in events
    assert sessions.opened < 20


def test_no_session_at_all_is_waited_for() -> None:
    busy = ThrottledError("x", code="too_many_shells", retry_after=0.05)
    sessions = FakeSessions(opening=lambda number: busy if number < 3 else None)
    started = time.monotonic()
    found, error = run(sessions, range(5), lambda client, job: job, in_flight=4)
    assert (error, codes(found)) == (None, Counter({"NoneType": 5}))
    assert time.monotonic() - started >= 0.15


@pytest.mark.parametrize(
    "refusal",
    [
        StopError("x", code="authentication_failed"),
        TransientError("x", code="connection_refused"),
        ZeroDivisionError("ours"),
    ],
    ids=["wrong password", "nobody there", "ours"],
)
def test_a_refused_sign_in_is_tried_once_and_ends_it(refusal: Exception) -> None:
    sessions = FakeSessions(opening=lambda number: refusal)
    found, error = run(sessions, range(100), lambda client, job: job, in_flight=8)
    assert error is refusal
    assert sessions.opened == 1
    assert {one.error for one in found} == {refusal}
    assert [one.job for one in found] == list(range(len(found)))


def test_a_password_changed_meanwhile_ends_it_with_all_outcomes_given() -> None:
    refusal = StopError("x", code="authentication_failed")
    sessions = FakeSessions(opening=lambda number: refusal if number >= 4 else None)
    taken: list[int] = []

    def jobs() -> Iterator[int]:
        for number in range(200):
            taken.append(number)
            yield number

    def do(client: Client, job: int) -> int:
        time.sleep(0.002)
        if job == 30:
            raise TransientError("x", code="connection_dropped")
        return job

    found, error = run(sessions, jobs(), do, in_flight=4)
    assert error is refusal
    assert sorted(one.job for one in found) == taken
    assert len(taken) < 200


# Stopping


def test_a_stop_is_prompt_and_gives_every_job_back() -> None:
    taken: list[int] = []
    stop = threading.Event()

    def jobs() -> Iterator[int]:
        for number in itertools.count():
            taken.append(number)
            yield number

    sessions = FakeSessions()

    def do(client: Client, job: int) -> int:
        if job == 20:
            stop.set()
        end = time.monotonic() + 5 if job >= 20 else 0
        while time.monotonic() < end:  # as a session does in the middle of a reading
            if sessions.should_stop():
                raise CanceledError
            time.sleep(0.01)
        return job

    started = time.monotonic()
    found, error = run(sessions, jobs(), do, in_flight=4, should_stop=stop.is_set)
    assert isinstance(error, CanceledError)
    assert time.monotonic() - started < 3
    assert sorted(one.job for one in found) == taken
    assert all(isinstance(one.error, CanceledError) for one in found if one.job >= 20)
    assert sessions.is_open == 0


def test_who_leaves_early_leaves_no_session_behind() -> None:
    sessions = FakeSessions()
    outcomes = parallel(sessions, itertools.count(), lambda client, job: time.sleep(0.005), in_flight=4)
    for _ in range(10):
        next(outcomes)
    outcomes.close()  # type: ignore[attr-defined] # it is a generator
    assert sessions.is_open == 0


def test_what_the_jobs_raise_comes_after_the_outcomes() -> None:
    def jobs() -> Iterator[int]:
        yield from range(5)
        raise LookupError("the caller's own")

    found, error = run(FakeSessions(), jobs(), lambda client, job: job, in_flight=2)
    assert isinstance(error, LookupError)
    assert sorted(one.job for one in found) == list(range(5))


# All of it at once


@pytest.mark.parametrize("seed", range(12))
def test_whatever_happens_each_job_comes_back_once(seed: int) -> None:
    chance = random.Random(seed)
    lock = threading.RLock()
    done: Counter[int] = Counter()

    def luck() -> float:
        with lock:
            return chance.random()

    def do(client: Client, job: int) -> int:
        assert client.thread == threading.get_ident()
        fate = luck()
        if fate < 0.05:
            raise ThrottledError("x", retry_after=0.002)
        if fate < 0.09:
            raise TransientError("x", code="shell_lost")
        if fate < 0.12:
            with lock:
                done[job] += luck() < 0.5
            raise OutcomeUnknownError("x")
        if fate < 0.15:
            raise BadRequestError("x")
        with lock:
            done[job] += 1
        return job

    sessions = FakeSessions(
        opening=lambda number: TransientError("x", code="no_answer") if number and luck() < 0.1 else None, most=5
    )
    taken: list[int] = []

    def jobs() -> Iterator[int]:
        for number in range(150):
            taken.append(number)
            yield number

    found, error = run(sessions, jobs(), do, in_flight=6)
    assert sorted(one.job for one in found) == taken
    assert error is None or isinstance(error, TransientError)
    assert all(done[one.job] == 1 for one in found if one.error is None)
    assert all(count <= 1 for count in done.values())
    assert sessions.is_open == 0

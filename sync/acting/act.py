"""Act: carry a plan out on Exchange, so that whatever happens on the way, nothing is lost and nothing is done twice.

Each command is written down before it is sent (prepare.py, journal.py) and its outcome after (outcomes.py); between the
two there is no transaction, and what became of it is read back, not believed. Mailboxes are planned anew some at a time
just before, under the lock of their journal row. One mailbox's trouble stays its own; an account that may not write
ends the order. Nothing is sent once the hold (a run's lease, or the lane's) is lost. What a dead worker left open is
ended by settle.py.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import AbstractContextManager
from typing import Any

from connectors import gateway
from connectors.actors import Actor
from connectors.exchange.client import ExchangeClient
from connectors.exchange.errors import ExchangeError, NotPermittedError, StopError
from connectors.models import Connector
from connectors.parallel import Outcome, Sessions, parallel
from sync.acting import journal
from sync.acting.controllers import Controllers
from sync.acting.deeds import Reading
from sync.acting.journal import By
from sync.acting.order import Failure, Job, Order, Report
from sync.acting.outcomes import OUTCOME_UNKNOWN, Ending, ending_of, ending_of_outcome, outcomes_record
from sync.acting.prepare import Preparation
from sync.acting.settle import readings, recover
from sync.deciding.commands import BLOCKS, REMOVALS, SettingsCommand
from sync.deciding.facts import OrganizationPolicy
from sync.deciding.target import is_wanted
from sync.lease import Hold, beating
from sync.models import Command, SyncRun
from sync.policies.policy_rows import organization_policy

__all__ = ["Failure", "Order", "Report", "execute", "recover"]

logger = logging.getLogger(__name__)

# A mailbox with several commands of one stage gets them one after another; more rounds than this are a fault of ours.
ROUNDS = 8
# Seconds for which outcomes may wait for others, and between two reports of progress.
WRITE_SECONDS = 0.2
PROGRESS_SECONDS = 0.5

OnEvent = Callable[[str, dict[str, object]], None]
OpenSessions = Callable[..., AbstractContextManager[Sessions]]
# How jobs get done: connectors.parallel.parallel, or one after another in a session that is open already.
Carry = Callable[..., Iterator[Outcome[Any, Any]]]


def _ignore(*_: object) -> None:
    """For a caller that does not listen."""


def execute(
    order: Order,
    *,
    connector: Connector,
    hold: Hold,
    run: SyncRun | None = None,
    actor: Actor,
    because: str,
    on_progress: Callable[[Report], None] = _ignore,
    on_event: OnEvent = _ignore,
    open_sessions: OpenSessions = gateway.open_sessions,
    carry: Carry = parallel,
) -> Report:
    """Carry an order out, or only write down what would be sent, where the connector observes only.

    Failures of single commands are in the report and never raised. Raises CanceledError; LeaseLostError;
    ExchangeError when no session can be had or the account may not write. What was not sent then is canceled, and
    planned anew by the next run.
    """
    current = Connector.objects.get(pk=connector.pk)  # whether it observes only may have been changed since
    by = By(order.organization_id, journal.order_owner(), actor, because, run.pk if run else None)
    work = _Work(order, current, hold, by, carry, on_progress, on_event)
    if current.is_observe_only:
        work.preparation.write_down()
        on_progress(work.report)
        return work.report
    try:
        with (
            beating(lambda: journal.leases_renew(by.owner), "journal"),
            open_sessions(current, role="act", on_event=on_event) as sessions,
        ):
            work.carry_out(sessions)
    except Exception:
        work.leave()
        raise
    work.leave()
    on_progress(work.report)
    return work.report


class _Work:
    """One order on its way."""

    def __init__(
        self,
        order: Order,
        connector: Connector,
        hold: Hold,
        by: By,
        carry: Carry,
        on_progress: Callable[[Report], None],
        on_event: OnEvent,
    ) -> None:
        self.order, self.connector, self.hold, self.by = order, connector, hold, by
        self.carry, self.on_progress, self.on_event = carry, on_progress, on_event
        self.report = Report()
        self.controllers = Controllers()
        self.stopped_by: ExchangeError | None = None
        self._unknown: dict[int, Job] = {}
        self._ended: list[tuple[Job, Ending]] = []  # and not written yet
        self._ended_since = 0.0
        self._reported_at = 0.0
        self.preparation = Preparation(
            order,
            connector,
            hold,
            by,
            self.report,
            is_stopped=self._is_stopped,
            progressed=self._progress,
            meanwhile=self._write,
        )

    # --- the order of things ---

    def leave(self) -> None:
        """What ended is written, and nothing that was not sent stays locked."""
        self._write()
        left = journal.rest_cancel(self.by.owner, self.preparation.marked)
        if left:
            logger.info("%d commands of %s were not sent", left, self.by.owner)

    def carry_out(self, sessions: Sessions) -> None:
        later = self._entries(sessions, self.order.mailboxes, BLOCKS, self.order.settings)
        if self.order.settings and not self._settings(sessions):
            # What goes now would leave phones to rules and a default that are not there.
            return
        self._entries(sessions, later, REMOVALS, ())

    def _entries(
        self, sessions: Sessions, mailboxes: Collection[int], stage: int, to_come: tuple[SettingsCommand, ...]
    ) -> list[int]:
        """Commands up to a stage. Returns the mailboxes that have others still."""
        todo, later = list(mailboxes), list[int]()
        for _ in range(ROUNDS):
            again: list[int] = []
            jobs = self.preparation.entries(todo, stage, to_come, again, later)
            self._run(sessions, jobs, self.connector.parallel_commands)
            todo = [pk for pk in again if pk not in self.report.failed_mailboxes and pk not in self.report.busy]
            if not todo:
                break
        return [pk for pk in later if pk not in self.report.failed_mailboxes and pk not in self.report.busy]

    def _settings(self, sessions: Sessions) -> bool:
        """One after another; the first that fails ends it, and so does one that the policy does not want any more: what
        was saved since the run decided has a run of its own. Whether all went well."""
        for command in self.order.settings:
            if self.order.policy is not None and not self._is_still_wanted(command, self.order.policy):
                self.report.skipped += 1
                return False
            failed = self.report.failed + self.report.unknown
            self._run(sessions, self.preparation.setting(command), 1)
            if self.report.failed + self.report.unknown > failed:
                return False
        return True

    def _is_still_wanted(self, command: SettingsCommand, planned_by: OrganizationPolicy) -> bool:
        current = organization_policy(self.order.organization_id).facts()
        return current == planned_by or is_wanted(command, current)

    def _run(self, sessions: Sessions, jobs: Iterable[Job], in_flight: int) -> None:
        """Do jobs and record their outcomes; then read what became of those that got no answer."""
        for outcome in self.carry(
            sessions,
            jobs,
            self._do,
            in_flight=in_flight,
            should_stop=self.hold.should_stop,
            on_event=self.on_event,
        ):
            self._take(outcome)
        self._write()
        if self.stopped_by is not None:
            raise self.stopped_by
        self._read_unknown(sessions, in_flight)

    def _do(self, client: ExchangeClient, job: Job) -> Reading | None:
        """In a worker's thread: no database here."""
        return job.deed.send(client, self.controllers)

    def _is_stopped(self) -> bool:
        return self.hold.should_stop() or self.stopped_by is not None

    # --- after ---

    def _take(self, outcome: Outcome[Job, Reading | None]) -> None:
        """Written some at a time: as many as are under way, or what came within a moment."""
        error = outcome.error
        if isinstance(error, StopError | NotPermittedError):
            self.stopped_by = self.stopped_by or error
        if not self._ended:
            self._ended_since = time.monotonic()
        self._ended.append((outcome.job, ending_of_outcome(outcome.job.deed, outcome)))
        is_full = len(self._ended) >= self.connector.parallel_commands
        if is_full or time.monotonic() - self._ended_since >= WRITE_SECONDS:
            self._write()

    def _write(self) -> None:
        ended, self._ended = self._ended, []
        if not ended:
            return
        kept = outcomes_record(self.by.owner, [(job.command, job.deed, ending) for job, ending in ended])
        for job, ending in ended:
            if job.command in kept:
                self._count(job, ending)
            else:
                logger.warning("command %s was ended by recovery meanwhile", job.command)
        self._progress()

    def _count(self, job: Job, ending: Ending) -> None:
        state, report = ending.state, self.report
        if state == Command.State.UNKNOWN:
            self._unknown[job.command] = job
        elif state == Command.State.DONE:
            report.done += 1
        elif state == Command.State.OBSERVED:
            report.observed += 1
        elif state == Command.State.CANCELED:
            report.canceled += 1
        else:
            report.fail(ending.code, dict(ending.params), job.subject)
            if job.mailbox is not None:
                report.failed_mailboxes.add(job.mailbox)

    def _read_unknown(self, sessions: Sessions, in_flight: int) -> None:
        """Those that got no answer are read in a new session. One that cannot be read stays open for settle.py."""
        jobs, self._unknown = self._unknown, {}
        found = readings(
            sessions,
            {pk: job.deed for pk, job in jobs.items()},
            self.carry,
            in_flight=in_flight,
            should_stop=self.hold.should_stop,
        )
        for pk, (reading, server) in found.items():
            ending = ending_of(jobs[pk].deed, reading, server=server, otherwise=OUTCOME_UNKNOWN)
            self._ended.append((jobs[pk], ending))
        self._write()
        left = [job for pk, job in jobs.items() if pk not in found]
        self.report.unknown += len(left)
        self.report.failed_mailboxes |= {job.mailbox for job in left if job.mailbox is not None}

    def _progress(self) -> None:
        now = time.monotonic()
        if now - self._reported_at >= PROGRESS_SECONDS:
            self._reported_at = now
            self.on_progress(self.report)

"""Act: carry a plan out on Exchange, so that whatever happens on the way, nothing is lost and nothing is done twice.

Each command is written down before it is sent (journal.py) and its outcome after (outcomes.py); between the two there
is no transaction, and what became of it is read back, not believed. Mailboxes are planned anew some at a time just
before, under the lock of their journal row. One mailbox's trouble stays its own; an account that may not write ends the
order. Nothing is sent once the hold (a run's lease, or the lane's) is lost. What a dead worker left open is ended by
settle.py.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

from django.conf import settings
from django.utils import timezone

from connectors import gateway
from connectors.actors import Actor
from connectors.exchange.client import ExchangeClient
from connectors.exchange.errors import (
    CanceledError,
    ExchangeError,
    NotPermittedError,
    StopError,
)
from connectors.models import Connector
from connectors.parallel import Outcome, Sessions, parallel
from sync.acting import denials, journal
from sync.acting.controllers import Controllers
from sync.acting.deeds import Deed, Reading, deed_of_plan
from sync.acting.denials import Denied
from sync.acting.journal import By, Intent
from sync.acting.organization_ledger import organization_ledger_note
from sync.acting.outcomes import OUTCOME_UNKNOWN, Ending, ending_of, ending_of_outcome, outcomes_record
from sync.acting.replan import Replanned, replan
from sync.acting.settle import readings, recover
from sync.blocks import blocks
from sync.deciding.commands import BLOCKS, REMOVALS, SetMailboxEntries, SettingsCommand
from sync.deciding.facts import OrganizationPolicy, Partnership, State
from sync.deciding.target import is_wanted
from sync.lease import Hold, beating
from sync.models import Command, DeviceAccess, Mailbox, SyncRun
from sync.policies.policy_rows import organization_policy

__all__ = ["Failure", "Order", "Report", "execute", "recover"]

logger = logging.getLogger(__name__)

# Mailboxes planned in one transaction.
CHUNK = 100
# Denials of a setting noted in one.
NOTED = 1000
# A mailbox with several commands of one stage gets them one after another; more rounds than this are a fault of ours.
ROUNDS = 8
FAILURES = 20
# Seconds between two looks at mails that are to go out first, and between two reports of progress.
LOOK = 0.1
WRITE_SECONDS = 0.2
PROGRESS_SECONDS = 0.5

OnEvent = Callable[[str, dict[str, object]], None]
OpenSessions = Callable[..., AbstractContextManager[Sessions]]
# How jobs get done: connectors.parallel.parallel, or one after another in a session that is open already.
Carry = Callable[..., Iterator[Outcome[Any, Any]]]


def _ignore(*_: object) -> None:
    """For a caller that does not listen."""


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be brought about: the mailboxes' entries as they are to be when it comes to each, and these settings
    and rules (plan.py's commands of stage 3) in between. may_deny: who may lose mail by an entry; None: everyone.
    policy: what the settings were planned by; those that one saved since does not want are left."""

    organization_id: int
    mailboxes: tuple[int, ...] = ()
    may_deny: frozenset[Partnership] | None = None
    settings: tuple[SettingsCommand, ...] = ()
    policy: OrganizationPolicy | None = None


@dataclass(frozen=True, slots=True)
class Failure:
    """One command that failed. subject: "mailbox:<key>" or "settings"."""

    code: str
    params: dict[str, Any]
    subject: str


@dataclass(slots=True)
class Report:
    """Counts of commands. busy: mailboxes that another order was at, which must be looked at again. failed_mailboxes:
    whose command failed, or whose outcome is not known. failures: the first of them."""

    planned: int = 0
    done: int = 0
    failed: int = 0
    skipped: int = 0
    observed: int = 0
    unknown: int = 0
    canceled: int = 0
    busy: set[int] = field(default_factory=set)
    failed_mailboxes: set[int] = field(default_factory=set)
    failures: list[Failure] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Job:
    """A command handed to a worker. mailbox None: settings, a rule."""

    command: int
    deed: Deed
    subject: str
    mailbox: int | None = None


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
    is_dry_run: bool = False,
) -> Report:
    """Carry an order out, or only write down what would be sent (a dry run, or a connector that observes only).

    Failures of single commands are in the report and never raised. Raises CanceledError; LeaseLostError;
    ExchangeError when no session can be had or the account may not write. What was not sent then is canceled, and
    planned anew by the next run.
    """
    current = Connector.objects.get(pk=connector.pk)  # whether it observes only may have been changed since
    by = By(order.organization_id, journal.order_owner(), actor, because, run.pk if run else None)
    work = _Work(order, current, hold, by, carry, on_progress, on_event)
    if is_dry_run or current.is_observe_only:
        work.write_down()
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


@dataclass(slots=True)
class _Waiting:
    """Denying commands whose mails are to go out first, until then at the latest (monotonic)."""

    jobs: list[Job]
    devices: tuple[int, ...]
    until: float

    @property
    def is_over(self) -> bool:
        return time.monotonic() >= self.until or not denials.mails_are_under_way(self.devices)


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
        self._marked: set[int] = set()  # as sent, and not handed over yet
        self._ended: list[tuple[Job, Ending]] = []  # and not written yet
        self._ended_since = 0.0
        self._reported_at = 0.0

    # --- the order of things ---

    def leave(self) -> None:
        """What ended is written, and nothing that was not sent stays locked."""
        self._write()
        left = journal.rest_cancel(self.by.owner, self._marked)
        if left:
            logger.info("%d commands of %s were not sent", left, self.by.owner)

    def write_down(self) -> None:
        """Nothing is sent; rows say what would be."""
        for chosen in blocks(self.order.mailboxes, CHUNK):
            found = self._replan(chosen, self.order.settings)
            intents = [self._intent(one, found) for commands in found.commands.values() for one in commands]
            self._observe(intents)
        self._observe([self._settings_intent(command) for command in self.order.settings])

    def _observe(self, intents: list[Intent]) -> None:
        with self.hold.guard():
            rows = journal.intents_write(intents, self.by, state=Command.State.OBSERVED)
        self.report.observed += len(rows)
        self.on_progress(self.report)
        if self.hold.should_stop():
            raise CanceledError

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
            self._run(sessions, self._jobs(todo, stage, to_come, again, later), self.connector.parallel_commands)
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
            self._run(sessions, self._settings_job(command), 1)
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

    # --- before ---

    def _jobs(
        self,
        mailboxes: list[int],
        stage: int,
        to_come: tuple[SettingsCommand, ...],
        again: list[int],
        later: list[int],
    ) -> Iterator[Job]:
        waiting: deque[_Waiting] = deque()
        for chosen in blocks(mailboxes, CHUNK):
            if self._is_stopped():
                return
            jobs, devices = self._prepare(chosen, stage, to_come, again, later)
            yield from self._sent(job for job, denies in jobs if not denies)
            denying = [job for job, denies in jobs if denies]
            if denying:
                until = time.monotonic() + settings.NOTIFY_BEFORE_DENIAL_SECONDS
                waiting.append(_Waiting(denying, devices, until))
            while waiting and waiting[0].is_over:
                yield from self._sent(waiting.popleft().jobs)
        while waiting:
            self._write()
            while not waiting[0].is_over and not self.hold.should_stop():
                time.sleep(LOOK)
            yield from self._sent(waiting.popleft().jobs)

    def _sent(self, jobs: Iterable[Job]) -> Iterator[Job]:
        """Marked as sent some at a time, at the moment the first of them is taken."""
        for chosen in blocks(jobs, self.connector.parallel_commands):
            if self._is_stopped():
                return
            if self._observes_by_now():
                with self.hold.guard():
                    commands = [job.command for job in chosen]
                    self.report.observed += journal.unsent_end(commands, Command.State.OBSERVED, "observe_only")
                continue
            mine = journal.sent_mark([job.command for job in chosen], self.by.owner, self.hold)
            self._marked |= mine
            self.report.skipped += len(chosen) - len(mine)
            for job in chosen:
                if self._is_stopped():
                    return
                if job.command in mine:
                    self._marked.discard(job.command)
                    yield job

    def _observes_by_now(self) -> bool:
        """Sessions that are open already would go on writing: who pulls the brake means the very next command."""
        return Connector.objects.filter(pk=self.connector.pk, is_observe_only=True).exists()

    def _is_stopped(self) -> bool:
        return self.hold.should_stop() or self.stopped_by is not None

    def _prepare(
        self,
        mailboxes: list[int],
        stage: int,
        to_come: tuple[SettingsCommand, ...],
        again: list[int],
        later: list[int],
    ) -> tuple[list[tuple[Job, bool]], tuple[int, ...]]:
        """Plan and write the intents of some mailboxes in one transaction. Jobs with whether they deny, and whom."""
        with self.hold.guard():
            # Held until the intents are written: no other order's outcome comes in between.
            list(Mailbox.objects.select_for_update().filter(pk__in=mailboxes).order_by("pk").values_list("pk"))
            busy = journal.open_mailboxes(mailboxes)
            self.report.busy |= busy
            found = self._replan([pk for pk in mailboxes if pk not in busy], to_come)
            intents: list[Intent] = []
            for mailbox, commands in sorted(found.commands.items()):
                mine = [command for command in commands if command.stage <= stage]
                if mine:
                    intents.append(self._intent(mine[0], found))
                if len(mine) > 1:
                    again.append(mailbox)
                if len(commands) > len(mine):
                    later.append(mailbox)
            rows = journal.intents_write(intents, self.by)
            self.report.busy |= {intent.mailbox for intent in intents if intent.mailbox} - {
                intent.mailbox for intent in rows.values() if intent.mailbox
            }
            denied = tuple(device for intent in rows.values() for device in intent.denies)
            denials.noted(self.order.organization_id, self.by.run_id, _denied(denied, found))
        self.report.planned += len(rows)
        self._progress()
        jobs = [(Job(pk, one.deed, one.subject, one.mailbox), bool(one.denies)) for pk, one in rows.items()]
        return jobs, denied

    def _replan(self, mailboxes: list[int], to_come: tuple[SettingsCommand, ...]) -> Replanned:
        return replan(
            self.order.organization_id,
            mailboxes,
            may_deny=self.order.may_deny,
            settings=to_come,
            now=timezone.now(),
        )

    def _intent(self, command: SetMailboxEntries, found: Replanned) -> Intent:
        mailbox = int(command.mailbox)
        allowed = (key for key in command.devices if found.verdicts[key].state is State.ALLOWED)
        return Intent(
            journal.mailbox_subject(mailbox),
            deed_of_plan(command, domain=found.world.mailboxes[command.mailbox].domain),
            mailbox,
            _keys(command.devices),
            _keys(command.denies),
            allows=sum(1 for _ in allowed),
        )

    def _settings_intent(self, command: SettingsCommand) -> Intent:
        deed = deed_of_plan(command)
        # One after another in all: they depend on each other.
        return Intent(journal.SETTINGS_SUBJECT, deed, denies=_keys(command.denies))

    def _settings_job(self, command: SettingsCommand) -> Iterator[Job]:
        intent = self._settings_intent(command)
        with self.hold.guard():
            rows = journal.intents_write([intent], self.by)
            for one in rows.values():
                organization_ledger_note(self.order.organization_id, one.deed)
        self.report.planned += len(rows)
        if not rows:
            self.report.failed += 1
            self._failure("subject_busy", {}, intent.subject)
            return
        self._denials_note(intent.denies)
        jobs = [Job(pk, one.deed, one.subject) for pk, one in rows.items()]
        waiting = _Waiting(jobs, intent.denies, time.monotonic() + settings.NOTIFY_BEFORE_DENIAL_SECONDS)
        while intent.denies and not waiting.is_over and not self.hold.should_stop():
            time.sleep(LOOK)
        yield from self._sent(jobs)

    def _denials_note(self, devices: tuple[int, ...]) -> None:
        """A setting may deny tens of thousands: after its intent and before it is sent, in short transactions. Cut off
        in between, it is not sent; who was noted then is not noted again when it is planned anew."""
        for chosen in blocks(devices, NOTED):
            denied = _denied(tuple(chosen), None)
            with self.hold.guard():
                denials.noted(self.order.organization_id, self.by.run_id, denied)
            if self.hold.should_stop():
                raise CanceledError

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
            report.failed += 1
            self._failure(ending.code, dict(ending.params), job.subject)
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

    def _failure(self, code: str, params: dict[str, Any], subject: str) -> None:
        if len(self.report.failures) < FAILURES:
            self.report.failures.append(Failure(code, params, subject))

    def _progress(self) -> None:
        now = time.monotonic()
        if now - self._reported_at >= PROGRESS_SECONDS:
            self._reported_at = now
            self.on_progress(self.report)


def _keys(keys: Iterable[object]) -> tuple[int, ...]:
    return tuple(key for key in keys if isinstance(key, int))


def _denied(devices: tuple[int, ...], found: Replanned | None) -> tuple[Denied, ...]:
    """Whom, with the verdict: that of just now, or the recorded one where an organization's setting denies."""
    if not devices:
        return ()
    if found is not None:
        mailboxes = {device.key: device.mailbox for device in found.world.devices}
        return tuple(
            Denied(key, int(mailboxes[key]), one.access.value, one.reason.value, one.row.value)
            for key in devices
            for one in (found.verdicts[key],)
        )
    rows: list[Denied] = []
    for chosen in blocks(devices):
        accesses = DeviceAccess.objects.filter(device__in=chosen)
        rows += [
            Denied(*values) for values in accesses.values_list("pk", "device__owner_id", "access", "reason", "rule")
        ]
    return tuple(rows)

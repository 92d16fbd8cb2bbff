"""What comes before a command is sent: mailboxes planned anew some at a time under their lock, intents written down,
those told who are denied, and the rows marked as sent at the very moment they are handed over.

Sends nothing itself (act.py). Nothing is planned, told or marked once the hold is lost.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from django.conf import settings
from django.utils import timezone

from connectors.exchange.errors import CanceledError
from connectors.models import Connector
from sync.acting import denials, journal
from sync.acting.deeds import deed_of_plan
from sync.acting.denials import Denied
from sync.acting.journal import By, Intent
from sync.acting.order import Job, Order, Report
from sync.acting.organization_ledger import organization_ledger_note
from sync.acting.replan import Replanned, replan
from sync.blocks import blocks
from sync.deciding.commands import SetMailboxEntries, SettingsCommand
from sync.deciding.facts import State
from sync.lease import Hold
from sync.models import Command, DeviceAccess, Mailbox

# Mailboxes planned in one transaction.
CHUNK = 100
# Denials of a setting noted in one.
NOTED = 1000
# Seconds between two looks at mails that are to go out first.
LOOK = 0.1


@dataclass(slots=True)
class _Waiting:
    """Denying commands whose mails are to go out first, until then at the latest (monotonic)."""

    jobs: list[Job]
    devices: tuple[int, ...]
    until: float

    @property
    def is_over(self) -> bool:
        return time.monotonic() >= self.until or not denials.mails_are_under_way(self.devices)


class Preparation:
    """Of one order. marked: commands marked as sent that were not handed over yet. is_stopped: whether to hand over
    nothing more. progressed: called when the report has changed; meanwhile: before a wait."""

    def __init__(
        self,
        order: Order,
        connector: Connector,
        hold: Hold,
        by: By,
        report: Report,
        *,
        is_stopped: Callable[[], bool],
        progressed: Callable[[], None],
        meanwhile: Callable[[], None],
    ) -> None:
        self.order, self.connector, self.hold, self.by, self.report = order, connector, hold, by, report
        self._is_stopped, self._progressed, self._meanwhile = is_stopped, progressed, meanwhile
        self.marked: set[int] = set()

    def write_down(self) -> None:
        """Nothing is to be sent; rows say what would be."""
        for chosen in blocks(self.order.mailboxes, CHUNK):
            found = self._replan(chosen, self.order.settings)
            intents = [entries_intent(one, found) for commands in found.commands.values() for one in commands]
            self._observe(intents)
        self._observe([settings_intent(command) for command in self.order.settings])

    def _observe(self, intents: list[Intent]) -> None:
        with self.hold.guard():
            rows = journal.intents_write(intents, self.by, state=Command.State.OBSERVED)
        self.report.observed += len(rows)
        self._progressed()
        if self.hold.should_stop():
            raise CanceledError

    def entries(
        self,
        mailboxes: list[int],
        stage: int,
        to_come: tuple[SettingsCommand, ...],
        again: list[int],
        later: list[int],
    ) -> Iterator[Job]:
        """Those about mailboxes, up to a stage. again, later: are given the mailboxes that have another of these
        stages, and of later ones."""
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
            self._meanwhile()
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
            self.marked |= mine
            self.report.skipped += len(chosen) - len(mine)
            for job in chosen:
                if self._is_stopped():
                    return
                if job.command in mine:
                    self.marked.discard(job.command)
                    yield job

    def _observes_by_now(self) -> bool:
        """Sessions that are open already would go on writing: who pulls the brake means the very next command."""
        return Connector.objects.filter(pk=self.connector.pk, is_observe_only=True).exists()

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
                    intents.append(entries_intent(mine[0], found))
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
        self._progressed()
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

    def setting(self, command: SettingsCommand) -> Iterator[Job]:
        """The one about a setting or rule; none when another order is at the settings, which is a failure."""
        intent = settings_intent(command)
        with self.hold.guard():
            rows = journal.intents_write([intent], self.by)
            for one in rows.values():
                organization_ledger_note(self.order.organization_id, one.deed)
        self.report.planned += len(rows)
        if not rows:
            self.report.fail("subject_busy", {}, intent.subject)
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


def entries_intent(command: SetMailboxEntries, found: Replanned) -> Intent:
    """What is written down of a command about a mailbox's entries."""
    mailbox = int(command.mailbox)
    return Intent(
        journal.mailbox_subject(mailbox),
        deed_of_plan(command, domain=found.world.mailboxes[command.mailbox].domain),
        mailbox,
        _keys(command.devices),
        _keys(command.denies),
        allows=sum(1 for key in command.devices if found.verdicts[key].state is State.ALLOWED),
    )


def settings_intent(command: SettingsCommand) -> Intent:
    """And about settings and rules: one after another in all, since they depend on each other."""
    return Intent(journal.SETTINGS_SUBJECT, deed_of_plan(command), denies=_keys(command.denies))


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

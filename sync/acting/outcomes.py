"""What became of a command that was sent: its row, what the reading showed, what is ours, and each device's line.

All of one command in one short transaction, and only while the row is the caller's: who lost it writes nothing. What
a reading showed is what counts, not what a cmdlet answered.
"""

from __future__ import annotations

import datetime
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from django.db import transaction
from django.db.models.functions import Now

from connectors.exchange.errors import CanceledError, ExchangeError, ObserveOnlyError, OutcomeUnknownError
from connectors.exchange.records import CasMailboxRecord
from connectors.models import ExchangeOrganization
from connectors.parallel import Outcome
from sync.acting import deeds
from sync.acting.deeds import Deed, MailboxEntries, Reading
from sync.acting.device_deeds import RemoveDevice
from sync.acting.journal import entries_named, ledger_forget
from sync.acting.organization_ledger import organization_ledger_settle
from sync.events import storable
from sync.models import (
    AccessOverride,
    Command,
    DeviceEvent,
    EntryChoice,
    LedgerEntry,
    Mailbox,
    MobileDevice,
)
from sync.observing.mailbox_policy_rows import policies_store
from sync.observing.mailboxes import mailbox_store
from sync.observing.statistics import statistics_store

logger = logging.getLogger(__name__)

State = Command.State
# Exchange did it, and a reading shows something else: somebody was faster, or it lags behind.
NOT_AS_WANTED = "not_as_wanted"
OUTCOME_UNKNOWN = "outcome_unknown"
GONE = "object_not_found"
_EVENTS = {State.DONE: "commandDone", State.FAILED: "commandFailed", State.UNKNOWN: "commandUnknown"}


@dataclass(frozen=True, slots=True)
class Ending:
    """How a row ends; UNKNOWN is no end yet. reading None: nothing was read."""

    state: Command.State
    reading: Reading | None = None
    code: str = ""
    params: Mapping[str, Any] = field(default_factory=dict)
    server: str = ""

    @property
    def domain_controller(self) -> str:
        """Where it was written and read back; "" where Exchange chose, or nothing was read."""
        return self.reading.controller if self.reading else ""


def ending_of(deed: Deed, reading: Reading | None, *, server: str, otherwise: str = NOT_AS_WANTED) -> Ending:
    """What a reading makes of a command; None: it could not be read, and nothing is certain yet. otherwise: the code
    when it is not as wanted."""
    if reading is None:
        return Ending(State.UNKNOWN, code=OUTCOME_UNKNOWN, server=server)
    if deed.is_done(reading):
        return Ending(State.DONE, reading, server=server)
    code = GONE if reading.is_gone else otherwise
    return Ending(State.FAILED, reading, code, {"server": server} if server else {}, server)


def ending_of_outcome(deed: Deed, outcome: Outcome[Any, Reading | None]) -> Ending:
    """Of a command that a worker was handed."""
    error, server = outcome.error, outcome.server
    if error is None:
        if deed.is_answer_enough:
            return Ending(State.DONE, outcome.result, server=server)
        return ending_of(deed, outcome.result, server=server)
    if isinstance(error, OutcomeUnknownError):
        return Ending(State.UNKNOWN, None, OUTCOME_UNKNOWN, error.params, server)
    if isinstance(error, ObserveOnlyError):
        # Switched to observing in the meantime: the session refused it.
        return Ending(State.OBSERVED, None, error.code, error.params, server)
    if isinstance(error, CanceledError):
        return Ending(State.CANCELED)
    if isinstance(error, ExchangeError):
        return ending_of_error(error, server)
    # A fault of our own, and it may have got as far as Exchange.
    logger.error("a command failed by an error of our own", exc_info=error)
    return Ending(State.UNKNOWN, None, "internal_error", {}, server)


def ending_of_error(error: ExchangeError, server: str) -> Ending:
    """Of an error that says that Exchange did nothing."""
    return Ending(State.FAILED, code=error.code, params=error.params, server=server or error.server)


def outcome_record(command: int, owner: str, deed: Deed, ending: Ending) -> bool:
    """Write it. False when the row is another's by now, or has ended."""
    return command in outcomes_record(owner, [(command, deed, ending)])


@transaction.atomic
def outcomes_record(owner: str, ended: Sequence[tuple[int, Deed, Ending]]) -> set[int]:
    """Write several at once. Returns the keys of those that were still the caller's."""
    chosen = [pk for pk, _deed, _ending in ended]
    mine = Command.objects.select_for_update(of=("self",)).filter(pk__in=chosen, owner=owner, state__in=Command.OPEN)
    rows = {row.pk: row for row in mine}
    kept = [(rows[pk], deed, ending) for pk, deed, ending in ended if pk in rows]
    alike: dict[tuple[str, ...], list[tuple[Command, Ending]]] = {}
    for row, _deed, ending in kept:
        key = (ending.state, ending.server, ending.domain_controller, ending.code, repr(ending.params))
        alike.setdefault(key, []).append((row, ending))
    for group in alike.values():
        _state_write([row for row, _ in group], group[0][1])
    # The rows are no lock any more: what was read may be kept.
    finals = [(row, deed, ending) for row, deed, ending in kept if ending.state != State.UNKNOWN]
    _mailboxes_keep(finals)
    for row, deed, ending in finals:
        _reading_keep(row, deed, ending)
        organization_ledger_settle(row.organization_id, deed, is_done=ending.state == State.DONE)
    lines = [line for row, deed, ending in kept for line in _lines(row, deed, ending)]
    DeviceEvent.objects.bulk_create(lines, batch_size=200)
    return set(rows)


def _state_write(rows: Iterable[Command], ending: Ending) -> None:
    values: dict[str, Any] = {
        "state": ending.state,
        "server": ending.server[:255],
        "domain_controller": str(storable(ending.domain_controller))[:255],
        "error_code": ending.code[:64],
        "error_params": storable(dict(ending.params)),
    }
    if ending.state != State.UNKNOWN:
        values |= {"finished_at": Now(), "lease_expires_at": None}
    pks = []
    for row in rows:
        row.state = ending.state
        pks.append(row.pk)
    Command.objects.filter(pk__in=pks).update(**values)


def _mailboxes_keep(ended: Iterable[tuple[Command, Deed, Ending]]) -> None:
    """Kept as of the earliest reading: while a command was under way nobody else's was kept."""
    found: dict[int, list[Reading]] = {}
    for row, _deed, ending in ended:
        if ending.reading is not None and ending.reading.mailbox is not None:
            found.setdefault(row.organization_id, []).append(ending.reading)
    for organization_id, readings in found.items():
        records = [reading.mailbox for reading in readings if reading.mailbox is not None]
        mailbox_store(organization_id, records, asked_at=min(reading.asked_at for reading in readings))


def _reading_keep(row: Command, deed: Deed, ending: Ending) -> None:
    reading = ending.reading
    if reading is None:
        if ending.state != State.DONE:
            ledger_forget([row.pk])
        if isinstance(deed, MailboxEntries) and ending.code == GONE:
            mailbox_gone_mark(row.mailbox_id, deeds.utc_now())
        return
    if reading.is_gone:
        mailbox_gone_mark(row.mailbox_id, reading.asked_at)
        ledger_forget([row.pk])
    elif reading.mailbox is not None:
        if isinstance(deed, MailboxEntries):
            ledger_settle(row.mailbox_id, deed, reading.mailbox)
    elif reading.settings is not None or reading.rules is not None:
        organization_keep(row.organization_id, reading)
    elif reading.policies is not None:
        policies_store(row.organization_id, reading.policies, asked_at=reading.asked_at)
    elif reading.statistics is not None and row.mailbox_id is not None:
        statistics_store(row.mailbox_id, reading)
    if isinstance(deed, RemoveDevice) and ending.state == State.DONE:
        device_removed(row)


def _lines(row: Command, deed: Deed, ending: Ending) -> Iterator[DeviceEvent]:
    code = _EVENTS.get(ending.state)
    if code is None:
        return
    params: dict[str, Any] = {"entries": entries_named(deed), "because": row.because, "kind": row.kind}
    if ending.domain_controller:
        params["controller"] = ending.domain_controller
    if ending.code:
        params |= {"error_code": ending.code, **ending.params}
    for device in row.payload.get("devices", ()):
        yield DeviceEvent(
            device_id=int(device),
            at=Now(),
            code=code,
            params=storable(params),
            actor_name=row.actor_name,
            run_id=row.run_id,
            command_id=row.pk,
        )


# --- mailboxes --------------------------------------------------------------------------------------------------------


def mailbox_gone_mark(mailbox: int | None, at: datetime.datetime) -> None:
    Mailbox.objects.filter(pk__in=[mailbox], gone_at=None).update(gone_at=at, changed_at=at)


def ledger_settle(mailbox: int | None, deed: MailboxEntries, found: CasMailboxRecord) -> None:
    """Of the ids that the command was about: an entry that is not in Exchange is not ours any more."""
    for listed, named, there in (
        (EntryChoice.Listed.ALLOWED, (*deed.allow_add, *deed.allow_remove), found.allowed_device_ids),
        (EntryChoice.Listed.BLOCKED, (*deed.block_add, *deed.block_remove), found.blocked_device_ids),
    ):
        absent = deeds.keys(named) - deeds.keys(there)
        if absent:
            LedgerEntry.objects.filter(mailbox=mailbox, listed=listed, device_id_key__in=absent).delete()


def device_removed(row: Command) -> None:
    """The partnership is gone, and with it what was ours and what people had decided about it."""
    device = row.device
    if device is None:
        return
    now = deeds.utc_now()
    MobileDevice.objects.filter(pk=device.pk, gone_at=None).update(gone_at=now, changed_at=now)
    about = {"mailbox": row.mailbox_id, "device_id_key": device.device_id_key}
    AccessOverride.objects.filter(**about, ended_at=None).update(ended_at=now, ended_by_name=row.actor_name)
    listed = Mailbox.objects.filter(pk__in=[row.mailbox_id]).values_list("allowed", "blocked").first() or ([], [])
    for name, written in zip(EntryChoice.Listed.values, listed, strict=True):
        if device.device_id_key not in deeds.keys(tuple(written)):
            LedgerEntry.objects.filter(**about, listed=name).delete()
    DeviceEvent.objects.create(device=device, at=now, code="removed", actor_name=row.actor_name, command=row, params={})


# --- settings and rules ---------------------------------------------------------------------------------------------


def organization_keep(organization_id: int, reading: Reading) -> None:
    """What was read of settings or rules, as rulebook.py keeps it."""
    values: dict[str, Any] = {}
    if reading.settings is not None:
        values |= {
            "default_access_level": str(storable(reading.settings.default_access_level))[:32],
            "user_mail_insert": storable(reading.settings.user_mail_insert),
            "admin_mail_recipients": storable(reading.settings.admin_mail_recipients),
            "settings_observed_at": reading.asked_at,
        }
    if reading.rules is not None:
        values |= {
            "access_rules": storable(
                [[rule.identity, rule.characteristic, rule.query_string, rule.access_level] for rule in reading.rules]
            ),
            "rules_observed_at": reading.asked_at,
        }
    ExchangeOrganization.objects.filter(pk=organization_id).update(**values)

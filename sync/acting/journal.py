"""The rows of the journal: the intent before a cmdlet is sent, that it is being sent, and how it ended.

A row that is open (planned, sent, unknown) is also the lock on its subject, which the database keeps: at most one. Its
owner is a name that no two orders share, so that whoever lost a row to recovery can write nothing more about it.
Knows neither cmdlets nor Exchange (deeds.py), nor what a reading changes (outcomes.py).
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from django.core.exceptions import ValidationError
from django.db import Error, transaction
from django.db.models.functions import Now
from django.utils.translation import gettext_lazy as _

from connectors.actors import Actor
from sync.acting import deeds
from sync.acting.deeds import Deed, MailboxEntries
from sync.acting.organization_ledger import KINDS as OF_ORGANIZATION
from sync.acting.organization_ledger import organization_ledger_settle
from sync.blocks import blocks
from sync.deciding.facts import id_key
from sync.events import storable
from sync.lease import Hold, lease_end, owner_name
from sync.models import Command, DeviceEvent, EntryChoice, LedgerEntry

logger = logging.getLogger(__name__)

State = Command.State
# What a device's story says of an intent that is not just a change of entries.
_PLANNED = {Command.Kind.WIPE.value: "wipeRequested", Command.Kind.WIPE_ACCOUNT.value: "wipeRequested"}


def key_used() -> ValidationError:
    """For a form whose key was used for something else, or is none."""
    return ValidationError(_("The form has expired. Open it again."), code="key_used")


def key_check(key: str) -> None:
    """Of an act by a form: raises ValidationError key_used for what no form of ours holds."""
    if not key.strip() or len(key) > 80 or not key.isprintable():
        raise key_used()


@dataclass(frozen=True, slots=True)
class Intent:
    """A command to be. devices: keys of those it is about; denies: of those that lose mail by it. device, key: of what
    a person has done to a device itself."""

    subject: str
    deed: Deed
    mailbox: int | None = None
    devices: tuple[int, ...] = ()
    denies: tuple[int, ...] = ()
    allows: int = 0
    device: int | None = None
    key: str | None = None


@dataclass(frozen=True, slots=True)
class By:
    """On whose behalf, and why (a code). owner: unique to one order, see order_owner()."""

    organization_id: int
    owner: str
    actor: Actor
    because: str
    run_id: int | None = None


def order_owner() -> str:
    """host/pid of this process, and a name of its own for one order."""
    return f"{owner_name()}/{uuid.uuid4().hex[:8]}"


# Settings and rules, all in one: they depend on each other.
SETTINGS_SUBJECT = "settings"


def mailbox_subject(mailbox: int) -> str:
    return f"mailbox:{mailbox}"


def open_mailboxes(mailboxes: Collection[int]) -> set[int]:
    """Those about which a command is open: nobody else may send anything about them."""
    found: set[int] = set()
    for chosen in blocks(sorted(mailboxes)):
        rows = Command.objects.filter(mailbox__in=chosen, state__in=Command.OPEN)
        found.update(rows.values_list("mailbox_id", flat=True))
    return found


# --- before -----------------------------------------------------------------------------------------------------------


def intents_write(intents: Sequence[Intent], by: By, *, state: Command.State = State.PLANNED) -> dict[int, Intent]:
    """Write rows, what is to be ours in Exchange, and a line for each device. By key; without those whose subject
    somebody else holds. To be called in a transaction."""
    rows = {uuid.uuid4(): intent for intent in intents}
    made = [_row(public_id, intent, by, state) for public_id, intent in rows.items()]
    Command.objects.bulk_create(made, batch_size=200, ignore_conflicts=True)
    kept: dict[int, Intent] = {}
    for chosen in blocks(rows):
        written = Command.objects.filter(public_id__in=chosen).order_by("pk").values_list("pk", "public_id")
        kept.update((pk, rows[public_id]) for pk, public_id in written)
    if state == State.PLANNED:
        ledger_note(kept)
        lines = (_line(pk, device, intent, by) for pk, intent in kept.items() for device in intent.devices)
        DeviceEvent.objects.bulk_create(lines, batch_size=200)
    return kept


def _row(public_id: uuid.UUID, intent: Intent, by: By, state: Command.State) -> Command:
    is_open = state in Command.OPEN
    return Command(
        public_id=public_id,
        organization_id=by.organization_id,
        run_id=by.run_id,
        mailbox_id=intent.mailbox,
        device_id=intent.device,
        key=intent.key,
        kind=intent.deed.kind,
        state=state,
        subject=intent.subject,
        payload=storable({**intent.deed.payload(), "devices": intent.devices, "denies": intent.denies}),
        text=storable(intent.deed.text()),
        denies=len(intent.denies),
        allows=intent.allows,
        because=by.because[:64],
        actor_name=by.actor.name[:200],
        actor_id=by.actor.user_id,
        planned_at=Now(),
        finished_at=None if is_open else Now(),
        owner=by.owner,
        lease_expires_at=lease_end() if is_open else None,
    )


def _line(pk: int, device: int, intent: Intent, by: By) -> DeviceEvent:
    params = {"because": by.because, "entries": entries_named(intent.deed), "kind": intent.deed.kind}
    return DeviceEvent(
        device_id=device,
        at=Now(),
        code=_PLANNED.get(intent.deed.kind, "commandPlanned"),
        params=params,
        actor_name=by.actor.name[:200],
        run_id=by.run_id,
        command_id=pk,
    )


def entries_named(deed: Deed) -> list[str]:
    """What a command does to the personal lists, as codes: allowAdd, allowRemove, blockAdd, blockRemove."""
    if not isinstance(deed, MailboxEntries):
        return []
    done = {
        "allowAdd": deed.allow_add,
        "allowRemove": deed.allow_remove,
        "blockAdd": deed.block_add,
        "blockRemove": deed.block_remove,
    }
    return [code for code, device_ids in done.items() if device_ids]


def ledger_note(intents: Mapping[int, Intent]) -> None:
    """Before anything is sent: an entry that is noted and not in Exchange does no harm, the other way round it would
    be taken for somebody else's. One that is noted already stays as it is."""
    entries = [
        LedgerEntry(
            mailbox_id=intent.mailbox,
            listed=listed,
            device_id=storable(device_id)[:255],
            device_id_key=id_key(storable(device_id))[:255],
            command_id=pk,
            made_at=Now(),
        )
        for pk, intent in intents.items()
        if isinstance(intent.deed, MailboxEntries) and intent.mailbox is not None
        for listed, added in (
            (EntryChoice.Listed.ALLOWED, intent.deed.allow_add),
            (EntryChoice.Listed.BLOCKED, intent.deed.block_add),
        )
        for device_id in added
    ]
    LedgerEntry.objects.bulk_create(entries, batch_size=200, ignore_conflicts=True)


# --- while ------------------------------------------------------------------------------------------------------------


def sent_mark(commands: Collection[int], owner: str, hold: Hold) -> set[int]:
    """Just before they are handed to the wire. Returns those that are still this order's to send. Raises
    LeaseLostError: then nothing may be sent at all."""
    with hold.guard():
        mine = Command.objects.filter(pk__in=commands, state=State.PLANNED, owner=owner)
        found = set(mine.values_list("pk", flat=True))
        mine.update(state=State.SENT, sent_at=Now(), lease_expires_at=lease_end())
    return found


def leases_renew(owner: str) -> None:
    """Push the end of the leases of an order's open rows out. Never raises."""
    try:
        Command.objects.filter(owner=owner, state__in=Command.OPEN).update(lease_expires_at=lease_end())
    except Error:
        logger.warning("the leases of %s could not be renewed this time", owner, exc_info=True)


@transaction.atomic
def rest_cancel(owner: str, unsent: Collection[int]) -> int:
    """What was not sent will not be: the next run plans anew. unsent: marked as sent, and never handed over. Returns
    how many."""
    planned = Command.objects.filter(owner=owner, state=State.PLANNED).values_list("pk", flat=True)
    marked = Command.objects.filter(owner=owner, state=State.SENT, pk__in=unsent).values_list("pk", flat=True)
    return unsent_end([*planned, *marked], State.CANCELED, "")


def unsent_end(commands: Iterable[int], state: Command.State, code: str) -> int:
    """End rows that were not sent, with what was noted for them. To be called in a transaction. Returns how many."""
    ended = 0
    for chosen in blocks(commands):
        rows = Command.objects.filter(pk__in=chosen, state__in=(State.PLANNED, State.SENT))
        of_organization = list(rows.filter(kind__in=OF_ORGANIZATION))
        ended += rows.update(state=state, finished_at=Now(), lease_expires_at=None, error_code=code[:64])
        ledger_forget(chosen)
        for row in of_organization:
            # Or what was to be ours would be missed in Exchange, as if somebody had changed it.
            organization_ledger_settle(row.organization_id, deeds.KINDS[row.kind](row.payload), is_done=False)
    return ended


def ledger_forget(commands: Collection[int]) -> None:
    """Of commands that Exchange never carried out: what was noted for them alone."""
    unfinished = Command.objects.filter(pk__in=commands).exclude(state__in=(*Command.OPEN, State.DONE))
    LedgerEntry.objects.filter(command__in=unfinished).delete()

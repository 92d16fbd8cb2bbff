"""Mailboxes with their personal lists: read from Exchange, kept as rows, and joined with the devices that are theirs.

Changes nothing in Exchange. What was read never overwrites what was read later: while a listing comes in, a command for
one mailbox may have been carried out and read back (act.py), and that is the newer truth.
"""

from __future__ import annotations

import datetime
import logging
import re
import uuid
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any

from django.db import connection, transaction
from django.db.models import Q
from django.utils import timezone

from connectors.exchange.client import ExchangeClient
from connectors.exchange.errors import CanceledError, NotPermittedError
from connectors.exchange.opath import compare, some
from connectors.exchange.records import CasMailboxRecord, UserRecord
from sync.blocks import blocks
from sync.deciding.facts import text_key
from sync.events import WARNING, storable
from sync.lease import Lease
from sync.models import Command, Mailbox, MobileDevice, RunEvent, SyncRun
from sync.observing.sweep import is_doubtful

logger = logging.getLogger(__name__)

MAILBOXES_HELD = "mailbox_sweep_held"
# Distinguished names in one filter: each is long, and how long a filter may be is not documented.
NAMES_A_FILTER = 10
FEW = 16
# Two names and the rest. A backslash before a comma is itself escaped where another stands before it.
_BELOW = re.compile(r"(?:\\.|[^\\,])*,(?:\\.|[^\\,])*,(.*)", re.DOTALL)
_DOMAIN = re.compile(r"(?:^|(?<!\\),)DC=([^,]+)", re.IGNORECASE)
_COLUMNS = (
    "identity", "distinguished_name", "dn_key", "display_name", "primary_smtp", "addresses", "sam", "domain",
    "activesync_enabled", "allowed", "blocked", "mailbox_policy",
)  # fmt: skip


def mailbox_dn(device_dn: str) -> str:
    """The mailbox's distinguished name out of a device's, which stands two levels below it; "" when it is none."""
    found = _BELOW.fullmatch(device_dn)
    return found[1].strip() if found else ""


def dn_key(name: str) -> str:
    """A distinguished name for comparing, as the column holds it."""
    return text_key(name)[:512]


# --- a run's reading ------------------------------------------------------------------------------------------------


def mailboxes_observe_all(*, client: ExchangeClient, organization_id: int, lease: Lease) -> int:
    """Every mailbox with a partnership or a personal entry, their accounts where Get-User is granted, whose device is
    whose, and what is gone. Returns how many were read. Raises ExchangeError, CanceledError, LeaseLostError."""
    asked_at = timezone.now()
    read = 0
    for page in client.cas_mailboxes():
        with lease.guard():
            mailbox_store(organization_id, page, asked_at=asked_at, fence=lease.fence)
        read += len(page)
        _stop_if_asked(lease)
    _sweep(client, organization_id, lease)
    devices_join(organization_id)
    read += _missing_read(client, organization_id, lease, _ownerless(organization_id))
    _accounts_read(client, organization_id, None, lease)
    return read


def mailboxes_observe_some(
    *, client: ExchangeClient, organization_id: int, lease: Lease, devices: Collection[int], mailboxes: Collection[int]
) -> frozenset[int]:
    """The mailboxes of these devices, and these mailboxes. Returns the keys of all of them that are known then."""
    devices_join(organization_id, devices)
    wanted = set(mailboxes)
    names: dict[str, str] = {}
    for chosen in blocks(sorted(devices)):
        rows = MobileDevice.objects.filter(pk__in=chosen, gone_at=None)
        for owner, name in rows.values_list("owner_id", "distinguished_name"):
            if owner:
                wanted.add(owner)
            elif name := mailbox_dn(name):
                names[dn_key(name)] = name
    mailboxes_refresh(client, organization_id, wanted, lease=lease)
    _missing_read(client, organization_id, lease, list(names.values()))
    for keys in blocks(names):
        found = Mailbox.objects.filter(organization_id=organization_id, gone_at=None, dn_key__in=keys)
        wanted.update(found.values_list("pk", flat=True))
    return frozenset(wanted)


def _stop_if_asked(lease: Lease | None) -> None:
    if lease is not None and lease.should_stop():
        raise CanceledError


def _ownerless(organization_id: int) -> list[str]:
    """Distinguished names of the mailboxes of present devices that have no row yet: Exchange does not count every
    kind of client as a partnership."""
    lost = Q(owner=None) | Q(owner__gone_at__isnull=False)
    rows = MobileDevice.objects.filter(lost, organization_id=organization_id, gone_at=None)
    names = {
        dn_key(name): name for text in rows.values_list("distinguished_name", flat=True) if (name := mailbox_dn(text))
    }
    return list(names.values())


def _missing_read(client: ExchangeClient, organization_id: int, lease: Lease, names: Iterable[str]) -> int:
    """Mailboxes by distinguished name; those that Exchange does not know are left out."""
    conditions = []
    for name in names:
        try:
            conditions.append(compare("DistinguishedName", "eq", name))
        except ValueError:
            logger.info("run %s: no filter can name a mailbox with such characters", lease.run_id)
    asked_at = timezone.now()
    read = 0
    for chosen in blocks(conditions, NAMES_A_FILTER):
        for page in client.cas_mailboxes(filter=some(*chosen)):
            with lease.guard():
                mailbox_store(organization_id, page, asked_at=asked_at, fence=lease.fence)
            read += len(page)
        _stop_if_asked(lease)
    if read:
        devices_join(organization_id)
    return read


def _sweep(client: ExchangeClient, organization_id: int, lease: Lease) -> None:
    """What the listing did not hold is asked for by name before it is believed to be gone: a mailbox leaves the
    listing when its last partnership does. As with devices, so many missing at once are not believed the first time."""
    present = Mailbox.objects.filter(organization_id=organization_id, gone_at=None)
    unseen = present.exclude(seen_fence=lease.fence)
    missing, known = unseen.count(), present.count()
    if not missing:
        return
    if is_doubtful(missing=missing, known=known) and not _was_held_before(lease.run_id):
        lease.note(MAILBOXES_HELD, WARNING, missing=missing, known=known)
        return
    mailboxes_refresh(client, organization_id, list(unseen.values_list("pk", flat=True)), lease=lease)


def _was_held_before(run_id: int) -> bool:
    run = SyncRun.objects.get(pk=run_id)
    last = (
        SyncRun.objects.filter(connector_id=run.connector_id, kind=SyncRun.Kind.FULL, status=SyncRun.Status.SUCCEEDED)
        .exclude(pk=run.pk)
        .order_by("-queued_at", "-pk")
        .first()
    )
    return last is not None and RunEvent.objects.filter(run=last, code=MAILBOXES_HELD).exists()


# --- reading some again -----------------------------------------------------------------------------------------------


def mailboxes_refresh(
    client: ExchangeClient, organization_id: int, mailboxes: Collection[int], *, lease: Lease | None = None
) -> set[int]:
    """Read these mailboxes anew, by their GUIDs; one that Exchange does not know any more is marked as gone. Returns
    the keys of those that changed. Raises ExchangeError, CanceledError."""
    changed: set[int] = set()
    for chosen in blocks(sorted(mailboxes), 500):
        rows = dict(Mailbox.objects.filter(organization_id=organization_id, pk__in=chosen).values_list("guid", "pk"))
        asked_at = timezone.now()
        found: set[uuid.UUID] = set()
        for page in client.cas_mailboxes_by_guid(rows):
            changed |= _store_under(lease, organization_id, page, asked_at)
            found |= {record.guid for record in page}
            _stop_if_asked(lease)
        gone = [pk for guid, pk in rows.items() if guid not in found]
        marked = Mailbox.objects.filter(pk__in=gone, gone_at=None, read_at__lte=asked_at)
        changed |= set(marked.values_list("pk", flat=True))
        marked.update(gone_at=asked_at, changed_at=asked_at)
    _accounts_read(client, organization_id, changed, lease)
    return changed


def _store_under(
    lease: Lease | None, organization_id: int, page: Sequence[CasMailboxRecord], asked_at: datetime.datetime
) -> set[int]:
    if lease is None:
        return mailbox_store(organization_id, page, asked_at=asked_at)
    with lease.guard():
        return mailbox_store(organization_id, page, asked_at=asked_at, fence=lease.fence)


# --- keeping ---------------------------------------------------------------------------------------------------


@transaction.atomic
def mailbox_store(
    organization_id: int,
    records: Sequence[CasMailboxRecord],
    *,
    asked_at: datetime.datetime,
    fence: int | None = None,
) -> set[int]:
    """Keep what was read of mailboxes at or after `asked_at`; the one funnel for it. Returns the keys of those that are
    new or different. A row that was read later, or for which a command is under way, keeps what it has."""
    values = {record.guid: _values(record) for record in records}
    rows = Mailbox.objects.filter(organization_id=organization_id, guid__in=values)
    existing = {row.guid: row for row in rows.select_for_update()}
    busy = set(
        Command.objects.filter(
            organization_id=organization_id, mailbox__in=[row.pk for row in existing.values()], state__in=Command.OPEN
        ).values_list("mailbox_id", flat=True)
    )
    new: list[Mailbox] = []
    different: list[Mailbox] = []
    same: list[int] = []
    for guid, columns in values.items():
        row = existing.get(guid)
        if row is None:
            new.append(_made(organization_id, guid, columns, asked_at, fence or 0))
        elif row.read_at > asked_at or row.pk in busy or not _take(row, columns):
            same.append(row.pk)
        else:
            row.changed_at = row.read_at = asked_at
            row.seen_fence = row.seen_fence if fence is None else fence
            different.append(row)
    Mailbox.objects.bulk_create(new, batch_size=500)
    names = [*_COLUMNS, "gone_at", "changed_at", "read_at", "seen_fence"]
    if len(different) <= FEW:
        # Read back after a command, as thousands are, a few at a time: a bulk of few takes several times as long.
        for row in different:
            row.save(update_fields=names)
    else:
        Mailbox.objects.bulk_update(different, names, batch_size=200)
    if same:
        seen = Mailbox.objects.filter(pk__in=same)
        if fence is not None:
            seen.update(seen_fence=fence)
        seen.filter(read_at__lt=asked_at).exclude(pk__in=busy).update(read_at=asked_at)
    return {row.pk for row in (*new, *different)}


def _made(
    organization_id: int, guid: uuid.UUID, columns: dict[str, Any], asked_at: datetime.datetime, fence: int
) -> Mailbox:
    return Mailbox(
        organization_id=organization_id,
        guid=guid,
        seen_fence=fence,
        read_at=asked_at,
        changed_at=asked_at,
        **columns,
    )


def _take(row: Mailbox, columns: dict[str, Any]) -> bool:
    """Put the values on the row; False when it has them already."""
    if row.gone_at is None and all(getattr(row, name) == value for name, value in columns.items()):
        return False
    for name, value in columns.items():
        setattr(row, name, value)
    row.gone_at = None
    return True


def _values(record: CasMailboxRecord) -> dict[str, Any]:
    """A record's columns. Text longer than its column is cut; the lists are kept whole."""
    return {
        "identity": storable(record.identity),
        "distinguished_name": storable(record.distinguished_name),
        "dn_key": storable(dn_key(record.distinguished_name)),
        "display_name": storable(record.display_name)[:512],
        "primary_smtp": storable(record.primary_smtp_address)[:320],
        "addresses": storable(record.email_addresses),
        "sam": storable(record.sam_account_name)[:256],
        "domain": ".".join(_DOMAIN.findall(storable(record.distinguished_name))).lower()[:255],
        "activesync_enabled": record.active_sync_enabled,
        "allowed": storable(record.allowed_device_ids),
        "blocked": storable(record.blocked_device_ids),
        "mailbox_policy": "" if record.is_policy_defaulted else storable(record.active_sync_mailbox_policy)[:255],
    }


# --- accounts ---------------------------------------------------------------------------------------------------


def _accounts_read(
    client: ExchangeClient, organization_id: int, mailboxes: Collection[int] | None, lease: Lease | None
) -> None:
    """UPN and SID of the mailboxes' accounts; None: of all. Where Get-User is not granted, people are found by the
    other keys."""
    if mailboxes is not None and not mailboxes:
        return
    rows = Mailbox.objects.filter(organization_id=organization_id)
    try:
        pages = client.users() if mailboxes is None else client.users_by_guid(_guids(rows, mailboxes))
        for page in pages:
            _accounts_store(organization_id, page)
            _stop_if_asked(lease)
    except NotPermittedError:
        if lease is not None and not RunEvent.objects.filter(run_id=lease.run_id, code="accounts_unreadable").exists():
            lease.note("accounts_unreadable", WARNING)


def _guids(rows: Any, mailboxes: Collection[int]) -> Iterator[uuid.UUID]:
    for chosen in blocks(sorted(mailboxes), 500):
        yield from rows.filter(pk__in=chosen).values_list("guid", flat=True)


def _accounts_store(organization_id: int, users: Iterable[UserRecord]) -> None:
    by_guid = {user.guid: (storable(user.user_principal_name)[:512], storable(user.sid)[:190]) for user in users}
    rows = Mailbox.objects.filter(organization_id=organization_id, guid__in=by_guid)
    changed = [
        (*by_guid[guid], pk)
        for pk, guid, upn, sid in rows.values_list("pk", "guid", "upn", "sid")
        if (upn, sid) != by_guid[guid]
    ]
    if changed:
        quote = connection.ops.quote_name
        statement = f"UPDATE {quote(Mailbox._meta.db_table)} SET upn = %s, sid = %s WHERE id = %s"  # noqa: S608 - our own names
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.executemany(statement, changed)


# --- whose device ---------------------------------------------------------------------------------------------------


def devices_join(organization_id: int, devices: Collection[int] | None = None) -> int:
    """Set each present device's owner by distinguished name; None: of all. Returns how many changed.

    A name that no mailbox has takes nobody's phone away: devices and mailboxes are not read at the same moment, and in
    between a person may be moved, or a unit renamed. The phone keeps its mailbox for as long as that is there.
    """
    mailboxes = Mailbox.objects.filter(organization_id=organization_id, gone_at=None).exclude(dn_key="")
    changed: list[tuple[int | None, int]] = []
    rows = MobileDevice.objects.filter(organization_id=organization_id, gone_at=None)
    for chosen in [None] if devices is None else blocks(sorted(devices), 500):
        some_rows = rows if chosen is None else rows.filter(pk__in=chosen)
        listed = some_rows.values_list("pk", "owner_id", "distinguished_name").iterator(chunk_size=5000)
        for page in blocks(listed, 500):
            keys = {pk: dn_key(mailbox_dn(name)) for pk, _owner, name in page}
            known = dict(mailboxes.filter(dn_key__in=set(keys.values())).values_list("dn_key", "pk"))
            unnamed = {owner for pk, owner, _name in page if keys[pk] not in known and owner is not None}
            kept = set(mailboxes.filter(pk__in=unnamed).values_list("pk", flat=True)) if unnamed else set()
            for pk, owner, _name in page:
                found = known.get(keys[pk], owner if owner in kept else None)
                if found != owner:
                    changed.append((found, pk))
    quote = connection.ops.quote_name
    statement = f"UPDATE {quote(MobileDevice._meta.db_table)} SET owner_id = %s WHERE id = %s"  # noqa: S608 - our own names
    for some_changed in blocks(changed, 1000):
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.executemany(statement, some_changed)
    return len(changed)

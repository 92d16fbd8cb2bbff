"""Writing what was observed: pages of devices into rows, each page one short transaction under the lease.

A page costs a fixed number of statements however many devices it has. An object whose digest is known is not even
parsed: it is stamped with the run's fence, and that is all a sync in which nothing changed does.
"""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from django.db import connection
from django.db.models import Field
from django.utils import timezone

from connectors.exchange.records import DevicePage, MobileDeviceRecord, RecordError, WireObject
from sync.lease import Lease
from sync.models import MobileDevice, SyncRun

# Columns that come from Exchange, under the same name in record and row.
OBSERVED = tuple(f.name for f in fields(MobileDeviceRecord))
LIMITS: dict[str, int | None] = {
    name: getattr(MobileDevice._meta.get_field(name), "max_length", None) for name in OBSERVED
}
# More rejected objects than this are only counted.
REJECTED_EVENTS = 20


@dataclass
class Counts:
    """Of one attempt. `errors` are the first rejected objects' reasons."""

    observed: int = 0
    created: int = 0
    changed: int = 0
    unchanged: int = 0
    rejected: int = 0
    errors: list[str] = field(default_factory=list)

    def restart(self) -> None:
        """The listing begins again: it is observed anew, and what was created or changed stays counted."""
        self.observed = self.unchanged = self.rejected = 0

    def write(self, run: SyncRun) -> None:
        SyncRun.objects.filter(pk=run.pk).update(
            observed=self.observed,
            created=self.created,
            changed=self.changed,
            unchanged=self.unchanged,
            rejected=self.rejected,
        )


def page_record(*, lease: Lease, organization_id: int, page: DevicePage, counts: Counts) -> None:
    """Store one page. Raises LeaseLostError, and what page.parse raises for a page that is broken as a whole."""
    by_digest = {bytes(wire.digest): wire for wire in page.objects}
    known = {
        bytes(digest): (pk, gone_at)
        for pk, digest, gone_at in MobileDevice.objects.filter(
            organization_id=organization_id, wire_digest__in=list(by_digest)
        ).values_list("pk", "wire_digest", "gone_at")
    }
    fresh = _parse(page, (wire for digest, wire in by_digest.items() if digest not in known), counts)
    now = timezone.now()
    with lease.guard() as run:
        _stamp(known.values(), lease.fence, now, counts)
        _upsert(organization_id, fresh, lease.fence, now, counts)
        counts.observed += len(by_digest)
        counts.write(run)


def _parse(
    page: DevicePage, objects: Iterable[WireObject], counts: Counts
) -> dict[uuid.UUID, tuple[MobileDeviceRecord, bytes]]:
    """Records by guid; of two objects with one guid the later wins, as Exchange wrote it later."""
    records: dict[uuid.UUID, tuple[MobileDeviceRecord, bytes]] = {}
    for wire in objects:
        try:
            record = page.parse(wire)
        except RecordError as error:
            counts.rejected += 1
            if len(counts.errors) < REJECTED_EVENTS:
                counts.errors.append(str(error)[:300])
        else:
            records[record.guid] = (record, bytes(wire.digest))
    return records


def _stamp(
    known: Iterable[tuple[int, datetime.datetime | None]], fence: int, now: datetime.datetime, counts: Counts
) -> None:
    seen: list[int] = []
    back: list[int] = []
    for pk, gone_at in known:
        (seen if gone_at is None else back).append(pk)
    if seen:
        MobileDevice.objects.filter(pk__in=seen).update(seen_fence=fence)
        counts.unchanged += len(seen)
    if back:
        MobileDevice.objects.filter(pk__in=back).update(seen_fence=fence, gone_at=None, changed_at=now)
        counts.changed += len(back)


def _upsert(
    organization_id: int,
    fresh: dict[uuid.UUID, tuple[MobileDeviceRecord, bytes]],
    fence: int,
    now: datetime.datetime,
    counts: Counts,
) -> None:
    if not fresh:
        return
    existing = {
        row.guid: row
        for row in MobileDevice.objects.filter(organization_id=organization_id, guid__in=list(fresh)).only(
            "pk", "guid", "gone_at", "changed_at", "first_observed_at", *OBSERVED
        )
    }
    new, different = [], []
    for guid, (record, digest) in fresh.items():
        values = _values(record)
        row = existing.get(guid)
        if row is None:
            row = MobileDevice(organization_id=organization_id, first_observed_at=now, changed_at=now)
            new.append(row)
        else:
            different.append(row)
            # Another digest need not mean another device: whole objects carry more than what is kept.
            if row.gone_at is not None or any(getattr(row, name) != value for name, value in values.items()):
                row.changed_at = now
                counts.changed += 1
            else:
                counts.unchanged += 1
        for name, value in values.items():
            setattr(row, name, value)
        row.device_id_key = row.device_id.strip().casefold()[:255]
        row.mailbox_key = row.mailbox.casefold()[:512]
        row.wire_digest, row.seen_fence, row.gone_at = digest, fence, None
    _insert(new)
    _update(different)
    counts.created += len(new)


def _values(record: MobileDeviceRecord) -> dict[str, object]:
    """What a row keeps of a record. Text longer than its column is cut: a phone may call itself anything."""
    values: dict[str, object] = {}
    for name, limit in LIMITS.items():
        value = getattr(record, name)
        # NUL is legal in CLIXML (_x0000_) and refused by PostgreSQL.
        values[name] = value[:limit].replace("\0", "\ufffd") if isinstance(value, str) else value
    return values


# Plain executemany: Django's bulk_create and bulk_update build one large statement a few dozen rows, which costs ten
# times as much here (forty columns). Values pass through the fields all the same, so both databases get what they want.

_COLUMNS = [f for f in MobileDevice._meta.concrete_fields if not f.primary_key]
_CHANGING = [f for f in _COLUMNS if f.name not in ("public_id", "organization", "guid", "first_observed_at")]


def _prepared(row: MobileDevice, columns: Sequence[Field[Any, Any]]) -> list[Any]:
    return [f.get_db_prep_save(getattr(row, f.attname), connection) for f in columns]


def _insert(rows: Sequence[MobileDevice]) -> None:
    if not rows:
        return
    quote = connection.ops.quote_name
    names = ", ".join(quote(str(f.column)) for f in _COLUMNS)
    marks = ", ".join(["%s"] * len(_COLUMNS))
    with connection.cursor() as cursor:
        cursor.executemany(
            f"INSERT INTO {quote(MobileDevice._meta.db_table)} ({names}) VALUES ({marks})",  # noqa: S608 - own names
            [_prepared(row, _COLUMNS) for row in rows],
        )


def _update(rows: Sequence[MobileDevice]) -> None:
    if not rows:
        return
    quote = connection.ops.quote_name
    names = ", ".join(f"{quote(str(f.column))} = %s" for f in _CHANGING)
    with connection.cursor() as cursor:
        cursor.executemany(
            f"UPDATE {quote(MobileDevice._meta.db_table)} SET {names} WHERE id = %s",  # noqa: S608 - own names
            [[*_prepared(row, _CHANGING), row.pk] for row in rows],
        )


def gone_mark(*, lease: Lease, organization_id: int) -> int:
    """After a complete listing: what this run did not see is gone. Rows stay, with the time. Returns how many."""
    with lease.guard() as run:
        gone = MobileDevice.objects.filter(
            organization_id=organization_id, gone_at=None, seen_fence__lt=lease.fence
        ).update(gone_at=timezone.now())
        SyncRun.objects.filter(pk=run.pk).update(gone=gone)
    return gone

"""Writing what was observed: pages of devices into rows, each page one short transaction under the lease.

A page costs a fixed number of statements however many devices it has. An object whose digest is known is not even
parsed: it is stamped with the run's fence, and that is all a sync in which nothing changed does.
"""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from django.db.models import F, QuerySet
from django.utils import timezone

from connectors.exchange.records import DevicePage, RecordError, WireObject
from sync.blocks import blocks
from sync.lease import Lease
from sync.models import DeviceEvent, MobileDevice, SyncRun
from sync.observing import columns
from sync.observing.columns import Fresh

# More rejected objects than this are only counted.
REJECTED_EVENTS = 20
_STATE, _REASON = (columns.OBSERVED.index(name) for name in ("access_state", "access_state_reason"))


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
    known = columns.known_by_digest(organization_id, by_digest)
    # Counted on a copy: should the transaction fail, nothing of this page has happened.
    after = replace(counts, observed=counts.observed + len(by_digest), errors=list(counts.errors))
    fresh = _parse(page, {digest: wire for digest, wire in by_digest.items() if digest not in known}, after)
    now = timezone.now()
    with lease.guard() as run:
        lines = [
            *_stamp(known.values(), lease.fence, now, after),
            *_upsert(organization_id, fresh, lease.fence, now, after),
        ]
        _tell(lines, run, now)
        after.write(run)
    vars(counts).update(vars(after))


def _parse(page: DevicePage, objects: Mapping[bytes, WireObject], counts: Counts) -> dict[uuid.UUID, Fresh]:
    """Devices by guid; of two objects with one guid the later wins, as Exchange wrote it later."""
    records: dict[uuid.UUID, Fresh] = {}
    for digest, wire in objects.items():
        try:
            record = page.parse(wire)
        except RecordError as error:
            counts.rejected += 1
            if len(counts.errors) < REJECTED_EVENTS:
                counts.errors.append(str(error)[:300])
        else:
            records[record.guid] = Fresh(columns.observed_values(record), digest)
    return records


@dataclass(frozen=True, slots=True)
class _Line:
    """Of a device's story: that it is back, gone, or that Exchange's own state of it moved."""

    device: int
    code: str
    params: Mapping[str, str] = field(default_factory=dict)


def _tell(lines: Iterable[_Line], run: SyncRun, now: datetime.datetime) -> None:
    DeviceEvent.objects.bulk_create(
        (
            DeviceEvent(device_id=line.device, at=now, code=line.code, params=line.params, actor_name="Sync", run=run)
            for line in lines
        ),
        batch_size=500,
    )


def _stamp(known: Iterable[tuple[int, bool]], fence: int, now: datetime.datetime, counts: Counts) -> list[_Line]:
    seen: list[int] = []
    back: list[int] = []
    for pk, was_gone in known:
        (back if was_gone else seen).append(pk)
    if seen:
        MobileDevice.objects.filter(pk__in=seen).update(seen_fence=fence)
        counts.unchanged += len(seen)
    if back:
        MobileDevice.objects.filter(pk__in=back).update(seen_fence=fence, gone_at=None, changed_at=now)
        counts.changed += len(back)
    return [_Line(pk, "back") for pk in back]


def _upsert(
    organization_id: int, fresh: dict[uuid.UUID, Fresh], fence: int, now: datetime.datetime, counts: Counts
) -> list[_Line]:
    if not fresh:
        return []
    rows = MobileDevice.objects.filter(pk__in=columns.keys_by_guid(organization_id, fresh))
    existing = {row[1]: row for row in rows.values_list("pk", "guid", "gone_at", "changed_at", *columns.OBSERVED)}
    new: list[Fresh] = []
    different: list[tuple[int, datetime.datetime, Fresh]] = []
    lines: list[_Line] = []
    for guid, device in fresh.items():
        row = existing.get(guid)
        if row is None:
            new.append(device)
            continue
        pk, _guid, gone_at, changed_at, *held = row
        # Another digest need not mean another device: whole objects carry more than what is kept.
        if gone_at is not None or tuple(held) != device.values:
            counts.changed += 1
            changed_at = now
            lines += _lines(pk, gone_at, held, device.values)
        else:
            counts.unchanged += 1
        different.append((pk, changed_at, device))
    columns.insert(organization_id, new, fence, now)
    columns.update(different, fence)
    counts.created += len(new)
    return lines


def _lines(
    pk: int, gone_at: datetime.datetime | None, before: Sequence[object], after: Sequence[object]
) -> Iterator[_Line]:
    if gone_at is not None:
        yield _Line(pk, "back")
    if before[_STATE] != after[_STATE]:
        yield _Line(
            pk,
            "stateChanged",
            {
                "before": str(before[_STATE]),
                "before_reason": str(before[_REASON]),
                "state": str(after[_STATE]),
                "reason": str(after[_REASON]),
            },
        )


def gone_mark(*, lease: Lease, organization_id: int) -> int:
    """After a complete listing: what this run did not see is gone. Rows stay, with the time. Returns how many."""
    now = timezone.now()
    with lease.guard() as run:
        rows = unseen(organization_id, lease.fence)
        for pks in blocks(list(rows.values_list("pk", flat=True))):
            _tell((_Line(pk, "gone") for pk in pks), run, now)
        gone = rows.update(gone_at=now)
        # Added: a run whose worker died right after this marks the rest, and did mark these.
        SyncRun.objects.filter(pk=run.pk).update(gone=F("gone") + gone)
    return gone


def unseen(organization_id: int, fence: int) -> QuerySet[MobileDevice]:
    """Devices held as present that a listing under this number did not bring.

    Not "with a lower number": a connector that was made anew counts from the beginning, and its organisation's devices
    do not.
    """
    return MobileDevice.objects.filter(organization_id=organization_id, gone_at=None).exclude(seen_fence=fence)

"""Records that another device-management system pushes: upserted one by one or in bulk, and deleted.

Safe to repeat: what is said twice is written once. What a change concerns is asked to be checked in the same
transaction, so that it reaches Exchange without waiting for a sync. Refuses for a tenant whose records come from
elsewhere: two sources would contradict each other.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone
from django.utils.translation import gettext as _

from connectors.actors import Actor
from connectors.models import DeviceSource, Tenant
from sync.acting.checks import check_request
from sync.models import ManagedDevice, Presence
from sync.records.affected import affected_mailboxes
from sync.records.pushed_rows import FieldProblem, RowError, quoted, row_read
from sync.records.record_store import RecordValues, Stored, Touched, records_end, records_store

logger = logging.getLogger(__name__)

# Rows of one bulk request.
BULK_LIMIT = 1000
BECAUSE = "recordChanged"


class SourceConflictError(Exception):
    """The tenant's records come from elsewhere, or from nowhere yet. Its text is for people."""


@dataclass(frozen=True, slots=True)
class RowResult:
    """What became of one row. index: its place in the request. status: created, changed, unchanged or refused; with
    all_or_nothing also "notStored" for a good row beside a bad one."""

    index: int
    id: str
    status: str
    problems: tuple[FieldProblem, ...] = ()


@dataclass(frozen=True, slots=True)
class PushReport:
    """In the order of the rows. mailboxes: how many are looked at again because of it."""

    results: tuple[RowResult, ...]
    mailboxes: int = 0

    def count(self, status: str) -> int:
        return sum(1 for result in self.results if result.status == status)


@transaction.atomic
def records_upsert(*, tenant: Tenant, rows: Sequence[object], actor: Actor, all_or_nothing: bool = False) -> PushReport:
    """Take each row that is right; the others are told what is wrong with them. all_or_nothing: one bad row, and none
    is stored. Raises SourceConflictError, and ValueError for more than BULK_LIMIT rows."""
    if len(rows) > BULK_LIMIT:
        raise ValueError(f"{len(rows)} rows; at most {BULK_LIMIT} at a time")
    source = source_claim(tenant)
    good: dict[str, tuple[int, RecordValues]] = {}
    results: dict[int, RowResult] = {}
    for index, row in enumerate(rows):
        try:
            values = row_read(row)
        except RowError as error:
            results[index] = RowResult(index, _id_of(row), "refused", tuple(error.problems))
            continue
        if values.source_id in good:
            results[index] = RowResult(index, values.source_id, "refused", (_twice(values.source_id),))
        else:
            good[values.source_id] = (index, values)
    if results and all_or_nothing:
        for source_id, (index, _values) in good.items():
            results[index] = RowResult(index, source_id, "notStored")
        return PushReport(tuple(results[index] for index in sorted(results)))
    stored, mailboxes = records_apply(
        tenant=tenant, source=source, rows=[values for _index, values in good.values()], actor=actor
    )
    for source_id, (index, _values) in good.items():
        results[index] = RowResult(index, source_id, stored.outcomes[source_id])
    return PushReport(tuple(results[index] for index in sorted(results)), mailboxes)


def records_apply(
    *, tenant: Tenant, source: DeviceSource, rows: Sequence[RecordValues], actor: Actor
) -> tuple[Stored, int]:
    """Store rows that were checked, and ask for what they concern; returns how many mailboxes that is.

    Call inside a transaction that holds `source` by source_claim().
    """
    touched = Touched()
    stored = records_store(
        tenant_id=tenant.pk,
        source=ManagedDevice.Source.PUSHED,
        rows=rows,
        number=0,
        now=timezone.now(),
        touched=touched,
        actor_name=actor.name,
    )
    if rows:
        # A request of which nothing could be taken says nothing of anybody: who has no record waits on.
        DeviceSource.objects.filter(pk=source.pk).update(last_pushed_at=timezone.now())
    if stored.created or stored.changed:
        logger.info(
            "records of tenant %s: %d new, %d changed, by %s",
            tenant.public_id,
            len(stored.created),
            len(stored.changed),
            actor.name,
        )
    return stored, _ask(tenant, touched)


@transaction.atomic
def record_delete(*, tenant: Tenant, source_id: str, actor: Actor) -> bool:
    """The other system does not know this record any more. False when we never did. Safe to repeat.

    Raises SourceConflictError.
    """
    source = source_claim(tenant)
    record = ManagedDevice.objects.filter(
        tenant=tenant, source=ManagedDevice.Source.PUSHED, source_id=source_id
    ).first()
    if record is None:
        return False
    touched = Touched()
    if records_end([record.pk], now=timezone.now(), touched=touched, actor_name=actor.name):
        DeviceSource.objects.filter(pk=source.pk).update(last_pushed_at=timezone.now())
        _ask(tenant, touched)
        logger.info("record of tenant %s deleted by %s", tenant.public_id, actor.name)
    return True


@transaction.atomic
def records_of_others_end(*, tenant: Tenant, actor: Actor) -> int:
    """Mark the records of a source that was given up as GONE; returns how many."""
    kind = DeviceSource.objects.filter(tenant=tenant).values_list("kind", flat=True).first()
    pks = list(others_of(tenant, kind or "").values_list("pk", flat=True))
    touched = Touched()
    ended = records_end(pks, now=timezone.now(), touched=touched, actor_name=actor.name)
    _ask(tenant, touched)
    logger.info("%d records of another source of tenant %s ended by %s", ended, tenant.public_id, actor.name)
    return ended


def others_of(tenant: Tenant, kind: str) -> QuerySet[ManagedDevice]:
    """Records that are not GONE and come from a source that is not `kind`."""
    return ManagedDevice.objects.filter(tenant=tenant).exclude(source=kind).exclude(presence=Presence.GONE)


def source_claim(tenant: Tenant) -> DeviceSource:
    """The tenant's source, locked, so that pushes follow one another. Raises SourceConflictError."""
    source = DeviceSource.objects.select_for_update().filter(tenant=tenant).first()
    if source is not None and source.kind == DeviceSource.Kind.PUSHED:
        return source
    if source is not None and source.kind == DeviceSource.Kind.GRAPH:
        raise SourceConflictError(
            _(
                "The device records of this tenant are read from Microsoft Graph, so that none can be pushed. Push to "
                "another tenant, or choose “Pushed by another system” on the page Device records."
            )
        )
    raise SourceConflictError(
        _(
            "This tenant has no source of device records yet. Choose “Pushed by another system” on the page Device "
            "records first."
        )
    )


def _ask(tenant: Tenant, touched: Touched) -> int:
    found = affected_mailboxes(tenant.pk, touched) if touched else set()
    if found:
        check_request(found, because=BECAUSE)
    return len(found)


def _twice(source_id: str) -> FieldProblem:
    text = _("“%(id)s” stands twice in this request. Send each record once.") % {"id": source_id[:64]}
    return FieldProblem("id", "twice", text)


def _id_of(row: object) -> str:
    value = row.get("id") if isinstance(row, dict) else None
    return quoted(value, 255) if isinstance(value, str) else ""

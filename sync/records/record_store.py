"""Writing device records: one funnel for what Graph lists and for what is pushed.

Compares with the rows and writes only what differs. Says which mailboxes a change concerns through `Touched`, old and
new values both: a record that moves from one person's phone to another's concerns both. Decides nothing, and opens no
transaction of its own.
"""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, fields
from operator import attrgetter
from typing import Any, TypeVar

from django.db import connection, models
from django.db.models import QuerySet

from connectors.graph.records import ManagedDeviceRecord
from sync.deciding.facts import id_key, text_key
from sync.deciding.record_index import is_unknown_id
from sync.events import storable
from sync.models import DeviceAccess, DeviceEvent, ManagedDevice, Presence
from sync.observing.columns import adapters

# Rows of one query or statement: SQLite allows few parameters where it is old.
CHUNK = 500
# A check-in moves every few hours and changes no verdict; one that comes after a silence may (policy: stale).
SILENCE = datetime.timedelta(days=1)
_Item = TypeVar("_Item")


@dataclass(frozen=True, slots=True)
class RecordValues:
    """What a row keeps of a record, under the row's names."""

    source_id: str
    user_source_id: str = ""
    upn: str = ""
    email: str = ""
    device_name: str = ""
    eas_device_id: str = ""
    serial: str = ""
    imei: str = ""
    manufacturer: str = ""
    model: str = ""
    os: str = ""
    os_version: str = ""
    compliance: str = "unknown"
    grace_until: datetime.datetime | None = None
    registered: bool | None = None
    agent: str = ""
    enrolled_at: datetime.datetime | None = None
    last_check_in_at: datetime.datetime | None = None


COLUMNS = tuple(one.name for one in fields(RecordValues))
_values = attrgetter(*COLUMNS)
_LIMITS: dict[str, int] = {
    one.name: one.max_length
    for one in ManagedDevice._meta.get_fields()
    if isinstance(one, models.CharField) and one.name in COLUMNS and one.max_length is not None
}
# What no verdict looks at: a change of these alone concerns nobody's access. (A check-in is looked at by itself.)
_QUIET = frozenset({"device_name", "os_version", "last_check_in_at"})
# What a device's story tells of a change.
_TOLD = ("compliance", "registered", "eas_device_id", "upn", "email", "grace_until")


@dataclass(slots=True)
class Touched:
    """What a change of records, people or groups names, to find the mailboxes it concerns."""

    records: set[int] = field(default_factory=set)
    people: set[str] = field(default_factory=set)  # DirectoryUser.source_id
    device_ids: set[str] = field(default_factory=set)  # as facts.id_key has them
    texts: set[str] = field(default_factory=set)  # addresses and UPNs as facts.text_key has them

    def __bool__(self) -> bool:
        return bool(self.records or self.people or self.device_ids or self.texts)

    def add_record(self, pk: int, values: Sequence[Any]) -> None:
        named = dict(zip(COLUMNS, values, strict=True))
        self.records.add(pk)
        if named["user_source_id"]:
            self.people.add(named["user_source_id"])
        if not is_unknown_id(named["eas_device_id"]):
            self.device_ids.add(id_key(named["eas_device_id"]))
        self.texts |= {text_key(named["upn"]), text_key(named["email"])} - {""}


@dataclass(slots=True)
class Stored:
    """Of one call: keys by what became of them."""

    created: list[int] = field(default_factory=list)
    changed: list[int] = field(default_factory=list)
    unchanged: int = 0
    outcomes: dict[str, str] = field(default_factory=dict)  # source_id → created, changed, unchanged


def graph_values(record: ManagedDeviceRecord) -> RecordValues:
    """A record of Graph, as a row keeps it."""
    return storable_values(
        RecordValues(
            source_id=record.id,
            user_source_id=record.user_id,
            upn=record.user_principal_name,
            email=record.email_address,
            device_name=record.device_name,
            eas_device_id=record.eas_device_id,
            serial=record.serial_number,
            imei=record.imei,
            manufacturer=record.manufacturer,
            model=record.model,
            os=record.operating_system,
            os_version=record.os_version,
            compliance=record.compliance_state or "unknown",
            grace_until=record.grace_until,
            registered=record.azure_ad_registered,
            agent=record.management_agent,
            enrolled_at=record.enrolled,
            last_check_in_at=record.last_sync,
        )
    )


def storable_values(values: RecordValues) -> RecordValues:
    """Text as every database can keep it, and no longer than its column."""
    return RecordValues(
        *(storable(value)[: _LIMITS[name]] if name in _LIMITS else value for name, value in _pairs(values))
    )


def _pairs(values: RecordValues) -> Iterator[tuple[str, Any]]:
    return zip(COLUMNS, _values(values), strict=True)


def chunks(items: Iterable[_Item], size: int = CHUNK) -> Iterator[list[_Item]]:
    """Lists of at most `size`, in order."""
    held: list[_Item] = []
    for item in items:
        held.append(item)
        if len(held) == size:
            yield held
            held = []
    if held:
        yield held


def records_store(
    *,
    tenant_id: int,
    source: str,
    rows: Sequence[RecordValues],
    number: int,
    now: datetime.datetime,
    touched: Touched,
    actor_name: str = "",
) -> Stored:
    """Make the records' rows these, and each PRESENT. Of two with one id the later counts. Call inside a transaction.

    number: of the listing that held them; 0 for what is pushed. touched: is added to.
    """
    stored = Stored()
    latest = {row.source_id: row for row in rows}
    for part in chunks(latest.values()):
        _part_store(tenant_id, source, part, number, now, touched, stored, actor_name)
    return stored


def _part_store(
    tenant_id: int,
    source: str,
    part: list[RecordValues],
    number: int,
    now: datetime.datetime,
    touched: Touched,
    stored: Stored,
    actor_name: str,
) -> None:
    known = _known(tenant_id, source, part)
    written: list[tuple[RecordValues, int, datetime.datetime]] = []  # with the listing's number, and when first seen
    new: list[str] = []
    stories: dict[int, dict[str, tuple[Any, Any]]] = {}
    same: list[int] = []
    for row in part:
        held = known.get(row.source_id)
        if held is None:
            written.append((row, number, now))
            new.append(row.source_id)
            stored.outcomes[row.source_id] = "created"
            continue
        pk, presence, seen_number, first_seen_at, *before = held
        after = _values(row)
        if tuple(before) == after and presence == Presence.PRESENT:
            same.append(pk)
            stored.outcomes[row.source_id] = "unchanged"
            continue
        changes = {name: (b, a) for name, b, a in zip(COLUMNS, before, after, strict=True) if b != a}
        if presence == Presence.GONE or _matters(changes):
            touched.add_record(pk, before)
            touched.add_record(pk, after)
        if told := {name: changes[name] for name in _TOLD if name in changes}:
            stories[pk] = told
        written.append((row, number or seen_number, first_seen_at))
        stored.outcomes[row.source_id] = "changed"
        stored.changed.append(pk)
    _write(tenant_id, source, written, now)
    for pk, *values in _rows(tenant_id, source, new).values_list("pk", *COLUMNS):
        stored.created.append(pk)
        touched.add_record(pk, values)
    if number:
        ManagedDevice.objects.filter(pk__in=same).update(seen_number=number)
    stored.unchanged += len(same)
    events_add(stories, now, actor_name)


def _rows(tenant_id: int, source: str, source_ids: list[str]) -> QuerySet[ManagedDevice]:
    return ManagedDevice.objects.filter(tenant_id=tenant_id, source=source, source_id__in=source_ids)


def _known(tenant_id: int, source: str, part: list[RecordValues]) -> dict[str, tuple[Any, ...]]:
    """{source_id: key, presence, seen_number, first_seen_at and then COLUMNS}."""
    rows = _rows(tenant_id, source, [row.source_id for row in part])
    held = rows.values_list("source_id", "pk", "presence", "seen_number", "first_seen_at", *COLUMNS)
    return {source_id: tuple(values) for source_id, *values in held}


_KEYS = ("upn_key", "email_key", "eas_device_id_key")
_STATE = ("presence", "missing_since", "gone_at", "seen_number", "changed_at")
_ONCE = ("tenant_id", "source", "public_id", "first_seen_at")
_TIMES = tuple(COLUMNS.index(name) for name in ("grace_until", "enrolled_at", "last_check_in_at"))


def _write(
    tenant_id: int,
    source: str,
    rows: list[tuple[RecordValues, int, datetime.datetime]],
    now: datetime.datetime,
) -> None:
    """New rows and known ones by the key of the source. One prepared statement: bulk_create spends three times as long
    on its models, and an import of 50,000 records holds a transaction open meanwhile."""
    if not rows:
        return
    quote = connection.ops.quote_name
    guid, time, _binary = adapters()
    moment = time(now)
    names = (*COLUMNS, *_KEYS, *_STATE, *_ONCE)
    updated = [quote(name) for name in (*COLUMNS, *_KEYS, *_STATE) if name != "source_id"]
    sql = (
        f"INSERT INTO {quote(ManagedDevice._meta.db_table)} ({', '.join(map(quote, names))}) "  # noqa: S608 - our own names
        f"VALUES ({', '.join(['%s'] * len(names))}) ON CONFLICT (tenant_id, source, source_id) DO UPDATE SET "
        + ", ".join(f"{name} = excluded.{name}" for name in updated)
    )
    parameters = []
    for row, number, first_seen_at in rows:
        values = list(_values(row))
        for position in _TIMES:
            values[position] = time(values[position])
        parameters.append(
            (
                *values,
                text_key(row.upn),
                text_key(row.email),
                "" if is_unknown_id(row.eas_device_id) else id_key(row.eas_device_id),
                Presence.PRESENT.value,
                None,
                None,
                number,
                moment,
                tenant_id,
                source,
                guid(uuid.uuid4()),
                time(first_seen_at),
            )
        )
    with connection.cursor() as cursor:
        cursor.executemany(sql, parameters)


def _matters(changes: dict[str, tuple[Any, Any]]) -> bool:
    """Whether a change can change a verdict."""
    if changes.keys() - _QUIET:
        return True
    before, after = changes.get("last_check_in_at", (None, None))
    if before is None or after is None:
        return before is not after
    return bool(abs(after - before) >= SILENCE)


def records_end(pks: Sequence[int], *, now: datetime.datetime, touched: Touched, actor_name: str = "") -> int:
    """Mark records as GONE; returns how many were not before. Call inside a transaction."""
    ended = 0
    for part in chunks(pks):
        found = list(ManagedDevice.objects.filter(pk__in=part).exclude(presence=Presence.GONE))
        for model in found:
            touched.add_record(model.pk, _values(model))
        ManagedDevice.objects.filter(pk__in=[model.pk for model in found]).update(
            presence=Presence.GONE, gone_at=now, changed_at=now
        )
        events_add({model.pk: {"presence": (model.presence, Presence.GONE.value)} for model in found}, now, actor_name)
        ended += len(found)
    return ended


def events_add(stories: dict[int, dict[str, tuple[Any, Any]]], now: datetime.datetime, actor_name: str) -> None:
    """A line "recordChanged" for each device that is matched with one of these records. Few queries, however many."""
    if not stories:
        return
    matched = DeviceAccess.objects.filter(managed_device__in=list(stories)).values_list(
        "device_id", "managed_device_id"
    )
    DeviceEvent.objects.bulk_create(
        [
            DeviceEvent(
                device_id=device_id,
                at=now,
                code="recordChanged",
                params={name: storable([_plain(b), _plain(a)]) for name, (b, a) in stories[record_id].items()},
                actor_name=actor_name[:200],
            )
            for device_id, record_id in matched
        ],
        batch_size=CHUNK,
    )


def _plain(value: Any) -> Any:
    return value.isoformat(timespec="seconds") if isinstance(value, datetime.datetime) else value

"""Device rows as tuples: how a record's values become the columns of sync_mobiledevice, thousands a second.

Plain executemany through Django's cursor. bulk_create and bulk_update make a model instance a device, ask every field
for every value, and build one large statement for a few dozen rows: measured, a first sync took twice as long.
Decides nothing; record.py does.
"""

from __future__ import annotations

import datetime
import sys
import uuid
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, fields
from operator import attrgetter, gt, itemgetter
from typing import Any

from django.db import connection

from connectors.exchange.records import MobileDeviceRecord
from sync.deciding.facts import id_key
from sync.models import MobileDevice

# Columns that come from Exchange, under the same name in record and row.
OBSERVED = tuple(field.name for field in fields(MobileDeviceRecord))
_observed = attrgetter(*OBSERVED)
_KEYS = ("device_id_key", "mailbox_key")
_OWN = ("wire_digest", "seen_fence", "changed_at", "gone_at")
_ONCE = ("public_id", "organization_id", "first_observed_at")


def _max_length(name: str) -> int | None:
    return getattr(MobileDevice._meta.get_field(name), "max_length", None)


_TEXTS = tuple(
    (position, _max_length(name))
    for position, name in enumerate(OBSERVED)
    if MobileDevice._meta.get_field(name).get_internal_type() in ("CharField", "TextField")
)
_texts = itemgetter(*(position for position, _ in _TEXTS))
_LIMITS = tuple(sys.maxsize if limit is None else limit for _, limit in _TEXTS)
_TIMES = tuple(
    position
    for position, name in enumerate(OBSERVED)
    if MobileDevice._meta.get_field(name).get_internal_type() == "DateTimeField"
)
_GUID, _DEVICE_ID, _MAILBOX = (OBSERVED.index(name) for name in ("guid", "device_id", "mailbox"))


@dataclass(frozen=True, slots=True)
class Fresh:
    """One device that is not known by its digest: its values in the order of OBSERVED, as Python has them."""

    values: tuple[Any, ...]
    digest: bytes


def observed_values(record: MobileDeviceRecord) -> tuple[Any, ...]:
    """What a row keeps of a record. Text longer than its column is cut: a phone may call itself anything."""
    values: tuple[Any, ...] = _observed(record)
    texts = _texts(values)
    # Nearly every device is as it should be, which is found out for all its texts at once.
    if not _is_too_long(texts) and "\0" not in "".join(texts):
        return values
    changed = list(values)
    for position, limit in _TEXTS:
        # NUL is legal in CLIXML (_x0000_), and refused by PostgreSQL.
        changed[position] = changed[position][:limit].replace("\0", "\ufffd")
    return tuple(changed)


def _is_too_long(texts: tuple[str, ...]) -> bool:
    return any(map(gt, map(len, texts), _LIMITS))


def known_by_digest(organization_id: int, digests: Collection[bytes]) -> dict[bytes, tuple[int, bool]]:
    """{digest: (key, whether the device was gone)} of those rows that hold an object as it came."""
    binary = adapters()[2]
    rows = _matching(("wire_digest", "id", "gone_at"), organization_id, "wire_digest", map(binary, digests))
    return {bytes(digest): (pk, gone_at is not None) for digest, pk, gone_at in rows}


def keys_by_guid(organization_id: int, guids: Collection[uuid.UUID]) -> list[int]:
    """The keys of the rows that hold one of these devices."""
    adapt = adapters()[0]
    return [pk for (pk,) in _matching(("id",), organization_id, "guid", map(adapt, guids))]


def _matching(names: Sequence[str], organization_id: int, by: str, values: Iterable[Any]) -> list[tuple[Any, ...]]:
    """Columns of an organisation's rows whose column `by` is one of `values`; without the ORM's work on each value."""
    parameters = [organization_id, *values]
    if len(parameters) == 1:
        return []
    quote = connection.ops.quote_name
    table, listed = quote(MobileDevice._meta.db_table), ", ".join(quote(name) for name in names)
    marks = ", ".join(["%s"] * (len(parameters) - 1))
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT {listed} FROM {table} WHERE organization_id = %s AND {quote(by)} IN ({marks})",  # noqa: S608 - our own names
            parameters,
        )
        found: list[tuple[Any, ...]] = cursor.fetchall()
        return found


def insert(organization_id: int, devices: Sequence[Fresh], fence: int, now: datetime.datetime) -> None:
    """New rows."""
    if not devices:
        return
    guid, time, binary = adapters()
    moment = time(now)
    rows = [
        (
            *_shared(device, guid, time),
            binary(device.digest),
            fence,
            moment,
            None,
            guid(uuid.uuid4()),
            organization_id,
            moment,
        )
        for device in devices
    ]
    names = (*OBSERVED, *_KEYS, *_OWN, *_ONCE)
    quote = connection.ops.quote_name
    listed, marks = ", ".join(quote(name) for name in names), ", ".join(["%s"] * len(names))
    table = quote(MobileDevice._meta.db_table)
    with connection.cursor() as cursor:
        cursor.executemany(f"INSERT INTO {table} ({listed}) VALUES ({marks})", rows)  # noqa: S608 - our own names


def update(devices: Sequence[tuple[int, datetime.datetime, Fresh]], fence: int) -> None:
    """Rows by key, with the time that each last changed; each is there again, should it have been gone."""
    if not devices:
        return
    guid, time, binary = adapters()
    rows = [
        (*_shared(device, guid, time), binary(device.digest), fence, time(changed_at), None, pk)
        for pk, changed_at, device in devices
    ]
    quote = connection.ops.quote_name
    listed = ", ".join(f"{quote(name)} = %s" for name in (*OBSERVED, *_KEYS, *_OWN))
    table = quote(MobileDevice._meta.db_table)
    with connection.cursor() as cursor:
        cursor.executemany(f"UPDATE {table} SET {listed} WHERE id = %s", rows)  # noqa: S608 - our own names


def _shared(device: Fresh, guid: Callable[[uuid.UUID], Any], time: Callable[[Any], Any]) -> list[Any]:
    values = list(device.values)
    values[_GUID] = guid(values[_GUID])
    for position in _TIMES:
        values[position] = time(values[position])
    values.append(id_key(device.values[_DEVICE_ID])[:255])
    values.append(device.values[_MAILBOX].casefold()[:512])
    return values


def _binary(value: bytes) -> Any:
    return connection.Database.Binary(value)  # type: ignore[attr-defined]  # each backend's own DB-API module


def adapters() -> tuple[Callable[[uuid.UUID], Any], Callable[[Any], Any], Callable[[bytes], Any]]:
    """How this database wants a UUID, an aware time and bytes."""
    native = connection.features.has_native_uuid_field

    def guid(value: uuid.UUID) -> Any:
        return value if native else value.hex

    if connection.vendor == "sqlite":
        return guid, _sqlite_time, _binary
    return guid, connection.ops.adapt_datetimefield_value, _binary


def _sqlite_time(value: datetime.datetime | None) -> str | None:
    """As Django writes an aware time into SQLite, for times in UTC: three of them a device are worth a shorter way."""
    return None if value is None else value.isoformat(" ")[:-6]

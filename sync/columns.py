"""Device rows as tuples: how a record's values become the columns of sync_mobiledevice, thousands a second.

Plain executemany through Django's cursor. bulk_create and bulk_update make a model instance a device, ask every field
for every value, and build one large statement for a few dozen rows: measured, a first sync took twice as long.
Decides nothing; record.py does.
"""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from operator import attrgetter
from typing import Any

from django.db import connection

from connectors.exchange.records import MobileDeviceRecord
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
    values = list(_observed(record))
    for position, limit in _TEXTS:
        text = values[position]
        if limit is not None and len(text) > limit:
            text = text[:limit]
        if "\0" in text:  # legal in CLIXML (_x0000_), refused by PostgreSQL
            text = text.replace("\0", "\ufffd")
        values[position] = text
    return tuple(values)


def insert(organization_id: int, devices: Sequence[Fresh], fence: int, now: datetime.datetime) -> None:
    """New rows."""
    if not devices:
        return
    guid, time, binary = _adapters()
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
    guid, time, binary = _adapters()
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
    values.append(device.values[_DEVICE_ID].strip().casefold()[:255])
    values.append(device.values[_MAILBOX].casefold()[:512])
    return values


def _binary(value: bytes) -> Any:
    return connection.Database.Binary(value)  # type: ignore[attr-defined]  # each backend's own DB-API module


def _adapters() -> tuple[Callable[[uuid.UUID], Any], Callable[[Any], Any], Callable[[bytes], Any]]:
    """How this database wants a UUID, an aware time and bytes."""
    native = connection.features.has_native_uuid_field

    def guid(value: uuid.UUID) -> Any:
        return value if native else value.hex

    return guid, connection.ops.adapt_datetimefield_value, _binary

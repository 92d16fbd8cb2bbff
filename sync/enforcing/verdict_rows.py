"""Keeping verdicts: what was decided of each device, whose its mailbox is, and a line of its story when that changed.

Writes what differs and nothing else; the first verdict of a device is no change, so that a first sync of 50,000 devices
tells 50,000 people nothing new. Decides nothing.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TypeAlias

from django.db import connection, transaction

from sync.blocks import blocks
from sync.deciding.facts import Key
from sync.deciding.matches import Match
from sync.deciding.verdicts import Verdict
from sync.enforcing.loading import Loaded
from sync.enforcing.world_rows import IN
from sync.models import DeviceAccess, DeviceEvent, Mailbox, SyncRun
from sync.observing.columns import adapters

ACTOR_NAME = "Sync"
_COLUMNS = (
    "access", "state", "reason", "rule", "hindered_by", "outcome", "device_by", "user_by", "managed_device_id",
)  # fmt: skip
# Rows of one transaction.
ROWS = 1000
# What makes it another verdict, in distinction from how it comes about.
_WORD = slice(0, 4)

Values: TypeAlias = tuple[object, ...]


@dataclass(frozen=True, slots=True)
class _Change:
    device: int
    after: Values
    before: Values | None
    decided_at: datetime.datetime

    @property
    def is_told(self) -> bool:
        return self.before is not None and self.before[_WORD] != self.after[_WORD]


def verdicts_record(
    loaded: Loaded,
    verdicts: Mapping[Key, Verdict],
    *,
    run: SyncRun | None = None,
    actor_name: str = ACTOR_NAME,
    guard: Callable[[], AbstractContextManager[object]] = transaction.atomic,
) -> int:
    """Keep the verdicts of a world, in short transactions, each under `guard`. Returns of how many devices something
    differs."""
    _persons_record(loaded, guard)
    changed = 0
    for chosen in blocks(_changes(loaded, verdicts), ROWS):
        with guard():
            _write(loaded, chosen, run, actor_name)
        changed += len(chosen)
    return changed


def _changes(loaded: Loaded, verdicts: Mapping[Key, Verdict]) -> Iterator[_Change]:
    held = _held(loaded)
    for device in loaded.world.devices:
        pk = int(device.key)
        after = _values(verdicts[device.key], loaded.world.matches[device.key])
        before, decided_at = held.get(pk, (None, loaded.world.now))
        if before != after:
            is_same_word = before is not None and _word(before) == _word(after)
            yield _Change(pk, after, before, decided_at if is_same_word else loaded.world.now)


def _word(values: Values) -> Values:
    """What an approval holds for: access, reason and rule; and the state they come to, since a phone that Exchange
    lets in by its default level, and then again does not, is each time left alone for the same reason."""
    return values[_WORD]


def _held(loaded: Loaded) -> dict[int, tuple[Values, datetime.datetime]]:
    rows = DeviceAccess.objects.filter(organization=loaded.organization)
    return {
        pk: (tuple(values), decided_at)
        for part in blocks((int(device.key) for device in loaded.world.devices), IN)
        for pk, decided_at, *values in rows.filter(pk__in=part).values_list("pk", "decided_at", *_COLUMNS)
    }


def _values(verdict: Verdict, match: Match) -> Values:
    return (
        str(verdict.access),
        str(verdict.state),
        str(verdict.reason),
        str(verdict.row),
        str(verdict.hindered_by or ""),
        str(match.outcome),
        str(match.device_by or ""),
        str(match.user_by or ""),
        match.record.key if match.record else None,
    )


def _write(loaded: Loaded, changes: list[_Change], run: SyncRun | None, actor_name: str) -> None:
    """As columns.py does: a first sync writes every device, and models cost several times as much as their rows."""
    time, organization = adapters()[1], loaded.organization.pk
    rows = [(change.device, organization, time(change.decided_at), *change.after) for change in changes]
    with connection.cursor() as cursor:
        cursor.executemany(_upsert(), rows)
    DeviceEvent.objects.bulk_create(
        DeviceEvent(
            device_id=change.device,
            at=loaded.world.now,
            code="verdict",
            params=_params(change),
            actor_name=actor_name,
            run=run,
        )
        for change in changes
        if change.is_told
    )


def _upsert() -> str:
    quote = connection.ops.quote_name
    names = [quote(name) for name in ("device_id", "organization_id", "decided_at", *_COLUMNS)]
    listed, marks = ", ".join(names), ", ".join(["%s"] * len(names))
    taken = ", ".join(f"{name} = EXCLUDED.{name}" for name in names[2:])
    table = quote(DeviceAccess._meta.db_table)
    return f"INSERT INTO {table} ({listed}) VALUES ({marks}) ON CONFLICT ({names[0]}) DO UPDATE SET {taken}"  # noqa: S608 - our own names


def _params(change: _Change) -> dict[str, object]:
    names = _COLUMNS[_WORD]
    before = change.before or change.after
    return {
        **dict(zip(names, change.after[_WORD], strict=True)),
        **{f"before_{name}": value for name, value in zip(names, before[_WORD], strict=True)},
    }


def _persons_record(loaded: Loaded, guard: Callable[[], AbstractContextManager[object]]) -> None:
    """Whose each mailbox is, where that differs from what is kept."""
    persons: dict[int, int | None] = {}
    for device in loaded.world.devices:
        if device.mailbox in loaded.world.mailboxes:
            person = loaded.world.matches[device.key].person
            # A link tells whose a mailbox without a person is: any phone's word counts then.
            persons[int(device.mailbox)] = int(person.key) if person else persons.get(int(device.mailbox))
    moved: list[tuple[int | None, int]] = []
    for chosen in blocks(persons, IN):
        known = Mailbox.objects.filter(pk__in=chosen).values_list("pk", "person_id")
        moved += [(persons[pk], pk) for pk, person in known if person != persons[pk]]
    quote = connection.ops.quote_name
    statement = f"UPDATE {quote(Mailbox._meta.db_table)} SET person_id = %s WHERE id = %s"  # noqa: S608 - our own names
    for part in blocks(moved, ROWS):
        with guard(), connection.cursor() as cursor:
            cursor.executemany(statement, part)

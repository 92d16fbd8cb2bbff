"""What is to be sent for some mailboxes, found anew just before it is: state may have moved since a run decided.

Decides by the pure phases alone; what they are told is read from the tables now. Whom an order may not deny is left as
it is, and what would rely on settings that the order does not set is left for a run that does.
"""

from __future__ import annotations

import datetime
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass

from sync.deciding.commands import REMOVALS, EntryChange, SetMailboxEntries, SettingsCommand
from sync.deciding.decide import decide
from sync.deciding.effects import Denial, after_all, counted, denials_of, levels, listed_after, listed_now
from sync.deciding.facts import ExchangeSettings, Key, Level, Partnership
from sync.deciding.judge import SEVERITY
from sync.deciding.plan import Plan, commands_of, plan
from sync.deciding.verdicts import Verdict
from sync.deciding.world import World
from sync.enforcing.loading import world_load


@dataclass(frozen=True, slots=True)
class Replanned:
    """changes: what may be done to entries. commands: the same by mailbox, in the order of their stages."""

    world: World
    verdicts: Mapping[Key, Verdict]
    changes: tuple[EntryChange, ...]
    commands: Mapping[int, list[SetMailboxEntries]]


def replan(
    organization_id: int,
    mailboxes: Collection[int],
    *,
    may_deny: Collection[Partnership] | None,
    settings: tuple[SettingsCommand, ...],
    now: datetime.datetime,
) -> Replanned:
    """settings: those that the order is going to carry out between the stages. may_deny None: everyone."""
    world = world_load(organization_id, mailboxes=mailboxes, now=now).world
    verdicts = decide(world)
    return replanned(world, verdicts, plan(world, verdicts), may_deny=may_deny, settings=settings)


def replanned(
    world: World,
    verdicts: Mapping[Key, Verdict],
    planned: Plan,
    *,
    may_deny: Collection[Partnership] | None,
    settings: tuple[SettingsCommand, ...],
) -> Replanned:
    """The same for what was read, decided and planned already."""
    if not _are_same(after_all(world.exchange, planned.settings), after_all(world.exchange, settings)):
        # Others of the policy's settings wait for a person, or for the next full sync: as if they were not wanted yet.
        world = world.as_it_is()
        verdicts = decide(world)
        planned = plan(world, verdicts)
    changes, denials = _permitted(world, planned, may_deny, settings)
    found: dict[int, list[SetMailboxEntries]] = {}
    for command in commands_of(world, changes, settings, denials):
        if isinstance(command, SetMailboxEntries):
            found.setdefault(int(command.mailbox), []).append(command)
    return Replanned(world, verdicts, changes, found)


def _permitted(
    world: World, planned: Plan, may_deny: Collection[Partnership] | None, settings: tuple[SettingsCommand, ...]
) -> tuple[tuple[EntryChange, ...], tuple[Denial, ...]]:
    """The changes that may be made, and whom these and the settings deny."""
    changes: Iterable[EntryChange] = planned.changes
    target, between = after_all(world.exchange, planned.settings), after_all(world.exchange, settings)
    if not _are_same(target, between):
        changes = _safe(world, planned, target, between)
    changes = tuple(changes)
    denials = denials_of(world, changes, settings)
    if may_deny is not None:
        partnerships = {device.key: device.partnership for device in world.devices}
        waiting = {denial.device for denial in denials if partnerships[denial.device] not in may_deny}
        changes = tuple(change for change in changes if waiting.isdisjoint(change.devices))
    return changes, denials


def _safe(world: World, planned: Plan, target: ExchangeSettings, between: ExchangeSettings) -> Iterator[EntryChange]:
    """Where not all settings of the plan come now. Entries that are added decide whatever these are; entries that go
    leave the phone to them, and may go where it is then no stricter and no freer than both before and after the whole.
    """
    now = listed_now(world)
    added = listed_after(now, [change for change in planned.changes if change.stage != REMOVALS])
    devices = counted(world)
    before = levels(devices, now, world.exchange)
    after = levels(devices, listed_after(now, planned.changes), target)
    by_key = {device.key: device for device in devices}
    for change in planned.changes:
        affected = [by_key[key] for key in change.devices if key in by_key]
        found = levels(affected, listed_after(added, [change]), between)
        if change.stage != REMOVALS or all(_is_between(found[key], before[key], after[key]) for key in found):
            yield change


def _is_between(level: Level, *ends: Level) -> bool:
    severities = [SEVERITY[end] for end in ends]
    return min(severities) <= SEVERITY[level] <= max(severities)


def _are_same(one: ExchangeSettings, other: ExchangeSettings) -> bool:
    """As far as access goes."""
    return one.default_level is other.default_level and set(one.rules) == set(other.rules)

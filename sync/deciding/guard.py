"""Guard: how many people would lose their mail by a plan? Too many, and what denies waits for a person.

Refuses to let half a plan do what the whole would not: what goes ahead alone must let nobody in and keep nobody out
who is not so before or after the whole. "Loses" means that Exchange's lists, rules and default give the phone mail
now and would not then: what is denied already is not counted again.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

from sync.deciding.commands import REMOVALS, Command, EntryChange, SetOrganizationSettings, SettingsCommand
from sync.deciding.effects import (
    Denial,
    after_all,
    counted,
    denials_of,
    levels,
    listed_after,
    listed_now,
    settings_after,
)
from sync.deciding.facts import EasDevice, ExchangeSettings, Key, Level, Partnership
from sync.deciding.judge import SEVERITY
from sync.deciding.plan import Plan, commands_of
from sync.deciding.world import World


@dataclass(frozen=True, slots=True)
class Limits:
    """A plan waits when it denies more than both: so many phones, and so many of a hundred of the organisation's.
    at_most: in a large one so many are too many, whatever the percentage; None: there is no such number."""

    devices: int = 10
    percent: float = 5.0
    at_most: int | None = None

    def are_passed(self, number: int, total: int) -> bool:
        """Whether to deny `number` phones of an organisation that has `total` is more than may go unasked."""
        is_large = self.at_most is not None and number > self.at_most
        return number > self.devices and (is_large or 100 * number > self.percent * total)


@dataclass(frozen=True, slots=True)
class Guarded:
    """go: to be carried out now, in this order. held: to wait; it is planned anew once it is approved.

    denials: whom the whole plan would newly deny, without those approved. counted: these and the recent ones.
    percent: what that is of total_devices.
    """

    go: tuple[Command, ...]
    held: tuple[Command, ...] = ()
    denials: tuple[Denial, ...] = ()
    approved: tuple[Denial, ...] = ()
    counted: int = 0
    total_devices: int = 0
    limits: Limits = field(default_factory=Limits)
    is_over: bool = False

    @property
    def percent(self) -> float:
        return 100 * self.counted / self.total_devices if self.total_devices else 0.0


def newly_denied(world: World, plan: Plan) -> tuple[Denial, ...]:
    """Who would lose mail. Also the preview of a change of policy: of a world with that policy, and its plan."""
    return denials_of(world, plan.changes, plan.settings)


def guard(
    world: World,
    plan: Plan,
    *,
    total_devices: int,
    limits: Limits | None = None,
    recently_denied: int = 0,
    approved: Collection[Partnership] = (),
    barred: Collection[Partnership] = (),
    weights: Mapping[Key, int] | None = None,
) -> Guarded:
    """What of a plan may go ahead.

    total_devices: of the whole organisation, also where the world is a part of it. recently_denied: how many were newly
    denied in the last while, so that many small runs are not let through where one big one is not. approved: whom a
    person gave over to denial; they pass, and are not counted. barred: who must not newly be denied now, however few
    they are; they wait, and are not counted. weights: how many phones one of the world stands for; None: for itself.
    """
    limits = limits or Limits()
    partnerships = {device.key: device.partnership for device in world.devices}
    found = newly_denied(world, plan)
    kept = {denial.device for denial in found if partnerships[denial.device] in barred}
    open_to = [denial for denial in found if denial.device not in kept]
    passed = tuple(denial for denial in open_to if partnerships[denial.device] in approved)
    waiting = tuple(denial for denial in open_to if partnerships[denial.device] not in approved)
    number = sum(1 if weights is None else weights[denial.device] for denial in waiting) + recently_denied
    is_over = bool(waiting) and limits.are_passed(number, total_devices)
    go, held = plan.commands, tuple[Command, ...]()
    if is_over:
        kept.update(denial.device for denial in waiting)
    if kept:
        going = _Going(world, plan, kept)
        go = commands_of(world, going.changes, going.settings, found)
        held = commands_of(world, going.held_changes, going.held_settings, found)
    return Guarded(go, held, waiting, passed, number, total_devices, limits, is_over)


class _Going:
    """The part of a plan that goes ahead while denials wait."""

    def __init__(self, world: World, plan: Plan, waiting: set[Key]) -> None:
        self._waiting = waiting
        self._devices = counted(world)
        now = listed_now(world)
        target = after_all(world.exchange, plan.settings)
        self._before = levels(self._devices, now, world.exchange)
        self._after = levels(self._devices, listed_after(now, plan.changes), target)
        self.held_changes = [change for change in plan.changes if not waiting.isdisjoint(change.devices)]
        self.held_settings: list[SettingsCommand] = []
        self.settings: list[SettingsCommand] = []
        free = [change for change in plan.changes if waiting.isdisjoint(change.devices)]
        # Entries that are added decide whatever the settings are; entries that are removed leave it to these.
        added = listed_after(now, [change for change in free if change.stage != REMOVALS])
        current = self._take_settings(world.exchange, plan.settings, added)
        self.changes: list[EntryChange] = []
        by_key = {device.key: device for device in self._devices}
        for change in free:
            affected = [by_key[key] for key in change.devices if key in by_key]
            is_safe = change.stage != REMOVALS or self._is_between(
                affected, levels(affected, listed_after(added, [change]), current)
            )
            (self.changes if is_safe else self.held_changes).append(change)

    def _take_settings(
        self,
        current: ExchangeSettings,
        settings: Sequence[SettingsCommand],
        listed: dict[Partnership, tuple[bool, bool]],
    ) -> ExchangeSettings:
        """Those that deny nobody who waits, and rely on no entry that waits; of the others what is about mail alone."""
        for command in settings:
            trial = settings_after(current, command)
            if self._is_between(self._devices, levels(self._devices, listed, trial)):
                current = trial
                self.settings.append(command)
                continue
            if not isinstance(command, SetOrganizationSettings):
                self.held_settings.append(command)
                continue
            self.held_settings.append(SetOrganizationSettings(command.default_level))
            mail = replace(command, default_level=None)
            if mail != SetOrganizationSettings():
                self.settings.append(mail)
                current = settings_after(current, mail)
        return current

    def _is_between(self, devices: Sequence[EasDevice], found: dict[Key, Level]) -> bool:
        """No phone is stricter or freer than both before and after the whole plan, and who waits still has mail."""
        for device in devices:
            key = device.key
            level, before, after = found[key], self._before[key], self._after[key]
            if level is before and level is after:
                continue
            if key in self._waiting:
                if level is not Level.ALLOW:
                    return False
                continue
            ends = (SEVERITY[before], SEVERITY[after])
            if not min(ends) <= SEVERITY[level] <= max(ends):
                return False
        return True

"""Guard for organisations of any size: plans come some mailboxes at a time, and who stands alike is kept as one.

What guard asks of a phone is what lists, rules and default say of it, before and after: a few answers for however many
phones. So one stands for all of its sort, with their number; of the rest only the keys of those are kept whom a command
concerns. Refuses to keep a world that it was shown, and to judge by other rules than guard's.
"""

from __future__ import annotations

import datetime
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from sync.deciding.commands import (
    Command,
    CreateRule,
    EntryChange,
    RemoveRule,
    SetMailboxEntries,
    SetRuleLevel,
    SettingsCommand,
    is_about_access,
)
from sync.deciding.effects import counted, denials_of, levels, listed_now
from sync.deciding.facts import EasDevice, ExchangeSettings, Key, Level, Mailbox, Partnership, State, text_key
from sync.deciding.guard import Limits, guard
from sync.deciding.plan import Plan, commands_of
from sync.deciding.verdicts import Verdict
from sync.deciding.world import World

# Where a phone says something that no rule asks for; none can ask for this.
_OTHER = "\0"
_ID = "x"
# Guard does not ask for the time.
_ANY_TIME = datetime.datetime(2000, 1, 1, tzinfo=datetime.UTC)
_ASKED = ("devicetype", "devicemodel", "deviceos", "useragent")

# A phone as guard sees it: its texts as far as a rule asks for them, the rule that Exchange named last, and whether its
# partnership's change names it.
_Phone: TypeAlias = tuple[str, str, str, str, str, bool]
_Lists: TypeAlias = tuple[bool, bool]  # the allowed one, the blocked one


@dataclass(frozen=True, slots=True)
class _Sort:
    """A partnership as guard sees it. adds, removes: what becomes of its entries; None: there is no change.
    is_approved, is_barred: where somebody loses mail."""

    listed: _Lists
    adds: _Lists | None
    removes: _Lists | None
    phones: tuple[_Phone, ...]
    is_approved: bool
    is_barred: bool


@dataclass(slots=True)
class _Members:
    """The partnerships of one sort. mailboxes: of those with a change. denied: who loses mail, by place among the
    phones. lets_in: how many phones have no mail now, and are to have it."""

    number: int = 0
    lets_in: int = 0
    mailboxes: list[Key] = field(default_factory=list)
    denied: dict[int, list[Key]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Weighed:
    """What may go ahead, in order: the changes of these mailboxes, these settings. may_deny: who may lose mail by it.

    settings_held: those that wait. waiting: who waits because they are too many. denied_later: all whom what does not
    go ahead would deny. lets_in: how many get mail by what goes. is_nothing: there was nothing to be done at all.
    """

    mailboxes: tuple[Key, ...] = ()
    settings: tuple[SettingsCommand, ...] = ()
    may_deny: frozenset[Partnership] = frozenset()
    settings_held: tuple[SettingsCommand, ...] = ()
    waiting: frozenset[Key] = frozenset()
    denied_later: frozenset[Key] = frozenset()
    lets_in: int = 0
    is_nothing: bool = True


def denied_in(plan: Plan) -> set[Key]:
    """Who has mail now and loses it by the plan."""
    return {key for command in plan.commands for key in command.denies}


class Crowd:
    """Parts of one organisation, each with all phones of its mailboxes; of one policy, and the same settings."""

    def __init__(self) -> None:
        self._exchange = ExchangeSettings()
        self._settings: tuple[SettingsCommand, ...] = ()
        self._asked: tuple[frozenset[str], ...] | None = None
        self._identities: frozenset[str] = frozenset()
        self._sorts: dict[_Sort, _Members] = {}
        self._partnerships: dict[Key, Partnership] = {}

    def add(
        self,
        world: World,
        verdicts: Mapping[Key, Verdict],
        plan: Plan,
        *,
        approved: Collection[Partnership] = (),
        barred: Collection[Partnership] = (),
    ) -> None:
        """One part. approved, barred: as guard has them."""
        if self._asked is None:
            self._exchange, self._settings = world.exchange, plan.settings
            self._asked = _asked(world.exchange, plan.settings)
            self._identities = frozenset(text_key(rule.identity) for rule in world.exchange.rules)
        changes = {change.partnership: change for change in plan.changes}
        denied, listed = denied_in(plan), listed_now(world)
        for partnership, devices in self._concerned(world, changes).items():
            change = changes.get(partnership)
            phones = sorted(((self._phone(one, change), one) for one in devices), key=lambda pair: pair[0])
            losing = [(place, one.key) for place, (_, one) in enumerate(phones) if one.key in denied]
            members = self._sorts.setdefault(
                _Sort(
                    listed.get(partnership, (False, False)),
                    (bool(change.allow_add), bool(change.block_add)) if change else None,
                    (bool(change.allow_remove), bool(change.block_remove)) if change else None,
                    tuple(phone for phone, _ in phones),
                    bool(losing) and partnership in approved,
                    bool(losing) and partnership in barred,
                ),
                _Members(),
            )
            members.number += 1
            if change is not None:
                members.mailboxes.append(partnership[0])
            for place, key in losing:
                members.denied.setdefault(place, []).append(key)
                self._partnerships[key] = partnership
            wanted = [one for one in devices if verdicts[one.key].state is State.ALLOWED]
            if wanted:
                now = levels(wanted, listed, world.exchange)
                members.lets_in += sum(1 for level in now.values() if level is not Level.ALLOW)

    def _concerned(
        self, world: World, changes: Mapping[Partnership, EntryChange]
    ) -> dict[Partnership, list[EasDevice]]:
        """Phones by partnership: those that a change is about, and all where rules or the default level change."""
        are_all = self._is_general(self._settings)
        found: dict[Partnership, list[EasDevice]] = {partnership: [] for partnership in changes}
        for device in counted(world):
            partnership = device.partnership
            if are_all or partnership in changes:
                found.setdefault(partnership, []).append(device)
        return found

    @staticmethod
    def _is_general(settings: Iterable[SettingsCommand]) -> bool:
        return any(is_about_access(command) for command in settings)

    def _phone(self, device: EasDevice, change: EntryChange | None) -> _Phone:
        texts = (device.device_type, device.model, device.os, device.user_agent)
        asked = self._asked or ()
        of_type, model, system, agent = (
            low if of_rules and (low := text.lower()) in of_rules else _OTHER
            for text, of_rules in zip(texts, asked, strict=True)
        )
        rule = device.state_rule if text_key(device.state_rule) in self._identities else ""
        return of_type, model, system, agent, rule, change is not None and device.key in change.devices

    # --- the answer ---

    def weigh(self, *, total_devices: int, limits: Limits | None = None, recently_denied: int = 0) -> Weighed:
        """What may go ahead of all that was added; parameters as guard has them."""
        few = _Few(self._exchange, self._settings, self._sorts)
        found = guard(
            few.world,
            few.plan,
            total_devices=total_devices,
            limits=limits,
            recently_denied=recently_denied,
            approved=few.approved,
            barred=few.barred,
            weights=few.weights,
        )
        members = list(self._sorts.values())

        def everybody(some: Iterable[Key]) -> Iterator[Key]:
            """Whom some of the few stand for."""
            for key in some:
                sort, place = few.places[key]
                yield from members[sort].denied.get(place, ())

        def settings_of(commands: Iterable[Command]) -> tuple[SettingsCommand, ...]:
            return tuple(
                replace(command, denies=tuple(sorted(everybody(command.denies), key=str)))
                for command in commands
                if not isinstance(command, SetMailboxEntries)
            )

        going = [command for command in found.go if isinstance(command, SetMailboxEntries)]
        settings = settings_of(found.go)
        stages = [(one.stage, str(key), key) for one in going for key in members[int(one.mailbox)].mailboxes]
        stages.sort(key=lambda staged: staged[:2])
        lets_in = members if self._is_general(settings) else [members[int(one.mailbox)] for one in going]
        may_deny = everybody(key for command in found.go for key in command.denies)
        return Weighed(
            mailboxes=tuple(dict.fromkeys(key for *_, key in stages)),
            settings=settings,
            may_deny=frozenset(self._partnerships[key] for key in may_deny),
            settings_held=settings_of(found.held),
            waiting=frozenset(everybody(denial.device for denial in found.denials)) if found.is_over else frozenset(),
            denied_later=frozenset(everybody(key for command in found.held for key in command.denies)),
            lets_in=sum(one.lets_in for one in lets_in),
            is_nothing=not few.plan.commands,
        )


def _asked(exchange: ExchangeSettings, settings: Iterable[SettingsCommand]) -> tuple[frozenset[str], ...]:
    """The texts that rules of now or then ask for, for each of a phone's own."""
    of_commands = (one.rule for one in settings if isinstance(one, CreateRule | SetRuleLevel | RemoveRule))
    keys = [rule.key for rule in (*exchange.rules, *of_commands)]
    return tuple(frozenset(query for name, query in keys if name == asked) for asked in _ASKED)


class _Few:
    """One partnership of each sort, in a mailbox of its own: a small world, with its plan.

    places: each phone's sort by number, and its place there. weights: how many it stands for.
    """

    def __init__(
        self, exchange: ExchangeSettings, settings: tuple[SettingsCommand, ...], sorts: Mapping[_Sort, _Members]
    ) -> None:
        self.places: dict[Key, tuple[int, int]] = {}
        self.weights: dict[Key, int] = {}
        self.approved: set[Partnership] = set()
        self.barred: set[Partnership] = set()
        devices: list[EasDevice] = []
        mailboxes: dict[Key, Mailbox] = {}
        changes: list[EntryChange] = []
        for number, (sort, members) in enumerate(sorts.items()):
            mailbox = str(number)
            mine = [
                EasDevice(f"{number}.{place}", mailbox, _ID, "", *one[:4], state_rule=one[4])
                for place, one in enumerate(sort.phones)
            ]
            for place, device in enumerate(mine):
                self.places[device.key] = (number, place)
                self.weights[device.key] = members.number
            devices += mine
            allowed, blocked = map(_written, sort.listed)
            mailboxes[mailbox] = Mailbox(mailbox, "", allowed=allowed, blocked=blocked)
            if sort.adds is not None and sort.removes is not None:
                named = tuple(device.key for device, phone in zip(mine, sort.phones, strict=True) if phone[5])
                allow_add, block_add = map(_written, sort.adds)
                allow_remove, block_remove = map(_written, sort.removes)
                changes.append(EntryChange((mailbox, _ID), "", named, allow_add, allow_remove, block_add, block_remove))
            if sort.is_approved:
                self.approved.add((mailbox, _ID))
            if sort.is_barred:
                self.barred.add((mailbox, _ID))
        self.world = World(_ANY_TIME, devices, {}, mailboxes, exchange=exchange)
        denials = denials_of(self.world, changes, settings)
        self.plan = Plan(tuple(changes), settings, commands_of(self.world, changes, settings, denials))


def _written(is_there: bool) -> tuple[str, ...]:
    return (_ID,) if is_there else ()

"""Plan: the fewest commands that bring Exchange from what it has to what the verdicts want.

Refuses to write a whole list, and to touch an entry that is not ours unless a verdict says that a person chose so. The
world must hold all phones of its mailboxes: an entry of ours whose phone is not among them is withdrawn, but for those
that went too many at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from sync.deciding.cases import overrides_in_force
from sync.deciding.commands import (
    ALLOWS,
    Command,
    CreateRule,
    EntryChange,
    RemoveRule,
    SetMailboxEntries,
    SetOrganizationSettings,
    SetRuleLevel,
    SettingsCommand,
    is_about_access,
)
from sync.deciding.effects import Denial, denials_of, denied_by
from sync.deciding.entries import NOWHERE, Named, Whose, entries_of
from sync.deciding.facts import EasDevice, Key, Level, Partnership, PersonalList
from sync.deciding.judge import SEVERITY
from sync.deciding.verdicts import Verdict
from sync.deciding.world import World

_ALLOWED, _BLOCKED = PersonalList.ALLOWED, PersonalList.BLOCKED
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Plan:
    """changes, settings: what is to change, piece by piece. commands: the same, in the order to be carried out. Those
    of one stage may go in any order or at once, but for settings and rules, which go one after another."""

    changes: tuple[EntryChange, ...] = ()
    settings: tuple[SettingsCommand, ...] = ()
    commands: tuple[Command, ...] = ()


def plan(world: World, verdicts: Mapping[Key, Verdict]) -> Plan:
    """Carried out, it gives a world whose plan is empty. No input needs any order."""
    changes, settings = _entry_changes(world, verdicts), _settings_changes(world)
    denials = denials_of(world, changes, settings)
    return Plan(changes, settings, commands_of(world, changes, settings, denials))


# --- personal entries ---------------------------------------------------------------------------------------------


def _entry_changes(world: World, verdicts: Mapping[Key, Verdict]) -> tuple[EntryChange, ...]:
    named = entries_of(world.mailboxes.values(), world.ledger, world.choices)
    devices: dict[Partnership, list[EasDevice]] = {}
    for device in world.devices:
        verdict = verdicts[device.key]
        # Most phones stand on no list and are to stand on none.
        if verdict.entry is not None or device.partnership in named:
            devices.setdefault(device.partnership, []).append(device)
    found: list[EntryChange] = []
    for partnership, sharing in devices.items():
        sharing.sort(key=lambda device: str(device.key))
        verdict = verdicts[sharing[0].key]  # those who share an id share what becomes of it
        change = _change(world, partnership, named.get(partnership, NOWHERE), verdict.entry, verdict.overrides, sharing)
        found += [change] if change else []
    overrides = overrides_in_force(world)
    for partnership, at in named.items():
        if partnership not in devices and partnership not in world.absent:
            # An administrator's word outlives the partnership: a phone that was blocked must not come back through it.
            override = overrides.get(partnership)
            kept = None if override is None else _ALLOWED if override.level is Level.ALLOW else _BLOCKED
            change = _change(world, partnership, at, kept if _has_ours(at, kept) else None, (), ())
            found += [change] if change else []
    found.sort(key=lambda change: (str(change.partnership[0]), change.partnership[1]))
    return tuple(found)


def _has_ours(at: Named, listed: PersonalList | None) -> bool:
    return (at.allowed if listed is _ALLOWED else at.blocked) is Whose.OURS


def _change(
    world: World,
    partnership: Partnership,
    at: Named,
    entry: PersonalList | None,
    overrides: tuple[PersonalList, ...],
    sharing: Sequence[EasDevice],
) -> EntryChange | None:
    """None: all is as it should be."""
    change = EntryChange(
        partnership,
        world.mailboxes[partnership[0]].identity,
        tuple(device.key for device in sharing),
        allow_add=(sharing[0].device_id,) if entry is _ALLOWED and at.allowed is None else (),
        allow_remove=at.written_allowed if _goes(at.allowed, _ALLOWED, entry, overrides) else (),
        block_add=(sharing[0].device_id,) if entry is _BLOCKED and at.blocked is None else (),
        block_remove=at.written_blocked if _goes(at.blocked, _BLOCKED, entry, overrides) else (),
    )
    return change if change.allow_add or change.allow_remove or change.block_add or change.block_remove else None


def _goes(
    whose: Whose | None, listed: PersonalList, entry: PersonalList | None, overrides: tuple[PersonalList, ...]
) -> bool:
    if whose is Whose.OURS:
        return entry is not listed
    return whose is Whose.OVERRIDDEN and listed in overrides


# --- settings and rules -------------------------------------------------------------------------------------------


def _settings_changes(world: World) -> tuple[SettingsCommand, ...]:
    """In an order in which no phone is, on the way, let in or kept out that is not so before or after.

    New rules come first and old ones go last, so that the default level changes under the shelter of both; what is
    stricter comes sooner and goes later, since of two rules the stricter counts.
    """
    policy, exchange = world.organization, world.exchange
    wanted = {rule.key: rule for rule in policy.rules}
    ours = {rule.key for rule in world.ledger.rules}
    present = {rule.key for rule in exchange.rules}
    new = [CreateRule(rule) for key, rule in wanted.items() if key not in present]
    new.sort(key=lambda command: (SEVERITY[command.rule.level], command.rule.key))
    other = [
        SetRuleLevel(rule, wanted[rule.key].level)
        for rule in exchange.rules
        if rule.key in wanted and wanted[rule.key].level is not rule.level
    ]
    other.sort(key=lambda command: (SEVERITY[command.level], command.rule.key))
    stricter = [command for command in other if SEVERITY[command.level] < SEVERITY[command.rule.level]]
    looser = [command for command in other if command not in stricter]
    old = [RemoveRule(rule) for rule in exchange.rules if rule.key in ours and rule.key not in wanted]
    old.sort(key=lambda command: (-SEVERITY[command.rule.level], command.rule.key))
    mail_and_level = SetOrganizationSettings(
        _changed(policy.default_level, exchange.default_level),
        _changed(policy.user_mail_insert, exchange.user_mail_insert),
        _changed_recipients(policy.admin_mail_recipients, exchange.admin_mail_recipients),
    )
    changed = [mail_and_level] if mail_and_level != SetOrganizationSettings() else []
    return (*new, *stricter, *changed, *looser, *old)


def _changed(wanted: _T | None, current: _T) -> _T | None:
    return None if wanted == current else wanted


def _changed_recipients(wanted: tuple[str, ...] | None, current: tuple[str, ...]) -> tuple[str, ...] | None:
    """Addresses in any order and case are the same ones."""
    if wanted is None or {address.lower() for address in wanted} == {address.lower() for address in current}:
        return None
    return wanted


# --- commands -----------------------------------------------------------------------------------------------------


def commands_of(
    world: World, changes: Iterable[EntryChange], settings: Sequence[SettingsCommand], denials: Iterable[Denial]
) -> tuple[Command, ...]:
    """One command a mailbox; one a mailbox and stage where rules or the default level change in between."""
    denied = {denial.device for denial in denials}
    are_staged = any(is_about_access(command) for command in settings)
    grouped: dict[tuple[int, Key], list[EntryChange]] = {}
    named: set[Key] = set()
    for change in changes:
        grouped.setdefault((change.stage if are_staged else ALLOWS, change.partnership[0]), []).append(change)
        named.update(change.devices)
    found: list[Command] = [_entries(stage, mailbox, group, denied) for (stage, mailbox), group in grouped.items()]
    open_to_settings = (device for device in world.devices if device.key in denied and device.key not in named)
    found += denied_by(world, open_to_settings, settings)
    found.sort(key=lambda command: command.stage)
    return tuple(found)


def _entries(stage: int, mailbox: Key, changes: Sequence[EntryChange], denied: set[Key]) -> SetMailboxEntries:
    devices = tuple(key for change in changes for key in change.devices)
    return SetMailboxEntries(
        stage,
        mailbox,
        changes[0].identity,
        tuple(text for change in changes for text in change.allow_add),
        tuple(text for change in changes for text in change.allow_remove),
        tuple(text for change in changes for text in change.block_add),
        tuple(text for change in changes for text in change.block_remove),
        devices,
        tuple(key for key in devices if key in denied),
    )

"""What commands would come to for each phone, by our own reading of Exchange's evaluation.

Refuses to believe verdicts: it looks at lists and settings alone, before and after. A phone whose mailbox has
ActiveSync switched off gets no mail whatever the lists say, and is not counted.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from sync.deciding.commands import (
    CreateRule,
    EntryChange,
    RemoveRule,
    SetOrganizationSettings,
    SetRuleLevel,
    SettingsCommand,
    is_about_access,
)
from sync.deciding.facts import EasDevice, ExchangeSettings, Key, Level, Partnership, id_key
from sync.deciding.judge import Judge, with_entries
from sync.deciding.world import World

# Ids that stand on a list: on the allowed one, on the blocked one.
Listed: TypeAlias = dict[Partnership, tuple[bool, bool]]


@dataclass(frozen=True, slots=True)
class Denial:
    """A phone that has mail now, and would have none."""

    device: Key
    before: Level
    after: Level


def listed_now(world: World) -> Listed:
    found: Listed = {}
    for mailbox in world.mailboxes.values():
        if mailbox.allowed or mailbox.blocked:
            allowed, blocked = set(map(id_key, mailbox.allowed)), set(map(id_key, mailbox.blocked))
            for key in allowed | blocked:
                found[(mailbox.key, key)] = (key in allowed, key in blocked)
    return found


def listed_after(listed: Listed, changes: Iterable[EntryChange]) -> Listed:
    """A new one; a change takes all that is written of an id from a list, or adds it."""
    found = dict(listed)
    for change in changes:
        allowed, blocked = found.get(change.partnership, (False, False))
        allowed = bool(change.allow_add) or (allowed and not change.allow_remove)
        blocked = bool(change.block_add) or (blocked and not change.block_remove)
        found[change.partnership] = (allowed, blocked)
    return found


def settings_after(settings: ExchangeSettings, command: SettingsCommand) -> ExchangeSettings:
    match command:
        case SetOrganizationSettings():
            return replace(
                settings,
                **{
                    name: value
                    for name in ("default_level", "user_mail_insert", "admin_mail_recipients")
                    if (value := getattr(command, name)) is not None
                },
            )
        case CreateRule(rule=rule):
            return replace(settings, rules=(*settings.rules, rule))
        case SetRuleLevel(rule=rule, level=level):
            return replace(
                settings,
                rules=tuple(replace(known, level=level) if known == rule else known for known in settings.rules),
            )
        case RemoveRule(rule=rule):
            return replace(settings, rules=tuple(known for known in settings.rules if known != rule))


def after_all(settings: ExchangeSettings, commands: Iterable[SettingsCommand]) -> ExchangeSettings:
    for command in commands:
        settings = settings_after(settings, command)
    return settings


def counted(world: World) -> list[EasDevice]:
    """The phones that lists, rules and default decide about; also one whose mailbox is not known, as if no entry named
    it: a default level keeps it out like others."""
    mailboxes = world.mailboxes
    return [
        device
        for device in world.devices
        if (mailbox := mailboxes.get(device.mailbox)) is None or mailbox.activesync_enabled
    ]


def levels(devices: Iterable[EasDevice], listed: Listed, settings: ExchangeSettings) -> dict[Key, Level]:
    judge = Judge(settings.default_level, settings.rules)
    found: dict[Key, Level] = {}
    for device in devices:
        allowed, blocked = listed.get(device.partnership, (False, False))
        found[device.key] = (
            with_entries(allowed=allowed, blocked=blocked, fallback=Level.ALLOW)
            if allowed or blocked
            else judge.without_entries(device).level
        )
    return found


def denials_of(world: World, changes: Sequence[EntryChange], settings: Sequence[SettingsCommand]) -> tuple[Denial, ...]:
    """Who has mail by Exchange's lists, rules and default as they are, and would have none when all is carried out."""
    devices = counted(world)
    if not any(is_about_access(command) for command in settings):
        touched = {key for change in changes for key in change.devices}
        devices = [device for device in devices if device.key in touched]
    now = listed_now(world)
    after = after_all(world.exchange, settings)
    before_levels = levels(devices, now, world.exchange)
    after_levels = levels(devices, listed_after(now, changes), after)
    return tuple(
        Denial(key, level, after_levels[key])
        for key, level in before_levels.items()
        if level is Level.ALLOW and after_levels[key] is not Level.ALLOW
    )


def denied_by(
    world: World, devices: Iterable[EasDevice], settings: Sequence[SettingsCommand]
) -> tuple[SettingsCommand, ...]:
    """The commands, each with those of the phones (which no entry names) that it takes mail from."""
    left = sorted(devices, key=lambda device: str(device.key))
    current = world.exchange
    found: list[SettingsCommand] = []
    for command in settings:
        current = settings_after(current, command)
        judge = Judge(current.default_level, current.rules)
        denied = [device for device in left if judge.without_entries(device).level is not Level.ALLOW]
        if denied:
            left = [device for device in left if judge.without_entries(device).level is Level.ALLOW]
        found.append(replace(command, denies=tuple(device.key for device in denied)))
    return tuple(found)

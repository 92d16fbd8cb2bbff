"""What a plan consists of: typed values, from which act makes cmdlets. Does nothing.

Lists are only ever added to and removed from: a whole list that is written takes away what somebody else just added.
denies: the keys of the phones that had mail and lose it by this command.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from sync.deciding.facts import AccessRule, Key, Level, Partnership

# Stages, in their order: nobody is let in or kept out on the way who is not so before or after.
ALLOWS, BLOCKS, SETTINGS, REMOVALS = 1, 2, 3, 4


@dataclass(frozen=True, slots=True)
class EntryChange:
    """What is to become of one id on a mailbox's lists. devices: who has it; none: an entry that outlived its phone."""

    partnership: Partnership
    identity: str
    devices: tuple[Key, ...] = ()
    allow_add: tuple[str, ...] = ()  # as the phone has it
    allow_remove: tuple[str, ...] = ()  # as it stands on the list
    block_add: tuple[str, ...] = ()
    block_remove: tuple[str, ...] = ()

    @property
    def stage(self) -> int:
        if self.allow_add:
            return ALLOWS
        return BLOCKS if self.block_add else REMOVALS


@dataclass(frozen=True, slots=True)
class SetMailboxEntries:
    """One Set-CASMailbox. identity: the mailbox's, as Exchange is to be told it."""

    stage: int
    mailbox: Key
    identity: str
    allow_add: tuple[str, ...]
    allow_remove: tuple[str, ...]
    block_add: tuple[str, ...]
    block_remove: tuple[str, ...]
    devices: tuple[Key, ...] = ()
    denies: tuple[Key, ...] = ()


@dataclass(frozen=True, slots=True)
class SetOrganizationSettings:
    """None: not changed."""

    default_level: Level | None = None
    user_mail_insert: str | None = None
    admin_mail_recipients: tuple[str, ...] | None = None
    stage: int = SETTINGS
    denies: tuple[Key, ...] = ()


@dataclass(frozen=True, slots=True)
class CreateRule:
    rule: AccessRule
    stage: int = SETTINGS
    denies: tuple[Key, ...] = ()


@dataclass(frozen=True, slots=True)
class SetRuleLevel:
    """rule: as it stands in Exchange, with its identity and its present level."""

    rule: AccessRule
    level: Level
    stage: int = SETTINGS
    denies: tuple[Key, ...] = ()


@dataclass(frozen=True, slots=True)
class RemoveRule:
    """rule: as it stands in Exchange, with its identity."""

    rule: AccessRule
    stage: int = SETTINGS
    denies: tuple[Key, ...] = ()


SettingsCommand: TypeAlias = SetOrganizationSettings | CreateRule | SetRuleLevel | RemoveRule
Command: TypeAlias = SetMailboxEntries | SettingsCommand


def is_about_access(command: SettingsCommand) -> bool:
    """In distinction from mere mail settings, which let nobody in or out."""
    return not isinstance(command, SetOrganizationSettings) or command.default_level is not None

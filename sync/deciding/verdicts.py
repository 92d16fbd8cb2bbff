"""What decide answers with: frozen values and their words. Does nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeAlias

from sync.deciding.facts import Access, PersonalList, Reason, State


class Row(StrEnum):
    """The rows of the decision table, in its order. The value is what is stored: it stays when the order changes."""

    NOT_ACTIVE_SYNC = "notActiveSync"
    OVERRIDE_BLOCK = "overrideBlock"
    OVERRIDE_ALLOW = "overrideAllow"
    ADOPTED = "adopted"
    CONTROL_OFF = "controlOff"
    EXEMPT = "exempt"
    NOT_TARGETED = "notTargeted"
    UNLICENSED = "unlicensed"
    AMBIGUOUS = "ambiguous"
    OTHER_PERSONS = "otherPersons"
    NO_RECORD = "noRecord"
    NOT_REGISTERED = "notRegistered"
    STALE = "stale"
    NOT_COMPLIANT = "notCompliant"
    GRACE_OVER = "graceOver"
    CONFIG_MANAGER = "configManager"
    UNKNOWN_COMPLIANCE = "unknownCompliance"
    PLATFORM_RULE = "platformRule"
    ALWAYS_ALLOWED = "alwaysAllowed"
    COMPLIANT = "compliant"
    GRANDFATHERED = "grandfathered"

    @property
    def number(self) -> int:
        """The row's number in docs/access.md."""
        return _NUMBERS[self.value]


_NUMBERS = {row.value: number for number, row in enumerate(Row, start=1)}


class Hindrance(StrEnum):
    """Why a phone's state will not be what the table wants."""

    FOREIGN_ALLOW = "foreignAllow"  # an allow entry that is not ours, and nobody chose to override
    FOREIGN_BLOCK = "foreignBlock"  # a block entry of that kind
    SHARED_ID = "sharedId"  # another phone of the mailbox has this DeviceId: they share each entry, the stricter wins
    NO_MAILBOX = "noMailbox"  # the mailbox is not known: nothing can be written
    UNSEEN_RULE = "unseenRule"  # a rule on something that no listing shows may decide otherwise: nobody can tell
    ACTIVE_SYNC_OFF = "activeSyncOff"  # for the mailbox: Exchange asks that before any list
    MAILBOX_POLICY = "mailboxPolicy"  # it kept the phone out last; it is asked before any list as well


@dataclass(frozen=True, slots=True)
class Verdict:
    """access: what the table wants. state, reason: what it will come to when the plan has been carried out, at the
    phone's next request; it differs from access only where hindered_by says why. Phones of which the same is said
    share one.

    entry: the list on which an entry of ours is to name the phone; None: none of ours on either list. overrides: lists
    whose foreign entry is to go, by a person's choice. is_off: ActiveSync is off for the mailbox, and the phone gets no
    mail whatever its state; that is what lists, rules and default level say, and what counts once it is on.
    """

    access: Access
    state: State
    reason: Reason
    row: Row
    entry: PersonalList | None = None
    overrides: tuple[PersonalList, ...] = ()
    hindered_by: Hindrance | None = None
    is_off: bool = False

    @property
    def is_denial(self) -> bool:
        """The table itself denies, in distinction from what Exchange's rules or somebody's entry keep out."""
        return self.access in (Access.BLOCK, Access.QUARANTINE)


Param: TypeAlias = str | int | bool | None


@dataclass(frozen=True, slots=True)
class Step:
    """A row that was asked. params: the facts it looked at, JSON-safe, times in ISO 8601; words are made elsewhere."""

    row: Row
    spoke: bool
    params: Mapping[str, Param] = field(default_factory=dict)

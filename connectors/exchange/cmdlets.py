"""The commands we send, as values: a name and checked parameters. Pure; session.py carries them.

What must never happen cannot be written here: an Identity that is null or empty (Exchange answers such a Get- with
ALL objects), a switch sent as false or null, script text. Every value goes out as a typed parameter, never as text
that a server would parse.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

Value: TypeAlias = "str | bool | int | list[str] | dict[str, list[str]] | Null"

# Names as they stand in PowerShell; anything else is a mistake of ours.
_NAME = re.compile(r"[A-Z][A-Za-z]+-[A-Z][A-Za-z]+")
_PARAMETER = re.compile(r"[A-Z][A-Za-z]+")
_IDENTITIES = frozenset({"Identity", "Mailbox"})


class Null(enum.Enum):
    """$null, sent on purpose (it empties a property). Not None, so that a forgotten value is no $null."""

    NULL = "null"


NULL = Null.NULL


class Identity(str):
    """Names exactly one object. Raises ValueError for what would name all of them: empty, blank or a wildcard."""

    __slots__ = ()

    def __new__(cls, text: str) -> Identity:
        if not isinstance(text, str):
            raise TypeError(f"an identity is text, not {type(text).__name__}")
        if not text.strip() or "*" in text:
            raise ValueError("an identity names one object; empty text and wildcards name all")
        return super().__new__(cls, text)


@dataclass(frozen=True, slots=True)
class Command:
    """One cmdlet with its parameters, in the order they are sent. Parameters are in no repr: they may hold names."""

    name: str
    parameters: Mapping[str, Value] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ValueError(f"{self.name!r} is no cmdlet's name")
        for name, value in self.parameters.items():
            if not _PARAMETER.fullmatch(name):
                raise ValueError(f"{name!r} is no parameter's name")
            if name in _IDENTITIES and not isinstance(value, Identity):
                raise TypeError(f"{self.name} -{name} takes an Identity, not {type(value).__name__}")
            if value is None:
                raise TypeError(f"{self.name} -{name} is None; leave it out, or send NULL on purpose")


def switches(**chosen: bool) -> dict[str, Value]:
    """The switches that are on. An off switch is left out: sent as null or false it may count as present."""
    return {name: True for name, is_on in chosen.items() if is_on}


class Family(enum.Enum):
    """What the device cmdlets are called: "Mobile" from Exchange 2013 on, "ActiveSync" in 2010."""

    MOBILE = "MobileDevice"
    ACTIVE_SYNC = "ActiveSyncDevice"


# Whatever the product may ever send; looked for at connect.
HELPERS = ("Select-Object",)
COMMON = (
    "Get-ExchangeServer",
    "Get-OrganizationConfig",
    "Get-ActiveSyncOrganizationSettings",
    "Get-ActiveSyncDeviceAccessRule",
    "Get-ActiveSyncDeviceClass",
    "Get-CASMailbox",
    "Set-CASMailbox",
    "Get-Recipient",
    "Set-ADServerSettings",
)
BY_FAMILY = tuple(
    f"{verb}-{family.value}{noun}" for family in Family for verb, noun in (("Get", ""), ("Get", "Statistics"))
)
PROBED = (*COMMON, *BY_FAMILY, *HELPERS)


def get_command(names: tuple[str, ...]) -> Command:
    """Which of these the account may use (RBAC hides the others)."""
    return Command("Get-Command", {"Name": list(names)})


def set_ad_server_settings() -> Command:
    """Make recipients of every domain of the forest visible; holds for this session only."""
    return Command("Set-ADServerSettings", {"ViewEntireForest": True})


def select_object(properties: tuple[str, ...]) -> Command:
    """As the last command of a pipeline: the server sends these properties alone."""
    return Command("Select-Object", {"Property": list(properties)})


def get_exchange_server() -> Command:
    return Command("Get-ExchangeServer")


def get_organization_config() -> Command:
    return Command("Get-OrganizationConfig")


def get_active_sync_organization_settings() -> Command:
    return Command("Get-ActiveSyncOrganizationSettings")


def get_active_sync_device_access_rules() -> Command:
    return Command("Get-ActiveSyncDeviceAccessRule")


def get_active_sync_device_classes() -> Command:
    return Command("Get-ActiveSyncDeviceClass")


def list_mobile_devices(family: Family, *, filter: str | None = None) -> Command:
    """Every device, or those of an OPATH filter (opath.py). Without ResultSize Exchange would stop at 1000."""
    parameters: dict[str, Value] = {"ResultSize": "Unlimited"}
    if filter is not None:
        if not filter.strip():
            raise ValueError("an empty filter would list every device; leave it out for that")
        parameters["Filter"] = filter
    return Command(f"Get-{family.value}", parameters)


def get_mobile_device(family: Family, identity: Identity) -> Command:
    """One device, by identity, DN or GUID; a DeviceId alone is none of these."""
    return Command(f"Get-{family.value}", {"Identity": identity})


def get_mobile_device_statistics(family: Family, *, mailbox: Identity) -> Command:
    """The devices of one mailbox with their state there. Opens the mailbox, so it is the expensive one."""
    return Command(f"Get-{family.value}Statistics", {"Mailbox": mailbox})


def list_cas_mailboxes(*, filter: str) -> Command:
    return Command("Get-CASMailbox", {"Filter": filter, "ResultSize": "Unlimited"})


def get_cas_mailbox(identity: Identity) -> Command:
    return Command("Get-CASMailbox", {"Identity": identity})


def get_recipient(identity: Identity) -> Command:
    return Command("Get-Recipient", {"Identity": identity})


def set_cas_mailbox(
    identity: Identity,
    *,
    allowed_add: tuple[str, ...] = (),
    allowed_remove: tuple[str, ...] = (),
    blocked_add: tuple[str, ...] = (),
    blocked_remove: tuple[str, ...] = (),
) -> Command:
    """Change a mailbox's personal entries by what is added and removed, never by replacing a list.

    A device that moves from one list to the other does so in one call, since a blocked entry beats an allowed one.
    Raises ValueError when nothing would change.
    """
    parameters: dict[str, Value] = {"Identity": identity}
    for name, added, removed in (
        ("ActiveSyncAllowedDeviceIDs", allowed_add, allowed_remove),
        ("ActiveSyncBlockedDeviceIDs", blocked_add, blocked_remove),
    ):
        change = {key: list(ids) for key, ids in (("Add", added), ("Remove", removed)) if ids}
        if change:
            parameters[name] = change
    if len(parameters) == 1:
        raise ValueError("no entry to add or remove")
    return Command("Set-CASMailbox", {**parameters, "Confirm": False})

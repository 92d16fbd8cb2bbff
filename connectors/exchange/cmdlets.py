"""The commands we send, as values: a name and checked parameters. Pure; session.py carries them.

What must never happen cannot be written here: an Identity that is null or empty (Exchange answers such a Get- with
ALL objects), a switch sent as false or null, script text, a list that is replaced where entries are meant to be added.
Every value goes out as a typed parameter, never as text that a server would parse.

`domain_controller`, wherever it is taken: the one to write to or to read from, "" lets Exchange choose. Writing and
reading back through the same one sees no replication lag.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from connectors.exchange import policies
from connectors.exchange.policies import PolicyValue

Value: TypeAlias = "str | bool | int | list[str] | dict[str, list[str]] | Null"

# Names as they stand in PowerShell; anything else is a mistake of ours.
_NAME = re.compile(r"[A-Z][A-Za-z]+-[A-Z][A-Za-z]+")
_PARAMETER = re.compile(r"[A-Z][A-Za-z]+")
_IDENTITIES = frozenset({"Identity", "Mailbox"})
# What changes nothing in Exchange, besides every Get-: the last one sets what this session sees, and nothing else.
_READING = frozenset({"select-object", "set-adserversettings"})
ACCESS_LEVELS = ("Allow", "Block", "Quarantine")
CHARACTERISTICS = ("DeviceType", "DeviceModel", "DeviceOS", "UserAgent", "XMSWLHeader")
# Exchange counts as .NET does, in units of UTF-16.
MAIL_INSERT_LIMIT = 256


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


def is_reading(name: str) -> bool:
    """Whether a command of that name changes nothing in Exchange. Whatever is not known to is taken to change."""
    return name.lower().startswith("get-") or name.lower() in _READING


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

    @property
    def is_read(self) -> bool:
        """Whether it changes nothing in Exchange."""
        return is_reading(self.name)


def switches(**chosen: bool) -> dict[str, Value]:
    """The switches that are on. An off switch is left out: sent as null or false it may count as present."""
    return {name: True for name, is_on in chosen.items() if is_on}


class Family(enum.Enum):
    """What the device cmdlets are called: "Mobile" from Exchange 2013 on, "ActiveSync" in 2010."""

    MOBILE = "MobileDevice"
    ACTIVE_SYNC = "ActiveSyncDevice"


# What the policy cmdlets are called in each family; the parameters' names differ as well (policies.py).
_POLICY_NOUNS = {Family.MOBILE: "MobileDeviceMailboxPolicy", Family.ACTIVE_SYNC: "ActiveSyncMailboxPolicy"}

# Whatever the product may ever send; looked for at connect.
HELPERS = ("Select-Object",)
COMMON = (
    "Get-ExchangeServer",
    "Get-OrganizationConfig",
    "Get-ActiveSyncOrganizationSettings",
    "Set-ActiveSyncOrganizationSettings",
    "Get-ActiveSyncDeviceAccessRule",
    "New-ActiveSyncDeviceAccessRule",
    "Set-ActiveSyncDeviceAccessRule",
    "Remove-ActiveSyncDeviceAccessRule",
    "Get-ActiveSyncDeviceClass",
    "Get-CASMailbox",
    "Set-CASMailbox",
    "Get-Recipient",
    "Get-User",
    "Set-ADServerSettings",
)


def family_names(family: Family) -> tuple[str, ...]:
    """The commands of one family."""
    device = tuple(f"{verb}-{family.value}" for verb in ("Get", "Clear", "Remove"))
    policy = tuple(f"{verb}-{_POLICY_NOUNS[family]}" for verb in ("Get", "New", "Set", "Remove"))
    return (*device, f"Get-{family.value}Statistics", *policy)


BY_FAMILY = tuple(name for family in Family for name in family_names(family))
PROBED = (*COMMON, *BY_FAMILY, *HELPERS)


def policy_noun(family: Family) -> str:
    """What a mailbox policy is called in this family."""
    return _POLICY_NOUNS[family]


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


def get_active_sync_organization_settings(*, domain_controller: str = "") -> Command:
    return Command("Get-ActiveSyncOrganizationSettings", _at(domain_controller))


def get_active_sync_device_access_rules(*, domain_controller: str = "") -> Command:
    return Command("Get-ActiveSyncDeviceAccessRule", _at(domain_controller))


def get_active_sync_device_classes() -> Command:
    return Command("Get-ActiveSyncDeviceClass")


def get_mailbox_policies(family: Family, *, domain_controller: str = "") -> Command:
    return Command(f"Get-{_POLICY_NOUNS[family]}", _at(domain_controller))


def list_mobile_devices(family: Family, *, filter: str | None = None) -> Command:
    """Every device, or those of an OPATH filter (opath.py). Without ResultSize Exchange would stop at 1000."""
    parameters: dict[str, Value] = {"ResultSize": "Unlimited"}
    if filter is not None:
        if not filter.strip():
            raise ValueError("an empty filter would list every device; leave it out for that")
        parameters["Filter"] = filter
    return Command(f"Get-{family.value}", parameters)


def get_mobile_device(family: Family, identity: Identity, *, domain_controller: str = "") -> Command:
    """One device, by identity, DN or GUID; a DeviceId alone is none of these."""
    return Command(f"Get-{family.value}", {"Identity": identity, **_at(domain_controller)})


def get_mobile_device_statistics(family: Family, *, mailbox: Identity) -> Command:
    """The devices of one mailbox with their state there. Opens the mailbox, so it is the expensive one."""
    return Command(f"Get-{family.value}Statistics", {"Mailbox": mailbox})


def list_cas_mailboxes(*, filter: str) -> Command:
    return Command("Get-CASMailbox", _listed(filter))


def get_cas_mailbox(identity: Identity, *, domain_controller: str = "") -> Command:
    return Command("Get-CASMailbox", {"Identity": identity, **_at(domain_controller)})


def list_recipients(*, filter: str) -> Command:
    return Command("Get-Recipient", _listed(filter))


def get_recipient(identity: Identity) -> Command:
    return Command("Get-Recipient", {"Identity": identity})


def list_users(*, filter: str) -> Command:
    return Command("Get-User", _listed(filter))


def _listed(filter: str) -> dict[str, Value]:
    if not filter.strip():
        raise ValueError("an empty filter would list everybody")
    return {"Filter": filter, "ResultSize": "Unlimited"}


def _at(domain_controller: str) -> dict[str, Value]:
    return {"DomainController": domain_controller} if domain_controller else {}


# What changes something. Confirm is sent as false, since nobody at the other end can answer a question.


def set_cas_mailbox(
    identity: Identity,
    *,
    allowed_add: tuple[str, ...] = (),
    allowed_remove: tuple[str, ...] = (),
    blocked_add: tuple[str, ...] = (),
    blocked_remove: tuple[str, ...] = (),
    domain_controller: str = "",
) -> Command:
    """Change a mailbox's personal entries by what is added and removed, never by replacing a list.

    A device that moves from one list to the other does so in one call, since a blocked entry beats an allowed one.
    Raises ValueError when nothing would change, and for an id that is empty.
    """
    parameters: dict[str, Value] = {"Identity": identity}
    for name, added, removed in (
        ("ActiveSyncAllowedDeviceIDs", allowed_add, allowed_remove),
        ("ActiveSyncBlockedDeviceIDs", blocked_add, blocked_remove),
    ):
        if change := _change(added, removed):
            parameters[name] = change
    if len(parameters) == 1:
        raise ValueError("no entry to add or remove")
    return Command("Set-CASMailbox", {**parameters, **_at(domain_controller), "Confirm": False})


def _change(added: tuple[str, ...], removed: tuple[str, ...]) -> dict[str, list[str]]:
    if not all(entry.strip() for entry in (*added, *removed)):
        raise ValueError("an entry without text")
    return {key: list(entries) for key, entries in (("Add", added), ("Remove", removed)) if entries}


def assign_mailbox_policy(identity: Identity, policy: Identity | None, *, domain_controller: str = "") -> Command:
    """Give a mailbox a policy of its own; None: the organisation's default again."""
    value: Value = NULL if policy is None else policy
    return Command(
        "Set-CASMailbox",
        {"Identity": identity, "ActiveSyncMailboxPolicy": value, **_at(domain_controller), "Confirm": False},
    )


def set_active_sync_organization_settings(
    *,
    default_access_level: str = "",
    user_mail_insert: str | None = None,
    admin_recipients_add: tuple[str, ...] = (),
    admin_recipients_remove: tuple[str, ...] = (),
    admin_recipients: tuple[str, ...] | None = None,
    domain_controller: str = "",
) -> Command:
    """Change the organisation's settings; what is not named stays. `user_mail_insert` "" and `admin_recipients` ()
    empty theirs; `admin_recipients` replaces the list and excludes adding and removing.

    Raises ValueError when nothing would change, for no access level, and for a text above 256 characters.
    """
    parameters: dict[str, Value] = {}
    if default_access_level:
        parameters["DefaultAccessLevel"] = _one_of(default_access_level, ACCESS_LEVELS)
    if user_mail_insert is not None:
        if len(user_mail_insert.encode("utf-16-le", "surrogatepass")) // 2 > MAIL_INSERT_LIMIT:
            raise ValueError(f"the text for the mail has more than {MAIL_INSERT_LIMIT} characters")
        parameters["UserMailInsert"] = user_mail_insert or NULL
    change = _change(admin_recipients_add, admin_recipients_remove)
    if change and admin_recipients is not None:
        raise ValueError("a list is replaced, or changed by entries, not both")
    if change:
        parameters["AdminMailRecipients"] = change
    elif admin_recipients is not None:
        parameters["AdminMailRecipients"] = list(admin_recipients) or NULL
    if not parameters:
        raise ValueError("no setting to change")
    return Command("Set-ActiveSyncOrganizationSettings", {**parameters, **_at(domain_controller), "Confirm": False})


def new_active_sync_device_access_rule(
    *, characteristic: str, query_string: str, access_level: str, domain_controller: str = ""
) -> Command:
    """`query_string` is compared whole: Exchange knows no wildcards here. Raises ValueError."""
    if not query_string.strip():
        raise ValueError("a rule needs a text to look for")
    return Command(
        "New-ActiveSyncDeviceAccessRule",
        {
            "Characteristic": _one_of(characteristic, CHARACTERISTICS),
            "QueryString": query_string,
            "AccessLevel": _one_of(access_level, ACCESS_LEVELS),
            **_at(domain_controller),
            "Confirm": False,
        },
    )


def set_active_sync_device_access_rule(
    identity: Identity, *, access_level: str, domain_controller: str = ""
) -> Command:
    """The level is all that can be changed of a rule. Raises ValueError."""
    level = _one_of(access_level, ACCESS_LEVELS)
    return Command(
        "Set-ActiveSyncDeviceAccessRule",
        {"Identity": identity, "AccessLevel": level, **_at(domain_controller), "Confirm": False},
    )


def remove_active_sync_device_access_rule(identity: Identity, *, domain_controller: str = "") -> Command:
    return Command(
        "Remove-ActiveSyncDeviceAccessRule", {"Identity": identity, **_at(domain_controller), "Confirm": False}
    )


def _one_of(value: str, allowed: tuple[str, ...]) -> str:
    if value not in allowed:
        raise ValueError(f"{value!r} is none of {', '.join(allowed)}")
    return value


def clear_mobile_device(
    family: Family,
    identity: Identity,
    *,
    account_only: bool = False,
    cancel: bool = False,
    notify: tuple[str, ...] = (),
    domain_controller: str = "",
) -> Command:
    """Have a device wiped at its next request; or, with `cancel`, take back an order it has not carried out.

    account_only: the account's data alone, from Exchange 2016 on and under the Mobile name only. notify: addresses
    that are told when it is done. Raises ValueError for what does not go together.
    """
    if account_only and family is not Family.MOBILE:
        raise ValueError("this version of Exchange cannot wipe the account alone")
    if cancel and notify:
        raise ValueError("nobody is told of an order that is taken back")
    parameters: dict[str, Value] = {"Identity": identity, **switches(AccountOnly=account_only, Cancel=cancel)}
    if notify:
        parameters["NotificationEmailAddresses"] = list(notify)
    return Command(f"Clear-{family.value}", {**parameters, **_at(domain_controller), "Confirm": False})


def remove_mobile_device(family: Family, identity: Identity, *, domain_controller: str = "") -> Command:
    """Delete a partnership. No wipe, and the mailbox's personal entries keep the id."""
    return Command(f"Remove-{family.value}", {"Identity": identity, **_at(domain_controller), "Confirm": False})


def new_mailbox_policy(
    family: Family,
    name: str,
    settings: Mapping[str, PolicyValue],
    *,
    is_default: bool = False,
    domain_controller: str = "",
) -> Command:
    """`settings` by our names (policies.py). Raises ValueError for unknown names and values of another kind."""
    if not name.strip():
        raise ValueError("a policy needs a name")
    return Command(
        f"New-{_POLICY_NOUNS[family]}",
        {"Name": name, **_settings(family, settings, is_default), **_at(domain_controller), "Confirm": False},
    )


def set_mailbox_policy(
    family: Family,
    identity: Identity,
    settings: Mapping[str, PolicyValue],
    *,
    name: str = "",
    make_default: bool = False,
    domain_controller: str = "",
) -> Command:
    """Change what is named. `name` renames it. Another policy becomes the default by making that one so. Raises
    ValueError, also when nothing would change."""
    parameters = {**({"Name": name} if name.strip() else {}), **_settings(family, settings, make_default)}
    if not parameters:
        raise ValueError("no setting to change")
    return Command(
        f"Set-{_POLICY_NOUNS[family]}",
        {"Identity": identity, **parameters, **_at(domain_controller), "Confirm": False},
    )


def remove_mailbox_policy(
    family: Family, identity: Identity, *, force: bool = False, domain_controller: str = ""
) -> Command:
    """`force`: also when it is the default."""
    return Command(
        f"Remove-{_POLICY_NOUNS[family]}",
        {"Identity": identity, **switches(Force=force), **_at(domain_controller), "Confirm": False},
    )


def _settings(family: Family, settings: Mapping[str, PolicyValue], is_default: bool) -> dict[str, Value]:
    is_active_sync = family is Family.ACTIVE_SYNC
    parameters: dict[str, Value] = {}
    for name, value in settings.items():
        policies.checked(name, value)
        sent: Value = (list(value) or NULL) if isinstance(value, tuple) else value
        parameters[policies.remote_name(name, is_active_sync=is_active_sync)] = sent
    if is_default:
        # The ActiveSync cmdlets have this name in all versions; IsDefault came to them with 2013.
        parameters["IsDefaultPolicy" if is_active_sync else "IsDefault"] = True
    return parameters

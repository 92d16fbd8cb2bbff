"""CAS mailboxes, mailboxes, users and recipients."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

from lab.exchange.cmdlets.directory import DIRECTORY, ROOTS, UNCHANGED
from lab.exchange.cmdlets.listing import changed_list, filtering, limited, ordered, within
from lab.exchange.cmdlets.registry import Context, Item, cmdlet
from lab.exchange.contract import Output
from lab.exchange.objects import Mailbox
from lab.exchange.render import LocalTime, Multi, ObjectId
from lab.exchange.store import Store

Properties = Callable[[Store, Mailbox], list[tuple[str, Any]]]

_MANAGEMENT = f"{DIRECTORY}.Management"
_TASKS = "Microsoft.Exchange.Management.RecipientTasks"
_LISTING = (
    "Identity:id Anr Filter OrganizationalUnit ResultSize:size SortBy Credential:any DomainController "
    "ReadFromDomainController:switch IgnoreDefaultScope:switch"
)
_FILTERABLE = frozenset({
    "ActiveSyncAllowedDeviceIDs", "ActiveSyncBlockedDeviceIDs", "ActiveSyncEnabled", "ActiveSyncMailboxPolicy", "Alias",
    "DisplayName", "DistinguishedName", "EmailAddresses", "Guid", "HasActiveSyncDevicePartnership", "Name",
    "PrimarySmtpAddress", "RecipientType", "RecipientTypeDetails", "SamAccountName", "UserPrincipalName",
    "WhenChangedUTC",
})  # fmt: skip
_OR = re.compile(r"\s+-or\s+", re.IGNORECASE)
_ONE = re.compile(r"\(?\s*(?:Guid|DistinguishedName)\s+-eq\s+'((?:[^']|'')+)'\s*\)?", re.IGNORECASE)
# Set-CASMailbox switches each of these; the lab only remembers them.
_PROTOCOLS = ("ECPEnabled", "ImapEnabled", "MAPIEnabled", "OWAEnabled", "PopEnabled", "ActiveSyncSuppressReadReceipt")


def _common(store: Store, mailbox: Mailbox) -> list[tuple[str, Any]]:
    addresses = (f"SMTP:{mailbox.smtp}", *(f"smtp:{alias}" for alias in mailbox.aliases))
    return [
        ("Name", mailbox.cn),
        ("DisplayName", mailbox.display_name),
        ("Alias", mailbox.sam),
        ("SamAccountName", mailbox.sam),
        ("PrimarySmtpAddress", mailbox.smtp),
        ("EmailAddresses", Multi(addresses, "proxy")),
        ("DistinguishedName", mailbox.dn),
        ("Identity", ObjectId(mailbox.canonical, mailbox.dn, mailbox.guid)),
        ("Guid", mailbox.guid),
        ("OrganizationId", ""),
        ("OrganizationalUnit", f"{mailbox.domain}/Users"),
        ("ExchangeVersion", store.version.exchange_version),
        ("WhenChanged", LocalTime(mailbox.changed)),
        ("WhenCreated", LocalTime(mailbox.created)),
        ("WhenChangedUTC", mailbox.changed),
        ("WhenCreatedUTC", mailbox.created),
        ("Id", ObjectId(mailbox.canonical, mailbox.dn, mailbox.guid)),
        ("OriginatingServer", f"dc01.{store.domain}"),
        ("IsValid", True),
        ("ObjectState", UNCHANGED),
    ]


def _has_partnership(store: Store, mailbox: Mailbox) -> bool:
    """ActiveSync alone counts: who has only Outlook for mobile is said not to have one."""
    return any(device.client_type == "EAS" for device in store.devices_of(mailbox))


def _cas(store: Store, mailbox: Mailbox) -> list[tuple[str, Any]]:
    group = f"/o={store.name}/ou=Exchange Administrative Group (FYDIBOHF23SPDLT)"
    server = store.servers[0].name if store.servers else ""
    protocols = {name: name != "ActiveSyncSuppressReadReceipt" for name in _PROTOCOLS} | mailbox.protocols
    return [
        ("ActiveSyncAllowedDeviceIDs", list(mailbox.allowed)),
        ("ActiveSyncBlockedDeviceIDs", list(mailbox.blocked)),
        # Null: the organisation's default applies.
        ("ActiveSyncMailboxPolicy", None if mailbox.policy is None else ObjectId(mailbox.policy)),
        ("ActiveSyncMailboxPolicyIsDefaulted", mailbox.policy is None),
        ("ActiveSyncDebugLogging", mailbox.debug_logging),
        ("ActiveSyncEnabled", mailbox.active_sync_enabled),
        ("HasActiveSyncDevicePartnership", _has_partnership(store, mailbox)),
        *protocols.items(),
        ("EwsEnabled", None),
        ("ServerLegacyDN", f"{group}/cn=Configuration/cn=Servers/cn={server}"),
        ("LegacyExchangeDN", f"{group}/cn=Recipients/cn={mailbox.sam}"),
        *_common(store, mailbox),
    ]


def _user(store: Store, mailbox: Mailbox) -> list[tuple[str, Any]]:
    return [
        ("UserPrincipalName", mailbox.upn),
        ("Sid", mailbox.sid),
        ("RecipientType", "UserMailbox"),
        ("RecipientTypeDetails", "UserMailbox"),
        ("RemotePowerShellEnabled", True),
        *_common(store, mailbox),
    ]


def _recipient(store: Store, mailbox: Mailbox) -> list[tuple[str, Any]]:
    return [
        ("RecipientType", "UserMailbox"),
        ("RecipientTypeDetails", "UserMailbox"),
        ("HasActiveSyncDevicePartnership", _has_partnership(store, mailbox)),
        ("ExternalDirectoryObjectId", ""),
        ("WindowsLiveID", ""),
        *_common(store, mailbox),
    ]


def _list(
    context: Context, arguments: dict[str, Any], type_name: str, properties: Properties
) -> Iterator[Item | Output]:
    store = context.store
    types = (f"{_MANAGEMENT}.{type_name}", f"{_MANAGEMENT}.ADPresentationObject", *ROOTS)

    def item(mailbox: Mailbox) -> Item:
        return Item(types, mailbox.cn, lambda: properties(store, mailbox))

    if arguments.get("Identity") is not None:
        return iter([item(_one(context, arguments))])
    kinds = [*(arguments.get("RecipientType") or ()), *(arguments.get("RecipientTypeDetails") or ())]
    if any(str(kind).lower() != "usermailbox" for kind in kinds):
        return iter(())  # there are no others here
    fits = _condition(context, arguments, properties)
    with store.lock:
        mailboxes = [mailbox for mailbox in _candidates(store, arguments.get("Filter")) if fits(mailbox)]
    sortable = frozenset({"Name", "DisplayName", "ServerLegacyDN", "Alias"})
    names = {"Name": "cn", "DisplayName": "display_name", "Alias": "sam", "ServerLegacyDN": "domain"}
    in_order = ordered(
        context, mailboxes, arguments.get("SortBy"), sortable, lambda mailbox, name: getattr(mailbox, names[name])
    )
    return limited(arguments, (item(mailbox) for mailbox in in_order))


def _one(context: Context, arguments: dict[str, Any]) -> Mailbox:
    identity = arguments["Identity"]
    if not arguments.get("IgnoreDefaultScope"):
        return context.mailbox(identity)
    if not identity.lower().startswith("cn=") or "DomainController" in arguments:
        raise context.invalid("IgnoreDefaultScope takes a distinguished name as Identity, and no DomainController.")
    return context.mailbox(identity, any_domain=True)


def _candidates(store: Store, text: str | None) -> list[Mailbox]:
    """Those that can fit a filter: a directory finds objects by GUID and name without looking at all of them."""
    wanted = [_ONE.fullmatch(part) for part in _OR.split(text or "")]
    if not all(wanted):
        return list(store.mailboxes.values())
    found = [store.find_mailbox(match[1].replace("''", "'")) for match in wanted if match]
    return [mailbox for mailbox in dict.fromkeys(found) if mailbox is not None]


def _condition(context: Context, arguments: dict[str, Any], properties: Properties) -> Callable[[Mailbox], bool]:
    predicate = filtering(context, arguments.get("Filter"), _FILTERABLE)
    is_within = within(context, arguments.get("OrganizationalUnit"))
    anr = str(arguments.get("Anr") or "").lower()

    def fits(mailbox: Mailbox) -> bool:
        if not context.sees(mailbox.domain) or not is_within(mailbox):
            return False
        if anr and not any(
            part.lower().startswith(anr) for part in (mailbox.sam, mailbox.display_name, mailbox.smtp, mailbox.cn)
        ):
            return False
        if predicate is None:
            return True
        return predicate(lambda name: value(mailbox, name))

    def value(mailbox: Mailbox, name: str) -> Any:
        if name in _QUICK:
            return _QUICK[name](context.store, mailbox)
        return next((_plain(found) for known, found in properties(context.store, mailbox) if known == name), None)

    return fits


# Filtered on in large organisations, without making all properties of every mailbox.
_QUICK: dict[str, Callable[[Store, Mailbox], Any]] = {
    "Guid": lambda store, mailbox: mailbox.guid,
    "DistinguishedName": lambda store, mailbox: mailbox.dn,
    "RecipientType": lambda store, mailbox: "UserMailbox",
    "RecipientTypeDetails": lambda store, mailbox: "UserMailbox",
    "UserPrincipalName": lambda store, mailbox: mailbox.upn,
    "ActiveSyncAllowedDeviceIDs": lambda store, mailbox: mailbox.allowed,
    "ActiveSyncBlockedDeviceIDs": lambda store, mailbox: mailbox.blocked,
    "ActiveSyncEnabled": lambda store, mailbox: mailbox.active_sync_enabled,
    "ActiveSyncMailboxPolicy": lambda store, mailbox: mailbox.policy,
    "HasActiveSyncDevicePartnership": lambda store, mailbox: _has_partnership(store, mailbox),
}


def _plain(value: Any) -> Any:
    if isinstance(value, Multi):
        return list(value.items)
    return value.text if isinstance(value, ObjectId) else value


@cmdlet(
    "Get-CASMailbox",
    parameters=f"{_LISTING} ActiveSyncDebugLogging:switch ProtocolSettings:switch "
    "RecalculateHasActiveSyncDevicePartnership:switch@2013 Monitoring:switch@2013",
    class_name=f"{_TASKS}.GetCASMailbox",
)
def get_cas_mailbox(context: Context, arguments: dict[str, Any]) -> Iterator[Item | Output]:
    return _list(context, arguments, "CASMailbox", _cas)


@cmdlet(
    "Get-Mailbox",
    parameters=f"{_LISTING} Database Server RecipientTypeDetails:strings",
    class_name=f"{_TASKS}.GetMailbox",
)
def get_mailbox(context: Context, arguments: dict[str, Any]) -> Iterator[Item | Output]:
    return _list(context, arguments, "Mailbox", _user)


@cmdlet("Get-User", parameters=f"{_LISTING} RecipientTypeDetails:strings", class_name=f"{_TASKS}.GetUser")
def get_user(context: Context, arguments: dict[str, Any]) -> Iterator[Item | Output]:
    return _list(context, arguments, "User", _user)


@cmdlet(
    "Get-Recipient",
    parameters=f"{_LISTING} RecipientType:strings RecipientTypeDetails:strings Database@2013",
    class_name=f"{_TASKS}.GetRecipient",
)
def get_recipient(context: Context, arguments: dict[str, Any]) -> Iterator[Item | Output]:
    return _list(context, arguments, "ReducedRecipient", _recipient)


@cmdlet(
    "Set-CASMailbox",
    parameters="Identity:id ActiveSyncAllowedDeviceIDs:strings ActiveSyncBlockedDeviceIDs:strings "
    "ActiveSyncEnabled:bool ActiveSyncMailboxPolicy:id ActiveSyncDebugLogging:bool DisplayName DomainController "
    "ResetAutoBlockedDevices:switch@2013 HasActiveSyncDevicePartnership:bool@0-2010 IgnoreDefaultScope:switch "
    + " ".join(f"{name}:bool" for name in _PROTOCOLS),
    class_name=f"{_TASKS}.SetCASMailbox",
    required="Identity",
)
def set_cas_mailbox(context: Context, arguments: dict[str, Any]) -> Iterator[Item | Output]:
    mailbox = _one(context, arguments)
    policy = arguments.get("ActiveSyncMailboxPolicy")
    if policy is not None:
        wanted = policy.lower()
        known = next((one.name for one in context.store.policies if wanted in (one.name.lower(), str(one.guid))), None)
        if known is None:
            raise context.not_found(policy)
        policy = known
    with context.store.lock:
        before = _settings(mailbox)
        if "ActiveSyncAllowedDeviceIDs" in arguments:
            mailbox.allowed = changed_list(mailbox.allowed, arguments["ActiveSyncAllowedDeviceIDs"])
        if "ActiveSyncBlockedDeviceIDs" in arguments:
            mailbox.blocked = changed_list(mailbox.blocked, arguments["ActiveSyncBlockedDeviceIDs"])
        mailbox.active_sync_enabled = arguments.get("ActiveSyncEnabled", mailbox.active_sync_enabled)
        mailbox.debug_logging = arguments.get("ActiveSyncDebugLogging", mailbox.debug_logging)
        mailbox.display_name = arguments.get("DisplayName") or mailbox.display_name
        mailbox.protocols |= {name: arguments[name] for name in _PROTOCOLS if name in arguments}
        if "ActiveSyncMailboxPolicy" in arguments:
            mailbox.policy = policy
        if _settings(mailbox) == before and not arguments.get("ResetAutoBlockedDevices"):
            context.unchanged(mailbox.canonical)
        else:
            mailbox.changed = context.store.now()
    return iter(())


def _settings(mailbox: Mailbox) -> tuple[Any, ...]:
    return (
        list(mailbox.allowed), list(mailbox.blocked), mailbox.active_sync_enabled, mailbox.policy,
        mailbox.debug_logging, mailbox.display_name, dict(mailbox.protocols),
    )  # fmt: skip

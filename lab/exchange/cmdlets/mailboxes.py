"""CAS mailboxes, mailboxes, users and recipients."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from lab.exchange.cmdlets.devices import find_mailbox
from lab.exchange.cmdlets.registry import Context, Item, cmdlet, limited
from lab.exchange.cmdlets.registry import change_list as changed
from lab.exchange.contract import Output
from lab.exchange.opath import OpathError, compile_filter
from lab.exchange.render import LocalTime, ObjectId
from lab.exchange.store import Mailbox, Store

_MANAGEMENT = "Microsoft.Exchange.Data.Directory.Management"
_BASES = (f"{_MANAGEMENT}.ADPresentationObject", "Microsoft.Exchange.Data.Directory.ADObject", "System.Object")
_LISTING = "Identity Anr Filter OrganizationalUnit ResultSize:size SortBy Credential:any DomainController ReadFromDomainController:switch IgnoreDefaultScope:switch"

_FILTERABLE = frozenset({
    "ActiveSyncAllowedDeviceIDs", "ActiveSyncBlockedDeviceIDs", "ActiveSyncEnabled", "ActiveSyncMailboxPolicy", "Alias",
    "DisplayName", "DistinguishedName", "EmailAddresses", "Guid", "HasActiveSyncDevicePartnership", "Name",
    "PrimarySmtpAddress", "RecipientType", "RecipientTypeDetails", "SamAccountName", "UserPrincipalName", "WhenChangedUTC",
})  # fmt: skip


def _addresses(mailbox: Mailbox) -> list[str]:
    return [f"SMTP:{mailbox.smtp}", *(f"smtp:{alias}" for alias in mailbox.aliases)]


def _common(store: Store, mailbox: Mailbox) -> list[tuple[str, Any]]:
    return [
        ("Name", mailbox.display_name),
        ("DisplayName", mailbox.display_name),
        ("Alias", mailbox.sam),
        ("SamAccountName", mailbox.sam),
        ("PrimarySmtpAddress", mailbox.smtp),
        ("EmailAddresses", _addresses(mailbox)),
        ("DistinguishedName", mailbox.dn),
        ("Identity", ObjectId(mailbox.canonical, mailbox.dn)),
        ("Guid", mailbox.guid),
        ("OrganizationId", ""),
        ("ExchangeVersion", store.version.exchange_version),
        ("WhenChanged", LocalTime(mailbox.changed)),
        ("WhenChangedUTC", mailbox.changed),
        ("OriginatingServer", f"dc01.{store.domain}"),
        ("IsValid", True),
        ("ObjectState", "Unchanged"),
    ]


def _cas(store: Store, mailbox: Mailbox) -> list[tuple[str, Any]]:
    default = next(policy.name for policy in store.policies if policy.is_default)
    return [
        ("ActiveSyncAllowedDeviceIDs", list(mailbox.allowed)),
        ("ActiveSyncBlockedDeviceIDs", list(mailbox.blocked)),
        ("ActiveSyncMailboxPolicy", ObjectId(mailbox.policy or default)),
        ("ActiveSyncMailboxPolicyIsDefaulted", mailbox.policy is None),
        ("ActiveSyncDebugLogging", False),
        ("ActiveSyncEnabled", mailbox.active_sync_enabled),
        ("ActiveSyncSuppressReadReceipt", False),
        ("HasActiveSyncDevicePartnership", bool(store.devices_of(mailbox))),
        ("ECPEnabled", True),
        ("OWAEnabled", True),
        ("PopEnabled", True),
        ("ImapEnabled", True),
        ("MAPIEnabled", True),
        ("EwsEnabled", None),
        (
            "ServerLegacyDN",
            f"/o={store.name}/ou=Exchange Administrative Group (FYDIBOHF23SPDLT)/cn=Configuration/cn=Servers",
        ),
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
        ("HasActiveSyncDevicePartnership", bool(store.devices_of(mailbox))),
        ("ExternalDirectoryObjectId", ""),
        ("WindowsLiveID", ""),
        *_common(store, mailbox),
    ]


def _list(context: Context, arguments: dict[str, Any], type_name: str, properties: Any) -> Iterator[Item | Output]:
    store = context.store

    def item(mailbox: Mailbox) -> Item:
        return Item((f"{_MANAGEMENT}.{type_name}", *_BASES), mailbox.display_name, lambda: properties(store, mailbox))

    if arguments.get("Identity") is not None:
        return iter([item(find_mailbox(context, arguments["Identity"]))])
    with store.lock:
        mailboxes: Iterable[Mailbox] = list(store.mailboxes.values())
    text = arguments.get("Filter")
    try:
        predicate = compile_filter(text, _FILTERABLE) if text else None
    except OpathError as error:
        raise context.invalid(str(error), "Microsoft.Exchange.Data.ParsingException") from error
    anr = str(arguments.get("Anr") or "").lower()

    def fits(mailbox: Mailbox) -> bool:
        if not context.sees(mailbox.domain):
            return False
        if anr and not any(part.startswith(anr) for part in (mailbox.sam, mailbox.display_name.lower(), mailbox.smtp)):
            return False
        if predicate is None:
            return True
        values = dict(properties(store, mailbox)) | {"RecipientType": "UserMailbox", "UserPrincipalName": mailbox.upn}
        return bool(predicate(lambda name: _plain(values.get(name))))

    return limited(context, arguments, (item(mailbox) for mailbox in mailboxes if fits(mailbox)))


def _plain(value: Any) -> Any:
    return value.text if isinstance(value, ObjectId) else value


@cmdlet(
    "Get-CASMailbox",
    parameters=f"{_LISTING} ActiveSyncDebugLogging:switch ProtocolSettings:switch RecalculateHasActiveSyncDevicePartnership:switch@2013 Monitoring:switch@2013",
    class_name="Microsoft.Exchange.Management.RecipientTasks.GetCASMailbox",
)
def get_cas_mailbox(context: Context, arguments: dict[str, Any]) -> Iterator[Item | Output]:
    return _list(context, arguments, "CASMailbox", _cas)


@cmdlet(
    "Get-Mailbox",
    parameters=f"{_LISTING} Database Server RecipientTypeDetails:strings",
    class_name="Microsoft.Exchange.Management.RecipientTasks.GetMailbox",
)
def get_mailbox(context: Context, arguments: dict[str, Any]) -> Iterator[Item | Output]:
    return _list(context, arguments, "Mailbox", _user)


@cmdlet(
    "Get-User",
    parameters=f"{_LISTING} RecipientTypeDetails:strings",
    class_name="Microsoft.Exchange.Management.RecipientTasks.GetUser",
)
def get_user(context: Context, arguments: dict[str, Any]) -> Iterator[Item | Output]:
    return _list(context, arguments, "User", _user)


@cmdlet(
    "Get-Recipient",
    parameters=f"{_LISTING} RecipientType:strings RecipientTypeDetails:strings Database@2013",
    class_name="Microsoft.Exchange.Management.RecipientTasks.GetRecipient",
)
def get_recipient(context: Context, arguments: dict[str, Any]) -> Iterator[Item | Output]:
    return _list(context, arguments, "ReducedRecipient", _recipient)


@cmdlet(
    "Set-CASMailbox",
    parameters="Identity ActiveSyncAllowedDeviceIDs:strings ActiveSyncBlockedDeviceIDs:strings ActiveSyncEnabled:bool "
    "ActiveSyncMailboxPolicy ActiveSyncDebugLogging:bool ActiveSyncSuppressReadReceipt:bool DisplayName DomainController "
    "ResetAutoBlockedDevices:switch@2013 IgnoreDefaultScope:switch",
    class_name="Microsoft.Exchange.Management.RecipientTasks.SetCASMailbox",
    required="Identity",
)
def set_cas_mailbox(context: Context, arguments: dict[str, Any]) -> Iterator[Item | Output]:
    mailbox = find_mailbox(context, str(arguments["Identity"]))
    store = context.store
    policy = arguments.get("ActiveSyncMailboxPolicy")
    if policy is not None and policy.lower() not in (known.name.lower() for known in store.policies):
        raise context.not_found(policy)
    with store.lock:
        before = (list(mailbox.allowed), list(mailbox.blocked), mailbox.active_sync_enabled, mailbox.policy)
        if "ActiveSyncAllowedDeviceIDs" in arguments:
            mailbox.allowed = changed(mailbox.allowed, arguments["ActiveSyncAllowedDeviceIDs"])
        if "ActiveSyncBlockedDeviceIDs" in arguments:
            mailbox.blocked = changed(mailbox.blocked, arguments["ActiveSyncBlockedDeviceIDs"])
        if "ActiveSyncEnabled" in arguments:
            mailbox.active_sync_enabled = bool(arguments["ActiveSyncEnabled"])
        if "ActiveSyncMailboxPolicy" in arguments:
            mailbox.policy = policy
        if (mailbox.allowed, mailbox.blocked, mailbox.active_sync_enabled, mailbox.policy) == before:
            context.unchanged(mailbox.canonical)
        else:
            mailbox.changed = store.now()
    return iter(())

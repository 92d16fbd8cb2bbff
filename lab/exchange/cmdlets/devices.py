"""Get-, Clear- and Remove-MobileDevice with their ActiveSync names, and the statistics."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Iterator
from typing import Any

from lab.exchange.cmdlets.registry import Context, Item, cmdlet, limited
from lab.exchange.contract import Output, Warn
from lab.exchange.opath import OpathError, compile_filter
from lab.exchange.render import Enum, LocalTime, ObjectId
from lab.exchange.store import Device, Mailbox, Store

_DIRECTORY = "Microsoft.Exchange.Data.Directory"
_CONFIGURATION = f"{_DIRECTORY}.SystemConfiguration"
_MOBILE_TYPES = (
    f"{_CONFIGURATION}.MobileDevice",
    f"{_DIRECTORY}.ADConfigurationObject",
    f"{_DIRECTORY}.ADObject",
    f"{_DIRECTORY}.ADRawEntry",
    "Microsoft.Exchange.Data.ConfigurableObject",
    "System.Object",
)
_ACTIVE_SYNC_TYPES = (f"{_CONFIGURATION}.ActiveSyncDevice", *_MOBILE_TYPES)
_STATISTICS_TYPES = ("Microsoft.Exchange.Management.Tasks.MobileDeviceConfiguration", "System.Object")

_STATES = {"Unknown": 0, "Allowed": 1, "Blocked": 2, "Quarantined": 3, "DeviceDiscovery": 4}
_REASONS = {"Unknown": 0, "Global": 1, "Individual": 2, "DeviceRule": 3, "Upgrade": 4, "Policy": 5}
_CLIENTS = {"EAS": 1, "MOWA": 2, "REST": 3, "Outlook": 4}

FILTERABLE = frozenset({
    "ClientType", "DeviceAccessControlRule", "DeviceAccessState", "DeviceAccessStateReason", "DeviceActiveSyncVersion",
    "DeviceId", "DeviceImei", "DeviceMobileOperator", "DeviceModel", "DeviceOS", "DeviceOSLanguage",
    "DeviceTelephoneNumber", "DeviceType", "DeviceUserAgent", "FirstSyncTime", "FriendlyName", "ProvisioningFlags",
    "UserDisplayName",
})  # fmt: skip
_FIELD_OF = {
    "ClientType": "client_type", "DeviceAccessControlRule": "rule", "DeviceAccessState": "state",
    "DeviceAccessStateReason": "reason", "DeviceActiveSyncVersion": "client_version", "DeviceId": "device_id",
    "DeviceImei": "imei", "DeviceMobileOperator": "operator", "DeviceModel": "model", "DeviceOS": "os",
    "DeviceOSLanguage": "os_language", "DeviceTelephoneNumber": "phone_number", "DeviceType": "device_type",
    "DeviceUserAgent": "user_agent", "FirstSyncTime": "first_sync", "FriendlyName": "friendly_name",
}  # fmt: skip


def _enum(kind: str, label: str, numbers: dict[str, int]) -> Enum:
    return Enum(f"{_CONFIGURATION}.{kind}", label, numbers.get(label, 99))


def _rule(store: Store, name: str | None) -> ObjectId | None:
    return None if name is None else ObjectId(name, f"CN={name},CN=Mobile Mailbox Settings,CN={store.name}")


def _access(store: Store, device: Device) -> list[tuple[str, Any]]:
    return [
        ("DeviceAccessState", _enum("DeviceAccessState", device.state, _STATES)),
        ("DeviceAccessStateReason", _enum("DeviceAccessStateReason", device.reason, _REASONS)),
        ("DeviceAccessControlRule", _rule(store, device.rule)),
    ]


def device_properties(store: Store, device: Device, *, is_active_sync: bool) -> list[tuple[str, Any]]:
    """The properties of a device object, in the order they are sent."""
    identity = store.identity_of(device)
    newer = store.version.rank >= 2013
    properties: list[tuple[str, Any]] = [
        ("FriendlyName", device.friendly_name),
        ("DeviceId", device.device_id),
        ("DeviceImei", device.imei),
        ("DeviceMobileOperator", device.operator),
        ("DeviceOS", device.os),
        ("DeviceOSLanguage", device.os_language),
        ("DeviceTelephoneNumber", device.phone_number),
        ("DeviceType", device.device_type),
        ("DeviceUserAgent", device.user_agent),
        ("DeviceModel", device.model),
        ("FirstSyncTime", device.first_sync),
        ("UserDisplayName", device.mailbox.canonical),
        *_access(store, device),
    ]
    if newer:
        properties += [
            ("ClientVersion", device.client_version),
            (
                "ClientType",
                Enum(f"{_CONFIGURATION}.MobileClientType", device.client_type, _CLIENTS.get(device.client_type, 0)),
            ),
        ]
    if store.version.rank >= 2016:
        properties += [("IsManaged", False), ("IsCompliant", False), ("IsDisabled", False)]
    if is_active_sync or not newer:
        properties.append(("DeviceActiveSyncVersion", device.client_version))
    return properties + _directory(store, device, identity)


def _directory(store: Store, device: Device, identity: str) -> list[tuple[str, Any]]:
    """What every directory object carries."""
    domain = ",".join(f"DC={part}" for part in store.domain.split("."))
    schema = f"{store.domain}/Configuration/Schema/ms-Exch-Active-Sync-Device"
    organization = f"CN={store.name},CN=Microsoft Exchange,CN=Services,CN=Configuration,{domain}"
    return [
        ("AdminDisplayName", ""),
        ("ExchangeVersion", store.version.exchange_version),
        ("Name", device.name),
        ("DistinguishedName", device.dn),
        ("Identity", ObjectId(identity, device.dn)),
        ("Guid", device.guid),
        ("ObjectCategory", ObjectId(schema, f"CN=ms-Exch-Active-Sync-Device,CN=Schema,CN=Configuration,{domain}")),
        ("ObjectClass", ["top", "msExchActiveSyncDevice"]),
        ("WhenChanged", LocalTime(device.changed)),
        ("WhenCreated", LocalTime(device.created)),
        ("WhenChangedUTC", device.changed),
        ("WhenCreatedUTC", device.created),
        ("OrganizationId", ""),
        ("Id", ObjectId(identity, device.dn)),
        ("OriginatingServer", f"dc01.{store.domain}"),
        ("IsValid", True),
        ("ObjectState", Enum("Microsoft.Exchange.Data.ObjectState", "Unchanged", 1)),
        ("ExchangeObjectId", device.guid),
        ("OrganizationalUnitRoot", f"{store.domain}/Users"),
        ("ConfigurationUnit", ObjectId(store.name, organization)),
        ("ObjectVersion", 1),
    ]


def device_item(store: Store, device: Device, *, is_active_sync: bool) -> Item:
    types = _ACTIVE_SYNC_TYPES if is_active_sync else _MOBILE_TYPES
    return Item(
        types, device.name, lambda: device_properties(store, device, is_active_sync=is_active_sync), device.rendered
    )


# --- Get-MobileDevice -------------------------------------------------------------------------------------------

_LISTING = "Identity Mailbox Filter OrganizationalUnit ResultSize:size SortBy DomainController Monitoring:switch@2013"
_CLIENT_SWITCHES = "ActiveSync:switch@2013 OWAforDevices:switch@2013 RestApi:switch@2016 UniversalOutlook:switch@2016"


@cmdlet(
    "Get-MobileDevice",
    parameters=f"{_LISTING} {_CLIENT_SWITCHES}",
    class_name="Microsoft.Exchange.Management.Tasks.GetMobileDevice",
    exclusive=(("Identity", "Mailbox"),),
)
def get_mobile_device(context: Context, arguments: dict[str, Any]) -> Iterator[Item | Output]:
    return _list_devices(context, arguments, is_active_sync=False)


@cmdlet(
    "Get-ActiveSyncDevice",
    parameters=_LISTING,
    class_name="Microsoft.Exchange.Management.Tasks.GetActiveSyncDevice",
    exclusive=(("Identity", "Mailbox"),),
)
def get_active_sync_device(context: Context, arguments: dict[str, Any]) -> Iterator[Item | Output]:
    return _list_devices(context, arguments, is_active_sync=True)


def _list_devices(context: Context, arguments: dict[str, Any], *, is_active_sync: bool) -> Iterator[Item | Output]:
    store = context.store
    if arguments.get("Identity") is not None:
        device = _device(context, arguments["Identity"])
        return iter([device_item(store, device, is_active_sync=is_active_sync)])
    # An Identity of $null means no Identity at all: everything is returned.
    devices: Iterable[Device]
    if arguments.get("Mailbox") is not None:
        devices = store.devices_of(find_mailbox(context, arguments["Mailbox"]))
    else:
        with store.snapshot() as devices:
            pass
    clients = _wanted_clients(arguments, is_active_sync)
    predicate = _predicate(context, arguments.get("Filter"))
    chosen = (
        device
        for device in devices
        if context.sees(device.mailbox.domain)
        and (clients is None or device.client_type in clients)
        and (predicate is None or predicate(_getter(device)))
    )
    ordered = _sorted(context, chosen, arguments.get("SortBy"))
    items = (device_item(store, device, is_active_sync=is_active_sync) for device in ordered)
    return limited(context, arguments, items)


def _wanted_clients(arguments: dict[str, Any], is_active_sync: bool) -> frozenset[str] | None:
    if is_active_sync:
        return frozenset({"EAS"})
    named = {"ActiveSync": "EAS", "OWAforDevices": "MOWA", "RestApi": "REST", "UniversalOutlook": "UniversalOutlook"}
    wanted = frozenset(client for switch, client in named.items() if arguments.get(switch))
    return wanted or None


def _getter(device: Device) -> Any:
    def get(name: str) -> Any:
        if name == "UserDisplayName":
            return device.mailbox.canonical
        return getattr(device, _FIELD_OF[name]) if name in _FIELD_OF else 0

    return get


def _predicate(context: Context, text: str | None) -> Any:
    if not text:
        return None
    try:
        return compile_filter(text, FILTERABLE)
    except OpathError as error:
        raise context.invalid(str(error), "Microsoft.Exchange.Data.ParsingException") from error


def _sorted(context: Context, devices: Iterator[Device], by: str | None) -> Iterable[Device]:
    if by is None:
        return devices
    unsortable = {"ClientType", "DeviceActiveSyncVersion", "ProvisioningFlags"}
    name = next((n for n in FILTERABLE - unsortable if n.lower() == by.lower()), None)
    if name is None:
        raise context.invalid(f"The property '{by}' cannot be used to sort.")
    return sorted(devices, key=lambda device: str(_getter(device)(name) or "").lower())


def _device(context: Context, identity: str) -> Device:
    device = context.store.find_device(identity)
    if device is None or not context.sees(device.mailbox.domain):
        raise context.not_found(identity)
    return device


def find_mailbox(context: Context, identity: str) -> Mailbox:
    mailbox = context.store.find_mailbox(identity)
    if mailbox is None or not context.sees(mailbox.domain):
        raise context.not_found(identity)
    return mailbox


# --- statistics, wipe, remove -----------------------------------------------------------------------------------


@cmdlet(
    "Get-MobileDeviceStatistics",
    "Get-ActiveSyncDeviceStatistics",
    parameters=f"Identity Mailbox GetMailboxLog:switch NotificationEmailAddresses:strings ShowRecoveryPassword:switch DomainController {_CLIENT_SWITCHES}",
    class_name="Microsoft.Exchange.Management.Tasks.GetMobileDeviceStatistics",
    required="Identity|Mailbox",
    exclusive=(("Identity", "Mailbox"),),
)
def get_statistics(context: Context, arguments: dict[str, Any]) -> Iterator[Item | Output]:
    if arguments.get("Identity") is not None:
        devices = [_device(context, arguments["Identity"])]
    else:
        devices = context.store.devices_of(find_mailbox(context, str(arguments.get("Mailbox"))))
    for device in devices:
        yield Item(_STATISTICS_TYPES, device.name, lambda device=device: _statistics(context.store, device))  # type: ignore[misc]


def _statistics(store: Store, device: Device) -> list[tuple[str, Any]]:
    wiping = device.wipe_requested is not None
    status = "DeviceOk"
    if wiping:
        kind = "AccountOnlyDeviceWipe" if device.wipe_account_only else "DeviceWipe"
        status = f"{kind}{'Succeeded' if device.wipe_acknowledged else 'Pending'}"
    full: dict[str, datetime.datetime | None] = {
        "RequestTime": device.wipe_requested, "SentTime": device.wipe_sent, "AckTime": device.wipe_acknowledged
    }  # fmt: skip
    properties: list[tuple[str, Any]] = [
        ("FirstSyncTime", device.first_sync),
        ("LastPolicyUpdateTime", device.first_sync),
        ("LastSyncAttemptTime", device.last_attempt),
        ("LastSuccessSync", device.last_success),
        ("DeviceType", device.device_type),
        ("DeviceID", device.device_id),
        ("DeviceUserAgent", device.user_agent),
        *((f"DeviceWipe{name}", None if device.wipe_account_only else value) for name, value in full.items()),
        ("LastPingHeartbeat", 540),
        ("RecoveryPassword", "********"),
        ("DeviceModel", device.model),
        ("DeviceImei", device.imei),
        ("DeviceFriendlyName", device.friendly_name),
        ("DeviceOS", device.os),
        ("DeviceOSLanguage", device.os_language),
        ("DevicePhoneNumber", device.phone_number),
        ("MailboxLogReport", None),
        ("DeviceEnableOutboundSMS", False),
        ("DeviceMobileOperator", device.operator),
        ("Identity", ObjectId(store.identity_of(device), device.dn)),
        ("Guid", device.guid),
        ("IsRemoteWipeSupported", True),
        ("Status", Enum("Microsoft.Exchange.Data.Storage.DeviceRemoteWipeStatus", status, 0)),
        ("StatusNote", ""),
        *_access(store, device),
        ("DevicePolicyApplied", ObjectId(device.mailbox.policy or "Default")),
        (
            "DevicePolicyApplicationStatus",
            _enum("DevicePolicyApplicationStatus", "AppliedInFull", {"AppliedInFull": 2}),
        ),
        ("LastDeviceWipeRequestor", device.wipe_requestor),
        ("ClientVersion", device.client_version),
        ("DeviceActiveSyncVersion", device.client_version),
        ("NumberOfFoldersSynced", 7),
        ("SyncStateUpgradeTime", None),
        ("IsValid", True),
        ("ObjectState", Enum("Microsoft.Exchange.Data.ObjectState", "Unchanged", 1)),
    ]
    if store.version.has_client_switches:
        properties += [
            (f"AccountOnlyDeviceWipe{name}", value if device.wipe_account_only else None)
            for name, value in full.items()
        ]
    return properties


@cmdlet(
    "Clear-MobileDevice",
    "Clear-ActiveSyncDevice",
    parameters="Identity NotificationEmailAddresses:strings Cancel:switch AccountOnly:switch@2016 DomainController",
    class_name="Microsoft.Exchange.Management.Tasks.ClearMobileDevice",
    required="Identity",
    confirms=True,
)
def clear_device(context: Context, arguments: dict[str, Any]) -> Iterator[Item | Output]:
    device = _device(context, str(arguments["Identity"]))
    account_only = bool(arguments.get("AccountOnly"))
    if account_only and not device.client_version.startswith("16.1"):
        raise context.invalid(
            "The device does not support account only remote wipe.", "System.InvalidOperationException"
        )
    with context.store.lock:
        if arguments.get("Cancel"):
            if device.wipe_acknowledged is None:
                device.wipe_requested = device.wipe_sent = None
        elif device.wipe_requested is None:
            device.wipe_requested, device.wipe_account_only = context.store.now(), account_only
            device.wipe_requestor = context.state.account.upn
    return iter(())


@cmdlet(
    "Remove-MobileDevice",
    "Remove-ActiveSyncDevice",
    parameters="Identity DomainController",
    class_name="Microsoft.Exchange.Management.Tasks.RemoveMobileDevice",
    required="Identity",
    confirms=True,
)
def remove_device(context: Context, arguments: dict[str, Any]) -> Iterator[Item | Output]:
    context.store.remove_device(_device(context, str(arguments["Identity"])))
    return iter(())


@cmdlet(
    "Get-ActiveSyncDeviceClass",
    parameters="Identity Filter SortBy DomainController",
    class_name="Microsoft.Exchange.Management.SystemConfigurationTasks.GetActiveSyncDeviceClass",
)
def get_device_class(context: Context, arguments: dict[str, Any]) -> Iterator[Item | Output]:
    newest: dict[tuple[str, str], datetime.datetime] = {}
    with context.store.snapshot() as devices:
        for device in devices:
            key = (device.device_type, device.model)
            newest[key] = max(newest.get(key, device.changed), device.changed)
    text = arguments.get("Filter")
    try:
        predicate = compile_filter(text, frozenset({"DeviceType", "DeviceModel", "LastUpdateTime"})) if text else None
    except OpathError as error:
        raise context.invalid(str(error)) from error
    for (kind, model), when in sorted(newest.items()):
        name = f"{kind}§{model}"
        values = {"DeviceType": kind, "DeviceModel": model, "LastUpdateTime": when}
        if predicate is not None and not predicate(values.__getitem__):
            continue
        if arguments.get("Identity") is not None and arguments["Identity"].lower() != name.lower():
            continue
        properties = [*values.items(), ("Name", name), ("Identity", ObjectId(name)), ("IsValid", True)]
        yield Item((f"{_CONFIGURATION}.ActiveSyncDeviceClass", "System.Object"), name, lambda p=properties: p)  # type: ignore[misc]


def truncation(count: int) -> Warn:
    """The ResultSize warning, for the fault that imitates it."""
    return Warn(
        f"There are more results available than are currently displayed ({count}). To view them, increase the value for the "
        "ResultSize parameter."
    )

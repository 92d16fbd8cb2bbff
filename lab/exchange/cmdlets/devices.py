"""Get-MobileDevice and Get-ActiveSyncDevice: the device objects as the directory holds them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from lab.exchange.cmdlets.directory import (
    CONFIGURATION,
    CONFIGURATION_BASES,
    directory_properties,
    enum,
    organization_dn,
    settings_dn,
)
from lab.exchange.cmdlets.listing import filtering, limited, ordered, within
from lab.exchange.cmdlets.registry import Context, Item, cmdlet
from lab.exchange.contract import Output
from lab.exchange.objects import Device
from lab.exchange.render import ObjectId
from lab.exchange.store import Store

_MOBILE_TYPES = (f"{CONFIGURATION}.MobileDevice", *CONFIGURATION_BASES)
_ACTIVE_SYNC_TYPES = (f"{CONFIGURATION}.ActiveSyncDevice", *_MOBILE_TYPES)

_FIELD_OF = {
    "ClientType": "client_type", "DeviceAccessControlRule": "rule", "DeviceAccessState": "state",
    "DeviceAccessStateReason": "reason", "DeviceActiveSyncVersion": "client_version", "DeviceId": "device_id",
    "DeviceImei": "imei", "DeviceMobileOperator": "operator", "DeviceModel": "model", "DeviceOS": "os",
    "DeviceOSLanguage": "os_language", "DeviceTelephoneNumber": "phone_number", "DeviceType": "device_type",
    "DeviceUserAgent": "user_agent", "FirstSyncTime": "first_sync", "FriendlyName": "friendly_name",
}  # fmt: skip
_FILTERABLE = frozenset(_FIELD_OF) | {"ProvisioningFlags", "UserDisplayName"}
_SORTABLE = _FILTERABLE - {"ClientType", "DeviceActiveSyncVersion", "ProvisioningFlags"}

LISTING = (
    "Identity:id Mailbox:id Filter OrganizationalUnit ResultSize:size SortBy DomainController Monitoring:switch@2013"
)
CLIENT_SWITCHES = "ActiveSync:switch OWAforDevices:switch RestApi:switch@2016 UniversalOutlook:switch@2016"
_CLIENTS = {"ActiveSync": "EAS", "OWAforDevices": "MOWA", "RestApi": "REST", "UniversalOutlook": "UniversalOutlook"}


def access_properties(store: Store, device: Device) -> list[tuple[str, Any]]:
    rule = device.rule
    return [
        ("DeviceAccessState", enum("DeviceAccessState", device.state)),
        ("DeviceAccessStateReason", enum("DeviceAccessStateReason", device.reason)),
        ("DeviceAccessControlRule", None if rule is None else ObjectId(rule, settings_dn(store, rule))),
    ]


def device_properties(store: Store, device: Device, *, is_active_sync: bool) -> list[tuple[str, Any]]:
    """The properties of a device object, in the order they are sent."""
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
        *access_properties(store, device),
    ]
    if newer:
        properties += [
            ("ClientVersion", device.client_version),
            ("ClientType", enum("MobileClientType", device.client_type)),
        ]
    if store.version.rank >= 2016:
        properties += [("IsManaged", False), ("IsCompliant", False), ("IsDisabled", False)]
    if is_active_sync or not newer:
        properties.append(("DeviceActiveSyncVersion", device.client_version))
    return [
        *properties,
        *directory_properties(
            store, name=device.name, dn=device.dn, guid=device.guid, category="ms-Exch-Active-Sync-Device",
            classes=("msExchActiveSyncDevice",), created=device.created, changed=device.changed,
            identity=store.identity_of(device),
        ),
        ("ExchangeObjectId", device.guid),
        ("OrganizationalUnitRoot", f"{store.domain}/Users"),
        ("ConfigurationUnit", ObjectId(store.name, organization_dn(store), store.guid)),
        ("ObjectVersion", 1),
    ]  # fmt: skip


def device_item(store: Store, device: Device, *, is_active_sync: bool) -> Item:
    types = _ACTIVE_SYNC_TYPES if is_active_sync else _MOBILE_TYPES
    return Item(
        types, device.name, lambda: device_properties(store, device, is_active_sync=is_active_sync), device.rendered
    )


@cmdlet(
    "Get-MobileDevice",
    parameters=f"{LISTING} {CLIENT_SWITCHES}",
    class_name="Microsoft.Exchange.Management.Tasks.GetMobileDevice",
    exclusive="Identity|Mailbox",
)
def get_mobile_device(context: Context, arguments: dict[str, Any]) -> Iterator[Item | Output]:
    return _list_devices(context, arguments, is_active_sync=False)


@cmdlet(
    "Get-ActiveSyncDevice",
    parameters=LISTING,
    class_name="Microsoft.Exchange.Management.Tasks.GetActiveSyncDevice",
    exclusive="Identity|Mailbox",
)
def get_active_sync_device(context: Context, arguments: dict[str, Any]) -> Iterator[Item | Output]:
    return _list_devices(context, arguments, is_active_sync=True)


def _list_devices(context: Context, arguments: dict[str, Any], *, is_active_sync: bool) -> Iterator[Item | Output]:
    store = context.store
    clients = wanted_clients(arguments, is_active_sync)
    if arguments.get("Identity") is not None:
        device = find_device(context, arguments["Identity"])
        if clients is not None and device.client_type not in clients:
            raise context.not_found(arguments["Identity"])
        return iter([device_item(store, device, is_active_sync=is_active_sync)])
    # An Identity of $null means no Identity at all: everything is returned.
    devices: Iterable[Device]
    if arguments.get("Mailbox") is not None:
        devices = store.devices_of(context.mailbox(arguments["Mailbox"]))
    else:
        with store.snapshot() as devices:
            pass
    # ClientType came with 2013.
    filterable = _FILTERABLE if store.version.rank >= 2013 else _FILTERABLE - {"ClientType"}
    predicate = filtering(context, arguments.get("Filter"), filterable)
    is_within = within(context, arguments.get("OrganizationalUnit"))
    chosen = (
        device
        for device in devices
        if context.sees(device.mailbox.domain)
        and (clients is None or device.client_type in clients)
        and is_within(device.mailbox)
        and (predicate is None or predicate(_getter(device)))
    )
    in_order = ordered(context, chosen, arguments.get("SortBy"), _SORTABLE, lambda device, name: _getter(device)(name))
    return limited(arguments, (device_item(store, device, is_active_sync=is_active_sync) for device in in_order))


def wanted_clients(arguments: dict[str, Any], is_active_sync: bool) -> frozenset[str] | None:
    """The client types that the switches name; None for all. The ActiveSync names know ActiveSync only."""
    if is_active_sync:
        return frozenset({"EAS"})
    wanted = frozenset(client for switch, client in _CLIENTS.items() if arguments.get(switch))
    return wanted or None


def _getter(device: Device) -> Callable[[str], Any]:
    def get(name: str) -> Any:
        if name == "UserDisplayName":
            return device.mailbox.canonical
        return getattr(device, _FIELD_OF[name]) if name in _FIELD_OF else 0

    return get


def find_device(context: Context, identity: str) -> Device:
    """The device of that identity within the session's scope. Raises Refusal."""
    device = context.store.find_device(identity)
    if device is None or not context.sees(device.mailbox.domain):
        raise context.not_found(identity)
    return device

"""What a phone's partnership is about: statistics from the mailbox, wipe orders, removal."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from typing import Any

from lab.exchange.cmdlets.devices import CLIENT_SWITCHES, access_properties, find_device, wanted_clients
from lab.exchange.cmdlets.directory import UNCHANGED, enum
from lab.exchange.cmdlets.registry import Context, Item, cmdlet
from lab.exchange.contract import Output
from lab.exchange.objects import Device
from lab.exchange.render import Enum, ObjectId
from lab.exchange.store import Store

_TASKS = "Microsoft.Exchange.Management.Tasks"
_TYPES = (f"{_TASKS}.MobileDeviceConfiguration", "Microsoft.Exchange.Data.ConfigurableObject", "System.Object")
_WIPE_STATES = (
    "DeviceOk", "DeviceWipePending", "DeviceWipeSucceeded", "DeviceBlocked", "AccountOnlyDeviceWipePending",
    "AccountOnlyDeviceWipeSucceeded",
)  # fmt: skip
_PARAMETERS = (
    "Identity:id Mailbox:id GetMailboxLog:switch NotificationEmailAddresses:strings ShowRecoveryPassword:switch "
    "DomainController"
)


@cmdlet(
    "Get-MobileDeviceStatistics",
    parameters=f"{_PARAMETERS} {CLIENT_SWITCHES}",
    class_name=f"{_TASKS}.GetMobileDeviceStatistics",
    required="Identity|Mailbox",
    exclusive="Identity|Mailbox",
)
def get_mobile_statistics(context: Context, arguments: dict[str, Any]) -> Iterator[Item | Output]:
    return _list_statistics(context, arguments, is_active_sync=False)


@cmdlet(
    "Get-ActiveSyncDeviceStatistics",
    parameters=_PARAMETERS,
    class_name=f"{_TASKS}.GetActiveSyncDeviceStatistics",
    required="Identity|Mailbox",
    exclusive="Identity|Mailbox",
)
def get_active_sync_statistics(context: Context, arguments: dict[str, Any]) -> Iterator[Item | Output]:
    return _list_statistics(context, arguments, is_active_sync=True)


def _list_statistics(context: Context, arguments: dict[str, Any], *, is_active_sync: bool) -> Iterator[Item | Output]:
    store = context.store
    if "Identity" in arguments:
        devices = [find_device(context, arguments["Identity"])]
    else:
        devices = store.devices_of(context.mailbox(arguments["Mailbox"]))
    clients = wanted_clients(arguments, is_active_sync)
    for device in devices:
        if clients is None or device.client_type in clients:
            yield Item(_TYPES, device.name, lambda device=device: _statistics(store, device))  # type: ignore[misc]


def wipe_status(device: Device) -> str:
    """The label of Status. The times say the same, and are what a client should go by."""
    if device.wipe_requested is None:
        return "DeviceBlocked" if device.state == "Blocked" else "DeviceOk"
    kind = "AccountOnlyDeviceWipe" if device.wipe_account_only else "DeviceWipe"
    return f"{kind}{'Succeeded' if device.wipe_acknowledged else 'Pending'}"


def _wipe_times(device: Device, *, account_only: bool) -> list[tuple[str, datetime.datetime | None]]:
    prefix = "AccountOnlyDeviceWipe" if account_only else "DeviceWipe"
    is_this = device.wipe_account_only == account_only
    times = (
        ("RequestTime", device.wipe_requested),
        ("SentTime", device.wipe_sent),
        ("AckTime", device.wipe_acknowledged),
    )
    return [(f"{prefix}{name}", when if is_this else None) for name, when in times]


def _statistics(store: Store, device: Device) -> list[tuple[str, Any]]:
    status = wipe_status(device)
    newer = store.version.rank >= 2013
    properties: list[tuple[str, Any]] = [
        ("FirstSyncTime", device.first_sync),
        ("LastPolicyUpdateTime", device.first_sync),
        ("LastSyncAttemptTime", device.last_attempt),
        ("LastSuccessSync", device.last_success),
        ("DeviceType", device.device_type),
        ("DeviceID", device.device_id),
        ("DeviceUserAgent", device.user_agent),
        *_wipe_times(device, account_only=False),
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
        ("Identity", ObjectId(store.identity_of(device), device.dn, device.guid)),
        ("Guid", device.guid),
        ("IsRemoteWipeSupported", True),
        ("Status", Enum("Microsoft.Exchange.Data.Storage.DeviceRemoteWipeStatus", status, _WIPE_STATES.index(status))),
        ("StatusNote", ""),
        *access_properties(store, device),
        ("DevicePolicyApplied", ObjectId(device.mailbox.policy or "Default")),
        ("DevicePolicyApplicationStatus", enum("DevicePolicyApplicationStatus", "AppliedInFull")),
        ("LastDeviceWipeRequestor", "" if device.wipe_account_only else device.wipe_requestor),
        ("DeviceActiveSyncVersion", device.client_version),
        ("NumberOfFoldersSynced", 7),
        ("SyncStateUpgradeTime", None),
        ("IsValid", True),
        ("ObjectState", UNCHANGED),
    ]
    if newer:
        properties += [
            ("ClientType", enum("MobileClientType", device.client_type)),
            ("ClientVersion", device.client_version),
        ]
    if store.version.has_client_switches:
        properties += _wipe_times(device, account_only=True)
        properties.append(
            ("LastAccountOnlyDeviceWipeRequestor", device.wipe_requestor if device.wipe_account_only else "")
        )
    return properties


# --- wipe, remove -----------------------------------------------------------------------------------------------

_WIPE = "Identity:id NotificationEmailAddresses:strings Cancel:switch DomainController"


@cmdlet(
    "Clear-MobileDevice",
    parameters=f"{_WIPE} AccountOnly:switch@2016",
    class_name=f"{_TASKS}.ClearMobileDevice",
    required="Identity",
    confirms=True,
)
@cmdlet(
    "Clear-ActiveSyncDevice",
    parameters=_WIPE,
    class_name=f"{_TASKS}.ClearActiveSyncDevice",
    required="Identity",
    confirms=True,
)
def clear_device(context: Context, arguments: dict[str, Any]) -> Iterator[Item | Output]:
    device = find_device(context, arguments["Identity"])
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
            device.wipe_tell = [str(address) for address in arguments.get("NotificationEmailAddresses") or ()]
    return iter(())


@cmdlet(
    "Remove-MobileDevice",
    "Remove-ActiveSyncDevice",
    parameters="Identity:id DomainController",
    class_name=f"{_TASKS}.RemoveMobileDevice",
    required="Identity",
    confirms=True,
)
def remove_device(context: Context, arguments: dict[str, Any]) -> Iterator[Item | Output]:
    context.store.remove_device(find_device(context, arguments["Identity"]))
    return iter(())

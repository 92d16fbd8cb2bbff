"""Mailbox policies, under their ActiveSync names and their Mobile names, whose parameters differ (exchange.md 2.8)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from lab.exchange.cmdlets.registry import Context, Item, cmdlet
from lab.exchange.contract import Output
from lab.exchange.render import ObjectId
from lab.exchange.store import MailboxPolicy

_TASKS = "Microsoft.Exchange.Management.Tasks"
# ActiveSync name → Mobile name. The store keeps the ActiveSync name.
_RENAMED = {
    "DevicePasswordEnabled": "PasswordEnabled",
    "AlphanumericDevicePasswordRequired": "AlphanumericPasswordRequired",
    "AllowSimpleDevicePassword": "AllowSimplePassword",
    "MinDevicePasswordLength": "MinPasswordLength",
    "MinDevicePasswordComplexCharacters": "MinPasswordComplexCharacters",
    "MaxDevicePasswordFailedAttempts": "MaxPasswordFailedAttempts",
    "MaxInactivityTimeDeviceLock": "MaxInactivityTimeLock",
    "DevicePasswordExpiration": "PasswordExpiration",
    "DevicePasswordHistory": "PasswordHistory",
}
_DEFAULTS: dict[str, Any] = {
    "AllowNonProvisionableDevices": False,
    "DevicePasswordEnabled": False,
    "AlphanumericDevicePasswordRequired": False,
    "AllowSimpleDevicePassword": True,
    "MinDevicePasswordLength": 4,
    "MinDevicePasswordComplexCharacters": 1,
    "MaxDevicePasswordFailedAttempts": "8",
    "MaxInactivityTimeDeviceLock": "00:15:00",
    "DevicePasswordExpiration": "Unlimited",
    "DevicePasswordHistory": 0,
    "AllowBluetooth": "Allow",
    "AllowBrowser": True,
    "AllowCamera": True,
    "AllowConsumerEmail": True,
    "AllowDesktopSync": True,
    "AllowExternalDeviceManagement": False,
    "AllowHTMLEmail": True,
    "AllowInternetSharing": True,
    "AllowIrDA": True,
    "AllowMobileOTAUpdate": True,
    "AllowPOPIMAPEmail": True,
    "AllowRemoteDesktop": True,
    "AllowStorageCard": True,
    "AllowTextMessaging": True,
    "AllowWiFi": True,
    "AttachmentsEnabled": True,
    "DeviceEncryptionEnabled": False,
    "DevicePolicyRefreshInterval": "Unlimited",
    "IrmEnabled": True,
    "MaxAttachmentSize": "Unlimited",
    "MaxCalendarAgeFilter": "All",
    "MaxEmailAgeFilter": "All",
    "PasswordRecoveryEnabled": False,
    "RequireDeviceEncryption": False,
    "RequireManualSyncWhenRoaming": False,
    "RequireStorageCardEncryption": False,
    "UNCAccessEnabled": True,
    "WSSAccessEnabled": True,
}


def _kind(value: Any) -> str:
    return ":bool" if isinstance(value, bool) else ":number" if isinstance(value, int) else ""


_ACTIVE_SYNC = " ".join(f"{name}{_kind(value)}" for name, value in _DEFAULTS.items())
_MOBILE = " ".join(f"{_RENAMED.get(name, name)}{_kind(value)}" for name, value in _DEFAULTS.items())
_BACK = {mobile: active for active, mobile in _RENAMED.items()}


def _is_mobile(context: Context) -> bool:
    return "-mobile" in context.cmdlet.lower()


def _find(context: Context, identity: str) -> MailboxPolicy:
    wanted = identity.lower()
    for policy in context.store.policies:
        if wanted in (policy.name.lower(), str(policy.guid)):
            return policy
    raise context.not_found(identity)


def _item(context: Context, policy: MailboxPolicy) -> Item:
    mobile = _is_mobile(context)
    values = {**_DEFAULTS, **policy.settings}
    default = "IsDefault" if mobile else "IsDefaultPolicy"
    properties = [
        *((_RENAMED.get(name, name) if mobile else name, value) for name, value in values.items()),
        (default, policy.is_default),
        ("Name", policy.name),
        ("Identity", ObjectId(policy.name)),
        ("Guid", policy.guid),
        ("IsValid", True),
        ("ObjectState", "Unchanged"),
    ]
    if not mobile and context.store.version.rank >= 2013:
        properties.append(("IsDefault", policy.is_default))
    kind = "MobileMailboxPolicy" if mobile else "ActiveSyncMailboxPolicy"
    types = (f"Microsoft.Exchange.Data.Directory.SystemConfiguration.{kind}", "System.Object")
    return Item(types, policy.name, lambda: properties)


@cmdlet(
    "Get-ActiveSyncMailboxPolicy",
    "Get-MobileDeviceMailboxPolicy",
    parameters="Identity DomainController",
    class_name=f"{_TASKS}.GetMobileMailboxPolicy",
)
def get_policy(context: Context, arguments: dict[str, Any]) -> Iterator[Item | Output]:
    if arguments.get("Identity") is not None:
        return iter([_item(context, _find(context, arguments["Identity"]))])
    return (_item(context, policy) for policy in list(context.store.policies))


def _apply(context: Context, policy: MailboxPolicy, arguments: dict[str, Any]) -> None:
    for name, value in arguments.items():
        stored = _BACK.get(name, name)
        if stored in _DEFAULTS:
            policy.settings[stored] = value
    if arguments.get("IsDefault") or arguments.get("IsDefaultPolicy"):
        for other in context.store.policies:
            other.is_default = other is policy


def _new(context: Context, arguments: dict[str, Any]) -> Iterator[Item | Output]:
    name = str(arguments["Name"])
    if any(policy.name.lower() == name.lower() for policy in context.store.policies):
        raise context.invalid(
            f"A policy named '{name}' exists already.",
            "Microsoft.Exchange.Data.Directory.ADObjectAlreadyExistsException",
        )
    policy = MailboxPolicy(name)
    with context.store.lock:
        context.store.policies.append(policy)
        _apply(context, policy, arguments)
    return iter([_item(context, policy)])


def _set(context: Context, arguments: dict[str, Any]) -> Iterator[Item | Output]:
    policy = _find(context, str(arguments["Identity"]))
    with context.store.lock:
        before = (dict(policy.settings), policy.is_default, policy.name)
        _apply(context, policy, arguments)
        if arguments.get("Name"):
            policy.name = str(arguments["Name"])
        if (policy.settings, policy.is_default, policy.name) == before:
            context.unchanged(policy.name)
    return iter(())


def _remove(context: Context, arguments: dict[str, Any]) -> Iterator[Item | Output]:
    policy = _find(context, str(arguments["Identity"]))
    if policy.is_default and not arguments.get("Force"):
        raise context.invalid(
            f"The policy '{policy.name}' is the default policy and cannot be removed.",
            "System.InvalidOperationException",
        )
    with context.store.lock:
        context.store.policies.remove(policy)
        for mailbox in context.store.mailboxes.values():
            if mailbox.policy == policy.name:
                mailbox.policy = None
    return iter(())


for _verb, _run, _own, _needed in (("New", _new, "Name", "Name"), ("Set", _set, "Identity Name", "Identity")):
    cmdlet(
        f"{_verb}-ActiveSyncMailboxPolicy",
        parameters=f"{_own} {_ACTIVE_SYNC} IsDefaultPolicy:bool IsDefault:bool@2013 DomainController",
        class_name=f"{_TASKS}.{_verb}ActiveSyncMailboxPolicy",
        required=_needed,
        positional=_needed,
    )(_run)
    cmdlet(
        f"{_verb}-MobileDeviceMailboxPolicy",
        parameters=f"{_own} {_MOBILE} IsDefault:bool DomainController",
        class_name=f"{_TASKS}.{_verb}MobileMailboxPolicy",
        required=_needed,
        positional=_needed,
    )(_run)
cmdlet(
    "Remove-ActiveSyncMailboxPolicy",
    "Remove-MobileDeviceMailboxPolicy",
    parameters="Identity Force:switch DomainController",
    class_name=f"{_TASKS}.RemoveMobileMailboxPolicy",
    required="Identity",
    confirms=True,
)(_remove)

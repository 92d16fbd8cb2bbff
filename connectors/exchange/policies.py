"""The settings of a mailbox policy: one set of names for both families of cmdlets, and what kind of value each has.

Ours are the Mobile names (Exchange 2013 and later); the ActiveSync cmdlets call some of them otherwise (exchange.md
2.8). Sizes and times are Exchange's Unlimited<T>, therefore text ("Unlimited", "00:15:00"). Which settings a version
lacks is not documented as a list: an unknown one is refused by Exchange as parameter_not_granted. Pure.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from types import MappingProxyType
from typing import TypeAlias

PolicyValue: TypeAlias = "bool | int | str | tuple[str, ...]"


class Kind(enum.Enum):
    """flag: bool. number: int. text: str, sizes and times and choices too. list: tuple of str."""

    FLAG = "flag"
    NUMBER = "number"
    TEXT = "text"
    LIST = "list"


_FLAGS = (
    "AllowApplePushNotifications",
    "AllowBrowser",
    "AllowCamera",
    "AllowConsumerEmail",
    "AllowDesktopSync",
    "AllowExternalDeviceManagement",
    "AllowHTMLEmail",
    "AllowInternetSharing",
    "AllowIrDA",
    "AllowMobileOTAUpdate",
    "AllowNonProvisionableDevices",
    "AllowPOPIMAPEmail",
    "AllowRemoteDesktop",
    "AllowSMIMESoftCerts",
    "AllowSimplePassword",
    "AllowStorageCard",
    "AllowTextMessaging",
    "AllowUnsignedApplications",
    "AllowUnsignedInstallationPackages",
    "AllowWiFi",
    "AlphanumericPasswordRequired",
    "AttachmentsEnabled",
    "DeviceEncryptionEnabled",
    "IrmEnabled",
    "PasswordEnabled",
    "PasswordRecoveryEnabled",
    "RequireDeviceEncryption",
    "RequireEncryptedSMIMEMessages",
    "RequireManualSyncWhenRoaming",
    "RequireSignedSMIMEMessages",
    "RequireStorageCardEncryption",
    "UNCAccessEnabled",
    "WSSAccessEnabled",
)
_NUMBERS = ("MinPasswordComplexCharacters", "MinPasswordLength", "PasswordHistory")
_TEXTS = (
    "AllowBluetooth",
    "AllowSMIMEEncryptionAlgorithmNegotiation",
    "DevicePolicyRefreshInterval",
    "MaxAttachmentSize",
    "MaxCalendarAgeFilter",
    "MaxEmailAgeFilter",
    "MaxEmailBodyTruncationSize",
    "MaxEmailHTMLBodyTruncationSize",
    "MaxInactivityTimeLock",
    "MaxPasswordFailedAttempts",
    "PasswordExpiration",
    "RequireEncryptionSMIMEAlgorithm",
    "RequireSignedSMIMEAlgorithm",
)
_LISTS = ("ApprovedApplicationList", "UnapprovedInROMApplicationList")

# Every setting that we read and write, by our name.
SETTINGS: Mapping[str, Kind] = MappingProxyType(
    {
        name: kind
        for kind, names in ((Kind.FLAG, _FLAGS), (Kind.NUMBER, _NUMBERS), (Kind.TEXT, _TEXTS), (Kind.LIST, _LISTS))
        for name in names
    }
)
# Ours → what the ActiveSync cmdlets call it; all others have one name.
ACTIVE_SYNC_NAMES: Mapping[str, str] = MappingProxyType(
    {
        "AllowSimplePassword": "AllowSimpleDevicePassword",
        "AlphanumericPasswordRequired": "AlphanumericDevicePasswordRequired",
        "MaxInactivityTimeLock": "MaxInactivityTimeDeviceLock",
        "MaxPasswordFailedAttempts": "MaxDevicePasswordFailedAttempts",
        "MinPasswordComplexCharacters": "MinDevicePasswordComplexCharacters",
        "MinPasswordLength": "MinDevicePasswordLength",
        "PasswordEnabled": "DevicePasswordEnabled",
        "PasswordExpiration": "DevicePasswordExpiration",
        "PasswordHistory": "DevicePasswordHistory",
    }
)


def remote_name(name: str, *, is_active_sync: bool) -> str:
    """What the family's cmdlets call the setting `name`. Raises ValueError for a setting that we do not know."""
    if name not in SETTINGS:
        raise ValueError(f"no setting of a mailbox policy: {name!r}")
    return ACTIVE_SYNC_NAMES.get(name, name) if is_active_sync else name


def checked(name: str, value: PolicyValue) -> PolicyValue:
    """The value, if it is of the setting's kind. Raises ValueError, naming setting and kind."""
    if name not in SETTINGS:
        raise ValueError(f"no setting of a mailbox policy: {name!r}")
    kind = SETTINGS[name]
    fits = {
        Kind.FLAG: isinstance(value, bool),
        Kind.NUMBER: isinstance(value, int) and not isinstance(value, bool),
        Kind.TEXT: isinstance(value, str) and bool(value.strip()),
        Kind.LIST: isinstance(value, tuple) and all(item.strip() for item in value),
    }
    if not fits[kind]:
        raise ValueError(f"{name} is a {kind.value}, not {value!r}")
    return value

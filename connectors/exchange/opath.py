"""OPATH filters for -Filter, put together from checked parts; values never reach the filter unquoted. Pure.

It refuses property names that Exchange does not filter devices by, so that a misspelt one fails here and not there.
"""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Iterable
from typing import Literal

# Get-MobileDevice / Get-ActiveSyncDevice (Microsoft Learn, "Filterable properties for the Filter parameter").
DEVICE_PROPERTIES = frozenset(
    {
        "ClientType",
        "DeviceAccessControlRule",
        "DeviceAccessState",
        "DeviceAccessStateReason",
        "DeviceActiveSyncVersion",
        "DeviceId",
        "DeviceImei",
        "DeviceMobileOperator",
        "DeviceModel",
        "DeviceOS",
        "DeviceOSLanguage",
        "DeviceTelephoneNumber",
        "DeviceType",
        "DeviceUserAgent",
        "FirstSyncTime",
        "FriendlyName",
        "ProvisioningFlags",
        "UserDisplayName",
    }
)
MAILBOX_PROPERTIES = frozenset(
    {
        "ActiveSyncAllowedDeviceIDs",
        "ActiveSyncBlockedDeviceIDs",
        "ActiveSyncMailboxPolicy",
        "DisplayName",
        "DistinguishedName",
        "Guid",
        "HasActiveSyncDevicePartnership",
        "PrimarySmtpAddress",
        "RecipientType",
        "SamAccountName",
    }
)
KNOWN_PROPERTIES = DEVICE_PROPERTIES | MAILBOX_PROPERTIES

Operator = Literal["eq", "ne", "lt", "gt", "like", "notlike"]
Value = str | bool | int | datetime.datetime | None


def literal(value: Value) -> str:
    """The value as OPATH writes it: text in single quotes with inner quotes doubled; $true, $null and numbers bare.

    Raises ValueError for text with control characters or typographic single quotes (PowerShell's own parser takes
    them for plain ones, what Exchange's does is not documented), and for a time without a zone.
    """
    if value is None:
        return "$null"
    if isinstance(value, bool):
        return "$true" if value else "$false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, datetime.datetime):
        if value.tzinfo is None:
            raise ValueError("a time in a filter needs a zone")
        # Universal and sortable: the one form that no server culture reads as another day.
        return f"'{value.astimezone(datetime.UTC):%Y-%m-%d %H:%M:%SZ}'"
    if any(ord(character) < 32 or ord(character) == 127 for character in value):
        raise ValueError("text in a filter must not hold control characters")
    if any(quote in value for quote in "\u2018\u2019\u201a\u201b"):
        raise ValueError("text in a filter must not hold typographic single quotes")
    return "'" + value.replace("'", "''") + "'"


def compare(name: str, operator: Operator, value: Value) -> str:
    """`name -operator value`. Raises ValueError for a property that is not filterable, or a wildcard outside -like."""
    if name not in KNOWN_PROPERTIES:
        raise ValueError(f"Exchange does not filter by {name!r}")
    return f"{name} -{operator} {literal(value)}"


def every(*conditions: str) -> str:
    """All conditions hold."""
    return _joined("and", conditions)


def some(*conditions: str) -> str:
    """At least one condition holds."""
    return _joined("or", conditions)


def _joined(word: str, conditions: tuple[str, ...]) -> str:
    if not conditions:
        raise ValueError("a filter needs a condition")
    if len(conditions) == 1:
        return conditions[0]
    return f" -{word} ".join(f"({condition})" for condition in conditions)


def devices_in_state(*states: str) -> str:
    """Devices whose DeviceAccessState is one of these labels (Allowed, Blocked, Quarantined, DeviceDiscovery)."""
    return some(*(compare("DeviceAccessState", "eq", state) for state in states))


def devices_first_seen_after(moment: datetime.datetime) -> str:
    """Devices that synchronised for the first time after `moment` (aware)."""
    return compare("FirstSyncTime", "gt", moment)


def mailboxes_with_devices_or_entries() -> str:
    """Mailboxes that ActiveSync phones have come to, and those with a personal entry for one that has not come yet.

    Who has Outlook for mobile alone may be said to have no partnership; personal entries do not concern that one.
    """
    return some(
        compare("HasActiveSyncDevicePartnership", "eq", True),
        compare("ActiveSyncAllowedDeviceIDs", "ne", None),
        compare("ActiveSyncBlockedDeviceIDs", "ne", None),
    )


def mailboxes() -> str:
    """Every mailbox of a person, for the cmdlets that list other recipients too."""
    return compare("RecipientType", "eq", "UserMailbox")


def objects_by_guid(guids: Iterable[uuid.UUID]) -> str:
    """The objects with these GUIDs, at least one. How long a filter may be is not documented: give few at a time."""
    return some(*(compare("Guid", "eq", str(guid)) for guid in guids))

"""What every directory object carries, and the enums of exchange.md section 3 with their numbers.

Numbers that no source confirms are above 90: nobody may rely on them, and labels are what counts.
"""

from __future__ import annotations

import datetime
import uuid
from typing import Any

from lab.exchange.objects import domain_dn, escape_dn
from lab.exchange.render import Enum, LocalTime, ObjectId
from lab.exchange.store import Store

DIRECTORY = "Microsoft.Exchange.Data.Directory"
CONFIGURATION = f"{DIRECTORY}.SystemConfiguration"
ROOTS = (
    f"{DIRECTORY}.ADObject",
    f"{DIRECTORY}.ADRawEntry",
    "Microsoft.Exchange.Data.ConfigurableObject",
    "System.Object",
)
CONFIGURATION_BASES = (f"{DIRECTORY}.ADConfigurationObject", *ROOTS)
UNCHANGED = Enum("Microsoft.Exchange.Data.ObjectState", "Unchanged", 1)

ACCESS_LEVELS = ("Allow", "Block", "Quarantine")
CHARACTERISTICS = ("DeviceType", "DeviceModel", "DeviceOS", "UserAgent", "XMSWLHeader")
_UNCONFIRMED = 99
_NUMBERS: dict[str, tuple[str, ...]] = {
    "DeviceAccessState": ("Unknown", "Allowed", "Blocked", "Quarantined", "DeviceDiscovery"),
    "DeviceAccessStateReason": (
        "Unknown", "Global", "Individual", "DeviceRule", "Upgrade", "Policy", "UserAgentsChanges", "RecentCommands",
        "Watsons", "OutOfBudgets", "SyncCommands", "EnableNotificationEmail",
    ),
    "DeviceAccessLevel": ACCESS_LEVELS,
    "DeviceAccessCharacteristic": CHARACTERISTICS,
    "DevicePolicyApplicationStatus": (
        "Unknown", "NotApplied", "AppliedInFull", "PartiallyApplied", "ExternallyManaged",
    ),
}  # fmt: skip


def enum(kind: str, label: str) -> Enum:
    """Of a type below SystemConfiguration."""
    known = _NUMBERS.get(kind, ())
    return Enum(f"{CONFIGURATION}.{kind}", label, known.index(label) if label in known else _UNCONFIRMED)


def organization_dn(store: Store) -> str:
    return f"CN={escape_dn(store.name)},CN=Microsoft Exchange,CN=Services,CN=Configuration,{domain_dn(store.domain)}"


def settings_dn(store: Store, name: str) -> str:
    """Of an object below the organisation's mobile settings: rules, policies, classes."""
    return f"CN={escape_dn(name)},CN=Mobile Mailbox Settings,{organization_dn(store)}"


def directory_properties(
    store: Store,
    *,
    name: str,
    dn: str,
    guid: uuid.UUID,
    category: str,
    classes: tuple[str, ...],
    created: datetime.datetime,
    changed: datetime.datetime,
    identity: str = "",
) -> list[tuple[str, Any]]:
    """The base properties, in the order they are sent. `identity`: its text, when that is not the name."""
    own = ObjectId(identity or name, dn, guid)
    schema = ObjectId(
        f"{store.domain}/Configuration/Schema/{category}",
        f"CN={category},CN=Schema,CN=Configuration,{domain_dn(store.domain)}",
    )
    return [
        ("AdminDisplayName", ""),
        ("ExchangeVersion", store.version.exchange_version),
        ("Name", name),
        ("DistinguishedName", dn),
        ("Identity", own),
        ("Guid", guid),
        ("ObjectCategory", schema),
        ("ObjectClass", ["top", *classes]),
        ("WhenChanged", LocalTime(changed)),
        ("WhenCreated", LocalTime(created)),
        ("WhenChangedUTC", changed),
        ("WhenCreatedUTC", created),
        ("OrganizationId", ""),
        ("Id", own),
        ("OriginatingServer", f"dc01.{store.domain}"),
        ("IsValid", True),
        ("ObjectState", UNCHANGED),
    ]

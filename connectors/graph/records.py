"""What is read from Graph, as frozen values. Remote names are translated to ours here and nowhere else.

Text that Graph left null or did not send is "". Enum labels stay text, so that one we have never heard of survives.
Times are aware UTC; Graph's words for "never" (year 1) and "no end" (year 9999) are None. Properties that we do not
know are passed over. Nothing is dropped silently: a value of a wrong shape raises RecordError, naming the property.
Source: learn.microsoft.com/graph/api/resources/{intune-devices-manageddevice,user,group,assignedplan}; exchange.md 7.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from types import MappingProxyType
from typing import Any

from connectors.graph.errors import RecordError

# Service plans that are Intune (exchange.md 7.4). INTUNE_O365 is Basic Mobility and Security, INTUNE_P2 an add-on.
INTUNE_PLANS = frozenset(
    {
        "c1ec4a95-1f05-45b3-a911-aa3fa01094f5",  # INTUNE_A
        "3e170737-c728-4eae-bbb9-3f3360f7184c",  # INTUNE_A_VL
        "d216f254-796f-4dab-bbfa-710686e646b9",  # INTUNE_A_GOV
        "da24caf9-af8e-485c-b7c8-e73336da2693",  # INTUNE_EDU
        "8e9ff0ff-aa7a-4b20-83c1-2f636b600ac2",  # INTUNE_SMBIZ
    }
)
# assignedPlan.capabilityStatus. Warning is the grace period of a subscription that was not renewed, "available for
# normal use"; Suspended, LockedOut and Deleted are not.
PLAN_IN_FORCE = frozenset({"enabled", "warning"})
# servicePlanInfo.provisioningStatus.
PLAN_PROVISIONED = "success"


@dataclass(frozen=True, slots=True)
class ManagedDeviceRecord:
    """deviceManagement/managedDevices."""

    id: str
    user_id: str
    user_principal_name: str
    email_address: str
    device_name: str
    operating_system: str
    os_version: str
    model: str
    manufacturer: str
    serial_number: str
    imei: str
    eas_activated: bool | None
    eas_device_id: str  # as it came; an empty or all-zero one says nothing
    eas_activated_at: datetime.datetime | None
    azure_ad_device_id: str
    azure_ad_registered: bool | None
    device_registration_state: str
    compliance_state: str  # the last verdict: a device that stopped checking in keeps it, so look at last_sync too
    grace_until: datetime.datetime | None  # None: no deadline, or none was told
    management_agent: str
    # Filled by the connector that Gatehouse replaces, none or unknown since: for display, never an input.
    exchange_access_state: str
    exchange_access_state_reason: str
    exchange_last_sync: datetime.datetime | None
    last_sync: datetime.datetime | None
    enrolled: datetime.datetime | None
    jail_broken: str


@dataclass(frozen=True, slots=True)
class UserRecord:
    """users. What begins with on_premises in Graph is filled only for people who are synchronised.

    licensed: has an Intune plan in force, by assignedPlans; None when Graph sent no plans, which is not "none".
    """

    id: str
    user_principal_name: str = ""
    display_name: str = ""
    mail: str = ""
    proxy_addresses: tuple[str, ...] = ()  # SMTP: is the primary, smtp: are the others
    preferred_language: str = ""
    account_enabled: bool | None = None
    user_type: str = ""
    sam_account_name: str = ""
    domain_name: str = ""  # FQDN
    on_premises_upn: str = ""
    security_identifier: str = ""
    immutable_id: str = ""  # base64
    distinguished_name: str = ""
    is_synchronized: bool | None = None
    licensed: bool | None = None


@dataclass(frozen=True, slots=True)
class GroupRecord:
    """groups."""

    id: str
    display_name: str


@dataclass(frozen=True, slots=True)
class GroupMembers:
    """A group's people, through other groups too.

    is_complete: as many as Graph counted; its index may lag, so that the counts differ for a while. is_veiled: people
    came as ids with nothing else, which is how Graph shows what the application may not read; the ids are right, but
    a hidden membership may lack some.
    """

    group_id: str
    user_ids: frozenset[str]
    expected: int | None
    is_complete: bool
    is_veiled: bool


@dataclass(frozen=True, slots=True)
class UserChange:
    """One person in a delta. told: UserRecord's fields → values; what is not in it did not change, or was never set."""

    id: str
    told: Mapping[str, Any]

    def applied_to(self, base: UserRecord | None) -> UserRecord:
        """The whole person after the change; `base` is what was known before, None for somebody new."""
        return replace(base or UserRecord(self.id), **self.told)


@dataclass(frozen=True, slots=True)
class UserChangePage:
    """Some of a delta, in no order; the same person can come more than once, the last word counts.

    link: on the last page alone, to be kept for the next delta; "" before. is_fresh: the directory is told from its
    beginning, since there was no link or Graph forgot it; who was in none of the pages is not in the directory.
    """

    changes: tuple[UserChange, ...]
    removed: tuple[str, ...]
    link: str
    is_fresh: bool
    unreadable: tuple[RecordError, ...] = ()


# --- values -------------------------------------------------------------------------------------------------------


def _text(value: object) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        raise TypeError("text")
    return value


def _flag(value: object) -> bool | None:
    if value is not None and not isinstance(value, bool):
        raise TypeError("true or false")
    return value


def _time(value: object) -> datetime.datetime | None:
    """None for null, for 0001-01-01 (never) and for 9999-12-31 (no end)."""
    if value is None or value == "":
        return None
    if not isinstance(value, str):
        raise TypeError("a time")
    if value.startswith(("0001-", "9999-")):
        return None
    try:
        moment = datetime.datetime.fromisoformat(value)
        return moment.replace(tzinfo=datetime.UTC) if moment.tzinfo is None else moment.astimezone(datetime.UTC)
    except (ValueError, OverflowError):
        raise TypeError("a time") from None


def _texts(value: object) -> tuple[str, ...]:
    """A list of texts; nulls in it are left out."""
    if value is None:
        return ()
    if not isinstance(value, list):
        raise TypeError("a list of texts")
    return tuple(_text(one) for one in value if one is not None)


def _licensed(value: object) -> bool | None:
    """From assignedPlans."""
    if value is None:
        return None
    return any(
        _text(plan.get("servicePlanId")).lower() in INTUNE_PLANS
        and _text(plan.get("capabilityStatus")).lower() in PLAN_IN_FORCE
        for plan in _objects(value)
    )


# field → Graph's property, and how it is read.
_Reader = Callable[[object], Any]
_DEVICE: Mapping[str, tuple[str, _Reader]] = {
    "id": ("id", _text),
    "user_id": ("userId", _text),
    "user_principal_name": ("userPrincipalName", _text),
    "email_address": ("emailAddress", _text),
    "device_name": ("deviceName", _text),
    "operating_system": ("operatingSystem", _text),
    "os_version": ("osVersion", _text),
    "model": ("model", _text),
    "manufacturer": ("manufacturer", _text),
    "serial_number": ("serialNumber", _text),
    "imei": ("imei", _text),
    "eas_activated": ("easActivated", _flag),
    "eas_device_id": ("easDeviceId", _text),
    "eas_activated_at": ("easActivationDateTime", _time),
    "azure_ad_device_id": ("azureADDeviceId", _text),
    "azure_ad_registered": ("azureADRegistered", _flag),
    "device_registration_state": ("deviceRegistrationState", _text),
    "compliance_state": ("complianceState", _text),
    "grace_until": ("complianceGracePeriodExpirationDateTime", _time),
    "management_agent": ("managementAgent", _text),
    "exchange_access_state": ("exchangeAccessState", _text),
    "exchange_access_state_reason": ("exchangeAccessStateReason", _text),
    "exchange_last_sync": ("exchangeLastSuccessfulSyncDateTime", _time),
    "last_sync": ("lastSyncDateTime", _time),
    "enrolled": ("enrolledDateTime", _time),
    "jail_broken": ("jailBroken", _text),
}
_USER: Mapping[str, tuple[str, _Reader]] = {
    "id": ("id", _text),
    "user_principal_name": ("userPrincipalName", _text),
    "display_name": ("displayName", _text),
    "mail": ("mail", _text),
    "proxy_addresses": ("proxyAddresses", _texts),
    "preferred_language": ("preferredLanguage", _text),
    "account_enabled": ("accountEnabled", _flag),
    "user_type": ("userType", _text),
    "sam_account_name": ("onPremisesSamAccountName", _text),
    "domain_name": ("onPremisesDomainName", _text),
    "on_premises_upn": ("onPremisesUserPrincipalName", _text),
    "security_identifier": ("onPremisesSecurityIdentifier", _text),
    "immutable_id": ("onPremisesImmutableId", _text),
    "distinguished_name": ("onPremisesDistinguishedName", _text),
    "is_synchronized": ("onPremisesSyncEnabled", _flag),
    "licensed": ("assignedPlans", _licensed),
}
_GROUP: Mapping[str, tuple[str, _Reader]] = {"id": ("id", _text), "display_name": ("displayName", _text)}

DEVICE_SELECT = ",".join(name for name, _ in _DEVICE.values())
USER_SELECT = ",".join(name for name, _ in _USER.values())
GROUP_SELECT = ",".join(name for name, _ in _GROUP.values())

# In the order of the dataclasses, which are made by position: 50,000 rows are read in about a second.
_DEVICE_ROW = tuple(_DEVICE[field.name] for field in fields(ManagedDeviceRecord))
_USER_ROW = tuple(_USER[field.name] for field in fields(UserRecord))
_GROUP_ROW = tuple(_GROUP[field.name] for field in fields(GroupRecord))


def _values(row: object, readers: tuple[tuple[str, _Reader], ...], what: str) -> list[Any]:
    record_id = record_id_of(row)
    if not isinstance(row, dict) or not record_id:
        raise RecordError(f"{what}: no object with an id")
    name = ""
    try:
        values = []
        for name, read in readers:
            values.append(read(row.get(name)))
    except TypeError as error:
        raise RecordError(f"{what} {record_id}: {name} is not {error}", record_id=record_id) from None
    return values


def record_id_of(row: object) -> str:
    """The id of a row that may be anything; "" without one."""
    value = row.get("id") if isinstance(row, dict) else None
    return value if isinstance(value, str) else ""


def managed_device(row: object) -> ManagedDeviceRecord:
    """Raises RecordError."""
    return ManagedDeviceRecord(*_values(row, _DEVICE_ROW, "managed device"))


def user(row: object) -> UserRecord:
    """Raises RecordError."""
    return UserRecord(*_values(row, _USER_ROW, "user"))


def group(row: object) -> GroupRecord:
    """Raises RecordError."""
    return GroupRecord(*_values(row, _GROUP_ROW, "group"))


def user_change(row: Mapping[str, Any]) -> UserChange:
    """From a row of a delta that removes nobody. Raises RecordError."""
    told = {field: spec for field, spec in _USER.items() if spec[0] in row and field != "id"}
    values = _values(row, tuple(told.values()), "user")
    return UserChange(record_id_of(row), MappingProxyType(dict(zip(told, values, strict=True))))


def licence_details(rows: object) -> bool:
    """Whether one of a person's licenseDetails holds an Intune plan that is provisioned. Raises RecordError."""
    try:
        return any(
            _text(plan.get("servicePlanId")).lower() in INTUNE_PLANS
            and _text(plan.get("provisioningStatus")).lower() == PLAN_PROVISIONED
            for licence in _objects(rows)
            for plan in _objects(licence.get("servicePlans"))
        )
    except TypeError as error:
        raise RecordError(f"licenseDetails: not {error}") from None


def _objects(value: object) -> list[dict[str, Any]]:
    """A list of objects; nulls in it are left out."""
    if not isinstance(value, list):
        raise TypeError("a list of objects")
    return [one for one in value if isinstance(one, dict)]

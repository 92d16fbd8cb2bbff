"""From raw objects to records: which properties each record needs, and how their texts become ours.

A property may come as text, number, boolean, object with ToString, or null; the text decides. What cannot be read
raises RecordError with the property's name and never with its value.
"""

from __future__ import annotations

import datetime
import hashlib
import re
import uuid
from collections.abc import Callable
from types import MappingProxyType
from typing import Generic, TypeVar

from connectors.exchange import policies, versions
from connectors.exchange.clixml import CliObject, display, flatten, items
from connectors.exchange.policies import Kind, PolicyValue
from connectors.exchange.records import (
    ActiveSyncOrganizationSettingsRecord,
    CasMailboxRecord,
    DeviceAccessRuleRecord,
    DeviceClassRecord,
    DeviceStatisticsRecord,
    ExchangeServerRecord,
    MailboxPolicyRecord,
    MobileDeviceRecord,
    OrganizationRecord,
    RecipientRecord,
    RecordError,
    UserRecord,
)
from connectors.exchange.shapes import ShapeReader

# Grows when a reader changes what it makes of the same bytes, so that nothing read by the old one passes for known.
READER_VERSION = 1

AnyRecord = TypeVar("AnyRecord")
Texts = tuple[str | None, ...]

# Both separators: Exchange 2010 writes canonical names with "/" only, later ones a "\\" before the container.
_DEVICE_CONTAINER = re.compile(r"[\\/]ExchangeActiveSyncDevices[\\/]")

DEVICE_PROPERTIES = (
    "Guid",
    "Identity",
    "DistinguishedName",
    "DeviceId",
    "UserDisplayName",
    "FriendlyName",
    "DeviceType",
    "DeviceModel",
    "DeviceOS",
    "DeviceOSLanguage",
    "DeviceUserAgent",
    "DeviceImei",
    "DeviceMobileOperator",
    "DeviceTelephoneNumber",
    "ClientType",
    "ClientVersion",
    "DeviceActiveSyncVersion",
    "DeviceAccessState",
    "DeviceAccessStateReason",
    "DeviceAccessControlRule",
    "FirstSyncTime",
    "WhenCreatedUTC",
    "WhenChangedUTC",
)


# The properties that the server is asked for where it can choose them (Select-Object); what the functions below read.
CAS_MAILBOX_PROPERTIES = (
    "Guid",
    "Identity",
    "Name",
    "DisplayName",
    "DistinguishedName",
    "SamAccountName",
    "PrimarySmtpAddress",
    "EmailAddresses",
    "OriginatingServer",
    "ActiveSyncEnabled",
    "HasActiveSyncDevicePartnership",
    "ActiveSyncAllowedDeviceIDs",
    "ActiveSyncBlockedDeviceIDs",
    "ActiveSyncMailboxPolicy",
    "ActiveSyncMailboxPolicyIsDefaulted",
    "WhenChangedUTC",
)
USER_PROPERTIES = (
    "Guid",
    "Identity",
    "DistinguishedName",
    "Sid",
    "UserPrincipalName",
    "SamAccountName",
    "PrimarySmtpAddress",
    "WindowsEmailAddress",
)
RECIPIENT_PROPERTIES = (
    "Guid",
    "Identity",
    "DistinguishedName",
    "DisplayName",
    "SamAccountName",
    "PrimarySmtpAddress",
    "EmailAddresses",
    "ExternalDirectoryObjectId",
    "RecipientType",
    "RecipientTypeDetails",
)


class RawObject:
    """A records.WireObject: the bytes as they came, and what tells them from any others."""

    __slots__ = ("_key", "raw")

    def __init__(self, raw: bytes, key: bytes) -> None:
        self.raw = raw
        self._key = key

    @property
    def digest(self) -> bytes:
        return hashlib.blake2b(self.raw, digest_size=16, key=self._key).digest()


def digest_key(properties: tuple[str, ...]) -> bytes:
    """What a digest is keyed by: the reader's version and the wanted properties."""
    return hashlib.blake2b(f"{READER_VERSION}:{','.join(properties)}".encode(), digest_size=16).digest()


class Reader(Generic[AnyRecord]):
    """Raw objects of one listing to records, fast (see shapes.py). One a listing; not thread-safe."""

    def __init__(self, properties: tuple[str, ...], make: Callable[[Texts], AnyRecord]) -> None:
        self.shapes = ShapeReader(properties)
        self._make = make

    def read(self, raw: bytes) -> AnyRecord:
        """Raises RecordError, and ClixmlError for what is not an object."""
        return self._make(self.shapes.flatten(raw))


def device_reader() -> Reader[MobileDeviceRecord]:
    """A reader for one listing of devices."""
    return Reader(DEVICE_PROPERTIES, device)


def one_device(value: CliObject) -> MobileDeviceRecord:
    """As device(), of an object that came alone."""
    return device(flatten(value, DEVICE_PROPERTIES))


def device(texts: Texts) -> MobileDeviceRecord:
    """From the texts of DEVICE_PROPERTIES. Raises RecordError."""
    (
        guid,
        identity,
        distinguished_name,
        device_id,
        user_display_name,
        friendly_name,
        device_type,
        device_model,
        device_os,
        device_os_language,
        device_user_agent,
        device_imei,
        device_mobile_operator,
        device_telephone_number,
        client_type,
        client_version,
        active_sync_version,
        access_state,
        access_state_reason,
        access_control_rule,
        first_sync_time,
        when_created,
        when_changed,
    ) = texts
    if not identity:
        raise RecordError("a device without Identity")
    return MobileDeviceRecord(
        guid=read_guid(guid, "Guid"),
        identity=identity,
        distinguished_name=distinguished_name or "",
        mailbox=mailbox_of(identity),
        device_id=device_id or "",
        user_display_name=user_display_name or "",
        friendly_name=friendly_name or "",
        device_type=device_type or "",
        device_model=device_model or "",
        device_os=device_os or "",
        device_os_language=device_os_language or "",
        device_user_agent=device_user_agent or "",
        device_imei=device_imei or "",
        device_mobile_operator=device_mobile_operator or "",
        device_telephone_number=device_telephone_number or "",
        client_type=client_type or "",
        client_version=client_version or active_sync_version or "",
        access_state=access_state or "",
        access_state_reason=access_state_reason or "",
        access_control_rule=access_control_rule or "",
        first_sync_time=read_time(first_sync_time, "FirstSyncTime"),
        when_created=read_time(when_created, "WhenCreatedUTC"),
        when_changed=read_time(when_changed, "WhenChangedUTC"),
    )


def mailbox_of(identity: str) -> str:
    """The mailbox in a device's identity; "" when the identity is none that we know."""
    parts = _DEVICE_CONTAINER.split(identity, maxsplit=1)
    return parts[0] if len(parts) == 2 else ""


def read_guid(text: str | None, name: str) -> uuid.UUID:
    """Raises RecordError for null and for what is no GUID."""
    if text is None:
        raise RecordError(f"an object without {name}")
    try:
        return uuid.UUID(text)
    except ValueError as error:
        raise RecordError(f"{name} is no GUID") from error


def read_time(text: str | None, name: str) -> datetime.datetime | None:
    """Aware UTC; None for null, for "" and for the year 1, by which .NET says "unset". A time without zone is UTC.

    Raises RecordError for any other text than the one form that CLIXML has for times.
    """
    if not text or text.startswith("0001-01-01T"):
        return None
    try:
        moment = datetime.datetime.fromisoformat(text)
    except ValueError as error:
        raise RecordError(f"{name} is no time") from error
    if moment.tzinfo is None:
        return moment.replace(tzinfo=datetime.UTC)
    try:
        return moment.astimezone(datetime.UTC)
    except OverflowError as error:
        raise RecordError(f"{name} is no time") from error


class Row:
    """The properties of one object, read one by one by their kind. For the commands whose answers are small."""

    def __init__(self, value: CliObject) -> None:
        self._properties = value.properties
        self.shown = value.text

    def text(self, name: str) -> str:
        return display(self._properties.get(name)) or ""

    def optional(self, name: str) -> str | None:
        return display(self._properties.get(name))

    def texts(self, name: str) -> tuple[str, ...]:
        return items(self._properties.get(name))

    def entries(self, name: str) -> tuple[str, ...]:
        """Device ids. Raises RecordError for a list that came as one text, whose members nobody can tell apart."""
        value = self._properties.get(name)
        if isinstance(value, str) and "," in value:
            raise RecordError(f"{name} is text where a list was expected")
        return tuple(entry for entry in items(value) if entry.strip())

    def flag(self, name: str) -> bool:
        """False for null and for a property that this version does not have. Raises RecordError for another text."""
        text = self.text(name).lower()
        if text not in ("true", "false", ""):
            raise RecordError(f"{name} is no truth value")
        return text == "true"

    def guid(self, name: str) -> uuid.UUID:
        return read_guid(self.optional(name), name)

    def time(self, name: str) -> datetime.datetime | None:
        return read_time(self.optional(name), name)

    def required(self, name: str) -> str:
        text = self.text(name)
        if not text:
            raise RecordError(f"an object without {name}")
        return text


def exchange_server(value: CliObject) -> ExchangeServerRecord:
    row = Row(value)
    return ExchangeServerRecord(
        name=row.required("Name"),
        fqdn=row.required("Fqdn"),
        version=versions.parse(row.text("AdminDisplayVersion")),
        is_client_access_server=row.flag("IsClientAccessServer"),
        is_mailbox_server=row.flag("IsMailboxServer"),
        site=row.text("Site"),
        edition=row.text("Edition"),
    )


def organization(value: CliObject) -> OrganizationRecord:
    row = Row(value)
    guid = row.optional("Guid")
    return OrganizationRecord(name=row.required("Name"), guid=read_guid(guid, "Guid") if guid else None)


def organization_settings(value: CliObject) -> ActiveSyncOrganizationSettingsRecord:
    row = Row(value)
    return ActiveSyncOrganizationSettingsRecord(
        default_access_level=row.required("DefaultAccessLevel"),
        user_mail_insert=row.text("UserMailInsert"),
        admin_mail_recipients=row.texts("AdminMailRecipients"),
        originating_server=row.text("OriginatingServer"),
    )


def device_statistics(value: CliObject) -> DeviceStatisticsRecord:
    row = Row(value)
    return DeviceStatisticsRecord(
        identity=row.required("Identity"),
        device_id=row.text("DeviceID"),
        device_type=row.text("DeviceType"),
        friendly_name=row.text("DeviceFriendlyName"),
        access_state=row.text("DeviceAccessState"),
        access_state_reason=row.text("DeviceAccessStateReason"),
        policy_applied=row.text("DevicePolicyApplied"),
        policy_application_status=row.text("DevicePolicyApplicationStatus"),
        status=row.text("Status"),
        status_note=row.text("StatusNote"),
        first_sync_time=row.time("FirstSyncTime"),
        last_sync_attempt_time=row.time("LastSyncAttemptTime"),
        last_success_sync=row.time("LastSuccessSync"),
        is_remote_wipe_supported=row.flag("IsRemoteWipeSupported"),
        wipe_requested_at=row.time("DeviceWipeRequestTime"),
        wipe_sent_at=row.time("DeviceWipeSentTime"),
        wipe_acknowledged_at=row.time("DeviceWipeAckTime"),
        wipe_requestor=row.text("LastDeviceWipeRequestor"),
        account_only_wipe_requested_at=row.time("AccountOnlyDeviceWipeRequestTime"),
        account_only_wipe_sent_at=row.time("AccountOnlyDeviceWipeSentTime"),
        account_only_wipe_acknowledged_at=row.time("AccountOnlyDeviceWipeAckTime"),
        account_only_wipe_requestor=row.text("LastAccountOnlyDeviceWipeRequestor"),
    )


def cas_mailbox(value: CliObject) -> CasMailboxRecord:
    row = Row(value)
    return CasMailboxRecord(
        guid=row.guid("Guid"),
        identity=row.required("Identity"),
        name=row.text("Name"),
        display_name=row.text("DisplayName"),
        distinguished_name=row.text("DistinguishedName"),
        sam_account_name=row.text("SamAccountName"),
        primary_smtp_address=row.text("PrimarySmtpAddress"),
        email_addresses=row.texts("EmailAddresses"),
        originating_server=row.text("OriginatingServer"),
        active_sync_enabled=row.flag("ActiveSyncEnabled"),
        has_active_sync_device_partnership=row.flag("HasActiveSyncDevicePartnership"),
        allowed_device_ids=row.entries("ActiveSyncAllowedDeviceIDs"),
        blocked_device_ids=row.entries("ActiveSyncBlockedDeviceIDs"),
        active_sync_mailbox_policy=row.text("ActiveSyncMailboxPolicy"),
        is_policy_defaulted=row.flag("ActiveSyncMailboxPolicyIsDefaulted"),
        when_changed=row.time("WhenChangedUTC"),
    )


def user(value: CliObject) -> UserRecord:
    row = Row(value)
    return UserRecord(
        guid=row.guid("Guid"),
        identity=row.required("Identity"),
        distinguished_name=row.text("DistinguishedName"),
        sid=row.text("Sid"),
        user_principal_name=row.text("UserPrincipalName"),
        sam_account_name=row.text("SamAccountName"),
        # A user's own object has the one or the other, by version.
        primary_smtp_address=row.text("PrimarySmtpAddress") or row.text("WindowsEmailAddress"),
    )


def recipient(value: CliObject) -> RecipientRecord:
    row = Row(value)
    return RecipientRecord(
        guid=row.guid("Guid"),
        identity=row.required("Identity"),
        distinguished_name=row.text("DistinguishedName"),
        display_name=row.text("DisplayName"),
        sam_account_name=row.text("SamAccountName"),
        primary_smtp_address=row.text("PrimarySmtpAddress"),
        email_addresses=row.texts("EmailAddresses"),
        external_directory_object_id=row.text("ExternalDirectoryObjectId"),
        recipient_type=row.text("RecipientType"),
        recipient_type_details=row.text("RecipientTypeDetails"),
    )


def device_access_rule(value: CliObject) -> DeviceAccessRuleRecord:
    row = Row(value)
    return DeviceAccessRuleRecord(
        identity=row.required("Identity"),
        name=row.text("Name"),
        characteristic=row.text("Characteristic"),
        query_string=row.text("QueryString"),
        access_level=row.text("AccessLevel"),
    )


def device_class(value: CliObject) -> DeviceClassRecord:
    row = Row(value)
    return DeviceClassRecord(
        identity=row.required("Identity"),
        device_type=row.text("DeviceType"),
        device_model=row.text("DeviceModel"),
        last_update_time=row.time("LastUpdateTime"),
    )


def mailbox_policy(value: CliObject) -> MailboxPolicyRecord:
    row = Row(value)
    guid = row.optional("Guid")
    shown = {
        name: _setting(row, remote, kind)
        for name, kind in policies.SETTINGS.items()
        if (remote := _shown_as(row, name)) is not None
    }
    return MailboxPolicyRecord(
        identity=row.required("Identity"),
        name=row.text("Name"),
        guid=read_guid(guid, "Guid") if guid else None,
        distinguished_name=row.text("DistinguishedName"),
        is_default=row.flag("IsDefault") or row.flag("IsDefaultPolicy"),
        settings=MappingProxyType(shown),
        when_changed=row.time("WhenChangedUTC"),
    )


def _shown_as(row: Row, name: str) -> str | None:
    """Under which of its names a setting is there; None when it is not, or null."""
    return next(
        (remote for remote in (name, policies.ACTIVE_SYNC_NAMES.get(name, name)) if row.optional(remote) is not None),
        None,
    )


def _setting(row: Row, remote: str, kind: Kind) -> PolicyValue:
    if kind is Kind.LIST:
        return row.texts(remote)
    text = row.text(remote)
    if kind is Kind.FLAG and text.lower() in ("true", "false"):
        return text.lower() == "true"
    if kind is Kind.NUMBER and text.isascii() and text.isdecimal():
        return int(text)
    return text

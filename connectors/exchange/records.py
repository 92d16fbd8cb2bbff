"""What is read from Exchange, as frozen values. Remote names are translated to ours here and nowhere else.

Text that Exchange left null is "". Enum labels stay text, so that one we have never heard of survives. Times are
aware UTC. Nothing is dropped silently: a value of a wrong shape raises RecordError, which names the property.
"""

from __future__ import annotations

import datetime
import re
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from connectors.exchange.policies import PolicyValue

# The end of a distinguished name, which is the domain's. A comma in a name is escaped.
_DOMAIN_PART = re.compile(r"(?:^|(?<!\\),)DC=([^,]+)", re.IGNORECASE)


class RecordError(ValueError):
    """An object lacks what we cannot do without, or has it in a shape we do not know. Names object and property."""


class WireObject(Protocol):
    """One object of a listing as it came: cheap to hold, parsed only when asked. Made by rows.py."""

    @property
    def digest(self) -> bytes:
        """16 bytes over raw object, selected properties and reader version: equal means nothing changed."""

    @property
    def raw(self) -> bytes:
        """The CLIXML of the object, UTF-8, without BOM."""


@dataclass(frozen=True, slots=True)
class MobileDeviceRecord:
    """Get-MobileDevice / Get-ActiveSyncDevice (Microsoft Learn; exchange.md 2.2)."""

    guid: uuid.UUID
    identity: str
    distinguished_name: str
    mailbox: str  # the part of identity before ExchangeActiveSyncDevices, separator removed; "" when not recognised
    device_id: str
    user_display_name: str
    friendly_name: str
    device_type: str
    device_model: str
    device_os: str
    device_os_language: str
    device_user_agent: str
    device_imei: str
    device_mobile_operator: str
    device_telephone_number: str
    client_type: str
    client_version: str
    access_state: str
    access_state_reason: str
    access_control_rule: str
    first_sync_time: datetime.datetime | None
    when_created: datetime.datetime | None
    when_changed: datetime.datetime | None


@dataclass(frozen=True, slots=True)
class ServerVersion:
    """AdminDisplayVersion. `product` is one of 2010, 2013, 2016, 2019, SE, or "" when it is none of these."""

    text: str
    major: int
    minor: int
    build: int
    revision: int
    product: str


@dataclass(frozen=True, slots=True)
class ExchangeServerRecord:
    """Get-ExchangeServer. Candidates to connect to are those with is_client_access_server, never by role text."""

    name: str
    fqdn: str
    version: ServerVersion
    is_client_access_server: bool
    is_mailbox_server: bool
    site: str
    edition: str


@dataclass(frozen=True, slots=True)
class OrganizationRecord:
    """Get-OrganizationConfig."""

    name: str
    guid: uuid.UUID | None


@dataclass(frozen=True, slots=True)
class ActiveSyncOrganizationSettingsRecord:
    """Get-ActiveSyncOrganizationSettings."""

    default_access_level: str  # Allow, Block, Quarantine
    user_mail_insert: str
    admin_mail_recipients: tuple[str, ...]
    originating_server: str = ""  # the domain controller that answered


@dataclass(frozen=True, slots=True)
class DevicePage:
    """Some objects of a listing, in the order they came. `parse` turns one into a record and may raise RecordError."""

    objects: tuple[WireObject, ...]
    parse: Callable[[WireObject], MobileDeviceRecord]


@dataclass(frozen=True, slots=True)
class DeviceStatisticsRecord:
    """Get-MobileDeviceStatistics / Get-ActiveSyncDeviceStatistics (exchange.md 2.3; names differ from the device's)."""

    identity: str
    device_id: str
    device_type: str
    friendly_name: str
    access_state: str
    access_state_reason: str
    policy_applied: str
    policy_application_status: str
    status: str
    status_note: str
    first_sync_time: datetime.datetime | None
    last_sync_attempt_time: datetime.datetime | None
    last_success_sync: datetime.datetime | None
    is_remote_wipe_supported: bool
    # A wipe's course, by its times: asked for, told to the phone, confirmed by the phone. `status` says the same by
    # labels that no vendor's list confirms.
    wipe_requested_at: datetime.datetime | None
    wipe_sent_at: datetime.datetime | None
    wipe_acknowledged_at: datetime.datetime | None
    wipe_requestor: str
    # The same of a wipe of the account alone; always unset before Exchange 2016.
    account_only_wipe_requested_at: datetime.datetime | None
    account_only_wipe_sent_at: datetime.datetime | None
    account_only_wipe_acknowledged_at: datetime.datetime | None
    account_only_wipe_requestor: str


@dataclass(frozen=True, slots=True)
class CasMailboxRecord:
    """Get-CASMailbox: a mailbox's personal entries and ActiveSync settings.

    `email_addresses` keep Exchange's prefixes: SMTP: is the primary, smtp: are the others.
    """

    guid: uuid.UUID
    identity: str
    name: str
    display_name: str
    distinguished_name: str
    sam_account_name: str
    primary_smtp_address: str
    email_addresses: tuple[str, ...]
    originating_server: str  # the domain controller that answered
    active_sync_enabled: bool
    has_active_sync_device_partnership: bool
    allowed_device_ids: tuple[str, ...]
    blocked_device_ids: tuple[str, ...]
    active_sync_mailbox_policy: str  # "" where the organisation's default applies
    is_policy_defaulted: bool
    when_changed: datetime.datetime | None

    @property
    def domain_controller(self) -> str:
        """The one to write this mailbox to, so that it can be read back without lag; "" when none is known to do.

        A forest-wide view is answered by a global catalog, which may stand in another domain; there the mailbox
        cannot be written.
        """
        domain = ".".join(_DOMAIN_PART.findall(self.distinguished_name)).lower()
        server = self.originating_server.lower()
        return self.originating_server if domain and server.partition(".")[2] == domain else ""


@dataclass(frozen=True, slots=True)
class UserRecord:
    """Get-User: what tells whose account a mailbox is."""

    guid: uuid.UUID
    identity: str
    distinguished_name: str
    sid: str
    user_principal_name: str
    sam_account_name: str
    primary_smtp_address: str


@dataclass(frozen=True, slots=True)
class RecipientRecord:
    """Get-Recipient. `email_addresses` keep Exchange's prefixes: SMTP: is the primary, smtp: are the others."""

    guid: uuid.UUID
    identity: str
    distinguished_name: str
    display_name: str
    sam_account_name: str
    primary_smtp_address: str
    email_addresses: tuple[str, ...]
    external_directory_object_id: str
    recipient_type: str
    recipient_type_details: str


@dataclass(frozen=True, slots=True)
class DeviceAccessRuleRecord:
    """Get-ActiveSyncDeviceAccessRule."""

    identity: str
    name: str
    characteristic: str
    query_string: str
    access_level: str


@dataclass(frozen=True, slots=True)
class DeviceClassRecord:
    """Get-ActiveSyncDeviceClass: one kind of device that the organisation has ever seen."""

    identity: str
    device_type: str
    device_model: str
    last_update_time: datetime.datetime | None


@dataclass(frozen=True, slots=True)
class MailboxPolicyRecord:
    """Get-MobileDeviceMailboxPolicy / Get-ActiveSyncMailboxPolicy: what Exchange has phones do (a PIN, above all).

    `settings`: by our names (policies.py), those that this version showed and that were not null; a value is of the
    setting's kind, or text where it cannot be read as that.
    """

    identity: str
    name: str
    guid: uuid.UUID | None
    distinguished_name: str
    is_default: bool
    settings: Mapping[str, PolicyValue]
    when_changed: datetime.datetime | None

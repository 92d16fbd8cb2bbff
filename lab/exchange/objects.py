"""What an organisation consists of: mailboxes, devices, rules, policies, servers, mail. Plain data alone.

Whoever changes one holds the lock of the store it belongs to (store.py).
"""

from __future__ import annotations

import datetime
import uuid
from dataclasses import dataclass, field
from typing import Any

# The newest moment in a scenario. Fixed, so that the same seed gives the same bytes on any day.
EPOCH = datetime.datetime(2026, 11, 1, 8, 0, tzinfo=datetime.UTC)


def utc_now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC).replace(microsecond=0)


def escape_dn(text: str) -> str:
    return "".join("\\" + c if c in ',+"\\<>;=' else c for c in text)


def domain_dn(domain: str) -> str:
    """DC=contoso,DC=lab"""
    return ",".join(f"DC={part}" for part in domain.split("."))


@dataclass(slots=True)
class Message:
    """One mail in a mailbox, kept as sent. `about`: the DeviceId, in Exchange's own notice of a quarantine.

    folder: inbox, or sentitems for the copy that a sender keeps. text: the plain part of a mail that came by SMTP with
    both. headers: those that came by SMTP; properties: the extended ones that came by EWS.
    """

    sender: str
    subject: str
    body: str
    body_type: str = "Text"
    received: datetime.datetime = field(default_factory=utc_now)
    recipients: list[str] = field(default_factory=list)
    folder: str = "inbox"
    about: str = ""
    text: str = ""
    message_id: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    properties: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True, eq=False)
class Mailbox:
    """A mailbox user with its CAS mailbox settings. `domain` is the AD domain that holds the account.

    cn: the account's name in its container, where no other may have it; a display name anybody may share.
    """

    guid: uuid.UUID
    sam: str
    display_name: str
    domain: str
    upn: str
    smtp: str
    sid: str
    cn: str = ""
    password: str = ""
    aliases: list[str] = field(default_factory=list)
    active_sync_enabled: bool = True
    allowed: list[str] = field(default_factory=list)
    blocked: list[str] = field(default_factory=list)
    policy: str | None = None
    debug_logging: bool = False
    protocols: dict[str, bool] = field(default_factory=dict)
    messages: list[Message] = field(default_factory=list)
    created: datetime.datetime = field(default_factory=utc_now)
    changed: datetime.datetime = field(default_factory=utc_now)

    def __post_init__(self) -> None:
        self.cn = self.cn or self.display_name

    @property
    def canonical(self) -> str:
        return f"{self.domain}/Users/{self.cn.replace('/', '')}"

    @property
    def dn(self) -> str:
        return f"CN={escape_dn(self.cn)},CN=Users,{domain_dn(self.domain)}"


@dataclass(slots=True, eq=False)
class Device:
    """One ActiveSync partnership: directory object and statistics together."""

    guid: uuid.UUID
    mailbox: Mailbox
    device_id: str
    device_type: str
    model: str
    os: str
    os_language: str
    user_agent: str
    friendly_name: str = ""
    imei: str = ""
    operator: str = ""
    phone_number: str = ""
    client_type: str = "EAS"
    client_version: str = "16.1"
    state: str = "Allowed"
    reason: str = "Global"
    rule: str | None = None
    first_sync: datetime.datetime = field(default_factory=utc_now)
    created: datetime.datetime = field(default_factory=utc_now)
    changed: datetime.datetime = field(default_factory=utc_now)
    last_attempt: datetime.datetime | None = None
    last_success: datetime.datetime | None = None
    wipe_requested: datetime.datetime | None = None
    wipe_sent: datetime.datetime | None = None
    wipe_acknowledged: datetime.datetime | None = None
    wipe_requestor: str = ""
    wipe_account_only: bool = False
    wipe_tell: list[str] = field(default_factory=list)
    # Rendered forms by what was asked for; emptied by touch().
    rendered: dict[object, bytes] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return f"{self.device_type}§{self.device_id}"

    @property
    def dn(self) -> str:
        return f"CN={escape_dn(self.name)},CN=ExchangeActiveSyncDevices,{self.mailbox.dn}"

    def touch(self, now: datetime.datetime | None = None) -> None:
        """Something about the directory object changed."""
        self.changed = now or utc_now()
        self.rendered.clear()


@dataclass(slots=True)
class AccessRule:
    query: str
    characteristic: str
    level: str
    guid: uuid.UUID = field(default_factory=uuid.uuid4)
    created: datetime.datetime = field(default_factory=utc_now)
    changed: datetime.datetime = field(default_factory=utc_now)

    @property
    def name(self) -> str:
        return f"{self.query} ({self.characteristic})"


@dataclass(slots=True)
class ExchangeServer:
    name: str
    fqdn: str
    build: str
    site: str
    guid: uuid.UUID = field(default_factory=uuid.uuid4)
    is_client_access: bool = True


@dataclass
class OrganizationSettings:
    default_access_level: str = "Allow"
    user_mail_insert: str = ""
    ota_mail_insert: str = ""
    admin_mail_recipients: list[str] = field(default_factory=list)
    allow_unsupported_platform: bool = False
    allow_rms_for_unenlightened: bool = False


@dataclass(slots=True)
class MailboxPolicy:
    """`settings` by their ActiveSync names (cmdlets/policies.py), where they differ from the defaults there."""

    name: str
    is_default: bool = False
    guid: uuid.UUID = field(default_factory=uuid.uuid4)
    settings: dict[str, Any] = field(default_factory=dict)
    created: datetime.datetime = field(default_factory=utc_now)
    changed: datetime.datetime = field(default_factory=utc_now)


@dataclass(slots=True)
class DeviceClass:
    """A type and model that the organisation has seen once; it stays when the last such device has gone."""

    device_type: str
    model: str
    guid: uuid.UUID
    updated: datetime.datetime

    @property
    def name(self) -> str:
        return f"{self.device_type}§{self.model}"

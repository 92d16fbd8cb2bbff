"""One Exchange organisation's data: what Active Directory and the mailboxes hold. Thread-safe; shared by all its CAS.

It answers nothing and renders nothing: cmdlets.py and access.py work on it.
"""

from __future__ import annotations

import datetime
import random
import threading
import uuid
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from lab.exchange.versions import Version

WIRE_LOG_ENTRIES = 100_000


def utc_now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC).replace(microsecond=0)


@dataclass(slots=True)
class Message:
    """One mail in a mailbox. The lab keeps it as sent; nothing is parsed."""

    sender: str
    subject: str
    body: str
    body_type: str = "Text"
    received: datetime.datetime = field(default_factory=utc_now)


@dataclass(slots=True, eq=False)
class Mailbox:
    """A mailbox user with its CAS mailbox settings. `domain` is the AD domain that holds the account."""

    guid: uuid.UUID
    sam: str
    display_name: str
    domain: str
    upn: str
    smtp: str
    sid: str
    password: str = ""
    aliases: list[str] = field(default_factory=list)
    active_sync_enabled: bool = True
    allowed: list[str] = field(default_factory=list)
    blocked: list[str] = field(default_factory=list)
    policy: str | None = None
    messages: list[Message] = field(default_factory=list)
    changed: datetime.datetime = field(default_factory=utc_now)

    @property
    def canonical(self) -> str:
        return f"{self.domain}/Users/{self.display_name.replace('/', '')}"

    @property
    def dn(self) -> str:
        domain = ",".join(f"DC={part}" for part in self.domain.split("."))
        return f"CN={escape_dn(self.display_name)},CN=Users,{domain}"


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


def escape_dn(text: str) -> str:
    return "".join("\\" + c if c in ',+"\\<>;=' else c for c in text)


@dataclass(slots=True)
class AccessRule:
    query: str
    characteristic: str
    level: str
    guid: uuid.UUID = field(default_factory=uuid.uuid4)

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


@dataclass(slots=True)
class MailboxPolicy:
    name: str
    is_default: bool = False
    guid: uuid.UUID = field(default_factory=uuid.uuid4)
    settings: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Executed:
    """One line of the wire log."""

    number: int
    at: float
    server: str
    account: str
    cmdlet: str
    parameters: dict[str, Any]


class Store:
    """See the module. Hold `lock` for anything that reads or changes more than one field."""

    def __init__(self, *, name: str, domain: str, version: Version, seed: int) -> None:
        self.name, self.domain, self.version = name, domain, version
        self.child_domain = f"emea.{domain}"
        self.guid = uuid.uuid5(uuid.NAMESPACE_DNS, f"{name}.{domain}")
        self.netbios = domain.split(".", 1)[0].upper()[:15]
        self.random = random.Random(seed)
        self.lock = threading.RLock()
        self.mailboxes: dict[uuid.UUID, Mailbox] = {}
        self.devices: dict[uuid.UUID, Device] = {}
        self.rules: list[AccessRule] = []
        self.servers: list[ExchangeServer] = []
        self.policies: list[MailboxPolicy] = [MailboxPolicy("Default", is_default=True)]
        self.settings = OrganizationSettings()
        self.now = utc_now
        self._log: deque[Executed] = deque(maxlen=WIRE_LOG_ENTRIES)
        self._log_number = 0
        self._by_key: dict[str, uuid.UUID] = {}
        self._of_mailbox: dict[uuid.UUID, dict[uuid.UUID, Device]] = {}
        self._by_partnership: dict[tuple[uuid.UUID, str, str], uuid.UUID] = {}

    # --- finding ---

    def add_mailbox(self, mailbox: Mailbox) -> Mailbox:
        with self.lock:
            self.mailboxes[mailbox.guid] = mailbox
            for key in (
                mailbox.sam,
                mailbox.upn,
                mailbox.smtp,
                mailbox.dn,
                mailbox.canonical,
                str(mailbox.guid),
                mailbox.display_name,
            ):
                self._by_key.setdefault(key.lower(), mailbox.guid)
            self._by_key.setdefault(f"{self.netbios}\\{mailbox.sam}".lower(), mailbox.guid)
        return mailbox

    def find_mailbox(self, identity: str) -> Mailbox | None:
        """By GUID, DN, canonical name, UPN, SMTP address, sam account name, DOMAIN\\sam or display name."""
        guid = self._by_key.get(identity.strip().lower())
        return self.mailboxes.get(guid) if guid else None

    def identity_of(self, device: Device) -> str:
        """The Identity text: mailbox\\ExchangeActiveSyncDevices\\type§id since 2013, canonical with slashes before."""
        if self.version.rank < 2013:
            return f"{device.mailbox.canonical}/ExchangeActiveSyncDevices/{device.name}"
        return f"{device.mailbox.sam}\\ExchangeActiveSyncDevices\\{device.name}"

    def find_device(self, identity: str) -> Device | None:
        """By GUID, DN or full identity; a bare DeviceId is none of these."""
        wanted = identity.strip()
        try:
            return self.devices.get(uuid.UUID(wanted))
        except ValueError:
            pass
        lowered = wanted.lower().replace("\\", "/")
        marker = "/exchangeactivesyncdevices/"
        with self.lock:
            if marker in lowered:
                owner = self.find_mailbox(wanted[: lowered.index(marker)])
                name = lowered.split(marker, 1)[1]
                candidates = self.devices_of(owner) if owner else []
                return next((d for d in candidates if d.name.lower() == name), None)
            return (
                next((d for d in self.devices.values() if d.dn.lower() == wanted.lower()), None)
                if wanted[:3].lower() == "cn="
                else None
            )

    def devices_of(self, mailbox: Mailbox) -> list[Device]:
        with self.lock:
            return list(self._of_mailbox.get(mailbox.guid, {}).values())

    def partnership(self, mailbox: Mailbox, device_id: str, device_type: str) -> Device | None:
        guid = self._by_partnership.get((mailbox.guid, device_id.lower(), device_type.lower()))
        return self.devices.get(guid) if guid else None

    # --- changing ---

    def add_device(self, device: Device) -> Device:
        with self.lock:
            self.devices[device.guid] = device
            self._of_mailbox.setdefault(device.mailbox.guid, {})[device.guid] = device
            self._by_partnership[(device.mailbox.guid, device.device_id.lower(), device.device_type.lower())] = (
                device.guid
            )
        return device

    def remove_device(self, device: Device) -> None:
        """The partnership alone: the mailbox's personal lists keep the id (KB 4090814)."""
        with self.lock:
            self.devices.pop(device.guid, None)
            self._of_mailbox.get(device.mailbox.guid, {}).pop(device.guid, None)
            self._by_partnership.pop((device.mailbox.guid, device.device_id.lower(), device.device_type.lower()), None)

    def set_state(self, device: Device, state: str, reason: str, rule: str | None = None) -> None:
        with self.lock:
            if (device.state, device.reason, device.rule) != (state, reason, rule):
                device.state, device.reason, device.rule = state, reason, rule
                device.touch(self.now())

    def mutate(self, count: int) -> list[Device]:
        """Change the operating system of some devices, as phones do when they are updated."""
        with self.lock:
            chosen = self.random.sample(list(self.devices.values()), min(count, len(self.devices)))
            for device in chosen:
                device.os = f"{device.os.split(' (')[0]} ({self.random.randrange(10**6):06d})"
                device.touch(self.now())
        return chosen

    def deliver(self, mailbox: Mailbox, message: Message) -> None:
        with self.lock:
            mailbox.messages.append(message)

    # --- the wire log ---

    def log(self, server: str, account: str, cmdlet: str, parameters: dict[str, Any]) -> None:
        with self.lock:
            self._log_number += 1
            self._log.append(
                Executed(self._log_number, datetime.datetime.now().timestamp(), server, account, cmdlet, parameters)  # noqa: DTZ005 - an epoch
            )

    def executed(self, since: int = 0) -> list[Executed]:
        with self.lock:
            return [entry for entry in self._log if entry.number > since]

    def clear_log(self) -> None:
        with self.lock:
            self._log.clear()

    @contextmanager
    def snapshot(self) -> Iterator[list[Device]]:
        """The devices as they are listed now, in a stable order."""
        with self.lock:
            devices = list(self.devices.values())
        yield devices

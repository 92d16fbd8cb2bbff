"""One Exchange organisation's data: what Active Directory and the mailboxes hold. Thread-safe; shared by all its CAS.

It answers nothing and renders nothing: the cmdlets and access.py work on it.
"""

from __future__ import annotations

import random
import threading
import time
import uuid
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from lab.exchange.objects import (
    AccessRule,
    Device,
    DeviceClass,
    ExchangeServer,
    Mailbox,
    MailboxPolicy,
    Message,
    OrganizationSettings,
    utc_now,
)
from lab.exchange.versions import Version

WIRE_LOG_ENTRIES = 100_000


@dataclass(frozen=True)
class Executed:
    """One line of the wire log. `at`: seconds since 1970."""

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
        self.classes: dict[tuple[str, str], DeviceClass] = {}
        self.rules: list[AccessRule] = []
        self.servers: list[ExchangeServer] = []
        default = MailboxPolicy("Default", is_default=True, guid=uuid.uuid5(self.guid, "policy/Default"))
        self.policies: list[MailboxPolicy] = [default]
        self.settings = OrganizationSettings()
        self.now = utc_now
        self._log: deque[Executed] = deque(maxlen=WIRE_LOG_ENTRIES)
        self._log_number = 0
        self._by_key: dict[str, Mailbox] = {}
        self._namesakes: dict[str, list[Mailbox]] = {}
        self._of_mailbox: dict[uuid.UUID, dict[uuid.UUID, Device]] = {}
        self._by_partnership: dict[tuple[uuid.UUID, str, str], uuid.UUID] = {}

    # --- finding ---

    def add_mailbox(self, mailbox: Mailbox) -> Mailbox:
        with self.lock:
            self.mailboxes[mailbox.guid] = mailbox
            flat = self.netbios if mailbox.domain == self.domain else mailbox.domain.split(".", 1)[0]
            keys = {
                mailbox.sam, mailbox.upn, mailbox.smtp, mailbox.dn, mailbox.canonical, str(mailbox.guid),
                mailbox.display_name, mailbox.cn, f"{flat}\\{mailbox.sam}", *mailbox.aliases,
            }  # fmt: skip
            for key in {key.lower() for key in keys}:
                first = self._by_key.setdefault(key, mailbox)
                if first is not mailbox:
                    self._namesakes.setdefault(key, [first]).append(mailbox)
        return mailbox

    def find_mailboxes(self, identity: str) -> list[Mailbox]:
        """By GUID, DN, canonical name, UPN, SMTP address, DOMAIN\\sam, sam, name or display name: all that fit."""
        key = identity.strip().lower()
        if key in self._namesakes:
            return list(self._namesakes[key])
        found = self._by_key.get(key)
        return [found] if found else []

    def find_mailbox(self, identity: str) -> Mailbox | None:
        """The first of find_mailboxes()."""
        return next(iter(self.find_mailboxes(identity)), None)

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
                name = lowered.split(marker, 1)[1]
                owners = self.find_mailboxes(wanted[: lowered.index(marker)])
                candidates = [device for owner in owners for device in self.devices_of(owner)]
                return next((d for d in candidates if d.name.lower().replace("\\", "/") == name), None)
            if not lowered.startswith("cn="):
                return None
            return next((d for d in self.devices.values() if d.dn.lower() == wanted.lower()), None)

    def devices_of(self, mailbox: Mailbox) -> list[Device]:
        with self.lock:
            return list(self._of_mailbox.get(mailbox.guid, {}).values())

    def partnership(self, mailbox: Mailbox, device_id: str, device_type: str) -> Device | None:
        guid = self._by_partnership.get((mailbox.guid, device_id.lower(), device_type.lower()))
        return self.devices.get(guid) if guid else None

    @contextmanager
    def snapshot(self) -> Iterator[list[Device]]:
        """The devices as they are listed now, in a stable order."""
        with self.lock:
            devices = list(self.devices.values())
        yield devices

    # --- changing ---

    def add_device(self, device: Device) -> Device:
        with self.lock:
            self.devices[device.guid] = device
            self._of_mailbox.setdefault(device.mailbox.guid, {})[device.guid] = device
            key = (device.mailbox.guid, device.device_id.lower(), device.device_type.lower())
            self._by_partnership[key] = device.guid
            self.seen(device)
        return device

    def seen(self, device: Device) -> None:
        """Note the device's type and model among those that the organisation knows."""
        key = (device.device_type, device.model)
        with self.lock:
            known = self.classes.get(key)
            if known is None:
                guid = uuid.uuid5(self.guid, f"class/{device.device_type}/{device.model}")
                self.classes[key] = DeviceClass(device.device_type, device.model, guid, device.changed)
            elif device.changed > known.updated:
                known.updated = device.changed

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
            self._log.append(Executed(self._log_number, time.time(), server, account, cmdlet, parameters))

    def executed(self, since: int = 0) -> list[Executed]:
        with self.lock:
            return [entry for entry in self._log if entry.number > since]

    def clear_log(self) -> None:
        with self.lock:
            self._log.clear()

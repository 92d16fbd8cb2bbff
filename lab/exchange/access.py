"""Exchange's own decision about a phone, at each of its requests (exchange.md 4.1, 4.2).

Steps 1 to 4 are documented; 5 to 9 are generally known and agree with observed reasons. What a request decides is
written to the device's directory object, which therefore lags behind a change of lists or rules until the phone comes.
"""

from __future__ import annotations

import datetime
import uuid
from dataclasses import dataclass, replace

from lab.exchange import notices
from lab.exchange.objects import Device, Mailbox
from lab.exchange.policy import DEFAULTS
from lab.exchange.store import Store

_STATE_OF = {"Allow": "Allowed", "Block": "Blocked", "Quarantine": "Quarantined"}
_SEVERITY = ("Block", "Quarantine", "Allow")
# For so long Exchange waits for a new phone's information.
DISCOVERY = datetime.timedelta(minutes=14)
# Throttling policy's EasMaxDevices.
MAX_DEVICES = 100


@dataclass(frozen=True)
class Decision:
    """`state`: DeviceAccessState, or Disabled (ActiveSync is off for the mailbox), or TooMany (partnerships)."""

    state: str
    reason: str
    rule: str | None = None


@dataclass(frozen=True)
class Claim:
    """What a phone says of itself in a request; any of it may be untrue."""

    device_id: str
    device_type: str
    model: str = ""
    os: str = ""
    user_agent: str = ""
    friendly_name: str = ""
    imei: str = ""
    protocol_version: str = "16.1"
    is_provisioned: bool = True

    def characteristic(self, name: str) -> str:
        return {
            "DeviceType": self.device_type,
            "DeviceModel": self.model,
            "DeviceOS": self.os,
            "UserAgent": self.user_agent,
        }.get(name, "")


def evaluate(store: Store, mailbox: Mailbox, claim: Claim) -> Decision:
    """Decide by the order of exchange.md 4.1, writing nothing."""
    if not mailbox.active_sync_enabled:
        return Decision("Disabled", "Unknown")
    if not claim.is_provisioned and not _allows_non_provisionable(store, mailbox):
        return Decision("Blocked", "Policy")
    wanted = claim.device_id.lower()
    if wanted in (entry.lower() for entry in mailbox.blocked):
        return Decision("Blocked", "Individual")
    if wanted in (entry.lower() for entry in mailbox.allowed):
        return Decision("Allowed", "Individual")
    for level in _SEVERITY:
        for rule in store.rules:
            if rule.level == level and claim.characteristic(rule.characteristic).lower() == rule.query.lower():
                return Decision(_STATE_OF[level], "DeviceRule", rule.name)
    return Decision(_STATE_OF[store.settings.default_access_level], "Global")


def _allows_non_provisionable(store: Store, mailbox: Mailbox) -> bool:
    policy = next((p for p in store.policies if p.name == mailbox.policy), None)
    policy = policy or next((p for p in store.policies if p.is_default), None)
    settings = DEFAULTS | (policy.settings if policy else {})
    return bool(settings["AllowNonProvisionableDevices"])


def phone_request(store: Store, mailbox: Mailbox, claim: Claim) -> tuple[Decision, Device | None]:
    """One request of a phone: decide, make or update its partnership, mail the person when it is newly kept out."""
    with store.lock:
        device = store.partnership(mailbox, claim.device_id, claim.device_type)
        claim = _believed(claim, device)
        decision = evaluate(store, mailbox, claim)
        if decision.state == "Disabled":
            return decision, None
        if device is None and len(store.devices_of(mailbox)) >= MAX_DEVICES:
            return Decision("TooMany", "Unknown"), None
        now = store.now()
        before = device.state if device else ""
        if device is None:
            device = store.add_device(_new_partnership(store, mailbox, claim, now))
        if _is_discovering(device, claim, decision, now):
            decision = Decision("DeviceDiscovery", "Global")
        # A blocked phone does not get as far as reporting what it is; a quarantined one does.
        if decision.state != "Blocked":
            _report(store, device, claim, now)
        device.last_attempt = now
        if decision.state == "Allowed":
            device.last_success = now
        store.set_state(device, decision.state, decision.reason, decision.rule)
        if decision.state in ("Quarantined", "Blocked") and before != decision.state:
            notices.kept_out(store, device)
    return decision, device


def _believed(claim: Claim, device: Device | None) -> Claim:
    """What a blocked phone reports is not heard: it stays with the model and system that are known of it."""
    if device is None or (device.state, device.reason) != ("Blocked", "DeviceRule"):
        return claim
    return replace(claim, model=device.model, os=device.os)


def _is_discovering(device: Device, claim: Claim, decision: Decision, now: datetime.datetime) -> bool:
    """A new phone that has not said what it is: for some minutes neither rules nor the default decide."""
    if decision.reason not in ("Global", "DeviceRule") or device.model or claim.model:
        return False
    return now - device.first_sync < DISCOVERY


def _new_partnership(store: Store, mailbox: Mailbox, claim: Claim, now: datetime.datetime) -> Device:
    return Device(
        guid=uuid.uuid4(),
        mailbox=mailbox,
        device_id=claim.device_id,
        device_type=claim.device_type,
        model=claim.model,
        os=claim.os,
        os_language="en",
        user_agent=claim.user_agent,
        friendly_name=claim.friendly_name,
        imei=claim.imei,
        client_version=_spoken(store, claim.protocol_version),
        state="DeviceDiscovery",
        reason="Global",
        first_sync=now,
        created=now,
        changed=now,
    )


def _spoken(store: Store, wanted: str) -> str:
    """The protocol that phone and server agree on: the phone's, or the newest that the server has."""
    known = store.version.phones
    return wanted if wanted in known else known[-1]


def _report(store: Store, device: Device, claim: Claim, now: datetime.datetime) -> None:
    told = {"model": claim.model, "os": claim.os, "user_agent": claim.user_agent, "friendly_name": claim.friendly_name}
    for name, value in told.items():
        if value and getattr(device, name) != value:
            setattr(device, name, value)
            device.touch(now)
            store.seen(device)

"""Exchange's own decision about a phone, at each of its requests (exchange.md section 4.1). Shares no code with the product.

Steps 1 to 4 are documented; 5 to 9 are generally known and agree with observed reasons. What a request decides is written
to the device's directory object, which therefore lags behind a change of lists or rules until the phone comes again.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass

from lab.exchange.store import Device, Mailbox, Message, Store

_STATE_OF = {"Allow": "Allowed", "Block": "Blocked", "Quarantine": "Quarantined"}
_SEVERITY = ("Block", "Quarantine", "Allow")


@dataclass(frozen=True)
class Decision:
    """`state`: Allowed, Blocked, Quarantined, or Disabled when ActiveSync is off for the mailbox."""

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
    """Decide, writing nothing."""
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
    return bool(policy and policy.settings.get("AllowNonProvisionableDevices", True))


def phone_request(store: Store, mailbox: Mailbox, claim: Claim) -> tuple[Decision, Device | None]:
    """One request of a phone: decide, make or update its partnership, and mail the person on a new quarantine."""
    with store.lock:
        decision = evaluate(store, mailbox, claim)
        if decision.state == "Disabled":
            return decision, None
        device = store.partnership(mailbox, claim.device_id, claim.device_type)
        now = store.now()
        before = device.state if device else ""
        if device is None:
            device = store.add_device(_new_partnership(store, mailbox, claim))
        # A blocked phone does not get as far as reporting what it is; a quarantined one does.
        if decision.state != "Blocked":
            _report(device, claim)
        device.last_attempt = now
        if decision.state == "Allowed":
            device.last_success = now
        store.set_state(device, decision.state, decision.reason, decision.rule)
        if decision.state == "Quarantined" and before != "Quarantined":
            _tell(store, mailbox, device)
    return decision, device


def _new_partnership(store: Store, mailbox: Mailbox, claim: Claim) -> Device:
    now = store.now()
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
        client_version=claim.protocol_version,
        state="DeviceDiscovery",
        reason="Global",
        first_sync=now,
        created=now,
        changed=now,
    )


def _report(device: Device, claim: Claim) -> None:
    told = {"model": claim.model, "os": claim.os, "user_agent": claim.user_agent, "friendly_name": claim.friendly_name}
    for name, value in told.items():
        if value and getattr(device, name) != value:
            setattr(device, name, value)
            device.rendered.clear()


def _tell(store: Store, mailbox: Mailbox, device: Device) -> None:
    """Exchange's own message (KB 3013802); the administrators in AdminMailRecipients get theirs."""
    facts = (
        ("Device model", device.model),
        ("Device type", device.device_type),
        ("Device ID", device.device_id),
        ("Device OS", device.os),
        ("Device user agent", device.user_agent),
        ("Device IMEI", device.imei),
        ("Exchange ActiveSync version", device.client_version),
        ("Device access state", device.state),
        ("Device access state reason", device.reason),
    )
    body = "\n".join(
        [
            "Your phone is temporarily blocked from synchronizing with the server because it is in quarantine. "
            "You don't need to take any action. Content will be downloaded once an administrator grants access.",
            store.settings.user_mail_insert,
            "Information about your mobile device:",
            *(f"{name}: {value}" for name, value in facts),
            f"Sent at {store.now():%m/%d/%Y %I:%M:%S %p} to {mailbox.smtp}.",
        ]
    )
    sender = f"postmaster@{store.domain}"
    subject = "Your phone is temporarily blocked from accessing content via Exchange ActiveSync"
    store.deliver(mailbox, Message(sender, subject, body))
    for address in store.settings.admin_mail_recipients:
        admin = store.find_mailbox(address)
        if admin is not None:
            store.deliver(
                admin, Message(sender, f"A device that belongs to {mailbox.display_name} is quarantined", body)
            )

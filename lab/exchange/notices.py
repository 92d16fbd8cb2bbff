"""The mail that Exchange itself sends about phones: quarantine (KB 3013802), block, wipe. At once, and in English."""

from __future__ import annotations

from lab.exchange.objects import Device, Message
from lab.exchange.store import Store

_QUARANTINED = (
    "Your phone is temporarily blocked from synchronizing with the server because it is in quarantine. You don't need "
    "to take any action. Content will be downloaded once an administrator grants access."
)
_BLOCKED = "Your phone won't be able to synchronize with the server because of an access policy defined on the server."
_SUBJECTS = {
    "Quarantined": "Your phone is temporarily blocked from accessing content via Exchange ActiveSync",
    "Blocked": "Your phone has been denied access to the server via Exchange ActiveSync",
}


def kept_out(store: Store, device: Device) -> None:
    """To the person, and of a quarantine to the administrators in AdminMailRecipients as well."""
    mailbox, is_quarantine = device.mailbox, device.state == "Quarantined"
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
            _QUARANTINED if is_quarantine else _BLOCKED,
            *([store.settings.user_mail_insert] if is_quarantine else []),
            "Information about your mobile device:",
            *(f"{name}: {value}" for name, value in facts),
            f"Sent at {store.now():%m/%d/%Y %I:%M:%S %p} to {mailbox.smtp}.",
        ]
    )
    about = device.device_id if is_quarantine else ""
    _send(store, mailbox.smtp, _SUBJECTS[device.state], body, about)
    if is_quarantine:
        for address in store.settings.admin_mail_recipients:
            _send(store, address, f"A device that belongs to {mailbox.display_name} is quarantined", body)


def wiped(store: Store, device: Device) -> None:
    """To the person and to those whom the wipe's order named."""
    body = f"The device {device.device_id} of {device.mailbox.display_name} has confirmed the remote wipe."
    for address in dict.fromkeys([device.mailbox.smtp, *device.wipe_tell]):
        _send(store, address, "Remote Device Wipe Confirmation", body)


def _send(store: Store, address: str, subject: str, body: str, about: str = "") -> None:
    mailbox = store.find_mailbox(address)
    if mailbox is not None:
        sender = f"postmaster@{store.domain}"
        store.deliver(mailbox, Message(sender, subject, body, recipients=[address], about=about, received=store.now()))

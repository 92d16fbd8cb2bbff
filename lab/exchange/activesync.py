"""/Microsoft-Server-ActiveSync: where phones come, and learn what Exchange thinks of them (exchange.md 4.3, 4.4).

Sign-in is Basic, as the mailbox's user. What a phone says of itself comes in the query (DeviceId, DeviceType) and, in
this lab, in X-Device-* headers (percent-encoded) instead of the Settings command; the WBXML bodies are not spoken, so
the status that would stand in one is a header as well.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import urllib.parse

from lab.exchange import notices
from lab.exchange.access import Claim, phone_request
from lab.exchange.contract import WebRequest, WebResponse
from lab.exchange.objects import Device, Mailbox, Message
from lab.exchange.store import Store

STATUS_HEADER = "X-Lab-EAS-Status"
# EAS common status (MS-ASCMD 2.2.2).
OK, ID_MISSING, TYPE_MISSING, USER_DISABLED, DEVICE_BLOCKED = "1", "108", "109", "126", "129"
NOT_PROVISIONABLE, WIPE, TOO_MANY_DEVICES = "139", "140", "177"
_UNAUTHORIZED = WebResponse(401, {"WWW-Authenticate": 'Basic realm="lab"'}, b"")


class ActiveSync:
    """A contract.Route for one organisation."""

    requires_sign_in = False  # its accounts are the mailboxes' users, not the servers' administrators

    def __init__(self, store: Store) -> None:
        self.store = store

    def handle(self, request: WebRequest) -> WebResponse:
        mailbox = self._signed_in(request)
        if mailbox is None:
            return _UNAUTHORIZED
        major, minor, _, _ = self.store.version.numbers
        known = {"MS-Server-ActiveSync": f"{major}.{minor}"}
        if request.method == "OPTIONS":
            return WebResponse(200, {**known, "MS-ASProtocolVersions": ",".join(self.store.version.phones)}, b"")
        if request.method != "POST":
            return WebResponse(405, {"Allow": "OPTIONS, POST"}, b"")
        query = {name.lower(): value for name, value in request.query.items()}
        device_id, device_type = query.get("deviceid", ""), query.get("devicetype", "")
        if not device_id or not device_type:
            return WebResponse(200, {**known, STATUS_HEADER: TYPE_MISSING if device_id else ID_MISSING}, b"")
        claim = Claim(
            device_id=device_id,
            device_type=device_type,
            model=_told(request, "x-device-model"),
            os=_told(request, "x-device-os"),
            user_agent=request.headers.get("user-agent", ""),
            friendly_name=_told(request, "x-device-name"),
            protocol_version=request.headers.get("ms-asprotocolversion", "16.1"),
            is_provisioned=request.headers.get("x-ms-policykey", "1") != "0",
        )
        return self._answer(mailbox, claim, known)

    def _answer(self, mailbox: Mailbox, claim: Claim, headers: dict[str, str]) -> WebResponse:
        decision, device = phone_request(self.store, mailbox, claim)
        headers = {**headers, "X-Lab-Access-State": decision.state, "X-Lab-Access-Reason": decision.reason}
        if decision.state == "TooMany":
            return WebResponse(200, {**headers, STATUS_HEADER: TOO_MANY_DEVICES}, b"")
        if device is None:
            return WebResponse(403, {**headers, STATUS_HEADER: USER_DISABLED}, b"")
        if device.wipe_requested is not None:
            return self._wipe(device, claim, headers)
        if decision.state == "Blocked":
            status = NOT_PROVISIONABLE if decision.reason == "Policy" else DEVICE_BLOCKED
            return WebResponse(403, {**headers, STATUS_HEADER: status}, b"")
        body = "\n".join(message.subject for message in _shown(mailbox, device))
        return WebResponse(
            200, {**headers, STATUS_HEADER: OK, "Content-Type": "text/plain; charset=utf-8"}, body.encode()
        )

    def _wipe(self, device: Device, claim: Claim, headers: dict[str, str]) -> WebResponse:
        """First the order is given, then the phone's next request acknowledges it; the order stays attached."""
        with self.store.lock:
            if device.wipe_sent is None:
                device.wipe_sent = self.store.now()
            elif device.wipe_acknowledged is None:
                device.wipe_acknowledged = self.store.now()
                notices.wiped(self.store, device)
        if claim.protocol_version in ("2.5", "12.0", "12.1"):
            # They have no common status: an HTTP code says it.
            return WebResponse(449 if claim.is_provisioned else 403, headers, b"")
        return WebResponse(200, {**headers, STATUS_HEADER: WIPE}, b"")

    def _signed_in(self, request: WebRequest) -> Mailbox | None:
        kind, _, token = request.headers.get("authorization", "").partition(" ")
        if kind.lower() != "basic":
            return None
        try:
            name, _, password = base64.b64decode(token).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            return None
        mailbox = self.store.find_mailbox(name)
        if mailbox is None or not mailbox.password:
            return None
        return mailbox if hmac.compare_digest(mailbox.password.encode(), password.encode()) else None


def _shown(mailbox: Mailbox, device: Device) -> list[Message]:
    """All mail to an allowed phone; to a quarantined one nothing but the notice about itself."""
    inbox = [message for message in mailbox.messages if message.folder == "inbox"]
    if device.state == "Allowed":
        return inbox
    return [message for message in inbox if message.about == device.device_id][-1:]


def _told(request: WebRequest, header: str) -> str:
    return urllib.parse.unquote(request.headers.get(header, ""))

"""/Microsoft-Server-ActiveSync: where phones come, and learn what Exchange thinks of them (exchange.md 4.3, 4.4).

Sign-in is Basic, as the mailbox's user. What a phone says of itself comes in the query (DeviceId, DeviceType) and, in
this lab, in X-Device-* headers (percent-encoded) instead of the Settings command; the WBXML bodies are not spoken.
"""

from __future__ import annotations

import base64
import hmac
import urllib.parse

from lab.exchange.access import Claim, phone_request
from lab.exchange.contract import WebRequest, WebResponse
from lab.exchange.store import Device, Mailbox, Store

# Protocol 14.0 and later answer 200 with a status in the body; here it stands in this header, for want of WBXML.
STATUS_HEADER = "X-Lab-EAS-Status"
_PROVISION = "140"


class ActiveSync:
    """A contract.Route for one organisation."""

    requires_sign_in = False  # its accounts are the mailboxes' users, not the servers' administrators

    def __init__(self, store: Store) -> None:
        self.store = store

    def handle(self, request: WebRequest) -> WebResponse:
        if request.method == "OPTIONS":
            return WebResponse(
                200, {"MS-ASProtocolVersions": "2.5,12.1,14.0,14.1,16.0,16.1", "MS-Server-ActiveSync": "15.1"}, b""
            )
        mailbox = self._signed_in(request)
        if mailbox is None:
            return WebResponse(401, {"WWW-Authenticate": 'Basic realm="lab"'}, b"")
        query = {name.lower(): value for name, value in request.query.items()}
        device_id, device_type = query.get("deviceid", ""), query.get("devicetype", "")
        if not device_id or not device_type:
            return WebResponse(200, {STATUS_HEADER: "108" if not device_id else "109"}, b"")
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
        return self._answer(mailbox, claim)

    def _answer(self, mailbox: Mailbox, claim: Claim) -> WebResponse:
        decision, device = phone_request(self.store, mailbox, claim)
        headers = {"X-Lab-Access-State": decision.state, "X-Lab-Access-Reason": decision.reason}
        if device is None:
            return WebResponse(403, {**headers, STATUS_HEADER: "126"}, b"")
        if device.wipe_requested is not None:
            return self._wipe(device, headers)
        if decision.state == "Blocked":
            return WebResponse(403, {**headers, STATUS_HEADER: "129"}, b"")
        # A quarantined phone gets its folders and one message; an allowed one everything.
        shown = mailbox.messages if decision.state == "Allowed" else mailbox.messages[-1:]
        body = "\n".join(message.subject for message in shown)
        return WebResponse(
            200, {**headers, STATUS_HEADER: "1", "Content-Type": "text/plain; charset=utf-8"}, body.encode()
        )

    def _wipe(self, device: Device, headers: dict[str, str]) -> WebResponse:
        """First the order is given, then the phone's next request acknowledges it."""
        with self.store.lock:
            if device.wipe_sent is None:
                device.wipe_sent = self.store.now()
            elif device.wipe_acknowledged is None:
                device.wipe_acknowledged = self.store.now()
        return WebResponse(200, {**headers, STATUS_HEADER: _PROVISION}, b"")

    def _signed_in(self, request: WebRequest) -> Mailbox | None:
        kind, _, token = request.headers.get("authorization", "").partition(" ")
        if kind.lower() != "basic":
            return None
        try:
            name, _, password = base64.b64decode(token).decode().partition(":")
        except ValueError:
            return None
        mailbox = self.store.find_mailbox(name)
        right = mailbox is not None and mailbox.password and hmac.compare_digest(mailbox.password, password)
        return mailbox if right else None


def _told(request: WebRequest, header: str) -> str:
    return urllib.parse.unquote(request.headers.get(header, ""))

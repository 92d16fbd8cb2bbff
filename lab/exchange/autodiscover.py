"""/autodiscover in simple form: POX, SOAP GetUserSettings, and the JSON of version 2 (exchange.md section 6.4)."""

from __future__ import annotations

import datetime
import json
import re
from xml.etree import ElementTree
from xml.sax.saxutils import escape

from lab.exchange.contract import WebRequest, WebResponse
from lab.exchange.store import Store

_SOAP_NS = "http://schemas.microsoft.com/exchange/2010/Autodiscover"
_POX = "http://schemas.microsoft.com/exchange/autodiscover/responseschema/2006"
_POX_OUTLOOK = "http://schemas.microsoft.com/exchange/autodiscover/outlook/responseschema/2006a"
_XML = {"Content-Type": "text/xml; charset=utf-8"}


class Autodiscover:
    """A contract.Route for one organisation. `ews_url` is told to whoever asks."""

    requires_sign_in = False  # version 2 is anonymous; the other two check for themselves that somebody signed in

    def __init__(self, store: Store, ews_url: str = "") -> None:
        self.store, self.ews_url = store, ews_url

    def handle(self, request: WebRequest) -> WebResponse:
        path = request.path.lower()
        if "autodiscover.json" in path:
            return self._version2(request)
        if request.account is None and "authorization" not in request.headers:
            return WebResponse(401, {"WWW-Authenticate": 'Basic realm="lab"'}, b"")
        if path.endswith(".svc"):
            return self._soap(request)
        return self._pox(request)

    def _version2(self, request: WebRequest) -> WebResponse:
        protocol = next((v for n, v in request.query.items() if n.lower() == "protocol"), "")
        if protocol.lower() != "ews":
            body = {
                "ErrorCode": "InvalidProtocol",
                "ErrorMessage": f"The given protocol value '{protocol}' is invalid.",
            }
            return WebResponse(400, {"Content-Type": "application/json"}, json.dumps(body).encode())
        body = {"Protocol": "EWS", "Url": self.ews_url}
        return WebResponse(200, {"Content-Type": "application/json"}, json.dumps(body).encode())

    def _pox(self, request: WebRequest) -> WebResponse:
        match = re.search(rb"<EMailAddress>([^<]+)</EMailAddress>", request.body)
        mailbox = self.store.find_mailbox(match.group(1).decode()) if match else None
        if mailbox is None:
            code, text = ("600", "Invalid Request") if match is None else ("500", "The email address can't be found.")
            now = f"{datetime.datetime.now(datetime.UTC):%H:%M:%S}"
            body = f'<Response><Error Time="{now}" Id="1"><ErrorCode>{code}</ErrorCode><Message>{text}</Message><DebugData/></Error></Response>'
        else:
            body = (
                f'<Response xmlns="{_POX_OUTLOOK}"><User><DisplayName>{escape(mailbox.display_name)}</DisplayName>'
                f"<AutoDiscoverSMTPAddress>{escape(mailbox.smtp)}</AutoDiscoverSMTPAddress></User><Account><AccountType>email"
                f"</AccountType><Action>settings</Action><Protocol><Type>EXCH</Type><EwsUrl>{self.ews_url}</EwsUrl></Protocol>"
                f"<Protocol><Type>EXPR</Type><EwsUrl>{self.ews_url}</EwsUrl></Protocol></Account></Response>"
            )
        return WebResponse(
            200,
            _XML,
            f'<?xml version="1.0" encoding="utf-8"?><Autodiscover xmlns="{_POX}">{body}</Autodiscover>'.encode(),
        )

    def _soap(self, request: WebRequest) -> WebResponse:
        try:
            root = ElementTree.fromstring(request.body)
        except ElementTree.ParseError:
            return WebResponse(500, _XML, b"")
        mailbox = next((node.text for node in root.iter(f"{{{_SOAP_NS}}}Mailbox")), "") or ""
        settings = "".join(
            f'<UserSetting xmlns:i="http://www.w3.org/2001/XMLSchema-instance" i:type="StringSetting"><Name>{name}</Name><Value>{self.ews_url}</Value></UserSetting>'
            for name in ("InternalEwsUrl", "ExternalEwsUrl")
        )
        code = "NoError" if self.store.find_mailbox(mailbox) else "InvalidUser"
        user = f"<UserResponse><ErrorCode>{code}</ErrorCode><ErrorMessage/><UserSettings>{settings if code == 'NoError' else ''}</UserSettings></UserResponse>"
        body = (
            f'<?xml version="1.0" encoding="utf-8"?><s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"><s:Body>'
            f'<GetUserSettingsResponseMessage xmlns="{_SOAP_NS}"><Response><ErrorCode>NoError</ErrorCode><ErrorMessage/>'
            f"<UserResponses>{user}</UserResponses></Response></GetUserSettingsResponseMessage></s:Body></s:Envelope>"
        )
        return WebResponse(200, _XML, body.encode())

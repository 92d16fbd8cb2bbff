"""/autodiscover in simple form: POX, SOAP GetUserSettings, and the JSON of version 2 (exchange.md section 6.4).

Tells where EWS and ActiveSync are, and nothing else. Redirects to nobody.
"""

from __future__ import annotations

import datetime
import json
from typing import ClassVar
from xml.etree import ElementTree
from xml.sax.saxutils import escape

from lab.exchange.contract import WebRequest, WebResponse
from lab.exchange.objects import Mailbox
from lab.exchange.store import Store

_SOAP = "http://schemas.xmlsoap.org/soap/envelope/"
_SOAP_NS = "http://schemas.microsoft.com/exchange/2010/Autodiscover"
_XSI = "http://www.w3.org/2001/XMLSchema-instance"
_POX = "http://schemas.microsoft.com/exchange/autodiscover/responseschema/2006"
_POX_REQUEST = "http://schemas.microsoft.com/exchange/autodiscover/outlook/requestschema/2006"
_POX_OUTLOOK = "http://schemas.microsoft.com/exchange/autodiscover/outlook/responseschema/2006a"
_XML = {"Content-Type": "text/xml; charset=utf-8"}
_JSON = {"Content-Type": "application/json; charset=utf-8"}
_PROLOGUE = '<?xml version="1.0" encoding="utf-8"?>'


class Autodiscover:
    """A contract.Route for one organisation, for those who have signed in. `base_url` is that of its web site."""

    authentications: ClassVar = ("Negotiate", "NTLM", "Basic")

    def __init__(self, store: Store, base_url: str = "") -> None:
        self.store, self.base_url = store, base_url

    @property
    def ews_url(self) -> str:
        return f"{self.base_url}/EWS/Exchange.asmx"

    @property
    def active_sync_url(self) -> str:
        return f"{self.base_url}/Microsoft-Server-ActiveSync"

    def handle(self, request: WebRequest) -> WebResponse:
        return self._soap(request) if request.path.lower().endswith(".svc") else self._pox(request)

    # POX

    def _pox(self, request: WebRequest) -> WebResponse:
        address = _pox_address(request.body)
        if address is None:
            return _pox_answer(_pox_error("600", "Invalid Request"))
        mailbox = self.store.find_mailbox(address)
        if mailbox is None:
            return _pox_answer(_pox_error("500", "The email address can't be found."))
        protocols = "".join(
            f"<Protocol><Type>{kind}</Type><EwsUrl>{self.ews_url}</EwsUrl><ASUrl>{self.ews_url}</ASUrl></Protocol>"
            for kind in ("EXCH", "EXPR")
        )
        return _pox_answer(
            f'<Response xmlns="{_POX_OUTLOOK}"><User><DisplayName>{escape(mailbox.display_name)}</DisplayName>'
            f"<AutoDiscoverSMTPAddress>{escape(mailbox.smtp)}</AutoDiscoverSMTPAddress></User><Account><AccountType>"
            f"email</AccountType><Action>settings</Action>{protocols}</Account></Response>"
        )

    # SOAP

    def _soap(self, request: WebRequest) -> WebResponse:
        try:
            root = ElementTree.fromstring(request.body)
        except ElementTree.ParseError:
            return WebResponse(500, _XML, b"")
        names = [node.text or "" for node in root.iter(f"{{{_SOAP_NS}}}Setting")]
        users = [node.text or "" for node in root.iter(f"{{{_SOAP_NS}}}Mailbox")]
        is_right = bool(names) and bool(users)
        answers = "".join(self._user(user, names) for user in users) if is_right else ""
        code = "NoError" if is_right else "InvalidRequest"
        body = (
            f'{_PROLOGUE}<s:Envelope xmlns:s="{_SOAP}"><s:Body><GetUserSettingsResponseMessage xmlns="{_SOAP_NS}" '
            f'xmlns:i="{_XSI}"><Response><ErrorCode>{code}</ErrorCode><ErrorMessage/><UserResponses>{answers}'
            "</UserResponses></Response></GetUserSettingsResponseMessage></s:Body></s:Envelope>"
        )
        return WebResponse(200, _XML, body.encode())

    def _user(self, address: str, names: list[str]) -> str:
        mailbox = self.store.find_mailbox(address)
        known = self._settings(mailbox) if mailbox else {}
        settings = "".join(
            f'<UserSetting i:type="StringSetting"><Name>{name}</Name><Value>{escape(known[name])}</Value></UserSetting>'
            for name in names
            if name in known
        )
        errors = "".join(
            "<UserSettingError><ErrorCode>SettingIsNotAvailable</ErrorCode><ErrorMessage/>"
            f"<SettingName>{escape(name)}</SettingName></UserSettingError>"
            for name in names
            if mailbox and name not in known
        )
        return (
            f"<UserResponse><ErrorCode>{'NoError' if mailbox else 'InvalidUser'}</ErrorCode><ErrorMessage/>"
            f"<UserSettingErrors>{errors}</UserSettingErrors><UserSettings>{settings}</UserSettings></UserResponse>"
        )

    def _settings(self, mailbox: Mailbox) -> dict[str, str]:
        major, minor, build, revision = self.store.version.numbers
        return {
            "InternalEwsUrl": self.ews_url,
            "ExternalEwsUrl": self.ews_url,
            "AutoDiscoverSMTPAddress": mailbox.smtp,
            "CasVersion": f"{major}.{minor:02d}.{build:04d}.{revision:03d}",
            "EwsSupportedSchemas": "Exchange2007, Exchange2007_SP1, Exchange2010, Exchange2010_SP1, Exchange2010_SP2",
            "UserDisplayName": mailbox.display_name,
        }


class AutodiscoverJson:
    """Version 2, a contract.Route: anonymous, and there since Exchange 2016."""

    requires_sign_in = False

    def __init__(self, autodiscover: Autodiscover) -> None:
        self.autodiscover = autodiscover

    def handle(self, request: WebRequest) -> WebResponse:
        site = self.autodiscover
        if site.store.version.rank < 2016:
            return WebResponse(404, {}, b"")
        protocol = next((value for name, value in request.query.items() if name.lower() == "protocol"), "")
        urls = {
            "EWS": site.ews_url,
            "ActiveSync": site.active_sync_url,
            "AutodiscoverV1": f"{site.base_url}/autodiscover/autodiscover.xml",
        }
        name = next((known for known in urls if known.lower() == protocol.lower()), None)
        if name is None:
            text = f"The given protocol value '{protocol}' is invalid. Supported values are '{','.join(urls)}'."
            return WebResponse(400, _JSON, json.dumps({"ErrorCode": "InvalidProtocol", "ErrorMessage": text}).encode())
        return WebResponse(200, _JSON, json.dumps({"Protocol": name, "Url": urls[name]}).encode())


def _pox_address(body: bytes) -> str | None:
    """The address asked for; None when the request is not one of Outlook's schema."""
    try:
        root = ElementTree.fromstring(body)
    except ElementTree.ParseError:
        return None
    wanted = root.findtext(f".//{{{_POX_REQUEST}}}AcceptableResponseSchema")
    address = root.findtext(f".//{{{_POX_REQUEST}}}EMailAddress")
    return address if wanted == _POX_OUTLOOK and address else None


def _pox_error(code: str, text: str) -> str:
    now = f"{datetime.datetime.now(datetime.UTC):%H:%M:%S}"
    return (
        f'<Response><Error Time="{now}" Id="1"><ErrorCode>{code}</ErrorCode><Message>{escape(text)}</Message>'
        "<DebugData/></Error></Response>"
    )


def _pox_answer(response: str) -> WebResponse:
    return WebResponse(200, _XML, f'{_PROLOGUE}<Autodiscover xmlns="{_POX}">{response}</Autodiscover>'.encode())

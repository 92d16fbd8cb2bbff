"""/EWS/Exchange.asmx in simple form: CreateItem delivers a message into the mailboxes named (exchange.md section 6)."""

from __future__ import annotations

from xml.etree import ElementTree
from xml.sax.saxutils import escape

from lab.exchange.contract import WebRequest, WebResponse
from lab.exchange.store import Message, Store

_SOAP = "http://schemas.xmlsoap.org/soap/envelope/"
_TYPES = "http://schemas.microsoft.com/exchange/services/2006/types"
_MESSAGES = "http://schemas.microsoft.com/exchange/services/2006/messages"
_ERRORS = "http://schemas.microsoft.com/exchange/services/2006/errors"
_NS = {"t": _TYPES, "m": _MESSAGES, "s": _SOAP}


class Ews:
    """A contract.Route for one organisation."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def handle(self, request: WebRequest) -> WebResponse:
        try:
            root = ElementTree.fromstring(request.body)
        except ElementTree.ParseError:
            return self._fault("ErrorInvalidRequest", "The request is invalid.")
        create = root.find("s:Body/m:CreateItem", _NS)
        if create is None:
            return self._fault("ErrorInvalidRequest", "Only CreateItem is spoken here.")
        assert request.account is not None
        sender = self.store.find_mailbox(request.account.upn)
        if sender is None:
            return self._fault("ErrorNonExistentMailbox", "No mailbox with such guid.")
        answers = [self._send(sender.smtp, message) for message in create.iterfind("m:Items/t:Message", _NS)]
        return self._envelope(
            200,
            f'<m:CreateItemResponse xmlns:m="{_MESSAGES}"><m:ResponseMessages>{"".join(answers)}</m:ResponseMessages></m:CreateItemResponse>',
        )

    def _send(self, sender: str, message: ElementTree.Element) -> str:
        recipients = [node.text or "" for node in message.iterfind("t:ToRecipients/t:Mailbox/t:EmailAddress", _NS)]
        body = message.find("t:Body", _NS)
        unknown = [address for address in recipients if "@" not in address]
        if unknown or not recipients:
            return (
                '<m:CreateItemResponseMessage ResponseClass="Error"><m:MessageText>One or more recipients are invalid.'
                "</m:MessageText><m:ResponseCode>ErrorInvalidRecipients</m:ResponseCode><m:DescriptiveLinkKey>0"
                "</m:DescriptiveLinkKey><m:Items/></m:CreateItemResponseMessage>"
            )
        for address in recipients:
            mailbox = self.store.find_mailbox(address)
            if mailbox is not None:
                self.store.deliver(
                    mailbox,
                    Message(
                        sender=sender,
                        subject=message.findtext("t:Subject", "", _NS),
                        body="" if body is None else body.text or "",
                        body_type="Text" if body is None else body.get("BodyType", "Text"),
                    ),
                )
        return '<m:CreateItemResponseMessage ResponseClass="Success"><m:ResponseCode>NoError</m:ResponseCode><m:Items/></m:CreateItemResponseMessage>'

    def _fault(self, code: str, text: str) -> WebResponse:
        detail = f'<e:ResponseCode xmlns:e="{_ERRORS}">{code}</e:ResponseCode><e:Message xmlns:e="{_ERRORS}">{escape(text)}</e:Message>'
        return self._envelope(
            500,
            f"<s:Fault><faultcode>s:Client</faultcode><faultstring>{escape(text)}</faultstring><detail>{detail}</detail></s:Fault>",
        )

    def _envelope(self, status: int, body: str) -> WebResponse:
        version = (
            '<t:ServerVersionInfo xmlns:t="%s" MajorVersion="15" MinorVersion="1" MajorBuildNumber="2507" MinorBuildNumber="6"/>'
            % _TYPES
        )
        text = f'<?xml version="1.0" encoding="utf-8"?><s:Envelope xmlns:s="{_SOAP}"><s:Header>{version}</s:Header><s:Body>{body}</s:Body></s:Envelope>'
        return WebResponse(status, {"Content-Type": "text/xml; charset=utf-8"}, text.encode())

"""/EWS/Exchange.asmx in simple form: CreateItem puts messages into the mailboxes they are for (exchange.md section 6).

Speaks no other operation, sends nothing beyond the organisation's own mailboxes, and checks no more of the schema than
namespaces, the version asked for and what a message needs.
"""

from __future__ import annotations

from typing import ClassVar
from xml.etree import ElementTree
from xml.sax.saxutils import escape

from lab.exchange.contract import WebRequest, WebResponse
from lab.exchange.objects import Mailbox, Message
from lab.exchange.store import Store

_SOAP = "http://schemas.xmlsoap.org/soap/envelope/"
_TYPES = "http://schemas.microsoft.com/exchange/services/2006/types"
_MESSAGES = "http://schemas.microsoft.com/exchange/services/2006/messages"
_ERRORS = "http://schemas.microsoft.com/exchange/services/2006/errors"
_NS = {"t": _TYPES, "m": _MESSAGES, "s": _SOAP}
DISPOSITIONS = ("SaveOnly", "SendOnly", "SendAndSaveCopy")
# RequestServerVersion → the oldest version's rank that knows it.
SCHEMAS = {
    "Exchange2007": 2010, "Exchange2007_SP1": 2010, "Exchange2010": 2010, "Exchange2010_SP1": 2010,
    "Exchange2010_SP2": 2010, "Exchange2013": 2013, "Exchange2013_SP1": 2013, "Exchange2016": 2016,
}  # fmt: skip


class EwsError(Exception):
    """The request as a whole is refused."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


class Ews:
    """A contract.Route for one organisation."""

    authentications: ClassVar = ("Negotiate", "NTLM", "Basic")

    def __init__(self, store: Store) -> None:
        self.store = store

    def handle(self, request: WebRequest) -> WebResponse:
        try:
            body = self._create_items(request)
        except EwsError as error:
            return self._fault(error.code, str(error))
        return self._envelope(200, body)

    def _create_items(self, request: WebRequest) -> str:
        try:
            root = ElementTree.fromstring(request.body)
        except ElementTree.ParseError:
            raise EwsError("ErrorInvalidRequest", "The request is invalid.") from None
        self._check_version(root)
        create = root.find("s:Body/m:CreateItem", _NS)
        if create is None:
            raise EwsError("ErrorInvalidRequest", "The request is invalid: only CreateItem is spoken here.")
        disposition = create.get("MessageDisposition", "")
        messages = create.findall("m:Items/t:Message", _NS)
        if disposition not in DISPOSITIONS or not messages:
            raise EwsError("ErrorSchemaValidation", "The request failed schema validation.")
        sender = self._sender(root, request)
        answers = "".join(self._create(sender, message, disposition) for message in messages)
        return (
            f'<m:CreateItemResponse xmlns:m="{_MESSAGES}" xmlns:t="{_TYPES}"><m:ResponseMessages>{answers}'
            "</m:ResponseMessages></m:CreateItemResponse>"
        )

    def _check_version(self, root: ElementTree.Element) -> None:
        asked = root.find("s:Header/t:RequestServerVersion", _NS)
        wanted = "Exchange2010" if asked is None else asked.get("Version", "")
        if wanted not in SCHEMAS:
            raise EwsError("ErrorSchemaValidation", f"The request failed schema validation: version '{wanted}'.")
        if SCHEMAS[wanted] > self.store.version.rank:
            raise EwsError("ErrorInvalidServerVersion", "The specified server version is invalid.")

    def _sender(self, root: ElementTree.Element, request: WebRequest) -> Mailbox:
        if root.find("s:Header/t:ExchangeImpersonation", _NS) is not None:
            raise EwsError(
                "ErrorImpersonateUserDenied", "The account does not have permission to impersonate the user."
            )
        mailbox = self.store.find_mailbox(request.account.upn) if request.account else None
        if mailbox is None:
            raise EwsError("ErrorNonExistentMailbox", "The SMTP address has no mailbox associated with it.")
        return mailbox

    def _create(self, sender: Mailbox, element: ElementTree.Element, disposition: str) -> str:
        recipients = [
            (node.text or "").strip()
            for kind in ("ToRecipients", "CcRecipients", "BccRecipients")
            for node in element.iterfind(f"t:{kind}/t:Mailbox/t:EmailAddress", _NS)
        ]
        wanted = element.findtext("t:From/t:Mailbox/t:EmailAddress", sender.smtp, _NS)
        if wanted.lower() != sender.smtp.lower():
            return _item_error("ErrorSendAsDenied", "The user account does not have permission to send as this user.")
        is_sent = disposition != "SaveOnly"
        if is_sent and (not recipients or any("@" not in address for address in recipients)):
            return _item_error("ErrorInvalidRecipients", "At least one recipient isn't valid.")
        body = element.find("t:Body", _NS)

        def message(folder: str) -> Message:
            return Message(
                sender=sender.smtp, subject=element.findtext("t:Subject", "", _NS), recipients=recipients,
                body="" if body is None else body.text or "", folder=folder, received=self.store.now(),
                body_type="Text" if body is None else body.get("BodyType", "Text"),
            )  # fmt: skip

        if disposition != "SendOnly":
            self.store.deliver(sender, message("sentitems" if is_sent else "drafts"))
        for address in recipients if is_sent else ():
            mailbox = self.store.find_mailbox(address)
            if mailbox is not None:
                self.store.deliver(mailbox, message("inbox"))
        item = "<m:Items/>"
        if not is_sent:
            number = len(sender.messages)
            item = f'<m:Items><t:Message><t:ItemId Id="LAB{number:08d}" ChangeKey="CK1"/></t:Message></m:Items>'
        return (
            '<m:CreateItemResponseMessage ResponseClass="Success"><m:ResponseCode>NoError</m:ResponseCode>'
            f"{item}</m:CreateItemResponseMessage>"
        )

    def _fault(self, code: str, text: str) -> WebResponse:
        detail = (
            f'<e:ResponseCode xmlns:e="{_ERRORS}">{code}</e:ResponseCode>'
            f'<e:Message xmlns:e="{_ERRORS}">{escape(text)}</e:Message>'
        )
        return self._envelope(
            500,
            f"<s:Fault><faultcode>s:Client</faultcode><faultstring>{escape(text)}</faultstring>"
            f"<detail>{detail}</detail></s:Fault>",
        )

    def _envelope(self, status: int, body: str) -> WebResponse:
        major, minor, build, revision = self.store.version.numbers
        version = (
            f'<t:ServerVersionInfo xmlns:t="{_TYPES}" MajorVersion="{major}" MinorVersion="{minor}" '
            f'MajorBuildNumber="{build}" MinorBuildNumber="{revision}"/>'
        )
        text = (
            f'<?xml version="1.0" encoding="utf-8"?><s:Envelope xmlns:s="{_SOAP}"><s:Header>{version}</s:Header>'
            f"<s:Body>{body}</s:Body></s:Envelope>"
        )
        return WebResponse(status, {"Content-Type": "text/xml; charset=utf-8"}, text.encode())


def _item_error(code: str, text: str) -> str:
    """A message's own failure; the request as a whole went well."""
    return (
        f'<m:CreateItemResponseMessage ResponseClass="Error"><m:MessageText>{escape(text)}</m:MessageText>'
        f"<m:ResponseCode>{code}</m:ResponseCode><m:DescriptiveLinkKey>0</m:DescriptiveLinkKey><m:Items/>"
        "</m:CreateItemResponseMessage>"
    )

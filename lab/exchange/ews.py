"""/EWS/Exchange.asmx in simple form: what a client needs to send a mail and to find it in Sent Items (exchange.md 6).

Speaks CreateItem, GetFolder, FindItem, GetItem, ResolveNames and ConvertId; sends nothing beyond the organisation's own
mailboxes, and checks no more of the schema than namespaces, the version asked for and what an operation needs.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import ClassVar
from xml.etree import ElementTree
from xml.sax.saxutils import escape

from lab.exchange import ews_items
from lab.exchange.contract import WebRequest, WebResponse
from lab.exchange.ews_items import ERRORS, MESSAGES, NS, SOAP, TYPES, EwsError, Found, Refusal
from lab.exchange.objects import Mailbox
from lab.exchange.store import Store
from lab.exchange.wsman import DropConnection
from lab.faults import Faults

# RequestServerVersion → the oldest version's rank that knows it.
SCHEMAS = {
    "Exchange2007": 2010, "Exchange2007_SP1": 2010, "Exchange2010": 2010, "Exchange2010_SP1": 2010,
    "Exchange2010_SP2": 2010, "Exchange2013": 2013, "Exchange2013_SP1": 2013, "Exchange2016": 2016,
}  # fmt: skip
OPERATIONS: dict[str, Callable[[Store, Mailbox, ElementTree.Element], list[Found | Refusal]]] = {
    "CreateItem": ews_items.create,
    "GetFolder": ews_items.folders,
    "FindItem": ews_items.find,
    "GetItem": ews_items.get,
    "ResolveNames": ews_items.resolve,
    "ConvertId": ews_items.convert,
}


class Ews:
    """A contract.Route for one organisation."""

    authentications: ClassVar = ("Negotiate", "NTLM", "Basic")

    def __init__(self, store: Store, faults: Faults | None = None) -> None:
        self.store, self.faults = store, faults or Faults()

    def handle(self, request: WebRequest) -> WebResponse:
        try:
            return self._envelope(200, self._answer(request))
        except EwsError as error:
            return self._fault(error)

    def _answer(self, request: WebRequest) -> str:
        try:
            root = ElementTree.fromstring(request.body)
        except ElementTree.ParseError:
            raise EwsError("ErrorInvalidRequest", "The request is invalid.") from None
        self._check_version(root)
        asked = next((one for one in root.iterfind("s:Body/*", NS)), None)
        operation = "" if asked is None else asked.tag.removeprefix(f"{{{MESSAGES}}}")
        if asked is None or operation not in OPERATIONS:
            known = ", ".join(OPERATIONS)
            raise EwsError("ErrorInvalidRequest", f"The request is invalid: only {known} are spoken here.")
        if fault := self.faults.take("ews_fault", request.server, operation):
            code, _, milliseconds = (fault.value or "ErrorServerBusy").partition(":")
            raise EwsError(code, f"The server cannot service this request right now ({code}).", milliseconds)
        sender = self._sender(root, request)
        if fault := self.faults.take("ews_error", request.server, operation):
            code = fault.value or "ErrorInternalServerError"
            results: list[Found | Refusal] = [Refusal(code, f"The operation failed ({code}).")]
        else:
            results = OPERATIONS[operation](self.store, sender, asked)
        if fault := self.faults.take("outcome_lost", request.server, operation):
            time.sleep(float(fault.value or 0))
            raise DropConnection(b"")
        answers = "".join(_response_message(operation, one) for one in results)
        return (
            f'<m:{operation}Response xmlns:m="{MESSAGES}" xmlns:t="{TYPES}"><m:ResponseMessages>{answers}'
            f"</m:ResponseMessages></m:{operation}Response>"
        )

    def _check_version(self, root: ElementTree.Element) -> None:
        asked = root.find("s:Header/t:RequestServerVersion", NS)
        wanted = "Exchange2010" if asked is None else asked.get("Version", "")
        if wanted not in SCHEMAS:
            raise EwsError("ErrorSchemaValidation", f"The request failed schema validation: version '{wanted}'.")
        if SCHEMAS[wanted] > self.store.version.rank:
            raise EwsError("ErrorInvalidServerVersion", "The specified server version is invalid.")

    def _sender(self, root: ElementTree.Element, request: WebRequest) -> Mailbox:
        if root.find("s:Header/t:ExchangeImpersonation", NS) is not None:
            raise EwsError(
                "ErrorImpersonateUserDenied", "The account does not have permission to impersonate the user."
            )
        mailbox = self.store.find_mailbox(request.account.upn) if request.account else None
        if mailbox is None:
            raise EwsError("ErrorNonExistentMailbox", "The SMTP address has no mailbox associated with it.")
        return mailbox

    def _fault(self, error: EwsError) -> WebResponse:
        wait = (
            f'<t:MessageXml xmlns:t="{TYPES}"><t:Value Name="BackOffMilliseconds">{escape(error.back_off)}</t:Value>'
            "</t:MessageXml>"
            if error.back_off
            else ""
        )
        detail = (
            f'<e:ResponseCode xmlns:e="{ERRORS}">{escape(error.code)}</e:ResponseCode>'
            f'<e:Message xmlns:e="{ERRORS}">{escape(str(error))}</e:Message>{wait}'
        )
        return self._envelope(
            500,
            f"<s:Fault><faultcode>s:Client</faultcode><faultstring>{escape(str(error))}</faultstring>"
            f"<detail>{detail}</detail></s:Fault>",
        )

    def _envelope(self, status: int, body: str) -> WebResponse:
        major, minor, build, revision = self.store.version.numbers
        version = (
            f'<t:ServerVersionInfo xmlns:t="{TYPES}" MajorVersion="{major}" MinorVersion="{minor}" '
            f'MajorBuildNumber="{build}" MinorBuildNumber="{revision}"/>'
        )
        text = (
            f'<?xml version="1.0" encoding="utf-8"?><s:Envelope xmlns:s="{SOAP}"><s:Header>{version}</s:Header>'
            f"<s:Body>{body}</s:Body></s:Envelope>"
        )
        return WebResponse(status, {"Content-Type": "text/xml; charset=utf-8"}, text.encode())


def _response_message(operation: str, result: Found | Refusal) -> str:
    """One thing's outcome. Its failure is its own; the request as a whole went well."""
    if isinstance(result, Refusal):
        return (
            f'<m:{operation}ResponseMessage ResponseClass="Error"><m:MessageText>{escape(result.text)}</m:MessageText>'
            f"<m:ResponseCode>{escape(result.code)}</m:ResponseCode><m:DescriptiveLinkKey>0</m:DescriptiveLinkKey>"
            f"{ews_items.EMPTY.get(operation, '')}</m:{operation}ResponseMessage>"
        )
    return (
        f'<m:{operation}ResponseMessage ResponseClass="Success"><m:ResponseCode>NoError</m:ResponseCode>'
        f"{result.xml}</m:{operation}ResponseMessage>"
    )

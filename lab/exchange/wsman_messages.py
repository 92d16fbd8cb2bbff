"""WS-Man on paper: reading a request's envelope, writing answers and faults. Knows no shell and no connection.

Written by hand rather than through an XML library where it matters: a Receive answer carries half a megabyte.
"""

from __future__ import annotations

import re
import uuid
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from xml.sax.saxutils import escape, quoteattr

S = "http://www.w3.org/2003/05/soap-envelope"
WSA = "http://schemas.xmlsoap.org/ws/2004/08/addressing"
WSMAN = "http://schemas.dmtf.org/wbem/wsman/1/wsman.xsd"
WSMV = "http://schemas.microsoft.com/wbem/wsman/1/wsman.xsd"
RSP = "http://schemas.microsoft.com/wbem/wsman/1/windows/shell"
WST = "http://schemas.xmlsoap.org/ws/2004/09/transfer"
CFG = "http://schemas.microsoft.com/wbem/wsman/1/config"
WSMANFAULT = "http://schemas.microsoft.com/wbem/wsman/1/wsmanfault"
POWERSHELL = "http://schemas.microsoft.com/powershell"

CREATE = f"{WST}/Create"
DELETE = f"{WST}/Delete"
GET = f"{WST}/Get"
COMMAND = f"{RSP}/Command"
RECEIVE = f"{RSP}/Receive"
SEND = f"{RSP}/Send"
SIGNAL = f"{RSP}/Signal"

EXCHANGE_URI = f"{POWERSHELL}/Microsoft.Exchange"
CONFIG_URI = "http://schemas.microsoft.com/wbem/wsman/1/config"

# Fault codes of wsmerror.h.
ACTION_NOT_SUPPORTED = 2150858771
OPERATION_TIMED_OUT = 2150858793
RESOURCE_URI_UNKNOWN = 2150858811
SCHEMA_VALIDATION = 2150858817
ACCESS_DENIED = 2150858819
UNEXPECTED_SELECTORS = 2150858843
QUOTA_MAX_SHELLS = 2150859173
QUOTA_MAX_COMMANDS = 2150859241
INTERNAL_ERROR = 2150858782

DONE = f"{RSP}/CommandState/Done"
RUNNING = f"{RSP}/CommandState/Running"

DEFAULT_TIMEOUT = 60.0
DEFAULT_ENVELOPE = 153_600
SMALLEST_ENVELOPE = 8_192
# What an answer's envelope takes besides its payload, generously.
ENVELOPE_ROOM = 2_048

_DURATION = re.compile(r"^P(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:(\d+(?:\.\d+)?)S)?)?$")
_PREFIXES = f'xmlns:s="{S}" xmlns:a="{WSA}" xmlns:w="{WSMAN}" xmlns:p="{WSMV}" xmlns:rsp="{RSP}" xmlns:x="{WST}"'


class EnvelopeError(Exception):
    """The body is not a WS-Man request."""


class Fault(Exception):
    """An answer that is a SOAP fault.

    code: the WSManFault code. subcode: qualified, as `w:TimedOut`. status: of HTTP.
    """

    def __init__(
        self, code: int, text: str, *, subcode: str = "w:InternalError", is_senders: bool = True, status: int = 500
    ) -> None:
        super().__init__(text)
        self.code = code
        self.text = text
        self.subcode = subcode
        self.is_senders = is_senders
        self.status = status


@dataclass(frozen=True)
class Envelope:
    """One request. timeout in seconds, max_size in bytes of the answer's envelope; shell_id None when not selected."""

    action: str
    message_id: str
    resource_uri: str
    shell_id: uuid.UUID | None
    timeout: float
    max_size: int
    body: ET.Element

    def find(self, path: str) -> ET.Element | None:
        """A child of the body by a path of local names in the shell namespace, as `Receive/DesiredStream`."""
        return self.body.find("/".join(f"{{{RSP}}}{part}" for part in path.split("/")))


def parse(data: bytes) -> Envelope:
    """Read a request. Raises EnvelopeError."""
    if b"<!DOCTYPE" in data[:2048] or b"<!ENTITY" in data:
        raise EnvelopeError("SOAP has no document type")
    try:
        root = ET.fromstring(data)
    except (ET.ParseError, ValueError, LookupError) as error:
        raise EnvelopeError("not well-formed") from error
    header = root.find(f"{{{S}}}Header")
    body = root.find(f"{{{S}}}Body")
    if root.tag != f"{{{S}}}Envelope" or header is None or body is None:
        raise EnvelopeError("not a SOAP 1.2 envelope")
    action = (header.findtext(f"{{{WSA}}}Action") or "").strip()
    message_id = (header.findtext(f"{{{WSA}}}MessageID") or "").strip()
    if not action or not message_id:
        raise EnvelopeError("no Action or no MessageID")
    selectors = {
        (item.get("Name") or "").lower(): (item.text or "").strip()
        for item in header.findall(f"{{{WSMAN}}}SelectorSet/{{{WSMAN}}}Selector")
    }
    return Envelope(
        action=action,
        message_id=message_id,
        resource_uri=(header.findtext(f"{{{WSMAN}}}ResourceURI") or "").strip(),
        shell_id=identifier(selectors["shellid"]) if "shellid" in selectors else None,
        timeout=duration(header.findtext(f"{{{WSMAN}}}OperationTimeout"), DEFAULT_TIMEOUT),
        max_size=_size(header.findtext(f"{{{WSMAN}}}MaxEnvelopeSize")),
        body=body,
    )


def identifier(text: str | None) -> uuid.UUID:
    """A shell's or command's id. Raises EnvelopeError."""
    try:
        return uuid.UUID(text or "")
    except ValueError as error:
        raise EnvelopeError("an id that is no UUID") from error


def duration(text: str | None, default: float) -> float:
    """Seconds of an xs:duration of days and less. Raises EnvelopeError."""
    if not text:
        return default
    match = _DURATION.match(text.strip())
    if match is None:
        raise EnvelopeError("a duration that is none")
    days, hours, minutes, seconds = (float(part or 0) for part in match.groups())
    return days * 86_400 + hours * 3_600 + minutes * 60 + seconds


def _size(text: str | None) -> int:
    try:
        return max(int(text or DEFAULT_ENVELOPE), SMALLEST_ENVELOPE)
    except ValueError as error:
        raise EnvelopeError("MaxEnvelopeSize is no number") from error


def payload_room(envelope_size: int) -> int:
    """Bytes that fit into an envelope of that size as base64."""
    return (envelope_size - ENVELOPE_ROOM) // 4 * 3


def answer(action: str, message_id: str, body: str) -> bytes:
    """An envelope around a body of ready XML."""
    return f"{_head(action, message_id)}{body}</s:Body></s:Envelope>".encode()


def _head(action: str, message_id: str) -> str:
    return (
        f'<s:Envelope xml:lang="en-US" {_PREFIXES}><s:Header><a:Action>{action}</a:Action>'
        f"<a:MessageID>uuid:{str(uuid.uuid4()).upper()}</a:MessageID><a:To>{WSA}/role/anonymous</a:To>"
        f"<a:RelatesTo>{escape(message_id)}</a:RelatesTo></s:Header><s:Body>"
    )


def fault(fault: Fault, message_id: str, machine: str) -> bytes:
    """A fault's envelope, with the WSManFault detail from which clients take code and text."""
    text = escape(fault.text)
    side = "s:Sender" if fault.is_senders else "s:Receiver"
    relates = f"<a:RelatesTo>{escape(message_id)}</a:RelatesTo>" if message_id else ""
    return (
        f'<s:Envelope xml:lang="en-US" {_PREFIXES}><s:Header><a:Action>{WSMAN}/fault</a:Action>'
        f"<a:MessageID>uuid:{str(uuid.uuid4()).upper()}</a:MessageID><a:To>{WSA}/role/anonymous</a:To>{relates}"
        f"</s:Header><s:Body><s:Fault><s:Code><s:Value>{side}</s:Value><s:Subcode><s:Value>{fault.subcode}</s:Value>"
        f'</s:Subcode></s:Code><s:Reason><s:Text xml:lang="en-US">{text}</s:Text></s:Reason><s:Detail>'
        f'<f:WSManFault xmlns:f="{WSMANFAULT}" Code="{fault.code}" Machine={quoteattr(machine)}>'
        f"<f:Message>{text}</f:Message></f:WSManFault></s:Detail></s:Fault></s:Body></s:Envelope>"
    ).encode()


def created(message_id: str, to: str, shell: str, shell_id: str) -> bytes:
    """The answer to Create. `shell`: the fields of rsp:Shell, ready XML."""
    body = (
        f"<x:ResourceCreated><a:Address>{escape(to)}</a:Address><a:ReferenceParameters>"
        f"<w:ResourceURI>{EXCHANGE_URI}</w:ResourceURI>"
        f'<w:SelectorSet><w:Selector Name="ShellId">{shell_id}</w:Selector></w:SelectorSet>'
        f"</a:ReferenceParameters></x:ResourceCreated><rsp:Shell>{shell}</rsp:Shell>"
    )
    return answer(f"{WST}/CreateResponse", message_id, body)


def shell_fields(shell_id: str, owner: str, client: str, idle: float, run_time: float, inactivity: float) -> str:
    """The fields of rsp:Shell, for Create and Get."""
    return (
        f"<rsp:ShellId>{shell_id}</rsp:ShellId><rsp:ResourceUri>{EXCHANGE_URI}</rsp:ResourceUri>"
        f"<rsp:Owner>{escape(owner)}</rsp:Owner><rsp:ClientIP>{escape(client)}</rsp:ClientIP>"
        f"<rsp:IdleTimeOut>PT{idle:.3f}S</rsp:IdleTimeOut><rsp:InputStreams>stdin pr</rsp:InputStreams>"
        f"<rsp:OutputStreams>stdout</rsp:OutputStreams><rsp:ShellRunTime>PT{run_time:.0f}S</rsp:ShellRunTime>"
        f"<rsp:ShellInactivity>PT{inactivity:.0f}S</rsp:ShellInactivity><rsp:State>Connected</rsp:State>"
    )


def received(message_id: str, command_id: str, payload: bytes, *, is_done: bool) -> bytes:
    """The answer to Receive. `payload`: base64 of whole fragments. An empty command_id: the shell's own stream."""
    name = f' CommandId="{command_id}"' if command_id else ""
    state = ""
    if command_id:
        code = "<rsp:ExitCode>0</rsp:ExitCode>" if is_done else ""
        state = f'<rsp:CommandState{name} State="{DONE if is_done else RUNNING}">{code}</rsp:CommandState>'
    return b"".join(
        [
            f"{_head(f'{RSP}/ReceiveResponse', message_id)}<rsp:ReceiveResponse>".encode(),
            f'<rsp:Stream Name="stdout"{name}>'.encode() if payload else b"",
            payload,
            b"</rsp:Stream>" if payload else b"",
            f"{state}</rsp:ReceiveResponse></s:Body></s:Envelope>".encode(),
        ]
    )

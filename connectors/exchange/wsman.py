"""WS-Man over our transport: the payload of a large Receive is found by scanning bytes, where pypsrp's own path would
copy and parse it several times, and an envelope is made of pieces, where it would build a tree. Everything else is
pypsrp's.

What is cut out is only ever the text of a rsp:Stream; the rest of the envelope goes through the XML parser and must
say that it answers this request, or it is refused.
"""

from __future__ import annotations

import binascii
import uuid
import xml.etree.ElementTree as ET  # of a server that has signed in to us
from collections.abc import Callable
from dataclasses import dataclass
from xml.sax.saxutils import quoteattr

import requests
from pypsrp.exceptions import WinRMError, WinRMTransportError, WSManFaultError
from pypsrp.wsman import NAMESPACES, OptionSet, SelectorSet, WSMan, WSManAction

from connectors.exchange.client import Account, Endpoint, Options
from connectors.exchange.transport import Transport, Watch, arguments

# No answer within the operation timeout: not an error, ask again.
OPERATION_TIMED_OUT = 2150858793
# A body shorter than this is parsed as it is.
CUT_FROM = 4096


@dataclass(frozen=True, slots=True)
class Received:
    """What one Receive brought. `is_done`: the command's state is Done, there will be nothing more."""

    data: bytes
    is_done: bool


class Connection(WSMan):
    """WS-Man over Transport."""

    transport: Transport

    def __init__(self, endpoint: Endpoint, account: Account, options: Options, watch: Watch) -> None:
        super().__init__(operation_timeout=options.operation_timeout, **arguments(endpoint, account, options))
        self.transport = Transport(endpoint, account, options, watch)
        self._templates: dict[tuple[object, ...], list[bytes]] = {}

    def invoke(
        self,
        action: str,
        resource_uri: str,
        resource: ET.Element | None,
        option_set: OptionSet | None = None,
        selector_set: SelectorSet | None = None,
        timeout: int | None = None,
        *,
        retries_on_read_timeout: int = 0,
    ) -> ET.Element:
        """pypsrp's hook: any request but a Receive. `retries_on_read_timeout` is refused: nothing is sent twice."""
        body = "" if resource is None else ET.tostring(resource, encoding="unicode")
        message_id, message = self._envelope(action, resource_uri, option_set, selector_set, timeout, body)
        # Longer than the operation may take, so that the server is the one that says so.
        wait = timeout + 2 if timeout else None
        try:
            answer = self.transport.send(message, timeout=wait)
        except WinRMTransportError as error:
            raise self._fault(error) from None
        envelope = ET.fromstring(answer)  # noqa: S314 - the envelope of the server that we signed in to
        _related(envelope, message_id)
        return envelope

    def _envelope(
        self,
        action: str,
        resource_uri: str,
        options: OptionSet | None,
        selectors: SelectorSet | None,
        timeout: int | None,
        body: str,
    ) -> tuple[str, bytes]:
        """The message's id as an answer names it, and the message. pypsrp's header, made once for all messages alike
        but for their id."""
        chosen = [repr(one.values) if one is not None else "" for one in (options, selectors)]
        key = (action, resource_uri, *chosen, timeout, self.max_envelope_size)
        template = self._templates.get(key)
        if template is None:
            template = self._templates[key] = self._template(action, resource_uri, options, selectors, timeout)
        message_id = str(uuid.uuid4()).upper()
        before, between, after = template
        return f"uuid:{message_id}", b"".join((before, message_id.encode(), between, body.encode(), after))

    def _template(
        self,
        action: str,
        resource_uri: str,
        options: OptionSet | None,
        selectors: SelectorSet | None,
        timeout: int | None,
    ) -> list[bytes]:
        """The three pieces of an envelope around its id and its body."""
        s = NAMESPACES["s"]
        message_id, header = self._create_header(action, resource_uri, options, selectors, timeout)
        envelope = ET.Element(f"{{{s}}}Envelope")
        envelope.append(header)
        place = str(uuid.uuid4())
        ET.SubElement(envelope, f"{{{s}}}Body").text = place
        whole: bytes = ET.tostring(envelope, encoding="utf-8", method="xml")
        before, _, rest = whole.partition(message_id.encode())
        return [before, *rest.split(place.encode())]

    def receive_data(
        self,
        resource_uri: str,
        selectors: SelectorSet | None,
        command_id: str | None,
        timeout: int,
        read_timeout: Callable[[], float],
    ) -> Received | None:
        """One Receive; None when nothing came within `timeout` seconds.

        The same bytes are sent again after a read timeout, as long as read_timeout() names seconds to wait: a Receive
        may be repeated, the server answers it alike. Raises what pypsrp raises, requests.ReadTimeout when
        read_timeout() is no longer above zero.
        """
        self.transport.watch.check()
        message_id, message = self._receive_message(resource_uri, selectors, command_id, timeout)
        wait = read_timeout()
        while True:
            try:
                answer = self.transport.send(message, timeout=(self.transport.connection_timeout, max(wait, 0.1)))
                return self._received(answer, message_id)
            except WinRMTransportError as error:
                fault = self._fault(error)
                if getattr(fault, "code", None) == OPERATION_TIMED_OUT:
                    return None
                raise fault from None
            except requests.ReadTimeout:
                wait = read_timeout()
                if wait <= 0:
                    raise

    def _receive_message(
        self, resource_uri: str, selectors: SelectorSet | None, command_id: str | None, timeout: int
    ) -> tuple[str, bytes]:
        options = OptionSet()
        options.add_option("WSMAN_CMDSHELL_OPTION_KEEPALIVE", "True")
        of = f" CommandId={quoteattr(command_id)}" if command_id is not None else ""
        stream = f"<rsp:DesiredStream{of}>stdout</rsp:DesiredStream>"
        body = f'<rsp:Receive xmlns:rsp="{NAMESPACES["rsp"]}">{stream}</rsp:Receive>'
        return self._envelope(WSManAction.RECEIVE, resource_uri, options, selectors, timeout, body)

    @staticmethod
    def _parse_wsman_fault(xml_text: str) -> WSManFaultError:
        """pypsrp's hook, for every request. A page that happens to be XML is no fault: the HTTP status says more."""
        fault = WSMan._parse_wsman_fault(xml_text)
        if not any(fault.args):
            raise ET.ParseError("nothing is said")
        return fault

    def _fault(self, error: WinRMTransportError) -> Exception:
        try:
            return self._parse_wsman_fault(error.response_text)
        except ET.ParseError:
            return error

    def _received(self, answer: bytes, message_id: str) -> Received:
        skeleton, payloads = cut(answer)
        envelope = ET.fromstring(skeleton)  # noqa: S314 - the envelope of the server that we signed in to
        _related(envelope, message_id)
        response = envelope.find("s:Body/rsp:ReceiveResponse", NAMESPACES)
        if response is None:
            raise WinRMError("no ReceiveResponse in the answer to a Receive")
        parts = []
        taken = 0
        for stream in response.findall("rsp:Stream", NAMESPACES):
            text = stream.text
            if not text:
                continue
            if text.startswith("#"):
                parts.append(_decoded(payloads[int(text[1:])]))
                taken += 1
            else:
                parts.append(_decoded(text.encode("ascii", "replace")))
        if taken != len(payloads):
            raise WinRMError("payload outside of the streams")
        state = response.find("rsp:CommandState", NAMESPACES)
        is_done = state is not None and state.get("State", "").endswith("/Done")
        return Received(parts[0] if len(parts) == 1 else b"".join(parts), is_done)


def _related(envelope: ET.Element, message_id: str) -> None:
    """Raises WinRMError for the answer to another request."""
    related = envelope.find("s:Header/wsa:RelatesTo", NAMESPACES)
    if related is None or related.text != message_id:
        raise WinRMError("an answer to another request")


def cut(answer: bytes) -> tuple[bytes, list[memoryview]]:
    """The envelope without its large payloads, each replaced by #0, #1, .., and the payloads, uncopied.

    Only a run of text after a tag named Stream is cut; what else is there stays for the XML parser to judge.
    """
    if len(answer) < CUT_FROM:
        return answer, []
    view = memoryview(answer)
    parts: list[bytes] = []
    payloads: list[memoryview] = []
    position = 0
    while (start := answer.find(b"Stream ", position)) >= 0:
        opened = answer.find(b">", start)
        closed = answer.find(b"<", opened)
        if opened < 0 or closed < 0:
            break
        parts.append(answer[position : opened + 1])
        if closed - opened > 64:
            parts.append(b"#%d" % len(payloads))
            payloads.append(view[opened + 1 : closed])
        else:
            parts.append(answer[opened + 1 : closed])
        position = closed
    parts.append(answer[position:])
    return b"".join(parts), payloads


def _decoded(payload: bytes | memoryview) -> bytes:
    try:
        return binascii.a2b_base64(payload, strict_mode=True)
    except binascii.Error:
        # Line breaks are allowed; anything else is not.
        return binascii.a2b_base64(b"".join(bytes(payload).split()), strict_mode=True)

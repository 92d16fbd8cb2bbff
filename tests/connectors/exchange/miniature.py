"""The smallest PSRP server: one session, no sign-in, every Receive answered by a script. For what the lab, which plays
a well-behaved Exchange, would have to be bent to do: to the byte, to the order, to the moment.

The handshake and the reading of commands are psrpcore's; the answers are written by hand.
"""

from __future__ import annotations

import base64
import re
import threading
import time
import uuid
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from xml.sax.saxutils import escape

import psrpcore
from psrpcore import _payload
from psrpcore.types import PSRPMessageType

from tests.connectors.exchange.responder import SOAP, fault

TIMED_OUT = 2150858793
COMPLETED, FAILED, STOPPED = 4, 5, 3
COMMAND_STATE = "http://schemas.microsoft.com/wbem/wsman/1/windows/shell/CommandState"

Message = tuple[PSRPMessageType, bytes]


def output(xml: str) -> Message:
    return PSRPMessageType.PipelineOutput, xml.encode()


def device(number: int, name: str = "Carlos") -> Message:
    return output(
        f'<Obj RefId="0"><MS><G N="Guid">{uuid.UUID(int=number)}</G>'
        f'<S N="Identity">{name}\\ExchangeActiveSyncDevices\\iPhone§{number}</S><S N="DeviceId">{number}</S></MS></Obj>'
    )


def named(name: str) -> Message:
    """A command as Get-Command shows it."""
    return output(f'<Obj RefId="0"><ToString>{name}</ToString><Props><S N="Name">{name}</S></Props></Obj>')


def warning(text: str) -> Message:
    members = f'<MS><S N="InformationalRecord_Message">{escape(text)}</S></MS>'
    return PSRPMessageType.WarningRecord, f'<Obj RefId="0"><ToString>x</ToString>{members}</Obj>'.encode()


def error_xml(message: str, reason: str, fq_error_id: str, name: str = "") -> str:
    return (
        f'<Obj{name} RefId="0"><ToString>{escape(message)}</ToString><MS><Obj N="Exception" RefId="1"><TN RefId="0">'
        f'<T>System.Exception</T></TN><ToString>x</ToString><Props><S N="Message">{escape(message)}</S></Props></Obj>'
        f'<S N="FullyQualifiedErrorId">{escape(fq_error_id)}</S><S N="ErrorCategory_Reason">{reason}</S>'
        '<I32 N="ErrorCategory_Category">0</I32><S N="ErrorCategory_TargetName"></S></MS></Obj>'
    )


def error(message: str, reason: str = "Exception", fq_error_id: str = "1A2B,Microsoft.X") -> Message:
    return PSRPMessageType.ErrorRecord, error_xml(message, reason, fq_error_id).encode()


def state(number: int = COMPLETED, failure: str = "") -> Message:
    return PSRPMessageType.PipelineState, (
        f'<Obj RefId="9"><MS><I32 N="PipelineState">{number}</I32>{failure}</MS></Obj>'.encode()
    )


def failed(message: str, reason: str, fq_error_id: str = "1A2B,Microsoft.X") -> Message:
    return state(FAILED, error_xml(message, reason, fq_error_id, ' N="ExceptionAsErrorRecord"'))


@dataclass(frozen=True)
class Answer:
    """To one Receive. `wait`: seconds before it; `drop`: the connection is closed instead; no messages: timed out."""

    messages: tuple[Message, ...] = ()
    is_done: bool = False
    wait: float = 0.0
    drop: bool = False
    payload: bytes | None = None  # in place of the messages' fragments


def answer(*messages: Message, is_done: bool = False, **more: Any) -> Answer:
    return Answer(messages, is_done, **more)


@dataclass
class Sent:
    """A pipeline as the client sent it."""

    commands: list[tuple[str, dict[str, Any]]]

    @property
    def name(self) -> str:
        return self.commands[0][0]


Script = Callable[[Sent], Iterator[Answer]]
DEFAULT_COMMANDS = ("Get-MobileDevice", "Set-ADServerSettings", "Get-OrganizationConfig", "Get-ExchangeServer")


@dataclass
class Miniature:
    script: Script
    commands: tuple[str, ...] = DEFAULT_COMMANDS
    on_open: list[Message] = field(default_factory=list)
    sent: list[Sent] = field(default_factory=list)
    actions: list[str] = field(default_factory=list)
    requests: list[tuple[str, bytes]] = field(default_factory=list)  # connection, body
    port: int = 0

    def __post_init__(self) -> None:
        self.pool = psrpcore.ServerRunspacePool()
        self._lock = threading.Lock()
        self._answers: dict[str, Iterator[Answer]] = {}
        self._object_id = 1000
        self._handshake = b""

    def _run(self, sent: Sent) -> Iterator[Answer]:
        """The commands of opening a session run by themselves; the script does the rest."""
        if sent.name == "Get-Command":
            yield answer(*[named(name) for name in self.commands], state())
        elif sent.name == "Set-ADServerSettings":
            yield answer(state())
        else:
            yield from self.script(sent)

    def respond(self, body: bytes) -> tuple[int, bytes] | None:
        envelope = ET.fromstring(body)
        text = {element.tag.rpartition("}")[2]: element for element in envelope.iter()}
        action = (text["Action"].text or "").rpartition("/")[2]
        message_id = text["MessageID"].text
        with self._lock:
            self.actions.append(action)
        if action == "Create":
            inner = self._create(base64.b64decode(text["creationXml"].text or ""))
        elif action == "Command":
            inner = self._command(text["CommandLine"], base64.b64decode(text["Arguments"].text or ""))
        elif action == "Receive":
            received = self._receive(text["DesiredStream"].get("CommandId"))
            if received is None:
                return None
            if not received:
                return 500, fault(TIMED_OUT, "timed out")
            inner = received
        else:
            inner = ""
        rsp = "http://schemas.microsoft.com/wbem/wsman/1/windows/shell"
        return 200, (
            '<s:Envelope xmlns:s="http://www.w3.org/2003/05/soap-envelope"'
            f' xmlns:a="http://schemas.xmlsoap.org/ws/2004/08/addressing" xmlns:rsp="{rsp}">'
            f"<s:Header><a:RelatesTo>{message_id}</a:RelatesTo></s:Header><s:Body>{inner}</s:Body></s:Envelope>"
        ).encode()

    def _create(self, data: bytes) -> str:
        self.pool.receive_data(psrpcore.PSRPPayload(data, psrpcore.StreamType.default, None))
        while self.pool.next_event() is not None:
            pass
        while (payload := self.pool.data_to_send()) is not None:
            self._handshake += bytes(payload.data)
        for kind, xml in self.on_open:
            self._handshake += self._fragments(kind, xml, None)
        return ""

    def _command(self, line: ET.Element, data: bytes) -> str:
        identifier = line.get("CommandId") or ""
        pipeline = psrpcore.ServerPipeline(self.pool, uuid.UUID(identifier))
        self.pool.receive_data(psrpcore.PSRPPayload(data, psrpcore.StreamType.default, pipeline.pipeline_id))
        event: Any = self.pool.next_event()
        sent = Sent([(c.command_text, dict(c.parameters)) for c in event.pipeline.commands])
        self.sent.append(sent)
        self._answers[identifier] = self._run(sent)
        return f"<rsp:CommandResponse><rsp:CommandId>{identifier}</rsp:CommandId></rsp:CommandResponse>"

    def _receive(self, identifier: str | None) -> str | None:
        """The ReceiveResponse; "" for a time-out, None for a dropped connection."""
        if identifier is None:
            payload, self._handshake = self._handshake, b""
            return _received(payload, None, is_done=False) if payload else ""
        step = next(self._answers[identifier], Answer())
        if step.wait:
            time.sleep(step.wait)
        if step.drop:
            return None
        payload = step.payload or b"".join(self._fragments(kind, xml, identifier) for kind, xml in step.messages)
        if not payload and not step.is_done:
            return ""
        return _received(payload, identifier, is_done=step.is_done)

    def _fragments(self, kind: PSRPMessageType, xml: bytes, identifier: str | None) -> bytes:
        self._object_id += 1
        pipeline = uuid.UUID(identifier) if identifier else None
        data = _payload.create_message(False, kind, xml, self.pool.runspace_pool_id, pipeline)
        return bytes(_payload.create_fragment(self._object_id, 0, data, True))


def _received(payload: bytes, identifier: str | None, *, is_done: bool) -> str:
    of = f' CommandId="{identifier}"' if identifier else ""
    stream = f'<rsp:Stream Name="stdout"{of}>{base64.b64encode(payload).decode()}</rsp:Stream>' if payload else ""
    done = f'<rsp:CommandState{of} State="{COMMAND_STATE}/Done"/>' if is_done else ""
    return f"<rsp:ReceiveResponse>{stream}{done}</rsp:ReceiveResponse>"


@contextmanager
def miniature(script: Script = lambda sent: iter(()), **settings: Any) -> Iterator[Miniature]:
    """A running server; its `port` is on 127.0.0.1."""
    server = Miniature(script, **settings)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", "0")))
            server.requests.append((str(self.client_address), body))
            answered = server.respond(body)
            if answered is None:
                self.close_connection = True
                return
            status, content = answered
            self.send_response_only(status)
            self.send_header("Content-Type", SOAP)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:
            pass

    web = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    web.daemon_threads = True
    server.port = web.server_address[1]
    thread = threading.Thread(target=web.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        web.shutdown()
        web.server_close()
        thread.join(5)


def message_ids(server: Miniature, action: str) -> list[str]:
    """Of the requests with that action, in order."""
    found = []
    for _, body in server.requests:
        if f"/{action}<".encode() in body:
            match = re.search(rb"MessageID>([^<]+)<", body)
            found.append(match[1].decode() if match else "")
    return found

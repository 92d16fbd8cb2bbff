"""WS-Man as Exchange's PowerShell endpoint answers it: Create, Command, Receive, Send, Signal, Delete and Get.

One service a server; its shells live here and nowhere else, so a shell of another server is "not found". Every answer
that is not as asked is a SOAP fault with the code that clients know. Offers no Disconnect, Connect or Enumerate:
whether Exchange does is not known.
"""

from __future__ import annotations

import base64
import binascii
import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field

from lab.exchange import wsman_messages as messages
from lab.exchange import wsman_refusals as refusals
from lab.exchange.contract import Account, Engine, SessionState
from lab.exchange.running import RunningCommand
from lab.exchange.shell import Shell, ShellError
from lab.exchange.streams import Batch, OutputQueue
from lab.exchange.wsman_messages import Envelope, EnvelopeError, Fault
from lab.faults import Faults


class DropConnection(Exception):
    """Close the connection; `begun` is the answer of which the half goes out before, nothing when it is empty."""

    def __init__(self, begun: bytes = b"") -> None:
        super().__init__("drop")
        self.begun = begun


@dataclass
class Limits:
    """What one server allows; may be changed while it runs. Times in seconds, sizes in bytes."""

    shells_per_user: int = 18
    commands_per_shell: int = 1000
    idle_timeout: float = 900.0
    envelope: int = 512_000


@dataclass(frozen=True)
class Caller:
    """Who sent a request, from where, and to which URL."""

    account: Account
    address: str
    url: str
    serialization_level: str = "default"


@dataclass
class Counts:
    """What has happened since the start."""

    shells: int = 0
    commands: int = 0
    objects: int = 0
    faults: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def add(self, *, shells: int = 0, commands: int = 0, objects: int = 0, faults: int = 0) -> None:
        with self._lock:
            self.shells += shells
            self.commands += commands
            self.objects += objects
            self.faults += faults


class WsManService:
    """The PowerShell endpoint of one server. Thread-safe; handle() is called from each connection's thread."""

    def __init__(self, fqdn: str, engine: Engine, faults: Faults, limits: Limits | None = None) -> None:
        self.fqdn = fqdn
        self.limits = limits or Limits()
        self.counts = Counts()
        self._engine = engine
        self._faults = faults
        self._lock = threading.Lock()
        self._shells: dict[uuid.UUID, Shell] = {}
        self._handlers: dict[str, Callable[[Envelope, Caller], bytes]] = {
            messages.CREATE: self._create,
            messages.COMMAND: self._command,
            messages.RECEIVE: self._receive,
            messages.SEND: self._send,
            messages.SIGNAL: self._signal,
            messages.DELETE: self._delete,
            messages.GET: self._get,
        }

    @property
    def open_shells(self) -> int:
        return len(self._shells)

    def handle(self, body: bytes, caller: Caller) -> tuple[int, bytes]:
        """HTTP status and envelope for one message. Raises DropConnection when a fault says so."""
        message_id = ""
        try:
            envelope = messages.parse(body)
            message_id = envelope.message_id
            handler = self._handler(envelope)
            return 200, handler(envelope, caller)
        except EnvelopeError as error:
            found = Fault(
                messages.SCHEMA_VALIDATION,
                f"The SOAP XML in the message does not match the corresponding XML schema definition: {error}.",
                subcode="w:SchemaValidationError",
                status=400,
            )
        except ShellError as error:
            found = Fault(messages.INTERNAL_ERROR, f"The WS-Management service cannot process the request: {error}.")
        except Fault as error:
            found = error
        if found.code != messages.OPERATION_TIMED_OUT:
            self.counts.add(faults=1)
        return found.status, messages.fault(found, message_id, self.fqdn)

    def _handler(self, envelope: Envelope) -> Callable[[Envelope, Caller], bytes]:
        handler = self._handlers.get(envelope.action)
        if handler is None:
            raise refusals.action_not_supported()
        if envelope.action != messages.GET and envelope.resource_uri != messages.EXCHANGE_URI:
            raise refusals.unknown_resource(envelope.resource_uri)
        return handler

    def expire(self) -> None:
        """Close the shells that nobody has asked anything for too long. To be called now and again."""
        for shell in list(self._shells.values()):
            if shell.is_idle:
                self._remove(shell)

    def close(self) -> None:
        """Close every shell, as a recycled application pool does."""
        for shell in list(self._shells.values()):
            self._remove(shell)

    # Shells

    def _create(self, envelope: Envelope, caller: Caller) -> bytes:
        body = envelope.find("Shell")
        content = body.find(f"{{{messages.POWERSHELL}}}creationXml") if body is not None else None
        if body is None or content is None:
            raise EnvelopeError("no Shell with creationXml")
        shell_id = messages.identifier(body.get("ShellId")) if body.get("ShellId") else uuid.uuid4()
        idle = messages.duration(body.findtext(f"{{{messages.RSP}}}IdleTimeOut"), self.limits.idle_timeout)
        state = SessionState(
            account=caller.account,
            server=self.fqdn,
            serialization_level=caller.serialization_level,
            request_id=str(uuid.uuid4()),
        )
        shell = Shell(shell_id, caller.account, self._engine, self._faults, state, idle)
        shell.open(_base64(content.text))
        self._admit(shell)
        fields = messages.shell_fields(_upper(shell.id), caller.account.user, caller.address, idle, 0, 0)
        return messages.created(envelope.message_id, caller.url, fields, _upper(shell.id))

    def _admit(self, shell: Shell) -> None:
        self.expire()
        with self._lock:
            mine = sum(1 for other in self._shells.values() if other.account.user == shell.account.user)
            if self._faults.take("too_many_shells", self.fqdn) or mine >= self.limits.shells_per_user:
                raise refusals.too_many_shells(self.fqdn, self.limits.shells_per_user, shell.protocol)
            if shell.id in self._shells:
                raise EnvelopeError("a shell of this id is there already")
            self._shells[shell.id] = shell
        self.counts.add(shells=1)

    def _shell(self, envelope: Envelope, caller: Caller, cmdlet: str = "") -> Shell:
        """The shell that a request selects. Raises Fault when it is not there any more, or somebody else's."""
        if envelope.shell_id is None:
            raise refusals.shell_not_found(self.fqdn, "", self._engine.protocol_version())
        shell = self._shells.get(envelope.shell_id)
        if shell is not None and (shell.is_idle or self._faults.take("shell_not_found", self.fqdn, cmdlet)):
            self._remove(shell)
            shell = None
        if shell is None:
            raise refusals.shell_not_found(self.fqdn, _upper(envelope.shell_id), self._engine.protocol_version())
        if shell.account.user != caller.account.user:
            raise refusals.access_denied()
        return shell

    def _remove(self, shell: Shell) -> None:
        with self._lock:
            self._shells.pop(shell.id, None)
        shell.close()

    def _delete(self, envelope: Envelope, caller: Caller) -> bytes:
        self._remove(self._shell(envelope, caller))
        return messages.answer(f"{messages.WST}/DeleteResponse", envelope.message_id, "")

    def _get(self, envelope: Envelope, caller: Caller) -> bytes:
        if envelope.resource_uri == messages.CONFIG_URI:
            body = (
                f'<cfg:Config xmlns:cfg="{messages.CFG}">'
                f"<cfg:MaxEnvelopeSizekb>{self.limits.envelope // 1024}</cfg:MaxEnvelopeSizekb>"
                "<cfg:MaxTimeoutms>60000</cfg:MaxTimeoutms><cfg:MaxBatchItems>32000</cfg:MaxBatchItems></cfg:Config>"
            )
        elif envelope.resource_uri in (messages.RSP, messages.EXCHANGE_URI):
            shell = self._shell(envelope, caller)
            fields = messages.shell_fields(
                _upper(shell.id),
                shell.account.user,
                caller.address,
                shell.idle_timeout,
                shell.age,
                shell.inactivity,
            )
            body = f"<rsp:Shell>{fields}</rsp:Shell>"
        else:
            raise refusals.unknown_resource(envelope.resource_uri)
        return messages.answer(f"{messages.WST}/GetResponse", envelope.message_id, body)

    # Commands

    def _command(self, envelope: Envelope, caller: Caller) -> bytes:
        line = envelope.find("CommandLine")
        if line is None:
            raise EnvelopeError("no CommandLine")
        command_id = messages.identifier(line.get("CommandId")) if line.get("CommandId") else uuid.uuid4()
        data = _base64("".join(part.text or "" for part in line.findall(f"{{{messages.RSP}}}Arguments")))
        shell = self._shell(envelope, caller)
        with shell.in_use():
            if shell.command_count >= self.limits.commands_per_shell:
                raise refusals.too_many_commands()
            command = shell.command(command_id, data)
        self.counts.add(commands=1)
        if command.name:
            self._shell(envelope, caller, command.name)
        body = f"<rsp:CommandResponse><rsp:CommandId>{_upper(command_id)}</rsp:CommandId></rsp:CommandResponse>"
        return messages.answer(f"{messages.RSP}/CommandResponse", envelope.message_id, body)

    def _send(self, envelope: Envelope, caller: Caller) -> bytes:
        stream = envelope.find("Send/Stream")
        if stream is None:
            raise EnvelopeError("no Stream")
        shell = self._shell(envelope, caller)
        with shell.in_use():
            if stream.get("CommandId"):
                self._find(shell, messages.identifier(stream.get("CommandId")))
            shell.receive(_base64(stream.text))
        return messages.answer(f"{messages.RSP}/SendResponse", envelope.message_id, "<rsp:SendResponse/>")

    def _signal(self, envelope: Envelope, caller: Caller) -> bytes:
        signal = envelope.find("Signal")
        if signal is None:
            raise EnvelopeError("no Signal")
        code = (signal.findtext(f"{{{messages.RSP}}}Code") or "").strip().lower()
        command_id = messages.identifier(signal.get("CommandId"))
        shell = self._shell(envelope, caller)
        with shell.in_use():
            if code.endswith("terminate"):
                shell.forget(command_id)
            elif code.endswith(("ctrl_c", "ctrl_break")):
                self._find(shell, command_id).stop()
            else:
                raise EnvelopeError("no signal of that name")
        return messages.answer(f"{messages.RSP}/SignalResponse", envelope.message_id, "<rsp:SignalResponse/>")

    def _receive(self, envelope: Envelope, caller: Caller) -> bytes:
        desired = envelope.find("Receive/DesiredStream")
        if desired is None:
            raise EnvelopeError("no DesiredStream")
        shell = self._shell(envelope, caller)
        with shell.in_use():
            if not desired.get("CommandId"):
                return self._fetch(shell.queue, envelope, "", "")
            command = self._find(shell, messages.identifier(desired.get("CommandId")))
            self._shell(envelope, caller, command.name)
            if self._faults.take("broken_pool", self.fqdn, command.name):
                with self._lock:
                    self._shells.pop(shell.id, None)
                shell.break_pool()
            if self._faults.peek("outcome_lost", self.fqdn, command.name):
                if not command.queue.wait_for_end(envelope.timeout):
                    raise refusals.timed_out()
                if self._faults.take("outcome_lost", self.fqdn, command.name):
                    raise DropConnection
            return self._fetch(command.queue, envelope, _upper(command.id), command.name)

    def _fetch(self, queue: OutputQueue, envelope: Envelope, command_id: str, cmdlet: str) -> bytes:
        def render(batch: Batch) -> bytes:
            payload = binascii.b2a_base64(batch.data, newline=False)
            return messages.received(envelope.message_id, command_id, payload, is_done=batch.is_done)

        at_most = 0
        if limit := self._faults.peek("objects_per_receive", self.fqdn, cmdlet):
            at_most = max(int(limit.value or 1), 1)
        drop = self._faults.peek("drop_mid_stream", self.fqdn, cmdlet) if command_id else None
        until_drop = int(drop.value or 1) - queue.delivered if drop else 0
        if drop:
            at_most = min(at_most or until_drop, max(until_drop, 1))
        fetched = queue.fetch(
            envelope.message_id,
            envelope.timeout,
            messages.payload_room(min(envelope.max_size, self.limits.envelope)),
            render,
            max_objects=at_most,
        )
        if fetched.answer is None:
            raise refusals.timed_out()
        if fetched.batch is not None:
            self.counts.add(objects=fetched.batch.objects)
            if limit and fetched.batch.objects:
                self._faults.take("objects_per_receive", self.fqdn, cmdlet)
            if drop and fetched.batch.objects >= until_drop:
                self._faults.take("drop_mid_stream", self.fqdn, cmdlet)
                raise DropConnection(fetched.answer)
        return fetched.answer

    def _find(self, shell: Shell, command_id: uuid.UUID) -> RunningCommand:
        command = shell.find(command_id)
        if command is None:
            raise refusals.no_such_command(_upper(command_id))
        return command


def _base64(text: str | None) -> bytes:
    try:
        return base64.b64decode((text or "").strip(), validate=True)
    except binascii.Error as error:
        raise EnvelopeError("not base64") from error


def _upper(value: uuid.UUID) -> str:
    return str(value).upper()

"""WS-Man as Exchange's PowerShell endpoint answers it: Create, Command, Receive, Send, Signal, Delete and Get.

One service a server; its shells live here and nowhere else, so a shell of another server is "not found". Every answer
that is not as asked is a SOAP fault with the code that clients know. Offers no Disconnect, Connect or Enumerate:
whether Exchange does is not known.
"""

from __future__ import annotations

import base64
import binascii
import datetime
import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field

from lab.exchange import wsman_messages as messages
from lab.exchange.contract import Account, Engine, SessionState
from lab.exchange.shell import RunningCommand, Shell, ShellError
from lab.exchange.streams import Batch, OutputQueue
from lab.exchange.wsman_messages import Envelope, EnvelopeError, Fault
from lab.faults import Faults


class DropConnection(Exception):
    """Close the connection; `begun` is how much of an answer goes out before."""

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
            raise Fault(
                messages.ACTION_NOT_SUPPORTED,
                "The WS-Management service does not support the action specified in the request.",
                subcode="a:ActionNotSupported",
            )
        if envelope.action != messages.GET and envelope.resource_uri != messages.EXCHANGE_URI:
            raise _unknown_resource(envelope.resource_uri)
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
                raise self._too_many_shells(shell.protocol)
            if shell.id in self._shells:
                raise EnvelopeError("a shell of this id is there already")
            self._shells[shell.id] = shell
        self.counts.add(shells=1)

    def _too_many_shells(self, protocol: str) -> Fault:
        """Exchange's texts (exchange.md 1.5). Which code carries the newer one on-premises is not known."""
        number = self.limits.shells_per_user
        if protocol == "2.1":
            return Fault(
                messages.QUOTA_MAX_SHELLS,
                "The WS-Management service cannot process the request. This user is allowed a maximum of "
                f"{number} concurrent shells, which has been exceeded. Close existing shells or raise the quota for "
                "this user.",
                subcode="w:QuotaLimit",
            )
        return Fault(
            messages.ACCESS_DENIED,
            f"[Server={self._machine},RequestId={uuid.uuid4()},TimeStamp={_timestamp()}] "
            "[FailureCategory=AuthZ-AuthorizationException] Fail to create a runspace because you have exceeded the "
            f"maximum number of connections allowed : {number} for the policy party : MaxConcurrency. "
            "Please close existing runspace and try again.",
            subcode="w:AccessDenied",
        )

    def _shell(self, envelope: Envelope, caller: Caller, cmdlet: str = "") -> Shell:
        """The shell that a request selects. Raises Fault when it is not there any more, or somebody else's."""
        if envelope.shell_id is None:
            raise self._shell_not_found("")
        shell = self._shells.get(envelope.shell_id)
        if shell is not None and (shell.is_idle or self._faults.take("shell_not_found", self.fqdn, cmdlet)):
            self._remove(shell)
            shell = None
        if shell is None:
            raise self._shell_not_found(_upper(envelope.shell_id))
        if shell.account.user != caller.account.user:
            raise Fault(messages.ACCESS_DENIED, "Access is denied.", subcode="w:AccessDenied")
        return shell

    def _shell_not_found(self, shell_id: str) -> Fault:
        prefix = ""
        if self._engine.protocol_version() != "2.1":
            prefix = (
                f"[ClientAccessServer={self._machine},BackEndServer={self.fqdn.lower()},RequestId={uuid.uuid4()},"
                f"TimeStamp={_timestamp()}] [FailureCategory=WSMan-InvalidShellID] "
            )
        return Fault(
            messages.UNEXPECTED_SELECTORS,
            f"{prefix}The request for the Windows Remote Shell with ShellId {shell_id} failed because the shell was "
            "not found on the server. Possible causes are: the specified ShellId is incorrect or the shell no longer "
            "exists on the server. Provide the correct ShellId or create a new shell and retry the operation.",
            subcode="w:InvalidSelectors",
        )

    @property
    def _machine(self) -> str:
        return self.fqdn.partition(".")[0].upper()

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
            raise _unknown_resource(envelope.resource_uri)
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
                raise Fault(
                    messages.QUOTA_MAX_COMMANDS,
                    "The WS-Management service cannot process the request. The maximum number of concurrent commands "
                    "per shell has been exceeded. Retry your request later or raise the Maximum Commands per Shell "
                    "quota.",
                    subcode="w:QuotaLimit",
                )
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
            raise Fault(
                messages.OPERATION_TIMED_OUT,
                "The WS-Management service cannot complete the operation within the time specified in "
                "OperationTimeout.",
                subcode="w:TimedOut",
                is_senders=False,
            )
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
            raise Fault(
                messages.UNEXPECTED_SELECTORS,
                "The WS-Management service cannot process the request because the request contained invalid selectors "
                f"for the resource: there is no command {_upper(command_id)}.",
                subcode="w:InvalidSelectors",
            )
        return command


def _unknown_resource(uri: str) -> Fault:
    return Fault(
        messages.RESOURCE_URI_UNKNOWN,
        f"The WS-Management service cannot process the request. The resource URI ({uri}) was not found in the "
        "WS-Management catalog. The catalog contains the metadata that describes resources, or logical endpoints.",
        subcode="a:DestinationUnreachable",
    )


def _base64(text: str | None) -> bytes:
    try:
        return base64.b64decode((text or "").strip(), validate=True)
    except binascii.Error as error:
        raise EnvelopeError("not base64") from error


def _upper(value: uuid.UUID) -> str:
    return str(value).upper()


def _timestamp() -> str:
    return datetime.datetime.now(datetime.UTC).strftime("%-m/%-d/%Y %-I:%M:%S %p")

"""pypsrp's runspace pool and pipeline on our own reading path: raw objects out, nothing kept, every error looked at.

Subclasses as wire.md 8 draws them; tests/connectors/exchange/test_contract.py holds what they rely on in pypsrp. What
pypsrp would keep for ever (output, streams) is never filled here.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from typing import Any

from pypsrp.complex_objects import PSInvocationState, RunspacePoolState
from pypsrp.exceptions import InvalidPSRPOperation, WinRMError
from pypsrp.messages import Message
from pypsrp.powershell import PowerShell, RunspacePool

from connectors.exchange.client import Options
from connectors.exchange.clixml import CliObject, ClixmlError, display, read_object
from connectors.exchange.cmdlets import is_reading
from connectors.exchange.errors import ObserveOnlyError, TransientError
from connectors.exchange.fragments import OUTPUT, FastFragmenter, RawMessage
from connectors.exchange.invocation import Invocation, InvocationSerializer
from connectors.exchange.wsman import Connection

CONFIGURATION = "Microsoft.Exchange"

# These log payloads, scripts and stack traces; whatever goes wrong comes out as our own error.
for _name in ("pypsrp", "spnego", "urllib3", "requests", "gssapi", "krb5"):
    logging.getLogger(_name).setLevel(logging.CRITICAL)


@dataclass(frozen=True, slots=True)
class RemoteError:
    """An ErrorRecord as Exchange sent it (exchange.md 5.5). In no repr: messages name people.

    is_terminating: it came with the pipeline's failure, and not in the error stream.
    """

    message: str
    exception: str  # .NET class, "" when not sent
    fq_error_id: str
    reason: str
    category: str
    target_name: str
    is_terminating: bool = False

    def __repr__(self) -> str:
        return f"RemoteError(reason={self.reason!r})"


def remote_error(record: CliObject, *, is_terminating: bool = False) -> RemoteError:
    """From an ErrorRecord, whichever of its parts were sent."""
    properties = record.properties
    exception = properties.get("Exception")
    inner = exception if isinstance(exception, CliObject) else CliObject()
    message = (
        display(properties.get("ErrorDetails_Message"))
        or display(inner.properties.get("Message"))
        or inner.text
        or record.text
        or ""
    )
    return RemoteError(
        message=message,
        exception=inner.types[0] if inner.types else "",
        fq_error_id=display(properties.get("FullyQualifiedErrorId")) or "",
        reason=display(properties.get("ErrorCategory_Reason")) or "",
        category=display(properties.get("ErrorCategory_Category")) or "",
        target_name=display(properties.get("ErrorCategory_TargetName")) or "",
        is_terminating=is_terminating,
    )


class FastPool(RunspacePool):
    """One runspace on one server. Not thread-safe (wire.md 10, pitfall 1): one session, one thread, one pool."""

    connection: Connection

    def __init__(self, connection: Connection, options: Options) -> None:
        super().__init__(
            connection,
            configuration_name=CONFIGURATION,
            min_runspaces=1,
            max_runspaces=1,
            idle_timeout=options.idle_timeout,
        )
        self._serializer = InvocationSerializer()
        self._fragmenter = FastFragmenter(connection.max_payload_size, self._serializer)
        self.is_observe_only = options.observe_only
        self._options = options
        self._heard_at = time.monotonic()

    @property
    def silence(self) -> float:
        """Seconds since data came last."""
        return time.monotonic() - self._heard_at

    def heard(self) -> None:
        """Begin to count the silence anew."""
        self._heard_at = time.monotonic()

    def _receive(self, id: str | None = None, timeout: int | None = None) -> list[tuple[int, Any]]:
        """pypsrp's hook: one Receive, for the pipeline `id` or for the pool, and what came of it."""
        pipeline = self.pipelines.get(id) if id else None
        received = self.connection.receive_data(
            self.shell.resource_uri,
            self.shell._selector_set,
            pipeline._command_id if pipeline is not None else None,
            timeout or self._options.operation_timeout,
            self._patience,
        )
        if received is None or not received.data:
            if self.silence > self._options.silence:
                raise TransientError("no data within the limit of silence", code="no_answer")
            if received is None:
                return []
        else:
            self.heard()
        if isinstance(pipeline, FastPipeline) and received.is_done:
            pipeline.is_done = True
        responses: list[tuple[int, Any]] = self._parse_responses(received.data, pipeline)
        return responses

    def _patience(self) -> float:
        """How long one answer may still take. Never above what is left of the silence."""
        return min(float(self._options.read_timeout), self._options.silence - self.silence)

    def _process_runspacepool_warning(self, message: Message) -> None:
        """A warning of the pool itself: nothing of ours hangs on it."""

    def _process_runspacepool_state(self, message: Any) -> Any:
        state = message.data
        self.state = state.state
        if self.state == RunspacePoolState.BROKEN:
            error = state.error_record
            # str() of pypsrp's record may be None inside; the exception's text is what tells.
            properties = getattr(getattr(error, "exception", None), "adapted_properties", {})
            raise InvalidPSRPOperation(f"broken: {properties.get('Message') or error or ''}")
        return state


class FastPipeline(PowerShell):
    """One pipeline. poll() brings the objects; errors and warnings wait in their lists until taken."""

    runspace_pool: FastPool

    def __init__(self, pool: FastPool) -> None:
        super().__init__(pool)
        self.is_done = False
        self.errors: list[RemoteError] = []
        self.warnings: list[str] = []

    @property
    def is_running(self) -> bool:
        return bool(self.state == PSInvocationState.RUNNING)

    @property
    def is_completed(self) -> bool:
        return bool(self.state == PSInvocationState.COMPLETED)

    def begin_invoke(self, *arguments: Any, **options: Any) -> None:
        """pypsrp's hook, by which every command leaves. Raises ObserveOnlyError in place of sending what may change
        something, when the session only observes: whoever made the command, and whatever made it. Input and options,
        which no cmdlet of ours has, are refused."""
        if self.runspace_pool.is_observe_only:
            for command in self.commands:
                if command.is_script or not is_reading(str(command.cmd)):
                    raise ObserveOnlyError("the session only observes", cmdlet=str(command.cmd))
        if arguments or options or self.state != PSInvocationState.NOT_STARTED or not self.commands:
            raise InvalidPSRPOperation("a pipeline is begun once, with commands and nothing else")
        self._invoke(Invocation(self.commands, self.runspace_pool.protocol_version or ""))

    def poll(self, timeout: int) -> list[bytes]:
        """One Receive: the raw objects that came; none when nothing came within `timeout` seconds."""
        return [
            message.body
            for kind, message in self.runspace_pool._receive(self.id, timeout)
            if kind == OUTPUT and isinstance(message, RawMessage)
        ]

    def end(self) -> None:
        """Have the server stop and forget the command. A pipeline that is not ended counts against its shell."""
        if self.is_running:
            self.stop()
        self.close()

    def _process_error_record(self, message: Message) -> None:
        self.errors.append(remote_error(self._read(message)))

    def _process_warning_record(self, message: Message) -> None:
        self.warnings.append(display(self._read(message).properties.get("InformationalRecord_Message")) or "")

    def _process_pipeline_state(self, message: Message) -> None:
        properties = self._read(message).properties
        text = display(properties.get("PipelineState")) or ""
        if not text.isdecimal():
            raise WinRMError("a pipeline state that is no number")
        self.state = int(text)
        record = properties.get("ExceptionAsErrorRecord")
        if isinstance(record, CliObject):
            self.errors.append(remote_error(record, is_terminating=True))
        if self.state == PSInvocationState.FAILED:
            self.had_errors = True

    def _read(self, message: Message) -> CliObject:
        if not isinstance(message, RawMessage):
            raise WinRMError("a message that FastFragmenter did not make")
        try:
            return read_object(message.body)
        except ClixmlError as error:
            raise WinRMError("a message that is not CLIXML") from error

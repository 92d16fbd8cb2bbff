"""A shell: one PSRP runspace pool of one account on one server, its commands and what they have to say.

psrpcore's server side keeps the protocol; what it leaves open is added here: a queue for each command, runspaces that
are really limited, stopping in mid-stream, failure as a pipeline's end. Objects that the engine has rendered go around
psrpcore's serializer, which would be the slowest part of the lab. Runs no script text: the session is in no-language
mode. Never lets an engine's exception out; it becomes the command's failure.
"""

from __future__ import annotations

import logging
import struct
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import psrpcore
from psrpcore import PSRPPayload, ServerPipeline, StreamType
from psrpcore.types import PSInvocationState, PSRPMessageType, RunspacePoolState

from lab.exchange import values
from lab.exchange.contract import Account, Command, Engine, Failure, ObjectXml, Output, Progress, SessionState, Warn
from lab.exchange.pool import ServerPool
from lab.exchange.streams import OutputQueue
from lab.faults import Faults

logger = logging.getLogger(__name__)

# Bytes of one fragment, its header included, as Windows cuts them.
FRAGMENT = 32_768
_FRAGMENT_HEADER = struct.Struct(">QQBI")
_MESSAGE_HEADER = struct.Struct("<iI16s16s")
_TO_CLIENT = 1
_START, _END = 1, 2


class ShellError(Exception):
    """What the client sent does not belong into this shell, or cannot be read."""


class RunningCommand:
    """One pipeline of a shell, on a thread of its own from the moment it is complete."""

    def __init__(self, shell: Shell, command_id: uuid.UUID) -> None:
        self.id = command_id
        self.queue = OutputQueue()
        self.commands: tuple[Command, ...] = ()
        self.stop_asked = threading.Event()
        self._shell = shell
        self._pipeline = ServerPipeline(shell.pool, command_id)
        self._prefix = _MESSAGE_HEADER.pack(
            _TO_CLIENT, PSRPMessageType.PipelineOutput.value, shell.pool.runspace_pool_id.bytes_le, command_id.bytes_le
        )
        self._objects = 0

    @property
    def name(self) -> str:
        """The first cmdlet's name; empty until the whole command has come."""
        return self.commands[0].name if self.commands else ""

    def begin(self, commands: tuple[Command, ...]) -> None:
        """Run it. To be called once."""
        self.commands = commands
        threading.Thread(target=self._run, name=f"command-{self.id}", daemon=True).start()

    def stop(self) -> None:
        """Have it end as Stopped; what is queued is dropped. Returns at once."""
        self.stop_asked.set()
        self.queue.release()
        self._shell.wake()

    def refuse(self, failure: Failure) -> None:
        """End it as failed, without a run."""
        self._shell.tell(partial(self._end, failure))
        self.queue.end()

    def _run(self) -> None:
        failure: Failure | None = None
        try:
            with self._shell.runspace(self) as is_mine:
                if is_mine:
                    self._shell.tell(self._pipeline.start)
                    failure = self._work()
        except Exception as error:
            logger.exception("a command ended by an error of the lab's own")
            failure = _internal(error, self.name)
        if not self._shell.faults.take("silent_end", self._shell.state.server, self.name):
            self._shell.tell(partial(self._end, failure))
        self.queue.end()

    def _work(self) -> Failure | None:
        """Put the engine's outputs on the wire; the failure that ended them, if one did."""
        outputs = self._shell.engine.run(self._shell.state, self.commands, self.stop_asked)
        try:
            for output in outputs:
                if self.stop_asked.is_set():
                    return None
                if isinstance(output, ObjectXml):
                    self._write_object(output.xml)
                elif isinstance(output, Failure) and output.terminating:
                    return output
                else:
                    self._shell.tell(partial(self._write_record, output))
                self.queue.wait_for_room()
        finally:
            close = getattr(outputs, "close", None)
            if close is not None:
                close()
        return None

    def _write_object(self, xml: bytes) -> None:
        self._objects += 1
        fault = self._shell.faults.peek("malformed_clixml", self._shell.state.server, self.name)
        if fault and self._objects == max(int(fault.value or 1), 1):
            self._shell.faults.take("malformed_clixml", self._shell.state.server, self.name)
            xml = xml[: len(xml) // 2]
        number = self._shell.next_object_id()
        length = len(self._prefix) + len(xml)
        room = FRAGMENT - _FRAGMENT_HEADER.size
        if length <= room:
            self.queue.put(_FRAGMENT_HEADER.pack(number, 0, _START | _END, length) + self._prefix + xml, 1)
            return
        message = self._prefix + xml
        for index, offset in enumerate(range(0, length, room)):
            part = message[offset : offset + room]
            is_last = offset + room >= length
            flags = (_START if index == 0 else 0) | (_END if is_last else 0)
            self.queue.put(_FRAGMENT_HEADER.pack(number, index, flags, len(part)) + part, int(is_last))

    def _write_record(self, output: Output) -> None:
        if isinstance(output, Warn):
            self._pipeline.write_warning(output.text)
        elif isinstance(output, Progress):
            self._pipeline.write_progress(output.activity, 0, output.activity, percent_complete=output.percent)
        elif isinstance(output, Failure):
            self._pipeline.write_error(**values.error_parts(output))
        else:
            raise TypeError(f"no output: {type(output).__name__}")

    def _end(self, failure: Failure | None) -> None:
        if failure is not None:
            self._pipeline._change_state(PSInvocationState.Failed, error=values.error_record(failure))
        elif self.stop_asked.is_set():
            if self._pipeline.state == PSInvocationState.NotStarted:
                self._pipeline._change_state(PSInvocationState.Running, emit=False)
            self._pipeline.stop()
        else:
            self._pipeline.complete()


class Shell:
    """One runspace pool. All of psrpcore happens under one lock; queues have their own."""

    def __init__(
        self, shell_id: uuid.UUID, account: Account, engine: Engine, faults: Faults, state: SessionState, idle: float
    ) -> None:
        self.id = shell_id
        self.account = account
        self.engine = engine
        self.faults = faults
        self.state = state
        self.idle_timeout = idle
        self.created = self.used = time.monotonic()
        self.protocol = engine.protocol_version()
        self.pool = ServerPool(self.protocol)
        self.queue = OutputQueue(gather=0)
        self.is_closed = False
        self._lock = threading.RLock()
        self._free = threading.Condition()
        self._running = 0
        self._commands: dict[uuid.UUID, RunningCommand] = {}
        self._in_use = 0

    # How long it lives

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """While a request works with the shell it is not idle."""
        with self._lock:
            self._in_use += 1
        try:
            yield
        finally:
            with self._lock:
                self._in_use -= 1
                self.used = time.monotonic()

    @property
    def is_idle(self) -> bool:
        """Whether nobody has asked anything for longer than the idle timeout."""
        with self._lock:
            return not self._in_use and time.monotonic() - self.used > self.idle_timeout

    @property
    def age(self) -> float:
        return time.monotonic() - self.created

    @property
    def inactivity(self) -> float:
        return time.monotonic() - self.used

    def close(self) -> None:
        """Stop all commands and let everyone who waits go."""
        with self._lock:
            self.is_closed = True
            commands = list(self._commands.values())
            self._commands.clear()
        for command in commands:
            command.stop()
        self.queue.end()
        self.wake()

    def break_pool(self) -> None:
        """Close, with the pool's state Broken as the last word in the pool's and each command's stream."""
        with self._lock:
            queues = [self.queue, *(command.queue for command in self._commands.values())]
            self.close()
            if self.pool.state == RunspacePoolState.Opened:
                self.pool.set_broken(values.error_record(values.POOL_BROKEN))
            while (payload := self.pool.data_to_send(FRAGMENT)) is not None:
                for queue in queues:
                    queue.put(payload.data)

    # What the client sends

    def open(self, data: bytes) -> None:
        """The first fragments, which come with Create. Raises ShellError."""
        self.receive(data)
        if self.pool.state != RunspacePoolState.Opened:
            raise ShellError("the pool was not asked to open")

    def command(self, command_id: uuid.UUID, data: bytes) -> RunningCommand:
        """A new command and its first fragment. Raises ShellError."""
        with self._lock:
            if command_id in self._commands:
                raise ShellError("a command of this id is there already")
            command = self._commands[command_id] = RunningCommand(self, command_id)
            try:
                self.receive(data)
            except ShellError:
                self.forget(command_id)
                raise
            return command

    @property
    def command_count(self) -> int:
        return len(self._commands)

    def find(self, command_id: uuid.UUID) -> RunningCommand | None:
        with self._lock:
            return self._commands.get(command_id)

    def forget(self, command_id: uuid.UUID) -> None:
        """Terminate: stop the command if it runs, and let go of it."""
        with self._lock:
            command = self._commands.pop(command_id, None)
            self.pool.pipeline_table.pop(command_id, None)
        if command is not None:
            command.stop()

    def receive(self, data: bytes) -> None:
        """Fragments from the client. Raises ShellError for what cannot be read."""
        with self._lock:
            try:
                self.pool.receive_data(PSRPPayload(data, StreamType.default, None))
                while (event := self.pool.next_event()) is not None:
                    self._heed(event)
            except ShellError:
                raise
            except Exception as error:
                raise ShellError(f"unreadable: {type(error).__name__}") from error
            self._drain()

    def _heed(self, event: Any) -> None:
        if isinstance(event, psrpcore.CreatePipelineEvent):
            self._start(event)
        elif isinstance(event, psrpcore.GetCommandMetadataEvent):
            command = self._commands.get(event.pipeline_id)
            if command is not None:
                command.refuse(_no_metadata())
        elif isinstance(event, psrpcore.GetAvailableRunspacesEvent):
            self.pool.runspace_availability_response(event.ci, max(self.pool.max_runspaces - self._running, 0))
        elif isinstance(
            event, psrpcore.SetMaxRunspacesEvent | psrpcore.SetMinRunspacesEvent | psrpcore.ResetRunspaceStateEvent
        ):
            self.pool.runspace_availability_response(event.ci, True)
            self.wake()

    def _start(self, event: Any) -> None:
        command = self._commands.get(event.pipeline_id)
        if command is None:
            raise ShellError("a pipeline without its command")
        commands = values.commands(event.pipeline)
        if self.protocol == "2.1":
            # PowerShell 2 knows one statement a pipeline (belief, wire.md 9): the others are not even seen.
            end = next((i for i, one in enumerate(commands) if one.end_of_statement), len(commands) - 1)
            commands = commands[: end + 1]
        if any(one.is_script for one in commands):
            command.commands = commands
            command.refuse(values.NO_SCRIPTS)
        else:
            command.begin(commands)

    # What goes back

    def tell(self, act: Callable[[], Any]) -> None:
        """Have psrpcore say something, and hand it to the queues it belongs to."""
        with self._lock:
            act()
            self._drain()

    def next_object_id(self) -> int:
        with self._lock:
            return self.pool.next_object_id()

    def _drain(self) -> None:
        while (payload := self.pool.data_to_send(FRAGMENT)) is not None:
            if payload.pipeline_id is None:
                self.queue.put(payload.data)
            elif (command := self._commands.get(payload.pipeline_id)) is not None:
                command.queue.put(payload.data)

    # Runspaces

    @contextmanager
    def runspace(self, command: RunningCommand) -> Iterator[bool]:
        """Wait for one of the pool's runspaces. False: the command was stopped before one was free."""
        with self._free:
            while self._running >= max(self.pool.max_runspaces, 1) and not command.stop_asked.is_set():
                self._free.wait()
            is_mine = not command.stop_asked.is_set()
            self._running += is_mine
        try:
            yield is_mine
        finally:
            with self._free:
                self._running -= is_mine
                self._free.notify_all()

    def wake(self) -> None:
        """Have those who wait for a runspace look again."""
        with self._free:
            self._free.notify_all()


def _internal(error: Exception, cmdlet: str) -> Failure:
    return Failure(
        message=f"The lab failed: {type(error).__name__}",
        exception="System.InvalidOperationException",
        category=0,
        fq_error_id="LabInternalError",
        reason="InvalidOperationException",
        activity=cmdlet,
        terminating=True,
    )


def _no_metadata() -> Failure:
    return Failure(
        message="Command metadata is asked for with Get-Command here.",
        exception="System.NotSupportedException",
        category=11,
        fq_error_id="NotSupported",
        reason="NotSupportedException",
        terminating=True,
    )

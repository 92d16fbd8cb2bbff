"""A shell: one PSRP runspace pool of one account on one server, its commands and what they have to say.

psrpcore's server side keeps the protocol; what it leaves open is added here: a queue for each command, runspaces that
are really limited, stopping in mid-stream, failure as a pipeline's end (running.py). Runs no script text: the session
is in no-language mode.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psrpcore
from psrpcore import PSRPPayload, StreamType
from psrpcore.types import RunspacePoolState

from lab.exchange import values
from lab.exchange.contract import Account, Engine, Failure, SessionState
from lab.exchange.pool import ServerPool
from lab.exchange.running import FRAGMENT, RunningCommand
from lab.exchange.streams import OutputQueue
from lab.faults import Faults


class ShellError(Exception):
    """What the client sent does not belong into this shell, or cannot be read."""


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


def _no_metadata() -> Failure:
    return Failure(
        message="Command metadata is asked for with Get-Command here.",
        exception="System.NotSupportedException",
        category=11,
        fq_error_id="NotSupported",
        reason="NotSupportedException",
        terminating=True,
    )

"""One pipeline of a shell: on a thread of its own it asks the engine, and puts what comes on the wire.

Objects that the engine has rendered go around psrpcore's serializer, which would be the slowest part of the lab. Never
lets an engine's exception out; it becomes the command's failure.
"""

from __future__ import annotations

import logging
import struct
import threading
import uuid
from functools import partial
from typing import TYPE_CHECKING

from psrpcore import ServerPipeline
from psrpcore.types import PSInvocationState, PSRPMessageType

from lab.exchange import values
from lab.exchange.contract import Command, Failure, ObjectXml, Output, Progress, Warn
from lab.exchange.streams import OutputQueue
from lab.workers import Workers

if TYPE_CHECKING:
    from lab.exchange.shell import Shell

logger = logging.getLogger(__name__)

# Bytes of one fragment, its header included, as Windows cuts them.
FRAGMENT = 32_768
_FRAGMENT_HEADER = struct.Struct(">QQBI")
_MESSAGE_HEADER = struct.Struct("<iI16s16s")
_TO_CLIENT = 1
_START, _END = 1, 2
WORKERS = Workers("command")


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
        WORKERS.begin(self._run)

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

"""Running commands in one session: each comes to a known end, complete, or an error, or canceled in time.

It knows no cmdlet and no record; session.py does. It never retries and never reconnects by itself. Whatever a library
raises in here leaves as an error of ours (translate.py). A command that changes something and whose end is not learnt
after it went out leaves as OutcomeUnknownError, never as an error that invites to try again.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from pypsrp.complex_objects import RunspacePoolState

from connectors.exchange import cmdlets, powershell, throttle
from connectors.exchange.client import Account, Endpoint, Options, Throttling
from connectors.exchange.cmdlets import Command, Identity
from connectors.exchange.errors import (
    CanceledError,
    ExchangeError,
    ObserveOnlyError,
    OutcomeUnknownError,
    StopError,
    ThrottledError,
    TransientError,
)
from connectors.exchange.pool import FastPipeline, FastPool, RemoteError
from connectors.exchange.translate import from_record, translate
from connectors.exchange.transport import Watch
from connectors.exchange.wsman import Connection

logger = logging.getLogger(__name__)

# Seconds that taking leave may take: a session is closed on the way out of failures, too.
LEAVE = 5
# What Exchange says when it stopped at ResultSize; and how many objects that is by default.
TRUNCATED = ("more results available", "more results are available")
DEFAULT_RESULT_SIZE = 1000
# Error records that tell of the way to Exchange's inside and not of the command: it may have been carried out.
UNSURE_RECORDS = frozenset({"shell_lost", "cmdlet_proxy_failed"})


def refused(error: RemoteError) -> bool:
    """The `tolerated` of a command that tolerates no error."""
    return False


class Channel:
    """One runspace on one server. One command at a time, one thread (see transport.py)."""

    def __init__(self, endpoint: Endpoint, account: Account, options: Options, should_stop: Callable[[], bool]) -> None:
        self.endpoint = endpoint
        self.throttling = Throttling()
        self._authentication = account.authentication
        self._options = options
        self._watch = Watch(should_stop)
        self._connection = Connection(endpoint, account, options, self._watch)
        self._pool = FastPool(self._connection, options)
        self._current: FastPipeline | None = None
        # Of the command that ran last: Exchange took it; what Exchange itself said of it.
        self._is_taken = False
        self._refusal: ExchangeError | None = None

    @property
    def clock_skew(self) -> float:
        """Seconds by which the server's clock was ahead of ours when it refused us; 0 when it did not."""
        return self._connection.transport.clock_skew

    # Opening and closing

    def open(self) -> None:
        """Sign in and open the runspace."""
        self._watch.check()
        with self._translated():
            self._pool.open()
            if self._pool.state != RunspacePoolState.OPENED:
                raise TransientError("the session did not open", code="pool_broken")

    def close(self) -> None:
        """Take leave within seconds; what fails here is noted and no more, the server's idle timeout ends the rest."""
        transport = self._connection.transport
        self._current = None
        try:
            with transport.taking_leave(LEAVE):
                # Also when opening failed half-way: a shell that was created counts against the account's 18.
                self._pool.shell.close()
        except Exception as error:  # noqa: BLE001 - there is nothing that a caller could do about it
            logger.info("session at %s not closed: %s", self.endpoint.fqdn, type(error).__name__)
        finally:
            self._pool.state = RunspacePoolState.CLOSED
            transport.reset()

    # Running commands

    def stream(self, *commands: Command, tolerated: Callable[[RemoteError], bool] = refused) -> Iterator[bytes]:
        for batch in self.batches(*commands, tolerated=tolerated):
            yield from batch

    def write(self, command: Command) -> list[bytes]:
        """Run one command that changes something, to its end; the raw objects it gave.

        Raises ObserveOnlyError where the session only observes, OutcomeUnknownError when the command went out and
        its end was not learnt. Any other error, CanceledError included, says that it was not carried out. Once it went
        out, the caller's wish to stop is heeded after some seconds only.
        """
        self._watch.check()
        found: list[bytes] = []
        try:
            with self._watch.patiently():
                for batch in self.batches(command):
                    found += batch
        except (CanceledError, ExchangeError) as error:
            if self._is_known(error):
                raise
            raise self.unknown(command, error) from error
        return found

    def _is_known(self, error: CanceledError | ExchangeError) -> bool:
        """Whether an error says for sure that the command was not carried out."""
        if not self._watch.has_delivered:
            return True
        if error is self._refusal:
            return error.code not in UNSURE_RECORDS
        if self._is_taken or isinstance(error, CanceledError):
            return False
        # The answer to the command itself. What is no answer of Exchange's may stand for anything, and a session that
        # is gone may have gone before the command began or after.
        return isinstance(error, StopError | ThrottledError) and error.code != "not_powershell"

    def unknown(
        self, command: Command, error: CanceledError | ExchangeError, *, is_accepted: bool = False
    ) -> OutcomeUnknownError:
        """To be raised from what was met. `is_accepted`: it is known that the command was carried out."""
        told = error if isinstance(error, ExchangeError) else None
        found = OutcomeUnknownError(
            "what became of the command is not known",
            command=powershell.text(command),
            server=self.endpoint.fqdn,
            cmdlet=command.name,
            remote_text=told.remote_text if told else "",
            request_id=told.request_id if told else "",
        )
        found.because = told.code if told else "canceled"
        found.is_accepted = is_accepted
        return found

    def batches(
        self,
        *commands: Command,
        is_listing: bool = False,
        tolerated: Callable[[RemoteError], bool] = refused,
    ) -> Iterator[list[bytes]]:
        """Run one pipeline; the raw objects of each Receive, as they come. Ends normally only when it was complete."""
        name = commands[0].name
        self._watch.check()
        deadline = time.monotonic() + self._options.deadline
        has_unread = False
        count = 0
        has_tolerated = False
        with self._pipeline(name, commands) as pipeline:
            while pipeline.is_running:
                self._watch.check()
                if time.monotonic() > deadline:
                    raise self.error(TransientError("the command took too long", code="deadline_exceeded"), name)
                with self._translated(name):
                    batch = pipeline.poll(self._options.operation_timeout)
                if batch:
                    count += len(batch)
                    yield batch
                    # The time that the caller took is not the server's silence.
                    self._pool.heard()
                has_unread |= self._heed(pipeline, name, is_listing)
                for error in pipeline.errors:
                    has_tolerated = tolerated(error)
                    if not has_tolerated:
                        raise self._failure(error, name, is_listing)
                pipeline.errors.clear()
                if pipeline.is_done and pipeline.is_running:
                    raise self._incomplete("the command is done, but its last word is missing", name, is_listing)
            if not pipeline.is_completed and not (pipeline.had_errors and has_tolerated):
                raise self._incomplete("the command did not complete", name, is_listing)
        if is_listing and has_unread and count == DEFAULT_RESULT_SIZE:
            # A warning that we could not read, at exactly the number at which Exchange stops by default.
            raise self._incomplete("probably cut off at 1000", name, is_listing)

    @contextmanager
    def _pipeline(self, name: str, commands: tuple[Command, ...]) -> Iterator[FastPipeline]:
        """A pipeline begun and, however it goes, ended: one that is left counts against its shell.

        There is one runspace: a listing that was not read to its end is ended here, or this command would wait for it.
        """
        self._abandon(self._current)
        pipeline = FastPipeline(self._pool)
        for command in commands:
            pipeline.add_cmdlet(command.name)
            for parameter, value in command.parameters.items():
                pipeline.add_parameter(parameter, _sent(value))
        self._pool.heard()
        self._current = pipeline
        self._watch.has_delivered, self._is_taken, self._refusal = False, False, None
        try:
            with self._translated(name):
                pipeline.begin_invoke()
            self._is_taken = True
            yield pipeline
        except ObserveOnlyError as error:
            self._current = None  # nothing was begun
            error.command = powershell.text(*commands)
            raise
        except CanceledError:
            raise  # the session closes now, and its commands with it
        except BaseException:
            self._abandon(pipeline)
            raise
        self._end(pipeline)

    def _abandon(self, pipeline: FastPipeline | None) -> None:
        """End a pipeline in haste, unless it has ended, its session has, or its connection is broken anyway.

        May be called by the garbage collector, when a caller dropped a listing: late, and in any thread.
        """
        transport = self._connection.transport
        if pipeline is None or pipeline is not self._current or not transport.is_own:
            return
        if transport.has_failed:
            self._current = None
            return
        with transport.taking_leave(LEAVE):
            self._end(pipeline)

    def _end(self, pipeline: FastPipeline) -> None:
        """What fails here takes nothing from what the command brought; the next command will meet it."""
        self._current = None
        try:
            with self._translated():
                pipeline.end()
        except ExchangeError as error:
            logger.info("a command at %s not ended: %s", self.endpoint.fqdn, error.code)

    def _heed(self, pipeline: FastPipeline, name: str, is_listing: bool) -> bool:
        """Take the warnings: count delays, raise for a truncated listing, say whether there was one we cannot read."""
        warnings, pipeline.warnings = pipeline.warnings, []
        has_unread = False
        for warning in warnings:
            seconds = throttle.micro_delay(warning)
            if seconds is not None:
                self.throttling.seconds += seconds
                self.throttling.events += 1
            elif is_listing and any(text in warning for text in TRUNCATED):
                raise self._incomplete("Exchange left the rest out", name, is_listing, warning)
            else:
                has_unread = True
        return has_unread

    # Errors

    @contextmanager
    def _translated(self, cmdlet: str = "") -> Iterator[None]:
        """Whatever a library raises inside comes out as ours."""
        try:
            yield
        except (CanceledError, RuntimeError, MemoryError, GeneratorExit):
            raise  # a RuntimeError is our own misuse: wrong thread, recursion
        except Exception as error:
            found = translate(
                error,
                server=self.endpoint.fqdn,
                cmdlet=cmdlet,
                authentication=self._authentication,
                clock_skew=self.clock_skew,
            )
            if found is error:
                raise
            raise found from error

    def _failure(self, error: RemoteError, name: str, is_listing: bool) -> ExchangeError:
        found = self._refusal = from_record(error, server=self.endpoint.fqdn, cmdlet=name)
        if is_listing and found.code == "command_failed":
            incomplete = self._incomplete("Exchange reported an error in the listing", name, True, found.remote_text)
            incomplete.request_id = found.request_id
            return incomplete
        return found

    def _incomplete(self, message: str, name: str, is_listing: bool, text: str = "") -> ExchangeError:
        code = "listing_incomplete" if is_listing else "malformed_answer"
        return self.error(TransientError(message, code=code, remote_text=text), name)

    def malformed(self, name: str) -> ExchangeError:
        return self.error(TransientError("an object that cannot be read", code="malformed_answer"), name)

    def error(self, error: ExchangeError, name: str) -> ExchangeError:
        error.server, error.cmdlet = self.endpoint.fqdn, name
        return error


def _sent(value: cmdlets.Value) -> object:
    """As pypsrp serialises it: text, boolean, number, list (Object[]), mapping (Hashtable), null."""
    if value is cmdlets.NULL:
        return None
    # A plain str: the serialiser looks at the exact type.
    return str(value) if isinstance(value, Identity) else value

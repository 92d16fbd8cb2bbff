"""A signed-in session with one Exchange server: `connect()` opens it, the client's methods run commands in it.

It never retries, never reconnects by itself and never chooses another server; whoever asked for the session does. What
it promises: a command ends with all its answers, or it raises. One session belongs to one thread (see transport.py);
it is canceled by should_stop alone, which is asked at least once a second.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from pypsrp.complex_objects import RunspacePoolState

from connectors.exchange import cmdlets, rows, throttle
from connectors.exchange.client import Account, Endpoint, ExchangeClient, Options, Throttling, never
from connectors.exchange.clixml import CliObject, ClixmlError, display, read_object
from connectors.exchange.cmdlets import Command, Family, Identity
from connectors.exchange.errors import (
    BadRequestError,
    CanceledError,
    ExchangeError,
    NotPermittedError,
    StopError,
    TransientError,
)
from connectors.exchange.pool import FastPipeline, FastPool, RemoteError
from connectors.exchange.records import (
    ActiveSyncOrganizationSettingsRecord,
    CasMailboxRecord,
    DeviceAccessRuleRecord,
    DeviceClassRecord,
    DevicePage,
    DeviceStatisticsRecord,
    ExchangeServerRecord,
    MobileDeviceRecord,
    OrganizationRecord,
    RecipientRecord,
    RecordError,
    ServerVersion,
    WireObject,
)
from connectors.exchange.translate import from_record, translate
from connectors.exchange.transport import Connection, Watch

logger = logging.getLogger(__name__)

AUTHENTICATIONS = frozenset({"kerberos", "negotiate", "ntlm", "basic"})
# Seconds that taking leave may take: a session is closed on the way out of failures, too.
LEAVE = 5
# What Exchange says when it stopped at ResultSize; and how many objects that is by default.
TRUNCATED = ("more results available", "more results are available")
DEFAULT_RESULT_SIZE = 1000

AnyRecord = TypeVar("AnyRecord")


@contextmanager
def connect(
    endpoint: Endpoint,
    account: Account,
    options: Options | None = None,
    *,
    should_stop: Callable[[], bool] = never,
) -> Iterator[ExchangeClient]:
    """Sign in, open a session, see what the account may do, and make the whole forest visible; close at the end.

    Raises ExchangeError: StopError for settings and credentials, NotPermittedError when a command we cannot do without
    is not granted, TransientError for the rest; CanceledError when should_stop() turned true.
    """
    session = Session(endpoint, account, options or Options(), should_stop)
    try:
        session.open()
        yield session
    finally:
        session.close()


class Session:
    """client.ExchangeClient over the wire, with more readings than the interface asks for. Made by connect()."""

    def __init__(
        self, endpoint: Endpoint, account: Account, options: Options, should_stop: Callable[[], bool] = never
    ) -> None:
        if account.authentication not in AUTHENTICATIONS:
            raise StopError("no such kind of sign-in", code="bad_settings", server=endpoint.fqdn)
        if options.read_timeout <= options.operation_timeout:
            raise StopError("read_timeout must exceed operation_timeout", code="bad_settings", server=endpoint.fqdn)
        self.endpoint = endpoint
        self.throttling = Throttling()
        self.granted: frozenset[str] = frozenset()
        self._authentication = account.authentication
        self._options = options
        self._should_stop = should_stop
        self._version: ServerVersion | None = None
        self._connection = Connection(endpoint, account, options, Watch(should_stop))
        self._pool = FastPool(self._connection, options)
        self._current: FastPipeline | None = None

    def __repr__(self) -> str:
        return f"Session({self.endpoint.fqdn})"

    @property
    def version(self) -> ServerVersion | None:
        return self._version

    @property
    def clock_skew(self) -> float:
        """Seconds by which the server's clock was ahead of ours when it refused us; 0 when it did not."""
        return self._connection.transport.clock_skew

    @property
    def selects(self) -> bool:
        """Whether the server is asked to send the wanted properties alone."""
        return self._options.select_properties and "Select-Object" in self.granted

    @property
    def family(self) -> Family:
        """What the device cmdlets are called here. Raises NotPermittedError when the account has neither."""
        for family in Family:
            if f"Get-{family.value}" in self.granted:
                return family
        raise NotPermittedError(
            "the account may not list devices", server=self.endpoint.fqdn, cmdlet=f"Get-{Family.MOBILE.value}"
        )

    # Opening and closing

    def open(self) -> None:
        self._stop_if_asked()
        with self._translated():
            self._pool.open()
            if self._pool.state != RunspacePoolState.OPENED:
                raise TransientError("the session did not open", code="pool_broken")
        self.granted = self._probe()
        self._run(cmdlets.set_ad_server_settings())

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

    def _probe(self) -> frozenset[str]:
        """Which of our commands the account has. A name it has not is an error record, and no failure."""
        found, refused = self._seen(cmdlets.PROBED)
        if any(error.is_terminating for error in refused):
            return self._supposed()
        missing = [name for name in cmdlets.PROBED if name not in found]
        if 0 < len(refused) < len(missing):
            # This Get-Command went no further than the first name that it did not find.
            for name in missing:
                found |= self._seen((name,))[0]
        return frozenset(found)

    def _seen(self, names: tuple[str, ...]) -> tuple[set[str], list[RemoteError]]:
        """Which of these Get-Command shows, and what it says of the others."""
        found: set[str] = set()
        refused: list[RemoteError] = []

        def is_missing(error: RemoteError) -> bool:
            if isinstance(from_record(error), NotPermittedError):
                refused.append(error)
                return True
            return False

        wanted = {name.lower(): name for name in names}
        try:
            for raw in self._stream(cmdlets.get_command(names), tolerated=is_missing):
                value = read_object(raw)
                name = display(value.properties.get("Name")) or value.text or ""
                if name.lower() in wanted:
                    found.add(wanted[name.lower()])
        except ClixmlError as error:
            raise self._malformed("Get-Command") from error
        return found, refused

    def _supposed(self) -> frozenset[str]:
        """Without Get-Command: what this version has, as if all were granted; what is not says so when it is used.

        Select-Object is not supposed, since it is used only where it was seen.
        """
        newest = max((server.version.major for server in self.servers()), default=0)
        family = Family.ACTIVE_SYNC if 0 < newest < 15 else Family.MOBILE
        return frozenset(cmdlets.COMMON) | {f"Get-{family.value}", f"Get-{family.value}Statistics"}

    # What can be read

    def servers(self) -> tuple[ExchangeServerRecord, ...]:
        found = tuple(self._records(rows.exchange_server, cmdlets.get_exchange_server()))
        for server in found:
            if server.fqdn.lower() == self.endpoint.fqdn.lower():
                self._version = server.version
        return found

    def organization(self) -> OrganizationRecord:
        return self._one(rows.organization, cmdlets.get_organization_config())

    def organization_settings(self) -> ActiveSyncOrganizationSettingsRecord:
        return self._one(rows.organization_settings, cmdlets.get_active_sync_organization_settings())

    def devices(self, *, filter: str | None = None) -> Iterator[DevicePage]:
        """See client.ExchangeClient.devices. `parse` raises TransientError(malformed_answer) for broken CLIXML."""
        listing = cmdlets.list_mobile_devices(self.family, filter=filter)
        reader = rows.device_reader()
        key = rows.digest_key(rows.DEVICE_PROPERTIES)

        def parse(wire: WireObject) -> MobileDeviceRecord:
            try:
                return reader.read(wire.raw)
            except ClixmlError as error:
                raise self._malformed(listing.name) from error

        commands = [listing]
        if self.selects:
            commands.append(cmdlets.select_object(rows.DEVICE_PROPERTIES))
        for batch in self._batches(*commands, is_listing=True):
            yield DevicePage(tuple([rows.RawObject(raw, key) for raw in batch]), parse)

    def device_statistics(self, mailbox: Identity) -> tuple[DeviceStatisticsRecord, ...]:
        """The devices of one mailbox with their state in it: expensive for Exchange."""
        command = cmdlets.get_mobile_device_statistics(self.family, mailbox=mailbox)
        return tuple(self._records(rows.device_statistics, command))

    def cas_mailbox(self, identity: Identity) -> CasMailboxRecord:
        return self._one(rows.cas_mailbox, cmdlets.get_cas_mailbox(identity))

    def recipient(self, identity: Identity) -> RecipientRecord:
        return self._one(rows.recipient, cmdlets.get_recipient(identity))

    def device_access_rules(self) -> tuple[DeviceAccessRuleRecord, ...]:
        return tuple(self._records(rows.device_access_rule, cmdlets.get_active_sync_device_access_rules()))

    def device_classes(self) -> tuple[DeviceClassRecord, ...]:
        return tuple(self._records(rows.device_class, cmdlets.get_active_sync_device_classes()))

    # Running commands

    def _records(self, make: Callable[[CliObject], AnyRecord], command: Command) -> Iterator[AnyRecord]:
        for raw in self._stream(command):
            try:
                yield make(read_object(raw))
            except (ClixmlError, RecordError) as error:
                raise self._malformed(command.name) from error

    def _one(self, make: Callable[[CliObject], AnyRecord], command: Command) -> AnyRecord:
        found = list(self._records(make, command))
        if len(found) != 1:
            raise BadRequestError(
                f"{command.name} gave {len(found)} objects where one was expected",
                code="command_failed",
                server=self.endpoint.fqdn,
                cmdlet=command.name,
            )
        return found[0]

    def _run(self, command: Command) -> None:
        """A command whose output does not matter."""
        for _ in self._stream(command):
            pass

    def _stream(
        self, *commands: Command, tolerated: Callable[[RemoteError], bool] = lambda error: False
    ) -> Iterator[bytes]:
        for batch in self._batches(*commands, tolerated=tolerated):
            yield from batch

    def _batches(
        self,
        *commands: Command,
        is_listing: bool = False,
        tolerated: Callable[[RemoteError], bool] = lambda error: False,
    ) -> Iterator[list[bytes]]:
        """Run one pipeline; the raw objects of each Receive, as they come. Ends normally only when it was complete."""
        name = commands[0].name
        self._stop_if_asked()
        deadline = time.monotonic() + self._options.deadline
        unread: list[str] = []
        count = 0
        has_tolerated = False
        with self._pipeline(name, commands) as pipeline:
            while pipeline.is_running:
                self._stop_if_asked()
                if time.monotonic() > deadline:
                    raise self._error(TransientError("the command took too long", code="deadline_exceeded"), name)
                with self._translated(name):
                    batch = pipeline.poll(self._options.operation_timeout)
                if batch:
                    count += len(batch)
                    yield batch
                    # The time that the caller took is not the server's silence.
                    self._pool.heard()
                unread.extend(self._heed(pipeline, name, is_listing))
                for error in pipeline.errors:
                    has_tolerated = tolerated(error)
                    if not has_tolerated:
                        raise self._failure(error, name, is_listing)
                pipeline.errors.clear()
                if pipeline.is_done and pipeline.is_running:
                    raise self._incomplete("the command is done, but its last word is missing", name, is_listing)
            if not pipeline.is_completed and not (pipeline.had_errors and has_tolerated):
                raise self._incomplete("the command did not complete", name, is_listing)
        if is_listing and unread and count == DEFAULT_RESULT_SIZE:
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
        try:
            with self._translated(name):
                pipeline.begin_invoke()
            yield pipeline
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

    def _heed(self, pipeline: FastPipeline, name: str, is_listing: bool) -> list[str]:
        """Take the warnings: count delays, raise for a truncated listing, give back those that we do not know."""
        warnings, pipeline.warnings = pipeline.warnings, []
        unread = []
        for warning in warnings:
            seconds = throttle.micro_delay(warning)
            if seconds is not None:
                self.throttling.seconds += seconds
                self.throttling.events += 1
            elif is_listing and any(text in warning for text in TRUNCATED):
                raise self._incomplete("Exchange left the rest out", name, is_listing, warning)
            else:
                unread.append(warning)
        return unread

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
        found = from_record(error, server=self.endpoint.fqdn, cmdlet=name)
        if is_listing and found.code == "command_failed":
            return self._incomplete("Exchange reported an error within the listing", name, True, found.remote_text)
        return found

    def _incomplete(self, message: str, name: str, is_listing: bool, text: str = "") -> ExchangeError:
        code = "listing_incomplete" if is_listing else "malformed_answer"
        return self._error(TransientError(message, code=code, remote_text=text), name)

    def _malformed(self, name: str) -> ExchangeError:
        return self._error(TransientError("an object that cannot be read", code="malformed_answer"), name)

    def _error(self, error: ExchangeError, name: str) -> ExchangeError:
        error.server, error.cmdlet = self.endpoint.fqdn, name
        return error

    def _stop_if_asked(self) -> None:
        if self._should_stop():
            raise CanceledError


def _sent(value: cmdlets.Value) -> object:
    """As pypsrp serialises it: text, boolean, number, list (Object[]), mapping (Hashtable), null."""
    if value is cmdlets.NULL:
        return None
    # A plain str: the serialiser looks at the exact type.
    return str(value) if isinstance(value, Identity) else value

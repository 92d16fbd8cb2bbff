"""A signed-in session with one Exchange server: `connect()` opens it, the client's methods run commands in it.

It never retries, never reconnects by itself and never chooses another server; whoever asked for the session does. What
it promises: a command ends with all its answers, or it raises. One session belongs to one thread (see transport.py);
it is canceled by should_stop alone, which is asked at least once a second.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from connectors.exchange import cmdlets, rows
from connectors.exchange.channel import Channel
from connectors.exchange.client import Account, Endpoint, ExchangeClient, Options, never
from connectors.exchange.clixml import CliObject, ClixmlError, display, read_object
from connectors.exchange.cmdlets import Command, Family, Identity
from connectors.exchange.errors import (
    BadRequestError,
    NotPermittedError,
    StopError,
)
from connectors.exchange.pool import RemoteError
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
from connectors.exchange.translate import from_record

AUTHENTICATIONS = frozenset({"kerberos", "negotiate", "ntlm", "basic"})

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
        self.granted: frozenset[str] = frozenset()
        self._options = options
        self._version: ServerVersion | None = None
        self._channel = Channel(endpoint, account, options, should_stop)
        self.throttling = self._channel.throttling

    def __repr__(self) -> str:
        return f"Session({self.endpoint.fqdn})"

    @property
    def version(self) -> ServerVersion | None:
        return self._version

    @property
    def clock_skew(self) -> float:
        """Seconds by which the server's clock was ahead of ours when it refused us; 0 when it did not."""
        return self._channel.clock_skew

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
        """Sign in, see what is granted, make the whole forest visible. close() is needed also when this fails."""
        self._channel.open()
        self.granted = self._probe()
        self._run(cmdlets.set_ad_server_settings())

    def close(self) -> None:
        """Within seconds; never raises."""
        self._channel.close()

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
            for raw in self._channel.stream(cmdlets.get_command(names), tolerated=is_missing):
                value = read_object(raw)
                name = display(value.properties.get("Name")) or value.text or ""
                if name.lower() in wanted:
                    found.add(wanted[name.lower()])
        except ClixmlError as error:
            raise self._channel.malformed("Get-Command") from error
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
                raise self._channel.malformed(listing.name) from error

        commands = [listing]
        if self.selects:
            commands.append(cmdlets.select_object(rows.DEVICE_PROPERTIES))
        for batch in self._channel.batches(*commands, is_listing=True):
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
        for raw in self._channel.stream(command):
            try:
                yield make(read_object(raw))
            except (ClixmlError, RecordError) as error:
                raise self._channel.malformed(command.name) from error

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
        for _ in self._channel.stream(command):
            pass

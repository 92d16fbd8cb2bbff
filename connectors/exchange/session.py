"""A signed-in session with one Exchange server: `connect()` opens it, the client's methods run commands in it.

It never retries, never reconnects by itself and never chooses another server; whoever asked for the session does. What
it promises: a command ends with all its answers, or it raises. One session belongs to one thread (see transport.py);
it is canceled by should_stop alone, which is asked at least once a second.
"""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from connectors.exchange import cmdlets, opath, rows
from connectors.exchange.channel import Channel
from connectors.exchange.client import Account, Endpoint, ExchangeClient, Options, never
from connectors.exchange.clixml import CliObject, ClixmlError, display, read_object
from connectors.exchange.cmdlets import Command, Family, Identity
from connectors.exchange.errors import (
    BadRequestError,
    NotPermittedError,
    StopError,
    TransientError,
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
    MailboxPolicyRecord,
    MobileDeviceRecord,
    OrganizationRecord,
    RecipientRecord,
    RecordError,
    ServerVersion,
    UserRecord,
    WireObject,
)
from connectors.exchange.translate import from_record
from connectors.exchange.writing import Writing

# Objects asked for by GUID in one command; how long a filter may be is not documented.
GUIDS_AT_ONCE = 50
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


class Session(Writing):
    """client.ExchangeClient over the wire. Made by connect()."""

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
    def is_observe_only(self) -> bool:
        return self._options.observe_only

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
        raise self._not_granted(f"Get-{Family.MOBILE.value}")

    @property
    def policy_family(self) -> Family:
        """What the policy cmdlets are called here. Raises NotPermittedError when the account has neither."""
        for family in Family:
            if f"Get-{cmdlets.policy_noun(family)}" in self.granted:
                return family
        raise self._not_granted(f"Get-{cmdlets.policy_noun(Family.MOBILE)}")

    def _not_granted(self, cmdlet: str) -> NotPermittedError:
        return NotPermittedError("the account has no such command", server=self.endpoint.fqdn, cmdlet=cmdlet)

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
        return frozenset((*cmdlets.COMMON, *cmdlets.family_names(family)))

    # What can be read

    def servers(self) -> tuple[ExchangeServerRecord, ...]:
        found = tuple(self._records(rows.exchange_server, cmdlets.get_exchange_server()))
        for server in found:
            if server.fqdn.lower() == self.endpoint.fqdn.lower():
                self._version = server.version
        return found

    def organization(self) -> OrganizationRecord:
        return self._one(rows.organization, cmdlets.get_organization_config())

    def organization_settings(self, *, domain_controller: str = "") -> ActiveSyncOrganizationSettingsRecord:
        command = cmdlets.get_active_sync_organization_settings(domain_controller=domain_controller)
        return self._one(rows.organization_settings, command)

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

    def device(self, identity: Identity, *, domain_controller: str = "") -> MobileDeviceRecord:
        command = cmdlets.get_mobile_device(self.family, identity, domain_controller=domain_controller)
        return self._one(rows.one_device, command)

    def cas_mailboxes(self, *, filter: str | None = None) -> Iterator[tuple[CasMailboxRecord, ...]]:
        chosen = opath.mailboxes_with_devices_or_entries() if filter is None else filter
        command = cmdlets.list_cas_mailboxes(filter=chosen)
        return self._pages(rows.cas_mailbox, rows.CAS_MAILBOX_PROPERTIES, command)

    def cas_mailboxes_by_guid(self, guids: Iterable[uuid.UUID]) -> Iterator[tuple[CasMailboxRecord, ...]]:
        return _by_guid(guids, lambda chosen: self.cas_mailboxes(filter=chosen))

    def cas_mailbox(self, identity: Identity, *, domain_controller: str = "") -> CasMailboxRecord:
        return self._one(rows.cas_mailbox, cmdlets.get_cas_mailbox(identity, domain_controller=domain_controller))

    def users(self, *, filter: str | None = None) -> Iterator[tuple[UserRecord, ...]]:
        command = cmdlets.list_users(filter=opath.mailboxes() if filter is None else filter)
        return self._pages(rows.user, rows.USER_PROPERTIES, command)

    def users_by_guid(self, guids: Iterable[uuid.UUID]) -> Iterator[tuple[UserRecord, ...]]:
        return _by_guid(guids, lambda chosen: self.users(filter=chosen))

    def recipients(self, *, filter: str | None = None) -> Iterator[tuple[RecipientRecord, ...]]:
        command = cmdlets.list_recipients(filter=opath.mailboxes() if filter is None else filter)
        return self._pages(rows.recipient, rows.RECIPIENT_PROPERTIES, command)

    def recipients_by_guid(self, guids: Iterable[uuid.UUID]) -> Iterator[tuple[RecipientRecord, ...]]:
        return _by_guid(guids, lambda chosen: self.recipients(filter=chosen))

    def recipient(self, identity: Identity) -> RecipientRecord:
        return self._one(rows.recipient, cmdlets.get_recipient(identity))

    def device_access_rules(self, *, domain_controller: str = "") -> tuple[DeviceAccessRuleRecord, ...]:
        command = cmdlets.get_active_sync_device_access_rules(domain_controller=domain_controller)
        return tuple(self._records(rows.device_access_rule, command))

    def device_classes(self) -> tuple[DeviceClassRecord, ...]:
        return tuple(self._records(rows.device_class, cmdlets.get_active_sync_device_classes()))

    def mailbox_policies(self, *, domain_controller: str = "") -> tuple[MailboxPolicyRecord, ...]:
        command = cmdlets.get_mailbox_policies(self.policy_family, domain_controller=domain_controller)
        return tuple(self._records(rows.mailbox_policy, command))

    # Running commands

    def execute(self, command: Command) -> None:
        self._channel.write(command)

    def _created(self, make: Callable[[CliObject], AnyRecord], command: Command) -> AnyRecord:
        written = self._channel.write(command)
        try:
            (raw,) = written
            return make(read_object(raw))
        except ValueError as error:  # no object, or several; ClixmlError; RecordError
            # It is there, but what it is called must be read from a listing.
            unread = TransientError("what was created cannot be read", code="malformed_answer", remote_text=str(error))
            raise self._channel.unknown(command, unread, is_accepted=True) from error

    def _pages(
        self, make: Callable[[CliObject], AnyRecord], properties: tuple[str, ...], listing: Command
    ) -> Iterator[tuple[AnyRecord, ...]]:
        """A listing that is asked for because it is granted, some records at a time. Complete, or it raises."""
        if listing.name not in self.granted:
            raise self._not_granted(listing.name)
        commands = [listing, cmdlets.select_object(properties)] if self.selects else [listing]
        for batch in self._channel.batches(*commands, is_listing=True):
            try:
                page = tuple([make(read_object(raw)) for raw in batch])
            except (ClixmlError, RecordError) as error:
                raise self._channel.malformed(listing.name) from error
            yield page

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


def _by_guid(
    guids: Iterable[uuid.UUID], listing: Callable[[str], Iterator[tuple[AnyRecord, ...]]]
) -> Iterator[tuple[AnyRecord, ...]]:
    """The pages of one listing after another, each of some of the GUIDs."""
    pending = iter(guids)
    while chosen := tuple(itertools.islice(pending, GUIDS_AT_ONCE)):
        yield from listing(opath.objects_by_guid(chosen))

"""The interface by which the product speaks to Exchange. `sync` depends on `ExchangeClient`, tests fake it.

The real one is made by `session.connect()`.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Protocol

from connectors.exchange.cmdlets import Command, Identity
from connectors.exchange.policies import PolicyValue
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
    ServerVersion,
    UserRecord,
)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One Client Access Server. `address` is dialled, `fqdn` is named in certificate and SPN."""

    fqdn: str
    port: int
    use_tls: bool
    address: str = ""

    @property
    def dialled(self) -> str:
        return self.address or self.fqdn


@dataclass(frozen=True, slots=True)
class Account:
    """The service account. `authentication`: kerberos, negotiate, ntlm or basic. The password is in no repr."""

    username: str
    password: str = field(repr=False)
    authentication: str = "kerberos"


@dataclass(frozen=True, slots=True)
class Options:
    """How to connect. Seconds throughout; `ca_file` None trusts the system's authorities.

    proxy: its URL, with percent-encoded credentials; None connects directly, whatever the environment says.
    operation_timeout: the long poll of one Receive. read_timeout must exceed it.
    silence: a command is given up (no_answer) when no data came for so long, however politely the server answers.
    deadline: the whole of one command, the time the caller takes between pages included (deadline_exceeded).
    idle_timeout: the server ends a session that we do not use for so long; what a killed worker leaves counts against
    the account's sessions until then.
    select_properties: have the server send the wanted properties alone where it can (Select-Object).
    observe_only: no command that changes anything leaves this session; each raises ObserveOnlyError (pool.py).
    """

    ca_file: str | None = None
    proxy: str | None = field(default=None, repr=False)
    connect_timeout: float = 15.0
    operation_timeout: int = 5
    read_timeout: int = 40
    silence: float = 180.0
    deadline: float = 4 * 3600.0
    idle_timeout: int = 180
    select_properties: bool = True
    observe_only: bool = False


def never() -> bool:
    """The should_stop of a caller that cannot be canceled."""
    return False


@dataclass
class Throttling:
    """How long Exchange held this session's commands back (micro delays it told us of).

    The waits that it asks for travel on ThrottledError.retry_after; whoever waits counts them.
    """

    seconds: float = 0.0
    events: int = 0


class ExchangeClient(Protocol):
    """One signed-in session with one server, for the thread that opened it; closes with its context.

    One command at a time: a new one ends a listing that was not read to its end.
    Every call may raise ExchangeError, or CanceledError when should_stop() turned true.
    `domain_controller`: where to write to or to read from, "" lets Exchange choose.
    """

    endpoint: Endpoint
    throttling: Throttling

    @property
    def version(self) -> ServerVersion | None:
        """Of the server that answered, once servers() or connect() found it."""

    @property
    def is_observe_only(self) -> bool:
        """Whether every command that changes something raises ObserveOnlyError."""

    # Reading. A listing ends normally only when it was complete: no error record, no truncation warning, state
    # Completed. Anything else raises, so that whoever got to the end may sweep. Memory stays flat.

    def servers(self) -> tuple[ExchangeServerRecord, ...]: ...

    def organization(self) -> OrganizationRecord: ...

    def organization_settings(self, *, domain_controller: str = "") -> ActiveSyncOrganizationSettingsRecord: ...

    def devices(self, *, filter: str | None = None) -> Iterator[DevicePage]:
        """Every device (or those of an OPATH filter, see opath.py), page by page as it arrives."""

    def cas_mailboxes(self, *, filter: str | None = None) -> Iterator[tuple[CasMailboxRecord, ...]]:
        """The mailboxes of a filter; None: those that phones have come to, or that have personal entries."""

    def cas_mailboxes_by_guid(self, guids: Iterable[uuid.UUID]) -> Iterator[tuple[CasMailboxRecord, ...]]:
        """Those of these mailboxes that exist, some at a time; one that is missing at the end is gone."""

    def users(self, *, filter: str | None = None) -> Iterator[tuple[UserRecord, ...]]:
        """The mailboxes' accounts, of a filter; None: all. Raises NotPermittedError where Get-User is not granted."""

    def users_by_guid(self, guids: Iterable[uuid.UUID]) -> Iterator[tuple[UserRecord, ...]]: ...

    def recipients(self, *, filter: str | None = None) -> Iterator[tuple[RecipientRecord, ...]]: ...

    def recipients_by_guid(self, guids: Iterable[uuid.UUID]) -> Iterator[tuple[RecipientRecord, ...]]: ...

    def device_access_rules(self, *, domain_controller: str = "") -> tuple[DeviceAccessRuleRecord, ...]: ...

    def device_classes(self) -> tuple[DeviceClassRecord, ...]: ...

    def mailbox_policies(self, *, domain_controller: str = "") -> tuple[MailboxPolicyRecord, ...]: ...

    # Reading one. Raises NotFoundError, AmbiguousError.

    def cas_mailbox(self, identity: Identity, *, domain_controller: str = "") -> CasMailboxRecord: ...

    def device(self, identity: Identity, *, domain_controller: str = "") -> MobileDeviceRecord: ...

    def device_statistics(self, mailbox: Identity) -> tuple[DeviceStatisticsRecord, ...]:
        """The devices of one mailbox with their state in it: expensive for Exchange."""

    # Writing: exactly one command each, never sent twice. Raises ObserveOnlyError (not sent, because this session only
    # observes); OutcomeUnknownError (sent, its end not learnt: read back before anything else); any other error says
    # that it was not carried out. Raises ValueError for what cannot be a command.

    def execute(self, command: Command) -> None:
        """Any one command that changes something, its output left unread."""

    def set_mailbox_entries(
        self,
        identity: Identity,
        *,
        allowed_add: tuple[str, ...] = (),
        allowed_remove: tuple[str, ...] = (),
        blocked_add: tuple[str, ...] = (),
        blocked_remove: tuple[str, ...] = (),
        domain_controller: str = "",
    ) -> None:
        """Add and remove personal entries. Adding what is there and removing what is not is no error."""

    def set_organization_settings(
        self,
        *,
        default_access_level: str = "",
        user_mail_insert: str | None = None,
        admin_recipients_add: tuple[str, ...] = (),
        admin_recipients_remove: tuple[str, ...] = (),
        admin_recipients: tuple[str, ...] | None = None,
        domain_controller: str = "",
    ) -> None:
        """What is not named stays; "" and () empty text and list."""

    def device_access_rule_create(
        self, *, characteristic: str, query_string: str, access_level: str, domain_controller: str = ""
    ) -> DeviceAccessRuleRecord:
        """Raises AlreadyExistsError."""

    def device_access_rule_set(self, identity: Identity, *, access_level: str, domain_controller: str = "") -> None: ...

    def device_access_rule_remove(self, identity: Identity, *, domain_controller: str = "") -> None: ...

    def mailbox_policy_create(
        self, name: str, settings: Mapping[str, PolicyValue], *, is_default: bool = False, domain_controller: str = ""
    ) -> MailboxPolicyRecord:
        """Raises AlreadyExistsError."""

    def mailbox_policy_set(
        self,
        identity: Identity,
        settings: Mapping[str, PolicyValue],
        *,
        name: str = "",
        make_default: bool = False,
        domain_controller: str = "",
    ) -> None: ...

    def mailbox_policy_remove(
        self, identity: Identity, *, force: bool = False, domain_controller: str = ""
    ) -> None: ...

    def mailbox_policy_assign(self, mailbox: Identity, policy: Identity | None, *, domain_controller: str = "") -> None:
        """None: the organisation's default again."""

    def device_wipe(
        self,
        identity: Identity,
        *,
        account_only: bool = False,
        notify: tuple[str, ...] = (),
        domain_controller: str = "",
    ) -> None:
        """Order a wipe, carried out at the device's next request. account_only: Exchange 2016 and later."""

    def device_wipe_cancel(self, identity: Identity, *, domain_controller: str = "") -> None:
        """Take back an order that the device has not confirmed."""

    def device_remove(self, identity: Identity, *, domain_controller: str = "") -> None:
        """Delete the partnership alone; the mailbox's personal entries keep the id."""


class Connect(Protocol):
    """The type of connect()."""

    def __call__(
        self,
        endpoint: Endpoint,
        account: Account,
        options: Options = ...,
        *,
        should_stop: Callable[[], bool] = ...,
    ) -> AbstractContextManager[ExchangeClient]: ...

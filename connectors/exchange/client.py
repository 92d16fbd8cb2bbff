"""The interface by which the product speaks to Exchange. `sync` depends on `ExchangeClient`, tests fake it.

The real one is made by `session.connect()`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Protocol

from connectors.exchange.records import (
    ActiveSyncOrganizationSettingsRecord,
    DevicePage,
    ExchangeServerRecord,
    OrganizationRecord,
    ServerVersion,
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
    """

    endpoint: Endpoint
    throttling: Throttling

    @property
    def version(self) -> ServerVersion | None:
        """Of the server that answered, once servers() or connect() found it."""

    def servers(self) -> tuple[ExchangeServerRecord, ...]: ...

    def organization(self) -> OrganizationRecord: ...

    def organization_settings(self) -> ActiveSyncOrganizationSettingsRecord: ...

    def devices(self, *, filter: str | None = None) -> Iterator[DevicePage]:
        """Every device (or those of an OPATH filter, see opath.py), page by page as it arrives; memory stays flat.

        The iterator ends normally only when the listing was complete: no error record, no truncation warning, state
        Completed. Anything else raises, so that whoever got to the end may sweep.
        """


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

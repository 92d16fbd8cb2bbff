"""The way to an organisation's Exchange: a signed-in session for a connector and a role, at whichever server answers.

Servers are tried in the order of connectors.exchange.failover. A refusal that concerns the account (a wrong password,
above all) ends the search at once: trying it on every server would lock the account. What each server did is kept on
its row. Nothing here is cached: account, authorities and servers are read anew at each call.

A connector that only observes gets sessions that send nothing but reading commands, whoever asks and for what.
"""

from __future__ import annotations

import datetime
import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Literal

from django.conf import settings
from django.utils import timezone

from connectors.actors import Actor
from connectors.authorities import authority_file
from connectors.exchange import failover, session
from connectors.exchange.client import Account, Connect, Endpoint, ExchangeClient, Options, never
from connectors.exchange.errors import (
    CanceledError,
    ExchangeError,
    NotPermittedError,
    OutcomeUnknownError,
    StopError,
    ThrottledError,
    TransientError,
)
from connectors.models import ClientAccessServer, Connector
from connectors.secrets import SecretError
from connectors.services import server_answered, server_failed

# "sync" reads, and its sessions refuse all else; "act" writes (decisions). A session is asked for by role so that each
# can get its own account or limit.
Role = Literal["sync", "act"]
OnEvent = Callable[[str, dict[str, object]], None]

# Refusals that another server would only repeat: they are about the account, the roles or this machine.
ACCOUNT_CODES = frozenset(
    {
        "authentication_failed",
        "access_denied",
        "kerberos_failed",
        "kerberos_unavailable",
        "clock_skew",
        "bad_settings",
        "proxy_failed",
    }
)
# The least telling of all: the server may just be off.
UNREACHABLE_CODES = frozenset({"name_not_resolved", "connection_refused", "connection_timed_out"})


def _ignore(code: str, params: dict[str, object]) -> None:
    """The on_event of a caller that does not listen."""


def _nothing() -> None:
    """The on_change of a caller that settles later."""


@contextmanager
def open_exchange(
    connector: Connector,
    *,
    role: Role,
    observe_only: bool | None = None,
    should_stop: Callable[[], bool] = never,
    on_event: OnEvent = _ignore,
    connect: Connect = session.connect,
) -> Iterator[ExchangeClient]:
    """A session with the first usable server that lets us in; closed with the context.

    observe_only: True refuses every command that changes something, as does the connector's own setting, which False
    does not lift. on_event("server_failed", {"server", "error_code", and the error's params}) for each server that
    does not let us in, on_event("server_answered", {"server"}) for the one that does. A session that breaks inside the
    context is noted at its server too, so that the next call begins with another one.

    Raises ExchangeError: the most telling one when no server answers; code no_server_configured or secret_unreadable
    when nothing could be tried. CanceledError when should_stop() turned true.
    """
    with (
        open_sessions(connector, role=role, observe_only=observe_only, on_event=on_event, connect=connect) as sessions,
        sessions.open(should_stop=should_stop, on_change=sessions.settle) as client,
    ):
        yield client


@contextmanager
def open_sessions(
    connector: Connector,
    *,
    role: Role,
    observe_only: bool | None = None,
    on_event: OnEvent = _ignore,
    connect: Connect = session.connect,
) -> Iterator[SessionSet]:
    """The way to as many sessions as wanted, each for a thread of its own (connectors.parallel), for as long as the
    context lasts. Arguments as of open_exchange(). Raises StopError(no_server_configured, secret_unreadable)."""
    # Read by key: the caller's instance may be hours old, and the password may have been changed since.
    current = Connector.objects.get(pk=connector.pk)
    account = _account(current)
    with ExitStack() as stack:
        ca_file = stack.enter_context(authority_file(current.ca_certificates))
        options = Options(
            ca_file=ca_file,
            silence=settings.SYNC_SILENCE_SECONDS,
            deadline=settings.SYNC_LISTING_DEADLINE_SECONDS,
            # Who reads sends nothing else: so that what must only look (a dry run, above all) cannot forget it.
            observe_only=role == "sync" or current.is_observe_only or bool(observe_only),
        )
        sessions = SessionSet(_servers(current), account, options, Actor(name=f"Gateway ({role})"), on_event, connect)
        try:
            yield sessions
        finally:
            sessions.settle()


@dataclass(slots=True)
class _Candidate:
    """A server with what happened at it last: before, as its row says, and since, by these sessions."""

    row: ClientAccessServer
    endpoint: Endpoint
    fqdn: str
    priority: int
    last_answered_at: datetime.datetime | None
    last_error_at: datetime.datetime | None


@dataclass(frozen=True, slots=True)
class _Note:
    """Something to be written to a server's row: that it failed, or (error None) that it answered."""

    candidate: _Candidate
    error: ExchangeError | None
    is_told: bool


class SessionSet:
    """Opens sessions in any thread, and touches no database there: what servers did is noted by settle(), which the
    thread that made it calls now and again. Made by open_sessions()."""

    def __init__(
        self,
        servers: list[ClientAccessServer],
        account: Account,
        options: Options,
        actor: Actor,
        on_event: OnEvent,
        connect: Connect,
    ) -> None:
        self._candidates = [
            _Candidate(row, _endpoint(row), row.fqdn, row.priority, row.last_answered_at, row.last_error_at)
            for row in servers
        ]
        self._account, self._options, self._actor = account, options, actor
        self._on_event, self._connect = on_event, connect
        self._lock = threading.Lock()
        self._notes: queue.SimpleQueue[_Note] = queue.SimpleQueue()

    @contextmanager
    def open(
        self, *, should_stop: Callable[[], bool] = never, on_change: Callable[[], None] = _nothing
    ) -> Iterator[ExchangeClient]:
        """A session for the calling thread, at the first server that lets it in. Raises as open_exchange() does.

        on_change: called in this thread when there is something for settle() to write.
        """
        failures: list[ExchangeError] = []
        for candidate in self._order():
            if should_stop():
                raise CanceledError
            with ExitStack() as stack:
                try:
                    opened = self._connect(candidate.endpoint, self._account, self._options, should_stop=should_stop)
                    client = stack.enter_context(opened)
                except ExchangeError as error:
                    self._note(candidate, error, is_told=True)
                    on_change()
                    if isinstance(error, NotPermittedError) or error.code in ACCOUNT_CODES:
                        raise
                    failures.append(error)
                    continue
                self._note(candidate, None, is_told=True)
                on_change()
                try:
                    yield client
                except (TransientError, OutcomeUnknownError) as error:
                    if _blamed(error) != "canceled":
                        self._note(candidate, error, is_told=False)
                    raise
                return
        raise _most_telling(failures)

    def settle(self) -> None:
        """Write what servers did since the last time to their rows, and tell on_event. In the thread that made this."""
        while True:
            try:
                note = self._notes.get_nowait()
            except queue.Empty:
                return
            server, error = note.candidate.row, note.error
            if error is None:
                server_answered(server=server, actor=self._actor)
                self._on_event("server_answered", {"server": server.fqdn})
                continue
            code = _blamed(error)
            server_failed(server=server, error_code=code, actor=self._actor)
            if note.is_told:
                self._on_event("server_failed", {**error.params, "server": server.fqdn, "error_code": code})

    def _order(self) -> list[_Candidate]:
        with self._lock:
            return failover.order(self._candidates)

    def _note(self, candidate: _Candidate, error: ExchangeError | None, *, is_told: bool) -> None:
        now = timezone.now()
        with self._lock:
            if error is None:
                candidate.last_answered_at = now
            else:
                candidate.last_error_at = now
        self._notes.put(_Note(candidate, error, is_told))


def _blamed(error: ExchangeError) -> str:
    """The code by which a server's row says what was wrong: what broke, where a command's outcome was lost with it."""
    return error.because if isinstance(error, OutcomeUnknownError) else error.code


def _servers(connector: Connector) -> list[ClientAccessServer]:
    servers = list(connector.servers.filter(is_usable=True).order_by("priority", "fqdn"))
    if not servers:
        raise StopError("the connector has no server to connect to", code="no_server_configured")
    return servers


def _account(connector: Connector) -> Account:
    try:
        password = connector.password.reveal()
    except SecretError:
        raise StopError("the stored password cannot be read", code="secret_unreadable") from None
    return Account(connector.username, password, connector.authentication)


def _endpoint(server: ClientAccessServer) -> Endpoint:
    return Endpoint(fqdn=server.fqdn, port=server.port, use_tls=server.use_tls, address=server.address)


def _most_telling(failures: list[ExchangeError]) -> ExchangeError:
    """The failure that helps most: one that needs a person, then a busy server, then any answer, then silence.

    Among equals the first, since the preferred server comes first.
    """

    def rank(error: ExchangeError) -> int:
        if isinstance(error, ThrottledError):
            return 1
        if isinstance(error, TransientError):
            return 3 if error.code in UNREACHABLE_CODES else 2
        return 0

    return min(failures, key=rank)

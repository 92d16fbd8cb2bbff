"""The way to an organisation's Exchange: a signed-in session for a connector and a role, at whichever server answers.

Servers are tried in the order of connectors.exchange.failover. A refusal that concerns the account (a wrong password,
above all) ends the search at once: trying it on every server would lock the account. What each server did is kept on
its row. Nothing here is cached: account, authorities and servers are read anew at each call.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Literal

from django.conf import settings

from connectors.actors import Actor
from connectors.exchange import failover, session
from connectors.exchange.client import Account, Connect, Endpoint, ExchangeClient, Options, never
from connectors.exchange.errors import (
    CanceledError,
    ExchangeError,
    NotPermittedError,
    StopError,
    ThrottledError,
    TransientError,
)
from connectors.models import ClientAccessServer, Connector
from connectors.secrets import SecretError
from connectors.services import server_answered, server_failed

# "sync" reads; "act" will write (decisions). A pool is asked for by role so that each can get its own account or limit.
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


@contextmanager
def open_exchange(
    connector: Connector,
    *,
    role: Role,
    should_stop: Callable[[], bool] = never,
    on_event: OnEvent = _ignore,
    connect: Connect = session.connect,
) -> Iterator[ExchangeClient]:
    """A session with the first usable server that lets us in; closed with the context.

    on_event("server_failed", {"server", "error_code", and the error's params}) for each server that does not,
    on_event("server_answered", {"server"}) for the one that does. A session that breaks inside the context is noted
    at its server too, so that the next call begins with another one.

    Raises ExchangeError: the most telling one when no server answers; code no_server_configured or secret_unreadable
    when nothing could be tried. CanceledError when should_stop() turned true.
    """
    # Read by key: the caller's instance may be hours old, and the password may have been changed since.
    current = Connector.objects.get(pk=connector.pk)
    account = _account(current)
    actor = Actor(name=f"Gateway ({role})")
    with ExitStack() as stack:
        ca_file = stack.enter_context(_authority_file(current.ca_certificates))
        options = Options(
            ca_file=ca_file,
            silence=settings.SYNC_SILENCE_SECONDS,
            deadline=settings.SYNC_LISTING_DEADLINE_SECONDS,
        )
        failures: list[ExchangeError] = []
        for server in _servers(current):
            if should_stop():
                raise CanceledError
            try:
                client = stack.enter_context(connect(_endpoint(server), account, options, should_stop=should_stop))
            except ExchangeError as error:
                server_failed(server=server, error_code=error.code, actor=actor)
                on_event("server_failed", {**error.params, "server": server.fqdn, "error_code": error.code})
                if isinstance(error, NotPermittedError) or error.code in ACCOUNT_CODES:
                    raise
                failures.append(error)
                continue
            server_answered(server=server, actor=actor)
            on_event("server_answered", {"server": server.fqdn})
            try:
                yield client
            except TransientError as error:
                server_failed(server=server, error_code=error.code, actor=actor)
                raise
            return
        raise _most_telling(failures)


def _servers(connector: Connector) -> list[ClientAccessServer]:
    usable = connector.servers.filter(is_usable=True).order_by("priority", "fqdn")
    servers = list(failover.order(list(usable)))
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


@contextmanager
def _authority_file(pem: str) -> Iterator[str | None]:
    """A file with the certificates for as long as the context lasts; None, the system's authorities, for ""."""
    if not pem:
        yield None
        return
    with tempfile.NamedTemporaryFile("w", prefix="gatehouse-ca-", suffix=".pem", encoding="ascii") as file:
        file.write(pem)
        file.flush()
        yield file.name


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

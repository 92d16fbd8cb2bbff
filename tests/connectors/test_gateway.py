"""The gateway: whom it tries, when it stops, what it remembers, what it tells. Exchange is a fake connect()."""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from cryptography.fernet import Fernet
from pytest_django import Settings

from connectors.exchange.client import Account, Endpoint, ExchangeClient, Options, never
from connectors.exchange.errors import (
    CanceledError,
    ExchangeError,
    NotPermittedError,
    OutcomeUnknownError,
    StopError,
    ThrottledError,
    TransientError,
)
from connectors.gateway import open_exchange, open_sessions
from connectors.models import ClientAccessServer, Connector
from connectors.secrets import Secret
from connectors.services import ServerSettings
from tests.connectors import factories

pytestmark = pytest.mark.django_db

EX01, EX02, EX03 = "ex01.contoso.com", "ex02.contoso.com", "ex03.contoso.com"


@dataclass
class Exchange:
    """A fake connect(): servers in `failing` refuse with their error, the others let in."""

    failing: dict[str, Exception] = field(default_factory=dict)
    tried: list[str] = field(default_factory=list)
    closed: list[str] = field(default_factory=list)
    seen: list[tuple[Endpoint, Account, Options]] = field(default_factory=list)
    authority: str | None = None
    should_stop: Callable[[], bool] | None = None

    @contextmanager
    def __call__(
        self,
        endpoint: Endpoint,
        account: Account,
        options: Options = Options(),  # noqa: B008  # as the interface has it
        *,
        should_stop: Callable[[], bool] = never,
    ) -> Iterator[ExchangeClient]:
        self.tried.append(endpoint.fqdn)
        self.seen.append((endpoint, account, options))
        self.should_stop = should_stop
        if options.ca_file:
            self.authority = Path(options.ca_file).read_text()
            assert stat.S_IMODE(os.stat(options.ca_file).st_mode) == 0o600
        if error := self.failing.get(endpoint.fqdn):
            raise error
        try:
            yield Client(endpoint)  # type: ignore[misc]
        finally:
            self.closed.append(endpoint.fqdn)


@dataclass
class Client:
    endpoint: Endpoint


@pytest.fixture
def connector() -> Connector:
    return factories.connector(servers=(ServerSettings(EX01), ServerSettings(EX02), ServerSettings(EX03)))


def attempt(connector: Connector, exchange: Exchange, **options: Any) -> str:
    """Open a session and close it; the server that answered."""
    with open_exchange(connector, role="sync", connect=exchange, **options) as client:
        return client.endpoint.fqdn


def server(connector: Connector, fqdn: str) -> ClientAccessServer:
    return connector.servers.get(fqdn=fqdn)


class TestChoice:
    def test_the_first_server_that_answers_serves(self, connector: Connector) -> None:
        exchange = Exchange()
        assert attempt(connector, exchange) == EX01
        assert (exchange.tried, exchange.closed) == ([EX01], [EX01])

    def test_the_next_one_when_it_does_not(self, connector: Connector) -> None:
        exchange = Exchange(
            {EX01: TransientError("x", code="connection_refused"), EX02: StopError("x", code="redirected")}
        )
        assert attempt(connector, exchange) == EX03
        assert (exchange.tried, exchange.closed) == ([EX01, EX02, EX03], [EX03])

    def test_only_usable_servers_are_tried(self, connector: Connector) -> None:
        connector.servers.exclude(fqdn=EX02).update(is_usable=False)
        exchange = Exchange({EX02: TransientError("x", code="no_answer")})
        with pytest.raises(TransientError):
            attempt(connector, exchange)
        assert exchange.tried == [EX02]

    @pytest.mark.parametrize(
        "error",
        [
            StopError("x", code="authentication_failed"),
            StopError("x", code="access_denied"),
            StopError("x", code="kerberos_failed"),
            StopError("x", code="kerberos_unavailable"),
            StopError("x", code="bad_settings"),
            NotPermittedError("x", code="cmdlet_not_granted"),
        ],
        ids=lambda error: error.code,
    )
    def test_an_account_that_is_refused_is_tried_once(self, connector: Connector, error: ExchangeError) -> None:
        exchange = Exchange({EX01: error})
        with pytest.raises(ExchangeError) as caught:
            attempt(connector, exchange)
        assert caught.value is error
        assert exchange.tried == [EX01]

    def test_an_account_that_is_refused_after_a_failover_is_not_tried_again(self, connector: Connector) -> None:
        refused = StopError("x", code="authentication_failed")
        exchange = Exchange({EX01: TransientError("x", code="no_answer"), EX02: refused})
        with pytest.raises(StopError) as caught:
            attempt(connector, exchange)
        assert caught.value is refused
        assert exchange.tried == [EX01, EX02]

    @pytest.mark.parametrize(
        ("errors", "telling"),
        [
            (["connection_refused", "certificate_expired", "no_answer"], "certificate_expired"),
            (["name_not_resolved", "no_answer", "connection_refused"], "no_answer"),
            (["no_answer", "too_many_shells", "connection_refused"], "too_many_shells"),
            (["too_many_shells", "connection_refused", "endpoint_not_found"], "endpoint_not_found"),
            (["connection_refused", "name_not_resolved", "connection_timed_out"], "connection_refused"),
            (["forbidden", "certificate_expired", "redirected"], "forbidden"),
        ],
    )
    def test_the_most_telling_error_is_raised(self, connector: Connector, errors: list[str], telling: str) -> None:
        exchange = Exchange({fqdn: error(code) for fqdn, code in zip([EX01, EX02, EX03], errors, strict=True)})
        with pytest.raises(ExchangeError) as caught:
            attempt(connector, exchange)
        assert caught.value.code == telling
        assert len(exchange.tried) == 3

    def test_no_server_is_a_code_of_its_own(self, connector: Connector) -> None:
        connector.servers.update(is_usable=False)
        exchange = Exchange()
        with pytest.raises(StopError) as caught:
            attempt(connector, exchange)
        assert (caught.value.code, exchange.tried) == ("no_server_configured", [])

    def test_a_fault_of_our_own_is_not_taken_for_a_server_that_fails(self, connector: Connector) -> None:
        exchange = Exchange({EX01: ZeroDivisionError("ours")})
        with pytest.raises(ZeroDivisionError):
            attempt(connector, exchange)
        assert exchange.tried == [EX01]
        assert server(connector, EX01).last_error_code == ""


def error(code: str) -> ExchangeError:
    if code == "too_many_shells":
        return ThrottledError("x", code=code, retry_after=5.0)
    transient = {"connection_refused", "connection_timed_out", "name_not_resolved", "no_answer"}
    return TransientError("x", code=code) if code in transient else StopError("x", code=code)


class TestCancel:
    def test_a_canceled_run_tries_nothing(self, connector: Connector) -> None:
        exchange = Exchange()
        with pytest.raises(CanceledError):
            attempt(connector, exchange, should_stop=lambda: True)
        assert exchange.tried == []

    def test_a_run_canceled_meanwhile_tries_no_further_server(self, connector: Connector) -> None:
        exchange = Exchange({EX01: TransientError("x", code="no_answer")})
        with pytest.raises(CanceledError):
            attempt(connector, exchange, should_stop=lambda: bool(exchange.tried))
        assert exchange.tried == [EX01]

    def test_the_session_is_asked_to_stop_in_the_same_way(self, connector: Connector) -> None:
        exchange = Exchange()

        def should_stop() -> bool:
            return False

        attempt(connector, exchange, should_stop=should_stop)
        assert exchange.should_stop is should_stop

    def test_a_server_is_not_blamed_for_it(self, connector: Connector) -> None:
        exchange = Exchange()
        with pytest.raises(CanceledError), open_exchange(connector, role="sync", connect=exchange):
            raise CanceledError
        assert server(connector, EX01).last_error_code == ""
        assert exchange.closed == [EX01]


class TestMemory:
    def test_answer_and_failure_are_kept_a_server(self, connector: Connector) -> None:
        attempt(connector, Exchange({EX01: TransientError("x", code="connection_refused")}))
        first, second, third = (server(connector, fqdn) for fqdn in (EX01, EX02, EX03))
        assert (first.last_error_code, first.last_answered_at) == ("connection_refused", None)
        assert second.last_error_code == ""
        assert second.last_answered_at is not None
        assert (third.last_error_code, third.last_answered_at) == ("", None)

    def test_a_session_that_breaks_is_noted_at_its_server(self, connector: Connector) -> None:
        exchange = Exchange()
        broken = TransientError("x", code="connection_dropped")
        with pytest.raises(TransientError) as caught, open_exchange(connector, role="sync", connect=exchange):
            raise broken
        assert caught.value is broken
        assert server(connector, EX01).last_error_code == "connection_dropped"
        assert exchange.closed == [EX01]
        assert exchange.tried == [EX01]  # what was under way cannot go on elsewhere by itself

    def test_a_refused_command_is_not_the_servers_fault(self, connector: Connector) -> None:
        with pytest.raises(StopError), open_exchange(connector, role="sync", connect=Exchange()):
            raise StopError("x", code="bad_settings")
        assert server(connector, EX01).last_error_code == ""

    def test_a_server_that_just_failed_is_tried_after_the_others(self, connector: Connector) -> None:
        attempt(connector, Exchange({EX01: TransientError("x", code="connection_refused")}))
        exchange = Exchange()
        assert attempt(connector, exchange) == EX02
        assert exchange.tried == [EX02]


def test_events_tell_what_was_tried(connector: Connector) -> None:
    events: list[tuple[str, dict[str, object]]] = []
    exchange = Exchange({EX01: TransientError("x", code="connection_refused", server="other", remote_text="no")})
    attempt(connector, exchange, on_event=lambda code, params: events.append((code, params)))
    assert events == [
        ("server_failed", {"server": EX01, "error_code": "connection_refused", "remote_text": "no"}),
        ("server_answered", {"server": EX02}),
    ]


class TestCredentials:
    def test_what_is_stored_is_used(self, connector: Connector) -> None:
        connector.servers.filter(fqdn=EX01).update(address="127.0.0.1", port=8080, use_tls=False)
        exchange = Exchange()
        attempt(connector, exchange)
        endpoint, account, _ = exchange.seen[0]
        assert endpoint == Endpoint(EX01, 8080, False, "127.0.0.1")
        assert account == Account("svc-eas@contoso.com", "Pa55 word", "negotiate")

    def test_they_are_read_anew_at_each_connect(self, connector: Connector) -> None:
        exchange = Exchange()
        attempt(connector, exchange)
        other = Connector.objects.get(pk=connector.pk)
        other.username, other.password, other.authentication = "new@contoso.com", Secret("changed"), "ntlm"
        other.save()
        attempt(connector, exchange)
        assert exchange.seen[1][1] == Account("new@contoso.com", "changed", "ntlm")

    def test_a_lost_key_is_a_code_of_its_own_and_tries_nothing(self, connector: Connector, settings: Settings) -> None:
        settings.FIELD_KEYS = [Fernet.generate_key().decode()]
        exchange = Exchange()
        with pytest.raises(StopError) as caught:
            attempt(connector, exchange)
        assert (caught.value.code, exchange.tried) == ("secret_unreadable", [])

    def test_limits_come_from_the_settings(self, connector: Connector, settings: Settings) -> None:
        settings.SYNC_SILENCE_SECONDS, settings.SYNC_LISTING_DEADLINE_SECONDS = 7.0, 70.0
        exchange = Exchange()
        attempt(connector, exchange)
        options = exchange.seen[0][2]
        assert (options.silence, options.deadline, options.ca_file) == (7.0, 70.0, None)


class TestAuthorities:
    @pytest.mark.parametrize("failing", [{}, {EX01: StopError("x", code="authentication_failed")}], ids=["in", "out"])
    def test_they_lie_in_a_private_file_while_it_lasts(
        self, connector: Connector, failing: dict[str, Exception]
    ) -> None:
        certificate, _key = factories.authority()
        Connector.objects.update(ca_certificates=certificate)
        exchange = Exchange(failing)
        try:
            attempt(connector, exchange)
        except StopError:
            assert failing
        path = exchange.seen[0][2].ca_file
        assert exchange.authority == certificate
        assert path is not None
        assert not Path(path).exists()


class TestObserving:
    @pytest.mark.parametrize(
        ("setting", "argument", "expected"),
        [
            (False, None, False),
            (False, False, False),
            (False, True, True),
            (True, None, True),
            (True, True, True),
            (True, False, True),  # nobody can talk the connector out of it
        ],
    )
    @pytest.mark.parametrize("role", ["sync", "act"])
    def test_by_setting_or_by_argument(
        self, connector: Connector, role: Any, setting: bool, argument: bool | None, expected: bool
    ) -> None:
        Connector.objects.update(is_observe_only=setting)
        exchange = Exchange()
        with open_exchange(connector, role=role, observe_only=argument, connect=exchange):
            pass
        # Who reads has no business writing, whatever is set.
        assert exchange.seen[0][2].observe_only is (expected or role == "sync")

    def test_the_setting_is_read_anew(self, connector: Connector) -> None:
        Connector.objects.update(is_observe_only=True)
        assert not connector.is_observe_only  # the caller's instance is older
        exchange = Exchange()
        attempt(connector, exchange)
        assert exchange.seen[0][2].observe_only


def test_a_command_whose_outcome_was_lost_is_noted_at_its_server(connector: Connector) -> None:
    lost = OutcomeUnknownError("x")
    lost.because = "connection_dropped"
    with pytest.raises(OutcomeUnknownError), open_exchange(connector, role="act", connect=Exchange()):
        raise lost
    assert server(connector, EX01).last_error_code == "connection_dropped"


def test_a_command_that_was_not_waited_for_is_not_the_servers_fault(connector: Connector) -> None:
    lost = OutcomeUnknownError("x")
    lost.because = "canceled"
    with pytest.raises(OutcomeUnknownError), open_exchange(connector, role="act", connect=Exchange()):
        raise lost
    assert server(connector, EX01).last_error_code == ""


class TestSeveralSessions:
    def test_other_threads_open_them_without_the_database(self, connector: Connector) -> None:
        """Whatever a thread does with the database would fail here: the tests allow it to this one alone."""
        exchange = Exchange({EX01: TransientError("x", code="connection_refused")})
        events: list[tuple[str, object]] = []
        used: list[str] = []
        faults: list[BaseException] = []
        with open_sessions(
            connector,
            role="act",
            connect=exchange,
            on_event=lambda code, params: events.append((code, params["server"])),
        ) as sessions:

            def work() -> None:
                try:
                    with sessions.open() as client:
                        used.append(client.endpoint.fqdn)
                except BaseException as error:
                    faults.append(error)

            for _ in range(3):
                thread = threading.Thread(target=work)
                thread.start()
                thread.join(10)
            assert events == []
            assert server(connector, EX02).last_answered_at is None
            sessions.settle()
            assert len(events) == 4
        assert faults == []
        assert used == [EX02] * 3
        # The one that failed was not tried again by the others.
        assert exchange.tried == [EX01, EX02, EX02, EX02]
        assert events == [("server_failed", EX01), *[("server_answered", EX02)] * 3]
        assert server(connector, EX01).last_error_code == "connection_refused"
        assert server(connector, EX02).last_answered_at is not None

    def test_a_session_that_breaks_is_not_opened_at_the_same_server_next(self, connector: Connector) -> None:
        exchange = Exchange()
        with open_sessions(connector, role="act", connect=exchange) as sessions:
            with pytest.raises(TransientError), sessions.open():
                raise TransientError("x", code="shell_lost")
            with sessions.open() as client:
                assert client.endpoint.fqdn == EX02
        assert server(connector, EX01).last_error_code == "shell_lost"

    def test_what_was_not_settled_is_at_the_end(self, connector: Connector) -> None:
        with open_sessions(connector, role="act", connect=Exchange()) as sessions, sessions.open():
            pass
        assert server(connector, EX01).last_answered_at is not None

    def test_no_server_is_said_at_once(self, connector: Connector) -> None:
        connector.servers.update(is_usable=False)
        with pytest.raises(StopError) as caught, open_sessions(connector, role="act", connect=Exchange()):
            pass
        assert caught.value.code == "no_server_configured"

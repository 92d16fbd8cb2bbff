"""How runs end: every kind of error, what is tried again and how long is waited, and what the connector says then."""

from __future__ import annotations

import json
import threading
from typing import Any

import pytest
from django.db import OperationalError
from django.utils import timezone

from connectors.actors import SETUP, Actor
from connectors.exchange.errors import (
    AmbiguousError,
    BadRequestError,
    ExchangeError,
    NotFoundError,
    NotPermittedError,
    StopError,
    ThrottledError,
    TransientError,
)
from connectors.models import Connector
from connectors.problems import PROBLEMS
from sync import runs
from sync.lease import Lease, claim
from sync.models import MobileDevice, SyncRun
from sync.observing.record import gone_mark
from sync.recover import runs_recover
from sync.services import run_cancel, sync_request
from tests.sync.conftest import Sync
from tests.sync.exchange import FakeExchange
from tests.sync.worlds import codes, event, lease_expire, listed, present

pytestmark = pytest.mark.django_db

RETRIED = len(runs.RETRY_WAITS)
ALWAYS = 1000

# error, sign-ins until it is given up, status of the connector (which was connected before)
FINAL: dict[str, tuple[ExchangeError, int, str]] = {
    "settings": (StopError("x", code="bad_settings"), 1, "disconnected"),
    "password": (StopError("x", code="authentication_failed"), 1, "disconnected"),
    "certificate": (StopError("x", code="certificate_expired"), 1, "disconnected"),
    "roles": (NotPermittedError("x", code="cmdlet_not_granted", cmdlet="Get-MobileDevice"), 1, "disconnected"),
    "our own mistake": (BadRequestError("x", code="argument_refused"), 1, "connected"),
    "not found": (NotFoundError("x"), 1, "connected"),
    "ambiguous": (AmbiguousError("x"), 1, "connected"),
    "network": (TransientError("x", code="connection_refused"), 1 + RETRIED, "disconnected"),
    "silence": (TransientError("x", code="no_answer"), 1 + RETRIED, "disconnected"),
    "broken answer": (TransientError("x", code="malformed_answer"), 1 + RETRIED, "connected"),
    "incomplete answer": (TransientError("x", code="listing_incomplete"), 1 + RETRIED, "connected"),
    "busy for ever": (ThrottledError("x", code="server_busy"), 1 + runs.THROTTLE_WAITS, "connected"),
}


@pytest.mark.parametrize("place", ["open", "organization", "listing", "page 2", "end"])
@pytest.mark.parametrize(("error", "sign_ins", "status"), FINAL.values(), ids=FINAL.keys())
def test_an_error_that_stays(
    sync: Sync,
    connector: Connector,
    exchange: FakeExchange,
    error: ExchangeError,
    sign_ins: int,
    status: str,
    place: str,
) -> None:
    Connector.objects.update(status="connected")
    exchange.at(place, error, times=ALWAYS)
    run = sync()
    assert (run.status, run.error_code, exchange.sessions) == ("failed", error.code, sign_ins)
    assert codes(run)[-1] == "failed"
    assert run.finished_at is not None
    assert run.lease_expires_at is None
    assert exchange.open_sessions == 0
    connector.refresh_from_db()
    assert (connector.status, connector.last_error_code) == (status, error.code)
    assert connector.last_successful_sync_at is None
    assert error.code in PROBLEMS


@pytest.mark.parametrize("place", ["open", "servers", "settings", "listing", "page 1", "page 3", "end"])
@pytest.mark.parametrize(
    "error", [TransientError("x", code="connection_dropped"), ThrottledError("x", retry_after=7.0)], ids=repr
)
def test_an_error_that_goes_away(
    sync: Sync, connector: Connector, exchange: FakeExchange, error: ExchangeError, place: str
) -> None:
    exchange.at(place, error, times=2)
    run = sync()
    assert (run.status, run.error_code, exchange.sessions) == ("succeeded", "", 3)
    assert (run.observed, run.created, MobileDevice.objects.count()) == (10, 10, 10)
    assert present(connector) == listed(exchange)
    connector.refresh_from_db()
    assert (connector.status, connector.last_error_code) == ("connected", "")


def test_the_phase_tells_where_it_failed(sync: Sync, exchange: FakeExchange) -> None:
    exchange.at("page 2", StopError("x"))
    assert sync().phase == "devices"


def test_what_was_read_until_then_is_kept(sync: Sync, exchange: FakeExchange) -> None:
    exchange.at("page 2", StopError("x"))
    run = sync()
    assert (run.observed, run.created, MobileDevice.objects.count()) == (4, 4, 4)


def test_a_device_that_vanishes_between_two_tries_is_gone(
    sync: Sync, connector: Connector, exchange: FakeExchange
) -> None:
    """The first listing saw it, the second, complete one did not: only that one counts."""
    sync()

    def break_off() -> None:
        exchange.take(0)
        raise TransientError("x", code="connection_dropped")

    exchange.at("page 2", break_off)
    run = sync()
    assert (run.status, run.gone) == ("succeeded", 1)
    assert present(connector) == listed(exchange)


def test_retries_are_told_and_wait(sync: Sync, exchange: FakeExchange, slept: list[float]) -> None:
    exchange.at("open", TransientError("x", code="connection_refused", server="ex01"), times=ALWAYS)
    run = sync()
    assert slept == list(runs.RETRY_WAITS)
    first = run.events.filter(code="retry").first()
    assert first is not None
    assert first.params == {"error_code": "connection_refused", "server": "ex01", "seconds": 2, "number": 1, "of": 4}


class TestThrottling:
    @pytest.mark.parametrize(
        ("asked", "waits"),
        [(0.0, [5.0, 10.0, 20.0]), (7.5, [7.5, 10.0, 20.0]), (60.0, [60.0, 60.0, 60.0])],
    )
    def test_waits_as_long_as_asked_and_longer_each_time(
        self, sync: Sync, exchange: FakeExchange, slept: list[float], asked: float, waits: list[float]
    ) -> None:
        exchange.at("listing", ThrottledError("x", retry_after=asked), times=3)
        run = sync()
        assert slept == waits
        assert run.throttled_seconds == sum(waits)

    def test_gives_up_after_so_many_sign_ins(self, sync: Sync, exchange: FakeExchange, slept: list[float]) -> None:
        exchange.at("open", ThrottledError("x", retry_after=0.0), times=ALWAYS)
        run = sync()
        assert (run.status, run.error_code) == ("failed", "server_busy")
        assert len(slept) == runs.THROTTLE_WAITS
        assert sum(slept) <= runs.THROTTLE_BUDGET

    def test_gives_up_before_waiting_longer_than_the_budget(
        self, sync: Sync, exchange: FakeExchange, slept: list[float]
    ) -> None:
        exchange.at("open", ThrottledError("x", retry_after=1500.0), times=ALWAYS)
        run = sync()
        assert (slept, run.status) == ([1500.0, 1500.0], "failed")

    def test_does_not_use_up_the_retries(self, sync: Sync, exchange: FakeExchange) -> None:
        exchange.at("open", ThrottledError("x"), times=6)
        exchange.at("listing", TransientError("x"), times=RETRIED)
        assert sync().status == "succeeded"

    def test_micro_delays_are_added_once_a_session(self, sync: Sync, exchange: FakeExchange) -> None:
        exchange.micro_delay = 0.5
        exchange.at("end", ThrottledError("x", retry_after=10.0))
        assert sync().throttled_seconds == pytest.approx(0.5 + 10.0 + 0.5)


class TestForeignText:
    NASTY = "a\0b \ud800 \U0001f4f1"

    def test_the_cause_is_kept_whatever_it_says(self, sync: Sync, exchange: FakeExchange) -> None:
        exchange.at("open", StopError("x", code="not_powershell", remote_text=self.NASTY))
        run = sync()
        assert (run.status, run.error_code) == ("failed", "not_powershell")
        assert run.error_params == {"remote_text": "a\ufffdb \ufffd \U0001f4f1"}

    def test_events_of_the_gateway_too(self, sync: Sync, exchange: FakeExchange, connector: Connector) -> None:
        def told(*_: Any, on_event: Any, **__: Any) -> Any:
            on_event("server_failed", {"server": "ex01", "remote_text": self.NASTY, "n": float("nan")})
            raise StopError("x")

        run = sync_request(connector=connector, kind="fullSync", trigger="button", actor=SETUP).run
        runs.run_execute(run.pk, open_exchange=told)
        assert event(run, "server_failed").params["n"] is None
        json.dumps(event(run, "server_failed").params, allow_nan=False)


class TestUnknownErrors:
    def test_a_fault_of_ours_ends_the_run(
        self, sync: Sync, exchange: FakeExchange, caplog: pytest.LogCaptureFixture
    ) -> None:
        exchange.at("page 2", ZeroDivisionError("secret detail"))
        run = sync()
        assert (run.status, run.error_code, run.error_params) == ("failed", "internal_error", {})
        assert "secret detail" in caplog.text
        assert "secret detail" not in json.dumps(list(run.events.values_list("params", flat=True)))

    @pytest.mark.django_db(transaction=True)
    def test_a_database_that_went_away_leaves_the_run_to_recovery(
        self, sync: Sync, exchange: FakeExchange, connector: Connector
    ) -> None:
        exchange.at("page 2", OperationalError("server closed the connection unexpectedly"))
        run = sync()
        assert run.status == "running"
        lease_expire(run)
        runs_recover()
        runs.run_execute(run.pk, open_exchange=exchange.open)
        run.refresh_from_db()
        assert (run.status, run.attempt) == ("succeeded", 2)
        assert present(connector) == listed(exchange)


class TestCancel:
    @pytest.mark.parametrize("place", ["open", "servers", "listing", "page 1", "page 2", "end"])
    def test_while_it_runs(self, sync: Sync, exchange: FakeExchange, place: str) -> None:
        """Learnt at the next page or heartbeat, whichever comes first."""

        def cancel() -> None:
            run_cancel(run=SyncRun.objects.get(), actor=Actor("Mona"))

        exchange.at(place, cancel)
        run = sync()
        assert (run.status, run.error_code, run.error_params) == ("canceled", "run_canceled", {"person": "Mona"})
        assert codes(run)[-1] == "canceled"
        assert not MobileDevice.objects.exclude(gone_at=None).exists()

    def test_while_it_waits(
        self, connector: Connector, exchange: FakeExchange, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The wait ends at once when the heartbeat learns of it."""
        monkeypatch.setattr("sync.runs.RETRY_WAITS", (60.0,))
        held: list[Lease] = []

        def take(run_id: int, owner: str) -> Lease | None:
            lease = claim(run_id, owner)
            assert lease is not None
            held.append(lease)
            return lease

        monkeypatch.setattr("sync.runs.claim", take)

        def fail() -> None:
            run_cancel(run=run, actor=SETUP)
            threading.Timer(0.05, held[0].stopped.set).start()
            raise TransientError("x")

        exchange.at("open", fail)
        run = sync_request(connector=connector, kind="fullSync", trigger="button", actor=SETUP).run
        began = timezone.now()
        assert runs.run_execute(run.pk, open_exchange=exchange.open) == "canceled"
        assert (timezone.now() - began).total_seconds() < 10

    def test_too_late_to_cancel(
        self, sync: Sync, exchange: FakeExchange, connector: Connector, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """All was read and marked: the run succeeds, and its story says that someone asked."""
        sync()
        exchange.take(1)

        def mark(**how: Any) -> int:
            gone = gone_mark(**how)
            run_cancel(run=SyncRun.objects.get(status="running"), actor=SETUP)
            return gone

        monkeypatch.setattr("sync.observing.sweep.gone_mark", mark)
        run = sync()
        assert (run.status, run.gone, run.error_code) == ("succeeded", 1, "")
        assert codes(run)[-3:] == ["cancel_requested", "gone_marked", "succeeded"]
        assert present(connector) == listed(exchange)

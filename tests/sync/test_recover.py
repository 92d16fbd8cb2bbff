"""What recovery does with each thing that a dead process can leave behind, wherever it died."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.utils import timezone

from connectors.actors import SETUP, Actor
from connectors.exchange.errors import StopError
from connectors.models import Connector
from sync import recover, runs
from sync.lease import take_back
from sync.models import MobileDevice, SyncRun
from sync.recover import runs_recover
from sync.services import run_cancel, successor_start, sync_request
from tests.connectors import factories
from tests.sync.conftest import Sync
from tests.sync.exchange import FakeExchange, device
from tests.sync.worlds import Killed, codes, event, lease_expire, listed, make_older, present

pytestmark = pytest.mark.django_db


@pytest.fixture
def offers(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Keys of the runs that the queue was told of."""
    told: list[int] = []
    monkeypatch.setattr("sync.recover.run_dispatch", lambda run: told.append(run.pk))
    return told


def request(connector: Connector, kind: str = "fullSync") -> SyncRun:
    return sync_request(connector=connector, kind=kind, trigger="button", actor=SETUP).run


def die(run: SyncRun, exchange: FakeExchange) -> None:
    """Do the run; the test has planned where it is killed."""
    with pytest.raises(Killed):
        runs.run_execute(run.pk, open_exchange=exchange.open, owner="dead/1")
    run.refresh_from_db()


def kill_in(monkeypatch: pytest.MonkeyPatch, name: str, *, after: bool) -> Callable[[], None]:
    """SIGKILL at the first call of a function, before or after its work. Returns how to lift it."""
    module, _, attribute = name.rpartition(".")
    import importlib

    owner: Any
    try:
        owner = importlib.import_module(module)
    except ModuleNotFoundError:
        parent, _, cls = module.rpartition(".")
        owner = getattr(importlib.import_module(parent), cls)
    real = getattr(owner, attribute)

    def killed(*arguments: Any, **named: Any) -> Any:
        if after:
            real(*arguments, **named)
        raise Killed

    monkeypatch.setattr(owner, attribute, killed)
    return lambda: monkeypatch.setattr(owner, attribute, real)


PLACES = ["open", "servers", "organization", "settings", "listing", "page 1", "page 2", "page 3", "end"]
# Functions whose work is (part of) one transaction: killed before it, or after it and before the commit.
INSIDE = [
    "sync.observing.observe.phase_begin",
    "sync.observing.observe.connector_observed",
    "sync.observing.record._stamp",
    "sync.observing.record._upsert",
    "sync.observing.record.columns.insert",
    "sync.observing.record.columns.update",
    "sync.observing.record.Counts.write",
    "sync.observing.sweep.gone_mark",
    "sync.runs.run_succeed",
    "sync.runs._succeed",
    "sync.runs.successor_start",
]


class TestKilled:
    @pytest.fixture
    def before(self, sync: Sync, exchange: FakeExchange) -> None:
        """A synchronised connector; then Exchange changes in every way."""
        sync()
        exchange.put(device(1, access_state="Blocked"), device(60), device(61))
        exchange.take(7)

    def recovered(self, connector: Connector, exchange: FakeExchange, run: SyncRun) -> None:
        lease_expire(run)
        runs_recover()
        run.refresh_from_db()
        if run.is_active:
            assert (run.status, run.phase, run.lease_expires_at) == ("queued", "waiting", None)
            assert runs.run_execute(run.pk, open_exchange=exchange.open, owner="next/2") == "succeeded"
            run.refresh_from_db()
            assert (run.attempt, run.lease_owner) == (2, "next/2")
            assert event(run, "taken_up_again").params == {"worker": "dead/1"}
        assert (run.status, run.error_code) == ("succeeded", "")
        assert present(connector) == listed(exchange)
        assert MobileDevice.objects.count() == 12
        assert (run.created, run.changed, run.gone) == (2, 1, 1), "counted once, over both attempts"
        assert not SyncRun.objects.filter(status__in=SyncRun.ACTIVE).exists()

    @pytest.mark.parametrize("place", PLACES)
    def test_while_it_talks_to_exchange(
        self, before: None, connector: Connector, exchange: FakeExchange, place: str
    ) -> None:
        exchange.at(place, Killed())
        run = request(connector)
        die(run, exchange)
        assert run.status == "running"
        self.recovered(connector, exchange, run)

    @pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
    @pytest.mark.parametrize("name", INSIDE)
    def test_while_it_writes(
        self,
        before: None,
        connector: Connector,
        exchange: FakeExchange,
        monkeypatch: pytest.MonkeyPatch,
        name: str,
        after: bool,
    ) -> None:
        run = request(connector)
        lift = kill_in(monkeypatch, name, after=after)
        die(run, exchange)
        lift()
        self.recovered(connector, exchange, run)

    @pytest.mark.parametrize("place", ["open", "page 2", "end"])
    def test_again_and_again(
        self, before: None, connector: Connector, exchange: FakeExchange, settings: Any, place: str
    ) -> None:
        """Given up after so many attempts; the next run puts everything right."""
        exchange.at(place, Killed(), times=settings.SYNC_MAX_ATTEMPTS)
        run = request(connector)
        for _ in range(settings.SYNC_MAX_ATTEMPTS):
            die(run, exchange)
            lease_expire(run)
            runs_recover()
        run.refresh_from_db()
        assert (run.status, run.phase, run.error_code) == ("interrupted", "finished", "run_interrupted")
        assert run.error_params == {"attempts": settings.SYNC_MAX_ATTEMPTS}
        assert (codes(run)[-1], run.lease_expires_at) == ("interrupted", None)
        connector.refresh_from_db()
        assert connector.last_error_code == "run_interrupted"
        following = request(connector)
        assert following.pk != run.pk
        assert runs.run_execute(following.pk, open_exchange=exchange.open) == "succeeded"
        assert present(connector) == listed(exchange)

    def test_after_someone_asked_to_cancel(self, connector: Connector, exchange: FakeExchange) -> None:
        run = request(connector)

        def cancel_and_die() -> None:
            run_cancel(run=run, actor=Actor("Mona"))
            raise Killed

        exchange.at("page 1", cancel_and_die)
        die(run, exchange)
        lease_expire(run)
        runs_recover()
        run.refresh_from_db()
        assert (run.status, run.error_params) == ("canceled", {"person": "Mona"})


class TestLeftRuns:
    def test_a_lease_that_holds_is_left_alone(self, connector: Connector, exchange: FakeExchange) -> None:
        run = request(connector)
        exchange.at("open", Killed())
        die(run, exchange)
        assert runs_recover() == 0

    def test_several_recoveries_do_it_once(
        self, connector: Connector, exchange: FakeExchange, offers: list[int]
    ) -> None:
        run = request(connector)
        exchange.at("open", Killed())
        die(run, exchange)
        lease_expire(run)
        assert runs_recover() == 1
        make_older(run, 1)
        stale = SyncRun.objects.get()
        recover._take_up_again(stale)
        assert codes(run).count("taken_up_again") == 1
        assert offers == [run.pk]

    @pytest.mark.parametrize(
        ("seconds", "told_before", "is_offered"),
        [(0, False, False), (3, False, True), (3, True, False), (119, True, False), (121, True, True)],
    )
    def test_a_queued_run_is_offered_again(
        self, connector: Connector, offers: list[int], seconds: float, told_before: bool, is_offered: bool
    ) -> None:
        run = request(connector)
        SyncRun.objects.update(dispatched_at=timezone.now() if told_before else None)
        make_older(run, seconds)
        assert runs_recover() == int(is_offered)
        assert offers == [run.pk] * is_offered

    def test_a_run_taken_up_again_is_offered_by_the_next_tick_too(
        self, connector: Connector, exchange: FakeExchange, offers: list[int]
    ) -> None:
        """The process that took it back may die before it tells the queue."""
        run = request(connector)
        SyncRun.objects.update(dispatched_at=timezone.now())
        exchange.at("open", Killed())
        die(run, exchange)
        lease_expire(run)
        make_older(run, 10)
        lease_expire(run)
        runs_recover()
        runs_recover()
        assert offers == [run.pk, run.pk]

    @pytest.mark.parametrize(("seconds", "is_told"), [(150, False), (200, True)])
    def test_a_run_that_nobody_takes_says_so_once(
        self, connector: Connector, offers: list[int], seconds: float, is_told: bool
    ) -> None:
        Connector.objects.update(site="berlin")
        run = request(connector)
        make_older(run, seconds)
        runs_recover()
        runs_recover()
        assert codes(run).count("no_worker") == int(is_told)
        if is_told:
            assert event(run, "no_worker").params == {"queue": "site.berlin"}

    def test_a_run_that_had_a_worker_waits_from_then_on(
        self, connector: Connector, exchange: FakeExchange, offers: list[int]
    ) -> None:
        run = request(connector)
        make_older(run, 3600)
        exchange.at("open", Killed())
        die(run, exchange)
        lease_expire(run)
        runs_recover()
        runs_recover()
        assert "no_worker" not in codes(run)


class TestPromises:
    @pytest.fixture
    def quick(self, connector: Connector) -> SyncRun:
        """A quick sync after which a full one is promised, to a person."""
        Connector.objects.update(last_full_sync_at=timezone.now())
        self.person = get_user_model().objects.create_user("mona")
        run = request(connector, "deltaSync")
        sync_request(
            connector=connector, kind="fullSync", trigger="button", actor=Actor("Mona", user_id=self.person.pk)
        )
        return run

    def full(self) -> SyncRun:
        return SyncRun.objects.get(kind="fullSync")

    def check(self) -> None:
        full = self.full()
        assert (full.status, full.trigger, full.requested_by_name) == ("queued", "button", "Mona")
        assert full.requested_by_id == self.person.pk
        assert not SyncRun.objects.filter(then_full__isnull=False).exists()
        runs_recover()
        assert SyncRun.objects.filter(kind="fullSync").count() == 1

    def test_kept_when_the_run_ends(self, quick: SyncRun, exchange: FakeExchange) -> None:
        assert runs.run_execute(quick.pk, open_exchange=exchange.open) == "succeeded"
        self.check()

    def test_kept_when_it_fails(self, quick: SyncRun, exchange: FakeExchange) -> None:
        exchange.at("open", StopError("x"))
        assert runs.run_execute(quick.pk, open_exchange=exchange.open) == "failed"
        self.check()

    def test_kept_when_the_worker_dies_right_after_the_end(
        self, quick: SyncRun, exchange: FakeExchange, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        lift = kill_in(monkeypatch, "sync.runs.successor_start", after=False)
        die(quick, exchange)
        lift()
        assert quick.status == "succeeded"
        assert runs_recover() == 1
        self.check()

    def test_kept_when_the_worker_dies_in_the_middle(
        self, quick: SyncRun, exchange: FakeExchange, settings: Any
    ) -> None:
        settings.SYNC_MAX_ATTEMPTS = 1
        exchange.at("listing", Killed())
        die(quick, exchange)
        lease_expire(quick)
        runs_recover()
        quick.refresh_from_db()
        assert quick.status == "interrupted"
        self.check()

    def test_kept_when_a_queued_run_is_canceled(self, quick: SyncRun) -> None:
        run_cancel(run=quick, actor=SETUP)
        self.check()

    def test_kept_when_a_running_one_is_canceled(self, quick: SyncRun, exchange: FakeExchange) -> None:
        exchange.at("open", lambda: run_cancel(run=quick, actor=SETUP))
        assert runs.run_execute(quick.pk, open_exchange=exchange.open) == "canceled"
        self.check()

    def test_of_a_person_deleted_meanwhile(self, quick: SyncRun, exchange: FakeExchange) -> None:
        self.person.delete()
        assert runs.run_execute(quick.pk, open_exchange=exchange.open) == "succeeded"
        assert (self.full().requested_by_id, self.full().requested_by_name) == (None, "Mona")

    def test_made_while_the_run_is_ending(
        self, connector: Connector, exchange: FakeExchange, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Asked for between the ending's commit and what comes after: a run of its own, once."""
        Connector.objects.update(last_full_sync_at=timezone.now())
        quick = request(connector, "deltaSync")
        real = successor_start

        def ask_first(run: SyncRun) -> None:
            assert request(connector).kind == "fullSync"
            real(run)

        monkeypatch.setattr("sync.runs.successor_start", ask_first)
        runs.run_execute(quick.pk, open_exchange=exchange.open)
        assert SyncRun.objects.filter(kind="fullSync").count() == 1

    def test_not_kept_while_the_run_goes_on(self, quick: SyncRun) -> None:
        assert runs_recover() == 0
        assert not SyncRun.objects.filter(kind="fullSync").exists()


def test_trouble_with_one_run_stays_its_own(
    connector: Connector, exchange: FakeExchange, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    other = factories.connector("Fabrikam", of="Fabrikam")
    found = [request(connector), request(other)]
    exchange.at("open", Killed(), times=2)
    for run in found:
        die(run, exchange)
        lease_expire(run)
    real = take_back

    def fail(run: SyncRun) -> None:
        if run.pk == found[0].pk:
            raise ZeroDivisionError("odd")
        real(run)

    monkeypatch.setattr(recover, "take_back", fail)
    assert runs_recover() == 1
    for run in found:
        run.refresh_from_db()
    assert [run.status for run in found] == ["running", "queued"]
    assert "odd" in caplog.text

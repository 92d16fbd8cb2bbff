"""One worker a run: taking, renewing and losing the lease, and what a worker that lost it can still write (nothing)."""

from __future__ import annotations

import datetime
import threading
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import time_machine
from django.db import DatabaseError, InterfaceError, OperationalError, connection, connections
from django.db.models.functions import Now
from django.utils import timezone

from connectors.actors import SETUP
from connectors.models import Connector
from connectors.services import StaleFenceError
from sync import lease as leases
from sync import runs
from sync.lease import Lease, LeaseLostError, claim
from sync.models import MobileDevice, RunEvent, SyncRun
from sync.observing.observe import organization_observe, phase_begin
from sync.observing.record import Counts, gone_mark, page_record
from sync.recover import runs_recover
from sync.services import run_cancel, sync_request
from tests.connectors import factories
from tests.sync.conftest import Sync
from tests.sync.exchange import FakeExchange, device
from tests.sync.worlds import lease_expire, listed, present

pytestmark = pytest.mark.django_db


def requested(connector: Connector, kind: str = "fullSync") -> SyncRun:
    return sync_request(connector=connector, kind=kind, trigger="button", actor=SETUP).run


def claimed(run: SyncRun, owner: str = "worker-1/100") -> Lease:
    found = claim(run.pk, owner)
    assert found is not None
    return found


class TestClaim:
    def test_takes_a_queued_run(self, connector: Connector) -> None:
        lease = claimed(requested(connector))
        run = SyncRun.objects.get()
        assert (run.status, run.phase, run.attempt) == ("running", "connecting", 1)
        assert (run.lease_owner, run.connector_server, run.fence) == ("worker-1/100", "worker-1", lease.fence)
        assert SyncRun.objects.filter(lease_expires_at__gt=Now(), heartbeat_at__lte=Now()).exists()
        assert run.started_at is not None

    def test_only_one_worker_gets_it(self, connector: Connector) -> None:
        run = requested(connector)
        claimed(run)
        assert claim(run.pk, "worker-2/200") is None

    @pytest.mark.parametrize("status", ["running", "succeeded", "failed", "canceled", "interrupted"])
    def test_takes_no_other(self, connector: Connector, status: str) -> None:
        run = requested(connector)
        SyncRun.objects.update(status=status)
        assert claim(run.pk, "w/1") is None
        assert Connector.objects.get().fence == 0

    def test_a_run_that_does_not_exist(self, db: None) -> None:
        assert claim(4711, "w/1") is None
        assert runs.run_execute(4711) == ""

    def test_each_one_gets_the_next_number(self, connector: Connector) -> None:
        run = requested(connector)
        first = claimed(run)
        SyncRun.objects.update(status="queued")
        second = claimed(run)
        assert second.fence == first.fence + 1 == Connector.objects.get().fence

    def test_a_second_try_keeps_the_time_of_the_first(self, connector: Connector) -> None:
        run = requested(connector)
        claimed(run)
        SyncRun.objects.update(status="queued", started_at=timezone.now() - datetime.timedelta(hours=1))
        before = SyncRun.objects.get().started_at
        claimed(run)
        assert (SyncRun.objects.get().started_at, SyncRun.objects.get().attempt) == (before, 2)

    def test_at_most_one_run_a_connector_is_active(self, connector: Connector) -> None:
        from django.db import IntegrityError, transaction

        requested(connector)
        with pytest.raises(IntegrityError), transaction.atomic():
            SyncRun.objects.create(connector=connector, kind="fullSync", trigger="api", queued_at=timezone.now())


class TestRenew:
    def test_pushes_the_end_out(self, connector: Connector) -> None:
        run = requested(connector)
        lease = claimed(run)
        lease_expire(run)
        lease.renew()
        assert SyncRun.objects.filter(lease_expires_at__gt=Now()).exists()
        assert not lease.stopped.is_set()

    def test_learns_of_a_cancel(self, connector: Connector) -> None:
        run = requested(connector)
        lease = claimed(run)
        run_cancel(run=run, actor=SETUP)
        lease.renew()
        assert (lease.is_canceled, lease.should_stop()) == (True, True)

    @pytest.mark.parametrize(
        "change", [{"fence": 99}, {"status": "queued"}, {"status": "failed"}], ids=["fence", "queued", "ended"]
    )
    def test_learns_of_a_loss(self, connector: Connector, change: dict[str, Any]) -> None:
        lease = claimed(requested(connector))
        SyncRun.objects.update(**change)
        lease.renew()
        assert (lease.is_lost, lease.should_stop()) == (True, True)

    def test_of_a_run_that_is_deleted(self, connector: Connector) -> None:
        lease = claimed(requested(connector))
        connector.organization.delete()
        lease.renew()
        assert lease.is_lost

    @pytest.mark.parametrize("error", [OperationalError, InterfaceError, DatabaseError])
    def test_a_database_that_fails_is_tried_again_with_a_new_connection(
        self, connector: Connector, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
    ) -> None:
        lease = claimed(requested(connector))
        dropped: list[int] = []

        def fail() -> None:
            raise error("server closed the connection unexpectedly")

        with monkeypatch.context() as broken:
            broken.setattr(leases, "lease_end", fail)
            broken.setattr(leases, "_connection_drop", lambda: dropped.append(1))
            lease.renew()
        assert dropped == [1]
        assert not lease.stopped.is_set()
        lease.renew()
        assert not lease.is_lost

    @pytest.mark.parametrize("hours", [-2, 2])
    def test_only_the_clock_of_the_database_counts(self, connector: Connector, hours: int) -> None:
        """A live worker whose clock is wrong keeps its lease; a recovery whose clock is wrong takes no live one."""

        def wrong_clock() -> Any:
            return time_machine.travel(timezone.now() + datetime.timedelta(hours=hours))

        run = requested(connector)
        with wrong_clock():
            lease = claimed(run)
            lease.renew()
        assert runs_recover() == 0
        with wrong_clock():
            assert runs_recover() == 0
            lease_expire(run)
            assert runs_recover() == 1
        assert SyncRun.objects.get().status == "queued"


class TestGuard:
    def test_a_transaction_that_fails_leaves_nothing(self, connector: Connector) -> None:
        lease = claimed(requested(connector))

        def write_and_fail() -> None:
            with lease.guard() as run:
                SyncRun.objects.filter(pk=run.pk).update(observed=7)
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            write_and_fail()
        assert SyncRun.objects.get().observed == 0

    def test_learns_of_a_cancel_and_lets_the_write_through(self, connector: Connector) -> None:
        run = requested(connector)
        lease = claimed(run)
        run_cancel(run=run, actor=SETUP)
        with lease.guard():
            assert lease.is_canceled

    def test_renumber(self, connector: Connector) -> None:
        run = requested(connector)
        lease = claimed(run)
        before = lease.fence
        lease.renumber()
        assert lease.fence == before + 1 == Connector.objects.get().fence == SyncRun.objects.get().fence
        lease.renew()
        assert not lease.is_lost


PAGE_WRITES: dict[str, Callable[[Lease, FakeExchange, Connector], Any]] = {
    "a page of devices": lambda lease, exchange, connector: page_record(
        lease=lease,
        organization_id=connector.organization_id,
        page=next(_session(exchange).devices()),
        counts=Counts(),
    ),
    "what is gone": lambda lease, exchange, connector: gone_mark(
        lease=lease, organization_id=connector.organization_id
    ),
    "a phase": lambda lease, exchange, connector: phase_begin(lease, SyncRun.Phase.DEVICES),
    "a line of the story": lambda lease, exchange, connector: lease.note("retry"),
    "the organisation": lambda lease, exchange, connector: organization_observe(
        client=_session(exchange), connector=connector, lease=lease
    ),
    "a new number": lambda lease, exchange, connector: lease.renumber(),
}


def _session(exchange: FakeExchange) -> Any:
    from tests.sync.exchange import FakeSession

    return FakeSession(exchange, lambda: False)


def snapshot() -> list[Any]:
    """All rows that a run may write."""
    return [list(model.objects.order_by("pk").values()) for model in (MobileDevice, SyncRun, RunEvent, Connector)] + [
        list(Connector.objects.get().servers.order_by("pk").values())
    ]


class TestZombie:
    """A worker that was thought dead and lives: its lease went to another."""

    @pytest.fixture
    def zombie(self, connector: Connector, exchange: FakeExchange) -> Lease:
        run = requested(connector)
        lease = claimed(run, "zombie/1")
        lease_expire(run)
        runs_recover()
        claimed(run, "alive/2")
        return lease

    @pytest.mark.parametrize("write", PAGE_WRITES.values(), ids=PAGE_WRITES.keys())
    def test_it_can_write_nothing(
        self,
        zombie: Lease,
        exchange: FakeExchange,
        connector: Connector,
        write: Callable[[Lease, FakeExchange, Connector], Any],
    ) -> None:
        before = snapshot()
        with pytest.raises((LeaseLostError, StaleFenceError)):
            write(zombie, exchange, connector)
        assert snapshot() == before
        assert zombie.should_stop()

    def test_not_even_before_another_took_the_run(self, connector: Connector, exchange: FakeExchange) -> None:
        run = requested(connector)
        lease = claimed(run, "zombie/1")
        lease_expire(run)
        runs_recover()
        with pytest.raises(LeaseLostError):
            lease.note("retry")

    def test_its_heartbeat_keeps_nothing_alive(self, zombie: Lease) -> None:
        before = snapshot()
        zombie.renew()
        assert snapshot() == before
        assert zombie.is_lost

    @pytest.mark.parametrize("place", ["open", "servers", "listing", "page 2", "end"])
    def test_a_whole_run_of_it(
        self, connector: Connector, exchange: FakeExchange, slept: list[float], place: str
    ) -> None:
        """It wakes up in the middle of its run, after another worker has done it."""
        run = requested(connector)
        finished: list[list[Any]] = []

        def meanwhile() -> None:
            lease_expire(run)
            runs_recover()
            assert runs.run_execute(run.pk, open_exchange=exchange.open, owner="alive/2") == "succeeded"
            exchange.take(0)
            exchange.put(device(50))
            finished.append(snapshot())

        exchange.at(place, meanwhile)
        assert runs.run_execute(run.pk, open_exchange=exchange.open, owner="zombie/1") == ""
        assert snapshot() == finished[0]

    def test_one_that_could_not_be_heard_for_a_while_goes_on(
        self, connector: Connector, exchange: FakeExchange
    ) -> None:
        """Its lease ran out, and nobody has taken it: the run is still its own."""
        run = requested(connector)
        lease = claimed(run)
        lease_expire(run)
        lease.renew()
        assert runs_recover() == 0
        with lease.guard():
            pass


def test_a_new_connector_of_an_old_organisation_sweeps(
    sync: Sync, exchange: FakeExchange, connector: Connector
) -> None:
    """Its numbers begin again, below those that the devices carry."""
    for _ in range(3):
        sync()
    organization = connector.organization
    Connector.objects.all().delete()
    from connectors.services import connector_create

    anew = connector_create(
        organization=organization, account=factories.ACCOUNT, servers=factories.SERVERS, actor=SETUP
    )
    exchange.take(3)
    run = requested(anew)
    assert runs.run_execute(run.pk, open_exchange=exchange.open) == "succeeded"
    run.refresh_from_db()
    assert run.gone == 1
    assert present(anew) == listed(exchange)


def in_thread(work: Callable[[], Any]) -> tuple[threading.Thread, list[Any]]:
    out: list[Any] = []

    def body() -> None:
        try:
            out.append(work())
        except BaseException as error:
            out.append(error)
        finally:
            connections.close_all()

    thread = threading.Thread(target=body)
    thread.start()
    return thread, out


@pytest.mark.django_db(transaction=True)
class TestAtOnce:
    """Several processes, each with its own connection to the database."""

    @pytest.fixture
    def connector(self, transactional_db: None) -> Connector:
        return factories.connector()

    def test_of_many_workers_one_gets_the_run(self, connector: Connector) -> None:
        run = requested(connector)
        started = threading.Barrier(6)

        def work(number: int) -> Callable[[], Any]:
            def take() -> Any:
                started.wait(10)
                return claim(run.pk, f"w/{number}")

            return take

        threads = [in_thread(work(number)) for number in range(6)]
        for thread, _ in threads:
            thread.join(30)
        results = [out[0] for _, out in threads]
        assert sum(isinstance(result, Lease) for result in results) == 1
        assert results.count(None) == 5
        assert (SyncRun.objects.get().attempt, Connector.objects.get().fence) == (1, 1)

    def test_of_many_requests_one_makes_a_run(self, connector: Connector) -> None:
        started = threading.Barrier(6)

        def ask() -> Any:
            started.wait(10)
            return sync_request(connector=connector, kind="fullSync", trigger="button", actor=SETUP).outcome

        threads = [in_thread(ask) for _ in range(6)]
        for thread, _ in threads:
            thread.join(30)
        assert sorted(out[0] for _, out in threads) == ["joined"] * 5 + ["started"]

    def test_a_button_and_a_run_that_changes_the_connector(self, connector: Connector) -> None:
        """Both lock the connector first, so neither can wait for the other in a circle."""
        Connector.objects.update(last_full_sync_at=timezone.now())
        from connectors.services import connector_status_set

        run = requested(connector, "deltaSync")
        lease = claimed(run)
        inside, asked = threading.Event(), threading.Event()

        def work() -> str:
            with lease.guard():
                inside.set()
                asked.wait(0.3)
                connector_status_set(connector=connector, status="connected", fence=lease.fence, actor=SETUP)
            return "done"

        worker, did = in_thread(work)
        assert inside.wait(10)
        button, answered = in_thread(
            lambda: sync_request(connector=connector, kind="fullSync", trigger="button", actor=SETUP).outcome
        )
        canceler, canceled = in_thread(lambda: run_cancel(run=run, actor=SETUP))
        for thread in (worker, button, canceler):
            thread.join(30)
        assert (did, answered, canceled) == (["done"], ["queued_after"], [True])

    def test_everything_at_once(self, connector: Connector, exchange: FakeExchange, slept: list[float]) -> None:
        """Buttons, cancels, recovery and workers over one connector: no error, and the end is right."""
        Connector.objects.update(last_full_sync_at=timezone.now())
        stop = threading.Event()

        def repeat(work: Callable[[], Any]) -> Callable[[], str]:
            def body() -> str:
                while not stop.is_set():
                    work()
                return "fine"

            return body

        def ask(kind: str) -> Callable[[], Any]:
            return lambda: sync_request(connector=connector, kind=kind, trigger="button", actor=SETUP)

        def cancel() -> None:
            run = SyncRun.objects.filter(status__in=SyncRun.ACTIVE).first()
            if run is not None:
                run_cancel(run=run, actor=SETUP)

        def work() -> None:
            run = SyncRun.objects.filter(status="queued").first()
            if run is not None:
                runs.run_execute(run.pk, open_exchange=exchange.open)

        doing = [ask("fullSync"), ask("deltaSync"), cancel, work, work, runs_recover]
        threads = [in_thread(repeat(one)) for one in doing]
        stop.wait(2.0)
        stop.set()
        for thread, _ in threads:
            thread.join(30)
        assert [out for _, out in threads] == [["fine"]] * len(doing)
        assert set(SyncRun.objects.values_list("status", flat=True)) <= {*SyncRun.ENDED, "queued"}

        while (left := SyncRun.objects.filter(status="queued").first()) is not None:
            runs.run_execute(left.pk, open_exchange=exchange.open)
        run = requested(connector)
        assert runs.run_execute(run.pk, open_exchange=exchange.open) == "succeeded"
        assert present(connector) == listed(exchange)

    def test_the_heartbeat_renews_while_the_run_works(
        self, connector: Connector, exchange: FakeExchange, settings: Any
    ) -> None:
        settings.SYNC_HEARTBEAT_SECONDS = 0.02
        run = requested(connector)
        renewed = threading.Event()

        def wait_for_a_beat() -> None:
            lease_expire(run)
            for _ in range(500):
                if SyncRun.objects.filter(lease_expires_at__gt=Now()).exists():
                    renewed.set()
                    return
                renewed.wait(0.01)

        exchange.at("page 2", wait_for_a_beat)
        assert runs.run_execute(run.pk, open_exchange=exchange.open) == "succeeded"
        assert renewed.is_set()
        assert not [thread for thread in threading.enumerate() if thread.name.startswith("lease-")]

    def test_the_heartbeat_tells_a_run_that_hangs_in_exchange_to_stop(
        self, connector: Connector, exchange: FakeExchange, settings: Any
    ) -> None:
        settings.SYNC_HEARTBEAT_SECONDS = 0.02
        run = requested(connector)

        def hang() -> None:
            run_cancel(run=run, actor=SETUP)
            for _ in range(500):
                if session[0]._should_stop():
                    return
                threading.Event().wait(0.01)
            raise AssertionError("never told to stop")

        session: list[Any] = []
        opened = exchange.open

        from contextlib import contextmanager

        @contextmanager
        def opening(*arguments: Any, **options: Any) -> Iterator[Any]:
            with opened(*arguments, **options) as found:
                session.append(found)
                yield found

        exchange.at("organization", hang)
        assert runs.run_execute(run.pk, open_exchange=opening) == "canceled"

    @pytest.mark.skipif(connection.vendor != "postgresql", reason="SQLite has no connection that could be cut")
    def test_the_heartbeat_survives_a_connection_that_was_cut(self, connector: Connector) -> None:
        run = requested(connector)
        lease = claimed(run)
        pids: list[int] = []
        cut, known = threading.Event(), threading.Event()

        def beat() -> str:
            lease.renew()
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_backend_pid()")
                pids.append(cursor.fetchone()[0])
            known.set()
            cut.wait(10)
            lease.renew()  # finds the connection dead
            lease.renew()  # has another
            return "lost" if lease.is_lost else "held"

        thread, out = in_thread(beat)
        assert known.wait(10)
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_terminate_backend(%s)", pids)
        lease_expire(run)
        cut.set()
        thread.join(30)
        assert out == ["held"]
        assert SyncRun.objects.filter(lease_expires_at__gt=Now()).exists()


def test_the_numbers_are_never_used_twice(sync: Sync) -> None:
    assert len({sync().fence for _ in range(3)}) == 3
    assert uuid.UUID(int=1) in set(MobileDevice.objects.values_list("guid", flat=True))
    assert set(MobileDevice.objects.values_list("seen_fence", flat=True)) == {Connector.objects.get().fence}

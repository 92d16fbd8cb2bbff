"""Reading everybody's statistics: what is asked, what is kept, what a break costs, and that syncs never wait for it."""

from __future__ import annotations

import datetime
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.utils import timezone

from connectors.actors import SCHEDULE, SETUP, Actor
from connectors.exchange.errors import (
    ExchangeError,
    NotFoundError,
    NotPermittedError,
    StopError,
    ThrottledError,
    TransientError,
)
from connectors.models import Connector
from sync import runs
from sync.models import DeviceStatistics, Mailbox, MobileDevice, SyncRun
from sync.observing import statistics_run
from sync.observing.statistics_due import statistics_ahead
from sync.recover import runs_recover
from sync.services import run_cancel, sync_request
from tests.connectors import factories
from tests.sync.act_fakes import statistics
from tests.sync.conftest import Sync
from tests.sync.exchange import EPOCH, FakeExchange, device, mailbox
from tests.sync.worlds import Killed, codes, event, lease_expire

pytestmark = pytest.mark.django_db
STATISTICS, FULL, QUICK = SyncRun.Kind.STATISTICS, SyncRun.Kind.FULL, SyncRun.Kind.QUICK
PHONES = 10


@pytest.fixture(autouse=True)
def looks_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether to stop, and whether another run is wanted."""
    monkeypatch.setattr("connectors.parallel.LOOK", 0.02)
    monkeypatch.setattr(statistics_run, "LOOK", 0.0)


@pytest.fixture
def read(connector: Connector, exchange: FakeExchange, sync: Sync) -> Sync:
    """An organization that was read once, without its mailboxes: nothing governs it. read() reads its statistics."""
    told(exchange, *range(PHONES))
    assert sync().status == "succeeded"
    assert not Mailbox.objects.exists()
    return lambda kind=STATISTICS, **options: sync(kind, **options)


def told(exchange: FakeExchange, *numbers: int, **values: Any) -> None:
    """Mailboxes that know of their phones."""
    exchange.put_people(*numbers)
    for number in numbers:
        one = device(number)
        known = {"last_success_sync": EPOCH + datetime.timedelta(days=number), **values}
        exchange.statistics[mailbox(number).guid] = (statistics(one.identity, one.device_id, **known),)


def last_syncs() -> dict[str, datetime.datetime | None]:
    return dict(DeviceStatistics.objects.values_list("device__device_id", "last_success_at"))


def asked(exchange: FakeExchange) -> list[str]:
    """Which mailboxes were asked after from now on."""
    found: list[str] = []
    tell = exchange.pass_by

    def pass_by(place: str) -> None:
        if place == "statistics":
            found.append(place)
        tell(place)

    exchange.pass_by = pass_by  # type: ignore[method-assign]
    return found


def make_old(*numbers: int, hours: float = 25) -> None:
    rows = DeviceStatistics.objects.filter(device__device_id__in=[device(number).device_id for number in numbers])
    rows.update(read_at=timezone.now() - datetime.timedelta(hours=hours))


class TestReading:
    def test_where_nothing_governs_an_organization_mailboxes_are_asked_by_their_devices_names(
        self, read: Sync, connector: Connector
    ) -> None:
        run = read()
        assert (run.status, run.phase, run.error_code) == ("succeeded", "finished", "")
        assert (run.observed, run.rejected, run.expected) == (PHONES, 0, PHONES)
        assert last_syncs() == {f"ID{number:04d}": EPOCH + datetime.timedelta(days=number) for number in range(PHONES)}
        assert codes(run) == [
            "requested", "claimed", "phase connecting", "statistics_due", "phase statistics", "succeeded",
        ]  # fmt: skip
        assert event(run, "statistics_due").params == {"devices": PHONES, "mailboxes": PHONES}

    def test_a_mailbox_that_is_known_is_asked_once_for_all_its_devices(
        self, read: Sync, connector: Connector, exchange: FakeExchange
    ) -> None:
        now = timezone.now()
        box = Mailbox.objects.create(
            organization=connector.organization, guid=mailbox(0).guid, primary_smtp="x@contoso.com", read_at=now,
            changed_at=now,
        )  # fmt: skip
        MobileDevice.objects.filter(device_id__in=("ID0000", "ID0001", "ID0002")).update(owner=box)
        exchange.statistics[mailbox(0).guid] = tuple(
            statistics(device(n).identity, device(n).device_id.lower(), status=f"Ok{n}") for n in range(3)
        )
        calls = asked(exchange)
        run = read()
        assert len(calls) == PHONES - 2
        assert run.observed == PHONES
        assert set(DeviceStatistics.objects.values_list("status", flat=True)) == {"Ok0", "Ok1", "Ok2", "DeviceOk"}
        # One of the three grows old: the call tells of all three, and one counts.
        make_old(1)
        before = DeviceStatistics.objects.get(device__device_id="ID0000").read_at
        assert read().observed == 1
        assert DeviceStatistics.objects.get(device__device_id="ID0000").read_at > before

    def test_what_was_read_within_a_day_is_not_read_again(self, read: Sync, exchange: FakeExchange) -> None:
        read()
        make_old(*range(PHONES), hours=23)
        make_old(3, 4)
        calls = asked(exchange)
        run = read()
        assert (len(calls), run.observed, run.expected) == (2, 2, 2)
        again = read()
        assert (again.status, again.observed, len(calls)) == ("succeeded", 0, 2)
        assert "statistics_known" in codes(again)
        assert exchange.open_sessions == 0

    def test_as_many_at_once_as_the_connector_says(self, read: Sync, exchange: FakeExchange) -> None:
        Connector.objects.update(parallel_commands=3)
        most = 0

        def look() -> None:
            nonlocal most
            most = max(most, exchange.open_sessions)
            time.sleep(0.02)

        exchange.at("statistics", look, times=PHONES)
        read()
        assert 1 < most <= 3

    def test_a_device_of_which_its_mailbox_says_nothing_was_asked_after(
        self, read: Sync, exchange: FakeExchange
    ) -> None:
        read()
        exchange.statistics[mailbox(1).guid] = ()
        make_old(1)
        old = DeviceStatistics.objects.get(device__device_id="ID0001")
        run = read()
        assert event(run, "statistics_silent").params == {"devices": 1}
        row = DeviceStatistics.objects.get(device__device_id="ID0001")
        assert row.read_at > old.read_at
        assert row.last_success_at == old.last_success_at

    def test_a_connector_that_was_never_read_gets_no_full_sync_by_it(
        self, connector: Connector, exchange: FakeExchange, sync: Sync
    ) -> None:
        run = sync(STATISTICS)
        assert (run.kind, run.status, run.observed) == (STATISTICS, "succeeded", 0)
        assert not MobileDevice.objects.exists()

    def test_an_observing_connector_reads(self, read: Sync, connector: Connector) -> None:
        Connector.objects.update(is_observe_only=True)
        assert read().observed == PHONES

    def test_there_is_no_dry_one(self, read: Sync) -> None:
        run = read(is_dry_run=True)
        assert (run.is_dry_run, run.observed) == (False, PHONES)

    def test_it_is_no_sync(self, read: Sync, connector: Connector) -> None:
        before = Connector.objects.values(
            "last_successful_sync_at", "last_full_sync_at", "synced_until", "next_quick_sync_at"
        ).get()
        read()
        assert before == Connector.objects.values(*before).get()

    def test_what_was_wrong_with_the_last_sync_is_still_said(self, read: Sync, connector: Connector) -> None:
        Connector.objects.update(last_error_code="listing_incomplete", status="connected")
        read()
        connector.refresh_from_db()
        assert (connector.status, connector.last_error_code) == ("connected", "listing_incomplete")


class TestSingleMailboxes:
    @pytest.mark.parametrize(
        ("error", "code"),
        [
            (NotFoundError("gone"), "object_not_found"),
            (NotPermittedError("out of scope", code="command_failed"), "command_failed"),
            (TransientError("x", code="exchange_transient"), "exchange_transient"),
        ],
    )
    def test_one_that_cannot_be_read_is_said_and_counted_and_the_rest_goes_on(
        self, read: Sync, exchange: FakeExchange, error: ExchangeError, code: str
    ) -> None:
        Connector.objects.update(parallel_commands=1)
        exchange.at("statistics", error, times=3 if isinstance(error, TransientError) else 1)
        run = read()
        assert (run.status, run.observed, run.rejected) == ("succeeded", PHONES - 1, 1)
        told = event(run, "statistics_unread").params
        assert (told["error_code"], told["mailbox"]) == (code, "contoso.com/Users/Person 0")
        assert event(run, "statistics_unread_all").params == {"mailboxes": 1}

    def test_a_session_that_breaks_costs_nothing(self, read: Sync, exchange: FakeExchange) -> None:
        exchange.at("statistics", TransientError("x", code="shell_lost"))
        run = read()
        assert (run.status, run.observed, run.rejected) == ("succeeded", PHONES, 0)
        assert "session_lost" in codes(run)

    def test_a_device_that_names_no_mailbox(self, read: Sync) -> None:
        MobileDevice.objects.filter(device_id="ID0005").update(distinguished_name="")
        run = read()
        assert (run.status, run.observed, run.rejected) == ("succeeded", PHONES - 1, 1)
        assert event(run, "statistics_nameless").params == {"devices": 1}

    def test_so_many_are_named_and_all_are_counted(
        self, read: Sync, exchange: FakeExchange, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(statistics_run, "NAMED", 2)
        exchange.mailboxes.clear()
        run = read()
        assert (run.status, run.rejected) == ("succeeded", PHONES)
        assert codes(run).count("statistics_unread") == 2
        assert event(run, "statistics_unread_all").params == {"mailboxes": PHONES}


class TestFailures:
    def test_an_account_that_may_not_read_statistics_is_told_so_once(
        self, read: Sync, connector: Connector, exchange: FakeExchange
    ) -> None:
        Connector.objects.update(parallel_commands=1)
        exchange.at("statistics", NotPermittedError("x", code="cmdlet_not_granted", cmdlet="Get-X"), times=PHONES)
        calls = asked(exchange)
        run = read()
        assert (run.status, run.error_code) == ("failed", "cmdlet_not_granted")
        assert len(calls) < PHONES
        connector.refresh_from_db()
        # The way to Exchange is as it was, and syncs do without.
        assert (connector.status, connector.last_error_code) == ("connected", "")

    def test_a_wrong_password_is_the_connectors(self, read: Sync, connector: Connector, exchange: FakeExchange) -> None:
        exchange.at("session", StopError("x", code="authentication_failed"))
        run = read()
        assert (run.status, run.error_code) == ("failed", "authentication_failed")
        connector.refresh_from_db()
        assert (connector.status, connector.last_error_code) == ("disconnected", "authentication_failed")

    def test_throttling_slows_it_down_and_does_not_fail_it(self, read: Sync, exchange: FakeExchange) -> None:
        exchange.at("statistics", ThrottledError("x", retry_after=0.05), times=3)
        run = read()
        assert (run.status, run.observed) == ("succeeded", PHONES)
        assert run.throttled_seconds > 0
        assert "throttled" in codes(run)

    def test_where_exchange_cannot_be_reached_it_tries_again_and_goes_on(
        self, read: Sync, exchange: FakeExchange, slept: list[float]
    ) -> None:
        exchange.at("session", TransientError("x", code="connection_refused"), times=40)
        run = read()
        assert (run.status, run.error_code) == ("failed", "connection_refused")
        assert codes(run).count("retry") == len(runs.RETRY_WAITS)
        exchange._plan.clear()
        assert read().observed == PHONES


class TestBreaks:
    def test_a_killed_worker_costs_what_was_under_way(
        self, read: Sync, connector: Connector, exchange: FakeExchange
    ) -> None:
        Connector.objects.update(parallel_commands=1)
        run = ask(connector)
        with pytest.raises(Killed):
            runs.run_execute(run.pk, open_sessions=killing(exchange, after=4), owner="worker-1/100")
        kept = DeviceStatistics.objects.count()
        assert 0 < kept < PHONES
        run.refresh_from_db()
        assert (run.status, run.observed) == ("running", kept)

        lease_expire(run)
        assert runs_recover() == 1
        calls = asked(exchange)
        runs.run_execute(run.pk, open_sessions=exchange.open_sessions_of, owner="worker-2/200")
        run.refresh_from_db()
        assert (run.status, run.attempt) == ("succeeded", 2)
        assert (run.observed, run.expected, len(calls)) == (PHONES, PHONES, PHONES - kept)

    def test_given_up_it_says_nothing_of_the_syncs(self, read: Sync, connector: Connector) -> None:
        run = ask(connector)
        SyncRun.objects.filter(pk=run.pk).update(status="running", attempt=99)
        lease_expire(run)
        runs_recover()
        run.refresh_from_db()
        connector.refresh_from_db()
        assert (run.status, connector.last_error_code) == ("interrupted", "")

    def test_canceled_it_keeps_what_was_read(
        self, read: Sync, connector: Connector, exchange: FakeExchange, settings: Any
    ) -> None:
        Connector.objects.update(parallel_commands=1)
        run = ask(connector)
        sessions = meanwhile(exchange, 3, lambda: run_cancel(run=run, actor=Actor("Mona")))
        assert runs.run_execute(run.pk, open_sessions=sessions, owner="w/1") == "canceled"
        run.refresh_from_db()
        assert 0 < run.observed < PHONES
        assert DeviceStatistics.objects.count() == run.observed
        assert SyncRun.objects.filter(status="queued").count() == 0


class TestMakingWay:
    @pytest.fixture(autouse=True)
    def one_at_a_time(self, connector: Connector) -> None:
        Connector.objects.update(parallel_commands=1)

    @pytest.mark.parametrize("kind", [QUICK, FULL, SyncRun.Kind.APPLY])
    def test_a_sync_goes_first_and_the_reading_goes_on_after_it(
        self, read: Sync, connector: Connector, exchange: FakeExchange, kind: str
    ) -> None:
        first = ask(connector, Actor("Ada"))
        outcomes: list[str] = []
        sessions = meanwhile(exchange, 3, lambda: outcomes.append(ask_sync(connector, kind)))
        assert runs.run_execute(first.pk, open_sessions=sessions, owner="w/1") == "madeWay"
        first.refresh_from_db()
        assert outcomes == ["queued_after"]
        assert (first.status, first.phase, first.error_code) == ("madeWay", "finished", "")
        assert 0 < first.observed < PHONES
        assert codes(first)[-1] == "made_way"

        second = SyncRun.objects.get(status="queued")
        assert (second.kind, second.requested_by_name) == (kind, "Schedule")
        options: dict[str, Any] = {
            "open_exchange": exchange.open,
            "open_sessions": exchange.open_sessions_of,
            "owner": "w/1",
        }
        assert runs.run_execute(second.pk, **options) == "succeeded"

        third = SyncRun.objects.get(status="queued")
        assert (third.kind, third.trigger, third.requested_by_name) == (STATISTICS, "button", "Ada")
        calls = asked(exchange)
        assert runs.run_execute(third.pk, **options) == "succeeded"
        third.refresh_from_db()
        assert third.observed == len(calls) == PHONES - first.observed
        assert not SyncRun.objects.filter(status__in=SyncRun.ACTIVE).exists()

    def test_asked_for_before_it_began_it_opens_no_session(
        self, read: Sync, connector: Connector, exchange: FakeExchange
    ) -> None:
        run = ask(connector)
        ask_sync(connector, QUICK)
        before = exchange.sessions
        assert runs.run_execute(run.pk, open_sessions=exchange.open_sessions_of, owner="w/1") == "madeWay"
        assert exchange.sessions == before
        assert SyncRun.objects.get(status="queued").kind == QUICK

    def test_it_waits_behind_a_sync_that_is_under_way(self, read: Sync, connector: Connector) -> None:
        sync_request(connector=connector, kind=FULL, trigger="schedule", actor=SCHEDULE)
        request = sync_request(connector=connector, kind=STATISTICS, trigger="button", actor=Actor("Ada"))
        assert (request.outcome, request.run.kind) == ("queued_after", FULL)
        assert codes(request.run)[-1] == "statistics_follow"
        again = sync_request(connector=connector, kind=STATISTICS, trigger="button", actor=Actor("Otto"))
        assert again.outcome == "queued_after"
        run_cancel(run=request.run, actor=SETUP)
        started = SyncRun.objects.get(status="queued")
        assert (started.kind, started.requested_by_name) == (STATISTICS, "Ada")

    def test_a_second_reading_joins_the_first(self, read: Sync, connector: Connector) -> None:
        run = ask(connector)
        request = sync_request(connector=connector, kind=STATISTICS, trigger="button", actor=SETUP)
        assert (request.outcome, request.run.pk) == ("joined", run.pk)

    def test_all_that_was_promised_comes_in_its_order(self, read: Sync, connector: Connector) -> None:
        sync_request(connector=connector, kind=QUICK, trigger="button", actor=SETUP)
        for kind, is_dry in ((STATISTICS, False), (FULL, True), (FULL, False)):
            assert (
                sync_request(connector=connector, kind=kind, trigger="button", actor=SETUP, is_dry_run=is_dry).outcome
                == "queued_after"
            )
        order = []
        while run := SyncRun.objects.filter(status="queued").first():
            order.append((run.kind, run.is_dry_run))
            run_cancel(run=run, actor=SETUP)
        assert order == [(QUICK, False), (FULL, False), (FULL, True), (STATISTICS, False)]

    @pytest.mark.parametrize(
        ("values", "seconds", "expected"),
        [
            ({}, 0, True),
            ({"kind": STATISTICS}, 0, False),
            ({"kind": STATISTICS}, statistics_run.TURN, True),
            ({"dispatched_at": None}, 0, False),  # nobody could take it
            ({"queued_at": None}, 0, False),  # a free worker takes it sooner than that
            ({"status": "running"}, 0, False),
            ({"connector__site": "berlin"}, 0, False),
        ],
    )
    def test_another_connectors_run_that_waits_for_a_worker(
        self, read: Sync, connector: Connector, values: dict[str, Any], seconds: float, expected: bool
    ) -> None:
        run = ask(connector)
        other = factories.connector("Fabrikam", of="Fabrikam")
        now = timezone.now()
        if site := values.pop("connector__site", ""):
            Connector.objects.filter(pk=other.pk).update(site=site)
        if values.get("queued_at", "") is None:
            values["queued_at"] = now
        earlier = now - datetime.timedelta(minutes=1)
        given = {"kind": QUICK, "status": "queued", "queued_at": earlier, "dispatched_at": earlier, **values}
        SyncRun.objects.create(connector=other, trigger="schedule", **given)
        assert statistics_run.way_is_wanted(run.pk, connector, seconds) is expected

    def test_no_reading_holds_its_worker_longer_than_any_run_may(
        self, read: Sync, connector: Connector, settings: Any
    ) -> None:
        settings.SYNC_LISTING_DEADLINE_SECONDS = 60.0
        run = ask(connector)
        assert not statistics_run.way_is_wanted(run.pk, connector, 59)
        assert statistics_run.way_is_wanted(run.pk, connector, 61)

    def test_canceled_while_it_makes_way_it_does_not_come_back(
        self, read: Sync, connector: Connector, exchange: FakeExchange
    ) -> None:
        run = ask(connector)

        def both() -> None:
            ask_sync(connector, QUICK)
            SyncRun.objects.filter(pk=run.pk).update(cancel_requested_at=timezone.now())

        assert runs.run_execute(run.pk, open_sessions=meanwhile(exchange, 3, both), owner="w/1") == "canceled"
        assert list(SyncRun.objects.filter(status="queued").values_list("kind", flat=True)) == [QUICK]
        assert SyncRun.objects.get(status="queued").then_full is None


class TestAhead:
    def test_a_guess_until_a_reading_has_shown_it(self, read: Sync, connector: Connector) -> None:
        ahead = statistics_ahead(connector)
        assert (ahead.devices, ahead.mailboxes, ahead.is_measured) == (PHONES, PHONES, False)
        assert 5 < ahead.seconds < 10
        read()
        assert statistics_ahead(connector).devices == 0
        make_old(1, 2, 3)
        now = timezone.now()
        SyncRun.objects.filter(kind=STATISTICS).update(
            observed=100, devices_started_at=now - datetime.timedelta(seconds=50), finished_at=now
        )
        ahead = statistics_ahead(connector)
        assert (ahead.devices, ahead.is_measured) == (3, True)
        assert ahead.seconds == pytest.approx(1.5)

    def test_devices_that_are_gone_and_those_of_others_do_not_count(self, read: Sync, connector: Connector) -> None:
        MobileDevice.objects.filter(device_id="ID0001").update(gone_at=timezone.now())
        other = factories.connector("Fabrikam", of="Fabrikam")
        assert statistics_ahead(connector).devices == PHONES - 1
        assert statistics_ahead(other).devices == 0

    def test_a_mailbox_that_is_gone_is_asked_by_its_devices_name(self, read: Sync, connector: Connector) -> None:
        now = timezone.now()
        box = Mailbox.objects.create(
            organization=connector.organization, guid=uuid.uuid4(), read_at=now, changed_at=now, gone_at=now
        )
        MobileDevice.objects.filter(device_id="ID0001").update(owner=box)
        assert read().observed == PHONES


# --- what happens in between ------------------------------------------------------------------------------------------


def ask(connector: Connector, actor: Actor = SETUP) -> SyncRun:
    return sync_request(connector=connector, kind=STATISTICS, trigger="button", actor=actor).run


def ask_sync(connector: Connector, kind: str) -> str:
    return sync_request(connector=connector, kind=kind, trigger="schedule", actor=SCHEDULE).outcome


def meanwhile(exchange: FakeExchange, after: int, happens: Callable[[], object]) -> Callable[..., Any]:
    """Sessions of `exchange`; once so many devices are kept, something happens, in the thread of the run. Mailboxes
    take long enough for that to be noticed."""
    exchange.at("statistics", lambda: time.sleep(0.03), times=PHONES)

    @contextmanager
    def open_sessions(connector: Connector, **options: Any) -> Iterator[Any]:
        has_happened = False

        def settle() -> None:
            nonlocal has_happened
            if not has_happened and DeviceStatistics.objects.count() >= after:
                has_happened = True
                happens()

        with exchange.open_sessions_of(connector, **options) as sessions:
            sessions.settle = settle  # type: ignore[method-assign]
            yield sessions

    return open_sessions


def killing(exchange: FakeExchange, after: int) -> Callable[..., Any]:
    def kill() -> None:
        raise Killed

    return meanwhile(exchange, after, kill)

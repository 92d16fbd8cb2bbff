"""A quick sync: which devices it asks for, and what it leaves to the full one."""

from __future__ import annotations

import datetime

import pytest

from connectors.models import Connector
from sync.models import MobileDevice, SyncRun
from sync.observing.observe import MARGIN
from tests.sync.conftest import Sync
from tests.sync.exchange import FakeExchange, device
from tests.sync.worlds import codes, listed, present

pytestmark = pytest.mark.django_db
QUICK = SyncRun.Kind.QUICK


@pytest.fixture
def synced(sync: Sync, exchange: FakeExchange) -> FakeExchange:
    """After one full sync."""
    sync()
    exchange.filters.clear()
    return exchange


def states() -> dict[str, str]:
    return dict(MobileDevice.objects.filter(gone_at=None).values_list("device_id", "access_state"))


def test_the_first_one_is_a_full_one(sync: Sync, exchange: FakeExchange) -> None:
    run = sync(QUICK)
    assert run.kind == "fullSync"
    assert codes(run)[:2] == ["requested", "made_full"]
    assert exchange.filters == [None]


def test_the_phases(sync: Sync, synced: FakeExchange) -> None:
    run = sync(QUICK)
    assert codes(run) == [
        "requested",
        "claimed",
        "phase connecting",
        "server_answered",
        "phase devices",
        "succeeded",
    ]
    assert run.expected is None


def test_it_asks_for_what_is_new_since_the_last_one_and_what_is_unsettled(
    sync: Sync, synced: FakeExchange, connector: Connector
) -> None:
    connector.refresh_from_db()
    assert connector.synced_until is not None
    since = f"{connector.synced_until - MARGIN:%Y-%m-%d %H:%M:%SZ}"
    sync(QUICK)
    assert synced.filters == [
        f"(FirstSyncTime -gt '{since}') -or "
        "((DeviceAccessState -eq 'Quarantined') -or (DeviceAccessState -eq 'DeviceDiscovery'))"
    ]


def test_new_and_unsettled_devices_are_recorded(sync: Sync, synced: FakeExchange, connector: Connector) -> None:
    now = datetime.datetime.now(datetime.UTC)
    synced.put(
        device(50, first_sync_time=now),
        device(51, first_sync_time=now - MARGIN / 2),
        device(3, access_state="Quarantined"),
        device(4, access_state="DeviceDiscovery"),
        device(5, device_os="iOS 20"),  # changed, and in no filter
    )
    run = sync(QUICK)
    assert (run.observed, run.created, run.changed) == (4, 2, 2)
    assert present(connector).keys() == listed(synced).keys()
    assert states()["ID0003"] == "Quarantined"
    assert not MobileDevice.objects.filter(device_os="iOS 20").exists()
    assert sync().changed == 1


@pytest.mark.parametrize("settled", ["Allowed", "Blocked"])
def test_a_device_that_left_quarantine_is_asked_for_by_name(sync: Sync, synced: FakeExchange, settled: str) -> None:
    synced.put(device(3, access_state="Quarantined"))
    sync(QUICK)
    synced.put(device(3, access_state=settled))
    synced.filters.clear()
    run = sync(QUICK)
    assert synced.filters[1:] == ["DeviceId -eq 'ID0003'"]
    assert (run.changed, states()["ID0003"]) == (1, settled)


def test_many_of_them_in_several_filters(sync: Sync, exchange: FakeExchange) -> None:
    exchange.put(*(device(number, access_state="Quarantined") for number in range(45)))
    sync()
    exchange.put(*(device(number) for number in range(45)))
    exchange.filters.clear()
    sync(QUICK)
    assert [text.count("DeviceId") for text in exchange.filters[1:] if text] == [20, 20, 5]
    assert set(states().values()) == {"Allowed"}


def test_a_device_that_no_filter_can_name_waits_for_the_full_one(sync: Sync, exchange: FakeExchange) -> None:
    for number, name in ((3, "It’s"), (4, "a\tb"), (5, "O'Hara")):
        exchange.put(device(number, device_id=name, access_state="Quarantined"))
    sync()
    for number, name in ((3, "It’s"), (4, "a\tb"), (5, "O'Hara")):
        exchange.put(device(number, device_id=name))
    exchange.filters.clear()
    assert sync(QUICK).status == "succeeded"
    assert exchange.filters[1:] == ["DeviceId -eq 'O''Hara'"]
    assert {states()[name] for name in ("It’s", "a\tb")} == {"Quarantined"}
    sync()
    assert set(states().values()) == {"Allowed"}


def test_it_marks_nothing_as_gone(sync: Sync, synced: FakeExchange) -> None:
    synced.put(device(3, access_state="Quarantined"))
    sync(QUICK)
    synced.devices.clear()
    run = sync(QUICK)
    assert (run.status, run.gone) == ("succeeded", 0)
    assert len(states()) == 10


def test_exchange_that_reads_no_time_in_a_filter(sync: Sync, synced: FakeExchange) -> None:
    synced.refuses_time_filters = True
    synced.put(device(3, access_state="Quarantined"))
    run = sync(QUICK)
    assert (run.status, run.changed) == ("succeeded", 1)
    assert "filter_refused" in codes(run)
    assert "FirstSyncTime" not in str(synced.filters[-1])


def test_times_afterwards(sync: Sync, synced: FakeExchange, connector: Connector) -> None:
    connector.refresh_from_db()
    full_at = connector.last_full_sync_at
    run = sync(QUICK)
    connector.refresh_from_db()
    assert connector.last_full_sync_at == full_at
    assert connector.last_successful_sync_at == run.finished_at
    assert connector.synced_until == run.started_at


def test_a_failed_one_leaves_the_time_for_the_next(sync: Sync, synced: FakeExchange, connector: Connector) -> None:
    from connectors.exchange.errors import StopError

    connector.refresh_from_db()
    before = connector.synced_until
    synced.at("listing", StopError("no", code="authentication_failed"))
    assert sync(QUICK).status == "failed"
    connector.refresh_from_db()
    assert connector.synced_until == before

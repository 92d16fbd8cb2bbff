"""A full sync: its phases, what it keeps of each kind of device, and when it marks devices as gone."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from django.utils import timezone

from connectors.models import ClientAccessServer, Connector
from sync.models import MobileDevice, SyncRun
from tests.sync.conftest import Sync
from tests.sync.exchange import FakeExchange, device
from tests.sync.worlds import codes, event, listed, present

pytestmark = pytest.mark.django_db


def counts(run: SyncRun) -> dict[str, int]:
    names = ("observed", "created", "changed", "unchanged", "gone", "rejected")
    return {name: getattr(run, name) for name in names if getattr(run, name)}


def row(number: int) -> MobileDevice:
    return MobileDevice.objects.get(guid=uuid.UUID(int=number + 1))


def test_the_phases_in_order(sync: Sync) -> None:
    run = sync()
    assert codes(run) == [
        "requested",
        "claimed",
        "phase connecting",
        "server_answered",
        "phase organization",
        "organization_read",
        "phase devices",
        "listing_complete",
        "phase sweeping",
        "succeeded",
    ]
    assert (run.status, run.phase, run.attempt) == ("succeeded", "finished", 1)
    assert run.started_at is not None
    assert run.finished_at is not None
    assert run.queued_at <= run.started_at <= run.finished_at
    assert run.devices_started_at is not None
    assert (run.exchange_server, run.connector_server) == ("ex01.contoso.com", "worker-1")
    assert run.lease_expires_at is None


def test_a_first_sync_holds_every_value(sync: Sync, connector: Connector, exchange: FakeExchange) -> None:
    exchange.put(
        device(3, friendly_name="Grüße 電話 📱 ‏עברית", device_imei="35 2", first_sync_time=None, access_state="New!")
    )
    run = sync()
    assert counts(run) == {"observed": 10, "created": 10}
    assert present(connector) == listed(exchange)


def test_the_connector_afterwards(sync: Sync, connector: Connector) -> None:
    run = sync()
    connector.refresh_from_db()
    assert (connector.status, connector.last_error_code) == ("connected", "")
    assert (connector.exchange_server, connector.connector_server) == ("ex01.contoso.com", "worker-1")
    assert connector.last_successful_sync_at == connector.last_full_sync_at
    assert connector.synced_until == run.started_at
    connector.organization.refresh_from_db()
    assert (connector.organization.version, connector.organization.default_access_level) == ("2019", "Quarantine")
    assert set(connector.servers.values_list("fqdn", "source", "is_usable")) == {
        ("ex01.contoso.com", "configured", True),
        ("ex02.contoso.com", "configured", True),
    }


def test_servers_that_exchange_names_are_listed_and_not_used(
    sync: Sync, connector: Connector, exchange: FakeExchange
) -> None:
    exchange.servers = (*exchange.servers, replace(exchange.servers[0], fqdn="EX09.contoso.com"))
    sync()
    found = ClientAccessServer.objects.get(fqdn="ex09.contoso.com")
    assert (found.source, found.is_usable) == ("discovered", False)


CHANGES: dict[str, tuple[Callable[[FakeExchange], Any], dict[str, int]]] = {
    "nothing": (lambda e: None, {"observed": 10, "unchanged": 10}),
    "one value": (
        lambda e: e.put(device(2, access_state="Blocked")),
        {"observed": 10, "changed": 1, "unchanged": 9},
    ),
    "other bytes, same values": (lambda e: setattr(e, "salt", "x"), {"observed": 10, "unchanged": 10}),
    "one more": (lambda e: e.put(device(77)), {"observed": 11, "created": 1, "unchanged": 10}),
    "two fewer": (lambda e: e.take(1, 8), {"observed": 8, "unchanged": 8, "gone": 2}),
    "another order": (
        lambda e: setattr(e, "devices", dict(reversed(e.devices.items()))),
        {"observed": 10, "unchanged": 10},
    ),
}


@pytest.mark.parametrize(("change", "expected"), CHANGES.values(), ids=CHANGES.keys())
def test_the_second_sync(
    sync: Sync,
    connector: Connector,
    exchange: FakeExchange,
    change: Callable[[FakeExchange], Any],
    expected: dict[str, int],
) -> None:
    sync()
    change(exchange)
    assert counts(sync()) == expected
    assert present(connector) == listed(exchange)


def test_changed_at_moves_only_for_what_changed(sync: Sync, exchange: FakeExchange) -> None:
    sync()
    before = dict(MobileDevice.objects.values_list("device_id", "changed_at"))
    exchange.salt = "other bytes"
    exchange.put(device(2, device_os="iOS 20"))
    sync()
    after = dict(MobileDevice.objects.values_list("device_id", "changed_at"))
    assert {name for name in before if before[name] != after[name]} == {"ID0002"}


def test_a_device_that_is_gone_keeps_its_row_and_comes_back(
    sync: Sync, connector: Connector, exchange: FakeExchange
) -> None:
    sync()
    first = row(4)
    exchange.take(4)
    run = sync()
    assert event(run, "gone_marked").params == {"gone": 1}
    assert row(4).gone_at is not None
    exchange.put(device(4))
    assert counts(sync()) == {"observed": 10, "changed": 1, "unchanged": 9}
    back = row(4)
    assert (back.pk, back.public_id, back.first_observed_at) == (first.pk, first.public_id, first.first_observed_at)
    assert back.gone_at is None
    assert back.changed_at > first.changed_at


def test_a_device_that_comes_back_changed(sync: Sync, connector: Connector, exchange: FakeExchange) -> None:
    sync()
    exchange.take(4)
    sync()
    exchange.put(device(4, device_os="iOS 20"))
    assert counts(sync()) == {"observed": 10, "changed": 1, "unchanged": 9}
    assert present(connector) == listed(exchange)


def test_a_partnership_made_anew_is_another_row(sync: Sync, exchange: FakeExchange) -> None:
    """Removed and synchronised again: another AD object under the same mailbox and DeviceId."""
    sync()
    again = device(4, guid=uuid.UUID(int=4000))
    exchange.take(4)
    exchange.put(again)
    assert counts(sync()) == {"observed": 10, "created": 1, "unchanged": 9, "gone": 1}
    rows = MobileDevice.objects.filter(device_id_key="id0004")
    assert sorted(r.gone_at is None for r in rows) == [False, True]
    assert len({(r.mailbox_key, r.device_id_key) for r in rows}) == 1


def test_the_same_device_id_in_two_mailboxes(sync: Sync, connector: Connector, exchange: FakeExchange) -> None:
    exchange.put(device(20, device_id="ID0004"))
    sync()
    assert MobileDevice.objects.filter(device_id="ID0004", gone_at=None).count() == 2


def test_one_object_twice_in_a_listing(sync: Sync, exchange: FakeExchange) -> None:
    """A page may repeat what the one before held; later wins, nothing is doubled."""
    exchange.devices[uuid.UUID(int=999)] = exchange.devices[uuid.UUID(int=1)]
    exchange.devices[uuid.UUID(int=998)] = replace(exchange.devices[uuid.UUID(int=2)], device_os="iOS 20")
    sync()
    assert MobileDevice.objects.count() == 10
    assert row(1).device_os == "iOS 20"


class TestWhatCannotBeRead:
    def test_it_is_counted_and_told_and_left_as_it_was(self, sync: Sync, exchange: FakeExchange) -> None:
        sync()
        exchange.broken.add(uuid.UUID(int=3 + 1))
        exchange.salt = "all bytes new"
        run = sync()
        assert (run.status, counts(run)) == ("succeeded", {"observed": 10, "unchanged": 9, "rejected": 1})
        assert "DeviceId is missing\ufffd" in event(run, "rejected").params["reason"]
        assert row(3).gone_at is None

    def test_nothing_is_marked_as_gone_then(self, sync: Sync, exchange: FakeExchange) -> None:
        sync()
        exchange.take(5)
        exchange.broken.add(uuid.UUID(int=3 + 1))
        exchange.salt = "all bytes new"
        run = sync()
        assert event(run, "sweep_skipped").params == {"rejected": 1}
        assert row(5).gone_at is None

    def test_many_are_told_by_example(self, sync: Sync, exchange: FakeExchange) -> None:
        exchange.put(*(device(number) for number in range(10, 60)))
        exchange.broken.update(exchange.devices)
        run = sync()
        assert (run.rejected, codes(run).count("rejected")) == (60, 20)


class TestDoubtfulListing:
    """Most devices missing from a complete listing: not believed until the next one agrees."""

    @pytest.fixture
    def many(self, exchange: FakeExchange) -> FakeExchange:
        exchange.put(*(device(number) for number in range(30)))
        return exchange

    def test_an_empty_listing_marks_nothing_the_first_time(self, sync: Sync, many: FakeExchange) -> None:
        sync()
        many.devices.clear()
        run = sync()
        assert (run.status, run.gone) == ("succeeded", 0)
        assert event(run, "sweep_held").params == {"missing": 30, "known": 30}
        assert MobileDevice.objects.filter(gone_at=None).count() == 30

    def test_the_second_one_that_agrees_is_believed(self, sync: Sync, many: FakeExchange) -> None:
        sync()
        many.devices.clear()
        sync()
        run = sync()
        assert run.gone == 30
        assert not MobileDevice.objects.filter(gone_at=None).exists()

    def test_a_quick_or_failed_sync_between_confirms_nothing(self, sync: Sync, many: FakeExchange) -> None:
        sync()
        everything = dict(many.devices)
        many.devices.clear()
        sync()
        sync("deltaSync")
        many.devices = everything
        sync()
        many.devices = {}
        assert "sweep_held" in codes(sync()), "the doubt was over when all were seen again"

    @pytest.mark.parametrize(
        ("held", "left", "is_held"),
        [(30, 15, False), (30, 14, True), (30, 0, True), (9, 0, False), (10, 0, True), (100, 91, False)],
    )
    def test_how_many_are_too_many(
        self, sync: Sync, exchange: FakeExchange, held: int, left: int, is_held: bool
    ) -> None:
        exchange.devices.clear()
        exchange.put(*(device(number) for number in range(held)))
        sync()
        exchange.take(*range(left, held))
        run = sync()
        assert ("sweep_held" in codes(run)) is is_held
        assert run.gone == (0 if is_held else held - left)


def test_expected_is_what_was_known_before(sync: Sync, exchange: FakeExchange) -> None:
    assert sync().expected == 0
    exchange.put(device(70))
    assert sync().expected == 10


def test_devices_of_another_organisation_are_not_touched(sync: Sync, connector: Connector) -> None:
    from tests.connectors import factories

    other = factories.organization("Other")
    now = timezone.now()
    MobileDevice.objects.create(
        organization=other,
        guid=uuid.UUID(int=1),
        identity="x",
        device_id="ID0000",
        device_id_key="id0000",
        wire_digest=b"0" * 16,
        first_observed_at=now,
        changed_at=now,
    )
    sync()
    kept = MobileDevice.objects.get(organization=other)
    assert (kept.gone_at, kept.identity, kept.seen_fence) == (None, "x", 0)


def test_text_that_no_column_takes(sync: Sync, connector: Connector, exchange: FakeExchange) -> None:
    exchange.put(device(1, friendly_name="a\0b", device_model="m" * 400, device_user_agent="u" * 5000))
    sync()
    held = row(1)
    assert (held.friendly_name, held.device_model, len(held.device_user_agent)) == ("a\ufffdb", "m" * 255, 5000)
    run = sync()
    assert run.unchanged == 10, "what was cut is not found different for ever"

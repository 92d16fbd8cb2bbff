"""Mailboxes as rows: what is read is kept, what is missing is asked for before it is gone, whose device is whose."""

from __future__ import annotations

import datetime
from collections.abc import Callable

import pytest
from django.utils import timezone

from connectors.exchange.errors import TransientError
from connectors.models import Connector
from sync.models import Command, Mailbox, MobileDevice, SyncRun
from sync.observing.mailboxes import dn_key, mailbox_dn, mailbox_store, mailboxes_refresh
from tests.factories import CommandFactory, MailboxFactory
from tests.sync.access import govern
from tests.sync.exchange import FakeExchange, FakeSession, device, mailbox, user
from tests.sync.worlds import codes, event

Sync = Callable[..., SyncRun]
QUICK = SyncRun.Kind.QUICK
NOW = timezone.now()


@pytest.fixture
def governed(connector: Connector, exchange: FakeExchange) -> Connector:
    exchange.put_people(*range(10))
    govern(connector)
    return connector


def owners() -> dict[str, str]:
    rows = MobileDevice.objects.filter(gone_at=None, owner__isnull=False)
    return dict(rows.values_list("device_id", "owner__display_name"))


def held() -> set[str]:
    return set(Mailbox.objects.filter(gone_at=None).values_list("display_name", flat=True))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("CN=iPhone§X,CN=ExchangeActiveSyncDevices,CN=Ada,DC=contoso,DC=com", "CN=Ada,DC=contoso,DC=com"),
        (r"CN=a\,b,CN=ExchangeActiveSyncDevices,CN=Lang\, Ada,DC=x", r"CN=Lang\, Ada,DC=x"),
        # A phone names itself: one that ends in a backslash must not hide whose it is.
        (r"CN=x\\,CN=ExchangeActiveSyncDevices,CN=Ada,DC=x", "CN=Ada,DC=x"),
        ("CN=one,CN=two", ""),
        ("", ""),
    ],
)
def test_the_mailbox_stands_two_levels_above_its_device(name: str, expected: str) -> None:
    assert mailbox_dn(name) == expected


def test_a_distinguished_name_is_compared_without_case() -> None:
    assert dn_key("CN=Ada,DC=Contoso") == dn_key("cn=ada,dc=contoso")


class TestFull:
    def test_rows_are_what_exchange_has(self, governed: Connector, exchange: FakeExchange, sync: Sync) -> None:
        exchange.change_box(3, allowed_device_ids=("A",), blocked_device_ids=("B", "C"), active_sync_enabled=False)

        sync()

        row = Mailbox.objects.get(guid=mailbox(3).guid)
        assert (row.allowed, row.blocked, row.activesync_enabled) == (["A"], ["B", "C"], False)
        assert (row.sam, row.domain, row.upn, row.sid) == (
            "person3", "contoso.com", "person3@contoso.com", user(3).sid,
        )  # fmt: skip
        assert owners() == {f"ID{n:04d}": f"Person {n}" for n in range(10)}

    def test_a_mailbox_that_left_the_listing_is_asked_for(
        self, governed: Connector, exchange: FakeExchange, sync: Sync
    ) -> None:
        sync()
        exchange.change_box(1, has_active_sync_device_partnership=False)
        del exchange.mailboxes[mailbox(2).guid]

        run = sync()

        assert "Person 1" in held()
        assert "Person 2" not in held()
        assert "ID0002" not in owners()
        assert run.status == SyncRun.Status.SUCCEEDED

    def test_most_of_them_missing_is_not_believed_the_first_time(
        self, governed: Connector, exchange: FakeExchange, sync: Sync
    ) -> None:
        exchange.put_people(*range(20))
        sync()
        for number in range(15):
            del exchange.mailboxes[mailbox(number).guid]

        assert event(sync(), "mailbox_sweep_held").params == {"missing": 15, "known": 20}
        assert len(held()) == 20
        assert "mailbox_sweep_held" not in codes(sync())
        assert len(held()) == 5

    def test_what_comes_back_is_there_again(self, governed: Connector, exchange: FakeExchange, sync: Sync) -> None:
        sync()
        gone = exchange.mailboxes.pop(mailbox(2).guid)
        sync()
        exchange.mailboxes[gone.guid] = gone

        sync()

        assert "Person 2" in held()
        assert owners()["ID0002"] == "Person 2"

    def test_a_device_that_exchange_counts_as_no_partnership_finds_its_mailbox(
        self, governed: Connector, exchange: FakeExchange, sync: Sync
    ) -> None:
        exchange.change_box(4, has_active_sync_device_partnership=False)

        sync()

        assert owners()["ID0004"] == "Person 4"

    def test_a_listing_that_breaks_is_begun_again_and_marks_nothing(
        self, governed: Connector, exchange: FakeExchange, sync: Sync
    ) -> None:
        sync()
        exchange.at("mailboxes", TransientError("gone", code="connection_dropped"))

        run = sync()

        assert run.status == SyncRun.Status.SUCCEEDED
        assert len(held()) == 10

    def test_what_no_database_takes_is_replaced(self, governed: Connector, exchange: FakeExchange, sync: Sync) -> None:
        exchange.change_box(0, display_name="A\0B" + "x" * 600, allowed_device_ids=("I\0D",))

        sync()

        row = Mailbox.objects.get(guid=mailbox(0).guid)
        assert (row.display_name[:3], len(row.display_name), row.allowed) == ("A\ufffdB", 512, ["I\ufffdD"])


class TestQuick:
    def test_nothing_changed_asks_for_no_mailbox(self, governed: Connector, exchange: FakeExchange, sync: Sync) -> None:
        sync()
        MobileDevice.objects.update(changed_at=NOW - datetime.timedelta(days=2))
        exchange.mailbox_filters.clear()

        sync(QUICK)

        assert exchange.mailbox_filters == []

    def test_a_changed_devices_mailbox_alone_is_read(
        self, governed: Connector, exchange: FakeExchange, sync: Sync
    ) -> None:
        sync()
        MobileDevice.objects.update(changed_at=NOW - datetime.timedelta(days=2))
        exchange.put(device(5, access_state="Quarantined"))
        exchange.change_box(5, allowed_device_ids=("X",))
        exchange.change_box(6, allowed_device_ids=("Y",))
        exchange.mailbox_filters.clear()

        sync(QUICK)

        assert exchange.mailbox_filters == ["1 by guid"]
        assert Mailbox.objects.get(guid=mailbox(5).guid).allowed == ["X"]
        assert Mailbox.objects.get(guid=mailbox(6).guid).allowed == []


class TestStore:
    """What was read later is not overwritten by what was read before it."""

    def _box(self, connector: Connector, **values: object) -> Mailbox:
        usual = {"guid": mailbox(0).guid, "read_at": NOW - datetime.timedelta(minutes=1)}
        made: Mailbox = MailboxFactory(organization=connector.organization, **{**usual, **values})
        return made

    def test_of_two_readings_the_later_counts(self, connector: Connector) -> None:
        box = self._box(connector, allowed=["NEW"], read_at=NOW)

        changed = mailbox_store(connector.organization_id, [mailbox(0)], asked_at=NOW - datetime.timedelta(seconds=5))

        box.refresh_from_db()
        assert (changed, box.allowed, box.read_at) == (set(), ["NEW"], NOW)

    @pytest.mark.parametrize("state", Command.State.values)
    def test_not_while_a_command_is_under_way(self, connector: Connector, state: str) -> None:
        box = self._box(connector, allowed=["OLD"])
        CommandFactory(mailbox=box, state=state)

        mailbox_store(connector.organization_id, [mailbox(0)], asked_at=NOW)

        box.refresh_from_db()
        assert box.allowed == (["OLD"] if state in Command.OPEN else [])

    def test_the_same_again_changes_nothing(self, connector: Connector) -> None:
        first = mailbox_store(connector.organization_id, [mailbox(0)], asked_at=NOW)
        later = NOW + datetime.timedelta(minutes=1)

        assert mailbox_store(connector.organization_id, [mailbox(0)], asked_at=later) == set()
        box = Mailbox.objects.get(pk=first.pop())
        assert (box.changed_at, box.read_at) == (NOW, later)

    def test_refreshing_some(self, connector: Connector, exchange: FakeExchange) -> None:
        exchange.put_people(0, 1)
        pks = mailbox_store(connector.organization_id, [mailbox(0), mailbox(1), mailbox(2)], asked_at=NOW)
        exchange.change_box(1, blocked_device_ids=("X",))

        changed = mailboxes_refresh(FakeSession(exchange, lambda: False), connector.organization_id, pks)

        rows = {row.guid: row for row in Mailbox.objects.all()}
        assert changed == {rows[mailbox(1).guid].pk, rows[mailbox(2).guid].pk}
        assert rows[mailbox(1).guid].blocked == ["X"]
        assert rows[mailbox(2).guid].gone_at is not None

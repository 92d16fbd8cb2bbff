"""What must never happen: people who lose mail by a mistake that nobody looked at, and phones that stay in although an
administrator said out."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pytest
from django.utils import timezone

from connectors.actors import Actor
from connectors.models import Connector, DeviceSource
from sync.acting import journal
from sync.enforcing.approvals import approval_approve
from sync.models import Approval, Command, LedgerEntry, ManagedDevice, MobileDevice, SyncRun
from sync.policies.overrides import link_set, override_set
from sync.records.sources import RefreshReport
from tests.sync.access import enrolled, govern, organize, record
from tests.sync.exchange import FakeExchange, device, mailbox
from tests.sync.worlds import event

Sync = Callable[..., SyncRun]
QUICK, FULL, APPLY = SyncRun.Kind.QUICK, SyncRun.Kind.FULL, SyncRun.Kind.APPLY
ADA = Actor(name="Ada")
NUMBER = 40


@pytest.fixture(autouse=True)
def _world(exchange: FakeExchange) -> None:
    """Forty phones with their mailboxes, in pages that hold all."""
    exchange.put(*(device(number) for number in range(NUMBER)))
    exchange.put_people(*range(NUMBER))
    exchange.page_size = 100


def default(exchange: FakeExchange, level: str) -> None:
    exchange.settings = exchange.settings.__class__(level, "", ())


def block(number: int) -> None:
    phone = MobileDevice.objects.get(device_id=device(number).device_id)
    override_set(devices=[phone], level="block", reason="Stolen", expires_at=None, actor=ADA)


def let_in(exchange: FakeExchange) -> int:
    return sum(1 for box in exchange.mailboxes.values() if box.allowed_device_ids)


def kept_out(exchange: FakeExchange) -> int:
    return sum(1 for box in exchange.mailboxes.values() if box.blocked_device_ids)


def deny(numbers: Iterable[int]) -> None:
    ids = [device(number).device_id for number in numbers]
    ManagedDevice.objects.filter(eas_device_id__in=ids).update(compliance="noncompliant")


class TestAnAdministratorsBlock:
    """A stolen phone: nothing may keep the word of a person from being carried out."""

    def test_counts_although_no_records_were_ever_read(
        self, connector: Connector, exchange: FakeExchange, sync: Sync
    ) -> None:
        default(exchange, "Allow")
        govern(connector)
        DeviceSource.objects.update(last_pushed_at=None)
        sync()
        block(3)

        sync(APPLY)

        assert exchange.box(3).blocked_device_ids == ("ID0003",)
        assert kept_out(exchange) == 1

    def test_counts_while_records_cannot_be_read(
        self, connector: Connector, exchange: FakeExchange, sync: Sync
    ) -> None:
        default(exchange, "Allow")
        govern(connector)
        enrolled(connector, *range(NUMBER))
        sync()
        block(3)
        ManagedDevice.objects.filter(source_id="record-4").update(compliance="noncompliant")

        sync(records=RefreshReport("graph", error_code="graph_unavailable", is_complete=False))

        assert exchange.box(3).blocked_device_ids == ("ID0003",)
        assert kept_out(exchange) == 1

    def test_counts_while_the_phone_waits_for_approval_and_others_do(
        self, connector: Connector, exchange: FakeExchange, sync: Sync
    ) -> None:
        default(exchange, "Allow")
        govern(connector)
        sync()
        assert Approval.objects.get().denials.count() == NUMBER
        block(3)

        sync(QUICK, records=RefreshReport("graph", mailboxes=frozenset([owner(3)])))

        assert exchange.box(3).blocked_device_ids == ("ID0003",)
        assert kept_out(exchange) == 1
        assert Approval.objects.get().denials.count() == NUMBER - 1


def owner(number: int) -> int:
    return MobileDevice.objects.values_list("owner_id", flat=True).get(device_id=device(number).device_id) or 0


class TestApproval:
    def test_of_a_stricter_default_is_over_when_that_was_taken_back(
        self, connector: Connector, exchange: FakeExchange, sync: Sync
    ) -> None:
        """The same flip, months later, is another question."""
        default(exchange, "Allow")
        govern(connector, enabled=False)
        sync()
        organize(connector, default_level="block")
        sync(APPLY)
        approval_approve(approval=Approval.objects.get(), actor=ADA)
        sync(APPLY)
        assert exchange.settings.default_access_level == "Block"
        organize(connector, default_level="allow")
        sync(APPLY)
        assert exchange.settings.default_access_level == "Allow"

        organize(connector, default_level="block")
        sync(APPLY)

        assert exchange.settings.default_access_level == "Allow"
        assert Approval.objects.get(state=Approval.State.WAITING).denials.count() == NUMBER


class TestGuardCounts:
    def test_phones_whose_mailbox_is_not_known(self, connector: Connector, exchange: FakeExchange, sync: Sync) -> None:
        """A default level denies them as well as others."""
        default(exchange, "Allow")
        for number in range(1, NUMBER):
            exchange.mailboxes.pop(mailbox(number).guid)
        govern(connector, enabled=False)
        organize(connector, default_level="block")

        run = sync()

        assert exchange.settings.default_access_level == "Allow"
        assert run.held == NUMBER
        approval_approve(approval=Approval.objects.get(), actor=ADA)
        sync(APPLY)
        assert exchange.settings.default_access_level == "Block"

    def test_whom_nobody_was_asked_about_although_an_approval_had_the_run_made(
        self, connector: Connector, exchange: FakeExchange, sync: Sync
    ) -> None:
        default(exchange, "Allow")
        govern(connector)
        enrolled(connector, *range(NUMBER))
        sync()
        deny(range(15))
        sync()
        approval_approve(approval=Approval.objects.get(), actor=ADA)
        deny(range(15, 23))
        sync(APPLY)
        assert kept_out(exchange) == 15 + 8
        deny(range(23, 27))

        run = sync()

        assert kept_out(exchange) == 15 + 8
        assert run.held == 4


class TestAbsence:
    """An entry lets somebody in: it must not go because a listing did not show the phone."""

    @pytest.fixture(autouse=True)
    def _compliant(self, connector: Connector, exchange: FakeExchange, sync: Sync) -> None:
        default(exchange, "Quarantine")
        govern(connector)
        enrolled(connector, *range(NUMBER))
        sync()
        assert let_in(exchange) == NUMBER

    def test_of_many_phones_at_once_withdraws_nothing(
        self, connector: Connector, exchange: FakeExchange, sync: Sync
    ) -> None:
        """Less than half of them, so that the sweep believes it."""
        exchange.take(*range(15))

        run = sync()

        assert run.gone == 15
        assert let_in(exchange) == NUMBER

    def test_of_one_phone_withdraws_its_entry(self, connector: Connector, exchange: FakeExchange, sync: Sync) -> None:
        exchange.take(0)

        sync()

        assert let_in(exchange) == NUMBER - 1

    def test_a_person_who_was_moved_keeps_all_phones(
        self, connector: Connector, exchange: FakeExchange, sync: Sync
    ) -> None:
        """Into another organizational unit: a quick sync sees one of the two phones under its new name."""
        second = device(
            50,
            distinguished_name=f"CN=Pad§50,CN=ExchangeActiveSyncDevices,{mailbox(0).distinguished_name}",
            mailbox=mailbox(0).identity,
        )
        exchange.put(second)
        record(connector, 50, user_source_id="user-0")
        sync()
        assert set(exchange.box(0).allowed_device_ids) == {"ID0000", "ID0050"}
        moved = "CN=Person 0,OU=Sales,DC=contoso,DC=com"
        exchange.change_box(0, distinguished_name=moved)
        under = f"CN=ExchangeActiveSyncDevices,{moved}"
        exchange.put(
            device(0, distinguished_name=f"CN=Phone§0,{under}", access_state="Quarantined"),
            device(
                50,
                distinguished_name=f"CN=Pad§50,{under}",
                mailbox=mailbox(0).identity,
            ),
        )

        sync(QUICK)

        assert set(exchange.box(0).allowed_device_ids) == {"ID0000", "ID0050"}


class TestIds:
    def test_a_link_of_an_id_that_folds_to_another_counts(
        self, connector: Connector, exchange: FakeExchange, sync: Sync
    ) -> None:
        default(exchange, "Quarantine")
        govern(connector)
        enrolled(connector, *range(NUMBER))
        exchange.put(device(0, device_id="STRAßE"))
        sync()
        assert exchange.box(0).allowed_device_ids == ()
        phone = MobileDevice.objects.get(device_id="STRAßE")

        link_set(device=phone, record=ManagedDevice.objects.get(source_id="record-0"), kind="link", actor=ADA)
        sync(APPLY)

        assert exchange.box(0).allowed_device_ids == ("STRAßE",)


class TestSource:
    def test_none_any_more_denies_nobody(self, connector: Connector, exchange: FakeExchange, sync: Sync) -> None:
        default(exchange, "Quarantine")
        govern(connector)
        enrolled(connector, *range(5))
        sync()
        DeviceSource.objects.update(kind=DeviceSource.Kind.NONE)
        ManagedDevice.objects.update(presence="gone", gone_at=timezone.now())

        run = sync(records=RefreshReport("none"))

        assert let_in(exchange) == 5
        assert event(run, "withheld").params["reason"] == "noSource"


class TestAfterDoubt:
    """What a run withheld or never came to is made up for by the next quick sync that may."""

    def test_what_was_withheld_while_records_could_not_be_read(
        self, connector: Connector, exchange: FakeExchange, sync: Sync
    ) -> None:
        default(exchange, "Allow")
        govern(connector)
        enrolled(connector, *range(NUMBER))
        sync()
        exchange.put(device(60, first_sync_time=timezone.now()))
        exchange.put_people(60)
        sync(QUICK, records=RefreshReport("graph", error_code="graph_unavailable", is_complete=False))
        assert exchange.box(60).blocked_device_ids == ()

        sync(QUICK)
        assert SyncRun.objects.latest("pk").kind == APPLY
        sync(APPLY)

        assert exchange.box(60).blocked_device_ids == ("ID0060",)
        sync(QUICK)
        assert SyncRun.objects.latest("pk").kind == QUICK

    def test_what_was_withheld_while_there_were_no_records_at_all(
        self, connector: Connector, exchange: FakeExchange, sync: Sync
    ) -> None:
        default(exchange, "Allow")
        govern(connector, guard_devices=1000)
        DeviceSource.objects.update(last_pushed_at=None)
        sync()
        sync(QUICK)
        assert SyncRun.objects.latest("pk").kind == QUICK

        DeviceSource.objects.update(last_pushed_at=timezone.now())
        sync(QUICK)
        sync(APPLY)

        assert SyncRun.objects.filter(kind=APPLY).count() == 1
        assert SyncRun.objects.get(kind=APPLY).trigger == SyncRun.Trigger.SCHEDULE
        assert kept_out(exchange) == NUMBER

    def test_what_was_only_observed(self, connector: Connector, exchange: FakeExchange, sync: Sync) -> None:
        default(exchange, "Quarantine")
        govern(connector)
        enrolled(connector, *range(3))
        Connector.objects.update(is_observe_only=True)
        sync()
        sync(QUICK)
        assert SyncRun.objects.latest("pk").kind == QUICK
        Connector.objects.update(is_observe_only=False)

        sync(QUICK)
        sync(APPLY)

        assert let_in(exchange) == 3
        assert SyncRun.objects.get(kind=APPLY).trigger == SyncRun.Trigger.SCHEDULE
        sync(QUICK)
        assert SyncRun.objects.latest("pk").kind == QUICK

    def test_records_that_a_run_read_which_then_failed(
        self, connector: Connector, exchange: FakeExchange, sync: Sync
    ) -> None:
        default(exchange, "Allow")
        govern(connector)
        enrolled(connector, *range(NUMBER))
        sync()
        ManagedDevice.objects.filter(source_id="record-4").update(compliance="noncompliant")
        exchange.at("mailboxes", ValueError("a fault"))
        failed = sync(records=RefreshReport("graph", mailboxes=frozenset([owner(4)]), changed=1))
        assert failed.status == SyncRun.Status.FAILED

        sync(QUICK)
        assert SyncRun.objects.latest("pk").kind == APPLY
        sync(APPLY)

        assert exchange.box(4).blocked_device_ids == ("ID0004",)


FirstSent = Callable[[Callable[[], object]], None]


@pytest.fixture
def first_sent(monkeypatch: pytest.MonkeyPatch) -> FirstSent:
    """Something that happens when the first command of the next order has been marked as sent."""

    def plan(happens: Callable[[], object]) -> None:
        real, left = journal.sent_mark, [happens]

        def sent_mark(*args: Any) -> set[int]:
            mine = real(*args)
            if left:
                left.pop()()
            return mine

        monkeypatch.setattr(journal, "sent_mark", sent_mark)

    return plan


class TestBrakes:
    def test_a_policy_taken_back_while_a_run_acts_is_not_enforced_any_more(
        self, connector: Connector, exchange: FakeExchange, sync: Sync, first_sent: FirstSent
    ) -> None:
        default(exchange, "Allow")
        govern(connector, guard_devices=1000)
        enrolled(connector, *range(NUMBER - 1))
        sync()
        record(connector, NUMBER - 1, compliance="noncompliant")
        organize(connector, default_level="block")
        # The run has decided, and sends the entries that come before settings.
        first_sent(lambda: organize(connector, default_level="allow"))

        sync(APPLY)

        assert exchange.settings.default_access_level == "Allow"

    def test_observing_only_holds_from_the_next_command_on(
        self, connector: Connector, exchange: FakeExchange, sync: Sync, first_sent: FirstSent
    ) -> None:
        default(exchange, "Quarantine")
        govern(connector)
        enrolled(connector, *range(NUMBER))
        Connector.objects.update(parallel_commands=1)
        first_sent(lambda: Connector.objects.update(is_observe_only=True))

        run = sync()

        assert let_in(exchange) == 1
        assert run.status == SyncRun.Status.SUCCEEDED
        assert Command.objects.filter(state=Command.State.OBSERVED).count() == NUMBER - 1
        assert LedgerEntry.objects.count() == let_in(exchange)

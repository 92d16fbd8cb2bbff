"""Runs that decide and act: against a small Exchange, with the policy, records and people in the tables."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.utils import timezone

from connectors.actors import Actor
from connectors.exchange.errors import BadRequestError, NotPermittedError
from connectors.models import Connector, DeviceSource
from sync.enforcing.approvals import approval_approve, approval_raise, approval_reject
from sync.models import (
    AccessOverride,
    Approval,
    Command,
    DeviceAccess,
    DeviceEvent,
    Drift,
    LedgerEntry,
    Mailbox,
    ManagedDevice,
    MobileDevice,
    OrganizationLedger,
    SyncRun,
)
from sync.policies.policy import GroupRef, RuleValues
from sync.records.sources import RefreshReport
from tests.factories import OverrideFactory
from tests.sync.access import enrolled, govern, organize, person, record, rows, states
from tests.sync.exchange import FakeExchange, device, mailbox
from tests.sync.worlds import codes, event

Sync = Callable[..., SyncRun]
QUICK, FULL, APPLY = SyncRun.Kind.QUICK, SyncRun.Kind.FULL, SyncRun.Kind.APPLY
ADA = Actor(name="Ada")


@pytest.fixture(autouse=True)
def _world(exchange: FakeExchange) -> None:
    """Ten devices with their mailboxes; Exchange quarantines whom nothing else lets in."""
    exchange.put_people(*range(10))


def allowed(exchange: FakeExchange) -> dict[int, tuple[str, ...]]:
    return {number: box.allowed_device_ids for number in range(10) if (box := exchange.box(number)).allowed_device_ids}


class TestFull:
    def test_whoever_is_compliant_is_let_in_and_the_rest_stays_as_it_is(
        self, connector: Connector, exchange: FakeExchange, sync: Sync
    ) -> None:
        govern(connector)
        enrolled(connector, 0, 1, 2)
        enrolled(connector, 3, compliance="noncompliant")

        run = sync()

        assert run.status == SyncRun.Status.SUCCEEDED
        assert allowed(exchange) == {n: (f"ID{n:04d}",) for n in (0, 1, 2)}
        assert rows(connector)["ID0000"] == "alwaysAllowed"
        assert rows(connector)["ID0003"] == "notCompliant"
        assert rows(connector)["ID0009"] == "noRecord"
        assert states(connector)["ID0009"] == "quarantined"
        assert (run.decided, run.to_allow, run.to_deny) == (10, 3, 0)
        assert (run.commands_planned, run.commands_done, run.commands_failed) == (3, 3, 0)
        assert [phase for phase in codes(run) if phase.startswith("phase")] == [
            f"phase {name}"
            for name in (
                "connecting", "organization", "devices", "sweeping", "records", "mailboxes", "deciding", "acting",
            )
        ]  # fmt: skip

    def test_the_second_sync_sends_nothing(self, connector: Connector, exchange: FakeExchange, sync: Sync) -> None:
        govern(connector)
        enrolled(connector, *range(5))
        sync()
        before = list(exchange.written)

        full, quick = sync(), sync(QUICK)

        assert exchange.written == before
        assert "nothing_to_do" in codes(full)
        assert full.commands_planned == quick.commands_planned == 0

    def test_an_organization_that_nothing_concerns_is_not_asked_for_mailboxes(
        self, connector: Connector, exchange: FakeExchange, sync: Sync
    ) -> None:
        run = sync()

        assert exchange.mailbox_filters == []
        assert not DeviceAccess.objects.exists()
        assert "phase deciding" not in codes(run)

    def test_a_first_sync_writes_no_line_into_any_devices_story(self, connector: Connector, sync: Sync) -> None:
        govern(connector)

        sync()

        assert not DeviceEvent.objects.exists()

    def test_several_phones_of_a_mailbox_are_one_command(
        self, connector: Connector, exchange: FakeExchange, sync: Sync
    ) -> None:
        govern(connector)
        second = device(
            20,
            distinguished_name=f"CN=Pad§20,CN=ExchangeActiveSyncDevices,{mailbox(0).distinguished_name}",
            mailbox=mailbox(0).identity,
        )
        exchange.put(second)
        enrolled(connector, 0)
        record(connector, 20, user_source_id="user-0")

        sync()

        assert len(exchange.written) == 1
        assert set(exchange.box(0).allowed_device_ids) == {"ID0000", "ID0020"}

    def test_a_mailbox_whose_command_fails_stops_nobody_else(
        self, connector: Connector, exchange: FakeExchange, sync: Sync
    ) -> None:
        govern(connector)
        enrolled(connector, 0, 1, 2)
        Connector.objects.update(parallel_commands=1)
        exchange.at("write", BadRequestError("refused", code="argument_refused"))

        run = sync()

        assert run.status == SyncRun.Status.SUCCEEDED
        assert len(allowed(exchange)) == 2
        assert (run.commands_done, run.commands_failed) == (2, 1)
        assert {"command_failed", "acted_partly"} <= set(codes(run))
        assert LedgerEntry.objects.count() == 2

        again = sync(QUICK)

        assert len(allowed(exchange)) == 3
        assert again.commands_done == 1

    def test_where_get_user_is_not_granted_people_are_found_by_their_addresses(
        self, connector: Connector, exchange: FakeExchange, sync: Sync
    ) -> None:
        govern(connector)
        enrolled(connector, 0)
        exchange.at("users", NotPermittedError("no"))

        run = sync()

        assert "accounts_unreadable" in codes(run)
        assert allowed(exchange) == {0: ("ID0000",)}

    def test_control_switched_off_withdraws_what_is_ours(
        self, connector: Connector, exchange: FakeExchange, sync: Sync
    ) -> None:
        govern(connector)
        enrolled(connector, 0, 1)
        exchange.change_box(5, allowed_device_ids=("SOMEBODYS",))
        sync()
        govern(connector, enabled=False, guard_devices=100)

        sync(APPLY)

        assert allowed(exchange) == {5: ("SOMEBODYS",)}
        assert not LedgerEntry.objects.exists()


class TestQuick:
    def test_one_change_of_compliance_is_one_command(
        self, connector: Connector, exchange: FakeExchange, sync: Sync
    ) -> None:
        govern(connector)
        enrolled(connector, 0)
        person(connector, 1)
        theirs = record(connector, 1, compliance="noncompliant")
        sync()
        exchange.written.clear()
        ManagedDevice.objects.filter(pk=theirs.pk).update(compliance="compliant")
        pk = Mailbox.objects.get(guid=mailbox(1).guid).pk

        run = sync(QUICK, records=changed(pk))

        assert len(exchange.written) == 1
        assert exchange.box(1).allowed_device_ids == ("ID0001",)
        assert run.to_allow == 1
        assert DeviceEvent.objects.filter(device__device_id="ID0001", code="verdict").count() == 1

    def test_a_new_device_is_decided_and_let_in(self, connector: Connector, exchange: FakeExchange, sync: Sync) -> None:
        govern(connector)
        enrolled(connector, 0, 11)
        sync()
        exchange.put(device(11, access_state="Quarantined", first_sync_time=timezone.now()))
        exchange.put_people(11)
        exchange.mailbox_filters.clear()

        sync(QUICK)

        assert exchange.box(11).allowed_device_ids == ("ID0011",)
        assert None not in exchange.mailbox_filters  # only what was asked for

    def test_settings_are_not_touched(self, connector: Connector, exchange: FakeExchange, sync: Sync) -> None:
        govern(connector)
        sync()
        organize(connector, default_level="block")
        exchange.put(device(0, access_state="Quarantined"))

        sync(QUICK)

        assert exchange.settings.default_access_level == "Quarantine"


def changed(*mailboxes: int, **values: Any) -> RefreshReport:
    """What reading the records comes to when changes concern these mailboxes."""
    return RefreshReport("graph", mailboxes=frozenset(mailboxes), changed=len(mailboxes), **values)


class TestDoubt:
    """What was never read, or cannot be read now, keeps nobody out."""

    @pytest.fixture(autouse=True)
    def _open(self, exchange: FakeExchange, connector: Connector) -> None:
        """Exchange lets everybody in, so that a denial is a command."""
        exchange.settings = exchange.settings.__class__("Allow", "", ())

    def test_records_that_were_never_read(self, connector: Connector, exchange: FakeExchange, sync: Sync) -> None:
        govern(connector)
        DeviceSource.objects.update(last_pushed_at=None)

        run = sync()

        assert exchange.written == []
        assert event(run, "withheld").params == {"reason": "recordsNeverRead", "devices": 10}
        assert not Approval.objects.exists()

    def test_a_group_that_was_never_read(self, connector: Connector, exchange: FakeExchange, sync: Sync) -> None:
        govern(connector, excluded_groups=(GroupRef("g1", "Board"),))

        run = sync()

        assert exchange.written == []
        assert event(run, "withheld").params["reason"] == "groupNeverRead"

    def test_records_that_cannot_be_read_now(self, connector: Connector, exchange: FakeExchange, sync: Sync) -> None:
        govern(connector)
        enrolled(connector, 0)
        exchange.settings = exchange.settings.__class__("Quarantine", "", ())
        sync()
        ManagedDevice.objects.update(compliance="noncompliant")
        enrolled(connector, 1)

        run = sync(records=changed(error_code="graph_unavailable", is_complete=False))

        assert run.status == SyncRun.Status.SUCCEEDED
        assert allowed(exchange) == {0: ("ID0000",), 1: ("ID0001",)}
        assert {"records_failed", "withheld"} <= set(codes(run))


class TestGuard:
    """More than ten denials, and more than 5 % of all, wait for a person."""

    @pytest.fixture(autouse=True)
    def _many(self, exchange: FakeExchange, connector: Connector) -> None:
        """Sixty people, all compliant, all let in by Exchange's default."""
        exchange.settings = exchange.settings.__class__("Allow", "", ())
        exchange.put(*(device(number) for number in range(60)))
        exchange.put_people(*range(60))
        exchange.page_size = 100
        govern(connector)
        enrolled(connector, *range(60))

    def _deny(self, count: int = 60) -> None:
        ids = [device(number).device_id for number in range(count)]
        ManagedDevice.objects.filter(eas_device_id__in=ids).update(compliance="noncompliant")

    def _blocked(self, exchange: FakeExchange) -> int:
        return sum(1 for box in exchange.mailboxes.values() if box.blocked_device_ids)

    def test_many_wait_and_are_denied_once_approved(
        self, connector: Connector, exchange: FakeExchange, sync: Sync
    ) -> None:
        sync()
        self._deny()

        run = sync()

        assert self._blocked(exchange) == 0
        approval = Approval.objects.get()
        assert approval.state == Approval.State.WAITING
        assert (approval.denials.count(), approval.devices_total) == (60, 60)
        assert run.held == 60
        assert event(run, "held").params["devices"] == 60
        assert DeviceEvent.objects.filter(code="held").count() == 60

        request = approval_approve(approval=approval, actor=ADA, note="They know")
        assert request is not None
        assert request.run.kind == APPLY
        applied = sync(APPLY)

        assert applied.pk == request.run.pk
        assert applied.to_deny == 60
        assert self._blocked(exchange) == 60
        approval.refresh_from_db()
        assert (approval.state, approval.decided_by_name, approval.note) == ("approved", "Ada", "They know")
        assert DeviceEvent.objects.filter(code="approved").count() == 60
        # What was approved does not count against the next few.
        assert sync().held == 0

    def test_few_go_at_once(self, connector: Connector, exchange: FakeExchange, sync: Sync) -> None:
        sync()
        self._deny(10)

        run = sync()

        assert self._blocked(exchange) == 10
        assert run.held == 0
        assert not Approval.objects.exists()

    def test_several_runs_are_not_let_through_where_one_is_not(
        self, connector: Connector, exchange: FakeExchange, sync: Sync
    ) -> None:
        sync()
        self._deny(8)
        sync()
        self._deny(14)

        run = sync()

        assert self._blocked(exchange) == 8
        assert run.held == 6

    def test_a_newer_run_renews_what_waits(self, connector: Connector, exchange: FakeExchange, sync: Sync) -> None:
        sync()
        self._deny()
        sync()
        ManagedDevice.objects.filter(eas_device_id__in=["ID0000", "ID0001"]).update(compliance="compliant")

        sync()

        assert Approval.objects.get().denials.count() == 58

    def test_what_is_no_longer_needed_is_superseded(
        self, connector: Connector, exchange: FakeExchange, sync: Sync
    ) -> None:
        sync()
        self._deny()
        sync()
        ManagedDevice.objects.update(compliance="compliant")

        sync()

        approval = Approval.objects.get()
        assert approval.state == Approval.State.SUPERSEDED
        with pytest.raises(ValidationError):
            approval_approve(approval=approval, actor=ADA)

    def test_whoever_is_left_out_is_not_denied(self, connector: Connector, exchange: FakeExchange, sync: Sync) -> None:
        sync()
        self._deny()
        sync()
        left_out = MobileDevice.objects.get(device_id="ID0007")

        approval_approve(approval=Approval.objects.get(), actor=ADA, leave_out=[left_out.pk])
        sync(APPLY)

        assert self._blocked(exchange) == 59
        assert exchange.box(7).blocked_device_ids == ()
        assert DeviceEvent.objects.filter(device=left_out, code="rejected").exists()
        assert not Approval.objects.filter(state=Approval.State.WAITING).exists()

    def test_the_rejected_keep_their_mail_until_their_verdict_changes(
        self, connector: Connector, exchange: FakeExchange, sync: Sync
    ) -> None:
        sync()
        self._deny()
        sync()
        approval_reject(approval=Approval.objects.get(), actor=ADA, note="Holidays")

        sync()

        assert self._blocked(exchange) == 0
        assert not Approval.objects.filter(state=Approval.State.WAITING).exists()

        ManagedDevice.objects.filter(eas_device_id="ID0000").update(compliance="compliant")
        sync()
        ManagedDevice.objects.filter(eas_device_id="ID0000").update(compliance="noncompliant")
        sync()

        assert exchange.box(0).blocked_device_ids == ("ID0000",)
        assert self._blocked(exchange) == 1

    def test_raised_for_this_time(self, connector: Connector, exchange: FakeExchange, sync: Sync) -> None:
        sync()
        self._deny(30)
        sync()
        approval = Approval.objects.get()
        with pytest.raises(ValidationError):
            approval_raise(approval=approval, actor=ADA, to=10)

        approval_raise(approval=approval, actor=ADA, to=40)
        sync(APPLY)

        assert self._blocked(exchange) == 30
        approval.refresh_from_db()
        assert approval.state == Approval.State.SUPERSEDED

    def test_a_quick_sync_does_not_deny_who_waits(
        self, connector: Connector, exchange: FakeExchange, sync: Sync
    ) -> None:
        sync()
        self._deny()
        sync()
        pk = Mailbox.objects.get(guid=mailbox(3).guid).pk

        sync(QUICK, records=changed(pk))

        assert self._blocked(exchange) == 0
        assert Approval.objects.get().denials.count() == 60


class TestSettings:
    def test_default_level_and_rules_are_enforced_once(
        self, connector: Connector, exchange: FakeExchange, sync: Sync
    ) -> None:
        govern(connector)
        organize(connector, default_level="block", rules=(RuleValues("DeviceModel", "iPhone15C2", "quarantine"),))

        sync()

        assert exchange.settings.default_access_level == "Block"
        assert [rule.access_level for rule in exchange.rules.values()] == ["Quarantine"]
        assert OrganizationLedger.objects.get().rules == [["DeviceModel", "iPhone15C2", "quarantine"]]
        before = list(exchange.written)
        sync()
        assert exchange.written == before

    def test_what_somebody_else_changed_is_told_and_put_right(
        self, connector: Connector, exchange: FakeExchange, sync: Sync
    ) -> None:
        govern(connector)
        organize(connector, default_level="block")
        sync()
        exchange.settings = exchange.settings.__class__("Quarantine", "", ())

        run = sync()

        assert "drift_found" in codes(run)
        drift = Drift.objects.get(kind=Drift.Kind.SETTING_CHANGED)
        assert (drift.subject, drift.expected, drift.found) == ("defaultLevel", "block", "quarantine")
        assert (drift.ended_because, exchange.settings.default_access_level) == ("enforced", "Block")

    def test_a_rule_of_somebody_else_is_told_and_left_alone(
        self, connector: Connector, exchange: FakeExchange, sync: Sync
    ) -> None:
        govern(connector)
        exchange.put_rule("DeviceType", "Toaster", "Block")

        sync()

        drift = Drift.objects.get()
        assert (drift.kind, drift.subject, drift.is_alarm) == ("ruleAdded", "DeviceType:Toaster", False)
        assert len(exchange.rules) == 1

    def test_rules_that_cannot_be_read_are_not_enforced(
        self, connector: Connector, exchange: FakeExchange, sync: Sync
    ) -> None:
        govern(connector)
        organize(connector, default_level="block")
        exchange.at("rules", NotPermittedError("no"))

        run = sync()

        assert "rules_unreadable" in codes(run)
        assert exchange.written == []

    def test_a_default_that_would_deny_many_waits_and_the_rest_goes_on(
        self, connector: Connector, exchange: FakeExchange, sync: Sync
    ) -> None:
        exchange.settings = exchange.settings.__class__("Allow", "", ())
        exchange.put(*(device(number) for number in range(40)))
        exchange.put_people(*range(40))
        # Nobody is targeted but 0: the others are Exchange's to decide, and lose mail by its default.
        govern(connector, target_everyone=False)
        organize(connector, default_level="quarantine", user_mail_insert="Call the desk")

        run = sync()

        assert exchange.settings.default_access_level == "Allow"
        assert exchange.settings.user_mail_insert == "Call the desk"
        approval = Approval.objects.get()
        assert approval.denials.count() == run.held == 40
        assert "Quarantine" in approval.settings_held[0]

        approval_approve(approval=approval, actor=ADA)
        sync(APPLY)

        assert exchange.settings.default_access_level == "Quarantine"


class TestForeign:
    def test_an_allow_entry_of_others_is_an_alarm_and_never_removed(
        self, connector: Connector, exchange: FakeExchange, sync: Sync
    ) -> None:
        govern(connector)
        exchange.change_box(4, allowed_device_ids=("ID0004",))

        sync()
        sync()

        drift = Drift.objects.get(device__device_id="ID0004")
        assert (drift.kind, drift.is_alarm) == ("foreignAllow", True)
        assert exchange.written == []
        assert DeviceAccess.objects.get(device__device_id="ID0004").hindered_by == "foreignAllow"

        exchange.change_box(4, allowed_device_ids=())
        sync()

        drift.refresh_from_db()
        assert drift.ended_because == "gone"

    def test_where_nobody_controls_access_entries_and_rules_of_others_are_no_drift(
        self, connector: Connector, exchange: FakeExchange, sync: Sync
    ) -> None:
        govern(connector, enabled=False)
        exchange.change_box(4, allowed_device_ids=("ID0004",), blocked_device_ids=("ID0009",))
        exchange.change_box(5, blocked_device_ids=("ID0005",))
        exchange.put_rule("DeviceType", "Toaster", "Block")

        run = sync()

        assert rows(connector)["ID0004"] == "controlOff"
        assert not Drift.objects.exists()
        assert "drift_found" not in codes(run)
        assert exchange.written == []
        # It is known all the same: the device's page shows it.
        assert Mailbox.objects.get(primary_smtp="person4@contoso.com").allowed == ["ID0004"]

        organize(connector, user_mail_insert="Ask the desk")  # the organization is looked after, its phones are not
        sync()

        assert list(Drift.objects.values_list("kind", "subject")) == [("ruleAdded", "DeviceType:Toaster")]

    def test_without_control_an_entry_against_an_administrators_decision_is_drift(
        self, connector: Connector, exchange: FakeExchange, sync: Sync
    ) -> None:
        govern(connector, enabled=False)
        exchange.change_box(4, allowed_device_ids=("ID0004",))
        exchange.change_box(5, blocked_device_ids=("ID0005",))
        sync()
        for number, level in ((4, "block"), (5, "allow")):
            box = Mailbox.objects.get(primary_smtp=f"person{number}@contoso.com")
            OverrideFactory(mailbox=box, device_id=f"ID{number:04d}", level=level)

        sync()

        kinds = set(Drift.objects.values_list("kind", "device__device_id", "is_alarm"))
        assert kinds == {("foreignAllow", "ID0004", True), ("foreignBlock", "ID0005", True)}

    def test_drift_ends_when_control_is_switched_off(
        self, connector: Connector, exchange: FakeExchange, sync: Sync
    ) -> None:
        govern(connector)
        exchange.change_box(4, allowed_device_ids=("ID0004",))
        exchange.change_box(6, allowed_device_ids=("ID0006",))
        sync()
        assert Drift.objects.filter(ended_at=None).count() == 2
        govern(connector, enabled=False)
        exchange.change_box(6, allowed_device_ids=())

        run = sync()

        ended = dict(Drift.objects.values_list("device__device_id", "ended_because"))
        assert ended == {"ID0004": "leftAlone", "ID0006": "gone"}
        assert "drift_ended" in codes(run)
        assert exchange.written == []
        govern(connector)
        sync()
        assert list(Drift.objects.filter(ended_at=None).values_list("device__device_id", flat=True)) == ["ID0004"]

    @pytest.mark.parametrize("kind", ["fullSync", "deltaSync", "apply"])
    def test_drift_ends_where_nothing_is_wanted_at_all_any_more(
        self, connector: Connector, exchange: FakeExchange, sync: Sync, kind: str
    ) -> None:
        govern(connector)
        exchange.change_box(4, allowed_device_ids=("ID0004",))
        sync()
        assert Drift.objects.get().ended_at is None
        govern(connector, enabled=False)
        DeviceSource.objects.update(kind=DeviceSource.Kind.NONE)

        run = sync(kind)

        assert Drift.objects.get().ended_because == "leftAlone"
        assert "drift_ended" in codes(run)
        assert exchange.written == []
        assert "drift_ended" not in codes(sync(kind))

    def test_an_entry_of_ours_that_vanished_is_told_and_written_again(
        self, connector: Connector, exchange: FakeExchange, sync: Sync
    ) -> None:
        govern(connector)
        enrolled(connector, 0)
        sync()
        exchange.change_box(0, allowed_device_ids=())

        sync()

        assert exchange.box(0).allowed_device_ids == ("ID0000",)
        drift = Drift.objects.get()
        assert drift.kind == Drift.Kind.ENTRY_VANISHED
        sync()
        drift.refresh_from_db()
        assert drift.ended_at is not None


class TestDry:
    @pytest.mark.parametrize("by", ["run", "connector"])
    def test_nothing_is_sent_and_each_command_is_written_down(
        self, connector: Connector, exchange: FakeExchange, sync: Sync, by: str
    ) -> None:
        govern(connector)
        enrolled(connector, 0, 1)
        organize(connector, user_mail_insert="Call the desk")
        if by == "connector":
            Connector.objects.update(is_observe_only=True)

        run = sync(is_dry_run=by == "run")

        assert exchange.written == []
        states = Command.objects.values_list("state", flat=True)
        assert list(states) == [Command.State.OBSERVED] * 3
        assert "Set-CASMailbox" in Command.objects.filter(kind="mailboxEntries")[0].text
        assert "observed" in codes(run)
        assert not LedgerEntry.objects.exists()

    def test_it_asks_nobody_for_approval(self, connector: Connector, exchange: FakeExchange, sync: Sync) -> None:
        exchange.settings = exchange.settings.__class__("Allow", "", ())
        exchange.put(*(device(number) for number in range(40)))
        exchange.put_people(*range(40))
        govern(connector)

        run = sync(is_dry_run=True)

        assert not Approval.objects.exists()
        assert "would_be_held" in codes(run)

    def test_a_quick_sync_after_it_looks_at_what_it_left(
        self, connector: Connector, exchange: FakeExchange, sync: Sync
    ) -> None:
        govern(connector)
        enrolled(connector, 0, 11)
        sync()
        exchange.put(device(11, access_state="Quarantined", first_sync_time=timezone.now()))
        exchange.put_people(11)

        sync(QUICK, is_dry_run=True)
        assert exchange.box(11).allowed_device_ids == ()
        sync(QUICK)

        assert exchange.box(11).allowed_device_ids == ("ID0011",)


class TestApply:
    def test_a_person_s_word_counts_without_a_policy(
        self, connector: Connector, exchange: FakeExchange, sync: Sync
    ) -> None:
        govern(connector, enabled=False)
        sync()
        box = Mailbox.objects.get(guid=mailbox(2).guid)
        AccessOverride.objects.create(
            organization=connector.organization, mailbox=box, device_id="ID0002", device_id_key="id0002",
            level="allow", reason="Travels", made_at=timezone.now(), made_by_name="Ada",
        )  # fmt: skip
        exchange.filters.clear()

        run = sync(APPLY)

        assert run.kind == APPLY
        assert exchange.filters == []  # no device was listed
        assert exchange.box(2).allowed_device_ids == ("ID0002",)
        assert Connector.objects.get().synced_until != run.started_at

"""The lane: marked mailboxes are looked at now, others are not read, and no mark is lost."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Collection
from dataclasses import replace
from typing import Any

import pytest
from django.db.models.functions import Now
from django.utils import timezone

from connectors.actors import SETUP
from connectors.exchange.errors import BadRequestError, OutcomeUnknownError, StopError, ThrottledError, TransientError
from connectors.models import Connector, DeviceSource
from sync.acting import act, checks, lane
from sync.acting.checks import check_request, checks_dispatch_due
from sync.enforcing import deadlines, loading
from sync.lease import lane_claim
from sync.models import (
    AccessOverride,
    Approval,
    Command,
    DeviceAccess,
    DeviceEvent,
    MailboxCheck,
    ManagedDevice,
    PolicyVersion,
    SyncRun,
)
from sync.policies.policy import GrandfatheringValues, OrganizationPolicyValues
from tests.sync.act_fakes import LONG_AGO, Office
from tests.sync.acting.test_act import Hold

pytestmark = pytest.mark.django_db(transaction=True)

State = Command.State


@pytest.fixture
def office(connector: Connector) -> Office:
    return Office(connector)


@pytest.fixture(autouse=True)
def quick(settings: Any) -> None:
    settings.CHECKS_LINGER_SECONDS = 0.0
    settings.NOTIFY_BEFORE_DENIAL_SECONDS = 0.1


@pytest.fixture(autouse=True)
def told(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The connectors whose checks the queue was told of."""
    found: list[int] = []
    for module in (checks, lane):
        monkeypatch.setattr(module, "check_dispatch", lambda connector: found.append(connector.pk))
    return found


def work(office: Office) -> int:
    return lane.checks_do(office.connector.pk, open_exchange=office.wire.open, open_sessions=office.wire.open_sessions)


def mark(office: Office, *numbers: int) -> None:
    check_request([office.keys[number] for number in numbers], because="complianceChanged")


def lists(office: Office, number: int = 0) -> tuple[tuple[str, ...], tuple[str, ...]]:
    return office.wire.lists()[office.mailboxes[number].guid]


# --- what it does ---


def test_a_change_reaches_exchange_and_nobody_else_is_touched(office: Office, told: list[int]) -> None:
    mark(office, 1)
    assert told == [office.connector.pk]

    assert work(office) == 1

    assert office.wire.sets() == [str(office.mailboxes[1].guid)]
    assert lists(office, 1) == (("PHONE1",), ())
    assert not MailboxCheck.objects.exists()
    row = Command.objects.get()
    assert (row.state, row.because, row.actor_name) == (State.DONE, "complianceChanged", "Checks")
    assert DeviceAccess.objects.get().device_id == office.devices[1].pk
    # In the session that was open already.
    assert office.wire.sessions == 1


def test_without_marks_no_session_is_opened(office: Office) -> None:
    assert work(office) == 0
    assert office.wire.sessions == 0


def test_a_mailbox_that_is_as_it_should_be_gets_no_command(office: Office) -> None:
    mark(office, 0)
    work(office)
    mark(office, 0)

    work(office)

    assert len(office.wire.sent) == 1
    assert not MailboxCheck.objects.exists()


def test_many_marks_are_worth_sessions_of_their_own(connector: Connector) -> None:
    office = Office(connector, lane.INLINE + 4)
    mark(office, *range(lane.INLINE + 4))

    work(office)

    assert office.wire.lists() == office.wanted()
    assert office.wire.sessions > 1


def test_a_denial_goes_through_the_guard(office: Office) -> None:
    mark(office, 0, 1, 2)
    work(office)
    office.policy(guard_devices=0, guard_percent=0.0)
    office.compliance(0, "noncompliant")
    mark(office, 0)

    work(office)

    assert lists(office) == (("PHONE0",), ())
    assert Approval.objects.get().state == Approval.State.WAITING
    assert not MailboxCheck.objects.exists()


def test_many_marks_are_one_for_the_guard(connector: Connector, monkeypatch: pytest.MonkeyPatch) -> None:
    """Read a few at a time, and yet none of them is denied where a run would deny nobody."""
    monkeypatch.setattr(lane, "BATCH", 4)
    office = Office(connector, 20)
    office.policy(guard_devices=10, guard_percent=5.0)
    mark(office, *range(20))
    work(office)
    office.wire.sent.clear()
    for number in range(20):
        office.compliance(number, "noncompliant")
    mark(office, *range(20))

    assert work(office) == 20

    assert office.wire.sent == []
    assert Approval.objects.get().denials.count() == 20


def test_a_fault_about_some_mailboxes_stays_with_them(connector: Connector, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lane, "BATCH", 2)
    office = Office(connector, 6)
    real = loading.Whole.part

    def part(whole: loading.Whole, mailboxes: Collection[int], strays: Collection[int] = ()) -> loading.Loaded:
        if office.keys[2] in mailboxes:
            raise ValueError("a fault of our own")
        return real(whole, mailboxes, strays)

    monkeypatch.setattr(loading.Whole, "part", part)
    mark(office, *range(6))

    work(office)

    assert len(office.wire.sets()) == 4
    assert set(MailboxCheck.objects.values_list("mailbox", flat=True)) == {office.keys[2], office.keys[3]}


def test_who_only_observes_asks_nobody_for_approval(office: Office) -> None:
    mark(office, 0)
    work(office)
    office.policy(guard_devices=0, guard_percent=0.0)
    office.compliance(0, "noncompliant")
    Connector.objects.update(is_observe_only=True)
    mark(office, 0)

    work(office)

    assert not Approval.objects.exists()
    assert not DeviceEvent.objects.filter(code="held").exists()
    assert DeviceAccess.objects.get().rule == "notCompliant"
    assert lists(office) == (("PHONE0",), ())


def test_where_nothing_is_decided_marks_are_dropped(office: Office) -> None:
    office.policy(enabled=False)
    mark(office, 0)

    work(office)

    assert not MailboxCheck.objects.exists()
    assert office.wire.sessions == 0


def test_settings_are_left_to_full_syncs(office: Office) -> None:
    PolicyVersion.objects.create(
        tenant=office.organization.tenant,
        organization=office.organization,
        number=1,
        content=OrganizationPolicyValues(default_level="block").to_json(),
        made_at=timezone.now(),
        made_by_name="Ada",
    )
    mark(office, 0)

    work(office)

    assert office.wire.settings.default_access_level == "Quarantine"
    assert lists(office) == (("PHONE0",), ())


def test_one_worker_at_a_time(office: Office) -> None:
    mark(office, 0)
    lease = lane_claim(office.connector.pk)
    assert lease is not None

    assert work(office) == 0
    assert MailboxCheck.objects.exists()

    lease.release()
    assert work(office) == 1


def test_a_lane_whose_worker_died_is_taken(office: Office) -> None:
    mark(office, 0)
    assert lane_claim(office.connector.pk) is not None
    Connector.objects.update(checks_lease_expires_at=Now() - datetime.timedelta(seconds=1))

    assert work(office) == 1


def test_whoever_lost_the_lane_sends_nothing(office: Office) -> None:
    mark(office, 0)

    def taken() -> None:
        Connector.objects.update(checks_owner="another")

    office.wire.at("list", taken)

    work(office)

    assert office.wire.sent == []
    assert MailboxCheck.objects.exists()


def test_asked_again_while_it_was_looked_at_it_is_looked_at_again(office: Office) -> None:
    mark(office, 0)

    def changed() -> None:
        office.compliance(0, "noncompliant")
        mark(office, 0)

    office.wire.at("after set", changed)

    work(office)
    work(office)

    assert lists(office) == ((), ())
    assert not MailboxCheck.objects.exists()


def test_asked_right_before_the_lane_was_left(office: Office, told: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    mark(office, 0)
    told.clear()
    real = lane._Lane.work

    def late(self: Any, opened: Any) -> None:
        real(self, opened)
        mark(office, 1)  # the lane is still taken, so whoever asks tells nobody

    monkeypatch.setattr(lane._Lane, "work", late)

    work(office)

    assert told == [office.connector.pk]
    assert MailboxCheck.objects.get().mailbox_id == office.keys[1]


# --- what goes wrong ---


def test_a_busy_mailbox_is_looked_at_again_shortly(office: Office) -> None:
    mark(office, 0)
    work(office)
    Command.objects.update(state=State.SENT, lease_expires_at=Now() + datetime.timedelta(minutes=1))
    office.compliance(0, "noncompliant")
    mark(office, 0)

    work(office)

    left = MailboxCheck.objects.get()
    assert left.failures == 0
    assert left.not_before is not None
    assert left.not_before < timezone.now() + datetime.timedelta(seconds=3)


@pytest.mark.parametrize("place", ["set", "after set"])
def test_an_unknown_outcome_is_read_in_another_session(office: Office, place: str) -> None:
    mark(office, 0)
    office.wire.at(place, OutcomeUnknownError("no answer"))

    work(office)

    is_done = place == "after set"
    assert Command.objects.get().state == (State.DONE if is_done else State.FAILED)
    assert MailboxCheck.objects.exists() is not is_done


@pytest.mark.parametrize("error", [TransientError("x"), ThrottledError("slowly", retry_after=0.05)])
def test_a_session_that_breaks_is_replaced(office: Office, error: Exception) -> None:
    mark(office, 0, 1, 2)
    office.wire.at("set", error)

    work(office)

    assert office.wire.lists() == office.wanted()
    assert office.wire.sessions == 2
    assert not MailboxCheck.objects.exists()


def test_what_failed_keeps_its_mark_for_later_and_longer(office: Office) -> None:
    mark(office, 0, 1)
    office.wire.at("set", BadRequestError("no"))

    work(office)

    left = MailboxCheck.objects.get()
    first = left.not_before
    assert (left.failures, first is not None) == (1, True)
    assert work(office) == 0  # not before its time
    MailboxCheck.objects.update(not_before=None)
    office.wire.at("set", BadRequestError("no"))
    work(office)

    left.refresh_from_db()
    assert left.failures == 2
    assert left.not_before is not None
    assert first is not None
    assert left.not_before - timezone.now() > datetime.timedelta(seconds=30)


def test_a_mailbox_that_is_gone_has_no_mark_any_more(office: Office) -> None:
    mark(office, 0)
    del office.wire.mailboxes[office.mailboxes[0].guid]

    work(office)

    assert not MailboxCheck.objects.exists()
    assert office.wire.sent == []


@pytest.mark.parametrize(
    ("error", "at_least"),
    [
        (StopError("no", code="authentication_failed"), 600),
        (TransientError("no"), 20),
        (ThrottledError("no", retry_after=120.0), 100),
    ],
)
def test_an_exchange_that_cannot_be_reached_is_left_alone_for_a_while(
    office: Office, told: list[int], error: Exception, at_least: float
) -> None:
    mark(office, 0)
    told.clear()
    office.wire.at("open", error)

    work(office)

    left = Connector.objects.get()
    assert left.checks_not_before is not None
    assert left.checks_not_before - timezone.now() > datetime.timedelta(seconds=at_least)
    assert MailboxCheck.objects.exists()
    # Nobody signs in again before, whatever is asked for: each try counts to a lock-out.
    mark(office, 1)
    assert work(office) == 0
    assert told == []
    assert office.wire.sessions == 0
    Connector.objects.update(checks_not_before=Now() - datetime.timedelta(seconds=1))
    assert work(office) == 2
    assert Connector.objects.get().checks_not_before is None


def test_a_fault_of_our_own_keeps_the_marks(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    mark(office, 0)

    def broken(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(lane, "ledger_settle", broken)

    work(office)

    assert MailboxCheck.objects.get().failures == 1


# --- marks ---


def test_asked_for_twice_is_one_mark_that_remembers_the_first_time(office: Office) -> None:
    mark(office, 0)
    first = MailboxCheck.objects.get()
    check_request([office.keys[0]], because="override")

    again = MailboxCheck.objects.get()
    assert (again.first_wanted_at, again.because) == (first.first_wanted_at, "override")
    assert again.wanted_at > first.wanted_at


def test_nobody_is_told_while_somebody_is_at_it(office: Office, told: list[int]) -> None:
    lane_claim(office.connector.pk)

    mark(office, 0)

    assert told == []


def test_marks_left_behind_are_told_of_again(office: Office, told: list[int]) -> None:
    mark(office, 0)
    told.clear()
    assert checks_dispatch_due() == 0  # whoever asked has only just told
    MailboxCheck.objects.update(first_wanted_at=LONG_AGO)

    assert checks_dispatch_due() == 1
    assert told == [office.connector.pk]


def test_a_gone_or_unknown_mailbox_is_not_marked(office: Office) -> None:
    type(office.mailboxes[0]).objects.filter(pk=office.keys[0]).update(gone_at=LONG_AGO)

    assert check_request([office.keys[0], 10**6], because="x") == 0


# --- beside a run ---


def test_a_run_and_the_lane_do_not_clash(office: Office) -> None:
    """The run is in the middle of one mailbox's command when the lane comes to it and to another."""
    Connector.objects.update(parallel_commands=1)
    looked: list[int] = []

    def lane_works() -> None:
        from django.db import connection

        mark(office, 0, 1)
        looked.append(work(office))
        connection.close()

    office.wire.at("set", lane_works)

    report = act.execute(
        act.Order(office.organization.pk, office.keys),
        connector=office.connector,
        hold=Hold(),
        actor=SETUP,
        because="test",
        open_sessions=office.wire.open_sessions,
    )

    assert looked == [2]
    assert report.done == 3
    assert len(office.wire.sets()) == 3  # nothing twice
    assert set(MailboxCheck.objects.values_list("mailbox", flat=True)) <= {office.keys[0], office.keys[1]}
    MailboxCheck.objects.update(not_before=None)
    work(office)
    assert len(office.wire.sets()) == 3
    assert not MailboxCheck.objects.exists()


# --- deadlines ---


def decided(office: Office) -> None:
    mark(office, 0, 1, 2)
    work(office)
    deadlines.deadlines_look()


@pytest.mark.parametrize(
    "passed",
    [
        lambda now: {"grace_until": now, "compliance": "inGracePeriod"},
        lambda now: {"last_check_in_at": now - datetime.timedelta(days=30)},
    ],
)
def test_a_deadline_is_looked_at_when_it_comes_and_once(
    office: Office, passed: Callable[[datetime.datetime], dict[str, Any]]
) -> None:
    office.policy(stale_days=30)
    decided(office)
    moment = timezone.now() + datetime.timedelta(seconds=0.05)
    ManagedDevice.objects.filter(pk=office.records[1].pk).update(**passed(moment))
    assert deadlines.deadlines_look() == 0

    while timezone.now() <= moment:
        pass
    DeviceSource.objects.update(last_pushed_at=timezone.now())
    assert deadlines.deadlines_look() == 1
    assert MailboxCheck.objects.get().mailbox_id == office.keys[1]
    assert deadlines.deadlines_look() == 0
    # Whoever decided had a clock that was behind, or the mark was lost: it is not forgotten.
    MailboxCheck.objects.all().delete()
    assert deadlines.deadlines_look() == 1
    work(office)
    assert lists(office, 1) == ((), ())
    assert deadlines.deadlines_look() == 0


def test_nobody_grows_stale_while_device_management_is_not_heard_of(office: Office) -> None:
    """Its silence would make everybody stale, some each minute, and the guard would see a few at a time."""
    office.policy(stale_days=30)
    decided(office)
    heard_at = timezone.now() - datetime.timedelta(days=29)
    DeviceSource.objects.update(last_pushed_at=heard_at)
    ManagedDevice.objects.update(last_check_in_at=heard_at - datetime.timedelta(days=2))

    assert deadlines.deadlines_look() == 0
    mark(office, 0, 1, 2)
    work(office)
    assert lists(office, 1) == (("PHONE1",), ())

    DeviceSource.objects.update(last_pushed_at=timezone.now())
    assert deadlines.deadlines_look() == 3
    work(office)
    assert lists(office, 1) == ((), ())
    assert set(DeviceAccess.objects.values_list("rule", flat=True)) == {"stale"}
    assert deadlines.deadlines_look() == 0


def test_an_override_ends_when_its_time_is_over(office: Office) -> None:
    override = AccessOverride.objects.create(
        organization=office.organization, mailbox=office.mailboxes[0], device_id="PHONE0", device_id_key="phone0",
        level="block", reason="x", made_at=LONG_AGO, made_by_name="Ada", expires_at=timezone.now(),
    )  # fmt: skip

    assert deadlines.deadlines_look() == 1

    override.refresh_from_db()
    assert override.ended_by_name == "Schedule"
    assert DeviceEvent.objects.get(device=office.devices[0]).code == "overrideEnded"
    work(office)
    assert lists(office) == (("PHONE0",), ())


def test_a_grandfathering_that_ends_is_a_run(office: Office) -> None:
    until = timezone.now() + datetime.timedelta(seconds=0.05)
    values = OrganizationPolicyValues(
        grandfathering=GrandfatheringValues(LONG_AGO.isoformat(), LONG_AGO.isoformat(), until.isoformat(), 30)
    )
    PolicyVersion.objects.create(
        tenant=office.organization.tenant, organization=office.organization, number=1, content=values.to_json(),
        made_at=timezone.now(), made_by_name="Ada",
    )  # fmt: skip
    deadlines.deadlines_look()
    assert not SyncRun.objects.exists()
    while timezone.now() <= until:
        pass

    deadlines.deadlines_look()
    deadlines.deadlines_look()

    assert SyncRun.objects.count() == 1


def test_a_reading_that_is_replaced_by_others_is_what_counts(office: Office) -> None:
    """Somebody took our entry away: the lane sees it, since it reads before it decides."""
    decided(office)
    guid = office.mailboxes[0].guid
    office.wire.mailboxes[guid] = replace(office.wire.mailboxes[guid], allowed_device_ids=())
    mark(office, 0)

    work(office)

    assert lists(office) == (("PHONE0",), ())

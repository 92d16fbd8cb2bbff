"""Act: what is sent, written down and read back; and every way in which a command can end."""

from __future__ import annotations

import datetime
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
from django.db import connection, transaction
from django.utils import timezone

from connectors.actors import SETUP
from connectors.exchange.errors import (
    AmbiguousError,
    BadRequestError,
    CanceledError,
    ExchangeError,
    NotPermittedError,
    OutcomeUnknownError,
    StopError,
    ThrottledError,
    TransientError,
)
from connectors.models import Connector, ExchangeOrganization
from sync.acting import act, denials, settle
from sync.acting.journal import open_mailboxes
from sync.deciding.commands import CreateRule, RemoveRule, SetOrganizationSettings
from sync.deciding.facts import AccessRule, Level
from sync.lease import LeaseLostError
from sync.models import (
    Command,
    DeviceEvent,
    LedgerEntry,
    Mailbox,
    MailboxCheck,
    Notification,
    OrganizationLedger,
)
from sync.observing.rulebook import rules_from_json, settings_from_json
from tests.sync.act_fakes import CONTROLLER, SERVER, Office

pytestmark = pytest.mark.django_db(transaction=True)

State = Command.State


class Hold:
    """A hold that lasts until it is lost or stopped."""

    def __init__(self) -> None:
        self.is_lost = self.is_stopped = False

    def should_stop(self) -> bool:
        return self.is_stopped

    @contextmanager
    def guard(self) -> Iterator[None]:
        with transaction.atomic():
            if self.is_lost:
                raise LeaseLostError("lost")
            yield


@pytest.fixture
def office(connector: Connector) -> Office:
    return Office(connector)


@pytest.fixture(autouse=True)
def no_lost_time(monkeypatch: pytest.MonkeyPatch, settings: Any) -> None:
    settings.NOTIFY_BEFORE_DENIAL_SECONDS = 0.3


def do(office: Office, hold: Hold | None = None, **named: Any) -> act.Report:
    order = {"mailboxes": office.keys} | {
        name: named.pop(name) for name in ("mailboxes", "may_deny", "settings") if name in named
    }
    return act.execute(
        act.Order(office.organization.pk, **order),
        connector=office.connector,
        hold=hold or Hold(),
        actor=SETUP,
        because="test",
        open_sessions=office.wire.open_sessions,
        **named,
    )


def command(office: Office, number: int = 0) -> Command:
    return Command.objects.filter(mailbox=office.mailboxes[number]).latest("pk")


def codes(office: Office, number: int = 0) -> list[str]:
    rows = DeviceEvent.objects.filter(device=office.devices[number]).order_by("pk")
    return list(rows.values_list("code", flat=True))


def ledger() -> set[tuple[int, str, str]]:
    return set(LedgerEntry.objects.values_list("mailbox", "listed", "device_id_key"))


# --- as it should be ---


def test_each_mailbox_gets_one_command_and_all_is_written_down(office: Office) -> None:
    report = do(office)

    assert (report.planned, report.done, report.failed) == (3, 3, 0)
    assert office.wire.lists() == office.wanted()
    assert sorted(office.wire.sets()) == sorted(str(mailbox.guid) for mailbox in office.mailboxes)
    row = command(office)
    assert row.state == State.DONE
    assert row.text.startswith("Set-CASMailbox -Identity")
    assert "PHONE0" in row.text
    assert row.sent_at is not None
    assert row.finished_at is not None
    assert row.lease_expires_at is None
    assert row.allows == 1
    assert (row.server, row.domain_controller) == (SERVER, CONTROLLER)
    told = DeviceEvent.objects.get(device=office.devices[0], code="commandDone")
    assert told.params["controller"] == CONTROLLER
    assert codes(office) == ["commandPlanned", "commandDone"]
    assert ledger() == {(pk, "allowed", f"phone{n}") for n, pk in enumerate(office.keys)}
    assert Mailbox.objects.get(pk=office.keys[0]).allowed == ["PHONE0"]


def test_a_second_order_sends_nothing(office: Office) -> None:
    do(office)
    sent = len(office.wire.sent)

    assert do(office).planned == 0
    assert len(office.wire.sent) == sent


def test_written_and_read_back_at_one_controller_which_is_asked_for_once(office: Office) -> None:
    Connector.objects.update(parallel_commands=1)

    do(office)

    assert office.wire.controllers == [CONTROLLER] * 3
    assert office.wire.reads == 4  # one to find it, one for each command


def test_so_many_are_in_flight_and_no_more(connector: Connector) -> None:
    office = Office(connector, 12)
    Connector.objects.update(parallel_commands=3)
    office.wire.at("set", *[lambda: time.sleep(0.05)] * 12)

    do(office)

    assert office.wire.lists() == office.wanted()
    assert 2 <= office.wire.most_in_flight <= 3


def test_what_is_ours_goes_when_it_is_not_wanted_any_more(office: Office) -> None:
    do(office)
    office.compliance(0, "noncompliant")

    report = do(office, may_deny=None)

    assert report.done == 1
    row = command(office)
    assert (row.denies, row.allows) == (1, 0)
    assert office.wire.mailboxes[office.mailboxes[0].guid].allowed_device_ids == ()
    assert (office.keys[0], "allowed", "phone0") not in ledger()


def test_nobody_is_denied_whom_the_order_does_not_name(office: Office) -> None:
    do(office)
    office.compliance(0, "noncompliant")
    office.compliance(1, "noncompliant")

    do(office, may_deny=frozenset({(office.keys[1], "phone1")}))

    assert office.wire.mailboxes[office.mailboxes[0].guid].allowed_device_ids == ("PHONE0",)
    assert office.wire.mailboxes[office.mailboxes[1].guid].allowed_device_ids == ()


def test_what_changed_since_the_run_decided_counts(office: Office) -> None:
    office.compliance(0, "noncompliant")

    report = do(office)

    assert report.planned == 2
    assert office.wire.mailboxes[office.mailboxes[0].guid].allowed_device_ids == ()


def test_entries_of_others_stay(office: Office) -> None:
    guid = office.mailboxes[0].guid
    office.wire.mailboxes[guid] = replace(office.wire.mailboxes[guid], allowed_device_ids=("OTHER",))

    do(office)

    assert office.wire.mailboxes[guid].allowed_device_ids == ("OTHER", "PHONE0")
    assert (office.keys[0], "allowed", "other") not in ledger()


# --- one mailbox's trouble ---


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (AmbiguousError("two"), "object_ambiguous"),
        (BadRequestError("no", code="argument_refused"), "argument_refused"),
        (BadRequestError("no"), "command_failed"),
    ],
)
def test_a_refused_command_fails_and_the_rest_goes_on(office: Office, error: ExchangeError, code: str) -> None:
    Connector.objects.update(parallel_commands=1)
    office.wire.at("set", error)

    report = do(office)

    assert (report.done, report.failed) == (2, 1)
    assert report.failures[0].code == code
    row = Command.objects.get(state=State.FAILED)
    assert row.error_code == code
    assert row.mailbox_id in report.failed_mailboxes
    # Nothing of it is ours: Exchange said that it did nothing.
    assert len(ledger()) == 2
    event = DeviceEvent.objects.get(code="commandFailed")
    assert event.params["error_code"] == code


def test_a_mailbox_that_is_gone_since_is_marked_so(office: Office) -> None:
    del office.wire.mailboxes[office.mailboxes[1].guid]

    report = do(office)

    assert (report.done, report.failed) == (2, 1)
    assert Command.objects.get(state=State.FAILED).error_code == "object_not_found"
    assert Mailbox.objects.exclude(gone_at=None).get() == office.mailboxes[1]


def test_a_reading_that_shows_something_else_is_a_failure(office: Office) -> None:
    guid = office.mailboxes[0].guid

    def taken_away() -> None:
        office.wire.mailboxes[guid] = replace(office.wire.mailboxes[guid], allowed_device_ids=())

    Connector.objects.update(parallel_commands=1)
    office.wire.at("after set", taken_away)

    report = do(office)

    assert report.failed == 1
    assert Command.objects.get(state=State.FAILED).error_code == "not_as_wanted"
    assert (office.keys[0], "allowed", "phone0") not in ledger()


def test_a_broken_session_is_replaced_and_the_command_sent_again(office: Office) -> None:
    """TransientError says that nothing was done."""
    office.wire.at("set", TransientError("x", code="connection_refused"))

    report = do(office)

    assert (report.done, report.failed) == (3, 0)
    assert len(office.wire.sets()) == 3


def test_throttling_slows_it_down_and_fails_nothing(office: Office) -> None:
    office.wire.at("set", *[ThrottledError("slowly", retry_after=0.05)] * 4)
    events: list[str] = []

    report = do(office, on_event=lambda code, params: events.append(code))

    assert (report.done, report.failed) == (3, 0)
    assert "throttled" in events


def test_a_fault_of_our_own_stays_with_its_command(office: Office) -> None:
    """What it was to change is read, since it may have got that far."""
    office.wire.at("set", ZeroDivisionError())

    report = do(office)

    assert (report.done, report.failed) == (2, 1)
    assert Command.objects.get(state=State.FAILED).error_code == "outcome_unknown"


# --- unknown ---


def unknown(**named: Any) -> OutcomeUnknownError:
    return OutcomeUnknownError("no answer", server="ex01.contoso.com", **named)


@pytest.mark.parametrize("place", ["set", "after set"])
def test_an_unknown_outcome_is_read_back_and_never_sent_again(office: Office, place: str) -> None:
    Connector.objects.update(parallel_commands=1)
    office.wire.at(place, unknown())

    report = do(office)

    was_done = place == "after set"
    first = str(office.mailboxes[0].guid)
    assert office.wire.sets().count(first) == (1 if was_done else 0)
    assert report.done == (3 if was_done else 2)
    row = command(office)
    assert row.state == (State.DONE if was_done else State.FAILED)
    assert row.error_code == ("" if was_done else "outcome_unknown")
    assert codes(office)[1] == "commandUnknown"
    assert ((office.keys[0], "allowed", "phone0") in ledger()) == was_done


def test_one_that_cannot_be_read_back_stays_open_and_locked(office: Office) -> None:
    Connector.objects.update(parallel_commands=1)
    office.wire.at("after set", unknown(), None, None)
    # Two to find the controller (it is asked for anew after the failure), those of the two others, then the one that
    # would tell.
    office.wire.at("read", None, None, None, None, BadRequestError("no"))

    report = do(office)

    assert report.unknown == 1
    row = Command.objects.get(state=State.UNKNOWN)
    assert open_mailboxes(office.keys) == {row.mailbox_id}
    assert (row.mailbox_id, "allowed", "phone0") in ledger()
    # Nobody else may send anything about it meanwhile.
    assert do(office).busy == {row.mailbox_id}


def test_a_reading_that_fails_after_the_command_is_taken_up_again(office: Office) -> None:
    Connector.objects.update(parallel_commands=1)
    office.wire.at("read", None, TransientError("x"))

    report = do(office)

    assert report.done == 3
    assert len(office.wire.sets()) == 3


# --- stopped ---


@pytest.mark.parametrize("error", [StopError("x", code="access_denied"), NotPermittedError("x")])
def test_an_account_that_may_not_write_ends_the_order(connector: Connector, error: ExchangeError) -> None:
    office = Office(connector, 30)
    Connector.objects.update(parallel_commands=1)
    office.wire.at("set", *[error] * 30)

    with pytest.raises(type(error)):
        do(office)

    states = list(Command.objects.values_list("state", flat=True))
    assert 1 <= states.count(State.FAILED) <= 3  # those handed over by then
    assert states.count(State.CANCELED) == 30 - states.count(State.FAILED)
    assert not ledger()


def test_no_session_at_all(office: Office) -> None:
    office.wire.at("open", StopError("no", code="authentication_failed"))

    with pytest.raises(StopError):
        do(office)

    assert not Command.objects.filter(state__in=Command.OPEN).exists()
    assert office.wire.sent == []


def test_nothing_is_sent_once_the_hold_is_lost(office: Office) -> None:
    hold = Hold()
    Connector.objects.update(parallel_commands=1)

    def lose() -> None:
        hold.is_lost = True

    office.wire.at("set", lose)

    with pytest.raises(LeaseLostError):
        do(office, hold)

    assert len(office.wire.sets()) <= 2  # the one under way, and one that was handed over before
    # The outcomes of what had been sent are kept all the same.
    assert Command.objects.filter(state=State.DONE).count() == len(office.wire.sets())


def test_stopped_on_the_way(connector: Connector) -> None:
    office = Office(connector, 20)
    Connector.objects.update(parallel_commands=1)
    hold = Hold()

    def stop() -> None:
        hold.is_stopped = True

    office.wire.at("set", None, stop, *[lambda: time.sleep(0.3)] * 18)

    with pytest.raises(CanceledError):
        do(office, hold)

    assert 2 <= len(office.wire.sets()) < 8
    states = set(Command.objects.values_list("state", flat=True))
    assert states == {State.DONE, State.CANCELED}


# --- dry ---


def test_a_connector_that_observes_only_writes_down_what_it_would_send(office: Office) -> None:
    Connector.objects.update(is_observe_only=True)

    report = do(office)

    assert report.observed == 3
    assert office.wire.sent == []
    assert office.wire.sessions == 0
    assert set(Command.objects.values_list("state", flat=True)) == {State.OBSERVED}
    assert "-ActiveSyncAllowedDeviceIDs @{Add='PHONE0'}" in command(office).text
    assert not ledger()
    assert codes(office) == []


def test_switched_to_observing_in_between_the_session_refuses(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    @contextmanager
    def opened(connector: Connector, **named: Any) -> Iterator[Any]:
        Connector.objects.update(is_observe_only=True)
        with office.wire.open_sessions(connector, **named) as sessions:
            yield sessions

    report = act.execute(
        act.Order(office.organization.pk, office.keys),
        connector=office.connector,
        hold=Hold(),
        actor=SETUP,
        because="test",
        open_sessions=opened,
    )

    assert report.observed == 3
    assert office.wire.sent == []
    assert not ledger()


# --- the lock ---


def test_a_mailbox_that_somebody_is_at_is_left_to_them(office: Office) -> None:
    do(office)
    Command.objects.filter(pk=command(office).pk).update(state=State.SENT, lease_expires_at=timezone.now())
    office.compliance(0, "noncompliant")
    office.compliance(1, "noncompliant")

    report = do(office, may_deny=None)

    assert report.busy == {office.keys[0]}
    assert report.done == 1


# --- settings and rules ---


def test_settings_and_rules_go_one_after_another(office: Office) -> None:
    rule = AccessRule("DeviceType", "Robot", Level.BLOCK)

    report = do(office, mailboxes=(), settings=(CreateRule(rule), SetOrganizationSettings(Level.BLOCK, "Ask the desk")))

    assert (report.planned, report.done) == (2, 2)
    assert [cmdlet for cmdlet, _ in office.wire.sent] == [
        "New-ActiveSyncDeviceAccessRule",
        "Set-ActiveSyncOrganizationSettings",
    ]
    found = ExchangeOrganization.objects.get(pk=office.organization.pk)
    assert (found.default_access_level, found.user_mail_insert) == ("Block", "Ask the desk")
    assert found.access_rules == [["Robot (DeviceType)", "DeviceType", "Robot", "Block"]]
    ours = OrganizationLedger.objects.get()
    assert [one.key for one in rules_from_json(ours.rules)] == [rule.key]
    enforced = settings_from_json(ours.settings)
    assert enforced is not None
    assert enforced.default_level is Level.BLOCK


def test_the_first_setting_that_fails_ends_it_and_nothing_relies_on_it(office: Office) -> None:
    rule = AccessRule("DeviceType", "Robot", Level.BLOCK)
    office.wire.at("rule", BadRequestError("no"))

    report = do(office, mailboxes=(), settings=(CreateRule(rule), SetOrganizationSettings(Level.BLOCK)))

    assert (report.planned, report.failed) == (1, 1)
    assert office.wire.settings.default_access_level == "Quarantine"
    assert rules_from_json(OrganizationLedger.objects.get().rules) == ()


def test_a_rule_that_is_there_already_stays_its_makers(office: Office) -> None:
    rule = AccessRule("DeviceType", "Robot", Level.BLOCK)
    do(office, mailboxes=(), settings=(CreateRule(rule),))
    OrganizationLedger.objects.all().delete()

    report = do(office, mailboxes=(), settings=(CreateRule(replace(rule, level=Level.QUARANTINE)),))

    assert report.failed == 1
    assert rules_from_json(OrganizationLedger.objects.get().rules) == ()


def test_a_rule_of_ours_that_is_removed_is_not_ours_any_more(office: Office) -> None:
    rule = AccessRule("DeviceType", "Robot", Level.BLOCK)
    do(office, mailboxes=(), settings=(CreateRule(rule),))

    do(office, mailboxes=(), settings=(RemoveRule(replace(rule, identity="Robot (DeviceType)")),))

    assert office.wire.rules == []
    assert rules_from_json(OrganizationLedger.objects.get().rules) == ()


# --- mails ---


def test_a_denial_is_noted_with_the_intent_and_waits_for_its_mail(office: Office) -> None:
    do(office)
    office.compliance(0, "noncompliant")
    noted: list[denials.Denied] = []

    def listen(organization_id: int, run_id: int | None, denied: tuple[denials.Denied, ...]) -> None:
        noted.extend(denied)
        Notification.objects.create(
            organization=office.organization, device_id=denied[0].device, denial="1", recipient="a@contoso.com",
            language="en", reason=denied[0].reason, message_id="x", made_at=timezone.now(),
        )  # fmt: skip

    denials.listeners.append(listen)
    try:
        began = time.monotonic()
        do(office, may_deny=None)
    finally:
        denials.listeners.remove(listen)

    assert [(one.device, one.mailbox, one.reason) for one in noted] == [
        (office.devices[0].pk, office.keys[0], "notCompliant")
    ]
    # It waited as long as it may, and went on.
    assert time.monotonic() - began >= 0.3
    assert office.wire.mailboxes[office.mailboxes[0].guid].allowed_device_ids == ()


def test_a_listener_that_fails_stops_no_denial(office: Office) -> None:
    do(office)
    office.compliance(0, "noncompliant")

    def listen(*_: object) -> None:
        raise ZeroDivisionError

    denials.listeners.append(listen)
    try:
        assert do(office, may_deny=None).done == 1
    finally:
        denials.listeners.remove(listen)


# --- recovery ---


def lose(office: Office, *, state: Command.State, number: int = 0) -> Command:
    """As if the worker had died with the command in that state."""
    row = command(office, number)
    past = timezone.now() - datetime.timedelta(seconds=5)
    Command.objects.filter(pk=row.pk).update(state=state, lease_expires_at=past, finished_at=None)
    return row


def recover(office: Office) -> int:
    return settle.recover(office.connector, open_sessions=office.wire.open_sessions)


def test_what_was_not_sent_is_canceled_and_looked_at_again(office: Office) -> None:
    do(office)
    office.wire.mailboxes[office.mailboxes[0].guid] = replace(
        office.wire.mailboxes[office.mailboxes[0].guid], allowed_device_ids=()
    )
    row = lose(office, state=State.PLANNED)

    assert recover(office) == 1

    row.refresh_from_db()
    assert (row.state, row.error_code) == (State.CANCELED, "worker_lost")
    assert (office.keys[0], "allowed", "phone0") not in ledger()
    assert MailboxCheck.objects.get().mailbox_id == office.keys[0]
    assert len(office.wire.sent) == 3


@pytest.mark.parametrize("state", [State.SENT, State.UNKNOWN])
@pytest.mark.parametrize("was_done", [True, False])
def test_what_was_sent_is_read(office: Office, state: Command.State, was_done: bool) -> None:
    do(office)
    if not was_done:
        office.wire.mailboxes[office.mailboxes[0].guid] = replace(
            office.wire.mailboxes[office.mailboxes[0].guid], allowed_device_ids=()
        )
    row = lose(office, state=state)

    assert recover(office) == 1

    row.refresh_from_db()
    assert row.state == (State.DONE if was_done else State.FAILED)
    assert len(office.wire.sent) == 3
    assert MailboxCheck.objects.exists() is not was_done
    assert Mailbox.objects.get(pk=office.keys[0]).allowed == (["PHONE0"] if was_done else [])


def test_a_row_whose_lease_lasts_is_left_alone(office: Office) -> None:
    do(office)
    row = lose(office, state=State.SENT)
    Command.objects.filter(pk=row.pk).update(lease_expires_at=timezone.now() + datetime.timedelta(minutes=1))

    assert recover(office) == 0


def test_without_a_session_the_rows_wait(office: Office) -> None:
    do(office)
    row = lose(office, state=State.SENT)
    office.wire.at("open", *[StopError("no")] * 5)

    assert recover(office) == 0

    row.refresh_from_db()
    assert row.state == State.SENT
    assert row.lease_expires_at is not None
    assert row.lease_expires_at > timezone.now()


def test_whoever_lost_a_row_to_recovery_writes_nothing_more(office: Office) -> None:
    """The worker was not dead, only slow: its outcome comes when the row is another's."""

    def slow() -> None:
        past = timezone.now() - datetime.timedelta(seconds=5)
        Command.objects.filter(state=State.SENT).update(owner="recovery", lease_expires_at=past)
        connection.close()  # this thread's own

    Connector.objects.update(parallel_commands=1)
    office.wire.at("after set", slow)

    report = do(office)

    assert Command.objects.filter(owner="recovery", state=State.SENT).count() >= 1
    assert report.done < 3

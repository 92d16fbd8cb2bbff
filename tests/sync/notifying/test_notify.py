"""Who is told of which denial: noted with the command that takes mail away, or when a new phone is kept out anyway."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from connectors.actors import Actor
from connectors.mail.errors import MailTransientError
from connectors.models import Connector, DeviceSource, NotificationAccount
from sync.acting import denials
from sync.acting.checks import check_request
from sync.acting.denials import Denied
from sync.acting.lane import checks_do
from sync.models import (
    DeviceAccess,
    DeviceEvent,
    DirectoryUser,
    Mailbox,
    ManagedDevice,
    MobileDevice,
    Notification,
    SyncRun,
)
from sync.notifying.notify import can_be_retried, denials_noted, notification_retry
from sync.records.sources import RefreshReport
from tests.sync.access import enrolled, govern, person
from tests.sync.exchange import FakeExchange, device
from tests.sync.mails import Server, later, send, tell
from tests.sync.worlds import Killed

pytestmark = pytest.mark.django_db

State = Notification.State
Sync = Callable[..., SyncRun]
NOW = timezone.now()


@pytest.fixture(autouse=True)
def _no_queue(monkeypatch: pytest.MonkeyPatch, settings: Any) -> None:
    monkeypatch.setattr("sync.dispatch._send_prompt", lambda *_: None)
    settings.NOTIFY_BEFORE_DENIAL_SECONDS = 0.0


def phone(number: int = 0, **values: Any) -> MobileDevice:
    return MobileDevice.objects.get(device_id=f"ID{number:04d}", **values)


def denial(number: int = 0, reason: str = "notEnrolled") -> Denied:
    found = phone(number)
    return Denied(found.pk, found.owner_id, "quarantine", reason, "noRecord")


def note(connector: Connector, *denied: Denied) -> None:
    with transaction.atomic():
        denials.noted(connector.organization_id, None, denied)


def let_in(number: int = 0) -> None:
    """Its verdict turned, and was told."""
    DeviceEvent.objects.create(device=phone(number), at=timezone.now(), code="verdict", params={"state": "allowed"})


def rows() -> list[tuple[str, str, str]]:
    """(DeviceId, state, suppressed because) in order."""
    found = Notification.objects.order_by("pk").values_list("device__device_id", "state", "suppressed_because")
    return list(found)


def story(number: int = 0) -> list[str]:
    lines = DeviceEvent.objects.filter(device=phone(number), code__startswith="notification").order_by("pk")
    return list(lines.values_list("code", flat=True))


@pytest.fixture
def told(connector: Connector, exchange: FakeExchange, sync: Sync) -> Connector:
    """Ten old phones with their mailboxes are known, and people are told of denials."""
    exchange.put_people(*range(10))
    govern(connector)
    tell(connector)
    sync()
    assert not Notification.objects.exists()
    return connector


# --- what is noted --------------------------------------------------------------------------------------------------


def test_a_denial_is_queued_for_the_person_at_the_mailbox(told: Connector) -> None:
    note(told, denial(0))

    row = Notification.objects.get()
    assert (row.state, row.recipient, row.language) == (State.QUEUED, phone(0).owner.primary_smtp, "en")  # type: ignore[union-attr]
    assert (row.reason, row.denial, row.attempts) == ("notEnrolled", f"{phone(0).pk}:1", 0)
    assert row.message_id.endswith("@contoso.com>")
    assert story() == ["notificationQueued"]


def test_one_denial_is_one_mail_however_often_it_is_noted(told: Connector) -> None:
    note(told, denial(0))
    note(told, denial(0))
    note(told, denial(0, "notCompliant"))

    assert rows() == [("ID0000", State.QUEUED, "")]
    assert story() == ["notificationQueued"]


def test_again_about_the_same_phone_not_before_the_days_are_over(told: Connector) -> None:
    server = Server()
    note(told, denial(0))
    send(told, server)
    let_in()
    note(told, denial(0))

    assert rows() == [("ID0000", State.SENT, ""), ("ID0000", State.SUPPRESSED, "repeated")]
    assert story() == ["notificationQueued", "notificationSent", "notificationSuppressed"]

    past = timezone.now() - datetime.timedelta(days=8)
    Notification.objects.update(made_at=past, finished_at=past)
    let_in()
    note(told, denial(0))
    assert rows()[2:] == [("ID0000", State.QUEUED, "")]
    assert list(Notification.objects.order_by("pk").values_list("denial", flat=True)) == [
        f"{phone(0).pk}:{number}" for number in (1, 2, 3)
    ]


def test_a_partnership_made_anew_is_the_same_phone(told: Connector) -> None:
    old = phone(0)
    note(told, denial(0))
    MobileDevice.objects.filter(pk=old.pk).update(gone_at=NOW)
    new = MobileDevice.objects.get(pk=old.pk)
    new.pk, new.guid, new.gone_at, new._state.adding = None, old.public_id, None, True
    new.public_id = old.guid
    new.save()

    note(told, Denied(new.pk, new.owner_id, "quarantine", "notEnrolled", "noRecord"))

    assert rows() == [("ID0000", State.QUEUED, ""), ("ID0000", State.SUPPRESSED, "repeated")]


def test_whom_no_mail_reached_is_told_of_the_next_denial(told: Connector) -> None:
    note(told, denial(0))
    Notification.objects.update(state=State.FAILED, finished_at=timezone.now())
    let_in()
    note(told, denial(0))

    assert [state for _, state, _ in rows()] == [State.FAILED, State.QUEUED]


@pytest.mark.parametrize("why", ["off", "no account", "account none"])
def test_where_nobody_is_told_nothing_is_written(told: Connector, why: str) -> None:
    if why == "off":
        tell(told, enabled=False)
    elif why == "no account":
        NotificationAccount.objects.all().delete()
    else:
        tell(told, channel="none")

    note(told, denial(0))

    assert not Notification.objects.exists()


@pytest.mark.parametrize("address", ["", "nobody", "a b@contoso.com"])
def test_a_mailbox_without_an_address_is_shown(told: Connector, address: str) -> None:
    Mailbox.objects.filter(devices=phone(0)).update(primary_smtp=address)

    note(told, denial(0))

    assert rows() == [("ID0000", State.SUPPRESSED, "noAddress")]
    assert story() == []


@pytest.mark.parametrize(
    ("own", "policy", "language"),
    [("", "en", "en"), ("", "zh-hant", "zh-hant"), ("zh-TW", "en", "zh-hant"), ("en-GB", "zh-hant", "en")],
)
def test_the_language_is_the_persons_or_else_the_organizations(
    told: Connector, own: str, policy: str, language: str
) -> None:
    tell(told, language=policy)
    who = person(told, 0, preferred_language=own)
    Mailbox.objects.filter(devices=phone(0)).update(person=who)

    note(told, denial(0))

    assert Notification.objects.get().language == language


def test_many_are_noted_in_a_fixed_number_of_queries(told: Connector) -> None:
    note(told, denial(9))

    def queries(*numbers: int) -> int:
        denied = [denial(number) for number in numbers]
        with CaptureQueriesContext(connection) as captured, transaction.atomic():
            denials_noted(told.organization_id, None, tuple(denied))
        return len(captured)

    assert queries(0) == queries(1, 2, 3, 4, 5, 6, 7)
    assert Notification.objects.count() == 9


# --- when -----------------------------------------------------------------------------------------------------------


def test_a_command_that_denies_tells_the_person(told: Connector, exchange: FakeExchange, sync: Sync) -> None:
    enrolled(told, 0)
    sync()
    DirectoryUser.objects.update(preferred_language="zh-TW")
    record_of(0, compliance="noncompliant")

    run = sync()

    row = Notification.objects.get()
    assert (row.device.device_id, row.reason, row.run, row.language) == ("ID0000", "notCompliant", run, "zh-hant")
    assert exchange.box(0).allowed_device_ids == ()


def record_of(number: int, **values: Any) -> None:
    ManagedDevice.objects.filter(eas_device_id=f"ID{number:04d}").update(**values)


def test_a_new_phone_that_the_default_keeps_out_is_told_of(told: Connector, exchange: FakeExchange, sync: Sync) -> None:
    new = device(10, first_sync_time=timezone.now())
    exchange.put(new)
    exchange.put_people(10)

    run = sync("deltaSync")

    assert exchange.written == []
    row = Notification.objects.get()
    assert (row.device.device_id, row.reason, row.state, row.run) == ("ID0010", "notEnrolled", State.QUEUED, run)
    sync()
    sync("deltaSync")
    assert Notification.objects.count() == 1


@pytest.mark.parametrize(("shown", "are_told"), [("Quarantined", ["ID0010"]), ("Allowed", [])])
def test_where_a_rule_that_is_not_shown_may_decide_exchange_is_believed(
    told: Connector, exchange: FakeExchange, sync: Sync, shown: str, are_told: list[str]
) -> None:
    exchange.put_rule("XMSWLHeader", "x", "Allow")
    exchange.put(replace(device(10, first_sync_time=timezone.now()), access_state=shown))
    exchange.put_people(10)

    sync()

    assert DeviceAccess.objects.get(device=phone(10)).state == "unknown"
    assert [row.device.device_id for row in Notification.objects.all()] == are_told


def test_a_new_phone_is_told_of_in_the_lane_too(
    told: Connector, exchange: FakeExchange, sync: Sync, monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    settings.CHECKS_LINGER_SECONDS = 0.0
    MobileDevice.objects.filter(pk=phone(3).pk).update(first_sync_time=timezone.now())
    check_request([int(str(phone(3).owner_id))], because="test")

    checks_do(
        told.pk,
        open_exchange=partial(exchange.open, on_event=lambda *_: None),
        open_sessions=exchange.open_sessions_of,
    )

    assert rows() == [("ID0003", State.QUEUED, "")]


@pytest.mark.parametrize("why", ["dry run", "observes only", "records unreadable", "never read", "let in", "not told"])
def test_a_new_phone_is_not_told_of(connector: Connector, exchange: FakeExchange, sync: Sync, why: str) -> None:
    exchange.put_people(*range(10))
    if why != "never read":
        govern(connector)
    tell(connector)
    exchange.put(device(10, first_sync_time=timezone.now()))
    exchange.put_people(10)
    if why == "observes only":
        Connector.objects.update(is_observe_only=True)
    if why == "let in":
        enrolled(connector, 10)
    if why == "never read":
        govern(connector)
        DeviceSource.objects.update(last_pushed_at=None)
    if why == "not told":
        tell(connector, enabled=False)

    records = RefreshReport("graph", error_code="graph_unreachable") if why == "records unreadable" else None
    sync(is_dry_run=why == "dry run", records=records)

    assert not Notification.objects.exists()


def test_what_was_not_told_while_observing_is_told_after(told: Connector, exchange: FakeExchange, sync: Sync) -> None:
    Connector.objects.update(is_observe_only=True)
    exchange.put(device(10, first_sync_time=timezone.now()))
    exchange.put_people(10)
    sync()
    assert DeviceAccess.objects.get(device=phone(10)).state == "quarantined"
    assert not Notification.objects.exists()

    Connector.objects.update(is_observe_only=False)
    sync()

    assert rows() == [("ID0010", State.QUEUED, "")]


def test_a_phone_that_somebody_elses_rule_keeps_out_now_is_told_of(
    told: Connector, exchange: FakeExchange, sync: Sync
) -> None:
    """It had mail by the default until then, and no command of ours took it."""
    exchange.settings = replace(exchange.settings, default_access_level="Allow")
    enrolled(told, 0)
    sync()
    assert DeviceAccess.objects.get(device=phone(0)).state == "allowed"
    exchange.settings = replace(exchange.settings, default_access_level="Quarantine")
    govern(told, override_default_rule=False)

    sync()

    assert DeviceAccess.objects.get(device=phone(0)).state == "quarantined"
    assert ("ID0000", State.QUEUED, "") in rows()


@pytest.mark.django_db(transaction=True)
def test_the_mail_leaves_before_the_mail_access_does(
    told: Connector, exchange: FakeExchange, sync: Sync, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = Server()
    monkeypatch.setattr("sync.dispatch._send_prompt", lambda task, *_: task == "sync.notify" and send(told, server))
    enrolled(told, 0)
    sync()
    record_of(0, compliance="noncompliant")
    had: list[tuple[str, ...]] = []
    server.at("send", lambda: had.append(exchange.box(0).allowed_device_ids))

    sync()

    assert had == [("ID0000",)]
    assert exchange.box(0).allowed_device_ids == ()
    assert server.to() == ["person0@contoso.com"]
    assert story() == ["notificationQueued", "notificationSent"]


@pytest.mark.django_db(transaction=True)
def test_a_mail_server_that_is_down_stops_no_sync(
    told: Connector, exchange: FakeExchange, sync: Sync, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = Server()
    server.at("open", MailTransientError("down", code="mail_unreachable"))
    monkeypatch.setattr("sync.dispatch._send_prompt", lambda task, *_: task == "sync.notify" and send(told, server))
    enrolled(told, 0)
    sync()
    record_of(0, compliance="noncompliant")

    run = sync()

    assert run.status == SyncRun.Status.SUCCEEDED
    assert exchange.box(0).allowed_device_ids == ()
    assert rows() == [("ID0000", State.QUEUED, "")]


# --- again ----------------------------------------------------------------------------------------------------------


class TestRetry:
    def test_what_failed_is_tried_again(self, told: Connector) -> None:
        note(told, denial(0))
        row = Notification.objects.get()
        Notification.objects.update(
            state=State.FAILED, finished_at=timezone.now(), attempts=27, error_code="mail_recipient_refused"
        )

        notification_retry(notification=row, actor=Actor(name="Ada"))

        server = Server()
        assert send(told, server) == 1
        assert rows() == [("ID0000", State.SENT, "")]
        assert DeviceEvent.objects.filter(code="notificationQueued", actor_name="Ada").count() == 1

    @pytest.mark.parametrize("taken", [True, False])
    def test_what_may_have_left_is_looked_for_first(self, told: Connector, taken: bool) -> None:
        server = Server()
        note(told, denial(0))
        if taken:
            server.at("after send", Killed())
            with pytest.raises(Killed):
                send(told, server)
        Notification.objects.update(state=State.UNKNOWN, finished_at=timezone.now(), next_attempt_at=None)
        later()
        assert send(told, server) == 0

        notification_retry(notification=Notification.objects.get(), actor=Actor(name="Ada"))
        send(told, server)

        assert rows() == [("ID0000", State.SENT, "")]
        assert server.times() == [1]

    @pytest.mark.parametrize("state", [State.QUEUED, State.SENDING, State.SENT, State.SUPPRESSED, State.UNKNOWN])
    def test_nothing_else_is(self, told: Connector, state: str) -> None:
        note(told, denial(0))
        Notification.objects.update(state=state)
        before = Notification.objects.values().get()

        with pytest.raises(ValidationError):
            notification_retry(notification=Notification.objects.get(), actor=Actor(name="Ada"))

        assert Notification.objects.values().get() == before
        assert not Notification.objects.filter(can_be_retried()).exists()

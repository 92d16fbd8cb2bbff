"""The mail queue: what becomes of a mail whatever the server says, and wherever a worker is killed."""

from __future__ import annotations

import contextlib
import datetime
from collections.abc import Callable
from typing import Any

import pytest
from django.db.models.functions import Now
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from connectors.mail.errors import (
    MailError,
    MailOutcomeUnknownError,
    MailRefusedError,
    MailStopError,
    MailTransientError,
)
from connectors.models import Connector, NotificationAccount, Tenant
from sync.acting import denials
from sync.acting.denials import Denied
from sync.models import DeviceAccess, DeviceEvent, Notification
from sync.notifying import notify_queue, notify_send
from sync.notifying.notify_send import notifications_dispatch_due
from tests.connectors import factories
from tests.sync.act_fakes import Office
from tests.sync.mails import LINK, Server, later, lose, send, tell
from tests.sync.worlds import Killed

State = Notification.State
BUSY = MailTransientError("busy", code="mail_server_busy", server="mail.contoso.com")


@pytest.fixture(autouse=True)
def dispatched(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """What the queue was told: (task, arguments, queue)."""
    told: list[tuple[Any, ...]] = []
    monkeypatch.setattr("sync.dispatch._send_prompt", lambda *call: told.append(call))
    return told


class Post:
    """An organization whose people (0, 1, ...) are kept out, each with a mail that is queued."""

    def __init__(self, size: int = 1, *, channel: str = "ews", **policy: Any) -> None:
        self.connector = factories.connector()
        self.office = Office(self.connector, size)
        self.server = Server(has_sent_items=channel == "ews")
        tell(self.connector, channel=channel, **policy)
        DeviceAccess.objects.bulk_create(
            DeviceAccess(
                device=device, organization=self.office.organization, access="quarantine", state="quarantined",
                reason="notEnrolled", rule="noRecord", decided_at=Now(),
            )
            for device in self.office.devices
        )  # fmt: skip
        denied = (
            Denied(device.pk, device.owner_id, "quarantine", "notEnrolled", "noRecord")
            for device in self.office.devices
        )
        denials.noted(self.connector.organization_id, None, tuple(denied))

    def send(self) -> int:
        return send(self.connector, self.server)

    def row(self, number: int = 0) -> Notification:
        return Notification.objects.get(device=self.office.devices[number])

    def states(self) -> list[str]:
        return list(Notification.objects.order_by("device_id").values_list("state", flat=True))

    def account(self) -> NotificationAccount:
        return NotificationAccount.objects.get(organization=self.connector.organization)


@pytest.fixture
def post(db: None) -> Post:
    return Post()


def wait_of(row: Notification) -> float:
    """Minutes until the next attempt."""
    assert row.next_attempt_at is not None
    now = Notification.objects.annotate(now=Now()).values_list("now", flat=True).get(pk=row.pk)
    return round((row.next_attempt_at - now).total_seconds() / 60, 1)


def codes(post: Post, number: int = 0) -> list[str]:
    lines = DeviceEvent.objects.filter(device=post.office.devices[number]).order_by("pk")
    return list(lines.values_list("code", flat=True))


# --- outcomes -------------------------------------------------------------------------------------------------------


def test_sent(post: Post) -> None:
    assert post.send() == 1

    row, mail = post.row(), post.server.taken[0]
    assert (row.state, row.attempts, row.next_attempt_at, row.error_code) == (State.SENT, 1, None, "")
    assert row.finished_at is not None
    assert (mail.to, mail.message_id) == ("person0@contoso.com", row.message_id)
    assert LINK in mail.html
    assert LINK in mail.text
    assert codes(post) == ["notificationQueued", "notificationSent"]
    assert post.account().last_sent_at is not None
    assert post.send() == 0
    assert post.server.times() == [1]


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("language", "subject", "reason"),
    [("en", "Enroll your phone", "Ask me: Person"), ("zh-hant", "手機", "Ask me: Person")],
)
def test_the_mail_is_in_its_language_and_by_the_organizations_template(
    language: str, subject: str, reason: str
) -> None:
    from sync.policies.policy import MailTemplateValues

    own = MailTemplateValues(body="Ask me: {{person_first_name}} {{date}} {{state}} [x]({{enrollment_link}})")
    post = Post(language=language, templates={language: own})
    post.send()

    mail = post.server.taken[0]
    assert subject in mail.subject
    assert reason in mail.text
    assert ("年" in mail.text) == (language == "zh-hant")


def test_one_session_sends_many(db: None) -> None:
    post = Post(5)
    assert post.send() == 5
    assert (post.server.sessions, post.server.times()) == (1, [1] * 5)


def test_no_more_than_a_batch_and_then_again(
    db: None, monkeypatch: pytest.MonkeyPatch, dispatched: list[Any], django_capture_on_commit_callbacks: Any
) -> None:
    monkeypatch.setattr(notify_send, "BATCH", 2)
    post = Post(5)
    with django_capture_on_commit_callbacks(execute=True):
        assert post.send() == 2
    assert dispatched == [("sync.notify", (post.connector.organization_id,), "site.default.now")]
    with django_capture_on_commit_callbacks(execute=True):
        assert (post.send(), post.send()) == (2, 1)
    assert len(dispatched) == 2
    assert post.server.times() == [1] * 5


def test_what_the_server_cannot_take_now_is_sent_later(post: Post) -> None:
    waits = []
    for _ in range(notify_queue.MOST_ATTEMPTS - 1):
        post.server.at("send", BUSY)
        post.send()
        assert post.row().state == State.QUEUED
        waits.append(wait_of(post.row()))
        assert post.send() == 0
        later()
    assert waits[:5] == [1, 5, 15, 60, 60]
    assert 20 * 60 < sum(waits) < 28 * 60
    assert post.row().error_code == "mail_server_busy"

    post.server.at("send", BUSY)
    post.send()

    assert (post.row().state, post.row().error_params["server"]) == (State.FAILED, "mail.contoso.com")
    assert codes(post) == ["notificationQueued", "notificationFailed"]
    later()
    assert post.send() == 0


def test_a_server_that_says_when_is_believed(post: Post) -> None:
    post.server.at("send", MailTransientError("busy", retry_after=1200.0, code="mail_server_busy"))
    post.send()
    assert wait_of(post.row()) == 20


def test_a_busy_server_holds_up_all_and_is_asked_once(db: None) -> None:
    post = Post(4)
    post.server.at("send", None, BUSY)
    assert post.send() == 1
    assert post.send() == 0
    assert (post.server.tries, post.server.sessions) == (2, 1)
    assert [row.error_code for row in Notification.objects.exclude(state=State.SENT)] == ["mail_server_busy"] * 3
    later()
    assert post.send() == 3


def test_a_server_that_is_down_for_a_day_fails_all(db: None) -> None:
    post = Post(3)
    for _ in range(notify_queue.MOST_ATTEMPTS):
        post.server.at("open", MailTransientError("down", code="mail_unreachable"))
        assert post.send() == 0
        later()
    assert post.states() == [State.FAILED] * 3
    assert DeviceEvent.objects.filter(code="notificationFailed").count() == 3
    assert post.server.tries == 0


def test_a_recipient_that_waits_or_is_refused_holds_up_nobody(db: None) -> None:
    post = Post(3)
    post.server.at(
        "send",
        MailTransientError("greylisted", code="mail_deferred"),
        MailRefusedError("no such user", code="mail_recipient_refused", remote_text="5.1.1"),
    )
    assert post.send() == 1
    assert post.states() == [State.QUEUED, State.FAILED, State.SENT]
    assert post.row(1).error_params == {"remote_text": "5.1.1"}
    assert post.account().last_error_code == ""


@pytest.mark.parametrize("place", ["open", "send"])
def test_an_account_that_must_be_mended_pauses_all(db: None, place: str, dispatched: list[Any]) -> None:
    post = Post(3)
    post.server.at(place, MailStopError("no", code="mail_sign_in_failed", server="mail.contoso.com"))
    post.send()
    account = post.account()
    assert (account.last_error_code, account.last_error_params) == (
        "mail_sign_in_failed",
        {"server": "mail.contoso.com"},
    )
    assert post.states() == [State.QUEUED] * 3
    tries = post.server.tries

    # Nothing is tried again, however often anybody asks, and no denial waits for it.
    assert (post.send(), notifications_dispatch_due()) == (0, 0)
    assert (post.server.tries, post.server.sessions) == (tries, int(place == "send"))
    assert not denials.mails_are_under_way([device.pk for device in post.office.devices])

    later(16)
    assert notifications_dispatch_due() == 1
    assert post.send() == 3
    assert post.account().last_error_code == ""


def test_an_account_that_was_mended_is_used_at_once(post: Post) -> None:
    post.server.at("send", MailStopError("no", code="mail_send_as_denied"))
    post.send()
    NotificationAccount.objects.update(last_error_code="", last_error_at=None)
    assert post.send() == 1


def test_an_error_of_ours_is_one_mails(db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    post = Post(2)
    post.server.at("send", ZeroDivisionError())
    assert post.send() == 1
    assert (post.row(0).state, post.row(0).error_code) == (State.QUEUED, "internal_error")


# --- what is not needed any more ------------------------------------------------------------------------------------


@pytest.mark.parametrize("why", ["let in", "gone"])
def test_a_denial_that_is_over_is_not_told(post: Post, why: str) -> None:
    if why == "let in":
        DeviceAccess.objects.update(state="allowed")
    else:
        device = post.office.devices[0]
        device.gone_at = device.changed_at
        device.save()
    assert post.send() == 0
    assert (post.row().state, post.row().suppressed_because) == (State.SUPPRESSED, "notNeeded")
    assert post.server.taken == []


@pytest.mark.parametrize("why", ["off", "account none"])
def test_what_is_queued_when_telling_is_switched_off_is_not_sent(post: Post, why: str) -> None:
    tell(post.connector, **({"enabled": False} if why == "off" else {"channel": "none"}))
    assert post.send() == 0
    assert (post.row().state, post.row().suppressed_because) == (State.SUPPRESSED, "off")


# --- unknown --------------------------------------------------------------------------------------------------------


LOST = MailOutcomeUnknownError("lost", because="mail_unreachable")


@pytest.mark.parametrize(("place", "left"), [("send", False), ("after send", True)])
def test_a_lost_answer_is_looked_for_before_anything_is_sent_again(post: Post, place: str, left: bool) -> None:
    post.server.at(place, LOST)
    post.send()
    assert (post.row().state, post.row().error_code) == (State.UNKNOWN, "mail_outcome_unknown")
    assert wait_of(post.row()) == 1
    assert post.send() == 0

    later(2)
    assert post.send() == 1
    assert post.row().state == State.SENT
    assert (post.server.times(), post.server.tries) == ([1], 1 if left else 2)
    assert codes(post) == ["notificationQueued", "notificationSent"]


def test_it_is_looked_for_until_it_can_be(post: Post) -> None:
    post.server.at("after send", LOST)
    post.send()
    post.server.at("find", BUSY, MailStopError("no", code="mail_sign_in_failed"), None)
    for _ in range(3):
        later()
        post.send()
        assert post.server.tries == 1
    assert (post.row().state, post.server.times()) == (State.SENT, [1])


def test_one_that_may_have_left_is_looked_for_though_the_denial_is_over(post: Post) -> None:
    post.server.at("after send", LOST)
    post.send()
    DeviceAccess.objects.update(state="allowed")
    later()
    post.send()
    assert post.row().state == State.SENT


@pytest.mark.django_db
def test_without_sent_items_it_is_sent_again_once() -> None:
    post = Post(channel="smtp")
    post.server.at("after send", LOST)
    post.send()
    later()
    assert post.send() == 1
    assert (post.row().state, post.server.times()) == (State.SENT, [2])


@pytest.mark.django_db
def test_without_sent_items_and_lost_for_good_it_stays_unknown() -> None:
    post = Post(channel="smtp")
    post.server.at("after send", LOST, LOST)
    post.server.at("send", None, BUSY)
    for _ in range(8):
        post.send()
        later()
    assert (post.row().state, post.row().error_code) == (State.UNKNOWN, "mail_outcome_unknown")
    assert post.row().finished_at is not None
    assert post.server.times() == [2]


# --- several workers ------------------------------------------------------------------------------------------------


def test_only_one_worker_sends_an_organizations_mails(db: None) -> None:
    post = Post(2)

    def another() -> None:
        assert post.send() == 0

    post.server.at("send", another)
    assert post.send() == 2
    assert post.server.times() == [1, 1]


def test_who_lost_a_mail_writes_nothing_about_it(post: Post) -> None:
    """A worker that slept for too long: its mail was found abandoned, looked for, and is another one's now."""

    def meanwhile() -> None:
        lose(post.row())
        assert post.send() == 0
        assert post.row().state == State.UNKNOWN

    post.server.at("after send", meanwhile)
    post.send()
    assert post.row().state == State.UNKNOWN
    later()
    post.send()
    assert (post.row().state, post.server.times()) == (State.SENT, [1])


def test_a_worker_that_slept_before_sending_does_not_send(post: Post, settings: Any) -> None:
    settings.SYNC_LEASE_SECONDS = 0.0
    post.send()
    assert (post.row().state, post.row().attempts, post.server.tries) == (State.QUEUED, 0, 0)


def test_the_tick_offers_what_is_due_and_nobody_is_at(
    db: None, dispatched: list[Any], django_capture_on_commit_callbacks: Any
) -> None:
    post = Post(2)
    with django_capture_on_commit_callbacks(execute=True):
        assert notifications_dispatch_due() == 1
    assert dispatched == [("sync.notify", (post.connector.organization_id,), "site.default.now")]
    lose(post.row(), lease_expires_at=Now() + datetime.timedelta(seconds=20))
    assert notifications_dispatch_due() == 0
    lose(post.row())
    assert notifications_dispatch_due() == 1
    Notification.objects.update(state=State.SENT)
    assert notifications_dispatch_due() == 0


# --- before the block -----------------------------------------------------------------------------------------------


def test_a_denial_waits_for_mails_that_leave_soon_alone(post: Post) -> None:
    devices = [post.office.devices[0].pk]
    assert denials.mails_are_under_way(devices)
    assert not denials.mails_are_under_way([devices[0] + 1000])
    post.server.at("send", lambda: seen.append(denials.mails_are_under_way(devices)), BUSY)
    seen: list[bool] = []
    post.send()
    assert seen == [True]
    assert not denials.mails_are_under_way(devices)


@pytest.mark.parametrize("state", [State.UNKNOWN, State.FAILED, State.SUPPRESSED])
def test_no_denial_waits_for_what_has_ended(post: Post, state: str) -> None:
    Notification.objects.update(state=state)
    assert not denials.mails_are_under_way([post.office.devices[0].pk])


# --- killed ---------------------------------------------------------------------------------------------------------

FUNCTIONS = [
    (notify_queue, name)
    for name in (
        "claim", "sent_record", "failed_record", "suppressed_record", "unknown_record", "unknown_keep", "give_back",
        "put_off", "abandoned_take_up", "all_put_off",
    )
] + [(notify_send, "message_of"), (notify_send, "account_outcome_note")]  # fmt: skip
PLACES = ["open", "send", "after send", "find"]
ERRORS: list[MailError] = [BUSY, MailRefusedError("no"), LOST, MailStopError("no", code="mail_sign_in_failed")]
KILLS = st.one_of(
    st.tuples(st.just("place"), st.sampled_from(PLACES), st.integers(0, 2)),
    st.tuples(st.just("function"), st.integers(0, len(FUNCTIONS) - 1), st.booleans()),
)
FAILURES = st.lists(
    # A server that took a mail can only be lost afterwards.
    st.tuples(st.sampled_from(["open", "send", "find"]), st.sampled_from(ERRORS))
    | st.tuples(st.just("after send"), st.just(LOST)),
    max_size=2,
)
ROUNDS = st.lists(st.tuples(FAILURES, st.none() | KILLS), min_size=1, max_size=6)


def _killing(patch: pytest.MonkeyPatch, owner: Any, name: str, *, after: bool) -> None:
    real: Callable[..., Any] = getattr(owner, name)

    def killed(*args: Any, **named: Any) -> Any:
        patch.setattr(owner, name, real)
        if after:
            real(*args, **named)
        raise Killed

    patch.setattr(owner, name, killed)


@pytest.mark.django_db
@pytest.mark.parametrize("channel", ["ews", "smtp"])
@example(rounds=[([], ("place", "after send", 0))])
@example(rounds=[([], ("place", "after send", 0)), ([], ("place", "after send", 0)), ([], ("place", "send", 0))])
@example(rounds=[([], ("place", "after send", 0)), ([], ("function", 1, False))])
@example(rounds=[([("after send", LOST)], None), ([("find", BUSY)], None), ([], ("place", "find", 0))])
@given(rounds=ROUNDS)
@settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
def test_killed_anywhere_each_mail_goes_once(channel: str, rounds: list[Any]) -> None:
    """By SMTP, where nobody can look, one mail may come twice, and no oftener."""
    Tenant.objects.all().delete()
    post = Post(3, channel=channel)
    for failures, kill in rounds:
        with pytest.MonkeyPatch.context() as patch:
            post.server.forget_plans()
            for place, error in failures:
                post.server.at(place, error)
            if kill is not None and kill[0] == "place":
                post.server.at(kill[1], *[None] * kill[2], Killed())
            elif kill is not None:
                owner, name = FUNCTIONS[kill[1]]
                _killing(patch, owner, name, after=kill[2])
            with contextlib.suppress(Killed):
                post.send()
        later(90)
    post.server.forget_plans()
    for _ in range(5):
        post.send()
        later(90)

    limit = 1 if channel == "ews" else 2
    assert all(count <= limit for count in post.server.times())
    for row in Notification.objects.all():
        taken = sum(mail.message_id == row.message_id for mail in post.server.taken)
        if row.state == State.SENT:
            assert taken >= 1
        elif row.state == State.FAILED:
            assert row.error_code == "mail_message_refused"
        else:
            assert (channel, row.state) == ("smtp", State.UNKNOWN)
            assert row.finished_at is not None
    assert Connector.objects.count() == 1

"""Mailbox policies: read, made, changed, removed, assigned; once, by whoever means it, and never again blindly."""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.utils import timezone
from hypothesis import given
from hypothesis import strategies as st

from connectors.actors import Actor
from connectors.exchange.client import never
from connectors.exchange.errors import (
    NotPermittedError,
    OutcomeUnknownError,
    StopError,
    TransientError,
)
from connectors.exchange.policies import SETTINGS, PolicyValue
from connectors.models import Connector
from sync.acting import destructive, settle
from sync.acting.policy_deeds import KINDS
from sync.models import Command, Mailbox, MailboxPolicy
from sync.observing.mailbox_policy_rows import assigned_counts, mailboxes_of, own_mailboxes_of, policies_store
from sync.observing.mailboxes import mailbox_store
from sync.policies import mailbox_policies
from sync.policies import mailbox_policy_values as values
from sync.policies import mailbox_policy_words as words
from sync.policies.mailbox_policies import (
    policies_read,
    policy_assign,
    policy_change,
    policy_create,
    policy_make_default,
    policy_remove,
    settings_for_new,
    settings_of,
    stamp_of,
)
from tests.connectors.factories import policy_record
from tests.sync.act_fakes import LONG_AGO, cas_mailbox
from tests.sync.conftest import Sync
from tests.sync.exchange import FakeExchange

State = Command.State
ADA = Actor(name="Ada")


def opened(exchange: FakeExchange) -> Any:
    return partial(exchange.open, should_stop=never, on_event=lambda code, params: None)


@pytest.fixture
def office(connector: Connector, exchange: FakeExchange, monkeypatch: pytest.MonkeyPatch) -> FakeExchange:
    """Two policies and three mailboxes, read; the queue is the test itself."""
    connector.organization.version = "2019"
    connector.organization.save()
    for name in ("Default", "Strict"):
        exchange.policies[name] = policy_record(name)
    for number in range(3):
        record = cas_mailbox(number)
        exchange.mailboxes[record.guid] = record
        Mailbox.objects.create(
            organization=connector.organization, guid=record.guid, identity=record.identity, domain="contoso.com",
            primary_smtp=record.primary_smtp_address, read_at=LONG_AGO, changed_at=LONG_AGO,
        )  # fmt: skip
    assert policies_read(connector.pk, open_exchange=opened(exchange))
    monkeypatch.setattr(mailbox_policies, "command_dispatch", lambda command, connector: None)
    return exchange


def policy(name: str = "Strict") -> MailboxPolicy:
    return MailboxPolicy.objects.select_related("organization").get(name=name)


def mailboxes() -> list[Mailbox]:
    return list(Mailbox.objects.order_by("primary_smtp"))


def send(office: FakeExchange, command: Command) -> Command:
    destructive.command_send(command.pk, open_sessions=office.open_sessions_of)
    command.refresh_from_db()
    return command


def writes(office: FakeExchange) -> list[str]:
    return [line.partition(" ")[0] for line in office.written]


# --- reading ----------------------------------------------------------------------------------------------------------


@pytest.mark.django_db
class TestReading:
    def test_a_full_sync_reads_them(self, connector: Connector, exchange: FakeExchange, sync: Sync) -> None:
        exchange.policies["Default"] = policy_record(settings={"AllowBluetooth": "Allow", "PasswordEnabled": True})
        assert sync().status == "succeeded"
        found = MailboxPolicy.objects.get()
        assert (found.name, found.is_default, found.organization) == ("Default", True, connector.organization)
        assert settings_of(found) == {"AllowBluetooth": "Allow", "PasswordEnabled": True}

    def test_what_may_not_be_read_stays_as_it_was(self, connector: Connector, office: FakeExchange, sync: Sync) -> None:
        office.at("policies", NotPermittedError("no such command"))
        assert sync().status == "succeeded"
        assert MailboxPolicy.objects.filter(gone_at=None).count() == 2

    def test_no_session_is_no_crash(self, connector: Connector, office: FakeExchange) -> None:
        office.at("policies", TransientError("busy"))
        assert not policies_read(connector.pk, open_exchange=opened(office))

    def test_one_that_is_gone_leaves_its_mailboxes_to_the_default(
        self, connector: Connector, office: FakeExchange
    ) -> None:
        Mailbox.objects.update(mailbox_policy="strict")
        del office.policies["Strict"]
        policies_read(connector.pk, open_exchange=opened(office))
        assert policy().gone_at is not None
        assert set(Mailbox.objects.values_list("mailbox_policy", flat=True)) == {""}

    def test_a_new_name_is_told_to_its_mailboxes_and_one_that_comes_back_is_the_same_row(
        self, connector: Connector, office: FakeExchange
    ) -> None:
        strict = policy()
        Mailbox.objects.update(mailbox_policy="Strict")
        record = office.policies.pop("Strict")
        office.policies["Hard"] = replace(record, name="Hard", identity="Hard")
        policies_read(connector.pk, open_exchange=opened(office))
        assert set(Mailbox.objects.values_list("mailbox_policy", flat=True)) == {"Hard"}
        del office.policies["Hard"]
        policies_read(connector.pk, open_exchange=opened(office))
        office.policies["Strict"] = record
        policies_read(connector.pk, open_exchange=opened(office))
        strict.refresh_from_db()
        assert (strict.name, strict.gone_at) == ("Strict", None)

    def test_what_was_read_before_overwrites_nothing(self, connector: Connector, office: FakeExchange) -> None:
        early = timezone.now() - datetime.timedelta(minutes=1)
        policies_store(connector.organization_id, [], asked_at=early)
        assert MailboxPolicy.objects.filter(gone_at=None).count() == 2

    def test_odd_records(self, connector: Connector, office: FakeExchange) -> None:
        records = [
            policy_record(name="n\0l" + "x" * 400, settings={"ApprovedApplicationList": ("a\0", "b")}),
            policy_record("No GUID", guid=None),
        ]
        policies_store(connector.organization_id, records, asked_at=timezone.now())
        found = MailboxPolicy.objects.get(gone_at=None)
        assert "\0" not in found.name
        assert len(found.name) == 255
        assert settings_of(found)["ApprovedApplicationList"] != ()

    def test_who_has_which(self, office: FakeExchange, django_assert_num_queries: Any) -> None:
        one, other, _third = mailboxes()
        Mailbox.objects.filter(pk=one.pk).update(mailbox_policy="STRICT")
        Mailbox.objects.filter(pk=other.pk).update(mailbox_policy="Unheard of")
        default, strict = policy("Default"), policy()
        with django_assert_num_queries(1):
            assert assigned_counts([default, strict]) == {default.pk: 1, strict.pk: 1}
        assert mailboxes_of(default).count() == 1
        assert own_mailboxes_of(default).count() == 0
        assert list(mailboxes_of(strict)) == [one]

    def test_a_mailbox_that_shows_the_default_has_none_of_its_own(
        self, connector: Connector, office: FakeExchange
    ) -> None:
        """Exchange may name the default at a mailbox that has none of its own, and says so beside it."""
        shown = [
            cas_mailbox(number, active_sync_mailbox_policy="Default", is_policy_defaulted=number > 0)
            for number in range(3)
        ]
        mailbox_store(connector.organization_id, shown, asked_at=timezone.now())
        assert [one.mailbox_policy for one in mailboxes()] == ["Default", "", ""]


# --- ordering and sending ---------------------------------------------------------------------------------------------


@pytest.mark.django_db
class TestOrders:
    def test_create(self, connector: Connector, office: FakeExchange) -> None:
        wanted: dict[str, PolicyValue] = {
            "PasswordEnabled": True,
            "MinPasswordLength": 6,
            "MaxInactivityTimeLock": "0:05:00",
            "ApprovedApplicationList": (),
        }
        command = policy_create(
            organization=connector.organization, name=" Sales ", settings=wanted, key="k1", actor=ADA
        )
        assert command.state == State.PLANNED
        assert command.text.startswith("New-MobileDeviceMailboxPolicy -Name 'Sales'")
        assert "-MaxInactivityTimeLock '00:05:00'" in command.text
        assert "ApprovedApplicationList" not in command.text
        assert not office.written

        assert send(office, command).state == State.DONE
        made = policy("Sales")
        assert settings_of(made)["MinPasswordLength"] == 6
        assert not made.is_default

        # The same form again, after it was done and the name is taken: the same command.
        again = policy_create(organization=connector.organization, name="Sales", settings=wanted, key="k1", actor=ADA)
        assert again == command
        send(office, command)
        assert writes(office) == ["New-MobileDeviceMailboxPolicy"]

    def test_the_2010_names(self, connector: Connector, office: FakeExchange) -> None:
        connector.organization.version = "2010"
        connector.organization.save()
        command = policy_change(policy=policy(), name="Strict", settings={"MinPasswordLength": 8}, key="k1", actor=ADA)
        assert command.text.startswith("Set-ActiveSyncMailboxPolicy")
        assert "-MinDevicePasswordLength 8" in command.text

    def test_change_sends_what_differs(self, office: FakeExchange) -> None:
        strict = policy()
        wanted = {**settings_of(strict), "MinPasswordLength": 8, "MaxInactivityTimeLock": "0:15:00"}
        command = policy_change(
            policy=strict, name="Hard", settings=wanted, key="k1", actor=ADA, based_on=stamp_of(strict)
        )
        assert command.payload["settings"] == {"MinPasswordLength": 8}
        assert send(office, command).state == State.DONE
        assert settings_of(policy("Hard"))["MinPasswordLength"] == 8

    def test_make_default(self, office: FakeExchange) -> None:
        command = policy_make_default(policy=policy(), key="k1", actor=ADA)
        assert "-IsDefault" in command.text
        assert send(office, command).state == State.DONE
        assert list(MailboxPolicy.objects.filter(is_default=True)) == [policy()]

    def test_remove(self, office: FakeExchange) -> None:
        Mailbox.objects.update(mailbox_policy="Strict")
        command = policy_remove(policy=policy(), key="k1", actor=ADA)
        assert send(office, command).state == State.DONE
        assert policy().gone_at is not None
        assert set(Mailbox.objects.values_list("mailbox_policy", flat=True)) == {""}
        assert policy_remove(policy=policy(), key="k1", actor=ADA) == command

    def test_remove_one_that_somebody_removed(self, office: FakeExchange) -> None:
        command = policy_remove(policy=policy(), key="k1", actor=ADA)
        del office.policies["Strict"]
        assert send(office, command).state == State.DONE

    def test_assign_and_back(self, connector: Connector, office: FakeExchange) -> None:
        chosen = mailboxes()[:2]
        organization = connector.organization
        ordered = policy_assign(organization=organization, mailboxes=chosen, policy=policy(), key="k1", actor=ADA)
        assert [send(office, command).state for command in ordered] == [State.DONE, State.DONE]
        assert mailboxes_of(policy()).count() == 2

        # Again: the same commands for the same form, none for another, since they have it.
        again = policy_assign(organization=organization, mailboxes=chosen, policy=policy(), key="k1", actor=ADA)
        assert again == ordered
        assert not policy_assign(
            organization=organization, mailboxes=mailboxes()[:2], policy=policy(), key="k2", actor=ADA
        )
        (back,) = policy_assign(organization=organization, mailboxes=mailboxes()[:1], policy=None, key="k3", actor=ADA)
        assert "-ActiveSyncMailboxPolicy $null" in back.text
        assert send(office, back).state == State.DONE
        assert mailboxes()[0].mailbox_policy == ""
        assert writes(office) == ["Set-CASMailbox"] * 3

    def test_observing_sends_nothing_and_shows_what_it_would_be(
        self, connector: Connector, office: FakeExchange
    ) -> None:
        Connector.objects.update(is_observe_only=True)
        command = policy_make_default(policy=policy(), key="k1", actor=ADA)
        assert command.state == State.OBSERVED
        assert command.finished_at is not None
        assert send(office, command).state == State.OBSERVED
        assert policy_make_default(policy=policy(), key="k1", actor=ADA) == command
        assert not office.written

    def test_switched_to_observing_before_it_is_sent(self, connector: Connector, office: FakeExchange) -> None:
        command = policy_make_default(policy=policy(), key="k1", actor=ADA)
        Connector.objects.update(is_observe_only=True)
        assert send(office, command).state == State.OBSERVED
        assert not office.written

    @pytest.mark.parametrize(
        ("error", "state", "code"),
        [
            (StopError("no"), State.FAILED, StopError("no").code),
            (NotPermittedError("no"), State.FAILED, NotPermittedError("no").code),
        ],
        ids=["stop", "not permitted"],
    )
    def test_what_exchange_says(self, office: FakeExchange, error: Exception, state: str, code: str) -> None:
        command = policy_make_default(policy=policy(), key="k1", actor=ADA)
        office.at("write", error)
        assert send(office, command).state == state
        assert command.error_code == code

    def test_no_answer_and_it_was_done(self, office: FakeExchange) -> None:
        command = policy_change(policy=policy(), name="Strict", settings={"MinPasswordLength": 8}, key="k", actor=ADA)
        office.at("written", OutcomeUnknownError("gone"))
        assert send(office, command).state == State.DONE
        assert settings_of(policy())["MinPasswordLength"] == 8
        assert len(office.written) == 1

    def test_no_answer_and_it_was_not_done(self, office: FakeExchange) -> None:
        command = policy_make_default(policy=policy(), key="k1", actor=ADA)
        office.at("write", OutcomeUnknownError("gone"))
        assert send(office, command).state == State.FAILED
        assert command.error_code == "outcome_unknown"

    def test_a_worker_that_died_is_settled_by_reading(self, connector: Connector, office: FakeExchange) -> None:
        command = policy_make_default(policy=policy(), key="k1", actor=ADA)
        long_ago = timezone.now() - datetime.timedelta(hours=1)
        Command.objects.update(state=State.SENT, owner="dead", lease_expires_at=long_ago)
        office.policies = {name: replace(one, is_default=name == "Strict") for name, one in office.policies.items()}
        assert settle.recover(connector, open_sessions=office.open_sessions_of) == 1
        command.refresh_from_db()
        assert command.state == State.DONE
        assert policy().is_default
        assert not office.written

    def test_one_that_no_worker_took_is_not_sent_any_more(self, connector: Connector, office: FakeExchange) -> None:
        command = policy_make_default(policy=policy(), key="k1", actor=ADA)
        Command.objects.update(lease_expires_at=timezone.now() - datetime.timedelta(seconds=1))
        assert send(office, command).state == State.PLANNED
        settle.recover(connector, open_sessions=office.open_sessions_of)
        command.refresh_from_db()
        assert command.state == State.CANCELED
        assert not office.written

    def test_every_kind_is_made_again_from_its_row(self, connector: Connector, office: FakeExchange) -> None:
        organization = connector.organization
        made = [
            policy_create(
                organization=organization, name="A", settings={"ApprovedApplicationList": ("x",)}, key="1", actor=ADA
            )
        ]
        for order in (
            lambda: policy_change(policy=policy(), name="B", settings={}, key="2", actor=ADA),
            lambda: policy_remove(policy=policy(), key="3", actor=ADA),
        ):
            Command.objects.update(state=State.DONE)
            made.append(order())
        made += policy_assign(organization=organization, mailboxes=mailboxes()[:1], policy=policy(), key="4", actor=ADA)
        assert {command.kind for command in made} == set(KINDS)
        for command in made:
            command.refresh_from_db()
            deed = KINDS[command.kind](command.payload)
            assert deed.text() == command.text
            assert deed.payload().items() <= {**command.payload, **deed.payload()}.items()


# --- what is refused --------------------------------------------------------------------------------------------------


def refused(order: Any) -> ValidationError:
    with pytest.raises(ValidationError) as caught:
        order()
    return caught.value


@pytest.mark.django_db
class TestRefusals:
    def test_two_changes_at_once(self, connector: Connector, office: FakeExchange) -> None:
        policy_make_default(policy=policy(), key="k1", actor=ADA)
        assert refused(lambda: policy_remove(policy=policy(), key="k2", actor=ADA)).code == "command_open"
        one = mailboxes()[:1]
        organization = connector.organization
        policy_assign(organization=organization, mailboxes=one, policy=policy(), key="k3", actor=ADA)
        again = refused(
            lambda: policy_assign(organization=organization, mailboxes=one, policy=policy(), key="k4", actor=ADA)
        )
        assert again.code == "command_open"

    def test_the_default_is_not_removed(self, office: FakeExchange) -> None:
        error = refused(lambda: policy_remove(policy=policy("Default"), key="k", actor=ADA))
        assert error.code == "is_default"
        assert "Make another policy the default first" in error.message

    @pytest.mark.parametrize(
        ("make", "code"),
        [
            (lambda p: policy_make_default(policy=policy("Default"), key="k", actor=ADA), "unchanged"),
            (
                lambda p: policy_change(policy=p, name="Strict", settings=settings_of(p), key="k", actor=ADA),
                "unchanged",
            ),
            (lambda p: policy_remove(policy=p, key=" ", actor=ADA), "key_used"),
            (
                lambda p: policy_assign(
                    organization=p.organization, mailboxes=mailboxes(), policy=p, key="", actor=ADA
                ),
                "key_used",
            ),
            (
                lambda p: policy_change(policy=p, name="S", settings={}, key="k", actor=ADA, based_on="other"),
                "policy_conflict",
            ),
        ],
        ids=["default already", "nothing differs", "no key", "no key of an assignment", "made from something else"],
    )
    def test_orders_that_make_no_sense(self, office: FakeExchange, make: Any, code: str) -> None:
        assert refused(lambda: make(policy())).code == code
        assert not Command.objects.exists()

    def test_a_key_of_another_form(self, office: FakeExchange) -> None:
        policy_make_default(policy=policy(), key="k", actor=ADA)
        assert refused(lambda: policy_remove(policy=policy(), key="k", actor=ADA)).code == "key_used"

    def test_what_is_gone(self, connector: Connector, office: FakeExchange) -> None:
        MailboxPolicy.objects.update(gone_at=timezone.now())
        assert refused(lambda: policy_remove(policy=policy(), key="k", actor=ADA)).code == "policy_gone"
        Mailbox.objects.update(gone_at=timezone.now())
        organization = connector.organization
        error = refused(
            lambda: policy_assign(organization=organization, mailboxes=mailboxes(), policy=None, key="k", actor=ADA)
        )
        assert error.code == "mailbox_gone"

    def test_too_many_mailboxes(self, connector: Connector, office: FakeExchange) -> None:
        many = [Mailbox(organization=connector.organization, guid=uuid.uuid4()) for _ in range(51)]
        organization = connector.organization
        error = refused(
            lambda: policy_assign(organization=organization, mailboxes=many, policy=None, key="k", actor=ADA)
        )
        assert error.code == "too_many"

    @pytest.mark.parametrize("name", ["", "  ", "x" * 65, "a\nb", "default", "STRICT"])
    def test_names(self, connector: Connector, office: FakeExchange, name: str) -> None:
        error = refused(
            lambda: policy_create(organization=connector.organization, name=name, settings={}, key="k", actor=ADA)
        )
        assert set(error.error_dict) == {"name"}

    def test_a_policy_may_keep_its_name(self, office: FakeExchange) -> None:
        command = policy_change(policy=policy(), name="STRICT", settings={}, key="k", actor=ADA)
        assert command.payload["name"] == "STRICT"

    def test_no_connector(self, connector: Connector, office: FakeExchange) -> None:
        connector.delete()
        assert refused(lambda: policy_remove(policy=policy(), key="k", actor=ADA)).code == "no_connector"


# --- values -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value", "sent"),
    [
        ("MinPasswordLength", 1, 1),
        ("MinPasswordLength", 16, 16),
        ("MaxPasswordFailedAttempts", "4", "4"),
        ("MaxPasswordFailedAttempts", "unlimited", "Unlimited"),
        ("MaxInactivityTimeLock", "0:00:30", "00:00:30"),
        ("MaxInactivityTimeLock", "01:00:00", "01:00:00"),
        ("PasswordExpiration", "90.00:00:00", "90.00:00:00"),
        ("AllowBluetooth", "handsfreeonly", "HandsfreeOnly"),
        ("MaxEmailAgeFilter", "SomethingNew", "SomethingNew"),
        ("MaxAttachmentSize", "10MB", "10MB"),
        ("MaxAttachmentSize", "10 MB (10,485,760 bytes)", "10 MB (10,485,760 bytes)"),
        ("MaxEmailBodyTruncationSize", "010", "10"),
        ("ApprovedApplicationList", (" a ", "", "a", "b"), ("a", "b")),
        ("PasswordEnabled", False, False),
    ],
)
def test_values_that_are_sent(name: str, value: PolicyValue, sent: PolicyValue) -> None:
    assert values.settings_clean({name: value}) == {name: sent}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("MinPasswordLength", 0),
        ("MinPasswordLength", 17),
        ("MinPasswordLength", True),
        ("MinPasswordLength", "8"),
        ("MaxPasswordFailedAttempts", "3"),
        ("MaxPasswordFailedAttempts", "17"),
        ("MaxPasswordFailedAttempts", "many"),
        ("MaxInactivityTimeLock", "00:00:29"),
        ("MaxInactivityTimeLock", "01:00:01"),
        ("MaxInactivityTimeLock", "15"),
        ("MaxInactivityTimeLock", "25:00:00"),
        ("PasswordExpiration", "soon"),
        ("AllowBluetooth", "Maybe"),
        ("MaxAttachmentSize", "big"),
        ("MaxAttachmentSize", " "),
        ("MaxEmailBodyTruncationSize", "x"),
        ("MaxEmailAgeFilter", "a\nb"),
        ("ApprovedApplicationList", "a"),
        ("ApprovedApplicationList", ("x" * 600,)),
        ("PasswordEnabled", "yes"),
        ("NoSuchSetting", True),
    ],
)
def test_values_that_are_refused(name: str, value: PolicyValue) -> None:
    with pytest.raises(ValidationError) as caught:
        values.settings_clean({name: value})
    assert set(caught.value.error_dict) == {name}


@pytest.mark.parametrize(
    ("name", "one", "other", "expected"),
    [
        ("MaxAttachmentSize", "10MB", "10 MB (10,485,760 bytes)", True),
        ("MaxAttachmentSize", "10MB", "10 KB (10,240 bytes)", False),
        ("MaxInactivityTimeLock", "0:15:00", "00:15:00", True),
        ("PasswordExpiration", "1.00:00:00", "2.00:00:00", False),
        ("PasswordExpiration", "UNLIMITED", "Unlimited", True),
        ("ApprovedApplicationList", ("a", "B"), ("b", "A"), True),
        ("PasswordEnabled", True, False, False),
        ("MinPasswordLength", 4, 4, True),
    ],
)
def test_values_that_mean_the_same(name: str, one: PolicyValue, other: PolicyValue, expected: bool) -> None:
    assert values.same(name, one, other) is expected


def test_every_setting_has_its_words_its_place_and_its_default() -> None:
    grouped = [name for _title, names in words.GROUPS for name in names]
    assert sorted(grouped) == sorted(SETTINGS)
    assert set(words.LABELS) == set(values.DEFAULTS) == set(SETTINGS)
    assert values.settings_clean(values.DEFAULTS) == dict(values.DEFAULTS)
    lines = [line for _title, group in words.groups_said(values.DEFAULTS, version="2010") for line in group]
    assert len(lines) == len(SETTINGS)
    by_name = {line.name: line for line in lines}
    assert by_name["MinPasswordLength"].remote == "MinDevicePasswordLength"
    assert by_name["MaxInactivityTimeLock"].value == "15 minutes"
    assert by_name["AllowBluetooth"].value == "Allowed"


def test_two_policies_compared() -> None:
    one: Mapping[str, PolicyValue] = {"MinPasswordLength": 4, "AllowCamera": True, "MaxAttachmentSize": "1MB"}
    other: Mapping[str, PolicyValue] = {"MinPasswordLength": 8, "AllowCamera": True, "MaxAttachmentSize": "1024KB"}
    (pair,) = words.pairs_said(one, other, version="2019")
    assert (pair.label, pair.remote, pair.one, pair.other) == ("Shortest password", "MinPasswordLength", "4", "8")
    assert values.differing({"AllowWiFi": True}, {}) == ("AllowWiFi",)


@given(st.integers(0, 10**7))
def test_a_time_is_read_as_it_is_written(seconds: int) -> None:
    assert values.seconds_of(values._written(seconds)) == seconds


@given(st.text(max_size=40))
def test_no_text_breaks_the_reading_of_values(text: str) -> None:
    values.seconds_of(text)
    values.bytes_of(text)
    for name in SETTINGS:
        words.value_said(name, text)
        assert values.same(name, text, text)


@pytest.mark.django_db
def test_a_new_one_starts_from_what_this_exchange_has(connector: Connector, office: FakeExchange) -> None:
    organization = connector.organization
    assert set(settings_for_new(organization)) == {"PasswordEnabled", "MinPasswordLength", "MaxInactivityTimeLock"}
    assert settings_for_new(organization, policy()) == settings_of(policy())
    MailboxPolicy.objects.all().delete()
    assert set(settings_for_new(organization)) == set(SETTINGS)

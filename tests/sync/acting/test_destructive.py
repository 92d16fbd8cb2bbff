"""Wipe, removal and the like: once, by whoever means it, and never again blindly."""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.utils import timezone

from connectors.actors import Actor
from connectors.exchange.errors import (
    BadRequestError,
    ObserveOnlyError,
    OutcomeUnknownError,
    StopError,
    ThrottledError,
    TransientError,
)
from connectors.models import Connector, ExchangeOrganization
from sync.acting import destructive, settle
from sync.models import (
    AccessOverride,
    Command,
    DeviceEvent,
    DeviceStatistics,
    LedgerEntry,
    Mailbox,
    MailboxCheck,
    MobileDevice,
)
from sync.observing import statistics
from tests.sync.act_fakes import LONG_AGO, Office

pytestmark = pytest.mark.django_db(transaction=True)

State = Command.State
ADA = Actor(name="Ada")
ACTS: list[Callable[..., Command]] = [
    destructive.device_wipe,
    destructive.device_wipe_account,
    destructive.device_wipe_cancel,
    destructive.device_remove,
]
CLEAR = "Clear-MobileDevice"


@pytest.fixture
def office(connector: Connector) -> Office:
    return Office(connector, 2)


@pytest.fixture(autouse=True)
def told(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The commands that the queue was told of."""
    found: list[int] = []
    monkeypatch.setattr(destructive, "command_dispatch", lambda command, connector: found.append(command.pk))
    return found


def device(office: Office, number: int = 0) -> MobileDevice:
    return MobileDevice.objects.select_related("owner").get(pk=office.devices[number].pk)


def send(office: Office, command: Command) -> Command:
    destructive.command_send(command.pk, open_sessions=office.wire.open_sessions)
    command.refresh_from_db()
    return command


def wipe(office: Office, key: str = "k1", **named: Any) -> Command:
    return destructive.device_wipe(device=device(office), key=key, actor=ADA, **named)


def events(office: Office, number: int = 0) -> list[str]:
    rows = DeviceEvent.objects.filter(device=office.devices[number]).order_by("pk")
    return list(rows.values_list("code", flat=True))


def sent(office: Office) -> list[str]:
    return [cmdlet for cmdlet, _ in office.wire.sent]


# --- once ---


def test_a_wipe_is_sent_once_and_its_course_is_told(office: Office, told: list[int]) -> None:
    command = wipe(office, notify=("desk@contoso.com",))

    assert told == [command.pk]
    assert command.state == State.PLANNED
    assert command.text.startswith("Clear-MobileDevice -Identity")
    assert "desk@contoso.com" in command.text

    assert send(office, command).state == State.DONE

    assert sent(office) == [CLEAR]
    row = DeviceStatistics.objects.get(device=office.devices[0])
    assert row.wipe_requested_at is not None
    assert events(office) == ["wipeRequested", "commandDone"]

    record = office.wire.statistics[office.mailboxes[0].guid][0]
    confirmed = timezone.now()
    office.wire.statistics[office.mailboxes[0].guid] = [
        replace(record, wipe_sent_at=confirmed, wipe_acknowledged_at=confirmed)
    ]
    assert read(office) == 1
    assert events(office)[2:] == ["wipeSent", "wipeAcknowledged"]
    assert read(office) == 1
    assert len(events(office)) == 4


def read(office: Office) -> int:
    return statistics.statistics_do(office.connector.pk, [office.keys[0]], open_exchange=office.wire.open)


@pytest.mark.parametrize("act", ACTS)
def test_the_same_key_is_the_same_command(office: Office, act: Callable[..., Command], told: list[int]) -> None:
    first = act(device=device(office), key="k1", actor=ADA)

    assert act(device=device(office), key="k1", actor=ADA) == first
    send(office, first)
    if act is not destructive.device_remove:
        assert act(device=device(office), key="k1", actor=ADA) == first
    send(office, first)

    assert Command.objects.count() == 1
    assert told == [first.pk]
    assert sent(office).count(CLEAR) + sent(office).count("Remove-MobileDevice") == 1


def test_a_key_of_another_act_is_none(office: Office) -> None:
    wipe(office)

    with pytest.raises(ValidationError) as raised:
        destructive.device_remove(device=device(office), key="k1", actor=ADA)

    assert raised.value.code == "key_used"


def test_two_acts_at_once_are_one_too_many(office: Office) -> None:
    wipe(office)

    with pytest.raises(ValidationError) as raised:
        destructive.device_remove(device=device(office), key="k2", actor=ADA)

    assert raised.value.code == "command_open"


def test_a_message_that_comes_twice_finds_it_taken(office: Office) -> None:
    command = wipe(office)
    Command.objects.filter(pk=command.pk).update(owner="another worker")

    assert destructive.command_send(command.pk, open_sessions=office.wire.open_sessions) == ""
    assert sent(office) == []


# --- refused before anything is written ---


def test_what_cannot_be_is_said_at_once(office: Office) -> None:
    def code(act: Callable[..., Command]) -> str:
        with pytest.raises(ValidationError) as raised:
            act(device=device(office), key=uuid.uuid4().hex, actor=ADA)
        return str(raised.value.code)

    Connector.objects.update(is_observe_only=True)
    assert {code(act) for act in ACTS} == {"observe_only"}
    Connector.objects.update(is_observe_only=False)
    ExchangeOrganization.objects.update(version="2013")
    assert code(destructive.device_wipe_account) == "account_wipe_unsupported"
    MobileDevice.objects.update(owner=None)
    assert {code(act) for act in ACTS} == {"no_mailbox"}
    MobileDevice.objects.update(gone_at=LONG_AGO)
    assert {code(act) for act in ACTS} == {"device_gone"}
    assert not Command.objects.exists()


def test_an_address_that_is_none(office: Office) -> None:
    with pytest.raises(ValidationError):
        wipe(office, notify=("nobody",))
    with pytest.raises(ValidationError):
        wipe(office, key=" ")


def test_exchange_2010_has_other_names(office: Office) -> None:
    ExchangeOrganization.objects.update(version="2010")

    assert wipe(office).text.startswith("Clear-ActiveSyncDevice")


# --- what becomes of it ---


@pytest.mark.parametrize(
    ("place", "state", "times"),
    [("wipe", State.FAILED, 0), ("after wipe", State.DONE, 1)],
)
def test_without_an_answer_the_statistics_tell(office: Office, place: str, state: str, times: int) -> None:
    office.wire.at(place, OutcomeUnknownError("no answer"))

    command = send(office, wipe(office))

    assert (command.state, sent(office).count(CLEAR)) == (state, times)
    assert command.error_code == ("" if times else "outcome_unknown")


def test_an_order_of_long_ago_is_not_taken_for_this_one(office: Office) -> None:
    record = office.wire.statistics[office.mailboxes[0].guid][0]
    office.wire.statistics[office.mailboxes[0].guid] = [
        replace(record, wipe_requested_at=LONG_AGO, wipe_acknowledged_at=LONG_AGO)
    ]
    office.wire.at("wipe", OutcomeUnknownError("no answer"))

    assert send(office, wipe(office)).state == State.FAILED


def test_what_cannot_be_read_stays_open_until_it_can(office: Office) -> None:
    office.wire.at("after wipe", OutcomeUnknownError("no answer"))
    office.wire.at("statistics", None, BadRequestError("no"))
    command = send(office, wipe(office))
    assert command.state == State.UNKNOWN

    past = timezone.now() - datetime.timedelta(seconds=5)
    Command.objects.update(lease_expires_at=past)
    settle.recover(office.connector, open_sessions=office.wire.open_sessions)

    command.refresh_from_db()
    assert command.state == State.DONE
    assert sent(office) == [CLEAR]


def test_a_worker_that_died_before_sending_has_sent_nothing(office: Office) -> None:
    command = wipe(office)
    past = timezone.now() - datetime.timedelta(seconds=5)
    Command.objects.update(owner="dead", lease_expires_at=past)

    settle.recover(office.connector, open_sessions=office.wire.open_sessions)

    command.refresh_from_db()
    assert (command.state, command.error_code) == (State.CANCELED, "worker_lost")
    assert sent(office) == []


def test_what_no_worker_took_in_time_is_not_sent_any_more(office: Office) -> None:
    command = wipe(office)
    Command.objects.update(lease_expires_at=timezone.now() - datetime.timedelta(seconds=5))

    assert send(office, command).state == State.PLANNED
    settle.recover(office.connector, open_sessions=office.wire.open_sessions)

    command.refresh_from_db()
    assert command.state == State.CANCELED
    assert sent(office) == []


def test_the_queue_is_told_again_of_what_nobody_took(office: Office, told: list[int]) -> None:
    command = wipe(office)
    Command.objects.update(planned_at=timezone.now() - datetime.timedelta(seconds=20))

    assert destructive.commands_offer() == 1
    assert told == [command.pk, command.pk]


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (BadRequestError("no", code="argument_refused"), "argument_refused"),
        (StopError("no", code="access_denied"), "access_denied"),
    ],
)
def test_a_refusal_is_told(office: Office, error: Exception, code: str) -> None:
    office.wire.at("wipe", error)

    command = send(office, wipe(office))

    assert (command.state, command.error_code) == (State.FAILED, code)
    assert events(office) == ["wipeRequested", "commandFailed"]


@pytest.mark.parametrize("error", [ThrottledError("slowly", retry_after=0.05), TransientError("x")])
def test_what_was_not_done_is_tried_again(office: Office, error: Exception) -> None:
    office.wire.at("wipe", error)

    assert send(office, wipe(office)).state == State.DONE
    assert sent(office) == [CLEAR]


def test_without_a_session_it_has_failed_and_is_not_sent_later(office: Office) -> None:
    office.wire.at("open", *[StopError("no", code="authentication_failed")] * 3)

    command = send(office, wipe(office))

    assert command.state == State.FAILED
    assert sent(office) == []


def test_switched_to_observing_in_between(office: Office) -> None:
    command = wipe(office)
    office.wire.at("wipe", ObserveOnlyError("no"))

    assert send(office, command).state == State.OBSERVED


def test_a_wipe_is_taken_back(office: Office) -> None:
    send(office, wipe(office))

    command = send(office, destructive.device_wipe_cancel(device=device(office), key="k2", actor=ADA))

    assert command.state == State.DONE
    assert DeviceStatistics.objects.get(device=office.devices[0]).wipe_requested_at is None


def test_pending_wipes_are_looked_after_and_others_are_not(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    send(office, wipe(office))
    dispatched: list[int] = []
    monkeypatch.setattr(statistics, "wipes_dispatch", lambda connector: dispatched.append(connector.pk))
    assert statistics.pending_wipes_dispatch() == 0  # it was read just now
    DeviceStatistics.objects.update(read_at=timezone.now() - datetime.timedelta(minutes=5))

    assert statistics.pending_wipes_dispatch() == 1
    assert statistics.pending_wipes_read(office.connector.pk, open_exchange=office.wire.open) == 1

    DeviceStatistics.objects.update(
        read_at=timezone.now() - datetime.timedelta(minutes=5), wipe_acknowledged_at=timezone.now()
    )
    assert statistics.pending_wipes_dispatch() == 0


# --- removal ---


def listed(office: Office, allowed: tuple[str, ...], blocked: tuple[str, ...] = ()) -> None:
    guid = office.mailboxes[0].guid
    office.wire.mailboxes[guid] = replace(
        office.wire.mailboxes[guid], allowed_device_ids=allowed, blocked_device_ids=blocked
    )
    Mailbox.objects.filter(pk=office.keys[0]).update(allowed=list(allowed), blocked=list(blocked))


def remove(office: Office, **named: Any) -> Command:
    return destructive.device_remove(device=device(office), key="k1", actor=ADA, **named)


def test_a_removal_clears_both_lists_and_all_that_was_said_of_it(office: Office) -> None:
    listed(office, ("phone0", "OTHER"), ("PHONE0",))
    LedgerEntry.objects.create(
        mailbox=office.mailboxes[0], listed="allowed", device_id="phone0", device_id_key="phone0", made_at=LONG_AGO
    )
    AccessOverride.objects.create(
        organization=office.organization, mailbox=office.mailboxes[0], device_id="PHONE0", device_id_key="phone0",
        level="allow", reason="x", made_at=LONG_AGO, made_by_name="Ada",
    )  # fmt: skip

    command = send(office, remove(office))

    assert command.state == State.DONE
    assert sent(office) == ["Set-CASMailbox", "Remove-MobileDevice"]
    assert office.wire.lists()[office.mailboxes[0].guid] == (("OTHER",), ())
    assert device(office).gone_at is not None
    assert AccessOverride.objects.get().ended_by_name == "Ada"
    assert not LedgerEntry.objects.exists()
    assert Mailbox.objects.get(pk=office.keys[0]).allowed == ["OTHER"]
    assert events(office) == ["commandPlanned", "removed", "commandDone"]
    assert MailboxCheck.objects.get().because == "removed"


def test_entries_of_others_stay_when_they_are_to(office: Office) -> None:
    listed(office, ("PHONE0",))

    send(office, remove(office, clear_foreign=False))

    assert sent(office) == ["Remove-MobileDevice"]
    assert office.wire.lists()[office.mailboxes[0].guid] == (("PHONE0",), ())


def test_a_partnership_that_is_gone_already_is_removed(office: Office) -> None:
    office.wire.devices.clear()

    assert send(office, remove(office)).state == State.DONE
    assert device(office).gone_at is not None


@pytest.mark.parametrize("place", ["set", "after set", "remove", "after remove"])
def test_a_removal_without_an_answer_is_read_back(office: Office, place: str) -> None:
    listed(office, ("PHONE0",))
    office.wire.at(place, OutcomeUnknownError("no answer"))

    command = send(office, remove(office))

    is_done = place == "after remove"
    assert command.state == (State.DONE if is_done else State.FAILED)
    assert (device(office).gone_at is not None) == is_done
    # What the policy wants of the lists is put right again.
    assert MailboxCheck.objects.exists()


def test_a_removal_locks_the_mailbox(office: Office) -> None:
    remove(office)

    with pytest.raises(ValidationError) as raised:
        destructive.device_remove(device=device(office), key="k2", actor=ADA)

    assert raised.value.code == "command_open"
    assert Command.objects.get().subject == f"mailbox:{office.keys[0]}"

"""A default level that keeps many out: all of them are noted before it is sent, in short transactions, and whatever
cuts that off in between, nothing is sent, nobody is told twice, and in the end each was told once."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.utils import timezone

from connectors.actors import SETUP
from connectors.exchange.errors import CanceledError
from connectors.models import Connector
from sync.acting import act, denials, prepare, settle
from sync.deciding.commands import SetOrganizationSettings
from sync.deciding.facts import Level
from sync.lease import Lease, LeaseLostError, claim, take_back
from sync.models import Command, DeviceAccess, Notification, OrganizationLedger, SyncRun
from sync.observing.rulebook import settings_from_json
from sync.services import sync_request
from tests.sync.act_fakes import Office
from tests.sync.acting.test_act import Hold
from tests.sync.mails import tell
from tests.sync.worlds import Killed

pytestmark = pytest.mark.django_db(transaction=True)

State = Command.State
PEOPLE = 5


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch, settings: Any) -> None:
    """Three blocks for all."""
    monkeypatch.setattr(prepare, "NOTED", 2)
    monkeypatch.setattr("sync.dispatch._send_prompt", lambda *_: None)
    settings.NOTIFY_BEFORE_DENIAL_SECONDS = 0.0


@pytest.fixture
def office(connector: Connector) -> Office:
    """Five people who are told when their phone is kept out, as the verdict about each says by now."""
    made = Office(connector, PEOPLE)
    tell(connector)
    DeviceAccess.objects.bulk_create(
        DeviceAccess(
            device=device, organization=made.organization, access="block", state="blocked", reason="notEnrolled",
            rule="noRecord", decided_at=timezone.now(),
        )
        for device in made.devices
    )  # fmt: skip
    return made


@pytest.fixture
def at_block() -> Iterator[Callable[[int, Callable[[], None]], None]]:
    """at_block(n, happens): once n blocks have been noted, `happens` is called in the next one's transaction."""
    added: list[denials.Listener] = []

    def plan(number: int, happens: Callable[[], None]) -> None:
        left = [number]

        def listen(*_: object) -> None:
            left[0] -= 1
            if left[0] == -1:
                happens()

        denials.listeners.append(listen)
        added.append(listen)

    yield plan
    for listen in added:
        denials.listeners.remove(listen)


def kill() -> None:
    raise Killed


def flip(office: Office, hold: Any = None, run: SyncRun | None = None) -> act.Report:
    denies = tuple(device.pk for device in office.devices)
    return act.execute(
        act.Order(office.organization.pk, settings=(SetOrganizationSettings(Level.BLOCK, denies=denies),)),
        connector=office.connector,
        hold=hold or Hold(),
        run=run,
        actor=SETUP,
        because="test",
        open_sessions=office.wire.open_sessions,
    )


def held(connector: Connector) -> tuple[SyncRun, Lease]:
    """A run that a worker has taken."""
    run = sync_request(connector=connector, kind="fullSync", trigger="button", actor=SETUP).run
    lease = claim(run.pk, "worker-1/100")
    assert lease is not None
    return run, lease


def taken_anew(run: SyncRun) -> Lease:
    """As another worker has it after the one that had it was thought dead."""
    run.refresh_from_db()
    take_back(run)
    SyncRun.objects.filter(pk=run.pk).update(status=SyncRun.Status.QUEUED)
    lease = claim(run.pk, "worker-2/200")
    assert lease is not None
    return lease


def recover(office: Office, lease: Lease | None = None) -> int:
    return settle.recover(office.connector, lease=lease, open_sessions=office.wire.open_sessions)


def told() -> list[str]:
    """Whose phone a mail is about, each as often as there is one."""
    rows = Notification.objects.filter(state=Notification.State.QUEUED)
    return sorted(rows.values_list("device__device_id", flat=True))


def everyone(office: Office) -> list[str]:
    return sorted(device.device_id for device in office.devices)


def enforced() -> Level | None:
    """What drift is measured against."""
    found = settings_from_json(OrganizationLedger.objects.get().settings)
    return found.default_level if found else None


def test_each_is_noted_before_it_is_sent(office: Office, at_block: Any) -> None:
    sent_by_then: list[int] = []
    for number in range(3):
        at_block(number, lambda: sent_by_then.append(len(office.wire.sent)))

    assert flip(office).done == 1

    assert sent_by_then == [0, 0, 0]
    assert told() == everyone(office)
    assert office.wire.settings.default_access_level == "Block"
    assert enforced() is Level.BLOCK


@pytest.mark.parametrize("blocks", [0, 1, 2])
def test_killed_between_blocks_it_is_not_sent_and_each_is_told_once_in_the_end(
    office: Office, at_block: Any, blocks: int
) -> None:
    run, lease = held(office.connector)
    at_block(blocks, kill)
    with pytest.raises(Killed):
        flip(office, lease, run)

    assert office.wire.sent == []
    assert len(told()) == 2 * blocks
    left = Command.objects.get()
    assert left.state == State.PLANNED

    # Long before the row's own lease is over: whoever had it lost the run.
    lease = taken_anew(run)
    assert recover(office, lease) == 1
    left.refresh_from_db()
    assert (left.state, left.error_code) == (State.CANCELED, "worker_lost")
    # Nobody changed anything in Exchange: there is no drift to be alarmed about.
    assert enforced() is Level.QUARANTINE

    assert flip(office, lease, run).done == 1
    assert told() == everyone(office)
    assert [cmdlet for cmdlet, _ in office.wire.sent] == ["Set-ActiveSyncOrganizationSettings"]
    assert enforced() is Level.BLOCK


def test_left_by_another_order_it_waits_for_the_end_of_its_lease(office: Office, at_block: Any) -> None:
    run, lease = held(office.connector)
    at_block(1, kill)
    with pytest.raises(Killed):
        flip(office, lease, run)

    # An order of somebody else, meanwhile: the settings are not free, and nobody is told of what is not sent.
    report = flip(office)
    assert (report.failed, report.failures[0].code) == (1, "subject_busy")
    assert recover(office) == 0
    assert len(told()) == 2
    assert office.wire.sent == []

    Command.objects.filter(state=State.PLANNED).update(lease_expires_at=timezone.now() - datetime.timedelta(seconds=1))
    assert recover(office) == 1
    assert flip(office).done == 1
    assert told() == everyone(office)


def test_canceled_between_blocks_it_is_not_sent(office: Office, at_block: Any) -> None:
    hold = Hold()

    def cancel() -> None:
        hold.is_stopped = True

    at_block(1, cancel)
    with pytest.raises(CanceledError):
        flip(office, hold)

    assert office.wire.sent == []
    assert Command.objects.get().state == State.CANCELED
    assert enforced() is Level.QUARANTINE
    # The block under way was noted whole.
    assert len(told()) == 4

    assert flip(office).done == 1
    assert told() == everyone(office)


def test_a_hold_that_is_lost_between_blocks_notes_nobody_and_sends_nothing_more(office: Office, at_block: Any) -> None:
    hold = Hold()

    def lose() -> None:
        hold.is_lost = True

    at_block(0, lose)
    with pytest.raises(LeaseLostError):
        flip(office, hold)

    assert office.wire.sent == []
    assert len(told()) == 2
    assert enforced() is Level.QUARANTINE


def test_whoever_lost_the_run_cancels_nothing_of_it(office: Office, at_block: Any) -> None:
    """The slow worker's recovery comes when the next one has planned."""
    run, slow = held(office.connector)
    lease = taken_anew(run)
    at_block(0, kill)
    with pytest.raises(Killed):
        flip(office, lease, run)

    with pytest.raises(LeaseLostError):
        recover(office, slow)

    assert Command.objects.get().state == State.PLANNED

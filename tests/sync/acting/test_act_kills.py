"""Killed anywhere while it acts: nothing is lost, nothing is sent twice, and the lists come to what the plan wants."""

from __future__ import annotations

import contextlib
import datetime
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.db.models.functions import Now
from hypothesis import HealthCheck, example, given, note, settings
from hypothesis import strategies as st

from connectors.actors import SETUP
from connectors.models import Connector, Tenant
from sync.acting import act, checks, journal, lane, outcomes, prepare, settle
from sync.acting.checks import check_request
from sync.models import Command, DeviceEvent, LedgerEntry, Mailbox, MailboxCheck
from tests.connectors import factories
from tests.sync.act_fakes import Office, Session
from tests.sync.acting.test_act import Hold
from tests.sync.worlds import Killed

State = Command.State
SIZE = 4
# Functions of which a worker can be killed before or after: (owner, name).
FUNCTIONS: list[tuple[Any, str]] = [
    (prepare, "replan"),
    (journal, "intents_write"),
    (journal, "ledger_note"),
    (journal, "sent_mark"),
    (act, "outcomes_record"),
    (outcomes, "mailbox_store"),
    (outcomes, "ledger_settle"),
    (act._Work, "leave"),
    (settle, "_unsent_cancel"),
    (settle, "_take_up"),
    (settle, "outcome_record"),
    (settle, "check_request"),
    (lane, "mailboxes_refresh"),
    (lane, "verdicts_record"),
    (lane, "_taken_away"),
]
PLACES = ["set", "after set", "read", "list", "open"]
NTH = st.integers(0, 3)
KILLS = st.one_of(
    st.tuples(st.just("place"), st.sampled_from(PLACES), NTH),
    st.tuples(st.just("function"), st.integers(0, len(FUNCTIONS) - 1), st.booleans(), NTH),
)
CHANGES = st.lists(st.tuples(st.integers(0, SIZE - 1), st.sampled_from(["compliant", "noncompliant"])), max_size=2)
WHAT = st.sampled_from(["order", "lane", "recover"])
ROUNDS = st.lists(st.tuples(CHANGES, WHAT, st.none() | KILLS), min_size=1, max_size=6)


def one_after_another(sessions: Any, jobs: Any, do: Any, **named: Any) -> Iterator[Any]:
    """In this thread, so that a kill is one of the whole worker."""
    with sessions.open(should_stop=lambda: False) as client:
        yield from lane.inline(client)(sessions, jobs, do, **named)


class World:
    def __init__(self) -> None:
        Tenant.objects.all().delete()
        self.office = Office(factories.connector(), SIZE)
        self.patch = pytest.MonkeyPatch()

    def round(self, changes: list[tuple[int, str]], what: str, kill: tuple[Any, ...] | None) -> None:
        for number, value in changes:
            self.office.compliance(number, value)
            check_request([self.office.keys[number]], because="complianceChanged")
        with pytest.MonkeyPatch.context() as patch:
            self.office.wire._plan.clear()
            _plan(self.office, patch, kill)
            with contextlib.suppress(Killed):
                self.do(what)
        self.expire()

    def do(self, what: str) -> None:
        office = self.office
        if what == "order":
            act.execute(
                act.Order(office.organization.pk, office.keys),
                connector=office.connector,
                hold=Hold(),
                actor=SETUP,
                because="test",
                open_sessions=office.wire.open_sessions,
                carry=one_after_another,
            )
        elif what == "lane":
            lane.checks_do(office.connector.pk, open_exchange=office.wire.open, open_sessions=office.wire.open_sessions)
        else:
            settle.recover(office.connector, open_sessions=office.wire.open_sessions)

    def expire(self) -> None:
        """As if a lease's time had passed."""
        past = Now() - datetime.timedelta(seconds=1)
        Command.objects.filter(state__in=Command.OPEN).update(lease_expires_at=past)
        Connector.objects.exclude(checks_lease_expires_at=None).update(checks_lease_expires_at=past)
        Connector.objects.update(checks_not_before=None)
        MailboxCheck.objects.update(not_before=None)

    def settle(self) -> None:
        self.office.wire._plan.clear()
        for _ in range(6):
            self.do("recover")
            self.do("order")
            self.do("lane")
            self.expire()
            if not Command.objects.filter(state__in=Command.OPEN).exists() and not MailboxCheck.objects.exists():
                break

    def check(self) -> None:
        office = self.office
        wanted = {
            mailbox.guid: (
                (f"PHONE{number}",) if type(record).objects.get(pk=record.pk).compliance == "compliant" else (),
                (),
            )
            for number, (mailbox, record) in enumerate(zip(office.mailboxes, office.records, strict=True))
        }
        assert office.wire.lists() == wanted
        assert office.wire.idle_sets == 0  # nothing twice
        assert not Command.objects.filter(state__in=Command.OPEN).exists()
        assert not MailboxCheck.objects.exists()
        rows = Mailbox.objects.values_list("guid", "allowed", "blocked")
        assert {guid: (tuple(allowed), tuple(blocked)) for guid, allowed, blocked in rows} == wanted
        listed = {mailbox.pk: f"phone{n}" for n, mailbox in enumerate(office.mailboxes) if wanted[mailbox.guid][0]}
        assert dict(LedgerEntry.objects.values_list("mailbox", "device_id_key")) == listed
        # What was carried out is told once.
        done = Command.objects.filter(state=State.DONE).count()
        assert DeviceEvent.objects.filter(code="commandDone").count() == done == len(office.wire.sent)


def _plan(office: Office, patch: pytest.MonkeyPatch, kill: tuple[Any, ...] | None) -> None:
    match kill:
        case ("place", place, nth):
            office.wire.at(place, *[None] * nth, Killed())
        case ("function", number, after, nth):
            owner, name = FUNCTIONS[number]
            patch.setattr(owner, name, _killed(getattr(owner, name), after=after, nth=nth))


def _killed(real: Callable[..., Any], *, after: bool, nth: int) -> Callable[..., Any]:
    left = [nth]

    def killed(*arguments: Any, **named: Any) -> Any:
        if left[0]:
            left[0] -= 1
            return real(*arguments, **named)
        if after:
            real(*arguments, **named)
        raise Killed

    return killed


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch, settings: Any) -> None:
    """No queue, no waiting, no threads: a kill is one of everything."""
    for module in (checks, lane):
        monkeypatch.setattr(module, "check_dispatch", lambda connector: None)
    monkeypatch.setattr(settle, "readings", _readings)
    monkeypatch.setattr(act, "readings", _readings)
    settings.CHECKS_LINGER_SECONDS = 0.0
    settings.NOTIFY_BEFORE_DENIAL_SECONDS = 0.0
    settings.SYNC_HEARTBEAT_SECONDS = 60.0


def _readings(sessions: Any, wanted: Any, *_: Any, **__: Any) -> dict[int, Any]:
    found = {}
    if wanted:
        with sessions.open(should_stop=lambda: False) as client:
            assert isinstance(client, Session)
            for pk, deed in wanted.items():
                found[pk] = (deed.read(client), "ex01")
    return found


@pytest.mark.slow
@pytest.mark.django_db
@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(rounds=ROUNDS)
@example(rounds=[([], "order", ("place", "after set", 1)), ([], "recover", None)])
@example(rounds=[([], "order", None), ([(0, "noncompliant")], "lane", ("place", "after set", 0))])
@example(rounds=[([], "order", ("function", 4, True, 2)), ([], "recover", ("function", 10, False, 0))])
def test_killed_anywhere_the_lists_come_to_what_is_wanted(alone: None, rounds: list[tuple[Any, ...]]) -> None:
    world = World()
    for changes, what, kill in rounds:
        note(f"{changes} {what} {kill}")
        world.round(changes, what, kill)
        assert world.office.wire.idle_sets == 0
    world.settle()
    world.check()


@pytest.mark.slow
@pytest.mark.django_db
def test_killed_at_every_step_of_an_order(alone: None) -> None:
    """Each place and each function once, before and after, at each of the first commands."""
    kills: list[tuple[Any, ...]] = [("place", place, nth) for place in PLACES for nth in range(3)]
    kills += [("function", n, after, 1) for n in range(len(FUNCTIONS)) for after in (False, True)]
    for kill in kills:
        world = World()
        world.round([], "order", kill)
        world.settle()
        world.check()

"""Asking for syncs and canceling them: what is started, joined, promised."""

from __future__ import annotations

import pytest
from django.contrib.auth import get_user_model
from django.utils import timezone

from connectors.actors import SCHEDULE, SETUP, Actor
from connectors.exchange.errors import StopError
from connectors.models import Connector
from sync import runs
from sync.lease import claim
from sync.models import SyncRun
from sync.services import run_cancel, successor_start, sync_request
from tests.connectors import factories
from tests.sync.exchange import FakeExchange
from tests.sync.worlds import codes, event

pytestmark = pytest.mark.django_db
QUICK, FULL, APPLY = SyncRun.Kind.QUICK, SyncRun.Kind.FULL, SyncRun.Kind.APPLY


@pytest.fixture
def synced(connector: Connector) -> Connector:
    """One that had a full sync, so that a quick one may be quick."""
    Connector.objects.update(last_full_sync_at=timezone.now())
    connector.refresh_from_db()
    return connector


def ask(connector: Connector, kind: str, actor: Actor = SETUP, *, is_dry_run: bool = False) -> tuple[SyncRun, str]:
    trigger = SyncRun.Trigger.BUTTON
    found = sync_request(connector=connector, kind=kind, trigger=trigger, actor=actor, is_dry_run=is_dry_run)
    return found.run, found.outcome


def test_a_new_run(synced: Connector) -> None:
    person = get_user_model().objects.create_user("mona")
    run, outcome = ask(synced, QUICK, Actor("Mona Lang", user_id=person.pk))
    assert outcome == "started"
    assert (run.kind, run.status, run.phase, run.trigger) == ("deltaSync", "queued", "waiting", "button")
    assert (run.requested_by, run.requested_by_name) == (person, "Mona Lang")
    assert abs((timezone.now() - run.queued_at).total_seconds()) < 60
    assert event(run, "requested").params == {"name": "Mona Lang"}


# active run, is it running, is it being canceled, asked for, outcome
JOINS = [
    (FULL, False, False, APPLY, "joined"),
    (FULL, True, False, APPLY, "joined"),
    (FULL, True, True, APPLY, "queued_after"),
    (QUICK, True, False, APPLY, "queued_after"),
    (APPLY, False, False, APPLY, "joined"),
    (APPLY, True, False, APPLY, "joined"),
    (APPLY, True, True, APPLY, "queued_after"),
    (APPLY, True, False, QUICK, "queued_after"),
    (APPLY, True, False, FULL, "queued_after"),
    (FULL, False, False, FULL, "joined"),
    (FULL, True, False, FULL, "joined"),
    (FULL, True, False, QUICK, "joined"),
    (QUICK, False, False, QUICK, "joined"),
    (QUICK, True, False, QUICK, "joined"),
    (QUICK, False, False, FULL, "queued_after"),
    (QUICK, True, False, FULL, "queued_after"),
    (QUICK, True, True, FULL, "queued_after"),
    (FULL, True, True, FULL, "queued_after"),
    (FULL, True, True, QUICK, "joined"),
]


@pytest.mark.parametrize(("active", "is_running", "is_canceled", "kind", "outcome"), JOINS)
def test_while_another_is_active(
    synced: Connector, active: str, is_running: bool, is_canceled: bool, kind: str, outcome: str
) -> None:
    first, _ = ask(synced, active)
    if is_running:
        claim(first.pk, "w/1")
    if is_canceled:
        run_cancel(run=first, actor=SETUP)
    found, got = ask(synced, kind)
    assert (got, found.pk) == (outcome, first.pk)
    assert SyncRun.objects.count() == 1
    first.refresh_from_db()
    assert (first.then_full is not None) is (outcome == "queued_after")


@pytest.mark.parametrize("active", [FULL, APPLY])
@pytest.mark.parametrize(
    ("phase", "outcome"),
    [
        ("devices", "joined"),
        ("sweeping", "joined"),
        ("records", "queued_after"),
        ("deciding", "queued_after"),
        ("acting", "queued_after"),
    ],
)
def test_a_run_that_has_looked_at_the_policy_already_does_not_apply_a_newer_one(
    synced: Connector, active: str, phase: str, outcome: str
) -> None:
    first, _ = ask(synced, active)
    claim(first.pk, "w/1")
    SyncRun.objects.update(phase=phase)
    assert ask(synced, APPLY)[1] == outcome


class TestDryRun:
    @pytest.mark.parametrize("kind", [FULL, QUICK, APPLY])
    @pytest.mark.parametrize("is_dry_run", [False, True])
    def test_never_stands_for_the_other_kind(self, synced: Connector, kind: str, is_dry_run: bool) -> None:
        first, _ = ask(synced, kind, is_dry_run=is_dry_run)
        assert first.is_dry_run is is_dry_run
        assert ask(synced, kind, is_dry_run=is_dry_run)[1] == "joined"
        assert ask(synced, kind, is_dry_run=not is_dry_run)[1] == "queued_after"
        first.refresh_from_db()
        assert codes(first)[0] == ("requested_dry" if is_dry_run else "requested")
        assert first.then_full is not None

    def test_both_that_were_promised_start_one_after_the_other(self, synced: Connector) -> None:
        first, _ = ask(synced, QUICK)
        ask(synced, FULL, Actor("Otto"), is_dry_run=True)
        ask(synced, APPLY, Actor("Mona"))

        run_cancel(run=first, actor=SETUP)
        second = SyncRun.objects.get(status="queued")
        assert (second.kind, second.is_dry_run, second.requested_by_name) == (APPLY, False, "Mona")
        run_cancel(run=second, actor=SETUP)
        third = SyncRun.objects.get(status="queued")
        assert (third.kind, third.is_dry_run, third.requested_by_name) == (FULL, True, "Otto")
        assert third.then_full is None


@pytest.mark.parametrize(
    ("first", "second", "started"),
    [
        (APPLY, FULL, FULL),
        (FULL, APPLY, FULL),
        (APPLY, APPLY, APPLY),
        (QUICK, APPLY, FULL),  # neither does what the other would
        (QUICK, FULL, FULL),
    ],
)
def test_one_promise_does_for_several(synced: Connector, first: str, second: str, started: str) -> None:
    run, _ = ask(synced, FULL)
    claim(run.pk, "w/1")
    run_cancel(run=run, actor=SETUP)
    SyncRun.objects.update(kind=APPLY, phase="acting")
    for kind in (first, second):
        assert ask(synced, kind)[1] == "queued_after"
    SyncRun.objects.update(status="canceled")

    successor_start(run)

    assert SyncRun.objects.get(status="queued").kind == started


def test_a_policy_for_a_connector_that_was_never_read(connector: Connector) -> None:
    run, outcome = ask(connector, APPLY)
    assert (outcome, run.kind) == ("started", FULL)
    assert "made_full" in codes(run)


def test_a_promise_is_made_once(synced: Connector) -> None:
    first, _ = ask(synced, QUICK)
    assert ask(synced, FULL, Actor("Mona"))[1] == "queued_after"
    assert ask(synced, FULL, Actor("Otto"))[1] == "queued_after"
    first.refresh_from_db()
    assert first.then_full == {"trigger": "button", "name": "Mona", "user_id": None}
    assert codes(first).count("full_follows") == 1


def test_another_connector_is_another_matter(synced: Connector) -> None:
    other = factories.connector("Fabrikam", of="Fabrikam")
    ask(synced, FULL)
    assert ask(other, FULL)[1] == "started"


def test_a_switched_off_connector_obeys_the_button(synced: Connector) -> None:
    Connector.objects.update(is_enabled=False)
    assert ask(synced, QUICK)[1] == "started"


def test_a_schedule_has_no_person(synced: Connector) -> None:
    run = sync_request(connector=synced, kind=QUICK, trigger=SyncRun.Trigger.SCHEDULE, actor=SCHEDULE).run
    assert (run.requested_by_id, run.requested_by_name) == (None, "Schedule")


class TestCancel:
    def test_a_queued_run_ends_at_once(self, synced: Connector) -> None:
        run, _ = ask(synced, FULL)
        assert run_cancel(run=run, actor=Actor("Mona"))
        run.refresh_from_db()
        assert (run.status, run.phase, run.error_code) == ("canceled", "finished", "run_canceled")
        assert run.error_params == {"person": "Mona"}
        assert run.finished_at is not None
        assert codes(run) == ["requested", "cancel_requested", "canceled"]
        assert ask(synced, FULL)[1] == "started"

    def test_a_canceled_run_is_not_done(self, synced: Connector, exchange: FakeExchange) -> None:
        run, _ = ask(synced, FULL)
        run_cancel(run=run, actor=SETUP)
        assert runs.run_execute(run.pk, open_exchange=exchange.open) == ""
        assert exchange.sessions == 0

    def test_a_running_one_is_asked(self, synced: Connector) -> None:
        run, _ = ask(synced, FULL)
        claim(run.pk, "w/1")
        assert run_cancel(run=run, actor=Actor("Mona"))
        run.refresh_from_db()
        assert (run.status, run.cancel_requested_by_name) == ("running", "Mona")
        assert run.cancel_requested_at is not None

    def test_asking_twice_changes_nothing(self, synced: Connector) -> None:
        run, _ = ask(synced, FULL)
        claim(run.pk, "w/1")
        run_cancel(run=run, actor=Actor("Mona"))
        assert run_cancel(run=run, actor=Actor("Otto"))
        run.refresh_from_db()
        assert run.cancel_requested_by_name == "Mona"
        assert codes(run).count("cancel_requested") == 1

    @pytest.mark.parametrize("status", SyncRun.ENDED)
    def test_a_run_that_has_ended(self, synced: Connector, status: str) -> None:
        run, _ = ask(synced, FULL)
        SyncRun.objects.update(status=status)
        assert not run_cancel(run=run, actor=SETUP)
        run.refresh_from_db()
        assert (run.status, run.cancel_requested_at) == (status, None)

    def test_a_run_that_is_deleted(self, synced: Connector) -> None:
        run, _ = ask(synced, FULL)
        pk = run.pk
        run.delete()
        run.pk = pk
        assert not run_cancel(run=run, actor=SETUP)

    def test_a_promise_survives(self, synced: Connector) -> None:
        run, _ = ask(synced, QUICK)
        ask(synced, FULL, Actor("Mona"))
        run_cancel(run=run, actor=SETUP)
        assert SyncRun.objects.get(kind=FULL).requested_by_name == "Mona"


class TestSuccessor:
    def test_of_an_active_run_waits(self, synced: Connector) -> None:
        run, _ = ask(synced, QUICK)
        ask(synced, FULL)
        successor_start(run)
        assert SyncRun.objects.count() == 1

    def test_starts_once(self, synced: Connector, exchange: FakeExchange) -> None:
        run, _ = ask(synced, QUICK)
        ask(synced, FULL)
        exchange.at("open", StopError("x"))
        runs.run_execute(run.pk, open_exchange=exchange.open)
        for _ in range(3):
            successor_start(run)
        assert SyncRun.objects.filter(kind=FULL).count() == 1

    def test_without_a_promise_there_is_none(self, synced: Connector, exchange: FakeExchange) -> None:
        run, _ = ask(synced, QUICK)
        runs.run_execute(run.pk, open_exchange=exchange.open)
        assert SyncRun.objects.count() == 1

    def test_joins_the_full_one_that_was_quicker(self, synced: Connector) -> None:
        run, _ = ask(synced, QUICK)
        ask(synced, FULL)
        SyncRun.objects.update(status="failed")
        ask(synced, FULL)
        successor_start(run)
        assert SyncRun.objects.filter(kind=FULL).count() == 1

    def test_hands_the_promise_on_to_the_quick_one_that_was_quicker(self, synced: Connector) -> None:
        run, _ = ask(synced, QUICK)
        ask(synced, FULL, Actor("Mona"))
        SyncRun.objects.update(status="failed")
        second, _ = ask(synced, QUICK)
        successor_start(run)
        second.refresh_from_db()
        assert second.then_full == {"trigger": "button", "name": "Mona", "user_id": None}

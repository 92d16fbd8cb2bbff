"""When syncs are due: pure arithmetic over time zones, and the tick that asks for what is due."""

from __future__ import annotations

import datetime
import uuid
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import time_machine
from django.utils import timezone

from connectors.actors import SETUP
from connectors.models import Connector, Tenant
from connectors.services import schedule_change
from sync.models import SyncRun
from sync.schedule import FULL_JITTER, next_full, next_quick, spread, syncs_dispatch_due
from sync.services import sync_request
from tests.connectors import factories

TWO = datetime.time(2, 0)
UTC = datetime.UTC


def utc(text: str) -> datetime.datetime:
    return datetime.datetime.fromisoformat(text).replace(tzinfo=UTC)


# zone, time of day, now (UTC), due (UTC)
FULL: dict[str, tuple[str, datetime.time, str, str]] = {
    "Berlin in winter": ("Europe/Berlin", TWO, "2026-01-10T12:00", "2026-01-11T01:00"),
    "Berlin in summer": ("Europe/Berlin", TWO, "2026-07-10T12:00", "2026-07-11T00:00"),
    "later the same day": ("Europe/Berlin", TWO, "2026-07-10T23:59", "2026-07-11T00:00"),
    "Taipei has no summer time": ("Asia/Taipei", TWO, "2026-07-10T12:00", "2026-07-10T18:00"),
    "Taipei, just before": ("Asia/Taipei", TWO, "2026-07-10T17:59:59", "2026-07-10T18:00"),
    "Taipei, at that very moment": ("Asia/Taipei", TWO, "2026-07-10T18:00", "2026-07-11T18:00"),
    "across the new year": ("Asia/Taipei", TWO, "2026-12-31T18:00:01", "2027-01-01T18:00"),
    "an hour that is skipped runs one later": (
        "Europe/Berlin", datetime.time(2, 30), "2026-03-28T12:00", "2026-03-29T01:30",
    ),
    "the day after that": ("Europe/Berlin", datetime.time(2, 30), "2026-03-29T02:00", "2026-03-30T00:30"),
    "an hour that is doubled runs the first time": (
        "Europe/Berlin", datetime.time(2, 30), "2026-10-24T12:00", "2026-10-25T00:30",
    ),
    "and not the second time": ("Europe/Berlin", datetime.time(2, 30), "2026-10-25T00:31", "2026-10-26T01:30"),
    "02:00 on the day that skips it": ("Europe/Berlin", TWO, "2026-03-28T12:00", "2026-03-29T01:00"),
    "02:00 on the day that has it twice": ("Europe/Berlin", TWO, "2026-10-24T12:00", "2026-10-25T00:00"),
    "midnight that is skipped (Beirut)": (
        "Asia/Beirut", datetime.time(0, 0), "2026-03-28T12:00", "2026-03-28T22:00",
    ),
    "half an hour of summer time (Lord Howe)": (
        "Australia/Lord_Howe", TWO, "2026-10-03T00:00", "2026-10-03T15:30",
    ),
    "a quarter of an hour off (Kathmandu)": ("Asia/Kathmandu", TWO, "2026-05-01T12:00", "2026-05-01T20:15"),
    "west of the date line": ("Pacific/Pago_Pago", TWO, "2026-05-01T12:59", "2026-05-01T13:00"),
    "east of it": ("Pacific/Kiritimati", TWO, "2026-05-01T11:59", "2026-05-01T12:00"),
}  # fmt: skip


@pytest.mark.parametrize(("zone", "at", "now", "due"), FULL.values(), ids=FULL.keys())
def test_next_full(zone: str, at: datetime.time, now: str, due: str) -> None:
    assert next_full(utc(now), at, zone, 0.0) == utc(due)


@pytest.mark.parametrize("zone", ["Europe/Berlin", "Asia/Taipei", "America/New_York", "Australia/Lord_Howe"])
@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
def test_a_year_of_it(zone: str, share: float) -> None:
    """Once on every local day, never twice, never at the wrong hour."""
    now, days = utc("2026-01-01T12:00"), []
    for _ in range(365):
        now = next_full(now, TWO, zone, share)
        local = (now - FULL_JITTER * share).astimezone(ZoneInfo(zone))
        days.append(local.date())
        assert local.time() in (TWO, datetime.time(2, 30), datetime.time(3, 0)), local
    assert all(second - first == datetime.timedelta(days=1) for first, second in pairwise(days))


def test_the_spread_over_midnight_skips_no_day() -> None:
    """23:55 and eight minutes is tomorrow; the day before's is still to come then."""
    now = utc("2026-05-02T00:01")
    assert next_full(now, datetime.time(23, 55), "UTC", 0.8) == utc("2026-05-02T00:03")


@pytest.mark.parametrize(
    ("minutes", "share", "later"), [(120, 0.0, 120), (120, 0.5, 126), (5, 1.0, 5.5), (1440, 0.25, 1476)]
)
def test_next_quick(minutes: int, share: float, later: float) -> None:
    now = utc("2026-05-01T12:00")
    assert next_quick(now, minutes, share) == now + datetime.timedelta(minutes=later)


def test_the_spread_is_stable_and_spread() -> None:
    ids = [uuid.UUID(int=number * 7919) for number in range(1000)]
    shares = [spread(one) for one in ids]
    assert shares == [spread(uuid.UUID(str(one))) for one in ids]
    assert all(0 <= share < 1 for share in shares)
    tenths = [sum(1 for share in shares if int(share * 10) == tenth) for tenth in range(10)]
    assert min(tenths) > 50, tenths


# The tick


def due(connector: Connector) -> tuple[Any, Any]:
    connector.refresh_from_db()
    return connector.next_full_sync_at, connector.next_quick_sync_at


@pytest.mark.django_db
class TestTick:
    @pytest.fixture
    def connector(self, db: None) -> Connector:
        """Scheduled long ago, and with a full sync behind it."""
        Tenant.objects.create(name="Contoso", time_zone="Europe/Berlin")
        made = factories.connector()
        now = timezone.now()
        Connector.objects.update(
            last_full_sync_at=now,
            next_full_sync_at=now + datetime.timedelta(hours=9),
            next_quick_sync_at=now + datetime.timedelta(hours=1),
        )
        made.refresh_from_db()
        return made

    def past(self, **minutes: float) -> None:
        now = timezone.now()
        Connector.objects.update(**{name: now - datetime.timedelta(minutes=m) for name, m in minutes.items()})

    def test_nothing_is_due(self, connector: Connector) -> None:
        before = due(connector)
        assert syncs_dispatch_due() == 0
        assert due(connector) == before
        assert not SyncRun.objects.exists()

    def test_a_quick_one(self, connector: Connector) -> None:
        self.past(next_quick_sync_at=1)
        assert syncs_dispatch_due() == 1
        run = SyncRun.objects.get()
        assert (run.kind, run.trigger, run.requested_by_name) == ("deltaSync", "schedule", "Schedule")
        wait = due(connector)[1] - timezone.now()
        assert datetime.timedelta(minutes=119) < wait < datetime.timedelta(minutes=132)
        assert syncs_dispatch_due() == 0, "the next tick finds nothing due"

    def test_a_full_one(self, connector: Connector) -> None:
        self.past(next_full_sync_at=1)
        assert syncs_dispatch_due() == 1
        assert SyncRun.objects.get().kind == "fullSync"
        full, quick = due(connector)
        local = full.astimezone(ZoneInfo("Europe/Berlin"))
        assert (local.hour, local.minute < 10) == (2, True)
        assert quick > timezone.now() + datetime.timedelta(minutes=119), "the quick one begins its interval anew"

    def test_both_are_one_full_one(self, connector: Connector) -> None:
        self.past(next_full_sync_at=1, next_quick_sync_at=5)
        assert syncs_dispatch_due() == 1
        assert [run.kind for run in SyncRun.objects.all()] == ["fullSync"]
        assert syncs_dispatch_due() == 0

    def test_what_was_missed_for_days_runs_once(self, connector: Connector) -> None:
        self.past(next_full_sync_at=60 * 24 * 5, next_quick_sync_at=60 * 24 * 5)
        assert syncs_dispatch_due() == 1
        assert min(due(connector)) > timezone.now()

    @pytest.mark.parametrize("which", ["both", "full", "quick"])
    def test_null_means_reckon_and_not_now(self, connector: Connector, which: str) -> None:
        unset = {"next_full_sync_at": None, "next_quick_sync_at": None}
        Connector.objects.update(**{k: v for k, v in unset.items() if which == "both" or which in k})
        assert syncs_dispatch_due() == 0
        full, quick = due(connector)
        assert full > timezone.now()
        assert quick > timezone.now()
        assert not SyncRun.objects.exists()

    def test_after_a_change_the_new_time_holds(self, connector: Connector) -> None:
        schedule_change(
            connector=connector,
            quick_sync_minutes=30,
            full_sync_time=datetime.time(4, 30),
            is_enabled=True,
            actor=SETUP,
        )
        syncs_dispatch_due()
        full, quick = due(connector)
        local = full.astimezone(ZoneInfo("Europe/Berlin"))
        assert (local.hour, 30 <= local.minute < 40) == (4, True)
        assert quick <= timezone.now() + datetime.timedelta(minutes=33)

    def test_a_switched_off_connector(self, connector: Connector) -> None:
        self.past(next_full_sync_at=1)
        Connector.objects.update(is_enabled=False)
        assert syncs_dispatch_due() == 0
        assert not SyncRun.objects.exists()

    def test_one_switched_off_or_deleted_in_the_middle_of_a_tick(self, connector: Connector) -> None:
        from sync.schedule import _connector_tick

        self.past(next_full_sync_at=1)
        Connector.objects.update(is_enabled=False)
        assert not _connector_tick(connector.pk, timezone.now())
        assert not _connector_tick(4711, timezone.now())

    def test_a_run_that_is_active_is_joined(self, connector: Connector) -> None:
        sync_request(connector=connector, kind="fullSync", trigger="button", actor=SETUP)
        self.past(next_quick_sync_at=1)
        assert syncs_dispatch_due() == 1
        assert SyncRun.objects.count() == 1
        assert due(connector)[1] > timezone.now()

    def test_a_full_one_behind_a_quick_one(self, connector: Connector) -> None:
        sync_request(connector=connector, kind="deltaSync", trigger="button", actor=SETUP)
        self.past(next_full_sync_at=1)
        syncs_dispatch_due()
        promised = SyncRun.objects.get().then_full
        assert promised == {"trigger": "schedule", "name": "Schedule", "user_id": None}

    def test_each_in_its_tenants_time(self, connector: Connector) -> None:
        Tenant.objects.create(name="Fabrikam", time_zone="Asia/Taipei")
        factories.connector("Fabrikam", of="Fabrikam")
        Connector.objects.update(next_full_sync_at=None)
        with time_machine.travel(utc("2026-06-01T12:00"), tick=False):
            syncs_dispatch_due()
        hours = {
            c.organization.name: c.next_full_sync_at.hour
            for c in Connector.objects.select_related("organization")
            if c.next_full_sync_at
        }
        assert hours == {"Contoso": 0, "Fabrikam": 18}

    def test_one_that_cannot_be_reckoned_does_not_stop_the_others(
        self, connector: Connector, caplog: pytest.LogCaptureFixture
    ) -> None:
        other = factories.connector("Fabrikam", of="Fabrikam")
        Tenant.objects.filter(name="Contoso").update(time_zone="Moon/Base")
        self.past(next_full_sync_at=1)
        assert syncs_dispatch_due() == 1
        assert SyncRun.objects.get().connector_id == other.pk
        assert "Moon/Base" in caplog.text

"""Who sees which runs and devices, and the arithmetic of progress."""

from __future__ import annotations

import datetime
import uuid
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.models import AnonymousUser
from django.utils import timezone

from connectors.models import Connector, Tenant
from console.accounts.models import Membership
from sync.models import MobileDevice, SyncRun
from sync.selectors import devices_for, latest_runs, run_progress, runs_for
from tests.connectors import factories

NOW = datetime.datetime(2026, 5, 1, 12, 0, tzinfo=datetime.UTC)


def run_of(connector: Connector, status: str = "succeeded", **values: Any) -> SyncRun:
    given: dict[str, Any] = {"kind": "fullSync", "trigger": "button", "status": status, "queued_at": timezone.now()}
    return SyncRun.objects.create(connector=connector, **{**given, **values})


@pytest.mark.django_db
class TestScope:
    @pytest.fixture
    def world(self, db: None) -> dict[str, Connector]:
        """Two tenants, the first with two organisations; a run and a device in each organisation."""
        made = {
            "Contoso": factories.connector("Contoso", of="Contoso"),
            "Research": factories.connector("Research", of="Contoso"),
            "Fabrikam": factories.connector("Fabrikam", of="Fabrikam"),
        }
        for name, connector in made.items():
            run_of(connector)
            MobileDevice.objects.create(
                organization=connector.organization,
                guid=uuid.uuid4(),
                identity=name,
                device_id=name,
                device_id_key=name.lower(),
                wire_digest=b"0" * 16,
                first_observed_at=timezone.now(),
                changed_at=timezone.now(),
            )
        return made

    @pytest.mark.parametrize(
        ("member_of", "flags", "seen"),
        [
            ([], {}, set()),
            (["Contoso"], {}, {"Contoso", "Research"}),
            (["Fabrikam"], {}, {"Fabrikam"}),
            (["Contoso", "Fabrikam"], {}, {"Contoso", "Research", "Fabrikam"}),
            ([], {"is_superuser": True}, {"Contoso", "Research", "Fabrikam"}),
            (["Contoso"], {"is_active": False}, set()),
            ([], {"is_superuser": True, "is_active": False}, set()),
        ],
    )
    def test_what_a_person_sees(
        self, world: dict[str, Connector], member_of: list[str], flags: dict[str, bool], seen: set[str]
    ) -> None:
        person = get_user_model().objects.create_user("someone", **flags)  # type: ignore[arg-type]
        for name in member_of:
            Membership.objects.create(user=person, tenant=Tenant.objects.get(name=name))
        assert {run.connector.organization.name for run in runs_for(person)} == seen
        assert {device.device_id for device in devices_for(person)} == seen

    def test_someone_who_is_not_signed_in(self, world: dict[str, Connector]) -> None:
        assert not runs_for(AnonymousUser()).exists()
        assert not devices_for(AnonymousUser()).exists()

    def test_runs_come_newest_first(self, world: dict[str, Connector]) -> None:
        admin = get_user_model().objects.create_superuser("root")
        newest = run_of(world["Contoso"], queued_at=timezone.now() + datetime.timedelta(hours=1))
        assert runs_for(admin).first() == newest

    def test_a_list_of_runs_costs_one_query(self, world: dict[str, Connector], django_assert_num_queries: Any) -> None:
        admin = get_user_model().objects.create_superuser("root")
        with django_assert_num_queries(1):
            assert len([run.connector.organization.tenant.name for run in runs_for(admin)]) == 3

    def test_the_latest_run_of_each(self, world: dict[str, Connector], django_assert_num_queries: Any) -> None:
        later = timezone.now() + datetime.timedelta(hours=1)
        newest = {name: run_of(connector, "failed", queued_at=later) for name, connector in world.items()}
        run_of(world["Contoso"], queued_at=later - datetime.timedelta(hours=3))
        with django_assert_num_queries(2):
            found = latest_runs(world.values())
        assert found == {world[name].pk: run for name, run in newest.items()}

    def test_the_latest_run_where_there_is_none(self, world: dict[str, Connector]) -> None:
        SyncRun.objects.filter(connector=world["Fabrikam"]).delete()
        assert world["Fabrikam"].pk not in latest_runs(world.values())
        assert latest_runs([]) == {}


# values of the run, expected: rate, remaining, elapsed, percent
PROGRESS: dict[str, tuple[dict[str, Any], tuple[Any, Any, Any, Any]]] = {
    "queued": ({"status": "queued", "phase": "waiting"}, (None, None, None, None)),
    "connecting": ({"status": "running", "phase": "connecting", "started": 5}, (None, None, 5.0, None)),
    "reading": (
        {"status": "running", "phase": "devices", "started": 12, "devices": 10, "observed": 250, "expected": 1000},
        (25.0, 30.0, 12.0, 25),
    ),
    "reading the first time": (
        {"status": "running", "phase": "devices", "started": 12, "devices": 10, "observed": 250, "expected": 0},
        (25.0, None, 12.0, None),
    ),
    "more than expected": (
        {"status": "running", "phase": "devices", "started": 12, "devices": 10, "observed": 1500, "expected": 1000},
        (150.0, 0.0, 12.0, 100),
    ),
    "nothing yet": (
        {"status": "running", "phase": "devices", "started": 12, "devices": 10, "observed": 0, "expected": 1000},
        (None, None, 12.0, 0),
    ),
    "just begun to read": (
        {"status": "running", "phase": "devices", "started": 1, "devices": 0, "observed": 0, "expected": 10},
        (None, None, 1.0, 0),
    ),
    "sweeping": (
        {"status": "running", "phase": "sweeping", "started": 12, "devices": 10, "observed": 100, "expected": 100},
        (10.0, None, 12.0, 100),
    ),
    "ended": (
        {
            "status": "succeeded",
            "phase": "finished",
            "started": 100,
            "devices": 98,
            "finished": 58,
            "observed": 400,
            "expected": 400,
        },
        (10.0, None, 42.0, 100),
    ),
    "canceled while queued": ({"status": "canceled", "phase": "finished", "finished": 1}, (None, None, None, None)),
    "a console whose clock is behind": (
        {"status": "running", "phase": "devices", "started": -3, "devices": -2, "observed": 5, "expected": 9},
        (None, None, 0.0, 55),
    ),
}


@pytest.mark.parametrize(("values", "expected"), PROGRESS.values(), ids=PROGRESS.keys())
def test_progress(values: dict[str, Any], expected: tuple[Any, Any, Any, Any]) -> None:
    def ago(name: str) -> datetime.datetime | None:
        seconds = values.pop(name, None)
        return None if seconds is None else NOW - datetime.timedelta(seconds=seconds)

    values = dict(values)
    times = {"started_at": ago("started"), "devices_started_at": ago("devices"), "finished_at": ago("finished")}
    found = run_progress(SyncRun(**values, **times), NOW)
    assert (found.rate_per_second, found.remaining_seconds, found.elapsed_seconds, found.percent) == expected
    assert found.phase == values["phase"]


def test_progress_now() -> None:
    started = timezone.now() - datetime.timedelta(seconds=5)
    elapsed = run_progress(SyncRun(status="running", started_at=started)).elapsed_seconds
    assert elapsed is not None
    assert 5 <= elapsed < 60

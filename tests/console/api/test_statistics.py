"""Device statistics asked for by programs."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

import pytest

from sync.models import SyncRun
from tests.console.api.conftest import Program
from tests.factories import ConnectorFactory, OrganizationFactory

pytestmark = pytest.mark.django_db


@pytest.fixture
def connector(tenant: Any) -> Any:
    return ConnectorFactory(organization=OrganizationFactory(tenant=tenant, name="Contoso mail"))


def test_asked_for_as_other_runs_are(
    program: Callable[[str], Program],
    connector: Any,
) -> None:
    call = program("operator")
    answer = call("POST", f"connectors/{connector.public_id}/sync", {"kind": "statistics"})
    assert (answer.status_code, answer.json()["outcome"]) == (202, "started")
    run = answer.json()["run"]
    assert (run["kind"], run["dryRun"], run["status"]) == ("statistics", False, "queued")
    SyncRun.objects.update(observed=3, rejected=1, expected=9)
    shown = call("GET", f"runs/{run['id']}").json()
    assert (shown["observed"], shown["rejected"], shown["expected"]) == (3, 1, 9)


@pytest.mark.parametrize(("who", "status"), [("reader", 403), ("stranger", 404), ("nobody", 401)])
def test_others_are_refused(
    program: Callable[[str], Program],
    connector: Any,
    who: str,
    status: int,
) -> None:
    answer = program(who)("POST", f"connectors/{connector.public_id}/sync", {"kind": "statistics"})
    assert answer.status_code == status
    assert not SyncRun.objects.exists()


def test_there_is_no_dry_reading(program: Callable[[str], Program], connector: Any) -> None:
    body = {"kind": "statistics", "dryRun": True}
    answer = program("operator")("POST", f"connectors/{connector.public_id}/sync", body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "bad_sync")
    nowhere = program("operator")("POST", f"connectors/{uuid.uuid4()}/sync", {"kind": "statistics"})
    assert nowhere.status_code == 404

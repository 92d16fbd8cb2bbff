"""What a dry run found, over HTTP: the token's tenant alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.utils import timezone

from sync.models import DryRun
from tests.console.api.conftest import Program
from tests.console.conftest import Scene
from tests.console.test_dry_runs import frozen
from tests.factories import ConnectorFactory, OrganizationFactory


@pytest.fixture
def found(tenant: Any) -> DryRun:
    organization = OrganizationFactory(tenant=tenant)
    return frozen(Scene(ConnectorFactory(organization=organization), lambda who: None))  # type: ignore[arg-type, return-value]


def test_how_many_and_the_settings(program: Callable[[str], Program], found: DryRun) -> None:
    body = program("reader")("GET", f"runs/{found.run.public_id}/dryRun").json()
    assert (body["standing"], body["counts"]) == ("whole", {"changed": 2, "held": 1, "unchanged": 1})
    assert body["commandsHeld"] == ["Set-ActiveSyncOrganizationSettings -DefaultAccessLevel"]
    DryRun.objects.update(finished_at=None)
    body = program("reader")("GET", f"runs/{found.run.public_id}/dryRun").json()
    assert (body["standing"], body["counts"]) == ("cutOff", None)


def test_its_devices_page_by_page(program: Callable[[str], Program], found: DryRun) -> None:
    call, address, seen = program("reader"), f"runs/{found.run.public_id}/dryRun/devices?limit=2", []
    while address:
        body = call("GET", address).json()
        seen += body["value"]
        address = body["nextLink"]
    assert [line["userDisplayName"] for line in seen] == ["Ada", "=Bob", "Cy", "Di"]
    assert (seen[1]["effect"], seen[1]["commands"], seen[1]["commandsHeld"]) == ("held", [], ["Set-CASMailbox bob"])
    assert (seen[1]["verdict"]["access"], seen[1]["verdict"]["rule"]) == ("block", "noRecord")
    assert (seen[3]["id"], seen[3]["verdict"]) == (None, None)
    held = call("GET", f"runs/{found.run.public_id}/dryRun/devices?effect=held").json()["value"]
    assert [line["userDisplayName"] for line in held] == ["=Bob"]
    assert call("GET", f"runs/{found.run.public_id}/dryRun/devices?effect=x").status_code == 400


def test_what_is_not_there(program: Callable[[str], Program], found: DryRun) -> None:
    DryRun.objects.update(pruned_at=timezone.now())
    call = program("reader")
    assert call("GET", f"runs/{found.run.public_id}/dryRun").json()["standing"] == "pruned"
    assert call("GET", f"runs/{found.run.public_id}/dryRun/devices").status_code == 404
    stranger = program("stranger")
    assert stranger("GET", f"runs/{found.run.public_id}/dryRun").status_code == 404

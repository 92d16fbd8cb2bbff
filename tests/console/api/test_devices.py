"""devices, connectors and runs over HTTP: the token's tenant alone."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

import pytest
from django.utils import timezone

from sync.models import DeviceAccess, Mailbox, ManagedDevice, SyncRun
from tests.console.api.conftest import Program
from tests.console.api.test_records import error
from tests.factories import ConnectorFactory, DeviceFactory, OrganizationFactory, RunFactory

Programs = Callable[[str], Program]


@pytest.fixture
def connector(tenant: Any) -> Any:
    return ConnectorFactory(organization=OrganizationFactory(tenant=tenant, name="Contoso mail"))


@pytest.fixture
def device(connector: Any) -> Any:
    now = timezone.now()
    organization = connector.organization
    owner = Mailbox.objects.create(
        organization=organization, guid=uuid.uuid4(), primary_smtp="Ada@contoso.com", read_at=now, changed_at=now
    )
    device = DeviceFactory(organization=organization, device_id="ApplX1", owner=owner)
    record = ManagedDevice.objects.create(
        tenant=organization.tenant, source="pushed", source_id="r1", first_seen_at=now, changed_at=now
    )
    DeviceAccess.objects.create(
        device=device, organization=organization, access="block", state="blocked", reason="notCompliant",
        rule="notCompliant", managed_device=record, decided_at=now,
    )  # fmt: skip
    return device


class TestDevices:
    def test_a_device_and_its_verdict(self, program: Programs, device: Any) -> None:
        body = program("reader")("GET", f"devices/{device.public_id}").json()
        assert (body["deviceId"], body["mailbox"], body["deviceAccessState"]) == (
            "ApplX1",
            "Ada@contoso.com",
            "Allowed",
        )
        verdict = body["verdict"]
        assert (verdict["exchangeAccessState"], verdict["exchangeAccessStateReason"], verdict["managedDeviceId"]) == (
            "blocked", "notCompliant", "r1",
        )  # fmt: skip

    def test_not_decided_yet(self, program: Programs, device: Any) -> None:
        DeviceAccess.objects.all().delete()
        assert program("reader")("GET", f"devices/{device.public_id}").json()["verdict"] is None

    @pytest.mark.parametrize(
        ("query", "count"),
        [
            ("", 1), ("deviceId=applx1", 1), ("deviceId=other", 0), ("mailbox=ada@CONTOSO.com", 1), ("mailbox=x", 0),
            ("exchangeAccessState=blocked", 1), ("exchangeAccessState=allowed", 0), ("presence=gone", 0),
            (f"organization={uuid.UUID(int=0)}", 0),
        ],
    )  # fmt: skip
    def test_filters(self, program: Programs, device: Any, query: str, count: int) -> None:
        assert len(program("reader")("GET", f"devices?{query}").json()["value"]) == count

    def test_an_organization_that_is_no_id(self, program: Programs, device: Any) -> None:
        assert error(program("reader")("GET", "devices?organization=x")) == (400, "bad_parameter")

    def test_another_tenants_device_does_not_exist(self, program: Programs, device: Any) -> None:
        stranger = program("stranger")
        assert error(stranger("GET", f"devices/{device.public_id}")) == (404, "not_found")
        assert stranger("GET", "devices").json()["value"] == []


class TestSync:
    def test_a_sync_is_asked_for_and_followed(self, program: Programs, connector: Any) -> None:
        call = program("operator")
        assert [one["id"] for one in call("GET", "connectors").json()["value"]] == [str(connector.public_id)]
        answer = call("POST", f"connectors/{connector.public_id}/sync", {"kind": "deltaSync"})
        assert (answer.status_code, answer.json()["outcome"]) == (202, "started")
        run = answer.json()["run"]
        assert (run["kind"], run["dryRun"], run["status"]) == ("deltaSync", False, "queued")
        assert call("GET", f"runs/{run['id']}").json() == run
        row = SyncRun.objects.get()
        assert (row.trigger, row.requested_by_name) == ("api", "API · operator")
        joined = call("POST", f"connectors/{connector.public_id}/sync", {"kind": "deltaSync"})
        assert joined.json()["outcome"] == "joined"

    def test_a_dry_run(self, program: Programs, connector: Any) -> None:
        call = program("operator")
        body = {"kind": "fullSync", "dryRun": True}
        assert call("POST", f"connectors/{connector.public_id}/sync", body).json()["run"]["dryRun"] is True
        # A sync that is asked for meanwhile is done after it, for it changes nothing itself.
        answer = call("POST", f"connectors/{connector.public_id}/sync", {"kind": "fullSync"})
        assert answer.json()["outcome"] == "queued_after"

    def test_a_dry_run_while_another_changes_exchange_comes_after_it(self, program: Programs, connector: Any) -> None:
        RunFactory(connector=connector, running=True)
        body = {"kind": "fullSync", "dryRun": True}
        answer = program("operator")("POST", f"connectors/{connector.public_id}/sync", body)
        assert (answer.status_code, answer.json()["outcome"]) == (202, "queued_after")

    @pytest.mark.parametrize(
        "body", [{}, {"kind": "apply"}, {"kind": "fullSync", "dryRun": 1}, {"kind": "fullSync", "x": 1}]
    )
    def test_what_is_no_sync(self, program: Programs, connector: Any, body: Any) -> None:
        answer = program("operator")("POST", f"connectors/{connector.public_id}/sync", body)
        assert error(answer) == (400, "bad_sync")
        assert not SyncRun.objects.exists()

    def test_roles_and_tenants(self, program: Programs, connector: Any) -> None:
        run = RunFactory(connector=connector)
        body = {"kind": "fullSync"}
        address = f"connectors/{connector.public_id}/sync"
        assert error(program("reader")("POST", address, body)) == (403, "forbidden")
        assert error(program("stranger")("POST", address, body)) == (404, "not_found")
        assert error(program("stranger")("GET", f"runs/{run.public_id}")) == (404, "not_found")
        assert program("stranger")("GET", "connectors").json()["value"] == []

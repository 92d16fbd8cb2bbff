"""The whole way from Graph to the tables, over the wire: people, groups, records, and what goes wrong there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.utils import timezone

from connectors.graph import client
from connectors.models import DeviceSource
from sync.models import DirectoryUser, GroupMember, ManagedDevice, PolicyVersion, Presence, UserKeyText
from sync.policies.policy import GroupRef, TenantPolicyValues
from sync.records.sources import RefreshReport, records_refresh
from tests.connectors.graph.tenants import GraphTenant
from tests.factories import TenantFactory
from tests.labs import Lab

pytestmark = [pytest.mark.django_db, pytest.mark.wire]

Refresh = Callable[..., RefreshReport]


@pytest.fixture
def graph(fresh_lab: Callable[..., Lab], monkeypatch: pytest.MonkeyPatch) -> GraphTenant:
    monkeypatch.setattr(client, "FIRST_WAIT", 0.01)
    return GraphTenant(fresh_lab("name=Bench,tenant=Contoso,version=2016,devices=60"))


@pytest.fixture
def refresh(graph: GraphTenant) -> Refresh:
    tenant = TenantFactory()
    where = graph.lab.state["graph"]
    DeviceSource.objects.create(
        tenant=tenant, kind="graph", directory_id=graph.row["id"], client_id=graph.row["client_id"],
        client_secret=graph.row["client_secret"], login_root=where["login"], graph_root=where["graph"],
    )  # fmt: skip

    def do(**more: Any) -> RefreshReport:
        return records_refresh(tenant.pk, **{"full": True, "asked_at": timezone.now(), **more})

    return do


def test_from_the_first_reading_to_what_is_gone(graph: GraphTenant, refresh: Refresh) -> None:
    group = next(row for row in graph.call("GET", "groups")["groups"] if row["name"].endswith("mobile users"))
    content = TenantPolicyValues(enabled=True, included_groups=(GroupRef(group["id"], group["name"]),)).to_json()
    PolicyVersion.objects.create(
        tenant=DeviceSource.objects.get().tenant, number=1, content=content, made_at=timezone.now(), made_by_name="Ada"
    )
    first = refresh()
    devices, people = graph.devices(), graph.users()
    assert (first.error_code, first.is_complete, first.created) == ("", True, len(devices))
    assert DirectoryUser.objects.count() == len(people)
    assert UserKeyText.objects.filter(kind="sid").count() == len(people)
    assert GroupMember.objects.count() == first.members > 0
    held = {row.source_id: row for row in ManagedDevice.objects.all()}
    for row in devices:
        kept = held[row["id"]]
        assert (kept.upn, kept.compliance, kept.user_source_id) == (
            row["userPrincipalName"], row["complianceState"], row["userId"],
        )  # fmt: skip

    again = refresh()
    assert (again.created, again.changed, again.people, again.unchanged) == (0, 0, 0, len(devices))

    # One stops complying, one is gone, somebody has another name: the next reading finds each.
    changed, gone = [row for row in devices if row["complianceState"] == "compliant"][:2]
    graph.call("PATCH", f"devices/{changed['id']}", {"complianceState": "noncompliant"})
    graph.call("DELETE", f"devices/{gone['id']}")
    graph.call("PATCH", f"users/{people[0]['id']}", {"displayName": "Ada"})
    third = refresh()
    assert (third.changed, third.missing, third.gone, third.people) == (1, 1, 1, 1)
    assert ManagedDevice.objects.get(source_id=changed["id"]).compliance == "noncompliant"
    assert DirectoryUser.objects.get(source_id=people[0]["id"]).display_name == "Ada"
    assert ManagedDevice.objects.get(source_id=gone["id"]).presence == Presence.GONE


def test_devices_that_the_listing_leaves_out_stay(graph: GraphTenant, refresh: Refresh) -> None:
    created = refresh().created
    with graph.fault("hide", value=5):
        report = refresh()
    assert (report.is_complete, report.missing, report.gone) == (False, 0, 0)
    assert ManagedDevice.objects.filter(presence=Presence.PRESENT).count() == created


@pytest.mark.parametrize(
    ("kind", "path", "code"),
    [
        ("status", "managedDevices", "graph_server_error"),
        ("not_json", "managedDevices", "graph_bad_answer"),
        ("secret_expired", "", "graph_secret_expired"),
    ],
)
def test_what_fails_is_told_and_takes_nothing_away(
    graph: GraphTenant, refresh: Refresh, kind: str, path: str, code: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    created = refresh().created
    monkeypatch.setattr("connectors.sources._options", lambda: client.Options(patience=1))
    with graph.fault(kind, path=path, value=503 if kind == "status" else ""):
        report = refresh()
    assert (report.error_code, report.is_readable) == (code, False)
    assert DeviceSource.objects.get().last_error_code == code
    assert ManagedDevice.objects.filter(presence=Presence.PRESENT).count() == created

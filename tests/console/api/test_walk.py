"""Every address of the API with every method: another tenant's program finds nothing, a reader changes nothing.

The cases are held against the addresses that there are, so that a new one without a case fails here.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

import pytest
from django.db.models import Model
from django.urls import URLPattern

from console.api.urls import urlpatterns
from sync.models import MailboxCheck, ManagedDevice, SyncRun
from tests.console.api.conftest import Program
from tests.factories import (
    ConnectorFactory,
    DeviceFactory,
    DryLineFactory,
    DryRunFactory,
    OrganizationFactory,
    RecordFactory,
    RunFactory,
)

Programs = Callable[[str], Program]

ROW = {"complianceState": "noncompliant"}
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
WRITING = frozenset({"POST", "PUT", "PATCH", "DELETE"})
# Route: what it takes, each with a body that is right, and the smallest role that may.
CASES: dict[str, dict[str, tuple[Any, str]]] = {
    "v1/managedDevices": {"GET": (None, "reader")},
    "v1/managedDevices/bulk": {
        "GET": (None, "reader"), "PUT": (ROW, "operator"), "DELETE": (None, "operator"),
        "POST": ({"value": [{**ROW, "id": "r1"}]}, "operator"),
    },
    "v1/managedDevices/<path:record_id>": {
        "GET": (None, "reader"), "PUT": (ROW, "operator"), "DELETE": (None, "operator"),
    },
    "v1/devices": {"GET": (None, "reader")},
    "v1/devices/<uuid:public_id>": {"GET": (None, "reader")},
    "v1/connectors": {"GET": (None, "reader")},
    "v1/connectors/<uuid:public_id>/sync": {"POST": ({"kind": "fullSync"}, "operator")},
    "v1/runs/<uuid:public_id>": {"GET": (None, "reader")},
    "v1/runs/<uuid:public_id>/dryRun": {"GET": (None, "reader")},
    "v1/runs/<uuid:public_id>/dryRun/devices": {"GET": (None, "reader")},
}  # fmt: skip
# Answered with 404 to everybody, whatever is asked.
NOTHING = {"", "<path:rest>"}


@pytest.fixture
def world(tenant: Any) -> dict[str, Any]:
    """What the tenant has, by the part of an address that names it."""
    organization = OrganizationFactory(tenant=tenant, name="Contoso mail")
    connector = ConnectorFactory(organization=organization)
    RecordFactory(tenant=tenant, source="pushed", source_id="r1", compliance="compliant", upn="ada@contoso.com")
    RecordFactory(tenant=tenant, source="pushed", source_id="bulk", compliance="compliant", upn="bo@contoso.com")
    device = DeviceFactory(organization=organization, device_id="ApplCONTOSO1")
    run = RunFactory(connector=connector)
    DryLineFactory(dry_run=DryRunFactory(run=run), device_id="ApplCONTOSO1")
    return {"organization": organization, "connectors": connector, "devices": device, "runs": run}


def address(route: str, world: dict[str, Any]) -> str:
    """The route, naming what the tenant has."""
    named = world.get(route.split("/")[1])
    public_id = str(named.public_id) if named is not None else ""
    return route.replace("<path:record_id>", "r1").replace("<uuid:public_id>", public_id)


def rows() -> list[Any]:
    """All that the API could write."""
    models: tuple[type[Model], ...] = (ManagedDevice, SyncRun, MailboxCheck)
    return [row for model in models for row in model._default_manager.order_by("pk").values_list()]


def call(program: Program, method: str, path: str, body: Any) -> Any:
    return program(method, f"/api/{path}", body)


VIEWS = {str(one.pattern): one for one in urlpatterns if isinstance(one, URLPattern)}


def test_these_cases_name_every_address_and_method() -> None:
    assert len(VIEWS) == len(urlpatterns)
    assert set(VIEWS) == set(CASES) | NOTHING
    for route, methods in CASES.items():
        view = VIEWS[route].callback.view_class  # type: ignore[attr-defined]
        taken = {method for method in METHODS if hasattr(view, method.lower())}
        assert taken == set(methods), route
        # What is not named would need no more than to see.
        assert taken & WRITING <= set(view.needs), route


@pytest.mark.parametrize("route", CASES)
def test_another_tenants_administrator_finds_and_changes_nothing(
    program: Programs, world: dict[str, Any], route: str
) -> None:
    stranger, tenant, before = program("stranger"), world["organization"].tenant, rows()
    for method in METHODS:
        body, _smallest = CASES[route].get(method, (ROW, ""))
        answer = call(stranger, method, address(route, world), body)
        # A record belongs to whoever sends it: the same id in another tenant is another record.
        found = {"PUT": 201, "POST": 200}.get(method, 404) if "managedDevices/" in route else 404
        expected = 405 if method not in CASES[route] else found if "/" in route.removeprefix("v1/") else 200
        assert answer.status_code == expected, method
        for told in ("contoso", "ApplCONTOSO1", str(world["devices"].public_id), str(world["connectors"].public_id)):
            assert told not in answer.content.decode()
        ManagedDevice.objects.exclude(tenant=tenant).delete()
    assert rows() == before


def test_no_filter_reaches_into_another_tenant(program: Programs, world: dict[str, Any]) -> None:
    reader, stranger = program("reader"), program("stranger")
    for path in (
        f"devices?organization={world['organization'].public_id}",
        "devices?deviceId=ApplCONTOSO1",
        "managedDevices?userPrincipalName=ada@contoso.com",
    ):
        assert reader("GET", path).json()["value"]
        assert stranger("GET", path).json()["value"] == []
    link = reader("GET", "managedDevices?limit=1").json()["nextLink"]
    assert stranger("GET", link).json() == {"value": [], "nextLink": None}


@pytest.mark.parametrize("who", ["reader", "operator", "administrator"])
def test_a_role_may_what_the_table_says(program: Programs, world: dict[str, Any], who: str) -> None:
    one = program(who)
    for route, methods in CASES.items():
        for method, (body, smallest) in methods.items():
            before = rows()
            answer = call(one, method, address(route, world), body)
            if who == "reader" and smallest != "reader":
                assert (answer.status_code, answer.json()["error"]["code"]) == (403, "forbidden"), (route, method)
                assert rows() == before
            else:
                assert answer.status_code in (200, 201, 202, 204), (route, method)


def test_a_reader_and_nobody_change_nothing_by_any_method(program: Programs, world: dict[str, Any]) -> None:
    before, reader, nobody = rows(), program("reader"), program("nobody")
    for route in CASES:
        for method in sorted(WRITING):
            assert call(reader, method, address(route, world), ROW).status_code in (403, 405), (route, method)
            assert call(nobody, method, address(route, world), ROW).status_code == 401, (route, method)
    assert rows() == before


def test_what_is_not_there_and_what_is_anothers_look_alike(program: Programs, world: dict[str, Any]) -> None:
    stranger = program("stranger")
    for kind, method, path in (("devices", "GET", ""), ("runs", "GET", ""), ("connectors", "POST", "/sync")):
        body = {"kind": "fullSync"} if path else None
        theirs = stranger(method, f"{kind}/{world[kind].public_id}{path}", body)
        nothing = stranger(method, f"{kind}/{uuid.uuid4()}{path}", body)
        assert (theirs.status_code, theirs.content) == (nothing.status_code, nothing.content) == (404, nothing.content)

"""The Graph tenant: token, users, groups, licences, managed devices, with the traps of exchange.md section 7."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import requests

from tests.labs import Lab, Organization

pytestmark = pytest.mark.wire


@dataclass
class Client:
    """Asks as an application would."""

    root: str
    token: str

    def get(self, path: str, **headers: str) -> requests.Response:
        url = path if path.startswith("http") else f"{self.root}/v1.0{path}"
        return requests.get(url, headers={"Authorization": f"Bearer {self.token}"} | headers, timeout=10)

    def every(self, path: str, **headers: str) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = []
        url: str | None = path
        while url:
            body = self.get(url, **headers).json()
            rows += body["value"]
            url = body.get("@odata.nextLink")
        return rows


def sign_in(lab: Lab, **changes: str) -> requests.Response:
    [tenant] = lab.state["graph"]["tenants"]
    form = {
        "client_id": tenant["client_id"], "client_secret": tenant["client_secret"],
        "grant_type": "client_credentials", "scope": f"{lab.state['graph']['graph']}/.default",
    }  # fmt: skip
    who = changes.pop("tenant", tenant["id"])
    return requests.post(f"{lab.state['graph']['login']}/{who}/oauth2/v2.0/token", data=form | changes, timeout=10)


@pytest.fixture
def graph(lab: Lab) -> Iterator[Client]:
    yield Client(lab.state["graph"]["graph"], sign_in(lab).json()["access_token"])
    lab.reset()


# --- token ------------------------------------------------------------------------------------------------------


def test_a_token(lab: Lab) -> None:
    answer = sign_in(lab)
    body = answer.json()
    assert (answer.status_code, body["token_type"], body["expires_in"]) == (200, "Bearer", 3599)
    assert "refresh_token" not in body
    assert sign_in(lab, tenant="contoso").status_code == 200


REFUSED: dict[str, tuple[dict[str, str], int, str, int]] = {
    "tenant": ({"tenant": "nobody"}, 400, "invalid_request", 90002),
    "application": ({"client_id": "x"}, 400, "unauthorized_client", 700016),
    "secret": ({"client_secret": "x"}, 401, "invalid_client", 7000215),
    "scope": ({"scope": "User.Read.All"}, 400, "invalid_scope", 1002012),
    "grant": ({"grant_type": "password"}, 400, "unsupported_grant_type", 70003),
}


@pytest.mark.parametrize("case", REFUSED.values(), ids=REFUSED.keys())
def test_no_token(lab: Lab, case: tuple[dict[str, str], int, str, int]) -> None:
    changes, status, error, number = case
    answer = sign_in(lab, **changes)
    body = answer.json()
    assert (answer.status_code, body["error"], body["error_codes"]) == (status, error, [number])
    assert body["error_description"].startswith(f"AADSTS{number}: ")
    assert {"timestamp", "trace_id", "correlation_id"} <= set(body)


def test_without_a_token(graph: Client) -> None:
    for token in ("", "wrong"):
        answer = Client(graph.root, token).get("/users")
        assert (answer.status_code, answer.json()["error"]["code"]) == (401, "InvalidAuthenticationToken")


# --- users, groups, licences ------------------------------------------------------------------------------------


def test_users_are_the_organisations_people(lab: Lab, graph: Client) -> None:
    select = "id,userPrincipalName,mail,proxyAddresses,onPremisesSamAccountName,onPremisesSecurityIdentifier"
    users = graph.every(f"/users?$select={select}&$top=50")
    known = {mailbox["upn"] for one in lab.organizations for mailbox in one.mailboxes()}
    assert {user["userPrincipalName"] for user in users} == known
    assert all(set(user) == set(select.split(",")) for user in users)
    assert all(user["proxyAddresses"][0] == f"SMTP:{user['mail']}" for user in users)


def test_users_without_select_have_eleven_properties(graph: Client) -> None:
    first = graph.get("/users?$top=1").json()["value"][0]
    assert len(first) == 11
    assert not any(name.startswith("onPremises") for name in first)
    assert set(graph.get(f"/users/{first['id']}").json()) == set(first)
    assert graph.get(f"/users/{first['userPrincipalName']}").json()["id"] == first["id"]


def test_filters_of_users(graph: Client) -> None:
    first = graph.get("/users?$top=1&$select=id,mail").json()["value"][0]
    found = graph.get(f"/users?$filter=mail eq '{first['mail']}'").json()["value"]
    assert [user["id"] for user in found] == [first["id"]]
    answer = graph.get("/users?$filter=startsWith(mail,'a') and x")
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "Request_UnsupportedQuery")


def test_licences_count_by_their_plans(graph: Client) -> None:
    found: dict[str, int] = {}
    for user in graph.every("/users?$select=id"):
        [licence] = graph.get(f"/users/{user['id']}/licenseDetails").json()["value"]
        plans = {plan["servicePlanName"]: plan["provisioningStatus"] for plan in licence["servicePlans"]}
        assert plans["INTUNE_O365"] == "PendingActivation"
        found[plans["INTUNE_A"]] = found.get(plans["INTUNE_A"], 0) + 1
    assert found["Success"] > found["Disabled"] > 0


def test_members_need_the_header_and_the_count(lab: Lab, graph: Client) -> None:
    groups = {group["displayName"]: group for group in graph.every("/groups")}
    assert set(groups) == {f"{one.name} mobile users" for one in lab.organizations}
    assert all(set(group) == {"id", "displayName"} for group in groups.values())
    path = f"/groups/{groups['SE mobile users']['id']}/transitiveMembers/microsoft.graph.user?$count=true"
    members = graph.every(path, ConsistencyLevel="eventual")
    assert {one["userPrincipalName"] for one in members} == {m["upn"] for m in lab.organization("SE").mailboxes()}
    for refused in (graph.get(path), graph.get(path.replace("?$count=true", ""), ConsistencyLevel="eventual")):
        assert (refused.status_code, refused.json()["error"]["code"]) == (400, "Request_UnsupportedQuery")


# --- managed devices --------------------------------------------------------------------------------------------


def test_managed_devices_are_some_of_the_phones(lab: Lab, graph: Client) -> None:
    rows = graph.every("/deviceManagement/managedDevices?$top=30")
    ids = {device["device_id"] for one in lab.organizations for device in one.devices()}
    activated = [row for row in rows if row["easActivated"]]
    assert {row["easDeviceId"] for row in activated} <= ids
    assert all(row["easDeviceId"] == "" for row in rows if not row["easActivated"])
    assert all(row["easActivationDateTime"] == "0001-01-01T00:00:00Z" for row in rows if not row["easActivated"])
    assert {row["complianceState"] for row in rows} >= {"compliant", "noncompliant"}
    overview = graph.get("/deviceManagement/managedDeviceOverview").json()
    assert overview["enrolledDeviceCount"] == len(rows)


def test_paging_by_the_whole_link(graph: Client) -> None:
    page = graph.get("/deviceManagement/managedDevices?$top=7&$select=id,easDeviceId").json()
    assert len(page["value"]) == 7
    assert page["@odata.count"] == len(graph.every("/deviceManagement/managedDevices"))
    link = page["@odata.nextLink"]
    assert link.startswith(f"{graph.root}/v1.0/deviceManagement/managedDevices?")
    assert "$skiptoken=" in link
    following = graph.get(link).json()["value"]
    assert set(following[0]) == {"id", "easDeviceId"}
    assert not {row["id"] for row in following} & {row["id"] for row in page["value"]}
    rows = graph.every("/deviceManagement/managedDevices?$top=7")
    assert len({row["id"] for row in rows}) == len(rows) == page["@odata.count"]


@pytest.mark.parametrize("query", ["$top=0", "$top=x", "$skiptoken=7"])
def test_paging_that_is_refused(graph: Client, query: str) -> None:
    assert graph.get(f"/deviceManagement/managedDevices?{query}").status_code == 400


def test_a_filter_is_ignored_in_silence(graph: Client) -> None:
    everything = len(graph.every("/deviceManagement/managedDevices"))
    assert len(graph.every("/deviceManagement/managedDevices?$filter=easDeviceId eq 'x'")) == everything


def test_of_two_ids_the_first_is_found(graph: Client) -> None:
    one, two = [row["azureADDeviceId"] for row in graph.every("/deviceManagement/managedDevices")][:2]
    text = f"azureADDeviceId eq '{one}' or azureADDeviceId eq '{two}'"
    assert [row["azureADDeviceId"] for row in graph.every(f"/deviceManagement/managedDevices?$filter={text}")] == [one]


def test_some_properties_are_null_in_lists(graph: Client) -> None:
    row = graph.get("/deviceManagement/managedDevices?$top=1").json()["value"][0]
    assert row["ethernetMacAddress"] is None
    assert graph.get(f"/deviceManagement/managedDevices/{row['id']}").json()["ethernetMacAddress"]
    chosen = graph.get("/deviceManagement/managedDevices?$top=1&$select=ethernetMacAddress").json()["value"][0]
    assert chosen["ethernetMacAddress"]


def test_a_device_changes(lab: Lab, graph: Client) -> None:
    row = graph.get("/deviceManagement/managedDevices?$top=1").json()["value"][0]
    lab.call("PATCH", f"graph/Contoso/devices/{row['id']}", {"complianceState": "conflict"})
    assert graph.get(f"/deviceManagement/managedDevices/{row['id']}").json()["complianceState"] == "conflict"
    lab.call("PATCH", f"graph/Contoso/devices/{row['id']}", {"complianceState": row["complianceState"]})


# --- errors -----------------------------------------------------------------------------------------------------


def test_throttling(lab: Lab, graph: Client) -> None:
    lab.call("POST", "graph/Contoso/throttle", {"count": 2})
    answers = [graph.get("/users?$top=1") for _ in range(3)]
    assert [answer.status_code for answer in answers] == [429, 429, 200]
    assert answers[0].headers["Retry-After"] == "2.128"
    assert answers[0].json()["error"]["code"] == "TooManyRequests"
    lab.call("POST", "graph/contoso/throttle", {"retry_after": "Wed, 21 Oct 2026 07:28:00 GMT"})
    assert graph.get("/users").headers["Retry-After"] == "Wed, 21 Oct 2026 07:28:00 GMT"


def test_intune_puts_json_into_its_message(graph: Client) -> None:
    answer = graph.get("/deviceManagement/managedDevices/nothing", **{"client-request-id": "mine"})
    error = answer.json()["error"]
    assert answer.status_code == 404
    assert "Operation ID" in json.loads(error["message"])["Message"]
    assert error["innerError"]["client-request-id"] == "mine"
    assert error["innerError"]["request-id"] == answer.headers["request-id"]


NOT_THERE = ("/users/nobody", "/users/nobody/licenseDetails", "/groups/none/transitiveMembers/microsoft.graph.user")


@pytest.mark.parametrize("path", NOT_THERE)
def test_what_is_not_there(graph: Client, path: str) -> None:
    answer = graph.get(path)
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "Request_ResourceNotFound")


def test_what_this_lab_does_not_have(graph: Client) -> None:
    assert graph.get("/me").status_code == 400
    assert graph.get(f"{graph.root}/users").status_code == 404
    headers = {"Authorization": f"Bearer {graph.token}"}
    assert requests.post(f"{graph.root}/v1.0/users", json={}, headers=headers, timeout=10).status_code == 405


@pytest.mark.parametrize(
    ("permission", "path"),
    [
        ("User.Read.All", "/users"),
        ("GroupMember.Read.All", "/groups"),
        ("DeviceManagementManagedDevices.Read.All", "/deviceManagement/managedDevices"),
    ],
)
def test_a_token_without_the_permission(lab: Lab, graph: Client, permission: str, path: str) -> None:
    kept = lab.call("PUT", "graph/Contoso/permissions", {"permissions": [permission]})["permissions"]
    assert kept == [permission]
    assert graph.get(path).status_code == 200
    lab.call("PUT", "graph/Contoso/permissions", {"permissions": []})
    answer = graph.get(path)
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "Forbidden")


def test_what_was_asked_is_remembered(lab: Lab, graph: Client) -> None:
    graph.get("/users?$top=1")
    assert lab.call("GET", "graph/log")["log"][-1] == "GET /v1.0/users"


def test_tenants_are_apart(fresh_lab: Callable[..., Lab]) -> None:
    lab = fresh_lab("name=A,tenant=TA,devices=20", "name=B,tenant=TB,devices=20")
    root = lab.state["graph"]["graph"]
    people: list[set[str]] = []
    for tenant in lab.state["graph"]["tenants"]:
        form = {name: tenant[name] for name in ("client_id", "client_secret")}
        form |= {"grant_type": "client_credentials", "scope": f"{root}/.default"}
        other = next(one for one in lab.state["graph"]["tenants"] if one is not tenant)
        assert requests.post(f"{root}/{other['id']}/oauth2/v2.0/token", data=form, timeout=10).status_code == 400
        token = requests.post(f"{root}/{tenant['id']}/oauth2/v2.0/token", data=form, timeout=10).json()["access_token"]
        people.append({user["mail"] for user in Client(root, token).every("/users")})
    one, two = (lab.organization(name) for name in ("A", "B"))
    assert people == [_addresses(one), _addresses(two)]


def _addresses(organization: Organization) -> set[str]:
    return {str(mailbox["smtp"]) for mailbox in organization.mailboxes()}

"""The Graph tenant: token, users, groups, licences, managed devices, with the traps of exchange.md section 7."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pytest
import requests
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from lab.control_graph import GraphControl
from lab.graph_faults import KINDS
from tests.labs import ROOT, ControlRefusal, Lab, Organization

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


def assertion(lab: Lab, *, alg: str = "PS256", **claims: Any) -> str:
    """A JWT by the application's certificate; claims= change it, key= is another key to sign with."""
    [tenant] = lab.state["graph"]["tenants"]
    pem = Path(tenant["certificate"]).read_bytes()
    key = cast(rsa.RSAPrivateKey, claims.pop("key", None) or serialization.load_pem_private_key(pem, None))
    thumbprint = claims.pop("thumbprint", x509.load_pem_x509_certificate(pem).fingerprint(hashes.SHA256()))
    now = int(time.time())
    whole = {
        "aud": f"{lab.state['graph']['login']}/{tenant['id']}/oauth2/v2.0/token", "iss": tenant["client_id"],
        "sub": tenant["client_id"], "jti": "1", "nbf": now, "exp": now + 300,
    }  # fmt: skip
    parts = [{"alg": alg, "typ": "JWT", "x5t#S256": _base64(thumbprint)}, whole | claims]
    signed = ".".join(_base64(json.dumps(part).encode()) for part in parts)
    pss = padding.PSS(padding.MGF1(hashes.SHA256()), padding.PSS.DIGEST_LENGTH)
    scheme = padding.PKCS1v15() if alg == "RS256" else pss
    return f"{signed}.{_base64(key.sign(signed.encode(), scheme, hashes.SHA256()))}"


def _base64(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()


JWT = {"client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer", "client_secret": ""}


@pytest.mark.parametrize("alg", ["PS256", "RS256"])
def test_a_token_by_certificate(lab: Lab, alg: str) -> None:
    answer = sign_in(lab, **JWT, client_assertion=assertion(lab, alg=alg))
    assert (answer.status_code, answer.json()["token_type"]) == (200, "Bearer")


ASSERTIONS: dict[str, tuple[dict[str, Any], int]] = {
    "for another place": ({"aud": "https://login.example/"}, 700023),
    "of another application": ({"iss": "x"}, 700021),
    "too old": ({"nbf": 0, "exp": 1}, 700024),
    "not yet": ({"nbf": 4_000_000_000, "exp": 4_000_000_300}, 700024),
    "another certificate": ({"thumbprint": b"x" * 32}, 700027),
    "another key": ({"key": rsa.generate_private_key(public_exponent=65537, key_size=2048)}, 700027),
    "another algorithm": ({"alg": "none"}, 700027),
}


@pytest.mark.parametrize("case", ASSERTIONS)
def test_an_assertion_that_is_refused(lab: Lab, case: str) -> None:
    changes, number = ASSERTIONS[case]
    answer = sign_in(lab, **JWT, client_assertion=assertion(lab, **changes))
    assert (answer.status_code, answer.json()["error_codes"]) == (401, [number])


@pytest.mark.parametrize("text", ["", "x", "a.b.c", "e30.e30.e30", "W10.W10.AA"])
def test_what_is_no_assertion(lab: Lab, text: str) -> None:
    assert sign_in(lab, **JWT, client_assertion=text).status_code == 401


def test_the_certificate_is_for_its_owner_alone_and_lasts(fresh_lab: Callable[..., Lab], tmp_path: Path) -> None:
    def certificate() -> bytes:
        lab = fresh_lab("name=A,devices=5", home=tmp_path / "lab")
        path = Path(lab.state["graph"]["tenants"][0]["certificate"])
        assert path.stat().st_mode & 0o777 == 0o600
        lab.stop()
        return path.read_bytes()

    assert certificate() == certificate()


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
    kinds = ("mobile users", "sales", "executives")
    assert set(groups) == {f"{one.name} {kind}" for one in lab.organizations for kind in kinds}
    assert all(set(group) == {"id", "displayName"} for group in groups.values())
    path = f"/groups/{groups['SE mobile users']['id']}/transitiveMembers/microsoft.graph.user?$count=true"
    members = graph.every(path, ConsistencyLevel="eventual")
    assert {one["userPrincipalName"] for one in members} == {m["upn"] for m in lab.organization("SE").mailboxes()}
    for refused in (graph.get(path), graph.get(path.replace("?$count=true", ""), ConsistencyLevel="eventual")):
        assert (refused.status_code, refused.json()["error"]["code"]) == (400, "Request_UnsupportedQuery")


def test_plans_and_licences_agree(graph: Client) -> None:
    for user in graph.every("/users?$select=id,assignedPlans&$top=20")[:20]:
        plans = {plan["servicePlanId"]: plan["capabilityStatus"] for plan in user["assignedPlans"]}
        [licence] = graph.get(f"/users/{user['id']}/licenseDetails").json()["value"]
        for plan in licence["servicePlans"]:
            is_off = plan["provisioningStatus"] == "Disabled"
            assert plans[plan["servicePlanId"]] == ("Deleted" if is_off else "Enabled")
    assert "assignedPlans" not in graph.get("/users?$top=1").json()["value"][0]


def test_groups_of_some(lab: Lab, graph: Client) -> None:
    people = {row["name"]: row["people"] for row in lab.call("GET", "graph/Contoso/groups")["groups"]}
    for one in lab.organizations:
        everybody = len(one.mailboxes())
        assert people[f"{one.name} mobile users"] == everybody
        assert people[f"{one.name} sales"] == -(-everybody // 3)
        assert 1 <= people[f"{one.name} executives"] <= 4
    [found] = graph.every("/groups?$filter=startsWith(displayName,'se SALES')")
    assert graph.get(f"/groups/{found['id']}").json() == {"id": found["id"], "displayName": "SE sales"}
    assert graph.get("/groups/none").status_code == 404


def test_a_group_within_a_group(lab: Lab, graph: Client) -> None:
    one, two = [row["id"] for row in lab.call("GET", "graph/Contoso/users", limit=2)["users"]]
    inner = lab.call("POST", "graph/Contoso/groups", {"name": "In", "members": [one]})["id"]
    outer = lab.call("POST", "graph/Contoso/groups", {"name": "Out", "members": [one, two], "groups": [inner]})
    assert (outer["members"], outer["groups"], outer["people"]) == (2, [inner], 2)
    changed = lab.call("PATCH", f"graph/Contoso/groups/{outer['id']}", {"remove": [one, two], "name": "Outer"})
    assert (changed["name"], changed["people"]) == ("Outer", 1)
    path = f"/groups/{outer['id']}/transitiveMembers/microsoft.graph.user?$count=true"
    assert [row["id"] for row in graph.every(path, ConsistencyLevel="eventual")] == [one]
    assert lab.call("PATCH", f"graph/Contoso/groups/{outer['id']}", {"unnest": [inner]})["people"] == 0
    for group in (inner, outer["id"]):
        lab.call("DELETE", f"graph/Contoso/groups/{group}")
    assert graph.get(path, ConsistencyLevel="eventual").status_code == 404


# --- delta --------------------------------------------------------------------------------------------------------


def delta(graph: Client, link: str) -> tuple[list[dict[str, Any]], str]:
    rows: list[dict[str, Any]] = []
    while True:
        body = graph.get(link).json()
        rows += body["value"]
        if "@odata.deltaLink" in body:
            assert "@odata.nextLink" not in body
            return rows, str(body["@odata.deltaLink"])
        link = body["@odata.nextLink"]


def test_delta_of_users(fresh_lab: Callable[..., Lab]) -> None:
    lab = fresh_lab("name=A,tenant=T,devices=300")
    graph = Client(lab.state["graph"]["graph"], sign_in(lab).json()["access_token"])
    people = {row["id"] for row in lab.call("GET", "graph/T/users")["users"]}
    assert len(people) > 200  # three pages or more
    rows, link = delta(graph, "/users/delta?$select=id,mail,jobTitle,assignedPlans")
    assert {row["id"] for row in rows} == people
    assert all("jobTitle" not in row for row in rows)  # never set
    assert delta(graph, link)[0] == []
    one, two, *_ = sorted(people)
    lab.call("PATCH", f"graph/T/users/{one}", {"mail": "new@a.lab", "licensed": False})
    lab.call("DELETE", f"graph/T/users/{two}")
    rows, newer = delta(graph, link)
    told = {row["id"]: row for row in rows}
    assert told.keys() == {one, two}
    assert told[one]["mail"] == "new@a.lab"
    assert told[two]["@removed"] == {"reason": "changed"}
    assert {row["id"] for row in delta(graph, link)[0]} == {one, two}  # a link can be used again
    lab.call("POST", "graph/T/delta/expire", {})
    for old in (link, newer, "/users/delta?$deltatoken=x"):
        answer = graph.get(old)
        assert (answer.status_code, answer.json()["error"]["code"]) == (410, "syncStateNotFound")
    assert graph.get("/users/delta?$top=5").status_code == 400


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


def test_a_phone_is_enrolled_and_un_enrolled(lab: Lab, graph: Client) -> None:
    user = lab.call("GET", "graph/Contoso/users", limit=1)["users"][0]
    body = {"user": user["mail"].upper(), "eas_device_id": "SEC1", "complianceState": "noncompliant"}
    row = lab.call("POST", "graph/Contoso/devices", body)
    assert (row["userId"], row["easDeviceId"], row["complianceState"]) == (user["id"], "SEC1", "noncompliant")
    assert graph.get(f"/deviceManagement/managedDevices/{row['id']}").json() == row
    of_user = graph.every(f"/users/{user['id']}/managedDevices")
    assert row["id"] in {one["id"] for one in of_user}
    assert len(of_user) == lab.call("GET", "graph/Contoso/devices", user=user["id"])["count"]
    lab.call("DELETE", f"graph/Contoso/devices/{row['id']}")
    assert graph.get(f"/deviceManagement/managedDevices/{row['id']}").status_code == 404


# --- control ------------------------------------------------------------------------------------------------------

REFUSALS: dict[str, tuple[str, str, Any, int, str]] = {
    "a fault": ("POST", "faults", {"kind": "quake"}, 400, "unknown fault kind 'quake'"),
    "a field of a fault": ("POST", "faults", {"kind": "drop", "server": "x"}, 400, "unknown field server"),
    "a person": ("PATCH", "users/nobody", {}, 404, "no user nobody"),
    "a property": ("PATCH", "devices/{device}", {"colour": 1}, 400, "no property colour"),
    "an id": ("PATCH", "devices/{device}", {"id": "x"}, 400, "no property id"),
    "whose phone": ("POST", "devices", {"eas_device_id": "x"}, 404, "no user"),
    "a group": ("PATCH", "groups/x", {}, 404, "no group x"),
    "a field of a group": ("PATCH", "groups/{group}", {"members": []}, 400, "use name, add, remove, nest, unnest"),
    "a member": ("POST", "groups", {"members": ["nobody"]}, 404, "no user nobody"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_control_refuses(lab: Lab, case: str) -> None:
    method, path, body, status, text = REFUSALS[case]
    device = lab.call("GET", "graph/Contoso/devices", limit=1)["devices"][0]["id"]
    group = lab.call("GET", "graph/Contoso/groups", limit=1)["groups"][0]["id"]
    with pytest.raises(ControlRefusal, match=text) as caught:
        lab.call(method, f"graph/Contoso/{path.format(device=device, group=group)}", body)
    assert caught.value.status == status


def test_faults_are_set_used_up_and_lifted(lab: Lab, graph: Client) -> None:
    lab.call("POST", "graph/Contoso/faults", {"kind": "status", "value": "503", "path": "managedDevices", "times": 1})
    assert graph.get("/users?$top=1").status_code == 200
    path = "/deviceManagement/managedDevices?$top=1"
    assert [graph.get(path).status_code for _ in range(2)] == [503, 200]
    fault = lab.call("POST", "graph/Contoso/faults", {"kind": "drop"})
    with pytest.raises(requests.ConnectionError):
        graph.get(path)
    lab.call("DELETE", f"graph/Contoso/faults/{fault['id']}")
    assert graph.get(path).status_code == 200
    lab.call("POST", "graph/Contoso/faults", {"kind": "cut"})
    with pytest.raises((requests.ConnectionError, requests.exceptions.ChunkedEncodingError, ValueError)):
        graph.get(path).json()
    lab.reset()
    assert lab.call("GET", "graph/Contoso/faults")["faults"] == []
    assert graph.get(path).status_code == 200


def test_tokens_end_on_demand(lab: Lab, graph: Client) -> None:
    assert lab.call("POST", "graph/Contoso/tokens/expire", {})["count"] >= 1
    assert graph.get("/users").status_code == 401


def test_the_tenant_at_a_glance(lab: Lab) -> None:
    row = lab.call("GET", "graph/contoso")
    assert (row["name"], row["groups"]) == ("Contoso", 3 * len(lab.organizations))
    assert row["devices"] == lab.call("GET", "graph/Contoso/devices")["count"] > 0


TEXT = (ROOT / "docs" / "lab.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_every_fault_is_described(kind: str) -> None:
    assert f"| `{kind}` |" in TEXT.partition("## Graph\n")[2]


def test_every_route_is_described() -> None:
    for method, pattern, _ in GraphControl(cast(Any, None)).routes():
        path = pattern.replace("(?:/([^/]+))?", "").replace("/([^/]+)", "/TENANT", 1).replace("/([^/]+)", "/ID")
        assert f"`{method} {path}" in TEXT, (method, path)


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

"""The control interface: what it tells, what it changes, and how it refuses."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any

import pytest

from tests.labs import ControlRefusal, Lab


def test_the_address_is_a_secret(lab: Lab) -> None:
    address = str(lab.state["control"])
    host = "/".join(address.split("/")[:3])
    token = address.rstrip("/").rsplit("/", 1)[1]
    assert len(token) >= 20
    for url in (f"{host}/", f"{host}/faults", f"{host}/x{token[1:]}/faults", f"{host}/{token}x/faults"):
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(url, timeout=5)  # noqa: S310
        assert caught.value.code == 404
        assert json.load(caught.value) == {"error": "not found", "remedy": "take the address from lab.json"}


def test_it_tells_what_lab_json_tells_and_what_servers_have_done(lab: Lab) -> None:
    state = lab.call("GET", "")
    assert {key: state[key] for key in lab.state if key != "organizations"} == {
        key: lab.state[key] for key in lab.state if key != "organizations"
    }
    known = {server.fqdn for organization in lab.organizations for server in organization.servers}
    assert set(state["servers"]) == known
    assert {"requests", "open_shells", "objects", "bytes_out"} <= set(state["servers"]["ex01.ese.lab"])


REFUSALS: dict[str, tuple[str, str, Any, int, str]] = {
    "a path that is not there": ("GET", "nothing", None, 404, "no such thing: nothing"),
    "a method that is not there": ("POST", "limits", {}, 405, "POST is not possible here"),
    "an organisation that is not there": ("GET", "organizations/Nowhere", None, 404, "there are: 2010, 2013"),
    "a kind of fault": ("POST", "faults", {"kind": "earthquake"}, 400, "unknown fault kind 'earthquake'"),
    "a field of a fault": ("POST", "faults", {"kind": "drop", "sever": "x"}, 400, "unknown field sever"),
    "a server": ("POST", "faults", {"kind": "drop", "server": "ex99.x"}, 404, "no server ex99.x"),
    "a number": ("POST", "faults", {"kind": "drop", "times": "often"}, 400, "often"),
    "a limit": ("PATCH", "limits", {"shells": 1}, 400, "known: shells_per_user"),
    "a body": ("PATCH", "limits", [1], 400, "must be a JSON object"),
    "a mailbox": ("POST", "organizations/SE/devices", {"mailbox": "nobody"}, 404, "no mailbox nobody"),
    "a device": ("PATCH", "organizations/SE/devices/x", {"state": "Blocked"}, 404, "no device x"),
    "a time": ("POST", "organizations/SE/devices", {"first_sync": "yesterday"}, 400, "no time: 'yesterday'"),
    "a rule's level": (
        "PUT", "organizations/SE/rules", {"rules": [{"query": "x", "characteristic": "DeviceType", "level": "No"}]},
        400, "use Allow, Block"),
    "a policy": ("PATCH", "organizations/SE/mailboxes/notify", {"policy": "Strict"}, 400, "use Default"),
    "a state": ("POST", "organizations/SE/devices", {"state": "Lost"}, 400, "use Unknown, Allowed"),
    "a setting": ("PATCH", "organizations/SE", {"colour": 1}, 400, "no setting colour"),
    "a level": ("PATCH", "organizations/SE", {"default_access_level": "Deny"}, 400, "use Allow, Block"),
    "a phone's server": (
        "POST", "organizations/SE/phone", {"mailbox": "notify", "server": "x"}, 404, "there are: ex01.ese.lab"),
    "an organisation twice": ("POST", "organizations", {"name": "SE"}, 400, "is there already"),
    "a version": ("POST", "organizations", {"name": "New", "version": "2007"}, 400, "is none of 2010"),
    "a field of an organisation": ("POST", "organizations", {"name": "New", "size": 3}, 400, "size: no such field"),
    "a tenant": ("POST", "graph/Nowhere/throttle", {}, 404, "there are: Contoso"),
    "a managed device": ("PATCH", "graph/Contoso/devices/x", {}, 404, "take an id from Graph"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSALS.values(), ids=REFUSALS.keys())
def test_refusals_say_what_would_be_right(lab: Lab, case: tuple[str, str, Any, int, str]) -> None:
    method, path, body, status, words = case
    with pytest.raises(ControlRefusal) as caught:
        lab.call(method, path, body)
    assert caught.value.status == status
    told = json.loads(str(caught.value).partition(": ")[2])
    assert set(told) == {"error", "remedy"}
    assert words in told["error"] + told["remedy"]


def test_a_body_that_is_no_json(lab: Lab) -> None:
    request = urllib.request.Request(f"{lab.state['control']}faults", b"{", method="POST")  # noqa: S310
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(request, timeout=5)  # noqa: S310
    assert "not JSON" in json.load(caught.value)["error"]


def test_faults_are_set_listed_and_lifted(lab: Lab) -> None:
    first = lab.fault_add("slow_command", cmdlet="Get-Nothing", value=0.1, times=3)
    lab.fault_add("slow_object", server="EX01.E2013.LAB", cmdlet="Get-Nothing")
    told = lab.call("GET", "faults")
    assert [(fault["kind"], fault["value"], fault["times"], fault["used"]) for fault in told["faults"]] == [
        ("slow_command", "0.1", 3, 0), ("slow_object", "", 0, 0),
    ]  # fmt: skip
    assert len(told["kinds"]) >= 20
    lab.faults_clear(first)
    assert [fault["kind"] for fault in lab.call("GET", "faults")["faults"]] == ["slow_object"]
    lab.reset()
    assert lab.call("GET", "faults")["faults"] == []


def test_limits(lab: Lab) -> None:
    usual = lab.limits()
    assert usual == {"shells_per_user": 18, "commands_per_shell": 1000, "idle_timeout": 900.0, "envelope": 512_000}
    assert lab.limits(shells_per_user=2, idle_timeout=5)["shells_per_user"] == 2
    with pytest.raises(ControlRefusal):
        lab.limits(shells_per_user=3, nothing=1)
    assert lab.limits()["shells_per_user"] == 2
    lab.reset()
    assert lab.limits() == usual


def test_devices_come_change_and_go(lab: Lab) -> None:
    organization = lab.organization("2013")
    before = len(organization.devices())
    mailbox = organization.mailboxes(limit=1)[0]
    added = organization.device_add(
        mailbox=mailbox["upn"], device_id="NEW1", friendly_name="手機📱", state="Quarantined"
    )
    assert (added["mailbox"], added["device_id"], added["state"]) == (mailbox["sam"], "NEW1", "Quarantined")
    changed = organization.device_change(added["guid"], state="Blocked", reason="DeviceRule", rule="R", os="iOS 99")
    assert (changed["state"], changed["reason"], changed["rule"], changed["os"]) == (
        "Blocked", "DeviceRule", "R", "iOS 99",
    )  # fmt: skip
    assert changed["friendly_name"] == "手機📱"
    more = organization.devices_add(3)
    assert len({row["guid"] for row in more}) == 3
    assert len(organization.devices()) == before + 4
    assert [row["guid"] for row in organization.devices(offset=before, limit=1)] == [added["guid"]]
    for row in (added, *more):
        organization.devices_remove(guid=row["guid"])
    assert len(organization.devices()) == before
    systems = {row["guid"]: row["os"] for row in organization.devices()}
    assert organization.devices_mutate(5) == 5
    assert sum(systems[row["guid"]] != row["os"] for row in organization.devices()) == 5


def test_mailboxes_change_without_a_cmdlet(lab: Lab) -> None:
    organization = lab.organization("2010")
    organization.log_clear()
    mailbox = organization.mailboxes()[2]
    changed = organization.mailbox_change(mailbox["dn"] if "dn" in mailbox else mailbox["smtp"], blocked=["X"])
    assert changed["blocked"] == ["X"]
    assert organization.mailbox_change(mailbox["upn"], blocked=[], active_sync_enabled=False)["blocked"] == []
    assert organization.mailbox_change(mailbox["upn"], active_sync_enabled=True)["active_sync_enabled"] is True
    assert organization.log() == []


def test_settings_change_without_a_cmdlet(lab: Lab) -> None:
    organization = lab.organization("2010")
    assert organization.settings(default_access_level="Quarantine")["default_access_level"] == "Quarantine"
    assert organization.settings(default_access_level="Allow", user_mail_insert="x")["user_mail_insert"] == "x"
    organization.settings(user_mail_insert="")


def test_names_of_any_characters_reach_their_thing(fresh_lab: Any) -> None:
    lab = fresh_lab("name=Zoë & Söhne/Ltd,domain=zoe.lab,devices=3")
    organization = lab.organization("Zoë & Söhne/Ltd")
    assert len(organization.devices()) == 3
    canonical = f"zoe.lab/Users/{organization.mailboxes()[0]['display_name']}"
    assert organization.messages(canonical) == []


def test_rules_policies_and_times(fresh_lab: Callable[..., Lab]) -> None:
    organization = fresh_lab("name=One,version=2019,devices=3").organization("One")
    organization.rules_set(("Pixel 8", "DeviceModel", "Block"), ("iPad", "DeviceType", "Allow"))
    assert [(rule["name"], rule["level"]) for rule in organization.rules()] == [
        ("Pixel 8 (DeviceModel)", "Block"),
        ("iPad (DeviceType)", "Allow"),
    ]
    organization.rules_set()
    assert organization.rules() == []
    (default,) = organization.policies()
    assert (default["name"], default["is_default"], default["mailboxes"]) == ("Default", True, 0)
    sam = organization.mailboxes()[0]["sam"]
    assert organization.mailbox_change(sam, policy="Default")["policy"] == "Default"
    assert organization.policies()[0]["mailboxes"] == 1
    assert organization.mailbox_change(sam, policy=None)["policy"] is None
    assert organization.mailbox(sam)["sam"] == sam
    added = organization.device_add(mailbox=sam, first_sync="2026-01-02T03:04:05Z", last_success="2026-02-03")
    assert (added["first_sync"], added["last_success"]) == ("2026-01-02T03:04:05+00:00", "2026-02-03T00:00:00+00:00")
    changed = organization.device_change(added["guid"], last_success="2026-03-04T00:00:00+01:00")
    assert changed["last_success"] == "2026-03-04T00:00:00+01:00"
    assert changed["wipe"]["requested"] is False

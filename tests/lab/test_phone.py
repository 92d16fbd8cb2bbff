"""Phones: what they get over HTTP, and what is left of it in Exchange. (The order of rules is in test_access.py.)"""

from __future__ import annotations

import http.client
import re
import ssl
import subprocess
import sys
import urllib.parse
from base64 import b64encode
from collections.abc import Iterator
from typing import Any

import pytest

from tests.lab.remote import ask
from tests.labs import ROOT, Lab, Organization

pytestmark = pytest.mark.wire


@pytest.fixture
def organization(lab: Lab) -> Iterator[Organization]:
    """One whose settings are put back."""
    one = lab.organization("SE")
    yield one
    one.settings(default_access_level="Allow", user_mail_insert="", admin_mail_recipients=[])


@pytest.fixture
def person(organization: Organization) -> dict[str, Any]:
    """Somebody without personal entries and mail."""
    return next(m for m in organization.mailboxes() if not m["allowed"] + m["blocked"] and m["sam"] != "notify")


def request(
    organization: Organization, user: str, password: str, *, method: str = "POST", tls: bool = True, **query: Any
) -> tuple[int, dict[str, str]]:
    """One raw request: status and headers."""
    server = organization.servers[0]
    context = ssl.create_default_context(cafile=organization.lab.ca)
    connection: http.client.HTTPConnection = http.client.HTTPConnection("127.0.0.1", server.http_port, timeout=10)
    if tls:
        connection = http.client.HTTPSConnection("127.0.0.1", server.https_port, timeout=10, context=context)
    headers = {"Authorization": f"Basic {b64encode(f'{user}:{password}'.encode()).decode()}"} if user else {}
    connection.request(method, f"/microsoft-server-activesync?{urllib.parse.urlencode(query)}", headers=headers)
    answer = connection.getresponse()
    answer.read()
    connection.close()
    return answer.status, dict(answer.headers.items())


def test_allowed(organization: Organization, person: dict[str, Any]) -> None:
    organization.lab.reset()
    answer = organization.phone(person["upn"], "PHONE1", name="Zoë’s 手機 📱", os="iOS 18", model="iPhone17C1")
    assert (answer["status"], answer["eas_status"], answer["state"], answer["reason"]) == (
        200,
        "1",
        "Allowed",
        "Global",
    )
    [row] = [one for one in organization.devices() if one["device_id"] == "PHONE1"]
    assert (row["mailbox"], row["state"], row["friendly_name"], row["os"], row["model"]) == (
        person["sam"], "Allowed", "Zoë’s 手機 📱", "iOS 18", "iPhone17C1",
    )  # fmt: skip
    assert not organization.log()[-1:] or organization.log()[-1]["cmdlet"] != "phone"


def test_blocked(organization: Organization, person: dict[str, Any]) -> None:
    organization.mailbox_change(person["upn"], blocked=["phone2"])
    answer = organization.phone(person["upn"], "PHONE2")
    assert (answer["status"], answer["eas_status"], answer["state"], answer["reason"]) == (
        403, "129", "Blocked", "Individual",
    )  # fmt: skip
    assert answer["mail"] == []
    organization.mailbox_change(person["upn"], blocked=[])
    # The directory still says so, until the phone comes again.
    stored = next(one for one in organization.devices() if one["device_id"] == "PHONE2")
    assert stored["state"] == "Blocked"
    assert organization.phone(person["upn"], "PHONE2")["state"] == "Allowed"


def test_quarantine_and_release(organization: Organization, person: dict[str, Any]) -> None:
    organization.settings(default_access_level="Quarantine", user_mail_insert="Enrol first.")
    answer = organization.phone(person["upn"], "PHONE3")
    assert (answer["status"], answer["eas_status"], answer["state"]) == (200, "1", "Quarantined")
    # One message, and it is the explanation.
    assert len(answer["mail"]) == 1
    assert "temporarily blocked" in answer["mail"][0]
    notice = organization.messages(person["upn"])[-1]
    assert "Enrol first." in notice["body"]
    assert notice["about"] == "PHONE3"
    organization.mailbox_change(person["upn"], allowed=["PHONE3"])
    answer = organization.phone(person["upn"], "PHONE3")
    assert (answer["state"], answer["reason"]) == ("Allowed", "Individual")
    assert len(answer["mail"]) == len(organization.messages(person["upn"]))
    organization.mailbox_change(person["upn"], allowed=[])


def test_activesync_off(organization: Organization, person: dict[str, Any]) -> None:
    organization.mailbox_change(person["upn"], active_sync_enabled=False)
    answer = organization.phone(person["upn"], "PHONE4")
    assert (answer["status"], answer["eas_status"]) == (403, "126")
    assert not any(one["device_id"] == "PHONE4" for one in organization.devices())
    organization.mailbox_change(person["upn"], active_sync_enabled=True)


def test_a_phone_that_takes_no_policy(organization: Organization, person: dict[str, Any]) -> None:
    answer = organization.phone(person["upn"], "PHONE5", is_provisioned=False)
    assert (answer["status"], answer["eas_status"], answer["state"], answer["reason"]) == (
        403, "139", "Blocked", "Policy",
    )  # fmt: skip


def test_discovery(organization: Organization, person: dict[str, Any]) -> None:
    assert organization.phone(person["upn"], "PHONE6", model="", os="")["state"] == "DeviceDiscovery"
    assert organization.phone(person["upn"], "PHONE6")["state"] == "Allowed"


def test_any_server_answers_and_a_fault_hits_one(organization: Organization, person: dict[str, Any]) -> None:
    with organization.lab.fault("status", server=organization.servers[0].fqdn, value=503):
        assert organization.phone(person["upn"], "PHONE7")["status"] == 503
        assert organization.phone(person["upn"], "PHONE7", server=organization.servers[1].fqdn)["status"] == 200


@pytest.mark.parametrize("version", ["2010", "2016"])
def test_options_tell_the_versions_protocols(lab: Lab, version: str) -> None:
    one = lab.organization(version)
    user, password = one.mailboxes()[0]["upn"], str(lab.state["mailbox_password"])
    status, headers = request(one, user, password, method="OPTIONS")
    protocols = headers["MS-ASProtocolVersions"].split(",")
    assert (status, protocols[-1]) == (200, {"2010": "14.1", "2016": "16.1"}[version])
    assert headers["MS-Server-ActiveSync"] == {"2010": "14.3", "2016": "15.1"}[version]


def test_sign_in(organization: Organization, person: dict[str, Any]) -> None:
    password = str(organization.lab.state["mailbox_password"])
    wanted: dict[str, Any] = {"DeviceId": "PHONE8", "DeviceType": "iPhone", "Cmd": "Sync"}
    for user, secret in (("", ""), (person["upn"], "wrong"), ("nobody", password)):
        status, headers = request(organization, user, secret, **wanted)
        assert status == 401
        assert headers["WWW-Authenticate"].startswith("Basic")
    account = organization.account()
    assert request(organization, account.user, account.password, **wanted)[0] == 401
    assert request(organization, person["sam"], password, tls=False, **wanted)[0] == 200


def test_what_a_request_lacks(organization: Organization, person: dict[str, Any]) -> None:
    password = str(organization.lab.state["mailbox_password"])
    for given, status in (("DeviceType", "108"), ("DeviceId", "109")):
        query: dict[str, Any] = {given: "x"}
        assert request(organization, person["upn"], password, **query)[1]["X-Lab-EAS-Status"] == status
    assert request(organization, person["upn"], password, method="GET")[0] == 405


def test_wipe(lab: Lab, organization: Organization, person: dict[str, Any]) -> None:
    """From the order to the acknowledgement, and what old protocols get instead of a status."""
    organization.phone(person["upn"], "PHONE9")
    guid = next(one["guid"] for one in organization.devices() if one["device_id"] == "PHONE9")
    before = len(organization.messages("notify"))
    ask(organization, "Clear-MobileDevice", Identity=guid, Confirm=False,
        NotificationEmailAddresses=[f"notify@{organization.domain}"])  # fmt: skip
    states = []
    for _ in range(3):
        answer = organization.phone(person["upn"], "PHONE9")
        assert (answer["status"], answer["eas_status"]) == (200, "140")
        row = ask(organization, "Get-MobileDeviceStatistics", Identity=guid).output[0].adapted_properties
        states.append((row["Status"], row["DeviceWipeSentTime"] is not None, row["DeviceWipeAckTime"] is not None))
    assert states == [("DeviceWipePending", True, False)] + [("DeviceWipeSucceeded", True, True)] * 2
    assert organization.phone(person["upn"], "PHONE9", protocol_version="12.1")["status"] == 449
    assert organization.messages(person["upn"])[-1]["subject"] == "Remote Device Wipe Confirmation"
    assert len(organization.messages("notify")) == before + 1
    # The order stays attached until the partnership goes.
    organization.devices_remove(guid=guid)
    assert organization.phone(person["upn"], "PHONE9")["eas_status"] == "1"


def test_the_program(organization: Organization, person: dict[str, Any]) -> None:
    server = organization.servers[0]
    done = subprocess.run(
        [sys.executable, "-m", "lab.phone", f"https://127.0.0.1:{server.https_port}", person["upn"],
         str(organization.lab.state["mailbox_password"]), "PHONE10", "--ca", organization.lab.ca],
        cwd=ROOT, capture_output=True, text=True, timeout=30, check=True,
    )  # fmt: skip
    assert re.match(r"HTTP 200, status 1: Allowed \(Global\)\n", done.stdout)

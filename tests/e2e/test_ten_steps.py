"""The ten steps from a phone's first try to its mail, and back: browser, phone and wire, on the whole product.

An unknown phone of a targeted person tries; it is not managed; it is kept in quarantine and its person is told how to
enrol; the person enrols by the link in the mail; the record is matched and its compliance stored; its id is registered;
the policy is satisfied; a cmdlet allows; the phone reads mail. Then it is un-enrolled, and kept out again.
"""

from __future__ import annotations

import json
import re
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.e2e.conftest import press
from tests.test_runner import free_port, read_until, stopped, up

pytestmark = [pytest.mark.slow, pytest.mark.wire, pytest.mark.timeout(300)]

DEVICE = "androidc1020304050"
_open = urllib.request.build_opener(urllib.request.ProxyHandler({})).open


@dataclass(frozen=True)
class World:
    """A product that runs, and the lab in front of it."""

    address: str
    password: str
    lab: dict[str, Any]

    def control(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.lab['control']}{path}", data, method=method)  # noqa: S310 - lab.json's
        with _open(request, timeout=60) as answer:
            found: dict[str, Any] = json.load(answer)
            return found

    def phone(self, person: str) -> tuple[int, str]:
        """One request of the phone: what it gets, and what Exchange decided."""
        told = {"device_type": "Android", "model": "Pixel 8", "os": "Android 15", "user_agent": "Android-Mail/2026"}
        answer = self.control(
            "POST", "organizations/Contoso/phone", {"mailbox": person, "device_id": DEVICE, "name": "Pixel", **told}
        )
        return int(answer["status"]), str(answer["state"])

    def entries(self, person: str) -> list[dict[str, Any]]:
        """Set-CASMailbox as it came over the wire, about this phone."""
        log = self.control("GET", "organizations/Contoso/log")["log"]
        return [row for row in log if row["cmdlet"] == "Set-CASMailbox" and DEVICE in json.dumps(row["parameters"])]

    def mail(self, person: str) -> list[dict[str, Any]]:
        """About this phone, and ours: Exchange's own notice has no link."""
        rows = self.control("GET", f"organizations/Contoso/mailboxes/{person}/messages")["messages"]
        return [row for row in rows if "/enroll/" in row["body"] and DEVICE in row["body"]]

    def somebody(self) -> dict[str, Any]:
        """A licensed person without any record, now in the included group and not in the excluded one."""
        groups = {row["name"]: row["id"] for row in self.control("GET", "graph/Contoso/groups")["groups"]}
        users: list[dict[str, Any]] = self.control("GET", "graph/Contoso/users?limit=1000")["users"]
        for user in users:
            is_licensed = user["assignedPlans"][0]["capabilityStatus"] == "Enabled"
            records = self.control("GET", f"graph/Contoso/devices?user={urllib.parse.quote(user['id'])}")
            if is_licensed and user["mail"].endswith("@contoso.lab") and not records["devices"]:
                self.control("PATCH", f"graph/Contoso/groups/{groups['Contoso sales']}", {"add": [user["id"]]})
                self.control("PATCH", f"graph/Contoso/groups/{groups['Contoso executives']}", {"remove": [user["id"]]})
                return user
        raise AssertionError("nobody in the lab fits")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    home = tmp_path_factory.mktemp("ten-steps")
    with stopped(up(home, free_port())) as process:
        said = "\n".join(read_until(process, "Stop       Ctrl-C"))
        address, password = re.search(r"Address\s+(\S+)", said), re.search(r"password\s+(\S+)", said)
        assert address
        assert password
        yield World(address[1], password[1], json.loads((home / "lab.json").read_text(encoding="utf-8")))


def until(true: Callable[[], bool], what: str, seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, f"waited {seconds} s for {what}"
        time.sleep(0.3)


def sign_in(page: Page, world: World) -> None:
    page.goto(world.address)
    page.get_by_label("Username").fill("admin")
    page.get_by_label("Password").fill(world.password)
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Home")


def connector(page: Page, world: World) -> None:
    page.goto(f"{world.address}/connectors/")
    page.get_by_role("link", name="Contoso", exact=True).click()


def quick_sync(page: Page, world: World) -> None:
    connector(page, world)
    press(page, "Quick sync")
    expect(page.get_by_text(re.compile("Quick sync: Successful, [0-9]+ devices? read"))).to_be_visible(timeout=60_000)


def quarantine_by_default(page: Page, world: World) -> None:
    """An administrator looks first who would lose mail by it, and approves: they are more than the limit."""
    connector(page, world)
    # The first full sync has ended, so it is known who would lose mail.
    expect(page.get_by_role("cell").get_by_text("Successful").first).to_be_visible(timeout=60_000)
    page.get_by_role("link", name="Advanced Exchange ActiveSync access settings").click()
    page.get_by_role("radio", name="Quarantine", exact=True).check()
    page.get_by_role("button", name="Review and save").click()
    page.get_by_role("button", name="Keep them and count again").click()
    page.get_by_label("Why").fill("Unknown phones wait until they are enrolled.")
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.get_by_text("of Contoso was saved.")).to_be_visible()
    until(lambda: approval(page, world, "Set-ActiveSyncOrganizationSettings"), "the run to ask for approval")
    assert world.control("GET", "organizations/Contoso")["settings"]["default_access_level"] == "Allow"
    page.get_by_role("button", name=re.compile("Approve all")).click()
    path = "organizations/Contoso"
    until(
        lambda: world.control("GET", path)["settings"]["default_access_level"] == "Quarantine",
        "the default level in Exchange",
    )


def approval(page: Page, world: World, held: str) -> bool:
    """Whether what waits holds this cmdlet; its page is left open."""
    page.goto(f"{world.address}/approvals/")
    page.get_by_role("link", name=re.compile("Contoso")).first.click()
    return page.get_by_text(held).count() > 0


def enrol(mail: dict[str, Any], person: str) -> None:
    """What the person does: opens the link of the mail, and says who they are and which phone."""
    link = re.search(r'href="(http[^"]+/enroll/[^"]+)"', mail["body"])
    assert link, mail["body"]
    with _open(link[1], timeout=10) as answer:
        assert answer.status == 200
    form = urllib.parse.urlencode({"user": person, "device": DEVICE}).encode()
    with _open(link[1], form, timeout=10) as answer:
        assert "enrolled and compliant" in answer.read().decode()


def test_from_the_first_try_to_mail_and_back(browser: Browser, world: World) -> None:
    page = browser.new_context(viewport={"width": 1440, "height": 900}, locale="en-US").new_page()
    sign_in(page, world)
    quarantine_by_default(page, world)
    user = world.somebody()
    address, person = user["mail"], user["onPremisesSamAccountName"]

    # 1, 2, 3: an unknown phone tries; it is not managed; it gets nothing of the mailbox.
    assert world.phone(person) == (200, "Quarantined")
    quick_sync(page, world)
    # 4: its person is told how to enrol, in the mailbox that other clients still read.
    until(lambda: len(world.mail(person)) == 1, "the mail")
    page.goto(f"{world.address}/devices/?q={DEVICE}")
    page.get_by_role("row").filter(has_text=DEVICE).get_by_role("link").first.click()
    expect(page.get_by_text("Not enrolled").first).to_be_visible()
    assert world.entries(person) == []

    # 5: the person enrols. 6, 7, 8: the record arrives, is matched, and satisfies the policy. 9: a cmdlet allows.
    enrol(world.mail(person)[0], address)
    quick_sync(page, world)
    until(lambda: len(world.entries(person)) == 1, "the cmdlet")
    assert world.entries(person)[0]["parameters"]["ActiveSyncAllowedDeviceIDs"]["Add"] == [DEVICE]
    # 10: the phone reads mail.
    assert world.phone(person) == (200, "Allowed")
    quick_sync(page, world)
    assert len(world.entries(person)) == 1
    page.goto(f"{world.address}/devices/?q={DEVICE}")
    page.get_by_role("row").filter(has_text=DEVICE).get_by_role("link").first.click()
    expect(page.get_by_text("Enrolled and compliant").first).to_be_visible()

    # And back: the record is gone, which one listing does not prove and a look at the record itself does.
    rows = world.control("GET", f"graph/Contoso/devices?user={urllib.parse.quote(user['id'])}")["devices"]
    world.control("DELETE", f"graph/Contoso/devices/{rows[0]['id']}")
    quick_sync(page, world)
    until(lambda: len(world.entries(person)) == 2, "the entry to be withdrawn")
    assert world.entries(person)[1]["parameters"]["ActiveSyncAllowedDeviceIDs"]["Remove"] == [DEVICE]
    assert world.phone(person) == (200, "Quarantined")
    page.context.close()

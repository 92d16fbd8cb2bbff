"""What a newcomer does: start everything, sign in with the password shown, look at the organisations, press Full sync.

The whole product runs as `make run` starts it: its own processes, database, broker and worker, and the lab. The count
that the page shows is compared with what a plain pypsrp client is told by the same Exchange.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect
from pypsrp.powershell import PowerShell, RunspacePool
from pypsrp.wsman import WSMan

from tests.e2e.conftest import press
from tests.test_runner import free_port, read_until, stopped, up

pytestmark = [pytest.mark.slow, pytest.mark.wire, pytest.mark.timeout(240)]


@dataclass(frozen=True)
class Running:
    address: str
    password: str
    lab: dict[str, Any]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    home = tmp_path_factory.mktemp("newcomer")
    with stopped(up(home, free_port())) as process:
        said = "\n".join(read_until(process, "Stop       Ctrl-C"))
        address = re.search(r"Address\s+(\S+)", said)
        password = re.search(r"password\s+(\S+)", said)
        assert address
        assert password
        yield Running(address[1], password[1], json.loads((home / "lab.json").read_text(encoding="utf-8")))


def count_in_exchange(running: Running, name: str) -> int:
    """What Get-MobileDevice says to a client with none of our code in between."""
    organization = next(o for o in running.lab["organizations"] if o["name"] == name)
    server = organization["servers"][0]
    account = next(a for a in organization["accounts"] if a["role"] == "connector")
    connection = WSMan(
        server["host"], port=server["http_port"], ssl=False, path="PowerShell", auth="basic", encryption="never",
        username=account["user"], password=account["password"],
    )  # fmt: skip
    with connection, RunspacePool(connection, configuration_name="Microsoft.Exchange") as pool:
        shell = PowerShell(pool)
        shell.add_cmdlet("Get-MobileDevice").add_parameter("ResultSize", "Unlimited")
        return len(shell.invoke())


def sign_in(page: Page, running: Running) -> None:
    page.goto(running.address)
    page.get_by_label("Username").fill("admin")
    page.get_by_label("Password").fill(running.password)
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Home")


@pytest.mark.parametrize("name", ["Contoso", "Contoso Research", "Fabrikam"])
def test_full_sync_ends_successful_with_exchanges_own_count(browser: Browser, running: Running, name: str) -> None:
    page = browser.new_context(viewport={"width": 1440, "height": 900}, locale="en-US").new_page()
    sign_in(page, running)
    page.get_by_role("link", name="Exchange ActiveSync on-premises connector").first.click()
    row = page.get_by_role("row").filter(has=page.get_by_role("link", name=name, exact=True))
    expect(row).to_contain_text("Connected", timeout=60_000)
    row.get_by_role("link", name=name, exact=True).click()
    synchronized = (
        page.locator("div").filter(has=page.get_by_text("Last synchronized", exact=True)).last.locator("time")
    )
    expect(synchronized).to_be_visible(timeout=60_000)
    before = synchronized.get_attribute("datetime")

    page.wait_for_timeout(1100)  # the page tells whole seconds
    press(page, "Full sync")

    expected = count_in_exchange(running, name)
    assert expected >= 300
    assert before
    expect(synchronized).not_to_have_attribute("datetime", before, timeout=60_000)
    expect(page.get_by_text(f"Full sync: Successful, {expected} devices read.")).to_be_visible()
    expect(page.get_by_role("heading", name=f"{expected} devices")).to_be_visible()
    after = synchronized.get_attribute("datetime")
    assert after
    assert after > before
    page.context.close()


def test_a_quick_sync_ends_successful_too(browser: Browser, running: Running) -> None:
    page = browser.new_context(viewport={"width": 390, "height": 844}, locale="en-US").new_page()
    sign_in(page, running)
    page.goto(running.address + "/connectors/")
    page.get_by_role("link", name="Fabrikam", exact=True).click()
    press(page, "Quick sync")
    expect(page.get_by_text(re.compile("Quick sync: Successful, [0-9]+ devices? read"))).to_be_visible(timeout=60_000)
    page.context.close()


def test_what_the_run_leaves_behind_is_private(running: Running, tmp_path_factory: pytest.TempPathFactory) -> None:
    homes = [path for path in tmp_path_factory.getbasetemp().glob("newcomer*") if path.is_dir()]
    for name in ("lab.json", "secrets/django.key", "secrets/fields.key"):
        assert (Path(homes[0]) / name).stat().st_mode & 0o077 == 0, name

"""Reading device statistics beside the offer to keep devices in use: it renews itself, and then counts sharper."""

from __future__ import annotations

import datetime
from typing import Any

import pytest
from django.urls import reverse
from django.utils import timezone
from playwright.sync_api import expect

from connectors.models import Connector
from sync.models import DeviceStatistics, MobileDevice, SyncRun
from tests.e2e.conftest import PHONE, Visitor
from tests.e2e.looks import violations
from tests.e2e.test_policy import connector, signed_in  # noqa: F401 - fixtures

pytestmark = [pytest.mark.django_db(transaction=True)]


@pytest.fixture(autouse=True)
def nobody_takes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sync.dispatch._send", lambda run_id, queue: None)


def test_read_now_watch_it_and_count_again(
    visitor: Visitor,
    connector: Connector,  # noqa: F811
    signed_in: list[Any],  # noqa: F811
) -> None:
    page = visitor.page(cookies=signed_in)
    page.goto(reverse("organization_policy", args=[connector.organization.public_id]))
    page.get_by_role("radio", name="Quarantine", exact=True).check()
    page.get_by_role("button", name="Review and save").click()
    expect(page.locator("#statistics-reading")).to_contain_text("Of 3 devices it is not known")
    assert violations(page) == []
    page.get_by_role("button", name="Read it now").click()
    expect(page.locator("#statistics-reading")).to_contain_text("wait for a worker")

    now = timezone.now()
    began = now - datetime.timedelta(seconds=10)
    SyncRun.objects.update(
        status="running", phase="statistics", started_at=began, devices_started_at=began, observed=1, expected=3
    )
    expect(page.locator("#statistics-reading")).to_contain_text("1 of 3 devices", timeout=10_000)
    for row in MobileDevice.objects.all():
        DeviceStatistics.objects.create(device=row, read_at=now, last_success_at=now - datetime.timedelta(days=60))
    SyncRun.objects.update(status="succeeded", phase="finished", finished_at=now, observed=3)
    expect(page.locator("#statistics-reading")).to_contain_text("told of 3 devices", timeout=10_000)
    page.get_by_role("button", name="Count again", exact=True).click()
    expect(page.locator("#statistics-reading")).to_contain_text("was read within the last 24 hours")
    expect(page.locator("#losses")).to_contain_text("3 devices of 3 would lose mail")


def test_without_scripts_on_a_phone(
    visitor: Visitor,
    connector: Connector,  # noqa: F811
    signed_in: list[Any],  # noqa: F811
) -> None:
    page = visitor.page(PHONE, cookies=signed_in, scripts=False)
    page.goto(reverse("connector", args=[connector.public_id]))
    page.click("#read-statistics")
    assert SyncRun.objects.get().kind == SyncRun.Kind.STATISTICS
    expect(page.locator("#live")).to_contain_text("Device statistics: Waiting for a worker")

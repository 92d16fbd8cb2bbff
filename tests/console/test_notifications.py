"""Mails to people: what became of each, who may have one tried again, and that nobody sees another tenant's."""

from __future__ import annotations

import datetime
import re
from typing import Any

import pytest
from django.contrib.messages import get_messages
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from connectors.models import NotificationAccount
from sync.models import DeviceEvent, MobileDevice, Notification
from tests.console.conftest import Scene
from tests.console.test_connectors import text_of
from tests.factories import DeviceFactory, NotificationFactory

pytestmark = pytest.mark.django_db

State = Notification.State


@pytest.fixture(autouse=True)
def told(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """What the queue was told."""
    calls: list[tuple[Any, ...]] = []
    monkeypatch.setattr("sync.dispatch._send_prompt", lambda *call: calls.append(call))
    return calls


@pytest.fixture
def device(scene: Scene) -> MobileDevice:
    made: MobileDevice = DeviceFactory(organization=scene.connector.organization)
    return made


def words(browser: Client, **query: Any) -> str:
    answer = browser.get(reverse("notifications"), query)
    assert answer.status_code == 200
    return text_of(answer.content.decode())


def retry(browser: Client, row: Notification) -> Any:
    return browser.post(reverse("notification_retry", args=[row.public_id]))


class TestList:
    def test_each_with_its_delivery(self, scene: Scene, device: MobileDevice) -> None:
        NotificationFactory(device=device, recipient="ada@contoso.lab")
        found = words(scene.client("reader"))
        assert "Sent 1 minute ago" in found
        assert "ada@contoso.lab" in found
        assert "Not enrolled" in found
        assert "Try again" not in found

    def test_what_failed_says_why_and_what_to_do(self, scene: Scene, device: MobileDevice) -> None:
        NotificationFactory(device=device, failed=True, error_params={"remote_text": "5.1.1 no such user"})
        found = words(scene.client("operator"))
        assert "5.1.1 no such user" in found
        assert "Failed" in found
        assert "Try again" in found

    def test_what_waits_says_until_when(self, scene: Scene, device: MobileDevice) -> None:
        NotificationFactory(
            device=device, queued=True, error_code="mail_server_busy",
            next_attempt_at=timezone.now() + datetime.timedelta(minutes=5),
        )  # fmt: skip
        assert "Queued Next try" in words(scene.client("reader"))

    @pytest.mark.parametrize(
        ("because", "sentence"),
        [
            ("repeated", "a short while ago"),
            ("off", "was switched off"),
            ("noAddress", "no mail address"),
            ("notNeeded", "was let in"),
        ],
    )
    def test_what_was_not_sent_says_why(self, scene: Scene, device: MobileDevice, because: str, sentence: str) -> None:
        NotificationFactory(device=device, state=State.SUPPRESSED, suppressed_because=because, recipient="")
        assert sentence in words(scene.client("reader"))

    def test_an_account_that_must_be_mended_is_told(self, scene: Scene) -> None:
        NotificationAccount.objects.create(
            organization=scene.connector.organization, channel="ews", sender="phones@contoso.lab",
            last_error_code="mail_sign_in_failed", last_error_at=timezone.now(),
        )  # fmt: skip
        assert "tried again every 15 minutes" in words(scene.client("reader"))

    def test_filters(self, scene: Scene, device: MobileDevice) -> None:
        NotificationFactory(device=device, recipient="sent@contoso.lab")
        other = DeviceFactory(organization=device.organization)
        NotificationFactory(device=other, recipient="failed@contoso.lab", failed=True)
        browser = scene.client("reader")
        assert "failed@contoso.lab" not in words(browser, state="sent")
        assert "sent@contoso.lab" not in words(browser, device=str(other.public_id))
        for nonsense in ({"state": "x"}, {"organization": "x"}, {"before": "x"}, {"device": "x"}):
            assert "sent@contoso.lab" in words(browser, **nonsense)

    def test_a_devices_page_leads_to_its_own(self, scene: Scene, device: MobileDevice) -> None:
        NotificationFactory(device=device, recipient="ada@contoso.lab")
        NotificationFactory(device=DeviceFactory(organization=device.organization), recipient="bob@contoso.lab")
        browser = scene.client("reader")
        html = browser.get(reverse("device", args=[device.public_id])).content.decode()
        link = re.search(r'<a href="([^"]*)">Mails about this device</a>', html)
        assert link
        shown = browser.get(link[1]).content.decode()
        assert "ada@contoso.lab" in shown
        assert "bob@contoso.lab" not in shown
        stranger = scene.client("stranger").get(link[1])
        assert "ada@contoso.lab" not in stranger.content.decode()
        assert device.device_id not in stranger.content.decode()

    def test_pages(self, scene: Scene, device: MobileDevice) -> None:
        NotificationFactory.create_batch(51, device=device)
        browser = scene.client("reader")
        answer = browser.get(reverse("notifications"))
        first = {row["notification"].pk for row in answer.context["rows"]}
        second = browser.get(answer.context["next_url"]).context
        assert len(first) == 50
        assert not first & {row["notification"].pk for row in second["rows"]}
        assert second["next_url"] == ""

    def test_the_number_of_queries_does_not_grow(
        self, scene: Scene, device: MobileDevice, django_assert_max_num_queries: Any
    ) -> None:
        browser = scene.client("operator")
        for count in (2, 20):
            NotificationFactory.create_batch(count, device=device, failed=True)
            with django_assert_max_num_queries(10):
                browser.get(reverse("notifications"))

    def test_nothing_yet(self, scene: Scene) -> None:
        assert "Nobody had to be told" in words(scene.client("reader"))

    def test_another_tenants_are_not_there(self, scene: Scene, device: MobileDevice) -> None:
        NotificationFactory(device=device, recipient="ada@contoso.lab")
        NotificationAccount.objects.create(
            organization=scene.connector.organization, channel="ews", last_error_code="mail_sign_in_failed"
        )
        stranger = scene.client("stranger")
        for query in ({}, {"device": device.public_id}, {"organization": device.organization.public_id}):
            found = words(stranger, **query)
            assert "ada@contoso.lab" not in found
            assert "15 minutes" not in found


class TestRetry:
    @pytest.mark.parametrize("who", ["operator", "administrator", "superuser"])
    def test_it_goes_again(
        self, scene: Scene, device: MobileDevice, told: list[Any], who: str, django_capture_on_commit_callbacks: Any
    ) -> None:
        row = NotificationFactory(device=device, failed=True)
        with django_capture_on_commit_callbacks(execute=True):
            answer = retry(scene.client(who), row)
        assert answer.status_code == 302
        row.refresh_from_db()
        assert (row.state, row.attempts, row.finished_at) == (State.QUEUED, 0, None)
        assert told == [("sync.notify", (device.organization_id,), "site.default.now")]
        assert DeviceEvent.objects.get(device=device).code == "notificationQueued"

    def test_what_was_sent_does_not(self, scene: Scene, device: MobileDevice, told: list[Any]) -> None:
        row = NotificationFactory(device=device)
        answer = retry(scene.client("operator"), row)
        assert "not to be tried again" in str(next(iter(get_messages(answer.wsgi_request))))
        row.refresh_from_db()
        assert row.state == State.SENT
        assert told == []

    @pytest.mark.parametrize(
        ("who", "status"), [("reader", 403), ("stranger", 404), ("disabled", 302), ("nobody", 302)]
    )
    def test_who_may_not(self, scene: Scene, device: MobileDevice, who: str, status: int) -> None:
        row = NotificationFactory(device=device, failed=True)
        assert retry(scene.client(who), row).status_code == status
        row.refresh_from_db()
        assert row.state == State.FAILED

    def test_only_by_post(self, scene: Scene, device: MobileDevice) -> None:
        row = NotificationFactory(device=device, failed=True)
        address = reverse("notification_retry", args=[row.public_id])
        assert scene.client("operator").get(address).status_code == 405

"""Device statistics on pages: asking for them, how far they are, and the offer beside grandfathering."""

from __future__ import annotations

import datetime
import re
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from connectors.models import Connector, ExchangeOrganization
from sync.models import DeviceStatistics, SyncRun
from tests.console.conftest import Scene
from tests.console.test_policy import in_exchange, phone, text_of  # noqa: F401 - a fixture among them
from tests.console.test_policy_organization import posted, stepped
from tests.factories import RunFactory

pytestmark = pytest.mark.django_db
STATISTICS = SyncRun.Kind.STATISTICS


def reading(connector: Connector, **values: Any) -> SyncRun:
    given = {"kind": STATISTICS, "running": True, "phase": SyncRun.Phase.STATISTICS, **values}
    return RunFactory(connector=connector, **given)  # type: ignore[no-any-return]


class TestConnectorPage:
    def press(self, browser: Client, connector: Connector, **values: str) -> str:
        answer = browser.post(reverse("connector_sync", args=[connector.public_id]), values, follow=True)
        assert answer.status_code == 200
        return text_of(answer.content.decode())

    def test_the_button_asks_for_a_run_in_the_persons_name(self, scene: Scene) -> None:
        browser = scene.client("operator")
        words = self.press(browser, scene.connector, kind="statistics")
        assert "Device statistics requested: each mailbox is asked" in words
        assert "Device statistics: Waiting for a worker" in words
        assert "Cancel reading" in words
        run = scene.connector.runs.get()
        assert (run.kind, run.trigger, run.requested_by_name) == (STATISTICS, "button", "operator")
        assert "no second reading was started" in self.press(browser, scene.connector, kind="statistics")

    def test_it_is_offered_to_those_who_may(self, scene: Scene) -> None:
        address = reverse("connector", args=[scene.connector.public_id])
        assert 'id="read-statistics"' in scene.client("operator").get(address).content.decode()
        assert 'id="read-statistics"' not in scene.client("reader").get(address).content.decode()

    @pytest.mark.parametrize(("who", "status"), [("reader", 403), ("stranger", 404)])
    def test_others_are_refused(self, scene: Scene, who: str, status: int) -> None:
        address = reverse("connector_sync", args=[scene.connector.public_id])
        assert scene.client(who).post(address, {"kind": "statistics"}).status_code == status
        assert not SyncRun.objects.exists()

    def test_there_is_no_dry_reading(self, scene: Scene) -> None:
        address = reverse("connector_sync", args=[scene.connector.public_id])
        assert scene.client("operator").post(address, {"kind": "statistics", "dry": "1"}).status_code == 400

    def test_behind_a_sync_and_before_one(self, scene: Scene) -> None:
        browser = scene.client("operator")
        run = RunFactory(connector=scene.connector, running=True)
        words = self.press(browser, scene.connector, kind="statistics")
        assert "device statistics are read as soon as it has ended" in words
        run.delete()
        reading(scene.connector)
        words = self.press(browser, scene.connector, kind="fullSync")
        assert "Device statistics are being read, and make way" in words
        assert "operator asked for another run; this one makes way" in words

    def test_how_far_it_is(self, scene: Scene) -> None:
        reading(scene.connector, observed=60, rejected=60, expected=240)
        words = text_of(
            scene.client("reader").get(reverse("connector", args=[scene.connector.public_id])).content.decode()
        )
        for part in (
            "Device statistics: Reading device statistics",
            "60 of about 240",
            "Could not be read 60",
            "Device statistics: Reading device statistics, 50 percent.",
        ):
            assert part in words
        assert re.search(r"[56] a second Remaining 2\d s", words)  # reckoned until now
        assert "New / Changed" not in words
        assert "Reading mailboxes" not in words

    def test_what_was_wrong_with_the_last_sync_stays_on_the_page(self, scene: Scene) -> None:
        earlier = timezone.now() - datetime.timedelta(hours=1)
        Connector.objects.update(last_error_code="listing_incomplete", last_successful_sync_at=earlier)
        RunFactory(connector=scene.connector, failed=True, error_code="listing_incomplete")
        reading(scene.connector, running=False, queued_at=timezone.now(), observed=5)
        words = text_of(
            scene.client("reader").get(reverse("connector", args=[scene.connector.public_id])).content.decode()
        )
        assert "Last sync failed" in words
        assert "1 sync failed since the last successful one" in words

    def test_a_reading_that_failed_is_explained_and_is_no_failed_sync(self, scene: Scene) -> None:
        reading(scene.connector, running=False, failed=True, error_code="cmdlet_not_granted")
        words = text_of(
            scene.client("reader").get(reverse("connector", args=[scene.connector.public_id])).content.decode()
        )
        assert "Device statistics could not be read. Syncs do without them." in words
        assert "Last sync failed" not in words
        assert "since the last successful one" not in words

    def test_the_list_and_the_page_of_a_run_say_what_it_was(self, scene: Scene) -> None:
        run = reading(scene.connector, running=False, status="madeWay", observed=120)
        browser = scene.client("reader")
        listed = text_of(browser.get(reverse("connector_runs", args=[scene.connector.public_id])).content.decode())
        assert "Made way Device statistics" in listed
        words = text_of(browser.get(reverse("run", args=[run.public_id])).content.decode())
        assert "Another run was wanted, and went first." in words
        assert "Devices read 120" in words
        assert "Unchanged" not in words

    def test_its_end_is_told(self, scene: Scene) -> None:
        reading(scene.connector, running=False, observed=7)
        address = reverse("connector_live", args=[scene.connector.public_id])
        html = scene.client("reader").get(address, {"seen": "x"}, headers={"HX-Request": "true"}).content.decode()
        assert "Device statistics: Successful, 7 devices read." in html


class TestReview:
    """The offer to keep devices in use, when a default level is tightened."""

    @pytest.fixture
    def organization(self, scene: Scene, in_exchange: ExchangeOrganization) -> ExchangeOrganization:  # noqa: F811
        return in_exchange

    @pytest.fixture
    def where(self, organization: ExchangeOrganization) -> str:
        for number in range(3):
            phone(organization, number)
        return reverse("organization_policy", args=[organization.public_id])

    def part(self, browser: Client, organization: ExchangeOrganization) -> str:
        answer = browser.get(reverse("organization_statistics", args=[organization.public_id]))
        assert answer.status_code == 200
        return text_of(answer.content.decode())

    def test_it_says_what_is_not_known_and_what_reading_it_costs(self, scene: Scene, where: str) -> None:
        words = text_of(posted(scene.client("administrator"), where, default_level="quarantine"))
        assert "Of 3 devices it is not known when they last synchronized" in words
        assert "asks 3 mailboxes, one call each, and takes roughly 1 minute. That supposes half a second" in words
        assert "Read it now" in words
        assert "Count again" not in words

    def test_it_is_only_beside_the_offer(self, scene: Scene, where: str) -> None:
        html = posted(scene.client("administrator"), where, default_level="allow", denial="block")
        assert "statistics-reading" not in html

    def test_read_now_then_count_again(self, scene: Scene, organization: ExchangeOrganization, where: str) -> None:
        browser = scene.client("administrator")
        html = posted(browser, where, default_level="quarantine")
        html = stepped(browser, where, html, "statistics").content.decode()
        run = SyncRun.objects.get()
        assert (run.kind, run.requested_by_name, run.connector) == (STATISTICS, "administrator", scene.connector)
        assert "wait for a worker" in text_of(html)
        assert (
            f'hx-get="{reverse("organization_statistics", args=[organization.public_id])}" hx-trigger="every 3s"'
            in html
        )

        now = timezone.now()
        began = now - datetime.timedelta(seconds=10)
        SyncRun.objects.update(
            status="running", phase="statistics", started_at=began, devices_started_at=began, observed=1, expected=3
        )
        assert re.search(r"are being read: 1 of 3 devices. About 2\d s remain.", self.part(browser, organization))

        for row, days in zip(organization.mobile_devices.order_by("pk"), (1, 40, 90), strict=True):
            ago = now - datetime.timedelta(days=days)
            DeviceStatistics.objects.create(device=row, read_at=now, last_success_at=ago)
        SyncRun.objects.update(status="succeeded", phase="finished", finished_at=now, observed=3)
        part = self.part(browser, organization)
        assert "Successful The last reading told of 3 devices." in part
        assert "was read within the last 24 hours" in part
        assert "Count again" in part
        assert "Read it now" not in part

        until = (timezone.localdate() + datetime.timedelta(days=60)).isoformat()
        html = stepped(browser, where, html, "keep", keep_days="30", keep_until=until).content.decode()
        words = text_of(stepped(browser, where, html, "again").content.decode())
        assert "2 devices of 3 would lose mail" in words
        assert "1 device keeps its access for a while." in words
        assert "it is not known when" not in words

    def test_before_it_is_read_all_are_kept(self, scene: Scene, where: str) -> None:
        browser = scene.client("administrator")
        html = posted(browser, where, default_level="quarantine")
        until = (timezone.localdate() + datetime.timedelta(days=60)).isoformat()
        words = text_of(stepped(browser, where, html, "keep", keep_days="30", keep_until=until).content.decode())
        assert "3 devices keep their access for a while. Of 3 among them it is not known" in words
        assert "Read it now" in words

    def test_while_a_sync_is_under_way_it_comes_after_that(
        self, scene: Scene, organization: ExchangeOrganization, where: str
    ) -> None:
        RunFactory(connector=scene.connector, running=True)
        browser = scene.client("administrator")
        html = posted(browser, where, default_level="quarantine")
        words = text_of(stepped(browser, where, html, "statistics").content.decode())
        assert "Device statistics are read as soon as the sync under way has ended." in words
        # The sync has ended, and what follows it is made in a moment.
        SyncRun.objects.update(status="succeeded", finished_at=timezone.now())
        assert "as soon as the sync under way has ended" in self.part(browser, organization)

    def test_an_organization_without_a_connector(
        self, scene: Scene, organization: ExchangeOrganization, where: str
    ) -> None:
        scene.connector.delete()
        browser = scene.client("administrator")
        html = posted(browser, where, default_level="quarantine")
        assert "statistics-reading" not in html
        assert stepped(browser, where, html, "statistics").status_code == 404

    def test_roles_and_tenants(self, scene: Scene, organization: ExchangeOrganization, where: str) -> None:
        html = posted(scene.client("administrator"), where, default_level="quarantine")
        assert stepped(scene.client("operator"), where, html, "statistics").status_code == 403
        assert stepped(scene.client("stranger"), where, html, "statistics").status_code == 404
        assert not SyncRun.objects.exists()
        assert "Read it now" not in self.part(scene.client("reader"), organization)

    def test_it_is_cheap(
        self, scene: Scene, organization: ExchangeOrganization, where: str, django_assert_num_queries: Any
    ) -> None:
        browser = scene.client("administrator")
        with django_assert_num_queries(9):
            self.part(browser, organization)

"""A connector's runs, one run with its story, and cancelling."""

from __future__ import annotations

import datetime
import re

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from sync.models import SyncRun
from tests.console.conftest import Scene
from tests.console.test_connectors import text_of
from tests.factories import EventFactory, RunFactory

pytestmark = pytest.mark.django_db


def page(browser: Client, run: SyncRun, name: str = "run", **headers: str) -> str:
    answer = browser.get(reverse(name, args=[run.public_id]), headers=headers)
    assert answer.status_code == 200
    return str(answer.content.decode())


class TestAll:
    def test_what_each_did_who_asked_and_what_went_wrong(self, scene: Scene) -> None:
        RunFactory(connector=scene.connector, created=7, changed=5, gone=3, observed=12345)
        RunFactory(connector=scene.connector, failed=True, trigger="schedule", requested_by_name="Schedule")
        html = scene.client("reader").get(reverse("connector_runs", args=[scene.connector.public_id])).content.decode()
        words = text_of(html)
        assert re.search(r"Successful\s+Full sync .*12 s 12,345 7 5 3 Ada Button", words)
        assert re.search(r"Failed\s+Full sync .* Schedule Schedule The server refuses the connection", words)

    def test_pages(self, scene: Scene) -> None:
        RunFactory.create_batch(51, connector=scene.connector)
        RunFactory()
        browser = scene.client("reader")
        address = reverse("connector_runs", args=[scene.connector.public_id])
        html = browser.get(address).content.decode()
        assert "1–50 of 51" in html
        assert 'rel="next" href="?page=2"' in html
        html = browser.get(address, {"page": "2"}).content.decode()
        assert "51–51 of 51" in html
        assert 'rel="prev" href="?page=1"' in html

    def test_before_the_first(self, scene: Scene) -> None:
        html = scene.client("reader").get(reverse("connector_runs", args=[scene.connector.public_id])).content.decode()
        assert "has not synchronized yet" in html

    def test_the_number_of_queries_does_not_grow(self, scene: Scene, django_assert_num_queries) -> None:
        browser = scene.client("reader")
        address = reverse("connector_runs", args=[scene.connector.public_id])
        for count in (2, 20):
            RunFactory.create_batch(count, connector=scene.connector, failed=True)
            with django_assert_num_queries(7):
                browser.get(address)


class TestOne:
    def test_its_story_in_sentences_with_the_tenants_time(self, scene: Scene) -> None:
        run = RunFactory(connector=scene.connector)
        at = datetime.datetime(2026, 11, 24, 1, 2, 3, tzinfo=datetime.UTC)
        EventFactory(run=run, code="requested", params={"name": "Ada"}, at=at)
        EventFactory(run=run, code="server_failed", level="warning",
                     params={"server": "ex01", "error_code": "connection_refused"})  # fmt: skip
        EventFactory(run=run, code="something_newer", params={})
        html = page(scene.client("reader"), run)
        assert 'title="2026-11-24 01:02:03 UTC">02:02:03</time>' in html
        words = text_of(html)
        assert "Requested by Ada." in words
        assert "Warning: ex01 could not be used: The server refuses the connection." in words
        assert "something_newer" in words

    def test_a_long_story_keeps_its_beginning_and_its_end(self, scene: Scene, django_assert_num_queries) -> None:
        run = RunFactory(connector=scene.connector)
        for number in range(250):
            EventFactory(run=run, code="rejected", params={"reason": f"object {number}"})
        browser = scene.client("reader")
        with django_assert_num_queries(9):
            html = page(browser, run)
        assert "object 0</span>" in html
        assert "object 249</span>" in html
        assert "object 120</span>" not in html
        assert html.index("object 99<") < html.index("object 150<")
        assert "50 lines in the middle are not shown." in html

    def test_a_failure_has_its_panel(self, scene: Scene) -> None:
        words = text_of(page(scene.client("reader"), RunFactory(connector=scene.connector, failed=True)))
        for part in ("What happened", "What was not lost", "What to do", "connection_refused"):
            assert part in words

    def test_an_interrupted_run_has_one_too(self, scene: Scene) -> None:
        run = RunFactory(
            connector=scene.connector, status="interrupted", error_code="run_interrupted", error_params={"attempts": 3}
        )
        assert "The run was started 3 times" in text_of(page(scene.client("reader"), run))

    def test_a_canceled_run_is_no_failure(self, scene: Scene) -> None:
        run = RunFactory(
            connector=scene.connector,
            status="canceled",
            cancel_requested_by_name="Ada",
            error_code="run_canceled",
            error_params={"person": "Ada"},
        )
        html = page(scene.client("reader"), run)
        assert "Canceled by Ada. What had been read until then was kept" in html
        assert 'class="failure' not in html

    def test_it_renews_itself_until_it_has_ended(self, scene: Scene) -> None:
        run = RunFactory(connector=scene.connector, running=True)
        browser = scene.client("reader")
        html = page(browser, run)
        assert re.search(r'id="run" hx-get="/runs/[^"]+/live/\?seen=[^"]+" hx-trigger="every 2s"', html)
        assert "60 of about 240" in text_of(html)
        part = page(browser, run, "run_live", **{"HX-Request": "true"})
        assert "<html" not in part
        assert 'hx-swap-oob="innerHTML">Full sync: Reading devices, 25 percent.' in part
        SyncRun.objects.update(status="succeeded", phase="finished", finished_at=timezone.now())
        assert "hx-trigger" not in page(browser, run, "run_live", **{"HX-Request": "true"})


class TestCancel:
    def press(self, scene: Scene, run: SyncRun, **body: str):
        return scene.client("operator").post(reverse("run_cancel", args=[run.public_id]), body)

    def test_a_running_one_is_asked_to_end(self, scene: Scene) -> None:
        run = RunFactory(connector=scene.connector, running=True)
        answer = self.press(scene, run)
        assert answer.url == reverse("run", args=[run.public_id])
        run.refresh_from_db()
        assert run.status == "running"
        assert run.cancel_requested_by_name == "operator"
        html = page(scene.client("reader"), run)
        assert "Canceling" in html
        assert 'id="cancel-run"' not in html

    def test_a_queued_one_ends_at_once(self, scene: Scene) -> None:
        run = RunFactory(connector=scene.connector, queued=True)
        self.press(scene, run)
        run.refresh_from_db()
        assert run.status == "canceled"

    def test_from_the_connectors_page_it_leads_back_there(self, scene: Scene) -> None:
        run = RunFactory(connector=scene.connector, running=True)
        assert self.press(scene, run, back="connector").url == reverse("connector", args=[scene.connector.public_id])

    def test_one_that_has_ended_is_left_alone(self, scene: Scene) -> None:
        run = RunFactory(connector=scene.connector)
        browser = scene.client("operator")
        answer = browser.post(reverse("run_cancel", args=[run.public_id]), follow=True)
        assert "had ended already" in answer.content.decode()
        run.refresh_from_db()
        assert run.status == "succeeded"

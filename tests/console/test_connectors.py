"""The connectors' list and page, the two buttons and the schedule: what is shown, what is done, what it costs."""

from __future__ import annotations

import datetime
import re
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from connectors.models import Connector, ConnectorStatus
from console.pages.standing import is_stale, standing
from sync.models import SyncRun
from tests.console.conftest import Scene
from tests.factories import (
    ConnectorFactory,
    DeviceFactory,
    MembershipFactory,
    OrganizationFactory,
    RunFactory,
    TenantFactory,
)

pytestmark = pytest.mark.django_db


def page(browser: Client, name: str, connector: Connector, **query: str) -> str:
    answer = browser.get(reverse(name, args=[connector.public_id]), query)
    assert answer.status_code == 200
    return str(answer.content.decode())


def text_of(html: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", html))


class TestList:
    def rows(self, browser: Client, **query: str) -> list[str]:
        html = browser.get(reverse("connectors"), query).content.decode()
        return re.findall(r'class="table-name" href="[^"]+">([^<]+)<', html)

    def test_the_columns_are_those_of_the_admin_center(self, scene: Scene) -> None:
        html = scene.client("reader").get(reverse("connectors")).content.decode()
        heads = re.findall(r'<th scope="col">([^<]+)</th>', html)
        assert heads == ["Status", "Organization name", "CAS host name", "Last successful sync", "Sync"]
        words = text_of(html)
        assert "Connected" in words
        assert "ex01.contoso.lab and 1 more" in words
        assert "1 minute ago" in words

    def test_the_tenant_is_named_when_there_are_several(self, scene: Scene) -> None:
        html = scene.client("superuser").get(reverse("connectors")).content.decode()
        assert '<th scope="col">Tenant</th>' not in html
        TenantFactory()
        html = scene.client("superuser").get(reverse("connectors")).content.decode()
        assert '<th scope="col">Tenant</th>' in html

    def test_only_ones_own_are_there(self, scene: Scene) -> None:
        ConnectorFactory(organization__name="Elsewhere")
        assert self.rows(scene.client("reader")) == ["Contoso mail"]
        assert self.rows(scene.client("superuser")) == ["Contoso mail", "Elsewhere"]

    @pytest.mark.parametrize(
        ("query", "expected"),
        [
            ({"q": "MAIL"}, ["Contoso mail"]),
            ({"q": "contoso"}, ["Contoso mail", "Research"]),
            ({"q": "ex99"}, ["Research"]),
            ({"q": "nothing like it"}, []),
            ({"q": "  "}, ["Contoso mail", "Research"]),
            ({"status": "disconnected"}, ["Research"]),
            ({"status": "connected"}, ["Contoso mail"]),
            ({"status": "broken"}, ["Contoso mail", "Research"]),
            ({"q": "contoso", "status": "disconnected"}, ["Research"]),
            ({"page": "99"}, ["Contoso mail", "Research"]),
            ({"page": "x"}, ["Contoso mail", "Research"]),
        ],
    )
    def test_search_and_filter(self, scene: Scene, query: dict[str, str], expected: list[str]) -> None:
        ConnectorFactory(
            organization=OrganizationFactory(tenant=scene.connector.organization.tenant, name="Research"),
            status=ConnectorStatus.DISCONNECTED,
            servers=["ex99.research.lab", "ex99b.research.lab"],
        )
        assert self.rows(scene.client("reader"), **query) == expected

    def test_nothing_found_and_nothing_there_are_told_apart(self, scene: Scene) -> None:
        browser = scene.client("reader")
        assert "No connector matches" in browser.get(reverse("connectors"), {"q": "zzz"}).content.decode()
        scene.connector.delete()
        assert "manage.py add_connector" in browser.get(reverse("connectors")).content.decode()

    def test_long_lists_have_pages_that_keep_the_filter(self, scene: Scene) -> None:
        for number in range(51):
            organization = OrganizationFactory(tenant=scene.connector.organization.tenant, name=f"Site {number:02}")
            ConnectorFactory(organization=organization, servers=[])
        browser = scene.client("reader")
        assert len(self.rows(browser, q="Site")) == 50
        html = browser.get(reverse("connectors"), {"q": "Site"}).content.decode()
        assert 'rel="next" href="?q=Site&amp;page=2"' in html
        assert "1–50 of 51" in html
        assert self.rows(browser, q="Site", page="2") == ["Site 50"]

    def test_it_renews_itself_often_while_something_runs_and_now_and_then_otherwise(self, scene: Scene) -> None:
        browser = scene.client("reader")
        assert 'hx-trigger="every 30s"' in browser.get(reverse("connectors")).content.decode()
        RunFactory(connector=scene.connector, running=True)
        html = browser.get(reverse("connectors"), {"q": "mail"}).content.decode()
        assert 'hx-get="/connectors/?q=mail" hx-trigger="every 4s"' in html
        part = browser.get(reverse("connectors"), headers={"HX-Request": "true"}).content.decode()
        assert part.lstrip().startswith('<div class="card" id="results"')
        assert "25 %" in text_of(part)

    @pytest.mark.parametrize("name", ["home", "connectors", "tenants"])
    def test_the_number_of_queries_does_not_grow_with_the_list(
        self, scene: Scene, name: str, django_assert_num_queries
    ) -> None:
        browser = scene.client("reader")

        def more(count: int) -> None:
            for _number in range(count):
                organization = OrganizationFactory(tenant=scene.connector.organization.tenant)
                connector = ConnectorFactory(organization=organization)
                RunFactory(connector=connector, failed=True)
                RunFactory(connector=connector, running=True)
                MembershipFactory(tenant=scene.connector.organization.tenant)

        more(2)
        expected = {"home": 10, "connectors": 9, "tenants": 10}[name]
        with django_assert_num_queries(expected):
            assert browser.get(reverse(name)).status_code == 200
        more(15)
        with django_assert_num_queries(expected):
            assert browser.get(reverse(name)).status_code == 200


NOW = datetime.datetime(2026, 11, 24, 3, 0, tzinfo=datetime.UTC)


class TestStanding:
    def make(self, minutes: int | None, **more: object) -> Connector:
        last = None if minutes is None else NOW - datetime.timedelta(minutes=minutes)
        return Connector(
            last_successful_sync_at=last, created_at=NOW - datetime.timedelta(days=1), quick_sync_minutes=120, **more
        )

    @pytest.mark.parametrize(
        ("connector", "expected"),
        [
            pytest.param({"minutes": 1}, False, id="fresh"),
            pytest.param({"minutes": 240}, False, id="twice the interval to the minute"),
            pytest.param({"minutes": 241}, True, id="older than twice the interval"),
            pytest.param({"minutes": None}, True, id="made a day ago and never succeeded"),
            pytest.param({"minutes": 9999, "is_enabled": False}, False, id="schedule off: nothing was promised"),
        ],
    )
    def test_stale(self, connector: dict[str, Any], expected: bool) -> None:
        assert is_stale(self.make(**connector), NOW) is expected

    def test_a_new_connector_is_given_time_for_its_first_sync(self) -> None:
        connector = self.make(None)
        connector.created_at = NOW
        assert not is_stale(connector, NOW)

    @pytest.mark.parametrize(
        ("connector", "run", "reason"),
        [
            pytest.param({"status": "connected"}, None, "", id="well"),
            pytest.param({"status": "connectionPending"}, None, "", id="pending is no fault"),
            pytest.param(
                {"status": "disconnected", "last_error_code": "connection_refused"},
                None,
                "The server refuses the connection",
                id="disconnected says why",
            ),
            pytest.param(
                {"status": "connected"},
                {"status": "failed", "error_code": "deadline_exceeded"},
                "It took too long",
                id="connected, but the last sync failed",
            ),
            pytest.param({"status": "connected"}, {"status": "canceled"}, "", id="canceled is no fault"),
            pytest.param(
                {"status": "connected", "minutes": 500},
                {"status": "succeeded"},
                "No successful sync within twice the interval",
                id="silent stop",
            ),
        ],
    )
    def test_needs_attention_and_says_why(
        self, connector: dict[str, Any], run: dict[str, Any] | None, reason: str
    ) -> None:
        made = SyncRun(queued_at=NOW, **run) if run else None
        found = standing(self.make(**{"minutes": 1, **connector}), made, NOW)
        assert found.reason == reason
        assert found.needs_attention is bool(reason)


class TestPage:
    def test_it_shows_the_fields_of_the_admin_center(self, scene: Scene) -> None:
        words = text_of(page(scene.client("reader"), "connector", scene.connector))
        for part in (
            "Connection status Connected",
            "Exchange server ex01.contoso.lab",
            "Connector server worker-1",
            "Last synchronized",
            "Version Exchange Server 2019 Version 15.2 (Build 1544.4)",
            "ex02.contoso.lab",
            "Not tried yet",
            "every 2 hours",
            "daily at 02:00",
            "Europe/Berlin",
        ):
            assert part in words

    @pytest.mark.parametrize("status", ConnectorStatus.values)
    def test_each_status_is_a_word_with_an_icon(self, scene: Scene, status: str) -> None:
        Connector.objects.update(status=status)
        html = page(scene.client("reader"), "connector", scene.connector)
        badge = re.search(rf'<span class="badge badge-\w+" title="{status}">(.*?)</span></span>', html, re.DOTALL)
        assert badge is not None
        assert "<svg" in badge[1]
        assert str(ConnectorStatus(status).label) in badge[1]

    def test_times_are_the_tenants_and_utc_is_in_the_title(self, scene: Scene) -> None:
        moment = datetime.datetime(2026, 7, 1, 22, 30, 5, tzinfo=datetime.UTC)
        Connector.objects.update(last_successful_sync_at=moment)
        html = page(scene.client("reader"), "connector", scene.connector)
        assert '<time class="moment" datetime="2026-07-01T22:30:05+00:00" title="2026-07-01 22:30:05 UTC">' in html
        assert "2 Jul 2026 00:30" in html

    def test_what_was_observed_of_the_organization(self, scene: Scene) -> None:
        organization = scene.connector.organization
        organization.observed_name = "First Organization"
        organization.default_access_level = "Quarantine"
        organization.user_mail_insert = "<b>Ask</b> the desk"
        organization.admin_mail_recipients = ["desk@contoso.com", "night@contoso.com"]
        organization.settings_observed_at = timezone.now()
        organization.save()
        html = page(scene.client("reader"), "connector", scene.connector)
        assert "First Organization" in html
        assert "desk@contoso.com, night@contoso.com" in html
        assert "&lt;b&gt;Ask&lt;/b&gt; the desk" in html

    def test_devices_by_access_state_without_those_that_are_gone(self, scene: Scene) -> None:
        organization = scene.connector.organization
        DeviceFactory.create_batch(3, organization=organization)
        DeviceFactory(organization=organization, access_state="Quarantined")
        DeviceFactory(organization=organization, access_state="SomethingNew")
        DeviceFactory(organization=organization, gone_at=timezone.now())
        DeviceFactory()
        words = text_of(page(scene.client("reader"), "connector", scene.connector))
        assert "5 devices" in words
        assert re.search(r"Allowed\s+3 .*Quarantined\s+1 .*SomethingNew\s+1", words)

    @pytest.mark.parametrize(
        ("who", "shown", "hidden"),
        [
            ("reader", [], ["quick-sync", "full-sync", "cancel-run", "edit-schedule"]),
            ("operator", ["quick-sync", "full-sync", "cancel-run"], ["edit-schedule"]),
            ("administrator", ["quick-sync", "full-sync", "cancel-run", "edit-schedule"], []),
        ],
    )
    def test_only_what_the_role_allows_is_offered(
        self, scene: Scene, who: str, shown: list[str], hidden: list[str]
    ) -> None:
        RunFactory(connector=scene.connector, running=True)
        html = page(scene.client(who), "connector", scene.connector)
        assert [name for name in shown if f'id="{name}"' not in html] == []
        assert [name for name in hidden if f'id="{name}"' in html] == []

    def test_a_failure_says_what_happened_what_was_not_lost_and_what_to_do(self, scene: Scene) -> None:
        long_ago = timezone.now() - datetime.timedelta(hours=1)
        RunFactory(connector=scene.connector, failed=True, queued_at=long_ago)
        RunFactory.create_batch(2, connector=scene.connector, failed=True, queued_at=timezone.now())
        RunFactory(connector=scene.connector, status=SyncRun.Status.CANCELED, queued_at=timezone.now())
        html = page(scene.client("reader"), "connector", scene.connector)
        words = text_of(html)
        assert "The server refuses the connection" in words
        assert "What happened ex01.contoso.lab is reachable, but nothing accepts connections" in words
        assert "What was not lost What failed changed nothing in Exchange." in words
        assert "What to do Check on that server that IIS runs" in words
        assert "connection_refused" in words
        assert "2 syncs failed since the last successful one." in words

    @pytest.mark.parametrize(
        ("then", "shown"),
        [
            pytest.param({"status": SyncRun.Status.CANCELED}, True, id="a canceled run settles nothing"),
            pytest.param({"running": True}, True, id="it stays until the next one has ended"),
            pytest.param({}, False, id="a success ends it"),
        ],
    )
    def test_the_failure_is_shown_until_a_sync_succeeds(self, scene: Scene, then: dict[str, Any], shown: bool) -> None:
        earlier = timezone.now() - datetime.timedelta(minutes=5)
        RunFactory(connector=scene.connector, failed=True, queued_at=earlier)
        RunFactory(connector=scene.connector, **then)
        html = page(scene.client("reader"), "connector", scene.connector)
        assert ('class="failure' in html) is shown

    def test_what_exchange_said_is_quoted_as_text(self, scene: Scene) -> None:
        params = {"server": "ex01", "remote_text": "<script>alert(1)</script>"}
        RunFactory(connector=scene.connector, failed=True, error_params=params)
        html = page(scene.client("reader"), "connector", scene.connector)
        assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html
        assert "<script>alert" not in html

    def test_a_silent_stop_is_called_that(self, scene: Scene) -> None:
        Connector.objects.update(last_successful_sync_at=timezone.now() - datetime.timedelta(hours=9))
        words = text_of(page(scene.client("reader"), "connector", scene.connector))
        assert "Stale" in words
        assert "most likely the scheduler or the workers do not run" in words

    def test_before_the_first_sync(self, scene: Scene) -> None:
        Connector.objects.update(last_successful_sync_at=None, last_full_sync_at=None, status="connectionPending")
        words = text_of(page(scene.client("reader"), "connector", scene.connector))
        assert "Connection pending" in words
        assert "This connector has not synchronized yet" in words
        assert "Last synchronized Never" in words

    def test_the_number_of_queries_does_not_grow(self, scene: Scene, django_assert_num_queries) -> None:
        browser = scene.client("reader")

        def more(count: int) -> None:
            RunFactory.create_batch(count, connector=scene.connector, failed=True, queued_at=timezone.now())
            DeviceFactory.create_batch(count, organization=scene.connector.organization)

        more(2)
        with django_assert_num_queries(16):
            page(browser, "connector", scene.connector)
        more(30)
        with django_assert_num_queries(16):
            page(browser, "connector", scene.connector)


class TestLive:
    def live(self, browser: Client, connector: Connector, seen: str = "") -> str:
        address = reverse("connector_live", args=[connector.public_id])
        return str(browser.get(address, {"seen": seen}, headers={"HX-Request": "true"}).content.decode())

    def token(self, html: str) -> str:
        found = re.search(r'hx-get="[^"]+\?seen=([^"]+)" hx-trigger="every 2s" hx-swap="outerHTML"', html)
        assert found is not None
        return found[1]

    def test_figures_of_a_run(self, scene: Scene) -> None:
        begun = timezone.now() - datetime.timedelta(seconds=1000)  # long ago, beside what this test takes
        RunFactory(
            connector=scene.connector,
            running=True,
            exchange_server="ex02.contoso.lab",
            started_at=begun,
            observed=6000,
            expected=24000,
        )
        words = text_of(page(scene.client("reader"), "connector", scene.connector))
        assert "Full sync: Reading devices" in words
        assert "6,000 of about 24,000" in words
        assert "6 a second" in words
        assert "Remaining 50 min" in words

    def test_it_asks_again_while_the_run_goes_on_and_slowly_when_it_has_ended(self, scene: Scene) -> None:
        browser = scene.client("reader")
        run = RunFactory(connector=scene.connector, running=True)
        html = page(browser, "connector", scene.connector)
        seen = self.token(html)
        part = self.live(browser, scene.connector, seen)
        assert "hx-swap-oob" not in part
        assert self.token(part) == seen
        SyncRun.objects.filter(pk=run.pk).update(
            status="succeeded", phase="finished", finished_at=timezone.now(), observed=240
        )
        part = self.live(browser, scene.connector, seen)
        assert 'hx-trigger="every 30s"' in part  # a sync that the schedule starts shows by itself
        assert "Full sync: Successful, 240 devices read." in part
        for moved in ("connector-head", "connector-commands", "connector-state", "connector-runs", "announcement"):
            assert re.search(rf'id="{moved}"[^>]*hx-swap-oob', part)

    def test_counts_alone_move_nothing_else_but_a_quarter_of_the_way_is_announced(self, scene: Scene) -> None:
        browser = scene.client("reader")
        run = RunFactory(connector=scene.connector, running=True)
        seen = self.token(page(browser, "connector", scene.connector))
        SyncRun.objects.filter(pk=run.pk).update(observed=100)
        part = self.live(browser, scene.connector, seen)
        assert "hx-swap-oob" not in part
        assert "100" in part
        SyncRun.objects.filter(pk=run.pk).update(observed=121)
        part = self.live(browser, scene.connector, seen)
        assert 'aria-live="polite" hx-swap-oob="innerHTML">Full sync: Reading devices, 50 percent.' in part

    def test_it_waits_for_the_full_sync_that_was_asked_for(self, scene: Scene) -> None:
        asked = {"name": "Ada", "trigger": "button", "user_id": None}
        RunFactory(connector=scene.connector, kind="deltaSync", then_full=asked, queued_at=timezone.now(),
                   finished_at=timezone.now())  # fmt: skip
        html = page(scene.client("reader"), "connector", scene.connector)
        assert "starts in a moment" in html
        self.token(html)

    def test_a_run_that_no_worker_takes_says_which_queue(self, scene: Scene) -> None:
        Connector.objects.update(site="berlin")
        run = RunFactory(connector=scene.connector, queued=True)
        browser = scene.client("reader")
        assert "No worker has taken this run yet" not in page(browser, "connector", scene.connector)
        SyncRun.objects.filter(pk=run.pk).update(queued_at=timezone.now() - datetime.timedelta(minutes=2))
        assert "queue site.berlin" in text_of(page(browser, "connector", scene.connector))

    def test_it_is_cheap(self, scene: Scene, django_assert_num_queries) -> None:
        RunFactory(connector=scene.connector, running=True)
        browser = scene.client("reader")
        seen = self.token(page(browser, "connector", scene.connector))
        with django_assert_num_queries(5):
            self.live(browser, scene.connector, seen)

    def test_without_the_script_it_is_the_page(self, scene: Scene) -> None:
        answer = scene.client("reader").get(reverse("connector_live", args=[scene.connector.public_id]))
        assert answer["Location"] == reverse("connector", args=[scene.connector.public_id])


class TestButtons:
    def press(self, browser: Client, connector: Connector, kind: str) -> str:
        answer = browser.post(reverse("connector_sync", args=[connector.public_id]), {"kind": kind}, follow=True)
        assert answer.redirect_chain == [(reverse("connector", args=[connector.public_id]), 302)]
        return text_of(answer.content.decode())

    @pytest.mark.parametrize(
        ("kind", "words"), [("fullSync", "Full sync requested."), ("deltaSync", "Quick sync requested.")]
    )
    def test_a_run_is_asked_for_in_the_persons_name(
        self, scene: Scene, kind: str, words: str, django_capture_on_commit_callbacks
    ) -> None:
        with django_capture_on_commit_callbacks() as callbacks:
            page_after = self.press(scene.client("operator"), scene.connector, kind)
        assert words in page_after
        assert "Waiting for a worker" in page_after
        run = scene.connector.runs.get()
        assert (run.kind, run.trigger, run.status) == (kind, "button", "queued")
        assert (str(run.requested_by), run.requested_by_name) == ("operator", "operator")
        assert len(callbacks) == 1

    def test_the_first_quick_sync_is_a_full_one_and_says_so(self, scene: Scene) -> None:
        Connector.objects.update(last_full_sync_at=None)
        assert "has not had a complete one yet" in self.press(scene.client("operator"), scene.connector, "deltaSync")
        assert scene.connector.runs.get().kind == "fullSync"

    def test_a_second_press_starts_no_second_run(self, scene: Scene) -> None:
        browser = scene.client("operator")
        self.press(browser, scene.connector, "fullSync")
        assert "no second one was started" in self.press(browser, scene.connector, "fullSync")
        assert scene.connector.runs.count() == 1

    def test_full_during_quick_is_promised(self, scene: Scene) -> None:
        RunFactory(connector=scene.connector, kind="deltaSync", running=True)
        words = self.press(scene.client("operator"), scene.connector, "fullSync")
        assert "the full sync starts as soon as it has ended" in words
        assert "operator asked for a full sync" in words

    @pytest.mark.parametrize("kind", ["", "both", "FULLSYNC"])
    def test_another_kind_is_refused(self, scene: Scene, kind: str) -> None:
        answer = scene.client("operator").post(
            reverse("connector_sync", args=[scene.connector.public_id]), {"kind": kind}
        )
        assert answer.status_code == 400
        assert not scene.connector.runs.exists()


class TestSchedule:
    def save(self, scene: Scene, **values: str):
        address = reverse("connector_schedule", args=[scene.connector.public_id])
        return scene.client("administrator").post(address, values)

    def test_the_form_holds_what_is_set(self, scene: Scene) -> None:
        Connector.objects.update(quick_sync_minutes=45)
        html = page(scene.client("administrator"), "connector_schedule", scene.connector)
        assert '<option value="45" selected>45 minutes</option>' in html
        assert 'value="02:00"' in html
        assert "Europe/Berlin" in html

    def test_it_is_saved_and_reckoned_anew(self, scene: Scene) -> None:
        Connector.objects.update(next_quick_sync_at=timezone.now(), next_full_sync_at=timezone.now())
        answer = self.save(scene, is_enabled="on", quick_sync_minutes="30", full_sync_time="23:15")
        assert answer.url == reverse("connector", args=[scene.connector.public_id])
        scene.connector.refresh_from_db()
        assert scene.connector.quick_sync_minutes == 30
        assert scene.connector.full_sync_time == datetime.time(23, 15)
        assert scene.connector.is_enabled
        assert (scene.connector.next_quick_sync_at, scene.connector.next_full_sync_at) == (None, None)

    def test_it_can_be_switched_off(self, scene: Scene) -> None:
        self.save(scene, quick_sync_minutes="30", full_sync_time="23:15")
        scene.connector.refresh_from_db()
        assert not scene.connector.is_enabled
        assert "Schedule is off" in page(scene.client("reader"), "connector", scene.connector)

    @pytest.mark.parametrize(
        "values",
        [
            {"quick_sync_minutes": "1", "full_sync_time": "02:00"},
            {"quick_sync_minutes": "x", "full_sync_time": "02:00"},
            {"quick_sync_minutes": "60", "full_sync_time": "25:00"},
            {"quick_sync_minutes": "60", "full_sync_time": ""},
            {},
        ],
    )
    def test_nonsense_is_refused_beside_its_field_and_changes_nothing(
        self, scene: Scene, values: dict[str, str]
    ) -> None:
        answer = self.save(scene, **values)
        assert answer.status_code == 422
        assert 'aria-invalid="true"' in answer.content.decode()
        scene.connector.refresh_from_db()
        assert scene.connector.quick_sync_minutes == 120

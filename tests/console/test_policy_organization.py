"""Advanced Exchange ActiveSync access settings: levels, rules, known classes, and keeping devices that are in use."""

from __future__ import annotations

import datetime
import json
import re
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from connectors.actors import Actor
from connectors.models import ExchangeOrganization
from sync.models import DeviceStatistics, PolicyVersion, SyncRun
from sync.policies.policy import GrandfatheringValues, OrganizationPolicyValues, RuleValues
from sync.policies.policy_services import organization_policy_change, policy_current
from tests.console.conftest import Scene
from tests.console.test_policy import hidden, in_exchange, phone, text_of  # noqa: F401 - a fixture among them
from tests.factories import DeviceFactory

pytestmark = pytest.mark.django_db

FORM: dict[str, Any] = {
    "based_on": "0",
    "step": "review",
    "default_level": "",
    "denial": "quarantine",
    "user_mail_insert": "",
    "admin_mail_recipients": "",
    "rule_characteristic": ["DeviceType"],
    "rule_query": [""],
    "rule_level": ["allow"],
}


def rules(*rows: tuple[str, str, str]) -> dict[str, Any]:
    return {
        "rule_characteristic": [row[0] for row in rows],
        "rule_query": [row[1] for row in rows],
        "rule_level": [row[2] for row in rows],
    }


@pytest.fixture
def organization(scene: Scene, in_exchange: ExchangeOrganization) -> ExchangeOrganization:  # noqa: F811
    return in_exchange


@pytest.fixture
def where(organization: ExchangeOrganization) -> str:
    return reverse("organization_policy", args=[organization.public_id])


def posted(browser: Client, where: str, status: int = 200, **values: Any) -> str:
    answer = browser.post(where, {**FORM, **values})
    assert answer.status_code == status, text_of(answer.content.decode())
    return str(answer.content.decode())


def stepped(browser: Client, where: str, html: str, step: str, **values: str) -> Any:
    form = {"proposal": hidden(html, "proposal"), "based_on": hidden(html, "based_on"), "step": step, **values}
    return browser.post(where, form)


class TestPage:
    def test_what_exchange_has_stands_beside_what_the_policy_wants(
        self, scene: Scene, organization: ExchangeOrganization, where: str
    ) -> None:
        organization.access_rules = [["x", "DeviceModel", "<b>", "Block"]]
        organization.user_mail_insert = "Call 1234."
        organization.save()
        html = scene.client("reader").get(where).content.decode()
        words = text_of(html)
        for part in (
            "Advanced Exchange ActiveSync access settings",
            "Default access level Allow",
            "Device model &lt;b&gt; : Block",
            "Call 1234.",
            "Access control is off for this tenant",
        ):
            assert part in words
        assert '<fieldset class="plain" disabled>' in html
        assert "Review and save</button><a" not in html

    def test_before_the_first_full_sync(self, scene: Scene) -> None:
        organization = scene.connector.organization
        html = scene.client("reader").get(reverse("organization_policy", args=[organization.public_id])).content
        assert "Not read yet; a full sync reads them." in html.decode()

    def test_an_organization_without_a_connector_has_a_page_too(self, scene: Scene, where: str) -> None:
        scene.connector.delete()
        assert scene.client("reader").get(where).status_code == 200

    def test_known_classes_are_counted_and_searched(
        self, scene: Scene, organization: ExchangeOrganization, where: str, django_assert_num_queries: Any
    ) -> None:
        organization.device_classes = [["WindowsMail", "Laptop"], ["iPhone", "iPhone15C2"]]
        organization.save()
        DeviceFactory.create_batch(3, organization=organization)
        DeviceFactory(organization=organization, device_type="Android", device_os="Android 14")
        DeviceFactory(organization=organization, device_type="Gone", gone_at=timezone.now())
        DeviceFactory(device_type="Elsewhere")
        browser = scene.client("administrator")
        with django_assert_num_queries(9):
            words = text_of(browser.get(where).content.decode())
        assert (
            "iPhone 3 devices Add rule iPhone Android 1 device Add rule Android WindowsMail known to Exchange" in words
        )
        assert "Gone" not in words
        assert "Elsewhere" not in words
        words = text_of(posted(browser, where, step="classes", classes_of="DeviceOS", classes_query="ANDROID"))
        assert "Android 14 1 device" in words
        assert "iOS 17.5.1 21F90 3 devices" not in words

    def test_rows_come_and_go_and_nothing_entered_is_lost(self, scene: Scene, where: str) -> None:
        browser = scene.client("administrator")
        entered = rules(("DeviceType", "iPhone", "allow"), ("DeviceOS", "Android 9", "block"))
        html = posted(browser, where, step="add|iPad", default_level="block", **entered)
        assert 'name="rule_query" type="text" value="iPad"' in html
        assert 'name="rule_query" type="text" value="Android 9"' in html
        assert re.search(r'name="default_level" value="block"[^>]* checked', html)
        html = posted(browser, where, step="remove|0", **entered)
        assert 'value="iPhone"' not in html
        assert 'name="rule_query" type="text" value="Android 9"' in html
        html = posted(browser, where, step="row", **entered)
        assert html.count('name="rule_query"') == 3
        assert not PolicyVersion.objects.exists()

    @pytest.mark.parametrize(("step", "status"), [("remove|99", 200), ("remove|x", 400), ("remove", 400), ("fly", 400)])
    def test_a_row_that_is_not_there_is_not_removed(self, scene: Scene, where: str, step: str, status: int) -> None:
        entered = {**FORM, **rules(("DeviceType", "iPhone", "allow")), "step": step}
        answer = scene.client("administrator").post(where, entered)
        assert answer.status_code == status
        assert status == 400 or 'value="iPhone"' in answer.content.decode()


class TestSave:
    def test_all_values_arrive(self, scene: Scene, organization: ExchangeOrganization, where: str) -> None:
        browser = scene.client("administrator")
        html = posted(
            browser,
            where,
            default_level="allow",
            denial="block",
            manage_insert="on",
            user_mail_insert="Line one\r\nline two",
            manage_recipients="on",
            admin_mail_recipients="desk@contoso.com\r\n\r\n night@contoso.com ",
            **rules(("UserAgent", "Bad/1.0", "block"), ("DeviceType", "", "allow")),
        )
        answer = stepped(browser, where, html, "save", reason="As agreed.")
        assert answer["Location"] == where
        values, version = policy_current(organization)
        assert version is not None
        assert version.reason == "As agreed."
        assert values == OrganizationPolicyValues(
            default_level="allow",
            denial="block",
            user_mail_insert="Line one\nline two",
            admin_mail_recipients=("desk@contoso.com", "night@contoso.com"),
            rules=(RuleValues("UserAgent", "Bad/1.0", "block"),),
        )
        assert SyncRun.objects.get().connector == scene.connector

    def test_what_is_not_managed_is_left_alone(
        self, scene: Scene, organization: ExchangeOrganization, where: str
    ) -> None:
        browser = scene.client("administrator")
        html = posted(browser, where, denial="block", user_mail_insert="ignored", admin_mail_recipients="x@contoso.com")
        stepped(browser, where, html, "save", reason="x")
        values, _version = policy_current(organization)
        assert (values.user_mail_insert, values.admin_mail_recipients, values.default_level) == (None, None, None)

    @pytest.mark.parametrize(
        ("values", "sentence"),
        [
            ({"manage_insert": "on", "user_mail_insert": "x" * 300}, "300 characters long, 44 more than the 256"),
            ({"manage_recipients": "on", "admin_mail_recipients": "the desk"}, "“the desk” is not a mail address"),
            (rules(("DeviceType", "iPhone*", "block")), "Rule 1: “iPhone*” holds a wildcard (* or ?)"),
            (
                rules(("DeviceType", "iPhone", "block"), ("DeviceType", "iphone", "allow")),
                "Rule 2: DeviceType “iphone” has a rule already",
            ),
            (rules(("Colour", "red", "block")), "“Colour” is nothing that Exchange makes rules about"),
            ({"default_level": "deny"}, "Select a valid choice"),
            ({"denial": "allow"}, "Select a valid choice"),
        ],
    )
    def test_bad_input(self, scene: Scene, where: str, values: dict[str, Any], sentence: str) -> None:
        assert sentence in text_of(posted(scene.client("administrator"), where, 422, **values))
        assert not PolicyVersion.objects.exists()


class TestTightening:
    @pytest.fixture
    def two(self, organization: ExchangeOrganization) -> None:
        """One phone that had mail yesterday, one that had none for three months."""
        now = timezone.now()
        for number, days in enumerate((1, 90)):
            DeviceStatistics.objects.create(
                device=phone(organization, number), read_at=now, last_success_at=now - datetime.timedelta(days=days)
            )

    def test_it_shows_who_would_lose_mail_and_offers_to_keep_who_is_in_use(
        self, scene: Scene, organization: ExchangeOrganization, where: str, two: None
    ) -> None:
        browser = scene.client("administrator")
        html = posted(browser, where, default_level="quarantine")
        words = text_of(html)
        assert "2 devices of 2 would lose mail" in words
        assert "Allow access Quarantine" in words
        assert "Keep devices that are in use" in words
        until = (timezone.localdate() + datetime.timedelta(days=60)).isoformat()
        html = stepped(browser, where, html, "keep", keep_days="30", keep_until=until).content.decode()
        words = text_of(html)
        assert "1 device of 2 would lose mail" in words
        assert "1 device keeps its access for a while." in words
        assert "Person 001" in words
        assert "Person 000" not in words
        answer = stepped(browser, where, html, "save", reason="Slowly.")
        assert answer.status_code == 302
        kept = policy_current(organization)[0].grandfathering
        assert kept is not None
        assert kept.days == 30
        assert datetime.datetime.fromisoformat(kept.until).date().isoformat() == until
        facts = kept.facts()
        assert facts.decided - facts.synced_since == datetime.timedelta(days=30)
        assert PolicyVersion.objects.count() == 1  # one act, and one to undo

    def test_one_can_think_better_of_it(self, scene: Scene, where: str, two: None) -> None:
        browser = scene.client("administrator")
        html = posted(browser, where, default_level="block")
        until = (timezone.localdate() + datetime.timedelta(days=9)).isoformat()
        html = stepped(browser, where, html, "keep", keep_days="30", keep_until=until).content.decode()
        html = stepped(browser, where, html, "unkeep").content.decode()
        assert "2 devices of 2 would lose mail" in text_of(html)
        assert json.loads(hidden(html, "proposal"))["grandfathering"] is None

    @pytest.mark.parametrize(
        ("values", "sentence"),
        [
            ({"keep_days": "0", "keep_until": "2099-01-01"}, "Enter a number of days from 1 to 3650."),
            ({"keep_days": "30", "keep_until": "2020-01-01"}, "still to come, within ten years"),
            ({"keep_days": "30", "keep_until": "9999-12-31"}, "still to come, within ten years"),
            ({"keep_days": "30", "keep_until": "soon"}, "Enter a day such as 2027-01-31."),
            ({}, "This field is required."),
        ],
    )
    def test_keeping_needs_a_number_and_a_day(
        self, scene: Scene, where: str, two: None, values: dict[str, str], sentence: str
    ) -> None:
        browser = scene.client("administrator")
        html = posted(browser, where, default_level="block")
        answer = stepped(browser, where, html, "keep", **values)
        assert answer.status_code == 422
        assert sentence in answer.content.decode()

    @pytest.mark.parametrize(
        ("observed", "before", "after", "expected"),
        [
            ("Allow", None, "block", True),
            ("Allow", None, "allow", False),
            ("Block", None, "quarantine", False),
            ("Quarantine", None, "block", True),
            ("", None, "quarantine", True),
            ("Block", "allow", "quarantine", True),
            ("Allow", "block", "quarantine", False),
            ("Allow", "block", "block", False),
        ],
    )
    def test_the_offer_is_made_only_when_it_is_tightened(
        self,
        scene: Scene,
        organization: ExchangeOrganization,
        where: str,
        observed: str,
        before: str | None,
        after: str,
        expected: bool,
    ) -> None:
        organization.default_access_level = observed
        organization.save()
        if before:
            values = OrganizationPolicyValues(default_level=before)
            organization_policy_change(organization=organization, values=values, reason="x", actor=Actor("Ada"))
        html = posted(scene.client("administrator"), where, default_level=after, based_on="1" if before else "0")
        assert ("Keep devices that are in use" in html) is expected

    def test_devices_that_are_kept_stay_so_while_other_things_change(
        self, scene: Scene, organization: ExchangeOrganization, where: str
    ) -> None:
        kept = GrandfatheringValues(
            "2026-11-01T00:00:00+00:00", "2026-10-01T00:00:00+00:00", "2027-01-31T23:59:59+01:00", 31
        )
        values = OrganizationPolicyValues(default_level="block", grandfathering=kept)
        organization_policy_change(organization=organization, values=values, reason="x", actor=Actor("Ada"))
        browser = scene.client("administrator")
        html = posted(browser, where, default_level="block", denial="block", based_on="1")
        assert json.loads(hidden(html, "proposal"))["grandfathering"]["days"] == 31
        assert "keep their access until 31 Jan 2027" in html
        html = posted(browser, where, default_level="allow", based_on="1")
        assert json.loads(hidden(html, "proposal"))["grandfathering"] is None

    def test_it_is_undone_by_one_act(self, scene: Scene, organization: ExchangeOrganization, where: str) -> None:
        for level in ("allow", "block"):
            values = OrganizationPolicyValues(default_level=level)
            organization_policy_change(organization=organization, values=values, reason=level, actor=Actor("Ada"))
        browser = scene.client("administrator")
        history = browser.get(reverse("organization_policy_history", args=[organization.public_id])).content.decode()
        first = PolicyVersion.objects.get(number=1)
        back = reverse("policy_roll_back", args=[first.public_id])
        assert back in history
        html = browser.get(back).content.decode()
        assert "Default access level Block access Allow access" in text_of(html)
        assert "Keep devices that are in use" not in html
        browser.post(back, {"step": "save", "based_on": "2", "reason": "Too many calls."})
        assert policy_current(organization)[0].default_level == "allow"

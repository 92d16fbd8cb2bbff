"""Exchange on-premises access: the form, the search for groups, the review with who loses mail, the history."""

from __future__ import annotations

import csv
import datetime
import html as entities
import io
import json
import re
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from connectors.actors import SETUP, Actor
from connectors.graph.errors import TransientGraphError
from connectors.graph.records import GroupRecord
from connectors.models import DeviceSource, ExchangeOrganization, Tenant
from console.pages.downloads import cell, csv_download
from sync.models import DirectoryGroup, DirectoryUser, GroupMember, Mailbox, PolicyVersion, SyncRun
from sync.policies import policy_groups
from sync.policies.policy import GroupRef, TenantPolicyValues
from sync.policies.policy_services import policy_current, tenant_policy_change
from tests.console.conftest import Scene
from tests.factories import ConnectorFactory, DeviceFactory, OrganizationFactory, TenantFactory
from tests.sync.access import person_keys

pytestmark = pytest.mark.django_db

FORM = {
    "based_on": "0",
    "step": "review",
    "enabled": "on",
    "override_default_rule": "on",
    "target": "everyone",
    "unlicensed": "leaveAlone",
    "unknown_compliance": "noncompliant",
    "config_manager": "noncompliant",
    "stale": "noncompliant",
    "stale_days": "",
    "guard_devices": "10",
    "guard_percent": "5",
    "guard_at_most": "1000",
}
SALES = "11111111-1111-1111-1111-111111111111"


def text_of(html: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", html))


def hidden(html: str, name: str) -> str:
    found = re.search(rf'name="{name}" value="([^"]*)"', html)
    assert found is not None
    return entities.unescape(found[1])


def tenant_of(scene: Scene) -> Tenant:
    return scene.connector.organization.tenant


def address(scene: Scene, name: str = "tenant_policy") -> str:
    return reverse(name, args=[tenant_of(scene).public_id])


def phone(organization: ExchangeOrganization, number: int = 0, **values: Any) -> Any:
    """A device of a mailbox that exists."""
    now = timezone.now()
    mailbox = Mailbox.objects.create(
        organization=organization,
        guid=f"00000000-0000-0000-0000-{organization.pk:04}{number:08}",
        primary_smtp=f"p{number}@contoso.lab",
        read_at=now,
        changed_at=now,
    )
    return DeviceFactory(organization=organization, owner=mailbox, user_display_name=f"Person {number:03}", **values)


@pytest.fixture
def in_exchange(scene: Scene) -> ExchangeOrganization:
    """The organization, with Exchange as it is by default: everybody allowed."""
    organization = scene.connector.organization
    organization.default_access_level = "Allow"
    organization.settings_observed_at = organization.rules_observed_at = timezone.now()
    organization.save()
    return organization


class FakeGraph:
    """The two questions that a page asks of a directory."""

    def __init__(self, groups: dict[str, str], error: Exception | None = None) -> None:
        self.groups, self.error, self.asked = groups, error, list[str]()

    @contextmanager
    def open(self, tenant: Tenant, should_stop: Any, *, options: Any) -> Any:
        yield self

    def groups_search(self, text: str, limit: int) -> tuple[GroupRecord, ...]:
        self.asked.append(text)
        if self.error:
            raise self.error
        return tuple(
            GroupRecord(key, name) for key, name in self.groups.items() if name.lower().startswith(text.lower())
        )[:limit]

    def group(self, group_id: str) -> GroupRecord | None:
        self.asked.append(group_id)
        if self.error:
            raise self.error
        return GroupRecord(group_id, self.groups[group_id]) if group_id in self.groups else None


@pytest.fixture
def graph(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> FakeGraph:
    """The tenant's source is Graph, answered by a fake of our own interface."""
    DeviceSource.objects.create(tenant=tenant_of(scene), kind=DeviceSource.Kind.GRAPH)
    fake = FakeGraph({SALES: "Sales", "2222": "Sales <b>managers</b>"})
    for function in (policy_groups.groups_search, policy_groups.groups_resolve):
        defaults: Any = function.__kwdefaults__
        monkeypatch.setitem(defaults, "open_source", fake.open)
    return fake


class TestPage:
    def test_the_words_are_those_of_the_admin_center(self, scene: Scene) -> None:
        words = text_of(scene.client("reader").get(address(scene)).content.decode())
        for part in (
            "Exchange on-premises access",
            "Enable Exchange on-premises access control",
            "Always allow enrolled and compliant devices",
            "Included groups",
            "Excluded groups",
            "Exclusion wins",
            "Never changed: these are the defaults.",
            "No source of device records is set up",
        ):
            assert part in words

    @pytest.mark.parametrize(("who", "may"), [("reader", False), ("operator", False), ("administrator", True)])
    def test_everybody_sees_it_and_administrators_change_it(self, scene: Scene, who: str, may: bool) -> None:
        html = scene.client(who).get(address(scene)).content.decode()
        assert ('<fieldset class="plain" disabled>' in html) is not may
        assert ("Review and save</button><a" in html) is may

    def test_who_sees_one_tenant_is_led_to_its_policy_and_others_to_the_list(self, scene: Scene) -> None:
        assert scene.client("reader").get(reverse("policies"))["Location"] == address(scene)
        other = TenantFactory(name="Fabrikam")
        tenant_policy_change(
            tenant=other,
            values=TenantPolicyValues(enabled=True, target_everyone=True),
            reason="x",
            actor=SETUP,
        )
        words = text_of(scene.client("superuser").get(reverse("policies")).content.decode())
        assert re.search(r"Contoso Off 0 0 Never", words)
        assert re.search(r"Fabrikam On All users 0", words)

    def test_the_number_of_queries_does_not_grow(self, scene: Scene, django_assert_num_queries: Any) -> None:
        browser, superuser = scene.client("reader"), scene.client("superuser")

        def more(count: int) -> None:
            for _number in range(count):
                OrganizationFactory(tenant=tenant_of(scene))
                other = TenantFactory()
                PolicyVersion.objects.create(
                    tenant=other, number=1, content={"enabled": True}, made_at=timezone.now(), made_by_name="Ada"
                )

        more(2)
        for count in (0, 12):
            more(count)
            with django_assert_num_queries(8):
                assert browser.get(address(scene)).status_code == 200
            with django_assert_num_queries(7):
                assert superuser.get(reverse("policies")).status_code == 200


class TestGroups:
    def test_a_search_offers_what_is_found_and_keeps_what_was_entered(self, scene: Scene, graph: FakeGraph) -> None:
        browser = scene.client("administrator")
        entered = {
            **FORM,
            "step": "search_included",
            "included_query": "sal",
            "stale_days": "31",
            "included_groups": ["3333|Kept"],
        }
        answer = browser.post(address(scene), entered)
        html = answer.content.decode()
        assert answer.status_code == 200
        assert f'value="{SALES}|Sales"' in html
        assert "Sales &lt;b&gt;managers&lt;/b&gt;" in html
        assert 'value="3333|Kept" checked' in html
        assert 'name="stale_days" value="31"' in html
        assert not PolicyVersion.objects.exists()

    def test_a_script_gets_the_results_alone(self, scene: Scene, graph: FakeGraph) -> None:
        answer = scene.client("administrator").get(
            address(scene, "tenant_policy_groups"),
            {"which": "excluded", "excluded_query": "Sales"},
            headers={"HX-Request": "true"},
        )
        html = answer.content.decode()
        assert html.startswith('<div class="picker-results" id="excluded-results"')
        assert f'name="excluded_groups" value="{SALES}|Sales"' in html

    def test_what_is_no_search(self, scene: Scene, graph: FakeGraph) -> None:
        browser, where = scene.client("administrator"), address(scene, "tenant_policy_groups")
        assert browser.get(where, {"which": "others"}, headers={"HX-Request": "true"}).status_code == 400
        assert browser.get(where, {"which": "included"}).status_code == 302
        assert graph.asked == []

    def test_a_directory_that_does_not_answer_is_no_obstacle(self, scene: Scene, graph: FakeGraph) -> None:
        graph.error = TransientGraphError("no answer", code="graph_unreachable")
        browser = scene.client("administrator")
        html = browser.post(
            address(scene), {**FORM, "step": "search_included", "included_query": SALES}
        ).content.decode()
        assert "The directory could not be asked" in html
        assert f'value="{SALES}|"' in html
        answer = browser.post(address(scene), {**FORM, "target": "groups", "included_groups": [f"{SALES}|"]})
        assert answer.status_code == 200
        assert "What changes" in answer.content.decode()

    def test_without_a_directory_a_group_is_entered_by_its_id(self, scene: Scene) -> None:
        DirectoryGroup.objects.create(tenant=tenant_of(scene), source_id="known", name="Known group")
        browser = scene.client("administrator")
        html = browser.post(
            address(scene), {**FORM, "step": "search_excluded", "excluded_query": "known"}
        ).content.decode()
        assert 'value="known|Known group"' in html
        html = browser.post(
            address(scene), {**FORM, "step": "search_excluded", "excluded_query": "abc"}
        ).content.decode()
        assert 'value="abc|"' in html
        assert "Use as the group" in html

    def test_a_group_that_the_directory_does_not_have_is_refused(self, scene: Scene, graph: FakeGraph) -> None:
        values = {**FORM, "target": "groups", "included_groups": ["9999|Marketing", f"{SALES}|Old name"]}
        answer = scene.client("administrator").post(address(scene), values)
        assert answer.status_code == 422
        assert "There is no group “Marketing” in the directory." in answer.content.decode()

    def test_a_group_gets_the_name_it_has_now(self, scene: Scene, graph: FakeGraph) -> None:
        values = {**FORM, "target": "groups", "included_groups": [f"{SALES}|Old name"]}
        html = scene.client("administrator").post(address(scene), values).content.decode()
        assert json.loads(hidden(html, "proposal"))["included_groups"] == [{"id": SALES, "name": "Sales"}]

    def test_groups_that_were_pushed_are_the_directory(self, scene: Scene) -> None:
        DeviceSource.objects.create(tenant=tenant_of(scene), kind=DeviceSource.Kind.PUSHED)
        refs = (GroupRef("abc", "Typed"),)
        assert policy_groups.groups_resolve(tenant_of(scene), refs) == refs
        DirectoryGroup.objects.create(tenant=tenant_of(scene), source_id="known", name="Known group")
        with pytest.raises(Exception, match="no group “Typed”"):
            policy_groups.groups_resolve(tenant_of(scene), refs)
        assert policy_groups.groups_resolve(tenant_of(scene), refs, before=["ABC"]) == refs


class TestReview:
    def reviewed(self, browser: Client, scene: Scene, **values: Any) -> str:
        answer = browser.post(address(scene), {**FORM, **values})
        assert answer.status_code == 200, text_of(answer.content.decode())
        return str(answer.content.decode())

    def saved(self, browser: Client, scene: Scene, html: str, reason: str = "Phones must enroll.", **more: str) -> Any:
        form = {"proposal": hidden(html, "proposal"), "based_on": hidden(html, "based_on"), "reason": reason}
        return browser.post(address(scene), {**form, "step": "save", **more})

    def test_a_change_is_reviewed_and_saved_with_a_reason(
        self, scene: Scene, in_exchange: ExchangeOrganization
    ) -> None:
        browser = scene.client("administrator")
        html = self.reviewed(browser, scene, stale_days="30")
        words = text_of(html)
        assert "Enable Exchange on-premises access control Off On" in words
        assert "Days without a check-in Never 30" in words
        assert "Nobody would lose mail: 0 devices were looked at" in words
        assert not PolicyVersion.objects.exists()
        answer = self.saved(browser, scene, html)
        assert answer["Location"] == address(scene)
        values, version = policy_current(tenant_of(scene))
        assert version is not None
        assert values == TenantPolicyValues(enabled=True, target_everyone=True, stale_days=30)
        assert (version.reason, version.made_by_name) == ("Phones must enroll.", "administrator")
        assert SyncRun.objects.get().kind == SyncRun.Kind.APPLY
        words = text_of(browser.get(answer["Location"]).content.decode())
        assert "Version 1 of Contoso was saved. A run brings it to Exchange now." in words

    def test_who_would_lose_mail_is_told_before(self, scene: Scene, in_exchange: ExchangeOrganization) -> None:
        """Nobody is enrolled, everybody is included: every phone would be denied."""
        for number in range(3):
            phone(in_exchange, number, device_model="=cmd()")
        DeviceFactory(organization=in_exchange, access_state="Blocked", user_display_name="No mailbox known")
        browser = scene.client("administrator")
        html = self.reviewed(browser, scene)
        words = text_of(html)
        assert "3 devices of 4 would lose mail" in words
        assert "They belong to 3 mailboxes." in words
        assert "Not enrolled: 3" in words
        assert "For now nobody would be denied at all: no source of device records is set up" in words
        assert re.search(r"Person 000 Phone iPhone Not known Allow access Block access Not enrolled", words)
        answer = browser.post(address(scene), {"proposal": hidden(html, "proposal"), "based_on": "0", "step": "csv"})
        rows = list(csv.reader(io.StringIO(b"".join(answer).decode("utf-8-sig"))))
        assert answer["Content-Disposition"] == 'attachment; filename="gatehouse-preview-Contoso.csv"'
        assert rows[0][:3] == ["Organization", "Person", "Mailbox"]
        assert [row[1] for row in rows[1:]] == ["Person 000", "Person 001", "Person 002"]
        assert rows[1][2] == "p0@contoso.lab"
        assert rows[1][4] == "'=cmd()"
        assert not PolicyVersion.objects.exists()

    def test_beyond_the_limit_it_says_that_denials_wait(self, scene: Scene, in_exchange: ExchangeOrganization) -> None:
        for number in range(3):
            phone(in_exchange, number)
        browser = scene.client("administrator")
        assert "wait until somebody approves" not in self.reviewed(browser, scene)
        assert "wait until somebody approves" in self.reviewed(browser, scene, guard_devices="2")
        in_all = {"guard_devices": "2", "guard_percent": "100"}
        assert "wait until somebody approves" not in self.reviewed(browser, scene, **in_all, guard_at_most="")
        assert "wait until somebody approves" in self.reviewed(browser, scene, **in_all, guard_at_most="2")

    def test_members_of_groups_count_as_the_proposal_has_them(
        self, scene: Scene, in_exchange: ExchangeOrganization
    ) -> None:
        tenant, now = tenant_of(scene), timezone.now()
        for number in range(2):
            phone(in_exchange, number)
            user = DirectoryUser.objects.create(
                tenant=tenant, source_id=f"u{number}", mail=f"p{number}@contoso.lab", upn=f"p{number}@contoso.lab",
                proxies=[f"SMTP:p{number}@contoso.lab"], changed_at=now,
            )  # fmt: skip
            person_keys(user)
        group = DirectoryGroup.objects.create(tenant=tenant, source_id="sales", name="Sales", read_at=now)
        GroupMember.objects.create(group=group, user_source_id="u0")
        DirectoryGroup.objects.create(tenant=tenant, source_id="new", name="New")
        browser = scene.client("administrator")
        words = text_of(self.reviewed(browser, scene, target="groups", included_groups=["sales|Sales"]))
        assert "1 device of 2 would lose mail" in words
        words = text_of(self.reviewed(browser, scene, excluded_groups=["sales|Sales", "new|New"]))
        assert "1 device of 2 would lose mail" in words
        assert "not known yet, so that they are not in the numbers: New." in words

    def test_the_list_is_short_and_the_file_whole(self, scene: Scene, in_exchange: ExchangeOrganization) -> None:
        for number in range(203):
            phone(in_exchange, number)
        browser = scene.client("administrator")
        html = self.reviewed(browser, scene)
        assert "203 devices of 203 would lose mail" in text_of(html)
        assert html.count("Not enrolled</td>") == 200
        assert "The first 200 of 203; the file holds all." in text_of(html)
        answer = browser.post(address(scene), {"proposal": hidden(html, "proposal"), "based_on": "0", "step": "csv"})
        assert len(b"".join(answer).decode().splitlines()) == 204

    def test_the_number_of_queries_does_not_grow_with_the_devices(
        self, scene: Scene, in_exchange: ExchangeOrganization, django_assert_max_num_queries: Any
    ) -> None:
        browser = scene.client("administrator")
        for number in range(40):
            phone(in_exchange, number)
        with django_assert_max_num_queries(40):
            self.reviewed(browser, scene)

    def test_off_before_and_after_nobody_is_counted(self, scene: Scene) -> None:
        browser = scene.client("administrator")
        html = self.reviewed(browser, scene, enabled="", guard_devices="50")
        assert "would lose mail" not in html
        assert self.saved(browser, scene, html).status_code == 302
        assert not SyncRun.objects.exists()

    def test_without_a_reason_nothing_is_saved(self, scene: Scene) -> None:
        browser = scene.client("administrator")
        html = self.reviewed(browser, scene)
        answer = self.saved(browser, scene, html, reason=" ")
        assert answer.status_code == 422
        assert "Say why, for those who read the history later." in answer.content.decode()
        assert not PolicyVersion.objects.exists()

    def test_one_can_go_back_and_change_something_else(self, scene: Scene) -> None:
        browser = scene.client("administrator")
        html = self.reviewed(browser, scene, stale_days="77")
        again = self.saved(browser, scene, html, step="edit").content.decode()
        assert 'name="stale_days" value="77"' in again
        assert 'name="based_on" value="0"' in again

    def test_somebody_who_was_faster_is_named(self, scene: Scene) -> None:
        browser = scene.client("administrator")
        html = self.reviewed(browser, scene)
        other = scene.client("superuser")
        self.saved(other, scene, self.reviewed(other, scene, stale_days="5"))
        answer = self.saved(browser, scene, html)
        assert answer.status_code == 422
        assert "saved version 1 in the meantime" in answer.content.decode()
        assert PolicyVersion.objects.count() == 1

    def test_nothing_to_save_says_so(self, scene: Scene) -> None:
        browser = scene.client("administrator")
        html = self.reviewed(browser, scene, enabled="", target="groups")
        assert "Nothing differs from what is in force." in html
        assert self.saved(browser, scene, html).status_code == 302
        assert not PolicyVersion.objects.exists()

    @pytest.mark.parametrize(
        ("values", "sentence"),
        [
            ({"target": "groups"}, "Access control would be on and reach nobody"),
            ({"stale_days": "0"}, "0 is outside of what is possible"),
            ({"stale_days": "soon"}, "Enter a whole number."),
            ({"guard_percent": "101"}, "from 0 to 100"),
            ({"guard_devices": ""}, "This field is required."),
            ({"guard_at_most": "5"}, "Enter at least the approval limit in devices, which is 10, or nothing."),
            ({"unlicensed": "burn"}, "Select a valid choice"),
            ({"excluded_groups": ["two words|x"]}, "is not the ID of a group"),
        ],
    )
    def test_bad_input(self, scene: Scene, values: dict[str, Any], sentence: str) -> None:
        answer = scene.client("administrator").post(address(scene), {**FORM, **values})
        assert answer.status_code == 422
        assert sentence in text_of(answer.content.decode())

    @pytest.mark.parametrize(
        "form",
        [
            {"step": "review"},
            {"based_on": "x"},
            {"based_on": "-1"},
            {"based_on": "0", "step": "save", "proposal": "{"},
            {"based_on": "0", "step": "save", "proposal": "[]"},
            {"based_on": "0", "step": "save", "proposal": '{"stale_days": "x"}'},
            {"based_on": "0", "step": "save", "proposal": '{"included_groups": [{}]}'},
            {"based_on": "0", "step": "save", "proposal": "[" * 100_000},
            {"based_on": "0", "step": "csv", "proposal": '{"unlicensed": "burn"}'},
            {"based_on": "0", "step": "dance", "proposal": "{}"},
        ],
    )
    def test_what_no_form_of_ours_sends(self, scene: Scene, form: dict[str, str]) -> None:
        assert scene.client("administrator").post(address(scene), form).status_code == 400


class TestHistory:
    @pytest.fixture
    def three(self, scene: Scene) -> list[PolicyVersion]:
        on = TenantPolicyValues(enabled=True, target_everyone=True)
        for number, values in enumerate((on, replace(on, stale_days=30), replace(on, stale_days=60)), start=1):
            tenant_policy_change(
                tenant=tenant_of(scene), values=values, reason=f"Reason {number} <b>", actor=Actor("Ada")
            )
        return list(PolicyVersion.objects.order_by("number"))

    def test_who_when_why_and_what(self, scene: Scene, three: list[PolicyVersion]) -> None:
        words = text_of(scene.client("reader").get(address(scene, "tenant_policy_history")).content.decode())
        assert re.search(r"Version 3 In force .* By Ada Why Reason 3 &lt;b&gt;", words)
        assert "Days without a check-in 30 60" in words
        assert "Days without a check-in Never 30" in words
        assert "Roll back" not in words

    def test_rolling_back_shows_first_what_it_does(self, scene: Scene, three: list[PolicyVersion]) -> None:
        browser = scene.client("administrator")
        assert browser.get(address(scene, "tenant_policy_history")).content.decode().count("Roll back") == 2
        where = reverse("policy_roll_back", args=[three[0].public_id])
        html = browser.get(where).content.decode()
        assert "Days without a check-in 60 Never" in text_of(html)
        answer = browser.post(where, {"step": "save", "based_on": "3", "reason": "Too strict."})
        assert answer["Location"] == address(scene, "tenant_policy_history")
        newest = PolicyVersion.objects.get(number=4)
        assert (newest.rolled_back_to, newest.reason) == (1, "Too strict.")
        assert "Rolled back to version 1" in text_of(browser.get(answer["Location"]).content.decode())

    def test_a_roll_back_needs_a_reason_and_the_newest_state(self, scene: Scene, three: list[PolicyVersion]) -> None:
        browser, where = scene.client("administrator"), reverse("policy_roll_back", args=[three[0].public_id])
        assert browser.post(where, {"step": "save", "based_on": "3", "reason": ""}).status_code == 422
        answer = browser.post(where, {"step": "save", "based_on": "2", "reason": "x"})
        assert answer.status_code == 422
        assert "saved version 3 in the meantime" in answer.content.decode()
        assert browser.post(where, {"step": "fly", "based_on": "3"}).status_code == 400
        assert PolicyVersion.objects.count() == 3

    def test_the_one_in_force_leads_back(self, scene: Scene, three: list[PolicyVersion]) -> None:
        answer = scene.client("administrator").get(reverse("policy_roll_back", args=[three[2].public_id]))
        assert answer["Location"] == address(scene, "tenant_policy_history")

    def test_long_histories_have_pages_and_few_queries(self, scene: Scene, django_assert_num_queries: Any) -> None:
        for number in range(1, 46):
            PolicyVersion.objects.create(
                tenant=tenant_of(scene),
                number=number,
                content={"stale_days": number},
                made_at=timezone.now() - datetime.timedelta(days=50 - number),
                made_by_name="Ada",
            )
        browser = scene.client("reader")
        with django_assert_num_queries(8):
            words = text_of(browser.get(address(scene, "tenant_policy_history"), {"page": "2"}).content.decode())
        assert "21–40 of 45" in words
        assert "Version 25" in words
        assert "In force" not in words
        assert "Days without a check-in 5 6" in words


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("=1+1", "'=1+1"),
        ("+49", "'+49"),
        ("-x", "'-x"),
        ("@a", "'@a"),
        ("\tx", "'\tx"),
        ("＝1", "'＝1"),
        (None, ""),
        (3, "3"),
        ("a=", "a="),
    ],
)
def test_no_cell_of_a_file_is_a_formula(value: object, expected: str) -> None:
    assert cell(value) == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("../../etc/passwd.csv", 'attachment; filename="..-..-etc-passwd.csv"'),
        ("..\\a.csv", 'attachment; filename="..-a.csv"'),
        ('a"; filename="b.exe', 'attachment; filename="a\\"; filename=\\"b.exe"'),
        ("a\r\nSet-Cookie: b=c.csv", "attachment; filename*=utf-8''a%0D%0ASet-Cookie%3A%20b%3Dc.csv"),
    ],
)
def test_the_name_of_a_file_is_a_name(name: str, expected: str) -> None:
    assert csv_download(name, ["a"], [])["Content-Disposition"] == expected


def test_connectors_of_other_tenants_are_not_counted(scene: Scene, in_exchange: ExchangeOrganization) -> None:
    other = ConnectorFactory().organization
    phone(other, 1)
    html = scene.client("administrator").post(address(scene), FORM).content.decode()
    assert "Nobody would lose mail: 0 devices were looked at" in text_of(html)

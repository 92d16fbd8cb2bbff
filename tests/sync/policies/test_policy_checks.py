"""What cannot be a policy, and in which words that is said."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from django.core.exceptions import ValidationError

from sync.policies.policy import (
    GrandfatheringValues,
    GroupRef,
    MailTemplateValues,
    NotificationValues,
    OrganizationPolicyValues,
    RuleValues,
    TenantPolicyValues,
)
from sync.policies.policy_checks import organization_values_clean, template_warnings, tenant_values_clean

SALES = GroupRef("11111111-1111-1111-1111-111111111111", "Sales")


def refused(clean: Any, values: Any) -> dict[str, list[str]]:
    with pytest.raises(ValidationError) as refusal:
        clean(values)
    return dict(refusal.value.message_dict)


class TestTenant:
    @pytest.mark.parametrize(
        ("name", "value", "sentence"),
        [
            pytest.param("enabled", "yes", "neither on nor off", id="a switch that is none"),
            pytest.param("unlicensed", "maybe", "Choose one of: leaveAlone, deny, asOthers", id="unknown choice"),
            pytest.param("unknown_compliance", "", "Choose one of: compliant, noncompliant", id="empty choice"),
            pytest.param("config_manager", "deny", "Choose one of", id="choice of another setting"),
            pytest.param("stale_days", 0, "from 1 to 3650", id="stale at once"),
            pytest.param("stale_days", 3651, "3651 is outside of what is possible", id="stale after ten years"),
            pytest.param("stale_days", True, "True is outside", id="a switch for a number"),
            pytest.param("guard_devices", -1, "from 0 to 1000000", id="negative limit"),
            pytest.param("guard_percent", 100.5, "from 0 to 100", id="more than all"),
            pytest.param("guard_percent", float("nan"), "from 0 to 100", id="no number"),
            pytest.param("guard_at_most", 1_000_001, "from 0 to 1000000", id="limit beyond any"),
            pytest.param(
                "guard_at_most", 9, "at least the approval limit in devices, which is 10", id="below the other"
            ),
            pytest.param("included_groups", (GroupRef("two words"),), "is not the ID of a group", id="id with a blank"),
            pytest.param("excluded_groups", (GroupRef(""),), "is not the ID of a group", id="no id"),
            pytest.param(
                "excluded_groups", tuple(GroupRef(f"g{n}") for n in range(201)), "201 groups are too many", id="many"
            ),
        ],
    )
    def test_refused(self, name: str, value: Any, sentence: str) -> None:
        found = refused(tenant_values_clean, replace(TenantPolicyValues(), **{name: value}))
        assert list(found) == [name]
        assert sentence in found[name][0]

    def test_control_that_reaches_nobody_is_refused(self) -> None:
        found = refused(tenant_values_clean, TenantPolicyValues(enabled=True))
        assert "reach nobody" in found["included_groups"][0]
        assert tenant_values_clean(TenantPolicyValues(enabled=True, target_everyone=True)).enabled
        assert tenant_values_clean(TenantPolicyValues(enabled=True, included_groups=(SALES,))).enabled

    def test_no_limit_at_most_is_one_choice(self) -> None:
        assert TenantPolicyValues().guard_at_most == 1000
        assert tenant_values_clean(TenantPolicyValues(guard_at_most=None)).guard_at_most is None
        assert TenantPolicyValues.from_json({"guard_devices": 20}).guard_at_most == 1000

    def test_a_group_counts_once_and_text_is_trimmed(self) -> None:
        values = TenantPolicyValues(included_groups=(GroupRef(" ABC ", " Sales\0 "), GroupRef("abc", "Again")))
        assert tenant_values_clean(values).included_groups == (GroupRef("ABC", "Sales\ufffd"),)

    def test_everything_that_is_wrong_is_said_at_once(self) -> None:
        assert set(refused(tenant_values_clean, TenantPolicyValues(stale_days=0, guard_devices=-1))) == {
            "stale_days",
            "guard_devices",
        }


def rule(query: str, characteristic: str = "DeviceType", level: str = "block") -> RuleValues:
    return RuleValues(characteristic, query, level)


class TestOrganization:
    @pytest.mark.parametrize(
        ("length", "over"), [(257, "1 more than the 256"), (300, "44 more than the 256")], ids=["one", "44"]
    )
    def test_an_insert_that_is_too_long_says_by_how_many(self, length: int, over: str) -> None:
        found = refused(organization_values_clean, OrganizationPolicyValues(user_mail_insert="x" * length))
        assert f"{length} characters long, {over}" in found["user_mail_insert"][0]

    def test_an_insert_is_counted_as_exchange_does(self) -> None:
        organization_values_clean(OrganizationPolicyValues(user_mail_insert="📱" * 128))
        assert refused(organization_values_clean, OrganizationPolicyValues(user_mail_insert="📱" * 129))
        assert organization_values_clean(OrganizationPolicyValues(user_mail_insert="a\r\nb")).user_mail_insert == "a\nb"

    @pytest.mark.parametrize(
        ("rules", "sentence"),
        [
            pytest.param((rule("iPhone*"),), "Rule 1: “iPhone*” holds a wildcard", id="star"),
            pytest.param((rule("iPhone?"),), "compares the whole value exactly", id="question mark"),
            pytest.param((rule(" "),), "Rule 1: the value is missing", id="empty"),
            pytest.param((rule("x" * 513),), "513 characters long", id="long"),
            pytest.param((rule("iPhone", "DeviceName"),), "“DeviceName” is nothing that Exchange", id="characteristic"),
            pytest.param((rule("iPhone", level="deny"),), "“deny” is no access level", id="level"),
            pytest.param(
                (rule("iPhone"), rule("IPHONE", "devicetype", "allow")),
                "Rule 2: “devicetype” is nothing",
                id="characteristic in another case",
            ),
            pytest.param(
                (rule("iPhone"), rule("IPHONE", level="allow")),
                "Rule 2: DeviceType “IPHONE” has a rule already",
                id="twice",
            ),
        ],
    )
    def test_rules_refused(self, rules: tuple[RuleValues, ...], sentence: str) -> None:
        found = refused(organization_values_clean, OrganizationPolicyValues(rules=rules))
        assert sentence in found["rules"][0]

    @pytest.mark.parametrize(
        ("values", "key", "sentence"),
        [
            ({"default_level": "deny"}, "default_level", "Choose one of: allow, block, quarantine"),
            ({"denial": "allow"}, "denial", "Choose one of: block, quarantine"),
            ({"admin_mail_recipients": ("desk@contoso.com", "the desk")}, "admin_mail_recipients", "“the desk” is not"),
            (
                {"admin_mail_recipients": tuple(f"p{n}@contoso.com" for n in range(101))},
                "admin_mail_recipients",
                "101 recipients are too many",
            ),
        ],
    )
    def test_refused(self, values: dict[str, Any], key: str, sentence: str) -> None:
        found = refused(organization_values_clean, OrganizationPolicyValues(**values))
        assert sentence in found[key][0]

    def test_a_recipient_counts_once_and_none_is_left_alone(self) -> None:
        values = OrganizationPolicyValues(admin_mail_recipients=("Desk@contoso.com", "desk@contoso.com "))
        assert organization_values_clean(values).admin_mail_recipients == ("Desk@contoso.com",)
        assert organization_values_clean(OrganizationPolicyValues()).admin_mail_recipients is None
        assert organization_values_clean(OrganizationPolicyValues(admin_mail_recipients=())).admin_mail_recipients == ()

    @pytest.mark.parametrize(
        "times",
        [
            ("2026-11-01T00:00:00+00:00", "2026-10-01T00:00:00+00:00", "2026-10-31T00:00:00+00:00"),
            ("2026-11-01T00:00:00+00:00", "2026-12-01T00:00:00+00:00", "2026-12-31T00:00:00+00:00"),
            ("2026-11-01T00:00:00", "2026-10-01T00:00:00+00:00", "2026-12-31T00:00:00+00:00"),
            ("yesterday", "2026-10-01T00:00:00+00:00", "2026-12-31T00:00:00+00:00"),
        ],
        ids=["ends before it begins", "since the future", "no zone", "no time"],
    )
    def test_keeping_devices_needs_times_in_order(self, times: tuple[str, str, str]) -> None:
        kept = GrandfatheringValues(*times, days=30)
        assert "grandfathering" in refused(organization_values_clean, OrganizationPolicyValues(grandfathering=kept))


class TestNotification:
    @pytest.mark.parametrize(
        ("values", "key", "sentence"),
        [
            ({"enrollment_link": "enroll.contoso.com"}, "notification.enrollment_link", "beginning with https://"),
            ({"enrollment_link": "javascript:alert(1)"}, "notification.enrollment_link", "not the address of a page"),
            ({"enrollment_link": "https://[::1"}, "notification.enrollment_link", "not the address of a page"),
            ({"enrollment_link": "https://a b"}, "notification.enrollment_link", "not the address of a page"),
            ({"enrollment_link": "https://a/" + "x" * 2000}, "notification.enrollment_link", "2000 are the most"),
            ({"repeat_days": 366}, "notification.repeat_days", "from 0 to 365"),
            ({"language": "de"}, "notification.language", "Choose one of: en, zh-hant"),
            ({"help_contact": "x" * 501}, "notification.help_contact", "501 characters long"),
            (
                {"templates": {"en": MailTemplateValues("", "Dear {{persn}}")}},
                "en.body",
                "Line 1: There is no placeholder “persn”. Did you mean {{person}}?",
            ),
            ({"templates": {"en": MailTemplateValues("{{what}}", "x")}}, "en.subject", "no placeholder “what”"),
            ({"templates": {"en": MailTemplateValues("x" * 201, "x")}}, "en.subject", "longer than 200"),
            ({"templates": {"zh-hant": MailTemplateValues("", "\n{{person")}}, "zh-hant.body", "not complete"),
            ({"templates": {"de": MailTemplateValues("Hallo", "Hallo")}}, "notification.language", "Choose one of"),
        ],
    )
    def test_refused(self, values: dict[str, Any], key: str, sentence: str) -> None:
        found = refused(organization_values_clean, OrganizationPolicyValues(notification=NotificationValues(**values)))
        assert sentence in found[key][0]

    def test_a_part_left_empty_stands_for_the_built_in_text(self) -> None:
        values = NotificationValues(
            templates={"en": MailTemplateValues("Subject alone", ""), "zh-hant": MailTemplateValues("", " ")}
        )
        clean = organization_values_clean(OrganizationPolicyValues(notification=values)).notification
        assert clean.templates == {"en": MailTemplateValues("Subject alone", "")}

    def test_a_script_is_no_error_and_is_told(self) -> None:
        body = "{{enrollment_link}}\n<script>alert(1)</script>"
        values = NotificationValues(templates={"en": MailTemplateValues("", body)})
        organization_values_clean(OrganizationPolicyValues(notification=values))
        assert template_warnings("", body) == [
            "Line 2: HTML is not sent: <script> will be left out. Use Markdown instead."
        ]

    def test_a_text_without_a_link_is_told(self) -> None:
        assert "no link for enrolling" in template_warnings("x", "Come to the desk.")[0]
        assert template_warnings("", "") == []

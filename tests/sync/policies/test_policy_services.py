"""Versions of policies: made, numbered, compared, rolled back; and the runs that bring them to Exchange."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest
from django.core.exceptions import ValidationError
from django.db import connection, connections

from connectors.actors import Actor
from connectors.models import Connector, ExchangeOrganization, Tenant
from sync.models import PolicyVersion, SyncRun
from sync.policies.policy import (
    GroupRef,
    MailTemplateValues,
    NotificationValues,
    OrganizationPolicyValues,
    RuleValues,
    TenantPolicyValues,
)
from sync.policies.policy_rows import organization_policy, tenant_policy
from sync.policies.policy_services import (
    organization_policy_change,
    policy_current,
    policy_roll_back,
    tenant_policy_change,
)
from sync.policies.policy_words import differences
from tests.factories import ConnectorFactory, OrganizationFactory, RunFactory, TenantFactory, UserFactory

pytestmark = pytest.mark.django_db

ADA = Actor(name="Ada")
ON = TenantPolicyValues(enabled=True, target_everyone=True)


@pytest.fixture
def connector() -> Connector:
    return ConnectorFactory(organization=OrganizationFactory(tenant=TenantFactory(name="Contoso")))  # type: ignore[no-any-return]


@pytest.fixture
def organization(connector: Connector) -> ExchangeOrganization:
    return connector.organization


@pytest.fixture
def tenant(organization: ExchangeOrganization) -> Tenant:
    return organization.tenant


class TestVersions:
    def test_before_the_first_there_are_the_defaults(self, organization: ExchangeOrganization) -> None:
        assert policy_current(organization) == (OrganizationPolicyValues(), None)
        assert policy_current(organization.tenant) == (TenantPolicyValues(), None)

    def test_a_change_is_a_version_with_who_when_and_why(self, tenant: Tenant) -> None:
        user = UserFactory(username="ada")
        change = tenant_policy_change(
            tenant=tenant, values=ON, reason=" Phones must enroll. ", actor=Actor("Ada", user.pk)
        )
        version = change.version
        assert change.is_changed
        assert version is not None
        assert (version.number, version.made_by, version.made_by_name, version.reason, version.rolled_back_to) == (
            1, user, "Ada", "Phones must enroll.", None,
        )  # fmt: skip
        assert version.made_at.tzinfo is not None
        assert policy_current(tenant) == (ON, version)
        assert tenant_policy(tenant.pk) == ON

    def test_every_value_survives_the_table(self, organization: ExchangeOrganization) -> None:
        values = OrganizationPolicyValues(
            default_level="quarantine",
            rules=(RuleValues("DeviceModel", "iPhone15C2", "allow"),),
            user_mail_insert="Call the desk. 請聯絡服務台。",
            admin_mail_recipients=("desk@contoso.com",),
            denial="block",
            notification=NotificationValues(
                enabled=True,
                language="zh-hant",
                enrollment_link="https://enroll.contoso.com/",
                help_contact="the desk",
                repeat_days=3,
                templates={"en": MailTemplateValues("Hello", "Hello {{person}}: {{enrollment_link}}")},
            ),
        )
        organization_policy_change(organization=organization, values=values, reason="x", actor=ADA)
        assert policy_current(organization)[0] == values == organization_policy(organization.pk)

    def test_no_change_saves_no_version(self, tenant: Tenant) -> None:
        assert not tenant_policy_change(tenant=tenant, values=TenantPolicyValues(), reason="", actor=ADA).is_changed
        first = tenant_policy_change(tenant=tenant, values=ON, reason="x", actor=ADA)
        SyncRun.objects.all().delete()
        again = tenant_policy_change(tenant=tenant, values=ON, reason="again", actor=ADA)
        assert (again.is_changed, again.version, again.requests) == (False, first.version, ())
        assert PolicyVersion.objects.count() == 1
        assert not SyncRun.objects.exists()

    @pytest.mark.parametrize("reason", ["", "  \n", "\0"[1:]])
    def test_a_reason_is_needed(self, tenant: Tenant, reason: str) -> None:
        with pytest.raises(ValidationError) as refusal:
            tenant_policy_change(tenant=tenant, values=ON, reason=reason, actor=ADA)
        assert list(refusal.value.message_dict) == ["reason"]
        assert not PolicyVersion.objects.exists()

    def test_what_is_wrong_is_not_saved(self, organization: ExchangeOrganization) -> None:
        values = OrganizationPolicyValues(user_mail_insert="x" * 300)
        with pytest.raises(ValidationError, match="44 more"):
            organization_policy_change(organization=organization, values=values, reason="x", actor=ADA)
        assert not PolicyVersion.objects.exists()

    def test_each_owner_has_numbers_of_its_own(self, organization: ExchangeOrganization) -> None:
        other = OrganizationFactory(tenant=organization.tenant)
        tenant_policy_change(tenant=organization.tenant, values=ON, reason="x", actor=ADA)
        for owner in (organization, other):
            for level in ("block", "allow"):
                organization_policy_change(
                    organization=owner, values=OrganizationPolicyValues(default_level=level), reason="x", actor=ADA
                )
        numbers = PolicyVersion.objects.order_by("pk").values_list("organization", "number")
        assert list(numbers) == [
            (None, 1), (organization.pk, 1), (organization.pk, 2), (other.pk, 1), (other.pk, 2),
        ]  # fmt: skip


class TestConflict:
    def test_a_form_made_from_an_older_version_is_refused_and_told_what_changed(self, tenant: Tenant) -> None:
        tenant_policy_change(tenant=tenant, values=ON, reason="x", actor=ADA, based_on=0)
        tenant_policy_change(tenant=tenant, values=replace(ON, stale_days=30), reason="x", actor=Actor("Bob"))
        with pytest.raises(ValidationError) as refusal:
            tenant_policy_change(tenant=tenant, values=replace(ON, guard_devices=99), reason="x", actor=ADA, based_on=1)
        (message,) = refusal.value.messages
        assert refusal.value.code == "policy_conflict"
        assert "Bob saved version 2 in the meantime (Days without a check-in: Never → 30)" in message
        assert policy_current(tenant)[0].guard_devices == 10

    def test_a_first_version_is_news_too(self, tenant: Tenant) -> None:
        tenant_policy_change(tenant=tenant, values=ON, reason="x", actor=ADA)
        with pytest.raises(ValidationError, match="saved version 1"):
            tenant_policy_change(tenant=tenant, values=replace(ON, stale_days=5), reason="x", actor=ADA, based_on=0)

    def test_who_does_not_say_replaces_what_is_there(self, tenant: Tenant) -> None:
        tenant_policy_change(tenant=tenant, values=ON, reason="x", actor=ADA)
        assert tenant_policy_change(tenant=tenant, values=TenantPolicyValues(), reason="x", actor=ADA).is_changed


class TestRollBack:
    def test_it_is_a_new_version_with_the_old_content(self, tenant: Tenant) -> None:
        first = tenant_policy_change(tenant=tenant, values=ON, reason="x", actor=ADA).version
        tenant_policy_change(tenant=tenant, values=replace(ON, stale_days=30), reason="x", actor=ADA)
        assert first is not None
        back = policy_roll_back(version=first, reason="It kept too many out.", actor=ADA)
        assert back.version is not None
        assert (back.version.number, back.version.rolled_back_to) == (3, 1)
        assert policy_current(tenant)[0] == ON
        contents = [version.content["stale_days"] for version in PolicyVersion.objects.order_by("number")]
        assert contents == [None, 30, None]

    def test_the_one_in_force_is_no_way_back(self, organization: ExchangeOrganization) -> None:
        values = OrganizationPolicyValues(default_level="block")
        version = organization_policy_change(organization=organization, values=values, reason="x", actor=ADA).version
        assert version is not None
        assert not policy_roll_back(version=version, reason="x", actor=ADA).is_changed

    def test_it_is_refused_when_somebody_else_was_faster(self, organization: ExchangeOrganization) -> None:
        for level in ("block", "quarantine", "allow"):
            organization_policy_change(
                organization=organization, values=OrganizationPolicyValues(default_level=level), reason="x", actor=ADA
            )
        first = PolicyVersion.objects.get(number=1)
        with pytest.raises(ValidationError, match="saved version 3"):
            policy_roll_back(version=first, reason="x", actor=ADA, based_on=2)

    def test_it_starts_a_run_as_any_change(self, organization: ExchangeOrganization) -> None:
        for level in ("block", "allow"):
            organization_policy_change(
                organization=organization, values=OrganizationPolicyValues(default_level=level), reason="x", actor=ADA
            )
        SyncRun.objects.all().delete()
        policy_roll_back(version=PolicyVersion.objects.get(number=1), reason="x", actor=ADA)
        assert SyncRun.objects.get().kind == SyncRun.Kind.APPLY


class TestRuns:
    def test_all_connectors_of_the_tenant_apply_it(self, tenant: Tenant, connector: Connector) -> None:
        second = ConnectorFactory(organization=OrganizationFactory(tenant=tenant))
        ConnectorFactory()  # of another tenant
        OrganizationFactory(tenant=tenant)  # without a connector
        change = tenant_policy_change(tenant=tenant, values=ON, reason="x", actor=ADA)
        runs = SyncRun.objects.order_by("pk")
        assert [run.connector for run in runs] == [connector, second]
        assert {(run.kind, run.trigger, run.requested_by_name) for run in runs} == {("apply", "policy", "Ada")}
        assert [request.run for request in change.requests] == list(runs)

    @pytest.mark.parametrize(
        ("before", "after", "expected"),
        [
            pytest.param(TenantPolicyValues(), TenantPolicyValues(stale_days=9), 0, id="off and stays off"),
            pytest.param(TenantPolicyValues(stale_days=9), ON, 1, id="switched on"),
            pytest.param(ON, TenantPolicyValues(), 1, id="switched off: what is ours is withdrawn"),
            pytest.param(ON, replace(ON, guard_devices=99), 1, id="a higher limit lets what waits go"),
        ],
    )
    def test_of_the_tenant(
        self, tenant: Tenant, before: TenantPolicyValues, after: TenantPolicyValues, expected: int
    ) -> None:
        tenant_policy_change(tenant=tenant, values=before, reason="x", actor=ADA)
        SyncRun.objects.all().delete()
        tenant_policy_change(tenant=tenant, values=after, reason="x", actor=ADA)
        assert SyncRun.objects.count() == expected

    def test_an_organizations_settings_reach_its_own_exchange_alone(
        self, tenant: Tenant, organization: ExchangeOrganization, connector: Connector
    ) -> None:
        ConnectorFactory(organization=OrganizationFactory(tenant=tenant))
        values = OrganizationPolicyValues(default_level="quarantine")
        organization_policy_change(organization=organization, values=values, reason="x", actor=ADA)
        assert SyncRun.objects.get().connector == connector

    def test_a_change_of_the_notification_reaches_no_exchange(self, organization: ExchangeOrganization) -> None:
        values = OrganizationPolicyValues(notification=NotificationValues(enabled=True))
        change = organization_policy_change(organization=organization, values=values, reason="x", actor=ADA)
        assert change.is_changed
        assert not SyncRun.objects.exists()

    def test_a_run_under_way_is_no_obstacle(self, tenant: Tenant, connector: Connector) -> None:
        running = RunFactory(connector=connector, running=True, kind=SyncRun.Kind.QUICK)
        change = tenant_policy_change(tenant=tenant, values=ON, reason="x", actor=ADA)
        assert [(one.run, one.outcome) for one in change.requests] == [(running, "queued_after")]


@pytest.mark.django_db(transaction=True)
@pytest.mark.skipif(connection.vendor == "sqlite", reason="SQLite lets one write at a time")
def test_two_who_save_at_once_are_numbered_one_after_the_other(connector: Connector) -> None:
    tenant, failed = connector.organization.tenant, []

    def save(days: int) -> None:
        try:
            tenant_policy_change(tenant=tenant, values=replace(ON, stale_days=days), reason="x", actor=ADA)
        except Exception as error:
            failed.append(error)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=save, args=(days,)) for days in range(1, 9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert sorted(PolicyVersion.objects.values_list("number", flat=True)) == list(range(1, 9))


class TestDifferences:
    def said(self, before: object, after: object) -> list[tuple[str, str, str]]:
        return [(one.label, one.before, one.after) for one in differences(before, after)]  # type: ignore[arg-type]

    def test_of_a_tenant_in_the_words_of_the_page(self) -> None:
        after = replace(
            ON, included_groups=(GroupRef("1", "Sales"), GroupRef("2")), unlicensed="deny", override_default_rule=False
        )
        assert self.said(TenantPolicyValues(), after) == [
            ("Enable Exchange on-premises access control", "Off", "On"),
            ("Always allow enrolled and compliant devices", "On", "Off"),
            ("Include all users", "Off", "On"),
            ("Included groups", "None", "Sales, 2"),
            ("People without a license", "Leave alone: Exchange decides by its own rules", "Deny access"),
        ]

    def test_of_an_organization_each_rule_by_itself(self) -> None:
        before = OrganizationPolicyValues(
            rules=(RuleValues("DeviceType", "iPhone", "allow"), RuleValues("DeviceOS", "Android 9", "block"))
        )
        after = OrganizationPolicyValues(
            default_level="block",
            user_mail_insert="",
            rules=(RuleValues("DeviceType", "IPHONE", "quarantine"), RuleValues("UserAgent", "Bad/1", "block")),
            notification=NotificationValues(templates={"en": MailTemplateValues("Hello", "")}),
        )
        assert self.said(before, after) == [
            ("Default access level", "Not managed", "Block access"),
            ("Text added to Exchange's quarantine mail", "Not managed", "Empty"),
            ("Rule: Device type “iPhone”", "Allow access", "Quarantine"),
            ("Rule: Operating system “Android 9”", "Block access", ""),
            ("Rule: User agent “Bad/1”", "", "Block access"),
            ("Subject (English)", "Built-in text", "Hello"),
        ]

    def test_of_the_same_there_is_none(self) -> None:
        assert self.said(ON, ON) == []
        with pytest.raises(TypeError):
            differences(ON, OrganizationPolicyValues())

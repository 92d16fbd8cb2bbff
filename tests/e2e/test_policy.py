"""The policy's pages in a browser: whole without scripts, quicker with them, accessible where only a form leads."""

from __future__ import annotations

import re
from typing import Any

import pytest
from django.conf import settings
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from playwright.sync_api import expect

from connectors.models import Connector
from sync.models import Mailbox, PolicyVersion
from sync.policies.policy import RuleValues
from sync.policies.policy_services import policy_current
from tests.e2e.conftest import DESK, PHONE, Visitor
from tests.e2e.looks import looker
from tests.factories import (
    ConnectorFactory,
    DeviceFactory,
    MembershipFactory,
    OrganizationFactory,
    TenantFactory,
    UserFactory,
)

pytestmark = [pytest.mark.django_db(transaction=True)]


@pytest.fixture
def connector() -> Connector:
    """An organization with three phones that have mail and that nobody has enrolled."""
    found = ConnectorFactory(
        organization=OrganizationFactory(tenant=TenantFactory(name="Contoso"), name="Headquarters")
    )
    organization, now = found.organization, timezone.now()
    organization.default_access_level = "Allow"
    organization.settings_observed_at = organization.rules_observed_at = now
    organization.save()
    for number, name in enumerate(("Ada Lovelace", "王小明", "עדה")):
        mailbox = Mailbox.objects.create(
            organization=organization, guid=f"00000000-0000-0000-0000-{number:012}", read_at=now, changed_at=now,
            primary_smtp=f"p{number}@contoso.lab",
        )  # fmt: skip
        DeviceFactory(organization=organization, owner=mailbox, user_display_name=name)
    return found  # type: ignore[no-any-return]


@pytest.fixture
def signed_in(live_server: Any, connector: Connector) -> list[Any]:
    """The cookies of an administrator of Contoso."""
    user = UserFactory(username="ada")
    MembershipFactory(user=user, tenant=connector.organization.tenant)
    client = Client()
    client.force_login(user)
    cookie = client.cookies[settings.SESSION_COOKIE_NAME]
    return [{"name": cookie.key, "value": cookie.value, "url": live_server.url}]


def test_the_policy_is_made_tightened_and_taken_back_without_scripts(
    visitor: Visitor, connector: Connector, signed_in: list[Any]
) -> None:
    organization = connector.organization
    page = visitor.page(scripts=False, cookies=signed_in)
    page.goto(reverse("tenant_policy", args=[organization.tenant.public_id]))
    page.get_by_label("Add a group: its name's beginning, or its ID").last.fill("board-id")
    page.get_by_role("button", name="Search").last.click()
    page.get_by_label("Use as the group's ID: board-id").check()
    page.get_by_label("Enable Exchange on-premises access control").check()
    page.get_by_label("All users").check()
    page.get_by_role("button", name="Review and save").click()
    expect(page.get_by_role("heading", name="3 devices of 3 would lose mail")).to_be_visible()
    page.get_by_label("Why").fill("Phones must enroll.")
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.get_by_text("Version 1 of Contoso was saved.")).to_be_visible()
    values, _version = policy_current(organization.tenant)
    assert (values.enabled, [group.id for group in values.excluded_groups]) == (True, ["board-id"])

    page.goto(reverse("organization_policy", args=[organization.public_id]))
    page.get_by_text("Pick from what devices of this organization send").click()
    page.get_by_role("button", name="Add rule iPhone").click()
    page.get_by_label("Access level", exact=True).first.select_option("Block access")
    page.get_by_role("radio", name="Quarantine", exact=True).check()
    page.get_by_role("button", name="Review and save").click()
    page.get_by_role("button", name="Keep them and count again").click()
    expect(page.get_by_text("Devices that synced in the 30 days before").first).to_be_visible()
    page.get_by_label("Why").fill("Slowly.")
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.get_by_text("Version 1 of Headquarters was saved.")).to_be_visible()
    policy, _version = policy_current(organization)
    assert policy.rules == (RuleValues("DeviceType", "iPhone", "block"),)
    assert policy.default_level == "quarantine"
    assert policy.grandfathering is not None

    page.goto(reverse("tenant_policy_history", args=[organization.tenant.public_id]))
    expect(page.get_by_text("Phones must enroll.")).to_be_visible()
    assert PolicyVersion.objects.count() == 2


def test_the_mail_is_looked_at_and_saved_without_scripts(
    visitor: Visitor, connector: Connector, signed_in: list[Any]
) -> None:
    page = visitor.page(scripts=False, cookies=signed_in)
    page.goto(reverse("organization_notification", args=[connector.organization.public_id]))
    frame = page.frame_locator("#preview")
    expect(frame.get_by_text("Enroll your phone to get mail on it")).to_be_visible()
    page.get_by_label("Subject").first.fill("For {{person}}")
    page.get_by_label("Enrollment link").fill("https://enroll.contoso.com/")
    page.get_by_role("button", name="Preview English").click()
    expect(frame.get_by_text("For Ada Lovelace")).to_be_visible()
    page.get_by_label("Why").fill("A better subject.")
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.get_by_text("Version 1 of Headquarters was saved.")).to_be_visible()


def test_what_is_typed_is_seen_at_once_where_scripts_run(
    visitor: Visitor, connector: Connector, signed_in: list[Any]
) -> None:
    page = visitor.page(cookies=signed_in)
    page.goto(reverse("organization_notification", args=[connector.organization.public_id]))
    steps = page.evaluate("history.length")
    page.get_by_label("Text (Markdown)").first.fill("Dear **{{person}}**, <script>alert(1)</script>")
    frame = page.frame_locator("#preview")
    expect(frame.locator("strong", has_text="Ada Lovelace")).to_be_visible()
    page.get_by_label("Text (Markdown)").last.fill("您好 {{person}}")
    expect(frame.get_by_text("您好 Ada Lovelace")).to_be_visible()
    assert page.evaluate("history.length") == steps
    # In the middle of a word the field keeps the focus.
    expect(page.get_by_label("Text (Markdown)").last).to_be_focused()

    page.goto(reverse("organization_policy", args=[connector.organization.public_id]))
    page.get_by_label("Text added to Exchange's quarantine mail").fill("x" * 257)
    expect(page.locator(".counter")).to_have_text(re.compile(r"257\s*/ 256"))
    expect(page.locator(".counter")).to_have_class(re.compile("counter-over"))

    page.goto(reverse("tenant_policy", args=[connector.organization.tenant.public_id]))
    page.get_by_label("Add a group: its name's beginning, or its ID").first.fill("sales-id")
    page.get_by_role("button", name="Search").first.click()
    expect(page.get_by_label("Use as the group's ID: sales-id")).to_be_visible()
    assert page.url.endswith(reverse("tenant_policy", args=[connector.organization.tenant.public_id]))


def test_the_keyboard_alone_is_enough(visitor: Visitor, connector: Connector, signed_in: list[Any]) -> None:
    page = visitor.page(cookies=signed_in)
    page.goto(reverse("tenant_policy", args=[connector.organization.tenant.public_id]))
    page.get_by_label("Enable Exchange on-premises access control").focus()
    page.keyboard.press("Space")
    page.get_by_label("Selected groups", exact=True).focus()
    page.keyboard.press("ArrowUp")
    expect(page.get_by_label("All users")).to_be_checked()
    page.get_by_label("Add a group: its name's beginning, or its ID").first.focus()
    page.keyboard.type("sales-id")
    page.keyboard.press("Enter")
    expect(page.get_by_label("Use as the group's ID: sales-id")).to_be_visible()
    page.locator("summary").focus()
    page.keyboard.press("Enter")
    page.get_by_label("Approval limit: devices").focus()
    page.keyboard.press("Enter")
    # Elsewhere Enter is the review, and not the first button that stands in the form.
    expect(page.get_by_role("heading", level=1)).to_have_text("Review and save")


def test_a_form_with_an_error_goes_on_at_the_field(
    visitor: Visitor, connector: Connector, signed_in: list[Any]
) -> None:
    page = visitor.page(cookies=signed_in)
    page.goto(reverse("notification_account", args=[connector.organization.public_id]))
    page.get_by_role("radio", name="SMTP").check()
    page.get_by_role("button", name="Save").last.click()
    expect(page.locator("[aria-invalid=true]").first).to_be_focused()


def test_on_a_phone_the_preview_and_the_present_tab_are_led_to(
    visitor: Visitor, connector: Connector, signed_in: list[Any]
) -> None:
    page = visitor.page(PHONE, cookies=signed_in)
    page.goto(reverse("organization_notification", args=[connector.organization.public_id]))
    expect(page.get_by_role("link", name="User notification", exact=True)).to_be_in_viewport(ratio=0.9)
    expect(page.locator("#preview")).not_to_be_in_viewport()
    page.get_by_role("button", name="Preview English").click()
    expect(page.locator("#preview")).to_be_in_viewport()
    page.goto(reverse("organization_policy_history", args=[connector.organization.public_id]))
    expect(page.get_by_role("link", name="History", exact=True)).to_be_in_viewport(ratio=0.9)


@pytest.mark.slow
@pytest.mark.parametrize(("viewport", "scheme"), [(DESK, "light"), (PHONE, "dark")], ids=["1440", "390"])
def test_the_steps_of_a_change_are_accessible_and_fit(
    visitor: Visitor, connector: Connector, signed_in: list[Any], viewport: dict[str, int], scheme: str
) -> None:
    page = visitor.page(viewport, scheme, cookies=signed_in)
    look, wrong = looker(page)

    page.goto(reverse("organization_policy", args=[connector.organization.public_id]))
    page.get_by_role("radio", name="Block access").check()
    page.locator("input[name=rule_query]").last.fill("iPhone*")
    page.get_by_role("button", name="Review and save").last.click()
    expect(page.get_by_text("holds a wildcard")).to_be_visible()
    look("refused")
    page.locator("input[name=rule_query]").first.fill("iPad")
    page.get_by_role("button", name="Review and save").last.click()
    expect(page.get_by_role("heading", name="would lose mail")).to_be_visible()
    look("who would lose mail")
    page.get_by_role("button", name="Keep them and count again").click()
    expect(page.get_by_text("Devices that synced in the 30 days before").first).to_be_visible()
    look("kept")
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.get_by_text("Say why, for those who read the history later.")).to_be_visible()
    look("no reason")
    page.goto(reverse("notification_account", args=[connector.organization.public_id]))
    page.get_by_role("radio", name="SMTP").check()
    page.get_by_label("Sender").fill("phones@contoso.com")
    page.get_by_label("SMTP host").fill("127.0.0.1")
    page.get_by_role("button", name="Save").last.click()
    expect(page.locator("[aria-invalid=true]").first).to_be_focused()
    look("an account refused")
    assert wrong == {}

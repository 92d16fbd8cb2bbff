"""Pages of mailbox policies in a browser: accessible, as wide as the screen, by keyboard and without scripts."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from playwright.sync_api import Page, expect

from connectors.actors import Actor
from connectors.models import ExchangeOrganization
from sync.models import Command, MailboxPolicy
from sync.policies.mailbox_policies import policy_change, policy_make_default
from sync.policies.mailbox_policy_values import DEFAULTS, to_json
from tests.e2e.conftest import DESK, PHONE, Visitor
from tests.e2e.looks import looker
from tests.factories import ConnectorFactory, MailboxFactory, MembershipFactory, OrganizationFactory, TenantFactory
from tests.factories import UserFactory as Users

pytestmark = [pytest.mark.django_db(transaction=True)]

ADA = Actor(name="Ada")


@pytest.fixture
def organization(monkeypatch: pytest.MonkeyPatch) -> ExchangeOrganization:
    """Three policies, mailboxes of each, and commands that were done, failed and are under way."""
    monkeypatch.setattr("sync.dispatch._tell", lambda connector, task, *arguments: None)
    organization: ExchangeOrganization = OrganizationFactory(tenant=TenantFactory(name="Contoso"), name="Headquarters")
    ConnectorFactory(organization=organization)
    settings = {
        "Default": {**DEFAULTS, "AllowNonProvisionableDevices": True},
        "Strict": {**DEFAULTS, "PasswordEnabled": True, "MinPasswordLength": 8, "MaxAttachmentSize": "10MB"},
        "Management of the subsidiaries in Central and Eastern Europe 📱": {
            **DEFAULTS, "ApprovedApplicationList": ("4c1d5e" * 12 + ":Reader", "abc:Writer"),
            "PasswordExpiration": "90.00:00:00",
        },
    }  # fmt: skip
    for name, values in settings.items():
        MailboxPolicy.objects.create(
            organization=organization, guid=uuid.uuid4(), identity=name, name=name, is_default=name == "Default",
            settings=to_json(values), read_at=timezone.now(), when_changed=timezone.now(),
        )  # fmt: skip
    for number, name in enumerate(["Ada Lovelace", "王小明", "עדה", "A" * 60, "Zoë §"]):
        MailboxFactory(
            organization=organization, display_name=name, primary_smtp=f"person{number}@contoso.lab",
            mailbox_policy="Strict" if number % 2 else "",
        )  # fmt: skip
    strict = policy("Strict")
    policy_change(policy=strict, name="Strict", settings={"MinPasswordLength": 6}, key="1", actor=ADA)
    Command.objects.update(
        state=Command.State.FAILED, error_code="cmdlet_not_granted",
        error_params={"cmdlet": "Set-MobileDeviceMailboxPolicy", "server": "ex01.contoso.lab"},
    )  # fmt: skip
    policy_make_default(policy=strict, key="2", actor=ADA)
    return organization


def policy(name: str) -> MailboxPolicy:
    return MailboxPolicy.objects.select_related("organization").get(name__startswith=name)


@pytest.fixture
def signed_in(organization: ExchangeOrganization, live_server: Any) -> list[Any]:
    user = Users(username="ada")
    MembershipFactory(user=user, tenant=organization.tenant)
    client = Client()
    client.force_login(user)
    return [{"name": one.key, "value": one.value, "url": live_server.url} for one in client.cookies.values()]


def addresses(organization: ExchangeOrganization) -> dict[str, str]:
    strict, default, long = policy("Strict"), policy("Default"), policy("Management")
    of = {
        name: reverse(f"organization_mailbox_{name}", args=[organization.public_id])
        for name in ("policies", "policies_compare", "policy_create")
    }
    return {
        "list": of["policies"],
        "compare": f"{of['policies_compare']}?one={strict.public_id}&other={long.public_id}",
        "new": f"{of['policy_create']}?copy={long.public_id}",
        "policy": reverse("mailbox_policy", args=[strict.public_id]),
        "long": reverse("mailbox_policy", args=[long.public_id]),
        "edit": reverse("mailbox_policy_edit", args=[strict.public_id]),
        "make default": reverse("mailbox_policy_default", args=[long.public_id]),
        "remove": reverse("mailbox_policy_remove", args=[strict.public_id]),
        "remove default": reverse("mailbox_policy_remove", args=[default.public_id]),
        "mailboxes": reverse("mailbox_policy_mailboxes", args=[strict.public_id]),
        "other mailboxes": reverse("mailbox_policy_mailboxes", args=[strict.public_id]) + "?which=others",
    }


def review(page: Page, address: str) -> None:
    page.goto(address)
    page.get_by_label("Shortest password").fill("6")
    page.get_by_label("Let in phones that cannot apply the policy").set_checked(False)
    page.get_by_role("button", name="Review").last.click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Review")


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("viewport", [DESK, PHONE], ids=["1440", "390"])
def test_every_page_is_accessible_and_fits(
    visitor: Visitor, organization: ExchangeOrganization, signed_in: list[Any], viewport: dict[str, int], scheme: str
) -> None:
    page = visitor.page(viewport, scheme, cookies=signed_in)
    look, wrong = looker(page)

    for name, address in addresses(organization).items():
        page.goto(address)
        look(name)
    review(page, addresses(organization)["edit"])
    look("review")
    assert wrong == {}


def test_a_policy_is_changed_without_scripts(
    visitor: Visitor, organization: ExchangeOrganization, signed_in: list[Any]
) -> None:
    Command.objects.update(state=Command.State.DONE)
    page = visitor.page(scripts=False, cookies=signed_in)
    review(page, addresses(organization)["edit"])
    page.get_by_role("button", name="Change the policy").click()
    expect(page.get_by_text("The command is in the journal")).to_be_visible()
    assert Command.objects.latest("pk").payload["settings"] == {"MinPasswordLength": 6}


def test_what_a_worker_did_shows_by_itself(
    visitor: Visitor, organization: ExchangeOrganization, signed_in: list[Any]
) -> None:
    page = visitor.page(cookies=signed_in)
    page.goto(addresses(organization)["policy"])
    Command.objects.filter(state=Command.State.PLANNED).update(state=Command.State.DONE)
    MailboxPolicy.objects.filter(name="Strict").update(is_default=True)
    expect(page.locator("#policy-live .page-header")).to_contain_text("Default", timeout=10_000)
    assert page.locator("#policy-live[hx-trigger]").count() == 0

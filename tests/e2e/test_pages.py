"""Every page in a browser: no violation of accessibility rules in light and dark, nothing wider than a phone, keyboard
alone is enough, both languages, and everything works without scripts."""

from __future__ import annotations

import re
from typing import Any

import pytest
from django.conf import settings
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from playwright.sync_api import Page, expect

from connectors.models import Connector
from sync.models import Approval, Command, DeviceEvent, DeviceStatistics, Drift, MobileDevice, SyncRun
from tests.e2e.conftest import DESK, PHONE, Visitor
from tests.e2e.looks import faults, looker, violations
from tests.factories import (
    PASSWORD,
    AccessFactory,
    ApprovalFactory,
    CommandFactory,
    ConnectorFactory,
    DeviceFactory,
    DriftFactory,
    DryLineFactory,
    DryRunFactory,
    EventFactory,
    HeldDenialFactory,
    MailboxFactory,
    MembershipFactory,
    OrganizationFactory,
    OverrideFactory,
    RunFactory,
    TenantFactory,
    UserFactory,
)

pytestmark = [pytest.mark.django_db(transaction=True)]


@pytest.fixture
def connector() -> Connector:
    """Contoso, with one connector that is well, one in the middle of a sync and one that failed; and its devices."""
    tenant = TenantFactory(name="Contoso")
    well = ConnectorFactory(organization=OrganizationFactory(tenant=tenant, name="Headquarters"))
    busy = ConnectorFactory(organization=OrganizationFactory(tenant=tenant, name="Research"))
    failed = ConnectorFactory(
        organization=OrganizationFactory(tenant=tenant, name="Branch"),
        status="disconnected",
        last_error_code="authentication_failed",
    )
    for code in ("requested", "claimed", "server_answered", "succeeded"):
        EventFactory(
            run=RunFactory(connector=well, fence=1) if code == "requested" else SyncRun.objects.latest("pk"),
            code=code,
            params={"name": "Ada", "worker": "worker-1", "attempt": 1, "server": "ex01.contoso.lab"},
        )
    RunFactory(connector=busy, running=True)
    RunFactory(
        connector=failed, status="failed", observed=0, error_code="authentication_failed",
        error_params={"server": "ex01.branch.lab", "remote_text": "Access is denied. <script>alert(1)</script>"},
    )  # fmt: skip
    names = ["Ada Lovelace", "王小明", "עדה", "A" * 60, "Zoë § 📱"]
    for number, name in enumerate(names):
        DeviceFactory(
            organization=well.organization, user_display_name=name, mailbox="contoso.lab/Ada", seen_fence=1,
            access_state=["Allowed", "Blocked", "Quarantined", "DeviceDiscovery", "Pondering"][number],
            device_user_agent="Agent/" + "x" * 300, gone_at=timezone.now() if number == 3 else None,
        )  # fmt: skip
    access_made(well)
    return well  # type: ignore[no-any-return]


def access_made(connector: Connector) -> None:
    """What is wanted for these devices, and what waits, drifted, was decided by hand and was sent."""
    organization = connector.organization
    run = RunFactory(connector=connector, is_dry_run=True, decided=4, commands_planned=1, commands_done=1, held=1)
    dry = DryRunFactory(run=run, changed=5, held=1, settings_held=["Set-ActiveSyncOrganizationSettings"])
    DryLineFactory(dry_run=dry, device_public_id=None, rule="", access_state="", person="", mailbox="")
    approval = ApprovalFactory(organization=organization, run=run, settings_held=["Set-ActiveSyncOrganizationSettings"])
    states = ("allowed", "blocked", "quarantined", "unknown", "allowed")
    for device, state in zip(MobileDevice.objects.order_by("pk"), states, strict=True):
        device.owner = MailboxFactory(organization=organization, display_name=device.user_display_name)
        device.owner.allowed = [device.device_id]
        device.owner.save()
        device.save()
        AccessFactory(
            device=device, state=state, access="block", rule="noRecord", outcome="unmatched",
            hindered_by="foreignAllow" if state == "allowed" else "",
        )  # fmt: skip
        HeldDenialFactory(approval=approval, device=device)
        DriftFactory(mailbox=device.owner, device=device, device_id_key=device.device_id_key)
        OverrideFactory(mailbox=device.owner, device_id=device.device_id, reason="Travels " * 20)
        command = CommandFactory(
            mailbox=device.owner, device=device, run=run, state="failed" if state == "blocked" else "observed",
            error_code="object_not_found" if state == "blocked" else "", payload={"devices": [device.pk]},
            text="Set-CASMailbox -Identity '" + "x" * 200 + "'",
        )  # fmt: skip
        DeviceEvent.objects.create(
            device=device, at=timezone.now(), code="commandPlanned", command=command, run=run,
            params={"entries": ["allowAdd"], "because": "fullSync"},
        )  # fmt: skip
        DryLineFactory(
            dry_run=dry, device_public_id=device.public_id, person=device.user_display_name, state=state,
            effect="held" if state == "blocked" else "changed", commands=command.text, commands_held=command.text,
            hindered_by="foreignAllow" if state == "allowed" else "",
        )  # fmt: skip
        DeviceStatistics.objects.create(device=device, read_at=timezone.now(), wipe_requested_at=timezone.now())


@pytest.fixture
def signed_in(live_server: Any, connector: Connector) -> list[Any]:
    """The cookies of an administrator of Contoso."""
    user = UserFactory(username="ada")
    MembershipFactory(user=user, tenant=connector.organization.tenant)
    client = Client()
    client.force_login(user)
    cookie = client.cookies[settings.SESSION_COOKIE_NAME]
    return [{"name": cookie.key, "value": cookie.value, "url": live_server.url}]


def addresses(connector: Connector) -> dict[str, str]:
    """Every page there is."""
    runs = {f"{run.status}{', dry' if run.is_dry_run else ''}": run for run in SyncRun.objects.all()}
    others = {c.organization.name: c for c in Connector.objects.select_related("organization")}
    device = MobileDevice.objects.order_by("pk").first()
    gone = MobileDevice.objects.exclude(gone_at=None).first()
    assert device
    assert gone
    pages = {
        "home": reverse("home"),
        "tenants": reverse("tenants"),
        "connectors": reverse("connectors"),
        "connectors, none found": reverse("connectors") + "?q=nothing",
        "connector": reverse("connector", args=[connector.public_id]),
        "connector in a sync": reverse("connector", args=[others["Research"].public_id]),
        "connector that failed": reverse("connector", args=[others["Branch"].public_id]),
        "schedule": reverse("connector_schedule", args=[connector.public_id]),
        "runs": reverse("connector_runs", args=[connector.public_id]),
        "devices": reverse("devices") + "?presence=all",
        "devices, none found": reverse("devices") + "?q=nothing",
        "device": reverse("device", args=[device.public_id]),
        "device that is gone": reverse("device", args=[gone.public_id]),
        "policy of a tenant": reverse("tenant_policy", args=[connector.organization.tenant.public_id]),
        "history of a tenant's policy": reverse(
            "tenant_policy_history", args=[connector.organization.tenant.public_id]
        ),
        **{
            name: reverse(name, args=[connector.organization.public_id])
            for name in (
                "organization_policy",
                "organization_policy_history",
                "organization_notification",
                "notification_account",
            )
        },
        "allow": reverse("device_override", args=[device.public_id, "allow"]),
        "wipe": reverse("device_destroy", args=[device.public_id, "wipe"]),
        "account-only wipe": reverse("device_destroy", args=[device.public_id, "wipe-account"]),
        "remove": reverse("device_destroy", args=[device.public_id, "remove"]),
        "link": reverse("device_link", args=[device.public_id]),
        "approvals": reverse("approvals"),
        "approval": reverse("approval", args=[Approval.objects.get().public_id]),
        "drift": reverse("drifts"),
        "one drift": reverse("drift", args=[Drift.objects.order_by("pk")[:1].get().public_id]),
        "overrides": reverse("overrides"),
        "commands": reverse("commands"),
        "command that failed": reverse("command", args=[Command.objects.get(state="failed").public_id]),
        "dry run": reverse("dry_run", args=[SyncRun.objects.get(is_dry_run=True).public_id]),
        "password": reverse("account_change_password"),
        "sign out": reverse("account_logout"),
        "no such page": "/nothing/",
    }
    return pages | {f"run {status}": reverse("run", args=[run.public_id]) for status, run in runs.items()}


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("viewport", [DESK, PHONE], ids=["1440", "390"])
def test_every_page_is_accessible_and_fits(
    visitor: Visitor, connector: Connector, signed_in: list[Any], viewport: dict[str, int], scheme: str
) -> None:
    page = visitor.page(viewport, scheme, cookies=signed_in)
    look, wrong = looker(page)
    for name, address in addresses(connector).items():
        page.goto(address)
        look(name)
    assert wrong == {}


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_sign_in_page_is_accessible(visitor: Visitor, connector: Connector, scheme: str) -> None:
    page = visitor.page(PHONE, scheme)
    page.goto("/connectors/")
    assert page.url.endswith("?next=/connectors/")
    assert faults(page) == []
    page.get_by_label("Username").fill("ada")
    page.get_by_label("Password").fill("wrong")
    page.keyboard.press("Enter")
    expect(page.get_by_text("not correct")).to_be_visible()
    assert faults(page) == []


@pytest.mark.parametrize(("scheme", "colours"), [("light", []), ("dark", ["color-contrast"])])
def test_the_look_at_a_page_finds_what_is_wrong(visitor: Visitor, scheme: str, colours: list[str]) -> None:
    page = visitor.page(PHONE, scheme)
    page.set_content(
        '<html lang="en"><head><title>x</title><style>p { width: 500px; margin: 0 } body { margin: 0 }'
        "@media (prefers-color-scheme: dark) { body { background: #222; color: #333 } }</style></head><body><main>"
        '<img src="x"><h1>One</h1><h1>Two</h1><p>Dark on what is dark</p></main></body></html>'
    )
    found = [one.split(":")[0] for one in faults(page)]
    assert found == [*colours, "image-alt", "500 wide, on a screen of 390", "2 headings of level 1"]


def test_the_keyboard_alone_is_enough(visitor: Visitor, connector: Connector) -> None:
    MembershipFactory(user=UserFactory(username="ada"), tenant=connector.organization.tenant)
    page = visitor.page()
    page.goto("/connectors/")
    page.get_by_label("Username").focus()
    page.keyboard.type("ada")
    page.keyboard.press("Tab")
    page.keyboard.type(PASSWORD)
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("Exchange ActiveSync on-premises connector")

    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#content")).to_be_focused()

    tab_to(page, page.get_by_role("link", name="Headquarters"))
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("Headquarters")
    tab_to(page, page.get_by_role("button", name="Quick sync"))
    page.keyboard.press("Enter")
    expect(page.get_by_text("Quick sync requested.")).to_be_visible()
    assert SyncRun.objects.filter(connector=connector, kind="deltaSync", status="queued").count() == 1


def tab_to(page: Page, target: Any) -> None:
    """Tab until the element has the focus; it must be seen that it has it."""
    for _step in range(40):
        page.keyboard.press("Tab")
        if target.evaluate("e => e === document.activeElement"):
            assert target.evaluate("e => getComputedStyle(e).outlineStyle") != "none"
            return
    raise AssertionError(f"Tab never came to {target}")


def test_everything_works_without_scripts(visitor: Visitor, connector: Connector, signed_in: list[Any]) -> None:
    page = visitor.page(scripts=False, cookies=signed_in)
    page.goto(reverse("connector", args=[connector.public_id]))
    page.get_by_role("button", name="Full sync").click()
    expect(page.get_by_text("Full sync requested.")).to_be_visible()
    run = SyncRun.objects.get(connector=connector, status="queued")
    page.get_by_role("button", name="Cancel").first.click()
    expect(page.get_by_role("button", name="Cancel")).to_have_count(0)
    run.refresh_from_db()
    assert run.status == "canceled"

    page.goto(reverse("connector_schedule", args=[connector.public_id]))
    page.get_by_label(re.compile("Full sync")).fill("03:30")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_text("The schedule was changed.")).to_be_visible()

    page.goto("/devices/")
    page.get_by_label("Exchange shows").select_option("Blocked")
    page.get_by_role("button", name="Apply").click()
    expect(page.locator("tbody tr")).to_have_count(1)
    page.get_by_role("link", name="王小明").click()
    expect(page.get_by_role("heading", level=1)).to_be_visible()


def test_many_devices_are_decided_about_by_keyboard_and_without_scripts(
    visitor: Visitor, connector: Connector, signed_in: list[Any]
) -> None:
    for scripts in (True, False):
        page = visitor.page(scripts=scripts, cookies=signed_in)
        page.goto("/devices/")
        if scripts:
            page.get_by_label("Select all on this page").check()
            assert page.locator('input[name="device"]:checked').count() == 4
        else:
            page.locator('input[name="device"]').first.check()
        page.get_by_role("button", name="Block", exact=True).focus()
        page.keyboard.press("Enter")
        expect(page.get_by_role("heading", level=1)).to_have_text("Block devices")
        if scripts:
            assert violations(page) == []
        page.get_by_label("Why").fill(f"Lost {scripts}")
        page.get_by_label("In 1 day").check()
        page.get_by_role("button", name="Block").click()
        expect(page.get_by_text("Block devices: noted for")).to_be_visible()


def test_a_wipe_wants_the_devices_id(visitor: Visitor, connector: Connector, signed_in: list[Any]) -> None:
    Command.objects.filter(state__in=Command.OPEN).delete()
    device = MobileDevice.objects.order_by("pk")[:1].get()
    page = visitor.page(scripts=False, cookies=signed_in)
    page.goto(reverse("device", args=[device.public_id]))
    page.get_by_role("link", name="Wipe", exact=True).click()
    page.get_by_role("button", name="Wipe now").click()
    expect(page.get_by_text("Type the device ID exactly")).to_be_visible()
    page.get_by_label("Type the device ID").fill(device.device_id)
    page.get_by_role("button", name="Wipe now").click()
    expect(page.get_by_text("The wipe is ordered.")).to_be_visible()
    assert Command.objects.get(kind="wipe").state == Command.State.PLANNED


def test_progress_moves_by_itself_and_the_end_takes_its_place(
    visitor: Visitor, connector: Connector, signed_in: list[Any]
) -> None:
    run = SyncRun.objects.get(status="running")
    page = visitor.page(cookies=signed_in)
    page.goto(reverse("connector", args=[run.connector.public_id]))
    expect(page.get_by_role("region", name="Progress")).to_contain_text("60")
    SyncRun.objects.filter(pk=run.pk).update(observed=198)
    expect(page.get_by_role("region", name="Progress")).to_contain_text("198")
    SyncRun.objects.filter(pk=run.pk).update(status="succeeded", phase="finished", finished_at=timezone.now())
    expect(page.get_by_text("198 devices read.")).to_be_visible()
    expect(page.get_by_role("region", name="Progress")).to_have_count(0)


def test_the_language_can_be_changed_and_stays(visitor: Visitor, connector: Connector, signed_in: list[Any]) -> None:
    page = visitor.page(cookies=signed_in)
    page.goto("/devices/?q=ada")
    page.get_by_role("button", name="ada").click()
    page.get_by_role("button", name="繁體中文").click()
    expect(page.locator("html")).to_have_attribute("lang", "zh-hant")
    assert page.url.endswith("/devices/?q=ada")
    page.goto("/connectors/")
    expect(page.locator("html")).to_have_attribute("lang", "zh-hant")


def test_a_browser_in_chinese_is_answered_in_chinese(visitor: Visitor, connector: Connector) -> None:
    page = visitor.page(language="zh-TW")
    page.goto("/")
    expect(page.locator("html")).to_have_attribute("lang", "zh-hant")


def test_foreign_text_runs_no_script(visitor: Visitor, connector: Connector, signed_in: list[Any]) -> None:
    page = visitor.page(cookies=signed_in)
    page.on("dialog", lambda dialog: visitor.refusals.append("a dialog opened"))
    run = SyncRun.objects.get(status="failed")
    page.goto(reverse("run", args=[run.public_id]))
    expect(page.get_by_text("<script>alert(1)</script>")).to_be_visible()

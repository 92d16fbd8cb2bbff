"""A walk through every page with every method: as another tenant's administrator, and as a reader.

Beyond the addresses themselves (tests/console/test_permissions.py) this looks at what travels in a form or a query:
ids of another tenant's devices, records, mailboxes, policies and overrides. Whatever is sent, no row changes.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Any

import pytest
from django.apps import apps
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from console.accounts.models import ApiToken, Membership, Role
from sync.models import AccessOverride, Approval, DeviceLink, MailboxPolicy, SyncRun
from sync.showing.approval_list import approval_digest
from tests.console.conftest import Scene
from tests.console.test_permissions import BODY, OWN_ADDRESSES, TENANT_ADDRESSES, _address
from tests.factories import (
    AccessFactory,
    ApprovalFactory,
    CommandFactory,
    ConnectorFactory,
    DeviceFactory,
    DriftFactory,
    HeldDenialFactory,
    MailboxFactory,
    MembershipFactory,
    NotificationFactory,
    OrganizationFactory,
    OverrideFactory,
    PolicyFactory,
    RecordFactory,
    RunFactory,
    TenantFactory,
)

pytestmark = pytest.mark.django_db
WRITING = ("post", "put", "patch", "delete")


def rows() -> dict[str, list[Any]]:
    """Every row of the product, by table."""
    models: list[Any] = [*apps.get_app_config("connectors").get_models(), *apps.get_app_config("sync").get_models()]
    return {
        model._meta.label: list(model._default_manager.order_by("pk").values_list()) for model in (*models, ApiToken)
    }


@dataclass(frozen=True)
class Held:
    """One thing of each kind that a form or a query can name, all of one organization. what: everything that would
    give it away in an answer."""

    device: Any
    record: Any
    mailbox: Any
    override: Any
    approval: Any
    denial: Any
    drift: Any
    policy: Any
    command: Any
    run: Any
    version: Any
    what: tuple[str, ...]


def hold(name: str, tenant: Any = None) -> Held:
    """The same for any tenant; `name` stands in all that people read of it."""
    organization = OrganizationFactory(tenant=tenant or TenantFactory(name=name), name=f"{name} mail")
    run = RunFactory(connector=ConnectorFactory(organization=organization, servers=(f"ex.{name.lower()}.test",)))
    mailbox = MailboxFactory(organization=organization, display_name=f"{name} Person")
    device = DeviceFactory(
        organization=organization, owner=mailbox, device_id=f"Appl{name}", user_display_name=f"{name} Person",
        mailbox=f"{name}/Person",
    )  # fmt: skip
    AccessFactory(device=device)
    approval = ApprovalFactory(organization=organization)
    denial = HeldDenialFactory(approval=approval, device=device)
    NotificationFactory(device=device, recipient=f"person@{name.lower()}.test", state="failed")
    return Held(
        device=device,
        record=RecordFactory(tenant=organization.tenant, device_name=f"{name} phone"),
        mailbox=mailbox,
        override=OverrideFactory(mailbox=mailbox, device_id=device.device_id, reason=f"{name} travels"),
        approval=approval,
        denial=denial,
        drift=DriftFactory(mailbox=mailbox, device=device, device_id_key=device.device_id_key),
        policy=MailboxPolicy.objects.create(
            organization=organization, guid=uuid.uuid4(), name=f"{name} strict", read_at=timezone.now()
        ),
        command=CommandFactory(mailbox=mailbox, device=device, run=run, text=f"Set-CASMailbox -Identity {name}"),
        run=run,
        version=PolicyFactory(tenant=organization.tenant, number=1),
        what=(
            *(name, name.lower(), organization.tenant.name),
            *(str(one.public_id) for one in (organization.tenant, organization, device, mailbox)),
        ),
    )


@pytest.fixture
def theirs(scene: Scene) -> Held:
    """Of the scene's tenant, in which the stranger has no role."""
    return hold("Fabrikam", scene.connector.organization.tenant)


def stranger_with(scene: Scene) -> tuple[Client, Held]:
    """The administrator of another tenant, and what that one has."""
    mine = hold("Northwind")
    browser = scene.client("stranger")
    Membership.objects.filter(user__username="stranger").update(tenant=mine.device.organization.tenant)
    return browser, mine


def told(answer: Any) -> str:
    return b"".join(answer.streaming_content).decode() if answer.streaming else answer.content.decode()


# --- every address, every method ------------------------------------------------------------------------------------


def addresses(scene: Scene) -> Iterator[tuple[str, str]]:
    """Each address of the tenant's, with what it leads to made just before."""
    for name in sorted(TENANT_ADDRESSES):
        yield name, _address(name, scene)
        # A connector has one run at a time, an organization one approval that waits.
        SyncRun.objects.all().delete()
        Approval.objects.all().delete()


def test_no_address_changes_anything_for_another_tenants_administrator(scene: Scene) -> None:
    browser = scene.client("stranger")
    for name, address in addresses(scene):
        before = rows()
        for method in WRITING:
            answer = getattr(browser, method)(address, BODY if method == "post" else None)
            assert answer.status_code in (404, 405), (name, method)
            assert "Contoso" not in told(answer), (name, method)
        assert rows() == before, name


def test_no_address_changes_anything_for_a_reader(scene: Scene) -> None:
    browser = scene.client("reader")
    own = [(name, reverse(name)) for name in sorted(OWN_ADDRESSES - {"account_logout"})]
    # Looking at a mail with other words is no change; whoever may see the page may.
    looking = {"notification_preview"}
    for name, address in chain(addresses(scene), own):
        before = rows()
        for method in WRITING:
            answer = getattr(browser, method)(address, BODY if method == "post" else None)
            refused = (403, 405) if name in TENANT_ADDRESSES and name not in looking else (200, 302, 400, 405)
            assert answer.status_code in refused, (name, method)
        assert rows() == before, name


# --- forms that are right, but for who sends them -------------------------------------------------------------------

# Pages that are looked at by GET and act by POST: a form that an administrator's press would carry out.
FORMS: dict[str, Callable[[Held], tuple[Any, dict[str, Any]]]] = {
    "device_override": lambda held: ((held.device.public_id, "block"), {"reason": "x", "expiry": "7"}),
    "device_link": lambda held: ((held.device.public_id,), {"record": str(held.record.public_id), "kind": "link"}),
    "device_destroy": lambda held: (
        (held.device.public_id, "wipe"), {"typed": held.device.device_id, "key": uuid.uuid4().hex},
    ),
    "approval": lambda held: (
        (held.approval.public_id,), {"decision": "reject", "seen": approval_digest(held.approval), "note": "x"},
    ),
    "drift": lambda held: ((held.drift.public_id,), {"choice": "adopt", "reason": "x"}),
    "policy_roll_back": lambda held: (
        (held.version.public_id,), {"step": "save", "based_on": "2", "reason": "x"},
    ),
    "mailbox_policy_mailboxes": lambda held: (
        (held.policy.public_id,),
        {"step": "assign", "mailbox": str(held.mailbox.public_id), "key": uuid.uuid4().hex},
    ),
    "api_tokens": lambda held: ((held.device.organization.tenant.public_id,), {"name": "MDM", "role": "reader"}),
    "source_configure": lambda held: ((held.device.organization.tenant.public_id,), {"kind": "pushed"}),
}  # fmt: skip


@pytest.mark.parametrize("name", FORMS)
def test_who_sends_a_form_decides(scene: Scene, theirs: Held, name: str) -> None:
    # So that rolling back to the first version is a change.
    PolicyFactory(tenant=theirs.device.organization.tenant, number=2, content={"guard_devices": 20})
    arguments, body = FORMS[name](theirs)
    browser = scene.client("stranger")
    address, before = reverse(name, args=arguments), rows()
    answer = browser.post(address, body)
    assert answer.status_code == 404
    assert not any(word in told(answer) for word in theirs.what)
    assert scene.client("reader").post(address, body).status_code == 403
    assert rows() == before
    assert scene.client("administrator").post(address, body).status_code in (200, 302)
    assert rows() != before


# --- ids of another tenant in one's own forms -----------------------------------------------------------------------


@pytest.mark.parametrize("act", ["allow", "block", "clear", "recheck"])
def test_one_decision_about_many_leaves_out_another_tenants_devices(scene: Scene, theirs: Held, act: str) -> None:
    browser, mine = stranger_with(scene)
    body = {"act": act, "device": [str(theirs.device.public_id)], "reason": "x", "expiry": "7"}
    before = rows()
    for step in ("", "confirm"):
        answer = browser.post(reverse("device_bulk"), {**body, "step": step}, follow=True)
        assert not any(word in told(answer) for word in theirs.what)
    assert rows() == before
    both = [str(theirs.device.public_id), str(mine.device.public_id)]
    browser.post(reverse("device_bulk"), {**body, "device": both, "step": "confirm"})
    changed = [table for table, found in rows().items() if found != before[table]]
    assert changed
    of_theirs = AccessOverride.objects.filter(mailbox=theirs.mailbox)
    assert list(of_theirs) == [theirs.override]
    assert of_theirs.get().ended_at is None


def test_a_reader_of_one_tenant_and_administrator_of_another_decides_in_that_one(scene: Scene, theirs: Held) -> None:
    browser, mine = stranger_with(scene)
    user = Membership.objects.get(tenant=mine.device.organization.tenant).user
    MembershipFactory(user=user, tenant=theirs.device.organization.tenant, role=Role.READER)
    both = [str(theirs.device.public_id), str(mine.device.public_id)]
    browser.post(
        reverse("device_bulk"),
        {"act": "block", "device": both, "reason": "x", "expiry": "7", "step": "confirm"},
    )
    browser.post(reverse("overrides_end"), {"override": [str(theirs.override.public_id)]})
    blocked = AccessOverride.objects.filter(level="block", ended_at=None)
    assert list(blocked.values_list("mailbox", flat=True)) == [mine.mailbox.pk]
    theirs.override.refresh_from_db()
    assert theirs.override.ended_at is None
    assert browser.post(reverse("device_override_end", args=[theirs.device.public_id])).status_code == 403


def test_overrides_of_another_tenant_are_not_ended(scene: Scene, theirs: Held) -> None:
    browser, _mine = stranger_with(scene)
    before = rows()
    answer = browser.post(reverse("overrides_end"), {"override": [str(theirs.override.public_id)]}, follow=True)
    assert rows() == before
    assert not any(word in told(answer) for word in theirs.what)


def test_a_record_of_another_tenant_is_not_linked(scene: Scene, theirs: Held) -> None:
    browser, mine = stranger_with(scene)
    address = reverse("device_link", args=[mine.device.public_id])
    for kind in ("link", "unlink", "clear"):
        answer = browser.post(address, {"record": str(theirs.record.public_id), "kind": kind})
        assert answer.status_code == 404
    assert not DeviceLink.objects.exists()
    assert "Fabrikam phone" not in told(browser.get(address, {"q": "Fabrikam"}))


def test_a_device_of_another_tenant_is_left_out_of_no_approval(scene: Scene, theirs: Held) -> None:
    browser, mine = stranger_with(scene)
    body = {"decision": "approve_except", "seen": approval_digest(mine.approval)}
    answer = browser.post(
        reverse("approval", args=[mine.approval.public_id]), {**body, "leave_out": [str(theirs.device.public_id)]}
    )
    assert answer.status_code == 422
    assert "Tick the devices that are to keep their access" in told(answer)
    theirs.denial.refresh_from_db()
    mine.approval.refresh_from_db()
    assert (theirs.denial.is_approved, mine.approval.state) == (None, "waiting")


@pytest.mark.parametrize("step", ["assign", "clear"])
def test_a_mailbox_of_another_tenant_gets_no_policy(scene: Scene, theirs: Held, step: str) -> None:
    browser, mine = stranger_with(scene)
    before = rows()
    body = {"step": step, "mailbox": [str(theirs.mailbox.public_id)], "key": uuid.uuid4().hex}
    answer = browser.post(reverse("mailbox_policy_mailboxes", args=[mine.policy.public_id]), body, follow=True)
    assert "Choose at least one mailbox" in told(answer)
    assert rows() == before


def test_a_mailbox_policy_of_another_tenant_is_neither_copied_nor_compared(scene: Scene, theirs: Held) -> None:
    browser, mine = stranger_with(scene)
    organization = mine.device.organization
    pages = [
        ("organization_mailbox_policy_create", {"copy": theirs.policy.public_id}),
        (
            "organization_mailbox_policies_compare",
            {"one": mine.policy.public_id, "other": theirs.policy.public_id, "all": "on"},
        ),
    ]
    for name, query in pages:
        answer = browser.get(reverse(name, args=[organization.public_id]), query)
        assert answer.status_code == 200
        assert not any(word in told(answer) for word in theirs.what)


# --- what lists are asked for ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "query"),
    [
        ("home", {}), ("tenants", {"q": "Conto"}), ("connectors", {"q": "Fabri"}), ("connectors", {"q": "ex."}),
        ("devices", {}), ("devices", {"organization": "organization"}), ("devices", {"q": "Fabri"}),
        ("commands", {}), ("commands", {"run": "run"}), ("commands", {"device": "device"}),
        ("commands", {"organization": "organization"}), ("commands_csv", {"device": "device"}), ("commands_csv", {}),
        ("notifications", {}), ("notifications", {"device": "device"}), ("drifts", {"organization": "organization"}),
        ("overrides", {"q": "Fabri"}), ("overrides", {"organization": "organization"}), ("approvals", {}),
        ("policies", {}), ("sources", {}),
    ],
)  # fmt: skip
def test_no_list_shows_another_tenants_rows(scene: Scene, theirs: Held, name: str, query: dict[str, str]) -> None:
    browser, _mine = stranger_with(scene)
    ids = {
        "organization": theirs.device.organization.public_id, "run": theirs.run.public_id,
        "device": theirs.device.public_id,
    }  # fmt: skip
    asked = {key: str(ids.get(value, value)) for key, value in query.items()}
    page = told(browser.get(reverse(name), asked, follow=True))
    for value in asked.values():
        # What was asked for stands in the page's own links and fields.
        page = page.replace(value, "")
    assert [word for word in theirs.what if word in page] == []
    assert any(word in told(scene.client("superuser").get(reverse(name), asked)) for word in theirs.what)

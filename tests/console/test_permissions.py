"""Who may do what: the table itself, and every address of the console held to it."""

from __future__ import annotations

import datetime
import uuid
import zlib

import pytest
from django.contrib.auth.models import AnonymousUser
from django.core.exceptions import PermissionDenied
from django.http import Http404
from django.urls import URLPattern, URLResolver, get_resolver, reverse
from django.utils import timezone

from connectors.actors import SETUP
from console.accounts.models import Role
from console.accounts.permissions import ALLOWED, Action, actions_in, require
from console.accounts.tokens import token_make
from sync.models import CsvImport, MailboxPolicy, PolicyVersion
from tests.console.conftest import Scene
from tests.factories import (
    ApprovalFactory,
    CommandFactory,
    DeviceFactory,
    DriftFactory,
    MailboxFactory,
    MembershipFactory,
    NotificationFactory,
    RunFactory,
    TenantFactory,
    UserFactory,
)

pytestmark = pytest.mark.django_db

TABLE = {
    # role: view, sync, cancel, schedule, policy, records, source, recheck, access, wipe
    Role.READER: (True, False, False, False, False, False, False, False, False, False),
    Role.OPERATOR: (True, True, True, False, False, True, False, True, False, False),
    Role.ADMINISTRATOR: (True,) * 10,
}


def test_the_table_is_this_one() -> None:
    actions = (
        Action.VIEW, Action.SYNC, Action.CANCEL, Action.SCHEDULE, Action.POLICY, Action.RECORDS, Action.SOURCE,
        Action.RECHECK, Action.ACCESS, Action.WIPE,
    )  # fmt: skip
    assert set(ALLOWED) == set(Role) == set(TABLE)
    assert set(actions) == set(Action)
    assert {role: tuple(action in ALLOWED[role] for action in actions) for role in ALLOWED} == TABLE


@pytest.mark.parametrize("role", list(Role))
def test_a_role_counts_in_its_tenant_only(role: Role) -> None:
    membership = MembershipFactory(role=role)
    assert actions_in(membership.user, membership.tenant) == ALLOWED[role]
    assert actions_in(membership.user, TenantFactory()) == frozenset()


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        pytest.param(lambda: UserFactory(is_superuser=True), frozenset(Action), id="superuser: everything"),
        pytest.param(UserFactory, frozenset(), id="no role: nothing"),
        pytest.param(AnonymousUser, frozenset(), id="not signed in: nothing"),
        pytest.param(lambda: UserFactory(is_superuser=True, is_active=False), frozenset(), id="switched off: nothing"),
    ],
)
def test_people_without_a_role(make, expected: frozenset[Action]) -> None:
    assert actions_in(make(), TenantFactory()) == expected


def test_a_role_that_this_version_does_not_know_allows_nothing() -> None:
    membership = MembershipFactory(role="auditor")
    assert actions_in(membership.user, membership.tenant) == frozenset()


def test_a_hidden_tenant_does_not_exist_and_a_role_too_small_is_refused() -> None:
    membership = MembershipFactory(role=Role.READER)
    assert require(membership.user, Action.VIEW, membership.tenant) == ALLOWED[Role.READER]
    with pytest.raises(PermissionDenied):
        require(membership.user, Action.SYNC, membership.tenant)
    with pytest.raises(Http404):
        require(membership.user, Action.SYNC, TenantFactory())


# --- every address ----------------------------------------------------------------------------------------------

# What each address does when the connector's tenant is the person's: method, and the smallest role that may.
TENANT_ADDRESSES = {
    "connector": ("get", Role.READER),
    "connector_live": ("get", Role.READER),
    "connector_runs": ("get", Role.READER),
    "connector_sync": ("post", Role.OPERATOR),
    "connector_schedule": ("post", Role.ADMINISTRATOR),
    "run": ("get", Role.READER),
    "run_live": ("get", Role.READER),
    "run_cancel": ("post", Role.OPERATOR),
    "connector_observe": ("post", Role.ADMINISTRATOR),
    "dry_run": ("get", Role.READER),
    "dry_run_csv": ("get", Role.READER),
    "device": ("get", Role.READER),
    "device_override": ("get", Role.ADMINISTRATOR),
    "device_override_end": ("post", Role.ADMINISTRATOR),
    "device_evaluate": ("post", Role.OPERATOR),
    "device_statistics": ("post", Role.OPERATOR),
    "device_link": ("get", Role.ADMINISTRATOR),
    "device_choice_clear": ("post", Role.ADMINISTRATOR),
    "device_destroy": ("get", Role.ADMINISTRATOR),
    "device_wipe_cancel": ("post", Role.ADMINISTRATOR),
    "approval": ("get", Role.READER),
    "approval_csv": ("get", Role.READER),
    "drift": ("get", Role.READER),
    "command": ("get", Role.READER),
    "tenant_policy": ("post", Role.ADMINISTRATOR),
    "tenant_policy_groups": ("get", Role.ADMINISTRATOR),
    "tenant_policy_history": ("get", Role.READER),
    "policy_roll_back": ("get", Role.ADMINISTRATOR),
    "organization_policy": ("post", Role.ADMINISTRATOR),
    "organization_policy_history": ("get", Role.READER),
    "organization_statistics": ("get", Role.READER),
    "organization_mailbox_policies": ("get", Role.READER),
    "organization_mailbox_policies_compare": ("get", Role.READER),
    "organization_mailbox_policies_read": ("post", Role.OPERATOR),
    "organization_mailbox_policy_create": ("get", Role.ADMINISTRATOR),
    "mailbox_policy": ("get", Role.READER),
    "mailbox_policy_edit": ("get", Role.ADMINISTRATOR),
    "mailbox_policy_default": ("post", Role.ADMINISTRATOR),
    "mailbox_policy_remove": ("post", Role.ADMINISTRATOR),
    "mailbox_policy_mailboxes": ("post", Role.ADMINISTRATOR),
    "organization_notification": ("post", Role.ADMINISTRATOR),
    "notification_preview": ("get", Role.READER),
    "notification_test": ("post", Role.ADMINISTRATOR),
    "notification_account": ("post", Role.ADMINISTRATOR),
    "notification_account_test": ("post", Role.ADMINISTRATOR),
    "notification_retry": ("post", Role.OPERATOR),
    "source": ("get", Role.READER),
    "source_records": ("get", Role.READER),
    "source_upload": ("get", Role.OPERATOR),
    "source_read": ("post", Role.OPERATOR),
    "source_configure": ("get", Role.ADMINISTRATOR),
    "source_verify": ("post", Role.ADMINISTRATOR),
    "source_others": ("post", Role.ADMINISTRATOR),
    "record_import": ("get", Role.OPERATOR),
    "record_import_apply": ("post", Role.OPERATOR),
    "api_tokens": ("get", Role.ADMINISTRATOR),
    "api_token_revoke": ("post", Role.ADMINISTRATOR),
}
OWN_ADDRESSES = {
    "home",
    "tenants",
    "connectors",
    "devices",
    "device_bulk",
    "approvals",
    "notifications",
    "drifts",
    "overrides",
    "overrides_end",
    "commands",
    "commands_csv",
    "policies",
    "sources",
    "account_change_password",
    "account_logout",
}
OPEN_ADDRESSES = {"language", "account_login", "account_inactive", "account_signup"}
BODY = {
    "kind": "fullSync", "is_enabled": "on", "quick_sync_minutes": "60", "full_sync_time": "03:00", "which": "included",
    # Of a policy's and its notification's forms.
    "based_on": "0", "step": "review", "target": "everyone", "unlicensed": "deny", "unknown_compliance": "compliant",
    "config_manager": "compliant", "stale": "compliant", "guard_devices": "10", "guard_percent": "5",
    "guard_at_most": "1000",
    "default_level": "", "denial": "block", "language": "en", "repeat_days": "7", "reason": "Because.",
    "channel": "none",
}  # fmt: skip
_ACTS = {"device_override": ["allow"], "device_destroy": ["wipe"]}
ORDER = [Role.READER, Role.OPERATOR, Role.ADMINISTRATOR]


def _names() -> set[str]:
    return {str(p.name) for p in get_resolver().url_patterns if isinstance(p, URLPattern)}


def _address(name: str, scene: Scene) -> str:
    if name.startswith("device"):
        device = DeviceFactory(organization=scene.connector.organization)
        return reverse(name, args=[device.public_id, *_ACTS.get(name, ())])
    if name.startswith("approval"):
        return reverse(name, args=[ApprovalFactory(organization=scene.connector.organization).public_id])
    if name in ("drift", "command"):
        mailbox = MailboxFactory(organization=scene.connector.organization)
        made = DriftFactory(mailbox=mailbox) if name == "drift" else CommandFactory(mailbox=mailbox)
        return reverse(name, args=[made.public_id])
    if name.startswith("dry_run"):
        return reverse(name, args=[RunFactory(connector=scene.connector, is_dry_run=True).public_id])
    if name == "policy_roll_back":
        version = PolicyVersion.objects.create(
            tenant=scene.connector.organization.tenant, number=1, content={}, made_at=timezone.now(), made_by_name="Ada"
        )
        return reverse(name, args=[version.public_id])
    if name.startswith("record_import"):
        kept = CsvImport.objects.create(
            tenant=scene.connector.organization.tenant, content=zlib.compress(b"id,complianceState\nr1,compliant\n"),
            made_at=timezone.now(), expires_at=timezone.now() + datetime.timedelta(hours=1), made_by_name="Ada",
        )  # fmt: skip
        return reverse(name, args=[kept.public_id])
    if name == "api_token_revoke":
        tenant = scene.connector.organization.tenant
        token, _text = token_make(tenant=tenant, name="MDM", role=Role.READER, expires_at=None, actor=SETUP)
        return reverse(name, args=[token.public_id])
    if name.startswith(("tenant_policy", "source", "api_tokens")):
        return reverse(name, args=[scene.connector.organization.tenant.public_id])
    if name.startswith("mailbox_policy"):
        made = MailboxPolicy.objects.create(
            organization=scene.connector.organization, guid=uuid.uuid4(), name="Strict", read_at=timezone.now()
        )
        return reverse(name, args=[made.public_id])
    if name == "notification_retry":
        device = DeviceFactory(organization=scene.connector.organization)
        return reverse(name, args=[NotificationFactory(device=device, state="failed").public_id])
    if name.startswith(("organization", "notification")):
        return reverse(name, args=[scene.connector.organization.public_id])
    if name.startswith("run"):
        return reverse(name, args=[RunFactory(connector=scene.connector, running=True).public_id])
    return reverse(name, args=[scene.connector.public_id])


def test_these_tables_name_every_address() -> None:
    assert _names() == set(TENANT_ADDRESSES) | OWN_ADDRESSES | OPEN_ADDRESSES
    # The API's are named by tests/console/api/test_walk.py.
    groups = [str(one.pattern) for one in get_resolver().url_patterns if isinstance(one, URLResolver)]
    assert groups == ["api/"]


@pytest.mark.parametrize("name", sorted(TENANT_ADDRESSES))
@pytest.mark.parametrize("script", [False, True], ids=["page", "htmx"])
def test_another_tenants_administrator_finds_nothing(scene: Scene, name: str, script: bool) -> None:
    method, _smallest = TENANT_ADDRESSES[name]
    headers = {"HX-Request": "true"} if script else {}
    browser = scene.client("stranger")
    answer = getattr(browser, method)(_address(name, scene), BODY, headers=headers)
    if name.endswith("_live") and not script:
        # Without the script these lead to the page, which is not there either.
        answer = browser.get(answer.url)
    assert answer.status_code == 404
    assert "Contoso" not in answer.content.decode()


@pytest.mark.parametrize("name", sorted(TENANT_ADDRESSES))
@pytest.mark.parametrize("role", ORDER)
def test_a_role_may_what_the_table_says(scene: Scene, name: str, role: Role) -> None:
    method, smallest = TENANT_ADDRESSES[name]
    answer = getattr(scene.client(role.value), method)(_address(name, scene), BODY, headers={"HX-Request": "true"})
    if ORDER.index(role) >= ORDER.index(smallest):
        assert answer.status_code in (200, 302)
    else:
        assert answer.status_code == 403
        assert "Your role does not allow this" in answer.content.decode()


@pytest.mark.parametrize("name", sorted(set(TENANT_ADDRESSES) | OWN_ADDRESSES - {"account_logout"}))
@pytest.mark.parametrize("who", ["nobody", "disabled"])
def test_without_a_valid_sign_in_there_is_the_sign_in_page(scene: Scene, name: str, who: str) -> None:
    address = _address(name, scene) if name in TENANT_ADDRESSES else reverse(name)
    method = TENANT_ADDRESSES.get(name, ("get",))[0]
    answer = getattr(scene.client(who), method)(address)
    assert answer.status_code == 302
    assert answer.url.startswith(f"{reverse('account_login')}?next=")


def test_a_part_of_a_page_that_lost_its_session_loads_the_whole_page(scene: Scene) -> None:
    answer = scene.client("nobody").get(_address("connector_live", scene), headers={"HX-Request": "true"})
    assert answer.status_code == 200
    assert answer["HX-Refresh"] == "true"
    assert answer.content == b""


@pytest.mark.parametrize(
    "name",
    [
        "connector_sync",
        "run_cancel",
        "notification_test",
        "notification_account_test",
        "source_read",
        "connector_observe",
        "device_override_end",
        "device_evaluate",
        "device_statistics",
        "device_choice_clear",
        "device_wipe_cancel",
    ],
)
def test_actions_take_no_get(scene: Scene, name: str) -> None:
    assert scene.client("administrator").get(_address(name, scene)).status_code == 405

"""Who would lose mail: what the preview counts, what it leaves out, and that it ends."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from django.utils import timezone

from connectors.models import ExchangeOrganization
from sync.deciding.facts import Level
from sync.models import (
    AccessOverride,
    DeviceAccess,
    DeviceStatistics,
    LedgerEntry,
    Mailbox,
    MobileDevice,
    PolicyVersion,
)
from sync.policies.policy import OrganizationPolicyValues, TenantPolicyValues
from sync.policies.policy_preview import Loss, grandfathering, losses_with_devices, organization_preview, tenant_preview
from tests.factories import DeviceFactory, OrganizationFactory, TenantFactory

pytestmark = pytest.mark.django_db

EVERYONE = TenantPolicyValues(enabled=True, target_everyone=True)
NOW = datetime.datetime(2026, 11, 24, 12, 0, tzinfo=datetime.UTC)


def organization(name: str = "Mail", **values: Any) -> ExchangeOrganization:
    values = {"default_access_level": "Allow", "settings_observed_at": NOW, "rules_observed_at": NOW, **values}
    return OrganizationFactory(name=name, **values)  # type: ignore[no-any-return]


def phone(of: ExchangeOrganization, number: int, **values: Any) -> MobileDevice:
    mailbox = Mailbox.objects.create(
        organization=of,
        guid=f"00000000-0000-0000-{of.pk:04}-{number:012}",
        primary_smtp=f"p{number}@contoso.lab",
        read_at=NOW,
        changed_at=NOW,
    )
    return DeviceFactory(organization=of, owner=mailbox, first_sync_time=NOW - datetime.timedelta(days=400), **values)  # type: ignore[no-any-return]


def test_each_loss_says_what_was_and_will_be_and_why() -> None:
    found = organization()
    device = phone(found, 1)
    preview = organization_preview(organization=found, tenant_values=EVERYONE, now=NOW)
    assert preview.losses == (Loss(device.pk, Level.ALLOW, Level.BLOCK, "noRecord", "notEnrolled"),)
    assert (preview.total, preview.people, preview.by_row, preview.percent) == (1, 1, (("noRecord", 1),), 100.0)
    assert "noSource" in preview.doubts


@pytest.mark.parametrize(
    "prepare",
    [
        pytest.param(lambda device: MobileDevice.objects.filter(pk=device.pk).update(gone_at=NOW), id="gone"),
        pytest.param(lambda device: MobileDevice.objects.filter(pk=device.pk).update(client_type="REST"), id="not EAS"),
        pytest.param(
            lambda device: Mailbox.objects.filter(pk=device.owner_id).update(blocked=[device.device_id]),
            id="blocked already",
        ),
        pytest.param(
            lambda device: AccessOverride.objects.create(
                organization=device.organization, mailbox=device.owner, device_id=device.device_id,
                device_id_key=device.device_id.lower(), level="allow", reason="x", made_at=NOW, made_by_name="Ada",
            ),
            id="an administrator allowed it",
        ),
    ],
)  # fmt: skip
def test_who_does_not_lose_mail(prepare: Callable[[MobileDevice], object]) -> None:
    found = organization()
    prepare(phone(found, 1))
    assert organization_preview(organization=found, tenant_values=EVERYONE, now=NOW).losses == ()


def test_it_looks_at_what_is_wanted_and_else_at_what_is_in_force() -> None:
    found = organization()
    phone(found, 1)
    PolicyVersion.objects.create(
        tenant=found.tenant, number=1, content=EVERYONE.to_json(), made_at=NOW, made_by_name="Ada"
    )
    assert len(organization_preview(organization=found, now=NOW).losses) == 1
    assert not organization_preview(organization=found, tenant_values=TenantPolicyValues(), now=NOW).losses
    values = OrganizationPolicyValues(default_level="quarantine")
    (loss,) = organization_preview(organization=found, organization_values=values, now=NOW).losses
    assert loss.after is Level.QUARANTINE


def test_it_changes_nothing() -> None:
    found = organization()
    phone(found, 1)
    organization_preview(organization=found, tenant_values=EVERYONE, now=NOW)
    for model in (DeviceAccess, LedgerEntry, PolicyVersion):
        assert not model.objects.exists()


def test_devices_in_use_are_kept_and_those_of_which_nothing_is_known() -> None:
    found = organization()
    for number, days in enumerate((1, 29, 31)):
        device = phone(found, number)
        DeviceStatistics.objects.create(device=device, read_at=NOW, last_success_at=NOW - datetime.timedelta(days=days))
    phone(found, 9)
    kept = grandfathering(days=30, until=NOW + datetime.timedelta(days=60), now=NOW)
    values = OrganizationPolicyValues(default_level="block", grandfathering=kept)
    preview = organization_preview(organization=found, organization_values=values, now=NOW)
    assert (preview.total, len(preview.losses), preview.kept, preview.kept_unknown) == (4, 1, 3, 1)
    later = NOW + datetime.timedelta(days=61)
    assert len(organization_preview(organization=found, organization_values=values, now=later).losses) == 4


@pytest.mark.parametrize(
    ("devices", "percent", "at_most", "expected"),
    [(2, 0.0, None, True), (3, 0.0, 3, False), (2, 74.9, None, True), (2, 75.0, 3, False), (2, 100.0, 2, True)],
    ids=[
        "more than both",
        "as many devices",
        "more than the percentage",
        "exactly the percentage",
        "more than at most",
    ],
)
def test_beyond_the_limits_denials_wait(devices: int, percent: float, at_most: int | None, expected: bool) -> None:
    found = organization()
    for number in range(4):
        device = phone(found, number)
        if number == 3:
            Mailbox.objects.filter(devices=device).update(blocked=[device.device_id])
    values = replace(EVERYONE, guard_devices=devices, guard_percent=percent, guard_at_most=at_most)
    assert organization_preview(organization=found, tenant_values=values, now=NOW).is_held is expected


def test_a_tenant_is_counted_organization_by_organization_until_patience_is_over() -> None:
    tenant = TenantFactory()
    organizations = [organization(name, tenant=tenant) for name in ("A", "B", "C")]
    for number, one in enumerate(organizations):
        phone(one, number)
    ticks: Iterator[float] = iter((0.0, 5.0, 25.0, 26.0))
    preview = tenant_preview(organizations=organizations, tenant_values=EVERYONE, now=NOW, clock=lambda: next(ticks))
    assert [one.organization.name for one in preview.organizations] == ["A", "B"]
    assert [one.name for one in preview.uncounted] == ["C"]
    assert (preview.total, preview.losses) == (2, 2)


def test_lines_of_devices_come_in_order_by_few_queries(django_assert_num_queries: Any) -> None:
    found = organization()
    devices = [phone(found, number) for number in range(5)]
    losses = [Loss(device.pk, Level.ALLOW, Level.BLOCK, "noRecord", "notEnrolled") for device in reversed(devices)]
    MobileDevice.objects.filter(pk=devices[2].pk).delete()
    with django_assert_num_queries(1):
        rows = [(device, device.owner) for _loss, device in losses_with_devices(losses)]
    assert [device.pk for device, _owner in rows] == [devices[n].pk for n in (4, 3, 1, 0)]


def test_the_number_of_queries_does_not_grow(django_assert_max_num_queries: Any) -> None:
    found = organization()
    for number in range(60):
        phone(found, number)
    with django_assert_max_num_queries(40):
        organization_preview(organization=found, tenant_values=EVERYONE, now=timezone.now())

"""The policy in force, read from its versions. Changes nothing: policy_services.py does."""

from __future__ import annotations

from collections.abc import Collection

from django.db.models import OuterRef, Subquery

from sync.models import PolicyVersion
from sync.policies.policy import OrganizationPolicyValues, TenantPolicyValues


def tenant_policy(tenant_id: int) -> TenantPolicyValues:
    """A tenant's; the defaults (which control nothing) where none was ever made."""
    rows = PolicyVersion.objects.filter(tenant_id=tenant_id, organization=None)
    content = rows.order_by("-number").values_list("content", flat=True).first()
    return TenantPolicyValues.from_json(content or {})


def tenants_controlled(tenant_ids: Collection[int]) -> frozenset[int]:
    """Which of these tenants control access, in one query."""
    newest = PolicyVersion.objects.filter(tenant=OuterRef("tenant"), organization=None).order_by("-number")
    rows = PolicyVersion.objects.filter(tenant__in=tenant_ids, organization=None, pk=Subquery(newest.values("pk")[:1]))
    contents = rows.values_list("tenant_id", "content")
    return frozenset(key for key, content in contents if TenantPolicyValues.from_json(content).enabled)


def organization_policy(organization_id: int) -> OrganizationPolicyValues:
    """An organization's; the defaults (which leave Exchange as it is) where none was ever made."""
    rows = PolicyVersion.objects.filter(organization_id=organization_id)
    content = rows.order_by("-number").values_list("content", flat=True).first()
    return OrganizationPolicyValues.from_json(content or {})

"""The policy in force, read from its versions. Changes nothing: policy_services.py does."""

from __future__ import annotations

from sync.models import PolicyVersion
from sync.policies.policy import OrganizationPolicyValues, TenantPolicyValues


def tenant_policy(tenant_id: int) -> TenantPolicyValues:
    """A tenant's; the defaults (which control nothing) where none was ever made."""
    rows = PolicyVersion.objects.filter(tenant_id=tenant_id, organization=None)
    content = rows.order_by("-number").values_list("content", flat=True).first()
    return TenantPolicyValues.from_json(content or {})


def organization_policy(organization_id: int) -> OrganizationPolicyValues:
    """An organization's; the defaults (which leave Exchange as it is) where none was ever made."""
    rows = PolicyVersion.objects.filter(organization_id=organization_id)
    content = rows.order_by("-number").values_list("content", flat=True).first()
    return OrganizationPolicyValues.from_json(content or {})

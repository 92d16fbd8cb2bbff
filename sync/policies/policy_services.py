"""Everything that changes a policy: each change is a new version with who, when and why; none is ever overwritten.

Refuses to speak to a network: whether a group exists is asked beforehand (policy_groups.py). What is saved is brought
to Exchange by a run of its own, asked for in the same transaction.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TypeAlias, overload

from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import QuerySet
from django.db.models.functions import Now
from django.utils.translation import gettext_lazy as _

from connectors.actors import Actor
from connectors.models import Connector, ExchangeOrganization, Tenant
from sync.events import storable
from sync.models import PolicyVersion, SyncRun
from sync.policies.policy import OrganizationPolicyValues, TenantPolicyValues
from sync.policies.policy_checks import organization_values_clean, tenant_values_clean
from sync.policies.policy_words import differences
from sync.services import SyncRequest, sync_request

logger = logging.getLogger(__name__)

REASON_LENGTH = 2000

Values: TypeAlias = TenantPolicyValues | OrganizationPolicyValues


@dataclass(frozen=True, slots=True)
class PolicyChange:
    """is_changed False: the values were those in force, and no version was made; version is the one in force then,
    None where there is none. requests: the runs that bring it to Exchange."""

    version: PolicyVersion | None
    is_changed: bool
    requests: tuple[SyncRequest, ...] = ()


def versions_of(owner: Tenant | ExchangeOrganization) -> QuerySet[PolicyVersion]:
    """The versions of a tenant's or an organization's policy, newest first."""
    if isinstance(owner, Tenant):
        return PolicyVersion.objects.filter(tenant=owner, organization=None).order_by("-number")
    return PolicyVersion.objects.filter(organization=owner).order_by("-number")


@overload
def policy_current(owner: Tenant) -> tuple[TenantPolicyValues, PolicyVersion | None]: ...
@overload
def policy_current(owner: ExchangeOrganization) -> tuple[OrganizationPolicyValues, PolicyVersion | None]: ...
def policy_current(owner: Tenant | ExchangeOrganization) -> tuple[Values, PolicyVersion | None]:
    """The policy in force and its version; the defaults and None when none was ever saved. One query."""
    version = versions_of(owner).first()
    if version is not None:
        return values_of(version), version
    return (TenantPolicyValues() if isinstance(owner, Tenant) else OrganizationPolicyValues()), None


def values_of(version: PolicyVersion) -> Values:
    """What a version says."""
    kind = TenantPolicyValues if version.organization_id is None else OrganizationPolicyValues
    return kind.from_json(version.content)


@transaction.atomic
def tenant_policy_change(
    *, tenant: Tenant, values: TenantPolicyValues, reason: str, actor: Actor, based_on: int | None = None
) -> PolicyChange:
    """Make these values the tenant's policy. based_on: number of the version that the values were made from, 0 where
    there was none; None: whatever is in force is replaced.

    Raises ValidationError keyed by value; `reason` when it is missing; with code policy_conflict, and what changed
    meanwhile, when a newer version than based_on is in force.
    """
    # Locked, so that versions are numbered one after the other and none is made from what is no longer in force.
    Tenant.objects.select_for_update().get(pk=tenant.pk)
    return _change(tenant, tenant_values_clean(values), reason, actor, based_on)


@transaction.atomic
def organization_policy_change(
    *,
    organization: ExchangeOrganization,
    values: OrganizationPolicyValues,
    reason: str,
    actor: Actor,
    based_on: int | None = None,
) -> PolicyChange:
    """Make these values the organization's policy; as tenant_policy_change."""
    ExchangeOrganization.objects.select_for_update().get(pk=organization.pk)
    return _change(organization, organization_values_clean(values), reason, actor, based_on)


@transaction.atomic
def policy_roll_back(*, version: PolicyVersion, reason: str, actor: Actor, based_on: int | None = None) -> PolicyChange:
    """Make what an older version says the policy again, as a new version. Raises ValidationError as a change does: what
    could be saved once is checked by today's rules.

    Devices that were to keep their access until a day do so until that day and no longer.
    """
    owner: Tenant | ExchangeOrganization
    if version.organization_id is None:
        owner = Tenant.objects.select_for_update().get(pk=version.tenant_id)
    else:
        owner = ExchangeOrganization.objects.select_for_update().get(pk=version.organization_id)
    values = values_of(version)
    clean = tenant_values_clean(values) if isinstance(values, TenantPolicyValues) else organization_values_clean(values)
    return _change(owner, clean, reason, actor, based_on, rolled_back_to=version.number)


def _change(
    owner: Tenant | ExchangeOrganization,
    values: Values,
    reason: str,
    actor: Actor,
    based_on: int | None,
    rolled_back_to: int | None = None,
) -> PolicyChange:
    """One new version. The owner's row is locked."""
    before, current = policy_current(owner)
    if based_on is not None and based_on != (current.number if current else 0):
        _refuse_conflict(owner, before, current, based_on)
    if values == before:
        return PolicyChange(current, is_changed=False)
    why = str(storable(reason)).strip()
    if not why:
        raise ValidationError(
            {"reason": ValidationError(_("Say why, for those who read the history later."), code="reason_missing")}
        )
    version = PolicyVersion.objects.create(
        tenant_id=owner.pk if isinstance(owner, Tenant) else owner.tenant_id,
        organization=None if isinstance(owner, Tenant) else owner,
        number=(current.number if current else 0) + 1,
        content=values.to_json(),
        made_at=Now(),
        made_by_id=actor.user_id,
        made_by_name=actor.name[:200],
        reason=why[:REASON_LENGTH],
        rolled_back_to=rolled_back_to,
    )
    version.refresh_from_db(fields=["made_at"])
    logger.info("policy %s of %s made by %s", version.number, owner.public_id, actor.name)
    return PolicyChange(version, is_changed=True, requests=_apply(owner, before, values, actor))


def _refuse_conflict(
    owner: Tenant | ExchangeOrganization, now: Values, current: PolicyVersion | None, based_on: int
) -> None:
    """Raises ValidationError that says who changed what since the version `based_on`."""
    seen = versions_of(owner).filter(number=based_on).first()
    base = values_of(seen) if seen else type(now)()
    changed = "; ".join(
        _("%(label)s: %(before)s → %(after)s")
        % {"label": one.label, "before": one.before[:80] or "–", "after": one.after[:80] or "–"}
        for one in differences(base, now)[:5]
    )
    raise ValidationError(
        _(
            "%(name)s saved version %(number)s in the meantime (%(changed)s). Nothing of yours was saved. Open the "
            "page again, look at what is in force now, and make your change to that."
        ),
        code="policy_conflict",
        params={
            "name": current.made_by_name if current else "–",
            "number": current.number if current else 0,
            "changed": changed or _("back to what you had seen"),
        },
    )


def _apply(
    owner: Tenant | ExchangeOrganization, before: Values, after: Values, actor: Actor
) -> tuple[SyncRequest, ...]:
    """Ask for the runs that bring a change to Exchange. None when nothing was and is controlled, or when what changed
    (the notification) reaches Exchange in no way. An organization's settings are enforced whether or not its tenant
    controls access."""
    if isinstance(owner, Tenant):
        is_wanted = _is_on(before) or _is_on(after)
        connectors = Connector.objects.filter(organization__tenant=owner)
    else:
        is_wanted = before.facts() != after.facts()
        connectors = Connector.objects.filter(organization=owner)
    if not is_wanted:
        return ()
    # In one order, so that two changes do not wait for each other's connectors.
    return tuple(
        sync_request(connector=connector, kind=SyncRun.Kind.APPLY, trigger=SyncRun.Trigger.POLICY, actor=actor)
        for connector in connectors.order_by("pk")
    )


def _is_on(values: Values) -> bool:
    return isinstance(values, TenantPolicyValues) and values.enabled

"""Who may do what: one table. Pages and programs ask here and nowhere else.

A tenant that a person may not see does not exist for them (404); an action that their role does not allow is refused
(403). A superuser may do everything in every tenant, an account that is switched off nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import StrEnum

from django.core.exceptions import PermissionDenied
from django.http import Http404

from connectors.models import Tenant
from connectors.selectors import Person
from console.accounts.models import Membership, Role


class Action(StrEnum):
    """What can be done in a tenant."""

    VIEW = "view"
    SYNC = "sync"
    CANCEL = "cancel"
    SCHEDULE = "schedule"
    RECORDS = "records"  # push and import device records
    SOURCE = "source"  # where device records come from, and the API's tokens
    POLICY = "policy"
    RECHECK = "recheck"  # have single devices read and decided anew
    ACCESS = "access"  # allow, block, override, link, adopt, approve
    WIPE = "wipe"  # wipe devices, remove partnerships


ALLOWED: Mapping[Role, frozenset[Action]] = {
    Role.READER: frozenset({Action.VIEW}),
    Role.OPERATOR: frozenset({Action.VIEW, Action.SYNC, Action.CANCEL, Action.RECORDS, Action.RECHECK}),
    Role.ADMINISTRATOR: frozenset(Action),
}


def actions_in(person: Person, tenant: Tenant) -> frozenset[Action]:
    """All that a person may do in a tenant; nothing where they have no role. One query, none for a superuser."""
    if not person.is_active or person.pk is None:
        return frozenset()
    if person.is_superuser:
        return frozenset(Action)
    role = Membership.objects.filter(user=person.pk, tenant=tenant).values_list("role", flat=True).first()
    return ALLOWED[Role(role)] if role in Role.values else frozenset()


def actions_by_tenant(person: Person) -> Callable[[int], frozenset[Action]]:
    """For pages of several tenants: a function from a tenant's key to the person's actions there. One query at most."""
    if not person.is_active or person.pk is None:
        return lambda tenant: frozenset()
    if person.is_superuser:
        return lambda tenant: frozenset(Action)
    roles = dict(Membership.objects.filter(user=person.pk).values_list("tenant_id", "role"))

    def actions(tenant: int) -> frozenset[Action]:
        role = roles.get(tenant)
        return ALLOWED[Role(role)] if role in Role.values else frozenset()

    return actions


def may_anywhere(person: Person, action: Action) -> bool:
    """Whether a person may do it in any tenant at all, for pages of several: whether to offer it. One query at most."""
    if not person.is_active or person.pk is None:
        return False
    if person.is_superuser:
        return True
    roles = [role for role, actions in ALLOWED.items() if action in actions]
    return Membership.objects.filter(user=person.pk, role__in=roles).exists()


def require(person: Person, action: Action, tenant: Tenant) -> frozenset[Action]:
    """The person's actions in the tenant. Raises Http404 when they may not see it, PermissionDenied for `action`."""
    allowed = actions_in(person, tenant)
    if Action.VIEW not in allowed:
        raise Http404
    if action not in allowed:
        raise PermissionDenied
    return allowed

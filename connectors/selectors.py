"""What a person may see of tenants, organisations and connectors.

Every page and API reads through these. A superuser sees all, anyone else what their memberships name, someone whose
account is switched off or who is not signed in: nothing.
"""

from __future__ import annotations

from typing import Any, Protocol

from django.db.models import Prefetch, QuerySet

from connectors.models import ClientAccessServer, Connector, ExchangeOrganization, Tenant


class Person(Protocol):
    """A signed-in user or Django's AnonymousUser, as far as access is concerned."""

    @property
    def pk(self) -> Any: ...
    @property
    def is_active(self) -> bool: ...
    @property
    def is_superuser(self) -> bool: ...


def tenants_for(person: Person) -> QuerySet[Tenant]:
    """The tenants a person may see, by name."""
    if not person.is_active or person.pk is None:
        return Tenant.objects.none()
    if person.is_superuser:
        return Tenant.objects.all()
    return Tenant.objects.filter(memberships__user=person.pk)


def organizations_for(person: Person) -> QuerySet[ExchangeOrganization]:
    """The Exchange organisations of the tenants a person may see, with their tenant."""
    return ExchangeOrganization.objects.filter(tenant__in=tenants_for(person)).select_related("tenant")


def connectors_for(person: Person) -> QuerySet[Connector]:
    """The connectors of the tenants a person may see, with organisation, tenant and servers in the order tried."""
    return (
        Connector.objects.filter(organization__tenant__in=tenants_for(person))
        .select_related("organization__tenant")
        .prefetch_related(Prefetch("servers", ClientAccessServer.objects.order_by("priority", "fqdn")))
    )

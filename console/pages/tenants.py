"""The tenants a person may see, with their organisations and how these stand."""

from __future__ import annotations

from dataclasses import dataclass

from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from connectors.models import Tenant
from connectors.selectors import connectors_for, tenants_for
from console.accounts.models import Membership, Role
from console.pages.searching import searched
from console.pages.standing import Standing, standings

PAGE_SIZE = 50


@dataclass(frozen=True, slots=True)
class Row:
    """role: the person's in this tenant, None for a superuser, whose account reaches every tenant."""

    tenant: Tenant
    role: Role | None
    standings: list[Standing]


@require_safe
def tenants(request: HttpRequest) -> HttpResponse:
    text = searched(request.GET)
    page = Paginator(tenants_for(request.user).filter(name__icontains=text), PAGE_SIZE).get_page(
        request.GET.get("page")
    )
    rows = _rows(request, list(page.object_list))
    query = request.GET.copy()
    links = {}
    if page.has_previous():
        query["page"] = str(page.previous_page_number())
        links["previous"] = f"?{query.urlencode()}"
    if page.has_next():
        query["page"] = str(page.next_page_number())
        links["next"] = f"?{query.urlencode()}"
    return render(request, "pages/tenants.html", {"page": page, "rows": rows, "query": text, "links": links})


def _rows(request: HttpRequest, shown: list[Tenant]) -> list[Row]:
    roles = dict(Membership.objects.filter(user=request.user.pk, tenant__in=shown).values_list("tenant_id", "role"))
    connectors = connectors_for(request.user).filter(organization__tenant__in=shown).order_by("organization__name")
    by_tenant: dict[int, list[Standing]] = {}
    for one in standings(list(connectors)):
        by_tenant.setdefault(one.connector.organization.tenant_id, []).append(one)
    return [
        Row(tenant, Role(roles[tenant.pk]) if tenant.pk in roles else None, by_tenant.get(tenant.pk, []))
        for tenant in shown
    ]

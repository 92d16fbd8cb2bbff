"""The history of a policy: who changed what, when and why; and the way back to any version."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass

from django.core.exceptions import ValidationError
from django.core.paginator import Paginator
from django.db.models import Q
from django.http import HttpRequest, HttpResponse, HttpResponseBadRequest, HttpResponseBase
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods, require_safe

from connectors.models import ExchangeOrganization, Tenant
from connectors.selectors import organizations_for, tenants_for
from console.accounts.actors import actor_of
from console.accounts.permissions import Action, actions_in, require
from console.pages.policy_forms import ReviewForm, errors_put
from console.pages.policy_review import Place, based_on, losses_csv, review, say
from sync.models import PolicyVersion
from sync.policies.policy import OrganizationPolicyValues, TenantPolicyValues
from sync.policies.policy_preview import TenantPreview, organization_preview, tenant_preview
from sync.policies.policy_services import Values, policy_current, policy_roll_back, values_of, versions_of
from sync.policies.policy_words import Difference, differences

PAGE_SIZE = 20


@dataclass(frozen=True, slots=True)
class Line:
    """A version, and how it differs from the one before it."""

    version: PolicyVersion
    differences: tuple[Difference, ...]
    is_in_force: bool


@require_safe
def tenant_history(request: HttpRequest, public_id: uuid.UUID) -> HttpResponse:
    return _history(request, get_object_or_404(tenants_for(request.user), public_id=public_id))


@require_safe
def organization_history(request: HttpRequest, public_id: uuid.UUID) -> HttpResponse:
    return _history(request, get_object_or_404(organizations_for(request.user), public_id=public_id))


def _history(request: HttpRequest, owner: Tenant | ExchangeOrganization) -> HttpResponse:
    page = Paginator(versions_of(owner), PAGE_SIZE).get_page(request.GET.get("page"))
    shown = list(page.object_list)
    tenant = owner if isinstance(owner, Tenant) else owner.tenant
    context = {
        "owner": owner,
        "organization": owner if isinstance(owner, ExchangeOrganization) else None,
        "tenant": tenant,
        "page": page,
        "lines": _lines(owner, shown, is_first_page=page.number == 1),
        "links": {
            "previous": f"?page={page.previous_page_number()}" if page.has_previous() else "",
            "next": f"?page={page.next_page_number()}" if page.has_next() else "",
        },
        "allowed": actions_in(request.user, tenant),
    }
    return render(request, "pages/policy_history.html", context)


def _lines(owner: Tenant | ExchangeOrganization, shown: Sequence[PolicyVersion], *, is_first_page: bool) -> list[Line]:
    """Newest first; one query for the version before the oldest shown."""
    if not shown:
        return []
    older = versions_of(owner).filter(number__lt=shown[-1].number).first()
    before: list[Values] = [values_of(version) for version in shown[1:]]
    nothing: Values = TenantPolicyValues() if isinstance(owner, Tenant) else OrganizationPolicyValues()
    before.append(values_of(older) if older else nothing)
    return [
        Line(version, differences(earlier, values_of(version)), is_in_force=is_first_page and position == 0)
        for position, (version, earlier) in enumerate(zip(shown, before, strict=True))
    ]


@require_http_methods(["GET", "HEAD", "POST"])
def roll_back(request: HttpRequest, public_id: uuid.UUID) -> HttpResponseBase:
    """What going back to a version changes and who would lose mail by it; and, with a reason, doing it."""
    seen = Q(organization=None, tenant__in=tenants_for(request.user)) | Q(
        organization__in=organizations_for(request.user)
    )
    found = PolicyVersion.objects.filter(seen).select_related("tenant", "organization__tenant")
    version = get_object_or_404(found, public_id=public_id)
    require(request.user, Action.POLICY, version.tenant)
    owner = version.organization or version.tenant
    current, newest = policy_current(owner)
    values = values_of(version)
    if request.method != "POST":
        if values == current:
            return redirect(_address(owner))
        return _review(request, owner, version, current, newest.number if newest else 0)
    step, number = request.POST.get("step", ""), based_on(request)
    if step == "csv":
        previews = _previews(request, owner, current, values)
        return losses_csv(f"gatehouse-preview-{owner.name}.csv", previews or TenantPreview(()))
    if step != "save":
        return HttpResponseBadRequest()
    form = ReviewForm(request.POST)
    if form.is_valid():
        try:
            change = policy_roll_back(
                version=version, reason=form.cleaned_data["reason"], actor=actor_of(request.user), based_on=number
            )
        except ValidationError as error:
            errors_put(form, error)
        else:
            say(request, owner, change)
            return redirect(_address(owner))
    return _review(request, owner, version, current, number, form)


def _address(owner: Tenant | ExchangeOrganization) -> str:
    name = "tenant_policy_history" if isinstance(owner, Tenant) else "organization_policy_history"
    return reverse(name, args=[owner.public_id])


def _review(
    request: HttpRequest,
    owner: Tenant | ExchangeOrganization,
    version: PolicyVersion,
    current: Values,
    number: int,
    form: ReviewForm | None = None,
) -> HttpResponse:
    address = _address(owner)
    values = values_of(version)
    place = Place(
        title=_("Roll back to version %(number)s") % {"number": version.number},
        subtitle=owner.name,
        action=reverse("policy_roll_back", args=[version.public_id]),
        cancel=address,
        parent=_("History"),
        parent_url=address,
        can_edit=False,
    )
    return review(
        request,
        place=place,
        before=current,
        after=values,
        number=number,
        previews=_previews(request, owner, current, values),
        form=form,
    )


def _previews(
    request: HttpRequest, owner: Tenant | ExchangeOrganization, current: Values, values: Values
) -> TenantPreview | None:
    if isinstance(owner, ExchangeOrganization) and isinstance(values, OrganizationPolicyValues):
        if current.facts() == values.facts():
            return None
        return TenantPreview((organization_preview(organization=owner, organization_values=values),))
    if not isinstance(values, TenantPolicyValues) or not isinstance(current, TenantPolicyValues):
        return None
    if not (current.enabled or values.enabled):
        return None
    organizations = organizations_for(request.user).filter(tenant=owner.pk).order_by("name")
    return tenant_preview(organizations=list(organizations), tenant_values=values)

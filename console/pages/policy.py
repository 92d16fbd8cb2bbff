"""Exchange on-premises access: a tenant's policy, seen by all of its people, changed by its administrators."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from django.core.exceptions import ValidationError
from django.core.paginator import Paginator
from django.db.models import OuterRef, Subquery
from django.http import HttpRequest, HttpResponse, HttpResponseBadRequest, HttpResponseBase
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods, require_safe

from connectors.models import Tenant
from connectors.selectors import organizations_for, tenants_for
from connectors.sources import source_of
from console.accounts.actors import actor_of
from console.accounts.permissions import Action, actions_in, require
from console.pages.policy_forms import ReviewForm, TenantPolicyForm, errors_put
from console.pages.policy_review import Place, based_on, losses_csv, proposal_of, review, say
from sync.models import PolicyVersion
from sync.policies.policy import GroupRef, TenantPolicyValues
from sync.policies.policy_checks import tenant_values_clean
from sync.policies.policy_groups import GroupSearch, groups_resolve, groups_search
from sync.policies.policy_preview import TenantPreview, tenant_preview
from sync.policies.policy_services import policy_current, tenant_policy_change

PAGE_SIZE = 50
WHICH = ("included", "excluded")


@require_safe
def policies(request: HttpRequest) -> HttpResponse:
    """The tenants with their policies; the one policy itself for whoever sees one tenant only."""
    found = tenants_for(request.user).order_by("name")
    if (only := list(found[:2])) and len(only) == 1:
        return redirect("tenant_policy", public_id=only[0].public_id)
    page = Paginator(found, PAGE_SIZE).get_page(request.GET.get("page"))
    newest = _newest(list(page.object_list))
    rows = [
        (
            tenant,
            newest.get(tenant.pk),
            TenantPolicyValues.from_json(newest[tenant.pk].content) if tenant.pk in newest else TenantPolicyValues(),
        )
        for tenant in page.object_list
    ]
    links = {
        "previous": f"?page={page.previous_page_number()}" if page.has_previous() else "",
        "next": f"?page={page.next_page_number()}" if page.has_next() else "",
    }
    return render(request, "pages/policies.html", {"page": page, "rows": rows, "links": links})


def _newest(shown: list[Tenant]) -> dict[int, PolicyVersion]:
    """The version in force of each tenant that has one, by the tenant's key; one query."""
    newest = PolicyVersion.objects.filter(tenant=OuterRef("pk"), organization=None).order_by("-number").values("pk")[:1]
    keys = Tenant.objects.filter(pk__in=[tenant.pk for tenant in shown]).values(key=Subquery(newest))
    return {version.tenant_id: version for version in PolicyVersion.objects.filter(pk__in=keys)}


def _tenant(request: HttpRequest, public_id: uuid.UUID) -> Tenant:
    return get_object_or_404(tenants_for(request.user), public_id=public_id)


@require_http_methods(["GET", "HEAD", "POST"])
def tenant_policy(request: HttpRequest, public_id: uuid.UUID) -> HttpResponseBase:
    """The form; and its steps: search for groups, review, save, or the list of a review as a file."""
    tenant = _tenant(request, public_id)
    if request.method != "POST":
        values, version = policy_current(tenant)
        return _page(request, tenant, TenantPolicyForm(values=values), version.number if version else 0, version)
    require(request.user, Action.POLICY, tenant)
    step, number = request.POST.get("step", "review"), based_on(request)
    proposal = proposal_of(request, TenantPolicyValues)
    if isinstance(proposal, TenantPolicyValues):
        return _reviewed(request, tenant, proposal, step, number)
    current, version = policy_current(tenant)
    form = TenantPolicyForm(request.POST, values=current)
    if step in ("search_included", "search_excluded"):
        return _page(request, tenant, form, number, version, searched=step.removeprefix("search_"))
    if form.is_valid():
        try:
            values = _resolved(tenant, tenant_values_clean(form.to_values()), current)
        except ValidationError as error:
            errors_put(form, error)
        else:
            return _review(request, tenant, current, values, number)
    return _page(request, tenant, form, number, version)


def _resolved(tenant: Tenant, values: TenantPolicyValues, current: TenantPolicyValues) -> TenantPolicyValues:
    """With the groups that the directory has, by the names they have there. Raises ValidationError keyed by value."""
    before = [group.id for group in (*current.included_groups, *current.excluded_groups)]
    groups: dict[str, tuple[GroupRef, ...]] = {}
    problems: dict[str, list[ValidationError]] = {}
    for name in ("included_groups", "excluded_groups"):
        try:
            groups[name] = groups_resolve(tenant, getattr(values, name), before=before)
        except ValidationError as error:
            problems[name] = error.error_list
    if problems:
        raise ValidationError({name: list(errors) for name, errors in problems.items()})
    return replace(values, included_groups=groups["included_groups"], excluded_groups=groups["excluded_groups"])


def _reviewed(
    request: HttpRequest, tenant: Tenant, values: TenantPolicyValues, step: str, number: int
) -> HttpResponseBase:
    """A step that a review's form asked for."""
    current, version = policy_current(tenant)
    if step == "edit":
        return _page(request, tenant, TenantPolicyForm(values=values), number, version)
    if step == "csv":
        previews = _previews(request, tenant, current, values)
        return losses_csv(f"gatehouse-preview-{tenant.name}.csv", previews or TenantPreview(()))
    if step != "save":
        return HttpResponseBadRequest()
    form = ReviewForm(request.POST)
    if form.is_valid():
        try:
            change = tenant_policy_change(
                tenant=tenant,
                values=values,
                reason=form.cleaned_data["reason"],
                actor=actor_of(request.user),
                based_on=number,
            )
        except ValidationError as error:
            errors_put(form, error)
        else:
            say(request, tenant, change)
            return redirect("tenant_policy", public_id=tenant.public_id)
    return _review(request, tenant, current, values, number, form)


def _review(
    request: HttpRequest,
    tenant: Tenant,
    current: TenantPolicyValues,
    values: TenantPolicyValues,
    number: int,
    form: ReviewForm | None = None,
) -> HttpResponse:
    address = reverse("tenant_policy", args=[tenant.public_id])
    place = Place(
        title=_("Review and save"),
        subtitle=f"{_('Exchange on-premises access')} · {tenant.name}",
        action=address,
        cancel=address,
        parent=_("Exchange on-premises access"),
        parent_url=address,
    )
    previews = _previews(request, tenant, current, values)
    return review(request, place=place, before=current, after=values, number=number, previews=previews, form=form)


def _previews(
    request: HttpRequest, tenant: Tenant, current: TenantPolicyValues, values: TenantPolicyValues
) -> TenantPreview | None:
    if not (current.enabled or values.enabled):
        return None
    organizations = organizations_for(request.user).filter(tenant=tenant).order_by("name")
    return tenant_preview(organizations=list(organizations), tenant_values=values)


def _page(
    request: HttpRequest,
    tenant: Tenant,
    form: TenantPolicyForm,
    number: int,
    version: PolicyVersion | None,
    searched: str = "",
) -> HttpResponse:
    pickers = [_picker(request, tenant, form, which, is_searched=which == searched) for which in WHICH]
    context: dict[str, Any] = {
        "tenant": tenant,
        "form": form,
        "based_on": number,
        "version": version,
        "pickers": pickers,
        "allowed": actions_in(request.user, tenant),
        "source": source_of(tenant),
        "organizations": organizations_for(request.user).filter(tenant=tenant).order_by("name"),
    }
    return render(request, "pages/policy_tenant.html", context, status=422 if form.errors and not searched else 200)


def _picker(
    request: HttpRequest, tenant: Tenant, form: TenantPolicyForm, which: str, *, is_searched: bool
) -> Mapping[str, Any]:
    """What components/group_picker.html takes."""
    query = request.POST.get(f"{which}_query", "")
    chosen = form.chosen(f"{which}_groups")
    search = groups_search(tenant, query) if is_searched else None
    return {
        "which": which,
        "field": form[f"{which}_groups"],
        "chosen": chosen,
        "query": query,
        **_found(search, query, {group.id.lower() for group in chosen}),
    }


def _found(search: GroupSearch | None, query: str, chosen: set[str]) -> dict[str, Any]:
    """What components/group_results.html takes. Without a directory, what was typed may itself be the ID."""
    if search is None:
        return {"is_searched": False}
    found = [group for group in search.found if group.id.lower() not in chosen]
    text = query.strip()
    is_id = bool(text) and not any(sign.isspace() for sign in text) and text.lower() not in chosen
    if (not search.is_directory or search.error) and is_id and not any(g.id.lower() == text.lower() for g in found):
        found.append(GroupRef(text))
    return {"is_searched": True, "found": found, "search": search, "query": text}


@require_safe
def groups(request: HttpRequest, public_id: uuid.UUID) -> HttpResponse:
    """The results of a search alone, for the script that puts them beneath the field."""
    tenant = _tenant(request, public_id)
    require(request.user, Action.POLICY, tenant)
    which = request.GET.get("which", "")
    if which not in WHICH:
        return HttpResponseBadRequest()
    if not request.headers.get("HX-Request"):
        return redirect("tenant_policy", public_id=public_id)
    query = request.GET.get(f"{which}_query", "")
    context = {"which": which, **_found(groups_search(tenant, query), query, set())}
    return render(request, "components/group_results.html", context)

"""Device records: where each tenant's come from, how its source stands, and its configuration.

Nothing secret is ever shown. Trying a source speaks to the network within the request, bounded to 20 s and outside any
transaction; reading it is a worker's work.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Any

from django.contrib import messages
from django.core.exceptions import ValidationError
from django.core.paginator import Paginator
from django.db.models import Count, Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from connectors.models import DeviceSource, Tenant
from connectors.problems import RenderedProblem, problem
from connectors.selectors import tenants_for
from connectors.sources import EXPIRY_WARNING, Verified, source_configure, source_of, source_verify
from console.accounts.actors import actor_of
from console.accounts.permissions import Action, actions_in, require
from console.pages.searching import searched
from console.pages.source_forms import SourceForm
from sync.dispatch import records_dispatch
from sync.models import DirectoryGroup, DirectoryUser, ManagedDevice, Presence
from sync.records.people_store import groups_wanted
from sync.records.pushed import others_of, records_of_others_end
from sync.selectors import records_for

PAGE_SIZE = 50
CHECKS: dict[str, str | Promise] = {
    "sign_in": gettext_lazy("Sign-in"),
    "managed_devices": gettext_lazy("Device records"),
    "users": gettext_lazy("People"),
    "licences": gettext_lazy("Licenses"),
    "groups": gettext_lazy("Groups"),
    "members": gettext_lazy("Members of groups"),
}


@dataclass(frozen=True, slots=True)
class CheckRow:
    """One check in words. problem: what went wrong and what to do; None when it is well."""

    name: str | Promise
    tone: str
    found: int | None
    problem: RenderedProblem | None


def tenant_of(request: HttpRequest, public_id: uuid.UUID) -> Tenant:
    """The tenant, if the person may see it; 404 otherwise."""
    return get_object_or_404(tenants_for(request.user), public_id=public_id)


@require_safe
def sources(request: HttpRequest) -> HttpResponse:
    """The tenants with their sources; the one source itself for whoever sees one tenant only."""
    found = tenants_for(request.user).order_by("name")
    if (only := list(found[:2])) and len(only) == 1:
        return redirect("source", public_id=only[0].public_id)
    page = Paginator(found.select_related("device_source"), PAGE_SIZE).get_page(request.GET.get("page"))
    shown = list(page.object_list)
    counts = dict(
        ManagedDevice.objects.filter(tenant__in=shown)
        .exclude(presence=Presence.GONE)
        .values_list("tenant")
        .annotate(count=Count("pk"))
    )
    rows = [(tenant, getattr(tenant, "device_source", None), counts.get(tenant.pk, 0)) for tenant in shown]
    links = {
        "previous": f"?page={page.previous_page_number()}" if page.has_previous() else "",
        "next": f"?page={page.next_page_number()}" if page.has_next() else "",
    }
    return render(request, "pages/sources.html", {"page": page, "rows": rows, "links": links})


@require_safe
def source(request: HttpRequest, public_id: uuid.UUID) -> HttpResponse:
    return _page(request, tenant_of(request, public_id))


def _page(request: HttpRequest, tenant: Tenant, verified: Verified | None = None) -> HttpResponse:
    found = source_of(tenant)
    rows = ManagedDevice.objects.filter(tenant=tenant).order_by()
    counts = dict(rows.values_list("presence").annotate(count=Count("pk")))
    now = timezone.now()
    expires = found.credential_expires_at if found.kind == DeviceSource.Kind.GRAPH else None
    context = {
        "tenant": tenant,
        "source": found,
        "allowed": actions_in(request.user, tenant),
        "present": counts.get(Presence.PRESENT, 0) + counts.get(Presence.MISSING, 0),
        "missing": counts.get(Presence.MISSING, 0),
        "gone": counts.get(Presence.GONE, 0),
        "people": DirectoryUser.objects.filter(tenant=tenant).exclude(presence=Presence.GONE).count(),
        "groups": _groups(tenant),
        "others": others_of(tenant, found.kind).count(),
        "is_read": found.lease_expires_at is not None and found.lease_expires_at > now,
        "has_ended": expires is not None and expires <= now,
        "ends_soon": expires is not None and now < expires <= now + EXPIRY_WARNING,
        "verified": verified,
        "checks": _checks(verified) if verified else [],
    }
    return render(request, "pages/source.html", context)


def _groups(tenant: Tenant) -> list[DirectoryGroup]:
    """The groups that the policy names, as last read; one that was never read has no row yet."""
    wanted = groups_wanted(tenant.pk)
    read = DirectoryGroup.objects.filter(tenant=tenant, source_id__in=list(wanted)).annotate(
        member_count=Count("members")
    )
    known = {group.source_id: group for group in read}
    return [
        known.get(source_id) or DirectoryGroup(tenant=tenant, source_id=source_id, name=name)
        for source_id, name in wanted.items()
    ]


def _checks(verified: Verified) -> list[CheckRow]:
    if verified.error is not None:
        return [CheckRow(CHECKS["sign_in"], "danger", None, problem(verified.error.code, verified.error.params))]
    return [
        CheckRow(
            CHECKS.get(check.name, check.name),
            "danger" if check.error else "warning" if check.is_warning else "success",
            check.found,
            problem(check.error.code, check.error.params) if check.error else None,
        )
        for check in verified.checks
    ]


@require_http_methods(["GET", "HEAD", "POST"])
def configure(request: HttpRequest, public_id: uuid.UUID) -> HttpResponse:
    """Where the records come from, and how they are reached."""
    tenant = tenant_of(request, public_id)
    require(request.user, Action.SOURCE, tenant)
    found = source_of(tenant)
    form = SourceForm(request.POST if request.method == "POST" else None, source=found)
    if form.is_valid():
        try:
            saved = source_configure(tenant=tenant, values=form.to_settings(), actor=actor_of(request.user))
        except ValidationError as error:
            form.problems_add(error)
        else:
            messages.success(request, _saved(saved))
            return redirect("source", public_id=public_id)
    context = {"tenant": tenant, "source": found, "form": form}
    return render(request, "pages/source_configure.html", context, status=422 if form.errors else 200)


def _saved(saved: DeviceSource) -> str:
    if saved.kind == DeviceSource.Kind.GRAPH:
        return _("The source was saved. Press Test connection to try it, then Read now.")
    if saved.kind == DeviceSource.Kind.PUSHED:
        return _("The source was saved. Make an API token for the system that pushes, or import a CSV file.")
    return _("The source was saved. From now on nothing is learned about devices.")


@require_POST
def verify(request: HttpRequest, public_id: uuid.UUID) -> HttpResponse:
    """Try the source as it is saved, and show what was found. Changes nothing."""
    tenant = tenant_of(request, public_id)
    require(request.user, Action.SOURCE, tenant)
    if source_of(tenant).kind != DeviceSource.Kind.GRAPH:
        return redirect("source", public_id=public_id)
    return _page(request, tenant, source_verify(tenant))


@require_POST
def read(request: HttpRequest, public_id: uuid.UUID) -> HttpResponse:
    """Have a worker read it now."""
    tenant = tenant_of(request, public_id)
    require(request.user, Action.RECORDS, tenant)
    if source_of(tenant).kind == DeviceSource.Kind.GRAPH:
        records_dispatch(tenant.pk)
        messages.success(request, _("A worker reads the records now. What changed is decided at once."))
    return redirect("source", public_id=public_id)


@require_POST
def others(request: HttpRequest, public_id: uuid.UUID) -> HttpResponse:
    """Take the records of a source that was given up for gone."""
    tenant = tenant_of(request, public_id)
    require(request.user, Action.SOURCE, tenant)
    ended = records_of_others_end(tenant=tenant, actor=actor_of(request.user))
    messages.success(request, _("%(count)d records of the former source are marked as gone.") % {"count": ended})
    return redirect("source", public_id=public_id)


@require_safe
def records(request: HttpRequest, public_id: uuid.UUID) -> HttpResponse:
    """The tenant's records, searched and page by page."""
    tenant = tenant_of(request, public_id)
    text = searched(request.GET)
    presence = request.GET.get("presence", "")
    found = records_for(request.user).filter(tenant=tenant)
    if presence == "gone":
        found = found.filter(presence=Presence.GONE)
    elif presence != "all":
        presence = "present"
        found = found.exclude(presence=Presence.GONE)
    page = Paginator(_searched(found, text).order_by("upn_key", "pk"), PAGE_SIZE).get_page(request.GET.get("page"))
    context: dict[str, Any] = {
        "tenant": tenant,
        "page": page,
        "query": text,
        "presence": presence,
        "links": {
            "previous": _link(request, page.previous_page_number()) if page.has_previous() else "",
            "next": _link(request, page.next_page_number()) if page.has_next() else "",
        },
    }
    return render(request, "pages/source_records.html", context)


def _searched(found: QuerySet[ManagedDevice], text: str) -> QuerySet[ManagedDevice]:
    """Every word must be found somewhere."""
    for word in text.split()[:8]:
        found = found.filter(
            Q(upn__icontains=word)
            | Q(email__icontains=word)
            | Q(device_name__icontains=word)
            | Q(eas_device_id__icontains=word)
            | Q(serial__icontains=word)
            | Q(model__icontains=word)
            | Q(source_id__icontains=word)
        )
    return found


def _link(request: HttpRequest, number: int) -> str:
    query = request.GET.copy()
    query["page"] = str(number)
    return f"?{query.urlencode()}"

"""Drift: what somebody else changed in Exchange. The list, alarms first, and choosing what becomes of an entry."""

from __future__ import annotations

import uuid
from typing import Any

from django.contrib import messages
from django.core.exceptions import ValidationError
from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods, require_safe

from connectors.models import ExchangeOrganization
from connectors.selectors import organizations_for
from console.accounts.actors import actor_of
from console.accounts.permissions import Action, actions_in, require
from console.pages.device_acts import errors_take
from console.pages.device_forms import ChoiceForm
from console.pages.listing import Listing
from sync.models import Drift, EntryChoice
from sync.policies.overrides import entry_choose
from sync.policies.policy_rows import tenants_controlled
from sync.selectors import drifts_for
from sync.showing.drift_words import ended_said, expected_said, found_said, subject_said

PAGE_SIZE = 50
ENTRIES = (Drift.Kind.FOREIGN_ALLOW, Drift.Kind.FOREIGN_BLOCK)


@require_safe
def drifts(request: HttpRequest) -> HttpResponse:
    """Open ones, alarms first; ?shown=ended for what ended."""
    listing = Listing(request, "drifts", {"shown": ("open", "ended")})
    rows = drifts_for(request.user)
    if listing.organization is not None:
        rows = rows.filter(organization__public_id=listing.organization)
    if (kind := request.GET.get("kind", "")) in Drift.Kind.values:
        rows = rows.filter(kind=kind)
    if listing.chosen["shown"] == "ended":
        rows = rows.filter(ended_at__isnull=False).order_by("-ended_at", "-pk")
    else:
        rows = rows.filter(ended_at=None).order_by("-is_alarm", "-first_seen_at", "-pk")
    organizations = list(organizations_for(request.user).order_by("tenant__name", "name"))
    page = Paginator(rows, PAGE_SIZE).get_page(request.GET.get("page"))
    context: dict[str, Any] = {
        "page": page,
        "rows": [_row(drift) for drift in page.object_list],
        "listing": listing,
        "kinds": Drift.Kind.choices,
        "kind": kind,
        "organizations": organizations,
        "uncontrolled": _uncontrolled(organizations, listing.organization),
        **listing.links(page),
    }
    return render(request, "pages/drifts.html", context)


def _uncontrolled(organizations: list[ExchangeOrganization], chosen: uuid.UUID | None) -> list[str]:
    """Names of those tenants whose access control is off, of the organization chosen or of all."""
    shown = {one.tenant_id: one.tenant.name for one in organizations if chosen in (None, one.public_id)}
    controlled = tenants_controlled(shown)
    return [name for key, name in shown.items() if key not in controlled]


def _row(drift: Drift) -> dict[str, Any]:
    return {
        "drift": drift,
        "subject": subject_said(drift),
        "expected": expected_said(drift),
        "found": found_said(drift),
        "ended": ended_said(drift),
        "is_entry": drift.kind in ENTRIES,
    }


@require_http_methods(["GET", "HEAD", "POST"])
def drift(request: HttpRequest, public_id: uuid.UUID) -> HttpResponse:
    """One drift: what was expected and found; of an entry, what is to become of it."""
    found: Drift = get_object_or_404(drifts_for(request.user), public_id=public_id)
    allowed = actions_in(request.user, found.organization.tenant)
    form = ChoiceForm(request.POST if request.method == "POST" else None)
    if request.method == "POST":
        require(request.user, Action.ACCESS, found.organization.tenant)
        if form.is_valid():
            try:
                entry_choose(
                    drift=found,
                    choice=form.cleaned_data["choice"],
                    reason=form.cleaned_data["reason"],
                    actor=actor_of(request.user),
                )
            except ValidationError as error:
                errors_take(form, error)
                found.refresh_from_db()
            else:
                messages.success(
                    request,
                    _("The entry is adopted: it decides, and alarms nobody.")
                    if form.cleaned_data["choice"] == EntryChoice.Choice.ADOPT
                    else _("The entry is overridden: it is removed where it stands in the verdict's way."),
                )
                return redirect("drifts")
    context = {
        **_row(found),
        "organization": found.organization,
        "tenant": found.organization.tenant,
        "form": form,
        "can_choose": found.kind in ENTRIES and found.ended_at is None and Action.ACCESS in allowed,
        "allowed": allowed,
    }
    return render(request, "pages/drift.html", context, status=422 if form.errors else 200)

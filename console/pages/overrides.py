"""What administrators decided about single devices: in force with their ends, and those that ended."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.core.paginator import Paginator
from django.db.models import OuterRef, Q, Subquery
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.http import require_POST, require_safe

from connectors.selectors import organizations_for
from console.accounts.actors import actor_of
from console.accounts.permissions import Action, actions_by_tenant
from console.pages.listing import Listing, uuid_of
from console.pages.searching import searched
from sync.models import AccessOverride, MobileDevice
from sync.policies.overrides import BULK_LIMIT, overrides_end
from sync.selectors import overrides_for

PAGE_SIZE = 50


@require_safe
def overrides(request: HttpRequest) -> HttpResponse:
    """In force, those that end soonest first; ?shown=ended for the history."""
    listing = Listing(request, "overrides", {"shown": ("open", "ended"), "level": ("", "allow", "block")})
    of_override = MobileDevice.objects.filter(owner=OuterRef("mailbox"), device_id_key=OuterRef("device_id_key"))
    rows = overrides_for(request.user).annotate(
        device_page=Subquery(of_override.order_by("-pk").values("public_id")[:1])
    )
    if listing.organization is not None:
        rows = rows.filter(organization__public_id=listing.organization)
    if listing.chosen["level"]:
        rows = rows.filter(level=listing.chosen["level"])
    text = searched(request.GET)
    for word in text.split()[:8]:
        rows = rows.filter(
            Q(device_id__icontains=word)
            | Q(reason__icontains=word)
            | Q(made_by_name__icontains=word)
            | Q(mailbox__display_name__icontains=word)
            | Q(mailbox__primary_smtp__icontains=word)
        )
    if listing.chosen["shown"] == "ended":
        rows = rows.filter(ended_at__isnull=False).order_by("-ended_at", "-pk")
    else:
        rows = rows.filter(ended_at=None).order_by("expires_at", "-made_at", "-pk")
    page = Paginator(rows, PAGE_SIZE).get_page(request.GET.get("page"))
    allowed = actions_by_tenant(request.user)
    shown = list(page.object_list)
    context: dict[str, Any] = {
        "page": page,
        "rows": [(one, Action.ACCESS in allowed(one.organization.tenant_id)) for one in shown],
        "can_end": listing.chosen["shown"] == "open"
        and any(Action.ACCESS in allowed(one.organization.tenant_id) for one in shown),
        "listing": listing,
        "query": text,
        "organizations": list(organizations_for(request.user).order_by("tenant__name", "name")),
        **listing.links(page),
    }
    return render(request, "pages/overrides.html", context)


@require_POST
def end(request: HttpRequest) -> HttpResponse:
    """End those that are ticked (override: public ids), of tenants where the person may."""
    wanted = [found for text in request.POST.getlist("override")[:BULK_LIMIT] if (found := uuid_of(text))]
    allowed = actions_by_tenant(request.user)
    rows: list[AccessOverride] = list(overrides_for(request.user).filter(public_id__in=wanted, ended_at=None))
    mine = [one for one in rows if Action.ACCESS in allowed(one.organization.tenant_id)]
    if not wanted:
        messages.info(request, _("No override was ticked."))
    elif not mine:
        messages.warning(request, _("Nothing was ended: they have ended already, or your role does not allow it."))
    else:
        count = overrides_end(overrides=mine, actor=actor_of(request.user))
        messages.success(request, ngettext("%(count)d override ended.", "%(count)d overrides ended.", count) % {
            "count": count
        })  # fmt: skip
    return redirect("overrides")

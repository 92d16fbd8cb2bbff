"""The Exchange ActiveSync devices: the list with its filters, and a device's page. Both only show."""

from __future__ import annotations

import uuid
from typing import Any
from urllib.parse import urlencode

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.http import require_safe

from connectors.models import Connector
from connectors.selectors import connectors_for, organizations_for
from console.pages.device_words import CLIENT_TYPES, REASONS, STATES
from console.templatetags.components import ACCESS_LOOK
from sync.device_page import DEFAULT_SORT, SORTS, CursorError, DeviceFilters, device_page
from sync.models import MobileDevice
from sync.selectors import devices_for, runs_for

PRESENCES = ("present", "gone", "all")


@require_safe
def devices(request: HttpRequest) -> HttpResponse:
    """The list. A cursor that is broken or belongs to another sort leads to the first page, and says so."""
    filters, sort = _filters(request), _sort(request)
    name, descending = sort.removeprefix("-"), sort.startswith("-")
    try:
        page = device_page(
            request.user, filters, sort=name, descending=descending, cursor=request.GET.get("cursor", "")
        )
    except CursorError:
        messages.warning(request, _("That page of the list cannot be opened any more; this is the first one."))
        return redirect(_link(request, cursor=None))
    organizations = list(organizations_for(request.user).order_by("tenant__name", "name"))
    context = {
        "page": page,
        "filters": filters,
        "sort": sort,
        "columns": _columns(request, sort),
        "organizations": organizations,
        "has_organizations": len(organizations) > 1,
        "has_tenants": len({organization.tenant_id for organization in organizations}) > 1,
        "states": _choices([(value, look[2]) for value, look in ACCESS_LOOK.items() if value], filters.state),
        "reasons": _choices([(value, value) for value in REASONS], filters.reason),
        "client_types": _choices([(value, value) for value in CLIENT_TYPES], filters.client_type),
        "previous": _link(request, cursor=page.previous_cursor) if page.previous_cursor else "",
        "next": _link(request, cursor=page.next_cursor) if page.next_cursor else "",
    }
    return render(request, "pages/devices.html", context)


def _filters(request: HttpRequest) -> DeviceFilters:
    """From the address; what is not one of the choices counts as not given."""
    given = request.GET
    try:
        organization = uuid.UUID(given.get("organization", ""))
    except ValueError:
        organization = None
    presence = given.get("presence", "")
    return DeviceFilters(
        organization=organization,
        state=_label(given.get("state", "")),
        reason=_label(given.get("reason", "")),
        client_type=_label(given.get("client", "")),
        presence=presence if presence in PRESENCES else PRESENCES[0],
        text=given.get("q", "").replace("\0", "").strip()[:200],
    )


def _label(value: str) -> str:
    return value.replace("\0", "").strip()[:64]


def _sort(request: HttpRequest) -> str:
    """A name of SORTS, with "-" before it when descending."""
    sort = request.GET.get("sort", "")
    return sort if sort.removeprefix("-") in SORTS else DEFAULT_SORT


def _link(request: HttpRequest, **changes: str | None) -> str:
    """This list's address with some parameters changed, and without those that are None or empty."""
    query = {key: value for key, value in request.GET.items() if value} | changes
    return f"{reverse('devices')}?{urlencode({key: value for key, value in query.items() if value})}"


def _columns(request: HttpRequest, sort: str) -> list[dict[str, Any]]:
    """The sortable columns: title, the address that sorts by it, and how the list is sorted by it now."""
    titles = {
        "user": _("User"),
        "model": _("Device"),
        "os": _("Operating system"),
        "state": _("Access state"),
        "first_sync": _("First sync"),
    }
    columns = []
    for name, title in titles.items():
        order = {name: "ascending", f"-{name}": "descending"}.get(sort, "")
        wanted = f"-{name}" if order == "ascending" else name
        columns.append({"name": name, "title": title, "order": order, "url": _link(request, sort=wanted, cursor=None)})
    return columns


def _choices(known: list[tuple[str, Any]], chosen: str) -> list[tuple[str, Any]]:
    """What a filter offers; a label that only the address knows (a newer Exchange's) stays selectable."""
    return known if not chosen or chosen in {value for value, _ in known} else [*known, (chosen, chosen)]


@require_safe
def device(request: HttpRequest, public_id: uuid.UUID) -> HttpResponse:
    """All that is known of one device."""
    found = get_object_or_404(devices_for(request.user), public_id=public_id)
    connector = connectors_for(request.user).filter(organization=found.organization).first()
    others = devices_for(request.user).filter(
        organization=found.organization, mailbox_key=found.mailbox_key, gone_at=None
    )
    context = {
        "device": found,
        "title": device_title(found),
        "organization": found.organization,
        "tenant": found.organization.tenant,
        "connector": connector,
        "state_words": STATES.get(found.access_state, ""),
        "reason_words": REASONS.get(found.access_state_reason, ""),
        "seen_in": _seen_in(request, connector, found),
        "others": list(others.exclude(pk=found.pk).order_by("device_model", "pk")[:20]) if found.mailbox_key else [],
    }
    return render(request, "pages/device.html", context)


def device_title(found: MobileDevice) -> str:
    """What a person would call it: its name, else its model, else its type, else its ID."""
    return found.friendly_name or found.device_model or found.device_type or found.device_id


def _seen_in(request: HttpRequest, connector: Connector | None, found: MobileDevice) -> Any:
    """The run that saw it last; None when that run is of an older connector."""
    if connector is None or not found.seen_fence:
        return None
    return runs_for(request.user).filter(connector=connector, fence=found.seen_fence).first()

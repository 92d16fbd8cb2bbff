"""The Exchange ActiveSync devices: the list with its filters, and what is wanted beside what Exchange shows."""

from __future__ import annotations

import uuid
from typing import Any
from urllib.parse import urlencode

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.http import require_safe

from connectors.selectors import organizations_for
from console.accounts.permissions import Action, may_anywhere
from console.pages.device_words import ATTENTIONS, CLIENT_TYPES, REASONS
from console.pages.searching import searched
from console.templatetags.components import ACCESS_LOOK
from sync.deciding.facts import State
from sync.showing import access_words as words
from sync.showing.device_page import DEFAULT_SORT, SORTS, UNDECIDED, CursorError, DeviceFilters, device_page
from sync.showing.wishes import wishes

PRESENCES = ("present", "gone", "all")
_STATES = (State.ALLOWED, State.QUARANTINED, State.BLOCKED, State.UNKNOWN)


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
    waiting = wishes(page.devices)
    context = {
        "page": page,
        "rows": [(device, waiting[device.pk]) for device in page.devices],
        "can_select": may_anywhere(request.user, Action.RECHECK),
        "can_decide": may_anywhere(request.user, Action.ACCESS),
        "here": request.get_full_path(),
        "filters": filters,
        "sort": sort,
        "columns": _columns(request, sort),
        "organizations": organizations,
        "has_organizations": len(organizations) > 1,
        "has_tenants": len({organization.tenant_id for organization in organizations}) > 1,
        "states": _choices([(value, look[2]) for value, look in ACCESS_LOOK.items() if value], filters.state),
        "reasons": _choices([(value, value) for value in REASONS], filters.reason),
        "verdicts": _choices(
            [(state, words.said(words.STATES, state)) for state in _STATES] + [(UNDECIDED, _("Not decided"))],
            filters.verdict,
        ),
        "rules": _choices(list(words.ROWS.items()), filters.rule),
        "outcomes": _choices(list(words.OUTCOMES.items()), filters.outcome),
        "attentions": list(ATTENTIONS.items()),
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
    presence, attention = given.get("presence", ""), given.get("attention", "")
    return DeviceFilters(
        organization=organization,
        state=_label(given.get("state", "")),
        reason=_label(given.get("reason", "")),
        client_type=_label(given.get("client", "")),
        verdict=_label(given.get("verdict", "")),
        rule=_label(given.get("rule", "")),
        outcome=_label(given.get("match", "")),
        attention=attention if attention in ATTENTIONS else "",
        presence=presence if presence in PRESENCES else PRESENCES[0],
        text=searched(given),
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
        "state": _("Exchange shows"),
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

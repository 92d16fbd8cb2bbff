"""The journal: every command that changed Exchange, or would have, with its exact text and what became of it."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from typing import Any

from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_safe

from connectors.problems import problem
from connectors.selectors import organizations_for
from console.pages.downloads import csv_download
from console.pages.listing import Listing, uuid_of
from sync.models import Command, DeviceEvent
from sync.selectors import commands_for, devices_for, runs_for

PAGE_SIZE = 50
DEVICES_SHOWN = 100
OPEN = "open"


@require_safe
def commands(request: HttpRequest) -> HttpResponse:
    """Newest first. By keyset: the journal only grows, and its page 400 costs what page 1 costs."""
    listing = Listing(
        request, "commands", {"state": ("", OPEN, *Command.State.values), "kind": ("", *Command.Kind.values)}
    )
    run_id, device_id = uuid_of(request.GET.get("run", "")), uuid_of(request.GET.get("device", ""))
    run = runs_for(request.user).filter(public_id=run_id).first() if run_id else None
    device = devices_for(request.user).filter(public_id=device_id).first() if device_id else None
    rows = _filtered(request, listing)
    before = request.GET.get("before", "")
    if before.isascii() and before.isdigit() and len(before) < 19:
        rows = rows.filter(pk__lt=int(before))
    found = list(rows[: PAGE_SIZE + 1])
    shown = found[:PAGE_SIZE]
    context: dict[str, Any] = {
        "commands": shown,
        "listing": listing,
        "states": [(OPEN, _("Under way")), *Command.State.choices],
        "kinds": Command.Kind.choices,
        "run": run,
        "device": device,
        "organizations": list(organizations_for(request.user).order_by("tenant__name", "name")),
        "previous_url": listing.link() if before else "",
        "next_url": listing.link(before=shown[-1].pk) if len(found) > PAGE_SIZE else "",
        "csv_query": request.GET.urlencode(),
    }
    return render(request, "pages/commands.html", context)


def _filtered(request: HttpRequest, listing: Listing) -> QuerySet[Command]:
    rows = commands_for(request.user).order_by("-pk")
    if listing.organization is not None:
        rows = rows.filter(organization__public_id=listing.organization)
    state = listing.chosen["state"]
    if state:
        rows = rows.filter(state__in=Command.OPEN if state == OPEN else [state])
    if listing.chosen["kind"]:
        rows = rows.filter(kind=listing.chosen["kind"])
    if (run := uuid_of(request.GET.get("run", ""))) is not None:
        rows = rows.filter(run__public_id=run)
    if (device := uuid_of(request.GET.get("device", ""))) is not None:
        told = DeviceEvent.objects.filter(device__public_id=device, command__isnull=False)
        rows = rows.filter(Q(pk__in=told.values("command")) | Q(device__public_id=device))
    return rows


@require_safe
def command(request: HttpRequest, public_id: uuid.UUID) -> HttpResponse:
    """One command with its text, its outcome, and what to do when it failed."""
    found: Command = get_object_or_404(commands_for(request.user), public_id=public_id)
    keys = found.payload.get("devices", ()) if isinstance(found.payload, dict) else ()
    devices = devices_for(request.user).filter(organization=found.organization, pk__in=list(keys)[:DEVICES_SHOWN])
    context = {
        "command": found,
        "organization": found.organization,
        "tenant": found.organization.tenant,
        "devices": list(devices.select_related("organization__tenant", "access")),
        "more": max(0, len(keys) - DEVICES_SHOWN),
        "is_failed": found.state in (Command.State.FAILED, Command.State.UNKNOWN),
    }
    return render(request, "pages/command.html", context)


@require_safe
def commands_csv(request: HttpRequest) -> HttpResponse:
    """What the list shows, all of it, as a file."""
    listing = Listing(
        request, "commands", {"state": ("", OPEN, *Command.State.values), "kind": ("", *Command.Kind.values)}
    )
    rows = _filtered(request, listing)
    heads = (
        _("Organization"), _("Mailbox"), _("What"), _("Command"), _("Outcome"), _("Error"), _("What to do"),
        _("By"), _("Planned"), _("Sent"), _("Ended"), _("Server"), _("Domain controller"), _("Run"),
    )  # fmt: skip

    def lines() -> Iterator[Sequence[object]]:
        for one in rows.iterator(chunk_size=2000):
            told = problem(one.error_code, one.error_params) if one.error_code else None
            yield (
                one.organization.name, one.mailbox or "", one.get_kind_display(), one.text, one.get_state_display(),
                told.title if told else "", told.remedy if told else "", one.actor_name, _iso(one.planned_at),
                _iso(one.sent_at), _iso(one.finished_at), one.server, one.domain_controller,
                one.run.public_id if one.run else "",
            )  # fmt: skip

    answer: HttpResponse = csv_download("commands.csv", heads, lines())  # type: ignore[assignment]
    return answer


def _iso(moment: Any) -> str:
    return moment.isoformat(timespec="seconds") if moment else ""

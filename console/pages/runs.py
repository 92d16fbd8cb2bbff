"""Runs: all of a connector's, and one with its story; cancelling one."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Any

from django.contrib import messages
from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST, require_safe

from connectors.selectors import connectors_for
from console.accounts.actors import actor_of
from console.accounts.permissions import Action, actions_in, require
from console.pages.standing import FAILED
from console.pages.watch import watch
from sync.models import RunEvent, SyncRun
from sync.narrative import sentence
from sync.selectors import run_progress, runs_for
from sync.services import run_cancel
from sync.showing.dry_run import is_dry

PAGE_SIZE = 50
# A run that cannot read thousands of objects has thousands of lines; the first tell why and the last how it ended.
EVENTS_SHOWN = 200


@dataclass(frozen=True, slots=True)
class Line:
    event: RunEvent
    sentence: str


@require_safe
def runs(request: HttpRequest, public_id: uuid.UUID) -> HttpResponse:
    """All runs of one connector, newest first."""
    found = get_object_or_404(connectors_for(request.user), public_id=public_id)
    page = Paginator(runs_for(request.user).filter(connector=found), PAGE_SIZE).get_page(request.GET.get("page"))
    context = {
        "connector": found,
        "organization": found.organization,
        "tenant": found.organization.tenant,
        "page": page,
        "runs": list(page.object_list),
        "previous_url": f"?page={page.previous_page_number()}" if page.has_previous() else "",
        "next_url": f"?page={page.next_page_number()}" if page.has_next() else "",
    }
    return render(request, "pages/runs.html", context)


def _run(request: HttpRequest, public_id: uuid.UUID) -> SyncRun:
    return get_object_or_404(runs_for(request.user), public_id=public_id)


@require_safe
def run(request: HttpRequest, public_id: uuid.UUID) -> HttpResponse:
    return render(request, "pages/run.html", _context(request, _run(request, public_id)))


@require_safe
def live(request: HttpRequest, public_id: uuid.UUID) -> HttpResponse:
    """The run's page without its frame; it asks for itself again until the run has ended."""
    if not request.headers.get("HX-Request"):
        return redirect("run", public_id=public_id)
    context = _context(request, _run(request, public_id))
    moved = context["watch"].token != request.GET.get("seen")
    return render(request, "pages/run_live.html", {**context, "moved": moved})


def _context(request: HttpRequest, found: SyncRun) -> dict[str, Any]:
    organization = found.connector.organization
    lines, left_out = _lines(found)
    return {
        "run": found,
        "connector": found.connector,
        "organization": organization,
        "tenant": organization.tenant,
        "progress": run_progress(found),
        "watch": watch(found.connector, found),
        "failed": found.status in FAILED,
        "is_dry": is_dry(found),
        "lines": lines,
        "left_out": left_out,
        "allowed": actions_in(request.user, organization.tenant),
    }


def _lines(found: SyncRun) -> tuple[list[Line], int]:
    """The story, and how many lines in its middle are left out."""
    total = found.events.count()
    events = list(found.events.order_by("pk")[: EVENTS_SHOWN // 2 if total > EVENTS_SHOWN else EVENTS_SHOWN])
    if total > EVENTS_SHOWN:
        events += reversed(found.events.order_by("-pk")[: EVENTS_SHOWN // 2])
    return [Line(event, sentence(event)) for event in events], total - len(events)


@require_POST
def cancel(request: HttpRequest, public_id: uuid.UUID) -> HttpResponse:
    """Ask the run to end. back=connector leads to the connector's page, anything else to the run's."""
    found = _run(request, public_id)
    require(request.user, Action.CANCEL, found.connector.organization.tenant)
    if run_cancel(run=found, actor=actor_of(request.user)):
        messages.success(request, _("The run ends within seconds. What it has read until then is kept."))
    else:
        messages.info(request, _("The run had ended already; nothing was canceled."))
    if request.POST.get("back") == "connector":
        return redirect("connector", public_id=found.connector.public_id)
    return redirect("run", public_id=public_id)

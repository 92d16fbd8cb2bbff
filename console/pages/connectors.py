"""The connectors: the list, a connector's page, its buttons and its schedule.

Every action is a form that posts and leads back to a page; scripts only keep the progress of a run up to date.
"""

from __future__ import annotations

import datetime
import uuid
from typing import Any

from django.contrib import messages
from django.core.paginator import Paginator
from django.db.models import Count, Q, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseBadRequest
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from connectors.models import Connector, ConnectorStatus, ExchangeOrganization
from connectors.selectors import connectors_for, tenants_for
from connectors.services import connector_observe_only_set, schedule_change
from console.accounts.actors import actor_of
from console.accounts.permissions import Action, actions_in, require
from console.pages.forms import ScheduleForm
from console.pages.searching import searched
from console.pages.standing import FAILED, standing, standings
from console.pages.watch import watch
from sync.deciding.facts import State
from sync.dispatch import queue_of
from sync.models import Command, SyncRun
from sync.selectors import access_counts, approvals_pending, devices_for, runs_for
from sync.services import SyncRequest, sync_request
from sync.showing import access_words as words
from sync.showing.device_page import UNDECIDED

PAGE_SIZE = 50
RUNS_SHOWN = 10
FAILED_WITHIN = datetime.timedelta(hours=24)
_STATES = (State.ALLOWED, State.QUARANTINED, State.BLOCKED)


@require_safe
def connectors(request: HttpRequest) -> HttpResponse:
    """The list. While a sync runs anywhere on it, the results renew themselves."""
    found = _filtered(connectors_for(request.user), request)
    page = Paginator(found.order_by("organization__tenant__name", "organization__name"), PAGE_SIZE).get_page(
        request.GET.get("page")
    )
    shown = standings(list(page.object_list))
    context = {
        "page": page,
        "standings": shown,
        "is_live": any(s.progress for s in shown),
        "has_tenants": tenants_for(request.user).count() > 1,
        "statuses": ConnectorStatus.choices,
        "query": request.GET.get("q", ""),
        "status": request.GET.get("status", ""),
        "links": _links(request, page),
    }
    template = "pages/connectors_results.html" if request.headers.get("HX-Request") else "pages/connectors.html"
    return render(request, template, context)


def _filtered(found: QuerySet[Connector], request: HttpRequest) -> QuerySet[Connector]:
    if text := searched(request.GET):
        # A subquery and not a join: a connector whose two servers match is still one row.
        by_server = Connector.objects.filter(servers__fqdn__icontains=text).values("pk")
        found = found.filter(
            Q(organization__name__icontains=text) | Q(organization__tenant__name__icontains=text) | Q(pk__in=by_server)
        )
    if (status := request.GET.get("status", "")) in ConnectorStatus.values:
        found = found.filter(status=status)
    return found


def _links(request: HttpRequest, page: Any) -> dict[str, str]:
    def link(number: int) -> str:
        query = request.GET.copy()
        query["page"] = str(number)
        return f"?{query.urlencode()}"

    return {
        "here": request.get_full_path(),
        "previous": link(page.previous_page_number()) if page.has_previous() else "",
        "next": link(page.next_page_number()) if page.has_next() else "",
    }


def _connector(request: HttpRequest, public_id: uuid.UUID) -> Connector:
    return get_object_or_404(connectors_for(request.user), public_id=public_id)


@require_safe
def connector(request: HttpRequest, public_id: uuid.UUID) -> HttpResponse:
    return render(request, "pages/connector.html", _context(request, _connector(request, public_id)))


@require_safe
def live(request: HttpRequest, public_id: uuid.UUID) -> HttpResponse:
    """The progress alone; all that may have moved with it when the browser has seen an older state."""
    if not request.headers.get("HX-Request"):
        return redirect("connector", public_id=public_id)
    found = _connector(request, public_id)
    run = runs_for(request.user).filter(connector=found).first()
    seen = watch(found, run)
    if seen.token == request.GET.get("seen"):
        return render(request, "pages/connector_live.html", {"connector": found, "run": run, "watch": seen})
    if run is not None and not seen.is_on:
        _message_of_the_end(request, run)
    return render(request, "pages/connector_moved.html", _context(request, found))


def _message_of_the_end(request: HttpRequest, run: SyncRun) -> None:
    """Takes the place of the message that the run was asked for."""
    words = {"kind": run.get_kind_display(), "status": run.get_status_display()}
    if run.status == SyncRun.Status.SUCCEEDED:
        count = run.observed
        text = ngettext(
            "%(kind)s: %(status)s, %(count)d device read.", "%(kind)s: %(status)s, %(count)d devices read.", count
        )
        messages.success(request, text % {**words, "count": count})
    else:
        messages.warning(request, _("%(kind)s: %(status)s.") % words)


def _context(request: HttpRequest, found: Connector) -> dict[str, Any]:
    organization = found.organization
    runs = list(runs_for(request.user).filter(connector=found)[:RUNS_SHOWN])
    run = runs[0] if runs else None
    settled = next((r for r in runs if _says_how_it_stands(r)), None)
    failed = settled if settled is not None and settled.status in FAILED else None
    states = (
        devices_for(request.user)
        .filter(organization=organization, gone_at=None)
        .order_by()
        .values("access_state")
        .annotate(count=Count("pk"))
    )
    counts = {row["access_state"]: row["count"] for row in states}
    return {
        "connector": found,
        "organization": organization,
        "tenant": organization.tenant,
        "servers": list(found.servers.all()),
        "standing": standing(found, run, timezone.now()),
        "watch": watch(found, run),
        "run": run,
        "runs": runs,
        "failed": failed,
        "failures": _failures(request, found) if failed else 0,
        "device_counts": counts,
        "device_total": sum(counts.values()),
        "queue": queue_of(found.site),
        "allowed": actions_in(request.user, organization.tenant),
        "waiting": list(approvals_pending(request.user).filter(organization=organization)),
        "access": _access(request, organization),
    }


def _says_how_it_stands(run: SyncRun) -> bool:
    """Whether a run's ending is what the page begins with, if it failed. Device statistics that were read say nothing
    of the syncs before; that they could not be read is to be seen."""
    if run.kind == SyncRun.Kind.STATISTICS:
        return run.status in FAILED
    return not run.is_active and run.status != SyncRun.Status.CANCELED


def _access(request: HttpRequest, organization: ExchangeOrganization) -> dict[str, Any]:
    """Verdicts by state, with their words, and what is under way or went wrong."""
    counts = access_counts(request.user, organization)
    since = timezone.now() - FAILED_WITHIN
    failed = Command.objects.filter(organization=organization, state=Command.State.FAILED, finished_at__gte=since)
    states = [(state.value, words.said(words.STATES, state), counts.states.get(state, 0)) for state in _STATES]
    if undecided := counts.states.get("", 0):
        states.append((UNDECIDED, _("Not decided"), undecided))
    return {
        "states": states,
        "pending": counts.pending,
        "failed": failed.count(),
        "drifts": counts.drifts,
        "alarms": counts.alarms,
    }


def _failures(request: HttpRequest, found: Connector) -> int:
    """How many runs failed since the last success."""
    runs = runs_for(request.user).filter(connector=found, status__in=FAILED).exclude(kind=SyncRun.Kind.STATISTICS)
    if found.last_successful_sync_at:
        runs = runs.filter(finished_at__gt=found.last_successful_sync_at)
    return runs.count()


@require_POST
def sync(request: HttpRequest, public_id: uuid.UUID) -> HttpResponse:
    """The buttons: kind=deltaSync, fullSync (dry=1: a dry run) or statistics."""
    found = _connector(request, public_id)
    require(request.user, Action.SYNC, found.organization.tenant)
    kind = request.POST.get("kind", "")
    is_dry = request.POST.get("dry") == "1"
    if kind not in SyncRun.Kind.values or (is_dry and kind == SyncRun.Kind.STATISTICS):
        return HttpResponseBadRequest()
    asked = sync_request(
        connector=found,
        kind=kind,
        trigger=SyncRun.Trigger.BUTTON,
        actor=actor_of(request.user),
        is_dry_run=is_dry,
    )
    messages.success(request, _said_dry(asked) if is_dry else _said(asked, kind))
    return redirect("connector", public_id=public_id)


def _said(asked: SyncRequest, kind: str) -> str:
    if kind == SyncRun.Kind.STATISTICS:
        return _said_statistics(asked)
    if asked.outcome == "queued_after" and asked.run.kind == SyncRun.Kind.STATISTICS:
        return _(
            "Device statistics are being read, and make way: the sync starts in a moment, and the rest is read after."
        )
    if asked.outcome == "joined":
        return _("A sync is under way already and does what you asked for; no second one was started.")
    if asked.outcome == "queued_after":
        return _("A quick sync is under way; the full sync starts as soon as it has ended.")
    if asked.run.kind != kind:
        return _("Full sync requested: this connector has not had a complete one yet, so a quick one would miss most.")
    if kind == SyncRun.Kind.FULL:
        return _("Full sync requested.")
    return _("Quick sync requested.")


def _said_statistics(asked: SyncRequest) -> str:
    if asked.outcome == "joined":
        return _("Device statistics are being read already; no second reading was started.")
    if asked.outcome == "queued_after":
        return _("A sync is under way; device statistics are read as soon as it has ended.")
    return _("Device statistics requested: each mailbox is asked when its phones last synchronized.")


def _said_dry(asked: SyncRequest) -> str:
    if asked.outcome == "joined":
        return _("A dry run is under way already; no second one was started.")
    if asked.outcome == "queued_after":
        return _("A sync is under way; the dry run starts as soon as it has ended.")
    return _("Dry run requested. Nothing in Exchange is changed; the run's page shows what would be sent.")


@require_POST
def observe(request: HttpRequest, public_id: uuid.UUID) -> HttpResponse:
    """observe=on: no command that changes Exchange is sent any more; off: they are sent again."""
    found = _connector(request, public_id)
    require(request.user, Action.SCHEDULE, found.organization.tenant)
    is_on = request.POST.get("observe", "") == "on"
    connector_observe_only_set(connector=found, is_observe_only=is_on, actor=actor_of(request.user))
    if is_on:
        messages.success(request, _("The connector only observes from now on. What would be sent is shown."))
    else:
        messages.success(request, _("The connector sends commands again, beginning with the next run."))
    return redirect("connector", public_id=public_id)


@require_http_methods(["GET", "HEAD", "POST"])
def schedule(request: HttpRequest, public_id: uuid.UUID) -> HttpResponse:
    """When the connector syncs by itself."""
    found = _connector(request, public_id)
    require(request.user, Action.SCHEDULE, found.organization.tenant)
    form = ScheduleForm(request.POST if request.method == "POST" else None, connector=found)
    if form.is_valid():
        schedule_change(connector=found, actor=actor_of(request.user), **form.cleaned_data)
        messages.success(request, _("The schedule was changed."))
        return redirect("connector", public_id=public_id)
    context = {"connector": found, "organization": found.organization, "form": form}
    return render(request, "pages/schedule.html", context, status=422 if form.errors else 200)

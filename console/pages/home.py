"""Home: is everything well? What needs someone stands first."""

from __future__ import annotations

from django.db.models import Count, Q
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from connectors.models import ConnectorStatus
from connectors.selectors import connectors_for
from console.pages.standing import standings
from sync.selectors import devices_for, runs_for

RUNS_SHOWN = 8


@require_safe
def home(request: HttpRequest) -> HttpResponse:
    shown = standings(list(connectors_for(request.user).order_by("organization__tenant__name", "organization__name")))
    devices = devices_for(request.user).filter(gone_at=None).order_by()
    context = {
        "standings": shown,
        "attention": [s for s in shown if s.needs_attention],
        "connected": sum(s.connector.status == ConnectorStatus.CONNECTED and not s.needs_attention for s in shown),
        "running": sum(s.progress is not None for s in shown),
        "devices": devices.aggregate(total=Count("pk"), quarantined=Count("pk", filter=Q(access_state="Quarantined"))),
        "runs": list(runs_for(request.user)[:RUNS_SHOWN]),
        "is_live": any(s.progress for s in shown),
    }
    template = "pages/home_live.html" if request.headers.get("HX-Request") else "pages/home.html"
    return render(request, template, context)

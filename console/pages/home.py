"""Home: is everything well? What needs someone stands first."""

from __future__ import annotations

from django.db.models import Count, Q
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from connectors.models import ConnectorStatus
from connectors.selectors import connectors_for
from console.pages.standing import standings
from sync.selectors import approvals_pending, devices_for, runs_for

RUNS_SHOWN = 8
BANNERS_SHOWN = 5
# Those that need someone are always shown.
CONNECTORS_SHOWN = 20


@require_safe
def home(request: HttpRequest) -> HttpResponse:
    known = standings(list(connectors_for(request.user).order_by("organization__tenant__name", "organization__name")))
    devices = devices_for(request.user).filter(gone_at=None).order_by()
    attention = [s for s in known if s.needs_attention]
    shown = [*attention, *(s for s in known if not s.needs_attention)][: max(CONNECTORS_SHOWN, len(attention))]
    context = {
        "standings": shown,
        "total": len(known),
        "left_out": len(known) - len(shown),
        "attention": len(attention),
        "connected": sum(s.connector.status == ConnectorStatus.CONNECTED and not s.needs_attention for s in known),
        "running": sum(s.progress is not None for s in known),
        "devices": devices.aggregate(total=Count("pk"), quarantined=Count("pk", filter=Q(access_state="Quarantined"))),
        "waiting": list(approvals_pending(request.user)[:BANNERS_SHOWN]),
        "runs": list(runs_for(request.user)[:RUNS_SHOWN]),
        "is_live": any(s.progress for s in known),
    }
    template = "pages/home_live.html" if request.headers.get("HX-Request") else "pages/home.html"
    return render(request, template, context)

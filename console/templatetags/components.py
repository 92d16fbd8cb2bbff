"""Small parts of pages: icons, badges, failure panels. A state is always an icon and a word, never a colour alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django import template
from django.utils.functional import Promise
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _
from heroicons.templatetags.heroicons import heroicon_mini

from connectors.models import Connector, ConnectorStatus
from connectors.problems import problem
from sync.models import Notification, SyncRun
from sync.selectors import run_progress

register = template.Library()

# (tone, icon) of each member; tones are classes of components.css.
CONNECTOR_LOOK = {
    ConnectorStatus.NONE: ("neutral", "minus-circle"),
    ConnectorStatus.CONNECTION_PENDING: ("info", "clock"),
    ConnectorStatus.CONNECTED: ("success", "check-circle"),
    ConnectorStatus.DISCONNECTED: ("danger", "x-circle"),
}
RUN_LOOK = {
    SyncRun.Status.QUEUED: ("info", "clock"),
    SyncRun.Status.RUNNING: ("info", "arrow-path"),
    SyncRun.Status.SUCCEEDED: ("success", "check-circle"),
    SyncRun.Status.FAILED: ("danger", "x-circle"),
    SyncRun.Status.CANCELED: ("neutral", "stop-circle"),
    SyncRun.Status.INTERRUPTED: ("danger", "exclamation-triangle"),
    SyncRun.Status.MADE_WAY: ("neutral", "pause-circle"),
}
NOTIFICATION_LOOK = {
    Notification.State.QUEUED: ("info", "clock"),
    Notification.State.SENDING: ("info", "arrow-path"),
    Notification.State.SENT: ("success", "check-circle"),
    Notification.State.FAILED: ("danger", "x-circle"),
    Notification.State.UNKNOWN: ("warning", "question-mark-circle"),
    Notification.State.SUPPRESSED: ("neutral", "minus-circle"),
}

# Exchange's labels of DeviceAccessState; a newer one is shown as it is.
ACCESS_LOOK: Mapping[str, tuple[str, str, str | Promise]] = {
    "Allowed": ("success", "check-circle", _("Allowed")),
    "Blocked": ("danger", "no-symbol", _("Blocked")),
    "Quarantined": ("warning", "lock-closed", _("Quarantined")),
    "DeviceDiscovery": ("info", "clock", _("Being discovered")),
    "Unknown": ("neutral", "question-mark-circle", _("Unknown")),
    "": ("neutral", "question-mark-circle", _("Not told")),
}


@dataclass(frozen=True, slots=True)
class Share:
    """One access state's part of the devices. start and width: of a hundred."""

    value: str
    tone: str
    icon: str
    label: str | Promise
    count: int
    start: float
    width: float


def access_look(value: str) -> tuple[str, str, str | Promise]:
    """(tone, icon, word) of an access state as Exchange spells it."""
    return ACCESS_LOOK.get(value, ("neutral", "question-mark-circle", value))


@register.inclusion_tag("components/badge.html")
def access_state(value: str) -> dict[str, Any]:
    """A device's access state; Exchange's own spelling in the title."""
    tone, name, label = access_look(value)
    return {"tone": tone, "icon_name": name, "label": label, "title": value}


@register.inclusion_tag("components/shares.html")
def access_shares(counts: Mapping[str, int], devices_url: str) -> dict[str, Any]:
    """How many devices have which access state. counts: by Exchange's label; devices_url: of their list."""
    known = list(ACCESS_LOOK)
    order = sorted(counts, key=lambda value: (known.index(value) if value in known else len(known), value))
    total, start, shares = sum(counts.values()), 0.0, []
    for value in order:
        width = counts[value] * 100 / total
        shares.append(Share(value, *access_look(value), counts[value], round(start, 3), round(width, 3)))
        start += width
    return {"shares": shares, "total": total, "devices_url": devices_url}


@register.simple_tag
def icon(name: str, size: int = 20, tone: str = "") -> SafeString:
    """A Heroicon (mini) as inline SVG; decorative, so what it means must stand beside it in words."""
    return SafeString(heroicon_mini(name, size=size, **{"class": f"icon icon-{tone}" if tone else "icon"}))


@register.inclusion_tag("components/badge.html")
def badge(tone: str, icon: str, label: object, title: object = "") -> dict[str, Any]:
    """tone: success, info, warning, danger or neutral. icon: a Heroicon's name. label: the word."""
    return {"tone": tone, "icon_name": icon, "label": label, "title": title}


@register.inclusion_tag("components/badge.html")
def connector_status(connector: Connector) -> dict[str, Any]:
    """The connector's status, a member of Graph's deviceManagementExchangeConnectorStatus."""
    tone, name = CONNECTOR_LOOK.get(ConnectorStatus(connector.status), ("neutral", "question-mark-circle"))
    return {"tone": tone, "icon_name": name, "label": connector.get_status_display(), "title": connector.status}


@register.inclusion_tag("components/badge.html")
def run_status(run: SyncRun) -> dict[str, Any]:
    """How a run stands or ended."""
    tone, name = RUN_LOOK.get(SyncRun.Status(run.status), ("neutral", "question-mark-circle"))
    return {"tone": tone, "icon_name": name, "label": run.get_status_display(), "title": ""}


@register.inclusion_tag("components/badge.html")
def notification_state(notification: Notification) -> dict[str, Any]:
    """What became of a mail."""
    tone, name = NOTIFICATION_LOOK.get(Notification.State(notification.state), ("neutral", "question-mark-circle"))
    return {"tone": tone, "icon_name": name, "label": notification.get_state_display(), "title": ""}


@register.inclusion_tag("components/failure.html")
def failure(code: str, params: dict[str, object] | None = None, tone: str = "danger") -> dict[str, Any]:
    """What happened, what was not lost, what to do; for a code of connectors.problems and the values it names."""
    return {"problem": problem(code, params), "tone": tone}


@register.filter
def problem_title(code: str) -> str:
    """The heading of a problem, for table cells; "" for no code."""
    return problem(code).title if code else ""


@register.filter
def run_seconds(run: SyncRun) -> float | None:
    """How long a run took, or has taken until now; None before it started."""
    return run_progress(run).elapsed_seconds

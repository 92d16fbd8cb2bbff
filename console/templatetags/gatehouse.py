"""The console's small components: states as badges, times in the tenant's zone, durations in words.

Shows values; decides nothing and asks the database nothing.
"""

from __future__ import annotations

import datetime
import math
import zoneinfo
from typing import Any

from django import template
from django.contrib.messages import constants
from django.contrib.messages.storage.base import Message
from django.template.loader import render_to_string
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import ngettext, pgettext
from heroicons.templatetags.heroicons import heroicon_mini

from connectors.models import Connector, ConnectorStatus
from connectors.problems import problem
from sync.models import RunEvent, SyncRun
from sync.narrative import sentence

register = template.Library()

CONNECTOR_LOOKS = {
    ConnectorStatus.CONNECTED: ("is-good", "check-circle"),
    ConnectorStatus.CONNECTION_PENDING: ("is-warn", "clock"),
    ConnectorStatus.DISCONNECTED: ("is-bad", "x-circle"),
    ConnectorStatus.NONE: ("is-idle", "minus-circle"),
}
RUN_LOOKS = {
    SyncRun.Status.QUEUED: ("is-busy", "clock"),
    SyncRun.Status.RUNNING: ("is-busy", "arrow-path"),
    SyncRun.Status.SUCCEEDED: ("is-good", "check-circle"),
    SyncRun.Status.FAILED: ("is-bad", "x-circle"),
    SyncRun.Status.CANCELED: ("is-idle", "minus-circle"),
    SyncRun.Status.INTERRUPTED: ("is-warn", "exclamation-triangle"),
}
EVENT_LOOKS = {
    RunEvent.Level.INFO: ("is-busy", "information-circle"),
    RunEvent.Level.WARNING: ("is-warn", "exclamation-triangle"),
    RunEvent.Level.ERROR: ("is-bad", "x-circle"),
}
MESSAGE_LOOKS = {
    constants.SUCCESS: ("is-good", "check-circle"),
    constants.WARNING: ("is-warn", "exclamation-triangle"),
    constants.ERROR: ("is-bad", "x-circle"),
}
UNKNOWN_LOOK = ("is-idle", "question-mark-circle")


def badge(look: tuple[str, str], text: object) -> SafeString:
    tone, icon = look
    return render_to_string("components/badge.html", {"tone": tone, "icon": icon, "text": text}).strip()  # type: ignore[return-value]  # safe, as rendered


@register.simple_tag
def connector_badge(connector: Connector) -> SafeString:
    """The connection's status, in Graph's members."""
    look = CONNECTOR_LOOKS.get(ConnectorStatus(connector.status), UNKNOWN_LOOK)
    return SafeString(badge(look, connector.get_status_display()))


@register.simple_tag
def run_badge(run: SyncRun) -> SafeString:
    """A run's status; one that is asked to cancel says so."""
    text = run.get_status_display()
    if run.is_active and run.cancel_requested_at is not None:
        text = _("Canceling")
    return SafeString(badge(RUN_LOOKS.get(SyncRun.Status(run.status), UNKNOWN_LOOK), text))


@register.simple_tag
def event_icon(event: RunEvent) -> SafeString:
    _tone, icon = EVENT_LOOKS.get(RunEvent.Level(event.level), UNKNOWN_LOOK)
    return SafeString(heroicon_mini(icon, aria_label=event.get_level_display(), role="img"))


@register.filter
def event_tone(event: RunEvent) -> str:
    return EVENT_LOOKS.get(RunEvent.Level(event.level), UNKNOWN_LOOK)[0]


@register.filter
def event_sentence(event: RunEvent) -> str:
    return sentence(event)


@register.simple_tag
def message_tone(message: Message) -> str:
    return MESSAGE_LOOKS.get(message.level, ("is-busy", ""))[0]


@register.simple_tag
def message_icon(message: Message) -> SafeString:
    icon = MESSAGE_LOOKS.get(message.level, ("", "information-circle"))[1]
    return SafeString(heroicon_mini(icon, aria_hidden="true"))


@register.simple_tag(takes_context=True)
def current(context: dict[str, Any], *names: str) -> SafeString:
    """aria-current for the navigation's entry of the page shown: its URL's name begins with one of `names`."""
    request = context.get("request")
    match = getattr(request, "resolver_match", None)
    shown = match.url_name if match else ""
    here = any(shown == name or (name != "home" and (shown or "").startswith(name)) for name in names)
    return SafeString(' aria-current="page"' if here else "")


@register.simple_tag
def problem_panel(code: str, params: dict[str, object] | None = None) -> SafeString:
    """What happened, what was not lost, what to do."""
    return SafeString(render_to_string("components/problem.html", {"problem": problem(code, params)}))


@register.filter
def problem_title(run: SyncRun) -> str:
    return problem(run.error_code, run.error_params).title


# --- time ---------------------------------------------------------------------------------------------------------


@register.simple_tag
def when(moment: datetime.datetime | None, zone: str = "UTC", *, relative: bool = True) -> SafeString:
    """A time in `zone` (a tenant's), with how long ago it was and UTC in its title; a dash for None."""
    if moment is None:
        return SafeString("–")
    local = moment.astimezone(_zone(zone))
    context = {
        "moment": date_format(local, pgettext("date format", "j M Y, H:i")),
        "iso": moment.astimezone(datetime.UTC).isoformat(timespec="seconds"),
        "utc": f"{moment.astimezone(datetime.UTC):%Y-%m-%d %H:%M:%S} UTC",
        "relative": ago(moment) if relative else "",
    }
    return SafeString(render_to_string("components/when.html", context).strip())


@register.simple_tag
def clock(moment: datetime.datetime, zone: str = "UTC") -> SafeString:
    """Hours, minutes and seconds in `zone`, for lines that lie close together."""
    local = moment.astimezone(_zone(zone))
    utc = moment.astimezone(datetime.UTC)
    return format_html(
        '<time datetime="{}" title="{} UTC">{}</time>',
        utc.isoformat(timespec="milliseconds"),
        f"{utc:%Y-%m-%d %H:%M:%S}",
        f"{local:%H:%M:%S}",
    )


@register.filter
def ago(moment: datetime.datetime | None, now: datetime.datetime | None = None) -> str:
    """“5 minutes ago”, “in 2 hours”; one unit, as it is meant for a glance."""
    if moment is None:
        return ""
    seconds = ((now or timezone.now()) - moment).total_seconds()
    if abs(seconds) < 60:
        return _("just now") if seconds >= 0 else _("in a moment")
    words = _rough(abs(seconds))
    return _("%(time)s ago") % {"time": words} if seconds > 0 else _("in %(time)s") % {"time": words}


def _rough(seconds: float) -> str:
    minutes = int(seconds // 60)
    if minutes < 60:
        return ngettext("%(count)d minute", "%(count)d minutes", minutes) % {"count": minutes}
    hours = minutes // 60
    if hours < 48:
        return ngettext("%(count)d hour", "%(count)d hours", hours) % {"count": hours}
    days = hours // 24
    return ngettext("%(count)d day", "%(count)d days", days) % {"count": days}


@register.filter
def duration(seconds: float | None) -> str:
    """1.4 s, 38 s, 2 min 05 s, 1 h 20 min; a dash for None."""
    if seconds is None or not math.isfinite(seconds):
        return "–"
    if seconds < 10:
        return _("%(seconds)s s") % {"seconds": f"{max(0.0, seconds):.1f}"}
    whole = round(seconds)
    if whole < 60:
        return _("%(seconds)s s") % {"seconds": whole}
    if whole < 3600:
        return _("%(minutes)d min %(seconds)02d s") % {"minutes": whole // 60, "seconds": whole % 60}
    return _("%(hours)d h %(minutes)02d min") % {"hours": whole // 3600, "minutes": whole % 3600 // 60}


@register.filter
def run_duration(run: SyncRun) -> str:
    """From the first worker's claim to the end, or to now."""
    if run.started_at is None:
        return "–"
    return duration(((run.finished_at or timezone.now()) - run.started_at).total_seconds())


def _zone(name: str) -> datetime.tzinfo:
    try:
        return zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError):
        return datetime.UTC

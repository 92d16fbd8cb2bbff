"""Points in time and lengths of time, as people read them.

A moment is shown in the tenant's time zone, with the same in UTC in its title; how long ago it is, beside it.
"""

from __future__ import annotations

import datetime
import zoneinfo

from django import template
from django.utils import formats, timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import ngettext, pgettext

register = template.Library()

MINUTE, HOUR, DAY = 60, 3600, 86400


@register.simple_tag
def moment(value: datetime.datetime | None, zone: str = "UTC", style: str = "both", never: str = "") -> SafeString:
    """`value` (aware) as a <time>. style: "both" (date and time, then how long ago), "recent" (the other
    way round, with the zone's name, for lists across tenants), "relative", "absolute".

    `zone`: the tenant's time zone. None gives `never` ("Never" when not told otherwise).
    """
    if value is None:
        return format_html('<span class="muted">{}</span>', never or _("Never"))
    local = value.astimezone(zoneinfo.ZoneInfo(zone))
    absolute = _date_and_time(local)
    utc = f"{value.astimezone(datetime.UTC):%Y-%m-%d %H:%M:%S} UTC"
    iso = value.astimezone(datetime.UTC).isoformat(timespec="seconds")
    ago = relative_words(value, timezone.now())
    if style == "relative":
        title = f"{absolute} ({zone}) · {utc}"
        return format_html('<time datetime="{}" title="{}">{}</time>', iso, title, ago)
    if style == "absolute":
        return format_html('<time datetime="{}" title="{}">{}</time>', iso, utc, absolute)
    if style == "recent":
        return format_html(
            '<time class="moment" datetime="{}" title="{}">{} <span class="muted">{}</span></time>',
            iso, utc, ago, f"{absolute} {local:%Z}",
        )  # fmt: skip
    return format_html(
        '<time class="moment" datetime="{}" title="{}">{} <span class="muted">{}</span></time>', iso, utc, absolute, ago
    )


@register.simple_tag
def clock(value: datetime.datetime, zone: str = "UTC") -> SafeString:
    """The time of day to the second, for lists of events; the whole moment in UTC in its title."""
    local = value.astimezone(zoneinfo.ZoneInfo(zone))
    utc = value.astimezone(datetime.UTC)
    return format_html(
        '<time datetime="{}" title="{} UTC">{}</time>',
        utc.isoformat(timespec="seconds"),
        f"{utc:%Y-%m-%d %H:%M:%S}",
        f"{local:%H:%M:%S}",
    )


@register.filter
def duration(seconds: float | None) -> str:
    """A length of time in at most two units: "0.4 s", "12 s", "3 min 4 s", "1 h 12 min", "2 d 3 h"; None: "–"."""
    if seconds is None:
        return "–"
    if seconds < 1:
        return _("%(seconds)s s") % {"seconds": formats.number_format(max(0.1, seconds) if seconds else 0, 1)}
    whole = round(seconds)
    if whole < MINUTE:
        return _("%(seconds)s s") % {"seconds": whole}
    if whole < HOUR:
        return _("%(minutes)d min %(seconds)d s") % {"minutes": whole // MINUTE, "seconds": whole % MINUTE}
    if whole < DAY:
        return _("%(hours)d h %(minutes)d min") % {"hours": whole // HOUR, "minutes": whole % HOUR // MINUTE}
    return _("%(days)d d %(hours)d h") % {"days": whole // DAY, "hours": whole % DAY // HOUR}


@register.filter
def minutes(count: int) -> str:
    """An interval given in minutes, in words: "30 minutes", "2 hours"."""
    if count % 60 == 0:
        return ngettext("%(count)d hour", "%(count)d hours", count // 60) % {"count": count // 60}
    return ngettext("%(count)d minute", "%(count)d minutes", count) % {"count": count}


def relative_words(value: datetime.datetime, now: datetime.datetime) -> str:
    """How long ago `value` is, or how far ahead, in one unit."""
    seconds = (now - value).total_seconds()
    ahead = seconds < 0
    size = abs(seconds)
    if size < MINUTE:
        return _("in less than a minute") if ahead else _("just now")
    if size < HOUR:
        return _minutes(int(size // MINUTE), ahead)
    if size < DAY:
        return _hours(int(size // HOUR), ahead)
    return _days(int(size // DAY), ahead)


def _minutes(count: int, ahead: bool) -> str:
    if ahead:
        return ngettext("in %(count)d minute", "in %(count)d minutes", count) % {"count": count}
    return ngettext("%(count)d minute ago", "%(count)d minutes ago", count) % {"count": count}


def _hours(count: int, ahead: bool) -> str:
    if ahead:
        return ngettext("in %(count)d hour", "in %(count)d hours", count) % {"count": count}
    return ngettext("%(count)d hour ago", "%(count)d hours ago", count) % {"count": count}


def _days(count: int, ahead: bool) -> str:
    if ahead:
        return ngettext("in %(count)d day", "in %(count)d days", count) % {"count": count}
    return ngettext("%(count)d day ago", "%(count)d days ago", count) % {"count": count}


def _date_and_time(local: datetime.datetime) -> str:
    # Translators: a date such as 24 Nov 2026, in the letters of Django's date filter.
    pattern = pgettext("date format", "j M Y")
    return f"{formats.date_format(local, pattern)} {local:%H:%M}"

"""Forms of the console. What they accept is checked again by the services."""

from __future__ import annotations

from typing import Any

from django import forms
from django.utils.translation import gettext_lazy as _

from connectors.models import Connector
from console.templatetags.moments import minutes

INTERVALS = (5, 10, 15, 30, 60, 120, 180, 240, 360, 480, 720, 1440)  # minutes


class ScheduleForm(forms.Form):
    """When a connector syncs by itself, and how many commands it sends at once."""

    is_enabled = forms.BooleanField(required=False, label=_("Sync by schedule"))
    quick_sync_minutes = forms.TypedChoiceField(coerce=int, label=_("Quick sync every"))
    full_sync_time = forms.TimeField(
        label=_("Full sync daily at"),
        widget=forms.TimeInput(attrs={"type": "time"}, format="%H:%M"),
        error_messages={"invalid": _("Enter a time of day such as 02:00.")},
    )

    parallel_commands = forms.IntegerField(
        min_value=1,
        max_value=16,
        required=False,
        label=_("Commands at the same time"),
        help_text=_(
            "1 to 16. Each is a session of the account at Exchange, which allows 18 by default. It slows down by "
            "itself when Exchange asks."
        ),
    )

    def __init__(self, *args: Any, connector: Connector, **kwargs: Any) -> None:
        kwargs["initial"] = {
            "parallel_commands": connector.parallel_commands,
            "is_enabled": connector.is_enabled,
            "quick_sync_minutes": connector.quick_sync_minutes,
            "full_sync_time": connector.full_sync_time,
        }
        super().__init__(*args, **kwargs)
        # An interval set elsewhere (a command, an import) stays choosable.
        choices = sorted({*INTERVALS, connector.quick_sync_minutes})
        self.fields["quick_sync_minutes"].choices = [(n, minutes(n)) for n in choices]  # type: ignore[attr-defined]
        zone = connector.organization.tenant.time_zone
        self.fields["full_sync_time"].help_text = _(
            "In the tenant's time zone, %(zone)s. It starts within ten minutes after, so that connectors do not all "
            "start at once."
        ) % {"zone": zone}
        self.fields["is_enabled"].help_text = _("Off: nothing starts by itself. The buttons still work.")

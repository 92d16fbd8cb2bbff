"""How far it is known when an organization's devices last synchronized, and how far a reading of it is: beside the
offer to keep devices that are in use, which goes by that.
"""

from __future__ import annotations

import datetime
import math
import uuid
from dataclasses import dataclass

from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render
from django.utils import timezone
from django.views.decorators.http import require_safe

from connectors.models import Connector, ExchangeOrganization
from connectors.selectors import organizations_for
from console.accounts.permissions import Action, actions_in
from sync.models import SyncRun
from sync.observing.statistics_due import Ahead, statistics_ahead
from sync.selectors import Progress, run_progress
from sync.services import statistics_are_promised

# A reading that ended so short a time ago is what somebody who looks at this waited for.
JUST_NOW = datetime.timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class StatisticsReading:
    """run: the reading under way, or the one that ended just now. is_promised: it comes after the run under way.
    ahead: what a reading would have to do; None while one is under way or promised."""

    organization: ExchangeOrganization
    run: SyncRun | None
    progress: Progress | None
    is_promised: bool
    ahead: Ahead | None

    @property
    def is_live(self) -> bool:
        return self.progress is not None or self.is_promised

    @property
    def minutes(self) -> int:
        """What it would roughly take."""
        return max(math.ceil(self.ahead.seconds / 60), 1) if self.ahead else 0


def statistics_reading(organization: ExchangeOrganization) -> StatisticsReading | None:
    """None where there is no connector to read with."""
    connector = Connector.objects.filter(organization=organization).first()
    if connector is None:
        return None
    newest = SyncRun.objects.filter(connector=connector).order_by("-queued_at", "-pk")
    present, last = newest.first(), newest.filter(kind=SyncRun.Kind.STATISTICS).first()
    is_promised = present is not None and statistics_are_promised(present)
    if last is not None and last.is_active:
        return StatisticsReading(organization, last, run_progress(last), is_promised=False, ahead=None)
    if is_promised:
        return StatisticsReading(organization, None, None, is_promised=True, ahead=None)
    is_new = last is not None and last.finished_at is not None and timezone.now() - last.finished_at < JUST_NOW
    return StatisticsReading(
        organization, last if is_new else None, None, is_promised=False, ahead=statistics_ahead(connector)
    )


@require_safe
def reading(request: HttpRequest, public_id: uuid.UUID) -> HttpResponse:
    """The part of the review that tells of it; it asks for itself again while a reading is under way."""
    organization = get_object_or_404(organizations_for(request.user), public_id=public_id)
    context = {
        "reading": statistics_reading(organization),
        "may_read": Action.SYNC in actions_in(request.user, organization.tenant),
    }
    return render(request, "components/statistics_reading.html", context)

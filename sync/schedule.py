"""When each connector syncs by itself. The times stand on its row; a tick every half minute looks for due ones.

The arithmetic is pure. A time that was missed (everything was off) runs once, not once for each time missed.
"""

from __future__ import annotations

import datetime
import logging
import uuid
import zoneinfo

from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from connectors.actors import SCHEDULE
from connectors.models import Connector
from sync.models import SyncRun
from sync.services import sync_request

logger = logging.getLogger(__name__)

# Spread, so that a hundred connectors set to 02:00 do not start in one second. Fixed for each connector.
FULL_JITTER = datetime.timedelta(minutes=10)
QUICK_JITTER = 0.1  # of the interval


def spread(public_id: uuid.UUID) -> float:
    """A number in [0, 1) that is always the same for one connector."""
    return (public_id.int % 9973) / 9973


def next_full(now: datetime.datetime, at: datetime.time, zone: str, share: float) -> datetime.datetime:
    """The next full sync after `now` (aware): daily at `at` in `zone`, plus share of the jitter. UTC.

    On the day a clock jumps over `at`, it runs as much later as the jump; on the day `at` comes twice, the first time.
    """
    tz = zoneinfo.ZoneInfo(zone)
    day = now.astimezone(tz).date() - datetime.timedelta(days=1)
    while True:
        local = datetime.datetime.combine(day, at, tzinfo=tz)
        due = local.astimezone(datetime.UTC) + FULL_JITTER * share
        if due > now:
            return due
        day += datetime.timedelta(days=1)


def next_quick(now: datetime.datetime, minutes: int, share: float) -> datetime.datetime:
    """The next quick sync after `now`: the interval, plus share of a tenth of it."""
    return now + datetime.timedelta(minutes=minutes * (1 + QUICK_JITTER * share))


def syncs_dispatch_due() -> int:
    """Request what is due. Returns how many runs were asked for. Safe with several schedulers at once."""
    now = timezone.now()
    unset = Q(next_full_sync_at=None) | Q(next_quick_sync_at=None)
    due = Q(next_full_sync_at__lte=now) | Q(next_quick_sync_at__lte=now)
    wanted = Connector.objects.filter(unset | due, is_enabled=True).values_list("pk", flat=True)
    return sum(_each(pk, now) for pk in wanted)


def _each(pk: int, now: datetime.datetime) -> bool:
    """One connector's trouble stays its own."""
    try:
        return _connector_tick(pk, now)
    except Exception:
        logger.exception("connector %s could not be scheduled this time", pk)
        return False


@transaction.atomic
def _connector_tick(pk: int, now: datetime.datetime) -> bool:
    connector = Connector.objects.select_for_update().filter(pk=pk, is_enabled=True).first()
    if connector is None:
        return False  # deleted or switched off meanwhile
    tenant_zone = connector.organization.tenant.time_zone
    share = spread(connector.public_id)
    full_due = connector.next_full_sync_at is not None and connector.next_full_sync_at <= now
    quick_due = connector.next_quick_sync_at is not None and connector.next_quick_sync_at <= now
    if full_due or connector.next_full_sync_at is None:
        connector.next_full_sync_at = next_full(now, connector.full_sync_time, tenant_zone, share)
    # A full sync does what a quick one would: its interval begins anew.
    if full_due or quick_due or connector.next_quick_sync_at is None:
        connector.next_quick_sync_at = next_quick(now, connector.quick_sync_minutes, share)
    connector.save(update_fields=["next_full_sync_at", "next_quick_sync_at"])
    if not (full_due or quick_due):
        return False
    kind = SyncRun.Kind.FULL if full_due else SyncRun.Kind.QUICK
    sync_request(connector=connector, kind=kind, trigger=SyncRun.Trigger.SCHEDULE, actor=SCHEDULE)
    return True

"""Moments at which somebody's access changes by itself: an override expires, a grace period is over, a record grows
stale, a grandfathering ends. Has the mailboxes concerned looked at when the moment comes.

Decides nothing: the lane, or a run, does. What is past and was not found so yet is asked for, and each connector
remembers until when it was looked, so that nothing is missed while no tick came, and nothing is asked for twice.
"""

from __future__ import annotations

import datetime
import logging
from collections.abc import Iterable

from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from connectors.actors import SCHEDULE
from connectors.models import Connector
from sync.acting.checks import check_request
from sync.deciding.facts import Doubt
from sync.deciding.verdicts import Row
from sync.enforcing.loading import heard_at
from sync.models import AccessOverride, DeviceAccess, DeviceEvent, MobileDevice, SyncRun
from sync.policies.policy_rows import organization_policy, tenant_policy
from sync.services import sync_request

logger = logging.getLogger(__name__)

# Rows that are asked after the one that says so: where one of these spoke, the device was not stale then, or in grace.
_AFTER_STALE, _AFTER_GRACE = (
    tuple(row.value for row in Row if one.number < row.number <= Row.COMPLIANT.number)
    for one in (Row.STALE, Row.GRACE_OVER)
)
# Overrides ended in one transaction.
MOST = 500


def deadlines_look() -> int:
    """Of every connector. Returns how many mailboxes were asked for."""
    now = timezone.now()
    asked = overrides_expire(now)
    for connector in Connector.objects.select_related("organization"):
        try:
            asked += _of_connector(connector, now)
        except Exception:
            # One connector's trouble stays its own.
            logger.exception("connector %s: its deadlines could not be looked at this time", connector.pk)
    return asked


@transaction.atomic
def overrides_expire(now: datetime.datetime) -> int:
    """End the overrides whose time is over, and have their mailboxes looked at. Returns how many mailboxes."""
    over = AccessOverride.objects.select_for_update().filter(ended_at=None, expires_at__lte=now)
    rows = list(over.order_by("expires_at")[:MOST])
    if not rows:
        return 0
    AccessOverride.objects.filter(pk__in=[row.pk for row in rows]).update(ended_at=now, ended_by_name=SCHEDULE.name)
    wanted = {(row.mailbox_id, row.device_id_key): row for row in rows}
    devices = MobileDevice.objects.filter(owner__in={row.mailbox_id for row in rows}, gone_at=None)
    DeviceEvent.objects.bulk_create(
        [
            DeviceEvent(
                device_id=pk, at=now, code="overrideEnded", actor_name=SCHEDULE.name,
                params={"level": row.level, "expired": True},
            )
            for pk, owner, key in devices.values_list("pk", "owner_id", "device_id_key")
            if (row := wanted.get((owner, key))) is not None
        ]
    )  # fmt: skip
    return check_request({row.mailbox_id for row in rows}, because="overrideEnded")


def _of_connector(connector: Connector, now: datetime.datetime) -> int:
    since = connector.deadlines_until
    asked = 0
    with transaction.atomic():
        current = Connector.objects.select_for_update().get(pk=connector.pk)
        if current.deadlines_until != since:
            return 0  # another tick was here
        if since is not None and since < now:
            asked = check_request(_mailboxes(connector, now), because="deadline")
            _grandfathering_end(connector, since, now)
        Connector.objects.filter(pk=connector.pk).update(deadlines_until=now)
    return asked


def _mailboxes(connector: Connector, now: datetime.datetime) -> Iterable[int]:
    """Of the devices whose record's grace period ended, or which grew stale, and were not found so yet. Not by the
    moments since the last look: a record is stale when device management was heard of, and whoever decides may have
    another clock. Whose mailbox waits to be looked at is not asked for again."""
    policy = tenant_policy(connector.organization.tenant_id)
    if not policy.enabled:
        return set()
    in_grace = Q(managed_device__compliance__iexact="inGracePeriod", rule__in=_AFTER_GRACE)
    over = in_grace & Q(managed_device__grace_until__lte=now)
    if policy.stale_days is not None and policy.stale != Doubt.COMPLIANT:
        known_until = min(heard_at(connector.organization.tenant_id) or now, now)
        before = known_until - datetime.timedelta(days=policy.stale_days)
        over |= Q(managed_device__last_check_in_at__lt=before, rule__in=_AFTER_STALE)
    rows = DeviceAccess.objects.filter(over, organization=connector.organization_id, device__owner__isnull=False)
    return set(rows.exclude(device__owner__wanted__isnull=False).values_list("device__owner", flat=True))


def _grandfathering_end(connector: Connector, since: datetime.datetime, now: datetime.datetime) -> None:
    """Many may be concerned, and the guard should see them together: a run."""
    values = organization_policy(connector.organization_id).grandfathering
    if values is None:
        return
    until = values.facts().until
    if since < until <= now:
        sync_request(connector=connector, kind=SyncRun.Kind.APPLY, trigger=SyncRun.Trigger.SCHEDULE, actor=SCHEDULE)

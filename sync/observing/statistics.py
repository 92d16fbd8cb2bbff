"""What mailboxes know of their devices: kept as read, and a line in a device's story when a wipe moves on.

Reading opens the mailbox, so it is the expensive call: only when somebody asks, after a wipe, and while one is pending.
All of an organization's are read by a run of their own (statistics_run.py).
"""

from __future__ import annotations

import datetime
import logging
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Any

from django.db import transaction
from django.db.models import F, Q
from django.db.models.functions import Now

from connectors import gateway
from connectors.exchange.client import ExchangeClient
from connectors.exchange.cmdlets import Identity
from connectors.exchange.errors import BadRequestError, ExchangeError, NotPermittedError
from connectors.exchange.records import DeviceStatisticsRecord
from connectors.models import Connector
from sync.acting.deeds import Reading
from sync.acting.device_deeds import statistics_read as reading_of
from sync.deciding.facts import id_key
from sync.dispatch import statistics_dispatch, wipes_dispatch
from sync.events import storable
from sync.models import Command, DeviceEvent, DeviceStatistics, Mailbox, MobileDevice

logger = logging.getLogger(__name__)

OpenExchange = Callable[..., AbstractContextManager[ExchangeClient]]

# A pending wipe is looked after this often, so many mailboxes at once, and for so long after it was ordered.
WIPE_AGAIN = datetime.timedelta(minutes=3)
WIPES_AT_ONCE = 100
WIPE_WATCHED = datetime.timedelta(days=30)
_WIPES: tuple[tuple[str, str, dict[str, bool]], ...] = (
    ("wipeSent", "wipe_sent_at", {}),
    ("wipeAcknowledged", "wipe_acknowledged_at", {}),
    ("wipeSent", "account_wipe_sent_at", {"account_only": True}),
    ("wipeAcknowledged", "account_wipe_acknowledged_at", {"account_only": True}),
)


def statistics_request(*, mailbox: Mailbox) -> bool:
    """Have a mailbox's statistics read soon. False when its organization has no connector."""
    connector = Connector.objects.filter(organization=mailbox.organization_id).first()
    if connector is None:
        return False
    statistics_dispatch(connector, mailbox.pk)
    return True


def statistics_do(
    connector_id: int, mailboxes: Iterable[int], *, open_exchange: OpenExchange = gateway.open_exchange
) -> int:
    """Read the statistics of some mailboxes. Returns of how many devices. What Exchange refuses is logged: the page
    shows when it was read last."""
    connector = Connector.objects.get(pk=connector_id)
    kept = 0
    try:
        with open_exchange(connector, role="sync") as client:
            for mailbox in Mailbox.objects.filter(organization=connector.organization_id, pk__in=mailboxes):
                kept += _read(client, mailbox)
    except ExchangeError as error:
        logger.warning("connector %s: statistics cannot be read now: %r", connector_id, error)
    return kept


def _read(client: ExchangeClient, mailbox: Mailbox) -> int:
    try:
        reading = reading_of(client, Identity(str(mailbox.guid)))
    except (BadRequestError, NotPermittedError) as error:
        logger.warning("mailbox %s: its statistics cannot be read: %r", mailbox.pk, error)
        return 0
    return statistics_store(mailbox.pk, reading)


def pending_wipes_dispatch() -> int:
    """Have the wipes looked after that phones have not confirmed. Returns for how many connectors."""
    organizations = _pending().values_list("device__organization", flat=True).distinct()
    connectors = Connector.objects.filter(organization__in=list(organizations))
    for connector in connectors:
        wipes_dispatch(connector)
    return len(connectors)


def pending_wipes_read(connector_id: int, *, open_exchange: OpenExchange = gateway.open_exchange) -> int:
    """Those that were not looked at for the longest time. Returns of how many devices something was kept."""
    connector = Connector.objects.get(pk=connector_id)
    rows = _pending().filter(device__organization=connector.organization_id, device__owner__isnull=False)
    mailboxes = rows.order_by("read_at").values_list("device__owner", flat=True)[:WIPES_AT_ONCE]
    return statistics_do(connector_id, set(mailboxes), open_exchange=open_exchange) if mailboxes else 0


def _pending() -> Any:
    """Ordered, and not confirmed since."""
    since = Now() - WIPE_WATCHED
    whole = Q(wipe_requested_at__gt=since) & (
        Q(wipe_acknowledged_at=None) | Q(wipe_acknowledged_at__lt=F("wipe_requested_at"))
    )
    account = Q(account_wipe_requested_at__gt=since) & (
        Q(account_wipe_acknowledged_at=None) | Q(account_wipe_acknowledged_at__lt=F("account_wipe_requested_at"))
    )
    return DeviceStatistics.objects.filter(whole | account, device__gone_at=None, read_at__lt=Now() - WIPE_AGAIN)


# --- keeping ----------------------------------------------------------------------------------------------------------


def statistics_store(mailbox: int, reading: Reading) -> int:
    """Keep what was read of a mailbox's devices, and tell where a wipe moved on. Returns of how many devices."""
    devices = MobileDevice.objects.filter(owner=mailbox, gone_at=None).values_list("device_id_key", "pk")
    return statistics_keep(list(devices), reading)


@transaction.atomic
def statistics_keep(devices: Sequence[tuple[str, int]], reading: Reading) -> int:
    """The same of (DeviceId for comparing, key) of each present device of a mailbox. A row that was read later stays.

    A device of which the mailbox says nothing counts as asked after: it keeps what was read before, if anything was.
    """
    records = {id_key(record.device_id): record for record in reading.statistics or ()}
    before = DeviceStatistics.objects.in_bulk([pk for _key, pk in devices])
    older = [(key, pk) for key, pk in devices if pk not in before or before[pk].read_at <= reading.asked_at]
    rows = [
        DeviceStatistics(device_id=pk, read_at=reading.asked_at, **_values(records[key]))
        for key, pk in older
        if key in records
    ]
    names = [field.name for field in DeviceStatistics._meta.concrete_fields if not field.primary_key]
    DeviceStatistics.objects.bulk_create(rows, update_conflicts=True, unique_fields=["device"], update_fields=names)
    if reading.statistics is not None:
        silent = [DeviceStatistics(device_id=pk, read_at=reading.asked_at) for key, pk in older if key not in records]
        DeviceStatistics.objects.bulk_create(
            silent, update_conflicts=True, unique_fields=["device"], update_fields=["read_at"]
        )
    DeviceEvent.objects.bulk_create(_moves(rows, before))
    return len(rows)


def _values(record: DeviceStatisticsRecord) -> dict[str, Any]:
    return {
        "first_sync_at": record.first_sync_time,
        "last_attempt_at": record.last_sync_attempt_time,
        "last_success_at": record.last_success_sync,
        "status": storable(record.status)[:64],
        "policy_applied": storable(record.policy_applied)[:255],
        "policy_status": storable(record.policy_application_status)[:64],
        "wipe_requested_at": record.wipe_requested_at,
        "wipe_sent_at": record.wipe_sent_at,
        "wipe_acknowledged_at": record.wipe_acknowledged_at,
        "wipe_requestor": storable(record.wipe_requestor or record.account_only_wipe_requestor)[:320],
        "account_wipe_requested_at": record.account_only_wipe_requested_at,
        "account_wipe_sent_at": record.account_only_wipe_sent_at,
        "account_wipe_acknowledged_at": record.account_only_wipe_acknowledged_at,
    }


def _moves(rows: Iterable[DeviceStatistics], before: dict[int, DeviceStatistics]) -> list[DeviceEvent]:
    """What is new of wipes. One that somebody ordered elsewhere, long ago, is no news when it is first read."""
    found: list[DeviceEvent] = []
    for row in rows:
        known = before.get(row.device_id)
        for code, name, params in _WIPES:
            at = getattr(row, name)
            was = getattr(known, name) if known else None
            if at is not None and at != was and (known is not None or _was_ordered(row.device_id)):
                found.append(DeviceEvent(device_id=row.device_id, at=at, code=code, params=params))
    return found


def _was_ordered(device: int) -> bool:
    kinds = (Command.Kind.WIPE, Command.Kind.WIPE_ACCOUNT)
    return Command.objects.filter(device=device, kind__in=kinds).exists()

"""Reading Exchange for one run: what to list in a full and in a quick sync, and keeping it page by page."""

from __future__ import annotations

import datetime
import logging
import time
from collections.abc import Callable, Iterator

from django.db.models.functions import Now

from connectors.actors import Actor
from connectors.exchange.client import ExchangeClient
from connectors.exchange.errors import BadRequestError, CanceledError
from connectors.exchange.opath import compare, devices_first_seen_after, devices_in_state, some
from connectors.exchange.records import DevicePage, WireObject
from connectors.models import Connector
from connectors.services import connector_observed
from sync.events import WARNING, note
from sync.lease import Lease
from sync.models import MobileDevice, SyncRun
from sync.observing.mailbox_policy_rows import policies_observe
from sync.observing.record import Counts, page_record, unseen
from sync.observing.rulebook import rules_observe, settings_observe
from sync.observing.sweep import sweep

logger = logging.getLogger(__name__)

ACTOR = Actor(name="Sync")
# Devices in these states are looked at in every quick sync: someone waits for them to change.
UNSETTLED = ("Quarantined", "DeviceDiscovery")
# A quick sync asks for devices first seen this long before the last sync began. Covers clocks that differ between
# worker and Exchange, directory replication, and the minutes that a new device spends in discovery.
MARGIN = datetime.timedelta(hours=1)
# DeviceIds in one filter: long enough to save round trips, short enough for any limit on a filter's length.
IDS_A_FILTER = 20
BATCH = 1000
BATCH_SECONDS = 1.0


def phase_begin(lease: Lease, phase: str) -> None:
    """Put the phase on the run's row and in its story. Raises LeaseLostError; CanceledError when someone asked for it,
    so that no phase begins after that."""
    with lease.guard() as run:
        run.phase = phase
        if phase == SyncRun.Phase.DEVICES:
            run.devices_started_at = Now()
            # Once: when the listing begins again, some of what it brings is held already, by this run's own doing.
            if run.kind == SyncRun.Kind.FULL and run.expected is None:
                run.expected = MobileDevice.objects.filter(
                    organization_id=run.connector.organization_id, gone_at=None
                ).count()
        if phase == SyncRun.Phase.STATISTICS and run.devices_started_at is None:
            run.devices_started_at = Now()  # Once: what an earlier attempt read counts on.
        run.save(update_fields=["phase", "devices_started_at", "expected"])
        note(run.pk, "phase", phase=phase)
    if lease.should_stop():
        raise CanceledError


def organization_observe(*, client: ExchangeClient, connector: Connector, lease: Lease) -> bool:
    """Servers, version, settings, mailbox policies and rules, kept as they are. False when the account may not read the
    rules. Raises ExchangeError, StaleFenceError."""
    phase_begin(lease, SyncRun.Phase.ORGANIZATION)
    servers = client.servers()
    organization = client.organization()
    settings = client.organization_settings()
    connector_observed(
        connector=connector,
        fence=lease.fence,
        organization=organization,
        settings=settings,
        servers=servers,
        actor=ACTOR,
    )
    lease.note("organization_read", servers=sum(1 for s in servers if s.is_client_access_server))
    policies_observe(client=client, organization_id=connector.organization_id)
    return _rules_told(lease, rules_observe(client=client, organization_id=connector.organization_id))


def settings_reread(*, client: ExchangeClient, connector: Connector, lease: Lease) -> bool:
    """Settings and rules alone, before they are enforced; as organization_observe()."""
    phase_begin(lease, SyncRun.Phase.ORGANIZATION)
    return _rules_told(lease, settings_observe(client=client, organization_id=connector.organization_id))


def _rules_told(lease: Lease, are_read: bool) -> bool:
    if not are_read:
        lease.note("rules_unreadable", WARNING)
    return are_read


def full_observe(*, client: ExchangeClient, connector: Connector, lease: Lease, counts: Counts) -> None:
    """Every device; then what is no longer there is marked as gone, if the listing was complete and readable."""
    phase_begin(lease, SyncRun.Phase.DEVICES)
    _listing(client, connector, lease, counts, None)
    lease.note("listing_complete", observed=counts.observed)
    phase_begin(lease, SyncRun.Phase.SWEEPING)
    sweep(lease=lease, organization_id=connector.organization_id, rejected=counts.rejected)


def quick_observe(*, client: ExchangeClient, connector: Connector, lease: Lease, counts: Counts) -> None:
    """New devices, unsettled ones, and those that we still hold as unsettled although Exchange no longer does.

    Never marks anything as gone: a device that is missing from a filtered listing is only not in the filter.
    """
    phase_begin(lease, SyncRun.Phase.DEVICES)
    unsettled = devices_in_state(*UNSETTLED)
    since = connector.synced_until
    try:
        _listing(
            client,
            connector,
            lease,
            counts,
            some(devices_first_seen_after(since - MARGIN), unsettled) if since else unsettled,
        )
    except BadRequestError:
        # How Exchange reads a time in a filter depends on its culture; nothing documents it (see docs/architecture.md).
        lease.note("filter_refused", WARNING)
        _listing(client, connector, lease, counts, unsettled)
    wanted = _left_unsettled(connector, lease)
    for start in range(0, len(wanted), IDS_A_FILTER):
        _listing(client, connector, lease, counts, some(*wanted[start : start + IDS_A_FILTER]))


def _left_unsettled(connector: Connector, lease: Lease) -> list[str]:
    """A condition for each device that is held as unsettled and was not listed as such."""
    ids = (
        unseen(connector.organization_id, lease.fence)
        .filter(access_state__in=UNSETTLED)
        .order_by("device_id")
        .values_list("device_id", flat=True)
        .distinct()
    )
    conditions = []
    for device_id in ids:
        try:
            conditions.append(compare("DeviceId", "eq", device_id))
        except ValueError:
            # A phone names itself as it likes. One that no filter can name waits for the full sync.
            logger.info("run %s: no filter can name a DeviceId with such characters", lease.run_id)
    return conditions


def _listing(client: ExchangeClient, connector: Connector, lease: Lease, counts: Counts, filter: str | None) -> None:
    for page in batches(client.devices(filter=filter)):
        before = len(counts.errors)
        page_record(lease=lease, organization_id=connector.organization_id, page=page, counts=counts)
        for reason in counts.errors[before:]:
            lease.note("rejected", WARNING, reason=reason)
        if lease.should_stop():
            raise CanceledError


def batches(pages: Iterator[DevicePage], clock: Callable[[], float] = time.monotonic) -> Iterator[DevicePage]:
    """Pages joined to what one transaction should hold: BATCH devices, or what came within BATCH_SECONDS.

    Fewer, fuller transactions write each page of an index once instead of several times. A slow server must still show
    progress, so time ends a batch too.
    """
    objects: list[WireObject] = []
    parse = None
    began = clock()
    for page in pages:
        objects += page.objects
        parse = page.parse
        if len(objects) >= BATCH or clock() - began >= BATCH_SECONDS:
            yield DevicePage(tuple(objects), parse)
            objects, began = [], clock()
    if objects and parse is not None:
        yield DevicePage(tuple(objects), parse)

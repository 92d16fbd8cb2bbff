"""The Celery tasks: a name, limits and one call each.

Arguments are ids; keywords that a newer sender may add are ignored.
"""

from __future__ import annotations

from celery import shared_task
from django.conf import settings

from sync.dispatch import records_dispatch
from sync.recover import runs_recover
from sync.runs import run_execute
from sync.schedule import syncs_dispatch_due
from sync.sources import records_refresh, tenants_to_read

# Seconds. The listing ends itself by its own deadline; this is for what no deadline of ours can reach.
_HARD = settings.SYNC_LISTING_DEADLINE_SECONDS + 3600


@shared_task(name="sync.run", time_limit=_HARD)
def run(run_id: int, **_future: object) -> None:
    """Do a queued run. A repeated delivery finds it taken and ends at once."""
    run_execute(run_id)


@shared_task(name="sync.recover_runs", soft_time_limit=60, time_limit=90)
def recover_runs(**_future: object) -> None:
    """Every ten seconds: take up what a dead worker left."""
    runs_recover()


@shared_task(name="sync.dispatch_due", soft_time_limit=60, time_limit=90)
def dispatch_due(**_future: object) -> None:
    """Every half minute: request the syncs that are due."""
    syncs_dispatch_due()


@shared_task(name="sync.read_records", soft_time_limit=3500, time_limit=3600)
def read_records(tenant_id: int, **_future: object) -> None:
    """Read a tenant's Graph, and have what changed looked at. What goes wrong is on the source's row."""
    records_refresh(tenant_id, full=False)


@shared_task(name="sync.read_records_due", soft_time_limit=60, time_limit=90)
def read_records_due(**_future: object) -> None:
    """Every ten minutes: a change that nobody pushes reaches Exchange without waiting for a sync."""
    for tenant_id in tenants_to_read():
        records_dispatch(tenant_id)

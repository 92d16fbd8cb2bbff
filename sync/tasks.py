"""The Celery tasks: a name, limits and one call each.

Arguments are ids; keywords that a newer sender may add are ignored.
"""

from __future__ import annotations

from celery import shared_task
from django.conf import settings

from connectors.models import Connector
from sync.acting.checks import checks_dispatch_due
from sync.acting.destructive import command_send, commands_offer
from sync.acting.lane import checks_do
from sync.acting.settle import commands_recover
from sync.acting.settle import recover as commands_settle
from sync.dispatch import records_dispatch
from sync.enforcing.deadlines import deadlines_look
from sync.notifying.notify_send import notifications_dispatch_due, notifications_send
from sync.observing.statistics import pending_wipes_dispatch, pending_wipes_read, statistics_do
from sync.policies.mailbox_policies import policies_read
from sync.records.sources import records_refresh, tenants_to_read
from sync.recover import runs_recover
from sync.runs import run_execute
from sync.schedule import syncs_dispatch_due

# Seconds. The listing ends itself by its own deadline; this is for what no deadline of ours can reach.
_HARD = settings.SYNC_LISTING_DEADLINE_SECONDS + 3600
# A lane leaves by itself; this is for one that hangs, with all of a large organization's mailboxes marked.
_LANE = settings.CHECKS_SESSION_SECONDS + 3 * 3600


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


@shared_task(name="sync.check", time_limit=_LANE)
def check(connector_id: int, **_future: object) -> None:
    """Look at a connector's marked mailboxes. A repeated delivery finds the lane taken and ends at once."""
    checks_do(connector_id)


@shared_task(name="sync.dispatch_checks", soft_time_limit=60, time_limit=90)
def dispatch_checks(**_future: object) -> None:
    """Every ten seconds: marks that nobody looks at."""
    checks_dispatch_due()


@shared_task(name="sync.settle", time_limit=1800)
def settle(connector_id: int, **_future: object) -> None:
    """Read back the commands whose worker died. A repeated delivery finds none left."""
    connector = Connector.objects.filter(pk=connector_id).first()
    if connector is not None:
        commands_settle(connector)


@shared_task(name="sync.recover_commands", soft_time_limit=60, time_limit=90)
def recover_commands(**_future: object) -> None:
    """Every ten seconds: commands that a dead worker left, and those of people that no worker took."""
    commands_recover()
    commands_offer()


@shared_task(name="sync.command", time_limit=1800)
def command(command_id: int, **_future: object) -> None:
    """Send a person's command. A repeated delivery finds it taken and ends at once."""
    command_send(command_id)


@shared_task(name="sync.statistics", time_limit=600)
def statistics(connector_id: int, mailbox: int, **_future: object) -> None:
    """Read what a mailbox knows of its devices."""
    statistics_do(connector_id, [mailbox])


@shared_task(name="sync.read_policies", time_limit=600)
def read_policies(connector_id: int, **_future: object) -> None:
    """Read an organization's mailbox policies."""
    policies_read(connector_id)


@shared_task(name="sync.pending_wipes", soft_time_limit=60, time_limit=90)
def pending_wipes(**_future: object) -> None:
    """Every three minutes: wipes that phones have not confirmed."""
    pending_wipes_dispatch()


@shared_task(name="sync.read_wipes", time_limit=1800)
def read_wipes(connector_id: int, **_future: object) -> None:
    """Read how a connector's pending wipes stand."""
    pending_wipes_read(connector_id)


@shared_task(name="sync.notify", time_limit=3600)
def notify(organization_id: int, **_future: object) -> None:
    """Send an organization's queued mails. A repeated delivery finds none due, or another worker at it."""
    notifications_send(organization_id)


@shared_task(name="sync.dispatch_notifications", soft_time_limit=60, time_limit=90)
def dispatch_notifications(**_future: object) -> None:
    """Every ten seconds: mails that are due and that nobody sends."""
    notifications_dispatch_due()


@shared_task(name="sync.deadlines", soft_time_limit=60, time_limit=90)
def deadlines(**_future: object) -> None:
    """Every minute: access that ends by itself."""
    deadlines_look()

"""Runs whose worker died, runs that no worker took, promises not kept: nothing stays "running" or "queued" for ever.

State, not messages: each tick looks at the rows, so that a lost tick, or several at once, do no harm. What goes wrong
with one run is logged and does not keep the others waiting.
"""

from __future__ import annotations

import datetime
import logging
from collections.abc import Callable

from django.conf import settings
from django.db import transaction
from django.db.models import Q
from django.db.models.functions import Coalesce, Now

from connectors.models import Connector
from sync.dispatch import queue_of, run_dispatch
from sync.endings import run_cancel_end, run_interrupt
from sync.events import WARNING, note
from sync.lease import take_back
from sync.locks import run_locked
from sync.models import RunEvent, SyncRun
from sync.services import successor_start

logger = logging.getLogger(__name__)

# A queued run is offered to the queue again after this long. A doubled message is harmless: only one claim succeeds.
OFFER_AGAIN = datetime.timedelta(minutes=2)
# And after this long the run's page says that no worker seems to listen.
NOBODY = datetime.timedelta(minutes=3)
# The process that made a run tells the queue itself, right after it committed.
JUST_MADE = datetime.timedelta(seconds=2)


def runs_recover() -> int:
    """Take up again, or end, what was left behind. Returns how many runs were touched."""
    lost = SyncRun.objects.filter(status=SyncRun.Status.RUNNING, lease_expires_at__lt=Now())
    waiting = SyncRun.objects.filter(
        Q(dispatched_at=None) | Q(dispatched_at__lt=Now() - OFFER_AGAIN),
        status=SyncRun.Status.QUEUED,
        queued_at__lt=Now() - JUST_MADE,
    )
    owing = SyncRun.objects.filter(then_full__isnull=False).exclude(status__in=SyncRun.ACTIVE)
    touched = sum(_each(run, _offer_again) for run in waiting.select_related("connector"))
    touched += sum(_each(run, _take_up_again) for run in lost)  # after those that wait: it offers them itself
    touched += sum(_each(run, _promise_keep) for run in owing)
    return touched


def _each(run: SyncRun, act: Callable[[SyncRun], bool]) -> bool:
    """One run's trouble stays its own."""
    try:
        return act(run)
    except Exception:
        logger.exception("run %s could not be recovered this time", run.public_id)
        return False


def _take_up_again(found: SyncRun) -> bool:
    with transaction.atomic():
        run = run_locked(found.pk, status=SyncRun.Status.RUNNING, lease_expires_at__lt=Now())
        if run is None:
            return False  # renewed, or another tick was here
        take_back(run)
        logger.warning("run %s: worker %s let its lease expire", run.public_id, run.lease_owner)
        if run.cancel_requested_at is not None:
            run_cancel_end(run)
        elif run.attempt >= settings.SYNC_MAX_ATTEMPTS:
            run_interrupt(run)
            if run.kind != SyncRun.Kind.STATISTICS:  # which says nothing of how the connector's syncs stand
                Connector.objects.filter(pk=run.connector_id).update(last_error_code=run.error_code)
        else:
            _queue_again(run)
    successor_start(run)
    return True


def _queue_again(run: SyncRun) -> None:
    note(run.pk, "taken_up_again", WARNING, worker=run.lease_owner)
    run.status, run.phase = SyncRun.Status.QUEUED, SyncRun.Phase.WAITING
    run.lease_expires_at = None
    # Not told yet: should this process die before it tells the queue, the next tick does.
    run.dispatched_at = None
    run.save(update_fields=["status", "phase", "lease_expires_at", "dispatched_at"])
    run_dispatch(run)


def _offer_again(run: SyncRun) -> bool:
    waits = Coalesce("heartbeat_at", "queued_at")  # since it was asked for, or since its last worker was heard of
    waits_long = SyncRun.objects.annotate(since=waits).filter(pk=run.pk, since__lt=Now() - NOBODY).exists()
    if waits_long and not RunEvent.objects.filter(run=run, code="no_worker").exists():
        note(run.pk, "no_worker", WARNING, queue=queue_of(run.connector.site))
    run_dispatch(run)
    return True


def _promise_keep(run: SyncRun) -> bool:
    successor_start(run)
    return True

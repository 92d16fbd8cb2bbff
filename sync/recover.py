"""Runs whose worker died, and runs that no worker took: nothing stays "running" or "queued" for ever.

State, not messages: each tick looks at the rows, so that a lost tick, or several at once, do no harm.
"""

from __future__ import annotations

import datetime
import logging

from django.conf import settings
from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from connectors.models import Connector
from sync.dispatch import queue_of, run_dispatch
from sync.events import ERROR, WARNING, note
from sync.models import RunEvent, SyncRun
from sync.services import run_canceled, successor_start

logger = logging.getLogger(__name__)

# A queued run is offered to the queue again after this long. A doubled message is harmless: only one claim succeeds.
OFFER_AGAIN = datetime.timedelta(minutes=2)
# And after this long the run's page says that no worker seems to listen.
NOBODY = datetime.timedelta(minutes=3)


def runs_recover() -> int:
    """Take up again, or end, what was left behind. Returns how many runs were touched."""
    now = timezone.now()
    lost = SyncRun.objects.filter(status=SyncRun.Status.RUNNING, lease_expires_at__lt=now)
    waiting = SyncRun.objects.filter(Q(dispatched_at=None) | Q(dispatched_at__lt=now - OFFER_AGAIN)).filter(
        status=SyncRun.Status.QUEUED, queued_at__lt=now - datetime.timedelta(seconds=2)
    )
    touched = 0
    for run_id in lost.values_list("pk", flat=True):
        touched += _take_up_again(run_id, now)
    for run in waiting.select_related("connector"):
        _offer_again(run, now)
        touched += 1
    return touched


def _take_up_again(run_id: int, now: datetime.datetime) -> bool:
    with transaction.atomic():
        run = (
            SyncRun.objects.select_for_update()
            .filter(pk=run_id, status=SyncRun.Status.RUNNING, lease_expires_at__lt=now)
            .first()
        )
        if run is None:
            return False  # renewed, or another tick was here
        # A number no worker holds: should the old one still live, its writes are refused from now on.
        connector = Connector.objects.select_for_update().get(pk=run.connector_id)
        connector.fence += 1
        connector.save(update_fields=["fence"])
        run.fence = connector.fence
        logger.warning("run %s: worker %s let its lease expire", run.public_id, run.lease_owner)
        if run.cancel_requested_at is not None:
            run_canceled(run)
        elif run.attempt >= settings.SYNC_MAX_ATTEMPTS:
            _interrupt(run)
        else:
            note(run.pk, "taken_up_again", WARNING, worker=run.lease_owner)
            run.status, run.phase = SyncRun.Status.QUEUED, SyncRun.Phase.WAITING
            run.lease_expires_at = None
            run_dispatch(run)
        run.save()
    successor_start(run)
    return True


def _interrupt(run: SyncRun) -> None:
    run.status, run.phase = SyncRun.Status.INTERRUPTED, SyncRun.Phase.FINISHED
    run.finished_at, run.lease_expires_at = timezone.now(), None
    run.error_code, run.error_params = "run_interrupted", {"attempts": run.attempt}
    Connector.objects.filter(pk=run.connector_id).update(last_error_code="run_interrupted")
    note(run.pk, "interrupted", ERROR, attempts=run.attempt)


def _offer_again(run: SyncRun, now: datetime.datetime) -> None:
    if now - run.queued_at > NOBODY and not RunEvent.objects.filter(run=run, code="no_worker").exists():
        note(run.pk, "no_worker", WARNING, queue=queue_of(run.connector.site))
    run_dispatch(run)

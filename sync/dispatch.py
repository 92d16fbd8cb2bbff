"""The only place that puts work on the queue. The row comes first; the queue is told after commit, and is only a hint.

A run that the queue lost, or that could not be put there, is offered again by the recovery tick.
"""

from __future__ import annotations

import logging

from celery import current_app
from django.db import transaction
from django.db.models.functions import Now
from kombu.exceptions import OperationalError

from sync.events import WARNING, note
from sync.models import RunEvent, SyncRun

logger = logging.getLogger(__name__)

RUN_TASK = "sync.run"
# A page that presses the button waits for this: one more try, then the recovery tick does it.
RETRY_POLICY = {"max_retries": 1, "interval_start": 0.0, "interval_step": 0.2, "interval_max": 0.2}
UNREACHABLE = "queue_unreachable"


def queue_of(site: str) -> str:
    """The queue that workers of a site listen on."""
    return f"site.{site}"


def run_dispatch(run: SyncRun) -> None:
    """Offer a queued run to the workers of its site, once the present transaction has committed."""
    run_id, queue = run.pk, queue_of(run.connector.site)
    transaction.on_commit(lambda: _send(run_id, queue))


def _send(run_id: int, queue: str) -> None:
    try:
        current_app.send_task(RUN_TASK, args=[run_id], queue=queue, retry=True, retry_policy=RETRY_POLICY)
    except (OperationalError, OSError):
        logger.warning("run %s could not be put on the queue %s; it is offered again", run_id, queue)
        # Told once a run: the tick tries every few seconds.
        if not RunEvent.objects.filter(run_id=run_id, code=UNREACHABLE).exists():
            note(run_id, UNREACHABLE, WARNING)
    else:
        SyncRun.objects.filter(pk=run_id).update(dispatched_at=Now())

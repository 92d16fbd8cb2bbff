"""The only place that puts work on the queue. The row comes first; the queue is told after commit, and is only a hint.

What the queue lost, or could not be put there, is offered again by a tick that looks at the rows. Each site has two
queues: one for runs, which take long, and one for what somebody waits for (site.NAME.now).
"""

from __future__ import annotations

import logging
from functools import partial

from celery import current_app
from django.conf import settings
from django.db import transaction
from django.db.models.functions import Now
from kombu.exceptions import OperationalError

from connectors.models import Connector
from sync.events import WARNING, note
from sync.models import Command, RunEvent, SyncRun

logger = logging.getLogger(__name__)

RUN_TASK = "sync.run"
CHECK_TASK = "sync.check"
SETTLE_TASK = "sync.settle"
COMMAND_TASK = "sync.command"
STATISTICS_TASK = "sync.statistics"
WIPES_TASK = "sync.read_wipes"
POLICIES_TASK = "sync.read_policies"
RECORDS_TASK = "sync.read_records"
NOTIFY_TASK = "sync.notify"
# A page that presses the button waits for this: one more try, then the recovery tick does it.
RETRY_POLICY = {"max_retries": 1, "interval_start": 0.0, "interval_step": 0.2, "interval_max": 0.2}
UNREACHABLE = "queue_unreachable"


def queue_of(site: str) -> str:
    """The queue that workers of a site listen on."""
    return f"site.{site}"


def prompt_queue_of(site: str) -> str:
    """The queue for what somebody waits for: no run ever stands in its way."""
    return f"site.{site}.now"


def check_dispatch(connector: Connector) -> None:
    """Have the marked mailboxes of a connector looked at."""
    _tell(connector, CHECK_TASK, connector.pk)


def settle_dispatch(connector: Connector) -> None:
    """Have the commands read back whose worker died."""
    _tell(connector, SETTLE_TASK, connector.pk)


def command_dispatch(command: Command, connector: Connector) -> None:
    """Have a person's command sent."""
    _tell(connector, COMMAND_TASK, command.pk)


def statistics_dispatch(connector: Connector, mailbox: int) -> None:
    """Have the statistics of a mailbox's devices read."""
    _tell(connector, STATISTICS_TASK, connector.pk, mailbox)


def records_dispatch(tenant_id: int) -> None:
    """Have a tenant's Graph read now, wherever a worker is free: Graph is reached from every site alike."""
    queue = settings.CELERY_TASK_DEFAULT_QUEUE
    transaction.on_commit(partial(_send_prompt, RECORDS_TASK, (tenant_id,), queue))


def notify_dispatch(organization_id: int) -> None:
    """Have an organization's queued mails sent, from where its Exchange is."""
    connector = Connector.objects.filter(organization=organization_id).first()
    if connector is not None:
        _tell(connector, NOTIFY_TASK, organization_id)


def policies_dispatch(connector: Connector) -> None:
    """Have the organization's mailbox policies read."""
    _tell(connector, POLICIES_TASK, connector.pk)


def wipes_dispatch(connector: Connector) -> None:
    """Have the wipes looked after that phones have not confirmed."""
    _tell(connector, WIPES_TASK, connector.pk)


def _tell(connector: Connector, task: str, *arguments: int) -> None:
    transaction.on_commit(partial(_send_prompt, task, arguments, prompt_queue_of(connector.site)))


def _send_prompt(task: str, arguments: tuple[int, ...], queue: str) -> None:
    try:
        current_app.send_task(task, args=arguments, queue=queue, retry=True, retry_policy=RETRY_POLICY)
    except (OperationalError, OSError):
        logger.warning("%s %s could not be put on the queue %s; it is offered again", task, arguments, queue)


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

"""One run a connector, and one worker a run: the lease that a worker takes, renews and writes under.

The run row is the lock. A worker takes it by a conditional UPDATE (claim), gets the next number of the connector's
fence, and renews it from a thread while it works. Each transaction that writes results begins with `guard()`, which
holds the run row and refuses when a newer number was given out: a worker thought dead that was not can write nothing.
"""

from __future__ import annotations

import datetime
import logging
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from django.conf import settings
from django.db import DatabaseError, connection, transaction
from django.db.models import F
from django.utils import timezone

from connectors.models import Connector
from sync.models import SyncRun

logger = logging.getLogger(__name__)


class LeaseLostError(Exception):
    """Another worker holds the run, or it has ended: this one must stop and write nothing more."""


def owner_name() -> str:
    """host/pid of this process: where an operator finds it, and what a crash test kills."""
    return f"{socket.gethostname()}/{os.getpid()}"


def _until(now: datetime.datetime) -> datetime.datetime:
    return now + datetime.timedelta(seconds=settings.SYNC_LEASE_SECONDS)


@transaction.atomic
def claim(run_id: int, owner: str) -> Lease | None:
    """Take a queued run. None when it is not queued any more: a repeated message, or another worker was faster."""
    now = timezone.now()
    taken = SyncRun.objects.filter(pk=run_id, status=SyncRun.Status.QUEUED).update(
        status=SyncRun.Status.RUNNING,
        phase=SyncRun.Phase.CONNECTING,
        attempt=F("attempt") + 1,
        lease_owner=owner,
        connector_server=owner.split("/", 1)[0],
        heartbeat_at=now,
        lease_expires_at=_until(now),
    )
    if not taken:
        return None
    connector_id = SyncRun.objects.values_list("connector_id", flat=True).get(pk=run_id)
    Connector.objects.filter(pk=connector_id).update(fence=F("fence") + 1)
    fence = Connector.objects.values_list("fence", flat=True).get(pk=connector_id)
    SyncRun.objects.filter(pk=run_id).update(fence=fence)
    SyncRun.objects.filter(pk=run_id, started_at=None).update(started_at=now)
    return Lease(run_id=run_id, fence=fence, owner=owner)


class Lease:
    """A run held by this worker. `stopped` is set when it must end: canceled, lost, or handed back."""

    def __init__(self, *, run_id: int, fence: int, owner: str) -> None:
        self.run_id = run_id
        self.fence = fence
        self.owner = owner
        self.stopped = threading.Event()
        self.is_lost = False
        self.is_canceled = False
        self._ended = threading.Event()

    def should_stop(self) -> bool:
        return self.stopped.is_set()

    def _held(self) -> dict[str, object]:
        return {"pk": self.run_id, "fence": self.fence, "status": SyncRun.Status.RUNNING}

    @contextmanager
    def guard(self) -> Iterator[SyncRun]:
        """A transaction in which this lease is surely held. Raises LeaseLostError before anything is written."""
        with transaction.atomic():
            run = SyncRun.objects.select_for_update().filter(**self._held()).first()
            if run is None:
                self.is_lost = True
                self.stopped.set()
                raise LeaseLostError(f"run {self.run_id} is no longer held under lease {self.fence}")
            if run.cancel_requested_at is not None:
                self.is_canceled = True
                self.stopped.set()
            yield run

    def renew(self) -> None:
        """Push the end of the lease out, and learn whether someone asked to cancel. Never raises."""
        now = timezone.now()
        try:
            held = SyncRun.objects.filter(**self._held()).update(heartbeat_at=now, lease_expires_at=_until(now))
            if not held:
                self.is_lost = True
                self.stopped.set()
            elif SyncRun.objects.filter(pk=self.run_id).exclude(cancel_requested_at=None).exists():
                self.is_canceled = True
                self.stopped.set()
        except DatabaseError:
            # The database may be back at the next beat; if not, the lease runs out and guard() will say so.
            logger.warning("run %s: the lease could not be renewed this time", self.run_id, exc_info=True)

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Renewed from a thread of its own for as long as the context lasts."""
        beat = threading.Thread(target=self._beat, name=f"lease-{self.run_id}", daemon=True)
        beat.start()
        try:
            yield
        finally:
            self._ended.set()
            beat.join(timeout=settings.SYNC_HEARTBEAT_SECONDS)

    def _beat(self) -> None:
        try:
            while not self._ended.wait(settings.SYNC_HEARTBEAT_SECONDS):
                self.renew()
        finally:
            connection.close()  # this thread's own

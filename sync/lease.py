"""One run a connector, and one worker a run: the lease that a worker takes, renews and writes under; and the same for
the lane that looks at single mailboxes, of which one a connector may work beside its run.

A worker takes a queued run (claim), gets the next number of the connector's fence, and renews the lease from a thread
while it works. Each transaction that writes for the run is `guard()`: it holds connector and run, and refuses when a
newer number was given out. A worker thought dead that was not can write nothing.

All times of a lease are the database's own (Now()): a machine whose clock is wrong neither loses nor outlives a lease.
"""

from __future__ import annotations

import datetime
import logging
import os
import socket
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

from django.conf import settings
from django.db import Error, connection, transaction
from django.db.models import F, Q
from django.db.models.expressions import CombinedExpression
from django.db.models.functions import Coalesce, Now

from connectors.models import Connector
from sync.events import INFO, note
from sync.locks import run_locked
from sync.models import SyncRun

logger = logging.getLogger(__name__)


class LeaseLostError(Exception):
    """Another worker holds the run, or it has ended: this one must stop and write nothing more."""


class Hold(Protocol):
    """What makes it right to go on: a run's lease, or the lane's."""

    def should_stop(self) -> bool:
        """Whether to end soon: canceled, or lost."""

    def guard(self) -> AbstractContextManager[object]:
        """A transaction in which it is surely held. Raises LeaseLostError before anything is written."""


def owner_name() -> str:
    """host/pid of this process: where an operator finds it, and what a crash test kills."""
    return f"{socket.gethostname()}/{os.getpid()}"


def lease_end() -> CombinedExpression:
    """Where a lease ends that is taken or renewed now."""
    return Now() + datetime.timedelta(seconds=settings.SYNC_LEASE_SECONDS)


@transaction.atomic
def claim(run_id: int, owner: str) -> Lease | None:
    """Take a queued run. None when it is not queued any more: a repeated message, or another worker was faster."""
    run = run_locked(run_id, status=SyncRun.Status.QUEUED)
    if run is None:
        return None
    fence = _next_fence(run.connector)
    SyncRun.objects.filter(pk=run_id).update(
        status=SyncRun.Status.RUNNING,
        phase=SyncRun.Phase.CONNECTING,
        attempt=run.attempt + 1,
        fence=fence,
        lease_owner=owner,
        connector_server=owner.split("/", 1)[0],
        started_at=Coalesce("started_at", Now()),
        heartbeat_at=Now(),
        lease_expires_at=lease_end(),
    )
    note(run_id, "claimed", worker=owner, attempt=run.attempt + 1)
    return Lease(run_id=run_id, connector_id=run.connector_id, fence=fence, owner=owner)


def take_back(run: SyncRun) -> None:
    """Give the (locked) run a number that no worker holds: whoever holds the present one can write nothing more."""
    run.fence = _next_fence(run.connector)
    SyncRun.objects.filter(pk=run.pk).update(fence=run.fence)


def _next_fence(connector: Connector) -> int:
    """The next number of a locked connector."""
    fence = connector.fence + 1
    Connector.objects.filter(pk=connector.pk).update(fence=F("fence") + 1)
    return fence


class Lease:
    """A run held by this worker. `stopped` is set when it must end: canceled, or lost."""

    def __init__(self, *, run_id: int, connector_id: int, fence: int, owner: str) -> None:
        self.run_id = run_id
        self.connector_id = connector_id
        self.fence = fence
        self.owner = owner
        self.stopped = threading.Event()
        self.is_lost = False
        self.is_canceled = False
        # Held while the number changes, so that a renewal never looks for the old one. Taken before any row's lock.
        self._numbering = threading.Lock()

    def should_stop(self) -> bool:
        return self.stopped.is_set()

    def _held(self) -> dict[str, object]:
        return {"pk": self.run_id, "fence": self.fence, "status": SyncRun.Status.RUNNING}

    def _lose(self) -> None:
        self.is_lost = True
        self.stopped.set()

    def _cancel(self) -> None:
        self.is_canceled = True
        self.stopped.set()

    @contextmanager
    def guard(self) -> Iterator[SyncRun]:
        """A transaction in which this lease is surely held. Raises LeaseLostError before anything is written."""
        with transaction.atomic():
            # The same order as locks.run_locked(), without reading what is known already: a page of devices waits.
            rows = Connector.objects.select_for_update().filter(pk=self.connector_id, fence=self.fence)
            is_ours = rows.values_list("pk", flat=True).first() is not None
            run = SyncRun.objects.select_for_update().filter(**self._held()).first() if is_ours else None
            if run is None:
                self._lose()
                raise LeaseLostError(f"run {self.run_id} is no longer held under lease {self.fence}")
            if run.cancel_requested_at is not None:
                self._cancel()
            yield run

    def note(self, code: str, level: str = INFO, **params: object) -> None:
        """A line of the run's story, if it is still ours to tell. Raises LeaseLostError."""
        with self.guard() as run:
            note(run.pk, code, level, **params)

    def renumber(self) -> None:
        """Take the next number for the same run, so that a listing begun again can tell what it saw itself from what
        the one before it saw. Raises LeaseLostError."""
        with self._numbering:
            with self.guard() as run:
                take_back(run)
            self.fence = run.fence

    def renew(self) -> None:
        """Push the end of the lease out, and learn whether someone asked to cancel. Never raises."""
        try:
            with self._numbering:
                held = SyncRun.objects.filter(**self._held()).update(heartbeat_at=Now(), lease_expires_at=lease_end())
                if not held:
                    self._lose()
                elif SyncRun.objects.filter(pk=self.run_id).exclude(cancel_requested_at=None).exists():
                    self._cancel()
        except Error:
            # The database may be back at the next beat; if not, the lease runs out and guard() will say so. The
            # connection may be dead for good without knowing it: the next beat opens another.
            logger.warning("run %s: the lease could not be renewed this time", self.run_id, exc_info=True)
            _connection_drop()

    def kept(self) -> AbstractContextManager[None]:
        """Renewed from a thread of its own for as long as the context lasts."""
        return beating(self.renew, f"lease-{self.run_id}")


def lane_claim(connector_id: int) -> LaneLease | None:
    """Take a connector's lane. None while another worker has it."""
    owner = f"{owner_name()}/{uuid.uuid4().hex[:8]}"
    free = Q(checks_lease_expires_at=None) | Q(checks_lease_expires_at__lt=Now())
    taken = Connector.objects.filter(free, pk=connector_id).update(
        checks_owner=owner, checks_lease_expires_at=lease_end()
    )
    return LaneLease(connector_id, owner) if taken else None


def lane_is_taken(connector_id: int) -> bool:
    return Connector.objects.filter(pk=connector_id, checks_lease_expires_at__gte=Now()).exists()


class LaneLease:
    """A connector's lane, held by this worker. The owner's name is never used twice, so it is the fence as well."""

    def __init__(self, connector_id: int, owner: str) -> None:
        self.connector_id = connector_id
        self.owner = owner
        self.is_lost = False

    def should_stop(self) -> bool:
        return self.is_lost

    @contextmanager
    def guard(self) -> Iterator[None]:
        """A transaction in which the lane is surely held. Raises LeaseLostError before anything is written."""
        with transaction.atomic():
            rows = Connector.objects.select_for_update().filter(pk=self.connector_id, checks_owner=self.owner)
            if rows.values_list("pk", flat=True).first() is None:
                self.is_lost = True
                raise LeaseLostError(f"the checks of connector {self.connector_id} are another worker's now")
            yield

    def renew(self) -> None:
        """Push the end of the lease out. Never raises."""
        try:
            held = Connector.objects.filter(pk=self.connector_id, checks_owner=self.owner)
            if not held.update(checks_lease_expires_at=lease_end()):
                self.is_lost = True
        except Error:
            logger.warning("connector %s: the lane could not be renewed this time", self.connector_id, exc_info=True)
            _connection_drop()

    def kept(self) -> AbstractContextManager[None]:
        """Renewed from a thread of its own for as long as the context lasts."""
        return beating(self.renew, f"checks-{self.connector_id}")

    def release(self) -> None:
        """Give the lane back; nothing when it is another worker's by now."""
        held = Connector.objects.filter(pk=self.connector_id, checks_owner=self.owner)
        held.update(checks_owner="", checks_lease_expires_at=None)


@contextmanager
def beating(renew: Callable[[], None], name: str) -> Iterator[None]:
    """`renew` called now and then from a thread of its own for as long as the context lasts. It must not raise."""
    ended = threading.Event()

    def beat() -> None:
        try:
            while not ended.wait(settings.SYNC_HEARTBEAT_SECONDS):
                renew()
        finally:
            _connection_drop()  # this thread's own

    thread = threading.Thread(target=beat, name=name, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(timeout=settings.SYNC_HEARTBEAT_SECONDS)


def _connection_drop() -> None:
    try:
        connection.close()
    except Error:
        logger.debug("a broken database connection did not close", exc_info=True)

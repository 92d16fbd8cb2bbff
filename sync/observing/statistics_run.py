"""A run that asks every mailbox when its phones last synchronized, several at once, and keeps each answer as it comes.

Changes nothing in Exchange, and makes way: as soon as any run is wanted that decides access, here or at another
connector whose workers are all taken, it ends between two mailboxes, and what is left is read after that one. What was
read stays, and is not read again within a day; so making way, a killed worker and a lost session cost no more than the
mailboxes that were under way.
"""

from __future__ import annotations

import datetime
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

from django.conf import settings
from django.db.models import F, Q
from django.db.models.functions import Now

from connectors.exchange.client import ExchangeClient, Throttling
from connectors.exchange.cmdlets import Identity
from connectors.exchange.errors import CanceledError, ExchangeError, NotPermittedError, ThrottledError
from connectors.models import Connector
from connectors.parallel import Outcome, parallel
from sync.acting.deeds import Reading
from sync.acting.device_deeds import statistics_read
from sync.events import WARNING
from sync.lease import Lease
from sync.models import SyncRun
from sync.observing.observe import phase_begin
from sync.observing.statistics import statistics_keep
from sync.observing.statistics_due import Box, boxes_due, statistics_ahead

logger = logging.getLogger(__name__)

OpenSessions = Callable[..., AbstractContextManager[Any]]

# Seconds between two looks whether another run is wanted.
LOOK = 2.0
# A run of another connector waits this long for a worker before a reading makes way for it: a free one takes it sooner.
PATIENCE = datetime.timedelta(seconds=10)
# A reading that has had a worker this long makes way for another connector's reading, too.
TURN = 600.0
# Mailboxes that could not be read are named in the run's story up to so many; all are counted.
NAMED = 100
# The account may not read statistics at all: asking the other mailboxes would only repeat it.
_NEVER = frozenset({"cmdlet_not_granted", "parameter_not_granted"})


class StatisticsRun:
    """One attempt. on_connected: told which server answered first. on_throttled: seconds lost for Exchange's sake."""

    def __init__(
        self,
        *,
        lease: Lease,
        connector: Connector,
        open_sessions: OpenSessions,
        on_connected: Callable[[str], None],
        on_throttled: Callable[[float], None],
    ) -> None:
        self.lease, self.connector, self.open_sessions = lease, connector, open_sessions
        self.on_connected, self.on_throttled = on_connected, on_throttled
        self._began = self._looked_at = time.monotonic()
        self._is_reading = self._is_way_wanted = False
        self._unread = self._silent = 0

    def read(self) -> bool:
        """False: it made way, and the rest is to be read later.

        Raises CanceledError, LeaseLostError; ExchangeError when no session can be had, the account may not read
        statistics at all, or Exchange asked to wait for too long.
        """
        if self._is_wanted():
            return False
        if not self._planned():
            self.lease.note("statistics_known")
            return True
        throttling = Throttling()
        try:
            self._carry_out(throttling)
        except CanceledError:
            if self.lease.should_stop():
                raise
            return False
        finally:
            self.on_throttled(throttling.seconds)
            self._told()
        return True

    def _planned(self) -> bool:
        """Say what is to be done. Whether there is anything."""
        ahead = statistics_ahead(self.connector)
        with self.lease.guard() as run:
            # What an earlier attempt read counts as read; what it could not read is tried again.
            run.expected = run.observed + ahead.devices
            run.rejected = 0
            run.save(update_fields=["expected", "rejected"])
        if ahead.devices:
            self.lease.note("statistics_due", devices=ahead.devices, mailboxes=ahead.mailboxes)
        return bool(ahead.devices)

    def _carry_out(self, throttling: Throttling) -> None:
        with self.open_sessions(self.connector, role="sync", on_event=self._on_event) as sessions:
            for outcome in parallel(
                sessions,
                self._jobs(),
                _read,
                in_flight=self.connector.parallel_commands,
                should_stop=self._should_stop,
                on_event=self._on_event,
                throttling=throttling,
            ):
                self._begin_reading()
                self._take(outcome)

    def _jobs(self) -> Iterator[Box]:
        for box in boxes_due(self.connector.organization_id):
            if box.identity:
                yield box
            else:
                self._count(unread=box.due)
                self.lease.note("statistics_nameless", WARNING, devices=box.due)

    # --- whether to go on ---------------------------------------------------------------------------------------------

    def _should_stop(self) -> bool:
        """In the thread of the run, several times a second."""
        if self.lease.should_stop():
            return True
        if not self._is_way_wanted and time.monotonic() - self._looked_at >= LOOK:
            self._is_wanted()
        return self._is_way_wanted

    def _is_wanted(self) -> bool:
        self._looked_at = time.monotonic()
        self._is_way_wanted = way_is_wanted(self.lease.run_id, self.connector, self._looked_at - self._began)
        return self._is_way_wanted

    # --- what comes ---------------------------------------------------------------------------------------------------

    def _take(self, outcome: Outcome[Box, Reading]) -> None:
        error = outcome.error
        if error is None and outcome.result is not None:
            if outcome.result.is_gone:
                self._could_not(outcome.job, "object_not_found", {})
            else:
                self._keep(outcome.job, outcome.result)
        elif isinstance(error, CanceledError) or not outcome.server:
            return  # not begun, or broken off: read next time
        elif isinstance(error, ExchangeError) and not _is_about_all(error):
            self._could_not(outcome.job, error.code, error.params)
        elif error is not None:
            raise error  # what is under way is broken off, and read next time

    def _keep(self, box: Box, reading: Reading) -> None:
        with self.lease.guard() as run:
            kept = statistics_keep(box.devices, reading)
            SyncRun.objects.filter(pk=run.pk).update(observed=F("observed") + box.due)
        self._silent += len(box.devices) - kept

    def _could_not(self, box: Box, code: str, params: Any) -> None:
        self._unread += 1
        self._count(unread=box.due)
        if self._unread <= NAMED:
            self.lease.note("statistics_unread", WARNING, **{**params, "error_code": code, "mailbox": box.name})

    def _count(self, *, unread: int) -> None:
        with self.lease.guard() as run:
            SyncRun.objects.filter(pk=run.pk).update(rejected=F("rejected") + unread)

    # --- the story ----------------------------------------------------------------------------------------------------

    def _on_event(self, code: str, params: dict[str, object]) -> None:
        if code == "server_answered":
            if not self._is_reading:
                self.on_connected(str(params["server"]))
            self._begin_reading()
        else:
            self.lease.note(code, WARNING, **params)

    def _begin_reading(self) -> None:
        if not self._is_reading:
            self._is_reading = True
            phase_begin(self.lease, SyncRun.Phase.STATISTICS)

    def _told(self) -> None:
        """Nothing when the lease is lost: the story is another worker's then."""
        if self.lease.is_lost:
            return
        if self._unread:
            self.lease.note("statistics_unread_all", WARNING, mailboxes=self._unread)
        if self._silent:
            self.lease.note("statistics_silent", devices=self._silent)


def _is_about_all(error: ExchangeError) -> bool:
    """Whether the next mailbox would come to the same."""
    return isinstance(error, ThrottledError) or (isinstance(error, NotPermittedError) and error.code in _NEVER)


def _read(client: ExchangeClient, box: Box) -> Reading:
    """In a worker's thread: no database here."""
    return statistics_read(client, Identity(box.identity))


def way_is_wanted(run_id: int, connector: Connector, seconds: float) -> bool:
    """Whether a reading that has had its worker for so long is to end here: something was asked for behind it; or
    another run of the site waits for a worker, and there is none; or it is as long as any run may be. One query."""
    waiting = Q(
        status=SyncRun.Status.QUEUED,
        connector__site=connector.site,
        dispatched_at__isnull=False,
        queued_at__lt=Now() - PATIENCE,
    )
    if seconds < TURN:
        waiting &= ~Q(kind=SyncRun.Kind.STATISTICS)
    if seconds > settings.SYNC_LISTING_DEADLINE_SECONDS:
        return True
    promised = Q(pk=run_id, then_full__isnull=False)
    return SyncRun.objects.filter(promised | waiting).exists()

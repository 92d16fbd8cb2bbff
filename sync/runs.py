"""One run from lease to ending: the phases in order, what is retried, and how each failure is told.

A run reads state and keeps state, so that doing it again is always right: after a lost session, or by another worker,
it simply lists again. Nothing here holds a transaction while it waits for Exchange. Whatever a run writes, its story
included, it writes under its lease.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from django.db import InterfaceError, OperationalError, connection

from connectors.exchange.client import ExchangeClient
from connectors.exchange.errors import (
    CanceledError,
    ExchangeError,
    NotPermittedError,
    StopError,
    ThrottledError,
    TransientError,
)
from connectors.gateway import open_exchange, open_sessions
from connectors.models import Connector, ConnectorStatus
from connectors.services import StaleFenceError, connector_status_set
from sync.endings import run_cancel_end, run_fail, run_make_way, run_succeed
from sync.enforcing.second_half import ReadRecords, SecondHalf
from sync.events import INFO, WARNING
from sync.lease import Lease, LeaseLostError, claim, owner_name
from sync.models import SyncRun
from sync.observing.observe import (
    ACTOR,
    full_observe,
    organization_observe,
    phase_begin,
    quick_observe,
    settings_reread,
)
from sync.observing.record import Counts
from sync.observing.statistics_run import StatisticsRun
from sync.records.sources import records_refresh
from sync.services import rest_promise, successor_start

logger = logging.getLogger(__name__)

OpenExchange = Callable[..., AbstractContextManager[ExchangeClient]]
OpenSessions = Callable[..., AbstractContextManager[Any]]

# Seconds before each new try after a transient error; after the last one the run fails.
RETRY_WAITS = (2.0, 5.0, 15.0, 30.0)
# Throttling slows a run down and does not fail it, within reason: so many waits, and so much waiting in all. A wait is
# as long as Exchange asks, and at least twice the one before (up to THROTTLE_STEP): each new try signs in and lists
# from the beginning, which is what is being throttled.
THROTTLE_SHORTEST = 5.0
THROTTLE_STEP = 300.0
THROTTLE_BUDGET = 3600.0
THROTTLE_WAITS = 12
# These are about one answer, not about the way to Exchange: the connector stays connected.
ANSWER_CODES = frozenset({"listing_incomplete", "malformed_answer", "exchange_transient", "cmdlet_proxy_failed"})
STATISTICS = SyncRun.Kind.STATISTICS


def run_execute(
    run_id: int,
    *,
    open_exchange: OpenExchange = open_exchange,
    open_sessions: OpenSessions = open_sessions,
    read_records: ReadRecords = records_refresh,
    owner: str = "",
) -> str:
    """Do a queued run to its end, and return the status it ended with.

    Returns "" when this worker has nothing to end: the run was not queued any more, another worker took it, or the
    database could not be reached; recovery takes it up again then.
    """
    lease = claim(run_id, owner or owner_name())
    if lease is None:
        return ""
    with lease.kept():
        try:
            run = SyncRun.objects.select_related("connector__organization").get(pk=run_id)
            status = _to_ending(_Walk(run, lease, open_exchange, open_sessions, read_records))
        except (LeaseLostError, StaleFenceError):
            logger.warning("run %s: lease %d is lost, stopping", run_id, lease.fence)
            return ""
        except (OperationalError, InterfaceError):
            # Not the run's fault, and nothing can be written now: the lease runs out, and the run is taken up again.
            logger.exception("run %s: the database failed, leaving the run to recovery", run_id)
            connection.close()
            return ""
    successor_start(run)
    return status


def _to_ending(walk: _Walk) -> str:
    """Walk and write the ending. Raises what means that nothing may or can be written."""
    try:
        return _succeed(walk) if walk.to_end() else _made_way(walk)
    except CanceledError:
        return _stopped(walk)
    except ExchangeError as error:
        logger.warning("run %s failed: %r", walk.run.public_id, error)
        return _fail(walk, error.code, dict(error.params), _status_after(error, walk.run.kind))
    except (LeaseLostError, StaleFenceError, OperationalError, InterfaceError):
        raise
    except Exception:
        # The outermost boundary: whatever it is, the run must not stay "running" and the trace must be found.
        logger.exception("run %s failed", walk.run.public_id)
        return _fail(walk, "internal_error", {}, None)


class _Walk:
    """The phases of one run under one lease, with its retries."""

    def __init__(
        self,
        run: SyncRun,
        lease: Lease,
        open_exchange: OpenExchange,
        open_sessions: OpenSessions,
        read_records: ReadRecords,
    ) -> None:
        self.run, self.lease, self.open_exchange = run, lease, open_exchange
        self.open_sessions, self.read_records = open_sessions, read_records
        self.connector: Connector = run.connector
        # What an earlier attempt of this run created stays counted; what it observed is observed again.
        self.counts = Counts(created=run.created, changed=run.changed)
        self.throttled = run.throttled_seconds
        self.waits = 0
        self.waited = 0.0

    def to_end(self) -> bool:
        """False: it made way for another run."""
        tries = 0
        while True:
            try:
                return self._once()
            except ThrottledError as error:
                self._wait_throttled(error)
            except TransientError as error:
                if tries == len(RETRY_WAITS):
                    raise
                self._wait_retry(error, RETRY_WAITS[tries], tries + 1)
                tries += 1
            self.counts.restart()
            self.lease.renumber()

    def _once(self) -> bool:
        phase_begin(self.lease, SyncRun.Phase.CONNECTING)
        if self.run.kind == STATISTICS:
            return self._statistics()
        with self._session(self._on_event) as client:
            self._connected(client.endpoint.fqdn)
            are_settings_read = self._observe(client)
        SecondHalf(
            run=self.run,
            lease=self.lease,
            connector=self.connector,
            # The session is closed while records are read, which may take longer than Exchange keeps it idle.
            open_client=lambda: self._session(self._on_failure),
            are_settings_read=are_settings_read,
            open_sessions=self.open_sessions,
            read_records=self.read_records,
        ).do()
        return True

    def _statistics(self) -> bool:
        return StatisticsRun(
            lease=self.lease,
            connector=self.connector,
            open_sessions=self.open_sessions,
            on_connected=self._answered,
            on_throttled=self._throttled_add,
        ).read()

    def _answered(self, server: str) -> None:
        """The first of several sessions is in."""
        self.lease.note("server_answered", server=server)
        self._connected(server)

    def _observe(self, client: ExchangeClient) -> bool:
        """Read what this kind of run reads first. Whether settings and rules were."""
        connector, lease = self.connector, self.lease
        if self.run.kind == SyncRun.Kind.APPLY:
            return settings_reread(client=client, connector=connector, lease=lease)
        if self.run.kind == SyncRun.Kind.QUICK:
            quick_observe(client=client, connector=connector, lease=lease, counts=self.counts)
            return False
        are_read = organization_observe(client=client, connector=connector, lease=lease)
        full_observe(client=client, connector=connector, lease=lease, counts=self.counts)
        return are_read

    @contextmanager
    def _session(self, on_event: Callable[[str, dict[str, object]], None]) -> Iterator[ExchangeClient]:
        with self.open_exchange(
            self.connector, role="sync", should_stop=self.lease.should_stop, on_event=on_event
        ) as client:
            try:
                yield client
            finally:
                self._throttled_add(client.throttling.seconds)

    def _connected(self, server: str) -> None:
        with self.lease.guard() as run:
            SyncRun.objects.filter(pk=run.pk).update(exchange_server=server)
            connector_status_set(
                connector=self.connector,
                status=ConnectorStatus.CONNECTED,
                error_code=_still_wrong(run),
                exchange_server=server,
                connector_server=run.connector_server,
                fence=self.lease.fence,
                actor=ACTOR,
            )

    def _on_event(self, code: str, params: dict[str, object]) -> None:
        self.lease.note(code, WARNING if code == "server_failed" else INFO, **params)

    def _on_failure(self, code: str, params: dict[str, object]) -> None:
        """Of a further session: that a server answered has been told."""
        if code == "server_failed":
            self.lease.note(code, WARNING, **params)

    def _wait_throttled(self, error: ThrottledError) -> None:
        least = min(THROTTLE_SHORTEST * 2**self.waits, THROTTLE_STEP)
        seconds = max(error.retry_after, least)
        if self.waits == THROTTLE_WAITS or self.waited + seconds > THROTTLE_BUDGET:
            raise error
        self.waits += 1
        self.waited += seconds
        self.lease.note("throttled", WARNING, seconds=math.ceil(seconds), error_code=error.code)
        self._sleep(seconds)
        self._throttled_add(seconds)

    def _wait_retry(self, error: TransientError, seconds: float, number: int) -> None:
        params = {**error.params, "error_code": error.code, "seconds": math.ceil(seconds)}
        self.lease.note("retry", WARNING, **params, number=number, of=len(RETRY_WAITS))
        self._sleep(seconds)

    def _sleep(self, seconds: float) -> None:
        if self.lease.stopped.wait(seconds):
            raise CanceledError

    def _throttled_add(self, seconds: float) -> None:
        if seconds:
            self.throttled += seconds
            SyncRun.objects.filter(pk=self.run.pk, fence=self.lease.fence).update(throttled_seconds=self.throttled)


def _still_wrong(run: SyncRun) -> str:
    """What was wrong with the last sync, where statistics are read by a way to Exchange that was in order; else ""."""
    if run.kind != STATISTICS:
        return ""
    rows = Connector.objects.filter(pk=run.connector_id, status=ConnectorStatus.CONNECTED)
    return rows.values_list("last_error_code", flat=True).first() or ""


def _status_after(error: ExchangeError, kind: str) -> ConnectorStatus | None:
    """What a failure says about the connection; None: nothing new."""
    if isinstance(error, ThrottledError) or error.code in ANSWER_CODES:
        return None
    if kind == STATISTICS and isinstance(error, NotPermittedError):
        return None  # of the one command that syncs do without
    is_about_the_way = isinstance(error, StopError | TransientError | NotPermittedError)
    return ConnectorStatus.DISCONNECTED if is_about_the_way else None


def _succeed(walk: _Walk) -> str:
    with walk.lease.guard() as run:
        run_succeed(run)
        if run.kind == STATISTICS:
            return SyncRun.Status.SUCCEEDED  # which is no sync, and says nothing of the last one
        reached: dict[str, object] = {"last_error_code": ""}
        if run.kind != SyncRun.Kind.APPLY:
            reached["last_successful_sync_at"] = run.finished_at
        if run.kind != SyncRun.Kind.APPLY and not run.is_dry_run:
            # From here to the next run's start, a quick sync looks back to where this run began. Not after a dry run:
            # what it saw has yet to be acted upon.
            reached["synced_until"] = run.started_at
        if run.kind == SyncRun.Kind.FULL and not run.is_dry_run:
            reached["last_full_sync_at"] = run.finished_at
        Connector.objects.filter(pk=run.connector_id).update(**reached)
    return SyncRun.Status.SUCCEEDED


def _made_way(walk: _Walk) -> str:
    with walk.lease.guard() as run:
        if run.cancel_requested_at is not None:
            run_cancel_end(run)
            return SyncRun.Status.CANCELED
        run_make_way(run)
        rest_promise(run)
    return SyncRun.Status.MADE_WAY


def _fail(walk: _Walk, code: str, params: dict[str, object], status: ConnectorStatus | None) -> str:
    with walk.lease.guard() as run:
        run_fail(run, code, params)
        if run.kind == STATISTICS and status is None:
            return SyncRun.Status.FAILED
        connector_status_set(
            connector=walk.connector,
            status=status or Connector.objects.values_list("status", flat=True).get(pk=run.connector_id),
            error_code=code,
            connector_server=run.connector_server,
            fence=walk.lease.fence,
            actor=ACTOR,
        )
    return SyncRun.Status.FAILED


def _stopped(walk: _Walk) -> str:
    """The session was told to stop: by a person, or because the lease went to someone else (guard() tells which)."""
    with walk.lease.guard() as run:
        run_cancel_end(run)
    return SyncRun.Status.CANCELED

"""One run from lease to ending: the phases in order, what is retried, and how each failure is told.

A run reads state and keeps state, so that doing it again is always right: after a lost session, or by another worker,
it simply lists again. Nothing here holds a transaction while it waits for Exchange.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from contextlib import AbstractContextManager

from django.utils import timezone

from connectors.exchange.client import ExchangeClient
from connectors.exchange.errors import CanceledError, ExchangeError, StopError, ThrottledError, TransientError
from connectors.gateway import open_exchange
from connectors.models import Connector, ConnectorStatus
from connectors.services import StaleFenceError, connector_status_set
from sync.events import ERROR, WARNING, note
from sync.lease import Lease, LeaseLostError, claim, owner_name
from sync.models import SyncRun
from sync.observe import ACTOR, full_observe, organization_observe, phase_begin, quick_observe
from sync.record import Counts
from sync.services import run_canceled, successor_start

logger = logging.getLogger(__name__)

OpenExchange = Callable[..., AbstractContextManager[ExchangeClient]]

# Seconds before each new try after a transient error; after the last one the run fails.
RETRY_WAITS = (2.0, 5.0, 15.0, 30.0)
# Throttling slows a run down and does not fail it, within reason: this much waiting in all, and no single wait longer.
THROTTLE_BUDGET = 3600.0
THROTTLE_LONGEST = 300.0
# These are about one answer, not about the way to Exchange: the connector stays connected.
ANSWER_CODES = frozenset({"listing_incomplete", "malformed_answer", "exchange_transient", "cmdlet_proxy_failed"})


def run_execute(run_id: int, *, open_exchange: OpenExchange = open_exchange, owner: str = "") -> str:
    """Do a queued run to its end, and return the status it ended with.

    Returns "" when there was nothing to do: the run is not queued any more, or another worker took it from us in the
    middle. Raises nothing that the run's row does not tell.
    """
    lease = claim(run_id, owner or owner_name())
    if lease is None:
        return ""
    run = SyncRun.objects.select_related("connector__organization").get(pk=run_id)
    note(run_id, "claimed", worker=lease.owner, attempt=run.attempt)
    walk = _Walk(run, lease, open_exchange)
    with lease.kept():
        try:
            walk.to_end()
            status = _succeed(walk)
        except (LeaseLostError, StaleFenceError):
            logger.warning("run %s: lease %d is lost, stopping", run.public_id, lease.fence)
            return ""
        except CanceledError:
            status = _stopped(walk)
        except ExchangeError as error:
            logger.warning("run %s failed: %r", run.public_id, error)
            status = _fail(walk, error.code, dict(error.params), _status_after(error))
        except Exception:
            # The outermost boundary: whatever it is, the run must not stay "running" and the trace must be found.
            logger.exception("run %s failed", run.public_id)
            status = _fail(walk, "internal_error", {}, None)
    run.refresh_from_db()
    successor_start(run)
    return status


class _Walk:
    """The phases of one run under one lease, with its retries."""

    def __init__(self, run: SyncRun, lease: Lease, open_exchange: OpenExchange) -> None:
        self.run, self.lease, self.open_exchange = run, lease, open_exchange
        self.connector: Connector = run.connector
        # What an earlier attempt of this run created stays counted; what it observed is observed again.
        self.counts = Counts(created=run.created, changed=run.changed)
        self.throttled = run.throttled_seconds
        self.server = ""

    def to_end(self) -> None:
        tries = 0
        while True:
            try:
                self._once()
            except ThrottledError as error:
                self._wait_throttled(error)
            except TransientError as error:
                if tries == len(RETRY_WAITS):
                    raise
                self._wait_retry(error, RETRY_WAITS[tries], tries + 1)
                tries += 1
            else:
                return
            self.counts.restart()

    def _once(self) -> None:
        phase_begin(self.lease, SyncRun.Phase.CONNECTING)
        with self.open_exchange(
            self.connector, role="sync", should_stop=self.lease.should_stop, on_event=self._on_event
        ) as client:
            self._connected(client)
            try:
                if self.run.kind == SyncRun.Kind.FULL:
                    organization_observe(client=client, connector=self.connector, lease=self.lease)
                    full_observe(client=client, connector=self.connector, lease=self.lease, counts=self.counts)
                else:
                    quick_observe(client=client, connector=self.connector, lease=self.lease, counts=self.counts)
            finally:
                self._throttled_add(client.throttling.seconds)

    def _connected(self, client: ExchangeClient) -> None:
        self.server = client.endpoint.fqdn
        with self.lease.guard() as run:
            SyncRun.objects.filter(pk=run.pk).update(exchange_server=self.server)
            connector_status_set(
                connector=self.connector,
                status=ConnectorStatus.CONNECTED,
                exchange_server=self.server,
                connector_server=run.connector_server,
                fence=self.lease.fence,
                actor=ACTOR,
            )

    def _on_event(self, code: str, params: dict[str, object]) -> None:
        note(self.lease.run_id, code, WARNING if code == "server_failed" else "info", **params)

    def _wait_throttled(self, error: ThrottledError) -> None:
        seconds = min(error.retry_after, THROTTLE_LONGEST)
        if self.throttled + seconds > THROTTLE_BUDGET:
            raise error
        note(self.lease.run_id, "throttled", WARNING, seconds=math.ceil(seconds), error_code=error.code)
        self._sleep(seconds)
        self._throttled_add(seconds)

    def _wait_retry(self, error: TransientError, seconds: float, number: int) -> None:
        params = {**error.params, "error_code": error.code, "seconds": math.ceil(seconds)}
        note(self.lease.run_id, "retry", WARNING, **params, number=number, of=len(RETRY_WAITS))
        self._sleep(seconds)

    def _sleep(self, seconds: float) -> None:
        if self.lease.stopped.wait(seconds):
            raise CanceledError

    def _throttled_add(self, seconds: float) -> None:
        if seconds:
            self.throttled += seconds
            SyncRun.objects.filter(pk=self.run.pk, fence=self.lease.fence).update(throttled_seconds=self.throttled)


def _status_after(error: ExchangeError) -> ConnectorStatus | None:
    """What a failure says about the connection; None: nothing new."""
    if isinstance(error, ThrottledError) or error.code in ANSWER_CODES:
        return None
    return ConnectorStatus.DISCONNECTED if isinstance(error, StopError | TransientError) else None


def _succeed(walk: _Walk) -> str:
    now = timezone.now()
    with walk.lease.guard() as run:
        _end(run, SyncRun.Status.SUCCEEDED)
        note(run.pk, "succeeded")
        reached = {"last_successful_sync_at": now, "last_error_code": ""}
        if run.started_at is not None:
            reached["synced_until"] = run.started_at
        if run.kind == SyncRun.Kind.FULL:
            reached["last_full_sync_at"] = now
        Connector.objects.filter(pk=run.connector_id).update(**reached)
    return SyncRun.Status.SUCCEEDED


def _fail(walk: _Walk, code: str, params: dict[str, object], status: ConnectorStatus | None) -> str:
    try:
        with walk.lease.guard() as run:
            _end(run, SyncRun.Status.FAILED, code, params)
            note(run.pk, "failed", ERROR, **{**params, "error_code": code})
            connector_status_set(
                connector=walk.connector,
                status=status or Connector.objects.values_list("status", flat=True).get(pk=run.connector_id),
                error_code=code,
                connector_server=run.connector_server,
                fence=walk.lease.fence,
                actor=ACTOR,
            )
    except (LeaseLostError, StaleFenceError):
        return ""
    return SyncRun.Status.FAILED


def _stopped(walk: _Walk) -> str:
    """The pool was told to stop: by a person, or because the lease went to someone else."""
    try:
        with walk.lease.guard() as run:
            run_canceled(run)
            run.save()
    except LeaseLostError:
        return ""
    return SyncRun.Status.CANCELED


def _end(run: SyncRun, status: str, code: str = "", params: dict[str, object] | None = None) -> None:
    run.status, run.error_code, run.error_params = status, code, params or {}
    run.finished_at = timezone.now()
    run.lease_expires_at = None
    if status == SyncRun.Status.SUCCEEDED:
        run.phase = SyncRun.Phase.FINISHED
    run.save(update_fields=["status", "phase", "error_code", "error_params", "finished_at", "lease_expires_at"])

"""How connectors stand, at a glance: what needs someone, and why. Asks the database for their runs only.

A connector that looks fine while its syncs do not run is the worst of states, so that a last success older than twice
the interval counts as a fault of its own.
"""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import dataclass

from django.utils import timezone
from django.utils.translation import gettext as _

from connectors.models import Connector, ConnectorStatus
from connectors.problems import problem
from sync.models import SyncRun
from sync.selectors import Progress, latest_runs, run_progress

STALE_AFTER_INTERVALS = 2
FAILED = (SyncRun.Status.FAILED, SyncRun.Status.INTERRUPTED)


@dataclass(frozen=True, slots=True)
class Standing:
    """One connector and what is to be said of it. run: its newest; progress: of that run while it is active."""

    connector: Connector
    run: SyncRun | None
    progress: Progress | None
    is_stale: bool
    has_failed: bool

    @property
    def needs_attention(self) -> bool:
        return self.is_stale or self.has_failed or self.connector.status == ConnectorStatus.DISCONNECTED

    @property
    def reason(self) -> str:
        """Why someone should look, in one line; "" when nobody need."""
        if self.connector.last_error_code and (
            self.has_failed or self.connector.status == ConnectorStatus.DISCONNECTED
        ):
            return problem(self.connector.last_error_code).title
        if self.has_failed and self.run is not None and self.run.error_code:
            return problem(self.run.error_code).title
        if self.is_stale:
            return _("No successful sync within twice the interval")
        return ""


def standings(connectors: Sequence[Connector], now: datetime.datetime | None = None) -> list[Standing]:
    """In the order given; two queries however many there are."""
    runs = latest_runs(connectors)
    moment = now or timezone.now()
    return [standing(connector, runs.get(connector.pk), moment) for connector in connectors]


def standing(connector: Connector, run: SyncRun | None, now: datetime.datetime) -> Standing:
    """No query. `run`: the connector's newest run."""
    return Standing(
        connector=connector,
        run=run,
        progress=run_progress(run, now) if run is not None and run.is_active else None,
        is_stale=is_stale(connector, now),
        has_failed=run is not None and _has_failed(connector, run),
    )


def _has_failed(connector: Connector, run: SyncRun) -> bool:
    """Whether the last sync did. Reading device statistics is none, and leaves on the connector what was wrong with
    the one before."""
    if run.kind == SyncRun.Kind.STATISTICS:
        return bool(connector.last_error_code)
    return run.status in FAILED


def is_stale(connector: Connector, now: datetime.datetime) -> bool:
    """Whether the last success (or, before the first one, the connector's making) is too long ago for its schedule.

    A connector whose schedule is switched off is never stale: nobody promised a sync.
    """
    if not connector.is_enabled:
        return False
    since = connector.last_successful_sync_at or connector.created_at
    return now - since > datetime.timedelta(minutes=STALE_AFTER_INTERVALS * connector.quick_sync_minutes)

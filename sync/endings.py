"""How a run's row ends, whoever ends it: the worker, a person, or recovery. Decides nothing about why."""

from __future__ import annotations

from collections.abc import Mapping

from django.db.models.functions import Now

from sync.events import ERROR, INFO, WARNING, note, storable
from sync.models import SyncRun


def run_end(run: SyncRun, status: SyncRun.Status, code: str = "", params: Mapping[str, object] | None = None) -> None:
    """Write the ending. To be called with the run locked (locks.py), in the transaction of what the ending implies.

    A failed run keeps its phase, which tells where it failed.
    """
    run.status = status
    if status != SyncRun.Status.FAILED:
        run.phase = SyncRun.Phase.FINISHED
    run.error_code, run.error_params = code, storable(dict(params or {}))
    run.lease_expires_at = None
    # By the database's clock, like the start: workers' clocks differ, and a duration must not.
    run.finished_at = Now()
    run.save(update_fields=["status", "phase", "error_code", "error_params", "lease_expires_at", "finished_at"])
    run.refresh_from_db(fields=["finished_at"])


def run_succeed(run: SyncRun) -> None:
    run_end(run, SyncRun.Status.SUCCEEDED)
    note(run.pk, "succeeded", INFO)


def run_fail(run: SyncRun, code: str, params: Mapping[str, object]) -> None:
    run_end(run, SyncRun.Status.FAILED, code, params)
    note(run.pk, "failed", ERROR, **{**params, "error_code": code})


def run_cancel_end(run: SyncRun) -> None:
    run_end(run, SyncRun.Status.CANCELED, "run_canceled", {"person": run.cancel_requested_by_name})
    note(run.pk, "canceled", WARNING)


def run_make_way(run: SyncRun) -> None:
    """Of a reading of statistics: it ends so that another run can begin, and what is left is read after that one."""
    run_end(run, SyncRun.Status.MADE_WAY)
    note(run.pk, "made_way", INFO)


def run_interrupt(run: SyncRun) -> None:
    run_end(run, SyncRun.Status.INTERRUPTED, "run_interrupted", {"attempts": run.attempt})
    note(run.pk, "interrupted", ERROR, attempts=run.attempt)

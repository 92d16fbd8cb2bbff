"""What a page that watches a run needs: how far it is, whether to ask again, and one sentence for screen readers.

`token` stands for everything on the page but the counts; while it stays the same, only the progress is sent.
"""

from __future__ import annotations

import datetime
from dataclasses import dataclass

from django.utils import timezone
from django.utils.translation import gettext as _

from connectors.models import Connector
from sync.models import SyncRun
from sync.selectors import Progress, run_progress

# A full sync asked for during a quick one is made by the worker a moment after that one has ended.
SUCCESSOR_WAIT = datetime.timedelta(seconds=20)
# Beyond this a queued run has no worker to take it, most likely.
QUEUED_TOO_LONG = datetime.timedelta(seconds=30)
ANNOUNCED_PERCENT = 25

PHASES = (
    SyncRun.Phase.WAITING,
    SyncRun.Phase.CONNECTING,
    SyncRun.Phase.ORGANIZATION,
    SyncRun.Phase.DEVICES,
    SyncRun.Phase.SWEEPING,
)


@dataclass(frozen=True, slots=True)
class Step:
    """A phase of the run. state: "done", "now" or "later"."""

    label: str
    state: str


@dataclass(frozen=True, slots=True)
class Watch:
    is_on: bool
    token: str
    announcement: str
    progress: Progress | None
    steps: tuple[Step, ...]
    waits_too_long: bool


def watch(connector: Connector, run: SyncRun | None, now: datetime.datetime | None = None) -> Watch:
    """`run`: the connector's newest, None when it never had one. No query."""
    if run is None:
        return Watch(False, f"-.{connector.status}", "", None, (), False)
    moment = now or timezone.now()
    progress = run_progress(run, moment)
    announcement = _announcement(run, progress)
    quarter = (progress.percent or 0) // ANNOUNCED_PERCENT if run.is_active else 0
    waits = run.status == SyncRun.Status.QUEUED and moment - run.queued_at > QUEUED_TOO_LONG
    parts = (run.public_id.hex[:12], run.status, run.phase, quarter, connector.status, int(waits))
    # Cancelling shows at once, and so does a full sync that was asked for meanwhile.
    marks = f"{'c' if run.cancel_requested_at else ''}{'f' if run.then_full else ''}"
    return Watch(
        is_on=run.is_active or _successor_expected(run, moment),
        token=".".join(str(part) for part in (*parts, marks)),
        announcement=announcement,
        progress=progress if run.is_active else None,
        steps=_steps(run) if run.is_active else (),
        waits_too_long=waits,
    )


def _successor_expected(run: SyncRun, now: datetime.datetime) -> bool:
    return bool(run.then_full) and run.finished_at is not None and now - run.finished_at < SUCCESSOR_WAIT


def _announcement(run: SyncRun, progress: Progress) -> str:
    words = {"kind": run.get_kind_display(), "status": run.get_status_display(), "phase": run.get_phase_display()}
    if not run.is_active:
        return _("%(kind)s: %(status)s.") % words
    if run.phase == SyncRun.Phase.DEVICES and progress.percent is not None:
        percent = progress.percent // ANNOUNCED_PERCENT * ANNOUNCED_PERCENT
        return _("%(kind)s: %(phase)s, %(percent)s percent.") % {**words, "percent": percent}
    return _("%(kind)s: %(phase)s.") % words


def _steps(run: SyncRun) -> tuple[Step, ...]:
    phases = [p for p in PHASES if p != SyncRun.Phase.SWEEPING or run.kind == SyncRun.Kind.FULL]
    present = phases.index(SyncRun.Phase(run.phase)) if run.phase in phases else len(phases)
    states = ["done" if i < present else "now" if i == present else "later" for i in range(len(phases))]
    return tuple(Step(str(p.label), s) for p, s in zip(phases, states, strict=True))

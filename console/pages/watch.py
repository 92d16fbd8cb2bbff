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
    SyncRun.Phase.RECORDS,
    SyncRun.Phase.MAILBOXES,
    SyncRun.Phase.DECIDING,
    SyncRun.Phase.ACTING,
)
# Phases that a kind of run has not.
_WITHOUT = {
    SyncRun.Kind.QUICK: {SyncRun.Phase.SWEEPING},
    SyncRun.Kind.APPLY: {SyncRun.Phase.DEVICES, SyncRun.Phase.SWEEPING},
}
# And all of one that shares only the first with the others.
_STATISTICS = (SyncRun.Phase.WAITING, SyncRun.Phase.CONNECTING, SyncRun.Phase.STATISTICS)
# Phases of which it is known how far they are.
_COUNTED = (SyncRun.Phase.DEVICES, SyncRun.Phase.STATISTICS)
# Phases of organizations that a policy, a source of records or an entry of ours concerns.
_OPTIONAL = {SyncRun.Phase.RECORDS, SyncRun.Phase.MAILBOXES, SyncRun.Phase.DECIDING, SyncRun.Phase.ACTING}


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
    acted_percent: int | None = None


def watch(connector: Connector, run: SyncRun | None, now: datetime.datetime | None = None) -> Watch:
    """`run`: the connector's newest, None when it never had one. No query."""
    if run is None:
        return Watch(False, f"-.{connector.status}", "", None, (), False)
    moment = now or timezone.now()
    progress = run_progress(run, moment)
    announcement = _announcement(run, progress)
    percent = _acted(run) if run.phase == SyncRun.Phase.ACTING else progress.percent or 0
    quarter = percent // ANNOUNCED_PERCENT if run.is_active else 0
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
        acted_percent=_acted(run) if run.phase == SyncRun.Phase.ACTING and run.commands_planned else None,
    )


def _successor_expected(run: SyncRun, now: datetime.datetime) -> bool:
    return bool(run.then_full) and run.finished_at is not None and now - run.finished_at < SUCCESSOR_WAIT


def _announcement(run: SyncRun, progress: Progress) -> str:
    words = {"kind": run.get_kind_display(), "status": run.get_status_display(), "phase": run.get_phase_display()}
    if not run.is_active:
        return _("%(kind)s: %(status)s.") % words
    if run.phase in _COUNTED and progress.percent is not None:
        percent = progress.percent // ANNOUNCED_PERCENT * ANNOUNCED_PERCENT
        return _("%(kind)s: %(phase)s, %(percent)s percent.") % {**words, "percent": percent}
    if run.phase == SyncRun.Phase.ACTING and run.commands_planned:
        percent = _acted(run) // ANNOUNCED_PERCENT * ANNOUNCED_PERCENT
        return _("%(kind)s: %(phase)s, %(percent)s percent.") % {**words, "percent": percent}
    return _("%(kind)s: %(phase)s.") % words


def _acted(run: SyncRun) -> int:
    """Of a hundred commands, how many have ended."""
    if not run.commands_planned:
        return 0
    return min(100, (run.commands_done + run.commands_failed) * 100 // run.commands_planned)


def _steps(run: SyncRun) -> tuple[Step, ...]:
    without = _WITHOUT.get(SyncRun.Kind(run.kind), set())
    whole = _STATISTICS if run.kind == SyncRun.Kind.STATISTICS else PHASES
    phases = [phase for phase in whole if phase not in without]
    present = phases.index(SyncRun.Phase(run.phase)) if run.phase in phases else len(phases)
    states = ["done" if i < present else "now" if i == present else "later" for i in range(len(phases))]
    # Whether they come is known once the first of them is there.
    is_governed = run.phase in _OPTIONAL
    steps = zip(phases, states, strict=True)
    return tuple(Step(str(p.label), s) for p, s in steps if p not in _OPTIONAL or is_governed)

"""What people and schedules ask of syncs: start one, cancel one. Each names its actor."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any, Literal

from django.contrib.auth import get_user_model
from django.db import transaction
from django.db.models.functions import Now

from connectors.actors import Actor
from connectors.models import Connector
from sync.dispatch import run_dispatch
from sync.endings import run_cancel_end
from sync.events import WARNING, note
from sync.locks import run_locked
from sync.models import SyncRun

logger = logging.getLogger(__name__)

Outcome = Literal["started", "joined", "queued_after"]


# A run in one of these has not yet looked at policy, approvals and records: what changed before it does is acted upon.
_BEFORE_DECIDING = frozenset(
    {
        SyncRun.Phase.WAITING,
        SyncRun.Phase.CONNECTING,
        SyncRun.Phase.ORGANIZATION,
        SyncRun.Phase.DEVICES,
        SyncRun.Phase.SWEEPING,
    }
)
# Which kinds of run do what another was asked for.
_COVERS = {
    SyncRun.Kind.FULL: frozenset({SyncRun.Kind.FULL, SyncRun.Kind.QUICK, SyncRun.Kind.APPLY}),
    SyncRun.Kind.QUICK: frozenset({SyncRun.Kind.QUICK}),
    SyncRun.Kind.APPLY: frozenset({SyncRun.Kind.APPLY}),
    SyncRun.Kind.STATISTICS: frozenset({SyncRun.Kind.STATISTICS}),
}
# What does not become a full sync where there was none yet: it would do more than was asked for.
_AS_ASKED = frozenset({SyncRun.Kind.FULL, SyncRun.Kind.STATISTICS})


@dataclass(frozen=True, slots=True)
class SyncRequest:
    """`started`: a new run. `joined`: the active run already does what was asked. `queued_after`: the active run does
    not (it is of another kind, a dry run, too far on, or about to be canceled), and what was asked for starts when it
    has ended."""

    run: SyncRun
    outcome: Outcome


@transaction.atomic
def sync_request(
    *, connector: Connector, kind: str, trigger: str, actor: Actor, is_dry_run: bool = False
) -> SyncRequest:
    """Ask for a run. Safe to repeat: at most one run a connector is queued or running.

    A quick sync of a connector that never had a full one runs as a full one, since it would miss most devices; and so
    does applying a policy, since there would be nothing to apply it to. A dry run reads and decides like another, and
    sends Exchange nothing that changes anything; it never stands for a run that does. A reading of statistics changes
    nothing in any case: there is no dry one. It makes way for whatever else is asked for while it goes on, and goes on
    after that.
    """
    is_dry_run = is_dry_run and kind != SyncRun.Kind.STATISTICS
    # The connector's row serialises requests and endings: the constraint behind it is never hit, and a promise is
    # never made on a run that has just ended.
    current = Connector.objects.select_for_update().get(pk=connector.pk)
    active = SyncRun.objects.filter(connector=current, status__in=SyncRun.ACTIVE).first()
    if active is not None:
        return _joined(active, SyncRun.Kind(kind), trigger, actor, is_dry_run)
    made_full = kind not in _AS_ASKED and current.last_full_sync_at is None
    run = SyncRun.objects.create(
        connector=current,
        kind=SyncRun.Kind.FULL if made_full else kind,
        trigger=trigger,
        requested_by_id=actor.user_id,
        requested_by_name=actor.name[:200],
        queued_at=Now(),
        is_dry_run=is_dry_run,
    )
    run.refresh_from_db(fields=["queued_at"])
    if is_dry_run:
        note(run.pk, "requested_dry", name=actor.name)
    else:
        note(run.pk, "requested", name=actor.name)
    if made_full:
        note(run.pk, "made_full")
    run_dispatch(run)
    return SyncRequest(run, "started")


def _joined(active: SyncRun, kind: SyncRun.Kind, trigger: str, actor: Actor, is_dry_run: bool) -> SyncRequest:
    if active.is_dry_run == is_dry_run and _does(active, kind):
        return SyncRequest(active, "joined")
    promises = _promises(active)
    if _promise_add(promises, kind, trigger, actor, is_dry_run):
        active.then_full = _promised(promises)
        active.save(update_fields=["then_full"])
        _follows_note(active, kind, actor.name, is_dry_run=is_dry_run)
    return SyncRequest(active, "queued_after")


def _follows_note(active: SyncRun, kind: SyncRun.Kind, name: str, *, is_dry_run: bool) -> None:
    if is_dry_run:
        note(active.pk, "dry_follows", name=name)
    elif kind == SyncRun.Kind.FULL:
        note(active.pk, "full_follows", name=name)
    elif kind == SyncRun.Kind.QUICK:
        note(active.pk, "quick_follows", name=name)
    elif kind == SyncRun.Kind.STATISTICS:
        note(active.pk, "statistics_follow", name=name)
    else:
        note(active.pk, "apply_follows", name=name)


def _does(active: SyncRun, kind: SyncRun.Kind) -> bool:
    """Whether an active run will have done what a run of that kind, asked for now, would do."""
    if kind not in _COVERS[SyncRun.Kind(active.kind)]:
        return False
    if kind == SyncRun.Kind.QUICK:
        return True
    is_early = active.status == SyncRun.Status.QUEUED or active.phase in _BEFORE_DECIDING
    return active.cancel_requested_at is None and (kind in _AS_ASKED or is_early)


# --- what starts when a run has ended ---------------------------------------------------------------------------------
# At most three promises, in this order: a run that acts, a dry run, a reading of statistics. Kept as one value, each of
# them below the one before.


def _promises(run: SyncRun) -> list[dict[str, Any]]:
    found, rest = [], run.then_full
    while rest:
        found.append({name: value for name, value in rest.items() if name != "then"})
        rest = rest.get("then")
    return found


def _promised(promises: list[dict[str, Any]]) -> dict[str, Any] | None:
    rest: dict[str, Any] | None = None
    for promise in reversed(promises):
        rest = {**promise, **({"then": rest} if rest else {})}
    return rest


def _promise_add(
    promises: list[dict[str, Any]], kind: SyncRun.Kind, trigger: str, actor: Actor, is_dry_run: bool
) -> bool:
    """False when such a run is promised already. One that does more takes the place of one that does less."""
    wanted: dict[str, Any] = {"trigger": trigger, "name": actor.name, "user_id": actor.user_id}
    if kind != SyncRun.Kind.FULL:
        wanted["kind"] = kind.value
    if is_dry_run:
        wanted["is_dry_run"] = True
    place = _place(kind, is_dry_run)
    for position, promise in enumerate(promises):
        if _place(_kind_of(promise), bool(promise.get("is_dry_run"))) != place:
            continue
        if kind in _COVERS[_kind_of(promise)]:
            return False
        if _kind_of(promise) not in _COVERS[kind]:
            # Neither does what the other would: a full one does both.
            wanted.pop("kind", None)
        promises[position] = wanted
        return True
    promises.append(wanted)
    promises.sort(key=lambda promise: _place(_kind_of(promise), bool(promise.get("is_dry_run"))))
    return True


def _place(kind: SyncRun.Kind, is_dry_run: bool) -> int:
    """Where a promise stands; of each place there is one."""
    if kind == SyncRun.Kind.STATISTICS:
        return 2
    return 1 if is_dry_run else 0


def statistics_are_promised(run: SyncRun) -> bool:
    """Whether device statistics are read after a run, without anybody asking again."""
    return any(_kind_of(promise) == SyncRun.Kind.STATISTICS for promise in _promises(run))


def rest_promise(run: SyncRun) -> None:
    """Have what a (locked) reading of statistics left read after whatever it makes way for; for whoever asked first."""
    promises = _promises(run)
    actor = Actor(name=run.requested_by_name, user_id=run.requested_by_id)
    _promise_add(promises, SyncRun.Kind.STATISTICS, run.trigger, actor, is_dry_run=False)
    run.then_full = _promised(promises)
    run.save(update_fields=["then_full"])


def _kind_of(promise: dict[str, Any]) -> SyncRun.Kind:
    return SyncRun.Kind(promise.get("kind", SyncRun.Kind.FULL))


def run_cancel(*, run: SyncRun, actor: Actor) -> bool:
    """Ask a run to end. A queued one ends now, a running one within seconds. False when it had ended already.

    What was promised after it is another request, and starts.
    """
    with transaction.atomic():
        current = run_locked(run.pk, status__in=SyncRun.ACTIVE)
        if current is None:
            return False
        if current.cancel_requested_at is None:
            current.cancel_requested_at = Now()
            current.cancel_requested_by_name = actor.name[:200]
            current.save(update_fields=["cancel_requested_at", "cancel_requested_by_name"])
            note(current.pk, "cancel_requested", WARNING, name=actor.name)
        if current.status == SyncRun.Status.QUEUED:
            run_cancel_end(current)
    successor_start(current)
    return True


@transaction.atomic
def successor_start(run: SyncRun) -> None:
    """Start what was promised after this run, once the run has ended; nothing else otherwise.

    The promise is taken off the run in the same transaction, so that it is kept once: whoever ended the run calls this,
    and recovery does for a process that died in between. What was promised besides waits behind the run that starts.
    """
    current = run_locked(run.pk)
    if current is None or current.is_active or not current.then_full:
        return
    wanted, *rest = _promises(current)
    current.then_full = None
    current.save(update_fields=["then_full"])
    request = sync_request(
        connector=current.connector,
        kind=_kind_of(wanted),
        trigger=str(wanted["trigger"]),
        actor=_still(wanted),
        is_dry_run=bool(wanted.get("is_dry_run")),
    )
    for promise in rest:
        _joined(
            request.run,
            _kind_of(promise),
            str(promise["trigger"]),
            _still(promise),
            bool(promise.get("is_dry_run")),
        )


def _still(promise: dict[str, Any]) -> Actor:
    """Whoever asked; an account that was deleted meanwhile leaves its name."""
    user_id = promise.get("user_id")
    if user_id is not None and not get_user_model().objects.filter(pk=user_id).exists():
        user_id = None
    return Actor(name=str(promise["name"]), user_id=user_id)

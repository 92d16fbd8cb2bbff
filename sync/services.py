"""What people and schedules ask of syncs: start one, cancel one. Each names its actor."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Literal

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


@dataclass(frozen=True, slots=True)
class SyncRequest:
    """`started`: a new run. `joined`: the active run already does what was asked. `queued_after`: the active run does
    not (it is a quick one, or about to be canceled), and the full sync starts when it has ended."""

    run: SyncRun
    outcome: Outcome


@transaction.atomic
def sync_request(*, connector: Connector, kind: str, trigger: str, actor: Actor) -> SyncRequest:
    """Ask for a quick or full sync. Safe to repeat: at most one run a connector is queued or running.

    A quick sync of a connector that never had a full one runs as a full one, since it would miss most devices.
    """
    # The connector's row serialises requests and endings: the constraint behind it is never hit, and a promise is
    # never made on a run that has just ended.
    current = Connector.objects.select_for_update().get(pk=connector.pk)
    active = SyncRun.objects.filter(connector=current, status__in=SyncRun.ACTIVE).first()
    if active is not None:
        return _joined(active, kind, trigger, actor)
    made_full = kind == SyncRun.Kind.QUICK and current.last_full_sync_at is None
    run = SyncRun.objects.create(
        connector=current,
        kind=SyncRun.Kind.FULL if made_full else kind,
        trigger=trigger,
        requested_by_id=actor.user_id,
        requested_by_name=actor.name[:200],
        queued_at=Now(),
    )
    run.refresh_from_db(fields=["queued_at"])
    note(run.pk, "requested", name=actor.name)
    if made_full:
        note(run.pk, "made_full")
    run_dispatch(run)
    return SyncRequest(run, "started")


def _joined(active: SyncRun, kind: str, trigger: str, actor: Actor) -> SyncRequest:
    is_covered = active.kind == SyncRun.Kind.FULL and active.cancel_requested_at is None
    if kind == SyncRun.Kind.QUICK or is_covered:
        return SyncRequest(active, "joined")
    if active.then_full is None:
        active.then_full = {"trigger": trigger, "name": actor.name, "user_id": actor.user_id}
        active.save(update_fields=["then_full"])
        note(active.pk, "full_follows", name=actor.name)
    return SyncRequest(active, "queued_after")


def run_cancel(*, run: SyncRun, actor: Actor) -> bool:
    """Ask a run to end. A queued one ends now, a running one within seconds. False when it had ended already.

    A full sync that was promised after it is another request, and starts.
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
    """Start the full sync that was promised after this run, once the run has ended; nothing else otherwise.

    The promise is taken off the run in the same transaction, so that it is kept once: whoever ended the run calls this,
    and recovery does for a process that died in between.
    """
    current = run_locked(run.pk)
    if current is None or current.is_active or not current.then_full:
        return
    wanted = current.then_full
    current.then_full = None
    current.save(update_fields=["then_full"])
    user_id = wanted.get("user_id")
    if user_id is not None and not get_user_model().objects.filter(pk=user_id).exists():
        user_id = None  # deleted meanwhile; the name stays
    actor = Actor(name=str(wanted["name"]), user_id=user_id)
    sync_request(connector=current.connector, kind=SyncRun.Kind.FULL, trigger=str(wanted["trigger"]), actor=actor)

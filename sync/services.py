"""What people and schedules ask of syncs: start one, cancel one. Each names its actor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from django.db import transaction
from django.utils import timezone

from connectors.actors import Actor
from connectors.models import Connector
from sync.dispatch import run_dispatch
from sync.events import WARNING, note
from sync.models import SyncRun

Outcome = Literal["started", "joined", "queued_after"]


@dataclass(frozen=True, slots=True)
class SyncRequest:
    """`started`: a new run. `joined`: the active run already does what was asked. `queued_after`: a quick sync is
    under way and the full one starts when it has ended."""

    run: SyncRun
    outcome: Outcome


@transaction.atomic
def sync_request(*, connector: Connector, kind: str, trigger: str, actor: Actor) -> SyncRequest:
    """Ask for a quick or full sync. Safe to repeat: at most one run a connector is queued or running.

    A quick sync of a connector that never had a full one runs as a full one, since it would miss most devices.
    """
    # The connector's row serialises requests, so that the constraint behind it is never hit.
    current = Connector.objects.select_for_update().get(pk=connector.pk)
    active = SyncRun.objects.filter(connector=current, status__in=SyncRun.ACTIVE).first()
    if active is not None:
        if active.kind == SyncRun.Kind.FULL or kind == SyncRun.Kind.QUICK:
            return SyncRequest(active, "joined")
        if active.then_full is None:
            active.then_full = {"trigger": trigger, "name": actor.name, "user_id": actor.user_id}
            active.save(update_fields=["then_full"])
            note(active.pk, "full_follows", name=actor.name)
        return SyncRequest(active, "queued_after")
    made_full = kind == SyncRun.Kind.QUICK and current.last_full_sync_at is None
    run = SyncRun.objects.create(
        connector=current,
        kind=SyncRun.Kind.FULL if made_full else kind,
        trigger=trigger,
        requested_by_id=actor.user_id,
        requested_by_name=actor.name[:200],
        queued_at=timezone.now(),
    )
    note(run.pk, "requested", name=actor.name)
    if made_full:
        note(run.pk, "made_full")
    run_dispatch(run)
    return SyncRequest(run, "started")


@transaction.atomic
def run_cancel(*, run: SyncRun, actor: Actor) -> bool:
    """Ask a run to end. A queued one ends now, a running one within seconds. False when it had ended already."""
    current = SyncRun.objects.select_for_update().get(pk=run.pk)
    if not current.is_active:
        return False
    if current.cancel_requested_at is None:
        current.cancel_requested_at = timezone.now()
        current.cancel_requested_by_name = actor.name[:200]
        note(current.pk, "cancel_requested", WARNING, name=actor.name)
    if current.status == SyncRun.Status.QUEUED:
        run_canceled(current)
    current.save()
    return True


def run_canceled(run: SyncRun) -> None:
    """Set a run's fields to canceled, unsaved."""
    run.status = SyncRun.Status.CANCELED
    run.phase = SyncRun.Phase.FINISHED
    run.finished_at = timezone.now()
    run.lease_expires_at = None
    run.error_code = "run_canceled"
    run.error_params = {"person": run.cancel_requested_by_name}
    note(run.pk, "canceled", WARNING)


def successor_start(run: SyncRun) -> None:
    """Start the full sync that was asked for while this quick one ran, if any."""
    wanted = run.then_full
    if wanted and not run.is_active:
        actor = Actor(name=str(wanted["name"]), user_id=wanted["user_id"])
        sync_request(connector=run.connector, kind=SyncRun.Kind.FULL, trigger=str(wanted["trigger"]), actor=actor)

"""Denials that wait for a person, and what became of them.

Sends nothing, and judges nothing (judging.py). An approval, and a rejection, holds for the verdict that was shown.

Whoever locks an approval has locked the connector first (locks.py), as each lease's guard() does.
"""

from __future__ import annotations

import datetime
import logging
from collections.abc import Collection, Iterable, Mapping

from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models.functions import Now
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from connectors.actors import Actor
from connectors.models import Connector
from sync.acting.deeds import deed_of_plan
from sync.blocks import blocks
from sync.enforcing.judging import Judged, Word, limit_columns
from sync.enforcing.loading import Loaded
from sync.events import storable
from sync.models import Approval, DeviceEvent, HeldDenial, SyncRun
from sync.services import SyncRequest, sync_request

logger = logging.getLogger(__name__)

# How long "raise for this time" waits for its run.
RAISED = datetime.timedelta(hours=24)


# --- holding --------------------------------------------------------------------------------------------------------


def hold(frame: Loaded, judged: Judged, *, run: SyncRun | None) -> Approval | None:
    """Keep what is held, in the one waiting approval of the organization; None when nothing waits (any more).

    frame: any part of the organization that was judged. Where only some mailboxes were looked at, what waits of the
    others goes on waiting. To be called under the run's or the lane's guard().
    """
    current = (
        Approval.objects.select_for_update()
        .filter(organization=frame.organization, state=Approval.State.WAITING)
        .first()
    )
    known = {} if current is None else {row.device_id: row for row in current.denials.all()}
    wanted = _wanted(judged, known)
    texts = [deed_of_plan(command).text() for command in judged.settings_held]
    settings_held = storable(texts) if judged.is_whole and judged.held else []
    if not wanted and not (current and not judged.is_whole and current.settings_held):
        if current is not None:
            Approval.objects.filter(pk=current.pk).update(state=Approval.State.SUPERSEDED, renewed_at=Now())
        return None
    if current is None:
        current = _opened(frame, judged, run, settings_held)
    else:
        _renew(current, frame, judged, run, settings_held)
    _denials_write(current, known, wanted, judged.words, frame.world.now, run)
    return current


def _wanted(judged: Judged, known: Collection[int]) -> set[int]:
    """The devices that are to wait from now on."""
    if judged.is_whole:
        return set(judged.held)
    return {device for device in known if device not in judged.waited or device in judged.denied_later} | judged.held


def _opened(frame: Loaded, judged: Judged, run: SyncRun | None, settings_held: list[str]) -> Approval:
    return Approval.objects.create(
        organization=frame.organization,
        run=run,
        made_at=Now(),
        renewed_at=Now(),
        devices_total=frame.total_devices,
        **limit_columns(judged.limits),
        settings_held=settings_held,
    )


def _renew(current: Approval, frame: Loaded, judged: Judged, run: SyncRun | None, settings_held: list[str]) -> None:
    current.renewed_at = Now()
    current.devices_total = frame.total_devices
    if run is not None:
        current.run = run
    if judged.is_whole:
        current.settings_held = settings_held
        for name, value in limit_columns(frame.tenant.limits()).items():
            setattr(current, name, value)
        # Raised for one run, which was this one.
        current.raised_to = current.raised_until = None
    current.save()


def _denials_write(
    approval: Approval,
    known: Mapping[int, HeldDenial],
    wanted: set[int],
    words: Mapping[int, Word],
    now: datetime.datetime,
    run: SyncRun | None,
) -> None:
    for part in blocks(known.keys() - wanted):
        HeldDenial.objects.filter(approval=approval, device__in=part).delete()
    fresh = sorted(wanted - known.keys())
    HeldDenial.objects.bulk_create(
        (HeldDenial(approval=approval, device_id=device, **_named(words[device])) for device in fresh), batch_size=500
    )
    changed = []
    for device in wanted & known.keys():
        row, word = known[device], words.get(device)
        if word is not None and (row.access, row.reason, row.rule) != word:
            row.access, row.reason, row.rule = word
            changed.append(row)
    HeldDenial.objects.bulk_update(changed, ["access", "reason", "rule"], batch_size=500)
    _tell("held", fresh, now, actor_name="Sync", run=run, params={"approval": str(approval.public_id)})


def _named(word: Word) -> dict[str, str]:
    return dict(zip(("access", "reason", "rule"), word, strict=True))


def _tell(
    code: str,
    devices: Iterable[int],
    now: datetime.datetime,
    *,
    actor_name: str,
    run: SyncRun | None = None,
    params: Mapping[str, object] | None = None,
) -> None:
    DeviceEvent.objects.bulk_create(
        (
            DeviceEvent(
                device_id=device, at=now, code=code, params=storable(dict(params or {})), actor_name=actor_name, run=run
            )
            for device in devices
        ),
        batch_size=500,
    )


# --- what people decide -----------------------------------------------------------------------------------------------


@transaction.atomic
def approval_approve(
    *, approval: Approval, actor: Actor, note: str = "", leave_out: Collection[int] = ()
) -> SyncRequest | None:
    """Let the denials go, and have a run do it. leave_out: keys of devices whose denial counts as rejected instead.

    None when the organization has no connector to do it. Raises ValidationError when it does not wait any more.
    """
    current = _locked(approval)
    devices = set(current.denials.values_list("device_id", flat=True))
    left = devices & set(leave_out)
    current.denials.update(is_approved=True)
    for part in blocks(left):
        current.denials.filter(device__in=part).update(is_approved=False)
    _decide(current, Approval.State.APPROVED, actor, note)
    _tell_decision("approved", devices - left, current, actor)
    _tell_decision("rejected", left, current, actor)
    return _apply(current, actor)


@transaction.atomic
def approval_reject(*, approval: Approval, actor: Actor, note: str = "") -> None:
    """Nobody of these is denied until another verdict is reached for them. Raises ValidationError as above."""
    current = _locked(approval)
    devices = list(current.denials.values_list("device_id", flat=True))
    current.denials.update(is_approved=False)
    _decide(current, Approval.State.REJECTED, actor, note)
    _tell_decision("rejected", devices, current, actor)


@transaction.atomic
def approval_raise(*, approval: Approval, actor: Actor, to: int, note: str = "") -> SyncRequest | None:
    """Raise the limit to so many devices for the next run alone, which is asked for; over after RAISED. Raises
    ValidationError keyed "to" for a number that is not above the limit in force, and as above."""
    current = _locked(approval)
    if to <= current.limit_devices:
        raise ValidationError(
            {
                "to": ValidationError(
                    _("Enter more than the limit in force, which is %(limit)s."),
                    code="not_raised",
                    params={"limit": current.limit_devices},
                )
            }
        )
    current.raised_to = to
    current.raised_until = timezone.now() + RAISED
    current.note = str(storable(note))
    current.decided_by_name = actor.name[:200]
    current.decided_by_id = actor.user_id
    current.save(update_fields=["raised_to", "raised_until", "note", "decided_by_name", "decided_by"])
    logger.info("approval %s: limit raised to %d by %s", current.public_id, to, actor.name)
    return _apply(current, actor)


def _locked(approval: Approval) -> Approval:
    Connector.objects.select_for_update().filter(organization=approval.organization_id).first()
    current = Approval.objects.select_for_update().get(pk=approval.pk)
    if current.state != Approval.State.WAITING:
        raise ValidationError(
            _("This has been decided or is no longer needed: %(state)s."),
            code="not_waiting",
            params={"state": current.get_state_display()},
        )
    return current


def _decide(current: Approval, state: Approval.State, actor: Actor, note: str) -> None:
    current.state = state
    current.decided_at = timezone.now()
    current.decided_by_name = actor.name[:200]
    current.decided_by_id = actor.user_id
    current.note = str(storable(note))
    current.save(update_fields=["state", "decided_at", "decided_by_name", "decided_by", "note"])
    logger.info("approval %s: %s by %s", current.public_id, state, actor.name)


def _tell_decision(code: str, devices: Iterable[int], current: Approval, actor: Actor) -> None:
    params = {"approval": str(current.public_id), "note": current.note}
    _tell(code, sorted(devices), timezone.now(), actor_name=actor.name[:200], params=params)


def _apply(current: Approval, actor: Actor) -> SyncRequest | None:
    connector = Connector.objects.filter(organization=current.organization_id).first()
    if connector is None:
        return None
    return sync_request(connector=connector, kind=SyncRun.Kind.APPLY, trigger=SyncRun.Trigger.APPROVAL, actor=actor)

"""Denials that wait for a person: what a run may do at once, what is held, and what became of it.

Sends nothing. `judge` is the one way from a plan to what may be done about it now; runs and the checks of single
mailboxes both go through it. An approval, and a rejection, holds for the verdict that was shown: when another verdict
is reached in between, it says nothing any more.

Whoever locks an approval has locked the connector first (locks.py), as each lease's guard() does.
"""

from __future__ import annotations

import datetime
import logging
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import Sum
from django.db.models.functions import Now
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from connectors.actors import Actor
from connectors.models import Connector
from sync.blocks import blocks
from sync.commands import Command as Planned
from sync.commands import SetMailboxEntries, SettingsCommand
from sync.deeds import deed_of_plan
from sync.events import storable
from sync.facts import Key, Partnership
from sync.guard import Guarded, Limits, guard
from sync.loading import Loaded
from sync.models import Approval, Command, DeviceAccess, DeviceEvent, HeldDenial, SyncRun
from sync.plan import Plan
from sync.services import SyncRequest, sync_request
from sync.verdicts import Verdict

logger = logging.getLogger(__name__)

# Denials of so long count together: many small runs are not let through where one big one is not.
RECENT = datetime.timedelta(hours=1)
# How long "raise for this time" waits for its run.
RAISED = datetime.timedelta(hours=24)

Word: TypeAlias = tuple[str, str, str]  # access, reason, rule: what an approval holds for


@dataclass(frozen=True, slots=True)
class Judged:
    """go: what may be done now, in order. may_deny: who may lose mail by it. held: whose denial waits for a person.

    withheld: why nobody may be kept out at all just now (codes), with the number of those concerned in `doubted`.
    """

    go: tuple[Planned, ...]
    may_deny: frozenset[Partnership]
    guarded: Guarded
    held: frozenset[int] = frozenset()
    withheld: tuple[str, ...] = ()
    doubted: int = 0

    @property
    def settings(self) -> tuple[SettingsCommand, ...]:
        """The settings and rules among what may be done."""
        return tuple(command for command in self.go if not isinstance(command, SetMailboxEntries))


def recently_denied(organization_id: int) -> int:
    """How many devices newly lost mail in the last hour. What a person approved is not among them."""
    rows = Command.objects.filter(
        organization_id=organization_id,
        planned_at__gte=Now() - RECENT,
        state__in=(*Command.OPEN, Command.State.DONE),
    ).exclude(run__trigger=SyncRun.Trigger.APPROVAL)
    return rows.aggregate(total=Sum("denies"))["total"] or 0


def judge(
    loaded: Loaded,
    verdicts: Mapping[Key, Verdict],
    plan: Plan,
    *,
    distrust: Sequence[str] = (),
    hold_also: Collection[int] = (),
) -> Judged:
    """What of a plan may be done now. distrust: further reasons why nobody may newly be kept out (codes). hold_also:
    keys of devices that are held already.

    Where only some mailboxes were loaded, a denial that waits for approval goes on waiting. A whole organization is
    judged anew: what waits there is counted among what it would deny, and goes if it is few by now.
    """
    words = _words(verdicts)
    partnerships = {device.key: device.partnership for device in loaded.world.devices}
    answers = _answers(loaded, words)
    waiting = _waiting(loaded.organization.pk)
    withheld = (*loaded.doubts, *distrust)

    def of(devices: Iterable[int]) -> frozenset[Partnership]:
        return frozenset(partnerships[key] for key in devices if key in partnerships)

    approved = {key for key, is_approved in answers.items() if is_approved}
    barred = {key for key, is_approved in answers.items() if not is_approved}
    held_before = frozenset() if loaded.is_whole else waiting - approved
    limits = _limits(loaded)
    guarded = guard(
        loaded.world,
        plan,
        total_devices=loaded.total_devices,
        limits=limits,
        recently_denied=recently_denied(loaded.organization.pk),
        approved=of(approved),
        barred=frozenset(partnerships.values()) if withheld else of(barred | held_before | set(hold_also)),
    )
    denied = {key for command in guarded.go for key in command.denies}
    held = frozenset(int(denial.device) for denial in guarded.denials) if guarded.is_over else frozenset()
    return Judged(
        go=guarded.go,
        may_deny=frozenset(partnerships[key] for key in denied),
        guarded=guarded,
        held=held,
        withheld=withheld,
        doubted=len({key for command in guarded.held for key in command.denies}) if withheld else 0,
    )


def _limits(loaded: Loaded) -> Limits:
    if loaded.is_whole:
        raised = Approval.objects.filter(
            organization=loaded.organization,
            state=Approval.State.WAITING,
            raised_to__isnull=False,
            raised_until__gt=Now(),
        ).first()
        if raised is not None and raised.raised_to is not None:
            return Limits(raised.raised_to, 0.0)
    return Limits(loaded.tenant.guard_devices, loaded.tenant.guard_percent)


def _words(verdicts: Mapping[Key, Verdict]) -> dict[Key, Word]:
    return {key: (str(verdict.access), str(verdict.reason), str(verdict.row)) for key, verdict in verdicts.items()}


def _waiting(organization_id: int) -> frozenset[int]:
    rows = HeldDenial.objects.filter(approval__organization_id=organization_id, approval__state=Approval.State.WAITING)
    return frozenset(rows.values_list("device_id", flat=True))


def _answers(loaded: Loaded, words: Mapping[Key, Word]) -> dict[int, bool]:
    """What people said of devices whose verdict is still the one that they were shown: approved, or not."""
    rows = HeldDenial.objects.filter(
        approval__organization=loaded.organization,
        approval__state__in=(Approval.State.APPROVED, Approval.State.REJECTED),
        is_approved__isnull=False,
    ).order_by("approval__decided_at")
    found: dict[int, tuple[bool, datetime.datetime]] = {}
    for device, access, reason, rule, is_approved, decided_at in rows.values_list(
        "device_id", "access", "reason", "rule", "is_approved", "approval__decided_at"
    ).iterator(chunk_size=2000):
        if decided_at is not None and words.get(device) == (access, reason, rule):
            found[device] = (bool(is_approved), decided_at)
    since: dict[int, datetime.datetime] = {}
    for part in blocks(found):
        since.update(DeviceAccess.objects.filter(pk__in=part).values_list("pk", "decided_at"))
    return {
        device: is_approved
        for device, (is_approved, decided_at) in found.items()
        # Decided anew since, and come to the same again: it is another time, and another question.
        if device not in since or since[device] <= decided_at
    }


# --- holding --------------------------------------------------------------------------------------------------------


def hold(loaded: Loaded, verdicts: Mapping[Key, Verdict], judged: Judged, *, run: SyncRun | None) -> Approval | None:
    """Keep what is held, in the one waiting approval of the organization; None when nothing waits (any more).

    Where only some mailboxes were loaded, what waits of the others goes on waiting. To be called under the run's or the
    lane's guard().
    """
    current = (
        Approval.objects.select_for_update()
        .filter(organization=loaded.organization, state=Approval.State.WAITING)
        .first()
    )
    known = {} if current is None else {row.device_id: row for row in current.denials.all()}
    wanted = _wanted(loaded, judged, known)
    texts = [deed_of_plan(command).text() for command in judged.guarded.held if not _is_of_mailbox(command)]
    settings_held = storable(texts) if loaded.is_whole and judged.held else []
    if not wanted and not (current and not loaded.is_whole and current.settings_held):
        if current is not None:
            Approval.objects.filter(pk=current.pk).update(state=Approval.State.SUPERSEDED, renewed_at=Now())
        return None
    if current is None:
        current = _opened(loaded, judged, run, settings_held)
    else:
        _renew(current, loaded, judged, run, settings_held)
    _denials_write(current, known, wanted, _words(verdicts), loaded.world.now, run)
    return current


def _is_of_mailbox(command: Planned) -> bool:
    return isinstance(command, SetMailboxEntries)


def _wanted(loaded: Loaded, judged: Judged, known: Collection[int]) -> set[int]:
    """The devices that are to wait from now on."""
    if loaded.is_whole:
        return set(judged.held)
    scope = {int(device.key) for device in loaded.world.devices}
    still = {int(key) for command in judged.guarded.held for key in command.denies}
    return {device for device in known if device not in scope or device in still} | set(judged.held)


def _opened(loaded: Loaded, judged: Judged, run: SyncRun | None, settings_held: list[str]) -> Approval:
    limits = judged.guarded.limits
    return Approval.objects.create(
        organization=loaded.organization,
        run=run,
        made_at=Now(),
        renewed_at=Now(),
        devices_total=loaded.total_devices,
        limit_devices=limits.devices,
        limit_percent=limits.percent,
        settings_held=settings_held,
    )


def _renew(current: Approval, loaded: Loaded, judged: Judged, run: SyncRun | None, settings_held: list[str]) -> None:
    current.renewed_at = Now()
    current.devices_total = loaded.total_devices
    if run is not None:
        current.run = run
    if loaded.is_whole:
        current.settings_held = settings_held
        current.limit_devices = loaded.tenant.guard_devices
        current.limit_percent = loaded.tenant.guard_percent
        # Raised for one run, which was this one.
        current.raised_to = current.raised_until = None
    current.save()


def _denials_write(
    approval: Approval,
    known: Mapping[int, HeldDenial],
    wanted: set[int],
    words: Mapping[Key, Word],
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

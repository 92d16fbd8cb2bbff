"""What administrators decide about single phones: allow or block them, take that back, link a record, judge an entry
that somebody else made, have them looked at again. One phone or many at once.

Sends nothing: each act is a row, a line in the phone's story, and a mark that its mailbox is to be looked at now
(checks.py). What comes of it is decided there, as always.
"""

from __future__ import annotations

import datetime
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from connectors.actors import Actor
from sync.acting.checks import check_request
from sync.enforcing.drifts import drift_end
from sync.events import storable
from sync.models import (
    AccessOverride,
    DeviceAccess,
    DeviceEvent,
    DeviceLink,
    Drift,
    EntryChoice,
    Mailbox,
    ManagedDevice,
    MobileDevice,
    Presence,
)

REASON_LENGTH = 1000
# More at once is a policy, and belongs there.
BULK_LIMIT = 500
# Longer than any project; what is meant to last for ever has no end.
LONGEST = datetime.timedelta(days=5 * 366)


@dataclass(frozen=True, slots=True)
class Left:
    """A device that a bulk act leaves as it is. because, a code: noMailbox, gone, notActiveSync, same, none."""

    device: MobileDevice
    because: str


@dataclass(frozen=True, slots=True)
class Done:
    """What a bulk act did, or (a preview) would do."""

    devices: tuple[MobileDevice, ...]
    left: tuple[Left, ...]


def override_set(
    *,
    devices: Sequence[MobileDevice],
    level: str,
    reason: str,
    expires_at: datetime.datetime | None,
    actor: Actor,
) -> Done:
    """Allow or block these phones whatever the policy says, until it expires or is taken back. An override in force is
    replaced. Raises ValidationError (level, reason, expires_at, devices)."""
    _clean(devices, level, reason, expires_at)
    reason = storable(reason.strip())
    with transaction.atomic():
        _lock(devices)
        done = overrides_preview(devices, level=level, reason=reason, expires_at=expires_at)
        now = timezone.now()
        _in_force(done.devices).update(ended_at=now, ended_by_name=actor.name[:200])
        # Devices of one mailbox that share their id share the override too.
        chosen = {(device.owner_id or 0, device.device_id_key): device for device in done.devices}
        AccessOverride.objects.bulk_create(
            [
                AccessOverride(
                    organization_id=device.organization_id,
                    mailbox_id=mailbox,
                    device_id=device.device_id,
                    device_id_key=key,
                    level=level,
                    reason=reason,
                    expires_at=expires_at,
                    made_at=now,
                    made_by_name=actor.name[:200],
                    made_by_id=actor.user_id,
                )
                for (mailbox, key), device in chosen.items()
            ]
        )
        until = expires_at.isoformat() if expires_at else ""
        _tell(done.devices, "overrideSet", {"level": level, "reason": reason, "until": until}, actor, now)
        _look(done.devices, "override")
    return done


def overrides_preview(
    devices: Sequence[MobileDevice], *, level: str, reason: str = "", expires_at: datetime.datetime | None = None
) -> Done:
    """For which of these an override would be made, and for which not, and why. Reads only."""
    held = {
        (one.mailbox_id, one.device_id_key): one
        for one in _in_force([device for device in devices if device.owner_id is not None])
    }
    chosen: list[MobileDevice] = []
    left: list[Left] = []
    foreign = set(
        DeviceAccess.objects.filter(device__in=[d.pk for d in devices], rule="notActiveSync").values_list(
            "device_id", flat=True
        )
    )
    for device in devices:
        because = _unfit(device, foreign)
        if because:
            left.append(Left(device, because))
            continue
        one = held.get((device.owner_id or 0, device.device_id_key))
        if one and (one.level, one.reason, one.expires_at) == (level, reason.strip(), expires_at):
            left.append(Left(device, "same"))
        else:
            chosen.append(device)
    return Done(tuple(chosen), tuple(left))


def overrides_clear_preview(devices: Sequence[MobileDevice]) -> Done:
    """Whose override would end, and who has none. Reads only."""
    owned = [device for device in devices if device.owner_id is not None]
    held = {_key(one) for one in _in_force(owned)}
    chosen = tuple(device for device in owned if (device.owner_id, device.device_id_key) in held)
    kept = {device.pk for device in chosen}
    return Done(chosen, tuple(Left(device, "none") for device in devices if device.pk not in kept))


def override_clear(*, devices: Sequence[MobileDevice], actor: Actor) -> Done:
    """The policy decides about these phones again. Safe to repeat."""
    with transaction.atomic():
        _lock(devices)
        done = overrides_clear_preview(devices)
        now = timezone.now()
        _in_force(done.devices).update(ended_at=now, ended_by_name=actor.name[:200])
        _tell(done.devices, "overrideEnded", {"because": "cleared"}, actor, now)
        _look(done.devices, "override")
    return done


def overrides_end(*, overrides: Collection[AccessOverride], actor: Actor) -> int:
    """The same by the overrides' own rows, for those whose phone has gone from Exchange. Returns how many ended."""
    with transaction.atomic():
        rows = AccessOverride.objects.filter(pk__in=[one.pk for one in overrides], ended_at=None)
        found = list(rows.values_list("pk", "mailbox_id", "device_id_key"))
        now = timezone.now()
        AccessOverride.objects.filter(pk__in=[pk for pk, _, _ in found], ended_at=None).update(
            ended_at=now, ended_by_name=actor.name[:200]
        )
        wanted = {(mailbox, key) for _, mailbox, key in found}
        devices = [
            device
            for device in MobileDevice.objects.filter(owner__in={mailbox for mailbox, _ in wanted})
            if (device.owner_id, device.device_id_key) in wanted
        ]
        _tell(devices, "overrideEnded", {"because": "cleared"}, actor, now)
        check_request({mailbox for mailbox, _ in wanted}, because="override")
    return len(found)


def link_set(*, device: MobileDevice, record: ManagedDevice, kind: str, actor: Actor) -> DeviceLink:
    """Say that a phone and a record are one device ("link"), or are not ("unlink"); a newer word replaces an older one.
    Linking to another record lets go of the one before. Raises ValidationError."""
    owner = _owned(device)
    if record.tenant_id != device.organization.tenant_id:
        raise ValidationError(_("The record belongs to another tenant. Choose one of this tenant's records."))
    if record.presence == Presence.GONE:
        raise ValidationError(
            _(
                "The record is gone from the device-management system. Choose one that exists, or wait for the next "
                "sync."
            )
        )
    if kind not in DeviceLink.Kind.values:
        raise ValidationError(_("A record is linked or unlinked."))
    with transaction.atomic():
        words = DeviceLink.objects.filter(mailbox=owner, device_id_key=device.device_id_key)
        if kind == DeviceLink.Kind.LINK:
            words.filter(kind=DeviceLink.Kind.LINK).exclude(managed_device=record).delete()
        link, _made = DeviceLink.objects.update_or_create(
            mailbox=owner,
            device_id_key=device.device_id_key,
            managed_device=record,
            defaults={
                "kind": kind,
                "made_at": timezone.now(),
                "made_by_name": actor.name[:200],
                "made_by_id": actor.user_id,
            },
        )
        code = "linked" if kind == DeviceLink.Kind.LINK else "unlinked"
        _tell([device], code, {"record": str(record), "id": str(record.public_id)}, actor, link.made_at)
        _look([device], "linked")
    return link


def link_clear(*, device: MobileDevice, record: ManagedDevice, actor: Actor) -> bool:
    """Take a word about the two back: the matching rules decide again. False when there was none."""
    owner = _owned(device)
    with transaction.atomic():
        gone, _rows = DeviceLink.objects.filter(
            mailbox=owner, device_id_key=device.device_id_key, managed_device=record
        ).delete()
        if gone:
            _tell([device], "linkCleared", {"record": str(record)}, actor, timezone.now())
            _look([device], "linked")
    return bool(gone)


def entry_choose(*, drift: Drift, choice: str, reason: str, actor: Actor) -> EntryChoice:
    """Adopt a personal entry that somebody else made, or have the policy override it. Raises ValidationError when the
    drift is over, or is about no entry."""
    listed = {Drift.Kind.FOREIGN_ALLOW: "allowed", Drift.Kind.FOREIGN_BLOCK: "blocked"}.get(Drift.Kind(drift.kind))
    if listed is None or drift.mailbox_id is None:
        raise ValidationError(_("Only a personal entry of a mailbox can be adopted or overridden."))
    if choice not in EntryChoice.Choice.values:
        raise ValidationError(_("An entry is adopted or overridden."))
    if not reason.strip():
        raise ValidationError({"reason": _("Say why, for those who come after you.")})
    with transaction.atomic():
        if not Drift.objects.select_for_update().filter(pk=drift.pk, ended_at=None).exists():
            raise ValidationError(_("This has been settled in the meantime; nothing was changed. Reload the page."))
        now = timezone.now()
        made, _new = EntryChoice.objects.update_or_create(
            mailbox_id=drift.mailbox_id,
            listed=listed,
            device_id_key=drift.device_id_key,
            defaults={
                "choice": choice,
                "reason": storable(reason.strip()),
                "made_at": now,
                "made_by_name": actor.name[:200],
                "made_by_id": actor.user_id,
            },
        )
        drift_end(
            organization_id=drift.organization_id,
            because="adopted" if choice == EntryChoice.Choice.ADOPT else "overridden",
            actor_name=actor.name,
            kinds=(drift.kind,),
            mailbox_id=drift.mailbox_id,
            device_id_key=drift.device_id_key,
        )
        devices = MobileDevice.objects.filter(owner=drift.mailbox_id, device_id_key=drift.device_id_key)
        _tell(list(devices), "entryChosen", {"choice": choice, "listed": listed, "reason": made.reason}, actor, now)
        check_request([drift.mailbox_id], because="entryChosen")
    return made


def entry_choice_clear(*, choice: EntryChoice, actor: Actor) -> None:
    """Take a choice about an entry back; it is drift again where it still stands."""
    with transaction.atomic():
        mailbox_id, key, listed = choice.mailbox_id, choice.device_id_key, choice.listed
        choice.delete()
        devices = MobileDevice.objects.filter(owner=mailbox_id, device_id_key=key)
        _tell(list(devices), "entryChoiceCleared", {"listed": listed}, actor, timezone.now())
        check_request([mailbox_id], because="entryChosen")


def recheck(*, devices: Iterable[MobileDevice], actor: Actor) -> int:
    """Have the mailboxes of these phones read and decided anew, now. Returns how many mailboxes."""
    with transaction.atomic():
        owned = [device for device in devices if device.owner_id is not None]
        _tell(owned, "recheck", {}, actor, timezone.now())
        return check_request({device.owner_id for device in owned if device.owner_id}, because="asked")


def _lock(devices: Iterable[MobileDevice]) -> None:
    """Two administrators at once: the second finds the first's override, and replaces it."""
    mailboxes = {device.owner_id for device in devices if device.owner_id is not None}
    list(Mailbox.objects.select_for_update().filter(pk__in=mailboxes).order_by("pk").values_list("pk"))


def _owned(device: MobileDevice) -> Mailbox:
    if device.owner is None:
        raise ValidationError(
            _("The mailbox of this phone is not known yet. Run a full sync, which reads the mailboxes, and try again.")
        )
    return device.owner


def _unfit(device: MobileDevice, foreign: set[int]) -> str:
    if device.gone_at is not None:
        return "gone"
    if device.owner_id is None:
        return "noMailbox"
    # Outlook mobile has one id for all of a person's installations: a personal entry would govern them all.
    return "notActiveSync" if device.pk in foreign else ""


def _clean(devices: Sequence[MobileDevice], level: str, reason: str, expires_at: datetime.datetime | None) -> None:
    problems: dict[str, list[ValidationError]] = {}
    if level not in AccessOverride.Level.values:
        problems["level"] = [ValidationError(_("An override allows or blocks; Exchange has no personal quarantine."))]
    if not reason.strip():
        problems["reason"] = [ValidationError(_("Say why, for those who come after you."))]
    elif len(reason) > REASON_LENGTH:
        text = _("The reason has %(count)d characters; at most %(limit)d are kept. Shorten it.")
        problems["reason"] = [ValidationError(text, params={"count": len(reason), "limit": REASON_LENGTH})]
    now = timezone.now()
    if expires_at is not None and expires_at <= now:
        problems["expires_at"] = [
            ValidationError(_("This time is past, so the override would never hold. Choose a later one, or none."))
        ]
    elif expires_at is not None and expires_at > now + LONGEST:
        problems["expires_at"] = [
            ValidationError(_("That is more than five years away. Choose an earlier time, or none for no end."))
        ]
    if len(devices) > BULK_LIMIT:
        text = _("%(count)d devices at once are too many; at most %(limit)d. For more, change the policy.")
        problems["devices"] = [ValidationError(text, params={"count": len(devices), "limit": BULK_LIMIT})]
    if problems:
        raise ValidationError(problems)


def _in_force(devices: Iterable[MobileDevice]) -> QuerySet[AccessOverride]:
    """Overrides in force of exactly these partnerships (those expired a moment ago included: the tick ends them)."""
    wanted = {(device.owner_id, device.device_id_key) for device in devices}
    rows = AccessOverride.objects.filter(mailbox__in={mailbox for mailbox, _ in wanted}, ended_at=None)
    fitting = [one.pk for one in rows.only("pk", "mailbox_id", "device_id_key") if _key(one) in wanted]
    return AccessOverride.objects.filter(pk__in=fitting, ended_at=None)


def _key(one: AccessOverride) -> tuple[int, str]:
    return (one.mailbox_id, one.device_id_key)


def _tell(
    devices: Iterable[MobileDevice], code: str, params: dict[str, object], actor: Actor, at: datetime.datetime
) -> None:
    DeviceEvent.objects.bulk_create(
        [
            DeviceEvent(device_id=device.pk, at=at, code=code, params=params, actor_name=actor.name[:200])
            for device in devices
        ],
        batch_size=200,
    )


def _look(devices: Iterable[MobileDevice], because: str) -> None:
    check_request({device.owner_id for device in devices if device.owner_id is not None}, because=because)

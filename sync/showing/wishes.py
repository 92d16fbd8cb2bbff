"""Wish and reality: what Exchange shows of a device, what its verdict comes to, and what the difference waits for.

Exchange stores what it decided at the phone's last request, so that its state lags behind what it was told. Reads only.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable
from dataclasses import dataclass

from django.db.models import Q

from sync.deciding.facts import EasDevice, Level
from sync.deciding.judge import Judge, with_entries
from sync.deciding.verdicts import Hindrance, Row
from sync.enforcing.judging import ANSWERED
from sync.models import Approval, Command, DeviceAccess, HeldDenial, MailboxCheck, MobileDevice
from sync.observing.rulebook import settings_facts
from sync.showing.device_page import SHOWN

_LEVELS = {Level.ALLOW: "Allowed", Level.BLOCK: "Blocked", Level.QUARANTINE: "Quarantined"}


@dataclass(frozen=True, slots=True)
class Wish:
    """differs: Exchange shows something else than the verdict comes to. since: when the verdict was reached.

    waits_for: what that, or a command, waits for: "command" (one is under way), "approval", "leftOut" (a person said
    that it is not to be denied), "settings" (its denial was approved, and comes with settings that wait, or the next
    run), "check" (it is to be looked at now), "phone" (Exchange was told, and stores its state anew at the phone's next
    request), "activeSync" (it was told, and asks before any list whether ActiveSync is on for the mailbox, where it is
    off), "policy" (it was told, and the mailbox policy keeps the phone out), "sync" (Exchange has yet to be told); ""
    for nothing.
    """

    differs: bool = False
    waits_for: str = ""
    since: datetime.datetime | None = None


def wishes(devices: Iterable[MobileDevice]) -> dict[int, Wish]:
    """Of each device, by its key. Three queries; devices come with organization, access and owner."""
    known = list(devices)
    mailboxes = {device.owner_id for device in known if device.owner_id is not None}
    under_way = set(
        Command.objects.filter(mailbox__in=mailboxes, state__in=Command.OPEN).values_list("mailbox_id", flat=True)
    )
    answers = _answers(known)
    marked = set(MailboxCheck.objects.filter(mailbox__in=mailboxes).values_list("mailbox_id", flat=True))
    judges: dict[int, Judge] = {}
    found = {}
    for device in known:
        judge = judges.get(device.organization_id)
        if judge is None:
            settings = settings_facts(device.organization)
            judge = judges[device.organization_id] = Judge(settings.default_level, settings.rules)
        found[device.pk] = _wish(device, judge, under_way, answers.get(device.pk, ""), marked)
    return found


def _answers(devices: Iterable[MobileDevice]) -> dict[int, str]:
    """What people said of the denial that each device's verdict is: nothing yet, no, or yes."""
    rows = HeldDenial.objects.filter(
        Q(approval__state=Approval.State.WAITING) | ANSWERED, device__in=[device.pk for device in devices]
    ).order_by("approval__made_at", "pk")
    found = {}
    for device, state, is_approved in rows.values_list("device_id", "approval__state", "is_approved"):
        if state == Approval.State.WAITING:
            found[device] = "approval"
        else:
            found[device] = "settings" if is_approved else "leftOut"
    return found


def _wish(device: MobileDevice, judge: Judge, under_way: set[int], answer: str, marked: set[int]) -> Wish:
    access: DeviceAccess | None = getattr(device, "access", None)
    if device.gone_at is not None or access is None:
        return Wish(waits_for="command" if device.owner_id in under_way else "")
    differs = _differs(device, access)
    if device.owner_id in under_way:
        waits_for = "command"
    elif answer == "approval":
        waits_for = answer
    elif device.owner_id in marked:
        waits_for = "check"
    elif not differs:
        waits_for = ""
    elif _level(device, judge) != SHOWN.get(access.state):
        waits_for = answer or "sync"
    elif device.owner is not None and not device.owner.activesync_enabled:
        waits_for = "activeSync"
    else:
        waits_for = "policy" if access.hindered_by == Hindrance.MAILBOX_POLICY else "phone"
    return Wish(differs, waits_for, access.decided_at)


def _differs(device: MobileDevice, access: DeviceAccess) -> bool:
    """As device_page.differs has it."""
    wanted = SHOWN.get(access.state)
    if wanted is None or access.rule == Row.NOT_ACTIVE_SYNC or not device.access_state:
        return False
    return device.access_state != wanted


def _level(device: MobileDevice, judge: Judge) -> str:
    """What Exchange would say to the phone now, by the lists, rules and default level that it was last seen to have."""
    owner = device.owner
    fallback = judge.without_entries(
        EasDevice(
            key=device.pk,
            mailbox=device.owner_id or 0,
            device_id=device.device_id,
            device_type=device.device_type,
            model=device.device_model,
            os=device.device_os,
            user_agent=device.device_user_agent,
            state_rule=device.access_control_rule,
        )
    )
    allowed, blocked = (
        any(entry.strip().lower() == device.device_id_key for entry in entries)
        for entries in ((owner.allowed, owner.blocked) if owner else ((), ()))
    )
    return _LEVELS[with_entries(allowed=allowed, blocked=blocked, fallback=fallback.level)]

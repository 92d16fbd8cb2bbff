"""Phones that are kept out without a command of ours: by the default level or a rule, from their first try on.

Such a phone never had mail, so no command takes it away and none is noted; its person is told all the same. Only of
what is new: a first sync finds thousands of phones that have been kept out for years, and tells nobody about them.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager

from django.db.models import Q

from sync.acting import denials
from sync.acting.denials import Denied
from sync.blocks import blocks
from sync.deciding.effects import counted, levels, listed_now
from sync.deciding.facts import EasDevice, Key, Level, State
from sync.deciding.verdicts import Hindrance, Row, Verdict
from sync.enforcing.loading import Loaded
from sync.models import DeviceAccess, DeviceEvent, MobileDevice, SyncRun

# Left to what Exchange says, and meant to be.
_BY_RULES = (Row.PLATFORM_RULE, Row.COMPLIANT)
# A phone that came, or was let in before, within so many days at least.
NEW_DAYS = 7


def kept_out_note(
    loaded: Loaded,
    verdicts: Mapping[Key, Verdict],
    *,
    run: SyncRun | None,
    guard: Callable[[], AbstractContextManager[object]],
) -> None:
    """Note them, in short transactions under `guard`. Not for who only observes, or while it is doubtful who a phone
    belongs to. Safe to repeat: a denial that was noted is not noted again."""
    if not loaded.policy.notification.enabled or loaded.doubts:
        return
    for chosen in blocks(_kept_out(loaded, verdicts)):
        new = _new(loaded, [one.device for one in chosen])
        told = tuple(one for one in chosen if one.device in new)
        if told:
            with guard():
                denials.noted(loaded.organization.pk, run.pk if run else None, told)


def _kept_out(loaded: Loaded, verdicts: Mapping[Key, Verdict]) -> Iterator[Denied]:
    """By Exchange as it is, and by the verdict. What has mail still is told of with the command that takes it."""
    world = loaded.world
    wanted = [device for device in counted(world) if _is_denial(device, verdicts[device.key])]
    now = levels(wanted, listed_now(world), world.exchange)
    for device in wanted:
        if now[device.key] is not Level.ALLOW:
            yield _denied(device, verdicts[device.key])


def _is_denial(device: EasDevice, verdict: Verdict) -> bool:
    is_meant = verdict.is_denial or verdict.row in _BY_RULES
    if verdict.hindered_by is Hindrance.UNSEEN_RULE:  # nothing can be foreseen, and Exchange itself has spoken
        return is_meant and device.state.lower() in (State.BLOCKED, State.QUARANTINED)
    return is_meant and verdict.state in (State.BLOCKED, State.QUARANTINED)


def _denied(device: EasDevice, verdict: Verdict) -> Denied:
    return Denied(int(device.key), int(device.mailbox), verdict.access.value, verdict.reason.value, verdict.row.value)


def _new(loaded: Loaded, devices: list[int]) -> set[int]:
    """Of these, the phones that are new, and those that were let in until lately."""
    days = max(NEW_DAYS, loaded.policy.notification.repeat_days)
    since = loaded.world.now - datetime.timedelta(days=days)
    came = Q(when_created__gte=since) | Q(first_sync_time__gte=since)
    untold = Q(when_created=None, first_sync_time=None, first_observed_at__gte=since)
    new = MobileDevice.objects.filter(came | untold, pk__in=devices)
    turned = DeviceAccess.objects.filter(pk__in=devices, decided_at__gte=since)
    lines = DeviceEvent.objects.filter(
        device__in=turned.values("pk"), code="verdict", at__gte=since, params__before_state=State.ALLOWED.value
    )
    return {*new.values_list("pk", flat=True), *lines.values_list("device_id", flat=True)}

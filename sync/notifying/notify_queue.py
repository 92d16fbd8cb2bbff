"""The rows of the mail queue: which are due, who has one, and what became of it.

A row is claimed by a conditional update with a lease by the database's clock, and its number of attempts is the fence:
who lost it writes nothing more. A mail of which nobody can say whether it left is never simply sent again. Sends
nothing itself (notify_send.py).
"""

from __future__ import annotations

import datetime
import logging
from collections.abc import Iterable, Mapping
from typing import Any

from django.db import Error, transaction
from django.db.models import F, Q, QuerySet
from django.db.models.functions import Now

from connectors.mail.client import FIND_SENT_AFTER
from connectors.models import NotificationAccount
from sync.blocks import blocks
from sync.events import storable
from sync.lease import lease_end
from sync.models import DeviceEvent, Notification

logger = logging.getLogger(__name__)

State = Notification.State
ACTOR_NAME = "Notification"
# Waits after each attempt that failed; the last one over and over, until about a day has passed.
BACK_OFF = tuple(datetime.timedelta(minutes=minutes) for minutes in (1, 5, 15, 60))
MOST_ATTEMPTS = 27
# How long an account is left alone that a person has to mend: each try with a wrong password counts to a lock-out.
PAUSE = datetime.timedelta(minutes=15)
LOOK_AFTER = datetime.timedelta(seconds=FIND_SENT_AFTER)
# What says nothing about the account: the server is busy, or does not take one mail.
PASSING = (
    "", "mail_unreachable", "mail_server_busy", "mail_server_failed", "mail_deferred", "mail_recipient_refused",
    "mail_message_refused", "mail_outcome_unknown",
)  # fmt: skip
UNKNOWN = "mail_outcome_unknown"
# In error_params: how often nobody learnt what became of it. Kept whatever else goes wrong later.
_UNKNOWN_TIMES = "unknown_times"

# Suppressed because:
REPEATED, OFF, NO_ADDRESS, NOT_NEEDED = "repeated", "off", "noAddress", "notNeeded"


# --- which ----------------------------------------------------------------------------------------------------------


def _paused() -> QuerySet[NotificationAccount]:
    failed = NotificationAccount.objects.filter(last_error_at__gt=Now() - PAUSE)
    return failed.exclude(last_error_code__in=PASSING)


def due(organization_id: int | None = None) -> QuerySet[Notification]:
    """Mails to be sent, or looked for, now. None of an organization whose account is paused."""
    waiting = Q(state=State.QUEUED) | Q(state=State.UNKNOWN, finished_at=None)
    now = Q(next_attempt_at=None) | Q(next_attempt_at__lte=Now())
    rows = Notification.objects.filter(waiting, now).exclude(organization__in=_paused().values("organization"))
    return rows if organization_id is None else rows.filter(organization_id=organization_id)


def abandoned() -> QuerySet[Notification]:
    """Mails whose worker died while it was sending them."""
    return Notification.objects.filter(state=State.SENDING, lease_expires_at__lt=Now())


def being_sent() -> QuerySet[Notification]:
    return Notification.objects.filter(state=State.SENDING, lease_expires_at__gte=Now())


def are_under_way(devices: Iterable[int]) -> bool:
    """Whether a mail to one of these will leave within seconds: not one that failed before and waits."""
    for chosen in blocks(devices):
        first = due().filter(state=State.QUEUED, device__in=chosen)
        if first.exists() or being_sent().filter(device__in=chosen).exists():
            return True
    return False


# --- taking one -----------------------------------------------------------------------------------------------------


def claim(pk: int, state: str, attempts: int) -> Notification | None:
    """Take a row, as it was when it was found due; with all that its mail says. None: another worker was faster."""
    free = Notification.objects.filter(pk=pk, state=state, attempts=attempts, finished_at=None)
    if not free.update(state=State.SENDING, attempts=F("attempts") + 1, lease_expires_at=lease_end()):
        return None
    return Notification.objects.select_related(
        "organization__tenant", "device__access", "device__owner__person"
    ).get(pk=pk)  # fmt: skip


def _mine(row: Notification) -> QuerySet[Notification]:
    return Notification.objects.filter(pk=row.pk, state=State.SENDING, attempts=row.attempts)


def lease_renew(row: Notification) -> None:
    """Push the end of its lease out. Never raises."""
    try:
        _mine(row).update(lease_expires_at=lease_end())
    except Error:
        logger.warning("the lease of notification %s could not be renewed this time", row.pk, exc_info=True)


# --- what became of it ----------------------------------------------------------------------------------------------


@transaction.atomic
def sent_record(row: Notification) -> None:
    values = {"state": State.SENT, "error_code": "", "error_params": {}}
    if _end(row, values):
        _line(row, "notificationSent", {"language": row.language})


@transaction.atomic
def failed_record(row: Notification, code: str, params: Mapping[str, Any]) -> None:
    """For good: a person may have it tried again."""
    if _end(row, {"state": State.FAILED, "error_code": code[:64], "error_params": _params(row, params)}):
        _line(row, "notificationFailed", {**params, "error_code": code})


def suppressed_record(row: Notification, because: str) -> None:
    _end(row, {"state": State.SUPPRESSED, "suppressed_because": because})


@transaction.atomic
def unknown_record(row: Notification, params: Mapping[str, Any]) -> None:
    """It may have left. To be looked into once it would surely be found."""
    params = {**params, _UNKNOWN_TIMES: unknown_times(row) + 1}
    _mine(row).update(
        state=State.UNKNOWN,
        next_attempt_at=Now() + LOOK_AFTER,
        lease_expires_at=None,
        error_code=UNKNOWN,
        error_params=storable(params),
    )


def unknown_keep(row: Notification) -> None:
    """Nobody will ever learn what became of it."""
    _end(row, {"state": State.UNKNOWN, "error_code": UNKNOWN})


def give_back(row: Notification, state: str) -> None:
    """As if it had not been tried."""
    _mine(row).update(state=state, attempts=F("attempts") - 1, lease_expires_at=None)


@transaction.atomic
def put_off(row: Notification, state: str, code: str, params: Mapping[str, Any], retry_after: float = 0.0) -> None:
    """Again later, in that state; after a day of failing never again."""
    if row.attempts >= MOST_ATTEMPTS:
        if state == State.UNKNOWN:
            unknown_keep(row)
        else:
            failed_record(row, code, params)
        return
    _mine(row).update(
        state=state,
        next_attempt_at=Now() + _wait(row.attempts, retry_after),
        lease_expires_at=None,
        error_code=code[:64],
        error_params=_params(row, params),
    )


def unknown_times(row: Notification) -> int:
    return int(row.error_params.get(_UNKNOWN_TIMES, 0))


def _params(row: Notification, params: Mapping[str, Any]) -> Any:
    times = unknown_times(row)
    return storable({**params, _UNKNOWN_TIMES: times} if times else dict(params))


def _wait(attempts: int, retry_after: float = 0.0) -> datetime.timedelta:
    """After so many attempts; no sooner than the server said, within a day."""
    step = BACK_OFF[min(max(attempts, 1), len(BACK_OFF)) - 1]
    return max(step, datetime.timedelta(seconds=min(retry_after, 86_400.0)))


def _end(row: Notification, values: Mapping[str, Any]) -> bool:
    ended = {"finished_at": Now(), "next_attempt_at": None, "lease_expires_at": None}
    return bool(_mine(row).update(**values, **ended))


def _line(row: Notification, code: str, params: Mapping[str, Any]) -> None:
    DeviceEvent.objects.create(
        device_id=row.device_id,
        at=Now(),
        code=code,
        params=storable(dict(params)),
        actor_name=ACTOR_NAME,
        run_id=row.run_id,
    )


# --- of all that an organization has --------------------------------------------------------------------------------


def abandoned_take_up(organization_id: int) -> None:
    """Those of dead workers may have left."""
    for row in abandoned().filter(organization_id=organization_id):
        unknown_record(row, {})


@transaction.atomic
def all_put_off(organization_id: int, code: str, params: Mapping[str, Any], retry_after: float = 0.0) -> None:
    """The server answers nobody: whatever is due counts as tried, so that each is not held up by it in turn."""
    over = due(organization_id).filter(attempts__gte=MOST_ATTEMPTS - 1, state=State.QUEUED)
    devices = dict(over.values_list("pk", "device_id"))
    for chosen in blocks(devices):
        Notification.objects.filter(pk__in=chosen).update(
            state=State.FAILED,
            attempts=F("attempts") + 1,
            next_attempt_at=None,
            finished_at=Now(),
            error_code=code[:64],
            error_params=storable(dict(params)),
        )
        line = {**storable(dict(params)), "error_code": code}
        DeviceEvent.objects.bulk_create(
            DeviceEvent(
                device_id=devices[pk], at=Now(), code="notificationFailed", params=line, actor_name=ACTOR_NAME
            )
            for pk in chosen
        )  # fmt: skip
    for attempts in sorted(set(due(organization_id).values_list("attempts", flat=True))):
        rows = due(organization_id).filter(attempts=attempts)
        keys = list(rows.values_list("pk", flat=True))
        for chosen in blocks(keys):
            some = Notification.objects.filter(pk__in=chosen, attempts=attempts)
            told = some.filter(state=State.QUEUED).exclude(error_params__has_key=_UNKNOWN_TIMES)
            told.update(error_code=code[:64], error_params=storable(dict(params)))
            some.update(attempts=F("attempts") + 1, next_attempt_at=Now() + _wait(attempts + 1, retry_after))


@transaction.atomic
def all_suppress(organization_id: int) -> None:
    """Nobody is told any more. What may have left already stays so."""
    ended = {"finished_at": Now(), "next_attempt_at": None}
    rows = Notification.objects.filter(organization_id=organization_id)
    rows.filter(state=State.QUEUED).update(state=State.SUPPRESSED, suppressed_because=OFF, **ended)
    rows.filter(state=State.UNKNOWN, finished_at=None).update(**ended)

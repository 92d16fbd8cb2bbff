"""Telling people that their phone is kept out: who is to be told of which denial.

One row a denial, written before the denial itself is sent; sending is notify_send.py's. About the same phone nobody is
told again within the days that the policy says. Decides nothing about access, and is never in its way: where people are
not told, nothing is written at all.
"""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from django.db import transaction
from django.db.models import Q
from django.db.models.functions import Now
from django.utils import timezone
from django.utils.translation import gettext as _

from connectors.actors import Actor
from connectors.mail.client import new_message_id
from connectors.models import NotificationAccount
from sync.acting.denials import Denied
from sync.blocks import blocks
from sync.deciding.facts import State as AccessState
from sync.dispatch import notify_dispatch
from sync.events import storable
from sync.models import DeviceEvent, MobileDevice, Notification
from sync.notifying.mail_template import known_language
from sync.notifying.notify_queue import ACTOR_NAME, NO_ADDRESS, REPEATED
from sync.policies.policy import NotificationValues
from sync.policies.policy_rows import organization_policy

State = Notification.State
_TOLD = (*Notification.OPEN, State.SENT)
# What the phone's story says of a row, by why it was suppressed.
_CODES = {"": "notificationQueued", REPEATED: "notificationSuppressed"}


@dataclass(frozen=True, slots=True)
class _Telling:
    """How an organization tells its people."""

    organization_id: int
    run_id: int | None
    values: NotificationValues
    sender: str
    # A worker's clock, as verdicts have it; and an expression in each of thousands of rows would take its time.
    now: datetime.datetime

    @property
    def repeats_before(self) -> datetime.datetime:
        return self.now - datetime.timedelta(days=self.values.repeat_days)


def denials_noted(organization_id: int, run_id: int | None, denied: tuple[Denied, ...]) -> None:
    """Queue a mail about each denial that nobody was told of. To be called in a transaction, before they are sent.
    Safe to repeat."""
    values = organization_policy(organization_id).notification
    if not values.enabled:
        return
    account = NotificationAccount.objects.filter(organization=organization_id).first()
    if account is None or account.channel == NotificationAccount.Channel.NONE:
        return
    telling = _Telling(organization_id, run_id, values, account.sender, timezone.now())
    queued = 0
    for chosen in blocks(denied):
        queued += _write(telling, list(_rows(telling, chosen)))
    if queued:
        notify_dispatch(organization_id)


@dataclass(frozen=True, slots=True)
class _Phone:
    """What a row needs of a phone and its person."""

    pk: int
    owner: int | None
    device_id_key: str
    address: str
    language: str

    @property
    def recipient(self) -> str:
        """Where the person is told; "" where there is none."""
        try:
            validate_email(self.address)
        except ValidationError:
            return ""
        return self.address


def _phones(denied: Sequence[Denied]) -> dict[int, _Phone]:
    rows = MobileDevice.objects.filter(pk__in=[one.device for one in denied]).values_list(
        "pk", "owner_id", "device_id_key", "owner__primary_smtp", "owner__person__preferred_language"
    )
    return {
        pk: _Phone(pk, owner, key, (address or "").strip(), language or "")
        for pk, owner, key, address, language in rows
    }


def _rows(telling: _Telling, denied: Sequence[Denied]) -> Iterator[Notification]:
    phones = _phones(denied)
    numbers = _numbers(phones)
    told = _told(telling, phones.values()) if numbers else set()
    for one in denied:
        if one.device not in numbers:
            continue
        phone = phones[one.device]
        because = "" if phone.recipient else NO_ADDRESS
        if (phone.owner, phone.device_id_key) in told:
            because = REPEATED
        yield Notification(
            public_id=uuid.uuid4(),
            organization_id=telling.organization_id,
            device_id=phone.pk,
            run_id=telling.run_id,
            denial=f"{phone.pk}:{numbers[phone.pk]}",
            recipient=phone.recipient,
            # The person's, as the directory has it; else the organization's.
            language=known_language(phone.language or telling.values.language),
            reason=one.reason[:32],
            message_id=new_message_id(telling.sender),
            state=State.SUPPRESSED if because else State.QUEUED,
            suppressed_because=because,
            made_at=telling.now,
            finished_at=telling.now if because else None,
        )


def _numbers(devices: Iterable[int]) -> dict[int, int]:
    """Which denial of each phone this is. Without those whose present one was noted already: a phone is denied until
    its verdict lets it in."""
    keys = list(devices)
    last: dict[int, tuple[str, datetime.datetime]] = {
        device: (denial, made_at)
        for device, denial, made_at in Notification.objects.filter(device__in=keys)
        .order_by("pk")
        .values_list("device_id", "denial", "made_at")
    }
    let_in: set[int] = set()
    if last:
        events = DeviceEvent.objects.filter(
            device__in=last,
            code="verdict",
            params__state=AccessState.ALLOWED.value,
            at__gte=min(made_at for _denial, made_at in last.values()),
        )
        let_in = {pk for pk, at in events.values_list("device_id", "at") if at >= last[pk][1]}
    return {
        pk: int(last[pk][0].rpartition(":")[2]) + 1 if pk in last else 1
        for pk in keys
        if pk not in last or pk in let_in
    }


def _told(telling: _Telling, phones: Iterable[_Phone]) -> set[tuple[int | None, str]]:
    """Whom we told of which phone lately, or are about to: (mailbox, id). A phone whose partnership was removed and
    made anew is the same one."""
    owners = {phone.owner for phone in phones if phone.owner is not None}
    rows = Notification.objects.filter(
        Q(made_at__gte=telling.repeats_before) | Q(finished_at__gte=telling.repeats_before),
        device__owner__in=owners,
        state__in=_TOLD,
    )
    return set(rows.values_list("device__owner_id", "device__device_id_key"))


def _write(telling: _Telling, rows: Sequence[Notification]) -> int:
    """Returns how many are to be sent. Of two orders that note one denial, the first counts."""
    if not rows:
        return 0
    Notification.objects.bulk_create(rows, batch_size=500, ignore_conflicts=True)
    kept = Notification.objects.filter(public_id__in=[row.public_id for row in rows])
    made = set(kept.values_list("public_id", flat=True))
    lines = ((row, _CODES.get(row.suppressed_because)) for row in rows if row.public_id in made)
    DeviceEvent.objects.bulk_create((_line(row, code, telling) for row, code in lines if code), batch_size=500)
    return sum(1 for row in rows if row.public_id in made and row.state == State.QUEUED)


def _line(row: Notification, code: str, telling: _Telling) -> DeviceEvent:
    params = storable({"language": row.language, "reason": row.reason})
    return DeviceEvent(
        device_id=row.device_id, at=telling.now, code=code, params=params, actor_name=ACTOR_NAME, run_id=telling.run_id
    )


# --- by a person ----------------------------------------------------------------------------------------------------


def can_be_retried() -> Q:
    """What a person may have tried again: what failed, and what nobody can tell of any more."""
    return Q(state=State.FAILED) | Q(state=State.UNKNOWN, finished_at__isnull=False)


def is_retriable(notification: Notification) -> bool:
    """The same of a row as it was read."""
    is_left = notification.state == State.UNKNOWN and notification.finished_at is not None
    return notification.state == State.FAILED or is_left


@transaction.atomic
def notification_retry(*, notification: Notification, actor: Actor) -> None:
    """Have a mail tried again, from the start. One that may have left is looked for first, where that can be done.
    Raises ValidationError when there is nothing to be tried again."""
    ended = Notification.objects.filter(can_be_retried(), pk=notification.pk)
    values: dict[str, Any] = {"attempts": 0, "next_attempt_at": None, "finished_at": None, "error_params": {}}
    # An unknown one stays unknown until it was looked for.
    if not ended.update(**values):
        raise ValidationError(_("This mail is not to be tried again: it was sent, or is on its way."), code="not_ended")
    Notification.objects.filter(pk=notification.pk, state=State.FAILED).update(state=State.QUEUED)
    DeviceEvent.objects.create(
        device_id=notification.device_id,
        at=Now(),
        code="notificationQueued",
        params={"language": notification.language, "reason": notification.reason, "again": True},
        actor_name=actor.name[:200],
    )
    notify_dispatch(notification.organization_id)

"""From plans to what may be done about them now: the guard, asked with what people have said already.

The one way there, for runs and for the checks of single mailboxes. Sends nothing and keeps nothing. An approval, and a
rejection, holds for the verdict that was shown: when another verdict is reached in between, it says nothing any more.
"""

from __future__ import annotations

import datetime
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, TypeAlias

from django.db.models import F, Q, Sum
from django.db.models.functions import Now

from sync.blocks import blocks
from sync.deciding.commands import SettingsCommand
from sync.deciding.crowd import Crowd, denied_in
from sync.deciding.facts import Key, Partnership
from sync.deciding.guard import Limits
from sync.deciding.plan import Plan
from sync.deciding.verdicts import Row, Verdict
from sync.enforcing.loading import Loaded
from sync.enforcing.world_rows import IN
from sync.models import Approval, Command, HeldDenial, SyncRun

# Denials of so long count together: many small runs are not let through where one big one is not.
RECENT = datetime.timedelta(hours=1)

Word: TypeAlias = tuple[str, str, str]  # access, reason, rule: what an approval holds for

# Of HeldDenial: what a person said of a denial whose verdict is still the one that was reached before.
ANSWERED = Q(
    # Decided anew since, and come to the same again: it is another time, and another question.
    Q(device__access=None) | Q(approval__decided_at__gte=F("device__access__decided_at")),
    approval__state__in=(Approval.State.APPROVED, Approval.State.REJECTED),
    is_approved__isnull=False,
)


@dataclass(frozen=True, slots=True)
class Judged:
    """What may be done now: the changes of these mailboxes, these settings and rules, in order. may_deny: who may lose
    mail by it.

    held: whose denial waits for a person; settings_held: what of settings and rules does. words: what those who would
    lose mail would lose it for. denied_later: all whom what does not go ahead would deny. waited: of those whose denial
    waited already, who was looked at. withheld: why nobody may be kept out at all just now (codes), with the number of
    those concerned in `doubted`. lets_in: how many get mail. is_nothing: nothing was planned at all.
    """

    mailboxes: tuple[int, ...]
    settings: tuple[SettingsCommand, ...]
    may_deny: frozenset[Partnership]
    limits: Limits
    is_whole: bool
    held: frozenset[int] = frozenset()
    settings_held: tuple[SettingsCommand, ...] = ()
    words: Mapping[int, Word] = field(default_factory=dict)
    denied_later: frozenset[int] = frozenset()
    waited: frozenset[int] = frozenset()
    withheld: tuple[str, ...] = ()
    doubted: int = 0
    lets_in: int = 0
    is_nothing: bool = False


def recently_denied(organization_id: int) -> int:
    """How many devices newly lost mail in the last hour. What a person approved is not among them."""
    rows = Command.objects.filter(
        organization_id=organization_id,
        planned_at__gte=Now() - RECENT,
        state__in=(*Command.OPEN, Command.State.DONE),
        denies__gt=0,
    )
    others = rows.exclude(run__trigger=SyncRun.Trigger.APPROVAL)
    number: int = others.aggregate(total=Sum("denies"))["total"] or 0
    # Such a run denies the approved, and a few whom nobody was asked about.
    payloads = rows.filter(run__trigger=SyncRun.Trigger.APPROVAL).values_list("payload", flat=True)
    devices = {device for payload in payloads for device in payload.get("denies", ())}
    approved: set[int] = set()
    for part in blocks(devices, IN):
        held = HeldDenial.objects.filter(approval__organization=organization_id, device__in=part, is_approved=True)
        approved.update(held.values_list("device_id", flat=True))
    return number + len(devices - approved)


class Judging:
    """An organization's plans, some mailboxes at a time, judged together.

    frame: any part of the organization. is_whole: all of it is going to be added. distrust: further reasons why nobody
    may newly be kept out (codes). hold_also: keys of devices that are held already.

    Where only some mailboxes are looked at, a denial that waits for approval goes on waiting. A whole organization is
    judged anew: what waits there is counted among what it would deny, and goes if it is few by now. A phone that an
    administrator blocks waits for nothing, and is not counted.
    """

    def __init__(
        self, frame: Loaded, *, is_whole: bool, distrust: Sequence[str] = (), hold_also: Collection[int] = ()
    ) -> None:
        self._frame, self._is_whole = frame, is_whole
        self._withheld = (*frame.doubts, *distrust)
        self._hold_also = frozenset(hold_also)
        self._waiting = frozenset[int]() if is_whole else _waiting(frame.organization.pk)
        self._crowd = Crowd()
        self._words: dict[int, Word] = {}
        self._shown: dict[Word, Word] = {}
        self._waited: set[int] = set()

    def add(self, loaded: Loaded, verdicts: Mapping[Key, Verdict], plan: Plan) -> None:
        partnerships = {device.key: device.partnership for device in loaded.world.devices}
        self._waited.update(self._waiting & partnerships.keys())
        losing = {partnerships[key] for key in denied_in(plan)}
        concerned = {int(key): _word(verdicts[key]) for key, of in partnerships.items() if of in losing}
        answers = _answers(loaded, concerned)
        approved = {key for key, is_approved in answers.items() if is_approved}
        barred = {key for key, is_approved in answers.items() if not is_approved}
        barred |= (self._waiting - approved) | self._hold_also

        def of(devices: Iterable[int]) -> set[Partnership]:
            return {partnerships[key] for key in devices if key in partnerships}

        # An administrator has decided about this very phone: that waits for no reading and for no second word.
        by_admin = of(key for key in concerned if verdicts[key].row is Row.OVERRIDE_BLOCK)
        self._crowd.add(
            loaded.world,
            verdicts,
            plan,
            approved=of(approved) | by_admin,
            barred=(losing if self._withheld else of(barred)) - by_admin,
        )
        # Of thousands there are few different ones.
        self._words.update((key, self._shown.setdefault(word, word)) for key, word in concerned.items())

    def judged(self) -> Judged:
        limits = self._limits()
        found = self._crowd.weigh(
            total_devices=self._frame.total_devices,
            limits=limits,
            recently_denied=recently_denied(self._frame.organization.pk),
        )
        return Judged(
            mailboxes=tuple(map(int, found.mailboxes)),
            settings=found.settings,
            may_deny=found.may_deny,
            limits=limits,
            is_whole=self._is_whole,
            held=_keys(found.waiting),
            settings_held=found.settings_held,
            words=self._words,
            denied_later=_keys(found.denied_later),
            waited=frozenset(self._waited),
            withheld=self._withheld,
            doubted=len(found.denied_later) if self._withheld else 0,
            lets_in=found.lets_in,
            is_nothing=found.is_nothing,
        )

    def _limits(self) -> Limits:
        if self._is_whole:
            raised = Approval.objects.filter(
                organization=self._frame.organization,
                state=Approval.State.WAITING,
                raised_to__isnull=False,
                raised_until__gt=Now(),
            ).first()
            if raised is not None and raised.raised_to is not None:
                return Limits(raised.raised_to, 0.0)
        return self._frame.tenant.limits()


def limit_columns(limits: Limits) -> dict[str, Any]:
    """How rows keep the limits that a plan was held to: limit_devices, limit_percent, limit_at_most."""
    return {f"limit_{name}": value for name, value in asdict(limits).items()}


def _keys(keys: Iterable[Key]) -> frozenset[int]:
    return frozenset(map(int, keys))


def _word(verdict: Verdict) -> Word:
    return str(verdict.access), str(verdict.reason), str(verdict.row)


def _waiting(organization_id: int) -> frozenset[int]:
    rows = HeldDenial.objects.filter(approval__organization_id=organization_id, approval__state=Approval.State.WAITING)
    return frozenset(rows.values_list("device_id", flat=True))


def _answers(loaded: Loaded, words: Mapping[int, Word]) -> dict[int, bool]:
    """What people said of devices whose verdict is still the one that they were shown: approved, or not.

    While settings wait it may take another denial to reach the same (a block entry, where quarantine was shown). That
    was not approved: it waits for these settings. Who was to keep mail for this reason keeps it either way.
    """
    rows = HeldDenial.objects.filter(ANSWERED, approval__organization=loaded.organization)
    found: dict[int, bool] = {}
    for part in blocks(words, IN):
        for device, access, reason, rule, is_approved in (
            rows.filter(device__in=part)
            .order_by("approval__decided_at")
            .values_list("device_id", "access", "reason", "rule", "is_approved")
        ):
            if words[device][1:] == (reason, rule):
                found[device] = bool(is_approved) and words[device][0] == access
    return found

"""Keeping drift: what somebody else changed in Exchange, from the run that first saw it until it is so no more.

Mends nothing. An open row a fact; it ends when a reading shows it no longer, or when a person chose about it.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass

from django.db import transaction
from django.utils import timezone

from sync.blocks import blocks
from sync.deciding import drift as pure
from sync.deciding.drift import DriftKind
from sync.deciding.facts import id_key
from sync.enforcing.loading import Loaded
from sync.enforcing.world_rows import IN
from sync.events import storable
from sync.models import Command, Drift, LedgerEntry, Mailbox

_KINDS: Mapping[DriftKind, Drift.Kind] = {
    DriftKind.FOREIGN_ALLOW: Drift.Kind.FOREIGN_ALLOW,
    DriftKind.FOREIGN_BLOCK: Drift.Kind.FOREIGN_BLOCK,
    DriftKind.ENTRY_VANISHED: Drift.Kind.ENTRY_VANISHED,
    DriftKind.DEFAULT_LEVEL: Drift.Kind.SETTING_CHANGED,
    DriftKind.USER_MAIL_INSERT: Drift.Kind.SETTING_CHANGED,
    DriftKind.ADMIN_MAIL_RECIPIENTS: Drift.Kind.SETTING_CHANGED,
    DriftKind.RULE_CHANGED: Drift.Kind.RULE_CHANGED,
    DriftKind.RULE_REMOVED: Drift.Kind.RULE_REMOVED,
    DriftKind.FOREIGN_RULE: Drift.Kind.RULE_ADDED,
}
_SUBJECT_LENGTH = 600


@dataclass(frozen=True, slots=True)
class _Fact:
    """What makes it the same drift, and what is told of it."""

    kind: str
    subject: str
    mailbox: int | None
    device: int | None
    device_id_key: str
    expected: str
    found: str
    is_alarm: bool

    @property
    def key(self) -> tuple[str, str, int | None]:
        return (self.kind, self.subject, self.mailbox)


def drifts_record(
    loaded: Loaded,
    drifts: Iterable[pure.Drift],
    *,
    settings: bool = False,
    guard: Callable[[], AbstractContextManager[object]] = transaction.atomic,
) -> tuple[int, int]:
    """Keep the drift of the mailboxes that were loaded, and if so told that of settings and rules. Short transactions,
    each under `guard`. Returns how many began and how many ended."""
    busy = _busy(loaded)
    mine = [one for one in drifts if settings or one.mailbox is not None]
    kept = (one for one in mine if _is_kept(loaded, one) and not _is_coming(one, busy))
    left_alone = {_fact(one).key for one in mine if not _is_kept(loaded, one)}
    facts = {fact.key: fact for fact in map(_fact, kept)}
    now = loaded.world.now
    new = dict(facts)
    ended: dict[str, list[int]] = {"gone": [], "leftAlone": []}
    changed = []
    seen = []
    for row in _open(loaded, settings):
        key = (row.kind, row.subject, row.mailbox_id)
        fact = new.pop(key, None)
        if fact is None:
            ended["leftAlone" if key in left_alone else "gone"].append(row.pk)
        elif _take(row, fact):
            changed.append(row)
        else:
            seen.append(row.pk)
    for part in blocks(new.values()):
        with guard():
            Drift.objects.bulk_create((_row(loaded, fact) for fact in part), ignore_conflicts=True)
    for part_changed in blocks(changed, 200):
        with guard():
            Drift.objects.bulk_update(part_changed, ["device", "expected", "found", "is_alarm"])
    for pks in blocks([*seen, *(row.pk for row in changed)]):
        Drift.objects.filter(pk__in=pks).update(last_seen_at=now)
    for because, over in ended.items():
        for pks in blocks(over):
            Drift.objects.filter(pk__in=pks, ended_at=None).update(ended_at=now, ended_because=because)
    return len(new), sum(map(len, ended.values()))


def drift_end(
    *,
    organization_id: int,
    because: str,
    actor_name: str,
    kinds: Collection[str] = (),
    mailbox_id: int | None = None,
    device_id_key: str = "",
) -> int:
    """End open drift because something was done about it: adopted, overridden, enforced. mailbox_id None: that of
    settings and rules. kinds: () is any. Returns how many."""
    rows = Drift.objects.filter(organization_id=organization_id, ended_at=None)
    rows = rows.filter(mailbox=None) if mailbox_id is None else rows.filter(mailbox_id=mailbox_id)
    if kinds:
        rows = rows.filter(kind__in=kinds)
    if device_id_key:
        rows = rows.filter(device_id_key=device_id_key)
    return rows.update(ended_at=timezone.now(), ended_because=because, ended_by_name=actor_name[:200])


def drifts_leave_alone(organization_id: int) -> int:
    """End all open drift of an organization of which nothing is wanted any more. Returns how many."""
    rows = Drift.objects.filter(organization_id=organization_id, ended_at=None)
    return rows.update(ended_at=timezone.now(), ended_because="leftAlone")


def settings_drift_end(loaded: Loaded, drifts: Iterable[pure.Drift], *, because: str, actor_name: str) -> int:
    """End open drift of settings and rules that is not among `drifts` any more. Returns how many."""
    still = {(fact.kind, fact.subject) for one in drifts if one.mailbox is None for fact in (_fact(one),)}
    rows = Drift.objects.filter(organization=loaded.organization, mailbox=None, ended_at=None)
    over = [row.pk for row in rows if (row.kind, row.subject) not in still]
    ended = {"ended_at": loaded.world.now, "ended_because": because, "ended_by_name": actor_name[:200]}
    return Drift.objects.filter(pk__in=over, ended_at=None).update(**ended) if over else 0


def ledger_settle(loaded: Loaded) -> int:
    """Forget entries of ours that a reading no longer shows, once their vanishing was told; what is still wanted is
    planned and noted anew. Not where a command is under way, whose entry may only be about to come. Returns how many.
    """
    listed = {
        (mailbox.key, name, id_key(device_id))
        for mailbox in loaded.world.mailboxes.values()
        for name, ids in (("allowed", mailbox.allowed), ("blocked", mailbox.blocked))
        for device_id in ids
    }
    vanished: dict[int, list[tuple[str, str]]] = {}
    for entry in loaded.world.ledger.entries:
        key = (entry.mailbox, str(entry.listed), id_key(entry.device_id))
        if entry.mailbox in loaded.world.mailboxes and key not in listed:
            vanished.setdefault(int(entry.mailbox), []).append(key[1:])
    forgotten = 0
    for mailbox, entries in vanished.items():
        forgotten += _forget(loaded.organization.pk, mailbox, entries, loaded.world.now)
    return forgotten


@transaction.atomic
def _forget(organization_id: int, mailbox: int, entries: list[tuple[str, str]], now: datetime.datetime) -> int:
    # Locked as whoever plans a command for it locks it: no entry is noted between the question and the answer.
    current = Mailbox.objects.select_for_update().filter(pk=mailbox).first()
    rows = Command.objects.filter(organization_id=organization_id, mailbox_id=mailbox, state__in=Command.OPEN)
    if rows.exists():
        return 0
    # A command that ended since the world was loaded has brought it.
    lists = {"allowed": current.allowed, "blocked": current.blocked} if current else {}
    listed_now = {(name, id_key(device_id)) for name, ids in lists.items() for device_id in ids}
    return sum(
        LedgerEntry.objects.filter(mailbox=mailbox, listed=listed, device_id_key=key, made_at__lt=now).delete()[0]
        for listed, key in entries
        if (listed, key) not in listed_now
    )


def _is_kept(loaded: Loaded, one: pure.Drift) -> bool:
    """Settings that the policy leaves as they are, and rules that it does not name, may be anybody's. So may entries
    while nobody controls access, but for those that stand against an administrator's own decision about the phone."""
    policy = loaded.world.organization
    match one.kind:
        case DriftKind.FOREIGN_ALLOW | DriftKind.FOREIGN_BLOCK:
            return loaded.world.tenant.control_on or one.against
        case DriftKind.FOREIGN_RULE:
            return loaded.world.tenant.control_on or _names_anything(loaded)
        case DriftKind.DEFAULT_LEVEL:
            return policy.default_level is not None
        case DriftKind.USER_MAIL_INSERT:
            return policy.user_mail_insert is not None
        case DriftKind.ADMIN_MAIL_RECIPIENTS:
            return policy.admin_mail_recipients is not None
        case DriftKind.RULE_CHANGED | DriftKind.RULE_REMOVED:
            ours = {rule.key for rule in (*policy.rules, *loaded.world.ledger.rules)}
            return one.rule is not None and one.rule.key in ours
        case _:
            return True


def _names_anything(loaded: Loaded) -> bool:
    """Whether the organization's settings or rules are looked after, whether or not its tenant controls access."""
    policy = loaded.world.organization
    named = (policy.default_level, policy.user_mail_insert, policy.admin_mail_recipients)
    return bool(policy.rules or loaded.world.ledger.rules) or any(one is not None for one in named)


def _busy(loaded: Loaded) -> set[int | None]:
    open_commands = Command.objects.filter(organization=loaded.organization, state__in=Command.OPEN)
    found: set[int | None] = set()
    for part in blocks(loaded.mailboxes, IN):
        read_since = Mailbox.objects.filter(pk__in=part, read_at__gt=loaded.world.now)
        found.update(read_since.values_list("pk", flat=True))
        found.update(open_commands.filter(mailbox__in=part).values_list("mailbox_id", flat=True))
    return found


def _is_coming(one: pure.Drift, busy: set[int | None]) -> bool:
    """An entry is noted as ours before it is sent: while a command is under way it may not be there yet, and one that
    ended since the world was loaded may have brought it."""
    return one.kind is DriftKind.ENTRY_VANISHED and one.mailbox in busy


def _fact(one: pure.Drift) -> _Fact:
    device_id_key = id_key(one.device_id)
    if one.mailbox is not None:
        subject = f"{one.listed}:{device_id_key}"
    elif one.rule is not None:
        subject = f"{one.rule.characteristic}:{one.rule.query}"
    else:
        subject = str(one.kind)
    return _Fact(
        kind=_KINDS[one.kind],
        subject=storable(subject)[:_SUBJECT_LENGTH],
        mailbox=None if one.mailbox is None else int(one.mailbox),
        device=int(one.devices[0]) if one.devices else None,
        device_id_key=storable(device_id_key)[:255],
        expected=storable(one.expected),
        found=storable(one.found),
        is_alarm=one.against,
    )


def _open(loaded: Loaded, settings: bool) -> Iterable[Drift]:
    rows = Drift.objects.filter(organization=loaded.organization, ended_at=None)
    if settings:
        yield from rows.filter(mailbox=None)
    for part in blocks(sorted(loaded.mailboxes), IN):
        yield from rows.filter(mailbox__in=part)


def _take(row: Drift, fact: _Fact) -> bool:
    values = (fact.device, fact.expected, fact.found, fact.is_alarm)
    if (row.device_id, row.expected, row.found, row.is_alarm) == values:
        return False
    row.device_id, row.expected, row.found, row.is_alarm = values
    return True


def _row(loaded: Loaded, fact: _Fact) -> Drift:
    return Drift(
        organization=loaded.organization,
        kind=fact.kind,
        subject=fact.subject,
        mailbox_id=fact.mailbox,
        device_id=fact.device,
        device_id_key=fact.device_id_key,
        expected=fact.expected,
        found=fact.found,
        is_alarm=fact.is_alarm,
        first_seen_at=loaded.world.now,
        last_seen_at=loaded.world.now,
    )

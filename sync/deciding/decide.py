"""Decide: one verdict a phone, by an ordered table of which the first row that speaks counts (docs/access.md).

Refuses to write, and to know what was decided before: the same world gives the same verdicts. A phone that is left
alone is Exchange's to decide: what is ours is withdrawn, what is others' stays. An entry that is not ours hinders a
verdict until a person has chosen about it, or has decided about the phone itself.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from sync.deciding.decision_table import TABLE, Case, Word, grandfathered, is_lost_to_default, of_keeping
from sync.deciding.entries import NOWHERE, Named, Whose, entries_of
from sync.deciding.facts import Access, EasDevice, Key, Level, Override, Partnership, PersonalList, Reason, State
from sync.deciding.judge import Fallback, Judge, with_entries
from sync.deciding.target import target_settings
from sync.deciding.verdicts import Hindrance, Row, Step, Verdict
from sync.deciding.world import World

_ALLOWED, _BLOCKED = PersonalList.ALLOWED, PersonalList.BLOCKED


def decide(world: World) -> dict[Key, Verdict]:
    """A verdict for each phone, by its key. No input needs any order.

    Carried out by plan, it gives a world in which decide says the same and plan has nothing left to do.
    """
    decider = _Decider(world)
    verdicts: dict[Key, Verdict] = {}
    first: dict[Partnership, EasDevice] = {}
    shared: dict[Partnership, list[EasDevice]] = {}
    for device in world.devices:
        case = decider.case(device)
        verdicts[device.key] = decider.verdict(case)
        known = first.setdefault(case.partnership, device)
        if known is not device:
            shared.setdefault(case.partnership, [known]).append(device)
    for devices in shared.values():
        for verdict in decider.agreed([(decider.case(device), verdicts[device.key]) for device in devices]):
            verdicts[verdict.device] = verdict
    return verdicts


def explain(world: World, device: Key) -> tuple[Step, ...]:
    """The rows that were asked about a phone, in order; the last one spoke. One that keeps an old phone is asked after
    the row that leaves it alone, and both spoke.

    Made when somebody looks, from a world of the phone's mailbox alone.
    """
    decider = _Decider(world)
    case = decider.case(next(known for known in world.devices if known.key == device))
    steps: list[Step] = []
    for row, speaks, facts in TABLE:
        word = speaks(case)
        steps.append(Step(row, word is not None, facts(case)))
        if word is None:
            continue
        if word.keeps and is_lost_to_default(case, word):
            steps.append(Step(Row.GRANDFATHERED, grandfathered(case) is not None, of_keeping(case)))
        break
    return tuple(steps)


def overrides_in_force(world: World) -> dict[Partnership, Override]:
    """By partnership, without those that are over; a block beats an allow."""
    found: dict[Partnership, Override] = {}
    for override in world.overrides:
        if override.expires is not None and override.expires <= world.now:
            continue
        known = found.get(override.partnership)
        if known is None or (known.level is Level.ALLOW and override.level is Level.BLOCK):
            found[override.partnership] = override
    return found


class _Decider:
    """A world made ready for many phones."""

    def __init__(self, world: World) -> None:
        self.world = world
        settings = target_settings(world.exchange, world.organization, world.ledger)
        self.judge = Judge(settings.default_level, settings.rules)
        self.named = entries_of(world.mailboxes.values(), world.ledger, world.choices)
        self.overrides = overrides_in_force(world)

    def case(self, device: EasDevice) -> Case:
        partnership = device.partnership
        return Case(
            self.world,
            device,
            partnership,
            self.named.get(partnership, NOWHERE),
            self.overrides.get(partnership),
            self.judge.without_entries(device),
        )

    def verdict(self, case: Case) -> Verdict:
        row, word = _spoken(case)
        if word.keeps and is_lost_to_default(case, word):
            kept = grandfathered(case)
            if kept is not None:
                row, word = Row.GRANDFATHERED, kept
        if word.access is Access.LEAVE_ALONE:
            verdict = _left(case, row, word)
        elif word.access is Access.ALLOW:
            verdict = _let_in(case, row, word)
        else:
            verdict = _kept_out(case, row, word, self.world.organization.denial)
        if case.device.mailbox in self.world.mailboxes:
            return verdict
        return replace(
            verdict, state=State.UNKNOWN, reason=Reason.UNKNOWN, entry=None, hindered_by=Hindrance.NO_MAILBOX
        )

    def agreed(self, group: list[tuple[Case, Verdict]]) -> Iterable[Verdict]:
        """Phones of one mailbox and one DeviceId share each entry: the strictest wish of those we decide counts."""
        voters = [verdict for _, verdict in group if verdict.row is not Row.NOT_ACTIVE_SYNC]
        if not voters or group[0][0].device.mailbox not in self.world.mailboxes:
            return
        entry: PersonalList | None = None
        if all(verdict.access is Access.ALLOW for verdict in voters):
            entry = _ALLOWED if any(verdict.entry is _ALLOWED for verdict in voters) else None
        elif any(verdict.entry is _BLOCKED for verdict in voters):
            entry = _BLOCKED
        overrides = tuple(
            listed
            for listed, are_enough in ((_ALLOWED, any), (_BLOCKED, all))
            if are_enough(listed in verdict.overrides for verdict in voters)
        )
        named = group[0][0].named
        left = Named(
            None if _ALLOWED in overrides or named.allowed is Whose.OURS else named.allowed,
            None if _BLOCKED in overrides or named.blocked is Whose.OURS else named.blocked,
        )
        allowed, blocked = entry is _ALLOWED or left.allowed is not None, entry is _BLOCKED or left.blocked is not None
        for case, verdict in group:
            if verdict.row is Row.NOT_ACTIVE_SYNC:  # left alone with what the others' wish leaves
                case.named = left
                verdict = self.verdict(case)
            state = _state(with_entries(allowed=allowed, blocked=blocked, fallback=case.fallback.level))
            if state is verdict.state:
                yield replace(verdict, entry=entry, overrides=overrides)
                continue
            reason = Reason.INDIVIDUAL_RULE if allowed or blocked else _reason_of(case.fallback)
            yield replace(
                verdict, state=state, reason=reason, entry=entry, overrides=overrides, hindered_by=Hindrance.SHARED_ID
            )


def _spoken(case: Case) -> tuple[Row, Word]:
    for row, speaks, _ in TABLE:
        word = speaks(case)
        if word is not None:
            return row, word
    raise LookupError("The table's last row always speaks.")


def _is_foreign(whose: Whose | None) -> bool:
    return whose is not None and whose is not Whose.OURS


def _state(level: Level) -> State:
    if level is Level.ALLOW:
        return State.ALLOWED
    return State.BLOCKED if level is Level.BLOCK else State.QUARANTINED


def _reason_of(fallback: Fallback) -> Reason:
    return Reason.GLOBAL_RULE if fallback.rule is None else Reason.DEVICE_RULE


def _left(case: Case, row: Row, word: Word) -> Verdict:
    """Nothing of ours stays. Where rules and default are meant to decide, an entry that says something else hinders, or
    goes if a person chose to override it."""
    key, level, access = case.device.key, case.fallback.level, Access.LEAVE_ALONE
    if case.named is NOWHERE:
        reason = word.reason if word.reason is not None and level is Level.ALLOW else _reason_of(case.fallback)
        return Verdict(key, access, _state(level), reason, row)
    allowed = case.named.allowed if _is_foreign(case.named.allowed) else None
    blocked = case.named.blocked if _is_foreign(case.named.blocked) else None
    overrides: tuple[PersonalList, ...] = ()
    if word.by_rules:
        if allowed is Whose.OVERRIDDEN and level is not Level.ALLOW:
            allowed, overrides = None, (_ALLOWED,)
        if blocked is Whose.OVERRIDDEN and level is not Level.BLOCK:
            blocked, overrides = None, (*overrides, _BLOCKED)
    if blocked is not None:
        hindered_by = Hindrance.FOREIGN_BLOCK if word.by_rules and level is not Level.BLOCK else None
        return Verdict(
            key, access, State.BLOCKED, Reason.INDIVIDUAL_RULE, row, overrides=overrides, hindered_by=hindered_by
        )
    if allowed is not None:
        hindered_by = Hindrance.FOREIGN_ALLOW if word.by_rules and level is not Level.ALLOW else None
        return Verdict(
            key, access, State.ALLOWED, Reason.INDIVIDUAL_RULE, row, overrides=overrides, hindered_by=hindered_by
        )
    reason = word.reason if word.reason is not None and level is Level.ALLOW else _reason_of(case.fallback)
    return Verdict(key, access, _state(level), reason, row, overrides=overrides)


def _let_in(case: Case, row: Row, word: Word) -> Verdict:
    """An entry where rules and default would keep the phone out, and for an administrator's word always. One of ours
    that stands stays: to remove it would change nothing and cost a command."""
    key, named, reason = case.device.key, case.named, word.reason or Reason.UNKNOWN
    own = _ALLOWED if named.allowed is Whose.OURS else None
    if _is_foreign(named.blocked) and named.blocked is not Whose.OVERRIDDEN:
        return Verdict(
            key, Access.ALLOW, State.BLOCKED, Reason.INDIVIDUAL_RULE, row, own, hindered_by=Hindrance.FOREIGN_BLOCK
        )
    overrides = (_BLOCKED,) if named.blocked is Whose.OVERRIDDEN else ()
    if named.allowed is None and (word.is_admins or case.fallback.level is not Level.ALLOW):
        own = _ALLOWED
    return Verdict(key, Access.ALLOW, State.ALLOWED, reason, row, own, overrides)


def _kept_out(case: Case, row: Row, word: Word, denial: Level) -> Verdict:
    """Quarantine can be had only where rules and default give it and no entry names the phone."""
    level = case.fallback.level
    if level is Level.QUARANTINE and denial is Level.QUARANTINE and not word.is_admins:
        return _quarantined(case, row, word)
    key, named, reason = case.device.key, case.named, word.reason or Reason.UNKNOWN
    overrides = (_ALLOWED,) if named.allowed is Whose.OVERRIDDEN else ()
    if _is_foreign(named.blocked):
        return Verdict(key, Access.BLOCK, State.BLOCKED, reason, row, None, overrides)
    if named.blocked is Whose.OURS:
        return Verdict(key, Access.BLOCK, State.BLOCKED, reason, row, _BLOCKED, overrides)
    is_let_in = _is_foreign(named.allowed) and not overrides
    if is_let_in and not word.is_admins:
        return Verdict(
            key, Access.BLOCK, State.ALLOWED, Reason.INDIVIDUAL_RULE, row, hindered_by=Hindrance.FOREIGN_ALLOW
        )
    needs_entry = word.is_admins or level is not Level.BLOCK
    return Verdict(key, Access.BLOCK, State.BLOCKED, reason, row, _BLOCKED if needs_entry else None, overrides)


def _quarantined(case: Case, row: Row, word: Word) -> Verdict:
    """No entry may name the phone. But beside an allow entry of others our block stays: without it the phone is in."""
    key, named, access = case.device.key, case.named, Access.QUARANTINE
    overrides = (_ALLOWED,) if named.allowed is Whose.OVERRIDDEN else ()
    reason = word.reason or Reason.UNKNOWN
    if _is_foreign(named.allowed) and not overrides:
        if named.blocked is None:
            state, own = State.ALLOWED, None
        else:
            state, own = State.BLOCKED, _BLOCKED if named.blocked is Whose.OURS else None
        if own is None:
            reason = Reason.INDIVIDUAL_RULE
        return Verdict(key, access, state, reason, row, own, hindered_by=Hindrance.FOREIGN_ALLOW)
    if named.blocked is Whose.OVERRIDDEN:
        overrides = (*overrides, _BLOCKED)
    elif _is_foreign(named.blocked):
        return Verdict(
            key,
            access,
            State.BLOCKED,
            Reason.INDIVIDUAL_RULE,
            row,
            overrides=overrides,
            hindered_by=Hindrance.FOREIGN_BLOCK,
        )
    return Verdict(key, access, State.QUARANTINED, reason, row, overrides=overrides)

"""Decide: one verdict a phone, by an ordered table of which the first row that speaks counts (docs/access.md).

Refuses to write, and to know what was decided before: the same world gives the same verdicts. A phone that is left
alone is Exchange's to decide: what is ours is withdrawn, what is others' stays. An entry that is not ours hinders a
verdict until a person has chosen about it, or has decided about the phone itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from sync.deciding.cases import LOOKED_AT, Cases
from sync.deciding.decision_table import TABLE, Case, Word, grandfathered, is_lost_to_default
from sync.deciding.entries import Whose
from sync.deciding.facts import Access, EasDevice, Key, Level, Partnership, PersonalList, Reason, State, TenantPolicy
from sync.deciding.judge import with_entries
from sync.deciding.verdicts import Hindrance, Row, Step, Verdict
from sync.deciding.world import World

_ALLOWED, _BLOCKED = PersonalList.ALLOWED, PersonalList.BLOCKED


def decide(world: World) -> dict[Key, Verdict]:
    """A verdict for each phone, by its key. No input needs any order.

    Carried out by plan, it gives a world in which decide says the same and plan has nothing left to do.
    """
    cases = Cases(world)
    decided: dict[Case, Verdict] = {}
    verdicts: dict[Key, Verdict] = {}
    first: dict[Partnership, EasDevice] = {}
    shared: dict[Partnership, list[EasDevice]] = {}
    for device in world.devices:
        case = cases.case(device)
        verdict = decided.get(case)
        if verdict is None:
            verdict = decided[case] = _verdict(case, world)
        verdicts[device.key] = verdict
        known = first.setdefault(device.partnership, device)
        if known is not device:
            shared.setdefault(device.partnership, [known]).append(device)
    for devices in shared.values():
        group = [(cases.case(device), verdicts[device.key]) for device in devices]
        verdicts.update(zip((device.key for device in devices), _agreed(group, world), strict=True))
    return verdicts


def explain(world: World, device: Key) -> tuple[Step, ...]:
    """The rows that were asked about a phone, in order; the last one spoke. One that keeps an old phone is asked after
    the row that leaves it alone, and both spoke.

    Made when somebody looks, from a world of the phone's mailbox alone.
    """
    cases = Cases(world)
    known = next(known for known in world.devices if known.key == device)
    case, seen = cases.case(known), cases.seen(known)
    steps: list[Step] = []
    for row, speaks in TABLE:
        word = speaks(case, world.tenant)
        steps.append(Step(row, word is not None, LOOKED_AT[row](seen)))
        if word is None:
            continue
        if word.keeps and is_lost_to_default(case, word):
            row = Row.GRANDFATHERED
            steps.append(Step(row, grandfathered(case) is not None, LOOKED_AT[row](seen)))
        break
    return tuple(steps)


def _verdict(case: Case, world: World) -> Verdict:
    """What the table says, as far as it can be had."""
    row, word = _spoken(case, world.tenant)
    if word.keeps and is_lost_to_default(case, word):
        kept = grandfathered(case)
        if kept is not None:
            row, word = Row.GRANDFATHERED, kept
    if word.access is Access.LEAVE_ALONE:
        verdict = _left(case, row, word)
    elif word.access is Access.ALLOW:
        verdict = _let_in(case, row, word)
    else:
        verdict = _kept_out(case, row, word, world.organization.denial)
    if case.has_mailbox:
        return _after_what_comes_first(case, word, verdict)
    return replace(verdict, state=State.UNKNOWN, reason=Reason.UNKNOWN, entry=None, hindered_by=Hindrance.NO_MAILBOX)


def _after_what_comes_first(case: Case, word: Word, verdict: Verdict) -> Verdict:
    """Before any list Exchange asks whether ActiveSync is on for the mailbox, and whether the phone does what the
    mailbox policy asks. Neither is ours to change; where the table means the phone to have mail they hinder it."""
    is_meant = word.access is Access.ALLOW or word.by_rules
    hindered_by = verdict.hindered_by
    if hindered_by is None and is_meant and verdict.state is State.ALLOWED:
        if case.is_off:
            hindered_by = Hindrance.ACTIVE_SYNC_OFF
        elif case.is_refused:
            hindered_by = Hindrance.MAILBOX_POLICY
    if hindered_by is verdict.hindered_by and not case.is_off:
        return verdict
    return replace(verdict, hindered_by=hindered_by, is_off=case.is_off)


def _agreed(group: Sequence[tuple[Case, Verdict]], world: World) -> Iterator[Verdict]:
    """Phones of one mailbox and one DeviceId share each entry: the strictest wish of those we decide counts. Returns
    the verdict of each."""
    voters = [verdict for _, verdict in group if verdict.row is not Row.NOT_ACTIVE_SYNC]
    if not voters or not group[0][0].has_mailbox:
        yield from (verdict for _, verdict in group)
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
    at = group[0][0]
    left_allowed = None if _ALLOWED in overrides or at.allowed is Whose.OURS else at.allowed
    left_blocked = None if _BLOCKED in overrides or at.blocked is Whose.OURS else at.blocked
    allowed, blocked = entry is _ALLOWED or left_allowed is not None, entry is _BLOCKED or left_blocked is not None
    is_named = allowed or blocked
    of_allowed = Whose.OURS if entry is _ALLOWED else left_allowed
    of_blocked = Whose.OURS if entry is _BLOCKED else left_blocked
    for case, _ in group:
        # Said of each is what is said of it once the entries are as they all together wish.
        verdict = _verdict(case._replace(allowed=of_allowed, blocked=of_blocked), world)
        state = _state(with_entries(allowed=allowed, blocked=blocked, fallback=case.level))
        if case.instead and not is_named:
            state = State.UNKNOWN
        if state is verdict.state:
            yield replace(verdict, entry=entry, overrides=overrides)
            continue
        reason = Reason.INDIVIDUAL_RULE if is_named else _reason_of(case)
        yield replace(
            verdict, state=state, reason=reason, entry=entry, overrides=overrides, hindered_by=Hindrance.SHARED_ID
        )


def _spoken(case: Case, tenant: TenantPolicy) -> tuple[Row, Word]:
    for row, speaks in TABLE:
        word = speaks(case, tenant)
        if word is not None:
            return row, word
    raise LookupError("The table's last row always speaks.")


def _is_foreign(whose: Whose | None) -> bool:
    return whose is not None and whose is not Whose.OURS


def _state(level: Level) -> State:
    if level is Level.ALLOW:
        return State.ALLOWED
    return State.BLOCKED if level is Level.BLOCK else State.QUARANTINED


def _reason_of(case: Case) -> Reason:
    if case.instead:
        return Reason.UNKNOWN
    return Reason.DEVICE_RULE if case.is_ruled else Reason.GLOBAL_RULE


def _by_settings(case: Case, verdict: Verdict) -> Verdict:
    """Of a phone that no entry names: what rules and default level give it, where that can be foreseen."""
    if not case.instead:
        return verdict
    reason = verdict.reason if verdict.is_denial else Reason.UNKNOWN
    return replace(verdict, state=State.UNKNOWN, reason=reason, hindered_by=Hindrance.UNSEEN_RULE)


def _left(case: Case, row: Row, word: Word) -> Verdict:
    """Nothing of ours stays. Where rules and default are meant to decide, an entry that says something else hinders, or
    goes if a person chose to override it."""
    level, access = case.level, Access.LEAVE_ALONE
    allowed = case.allowed if _is_foreign(case.allowed) else None
    blocked = case.blocked if _is_foreign(case.blocked) else None
    overrides: tuple[PersonalList, ...] = ()
    if word.by_rules:
        if allowed is Whose.OVERRIDDEN and level is not Level.ALLOW:
            allowed, overrides = None, (_ALLOWED,)
        if blocked is Whose.OVERRIDDEN and level is not Level.BLOCK:
            blocked, overrides = None, (*overrides, _BLOCKED)
    if blocked is not None:
        hindered_by = Hindrance.FOREIGN_BLOCK if word.by_rules and level is not Level.BLOCK else None
        return Verdict(access, State.BLOCKED, Reason.INDIVIDUAL_RULE, row, overrides=overrides, hindered_by=hindered_by)
    if allowed is not None:
        hindered_by = Hindrance.FOREIGN_ALLOW if word.by_rules and level is not Level.ALLOW else None
        return Verdict(access, State.ALLOWED, Reason.INDIVIDUAL_RULE, row, overrides=overrides, hindered_by=hindered_by)
    reason = word.reason if word.reason is not None and level is Level.ALLOW else _reason_of(case)
    return _by_settings(case, Verdict(access, _state(level), reason, row, overrides=overrides))


def _let_in(case: Case, row: Row, word: Word) -> Verdict:
    """An entry where rules and default would keep the phone out, and for an administrator's word always. One of ours
    that stands stays: to remove it would change nothing and cost a command."""
    reason = word.reason or Reason.UNKNOWN
    own = _ALLOWED if case.allowed is Whose.OURS else None
    if _is_foreign(case.blocked) and case.blocked is not Whose.OVERRIDDEN:
        return Verdict(
            Access.ALLOW, State.BLOCKED, Reason.INDIVIDUAL_RULE, row, own, hindered_by=Hindrance.FOREIGN_BLOCK
        )
    overrides = (_BLOCKED,) if case.blocked is Whose.OVERRIDDEN else ()
    if case.allowed is None and (word.is_admins or case.level is not Level.ALLOW):
        own = _ALLOWED
    verdict = Verdict(Access.ALLOW, State.ALLOWED, reason, row, own, overrides)
    return verdict if own is not None or case.allowed is not None else _by_settings(case, verdict)


def _kept_out(case: Case, row: Row, word: Word, denial: Level) -> Verdict:
    """Quarantine can be had only where rules and default give it and no entry names the phone."""
    level = case.level
    # A rule that we are not shown might let in whom our block keeps out: to take it back would ask for trouble.
    is_needed = case.blocked is Whose.OURS and Level.ALLOW in case.instead
    if level is Level.QUARANTINE and denial is Level.QUARANTINE and not word.is_admins and not is_needed:
        return _quarantined(case, row, word)
    reason = word.reason or Reason.UNKNOWN
    overrides = (_ALLOWED,) if case.allowed is Whose.OVERRIDDEN else ()
    if _is_foreign(case.blocked):
        return Verdict(Access.BLOCK, State.BLOCKED, reason, row, None, overrides)
    if case.blocked is Whose.OURS:
        return Verdict(Access.BLOCK, State.BLOCKED, reason, row, _BLOCKED, overrides)
    is_let_in = _is_foreign(case.allowed) and not overrides
    if is_let_in and not word.is_admins:
        return Verdict(Access.BLOCK, State.ALLOWED, Reason.INDIVIDUAL_RULE, row, hindered_by=Hindrance.FOREIGN_ALLOW)
    needs_entry = word.is_admins or level is not Level.BLOCK
    verdict = Verdict(Access.BLOCK, State.BLOCKED, reason, row, _BLOCKED if needs_entry else None, overrides)
    return verdict if needs_entry else _by_settings(case, verdict)


def _quarantined(case: Case, row: Row, word: Word) -> Verdict:
    """No entry may name the phone. But beside an allow entry of others our block stays: without it the phone is in."""
    access = Access.QUARANTINE
    overrides = (_ALLOWED,) if case.allowed is Whose.OVERRIDDEN else ()
    reason = word.reason or Reason.UNKNOWN
    if _is_foreign(case.allowed) and not overrides:
        if case.blocked is None:
            state, own = State.ALLOWED, None
        else:
            state, own = State.BLOCKED, _BLOCKED if case.blocked is Whose.OURS else None
        if own is None:
            reason = Reason.INDIVIDUAL_RULE
        return Verdict(access, state, reason, row, own, hindered_by=Hindrance.FOREIGN_ALLOW)
    if case.blocked is Whose.OVERRIDDEN:
        overrides = (*overrides, _BLOCKED)
    elif _is_foreign(case.blocked):
        return Verdict(
            access,
            State.BLOCKED,
            Reason.INDIVIDUAL_RULE,
            row,
            overrides=overrides,
            hindered_by=Hindrance.FOREIGN_BLOCK,
        )
    return _by_settings(case, Verdict(access, State.QUARANTINED, reason, row, overrides=overrides))

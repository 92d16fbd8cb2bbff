"""The decision table: what each row asks of a phone, and what it says (docs/access.md).

Refuses to settle anything: whether what a row says can be had in Exchange is decide's to find out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from sync.deciding.entries import Whose
from sync.deciding.facts import Access, Doubt, Level, Reason, TenantPolicy, Unlicensed
from sync.deciding.matches import Outcome
from sync.deciding.verdicts import Row

_NONCOMPLIANT = frozenset(("noncompliant", "conflict", "error"))
_IN_GRACE, _CONFIG_MANAGER = "ingraceperiod", "configmanager"
_KNOWN_COMPLIANCE = _NONCOMPLIANT | {"compliant", _IN_GRACE, _CONFIG_MANAGER}


@dataclass(frozen=True, slots=True)
class Word:
    """What a row says. access: ALLOW, BLOCK (any denial), LEAVE_ALONE. reason: of the state it wants; None: of
    whatever decides in Exchange.

    is_admins: an administrator's own word about the phone: no entry of others hinders a block, and ours is written even
    where rules and default say the same. by_rules: rules and default level are meant to decide, and foreign entries to
    be out of their way. keeps: phones left alone by it may be grandfathered.
    """

    access: Access
    reason: Reason | None = None
    is_admins: bool = False
    by_rules: bool = False
    keeps: bool = False


_LEAVE = Word(Access.LEAVE_ALONE)
_LEAVE_OR_KEEP = Word(Access.LEAVE_ALONE, keeps=True)
_BY_RULE = Word(Access.LEAVE_ALONE, Reason.DEVICE_RULE, by_rules=True)
_BY_DEFAULT = Word(Access.LEAVE_ALONE, Reason.COMPLIANT, by_rules=True, keeps=True)
_ADMIN_BLOCKS = Word(Access.BLOCK, Reason.INDIVIDUAL_RULE, is_admins=True)
_ADMIN_ALLOWS = Word(Access.ALLOW, Reason.INDIVIDUAL_RULE, is_admins=True)
_ALLOW = Word(Access.ALLOW, Reason.COMPLIANT)
_KEEP = Word(Access.ALLOW, Reason.OTHER)
_NOT_ENROLLED = Word(Access.BLOCK, Reason.NOT_ENROLLED)
_NOT_COMPLIANT = Word(Access.BLOCK, Reason.NOT_COMPLIANT)
_NO_LICENCE = Word(Access.BLOCK, Reason.OTHER)


class Case(NamedTuple):
    """All that rows may look at, of one phone. Phones of equal cases get equal answers, and thousands of phones are of
    few cases: so decide asks the table once for each case.

    outcome: the match's. is_excluded, is_included, is_licensed: of the person; is_licensed None where nobody knows.
    override: in force. allowed, blocked: whose entry names the phone. has_record: a record is the phone's; the next
    four are about it, its compliance in lower case. level: what decides where no entry names the phone, as settings are
    to be; is_ruled: a rule does, and not the default level; instead: what it may be as well (judge.Fallback). is_kept:
    grandfathering is for such a phone. has_mailbox: something can be written for it; is_off: ActiveSync is off for it.
    is_refused: Exchange said last that the mailbox policy kept the phone out.
    """

    outcome: Outcome
    has_person: bool
    is_excluded: bool
    is_included: bool
    is_licensed: bool | None
    override: Level | None
    allowed: Whose | None
    blocked: Whose | None
    has_record: bool
    is_registered: bool | None
    compliance: str
    is_stale: bool
    is_grace_over: bool
    level: Level
    is_ruled: bool
    instead: frozenset[Level]
    is_kept: bool
    has_mailbox: bool
    is_off: bool
    is_refused: bool


# --- the rows -----------------------------------------------------------------------------------------------------


def _not_active_sync(case: Case, tenant: TenantPolicy) -> Word | None:
    return _LEAVE if case.outcome is Outcome.NOT_ACTIVE_SYNC else None


def _override_block(case: Case, tenant: TenantPolicy) -> Word | None:
    return _ADMIN_BLOCKS if case.override is Level.BLOCK else None


def _override_allow(case: Case, tenant: TenantPolicy) -> Word | None:
    return _ADMIN_ALLOWS if case.override is Level.ALLOW else None


def _adopted(case: Case, tenant: TenantPolicy) -> Word | None:
    return _LEAVE if case.allowed is Whose.ADOPTED or case.blocked is Whose.ADOPTED else None


def _control_off(case: Case, tenant: TenantPolicy) -> Word | None:
    return None if tenant.control_on else _LEAVE_OR_KEEP


def _exempt(case: Case, tenant: TenantPolicy) -> Word | None:
    return _LEAVE_OR_KEEP if case.is_excluded else None


def _not_targeted(case: Case, tenant: TenantPolicy) -> Word | None:
    return None if tenant.target_everyone or case.is_included else _LEAVE_OR_KEEP


def _unlicensed(case: Case, tenant: TenantPolicy) -> Word | None:
    if case.is_licensed is not False:
        return None
    match tenant.unlicensed:
        case Unlicensed.LEAVE_ALONE:
            return _LEAVE_OR_KEEP
        case Unlicensed.DENY:
            return _NO_LICENCE
        case _:
            return None


def _ambiguous(case: Case, tenant: TenantPolicy) -> Word | None:
    """Records of one person that contradict each other; or several people, of whom one has a record."""
    if case.outcome is not Outcome.AMBIGUOUS:
        return None
    return _NOT_COMPLIANT if case.has_person else _NOT_ENROLLED


def _other_persons(case: Case, tenant: TenantPolicy) -> Word | None:
    return _NOT_ENROLLED if case.outcome is Outcome.OTHER_PERSONS else None


def _no_record(case: Case, tenant: TenantPolicy) -> Word | None:
    return None if case.has_record else _NOT_ENROLLED


def _not_registered(case: Case, tenant: TenantPolicy) -> Word | None:
    return _NOT_ENROLLED if case.is_registered is False else None


def _stale(case: Case, tenant: TenantPolicy) -> Word | None:
    return _NOT_COMPLIANT if case.is_stale and tenant.stale is not Doubt.COMPLIANT else None


def _not_compliant(case: Case, tenant: TenantPolicy) -> Word | None:
    return _NOT_COMPLIANT if case.compliance in _NONCOMPLIANT else None


def _grace_over(case: Case, tenant: TenantPolicy) -> Word | None:
    return _NOT_COMPLIANT if case.compliance == _IN_GRACE and case.is_grace_over else None


def _config_manager(case: Case, tenant: TenantPolicy) -> Word | None:
    if case.compliance != _CONFIG_MANAGER or tenant.config_manager is Doubt.COMPLIANT:
        return None
    return _NOT_COMPLIANT


def _unknown_compliance(case: Case, tenant: TenantPolicy) -> Word | None:
    """Also a label that we have never heard of."""
    if case.compliance in _KNOWN_COMPLIANCE or tenant.unknown_compliance is Doubt.COMPLIANT:
        return None
    return _NOT_COMPLIANT


def _platform_rule(case: Case, tenant: TenantPolicy) -> Word | None:
    return _BY_RULE if case.is_ruled and case.level is not Level.ALLOW else None


def _always_allowed(case: Case, tenant: TenantPolicy) -> Word | None:
    return _ALLOW if tenant.always_allow_compliant else None


def _compliant(case: Case, tenant: TenantPolicy) -> Word | None:
    return _BY_DEFAULT


def grandfathered(case: Case) -> Word | None:
    """Asked only of phones that a row with `keeps` leaves alone, and that the default level would keep out."""
    return _KEEP if case.is_kept else None


def is_lost_to_default(case: Case, word: Word) -> bool:
    """Left alone, the phone gets no mail by the default level: no rule and no entry of others speaks for or against.

    Also one that has our allow entry where the default still allows: a default that waits for approval is to find it.
    """
    if case.is_ruled:
        return False
    if case.level is Level.ALLOW and case.allowed is not Whose.OURS:
        return False
    no_word = (None, Whose.OURS, Whose.OVERRIDDEN) if word.by_rules else (None, Whose.OURS)
    return case.allowed in no_word and case.blocked in no_word


Speaks: TypeAlias = Callable[[Case, TenantPolicy], Word | None]
TABLE: tuple[tuple[Row, Speaks], ...] = (
    (Row.NOT_ACTIVE_SYNC, _not_active_sync),
    (Row.OVERRIDE_BLOCK, _override_block),
    (Row.OVERRIDE_ALLOW, _override_allow),
    (Row.ADOPTED, _adopted),
    (Row.CONTROL_OFF, _control_off),
    (Row.EXEMPT, _exempt),
    (Row.NOT_TARGETED, _not_targeted),
    (Row.UNLICENSED, _unlicensed),
    (Row.AMBIGUOUS, _ambiguous),
    (Row.OTHER_PERSONS, _other_persons),
    (Row.NO_RECORD, _no_record),
    (Row.NOT_REGISTERED, _not_registered),
    (Row.STALE, _stale),
    (Row.NOT_COMPLIANT, _not_compliant),
    (Row.GRACE_OVER, _grace_over),
    (Row.CONFIG_MANAGER, _config_manager),
    (Row.UNKNOWN_COMPLIANCE, _unknown_compliance),
    (Row.PLATFORM_RULE, _platform_rule),
    (Row.ALWAYS_ALLOWED, _always_allowed),
    (Row.COMPLIANT, _compliant),
)

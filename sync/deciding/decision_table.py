"""The decision table: what each row asks of a phone, and what it says (docs/access.md).

Refuses to settle anything: whether what a row says can be had in Exchange is decide's to find out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from sync.deciding.entries import Named, Whose
from sync.deciding.facts import (
    Access,
    Doubt,
    EasDevice,
    Level,
    ManagedDevice,
    Override,
    Partnership,
    Reason,
    Unlicensed,
    text_key,
)
from sync.deciding.judge import Fallback
from sync.deciding.matches import Match, Outcome
from sync.deciding.verdicts import Param, Row
from sync.deciding.world import World

_NONCOMPLIANT = frozenset(("noncompliant", "conflict", "error"))
_IN_GRACE, _CONFIG_MANAGER = "ingraceperiod", "configmanager"
_KNOWN_COMPLIANCE = _NONCOMPLIANT | {"compliant", _IN_GRACE, _CONFIG_MANAGER}
# What Exchange says of a phone that gets no mail.
_KEPT_OUT = ("blocked", "quarantined")


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


class Case:
    """One phone, with what rows ask about it. fallback: what decides where no entry names it, as settings are to be."""

    __slots__ = ("compliance", "device", "fallback", "match", "named", "override", "partnership", "record", "world")

    def __init__(
        self,
        world: World,
        device: EasDevice,
        partnership: Partnership,
        named: Named,
        override: Override | None,
        fallback: Fallback,
    ) -> None:
        self.world, self.device, self.partnership = world, device, partnership
        self.named, self.override, self.fallback = named, override, fallback
        self.match: Match = world.matches[device.key]
        record = self.match.record if self.match.outcome is Outcome.MATCHED else None
        self.record: ManagedDevice | None = record
        self.compliance = text_key(record.compliance) if record else ""


# --- the rows -----------------------------------------------------------------------------------------------------


def _not_active_sync(case: Case) -> Word | None:
    return _LEAVE if case.match.outcome is Outcome.NOT_ACTIVE_SYNC else None


def _override_block(case: Case) -> Word | None:
    return _ADMIN_BLOCKS if case.override is not None and case.override.level is Level.BLOCK else None


def _override_allow(case: Case) -> Word | None:
    return _ADMIN_ALLOWS if case.override is not None and case.override.level is Level.ALLOW else None


def _adopted(case: Case) -> Word | None:
    return _LEAVE if case.named.allowed is Whose.ADOPTED or case.named.blocked is Whose.ADOPTED else None


def _control_off(case: Case) -> Word | None:
    return None if case.world.tenant.control_on else _LEAVE_OR_KEEP


def _exempt(case: Case) -> Word | None:
    return _LEAVE_OR_KEEP if case.match.person is not None and case.match.person.excluded else None


def _not_targeted(case: Case) -> Word | None:
    if case.world.tenant.target_everyone:
        return None
    return None if case.match.person is not None and case.match.person.included else _LEAVE_OR_KEEP


def _unlicensed(case: Case) -> Word | None:
    if case.match.person is None or case.match.person.licensed is not False:
        return None
    match case.world.tenant.unlicensed:
        case Unlicensed.LEAVE_ALONE:
            return _LEAVE_OR_KEEP
        case Unlicensed.DENY:
            return _NO_LICENCE
        case _:
            return None


def _ambiguous(case: Case) -> Word | None:
    """Records of one person that contradict each other; or several people, of whom one has a record."""
    if case.match.outcome is not Outcome.AMBIGUOUS:
        return None
    return _NOT_ENROLLED if case.match.person is None else _NOT_COMPLIANT


def _other_persons(case: Case) -> Word | None:
    return _NOT_ENROLLED if case.match.outcome is Outcome.OTHER_PERSONS else None


def _no_record(case: Case) -> Word | None:
    return _NOT_ENROLLED if case.record is None else None


def _not_registered(case: Case) -> Word | None:
    return _NOT_ENROLLED if case.record is not None and case.record.registered is False else None


def _stale(case: Case) -> Word | None:
    """A record that tells no check-in never grows stale: what we do not know keeps nobody out. Nor does one while device
    management is not heard of: the silence may be its own, and would make everybody stale one after another."""
    tenant = case.world.tenant
    if tenant.stale_days is None or tenant.stale is Doubt.COMPLIANT:
        return None
    if case.record is None or case.record.last_check_in is None:
        return None
    heard_at = case.world.heard_at
    known_until = case.world.now if heard_at is None else min(heard_at, case.world.now)
    silent = known_until - case.record.last_check_in
    # In whole seconds: days beyond what a timedelta holds are never reached.
    return _NOT_COMPLIANT if silent.total_seconds() > tenant.stale_days * 86_400 else None


def _not_compliant(case: Case) -> Word | None:
    return _NOT_COMPLIANT if case.compliance in _NONCOMPLIANT else None


def _grace_over(case: Case) -> Word | None:
    if case.compliance != _IN_GRACE or case.record is None or case.record.grace_until is None:
        return None
    return _NOT_COMPLIANT if case.record.grace_until <= case.world.now else None


def _config_manager(case: Case) -> Word | None:
    if case.compliance != _CONFIG_MANAGER or case.world.tenant.config_manager is Doubt.COMPLIANT:
        return None
    return _NOT_COMPLIANT


def _unknown_compliance(case: Case) -> Word | None:
    """Also a label that we have never heard of."""
    if case.compliance in _KNOWN_COMPLIANCE or case.world.tenant.unknown_compliance is Doubt.COMPLIANT:
        return None
    return _NOT_COMPLIANT


def _platform_rule(case: Case) -> Word | None:
    return _BY_RULE if case.fallback.rule is not None and case.fallback.level is not Level.ALLOW else None


def _always_allowed(case: Case) -> Word | None:
    return _ALLOW if case.world.tenant.always_allow_compliant else None


def _compliant(case: Case) -> Word | None:
    return _BY_DEFAULT


def grandfathered(case: Case) -> Word | None:
    """Asked only of phones that a row with `keeps` leaves alone, and that the default level would keep out."""
    keeping = case.world.organization.grandfathering
    if keeping is None or case.world.now >= keeping.until:
        return None
    device = case.device
    if device.first_seen is not None and device.first_seen > keeping.decided:
        return None
    if device.last_success is not None:
        return _KEEP if device.last_success >= keeping.synced_since else None
    # Not known, which keeps nobody out; unless Exchange itself says that it got none.
    return None if text_key(device.state) in _KEPT_OUT else _KEEP


def is_lost_to_default(case: Case, word: Word) -> bool:
    """Left alone, the phone gets no mail by the default level: no rule and no entry of others speaks for or against.

    Also one that has our allow entry where the default still allows: a default that waits for approval is to find it.
    """
    if case.fallback.rule is not None:
        return False
    if case.fallback.level is Level.ALLOW and case.named.allowed is not Whose.OURS:
        return False
    no_word = (None, Whose.OURS, Whose.OVERRIDDEN) if word.by_rules else (None, Whose.OURS)
    return case.named.allowed in no_word and case.named.blocked in no_word


# --- what a row looked at, for the page that explains -----------------------------------------------------------------


def _of_override(case: Case) -> dict[str, Param]:
    if case.override is None:
        return {}
    expires = case.override.expires
    return {"reason": case.override.reason, "expires": expires.isoformat() if expires else None}


def _of_person(case: Case) -> dict[str, Param]:
    person = case.match.person
    if person is None:
        return {"person": None}
    return {
        "person": person.upn or person.mail,
        "included": person.included,
        "excluded": person.excluded,
        "licensed": person.licensed,
    }


def _of_client(case: Case) -> dict[str, Param]:
    return {"clientType": case.device.client_type, "deviceType": case.device.device_type, "model": case.device.model}


def _of_entries(case: Case) -> dict[str, Param]:
    return {"allowed": case.named.allowed, "blocked": case.named.blocked}


def _of_match(case: Case) -> dict[str, Param]:
    return {"outcome": case.match.outcome, "deviceId": case.device.device_id, "others": len(case.match.others)}


def _of_other(case: Case) -> dict[str, Param]:
    record = case.match.record if case.match.outcome is Outcome.OTHER_PERSONS else None
    return {"upn": record.upn or record.email} if record else {}


def _of_record(case: Case) -> dict[str, Param]:
    record = case.record
    if record is None:
        return {}
    return {
        "compliance": record.compliance,
        "registered": record.registered,
        "graceUntil": record.grace_until.isoformat() if record.grace_until else None,
        "lastCheckIn": record.last_check_in.isoformat() if record.last_check_in else None,
    }


def _of_stale(case: Case) -> dict[str, Param]:
    return {**_of_record(case), "days": case.world.tenant.stale_days}


def _of_rule(case: Case) -> dict[str, Param]:
    rule = case.fallback.rule
    level: dict[str, Param] = {"level": case.fallback.level}
    return {**level, "characteristic": rule.characteristic, "query": rule.query} if rule else level


def _of_tenant(case: Case) -> dict[str, Param]:
    return {"controlOn": case.world.tenant.control_on, "alwaysAllow": case.world.tenant.always_allow_compliant}


def of_keeping(case: Case) -> dict[str, Param]:
    keeping = case.world.organization.grandfathering
    return {"until": keeping.until.isoformat()} if keeping else {}


Speaks: TypeAlias = Callable[[Case], Word | None]
Facts: TypeAlias = Callable[[Case], dict[str, Param]]
TABLE: tuple[tuple[Row, Speaks, Facts], ...] = (
    (Row.NOT_ACTIVE_SYNC, _not_active_sync, _of_client),
    (Row.OVERRIDE_BLOCK, _override_block, _of_override),
    (Row.OVERRIDE_ALLOW, _override_allow, _of_override),
    (Row.ADOPTED, _adopted, _of_entries),
    (Row.CONTROL_OFF, _control_off, _of_tenant),
    (Row.EXEMPT, _exempt, _of_person),
    (Row.NOT_TARGETED, _not_targeted, _of_person),
    (Row.UNLICENSED, _unlicensed, _of_person),
    (Row.AMBIGUOUS, _ambiguous, _of_match),
    (Row.OTHER_PERSONS, _other_persons, _of_other),
    (Row.NO_RECORD, _no_record, _of_match),
    (Row.NOT_REGISTERED, _not_registered, _of_record),
    (Row.STALE, _stale, _of_stale),
    (Row.NOT_COMPLIANT, _not_compliant, _of_record),
    (Row.GRACE_OVER, _grace_over, _of_record),
    (Row.CONFIG_MANAGER, _config_manager, _of_record),
    (Row.UNKNOWN_COMPLIANCE, _unknown_compliance, _of_record),
    (Row.PLATFORM_RULE, _platform_rule, _of_rule),
    (Row.ALWAYS_ALLOWED, _always_allowed, _of_tenant),
    (Row.COMPLIANT, _compliant, _of_rule),
)

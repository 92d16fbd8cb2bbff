"""Each phone of a world as the case that it is for the table, and what its rows looked at for the page that explains.

A case holds words alone, and few different ones: days and labels are weighed here, once, against the world's moment and
policy.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from sync.deciding.decision_table import Case
from sync.deciding.entries import NOWHERE, Named, entries_of
from sync.deciding.facts import EasDevice, Level, ManagedDevice, Override, Partnership, text_key
from sync.deciding.judge import Fallback, Judge
from sync.deciding.matches import Match, Outcome
from sync.deciding.target import target_settings
from sync.deciding.verdicts import Param, Row
from sync.deciding.world import World

# What Exchange says of a phone that gets no mail.
_KEPT_OUT = ("blocked", "quarantined")
# DeviceAccessStateReason of a phone that does not do what the mailbox policy asks.
_BY_POLICY = "policy"


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


class Cases:
    """A world made ready for many phones."""

    def __init__(self, world: World) -> None:
        self.world = world
        settings = target_settings(world.exchange, world.organization, world.ledger)
        self.judge = Judge(settings.default_level, settings.rules)
        self.named = entries_of(world.mailboxes.values(), world.ledger, world.choices)
        self.overrides = overrides_in_force(world)
        self._stale_before = _stale_before(world)
        keeping = world.organization.grandfathering
        self._keeping = keeping if keeping is not None and world.now < keeping.until else None
        self._labels: dict[str, str] = {}

    def case(self, device: EasDevice) -> Case:
        partnership, world = device.partnership, self.world
        match = world.matches[device.key]
        named = self.named.get(partnership, NOWHERE)
        override = self.overrides.get(partnership)
        fallback = self.judge.without_entries(device)
        is_registered, compliance, is_stale, is_grace_over = None, "", False, False
        record = match.record if match.outcome is Outcome.MATCHED else None
        if record is not None:
            is_registered = record.registered
            compliance = self._labels.get(record.compliance) or self._label(record.compliance)
            if self._stale_before is not None and record.last_check_in is not None:
                is_stale = record.last_check_in < self._stale_before
            if record.grace_until is not None:
                is_grace_over = record.grace_until <= world.now
        person = match.person
        mailbox = world.mailboxes.get(device.mailbox)
        return Case(
            match.outcome,
            person is not None,
            person is not None and person.excluded,
            person is not None and person.included,
            None if person is None else person.licensed,
            None if override is None else override.level,
            named.allowed,
            named.blocked,
            record is not None,
            is_registered,
            compliance,
            is_stale,
            is_grace_over,
            fallback.level,
            fallback.rule is not None,
            fallback.instead,
            self._keeping is not None and self._is_kept(device),
            mailbox is not None,
            mailbox is not None and not mailbox.activesync_enabled,
            device.state_reason.lower() == _BY_POLICY and text_key(device.state) in _KEPT_OUT,
        )

    def _label(self, compliance: str) -> str:
        known = self._labels[compliance] = text_key(compliance)
        return known

    def _is_kept(self, device: EasDevice) -> bool:
        keeping = self._keeping
        if keeping is None:
            return False
        if device.first_seen is not None and device.first_seen > keeping.decided:
            return False
        if device.last_success is not None:
            return device.last_success >= keeping.synced_since
        # Not known, which keeps nobody out; unless Exchange itself says that it got none.
        return text_key(device.state) not in _KEPT_OUT

    def seen(self, device: EasDevice) -> Seen:
        return Seen(
            self.world,
            device,
            self.world.matches[device.key],
            self.named.get(device.partnership, NOWHERE),
            self.overrides.get(device.partnership),
            self.judge.without_entries(device),
        )


def _stale_before(world: World) -> datetime.datetime | None:
    """Who checked in before it has been silent too long; None: nobody.

    Silent until device management was last heard of: the silence since may be its own, and would make everybody stale.
    """
    if world.tenant.stale_days is None:
        return None
    known_until = world.now if world.heard_at is None else min(world.heard_at, world.now)
    try:
        return known_until - datetime.timedelta(days=world.tenant.stale_days)
    except OverflowError:  # more days than a calendar has are never reached
        return None


# --- what a row looked at, for the page that explains -----------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Seen:
    """One phone with what its case was made from. fallback: what decides where no entry names it."""

    world: World
    device: EasDevice
    match: Match
    named: Named
    override: Override | None
    fallback: Fallback

    @property
    def record(self) -> ManagedDevice | None:
        return self.match.record if self.match.outcome is Outcome.MATCHED else None


def _of_override(seen: Seen) -> dict[str, Param]:
    if seen.override is None:
        return {}
    expires = seen.override.expires
    return {"reason": seen.override.reason, "expires": expires.isoformat() if expires else None}


def _of_person(seen: Seen) -> dict[str, Param]:
    person = seen.match.person
    if person is None:
        return {"person": None}
    return {
        "person": person.upn or person.mail,
        "included": person.included,
        "excluded": person.excluded,
        "licensed": person.licensed,
    }


def _of_client(seen: Seen) -> dict[str, Param]:
    return {"clientType": seen.device.client_type, "deviceType": seen.device.device_type, "model": seen.device.model}


def _of_entries(seen: Seen) -> dict[str, Param]:
    return {"allowed": seen.named.allowed, "blocked": seen.named.blocked}


def _of_match(seen: Seen) -> dict[str, Param]:
    return {"outcome": seen.match.outcome, "deviceId": seen.device.device_id, "others": len(seen.match.others)}


def _of_other(seen: Seen) -> dict[str, Param]:
    record = seen.match.record if seen.match.outcome is Outcome.OTHER_PERSONS else None
    return {"upn": record.upn or record.email} if record else {}


def _of_record(seen: Seen) -> dict[str, Param]:
    record = seen.record
    if record is None:
        return {}
    return {
        "compliance": record.compliance,
        "registered": record.registered,
        "graceUntil": record.grace_until.isoformat() if record.grace_until else None,
        "lastCheckIn": record.last_check_in.isoformat() if record.last_check_in else None,
    }


def _of_stale(seen: Seen) -> dict[str, Param]:
    return {**_of_record(seen), "days": seen.world.tenant.stale_days}


def _of_rule(seen: Seen) -> dict[str, Param]:
    rule = seen.fallback.rule
    level: dict[str, Param] = {"level": seen.fallback.level}
    return {**level, "characteristic": rule.characteristic, "query": rule.query} if rule else level


def _of_tenant(seen: Seen) -> dict[str, Param]:
    return {"controlOn": seen.world.tenant.control_on, "alwaysAllow": seen.world.tenant.always_allow_compliant}


def _of_keeping(seen: Seen) -> dict[str, Param]:
    keeping = seen.world.organization.grandfathering
    return {"until": keeping.until.isoformat()} if keeping else {}


Facts: TypeAlias = Callable[[Seen], dict[str, Param]]
LOOKED_AT: Mapping[Row, Facts] = {
    Row.NOT_ACTIVE_SYNC: _of_client,
    Row.OVERRIDE_BLOCK: _of_override,
    Row.OVERRIDE_ALLOW: _of_override,
    Row.ADOPTED: _of_entries,
    Row.CONTROL_OFF: _of_tenant,
    Row.EXEMPT: _of_person,
    Row.NOT_TARGETED: _of_person,
    Row.UNLICENSED: _of_person,
    Row.AMBIGUOUS: _of_match,
    Row.OTHER_PERSONS: _of_other,
    Row.NO_RECORD: _of_match,
    Row.NOT_REGISTERED: _of_record,
    Row.STALE: _of_stale,
    Row.NOT_COMPLIANT: _of_record,
    Row.GRACE_OVER: _of_record,
    Row.CONFIG_MANAGER: _of_record,
    Row.UNKNOWN_COMPLIANCE: _of_record,
    Row.PLATFORM_RULE: _of_rule,
    Row.ALWAYS_ALLOWED: _of_tenant,
    Row.COMPLIANT: _of_rule,
    Row.GRANDFATHERED: _of_keeping,
}

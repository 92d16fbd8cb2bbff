"""The decision table: named cases for each row, what each comes to beside entries and overrides, and its page."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from sync.deciding.decide import decide, explain
from sync.deciding.facts import (
    Access,
    AccessRule,
    Choice,
    DirectoryUser,
    Doubt,
    EasDevice,
    Entry,
    EntryChoice,
    ExchangeSettings,
    Grandfathering,
    Ledger,
    Level,
    Link,
    ManagedDevice,
    OrganizationPolicy,
    Override,
    PersonalList,
    Presence,
    Reason,
    State,
    TenantPolicy,
    Unlicensed,
)
from sync.deciding.match import match
from sync.deciding.verdicts import Hindrance, Row, Verdict
from sync.deciding.world import World
from tests.sync.facts import DEVICE_ID, NOW, days, mailbox, person, phone, record

PAGE = Path(__file__).parents[3] / "docs" / "access.md"
ALLOW, BLOCK, QUARANTINE, LEAVE = Access.ALLOW, Access.BLOCK, Access.QUARANTINE, Access.LEAVE_ALONE
ON = TenantPolicy(control_on=True)
ALWAYS = TenantPolicy(control_on=True, always_allow_compliant=True)
KEEPING = Grandfathering(decided=days(-10), synced_since=days(-40), until=days(30))
NOT_COMPLIANT = {"compliance": "noncompliant"}


@dataclass(frozen=True)
class Case:
    """Anna's phone, her record of it, and what differs from the one compliant phone of a targeted person.

    default, rules: Exchange's; None, (): of the policy. ours, foreign: on which list an entry stands.
    """

    row: Row
    access: Access
    state: State
    reason: Reason
    entry: PersonalList | None = None
    hindered_by: Hindrance | None = None
    overrides: tuple[PersonalList, ...] = ()
    tenant: TenantPolicy = ON
    policy: OrganizationPolicy = field(default_factory=OrganizationPolicy)
    default: Level = Level.ALLOW
    rules: tuple[AccessRule, ...] = ()
    device: Mapping[str, Any] = field(default_factory=dict)
    person: Mapping[str, Any] | None = field(default_factory=dict)
    record: Mapping[str, Any] | None = field(default_factory=dict)
    more_records: tuple[ManagedDevice, ...] = ()
    ours: PersonalList | None = None
    foreign: PersonalList | None = None
    choice: Choice | None = None
    override: Override | None = None
    is_off: bool = False
    links: tuple[Link, ...] = ()

    def world(self) -> World:
        device, box = phone(**self.device), mailbox()
        records = [] if self.record is None else [record(**self.record)]
        users = [] if self.person is None else [person(**self.person)]
        entries = [listed for listed in (self.ours, self.foreign) if listed]
        box = replace(
            box,
            allowed=tuple(DEVICE_ID.lower() for listed in entries if listed is PersonalList.ALLOWED),
            blocked=tuple(DEVICE_ID.lower() for listed in entries if listed is PersonalList.BLOCKED),
            activesync_enabled=not self.is_off,
        )
        return World(
            NOW,
            [device],
            match([device], [box], [*records, *self.more_records], users, self.links),
            {box.key: box},
            self.tenant,
            self.policy,
            ExchangeSettings(self.default, self.rules),
            Ledger(frozenset([Entry("anna", self.ours, DEVICE_ID)] if self.ours else [])),
            [self.override] if self.override else [],
            [EntryChoice("anna", self.foreign, DEVICE_ID, self.choice)] if self.foreign and self.choice else [],
        )

    @property
    def verdict(self) -> Verdict:
        return Verdict(
            self.access,
            self.state,
            self.reason,
            self.row,
            self.entry,
            self.overrides,
            self.hindered_by,
            self.is_off,
        )


def override(level: Level, **changes: Any) -> Override:
    return Override("anna", DEVICE_ID.upper(), level, "Lost in a taxi", **changes)


def denied(row: Row, reason: Reason = Reason.NOT_COMPLIANT, **changes: Any) -> Case:
    """Where the default allows: by an entry of ours."""
    return Case(row, BLOCK, State.BLOCKED, reason, PersonalList.BLOCKED, **changes)


def left(row: Row, reason: Reason = Reason.GLOBAL_RULE, state: State = State.ALLOWED, **changes: Any) -> Case:
    return Case(row, LEAVE, state, reason, **changes)


def compliant(**changes: Any) -> Case:
    return left(Row.COMPLIANT, Reason.COMPLIANT, **changes)


UNSEEN = "x (XMSWLHeader)"
REFUSED = {"state": "Blocked", "state_reason": "Policy"}


def unseen(level: Level) -> tuple[AccessRule, ...]:
    return (AccessRule("XMSWLHeader", "x", level, UNSEEN),)


def compliant_or_not(**changes: Any) -> Case:
    """Left to Exchange, where a rule on something that no listing shows may keep the phone out."""
    changes = {"rules": unseen(Level.BLOCK), **changes}
    return left(Row.COMPLIANT, Reason.UNKNOWN, State.UNKNOWN, hindered_by=Hindrance.UNSEEN_RULE, **changes)


NOBODY_TARGETED = replace(ON, target_everyone=True)
IPHONES_BLOCKED = (AccessRule("DeviceType", "IPHONE", Level.BLOCK),)
IPHONES_QUARANTINED = (AccessRule("DeviceModel", "iPhone14C5", Level.QUARANTINE),)
IPHONES_ALLOWED = (AccessRule("DeviceOS", "iOS 17.6", Level.ALLOW),)
ADOPTED_ALLOW: dict[str, Any] = {"foreign": PersonalList.ALLOWED, "choice": Choice.ADOPT}
ADOPTED_BLOCK: dict[str, Any] = {"foreign": PersonalList.BLOCKED, "choice": Choice.ADOPT}
TO_QUARANTINE = OrganizationPolicy(default_level=Level.QUARANTINE, grandfathering=KEEPING)

CASES = {
    # 1
    "Outlook mobile": left(Row.NOT_ACTIVE_SYNC, device={"client_type": "Outlook"}),
    "Outlook mobile, where the default blocks": left(
        Row.NOT_ACTIVE_SYNC, state=State.BLOCKED, default=Level.BLOCK, device={"client_type": "REST"}),
    "Outlook mobile with a rule": left(
        Row.NOT_ACTIVE_SYNC, Reason.DEVICE_RULE, State.BLOCKED,
        rules=IPHONES_BLOCKED, device={"client_type": "Outlook"}),
    "no override reaches Outlook mobile": left(
        Row.NOT_ACTIVE_SYNC, device={"client_type": "Outlook"}, override=override(Level.BLOCK)),
    "what is ours is withdrawn from Outlook mobile": left(
        Row.NOT_ACTIVE_SYNC, device={"client_type": "Outlook"}, ours=PersonalList.BLOCKED),
    # 2, 3
    "an administrator blocks": denied(
        Row.OVERRIDE_BLOCK, Reason.INDIVIDUAL_RULE, override=override(Level.BLOCK)),
    "an administrator blocks, where the default does too": denied(
        Row.OVERRIDE_BLOCK, Reason.INDIVIDUAL_RULE, override=override(Level.BLOCK), default=Level.BLOCK),
    "an administrator blocks, where the default quarantines": denied(
        Row.OVERRIDE_BLOCK, Reason.INDIVIDUAL_RULE, override=override(Level.BLOCK), default=Level.QUARANTINE),
    "an administrator allows": Case(
        Row.OVERRIDE_ALLOW, ALLOW, State.ALLOWED, Reason.INDIVIDUAL_RULE, PersonalList.ALLOWED,
        override=override(Level.ALLOW), record=None),
    "an administrator allows what a rule blocks": Case(
        Row.OVERRIDE_ALLOW, ALLOW, State.ALLOWED, Reason.INDIVIDUAL_RULE, PersonalList.ALLOWED,
        override=override(Level.ALLOW), rules=IPHONES_BLOCKED),
    "an administrator allows, control off": Case(
        Row.OVERRIDE_ALLOW, ALLOW, State.ALLOWED, Reason.INDIVIDUAL_RULE, PersonalList.ALLOWED,
        override=override(Level.ALLOW), tenant=TenantPolicy()),
    "an override until tomorrow": Case(
        Row.OVERRIDE_ALLOW, ALLOW, State.ALLOWED, Reason.INDIVIDUAL_RULE, PersonalList.ALLOWED,
        override=override(Level.ALLOW, expires=days(1)), record=NOT_COMPLIANT),
    "an override until now": denied(
        Row.NOT_COMPLIANT, override=override(Level.ALLOW, expires=NOW), record=NOT_COMPLIANT),
    "an override that is over": compliant(override=override(Level.BLOCK, expires=days(-1))),
    "an override of another's phone of that id": compliant(
        override=replace(override(Level.BLOCK), mailbox="bert")),
    # 4
    "an adopted allow entry": left(
        Row.ADOPTED, Reason.INDIVIDUAL_RULE, record=None, **ADOPTED_ALLOW),
    "an adopted block entry": left(
        Row.ADOPTED, Reason.INDIVIDUAL_RULE, State.BLOCKED, **ADOPTED_BLOCK),
    "an override beats an adopted entry": denied(
        Row.OVERRIDE_BLOCK, Reason.INDIVIDUAL_RULE, override=override(Level.BLOCK), **ADOPTED_ALLOW),
    "an adopted block hinders an override": Case(
        Row.OVERRIDE_ALLOW, ALLOW, State.BLOCKED, Reason.INDIVIDUAL_RULE, None, Hindrance.FOREIGN_BLOCK,
        override=override(Level.ALLOW), **ADOPTED_BLOCK),
    # 5
    "control off": left(Row.CONTROL_OFF, tenant=TenantPolicy(), record=None),
    "control off withdraws a block of ours": left(
        Row.CONTROL_OFF, tenant=TenantPolicy(), record=None, ours=PersonalList.BLOCKED),
    "control off, where the default blocks": left(
        Row.CONTROL_OFF, state=State.BLOCKED, tenant=TenantPolicy(), default=Level.BLOCK),
    # 6
    "exempt": left(Row.EXEMPT, person={"included": False, "excluded": True}, record=None),
    "exclusion wins": left(Row.EXEMPT, person={"excluded": True}, record=NOT_COMPLIANT),
    "exclusion wins where everyone is targeted": left(
        Row.EXEMPT, tenant=NOBODY_TARGETED, person={"excluded": True}, record=None),
    # 7
    "in no included group": left(Row.NOT_TARGETED, person={"included": False}, record=NOT_COMPLIANT),
    "nobody knows the person": left(Row.NOT_TARGETED, person=None, record=None),
    "everyone is targeted": denied(
        Row.NO_RECORD, Reason.NOT_ENROLLED, tenant=NOBODY_TARGETED, person={"included": False}, record=None),
    "everyone is targeted, also whom nobody knows": denied(
        Row.NO_RECORD, Reason.NOT_ENROLLED, tenant=NOBODY_TARGETED, person=None, record=None),
    "whom nobody knows, with a record by address": compliant(
        tenant=NOBODY_TARGETED, person=None, record={"user": None, "upn": "anna@contoso.test"}),
    "a link tells whose a phone is": compliant(
        person={"upn": "x@contoso.test", "mail": "", "key": "user-anna"}, links=(Link("anna", DEVICE_ID, "record"),)),
    # 8
    "unlicensed are left alone": left(Row.UNLICENSED, person={"licensed": False}, record=None),
    "unlicensed are denied": denied(
        Row.UNLICENSED, Reason.OTHER, person={"licensed": False}, tenant=replace(ON, unlicensed=Unlicensed.DENY)),
    "unlicensed are as others": compliant(
        person={"licensed": False}, tenant=replace(ON, unlicensed=Unlicensed.AS_OTHERS)),
    "not known whether licensed": compliant(
        person={"licensed": None}, tenant=replace(ON, unlicensed=Unlicensed.DENY)),
    # 9
    "records that contradict": denied(
        Row.AMBIGUOUS, record={"enrolled": None, "last_check_in": None},
        more_records=(record(key="double", compliance="noncompliant", enrolled=None, last_check_in=None),)),
    # 10
    "another person's record": denied(
        Row.OTHER_PERSONS, Reason.NOT_ENROLLED, record={"user": "user-bert", "upn": "bert@contoso.test"}),
    # 11
    "no record": denied(Row.NO_RECORD, Reason.NOT_ENROLLED, record=None),
    "a record that only repeats Exchange": denied(Row.NO_RECORD, Reason.NOT_ENROLLED, record={"agent": "eas"}),
    # 12
    "not registered": denied(Row.NOT_REGISTERED, Reason.NOT_ENROLLED, record={"registered": False}),
    "not known whether registered": compliant(record={"registered": None}),
    # 13
    "stale": denied(Row.STALE, tenant=replace(ON, stale_days=30), record={"last_check_in": days(-31)}),
    "stale in a second": compliant(tenant=replace(ON, stale_days=30), record={"last_check_in": days(-30)}),
    "stale counts as compliant": compliant(
        tenant=replace(ON, stale_days=30, stale=Doubt.COMPLIANT), record={"last_check_in": days(-31)}),
    "a stale record that was not compliant": denied(
        Row.NOT_COMPLIANT, tenant=replace(ON, stale_days=30, stale=Doubt.COMPLIANT),
        record={"last_check_in": days(-31), **NOT_COMPLIANT}),
    "no check-in known": compliant(tenant=replace(ON, stale_days=30), record={"last_check_in": None}),
    "never stale": compliant(record={"last_check_in": days(-3_000)}),
    # 14
    "noncompliant": denied(Row.NOT_COMPLIANT, record=NOT_COMPLIANT),
    "conflict": denied(Row.NOT_COMPLIANT, record={"compliance": "Conflict"}),
    "error": denied(Row.NOT_COMPLIANT, record={"compliance": "error"}),
    # 15
    "in grace until tomorrow": compliant(record={"compliance": "inGracePeriod", "grace_until": days(1)}),
    "in grace without a deadline": compliant(record={"compliance": "inGracePeriod"}),
    "grace is over": denied(Row.GRACE_OVER, record={"compliance": "inGracePeriod", "grace_until": NOW}),
    # 16
    "Configuration Manager": denied(Row.CONFIG_MANAGER, record={"compliance": "configManager"}),
    "Configuration Manager counts as compliant": compliant(
        record={"compliance": "configManager"}, tenant=replace(ON, config_manager=Doubt.COMPLIANT)),
    # 17
    "unknown": denied(Row.UNKNOWN_COMPLIANCE, record={"compliance": "unknown"}),
    "unknown counts as compliant": compliant(
        record={"compliance": "unknown"}, tenant=replace(ON, unknown_compliance=Doubt.COMPLIANT)),
    "a label never heard of": denied(Row.UNKNOWN_COMPLIANCE, record={"compliance": "quantum"}),
    "no label": denied(Row.UNKNOWN_COMPLIANCE, record={"compliance": ""}),
    # 18
    "a rule blocks a compliant phone": left(
        Row.PLATFORM_RULE, Reason.DEVICE_RULE, State.BLOCKED, tenant=ALWAYS, rules=IPHONES_BLOCKED),
    "a rule quarantines a compliant phone": left(
        Row.PLATFORM_RULE, Reason.DEVICE_RULE, State.QUARANTINED, tenant=ALWAYS, rules=IPHONES_QUARANTINED),
    "a rule withdraws an allow of ours": left(
        Row.PLATFORM_RULE, Reason.DEVICE_RULE, State.BLOCKED, tenant=ALWAYS, rules=IPHONES_BLOCKED,
        ours=PersonalList.ALLOWED),
    "the policy's rule counts before Exchange's": left(
        Row.PLATFORM_RULE, Reason.DEVICE_RULE, State.BLOCKED,
        policy=OrganizationPolicy(rules=IPHONES_BLOCKED), rules=(AccessRule("DeviceType", "iPhone", Level.ALLOW),)),
    "a rule that the policy loosens": compliant(
        policy=OrganizationPolicy(rules=(AccessRule("DeviceType", "iPhone", Level.ALLOW),)), rules=IPHONES_BLOCKED),
    "no rule lets a noncompliant phone in": denied(
        Row.NOT_COMPLIANT, record=NOT_COMPLIANT, rules=IPHONES_ALLOWED, default=Level.QUARANTINE),
    # 19
    "always allowed": Case(
        Row.ALWAYS_ALLOWED, ALLOW, State.ALLOWED, Reason.COMPLIANT, PersonalList.ALLOWED,
        tenant=ALWAYS, default=Level.QUARANTINE),
    "always allowed, where the default is about to block": Case(
        Row.ALWAYS_ALLOWED, ALLOW, State.ALLOWED, Reason.COMPLIANT, PersonalList.ALLOWED,
        tenant=ALWAYS, policy=OrganizationPolicy(default_level=Level.BLOCK)),
    "always allowed needs no entry where the default allows": Case(
        Row.ALWAYS_ALLOWED, ALLOW, State.ALLOWED, Reason.COMPLIANT, tenant=ALWAYS),
    "nor where a rule allows": Case(
        Row.ALWAYS_ALLOWED, ALLOW, State.ALLOWED, Reason.COMPLIANT,
        tenant=ALWAYS, default=Level.BLOCK, rules=IPHONES_ALLOWED),
    "an entry of ours that is not needed stays": Case(
        Row.ALWAYS_ALLOWED, ALLOW, State.ALLOWED, Reason.COMPLIANT, PersonalList.ALLOWED,
        tenant=ALWAYS, ours=PersonalList.ALLOWED),
    "a block of ours makes room": Case(
        Row.ALWAYS_ALLOWED, ALLOW, State.ALLOWED, Reason.COMPLIANT, PersonalList.ALLOWED,
        tenant=ALWAYS, default=Level.QUARANTINE, ours=PersonalList.BLOCKED),
    # 20
    "compliant": compliant(),
    "a record that one listing missed": compliant(record={"presence": Presence.MISSING}),
    "compliant, where the default quarantines": left(
        Row.COMPLIANT, Reason.GLOBAL_RULE, State.QUARANTINED, default=Level.QUARANTINE),
    "compliant, and a rule allows": compliant(default=Level.BLOCK, rules=IPHONES_ALLOWED),
    "compliant withdraws an allow of ours": left(
        Row.COMPLIANT, Reason.GLOBAL_RULE, State.BLOCKED, default=Level.BLOCK, ours=PersonalList.ALLOWED),
    # 21
    "grandfathered": Case(
        Row.GRANDFATHERED, ALLOW, State.ALLOWED, Reason.OTHER, PersonalList.ALLOWED, policy=TO_QUARANTINE,
        device={"first_seen": days(-100), "last_success": days(-39)}),
    "grandfathered: what is not known keeps nobody out": Case(
        Row.GRANDFATHERED, ALLOW, State.ALLOWED, Reason.OTHER, PersonalList.ALLOWED, policy=TO_QUARANTINE),
    "grandfathered, not targeted": Case(
        Row.GRANDFATHERED, ALLOW, State.ALLOWED, Reason.OTHER, PersonalList.ALLOWED, policy=TO_QUARANTINE,
        person={"included": False}),
    "grandfathered while the default waits for approval": Case(
        Row.GRANDFATHERED, ALLOW, State.ALLOWED, Reason.OTHER, PersonalList.ALLOWED,
        policy=OrganizationPolicy(grandfathering=KEEPING), ours=PersonalList.ALLOWED),
    "grandfathered after the end": left(
        Row.COMPLIANT, Reason.GLOBAL_RULE, State.QUARANTINED,
        policy=replace(TO_QUARANTINE, grandfathering=replace(KEEPING, until=NOW))),
    "too new to be grandfathered": left(
        Row.COMPLIANT, Reason.GLOBAL_RULE, State.QUARANTINED, policy=TO_QUARANTINE, device={"first_seen": days(-9)}),
    "silent too long to be grandfathered": left(
        Row.COMPLIANT, Reason.GLOBAL_RULE, State.QUARANTINED, policy=TO_QUARANTINE,
        device={"last_success": days(-41)}),
    "never had mail": left(
        Row.COMPLIANT, Reason.GLOBAL_RULE, State.QUARANTINED, policy=TO_QUARANTINE, device={"state": "Quarantined"}),
    "a rule grandfathers nobody": left(
        Row.PLATFORM_RULE, Reason.DEVICE_RULE, State.BLOCKED, policy=TO_QUARANTINE, rules=IPHONES_BLOCKED),
    "nor Outlook mobile": left(
        Row.NOT_ACTIVE_SYNC, state=State.QUARANTINED, policy=TO_QUARANTINE, device={"client_type": "Outlook"}),
    "nor who is denied": Case(
        Row.NOT_COMPLIANT, QUARANTINE, State.QUARANTINED, Reason.NOT_COMPLIANT, policy=TO_QUARANTINE,
        record=NOT_COMPLIANT),
    "grandfathering adds nothing where a foreign entry allows": left(
        Row.NOT_TARGETED, Reason.INDIVIDUAL_RULE, policy=TO_QUARANTINE, person={"included": False},
        foreign=PersonalList.ALLOWED),
    # What Exchange asks before any list
    "ActiveSync is off: allowed, and no mail": Case(
        Row.ALWAYS_ALLOWED, ALLOW, State.ALLOWED, Reason.COMPLIANT, PersonalList.ALLOWED, Hindrance.ACTIVE_SYNC_OFF,
        tenant=ALWAYS, default=Level.QUARANTINE, is_off=True),
    "ActiveSync is off: compliant, and no mail": compliant(hindered_by=Hindrance.ACTIVE_SYNC_OFF, is_off=True),
    "ActiveSync is off: a denial is not hindered": denied(Row.NOT_COMPLIANT, record=NOT_COMPLIANT, is_off=True),
    "ActiveSync is off: nobody means it to be on": left(
        Row.NOT_TARGETED, person={"included": False}, is_off=True),
    "ActiveSync is off: an administrator allows": Case(
        Row.OVERRIDE_ALLOW, ALLOW, State.ALLOWED, Reason.INDIVIDUAL_RULE, PersonalList.ALLOWED,
        Hindrance.ACTIVE_SYNC_OFF, override=override(Level.ALLOW), is_off=True),
    "ActiveSync is off: an entry of others hinders as well": Case(
        Row.ALWAYS_ALLOWED, ALLOW, State.BLOCKED, Reason.INDIVIDUAL_RULE, None, Hindrance.FOREIGN_BLOCK,
        tenant=ALWAYS, foreign=PersonalList.BLOCKED, is_off=True),
    "the mailbox policy kept it out": Case(
        Row.ALWAYS_ALLOWED, ALLOW, State.ALLOWED, Reason.COMPLIANT, PersonalList.ALLOWED, Hindrance.MAILBOX_POLICY,
        tenant=ALWAYS, default=Level.QUARANTINE, device=REFUSED),
    "the mailbox policy kept out whom nobody means to let in": denied(
        Row.NOT_COMPLIANT, record=NOT_COMPLIANT, device=REFUSED),
    "let in, with a reason that is over": compliant(device={"state": "Allowed", "state_reason": "Policy"}),
    # Rules on what no listing shows
    "an unseen rule may keep it out": compliant_or_not(),
    "an unseen rule may let it in": Case(
        Row.NOT_COMPLIANT, QUARANTINE, State.UNKNOWN, Reason.NOT_COMPLIANT, None, Hindrance.UNSEEN_RULE,
        record=NOT_COMPLIANT, default=Level.QUARANTINE, rules=unseen(Level.ALLOW)),
    "an unseen rule may quarantine it": Case(
        Row.NOT_COMPLIANT, BLOCK, State.UNKNOWN, Reason.NOT_COMPLIANT, None, Hindrance.UNSEEN_RULE,
        record=NOT_COMPLIANT, default=Level.BLOCK, rules=unseen(Level.QUARANTINE)),
    "an unseen rule of another level than a looser one": compliant(
        default=Level.BLOCK, rules=(*IPHONES_ALLOWED, *unseen(Level.ALLOW))),
    "an unseen rule beside a looser one": compliant_or_not(
        default=Level.BLOCK, rules=(*IPHONES_ALLOWED, *unseen(Level.BLOCK))),
    "an unseen rule that says the same": compliant(rules=unseen(Level.ALLOW)),
    "an entry is certain beside an unseen rule": Case(
        Row.ALWAYS_ALLOWED, ALLOW, State.ALLOWED, Reason.COMPLIANT, PersonalList.ALLOWED,
        tenant=ALWAYS, default=Level.QUARANTINE, rules=unseen(Level.BLOCK)),
    "always allowed without an entry is not certain": Case(
        Row.ALWAYS_ALLOWED, ALLOW, State.UNKNOWN, Reason.UNKNOWN, None, Hindrance.UNSEEN_RULE,
        tenant=ALWAYS, rules=unseen(Level.BLOCK)),
    "an administrator's allow is": Case(
        Row.OVERRIDE_ALLOW, ALLOW, State.ALLOWED, Reason.INDIVIDUAL_RULE, PersonalList.ALLOWED,
        override=override(Level.ALLOW), rules=unseen(Level.BLOCK)),
    "an unseen rule that Exchange named keeps it out": left(
        Row.PLATFORM_RULE, Reason.DEVICE_RULE, State.BLOCKED, tenant=ALWAYS, default=Level.QUARANTINE,
        rules=unseen(Level.BLOCK), device={"state_rule": UNSEEN}),
    "an unseen rule that Exchange named lets it in": denied(
        Row.NOT_COMPLIANT, record=NOT_COMPLIANT, default=Level.QUARANTINE,
        rules=unseen(Level.ALLOW), device={"state_rule": UNSEEN.upper()}),
    "an unseen rule that Exchange named, set by the policy": denied(
        Row.NOT_COMPLIANT, record=NOT_COMPLIANT, default=Level.QUARANTINE, rules=unseen(Level.BLOCK),
        policy=OrganizationPolicy(rules=(AccessRule("XMSWLHeader", "x", Level.ALLOW),)),
        device={"state_rule": UNSEEN}),
    "a block of ours stays where an unseen rule might let it in": denied(
        Row.NOT_COMPLIANT, record=NOT_COMPLIANT, default=Level.QUARANTINE,
        rules=unseen(Level.ALLOW), ours=PersonalList.BLOCKED),
    "and goes where none might": Case(
        Row.NOT_COMPLIANT, QUARANTINE, State.UNKNOWN, Reason.NOT_COMPLIANT, None, Hindrance.UNSEEN_RULE,
        record=NOT_COMPLIANT, default=Level.QUARANTINE, rules=unseen(Level.BLOCK), ours=PersonalList.BLOCKED),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_the_table(case: Case) -> None:
    assert decide(case.world()) == {"phone": case.verdict}


def test_each_row_has_a_case() -> None:
    assert {case.row for case in CASES.values()} == set(Row)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_the_explanation_ends_with_the_row_that_spoke(case: Case) -> None:
    steps = explain(case.world(), "phone")
    assert [step.row for step in steps if step.spoke][-1] is case.row
    assert json.loads(json.dumps([dict(step.params) for step in steps])) == [dict(step.params) for step in steps]


def test_the_first_row_that_speaks_counts() -> None:
    """From the table's end: each change lets one more row speak, and those after it would still."""
    steps: list[tuple[Row, dict[str, Any]]] = [
        (Row.COMPLIANT, {}),
        (Row.ALWAYS_ALLOWED, {"tenant": replace(ALWAYS, stale_days=30)}),
        (Row.PLATFORM_RULE, {"rules": IPHONES_BLOCKED}),
        (Row.UNKNOWN_COMPLIANCE, {"record": {"compliance": "unknown"}}),
        (Row.NOT_COMPLIANT, {"record": NOT_COMPLIANT}),
        (Row.STALE, {"record": {**NOT_COMPLIANT, "last_check_in": days(-99)}}),
        (Row.NOT_REGISTERED, {"record": {**NOT_COMPLIANT, "last_check_in": days(-99), "registered": False}}),
        (Row.NO_RECORD, {"record": None}),
        (Row.UNLICENSED, {"person": {"licensed": False}}),
        (Row.NOT_TARGETED, {"person": {"licensed": False, "included": False}}),
        (Row.EXEMPT, {"person": {"licensed": False, "included": False, "excluded": True}}),
        (Row.CONTROL_OFF, {"tenant": TenantPolicy()}),
        (Row.ADOPTED, ADOPTED_ALLOW),
        (Row.OVERRIDE_ALLOW, {"override": override(Level.ALLOW)}),
        (Row.OVERRIDE_BLOCK, {"override": override(Level.BLOCK)}),
        (Row.NOT_ACTIVE_SYNC, {"device": {"client_type": "REST"}}),
    ]
    case = compliant()
    for row, changes in steps:
        case = replace(case, **changes)
        assert decide(case.world())["phone"].row is row


# --- how a denial can be had ------------------------------------------------------------------------------------------

OURS, NONE = PersonalList.BLOCKED, None
DENIALS = {
    # (wanted, default): access, state, entry
    (Level.QUARANTINE, Level.ALLOW): (BLOCK, State.BLOCKED, OURS),
    (Level.QUARANTINE, Level.BLOCK): (BLOCK, State.BLOCKED, NONE),
    (Level.QUARANTINE, Level.QUARANTINE): (QUARANTINE, State.QUARANTINED, NONE),
    (Level.BLOCK, Level.ALLOW): (BLOCK, State.BLOCKED, OURS),
    (Level.BLOCK, Level.BLOCK): (BLOCK, State.BLOCKED, NONE),
    (Level.BLOCK, Level.QUARANTINE): (BLOCK, State.BLOCKED, OURS),
}


@pytest.mark.parametrize("is_rule", [False, True], ids=["by default", "by rule"])
@pytest.mark.parametrize(
    ("wanted", "given"), DENIALS.keys(), ids=[f"{wanted} where it is {given}" for wanted, given in DENIALS]
)
def test_a_denial_is_one_that_can_be_had(wanted: Level, given: Level, is_rule: bool) -> None:
    access, state, entry = DENIALS[(wanted, given)]
    case = denied(Row.NOT_COMPLIANT, record=NOT_COMPLIANT, policy=OrganizationPolicy(denial=wanted))
    if is_rule:
        case = replace(case, rules=(AccessRule("DeviceType", "iPhone", given),))
    else:
        case = replace(case, default=given)
    assert decide(case.world())["phone"] == replace(case.verdict, access=access, state=state, entry=entry)


def test_a_block_of_ours_that_is_not_needed_stays() -> None:
    """To remove it would change nothing, and cost a command for each phone when the default becomes stricter."""
    case = denied(Row.NOT_COMPLIANT, record=NOT_COMPLIANT, default=Level.BLOCK, ours=PersonalList.BLOCKED)
    assert decide(case.world())["phone"] == case.verdict


# --- foreign entries beside each verdict ------------------------------------------------------------------------------

WISHES: dict[str, Case] = {
    "allow": CASES["always allowed"],
    "block": CASES["noncompliant"],
    "quarantine": replace(CASES["noncompliant"], default=Level.QUARANTINE),
    "rule": CASES["a rule blocks a compliant phone"],
    "default": CASES["compliant, where the default quarantines"],
    "not ours": CASES["in no included group"],
    "override allow": CASES["an administrator allows"],
    "override block": CASES["an administrator blocks"],
}
A, B = PersonalList.ALLOWED, PersonalList.BLOCKED
ALLOWED, BLOCKED, QUARANTINED = State.ALLOWED, State.BLOCKED, State.QUARANTINED
BESIDE = {
    # (wish, foreign entry, choice): state, our entry, foreign entries to go, hindrance
    ("allow", A, None): (ALLOWED, None, (), None),
    ("allow", A, Choice.OVERRIDE): (ALLOWED, None, (), None),
    ("allow", B, None): (BLOCKED, None, (), Hindrance.FOREIGN_BLOCK),
    ("allow", B, Choice.OVERRIDE): (ALLOWED, A, (B,), None),
    ("block", A, None): (ALLOWED, None, (), Hindrance.FOREIGN_ALLOW),
    ("block", A, Choice.OVERRIDE): (BLOCKED, B, (A,), None),
    ("block", B, None): (BLOCKED, None, (), None),
    ("block", B, Choice.OVERRIDE): (BLOCKED, None, (), None),
    ("quarantine", A, None): (ALLOWED, None, (), Hindrance.FOREIGN_ALLOW),
    ("quarantine", A, Choice.OVERRIDE): (QUARANTINED, None, (A,), None),
    ("quarantine", B, None): (BLOCKED, None, (), Hindrance.FOREIGN_BLOCK),
    ("quarantine", B, Choice.OVERRIDE): (QUARANTINED, None, (B,), None),
    ("rule", A, None): (ALLOWED, None, (), Hindrance.FOREIGN_ALLOW),
    ("rule", A, Choice.OVERRIDE): (BLOCKED, None, (A,), None),
    ("rule", B, None): (BLOCKED, None, (), None),
    ("rule", B, Choice.OVERRIDE): (BLOCKED, None, (), None),
    ("default", A, None): (ALLOWED, None, (), Hindrance.FOREIGN_ALLOW),
    ("default", A, Choice.OVERRIDE): (QUARANTINED, None, (A,), None),
    ("default", B, None): (BLOCKED, None, (), Hindrance.FOREIGN_BLOCK),
    ("default", B, Choice.OVERRIDE): (QUARANTINED, None, (B,), None),
    ("not ours", A, None): (ALLOWED, None, (), None),
    ("not ours", A, Choice.OVERRIDE): (ALLOWED, None, (), None),
    ("not ours", B, None): (BLOCKED, None, (), None),
    ("not ours", B, Choice.OVERRIDE): (BLOCKED, None, (), None),
    ("override allow", A, None): (ALLOWED, None, (), None),
    ("override allow", A, Choice.OVERRIDE): (ALLOWED, None, (), None),
    ("override allow", B, None): (BLOCKED, None, (), Hindrance.FOREIGN_BLOCK),
    ("override allow", B, Choice.OVERRIDE): (ALLOWED, A, (B,), None),
    ("override block", A, None): (BLOCKED, B, (), None),
    ("override block", A, Choice.OVERRIDE): (BLOCKED, B, (A,), None),
    ("override block", B, None): (BLOCKED, None, (), None),
    ("override block", B, Choice.OVERRIDE): (BLOCKED, None, (), None),
}


@pytest.mark.parametrize(
    ("key", "outcome"), BESIDE.items(), ids=[f"{key[0]}, foreign {key[1]}, {key[2] or 'no choice'}" for key in BESIDE]
)
def test_beside_a_foreign_entry(
    key: tuple[str, PersonalList, Choice | None],
    outcome: tuple[State, PersonalList | None, tuple[PersonalList, ...], Hindrance | None],
) -> None:
    wish, listed, choice = key
    case = replace(WISHES[wish], foreign=listed, choice=choice)
    verdict = decide(case.world())["phone"]
    assert (verdict.state, verdict.entry, verdict.overrides, verdict.hindered_by) == outcome
    assert verdict.row is case.row
    if verdict.hindered_by is not None:
        assert verdict.reason is Reason.INDIVIDUAL_RULE


def test_a_block_of_ours_stands_beside_a_newer_foreign_allow() -> None:
    """Whoever writes an allow entry does not lift a denial by it: to withdraw ours would do it for them."""
    for default in Level:
        case = replace(CASES["noncompliant"], ours=PersonalList.BLOCKED, foreign=PersonalList.ALLOWED, default=default)
        verdict = decide(case.world())["phone"]
        assert (verdict.state, verdict.entry) == (State.BLOCKED, PersonalList.BLOCKED)


def test_adopted_entries_decide_and_ours_are_withdrawn() -> None:
    case = replace(CASES["an adopted allow entry"], ours=PersonalList.BLOCKED)
    assert decide(case.world())["phone"] == case.verdict


def test_a_choice_about_an_entry_of_ours_says_nothing() -> None:
    case = replace(CASES["always allowed"], ours=PersonalList.ALLOWED)
    world = replace(case.world(), choices=[EntryChoice("anna", PersonalList.ALLOWED, DEVICE_ID, Choice.ADOPT)])
    assert decide(world)["phone"] == case.verdict


# --- overrides in every combination -----------------------------------------------------------------------------------

OVERRIDABLE = {
    name: case
    for name, case in CASES.items()
    if case.override is None and case.foreign is None and not case.is_off and case.device != REFUSED
}


@pytest.mark.parametrize("level", [Level.ALLOW, Level.BLOCK])
@pytest.mark.parametrize("case", OVERRIDABLE.values(), ids=OVERRIDABLE.keys())
def test_an_override_beats_every_row_but_the_first(case: Case, level: Level) -> None:
    verdict = decide(replace(case, override=override(level)).world())["phone"]
    if case.row is Row.NOT_ACTIVE_SYNC:
        assert verdict == case.verdict
        return
    is_allow = level is Level.ALLOW
    assert verdict == Verdict(
        ALLOW if is_allow else BLOCK,
        State.ALLOWED if is_allow else State.BLOCKED,
        Reason.INDIVIDUAL_RULE,
        Row.OVERRIDE_ALLOW if is_allow else Row.OVERRIDE_BLOCK,
        PersonalList.ALLOWED if is_allow else PersonalList.BLOCKED,
    )


@pytest.mark.parametrize("level", [Level.ALLOW, Level.BLOCK])
@pytest.mark.parametrize("case", OVERRIDABLE.values(), ids=OVERRIDABLE.keys())
def test_an_override_that_is_over_changes_nothing(case: Case, level: Level) -> None:
    assert decide(replace(case, override=override(level, expires=NOW)).world()) == {"phone": case.verdict}


def test_block_beats_allow() -> None:
    world = CASES["compliant"].world()
    overrides = [override(Level.ALLOW), override(Level.BLOCK), override(Level.ALLOW)]
    assert decide(replace(world, overrides=overrides))["phone"].row is Row.OVERRIDE_BLOCK
    overrides[1] = override(Level.BLOCK, expires=days(-1))
    assert decide(replace(world, overrides=overrides))["phone"].row is Row.OVERRIDE_ALLOW


def test_nobody_overrides_to_quarantine() -> None:
    with pytest.raises(ValueError, match="no personal quarantine"):
        override(Level.QUARANTINE)


# --- one id, two phones ---------------------------------------------------------------------------------------------


def shared(rules: tuple[AccessRule, ...] = (), **changes: Any) -> dict[Any, Verdict]:
    """The phone, and another of the mailbox with its id and another type."""
    world = replace(CASES["always allowed"], rules=rules, **changes).world()
    second = phone(key="second", device_type="Android", device_id=DEVICE_ID.lower())
    devices: list[EasDevice] = [*world.devices, second]
    users: list[DirectoryUser] = [person()]
    matches = match(devices, world.mailboxes.values(), [record(**(changes.get("record") or {}))], users)
    return decide(replace(world, devices=devices, matches=matches))


def test_phones_of_one_id_share_an_entry() -> None:
    assert {key: (verdict.state, verdict.entry) for key, verdict in shared().items()} == {
        "phone": (State.ALLOWED, PersonalList.ALLOWED),
        "second": (State.ALLOWED, PersonalList.ALLOWED),
    }


def test_where_a_rule_stops_one_the_other_gets_no_entry() -> None:
    """An allow entry for the Android would let the iPhone in as well, which a rule blocks."""
    found = shared(IPHONES_BLOCKED)
    assert (found["phone"].state, found["phone"].row) == (State.BLOCKED, Row.PLATFORM_RULE)
    second = found["second"]
    assert (second.access, second.state, second.entry) == (ALLOW, State.QUARANTINED, None)
    assert (second.hindered_by, second.reason) == (Hindrance.SHARED_ID, Reason.GLOBAL_RULE)


def test_what_blocks_one_blocks_the_other() -> None:
    """The iPhone would be quarantined; the Android, which a rule lets in, can only be blocked, and so both are."""
    rules = (AccessRule("DeviceType", "Android", Level.ALLOW),)
    found = shared(rules, record=NOT_COMPLIANT)
    assert {verdict.state for verdict in found.values()} == {State.BLOCKED}
    assert {verdict.entry for verdict in found.values()} == {PersonalList.BLOCKED}
    assert (found["phone"].access, found["phone"].hindered_by) == (QUARANTINE, Hindrance.SHARED_ID)
    assert found["second"].hindered_by is None


def test_who_was_kept_is_let_in_by_the_default_once_the_shared_entry_goes() -> None:
    """The default level lets both in. The Android is too new to be kept, so that the entry of both goes; what is said
    of the iPhone is then what is said of it afterwards, too."""
    world = CASES["grandfathered while the default waits for approval"].world()
    second = phone(key="second", device_type="Android", device_id=DEVICE_ID.lower(), first_seen=days(-9))
    devices: list[EasDevice] = [*world.devices, second]
    matches = match(devices, world.mailboxes.values(), [record()], [person()])
    world = replace(
        world, exchange=replace(world.exchange, default_level=Level.ALLOW), devices=devices, matches=matches
    )
    found = decide(world)
    assert {key: (verdict.row, verdict.state, verdict.entry) for key, verdict in found.items()} == {
        "phone": (Row.COMPLIANT, State.ALLOWED, None),
        "second": (Row.COMPLIANT, State.ALLOWED, None),
    }
    (entry,) = world.ledger.entries
    box = world.mailboxes[entry.mailbox]
    after = replace(world, mailboxes={entry.mailbox: replace(box, allowed=())}, ledger=Ledger())
    assert decide(after) == found


# --- the rest -------------------------------------------------------------------------------------------------------


def test_nothing_is_written_for_a_mailbox_that_is_not_known() -> None:
    world = replace(CASES["noncompliant"].world(), mailboxes={})
    verdict = decide(world)["phone"]
    assert (verdict.access, verdict.state, verdict.entry) == (BLOCK, State.UNKNOWN, None)
    assert verdict.hindered_by is Hindrance.NO_MAILBOX


def test_several_people_of_whom_one_has_a_record() -> None:
    """Where everyone is targeted the records of doubtful people are no proof; elsewhere such a phone is left alone."""
    world = CASES["compliant"].world()
    users = [person(), person(key="double")]
    matches = match(world.devices, world.mailboxes.values(), [record()], users)
    assert decide(replace(world, matches=matches))["phone"].row is Row.NOT_TARGETED
    verdict = decide(replace(world, matches=matches, tenant=NOBODY_TARGETED))["phone"]
    assert (verdict.row, verdict.reason) == (Row.AMBIGUOUS, Reason.NOT_ENROLLED)


def test_a_moment_needs_a_time_zone() -> None:
    with pytest.raises(ValueError, match="time zone"):
        replace(CASES["compliant"].world(), now=NOW.replace(tzinfo=None))


def test_an_explanation_tells_what_was_looked_at() -> None:
    case = replace(CASES["grace is over"], override=override(Level.BLOCK, expires=days(-1)))
    steps = {step.row: step for step in explain(case.world(), "phone")}
    assert steps[Row.GRACE_OVER].params["graceUntil"] == NOW.isoformat()
    assert steps[Row.EXEMPT].params == {
        "person": "anna@contoso.test",
        "included": True,
        "excluded": False,
        "licensed": True,
    }
    assert Row.PLATFORM_RULE not in steps
    rule = {step.row: step for step in explain(CASES["a rule blocks a compliant phone"].world(), "phone")}
    assert rule[Row.PLATFORM_RULE].params == {"level": "block", "characteristic": "DeviceType", "query": "IPHONE"}


# --- the page -------------------------------------------------------------------------------------------------------


def test_the_page_has_the_table() -> None:
    """docs/access.md: the rows in their order, each with the wishes and reasons that its cases here have."""
    rows = re.findall(r"^\| (\d+) \| `(\w+)` \| [^|]+ \| ([^|]+) \| ([^|]+) \|", PAGE.read_text(encoding="utf-8"), re.M)
    assert [(int(number), code) for number, code, _, _ in rows] == [(row.number, row.value) for row in Row]
    for _, code, wishes, reasons in rows:
        cases = [case for case in CASES.values() if case.row.value == code]
        assert set(re.findall(r"`(\w+)`", wishes)) == {
            "deny" if case.verdict.is_denial else case.access.value for case in cases
        }, code
        said = {case.reason.value for case in cases if case.access is not LEAVE and case.hindered_by is None}
        if said:
            assert set(re.findall(r"`(\w+)`", reasons)) == said, code
        else:
            assert "Exchange" in reasons, code


def test_the_page_has_every_hindrance() -> None:
    section = PAGE.read_text(encoding="utf-8").split("### Hindered\n", 1)[1].split("\n### ", 1)[0]
    assert re.findall(r"^\| `(\w+)` \|", section, re.M) == [hindrance.value for hindrance in Hindrance]

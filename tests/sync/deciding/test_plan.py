"""The fewest commands: what becomes of entries that are ours and others', of rules and settings, and in which order."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from sync.deciding.commands import CreateRule, RemoveRule, SetMailboxEntries, SetOrganizationSettings, SetRuleLevel
from sync.deciding.decide import decide
from sync.deciding.drift import Drift, DriftKind, drift
from sync.deciding.facts import (
    AccessRule,
    Choice,
    EasDevice,
    Entry,
    EntryChoice,
    ExchangeSettings,
    Key,
    Ledger,
    Level,
    Mailbox,
    OrganizationPolicy,
    Override,
    PersonalList,
    TenantPolicy,
)
from sync.deciding.matches import Match, Outcome
from sync.deciding.plan import Plan, plan
from sync.deciding.world import World
from tests.sync.facts import NOW, days, person, record

A, B = PersonalList.ALLOWED, PersonalList.BLOCKED
ALWAYS = TenantPolicy(control_on=True, always_allow_compliant=True)


def box(key: Key = "anna", allowed: tuple[str, ...] = (), blocked: tuple[str, ...] = (), **changes: Any) -> Mailbox:
    return Mailbox(key, f"guid-of-{key}", allowed=allowed, blocked=blocked, **changes)


def world(phones: dict[str, str], *mailboxes: Mailbox, ours: tuple[Entry, ...] = (), **changes: Any) -> World:
    """Phones by DeviceId ("mailbox/DeviceId", or of Anna), with the compliance of their records; "" for no record."""
    devices: list[EasDevice] = []
    matches: dict[Key, Match] = {}
    for name, compliance in phones.items():
        mailbox, _, device_id = name.rpartition("/")
        device = EasDevice(name, mailbox or "anna", device_id, "EAS", "iPhone", "iPhone14C5", "iOS 17.6", "agent")
        devices.append(device)
        outcome = Outcome.MATCHED if compliance else Outcome.UNMATCHED
        matches[name] = Match(outcome, record(compliance=compliance) if compliance else None, person())
    made = World(
        NOW,
        devices,
        matches,
        {mailbox.key: mailbox for mailbox in mailboxes or (box(),)},
        ALWAYS,
        exchange=ExchangeSettings(Level.QUARANTINE),
        ledger=Ledger(frozenset(ours)),
    )
    return replace(made, **changes)


def planned(made: World) -> Plan:
    return plan(made, decide(made))


def entries(mailbox: Key = "anna", stage: int = 1, **changes: Any) -> SetMailboxEntries:
    lists: dict[str, tuple[str, ...]] = dict.fromkeys(("allow_add", "allow_remove", "block_add", "block_remove"), ())
    return SetMailboxEntries(stage, mailbox, f"guid-of-{mailbox}", **{**lists, **changes})


TO_ALLOW = ExchangeSettings(Level.ALLOW)


class TestEntries:
    def test_nothing_to_do(self) -> None:
        assert planned(world({})) == Plan()
        assert planned(world({"Appl1": ""})).commands == ()
        ours = (Entry("anna", A, "Appl1"),)
        assert planned(world({"Appl1": "compliant"}, box(allowed=("APPL1",)), ours=ours)).commands == ()

    def test_ids_of_one_mailbox_go_in_one_command(self) -> None:
        phones = {"Appl1": "compliant", "Appl2": "compliant", "Appl3": ""}
        [command] = planned(world(phones, box(allowed=("Appl3",)), ours=(Entry("anna", A, "Appl3"),))).commands
        assert command == entries(
            allow_add=("Appl1", "Appl2"),
            allow_remove=("Appl3",),
            devices=("Appl1", "Appl2", "Appl3"),
            denies=("Appl3",),
        )

    def test_each_mailbox_has_its_own(self) -> None:
        made = world({"anna/Appl1": "compliant", "bert/Appl1": "compliant"}, box(), box("bert"))
        assert planned(made).commands == (
            entries("anna", allow_add=("Appl1",), devices=("anna/Appl1",)),
            entries("bert", allow_add=("Appl1",), devices=("bert/Appl1",)),
        )

    def test_an_id_is_added_as_the_phone_has_it_and_removed_as_it_stands(self) -> None:
        ours = (Entry("anna", B, "appl1"),)
        [command] = planned(world({"Appl1": "compliant"}, box(blocked=("aPPL1",)), ours=ours)).commands
        assert command == entries(allow_add=("Appl1",), block_remove=("aPPL1",), devices=("Appl1",))

    def test_all_spellings_of_what_is_ours_go(self) -> None:
        ours = (Entry("anna", A, "Appl1"),)
        [command] = planned(world({"Appl1": ""}, box(allowed=("Appl1", "APPL1")), ours=ours)).commands
        assert command == entries(allow_remove=("Appl1", "APPL1"), devices=("Appl1",), denies=("Appl1",))

    def test_a_phone_changes_lists_in_one_command(self) -> None:
        made = world({"Appl1": ""}, box(allowed=("Appl1",)), ours=(Entry("anna", A, "Appl1"),), exchange=TO_ALLOW)
        [command] = planned(made).commands
        assert command == entries(allow_remove=("Appl1",), block_add=("Appl1",), devices=("Appl1",), denies=("Appl1",))

    def test_what_is_ours_and_outlived_its_phone_is_withdrawn(self) -> None:
        made = world({}, box(allowed=("gone", "foreign")), ours=(Entry("anna", A, "GONE"),))
        assert planned(made).commands == (entries(allow_remove=("gone",)),)

    def test_a_block_by_an_administrator_outlives_the_phone(self) -> None:
        """It was stolen, its partnership removed: it must not come back through that."""
        made = world({}, box(blocked=("gone",)), ours=(Entry("anna", B, "gone"),))
        stolen = Override("anna", "Gone", Level.BLOCK)
        assert planned(replace(made, overrides=[stolen])).commands == ()
        over = replace(stolen, expires=days(-1))
        assert planned(replace(made, overrides=[over])).commands == (entries(block_remove=("gone",)),)

    def test_no_override_adds_an_entry_for_a_phone_that_is_not_there(self) -> None:
        assert planned(world({}, overrides=[Override("anna", "gone", Level.BLOCK)])).commands == ()

    @pytest.mark.parametrize("choice", [None, Choice.ADOPT, Choice.OVERRIDE])
    def test_foreign_entries_of_no_phone_stay(self, choice: Choice | None) -> None:
        choices = [EntryChoice("anna", A, "gone", choice)] if choice else []
        assert planned(world({}, box(allowed=("gone",)), choices=choices)).commands == ()

    @pytest.mark.parametrize("choice", [None, Choice.ADOPT, Choice.OVERRIDE])
    def test_a_foreign_allow_entry_goes_by_an_administrators_choice_alone(self, choice: Choice | None) -> None:
        choices = [EntryChoice("anna", A, "Appl1", choice)] if choice else []
        found = planned(world({"Appl1": ""}, box(allowed=("appl1",)), choices=choices, exchange=TO_ALLOW)).commands
        if choice is Choice.OVERRIDE:
            assert found == (
                entries(allow_remove=("appl1",), block_add=("Appl1",), devices=("Appl1",), denies=("Appl1",)),
            )
        else:
            assert found == ()

    def test_a_mailbox_that_is_not_known_gets_no_command(self) -> None:
        made = world({"gone/Appl1": "", "Appl2": "compliant"}, exchange=TO_ALLOW)
        assert planned(made).commands == ()

    def test_numbers_are_keys_as_well(self) -> None:
        made = world({"Appl1": "compliant"}, box(7))
        device = replace(made.devices[0], key=1, mailbox=7)
        [command] = planned(replace(made, devices=[device], matches={1: made.matches["Appl1"]})).commands
        assert command == entries(7, allow_add=("Appl1",), devices=(1,))


RULE = AccessRule("DeviceType", "iPhone", Level.BLOCK)
IN_EXCHANGE = replace(RULE, query="IPHONE", identity="IPHONE (DeviceType)")


def of_policy(made: World, **policy: Any) -> World:
    return replace(made, organization=OrganizationPolicy(**policy))


class TestSettings:
    def test_only_what_differs_is_set(self) -> None:
        made = world({}, exchange=ExchangeSettings(Level.ALLOW, (), "Old", ("a@x.test", "B@x.test")))
        wanted = {"default_level": Level.ALLOW, "admin_mail_recipients": ("b@x.test", "A@x.test")}
        assert planned(of_policy(made, **wanted)).commands == ()
        assert planned(of_policy(made, **wanted, user_mail_insert="New")).commands == (
            SetOrganizationSettings(user_mail_insert="New"),
        )
        assert planned(of_policy(made, admin_mail_recipients=())).commands == (
            SetOrganizationSettings(admin_mail_recipients=()),
        )

    def test_a_policy_that_says_nothing_changes_nothing(self) -> None:
        made = world({}, exchange=ExchangeSettings(Level.BLOCK, (IN_EXCHANGE,), "Insert", ("a@x.test",)))
        assert planned(made).commands == ()

    def test_rules(self) -> None:
        made = world({})
        assert planned(of_policy(made, rules=(RULE,))).commands == (CreateRule(RULE),)
        there = replace(made, exchange=ExchangeSettings(Level.QUARANTINE, (IN_EXCHANGE,)))
        assert planned(of_policy(there, rules=(RULE,))).commands == ()
        # Whoever made it: the policy governs the rules that it names.
        looser = replace(RULE, level=Level.ALLOW)
        assert planned(of_policy(there, rules=(looser,))).commands == (SetRuleLevel(IN_EXCHANGE, Level.ALLOW),)
        # Somebody else's, which the policy does not name.
        assert planned(there).commands == ()
        ours = replace(there, ledger=Ledger(rules=(RULE,)))
        assert planned(ours).commands == (RemoveRule(IN_EXCHANGE),)
        # Ours once, and gone already.
        assert planned(replace(made, ledger=Ledger(rules=(RULE,)))).commands == ()

    def test_what_denies_whom(self) -> None:
        made = of_policy(
            world({"Appl1": "compliant", "Appl2": "compliant"}, exchange=TO_ALLOW),
            default_level=Level.QUARANTINE,
            rules=(RULE,),
        )
        assert planned(made).commands == (
            CreateRule(RULE, denies=("Appl1", "Appl2")),
            SetOrganizationSettings(Level.QUARANTINE),
        )

    def test_as_it_is_enforces_nothing(self) -> None:
        made = of_policy(
            world({"Appl1": "compliant"}, exchange=ExchangeSettings(Level.ALLOW, (IN_EXCHANGE,))),
            default_level=Level.BLOCK,
            rules=(replace(RULE, level=Level.QUARANTINE),),
            user_mail_insert="New",
        )
        made = replace(made, ledger=Ledger(rules=(RULE, replace(RULE, query="gone"))))
        assert planned(made).settings != ()
        assert planned(made.as_it_is()).commands == ()
        # What is somebody else's is the same in both.
        assert drifted(made.as_it_is()) == drifted(made)


class TestStages:
    def test_settings_stand_between_what_they_rely_on_and_what_relies_on_them(self) -> None:
        """The default goes from allow to quarantine: who is to stay gets an entry first, blocks go when it is there."""
        ours = (Entry("anna", B, "Appl2"), Entry("anna", A, "gone"))
        made = of_policy(
            world(
                {"Appl1": "compliant", "Appl2": "", "bert/Appl3": "compliant"},
                box(blocked=("Appl2",), allowed=("gone",)),
                box("bert"),
                ours=ours,
                exchange=TO_ALLOW,
            ),
            default_level=Level.QUARANTINE,
        )
        assert planned(made).commands == (
            entries("anna", 1, allow_add=("Appl1",), devices=("Appl1",)),
            entries("bert", 1, allow_add=("Appl3",), devices=("bert/Appl3",)),
            SetOrganizationSettings(Level.QUARANTINE),
            entries("anna", 4, allow_remove=("gone",), block_remove=("Appl2",), devices=("Appl2",)),
        )

    def test_loosening_blocks_first(self) -> None:
        made = of_policy(world({"Appl1": "", "Appl2": "compliant"}), default_level=Level.ALLOW)
        assert planned(made).commands == (
            entries("anna", 2, block_add=("Appl1",), devices=("Appl1",)),
            SetOrganizationSettings(Level.ALLOW),
        )

    def test_rules_come_strict_first_and_go_strict_last(self) -> None:
        def rule(query: str, level: Level, identity: str = "") -> AccessRule:
            return AccessRule("DeviceModel", query, level, identity)

        old = tuple(rule(f"old {level}", level, level) for level in Level)
        changed = (rule("up", Level.ALLOW, "up"), rule("down", Level.BLOCK, "down"))
        made = replace(world({}, exchange=ExchangeSettings(Level.ALLOW, (*old, *changed))), ledger=Ledger(rules=old))
        new = tuple(rule(f"new {level}", level) for level in Level)
        wanted = (*new, rule("up", Level.BLOCK), rule("down", Level.ALLOW))
        commands = planned(of_policy(made, default_level=Level.BLOCK, rules=wanted)).commands
        assert commands == (
            CreateRule(rule("new block", Level.BLOCK)),
            CreateRule(rule("new quarantine", Level.QUARANTINE)),
            CreateRule(rule("new allow", Level.ALLOW)),
            SetRuleLevel(changed[0], Level.BLOCK),
            SetOrganizationSettings(Level.BLOCK),
            SetRuleLevel(changed[1], Level.ALLOW),
            RemoveRule(rule("old allow", Level.ALLOW, "allow")),
            RemoveRule(rule("old quarantine", Level.QUARANTINE, "quarantine")),
            RemoveRule(rule("old block", Level.BLOCK, "block")),
        )

    def test_mail_settings_let_nobody_in_and_split_no_command(self) -> None:
        ours = (Entry("anna", A, "gone"),)
        made = of_policy(
            world({"Appl1": "compliant"}, box(allowed=("gone",)), ours=ours), user_mail_insert="Please enrol."
        )
        assert planned(made).commands == (
            entries(allow_add=("Appl1",), allow_remove=("gone",), devices=("Appl1",)),
            SetOrganizationSettings(user_mail_insert="Please enrol."),
        )


def drifted(made: World) -> list[Drift]:
    return list(drift(made, decide(made)))


class TestDrift:
    def test_none(self) -> None:
        ours = (Entry("anna", A, "appl1"),)
        assert drifted(world({"Appl1": "compliant"}, box(allowed=("Appl1",)), ours=ours)) == []

    def test_foreign_allow_entries_are_shown_and_tell_whether_they_are_against_the_verdict(self) -> None:
        made = world({"Appl1": "compliant", "Appl2": ""}, box(allowed=("gone", "appl2", "Appl1")))
        assert drifted(made) == [
            Drift(DriftKind.FOREIGN_ALLOW, "anna", A, "Appl1", ("Appl1",)),
            Drift(DriftKind.FOREIGN_ALLOW, "anna", A, "appl2", ("Appl2",), against=True),
            Drift(DriftKind.FOREIGN_ALLOW, "anna", A, "gone"),
        ]

    def test_a_foreign_allow_beside_our_block_is_against_the_verdict(self) -> None:
        made = world({"Appl1": ""}, box(allowed=("Appl1",), blocked=("Appl1",)), ours=(Entry("anna", B, "Appl1"),))
        assert drifted(made) == [Drift(DriftKind.FOREIGN_ALLOW, "anna", A, "Appl1", ("Appl1",), against=True)]

    def test_foreign_block_entries_are_shown_where_they_keep_out(self) -> None:
        made = world({"Appl1": "compliant", "Appl2": ""}, box(blocked=("Appl1", "Appl2", "gone")))
        made = of_policy(made, denial=Level.BLOCK)
        assert drifted(made) == [Drift(DriftKind.FOREIGN_BLOCK, "anna", B, "Appl1", ("Appl1",), against=True)]

    def test_what_was_adopted_alarms_nobody(self) -> None:
        choices = [EntryChoice("anna", A, "Appl1", Choice.ADOPT), EntryChoice("anna", B, "Appl2", Choice.ADOPT)]
        made = world({"Appl1": "", "Appl2": "compliant"}, box(allowed=("Appl1",), blocked=("Appl2",)))
        assert drifted(replace(made, choices=choices)) == []

    def test_an_entry_of_ours_that_somebody_removed(self) -> None:
        made = world({"Appl1": "compliant"}, ours=(Entry("anna", A, "Appl1"), Entry("not here", A, "Appl1")))
        assert drifted(made) == [Drift(DriftKind.ENTRY_VANISHED, "anna", A, "Appl1", against=True)]
        assert planned(made).commands == (entries(allow_add=("Appl1",), devices=("Appl1",)),)

    def test_settings_that_somebody_changed(self) -> None:
        enforced = ExchangeSettings(Level.QUARANTINE, (), "Please enrol.", ("b@x.test", "a@x.test"))
        found = ExchangeSettings(Level.ALLOW, (), "", ("A@x.test", "B@x.test"))
        made = replace(world({}, exchange=found), ledger=Ledger(settings=enforced))
        assert drifted(made) == [
            Drift(DriftKind.DEFAULT_LEVEL, against=True, expected="quarantine", found="allow"),
            Drift(DriftKind.USER_MAIL_INSERT, against=True, expected="Please enrol.", found=""),
        ]
        more = replace(found, admin_mail_recipients=("c@x.test",))
        assert drifted(replace(made, exchange=more))[-1] == Drift(
            DriftKind.ADMIN_MAIL_RECIPIENTS, against=True, expected="a@x.test, b@x.test", found="c@x.test"
        )

    def test_settings_that_were_never_enforced_are_no_drift(self) -> None:
        assert drifted(world({}, exchange=ExchangeSettings(Level.BLOCK, (), "Insert"))) == []

    def test_rules(self) -> None:
        made = replace(world({}), ledger=Ledger(rules=(RULE,)))
        gone = Drift(DriftKind.RULE_REMOVED, against=True, rule=RULE, expected="block")
        assert drifted(made) == [gone]
        looser = replace(IN_EXCHANGE, level=Level.ALLOW)
        assert drifted(replace(made, exchange=ExchangeSettings(Level.QUARANTINE, (looser,)))) == [
            Drift(DriftKind.RULE_CHANGED, against=True, rule=looser, expected="block", found="allow")
        ]
        other = AccessRule("DeviceOS", "iOS 17.6", Level.ALLOW, "theirs")
        both = ExchangeSettings(Level.QUARANTINE, (other, IN_EXCHANGE))
        assert drifted(replace(made, exchange=both)) == [Drift(DriftKind.FOREIGN_RULE, rule=other, found="allow")]
        # Known when settings were last enforced, and changed since.
        enforced = replace(made, ledger=Ledger(rules=(RULE,), settings=replace(both, rules=(RULE, other))))
        stricter = replace(other, level=Level.BLOCK)
        assert drifted(replace(enforced, exchange=replace(both, rules=(stricter,)))) == [
            Drift(DriftKind.RULE_CHANGED, against=True, rule=stricter, expected="allow", found="block"),
            gone,
            Drift(DriftKind.FOREIGN_RULE, rule=stricter, found="block"),
        ]

"""How many would lose mail, when that is too many, and what goes ahead while the rest waits."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from sync.deciding.commands import Command, CreateRule, SetMailboxEntries, SetOrganizationSettings, SetRuleLevel
from sync.deciding.decide import decide
from sync.deciding.effects import Denial
from sync.deciding.facts import AccessRule, Entry, ExchangeSettings, Key, Level, OrganizationPolicy, PersonalList
from sync.deciding.guard import Guarded, Limits, guard, newly_denied
from sync.deciding.matches import Match, Outcome
from sync.deciding.plan import plan
from sync.deciding.world import World
from tests.sync.deciding.test_plan import TO_ALLOW, A, B, box, entries, world

NONE = Limits(devices=0, percent=0.0)


def guarded(made: World, limits: Limits | None = None, **options: Any) -> Guarded:
    options = {"total_devices": len(made.devices), **options}
    return guard(made, plan(made, decide(made)), limits=limits, **options)


def phones(number: int, compliance: str = "") -> dict[str, str]:
    return {f"Appl{index:03d}": compliance for index in range(number)}


def denials(number: int, after: Level = Level.BLOCK) -> tuple[Denial, ...]:
    return tuple(Denial(name, Level.ALLOW, after) for name in phones(number))


class TestWhoLosesMail:
    def test_who_has_it_and_would_not(self) -> None:
        made = world({"Appl1": "", "Appl2": "compliant"}, exchange=TO_ALLOW)
        assert newly_denied(made, plan(made, decide(made))) == (Denial("Appl1", Level.ALLOW, Level.BLOCK),)

    def test_who_has_none_loses_none(self) -> None:
        """Quarantined already, and to be blocked."""
        made = replace(world({"Appl1": ""}), organization=OrganizationPolicy(denial=Level.BLOCK))
        assert newly_denied(made, plan(made, decide(made))) == ()

    def test_a_mailbox_without_activesync_loses_nothing(self) -> None:
        made = world({"Appl1": ""}, box(activesync_enabled=False), exchange=TO_ALLOW)
        assert newly_denied(made, plan(made, decide(made))) == ()

    def test_outlook_loses_by_the_default_level_too(self) -> None:
        made = world({"Appl1": "compliant"}, exchange=TO_ALLOW)
        outlook = replace(made.devices[0], client_type="Outlook")
        made = replace(made, devices=[outlook], organization=OrganizationPolicy(default_level=Level.QUARANTINE))
        matches: dict[Key, Match] = {"Appl1": Match(Outcome.NOT_ACTIVE_SYNC)}
        made = replace(made, matches=matches)
        assert newly_denied(made, plan(made, decide(made))) == (Denial("Appl1", Level.ALLOW, Level.QUARANTINE),)

    def test_the_preview_of_a_stricter_default(self) -> None:
        """Compliant phones that are not always allowed, and one that a foreign entry lets in."""
        made = world({**phones(3, "compliant"), "Appl9": "compliant"}, box(allowed=("Appl9",)), exchange=TO_ALLOW)
        made = replace(made, tenant=replace(made.tenant, always_allow_compliant=False))
        assert newly_denied(made, plan(made, decide(made))) == ()
        preview = replace(made, organization=OrganizationPolicy(default_level=Level.QUARANTINE))
        assert newly_denied(preview, plan(preview, decide(preview))) == denials(3, Level.QUARANTINE)


class TestLimits:
    @pytest.mark.parametrize(
        ("number", "total", "recently", "is_over"),
        [
            (10, 10, 0, False),
            (11, 11, 0, True),
            (11, 220, 0, False),
            (12, 220, 0, True),
            (1, 200, 10, True),
            (1, 220, 10, False),
            (0, 10, 100, False),
        ],
        ids=[
            "as many as may be, all of them",
            "one more",
            "five of a hundred, and no more",
            "more than both",
            "with those of a short while ago",
            "with those, but few of a hundred",
            "nobody now",
        ],
    )
    def test_more_than_both(self, number: int, total: int, recently: int, is_over: bool) -> None:
        found = guarded(world(phones(number), exchange=TO_ALLOW), total_devices=total, recently_denied=recently)
        assert found.is_over is is_over
        assert (found.counted, found.denials) == (number + recently, denials(number))
        assert bool(found.held) is is_over

    @pytest.mark.parametrize(
        ("number", "total", "at_most", "is_passed"),
        [
            pytest.param(2_500, 50_000, None, False, id="five of a hundred of a large one, without a further limit"),
            pytest.param(1_000, 50_000, 1_000, False, id="as many as may be at most"),
            pytest.param(1_001, 50_000, 1_000, True, id="one more, and two of a hundred"),
            pytest.param(8, 50_000, 5, False, id="few are few"),
            pytest.param(11, 200, 1_000, True, id="both of the others, as ever"),
        ],
    )
    def test_of_a_large_organization_so_many_wait_whatever_the_percentage(
        self, number: int, total: int, at_most: int | None, is_passed: bool
    ) -> None:
        assert Limits(at_most=at_most).are_passed(number, total) is is_passed

    def test_the_further_limit_holds_a_plan(self) -> None:
        made = world(phones(13), exchange=TO_ALLOW)
        assert guarded(made, Limits(10, 5.0), total_devices=1_000).is_over is False
        found = guarded(made, Limits(10, 5.0, 12), total_devices=1_000)
        assert (found.is_over, len(found.denials), len(found.held), found.go) == (True, 13, 1, ())

    def test_the_percentage_is_told(self) -> None:
        assert guarded(world(phones(3), exchange=TO_ALLOW), total_devices=60).percent == 5.0
        assert guarded(world({}), total_devices=0).percent == 0.0

    def test_raised_for_this_time(self) -> None:
        found = guarded(world(phones(20), exchange=TO_ALLOW), Limits(20, 5.0))
        assert (found.is_over, found.held) == (False, ())

    def test_who_was_approved_passes_and_is_not_counted(self) -> None:
        made = world(phones(12), exchange=TO_ALLOW)
        partnerships = [device.partnership for device in made.devices]
        found = guarded(made, approved=partnerships[:1])
        assert (found.is_over, found.counted, found.approved, len(found.denials)) == (True, 11, denials(1), 11)
        [go], [held] = found.go, found.held
        assert go == entries(block_add=("Appl000",), devices=("Appl000",), denies=("Appl000",))
        assert isinstance(held, SetMailboxEntries)
        assert len(held.block_add) == 11
        assert guarded(made, approved=partnerships).held == ()

    @pytest.mark.parametrize(
        ("number", "barred", "approved", "expected"),
        [
            (1, 1, 0, (False, 0, 0, 0)),
            (12, 12, 0, (False, 0, 0, 0)),
            (12, 2, 0, (False, 10, 10, 0)),
            (13, 2, 0, (True, 11, 11, 0)),
            (13, 2, 13, (False, 0, 0, 11)),
        ],
        ids=[
            "however few they are",
            "however many they are",
            "they are not counted",
            "others may be too many all the same",
            "who is barred was approved in vain",
        ],
    )
    def test_who_is_barred_waits_and_is_not_counted(
        self, number: int, barred: int, approved: int, expected: tuple[bool, int, int, int]
    ) -> None:
        made = world(phones(number), exchange=TO_ALLOW)
        partnerships = [device.partnership for device in made.devices]
        found = guarded(made, barred=partnerships[:barred], approved=partnerships[:approved])
        assert (found.is_over, found.counted, len(found.denials), len(found.approved)) == expected
        going = {key for command in found.go for key in command.denies}
        held = {key for command in found.held for key in command.denies}
        waiting = set(phones(number if found.is_over else barred))
        assert (going, held) == (set(phones(number)) - waiting, waiting)

    def test_a_barred_phone_keeps_its_mail_and_others_are_let_in(self) -> None:
        made = world({"Appl1": "", "Appl2": "compliant"}, box(blocked=("Appl2",)), exchange=TO_ALLOW)
        made = replace(
            made, ledger=replace(made.ledger, entries=frozenset({Entry("anna", PersonalList.BLOCKED, "Appl2")}))
        )
        found = guarded(made, barred=[made.devices[0].partnership])
        assert [one.block_remove for one in found.go if isinstance(one, SetMailboxEntries)] == [("Appl2",)]
        assert [one.block_add for one in found.held if isinstance(one, SetMailboxEntries)] == [("Appl1",)]

    def test_one_that_stands_for_many_counts_as_many(self) -> None:
        made = world(phones(2), exchange=TO_ALLOW)
        found = guarded(made, total_devices=100, weights={"Appl000": 9, "Appl001": 3})
        assert (found.is_over, found.counted, found.percent) == (True, 12, 12.0)
        assert not guarded(made, total_devices=100, weights={"Appl000": 9, "Appl001": 1}).is_over

    def test_without_denials_all_goes_ahead_whatever_the_limits(self) -> None:
        made = world(phones(50, "compliant"))
        assert guarded(made, NONE).go == plan(made, decide(made)).commands


class TestWhatGoesAhead:
    """Nobody may be denied: Appl1 is to be, and has mail."""

    def go(self, made: World) -> tuple[tuple[Command, ...], tuple[Command, ...]]:
        found = guarded(made, NONE)
        assert found.is_over
        return found.go, found.held

    def test_a_mailbox_is_split(self) -> None:
        ours = (Entry("anna", B, "Appl2"),)
        made = world({"Appl1": "", "Appl2": "compliant"}, box(blocked=("Appl2",)), ours=ours, exchange=TO_ALLOW)
        assert self.go(made) == (
            (entries(block_remove=("Appl2",), allow_add=("Appl2",), devices=("Appl2",)),)
            if decide(made)["Appl2"].entry is PersonalList.ALLOWED
            else (entries(block_remove=("Appl2",), devices=("Appl2",)),),
            (entries(block_add=("Appl1",), devices=("Appl1",), denies=("Appl1",)),),
        )

    def test_a_withdrawal_that_denies_waits(self) -> None:
        made = world({"Appl1": "", "Appl2": "compliant"}, box(allowed=("Appl1",)), ours=(Entry("anna", A, "Appl1"),))
        assert self.go(made) == (
            (entries(allow_add=("Appl2",), devices=("Appl2",)),),
            (entries(allow_remove=("Appl1",), devices=("Appl1",), denies=("Appl1",)),),
        )

    def test_a_stricter_default_waits_and_who_is_to_stay_has_an_entry_already(self) -> None:
        made = world({"Appl1": "", "Appl2": "compliant"}, exchange=TO_ALLOW)
        made = replace(made, organization=OrganizationPolicy(Level.QUARANTINE, user_mail_insert="Please enrol."))
        assert self.go(made) == (
            (
                entries(allow_add=("Appl2",), devices=("Appl2",)),
                SetOrganizationSettings(user_mail_insert="Please enrol."),
            ),
            (SetOrganizationSettings(Level.QUARANTINE, denies=("Appl1",)),),
        )

    def test_a_block_that_a_default_makes_room_for_stays_while_that_waits(self) -> None:
        """Appl2 is blocked by us, and is to be quarantined by the new default: not let in meanwhile."""
        ours = (Entry("anna", B, "Appl2"),)
        made = world({"Appl1": "", "Appl2": ""}, box(blocked=("Appl2",)), ours=ours, exchange=TO_ALLOW)
        made = replace(made, organization=OrganizationPolicy(Level.QUARANTINE))
        assert self.go(made) == (
            (),
            (
                SetOrganizationSettings(Level.QUARANTINE, denies=("Appl1",)),
                entries("anna", 4, block_remove=("Appl2",), devices=("Appl2",)),
            ),
        )

    def test_a_looser_default_goes_ahead(self) -> None:
        """Appl1 is let in by an entry of ours, and is to be blocked; Bert's phone may have mail by the default."""
        made = world(
            {"Appl1": "", "bert/Appl2": "compliant"},
            box(allowed=("Appl1",)),
            box("bert"),
            ours=(Entry("anna", A, "Appl1"),),
        )
        made = replace(made, organization=OrganizationPolicy(Level.ALLOW))
        go, held = self.go(made)
        assert go == (SetOrganizationSettings(Level.ALLOW),)
        assert held == (entries(allow_remove=("Appl1",), block_add=("Appl1",), devices=("Appl1",), denies=("Appl1",)),)

    def test_unless_it_relies_on_a_block_that_waits(self) -> None:
        """Two phones of one id: a rule lets the Android in, the default keeps the iPhone out. The block for both waits
        for the Android's sake; were the default loosened before, the iPhone would be let in."""
        made = world({"Appl1": "", "Appl2": ""})
        devices = [replace(device, device_id="Appl") for device in made.devices]
        devices[0] = replace(devices[0], device_type="Android")
        rule = AccessRule("DeviceType", "Android", Level.ALLOW, "1")
        made = replace(
            made,
            devices=devices,
            exchange=ExchangeSettings(Level.QUARANTINE, (rule,)),
            organization=OrganizationPolicy(Level.ALLOW),
        )
        go, held = self.go(made)
        assert go == ()
        assert held == (
            entries("anna", 2, block_add=("Appl",), devices=("Appl1", "Appl2"), denies=("Appl1",)),
            SetOrganizationSettings(Level.ALLOW),
        )

    def test_a_rule_that_denies_waits_and_one_that_allows_does_not(self) -> None:
        made = world({"Appl1": "compliant", "Appl2": "compliant"}, exchange=TO_ALLOW)
        devices = [made.devices[0], replace(made.devices[1], device_type="Android")]
        block, allow = AccessRule("DeviceType", "iPhone", Level.BLOCK), AccessRule("DeviceType", "Android", Level.ALLOW)
        made = replace(made, devices=devices, organization=OrganizationPolicy(rules=(block, allow)))
        assert self.go(made) == ((CreateRule(allow),), (CreateRule(block, denies=("Appl1",)),))

    def test_a_rule_that_loosens_goes_ahead(self) -> None:
        """Two rules of the policy: the one for Android is loosened, the one for iPhones is tightened and waits."""
        old = (
            AccessRule("DeviceType", "iPhone", Level.ALLOW, "1"),
            AccessRule("DeviceType", "Android", Level.BLOCK, "2"),
        )
        made = world({"Appl1": "compliant", "Appl2": "compliant"}, exchange=ExchangeSettings(Level.QUARANTINE, old))
        devices = [made.devices[0], replace(made.devices[1], device_type="Android")]
        wanted = (replace(old[0], level=Level.QUARANTINE), replace(old[1], level=Level.ALLOW))
        made = replace(made, devices=devices, organization=OrganizationPolicy(rules=wanted))
        assert self.go(made) == (
            (SetRuleLevel(old[1], Level.ALLOW),),
            (SetRuleLevel(old[0], Level.QUARANTINE, denies=("Appl1",)),),
        )

    def test_what_waited_is_planned_anew_and_passes_when_approved(self) -> None:
        made = world(phones(30), exchange=TO_ALLOW)
        first = guarded(made)
        assert (first.go, len(first.denials)) == ((), 30)
        approved = {device.partnership for device in made.devices}
        again = guarded(made, approved=approved)
        assert again.go == plan(made, decide(made)).commands


def test_many_phones_take_no_square_of_time() -> None:
    """20,000 phones lose mail by a stricter default: all is held, within seconds."""
    made = world(phones(20_000, "noncompliant"), exchange=TO_ALLOW)
    made = replace(made, organization=OrganizationPolicy(Level.QUARANTINE))
    found = guarded(made)
    assert len(found.denials) == 20_000
    assert found.go == ()

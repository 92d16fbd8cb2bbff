"""After a plan is carried out, Exchange's own evaluation gives each phone exactly its verdict.

Exchange is the lab's, in this process; it shares no code with the product, and each knows the order of evaluation from
the documents alone.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from random import Random

from hypothesis import given, note, settings
from hypothesis import strategies as st

from sync.deciding.commands import Command, SetMailboxEntries
from sync.deciding.decide import decide, explain
from sync.deciding.facts import Access, Key, Partnership, PersonalList, State
from sync.deciding.guard import Limits, guard, newly_denied
from sync.deciding.plan import plan
from sync.deciding.verdicts import Row
from sync.deciding.world import World
from tests.agreement.worlds import Organization, organizations

# From the strictest to the freest.
ORDER = ("blocked", "quarantined", "allowed")
MANY, SOME = settings(max_examples=250, deadline=None), settings(max_examples=100, deadline=None)


def is_between(level: str, one: str, other: str) -> bool:
    ends = (ORDER.index(one), ORDER.index(other))
    return min(ends) <= ORDER.index(level) <= max(ends)


def carried_out(organization: Organization, world: World) -> None:
    """Everything, one after another. Exchange gives each phone its verdict then, and on the way no phone is stricter or
    freer than both before and after. Whose mailbox has ActiveSync off is told so; and the state is unknown where the
    header that no listing shows would tell, and nowhere else."""
    verdicts = decide(world)
    steps = [organization.evaluated()]
    for command in plan(world, verdicts).commands:
        organization.carry_out(command)
        steps.append(organization.evaluated())
    before, after = steps[0], steps[-1]
    for step in steps:
        assert all(is_between(level, before[key], after[key]) for key, level in step.items())
    silent, heard = organization.answers(header=""), organization.answers(header="x")
    for key, verdict in verdicts.items():
        assert verdict.is_off is (silent[key] == "Disabled")
        is_unknown = verdict.state is State.UNKNOWN
        if not verdict.is_off:
            assert is_unknown is (silent[key] != heard[key])
            assert is_unknown or after[key] == str(verdict.state)


def carry_out(
    organization: Organization, commands: Iterable[Command], before: dict[Key, str], after: dict[Key, str]
) -> None:
    """One after another; after each, no phone is stricter or freer than both before and after all of them."""
    for command in commands:
        organization.carry_out(command)
        for key, level in organization.evaluated().items():
            assert is_between(level, before[key], after[key]), f"{key} is {level} after {command}"


def expected(organization: Organization, world: World) -> dict[Key, str]:
    """What the verdicts say of the phones that get as far as the lists."""
    verdicts = decide(world)
    return {key: str(verdicts[key].state) for key in organization.evaluated()}


@MANY
@given(organizations(unseen=True))
def test_exchange_gives_each_phone_its_verdict(organization: Organization) -> None:
    world = organization.world()
    verdicts = decide(world)
    planned = plan(world, verdicts)
    note(f"{verdicts}\n{planned.commands}")
    carried_out(organization, world)
    again = organization.world()
    # The same, but that an entry that a person overrode has gone.
    assert decide(again) == {key: replace(verdict, overrides=()) for key, verdict in verdicts.items()}
    assert plan(again, decide(again)).commands == ()


@SOME
@given(organizations(unseen=True))
def test_a_sync_that_enforces_no_settings_agrees_as_well(organization: Organization) -> None:
    """Quick and person lanes: rules and default level stay, and the verdicts are about these."""
    world = organization.world().as_it_is()
    planned = plan(world, decide(world))
    assert all(isinstance(command, SetMailboxEntries) for command in planned.commands)
    carried_out(organization, world)
    again = organization.world().as_it_is()
    assert plan(again, decide(again)).commands == ()


@SOME
@given(organizations(), st.randoms(use_true_random=False))
def test_no_input_needs_an_order(organization: Organization, random: Random) -> None:
    world = organization.world()
    verdicts = decide(world)
    commands = plan(world, verdicts).commands
    for name in ("records", "users", "links"):
        random.shuffle(getattr(organization, name))
    shuffled = _shuffled(organization.world(), random)
    assert decide(shuffled) == verdicts
    assert plan(shuffled, decide(shuffled)).commands == commands


def _shuffled(world: World, random: Random) -> World:
    devices, overrides, choices = list(world.devices), list(world.overrides), list(world.choices)
    mailboxes = list(world.mailboxes.items())
    for each in (devices, overrides, choices, mailboxes):
        random.shuffle(each)
    return replace(world, devices=devices, overrides=overrides, choices=choices, mailboxes=dict(mailboxes))


@SOME
@given(organizations())
def test_foreign_entries_go_by_a_persons_choice_alone(organization: Organization) -> None:
    def foreign() -> set[tuple[int, PersonalList, str]]:
        ours = {(entry.mailbox, entry.listed, entry.device_id.lower()) for entry in organization.ledger.entries}
        return {
            (number, listed, device_id.lower())
            for number, mailbox in enumerate(organization.mailboxes)
            for listed, ids in ((PersonalList.ALLOWED, mailbox.allowed), (PersonalList.BLOCKED, mailbox.blocked))
            for device_id in ids
            if (number, listed, device_id.lower()) not in ours
        }

    before = foreign()
    overridden = {
        (choice.mailbox, choice.listed, choice.device_id.lower())
        for choice in organization.choices
        if choice.choice == "override"
    }
    world = organization.world()
    for command in plan(world, decide(world)).commands:
        organization.carry_out(command)
    assert before - foreign() <= overridden


@SOME
@given(organizations())
def test_who_would_lose_mail_is_who_loses_it(organization: Organization) -> None:
    world = organization.world()
    planned = plan(world, decide(world))
    before = organization.evaluated()
    denials = {denial.device: (str(denial.before), str(denial.after)) for denial in newly_denied(world, planned)}
    for command in planned.commands:
        organization.carry_out(command)
    after = organization.evaluated()
    lost = {key for key, level in before.items() if level == "allowed" and after[key] != "allowed"}
    assert set(denials) == lost
    # Each is said to lose it by one command.
    assert sorted(key for command in planned.commands for key in command.denies) == sorted(lost)


@MANY
@given(organizations(), st.integers(0, 3), st.data())
def test_what_goes_ahead_denies_nobody_who_waits(organization: Organization, limit: int, data: st.DataObject) -> None:
    world = organization.world()
    verdicts = decide(world)
    planned = plan(world, verdicts)
    partnerships = {device.key: device.partnership for device in world.devices}
    approved: set[Partnership] = {
        partnerships[denial.device] for denial in newly_denied(world, planned) if data.draw(st.booleans())
    }
    guarded = guard(world, planned, total_devices=len(world.devices), limits=Limits(limit, 1.0), approved=approved)
    note(f"{planned.commands}\n{guarded}")
    before, wanted = organization.evaluated(), expected(organization, world)
    carry_out(organization, guarded.go, before, wanted)
    after = organization.evaluated()
    if not guarded.is_over:
        assert guarded.go == planned.commands
        assert after == wanted
        return
    for denial in guarded.denials:
        assert after[denial.device] == "allowed"
    for key, level in after.items():
        if verdicts[key].access is Access.ALLOW and verdicts[key].state is State.ALLOWED:
            assert level == "allowed"
    # What waits is planned anew: it is approved then, or waits again, and either way comes to the verdicts.
    later = organization.world()
    rest = plan(later, decide(later))
    for command in rest.commands:
        organization.carry_out(command)
    assert organization.evaluated() == wanted


@SOME
@given(organizations(unseen=True))
def test_a_phone_among_others_gets_the_verdict_that_it_gets_alone(organization: Organization) -> None:
    """Phones of equal cases are asked about once; here the table is walked anew for each, with those of its id."""
    world = organization.world()
    verdicts = decide(world)
    for partnership in {device.partnership for device in world.devices}:
        alone = [device for device in world.devices if device.partnership == partnership]
        assert decide(replace(world, devices=alone)) == {device.key: verdicts[device.key] for device in alone}


@SOME
@given(organizations(unseen=True))
def test_the_explanation_ends_with_the_row_that_spoke(organization: Organization) -> None:
    world = organization.world()
    for key, verdict in decide(world).items():
        steps = explain(world, key)
        assert [step.row for step in steps if step.spoke][-1] is verdict.row
        asked = [step.row.number for step in steps if step.row is not Row.GRANDFATHERED]
        assert asked == list(range(1, len(asked) + 1))

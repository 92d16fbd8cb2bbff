"""Guard on a few that stand for all, told in parts, says what guard says of the whole."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from sync.deciding.commands import Command, SetMailboxEntries, SettingsCommand
from sync.deciding.crowd import Crowd, Weighed, denied_in
from sync.deciding.decide import decide
from sync.deciding.effects import counted, levels, listed_now
from sync.deciding.facts import Key, Level, State
from sync.deciding.guard import Guarded, Limits, guard, newly_denied
from sync.deciding.plan import plan
from sync.deciding.world import World
from tests.agreement.worlds import Organization, organizations


def parts(world: World, size: int) -> Iterator[World]:
    """Some mailboxes at a time; at last the phones whose mailbox is not among any."""
    keys = list(world.mailboxes)
    for start in range(0, len(keys), size):
        boxes = {key: world.mailboxes[key] for key in keys[start : start + size]}
        yield replace(world, mailboxes=boxes, devices=[one for one in world.devices if one.mailbox in boxes])
    yield replace(world, mailboxes={}, devices=[one for one in world.devices if one.mailbox not in world.mailboxes])


def settings_of(commands: tuple[Command, ...]) -> tuple[SettingsCommand, ...]:
    return tuple(one for one in commands if not isinstance(one, SetMailboxEntries))


def as_weighed(world: World, found: Guarded) -> Weighed:
    """What guard says, in a crowd's words."""
    partnerships = {device.key: device.partnership for device in world.devices}
    entries = [command for command in found.go if isinstance(command, SetMailboxEntries)]
    return Weighed(
        mailboxes=tuple(dict.fromkeys(command.mailbox for command in entries)),
        settings=settings_of(found.go),
        may_deny=frozenset(partnerships[key] for command in found.go for key in command.denies),
        settings_held=settings_of(found.held),
        waiting=frozenset(denial.device for denial in found.denials) if found.is_over else frozenset(),
        denied_later=frozenset(key for command in found.held for key in command.denies),
        lets_in=lets_in(world, found),
        is_nothing=not (found.go or found.held),
    )


def lets_in(world: World, found: Guarded) -> int:
    verdicts = decide(world)
    touched: set[Key] = {key for one in found.go if isinstance(one, SetMailboxEntries) for key in one.devices}
    now = levels(counted(world), listed_now(world), world.exchange)
    is_general = any(getattr(one, "default_level", "a rule") is not None for one in settings_of(found.go))
    return sum(
        1
        for key, level in now.items()
        if level is not Level.ALLOW and verdicts[key].state is State.ALLOWED and (is_general or key in touched)
    )


@settings(max_examples=100, deadline=None)
@given(organizations(), st.integers(0, 3), st.integers(1, 3), st.data())
def test_a_crowd_is_weighed_as_the_whole(
    organization: Organization, limit: int, size: int, data: st.DataObject
) -> None:
    world = organization.world()
    planned = plan(world, decide(world))
    losing = sorted({world_partnership(world, denial.device) for denial in newly_denied(world, planned)}, key=str)
    approved = [one for one in losing if data.draw(st.booleans())]
    barred = [one for one in losing if data.draw(st.sampled_from((True, False, False)))]
    options: dict[str, Any] = {
        "total_devices": len(world.devices),
        "limits": Limits(limit, 0.0),
        "recently_denied": limit % 2,
    }

    crowd = Crowd()
    for part in parts(world, size):
        of_part = decide(part)
        crowd.add(part, of_part, plan(part, of_part), approved=approved, barred=barred)
    found = guard(world, planned, approved=approved, barred=barred, **options)

    assert crowd.weigh(**options) == as_weighed(world, found)
    assert denied_in(planned) == {denial.device for denial in newly_denied(world, planned)}


def world_partnership(world: World, key: Key) -> tuple[Key, str]:
    return next(device.partnership for device in world.devices if device.key == key)

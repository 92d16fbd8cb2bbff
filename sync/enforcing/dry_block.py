"""Some mailboxes of a dry run: what would be sent about them, what would wait, and a line for each device.

What would wait is what the whole plan holds beyond that which may go ahead now: denials that are too many, and
whatever comes only together with them. Reads alone.
"""

from __future__ import annotations

import uuid
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from sync.acting.deeds import deed_of_plan
from sync.acting.journal import Intent
from sync.acting.prepare import entries_intent
from sync.acting.replan import replanned
from sync.blocks import blocks
from sync.deciding.commands import EntryChange, SetMailboxEntries, SettingsCommand, is_about_access
from sync.deciding.decide import decide
from sync.deciding.effects import after_all, counted, levels, listed_after, listed_now
from sync.deciding.facts import Key
from sync.deciding.plan import Plan, commands_of, plan
from sync.deciding.verdicts import Verdict
from sync.deciding.world import World
from sync.enforcing.judging import Judged
from sync.enforcing.loading import Loaded
from sync.enforcing.world_rows import IN
from sync.events import storable
from sync.models import DryRunLine, Mailbox, MobileDevice
from sync.models.devices import person_name

CHANGED, HELD, UNCHANGED = DryRunLine.Effect.CHANGED, DryRunLine.Effect.HELD, DryRunLine.Effect.UNCHANGED


@dataclass(frozen=True, slots=True)
class Line:
    """Values of a DryRunLine: person to commands_held, in the order of its columns. public_id: the device's."""

    public_id: uuid.UUID | None
    effect: str
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Block:
    lines: list[Line]
    intents: list[Intent]


@dataclass(slots=True)
class _Texts:
    """PowerShell texts: of each device, and of mailboxes where a command names none."""

    of_devices: dict[Key, list[str]] = field(default_factory=lambda: defaultdict(list))
    of_nobody: list[tuple[SetMailboxEntries, str]] = field(default_factory=list)

    def add(self, command: SetMailboxEntries, text: str) -> None:
        for device in command.devices:
            self.of_devices[device].append(text)
        if not command.devices:
            self.of_nobody.append((command, text))


def block_of(loaded: Loaded, judged: Judged, going_mailboxes: Collection[int], *, are_settings_wanted: bool) -> Block:
    """What a run would do about these mailboxes that acts as it was judged. going_mailboxes: judged.mailboxes, to be
    looked up in; are_settings_wanted: whether runs of this kind enforce settings and rules."""
    verdicts = decide(loaded.world)
    world = loaded.world if are_settings_wanted else loaded.world.as_it_is()
    wanted = verdicts if are_settings_wanted else decide(world)
    planned = plan(world, wanted)
    found = replanned(world, wanted, planned, may_deny=judged.may_deny, settings=judged.settings)
    mailboxes = [mailbox for mailbox in sorted(found.commands) if mailbox in going_mailboxes]
    going = {change for change in found.changes if change.partnership[0] in going_mailboxes}
    held = tuple(change for change in planned.changes if change not in going)
    sent, waiting, intents = _Texts(), _Texts(), list[Intent]()
    for command in (command for mailbox in mailboxes for command in found.commands[mailbox]):
        intents.append(entries_intent(command, found))
        sent.add(command, storable(intents[-1].deed.text()))
    for held_command in commands_of(world, held, planned.settings, ()):
        if isinstance(held_command, SetMailboxEntries):
            waiting.add(held_command, storable(deed_of_plan(held_command).text()))
    effects = _effects(world, planned, going, held, judged.settings)
    lines = [*_device_lines(verdicts, effects, sent, waiting), *_other_lines(world, sent, waiting)]
    return Block(lines, intents)


def _effects(
    world: World,
    planned: Plan,
    going: Collection[EntryChange],
    held: Collection[EntryChange],
    settings: tuple[SettingsCommand, ...],
) -> dict[Key, str]:
    """Of the devices that something would become of. settings: those that go."""
    found: dict[Key, str] = {key: CHANGED for change in going for key in change.devices}
    if any(is_about_access(command) for command in planned.settings):
        devices, now = counted(world), listed_now(world)
        before = levels(devices, now, world.exchange)
        between = levels(devices, listed_after(now, going), after_all(world.exchange, settings))
        after = levels(devices, listed_after(now, planned.changes), after_all(world.exchange, planned.settings))
        found.update((key, CHANGED) for key in before if before[key] is not between[key])
        found.update((key, HELD) for key in before if between[key] is not after[key])
    found.update((key, HELD) for change in held for key in change.devices)
    return found


# --- lines ------------------------------------------------------------------------------------------------------------


def _device_lines(
    verdicts: Mapping[Key, Verdict], effects: Mapping[Key, str], sent: _Texts, waiting: _Texts
) -> Iterator[Line]:
    rows = MobileDevice.objects.values_list(
        "pk", "public_id", "user_display_name", "mailbox", "owner__primary_smtp", "friendly_name", "device_model",
        "device_id", "access_state",
    )  # fmt: skip
    for chosen in blocks(verdicts, IN):
        for pk, public_id, name, mailbox, address, *device, device_id, shown in rows.filter(pk__in=chosen):
            verdict, effect = verdicts[pk], str(effects.get(pk, UNCHANGED))
            texts: tuple[Any, ...] = (
                person_name(name, mailbox),
                address or mailbox,
                device[0] or device[1],
                device_id,
                shown,
                verdict.access,
                verdict.state,
                verdict.reason,
                verdict.row,
                verdict.hindered_by or "",
                effect,
                "\n".join(sent.of_devices.get(pk, ())),
                "\n".join(waiting.of_devices.get(pk, ())),
            )
            yield Line(public_id, effect, tuple(map(str, texts)))


def _other_lines(world: World, sent: _Texts, waiting: _Texts) -> Iterator[Line]:
    """Of entries whose device is gone."""
    commands = [(command, text, CHANGED) for command, text in sent.of_nobody]
    commands += [(command, text, HELD) for command, text in waiting.of_nobody]
    names: dict[Key, str] = {}
    for chosen in blocks({command.mailbox for command, *_ in commands}, IN):
        names.update(Mailbox.objects.filter(pk__in=chosen).values_list("pk", "display_name"))
    for command, text, effect in commands:
        ids = (*command.allow_add, *command.allow_remove, *command.block_add, *command.block_remove)
        texts = (text, "") if effect == CHANGED else ("", text)
        yield Line(
            None,
            str(effect),
            (
                person_name(names.get(command.mailbox, ""), ""),
                world.mailboxes[command.mailbox].primary_smtp,
                "",
                ", ".join(ids)[:255],
                *[""] * 6,
                str(effect),
                *texts,
            ),
        )

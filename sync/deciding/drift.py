"""Drift: what in Exchange is not as Gatehouse left it, or is somebody else's and stands beside its verdicts.

Refuses to mend: what is enforced is plan's to say, and an entry of others goes only by a person's choice. What a person
adopted alarms nobody.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

from sync.deciding.entries import Named, Whose, entries_of
from sync.deciding.facts import AccessRule, Key, Level, Partnership, PersonalList, id_key
from sync.deciding.verdicts import Hindrance, Verdict
from sync.deciding.world import World


class DriftKind(StrEnum):
    FOREIGN_ALLOW = "foreignAllow"
    FOREIGN_BLOCK = "foreignBlock"
    ENTRY_VANISHED = "entryVanished"  # ours, and somebody took it away
    DEFAULT_LEVEL = "defaultLevel"
    USER_MAIL_INSERT = "userMailInsert"
    ADMIN_MAIL_RECIPIENTS = "adminMailRecipients"
    RULE_CHANGED = "ruleChanged"
    RULE_REMOVED = "ruleRemoved"
    FOREIGN_RULE = "foreignRule"  # neither made by us nor named by the policy


@dataclass(frozen=True, slots=True)
class Drift:
    """devices: the phones that an entry names; none where it outlived them. against: it stands against what the table
    wants for one of them, or the setting against what was enforced. expected, found: as text, of settings and rules."""

    kind: DriftKind
    mailbox: Key | None = None
    listed: PersonalList | None = None
    device_id: str = ""
    devices: tuple[Key, ...] = ()
    against: bool = False
    rule: AccessRule | None = None
    expected: str = ""
    found: str = ""


def drift(world: World, verdicts: Mapping[Key, Verdict]) -> tuple[Drift, ...]:
    """In an order that does not depend on the input's. Settings are compared with those last enforced."""
    return (*_settings(world), *_rules(world), *_entries(world, verdicts))


def _entries(world: World, verdicts: Mapping[Key, Verdict]) -> list[Drift]:
    named = entries_of(world.mailboxes.values(), world.ledger, world.choices)
    sharing: dict[Partnership, list[Key]] = {}
    for device in world.devices:
        if device.partnership in named:
            sharing.setdefault(device.partnership, []).append(device.key)
    found = [
        drifted
        for partnership, at in named.items()
        for drifted in _of_entry(partnership, at, sorted(sharing.get(partnership, ()), key=str), verdicts)
    ]
    found += _vanished(world, named)
    found.sort(key=lambda drifted: (drifted.kind, str(drifted.mailbox), id_key(drifted.device_id)))
    return found


def _of_entry(
    partnership: Partnership, at: Named, devices: list[Key], verdicts: Mapping[Key, Verdict]
) -> Iterator[Drift]:
    """Every foreign allow entry; foreign block entries where they keep out whom the table lets in."""
    of_devices = [verdicts[key] for key in devices]
    if at.allowed in (Whose.FOREIGN, Whose.OVERRIDDEN):
        against = any(v.is_denial or v.hindered_by is Hindrance.FOREIGN_ALLOW for v in of_devices)
        yield Drift(
            DriftKind.FOREIGN_ALLOW,
            partnership[0],
            PersonalList.ALLOWED,
            at.written_allowed[0],
            tuple(devices),
            against,
        )
    if at.blocked is not None and any(v.hindered_by is Hindrance.FOREIGN_BLOCK for v in of_devices):
        yield Drift(
            DriftKind.FOREIGN_BLOCK, partnership[0], PersonalList.BLOCKED, at.written_blocked[0], tuple(devices), True
        )


def _vanished(world: World, named: Mapping[Partnership, Named]) -> Iterator[Drift]:
    for entry in world.ledger.entries:
        if entry.mailbox not in world.mailboxes:
            continue
        at = named.get((entry.mailbox, id_key(entry.device_id)))
        if at is None or (at.allowed if entry.listed is PersonalList.ALLOWED else at.blocked) is None:
            yield Drift(DriftKind.ENTRY_VANISHED, entry.mailbox, entry.listed, entry.device_id, against=True)


def _settings(world: World) -> Iterator[Drift]:
    enforced, found = world.ledger.settings, world.exchange
    if enforced is None:
        return
    if enforced.default_level is not found.default_level:
        yield Drift(DriftKind.DEFAULT_LEVEL, against=True, expected=enforced.default_level, found=found.default_level)
    if enforced.user_mail_insert != found.user_mail_insert:
        yield Drift(
            DriftKind.USER_MAIL_INSERT, against=True, expected=enforced.user_mail_insert, found=found.user_mail_insert
        )
    expected_recipients, recipients = (
        _addresses(enforced.admin_mail_recipients),
        _addresses(found.admin_mail_recipients),
    )
    if expected_recipients.lower() != recipients.lower():
        yield Drift(DriftKind.ADMIN_MAIL_RECIPIENTS, against=True, expected=expected_recipients, found=recipients)


def _addresses(recipients: tuple[str, ...]) -> str:
    return ", ".join(sorted(recipients, key=str.lower))


def _rules(world: World) -> Iterator[Drift]:
    """What was there when settings were last enforced, or, where they never were, the rules that we made."""
    enforced = world.ledger.settings.rules if world.ledger.settings is not None else world.ledger.rules
    expected = {rule.key: rule for rule in enforced}
    present = {rule.key: rule for rule in world.exchange.rules}
    known = {rule.key for rule in (*world.ledger.rules, *world.organization.rules)}
    for key, rule in sorted(expected.items()):
        current = present.get(key)
        if current is None:
            yield Drift(DriftKind.RULE_REMOVED, against=True, rule=rule, expected=rule.level)
        elif current.level is not rule.level:
            yield _changed(current, rule.level)
    for key, rule in sorted(present.items()):
        if key not in known:
            yield Drift(DriftKind.FOREIGN_RULE, rule=rule, found=rule.level)


def _changed(current: AccessRule, level: Level) -> Drift:
    return Drift(DriftKind.RULE_CHANGED, against=True, rule=current, expected=level, found=current.level)

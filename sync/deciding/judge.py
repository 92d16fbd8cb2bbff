"""What Exchange will say to a phone, by the order of its own evaluation: our reading of it, from the facts we have.

Steps are numbered as the Exchange help does: 4 and 5 the personal lists, blocked before allowed; 6 to 8 the device
access rules, block before quarantine before allow; 9 the default level. Knows nothing of the mailbox policy (step 3)
nor of a switched-off mailbox (step 2): no personal entry changes either.

A rule on something that a listing does not show (XMSWLHeader) fits a phone for certain only where Exchange said last
that this very rule decided about it. Of others such a rule makes an answer that may be another one.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from sync.deciding.facts import AccessRule, EasDevice, Level, text_key

# A phone that two rules match meets the stricter, whatever their order.
SEVERITY = {Level.BLOCK: 0, Level.QUARANTINE: 1, Level.ALLOW: 2}
# What rules may ask for and a listing shows.
_SEEN = frozenset(("devicetype", "devicemodel", "deviceos", "useragent"))


@dataclass(frozen=True, slots=True)
class Fallback:
    """What decides a phone that no personal list names. rule: None when it is the default level. instead: what it may
    be as well, by rules on something that we are not shown; empty: it is certain."""

    level: Level
    rule: AccessRule | None = None
    instead: frozenset[Level] = frozenset()


class Judge:
    """An organisation's rules and default level, made ready for many questions."""

    __slots__ = ("_default", "_model", "_os", "_type", "_unseen", "_user_agent", "default_level")

    def __init__(self, default_level: Level, rules: Iterable[AccessRule] = ()) -> None:
        self.default_level = default_level
        self._default = Fallback(default_level)
        found: dict[str, dict[str, Fallback]] = {}
        for rule in rules:
            of_characteristic = found.setdefault(rule.characteristic.lower(), {})
            known = of_characteristic.get(rule.query.lower())
            if known is None or SEVERITY[rule.level] < SEVERITY[known.level]:
                of_characteristic[rule.query.lower()] = Fallback(rule.level, rule)
        self._type = found.get("devicetype")
        self._model = found.get("devicemodel")
        self._os = found.get("deviceos")
        self._user_agent = found.get("useragent")
        self._unseen = tuple(
            one for name, of_name in found.items() if name not in _SEEN for one in of_name.values()
        )  # few, if any

    def without_entries(self, device: EasDevice) -> Fallback:
        """Steps 6 to 9: rules by severity, then the default level."""
        best: Fallback | None = None
        for rules, text in (
            (self._type, device.device_type),
            (self._model, device.model),
            (self._os, device.os),
            (self._user_agent, device.user_agent),
        ):
            if rules is None:
                continue
            found = rules.get(text.lower())
            if found is not None and (best is None or SEVERITY[found.level] < SEVERITY[best.level]):
                best = found
        return self._with_unseen(device, best or self._default) if self._unseen else best or self._default

    def _with_unseen(self, device: EasDevice, best: Fallback) -> Fallback:
        """Rules on what no listing shows: one that Exchange named last fits, each other may."""
        said = text_key(device.state_rule)
        possible: set[Level] = set()
        for found in self._unseen:
            rule = found.rule
            if rule is not None and said and text_key(rule.identity) == said and _beats(found, best):
                best = found
        for found in self._unseen:
            if found.level is not best.level and _beats(found, best):
                possible.add(found.level)
        return Fallback(best.level, best.rule, frozenset(possible)) if possible else best


def _beats(one: Fallback, other: Fallback) -> bool:
    """Any rule beats the default level, and of two rules the stricter counts."""
    return other.rule is None or SEVERITY[one.level] < SEVERITY[other.level]


def with_entries(*, allowed: bool, blocked: bool, fallback: Level) -> Level:
    """Steps 4 to 9: blocked beats allowed, and both beat rules and default."""
    if blocked:
        return Level.BLOCK
    return Level.ALLOW if allowed else fallback

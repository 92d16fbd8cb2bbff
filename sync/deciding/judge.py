"""What Exchange will say to a phone, by the order of its own evaluation: our reading of it, from the facts we have.

Steps are numbered as the Exchange help does: 4 and 5 the personal lists, blocked before allowed; 6 to 8 the device
access rules, block before quarantine before allow; 9 the default level. Knows nothing of the mailbox policy (step 3)
nor of a switched-off mailbox (step 2): no personal entry changes either. A rule on a characteristic that a listing does
not show (XMSWLHeader) is not judged.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from sync.deciding.facts import AccessRule, EasDevice, Level

# A phone that two rules match meets the stricter, whatever their order.
SEVERITY = {Level.BLOCK: 0, Level.QUARANTINE: 1, Level.ALLOW: 2}


@dataclass(frozen=True, slots=True)
class Fallback:
    """What decides a phone that no personal list names. rule: None when it is the default level."""

    level: Level
    rule: AccessRule | None = None


class Judge:
    """An organisation's rules and default level, made ready for many questions."""

    __slots__ = ("_default", "_model", "_os", "_type", "_user_agent", "default_level")

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
        return best or self._default


def with_entries(*, allowed: bool, blocked: bool, fallback: Level) -> Level:
    """Steps 4 to 9: blocked beats allowed, and both beat rules and default."""
    if blocked:
        return Level.BLOCK
    return Level.ALLOW if allowed else fallback

"""Exchange slowing us down: its texts told apart, and how long to wait. Pure.

The texts are matched by substrings, in English, as public reports show them (exchange.md 1.5); a text in another
language is not recognised and stays what the caller takes it for.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

# Seconds to wait where Exchange names none. Sessions of a killed program live on until they expire, hence the longest.
DEFAULT_WAITS = {
    "too_many_shells": 60.0,
    "user_load_quota": 30.0,
    "too_many_commands": 30.0,
    "server_busy": 30.0,
}
# A wait that a server names is believed within these; none at all would make a retry a hot loop.
SHORTEST_WAIT, LONGEST_WAIT = 1.0, 3600.0

_TEXTS: tuple[tuple[str, re.Pattern[str]], ...] = tuple(
    (code, re.compile(pattern, re.IGNORECASE | re.DOTALL))
    for code, pattern in (
        ("too_many_shells", r"maximum (?:number )?of \d+ concurrent shells"),
        ("too_many_shells", r"exceeded the maximum number of connections allowed"),
        ("too_many_shells", r"maximum number of (?:concurrent )?shells|maximum number of users executing"),
        ("too_many_shells", r"\bQuotaLimit\b"),
        ("user_load_quota", r"user load quota of"),
        ("too_many_commands", r"maximum number of concurrent (?:commands|operations)"),
        ("too_many_commands", r"exceeded the maximum (?:number of )?(?:cmdlets|operations)"),
        ("server_busy", r"server is (?:too )?busy|OverBudgetException|ResourceUnhealthyException"),
    )
)
_WAIT = re.compile(r"at least (\d+) milliseconds", re.IGNORECASE)
_MICRO_DELAY = re.compile(r"Micro delay applied\. Actual delayed:\s*(\d+)\s*msecs", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Limit:
    """A limit that was hit; `retry_after` in seconds, Exchange's own where it named one."""

    code: str
    retry_after: float


def recognised(text: str) -> Limit | None:
    """The limit that `text` speaks of; None when it speaks of none."""
    for code, pattern in _TEXTS:
        if pattern.search(text):
            named = _WAIT.search(text)
            seconds = int(named[1]) / 1000 if named else DEFAULT_WAITS[code]
            return Limit(code, min(max(seconds, SHORTEST_WAIT), LONGEST_WAIT))
    return None


def micro_delay(warning: str) -> float | None:
    """Seconds that Exchange says it held a command back; None for any other warning."""
    match = _MICRO_DELAY.search(warning)
    return int(match[1]) / 1000 if match else None

"""OPATH filters: what they find, and what is no filter."""

from __future__ import annotations

import datetime
from typing import Any

import pytest

from lab.exchange.opath import OpathError, compile_filter

THING: dict[str, Any] = {
    "Name": "Zoë O'Brien",
    "State": "Quarantined",
    "Rule": None,
    "Empty": "",
    "Enabled": True,
    "Disabled": False,
    "Count": 7,
    "When": datetime.datetime(2026, 3, 1, 12, 0, tzinfo=datetime.UTC),
    "Ids": ["ApplDLX1", "SEC42"],
    "Nobody": [],
    "Odd": "a[b]?c",
}

FITS = {
    "equal, in any case": "State -eq 'quarantined'",
    "not equal": "State -ne 'Blocked'",
    "an inner quote doubled": "Name -eq 'Zoë O''Brien'",
    "double quotes": 'State -eq "Quarantined"',
    "property and operator in any case": "sTaTe -EQ 'Quarantined'",
    "wildcard at the end": "Name -like 'Zo*'",
    "wildcard within": "Name -like '*o*brien'",
    "not like": "Name -notlike 'A*'",
    "only the star is a wildcard": "Odd -like 'a[b]?*'",
    "true": "Enabled -eq $true",
    "false": "Disabled -eq $false",
    "true as text": "Enabled -eq 'True'",
    "null": "Rule -eq $null",
    "empty text is not set": "Empty -eq $null",
    "an empty list is not set": "Nobody -eq $null",
    "a list with entries is set": "Ids -ne $null",
    "not set is not equal to a value": "Rule -ne 'x'",
    "set is not null": "State -ne $null",
    "number": "Count -eq 7",
    "greater": "Count -gt 6.5",
    "less or equal": "Count -le 7",
    "after a time": "When -gt '2026-02-28T00:00:00Z'",
    "before a time, as an American writes it": "When -lt '03/02/2026 01:00:00 AM'",
    "at a time": "When -ge '2026-03-01 12:00:00Z'",
    "any entry of a list": "Ids -eq 'sec42'",
    "any entry, by wildcard": "Ids -like 'Appl*'",
    "no entry": "Ids -ne 'other'",
    "and": "State -eq 'Quarantined' -and Enabled -eq $true",
    "or": "State -eq 'Blocked' -or Enabled -eq $true",
    "and before or": "Enabled -eq $true -or State -eq 'Blocked' -and Count -eq 0",
    "not": "-not State -eq 'Blocked'",
    "not, with a sign": "!(State -eq 'Blocked')",
    "not of a group": "-not (State -eq 'Blocked' -or Count -eq 0)",
    "groups": "(State -eq 'Blocked' -or State -eq 'Quarantined') -and (Count -eq 7)",
    "in braces": "{State -eq 'Quarantined'}",
    "no blanks needed around groups": "(Enabled -eq $true)-and(Count -eq 7)",
}
DOES_NOT_FIT = {
    "another value": "State -eq 'Blocked'",
    "a star without -like is a star": "Name -eq 'Zo*'",
    "not equal to itself": "State -ne 'Quarantined'",
    "null is not greater": "Rule -gt 'a'",
    "an entry that is there": "Ids -ne 'ApplDLX1'",
    "wildcard that finds nothing": "Name -like 'Zo'",
    "before, not after": "When -gt '2026-03-01T12:00:00Z'",
}
REFUSED = {
    "not a property": ("Colour -eq 'red'", "not a recognized filterable property"),
    "text without quotes": "State -eq Quarantined",
    "no operator": "State 'Quarantined'",
    "unknown operator": "State -match 'Q'",
    "no value": "State -eq",
    "nothing": "   ",
    "quote not closed": "State -eq 'Quarantined",
    "quote not doubled": "Name -eq 'Zoë O'Brien'",
    "group not closed": "(State -eq 'Quarantined'",
    "two comparisons without a word between": "State -eq 'a' Enabled -eq $true",
    "a variable": "State -eq $state",
    "an expression": "State -eq ('a' + 'b')",
    "comparison the wrong way round": "'Quarantined' -eq State",
}
ALLOWED = frozenset(THING)


def fits(text: str) -> bool:
    return compile_filter(text, ALLOWED)(THING.__getitem__)


@pytest.mark.parametrize("text", FITS.values(), ids=FITS.keys())
def test_finds(text: str) -> None:
    assert fits(text)


@pytest.mark.parametrize("text", DOES_NOT_FIT.values(), ids=DOES_NOT_FIT.keys())
def test_does_not_find(text: str) -> None:
    assert not fits(text)


@pytest.mark.parametrize("case", REFUSED.values(), ids=REFUSED.keys())
def test_is_no_filter(case: str | tuple[str, str]) -> None:
    text, words = (case, "Invalid filter syntax") if isinstance(case, str) else case
    with pytest.raises(OpathError, match=words):
        compile_filter(text, ALLOWED)


def test_what_is_no_time_is_refused_when_it_is_compared() -> None:
    with pytest.raises(OpathError, match="not recognized as a valid DateTime"):
        fits("When -gt 'yesterday'")

"""OPATH filters as the -Filter parameters take them: -and -or -not -eq -ne -lt -gt -like -notlike over properties.

`compile_filter` turns the text into a predicate over a property getter, or raises OpathError with Exchange's kind of
message. Text stands in quotes, an inner quote doubled; wildcards mean something with -like alone, elsewhere a star is
a star, and finds nothing.
"""

from __future__ import annotations

import datetime
import fnmatch
import re
from collections.abc import Callable
from typing import Any

Getter = Callable[[str], Any]
Predicate = Callable[[Getter], bool]

_TOKEN = re.compile(
    r"""\s*(?:
    (?P<open>[({]) | (?P<close>[)}]) |
    (?P<operator>-(?:and|or|not|eq|ne|lt|le|gt|ge|like|notlike)\b|!) |
    (?P<text>'(?:[^']|'')*'|"(?:[^"]|"")*") |
    (?P<constant>\$(?:true|false|null)\b) |
    (?P<number>-?\d+(?:\.\d+)?(?![\w])) |
    (?P<name>[A-Za-z_][\w]*)
    )""",
    re.VERBOSE | re.IGNORECASE,
)
_COMPARISONS = frozenset({"-eq", "-ne", "-lt", "-le", "-gt", "-ge", "-like", "-notlike"})
_TIMES = (
    "%Y-%m-%d %H:%M:%SZ",
    "%Y-%m-%dT%H:%M:%SZ",
    "%Y-%m-%d %H:%M:%S",
    "%m/%d/%Y %H:%M:%S",
    "%m/%d/%Y %I:%M:%S %p",
    "%m/%d/%Y",
)


class OpathError(ValueError):
    """The filter is not OPATH, or names a property that cannot be filtered on."""


def compile_filter(text: str, allowed: frozenset[str]) -> Predicate:
    """`allowed` are the filterable properties in their own spelling; names in the filter match them in any case."""
    return _Parser(text, {name.lower(): name for name in allowed}).whole()


class _Parser:
    def __init__(self, text: str, allowed: dict[str, str]) -> None:
        self.text, self.allowed = text, allowed
        self.tokens = self._tokens()
        self.position = 0

    def _tokens(self) -> list[tuple[str, str]]:
        found, offset = [], 0
        text = self.text.rstrip()
        while offset < len(text):
            match = _TOKEN.match(text, offset)
            if match is None or match.lastgroup is None:
                raise OpathError(
                    f'Cannot bind parameter "Filter" to the target. Invalid filter syntax at position {offset + 1}: '
                    f"{text!r}"
                )
            found.append((match.lastgroup, match.group(match.lastgroup)))
            offset = match.end()
        return found

    def whole(self) -> Predicate:
        predicate = self._or()
        if self.position != len(self.tokens):
            raise self._unexpected()
        return predicate

    def _peek(self) -> tuple[str, str]:
        return self.tokens[self.position] if self.position < len(self.tokens) else ("end", "end of the filter")

    def _next(self) -> tuple[str, str]:
        token = self._peek()
        self.position += 1
        return token

    def _unexpected(self) -> OpathError:
        return OpathError(
            f'Cannot bind parameter "Filter" to the target. Invalid filter syntax near "{self._peek()[1]}".'
        )

    def _is(self, word: str) -> bool:
        return self._peek()[1].lower() == word

    def _or(self) -> Predicate:
        parts = [self._and()]
        while self._is("-or"):
            self._next()
            parts.append(self._and())
        return parts[0] if len(parts) == 1 else lambda get: any(part(get) for part in parts)

    def _and(self) -> Predicate:
        parts = [self._not()]
        while self._is("-and"):
            self._next()
            parts.append(self._not())
        return parts[0] if len(parts) == 1 else lambda get: all(part(get) for part in parts)

    def _not(self) -> Predicate:
        if self._is("-not") or self._is("!"):
            self._next()
            inner = self._not()
            return lambda get: not inner(get)
        if self._peek()[0] == "open":
            self._next()
            inner = self._or()
            if self._next()[0] != "close":
                self.position -= 1
                raise self._unexpected()
            return inner
        return self._comparison()

    def _comparison(self) -> Predicate:
        kind, word = self._next()
        if kind != "name":
            self.position -= 1
            raise self._unexpected()
        if word.lower() not in self.allowed:
            raise OpathError(
                f'Cannot bind parameter \'Filter\' to the target. Exception setting "Filter": ""{word}" is not a '
                f'recognized filterable property. For a complete list of filterable properties see the command help."'
            )
        name = self.allowed[word.lower()]
        kind, operator = self._next()
        if kind != "operator" or operator.lower() not in _COMPARISONS:
            self.position -= 1
            raise self._unexpected()
        return _compare(name, operator.lower(), self._value())

    def _value(self) -> Any:
        kind, word = self._next()
        if kind == "text":
            quote = word[0]
            return word[1:-1].replace(quote * 2, quote)
        if kind == "constant":
            return {"$true": True, "$false": False, "$null": None}[word.lower()]
        if kind == "number":
            return float(word)
        self.position -= 1
        raise self._unexpected()


def _compare(name: str, operator: str, wanted: Any) -> Predicate:
    def test(get: Getter) -> bool:
        value = get(name)
        values = (value or [None]) if isinstance(value, list) else [value]
        if operator == "-ne":
            return not any(_matches("-eq", item, wanted) for item in values)
        if operator == "-notlike":
            return not any(_matches("-like", item, wanted) for item in values)
        return any(_matches(operator, item, wanted) for item in values)

    return test


def _matches(operator: str, value: Any, wanted: Any) -> bool:
    if value is None or wanted is None or value == "":
        # An attribute that is not set is $null for OPATH, and empty text is not stored in a directory.
        empty = value is None or value == ""
        return operator == "-eq" and empty and (wanted is None or wanted == "")
    if operator == "-like":
        # Only * is a wildcard; fnmatch's other signs must mean themselves.
        pattern = str(wanted).lower().replace("[", "[[]").replace("?", "[?]")
        return fnmatch.fnmatchcase(str(value).lower(), pattern)
    left, right = _comparable(value, wanted)
    if operator == "-eq":
        return bool(left == right)
    try:
        return bool({"-lt": left < right, "-le": left <= right, "-gt": left > right, "-ge": left >= right}[operator])
    except TypeError as error:
        raise OpathError(f"The value {wanted!r} cannot be compared with this property.") from error


def _comparable(value: Any, wanted: Any) -> tuple[Any, Any]:
    if isinstance(value, datetime.datetime):
        return value, _time(wanted)
    if isinstance(value, bool):
        return value, wanted if isinstance(wanted, bool) else str(wanted).lower() == "true"
    if isinstance(value, int | float) and isinstance(wanted, int | float) and not isinstance(wanted, bool):
        return value, wanted
    return str(value).lower(), str(wanted).lower()


def _time(text: Any) -> datetime.datetime:
    for form in _TIMES:
        try:
            return datetime.datetime.strptime(str(text), form).replace(tzinfo=datetime.UTC)
        except ValueError:
            continue
    raise OpathError(
        f'Cannot convert value "{text}" to type System.DateTime. String was not recognized as a valid DateTime.'
    )

"""The PowerShell text of a command: what somebody would type into the Exchange Management Shell to have the same done.

For people alone, on pages, in files and in the journal. Nothing here is ever sent: commands go out as typed parameters
(cmdlets.py), so no quoting can be got wrong where it matters. Pure.
"""

from __future__ import annotations

from connectors.exchange.cmdlets import NULL, Command, Value

# PowerShell's parser takes typographic quotes for plain ones, inside of quoted text as well.
_SINGLE_QUOTES = "'\u2018\u2019\u201a\u201b"
_DOUBLE_QUOTES = '"\u201c\u201d\u201e'
# Escapes that every PowerShell since 2.0 knows; other control characters are written as [char] expressions.
_ESCAPES = {"\0": "`0", "\a": "`a", "\b": "`b", "\t": "`t", "\n": "`n", "\v": "`v", "\f": "`f", "\r": "`r"}


def text(*commands: Command) -> str:
    """One line; several commands are one pipeline."""
    return " | ".join(_command(command) for command in commands)


def literal(value: Value) -> str:
    """A value as PowerShell writes it; read back, it is the same value (a list of one as that one)."""
    if value is NULL:
        return "$null"
    if isinstance(value, bool):
        return "$true" if value else "$false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, str):
        return _quoted(value)
    if isinstance(value, list):
        return ",".join(_quoted(item) for item in value) if value else "@()"
    if isinstance(value, dict):
        return "@{" + "; ".join(f"{key}={literal(items)}" for key, items in value.items()) + "}"
    raise TypeError(f"no value of a parameter: {type(value).__name__}")


def _command(command: Command) -> str:
    return " ".join([command.name, *(_parameter(name, value) for name, value in command.parameters.items())])


def _parameter(name: str, value: Value) -> str:
    # With the colon the same text is right for a switch and for a boolean parameter.
    return f"-{name}:{literal(value)}" if isinstance(value, bool) else f"-{name} {literal(value)}"


def _quoted(value: str) -> str:
    """In single quotes, in which nothing but quotes has a meaning; in double ones when there are control characters."""
    if not any(_is_control(character) for character in value):
        return "'" + "".join(one * 2 if one in _SINGLE_QUOTES else one for one in value) + "'"
    return '"' + "".join(_escaped(character) for character in value) + '"'


def _escaped(character: str) -> str:
    if character in _ESCAPES:
        return _ESCAPES[character]
    if _is_control(character):
        return f"$([char]{ord(character)})"
    if character in _DOUBLE_QUOTES or character in "$`":
        return f"`{character}"
    return character


def _is_control(character: str) -> bool:
    return ord(character) < 32 or 127 <= ord(character) < 160 or character in "\u2028\u2029"

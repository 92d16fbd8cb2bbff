"""CLIXML, the form in which PowerShell sends objects, into plain values. One object at a time; nothing is kept.

This is the thorough reader: slow (about 0.3 ms for 50 properties) and for every shape. shapes.py reads the common
shapes of a listing ten times faster and gives the same; a property test holds the two together.

Every scalar is given as its text: only the reader of a record knows what a property is meant to be, and Exchange sends
the same property as a boolean, a text or an object, by version and serialisation level. It refuses document type
declarations and processing instructions, and never decodes .NET's binary SerializationData.
Source: MS-PSRP 2.2.5.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET  # input with declarations is refused before it gets here
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

Value: TypeAlias = "str | list[Value] | dict[str, Value] | CliObject | None"

NAMESPACE = "{http://schemas.microsoft.com/powershell/2004/04}"
BOM = b"\xef\xbb\xbf"
DEPTH_LIMIT = 48

_CONTAINERS = frozenset({"LST", "STK", "QUE", "IE"})
_ESCAPE = re.compile(r"_x([0-9A-Fa-f]{4})_")
_SURROGATE = re.compile(r"[\ud800-\udfff]")


class ClixmlError(ValueError):
    """Not an object in CLIXML. The text holds nothing of the input."""


@dataclass(slots=True)
class CliObject:
    """An object as it came. Extended properties (MS) stand beside adapted ones (Props) and win, as in PowerShell.

    text: its ToString, None without one. content: what it is besides its properties: an enum's number, a list, a
    dictionary.
    """

    types: tuple[str, ...] = ()
    text: str | None = None
    properties: dict[str, Value] = field(default_factory=dict)
    content: Value = None


def unescape(text: str) -> str:
    """Undo the _xHHHH_ escapes. What no text column can hold, NUL and lone surrogates, becomes U+FFFD."""
    if "_x" not in text:
        return text
    plain = _ESCAPE.sub(lambda match: chr(int(match[1], 16)), text)
    if _SURROGATE.search(plain):
        plain = plain.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return plain.replace("\0", "\ufffd")


def read(raw: bytes) -> Value:
    """One top-level element. Raises ClixmlError when it is not well-formed or not CLIXML."""
    # UTF-16, in which these would look otherwise, is none of Exchange's either.
    if b"<!" in raw or b"<?" in raw or b"\0" in raw:
        raise ClixmlError("declarations and instructions have no place in CLIXML")
    try:
        element = ET.fromstring(raw.removeprefix(BOM))  # noqa: S314 - no declarations, so no entities
    except ET.ParseError as error:
        raise ClixmlError(f"not well-formed: {error}") from error
    return _Reader().value(element, 0)


def read_object(raw: bytes) -> CliObject:
    """As read(), for what must be an object. Raises ClixmlError for a primitive."""
    value = read(raw)
    if not isinstance(value, CliObject):
        raise ClixmlError("a primitive where an object was expected")
    return value


def display(value: Value, depth: int = 0) -> str | None:
    """What PowerShell would show for a value: a text itself, an object's ToString or content; None for null.

    A list shows as its members, comma-separated. An object with neither ToString nor content shows as "", and so does
    what lies too deep (an object may hold itself).
    """
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, dict) or depth > DEPTH_LIMIT:
        return ""
    if isinstance(value, list):
        return ", ".join(display(item, depth + 1) or "" for item in value)
    if value.text is not None:
        return value.text
    return display(value.content, depth + 1) or ""


def items(value: Value) -> tuple[str, ...]:
    """The members of a list as text: of a list, of an object that is one (MultiValuedProperty), or one text alone.

    Null members are left out; null itself is the empty list.
    """
    if isinstance(value, CliObject) and isinstance(value.content, list):
        value = value.content
    if isinstance(value, list):
        return tuple([text for item in value if (text := display(item)) is not None])
    shown = display(value)
    return () if shown is None else (shown,)


def flatten(value: CliObject, names: tuple[str, ...]) -> tuple[str | None, ...]:
    """display() of the named properties, in that order; None for those that are null or missing."""
    properties = value.properties
    return tuple([display(properties.get(name)) for name in names])


class _Reader:
    """The tables of one object: what Ref and TNRef point to."""

    def __init__(self) -> None:
        self._types: dict[str, tuple[str, ...]] = {}
        self._objects: dict[str, CliObject] = {}

    def value(self, element: ET.Element, depth: int) -> Value:
        if depth > DEPTH_LIMIT:
            raise ClixmlError("nested too deeply")
        tag = element.tag.removeprefix(NAMESPACE)
        if tag == "Nil":
            return None
        if tag == "Obj":
            return self._object(element, depth)
        if tag == "Ref":
            return self._reference(element)
        if tag in _CONTAINERS:
            return [self.value(child, depth + 1) for child in element]
        if tag == "DCT":
            return self._dictionary(element, depth)
        if len(element):
            raise ClixmlError("a primitive with elements inside")
        text = element.text or ""
        if tag == "C":
            return chr(int(text)) if text.isascii() and text.isdigit() and 0 < int(text) < 0xD800 else "\ufffd"
        return unescape(text)

    def _object(self, element: ET.Element, depth: int) -> CliObject:
        result = CliObject()
        # Registered before its members are read: a member may refer back to it.
        if identifier := element.get("RefId"):
            self._objects[identifier] = result
        extended: dict[str, Value] = {}
        for child in element:
            tag = child.tag.removeprefix(NAMESPACE)
            if tag == "TN":
                result.types = tuple([unescape(name.text or "") for name in child])
                self._types[child.get("RefId", "")] = result.types
            elif tag == "TNRef":
                result.types = self._types.get(child.get("RefId", ""), ())
            elif tag == "ToString":
                result.text = unescape(child.text or "")
            elif tag == "Props":
                result.properties.update(self._members(child, depth))
            elif tag == "MS":
                extended.update(self._members(child, depth))
            else:
                result.content = self.value(child, depth + 1)
        result.properties.update(extended)
        return result

    def _members(self, element: ET.Element, depth: int) -> Mapping[str, Value]:
        return {unescape(child.get("N", "")): self.value(child, depth + 1) for child in element}

    def _reference(self, element: ET.Element) -> CliObject:
        try:
            return self._objects[element.get("RefId", "")]
        except KeyError:
            raise ClixmlError("a reference to an object that was not sent") from None

    def _dictionary(self, element: ET.Element, depth: int) -> dict[str, Value]:
        result: dict[str, Value] = {}
        for entry in element:
            parts = {child.get("N"): self.value(child, depth + 1) for child in entry}
            result[display(parts.get("Key")) or ""] = parts.get("Value")
        return result

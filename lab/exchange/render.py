"""Objects as CLIXML, in the manner of the real Exchange 2016 object that was captured (docs/lab.md).

At the default serialisation level enums, identities and versions are plain text; at Full they are objects with ToString.
Device objects, which come by the hundred thousand, are rendered by templates and kept; all others property by property.
"""

from __future__ import annotations

import datetime
import re
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from xml.sax.saxutils import escape as xml_escape

# What XML 1.0 cannot hold, and what would be read as an escape: _xHHHH_ (MS-PSRP 2.2.5.3.2).
_ESCAPE = re.compile("_(?=[xX][0-9A-Fa-f]{4}_)|[\x00-\x1f\x7f-\x9f\ufffe\uffff]")
_ENUM_BASES = ("System.Enum", "System.ValueType", "System.Object")
_MVP = "Microsoft.Exchange.Data.MultiValuedProperty`1[[{item}, mscorlib, Version=4.0.0.0, Culture=neutral, PublicKeyToken=b77a5c561934e089]]"
_MVP_BASE = ("Microsoft.Exchange.Data.MultiValuedPropertyBase", "System.Object")


@dataclass(frozen=True)
class Enum:
    """An enum value: its full type name, label and number."""

    type: str
    label: str
    number: int


@dataclass(frozen=True)
class ObjectId:
    """An ADObjectId: its text, and the distinguished name behind it."""

    text: str
    dn: str = ""


@dataclass(frozen=True)
class ServerVersion:
    """A ServerVersion, from its text "Version 15.1 (Build 2507.6)"."""

    text: str


@dataclass(frozen=True)
class LocalTime:
    """A time that Exchange shows in its own zone; its UTC twin is a plain datetime."""

    utc: datetime.datetime


def text(value: str) -> str:
    """Escaped for element content and attributes, PSRP's way first."""
    return xml_escape(_ESCAPE.sub(lambda m: f"_x{ord(m.group()):04X}_", value), {'"': "&quot;"})


# The lab's servers stand in a zone without summer time, so that one moment is always shown by the same text.
_ZONE = datetime.timezone(datetime.timedelta(hours=-7))


class Writer:
    """Writes one object. RefIds and type references are counted for each object, as Exchange does."""

    def __init__(self, full: bool = False) -> None:
        self.full = full
        self._ref = -1
        self._types: dict[tuple[str, ...], int] = {}

    def object(self, types: Sequence[str], to_string: str | None, properties: Sequence[tuple[str, Any]]) -> bytes:
        head = f'<Obj RefId="{self._next()}">{self._type(tuple(types))}'
        shown = "" if to_string is None else f"<ToString>{text(to_string)}</ToString>"
        body = "".join(self.value(value, name) for name, value in properties)
        return f"{head}{shown}<Props>{body}</Props></Obj>".encode()

    def custom(self, types: Sequence[str], properties: Sequence[tuple[str, Any]]) -> bytes:
        """What Select-Object makes: a PSCustomObject with note properties."""
        body = "".join(self.value(value, name) for name, value in properties)
        return f'<Obj RefId="{self._next()}">{self._type(tuple(types))}<MS>{body}</MS></Obj>'.encode()

    def _next(self) -> int:
        self._ref += 1
        return self._ref

    def _type(self, names: tuple[str, ...]) -> str:
        known = self._types.get(names)
        if known is not None:
            return f'<TNRef RefId="{known}" />'
        number = self._types[names] = len(self._types)
        return f'<TN RefId="{number}">{"".join(f"<T>{text(name)}</T>" for name in names)}</TN>'

    def value(self, value: Any, name: str | None = None) -> str:
        label = "" if name is None else f' N="{text(name)}"'
        plain = _primitive(value, label)
        if plain is not None:
            return plain
        if isinstance(value, list | tuple):
            types = (_MVP.format(item="System.String"), *_MVP_BASE)
            items = "".join(self.value(item) for item in value)
            content = f"<LST>{items}</LST>" if items else "<LST />"
            return f'<Obj{label} RefId="{self._next()}">{self._type(types)}{content}</Obj>'
        if not self.full:
            return f"<S{label}>{text(_shown(value))}</S>"
        return self._object_value(value, label)

    def _object_value(self, value: Any, label: str) -> str:
        head = f'<Obj{label} RefId="{self._next()}">'
        shown = f"<ToString>{text(_shown(value))}</ToString>"
        if isinstance(value, Enum):
            return f"{head}{self._type((value.type, *_ENUM_BASES))}{shown}<I32>{value.number}</I32></Obj>"
        if isinstance(value, ServerVersion):
            numbers = [int(n) for n in re.findall(r"\d+", value.text)]
            props = "".join(
                f'<I32 N="{n}">{v}</I32>'
                for n, v in zip(("Major", "Minor", "Build", "Revision"), numbers, strict=False)
            )
            return f"{head}{self._type(('Microsoft.Exchange.Data.ServerVersion', 'System.Object'))}{shown}<Props>{props}</Props></Obj>"
        types = ("Microsoft.Exchange.Data.Directory.ADObjectId", "Microsoft.Exchange.Data.ObjectId", "System.Object")
        props = f'<S N="DistinguishedName">{text(value.dn)}</S><S N="Name">{text(_shown(value).rsplit("/", 1)[-1])}</S>'
        return f"{head}{self._type(types)}{shown}<Props>{props}</Props></Obj>"


def _primitive(value: Any, label: str) -> str | None:
    if value is None:
        return f"<Nil{label} />"
    if isinstance(value, str):
        return f"<S{label}>{text(value)}</S>"
    if isinstance(value, bool):
        return f"<B{label}>{'true' if value else 'false'}</B>"
    if isinstance(value, int):
        return f"<I32{label}>{value}</I32>"
    if isinstance(value, uuid.UUID):
        return f"<G{label}>{value}</G>"
    if isinstance(value, datetime.datetime):
        return f"<DT{label}>{value.astimezone(datetime.UTC):%Y-%m-%dT%H:%M:%SZ}</DT>"
    if isinstance(value, LocalTime):
        return f"<DT{label}>{value.utc.astimezone(_ZONE):%Y-%m-%dT%H:%M:%S}-07:00</DT>"
    return None


def _shown(value: Any) -> str:
    if isinstance(value, Enum):
        return value.label
    return str(value.text)

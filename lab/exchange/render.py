"""Objects as CLIXML, in the manner of the one real Exchange 2016 object that is known (docs/lab.md).

At the default serialisation level enums, identities and versions are plain text; at Full they are objects with
ToString, properties and a blob that nobody may deserialise. Knows no cmdlet: it writes what it is given, in order.
"""

from __future__ import annotations

import datetime
import re
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from xml.sax.saxutils import escape as xml_escape

# Control characters, what UTF-16 holds in two units, and what would be read as an escape: _xHHHH_ (MS-PSRP 2.2.5.3.2).
_ESCAPE = re.compile("_(?=[xX])|[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff\U00010000-\U0010ffff]")
_ENUM_BASES = ("System.Enum", "System.ValueType", "System.Object")
_CORE = "mscorlib, Version=4.0.0.0, Culture=neutral, PublicKeyToken=b77a5c561934e089"
_DATA = "Microsoft.Exchange.Data, Version=15.0.0.0, Culture=neutral, PublicKeyToken=31bf3856ad364e35"
_MULTI = "Microsoft.Exchange.Data.MultiValuedProperty`1"
_MULTI_BASES = ("Microsoft.Exchange.Data.MultiValuedPropertyBase", "System.Object")
_ADDRESS = f"[[Microsoft.Exchange.Data.ProxyAddress, {_DATA}]]"
# Type names of multivalued properties, by the kind of their entries.
LISTS = {
    "string": (f"{_MULTI}[[System.String, {_CORE}]]", *_MULTI_BASES),
    "smtp": (f"{_MULTI}[[Microsoft.Exchange.Data.SmtpAddress, {_DATA}]]", *_MULTI_BASES),
    "proxy": (
        "Microsoft.Exchange.Data.ProxyAddressCollection",
        f"Microsoft.Exchange.Data.ProxyAddressBaseCollection`1{_ADDRESS}",
        f"{_MULTI}{_ADDRESS}",
        *_MULTI_BASES,
    ),
}
# What stands in SerializationData at Full: the first bytes of .NET's format and nothing that could be used.
_BLOB = "AAEAAAD/////AQAAAAAAAAAMAgAAAA=="


@dataclass(frozen=True)
class Multi:
    """A multivalued property whose entries are not plain strings: `kind` is a key of LISTS."""

    items: tuple[str, ...]
    kind: str


@dataclass(frozen=True)
class Enum:
    """An enum value: its full type name, label and number."""

    type: str
    label: str
    number: int


@dataclass(frozen=True)
class ObjectId:
    """An ADObjectId: its text, and the distinguished name and GUID behind it."""

    text: str
    dn: str = ""
    guid: uuid.UUID | None = None


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
    return xml_escape(_ESCAPE.sub(_escaped, value), {'"': "&quot;"})


def _escaped(match: re.Match[str]) -> str:
    units = match.group().encode("utf-16-be", "surrogatepass").hex().upper()
    return "".join(f"_x{units[at : at + 4]}_" for at in range(0, len(units), 4))


# The lab's servers stand in a zone without summer time, so that one moment is always shown by the same text.
_ZONE = datetime.timezone(datetime.timedelta(hours=-7))


class Writer:
    """Writes one object. RefIds and type references are counted for each object, as Exchange does."""

    def __init__(self, full: bool = False) -> None:
        self.full = full
        self._ref = -1
        self._types: dict[tuple[str, ...], int] = {}
        self._seen: dict[ObjectId, int] = {}

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
        if isinstance(value, Multi):
            return self._list(value.items, LISTS[value.kind], label)
        if isinstance(value, list | tuple):
            return self._list(value, LISTS["string"], label)
        if not self.full:
            return f"<S{label}>{text(_shown(value))}</S>"
        if value in self._seen:
            return f'<Ref{label} RefId="{self._seen[value]}" />'
        return self._object_value(value, label)

    def _list(self, values: Sequence[Any], types: tuple[str, ...], label: str) -> str:
        head = f'<Obj{label} RefId="{self._next()}">{self._type(types)}'
        items = "".join(self.value(item) for item in values)
        return f"{head}{f'<LST>{items}</LST>' if items else '<LST />'}</Obj>"

    def _object_value(self, value: Any, label: str) -> str:
        number = self._next()
        head = f'<Obj{label} RefId="{number}">'
        shown = f"<ToString>{text(_shown(value))}</ToString>"
        if isinstance(value, Enum):
            return f"{head}{self._type((value.type, *_ENUM_BASES))}{shown}<I32>{value.number}</I32></Obj>"
        if isinstance(value, ServerVersion):
            types: tuple[str, ...] = ("Microsoft.Exchange.Data.ServerVersion", "System.Object")
            facts: list[tuple[str, Any]] = list(zip(_VERSION_PARTS, _numbers(value.text), strict=False))
            facts.append(("FilePatchLevelDescription", None))
        else:
            # The same object again, as Id is Identity's, goes as a reference.
            self._seen[value] = number
            types = (
                "Microsoft.Exchange.Data.Directory.ADObjectId",
                "Microsoft.Exchange.Data.ObjectId",
                "System.Object",
            )
            facts = _identity_facts(value)
        props = "".join(self.value(fact, name) for name, fact in facts)
        blob = f'<BA N="SerializationData">{_BLOB}</BA>'
        return f"{head}{self._type(types)}{shown}<Props>{props}{blob}</Props></Obj>"


_VERSION_PARTS = ("Major", "Minor", "Build", "Revision")


def _numbers(version: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", version)]


def _identity_facts(value: ObjectId) -> list[tuple[str, Any]]:
    """The properties of an ADObjectId; the lab's directory has no partitions."""
    rdn, _, parent = value.dn.partition(",")
    return [
        ("Rdn", rdn),
        ("Parent", parent or None),
        ("Depth", value.dn.count(",") + bool(value.dn)),
        ("DistinguishedName", value.dn),
        ("IsRelativeDn", False),
        ("DomainId", None),
        ("PartitionGuid", uuid.UUID(int=0)),
        ("PartitionFQDN", ""),
        ("ObjectGuid", value.guid or uuid.UUID(int=0)),
        ("Name", value.text.rsplit("/", 1)[-1]),
        ("IsDeleted", False),
    ]


def _primitive(value: Any, label: str) -> str | None:
    if value is None:
        return f"<Nil{label} />"
    if isinstance(value, str):
        return f"<S{label}>{text(value)}</S>"
    if isinstance(value, bool):
        return f"<B{label}>{'true' if value else 'false'}</B>"
    if isinstance(value, int):
        kind = "I32" if -(2**31) <= value < 2**31 else "I64"
        return f"<{kind}{label}>{value}</{kind}>"
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

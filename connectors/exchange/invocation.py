"""A pipeline as the message that starts it (CREATE_PIPELINE), written as text: the same bytes that pypsrp's serialiser
makes of the same commands, in a twentieth of its time. Source: MS-PSRP 2.2.2.10, 2.2.3.11 to 2.2.3.13.

One statement, cmdlets alone, and the values of cmdlets.Value; anything else raises TypeError.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from pypsrp.complex_objects import Command, ComplexObject
from pypsrp.messages import MessageType
from pypsrp.serializer import Serializer

_ENUM = ("System.Enum", "System.ValueType", "System.Object")
_APARTMENT = ("System.Management.Automation.Runspaces.ApartmentState", *_ENUM)
_STREAMS = ("System.Management.Automation.Runspaces.RemoteStreamOptions", *_ENUM)
_MERGE = ("System.Management.Automation.Runspaces.PipelineResultTypes", *_ENUM)
_LIST = (
    "System.Collections.Generic.List`1[[System.Management.Automation.PSObject, System.Management.Automation, "
    "Version=1.0.0.0, Culture=neutral, PublicKeyToken=31bf3856ad364e35]]",
    "System.Object",
)
_HASHTABLE = ("System.Collections.Hashtable", "System.Object")
_ARRAY = ("System.Object[]", "System.Array", "System.Object")
_MERGES = ("MergeMyResult", "MergeToResult", "MergePreviousResults")
# With the protocol versions from which on they are sent.
_LATER_MERGES = (
    ((2, 2), ("MergeError", "MergeWarning", "MergeVerbose", "MergeDebug")),
    ((2, 3), ("MergeInformation",)),
)
_HOST = "".join(
    f'<B N="{name}">true</B>' for name in ("_isHostNull", "_isHostUINull", "_isHostRawUINull", "_useRunspaceHost")
)
# MS-PSRP 2.2.5.3.2: what XML cannot hold, and what would read as one of the escapes of that.
_ESCAPED = re.compile("[\u0000-\u001f\u007f-\u009f\U00010000-\U0010ffff]")
_LIKE_ESCAPED = re.compile("_([xX])")


class Invocation(ComplexObject):
    """To pypsrp's message, which looks at the type only, a CreatePipeline."""

    MESSAGE_TYPE = MessageType.CREATE_PIPELINE

    def __init__(self, commands: Iterable[Command], protocol: str) -> None:
        super().__init__()
        self.xml = _Writer().pipeline(commands, protocol).encode()


class InvocationSerializer(Serializer):
    """pypsrp's, which lets an Invocation pass as it is."""

    def serialize(self, value: Any, *arguments: Any, **options: Any) -> Any:
        if isinstance(value, Invocation):
            return value.xml
        return super().serialize(value, *arguments, **options)


class _Writer:
    """Objects are numbered in the order in which they begin; a list of types is written once, and named after that."""

    def __init__(self) -> None:
        self._objects = 0
        self._types: dict[tuple[str, ...], int] = {}

    def pipeline(self, commands: Iterable[Command], protocol: str) -> str:
        whole = self._object()
        apartment = self._enum("ApartmentState", _APARTMENT, "UNKNOWN", 2)
        streams = self._enum("RemoteStreamOptions", _STREAMS, "AddInvocationInfo", 15)
        host = f"{self._object('HostInfo')}<MS>{_HOST}</MS></Obj>"
        shell, listed, named = self._object("PowerShell"), self._object("Cmds"), self._named(_LIST)
        merges = _merges(protocol)
        written = "".join([self._command(command, merges) for command in commands])
        return (
            f'{whole}<MS><B N="NoInput">true</B>{apartment}{streams}<B N="AddToHistory">false</B>{host}'
            f'{shell}<MS><B N="IsNested">false</B><Nil N="ExtraCmds" />{listed}{named}<LST>{written}</LST></Obj>'
            '<Nil N="History" /><B N="RedirectShellErrorOutputPipe">false</B></MS></Obj>'
            '<B N="IsNested">false</B></MS></Obj>'
        )

    def _command(self, command: Command, merges: tuple[str, ...]) -> str:
        if command.is_script:
            raise TypeError("a script is no cmdlet")
        first, later = merges[: len(_MERGES)], merges[len(_MERGES) :]
        parts = [
            f'{self._object()}<MS>{_text(str(command.cmd), "Cmd")}<B N="IsScript">false</B><Nil N="UseLocalScope" />',
            *[self._enum(name, _MERGE, "None", 0) for name in first],
            f"{self._object('Args')}{self._named(_LIST)}",
            _within("LST", "".join([self._argument(one.name, one.value) for one in command.args])),
            "</Obj>",
            *[self._enum(name, _MERGE, "None", 0) for name in later],
            "</MS></Obj>",
        ]
        return "".join(parts)

    def _argument(self, name: str, value: object) -> str:
        return f"{self._object()}<MS>{_text(name, 'N')}{self._value(value, 'V')}</MS></Obj>"

    def _value(self, value: object, name: str = "") -> str:
        if value is None:
            return f"<Nil{_attribute(name)} />"
        if isinstance(value, bool):
            return f"<B{_attribute(name)}>{str(value).lower()}</B>"
        if isinstance(value, int):
            return f"<I32{_attribute(name)}>{value}</I32>"
        if isinstance(value, str):
            return _text(value, name)
        if isinstance(value, list):
            begun = f"{self._object(name)}{self._named(_ARRAY)}"
            return f"{begun}{_within('LST', ''.join([self._value(one) for one in value]))}</Obj>"
        if isinstance(value, dict):
            begun = f"{self._object(name)}{self._named(_HASHTABLE)}"
            entries = [f"<En>{_text(key, 'Key')}{self._value(one, 'Value')}</En>" for key, one in value.items()]
            return f"{begun}{_within('DCT', ''.join(entries))}</Obj>"
        raise TypeError(f"no value of a cmdlet: {type(value).__name__}")

    def _enum(self, name: str, types: tuple[str, ...], text: str, value: int) -> str:
        return f"{self._object(name)}{self._named(types)}<ToString>{text}</ToString><I32>{value}</I32></Obj>"

    def _object(self, name: str = "") -> str:
        number = self._objects
        self._objects += 1
        return f'<Obj RefId="{number}"{_attribute(name)}>'

    def _named(self, types: tuple[str, ...]) -> str:
        known = self._types.get(types)
        if known is not None:
            return f'<TNRef RefId="{known}" />'
        number = self._types[types] = len(self._types)
        return f'<TN RefId="{number}">{"".join([f"<T>{one}</T>" for one in types])}</TN>'


def _merges(protocol: str) -> tuple[str, ...]:
    version = tuple(int(part) for part in protocol.split(".")[:2]) if protocol else (0, 0)
    return (*_MERGES, *(name for since, names in _LATER_MERGES if version >= since for name in names))


def _attribute(name: str) -> str:
    return f' N="{name}"' if name else ""


def _within(tag: str, content: str) -> str:
    return f"<{tag}>{content}</{tag}>" if content else f"<{tag} />"


def _text(value: str, name: str = "") -> str:
    text = _ESCAPED.sub(_escape, _LIKE_ESCAPED.sub(r"_x005F_\1", value))
    if "&" in text or "<" in text or ">" in text:
        text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return f"<S{_attribute(name)}>{text}</S>" if text else f"<S{_attribute(name)} />"


def _escape(match: re.Match[str]) -> str:
    """As UTF-16 has it: two of them beyond the first plane."""
    units = match[0].encode("utf-16-be").hex().upper()
    return "".join([f"_x{units[start : start + 4]}_" for start in range(0, len(units), 4)])

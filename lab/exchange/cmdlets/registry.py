"""How a cmdlet is declared, bound and refused: names, parameters, versions, confirmation, errors in Exchange's grammar."""

from __future__ import annotations

import datetime
import itertools
import uuid
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from lab.exchange.contract import Command, Failure, Output, SessionState, Warn
from lab.exchange.render import Writer
from lab.exchange.store import Store

# System.Management.Automation.ErrorCategory, the members met here.
NOT_SPECIFIED, INVALID_ARGUMENT, INVALID_DATA, OBJECT_NOT_FOUND, PARSER_ERROR = 0, 5, 6, 13, 17
INVALID_OPERATION = 9

DEFAULT_RESULT_SIZE = 1000


@dataclass(frozen=True)
class Item:
    """One output object before it is rendered. `cache`, when given, keeps rendered forms (devices)."""

    types: tuple[str, ...]
    to_string: str | None
    properties: Callable[[], list[tuple[str, Any]]]
    cache: dict[object, bytes] | None = None

    def whole(self, full: bool) -> bytes:
        return self._kept(
            ("whole", self.types, full), lambda: Writer(full).object(self.types, self.to_string, self.properties())
        )

    def selected(self, names: tuple[str, ...], full: bool) -> bytes:
        return self._kept(("selected", names, full), lambda: self._select(names, full))

    def _select(self, names: tuple[str, ...], full: bool) -> bytes:
        values = {name.lower(): (name, value) for name, value in self.properties()}
        chosen = [values.get(name.lower(), (name, None)) for name in names]
        types = (f"Selected.{self.types[0]}", "System.Management.Automation.PSCustomObject", "System.Object")
        return Writer(full).custom(types, chosen)

    def _kept(self, key: object, make: Callable[[], bytes]) -> bytes:
        if self.cache is None:
            return make()
        found = self.cache.get(key)
        if found is None:
            found = self.cache[key] = make()
        return found


class Refusal(Exception):
    """A cmdlet refuses: carries the error record."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


@dataclass
class Context:
    """What a cmdlet works with."""

    store: Store
    state: SessionState
    cmdlet: str
    class_name: str
    warnings: list[Warn] = field(default_factory=list)

    def error(
        self,
        message: str,
        exception: str,
        *,
        category: int = NOT_SPECIFIED,
        target: str = "",
        terminating: bool = False,
    ) -> Failure:
        """An error record of Exchange's own: id, category and prefix as the version writes them."""
        short = exception.rsplit(".", 1)[-1]
        number = f"{zlib.crc32(f'{short}{self.cmdlet}'.encode()):08X}"
        prefix = ""
        if self.store.version.has_prefixed_errors:
            server = self.state.server.split(".", 1)[0].upper()
            now = datetime.datetime.now(datetime.UTC)
            prefix = (
                f"[Server={server},RequestId={uuid.uuid4()},TimeStamp={now:%m/%d/%Y %I:%M:%S %p}] "
                f"[FailureCategory=Cmdlet-{short}] "
            )
        return Failure(
            message=message, exception=exception, category=category, reason=short, activity=self.cmdlet,
            fq_error_id=f"{prefix}{number},{self.class_name}", target_name=target, terminating=terminating,
        )  # fmt: skip

    def not_found(self, identity: str) -> Refusal:
        could_not = "couldn't" if self.store.version.rank >= 2013 else "could not"
        controller = f"dc01.{self.store.domain}"
        return Refusal(
            self.error(
                f"The operation couldn't be performed because object '{identity}' {could_not} be found on '{controller}'.",
                "Microsoft.Exchange.Configuration.Tasks.ManagementObjectNotFoundException",
                category=NOT_SPECIFIED if self.store.version.rank >= 2013 else INVALID_DATA,
                target=identity,
            )
        )

    def invalid(self, message: str, exception: str = "System.ArgumentException") -> Refusal:
        return Refusal(self.error(message, exception, category=INVALID_ARGUMENT))

    def unchanged(self, what: str) -> None:
        self.warnings.append(
            Warn(f"The command completed successfully but no settings of '{what}' have been modified.")
        )

    def sees(self, domain: str) -> bool:
        """Whether the session's recipient scope reaches a domain."""
        return self.state.view_entire_forest or domain == self.store.domain


Run = Callable[[Context, dict[str, Any]], Iterator[Item | Output]]
TYPES = ("string", "switch", "bool", "strings", "size", "number", "any", "hashtable")


@dataclass(frozen=True)
class Cmdlet:
    """`parameters`: name → (type, oldest version rank that has it). `confirms`: asks unless Confirm is false."""

    name: str
    run: Run
    parameters: Mapping[str, tuple[str, int]]
    class_name: str
    since: int = 0
    positional: str = "Identity"
    required: tuple[str, ...] = ()
    exclusive: tuple[tuple[str, str], ...] = ()
    confirms: bool = False

    @property
    def is_read(self) -> bool:
        return self.name.startswith("Get-")


CMDLETS: dict[str, Cmdlet] = {}
_COMMON = {"ErrorAction": "string", "WarningAction": "string", "Verbose": "switch", "Debug": "switch"}
_WRITE = {"WhatIf": ("switch", 0), "Confirm": ("bool", 0)}


def cmdlet(
    *names: str,
    parameters: str,
    class_name: str,
    since: int = 0,
    mobile_since: int = 2013,
    required: str = "",
    exclusive: tuple[tuple[str, str], ...] = (),
    confirms: bool = False,
    positional: str = "Identity",
) -> Callable[[Run], Run]:
    """Declare a cmdlet under one or two names. `parameters`: "Identity Filter ResultSize:size ActiveSync:switch@2013"."""

    def register(run: Run) -> Run:
        for name in names:
            wanted = dict(_parse(parameters))
            if not name.startswith("Get-"):
                wanted |= _WRITE
            oldest = mobile_since if "-Mobile" in name else since
            CMDLETS[name.lower()] = Cmdlet(
                name, run, wanted, class_name, oldest, positional, tuple(required.split()), exclusive, confirms
            )
        return run

    return register


def _parse(text: str) -> Iterator[tuple[str, tuple[str, int]]]:
    for word in text.split():
        name, _, rest = word.partition(":")
        kind, _, since = rest.partition("@")
        yield name, (kind or "string", int(since or 0))


# --- binding ----------------------------------------------------------------------------------------------------


def unknown_cmdlet(name: str) -> Failure:
    return Failure(
        message=f"The term '{name}' is not recognized as the name of a cmdlet, function, script file, or operable program. "
        "Check the spelling of the name, or if a path was included, verify that the path is correct and try again.",
        exception="System.Management.Automation.CommandNotFoundException", category=OBJECT_NOT_FOUND,
        fq_error_id="CommandNotFoundException", reason="CommandNotFoundException", target_name=name,
        target_type="String", terminating=True,
    )  # fmt: skip


def _binding(
    cmdlet: Cmdlet, message: str, error_id: str, target: str = "", category: int = INVALID_ARGUMENT
) -> Refusal:
    transformation = error_id == "ParameterArgumentTransformationError"
    reason = "ParameterBindingArgumentTransformationException" if transformation else "ParameterBindingException"
    return Refusal(
        Failure(
            message=message,
            exception=f"System.Management.Automation.{reason}",
            reason=reason,
            category=INVALID_DATA if transformation else category,
            fq_error_id=f"{error_id},{cmdlet.name}",
            activity=cmdlet.name,
            target_name=target,
            terminating=True,
        )  # fmt: skip
    )


def bind(cmdlet: Cmdlet, command: Command, rank: int, hidden: frozenset[str]) -> dict[str, Any]:
    """Parameter values by their declared names. Raises Refusal as PowerShell's binder would."""
    visible = {
        name.lower(): (name, kind)
        for name, (kind, since) in cmdlet.parameters.items()
        if since <= rank and f"{cmdlet.name}:{name}".lower() not in hidden
    }
    bound: dict[str, Any] = {}
    for name, value in command.parameters:
        if name is None:
            if cmdlet.positional in bound or cmdlet.positional.lower() not in visible:
                raise _binding(
                    cmdlet,
                    f"A positional parameter cannot be found that accepts argument '{value}'.",
                    "PositionalParameterNotFound",
                )
            name = cmdlet.positional
        key = name.rstrip(":").lower()
        if key in (c.lower() for c in _COMMON):
            continue
        if key not in visible:
            raise _binding(
                cmdlet,
                f"A parameter cannot be found that matches parameter name '{name}'.",
                "NamedParameterNotFound",
                name,
            )
        declared, kind = visible[key]
        bound[declared] = _convert(cmdlet, declared, kind, value)
    for name in cmdlet.required:
        if not any(choice in bound for choice in name.split("|")):
            first = name.split("|")[0]
            raise _binding(
                cmdlet, f"Cannot process command because of one or more missing mandatory parameters: {first}.",
                "MissingMandatoryParameter", first,
            )  # fmt: skip
    for one, other in cmdlet.exclusive:
        if one in bound and other in bound:
            raise _binding(
                cmdlet,
                "Parameter set cannot be resolved using the specified named parameters.",
                "AmbiguousParameterSet",
            )
    return bound


def _convert(cmdlet: Cmdlet, name: str, kind: str, value: Any) -> Any:
    def refuse(wanted: str) -> Refusal:
        return _binding(
            cmdlet, f"Cannot process argument transformation on parameter '{name}'. Cannot convert value \"{value}\" to type "
            f"\"{wanted}\".", "ParameterArgumentTransformationError", name,
        )  # fmt: skip

    if kind in ("switch", "bool"):
        # A switch sent with an explicit null counts as present.
        if value is None:
            return kind == "switch"
        if isinstance(value, bool | int):
            return bool(value)
        raise refuse("System.Boolean")
    if value is None or kind == "any":
        return value
    if kind == "size":
        if isinstance(value, str) and value.lower() == "unlimited":
            return None
        if isinstance(value, int) or (isinstance(value, str) and value.isdigit()):
            return int(value)
        raise refuse("Microsoft.Exchange.Data.Unlimited`1[System.UInt32]")
    if kind == "number":
        if isinstance(value, int) or (isinstance(value, str) and value.isdigit()):
            return int(value)
        raise refuse("System.Int32")
    if kind == "strings":
        return value if isinstance(value, dict | list) else [value]
    if isinstance(value, dict | list):
        raise refuse("System.String")
    return str(value)


def limited(context: Context, arguments: dict[str, Any], items: Iterator[Item]) -> Iterator[Item | Output]:
    """ResultSize: 1000 unless told, with the warning that there is more."""
    size = arguments.get("ResultSize", DEFAULT_RESULT_SIZE)
    if size is None:
        yield from items
        return
    yield from itertools.islice(items, size)
    if next(items, None) is not None:
        if "ResultSize" in arguments:
            message = "There are more results available than are currently displayed. To view them, increase the value for the ResultSize parameter."
        else:
            message = (
                f"By default, only the first {size} items are returned. Use the ResultSize parameter to specify the number of "
                'items returned. To return all items, specify "-ResultSize Unlimited". Be aware that, depending on the actual '
                "number of items, returning all items can take a long time and consume a large amount of memory. Also, we "
                "don't recommend storing the results in a variable. Instead, pipe the results to another task or script to "
                "perform batch changes."
            )
        yield Warn(message)


def change_list(current: list[str], change: Any) -> list[str]:
    """A multivalued property after a change: list replaces, {Add, Remove} edits, None empties."""
    if change is None:
        return []
    if isinstance(change, dict):
        result = list(current)
        by_name = {str(key).lower(): value for key, value in change.items()}
        for value in _as_list(by_name.get("remove")):
            result = [entry for entry in result if entry.lower() != value.lower()]
        for value in _as_list(by_name.get("add")):
            if value.lower() not in (entry.lower() for entry in result):
                result.append(value)
        return result
    return _as_list(change)


def _as_list(value: Any) -> list[str]:
    if value is None:
        return []
    return [str(entry) for entry in value] if isinstance(value, list | tuple) else [str(value)]

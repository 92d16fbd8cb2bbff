"""How a cmdlet is declared, what it works with, and how Exchange words its errors. binding.py binds parameters."""

from __future__ import annotations

import datetime
import uuid
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from lab.exchange.contract import Failure, Output, SessionState, Warn
from lab.exchange.objects import Mailbox
from lab.exchange.render import Writer
from lab.exchange.store import Store

# System.Management.Automation.ErrorCategory, the members met here.
NOT_SPECIFIED, INVALID_ARGUMENT, INVALID_DATA, INVALID_OPERATION, OBJECT_NOT_FOUND, PARSER_ERROR = 0, 5, 6, 9, 13, 17
TASKS = "Microsoft.Exchange.Configuration.Tasks"


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
        """As Select-Object -Property makes it: names that the object has not are null, * is all of them."""
        return self._kept(("selected", self.types, names, full), lambda: self._select(names, full))

    def _select(self, names: tuple[str, ...], full: bool) -> bytes:
        values = {name.lower(): (name, value) for name, value in self.properties()}
        chosen: dict[str, tuple[str, Any]] = {}
        for name in names:
            if name == "*":
                chosen |= values
            else:
                chosen[name.lower()] = values.get(name.lower(), (name, None))
        types = (f"Selected.{self.types[0]}", "System.Management.Automation.PSCustomObject", "System.Object")
        return Writer(full).custom(types, list(chosen.values()))

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
        is_new = self.store.version.rank >= 2013
        could_not = "couldn't" if is_new else "could not"
        return Refusal(
            self.error(
                f"The operation couldn't be performed because object '{identity}' {could_not} be found on "
                f"'dc01.{self.store.domain}'.",
                f"{TASKS}.ManagementObjectNotFoundException",
                category=NOT_SPECIFIED if is_new else INVALID_DATA,
                target=identity,
            )
        )

    def ambiguous(self, identity: str) -> Refusal:
        """Its id and category on a real server are not known (exchange.md 5.5)."""
        return Refusal(
            self.error(
                f"The operation couldn't be performed because '{identity}' matches multiple entries.",
                f"{TASKS}.ManagementObjectAmbiguousException",
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

    def mailbox(self, identity: str, *, any_domain: bool = False) -> Mailbox:
        """The one mailbox of that identity within the session's scope. Raises Refusal."""
        found = [m for m in self.store.find_mailboxes(identity) if any_domain or self.sees(m.domain)]
        if not found:
            raise self.not_found(identity)
        if len(found) > 1:
            raise self.ambiguous(identity)
        return found[0]


Run = Callable[[Context, dict[str, Any]], Iterator[Item | Output]]


@dataclass(frozen=True)
class Parameter:
    """`kind` is one that binding.py converts to; `since` and `until` are the versions' ranks."""

    name: str
    kind: str = "string"
    since: int = 0
    until: int = 9999


@dataclass(frozen=True)
class Cmdlet:
    """`required` and `exclusive` are words of parameter names joined by |: one of them at least, or at most.

    confirms: asks unless Confirm is false.
    """

    name: str
    run: Run
    parameters: Mapping[str, Parameter]
    class_name: str
    since: int = 0
    positional: str = "Identity"
    required: tuple[tuple[str, ...], ...] = ()
    exclusive: tuple[tuple[str, ...], ...] = ()
    confirms: bool = False

    @property
    def is_read(self) -> bool:
        return self.name.startswith("Get-")


CMDLETS: dict[str, Cmdlet] = {}
_WRITE = "WhatIf:switch Confirm:switch"


def cmdlet(
    *names: str,
    parameters: str,
    class_name: str,
    required: str = "",
    exclusive: str = "",
    confirms: bool = False,
    positional: str = "Identity",
) -> Callable[[Run], Run]:
    """Declare a cmdlet under its names. A parameter is written Name:kind@since-until, all but the name optional.

    The Mobile names exist since Exchange 2013.
    """

    def register(run: Run) -> Run:
        for name in names:
            words = f"{parameters} {'' if name.startswith('Get-') else _WRITE}".split()
            CMDLETS[name.lower()] = Cmdlet(
                name=name,
                run=run,
                parameters={one.name: one for one in map(_parameter, words)},
                class_name=class_name,
                since=2013 if "-Mobile" in name else 0,
                positional=positional,
                required=tuple(tuple(word.split("|")) for word in required.split()),
                exclusive=tuple(tuple(word.split("|")) for word in exclusive.split()),
                confirms=confirms,
            )
        return run

    return register


def _parameter(word: str) -> Parameter:
    rest, _, versions = word.partition("@")
    name, _, kind = rest.partition(":")
    since, _, until = versions.partition("-")
    return Parameter(name, kind or "string", int(since or 0), int(until or 9999))

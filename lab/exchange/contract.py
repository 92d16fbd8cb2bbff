"""Where the wire half (http, auth, wsman, shell) and the Exchange half (cmdlets, store, access) of the lab meet.

The shell turns what a client sends into `Command`s, asks the engine to run them, and puts each `Output` on the wire.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol


@dataclass(frozen=True)
class Account:
    """One account of the organisation. `user` is DOMAIN\\name; `upn` is name@domain. Both sign in, with any case."""

    user: str
    upn: str
    password: str
    role: (
        str  # "connector" (everything on the connector's list), "viewer" (Get- only), "none" (may sign in, no cmdlets)
    )


@dataclass
class SessionState:
    """What one shell (runspace pool) remembers. Made by the shell, read and changed by the engine."""

    account: Account
    server: str  # FQDN of the CAS that answers
    serialization_level: str = "default"  # or "full" (?serializationLevel=Full)
    view_entire_forest: bool = False
    request_id: str = ""
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Command:
    """One command of a pipeline. `parameters`: (name or None for positional, value) in the order sent.

    Values are plain Python: str, int, bool, None, list, dict (a hashtable), uuid.UUID, datetime; a bare switch is True.
    """

    name: str
    parameters: tuple[tuple[str | None, Any], ...] = ()
    is_script: bool = False
    end_of_statement: bool = False


@dataclass(frozen=True)
class ObjectXml:
    """One output object, already rendered: a whole <Obj> (or primitive) CLIXML element, UTF-8."""

    xml: bytes


@dataclass(frozen=True)
class Warn:
    text: str


@dataclass(frozen=True)
class Progress:
    activity: str
    percent: int


@dataclass(frozen=True)
class Failure:
    """One error record. `terminating` ends the pipeline as Failed; otherwise it goes on and completes."""

    message: str
    exception: str  # full .NET name
    category: int  # System.Management.Automation.ErrorCategory
    fq_error_id: str
    reason: str  # short exception name
    activity: str = ""
    target_name: str = ""
    target_type: str = ""
    terminating: bool = False


Output = ObjectXml | Warn | Progress | Failure


class Engine(Protocol):
    """One organisation's cmdlets. Thread-safe: many shells run pipelines at once."""

    def run(self, state: SessionState, commands: Sequence[Command], stop: threading.Event) -> Iterator[Output]:
        """Run one pipeline. Never raises for what a client did; that is a Failure. Ends soon after stop is set."""

    def protocol_version(self) -> str:
        """PSRP protocolversion the organisation's version speaks: 2.1, 2.2 or 2.3."""


class Route(Protocol):
    """Something else than /powershell on a CAS's web site: ActiveSync, EWS, Autodiscover."""

    def handle(self, request: WebRequest) -> WebResponse: ...


@dataclass(frozen=True)
class WebRequest:
    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]  # names lower-case
    body: bytes
    account: Account | None  # None: not signed in and the route allows that
    server: str  # FQDN
    is_tls: bool


@dataclass(frozen=True)
class WebResponse:
    status: int
    headers: dict[str, str]
    body: bytes

"""Faults on demand: what goes wrong, where, how often. Set through the control interface, asked by every layer.

A fault matches by server FQDN ("" is every server) and, for command faults, by cmdlet ("" is every cmdlet).
"""

from __future__ import annotations

import threading
import uuid
from dataclasses import dataclass, field

# Kinds, by the layer that acts on them. `value` is seconds, a status, a count or a text, as the kind says.
HTTP_KINDS = frozenset(
    {
        "refuse",  # the listener is closed: connections are refused until the fault is lifted
        "hang",  # accept and read, answer never (or after `value` seconds)
        "status",  # answer every request with HTTP `value` (401, 403, 404, 500, 503), HTML body
        "non_soap",  # HTTP 200 with an HTML body
        "redirect",  # HTTP 302 to `value`
        "drop",  # close the connection without an answer
        "clock_skew",  # Date header and Kerberos clock are off by `value` seconds
        "expired_certificate",  # TLS listener presents an expired certificate
    }
)
SHELL_KINDS = frozenset(
    {
        "too_many_shells",  # Create answers with the version's concurrency text
        "shell_not_found",  # the shell is forgotten: 2150858843
        "broken_pool",  # the pool's state becomes Broken
        "drop_mid_stream",  # connection closed after `value` objects of a command
        "objects_per_receive",  # at most `value` objects in one Receive answer
        "malformed_clixml",  # the `value`-th object is not well-formed
        "silent_end",  # objects are sent, the final state message never
        "outcome_lost",  # the command runs to its end, then the connection is dropped without an answer
    }
)
COMMAND_KINDS = frozenset(
    {
        "hold",  # the command is not begun for `value` seconds; none: until the fault is lifted
        "slow_command",  # `value` seconds before the first object
        "slow_object",  # `value` seconds before each object
        "throttle",  # user load quota text as a terminating error; `value` milliseconds named in it
        "micro_delay",  # warning "Micro delay applied", and a delay of `value` milliseconds
        "transient",  # an ADTransientException error record, pipeline fails
        "error_record",  # a non-terminating error record after the objects, text `value`
        "truncated",  # stop after `value` objects with the ResultSize warning
        "proxy_error",  # CmdletProxyException
    }
)
# `cmdlet` is the EWS operation (CreateItem, GetFolder, FindItem), or the step of SMTP: greeting, auth, mail, rcpt,
# data, message (after the mail has come). outcome_lost knows these, too, and waits `value` seconds before it drops.
MAIL_KINDS = frozenset(
    {
        "ews_error",  # the item's own failure, with response code `value`
        "ews_fault",  # the request's, with response code `value`; ErrorServerBusy:5000 names BackOffMilliseconds
        "smtp_reply",  # this reply: `value` is code and text, "450 4.7.1 Try later"
        "smtp_drop",  # the connection is closed in place of the reply
    }
)
KINDS = HTTP_KINDS | SHELL_KINDS | COMMAND_KINDS | MAIL_KINDS


@dataclass
class Fault:
    """One fault; `times` 0 means until it is lifted, otherwise it is used up after so many matches."""

    kind: str
    server: str = ""
    cmdlet: str = ""
    value: str = ""
    times: int = 0
    id: str = field(default_factory=lambda: uuid.uuid4().hex[:8])
    used: int = 0

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"unknown fault kind {self.kind!r}; known: {', '.join(sorted(KINDS))}")


class Faults:
    """The active faults of one lab. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._faults: list[Fault] = []

    def add(self, fault: Fault) -> Fault:
        with self._lock:
            self._faults.append(fault)
        return fault

    def clear(self, id: str = "") -> None:
        with self._lock:
            self._faults = [f for f in self._faults if id and f.id != id]

    def all(self) -> list[Fault]:
        with self._lock:
            return list(self._faults)

    def peek(self, kind: str, server: str = "", cmdlet: str = "") -> Fault | None:
        """The first matching fault, without using it up."""
        with self._lock:
            return self._find(kind, server, cmdlet)

    def take(self, kind: str, server: str = "", cmdlet: str = "") -> Fault | None:
        """The first matching fault, counted as used once; gone when its times are over."""
        with self._lock:
            fault = self._find(kind, server, cmdlet)
            if fault is not None:
                fault.used += 1
                if fault.times and fault.used >= fault.times:
                    self._faults.remove(fault)
            return fault

    def _find(self, kind: str, server: str, cmdlet: str) -> Fault | None:
        for fault in self._faults:
            if (
                fault.kind == kind
                and fault.server.lower() in ("", server.lower())
                and fault.cmdlet.lower() in ("", cmdlet.lower())
            ):
                return fault
        return None

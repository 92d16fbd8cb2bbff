"""In which order an organisation's servers are tried. Pure but for the default of `now`.

The preferred server (lowest priority number) comes first, and comes back to its place by itself: a server that failed
lately rests behind the others for a while, then stands where its priority puts it.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable
from typing import Protocol, TypeVar

# How long a server that failed is tried after the others only. As long as a pool recycle or a reboot takes.
REST = datetime.timedelta(minutes=10)


class Candidate(Protocol):
    """One server with what happened at it last. Times are aware; None: never."""

    @property
    def fqdn(self) -> str: ...
    @property
    def priority(self) -> int: ...
    @property
    def last_answered_at(self) -> datetime.datetime | None: ...
    @property
    def last_error_at(self) -> datetime.datetime | None: ...


AnyCandidate = TypeVar("AnyCandidate", bound=Candidate)


def order(servers: Iterable[AnyCandidate], *, now: datetime.datetime | None = None) -> list[AnyCandidate]:
    """Every server once: those fit for use by priority, then those that rest, the longest-rested first.

    now: aware; None reads the clock.
    """
    moment = now or datetime.datetime.now(datetime.UTC)

    def rank(server: AnyCandidate) -> tuple[bool, datetime.datetime, int, str]:
        failed_at = server.last_error_at
        if failed_at is None or not _rests(server, moment):
            return (False, datetime.datetime.min.replace(tzinfo=datetime.UTC), server.priority, server.fqdn.lower())
        return (True, failed_at, server.priority, server.fqdn.lower())

    return sorted(servers, key=rank)


def _rests(server: Candidate, now: datetime.datetime) -> bool:
    if server.last_error_at is None:
        return False
    if server.last_answered_at is not None and server.last_answered_at > server.last_error_at:
        return False
    return now - server.last_error_at < REST

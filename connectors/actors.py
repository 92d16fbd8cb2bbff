"""Who does something: an argument of every service that changes anything."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Actor:
    """A person (user_id set) or a part of Gatehouse itself (user_id None)."""

    name: str
    user_id: int | None = None


SCHEDULE = Actor(name="Schedule")
COMMAND_LINE = Actor(name="Command line")
SETUP = Actor(name="Setup")

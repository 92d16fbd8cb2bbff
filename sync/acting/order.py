"""An order to act: what is to be brought about, the commands it comes to, and what became of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from sync.acting.deeds import Deed
from sync.deciding.commands import SettingsCommand
from sync.deciding.facts import OrganizationPolicy, Partnership

# Failures that a report names; the others are counted.
FAILURES = 20


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be brought about: the mailboxes' entries as they are to be when it comes to each, and these settings
    and rules (plan.py's commands of stage 3) in between. may_deny: who may lose mail by an entry; None: everyone.
    policy: what the settings were planned by; those that one saved since does not want are left."""

    organization_id: int
    mailboxes: tuple[int, ...] = ()
    may_deny: frozenset[Partnership] | None = None
    settings: tuple[SettingsCommand, ...] = ()
    policy: OrganizationPolicy | None = None


@dataclass(frozen=True, slots=True)
class Failure:
    """One command that failed. subject: "mailbox:<key>" or "settings"."""

    code: str
    params: dict[str, Any]
    subject: str


@dataclass(slots=True)
class Report:
    """Counts of commands. busy: mailboxes that another order was at, which must be looked at again. failed_mailboxes:
    whose command failed, or whose outcome is not known. failures: the first of them."""

    planned: int = 0
    done: int = 0
    failed: int = 0
    skipped: int = 0
    observed: int = 0
    unknown: int = 0
    canceled: int = 0
    busy: set[int] = field(default_factory=set)
    failed_mailboxes: set[int] = field(default_factory=set)
    failures: list[Failure] = field(default_factory=list)

    def fail(self, code: str, params: dict[str, Any], subject: str) -> None:
        """Count a command that failed."""
        self.failed += 1
        if len(self.failures) < FAILURES:
            self.failures.append(Failure(code, params, subject))


@dataclass(frozen=True, slots=True)
class Job:
    """A command handed to a worker. mailbox None: settings, a rule."""

    command: int
    deed: Deed
    subject: str
    mailbox: int | None = None

"""What decide, plan, drift and guard look at: one organisation at one moment. Does nothing."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from sync.deciding.facts import (
    EasDevice,
    EntryChoice,
    ExchangeSettings,
    Key,
    Ledger,
    Mailbox,
    OrganizationPolicy,
    Override,
    Partnership,
    TenantPolicy,
)
from sync.deciding.matches import Match


@dataclass(frozen=True, slots=True)
class World:
    """A whole organisation, or some of its mailboxes: then with all phones of each, or an entry would seem to be
    nobody's.

    now: aware UTC. matches: match()'s answer, by the phones' keys. mailboxes: by their keys; a phone whose mailbox is
    not among them is decided, but nothing is written for it. exchange: as read.

    absent: partnerships that went lately, too many at once to be believed: their entries stay. heard_at: when device
    management was last heard of, None where that does not count; how long a phone is silent is known until then.
    """

    now: datetime.datetime
    devices: Sequence[EasDevice]
    matches: Mapping[Key, Match]
    mailboxes: Mapping[Key, Mailbox]
    tenant: TenantPolicy = field(default_factory=TenantPolicy)
    organization: OrganizationPolicy = field(default_factory=OrganizationPolicy)
    exchange: ExchangeSettings = field(default_factory=ExchangeSettings)
    ledger: Ledger = field(default_factory=Ledger)
    overrides: Iterable[Override] = ()
    choices: Iterable[EntryChoice] = ()
    absent: frozenset[Partnership] = frozenset()
    heard_at: datetime.datetime | None = None

    def __post_init__(self) -> None:
        if self.now.tzinfo is None:
            raise ValueError("A moment without a time zone says nothing.")

    def as_it_is(self) -> World:
        """The same with Exchange's settings as they are: for syncs that enforce none. What the policy wants of them may
        have to wait for approval, and nobody must be let in or kept out as if it had come already."""
        governed = {rule.key for rule in (*self.organization.rules, *self.ledger.rules)}
        policy = replace(
            self.organization,
            default_level=None,
            rules=tuple(rule for rule in self.exchange.rules if rule.key in governed),
            user_mail_insert=None,
            admin_mail_recipients=None,
        )
        return replace(self, organization=policy)

"""A command of the journal as something that can be shown, sent, read back and compared: one class a kind.

Reaches no database, so that it may run in any thread; what it needs it was given, and the journal's row holds the same
(payload), so that another process can take it up after this one died. Sends exactly one cmdlet that changes something
(removing a partnership: two, of which the second is sent only after the first), never twice.

Written to and read back at the same domain controller (controllers.py). After a crash it is not known any more; a
reading then comes a lease later at the soonest.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Protocol

from connectors.exchange import cmdlets, powershell
from connectors.exchange.client import ExchangeClient
from connectors.exchange.cmdlets import Identity
from connectors.exchange.errors import AlreadyExistsError, NotFoundError
from connectors.exchange.records import (
    ActiveSyncOrganizationSettingsRecord,
    CasMailboxRecord,
    DeviceAccessRuleRecord,
    DeviceStatisticsRecord,
    MailboxPolicyRecord,
)
from sync.acting.controllers import CONFIGURATION, Controllers, place_of_mailbox, write_and_read
from sync.deciding import commands
from sync.deciding.facts import AccessRule, Level, id_key


@dataclass(frozen=True, slots=True)
class Reading:
    """What was found; only what the deed is about is set. asked_at: just before Exchange was asked, aware UTC.

    is_gone: the mailbox that the deed is about does not exist (any more); is_device_gone: the partnership. controller:
    the domain controller that was named for it, "" when Exchange chose.
    """

    asked_at: datetime.datetime
    mailbox: CasMailboxRecord | None = None
    settings: ActiveSyncOrganizationSettingsRecord | None = None
    rules: tuple[DeviceAccessRuleRecord, ...] | None = None
    statistics: tuple[DeviceStatisticsRecord, ...] | None = None
    policies: tuple[MailboxPolicyRecord, ...] | None = None
    is_gone: bool = False
    is_device_gone: bool = False
    controller: str = ""


class Deed(Protocol):
    """kind: a Command.Kind's value. read() may be called by itself, long after send() and by another process.

    is_answer_enough: that Exchange answered says that it is done, whatever a reading shows.
    """

    kind: ClassVar[str]
    is_answer_enough: ClassVar[bool]

    def text(self) -> str:
        """Its PowerShell text, for people."""

    def payload(self) -> dict[str, Any]:
        """JSON; device_deeds.deed_of() makes the same deed of it."""

    def send(self, client: ExchangeClient, controllers: Controllers) -> Reading | None:
        """Send, and read back. None: Exchange did it, but the reading failed. Raises ExchangeError, CanceledError."""

    def read(self, client: ExchangeClient) -> Reading:
        """Raises ExchangeError, CanceledError."""

    def is_done(self, reading: Reading) -> bool:
        """Whether all is as the command wanted it, whoever did it."""


def utc_now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


# --- personal entries ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class MailboxEntries:
    """Set-CASMailbox of one mailbox. domain: the mailbox's, "" when not known."""

    kind: ClassVar[str] = "mailboxEntries"
    is_answer_enough: ClassVar[bool] = False

    identity: str
    domain: str = ""
    allow_add: tuple[str, ...] = ()
    allow_remove: tuple[str, ...] = ()
    block_add: tuple[str, ...] = ()
    block_remove: tuple[str, ...] = ()

    def text(self) -> str:
        return powershell.text(
            cmdlets.set_cas_mailbox(
                Identity(self.identity),
                allowed_add=self.allow_add,
                allowed_remove=self.allow_remove,
                blocked_add=self.block_add,
                blocked_remove=self.block_remove,
            )
        )

    def payload(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def of(cls, payload: Mapping[str, Any]) -> MailboxEntries:
        lists = {name: tuple(payload[name]) for name in ("allow_add", "allow_remove", "block_add", "block_remove")}
        return cls(str(payload["identity"]), str(payload.get("domain", "")), **lists)

    def send(self, client: ExchangeClient, controllers: Controllers) -> Reading | None:
        identity = Identity(self.identity)
        return write_and_read(
            client,
            controllers,
            place_of_mailbox(identity, self.domain),
            write=lambda controller: client.set_mailbox_entries(
                identity,
                allowed_add=self.allow_add,
                allowed_remove=self.allow_remove,
                blocked_add=self.block_add,
                blocked_remove=self.block_remove,
                domain_controller=controller,
            ),
            read=lambda controller: mailbox_read(client, identity, controller),
        )

    def read(self, client: ExchangeClient) -> Reading:
        return mailbox_read(client, Identity(self.identity))

    def is_done(self, reading: Reading) -> bool:
        found = reading.mailbox
        if found is None:
            return False
        allowed, blocked = keys(found.allowed_device_ids), keys(found.blocked_device_ids)
        return (
            keys(self.allow_add) <= allowed
            and keys(self.block_add) <= blocked
            and not (keys(self.allow_remove) - keys(self.allow_add)) & allowed
            and not (keys(self.block_remove) - keys(self.block_add)) & blocked
        )


def keys(device_ids: tuple[str, ...]) -> set[str]:
    """DeviceIds for comparing."""
    return {id_key(device_id) for device_id in device_ids}


def mailbox_read(client: ExchangeClient, identity: Identity, controller: str = "") -> Reading:
    """One mailbox, or that it is gone. Raises ExchangeError, CanceledError."""
    asked_at = utc_now()
    try:
        found = client.cas_mailbox(identity, domain_controller=controller)
    except NotFoundError:
        return Reading(asked_at, is_gone=True, controller=controller)
    return Reading(asked_at, mailbox=found, controller=controller)


# --- the organisation's settings and rules --------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class OrganizationSettings:
    """Set-ActiveSyncOrganizationSettings. None: not changed."""

    kind: ClassVar[str] = "settings"
    is_answer_enough: ClassVar[bool] = False

    default_level: str | None = None  # as facts.Level has it
    user_mail_insert: str | None = None
    admin_mail_recipients: tuple[str, ...] | None = None

    def text(self) -> str:
        return powershell.text(
            cmdlets.set_active_sync_organization_settings(
                default_access_level=self._level,
                user_mail_insert=self.user_mail_insert,
                admin_recipients=self.admin_mail_recipients,
            )
        )

    @property
    def _level(self) -> str:
        return Level(self.default_level).label if self.default_level else ""

    def payload(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def of(cls, payload: Mapping[str, Any]) -> OrganizationSettings:
        recipients = payload["admin_mail_recipients"]
        return cls(
            payload["default_level"], payload["user_mail_insert"], None if recipients is None else tuple(recipients)
        )

    def send(self, client: ExchangeClient, controllers: Controllers) -> Reading | None:
        def write(controller: str) -> None:
            client.set_organization_settings(
                default_access_level=self._level,
                user_mail_insert=self.user_mail_insert,
                admin_recipients=self.admin_mail_recipients,
                domain_controller=controller,
            )

        return write_and_read(
            client,
            controllers,
            CONFIGURATION,
            write=write,
            read=lambda controller: self.read(client, controller),
        )

    def read(self, client: ExchangeClient, controller: str = "") -> Reading:
        asked_at = utc_now()
        found = client.organization_settings(domain_controller=controller)
        return Reading(asked_at, settings=found, controller=controller)

    def is_done(self, reading: Reading) -> bool:
        found, recipients = reading.settings, self.admin_mail_recipients
        return (
            found is not None
            and self.default_level in (None, found.default_access_level.lower())
            and self.user_mail_insert in (None, found.user_mail_insert)
            and (recipients is None or _folded(recipients) == _folded(found.admin_mail_recipients))
        )


def _folded(addresses: tuple[str, ...]) -> set[str]:
    return {address.lower() for address in addresses}


@dataclass(frozen=True, slots=True)
class _Rule:
    """What the three of them share: a rule is told by characteristic and query; its identity's form differs."""

    is_answer_enough: ClassVar[bool] = False

    characteristic: str
    query: str
    level: str  # as facts.Level has it; of a removal, as it was
    identity: str = ""

    def payload(self) -> dict[str, Any]:
        return {
            "characteristic": self.characteristic,
            "query": self.query,
            "level": self.level,
            "identity": self.identity,
        }

    def read(self, client: ExchangeClient, controller: str = "") -> Reading:
        asked_at = utc_now()
        return Reading(asked_at, rules=client.device_access_rules(domain_controller=controller), controller=controller)

    def found(self, reading: Reading) -> DeviceAccessRuleRecord | None:
        wanted = AccessRule(self.characteristic, self.query, Level.ALLOW).key
        for rule in reading.rules or ():
            if AccessRule(rule.characteristic, rule.query_string, Level.ALLOW).key == wanted:
                return rule
        return None

    def _is_at_level(self, reading: Reading) -> bool:
        found = self.found(reading)
        return found is not None and found.access_level.lower() == self.level


@dataclass(frozen=True, slots=True)
class RuleCreate(_Rule):
    kind: ClassVar[str] = "ruleCreate"

    def text(self) -> str:
        return powershell.text(
            cmdlets.new_active_sync_device_access_rule(
                characteristic=self.characteristic, query_string=self.query, access_level=Level(self.level).label
            )
        )

    def send(self, client: ExchangeClient, controllers: Controllers) -> Reading | None:
        return write_and_read(
            client,
            controllers,
            CONFIGURATION,
            write=lambda controller: client.device_access_rule_create(
                characteristic=self.characteristic,
                query_string=self.query,
                access_level=Level(self.level).label,
                domain_controller=controller,
            ),
            read=lambda controller: self.read(client, controller),
            unless=(AlreadyExistsError,),
        )

    def is_done(self, reading: Reading) -> bool:
        return self._is_at_level(reading)


@dataclass(frozen=True, slots=True)
class RuleSet(_Rule):
    kind: ClassVar[str] = "ruleSet"

    def text(self) -> str:
        return powershell.text(
            cmdlets.set_active_sync_device_access_rule(Identity(self.identity), access_level=Level(self.level).label)
        )

    def send(self, client: ExchangeClient, controllers: Controllers) -> Reading | None:
        return write_and_read(
            client,
            controllers,
            CONFIGURATION,
            write=lambda controller: client.device_access_rule_set(
                Identity(self.identity), access_level=Level(self.level).label, domain_controller=controller
            ),
            read=lambda controller: self.read(client, controller),
        )

    def is_done(self, reading: Reading) -> bool:
        return self._is_at_level(reading)


@dataclass(frozen=True, slots=True)
class RuleRemove(_Rule):
    kind: ClassVar[str] = "ruleRemove"

    def text(self) -> str:
        return powershell.text(cmdlets.remove_active_sync_device_access_rule(Identity(self.identity)))

    def send(self, client: ExchangeClient, controllers: Controllers) -> Reading | None:
        return write_and_read(
            client,
            controllers,
            CONFIGURATION,
            write=lambda controller: client.device_access_rule_remove(
                Identity(self.identity), domain_controller=controller
            ),
            read=lambda controller: self.read(client, controller),
            unless=(NotFoundError,),
        )

    def is_done(self, reading: Reading) -> bool:
        return reading.rules is not None and self.found(reading) is None


# --- from the plan --------------------------------------------------------------------------------------------------


def deed_of_plan(command: commands.Command, *, domain: str = "") -> MailboxEntries | OrganizationSettings | RuleDeed:
    """What a command of plan.py comes to. domain: the mailbox's."""
    match command:
        case commands.SetMailboxEntries():
            return MailboxEntries(
                command.identity,
                domain,
                command.allow_add,
                command.allow_remove,
                command.block_add,
                command.block_remove,
            )
        case commands.SetOrganizationSettings():
            level = command.default_level
            return OrganizationSettings(
                level.value if level else None, command.user_mail_insert, command.admin_mail_recipients
            )
        case commands.CreateRule(rule=rule):
            return RuleCreate(rule.characteristic, rule.query, rule.level.value)
        case commands.SetRuleLevel(rule=rule, level=level):
            return RuleSet(rule.characteristic, rule.query, level.value, rule.identity)
        case commands.RemoveRule(rule=rule):
            return RuleRemove(rule.characteristic, rule.query, rule.level.value, rule.identity)


RuleDeed = RuleCreate | RuleSet | RuleRemove


def _rule(cls: type[RuleCreate] | type[RuleSet] | type[RuleRemove]) -> Callable[[Mapping[str, Any]], Deed]:
    names = ("characteristic", "query", "level", "identity")
    return lambda payload: cls(*(str(payload[name]) for name in names))


KINDS: Mapping[str, Callable[[Mapping[str, Any]], Deed]] = {
    MailboxEntries.kind: MailboxEntries.of,
    OrganizationSettings.kind: OrganizationSettings.of,
    **{cls.kind: _rule(cls) for cls in (RuleCreate, RuleSet, RuleRemove)},
}

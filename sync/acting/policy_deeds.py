"""Commands about mailbox policies, and which of them a mailbox has.

As deeds.py. A policy is told by its GUID, so that it is found when it was renamed; a new one by its name, of which
there is one in an organization.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar

from connectors.exchange import cmdlets, powershell
from connectors.exchange.client import ExchangeClient
from connectors.exchange.cmdlets import Family, Identity
from connectors.exchange.errors import NotFoundError
from connectors.exchange.policies import PolicyValue
from connectors.exchange.records import MailboxPolicyRecord
from sync.acting.controllers import CONFIGURATION, Controllers, place_of_mailbox, write_and_read
from sync.acting.deeds import Deed, Reading, mailbox_read, utc_now
from sync.policies.mailbox_policy_values import from_json, same, to_json


def policies_read(client: ExchangeClient, controller: str = "") -> Reading:
    """All policies of the organization. Raises ExchangeError, CanceledError."""
    asked_at = utc_now()
    return Reading(asked_at, policies=client.mailbox_policies(domain_controller=controller), controller=controller)


def is_as_wanted(found: MailboxPolicyRecord, settings: Mapping[str, PolicyValue]) -> bool:
    """Whether a policy has these settings, whatever else it has. One that it does not show has its own way."""
    return all(name not in found.settings or same(name, found.settings[name], settings[name]) for name in settings)


@dataclass(frozen=True, slots=True)
class _OfPolicy:
    """policy: the GUID. name: for people; of a change, the name that it is to have then, "" to keep its own."""

    is_answer_enough: ClassVar[bool] = False

    policy: str
    name: str
    family: str

    def payload(self) -> dict[str, Any]:
        return asdict(self)

    def read(self, client: ExchangeClient) -> Reading:
        return policies_read(client)

    def found(self, reading: Reading) -> MailboxPolicyRecord | None:
        return next((one for one in reading.policies or () if str(one.guid) == self.policy), None)


@dataclass(frozen=True, slots=True)
class PolicyCreate:
    kind: ClassVar[str] = "policyCreate"
    is_answer_enough: ClassVar[bool] = False

    name: str
    family: str
    settings: Mapping[str, PolicyValue] = field(default_factory=dict)

    def payload(self) -> dict[str, Any]:
        return {**asdict(self), "settings": to_json(self.settings)}

    @classmethod
    def of(cls, payload: Mapping[str, Any]) -> PolicyCreate:
        return cls(str(payload["name"]), str(payload["family"]), from_json(payload["settings"]))

    def text(self) -> str:
        return powershell.text(cmdlets.new_mailbox_policy(Family(self.family), self.name, self.settings))

    def send(self, client: ExchangeClient, controllers: Controllers) -> Reading | None:
        return write_and_read(
            client,
            controllers,
            CONFIGURATION,
            write=lambda controller: client.mailbox_policy_create(
                self.name, self.settings, domain_controller=controller
            ),
            read=lambda controller: policies_read(client, controller),
        )

    def read(self, client: ExchangeClient) -> Reading:
        return policies_read(client)

    def is_done(self, reading: Reading) -> bool:
        wanted = self.name.lower()
        return any(one.name.lower() == wanted and is_as_wanted(one, self.settings) for one in reading.policies or ())


@dataclass(frozen=True, slots=True)
class PolicySet(_OfPolicy):
    """Changes what is named; make_default: for mailboxes that have no policy of their own."""

    kind: ClassVar[str] = "policySet"

    settings: Mapping[str, PolicyValue] = field(default_factory=dict)
    make_default: bool = False

    def payload(self) -> dict[str, Any]:
        return {**asdict(self), "settings": to_json(self.settings)}

    @classmethod
    def of(cls, payload: Mapping[str, Any]) -> PolicySet:
        return cls(
            str(payload["policy"]),
            str(payload["name"]),
            str(payload["family"]),
            from_json(payload["settings"]),
            bool(payload["make_default"]),
        )

    def text(self) -> str:
        return powershell.text(
            cmdlets.set_mailbox_policy(
                Family(self.family),
                Identity(self.policy),
                self.settings,
                name=self.name,
                make_default=self.make_default,
            )
        )

    def send(self, client: ExchangeClient, controllers: Controllers) -> Reading | None:
        def write(controller: str) -> None:
            client.mailbox_policy_set(
                Identity(self.policy),
                self.settings,
                name=self.name,
                make_default=self.make_default,
                domain_controller=controller,
            )

        return write_and_read(
            client,
            controllers,
            CONFIGURATION,
            write=write,
            read=lambda controller: policies_read(client, controller),
        )

    def is_done(self, reading: Reading) -> bool:
        found = self.found(reading)
        return (
            found is not None
            and is_as_wanted(found, self.settings)
            and self.name in ("", found.name)
            and (found.is_default or not self.make_default)
        )


@dataclass(frozen=True, slots=True)
class PolicyRemove(_OfPolicy):
    """Never the default one: Exchange refuses without Force, which is not sent."""

    kind: ClassVar[str] = "policyRemove"

    @classmethod
    def of(cls, payload: Mapping[str, Any]) -> PolicyRemove:
        return cls(str(payload["policy"]), str(payload["name"]), str(payload["family"]))

    def text(self) -> str:
        return powershell.text(cmdlets.remove_mailbox_policy(Family(self.family), Identity(self.policy)))

    def send(self, client: ExchangeClient, controllers: Controllers) -> Reading | None:
        return write_and_read(
            client,
            controllers,
            CONFIGURATION,
            write=lambda controller: client.mailbox_policy_remove(Identity(self.policy), domain_controller=controller),
            read=lambda controller: policies_read(client, controller),
            unless=(NotFoundError,),
        )

    def is_done(self, reading: Reading) -> bool:
        return reading.policies is not None and self.found(reading) is None


@dataclass(frozen=True, slots=True)
class PolicyAssign:
    """mailbox: its GUID. policy: the GUID; "" for the organization's default. names: all by which a mailbox may name
    that policy, in lower case."""

    kind: ClassVar[str] = "policyAssign"
    is_answer_enough: ClassVar[bool] = False

    mailbox: str
    policy: str
    name: str = ""
    names: tuple[str, ...] = ()
    domain: str = ""

    def payload(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def of(cls, payload: Mapping[str, Any]) -> PolicyAssign:
        return cls(
            str(payload["mailbox"]),
            str(payload["policy"]),
            str(payload["name"]),
            tuple(payload["names"]),
            str(payload["domain"]),
        )

    def _policy(self) -> Identity | None:
        return Identity(self.policy) if self.policy else None

    def text(self) -> str:
        return powershell.text(cmdlets.assign_mailbox_policy(Identity(self.mailbox), self._policy()))

    def send(self, client: ExchangeClient, controllers: Controllers) -> Reading | None:
        mailbox = Identity(self.mailbox)
        return write_and_read(
            client,
            controllers,
            place_of_mailbox(mailbox, self.domain),
            write=lambda controller: client.mailbox_policy_assign(
                mailbox, self._policy(), domain_controller=controller
            ),
            read=lambda controller: mailbox_read(client, mailbox, controller),
        )

    def read(self, client: ExchangeClient) -> Reading:
        return mailbox_read(client, Identity(self.mailbox))

    def is_done(self, reading: Reading) -> bool:
        found = reading.mailbox
        if found is None:
            return False
        has = "" if found.is_policy_defaulted else found.active_sync_mailbox_policy.strip().lower()
        return has in self.names if self.policy else not has


KINDS: Mapping[str, Callable[[Mapping[str, Any]], Deed]] = {
    cls.kind: cls.of for cls in (PolicyCreate, PolicySet, PolicyRemove, PolicyAssign)
}
PolicyDeed = PolicyCreate | PolicySet | PolicyRemove

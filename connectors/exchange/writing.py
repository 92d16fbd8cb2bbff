"""The part of a session that changes things in Exchange: one command a method, through one funnel.

It never retries, reads nothing back and asks nothing first: whoever calls keeps a journal and does. Whether a command
may leave at all is decided below (pool.py), where no method can forget it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import TypeVar

from connectors.exchange import cmdlets, rows
from connectors.exchange.clixml import CliObject
from connectors.exchange.cmdlets import Command, Family, Identity
from connectors.exchange.policies import PolicyValue
from connectors.exchange.records import DeviceAccessRuleRecord, MailboxPolicyRecord

AnyRecord = TypeVar("AnyRecord")


class Writing(ABC):
    """The writing half of client.ExchangeClient, which says what each method does and raises."""

    @property
    @abstractmethod
    def family(self) -> Family:
        """What the device cmdlets are called here."""

    @property
    @abstractmethod
    def policy_family(self) -> Family:
        """What the policy cmdlets are called here."""

    @abstractmethod
    def execute(self, command: Command) -> None:
        """Run one command that changes something."""

    @abstractmethod
    def _created(self, make: Callable[[CliObject], AnyRecord], command: Command) -> AnyRecord:
        """Run one command that creates something, and read what it gave."""

    # Mailboxes and devices

    def set_mailbox_entries(
        self,
        identity: Identity,
        *,
        allowed_add: tuple[str, ...] = (),
        allowed_remove: tuple[str, ...] = (),
        blocked_add: tuple[str, ...] = (),
        blocked_remove: tuple[str, ...] = (),
        domain_controller: str = "",
    ) -> None:
        self.execute(
            cmdlets.set_cas_mailbox(
                identity,
                allowed_add=allowed_add,
                allowed_remove=allowed_remove,
                blocked_add=blocked_add,
                blocked_remove=blocked_remove,
                domain_controller=domain_controller,
            )
        )

    def device_wipe(
        self,
        identity: Identity,
        *,
        account_only: bool = False,
        notify: tuple[str, ...] = (),
        domain_controller: str = "",
    ) -> None:
        self.execute(
            cmdlets.clear_mobile_device(
                self.family, identity, account_only=account_only, notify=notify, domain_controller=domain_controller
            )
        )

    def device_wipe_cancel(self, identity: Identity, *, domain_controller: str = "") -> None:
        self.execute(
            cmdlets.clear_mobile_device(self.family, identity, cancel=True, domain_controller=domain_controller)
        )

    def device_remove(self, identity: Identity, *, domain_controller: str = "") -> None:
        self.execute(cmdlets.remove_mobile_device(self.family, identity, domain_controller=domain_controller))

    # The organisation

    def set_organization_settings(
        self,
        *,
        default_access_level: str = "",
        user_mail_insert: str | None = None,
        admin_recipients_add: tuple[str, ...] = (),
        admin_recipients_remove: tuple[str, ...] = (),
        admin_recipients: tuple[str, ...] | None = None,
        domain_controller: str = "",
    ) -> None:
        self.execute(
            cmdlets.set_active_sync_organization_settings(
                default_access_level=default_access_level,
                user_mail_insert=user_mail_insert,
                admin_recipients_add=admin_recipients_add,
                admin_recipients_remove=admin_recipients_remove,
                admin_recipients=admin_recipients,
                domain_controller=domain_controller,
            )
        )

    def device_access_rule_create(
        self, *, characteristic: str, query_string: str, access_level: str, domain_controller: str = ""
    ) -> DeviceAccessRuleRecord:
        return self._created(
            rows.device_access_rule,
            cmdlets.new_active_sync_device_access_rule(
                characteristic=characteristic,
                query_string=query_string,
                access_level=access_level,
                domain_controller=domain_controller,
            ),
        )

    def device_access_rule_set(self, identity: Identity, *, access_level: str, domain_controller: str = "") -> None:
        self.execute(
            cmdlets.set_active_sync_device_access_rule(
                identity, access_level=access_level, domain_controller=domain_controller
            )
        )

    def device_access_rule_remove(self, identity: Identity, *, domain_controller: str = "") -> None:
        self.execute(cmdlets.remove_active_sync_device_access_rule(identity, domain_controller=domain_controller))

    # Mailbox policies

    def mailbox_policy_create(
        self, name: str, settings: Mapping[str, PolicyValue], *, is_default: bool = False, domain_controller: str = ""
    ) -> MailboxPolicyRecord:
        return self._created(
            rows.mailbox_policy,
            cmdlets.new_mailbox_policy(
                self.policy_family, name, settings, is_default=is_default, domain_controller=domain_controller
            ),
        )

    def mailbox_policy_set(
        self,
        identity: Identity,
        settings: Mapping[str, PolicyValue],
        *,
        name: str = "",
        make_default: bool = False,
        domain_controller: str = "",
    ) -> None:
        self.execute(
            cmdlets.set_mailbox_policy(
                self.policy_family,
                identity,
                settings,
                name=name,
                make_default=make_default,
                domain_controller=domain_controller,
            )
        )

    def mailbox_policy_remove(self, identity: Identity, *, force: bool = False, domain_controller: str = "") -> None:
        self.execute(
            cmdlets.remove_mailbox_policy(
                self.policy_family, identity, force=force, domain_controller=domain_controller
            )
        )

    def mailbox_policy_assign(self, mailbox: Identity, policy: Identity | None, *, domain_controller: str = "") -> None:
        self.execute(cmdlets.assign_mailbox_policy(mailbox, policy, domain_controller=domain_controller))

"""A small Exchange to act on, and an organization of which each phone is to be let in: for tests of act, lane and acts
of people.

`Wire.open_sessions` stands where gateway.open_sessions does, `Wire.open` where gateway.open_exchange does. What is
planned for a place ("set", "read", "after set", "open", "remove", "wipe", ...) happens at its next passing: an
exception is raised, anything else called. "after set" is reached when Exchange has done it.
"""

from __future__ import annotations

import datetime
import threading
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from django.utils import timezone

from connectors.exchange import cmdlets, powershell
from connectors.exchange.client import Endpoint, Throttling
from connectors.exchange.errors import AlreadyExistsError, NotFoundError, NotPermittedError, ObserveOnlyError
from connectors.exchange.records import (
    ActiveSyncOrganizationSettingsRecord,
    CasMailboxRecord,
    DeviceAccessRuleRecord,
    DeviceStatisticsRecord,
)
from connectors.models import Connector, DeviceSource, ExchangeOrganization
from sync.models import DirectoryUser, Mailbox, ManagedDevice, MobileDevice, PolicyVersion, UserKeyText
from sync.policies.policy import TenantPolicyValues

SERVER = "ex01.contoso.com"
CONTROLLER = "dc01.contoso.com"
LONG_AGO = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)


def guid_of(number: int) -> uuid.UUID:
    return uuid.UUID(int=5000 + number)


def cas_mailbox(number: int, **values: Any) -> CasMailboxRecord:
    """Mailbox `number`, always the same; `values` are what differs."""
    made = CasMailboxRecord(
        guid=guid_of(number),
        identity=f"contoso.com/Users/Person {number}",
        name=f"Person {number}",
        display_name=f"Person {number}",
        distinguished_name=f"CN=Person {number},CN=Users,DC=contoso,DC=com",
        sam_account_name=f"person{number}",
        primary_smtp_address=f"person{number}@contoso.com",
        email_addresses=(f"SMTP:person{number}@contoso.com",),
        originating_server=CONTROLLER,
        active_sync_enabled=True,
        has_active_sync_device_partnership=True,
        allowed_device_ids=(),
        blocked_device_ids=(),
        active_sync_mailbox_policy="",
        is_policy_defaulted=True,
        when_changed=None,
    )
    return replace(made, **values)


class Wire:
    """What Exchange holds, and every command that changed something, in order."""

    def __init__(self) -> None:
        self.mailboxes: dict[uuid.UUID, CasMailboxRecord] = {}
        self.settings = ActiveSyncOrganizationSettingsRecord("Quarantine", "", ())
        self.rules: list[DeviceAccessRuleRecord] = []
        self.statistics: dict[uuid.UUID, list[DeviceStatisticsRecord]] = defaultdict(list)
        self.devices: dict[str, uuid.UUID] = {}  # identity of a partnership: its mailbox
        self.sent: list[tuple[str, str]] = []  # (cmdlet, identity)
        self.controllers: list[str] = []
        self.reads = 0
        self.idle_sets = 0  # that changed nothing
        self.sessions = 0
        self.in_flight = 0
        self.most_in_flight = 0
        self._lock = threading.RLock()
        self._plan: dict[str, list[Any]] = defaultdict(list)

    def at(self, place: str, *happens: Any) -> None:
        self._plan[place] += happens

    def pass_by(self, place: str) -> None:
        with self._lock:
            happens = self._plan[place].pop(0) if self._plan[place] else None
        if isinstance(happens, BaseException):
            raise happens
        if happens is not None:
            happens()

    def sets(self) -> list[str]:
        return [identity for cmdlet, identity in self.sent if cmdlet == "Set-CASMailbox"]

    def lists(self) -> dict[uuid.UUID, tuple[tuple[str, ...], tuple[str, ...]]]:
        return {guid: (one.allowed_device_ids, one.blocked_device_ids) for guid, one in self.mailboxes.items()}

    @contextmanager
    def open(self, connector: Connector, *, should_stop: Callable[[], bool] = lambda: False, **_: Any) -> Iterator[Any]:
        self.pass_by("open")
        self.sessions += 1
        yield Session(self, Connector.objects.get(pk=connector.pk).is_observe_only)

    @contextmanager
    def open_sessions(self, connector: Connector, **_: Any) -> Iterator[Any]:
        yield Sessions(self, Connector.objects.get(pk=connector.pk).is_observe_only)


class Sessions:
    def __init__(self, wire: Wire, observe_only: bool) -> None:
        self._wire, self._observe_only = wire, observe_only

    @contextmanager
    def open(self, *, should_stop: Callable[[], bool]) -> Iterator[Session]:
        self._wire.pass_by("open")
        self._wire.sessions += 1
        yield Session(self._wire, self._observe_only)

    def settle(self) -> None:
        return None


class Session:
    """An ExchangeClient, as far as acting needs one."""

    def __init__(self, wire: Wire, observe_only: bool = False) -> None:
        self.wire, self.is_observe_only = wire, observe_only
        self.endpoint = Endpoint(SERVER, 443, use_tls=True)
        self.throttling = Throttling()

    # --- reading ---

    def cas_mailbox(self, identity: str, *, domain_controller: str = "") -> CasMailboxRecord:
        self.wire.pass_by("read")
        with self.wire._lock:
            self.wire.reads += 1
            found = self.wire.mailboxes.get(uuid.UUID(identity))
        if found is None:
            raise NotFoundError("no such mailbox", server=SERVER)
        return found

    def cas_mailboxes_by_guid(self, guids: Iterable[uuid.UUID]) -> Iterator[tuple[CasMailboxRecord, ...]]:
        self.wire.pass_by("list")
        yield tuple(found for guid in guids if (found := self.wire.mailboxes.get(guid)) is not None)

    def users_by_guid(self, guids: Iterable[uuid.UUID]) -> Iterator[tuple[Any, ...]]:
        raise NotPermittedError("Get-User is not granted")

    def organization_settings(self, *, domain_controller: str = "") -> ActiveSyncOrganizationSettingsRecord:
        self.wire.pass_by("read")
        return self.wire.settings

    def device_access_rules(self, *, domain_controller: str = "") -> tuple[DeviceAccessRuleRecord, ...]:
        self.wire.pass_by("read")
        return tuple(self.wire.rules)

    def device_statistics(self, mailbox: str) -> tuple[DeviceStatisticsRecord, ...]:
        self.wire.pass_by("statistics")
        if uuid.UUID(mailbox) not in self.wire.mailboxes:
            raise NotFoundError("no such mailbox", server=SERVER)
        return tuple(self.wire.statistics[uuid.UUID(mailbox)])

    def device(self, identity: str, *, domain_controller: str = "") -> object:
        self.wire.pass_by("read")
        if identity not in self.wire.devices:
            raise NotFoundError("no such device", server=SERVER)
        return object()

    # --- writing ---

    @contextmanager
    def _write(self, place: str, command: cmdlets.Command, identity: str = "") -> Iterator[None]:
        if self.is_observe_only:
            raise ObserveOnlyError("observes only", command=powershell.text(command))
        with self.wire._lock:
            self.wire.in_flight += 1
            self.wire.most_in_flight = max(self.wire.most_in_flight, self.wire.in_flight)
        try:
            self.wire.pass_by(place)
            with self.wire._lock:
                self.wire.sent.append((command.name, identity))
                yield
            self.wire.pass_by(f"after {place}")
        finally:
            with self.wire._lock:
                self.wire.in_flight -= 1

    def set_mailbox_entries(self, identity: str, *, domain_controller: str = "", **changes: Any) -> None:
        command = cmdlets.set_cas_mailbox(cmdlets.Identity(identity), **changes)
        self.wire.controllers.append(domain_controller)
        with self._write("set", command, identity):
            found = self.wire.mailboxes.get(uuid.UUID(identity))
            if found is None:
                raise NotFoundError("no such mailbox", server=SERVER)
            changed = replace(
                found,
                allowed_device_ids=_changed(found.allowed_device_ids, changes, "allowed"),
                blocked_device_ids=_changed(found.blocked_device_ids, changes, "blocked"),
            )
            self.wire.idle_sets += changed == found
            self.wire.mailboxes[found.guid] = changed

    def set_organization_settings(
        self,
        *,
        default_access_level: str = "",
        user_mail_insert: str | None = None,
        admin_recipients: tuple[str, ...] | None = None,
        **_: Any,
    ) -> None:
        command = cmdlets.set_active_sync_organization_settings(
            default_access_level=default_access_level,
            user_mail_insert=user_mail_insert,
            admin_recipients=admin_recipients,
        )
        with self._write("settings", command):
            now = self.wire.settings
            self.wire.settings = ActiveSyncOrganizationSettingsRecord(
                default_access_level or now.default_access_level,
                now.user_mail_insert if user_mail_insert is None else user_mail_insert,
                now.admin_mail_recipients if admin_recipients is None else admin_recipients,
            )

    def device_access_rule_create(
        self, *, characteristic: str, query_string: str, access_level: str, **_: Any
    ) -> object:
        command = cmdlets.new_active_sync_device_access_rule(
            characteristic=characteristic, query_string=query_string, access_level=access_level
        )
        name = f"{query_string} ({characteristic})"
        with self._write("rule", command, name):
            if any(rule.identity == name for rule in self.wire.rules):
                raise AlreadyExistsError("there is such a rule", server=SERVER)
            self.wire.rules.append(DeviceAccessRuleRecord(name, name, characteristic, query_string, access_level))
        return object()

    def device_access_rule_remove(self, identity: str, **_: Any) -> None:
        with self._write("rule", cmdlets.remove_active_sync_device_access_rule(cmdlets.Identity(identity)), identity):
            if not any(rule.identity == identity for rule in self.wire.rules):
                raise NotFoundError("no such rule", server=SERVER)
            self.wire.rules = [rule for rule in self.wire.rules if rule.identity != identity]

    def device_access_rule_set(self, identity: str, *, access_level: str, **_: Any) -> None:
        command = cmdlets.set_active_sync_device_access_rule(cmdlets.Identity(identity), access_level=access_level)
        with self._write("rule", command, identity):
            self.wire.rules = [
                replace(rule, access_level=access_level) if rule.identity == identity else rule
                for rule in self.wire.rules
            ]

    def device_remove(self, identity: str, **_: Any) -> None:
        command = cmdlets.remove_mobile_device(cmdlets.Family.MOBILE, cmdlets.Identity(identity))
        with self._write("remove", command, identity):
            if self.wire.devices.pop(identity, None) is None:
                raise NotFoundError("no such device", server=SERVER)

    def device_wipe(self, identity: str, *, account_only: bool = False, notify: tuple[str, ...] = (), **_: Any) -> None:
        command = cmdlets.clear_mobile_device(
            cmdlets.Family.MOBILE, cmdlets.Identity(identity), account_only=account_only, notify=notify
        )
        name = "account_only_wipe_requested_at" if account_only else "wipe_requested_at"
        with self._write("wipe", command, identity):
            self._statistics_set(identity, **{name: timezone.now()})

    def device_wipe_cancel(self, identity: str, **_: Any) -> None:
        command = cmdlets.clear_mobile_device(cmdlets.Family.MOBILE, cmdlets.Identity(identity), cancel=True)
        with self._write("wipe", command, identity):
            self._statistics_set(identity, wipe_requested_at=None, account_only_wipe_requested_at=None)

    def _statistics_set(self, identity: str, **values: Any) -> None:
        if identity not in self.wire.devices:
            raise NotFoundError("no such device", server=SERVER)
        rows = self.wire.statistics[self.wire.devices[identity]]
        rows[:] = [replace(one, **values) if one.identity == identity else one for one in rows]


def _changed(held: tuple[str, ...], changes: dict[str, tuple[str, ...]], name: str) -> tuple[str, ...]:
    removed = {one.lower() for one in changes.get(f"{name}_remove", ())}
    kept = tuple(one for one in held if one.lower() not in removed)
    known = {one.lower() for one in kept}
    return kept + tuple(one for one in changes.get(f"{name}_add", ()) if one.lower() not in known)


def statistics(identity: str, device_id: str, **values: Any) -> DeviceStatisticsRecord:
    names = DeviceStatisticsRecord.__dataclass_fields__
    made: dict[str, Any] = {name: None if name.endswith(("_at", "_time", "_sync")) else "" for name in names}
    made |= {"identity": identity, "device_id": device_id, "is_remote_wipe_supported": True, "status": "DeviceOk"}
    return DeviceStatisticsRecord(**{**made, **values})


class Office:
    """An organization with `size` people, a phone each (device id PHONE<n>), known on both sides; all compliant, and
    the default level quarantines: each is to be on its mailbox's allow list."""

    def __init__(self, connector: Connector, size: int = 3) -> None:
        self.connector, self.wire = connector, Wire()
        self.organization = connector.organization
        self.mailboxes: list[Mailbox] = []
        self.devices: list[MobileDevice] = []
        self.records: list[ManagedDevice] = []
        ExchangeOrganization.objects.filter(pk=self.organization.pk).update(
            default_access_level="Quarantine", version="2019", settings_observed_at=LONG_AGO, rules_observed_at=LONG_AGO
        )
        self.organization.refresh_from_db()
        DeviceSource.objects.update_or_create(
            tenant=self.organization.tenant,
            defaults={"kind": DeviceSource.Kind.PUSHED, "last_pushed_at": LONG_AGO},
        )
        self.policy()
        self._fill(size)

    def policy(self, **values: Any) -> None:
        """The tenant's policy: on, for everyone, compliant ones always allowed; `values` are what differs."""
        chosen = {
            "enabled": True,
            "target_everyone": True,
            "unlicensed": "asOthers",
            "guard_devices": 100_000,
            **values,
        }
        number = PolicyVersion.objects.filter(tenant=self.organization.tenant, organization=None).count() + 1
        PolicyVersion.objects.create(
            tenant=self.organization.tenant,
            number=number,
            content=TenantPolicyValues(**chosen).to_json(),
            made_at=timezone.now(),
            made_by_name="Ada",
        )

    def _fill(self, size: int) -> None:
        for number in range(size):
            record = cas_mailbox(number)
            self.wire.mailboxes[record.guid] = record
            self.mailboxes.append(
                Mailbox(
                    organization=self.organization, guid=record.guid, identity=record.identity,
                    distinguished_name=record.distinguished_name, dn_key=record.distinguished_name.lower(),
                    display_name=record.display_name, primary_smtp=record.primary_smtp_address,
                    addresses=list(record.email_addresses), sam=record.sam_account_name, domain="contoso.com",
                    read_at=LONG_AGO, changed_at=LONG_AGO,
                )
            )  # fmt: skip
        self.mailboxes = Mailbox.objects.bulk_create(self.mailboxes)
        for number, mailbox in enumerate(self.mailboxes):
            identity = f"contoso.com/Users/Person {number}/ExchangeActiveSyncDevices/iPhone§PHONE{number}"
            self.wire.devices[identity] = mailbox.guid
            self.wire.statistics[mailbox.guid] = [statistics(identity, f"PHONE{number}")]
            self.devices.append(
                MobileDevice(
                    organization=self.organization, guid=uuid.UUID(int=9000 + number), identity=identity,
                    distinguished_name=f"CN=iPhone§PHONE{number},CN=ExchangeActiveSyncDevices,{mailbox.distinguished_name}",
                    device_id=f"PHONE{number}", device_id_key=f"phone{number}", mailbox=mailbox.identity,
                    mailbox_key=mailbox.identity.lower(), owner=mailbox, device_type="iPhone", client_type="EAS",
                    wire_digest=number.to_bytes(16, "big"), first_observed_at=LONG_AGO, changed_at=LONG_AGO,
                )
            )  # fmt: skip
        self.devices = MobileDevice.objects.bulk_create(self.devices)
        users = DirectoryUser.objects.bulk_create(
            DirectoryUser(
                tenant=self.organization.tenant, source_id=f"u{number}", upn=f"person{number}@contoso.com",
                mail=f"person{number}@contoso.com", changed_at=LONG_AGO,
            )
            for number in range(size)
        )  # fmt: skip
        UserKeyText.objects.bulk_create(
            UserKeyText(user=user, tenant=self.organization.tenant, kind=kind, text=user.upn)
            for user in users
            for kind in ("upn", "smtp")
        )
        self.records = ManagedDevice.objects.bulk_create(
            ManagedDevice(
                tenant=self.organization.tenant, source="pushed", source_id=f"r{number}", user_source_id=f"u{number}",
                upn=f"person{number}@contoso.com", upn_key=f"person{number}@contoso.com",
                email=f"person{number}@contoso.com", email_key=f"person{number}@contoso.com",
                eas_device_id=f"PHONE{number}", eas_device_id_key=f"phone{number}", compliance="compliant",
                registered=True, first_seen_at=LONG_AGO, changed_at=LONG_AGO,
            )
            for number in range(size)
        )  # fmt: skip

    @property
    def keys(self) -> tuple[int, ...]:
        return tuple(mailbox.pk for mailbox in self.mailboxes)

    def compliance(self, number: int, value: str) -> None:
        ManagedDevice.objects.filter(pk=self.records[number].pk).update(compliance=value)

    def wanted(self) -> dict[uuid.UUID, tuple[tuple[str, ...], tuple[str, ...]]]:
        """The lists when all are let in."""
        return {mailbox.guid: ((f"PHONE{number}",), ()) for number, mailbox in enumerate(self.mailboxes)}

"""A small Exchange behind our own ExchangeClient protocol: devices, mailboxes, rules and settings in memory, and things
that happen at named places.

`exchange.open` stands where connectors.gateway.open_exchange does, `exchange.open_sessions_of` where its open_sessions.
Places, in the order a full sync passes them: "open", "servers", "organization", "settings", "rules", "classes",
"listing", "page 1", "page 2", ..., "end" (all pages given, but not yet complete), "mailboxes", "users"; then, when
something is sent, "session", "write" (before a command is carried out), "written" (after), "read back".
What is planned for a place is raised there when it is an exception, and called when it is anything else.

It evaluates nothing: which phone gets mail is for the lab to say.
"""

from __future__ import annotations

import datetime
import hashlib
import re
import threading
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from connectors.exchange import cmdlets, powershell
from connectors.exchange.client import Endpoint, Throttling, never
from connectors.exchange.errors import (
    AlreadyExistsError,
    BadRequestError,
    CanceledError,
    NotFoundError,
    ObserveOnlyError,
)
from connectors.exchange.records import (
    ActiveSyncOrganizationSettingsRecord,
    CasMailboxRecord,
    DeviceAccessRuleRecord,
    DeviceClassRecord,
    DevicePage,
    DeviceStatisticsRecord,
    ExchangeServerRecord,
    MailboxPolicyRecord,
    MobileDeviceRecord,
    OrganizationRecord,
    RecipientRecord,
    RecordError,
    ServerVersion,
    UserRecord,
)
from connectors.models import Connector
from tests.connectors.factories import E2019, ORGANIZATION_RECORD, SETTINGS_RECORD, server_record

EPOCH = datetime.datetime(2026, 3, 1, 8, 0, tzinfo=datetime.UTC)
SERVER = "ex01.contoso.com"
FAMILY = cmdlets.Family.MOBILE
_GUID = re.compile(r"Guid -eq '([0-9a-f-]{36})'")
_NAME = re.compile(r"DistinguishedName -eq '((?:[^']|'')*)'")
_CLAUSE = re.compile(r"(\w+) -(eq|gt) '((?:[^']|'')*)'")


def device(number: int, **values: Any) -> MobileDeviceRecord:
    """Device `number`, always the same; `values` are what differs."""
    mailbox = f"contoso.com/Users/Person {number}"
    made = MobileDeviceRecord(
        guid=uuid.UUID(int=number + 1),
        identity=f"{mailbox}/ExchangeActiveSyncDevices/Phone§{number}",
        distinguished_name=f"CN=Phone§{number},CN=ExchangeActiveSyncDevices,CN=Person {number},DC=contoso,DC=com",
        mailbox=mailbox,
        device_id=f"ID{number:04d}",
        user_display_name=f"Person {number}",
        friendly_name="",
        device_type="iPhone",
        device_model="iPhone15C2",
        device_os="iOS 19.1",
        device_os_language="de",
        device_user_agent="Apple-iPhone15C2/2201.1",
        device_imei="",
        device_mobile_operator="",
        device_telephone_number="",
        client_type="EAS",
        client_version="16.1",
        access_state="Allowed",
        access_state_reason="Global",
        access_control_rule="",
        first_sync_time=EPOCH,
        when_created=EPOCH,
        when_changed=EPOCH,
    )
    return replace(made, **values)


def mailbox(number: int, **values: Any) -> CasMailboxRecord:
    """The mailbox of device `number`, always the same; `values` are what differs."""
    made = CasMailboxRecord(
        guid=uuid.UUID(int=1_000_000 + number),
        identity=f"contoso.com/Users/Person {number}",
        name=f"Person {number}",
        display_name=f"Person {number}",
        distinguished_name=f"CN=Person {number},DC=contoso,DC=com",
        sam_account_name=f"person{number}",
        primary_smtp_address=f"person{number}@contoso.com",
        email_addresses=(f"SMTP:person{number}@contoso.com",),
        originating_server="dc01.contoso.com",
        active_sync_enabled=True,
        has_active_sync_device_partnership=True,
        allowed_device_ids=(),
        blocked_device_ids=(),
        active_sync_mailbox_policy="",
        is_policy_defaulted=True,
        when_changed=EPOCH,
    )
    return replace(made, **values)


def user(number: int, **values: Any) -> UserRecord:
    """The account of mailbox `number`."""
    box = mailbox(number)
    made = UserRecord(
        guid=box.guid,
        identity=box.identity,
        distinguished_name=box.distinguished_name,
        sid=f"S-1-5-21-1-2-3-{1000 + number}",
        user_principal_name=f"person{number}@contoso.com",
        sam_account_name=box.sam_account_name,
        primary_smtp_address=box.primary_smtp_address,
    )
    return replace(made, **values)


@dataclass(frozen=True, slots=True)
class Wire:
    """One object of a listing; `broken` is one that no record can be made of."""

    record: MobileDeviceRecord
    salt: str = ""
    broken: bool = False

    @property
    def raw(self) -> bytes:
        return (repr(self.record) + self.salt).encode("utf-8", "surrogatepass")

    @property
    def digest(self) -> bytes:
        return hashlib.blake2b(self.raw, digest_size=16).digest()


def parse(wire: Any) -> MobileDeviceRecord:
    if wire.broken:
        raise RecordError(f"{wire.record.identity}: DeviceId is missing\0")
    record: MobileDeviceRecord = wire.record
    return record


@dataclass
class FakeExchange:
    """`salt` changes every object's bytes and no value; `broken` holds numbers of guids that cannot be read."""

    devices: dict[uuid.UUID, MobileDeviceRecord] = field(default_factory=dict)
    page_size: int = 4
    salt: str = ""
    broken: set[uuid.UUID] = field(default_factory=set)
    micro_delay: float = 0.0
    refuses_time_filters: bool = False
    servers: tuple[ExchangeServerRecord, ...] = (server_record(SERVER), server_record("ex02.contoso.com"))
    mailboxes: dict[uuid.UUID, CasMailboxRecord] = field(default_factory=dict)
    users: dict[uuid.UUID, UserRecord] = field(default_factory=dict)
    settings: ActiveSyncOrganizationSettingsRecord = SETTINGS_RECORD
    rules: dict[str, DeviceAccessRuleRecord] = field(default_factory=dict)
    classes: tuple[DeviceClassRecord, ...] = ()
    policies: dict[str, MailboxPolicyRecord] = field(default_factory=dict)
    statistics: dict[uuid.UUID, tuple[DeviceStatisticsRecord, ...]] = field(default_factory=dict)
    # What was asked for: filters of device listings and of mailbox listings, None for all of them.
    filters: list[str | None] = field(default_factory=list)
    mailbox_filters: list[str | None] = field(default_factory=list)
    # What was carried out, as PowerShell text, in order; several sessions write at once.
    written: list[str] = field(default_factory=list)
    sessions: int = 0
    open_sessions: int = 0
    lock: threading.RLock = field(default_factory=threading.RLock, repr=False)
    _plan: dict[str, list[Any]] = field(default_factory=lambda: defaultdict(list))

    def put(self, *records: MobileDeviceRecord) -> None:
        self.devices.update({record.guid: record for record in records})

    def put_people(self, *numbers: int, **values: Any) -> None:
        """Mailboxes of devices `numbers`, with their accounts; `values` are what differs in each mailbox."""
        for number in numbers:
            box = mailbox(number, **values)
            self.mailboxes[box.guid] = box
            self.users[box.guid] = user(number)

    def box(self, number: int) -> CasMailboxRecord:
        return self.mailboxes[mailbox(number).guid]

    def change_box(self, number: int, **values: Any) -> None:
        """As another administrator would."""
        self.mailboxes[mailbox(number).guid] = replace(self.box(number), **values)

    def put_rule(self, characteristic: str, query: str, level: str) -> DeviceAccessRuleRecord:
        identity = f"{query} ({characteristic})"
        self.rules[identity] = DeviceAccessRuleRecord(identity, identity, characteristic, query, level)
        return self.rules[identity]

    def take(self, *numbers: int) -> None:
        for number in numbers:
            self.devices.pop(uuid.UUID(int=number + 1), None)

    def at(self, place: str, happens: BaseException | Callable[[], object], times: int = 1) -> None:
        """Plan something for the next `times` passings of a place."""
        self._plan[place] += [happens] * times

    def pass_by(self, place: str) -> None:
        if self._plan[place]:
            happens = self._plan[place].pop(0)
            if isinstance(happens, BaseException):
                raise happens
            happens()

    @contextmanager
    def open(
        self,
        connector: Any,
        *,
        role: str = "sync",
        should_stop: Callable[[], bool],
        on_event: Callable[[str, dict[str, object]], None],
        observe_only: bool | None = None,
    ) -> Iterator[FakeSession]:
        self.sessions += 1
        self.pass_by("open")
        if should_stop():
            raise CanceledError
        on_event("server_answered", {"server": SERVER})
        self.open_sessions += 1
        try:
            yield FakeSession(self, should_stop, observe_only=_observes(connector, observe_only))
        finally:
            self.open_sessions -= 1

    @contextmanager
    def open_sessions_of(
        self,
        connector: Any,
        *,
        role: str = "act",
        observe_only: bool | None = None,
        on_event: Callable[[str, dict[str, object]], None] = lambda code, params: None,
    ) -> Iterator[FakeSessions]:
        yield FakeSessions(self, observe_only=_observes(connector, observe_only))


def _observes(connector: Any, observe_only: bool | None) -> bool:
    if not isinstance(connector, Connector):
        return bool(observe_only)
    return bool(observe_only) or Connector.objects.filter(pk=connector.pk, is_observe_only=True).exists()


@dataclass
class FakeSessions:
    """What connectors.parallel opens its sessions from."""

    exchange: FakeExchange
    observe_only: bool = False

    @contextmanager
    def open(self, *, should_stop: Callable[[], bool] = never) -> Iterator[FakeSession]:
        with self.exchange.lock:
            self.exchange.pass_by("session")
            self.exchange.sessions += 1
            self.exchange.open_sessions += 1
        try:
            yield FakeSession(self.exchange, should_stop, observe_only=self.observe_only)
        finally:
            with self.exchange.lock:
                self.exchange.open_sessions -= 1

    def settle(self) -> None:
        """Nothing was learnt of servers."""


class FakeSession:
    """An ExchangeClient."""

    def __init__(self, exchange: FakeExchange, should_stop: Callable[[], bool], *, observe_only: bool = False) -> None:
        self.exchange = exchange
        self.endpoint = Endpoint(SERVER, 443, use_tls=True)
        self.throttling = Throttling(seconds=exchange.micro_delay)
        self.is_observe_only = observe_only
        self._should_stop = should_stop

    @property
    def version(self) -> ServerVersion | None:
        return E2019

    def servers(self) -> tuple[ExchangeServerRecord, ...]:
        self._pass_by("servers")
        return self.exchange.servers

    def organization(self) -> OrganizationRecord:
        self._pass_by("organization")
        return ORGANIZATION_RECORD

    def organization_settings(self, *, domain_controller: str = "") -> ActiveSyncOrganizationSettingsRecord:
        self._pass_by("settings")
        return self.exchange.settings

    def device_access_rules(self, *, domain_controller: str = "") -> tuple[DeviceAccessRuleRecord, ...]:
        self._pass_by("rules")
        return tuple(self.exchange.rules.values())

    def device_classes(self) -> tuple[DeviceClassRecord, ...]:
        self._pass_by("classes")
        return self.exchange.classes

    def mailbox_policies(self, *, domain_controller: str = "") -> tuple[MailboxPolicyRecord, ...]:
        self._pass_by("policies")
        return tuple(self.exchange.policies.values())

    # --- mailboxes and people ---

    def cas_mailboxes(self, *, filter: str | None = None) -> Iterator[tuple[CasMailboxRecord, ...]]:
        self.exchange.mailbox_filters.append(filter)
        self._pass_by("mailboxes")
        boxes = list(self.exchange.mailboxes.values())
        if filter is None:
            boxes = [
                box
                for box in boxes
                if box.has_active_sync_device_partnership or box.allowed_device_ids or box.blocked_device_ids
            ]
        else:
            names = {name.replace("''", "'") for name in _NAME.findall(filter)}
            assert names, filter
            boxes = [box for box in boxes if box.distinguished_name in names]
        yield from self._paged(boxes)

    def cas_mailboxes_by_guid(self, guids: Iterable[uuid.UUID]) -> Iterator[tuple[CasMailboxRecord, ...]]:
        wanted = list(guids)
        self.exchange.mailbox_filters.append(f"{len(wanted)} by guid")
        self._pass_by("mailboxes")
        yield from self._paged([self.exchange.mailboxes[guid] for guid in wanted if guid in self.exchange.mailboxes])

    def cas_mailbox(self, identity: cmdlets.Identity, *, domain_controller: str = "") -> CasMailboxRecord:
        self._pass_by("read back")
        return self._box(identity)

    def users(self, *, filter: str | None = None) -> Iterator[tuple[UserRecord, ...]]:
        assert filter is None
        self._pass_by("users")
        yield from self._paged(list(self.exchange.users.values()))

    def users_by_guid(self, guids: Iterable[uuid.UUID]) -> Iterator[tuple[UserRecord, ...]]:
        wanted = list(guids)
        self._pass_by("users")
        yield from self._paged([self.exchange.users[guid] for guid in wanted if guid in self.exchange.users])

    def recipients(self, *, filter: str | None = None) -> Iterator[tuple[RecipientRecord, ...]]:
        raise AssertionError("nothing asks for recipients")

    def recipients_by_guid(self, guids: Iterable[uuid.UUID]) -> Iterator[tuple[RecipientRecord, ...]]:
        raise AssertionError("nothing asks for recipients")

    def device(self, identity: cmdlets.Identity, *, domain_controller: str = "") -> MobileDeviceRecord:
        self._pass_by("read back")
        for record in self.exchange.devices.values():
            if identity in (record.identity, str(record.guid)):
                return record
        raise NotFoundError(f"no device {identity}")

    def device_statistics(self, mailbox: cmdlets.Identity) -> tuple[DeviceStatisticsRecord, ...]:
        self._pass_by("statistics")
        return self.exchange.statistics.get(self._box(mailbox).guid, ())

    def _box(self, identity: str) -> CasMailboxRecord:
        for box in self.exchange.mailboxes.values():
            if identity in (str(box.guid), box.identity, box.distinguished_name):
                return box
        raise NotFoundError(f"no mailbox {identity}")

    def _paged(self, records: list[Any]) -> Iterator[tuple[Any, ...]]:
        size = self.exchange.page_size
        for start in range(0, len(records), size):
            if self._should_stop():
                raise CanceledError
            yield tuple(records[start : start + size])

    # --- writing ---

    def execute(self, command: cmdlets.Command) -> None:
        with self._writing(command):
            pass

    @contextmanager
    def _writing(self, command: cmdlets.Command) -> Iterator[None]:
        text = powershell.text(command)
        if self.is_observe_only:
            raise ObserveOnlyError("this session only observes", command=text)
        with self.exchange.lock:
            self._pass_by("write")
            yield
            self.exchange.written.append(text)
            self.exchange.pass_by("written")

    def set_mailbox_entries(
        self,
        identity: cmdlets.Identity,
        *,
        allowed_add: tuple[str, ...] = (),
        allowed_remove: tuple[str, ...] = (),
        blocked_add: tuple[str, ...] = (),
        blocked_remove: tuple[str, ...] = (),
        domain_controller: str = "",
    ) -> None:
        command = cmdlets.set_cas_mailbox(
            identity,
            allowed_add=allowed_add,
            allowed_remove=allowed_remove,
            blocked_add=blocked_add,
            blocked_remove=blocked_remove,
        )
        with self._writing(command):
            box = self._box(identity)
            self.exchange.mailboxes[box.guid] = replace(
                box,
                allowed_device_ids=_changed(box.allowed_device_ids, allowed_add, allowed_remove),
                blocked_device_ids=_changed(box.blocked_device_ids, blocked_add, blocked_remove),
            )

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
        command = cmdlets.set_active_sync_organization_settings(
            default_access_level=default_access_level,
            user_mail_insert=user_mail_insert,
            admin_recipients_add=admin_recipients_add,
            admin_recipients_remove=admin_recipients_remove,
            admin_recipients=admin_recipients,
        )
        with self._writing(command):
            held = self.exchange.settings
            recipients = held.admin_mail_recipients if admin_recipients is None else admin_recipients
            self.exchange.settings = ActiveSyncOrganizationSettingsRecord(
                default_access_level or held.default_access_level,
                held.user_mail_insert if user_mail_insert is None else user_mail_insert,
                _changed(recipients, admin_recipients_add, admin_recipients_remove),
            )

    def device_access_rule_create(
        self, *, characteristic: str, query_string: str, access_level: str, domain_controller: str = ""
    ) -> DeviceAccessRuleRecord:
        command = cmdlets.new_active_sync_device_access_rule(
            characteristic=characteristic, query_string=query_string, access_level=access_level
        )
        with self._writing(command):
            if f"{query_string} ({characteristic})" in self.exchange.rules:
                raise AlreadyExistsError("there is such a rule")
            return self.exchange.put_rule(characteristic, query_string, access_level)

    def device_access_rule_set(
        self, identity: cmdlets.Identity, *, access_level: str, domain_controller: str = ""
    ) -> None:
        with self._writing(cmdlets.set_active_sync_device_access_rule(identity, access_level=access_level)):
            if identity not in self.exchange.rules:
                raise NotFoundError(f"no rule {identity}")
            self.exchange.rules[identity] = replace(self.exchange.rules[identity], access_level=access_level)

    def device_access_rule_remove(self, identity: cmdlets.Identity, *, domain_controller: str = "") -> None:
        with self._writing(cmdlets.remove_active_sync_device_access_rule(identity)):
            if self.exchange.rules.pop(str(identity), None) is None:
                raise NotFoundError(f"no rule {identity}")

    def devices(self, *, filter: str | None = None) -> Iterator[DevicePage]:
        exchange = self.exchange
        exchange.filters.append(filter)
        self._pass_by("listing")
        if filter and "FirstSyncTime" in filter and exchange.refuses_time_filters:
            raise BadRequestError("refused", code="argument_refused")
        found = [record for record in exchange.devices.values() if filter is None or _fits(record, filter)]
        wires = [Wire(record, exchange.salt, record.guid in exchange.broken) for record in found]
        for number, start in enumerate(range(0, len(wires), exchange.page_size), 1):
            self._pass_by(f"page {number}")
            yield DevicePage(tuple(wires[start : start + exchange.page_size]), parse)
        self._pass_by("end")

    def _pass_by(self, place: str) -> None:
        if self._should_stop():
            raise CanceledError
        self.exchange.pass_by(place)

    def mailbox_policy_create(
        self, name: str, settings: Mapping[str, Any], *, is_default: bool = False, domain_controller: str = ""
    ) -> MailboxPolicyRecord:
        made = MailboxPolicyRecord(
            identity=name,
            name=name,
            guid=uuid.uuid5(uuid.NAMESPACE_URL, name),
            distinguished_name=f"CN={name},CN=Mobile Mailbox Policies,DC=contoso,DC=com",
            is_default=is_default,
            settings=dict(settings),
            when_changed=EPOCH,
        )
        with self._writing(cmdlets.new_mailbox_policy(FAMILY, name, settings, is_default=is_default)):
            if name in self.exchange.policies:
                raise AlreadyExistsError("there is such a policy")
            self._default_move(is_default)
            self.exchange.policies[name] = made
        return made

    def mailbox_policy_set(
        self,
        identity: cmdlets.Identity,
        settings: Mapping[str, Any],
        *,
        name: str = "",
        make_default: bool = False,
        domain_controller: str = "",
    ) -> None:
        command = cmdlets.set_mailbox_policy(FAMILY, identity, settings, name=name, make_default=make_default)
        with self._writing(command):
            held = self._policy(identity)
            self._default_move(make_default)
            del self.exchange.policies[held.name]
            self.exchange.policies[name or held.name] = replace(
                held,
                name=name or held.name,
                is_default=make_default or held.is_default,
                settings={**held.settings, **settings},
            )

    def mailbox_policy_remove(
        self, identity: cmdlets.Identity, *, force: bool = False, domain_controller: str = ""
    ) -> None:
        with self._writing(cmdlets.remove_mailbox_policy(FAMILY, identity, force=force)):
            del self.exchange.policies[self._policy(identity).name]

    def mailbox_policy_assign(
        self, mailbox: cmdlets.Identity, policy: cmdlets.Identity | None, *, domain_controller: str = ""
    ) -> None:
        with self._writing(cmdlets.assign_mailbox_policy(mailbox, policy)):
            box = self._box(mailbox)
            self.exchange.mailboxes[box.guid] = replace(
                box, active_sync_mailbox_policy=str(policy or ""), is_policy_defaulted=policy is None
            )

    def _policy(self, identity: str) -> MailboxPolicyRecord:
        for policy in self.exchange.policies.values():
            if identity in (policy.identity, policy.name, str(policy.guid)):
                return policy
        raise NotFoundError(f"no policy {identity}")

    def _default_move(self, is_moved: bool) -> None:
        if is_moved:
            others = self.exchange.policies.items()
            self.exchange.policies = {name: replace(policy, is_default=False) for name, policy in others}

    def device_wipe(
        self,
        identity: cmdlets.Identity,
        *,
        account_only: bool = False,
        notify: tuple[str, ...] = (),
        domain_controller: str = "",
    ) -> None:
        with self._writing(cmdlets.clear_mobile_device(FAMILY, identity, account_only=account_only, notify=notify)):
            self._wiped(self.device(identity), EPOCH, account_only=account_only)

    def device_wipe_cancel(self, identity: cmdlets.Identity, *, domain_controller: str = "") -> None:
        with self._writing(cmdlets.clear_mobile_device(FAMILY, identity, cancel=True)):
            self._wiped(self.device(identity), None, account_only=False)

    def _wiped(self, record: MobileDeviceRecord, at: datetime.datetime | None, *, account_only: bool) -> None:
        field = "account_only_wipe_requested_at" if account_only else "wipe_requested_at"
        changes: dict[str, Any] = {field: at}
        self.exchange.statistics = {
            guid: tuple(replace(one, **changes) if one.device_id == record.device_id else one for one in statistics)
            for guid, statistics in self.exchange.statistics.items()
        }

    def device_remove(self, identity: cmdlets.Identity, *, domain_controller: str = "") -> None:
        with self._writing(cmdlets.remove_mobile_device(FAMILY, identity)):
            del self.exchange.devices[self.device(identity).guid]


def _changed(held: tuple[str, ...], add: tuple[str, ...], remove: tuple[str, ...]) -> tuple[str, ...]:
    """A list after Add and Remove; case does not count, adding twice and removing what is not there is no error."""
    gone = {text.lower() for text in remove}
    left = [text for text in held if text.lower() not in gone]
    known = {text.lower() for text in left}
    return (*left, *(text for text in add if text.lower() not in known))


def _fits(record: MobileDeviceRecord, text: str) -> bool:
    """Whether a device meets a filter: clauses joined by -or, as the quick sync writes them."""
    clauses = _CLAUSE.findall(text)
    assert clauses, text
    return any(_meets(record, *clause) for clause in clauses)


def _meets(record: MobileDeviceRecord, name: str, operator: str, value: str) -> bool:
    if name == "FirstSyncTime":
        assert operator == "gt"
        moment = datetime.datetime.strptime(value, "%Y-%m-%d %H:%M:%SZ").replace(tzinfo=datetime.UTC)
        return record.first_sync_time is not None and record.first_sync_time > moment
    held = {"DeviceAccessState": record.access_state, "DeviceId": record.device_id}[name]
    return held == value.replace("''", "'")

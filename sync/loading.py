"""What the pure phases are told, read from the tables: a whole organization, or some of its mailboxes.

Reads alone, and a few statements whatever the number of rows. Some mailboxes come with all that could speak about
them, so that their verdicts are those of the whole: every phone of theirs, every record with such a phone's id or that
a person linked, every person whom a mailbox or such a record may name.
"""

from __future__ import annotations

import base64
import datetime
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

from django.db.models import QuerySet

from connectors.models import DeviceSource, ExchangeOrganization
from sync import facts
from sync.blocks import blocks
from sync.facts import Key, id_key, text_key
from sync.match import match
from sync.models import (
    AccessOverride,
    DeviceLink,
    DirectoryGroup,
    DirectoryUser,
    EntryChoice,
    GroupMember,
    LedgerEntry,
    Mailbox,
    ManagedDevice,
    MobileDevice,
    OrganizationLedger,
    Presence,
    UserKeyText,
)
from sync.people import UserKey, keys_of_mailbox, smtp_key
from sync.policy import OrganizationPolicyValues, TenantPolicyValues
from sync.policy_rows import organization_policy, tenant_policy
from sync.rulebook import rules_from_json, settings_facts, settings_from_json
from sync.world import World

# Why no new denial may be enacted: what is not known of people and records must keep nobody out.
NO_SOURCE, RECORDS_NEVER_READ, PEOPLE_NEVER_READ, GROUP_NEVER_READ = (
    "noSource", "recordsNeverRead", "peopleNeverRead", "groupNeverRead",
)  # fmt: skip

Texts: TypeAlias = dict[UserKey, set[str]]


@dataclass(frozen=True, slots=True)
class Loaded:
    """One organization at one moment. mailboxes: those that were asked for, None: all. total_devices: of the whole
    organization. doubts: codes of what was never read; while there is one, nobody may newly be kept out."""

    organization: ExchangeOrganization
    tenant: TenantPolicyValues
    policy: OrganizationPolicyValues
    world: World
    mailboxes: frozenset[int] | None
    total_devices: int
    doubts: tuple[str, ...] = ()

    @property
    def is_whole(self) -> bool:
        return self.mailboxes is None


def world_load(
    organization_id: int,
    *,
    mailboxes: Collection[int] | None = None,
    now: datetime.datetime,
    tenant_values: TenantPolicyValues | None = None,
    organization_values: OrganizationPolicyValues | None = None,
) -> Loaded:
    """The organization as `now` (aware) finds it. What is gone is not in it. Values given replace the policy in force,
    to see what they would come to.

    A phone whose mailbox has no row belongs to a mailbox that is not in the world: nothing is written for it.
    """
    organization = ExchangeOrganization.objects.select_related("tenant").get(pk=organization_id)
    tenant = tenant_values or tenant_policy(organization.tenant_id)
    policy = organization_values or organization_policy(organization_id)
    chosen = None if mailboxes is None else frozenset(mailboxes)
    reader = _Reader(organization, tenant, chosen)
    devices, boxes = reader.devices(), reader.mailboxes()
    links = reader.links()
    records, users = reader.records_and_users(devices, boxes.values(), links)
    ledger = OrganizationLedger.objects.filter(organization_id=organization_id).first()
    world = World(
        now=now,
        devices=devices,
        matches=match(devices, boxes.values(), records, users, links),
        mailboxes=boxes,
        tenant=tenant.facts(),
        organization=policy.facts(),
        exchange=settings_facts(organization),
        ledger=facts.Ledger(
            entries=reader.entries(),
            rules=rules_from_json(ledger.rules) if ledger else (),
            settings=settings_from_json(ledger.settings) if ledger else None,
        ),
        overrides=reader.overrides(),
        choices=reader.choices(),
    )
    total = MobileDevice.objects.filter(organization_id=organization_id, gone_at=None).count()
    return Loaded(organization, tenant, policy, world, chosen, total, doubts_of(organization.tenant_id, tenant))


def is_governed(organization: ExchangeOrganization) -> bool:
    """Whether mailboxes and records matter at all: something is to be decided, can be matched, or is ours to undo."""
    has_source = DeviceSource.objects.filter(tenant_id=organization.tenant_id).exclude(kind=DeviceSource.Kind.NONE)
    return is_enforcing(organization) or has_source.exists()


def is_enforcing(organization: ExchangeOrganization) -> bool:
    """Whether there is anything to bring to Exchange: a policy, a person's word, or what is ours there."""
    if tenant_policy(organization.tenant_id).enabled:
        return True
    policy = organization_policy(organization.pk)
    is_set = (policy.default_level, policy.user_mail_insert, policy.admin_mail_recipients)
    if policy.rules or any(value is not None for value in is_set):
        return True
    return (
        AccessOverride.objects.filter(organization=organization, ended_at=None).exists()
        or LedgerEntry.objects.filter(mailbox__organization=organization).exists()
        or OrganizationLedger.objects.filter(organization=organization).exclude(rules=[]).exists()
    )


def doubts_of(tenant_id: int, policy: TenantPolicyValues) -> tuple[str, ...]:
    """What has never been read although the policy rests on it."""
    source = DeviceSource.objects.filter(tenant_id=tenant_id).first()
    kind = source.kind if source else DeviceSource.Kind.NONE
    found = []
    if source is None or kind == DeviceSource.Kind.NONE:
        if not ManagedDevice.objects.filter(tenant_id=tenant_id).exists():
            found.append(NO_SOURCE)
    elif kind == DeviceSource.Kind.PUSHED:
        if source.last_pushed_at is None:
            found.append(RECORDS_NEVER_READ)
    else:
        if source.devices_read_at is None:
            found.append(RECORDS_NEVER_READ)
        if source.users_read_at is None:
            found.append(PEOPLE_NEVER_READ)
    named = {group.id for group in (*policy.included_groups, *policy.excluded_groups)}
    if named:
        groups = DirectoryGroup.objects.filter(tenant_id=tenant_id, source_id__in=named, read_at__isnull=False)
        if groups.count() < len(named):
            found.append(GROUP_NEVER_READ)
    return tuple(found)


_DEVICE = (
    "pk", "owner_id", "mailbox_key", "device_id", "client_type", "device_type", "device_model", "device_os",
    "device_user_agent", "device_imei", "access_state", "access_state_reason", "access_control_rule",
    "first_sync_time", "when_changed", "statistics__last_attempt_at", "statistics__last_success_at",
)  # fmt: skip
_MAILBOX = (
    "pk", "guid", "sid", "master_sid", "domain", "sam", "primary_smtp", "addresses", "upn", "allowed", "blocked",
    "activesync_enabled",
)  # fmt: skip
_RECORD = (
    "pk", "user_source_id", "upn", "email", "eas_device_id", "serial", "imei", "manufacturer", "model", "os",
    "compliance", "grace_until", "registered", "agent", "enrolled_at", "last_check_in_at", "presence",
)  # fmt: skip
_USER = (
    "pk", "source_id", "upn", "on_premises_upn", "mail", "proxies", "sid", "immutable_id", "domain", "sam", "licensed",
    "presence",
)  # fmt: skip


class _Reader:
    """The queries of one loading. chosen None: of the whole organization."""

    def __init__(
        self, organization: ExchangeOrganization, policy: TenantPolicyValues, chosen: frozenset[int] | None
    ) -> None:
        self.organization, self.policy, self.chosen = organization, policy, chosen

    def _parts(self, rows: QuerySet[Any], name: str) -> Iterator[QuerySet[Any]]:
        """The rows of the mailboxes that were asked for, in as many queries as it takes."""
        if self.chosen is None:
            yield rows
            return
        for part in blocks(sorted(self.chosen)):
            yield rows.filter(**{f"{name}__in": part})

    def devices(self) -> list[facts.EasDevice]:
        rows = MobileDevice.objects.filter(organization=self.organization, gone_at=None)
        return [
            _device(values)
            for part in self._parts(rows, "owner")
            for values in part.values_list(*_DEVICE).iterator(chunk_size=5000)
        ]

    def mailboxes(self) -> dict[Key, facts.Mailbox]:
        rows = Mailbox.objects.filter(organization=self.organization, gone_at=None)
        return {
            values[0]: _mailbox(values)
            for part in self._parts(rows, "pk")
            for values in part.values_list(*_MAILBOX).iterator(chunk_size=5000)
        }

    def links(self) -> list[facts.Link]:
        rows = DeviceLink.objects.filter(mailbox__organization=self.organization)
        return [
            facts.Link(mailbox, device_id, managed, facts.LinkKind(kind))
            for part in self._parts(rows, "mailbox")
            for mailbox, device_id, managed, kind in part.values_list(
                "mailbox_id", "device_id_key", "managed_device_id", "kind"
            )
        ]

    def entries(self) -> frozenset[facts.Entry]:
        rows = LedgerEntry.objects.filter(mailbox__organization=self.organization)
        return frozenset(
            facts.Entry(mailbox, facts.PersonalList(listed), device_id)
            for part in self._parts(rows, "mailbox")
            for mailbox, listed, device_id in part.values_list("mailbox_id", "listed", "device_id")
        )

    def overrides(self) -> list[facts.Override]:
        rows = AccessOverride.objects.filter(organization=self.organization, ended_at=None)
        return [
            facts.Override(mailbox, device_id, facts.Level(level), reason, expires)
            for part in self._parts(rows, "mailbox")
            for mailbox, device_id, level, reason, expires in part.values_list(
                "mailbox_id", "device_id", "level", "reason", "expires_at"
            )
        ]

    def choices(self) -> list[facts.EntryChoice]:
        rows = EntryChoice.objects.filter(mailbox__organization=self.organization)
        return [
            facts.EntryChoice(mailbox, facts.PersonalList(listed), device_id, facts.Choice(choice))
            for part in self._parts(rows, "mailbox")
            for mailbox, listed, device_id, choice in part.values_list(
                "mailbox_id", "listed", "device_id_key", "choice"
            )
        ]

    # --- records and people -----------------------------------------------------------------------------------------

    def records_and_users(
        self,
        devices: Collection[facts.EasDevice],
        mailboxes: Collection[facts.Mailbox],
        links: Collection[facts.Link],
    ) -> tuple[list[facts.ManagedDevice], list[facts.DirectoryUser]]:
        records, users = _records(self.organization.tenant_id), _users(self.organization.tenant_id)
        if self.chosen is None:
            people = list(users.values_list(*_USER).iterator(chunk_size=2000))
            found = list(records.values_list(*_RECORD).iterator(chunk_size=5000))
        else:
            found = _rows_of(records, "eas_device_id_key", {id_key(device.device_id) for device in devices} - {""})
            found += _rows_of(records, "pk", {link.managed for link in links})
            named = _keys_of(mailboxes, found)
            people = _people(self.organization.tenant_id, named, {row[1] for row in found} - {""})
            found += self._own_records(records, people)
            found = list({row[0]: row for row in found}.values())
        included, excluded = self._members(people)
        keys = {source_id: pk for pk, source_id, *_rest in people}
        return (
            [_record(values, keys) for values in found],
            [_user(values, included, excluded) for values in people],
        )

    def _own_records(self, records: QuerySet[Any], people: Collection[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
        """Those of the people themselves: none of these ids, but suggestions look at them."""
        return _rows_of(records, "user_source_id", {row[1] for row in people})

    def _members(self, people: Collection[tuple[Any, ...]]) -> tuple[frozenset[str], frozenset[str]]:
        """The source ids of those whom the policy includes, and excludes."""
        included = {group.id for group in self.policy.included_groups}
        excluded = {group.id for group in self.policy.excluded_groups}
        if not included and not excluded:
            return frozenset(), frozenset()
        rows = GroupMember.objects.filter(
            group__tenant_id=self.organization.tenant_id, group__source_id__in=included | excluded
        )
        parts: Iterable[QuerySet[Any]] = (
            [rows]
            if self.chosen is None
            else [rows.filter(user_source_id__in=part) for part in blocks({row[1] for row in people})]
        )
        ins, outs = set(), set()
        for part in parts:
            for group, member in part.values_list("group__source_id", "user_source_id"):
                if group in included:
                    ins.add(member)
                if group in excluded:
                    outs.add(member)
        return frozenset(ins), frozenset(outs)


def _records(tenant_id: int) -> QuerySet[ManagedDevice]:
    """Of the tenant's source: what an earlier source said counts no more."""
    rows = ManagedDevice.objects.filter(tenant_id=tenant_id).exclude(presence=Presence.GONE)
    kind = DeviceSource.objects.filter(tenant_id=tenant_id).values_list("kind", flat=True).first()
    return rows.filter(source=kind) if kind in ManagedDevice.Source.values else rows


def _users(tenant_id: int) -> QuerySet[DirectoryUser]:
    return DirectoryUser.objects.filter(tenant_id=tenant_id).exclude(presence=Presence.GONE)


def _rows_of(records: QuerySet[Any], name: str, values: Collection[Any]) -> list[tuple[Any, ...]]:
    return [row for part in blocks(values) for row in records.filter(**{f"{name}__in": part}).values_list(*_RECORD)]


def _keys_of(mailboxes: Iterable[facts.Mailbox], records: Iterable[tuple[Any, ...]]) -> Texts:
    """What may name a person: the mailboxes' own keys, and the texts of records that give no person's key."""
    texts: Texts = defaultdict(set)
    for mailbox in mailboxes:
        for kind, some_texts in keys_of_mailbox(mailbox):
            texts[kind].update(some_texts)
    for _pk, user_source_id, upn, email, *_rest in records:
        if not user_source_id:
            texts[UserKey.UPN].add(text_key(upn))
            texts[UserKey.SMTP].update((smtp_key(email), smtp_key(upn)))
    return texts


def _people(tenant_id: int, texts: Texts, source_ids: Collection[str]) -> list[tuple[Any, ...]]:
    pks: set[int] = set()
    for kind, some_texts in texts.items():
        for part in blocks(some_texts - {""}):
            rows = UserKeyText.objects.filter(tenant_id=tenant_id, kind=kind, text__in=part)
            pks.update(rows.values_list("user_id", flat=True))
    users = _users(tenant_id)
    found: dict[int, tuple[Any, ...]] = {}
    for name, values in (("pk", pks), ("source_id", source_ids)):
        for chosen in blocks(values):
            found.update({row[0]: row for row in users.filter(**{f"{name}__in": chosen}).values_list(*_USER)})
    return list(found.values())


def _device(values: tuple[Any, ...]) -> facts.EasDevice:
    (pk, owner, mailbox_key, device_id, client_type, device_type, model, os, agent, imei, state, reason, rule,
     first_seen, when_changed, last_attempt, last_success) = values  # fmt: skip
    return facts.EasDevice(
        key=pk,
        mailbox=owner if owner is not None else f"?{mailbox_key}",
        device_id=device_id,
        client_type=client_type,
        device_type=device_type,
        model=model,
        os=os,
        user_agent=agent,
        imei=imei,
        state=state,
        state_reason=reason,
        state_rule=rule,
        first_seen=first_seen,
        last_seen=last_attempt or when_changed,
        last_success=last_success,
    )


def _mailbox(values: tuple[Any, ...]) -> facts.Mailbox:
    pk, guid, sid, master_sid, domain, sam, primary_smtp, addresses, upn, allowed, blocked, activesync_enabled = values
    return facts.Mailbox(
        key=pk,
        identity=str(guid),
        sid=sid,
        master_sid=master_sid,
        immutable_id=base64.b64encode(guid.bytes_le).decode("ascii"),
        domain=domain,
        sam=sam,
        primary_smtp=primary_smtp,
        proxies=tuple(addresses),
        upn=upn,
        allowed=tuple(allowed),
        blocked=tuple(blocked),
        activesync_enabled=activesync_enabled,
    )


def _record(values: tuple[Any, ...], keys: dict[str, int]) -> facts.ManagedDevice:
    (pk, user_source_id, upn, email, eas_device_id, serial, imei, manufacturer, model, os, compliance, grace_until,
     registered, agent, enrolled, last_check_in, presence) = values  # fmt: skip
    user: Key | None = None
    if user_source_id:
        # Somebody whom the directory does not hold is somebody all the same.
        user = keys.get(user_source_id, f"?{user_source_id}")
    return facts.ManagedDevice(
        key=pk,
        user=user,
        upn=upn,
        email=email,
        eas_device_id=eas_device_id,
        serial=serial,
        imei=imei,
        manufacturer=manufacturer,
        model=model,
        os=os,
        compliance=compliance,
        grace_until=grace_until,
        registered=registered,
        agent=agent,
        enrolled=enrolled,
        last_check_in=last_check_in,
        presence=facts.Presence(presence),
    )


def _user(values: tuple[Any, ...], included: frozenset[str], excluded: frozenset[str]) -> facts.DirectoryUser:
    (pk, source_id, upn, on_premises_upn, mail, proxies, sid, immutable_id, domain, sam, licensed, presence) = values
    return facts.DirectoryUser(
        key=pk,
        upn=upn,
        on_premises_upn=on_premises_upn,
        mail=mail,
        proxies=tuple(proxies),
        sid=sid,
        immutable_id=immutable_id,
        domain=domain,
        sam=sam,
        licensed=licensed,
        included=source_id in included,
        excluded=source_id in excluded,
        presence=facts.Presence(presence),
    )

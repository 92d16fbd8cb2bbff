"""The rows that make a world, as facts: those of some mailboxes, with all that could speak about them.

Reads alone, and a few statements whatever the number of rows. What comes with some mailboxes is enough for their
verdicts to be those of the whole: every phone of theirs, every record with such a phone's id or that a person linked,
every person whom a mailbox with a phone or such a record may name.
"""

from __future__ import annotations

import base64
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from typing import Any, TypeAlias

from django.db.models import QuerySet

from connectors.models import DeviceSource, ExchangeOrganization
from sync.blocks import blocks
from sync.deciding import facts
from sync.deciding.facts import Key, id_key, text_key
from sync.deciding.people import UserKey, keys_of_mailbox, smtp_key
from sync.models import (
    AccessOverride,
    DeviceLink,
    DirectoryUser,
    EntryChoice,
    GroupMember,
    LedgerEntry,
    Mailbox,
    ManagedDevice,
    MobileDevice,
    Presence,
    UserKeyText,
)
from sync.policies.policy import TenantPolicyValues

Texts: TypeAlias = dict[UserKey, set[str]]

# Values in one IN (...); SQLite takes 32766.
IN = 2000

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


class Reader:
    """The queries of one loading: of these mailboxes, and of these phones that have none (keys)."""

    def __init__(
        self,
        organization: ExchangeOrganization,
        policy: TenantPolicyValues,
        mailboxes: Collection[int],
        strays: Collection[int] = (),
    ) -> None:
        self.organization, self.policy = organization, policy
        self.chosen, self.strays = sorted(mailboxes), strays

    def _parts(self, rows: QuerySet[Any], name: str) -> Iterator[QuerySet[Any]]:
        """The rows of the mailboxes, in as many queries as it takes."""
        for part in blocks(self.chosen, IN):
            yield rows.filter(**{f"{name}__in": part})

    def devices(self) -> list[facts.EasDevice]:
        rows = MobileDevice.objects.filter(organization=self.organization, gone_at=None)
        strays = (rows.filter(pk__in=part, owner=None) for part in blocks(self.strays, IN))
        parts = (*self._parts(rows, "owner"), *strays)
        return [_device(values) for part in parts for values in part.values_list(*_DEVICE).iterator(chunk_size=IN)]

    def mailboxes(self) -> dict[Key, facts.Mailbox]:
        rows = Mailbox.objects.filter(organization=self.organization, gone_at=None)
        return {
            values[0]: _mailbox(values)
            for part in self._parts(rows, "pk")
            for values in part.values_list(*_MAILBOX).iterator(chunk_size=IN)
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
        mailboxes: Iterable[facts.Mailbox],
        links: Collection[facts.Link],
    ) -> tuple[list[facts.ManagedDevice], list[facts.DirectoryUser]]:
        records, with_phones = _records(self.organization.tenant_id), {device.mailbox for device in devices}
        found = _rows_of(records, "eas_device_id_key", {id_key(device.device_id) for device in devices} - {""})
        found += _rows_of(records, "pk", {link.managed for link in links})
        named = _keys_of((mailbox for mailbox in mailboxes if mailbox.key in with_phones), found)
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
        ins, outs = set(), set()
        for chosen in blocks({row[1] for row in people}, IN):
            part = rows.filter(user_source_id__in=chosen)
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
    return [row for part in blocks(values, IN) for row in records.filter(**{f"{name}__in": part}).values_list(*_RECORD)]


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
        for part in blocks(some_texts - {""}, IN):
            rows = UserKeyText.objects.filter(tenant_id=tenant_id, kind=kind, text__in=part)
            pks.update(rows.values_list("user_id", flat=True))
    users = _users(tenant_id)
    found: dict[int, tuple[Any, ...]] = {}
    for name, values in (("pk", pks), ("source_id", source_ids)):
        for chosen in blocks(values, IN):
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

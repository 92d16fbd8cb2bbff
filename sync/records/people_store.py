"""Writing what the directory says: people with the keys they are found by, and the groups that a policy names.

Compares and writes only what differs. Refuses to take for gone what one listing did not hold (sources.py confirms),
and for empty what could not be read: a group keeps the members it had. Opens no transaction of its own.
"""

from __future__ import annotations

import datetime
from collections.abc import Collection, Sequence
from operator import attrgetter
from typing import Any

from connectors.graph.records import UserChange, UserRecord
from sync.deciding import facts
from sync.deciding.people import keys_of_user
from sync.events import storable
from sync.models import DirectoryGroup, DirectoryUser, GroupMember, PolicyVersion, Presence, UserKeyText
from sync.policies.policy import TenantPolicyValues
from sync.records.record_store import CHUNK, Touched, chunks

# Column of DirectoryUser ← field of UserRecord.
_FIELDS = {
    "display_name": "display_name",
    "upn": "user_principal_name",
    "on_premises_upn": "on_premises_upn",
    "mail": "mail",
    "proxies": "proxy_addresses",
    "sid": "security_identifier",
    "immutable_id": "immutable_id",
    "domain": "domain_name",
    "sam": "sam_account_name",
    "preferred_language": "preferred_language",
    "account_enabled": "account_enabled",
    "licensed": "licensed",
}
COLUMNS = tuple(_FIELDS)
_values = attrgetter(*COLUMNS)
_KEY_COLUMNS = ("upn", "on_premises_upn", "mail", "proxies", "sid", "immutable_id", "domain", "sam")
# What no verdict looks at.
_QUIET = frozenset({"display_name", "preferred_language", "account_enabled"})
_WRITTEN = [*COLUMNS, "presence", "missing_since", "gone_at", "seen_number", "changed_at"]
_LIMITS: dict[str, int | None] = {
    name: getattr(DirectoryUser._meta.get_field(name), "max_length", None) for name in COLUMNS
}


# --- people -------------------------------------------------------------------------------------------------------


def users_store(
    *, tenant_id: int, users: Sequence[UserRecord], number: int, now: datetime.datetime, touched: Touched
) -> int:
    """Make the people's rows these, and each PRESENT; returns how many were new or differed. Call inside a transaction.

    A licence that was not told now keeps what was known of it.
    """
    differed = 0
    for part in chunks({user.id: user for user in users}.values()):
        known = _rows(tenant_id, [user.id for user in part])
        written = [
            model
            for user in part
            if (model := _different(tenant_id, user, known.get(user.id), number, now, touched)) is not None
        ]
        rows = DirectoryUser.objects.bulk_create(
            written,
            update_conflicts=True,
            unique_fields=["tenant", "source_id"],
            update_fields=_WRITTEN,
            batch_size=CHUNK,
        )
        _keys_write(tenant_id, rows, known)
        DirectoryUser.objects.filter(tenant_id=tenant_id, source_id__in=[user.id for user in part]).exclude(
            seen_number=number
        ).update(seen_number=number)
        differed += len(written)
    return differed


def changes_store(
    *, tenant_id: int, changes: Sequence[UserChange], number: int, now: datetime.datetime, touched: Touched
) -> int:
    """The same from a delta, which tells of known people only what changed. Call inside a transaction."""
    known = {
        source_id: row
        for part in chunks({change.id for change in changes})
        for source_id, row in _rows(tenant_id, part).items()
    }
    people: dict[str, UserRecord] = {source_id: _record(row) for source_id, row in known.items()}
    for change in changes:
        people[change.id] = change.applied_to(people.get(change.id))
    return users_store(
        tenant_id=tenant_id,
        users=[people[change.id] for change in changes],
        number=number,
        now=now,
        touched=touched,
    )


def _rows(tenant_id: int, source_ids: Collection[str]) -> dict[str, DirectoryUser]:
    rows = DirectoryUser.objects.filter(tenant_id=tenant_id, source_id__in=list(source_ids))
    return {row.source_id: row for row in rows}


def _record(row: DirectoryUser) -> UserRecord:
    """What is known of somebody, as Graph would tell it."""
    told = {field: getattr(row, column) for column, field in _FIELDS.items()}
    return UserRecord(row.source_id, **{**told, "proxy_addresses": tuple(row.proxies)})


def _different(
    tenant_id: int,
    user: UserRecord,
    known: DirectoryUser | None,
    number: int,
    now: datetime.datetime,
    touched: Touched,
) -> DirectoryUser | None:
    """The row to be written; None when nothing differs."""
    values = {column: _column(column, getattr(user, field)) for column, field in _FIELDS.items()}
    if values["account_enabled"] is None:
        values["account_enabled"] = known.account_enabled if known else True
    if values["licensed"] is None and known is not None:
        values["licensed"] = known.licensed
    if known is not None and known.presence == Presence.PRESENT:
        differing = {name for name in COLUMNS if getattr(known, name) != values[name]}
        if not differing:
            return None
        matters = bool(differing - _QUIET)
    else:
        matters = known is None or known.presence == Presence.GONE
    model = DirectoryUser(
        tenant_id=tenant_id,
        source_id=user.id,
        **values,
        presence=Presence.PRESENT,
        seen_number=number,
        changed_at=now,
    )
    if matters:
        for one in filter(None, (known, model)):
            touched.people.add(one.source_id)
            touched.texts |= _texts(one)
    return model


def _column(name: str, value: Any) -> Any:
    if name == "proxies":
        return storable(list(value))
    if isinstance(value, str):
        return storable(value)[: _LIMITS[name]]
    return value


def _texts(row: DirectoryUser) -> set[str]:
    """First addresses and names alone: a new person's mailbox is found by these, or in the next full sync."""
    return {facts.text_key(text) for text in (row.upn, row.on_premises_upn, row.mail)} - {""}


def _fact(row: DirectoryUser) -> facts.DirectoryUser:
    texts = {name: getattr(row, name) for name in _KEY_COLUMNS}
    return facts.DirectoryUser(key=row.source_id, **{**texts, "proxies": tuple(row.proxies)})


def key_texts(row: DirectoryUser) -> set[tuple[str, str]]:
    """(kind, text) of everything that this person can be found by, as people.py compares it."""
    limit = UserKeyText._meta.get_field("text").max_length
    return {(kind.value, text[:limit]) for kind, texts in keys_of_user(_fact(row)) for text in texts if text}


def _keys_write(tenant_id: int, rows: Sequence[DirectoryUser], known: dict[str, DirectoryUser]) -> None:
    """Make the key rows of these people what they are found by now."""
    moved = [row for row in rows if row.source_id not in known or key_texts(row) != key_texts(known[row.source_id])]
    UserKeyText.objects.filter(user__in=[row.pk for row in moved if row.source_id in known]).delete()
    UserKeyText.objects.bulk_create(
        [
            UserKeyText(user_id=row.pk, tenant_id=tenant_id, kind=kind, text=text)
            for row in moved
            for kind, text in sorted(key_texts(row))
        ],
        batch_size=CHUNK,
    )


def people_end(*, tenant_id: int, source_ids: Collection[str], now: datetime.datetime, touched: Touched) -> int:
    """Mark people as GONE; returns how many were not before. Call inside a transaction."""
    ended = 0
    for part in chunks(source_ids):
        found = DirectoryUser.objects.filter(tenant_id=tenant_id, source_id__in=part).exclude(presence=Presence.GONE)
        keys = list(found.values_list("source_id", flat=True))
        touched.people.update(keys)
        ended += DirectoryUser.objects.filter(tenant_id=tenant_id, source_id__in=keys).update(
            presence=Presence.GONE, gone_at=now, changed_at=now
        )
    return ended


# --- groups -------------------------------------------------------------------------------------------------------


def groups_wanted(tenant_id: int) -> dict[str, str]:
    """{id: name} of the groups that the tenant's policy in force names."""
    version = PolicyVersion.objects.filter(tenant_id=tenant_id, organization=None).order_by("-number").first()
    if version is None:
        return {}
    policy = TenantPolicyValues.from_json(version.content)
    return {group.id: group.name for group in (*policy.included_groups, *policy.excluded_groups)}


def members_store(
    *,
    tenant_id: int,
    group_id: str,
    name: str,
    members: Collection[str],
    now: datetime.datetime,
    touched: Touched,
) -> int:
    """Make the group's members exactly these; returns how many came or went. Call inside a transaction."""
    group, is_new = DirectoryGroup.objects.get_or_create(
        tenant_id=tenant_id, source_id=group_id, defaults={"name": storable(name)[:255], "read_at": now}
    )
    held = set() if is_new else set(GroupMember.objects.filter(group=group).values_list("user_source_id", flat=True))
    wanted = {storable(member)[:255] for member in members}
    for part in chunks(held - wanted):
        GroupMember.objects.filter(group=group, user_source_id__in=part).delete()
    for part in chunks(wanted - held):
        GroupMember.objects.bulk_create([GroupMember(group=group, user_source_id=one) for one in part])
    DirectoryGroup.objects.filter(pk=group.pk).update(
        read_at=now, error_code="", name=storable(name)[:255] or group.name
    )
    touched.people |= held ^ wanted
    return len(held ^ wanted)


def group_failed(*, tenant_id: int, group_id: str, name: str, code: str) -> None:
    """The group could not be read, and why. Its members stay as they were last read."""
    DirectoryGroup.objects.update_or_create(
        tenant_id=tenant_id,
        source_id=group_id,
        defaults={"error_code": code},
        create_defaults={"error_code": code, "name": storable(name)[:255]},
    )


def members_of(tenant_id: int, group_id: str) -> frozenset[str]:
    """The group's members as last read, by their ids at the source."""
    members = GroupMember.objects.filter(group__tenant_id=tenant_id, group__source_id=group_id)
    return frozenset(members.values_list("user_source_id", flat=True))

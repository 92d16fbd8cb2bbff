"""A Graph that is a few dictionaries: the interface that sync depends on, without a wire."""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from connectors.graph.client import Throttling
from connectors.graph.errors import BadRequestGraphError, GraphError
from connectors.graph.listing import Listing, Outcome, Page
from connectors.graph.records import (
    GroupMembers,
    GroupRecord,
    ManagedDeviceRecord,
    UserChange,
    UserChangePage,
    UserRecord,
)
from connectors.graph.verification import Check
from connectors.models import Tenant

ENROLLED = datetime.datetime(2026, 1, 5, 9, tzinfo=datetime.UTC)
_EMPTY: dict[str, Any] = {
    field.name: False if field.type == "bool | None" else None if "datetime" in str(field.type) else ""
    for field in dataclasses.fields(ManagedDeviceRecord)
}


def record(number: int, **more: Any) -> ManagedDeviceRecord:
    """One phone: d1 of u1, with an ActiveSync id, compliant and registered."""
    return ManagedDeviceRecord(
        **{
            **_EMPTY,
            "id": f"d{number}",
            "user_id": f"u{number}",
            "user_principal_name": f"person{number}@contoso.com",
            "eas_device_id": f"ApplX{number:03}",
            "compliance_state": "compliant",
            "azure_ad_registered": True,
            "enrolled": ENROLLED,
            "last_sync": ENROLLED,
            **more,
        }
    )


def user(number: int, **more: Any) -> UserRecord:
    told = {"user_principal_name": f"person{number}@contoso.com", "licensed": True, "account_enabled": True}
    return UserRecord(f"u{number}", **{**told, **more})


class FakeGraph:
    """What it has, and what goes wrong: `fails` names a call and the error it raises."""

    def __init__(self, *devices: ManagedDeviceRecord, page_size: int = 2) -> None:
        self.devices = {one.id: one for one in devices}
        self.hidden: set[str] = set()  # ids that the listing leaves out, though they are there
        self.people: dict[str, UserRecord] = {}
        self.members: dict[str, set[str]] = {}
        self.licences: dict[str, bool] = {}
        self.fails: dict[str, GraphError] = {}
        self.has_delta = True
        self.is_complete = True
        self.changes: list[UserChangePage] | None = None
        self.calls: list[str] = []
        self.page_size = page_size
        self.throttling = Throttling()

    @contextmanager
    def open(self, tenant: Tenant, should_stop: Callable[[], bool]) -> Iterator[FakeGraph]:
        self._call("open")
        yield self

    def _call(self, name: str, *more: str) -> None:
        self.calls.append(" ".join((name, *more)))
        if name in self.fails:
            raise self.fails[name]

    def managed_devices(self) -> Listing[ManagedDeviceRecord]:
        self._call("managed_devices")
        rows = [one for one in self.devices.values() if one.id not in self.hidden]
        complete = self.is_complete
        return Listing(
            self._pages(rows, "page"), lambda rows, readable: Outcome(rows, len(self.devices), complete and readable)
        )

    def _pages(self, rows: Sequence[Any], name: str) -> Iterator[Page[Any]]:
        for start in range(0, len(rows), self.page_size):
            yield Page(tuple(rows[start : start + self.page_size]))
            self._call(name)

    def managed_device(self, device_id: str) -> ManagedDeviceRecord | None:
        self._call("managed_device", device_id)
        return self.devices.get(device_id)

    def devices_of_user(self, user_id: str) -> tuple[ManagedDeviceRecord, ...] | None:
        return None

    def users(self) -> Listing[UserRecord]:
        self._call("users")
        return Listing(self._pages(list(self.people.values()), "users_page"))

    def user(self, user_id: str) -> UserRecord | None:
        self._call("user", user_id)
        return self.people.get(user_id)

    def users_delta(self, link: str = "") -> Iterator[UserChangePage]:
        self._call("users_delta", link)
        if not self.has_delta:
            raise BadRequestGraphError("no delta here")
        if link and self.changes is not None:
            yield from self.changes
            return
        fields = [one.name for one in dataclasses.fields(UserRecord) if one.name != "id"]
        changes = tuple(
            UserChange(one.id, {name: getattr(one, name) for name in fields}) for one in self.people.values()
        )
        yield UserChangePage(changes if not link else (), (), "link-1", not link)

    def licensed(self, user_id: str) -> bool | None:
        self._call("licensed", user_id)
        return self.licences.get(user_id)

    def group(self, group_id: str) -> GroupRecord | None:
        return GroupRecord(group_id, group_id) if group_id in self.members else None

    def group_members(self, group_id: str) -> GroupMembers | None:
        self._call("group_members", group_id)
        if group_id not in self.members:
            return None
        ids = frozenset(self.members[group_id])
        return GroupMembers(group_id, ids, len(ids), True, False)

    def groups_search(self, text: str, limit: int = 25) -> tuple[GroupRecord, ...]:
        return ()

    def verify(self) -> tuple[Check, ...]:
        return (Check("sign_in"),)

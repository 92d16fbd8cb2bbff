"""The interface by which the product reads a tenant's Graph. `sync` depends on `GraphSource`, tests fake it.

The real one is made by connect(). Nothing here writes.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

from connectors.graph import devices, directory, verification
from connectors.graph.client import GraphClient, Options, Throttling, never
from connectors.graph.clouds import Cloud
from connectors.graph.credentials import Credentials
from connectors.graph.listing import Listing
from connectors.graph.records import GroupMembers, GroupRecord, ManagedDeviceRecord, UserChangePage, UserRecord
from connectors.graph.verification import Check


class GraphSource(Protocol):
    """One tenant. Every call may raise GraphError, or CanceledError when should_stop() turned true. May be used by
    several threads at once."""

    throttling: Throttling

    def managed_devices(self) -> Listing[ManagedDeviceRecord]:
        """Every record, page by page; then its outcome says whether all came. Memory stays flat."""

    def managed_device(self, device_id: str) -> ManagedDeviceRecord | None:
        """None: Graph says that it is not there. This is what confirms that a record is gone."""

    def devices_of_user(self, user_id: str) -> tuple[ManagedDeviceRecord, ...] | None:
        """Those of one person, to find new ones quickly; None where Graph does not offer it. Absence proves nothing."""

    def users(self) -> Listing[UserRecord]: ...

    def user(self, user_id: str) -> UserRecord | None: ...

    def users_delta(self, link: str = "") -> Iterator[UserChangePage]:
        """What changed since the link of the last time; "" for everybody."""

    def licensed(self, user_id: str) -> bool | None:
        """For people whose UserRecord.licensed is None: a call for each, kept. None: there is no such person."""

    def group(self, group_id: str) -> GroupRecord | None: ...

    def group_members(self, group_id: str) -> GroupMembers | None:
        """None: there is no such group."""

    def groups_search(self, text: str, limit: int = 25) -> tuple[GroupRecord, ...]: ...

    def verify(self) -> tuple[Check, ...]:
        """What works and what does not; GraphErrors are in the checks and are not raised."""


class _Source:
    def __init__(self, client: GraphClient) -> None:
        self._client = client
        self._licensed: dict[str, bool | None] = {}
        self._lock = threading.Lock()
        self.throttling = client.throttling

    def managed_devices(self) -> Listing[ManagedDeviceRecord]:
        return devices.managed_devices(self._client)

    def managed_device(self, device_id: str) -> ManagedDeviceRecord | None:
        return devices.managed_device(self._client, device_id)

    def devices_of_user(self, user_id: str) -> tuple[ManagedDeviceRecord, ...] | None:
        return devices.devices_of_user(self._client, user_id)

    def users(self) -> Listing[UserRecord]:
        return directory.users(self._client)

    def user(self, user_id: str) -> UserRecord | None:
        return directory.user(self._client, user_id)

    def users_delta(self, link: str = "") -> Iterator[UserChangePage]:
        return directory.users_delta(self._client, link)

    def licensed(self, user_id: str) -> bool | None:
        with self._lock:
            if user_id in self._licensed:
                return self._licensed[user_id]
        answer = directory.licensed(self._client, user_id)
        with self._lock:
            self._licensed[user_id] = answer
        return answer

    def group(self, group_id: str) -> GroupRecord | None:
        return directory.group(self._client, group_id)

    def group_members(self, group_id: str) -> GroupMembers | None:
        return directory.group_members(self._client, group_id)

    def groups_search(self, text: str, limit: int = 25) -> tuple[GroupRecord, ...]:
        return directory.groups_search(self._client, text, limit)

    def verify(self) -> tuple[Check, ...]:
        return verification.verify(self._client)


@contextmanager
def connect(
    credentials: Credentials,
    cloud: Cloud,
    options: Options | None = None,
    *,
    should_stop: Callable[[], bool] = never,
) -> Iterator[GraphSource]:
    """A source for as long as the context lasts. Nothing is sent before the first call.

    Raises StopGraphError for settings that cannot work.
    """
    with GraphClient(credentials, cloud, options, should_stop=should_stop) as client:
        yield _Source(client)

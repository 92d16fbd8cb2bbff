"""Managed devices: a listing that says whether it is complete, and single ones that tell whether a record is gone.

Refuses to filter on the server. An unsupported $filter of managedDevices is ignored in silence and everything comes
back (exchange.md 7.2); where rows of one person are wanted, each is checked here.
"""

from __future__ import annotations

import urllib.parse
from collections.abc import Iterator
from typing import Any

from connectors.graph import records
from connectors.graph.client import GraphClient
from connectors.graph.errors import (
    BadAnswerGraphError,
    BadRequestGraphError,
    GraphError,
    NotFoundGraphError,
    RecordError,
)
from connectors.graph.listing import Listing, Outcome, Page
from connectors.graph.records import ManagedDeviceRecord

PERMISSION = "DeviceManagementManagedDevices.Read.All"
PATH = "/deviceManagement/managedDevices"


def managed_devices(client: GraphClient) -> Listing[ManagedDeviceRecord]:
    """All of them, page by page."""
    counted = _Counted(client)
    return Listing(counted.pages(), counted.judged)


def managed_device(client: GraphClient, device_id: str) -> ManagedDeviceRecord | None:
    """One; None when Graph says that it is not there."""
    path = f"{PATH}/{urllib.parse.quote(device_id, safe='')}"
    try:
        record = records.managed_device(client.get(path, {"$select": records.DEVICE_SELECT}, permission=PERMISSION))
    except NotFoundGraphError:
        return None
    except RecordError as error:
        raise error.as_graph_error(PATH) from error
    if record.id.lower() != device_id.lower():
        raise BadAnswerGraphError("another device came than was asked for", resource=PATH)
    return record


def devices_of_user(client: GraphClient, user_id: str) -> tuple[ManagedDeviceRecord, ...] | None:
    """Those of one person; None where Graph does not offer this, or does not know the person.

    users/{id}/managedDevices stands in older documentation only: a hint of what is new, and no proof of what is gone.
    """
    path = f"/users/{urllib.parse.quote(user_id, safe='')}/managedDevices"
    found: dict[str, ManagedDeviceRecord] = {}
    try:
        for page in client.pages(path, permission=PERMISSION):
            for row in page["value"]:
                record = records.managed_device(row)
                if record.user_id.lower() == user_id.lower():
                    found[record.id] = record
    except (NotFoundGraphError, BadRequestGraphError):
        return None
    except RecordError as error:
        raise error.as_graph_error(path) from error
    return tuple(found.values())


class _Counted:
    """The pages of one listing, and what Graph counted meanwhile."""

    def __init__(self, client: GraphClient) -> None:
        self._client = client
        self._count: int | None = None

    def pages(self) -> Iterator[Page[ManagedDeviceRecord]]:
        for number, page in enumerate(listed(self._client, PATH, records.DEVICE_SELECT, PERMISSION)):
            rows = page["value"]
            if number == 0:
                self._count = _whole(page, len(rows))
            yield readable(rows)

    def judged(self, rows: int, is_readable: bool) -> Outcome:
        known = [count for count in (self._count, _overview(self._client)) if count is not None]
        expected = max(known) if known else None
        return Outcome(rows, expected, is_readable and expected is not None and rows >= expected)


def listed(client: GraphClient, path: str, select: str, permission: str) -> Iterator[dict[str, Any]]:
    """Pages of the size that we like, or of any, where a service does not take a $top that large."""
    query = {"$select": select, "$top": str(client.options.page_size)}
    pages = client.pages(path, query, permission=permission)
    try:
        first = next(pages)
    except BadRequestGraphError:
        yield from client.pages(path, {"$select": select}, permission=permission)
        return
    yield first
    yield from pages


def readable(rows: list[Any]) -> Page[ManagedDeviceRecord]:
    found: list[ManagedDeviceRecord] = []
    unreadable: list[RecordError] = []
    for row in rows:
        try:
            found.append(records.managed_device(row))
        except RecordError as error:
            unreadable.append(error)
    return Page(tuple(found), tuple(unreadable))


def _whole(page: dict[str, Any], rows: int) -> int | None:
    """@odata.count of the first page; None when it only counts this page's rows, as long as more follow."""
    count = page.get("@odata.count")
    if not isinstance(count, int) or isinstance(count, bool):
        return None
    return None if count <= rows and "@odata.nextLink" in page else count


def _overview(client: GraphClient) -> int | None:
    """What managedDeviceOverview counts as enrolled; None when it cannot be read: it is a second opinion only."""
    try:
        answer = client.get("/deviceManagement/managedDeviceOverview", permission=PERMISSION)
    except GraphError:
        return None
    count = answer.get("enrolledDeviceCount")
    return count if isinstance(count, int) and not isinstance(count, bool) else None

"""People and groups of the directory.

Refuses to take for gone what a listing did not hold, and for empty what the application may not read. Licences come
from `assignedPlans` of the listing; the documentation of users lists the property and says that it comes only by
$select (confidence: documented, not tried against a real directory). Where it did not come, `licensed` asks for one
person's licenseDetails, which is documented too but a call for each.
"""

from __future__ import annotations

import time
import urllib.parse
import uuid
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from connectors.graph import records
from connectors.graph.client import GraphClient
from connectors.graph.devices import listed
from connectors.graph.errors import NotFoundGraphError, RecordError, TransientGraphError
from connectors.graph.listing import Listing, Page
from connectors.graph.records import GroupMembers, GroupRecord, UserChange, UserChangePage, UserRecord

PERMISSION = "User.Read.All"
GROUP_PERMISSION = "GroupMember.Read.All"
# Of a membership that is hidden.
HIDDEN_PERMISSION = "Member.Read.Hidden"
# Members by a type cast are an advanced query: it needs this, and $count.
_EVENTUAL = {"ConsistencyLevel": "eventual"}
_Value = TypeVar("_Value")


def users(client: GraphClient) -> Listing[UserRecord]:
    """Everybody, page by page."""
    return Listing(_user_pages(client))


def _user_pages(client: GraphClient) -> Iterator[Page[UserRecord]]:
    for page in listed(client, "/users", records.USER_SELECT, PERMISSION):
        found, unreadable = _read(page["value"], records.user)
        yield Page(found, unreadable)


def user(client: GraphClient, user_id: str) -> UserRecord | None:
    """One person by id; None when Graph says that there is none."""
    path = f"/users/{_quoted(user_id)}"
    return _one(client, path, {"$select": records.USER_SELECT}, PERMISSION, records.user)


def licensed(client: GraphClient, user_id: str) -> bool | None:
    """Whether the person has an Intune plan, by licenseDetails; None when there is no such person."""
    path = f"/users/{_quoted(user_id)}/licenseDetails"
    return _one(client, path, {}, PERMISSION, lambda row: records.licence_details(row.get("value")))


def users_delta(client: GraphClient, link: str = "") -> Iterator[UserChangePage]:
    """What changed since `link`, or everybody. A link that Graph has forgotten (410) begins with everybody again.

    The last page has the link for the next time; without one the delta broke, and this raises. Raises
    TransientGraphError graph_resync_required when Graph forgets in the middle: begin again without a link.
    """
    end = time.monotonic() + client.options.deadline
    first: dict[str, Any] | None = None
    if link:
        try:
            first = client.follow(link, permission=PERMISSION)
        except TransientGraphError as error:
            if error.code != "graph_resync_required":
                raise
    is_fresh = first is None
    if first is None:
        # No $top: the delta of people does not take it.
        first = client.get("/users/delta", {"$select": records.USER_SELECT}, permission=PERMISSION)
    next_link = ""
    for page in client.rest(first, end, permission=PERMISSION):
        told = page.get("@odata.deltaLink")
        next_link = told if isinstance(told, str) and "@odata.nextLink" not in page else ""
        yield _change_page(page["value"], next_link, is_fresh=is_fresh)
    if not next_link:
        raise TransientGraphError("a delta without an end", code="graph_resync_required")


def _change_page(rows: list[Any], link: str, *, is_fresh: bool) -> UserChangePage:
    removed = tuple(records.record_id_of(row) for row in rows if _is_removal(row))
    changes, unreadable = _read([row for row in rows if not _is_removal(row)], _change)
    return UserChangePage(changes, tuple(filter(None, removed)), link, is_fresh, unreadable)


def _is_removal(row: object) -> bool:
    return isinstance(row, dict) and "@removed" in row


def _change(row: object) -> UserChange:
    if not isinstance(row, dict):
        raise RecordError("user: no object with an id")
    return records.user_change(row)


# --- groups -------------------------------------------------------------------------------------------------------


def group(client: GraphClient, group_id: str) -> GroupRecord | None:
    """One group by id; None when Graph says that there is none."""
    path = f"/groups/{_quoted(group_id)}"
    return _one(client, path, {"$select": records.GROUP_SELECT}, GROUP_PERMISSION, records.group)


def groups_search(client: GraphClient, text: str, limit: int = 25) -> tuple[GroupRecord, ...]:
    """Groups whose name begins with `text`, or the one whose id it is; by name. At most `limit`."""
    text = text.strip()
    if _is_guid(text):
        found = group(client, text)
        return (found,) if found else ()
    if not text:
        return ()
    quoted = text.replace("'", "''")
    query = {
        "$select": records.GROUP_SELECT,
        "$filter": f"startswith(displayName,'{quoted}')",
        "$top": str(limit),
    }
    page = next(client.pages("/groups", query, permission=GROUP_PERMISSION))
    groups, _ = _read(page["value"], records.group)
    # Looked at again: what does not fit was not asked for, whatever the other side made of the filter.
    fitting = [one for one in groups if one.display_name.lower().startswith(text.lower())]
    return tuple(sorted(fitting, key=lambda one: one.display_name.lower())[:limit])


def group_members(client: GraphClient, group_id: str) -> GroupMembers | None:
    """People in the group, directly or through other groups; None when there is no such group.

    A member without an id is a BadAnswerGraphError: who is in a policy's group must not be guessed.
    """
    path = f"/groups/{_quoted(group_id)}/transitiveMembers/microsoft.graph.user"
    query = {"$count": "true", "$select": "id,userPrincipalName", "$top": str(client.options.page_size)}
    ids: set[str] = set()
    expected: int | None = None
    is_named = False
    try:
        for page in client.pages(path, query, permission=GROUP_PERMISSION, headers=_EVENTUAL):
            count = page.get("@odata.count")
            if isinstance(count, int) and not isinstance(count, bool):
                expected = max(count, expected or 0)
            for row in page["value"]:
                record_id = records.record_id_of(row)
                if not record_id:
                    raise RecordError(f"group {group_id}: a member without an id").as_graph_error(path)
                ids.add(record_id)
                is_named = is_named or bool(row.get("userPrincipalName"))
    except NotFoundGraphError:
        return None
    return GroupMembers(
        group_id=group_id,
        user_ids=frozenset(ids),
        expected=expected,
        is_complete=expected is None or len(ids) >= expected,
        is_veiled=bool(ids) and not is_named,
    )


def _one(
    client: GraphClient, path: str, query: dict[str, str], permission: str, read: Callable[[dict[str, Any]], _Value]
) -> _Value | None:
    try:
        return read(client.get(path, query, permission=permission))
    except NotFoundGraphError:
        return None
    except RecordError as error:
        raise error.as_graph_error(path) from error


def _read(rows: list[Any], read: Callable[[Any], _Value]) -> tuple[tuple[_Value, ...], tuple[RecordError, ...]]:
    found: list[_Value] = []
    unreadable: list[RecordError] = []
    for row in rows:
        try:
            found.append(read(row))
        except RecordError as error:
            unreadable.append(error)
    return tuple(found), tuple(unreadable)


def _quoted(part: str) -> str:
    return urllib.parse.quote(part, safe="")


def _is_guid(text: str) -> bool:
    try:
        uuid.UUID(text)
    except ValueError:
        return False
    return True

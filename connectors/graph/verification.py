"""What the "Test connection" button asks: can we sign in, and may the application read each thing it needs.

Each permission is tried by a call for one row. Refuses to guess about licences: what a tenant without Intune is
answered is not documented, so that a refusal of the Intune part is told as that, with what Graph said.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from connectors.graph import devices, directory, records
from connectors.graph.client import GraphClient
from connectors.graph.errors import GraphError, NotPermittedGraphError, RecordError

# How many people are looked at for a licence.
SAMPLE = 100


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was tried.

    name: sign_in, managed_devices, users, licences, groups or members. error: None when it works. found: how many
    there are or were looked at, None when that is not known. is_warning: it works, and yet somebody should look.
    """

    name: str
    error: GraphError | None = None
    found: int | None = None
    is_warning: bool = False

    @property
    def is_ok(self) -> bool:
        return self.error is None


def verify(client: GraphClient) -> tuple[Check, ...]:
    """In order; without a sign-in nothing else is tried. Raises CanceledError alone."""
    signed_in = _tried("sign_in", lambda: _sign_in(client))
    if not signed_in.is_ok:
        return (signed_in,)
    return (
        signed_in,
        _tried("managed_devices", lambda: _devices(client)),
        _tried("users", lambda: _users(client)),
        _licences(client),
        *_groups(client),
    )


def _tried(name: str, call: Callable[[], int | None]) -> Check:
    try:
        return Check(name, found=call())
    except GraphError as error:
        return Check(name, error)


def _sign_in(client: GraphClient) -> None:
    client.sign_in()


def _devices(client: GraphClient) -> int | None:
    query = {"$select": "id", "$top": "1"}
    page = next(client.pages(devices.PATH, query, permission=devices.PERMISSION))
    count = page.get("@odata.count")
    return count if isinstance(count, int) else None


def _users(client: GraphClient) -> int | None:
    next(client.pages("/users", {"$select": "id", "$top": "1"}, permission=directory.PERMISSION))
    return None


def _licences(client: GraphClient) -> Check:
    """Whether anybody of a first page has an Intune plan. Nobody: a warning, since others may have one."""
    query = {"$select": records.USER_SELECT, "$top": str(SAMPLE)}
    try:
        page = next(client.pages("/users", query, permission=directory.PERMISSION))
    except GraphError as error:
        return Check("licences", error)
    licensed = sum(1 for row in page["value"] if _is_licensed(row))
    return Check("licences", found=licensed, is_warning=licensed == 0)


def _is_licensed(row: Any) -> bool:
    try:
        return records.user(row).licensed is True
    except RecordError:
        return False


def _groups(client: GraphClient) -> tuple[Check, ...]:
    query = {"$select": records.GROUP_SELECT, "$top": "1"}
    try:
        page = next(client.pages("/groups", query, permission=directory.GROUP_PERMISSION))
    except GraphError as error:
        return (Check("groups", error),)
    groups = Check("groups")
    group_id = records.record_id_of(page["value"][0]) if page["value"] else ""
    return (groups, _members(client, group_id)) if group_id else (groups,)


def _members(client: GraphClient, group_id: str) -> Check:
    """People of the first group: with too little permission they come with nothing but ids."""
    query = {"$count": "true", "$select": "id,userPrincipalName", "$top": "10"}
    path = f"/groups/{group_id}/transitiveMembers/microsoft.graph.user"
    try:
        pages = client.pages(
            path, query, permission=directory.GROUP_PERMISSION, headers={"ConsistencyLevel": "eventual"}
        )
        rows = next(pages)["value"]
    except GraphError as error:
        return Check("members", error)
    if rows and not any(isinstance(row, dict) and row.get("userPrincipalName") for row in rows):
        hidden = NotPermittedGraphError(
            "members come with nothing but ids", code="graph_members_hidden", permission=directory.HIDDEN_PERMISSION
        )
        return Check("members", hidden, is_warning=True)
    return Check("members", found=len(rows))

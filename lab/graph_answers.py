"""How Graph says things: pages with opaque links, selected properties, errors of its two shapes."""

from __future__ import annotations

import base64
import binascii
import bisect
import datetime
import json
import urllib.parse
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lab.tenant import Tenant
from lab.web import Reply, Request

PAGE = 100
LARGEST_PAGE = 1000
Row = dict[str, Any]


@dataclass(frozen=True)
class Shape:
    """What of a row is told: `defaults` unless $select asks (None: everything), and what is null unless it does."""

    defaults: tuple[str, ...] | None = None
    null_in_lists: tuple[str, ...] = ()

    def of(self, row: Row, request: Request, *, in_list: bool = True) -> Row:
        asked = request.query.get("$select", "")
        wanted = [name.strip() for name in asked.split(",") if name.strip()] or self.defaults
        if wanted is not None:
            return {name: row[name] for name in wanted if name in row and name[0] != "_"}
        told = {name: value for name, value in row.items() if name[0] != "_"}
        return told | dict.fromkeys(self.null_in_lists) if in_list else told


def page(root: str, rows: Sequence[Row], request: Request, shape: Shape, *, count: int | None = None) -> Reply:
    """A page; the next one is by @odata.nextLink, whole, with a token that says nothing.

    count: what @odata.count says; None leaves it out, unless $count asks.
    """
    try:
        size = int(request.query.get("$top") or PAGE)
        skip = int(read_token(request.query.get("$skiptoken", ""), "skip") or 0)
    except ValueError:
        return error(request, 400, "BadRequest", "Invalid value of $top or $skiptoken.")
    if size < 1:
        return error(request, 400, "BadRequest", "The value of $top must be positive.")
    end = skip + min(size, LARGEST_PAGE)
    body: Row = {"@odata.context": f"{root}/v1.0/$metadata"}
    if count is not None or request.query.get("$count") == "true":
        body["@odata.count"] = len(rows) if count is None else count
    if end < len(rows):
        body["@odata.nextLink"] = link(root, request, "$skiptoken", token("skip", str(end)))
    body["value"] = [shape.of(row, request) for row in rows[skip:end]]
    return Reply(200, body)


def link(root: str, request: Request, name: str, value: str) -> str:
    query = {key: text for key, text in request.query.items() if key not in ("$skiptoken", "$deltatoken")}
    return f"{root}{request.path}?{urllib.parse.urlencode({**query, name: value}, safe='$,')}"


def token(kind: str, text: str) -> str:
    return base64.urlsafe_b64encode(f"{kind}/{text}".encode()).decode()


def read_token(value: str, kind: str) -> str:
    """What a token of ours stands for, "" for "". Raises ValueError."""
    if not value:
        return ""
    try:
        text = base64.urlsafe_b64decode(value).decode()
    except (binascii.Error, UnicodeDecodeError) as failure:
        raise ValueError("no token of ours") from failure
    if not text.startswith(f"{kind}/"):
        raise ValueError("a token of another kind")
    return text.removeprefix(f"{kind}/")


# --- delta of people ----------------------------------------------------------------------------------------------


def delta(root: str, tenant: Tenant, request: Request, shape: Shape) -> Reply:
    """Everybody, or who changed since a delta link; pages go by id, so that nobody is left out by a removal meanwhile.

    What was never set is not told. A token of before `tenant.delta_from`, or none of ours, is answered by 410.
    """
    if {"$top", "$orderby", "$filter"} & set(request.query):
        return error(request, 400, "Request_UnsupportedQuery", "The query is not supported by delta.")
    try:
        # since / until / the id after which the page begins
        told = read_token(request.query.get("$skiptoken") or request.query.get("$deltatoken") or "", "delta")
        since, until, after = told.split("/") if told else ("", "", "")
        begin, end = int(since or -1), int(until or -1)
    except ValueError:
        return _resync(root, request)
    if begin >= 0 and begin < tenant.delta_from:
        return _resync(root, request)
    end = tenant.last_change if end < 0 else end
    ids = tenant.in_order() if begin < 0 else sorted(i for i, number in tenant.changes.items() if number > begin)
    start = bisect.bisect_right(ids, after) if after else 0
    chosen = ids[start : start + PAGE]
    body: Row = {
        "@odata.context": f"{root}/v1.0/$metadata#users",
        "value": [_delta_row(tenant, i, request, shape) for i in chosen],
    }
    if start + PAGE < len(ids):
        body["@odata.nextLink"] = link(root, request, "$skiptoken", token("delta", f"{begin}/{end}/{chosen[-1]}"))
    else:
        body["@odata.deltaLink"] = link(root, request, "$deltatoken", token("delta", f"{end}//"))
    return Reply(200, body)


def _delta_row(tenant: Tenant, user_id: str, request: Request, shape: Shape) -> Row:
    row = tenant.users.get(user_id)
    if row is None:
        return {"id": user_id, "@removed": {"reason": "changed"}}
    return {"id": user_id} | {name: value for name, value in shape.of(row, request).items() if value is not None}


def _resync(root: str, request: Request) -> Reply:
    reply = error(request, 410, "syncStateNotFound", "The sync state generation is not found; make a full sync.")
    return Reply(410, reply.body, {**reply.headers, "Location": f"{root}{request.path}"})


# --- errors -------------------------------------------------------------------------------------------------------


def error(request: Request, status: int, code: str, message: str, **headers: str) -> Reply:
    own = str(uuid.uuid4())
    inner = {"date": now(), "request-id": own, "client-request-id": request.headers.get("client-request-id", own)}
    body = {"error": {"code": code, "message": message, "innerError": inner}}
    return Reply(status, body, {"request-id": own, **{name.replace("_", "-"): text for name, text in headers.items()}})


def no_resource(request: Request, key: str) -> Reply:
    text = f"Resource '{key}' does not exist or one of its queried reference-property objects are not present."
    return error(request, 404, "Request_ResourceNotFound", text)


def intune_message(text: str) -> str:
    """Intune puts a JSON document into the message."""
    return json.dumps(
        {
            "_version": 3,
            "Message": f"{text} - Operation ID (for customer support): {uuid.uuid4()}",
            "CustomApiErrorPhrase": "",
        }
    )


def now() -> str:
    return f"{datetime.datetime.now(datetime.UTC):%Y-%m-%dT%H:%M:%S}"

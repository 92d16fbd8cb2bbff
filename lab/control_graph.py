"""What the control interface does with one Graph tenant: devices, people, groups, permissions, faults.

Changes here are as if Intune, the directory or its administrators had made them.
"""

from __future__ import annotations

import uuid
from dataclasses import asdict, fields
from typing import Any

from lab.control_organizations import ControlError, Route
from lab.graph_faults import GraphFault
from lab.tenant import PERMISSIONS, RETRY_AFTER, Tenant, enrolled_device, license_user
from lab.web import Request
from lab.world import World

PAGE = 1000
_FAULT_FIELDS = frozenset(field.name for field in fields(GraphFault)) - {"id", "used"}


class GraphControl:
    def __init__(self, world: World) -> None:
        self.world = world

    def routes(self) -> tuple[Route, ...]:
        one = r"graph/([^/]+)"
        return (
            ("GET", r"graph/log", self._log),
            ("GET", one, self._tenant_row),
            ("POST", rf"{one}/throttle", self._throttle),
            ("PUT", rf"{one}/permissions", self._permissions),
            ("GET", rf"{one}/faults", self._faults),
            ("POST", rf"{one}/faults", self._fault_add),
            ("DELETE", rf"{one}/faults(?:/([^/]+))?", self._fault_clear),
            ("POST", rf"{one}/tokens/expire", self._tokens_expire),
            ("POST", rf"{one}/delta/expire", self._delta_expire),
            ("GET", rf"{one}/devices", self._devices),
            ("POST", rf"{one}/devices", self._device_add),
            ("PATCH", rf"{one}/devices/([^/]+)", self._device_change),
            ("DELETE", rf"{one}/devices/([^/]+)", self._device_remove),
            ("GET", rf"{one}/users", self._users),
            ("PATCH", rf"{one}/users/([^/]+)", self._user_change),
            ("DELETE", rf"{one}/users/([^/]+)", self._user_remove),
            ("GET", rf"{one}/groups", self._groups),
            ("POST", rf"{one}/groups", self._group_add),
            ("PATCH", rf"{one}/groups/([^/]+)", self._group_change),
            ("DELETE", rf"{one}/groups/([^/]+)", self._group_remove),
        )

    def reset(self) -> None:
        """Nobody throttled, no faults, the usual permissions."""
        for tenant in self.world.tenants:
            tenant.faults.clear()
            tenant.throttle_next, tenant.retry_after, tenant.permissions = 0, RETRY_AFTER, PERMISSIONS

    def _tenant(self, name: str) -> Tenant:
        tenant = next((t for t in self.world.tenants if t.name.lower() == name.lower()), None)
        if tenant is None:
            names = ", ".join(t.name for t in self.world.tenants)
            raise ControlError(404, f"no tenant called {name}", f"there are: {names}")
        return tenant

    # --- the whole ---

    def _log(self, request: Request) -> dict[str, Any]:
        return {"log": list(self.world.graph.requests) if self.world.graph else []}

    def _tenant_row(self, request: Request, name: str) -> dict[str, Any]:
        tenant = self._tenant(name)
        return {
            "name": tenant.name, "id": tenant.id, "permissions": sorted(tenant.permissions),
            "users": len(tenant.users), "groups": len(tenant.groups), "devices": len(tenant.devices),
        }  # fmt: skip

    def _throttle(self, request: Request, name: str) -> dict[str, Any]:
        tenant, body = self._tenant(name), request.json()
        with tenant.lock:
            tenant.throttle_next = int(body.get("count", 1))
            tenant.retry_after = str(body.get("retry_after", tenant.retry_after))
        return {"count": tenant.throttle_next, "retry_after": tenant.retry_after}

    def _permissions(self, request: Request, name: str) -> dict[str, Any]:
        """What the application may read: {"permissions": ["User.Read.All"]}."""
        tenant = self._tenant(name)
        tenant.permissions = frozenset(str(one) for one in request.json().get("permissions", []))
        return {"permissions": sorted(tenant.permissions)}

    def _tokens_expire(self, request: Request, name: str) -> dict[str, Any]:
        """Tokens that were given out are good no more."""
        tenant = self._tenant(name)
        with tenant.lock:
            count = len(tenant.tokens)
            tenant.tokens.clear()
        return {"count": count}

    def _delta_expire(self, request: Request, name: str) -> dict[str, Any]:
        """Delta links that were given out are forgotten: 410."""
        tenant = self._tenant(name)
        with tenant.lock:
            tenant.last_change += 1
            tenant.delta_from = tenant.last_change
        return {"delta_from": tenant.delta_from}

    # --- faults ---

    def _faults(self, request: Request, name: str) -> dict[str, Any]:
        return {"faults": [asdict(fault) for fault in self._tenant(name).faults.all()]}

    def _fault_add(self, request: Request, name: str) -> dict[str, Any]:
        body = request.json()
        if unknown := set(body) - _FAULT_FIELDS:
            raise ControlError(400, f"unknown field {', '.join(unknown)}", f"use {', '.join(sorted(_FAULT_FIELDS))}")
        fault = GraphFault(
            kind=str(body.get("kind", "")), path=str(body.get("path", "")), value=str(body.get("value", "")),
            times=int(body.get("times", 0)),
        )  # fmt: skip
        return asdict(self._tenant(name).faults.add(fault))

    def _fault_clear(self, request: Request, name: str, fault_id: str | None) -> dict[str, Any]:
        self._tenant(name).faults.clear(fault_id or "")
        return self._faults(request, name)

    # --- devices ---

    def _devices(self, request: Request, name: str) -> dict[str, Any]:
        """All, or those of ?user=, in pages by ?offset= and ?limit=."""
        tenant = self._tenant(name)
        with tenant.lock:
            rows = list(tenant.devices.values())
            if "user" in request.query:
                wanted = self._user(tenant, request.query["user"])["id"]
                rows = [row for row in rows if row["userId"] == wanted]
        return {"count": len(rows), "devices": _part(rows, request)}

    def _device_add(self, request: Request, name: str) -> dict[str, Any]:
        """Somebody enrols a phone: {"user": .., "eas_device_id": ..}, and properties by Graph's names."""
        tenant, body = self._tenant(name), request.json()
        with tenant.lock:
            user = self._user(tenant, str(body.pop("user", "")))
            row = enrolled_device(user, str(body.pop("eas_device_id", "")))
            _change(row, body)
            tenant.devices[row["id"]] = row
        return row

    def _device_change(self, request: Request, name: str, device_id: str) -> dict[str, Any]:
        """Change properties of a managed device: {"complianceState": "noncompliant"}."""
        tenant, body = self._tenant(name), request.json()
        with tenant.lock:
            row = self._device(tenant, device_id)
            _change(row, body)
            return dict(row)

    def _device_remove(self, request: Request, name: str, device_id: str) -> dict[str, Any]:
        """Un-enrolled."""
        tenant = self._tenant(name)
        with tenant.lock:
            row = self._device(tenant, device_id)
            del tenant.devices[device_id]
        return row

    def _device(self, tenant: Tenant, device_id: str) -> dict[str, Any]:
        row = tenant.devices.get(device_id)
        if row is None:
            raise ControlError(404, f"no managed device {device_id}", "take an id from Graph")
        return row

    # --- people ---

    def _user(self, tenant: Tenant, key: str) -> dict[str, Any]:
        row = tenant.find_user(key)
        if row is None:
            raise ControlError(404, f"no user {key}", "take an id, a sign-in name or an address from …/users")
        return row

    def _users(self, request: Request, name: str) -> dict[str, Any]:
        tenant = self._tenant(name)
        with tenant.lock:
            rows = list(tenant.users.values())
        return {"count": len(rows), "users": [_public(row) for row in _part(rows, request)]}

    def _user_change(self, request: Request, name: str, key: str) -> dict[str, Any]:
        """`licensed` gives or takes the Intune plan; others by Graph's names, as {"accountEnabled": false}."""
        tenant, body = self._tenant(name), request.json()
        with tenant.lock:
            row = self._user(tenant, key)
            if "licensed" in body:
                license_user(row, with_intune=bool(body.pop("licensed")))
            _change(row, body)
            tenant.changed(row["id"])
            return _public(row)

    def _user_remove(self, request: Request, name: str, key: str) -> dict[str, Any]:
        tenant = self._tenant(name)
        with tenant.lock:
            row = self._user(tenant, key)
            del tenant.users[row["id"]]
            tenant.changed(row["id"])
            return _public(row)

    # --- groups ---

    def _groups(self, request: Request, name: str) -> dict[str, Any]:
        tenant = self._tenant(name)
        with tenant.lock:
            rows = [_group_row(tenant, row) for row in tenant.groups.values()]
        return {"count": len(rows), "groups": _part(rows, request)}

    def _group_add(self, request: Request, name: str) -> dict[str, Any]:
        """{"name": .., "members": [people], "groups": [ids of groups within it]}."""
        tenant, body = self._tenant(name), request.json()
        with tenant.lock:
            members = [self._user(tenant, str(one))["id"] for one in body.get("members", ())]
            inner = [self._group(tenant, str(one))["id"] for one in body.get("groups", ())]
            row = tenant.add_group(str(uuid.uuid4()), str(body.get("name", "New group")), members)
            row["_groups"] += inner
            tenant.regrouped()
            return _group_row(tenant, row)

    def _group_change(self, request: Request, name: str, group_id: str) -> dict[str, Any]:
        """`name`; `add` and `remove` people; `nest` and `unnest` groups."""
        tenant, body = self._tenant(name), request.json()
        if unknown := set(body) - {"name", "add", "remove", "nest", "unnest"}:
            raise ControlError(400, f"no field {', '.join(unknown)}", "use name, add, remove, nest, unnest")
        with tenant.lock:
            row = self._group(tenant, group_id)
            row["displayName"] = str(body.get("name", row["displayName"]))
            for word, find, key in (("add", self._user, "_members"), ("nest", self._group, "_groups")):
                wanted = [find(tenant, str(one))["id"] for one in body.get(word, ())]
                row[key] = list(dict.fromkeys([*row[key], *wanted]))
            for word, find, key in (("remove", self._user, "_members"), ("unnest", self._group, "_groups")):
                unwanted = {find(tenant, str(one))["id"] for one in body.get(word, ())}
                row[key] = [one for one in row[key] if one not in unwanted]
            tenant.regrouped()
            return _group_row(tenant, row)

    def _group_remove(self, request: Request, name: str, group_id: str) -> dict[str, Any]:
        tenant = self._tenant(name)
        with tenant.lock:
            row = _group_row(tenant, self._group(tenant, group_id))
            del tenant.groups[group_id]
            tenant.regrouped()
            return row

    def _group(self, tenant: Tenant, group_id: str) -> dict[str, Any]:
        row = tenant.groups.get(group_id)
        if row is None:
            raise ControlError(404, f"no group {group_id}", "take an id from …/groups")
        return row


def _part(rows: list[dict[str, Any]], request: Request) -> list[dict[str, Any]]:
    offset, limit = int(request.query.get("offset", 0)), int(request.query.get("limit", PAGE))
    return rows[offset : offset + limit]


def _change(row: dict[str, Any], body: dict[str, Any]) -> None:
    known = {name for name in row if name[0] != "_"} - {"id"}
    if unknown := set(body) - known:
        raise ControlError(400, f"no property {', '.join(unknown)}", f"known: {', '.join(sorted(known))}")
    row.update(body)


def _public(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name[0] != "_"}


def _group_row(tenant: Tenant, row: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": row["id"], "name": row["displayName"], "members": len(row["_members"]), "groups": list(row["_groups"]),
        "people": len(tenant.people(row["id"])),
    }  # fmt: skip

"""The control interface: JSON over HTTP on loopback, for tests, benchmarks and curious people. docs/lab.md lists it.

Its address holds a random token, since loopback is open to every user of the machine. An error answers with what was
wrong, why, and what would be right. What concerns one organisation stands in control_organizations.py, what concerns
Graph in control_graph.py.
"""

from __future__ import annotations

import re
import secrets
import urllib.parse
from collections.abc import Callable
from dataclasses import asdict, fields
from typing import Any

from lab.control_graph import GraphControl
from lab.control_organizations import ControlError, OrganizationControl
from lab.exchange.wsman import Limits
from lab.faults import KINDS, Fault
from lab.scenarios import from_values
from lab.web import Reply, Request, Service
from lab.world import World

_FAULT_FIELDS = frozenset(field.name for field in fields(Fault)) - {"id", "used"}


class Control:
    """Serves one world."""

    def __init__(self, world: World, token: str = "", port: int = 0) -> None:
        self.world = world
        self.token = token or secrets.token_urlsafe(16)
        self.service = Service(self._handle, port)
        self._graph = GraphControl(world)
        self._routes: tuple[tuple[str, str, Callable[..., Any]], ...] = (
            ("GET", r"", self._state),
            ("GET", r"faults", self._faults),
            ("POST", r"faults", self._fault_add),
            ("DELETE", r"faults(?:/([^/]+))?", self._fault_clear),
            ("GET", r"limits", lambda request: asdict(self.world.limits)),
            ("PATCH", r"limits", self._limits),
            ("POST", r"reset", self._reset),
            ("POST", r"organizations", self._organization_add),
            *self._graph.routes(),
            *OrganizationControl(world).routes(),
        )

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.service.port}/{self.token}/"

    def _handle(self, request: Request) -> Reply:
        prefix = f"/{self.token}"
        is_ours = secrets.compare_digest(request.path[: len(prefix)].encode(), prefix.encode())
        if not is_ours or request.path[len(prefix) : len(prefix) + 1] not in ("", "/"):
            return Reply(404, {"error": "not found", "remedy": "take the address from lab.json"})
        try:
            return self._answer(request, request.raw_path[len(prefix) :].strip("/"))
        except ControlError as error:
            return Reply(error.status, {"error": str(error), "remedy": error.remedy})
        except ValueError as error:
            return Reply(400, {"error": str(error), "remedy": "correct the request and send it again"})

    def _answer(self, request: Request, path: str) -> Reply:
        is_known = False
        for method, pattern, answer in self._routes:
            match = re.fullmatch(pattern, path)
            if match is None:
                continue
            is_known = True
            if method == request.method:
                return Reply(200, answer(request, *(part and urllib.parse.unquote(part) for part in match.groups())))
        if is_known:
            return Reply(405, {"error": f"{request.method} is not possible here", "remedy": "see docs/lab.md"})
        return Reply(404, {"error": f"no such thing: {path}", "remedy": "see docs/lab.md"})

    # --- the whole ---

    def _state(self, request: Request) -> dict[str, Any]:
        return {
            **self.world.state(self.url),
            "servers": {s.fqdn: s.stats for o in self.world.organizations for s in o.servers},
        }

    def _reset(self, request: Request) -> dict[str, Any]:
        """No faults, the usual limits, nothing hidden, nobody throttled; data stay."""
        self.world.faults.clear()
        self._settle()
        for name, value in asdict(Limits()).items():
            setattr(self.world.limits, name, value)
        for organization in self.world.organizations:
            organization.engine.hidden = frozenset()
        self._graph.reset()
        return {}

    def _organization_add(self, request: Request) -> dict[str, Any]:
        organization = self.world.add(from_values(request.json()))
        self.world.write_state(self.url)
        return organization.row()

    # --- faults and limits ---

    def _faults(self, request: Request) -> dict[str, Any]:
        return {"faults": [asdict(fault) for fault in self.world.faults.all()], "kinds": sorted(KINDS)}

    def _fault_add(self, request: Request) -> dict[str, Any]:
        body = request.json()
        if unknown := set(body) - _FAULT_FIELDS:
            raise ControlError(400, f"unknown field {', '.join(unknown)}", f"use {', '.join(sorted(_FAULT_FIELDS))}")
        fault = Fault(
            kind=str(body.get("kind", "")), server=str(body.get("server", "")), cmdlet=str(body.get("cmdlet", "")),
            value=str(body.get("value", "")), times=int(body.get("times", 0)),
        )  # fmt: skip
        servers = {server.fqdn for one in self.world.organizations for server in one.servers}
        if fault.server and fault.server.lower() not in servers:
            raise ControlError(404, f"no server {fault.server}", f"there are: {', '.join(sorted(servers))}")
        self.world.faults.add(fault)
        self._settle()
        return asdict(fault)

    def _fault_clear(self, request: Request, fault_id: str | None) -> dict[str, Any]:
        self.world.faults.clear(fault_id or "")
        self._settle()
        return {"faults": [asdict(fault) for fault in self.world.faults.all()]}

    def _settle(self) -> None:
        """Whoever has set or lifted a fault may rely on it at once."""
        for organization in self.world.organizations:
            for server in organization.servers:
                server.settle()

    def _limits(self, request: Request) -> dict[str, Any]:
        kinds = {field.name: type(getattr(self.world.limits, field.name)) for field in fields(Limits)}
        wanted = request.json()
        if unknown := set(wanted) - set(kinds):
            raise ControlError(400, f"no limit called {', '.join(unknown)}", f"known: {', '.join(kinds)}")
        for name, value in wanted.items():
            setattr(self.world.limits, name, kinds[name](value))
        return asdict(self.world.limits)

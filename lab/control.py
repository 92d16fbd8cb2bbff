"""The control interface: JSON over HTTP on loopback, for tests, benchmarks and curious people. docs/lab.md lists it.

Its address holds a random token, since loopback is open to every user of the machine. An error answers with what was
wrong, why, and what would be right.
"""

from __future__ import annotations

import re
import secrets
import urllib.parse
import uuid
from collections.abc import Callable
from dataclasses import asdict, fields
from typing import Any

from lab.exchange.objects import Device, Mailbox, utc_now
from lab.exchange.wsman import Limits
from lab.faults import KINDS, Fault
from lab.phone import Phone
from lab.scenarios import from_values
from lab.web import Reply, Request, Service
from lab.world import Organization, World

PAGE = 1000
# What a phone may be told to say of itself.
PHONE_FIELDS = ("device_type", "model", "os", "user_agent", "name", "protocol_version")


class ControlError(Exception):
    def __init__(self, status: int, what: str, remedy: str) -> None:
        super().__init__(what)
        self.reply = Reply(status, {"error": what, "remedy": remedy})


class Control:
    """Serves one world."""

    def __init__(self, world: World, token: str = "", port: int = 0) -> None:
        self.world = world
        self.token = token or secrets.token_urlsafe(16)
        self.service = Service(self._handle, port)
        self._routes: tuple[tuple[str, str, Callable[..., Any]], ...] = (
            ("GET", r"", self._state),
            ("GET", r"faults", self._faults),
            ("POST", r"faults", self._fault_add),
            ("DELETE", r"faults(?:/([^/]+))?", self._fault_clear),
            ("GET", r"limits", lambda request: asdict(self.world.limits)),
            ("PATCH", r"limits", self._limits),
            ("POST", r"organizations", self._organization_add),
            ("POST", r"reset", self._reset),
            ("GET", r"organizations/([^/]+)", self._organization),
            ("GET", r"organizations/([^/]+)/log", self._log),
            ("DELETE", r"organizations/([^/]+)/log", self._log_clear),
            ("PUT", r"organizations/([^/]+)/hidden", self._hidden),
            ("GET", r"organizations/([^/]+)/devices", self._devices),
            ("POST", r"organizations/([^/]+)/devices", self._devices_add),
            ("POST", r"organizations/([^/]+)/devices/mutate", self._devices_mutate),
            ("POST", r"organizations/([^/]+)/devices/remove", self._devices_remove),
            ("PATCH", r"organizations/([^/]+)/devices/([^/]+)", self._device_change),
            ("POST", r"organizations/([^/]+)/phone", self._phone),
            ("GET", r"organizations/([^/]+)/mailboxes", self._mailboxes),
            ("GET", r"organizations/([^/]+)/mailboxes/([^/]+)/messages", self._messages),
            ("POST", r"graph/([^/]+)/throttle", self._graph_throttle),
        )  # fmt: skip

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.service.port}/{self.token}/"

    def _handle(self, request: Request) -> Reply:
        prefix = f"/{self.token}"
        if not secrets.compare_digest(request.path[: len(prefix)].encode(), prefix.encode()):
            return Reply(404, {"error": "not found", "remedy": "take the address from lab.json"})
        path = request.raw_path[len(prefix) :].strip("/")
        try:
            known = False
            for method, pattern, answer in self._routes:
                match = re.fullmatch(pattern, path)
                if match is None:
                    continue
                known = True
                if method == request.method:
                    return Reply(
                        200, answer(request, *(part and urllib.parse.unquote(part) for part in match.groups()))
                    )
            if known:
                return Reply(405, {"error": f"{request.method} is not possible here", "remedy": "see docs/lab.md"})
            return Reply(404, {"error": f"no such thing: {path}", "remedy": "see docs/lab.md"})
        except ControlError as error:
            return error.reply
        except ValueError as error:
            return Reply(400, {"error": str(error), "remedy": "correct the body and send it again"})

    # --- the whole ---

    def _state(self, request: Request) -> dict[str, Any]:
        return {
            **self.world.state(self.url),
            "servers": {s.fqdn: s.stats for o in self.world.organizations for s in o.servers},
        }

    def _faults(self, request: Request) -> dict[str, Any]:
        return {"faults": [asdict(fault) for fault in self.world.faults.all()], "kinds": sorted(KINDS)}

    def _fault_add(self, request: Request) -> dict[str, Any]:
        body = request.json()
        allowed = {"kind", "server", "cmdlet", "value", "times"}
        if unknown := set(body) - allowed:
            raise ControlError(400, f"unknown field {', '.join(unknown)}", f"use {', '.join(sorted(allowed))}")
        fault = Fault(
            kind=str(body.get("kind", "")), server=str(body.get("server", "")), cmdlet=str(body.get("cmdlet", "")),
            value=str(body.get("value", "")), times=int(body.get("times", 0)),
        )  # fmt: skip
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
        for name, value in request.json().items():
            if name not in kinds:
                raise ControlError(400, f"no limit called {name}", f"known: {', '.join(kinds)}")
            setattr(self.world.limits, name, kinds[name](value))
        return asdict(self.world.limits)

    def _reset(self, request: Request) -> dict[str, Any]:
        """No faults, the usual limits, nothing hidden, nobody throttled; data stay."""
        self.world.faults.clear()
        self._settle()
        for name, value in asdict(Limits()).items():
            setattr(self.world.limits, name, value)
        for organization in self.world.organizations:
            organization.engine.hidden = frozenset()
        for tenant in self.world.tenants:
            tenant.throttle_next = 0
        return {}

    # --- organisations ---

    def _organization_add(self, request: Request) -> dict[str, Any]:
        organization = self.world.add(from_values(request.json()))
        self.world.write_state(self.url)
        return organization.row()

    def _find(self, name: str) -> Organization:
        organization = self.world.find(name)
        if organization is None:
            names = ", ".join(o.spec.name for o in self.world.organizations)
            raise ControlError(404, f"no organisation called {name}", f"there are: {names}")
        return organization

    def _organization(self, request: Request, name: str) -> dict[str, Any]:
        organization = self._find(name)
        settings = organization.store.settings
        return {
            **organization.row(),
            "settings": {
                "default_access_level": settings.default_access_level,
                "user_mail_insert": settings.user_mail_insert,
                "admin_mail_recipients": settings.admin_mail_recipients,
            },
        }

    def _log(self, request: Request, name: str) -> dict[str, Any]:
        entries = self._find(name).store.executed(int(request.query.get("since", 0)))
        return {"log": [asdict(entry) for entry in entries]}

    def _log_clear(self, request: Request, name: str) -> dict[str, Any]:
        self._find(name).store.clear_log()
        return {"log": []}

    def _hidden(self, request: Request, name: str) -> dict[str, Any]:
        """What RBAC hides from everyone: {"hidden": ["Get-MobileDevice", "Get-MobileDevice:Filter"]}."""
        names = request.json().get("hidden", [])
        engine = self._find(name).engine
        engine.hidden = frozenset(str(entry).lower() for entry in names)
        return {"hidden": sorted(engine.hidden)}

    # --- devices ---

    def _devices(self, request: Request, name: str) -> dict[str, Any]:
        store = self._find(name).store
        offset, limit = int(request.query.get("offset", 0)), int(request.query.get("limit", PAGE))
        with store.snapshot() as devices:
            pass
        rows = [_device_row(device) for device in devices[offset : offset + limit]]
        return {"count": len(devices), "devices": rows}

    def _devices_add(self, request: Request, name: str) -> dict[str, Any]:
        store = self._find(name).store
        body = request.json()
        count = int(body.get("count", 1))
        with store.lock:
            owner = store.find_mailbox(str(body["mailbox"])) if "mailbox" in body else None
            if "mailbox" in body and owner is None:
                raise ControlError(404, f"no mailbox {body['mailbox']}", "take one from …/mailboxes")
            owners = list(store.mailboxes.values())
            added = [store.add_device(_new_device(owner or store.random.choice(owners), body)) for _ in range(count)]
        return {"devices": [_device_row(device) for device in added]}

    def _devices_mutate(self, request: Request, name: str) -> dict[str, Any]:
        chosen = self._find(name).store.mutate(int(request.json().get("count", 1)))
        return {"count": len(chosen)}

    def _devices_remove(self, request: Request, name: str) -> dict[str, Any]:
        store = self._find(name).store
        body = request.json()
        with store.lock:
            if "guid" in body:
                chosen = [self._device(name, str(body["guid"]))]
            else:
                everyone = list(store.devices.values())
                chosen = store.random.sample(everyone, min(int(body.get("count", 1)), len(everyone)))
            for device in chosen:
                store.remove_device(device)
        return {"devices": [_device_row(device) for device in chosen]}

    def _device(self, name: str, guid: str) -> Device:
        device = self._find(name).store.find_device(guid)
        if device is None:
            raise ControlError(404, f"no device {guid}", "take a guid from …/devices")
        return device

    def _device_change(self, request: Request, name: str, guid: str) -> dict[str, Any]:
        store, device = self._find(name).store, self._device(name, guid)
        body = request.json()
        with store.lock:
            if "state" in body:
                store.set_state(device, str(body["state"]), str(body.get("reason", device.reason)), body.get("rule"))
            for field in ("friendly_name", "os", "model"):
                if field in body:
                    setattr(device, field, str(body[field]))
                    device.touch(store.now())
        return _device_row(device)

    def _phone(self, request: Request, name: str) -> dict[str, Any]:
        """One request of a phone over HTTP, as its owner: to the first server, or the one named."""
        organization = self._find(name)
        body = request.json()
        identity = str(body.get("mailbox", ""))
        mailbox = organization.store.find_mailbox(identity)
        if mailbox is None:
            raise ControlError(404, f"no mailbox {identity}", "take one from …/mailboxes")
        wanted = str(body.get("server") or organization.servers[0].fqdn).lower()
        server = next((s for s in organization.servers if s.fqdn.lower() == wanted), None)
        if server is None:
            raise ControlError(
                404, f"no server {wanted}", f"there are: {', '.join(s.fqdn for s in organization.servers)}"
            )
        told = {key: str(body[key]) for key in PHONE_FIELDS if key in body}
        phone = Phone(
            f"https://{server.host}:{server.https_port}", mailbox.upn, str(body.get("password", mailbox.password)),
            str(body.get("device_id", "")), ca_file=str(self.world.authority.ca_path),
            is_provisioned=bool(body.get("is_provisioned", True)), **told,
        )  # fmt: skip
        try:
            return asdict(phone.sync(str(body.get("command", "Sync"))))
        except OSError as error:
            raise ControlError(
                502, f"the phone reached no server: {error}", "lift the fault, or name another server"
            ) from None

    # --- mailboxes, Graph ---

    def _mailboxes(self, request: Request, name: str) -> dict[str, Any]:
        store = self._find(name).store
        offset, limit = int(request.query.get("offset", 0)), int(request.query.get("limit", PAGE))
        with store.lock:
            mailboxes = list(store.mailboxes.values())
        rows = [_mailbox_row(mailbox) for mailbox in mailboxes[offset : offset + limit]]
        return {"count": len(mailboxes), "mailboxes": rows}

    def _messages(self, request: Request, name: str, identity: str) -> dict[str, Any]:
        mailbox = self._find(name).store.find_mailbox(identity)
        if mailbox is None:
            raise ControlError(404, f"no mailbox {identity}", "take one from …/mailboxes")
        return {
            "messages": [{**asdict(message), "received": message.received.isoformat()} for message in mailbox.messages]
        }

    def _graph_throttle(self, request: Request, name: str) -> dict[str, Any]:
        tenant = next((t for t in self.world.tenants if t.name.lower() == name.lower()), None)
        if tenant is None:
            raise ControlError(
                404, f"no tenant called {name}", f"there are: {', '.join(t.name for t in self.world.tenants)}"
            )
        body = request.json()
        tenant.throttle_next = int(body.get("count", 1))
        tenant.retry_after = str(body.get("retry_after", tenant.retry_after))
        return {"count": tenant.throttle_next, "retry_after": tenant.retry_after}


def _device_row(device: Device) -> dict[str, Any]:
    return {
        "guid": str(device.guid), "device_id": device.device_id, "device_type": device.device_type,
        "mailbox": device.mailbox.sam, "state": device.state, "reason": device.reason, "rule": device.rule,
        "client_type": device.client_type, "friendly_name": device.friendly_name, "os": device.os,
    }  # fmt: skip


def _mailbox_row(mailbox: Mailbox) -> dict[str, Any]:
    return {
        "guid": str(mailbox.guid), "sam": mailbox.sam, "upn": mailbox.upn, "smtp": mailbox.smtp,
        "domain": mailbox.domain, "display_name": mailbox.display_name, "allowed": mailbox.allowed,
        "blocked": mailbox.blocked, "active_sync_enabled": mailbox.active_sync_enabled,
    }  # fmt: skip


def _new_device(owner: Mailbox, body: dict[str, Any]) -> Device:
    now = utc_now()
    return Device(
        guid=uuid.uuid4(), mailbox=owner, device_id=str(body.get("device_id") or uuid.uuid4().hex.upper()),
        device_type=str(body.get("device_type", "iPhone")), model=str(body.get("model", "iPhone14C5")),
        os=str(body.get("os", "iOS 17.6.1 21G93")), os_language="en", user_agent="Apple-iPhone14C5/2107.93",
        friendly_name=str(body.get("friendly_name", "")), state=str(body.get("state", "Allowed")),
        reason=str(body.get("reason", "Global")), first_sync=now, created=now, changed=now,
    )  # fmt: skip

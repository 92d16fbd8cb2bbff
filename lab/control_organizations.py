"""What the control interface does with one organisation: its log, devices, phones, mailboxes, settings, roles.

Changes here are as if Exchange's own administrators or users had made them: no cmdlet is run and none is logged.
"""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from lab.exchange.cmdlets.directory import ACCESS_LEVELS, CHARACTERISTICS
from lab.exchange.objects import AccessRule, Device, Mailbox, utc_now
from lab.phone import Phone
from lab.web import Request
from lab.world import Organization, World

PAGE = 1000
STATES = ("Unknown", "Allowed", "Blocked", "Quarantined", "DeviceDiscovery")
# What a phone may be told to say of itself.
PHONE_FIELDS = ("device_type", "model", "os", "user_agent", "name", "protocol_version")
Route = tuple[str, str, Callable[..., Any]]


class ControlError(Exception):
    """The request cannot be met; `status` is HTTP's, `remedy` what would help."""

    def __init__(self, status: int, what: str, remedy: str) -> None:
        super().__init__(what)
        self.status, self.remedy = status, remedy


class OrganizationControl:
    def __init__(self, world: World) -> None:
        self.world = world

    def routes(self) -> tuple[Route, ...]:
        one = r"organizations/([^/]+)"
        return (
            ("GET", one, self._organization),
            ("PATCH", one, self._organization_change),
            ("GET", rf"{one}/log", self._log),
            ("DELETE", rf"{one}/log", self._log_clear),
            ("PUT", rf"{one}/hidden", self._hidden),
            ("GET", rf"{one}/rules", self._rules),
            ("PUT", rf"{one}/rules", self._rules_change),
            ("GET", rf"{one}/policies", self._policies),
            ("GET", rf"{one}/devices", self._devices),
            ("POST", rf"{one}/devices", self._devices_add),
            ("POST", rf"{one}/devices/mutate", self._devices_mutate),
            ("POST", rf"{one}/devices/remove", self._devices_remove),
            ("PATCH", rf"{one}/devices/([^/]+)", self._device_change),
            ("POST", rf"{one}/phone", self._phone),
            ("GET", rf"{one}/mailboxes", self._mailboxes),
            ("PATCH", rf"{one}/mailboxes/([^/]+)", self._mailbox_change),
            ("GET", rf"{one}/mailboxes/([^/]+)/messages", self._messages),
        )

    def _find(self, name: str) -> Organization:
        organization = self.world.find(name)
        if organization is None:
            names = ", ".join(o.spec.name for o in self.world.organizations)
            raise ControlError(404, f"no organisation called {name}", f"there are: {names}")
        return organization

    # --- the organisation ---

    def _organization(self, request: Request, name: str) -> dict[str, Any]:
        organization = self._find(name)
        return {**organization.row(), "settings": asdict(organization.store.settings)}

    def _organization_change(self, request: Request, name: str) -> dict[str, Any]:
        settings, body = self._find(name).store.settings, request.json()
        if unknown := set(body) - set(asdict(settings)):
            raise ControlError(400, f"no setting {', '.join(unknown)}", f"known: {', '.join(asdict(settings))}")
        _one_of(body.get("default_access_level", "Allow"), ACCESS_LEVELS, "level")
        with self._find(name).store.lock:
            for field, value in body.items():
                setattr(settings, field, value)
        return asdict(settings)

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

    def _rules(self, request: Request, name: str) -> dict[str, Any]:
        store = self._find(name).store
        with store.lock:
            rules = [(one.name, one.query, one.characteristic, one.level) for one in store.rules]
        return {"rules": [dict(zip(("name", "query", "characteristic", "level"), rule, strict=True)) for rule in rules]}

    def _rules_change(self, request: Request, name: str) -> dict[str, Any]:
        """All of them at once: {"rules": [{"query": "Pixel 8", "characteristic": "DeviceModel", "level": "Block"}]}."""
        store = self._find(name).store
        rules = [
            AccessRule(
                str(one.get("query", "")),
                _one_of(one.get("characteristic"), CHARACTERISTICS, "characteristic"),
                _one_of(one.get("level"), ACCESS_LEVELS, "level"),
            )
            for one in request.json().get("rules", [])
        ]
        with store.lock:
            store.rules[:] = rules
        return self._rules(request, name)

    def _policies(self, request: Request, name: str) -> dict[str, Any]:
        """Settings by their ActiveSync names, where they are not the defaults."""
        store = self._find(name).store
        with store.lock:
            assigned = [mailbox.policy for mailbox in store.mailboxes.values()]
            return {
                "policies": [
                    {
                        "name": policy.name,
                        "is_default": policy.is_default,
                        "settings": dict(policy.settings),
                        "mailboxes": assigned.count(policy.name),
                    }
                    for policy in store.policies
                ]
            }

    # --- devices ---

    def _devices(self, request: Request, name: str) -> dict[str, Any]:
        offset, limit = _page(request)
        with self._find(name).store.snapshot() as devices:
            rows = [_device_row(device) for device in devices[offset : offset + limit]]
        return {"count": len(devices), "devices": rows}

    def _devices_add(self, request: Request, name: str) -> dict[str, Any]:
        store, body = self._find(name).store, request.json()
        _one_of(body.get("state", "Allowed"), STATES, "state")
        with store.lock:
            owners = (
                [self._mailbox(name, str(body["mailbox"]))] if "mailbox" in body else list(store.mailboxes.values())
            )
            count = int(body.get("count", 1))
            added = [store.add_device(_new_device(store.random.choice(owners), body)) for _ in range(count)]
        return {"devices": [_device_row(device) for device in added]}

    def _devices_mutate(self, request: Request, name: str) -> dict[str, Any]:
        chosen = self._find(name).store.mutate(int(request.json().get("count", 1)))
        return {"count": len(chosen)}

    def _devices_remove(self, request: Request, name: str) -> dict[str, Any]:
        store, body = self._find(name).store, request.json()
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
                state = _one_of(body["state"], STATES, "state")
                store.set_state(device, state, str(body.get("reason", device.reason)), body.get("rule"))
            for field in ("friendly_name", "os", "model"):
                if field in body:
                    setattr(device, field, str(body[field]))
                    device.touch(store.now())
            if "first_sync" in body:
                device.first_sync = _time(body["first_sync"])
                device.touch(store.now())
            if "last_success" in body:  # of the statistics: the directory does not hold it
                device.last_success = device.last_attempt = _time(body["last_success"])
        return _device_row(device)

    def _phone(self, request: Request, name: str) -> dict[str, Any]:
        """One request of a phone over HTTP, as its owner: to the first server, or the one named."""
        organization, body = self._find(name), request.json()
        mailbox = self._mailbox(name, str(body.get("mailbox", "")))
        wanted = str(body.get("server") or organization.servers[0].fqdn).lower()
        server = next((s for s in organization.servers if s.fqdn.lower() == wanted), None)
        if server is None:
            names = ", ".join(s.fqdn for s in organization.servers)
            raise ControlError(404, f"no server {wanted}", f"there are: {names}")
        told = {key: str(body[key]) for key in PHONE_FIELDS if key in body}
        phone = Phone(
            f"https://{server.host}:{server.https_port}", mailbox.upn, str(body.get("password", mailbox.password)),
            str(body.get("device_id", "")), ca_file=str(self.world.authority.ca_path),
            is_provisioned=bool(body.get("is_provisioned", True)), **told,
        )  # fmt: skip
        try:
            return asdict(phone.sync(str(body.get("command", "Sync"))))
        except OSError as error:
            remedy = "lift the fault, or name another server"
            raise ControlError(502, f"the phone reached no server: {error}", remedy) from None

    # --- mailboxes ---

    def _mailbox(self, name: str, identity: str) -> Mailbox:
        mailbox = self._find(name).store.find_mailbox(identity)
        if mailbox is None:
            raise ControlError(404, f"no mailbox {identity}", "take one from …/mailboxes")
        return mailbox

    def _mailboxes(self, request: Request, name: str) -> dict[str, Any]:
        store = self._find(name).store
        offset, limit = _page(request)
        with store.lock:
            mailboxes = list(store.mailboxes.values())
        rows = [_mailbox_row(mailbox) for mailbox in mailboxes[offset : offset + limit]]
        return {"count": len(mailboxes), "mailboxes": rows}

    def _mailbox_change(self, request: Request, name: str, identity: str) -> dict[str, Any]:
        """The personal lists, and whether ActiveSync is on, as another administrator would set them."""
        store, mailbox, body = self._find(name).store, self._mailbox(name, identity), request.json()
        if unknown := set(body) - {"allowed", "blocked", "active_sync_enabled", "policy"}:
            raise ControlError(
                400, f"no field {', '.join(unknown)}", "use allowed, blocked, active_sync_enabled, policy"
            )
        with store.lock:
            if "policy" in body:
                known = tuple(policy.name for policy in store.policies)
                mailbox.policy = None if body["policy"] is None else _one_of(body["policy"], known, "policy")
            for field in ("allowed", "blocked"):
                if field in body:
                    setattr(mailbox, field, [str(entry) for entry in body[field]])
            mailbox.active_sync_enabled = bool(body.get("active_sync_enabled", mailbox.active_sync_enabled))
            mailbox.changed = store.now()
        return _mailbox_row(mailbox)

    def _messages(self, request: Request, name: str, identity: str) -> dict[str, Any]:
        messages = list(self._mailbox(name, identity).messages)
        return {"messages": [{**asdict(one), "received": one.received.isoformat()} for one in messages]}


def _page(request: Request) -> tuple[int, int]:
    return int(request.query.get("offset", 0)), int(request.query.get("limit", PAGE))


def _one_of(value: Any, allowed: tuple[str, ...], what: str) -> str:
    if value not in allowed:
        raise ControlError(400, f"no {what} {value!r}", f"use {', '.join(allowed)}")
    return str(value)


def _time(text: Any, default: datetime.datetime | None = None) -> datetime.datetime:
    """From ISO 8601; a time without zone is UTC. Raises ControlError."""
    if text is None and default is not None:
        return default
    try:
        moment = datetime.datetime.fromisoformat(str(text))
    except ValueError:
        raise ControlError(400, f"no time: {text!r}", "write it as 2026-11-01T08:00:00Z") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=datetime.UTC)


def _device_row(device: Device) -> dict[str, Any]:
    return {
        "guid": str(device.guid), "device_id": device.device_id, "device_type": device.device_type,
        "mailbox": device.mailbox.sam, "state": device.state, "reason": device.reason, "rule": device.rule,
        "client_type": device.client_type, "friendly_name": device.friendly_name, "os": device.os,
        "model": device.model, "first_sync": device.first_sync.isoformat(),
        "last_success": device.last_success.isoformat() if device.last_success else None,
        "wipe": {
            "requested": device.wipe_requested is not None, "sent": device.wipe_sent is not None,
            "acknowledged": device.wipe_acknowledged is not None, "account_only": device.wipe_account_only,
        },
    }  # fmt: skip


def _mailbox_row(mailbox: Mailbox) -> dict[str, Any]:
    return {
        "guid": str(mailbox.guid), "sam": mailbox.sam, "upn": mailbox.upn, "smtp": mailbox.smtp,
        "domain": mailbox.domain, "display_name": mailbox.display_name, "allowed": mailbox.allowed,
        "blocked": mailbox.blocked, "active_sync_enabled": mailbox.active_sync_enabled, "policy": mailbox.policy,
        "sid": mailbox.sid,
    }  # fmt: skip


def _new_device(owner: Mailbox, body: dict[str, Any]) -> Device:
    now = utc_now()
    return Device(
        guid=uuid.uuid4(), mailbox=owner, device_id=str(body.get("device_id") or uuid.uuid4().hex.upper()),
        device_type=str(body.get("device_type", "iPhone")), model=str(body.get("model", "iPhone14C5")),
        os=str(body.get("os", "iOS 17.6.1 21G93")), os_language="en", user_agent="Apple-iPhone14C5/2107.93",
        friendly_name=str(body.get("friendly_name", "")), state=str(body.get("state", "Allowed")),
        reason=str(body.get("reason", "Global")), first_sync=_time(body.get("first_sync"), now), created=now,
        last_success=_time(body["last_success"]) if "last_success" in body else None, changed=now,
    )  # fmt: skip

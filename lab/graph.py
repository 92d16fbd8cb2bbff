"""A Microsoft Graph tenant in simple form: token, users, groups, licences, managedDevices (exchange.md section 7).

What is there answers as documented, traps included: an unsupported $filter is ignored and everything is returned, unset
dates are year 1, Retry-After can be a fraction, Intune's errors carry JSON inside `message`. Part of the lab: made of the
people and phones of the tenant's Exchange organisations.
"""

from __future__ import annotations

import datetime
import random
import re
import secrets
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from lab.exchange.store import Device, Mailbox, Store
from lab.web import Reply, Request, Service

TOKEN_SECONDS = 3599
PAGE = 100
UNSET_DATE = "0001-01-01T00:00:00Z"
NO_DEADLINE = "9999-12-31T23:59:59Z"
INTUNE_A = "c1ec4a95-1f05-45b3-a911-aa3fa01094f5"
EMS = "efccb6f7-5641-4e0e-bd10-b4976e1bf68e"
_COMPLIANCE: tuple[tuple[str, int], ...] = (("compliant", 70), ("noncompliant", 15), ("inGracePeriod", 5), ("unknown", 5), ("configManager", 5))
_USER_DEFAULTS = (
    "businessPhones", "displayName", "givenName", "id", "jobTitle", "mail", "mobilePhone", "officeLocation",
    "preferredLanguage", "surname", "userPrincipalName",
)  # fmt: skip


@dataclass
class Tenant:
    """One directory tenant: its application's secret, its people and its managed devices."""

    name: str
    id: str
    client_id: str
    client_secret: str
    users: dict[str, dict[str, Any]] = field(default_factory=dict)
    groups: dict[str, dict[str, Any]] = field(default_factory=dict)
    devices: dict[str, dict[str, Any]] = field(default_factory=dict)
    tokens: dict[str, float] = field(default_factory=dict)
    lock: threading.RLock = field(default_factory=threading.RLock)
    # Throttle the next n requests with this Retry-After.
    throttle_next: int = 0
    retry_after: str = "2.128"


def populate(tenant: Tenant, store: Store, seed: int) -> None:
    """Users for all mailboxes, a group of everyone, and records for about six in ten phones."""
    chance = random.Random(f"graph/{seed}/{store.domain}")
    members: list[str] = []
    for mailbox in store.mailboxes.values():
        user = _user(store, mailbox)
        tenant.users[user["id"]] = user
        members.append(user["id"])
    group_id = str(uuid.uuid5(store.guid, "everyone"))
    tenant.groups[group_id] = {"id": group_id, "displayName": f"{store.name} mobile users", "members": members}
    for device in store.devices.values():
        if device.client_type == "EAS" and chance.random() < 0.6:
            record = managed_device(device, chance)
            tenant.devices[record["id"]] = record


def _user(store: Store, mailbox: Mailbox) -> dict[str, Any]:
    user_id = str(uuid.uuid5(mailbox.guid, "user"))
    given, _, family = mailbox.display_name.partition(" ")
    licensed = mailbox.guid.int % 20 != 0  # one in twenty has no Intune licence
    return {
        "id": user_id, "displayName": mailbox.display_name, "givenName": given, "surname": family,
        "userPrincipalName": mailbox.upn, "mail": mailbox.smtp, "accountEnabled": True, "userType": "Member",
        "proxyAddresses": [f"SMTP:{mailbox.smtp}", *(f"smtp:{alias}" for alias in mailbox.aliases)],
        "businessPhones": [], "jobTitle": None, "mobilePhone": None, "officeLocation": None, "preferredLanguage": None,
        "onPremisesSamAccountName": mailbox.sam, "onPremisesDomainName": mailbox.domain,
        "onPremisesUserPrincipalName": mailbox.upn, "onPremisesSecurityIdentifier": mailbox.sid,
        "onPremisesImmutableId": None, "onPremisesDistinguishedName": mailbox.dn, "onPremisesSyncEnabled": True,
        "_licences": [_licence()] if licensed else [], "_organization": store.name,
    }  # fmt: skip


def _licence() -> dict[str, Any]:
    plan = {
        "servicePlanId": INTUNE_A,
        "servicePlanName": "INTUNE_A",
        "provisioningStatus": "Success",
        "appliesTo": "User",
    }
    return {"skuId": EMS, "skuPartNumber": "EMS", "servicePlans": [plan]}


def managed_device(device: Device, chance: random.Random) -> dict[str, Any]:
    """The Intune record of a phone, with its ActiveSync id most of the time."""
    mailbox = device.mailbox
    labels, weights = zip(*_COMPLIANCE, strict=True)
    state = chance.choices(labels, weights)[0]
    activated = chance.random() < 0.9
    enrolled = device.first_sync.astimezone(datetime.UTC)
    return {
        "id": str(uuid.uuid5(device.guid, "managed")), "userId": str(uuid.uuid5(mailbox.guid, "user")),
        "deviceName": f"{mailbox.sam}_{device.device_type}", "userPrincipalName": mailbox.upn, "emailAddress": mailbox.smtp,
        "userDisplayName": mailbox.display_name, "operatingSystem": device.os.split(" ")[0],
        "osVersion": (re.findall(r"[\d.]+", device.os) or [""])[0], "model": device.model, "manufacturer": "",
        "serialNumber": device.device_id[4:] if device.device_id.startswith("Appl") else f"SN{device.guid.hex[:10].upper()}",
        "imei": device.imei, "easActivated": activated, "easDeviceId": device.device_id if activated else "",
        "easActivationDateTime": f"{enrolled:%Y-%m-%dT%H:%M:%SZ}" if activated else UNSET_DATE,
        "azureADRegistered": True, "azureADDeviceId": str(uuid.uuid5(device.guid, "aad")),
        "deviceRegistrationState": "registered", "complianceState": state,
        "complianceGracePeriodExpirationDateTime": NO_DEADLINE, "managementAgent": "mdm", "exchangeAccessState": "none",
        "exchangeAccessStateReason": "none", "exchangeLastSuccessfulSyncDateTime": UNSET_DATE,
        "lastSyncDateTime": f"{enrolled:%Y-%m-%dT%H:%M:%SZ}", "enrolledDateTime": f"{enrolled:%Y-%m-%dT%H:%M:%SZ}",
        "jailBroken": "Unknown", "ethernetMacAddress": None, "iccid": None,
    }  # fmt: skip


class Graph:
    """Login and Graph endpoints of all tenants on one loopback port."""

    def __init__(self, tenants: list[Tenant], port: int = 0) -> None:
        self.tenants = tenants
        self.service = Service(self._handle, port)
        self.requests: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.service.port}"

    def _handle(self, request: Request) -> Reply:
        self.requests.append(f"{request.method} {request.path}")
        token = re.fullmatch(r"/([^/]+)/oauth2/v2\.0/token", request.path)
        if token and request.method == "POST":
            return self._token(token.group(1), request)
        version = re.match(r"/(v1\.0|beta)(/.*)", request.path)
        if version is None:
            return _error(404, "ResourceNotFound", f"No resource at '{request.path}'.")
        tenant = self._signed_in(request)
        if tenant is None:
            return _error(401, "InvalidAuthenticationToken", "Access token is empty, expired or of another tenant.")
        with tenant.lock:
            if tenant.throttle_next > 0:
                tenant.throttle_next -= 1
                reply = _error(429, "TooManyRequests", "Too many requests.")
                return Reply(429, reply.body, {"Retry-After": tenant.retry_after})
            return self._resource(tenant, version.group(2), request)

    def _token(self, name: str, request: Request) -> Reply:
        form = request.form()
        tenant = next((t for t in self.tenants if name.lower() in (t.id, t.name.lower())), None)
        known = tenant is not None and form.get("client_id") == tenant.client_id
        if tenant is None or not known or form.get("client_secret") != tenant.client_secret:
            code = 90002 if tenant is None else 700016 if not known else 7000215
            return Reply(
                401 if tenant else 400,
                {
                    "error": "invalid_client" if tenant else "invalid_request", "error_codes": [code],
                    "error_description": f"AADSTS{code}: The tenant, application or secret is not right.",
                    "timestamp": _now(), "trace_id": str(uuid.uuid4()), "correlation_id": str(uuid.uuid4()),
                },
            )  # fmt: skip
        token = secrets.token_urlsafe(32)
        tenant.tokens[token] = time.time() + TOKEN_SECONDS
        return Reply(
            200,
            {
                "token_type": "Bearer",
                "expires_in": TOKEN_SECONDS,
                "ext_expires_in": TOKEN_SECONDS,
                "access_token": token,
            },
        )

    def _signed_in(self, request: Request) -> Tenant | None:
        token = request.headers.get("authorization", "").removeprefix("Bearer ")
        return next((t for t in self.tenants if t.tokens.get(token, 0.0) > time.time()), None)

    def _resource(self, tenant: Tenant, path: str, request: Request) -> Reply:
        routes: tuple[tuple[str, Callable[..., Reply]], ...] = (
            (r"/deviceManagement/managedDevices", lambda: self._list(list(tenant.devices.values()), request, None)),
            (r"/deviceManagement/managedDevices/([^/]+)", lambda key: self._one(tenant.devices, key, request)),
            (r"/deviceManagement/managedDeviceOverview", lambda: Reply(200, {"enrolledDeviceCount": len(tenant.devices), "mdmEnrolledCount": len(tenant.devices)})),
            (r"/users", lambda: self._list(list(tenant.users.values()), request, _USER_DEFAULTS)),
            (r"/users/([^/]+)", lambda key: self._one(tenant.users, key, request)),
            (r"/users/([^/]+)/licenseDetails", lambda key: self._licences(tenant, key)),
            (r"/groups", lambda: self._list(list(tenant.groups.values()), request, ("id", "displayName"))),
            (r"/groups/([^/]+)/transitiveMembers/microsoft\.graph\.user", lambda key: self._members(tenant, key, request)),
        )  # fmt: skip
        for pattern, answer in routes:
            match = re.fullmatch(pattern, path)
            if match is not None:
                return answer(*match.groups())
        return _error(400, "BadRequest", f"Resource not found for the segment '{path.rsplit('/', 1)[-1]}'.")

    def _list(self, rows: list[dict[str, Any]], request: Request, defaults: tuple[str, ...] | None) -> Reply:
        """A page; the next one by @odata.nextLink, whose token is opaque. A $filter is ignored, as Intune does."""
        size = min(int(request.query.get("$top") or PAGE), 1000)
        skip = int(request.query.get("$skiptoken") or 0)
        body: dict[str, Any] = {"@odata.context": f"{self.url}/v1.0/$metadata"}
        if request.query.get("$count") == "true" or "managedDevices" in request.path:
            body["@odata.count"] = len(rows)
        if skip + size < len(rows):
            kept = "&".join(f"{name}={value}" for name, value in request.query.items() if name != "$skiptoken")
            body["@odata.nextLink"] = f"{self.url}{request.path}?{kept}{'&' if kept else ''}$skiptoken={skip + size}"
        body["value"] = [_selected(row, request, defaults) for row in rows[skip : skip + size]]
        return Reply(200, body)

    def _one(self, rows: dict[str, dict[str, Any]], key: str, request: Request) -> Reply:
        row = rows.get(key) or next(
            (r for r in rows.values() if r.get("userPrincipalName", "").lower() == key.lower()), None
        )
        if row is None:
            return _error(404, "ResourceNotFound", _intune_message("Device not found"))
        return Reply(200, _selected(row, request, None))

    def _licences(self, tenant: Tenant, key: str) -> Reply:
        user = tenant.users.get(key)
        return (
            Reply(200, {"value": user["_licences"]})
            if user
            else _error(404, "Request_ResourceNotFound", "No such user.")
        )

    def _members(self, tenant: Tenant, key: str, request: Request) -> Reply:
        group = tenant.groups.get(key)
        if group is None:
            return _error(404, "Request_ResourceNotFound", f"Resource '{key}' does not exist.")
        if request.headers.get("consistencylevel", "").lower() != "eventual" or request.query.get("$count") != "true":
            return _error(400, "Request_UnsupportedQuery", "The cast needs ConsistencyLevel: eventual and $count=true.")
        return self._list([tenant.users[m] for m in group["members"] if m in tenant.users], request, _USER_DEFAULTS)


def _selected(row: dict[str, Any], request: Request, defaults: tuple[str, ...] | None) -> dict[str, Any]:
    wanted = [name for name in request.query.get("$select", "").split(",") if name] or defaults
    public = {name: value for name, value in row.items() if not name.startswith("_")}
    return public if wanted is None else {name: public[name] for name in wanted if name in public}


def _intune_message(text: str) -> str:
    return f'{{"_version":3,"Message":"{text} - Operation ID (for customer support): {uuid.uuid4()}","CustomApiErrorPhrase":""}}'


def _error(status: int, code: str, message: str) -> Reply:
    inner = {"date": _now(), "request-id": str(uuid.uuid4()), "client-request-id": str(uuid.uuid4())}
    return Reply(status, {"error": {"code": code, "message": message, "innerError": inner}})


def _now() -> str:
    return f"{datetime.datetime.now(datetime.UTC):%Y-%m-%dT%H:%M:%S}"

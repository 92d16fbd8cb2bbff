"""Microsoft Graph in simple form: token, users, groups, licences, managedDevices (exchange.md section 7).

What is there answers as documented, traps included: an unsupported $filter of managedDevices is ignored and everything
is returned, some properties are null in lists, Retry-After can be a fraction, Intune's errors carry JSON inside
`message`. It has no delta, no batch and no writing.
"""

from __future__ import annotations

import base64
import binascii
import datetime
import re
import secrets
import time
import urllib.parse
import uuid
from collections import deque
from collections.abc import Callable
from typing import Any

from lab.tenant import Tenant
from lab.web import Reply, Request, Service

TOKEN_SECONDS = 3599
PAGE = 100
LARGEST_PAGE = 1000
_USER_DEFAULTS = (
    "businessPhones", "displayName", "givenName", "id", "jobTitle", "mail", "mobilePhone", "officeLocation",
    "preferredLanguage", "surname", "userPrincipalName",
)  # fmt: skip
# Filled on a single GET or an explicit $select alone.
_NULL_IN_LISTS = ("ethernetMacAddress", "iccid")
_EQUALS = re.compile(r"\s*(\w+)\s+eq\s+(?:'((?:[^']|'')*)'|(true|false))\s*", re.IGNORECASE)


class Graph:
    """Login and Graph endpoints of all tenants on one loopback port."""

    def __init__(self, tenants: list[Tenant], port: int = 0) -> None:
        self.tenants = tenants
        self.service = Service(self._handle, port)
        self.requests: deque[str] = deque(maxlen=10_000)

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
            return _error(request, 404, "ResourceNotFound", f"No resource at '{request.path}'.")
        tenant = self._signed_in(request)
        if tenant is None:
            return _error(request, 401, "InvalidAuthenticationToken", "Access token is empty or expired.")
        with tenant.lock:
            if tenant.throttle_next > 0:
                tenant.throttle_next -= 1
                reply = _error(request, 429, "TooManyRequests", "Too many requests.")
                return Reply(429, reply.body, {"Retry-After": tenant.retry_after})
            if request.method != "GET":
                return _error(request, 405, "Request_BadRequest", f"{request.method} is not possible here.")
            return self._resource(tenant, version.group(2), request)

    # --- tokens ---

    def _token(self, name: str, request: Request) -> Reply:
        form = request.form()
        tenant = next((t for t in self.tenants if name.lower() in (t.id, t.name.lower())), None)
        if tenant is None:
            return _login_error(400, "invalid_request", 90002, f"Tenant '{name}' not found.")
        if form.get("client_id") != tenant.client_id:
            return _login_error(400, "unauthorized_client", 700016, "The application was not found in the directory.")
        if form.get("grant_type") != "client_credentials":
            return _login_error(400, "unsupported_grant_type", 70003, "The grant type is not supported.")
        if not form.get("scope", "").endswith("/.default"):
            return _login_error(400, "invalid_scope", 1002012, "The scope must end with /.default.")
        if not secrets.compare_digest(form.get("client_secret", "").encode(), tenant.client_secret.encode()):
            return _login_error(401, "invalid_client", 7000215, "Invalid client secret provided.")
        token = secrets.token_urlsafe(32)
        with tenant.lock:
            tenant.tokens[token] = time.time() + TOKEN_SECONDS
        body = {"token_type": "Bearer", "expires_in": TOKEN_SECONDS, "ext_expires_in": TOKEN_SECONDS}
        return Reply(200, {**body, "access_token": token})

    def _signed_in(self, request: Request) -> Tenant | None:
        token = request.headers.get("authorization", "").removeprefix("Bearer ")
        return next((t for t in self.tenants if t.tokens.get(token, 0.0) > time.time()), None)

    # --- resources ---

    def _resource(self, tenant: Tenant, path: str, request: Request) -> Reply:
        routes: tuple[tuple[str, str, Callable[..., Reply]], ...] = (
            (r"/deviceManagement/managedDevices", "DeviceManagementManagedDevices.Read.All", self._devices),
            (r"/deviceManagement/managedDevices/([^/]+)", "DeviceManagementManagedDevices.Read.All", self._device),
            (r"/deviceManagement/managedDeviceOverview", "DeviceManagementManagedDevices.Read.All", self._overview),
            (r"/users", "User.Read.All", self._users),
            (r"/users/([^/]+)", "User.Read.All", self._user),
            (r"/users/([^/]+)/licenseDetails", "User.Read.All", self._licences),
            (r"/groups", "GroupMember.Read.All", self._groups),
            (r"/groups/([^/]+)/transitiveMembers/microsoft\.graph\.user", "GroupMember.Read.All", self._members),
        )
        for pattern, permission, answer in routes:
            match = re.fullmatch(pattern, path)
            if match is None:
                continue
            if permission not in tenant.permissions:
                text = f"Application is not authorized. It needs one of: {permission}"
                is_intune = path.startswith("/deviceManagement")
                return _error(request, 403, "Forbidden", _intune_message(text) if is_intune else text)
            return answer(tenant, request, *match.groups())
        return _error(request, 400, "BadRequest", f"Resource not found for the segment '{path.rsplit('/', 1)[-1]}'.")

    def _devices(self, tenant: Tenant, request: Request) -> Reply:
        rows = list(tenant.devices.values())
        # Of several ids joined by or only the first was seen to come back; any other filter is ignored in silence.
        wanted = re.match(r"\s*azureADDeviceId\s+eq\s+'([^']+)'", request.query.get("$filter", ""))
        if wanted:
            rows = [row for row in rows if row["azureADDeviceId"] == wanted.group(1)]
        if "$select" not in request.query:
            rows = [row | dict.fromkeys(_NULL_IN_LISTS) for row in rows]
        return self._page(rows, request, None, with_count=True)

    def _device(self, tenant: Tenant, request: Request, key: str) -> Reply:
        row = tenant.devices.get(key)
        if row is None:
            return _error(request, 404, "ResourceNotFound", _intune_message("Device not found"))
        return Reply(200, _selected(row, request, None))

    def _overview(self, tenant: Tenant, request: Request) -> Reply:
        return Reply(200, {"enrolledDeviceCount": len(tenant.devices), "mdmEnrolledCount": len(tenant.devices)})

    def _users(self, tenant: Tenant, request: Request) -> Reply:
        return self._filtered(list(tenant.users.values()), request, _USER_DEFAULTS)

    def _find_user(self, tenant: Tenant, key: str) -> dict[str, Any] | None:
        by_name = (row for row in tenant.users.values() if row["userPrincipalName"].lower() == key.lower())
        return tenant.users.get(key) or next(by_name, None)

    def _user(self, tenant: Tenant, request: Request, key: str) -> Reply:
        row = self._find_user(tenant, key)
        return Reply(200, _selected(row, request, _USER_DEFAULTS)) if row else _no_resource(request, key)

    def _licences(self, tenant: Tenant, request: Request, key: str) -> Reply:
        row = self._find_user(tenant, key)
        return Reply(200, {"value": row["_licences"]}) if row else _no_resource(request, key)

    def _groups(self, tenant: Tenant, request: Request) -> Reply:
        return self._filtered(list(tenant.groups.values()), request, ("id", "displayName"))

    def _members(self, tenant: Tenant, request: Request, key: str) -> Reply:
        group = tenant.groups.get(key)
        if group is None:
            return _no_resource(request, key)
        if request.headers.get("consistencylevel", "").lower() != "eventual" or request.query.get("$count") != "true":
            text = "The cast needs the header ConsistencyLevel: eventual and $count=true."
            return _error(request, 400, "Request_UnsupportedQuery", text)
        rows = [tenant.users[member] for member in group["_members"] if member in tenant.users]
        return self._page(rows, request, _USER_DEFAULTS)

    # --- lists ---

    def _filtered(self, rows: list[dict[str, Any]], request: Request, defaults: tuple[str, ...]) -> Reply:
        """The directory's own filters are heeded, as far as this speaks them: one property eq one value."""
        text = request.query.get("$filter")
        if text is not None:
            match = _EQUALS.fullmatch(text)
            if match is None or (rows and match.group(1) not in rows[0]):
                return _error(request, 400, "Request_UnsupportedQuery", f"Unsupported or invalid query filter: {text}")
            name, quoted, boolean = match.groups()
            wanted: Any = boolean.lower() == "true" if boolean else quoted.replace("''", "'").lower()
            rows = [row for row in rows if _folded(row[name]) == wanted]
        return self._page(rows, request, defaults)

    def _page(
        self,
        rows: list[dict[str, Any]],
        request: Request,
        defaults: tuple[str, ...] | None,
        *,
        with_count: bool = False,
    ) -> Reply:
        """A page; the next one is by @odata.nextLink, whole, with a token that says nothing."""
        try:
            size = int(request.query.get("$top") or PAGE)
            skip = _skipped(request.query.get("$skiptoken", ""))
        except ValueError:
            return _error(request, 400, "BadRequest", "Invalid value of $top or $skiptoken.")
        if size < 1:
            return _error(request, 400, "BadRequest", "The value of $top must be positive.")
        end = skip + min(size, LARGEST_PAGE)
        body: dict[str, Any] = {"@odata.context": f"{self.url}/v1.0/$metadata"}
        if with_count or request.query.get("$count") == "true":
            body["@odata.count"] = len(rows)
        if end < len(rows):
            query = {**request.query, "$skiptoken": base64.urlsafe_b64encode(f"skip/{end}".encode()).decode()}
            body["@odata.nextLink"] = f"{self.url}{request.path}?{urllib.parse.urlencode(query, safe='$,')}"
        body["value"] = [_selected(row, request, defaults) for row in rows[skip:end]]
        return Reply(200, body)


def _skipped(token: str) -> int:
    """How many rows a skip token stands for. Raises ValueError."""
    if not token:
        return 0
    try:
        return int(base64.urlsafe_b64decode(token).decode().removeprefix("skip/"))
    except binascii.Error as error:
        raise ValueError("no token of ours") from error


def _folded(value: Any) -> Any:
    return value.lower() if isinstance(value, str) else value


def _selected(row: dict[str, Any], request: Request, defaults: tuple[str, ...] | None) -> dict[str, Any]:
    wanted = [name.strip() for name in request.query.get("$select", "").split(",") if name.strip()] or defaults
    public = {name: value for name, value in row.items() if not name.startswith("_")}
    return public if wanted is None else {name: public[name] for name in wanted if name in public}


def _intune_message(text: str) -> str:
    return (
        f'{{"_version":3,"Message":"{text} - Operation ID (for customer support): {uuid.uuid4()}",'
        '"CustomApiErrorPhrase":""}'
    )


def _no_resource(request: Request, key: str) -> Reply:
    text = f"Resource '{key}' does not exist or one of its queried reference-property objects are not present."
    return _error(request, 404, "Request_ResourceNotFound", text)


def _error(request: Request, status: int, code: str, message: str) -> Reply:
    own = str(uuid.uuid4())
    inner = {"date": _now(), "request-id": own, "client-request-id": request.headers.get("client-request-id", own)}
    return Reply(status, {"error": {"code": code, "message": message, "innerError": inner}}, {"request-id": own})


def _login_error(status: int, error: str, code: int, text: str) -> Reply:
    return Reply(
        status,
        {
            "error": error, "error_description": f"AADSTS{code}: {text}", "error_codes": [code], "timestamp": _now(),
            "trace_id": str(uuid.uuid4()), "correlation_id": str(uuid.uuid4()),
        },
    )  # fmt: skip


def _now() -> str:
    return f"{datetime.datetime.now(datetime.UTC):%Y-%m-%dT%H:%M:%S}"

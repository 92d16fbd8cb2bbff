"""Microsoft Graph, the part that device management needs: token, users with delta, groups, licences, managedDevices
(exchange.md section 7).

What is there answers as documented, traps included: an unsupported $filter of managedDevices is ignored and everything
is returned, some properties are null in lists, Retry-After can be a fraction, Intune's errors carry JSON inside
`message`. It has no batch and no writing. What goes wrong on demand stands in graph_faults.py.
"""

from __future__ import annotations

import re
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from lab import enrollment, graph_sign_in
from lab import graph_answers as answers
from lab.graph_answers import Row, Shape, error, intune_message, no_resource
from lab.tenant import Tenant
from lab.web import Reply, Request, Service

_USER = Shape(
    (
        "businessPhones", "displayName", "givenName", "id", "jobTitle", "mail", "mobilePhone", "officeLocation",
        "preferredLanguage", "surname", "userPrincipalName",
    )
)  # fmt: skip
_GROUP = Shape(("id", "displayName"))
# Filled on a single GET or an explicit $select alone.
_DEVICE = Shape(null_in_lists=("ethernetMacAddress", "iccid"))
_DEVICES_READ = "DeviceManagementManagedDevices.Read.All"
_USERS_READ = "User.Read.All"
_MEMBERS_READ = "GroupMember.Read.All"
_EQUALS = re.compile(r"\s*(\w+)\s+eq\s+(?:'((?:[^']|'')*)'|(true|false))\s*", re.IGNORECASE)
_STARTS = re.compile(r"\s*startswith\(\s*(\w+)\s*,\s*'((?:[^']|'')*)'\s*\)\s*", re.IGNORECASE)


class Graph:
    """Login and Graph endpoints of all tenants on one loopback port."""

    def __init__(self, tenants: list[Tenant], port: int = 0) -> None:
        self.tenants = tenants
        self.service = Service(self._handle, port)
        self.requests: deque[str] = deque(maxlen=10_000)
        self._routes: tuple[tuple[str, str, Callable[..., Reply]], ...] = (
            (r"/deviceManagement/managedDevices", _DEVICES_READ, self._devices),
            (r"/deviceManagement/managedDevices/([^/]+)", _DEVICES_READ, self._device),
            (r"/deviceManagement/managedDeviceOverview", _DEVICES_READ, self._overview),
            (r"/users", _USERS_READ, self._users),
            (r"/users/delta", _USERS_READ, self._users_delta),
            (r"/users/([^/]+)", _USERS_READ, self._user),
            (r"/users/([^/]+)/licenseDetails", _USERS_READ, self._licences),
            (r"/users/([^/]+)/managedDevices", _DEVICES_READ, self._devices_of_user),
            (r"/groups", _MEMBERS_READ, self._groups),
            (r"/groups/([^/]+)", _MEMBERS_READ, self._group),
            (r"/groups/([^/]+)/transitiveMembers/microsoft\.graph\.user", _MEMBERS_READ, self._members),
        )

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.service.port}"

    def _handle(self, request: Request) -> Reply:
        self.requests.append(f"{request.method} {request.path}")
        token = re.fullmatch(r"/([^/]+)/oauth2/v2\.0/token", request.path)
        if token and request.method == "POST":
            return graph_sign_in.token(self.url, self.tenants, token.group(1), request)
        if enroll := enrollment.PATH.fullmatch(request.path):
            return enrollment.page(self.tenants, enroll.group(1), request)
        version = re.match(r"/(v1\.0|beta)(/.*)", request.path)
        if version is None:
            return error(request, 404, "ResourceNotFound", f"No resource at '{request.path}'.")
        tenant = self._signed_in(request)
        if tenant is None or tenant.faults.take("unauthorized", request.path):
            return error(request, 401, "InvalidAuthenticationToken", "Access token is empty or expired.")
        if reply := self._broken(tenant, request):
            return reply
        with tenant.lock:
            if tenant.throttle_next > 0:
                tenant.throttle_next -= 1
                return error(request, 429, "TooManyRequests", "Too many requests.", Retry_After=tenant.retry_after)
            if request.method != "GET":
                return error(request, 405, "Request_BadRequest", f"{request.method} is not possible here.")
            return self._bent(tenant, request, self._resource(tenant, version.group(2), request))

    def _signed_in(self, request: Request) -> Tenant | None:
        token = request.headers.get("authorization", "").removeprefix("Bearer ")
        return next((t for t in self.tenants if t.tokens.get(token, 0.0) > time.time()), None)

    # --- faults ---

    def _broken(self, tenant: Tenant, request: Request) -> Reply | None:
        """An answer in place of the resource's."""
        take, path = tenant.faults.take, request.path
        if fault := take("slow", path):
            time.sleep(float(fault.value or 1))
        if take("drop", path):
            return Reply(0)
        if fault := take("status", path):
            return error(
                request, int(fault.value or 500), "InternalServerError", intune_message("An error has occurred")
            )
        if take("not_json", path):
            return Reply(200, b"<html>Please sign in to the proxy</html>", {"Content-Type": "text/html"})
        if fault := take("redirect", path):
            return Reply(302, None, {"Location": fault.value})
        if take("claims", path):
            told = 'Bearer error="insufficient_claims", claims="e30="'
            return error(request, 403, "Forbidden", "Claims are missing.", WWW_Authenticate=told)
        if path.startswith("/v1.0/deviceManagement") and take("no_intune", path):
            return error(request, 400, "BadRequest", intune_message("Request not applicable to target tenant."))
        fault = take("top", path)
        if fault and int(request.query.get("$top", 0)) > int(fault.value or answers.PAGE):
            return error(request, 400, "BadRequest", "The value of $top is too large.")
        return None

    def _bent(self, tenant: Tenant, request: Request, reply: Reply) -> Reply:
        """A good answer, spoilt."""
        take, path, body = tenant.faults.take, request.path, reply.body
        if isinstance(body, dict) and "@odata.nextLink" in body:
            if fault := take("foreign_link", path):
                body["@odata.nextLink"] = fault.value
            if take("endless", path):
                body["@odata.nextLink"] = f"{self.url}{path}"
        if take("cut", path):
            return Reply(reply.status, body, reply.headers, sent=40)
        if fault := take("huge", path):
            return Reply(200, b" " * (int(fault.value or 65) * 1024 * 1024) + b"{}")
        return reply

    # --- resources ---

    def _resource(self, tenant: Tenant, path: str, request: Request) -> Reply:
        for pattern, permission, answer in self._routes:
            match = re.fullmatch(pattern, path)
            if match is None:
                continue
            if permission not in tenant.permissions:
                text = f"Application is not authorized. It needs one of: {permission}"
                is_intune = path.startswith("/deviceManagement")
                return error(request, 403, "Forbidden", intune_message(text) if is_intune else text)
            return answer(tenant, request, *match.groups())
        return error(request, 400, "BadRequest", f"Resource not found for the segment '{path.rsplit('/', 1)[-1]}'.")

    def _devices(self, tenant: Tenant, request: Request) -> Reply:
        rows = list(tenant.devices.values())
        # Of several ids joined by or only the first was seen to come back; any other filter is ignored in silence.
        wanted = re.match(r"\s*azureADDeviceId\s+eq\s+'([^']+)'", request.query.get("$filter", ""))
        if wanted:
            rows = [row for row in rows if row["azureADDeviceId"] == wanted.group(1)]
        return self._spoilt_list(tenant, rows, request)

    def _spoilt_list(self, tenant: Tenant, rows: list[Row], request: Request) -> Reply:
        take, path, count = tenant.faults.take, request.path, len(rows)
        if fault := take("hide", path):
            rows = rows[int(fault.value or 1) :]
        reply = answers.page(self.url, rows, request, _DEVICE, count=count)
        value = reply.body.get("value") if reply.status == 200 else None
        if not value:
            return reply
        if take("null_eas", path):
            value[:] = [row | {"easDeviceId": None} for row in value]
        if take("odd_row", path):
            value[0] = value[0] | {"lastSyncDateTime": 7}
        if "$skiptoken" in request.query and take("repeat", path):
            skip = int(answers.read_token(request.query["$skiptoken"], "skip"))
            value.insert(0, _DEVICE.of(rows[skip - 1], request))
        if take("page_count", path):
            reply.body["@odata.count"] = len(value)
        if take("no_count", path):
            del reply.body["@odata.count"]
        return reply

    def _device(self, tenant: Tenant, request: Request, key: str) -> Reply:
        row = tenant.devices.get(key)
        if row is None:
            return error(request, 404, "ResourceNotFound", intune_message("Device not found"))
        return Reply(200, _DEVICE.of(row, request, in_list=False))

    def _devices_of_user(self, tenant: Tenant, request: Request, key: str) -> Reply:
        user = tenant.find_user(key)
        if user is None:
            return no_resource(request, key)
        rows = [row for row in tenant.devices.values() if row["userId"] == user["id"]]
        return answers.page(self.url, rows, request, _DEVICE, count=len(rows))

    def _overview(self, tenant: Tenant, request: Request) -> Reply:
        if tenant.faults.take("no_count", request.path):
            return error(request, 404, "ResourceNotFound", intune_message("No overview"))
        return Reply(200, {"enrolledDeviceCount": len(tenant.devices), "mdmEnrolledCount": len(tenant.devices)})

    def _users(self, tenant: Tenant, request: Request) -> Reply:
        reply = self._filtered(list(tenant.users.values()), request, _USER)
        if reply.status == 200 and tenant.faults.take("no_plans", request.path):
            for row in reply.body["value"]:
                row.pop("assignedPlans", None)
        return reply

    def _users_delta(self, tenant: Tenant, request: Request) -> Reply:
        return answers.delta(self.url, tenant, request, _USER)

    def _user(self, tenant: Tenant, request: Request, key: str) -> Reply:
        row = tenant.find_user(key)
        return Reply(200, _USER.of(row, request)) if row else no_resource(request, key)

    def _licences(self, tenant: Tenant, request: Request, key: str) -> Reply:
        row = tenant.find_user(key)
        return Reply(200, {"value": row["_licences"]}) if row else no_resource(request, key)

    def _groups(self, tenant: Tenant, request: Request) -> Reply:
        return self._filtered(list(tenant.groups.values()), request, _GROUP)

    def _group(self, tenant: Tenant, request: Request, key: str) -> Reply:
        row = tenant.groups.get(key)
        return Reply(200, _GROUP.of(row, request)) if row else no_resource(request, key)

    def _members(self, tenant: Tenant, request: Request, key: str) -> Reply:
        if key not in tenant.groups:
            return no_resource(request, key)
        if request.headers.get("consistencylevel", "").lower() != "eventual" or request.query.get("$count") != "true":
            text = "The cast needs the header ConsistencyLevel: eventual and $count=true."
            return error(request, 400, "Request_UnsupportedQuery", text)
        rows = tenant.people(key)
        lag = tenant.faults.take("lag", request.path)
        reply = answers.page(self.url, rows, request, _USER, count=len(rows) + int(lag.value or 1) if lag else None)
        if reply.status == 200 and tenant.faults.take("veiled", request.path):
            reply.body["value"] = [dict.fromkeys(row) | {"id": row["id"]} for row in reply.body["value"]]
        return reply

    def _filtered(self, rows: list[Row], request: Request, shape: Shape) -> Reply:
        """The directory's own filters are heeded, as far as this speaks them: eq, and startswith."""
        text = request.query.get("$filter")
        if text is not None:
            starts, equals = _STARTS.fullmatch(text), _EQUALS.fullmatch(text)
            match = starts or equals
            if match is None or (rows and match.group(1) not in rows[0]):
                return error(request, 400, "Request_UnsupportedQuery", f"Unsupported or invalid query filter: {text}")
            name = match.group(1)
            if starts:
                wanted = starts.group(2).replace("''", "'").lower()
                rows = [row for row in rows if str(row[name] or "").lower().startswith(wanted)]
            else:
                boolean = match.group(3)
                value: Any = boolean.lower() == "true" if boolean else match.group(2).replace("''", "'").lower()
                rows = [row for row in rows if _folded(row[name]) == value]
        return answers.page(self.url, rows, request, shape)


def _folded(value: Any) -> Any:
    return value.lower() if isinstance(value, str) else value

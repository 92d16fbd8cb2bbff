"""The token endpoint of the sign-in service, for applications alone (exchange.md 7.1)."""

from __future__ import annotations

import secrets
import time
import uuid

from lab.graph_answers import now
from lab.graph_application import ASSERTION_TYPE, AssertionRefusal
from lab.tenant import Tenant
from lab.web import Reply, Request

TOKEN_SECONDS = 3599


def token(root: str, tenants: list[Tenant], name: str, request: Request) -> Reply:
    form = request.form()
    tenant = next((t for t in tenants if name.lower() in (t.id, t.name.lower())), None)
    if tenant is None:
        return refusal(400, "invalid_request", 90002, f"Tenant '{name}' not found.")
    if reply := _fault(tenant, request):
        return reply
    if form.get("client_id") != tenant.client_id:
        return refusal(400, "unauthorized_client", 700016, "The application was not found in the directory.")
    if form.get("grant_type") != "client_credentials":
        return refusal(400, "unsupported_grant_type", 70003, "The grant type is not supported.")
    if not form.get("scope", "").endswith("/.default"):
        return refusal(400, "invalid_scope", 1002012, "The scope must end with /.default.")
    if form.get("scope") != f"{root}/.default":
        return refusal(400, "invalid_resource", 500011, "The resource principal was not found in the tenant.")
    if reply := _who(tenant, form, f"{root}{request.path}"):
        return reply
    value = secrets.token_urlsafe(32)
    with tenant.lock:
        tenant.tokens[value] = time.time() + TOKEN_SECONDS
    body = {"token_type": "Bearer", "expires_in": TOKEN_SECONDS, "ext_expires_in": TOKEN_SECONDS}
    return Reply(200, {**body, "access_token": value})


def _who(tenant: Tenant, form: dict[str, str], audience: str) -> Reply | None:
    """None: secret or assertion are the application's."""
    if "client_assertion" in form:
        if form.get("client_assertion_type") != ASSERTION_TYPE or tenant.certificate is None:
            return refusal(401, "invalid_client", 700027, "The client assertion is not accepted.")
        try:
            tenant.certificate.check(form["client_assertion"], tenant.client_id, audience)
        except AssertionRefusal as error:
            return refusal(401, "invalid_client", error.number, str(error))
        return None
    if not form.get("client_secret"):
        return refusal(
            401, "invalid_client", 7000218, "The request body must contain client_assertion or client_secret."
        )
    if not secrets.compare_digest(form["client_secret"].encode(), tenant.client_secret.encode()):
        return refusal(401, "invalid_client", 7000215, "Invalid client secret provided.")
    return None


def _fault(tenant: Tenant, request: Request) -> Reply | None:
    if tenant.faults.take("sign_in_down", request.path):
        return Reply(503, b"<html>Service Unavailable</html>", {"Content-Type": "text/html"})
    if tenant.faults.take("secret_expired", request.path):
        return refusal(401, "invalid_client", 7000222, "The provided client secret keys are expired.")
    if fault := tenant.faults.take("sign_in", request.path):
        return refusal(400, "invalid_request", int(fault.value), "As the fault says.")
    return None


def refusal(status: int, error: str, code: int, text: str) -> Reply:
    return Reply(
        status,
        {
            "error": error, "error_description": f"AADSTS{code}: {text}\r\nTimestamp: {now()}", "error_codes": [code],
            "timestamp": now(), "trace_id": str(uuid.uuid4()), "correlation_id": str(uuid.uuid4()),
        },
    )  # fmt: skip

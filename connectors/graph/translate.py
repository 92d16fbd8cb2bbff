"""The one place where what httpx, the sign-in service and Graph say becomes an error of ours.

Status and code decide, never a message: messages are quoted, cut short. A code that we do not know becomes the least
specific error of its kind. Nothing here retries.
Source: learn.microsoft.com/graph/errors, /entra/identity-platform/reference-error-codes; exchange.md 7.1, 7.3.
"""

from __future__ import annotations

import datetime
import email.utils
import json
import math
import re
import socket
import ssl
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import httpcore
import httpx

from connectors.graph.errors import (
    BadAnswerGraphError,
    BadRequestGraphError,
    GraphError,
    NotFoundGraphError,
    NotPermittedGraphError,
    StopGraphError,
    ThrottledGraphError,
    TransientGraphError,
)

# AADSTS numbers. The first four are in exchange.md or known from the vendor's list of codes; all are stable numbers
# whose text is not.
_SIGN_IN: Mapping[int, str] = {
    7000215: "graph_secret_wrong",
    7000222: "graph_secret_expired",
    700016: "graph_application_unknown",
    90002: "graph_tenant_unknown",
    900023: "graph_tenant_unknown",  # neither a GUID nor a domain name that is known
    7000112: "graph_application_disabled",
    700027: "graph_certificate_refused",  # not the application's, or expired, or the signature does not fit
    700030: "graph_certificate_refused",
    5000224: "graph_application_disabled",
    700024: "graph_clock_skew",  # the assertion is not within its time
    53003: "graph_conditional_access",
    500011: "graph_wrong_cloud",  # Graph's address is no resource of this cloud
    90038: "graph_wrong_cloud",
    900382: "graph_wrong_cloud",
}
_RESYNC = frozenset({"resyncrequired", "syncstatenotfound", "syncstateinvalid"})
_AADSTS = re.compile(r"AADSTS(\d+)")
_MAXIMUM_FOREIGN = 20_000


@dataclass(frozen=True, slots=True)
class Asked:
    """What was asked for, for the error that may come of it."""

    server: str
    resource: str
    permission: str = ""


def network(error: Exception, asked: Asked) -> GraphError:
    """From an exception of httpx or httpcore: no answer came, or none that could be read."""
    where: dict[str, Any] = {"server": asked.server, "resource": asked.resource, "permission": asked.permission}
    causes = list(_causes(error))
    if any(isinstance(cause, ssl.SSLCertVerificationError) for cause in causes):
        return StopGraphError("the certificate is not trusted", code="graph_certificate_untrusted", **where)
    if isinstance(error, httpcore.ProxyError):
        return StopGraphError("the proxy refused", code="graph_proxy_failed", **where)
    if any(isinstance(cause, socket.gaierror) for cause in causes):
        return TransientGraphError("the name is not known", code="graph_name_not_resolved", **where)
    if isinstance(error, httpcore.ConnectTimeout | httpcore.ConnectError):
        return TransientGraphError("no connection", code="graph_unreachable", **where)
    if isinstance(error, httpcore.TimeoutException):
        return TransientGraphError("no answer in time", code="graph_timed_out", **where)
    if isinstance(error, httpx.DecodingError):
        return BadAnswerGraphError("an answer that cannot be decoded", **where)
    return TransientGraphError("the connection broke", code="graph_dropped", **where)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    seen = 0
    while error is not None and seen < 10:
        yield error
        error, seen = error.__cause__ or error.__context__, seen + 1


# --- the sign-in service ------------------------------------------------------------------------------------------


def sign_in_refusal(status: int, headers: Mapping[str, str], body: bytes, asked: Asked) -> GraphError:
    """From an answer of the token endpoint that is not 200."""
    answer = _json(body)
    answer = answer if isinstance(answer, dict) else {}
    error, description = _text(answer.get("error")), _text(answer.get("error_description"))
    number = _aadsts(answer, description)
    told: dict[str, Any] = {
        "server": asked.server,
        "resource": asked.resource,
        "status": status,
        "remote_code": f"AADSTS{number}" if number else error,
        # The first line; the others repeat the ids and the time.
        "remote_text": description.splitlines()[0] if description else "",
        "request_id": _text(answer.get("trace_id")) or headers.get("x-ms-request-id", ""),
    }
    if 300 <= status < 400:
        return BadAnswerGraphError("the sign-in service sends us elsewhere", code="graph_redirected", **told)
    if status == 429:
        wait = retry_after(headers)
        return ThrottledGraphError("signing in is throttled", retry_after=30.0 if wait is None else wait, **told)
    if number in _SIGN_IN:
        return StopGraphError("signing in was refused", code=_SIGN_IN[number], **told)
    if status >= 500 or error in ("temporarily_unavailable", "server_error"):
        return TransientGraphError("the sign-in service is unwell", code="graph_server_error", **told)
    if not error and not number:
        return BadAnswerGraphError("no answer of the sign-in service", **told)
    return StopGraphError("signing in was refused", code="graph_sign_in_failed", **told)


def _aadsts(answer: dict[str, Any], description: str) -> int:
    codes = answer.get("error_codes")
    for code in codes if isinstance(codes, list) else ():
        if isinstance(code, int) and not isinstance(code, bool):
            return code
    match = _AADSTS.search(description)
    return int(match[1]) if match else 0


# --- Graph --------------------------------------------------------------------------------------------------------


def refusal(status: int, headers: Mapping[str, str], body: bytes, asked: Asked) -> GraphError:
    """From an answer of Graph that is not 200. 401 is the caller's to try again with a new token."""
    code, told = _told(status, headers, body, asked)
    if 300 <= status < 400:
        return BadAnswerGraphError("Graph sends us elsewhere", code="graph_redirected", **told)
    if status == 410 or code.lower() in _RESYNC:
        return TransientGraphError("Graph has forgotten the link", code="graph_resync_required", **told)
    if status == 429:
        wait = retry_after(headers)
        return ThrottledGraphError("Graph throttles us", retry_after=30.0 if wait is None else wait, **told)
    if status == 407:
        return StopGraphError("the proxy wants credentials", code="graph_proxy_failed", **told)
    if status in (401, 403) and _claims_missing(headers, body):
        return StopGraphError("conditional access refuses us", code="graph_conditional_access", **told)
    if status == 401:
        return StopGraphError("Graph does not take a new token", code="graph_token_refused", **told)
    if status >= 500 or status == 408:
        return TransientGraphError("Graph is unwell", code="graph_server_error", **told)
    if not code:
        return BadAnswerGraphError("no answer of Graph", **told)
    if status == 403:
        return NotPermittedGraphError("the application may not read this", **told)
    if status == 404 and code.lower().endswith("notfound"):
        return NotFoundGraphError("not there", **told)
    if status == 404:
        # Whoever takes a thing for gone must have been told so: ResourceNotFound, Request_ResourceNotFound.
        return BadAnswerGraphError("a 404 that does not say what is not there", **told)
    if asked.resource.startswith("/deviceManagement"):
        # What a tenant without Intune is answered is not documented: a 400 was seen.
        return BadRequestGraphError("Graph's Intune part refuses", code="graph_intune_unavailable", **told)
    return BadRequestGraphError("Graph refuses the request", **told)


def _told(status: int, headers: Mapping[str, str], body: bytes, asked: Asked) -> tuple[str, dict[str, Any]]:
    answer = _json(body)
    error = answer.get("error") if isinstance(answer, dict) else None
    error = error if isinstance(error, dict) else {}
    inner = error.get("innerError") or error.get("innererror")
    inner = inner if isinstance(inner, dict) else {}
    code = _text(error.get("code"))
    request_id = (
        _text(inner.get("request-id"))
        or _text(inner.get("requestId"))
        or _text(error.get("requestId"))
        or headers.get("request-id", "")
    )
    return code, {
        "server": asked.server,
        "resource": asked.resource,
        "permission": asked.permission,
        "status": status,
        "remote_code": code,
        "remote_text": message_text(_text(error.get("message"))),
        "request_id": request_id,
    }


def message_text(message: str) -> str:
    """A message for people. Intune puts a JSON document into it, which has the sentence under Message."""
    if message.lstrip().startswith("{"):
        inner = _json(message.encode("utf-8", "replace"))
        if isinstance(inner, dict):
            return _text(inner.get("Message")) or _text(inner.get("message")) or message
    return message


def _claims_missing(headers: Mapping[str, str], body: bytes) -> bool:
    """Conditional access wants more than an application can show; told in the header, or as a code."""
    if "insufficient_claims" in headers.get("www-authenticate", "").lower():
        return True
    answer = _json(body)
    codes: list[str] = []
    error = answer.get("error") if isinstance(answer, dict) else None
    while isinstance(error, dict) and len(codes) < 5:
        codes.append(_text(error.get("code")).lower())
        error = error.get("innerError") or error.get("innererror")
    return any(code in ("insufficient_claims", "insufficientclaims") for code in codes)


def retry_after(headers: Mapping[str, str], now: datetime.datetime | None = None) -> float | None:
    """Seconds to wait: a number, which may have a fraction, or an HTTP date; None without a usable one."""
    text = headers.get("retry-after", "").strip()
    if not text:
        return None
    try:
        seconds = float(text)
    except ValueError:
        try:
            moment = email.utils.parsedate_to_datetime(text)
        except (TypeError, ValueError):
            return None
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=datetime.UTC)
        seconds = (moment - (now or datetime.datetime.now(datetime.UTC))).total_seconds()
    return max(seconds, 0.0) if math.isfinite(seconds) else None


def _json(body: bytes) -> Any:
    try:
        return json.loads(body[:_MAXIMUM_FOREIGN])
    except (ValueError, RecursionError):
        return None


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""

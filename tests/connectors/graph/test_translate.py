"""Refusals, by status and code: which error comes of each, and what it says."""

from __future__ import annotations

import datetime
import inspect
import json
import re
from typing import Any

import httpcore
import httpx
import pytest

from connectors.graph import errors, translate
from connectors.graph.errors import FOREIGN_TEXT_LIMIT, GraphError, StopGraphError, ThrottledGraphError
from connectors.graph.translate import Asked, message_text, refusal, retry_after, sign_in_refusal
from connectors.problems import PROBLEMS, problem

ASKED = Asked("graph.microsoft.com", "/deviceManagement/managedDevices", "DeviceManagementManagedDevices.Read.All")
PEOPLE = Asked("graph.microsoft.com", "/users", "User.Read.All")


def answer(code: str = "BadRequest", message: str = "No.", **inner: Any) -> bytes:
    return json.dumps({"error": {"code": code, "message": message, **inner}}).encode()


CLAIMS = {"www-authenticate": 'Bearer error="insufficient_claims", claims="e30="'}
GRAPH: dict[str, tuple[int, dict[str, str], bytes, Asked, str]] = {
    "permission": (403, {}, answer("Forbidden"), ASKED, "graph_permission_missing"),
    "directory's permission": (403, {}, answer("Authorization_RequestDenied"), PEOPLE, "graph_permission_missing"),
    "claims in the header": (403, CLAIMS, answer("Forbidden"), ASKED, "graph_conditional_access"),
    "claims as a code": (403, {}, answer("insufficient_claims"), ASKED, "graph_conditional_access"),
    "claims as an inner code": (
        403, {}, answer("Forbidden", innerError={"code": "InsufficientClaims"}), ASKED, "graph_conditional_access"),
    "claims in words only": (403, {}, answer("Forbidden", "insufficient_claims"), ASKED, "graph_permission_missing"),
    "token": (401, {}, answer("InvalidAuthenticationToken"), ASKED, "graph_token_refused"),
    "not there": (404, {}, answer("ResourceNotFound"), ASKED, "graph_not_found"),
    "nobody": (404, {}, answer("Request_ResourceNotFound"), PEOPLE, "graph_not_found"),
    "a 404 of somebody else": (404, {}, b"<html>404</html>", ASKED, "graph_bad_answer"),
    "a 404 that says nothing": (404, {}, answer("UnknownError", ""), ASKED, "graph_bad_answer"),
    "a 403 of a proxy": (403, {}, b"<html>Blocked</html>", ASKED, "graph_bad_answer"),
    "no Intune": (400, {}, answer("BadRequest"), ASKED, "graph_intune_unavailable"),
    "a wrong request": (400, {}, answer("Request_UnsupportedQuery"), PEOPLE, "graph_request_refused"),
    "a link that is too old": (410, {}, b"", PEOPLE, "graph_resync_required"),
    "resync as a code": (400, {}, answer("resyncRequired"), PEOPLE, "graph_resync_required"),
    "state lost as a code": (400, {}, answer("SyncStateNotFound"), PEOPLE, "graph_resync_required"),
    "throttled": (429, {"retry-after": "2.128"}, answer("TooManyRequests"), ASKED, "graph_throttled"),
    "broken": (500, {}, answer("InternalServerError"), ASKED, "graph_server_error"),
    "a gateway": (502, {}, b"<html>", ASKED, "graph_server_error"),
    "away": (503, {}, answer("serviceUnavailable"), ASKED, "graph_server_error"),
    "elsewhere": (302, {"location": "https://x.example"}, b"", ASKED, "graph_redirected"),
    "proxy": (407, {}, b"", ASKED, "graph_proxy_failed"),
}  # fmt: skip


@pytest.mark.parametrize("case", GRAPH)
def test_refusals_of_graph(case: str) -> None:
    status, headers, body, asked, code = GRAPH[case]
    error = refusal(status, httpx.Headers(headers), body, asked)
    assert (error.code, error.status) == (code, status)
    assert error.params["server"] == "graph.microsoft.com"
    json.dumps(error.params)


def test_the_permission_is_named() -> None:
    error = refusal(403, {}, answer("Forbidden"), ASKED)
    assert error.params["permission"] == "DeviceManagementManagedDevices.Read.All"
    assert "DeviceManagementManagedDevices.Read.All" in problem(error.code, error.params).happened


def sign_in_answer(number: int, error: str = "invalid_client", *, listed: bool = True) -> bytes:
    body: dict[str, Any] = {
        "error": error,
        "error_description": f"AADSTS{number}: Why.\r\nTrace ID: t",
        "trace_id": "t",
    }
    return json.dumps(body | ({"error_codes": [number]} if listed else {})).encode()


SIGN_IN: dict[str, tuple[int, bytes, str]] = {
    "secret": (401, sign_in_answer(7000215), "graph_secret_wrong"),
    "secret, told in words": (401, sign_in_answer(7000215, listed=False), "graph_secret_wrong"),
    "secret's end": (401, sign_in_answer(7000222), "graph_secret_expired"),
    "application": (400, sign_in_answer(700016, "unauthorized_client"), "graph_application_unknown"),
    "tenant": (400, sign_in_answer(90002, "invalid_request"), "graph_tenant_unknown"),
    "certificate": (401, sign_in_answer(700027), "graph_certificate_refused"),
    "clock": (401, sign_in_answer(700024), "graph_clock_skew"),
    "cloud": (400, sign_in_answer(500011, "invalid_resource"), "graph_wrong_cloud"),
    "conditional access": (400, sign_in_answer(53003, "access_denied"), "graph_conditional_access"),
    "a number we do not know": (400, sign_in_answer(123456), "graph_sign_in_failed"),
    "no number": (400, b'{"error": "invalid_grant"}', "graph_sign_in_failed"),
    "unwell": (400, b'{"error": "temporarily_unavailable"}', "graph_server_error"),
    "away": (503, b"<html>", "graph_server_error"),
    "throttled": (429, b"", "graph_throttled"),
    "somebody else": (404, b"<html>", "graph_bad_answer"),
    "elsewhere": (302, b"", "graph_redirected"),
    "odd shapes": (400, b'{"error": 7, "error_codes": {"a": 1}}', "graph_bad_answer"),
}


@pytest.mark.parametrize("case", SIGN_IN)
def test_refusals_of_the_sign_in_service(case: str) -> None:
    status, body, code = SIGN_IN[case]
    error = sign_in_refusal(status, {}, body, Asked("login.example", "/oauth2/v2.0/token"))
    assert error.code == code


def test_a_sign_in_that_fails_is_quoted_by_its_first_line() -> None:
    error = sign_in_refusal(401, {}, sign_in_answer(7000215), Asked("login.example", "/token"))
    assert error.params["remote_code"] == "AADSTS7000215"
    assert error.params["remote_text"] == "AADSTS7000215: Why."
    assert error.params["request_id"] == "t"


REQUEST_IDS: dict[str, bytes] = {
    "innerError": answer(innerError={"request-id": "r1"}),
    "innererror": answer(innererror={"request-id": "r1"}),
    "requestId": answer(innerError={"requestId": "r1"}),
    "beside the code": answer(requestId="r1"),
    "the header": b"",
}


@pytest.mark.parametrize("case", REQUEST_IDS)
def test_the_request_id_is_kept(case: str) -> None:
    error = refusal(500, httpx.Headers({"request-id": "r1"} if case == "the header" else {}), REQUEST_IDS[case], ASKED)
    assert error.request_id == "r1"
    assert "r1" in problem(error.code, error.params).detail


ODD_BODIES = (b"", b"null", b"[]", b'{"error": null}', b'{"error": "text"}', b'{"error": {"code": 7, "message": []}}',
              b'{"error": {"innerError": "x"}}', b"\xff\xfe", b"[" * 5000, b"{" * 30_000)  # fmt: skip


@pytest.mark.parametrize("body", ODD_BODIES, ids=range(len(ODD_BODIES)))
@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 429, 500])
def test_odd_bodies_are_errors_of_ours(status: int, body: bytes) -> None:
    assert isinstance(refusal(status, {}, body, ASKED), GraphError)
    assert isinstance(sign_in_refusal(status, {}, body, ASKED), GraphError)


MESSAGES = {
    "Plain words": "Plain words",
    '{"_version":3,"Message":"Not there - Operation ID 7","CustomApiErrorPhrase":""}': "Not there - Operation ID 7",
    '{\r\n  "_version": 3,\r\n  "Message": "Not there"}': "Not there",
    '{"Message": 7}': '{"Message": 7}',
    "{ broken": "{ broken",
}


@pytest.mark.parametrize(("message", "text"), MESSAGES.items())
def test_json_within_a_message(message: str, text: str) -> None:
    assert message_text(message) == text
    assert refusal(400, {}, answer(message=message), ASKED).remote_text == text


def test_foreign_text_is_cut_and_storable() -> None:
    error = refusal(400, {}, answer(message="a\0" * 1000), ASKED)
    assert len(error.remote_text) == FOREIGN_TEXT_LIMIT
    assert "\0" not in error.remote_text


NOW = datetime.datetime(2026, 10, 21, 7, 27, 30, tzinfo=datetime.UTC)
WAITS: dict[str, float | None] = {
    "2.128": 2.128, "10": 10.0, " 3 ": 3.0, "0": 0.0, "-5": 0.0, "Wed, 21 Oct 2026 07:28:00 GMT": 30.0,
    "Wed, 21 Oct 2026 07:27:00 GMT": 0.0, "Wed, 21 Oct 2026 09:28:00 +0200": 30.0, "soon": None, "": None, "nan": None,
    "inf": None,
}  # fmt: skip


@pytest.mark.parametrize(("text", "seconds"), WAITS.items())
def test_waits(text: str, seconds: float | None) -> None:
    assert retry_after({"retry-after": text}, NOW) == seconds


def test_the_wait_is_on_the_error() -> None:
    error = refusal(429, {"retry-after": "2.128"}, b"", ASKED)
    assert isinstance(error, ThrottledGraphError)
    assert error.params["retry_after"] == 2.128
    assert "3 seconds" in problem(error.code, error.params).happened


NETWORK: dict[str, tuple[Exception, str]] = {
    "no connection": (httpcore.ConnectError("refused"), "graph_unreachable"),
    "no connection in time": (httpcore.ConnectTimeout("timed out"), "graph_unreachable"),
    "silence": (httpcore.ReadTimeout("timed out"), "graph_timed_out"),
    "an end": (httpcore.RemoteProtocolError("Server disconnected"), "graph_dropped"),
    "a reset": (httpcore.ReadError("reset"), "graph_dropped"),
    "proxy": (httpcore.ProxyError("407"), "graph_proxy_failed"),
    "encoding": (httpx.DecodingError("not gzip"), "graph_bad_answer"),
}


@pytest.mark.parametrize("case", NETWORK)
def test_no_answer(case: str) -> None:
    error, code = NETWORK[case]
    assert translate.network(error, ASKED).code == code


# --- the tree -----------------------------------------------------------------------------------------------------


def _classes() -> list[type[GraphError]]:
    return [one for one in vars(errors).values() if inspect.isclass(one) and issubclass(one, GraphError)]


def _documented(kind: type[GraphError]) -> set[str]:
    match = re.search(r"Codes?:(.*)", kind.__doc__ or "", re.DOTALL)
    return set(re.findall(r"\bgraph_[a-z_]+\b", match[1])) if match else set()


def test_every_documented_code_has_sentences_and_the_other_way_round() -> None:
    documented = {code for kind in _classes() for code in _documented(kind)} | {one.default_code for one in _classes()}
    assert {code for code in PROBLEMS if code.startswith("graph_")} == documented


@pytest.mark.parametrize("kind", _classes(), ids=lambda kind: kind.__name__)
def test_a_default_is_one_of_the_documented_codes(kind: type[GraphError]) -> None:
    assert kind is GraphError or kind.default_code in _documented(kind)


def test_codes_come_with_their_own_class() -> None:
    """One code means one reaction."""
    owner = {code: kind for kind in _classes() for code in _documented(kind)}
    for status, headers, body, asked, _ in GRAPH.values():
        error = refusal(status, httpx.Headers(headers), body, asked)
        assert type(error) is owner[error.code]
    for status, body, _ in SIGN_IN.values():
        error = sign_in_refusal(status, {}, body, ASKED)
        assert type(error) is owner[error.code]
    for cause, _ in NETWORK.values():
        error = translate.network(cause, ASKED)
        assert type(error) is owner[error.code]


def test_our_errors_are_not_the_librarys() -> None:
    assert not any(issubclass(kind, httpx.HTTPError | httpcore.NetworkError) for kind in _classes())
    assert "h1dden" not in repr(StopGraphError("h1dden text", remote_text="h1dden"))


@pytest.mark.parametrize("code", sorted(code for code in PROBLEMS if code.startswith("graph_")))
def test_what_is_kept_is_said(code: str) -> None:
    assert "Nobody's access changes" in problem(code).kept
    assert "stay and still count" in problem(code).kept
    assert "Exchange" not in problem(code, {"remote_text": "x", "request_id": "y"}).detail

"""The lab's web site below WS-Man: places, methods, malformed requests, faults, TLS."""

from __future__ import annotations

import contextlib
import socket
import ssl
import stat
import threading
import time
from email.utils import parsedate_to_datetime

import pytest
import requests
from pypsrp.exceptions import AuthenticationError, WinRMTransportError

from lab.exchange.contract import WebResponse
from lab.exchange.tls import Authority
from tests.lab.wire import CONNECTOR, FQDN, run, serving

pytestmark = pytest.mark.wire


class Echo:
    """A route that says what it was asked."""

    def __init__(self, *, requires_sign_in: bool = True, authentications=("Basic",)) -> None:
        self.requires_sign_in = requires_sign_in
        self.authentications = authentications

    def handle(self, request):
        if request.path.endswith("/bug"):
            raise LookupError("a bug")
        who = request.account.user if request.account else "-"
        text = f"{request.method} {request.path} {request.query} {who} {request.is_tls} {request.body.decode()}"
        return WebResponse(
            207, {"Content-Type": "text/plain", "X-Seen": request.headers.get("x-mark", "")}, text.encode()
        )


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    routes = {
        "/EWS": Echo(),
        "/open": Echo(requires_sign_in=False),
        "/open/closed": Echo(),
        "/windows": Echo(authentications=("NTLM",)),
    }
    with serving(tmp_path_factory.mktemp("lab"), routes=routes) as site:
        yield site


@pytest.fixture
def site(running):
    yield running
    running.faults.clear()


def url(site, path="/PowerShell", *, tls=False):
    port = site.server.https_port if tls else site.server.http_port
    return f"{'https' if tls else 'http'}://127.0.0.1:{port}{path}"


def raw(site, data):
    """Send bytes, read to the end."""
    with socket.create_connection(("127.0.0.1", site.server.http_port), timeout=5) as connection:
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        parts = []
        with contextlib.suppress(ConnectionResetError):
            while part := connection.recv(65536):
                parts.append(part)
        return b"".join(parts)


@pytest.mark.parametrize("path", ["powershell", "PowerShell/", "POWERSHELL", "PowerShell?serializationLevel=Full"])
def test_powershell_under_any_spelling(site, path):
    with site.pool(path=path) as pool:
        assert run(pool, "Get-Thing") == ["Get-Thing"]
    assert site.engine.states[-1].serialization_level == ("full" if "Full" in path else "default")


@pytest.mark.parametrize("path", ["/", "/wsman", "/powershellx", "/owa", "/ewsx"])
def test_elsewhere_is_404_in_html(site, path):
    answer = requests.post(url(site, path), auth=(CONNECTOR.user, "x"), data=b"x", timeout=5)
    assert (answer.status_code, answer.headers["Content-Type"]) == (404, "text/html; charset=utf-8")


def test_wrong_path_as_pypsrp_sees_it(site):
    with pytest.raises(WinRMTransportError) as caught, site.pool(path="wsman"):
        pass
    assert caught.value.code == 404


def test_http_where_tls_is_required(tmp_path):
    with serving(tmp_path, require_tls=True) as site:
        with pytest.raises(WinRMTransportError) as caught, site.pool():
            pass
        assert caught.value.code == 403
        with site.pool(tls=True) as pool:
            assert run(pool, "Get-Thing") == ["Get-Thing"]


ROUTES = {
    "by prefix": ("/ews/exchange.asmx?a=1&b=", "POST /ews/exchange.asmx {'a': '1', 'b': ''} LAB\\svc-eas False body"),
    "in any case": ("/eWs", "POST /eWs {} LAB\\svc-eas False body"),
    "sign-in where none is needed": ("/open/x", "POST /open/x {} LAB\\svc-eas False body"),
    "the longest prefix": ("/open/closed", "POST /open/closed {} LAB\\svc-eas False body"),
}


@pytest.mark.parametrize(("path", "expected"), ROUTES.values(), ids=ROUTES.keys())
def test_routes(site, path, expected):
    answer = requests.post(url(site, path), auth=credentials(), data=b"body", headers={"X-Mark": "m"}, timeout=5)
    assert (answer.status_code, answer.text, answer.headers["X-Seen"]) == (207, expected, "m")


def test_routes_that_let_anybody_in(site):
    assert requests.options(url(site, "/open"), timeout=5).text == "OPTIONS /open {} - False "
    assert requests.get(url(site, "/open/closed"), timeout=5).status_code == 401
    wrong = requests.get(url(site, "/ews"), auth=(CONNECTOR.user, "wrong"), timeout=5)
    assert (wrong.status_code, wrong.headers["WWW-Authenticate"]) == (401, f'Basic realm="{FQDN}"')


def test_a_route_may_ask_for_another_sign_in(site):
    assert requests.get(url(site, "/windows"), auth=credentials(), timeout=5).headers["WWW-Authenticate"] == "NTLM"
    with site.wsman(auth="ntlm", path="windows") as wsman:
        session = wsman.transport._build_session()
        assert "LAB\\svc-eas" in session.get(wsman.transport.endpoint, timeout=5).text


def test_a_route_that_fails_answers_500(site):
    assert requests.get(url(site, "/open/bug"), timeout=5).status_code == 500


def test_chunked_bodies_are_read(site):
    answer = requests.post(url(site, "/open"), data=iter([b"one ", b"two"]), timeout=5)
    assert answer.text.endswith("one two")


POWERSHELL_REQUESTS = {
    "GET": ("GET", {}, b"", 405),
    "no SOAP": ("POST", {"Content-Type": "application/json"}, b"{}", 415),
    "no content type": ("POST", {}, b"<a/>", 415),
    "not XML": ("POST", {"Content-Type": "application/soap+xml"}, b"<a", 400),
    "XML, not SOAP": ("POST", {"Content-Type": "application/soap+xml"}, b"<a/>", 400),
    "encrypted without a key": ("POST", {"Content-Type": 'multipart/encrypted;boundary="x"'}, b"--x\r\n", 400),
    "an entity": ("POST", {"Content-Type": "application/soap+xml"}, b'<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>', 400),
    "empty": ("POST", {}, b"", 200),
}


@pytest.mark.parametrize(
    ("method", "headers", "body", "status"), POWERSHELL_REQUESTS.values(), ids=POWERSHELL_REQUESTS.keys()
)
def test_requests_that_make_no_sense(site, method, headers, body, status):
    answer = requests.request(method, url(site), auth=credentials(), headers=headers, data=body, timeout=5)
    assert answer.status_code == status


MALFORMED = {
    "no HTTP": (b"nonsense\r\n\r\n", b" 400 "),
    "length that is no number": (b"POST /powershell HTTP/1.1\r\nHost: x\r\nContent-Length: ten\r\n\r\n", b" 400 "),
    "negative length": (b"POST /powershell HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", b" 400 "),
    "far too large": (b"POST /powershell HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n", b" 413 "),
    "chunks that are none": (b"POST /open HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", b" 400 "),
    "a coding nobody knows": (b"POST /open HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n", b" 501 "),
    "unknown method": (b"BREW /powershell HTTP/1.1\r\nHost: x\r\n\r\n", b" 501 "),
    "header too long": (b"GET / HTTP/1.1\r\nX: " + b"y" * 70000 + b"\r\n\r\n", b" 431 "),
}


@pytest.mark.parametrize(("data", "status"), MALFORMED.values(), ids=MALFORMED.keys())
def test_malformed_requests_get_a_status(site, data, status):
    assert status in raw(site, data).partition(b"\r\n")[0]


def test_a_request_that_ends_too_early_does_no_harm(site):
    assert raw(site, b"POST /powershell HTTP/1.1\r\nContent-Length: 10\r\n\r\nabc") == b""
    assert requests.get(url(site, "/open"), timeout=5).status_code == 207


# Faults


@pytest.mark.parametrize("status", [401, 403, 404, 500, 503])
def test_fault_status(site, status):
    site.fault("status", str(status))
    expected = AuthenticationError if status == 401 else WinRMTransportError
    with pytest.raises(expected) as caught, site.pool():
        pass
    assert status == 401 or getattr(caught.value, "code", None) == status
    answer = requests.post(url(site), timeout=5)
    assert answer.headers["Content-Type"].startswith("text/html")
    assert ("WWW-Authenticate" in answer.headers) == (status == 401)


def test_a_fault_may_be_for_so_many_times_or_for_one_place(site):
    site.fault("status", "503", times=1)
    site.fault("status", "500", cmdlet="powershell")
    statuses = [requests.get(url(site, path), timeout=5).status_code for path in ("/open", "/open", "/powershell")]
    assert statuses == [503, 207, 500]


def test_fault_redirect(site):
    site.fault("redirect", "https://mail.elsewhere.test/powershell")
    answer = requests.post(url(site), allow_redirects=False, timeout=5)
    assert (answer.status_code, answer.headers["Location"]) == (302, "https://mail.elsewhere.test/powershell")


def test_fault_non_soap_comes_after_the_sign_in(site):
    site.fault("non_soap")
    assert requests.post(url(site), data=b"x", timeout=5).status_code == 401
    headers = {"Content-Type": "application/soap+xml;charset=UTF-8"}
    answer = requests.post(url(site), auth=credentials(), data=b"x", headers=headers, timeout=5)
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "text/html; charset=utf-8")


def test_fault_drop(site):
    site.fault("drop", times=1)
    with pytest.raises(requests.ConnectionError):
        requests.get(url(site, "/open"), timeout=5)
    assert requests.get(url(site, "/open"), timeout=5).status_code == 207


def test_fault_refuse_until_lifted(site):
    session = requests.Session()
    assert session.get(url(site, "/open"), timeout=5).status_code == 207
    site.fault("refuse")
    eventually(lambda: refuses(site.server.http_port) and refuses(site.server.https_port))
    with pytest.raises(requests.ConnectionError):
        session.get(url(site, "/open"), timeout=5)
    site.faults.clear()
    eventually(lambda: not refuses(site.server.http_port) and not refuses(site.server.https_port))
    assert requests.get(url(site, "/open"), timeout=5).status_code == 207


def test_fault_hang(site):
    site.fault("hang")
    with pytest.raises(requests.ReadTimeout):
        requests.get(url(site, "/open"), timeout=0.2)
    answers = []
    before = site.server.stats["requests"]
    waiting = threading.Thread(target=lambda: answers.append(requests.get(url(site, "/open"), timeout=10)))
    waiting.start()
    eventually(lambda: site.server.stats["requests"] > before)
    site.faults.clear()
    waiting.join(10)
    assert answers[0].status_code == 207


def test_fault_hang_for_seconds(site):
    site.fault("hang", "0.2", times=1)
    begun = time.monotonic()
    assert requests.get(url(site, "/open"), timeout=5).status_code == 207
    assert time.monotonic() - begun >= 0.2


def test_fault_clock_skew(site):
    site.fault("clock_skew", "-3600")
    told = parsedate_to_datetime(requests.get(url(site, "/open"), timeout=5).headers["Date"])
    assert abs(told.timestamp() + 3600 - time.time()) < 5


def test_fault_expired_certificate(site):
    site.fault("expired_certificate")
    with pytest.raises(requests.exceptions.SSLError, match="expired"), site.pool(tls=True):
        pass
    # Who does not look may sign in nevertheless: the channel binding is that of the certificate shown.
    with site.pool(tls=True, auth="ntlm", cert_validation=False) as pool:
        assert run(pool, "Get-Thing") == ["Get-Thing"]
    site.faults.clear()
    with site.pool(tls=True) as pool:
        assert run(pool, "Get-Thing") == ["Get-Thing"]


def test_faults_of_another_server_do_not_touch_this_one(site):
    fault = site.fault("status", "500")
    fault.server = "ex02.lab.test"
    assert requests.get(url(site, "/open"), timeout=5).status_code == 207


# TLS


def test_the_certificate_is_for_name_and_address_alike(site):
    context = ssl.create_default_context(cafile=site.ca_path)
    for name in (FQDN, "localhost", "127.0.0.1"):
        with (
            socket.create_connection(("127.0.0.1", site.server.https_port), timeout=5) as connection,
            context.wrap_socket(connection, server_hostname=name) as secured,
        ):
            assert secured.version() in ("TLSv1.2", "TLSv1.3")


def test_an_unknown_authority_is_not_trusted(site):
    with pytest.raises(requests.exceptions.SSLError), site.pool(tls=True, cert_validation=True):
        pass


def test_clear_text_at_the_tls_port_does_no_harm(site):
    with socket.create_connection(("127.0.0.1", site.server.https_port), timeout=5) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\n\r\n")
        with contextlib.suppress(ConnectionResetError):
            while connection.recv(1024):
                pass
    assert requests.get(url(site, "/open", tls=True), verify=site.ca_path, timeout=5).status_code == 207


def test_a_slow_handshake_keeps_nobody_out(site):
    with socket.create_connection(("127.0.0.1", site.server.https_port), timeout=5):
        assert requests.get(url(site, "/open", tls=True), verify=site.ca_path, timeout=5).status_code == 207


def test_the_authority_is_used_again(tmp_path):
    first = Authority(tmp_path)
    first.certificate(FQDN)
    second = Authority(tmp_path)
    assert first.ca_path.read_bytes() == second.ca_path.read_bytes()
    assert second.certificate(FQDN) is second.certificate(FQDN)
    assert {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()} == {0o600}


@pytest.mark.parametrize("damage", [b"", b"nonsense"])
def test_a_damaged_authority_is_made_anew(tmp_path, damage):
    before = Authority(tmp_path).ca_path.read_bytes()
    (tmp_path / "ca-key.pem").write_bytes(damage)
    assert Authority(tmp_path).ca_path.read_bytes() != before


# The server itself


def test_stats_and_restart(tmp_path):
    with serving(tmp_path) as site:
        with site.pool() as pool:
            run(pool, "Get-Thing")
            assert site.server.stats["open_shells"] == 1
        stats = site.server.stats
        assert (stats["shells"], stats["commands"], stats["objects"], stats["open_shells"]) == (1, 1, 1, 0)
        assert stats["bytes_in"] > 1000
        assert stats["bytes_out"] > 1000
        port = site.server.http_port
        site.server.stop()
        assert refuses(port)
        site.server.start()
        assert site.server.http_port == port
        with site.pool() as pool:
            assert run(pool, "Get-Thing") == ["Get-Thing"]


def test_a_taken_port_is_said(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken, serving(tmp_path) as site:
        site.server.stop()
        site.server.https_port = taken.getsockname()[1]
        with pytest.raises(OSError, match="in use"):
            site.server.start()
        assert refuses(site.server.http_port)


def credentials():
    """As bytes: requests would encode a password as Latin-1."""
    return CONNECTOR.user.encode(), CONNECTOR.password.encode()


def refuses(port):
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=5):
            return False
    except ConnectionRefusedError:
        return True


def eventually(condition):
    until = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.01)

"""Every way in which a server, a proxy or the network refuses a session, with the exact code that comes out."""

from __future__ import annotations

import email.utils
import gc
import logging
import socket
import threading
import time
import traceback
from collections.abc import Iterator
from pathlib import Path

import pytest
from pypsrp.exceptions import AuthenticationError

from connectors.exchange.client import Account, Endpoint, Options
from connectors.exchange.errors import (
    AlreadyExistsError,
    AmbiguousError,
    BadRequestError,
    CanceledError,
    ExchangeError,
    NotFoundError,
    NotPermittedError,
    StopError,
    ThrottledError,
    TransientError,
)
from connectors.exchange.pool import RemoteError
from connectors.exchange.session import Session, connect
from connectors.exchange.translate import from_record, translate
from tests.connectors.exchange.responder import certificate, fault, respond

PASSWORD = "Sesame-öffne-dich-42"
ACCOUNT = Account("CONTOSO\\svc-gatehouse", PASSWORD, "basic")
QUICK = Options(connect_timeout=2, operation_timeout=1, read_timeout=2, silence=4, deadline=30)


def endpoint(port: int, *, tls: bool = False) -> Endpoint:
    return Endpoint(fqdn="ex01.contoso.test", port=port, use_tls=tls, address="127.0.0.1")


def refusal(port: int, *, account: Account = ACCOUNT, options: Options = QUICK, tls: bool = False) -> ExchangeError:
    with pytest.raises(ExchangeError) as caught, connect(endpoint(port, tls=tls), account, options):
        pass
    return caught.value


HTML = {"Content-Type": "text/html"}
SHELLS = "exceeded the maximum number of connections allowed : 18 for the policy party : MaxConcurrency"
ANSWERS = {
    "wrong password": (401, b"", {"WWW-Authenticate": 'Basic realm="ex"'}, "authentication_failed"),
    "401 that names nothing": (401, b"", {}, "authentication_failed"),
    "basic not offered": (401, b"", {"WWW-Authenticate": "Kerberos"}, "authentication_not_offered"),
    "forbidden": (403, b"<h1>SSL required</h1>", HTML, "forbidden"),
    "no such path": (404, b"<h1>404</h1>", HTML, "endpoint_not_found"),
    "proxy asks": (407, b"", {}, "proxy_failed"),
    "method not allowed": (405, b"", HTML, "not_powershell"),
    "too many requests": (429, b"", {}, "server_busy"),
    "500 with a page": (500, b"<html><body>oops</body></html>", HTML, "server_error"),
    "500 with nothing": (500, b"", {}, "server_error"),
    "502": (502, b"<h1>Bad gateway</h1>", HTML, "server_unavailable"),
    "503": (503, b"<h1>Service Unavailable</h1>", HTML, "server_unavailable"),
    "a redirect": (302, b"", {"Location": "https://owa.contoso.test/"}, "redirected"),
    "a permanent redirect": (308, b"", {"Location": "https://owa.contoso.test/"}, "redirected"),
    "a sign-in page": (200, b"<html>Sign in</html>", HTML, "not_powershell"),
    "nothing at all": (200, b"", {}, "malformed_answer"),
    "xml that is not SOAP": (200, b"<a/>", {}, "malformed_answer"),
    "no xml": (200, b"hello", {}, "malformed_answer"),
    "the machine's own WinRM": (500, fault(2150858811, "The resource URI is not known"), {}, "wrong_port"),
    "not allowed": (500, fault(2150858819, "[Server=EX01] Access is denied."), {}, "access_denied"),
    "not allowed, code 5": (500, fault(5, "Access is denied."), {}, "access_denied"),
    "too many sessions, by text": (500, fault(2150858819, SHELLS), {}, "too_many_shells"),
    "too many sessions, by subcode": (500, fault("", "", "w:QuotaLimit"), {}, "too_many_shells"),
    "session gone": (500, fault(2150858843, "shell not found"), {}, "shell_lost"),
    "session gone, by text": (500, fault(1, "[FailureCategory=WSMan-InvalidShellID] The request"), {}, "shell_lost"),
    "back end without certificate": (500, fault(2150859084, "x"), {}, "server_error"),
    "an empty fault": (500, fault("", "", ""), {}, "server_error"),
    "an unknown fault": (500, fault(77, "who knows"), {}, "server_error"),
    "load quota": (500, fault(2150859174, "The user load quota of 9 requests per 2 seconds"), {}, "user_load_quota"),
}


@pytest.mark.parametrize(("status", "body", "headers", "code"), ANSWERS.values(), ids=ANSWERS.keys())
def test_answers(status: int, body: bytes, headers: dict[str, str], code: str) -> None:
    with respond(status, body, headers) as port:
        error = refusal(port)
    assert error.code == code
    assert error.server == "ex01.contoso.test"


def test_a_redirect_is_not_followed() -> None:
    seen: list[tuple[str, dict[str, str], bytes]] = []
    with respond(seen=seen) as elsewhere, respond(302, headers={"Location": f"http://127.0.0.1:{elsewhere}/"}) as port:
        refusal(port)
    assert seen == []


def test_what_is_sent_names_the_server_and_path() -> None:
    seen: list[tuple[str, dict[str, str], bytes]] = []
    with respond(503, seen=seen) as port:
        refusal(port)
    path, headers, body = seen[0]
    assert path == "/PowerShell"
    assert headers["Host"] == f"ex01.contoso.test:{port}"
    assert b"http://schemas.microsoft.com/powershell/Microsoft.Exchange" in body
    assert len(seen) == 1  # 503 is not tried again from here


@pytest.mark.parametrize("kind", ["ntlm", "negotiate"])
def test_no_sign_in_asked_is_no_exchange(kind: str) -> None:
    with respond(200, b"") as port:
        assert refusal(port, account=Account("a", PASSWORD, kind)).code == "not_powershell"


@pytest.mark.parametrize(
    ("kind", "offered", "code"),
    [
        ("ntlm", "Basic realm=x", "authentication_not_offered"),
        ("ntlm", "Kerberos", "authentication_not_offered"),
        ("negotiate", "Basic realm=x", "authentication_not_offered"),
        ("kerberos", "NTLM", "authentication_not_offered"),
        ("kerberos", "Basic realm=x", "authentication_not_offered"),
    ],
)
def test_kinds_of_sign_in_that_are_not_offered(kind: str, offered: str, code: str) -> None:
    with respond(401, headers={"WWW-Authenticate": offered}) as port:
        assert refusal(port, account=Account("a@CONTOSO.TEST", PASSWORD, kind)).code == code


def test_clock_skew_explains_a_refused_ticket() -> None:
    date = email.utils.formatdate(time.time() + 900, usegmt=True)
    with respond(401, headers={"WWW-Authenticate": "Kerberos, Basic", "Date": date}) as port:
        session = Session(endpoint(port), ACCOUNT, QUICK)
        with pytest.raises(StopError) as caught:
            session.open()
    # For a password the clock does not matter.
    assert caught.value.code == "authentication_failed"
    assert 890 < session.clock_skew < 910
    refused = AuthenticationError("Kerberos, Basic")
    for kind, code in (("kerberos", "clock_skew"), ("negotiate", "clock_skew"), ("ntlm", "authentication_not_offered")):
        assert translate(refused, authentication=kind, clock_skew=session.clock_skew).code == code
    assert translate(refused, authentication="kerberos", clock_skew=120).code == "authentication_failed"


def test_connection_refused() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    assert refusal(port).code == "connection_refused"


def test_name_not_resolved() -> None:
    server = Endpoint(fqdn="no-such-host.invalid", port=80, use_tls=False)
    with pytest.raises(TransientError) as caught, connect(server, ACCOUNT, QUICK):
        pass
    assert caught.value.code == "name_not_resolved"


def test_a_name_that_is_none() -> None:
    server = Endpoint(fqdn="a..b", port=80, use_tls=False)
    with pytest.raises(StopError) as caught, connect(server, ACCOUNT, QUICK):
        pass
    assert caught.value.code == "bad_settings"


@pytest.fixture
def deaf() -> Iterator[int]:
    """Accepts connections, reads nothing, says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.fixture
def slammer() -> Iterator[int]:
    """Accepts connections and closes them."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def run() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                connection.recv(10)
                connection.close()

        threading.Thread(target=run, daemon=True).start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)


def test_no_answer(deaf: int) -> None:
    started = time.monotonic()
    assert refusal(deaf).code == "no_answer"
    assert time.monotonic() - started < 5


def test_cancel_while_the_server_says_nothing(deaf: int) -> None:
    """Within about a second and a half, though the answer may take forty."""
    started = time.monotonic()
    options = Options(read_timeout=40)
    with (
        pytest.raises(CanceledError),
        connect(endpoint(deaf), ACCOUNT, options, should_stop=lambda: time.monotonic() - started > 0.2),
    ):
        pass
    assert time.monotonic() - started < 4


def test_dropped(slammer: int) -> None:
    assert refusal(slammer).code == "connection_dropped"


def test_no_tls_at_a_tls_port(slammer: int) -> None:
    with respond(200, b"") as port:
        assert refusal(port, tls=True).code == "wrong_port"
    assert refusal(slammer, tls=True).code == "connection_dropped"


@pytest.mark.parametrize(
    ("name", "days", "is_trusted", "code"),
    [
        ("ex01.contoso.test", 10, True, "server_unavailable"),  # accepted: the answer itself is what comes out
        ("ex01.contoso.test", 10, False, "certificate_untrusted"),
        ("ex01.contoso.test", -1, True, "certificate_expired"),
        ("ex02.contoso.test", 10, True, "certificate_wrong_name"),
    ],
)
def test_certificates(tmp_path: Path, name: str, days: int, is_trusted: bool, code: str) -> None:
    own = certificate(tmp_path, name, days=days, age=30)
    options = Options(connect_timeout=2, operation_timeout=1, read_timeout=2, ca_file=str(own) if is_trusted else None)
    with respond(503, certificate=own) as port:
        assert refusal(port, options=options, tls=True).code == code


def test_a_file_of_authorities_that_is_missing(tmp_path: Path) -> None:
    options = Options(ca_file=str(tmp_path / "missing.pem"))
    with respond() as port:
        assert refusal(port, options=options, tls=True).code == "bad_settings"


def test_a_proxy_that_refuses() -> None:
    with respond(407) as port:
        options = Options(proxy=f"http://user:{'s3cret'}@127.0.0.1:{port}")
        assert refusal(443, options=options, tls=True).code == "proxy_failed"
        error = refusal(80, options=options)
    assert error.code == "proxy_failed"
    assert "s3cret" not in "".join(traceback.format_exception(error))


def test_a_proxy_that_is_not_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    error = refusal(443, options=Options(proxy=f"http://user:s3cret@127.0.0.1:{port}"), tls=True)
    assert error.code == "proxy_failed"
    assert "s3cret" not in repr(error) + str(error) + str(error.params)


def test_the_environments_proxy_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    with respond(503) as port:
        assert refusal(port).code == "server_unavailable"


@pytest.mark.parametrize(
    ("account", "options"),
    [
        (Account("a", "b", "digest"), QUICK),
        (ACCOUNT, Options(operation_timeout=40, read_timeout=40)),
    ],
)
def test_settings_that_cannot_work(account: Account, options: Options) -> None:
    with pytest.raises(StopError) as caught:
        Session(endpoint(80), account, options)
    assert caught.value.code == "bad_settings"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ImportError("GSSAPIProxy requires the Python gssapi library"), "kerberos_unavailable"),
        (RuntimeError("boom"), "malformed_answer"),
        (KeyError("x"), "malformed_answer"),
        (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid"), "malformed_answer"),
        (ConnectionResetError(104, "reset"), "connection_dropped"),
        (OSError(113, "No route to host"), "connection_timed_out"),
        (TimeoutError(), "no_answer"),
    ],
)
def test_what_libraries_raise_in_odd_cases(error: Exception, code: str) -> None:
    found = translate(error, server="ex01", cmdlet="Get-X")
    assert (found.code, found.server, found.cmdlet) == (code, "ex01", "Get-X")


def kerberos_error(text: str) -> Exception:
    """As krb5 and gssapi raise them, which need not be installed."""
    made: Exception = type("Krb5Error", (Exception,), {"__module__": "krb5._exceptions"})(text)
    return made


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("Preauthentication failed", "authentication_failed"),
        ("Client 'svc@CONTOSO.TEST' not found in Kerberos database", "authentication_failed"),
        ("Clock skew too great", "clock_skew"),
        ("Cannot contact any KDC for realm 'CONTOSO.TEST'", "kerberos_failed"),
        ("Server not found in Kerberos database", "kerberos_failed"),
        ("No Kerberos credentials available", "kerberos_failed"),
    ],
)
def test_kerberos(text: str, code: str) -> None:
    assert translate(kerberos_error(text), authentication="kerberos").code == code


def record(message: str, reason: str = "", fq_error_id: str = "", exception: str = "") -> RemoteError:
    return RemoteError(message, exception, fq_error_id, reason, "0", "")


PREFIX = "[Server=EX01,RequestId=8c0a2a9b-6d1f-4a06-8d8c-2a2a8b7f0001,TimeStamp=1/1/2026 1:00:00 AM] "
MISSING = "The operation couldn't be performed because object 'x' couldn't be found on 'dc1'."
RECORDS = {
    "not found": (record(MISSING, "ManagementObjectNotFoundException"), NotFoundError, "object_not_found"),
    "not found, in any language, by category": (
        record("Fehlt", "", PREFIX + "[FailureCategory=Cmdlet-ManagementObjectNotFoundException] 1A2B,Microsoft.X"),
        NotFoundError,
        "object_not_found",
    ),
    "not found, in 2010": (
        record("could not be found", "ManagementObjectNotFoundException", "6B6149EC,Microsoft.Exchange.X"),
        NotFoundError,
        "object_not_found",
    ),
    "ambiguous": (
        record("The operation couldn't be performed because 'x' matches multiple entries."),
        AmbiguousError,
        "object_ambiguous",
    ),
    "there already": (
        record("The object 'x' already exists.", "ADObjectAlreadyExistsException"),
        AlreadyExistsError,
        "object_exists",
    ),
    "there already, by category": (
        record("Schon da", "", PREFIX + "[FailureCategory=Cmdlet-RuleAlreadyExistsException] 1A2B,Microsoft.X"),
        AlreadyExistsError,
        "object_exists",
    ),
    "no such cmdlet": (
        record("The term 'Get-X' is not recognized", "CommandNotFoundException", "CommandNotFoundException"),
        NotPermittedError,
        "cmdlet_not_granted",
    ),
    "no such parameter": (
        record("matches parameter name 'X'.", "ParameterBindingException", "NamedParameterNotFound,Get-X"),
        NotPermittedError,
        "parameter_not_granted",
    ),
    "a wrong value": (
        record("Cannot process", "ParameterBindingException", "ParameterArgumentTransformationError,Get-X"),
        BadRequestError,
        "argument_refused",
    ),
    "transient": (record("AD is away", "ADTransientException"), TransientError, "exchange_transient"),
    "transient by class": (
        record("AD", "", "", "Microsoft.X.StorageTransientException"),
        TransientError,
        "exchange_transient",
    ),
    "proxied": (
        record("Error on proxy command 'Get-X' to server ex02: Server version 15.0", "CmdletProxyException"),
        TransientError,
        "cmdlet_proxy_failed",
    ),
    "throttled": (
        record("The user load quota of 9 requests per 2 seconds has been exceeded.", "ThrottlingException"),
        ThrottledError,
        "user_load_quota",
    ),
    "over budget": (record("nein", "OverBudgetException"), ThrottledError, "server_busy"),
    "transport": (record("died", "PSRemotingTransportException", "JobFailure"), TransientError, "shell_lost"),
    "a script": (record("refused", "ParseException", "ScriptsNotAllowed"), BadRequestError, "script_refused"),
    "a question": (
        record("Windows PowerShell is in NonInteractive mode.", "PSInvalidOperationException"),
        BadRequestError,
        "confirmation_required",
    ),
    "anything else": (record("no", "SomethingException"), BadRequestError, "command_failed"),
}


@pytest.mark.parametrize(("remote", "kind", "code"), RECORDS.values(), ids=RECORDS.keys())
def test_error_records(remote: RemoteError, kind: type[ExchangeError], code: str) -> None:
    error = from_record(remote, server="ex01", cmdlet="Get-X")
    assert isinstance(error, kind)
    assert (error.code, error.server, error.cmdlet) == (code, "ex01", "Get-X")


def test_the_request_id_is_kept_and_foreign_text_cut() -> None:
    error = from_record(record("x" * 5000, "Odd", PREFIX + "1A2B,Microsoft.X"))
    assert error.request_id == "8c0a2a9b-6d1f-4a06-8d8c-2a2a8b7f0001"
    assert len(error.remote_text) == 300


def test_no_password_is_shown_anywhere(deaf: int) -> None:
    """Not by the account, the session, an error, its causes, its traceback, nor any log."""
    shown = [repr(ACCOUNT), str(ACCOUNT), repr(Session(endpoint(80), ACCOUNT, QUICK))]
    with respond(401, headers={"WWW-Authenticate": "Basic realm=x"}) as port:
        errors = [refusal(port), refusal(deaf)]
    for error in errors:
        shown += [repr(error), str(error), str(error.params), "".join(traceback.format_exception(error))]
        cause = error.__cause__
        while cause is not None:
            shown += [repr(cause), str(cause)]
            cause = cause.__cause__ or cause.__context__
    assert PASSWORD not in "\n".join(shown)


def test_the_libraries_are_quiet(caplog: pytest.LogCaptureFixture, deaf: int) -> None:
    """At DEBUG of everything, nothing of pypsrp, spnego or urllib3 reaches a log: they log payloads and tokens."""
    with caplog.at_level(logging.DEBUG):
        refusal(deaf)
        with respond(500, b"<html/>") as port:
            refusal(port)
    noisy = [r.name for r in caplog.records if r.name.split(".")[0] in ("pypsrp", "spnego", "urllib3", "requests")]
    assert noisy == []


def test_errors_survive_pickling_and_have_their_default_code() -> None:
    import pickle

    error = ThrottledError("slow", retry_after=3, code="server_busy", server="ex01")
    again = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own
    assert (again.code, again.retry_after, again.server) == ("server_busy", 3, "ex01")
    assert NotFoundError("x").code == "object_not_found"


def test_nothing_is_left_open(recwarn: pytest.WarningsRecorder) -> None:
    gc.collect()
    recwarn.clear()  # what earlier tests left
    with respond(503) as port:
        for _ in range(3):
            refusal(port)
    gc.collect()
    assert [w for w in recwarn if issubclass(w.category, ResourceWarning)] == []


def test_foreign_text_holds_nothing_that_a_database_refuses() -> None:
    assert "\0" not in TransientError("x", remote_text="a\0b").params["remote_text"]  # type: ignore[operator]


@pytest.mark.parametrize(
    ("kind", "password", "expected"),
    [("kerberos", "", None), ("kerberos", "p", "p"), ("ntlm", "", ""), ("basic", "p", "p")],
)
def test_without_a_password_kerberos_uses_its_cache(kind: str, password: str, expected: str | None) -> None:
    session = Session(endpoint(80), Account("a", password, kind), QUICK)
    assert session._channel._connection.transport.password == expected

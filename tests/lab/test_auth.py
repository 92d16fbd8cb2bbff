"""Sign-in to the lab's servers, by pypsrp as shipped and by hand."""

from __future__ import annotations

import base64
import os
import stat

import pytest
import requests
from pypsrp.exceptions import AuthenticationError, WinRMTransportError

from lab.exchange.auth import Accounts
from lab.exchange.contract import Account
from tests.lab.wire import CONNECTOR, FQDN, OTHER, run, serving

pytestmark = pytest.mark.wire


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    with serving(tmp_path_factory.mktemp("lab"), authentications=("Negotiate", "Kerberos", "NTLM", "Basic")) as site:
        yield site


KINDS = {
    "Basic over http": {"auth": "basic"},
    "Basic over TLS": {"auth": "basic", "tls": True},
    "NTLM over http, encrypted": {"auth": "ntlm"},
    "NTLM over TLS, bound to its channel": {"auth": "ntlm", "tls": True},
    "NTLM over TLS, encrypted as well": {"auth": "ntlm", "tls": True, "encryption": "always"},
    "Negotiate over http, encrypted": {"auth": "negotiate"},
    "Negotiate over TLS, bound to its channel": {"auth": "negotiate", "tls": True},
    "user principal name": {"auth": "ntlm", "username": CONNECTOR.upn},
    "user principal name in capitals, Basic": {"auth": "basic", "username": CONNECTOR.upn.upper()},
    "domain in small letters": {"auth": "ntlm", "username": CONNECTOR.user.lower()},
}


@pytest.mark.parametrize("options", KINDS.values(), ids=KINDS.keys())
def test_signs_in(site, options):
    with site.pool(**options) as pool:
        assert run(pool, "Get-Echo", Text="Ünïcode 例") == ["{'Text': 'Ünïcode 例'}"]
        assert pool.shell.owner == CONNECTOR.user
    assert site.engine.states[-1].account == CONNECTOR


REFUSED = {
    "wrong password, Basic": {"auth": "basic", "password": "wrong"},
    "wrong password, Basic over TLS": {"auth": "basic", "tls": True, "password": "wrong"},
    "wrong password, NTLM": {"auth": "ntlm", "password": "wrong"},
    "wrong password, Negotiate over TLS": {"auth": "negotiate", "tls": True, "password": "wrong"},
    "unknown user": {"auth": "ntlm", "username": "LAB\\nobody"},
    "password of another account": {"auth": "basic", "password": OTHER.password},
    "empty password": {"auth": "basic", "password": ""},
    "no channel binding": {"auth": "ntlm", "tls": True, "negotiate_send_cbt": False},
}


@pytest.mark.parametrize("options", REFUSED.values(), ids=REFUSED.keys())
def test_refuses(site, options):
    with pytest.raises(AuthenticationError), site.pool(**options):
        pass
    assert site.server.powershell.open_shells == 0


def test_channel_binding_can_be_left_open(tmp_path):
    with (
        serving(tmp_path, enforce_channel_binding=False) as site,
        site.pool(auth="ntlm", tls=True, negotiate_send_cbt=False) as pool,
    ):
        assert run(pool, "Get-Thing") == ["Get-Thing"]


def test_clear_text_is_refused_where_encryption_is_due(site):
    with pytest.raises(WinRMTransportError) as caught, site.pool(auth="ntlm", encryption="never"):
        pass
    assert caught.value.code == 400


def test_only_what_is_offered_is_taken(tmp_path):
    with serving(tmp_path, authentications=("Kerberos",)) as site:
        answer = requests.post(url(site), timeout=5)
        assert (answer.status_code, answer.headers["WWW-Authenticate"]) == (401, "Kerberos")
        with pytest.raises(AuthenticationError), site.pool(auth="basic"):
            pass


def test_offers_each_scheme_in_a_header_of_its_own(site):
    answer = requests.post(url(site), timeout=5)
    assert answer.raw.headers.getlist("WWW-Authenticate") == [
        "Negotiate",
        "Kerberos",
        "NTLM",
        f'Basic realm="{FQDN}"',
    ]


def test_a_sign_in_belongs_to_its_connection(site):
    with site.pool(auth="ntlm", tls=True) as pool:
        run(pool, "Get-Thing")
        before = site.server.stats["connections"]
        run(pool, "Get-Thing")
        assert site.server.stats["connections"] == before
    assert requests.post(url(site), timeout=5).status_code == 401


BROKEN_HEADERS = {
    "no base64": "Basic !!!",
    "Basic without a colon": "Basic " + base64.b64encode(b"svc").decode(),
    "Basic of no text": "Basic " + base64.b64encode(b"\xff\xfe:\xff").decode(),
    "a token of nonsense": "Negotiate " + base64.b64encode(b"nonsense").decode(),
    "an NTLM message cut short": "NTLM " + base64.b64encode(b"NTLMSSP\x00\x01\x00").decode(),
    "an NTLM answer without a challenge": "NTLM "
    + base64.b64encode(b"NTLMSSP\x00\x03\x00\x00\x00" + bytes(60)).decode(),
    "an empty token": "Negotiate",
    "a scheme nobody knows": "Digest abc",
}


@pytest.mark.parametrize("header", BROKEN_HEADERS.values(), ids=BROKEN_HEADERS.keys())
def test_broken_headers_get_401(site, header):
    answer = requests.post(url(site), headers={"Authorization": header}, timeout=5)
    assert answer.status_code == 401
    assert "Negotiate" in answer.headers["WWW-Authenticate"]


UNREADABLE = {
    "nonsense": b"nonsense",
    "empty parts": b"--Encrypted Boundary\r\n--Encrypted Boundary\r\n--Encrypted Boundary--\r\n",
    "of a stranger": b"--Encrypted Boundary\r\n\tContent-Type: application/HTTP-SPNEGO-session-encrypted\r\n"
    b"\tOriginalContent: type=application/soap+xml;charset=UTF-8;Length=4\r\n--Encrypted Boundary\r\n"
    b"\tContent-Type: application/octet-stream\r\n\x10\x00\x00\x00" + bytes(16) + b"abcd--Encrypted Boundary--\r\n",
}


@pytest.mark.parametrize("body", UNREADABLE.values(), ids=UNREADABLE.keys())
def test_what_cannot_be_decrypted_gets_400_and_ends_the_sign_in(site, body):
    with site.wsman(auth="ntlm") as wsman:
        transport = wsman.transport
        transport.session = transport._build_session()
        assert transport.session.post(transport.endpoint, timeout=5).status_code == 200
        kind = 'multipart/encrypted;protocol="application/HTTP-SPNEGO-session-encrypted";boundary="Encrypted Boundary"'
        answer = transport.session.post(transport.endpoint, data=body, headers={"Content-Type": kind}, timeout=5)
        assert (answer.status_code, answer.headers["Connection"]) == (400, "close")


def test_an_account_of_another_organisation_is_a_stranger(site):
    elsewhere = Accounts([Account("NORTH\\svc", "svc@north.test", "secret", "connector")])
    try:
        for kind in ("basic", "ntlm"):
            with pytest.raises(AuthenticationError), site.pool(auth=kind, username="NORTH\\svc", password="secret"):
                pass
    finally:
        elsewhere.forget()


def test_a_changed_password_counts_at_once(site):
    changed = Account(OTHER.user, OTHER.upn, "changed", OTHER.role)
    site.server.accounts.replace([CONNECTOR, changed])
    try:
        for kind in ("basic", "ntlm"):
            with site.pool(auth=kind, account=changed) as pool:
                assert run(pool, "Get-Thing") == ["Get-Thing"]
            with pytest.raises(AuthenticationError), site.pool(auth=kind, account=OTHER):
                pass
    finally:
        site.server.accounts.replace([CONNECTOR, OTHER])


def test_passwords_lie_in_a_private_file(site):
    assert stat.S_IMODE(os.stat(os.environ["NTLM_USER_FILE"]).st_mode) == 0o600


@pytest.mark.parametrize("password", ["a:b", "a\nb"])
def test_a_password_that_the_credential_file_cannot_hold_is_refused(password):
    with pytest.raises(ValueError, match="colon"):
        Accounts([Account("LAB\\x", "x@lab.test", password, "none")])


def url(site):
    return f"http://127.0.0.1:{site.server.http_port}/PowerShell"

"""Kerberos against the lab, with a KDC on loopback, where the machine has what that takes.

Runs in a process of its own: the Kerberos library reads its settings from the environment, once.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from lab import kdc

pytestmark = [pytest.mark.kerberos, pytest.mark.wire]

ROOT = Path(__file__).parents[2]

PROGRAM = """
import json, os, sys
from pathlib import Path
from lab.kdc import Kdc
from tests.lab import wire

home, results = Path(sys.argv[1]), {}
kdc = Kdc(home / "kdc")
os.environ |= kdc.environment
kdc.add("other.test", {"stranger": "secret"}, ["ex01.other.test"])
kdc.add("lab.test", {"svc-eas": wire.CONNECTOR.password, "nobody": "secret"}, [wire.FQDN])


def attempt(name, site, user="svc-eas@LAB.TEST", password=wire.CONNECTOR.password, **options):
    settings = {"negotiate_hostname_override": wire.FQDN, "negotiate_service": "HTTP", "username": user}
    settings |= {"password": password} | options
    try:
        with site.pool(**settings) as pool:
            results[name] = wire.run(pool, "Get-Echo", Text="z" * 100000)[0].count("z")
            assert site.engine.states[-1].account == wire.CONNECTOR
    except Exception as error:
        results[name] = type(error).__name__


with wire.serving(home) as site:
    attempt("http, Negotiate", site, auth="kerberos")
    attempt("https, Negotiate", site, auth="kerberos", tls=True)
    attempt("https, encrypted as well", site, auth="kerberos", tls=True, encryption="always")
    attempt("https, no channel binding", site, auth="kerberos", tls=True, negotiate_send_cbt=False)
    attempt("negotiate chooses Kerberos", site, auth="negotiate")
    attempt("service that is not there", site, auth="kerberos", negotiate_service="WSMAN")
    attempt("wrong password", site, auth="kerberos", password="wrong")
    attempt("user without an account", site, auth="kerberos", user="nobody@LAB.TEST", password="secret")
    site.fault("clock_skew", "600")
    attempt("clock off by ten minutes", site, auth="kerberos")
    site.faults.clear()
    site.fault("clock_skew", "200")
    attempt("clock off by three minutes", site, auth="kerberos")
    site.faults.clear()
    attempt("NTLM beside it", site, auth="ntlm", user=wire.CONNECTOR.user)
with wire.serving(home, authentications=("Kerberos",)) as site:
    attempt("http, Kerberos", site, auth="kerberos")
    attempt("https, Kerberos", site, auth="kerberos", tls=True)
    attempt("NTLM where Kerberos alone is offered", site, auth="ntlm", user=wire.CONNECTOR.user)
with wire.serving(home) as site:
    kdc.stop()
    attempt("no KDC", site, auth="kerberos", user="svc-eas@LAB.TEST")
json.dump(results, sys.stdout)
"""


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    if lacking := kdc.missing():
        pytest.skip(lacking)
    home = tmp_path_factory.mktemp("kerberos")
    clean = {key: value for key, value in os.environ.items() if not key.startswith("KRB5")}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(home)],
        cwd=ROOT,
        env={**clean, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


WORKS = [
    "http, Negotiate",
    "https, Negotiate",
    "https, encrypted as well",
    "negotiate chooses Kerberos",
    "clock off by three minutes",
    "NTLM beside it",
    "https, no channel binding",  # MIT's acceptor refuses a wrong binding, but none is taken
    "http, Kerberos",
    "https, Kerberos",
]
REFUSED = {
    "service that is not there": "SpnegoError",
    "wrong password": "Krb5Error",
    "user without an account": "AuthenticationError",
    "clock off by ten minutes": "AuthenticationError",
    "NTLM where Kerberos alone is offered": "ValueError",
    "no KDC": "Krb5Error",
}


@pytest.mark.parametrize("name", WORKS)
def test_signs_in(results, name):
    assert results[name] == 100_000


@pytest.mark.parametrize(("name", "error"), REFUSED.items(), ids=REFUSED.keys())
def test_refused(results, name, error):
    assert results[name] == error


def test_what_is_missing_is_said(monkeypatch, tmp_path):
    monkeypatch.setattr(kdc, "_PLACES", str(tmp_path))
    assert "krb5kdc is not installed" in kdc.missing()
    with pytest.raises(kdc.KdcError, match="not installed"):
        kdc.Kdc(tmp_path)

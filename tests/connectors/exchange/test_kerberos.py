"""Kerberos against a real KDC: encrypted over http, bound to the channel over TLS, by password and by ticket cache."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import replace

import pytest

from connectors.exchange.client import Account, Options
from connectors.exchange.errors import ExchangeError
from connectors.exchange.session import connect
from tests.connectors.exchange import kdc as kdc_module
from tests.connectors.exchange.kdc import Kdc, kdc
from tests.connectors.exchange.organizations import Organization, organization

pytestmark = [
    pytest.mark.wire,
    pytest.mark.kerberos,
    pytest.mark.skipif(bool(kdc_module.missing()), reason=kdc_module.missing() or "-"),
]
# As kadmin's own command language can hold it.
PASSWORD = "Sesame-42"


@pytest.fixture(scope="module")
def center(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kdc]:
    with kdc(tmp_path_factory.mktemp("kdc"), "E2016.TEST") as found, pytest.MonkeyPatch.context() as patch:
        for name, value in found.environment.items():
            patch.setenv(name, value)
        found.kadmin(f"addprinc -pw {PASSWORD} svc-connector")
        found.kadmin("addprinc -randkey HTTP/ex01.e2016.test")
        found.kadmin(f"ktadd -k {found.environment['KRB5_KTNAME']} HTTP/ex01.e2016.test")
        yield found


@pytest.fixture(scope="module", params=[("Negotiate", "NTLM"), ("Kerberos",)], ids=["Negotiate", "Kerberos alone"])
def exchange(
    center: Kdc, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[Organization]:
    with organization(tmp_path_factory.mktemp("authority"), devices=20, authentications=request.param) as found:
        yield found


def count(exchange: Organization, account: Account, *, tls: bool, options: Options | None = None) -> int:
    with connect(exchange.endpoint(tls=tls), account, options or exchange.options) as client:
        return sum(len(page.objects) for page in client.devices())


@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.parametrize("user", ["svc-connector@E2016.TEST", "svc-connector@e2016.test"])
def test_by_password(exchange: Organization, user: str, tls: bool) -> None:
    assert count(exchange, Account(user, PASSWORD, "kerberos"), tls=tls) == 20
    assert exchange.open_shells == 0


def test_by_ticket_cache(exchange: Organization, center: Kdc) -> None:
    subprocess.run(["kinit", "svc-connector@E2016.TEST"], input=PASSWORD.encode(), check=True, capture_output=True)
    try:
        assert count(exchange, Account("svc-connector@E2016.TEST", "", "kerberos"), tls=False) == 20
    finally:
        subprocess.run(["kdestroy"], check=True, capture_output=True)


def failure(exchange: Organization, account: Account) -> ExchangeError:
    with pytest.raises(ExchangeError) as caught:
        count(exchange, account, tls=False)
    return caught.value


def test_a_wrong_password(exchange: Organization) -> None:
    error = failure(exchange, Account("svc-connector@E2016.TEST", "wrong-password-here", "kerberos"))
    assert error.code == "authentication_failed"
    assert "wrong-password-here" not in repr(error) + str(error) + str(error.params) + repr(error.__cause__)


def test_an_unknown_account(exchange: Organization) -> None:
    assert failure(exchange, Account("nobody@E2016.TEST", PASSWORD, "kerberos")).code == "authentication_failed"


def test_no_ticket_and_no_password(exchange: Organization) -> None:
    assert failure(exchange, Account("svc-connector@E2016.TEST", "", "kerberos")).code == "kerberos_failed"


def test_a_realm_that_nobody_serves(exchange: Organization) -> None:
    assert failure(exchange, Account("svc@ELSEWHERE.TEST", PASSWORD, "kerberos")).code == "kerberos_failed"


def test_a_server_without_a_service_principal(exchange: Organization) -> None:
    endpoint = replace(exchange.endpoint(), fqdn="ex77.e2016.test")
    with (
        pytest.raises(ExchangeError) as caught,
        connect(endpoint, Account("svc-connector@E2016.TEST", PASSWORD, "kerberos"), exchange.options),
    ):
        pass
    assert caught.value.code == "kerberos_failed"


def test_clocks_that_differ(exchange: Organization) -> None:
    exchange.fault("clock_skew", 900)
    try:
        assert failure(exchange, Account("svc-connector@E2016.TEST", PASSWORD, "kerberos")).code == "clock_skew"
    finally:
        exchange.settle()

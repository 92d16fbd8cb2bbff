"""EWS answers that mean harm: entities, redirections, a certificate of nobody. The account stays where it belongs."""

from __future__ import annotations

import pyexpat
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from connectors.mail.client import MailAccount, MailOptions
from connectors.mail.errors import MailError
from connectors.mail.opening import open_mailer
from tests.connectors.mail.accounts import message
from tests.connectors.mail.servers import Reply, Site, site
from tests.connectors.mail.test_autodiscover import LAUGHS

EWS = "/ews/exchange.asmx"
FAULT = (
    '<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"><s:Body><s:Fault><faultcode>s:Client</faultcode>'
    "<faultstring>about &b; here</faultstring></s:Fault></s:Body></s:Envelope>"
)


@pytest.fixture
def web(tmp_path: Path) -> Iterator[Site]:
    with site(tmp_path, "mail.contoso.test", "other.test") as found:
        yield found


def failure(web: Site, ca: str = "") -> MailError:
    account = MailAccount(
        "ews", "notify@contoso.test", "C\\notify", "geheim", authentication="basic", address=web.address,
        ews_url="https://mail.contoso.test/EWS/Exchange.asmx",
    )  # fmt: skip
    with open_mailer(account, MailOptions(ca_file=ca or web.ca)) as mailer, pytest.raises(MailError) as caught:
        mailer.send(message("ada@contoso.test"))
    return caught.value


def told(error: MailError) -> str:
    return f"{error!r} {error} {error.params} {error.__cause__!r} {error.__cause__}"


@pytest.mark.parametrize("status", [200, 500])
def test_a_file_of_ours_is_not_read_into_an_error(web: Site, status: int, tmp_path: Path) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("only-ours")
    web.replies[("POST", EWS)] = Reply(status, f"<!DOCTYPE a [<!ENTITY b SYSTEM 'file://{secret}'>]>{FAULT}")
    assert "only-ours" not in told(failure(web))


@pytest.mark.parametrize("status", [200, 500])
def test_a_small_answer_stays_small(web: Site, status: int) -> None:
    web.replies[("POST", EWS)] = Reply(status, LAUGHS)
    started = time.process_time()
    error = failure(web)
    assert time.process_time() - started < 5
    assert len(told(error)) < 10_000


def test_the_xml_parser_of_all_others_stops_entities_that_multiply() -> None:
    """WS-Man's envelopes are read by it; from this version on it gives up an input that grows by a hundred times."""
    assert pyexpat.version_info >= (2, 4, 1)


@pytest.mark.parametrize("target", ["https://other.test/EWS/Exchange.asmx", "http://mail.contoso.test/EWS/x", "/EWS/y"])
@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirection_takes_the_account_nowhere(web: Site, status: int, target: str) -> None:
    web.replies[("POST", EWS)] = Reply(status, headers={"Location": target})
    error = failure(web)
    assert {path for _method, path, _headers in web.seen} == {f"mail.contoso.test{EWS}"}
    assert "geheim" not in told(error)


def test_a_certificate_of_nobody_is_shown_no_account(web: Site, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    with site(tmp_path / "other", "mail.contoso.test") as other:
        error = failure(web, ca=other.ca)
    assert error.code == "mail_certificate"
    assert web.seen == []

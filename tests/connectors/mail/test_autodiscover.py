"""Autodiscover: the documented places in order, what each may answer, and whom the account is shown to."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import dns.resolver
import pytest

from connectors.mail import autodiscover
from connectors.mail.autodiscover import Discovery, discover
from connectors.mail.client import MailAccount, MailOptions
from connectors.mail.errors import MailStopError
from connectors.mail.opening import open_mailer
from tests.connectors.mail.accounts import ews_account, options
from tests.connectors.mail.servers import Reply, Site, site
from tests.labs import Lab

POX = "/autodiscover/autodiscover.xml"
SOAP = "/autodiscover/autodiscover.svc"
OUTLOOK = "http://schemas.microsoft.com/exchange/autodiscover/outlook/responseschema/2006a"
EWS = "https://mail.contoso.test/EWS/Exchange.asmx"


def no_record(name: str) -> tuple[str, int]:
    raise dns.resolver.NXDOMAIN


def pox(inner: str) -> Reply:
    return Reply(
        body='<?xml version="1.0"?><Autodiscover xmlns="http://schemas.microsoft.com/exchange/autodiscover/'
        f'responseschema/2006"><Response xmlns="{OUTLOOK}"><Account>{inner}</Account></Response></Autodiscover>'
    )


def settings(internal: str = "", external: str = "") -> Reply:
    protocols = "".join(
        f"<Protocol><Type>{kind}</Type><EwsUrl>{url}</EwsUrl></Protocol>"
        for kind, url in (("EXCH", internal), ("EXPR", external))
        if url
    )
    return pox(f"<AccountType>email</AccountType><Action>settings</Action>{protocols}")


def soap(code: str, inner: str = "", target: str = "") -> Reply:
    return Reply(
        body='<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"><s:Body><GetUserSettingsResponseMessage '
        'xmlns="http://schemas.microsoft.com/exchange/2010/Autodiscover"><Response><ErrorCode>NoError</ErrorCode>'
        f"<UserResponses><UserResponse><ErrorCode>{code}</ErrorCode><RedirectTarget>{target}</RedirectTarget>"
        f"<UserSettings>{inner}</UserSettings></UserResponse></UserResponses></Response>"
        "</GetUserSettingsResponseMessage></s:Body></s:Envelope>"
    )


def setting(name: str, value: str) -> str:
    return f"<UserSetting><Name>{name}</Name><Value>{value}</Value></UserSetting>"


@pytest.fixture
def web(tmp_path: Path) -> Iterator[Site]:
    with site(tmp_path, "contoso.test", "autodiscover.contoso.test", "other.test", "mail.contoso.test") as found:
        yield found


def look(web: Site, authentication: str = "basic", **changes: object) -> Discovery:
    values: dict[str, object] = {
        "kind": "ews", "sender": "notify@contoso.test", "username": "C\\notify", "password": "geheim",
        "authentication": authentication, "address": web.address,
    }  # fmt: skip
    return discover(MailAccount(**(values | changes)), MailOptions(ca_file=web.ca), service=no_record)  # type: ignore[arg-type]


def test_the_inner_address_comes_first(web: Site) -> None:
    web.replies[("POST", POX)] = settings(EWS, "https://outside.test/EWS/Exchange.asmx")
    found = look(web)
    assert found.ews_url == EWS
    assert found.external_url == "https://outside.test/EWS/Exchange.asmx"
    assert found.source == f"https://contoso.test{POX}"


def test_one_address_is_enough(web: Site) -> None:
    web.replies[("POST", POX)] = settings("", EWS)
    assert look(web).ews_url == EWS
    web.replies[("POST", POX)] = settings(EWS, "")
    assert look(web).ews_url == EWS


def test_an_address_in_clear_http_is_none(web: Site) -> None:
    web.replies[("POST", POX)] = settings("http://mail.contoso.test/EWS/Exchange.asmx")
    web.replies[("POST", SOAP)] = soap("NoError", setting("InternalEwsUrl", EWS))
    found = look(web)
    assert found.ews_url == EWS
    assert found.attempts[0].outcome == "an address that is not https"


def test_the_places_in_order(web: Site) -> None:
    with pytest.raises(MailStopError) as caught:
        look(web, autodiscover_url="https://mail.contoso.test/")
    assert [path for method, path, _ in web.seen if method == "POST"] == [
        f"{name}{path}"
        for name in ("mail.contoso.test", "contoso.test", "autodiscover.contoso.test")
        for path in (POX, SOAP)
    ]
    assert caught.value.code == "mail_address_not_found"
    notes = caught.value.__notes__
    assert len(notes) == 8
    assert notes[-2].startswith("http://autodiscover.contoso.test/")
    assert notes[-1] == "DNS SRV _autodiscover._tcp.contoso.test: NXDOMAIN"


# Nine levels of ten: a few hundred bytes that come to a gigabyte.
LAUGHS = (
    "<!DOCTYPE a [<!ENTITY e0 'ha'>"
    + "".join(f"<!ENTITY e{n} '{f'&e{n - 1};' * 10}'>" for n in range(1, 10))
    + "]><a>&e9;</a>"
)
ANSWERS: dict[str, tuple[Reply, str]] = {
    "an error of POX": (Reply(body="<A xmlns='urn:x'><ErrorCode>600</ErrorCode></A>"), "error 600"),
    "no XML": (Reply(body="<html><br>"), "an answer that is not Autodiscover's"),
    "entities": (Reply(body="<!DOCTYPE a [<!ENTITY b 'c'>]><a>&b;</a>"), "an answer that is not Autodiscover's"),
    "entities, after much": (Reply(body=f"<!--{'x' * 9000}-->{LAUGHS}"), "an answer that is not Autodiscover's"),
    "entities in UTF-16": (Reply(body=LAUGHS.encode("utf-16")), "an answer that is not Autodiscover's"),
    "a file of ours": (
        Reply(body="<!DOCTYPE a [<!ENTITY b SYSTEM 'file:///etc/passwd'>]><a>&b;</a>"),
        "an answer that is not Autodiscover's",
    ),
    "more than any answer": (Reply(body="<a>" + " " * 2_000_000 + "</a>"), "an answer that is not Autodiscover's"),
    "no EWS": (settings(), "no EWS address"),
    "not there": (Reply(404), "something else than EWS answers here (HTTP 404)"),
    "broken": (Reply(500), "the server failed (HTTP 500)"),
}


@pytest.mark.parametrize("case", ANSWERS.values(), ids=ANSWERS.keys())
def test_what_does_not_help_is_told_and_passed_over(web: Site, case: tuple[Reply, str]) -> None:
    reply, outcome = case
    web.replies[("POST", f"contoso.test{POX}")] = reply
    web.replies[("POST", f"autodiscover.contoso.test{POX}")] = settings(EWS)
    found = look(web)
    assert found.ews_url == EWS
    assert found.attempts[0].outcome == outcome


def test_an_answer_that_drips_for_ever_is_given_up(web: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(autodiscover, "ANSWER_TIMEOUT", -1.0)
    web.replies[("POST", POX)] = settings(EWS)
    with pytest.raises(MailStopError) as caught:
        look(web)
    assert caught.value.code == "mail_address_not_found"
    assert len(web.seen) == 4


def test_soap_where_pox_does_not_answer(web: Site) -> None:
    web.replies[("POST", SOAP)] = soap("NoError", setting("InternalEwsUrl", "") + setting("ExternalEwsUrl", EWS))
    assert look(web).source == f"https://contoso.test{SOAP}"
    web.replies[("POST", SOAP)] = soap("InvalidUser")
    with pytest.raises(MailStopError) as caught:
        look(web)
    assert any("error InvalidUser" in note for note in caught.value.__notes__)


REDIRECTS: dict[str, Reply] = {
    "HTTP": Reply(302, headers={"Location": f"https://other.test{POX}"}),
    "POX, another URL": pox(f"<Action>redirectUrl</Action><RedirectUrl>https://other.test{POX}</RedirectUrl>"),
    "POX, another address": pox("<Action>redirectAddr</Action><RedirectAddr>notify@other.test</RedirectAddr>"),
}


@pytest.mark.parametrize("reply", REDIRECTS.values(), ids=REDIRECTS.keys())
def test_redirections_of_a_server_we_trust_are_followed(web: Site, reply: Reply) -> None:
    web.replies[("POST", f"contoso.test{POX}")] = reply
    web.replies[("POST", f"other.test{POX}")] = settings(EWS)
    assert look(web).source == f"https://other.test{POX}"


def test_redirections_of_soap_are_followed(web: Site) -> None:
    web.replies[("POST", f"other.test{POX}")] = settings(EWS)
    for reply in (
        soap("RedirectAddress", target="x@other.test"),
        soap("RedirectUrl", target=f"https://other.test{POX}"),
    ):
        web.replies[("POST", f"contoso.test{SOAP}")] = reply
        assert look(web).ews_url == EWS


def test_a_redirection_to_clear_http_is_not_followed(web: Site) -> None:
    web.replies[("POST", f"contoso.test{POX}")] = Reply(302, headers={"Location": f"http://other.test{POX}"})
    with pytest.raises(MailStopError) as caught:
        look(web)
    assert any("not https, not followed" in note for note in caught.value.__notes__)
    assert not any("other.test" in path for _, path, _ in web.seen)


def test_redirections_end(web: Site) -> None:
    for number in range(30):
        target = f"https://other.test/{number + 1}.xml"
        web.replies[("POST", f"/{number}.xml")] = Reply(302, headers={"Location": target})
    web.replies[("POST", f"contoso.test{POX}")] = Reply(302, headers={"Location": "https://other.test/0.xml"})
    with pytest.raises(MailStopError) as caught:
        look(web)
    assert any("too many redirections" in note for note in caught.value.__notes__)
    assert len([path for _, path, _ in web.seen if path.startswith("other.test/")]) == 10


def test_a_circle_ends(web: Site) -> None:
    web.replies[("POST", POX)] = Reply(302, headers={"Location": f"https://contoso.test{POX}"})
    with pytest.raises(MailStopError):
        look(web)
    assert len(web.seen) < 8


def test_the_account_is_shown_to_who_asks_for_it_in_its_way(web: Site) -> None:
    web.replies[("POST", f"contoso.test{POX}")] = Reply(401, headers={"WWW-Authenticate": "NTLM"})
    with pytest.raises(MailStopError):
        look(web)
    assert not any("Authorization" in headers for _, _, headers in web.seen)
    web.replies[("POST", f"contoso.test{POX}")] = Reply(401, headers={"WWW-Authenticate": 'Basic realm="x"'})
    with pytest.raises(MailStopError) as caught:
        look(web)
    assert [path for _, path, headers in web.seen if "Authorization" in headers] == [f"contoso.test{POX}"]
    assert caught.value.code == "mail_sign_in_failed"
    assert "geheim" not in f"{caught.value!r} {caught.value} {caught.value.params}"


OUTSIDE = "not in the domain, not followed; name it yourself"
CLEAR: dict[str, tuple[str, str]] = {
    "within the domain": (f"https://mail.contoso.test{POX}", "redirected"),
    "anywhere else": (f"https://evil.test{POX}", f"sends to evil.test: {OUTSIDE}"),
    "a name that only ends alike": (f"https://evilcontoso.test{POX}", f"sends to evilcontoso.test: {OUTSIDE}"),
    "clear again": (
        f"http://mail.contoso.test{POX}", f"sends to http://mail.contoso.test{POX}: not https, not followed"),
}  # fmt: skip


@pytest.mark.parametrize("case", CLEAR.values(), ids=CLEAR.keys())
def test_what_comes_in_the_clear_is_followed_within_the_domain(tmp_path: Path, case: tuple[str, str]) -> None:
    target, outcome = case
    with site(tmp_path) as clear:
        clear.replies[("GET", POX)] = Reply(302, headers={"Location": target})
        with pytest.raises(MailStopError) as caught:
            look(clear)
    assert any(note == f"http://autodiscover.contoso.test{POX}: {outcome}" for note in caught.value.__notes__)
    assert not any("Authorization" in headers for _, _, headers in clear.seen)


def test_the_service_record(web: Site) -> None:
    account = MailAccount("ews", "notify@contoso.test", "C\\notify", "x", address=web.address)
    web.replies[("POST", f"mail.contoso.test{POX}")] = settings(EWS)
    found = discover(account, MailOptions(ca_file=web.ca), service=lambda name: ("mail.contoso.test", 443))
    assert found.source == f"https://mail.contoso.test{POX}"
    with pytest.raises(MailStopError) as caught:
        discover(account, MailOptions(ca_file=web.ca), service=lambda name: ("mail.evil.test", 443))
    assert "not in the domain" in caught.value.__notes__[-1]


@pytest.mark.wire
@pytest.mark.parametrize("authentication", ["ntlm", "basic"])
@pytest.mark.parametrize("version", ["2010", "SE"])
def test_the_lab_is_found(lab: Lab, version: str, authentication: str) -> None:
    organization = lab.organization(version)
    port = organization.servers[0].https_port
    expected = f"https://127.0.0.1:{port}/EWS/Exchange.asmx"
    usual = ews_account(organization, ews_url="", address=f"127.0.0.1:{port}", authentication=authentication)
    assert discover(usual, options(lab), service=no_record).ews_url == expected
    named = ews_account(organization, ews_url="", autodiscover_url=f"https://127.0.0.1:{port}")
    with open_mailer(named, options(lab)) as mailer:
        assert all(check.is_ok for check in mailer.verify())
        assert mailer.ews_url == expected


@pytest.mark.wire
def test_a_wrong_password_is_told_as_such(lab: Lab) -> None:
    organization = lab.organization("2016")
    port = organization.servers[0].https_port
    account = ews_account(organization, ews_url="", address=f"127.0.0.1:{port}", password="wrong")
    with pytest.raises(MailStopError) as caught:
        discover(account, options(lab), service=no_record)
    assert caught.value.code == "mail_sign_in_failed"

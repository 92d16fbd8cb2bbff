"""Mail by EWS against the lab: it arrives, every failure has its name, and what may have been sent is found again."""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterator

import pytest
from exchangelib.protocol import CachingProtocol

from connectors.mail.client import MailAccount, MailOptions
from connectors.mail.errors import (
    MailError,
    MailOutcomeUnknownError,
    MailRefusedError,
    MailStopError,
    MailTransientError,
)
from connectors.mail.opening import open_mailer
from connectors.mail.translate import RESPONSE_CODES, UnexpectedStatusError, translate
from tests.connectors.mail.accounts import ews_account, message, options
from tests.labs import VERSIONS, Lab, Organization

pytestmark = pytest.mark.wire


@pytest.fixture
def organization(lab: Lab) -> Iterator[Organization]:
    yield lab.organization("SE")
    lab.reset()


def person(organization: Organization, index: int = 0) -> str:
    return str(organization.mailboxes()[index]["smtp"])


def failure(lab: Lab, account: MailAccount, to: str, **changes: object) -> MailError:
    with open_mailer(account, options(lab, **changes)) as mailer, pytest.raises(MailError) as caught:
        mailer.send(message(to))
    return caught.value


@pytest.mark.parametrize("authentication", ["ntlm", "negotiate", "basic"])
@pytest.mark.parametrize("version", VERSIONS)
def test_a_mail_arrives_in_every_version(lab: Lab, version: str, authentication: str) -> None:
    organization = lab.organization(version)
    account = ews_account(organization, authentication=authentication)
    if authentication == "ntlm":
        account = ews_account(organization, username=account.sender)  # name@domain signs in, too
    to = person(organization)
    mail = message(to)
    with open_mailer(account, options(lab)) as mailer:
        receipt = mailer.send(mail)
        assert mailer.find_sent(mail.message_id)
        assert not mailer.find_sent(message(to).message_id)
    assert (receipt.message_id, receipt.server) == (mail.message_id, "127.0.0.1")
    got = organization.messages(to)[-1]
    assert (got["subject"], got["body"], got["body_type"]) == (mail.subject, mail.html, "HTML")
    assert (got["sender"], got["recipients"], got["message_id"]) == (account.sender, [to], mail.message_id)
    assert [one["message_id"] for one in organization.messages("notify")].count(mail.message_id) == 1


def test_several_mails_in_one_session(lab: Lab, organization: Organization) -> None:
    people = [str(row["smtp"]) for row in organization.mailboxes()[:3]]
    with open_mailer(ews_account(organization), options(lab)) as mailer:
        mails = [message(to) for to in people]
        for mail in mails:
            mailer.send(mail)
    for to, mail in zip(people, mails, strict=True):
        assert organization.messages(to)[-1]["message_id"] == mail.message_id


def test_checks(lab: Lab, organization: Organization) -> None:
    before = len(organization.messages("notify"))
    with open_mailer(ews_account(organization), options(lab)) as mailer:
        checks = mailer.verify()
    assert [(check.name, check.is_ok) for check in checks] == [
        ("address", True), ("connection", True), ("sign_in", True), ("sender", True),
    ]  # fmt: skip
    assert checks[1].detail == "15.2.2562.17"
    assert len(organization.messages("notify")) == before


CHECKS: dict[str, tuple[dict[str, object], str, str]] = {
    "wrong password": ({"password": "wrong"}, "sign_in", "mail_sign_in_failed"),
    "no such user": ({"username": "SE\\nobody"}, "sign_in", "mail_sign_in_failed"),
    "somebody else's mailbox": ({"sender": "administrator@elsewhere.test"}, "sender", "mail_no_mailbox"),
    "no EWS there": ({"path": "/owa/"}, "connection", "mail_not_ews"),
    "nobody listens": ({"port": 0}, "connection", "mail_unreachable"),
    "clear http": ({"scheme": "http"}, "address", "mail_bad_settings"),
    "no address": ({"ews_url": "https://"}, "address", "mail_bad_settings"),
    "a way that there is not": ({"authentication": "digest"}, "address", "mail_bad_settings"),
    "Kerberos for DOMAIN\\name": ({"authentication": "kerberos"}, "address", "mail_bad_settings"),
}


@pytest.mark.parametrize("case", CHECKS.values(), ids=CHECKS.keys())
def test_a_check_that_fails_is_the_last(
    lab: Lab, organization: Organization, case: tuple[dict[str, object], str, str]
) -> None:
    changes, name, code = case
    values = dict(changes)
    if place := {"path", "port", "scheme"} & values.keys():
        port = _free_port() if "port" in place else organization.servers[0].https_port
        path = values.pop("path", "/EWS/Exchange.asmx")
        values["ews_url"] = f"{values.pop('scheme', 'https')}://127.0.0.1:{port}{path}"
        values.pop("port", None)
    account = ews_account(organization, **values)
    with open_mailer(account, options(lab)) as mailer:
        checks = mailer.verify()
    assert checks[-1].error is not None
    assert (checks[-1].name, checks[-1].is_ok, checks[-1].error.code) == (name, False, code)
    assert all(check.is_ok for check in checks[:-1])


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_a_wrong_password_is_tried_once(lab: Lab, organization: Organization) -> None:
    account = ews_account(organization, password="wrong")
    before = _requests(lab, organization)
    error = failure(lab, account, person(organization))
    assert (type(error), error.code) == (MailStopError, "mail_sign_in_failed")
    # NTLM: one without sign-in, one for the challenge, one with the answer to it.
    assert _requests(lab, organization) - before == 3


def _requests(lab: Lab, organization: Organization) -> int:
    counts = lab.call("GET", "")["servers"]
    return sum(int(counts[server.fqdn]["requests"]) for server in organization.servers)


# --- answers of Exchange's ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("response_code", sorted(RESPONSE_CODES))
def test_every_response_code_has_its_error(lab: Lab, organization: Organization, response_code: str) -> None:
    kind, code = RESPONSE_CODES[response_code]
    to = person(organization)
    before = len(organization.messages(to))
    with lab.fault("ews_error", cmdlet="CreateItem", value=response_code):
        error = failure(lab, ews_account(organization), to)
    assert (type(error), error.code) == (kind, code)
    assert error.remote_text.startswith(response_code)
    assert len(organization.messages(to)) == before


@pytest.mark.parametrize("response_code", ["ErrorInternalServerTransientError", "ErrorTooManyObjectsOpened"])
def test_what_the_library_takes_for_a_busy_server(lab: Lab, organization: Organization, response_code: str) -> None:
    with lab.fault("ews_error", cmdlet="CreateItem", value=response_code):
        error = failure(lab, ews_account(organization), person(organization))
    assert (type(error), error.code) == (MailTransientError, "mail_server_busy")


def test_a_code_that_we_do_not_know_refuses_this_mail(lab: Lab, organization: Organization) -> None:
    with lab.fault("ews_error", cmdlet="CreateItem", value="ErrorInvalidPropertySet"):
        error = failure(lab, ews_account(organization), person(organization))
    assert (type(error), error.code) == (MailRefusedError, "mail_message_refused")
    assert "ErrorInvalidPropertySet" in error.remote_text


def test_a_busy_server_names_its_time(lab: Lab, organization: Organization) -> None:
    with lab.fault("ews_fault", cmdlet="CreateItem", value="ErrorServerBusy:5000"):
        error = failure(lab, ews_account(organization), person(organization))
    assert isinstance(error, MailTransientError)
    assert (error.code, error.retry_after) == ("mail_server_busy", 5.0)
    with lab.fault("ews_error", cmdlet="CreateItem", value="ErrorSubmissionQuotaExceeded"):
        error = failure(lab, ews_account(organization), person(organization))
    assert isinstance(error, MailTransientError)
    assert error.retry_after == 900.0


STATUSES: dict[str, tuple[str, type[MailError], str]] = {
    "503": ("503", MailTransientError, "mail_server_busy"),
    "429": ("429", MailTransientError, "mail_server_busy"),
    "500": ("500", MailTransientError, "mail_server_failed"),
    "504": ("504", MailTransientError, "mail_server_failed"),
    "401": ("401", MailStopError, "mail_sign_in_failed"),
    "403": ("403", MailStopError, "mail_not_ews"),
    "404": ("404", MailStopError, "mail_not_ews"),
    "456": ("456", MailStopError, "mail_account_disabled"),
}


@pytest.mark.parametrize("case", STATUSES.values(), ids=STATUSES.keys())
def test_a_status_before_anything_was_sent(
    lab: Lab, organization: Organization, case: tuple[str, type[MailError], str]
) -> None:
    status, kind, code = case
    with lab.fault("status", cmdlet="ews", value=status):
        error = failure(lab, ews_account(organization, authentication="basic"), person(organization))
    assert (type(error), error.code) == (kind, code)


def test_a_failure_over_the_mail_itself_leaves_it_open(lab: Lab, organization: Organization) -> None:
    with open_mailer(ews_account(organization), options(lab)) as mailer:
        mailer.verify()
        with lab.fault("status", cmdlet="ews", value="504"), pytest.raises(MailOutcomeUnknownError) as caught:
            mailer.send(message(person(organization)))
    assert caught.value.because == "mail_server_failed"


def test_a_redirection_is_not_followed(lab: Lab, organization: Organization) -> None:
    with lab.fault("redirect", cmdlet="ews", value="https://127.0.0.1:1/owa"):
        error = failure(lab, ews_account(organization), person(organization))
    assert error.code == "mail_not_ews"


def test_a_sign_in_that_the_server_does_not_go_on_with(lab: Lab, organization: Organization) -> None:
    """As behind a load balancer that mixes connections: NTLM is offered, and its first message finds nobody."""
    with lab.fault("status", cmdlet="ews", value="401"):
        error = failure(lab, ews_account(organization), person(organization))
    assert (type(error), error.code) == (MailStopError, "mail_sign_in_not_offered")


OFFERED: dict[str, tuple[str, str, str]] = {
    "none that fits": ("Negotiate, NTLM", "basic", "mail_sign_in_not_offered"),
    "the one": ('Negotiate, Basic realm="mail"', "basic", "mail_sign_in_failed"),
    "NTLM under its other name": ("Negotiate", "ntlm", "mail_sign_in_failed"),
    "a token of a sign-in under way": ("Negotiate TlRMTVNTUAACAAAABASIC=", "kerberos", "mail_sign_in_failed"),
    "nothing said": ("", "basic", "mail_sign_in_failed"),
}


@pytest.mark.parametrize("case", OFFERED.values(), ids=OFFERED.keys())
def test_what_a_refusal_offers(case: tuple[str, str, str]) -> None:
    offered, authentication, code = case
    error = translate(UnexpectedStatusError(401, offered=offered), server="x", authentication=authentication)
    assert error.code == code


# --- what may have been sent --------------------------------------------------------------------------------------


def test_a_lost_outcome_is_found_again(lab: Lab, organization: Organization) -> None:
    to = person(organization, 1)
    mail = message(to)
    with open_mailer(ews_account(organization), options(lab)) as mailer:
        with lab.fault("outcome_lost", cmdlet="CreateItem"), pytest.raises(MailOutcomeUnknownError) as caught:
            mailer.send(mail)
        assert caught.value.because == "mail_unreachable"
        assert mailer.find_sent(mail.message_id)
    assert [one["message_id"] for one in organization.messages(to)].count(mail.message_id) == 1


def test_silence_after_the_mail_leaves_it_open(lab: Lab, organization: Organization) -> None:
    mail = message(person(organization, 1))
    with open_mailer(ews_account(organization), options(lab, read_timeout=1.0)) as mailer:
        mailer.verify()
        with lab.fault("outcome_lost", cmdlet="CreateItem", value=2), pytest.raises(MailOutcomeUnknownError):
            mailer.send(mail)
        assert mailer.find_sent(mail.message_id)


def test_what_was_not_taken_is_not_found(lab: Lab, organization: Organization) -> None:
    mail = message(person(organization, 1))
    with open_mailer(ews_account(organization), options(lab)) as mailer:
        mailer.verify()
        with lab.fault("drop", cmdlet="ews"), pytest.raises(MailOutcomeUnknownError):
            mailer.send(mail)
        assert not mailer.find_sent(mail.message_id)
        mailer.send(mail)
        assert mailer.find_sent(mail.message_id)


def test_a_broken_connection_before_the_mail_has_sent_nothing(lab: Lab, organization: Organization) -> None:
    with lab.fault("drop", cmdlet="ews"):
        error = failure(lab, ews_account(organization), person(organization))
    assert (type(error), error.code) == (MailTransientError, "mail_unreachable")


# --- accounts are apart, and secrets stay ---------------------------------------------------------------------------


def test_one_account_s_authority_vouches_for_no_other(lab: Lab, organization: Organization) -> None:
    account = ews_account(organization)
    with open_mailer(account, options(lab)) as trusting, open_mailer(account, MailOptions()) as other:
        assert all(check.is_ok for check in trusting.verify())
        error = other.verify()[-1].error
    assert error is not None
    assert error.code == "mail_certificate"


def test_certificates_are_checked_against_the_name(lab: Lab, organization: Organization) -> None:
    server = organization.servers[0]
    for name, code in ((server.fqdn, ""), ("mail.elsewhere.test", "mail_certificate")):
        url = f"https://{name}:{server.https_port}/EWS/Exchange.asmx"
        with open_mailer(ews_account(organization, ews_url=url, address="127.0.0.1"), options(lab)) as mailer:
            last = mailer.verify()[-1]
        assert (last.error.code if last.error else "") == code


def test_no_secret_is_told(lab: Lab, organization: Organization, caplog: pytest.LogCaptureFixture) -> None:
    account = ews_account(organization, authentication="basic")
    with caplog.at_level(logging.DEBUG), open_mailer(account, options(lab)) as mailer:
        mailer.send(message(person(organization)))
        with lab.fault("status", cmdlet="ews", value="401"), pytest.raises(MailError) as caught:
            mailer.send(message(person(organization)))
    told = f"{account!r} {mailer!r} {caught.value!r} {caught.value} {caught.value.params} {caplog.text}"
    assert account.password not in told
    assert "Authorization" not in told
    kept = [key for key in CachingProtocol._protocol_cache if key[1] is not None]
    assert kept == []

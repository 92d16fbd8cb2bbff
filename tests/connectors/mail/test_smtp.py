"""Mail by SMTP against the lab: TLS, sign-in, what each refusal means, and when a mail may have been taken."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from connectors.mail.client import MailAccount, MailOptions
from connectors.mail.errors import (
    MailError,
    MailOutcomeUnknownError,
    MailRefusedError,
    MailStopError,
    MailTransientError,
)
from connectors.mail.opening import open_mailer
from tests.connectors.mail.accounts import message, options, smtp_account
from tests.labs import Lab, Organization

pytestmark = pytest.mark.wire


@pytest.fixture
def organization(lab: Lab) -> Iterator[Organization]:
    yield lab.organization("2019")
    lab.reset()


def person(organization: Organization, index: int = 0) -> str:
    return str(organization.mailboxes()[index]["smtp"])


def failure(lab: Lab, account: MailAccount, to: str, **changes: object) -> MailError:
    with open_mailer(account, options(lab, **changes)) as mailer, pytest.raises(MailError) as caught:
        mailer.send(message(to))
    return caught.value


SECURITIES = {"starttls": "port", "tls": "tls_port", "none": "port"}


@pytest.mark.parametrize("security", SECURITIES)
def test_a_mail_arrives(lab: Lab, organization: Organization, security: str) -> None:
    is_anonymous = {"username": "", "password": ""} if security == "none" else {}
    port = organization.row["smtp"][SECURITIES[security]]
    account = smtp_account(organization, security=security, smtp_port=port, **is_anonymous)
    to = person(organization)
    mail = message(to)
    with open_mailer(account, options(lab)) as mailer:
        receipt = mailer.send(mail)
        assert not mailer.can_find_sent
    assert receipt.remote_text == "2.6.0 Queued mail for delivery"
    got = organization.messages(to)[-1]
    assert (got["subject"], got["body"].strip(), got["body_type"]) == (mail.subject, mail.html, "HTML")
    # A line that begins with a dot among them.
    assert got["text"].replace("\r\n", "\n") == mail.text
    assert got["message_id"] == mail.message_id
    headers = got["headers"]
    assert headers["From"] == f"Geräte-Hinweise 裝置 <{account.sender}>"
    assert (headers["Auto-Submitted"], headers["X-Auto-Response-Suppress"]) == ("auto-generated", "All")
    assert headers["Content-Type"].startswith("multipart/alternative")


def test_several_mails_in_one_session_and_one_that_is_refused(lab: Lab, organization: Organization) -> None:
    to = person(organization)
    with open_mailer(smtp_account(organization), options(lab)) as mailer:
        mailer.send(message(to))
        with pytest.raises(MailRefusedError):
            mailer.send(message(f"nobody@{organization.domain}"))
        last = message(to)
        mailer.send(last)
    assert organization.messages(to)[-1]["message_id"] == last.message_id


def test_nothing_can_be_injected(lab: Lab, organization: Organization) -> None:
    to = person(organization)
    account = smtp_account(organization, sender_name="Gate\r\nBcc: x@y.test")
    mail = message(to, subject="a\r\nBcc: x@y.test\n\nbody\x00", text="a\r\n.\r\nMAIL FROM:<x@y.test>\r\n")
    with open_mailer(account, options(lab)) as mailer:
        mailer.send(mail)
    got = organization.messages(to)[-1]
    assert got["subject"] == "a Bcc: x@y.test body"
    assert "Bcc" not in got["headers"]
    assert got["recipients"] == [to]
    assert "MAIL FROM" in got["text"]


@pytest.mark.parametrize("to", ["a@b.test\r\nRCPT TO:<x@y.test>", "a b@c.test", "<a@b.test>", "a@b@c.test", "a", ""])
def test_an_address_that_is_none_is_refused_before_anything_is_sent(to: str) -> None:
    with pytest.raises(MailRefusedError) as caught:
        message(to)
    assert caught.value.code == "mail_recipient_refused"


def test_checks(lab: Lab, organization: Organization) -> None:
    with open_mailer(smtp_account(organization), options(lab)) as mailer:
        checks = mailer.verify()
        assert [(check.name, check.is_ok) for check in checks] == [
            ("connection", True), ("sign_in", True), ("sender", True),
        ]  # fmt: skip
        assert "TLSv1" in checks[0].detail
        mailer.send(message(person(organization)))


SETTINGS: dict[str, tuple[dict[str, object], str, type[MailError], str]] = {
    "wrong password": ({"password": "wrong"}, "sign_in", MailStopError, "mail_sign_in_failed"),
    "signs in without TLS": ({"security": "none"}, "sign_in", MailStopError, "mail_sign_in_not_offered"),
    "somebody else": ({"sender": "boss@e2019.lab"}, "sender", MailStopError, "mail_send_as_denied"),
    "another name in the certificate": (
        {"smtp_host": "smtp.elsewhere.test"}, "connection", MailStopError, "mail_certificate"),
    "TLS where none is spoken": ({"security": "tls"}, "connection", MailTransientError, "mail_unreachable"),
    "no such security": ({"security": "maybe"}, "connection", MailStopError, "mail_bad_settings"),
    "nobody listens": ({"smtp_port": 1}, "connection", MailTransientError, "mail_unreachable"),
}  # fmt: skip


@pytest.mark.parametrize("case", SETTINGS.values(), ids=SETTINGS.keys())
def test_settings_that_do_not_fit(
    lab: Lab, organization: Organization, case: tuple[dict[str, object], str, type[MailError], str]
) -> None:
    changes, name, kind, code = case
    account = smtp_account(organization, **changes)
    error = failure(lab, account, person(organization))
    assert (type(error), error.code, error.server) == (kind, code, account.smtp_host)
    with open_mailer(account, options(lab)) as mailer:
        last = mailer.verify()[-1]
    assert (last.name, last.is_ok, last.error.code if last.error else "") == (name, False, code)


def test_no_authority_no_mail(organization: Organization) -> None:
    with open_mailer(smtp_account(organization), MailOptions()) as mailer, pytest.raises(MailStopError) as caught:
        mailer.send(message(person(organization)))
    assert caught.value.code == "mail_certificate"


def test_no_password_leaves_without_tls() -> None:
    account = MailAccount("smtp", "a@b.test", "a", "b", smtp_host="mail.b.test", security="none", address="192.0.2.1")
    with open_mailer(account) as mailer, pytest.raises(MailStopError) as caught:
        mailer.send(message("x@y.test"))
    assert caught.value.code == "mail_tls_missing"


def test_who_has_not_signed_in_writes_to_the_organization_s_people_alone(lab: Lab, organization: Organization) -> None:
    account = smtp_account(organization, username="", password="")
    with open_mailer(account, options(lab)) as mailer:
        mailer.send(message(person(organization)))
    error = failure(lab, account, "someone@elsewhere.test")
    assert (type(error), error.code) == (MailStopError, "mail_send_as_denied")


REPLIES: dict[str, tuple[str, str, type[MailError], str]] = {
    "greeting: not now": ("greeting", "421 4.3.2 Service not available", MailTransientError, "mail_server_busy"),
    "greeting: never": ("greeting", "554 5.7.1 Go away", MailStopError, "mail_request_refused"),
    "sign-in: not now": ("auth", "454 4.7.0 Temporary failure", MailTransientError, "mail_server_busy"),
    "sign-in: wrong": ("auth", "535 5.7.3 Authentication unsuccessful", MailStopError, "mail_sign_in_failed"),
    "sender: full": ("mail", "452 4.3.1 Insufficient resources", MailTransientError, "mail_server_busy"),
    "sender: not yours": ("mail", "550 5.7.60 no permission", MailStopError, "mail_send_as_denied"),
    "recipient: later": ("rcpt", "450 4.7.1 Greylisted", MailTransientError, "mail_deferred"),
    "recipient: unknown": ("rcpt", "550 5.1.1 User unknown", MailRefusedError, "mail_recipient_refused"),
    "recipient: no relaying": ("rcpt", "550 5.7.1 Unable to relay", MailStopError, "mail_send_as_denied"),
    "data: not now": ("data", "451 4.3.0 Later", MailTransientError, "mail_server_busy"),
    "mail: not now": ("message", "452 4.3.1 Later", MailTransientError, "mail_server_busy"),
    "mail: too large": ("message", "552 5.3.4 Too large", MailRefusedError, "mail_message_refused"),
    "mail: spam": ("message", "554 5.7.1 Spam", MailRefusedError, "mail_message_refused"),
}


@pytest.mark.parametrize("case", REPLIES.values(), ids=REPLIES.keys())
def test_replies(lab: Lab, organization: Organization, case: tuple[str, str, type[MailError], str]) -> None:
    step, reply, kind, code = case
    to = person(organization)
    before = len(organization.messages(to))
    with open_mailer(smtp_account(organization), options(lab)) as mailer:
        with lab.fault("smtp_reply", cmdlet=step, value=reply), pytest.raises(MailError) as caught:
            mailer.send(message(to))
        assert (type(caught.value), caught.value.code) == (kind, code)
        assert caught.value.remote_text == reply
        assert len(organization.messages(to)) == before
        mailer.send(message(to))
    assert len(organization.messages(to)) == before + 1


@pytest.mark.parametrize("step", ["greeting", "auth", "mail", "rcpt", "data"])
def test_a_connection_that_breaks_before_the_mail_has_sent_nothing(
    lab: Lab, organization: Organization, step: str
) -> None:
    to = person(organization)
    before = len(organization.messages(to))
    with open_mailer(smtp_account(organization), options(lab)) as mailer:
        with lab.fault("smtp_drop", cmdlet=step), pytest.raises(MailTransientError) as caught:
            mailer.send(message(to))
        assert caught.value.code == "mail_unreachable"
        assert len(organization.messages(to)) == before
        mailer.send(message(to))


@pytest.mark.parametrize("wait", ["", "2"], ids=["drop", "silence"])
def test_a_lost_outcome_stays_open(lab: Lab, organization: Organization, wait: str) -> None:
    to = person(organization)
    mail = message(to)
    with open_mailer(smtp_account(organization), options(lab, read_timeout=1.0)) as mailer:
        with lab.fault("outcome_lost", cmdlet="message", value=wait), pytest.raises(MailOutcomeUnknownError) as caught:
            mailer.send(mail)
        assert caught.value.because == "mail_unreachable"
        with pytest.raises(NotImplementedError):
            mailer.find_sent(mail.message_id)
        # Sent again it comes twice, and whoever gets it can tell by its id.
        mailer.send(mail)
    assert [one["message_id"] for one in organization.messages(to)].count(mail.message_id) == 2


def test_no_secret_is_told(lab: Lab, organization: Organization, caplog: pytest.LogCaptureFixture) -> None:
    account = smtp_account(organization)
    wrong = smtp_account(organization, password="a-wrong-one")
    with caplog.at_level(logging.DEBUG):
        with open_mailer(account, options(lab)) as mailer:
            mailer.send(message(person(organization)))
        error = failure(lab, wrong, person(organization))
    told = f"{account!r} {mailer!r} {error!r} {error} {error.params} {caplog.text}"
    assert account.password not in told
    assert "a-wrong-one" not in told


def test_a_kind_that_there_is_not() -> None:
    with pytest.raises(MailStopError) as caught, open_mailer(MailAccount("pigeon", "a@b.test")):
        pass
    assert caught.value.code == "mail_bad_settings"

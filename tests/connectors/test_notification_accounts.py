"""Notification accounts: what is refused, what is kept of a password, and how one is opened and tried."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
from cryptography.fernet import Fernet
from django.core.exceptions import ValidationError
from pytest_django import Settings

from connectors.actors import SETUP
from connectors.mail.client import Check, MailAccount, Mailer, MailOptions, Message, Receipt
from connectors.mail.errors import MailError, MailStopError
from connectors.models import ExchangeOrganization, NotificationAccount
from connectors.notification_accounts import (
    NotificationAccountSettings,
    account_outcome_note,
    mail_account_of,
    mailer_for,
    notification_account_configure,
    notification_account_of,
    notification_account_test,
)
from connectors.secrets import Secret
from tests.connectors import factories

pytestmark = pytest.mark.django_db

CA, CA_KEY = factories.authority()
EWS = NotificationAccountSettings(
    channel="ews", sender="phones@contoso.com", username="CONTOSO\\phones", password=Secret("first secret")
)
SMTP = NotificationAccountSettings(
    channel="smtp", sender="phones@contoso.com", username="phones", password=Secret("x"), smtp_host="mail.contoso.com"
)


@pytest.fixture
def organization() -> ExchangeOrganization:
    return factories.organization("Mail", of="Contoso")


def configure(organization: ExchangeOrganization, settings: NotificationAccountSettings) -> NotificationAccount:
    return notification_account_configure(organization=organization, settings=settings, actor=SETUP)


def refused(organization: ExchangeOrganization, settings: NotificationAccountSettings) -> dict[str, list[str]]:
    with pytest.raises(ValidationError) as refusal:
        configure(organization, settings)
    return dict(refusal.value.message_dict)


class TestConfigure:
    @pytest.mark.parametrize(
        ("settings", "field", "sentence"),
        [
            (replace(EWS, channel="fax"), "channel", "Choose one of: none, ews, smtp"),
            (replace(EWS, sender="phones"), "sender", "“phones” is not a mail address"),
            (replace(EWS, username=" "), "username", "need an account"),
            (replace(EWS, password=Secret("")), "password", "only Kerberos can sign in without one"),
            (replace(EWS, authentication="digest"), "authentication", "Choose one of: kerberos"),
            (replace(EWS, ews_url="http://mail.contoso.com/EWS"), "ews_url", "begins with https://"),
            (replace(EWS, ews_url="mail.contoso.com"), "ews_url", "EWS/Exchange.asmx"),
            (replace(EWS, ews_url="https://a:b@mail.contoso.com/"), "ews_url", "begins with https://"),
            (replace(EWS, autodiscover_url="https://"), "autodiscover_url", "autodiscover.xml"),
            (replace(EWS, ca_certificates="nonsense"), "ca_certificates", "not a certificate in PEM form"),
            (replace(SMTP, smtp_host="https://mail.contoso.com"), "smtp_host", "address of a page"),
            (replace(SMTP, smtp_host=""), "smtp_host", "not a host name"),
            (replace(SMTP, smtp_port=0), "smtp_port", "not between 1 and 65535"),
            (replace(SMTP, smtp_port=70000), "smtp_port", "587 with STARTTLS"),
            (replace(SMTP, smtp_security="ssl3"), "smtp_security", "Choose one of: none, starttls, tls"),
            (replace(SMTP, smtp_security="none"), "smtp_security", "would go readable over the network"),
            (replace(SMTP, password=Secret("")), "password", "leave the account empty"),
        ],
    )
    def test_refused(
        self, organization: ExchangeOrganization, settings: NotificationAccountSettings, field: str, sentence: str
    ) -> None:
        found = refused(organization, settings)
        assert list(found) == [field]
        assert sentence in found[field][0]
        assert not NotificationAccount.objects.exists()

    def test_what_the_channel_does_not_use_is_emptied(self, organization: ExchangeOrganization) -> None:
        row = configure(organization, replace(SMTP, ews_url="https://elsewhere/", ca_certificates=CA))
        assert (row.ews_url, row.smtp_host, row.smtp_port, row.ca_certificates) == ("", "mail.contoso.com", 587, CA)
        row = configure(organization, replace(EWS, smtp_host="mail.contoso.com"))
        assert row.smtp_host == ""
        assert NotificationAccount.objects.count() == 1

    def test_none_forgets_everything(self, organization: ExchangeOrganization) -> None:
        configure(organization, EWS)
        row = configure(organization, NotificationAccountSettings())
        row.refresh_from_db()
        assert (row.channel, row.sender, row.username, bool(row.password)) == ("none", "", "", False)

    def test_a_relay_without_sign_in_keeps_no_password(self, organization: ExchangeOrganization) -> None:
        row = configure(organization, replace(SMTP, username="", smtp_security="none"))
        assert not row.password

    def test_kerberos_needs_no_password(self, organization: ExchangeOrganization) -> None:
        row = configure(organization, replace(EWS, authentication="kerberos", password=Secret("")))
        assert mail_account_of(row).authentication == "kerberos"

    def test_what_was_wrong_before_is_forgotten(self, organization: ExchangeOrganization) -> None:
        configure(organization, EWS)
        account_outcome_note(organization, MailStopError("no", code="mail_sign_in_failed", server="ex01"))
        row = notification_account_of(organization)
        assert (row.last_error_code, row.last_error_params) == ("mail_sign_in_failed", {"server": "ex01"})
        assert row.last_error_at is not None
        assert configure(organization, EWS).last_error_code == ""


class TestPassword:
    def test_left_empty_it_stays(self, organization: ExchangeOrganization) -> None:
        configure(organization, EWS)
        row = configure(organization, replace(EWS, password=None, authentication="basic"))
        row.refresh_from_db()
        assert row.password.reveal() == "first secret"

    @pytest.mark.parametrize(
        "changes",
        [
            {"ews_url": "https://evil.example/EWS/Exchange.asmx"},
            {"autodiscover_url": "https://evil.example/autodiscover.xml"},
            {"sender": "phones@evil.example"},
            {"username": "CONTOSO\\administrator"},
            {"channel": "smtp", "smtp_host": "evil.example"},
        ],
        ids=["ews", "autodiscover", "domain", "account", "channel"],
    )
    def test_it_is_for_the_account_and_server_it_was_entered_for(
        self, organization: ExchangeOrganization, changes: dict[str, Any]
    ) -> None:
        configure(organization, EWS)
        found = refused(organization, replace(EWS, password=None, **changes))
        assert "entered for another account or server" in found["password"][0]
        row = notification_account_of(organization)
        assert (row.ews_url, row.password.reveal()) == ("", "first secret")

    def test_it_is_in_no_repr_and_stored_encrypted(self, organization: ExchangeOrganization) -> None:
        row = configure(organization, EWS)
        assert "first secret" not in repr((EWS, row, row.password, mail_account_of(row)))
        (token,) = NotificationAccount.objects.extra(select={"raw": "password"}).values_list("raw", flat=True)
        assert "first secret" not in str(token)

    def test_a_key_that_is_lost_has_an_error_of_its_own(
        self, organization: ExchangeOrganization, settings: Settings
    ) -> None:
        configure(organization, EWS)
        settings.FIELD_KEYS = [Fernet.generate_key().decode()]
        with pytest.raises(MailStopError) as error:
            mail_account_of(notification_account_of(organization))
        assert error.value.code == "mail_secret_unreadable"
        # Entering it anew is the remedy, and saving something else needs no key.
        configure(organization, replace(EWS, password=None, authentication="basic"))
        assert configure(organization, EWS).password.reveal() == "first secret"


class FakeMailer:
    """Answers as told; remembers how it was opened."""

    can_find_sent = True
    ews_url = "https://mail.contoso.com/EWS/Exchange.asmx"

    def __init__(self, error: MailError | None = None) -> None:
        self.error = error
        self.account: MailAccount | None = None
        self.options: MailOptions | None = None
        self.authorities = ""

    @contextmanager
    def open(self, account: MailAccount, options: MailOptions, /) -> Iterator[Mailer]:
        self.account, self.options = account, options
        if options.ca_file:
            with open(options.ca_file, encoding="ascii") as file:
                self.authorities = file.read()
        yield self

    def send(self, message: Message) -> Receipt:
        return Receipt(message.message_id, "mail.contoso.com")

    def find_sent(self, message_id: str) -> bool:
        return False

    def verify(self) -> tuple[Check, ...]:
        return (Check("connection", is_ok=True), Check("sign_in", is_ok=self.error is None, error=self.error))


class TestOpening:
    def test_a_mailer_is_told_all_there_is(self, organization: ExchangeOrganization) -> None:
        configure(organization, replace(SMTP, ca_certificates=CA, smtp_port=2525, smtp_security="tls"))
        fake = FakeMailer()
        with mailer_for(organization, open_with=fake.open) as mailer:
            assert mailer is fake
        assert fake.account == MailAccount(
            kind="smtp", sender="phones@contoso.com", username="phones", password="x", smtp_host="mail.contoso.com",
            smtp_port=2525, security="tls",
        )  # fmt: skip
        assert fake.authorities == CA
        assert fake.options is not None
        assert fake.options.ca_file is not None
        assert not os.path.exists(fake.options.ca_file)

    def test_without_an_account_nothing_is_opened(self, organization: ExchangeOrganization) -> None:
        with pytest.raises(MailStopError) as error, mailer_for(organization):
            pass
        assert error.value.code == "mail_not_configured"

    def test_the_test_notes_what_is_wrong_and_what_is_over(self, organization: ExchangeOrganization) -> None:
        configure(organization, EWS)
        fake = FakeMailer(MailStopError("no", code="mail_sign_in_failed"))
        checks = notification_account_test(organization, open_with=fake.open)
        assert [(check.name, check.is_ok) for check in checks] == [("connection", True), ("sign_in", False)]
        assert notification_account_of(organization).last_error_code == "mail_sign_in_failed"
        notification_account_test(organization, open_with=FakeMailer().open)
        row = notification_account_of(organization)
        assert (row.last_error_code, row.last_error_at, row.last_sent_at) == ("", None, None)

    def test_the_test_raises_nothing(self, organization: ExchangeOrganization) -> None:
        (check,) = notification_account_test(organization)
        assert check.error is not None
        assert check.error.code == "mail_not_configured"

    def test_the_test_waits_for_seconds_only(self, organization: ExchangeOrganization) -> None:
        configure(organization, EWS)
        fake = FakeMailer()
        notification_account_test(organization, open_with=fake.open)
        assert fake.options is not None
        assert fake.options.connect_timeout + fake.options.read_timeout < 30


NAMED = "https://mail.contoso.com/EWS/Exchange.asmx"


class TestAddressThatAutodiscoverNamed:
    def test_it_is_kept_and_told_to_the_next_mailer(self, organization: ExchangeOrganization) -> None:
        configure(organization, EWS)
        fake = FakeMailer()
        with mailer_for(organization, open_with=fake.open):
            pass
        assert fake.account is not None
        assert (fake.account.ews_url, fake.account.known_ews_url) == ("", "")
        with mailer_for(organization, open_with=fake.open):
            pass
        assert (fake.account.ews_url, fake.account.known_ews_url) == ("", NAMED)

    def test_it_is_kept_where_the_session_failed(self, organization: ExchangeOrganization) -> None:
        configure(organization, EWS)
        with pytest.raises(MailStopError), mailer_for(organization, open_with=FakeMailer().open):
            raise MailStopError("no", code="mail_mailbox_full")
        assert notification_account_of(organization).known_ews_url == NAMED

    def test_another_one_takes_its_place(self, organization: ExchangeOrganization) -> None:
        configure(organization, EWS)
        NotificationAccount.objects.update(known_ews_url="https://old.contoso.com/EWS/Exchange.asmx")
        with mailer_for(organization, open_with=FakeMailer().open):
            pass
        assert notification_account_of(organization).known_ews_url == NAMED

    def test_the_test_looks_for_it_anew(self, organization: ExchangeOrganization) -> None:
        configure(organization, EWS)
        NotificationAccount.objects.update(known_ews_url="https://old.contoso.com/EWS/Exchange.asmx")
        fake = FakeMailer()
        notification_account_test(organization, open_with=fake.open)
        assert fake.account is not None
        assert fake.account.known_ews_url == ""
        assert notification_account_of(organization).known_ews_url == NAMED

    def test_saving_forgets_it(self, organization: ExchangeOrganization) -> None:
        row = configure(organization, EWS)
        NotificationAccount.objects.update(known_ews_url=NAMED)
        configure(organization, EWS)
        row.refresh_from_db()
        assert row.known_ews_url == ""

    @pytest.mark.parametrize("settings", [SMTP, replace(EWS, ews_url=NAMED)])
    def test_none_is_kept_where_none_is_looked_for(
        self, organization: ExchangeOrganization, settings: NotificationAccountSettings
    ) -> None:
        configure(organization, settings)
        with mailer_for(organization, open_with=FakeMailer().open):
            pass
        assert notification_account_of(organization).known_ews_url == ""

    def test_none_is_kept_of_an_account_that_was_set_up_anew_meanwhile(
        self, organization: ExchangeOrganization
    ) -> None:
        configure(organization, EWS)
        with mailer_for(organization, open_with=FakeMailer().open):
            configure(organization, replace(EWS, sender="phones@fabrikam.com", password=Secret("y")))
        assert notification_account_of(organization).known_ews_url == ""

    def test_one_that_is_too_long_is_not_kept(self, organization: ExchangeOrganization) -> None:
        configure(organization, EWS)
        fake = FakeMailer()
        fake.ews_url = NAMED + "x" * 1000
        with mailer_for(organization, open_with=fake.open):
            pass
        assert notification_account_of(organization).known_ews_url == ""

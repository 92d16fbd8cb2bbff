"""User notification and its account: the forms, the preview in a frame of its own, the test mail, the checks."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from connectors.actors import Actor
from connectors.mail.client import Check, MailAccount, Mailer, MailOptions, Message, Receipt
from connectors.mail.errors import MailError, MailStopError
from connectors.models import ExchangeOrganization, NotificationAccount
from connectors.notification_accounts import mailer_for, notification_account_test
from sync.models import PolicyVersion, SyncRun
from sync.policies.policy import MailTemplateValues, NotificationValues, OrganizationPolicyValues
from sync.policies.policy_services import organization_policy_change, policy_current
from tests.console.conftest import Scene
from tests.console.test_policy import text_of
from tests.labs import Lab

pytestmark = pytest.mark.django_db

FORM = {
    "based_on": "0",
    "enabled": "on",
    "language": "en",
    "enrollment_link": "https://enroll.contoso.com/",
    "help_contact": "the desk, 1234",
    "repeat_days": "3",
    "subject_en": "Enroll, {{person}}",
    "body_en": "Hello **{{person}}**,\r\n\r\n[Enroll]({{enrollment_link}})",
    "subject_zh-hant": "",
    "body_zh-hant": "",
    "reason": "People asked for it.",
}


@pytest.fixture
def organization(scene: Scene) -> ExchangeOrganization:
    return scene.connector.organization


def at(organization: ExchangeOrganization, name: str = "organization_notification") -> str:
    return reverse(name, args=[organization.public_id])


class TestForm:
    def test_all_of_it_is_saved(self, scene: Scene, organization: ExchangeOrganization) -> None:
        browser = scene.client("administrator")
        answer = browser.post(at(organization), FORM)
        assert answer["Location"] == at(organization)
        values, version = policy_current(organization)
        assert version is not None
        assert version.reason == "People asked for it."
        assert values.notification == NotificationValues(
            enabled=True,
            language="en",
            enrollment_link="https://enroll.contoso.com/",
            help_contact="the desk, 1234",
            repeat_days=3,
            templates={
                "en": MailTemplateValues("Enroll, {{person}}", "Hello **{{person}}**,\n\n[Enroll]({{enrollment_link}})")
            },
        )
        assert not SyncRun.objects.exists()
        html = browser.get(at(organization)).content.decode()
        assert "Version 1 of Contoso mail was saved." in html
        assert "Enroll, {{person}}" in html

    def test_the_other_settings_stay_as_they_are(self, scene: Scene, organization: ExchangeOrganization) -> None:
        values = OrganizationPolicyValues(default_level="block")
        organization_policy_change(organization=organization, values=values, reason="x", actor=Actor("Ada"))
        scene.client("administrator").post(at(organization), {**FORM, "based_on": "1"})
        assert policy_current(organization)[0].default_level == "block"

    @pytest.mark.parametrize(
        ("values", "sentence"),
        [
            ({"body_en": "Dear {{persn}}"}, "There is no placeholder “persn”. Did you mean {{person}}?"),
            ({"subject_zh-hant": "{{nonsense_here}}"}, "There is no placeholder “nonsense_here”"),
            ({"body_en": "x" * 20_001}, "longer than 20000 characters"),
            ({"enrollment_link": "enroll"}, "“enroll” is not the address of a page"),
            ({"repeat_days": "-1"}, "-1 is outside of what is possible"),
            ({"repeat_days": "often"}, "Enter a whole number."),
            ({"language": "de"}, "Select a valid choice"),
            ({"reason": ""}, "Say why, for those who read the history later."),
        ],
    )
    def test_bad_input(
        self, scene: Scene, organization: ExchangeOrganization, values: dict[str, str], sentence: str
    ) -> None:
        answer = scene.client("administrator").post(at(organization), {**FORM, **values})
        assert answer.status_code == 422
        assert sentence in text_of(answer.content.decode()).replace("&quot;", '"')
        assert not PolicyVersion.objects.exists()

    def test_a_script_is_saved_and_told_that_it_is_left_out(
        self, scene: Scene, organization: ExchangeOrganization
    ) -> None:
        browser = scene.client("administrator")
        body = "{{enrollment_link}}\n\n<script>alert(1)</script>"
        browser.post(at(organization), {**FORM, "body_en": body})
        html = browser.get(at(organization)).content.decode()
        assert "English: Line 3: HTML is not sent: &lt;script&gt; will be left out." in html
        assert "<script>alert(1)</script>" not in html

    def test_somebody_who_was_faster_is_named_and_nothing_entered_is_lost(
        self, scene: Scene, organization: ExchangeOrganization
    ) -> None:
        values = OrganizationPolicyValues(default_level="block")
        organization_policy_change(organization=organization, values=values, reason="x", actor=Actor("Bob"))
        answer = scene.client("administrator").post(at(organization), FORM)
        assert answer.status_code == 422
        html = answer.content.decode()
        assert "Bob saved version 1 in the meantime" in html
        assert "Enroll, {{person}}" in html

    @pytest.mark.parametrize("who", ["reader", "operator"])
    def test_others_only_look(self, scene: Scene, organization: ExchangeOrganization, who: str) -> None:
        html = scene.client(who).get(at(organization)).content.decode()
        assert '<fieldset class="plain" disabled>' in html
        assert "Send test mail" not in html

    def test_queries(self, scene: Scene, organization: ExchangeOrganization, django_assert_num_queries: Any) -> None:
        browser = scene.client("reader")
        with django_assert_num_queries(8):
            browser.get(at(organization))
        with django_assert_num_queries(7):
            browser.get(at(organization, "notification_account"))


class TestPreview:
    def posted(self, browser: Client, organization: ExchangeOrganization, **values: str) -> Any:
        form = {**FORM, "preview_language": "en", **values}
        return browser.post(at(organization, "notification_preview"), form)

    def test_it_shows_what_is_entered_and_saves_nothing(self, scene: Scene, organization: ExchangeOrganization) -> None:
        html = self.posted(scene.client("administrator"), organization).content.decode()
        assert "Enroll, Ada Lovelace</p>" in html
        assert "<strong>Ada Lovelace</strong>" in html
        assert 'href="https://enroll.contoso.com/"' in html
        assert not PolicyVersion.objects.exists()

    def test_it_is_a_document_in_which_nothing_can_run_or_be_loaded(
        self, scene: Scene, organization: ExchangeOrganization
    ) -> None:
        browser = scene.client("administrator")
        answer = self.posted(browser, organization, body_en="<script>alert(1)</script><img src=x onerror=alert(1)>")
        policy = {part.split()[0]: part.split()[1:] for part in answer["Content-Security-Policy"].split(";") if part}
        assert policy["default-src"] == policy["form-action"] == policy["base-uri"] == ["'none'"]
        assert policy["style-src"] == ["'unsafe-inline'"]
        assert policy["frame-ancestors"] == ["'self'"]
        assert policy["sandbox"] == []
        assert "script-src" not in policy
        assert answer["X-Frame-Options"] == "SAMEORIGIN"
        html = answer.content.decode()
        assert "<script" not in html
        assert "onerror" not in html
        page = browser.get(at(organization))
        assert "frame-src 'self'" in page["Content-Security-Policy"]
        assert "style-src 'self'" in page["Content-Security-Policy"]
        assert re.search(r"<iframe [^>]*sandbox></iframe>", page.content.decode())

    def test_left_empty_it_shows_the_built_in_text_of_language_and_reason(
        self, scene: Scene, organization: ExchangeOrganization
    ) -> None:
        browser = scene.client("administrator")
        empty = {"subject_en": "", "body_en": ""}
        assert "Enroll your phone to get mail on it" in self.posted(browser, organization, **empty).content.decode()
        html = self.posted(browser, organization, preview_reason="notCompliant", **empty).content.decode()
        assert "needs a setting changed" in html
        html = self.posted(browser, organization, preview_language="zh-hant").content.decode()
        assert 'lang="zh-Hant"' in html
        assert "Enroll, Ada" not in html

    def test_a_look_at_what_is_in_force(self, scene: Scene, organization: ExchangeOrganization) -> None:
        browser = scene.client("administrator")
        browser.post(at(organization), FORM)
        html = scene.client("reader").get(at(organization, "notification_preview"), {"language": "en"}).content.decode()
        assert "Enroll, Ada Lovelace" in html

    def test_what_is_wrong_elsewhere_keeps_nobody_from_looking(
        self, scene: Scene, organization: ExchangeOrganization
    ) -> None:
        answer = self.posted(
            scene.client("administrator"), organization, repeat_days="x", language="", preview_language="xx",
            subject_en="<b>&{{what}}",
        )  # fmt: skip
        assert answer.status_code == 200
        assert "&lt;b&gt;&amp;{{what}}" in answer.content.decode()


class FakeMailer:
    """Takes mails, or raises what it is told."""

    can_find_sent = False
    ews_url = ""

    def __init__(self) -> None:
        self.sent: list[Message] = []
        self.error: MailError | None = None
        self.checks: tuple[Check, ...] = ()

    @contextmanager
    def open(self, account: MailAccount, options: MailOptions, /) -> Iterator[Mailer]:
        yield self

    def send(self, message: Message) -> Receipt:
        if self.error:
            raise self.error
        self.sent.append(message)
        return Receipt(message.message_id, "mail.contoso.com")

    def verify(self) -> tuple[Check, ...]:
        return self.checks

    def find_sent(self, message_id: str) -> bool:
        return False


@pytest.fixture
def mailer(organization: ExchangeOrganization, monkeypatch: pytest.MonkeyPatch) -> FakeMailer:
    """The organization has an account, and its server is a fake of our own interface."""
    NotificationAccount.objects.create(
        organization=organization, channel="smtp", sender="phones@contoso.com", smtp_host="mail.contoso.com"
    )
    fake = FakeMailer()
    wrapped: Any = mailer_for
    monkeypatch.setitem(wrapped.__wrapped__.__kwdefaults__, "open_with", fake.open)
    defaults: Any = notification_account_test.__kwdefaults__
    monkeypatch.setitem(defaults, "open_with", fake.open)
    return fake


class TestTestMail:
    def sent(self, browser: Client, organization: ExchangeOrganization, **values: str) -> str:
        form = {**FORM, "test_address": "ada@contoso.com", "test_language": "en", **values}
        answer = browser.post(at(organization, "notification_test"), form)
        assert answer.status_code == 200
        return str(answer.content.decode())

    def test_the_text_as_it_is_entered_goes_to_the_address(
        self, scene: Scene, organization: ExchangeOrganization, mailer: FakeMailer
    ) -> None:
        html = self.sent(scene.client("administrator"), organization)
        assert "A test mail was handed over for ada@contoso.com." in html
        (mail,) = mailer.sent
        assert (mail.to, mail.subject) == ("ada@contoso.com", "Enroll, Ada Lovelace")
        assert "https://enroll.contoso.com/" in mail.html
        assert "Hello" in mail.text
        assert mail.message_id.endswith("@contoso.com>")
        assert "Enroll, {{person}}" in html  # the form is still filled in
        assert not PolicyVersion.objects.exists()
        assert NotificationAccount.objects.get().last_sent_at is not None

    @pytest.mark.parametrize(
        ("values", "sentence"),
        [
            ({"test_address": "ada"}, "“ada” is not a mail address. No test mail was sent."),
            ({"test_address": ""}, "is not a mail address"),
            ({"body_en": "{{persn}}"}, "No test mail was sent. Line 1: There is no placeholder “persn”."),
        ],
    )
    def test_what_cannot_be_sent_says_why(
        self,
        scene: Scene,
        organization: ExchangeOrganization,
        mailer: FakeMailer,
        values: dict[str, str],
        sentence: str,
    ) -> None:
        assert sentence in self.sent(scene.client("administrator"), organization, **values)
        assert mailer.sent == []

    def test_a_failure_is_told_with_its_remedy_and_kept(
        self, scene: Scene, organization: ExchangeOrganization, mailer: FakeMailer
    ) -> None:
        mailer.error = MailStopError(
            "no", code="mail_send_as_denied", server="mail.contoso.com", remote_text="550 <b>no"
        )
        html = self.sent(scene.client("administrator"), organization)
        assert "550 &lt;b&gt;no" in html
        assert "handed over" not in html
        assert NotificationAccount.objects.get().last_error_code == "mail_send_as_denied"

    def test_without_an_account_it_says_so(self, scene: Scene, organization: ExchangeOrganization) -> None:
        html = self.sent(scene.client("administrator"), organization)
        assert "No notification account is set up. Set one up first." in html


ACCOUNT = {
    "channel": "smtp",
    "sender": "phones@contoso.com",
    "username": "phones@contoso.com",
    "password": "a secret",
    "smtp_host": "mail.contoso.com",
    "smtp_port": "587",
    "smtp_security": "starttls",
}


class TestAccount:
    def test_it_is_saved_and_its_password_never_shown(self, scene: Scene, organization: ExchangeOrganization) -> None:
        browser, where = scene.client("administrator"), at(organization, "notification_account")
        assert browser.post(where, ACCOUNT)["Location"] == where
        row = NotificationAccount.objects.get()
        assert (row.channel, row.username, row.password.reveal()) == ("smtp", "phones@contoso.com", "a secret")
        html = browser.get(where).content.decode()
        assert "One is stored; it is never shown." in html
        assert "a secret" not in html
        assert "a secret" not in browser.post(where, {**ACCOUNT, "sender": "x"}).content.decode()

    def test_left_empty_the_password_stays_unless_the_server_is_another(
        self, scene: Scene, organization: ExchangeOrganization
    ) -> None:
        browser, where = scene.client("administrator"), at(organization, "notification_account")
        browser.post(where, ACCOUNT)
        browser.post(where, {**ACCOUNT, "password": "", "smtp_port": "465", "smtp_security": "tls"})
        row = NotificationAccount.objects.get()
        assert (row.smtp_port, row.password.reveal()) == (465, "a secret")
        answer = browser.post(where, {**ACCOUNT, "password": "", "smtp_host": "evil.example"})
        assert answer.status_code == 422
        assert "entered for another account or server" in answer.content.decode()

    @pytest.mark.parametrize(
        ("values", "sentence"),
        [
            ({"channel": "pigeon"}, "Select a valid choice"),
            ({"sender": "phones"}, "“phones” is not a mail address"),
            ({"smtp_host": "10.0.0.1"}, "is an IP address"),
            ({"smtp_port": "x"}, "Enter a whole number."),
            ({"smtp_port": "99999"}, "not between 1 and 65535"),
            ({"channel": "ews", "username": ""}, "Exchange Web Services need an account"),
            ({"ca_certificates": "x"}, "not a certificate in PEM form"),
        ],
    )
    def test_bad_input(
        self, scene: Scene, organization: ExchangeOrganization, values: dict[str, str], sentence: str
    ) -> None:
        answer = scene.client("administrator").post(at(organization, "notification_account"), {**ACCOUNT, **values})
        assert answer.status_code == 422
        assert sentence in text_of(answer.content.decode())
        assert not NotificationAccount.objects.exists()

    def test_the_checks_are_named_and_a_failure_has_its_remedy(
        self, scene: Scene, organization: ExchangeOrganization, mailer: FakeMailer
    ) -> None:
        error = MailStopError("no", code="mail_sign_in_failed", server="mail.contoso.com", remote_text="535 <i>no</i>")
        mailer.checks = (
            Check("connection", is_ok=True, detail="mail.contoso.com"),
            Check("sign_in", False, error=error),
        )
        browser = scene.client("administrator")
        html = browser.post(at(organization, "notification_account_test")).content.decode()
        words = text_of(html)
        assert "The account does not work yet" in words
        assert "Passed Connection mail.contoso.com" in words
        assert "Failed Sign-in" in words
        assert "535 &lt;i&gt;no&lt;/i&gt;" in html
        assert "mail_sign_in_failed" in html
        mailer.checks = (Check("connection", is_ok=True), Check("sender", is_ok=True))
        assert "The account works" in browser.post(at(organization, "notification_account_test")).content.decode()

    def test_without_an_account_there_is_nothing_to_test(
        self, scene: Scene, organization: ExchangeOrganization
    ) -> None:
        browser = scene.client("administrator")
        assert (
            "Tries the account as it is saved"
            not in browser.get(at(organization, "notification_account")).content.decode()
        )
        html = browser.post(at(organization, "notification_account_test")).content.decode()
        assert "mail_not_configured" in html


@pytest.mark.wire
def test_from_the_form_to_a_mailbox(scene: Scene, organization: ExchangeOrganization, lab: Lab) -> None:
    """The account by the page, its test, and a test mail that arrives; over the wire to a simulated Exchange."""
    exchange = lab.organization("SE")
    account, server, person = exchange.account("notification"), exchange.servers[0], exchange.mailboxes()[0]
    browser = scene.client("administrator")
    with open(lab.ca, encoding="ascii") as file:
        authority = file.read()
    answer = browser.post(
        at(organization, "notification_account"),
        {
            "channel": "ews", "sender": account.upn, "username": account.user, "password": account.password,
            "authentication": "ntlm", "ews_url": f"https://127.0.0.1:{server.https_port}/EWS/Exchange.asmx",
            "ca_certificates": authority,
        },
    )  # fmt: skip
    assert answer.status_code == 302, text_of(answer.content.decode())
    words = text_of(browser.post(at(organization, "notification_account_test")).content.decode())
    assert "The account works" in words
    form = {**FORM, "test_address": person["smtp"], "test_language": "en", "subject_en": "From a test of pages"}
    html = browser.post(at(organization, "notification_test"), form).content.decode()
    assert "A test mail was handed over" in html
    got = exchange.messages(person["smtp"])[-1]
    assert got["subject"] == "From a test of pages"
    assert 'href="https://enroll.contoso.com/"' in got["body"]

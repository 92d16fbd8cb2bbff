"""Signing in and out, the language, the password: what works, and what a mistake is answered with."""

from __future__ import annotations

import re

import pytest
from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.cache import cache
from django.test import Client, RequestFactory
from django.urls import NoReverseMatch, reverse
from pytest_django import Settings

from console.accounts.addresses import client_address
from console.accounts.first_admin import first_admin_create
from tests.console.conftest import Scene
from tests.factories import PASSWORD, UserFactory

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _no_attempts_yet() -> None:
    cache.clear()


def sign_in(client: Client, name: str, password: str, **more: str):
    return client.post(reverse("account_login"), {"login": name, "password": password, **more})


class TestSignIn:
    def test_it_leads_home(self, client: Client) -> None:
        UserFactory(username="ada")
        answer = sign_in(client, "ada", PASSWORD)
        assert (answer.status_code, answer.url) == (302, "/")
        assert client.get("/").status_code == 200

    def test_it_leads_to_where_the_person_wanted_to_go(self, client: Client) -> None:
        UserFactory(username="ada")
        assert sign_in(client, "ada", PASSWORD, next="/connectors/").url == "/connectors/"

    def test_it_leads_to_no_other_site(self, client: Client) -> None:
        UserFactory(username="ada")
        assert sign_in(client, "ada", PASSWORD, next="https://evil.example/").url == "/"

    @pytest.mark.parametrize(("name", "password"), [("ada", "wrong"), ("nobody", PASSWORD)], ids=["password", "name"])
    def test_a_mistake_gets_the_same_words_whatever_was_wrong(self, client: Client, name: str, password: str) -> None:
        UserFactory(username="ada")
        answer = sign_in(client, name, password)
        assert answer.status_code == 200
        page = answer.content.decode()
        assert 'role="alert"' in page
        assert "The username and/or password you specified are not correct." in page

    def test_a_name_tried_too_often_is_held_back_even_with_the_right_password(self, client: Client) -> None:
        UserFactory(username="ada")
        for _attempt in range(5):
            sign_in(client, "ada", "wrong")
        answer = sign_in(client, "ada", PASSWORD)
        assert answer.status_code == 200
        assert "Too many failed login attempts" in answer.content.decode()
        assert client.get("/").status_code == 302

    def test_an_address_that_tries_too_often_gets_the_page_that_says_so(self, client: Client) -> None:
        for attempt in range(31):
            answer = sign_in(client, f"name{attempt}", "wrong")
        assert answer.status_code == 429
        assert "Too many attempts" in answer.content.decode()
        assert "Wait five minutes" in answer.content.decode()

    def test_behind_our_proxy_each_browser_is_counted_by_itself(self, client: Client, settings: Settings) -> None:
        """Otherwise one guesser would keep everybody from signing in."""
        settings.TRUSTED_PROXIES = 1
        UserFactory(username="ada")
        for attempt in range(31):
            guessed = self.forwarded(client, f"name{attempt}", f"10.0.0.{attempt}, 203.0.113.9")
        assert guessed.status_code == 429
        assert self.forwarded(client, "ada", "203.0.113.10").status_code == 302

    def test_without_a_proxy_nobody_picks_an_address_of_their_own(self, client: Client) -> None:
        for attempt in range(31):
            guessed = self.forwarded(client, f"name{attempt}", f"203.0.113.{attempt}")
        assert guessed.status_code == 429

    def forwarded(self, client: Client, name: str, addresses: str):
        form = {"login": name, "password": PASSWORD}
        return client.post(reverse("account_login"), form, headers={"X-Forwarded-For": addresses})

    @pytest.mark.parametrize(
        ("count", "forwarded", "expected"),
        [
            (0, "203.0.113.9", "192.0.2.1"),
            (1, "", "192.0.2.1"),
            (1, "198.51.100.1, 203.0.113.9", "203.0.113.9"),
            (2, "198.51.100.1, 203.0.113.9", "198.51.100.1"),
            (3, "198.51.100.1, 203.0.113.9", "192.0.2.1"),
            (1, "203.0.113.9:41000", "203.0.113.9"),
            (1, "[2001:DB8::1]:41000", "2001:db8::1"),
            (1, "<script>", "192.0.2.1"),
        ],
    )
    def test_which_address_counts(self, settings: Settings, count: int, forwarded: str, expected: str) -> None:
        settings.TRUSTED_PROXIES = count
        request = RequestFactory().get("/", headers={"X-Forwarded-For": forwarded}, REMOTE_ADDR="192.0.2.1")
        assert client_address(request) == expected

    def test_the_session_ends_with_the_browser(self, client: Client) -> None:
        UserFactory(username="ada")
        sign_in(client, "ada", PASSWORD)
        assert client.cookies[settings.SESSION_COOKIE_NAME]["max-age"] == ""
        assert client.cookies[settings.SESSION_COOKIE_NAME]["httponly"]

    def test_an_account_that_is_switched_off_is_told(self, client: Client) -> None:
        UserFactory(username="ada", is_active=False)
        answer = client.post(reverse("account_login"), {"login": "ada", "password": PASSWORD}, follow=True)
        assert "switched off" in answer.content.decode()

    def test_nobody_makes_an_account_by_themselves(self, client: Client) -> None:
        answer = client.post(reverse("account_signup"), {"username": "eve", "password1": PASSWORD})
        assert "Accounts are made by an administrator" in answer.content.decode()

    @pytest.mark.parametrize("name", ["account_email", "account_reset_password", "account_confirm_email"])
    def test_parts_of_the_library_that_need_mail_are_not_there(self, name: str) -> None:
        with pytest.raises(NoReverseMatch):
            reverse(name)


def test_sign_out_takes_a_press_of_a_button(scene: Scene) -> None:
    browser = scene.client("reader")
    assert "Sign out?" in browser.get(reverse("account_logout")).content.decode()
    assert browser.get("/").status_code == 200
    browser.post(reverse("account_logout"))
    assert browser.get("/").status_code == 302


class TestPassword:
    def change(self, browser: Client, old: str, new: str):
        return browser.post(
            reverse("account_change_password"), {"oldpassword": old, "password1": new, "password2": new}, follow=True
        )

    def test_it_is_changed_and_the_person_stays_signed_in(self, scene: Scene) -> None:
        browser = scene.client("reader")
        answer = self.change(browser, PASSWORD, "another-long-password")
        assert answer.redirect_chain == [("/", 302)]
        assert "Password successfully changed" in answer.content.decode()

    @pytest.mark.parametrize(
        ("old", "new", "words"),
        [
            ("wrong", "another-long-password", "current password"),
            (PASSWORD, "short", "at least 12 characters"),
            (PASSWORD, "password1234", "too common"),
        ],
    )
    def test_a_mistake_is_named_beside_its_field(self, scene: Scene, old: str, new: str, words: str) -> None:
        answer = self.change(scene.client("reader"), old, new)
        assert words in answer.content.decode()
        assert 'aria-invalid="true"' in answer.content.decode()


class TestLanguage:
    def switch(self, browser: Client, code: str, target: str = "/connectors/"):
        return browser.post(reverse("language"), {"language": code, "next": target})

    def test_the_page_comes_back_in_it(self, scene: Scene) -> None:
        browser = scene.client("reader")
        assert self.switch(browser, "zh-hant").url == "/connectors/"
        assert '<html lang="zh-hant">' in browser.get("/connectors/").content.decode()

    def test_it_follows_the_person_to_another_browser(self, scene: Scene) -> None:
        self.switch(scene.client("reader"), "zh-hant")
        other = Client()
        sign_in(other, "reader", PASSWORD)
        assert '<html lang="zh-hant">' in other.get("/").content.decode()

    def test_before_sign_in_the_browser_keeps_it(self, client: Client) -> None:
        self.switch(client, "zh-hant", reverse("account_login"))
        assert '<html lang="zh-hant">' in client.get(reverse("account_login")).content.decode()

    def test_the_browsers_wish_counts_until_then(self, client: Client) -> None:
        page = client.get(reverse("account_login"), headers={"Accept-Language": "zh-TW,zh;q=0.9"})
        assert '<html lang="zh-hant">' in page.content.decode()

    @pytest.mark.parametrize("target", ["https://evil.example/", "//evil.example/", "javascript:alert(1)", ""])
    def test_it_leads_to_no_other_site(self, client: Client, target: str) -> None:
        assert self.switch(client, "en", target).url == "/"

    @pytest.mark.parametrize("code", ["", "de", "../../etc"])
    def test_an_unknown_language_is_refused(self, client: Client, code: str) -> None:
        assert self.switch(client, code).status_code == 400

    @pytest.mark.parametrize("asked", ["en", "zh-TW"])
    def test_each_language_is_offered_by_its_own_name(self, client: Client, asked: str) -> None:
        html = client.get(reverse("account_login"), headers={"Accept-Language": asked}).content.decode()
        assert re.findall(r'name="language" value="([^"]+)"[^>]*>([^<]+)</button>', html) == [
            ("en", "English"),
            ("zh-hant", "繁體中文"),
        ]


class TestFirstAdministrator:
    @pytest.mark.parametrize(("password", "words"), [("tr0ub4dor", "at least 12 characters"), (PASSWORD, "")])
    def test_a_weak_password_is_taken_and_told(
        self, settings: Settings, caplog: pytest.LogCaptureFixture, password: str, words: str
    ) -> None:
        settings.FIRST_ADMIN_PASSWORD = password
        assert first_admin_create() == "(from GATEHOUSE_ADMIN_PASSWORD)"
        assert get_user_model().objects.get().check_password(password)
        assert ("GATEHOUSE_ADMIN_PASSWORD is weak" in caplog.text, words in caplog.text) == (bool(words), True)
        assert password not in caplog.text
        assert first_admin_create() == ""

    def test_a_generated_one_is_long_and_shown_once(self, settings: Settings) -> None:
        settings.FIRST_ADMIN_PASSWORD = ""
        shown = first_admin_create()
        assert len(shown) >= 16
        assert get_user_model().objects.get(is_superuser=True).check_password(shown)
        assert first_admin_create() == ""

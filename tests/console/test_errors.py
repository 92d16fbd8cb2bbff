"""The pages for what went wrong: each says what happened and what to do, and stands without a database."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import InterfaceError, OperationalError
from django.test import Client
from django.urls import reverse

from console.pages import home as home_page
from tests.console.conftest import Scene
from tests.factories import PASSWORD, UserFactory

pytestmark = pytest.mark.django_db


def test_an_address_that_is_not_there(scene: Scene) -> None:
    answer = scene.client("reader").get("/no/such/page/")
    assert answer.status_code == 404
    assert "There is nothing here" in answer.content.decode()


def test_a_form_without_its_token(scene: Scene) -> None:
    browser = Client(enforce_csrf_checks=True)
    answer = browser.post(reverse("account_login"), {"login": "ada", "password": "x"})
    assert answer.status_code == 403
    assert "This page was open too long" in answer.content.decode()
    assert "Nothing was changed" in answer.content.decode()


def test_a_form_without_its_token_changes_nothing_even_for_a_signed_in_person(scene: Scene) -> None:
    signed_in = scene.client("administrator")
    browser = Client(enforce_csrf_checks=True)
    browser.cookies = signed_in.cookies
    answer = browser.post(reverse("connector_sync", args=[scene.connector.public_id]), {"kind": "fullSync"})
    assert answer.status_code == 403
    assert not scene.connector.runs.exists()


class TestFailures:
    @pytest.fixture
    def browser(self, scene: Scene) -> Client:
        browser = scene.client("reader")
        browser.raise_request_exception = False
        return browser

    def fail(self, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
        def failing(*args: object) -> None:
            raise error

        monkeypatch.setattr(home_page, "standings", failing)

    def test_our_own_mistake(self, browser: Client, monkeypatch: pytest.MonkeyPatch) -> None:
        self.fail(monkeypatch, RuntimeError("secret detail"))
        answer = browser.get("/")
        assert answer.status_code == 500
        assert "Gatehouse made a mistake" in answer.content.decode()
        assert "secret detail" not in answer.content.decode()
        assert "Retry-After" not in answer

    @pytest.mark.parametrize("error", [OperationalError("no route to db.internal"), InterfaceError("closed")])
    def test_the_database_is_away(self, browser: Client, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
        self.fail(monkeypatch, error)
        answer = browser.get("/")
        assert answer.status_code == 503
        page = answer.content.decode()
        assert "The database does not answer" in page
        assert "Phones keep the access they have" in page
        assert "Try again" in page
        assert "db.internal" not in page
        assert int(answer["Retry-After"]) > 0


def test_nobody_signs_in_while_attempts_cannot_be_counted(client: Client, settings: Any) -> None:
    """Rather than that passwords can be guessed without end. The page says what is away."""
    settings.CACHES = {"default": {**settings.CACHES["default"], "LOCATION": "redis://127.0.0.1:1/0"}}
    UserFactory(username="ada")
    client.raise_request_exception = False
    answer = client.post(reverse("account_login"), {"login": "ada", "password": PASSWORD})
    assert answer.status_code == 503
    assert "The broker does not answer" in answer.content.decode()
    assert int(answer["Retry-After"]) > 0
    assert client.get("/").status_code == 302


def test_the_page_of_a_lost_database_needs_no_database(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading the session fails before any view does, as when the database server is stopped."""
    from django.contrib.sessions.backends.db import SessionStore

    def away(self: object) -> None:
        raise OperationalError("gone")

    monkeypatch.setattr(SessionStore, "load", away)
    client.cookies["gatehouse_session"] = "x" * 32
    client.raise_request_exception = False
    answer = client.get("/", headers={"Accept-Language": "zh-TW"})
    assert answer.status_code == 503
    assert '<html lang="zh-hant">' in answer.content.decode()

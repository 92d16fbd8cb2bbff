"""/healthz and /readyz: what they need, what they tell, and what they keep to themselves."""

from __future__ import annotations

import pytest
from django.core.management import call_command
from django.db import DatabaseError, connection
from django.test import Client

from console.pages import health


class TestAlive:
    def test_it_answers_without_a_database(self, client: Client) -> None:
        # No database mark: a query would fail this test.
        answer = client.get("/healthz")
        assert (answer.status_code, answer.content) == (200, b"ok\n")
        assert "no-store" in answer["Cache-Control"]

    def test_it_answers_by_whatever_name_it_is_asked(self, client: Client) -> None:
        assert client.get("/healthz", headers={"Host": "10.0.0.7:8000"}).status_code == 200

    def test_it_is_not_sent_to_tls(self, client: Client, settings) -> None:
        settings.SECURE_SSL_REDIRECT = True
        assert client.get("/healthz").status_code == 200
        assert Client().get("/accounts/login/").status_code == 301

    def test_it_sets_no_cookie(self, client: Client) -> None:
        client.get("/healthz")
        assert not client.cookies

    @pytest.mark.parametrize("path", ["/healthz", "/readyz"])
    def test_it_is_only_for_looking(self, client: Client, path: str) -> None:
        assert client.post(path).status_code == 405
        assert client.get(path + "/").status_code == 404


@pytest.mark.django_db
class TestReady:
    def failing(self, client: Client) -> list[str]:
        answer = client.get("/readyz")
        body = answer.json()
        assert answer.status_code == (503 if body["failing"] else 200)
        assert body["ready"] is (not body["failing"])
        assert {name for name, state in body["checks"].items() if state != "ok"} == set(body["failing"])
        names: list[str] = body["failing"]
        return names

    def test_all_is_well(self, client: Client) -> None:
        assert self.failing(client) == []
        assert set(client.get("/readyz").json()["checks"]) == {"database", "migrations", "broker"}

    def test_a_broker_that_is_away_is_named(self, client: Client, settings, tmp_path) -> None:
        settings.REDIS_URL = f"unix://{tmp_path}/nobody.sock"
        assert self.failing(client) == ["broker"]

    def test_a_migration_that_is_not_applied_is_named(self, client: Client) -> None:
        call_command("migrate", "accounts", "zero", fake=True, verbosity=0)
        assert self.failing(client) == ["migrations"]

    def test_a_database_that_is_away_is_named_and_nothing_of_it_is_told(self, client: Client, monkeypatch) -> None:
        def away(*args: object, **kwargs: object) -> None:
            raise DatabaseError("could not connect to server at db.internal as gatehouse")

        monkeypatch.setattr(connection, "cursor", away)
        answer = client.get("/readyz")
        assert answer.status_code == 503
        assert answer.json()["failing"] == ["database", "migrations"]
        assert "internal" not in answer.content.decode()

    def test_each_check_has_its_own_boundary(self, client: Client, monkeypatch) -> None:
        monkeypatch.setitem(health.CHECKS, "database", lambda: 1 / 0)
        assert self.failing(client) == ["database"]

"""Tokens: shown once, kept as a digest, and worth nothing once revoked, ended or unknown."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from typing import Any

import pytest
from django.core.cache import cache
from django.core.exceptions import ValidationError
from django.utils import timezone
from redis.exceptions import ConnectionError as Away

from connectors.actors import SETUP
from console.accounts.models import ApiToken
from console.accounts.tokens import PREFIX, token_make, token_revoke
from console.api import authentication
from tests.console.api.conftest import Program

Programs = Callable[[str], Program]


def test_only_a_digest_is_kept(tenant: Any) -> None:
    token, text = token_make(tenant=tenant, name=" MDM ", role="operator", expires_at=None, actor=SETUP)
    assert text.startswith(PREFIX)
    assert len(text) > 50
    token.refresh_from_db()
    assert token.name == "MDM"
    assert text.startswith(token.hint)
    assert len(token.hint) < 16
    assert all(text not in str(value) for value in ApiToken.objects.values().get().values())
    assert text.encode() not in bytes(token.digest)


@pytest.mark.parametrize(
    ("changes", "field"),
    [({"name": " "}, "name"), ({"role": "root"}, "role"), ({"expires_at": timezone.now()}, "expires_at")],
)
def test_what_cannot_be_made(tenant: Any, changes: dict[str, Any], field: str) -> None:
    with pytest.raises(ValidationError) as caught:
        token_make(**{"tenant": tenant, "name": "x", "role": "reader", "expires_at": None, "actor": SETUP, **changes})
    assert set(caught.value.error_dict) == {field}
    assert not ApiToken.objects.exists()


def revoke(token: ApiToken) -> None:
    token_revoke(token=token, actor=SETUP)


def end(token: ApiToken) -> None:
    ApiToken.objects.update(expires_at=timezone.now() - datetime.timedelta(seconds=1))


@pytest.mark.parametrize(
    ("spoil", "code"), [(revoke, "token_revoked"), (end, "token_expired"), (ApiToken.delete, "token_unknown")]
)
def test_a_spoilt_token_is_told_why(program: Programs, spoil: Callable[[ApiToken], Any], code: str) -> None:
    call = program("operator")
    assert call("GET", "connectors").status_code == 200
    spoil(ApiToken.objects.get())
    answer = call("GET", "connectors")
    assert answer.status_code == 401
    assert answer["WWW-Authenticate"].startswith("Bearer")
    assert answer.json()["error"]["code"] == code
    assert answer.json()["error"]["message"].endswith(".")


@pytest.mark.parametrize("header", ["", "Bearer", "Bearer ", "Basic YTpi", "gatehouse_x"])
def test_without_a_token(tenant: Any, header: str) -> None:
    call = Program("")
    call.headers = {"Authorization": header} if header else {}
    answer = call("GET", "connectors")
    assert (answer.status_code, answer.json()["error"]["code"]) == (401, "no_token")


def test_a_session_counts_for_nothing(tenant: Any) -> None:
    from tests.factories import UserFactory

    call = Program("")
    call.client.force_login(UserFactory(is_superuser=True))
    assert call("GET", "connectors").status_code == 401
    assert call("PUT", "managedDevices/r1", {"complianceState": "compliant"}).status_code == 401


def test_guessing_ends_after_some_attempts_and_hinders_no_right_token(program: Programs) -> None:
    right, wrong = program("reader"), Program("gatehouse_wrong")
    answers = [wrong("GET", "connectors").status_code for _ in range(authentication.FAILURES + 1)]
    assert answers == [401] * authentication.FAILURES + [429]
    refused = wrong("GET", "connectors")
    assert refused["Retry-After"] == "60"
    assert refused.json()["error"]["code"] == "too_many_failures"
    assert right("GET", "connectors").status_code == 200


def test_without_a_cache_tokens_still_count(program: Programs, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_: object, **__: object) -> None:
        raise Away

    monkeypatch.setattr(cache, "add", away)
    assert program("reader")("GET", "connectors").status_code == 200
    assert Program("gatehouse_wrong")("GET", "connectors").status_code == 401


def test_when_it_was_last_used(program: Programs) -> None:
    program("reader")("GET", "connectors")
    used = ApiToken.objects.get().last_used_at
    assert used is not None
    assert timezone.now() - used < datetime.timedelta(seconds=10)

"""What keeps other sites and other people out of a browser session: cookies, headers, proofs of origin, redirects."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.core.cache import cache
from django.test import Client
from django.urls import reverse

from tests.console.conftest import Scene
from tests.console.test_permissions import BODY, OPEN_ADDRESSES, OWN_ADDRESSES
from tests.console.test_walk import addresses, rows
from tests.factories import PASSWORD, UserFactory

pytestmark = pytest.mark.django_db

# Leads out of the site, in the spellings that browsers understand.
ELSEWHERE = (
    "https://evil.example/", "//evil.example/", "/\\evil.example/", "\\\\evil.example", "https:evil.example",
    "http:///evil.example", "javascript:alert(1)", "data:text/html,x", " //evil.example", "\t//evil.example",
    "///evil.example", "https://testserver@evil.example/", "https://testserver.evil.example/",
)  # fmt: skip


@pytest.fixture(autouse=True)
def _no_attempts_yet() -> None:
    cache.clear()


def policy(header: str) -> dict[str, list[str]]:
    return {part.split()[0]: part.split()[1:] for part in header.split(";") if part.strip()}


def test_every_answer_keeps_other_sites_out(scene: Scene) -> None:
    browser = scene.client("administrator")
    own = ((name, reverse(name)) for name in sorted(OWN_ADDRESSES | OPEN_ADDRESSES) if name != "account_logout")
    for name, address in chain(addresses(scene), own, [("none", "/no/such/page/"), ("api", "/api/v1/devices")]):
        answer: Any = browser.get(address, headers={"HX-Request": "true"} if name.endswith("_live") else {})
        told = policy(answer["Content-Security-Policy"])
        assert told["default-src"] == ["'none'"], name
        assert told.get("script-src", []) in (["'self'"], []), name
        assert told["base-uri"] == ["'none'"], name
        # The preview of a mail stands in a frame of our own page, where nothing runs.
        is_framed = name == "notification_preview"
        assert answer["X-Frame-Options"] == ("SAMEORIGIN" if is_framed else "DENY"), name
        assert told["frame-ancestors"] == (["'self'"] if is_framed else ["'none'"]), name
        assert ("sandbox" in told) is is_framed, name
        assert answer["X-Content-Type-Options"] == "nosniff", name
        assert answer["Referrer-Policy"] == "same-origin", name


def test_no_form_of_another_site_acts(scene: Scene) -> None:
    browser = Client(enforce_csrf_checks=True)
    browser.cookies = scene.client("administrator").cookies
    for name, address in chain(addresses(scene), ((name, reverse(name)) for name in sorted(OWN_ADDRESSES))):
        before = rows()
        answer = browser.post(address, BODY, headers={"Origin": "https://evil.example"})
        assert answer.status_code == 403, name
        assert "This page was open too long" in answer.content.decode(), name
        assert rows() == before, name


def test_no_page_is_exempt_from_the_proof() -> None:
    """The API's addresses are: they take a token and no cookie."""
    for path in sorted((Path(settings.BASE_DIR) / "console").rglob("*.py")):
        if path.parent.name != "api":
            assert "csrf_exempt" not in path.read_text(encoding="utf-8"), path


def test_files_are_written_at_one_place_alone() -> None:
    """So that no list becomes a file whose cells a spreadsheet would run."""
    for path in sorted((Path(settings.BASE_DIR) / "console").rglob("*.py")):
        if path.name != "downloads.py":
            text = path.read_text(encoding="utf-8")
            assert "csv.writer" not in text, path
            assert "Content-Disposition" not in text, path


def test_nothing_leads_to_another_site(client: Client) -> None:
    user = UserFactory(username="ada")
    user.set_password(PASSWORD)
    user.save()
    for target in ELSEWHERE:
        cache.clear()  # attempts of so many would be too many
        signed = Client().post(reverse("account_login"), {"login": "ada", "password": PASSWORD, "next": target})
        assert (signed.status_code, signed.headers["Location"]) == (302, "/"), target
        client.force_login(user)
        switched = client.post(reverse("language"), {"language": "en", "next": target})
        assert switched.headers["Location"] == "/", target
        bulk = client.post(reverse("device_bulk"), {"act": "recheck", "back": target})
        assert bulk.headers["Location"] == reverse("devices"), target
        shown = client.post(reverse("device_bulk"), {"act": "recheck", "device": "x", "back": target})
        assert f'href="{target}"' not in shown.content.decode(), target


def test_a_session_begins_anew_at_sign_in_and_ends_everywhere_with_a_new_password(client: Client) -> None:
    UserFactory(username="ada")
    client.get(reverse("account_login"))
    session = client.session
    session["before"] = True
    session.save()
    client.cookies[settings.SESSION_COOKIE_NAME] = str(session.session_key)
    before = session.session_key
    client.post(reverse("account_login"), {"login": "ada", "password": PASSWORD})
    assert client.cookies[settings.SESSION_COOKIE_NAME].value != before
    other = Client()
    other.post(reverse("account_login"), {"login": "ada", "password": PASSWORD})
    assert other.get("/").status_code == 200
    new = "another-long-password"
    body = {"oldpassword": PASSWORD, "password1": new, "password2": new}
    assert client.post(reverse("account_change_password"), body).status_code == 302
    assert client.get("/").status_code == 200
    assert other.get("/").status_code == 302


@pytest.mark.parametrize("host", ["evil.example", "testserver.evil.example", "testserver:80@evil.example", "a b"])
def test_another_name_of_the_site_is_refused(scene: Scene, host: str) -> None:
    browser = scene.client("reader")
    answer = browser.get("/", headers={"Host": host})
    assert answer.status_code == 400
    assert "evil.example" not in answer.content.decode()
    # A name that a proxy is said to have seen counts for nothing.
    tokens = scene.client("administrator").get(
        reverse("api_tokens", args=[scene.connector.organization.tenant.public_id]),
        headers={"X-Forwarded-Host": "evil.example"},
    )
    assert "evil.example" not in tokens.content.decode()


def test_cookies_are_of_this_site_and_of_no_script(client: Client) -> None:
    UserFactory(username="ada")
    client.get(reverse("account_login"))
    client.post(reverse("account_login"), {"login": "ada", "password": PASSWORD})
    client.post(reverse("language"), {"language": "en"})
    for name in (settings.SESSION_COOKIE_NAME, settings.CSRF_COOKIE_NAME, settings.LANGUAGE_COOKIE_NAME):
        assert client.cookies[name]["samesite"] == "Lax", name
    for name in (settings.SESSION_COOKIE_NAME, settings.LANGUAGE_COOKIE_NAME):
        assert client.cookies[name]["httponly"], name


BEHIND_TLS = """
import json, django
import pytest  # static files from where they are written
django.setup()
from django.test import Client
client = Client()
plain = client.get("/accounts/login/", HTTP_HOST="localhost")
secure = client.get("/accounts/login/", HTTP_HOST="localhost", HTTP_X_FORWARDED_PROTO="https")
cookie = client.cookies["gatehouse_csrf"]
from django.conf import settings
print(json.dumps([plain.status_code, plain.headers["Location"], secure.status_code,
    secure.headers.get("Strict-Transport-Security"), bool(cookie["secure"]), settings.SESSION_COOKIE_SECURE,
    client.get("/healthz", HTTP_HOST="10.0.0.1").status_code]))
"""


def test_behind_tls_nothing_goes_in_the_clear(tmp_path: Path) -> None:
    environment = {
        **os.environ, "GATEHOUSE_HOME": str(tmp_path), "GATEHOUSE_BEHIND_TLS": "1",
        "DJANGO_SETTINGS_MODULE": "console.settings", "GATEHOUSE_LOG_LEVEL": "ERROR", "GATEHOUSE_DEBUG": "0",
    }  # fmt: skip
    (tmp_path / "static").mkdir()
    done = subprocess.run(
        [sys.executable, "-c", BEHIND_TLS], env=environment, cwd=settings.BASE_DIR, capture_output=True, text=True,
        timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == [
        301, "https://localhost/accounts/login/", 200, "max-age=31536000", True, True, 200,
    ]  # fmt: skip

"""The strict content security policy, and that every page lives within it: no inline script, no inline style."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from django.conf import settings
from django.test import Client
from django.urls import reverse

from tests.console.conftest import Scene
from tests.factories import RunFactory

TEMPLATES = sorted((Path(settings.BASE_DIR) / "templates").rglob("*.html"))
STYLES = Path(settings.BASE_DIR) / "static" / "css"

INLINE = {
    "a style element": re.compile(r"<style\b", re.IGNORECASE),
    "a style attribute": re.compile(r"\sstyle\s*=", re.IGNORECASE),
    "an event attribute": re.compile(r"\son[a-z]+\s*=", re.IGNORECASE),
    "a script that is no file": re.compile(r"<script(?![^>]*\bsrc=)", re.IGNORECASE),
    "a javascript address": re.compile(r"javascript:", re.IGNORECASE),
    "htmx evaluating text": re.compile(r"\bhx-(on|vals\s*=\s*['\"]js:)|\bhx-trigger=\"[^\"]*\[", re.IGNORECASE),
    "something from another host": re.compile(r"(src|href|action)=\"(https?:)?//", re.IGNORECASE),
}


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: str(path.relative_to(settings.BASE_DIR / "templates")))
def test_no_template_holds_anything_inline(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert [name for name, pattern in INLINE.items() if pattern.search(text)] == []


def test_the_patterns_find_what_they_are_for() -> None:
    bad = {
        "a style element": "<style>a{}</style>",
        "a style attribute": '<p style="color:red">',
        "an event attribute": '<a onclick="x()">',
        "a script that is no file": "<script>x()</script>",
        "a javascript address": '<a href="javascript:x()">',
        "htmx evaluating text": '<p hx-trigger="every 2s [x()]">',
        "something from another host": '<img src="//cdn.example/x.png">',
    }
    assert {name for name, pattern in INLINE.items() if pattern.search(bad[name])} == set(INLINE)


def _policy(header: str) -> dict[str, list[str]]:
    return {part.split()[0]: part.split()[1:] for part in header.split(";") if part.strip()}


@pytest.mark.django_db
class TestEveryPage:
    @pytest.fixture
    def pages(self, scene: Scene) -> list[str]:
        run = RunFactory(connector=scene.connector, running=True)
        of_connector = ("connector", "connector_live", "connector_runs", "connector_schedule")
        organization, tenant = scene.connector.organization, scene.connector.organization.tenant
        of_organization = (
            "organization_policy", "organization_policy_history", "organization_notification", "notification_account",
        )  # fmt: skip
        return [
            *(reverse(name, args=[tenant.public_id]) for name in ("tenant_policy", "tenant_policy_history")),
            *(reverse(name, args=[organization.public_id]) for name in of_organization),
            *(reverse(name) for name in ("home", "tenants", "connectors", "account_change_password", "account_logout")),
            *(reverse(name, args=[scene.connector.public_id]) for name in of_connector),
            *(reverse(name, args=[run.public_id]) for name in ("run", "run_live")),
            "/no/such/page/",
        ]

    def test_it_carries_the_policy_and_keeps_to_it(self, scene: Scene, pages: list[str]) -> None:
        browser = scene.client("administrator")
        for address in pages:
            answer = browser.get(address, headers={"HX-Request": "true"} if "live" in address else {})
            policy = _policy(answer["Content-Security-Policy"])
            assert policy["default-src"] == ["'none'"], address
            assert policy["script-src"] == policy["style-src"] == ["'self'"], address
            assert policy["frame-ancestors"] == policy["base-uri"] == ["'none'"], address
            assert policy["form-action"] == ["'self'"], address
            assert answer["X-Frame-Options"] == "DENY", address
            assert answer["X-Content-Type-Options"] == "nosniff", address
            html = answer.content.decode()
            assert [name for name, pattern in INLINE.items() if pattern.search(html)] == [], address

    def test_the_sign_in_page_too(self, client: Client) -> None:
        answer = client.get(reverse("account_login"))
        assert _policy(answer["Content-Security-Policy"])["script-src"] == ["'self'"]
        assert '"includeIndicatorStyles":false,"allowEval":false' in answer.content.decode()

    def test_every_button_works_without_scripts(self, scene: Scene, pages: list[str]) -> None:
        """What acts is a form that posts, with its token; htmx is for looking again only."""
        browser = scene.client("administrator")
        for address in pages:
            html = browser.get(address, headers={"HX-Request": "true"} if "live" in address else {}).content.decode()
            assert not re.search(r"\bhx-(post|put|delete|patch|boost)\b", html), address
            for form in re.findall(r'<form[^>]*method="post".*?</form>', html, re.DOTALL):
                assert "csrfmiddlewaretoken" in form, address
                assert 'type="submit"' in form, address
            outside = re.sub(r"<form.*?</form>", "", html, flags=re.DOTALL)
            buttons = re.findall(r"<button[^>]*>", outside)
            assert [button for button in buttons if "popovertarget=" not in button] == [], address


class TestStyles:
    def test_colours_stand_in_the_tokens_alone(self) -> None:
        text = (STYLES / "components.css").read_text(encoding="utf-8")
        # White and black on the top bar and the backdrop are the exceptions, in plain sight.
        found = set(re.findall(r"#[0-9a-f]{3,8}\b|rgb\([^)]*\)", text))
        assert found <= {"#fff", "rgb(255 255 255 / 35%)", "rgb(0 0 0 / 30%)"}

    def test_each_token_that_is_used_is_there_in_light_and_each_colour_in_dark(self) -> None:
        tokens = (STYLES / "tokens.css").read_text(encoding="utf-8")
        light, dark = tokens.split("@media (prefers-color-scheme: dark)")
        defined = set(re.findall(r"(--[\w-]+):", light))
        used = set(re.findall(r"var\((--[\w-]+)\)", (STYLES / "components.css").read_text(encoding="utf-8")))
        assert used <= defined
        colours = set(re.findall(r"(--[\w-]+):\s*#", light))
        same_in_both = {name for name in colours if name.startswith("--share-")}
        assert colours - same_in_both <= set(re.findall(r"(--[\w-]+):", dark))

    @pytest.mark.parametrize("scheme", ["light", "dark"])
    def test_text_can_be_read_on_its_ground(self, scheme: str) -> None:
        """At least 4.5 : 1, as WCAG 2.2 AA asks, for every pair of names that components.css puts on another."""
        tokens = (STYLES / "tokens.css").read_text(encoding="utf-8")
        light, dark = (
            dict(re.findall(r"(--[\w-]+):\s*(#[0-9a-f]{6})", part))
            for part in tokens.split("@media (prefers-color-scheme: dark)")
        )
        names = light if scheme == "light" else {**light, **dark}
        tones = ("success", "info", "warning", "danger", "neutral")
        pairs = [
            *((text, ground) for text in ("--text", "--text-quiet", "--text-muted", "--link")
              for ground in ("--canvas", "--surface", "--surface-quiet", "--surface-hover")),
            *((f"--{tone}", f"--{tone}-surface") for tone in tones),
            *((f"--{tone}", "--surface") for tone in tones),
            ("--on-brand", "--brand"), ("--on-brand", "--brand-hover"), ("--on-topbar", "--topbar"),
            ("--on-topbar", "--topbar-hover"), ("--text", "--surface-selected"), ("--text", "--info-surface"),
            ("--link", "--warning-surface"), ("--text", "--warning-surface"),
        ]  # fmt: skip
        weak = {pair: round(_contrast(names[pair[0]], names[pair[1]]), 2) for pair in pairs}
        assert {pair: ratio for pair, ratio in weak.items() if ratio < 4.5} == {}


def _contrast(one: str, other: str) -> float:
    bright, dim = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (bright + 0.05) / (dim + 0.05)


def _luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue

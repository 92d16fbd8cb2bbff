"""A browser for the tests of pages: Debian's Chromium, driven by Playwright.

Without Chromium these tests are skipped and say so; with CI=true that is a failure instead.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
PHONE, DESK = {"width": 390, "height": 844}, {"width": 1440, "height": 900}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    missing = pytest.mark.skip(reason="no Chromium on this machine (Debian: apt-get install chromium)")
    for item in items:
        if "tests/e2e/" in item.nodeid:
            item.add_marker(pytest.mark.browser)
            if CHROMIUM is None and os.environ.get("CI") != "true":
                item.add_marker(missing)


@pytest.fixture(scope="session")
def browser_type_launch_args(browser_type_launch_args: dict[str, Any]) -> dict[str, Any]:
    if CHROMIUM is None:
        pytest.fail("CI=true and there is no Chromium: the browser tests must run here")
    return {
        **browser_type_launch_args,
        "executable_path": CHROMIUM,
        "args": [
            "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
            "--disable-component-update", "--disable-sync",
        ],
    }  # fmt: skip


class Visitor:
    """Someone at a browser: contexts for whom, how wide, which colours, which language, with or without scripts."""

    def __init__(self, browser: Browser, base_url: str) -> None:
        self._browser, self._base_url = browser, base_url
        self._contexts: list[BrowserContext] = []
        self.refusals: list[str] = []

    def page(
        self,
        viewport: dict[str, int] = DESK,
        scheme: str = "light",
        language: str = "en-US",
        *,
        scripts: bool = True,
        cookies: list[Any] | None = None,
    ) -> Page:
        context = self._browser.new_context(
            base_url=self._base_url,
            viewport=viewport,  # type: ignore[arg-type]  # a typed dict of Playwright's
            color_scheme="dark" if scheme == "dark" else "light",
            locale=language,
            java_script_enabled=scripts,
        )
        context.add_cookies(cookies or [])
        self._contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: self._heard(message.type, message.text))
        page.on("pageerror", lambda error: self.refusals.append(str(error)))
        return page

    def _heard(self, kind: str, text: str) -> None:
        # What the Content-Security-Policy refuses, and what scripts complain of, is said on the console.
        if kind == "error" and "Failed to load resource" not in text:
            self.refusals.append(text)

    def close(self) -> None:
        for context in self._contexts:
            context.close()


def press(page: Page, name: str) -> None:
    """Press a button that sends a form, until the page that answers is there: the one before may tell of an earlier
    sync what is waited for now."""
    with page.expect_navigation():
        page.get_by_role("button", name=name).click()


@pytest.fixture
def visitor(browser: Browser, live_server: Any) -> Iterator[Visitor]:
    held = Visitor(browser, live_server.url)
    yield held
    held.close()
    assert held.refusals == [], "the browser complained"

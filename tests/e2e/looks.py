"""What is asked of every page, however wide the screen and in whatever colours."""

from __future__ import annotations

from collections.abc import Callable

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page


def violations(page: Page) -> list[str]:
    """Accessibility rules of axe that the page breaks, as it is shown now."""
    found = Axe().run(page).response["violations"]
    return [f"{v['id']}: {v['nodes'][0]['html'][:160]}" for v in found]


def faults(page: Page) -> list[str]:
    """What is wrong with a page: rules that it breaks, wider than the screen, not one heading."""
    found = violations(page)
    width, room = page.evaluate("[document.documentElement.scrollWidth, window.innerWidth]")
    if width > room:
        found.append(f"{width} wide, on a screen of {room}")
    if (headings := page.locator("h1").count()) != 1:
        found.append(f"{headings} headings of level 1")
    return found


def looker(page: Page) -> tuple[Callable[[str], None], dict[str, list[str]]]:
    """look(name), to be called for a page after another, and what was wrong with each."""
    wrong: dict[str, list[str]] = {}

    def look(name: str) -> None:
        if found := faults(page):
            wrong[name] = found

    return look, wrong

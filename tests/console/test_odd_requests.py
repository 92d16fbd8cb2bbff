"""What a browser never sends and anybody can: every page answers it as a mistake of the sender's, never as one of ours.

PostgreSQL cannot be asked for a text with NUL in it, and no database for a number without end.
"""

from __future__ import annotations

import re
from itertools import chain, cycle
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.urls import reverse

from tests.console.conftest import Scene
from tests.console.test_permissions import BODY, OPEN_ADDRESSES, OWN_ADDRESSES
from tests.console.test_walk import addresses

pytestmark = pytest.mark.django_db

ODD = {
    "NUL": ("a\0b",),
    "the others": ("9" * 400, "-1", "ａ\u202e\ufeff", "x" * 5000, "%\\", "'\"<>", "١٢", "1e999", "\ud7ff\ue000"),
}
# These speak to a server outside.
OUTSIDE = {"notification_account_test", "notification_test", "source_verify"}
by_odd = pytest.mark.parametrize("odd", ODD.values(), ids=ODD)


def parameters() -> list[str]:
    """Every name that a page looks for in an address or a form."""
    found: set[str] = set()
    for path in (Path(settings.BASE_DIR) / "console" / "pages").glob("*.py"):
        text = path.read_text(encoding="utf-8")
        found.update(re.findall(r"(?:GET|POST|given)\.get(?:list)?\(\"(\w+)\"", text))
    return sorted(found)


def test_the_names_are_found() -> None:
    assert {"q", "page", "before", "cursor", "organization", "device", "key", "listed", "step"} <= set(parameters())


@by_odd
def test_in_an_address(scene: Scene, odd: tuple[str, ...]) -> None:
    ada, asked = scene.client("administrator"), dict(zip(parameters(), cycle(odd), strict=False))
    own = [(name, reverse(name)) for name in sorted(OWN_ADDRESSES | OPEN_ADDRESSES)]
    for name, address in chain(addresses(scene), own):
        answer: Any = ada.get(address, asked)
        assert answer.status_code < 500, name
        if answer.streaming:
            assert b"".join(answer.streaming_content), name


@by_odd
def test_in_a_form(scene: Scene, odd: tuple[str, ...]) -> None:
    ada, sent = scene.client("administrator"), dict(zip(parameters(), cycle(odd), strict=False))
    for name, address in addresses(scene):
        if name not in OUTSIDE:
            assert ada.post(address, {**sent, **BODY}).status_code < 500, name
    for name in ("device_bulk", "overrides_end", "language"):
        one = {"act": "recheck", "device": odd[0], "override": odd[0], "language": "en", "next": odd[0], "back": odd[0]}
        assert ada.post(reverse(name), sent | one).status_code < 500, name

"""What is searched for on a page that lists."""

from __future__ import annotations

from django.http import QueryDict

LENGTH = 200


def searched(given: QueryDict) -> str:
    """The text in ?q=, "" for none. Without the sign that PostgreSQL cannot be asked for."""
    return given.get("q", "").replace("\0", "").strip()[:LENGTH]

"""What lists have in common: values from the address, and the addresses of the pages around."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlencode

from django.http import HttpRequest
from django.urls import reverse


class Listing:
    """The list `name` (its URL's) as its address asks for it. choices: by parameter what it may be, the first when it
    is not given or is none of them. organization: a public id, None for all."""

    def __init__(self, request: HttpRequest, name: str, choices: Mapping[str, Sequence[str]]) -> None:
        self._query = {key: value for key, value in request.GET.items() if value and key not in ("page", "before")}
        self._name = name
        self.chosen = {
            key: value if (value := request.GET.get(key, "")) in known else known[0] for key, known in choices.items()
        }
        self.organization = uuid_of(request.GET.get("organization", ""))

    def link(self, **changes: object) -> str:
        """The list's address with some parameters changed; None takes one away."""
        query = {key: value for key, value in {**self._query, **changes}.items() if value is not None}
        return f"{reverse(self._name)}?{urlencode(query)}" if query else reverse(self._name)

    def links(self, page: Any) -> dict[str, str]:
        """Of the pages before and after a page of Django's Paginator."""
        return {
            "previous_url": self.link(page=page.previous_page_number()) if page.has_previous() else "",
            "next_url": self.link(page=page.next_page_number()) if page.has_next() else "",
        }


def uuid_of(text: str) -> uuid.UUID | None:
    """None for what is none."""
    try:
        return uuid.UUID(text)
    except ValueError:
        return None

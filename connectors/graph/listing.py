"""A listing as it arrives: pages of typed records, and at the end what it is worth.

Refuses to say anything of completeness before the end was reached.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from connectors.graph.errors import RecordError


class _HasId(Protocol):
    @property
    def id(self) -> str: ...


Record = TypeVar("Record", bound=_HasId)


@dataclass(frozen=True, slots=True)
class Page(Generic[Record]):
    """Some records of a listing, in the order they came. `unreadable`: rows that are there and cannot be read."""

    records: tuple[Record, ...]
    unreadable: tuple[RecordError, ...] = ()


@dataclass(frozen=True, slots=True)
class Outcome:
    """rows: different ids that came. expected: what the other side counted, None when it did not say.

    is_complete: False when rows are missing or could not be read, or nothing tells whether all came. Absence from
    such a listing proves nothing. Even from a complete one it is no proof of being gone (exchange.md 8, rule 8):
    that is a single GET answered by 404, or a second full listing.
    """

    rows: int
    expected: int | None
    is_complete: bool


class Listing(Generic[Record]):
    """Iterate it once; then `outcome` is there. Iterating may raise GraphError, after which there is no outcome.
    A second time is a RuntimeError: the pages are gone, and an empty listing would look like a complete one.

    judge: from the number of different ids and whether all rows could be read; without one, a listing that came to
    its end is complete.
    """

    def __init__(self, pages: Iterable[Page[Record]], judge: Callable[[int, bool], Outcome] | None = None) -> None:
        self._pages = pages
        self._judge = judge or _ended
        self._outcome: Outcome | None = None
        self._is_begun = False

    def __iter__(self) -> Iterator[Page[Record]]:
        if self._is_begun:
            raise RuntimeError("a listing can be read once")
        self._is_begun = True
        # Ids alone are kept: the same row can come on two pages when rows move while they are listed.
        ids: set[str] = set()
        is_readable = True
        for page in self._pages:
            ids.update(record.id for record in page.records)
            is_readable = is_readable and not page.unreadable
            yield page
        self._outcome = self._judge(len(ids), is_readable)

    @property
    def outcome(self) -> Outcome:
        if self._outcome is None:
            raise RuntimeError("a listing has an outcome only when all of it was read")
        return self._outcome


def _ended(rows: int, is_readable: bool) -> Outcome:
    return Outcome(rows, None, is_readable)

"""Many things some at a time: SQLite takes so many values in a statement, and no transaction should last long."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TypeVar

One = TypeVar("One")


def blocks(things: Iterable[One], size: int = 500) -> Iterator[list[One]]:
    """Lists of up to `size`, in order."""
    rest = iter(things)
    while chosen := list(islice(rest, size)):
        yield chosen

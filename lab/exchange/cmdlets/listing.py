"""What the listing cmdlets share: filters, order, containers, ResultSize with its warnings; and multivalued changes."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

from lab.exchange.cmdlets.registry import Context, Item
from lab.exchange.contract import Output, Warn
from lab.exchange.objects import Mailbox
from lab.exchange.opath import OpathError, Predicate, compile_filter

DEFAULT_RESULT_SIZE = 1000
Thing = TypeVar("Thing")

_MORE_THAN_DEFAULT = (
    "By default, only the first {size} items are returned. Use the ResultSize parameter to specify the number of items "
    'returned. To return all items, specify "-ResultSize Unlimited". Be aware that, depending on the actual number of '
    "items, returning all items can take a long time and consume a large amount of memory. Also, we don't recommend "
    "storing the results in a variable. Instead, pipe the results to another task or script to perform batch changes."
)
_MORE_THAN_ASKED = (
    "There are more results available than are currently displayed. To view them, increase the value for the "
    "ResultSize parameter."
)


def limited(arguments: dict[str, Any], items: Iterator[Item]) -> Iterator[Item | Output]:
    """ResultSize: 1000 unless told, with a warning when there is more. (Its words are not confirmed.)"""
    size = arguments.get("ResultSize", DEFAULT_RESULT_SIZE)
    if size is None:
        yield from items
        return
    yield from itertools.islice(items, size)
    if next(items, None) is not None:
        yield truncation(size if "ResultSize" not in arguments else None)


def truncation(size: int | None = None) -> Warn:
    """The warning; with `size` the one for who did not give a ResultSize."""
    return Warn(_MORE_THAN_ASKED if size is None else _MORE_THAN_DEFAULT.format(size=size))


def filtering(context: Context, text: str | None, allowed: frozenset[str]) -> Predicate | None:
    """The -Filter as a predicate; None without one. Raises Refusal."""
    if not text:
        return None
    try:
        return compile_filter(text, allowed)
    except OpathError as error:
        raise context.invalid(str(error), "Microsoft.Exchange.Data.ParsingException") from error


def ordered(
    context: Context,
    things: Iterable[Thing],
    by: str | None,
    allowed: frozenset[str],
    value: Callable[[Thing, str], Any],
) -> Iterable[Thing]:
    """By the property of -SortBy, ascending and in any case. Raises Refusal for one that cannot be sorted by."""
    if by is None:
        return things
    name = next((one for one in allowed if one.lower() == by.lower()), None)
    if name is None:
        raise context.invalid(
            f"The property '{by}' can't be used to sort the results. Sortable are: {', '.join(sorted(allowed))}."
        )
    return sorted(things, key=lambda thing: str(value(thing, name) or "").lower())


def within(context: Context, container: str | None) -> Callable[[Mailbox], bool]:
    """Whether a mailbox lies in an -OrganizationalUnit, by canonical name or DN. Raises Refusal when there is none."""
    if container is None:
        return lambda mailbox: True
    wanted = container.strip("/").lower()
    known: set[str] = set()
    for domain in (context.store.domain, context.store.child_domain):
        known |= {domain.lower(), f"{domain}/Users".lower()}
    if wanted.startswith(("cn=", "ou=", "dc=")):
        parts = [part.partition("=") for part in wanted.split(",")]
        domain = ".".join(value for kind, _, value in parts if kind == "dc")
        wanted = "/".join([domain, *(value for kind, _, value in reversed(parts) if kind != "dc")])
    if wanted not in known:
        raise context.not_found(container)
    return lambda mailbox: mailbox.canonical.lower().startswith(f"{wanted}/")


def changed_list(current: list[str], change: Any) -> list[str]:
    """A multivalued property after a change: list replaces, {Add, Remove} edits, None empties."""
    if change is None:
        return []
    if not isinstance(change, dict):
        return _texts(change)
    by_name = {str(key).lower(): value for key, value in change.items()}
    result = list(current)
    for value in _texts(by_name.get("remove")):
        result = [entry for entry in result if entry.lower() != value.lower()]
    for value in _texts(by_name.get("add")):
        if value.lower() not in (entry.lower() for entry in result):
            result.append(value)
    return result


def _texts(value: Any) -> list[str]:
    if value is None:
        return []
    return [str(entry) for entry in value] if isinstance(value, list | tuple) else [str(value)]

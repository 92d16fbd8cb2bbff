"""How pages are joined to what one transaction holds."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from connectors.exchange.records import DevicePage
from sync.observing import observe
from sync.observing.observe import batches
from tests.sync.exchange import Wire, device, parse


@pytest.fixture(autouse=True)
def as_shipped(monkeypatch: pytest.MonkeyPatch, small_batches: None) -> None:
    monkeypatch.setattr(observe, "BATCH", 1000)


def pages(*sizes: int) -> Iterator[DevicePage]:
    number = 0
    for size in sizes:
        yield DevicePage(tuple(Wire(device(number + i)) for i in range(size)), parse)
        number += size


def joined(sizes: tuple[int, ...], seconds_a_page: float = 0.0) -> list[int]:
    ticks = iter(range(10_000))
    return [len(page.objects) for page in batches(pages(*sizes), clock=lambda: next(ticks) * seconds_a_page)]


@pytest.mark.parametrize(
    ("sizes", "seconds_a_page", "batch_sizes"),
    [
        ((), 0.0, []),
        ((1,), 0.0, [1]),
        ((300, 300, 300), 0.0, [900]),
        ((300, 300, 300, 300), 0.0, [1200]),
        ((300, 300, 300, 300, 5), 0.0, [1200, 5]),
        ((5000,), 0.0, [5000]),
        ((10, 10, 10), 2.0, [10, 10, 10]),
    ],
)
def test_sizes(sizes: tuple[int, ...], seconds_a_page: float, batch_sizes: list[int]) -> None:
    assert joined(sizes, seconds_a_page) == batch_sizes


def test_nothing_is_lost_and_the_order_stays() -> None:
    found = [wire.record.device_id for page in batches(pages(400, 700, 3)) for wire in page.objects]  # type: ignore[attr-defined]
    assert found == [device(number).device_id for number in range(1103)]


def test_a_listing_that_breaks_brings_nothing_of_the_batch_under_way() -> None:
    def broken() -> Iterator[DevicePage]:
        yield from pages(10)
        raise ConnectionError

    with pytest.raises(ConnectionError):
        list(batches(broken()))

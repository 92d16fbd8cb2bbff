"""What a run writes into devices' stories: that Exchange's own state moved, that one is gone, or back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from sync.models import DeviceEvent, SyncRun
from tests.sync.exchange import FakeExchange, device

Sync = Callable[..., SyncRun]


def lines() -> list[tuple[str, str, dict[str, Any]]]:
    rows = DeviceEvent.objects.order_by("pk").values_list("device__device_id", "code", "params")
    return [(device_id, code, params) for device_id, code, params in rows]


def test_a_first_sync_tells_nothing(exchange: FakeExchange, sync: Sync) -> None:
    sync()
    assert lines() == []


def test_a_state_that_moved(exchange: FakeExchange, sync: Sync) -> None:
    sync()
    exchange.put(device(3, access_state="Blocked", access_state_reason="Individual"))

    run = sync()

    moved = {"before": "Allowed", "before_reason": "Global", "state": "Blocked", "reason": "Individual"}
    assert lines() == [("ID0003", "stateChanged", moved)]
    assert DeviceEvent.objects.get().run == run


@pytest.mark.parametrize("salt", ["", "other bytes"])
def test_anything_else_that_changed_is_not_told(exchange: FakeExchange, sync: Sync, salt: str) -> None:
    sync()
    exchange.put(device(3, device_os="iOS 20"))
    exchange.salt = salt

    sync()

    assert lines() == []


@pytest.mark.parametrize("salt", ["", "other bytes"])
def test_gone_and_back(exchange: FakeExchange, sync: Sync, salt: str) -> None:
    sync()
    exchange.take(3)
    sync()
    exchange.put(device(3))
    exchange.salt = salt

    sync()

    assert lines() == [("ID0003", "gone", {}), ("ID0003", "back", {})]

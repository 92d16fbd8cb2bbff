"""Fixtures for the tests of connectors/graph."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from connectors.graph import client
from tests.connectors.graph.tenants import GraphTenant
from tests.labs import Lab


@pytest.fixture
def tenant(lab: Lab) -> Iterator[GraphTenant]:
    """The shared lab's tenant; what was set to go wrong is lifted afterwards."""
    yield GraphTenant(lab)
    lab.reset()


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waits between tries, where Graph names none, in hundredths of seconds."""
    monkeypatch.setattr(client, "FIRST_WAIT", 0.01)

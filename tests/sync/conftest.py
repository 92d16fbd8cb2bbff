"""A connector, a small Exchange behind it, and a worker that does not really wait."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from connectors.actors import SETUP
from connectors.models import Connector
from sync import runs
from sync.models import SyncRun
from sync.records.sources import RefreshReport
from sync.services import sync_request
from tests.connectors import factories
from tests.sync.exchange import FakeExchange, device

Sync = Callable[..., SyncRun]


@pytest.fixture
def connector(db: None) -> Connector:
    return factories.connector()


@pytest.fixture
def exchange() -> FakeExchange:
    """Ten devices, in pages of four."""
    made = FakeExchange()
    made.put(*(device(number) for number in range(10)))
    return made


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each page is recorded by itself, so that a run has several places to break at."""
    monkeypatch.setattr("sync.observing.observe.BATCH", 1)


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The waits of runs, which end at once."""
    waits: list[float] = []

    def sleep(walk: runs._Walk, seconds: float) -> None:
        waits.append(seconds)

    monkeypatch.setattr("sync.runs._Walk._sleep", sleep)
    return waits


@pytest.fixture
def sync(connector: Connector, exchange: FakeExchange, slept: list[float]) -> Sync:
    """Ask for a sync and do it: sync("fullSync") -> the run as it ended."""

    def do(
        kind: str = SyncRun.Kind.FULL,
        owner: str = "worker-1/100",
        *,
        is_dry_run: bool = False,
        records: RefreshReport | None = None,
    ) -> SyncRun:
        trigger = SyncRun.Trigger.BUTTON
        run = sync_request(connector=connector, kind=kind, trigger=trigger, actor=SETUP, is_dry_run=is_dry_run).run
        # `records`: what reading the tenant's source came to; None: it is read as the product does.
        read = {} if records is None else {"read_records": lambda tenant_id, **options: records}
        runs.run_execute(
            run.pk, open_exchange=exchange.open, open_sessions=exchange.open_sessions_of, owner=owner, **read
        )
        run.refresh_from_db()
        return run

    return do

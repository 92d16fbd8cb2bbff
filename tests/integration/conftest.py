"""Real threads and connections, so real transactions; and a queue that nobody needs, since the tests do the work."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def by_hand(transactional_db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sync.dispatch._send", lambda run_id, queue: None)

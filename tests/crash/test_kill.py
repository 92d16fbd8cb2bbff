"""A worker that is killed in the middle of a sync loses nothing and leaves nothing stuck (driver.py does the work).

Few rounds here, to keep the suite quick; `make crash` does twenty with 20,000 devices.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bench.children import ROOT

KILLS = int(os.environ.get("CRASH_KILLS", "4"))
DEVICES = int(os.environ.get("CRASH_DEVICES", "4000"))


@pytest.mark.wire
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_every_killed_run_ends_and_the_devices_are_right(tmp_path: Path) -> None:
    environment = {k: v for k, v in os.environ.items() if k not in ("DATABASE_URL", "REDIS_URL")}
    result = subprocess.run(
        [sys.executable, "-m", "tests.crash.driver", "--kills", str(KILLS), "--devices", str(DEVICES)],
        cwd=ROOT,
        env={**environment, "GATEHOUSE_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr[-3000:]

    rounds = json.loads(result.stdout.strip().splitlines()[-1])["rounds"]
    assert len(rounds) == KILLS
    for entry in rounds:
        sys.stdout.write(
            f"killed the {entry['killed']} at {entry['at']}: {entry['status']} after {entry['attempts']}\n"
        )
    for entry in rounds:
        assert entry["status"] in ("succeeded", "interrupted"), entry
        wrong = {key: entry[key] for key in ("lost", "left_over", "doubled", "wrong_state")}
        assert wrong == {"lost": 0, "left_over": 0, "doubled": 0, "wrong_state": 0}, entry

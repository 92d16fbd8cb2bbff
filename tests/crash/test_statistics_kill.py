"""A worker that is killed while it reads statistics loses none that were read (statistics_driver.py does the work)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bench.children import ROOT

KILLS = int(os.environ.get("CRASH_STATISTICS_KILLS", "1"))


@pytest.mark.wire
@pytest.mark.slow
@pytest.mark.timeout(300)
def test_what_was_read_stays_and_only_what_was_under_way_is_asked_again(tmp_path: Path) -> None:
    environment = {k: v for k, v in os.environ.items() if k not in ("DATABASE_URL", "REDIS_URL")}
    result = subprocess.run(
        [
            sys.executable,
            "-m",
            "tests.crash.statistics_driver",
            "--kills",
            str(KILLS),
            "--devices",
            str(60 + 60 * KILLS),
        ],
        cwd=ROOT,
        env={**environment, "GATEHOUSE_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr[-3000:]

    found = json.loads(result.stdout.strip().splitlines()[-1])
    sys.stdout.write(f"{found}\n")
    assert (found["status"], found["attempts"]) == ("succeeded", KILLS + 1)
    assert all(found["killed"])
    assert found["read"] == found["counted"] == found["devices"] > 0
    # Twice as many are taken at once as are in flight; none of those that were kept is among them.
    assert found["asked_again"] <= KILLS * 2 * found["in_flight"] < found["mailboxes"]

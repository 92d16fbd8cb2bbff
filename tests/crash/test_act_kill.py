"""Workers that are killed while they act lose nothing and send nothing twice (act_driver.py does the work).

Few kills here, to keep the suite quick; `make crash` does a hundred with 2,000 commands.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bench.children import ROOT

KILLS = int(os.environ.get("CRASH_ACT_KILLS", "4"))
COMMANDS = int(os.environ.get("CRASH_ACT_COMMANDS", "120"))


@pytest.mark.wire
@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_the_lists_come_to_what_is_wanted_and_nothing_is_sent_twice(tmp_path: Path) -> None:
    environment = {k: v for k, v in os.environ.items() if k not in ("DATABASE_URL", "REDIS_URL")}
    result = subprocess.run(
        [sys.executable, "-m", "tests.crash.act_driver", "--kills", str(KILLS), "--commands", str(COMMANDS)],
        cwd=ROOT,
        env={**environment, "GATEHOUSE_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr[-3000:]

    found = json.loads(result.stdout.strip().splitlines()[-1])
    sys.stdout.write(f"{found}\n")
    assert found["kills"] == KILLS
    assert found["done"] >= COMMANDS
    wrong = {name: found[name] for name in ("wrong_lists", "others_changed", "wrong_ledger", "sent_twice")}
    assert wrong == {"wrong_lists": 0, "others_changed": 0, "wrong_ledger": 0, "sent_twice": 0}, found

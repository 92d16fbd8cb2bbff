"""The product itself: a fresh home, valkey, a Celery worker, a connector; one first full sync, then steady ones.

`GATEHOUSE_HOME=... python -m bench.product TARGET_JSON`. Times are those of the run rows (started to finished);
worker_peak_mb is the largest resident set that any process of the worker ever had.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import httpx

from bench.stack import Stack

CHANGED_PERCENT = 1


def peak_mb(pid: int) -> float:
    """VmHWM of a process and of all its descendants: the largest single one."""
    peak = 0.0
    try:
        for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("VmHWM:"):
                peak = int(line.split()[1]) / 1024
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text(encoding="ascii").split():
                peak = max(peak, peak_mb(int(child)))
    except OSError:
        pass  # it ended while we looked
    return peak


def main() -> None:
    target = json.loads(sys.argv[1])
    with Stack(Path(os.environ["GATEHOUSE_HOME"])) as stack:
        connector = stack.add_connector(target)
        worker = stack.start_worker("bench")
        first = stack.full_sync(connector)
        steady: list[float] = []
        for _ in range(target["steady"]):
            mutate(target, max(1, first.observed * CHANGED_PERCENT // 100))
            steady.append(stack.seconds(stack.full_sync(connector)))
        result: dict[str, Any] = {
            "devices": first.observed,
            "first_seconds": stack.seconds(first),
            "steady_seconds": steady,
            "worker_peak_mb": peak_mb(worker.pid),
            "at": time.time(),
        }
    print(json.dumps(result))


def mutate(target: dict[str, Any], count: int) -> None:
    """Change some devices in the lab, so that a steady sync has something to find."""
    answer = httpx.post(
        f"{target['control']}organizations/{target['organization']}/devices/mutate", json={"count": count}
    )
    answer.raise_for_status()


if __name__ == "__main__":
    main()

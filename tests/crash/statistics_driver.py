"""Kill the worker while it reads everybody's statistics, and look whether all is read, and what was asked twice for it.

`GATEHOUSE_HOME=DIR python -m tests.crash.statistics_driver --kills 3 --devices 150 --seed 1` prints one JSON line. It
brings its own lab, valkey, database and workers, all below GATEHOUSE_HOME, so it can run beside anything.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import time
from pathlib import Path
from typing import Any

import httpx

from bench.children import Lab, lab
from bench.stack import Stack
from bench.sync import ORGANIZATION, target
from tests.crash.driver import TIMING, Ticker, kill, wait_until_running

CMDLET = "Get-MobileDeviceStatistics"
# Seconds that each mailbox takes, so that there is time to kill in.
SLOW = 0.1


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=3)
    parser.add_argument("--devices", type=int, default=150)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    os.environ.update(TIMING, GATEHOUSE_MAX_ATTEMPTS="1000")
    home = Path(os.environ["GATEHOUSE_HOME"])
    arguments = ["--seed", "7", "--organization", f"name={ORGANIZATION},version=2016,cas=1,devices={options.devices}"]
    with lab(home / "lab", *arguments) as state, Stack(home / "product") as stack:
        sys.stdout.write(json.dumps(_trial(stack, state, options)) + "\n")


def _trial(stack: Stack, state: Lab, options: argparse.Namespace) -> dict[str, Any]:
    from sync.models import DeviceStatistics, MobileDevice

    chance = random.Random(options.seed)
    control = state.state["control"]
    connector = stack.add_connector(json.loads(target(state)))
    worker = stack.start_worker("first")
    stack.full_sync(connector)
    # What a killed worker leaves counts as a session until it is idle; this is about reading.
    httpx.patch(f"{control}limits", json={"shells_per_user": 10_000}, timeout=60).raise_for_status()
    fault = {"kind": "slow_command", "cmdlet": CMDLET, "value": str(SLOW)}
    httpx.post(f"{control}faults", json=fault, timeout=60).raise_for_status()
    run = stack.request(connector, "statistics")
    killed: list[str] = []
    tick = Ticker()
    for number in range(options.kills):
        _wait_until_it_reads(run, tick)
        time.sleep(chance.uniform(0.0, 0.5))
        worker, what, _where = kill(stack, worker, run, number)
        killed.append(what)
    run = stack.wait(run, 60.0, tick)
    asked = _asked(control)
    devices = MobileDevice.objects.filter(gone_at=None).count()
    return {
        "status": run.status,
        "attempts": run.attempt,
        "killed": killed,
        "devices": devices,
        "read": DeviceStatistics.objects.count(),
        "counted": run.observed,
        "mailboxes": len(set(asked)),
        "asked_again": len(asked) - len(set(asked)),
        "in_flight": connector.parallel_commands,
    }


def _wait_until_it_reads(run: Any, tick: Ticker) -> None:
    """Until the present attempt has kept something."""
    wait_until_running(run)
    before = run.observed
    end = time.monotonic() + 60
    while time.monotonic() < end:
        tick()
        run.refresh_from_db()
        if run.status == "running" and run.phase == "statistics" and run.observed > before:
            return
        time.sleep(0.02)
    raise SystemExit(f"nothing is read any more: {run.status} {run.phase} {run.observed}")


def _asked(control: str) -> list[str]:
    log = httpx.get(f"{control}organizations/{ORGANIZATION}/log", timeout=60).raise_for_status().json()["log"]
    return [str(entry["parameters"]["Mailbox"]).lower() for entry in log if entry["cmdlet"] == CMDLET]


if __name__ == "__main__":
    main()

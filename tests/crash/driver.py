"""Kill the worker in the middle of syncs, again and again, and look whether everything is right afterwards.

`GATEHOUSE_HOME=DIR python -m tests.crash.driver --kills 20 --devices 20000 --seed 1` prints one JSON line. It brings
its own lab, valkey, database and workers, all below GATEHOUSE_HOME, so it can run beside anything.

Each round: change some devices in the lab, ask for a sync, SIGKILL what runs it after a random part of a sync's usual
time (the pool child alone, or the whole worker, in turns), and wait for the run to end. Then compare every row with
what the lab says it holds.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx

from bench.children import Lab, lab
from bench.stack import Stack
from bench.sync import ORGANIZATION, target

# Short, so that the test is: a lease of 3 s instead of 30 s, in the product's own proportion to the heartbeat.
TIMING = {"GATEHOUSE_LEASE_SECONDS": "3", "GATEHOUSE_HEARTBEAT_SECONDS": "0.5", "GATEHOUSE_MAX_ATTEMPTS": "3"}
# Each kill leaves a session behind at Exchange, which counts against the account's 18 until it has been idle for 180 s.
# On a fast machine the eighteenth kill comes sooner than that, and the product rightly waits.
END_TIMEOUT = 300.0


class Ticker:
    """What beat does every ten seconds, here every half: ask the workers to look for runs left behind."""

    def __init__(self) -> None:
        self._next = 0.0

    def __call__(self) -> None:
        from sync.tasks import recover_runs

        if time.monotonic() >= self._next:
            self._next = time.monotonic() + 0.5
            recover_runs.apply_async(expires=5)


def devices_in_lab(control: str) -> dict[str, str]:
    """{guid: access state} of every device the lab holds, page by page."""
    found: dict[str, str] = {}
    offset = 0
    while True:
        answer = httpx.get(
            f"{control}organizations/{ORGANIZATION}/devices", params={"offset": offset, "limit": 5000}, timeout=60
        )
        page = answer.raise_for_status().json()["devices"]
        if not page:
            return found
        found.update({str(device["guid"]).lower(): device["state"] for device in page})
        offset += len(page)


def devices_in_database() -> tuple[dict[str, str], int]:
    """The same from our table, and how many rows there are (more rows than guids: doubled)."""
    from sync.models import MobileDevice

    rows = list(MobileDevice.objects.filter(gone_at=None).values_list("guid", "access_state"))
    return {str(guid): state for guid, state in rows}, len(rows)


def wait_until_running(run: Any, timeout: float = 60.0) -> None:
    end = time.monotonic() + timeout
    while run.status == "queued" and time.monotonic() < end:
        time.sleep(0.02)
        run.refresh_from_db()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--devices", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    os.environ.update(TIMING)
    home = Path(os.environ["GATEHOUSE_HOME"])
    arguments = ["--seed", "7", "--organization", f"name={ORGANIZATION},version=2016,cas=1,devices={options.devices}"]
    with lab(home / "lab", *arguments) as state, Stack(home / "product") as stack:
        sys.stdout.write(json.dumps(kill_rounds(stack, state, options)) + "\n")


def kill_rounds(stack: Stack, state: Lab, options: argparse.Namespace) -> dict[str, Any]:
    chance = random.Random(options.seed)
    where = json.loads(target(state))
    control = state.state["control"]
    connector = stack.add_connector(where)
    worker = stack.start_worker("first")
    stack.full_sync(connector)
    usual = min(stack.seconds(stack.full_sync(connector)) for _ in range(2))
    rounds: list[dict[str, Any]] = []
    missed = 0  # the sync was faster than the kill: that says nothing, and the round is done again
    while len(rounds) < options.kills and missed <= 3 * options.kills:
        number = len(rounds)
        change_lab(control, chance, options.devices)
        started = time.monotonic()
        run = stack.request(connector, "fullSync")
        wait_until_running(run)
        time.sleep(chance.uniform(0, usual))
        worker, killed, where_in = kill(stack, worker, run, number)
        run = stack.wait(run, END_TIMEOUT, Ticker())
        correct = compare(control)
        if run.status != "succeeded":
            # Ended otherwise (interrupted): the next run must put everything right.
            correct = compare_after_next(stack, connector, control)
        if not killed:
            missed += 1
            continue
        rounds.append(
            {
                "status": run.status,
                "attempts": run.attempt,
                "killed": killed,
                "at": where_in,
                "seconds": round(time.monotonic() - started, 1),
                **correct,
            }
        )
    return {"usual_seconds": usual, "missed": missed, "rounds": rounds}


def kill(
    stack: Stack, worker: subprocess.Popen[bytes], run: Any, number: int
) -> tuple[subprocess.Popen[bytes], str, str]:
    """SIGKILL what holds the run's lease; the whole worker every other time, and then a new one is started.

    Returns the worker to go on with, what was killed ("" when the run had ended already), and where the run was.
    """
    run.refresh_from_db()
    if run.status != "running":
        return worker, "", ""
    where_in = f"{run.phase} {run.observed}"
    if number % 2:
        stack.kill_worker(worker)
        return stack.start_worker(f"again-{number}"), "worker", where_in
    # lease_owner is host/pid[/...]
    os.kill(int(run.lease_owner.split("/")[1]), signal.SIGKILL)
    return worker, "child", where_in


def change_lab(control: str, chance: random.Random, devices: int) -> None:
    """Some devices changed, some gone, some new, so that every round has all three to get right."""
    base = f"{control}organizations/{ORGANIZATION}/devices"
    httpx.post(f"{base}/mutate", json={"count": chance.randint(1, devices // 50)}, timeout=60).raise_for_status()
    httpx.post(f"{base}/remove", json={"count": chance.randint(1, 20)}, timeout=60).raise_for_status()
    httpx.post(base, json={"count": chance.randint(1, 20)}, timeout=60).raise_for_status()


def compare(control: str) -> dict[str, Any]:
    expected = devices_in_lab(control)
    held, rows = devices_in_database()
    return {
        "lost": len(expected.keys() - held.keys()),
        "left_over": len(held.keys() - expected.keys()),
        "doubled": rows - len(held),
        "wrong_state": sum(1 for guid, value in expected.items() if held.get(guid, value) != value),
    }


def compare_after_next(stack: Stack, connector: Any, control: str) -> dict[str, Any]:
    stack.full_sync(connector)
    return compare(control)


if __name__ == "__main__":
    main()

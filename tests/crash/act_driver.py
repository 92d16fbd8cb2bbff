"""Kill the workers while they act, again and again, and look whether Exchange's lists come to what the policy wants.

`GATEHOUSE_HOME=DIR python -m tests.crash.act_driver --kills 100 --commands 2000 --seed 1` prints one JSON line. It
brings its own lab, valkey, database and workers, all below GATEHOUSE_HOME, so it can run beside anything.

Phones of so many mailboxes are to be let in, one command each. A run acts on them, and single mailboxes are marked in
between, so that the lane acts beside it; whichever of the two workers is at it is killed after a random part of a
second, the pool child alone or the whole worker, in turns. Then everything is left to itself until nothing is open.
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

from bench import access_act
from bench.children import Lab, lab
from bench.stack import PROMPT_QUEUES, Stack
from bench.sync import ORGANIZATION, target

# As driver.py: short, so that the test is. A run is taken up again as often as its worker is killed.
TIMING = {"GATEHOUSE_LEASE_SECONDS": "3", "GATEHOUSE_HEARTBEAT_SECONDS": "0.5", "GATEHOUSE_MAX_ATTEMPTS": "10000"}
END_TIMEOUT = 300.0
QUEUES = {"runs": "gatehouse,site.default", "prompt": PROMPT_QUEUES}


class Ticker:
    """What beat does every ten seconds, here every half: ask for whatever was left behind."""

    def __init__(self) -> None:
        self._next = 0.0

    def __call__(self) -> None:
        from sync.acting.checks import checks_dispatch_due
        from sync.acting.settle import commands_recover
        from sync.recover import runs_recover

        if time.monotonic() >= self._next:
            self._next = time.monotonic() + 0.5
            runs_recover()
            commands_recover()
            checks_dispatch_due()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--commands", type=int, default=400)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    os.environ.update(TIMING)
    home = Path(os.environ["GATEHOUSE_HOME"])
    devices = 3 * options.commands + 60  # not every mailbox has a phone
    arguments = ["--seed", "7", "--organization", f"name={ORGANIZATION},version=2016,cas=1,devices={devices}"]
    with lab(home / "lab", *arguments) as state:
        sys.stdout.write(json.dumps(trial(state, options, home)) + "\n")


def trial(state: Lab, options: argparse.Namespace, home: Path) -> dict[str, Any]:
    where = json.loads(target(state))
    control = f"{where['control']}organizations/{ORGANIZATION}"
    access_act.quarantine_by_default(where)
    # What a killed worker leaves counts as a session until it is idle; this is about acting.
    httpx.patch(f"{where['control']}limits", json={"shells_per_user": 10_000}, timeout=60).raise_for_status()
    with Stack(home / "product") as stack:
        return _Trial(stack, stack.add_connector(where), control, options).run()


class _Trial:
    def __init__(self, stack: Stack, connector: Any, control: str, options: argparse.Namespace) -> None:
        self.stack, self.connector, self.control, self.options = stack, connector, control, options
        self.chance = random.Random(options.seed)
        self.workers: dict[str, subprocess.Popen[bytes]] = {}
        self.started = 0
        self.tick = Ticker()
        self.killed: list[str] = []
        self.turn = 1  # odd: all are to be let in
        self._before: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {}
        self._seen = 0
        self._sent: list[dict[str, Any]] = []

    def run(self) -> dict[str, Any]:
        access_act.policy(self.connector)
        for name in QUEUES:
            self._start(name)
        self.stack.full_sync(self.connector)
        phones = access_act.phones(self.options.commands)
        self._before = self._lists()
        self._to_be_let_in(phones)
        began = time.monotonic()
        while len(self.killed) < self.options.kills:
            self._round(phones)
            self._log_read()
        self._settle()
        self._log_read()
        return {
            "kills": len(self.killed),
            "killed": {kind: self.killed.count(kind) for kind in sorted(set(self.killed))},
            "seconds": round(time.monotonic() - began, 1),
            **self._compare(phones),
        }

    def _to_be_let_in(self, phones: list[Any]) -> None:
        """Known as compliant, and only the run is told to look."""
        from sync.models import MailboxCheck

        access_act.push(self.connector, phones, "compliant")
        MailboxCheck.objects.all().delete()

    def _start(self, name: str) -> None:
        self.started += 1
        self.workers[name] = self.stack.start_worker(f"{name}-{self.started}", QUEUES[name])

    def _round(self, phones: list[Any]) -> None:
        """Have something to do, wait until somebody is at it, and kill them a little later."""
        from sync.acting.checks import check_request

        self._ask(phones)
        check_request([phone.owner_id for phone in self.chance.sample(phones, 5)], because="crash")
        end = time.monotonic() + 120  # a worker starts again first, on a machine that may be busy
        while (victim := self._at_it()) is None and time.monotonic() < end:
            self.tick()
            time.sleep(0.02)
        if victim is None:
            raise SystemExit(f"nobody acts, after {len(self.killed)} kills")
        name, pid = victim
        time.sleep(self.chance.uniform(0.0, 0.6))
        if len(self.killed) % 2:
            self.stack.kill_worker(self.workers[name])
            self._start(name)
        else:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                return
        self.killed.append(name)

    def _ask(self, phones: list[Any]) -> None:
        """A run that acts. When all are let in, half of them are to be kept out, and so on: there is always work."""
        from sync.models import Command, SyncRun

        if SyncRun.objects.filter(status__in=SyncRun.ACTIVE).exists():
            return
        if Command.objects.filter(state=Command.State.DONE).count() >= self.turn * len(phones):
            self.turn += 1
            wanted = "noncompliant" if self.turn % 2 == 0 else "compliant"
            access_act.push(self.connector, phones, wanted)
        self.stack.request(self.connector, SyncRun.Kind.APPLY)

    def _at_it(self) -> tuple[str, int] | None:
        """(worker, process) of one that has a command under way."""
        from sync.models import Command

        rows = Command.objects.filter(state__in=(Command.State.PLANNED, Command.State.SENT)).exclude(owner="")
        for owner in rows.order_by("-pk").values_list("owner", flat=True)[:20]:
            pid = int(owner.split("/")[1])
            for name, worker in self.workers.items():
                if _parent(pid) == worker.pid:
                    return name, pid
        return None

    def _settle(self) -> None:
        """Until nothing is open, asked for or running; then one more run that finds nothing to do."""
        from sync.models import Command, MailboxCheck, SyncRun

        end = time.monotonic() + END_TIMEOUT
        asked = 0
        while True:
            self.tick()
            is_open = (
                Command.objects.filter(state__in=Command.OPEN).exists()
                or MailboxCheck.objects.exists()
                or SyncRun.objects.filter(status__in=SyncRun.ACTIVE).exists()
            )
            if not is_open:
                if asked == 2:
                    return
                asked += 1
                self.stack.request(self.connector, SyncRun.Kind.APPLY)
            if time.monotonic() > end:
                raise SystemExit("something stays open for ever")
            time.sleep(0.1)

    def _compare(self, phones: list[Any]) -> dict[str, Any]:
        from sync.models import Command, LedgerEntry

        lists = self._lists()
        is_let_in = self.turn % 2 == 1
        wrong = sum(
            lists.get(str(phone.owner.guid), ((), ())) != (((phone.device_id,) if is_let_in else ()), ())
            for phone in phones
        )
        ours = {str(phone.owner.guid) for phone in phones}
        others = sum(listed != self._before.get(guid) for guid, listed in lists.items() if guid not in ours)
        return {
            "wrong_lists": wrong,
            "others_changed": others,
            "wrong_ledger": abs(LedgerEntry.objects.count() - (len(phones) if is_let_in else 0)),
            "sent_twice": self._sent_twice(),
            "done": Command.objects.filter(state=Command.State.DONE).count(),
            "unsure": Command.objects.filter(error_code="outcome_unknown", state=Command.State.FAILED).count(),
        }

    def _lists(self) -> dict[str, tuple[tuple[str, ...], tuple[str, ...]]]:
        answer = httpx.get(f"{self.control}/mailboxes", params={"limit": 1_000_000}, timeout=60).raise_for_status()
        return {
            str(row["guid"]).lower(): (tuple(row["allowed"]), tuple(row["blocked"]))
            for row in answer.json()["mailboxes"]
        }

    def _log_read(self) -> None:
        """The changes that the lab carried out since the last time: it remembers only so many commands."""
        query = {"since": self._seen}
        log = httpx.get(f"{self.control}/log", params=query, timeout=120).raise_for_status().json()["log"]
        for entry in log:
            self._seen = max(self._seen, int(entry["number"]))
            if entry["cmdlet"] == "Set-CASMailbox":
                self._sent.append(entry["parameters"])

    def _sent_twice(self) -> int:
        """Commands that asked for what the one before had done already."""
        last: dict[str, str] = {}
        twice = 0
        for parameters in self._sent:
            identity = str(parameters["Identity"]).lower()
            lists = {name: value for name, value in parameters.items() if name.startswith("ActiveSync")}
            change = json.dumps(lists, sort_keys=True)
            twice += last.get(identity) == change
            last[identity] = change
        return twice


def _parent(pid: int) -> int:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return 0
    return int(stat.rsplit(")", 1)[1].split()[1])


if __name__ == "__main__":
    main()

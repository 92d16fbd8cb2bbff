"""Acting over the wire: commands in flight against one after another, and how soon a change reaches Exchange.

`GATEHOUSE_HOME=... python -m bench.access_act rates|latency TARGET_JSON` measures in a process of its own; the
functions of the same names start the lab and that process, and give its result.
"""

from __future__ import annotations

import json
import os
import random
import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from bench.children import lab, measured
from bench.product import peak_mb
from bench.stack import PROMPT_QUEUES, Stack
from bench.sync import ORGANIZATION, specification, target

COMMANDS = int(os.environ.get("BENCH_COMMANDS", "2000"))
ONE_AFTER_ANOTHER = int(os.environ.get("BENCH_COMMANDS_SERIAL", "200"))
IN_FLIGHT = 8
SERVER_SECONDS = 0.1
DEVICES = int(os.environ.get("BENCH_ACCESS_DEVICES", "50000"))
CHANGES = int(os.environ.get("BENCH_CHANGES", "60"))
# Seconds between two changes: some come while the session is still there, some after it was left.
PAUSES = (0.1, 8.0)
CHANGE_TIMEOUT = 60.0


def act_rates(home: Path) -> dict[str, float]:
    """act_parallel_over_serial, and both rates in commands a second (each read back)."""
    with lab(home / "lab", *specification(2 * (COMMANDS + ONE_AFTER_ANOTHER))) as state:
        return measured("bench.access_act", "rates", target(state), env={"GATEHOUSE_HOME": str(home / "product")})


def change_latency(home: Path) -> dict[str, float]:
    """change_to_enforced_p95_s, and the median: from before the push until the command's outcome is written."""
    with lab(home / "lab", *specification(DEVICES)) as state:
        return measured("bench.access_act", "latency", target(state), env={"GATEHOUSE_HOME": str(home / "product")})


# --- in the process that measures -----------------------------------------------------------------------------------


@contextmanager
def product(where: dict[str, Any]) -> Iterator[tuple[Stack, Any, dict[str, float]]]:
    """A product whose policy reaches everybody, in front of an Exchange that quarantines by default; with what its
    first full sync took, which decides of everybody."""
    quarantine_by_default(where)
    with Stack(Path(os.environ["GATEHOUSE_HOME"])) as stack:
        connector = stack.add_connector(where)
        policy(connector)
        worker = stack.start_worker("runs", "gatehouse,site.default")
        run = stack.full_sync(connector)
        yield stack, connector, {"decided_seconds": stack.seconds(run), "decided_peak_mb": peak_mb(worker.pid)}


def quarantine_by_default(where: dict[str, Any]) -> None:
    """And by nothing else: no rule keeps a compliant phone out."""
    control = f"{where['control']}organizations/{ORGANIZATION}"
    httpx.patch(control, json={"default_access_level": "Quarantine"}, timeout=60).raise_for_status()
    httpx.put(f"{control}/rules", json={"rules": []}, timeout=60).raise_for_status()


def policy(connector: Any) -> None:
    from django.utils import timezone

    from connectors.models import DeviceSource
    from sync.models import PolicyVersion
    from sync.policies.policy import TenantPolicyValues

    tenant = connector.organization.tenant
    DeviceSource.objects.create(tenant=tenant, kind=DeviceSource.Kind.PUSHED, last_pushed_at=timezone.now())
    values = TenantPolicyValues(enabled=True, target_everyone=True, unlicensed="asOthers", guard_devices=1_000_000)
    PolicyVersion.objects.create(
        tenant=tenant, number=1, content=values.to_json(), made_at=timezone.now(), made_by_name="Bench"
    )


def phones(count: int) -> list[Any]:
    """So many mailboxes' phones, one of each, with their mailbox; without those that have entries already."""
    from sync.models import MobileDevice

    found: dict[int, Any] = {}
    rows = MobileDevice.objects.filter(gone_at=None, owner__isnull=False, access__rule="noRecord").select_related(
        "owner"
    )
    for device in rows.order_by("pk").iterator(chunk_size=2000):
        owner = device.owner
        if owner is not None and not owner.allowed and not owner.blocked:
            found.setdefault(owner.pk, device)
        if len(found) == count:
            return list(found.values())
    raise SystemExit(f"bench: only {len(found)} mailboxes have a phone")


def push(connector: Any, devices: list[Any], compliance: str) -> None:
    from connectors.actors import SETUP
    from sync.records.pushed import BULK_LIMIT, records_upsert

    for start in range(0, len(devices), BULK_LIMIT):
        rows = [
            {
                "id": f"record-{device.pk}",
                "userPrincipalName": device.owner.primary_smtp,
                "emailAddress": device.owner.primary_smtp,
                "easDeviceId": device.device_id,
                "complianceState": compliance,
                "azureADRegistered": True,
            }
            for device in devices[start : start + BULK_LIMIT]
        ]
        report = records_upsert(tenant=connector.organization.tenant, rows=rows, actor=SETUP)
        refused = [result for result in report.results if result.status == "refused"]
        if refused:
            raise SystemExit(f"bench: a record was refused: {refused[0]}")


class Hold:
    """Nobody else is there."""

    def should_stop(self) -> bool:
        return False

    @contextmanager
    def guard(self) -> Iterator[None]:
        from django.db import transaction

        with transaction.atomic():
            yield


def measure_rates(where: dict[str, Any]) -> dict[str, Any]:
    with product(where) as (_, connector, _):
        from connectors.actors import SETUP
        from connectors.models import Connector
        from sync.acting import act
        from sync.models import MailboxCheck

        chosen = phones(COMMANDS + ONE_AFTER_ANOTHER)
        push(connector, chosen, "compliant")
        MailboxCheck.objects.all().delete()
        fault = {"kind": "slow_command", "cmdlet": "Set-CASMailbox", "value": str(SERVER_SECONDS)}
        httpx.post(f"{where['control']}faults", json=fault, timeout=60).raise_for_status()

        def rate(devices: list[Any], in_flight: int) -> float:
            Connector.objects.filter(pk=connector.pk).update(parallel_commands=in_flight)
            order = act.Order(connector.organization_id, tuple(device.owner_id for device in devices))
            began = time.monotonic()
            report = act.execute(order, connector=connector, hold=Hold(), actor=SETUP, because="bench")
            seconds = time.monotonic() - began
            if report.done != len(devices):
                raise SystemExit(f"bench: {report.done} of {len(devices)} commands were done: {report.failures[:1]}")
            return len(devices) / seconds

        serial = rate(chosen[:ONE_AFTER_ANOTHER], 1)
        at_once = rate(chosen[ONE_AFTER_ANOTHER:], IN_FLIGHT)
    return {
        "act_serial_per_second": serial,
        "act_parallel_per_second": at_once,
        "act_parallel_over_serial": at_once / serial,
        "commands": len(chosen),
    }


def measure_latency(where: dict[str, Any]) -> dict[str, Any]:
    chance = random.Random(7)
    with product(where) as (stack, connector, first):
        stack.start_worker("prompt", PROMPT_QUEUES)
        chosen = phones(CHANGES)
        push(connector, chosen, "noncompliant")
        wait_until_looked_at()
        seconds: list[float] = []
        for device in chosen:
            time.sleep(chance.uniform(*PAUSES) if chance.random() < 0.5 else PAUSES[0])
            seconds.append(change_seconds(connector, device))
    seconds.sort()
    return {
        "change_to_enforced_p95_s": seconds[min(int(len(seconds) * 0.95), len(seconds) - 1)],
        "change_to_enforced_median_s": statistics.median(seconds),
        "changes": len(seconds),
        **first,
    }


def wait_until_looked_at() -> None:
    from sync.models import MailboxCheck

    end = time.monotonic() + CHANGE_TIMEOUT
    while MailboxCheck.objects.exists():
        if time.monotonic() > end:
            raise SystemExit("bench: the marked mailboxes were not looked at")
        time.sleep(0.2)


def change_seconds(connector: Any, device: Any) -> float:
    """From before the record is pushed until the journal says that Exchange has it."""
    from sync.models import Command

    began = time.monotonic()
    push(connector, [device], "compliant")
    while not Command.objects.filter(mailbox=device.owner_id, state=Command.State.DONE).exists():
        if time.monotonic() - began > CHANGE_TIMEOUT:
            raise SystemExit(f"bench: the change of {device.device_id} was not enforced")
        time.sleep(0.02)
    return time.monotonic() - began


if __name__ == "__main__":
    kind, text = sys.argv[1:]
    measure = {"rates": measure_rates, "latency": measure_latency}[kind]
    print(json.dumps(measure(json.loads(text))))

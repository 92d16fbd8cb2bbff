"""Match and decide over 100,000 phones, in one process and on one core: how many verdicts a second.

The organisation is of all kinds at once: phones with and without record, of people targeted or not, with entries on
their lists. Making the facts is not measured, nor is reading them from a database.
"""

from __future__ import annotations

import datetime
import gc
import json
import os
import statistics
import time
from typing import Any

from sync.deciding.decide import decide
from sync.deciding.facts import (
    AccessRule,
    DirectoryUser,
    EasDevice,
    Entry,
    ExchangeSettings,
    Ledger,
    Level,
    Mailbox,
    ManagedDevice,
    OrganizationPolicy,
    Override,
    PersonalList,
    TenantPolicy,
)
from sync.deciding.match import match
from sync.deciding.plan import plan
from sync.deciding.world import World

DEVICES = int(os.environ.get("BENCH_DECIDE_DEVICES", "100000"))
ROUNDS = 3
NOW = datetime.datetime(2026, 11, 20, 12, tzinfo=datetime.UTC)
# Two phones a person, as many have.
PHONES_A_PERSON = 2
COMPLIANCE = ("compliant", "compliant", "compliant", "noncompliant", "inGracePeriod", "unknown")


def facts(count: int) -> dict[str, Any]:
    """What a full sync of an organisation of that size hands to match and decide."""
    people = count // PHONES_A_PERSON
    mailboxes = [
        Mailbox(
            number,
            f"{number:032x}",
            sid=f"S-1-5-21-1-2-3-{number}",
            primary_smtp=f"person{number}@contoso.test",
            proxies=(f"SMTP:person{number}@contoso.test", f"smtp:p{number}@contoso.test", f"X500:/o=org/cn={number}"),
            upn=f"person{number}@contoso.test",
            allowed=(f"Appl{number * PHONES_A_PERSON:08d}",) if number % 3 == 0 else (),
        )
        for number in range(people)
    ]
    users = [
        DirectoryUser(
            f"u{number}",
            upn=f"person{number}@contoso.test",
            mail=f"person{number}@contoso.test",
            proxies=(f"SMTP:person{number}@contoso.test",),
            sid=f"S-1-5-21-1-2-3-{number}",
            licensed=True,
            included=number % 20 != 0,
            excluded=number % 50 == 0,
        )
        for number in range(people)
    ]
    devices = [
        EasDevice(
            number,
            number // PHONES_A_PERSON,
            f"Appl{number:08d}",
            "EAS" if number % 10 else "Outlook",
            "iPhone",
            f"iPhone{number % 15}C{number % 5}",
            f"iOS {15 + number % 4}.{number % 7}",
            f"Apple-iPhone{number % 15}C{number % 5}/2107.93",
            state="Allowed",
            first_seen=NOW - datetime.timedelta(days=100),
            last_seen=NOW,
            last_success=NOW,
        )
        for number in range(count)
    ]
    records = [
        ManagedDevice(
            f"r{number}",
            f"u{number // PHONES_A_PERSON}",
            upn=f"person{number // PHONES_A_PERSON}@contoso.test",
            eas_device_id=f"appl{number:08d}",
            serial=f"{number:08d}",
            os="iOS",
            compliance=COMPLIANCE[number % len(COMPLIANCE)],
            registered=True,
            enrolled=NOW - datetime.timedelta(days=90),
            last_check_in=NOW - datetime.timedelta(days=number % 40),
        )
        for number in range(count)
        if number % 8
    ]
    return {"devices": devices, "mailboxes": mailboxes, "records": records, "users": users}


def world(made: dict[str, Any]) -> World:
    """Matched; the part of it that is measured with decide is the matching."""
    matches = match(made["devices"], made["mailboxes"], made["records"], made["users"])
    return World(
        NOW,
        made["devices"],
        matches,
        {mailbox.key: mailbox for mailbox in made["mailboxes"]},
        TenantPolicy(control_on=True, always_allow_compliant=True, stale_days=30),
        OrganizationPolicy(default_level=Level.QUARANTINE),
        ExchangeSettings(Level.QUARANTINE, (AccessRule("DeviceModel", "iPhone3C3", Level.BLOCK, "rule"),)),
        Ledger(
            frozenset(
                Entry(mailbox.key, PersonalList.ALLOWED, device_id)
                for mailbox in made["mailboxes"]
                for device_id in mailbox.allowed
            )
        ),
        [Override(number, f"Appl{number * PHONES_A_PERSON:08d}", Level.BLOCK) for number in range(0, 1_000, 10)],
    )


def measure(count: int = DEVICES) -> dict[str, float]:
    """decide_per_second: match and decide together; the median of several rounds. plan_per_second: the plan alone."""
    made = facts(count)
    gc.collect()
    decided, planned = [], []
    for _ in range(ROUNDS):
        begun = time.perf_counter()
        measured = world(made)
        verdicts = decide(measured)
        decided.append(count / (time.perf_counter() - begun))
        assert len(verdicts) == count
        begun = time.perf_counter()
        plan(measured, verdicts)
        planned.append(count / (time.perf_counter() - begun))
    return {"decide_per_second": statistics.median(decided), "plan_per_second": statistics.median(planned)}


if __name__ == "__main__":
    print(json.dumps(measure()))

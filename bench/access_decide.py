"""Match and decide over 100,000 phones, in one process and on one core: how many verdicts a second.

The organisation is of all kinds at once: phones with and without record, of people targeted or not, with entries on
their lists. It is walked as a full sync walks it, a block of mailboxes after another, each forgotten before the next
(sync/enforcing/loading.py). Making a block's facts is not measured, nor is reading them from a database. Garbage is
collected as it is in any process.
"""

from __future__ import annotations

import datetime
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
# As many as sync.enforcing.loading reads at once; that module is Django's, and this process has none.
MAILBOXES_A_BLOCK = 2000
COMPLIANCE = ("compliant", "compliant", "compliant", "noncompliant", "inGracePeriod", "unknown")


def facts(people: range) -> dict[str, Any]:
    """What a full sync hands to match and decide of these people's mailboxes. Phones have a number each."""
    phones = range(people.start * PHONES_A_PERSON, people.stop * PHONES_A_PERSON)
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
        for number in people
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
        for number in people
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
        for number in phones
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
        for number in phones
        if number % 8
    ]
    overridden = [number for number in people if number % 500 == 10]
    return {"devices": devices, "mailboxes": mailboxes, "records": records, "users": users, "overridden": overridden}


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
        [Override(number, f"Appl{number * PHONES_A_PERSON:08d}", Level.BLOCK) for number in made["overridden"]],
    )


def walked(people: int) -> tuple[float, float]:
    """Seconds that matching and deciding takes of all of them, and planning; block by block."""
    deciding = planning = 0.0
    for first in range(0, people, MAILBOXES_A_BLOCK):
        made = facts(range(first, min(first + MAILBOXES_A_BLOCK, people)))
        begun = time.perf_counter()
        measured = world(made)
        verdicts = decide(measured)
        decided = time.perf_counter()
        plan(measured, verdicts)
        planning += time.perf_counter() - decided
        deciding += decided - begun
        assert len(verdicts) == len(made["devices"])
    return deciding, planning


def measure(count: int = DEVICES) -> dict[str, float]:
    """decide_per_second: match and decide together; the median of several rounds. plan_per_second: the plan alone."""
    people = count // PHONES_A_PERSON
    count = people * PHONES_A_PERSON
    rounds = [walked(people) for _ in range(ROUNDS)]
    return {
        "decide_per_second": statistics.median(count / deciding for deciding, _ in rounds),
        "plan_per_second": statistics.median(count / planning for _, planning in rounds),
    }


if __name__ == "__main__":
    print(json.dumps(measure()))

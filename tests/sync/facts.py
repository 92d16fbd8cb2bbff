"""Facts for the tests of the pure phases: one person, one mailbox, one phone, one record that fit, to be varied."""

from __future__ import annotations

import datetime
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from sync.deciding.facts import DirectoryUser, EasDevice, Link, Mailbox, ManagedDevice
from sync.deciding.match import match
from sync.deciding.matches import Match

NOW = datetime.datetime(2026, 11, 20, 12, tzinfo=datetime.UTC)
DEVICE_ID = "ApplF17ABCDE"


def days(number: float) -> datetime.datetime:
    """So many days from NOW; negative: ago."""
    return NOW + datetime.timedelta(days=number)


def phone(**changes: Any) -> EasDevice:
    made = EasDevice("phone", "anna", DEVICE_ID, "EAS", "iPhone", "iPhone14C5", "iOS 17.6", "Apple-iPhone14C5/2107.93")
    return replace(made, **changes)


def mailbox(**changes: Any) -> Mailbox:
    return replace(Mailbox("anna", "guid-of-anna", primary_smtp="anna@contoso.test"), **changes)


def person(**changes: Any) -> DirectoryUser:
    made = DirectoryUser("user-anna", upn="anna@contoso.test", mail="anna@contoso.test", licensed=True, included=True)
    return replace(made, **changes)


def record(**changes: Any) -> ManagedDevice:
    made = ManagedDevice(
        "record",
        "user-anna",
        eas_device_id=DEVICE_ID,
        os="iOS",
        compliance="compliant",
        registered=True,
        enrolled=days(-100),
        last_check_in=days(-1),
    )
    return replace(made, **changes)


def matched(
    device: EasDevice | None = None,
    records: Iterable[ManagedDevice] | None = None,
    *,
    of: Mailbox | None = None,
    users: Iterable[DirectoryUser] | None = None,
    links: Iterable[Link] = (),
    others: Iterable[EasDevice] = (),
) -> Match:
    """The phone's match; others: further phones, of any mailbox of those that these tests know."""
    device = device or phone()
    boxes = [of or mailbox(), Mailbox("bert", "guid-of-bert", primary_smtp="bert@contoso.test")]
    found = match(
        [device, *others],
        boxes,
        [record()] if records is None else records,
        [person()] if users is None else users,
        links,
    )
    return found[device.key]

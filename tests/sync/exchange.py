"""A small Exchange behind our own ExchangeClient protocol: devices in memory, and things that happen at named places.

`exchange.open` stands where connectors.gateway.open_exchange does. Places, in the order a full sync passes them:
"open", "servers", "organization", "settings", "listing", "page 1", "page 2", ..., "end" (all pages given, but not yet
complete).
What is planned for a place is raised there when it is an exception, and called when it is anything else.
"""

from __future__ import annotations

import datetime
import hashlib
import re
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from connectors.exchange.client import Endpoint, Throttling
from connectors.exchange.errors import BadRequestError, CanceledError
from connectors.exchange.records import (
    ActiveSyncOrganizationSettingsRecord,
    DevicePage,
    ExchangeServerRecord,
    MobileDeviceRecord,
    OrganizationRecord,
    RecordError,
    ServerVersion,
)
from tests.connectors.factories import E2019, ORGANIZATION_RECORD, SETTINGS_RECORD, server_record

EPOCH = datetime.datetime(2026, 3, 1, 8, 0, tzinfo=datetime.UTC)
SERVER = "ex01.contoso.com"
_CLAUSE = re.compile(r"(\w+) -(eq|gt) '((?:[^']|'')*)'")


def device(number: int, **values: Any) -> MobileDeviceRecord:
    """Device `number`, always the same; `values` are what differs."""
    mailbox = f"contoso.com/Users/Person {number}"
    made = MobileDeviceRecord(
        guid=uuid.UUID(int=number + 1),
        identity=f"{mailbox}/ExchangeActiveSyncDevices/Phone§{number}",
        distinguished_name=f"CN=Phone§{number},CN=ExchangeActiveSyncDevices,CN=Person {number},DC=contoso,DC=com",
        mailbox=mailbox,
        device_id=f"ID{number:04d}",
        user_display_name=f"Person {number}",
        friendly_name="",
        device_type="iPhone",
        device_model="iPhone15C2",
        device_os="iOS 19.1",
        device_os_language="de",
        device_user_agent="Apple-iPhone15C2/2201.1",
        device_imei="",
        device_mobile_operator="",
        device_telephone_number="",
        client_type="EAS",
        client_version="16.1",
        access_state="Allowed",
        access_state_reason="Global",
        access_control_rule="",
        first_sync_time=EPOCH,
        when_created=EPOCH,
        when_changed=EPOCH,
    )
    return replace(made, **values)


@dataclass(frozen=True, slots=True)
class Wire:
    """One object of a listing; `broken` is one that no record can be made of."""

    record: MobileDeviceRecord
    salt: str = ""
    broken: bool = False

    @property
    def raw(self) -> bytes:
        return (repr(self.record) + self.salt).encode("utf-8", "surrogatepass")

    @property
    def digest(self) -> bytes:
        return hashlib.blake2b(self.raw, digest_size=16).digest()


def parse(wire: Any) -> MobileDeviceRecord:
    if wire.broken:
        raise RecordError(f"{wire.record.identity}: DeviceId is missing\0")
    record: MobileDeviceRecord = wire.record
    return record


@dataclass
class FakeExchange:
    """`salt` changes every object's bytes and no value; `broken` holds numbers of guids that cannot be read."""

    devices: dict[uuid.UUID, MobileDeviceRecord] = field(default_factory=dict)
    page_size: int = 4
    salt: str = ""
    broken: set[uuid.UUID] = field(default_factory=set)
    micro_delay: float = 0.0
    refuses_time_filters: bool = False
    servers: tuple[ExchangeServerRecord, ...] = (server_record(SERVER), server_record("ex02.contoso.com"))
    # What was asked for: filters of device listings, None for all of them.
    filters: list[str | None] = field(default_factory=list)
    sessions: int = 0
    open_sessions: int = 0
    _plan: dict[str, list[Any]] = field(default_factory=lambda: defaultdict(list))

    def put(self, *records: MobileDeviceRecord) -> None:
        self.devices.update({record.guid: record for record in records})

    def take(self, *numbers: int) -> None:
        for number in numbers:
            self.devices.pop(uuid.UUID(int=number + 1), None)

    def at(self, place: str, happens: BaseException | Callable[[], object], times: int = 1) -> None:
        """Plan something for the next `times` passings of a place."""
        self._plan[place] += [happens] * times

    def pass_by(self, place: str) -> None:
        if self._plan[place]:
            happens = self._plan[place].pop(0)
            if isinstance(happens, BaseException):
                raise happens
            happens()

    @contextmanager
    def open(
        self,
        connector: Any,
        *,
        role: str = "sync",
        should_stop: Callable[[], bool],
        on_event: Callable[[str, dict[str, object]], None],
    ) -> Iterator[FakeSession]:
        self.sessions += 1
        self.pass_by("open")
        if should_stop():
            raise CanceledError
        on_event("server_answered", {"server": SERVER})
        self.open_sessions += 1
        try:
            yield FakeSession(self, should_stop)
        finally:
            self.open_sessions -= 1


class FakeSession:
    """An ExchangeClient."""

    def __init__(self, exchange: FakeExchange, should_stop: Callable[[], bool]) -> None:
        self.exchange = exchange
        self.endpoint = Endpoint(SERVER, 443, use_tls=True)
        self.throttling = Throttling(seconds=exchange.micro_delay)
        self._should_stop = should_stop

    @property
    def version(self) -> ServerVersion | None:
        return E2019

    def servers(self) -> tuple[ExchangeServerRecord, ...]:
        self._pass_by("servers")
        return self.exchange.servers

    def organization(self) -> OrganizationRecord:
        self._pass_by("organization")
        return ORGANIZATION_RECORD

    def organization_settings(self) -> ActiveSyncOrganizationSettingsRecord:
        self._pass_by("settings")
        return SETTINGS_RECORD

    def devices(self, *, filter: str | None = None) -> Iterator[DevicePage]:
        exchange = self.exchange
        exchange.filters.append(filter)
        self._pass_by("listing")
        if filter and "FirstSyncTime" in filter and exchange.refuses_time_filters:
            raise BadRequestError("refused", code="argument_refused")
        found = [record for record in exchange.devices.values() if filter is None or _fits(record, filter)]
        wires = [Wire(record, exchange.salt, record.guid in exchange.broken) for record in found]
        for number, start in enumerate(range(0, len(wires), exchange.page_size), 1):
            self._pass_by(f"page {number}")
            yield DevicePage(tuple(wires[start : start + exchange.page_size]), parse)
        self._pass_by("end")

    def _pass_by(self, place: str) -> None:
        if self._should_stop():
            raise CanceledError
        self.exchange.pass_by(place)


def _fits(record: MobileDeviceRecord, text: str) -> bool:
    """Whether a device meets a filter: clauses joined by -or, as the quick sync writes them."""
    clauses = _CLAUSE.findall(text)
    assert clauses, text
    return any(_meets(record, *clause) for clause in clauses)


def _meets(record: MobileDeviceRecord, name: str, operator: str, value: str) -> bool:
    if name == "FirstSyncTime":
        assert operator == "gt"
        moment = datetime.datetime.strptime(value, "%Y-%m-%d %H:%M:%SZ").replace(tzinfo=datetime.UTC)
        return record.first_sync_time is not None and record.first_sync_time > moment
    held = {"DeviceAccessState": record.access_state, "DeviceId": record.device_id}[name]
    return held == value.replace("''", "'")

"""Several sessions at once against the lab, over the wire: as fast as the server allows, and as slow as it asks."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from connectors.exchange.client import Account, Endpoint, ExchangeClient, Options, Throttling
from connectors.exchange.cmdlets import Identity
from connectors.exchange.errors import CanceledError, OutcomeUnknownError
from connectors.exchange.session import connect
from connectors.parallel import Outcome, parallel
from lab.exchange.wsman import Limits
from tests.connectors.exchange.organizations import Organization, organization

pytestmark = pytest.mark.wire


@dataclass
class Sessions:
    endpoint: Endpoint
    account: Account
    options: Options

    @contextmanager
    def open(self, *, should_stop: Callable[[], bool]) -> Iterator[ExchangeClient]:
        with connect(self.endpoint, self.account, self.options, should_stop=should_stop) as client:
            yield client

    def settle(self) -> None:
        """Nothing is kept here."""


def sessions_with(exchange: Organization) -> Sessions:
    return Sessions(exchange.endpoint(), exchange.account(), exchange.options)


@pytest.fixture
def exchange(tmp_path: Path) -> Iterator[Organization]:
    with organization(tmp_path, "2019", devices=120, limits=Limits(shells_per_user=10)) as found:
        yield found


def allow(client: ExchangeClient, job: tuple[str, str]) -> None:
    mailbox, device_id = job
    client.set_mailbox_entries(Identity(mailbox), allowed_add=(device_id,))


def jobs(exchange: Organization, count: int) -> list[tuple[str, str]]:
    guids = [str(guid) for guid in exchange.store.mailboxes]
    return [(guids[number % len(guids)], f"NEW{number}") for number in range(count)]


def entries(exchange: Organization) -> set[str]:
    return {entry for one in exchange.store.mailboxes.values() for entry in one.allowed if entry.startswith("NEW")}


def done(exchange: Organization, count: int, in_flight: int, **options: Any) -> list[Outcome[tuple[str, str], None]]:
    return list(parallel(sessions_with(exchange), jobs(exchange, count), allow, in_flight=in_flight, **options))


def test_as_many_commands_are_under_way_as_may_be(exchange: Organization) -> None:
    """How much that is worth is measured by `make bench ONLY=access`."""
    exchange.fault("slow_command", 0.3, cmdlet="Set-CASMailbox")
    under_way, at_once, lock = 0, list[int](), threading.Lock()

    def counted(client: ExchangeClient, job: tuple[str, str]) -> None:
        nonlocal under_way
        with lock:
            under_way += 1
            at_once.append(under_way)
        allow(client, job)
        with lock:
            under_way -= 1

    outcomes = list(parallel(sessions_with(exchange), jobs(exchange, 40), counted, in_flight=8))
    assert all(one.error is None for one in outcomes)
    assert entries(exchange) == {f"NEW{number}" for number in range(40)}
    assert max(at_once) == 8


def test_throttling_delays_and_loses_nothing(exchange: Organization) -> None:
    exchange.fault("throttle", 1000, cmdlet="Set-CASMailbox", times=6)
    exchange.fault("micro_delay", 50, cmdlet="Set-CASMailbox", times=3)
    throttling = Throttling()
    events: list[str] = []
    outcomes = done(exchange, 40, in_flight=6, throttling=throttling, on_event=lambda code, params: events.append(code))
    assert all(one.error is None for one in outcomes)
    assert entries(exchange) == {f"NEW{number}" for number in range(40)}
    assert events.count("throttled") == 6
    assert throttling.events == 9
    assert throttling.seconds >= 1


def test_a_limit_of_sessions_means_fewer(exchange: Organization) -> None:
    with connect(exchange.endpoint(), exchange.account(), exchange.options):
        exchange.servers[0].powershell.limits.shells_per_user = 3
        outcomes = done(exchange, 30, in_flight=8)
    assert all(one.error is None for one in outcomes)
    assert len(entries(exchange)) == 30


def test_lost_outcomes_and_lost_sessions(exchange: Organization) -> None:
    """Two commands are carried out and not heard of; what never ran because its session was gone is run elsewhere."""
    exchange.fault("outcome_lost", cmdlet="Set-CASMailbox", times=2)
    outcomes = done(exchange, 30, in_flight=4)
    unknown = [one for one in outcomes if one.error is not None]
    assert [type(one.error) for one in unknown] == [OutcomeUnknownError] * 2
    assert sorted(one.job for one in outcomes) == sorted(jobs(exchange, 30))
    assert entries(exchange) == {f"NEW{number}" for number in range(30)}
    assert len([one for one in exchange.store.executed() if one.cmdlet == "Set-CASMailbox"]) == 30


def test_a_stop_ends_what_is_under_way_and_closes_the_sessions(exchange: Organization) -> None:
    exchange.fault("slow_command", 0.2, cmdlet="Set-CASMailbox")
    stop = threading.Event()
    found: list[Outcome[tuple[str, str], None]] = []

    def act() -> None:
        for one in parallel(sessions_with(exchange), jobs(exchange, 200), allow, in_flight=4, should_stop=stop.is_set):
            found.append(one)
            if len(found) == 8:
                stop.set()

    with pytest.raises(CanceledError):
        act()
    carried_out = {one.job[1] for one in found if one.error is None}
    assert carried_out == entries(exchange)
    assert len(found) < 30
    assert exchange.open_shells == 0

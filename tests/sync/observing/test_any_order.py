"""Whatever happens, in whatever order: the table follows the listing, and no run is left behind."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, note, settings
from hypothesis import strategies as st

from connectors.actors import SETUP
from connectors.exchange.errors import StopError, ThrottledError, TransientError
from connectors.models import Connector, Tenant
from sync import runs, services
from sync.models import MobileDevice, SyncRun
from sync.observing import columns, record, sweep
from sync.recover import runs_recover
from sync.services import run_cancel, sync_request
from tests.connectors import factories
from tests.sync.exchange import FakeExchange, device
from tests.sync.worlds import Killed, codes, lease_expire, listed, present

PLACES = ["open", "servers", "settings", "listing", "page 1", "page 2", "end"]
# Functions of which a worker can be killed in the middle: (owner, name).
FUNCTIONS: list[tuple[Any, str]] = [
    (columns, "insert"),
    (columns, "update"),
    (record, "_stamp"),
    (record.Counts, "write"),
    (sweep, "gone_mark"),
    (runs, "run_succeed"),
    (runs, "successor_start"),
]
# Few devices, so that the same one is met again and again.
NUMBERS = st.integers(0, 2)
STATES = st.sampled_from(["Allowed", "Allowed", "Quarantined"])
KINDS = st.sampled_from(["fullSync", "fullSync", "deltaSync"])

CHANGES = st.one_of(
    st.tuples(st.just("toggle"), NUMBERS),
    st.tuples(st.just("toggle"), NUMBERS),
    st.tuples(st.just("put"), NUMBERS, STATES),
    st.tuples(st.just("again"), NUMBERS),
    st.just(("bytes",)),
)
TROUBLES = st.one_of(
    st.tuples(st.sampled_from(["retry", "throttled", "stop", "cancel", "kill"]), st.sampled_from(PLACES), CHANGES),
    st.tuples(st.just("kill in"), st.integers(0, len(FUNCTIONS) - 1), st.booleans()),
)
ODDITIES = st.one_of(
    st.just(("clear",)),
    st.just(("recover",)),
    st.just(("cancel",)),
    st.tuples(st.just("ask"), KINDS),
    st.tuples(st.just("work"), st.none() | TROUBLES),
)
# Something changes, now and then something odd happens, and a sync is done.
ROUNDS = st.tuples(
    st.lists(CHANGES, max_size=2), st.lists(ODDITIES, max_size=1), st.tuples(KINDS, st.none() | TROUBLES)
)


class World:
    """One connector, its Exchange, and a worker that can be killed."""

    def __init__(self) -> None:
        Tenant.objects.all().delete()
        self.connector = factories.connector()
        self.exchange = FakeExchange()
        self.exchange.put(*(device(number) for number in range(5)))
        self.generations = 0

    # --- what happens in Exchange ---

    def change(self, change: tuple[Any, ...]) -> None:
        match change:
            case ("put", number, state):
                self.exchange.put(device(number, access_state=state, guid=self._guid(number)))
            case ("toggle", number):
                # Gone, or back as it first was.
                if self.exchange.devices.pop(self._guid(number), None) is None:
                    self.exchange.put(device(number))
            case ("again", number):
                # Removed and synchronised anew: the same partnership, another object.
                self.exchange.devices.pop(self._guid(number), None)
                self.generations += 1
                self.exchange.put(device(number, guid=uuid.UUID(int=1000 * self.generations + number + 1)))
            case ("bytes",):
                self.exchange.salt += "x"
            case ("clear",):
                self.exchange.devices.clear()

    def _guid(self, number: int) -> uuid.UUID:
        wanted = device(number).device_id
        found = (record.guid for record in self.exchange.devices.values() if record.device_id == wanted)
        return next(found, device(number).guid)

    # --- what happens here ---

    def step(self, step: tuple[Any, ...]) -> None:
        match step:
            case ("ask", kind):
                sync_request(connector=self.connector, kind=kind, trigger="button", actor=SETUP)
            case ("cancel",):
                for run in SyncRun.objects.filter(status__in=SyncRun.ACTIVE):
                    run_cancel(run=run, actor=SETUP)
            case ("recover",):
                self.recover()
            case ("work", trouble):
                self.work(trouble)
            case ("sync", kind, trouble):
                self.recover()
                self.step(("ask", kind))
                self.work(trouble)
            case change:
                self.change(change)

    def recover(self) -> None:
        for run in SyncRun.objects.filter(status="running"):
            lease_expire(run)
        runs_recover()

    def work(self, trouble: tuple[Any, ...] | None) -> None:
        run = SyncRun.objects.filter(status="queued").first()
        if run is None:
            return
        with self.planned(trouble, run):
            try:
                runs.run_execute(run.pk, open_exchange=self.exchange.open)
            except Killed:
                return
        run.refresh_from_db()
        if run.status == "succeeded":
            self.check_success(run)

    def planned(self, trouble: tuple[Any, ...] | None, run: SyncRun) -> Any:
        patch = pytest.MonkeyPatch()
        self.exchange._plan.clear()
        match trouble:
            case ("kill in", number, after):
                owner, name = FUNCTIONS[number]
                patch.setattr(owner, name, _killed(getattr(owner, name), after=after))
            case (kind, place, change):
                ending: dict[str, Callable[[], Any]] = {
                    "retry": lambda: _throw(TransientError("x", code="connection_dropped")),
                    "throttled": lambda: _throw(ThrottledError("x")),
                    "stop": lambda: _throw(StopError("x")),
                    "cancel": lambda: run_cancel(run=run, actor=SETUP),
                    "kill": lambda: _throw(Killed()),
                }

                def happen() -> None:
                    self.change(change)
                    ending[kind]()

                self.exchange.at(place, happen)
        return _Undo(patch)

    # --- what must hold ---

    def check_success(self, run: SyncRun) -> None:
        there = listed(self.exchange)
        if run.kind == "fullSync":
            held = present(self.connector)
            if "sweep_held" in codes(run):
                held = {name: values for name, values in held.items() if name in there}
            assert held == there
        else:
            # By object: one that was removed and made anew stands twice in the table until a full sync sweeps.
            for one in self.exchange.devices.values():
                if one.access_state in ("Quarantined", "DeviceDiscovery"):
                    row = MobileDevice.objects.filter(guid=one.guid, gone_at=None)
                    assert row.values(*there[one.device_id]).get() == there[one.device_id]

    def check_always(self) -> None:
        assert SyncRun.objects.filter(status__in=SyncRun.ACTIVE).count() <= 1
        guids = list(MobileDevice.objects.values_list("guid", flat=True))
        assert len(guids) == len(set(guids))
        assert self.exchange.open_sessions == 0

    def settle(self) -> None:
        """Recovery and an undisturbed worker, until nothing is left to do; then one more full sync that is believed."""
        for _ in range(20):
            self.recover()
            if not SyncRun.objects.filter(status__in=SyncRun.ACTIVE).exists():
                break
            self.work(None)
        assert not SyncRun.objects.filter(status__in=SyncRun.ACTIVE).exists()
        assert not SyncRun.objects.filter(then_full__isnull=False).exists()
        for _ in range(2):
            sync_request(connector=self.connector, kind="fullSync", trigger="button", actor=SETUP)
            self.work(None)
        assert present(self.connector) == listed(self.exchange)
        assert Connector.objects.get().status == "connected"
        assert set(SyncRun.objects.values_list("status", flat=True)) <= set(SyncRun.ENDED)


class _Undo:
    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.patch = patch

    def __enter__(self) -> None:
        return None

    def __exit__(self, *_: object) -> None:
        self.patch.undo()


def _throw(error: BaseException) -> None:
    raise error


def _killed(real: Callable[..., Any], *, after: bool) -> Callable[..., Any]:
    def killed(*arguments: Any, **named: Any) -> Any:
        if after:
            real(*arguments, **named)
        raise Killed

    return killed


@pytest.fixture
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sync.runs._Walk._sleep", lambda walk, seconds: None)
    monkeypatch.setattr(services, "run_dispatch", lambda run: None)


DONE = ("fullSync", None)


@pytest.mark.slow
@pytest.mark.django_db
@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(rounds=st.lists(ROUNDS, min_size=2, max_size=7))
@example(rounds=[([], [], DONE), ([("toggle", 1)], [], DONE), ([("toggle", 1)], [], DONE)])
@example(rounds=[([], [], DONE), ([], [], ("fullSync", ("retry", "page 2", ("toggle", 0))))])
@example(
    rounds=[([], [], DONE), ([], [("ask", "deltaSync"), ("ask", "fullSync")], ("deltaSync", ("kill in", 6, False)))]
)
def test_the_table_follows_the_listing(no_waiting: None, rounds: list[tuple[Any, ...]]) -> None:
    world = World()
    for changes, oddities, (kind, trouble) in rounds:
        for step in (*changes, *oddities, ("sync", kind, trouble)):
            note(str(step))
            world.step(step)
            world.check_always()
    world.settle()

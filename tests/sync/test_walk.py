"""A run walks the organization some mailboxes at a time: it comes to the same, and holds no more than a few of them."""

from __future__ import annotations

import gc
from typing import Any

import pytest

from connectors.actors import SETUP, Actor
from connectors.models import Connector
from sync import runs
from sync.deciding.facts import EasDevice
from sync.deciding.plan import plan as planned
from sync.enforcing import enforce, loading
from sync.enforcing.approvals import approval_approve
from sync.models import Approval, Command, DeviceAccess, DeviceEvent, Drift, HeldDenial, LedgerEntry, SyncRun
from sync.services import run_cancel, sync_request
from tests.connectors import factories
from tests.sync.access import enrolled, govern, organize, record
from tests.sync.conftest import Sync
from tests.sync.exchange import FakeExchange, device
from tests.sync.worlds import codes

PHONES = 24
COUNTERS = ("status", "decided", "to_allow", "to_deny", "held", "commands_planned", "commands_done", "commands_failed")


def busy_exchange() -> FakeExchange:
    """Lets everybody in. The last two phones have no mailbox that can be found; two entries are others'."""
    made = FakeExchange()
    made.settings = made.settings.__class__("Allow", "", ())
    made.put(*(device(number) for number in range(PHONES)))
    made.put_people(*range(PHONES - 2))
    made.change_box(12, allowed_device_ids=("ID0012",))
    made.change_box(2, blocked_device_ids=("ID0002",))
    made.put_rule("DeviceType", "Toaster", "Block")
    return made


def sync_of(connector: Connector, exchange: FakeExchange, kind: str = SyncRun.Kind.FULL) -> SyncRun:
    run = sync_request(connector=connector, kind=kind, trigger=SyncRun.Trigger.BUTTON, actor=SETUP).run
    runs.run_execute(run.pk, open_exchange=exchange.open, open_sessions=exchange.open_sessions_of, owner="worker-1/100")
    run.refresh_from_db()
    return run


def seen(connector: Connector, exchange: FakeExchange, run: SyncRun) -> dict[str, Any]:
    """All that a run left behind, without keys and times."""
    of = {"organization": connector.organization}
    lists = {box.primary_smtp_address: (box.allowed_device_ids, box.blocked_device_ids) for box in _boxes(exchange)}
    return {
        "counters": [getattr(run, name) for name in COUNTERS],
        "story": codes(run),
        "written": list(exchange.written),
        "lists": lists,
        "settings": exchange.settings,
        "verdicts": sorted(
            DeviceAccess.objects.filter(**of).values_list(
                "device__device_id", "access", "state", "reason", "rule", "hindered_by", "outcome"
            )
        ),
        "persons": sorted(connector.organization.mailboxes.values_list("primary_smtp", "person__upn")),
        "drifts": sorted(Drift.objects.filter(**of).values_list("kind", "subject", "is_alarm", "ended_because")),
        "approvals": list(
            Approval.objects.filter(**of).order_by("pk").values_list("state", "limit_devices", "settings_held")
        ),
        "held": sorted(
            HeldDenial.objects.filter(approval__organization=connector.organization).values_list(
                "approval__state", "device__device_id", "access", "reason", "rule"
            )
        ),
        "commands": sorted(Command.objects.filter(**of).values_list("kind", "state", "denies", "allows")),
        "ledger": sorted(
            LedgerEntry.objects.filter(mailbox__organization=connector.organization).values_list("listed", "device_id")
        ),
        "events": sorted(
            DeviceEvent.objects.filter(device__organization=connector.organization).values_list(
                "device__device_id", "code"
            )
        ),
    }


def _boxes(exchange: FakeExchange) -> list[Any]:
    return list(exchange.mailboxes.values())


def lived(block: int, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The same few syncs with blocks of that size: many denials wait; then a default does as well; then all may go."""
    monkeypatch.setattr(loading, "BLOCK", block)
    connector = factories.connector("Mail", of=f"Blocks of {block}")
    Connector.objects.filter(pk=connector.pk).update(parallel_commands=1)
    connector.refresh_from_db()
    exchange = busy_exchange()
    govern(connector, guard_devices=5, guard_percent=0.0)
    enrolled(connector, *range(10))
    enrolled(connector, *range(10, 20), compliance="noncompliant")
    record(connector, PHONES - 1, user_source_id="")
    found = [seen(connector, exchange, sync_of(connector, exchange))]
    organize(connector, default_level="quarantine", user_mail_insert="Enrol")
    found.append(seen(connector, exchange, sync_of(connector, exchange)))
    approval = Approval.objects.get(organization=connector.organization, state=Approval.State.WAITING)
    approval_approve(approval=approval, actor=Actor(name="Ada"))
    found.append(seen(connector, exchange, sync_of(connector, exchange, SyncRun.Kind.APPLY)))
    return found


def test_blocks_come_to_the_same_as_the_whole(db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    waiting, settings_wait, done = lived(1000, monkeypatch)

    assert lived(2, monkeypatch) == [waiting, settings_wait, done]

    # What was compared was something.
    assert [state for state, *_ in waiting["approvals"]] == ["waiting"]
    assert len(waiting["held"]) > 5
    assert {kind for kind, *_ in waiting["drifts"]} == {"foreignAllow", "foreignBlock", "ruleAdded"}
    assert [bool(held) for *_, held in settings_wait["approvals"]] == [True]
    assert settings_wait["settings"].default_access_level == "Allow"
    assert done["settings"].default_access_level == "Quarantine"
    assert any("ID0000" in allowed for allowed, _ in done["lists"].values())


def test_no_more_than_two_blocks_are_held(
    connector: Connector, exchange: FakeExchange, sync: Sync, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one that is looked at, and the one before while the next is read; however many there are."""
    exchange.put(*(device(number) for number in range(40)))
    exchange.put_people(*range(40))
    govern(connector)
    enrolled(connector, *range(20))
    monkeypatch.setattr(loading, "BLOCK", 2)
    counted: list[int] = []

    def plan(*arguments: Any) -> Any:
        counted.append(sum(type(one) is EasDevice for one in gc.get_objects()))
        return planned(*arguments)

    monkeypatch.setattr(enforce, "plan", plan)
    gc.collect()
    # What other tests left is looked through no more: with it each count took a second, and the run lost its lease.
    gc.freeze()
    try:
        run = sync()
    finally:
        gc.unfreeze()

    assert (run.decided, len(counted)) == (40, 21)
    assert 0 < max(counted) <= 4


def test_progress_is_shown_and_a_cancel_is_heard_between_two_blocks(
    connector: Connector, exchange: FakeExchange, sync: Sync, monkeypatch: pytest.MonkeyPatch
) -> None:
    exchange.put_people(*range(10))
    govern(connector)
    enrolled(connector, *range(10))
    monkeypatch.setattr(loading, "BLOCK", 2)
    shown: list[int] = []

    def plan(*arguments: Any) -> Any:
        run = SyncRun.objects.get(status=SyncRun.Status.RUNNING)
        shown.append(run.decided)
        if len(shown) == 3:
            run_cancel(run=run, actor=SETUP)
        return planned(*arguments)

    monkeypatch.setattr(enforce, "plan", plan)

    run = sync()

    assert run.status == SyncRun.Status.CANCELED
    assert shown == [0, 0, 2]
    assert exchange.written == []

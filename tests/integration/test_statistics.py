"""Statistics of a whole organization over the wire, in each family of cmdlets: all of them, a break, a refusal."""

from __future__ import annotations

import datetime
from collections import Counter
from typing import Any

import pytest

from connectors.actors import SCHEDULE
from connectors.models import Connector
from sync.models import DeviceStatistics, Mailbox, MobileDevice, SyncRun
from sync.observing import statistics_run
from sync.observing.statistics import statistics_keep
from sync.services import sync_request
from tests.integration.worlds import connector_to, sync
from tests.labs import Lab, Organization
from tests.sync.access import govern
from tests.sync.worlds import codes, event

pytestmark = [pytest.mark.wire, pytest.mark.timeout(60)]
STATISTICS = SyncRun.Kind.STATISTICS
CMDLETS = {"2010": "Get-ActiveSyncDeviceStatistics"}


@pytest.fixture
def organization(lab: Lab) -> Organization:
    return lab.organization("SE")


def in_lab(organization: Organization) -> dict[str, datetime.datetime | None]:
    """When each phone that syncs know of synchronized last."""
    known = {str(guid) for guid in MobileDevice.objects.values_list("guid", flat=True)}
    rows = {str(row["guid"]).lower(): row["last_success"] for row in organization.devices()}
    return {guid: datetime.datetime.fromisoformat(rows[guid]) if rows[guid] else None for guid in known}


def read() -> dict[str, datetime.datetime | None]:
    return {str(guid): at for guid, at in DeviceStatistics.objects.values_list("device__guid", "last_success_at")}


def asked(organization: Organization) -> Counter[str]:
    """How often each mailbox was asked since the log was cleared."""
    cmdlet = CMDLETS.get(organization.version, "Get-MobileDeviceStatistics")
    return Counter(str(entry["parameters"]["Mailbox"]) for entry in organization.log() if entry["cmdlet"] == cmdlet)


@pytest.mark.parametrize(
    ("version", "is_governed"), [("2010", False), ("2010", True), ("2013", True), ("2016", False), ("SE", True)]
)
def test_every_phones_last_sync_is_read_with_one_call_a_mailbox(lab: Lab, version: str, is_governed: bool) -> None:
    """Where nothing governs an organization its mailboxes are not known, and are named by their phones' names."""
    organization = lab.organization(version)
    connector = connector_to(organization)
    if is_governed:
        govern(connector, enabled=False)
    sync(connector)
    assert Mailbox.objects.exists() is is_governed
    organization.log_clear()

    run = sync(connector, STATISTICS)

    assert (run.status, run.rejected) == ("succeeded", 0)
    assert run.observed == run.expected == MobileDevice.objects.count() > 0
    expected = in_lab(organization)
    assert read() == expected
    assert any(expected.values())
    calls = asked(organization)
    assert set(calls.values()) == {1}
    assert len(calls) == MobileDevice.objects.values("mailbox_key").distinct().count()
    assert not [entry for entry in organization.log() if not entry["cmdlet"].startswith(("Get-", "Set-ADServer"))]
    assert run.exchange_server in {one.fqdn for one in organization.servers}


def test_a_second_reading_asks_nobody(organization: Organization) -> None:
    connector = connector_to(organization)
    sync(connector)
    sync(connector, STATISTICS)
    organization.log_clear()
    run = sync(connector, STATISTICS)
    assert (run.status, run.observed) == ("succeeded", 0)
    assert not asked(organization)


def test_an_account_that_lacks_the_cmdlet(lab: Lab, organization: Organization) -> None:
    connector = connector_to(organization)
    sync(connector)
    organization.hide("Get-MobileDeviceStatistics")
    try:
        run = sync(connector, STATISTICS)
    finally:
        lab.reset()
    assert (run.status, run.error_code) == ("failed", "cmdlet_not_granted")
    connector.refresh_from_db()
    assert (connector.status, connector.last_error_code) == ("connected", "")


FAULTS: dict[str, dict[str, Any]] = {
    "throttled": {"kind": "throttle", "value": 100, "times": 2},
    "a directory error": {"kind": "transient", "times": 2},
    "lost shells": {"kind": "shell_not_found", "times": 2},
    "a slow server": {"kind": "micro_delay", "value": 5},
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_what_passes_costs_nobody(lab: Lab, organization: Organization, fault: dict[str, Any]) -> None:
    connector = connector_to(organization)
    sync(connector)
    with lab.fault(cmdlet="Get-MobileDeviceStatistics", **fault):
        run = sync(connector, STATISTICS)
    assert (run.status, run.rejected) == ("succeeded", 0)
    assert read() == in_lab(organization)


def test_a_mailbox_that_cannot_be_read_is_counted(lab: Lab, organization: Organization) -> None:
    connector = connector_to(organization)
    Connector.objects.update(parallel_commands=1)
    sync(connector)
    with lab.fault("error_record", cmdlet="Get-MobileDeviceStatistics", value="The mailbox is moving.", times=1):
        run = sync(connector, STATISTICS)
    assert (run.status, run.observed + run.rejected) == ("succeeded", run.expected)
    assert run.rejected > 0
    assert "moving" in event(run, "statistics_unread").params["remote_text"]
    assert sync(connector, STATISTICS).observed == run.rejected
    assert read() == in_lab(organization)


def test_a_sync_that_is_due_does_not_wait_for_it(
    lab: Lab, organization: Organization, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(statistics_run, "LOOK", 0.0)
    connector = connector_to(organization)
    sync(connector)

    def then_a_sync_is_due(*arguments: Any) -> int:
        sync_request(connector=connector, kind="deltaSync", trigger="schedule", actor=SCHEDULE)
        return statistics_keep(*arguments)

    monkeypatch.setattr(statistics_run, "statistics_keep", then_a_sync_is_due)
    with lab.fault("slow_command", cmdlet="Get-MobileDeviceStatistics", value=0.3):
        first = sync(connector, STATISTICS)
    assert (first.status, codes(first)[-1]) == ("madeWay", "made_way")
    assert 0 < first.observed < (first.expected or 0)
    # What was asked for behind it, and then the rest of the reading.
    quick = sync(connector, "deltaSync")
    assert (quick.kind, quick.status, quick.trigger) == ("deltaSync", "succeeded", "schedule")
    monkeypatch.undo()
    monkeypatch.setattr("sync.dispatch._send", lambda run_id, queue: None)
    rest = sync(connector, STATISTICS)
    assert (rest.status, rest.observed) == ("succeeded", (first.expected or 0) - first.observed)
    assert read() == in_lab(organization)

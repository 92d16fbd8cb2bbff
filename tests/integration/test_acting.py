"""Acting over the wire: the lane, an outcome that is lost on the way, wipe and removal in each family of cmdlets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from connectors.actors import SETUP, Actor
from connectors.models import Connector
from sync.acting import destructive, lane
from sync.models import Command, DeviceStatistics, LedgerEntry, MailboxCheck, MobileDevice
from sync.observing.statistics import statistics_do
from sync.records.pushed import records_upsert
from tests.integration.worlds import connector_to, sync
from tests.labs import Lab, Organization
from tests.sync.access import govern

pytestmark = [pytest.mark.wire, pytest.mark.timeout(120)]

ADA = Actor(name="Ada")
WIPED = {"2010": "Clear-ActiveSyncDevice", "SE": "Clear-MobileDevice"}


@pytest.fixture(autouse=True)
def quick(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The test does itself what the queue would be told of."""
    settings.CHECKS_LINGER_SECONDS = 0.0
    monkeypatch.setattr(destructive, "command_dispatch", lambda command, connector: None)
    for module in ("sync.acting.checks", "sync.acting.lane"):
        monkeypatch.setattr(f"{module}.check_dispatch", lambda connector: None)


def scene(fresh_lab: Callable[..., Lab], version: str = "SE") -> tuple[Organization, Connector, MobileDevice]:
    """An Exchange that quarantines by default, and one phone in it that nothing is said of."""
    organization = fresh_lab(f"name=Bench,version={version},devices=6").organizations[0]
    organization.settings(default_access_level="Quarantine")
    organization._call("PUT", "rules", {"rules": []})
    connector = connector_to(organization)
    govern(connector, unlicensed="asOthers", guard_devices=1000)
    assert sync(connector).status == "succeeded"
    phones = MobileDevice.objects.filter(owner__isnull=False, device_type__in=("iPhone", "Android", "SamsungDevice"))
    phone = next(one for one in phones.select_related("owner") if _is_free(one))
    organization.log_clear()
    return organization, connector, phone


def _is_free(phone: MobileDevice) -> bool:
    return phone.owner is not None and not phone.owner.allowed and not phone.owner.blocked


def push(connector: Connector, phone: MobileDevice, compliance: str) -> None:
    assert phone.owner is not None
    row = {
        "id": "r1",
        "emailAddress": phone.owner.primary_smtp,
        "easDeviceId": phone.device_id,
        "complianceState": compliance,
        "azureADRegistered": True,
    }
    records_upsert(tenant=connector.organization.tenant, rows=[row], actor=SETUP)


def lists(organization: Organization, phone: MobileDevice) -> tuple[list[str], list[str]]:
    assert phone.owner is not None
    row = next(one for one in organization.mailboxes(limit=1000) if one["guid"] == str(phone.owner.guid))
    return row["allowed"], row["blocked"]


def changes(organization: Organization) -> list[str]:
    return [entry["cmdlet"] for entry in organization.log() if not entry["cmdlet"].startswith(("Get-", "Set-ADServer"))]


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("version", ["2010", "SE"])
def test_one_change_of_compliance_is_one_command(fresh_lab: Callable[..., Lab], version: str) -> None:
    organization, connector, phone = scene(fresh_lab, version)

    push(connector, phone, "compliant")
    assert lane.checks_do(connector.pk) == 1

    assert lists(organization, phone) == ([phone.device_id], [])
    assert changes(organization) == ["Set-CASMailbox"]
    assert Command.objects.get().state == Command.State.DONE

    push(connector, phone, "noncompliant")
    lane.checks_do(connector.pk)

    assert lists(organization, phone) == ([], [])
    assert changes(organization) == ["Set-CASMailbox"] * 2
    assert not LedgerEntry.objects.exists()
    assert not MailboxCheck.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_an_outcome_that_is_lost_on_the_way_is_read_back(fresh_lab: Callable[..., Lab]) -> None:
    organization, connector, phone = scene(fresh_lab)
    push(connector, phone, "compliant")

    with organization.lab.fault("outcome_lost", cmdlet="Set-CASMailbox", times=1):
        lane.checks_do(connector.pk)

    assert Command.objects.get().state == Command.State.DONE
    assert changes(organization) == ["Set-CASMailbox"]
    assert lists(organization, phone) == ([phone.device_id], [])


@pytest.mark.django_db(transaction=True)
def test_observing_only_sends_nothing(fresh_lab: Callable[..., Lab]) -> None:
    organization, connector, phone = scene(fresh_lab)
    Connector.objects.update(is_observe_only=True)
    push(connector, phone, "compliant")

    lane.checks_do(connector.pk)

    assert changes(organization) == []
    command = Command.objects.get()
    assert command.state == Command.State.OBSERVED
    assert phone.device_id in command.text


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("version", sorted(WIPED))
def test_a_wipe_and_its_course_and_taking_it_back(fresh_lab: Callable[..., Lab], version: str) -> None:
    organization, connector, phone = scene(fresh_lab, version)
    command = destructive.device_wipe(device=phone, key="k1", actor=ADA, notify=("desk@contoso.com",))

    assert destructive.command_send(command.pk) == Command.State.DONE

    assert changes(organization) == [WIPED[version]]
    assert DeviceStatistics.objects.get(device=phone).wipe_requested_at is not None
    back = destructive.device_wipe_cancel(device=phone, key="k2", actor=ADA)
    assert destructive.command_send(back.pk) == Command.State.DONE
    assert statistics_do(connector.pk, [phone.owner_id or 0]) >= 1
    assert DeviceStatistics.objects.get(device=phone).wipe_requested_at is None


@pytest.mark.django_db(transaction=True)
def test_a_wipe_whose_answer_is_lost_is_not_ordered_twice(fresh_lab: Callable[..., Lab]) -> None:
    organization, _connector, phone = scene(fresh_lab)
    command = destructive.device_wipe(device=phone, key="k1", actor=ADA)

    with organization.lab.fault("outcome_lost", cmdlet="Clear-MobileDevice", times=1):
        assert destructive.command_send(command.pk) == Command.State.DONE

    assert changes(organization) == ["Clear-MobileDevice"]


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("version", sorted(WIPED))
def test_a_removal_clears_the_lists_first(fresh_lab: Callable[..., Lab], version: str) -> None:
    organization, connector, phone = scene(fresh_lab, version)
    push(connector, phone, "compliant")
    lane.checks_do(connector.pk)
    phone = MobileDevice.objects.select_related("owner").get(pk=phone.pk)
    organization.log_clear()

    command = destructive.device_remove(device=phone, key="k1", actor=ADA)
    assert destructive.command_send(command.pk) == Command.State.DONE

    noun = "ActiveSyncDevice" if version == "2010" else "MobileDevice"
    assert changes(organization) == ["Set-CASMailbox", f"Remove-{noun}"]
    assert lists(organization, phone) == ([], [])
    assert phone.device_id not in {one["device_id"] for one in organization.devices()}
    phone.refresh_from_db()
    assert phone.gone_at is not None

"""Access over the wire: a policy and records in the tables, runs against the lab, and what phones are then told.

The lab evaluates as Exchange does and shares no code with us; its log says which commands were really sent.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.utils import timezone

from connectors.actors import Actor
from connectors.models import Connector
from sync.enforcing.approvals import approval_approve
from sync.models import (
    Approval,
    Command,
    DeviceAccess,
    Drift,
    DryRun,
    LedgerEntry,
    Mailbox,
    ManagedDevice,
    MobileDevice,
)
from sync.policies.policy import RuleValues
from tests.factories import PersonFactory, RecordFactory
from tests.integration.worlds import connector_to, sync
from tests.labs import Lab, Organization
from tests.sync.access import govern, organize, person_keys

pytestmark = [pytest.mark.wire, pytest.mark.timeout(120)]

ADA = Actor(name="Ada")
READS = ("Get-", "Select-", "Set-ADServerSettings")


def scene(fresh_lab: Callable[..., Lab], *, version: str = "2016", devices: int = 24) -> tuple[Organization, Connector]:
    lab = fresh_lab(f"name=Bench,version={version},devices={devices}")
    organization = lab.organizations[0]
    return organization, connector_to(organization)


def phones(organization: Organization) -> list[dict[str, Any]]:
    """ActiveSync phones, each DeviceId once."""
    found = {row["device_id"].lower(): row for row in organization.devices() if row["client_type"] != "REST"}
    return list(found.values())


def enroll(connector: Connector, organization: Organization, *rows: dict[str, Any], **values: Any) -> None:
    """A person and a compliant record for the owner of each device."""
    tenant = connector.organization.tenant
    boxes = {box["sam"]: box for box in organization.mailboxes()}
    for row in rows:
        box = boxes[row["mailbox"]]
        source_id = f"u-{box['sam']}"
        if not tenant.directory_users.filter(source_id=source_id).exists():
            person_keys(PersonFactory(tenant=tenant, source_id=source_id, upn=box["upn"], sid=box["sid"]))
        RecordFactory(
            tenant=tenant, source_id=f"r-{row['guid']}", user_source_id=source_id, eas_device_id=row["device_id"],
            **values,
        )  # fmt: skip


def writes(organization: Organization) -> list[str]:
    """Names of the commands that change something, since the log was last cleared."""
    return [line["cmdlet"] for line in organization.log() if not line["cmdlet"].startswith(READS)]


def lists(organization: Organization) -> dict[str, tuple[list[str], list[str]]]:
    return {
        box["sam"]: (sorted(box["allowed"]), sorted(box["blocked"]))
        for box in organization.mailboxes()
        if box["allowed"] or box["blocked"]
    }


@pytest.mark.parametrize("version", ["2010", "2013", "2016", "SE"])
def test_phones_are_told_what_was_decided(fresh_lab: Callable[..., Lab], version: str) -> None:
    organization, connector = scene(fresh_lab, version=version)
    organization.settings(default_access_level="Quarantine")
    govern(connector, guard_devices=1000)
    good, bad, unknown, *_ = phones(organization)
    enroll(connector, organization, good)
    enroll(connector, organization, bad, compliance="noncompliant")
    before = lists(organization)

    run = sync(connector)

    assert run.status == "succeeded", run.error_code
    assert lists(organization) == before | {good["mailbox"]: ([good["device_id"]], [])}
    assert organization.phone(good["mailbox"], good["device_id"])["status"] == 200
    for denied in (bad, unknown):
        assert organization.phone(denied["mailbox"], denied["device_id"])["state"] == "Quarantined"
    held = {row.device.device_id: row.state for row in DeviceAccess.objects.select_related("device")}
    assert (held[good["device_id"]], held[bad["device_id"]]) == ("allowed", "quarantined")

    # A second sync finds nothing to do, and a change of one record is one command.
    organization.log_clear()
    sync(connector)
    sync(connector, "deltaSync")
    assert writes(organization) == []

    ManagedDevice.objects.filter(eas_device_id=bad["device_id"]).update(compliance="compliant")
    MobileDevice.objects.filter(device_id=bad["device_id"]).update(changed_at=timezone.now())
    organization.log_clear()
    sync(connector, "deltaSync")
    assert writes(organization) == ["Set-CASMailbox"]
    assert organization.phone(bad["mailbox"], bad["device_id"])["status"] == 200


def test_where_denial_blocks_a_phone_is_refused(fresh_lab: Callable[..., Lab]) -> None:
    organization, connector = scene(fresh_lab)
    govern(connector, guard_devices=1000)
    organize(connector, denial="block")
    good, bad, *_ = phones(organization)
    enroll(connector, organization, good)
    enroll(connector, organization, bad, compliance="noncompliant")

    sync(connector)

    assert organization.phone(good["mailbox"], good["device_id"])["status"] == 200
    assert organization.phone(bad["mailbox"], bad["device_id"])["status"] == 403
    ours = {(entry.mailbox.sam, entry.listed) for entry in LedgerEntry.objects.select_related("mailbox")}
    assert (bad["mailbox"], "blocked") in ours


def test_many_denials_wait_for_a_person(fresh_lab: Callable[..., Lab]) -> None:
    organization, connector = scene(fresh_lab, devices=120)
    govern(connector)
    before = lists(organization)

    run = sync(connector)

    approval = Approval.objects.get()
    assert run.held == approval.denials.count() > 60
    assert lists(organization) == before

    approval_approve(approval=approval, actor=ADA)
    applied = sync(connector, "apply")

    assert applied.status == "succeeded", applied.error_code
    assert applied.kind == "apply"
    assert applied.to_deny == run.held
    held = MobileDevice.objects.filter(held_denials__approval=approval).select_related("owner")
    after = lists(organization)
    assert all(phone.device_id in after[phone.owner.sam][1] for phone in held if phone.owner)
    one = held[0]
    assert one.owner is not None
    assert organization.phone(one.owner.sam, one.device_id)["status"] == 403


def test_settings_and_rules_are_enforced_and_drift_is_told(fresh_lab: Callable[..., Lab]) -> None:
    organization, connector = scene(fresh_lab)
    govern(connector, guard_devices=1000)
    organize(connector, default_level="block", rules=(RuleValues("DeviceType", "Toaster", "quarantine"),))
    stranger = phones(organization)[0]
    organization.mailbox_change(stranger["mailbox"], allowed=[stranger["device_id"]])
    before = {(rule["query"], rule["level"].lower()) for rule in _rules(organization)}

    sync(connector)

    assert organization.settings()["default_access_level"] == "Block"
    ours = {(rule["query"], rule["level"].lower()) for rule in _rules(organization)}
    # The rules of others stay, and are told too.
    assert ours - before == {("Toaster", "quarantine")}
    assert before <= ours
    assert Drift.objects.filter(kind=Drift.Kind.RULE_ADDED, is_alarm=False).count() == len(before)
    # Somebody else's allow entry: told, and left.
    assert lists(organization)[stranger["mailbox"]][0] == [stranger["device_id"]]
    drifts = Drift.objects.filter(kind=Drift.Kind.FOREIGN_ALLOW, ended_at=None, mailbox__sam=stranger["mailbox"])
    assert drifts.get().is_alarm
    assert organization.phone(stranger["mailbox"], stranger["device_id"])["status"] == 200

    organization.settings(default_access_level="Allow")
    organization.log_clear()
    sync(connector)

    assert writes(organization) == ["Set-ActiveSyncOrganizationSettings"]
    drift = Drift.objects.get(kind=Drift.Kind.SETTING_CHANGED)
    assert (drift.expected, drift.found, drift.ended_because) == ("block", "allow", "enforced")


def _rules(organization: Organization) -> list[dict[str, Any]]:
    return [{**rule, "query": rule.get("query") or rule.get("query_string"),
             "level": rule.get("level") or rule.get("access_level")} for rule in organization.rules()]  # fmt: skip


@pytest.mark.parametrize("by", ["run", "connector"])
def test_observing_sends_nothing(fresh_lab: Callable[..., Lab], by: str) -> None:
    organization, connector = scene(fresh_lab)
    organization.settings(default_access_level="Quarantine")
    govern(connector)
    organize(connector, user_mail_insert="Call the desk")
    enroll(connector, organization, phones(organization)[0])
    if by == "connector":
        Connector.objects.filter(pk=connector.pk).update(is_observe_only=True)
    before = lists(organization)
    organization.log_clear()

    run = sync(connector, is_dry_run=by == "run")

    assert run.status == "succeeded", run.error_code
    assert writes(organization) == []
    assert lists(organization) == before
    texts = list(Command.objects.filter(state=Command.State.OBSERVED).values_list("text", flat=True))
    assert sorted(text.split()[0] for text in texts) == ["Set-ActiveSyncOrganizationSettings", "Set-CASMailbox"]
    kept = DryRun.objects.get(run=run)
    lines = kept.lines.values_list("device_id", "commands")
    assert len(lines) == MobileDevice.objects.count() == kept.changed + kept.unchanged
    assert sorted([*kept.settings, *(text for _, text in lines if text)]) == sorted(texts)


def test_mailboxes_are_those_of_the_organization(fresh_lab: Callable[..., Lab]) -> None:
    organization, connector = scene(fresh_lab)
    govern(connector)

    sync(connector)

    theirs = {box["guid"].lower(): box for box in organization.mailboxes()}
    rows = {str(row.guid): row for row in Mailbox.objects.filter(gone_at=None)}
    assert rows.keys() <= theirs.keys()
    for guid, row in rows.items():
        box = theirs[guid]
        assert (row.sam, row.sid, row.upn, row.domain, row.primary_smtp) == (
            box["sam"], box["sid"], box["upn"], box["domain"], box["smtp"],
        )  # fmt: skip
    owners = MobileDevice.objects.filter(gone_at=None).select_related("owner")
    mailboxes = {row["guid"].lower(): row["mailbox"] for row in organization.devices()}
    assert {str(row.guid): row.owner.sam if row.owner else None for row in owners} == mailboxes

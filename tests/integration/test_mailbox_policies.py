"""Mailbox policies over the wire: made, changed, made the default, assigned and removed, in each family of cmdlets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from connectors.actors import Actor
from connectors.models import Connector, ExchangeOrganization
from sync.acting.destructive import command_send
from sync.models import Command, Mailbox, MailboxPolicy
from sync.observing.mailbox_policy_rows import mailboxes_of
from sync.policies.mailbox_policies import (
    policies_read,
    policy_assign,
    policy_change,
    policy_create,
    policy_make_default,
    policy_remove,
    settings_for_new,
    settings_of,
)
from tests.integration.worlds import connector_to, sync
from tests.labs import Lab, Organization
from tests.sync.access import govern

pytestmark = [pytest.mark.wire, pytest.mark.timeout(120)]

ADA = Actor(name="Ada")


@pytest.fixture(autouse=True)
def nobody_takes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The test sends what it orders."""
    monkeypatch.setattr("sync.policies.mailbox_policies.command_dispatch", lambda command, connector: None)


def scene(fresh_lab: Callable[..., Lab], version: str) -> tuple[Organization, Connector]:
    lab = fresh_lab(f"name=Bench,version={version},devices=12")
    return lab.organizations[0], connector_to(lab.organizations[0])


def done(command: Command) -> str:
    """Send it, and return its text."""
    assert command_send(command.pk) == Command.State.DONE
    command.refresh_from_db()
    return command.text


def policy(name: str) -> MailboxPolicy:
    return MailboxPolicy.objects.select_related("organization").get(name=name)


def in_lab(organization: Organization, name: str) -> dict[str, Any]:
    return next(one for one in organization.policies() if one["name"] == name)


@pytest.mark.parametrize(
    ("version", "noun", "length"),
    [
        ("2010", "ActiveSyncMailboxPolicy", "MinDevicePasswordLength"),
        ("2013", "MobileDeviceMailboxPolicy", "MinPasswordLength"),
        ("SE", "MobileDeviceMailboxPolicy", "MinPasswordLength"),
    ],
)
def test_the_life_of_a_policy(fresh_lab: Callable[..., Lab], version: str, noun: str, length: str) -> None:
    organization, connector = scene(fresh_lab, version)
    govern(connector)
    assert sync(connector).status == "succeeded"
    ours = ExchangeOrganization.objects.get(pk=connector.organization_id)
    assert policy("Default").is_default

    # Made with every setting that this Exchange shows.
    wanted = {**settings_for_new(ours), "PasswordEnabled": True, "MinPasswordLength": 6, "MaxAttachmentSize": "10MB"}
    wanted |= {"ApprovedApplicationList": ("abc:Reader",)}
    text = done(policy_create(organization=ours, name="Sales", settings=wanted, key="1", actor=ADA))
    assert text.startswith(f"New-{noun} -Name 'Sales'")
    assert f"-{length} 6" in text
    assert settings_of(policy("Sales"))["ApprovedApplicationList"] == ("abc:Reader",)
    stored = in_lab(organization, "Sales")["settings"]
    assert stored["MinDevicePasswordLength"] == 6
    assert stored["DevicePasswordEnabled"] is True

    # Changed: another value, no list any more, another name.
    changed = {**settings_of(policy("Sales")), "MinPasswordLength": 8, "ApprovedApplicationList": ()}
    text = done(policy_change(policy=policy("Sales"), name="Field", settings=changed, key="2", actor=ADA))
    assert "MaxAttachmentSize" not in text
    stored = in_lab(organization, "Field")["settings"]
    assert stored["MinDevicePasswordLength"] == 8
    assert stored["ApprovedApplicationList"] == []

    # Assigned, and one mailbox back to the default.
    boxes = list(Mailbox.objects.order_by("pk")[:2])
    ordered = policy_assign(organization=ours, mailboxes=boxes, policy=policy("Field"), key="3", actor=ADA)
    for command in ordered:
        done(command)
    assert in_lab(organization, "Field")["mailboxes"] == 2
    assert mailboxes_of(policy("Field")).count() == 2
    one = Mailbox.objects.get(pk=boxes[0].pk)
    (back,) = policy_assign(organization=ours, mailboxes=[one], policy=None, key="4", actor=ADA)
    done(back)
    assert in_lab(organization, "Field")["mailboxes"] == 1

    # The default, and back; then removed, which leaves its mailbox to the default.
    done(policy_make_default(policy=policy("Field"), key="5", actor=ADA))
    assert [one["name"] for one in organization.policies() if one["is_default"]] == ["Field"]
    assert not policy("Default").is_default
    done(policy_make_default(policy=policy("Default"), key="6", actor=ADA))
    done(policy_remove(policy=policy("Field"), key="7", actor=ADA))
    assert [one["name"] for one in organization.policies()] == ["Default"]
    assert not Mailbox.objects.exclude(mailbox_policy="").exists()
    assert sync(connector).status == "succeeded"
    assert not Mailbox.objects.exclude(mailbox_policy="").exists()


def test_an_answer_that_is_lost_is_found_by_reading(fresh_lab: Callable[..., Lab]) -> None:
    organization, connector = scene(fresh_lab, "2016")
    policies_read(connector.pk)
    organization.lab.fault_add("outcome_lost", cmdlet="New-MobileDeviceMailboxPolicy", times=1)
    since = organization.log()[-1]["number"]
    command = policy_create(
        organization=connector.organization, name="Sales", settings={"MinPasswordLength": 6}, key="1", actor=ADA
    )
    done(command)
    assert [line["cmdlet"] for line in organization.writes(since)] == ["New-MobileDeviceMailboxPolicy"]


def test_what_exchange_refuses_is_told(fresh_lab: Callable[..., Lab]) -> None:
    organization, connector = scene(fresh_lab, "2016")
    policies_read(connector.pk)
    organization.hide("Remove-MobileDeviceMailboxPolicy")
    done(policy_create(organization=connector.organization, name="Sales", settings={}, key="1", actor=ADA))
    command = policy_remove(policy=policy("Sales"), key="2", actor=ADA)
    assert command_send(command.pk) == Command.State.FAILED
    command.refresh_from_db()
    assert command.error_code == "cmdlet_not_granted"
    assert policy("Sales").gone_at is None

"""What pages read of access: counts, approvals, drift and the journal, each as far as the person may see."""

from __future__ import annotations

import pytest

from connectors.selectors import Person
from sync.models import Approval, Command
from sync.selectors import access_counts, approvals_for, commands_for, drifts_for
from tests.factories import (
    AccessFactory,
    ApprovalFactory,
    CommandFactory,
    DeviceFactory,
    DriftFactory,
    HeldDenialFactory,
    MailboxFactory,
    MembershipFactory,
    OrganizationFactory,
    UserFactory,
)

pytestmark = pytest.mark.django_db


@pytest.fixture
def person() -> Person:
    found: Person = UserFactory()
    return found


def test_counts_of_an_organization(person: Person) -> None:
    organization = OrganizationFactory()
    MembershipFactory(user=person, tenant=organization.tenant)
    for state in ("allowed", "allowed", "blocked"):
        AccessFactory(device=DeviceFactory(organization=organization), state=state)
    DeviceFactory(organization=organization)
    AccessFactory(device=DeviceFactory(organization=organization, gone_at="2026-01-01T00:00:00Z"), state="blocked")
    box = MailboxFactory(organization=organization)
    for state in (Command.State.SENT, Command.State.DONE):
        CommandFactory(mailbox=box, state=state)
    waiting = ApprovalFactory(organization=organization)
    HeldDenialFactory(approval=waiting, device=DeviceFactory(organization=OrganizationFactory()))
    HeldDenialFactory(approval=ApprovalFactory(organization=organization, state=Approval.State.REJECTED))
    DriftFactory(mailbox=box)
    DriftFactory(mailbox=box, is_alarm=False)
    DriftFactory(mailbox=box, ended_at="2026-01-01T00:00:00Z")

    counts = access_counts(person, organization)

    assert counts.states == {"allowed": 2, "blocked": 1, "": 1}
    assert (counts.pending, counts.waiting, counts.drifts, counts.alarms) == (1, 1, 2, 1)


def test_another_tenants_are_not_seen(person: Person) -> None:
    mine, theirs = OrganizationFactory(), OrganizationFactory()
    MembershipFactory(user=person, tenant=mine.tenant)
    for organization in (mine, theirs):
        AccessFactory(device=DeviceFactory(organization=organization))
        box = MailboxFactory(organization=organization)
        CommandFactory(mailbox=box)
        DriftFactory(mailbox=box)
        ApprovalFactory(organization=organization)

    assert access_counts(person, theirs).states == {}
    for selected in (approvals_for(person), drifts_for(person), commands_for(person)):
        assert {row.organization_id for row in selected} == {mine.pk}

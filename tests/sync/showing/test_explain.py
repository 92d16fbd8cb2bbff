"""The decision table in words: each row with what it looked at; wish and reality agree with the list of devices."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from connectors.models import Connector
from console.pages.device_words import WAITS
from sync.deciding.facts import State
from sync.deciding.verdicts import Hindrance, Row, Step
from sync.models import Mailbox, MobileDevice
from sync.showing import access_words as words
from sync.showing.device_page import differs
from sync.showing.explain import explained, lines_of, lines_stored, row_number, sentence
from sync.showing.wishes import wishes
from tests.factories import (
    AccessFactory,
    ApprovalFactory,
    CommandFactory,
    ConnectorFactory,
    DeviceFactory,
    HeldDenialFactory,
    MailboxFactory,
    OrganizationFactory,
    OverrideFactory,
    RecordFactory,
)
from tests.sync import access

FACTS: dict[str, Any] = {
    "person": "ada@contoso.lab", "included": True, "excluded": False, "licensed": True, "clientType": "EAS",
    "deviceType": "iPhone", "model": "iPhone15C2", "allowed": None, "blocked": None, "outcome": "matched",
    "deviceId": "ApplX", "others": 2, "upn": "bob@contoso.lab", "compliance": "noncompliant", "registered": True,
    "graceUntil": "2026-03-01T08:00:00+00:00", "lastCheckIn": "2026-03-01T08:00:00+00:00", "days": 30,
    "level": "block", "characteristic": "DeviceType", "query": "iPhone", "controlOn": True, "alwaysAllow": True,
    "until": "2026-03-01T08:00:00+00:00", "expires": None, "reason": "Travels",
}  # fmt: skip


@pytest.mark.parametrize("row", list(Row))
@pytest.mark.parametrize("spoke", [True, False])
@pytest.mark.parametrize("facts", [FACTS, {}, dict.fromkeys(FACTS)], ids=["known", "missing", "null"])
def test_every_row_has_a_sentence(row: Row, spoke: bool, facts: dict[str, Any]) -> None:
    said = sentence(Step(row, spoke, facts))
    assert said.endswith((".", "”.")), said
    assert "%(" not in said
    assert "None" not in said
    assert words.said(words.ROWS, row) != row.value


@pytest.mark.parametrize(
    ("row", "spoke", "facts", "said"),
    [
        (Row.OVERRIDE_ALLOW, True, {"reason": "Travels", "expires": "2026-03-01T08:00:00+00:00"},
         "An administrator decided so until 1 Mar 2026 09:00: “Travels”."),
        (Row.OVERRIDE_BLOCK, True, {"reason": "100% stolen", "expires": None},
         "An administrator decided so, with no end: “100% stolen”."),
        (Row.ADOPTED, True, {"allowed": "adopted", "blocked": None},
         "The entry on the allowed list that somebody else made was adopted: it decides."),
        (Row.EXEMPT, False, {"person": None},
         "The directory knows nobody, or several people, to whom the mailbox belongs."),
        (Row.NOT_TARGETED, True, {"person": "ada@x", "included": False}, "ada@x is in no included group."),
        (Row.STALE, True, {"lastCheckIn": "2026-01-01T00:00:00+00:00", "days": 30},
         "Last checked in at 1 Jan 2026 01:00, which is more than 30 days ago."),
        (Row.STALE, False, {"days": None, "lastCheckIn": None},
         "The policy has no limit for check-ins. Last checked in: not told."),
        (Row.NOT_COMPLIANT, True, {"compliance": "conflict"}, "The record's compliance is “Conflict”."),
        (Row.UNKNOWN_COMPLIANCE, True, {"compliance": "pondering"},
         "The compliance is “pondering”, which the policy counts as not compliant."),
        (Row.GRACE_OVER, False, {"compliance": "inGracePeriod", "graceUntil": "2026-03-01T08:00:00+00:00"},
         "Its grace period lasts until 1 Mar 2026 09:00."),
        (Row.PLATFORM_RULE, True, {"characteristic": "DeviceType", "query": "%s", "level": "block"},
         "The rule DeviceType “%s” says: Block access."),
        (Row.COMPLIANT, True, {"level": "quarantine"}, "Exchange's default access level decides: Quarantine."),
    ],
)  # fmt: skip
def test_sentences_name_the_facts(row: Row, spoke: bool, facts: dict[str, Any], said: str) -> None:
    assert sentence(Step(row, spoke, facts), "Europe/Berlin") == said


def test_the_whole_table_is_shown_and_what_was_not_asked_is_told_apart() -> None:
    lines = lines_of((Step(Row.NOT_ACTIVE_SYNC, False, FACTS), Step(Row.OVERRIDE_BLOCK, True, FACTS)))
    assert [line.number for line in lines] == list(range(1, len(Row) + 1))
    assert [line.row for line in lines if line.is_asked] == ["notActiveSync", "overrideBlock"]
    assert [line.row for line in lines if line.spoke] == ["overrideBlock"]
    assert not any(line.sentence for line in lines if not line.is_asked)
    assert [line.row for line in lines_stored("noRecord") if line.spoke] == ["noRecord"]
    assert not any(line.spoke for line in lines_stored("futureRow"))
    assert (row_number("noRecord"), row_number("futureRow")) == (11, None)


@pytest.mark.django_db
class TestExplained:
    def device(self, connector: Connector, **values: Any) -> MobileDevice:
        mailbox = MailboxFactory(organization=connector.organization)
        made: MobileDevice = DeviceFactory(organization=connector.organization, owner=mailbox, **values)
        return made

    def test_says_what_decides_now_and_what_exchange_has_yet_to_be_told(self) -> None:
        connector = ConnectorFactory()
        access.govern(connector)
        device = self.device(connector)
        found = explained(device)
        assert found
        assert (found.verdict.row, found.verdict.state) == (Row.NO_RECORD, State.BLOCKED)
        assert [line.row for line in found.lines if line.spoke] == ["noRecord"]
        assert len(found.untold) == 1
        assert f"Add='{device.device_id}'" in found.untold[0]
        assert found.named.allowed is None
        OverrideFactory(mailbox=device.owner, device_id=device.device_id, reason="Travels")
        found = explained(device)
        assert found
        assert [line.sentence for line in found.lines if line.spoke] == [
            "An administrator decided so, with no end: “Travels”."
        ]

    def test_nothing_is_explained_of_what_cannot_be_decided(self) -> None:
        connector = ConnectorFactory()
        assert explained(DeviceFactory(organization=connector.organization)) is None
        assert explained(self.device(connector, gone_at=timezone.now())) is None

    def test_it_costs_the_same_however_large_the_organization_is(self) -> None:
        connector = ConnectorFactory()
        access.govern(connector)
        device = self.device(connector)
        with CaptureQueriesContext(connection) as few:
            explained(device)
        for _number in range(10):
            other = self.device(connector)
            RecordFactory(tenant=connector.organization.tenant, eas_device_id=other.device_id)
            DeviceFactory(organization=connector.organization, owner=device.owner)
        with CaptureQueriesContext(connection) as many:
            explained(device)
        assert len(many) == len(few) <= 20

    def test_says_that_activesync_is_off_where_the_verdict_does_not(self) -> None:
        connector = ConnectorFactory()
        access.govern(connector)
        device = self.device(connector)
        found = explained(device)
        assert found
        assert found.beyond == ()
        Mailbox.objects.filter(devices=device).update(activesync_enabled=False)
        found = explained(device)
        assert found
        assert found.beyond == (
            "ActiveSync is switched off for its mailbox: it cannot read mail, whatever is decided here.",
        )
        OverrideFactory(mailbox=device.owner, device_id=device.device_id, level="allow")
        found = explained(device)
        assert found
        assert (found.verdict.state, found.verdict.hindered_by) == (State.ALLOWED, Hindrance.ACTIVE_SYNC_OFF)
        assert found.beyond == ()  # the verdict's own words say it


@pytest.mark.django_db
class TestWishes:
    def test_page_and_list_say_the_same_of_every_combination(self) -> None:
        organization = OrganizationFactory()
        mailbox = MailboxFactory(organization=organization)
        states = [*State, "", "futureState"]
        labels = ["Allowed", "Blocked", "Quarantined", "DeviceDiscovery", "Unknown", "Pondering", ""]
        for state, label in itertools.product(states, labels):
            device = DeviceFactory(organization=organization, owner=mailbox, access_state=label)
            if state:
                AccessFactory(device=device, state=state, rule="noRecord")
        outlook = DeviceFactory(organization=organization, owner=mailbox, access_state="Blocked")
        AccessFactory(device=outlook, state="allowed", rule="notActiveSync")
        rows = MobileDevice.objects.select_related("access", "owner", "organization")
        by_page = {pk for pk, wish in wishes(rows).items() if wish.differs}
        by_list = set(MobileDevice.objects.filter(differs()).values_list("pk", flat=True))
        assert by_page == by_list
        assert len(by_list) == 3 * 5
        assert outlook.pk not in by_list

    @pytest.mark.parametrize(
        ("default", "rules", "allowed", "blocked", "state", "waits_for"),
        [
            ("Quarantine", [], True, False, "allowed", "phone"),
            ("Quarantine", [], False, False, "allowed", "sync"),
            ("Allow", [], False, False, "allowed", "phone"),
            ("Allow", [], True, True, "allowed", "sync"),
            ("Allow", [], False, True, "blocked", "phone"),
            ("Allow", [["i", "DeviceType", "iPhone", "Quarantine"]], False, False, "allowed", "sync"),
        ],
    )
    def test_whether_exchange_was_told_is_judged_as_exchange_does(
        self, default: str, rules: list[Any], allowed: bool, blocked: bool, state: str, waits_for: str
    ) -> None:
        organization = OrganizationFactory(default_access_level=default, access_rules=rules)
        mailbox = MailboxFactory(organization=organization)
        device = DeviceFactory(organization=organization, owner=mailbox, access_state="Quarantined")
        AccessFactory(device=device, state=state, rule="alwaysAllowed")
        mailbox.allowed = [device.device_id] if allowed else []
        mailbox.blocked = [device.device_id] if blocked else []
        mailbox.save()
        found = MobileDevice.objects.select_related("access", "owner", "organization").get(pk=device.pk)
        assert wishes([found])[device.pk].waits_for == waits_for

    @pytest.mark.parametrize(
        ("is_on", "hindered_by", "waits_for"),
        [(True, "", "phone"), (False, "", "activeSync"), (True, "mailboxPolicy", "policy")],
    )
    def test_what_comes_before_the_lists_is_not_waited_for_in_vain(
        self, is_on: bool, hindered_by: str, waits_for: str
    ) -> None:
        organization = OrganizationFactory(default_access_level="Allow")
        mailbox = MailboxFactory(organization=organization, activesync_enabled=is_on)
        device = DeviceFactory(organization=organization, owner=mailbox, access_state="Blocked")
        AccessFactory(device=device, state="allowed", rule="alwaysAllowed", hindered_by=hindered_by)
        found = MobileDevice.objects.select_related("access", "owner", "organization").get(pk=device.pk)
        assert wishes([found])[device.pk].waits_for == waits_for
        assert waits_for in WAITS

    def test_what_is_under_way_comes_before_what_waits(self) -> None:
        mailbox = MailboxFactory()
        device = DeviceFactory(organization=mailbox.organization, owner=mailbox)
        AccessFactory(device=device, state="blocked", rule="noRecord")
        HeldDenialFactory(device=device, approval=ApprovalFactory(organization=mailbox.organization))
        rows = MobileDevice.objects.select_related("access", "owner", "organization")
        assert wishes(rows)[device.pk].waits_for == "approval"
        CommandFactory(mailbox=mailbox, state="planned")
        assert wishes(rows)[device.pk].waits_for == "command"

"""Approvals, drift, overrides, the journal and dry runs on their pages, and what connectors say of access."""

from __future__ import annotations

import csv
import datetime
import io
import re
from functools import cache
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from console.pages.watch import watch
from sync.models import AccessOverride, Approval, DeviceEvent, Drift, EntryChoice, MobileDevice, SyncRun
from tests.console.conftest import Scene
from tests.console.test_connectors import text_of
from tests.factories import (
    AccessFactory,
    ApprovalFactory,
    CommandFactory,
    DeviceFactory,
    DriftFactory,
    HeldDenialFactory,
    MailboxFactory,
    OrganizationFactory,
    OverrideFactory,
    RunFactory,
)
from tests.sync.access import govern

pytestmark = pytest.mark.django_db


@pytest.fixture
def scene(scene: Scene) -> Scene:
    """The same browser of a person each time."""
    return Scene(scene.connector, cache(scene.client))


def owned(scene: Scene, **values: Any) -> MobileDevice:
    mailbox = values.pop("owner", None) or MailboxFactory(organization=scene.connector.organization)
    made: MobileDevice = DeviceFactory(organization=scene.connector.organization, owner=mailbox, **values)
    return made


def get(scene: Scene, name: str, *args: Any, who: str = "administrator", **query: str) -> str:
    answer = scene.client(who).get(reverse(name, args=args), query)
    assert answer.status_code == 200
    return str(answer.content.decode())


def rows_of(answer: Any) -> list[list[str]]:
    """A streamed file, as a spreadsheet reads it."""
    assert answer.streaming
    text = b"".join(answer.streaming_content).decode()
    assert text.startswith("\ufeff")
    return list(csv.reader(io.StringIO(text.removeprefix("\ufeff"))))


class TestApprovals:
    def waiting(self, scene: Scene, *names: str) -> Approval:
        approval = ApprovalFactory(organization=scene.connector.organization)
        for name in names:
            HeldDenialFactory(approval=approval, device=owned(scene, user_display_name=name))
        return approval  # type: ignore[no-any-return]

    def decide(self, scene: Scene, approval: Approval, decision: str, who: str = "administrator", **body: Any) -> Any:
        html = get(scene, "approval", approval.public_id)
        seen = re.search(r'name="seen" value="(\w+)"', html)
        data = {"decision": decision, "seen": seen[1] if seen else "", **body}
        return scene.client(who).post(reverse("approval", args=[approval.public_id]), data, follow=True)

    def test_what_waits_is_said_everywhere(self, scene: Scene) -> None:
        approval = self.waiting(scene, "Ada", "Bob")
        address = reverse("approval", args=[approval.public_id])
        for html in (get(scene, "home"), get(scene, "connector", scene.connector.public_id), get(scene, "approvals")):
            assert address in html
            assert re.search(r'number-badge">1<', html)
        words = text_of(get(scene, "approval", approval.public_id))
        for shown in ("2 devices would newly lose mail", "Ada", "Bob", "Not enrolled: 2", "2 of 200 devices, 1 %",
                      "Limit: beyond it they wait 10 devices and 5 %, or 1,000 devices"):  # fmt: skip
            assert shown in words, shown
        assert "10 devices and 5 %, or 1,000 devices" in text_of(get(scene, "approvals"))
        Approval.objects.update(limit_at_most=None)
        assert "10 devices and 5 % " in text_of(get(scene, "approval", approval.public_id))

    def test_approving_all_starts_a_run(self, scene: Scene) -> None:
        approval = self.waiting(scene, "Ada", "Bob")
        answer = self.decide(scene, approval, "approve", note="Agreed")
        approval.refresh_from_db()
        assert (approval.state, approval.decided_by_name, approval.note) == ("approved", "administrator", "Agreed")
        assert set(approval.denials.values_list("is_approved", flat=True)) == {True}
        assert SyncRun.objects.get().kind == SyncRun.Kind.APPLY
        assert "A run carries it out now." in answer.content.decode()
        assert "Agreed" in answer.content.decode()
        assert not re.search(r"number-badge", answer.content.decode())

    def test_approving_with_exceptions(self, scene: Scene) -> None:
        approval = self.waiting(scene, "Ada", "Bob")
        ada = approval.denials.get(device__user_display_name="Ada").device
        answer = self.decide(scene, approval, "approve_except")
        assert answer.status_code == 422
        assert "Tick the devices" in answer.content.decode()
        self.decide(scene, approval, "approve_except", leave_out=[str(ada.public_id), "nonsense"])
        decided = dict(approval.denials.values_list("device__user_display_name", "is_approved"))
        assert decided == {"Ada": False, "Bob": True}

    def test_rejecting(self, scene: Scene) -> None:
        approval = self.waiting(scene, "Ada")
        self.decide(scene, approval, "reject")
        approval.refresh_from_db()
        assert approval.state == "rejected"
        assert not SyncRun.objects.exists()
        assert DeviceEvent.objects.get().code == "rejected"

    def test_raising_for_this_time(self, scene: Scene) -> None:
        approval = self.waiting(scene, "Ada")
        for to, said in ((None, "Enter how many"), ("5", "more than the limit")):
            answer = self.decide(scene, approval, "raise", **({"to": to} if to else {}))
            assert answer.status_code == 422
            assert said in answer.content.decode()
        self.decide(scene, approval, "raise", to="50")
        approval.refresh_from_db()
        assert (approval.state, approval.raised_to) == ("waiting", 50)

    def test_a_list_that_grew_meanwhile_is_not_decided_unseen(self, scene: Scene) -> None:
        approval = self.waiting(scene, "Ada")
        seen = re.search(r'name="seen" value="(\w+)"', get(scene, "approval", approval.public_id))
        assert seen
        HeldDenialFactory(approval=approval, device=owned(scene))
        for decision in ("approve", "reject"):
            answer = scene.client("administrator").post(
                reverse("approval", args=[approval.public_id]), {"decision": decision, "seen": seen[1]}
            )
            assert answer.status_code == 422
            assert "The list has changed since you saw it" in answer.content.decode()
        approval.refresh_from_db()
        assert approval.state == "waiting"

    def test_decided_twice_the_second_is_told(self, scene: Scene) -> None:
        approval = self.waiting(scene, "Ada")
        self.decide(scene, approval, "reject")
        answer = scene.client("administrator").post(
            reverse("approval", args=[approval.public_id]), {"decision": "approve", "seen": "x"}
        )
        assert "has been decided" in answer.content.decode()
        approval.refresh_from_db()
        assert approval.state == "rejected"

    def test_operators_look_and_do_not_decide(self, scene: Scene) -> None:
        approval = self.waiting(scene, "Ada")
        assert "Only administrators of the tenant decide." in get(scene, "approval", approval.public_id, who="operator")
        assert self.decide(scene, approval, "approve", who="operator").status_code == 403
        assert self.decide(scene, approval, "approve", who="stranger").status_code == 404
        approval.refresh_from_db()
        assert approval.state == "waiting"

    def test_as_a_file(self, scene: Scene) -> None:
        approval = self.waiting(scene, "=HYPERLINK(1)", "Bob")
        rows = rows_of(scene.client("reader").get(reverse("approval_csv", args=[approval.public_id])))
        assert [row[0] for row in rows] == ["Person", "'=HYPERLINK(1)", "Bob"]
        # Why is said once: the rule's words, and its number beside them.
        assert rows[2][4:] == ["Quarantine", "Not enrolled", "11", ""]

    def test_where_settings_wait_it_says_that_leaving_out_holds_them_back(self, scene: Scene) -> None:
        approval = self.waiting(scene, "Ada", "Bob")
        why = "While a device that is left out would lose mail by them, they stay as they are"
        assert why not in text_of(get(scene, "approval", approval.public_id))
        approval.settings_held = ["Set-ActiveSyncOrganizationSettings -DefaultAccessLevel 'Block'"]
        approval.save()
        html = get(scene, "approval", approval.public_id)
        assert why in text_of(html)
        assert "first allow these" in html
        assert reverse("organization_policy", args=[scene.connector.organization.public_id]) in html
        ada = approval.denials.get(device__user_display_name="Ada").device
        said = self.decide(scene, approval, "approve_except", leave_out=[str(ada.public_id)]).content.decode()
        assert "Settings and rules stay as they are while they would deny a device that was left out." in said
        assert "1 device was left out. While it would lose mail" in text_of(said)

    def test_approving_all_says_nothing_of_such(self, scene: Scene) -> None:
        approval = self.waiting(scene, "Ada")
        approval.settings_held = ["Set-ActiveSyncOrganizationSettings -DefaultAccessLevel 'Block'"]
        approval.save()
        said = self.decide(scene, approval, "approve").content.decode()
        assert "left out" not in said

    def test_the_number_of_queries_does_not_grow(self, scene: Scene) -> None:
        approval = self.waiting(scene, "Ada")
        browser = scene.client("administrator")
        addresses = [reverse("approval", args=[approval.public_id]), reverse("approvals")]
        few = [count(browser, address) for address in addresses]
        for number in range(20):
            HeldDenialFactory(approval=approval, device=owned(scene, user_display_name=f"P{number}"))
            ApprovalFactory(organization=scene.connector.organization, state="rejected")
        assert [count(browser, address) for address in addresses] == few
        assert few[0] <= 11
        assert few[1] <= 5


def count(browser: Any, address: str) -> int:
    browser.get(address)
    with CaptureQueriesContext(connection) as queries:
        assert browser.get(address).status_code == 200
    return len(queries)


class TestDrift:
    def test_alarms_come_first_and_what_ended_has_a_page_of_its_own(self, scene: Scene) -> None:
        mailbox = MailboxFactory(organization=scene.connector.organization)
        DriftFactory(mailbox=mailbox, is_alarm=False, kind=Drift.Kind.ENTRY_VANISHED, subject="allowed:quiet")
        DriftFactory(mailbox=mailbox, subject="allowed:loud", first_seen_at=timezone.now() - datetime.timedelta(days=9))
        DriftFactory(
            mailbox=mailbox, subject="allowed:old", ended_at=timezone.now(), ended_because="adopted",
            ended_by_name="Bob",
        )  # fmt: skip
        html = get(scene, "drifts", who="reader")
        assert html.index("loud on the allowed list") < html.index("quiet on the allowed list")
        assert "old on the" not in html
        ended = text_of(get(scene, "drifts", shown="ended"))
        assert "old on the allowed list" in ended
        assert "Adopted Bob" in ended

    @pytest.mark.parametrize(
        ("values", "words"),
        [
            ({"kind": "settingChanged", "subject": "defaultLevel", "expected": "quarantine", "found": "allow"},
             ["Default access level", "Quarantine", "Allow access"]),
            ({"kind": "ruleRemoved", "subject": "DeviceType:iPhone", "expected": "block", "found": ""},
             ["Rule: Device type “iPhone”", "Block access", "No such rule: somebody else removed it"]),
            ({"kind": "ruleAdded", "subject": "UserAgent:x:y", "expected": "", "found": "allow"},
             ["Rule: User agent “x:y”", "No such rule in the policy", "Allow access"]),
            ({"kind": "settingChanged", "subject": "userMailInsert", "expected": "", "found": "<b>Hi</b>"},
             ["quarantine mail", "Empty", "&lt;b&gt;Hi&lt;/b&gt;"]),
        ],
    )  # fmt: skip
    def test_settings_and_rules_in_words(self, scene: Scene, values: dict[str, str], words: list[str]) -> None:
        drift = DriftFactory(mailbox=None, organization=scene.connector.organization, device_id_key="", **values)
        for html in (get(scene, "drifts"), get(scene, "drift", drift.public_id)):
            for shown in words:
                assert shown in html.replace("<br>", " "), shown
        assert "put right by the next full sync" in get(scene, "drift", drift.public_id)
        assert 'name="choice"' not in get(scene, "drift", drift.public_id)

    def test_an_entry_is_adopted_with_a_reason(self, scene: Scene) -> None:
        device = owned(scene)
        drift = DriftFactory(mailbox=device.owner, device=device, device_id_key=device.device_id_key)
        browser, address = scene.client("administrator"), reverse("drift", args=[drift.public_id])
        assert browser.post(address, {"choice": "adopt"}).status_code == 422
        assert browser.post(address, {"reason": "Known"}).status_code == 422
        assert not EntryChoice.objects.exists()
        answer = browser.post(address, {"choice": "adopt", "reason": "Known"}, follow=True)
        assert "The entry is adopted" in answer.content.decode()
        assert EntryChoice.objects.get().choice == "adopt"
        assert "settled in the meantime" in browser.post(
            address, {"choice": "override", "reason": "x"}
        ).content.decode()  # fmt: skip

    def test_operators_look_and_do_not_choose(self, scene: Scene) -> None:
        device = owned(scene)
        drift = DriftFactory(mailbox=device.owner, device_id_key=device.device_id_key)
        address = reverse("drift", args=[drift.public_id])
        assert "Only administrators" in get(scene, "drift", drift.public_id, who="operator")
        assert scene.client("operator").post(address, {"choice": "adopt", "reason": "x"}).status_code == 403
        assert scene.client("stranger").post(address, {"choice": "adopt", "reason": "x"}).status_code == 404

    def test_the_number_of_queries_does_not_grow(self, scene: Scene) -> None:
        browser = scene.client("reader")
        DriftFactory(mailbox=owned(scene).owner)
        few = count(browser, "/drift/")
        for _number in range(20):
            device = owned(scene)
            DriftFactory(mailbox=device.owner, device=device)
        assert count(browser, "/drift/") == few <= 7

    def test_where_control_is_off_the_page_says_why_nothing_is_listed(self, scene: Scene) -> None:
        tenant = scene.connector.organization.tenant
        tenant.name = "Fabrikam <GmbH>"
        tenant.save(update_fields=["name"])
        said, why = (
            "Access control is off in Fabrikam &lt;GmbH&gt;.",
            "Entries of others on personal lists are no drift",
        )
        chosen = {"organization": str(scene.connector.organization.public_id)}
        for query in ({}, chosen):
            html = get(scene, "drifts", **query)
            assert said in html
            assert why in html
        other = OrganizationFactory()  # of a tenant that this person may not see
        assert other.tenant.name not in get(scene, "drifts", organization=str(other.public_id))
        govern(scene.connector)
        assert why not in get(scene, "drifts")
        govern(scene.connector, enabled=False)  # the newest version counts
        assert said in get(scene, "drifts")


class TestOverrides:
    def test_those_that_end_soonest_come_first(self, scene: Scene) -> None:
        later = timezone.now() + datetime.timedelta(days=3)
        for number, until in enumerate((later, later - datetime.timedelta(days=1))):
            name = ("Ada Alder", "Ben Birch")[number]
            mailbox = MailboxFactory(organization=scene.connector.organization, display_name=name)
            OverrideFactory(mailbox=mailbox, expires_at=until, reason=f"Reason {number}")
        OverrideFactory(
            mailbox=MailboxFactory(organization=scene.connector.organization), reason="Long ago",
            ended_at=timezone.now(), ended_by_name="Schedule",
        )  # fmt: skip
        html = get(scene, "overrides", who="reader")
        assert html.index("Reason 1") < html.index("Reason 0")
        assert "Long ago" not in html
        assert "Schedule" in get(scene, "overrides", shown="ended")
        assert "Reason 0" not in get(scene, "overrides", q="ben birch")

    def test_selected_ones_are_ended_where_the_role_allows(self, scene: Scene) -> None:
        device = owned(scene)
        mine = OverrideFactory(mailbox=device.owner, device_id=device.device_id)
        foreign = OverrideFactory()
        body = {"override": [mine.public_id, foreign.public_id, "x"]}
        for who, said in (("operator", "your role does not allow it"), ("stranger", "your role does not allow it")):
            answer = scene.client(who).post(reverse("overrides_end"), body, follow=True)
            assert said in answer.content.decode()
        assert AccessOverride.objects.filter(ended_at=None).count() == 2
        answer = scene.client("administrator").post(reverse("overrides_end"), body, follow=True)
        assert "1 override ended." in answer.content.decode()
        assert AccessOverride.objects.get(ended_at=None) == foreign
        assert "No override was ticked" in scene.client("administrator").post(
            reverse("overrides_end"), follow=True
        ).content.decode()  # fmt: skip

    def test_the_number_of_queries_does_not_grow(self, scene: Scene) -> None:
        browser = scene.client("administrator")
        OverrideFactory(mailbox=owned(scene).owner)
        few = count(browser, "/overrides/")
        for _number in range(20):
            OverrideFactory(mailbox=owned(scene).owner)
        assert count(browser, "/overrides/") == few <= 7


class TestCommands:
    def test_what_was_sent_and_what_became_of_it(self, scene: Scene) -> None:
        mailbox = MailboxFactory(organization=scene.connector.organization)
        run = RunFactory(connector=scene.connector)
        failed = CommandFactory(
            mailbox=mailbox, state="failed", error_code="object_not_found", run=run,
            error_params={"server": "ex01", "cmdlet": "Set-CASMailbox"}, text="Set-CASMailbox -Identity 'a'",
        )  # fmt: skip
        CommandFactory(mailbox=mailbox, text="Set-CASMailbox -Identity 'b'")
        CommandFactory(mailbox=mailbox, state="planned", text="Set-CASMailbox -Identity 'c'")

        def shown(**query: str) -> list[str]:
            return re.findall(r"-Identity &#x27;(.)&#x27;", get(scene, "commands", **query))

        assert shown() == ["c", "b", "a"]
        assert shown(state="failed") == ["a"]
        assert shown(state="open") == ["c"]
        assert shown(run=str(run.public_id)) == ["a"]
        assert shown(organization=str(mailbox.organization.public_id)) == ["c", "b", "a"]
        assert shown(kind="wipe") == []
        words = text_of(get(scene, "command", failed.public_id, who="reader"))
        assert "Exchange does not have the object any more" in words
        assert "What to do" in words

    def test_pages_lead_on(self, scene: Scene) -> None:
        mailbox = MailboxFactory(organization=scene.connector.organization)
        for number in range(60):
            CommandFactory(mailbox=mailbox, text=f"N{number:02}.")
        first = get(scene, "commands", state="done")
        following = re.search(r'rel="next" href="[^"]*before=(\d+)[^"]*"', first)
        assert following
        assert "state=done" in following[0]
        second = get(scene, "commands", state="done", before=following[1])
        assert re.findall(r"N(\d\d)\.", first + second) == [f"{number:02}" for number in reversed(range(60))]
        assert "N59" in get(scene, "commands", before="nonsense")

    def test_of_one_device(self, scene: Scene) -> None:
        device = owned(scene)
        told = CommandFactory(mailbox=device.owner, text="told")
        CommandFactory(mailbox=device.owner, text="of another")
        DeviceEvent.objects.create(device=device, at=timezone.now(), code="commandDone", command=told)
        html = get(scene, "commands", device=str(device.public_id))
        assert "told" in html
        assert "of another" not in html

    def test_the_domain_controller_is_told(self, scene: Scene) -> None:
        mailbox = MailboxFactory(organization=scene.connector.organization)
        named = CommandFactory(mailbox=mailbox, domain_controller="dc07.contoso.com")
        chosen = CommandFactory(mailbox=mailbox, server="ex01.contoso.com")
        assert "Domain controller dc07.contoso.com" in text_of(get(scene, "command", named.public_id))
        assert "Domain controller Chosen by Exchange" in text_of(get(scene, "command", chosen.public_id))
        head, *rows = rows_of(scene.client("reader").get(reverse("commands_csv")))
        column = head.index("Domain controller")
        assert [row[column] for row in rows] == ["", "dc07.contoso.com"]
        assert [row[column - 1] for row in rows] == ["ex01.contoso.com", ""]

    def test_as_a_file_that_no_spreadsheet_runs(self, scene: Scene) -> None:
        mailbox = MailboxFactory(organization=scene.connector.organization, primary_smtp="=cmd|' /C calc'!A0")
        CommandFactory(mailbox=mailbox, state="failed", error_code="object_not_found", actor_name="@Ada")
        CommandFactory(mailbox=mailbox)
        rows = rows_of(scene.client("reader").get(reverse("commands_csv"), {"state": "failed"}))
        assert len(rows) == 2
        assert "'=cmd|' /C calc'!A0" in rows[1]
        assert "'@Ada" in rows[1]
        assert any("full sync" in cell for cell in rows[1])

    def test_the_number_of_queries_does_not_grow(self, scene: Scene) -> None:
        browser = scene.client("reader")
        CommandFactory(mailbox=owned(scene).owner, run=RunFactory(connector=scene.connector))
        few = count(browser, "/commands/")
        for _number in range(20):
            CommandFactory(mailbox=owned(scene).owner, run=RunFactory(connector=scene.connector))
        assert count(browser, "/commands/") == few <= 6


class TestConnector:
    def test_observing_is_switched_by_administrators(self, scene: Scene) -> None:
        address = reverse("connector_observe", args=[scene.connector.public_id])
        assert scene.client("operator").post(address, {"observe": "on"}).status_code == 403
        answer = scene.client("administrator").post(address, {"observe": "on"}, follow=True)
        scene.connector.refresh_from_db()
        assert scene.connector.is_observe_only
        assert "This connector only observes" in answer.content.decode()
        assert "Stop observing" in answer.content.decode()
        scene.client("administrator").post(address, {"observe": "off"})
        scene.connector.refresh_from_db()
        assert not scene.connector.is_observe_only

    def test_commands_at_the_same_time_are_set_with_the_schedule(self, scene: Scene) -> None:
        address = reverse("connector_schedule", args=[scene.connector.public_id])
        body = {"is_enabled": "on", "quick_sync_minutes": "60", "full_sync_time": "03:00"}
        browser = scene.client("administrator")
        assert browser.post(address, {**body, "parallel_commands": "17"}).status_code == 422
        browser.post(address, {**body, "parallel_commands": "8"})
        scene.connector.refresh_from_db()
        assert scene.connector.parallel_commands == 8
        browser.post(address, body)
        scene.connector.refresh_from_db()
        assert scene.connector.parallel_commands == 8

    def test_counts_of_access(self, scene: Scene) -> None:
        for state in ("allowed", "allowed", "quarantined"):
            AccessFactory(device=owned(scene), state=state)
        owned(scene)
        mailbox = owned(scene, gone_at=timezone.now()).owner
        CommandFactory(mailbox=mailbox, state="failed")
        CommandFactory(mailbox=mailbox, state="failed", finished_at=timezone.now() - datetime.timedelta(days=2))
        DriftFactory(mailbox=mailbox)
        html = get(scene, "connector", scene.connector.public_id)
        figures = dict(re.findall(r'verdict=(\w+)">(\d+)<', html))
        assert figures == {"allowed": "2", "quarantined": "1", "blocked": "0", "undecided": "1"}
        words = text_of(html)
        assert "Commands that failed in the last 24 hours 1" in words
        assert "1 alarm" in words

    def test_a_run_that_acts_shows_its_phases_and_how_far_it_is(self, scene: Scene) -> None:
        run = RunFactory(
            connector=scene.connector, running=True, phase="acting", commands_planned=200, commands_done=90,
            commands_failed=10,
        )  # fmt: skip
        seen = watch(scene.connector, run)
        assert seen.acted_percent == 50
        assert [step.state for step in seen.steps] == ["done"] * 8 + ["now"]
        assert "50 percent" in seen.announcement
        html = get(scene, "connector", scene.connector.public_id)
        assert 'aria-valuenow="50"' in html
        assert "90 of 200" in text_of(html)
        run.phase = "devices"
        assert len(watch(scene.connector, run).steps) == 5
        run.kind, run.phase = "apply", "deciding"
        assert [step.state for step in watch(scene.connector, run).steps] == ["done"] * 5 + ["now", "later"]

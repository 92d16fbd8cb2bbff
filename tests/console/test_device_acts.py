"""What people do about devices on their pages: one by one and many at once; typed confirmations; what is told back."""

from __future__ import annotations

import datetime
import re
from functools import cache
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from sync.acting import destructive
from sync.models import (
    AccessOverride,
    Command,
    DeviceEvent,
    DeviceLink,
    DeviceStatistics,
    EntryChoice,
    Mailbox,
    MailboxCheck,
    MobileDevice,
)
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
    RecordFactory,
)
from tests.sync import access

pytestmark = pytest.mark.django_db
OVERRIDE = {"reason": "Travels", "expiry": "7"}


@pytest.fixture
def scene(scene: Scene) -> Scene:
    """The same browser of a person each time."""
    return Scene(scene.connector, cache(scene.client))


def owned(scene: Scene, **values: Any) -> MobileDevice:
    mailbox = values.pop("owner", None) or MailboxFactory(organization=scene.connector.organization)
    made: MobileDevice = DeviceFactory(organization=scene.connector.organization, owner=mailbox, **values)
    return made


def owner_of(device: MobileDevice) -> Mailbox:
    assert device.owner
    return device.owner


def list_on(device: MobileDevice, listed: str) -> None:
    """Put its ID on one of the mailbox's lists."""
    mailbox = owner_of(device)
    setattr(mailbox, listed, [device.device_id])
    mailbox.save()


def page(scene: Scene, device: MobileDevice, who: str = "administrator") -> str:
    answer = scene.client(who).get(reverse("device", args=[device.public_id]))
    assert answer.status_code == 200
    return text_of(answer.content.decode())


def post(scene: Scene, name: str, device: MobileDevice, *args: str, who: str = "administrator", **body: Any) -> Any:
    return scene.client(who).post(reverse(name, args=[device.public_id, *args]), body, follow=True)


class TestPage:
    def test_says_what_is_wanted_and_what_exchange_shows(self, scene: Scene) -> None:
        access.govern(scene.connector)
        device = owned(scene, access_state="Allowed")
        AccessFactory(device=device, access="block", state="blocked", reason="notEnrolled", rule="noRecord")
        list_on(device, "blocked")
        words = page(scene, device)
        for shown in (
            "Rule 11: Not enrolled", "Wanted is “Blocked”, and Exchange still shows “Allowed”.",
            "at the phone&#x27;s next request", f"No record of the person has the device ID {device.device_id}.",
            "On the blocked list, written by somebody else",
        ):  # fmt: skip
            assert shown in words, shown

    def test_says_why_with_the_persons_own_facts(self, scene: Scene) -> None:
        access.govern(scene.connector)
        device = owned(scene)
        upn = owner_of(device).primary_smtp
        RecordFactory(
            tenant=scene.connector.organization.tenant, upn=upn, email=upn, eas_device_id=device.device_id,
            compliance="noncompliant", device_name="Ada's iPhone",
        )  # fmt: skip
        html = scene.client("reader").get(reverse("device", args=[device.public_id])).content.decode()
        assert "The record&#x27;s compliance is “Not compliant”." in text_of(html)
        assert html.count('<li class="trace-spoke" aria-current="true">') == 1
        assert 'class="trace-silent"' in html
        assert "Ada&#x27;s iPhone" in html
        assert "Link by hand" not in html

    def test_a_suggestion_can_be_linked_and_unlinked(self, scene: Scene) -> None:
        person = access.person(scene.connector, 3)
        mailbox = MailboxFactory(organization=scene.connector.organization, primary_smtp=person.mail)
        device = owned(scene, owner=mailbox, device_id="ApplXYZ12345")
        record = access.record(scene.connector, 3, serial="XYZ12345", eas_device_id="")
        assert "High confidence: The device ID is made of the record&#x27;s serial number." in page(scene, device)
        post(scene, "device_link", device, kind="link", record=str(record.public_id))
        assert DeviceLink.objects.get().kind == "link"
        assert "is this device" in page(scene, device)
        post(scene, "device_link", device, kind="clear", record=str(record.public_id))
        assert not DeviceLink.objects.exists()

    def test_a_record_of_another_tenant_cannot_be_linked(self, scene: Scene) -> None:
        device = owned(scene)
        assert post(scene, "device_link", device, kind="link", record=str(RecordFactory().public_id)).status_code == 404
        assert post(scene, "device_link", device, kind="link", record="x").status_code == 400
        assert not DeviceLink.objects.exists()

    def test_records_are_searched_in_the_tenant_alone(self, scene: Scene) -> None:
        device = owned(scene)
        RecordFactory(tenant=scene.connector.organization.tenant, device_name="Mine", serial="S1")
        RecordFactory(device_name="Theirs", serial="S1")
        browser = scene.client("administrator")
        html = browser.get(reverse("device_link", args=[device.public_id]), {"q": "s1"}).content.decode()
        assert "Mine" in html
        assert "Theirs" not in html

    def test_its_story_is_told_in_pages(self, scene: Scene) -> None:
        device = owned(scene)
        DeviceEvent.objects.bulk_create(
            DeviceEvent(device=device, at=timezone.now(), code="linked", params={"record": f"R{n:02}"})
            for n in range(40)
        )
        browser = scene.client("reader")
        first = browser.get(reverse("device", args=[device.public_id])).content.decode()
        following = re.search(r'rel="next" href="(\?before=\d+)#story"', first)
        assert following
        second = browser.get(reverse("device", args=[device.public_id]) + following[1]).content.decode()
        told = re.findall(r"Linked to the record “(R\d\d)”", first + second)
        assert told == [f"R{n:02}" for n in reversed(range(40))]
        assert "for the first time" in second
        assert "Gatehouse saw it for the first time" not in first

    def test_the_number_of_queries_does_not_grow(self, scene: Scene) -> None:
        access.govern(scene.connector)
        device = owned(scene)
        AccessFactory(device=device)

        def more(count: int) -> None:
            for _number in range(count):
                command = CommandFactory(mailbox=device.owner, device=device)
                DeviceEvent.objects.create(device=device, at=timezone.now(), code="commandDone", command=command)
                owned(scene, owner=device.owner, mailbox=device.mailbox)
                RecordFactory(tenant=scene.connector.organization.tenant, eas_device_id=device.device_id)

        more(2)
        browser = scene.client("administrator")
        address = reverse("device", args=[device.public_id])
        browser.get(address)
        with CaptureQueriesContext(connection) as few:
            browser.get(address)
        more(15)
        with CaptureQueriesContext(connection) as many:
            browser.get(address)
        assert len(few) == len(many) <= 45

    def test_a_device_whose_mailbox_is_not_known_says_so(self, scene: Scene) -> None:
        assert "its mailbox is read with the next full sync" in page(scene, DeviceFactory(
            organization=scene.connector.organization
        ))  # fmt: skip


class TestOverride:
    @pytest.mark.parametrize("level", ["allow", "block"])
    def test_is_made_with_reason_and_end(self, scene: Scene, level: str) -> None:
        device = owned(scene)
        answer = post(scene, "device_override", device, level, **OVERRIDE)
        one = AccessOverride.objects.get()
        assert (one.level, one.reason, one.made_by_name) == (level, "Travels", "administrator")
        assert one.expires_at
        left = one.expires_at - timezone.now()
        assert datetime.timedelta(days=6, hours=23) < left <= datetime.timedelta(days=7)
        assert "Decided by an administrator" in answer.content.decode()
        post(scene, "device_override_end", device)
        assert not AccessOverride.objects.filter(ended_at=None).exists()

    def test_a_chosen_day_ends_in_the_tenants_time_zone(self, scene: Scene) -> None:
        device = owned(scene)
        day = timezone.now().date() + datetime.timedelta(days=3)
        post(scene, "device_override", device, "allow", reason="x", expiry="date", day=day.isoformat())
        expires_at = AccessOverride.objects.get().expires_at
        assert expires_at
        until = expires_at.astimezone(datetime.UTC)
        assert until.hour in (22, 23)  # midnight in Berlin
        assert until.date() == day

    @pytest.mark.parametrize(
        ("body", "said"),
        [
            ({"expiry": "7"}, "Say why"),
            ({"reason": "x", "expiry": "date"}, "Choose the last day"),
            ({"reason": "x", "expiry": "date", "day": "2020-01-01"}, "This time is past"),
            ({"reason": "x", "expiry": "tomorrow"}, "Select a valid choice"),
        ],
    )
    def test_what_is_wrong_is_said_and_nothing_done(self, scene: Scene, body: dict[str, str], said: str) -> None:
        answer = post(scene, "device_override", owned(scene), "allow", **body)
        assert answer.status_code == 422
        assert said in answer.content.decode()
        assert not AccessOverride.objects.exists()

    def test_another_level_is_no_page(self, scene: Scene) -> None:
        assert post(scene, "device_override", owned(scene), "quarantine", **OVERRIDE).status_code == 404

    @pytest.mark.parametrize(
        ("name", "args"),
        [
            ("device_override", ["allow"]), ("device_override_end", []), ("device_link", []),
            ("device_destroy", ["wipe"]), ("device_wipe_cancel", []), ("device_choice_clear", []),
        ],
    )  # fmt: skip
    def test_operators_do_none_of_it(self, scene: Scene, name: str, args: list[str]) -> None:
        device = owned(scene)
        assert post(scene, name, device, *args, who="operator", **OVERRIDE).status_code == 403
        assert post(scene, name, device, *args, who="stranger", **OVERRIDE).status_code == 404
        assert not AccessOverride.objects.exists()

    def test_looking_again_and_reading_statistics_are_an_operators(
        self, scene: Scene, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        device = owned(scene)
        post(scene, "device_evaluate", device, who="operator")
        assert MailboxCheck.objects.get().mailbox == device.owner
        answer = post(scene, "device_statistics", device, who="operator")
        assert "statistics are read now" in answer.content.decode()
        answer = post(scene, "device_evaluate", DeviceFactory(organization=device.organization), who="operator")
        assert "mailbox is not known yet" in answer.content.decode()

    def test_a_choice_about_an_entry_is_taken_back(self, scene: Scene) -> None:
        device = owned(scene)
        EntryChoice.objects.create(
            mailbox=owner_of(device), listed="allowed", device_id_key=device.device_id_key, choice="adopt",
            made_at=timezone.now(), made_by_name="Ada",
        )  # fmt: skip
        post(scene, "device_choice_clear", device, listed="allowed")
        assert not EntryChoice.objects.exists()
        assert "no such choice" in post(scene, "device_choice_clear", device, listed="x").content.decode()


class TestDestroy:
    def form(self, scene: Scene, device: MobileDevice, act: str) -> tuple[str, str]:
        html = (
            scene.client("administrator").get(reverse("device_destroy", args=[device.public_id, act])).content.decode()
        )
        key = re.search(r'name="key" value="([0-9a-f]{32})"', html)
        assert key
        return text_of(html), key[1]

    def test_a_wipe_says_what_it_does_and_is_one_however_often_it_is_sent(self, scene: Scene) -> None:
        device = owned(scene)
        words, key = self.form(scene, device, "wipe")
        assert "resets the whole phone" in words
        assert "may be wiped again" in words
        for _again in range(3):
            answer = post(scene, "device_destroy", device, "wipe", key=key, typed=device.device_id.lower() + " ")
            assert answer.redirect_chain
        command = Command.objects.get()
        assert (command.kind, command.key, command.device) == ("wipe", key, device)
        assert "A wipe was ordered." in page(scene, device)

    @pytest.mark.parametrize("act", ["wipe", "wipe-account", "remove"])
    @pytest.mark.parametrize("typed", ["", "somethingelse"])
    def test_without_the_devices_id_nothing_happens(self, scene: Scene, act: str, typed: str) -> None:
        device = owned(scene, client_version="16.1")
        _words, key = self.form(scene, device, act)
        answer = post(scene, "device_destroy", device, act, key=key, typed=typed)
        assert answer.status_code == 422
        assert f'value="{key}"' in answer.content.decode()
        assert not Command.objects.exists()

    def test_outlooks_wipe_is_told_differently(self, scene: Scene) -> None:
        words, _key = self.form(scene, owned(scene, client_type="Outlook"), "wipe")
        assert "on all of the person's devices at once" in words
        assert "resets the whole phone" not in words

    @pytest.mark.parametrize(
        ("version", "client", "client_version", "is_offered"),
        [
            ("2019", "EAS", "16.1", True), ("2016", "", "", True), ("2013", "EAS", "16.1", False),
            ("2010", "", "14.1", False), ("2019", "EAS", "14.1", False), ("2019", "Outlook", "1.0", False),
            ("2019", "EAS", "16.1.2", True), ("2019", "EAS", "new", True),
        ],
    )  # fmt: skip
    def test_an_account_only_wipe_is_offered_where_it_is_possible(
        self, scene: Scene, version: str, client: str, client_version: str, is_offered: bool
    ) -> None:
        organization = scene.connector.organization
        type(organization).objects.filter(pk=organization.pk).update(version=version)
        device = owned(scene, client_type=client, client_version=client_version)
        address = reverse("device_destroy", args=[device.public_id, "wipe-account"])
        html = scene.client("administrator").get(reverse("device", args=[device.public_id])).content.decode()
        assert (address in html) is is_offered
        assert scene.client("administrator").get(address).status_code == (200 if is_offered else 422)
        post(scene, "device_destroy", device, "wipe-account", key="k" * 32, typed=device.device_id)
        assert Command.objects.filter(kind="wipeAccount").exists() is is_offered

    def test_a_removal_clears_both_lists(self, scene: Scene) -> None:
        device = owned(scene)
        list_on(device, "allowed")
        _words, key = self.form(scene, device, "remove")
        post(scene, "device_destroy", device, "remove", key=key, typed=device.device_id, clear_foreign="on")
        command = Command.objects.get()
        assert command.payload["allowed"] == [device.device_id]
        assert "Remove=" in command.text

    def test_what_the_service_refuses_stands_on_the_form(self, scene: Scene) -> None:
        device = owned(scene)
        scene.connector.is_observe_only = True
        scene.connector.save()
        words, key = self.form(scene, device, "wipe")
        assert "only observes" in words
        answer = post(scene, "device_destroy", device, "wipe", key=key, typed=device.device_id)
        assert answer.status_code == 422
        assert not Command.objects.exists()

    def test_a_pending_wipe_is_shown_and_can_be_canceled_once(self, scene: Scene) -> None:
        device = owned(scene)
        now = timezone.now()
        DeviceStatistics.objects.create(device=device, read_at=now, wipe_requested_at=now, status="DeviceWipePending")
        words = page(scene, device)
        assert "Wipe pending" in words
        assert "waits for the phone's next request" in words
        for _again in range(2):
            post(scene, "device_wipe_cancel", device, key="cancel-1")
        assert Command.objects.get().kind == "wipeCancel"
        DeviceStatistics.objects.update(wipe_sent_at=now, wipe_acknowledged_at=now)
        words = page(scene, device)
        assert "Cancel the wipe" not in words
        assert "The order stays attached" in words

    def test_a_gone_device_offers_nothing_and_takes_nothing(self, scene: Scene) -> None:
        device = owned(scene, gone_at=timezone.now())
        assert "Re-evaluate" not in page(scene, device)
        answer = post(scene, "device_destroy", device, "wipe", key="k" * 32, typed=device.device_id)
        assert answer.status_code == 422
        assert destructive.KINDS
        assert not Command.objects.exists()


class TestBulk:
    def send(self, scene: Scene, act: str, *devices: Any, who: str = "administrator", **body: Any) -> Any:
        ids = [getattr(device, "public_id", device) for device in devices]
        return scene.client(who).post(
            reverse("device_bulk"), {"act": act, "device": ids, "back": "/devices/?q=x", **body}, follow=True
        )

    def test_shows_who_and_who_not_then_does_it(self, scene: Scene) -> None:
        device, other = owned(scene), owned(scene)
        outlook = owned(scene)
        AccessFactory(device=outlook, rule="notActiveSync")
        foreign = DeviceFactory()
        words = text_of(self.send(scene, "block", device, other, outlook, foreign, "nonsense").content.decode())
        assert "It is done to 2 devices" in words
        assert "one device ID stands for all" in words
        assert "2 devices do not exist, or you may not see them." in words
        assert not AccessOverride.objects.exists()
        answer = self.send(scene, "block", device, other, foreign, step="confirm", **OVERRIDE)
        assert answer.redirect_chain[-1][0] == "/devices/?q=x"
        assert "Block devices: noted for 2 devices. Their mailboxes are looked at now." in answer.content.decode()
        assert set(AccessOverride.objects.values_list("device_id", flat=True)) == {device.device_id, other.device_id}
        self.send(scene, "clear", device, step="confirm")
        assert AccessOverride.objects.filter(ended_at=None).count() == 1

    def test_without_a_reason_it_asks_again(self, scene: Scene) -> None:
        answer = self.send(scene, "allow", owned(scene), step="confirm", expiry="7")
        assert answer.status_code == 422
        assert "Say why" in answer.content.decode()
        assert not AccessOverride.objects.exists()

    def test_a_role_too_small_is_left_out_and_told(self, scene: Scene) -> None:
        device = owned(scene)
        words = text_of(self.send(scene, "allow", device, who="operator").content.decode())
        assert "There is nobody to do it to" in words
        assert "Your role in its tenant does not allow it." in words
        self.send(scene, "allow", device, who="operator", step="confirm", **OVERRIDE)
        assert not AccessOverride.objects.exists()
        self.send(scene, "recheck", device, who="operator", step="confirm")
        assert MailboxCheck.objects.get().mailbox == device.owner

    def test_what_makes_no_sense(self, scene: Scene) -> None:
        assert "No device was ticked" in self.send(scene, "allow").content.decode()
        assert self.send(scene, "wipe", owned(scene)).status_code == 400
        answer = scene.client("administrator").post(
            reverse("device_bulk"), {"act": "allow", "back": "https://evil.example/"}, follow=True
        )
        assert answer.redirect_chain[-1][0] == "/devices/"

    def test_readers_have_no_boxes(self, scene: Scene) -> None:
        owned(scene)
        assert 'name="device"' not in scene.client("reader").get("/devices/").content.decode()
        assert 'name="device"' in scene.client("operator").get("/devices/").content.decode()


class TestListFilters:
    def test_by_verdict_rule_match_and_attention(self, scene: Scene) -> None:
        lagging = owned(scene, user_display_name="Lagging", access_state="Quarantined")
        AccessFactory(device=lagging, state="allowed", rule="alwaysAllowed")
        hindered = owned(scene, user_display_name="Hindered", access_state="Allowed")
        AccessFactory(
            device=hindered, access="block", state="allowed", rule="noRecord", hindered_by="foreignAllow",
            outcome="unmatched",
        )  # fmt: skip
        blocked = owned(scene, user_display_name="Blocked", access_state="Blocked")
        AccessFactory(device=blocked, access="block", state="blocked", rule="overrideBlock")
        HeldDenialFactory(device=blocked, approval=ApprovalFactory(organization=scene.connector.organization))
        outlook = owned(scene, user_display_name="Outlook", access_state="Blocked")
        AccessFactory(device=outlook, state="allowed", rule="notActiveSync", outcome="notActiveSync")
        owned(scene, user_display_name="New", access_state="Quarantined")
        browser = scene.client("reader")
        expected = {
            "verdict=blocked": ["Blocked"], "verdict=undecided": ["New"], "rule=noRecord": ["Hindered"],
            "match=unmatched": ["Hindered"], "attention=differs": ["Lagging"], "attention=hindered": ["Hindered"],
            "attention=waiting": ["Blocked"], "attention=override": ["Blocked"],
            "attention=nothing": ["Blocked", "Hindered", "Lagging", "New", "Outlook"],
        }  # fmt: skip
        for query, names in expected.items():
            html = browser.get(f"/devices/?{query}").content.decode()
            assert re.findall(r'<a class="table-name" href="[^"]+"><bdi>(.*?)</bdi>', html) == names, query

    def test_says_what_a_difference_waits_for(self, scene: Scene) -> None:
        organization = scene.connector.organization
        type(organization).objects.filter(pk=organization.pk).update(default_access_level="Quarantine")

        def wish(**lists: Any) -> str:
            mailbox = MailboxFactory(organization=organization)
            device = owned(scene, owner=mailbox, access_state="Quarantined")
            AccessFactory(device=device, state="allowed", rule="alwaysAllowed")
            mailbox.allowed = [device.device_id] if lists.get("is_told") else []
            mailbox.save()
            if lists.get("is_open"):
                CommandFactory(mailbox=mailbox, state="sent")
            html = scene.client("reader").get("/devices/", {"q": device.device_id}).content.decode()
            return text_of(html)

        assert "Exchange shows it at the phone&#x27;s next request." in wish(is_told=True)
        assert "Exchange has yet to be told" in wish()
        assert "Exchange is being told." in wish(is_open=True)


def test_drift_and_overrides_of_another_tenant_are_not_listed(scene: Scene) -> None:
    mailbox = MailboxFactory(organization=scene.connector.organization, display_name="Ada Lovelace")
    DriftFactory(mailbox=mailbox)
    OverrideFactory(mailbox=mailbox)
    CommandFactory(mailbox=mailbox, text="Set-CASMailbox contoso-secret")
    ApprovalFactory(organization=mailbox.organization)
    OrganizationFactory()
    for name in ("drifts", "overrides", "commands", "commands_csv", "approvals"):
        answer: Any = scene.client("stranger").get(reverse(name))
        body = b"".join(answer.streaming_content) if answer.streaming else answer.content
        for word in (b"Ada Lovelace", b"contoso-secret", b"Contoso mail"):
            assert word not in body, (name, word)

"""The devices' list and page: filters by address, honest words, foreign text kept apart, no other tenant's devices."""

from __future__ import annotations

import datetime
import re

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from console.pages.device_words import REASONS, STATES
from console.templatetags.components import ACCESS_LOOK
from console.templatetags.devices import person_name
from sync.models import DeviceEvent, MobileDevice
from tests.console.conftest import Scene
from tests.console.test_connectors import text_of
from tests.factories import AccessFactory, CommandFactory, DeviceFactory, MailboxFactory, RunFactory

pytestmark = pytest.mark.django_db
LIST = "/devices/"


def listed(html: str) -> list[str]:
    return re.findall(r'<a class="table-name" href="[^"]+"><bdi>(.*?)</bdi>', html)


def get(scene: Scene, url: str, who: str = "reader") -> str:
    return read(scene.client(who), url)


def read(browser: Client, url: str) -> str:
    answer = browser.get(url)
    assert answer.status_code == 200
    return answer.content.decode()


class TestList:
    def test_shows_what_a_night_admin_looks_for(self, scene: Scene) -> None:
        DeviceFactory(
            organization=scene.connector.organization, user_display_name="Ada Lovelace", friendly_name="Ada's phone",
            access_state="Quarantined", access_state_reason="Global",
        )  # fmt: skip
        words = text_of(get(scene, LIST))
        for shown in ("Ada Lovelace", "Ada&#x27;s phone", "iPhone15C2", "Quarantined", "Global", "1 device", "ApplDN"):
            assert shown in words, shown

    @pytest.mark.parametrize(
        ("query", "names"),
        [
            ("", ["Ada", "Bob"]),
            ("?state=Blocked", ["Bob"]),
            ("?q=ada", ["Ada"]),
            ("?presence=gone", ["Old"]),
            ("?presence=all", ["Ada", "Bob", "Old"]),
            ("?sort=-user", ["Bob", "Ada"]),
            ("?sort=password", ["Ada", "Bob"]),
            ("?presence=never&organization=none", ["Ada", "Bob"]),
            ("?q=%00", ["Ada", "Bob"]),
        ],
    )
    def test_filters_and_sorts_by_its_address(self, scene: Scene, query: str, names: list[str]) -> None:
        shared = {"organization": scene.connector.organization}
        DeviceFactory(**shared, user_display_name="Ada")
        DeviceFactory(**shared, user_display_name="Bob", access_state="Blocked")
        DeviceFactory(**shared, user_display_name="Old", gone_at=timezone.now())
        assert listed(get(scene, LIST + query)) == names

    def test_pages_lead_on_and_back(self, scene: Scene) -> None:
        for number in range(60):
            DeviceFactory(organization=scene.connector.organization, user_display_name=f"P{number:02}")
        browser = scene.client("reader")
        first = read(browser, LIST + "?state=Allowed")
        following = re.search(r'rel="next" href="([^"]+)"', first)
        assert following
        assert 'rel="prev"' not in first
        second = read(browser, following[1].replace("&amp;", "&"))
        assert listed(first) + listed(second) == [f"P{number:02}" for number in range(60)]
        previous = re.search(r'rel="prev" href="([^"]+)"', second)
        assert previous
        assert "state=Allowed" in previous[1]
        assert listed(read(browser, previous[1].replace("&amp;", "&"))) == listed(first)

    def test_a_broken_cursor_leads_to_the_first_page_and_says_so(self, scene: Scene) -> None:
        DeviceFactory(organization=scene.connector.organization, user_display_name="Ada")
        answer = scene.client("reader").get(LIST + "?q=ada&cursor=old", follow=True)
        assert answer.redirect_chain == [(LIST + "?q=ada", 302)]
        assert "cannot be opened any more" in answer.content.decode()
        assert listed(answer.content.decode()) == ["Ada"]

    def test_a_label_of_a_newer_exchange_is_shown_and_can_be_filtered_by(self, scene: Scene) -> None:
        DeviceFactory(organization=scene.connector.organization, user_display_name="Ada", access_state="Pondering")
        html = get(scene, LIST + "?state=Pondering")
        assert listed(html) == ["Ada"]
        assert '<option value="Pondering" selected>Pondering</option>' in html

    def test_the_column_it_is_sorted_by_says_so_and_turns_round(self, scene: Scene) -> None:
        DeviceFactory(organization=scene.connector.organization)
        html = get(scene, LIST + "?sort=os")
        assert html.count("aria-sort") == 1
        assert re.search(r'aria-sort="ascending"><a href="/devices/\?sort=-os">Operating system', html)

    def test_empty_and_nothing_found_are_told_apart(self, scene: Scene) -> None:
        browser = scene.client("reader")
        assert "No device yet" in read(browser, LIST)
        assert "No device matches" in read(browser, LIST + "?q=ada")

    def test_foreign_text_is_escaped_and_kept_apart(self, scene: Scene) -> None:
        name = "<script>alert(1)</script> \u202eevil 📱 § 王"
        DeviceFactory(organization=scene.connector.organization, friendly_name=name)
        html = get(scene, LIST)
        assert "<bdi>&lt;script&gt;alert(1)&lt;/script&gt; \u202eevil 📱 § 王</bdi>" in html

    def test_the_number_of_queries_does_not_grow(self, scene: Scene) -> None:
        def more(count: int) -> None:
            for _number in range(count):
                mailbox = MailboxFactory(organization__tenant=scene.connector.organization.tenant)
                device = DeviceFactory(organization=mailbox.organization, owner=mailbox)
                AccessFactory(device=device)
                CommandFactory(mailbox=mailbox, state="planned")

        browser = scene.client("reader")
        more(1)
        with CaptureQueriesContext(connection) as few:
            browser.get(LIST)
        more(30)
        with CaptureQueriesContext(connection) as many:
            browser.get(LIST)
        # Session, person; count, page, organizations; what is under way, held, marked; roles twice; approvals.
        assert len(many) == len(few) == 11

    def test_another_tenants_devices_are_not_there(self, scene: Scene) -> None:
        device = DeviceFactory(organization=scene.connector.organization, user_display_name="Ada")
        html = get(scene, f"{LIST}?organization={device.organization.public_id}", "stranger")
        assert listed(html) == []
        assert "Contoso" not in html


class TestPage:
    def test_says_all_that_is_known(self, scene: Scene) -> None:
        RunFactory(connector=scene.connector, fence=7)
        device = DeviceFactory(
            organization=scene.connector.organization, seen_fence=7, device_user_agent="Apple-iPhone15C2/2106.90",
            device_imei="356938035643809", access_state="Blocked", access_state_reason="DeviceRule",
            access_control_rule="iPhone (DeviceType)", client_version="16.1",
        )  # fmt: skip
        words = text_of(get(scene, reverse("device", args=[device.public_id])))
        for shown in (
            device.device_id, device.identity, str(device.guid), "Apple-iPhone15C2/2106.90", "356938035643809", "16.1",
            "iPhone (DeviceType)", str(STATES["Blocked"]).replace("'", "&#x27;"), "A device access rule decided.",
            "stays as it was until the phone comes again", "Full sync",
        ):  # fmt: skip
            assert shown in words, shown

    def test_a_device_that_is_gone_says_since_when(self, scene: Scene) -> None:
        gone = timezone.now() - datetime.timedelta(days=3)
        device = DeviceFactory(organization=scene.connector.organization, gone_at=gone)
        words = text_of(get(scene, reverse("device", args=[device.public_id])))
        assert "A complete listing no longer held this device" in words
        assert "3 days ago" in words

    def test_a_device_that_was_removed_from_here_says_by_whom(self, scene: Scene) -> None:
        device = DeviceFactory(organization=scene.connector.organization, gone_at=timezone.now())
        DeviceEvent.objects.create(device=device, at=timezone.now(), code="removed", actor_name="Ada")

        browser = scene.client("reader")

        def words() -> str:
            return text_of(browser.get(reverse("device", args=[device.public_id])).content.decode())

        assert "This partnership was removed from Exchange by Ada." in words()
        assert "A complete listing no longer held" not in words()
        # It came back, and was missing later.
        for code in ("back", "gone"):
            DeviceEvent.objects.create(device=device, at=timezone.now(), code=code)
        assert "A complete listing no longer held" in words()

    def test_labels_of_a_newer_exchange_stay_as_they_are(self, scene: Scene) -> None:
        device = DeviceFactory(
            organization=scene.connector.organization, access_state="Pondering", access_state_reason="Moon"
        )
        words = text_of(get(scene, reverse("device", args=[device.public_id])))
        assert "Pondering" in words
        assert "Moon" in words

    def test_names_the_mailboxs_other_devices(self, scene: Scene) -> None:
        shared = {"organization": scene.connector.organization, "mailbox": "contoso.lab/Ada"}
        device = DeviceFactory(**shared)
        DeviceFactory(**shared, friendly_name="Her tablet")
        DeviceFactory(**shared, friendly_name="Her old one", gone_at=timezone.now())
        DeviceFactory(organization=scene.connector.organization, friendly_name="Someone else's")
        words = text_of(get(scene, reverse("device", args=[device.public_id])))
        assert "Her tablet" in words
        assert "Her old one" not in words
        assert "Someone else" not in words

    def test_says_that_a_phone_reads_no_mail_where_activesync_is_off(self, scene: Scene) -> None:
        organization = scene.connector.organization
        mailbox = MailboxFactory(organization=organization, activesync_enabled=False)
        device = DeviceFactory(organization=organization, owner=mailbox, access_state="Allowed")
        AccessFactory(device=device, state="allowed", access="leaveAlone", rule="controlOff")
        words = text_of(get(scene, reverse("device", args=[device.public_id])))
        assert "ActiveSync is switched off for its mailbox: it cannot read mail" in words

    def test_without_anything_it_still_stands(self, scene: Scene) -> None:
        device = DeviceFactory(
            organization=scene.connector.organization, mailbox="", user_display_name="", friendly_name="",
            device_type="", device_model="", device_os="", client_type="", access_state="", access_state_reason="",
            first_sync_time=None,
        )  # fmt: skip
        assert device.device_id in text_of(get(scene, reverse("device", args=[device.public_id])))


@pytest.mark.parametrize(
    ("display", "mailbox", "name"),
    [
        ("contoso.lab/Users/Ada Lovelace", "ada", "Ada Lovelace"),
        ("Ada Lovelace", "ada", "Ada Lovelace"),
        (r"contoso.lab/Users/Sales\/EMEA", "sales", "Sales/EMEA"),
        ("", "contoso.lab/Users/Ada", "Ada"),
        ("", "", ""),
    ],
)
def test_a_person_is_called_by_name_and_not_by_path(display: str, mailbox: str, name: str) -> None:
    assert person_name(MobileDevice(user_display_name=display, mailbox=mailbox)) == name


def test_every_state_that_has_a_look_has_words() -> None:
    assert {value for value in ACCESS_LOOK if value} == set(STATES)
    assert all(str(sentence).endswith(".") for sentence in [*STATES.values(), *REASONS.values()])

"""Pages of mailbox policies: list, one, two compared, forms and what they order, mailboxes; tenants apart."""

from __future__ import annotations

import datetime
import re
import time
import uuid
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from connectors.actors import SETUP
from connectors.models import Connector, ExchangeOrganization
from sync import dispatch
from sync.models import Command, Mailbox, MailboxPolicy
from sync.policies.mailbox_policies import policy_make_default
from tests.console.conftest import Scene
from tests.console.test_connectors import text_of
from tests.factories import MailboxFactory

pytestmark = pytest.mark.django_db

SETTINGS = {
    "AllowNonProvisionableDevices": True,
    "AllowExternalDeviceManagement": False,
    "PasswordEnabled": False,
    "MinPasswordLength": 4,
    "MaxInactivityTimeLock": "00:15:00",
    "AllowBluetooth": "Allow",
    "ApprovedApplicationList": [],
}
FORM = {
    "name": "Strict", "step": "review", "AllowNonProvisionableDevices": "on", "MinPasswordLength": "4",
    "MaxInactivityTimeLock": "00:15:00", "AllowBluetooth": "Allow", "ApprovedApplicationList": "",
}  # fmt: skip


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The tasks that the queue was told of."""
    found: list[str] = []
    monkeypatch.setattr(dispatch, "_tell", lambda connector, task, *arguments: found.append(task))
    return found


@pytest.fixture
def organization(scene: Scene, told: list[str]) -> ExchangeOrganization:
    return scene.connector.organization


def policy(organization: ExchangeOrganization, name: str = "Strict", **values: Any) -> MailboxPolicy:
    made = {
        "guid": uuid.uuid4(), "identity": name, "name": name, "is_default": name == "Default",
        "settings": dict(SETTINGS), "read_at": timezone.now(),
    } | values  # fmt: skip
    return MailboxPolicy.objects.create(organization=organization, **made)


def where(name: str, found: Any) -> str:
    return reverse(name, args=[found.public_id])


def words(browser: Client, address: str) -> str:
    answer = browser.get(address)
    assert answer.status_code == 200
    return text_of(answer.content.decode())


def hidden(html: str, name: str) -> str:
    found = re.search(rf'name="{name}" value="([^"]*)"', html)
    assert found is not None
    return found[1]


def edited(browser: Client, address: str, **values: Any) -> tuple[int, str]:
    html = browser.get(address).content.decode()
    form = {**FORM, "key": hidden(html, "key"), "based_on": hidden(html, "based_on"), **values}
    answer = browser.post(address, {key: value for key, value in form.items() if value is not None})
    return answer.status_code, answer.content.decode()


def saved(browser: Client, address: str, review: str) -> Any:
    """Press the review's button."""
    fields = re.findall(r'<input type="hidden" name="([^"]+)"(?: value="([^"]*)")?', review)
    fields += re.findall(r'<textarea name="([^"]+)"[^>]*hidden[^>]*>([^<]*)', review)
    return browser.post(address, {**dict(fields), "step": "save"}, follow=True)


class TestList:
    def test_what_there_is(
        self, scene: Scene, organization: ExchangeOrganization, django_assert_num_queries: Any
    ) -> None:
        policy(organization, "Default")
        policy(organization)
        policy(organization, "Former", gone_at=timezone.now())
        MailboxFactory.create_batch(2, organization=organization)
        MailboxFactory(organization=organization, mailbox_policy="Strict")
        browser = scene.client("reader")
        with django_assert_num_queries(9):
            found = words(browser, where("organization_mailbox_policies", organization))
        assert "Default Default 2 mailboxes of Default" in found
        assert "Strict 1 mailboxes of Strict" in found
        assert "Former" not in found
        assert "New policy" not in found
        assert "Only administrators of the tenant change policies." in found

    def test_nothing_read_yet(self, scene: Scene, organization: ExchangeOrganization) -> None:
        found = words(scene.client("administrator"), where("organization_mailbox_policies", organization))
        assert "No policy is known yet" in found
        assert "New policy" in found

    def test_reading_is_asked_for_and_awaited(
        self, scene: Scene, organization: ExchangeOrganization, told: list[str]
    ) -> None:
        browser = scene.client("operator")
        answer = browser.post(where("organization_mailbox_policies_read", organization), follow=True)
        assert told == [dispatch.POLICIES_TASK]
        html = answer.content.decode()
        assert "The policies are being read from Exchange." in html
        assert 'hx-trigger="every 3s"' in html
        policy(organization, read_at=timezone.now() + datetime.timedelta(seconds=2))
        again = browser.get(answer.redirect_chain[-1][0]).content.decode()
        assert "being read" not in again
        assert "every 3s" not in again

    @pytest.mark.parametrize(
        ("asked", "sentence"),
        [(str(int(time.time()) - 300), "answer has not come yet"), ("x", ""), ("9" * 30, ""), ("٣", "")],
        ids=["minutes ago", "no time", "in a far future", "another script's digit"],
    )
    def test_a_reading_that_does_not_come(
        self, scene: Scene, organization: ExchangeOrganization, asked: str, sentence: str
    ) -> None:
        address = where("organization_mailbox_policies", organization)
        html = scene.client("reader").get(address, {"asked": asked}).content.decode()
        assert ("answer has not come yet" in html) == bool(sentence)
        assert "every 3s" not in html

    def test_without_a_connector(self, scene: Scene, organization: ExchangeOrganization) -> None:
        scene.connector.delete()
        browser = scene.client("administrator")
        answer = browser.post(where("organization_mailbox_policies_read", organization), follow=True)
        assert "This organization has no connector." in answer.content.decode()


class TestPolicy:
    def test_settings_in_words_with_exchanges_names(
        self, scene: Scene, organization: ExchangeOrganization, django_assert_num_queries: Any
    ) -> None:
        found = policy(organization, settings={**SETTINGS, "MaxEmailAgeFilter": "<b>new</b>", "Unheard": 1})
        policy(organization, "Default")
        MailboxFactory(organization=organization, mailbox_policy="strict")
        browser = scene.client("administrator")
        with django_assert_num_queries(8):
            html = browser.get(where("mailbox_policy", found)).content.decode()
        shown = text_of(html)
        for part in (
            "Locks when not used for MaxInactivityTimeLock 15 minutes",
            "Let in phones that cannot apply the policy AllowNonProvisionableDevices Yes No: phones and mail programs",
            "Bluetooth AllowBluetooth Allowed",
            "1 mailbox that Gatehouse knows has this policy. Phones take a change when they next fetch",
            "Make default",
        ):
            assert part in shown
        assert "<b>new" not in html
        assert "Unheard" not in shown

    def test_names_of_2010(self, scene: Scene, organization: ExchangeOrganization) -> None:
        organization.version = "2010"
        organization.save()
        found = policy(organization)
        assert "MinDevicePasswordLength 4" in words(scene.client("reader"), where("mailbox_policy", found))

    def test_one_that_is_gone(self, scene: Scene, organization: ExchangeOrganization) -> None:
        found = policy(organization, gone_at=timezone.now())
        shown = words(scene.client("administrator"), where("mailbox_policy", found))
        assert "Exchange does not have this policy any more." in shown
        assert "Make default" not in shown

    def test_a_command_with_its_text_and_what_went_wrong(
        self, scene: Scene, organization: ExchangeOrganization
    ) -> None:
        found = policy(organization)
        policy_make_default(policy=found, key="k", actor=SETUP)
        browser = scene.client("reader")
        html = browser.get(where("mailbox_policy", found)).content.decode()
        assert "“Strict” becomes the default" in html
        assert "Set-MobileDeviceMailboxPolicy" in html
        assert "every 3s" in html
        Command.objects.update(
            state=Command.State.FAILED, error_code="cmdlet_not_granted", error_params={"cmdlet": "Set-X"}
        )
        html = browser.get(where("mailbox_policy", found)).content.decode()
        assert "Set-X" in html
        assert "every 3s" not in html
        assert "“Strict” becomes the default" in words(browser, where("organization_mailbox_policies", organization))


class TestCompare:
    def test_differences_and_all(
        self, scene: Scene, organization: ExchangeOrganization, django_assert_num_queries: Any
    ) -> None:
        one = policy(organization)
        other = policy(organization, "Lax", settings={**SETTINGS, "MinPasswordLength": 8, "AllowBluetooth": "Disable"})
        del other.settings["ApprovedApplicationList"]
        other.save()
        address = where("organization_mailbox_policies_compare", organization)
        query = f"?one={one.public_id}&other={other.public_id}"
        browser = scene.client("reader")
        with django_assert_num_queries(5):
            shown = words(browser, address + query)
        assert "Shortest password MinPasswordLength 4 8" in shown
        assert "Bluetooth AllowBluetooth Allowed Off" in shown
        assert "Approved applications ApprovedApplicationList None Not shown" in shown
        assert "PasswordEnabled" not in shown
        assert "Password required PasswordEnabled No No" in words(browser, f"{address}{query}&all=on")
        assert "No difference" in words(browser, f"{address}?one={one.public_id}&other={one.public_id}")
        assert "Choose two policies." in words(browser, f"{address}?one=x")


class TestEdit:
    def test_review_then_order_once(self, scene: Scene, organization: ExchangeOrganization, told: list[str]) -> None:
        found = policy(organization)
        MailboxFactory(organization=organization, mailbox_policy="Strict")
        browser = scene.client("administrator")
        address = where("mailbox_policy_edit", found)
        status, html = edited(
            browser, address, name="Hard", MinPasswordLength="8", AllowNonProvisionableDevices=None,
            ApprovedApplicationList="abc:Reader\r\n",
        )  # fmt: skip
        shown = text_of(html)
        assert status == 200
        for part in (
            "Name Name Strict Hard",
            "Shortest password MinPasswordLength 4 8",
            "They get no mail any more once this is in force.",
            "1 mailbox that Gatehouse knows has this policy.",
            "-MinPasswordLength 8",
        ):
            assert part in shown
        assert "Bluetooth" not in shown
        assert not Command.objects.exists()

        answer = saved(browser, address, html)
        command = Command.objects.get()
        assert command.payload["settings"] == {
            "AllowNonProvisionableDevices": False, "MinPasswordLength": 8, "ApprovedApplicationList": ["abc:Reader"],
        }  # fmt: skip
        assert command.payload["name"] == "Hard"
        assert command.actor_name == "administrator"
        assert told == [dispatch.COMMAND_TASK]
        assert "The command is in the journal and is sent to Exchange now." in answer.content.decode()

        saved(browser, address, html)  # a double click
        assert Command.objects.count() == 1
        assert told == [dispatch.COMMAND_TASK]

    @pytest.mark.parametrize(
        ("values", "sentence"),
        [
            ({"MinPasswordLength": "17"}, "Enter a whole number from 1 to 16."),
            ({"MinPasswordLength": "x"}, "Enter a whole number."),
            ({"MaxInactivityTimeLock": "02:00:00"}, "Enter a time from 00:00:30 to 01:00:00, or Unlimited."),
            ({"AllowBluetooth": "Perhaps"}, "Select a valid choice."),
            ({"name": ""}, "This field is required."),
            ({"name": "default"}, "There is a policy of this name already."),
            ({}, "Nothing is different: there is nothing to change."),
            ({"based_on": "old", "MinPasswordLength": "8"}, "The policy was changed in the meantime."),
        ],
    )
    def test_what_is_refused(
        self, scene: Scene, organization: ExchangeOrganization, values: dict[str, str], sentence: str
    ) -> None:
        policy(organization, "Default")
        found = policy(organization)
        status, html = edited(scene.client("administrator"), where("mailbox_policy_edit", found), **values)
        assert status == 422
        assert sentence in text_of(html)
        assert not Command.objects.exists()

    def test_change_something_else_keeps_what_was_entered(
        self, scene: Scene, organization: ExchangeOrganization
    ) -> None:
        found = policy(organization)
        status, html = edited(
            scene.client("administrator"), where("mailbox_policy_edit", found), MinPasswordLength="9", step="edit"
        )
        assert status == 200
        assert 'value="9"' in html

    def test_a_value_that_cannot_be_read_is_not_offered(self, scene: Scene, organization: ExchangeOrganization) -> None:
        found = policy(organization, settings={**SETTINGS, "PasswordEnabled": "maybe", "AllowBluetooth": "Newer"})
        html = scene.client("administrator").get(where("mailbox_policy_edit", found)).content.decode()
        assert 'name="PasswordEnabled"' not in html
        assert '<option value="Newer" selected>' in html


class TestCreate:
    def test_from_the_defaults(self, scene: Scene, organization: ExchangeOrganization) -> None:
        policy(organization, "Default", settings={**SETTINGS, "MinPasswordLength": 12})
        browser = scene.client("administrator")
        address = where("organization_mailbox_policy_create", organization)
        html = browser.get(address).content.decode()
        assert 'name="MinPasswordLength" value="4"' in html
        assert 'name="AllowWiFi"' not in html
        status, review = edited(browser, address, name="Sales", AllowNonProvisionableDevices=None)
        assert status == 200
        assert "No mailbox has it until you assign it" in text_of(review)
        saved(browser, address, review)
        command = Command.objects.get()
        assert command.text.startswith("New-MobileDeviceMailboxPolicy -Name 'Sales'")
        assert command.payload["settings"]["AllowNonProvisionableDevices"] is False
        assert command.payload["settings"]["MinPasswordLength"] == 4

    def test_as_a_copy(self, scene: Scene, organization: ExchangeOrganization) -> None:
        found = policy(organization, settings={**SETTINGS, "MinPasswordLength": 12, "MaxEmailAgeFilter": "OneWeek"})
        address = where("organization_mailbox_policy_create", organization)
        browser = scene.client("administrator")
        html = browser.get(address, {"copy": str(found.public_id)}).content.decode()
        assert 'value="Copy of Strict"' in html
        assert 'name="MinPasswordLength" value="12"' in html
        _status, review = edited(
            browser, address, name="Copy of Strict", copy=str(found.public_id), MaxEmailAgeFilter="OneWeek"
        )
        saved(browser, address, review)
        assert Command.objects.get().payload["settings"]["MaxEmailAgeFilter"] == "OneWeek"

    def test_on_a_connector_that_only_observes(self, scene: Scene, organization: ExchangeOrganization) -> None:
        Connector.objects.update(is_observe_only=True)
        policy(organization, "Default")
        browser = scene.client("administrator")
        address = where("organization_mailbox_policy_create", organization)
        _status, review = edited(browser, address, name="Sales")
        assert "This connector only observes" in review
        answer = saved(browser, address, review)
        assert Command.objects.get().state == Command.State.OBSERVED
        assert "nothing was sent" in answer.content.decode()
        assert "New-MobileDeviceMailboxPolicy" in answer.content.decode()


class TestAsking:
    def test_make_default(self, scene: Scene, organization: ExchangeOrganization) -> None:
        policy(organization, "Default")
        found = policy(organization)
        MailboxFactory.create_batch(3, organization=organization)
        browser = scene.client("administrator")
        address = where("mailbox_policy_default", found)
        html = browser.get(address).content.decode()
        assert "3 mailboxes that Gatehouse knows have no policy of their own" in html
        assert "Until now they have “Default”" in html
        browser.post(address, {"key": hidden(html, "key")})
        browser.post(address, {"key": hidden(html, "key")})
        assert Command.objects.get().payload["make_default"] is True

    def test_remove_says_how_many_fall_to_the_default(self, scene: Scene, organization: ExchangeOrganization) -> None:
        policy(organization, "Default")
        found = policy(organization)
        MailboxFactory.create_batch(2, organization=organization, mailbox_policy="Strict")
        browser = scene.client("administrator")
        address = where("mailbox_policy_remove", found)
        html = browser.get(address).content.decode()
        assert "2 mailboxes have this policy by their own choice and fall to the default." in html
        browser.post(address, {"key": hidden(html, "key")})
        assert Command.objects.get().kind == Command.Kind.POLICY_REMOVE

    def test_the_default_stays(self, scene: Scene, organization: ExchangeOrganization) -> None:
        found = policy(organization, "Default")
        browser = scene.client("administrator")
        address = where("mailbox_policy_remove", found)
        assert "Make another policy the default first" in browser.get(address).content.decode()
        answer = browser.post(address, {"key": "k"})
        assert answer.status_code == 200
        assert "cannot be removed. Make another policy" in answer.content.decode()
        assert not Command.objects.exists()


class TestMailboxes:
    def test_who_has_it_and_who_has_not(
        self, scene: Scene, organization: ExchangeOrganization, django_assert_num_queries: Any
    ) -> None:
        policy(organization, "Default")
        found = policy(organization)
        MailboxFactory(organization=organization, display_name="Ada", mailbox_policy="STRICT")
        MailboxFactory(organization=organization, display_name="Bo")
        MailboxFactory(organization=organization, display_name="Gone", gone_at=timezone.now())
        MailboxFactory(display_name="Elsewhere")
        browser = scene.client("administrator")
        address = where("mailbox_policy_mailboxes", found)
        with django_assert_num_queries(10):
            shown = words(browser, address)
        assert "Ada" in shown
        assert "Bo" not in shown
        shown = words(browser, f"{address}?which=others")
        assert "Bo" in shown
        assert "Default as the default" in shown
        assert not {"Ada", "Gone", "Elsewhere"} & set(shown.split())
        assert "None matches the search." in words(browser, f"{address}?q=nobody")

    def test_many_pages(self, scene: Scene, organization: ExchangeOrganization) -> None:
        found = policy(organization, "Default")
        MailboxFactory.create_batch(60, organization=organization)
        shown = words(scene.client("reader"), where("mailbox_policy_mailboxes", found) + "?page=2")
        assert "51–60 of 60" in shown

    def test_before_any_is_read(self, scene: Scene, organization: ExchangeOrganization) -> None:
        found = policy(organization)
        assert "No mailbox is known yet" in words(scene.client("reader"), where("mailbox_policy_mailboxes", found))

    def test_assign_and_back(self, scene: Scene, organization: ExchangeOrganization) -> None:
        found = policy(organization)
        one = MailboxFactory(organization=organization)
        foreign = MailboxFactory()
        browser = scene.client("administrator")
        address = where("mailbox_policy_mailboxes", found)
        html = browser.get(f"{address}?which=others").content.decode()
        chosen = [str(one.public_id), str(foreign.public_id), "x"]
        form = {"key": hidden(html, "key"), "step": "assign", "mailbox": chosen}
        browser.post(address, form)
        browser.post(address, form)
        command = Command.objects.get()
        assert (command.mailbox, command.payload["policy"]) == (one, str(found.guid))
        assert f"“Strict” for {one}" in words(browser, address)

        Command.objects.update(state=Command.State.DONE)
        Mailbox.objects.update(mailbox_policy="Strict")
        browser.post(address, {"key": "k2", "step": "unassign", "mailbox": [str(one.public_id)]})
        assert Command.objects.latest("pk").text.count("$null") == 1

    def test_nothing_chosen(self, scene: Scene, organization: ExchangeOrganization) -> None:
        address = where("mailbox_policy_mailboxes", policy(organization))
        answer = scene.client("administrator").post(address, {"key": "k", "step": "assign"}, follow=True)
        assert "Choose at least one mailbox." in answer.content.decode()


# --- who may ----------------------------------------------------------------------------------------------------------

OF_ORGANIZATION = {
    "organization_mailbox_policies": ("get", "reader"),
    "organization_mailbox_policies_compare": ("get", "reader"),
    "organization_mailbox_policies_read": ("post", "operator"),
    "organization_mailbox_policy_create": ("get", "administrator"),
}
OF_POLICY = {
    "mailbox_policy": ("get", "reader"),
    "mailbox_policy_edit": ("get", "administrator"),
    "mailbox_policy_default": ("post", "administrator"),
    "mailbox_policy_remove": ("post", "administrator"),
    "mailbox_policy_mailboxes": ("post", "administrator"),
}
ORDER = ["reader", "operator", "administrator"]


@pytest.mark.parametrize("name", [*OF_ORGANIZATION, *OF_POLICY])
@pytest.mark.parametrize("who", [*ORDER, "stranger"])
def test_who_may(scene: Scene, organization: ExchangeOrganization, name: str, who: str) -> None:
    method, smallest = {**OF_ORGANIZATION, **OF_POLICY}[name]
    address = where(name, organization if name in OF_ORGANIZATION else policy(organization))
    answer = getattr(scene.client(who), method)(address, {"key": "k"})
    if who == "stranger":
        assert answer.status_code == 404
        assert "Contoso" not in answer.content.decode()
    elif ORDER.index(who) < ORDER.index(smallest):
        assert answer.status_code == 403
    else:
        assert answer.status_code in (200, 302)

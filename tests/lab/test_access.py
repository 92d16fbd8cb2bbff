"""Exchange's own decision about a phone (exchange.md 4.1, 4.2): the order of its questions, and what it writes down."""

from __future__ import annotations

import datetime
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from lab.exchange.access import Claim, Decision, evaluate, phone_request
from lab.exchange.objects import AccessRule, Mailbox, MailboxPolicy
from lab.exchange.store import Store
from tests.lab.sessions import make_store

CLAIM = Claim("ApplA1", "iPhone", model="iPhone14C5", os="iOS 17.6", user_agent="Apple-iPhone14C5/2107.93")
BLOCK, QUARANTINE, ALLOW = (
    AccessRule("iPhone", "DeviceType", "Block"),
    AccessRule("iPhone14C5", "DeviceModel", "Quarantine"),
    AccessRule("iOS 17.6", "DeviceOS", "Allow"),
)


@dataclass(frozen=True)
class Case:
    """What stands in Exchange, and what it decides."""

    state: str
    reason: str
    rule: str | None = None
    default: str = "Allow"
    rules: tuple[AccessRule, ...] = ()
    allowed: tuple[str, ...] = ()
    blocked: tuple[str, ...] = ()
    enabled: bool = True
    provisioned: bool = True
    policy: dict[str, Any] = field(default_factory=dict)
    claim: Claim = CLAIM


ALL = (BLOCK, QUARANTINE, ALLOW)
CASES = {
    "2: ActiveSync off beats all else": Case("Disabled", "Unknown", enabled=False, allowed=("ApplA1",)),
    "3: the policy beats the blocked list": Case("Blocked", "Policy", provisioned=False, blocked=("ApplA1",)),
    "3: the policy beats a personal allow": Case("Blocked", "Policy", provisioned=False, allowed=("ApplA1",)),
    "3: a policy may allow such phones": Case(
        "Allowed", "Global", provisioned=False, policy={"AllowNonProvisionableDevices": True}),
    "4: blocked beats allowed": Case("Blocked", "Individual", blocked=("ApplA1",), allowed=("ApplA1",)),
    "4: in any case": Case("Blocked", "Individual", blocked=("aPPLa1",)),
    "4: another's entry says nothing": Case("Allowed", "Global", blocked=("ApplA2", "ApplA")),
    "5: a personal allow beats rules and default": Case(
        "Allowed", "Individual", allowed=("ApplA1",), rules=ALL, default="Block"),
    "6: a block rule beats the others": Case(
        "Blocked", "DeviceRule", "iPhone (DeviceType)", rules=ALL, default="Block"),
    "6: whatever the rules' order": Case(
        "Blocked", "DeviceRule", "iPhone (DeviceType)", rules=(ALLOW, QUARANTINE, BLOCK)),
    "7: a quarantine rule beats an allow rule": Case(
        "Quarantined", "DeviceRule", "iPhone14C5 (DeviceModel)", rules=(ALLOW, QUARANTINE)),
    "8: an allow rule beats the default": Case(
        "Allowed", "DeviceRule", "iOS 17.6 (DeviceOS)", rules=(ALLOW,), default="Block"),
    "8: a rule on the user agent": Case(
        "Allowed", "DeviceRule", "Apple-iPhone14C5/2107.93 (UserAgent)", default="Quarantine",
        rules=(AccessRule("Apple-iPhone14C5/2107.93", "UserAgent", "Allow"),)),
    "9: the default allows": Case("Allowed", "Global"),
    "9: the default blocks": Case("Blocked", "Global", default="Block"),
    "9: the default quarantines": Case("Quarantined", "Global", default="Quarantine"),
    "a rule's text is exact": Case("Allowed", "Global", rules=(AccessRule("iPhone*", "DeviceType", "Block"),)),
    "a rule is about its own characteristic": Case(
        "Allowed", "Global", rules=(AccessRule("iPhone", "DeviceModel", "Block"),)),
    "a rule on something else": Case(
        "Allowed", "Global", rules=(BLOCK, QUARANTINE), claim=replace(CLAIM, device_type="Android", model="Pixel 8")),
    "a phone that lies about its id is let in": Case(
        "Allowed", "Individual", default="Block", allowed=("Stolen",), claim=replace(CLAIM, device_id="stolen")),
}  # fmt: skip


def prepared(case: Case) -> tuple[Store, Mailbox]:
    store = make_store(devices=3)
    mailbox = next(iter(store.mailboxes.values()))
    for device in store.devices_of(mailbox):
        store.remove_device(device)
    store.rules = list(case.rules)
    store.settings.default_access_level = case.default
    store.policies = [MailboxPolicy("Default", is_default=True, settings=dict(case.policy))]
    mailbox.allowed, mailbox.blocked = list(case.allowed), list(case.blocked)
    mailbox.active_sync_enabled = case.enabled
    return store, mailbox


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_order_of_questions(case: Case) -> None:
    store, mailbox = prepared(case)
    claim = replace(case.claim, is_provisioned=case.provisioned)
    assert evaluate(store, mailbox, claim) == Decision(case.state, case.reason, case.rule)
    # The request itself decides the same, and writes it down.
    decision, device = phone_request(store, mailbox, claim)
    assert decision == Decision(case.state, case.reason, case.rule)
    if case.state == "Disabled":
        assert device is None
    else:
        assert device is not None
        assert (device.state, device.reason, device.rule) == (case.state, case.reason, case.rule)


def test_a_mailboxs_own_policy_counts_before_the_default() -> None:
    store, mailbox = prepared(Case("", "", policy={"AllowNonProvisionableDevices": True}))
    store.policies.append(MailboxPolicy("Strict"))
    claim = replace(CLAIM, is_provisioned=False)
    assert evaluate(store, mailbox, claim).state == "Allowed"
    mailbox.policy = "Strict"
    assert evaluate(store, mailbox, claim) == Decision("Blocked", "Policy")


# --- what is written down, and when -----------------------------------------------------------------------------


def test_stored_state_lags_until_the_phone_returns() -> None:
    store, mailbox = prepared(Case("", ""))
    _, device = phone_request(store, mailbox, CLAIM)
    assert device is not None
    mailbox.blocked = ["ApplA1"]
    store.settings.default_access_level = "Quarantine"
    assert (device.state, device.reason) == ("Allowed", "Global")
    phone_request(store, mailbox, CLAIM)
    assert (device.state, device.reason) == ("Blocked", "Individual")


def test_a_removed_device_that_was_allowed_comes_back_allowed() -> None:
    store, mailbox = prepared(Case("", "", default="Block", allowed=("ApplA1",)))
    _, device = phone_request(store, mailbox, CLAIM)
    assert device is not None
    store.remove_device(device)
    decision, again = phone_request(store, mailbox, CLAIM)
    assert decision == Decision("Allowed", "Individual")
    assert again is not None
    assert again.guid != device.guid


def test_one_id_of_two_types_are_two_devices() -> None:
    store, mailbox = prepared(Case("", ""))
    phone_request(store, mailbox, CLAIM)
    phone_request(store, mailbox, replace(CLAIM, device_type="iPad"))
    phone_request(store, mailbox, replace(CLAIM, device_id="aPPLa1"))
    assert len(store.devices_of(mailbox)) == 2


def test_when_changed_moves_when_the_directory_object_does() -> None:
    store, mailbox = prepared(Case("", ""))
    moment = datetime.datetime(2026, 12, 1, tzinfo=datetime.UTC)
    store.now = lambda: moment
    _, device = phone_request(store, mailbox, CLAIM)
    assert device is not None
    first = moment
    moment += datetime.timedelta(hours=1)
    phone_request(store, mailbox, CLAIM)
    assert (device.changed, device.last_success) == (first, moment)
    phone_request(store, mailbox, replace(CLAIM, os="iOS 18.1"))
    assert (device.changed, device.os) == (moment, "iOS 18.1")


def test_a_phone_blocked_for_its_system_stays_blocked_after_an_update() -> None:
    old = AccessRule("iOS 17.6", "DeviceOS", "Block")
    store, mailbox = prepared(Case("", "", rules=(old,)))
    phone_request(store, mailbox, CLAIM)
    decision, device = phone_request(store, mailbox, replace(CLAIM, os="iOS 18.1"))
    assert device is not None
    assert (decision.state, device.os) == ("Blocked", "iOS 17.6")


def test_a_quarantined_phone_is_heard_and_judged_again() -> None:
    old = AccessRule("iOS 17.6", "DeviceOS", "Quarantine")
    store, mailbox = prepared(Case("", "", rules=(old,)))
    assert phone_request(store, mailbox, CLAIM)[0].state == "Quarantined"
    assert phone_request(store, mailbox, replace(CLAIM, os="iOS 18.1"))[0].state == "Allowed"


def test_discovery_until_the_phone_says_what_it_is_or_time_is_up() -> None:
    store, mailbox = prepared(Case("", "", default="Quarantine"))
    silent = Claim("ApplA1", "iPhone")
    moment = datetime.datetime(2026, 12, 1, tzinfo=datetime.UTC)
    store.now = lambda: moment
    assert phone_request(store, mailbox, silent)[0] == Decision("DeviceDiscovery", "Global")
    moment += datetime.timedelta(minutes=13)
    assert phone_request(store, mailbox, silent)[0].state == "DeviceDiscovery"
    moment += datetime.timedelta(minutes=2)
    assert phone_request(store, mailbox, silent)[0] == Decision("Quarantined", "Global")
    other = replace(silent, device_id="ApplB2")
    assert phone_request(store, mailbox, other)[0].state == "DeviceDiscovery"
    assert phone_request(store, mailbox, replace(other, model="iPhone14C5"))[0].state == "Quarantined"
    mailbox.allowed.append("ApplC3")
    assert phone_request(store, mailbox, replace(silent, device_id="ApplC3"))[0].state == "Allowed"


def test_a_hundred_partnerships_are_enough() -> None:
    store, mailbox = prepared(Case("", ""))
    for number in range(100):
        assert phone_request(store, mailbox, replace(CLAIM, device_id=f"A{number}"))[1] is not None
    decision, device = phone_request(store, mailbox, replace(CLAIM, device_id="one more"))
    assert (decision.state, device) == ("TooMany", None)
    assert phone_request(store, mailbox, replace(CLAIM, device_id="A7"))[0].state == "Allowed"


@pytest.mark.parametrize(("version", "kept"), [("2010", "14.1"), ("2013", "14.1"), ("2016", "16.1"), ("SE", "16.1")])
def test_phone_and_server_agree_on_a_protocol(version: str, kept: str) -> None:
    store = make_store(version, devices=1)
    mailbox = next(iter(store.mailboxes.values()))
    _, device = phone_request(store, mailbox, CLAIM)
    assert device is not None
    assert device.client_version == kept


# --- mail -------------------------------------------------------------------------------------------------------


def test_mail_about_a_quarantine() -> None:
    store, mailbox = prepared(Case("", "", default="Quarantine"))
    admin = next(m for m in store.mailboxes.values() if m is not mailbox)
    store.settings.user_mail_insert = "Enrol at https://x"
    store.settings.admin_mail_recipients = [admin.smtp, "nobody@elsewhere.test"]
    phone_request(store, mailbox, CLAIM)
    phone_request(store, mailbox, CLAIM)
    [notice] = mailbox.messages
    lines = notice.body.splitlines()
    assert "quarantine" in lines[0]
    assert lines[1:3] == ["Enrol at https://x", "Information about your mobile device:"]
    assert lines[3:12] == [
        "Device model: iPhone14C5", "Device type: iPhone", "Device ID: ApplA1", "Device OS: iOS 17.6",
        "Device user agent: Apple-iPhone14C5/2107.93", "Device IMEI: ", "Exchange ActiveSync version: 16.1",
        "Device access state: Quarantined", "Device access state reason: Global",
    ]  # fmt: skip
    assert lines[12].startswith("Sent at ")
    assert lines[12].endswith(f" to {mailbox.smtp}.")
    assert [mailbox.display_name in message.subject for message in admin.messages] == [True]


def test_mail_about_a_block_and_none_when_let_in() -> None:
    store, mailbox = prepared(Case("", ""))
    phone_request(store, mailbox, CLAIM)
    assert mailbox.messages == []
    mailbox.blocked = ["ApplA1"]
    phone_request(store, mailbox, CLAIM)
    phone_request(store, mailbox, CLAIM)
    assert [message.subject for message in mailbox.messages] == [
        "Your phone has been denied access to the server via Exchange ActiveSync"
    ]

"""Mailboxes, the organisation's settings, rules and policies: reading and changing them by cmdlet."""

from __future__ import annotations

from typing import Any

import pytest

from lab.exchange.objects import Mailbox
from tests.lab.sessions import VERSIONS, Session, session


def someone(one: Session) -> Mailbox:
    """A person in the top domain without personal entries."""
    return next(
        m for m in one.store.mailboxes.values() if m.domain == one.store.domain and not m.allowed and not m.blocked
    )


# --- mailboxes --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["Get-CASMailbox", "Get-Mailbox", "Get-User", "Get-Recipient"])
@pytest.mark.parametrize("form", ["sam", "upn", "smtp", "dn", "canonical", "guid", "domain\\sam"])
def test_identities_of_a_mailbox(name: str, form: str) -> None:
    one = session(devices=5)
    mailbox = someone(one)
    identity = f"{one.store.netbios}\\{mailbox.sam}" if form == "domain\\sam" else str(getattr(mailbox, form))
    row = one.run(name, Identity=identity.upper()).row
    assert (row["SamAccountName"], row["Guid"]) == (mailbox.sam, str(mailbox.guid))
    assert row["EmailAddresses"][0] == f"SMTP:{mailbox.smtp}"


def test_a_display_name_that_two_have_is_ambiguous() -> None:
    one = session(devices=2000).entire_forest()
    names = [m.display_name for m in one.store.mailboxes.values()]
    shared = next(name for name in names if names.count(name) > 1)
    error = one.run("Get-CASMailbox", Identity=shared).error
    assert error.reason == "ManagementObjectAmbiguousException"
    assert error.message == f"The operation couldn't be performed because '{shared}' matches multiple entries."
    assert one.run("Set-CASMailbox", Identity=shared, ActiveSyncEnabled=False).errors
    assert all(m.active_sync_enabled for m in one.store.mailboxes.values())


def test_a_name_shared_with_someone_out_of_scope_is_clear() -> None:
    one = session(devices=5)
    inside = someone(one)
    outside = next(iter(one.store.mailboxes.values()))
    twin = Mailbox(
        guid=one.store.guid, sam="twin", display_name=inside.display_name, domain=one.store.child_domain,
        upn="twin@x.test", smtp="twin@x.test", sid=outside.sid,
    )  # fmt: skip
    one.store.add_mailbox(twin)
    assert one.run("Get-CASMailbox", Identity=inside.display_name).row["SamAccountName"] == inside.sam
    assert one.entire_forest().run("Get-CASMailbox", Identity=inside.display_name).errors


FILTERS: dict[str, tuple[str, Any]] = {
    "an exemption, by wildcard": (
        "ActiveSyncAllowedDeviceIDs -like '*'", lambda m, _: bool(m.allowed)),
    "a block": ("ActiveSyncBlockedDeviceIDs -ne $null", lambda m, _: bool(m.blocked)),
    "has phones and is no test mailbox": (
        "HasActiveSyncDevicePartnership -eq $true -and -not DisplayName -like 'CAS_{*'",
        lambda m, s: any(d.client_type == "EAS" for d in s.devices_of(m))),
    "by address": ("EmailAddresses -like '*@old.*'", lambda m, _: bool(m.aliases)),
    "ActiveSync is on": ("ActiveSyncEnabled -eq $true", lambda m, _: True),
    "by name": ("DisplayName -like 'A*'", lambda m, _: m.display_name.startswith("A")),
}  # fmt: skip


@pytest.mark.parametrize("case", FILTERS.values(), ids=FILTERS.keys())
def test_filters(case: tuple[str, Any]) -> None:
    text, wanted = case
    one = session(devices=250).entire_forest()
    found = set(one.run("Get-CASMailbox", Filter=text, ResultSize="Unlimited").values("Guid"))
    assert found == {str(m.guid) for m in one.store.mailboxes.values() if wanted(m, one.store)}


def test_by_guid_and_by_name() -> None:
    one = session(devices=120)
    guids = [str(guid) for guid in one.store.mailboxes]
    some = [*guids[:30], "00000000-0000-0000-0000-000000000000", guids[0]]
    text = " -or ".join(f"(Guid -eq '{guid.upper()}')" for guid in some)
    visible = {str(m.guid) for m in one.store.mailboxes.values() if m.domain == one.store.domain}
    assert len(visible) < len(guids)
    for name in ("Get-CASMailbox", "Get-User", "Get-Recipient"):
        assert set(one.run(name, Filter=text).values("Guid")) == set(guids[:30]) & visible
    also = one.run("Get-User", Filter=f"{text} -or DisplayName -like '*'")
    assert set(also.values("Guid")) == visible
    one.entire_forest()
    assert set(one.run("Get-User", Filter=text).values("Guid")) == set(guids[:30])
    people = list(one.store.mailboxes.values())[:40]
    assert any("'" in person.dn for person in people)
    by_name = " -or ".join(f"DistinguishedName -eq '{person.dn.replace(chr(39), chr(39) * 2)}'" for person in people)
    assert set(one.run("Get-CASMailbox", Filter=by_name).values("Guid")) == {str(person.guid) for person in people}


def test_other_choices_of_mailboxes() -> None:
    one = session(devices=120).entire_forest()
    total = len(one.store.mailboxes)
    mailbox = someone(one)
    assert mailbox.sam in one.run("Get-Recipient", Anr=mailbox.sam[:4]).values("SamAccountName")
    assert len(one.run("Get-Recipient", RecipientTypeDetails=["UserMailbox"]).rows) == total
    assert one.run("Get-Recipient", RecipientTypeDetails="SharedMailbox").rows == []
    names = one.run("Get-Mailbox", SortBy="DisplayName").values("DisplayName")
    assert names == sorted(names, key=str.lower)
    assert one.run("Get-Mailbox", SortBy="Sid").errors
    assert one.run("Get-CASMailbox", Filter="Sid -eq 'x'").errors
    assert len(one.run("Get-Mailbox", ResultSize=3).rows) == 3


def test_ignore_default_scope_takes_a_dn_alone() -> None:
    one = session(devices=120)
    hidden = next(m for m in one.store.mailboxes.values() if m.domain != one.store.domain)
    assert one.run("Get-CASMailbox", Identity=hidden.dn).errors
    assert one.run("Get-CASMailbox", Identity=hidden.upn, IgnoreDefaultScope=True).errors
    assert one.run("Get-CASMailbox", Identity=hidden.dn, IgnoreDefaultScope=True, DomainController="dc01").errors
    assert one.run("Get-CASMailbox", Identity=hidden.dn, IgnoreDefaultScope=True).row["SamAccountName"] == hidden.sam


# --- personal entries -------------------------------------------------------------------------------------------

LISTS: dict[str, tuple[list[str], Any, list[str]]] = {
    "a list replaces": (["A", "B"], ["C"], ["C"]),
    "one text replaces": (["A", "B"], "C", ["C"]),
    "Add": (["A"], {"Add": ["B", "C"]}, ["A", "B", "C"]),
    "Add of one text": (["A"], {"Add": "B"}, ["A", "B"]),
    "Add of what is there, in another case": (["ApplA"], {"Add": ["APPLA"]}, ["ApplA"]),
    "Remove, in any case": (["A", "B"], {"remove": ["a"]}, ["B"]),
    "Remove of what is not there": (["A"], {"Remove": ["X"]}, ["A"]),
    "Add and Remove": (["A"], {"Add": ["B"], "Remove": ["A"]}, ["B"]),
    "null empties": (["A", "B"], None, []),
    "an empty list empties": (["A"], [], []),
    "characters of all kinds": ([], {"Add": ["§ü手機<&>📱"]}, ["§ü手機<&>📱"]),
}


@pytest.mark.parametrize("which", ["Allowed", "Blocked"])
@pytest.mark.parametrize("case", LISTS.values(), ids=LISTS.keys())
def test_personal_lists(which: str, case: tuple[list[str], Any, list[str]]) -> None:
    before, change, after = case
    one = session(devices=2)
    mailbox = someone(one)
    setattr(mailbox, which.lower(), list(before))
    name = f"ActiveSync{which}DeviceIDs"
    result = one.run("Set-CASMailbox", Identity=mailbox.upn, **{name: change})
    assert one.run("Get-CASMailbox", Identity=mailbox.upn).row[name] == after
    unchanged = f"but no settings of '{mailbox.canonical}' have been modified"
    assert any(unchanged in text for text in result.warnings) is (before == after)


def test_both_lists_change_in_one_call_and_may_hold_the_same() -> None:
    one = session(devices=2)
    mailbox = someone(one)
    mailbox.blocked = ["A"]
    one.run("Set-CASMailbox", Identity=mailbox.sam, ActiveSyncAllowedDeviceIDs={"Add": ["A"]},
            ActiveSyncBlockedDeviceIDs={"Remove": ["A"]})  # fmt: skip
    assert (mailbox.allowed, mailbox.blocked) == (["A"], [])
    one.run("Set-CASMailbox", Identity=mailbox.sam, ActiveSyncBlockedDeviceIDs={"Add": ["A"]})
    assert (mailbox.allowed, mailbox.blocked) == (["A"], ["A"])


def test_a_mailboxs_policy() -> None:
    one = session(devices=2)
    mailbox = someone(one)
    assert one.run("Get-CASMailbox", Identity=mailbox.sam).row["ActiveSyncMailboxPolicyIsDefaulted"] is True
    assert one.run("Get-CASMailbox", Identity=mailbox.sam).row["ActiveSyncMailboxPolicy"] is None
    assert one.run("Set-CASMailbox", Identity=mailbox.sam, ActiveSyncMailboxPolicy="Strict").errors
    one.run("New-ActiveSyncMailboxPolicy", Name="Strict")
    one.run("Set-CASMailbox", Identity=mailbox.sam, ActiveSyncMailboxPolicy="STRICT")
    row = one.run("Get-CASMailbox", Identity=mailbox.sam).row
    assert (row["ActiveSyncMailboxPolicy"], row["ActiveSyncMailboxPolicyIsDefaulted"]) == ("Strict", False)
    one.run("Set-CASMailbox", Identity=mailbox.sam, ActiveSyncMailboxPolicy=None)
    assert one.run("Get-CASMailbox", Identity=mailbox.sam).row["ActiveSyncMailboxPolicyIsDefaulted"] is True


def test_a_change_moves_when_changed() -> None:
    one = session(devices=2)
    mailbox = someone(one)
    before = mailbox.changed
    one.run("Set-CASMailbox", Identity=mailbox.sam, ActiveSyncEnabled=True)
    assert mailbox.changed == before
    one.run("Set-CASMailbox", Identity=mailbox.sam, ActiveSyncEnabled=False, OWAEnabled=False)
    row = one.run("Get-CASMailbox", Identity=mailbox.sam).row
    assert (row["ActiveSyncEnabled"], row["OWAEnabled"], row["PopEnabled"]) == (False, False, True)
    assert mailbox.changed > before
    assert not one.run("Set-CASMailbox", Identity=mailbox.sam, ResetAutoBlockedDevices=True).warnings


# --- the organisation -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
def test_settings_of_the_organisation(version: str) -> None:
    one = session(version, devices=1)
    row = one.run("Get-ActiveSyncOrganizationSettings").row
    assert (row["DefaultAccessLevel"], row["Name"]) == ("Allow", "Mobile Mailbox Settings")
    assert row["AdminMailRecipients"] == []
    assert ("AllowAccessForUnSupportedPlatform" in row) is (version != "2010")
    assert ("AllowRMSSupportForUnenlightenedApps" in row) is (version in ("2016", "2019", "SE"))
    config = one.run("Get-OrganizationConfig").row
    assert (config["Name"], config["Guid"]) == ("Org", str(one.store.guid))


CHANGES: dict[str, tuple[dict[str, Any], str, Any]] = {
    "level, in any case": ({"DefaultAccessLevel": "quarantine"}, "DefaultAccessLevel", "Quarantine"),
    "text": ({"UserMailInsert": "Enrol at <https://x> & wait"}, "UserMailInsert", "Enrol at <https://x> & wait"),
    "text of 256 characters": ({"UserMailInsert": "ü" * 256}, "UserMailInsert", "ü" * 256),
    "text of null": ({"OtaNotificationMailInsert": None}, "OtaNotificationMailInsert", ""),
    "recipients": ({"AdminMailRecipients": ["a@x.test"]}, "AdminMailRecipients", ["a@x.test"]),
    "one recipient more": ({"AdminMailRecipients": {"Add": "b@x.test"}}, "AdminMailRecipients", ["b@x.test"]),
    "a switch": ({"AllowAccessForUnSupportedPlatform": True}, "AllowAccessForUnSupportedPlatform", True),
}


@pytest.mark.parametrize("case", CHANGES.values(), ids=CHANGES.keys())
def test_changes_of_the_settings(case: tuple[dict[str, Any], str, Any]) -> None:
    parameters, name, wanted = case
    one = session(devices=1)
    one.store.settings.ota_mail_insert = "something"
    result = one.run("Set-ActiveSyncOrganizationSettings", **parameters)
    assert (result.errors, result.warnings) == ([], [])
    assert one.run("Get-ActiveSyncOrganizationSettings").row[name] == wanted
    assert one.run("Set-ActiveSyncOrganizationSettings", **parameters).warnings


BAD_SETTINGS: dict[str, dict[str, Any]] = {
    "level": {"DefaultAccessLevel": "Deny"},
    "text too long": {"UserMailInsert": "x" * 257},
    "recipient": {"AdminMailRecipients": ["nobody"]},
    "identity": {"Identity": "Other", "UserMailInsert": "x"},
}


@pytest.mark.parametrize("parameters", BAD_SETTINGS.values(), ids=BAD_SETTINGS.keys())
def test_settings_that_are_refused_change_nothing(parameters: dict[str, Any]) -> None:
    one = session(devices=1)
    assert one.run("Set-ActiveSyncOrganizationSettings", **{"OtaNotificationMailInsert": "y", **parameters}).errors
    assert one.store.settings == session(devices=1).store.settings


@pytest.mark.parametrize(("version", "connections"), [("2010", "10"), ("2016", "27")])
def test_throttling_policy(version: str, connections: str) -> None:
    row = session(version, devices=1).run("Get-ThrottlingPolicy").row
    assert (row["PowerShellMaxConcurrency"], row["EwsMaxConcurrency"]) == ("18", connections)


# --- rules ------------------------------------------------------------------------------------------------------


def test_rules_are_made_changed_and_removed() -> None:
    one = session(devices=1)
    rule = {"QueryString": "Pixel 8", "Characteristic": "devicemodel", "AccessLevel": "block"}
    made = one.run("New-ActiveSyncDeviceAccessRule", **rule).row
    assert (made["Name"], made["AccessLevel"], made["Characteristic"]) == (
        "Pixel 8 (DeviceModel)", "Block", "DeviceModel",
    )  # fmt: skip
    assert one.run("New-ActiveSyncDeviceAccessRule", **rule).error.reason == "ADObjectAlreadyExistsException"
    assert not one.run("Set-ActiveSyncDeviceAccessRule", Identity=made["Guid"], AccessLevel="Allow").warnings
    assert one.run("Set-ActiveSyncDeviceAccessRule", Identity=made["Name"], AccessLevel="Allow").warnings
    assert one.run("Get-ActiveSyncDeviceAccessRule", Identity="pixel 8 (devicemodel)").row["AccessLevel"] == "Allow"
    one.run("Remove-ActiveSyncDeviceAccessRule", Identity=made["Name"], Confirm=False)
    assert one.run("Get-ActiveSyncDeviceAccessRule", Identity=made["Name"]).errors
    assert one.run("Get-ActiveSyncDeviceAccessRule").values("Name") == [
        "BlackBerry (DeviceType)", "XQ-DC54 (DeviceModel)",
    ]  # fmt: skip


BAD_RULES = {
    "level": ("SE", {"AccessLevel": "Deny"}),
    "characteristic": ("SE", {"Characteristic": "Colour"}),
    "characteristic of later versions": ("2013", {"Characteristic": "XMSWLHeader"}),
}


@pytest.mark.parametrize("case", BAD_RULES.values(), ids=BAD_RULES.keys())
def test_rules_that_are_refused(case: tuple[str, dict[str, str]]) -> None:
    version, wrong = case
    one = session(version, devices=1)
    rule = {"QueryString": "q", "Characteristic": "DeviceType", "AccessLevel": "Block"} | wrong
    assert one.run("New-ActiveSyncDeviceAccessRule", **rule).errors
    assert len(one.store.rules) == 2


# --- policies ---------------------------------------------------------------------------------------------------

RENAMED = {
    "DevicePasswordEnabled": "PasswordEnabled",
    "AlphanumericDevicePasswordRequired": "AlphanumericPasswordRequired",
    "AllowSimpleDevicePassword": "AllowSimplePassword",
    "MinDevicePasswordLength": "MinPasswordLength",
    "MinDevicePasswordComplexCharacters": "MinPasswordComplexCharacters",
    "MaxDevicePasswordFailedAttempts": "MaxPasswordFailedAttempts",
    "MaxInactivityTimeDeviceLock": "MaxInactivityTimeLock",
    "DevicePasswordExpiration": "PasswordExpiration",
    "DevicePasswordHistory": "PasswordHistory",
    "IsDefaultPolicy": "IsDefault",
}


@pytest.mark.parametrize("version", ["2010", "2016"])
def test_a_policy_under_both_names(version: str) -> None:
    one = session(version, devices=1)
    active = one.run("Get-ActiveSyncMailboxPolicy").row
    assert set(RENAMED) <= set(active)
    assert (active["Name"], active["MinDevicePasswordLength"], active["AllowNonProvisionableDevices"]) == (
        "Default", 4, False,
    )  # fmt: skip
    assert ("IsDefault" in active) is (version != "2010")
    if version != "2010":
        mobile = one.run("Get-MobileDeviceMailboxPolicy").row
        assert set(RENAMED.values()) <= set(mobile)
        assert not (set(RENAMED) - set(RENAMED.values())) & set(mobile)
        assert {n: active[a] for a, n in RENAMED.items()} == {n: mobile[n] for n in RENAMED.values()}


def test_policies_are_made_changed_and_removed() -> None:
    one = session("2019", devices=3)
    one.run("New-MobileDeviceMailboxPolicy", Name="Strict", MinPasswordLength=8, ApprovedApplicationList=["a"])
    row = one.run("Get-ActiveSyncMailboxPolicy", Identity="strict").row
    assert (row["MinDevicePasswordLength"], row["ApprovedApplicationList"]) == (8, ["a"])
    assert one.run("New-ActiveSyncMailboxPolicy", Name="STRICT").error.reason == "ADObjectAlreadyExistsException"
    one.run("Set-ActiveSyncMailboxPolicy", Identity="Strict", MaxInactivityTimeDeviceLock="00:30:00")
    one.run("Set-MobileDeviceMailboxPolicy", Identity="Strict", ApprovedApplicationList={"Add": ["b"]}, IsDefault=True)
    row = one.run("Get-MobileDeviceMailboxPolicy", Identity="Strict").row
    assert (row["MaxInactivityTimeLock"], row["ApprovedApplicationList"], row["IsDefault"]) == (
        "00:30:00", ["a", "b"], True,
    )  # fmt: skip
    assert one.run("Get-MobileDeviceMailboxPolicy", Identity="Default").row["IsDefault"] is False
    assert one.run("Set-MobileDeviceMailboxPolicy", Identity="Strict", IsDefault=True).warnings
    assert (
        "default policy" in one.run("Remove-MobileDeviceMailboxPolicy", Identity="Strict", Confirm=False).error.message
    )
    assert not one.run("Remove-MobileDeviceMailboxPolicy", Identity="Strict", Force=True, Confirm=False).errors
    assert one.run("Get-MobileDeviceMailboxPolicy").values("Name") == ["Default"]


def test_a_policy_keeps_its_mailboxes_when_it_is_renamed_and_lets_go_of_them_when_removed() -> None:
    one = session(devices=2)
    mailbox = someone(one)
    one.run("New-ActiveSyncMailboxPolicy", Name="Old")
    one.run("Set-CASMailbox", Identity=mailbox.sam, ActiveSyncMailboxPolicy="Old")
    one.run("Set-ActiveSyncMailboxPolicy", Identity="Old", Name="New")
    assert mailbox.policy == "New"
    one.run("Remove-ActiveSyncMailboxPolicy", Identity="New", Confirm=False)
    assert mailbox.policy is None


OUT_OF_RANGE = {
    "MinPasswordLength": (0, 17),
    "MaxPasswordFailedAttempts": ("3", "17"),
    "MaxInactivityTimeLock": ("00:00:29", "01:00:01"),
    "PasswordHistory": (-1, 51),
}


@pytest.mark.parametrize("name", OUT_OF_RANGE)
def test_policy_values_out_of_range(name: str) -> None:
    one = session(devices=1)
    for value in OUT_OF_RANGE[name]:
        assert one.run("Set-MobileDeviceMailboxPolicy", Identity="Default", **{name: value}).errors
    assert one.store.policies[0].settings == {}

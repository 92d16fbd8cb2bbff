"""Devices, their statistics, wipe and removal: what the cmdlets list and change."""

from __future__ import annotations

import datetime
from typing import Any

import pytest

from lab.exchange.objects import Device
from tests.lab.sessions import VERSIONS, Session, session


def listing(version: str) -> str:
    return "Get-ActiveSyncDevice" if version == "2010" else "Get-MobileDevice"


@pytest.fixture(scope="module")
def large() -> Session:
    """More devices than a listing shows unasked. Read only."""
    return session("2016", devices=1500).entire_forest()


@pytest.fixture(scope="module")
def reading() -> Session:
    """Read only."""
    return session("SE", devices=400).entire_forest()


def first(one: Session, **fields: Any) -> Device:
    return next(d for d in one.store.devices.values() if all(getattr(d, k) == v for k, v in fields.items()))


# --- ResultSize -------------------------------------------------------------------------------------------------


def test_a_thousand_are_listed_unasked_with_a_warning(large: Session) -> None:
    result = large.run("Get-MobileDevice")
    assert len(result.rows) == 1000
    assert result.warnings[0].startswith("By default, only the first 1000 items are returned.")
    assert result.errors == []


RESULT_SIZES = {"unlimited": ("Unlimited", 1500, False), "a number": (7, 7, True), "text": ("1500", 1500, False),
                "none": (0, 0, True), "more than there are": (2000, 1500, False)}  # fmt: skip


@pytest.mark.parametrize("case", RESULT_SIZES.values(), ids=RESULT_SIZES.keys())
def test_result_size(large: Session, case: tuple[Any, int, bool]) -> None:
    size, count, warns = case
    result = large.run("Get-MobileDevice", ResultSize=size)
    assert len(result.rows) == count
    assert [("more results available" in text) for text in result.warnings] == [True] * warns


# --- identity ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
def test_identities_that_name_a_device(version: str) -> None:
    one = session(version, devices=30).entire_forest()
    device = first(one, client_type="EAS")
    text = one.store.identity_of(device)
    if version == "2010":
        assert text == f"{device.mailbox.canonical}/ExchangeActiveSyncDevices/{device.device_type}§{device.device_id}"
    else:
        assert text == f"{device.mailbox.sam}\\ExchangeActiveSyncDevices\\{device.device_type}§{device.device_id}"
    for identity in (text, text.upper(), str(device.guid), device.guid, device.dn):
        row = one.run(listing(version), Identity=identity).row
        assert (row["DeviceId"], row["Identity"]) == (device.device_id, text)


NOT_IDENTITIES = {
    "a bare DeviceId": lambda d: d.device_id,
    "a name": lambda d: d.name,
    "another separator": lambda d: f"{d.mailbox.sam}\\ExchangeActiveSyncDevices\\{d.device_type}?{d.device_id}",
    "a mailbox": lambda d: d.mailbox.upn,
    "somebody else's": lambda d: f"nobody\\ExchangeActiveSyncDevices\\{d.name}",
}


@pytest.mark.parametrize("make", NOT_IDENTITIES.values(), ids=NOT_IDENTITIES.keys())
def test_identities_that_name_none(reading: Session, make: Any) -> None:
    device = first(reading, client_type="EAS")
    assert reading.run("Get-MobileDevice", Identity=make(device)).error.reason == "ManagementObjectNotFoundException"


def test_an_identity_of_null_lists_everything(reading: Session) -> None:
    assert len(reading.run("Get-MobileDevice", Identity=None).rows) == 400
    assert len(reading.run("Get-CASMailbox", Identity=None).rows) == len(reading.store.mailboxes)


def test_a_mailboxs_devices(reading: Session) -> None:
    device = next(iter(reading.store.devices.values()))
    found = reading.run("Get-MobileDevice", Mailbox=device.mailbox.smtp).values("DeviceId")
    assert sorted(found) == sorted(d.device_id for d in reading.store.devices_of(device.mailbox))


def test_a_device_out_of_scope_is_not_found() -> None:
    one = session(devices=200)
    hidden = next(d for d in one.store.devices.values() if d.mailbox.domain != one.store.domain)
    assert one.run("Get-MobileDevice", Identity=str(hidden.guid)).errors
    assert one.run("Get-MobileDevice", Mailbox=hidden.mailbox.upn).errors
    assert one.entire_forest().run("Get-MobileDevice", Identity=str(hidden.guid)).row["DeviceId"] == hidden.device_id


# --- filters, order, client types -------------------------------------------------------------------------------

EPOCH = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
FILTERS: dict[str, tuple[str, Any]] = {
    "by state": ("DeviceAccessState -eq 'Quarantined'", lambda d: d.state == "Quarantined"),
    "by reason": ("DeviceAccessStateReason -eq 'Individual'", lambda d: d.reason == "Individual"),
    "several states": (
        "DeviceAccessState -eq 'Quarantined' -or DeviceAccessState -eq 'DeviceDiscovery'",
        lambda d: d.state in ("Quarantined", "DeviceDiscovery"),
    ),
    "first seen since": ("FirstSyncTime -gt '2026-01-01T00:00:00Z'", lambda d: d.first_sync > EPOCH),
    "by rule": ("DeviceAccessControlRule -ne $null", lambda d: d.rule is not None),
    "by type": ("DeviceType -eq 'iPhone'", lambda d: d.device_type == "iPhone"),
    "by model": ("DeviceModel -like 'iPhone14*'", lambda d: d.model.startswith("iPhone14")),
    "by system": ("DeviceOS -like 'Android*'", lambda d: d.os.startswith("Android")),
    "by user agent": ("DeviceUserAgent -like '*705*'", lambda d: "705" in d.user_agent),
    "by client": ("ClientType -eq 'REST'", lambda d: d.client_type == "REST"),
    "by owner": ("UserDisplayName -like '*Johnson*'", lambda d: "Johnson" in d.mailbox.canonical),
    "by a name that is not set": ("FriendlyName -eq $null", lambda d: not d.friendly_name),
    "by IMEI": ("DeviceImei -ne $null", lambda d: bool(d.imei)),
    "by language": ("DeviceOSLanguage -eq 'zh-TW'", lambda d: d.os_language == "zh-TW"),
    "by protocol": ("DeviceActiveSyncVersion -eq '16.1'", lambda d: d.client_version == "16.1"),
    "by telephone": ("DeviceTelephoneNumber -like '*4*'", lambda d: "4" in d.phone_number),
    "by flags": ("ProvisioningFlags -eq 0", lambda d: True),
    "by operator": ("DeviceMobileOperator -eq $null", lambda d: True),
}


@pytest.mark.parametrize("case", FILTERS.values(), ids=FILTERS.keys())
def test_filters(reading: Session, case: tuple[str, Any]) -> None:
    text, wanted = case
    found = set(reading.run("Get-MobileDevice", Filter=text, ResultSize="Unlimited").values("Guid"))
    assert found == {str(d.guid) for d in reading.store.devices.values() if wanted(d)}


def test_by_device_id_finds_the_phone_in_every_mailbox(reading: Session) -> None:
    everyone = [d.device_id for d in reading.store.devices.values()]
    shared = next(one for one in everyone if everyone.count(one) > 1)
    owners = reading.run("Get-MobileDevice", Filter=f"DeviceId -eq '{shared}'").values("UserDisplayName")
    assert len(set(owners)) == 2


NOT_FILTERABLE = ("Identity", "Guid", "WhenChangedUTC", "IsManaged", "LastSuccessSync")


@pytest.mark.parametrize("name", NOT_FILTERABLE)
def test_not_filterable(reading: Session, name: str) -> None:
    assert (
        "not a recognized filterable property"
        in reading.run("Get-MobileDevice", Filter=f"{name} -eq 'x'").error.message
    )


def test_2010_knows_no_client_type() -> None:
    one = session("2010", devices=3)
    assert one.run("Get-ActiveSyncDevice", Filter="ClientType -eq 'EAS'").errors
    assert "ClientType" not in one.run("Get-ActiveSyncDevice").rows[0]


def test_order(reading: Session) -> None:
    found = reading.run("Get-MobileDevice", SortBy="DeviceOS", ResultSize="Unlimited").values("DeviceOS")
    assert found == sorted(found, key=str.lower)
    assert reading.run("Get-MobileDevice", SortBy="ClientType").errors


def test_the_activesync_name_lists_activesync_alone(reading: Session) -> None:
    mobile = reading.run("Get-MobileDevice", ResultSize="Unlimited").rows
    active = reading.run("Get-ActiveSyncDevice", ResultSize="Unlimited").rows
    assert {row["ClientType"] for row in mobile} == {"EAS", "REST"}
    assert {row["ClientType"] for row in active} == {"EAS"}
    assert "DeviceActiveSyncVersion" in active[0]
    assert "DeviceActiveSyncVersion" not in mobile[0]


SWITCHES = {"ActiveSync": {"EAS"}, "RestApi": {"REST"}, "OWAforDevices": set(), "UniversalOutlook": set()}


@pytest.mark.parametrize("name", SWITCHES)
def test_client_switches(reading: Session, name: str) -> None:
    found = reading.run("Get-MobileDevice", ResultSize="Unlimited", **{name: True})
    assert set(found.values("ClientType")) == SWITCHES[name]


def test_organizational_units(reading: Session) -> None:
    domain = reading.store.child_domain
    found = reading.run("Get-MobileDevice", OrganizationalUnit=f"{domain}/Users").values("UserDisplayName")
    assert found
    assert all(name.startswith(f"{domain}/Users/") for name in found)
    by_dn = reading.run("Get-MobileDevice", OrganizationalUnit="CN=Users,DC=emea,DC=ese,DC=test")
    assert len(by_dn.rows) == len(found)
    assert reading.run("Get-MobileDevice", OrganizationalUnit="ese.test/Nowhere").errors


# --- the objects ------------------------------------------------------------------------------------------------

COMMON = {
    "FriendlyName", "DeviceId", "DeviceImei", "DeviceMobileOperator", "DeviceOS", "DeviceOSLanguage",
    "DeviceTelephoneNumber", "DeviceType", "DeviceUserAgent", "DeviceModel", "FirstSyncTime", "UserDisplayName",
    "DeviceAccessState", "DeviceAccessStateReason", "DeviceAccessControlRule", "AdminDisplayName", "ExchangeVersion",
    "Name", "DistinguishedName", "Identity", "Guid", "ObjectCategory", "ObjectClass", "WhenChanged", "WhenCreated",
    "WhenChangedUTC", "WhenCreatedUTC", "OrganizationId", "OriginatingServer", "IsValid", "ObjectState",
}  # fmt: skip
SINCE = {"ClientVersion": 2013, "ClientType": 2013, "IsManaged": 2016, "IsCompliant": 2016, "IsDisabled": 2016}


@pytest.mark.parametrize("version", VERSIONS)
def test_properties_of_a_device(version: str) -> None:
    one = session(version, devices=3).entire_forest()
    names = set(one.run(listing(version)).rows[0])
    assert names >= COMMON
    rank = one.store.version.rank
    assert {name for name in SINCE if name in names} == {name for name, since in SINCE.items() if since <= rank}


def test_the_same_thing_has_two_names() -> None:
    one = session(devices=40).entire_forest()
    device = first(one, client_type="EAS")
    statistics = one.run("Get-MobileDeviceStatistics", Identity=str(device.guid)).row
    assert {"DeviceID", "DeviceFriendlyName", "DevicePhoneNumber"} <= set(statistics)
    assert not {"DeviceId", "FriendlyName", "DeviceTelephoneNumber"} & set(statistics)
    assert statistics["DeviceID"] == device.device_id


def test_statistics_of_a_mailbox() -> None:
    one = session("2013", devices=60).entire_forest()
    mailbox = next(m for m in one.store.mailboxes.values() if len(one.store.devices_of(m)) > 1)
    rows = one.run("Get-MobileDeviceStatistics", Mailbox=mailbox.upn).rows
    assert {row["DeviceID"] for row in rows} == {d.device_id for d in one.store.devices_of(mailbox)}
    assert "AccountOnlyDeviceWipeRequestTime" not in rows[0]
    assert one.run("Get-MobileDeviceStatistics", Mailbox="nobody").errors


# --- wipe and removal -------------------------------------------------------------------------------------------


def statistics_of(one: Session, device: Device) -> dict[str, Any]:
    return one.run("Get-ActiveSyncDeviceStatistics", Identity=str(device.guid)).row


def test_a_wipe_is_ordered_and_withdrawn() -> None:
    one = session(devices=20).entire_forest()
    device = first(one, client_type="EAS", state="Allowed")
    identity = one.store.identity_of(device)
    assert statistics_of(one, device)["Status"] == "DeviceOk"
    one.run("Clear-ActiveSyncDevice", Identity=identity, NotificationEmailAddresses=["a@b.test"], Confirm=False)
    row = statistics_of(one, device)
    assert (row["Status"], row["LastDeviceWipeRequestor"]) == ("DeviceWipePending", "svc@ese.test")
    assert row["DeviceWipeRequestTime"]
    assert row["DeviceWipeSentTime"] is row["DeviceWipeAckTime"] is None
    one.run("Clear-ActiveSyncDevice", Identity=identity, Cancel=True, Confirm=False)
    assert statistics_of(one, device)["DeviceWipeRequestTime"] is None


def test_an_account_only_wipe_needs_protocol_16_1() -> None:
    one = session("2019", devices=200).entire_forest()
    new, old = first(one, client_version="16.1"), first(one, client_version="14.1")
    refused = one.run("Clear-MobileDevice", Identity=str(old.guid), AccountOnly=True, Confirm=False)
    assert "account only" in refused.error.message
    assert old.wipe_requested is None
    one.run("Clear-MobileDevice", Identity=str(new.guid), AccountOnly=True, Confirm=False)
    row = statistics_of(one, new)
    assert row["Status"] == "AccountOnlyDeviceWipePending"
    assert row["AccountOnlyDeviceWipeRequestTime"]
    assert row["DeviceWipeRequestTime"] is None


def test_removal_leaves_the_personal_lists() -> None:
    one = session(devices=60).entire_forest()
    device = next(d for d in one.store.devices.values() if d.device_id in d.mailbox.allowed)
    one.run("Remove-MobileDevice", Identity=one.store.identity_of(device), Confirm=False)
    assert one.run("Get-MobileDevice", Identity=str(device.guid)).errors
    assert device.device_id in one.run("Get-CASMailbox", Identity=device.mailbox.upn).row["ActiveSyncAllowedDeviceIDs"]
    assert one.run("Remove-MobileDevice", Identity=str(device.guid), Confirm=False).errors


# --- classes ----------------------------------------------------------------------------------------------------


def test_classes_outlive_their_devices() -> None:
    one = session(devices=60).entire_forest()
    before = one.run("Get-ActiveSyncDeviceClass").values("Name")
    assert len(before) == len(set(before)) == len({(d.device_type, d.model) for d in one.store.devices.values()})
    for device in list(one.store.devices.values()):
        one.store.remove_device(device)
    assert one.run("Get-ActiveSyncDeviceClass").values("Name") == before
    kind = one.run("Get-ActiveSyncDeviceClass", Identity="iPhone§iPhone14C5").row
    assert (kind["DeviceType"], kind["DeviceModel"]) == ("iPhone", "iPhone14C5")
    found = one.run("Get-ActiveSyncDeviceClass", Filter="DeviceType -eq 'iPhone'", SortBy="DeviceModel")
    assert found.values("DeviceModel") == sorted(found.values("DeviceModel"))
    assert set(found.values("DeviceType")) == {"iPhone"}
    assert one.run("Get-ActiveSyncDeviceClass", Identity="nothing").errors

"""Rows of Graph as records: what is tolerated, and what is refused by name."""

from __future__ import annotations

import contextlib
import datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.graph import records
from connectors.graph.errors import RecordError
from connectors.graph.records import DEVICE_SELECT, USER_SELECT, UserRecord

INTUNE_A = "c1ec4a95-1f05-45b3-a911-aa3fa01094f5"
INTUNE_O365 = "882e1d05-acd1-4ccb-8708-6ee03664b117"
UTC = datetime.UTC

# The properties that exchange.md 7.2 recommends.
RECOMMENDED = (
    "id,userId,userPrincipalName,emailAddress,deviceName,operatingSystem,osVersion,model,manufacturer,serialNumber,imei,"
    "easActivated,easDeviceId,easActivationDateTime,azureADDeviceId,azureADRegistered,deviceRegistrationState,"
    "complianceState,complianceGracePeriodExpirationDateTime,managementAgent,exchangeAccessState,"
    "exchangeAccessStateReason,exchangeLastSuccessfulSyncDateTime,lastSyncDateTime,enrolledDateTime,jailBroken"
)


def test_the_recommended_properties_are_selected() -> None:
    assert DEVICE_SELECT == RECOMMENDED
    assert {"assignedPlans", "onPremisesSecurityIdentifier", "proxyAddresses"} <= set(USER_SELECT.split(","))


def test_a_device() -> None:
    record = records.managed_device(
        {
            "id": "d1", "userId": "u1", "userPrincipalName": "zoë@contoso.lab", "easDeviceId": "ApplAB1AB2A1A1",
            "easActivated": True, "complianceState": "compliant", "lastSyncDateTime": "2026-04-30T22:00:00.1234567Z",
            "enrolledDateTime": "2026-04-30T22:00:00+02:00", "easActivationDateTime": "0001-01-01T00:00:00Z",
            "complianceGracePeriodExpirationDateTime": "9999-12-31T23:59:59Z", "azureADRegistered": None,
            "somethingNew": {"a": 1},
        }
    )  # fmt: skip
    assert (record.id, record.user_id, record.eas_device_id, record.eas_activated) == (
        "d1",
        "u1",
        "ApplAB1AB2A1A1",
        True,
    )
    assert record.last_sync == datetime.datetime(2026, 4, 30, 22, 0, 0, 123456, UTC)
    assert record.enrolled == datetime.datetime(2026, 4, 30, 20, tzinfo=UTC)
    assert (record.eas_activated_at, record.grace_until, record.azure_ad_registered) == (None, None, None)
    assert (record.imei, record.model) == ("", "")


TIMES: dict[Any, datetime.datetime | None] = {
    None: None,
    "": None,
    "0001-01-01T00:00:00Z": None,
    "0001-01-01T00:00:00": None,
    "9999-12-31T23:59:59.9999999Z": None,
    "2026-05-01T00:00:00Z": datetime.datetime(2026, 5, 1, tzinfo=UTC),
    "2026-05-01T00:00:00": datetime.datetime(2026, 5, 1, tzinfo=UTC),
    "2026-05-01": datetime.datetime(2026, 5, 1, tzinfo=UTC),
}


@pytest.mark.parametrize(("text", "moment"), TIMES.items())
def test_times(text: Any, moment: datetime.datetime | None) -> None:
    assert records.managed_device({"id": "d", "lastSyncDateTime": text}).last_sync == moment


@pytest.mark.parametrize("state", ["compliant", "noncompliant", "inGracePeriod", "configManager", "somethingNew", ""])
def test_labels_stay_as_they_are(state: str) -> None:
    assert records.managed_device({"id": "d", "complianceState": state}).compliance_state == state


ODD_DEVICES: dict[str, tuple[Any, str]] = {
    "no object": ([], "no object with an id"),
    "no id": ({"userId": "u"}, "no object with an id"),
    "an empty id": ({"id": ""}, "no object with an id"),
    "a number for an id": ({"id": 7}, "no object with an id"),
    "a number for text": ({"id": "d", "model": 7}, "managed device d: model is not text"),
    "an object for text": ({"id": "d", "easDeviceId": {}}, "easDeviceId is not text"),
    "text for a flag": ({"id": "d", "easActivated": "true"}, "easActivated is not true or false"),
    "a number for a time": ({"id": "d", "lastSyncDateTime": 7}, "lastSyncDateTime is not a time"),
    "no time": ({"id": "d", "enrolledDateTime": "soon"}, "enrolledDateTime is not a time"),
    "a day that is none": ({"id": "d", "enrolledDateTime": "2026-02-30T00:00:00Z"}, "enrolledDateTime is not a time"),
}


@pytest.mark.parametrize("case", ODD_DEVICES)
def test_a_wrong_shape_is_named(case: str) -> None:
    row, message = ODD_DEVICES[case]
    with pytest.raises(RecordError, match=message) as caught:
        records.managed_device(row)
    assert caught.value.record_id == ("d" if isinstance(row, dict) and row.get("id") == "d" else "")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@given(st.dictionaries(st.sampled_from([*DEVICE_SELECT.split(","), *USER_SELECT.split(",")]), JSON) | JSON)
def test_any_row_is_a_record_or_an_error_of_ours(row: Any) -> None:
    for read in (records.managed_device, records.user, records.group):
        with contextlib.suppress(RecordError):
            assert read(row).id


def plan(plan_id: str, status: str) -> dict[str, Any]:
    return {"servicePlanId": plan_id, "capabilityStatus": status, "service": "SCO"}


PLANS: dict[str, tuple[Any, bool | None]] = {
    "Intune": ([plan(INTUNE_A, "Enabled")], True),
    "Intune in capitals": ([plan(INTUNE_A.upper(), "enabled")], True),
    "Intune for education": ([plan("da24caf9-af8e-485c-b7c8-e73336da2693", "Enabled")], True),
    "in its grace period": ([plan(INTUNE_A, "Warning")], True),
    "suspended": ([plan(INTUNE_A, "Suspended")], False),
    "switched off": ([plan(INTUNE_A, "Deleted")], False),
    "locked out": ([plan(INTUNE_A, "LockedOut")], False),
    "switched off once and on once": ([plan(INTUNE_A, "Deleted"), plan(INTUNE_A, "Enabled")], True),
    "Basic Mobility and Security": ([plan(INTUNE_O365, "Enabled")], False),
    "the add-on alone": ([plan("d9923fe3-a2de-4d29-a5be-e3e83bb786be", "Enabled")], False),
    "none": ([], False),
    "nulls": ([None, {}, plan(INTUNE_A, "Enabled")], True),
    "null": (None, None),
}


@pytest.mark.parametrize("case", PLANS)
def test_licences_by_assigned_plans(case: str) -> None:
    plans, licensed = PLANS[case]
    assert records.user({"id": "u", "assignedPlans": plans}).licensed is licensed


def test_no_plans_told_is_not_no_licence() -> None:
    assert records.user({"id": "u"}).licensed is None


DETAILS: dict[str, tuple[str, str, bool]] = {
    "Intune": (INTUNE_A, "Success", True),
    "switched off": (INTUNE_A, "Disabled", False),
    "in error": (INTUNE_A, "Error", False),
    "pending": (INTUNE_A, "PendingProvisioning", False),
    "Basic Mobility and Security": (INTUNE_O365, "Success", False),
}


@pytest.mark.parametrize("case", DETAILS)
def test_licences_by_details(case: str) -> None:
    plan_id, status, licensed = DETAILS[case]
    rows = [None, {"servicePlans": [None, {"servicePlanId": plan_id, "provisioningStatus": status}]}]
    assert records.licence_details(rows) is licensed


@pytest.mark.parametrize("rows", [None, {}, [{"servicePlans": 7}], [{"servicePlans": [{"servicePlanId": 7}]}]])
def test_details_of_a_wrong_shape(rows: Any) -> None:
    with pytest.raises(RecordError, match="licenseDetails"):
        records.licence_details(rows)


def test_a_person() -> None:
    record = records.user(
        {"id": "u", "mail": None, "proxyAddresses": ["SMTP:a@b.c", None, "smtp:d@b.c"], "accountEnabled": False}
    )
    assert (record.mail, record.proxy_addresses, record.account_enabled) == ("", ("SMTP:a@b.c", "smtp:d@b.c"), False)


def test_a_change_tells_what_changed_and_no_more() -> None:
    before = UserRecord("u", mail="old@b.c", display_name="Zoë", licensed=True)
    change = records.user_change({"id": "u", "mail": "new@b.c", "preferredLanguage": None, "unknown": 1})
    assert dict(change.told) == {"mail": "new@b.c", "preferred_language": ""}
    after = change.applied_to(before)
    assert (after.mail, after.display_name, after.licensed) == ("new@b.c", "Zoë", True)
    assert change.applied_to(None) == UserRecord("u", mail="new@b.c")

"""What sync depends on, against the lab's Graph: listings and their worth, single records, people, groups, checks."""

from __future__ import annotations

import dataclasses
import time
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest

from connectors.graph.client import Options
from connectors.graph.errors import GraphError, NotPermittedGraphError, TransientGraphError
from connectors.graph.listing import Listing, Outcome, Page
from connectors.graph.records import GroupRecord, ManagedDeviceRecord, UserRecord
from connectors.graph.source import GraphSource
from tests.connectors.graph.tenants import QUICK, GraphTenant
from tests.labs import Lab

pytestmark = pytest.mark.wire


def listed(listing: Listing[Any]) -> list[Any]:
    return [record for page in listing for record in page.records]


# --- managed devices ----------------------------------------------------------------------------------------------


def test_a_listing_holds_every_record(tenant: GraphTenant) -> None:
    rows = {row["id"]: row for row in tenant.devices()}
    with tenant.source() as source:
        listing = source.managed_devices()
        with pytest.raises(RuntimeError):
            _ = listing.outcome
        records = listed(listing)
    assert listing.outcome == Outcome(len(rows), len(rows), is_complete=True)
    assert {record.id for record in records} == rows.keys()
    for record in records:
        row = rows[record.id]
        assert (record.user_id, record.eas_device_id) == (row["userId"], row["easDeviceId"])
        assert (record.compliance_state, record.eas_activated) == (row["complianceState"], row["easActivated"])
        assert record.grace_until is None
        assert (record.eas_activated_at is None) == (not row["easActivated"])


NOT_WHOLE: dict[str, dict[str, object]] = {
    "rows are missing": {"kind": "hide", "value": 3},
    "a row cannot be read": {"kind": "odd_row", "times": 1},
    "nothing counts": {"kind": "no_count"},
}


@pytest.mark.parametrize("case", NOT_WHOLE)
def test_a_listing_that_proves_nothing(tenant: GraphTenant, case: str) -> None:
    with tenant.fault(**NOT_WHOLE[case]), tenant.source() as source:  # type: ignore[arg-type]
        listing = source.managed_devices()
        assert listed(listing)
    assert not listing.outcome.is_complete


def test_a_row_that_cannot_be_read_keeps_no_other_from_it(tenant: GraphTenant) -> None:
    with tenant.fault("odd_row", times=1), tenant.source() as source:
        pages = list(source.managed_devices())
    [error] = [error for page in pages for error in page.unreadable]
    assert "lastSyncDateTime" in str(error)
    assert error.record_id in {row["id"] for row in tenant.devices()}
    assert sum(len(page.records) for page in pages) == len(tenant.devices()) - 1


@pytest.mark.parametrize(
    ("kind", "value"), [("page_count", ""), ("repeat", ""), ("null_eas", ""), ("top", "10")], ids=lambda one: str(one)
)
def test_a_listing_that_is_whole_all_the_same(tenant: GraphTenant, kind: str, value: str) -> None:
    """A count of the page alone, rows that come twice, ids that are null, another page size than we asked for."""
    with tenant.fault(kind, value=value), tenant.source() as source:
        listing = source.managed_devices()
        records = listed(listing)
    expected = len(tenant.devices())
    assert listing.outcome == Outcome(expected, expected, is_complete=True)
    assert len({record.id for record in records}) == expected
    assert (len(records) > expected) == (kind == "repeat")
    if kind == "null_eas":
        assert {record.eas_device_id for record in records} == {""}


def test_hidden_rows_are_not_taken_for_counted_because_pages_count_themselves(tenant: GraphTenant) -> None:
    with tenant.fault("page_count"), tenant.fault("hide", value=1), tenant.source() as source:
        listing = source.managed_devices()
        listed(listing)
    assert not listing.outcome.is_complete


def test_a_listing_that_breaks_has_no_outcome(tenant: GraphTenant) -> None:
    with tenant.source() as source:
        listing = source.managed_devices()
        pages = iter(listing)
        assert len(next(pages).records) == QUICK.page_size
        with tenant.fault("status", value=500), pytest.raises(GraphError) as caught:
            next(pages)
    assert caught.value.code == "graph_server_error"
    with pytest.raises(RuntimeError):
        _ = listing.outcome


def test_one_record_or_none(tenant: GraphTenant) -> None:
    row = tenant.devices()[0]
    with tenant.source() as source:
        record = source.managed_device(row["id"])
        assert record is not None
        assert (record.id, record.eas_device_id) == (row["id"], row["easDeviceId"])
        assert source.managed_device("00000000-0000-0000-0000-000000000000") is None


@pytest.mark.parametrize(("kind", "value"), [("status", 500), ("not_json", ""), ("no_intune", ""), ("status", 404)])
def test_what_cannot_be_read_is_not_gone(tenant: GraphTenant, kind: str, value: object) -> None:
    """A 404 must come from Graph and say what is missing."""
    with tenant.fault(kind, value=value), tenant.source() as source, pytest.raises(GraphError):
        source.managed_device("00000000-0000-0000-0000-000000000000")


def test_enrolled_and_un_enrolled(tenant: GraphTenant) -> None:
    user = tenant.users()[0]
    row = tenant.call("POST", "devices", {"user": user["userPrincipalName"], "eas_device_id": "ApplNEW1"})
    with tenant.source() as source:
        record = source.managed_device(row["id"])
        assert record is not None
        assert (record.eas_device_id, record.user_id, record.compliance_state) == ("ApplNEW1", user["id"], "compliant")
        of_user = source.devices_of_user(user["id"])
        assert of_user is not None
        assert row["id"] in {one.id for one in of_user}
        assert {one.user_id for one in of_user} == {user["id"]}
        tenant.call("DELETE", f"devices/{row['id']}")
        assert source.managed_device(row["id"]) is None


def test_devices_of_a_person_who_is_not_there(tenant: GraphTenant) -> None:
    with tenant.source() as source:
        assert source.devices_of_user("nobody") is None


# --- people -------------------------------------------------------------------------------------------------------


def test_everybody_with_licence_and_on_premises_names(tenant: GraphTenant) -> None:
    rows = {row["id"]: row for row in tenant.users()}
    with tenant.source() as source:
        listing = source.users()
        records: list[UserRecord] = listed(listing)
        assert listing.outcome.is_complete
        assert {record.id for record in records} == rows.keys()
        for record in records:
            row = rows[record.id]
            assert record.security_identifier == row["onPremisesSecurityIdentifier"]
            assert record.sam_account_name == row["onPremisesSamAccountName"]
            assert record.proxy_addresses == tuple(row["proxyAddresses"])
        assert {record.licensed for record in records} == {True, False}
        for licensed in (True, False):
            one = next(record for record in records if record.licensed is licensed)
            assert source.licensed(one.id) is licensed


def test_licences_are_asked_for_where_they_are_not_told(tenant: GraphTenant) -> None:
    with tenant.fault("no_plans"), tenant.source() as source:
        records = listed(source.users())
        assert {record.licensed for record in records} == {None}
        before = len(tenant.asked())
        assert source.licensed(records[0].id) is source.licensed(records[0].id) is not None
        assert len([one for one in tenant.asked()[before:] if "licenseDetails" in one]) == 1
        assert source.licensed("nobody") is None


def test_a_licence_is_given_and_taken(tenant: GraphTenant) -> None:
    user = tenant.users()[0]
    with tenant.source() as source:
        for wanted in (False, True):
            tenant.call("PATCH", f"users/{user['id']}", {"licensed": wanted})
            found = source.user(user["id"])
            assert found is not None
            assert found.licensed is wanted
        assert source.user("nobody") is None


def delta(source: GraphSource, link: str = "") -> tuple[dict[str, UserRecord], set[str], str, bool]:
    """People, who was removed, the next link, and whether it began from the beginning."""
    people: dict[str, UserRecord] = {}
    removed: set[str] = set()
    pages = list(source.users_delta(link))
    assert all(page.link == "" for page in pages[:-1])
    for page in pages:
        people |= {change.id: change.applied_to(people.get(change.id)) for change in page.changes}
        removed.update(page.removed)
    return people, removed, pages[-1].link, pages[-1].is_fresh


def test_changes_of_people(fresh_lab: Callable[..., Lab]) -> None:
    tenant = GraphTenant(fresh_lab("name=Delta,tenant=Contoso,devices=200"))
    with tenant.source() as source:
        people, removed, link, is_fresh = delta(source)
        assert (set(people), removed, is_fresh) == ({row["id"] for row in tenant.users()}, set(), True)
        assert delta(source, link)[:2] == ({}, set())

        one, two = tenant.users()[:2]
        tenant.call(
            "PATCH", f"users/{one['id']}", {"mail": "new@delta.lab", "accountEnabled": False, "licensed": False}
        )
        tenant.call("DELETE", f"users/{two['id']}")
        people, removed, link, is_fresh = delta(source, link)
        assert (set(people), removed, is_fresh) == ({one["id"]}, {two["id"]}, False)
        changed = people[one["id"]]
        assert (changed.mail, changed.account_enabled, changed.licensed) == ("new@delta.lab", False, False)

        tenant.call("POST", "delta/expire", {})
        people, removed, link, is_fresh = delta(source, link)
        assert (set(people), is_fresh) == ({row["id"] for row in tenant.users()}, True)
        assert delta(source, link)[3] is False


def test_a_delta_that_is_forgotten_in_its_middle(fresh_lab: Callable[..., Lab]) -> None:
    tenant = GraphTenant(fresh_lab("name=Delta,tenant=Contoso,devices=300"))
    with tenant.source() as source:
        pages = source.users_delta()
        assert next(pages).link == ""
        with tenant.fault("status", value=410), pytest.raises(TransientGraphError) as caught:
            next(pages)
    assert caught.value.code == "graph_resync_required"


def test_a_delta_link_to_another_place_is_not_followed(tenant: GraphTenant) -> None:
    with tenant.source() as source, pytest.raises(GraphError) as caught:
        list(source.users_delta("https://graph.example/v1.0/users/delta?$deltatoken=x"))
    assert caught.value.code == "graph_foreign_link"


# --- groups -------------------------------------------------------------------------------------------------------


def test_members_through_other_groups(tenant: GraphTenant) -> None:
    one, two, three = [row["id"] for row in tenant.users()[:3]]
    inner = tenant.call("POST", "groups", {"name": "Inner", "members": [one, two]})["id"]
    outer = tenant.call("POST", "groups", {"name": "Outer", "members": [two, three], "groups": [inner]})["id"]
    tenant.call("PATCH", f"groups/{inner}", {"nest": [outer]})  # in a circle
    try:
        with tenant.source() as source:
            members = source.group_members(outer)
            assert members is not None
            assert members.user_ids == {one, two, three}
            assert (members.expected, members.is_complete, members.is_veiled) == (3, True, False)
            tenant.call("PATCH", f"groups/{inner}", {"remove": [one]})
            members = source.group_members(outer)
            assert members is not None
            assert members.user_ids == {two, three}
            assert source.group(outer) == GroupRecord(outer, "Outer")
    finally:
        for group in (inner, outer):
            tenant.call("DELETE", f"groups/{group}")
    with tenant.source() as source:
        assert source.group_members(outer) is None
        assert source.group(outer) is None


def everyone(tenant: GraphTenant, source: GraphSource) -> str:
    [group] = source.groups_search("SE mobile")
    return group.id


def test_members_come_page_by_page(tenant: GraphTenant) -> None:
    with tenant.source(dataclasses.replace(QUICK, page_size=7)) as source:
        members = source.group_members(everyone(tenant, source))
    assert members is not None
    assert len(members.user_ids) == members.expected == len(tenant.lab.organization("SE").mailboxes())


def test_members_that_are_hidden_or_not_yet_counted(tenant: GraphTenant) -> None:
    with tenant.source() as source:
        group = everyone(tenant, source)
        with tenant.fault("veiled"):
            members = source.group_members(group)
        assert members is not None
        assert members.is_veiled
        assert members.user_ids
        with tenant.fault("lag", value=2):
            members = source.group_members(group)
        assert members is not None
        assert not members.is_complete


def test_groups_are_found_by_the_beginning_of_their_name_or_by_id(tenant: GraphTenant) -> None:
    with tenant.source() as source:
        assert [group.display_name for group in source.groups_search("se ")] == [
            "SE executives", "SE mobile users", "SE sales",
        ]  # fmt: skip
        assert len(source.groups_search("2", limit=2)) == 2
        [group] = source.groups_search("2010 sales")
        assert source.groups_search(group.id) == (group,)
        for text in ("", "  ", "nobody's", "'", "00000000-0000-0000-0000-000000000000", "%", "a&$top=1"):
            assert source.groups_search(text) == ()


def test_a_permission_that_is_missing_is_named(tenant: GraphTenant) -> None:
    tenant.call("PUT", "permissions", {"permissions": []})
    with tenant.source() as source:
        for permission, call in (
            ("DeviceManagementManagedDevices.Read.All", lambda: listed(source.managed_devices())),
            ("DeviceManagementManagedDevices.Read.All", lambda: source.managed_device("x")),
            ("User.Read.All", lambda: listed(source.users())),
            ("User.Read.All", lambda: list(source.users_delta())),
            ("User.Read.All", lambda: source.licensed("x")),
            ("GroupMember.Read.All", lambda: source.group_members("x")),
            ("GroupMember.Read.All", lambda: source.groups_search("x")),
        ):
            with pytest.raises(NotPermittedGraphError) as caught:
                call()
            assert caught.value.permission == permission


# --- checks -------------------------------------------------------------------------------------------------------


def checked(tenant: GraphTenant) -> dict[str, str]:
    """name → code, "" where it works, "warning" where somebody should look."""
    with tenant.source() as source:
        return {
            check.name: check.error.code if check.error else "warning" if check.is_warning else ""
            for check in source.verify()
        }


ALL_WELL = {"sign_in": "", "managed_devices": "", "users": "", "licences": "", "groups": "", "members": ""}


def test_all_is_well(tenant: GraphTenant) -> None:
    assert checked(tenant) == ALL_WELL
    with tenant.source() as source:
        found = {check.name: check.found for check in source.verify()}
    assert found["managed_devices"] == len(tenant.devices())
    assert found["licences"]


def test_each_permission_is_tried(tenant: GraphTenant) -> None:
    for permission, names in (
        ("DeviceManagementManagedDevices.Read.All", {"managed_devices"}),
        ("User.Read.All", {"users", "licences"}),
        ("GroupMember.Read.All", {"groups"}),
    ):
        kept = {one for one in tenant.call("GET", "")["permissions"] if one != permission}
        tenant.call("PUT", "permissions", {"permissions": sorted(kept)})
        found = checked(tenant)
        assert {name for name, code in found.items() if code == "graph_permission_missing"} == names
        tenant.lab.reset()


def test_what_else_a_check_says(tenant: GraphTenant) -> None:
    with tenant.fault("secret_expired"):
        assert checked(tenant) == {"sign_in": "graph_secret_expired"}
    with tenant.fault("no_intune"):
        assert checked(tenant) == {**ALL_WELL, "managed_devices": "graph_intune_unavailable"}
    with tenant.fault("no_plans"):
        assert checked(tenant) == {**ALL_WELL, "licences": "warning"}
    with tenant.fault("veiled"):
        assert checked(tenant) == {**ALL_WELL, "members": "graph_members_hidden"}


# --- a listing by itself ------------------------------------------------------------------------------------------


def device(number: int) -> ManagedDeviceRecord:
    values: dict[str, Any] = {field.name: "" for field in dataclasses.fields(ManagedDeviceRecord)}
    return ManagedDeviceRecord(**{**values, "id": str(number)})


def test_a_listing_of_ones_own() -> None:
    listing = Listing([Page((device(1), device(2))), Page((device(2),))])
    assert len(listed(listing)) == 3
    assert listing.outcome == Outcome(2, None, is_complete=True)
    with pytest.raises(RuntimeError):
        listed(listing)


@pytest.mark.slow
def test_many_devices_are_read_fast_and_in_little_memory(fresh_lab: Callable[..., Lab]) -> None:
    tenant = GraphTenant(fresh_lab("name=Big,tenant=Contoso,devices=20000"))
    with tenant.source(Options()) as source:
        began = time.monotonic()
        listing = source.managed_devices()
        count = sum(len(page.records) for page in listing)
        assert time.monotonic() - began < 10 * count / 50_000 + 3
        assert listing.outcome == Outcome(count, count, is_complete=True)
        assert count > 9_000
        tracemalloc.start()
        for _ in source.managed_devices():
            pass
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak < 25_000_000

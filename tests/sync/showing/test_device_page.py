"""The list of devices by pages: every row exactly once in every order, nobody else's rows, two queries however many."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from console.accounts.models import User
from sync.models import MobileDevice
from sync.showing import device_page as module
from sync.showing.device_page import SORTS, CursorError, DeviceFilters, DevicePage, device_page
from tests.factories import DeviceFactory, MembershipFactory, OrganizationFactory, TenantFactory, UserFactory

pytestmark = pytest.mark.django_db
NOW = timezone.now()


@pytest.fixture
def admin() -> User:
    return UserFactory(is_superuser=True)  # type: ignore[no-any-return]


@pytest.fixture
def many(admin: User) -> list[MobileDevice]:
    """Values that tie, values that are missing, letters of both cases and of other alphabets."""
    organization = OrganizationFactory()
    return [
        DeviceFactory(
            organization=organization,
            user_display_name=["Ada", "ada", "", "Zoë", "王小明", "Ada"][n % 6],
            device_model=["iPhone15C2", "", "SM-S921B"][n % 3],
            device_os=["iOS 17.5", "Android 14"][n % 2],
            access_state=["Allowed", "Blocked", "Quarantined"][n % 3],
            first_sync_time=None if n % 4 == 0 else NOW - datetime.timedelta(days=n % 5),
            changed_at=NOW - datetime.timedelta(hours=n % 7),
        )
        for n in range(31)
    ]


def walk(page_of: Callable[[str], DevicePage]) -> tuple[list[int], str]:
    """All keys from the first page on, and the last page's cursor back."""
    keys: list[int] = []
    cursor = ""
    for _step in range(50):
        page = page_of(cursor)
        keys += [device.pk for device in page.devices]
        if not page.next_cursor:
            return keys, page.previous_cursor
        cursor = page.next_cursor
    raise AssertionError("no end")


@pytest.mark.parametrize("descending", [False, True], ids=["up", "down"])
@pytest.mark.parametrize("sort", SORTS)
def test_every_row_is_on_exactly_one_page_there_and_back(
    admin: User, many: list[MobileDevice], sort: str, descending: bool
) -> None:
    def page_of(cursor: str) -> DevicePage:
        return device_page(admin, DeviceFilters(), sort=sort, descending=descending, cursor=cursor, size=4)

    keys, back = walk(page_of)
    assert sorted(keys) == sorted(device.pk for device in many)

    returned = keys[28:]
    while back:
        page = page_of(back)
        assert page.next_cursor
        returned = [device.pk for device in page.devices] + returned
        back = page.previous_cursor
    assert returned == keys


@pytest.mark.parametrize("sort", SORTS)
def test_downwards_is_upwards_turned_round(admin: User, many: list[MobileDevice], sort: str) -> None:
    up, _ = walk(lambda cursor: device_page(admin, DeviceFilters(), sort=sort, cursor=cursor, size=10))
    down, _ = walk(
        lambda cursor: device_page(admin, DeviceFilters(), sort=sort, descending=True, cursor=cursor, size=10)
    )
    assert down == up[::-1]


def test_a_row_added_between_two_pages_moves_no_other(admin: User, many: list[MobileDevice]) -> None:
    first = device_page(admin, DeviceFilters(), size=10)
    DeviceFactory(organization=many[0].organization, user_display_name="")  # sorts before all
    second = device_page(admin, DeviceFilters(), size=10, cursor=first.next_cursor)
    assert not {d.pk for d in first.devices} & {d.pk for d in second.devices}


FILTERS: dict[str, tuple[dict[str, Any], int]] = {
    "present, if nothing is said": ({}, 4),
    "gone": ({"presence": "gone"}, 1),
    "both": ({"presence": "all"}, 5),
    "a state": ({"state": "Quarantined"}, 2),
    "a state of a newer Exchange": ({"state": "Pondering"}, 0),
    "a reason": ({"reason": "Individual"}, 1),
    "a client": ({"client_type": "REST"}, 1),
    "part of a name, any case": ({"text": "ADA"}, 1),
    "part of a device ID": ({"text": "zz9"}, 1),
    "a model": ({"text": "SM-S9"}, 1),
    "every word must be found": ({"text": "ada android"}, 0),
    "words in different columns": ({"text": "grace android"}, 1),
    "no wildcard of SQL": ({"text": "%"}, 0),
    "state and words": ({"state": "Quarantined", "text": "grace"}, 1),
}


@pytest.mark.parametrize(("chosen", "expected"), FILTERS.values(), ids=FILTERS)
def test_filters(admin: User, chosen: dict[str, Any], expected: int) -> None:
    organization = OrganizationFactory()
    shared = {"organization": organization, "mailbox": "contoso.lab/x"}
    DeviceFactory(**shared, user_display_name="Ada Lovelace", access_state="Quarantined")
    DeviceFactory(
        **shared, user_display_name="Grace Hopper", access_state="Quarantined", device_os="Android 14",
        device_model="SM-S921B", access_state_reason="Individual",
    )  # fmt: skip
    DeviceFactory(**shared, user_display_name="Alan", device_id="ZZ9PLURAL", client_type="REST")
    DeviceFactory(**shared, user_display_name="Edsger", device_id="ED")
    DeviceFactory(**shared, user_display_name="Old", device_id="OLD", gone_at=NOW)

    page = device_page(admin, DeviceFilters(**chosen))

    assert (page.count, len(page.devices)) == (expected, expected)


def test_one_organisation_alone(admin: User) -> None:
    wanted, other = DeviceFactory(), DeviceFactory()
    page = device_page(admin, DeviceFilters(organization=wanted.organization.public_id))
    assert [d.pk for d in page.devices] == [wanted.pk]
    assert other.pk not in {d.pk for d in page.devices}


def test_nobody_sees_another_tenants_devices() -> None:
    tenant = TenantFactory()
    person = UserFactory()
    MembershipFactory(user=person, tenant=tenant)
    own = DeviceFactory(organization=OrganizationFactory(tenant=tenant))
    foreign = DeviceFactory()
    page = device_page(person, DeviceFilters())
    assert ([d.pk for d in page.devices], page.count) == ([own.pk], 1)
    assert not device_page(person, DeviceFilters(organization=foreign.organization.public_id)).devices


def test_two_queries_however_many_rows(admin: User, many: list[MobileDevice]) -> None:
    with CaptureQueriesContext(
        connection,
    ) as few:
        list(device_page(admin, DeviceFilters(), size=2).devices)
    with CaptureQueriesContext(connection) as more:
        for device in device_page(admin, DeviceFilters(), size=30).devices:
            assert device.organization.tenant.name
    assert len(few) == len(more) == 2


def test_counting_stops_at_its_limit(admin: User, many: list[MobileDevice], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "COUNT_LIMIT", 30)
    page = device_page(admin, DeviceFilters(), size=5)
    assert (page.count, page.is_count_exact) == (30, False)
    monkeypatch.setattr(module, "COUNT_LIMIT", 31)
    page = device_page(admin, DeviceFilters(), size=5)
    assert (page.count, page.is_count_exact) == (31, True)


def test_a_cursor_of_ones_own_making_is_refused(admin: User, many: list[MobileDevice]) -> None:
    good = device_page(admin, DeviceFilters(), sort="os", size=5).next_cursor
    for cursor in ("nonsense", good[:-2] + "xx", good + "0"):
        with pytest.raises(CursorError):
            device_page(admin, DeviceFilters(), sort="os", cursor=cursor)
    with pytest.raises(CursorError, match="of the sort by os"):
        device_page(admin, DeviceFilters(), sort="user", cursor=good)
    with pytest.raises(ValueError, match="no sort 'password'"):
        device_page(admin, DeviceFilters(), sort="password")

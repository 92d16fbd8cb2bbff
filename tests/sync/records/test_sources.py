"""Reading a tenant's Graph: absence proves nothing by itself, failures stay where they are, changes are acted upon."""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection
from django.db.models import F
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from connectors.exchange.errors import CanceledError
from connectors.graph.errors import NotPermittedGraphError, StopGraphError, ThrottledGraphError, TransientGraphError
from connectors.graph.records import GroupMembers, UserChange, UserChangePage
from connectors.models import DeviceSource
from sync import tasks
from sync.models import (
    DeviceAccess,
    DeviceEvent,
    DirectoryGroup,
    DirectoryUser,
    GroupMember,
    Mailbox,
    MailboxCheck,
    ManagedDevice,
    PolicyVersion,
    Presence,
    UserKeyText,
)
from sync.policies.policy import GroupRef, TenantPolicyValues
from sync.records import sources
from sync.records.source_lease import source_lease
from sync.records.sources import RefreshReport, records_refresh
from tests.factories import ConnectorFactory, DeviceFactory, OrganizationFactory, TenantFactory
from tests.sync.graph import FakeGraph, record, user

pytestmark = pytest.mark.django_db

Refresh = Callable[..., RefreshReport]


@pytest.fixture
def tenant() -> Any:
    made = TenantFactory()
    DeviceSource.objects.create(tenant=made, kind=DeviceSource.Kind.GRAPH)
    return made


@pytest.fixture
def graph() -> FakeGraph:
    return FakeGraph(*(record(number) for number in range(1, 6)))


@pytest.fixture
def refresh(tenant: Any, graph: FakeGraph) -> Refresh:
    """Read now, however fresh the last reading is."""

    def do(**more: Any) -> RefreshReport:
        options: dict[str, Any] = {"full": True, "asked_at": timezone.now(), "open_source": graph.open}
        return records_refresh(tenant.pk, **options | more)

    return do


def policy(tenant: Any, **values: Any) -> None:
    content = TenantPolicyValues(**{"enabled": True, **values}).to_json()
    PolicyVersion.objects.create(tenant=tenant, number=1, content=content, made_at=timezone.now(), made_by_name="Ada")


def mailbox(organization: Any, number: int, **more: Any) -> Mailbox:
    now = timezone.now()
    values = {"guid": uuid.uuid4(), "primary_smtp": f"Person{number}@contoso.com", "read_at": now, "changed_at": now}
    return Mailbox.objects.create(organization=organization, **{**values, **more})


def presences() -> dict[str, str]:
    return dict(ManagedDevice.objects.values_list("source_id", "presence"))


def asked() -> set[int]:
    return set(MailboxCheck.objects.values_list("mailbox_id", flat=True))


class TestRecords:
    def test_what_graph_says_is_kept(self, refresh: Refresh, graph: FakeGraph) -> None:
        graph.devices["d1"] = record(1, eas_device_id=" ApplX001 ", grace_until=None, model="a\0b")
        report = refresh()
        assert (report.created, report.changed, report.is_complete, report.error_code) == (5, 0, True, "")
        row = ManagedDevice.objects.get(source_id="d1")
        assert (row.upn_key, row.eas_device_id_key, row.model) == ("person1@contoso.com", "applx001", "a\ufffdb")
        assert row.registered is True

    def test_an_all_zero_id_has_no_key(self, refresh: Refresh, graph: FakeGraph) -> None:
        graph.devices["d1"] = record(1, eas_device_id="00000000-0000")
        refresh()
        assert ManagedDevice.objects.get(source_id="d1").eas_device_id_key == ""

    def test_what_did_not_change_is_not_written(self, refresh: Refresh) -> None:
        refresh()
        before = list(ManagedDevice.objects.order_by("pk").values_list("pk", "changed_at"))
        report = refresh()
        assert (report.created, report.changed, report.unchanged) == (0, 0, 5)
        assert list(ManagedDevice.objects.order_by("pk").values_list("pk", "changed_at")) == before

    def test_a_change_keeps_the_row(self, refresh: Refresh, graph: FakeGraph) -> None:
        refresh()
        before = ManagedDevice.objects.get(source_id="d2")
        graph.devices["d2"] = record(2, compliance_state="noncompliant")
        assert refresh().changed == 1
        after = ManagedDevice.objects.get(source_id="d2")
        assert (after.pk, after.public_id, after.first_seen_at) == (before.pk, before.public_id, before.first_seen_at)
        assert after.compliance == "noncompliant"

    def test_statements_do_not_grow_with_the_devices(self, refresh: Refresh, graph: FakeGraph) -> None:
        graph.page_size = 200

        def statements(count: int) -> int:
            for number in range(count):
                graph.devices[f"d{number}"] = record(number, os_version=str(count))
            with CaptureQueriesContext(connection) as captured:
                refresh()
            return len(captured)

        statements(100)
        assert statements(101) == statements(102)

    def test_a_tenant_without_graph_has_nothing_to_read(self, tenant: Any) -> None:
        DeviceSource.objects.update(kind=DeviceSource.Kind.PUSHED)
        report = records_refresh(tenant.pk, full=True)
        assert (report.kind, report.is_readable, report.error_code) == ("pushed", True, "")


class TestAbsence:
    def test_missing_in_one_listing_is_asked_about_and_gone_by_404(self, refresh: Refresh, graph: FakeGraph) -> None:
        refresh()
        del graph.devices["d3"]
        report = refresh()
        assert "managed_device d3" in graph.calls
        assert (report.missing, report.gone) == (1, 1)
        assert presences()["d3"] == Presence.GONE

    def test_missing_but_still_there_stays(self, refresh: Refresh, graph: FakeGraph) -> None:
        refresh()
        graph.hidden = {"d3"}
        for _ in range(3):
            assert refresh().gone == 0
        assert presences()["d3"] == Presence.PRESENT

    def test_a_second_complete_listing_tells_where_nobody_can_be_asked(
        self, refresh: Refresh, graph: FakeGraph
    ) -> None:
        refresh()
        del graph.devices["d3"]
        graph.fails["managed_device"] = TransientGraphError("unwell")
        report = refresh()
        assert report.error_code == "graph_server_error"
        assert presences()["d3"] == Presence.MISSING
        assert refresh().gone == 1
        assert presences()["d3"] == Presence.GONE

    def test_an_incomplete_listing_marks_nothing_and_says_so(self, refresh: Refresh, graph: FakeGraph) -> None:
        refresh()
        del graph.devices["d3"]
        graph.is_complete = False
        for _ in range(2):
            report = refresh()
            assert (report.is_complete, report.is_readable, report.missing, report.gone) == (False, False, 0, 0)
        assert presences()["d3"] == Presence.PRESENT

    def test_a_listing_that_broke_marks_nothing(self, refresh: Refresh, graph: FakeGraph) -> None:
        refresh()
        graph.fails["page"] = TransientGraphError("broke", code="graph_dropped")
        report = refresh()
        assert (report.is_readable, report.error_code) == (False, "graph_dropped")
        assert set(presences().values()) == {Presence.PRESENT}
        assert DeviceSource.objects.get().last_error_code == "graph_dropped"
        graph.fails.clear()
        assert refresh().is_readable
        assert DeviceSource.objects.get().last_error_code == ""

    def test_a_listing_without_most_of_them_is_doubted_until_a_second_agrees(
        self, refresh: Refresh, graph: FakeGraph
    ) -> None:
        for number in range(20):
            graph.devices[f"d{number}"] = record(number)
        refresh()
        graph.devices = {"d1": graph.devices["d1"]}
        first = refresh()
        assert (first.is_doubted, first.missing, first.gone) == (True, 19, 0)
        assert not any(call.startswith("managed_device ") for call in graph.calls)
        second = refresh()
        assert (second.is_doubted, second.gone) == (False, 19)

    def test_two_listings_are_not_believed_while_one_of_their_missing_is_there(
        self, refresh: Refresh, graph: FakeGraph
    ) -> None:
        for number in range(60):
            graph.devices[f"d{number}"] = record(number)
        refresh()
        del graph.devices["d5"]
        graph.hidden = {f"d{number}" for number in range(1, 60)}
        assert refresh().is_doubted

        second = refresh()

        assert (second.is_doubted, second.gone) == (True, 1)
        assert presences()["d5"] == Presence.GONE
        assert list(presences().values()).count(Presence.GONE) == 1

    def test_doubt_ends_when_they_are_back(self, refresh: Refresh, graph: FakeGraph) -> None:
        for number in range(20):
            graph.devices[f"d{number}"] = record(number)
        refresh()
        graph.hidden = set(graph.devices) - {"d1"}
        refresh()
        graph.hidden = set()
        assert refresh().gone == 0
        assert set(presences().values()) == {Presence.PRESENT}
        assert not ManagedDevice.objects.exclude(missing_since=None).exists()

    def test_back_again_is_present(self, refresh: Refresh, graph: FakeGraph) -> None:
        refresh()
        held = graph.devices.pop("d3")
        refresh()
        graph.devices["d3"] = held
        refresh()
        row = ManagedDevice.objects.get(source_id="d3")
        assert (row.presence, row.gone_at) == (Presence.PRESENT, None)

    def test_what_was_pushed_before_ends_with_the_first_complete_listing(
        self, refresh: Refresh, tenant: Any, graph: FakeGraph
    ) -> None:
        now = timezone.now()
        ManagedDevice.objects.create(tenant=tenant, source="pushed", source_id="p1", first_seen_at=now, changed_at=now)
        graph.is_complete = False
        refresh()
        assert presences()["p1"] == Presence.PRESENT
        graph.is_complete = True
        refresh()
        assert presences()["p1"] == Presence.GONE

    def test_another_tenants_records_are_not_touched(self, refresh: Refresh, graph: FakeGraph) -> None:
        other = TenantFactory()
        now = timezone.now()
        ManagedDevice.objects.create(tenant=other, source="graph", source_id="d1", first_seen_at=now, changed_at=now)
        refresh()
        graph.devices.clear()
        refresh()
        assert ManagedDevice.objects.get(tenant=other).presence == Presence.PRESENT


class TestPeople:
    def test_people_are_found_by_their_keys(self, refresh: Refresh, graph: FakeGraph) -> None:
        graph.people["u1"] = user(
            1, mail="Ada@contoso.com", proxy_addresses=("SMTP:Ada@contoso.com", "x500:/o=x"),
            security_identifier="S-1-5", domain_name="Contoso.com", sam_account_name="Ada",
        )  # fmt: skip
        refresh()
        assert set(UserKeyText.objects.values_list("kind", "text")) == {
            ("smtp", "ada@contoso.com"), ("sid", "s-1-5"), ("domainSam", "contoso.com\\ada"),
            ("upn", "person1@contoso.com"),
        }  # fmt: skip

    def test_keys_follow_a_change(self, refresh: Refresh, graph: FakeGraph) -> None:
        graph.people["u1"] = user(1, mail="old@contoso.com")
        refresh()
        graph.changes = [UserChangePage((UserChange("u1", {"mail": "new@contoso.com"}),), (), "link-2", False)]
        assert refresh().people == 1
        assert set(UserKeyText.objects.filter(kind="smtp").values_list("text", flat=True)) == {"new@contoso.com"}
        assert DirectoryUser.objects.get().upn == "person1@contoso.com"

    def test_the_link_is_kept_and_used(self, refresh: Refresh, graph: FakeGraph) -> None:
        graph.people["u1"] = user(1)
        refresh()
        refresh()
        assert [call for call in graph.calls if call.startswith("users_delta")] == [
            "users_delta ",
            "users_delta link-1",
        ]
        with connection.cursor() as cursor:
            cursor.execute("SELECT users_delta_link FROM connectors_devicesource")
            assert "link-1" not in cursor.fetchone()[0]

    def test_removed_is_gone_and_said_again_is_back(self, refresh: Refresh, graph: FakeGraph) -> None:
        graph.people["u1"] = user(1)
        refresh()
        graph.changes = [UserChangePage((), ("u1",), "link-2", False)]
        refresh()
        assert DirectoryUser.objects.get().presence == Presence.GONE
        graph.changes = [UserChangePage((UserChange("u1", {"display_name": "Ada"}),), (), "link-3", False)]
        refresh()
        assert DirectoryUser.objects.get().presence == Presence.PRESENT

    def test_without_delta_everybody_is_listed(self, refresh: Refresh, graph: FakeGraph) -> None:
        graph.has_delta = False
        graph.people["u1"] = user(1)
        assert refresh().people == 1
        assert refresh(full=False).people == 0
        assert graph.calls.count("users") == 1

    def test_whom_a_listing_does_not_name_is_asked_about(self, refresh: Refresh, graph: FakeGraph) -> None:
        graph.has_delta = False
        graph.people = {"u1": user(1), "u2": user(2)}
        refresh()
        del graph.people["u2"]
        refresh()
        assert "user u2" in graph.calls
        assert dict(DirectoryUser.objects.values_list("source_id", "presence")) == {"u1": "present", "u2": "gone"}

    def test_a_licence_that_is_not_told_keeps_what_was_known(self, refresh: Refresh, graph: FakeGraph) -> None:
        graph.has_delta = False
        graph.people["u1"] = user(1, licensed=True)
        refresh()
        graph.people["u1"] = user(1, licensed=None)
        refresh()
        assert DirectoryUser.objects.get().licensed is True

    def test_a_licence_that_was_never_told_is_asked_for_where_there_is_a_mailbox(
        self, refresh: Refresh, tenant: Any, graph: FakeGraph
    ) -> None:
        graph.people = {"u1": user(1, licensed=None), "u2": user(2, licensed=None)}
        graph.licences = {"u1": True}
        refresh()
        mailbox(OrganizationFactory(tenant=tenant), 1, person=DirectoryUser.objects.get(source_id="u1"))
        refresh()
        assert [call for call in graph.calls if call.startswith("licensed")] == ["licensed u1"]
        assert DirectoryUser.objects.get(source_id="u1").licensed is True

    def test_who_may_not_read_people_still_reads_records(self, refresh: Refresh, graph: FakeGraph) -> None:
        graph.fails["users_delta"] = NotPermittedGraphError("no", permission="User.Read.All")
        report = refresh()
        assert report.created == 5
        assert (report.error_code, report.error_params["permission"]) == ("graph_permission_missing", "User.Read.All")
        assert not report.is_readable


class TestGroups:
    def test_members_are_made_what_graph_says(self, refresh: Refresh, tenant: Any, graph: FakeGraph) -> None:
        policy(tenant, included_groups=(GroupRef("g1", "Pilots"),))
        graph.members = {"g1": {"u1", "u2"}, "g2": {"u9"}}
        assert refresh().members == 2
        graph.members["g1"] = {"u2", "u3", "u4"}
        assert refresh().members == 3
        assert set(GroupMember.objects.values_list("user_source_id", flat=True)) == {"u2", "u3", "u4"}
        assert DirectoryGroup.objects.get().name == "Pilots"

    @pytest.mark.parametrize("fails", [False, True], ids=["unknown", "refused"])
    def test_a_group_that_cannot_be_read_keeps_its_members(
        self, refresh: Refresh, tenant: Any, graph: FakeGraph, fails: bool
    ) -> None:
        policy(tenant, included_groups=(GroupRef("g1"),), excluded_groups=(GroupRef("g2"),))
        graph.members = {"g1": {"u1"}, "g2": {"u2"}}
        refresh()
        del graph.members["g1"]
        if fails:
            graph.fails["group_members"] = NotPermittedGraphError("no")
        report = refresh()
        assert "g1" in report.groups_failed
        assert GroupMember.objects.filter(group__source_id="g1").count() == 1
        code = "graph_permission_missing" if fails else "graph_not_found"
        assert DirectoryGroup.objects.get(source_id="g1").error_code == code
        assert report.created + report.unchanged == 5

    def test_whoever_enrolled_and_was_then_put_into_a_group_has_the_record_before_the_group(
        self, refresh: Refresh, tenant: Any, graph: FakeGraph
    ) -> None:
        """The lane looks at once: without the record it would keep the phone out, and write a mail about it."""
        policy(tenant, included_groups=(GroupRef("g1"),))
        graph.members = {"g1": {"u1"}}

        refresh()

        assert graph.calls.index("managed_devices") < graph.calls.index("group_members g1")

    def test_a_reading_serves_others_when_its_groups_are_read_too(
        self, refresh: Refresh, tenant: Any, graph: FakeGraph, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        policy(tenant, included_groups=(GroupRef("g1"),))
        seen: list[datetime.datetime | None] = []

        def group_members(group_id: str) -> GroupMembers:
            seen.append(DeviceSource.objects.get().devices_read_at)
            return GroupMembers(group_id, frozenset(), 0, True, False)

        monkeypatch.setattr(graph, "group_members", group_members)

        refresh()

        assert seen == [None]
        assert DeviceSource.objects.get().devices_read_at is not None

    def test_nobody_and_no_count_of_them_empties_no_group(
        self, refresh: Refresh, tenant: Any, graph: FakeGraph, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        policy(tenant, included_groups=(GroupRef("g1"),))
        graph.members = {"g1": {"u1"}}
        refresh()
        monkeypatch.setattr(graph, "group_members", lambda id: GroupMembers(id, frozenset(), None, True, False))

        assert refresh().groups_failed == ("g1",)

        assert GroupMember.objects.count() == 1
        assert DirectoryGroup.objects.get().error_code == "graph_bad_answer"
        monkeypatch.setattr(graph, "group_members", lambda id: GroupMembers(id, frozenset(), 0, True, False))
        refresh()
        assert not GroupMember.objects.exists()

    def test_a_group_never_read_says_so(self, refresh: Refresh, tenant: Any) -> None:
        policy(tenant, included_groups=(GroupRef("gone"),))
        refresh()
        group = DirectoryGroup.objects.get()
        assert (group.read_at, group.error_code) == (None, "graph_not_found")


class TestAffected:
    def test_by_address_id_person_and_what_was_matched(self, refresh: Refresh, tenant: Any, graph: FakeGraph) -> None:
        policy(tenant)
        organization = OrganizationFactory(tenant=tenant)
        by_address = mailbox(organization, 1)
        by_proxy = mailbox(organization, 77, addresses=["SMTP:x@contoso.com", "smtp:Person1@contoso.com"])
        by_id = mailbox(organization, 88)
        DeviceFactory(organization=organization, device_id="applx001", owner=by_id)
        uninvolved = mailbox(organization, 99)
        mailbox(OrganizationFactory(), 1)  # another tenant's
        graph.devices = {"d1": record(1)}
        report = refresh()
        assert report.mailboxes == {by_address.pk, by_proxy.pk, by_id.pk}
        assert asked() == report.mailboxes
        assert uninvolved.pk not in asked()

    def test_the_old_owner_is_concerned_too(self, refresh: Refresh, tenant: Any, graph: FakeGraph) -> None:
        policy(tenant)
        organization = OrganizationFactory(tenant=tenant)
        old, new = mailbox(organization, 1), mailbox(organization, 2)
        graph.devices = {"d1": record(1)}
        refresh()
        MailboxCheck.objects.all().delete()
        graph.devices["d1"] = record(1, user_id="u2", user_principal_name="person2@contoso.com")
        refresh()
        assert asked() == {old.pk, new.pk}

    def test_a_check_in_alone_concerns_nobody_and_one_after_a_silence_does(
        self, refresh: Refresh, tenant: Any, graph: FakeGraph
    ) -> None:
        policy(tenant)
        mailbox(OrganizationFactory(tenant=tenant), 1)
        graph.devices = {"d1": record(1)}
        refresh()
        MailboxCheck.objects.all().delete()
        start = record(1).last_sync
        assert start is not None
        graph.devices["d1"] = record(1, last_sync=start + datetime.timedelta(hours=8))
        refresh()
        assert asked() == set()
        graph.devices["d1"] = record(1, last_sync=start + datetime.timedelta(days=40))
        refresh()
        assert len(asked()) == 1

    def test_whoever_joins_or_leaves_a_group(self, refresh: Refresh, tenant: Any, graph: FakeGraph) -> None:
        policy(tenant, included_groups=(GroupRef("g1"),))
        graph.people = {"u1": user(1), "u2": user(2)}
        graph.members = {"g1": {"u1"}}
        graph.devices = {}
        refresh()
        organization = OrganizationFactory(tenant=tenant)
        people = {one.source_id: one for one in DirectoryUser.objects.all()}
        boxes = [mailbox(organization, number, person=people[f"u{number}"]) for number in (1, 2)]
        graph.members["g1"] = {"u2"}
        refresh()
        assert asked() == {box.pk for box in boxes}

    def test_nobody_is_checked_twice_by_the_run_that_decides_all(
        self, refresh: Refresh, tenant: Any, graph: FakeGraph
    ) -> None:
        policy(tenant)
        mine, other = OrganizationFactory(tenant=tenant), OrganizationFactory(tenant=tenant)
        first, second = mailbox(mine, 1), mailbox(other, 1)
        report = refresh(except_organization=mine.pk)
        assert report.mailboxes == {first.pk, second.pk}
        assert asked() == {second.pk}

    def test_while_control_is_off_nothing_is_asked_for(self, refresh: Refresh, tenant: Any) -> None:
        box = mailbox(OrganizationFactory(tenant=tenant), 1)
        assert refresh().mailboxes == {box.pk}
        assert asked() == set()

    def test_the_devices_story_tells_of_it(self, refresh: Refresh, tenant: Any, graph: FakeGraph) -> None:
        refresh()
        device = DeviceFactory(organization=OrganizationFactory(tenant=tenant))
        DeviceAccess.objects.create(
            device=device, organization=device.organization, access="allow", state="allowed", reason="compliant",
            rule="compliant", managed_device=ManagedDevice.objects.get(source_id="d1"), decided_at=timezone.now(),
        )  # fmt: skip
        graph.devices["d1"] = record(1, compliance_state="noncompliant", os_version="18")
        refresh()
        event = DeviceEvent.objects.get()
        assert (event.code, event.params) == ("recordChanged", {"compliance": ["compliant", "noncompliant"]})


class TestOneAtATime:
    def test_a_reading_just_ended_serves_the_next(self, refresh: Refresh, graph: FakeGraph) -> None:
        asked_at = timezone.now()
        refresh()
        calls = len(graph.calls)
        report = refresh(asked_at=asked_at)
        assert (report.is_reused, report.is_readable) == (True, True)
        assert len(graph.calls) == calls

    def test_one_that_failed_does_not(self, refresh: Refresh, graph: FakeGraph) -> None:
        asked_at = timezone.now()
        refresh()
        graph.fails["managed_devices"] = ThrottledGraphError("busy", retry_after=9)
        assert refresh().error_params["retry_after"] == 9
        graph.fails.clear()
        assert refresh(asked_at=asked_at).is_reused is False

    def test_who_asks_after_it_began_has_seen_something_newer(self, refresh: Refresh, graph: FakeGraph) -> None:
        refresh()
        assert refresh(asked_at=timezone.now()).is_reused is False

    def test_another_reading_is_waited_for_and_can_be_given_up(self, refresh: Refresh, tenant: Any) -> None:
        source = DeviceSource.objects.get(tenant=tenant)
        stops = iter([False, True])
        with source_lease(source.pk, lambda: False), pytest.raises(CanceledError):
            refresh(should_stop=lambda: next(stops))

    def test_the_reading_of_somebody_who_died_is_taken_over(
        self, refresh: Refresh, tenant: Any, graph: FakeGraph
    ) -> None:
        past = timezone.now() - datetime.timedelta(hours=1)
        DeviceSource.objects.update(lease_owner="dead/1", lease_expires_at=past)
        assert refresh().created == 5
        source = DeviceSource.objects.get()
        assert (source.lease_owner, source.lease_expires_at) == ("", None)

    def test_whoever_was_taken_over_writes_nothing_more(
        self, refresh: Refresh, graph: FakeGraph, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        whole = graph._pages

        def robbed(rows: Any, name: str) -> Any:
            for page in whole(rows, name):
                yield page
                DeviceSource.objects.update(lease_owner="other/2", listing_number=F("listing_number") + 1)

        monkeypatch.setattr(graph, "_pages", robbed)
        report = refresh()
        assert not report.is_complete
        # Whether the other one comes to a good end is not known yet.
        assert not report.is_readable
        assert ManagedDevice.objects.count() == graph.page_size
        assert DeviceSource.objects.get().lease_owner == "other/2"

    def test_wrong_credentials_are_tried_once(self, refresh: Refresh, graph: FakeGraph) -> None:
        graph.fails["users_delta"] = StopGraphError("no", code="graph_secret_expired")
        report = refresh()
        assert report.error_code == "graph_secret_expired"
        assert graph.calls == ["open", "users_delta "]


def test_tenants_that_are_read_now_and_then(tenant: Any) -> None:
    assert sources.tenants_to_read() == []
    for _ in range(2):
        ConnectorFactory(organization=OrganizationFactory(tenant=tenant))
    ConnectorFactory()
    assert sources.tenants_to_read() == [tenant.pk]


def test_the_tick_has_each_tenant_read_by_a_task_of_its_own(
    tenant: Any, monkeypatch: pytest.MonkeyPatch, django_capture_on_commit_callbacks: Any
) -> None:
    sent: list[tuple[str, tuple[int, ...]]] = []
    monkeypatch.setattr("celery.current_app.send_task", lambda name, args, **_: sent.append((name, args)))
    ConnectorFactory(organization=OrganizationFactory(tenant=tenant))
    with django_capture_on_commit_callbacks(execute=True):
        tasks.read_records_due()
    assert sent == [("sync.read_records", (tenant.pk,))]


def test_the_task_leaves_what_goes_wrong_on_the_row(tenant: Any) -> None:
    DeviceSource.objects.update(directory_id="contoso.com", client_id="no guid", client_secret="x")
    tasks.read_records(tenant.pk)
    assert DeviceSource.objects.get().last_error_code == "graph_bad_settings"

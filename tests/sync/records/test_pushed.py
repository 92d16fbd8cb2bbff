"""Pushed records: each bad input has its sentence, the good rows are stored, and a change asks for a check at once."""

from __future__ import annotations

import datetime
import uuid
from typing import Any

import pytest
from django.utils import timezone
from hypothesis import given
from hypothesis import strategies as st

from connectors.actors import Actor
from connectors.models import DeviceSource
from sync.models import Mailbox, MailboxCheck, ManagedDevice, Presence
from sync.records.pushed import (
    SourceConflictError,
    others_of,
    record_delete,
    records_of_others_end,
    records_upsert,
)
from sync.records.pushed_rows import COMPLIANCE, FIELDS, RowError, row_read, row_shown
from tests.factories import OrganizationFactory, TenantFactory

MDM = Actor("MDM")
ROW = {"id": "r1", "complianceState": "compliant", "userPrincipalName": "ada@contoso.com", "easDeviceId": "ApplX1"}


@pytest.fixture
def tenant(db: None) -> Any:
    made = TenantFactory()
    DeviceSource.objects.create(tenant=made, kind=DeviceSource.Kind.PUSHED)
    return made


def push(tenant: Any, *rows: object, **more: Any) -> list[str]:
    report = records_upsert(tenant=tenant, rows=rows, actor=MDM, **more)
    return [result.status for result in report.results]


@pytest.mark.parametrize(
    ("row", "field", "code"),
    [
        ({"complianceState": "compliant"}, "id", "missing"),
        ({"id": "  ", "complianceState": "compliant"}, "id", "missing"),
        ({"id": "r1"}, "complianceState", "missing"),
        ({**ROW, "complianceState": "Compliantt"}, "complianceState", "not_a_state"),
        ({**ROW, "complianceState": None}, "complianceState", "not_a_state"),
        ({**ROW, "complianceState": 1}, "complianceState", "not_a_state"),
        ({**ROW, "complianceSate": "compliant"}, "complianceSate", "unknown_field"),
        ({**ROW, "colour": "red"}, "colour", "unknown_field"),
        ({**ROW, "imei": 356938035643809}, "imei", "not_text"),
        ({**ROW, "model": "x" * 256}, "model", "too_long"),
        ({**ROW, "model": "a\nb"}, "model", "control_character"),
        ({**ROW, "id": "a\0b"}, "id", "control_character"),
        ({**ROW, "azureADRegistered": "maybe"}, "azureADRegistered", "not_a_flag"),
        ({**ROW, "azureADRegistered": 1}, "azureADRegistered", "not_a_flag"),
        ({**ROW, "lastSyncDateTime": "yesterday"}, "lastSyncDateTime", "not_a_time"),
        ({**ROW, "lastSyncDateTime": 1700000000}, "lastSyncDateTime", "not_a_time"),
        ({**ROW, "lastSyncDateTime": "2026-01-31T08:00:00"}, "lastSyncDateTime", "no_time_zone"),
        ({**ROW, "managementAgent": "EAS"}, "managementAgent", "agent_eas"),
        ("r1", "", "not_an_object"),
        (None, "", "not_an_object"),
    ],
)
def test_bad_input_names_the_field_and_the_remedy(row: object, field: str, code: str) -> None:
    with pytest.raises(RowError) as caught:
        row_read(row)
    assert [(problem.field, problem.code) for problem in caught.value.problems] == [(field, code)]
    assert field in caught.value.problems[0].message
    assert caught.value.problems[0].message.endswith((".", "?"))


def test_a_misspelt_field_is_told_the_right_one() -> None:
    with pytest.raises(RowError, match=r"Did you mean complianceState\?"):
        row_read({**ROW, "compliancestate": "compliant"})


def test_everything_that_is_wrong_is_told_at_once() -> None:
    with pytest.raises(RowError) as caught:
        row_read({"complianceState": "x", "imei": 1})
    assert {problem.field for problem in caught.value.problems} == {"id", "complianceState", "imei"}


def test_every_value_is_read() -> None:
    values = row_read(
        {
            **ROW, "@odata.type": "#x", "complianceState": "ingraceperiod", "azureADRegistered": "yes", "imei": None,
            "complianceGracePeriodExpirationDateTime": "9999-12-31T23:59:59Z",
            "enrolledDateTime": "0001-01-01T00:00:00Z", "lastSyncDateTime": "2026-01-31T08:00:00+08:00",
        }
    )  # fmt: skip
    assert (values.compliance, values.registered, values.imei) == ("inGracePeriod", True, "")
    assert (values.grace_until, values.enrolled_at) == (None, None)
    assert values.last_check_in_at == datetime.datetime(2026, 1, 31, tzinfo=datetime.UTC)


_VALUES = st.none() | st.booleans() | st.integers() | st.text("aZ01-: é\0\n", max_size=40) | st.sampled_from(COMPLIANCE)


@given(st.dictionaries(st.sampled_from([*FIELDS, "other"]), _VALUES))
def test_any_row_is_read_or_refused(row: dict[str, Any]) -> None:
    try:
        values = row_read(row)
    except RowError as error:
        told = error.problems
    else:
        told = []
        assert values.source_id
        assert values.compliance
    is_right = "other" not in row and bool(row.get("id")) and row.get("complianceState") in COMPLIANCE
    assert told or is_right


class TestUpsert:
    def test_new_changed_and_unchanged(self, tenant: Any) -> None:
        assert push(tenant, ROW) == ["created"]
        assert push(tenant, ROW) == ["unchanged"]
        assert push(tenant, {**ROW, "complianceState": "noncompliant"}, {**ROW, "id": "r2"}) == ["changed", "created"]
        record = ManagedDevice.objects.get(source_id="r1")
        assert (record.compliance, record.source, record.eas_device_id_key) == ("noncompliant", "pushed", "applx1")

    def test_what_is_left_out_is_empty_again(self, tenant: Any) -> None:
        push(tenant, {**ROW, "model": "X", "azureADRegistered": True})
        push(tenant, ROW)
        record = ManagedDevice.objects.get()
        assert (record.model, record.registered) == ("", None)

    def test_good_rows_beside_bad_ones(self, tenant: Any) -> None:
        assert push(tenant, ROW, {"id": "r2"}, {**ROW, "id": "r3"}, ROW) == [
            "created", "refused", "created", "refused",
        ]  # fmt: skip
        assert set(ManagedDevice.objects.values_list("source_id", flat=True)) == {"r1", "r3"}

    def test_all_or_nothing(self, tenant: Any) -> None:
        assert push(tenant, ROW, {"id": "r2"}, all_or_nothing=True) == ["notStored", "refused"]
        assert not ManagedDevice.objects.exists()
        assert push(tenant, ROW, all_or_nothing=True) == ["created"]

    def test_more_than_the_limit_is_refused_whole(self, tenant: Any) -> None:
        with pytest.raises(ValueError, match="at most 1000"):
            push(tenant, *[{**ROW, "id": str(number)} for number in range(1001)])
        assert not ManagedDevice.objects.exists()

    @pytest.mark.parametrize(("kind", "words"), [("graph", "Microsoft Graph"), ("none", "no source")])
    def test_refused_where_records_come_from_elsewhere(self, tenant: Any, kind: str, words: str) -> None:
        DeviceSource.objects.update(kind=kind)
        with pytest.raises(SourceConflictError, match=words):
            push(tenant, ROW)
        with pytest.raises(SourceConflictError, match=words):
            record_delete(tenant=tenant, source_id="r1", actor=MDM)
        assert not ManagedDevice.objects.exists()

    def test_shown_as_it_was_sent(self, tenant: Any) -> None:
        sent = {**ROW, "lastSyncDateTime": "2026-01-31T08:00:00Z", "azureADRegistered": False}
        push(tenant, sent)
        shown = row_shown(ManagedDevice.objects.get())
        assert {name: shown[name] for name in sent} == sent
        assert row_read(shown) == row_read(sent)

    def test_the_time_of_the_last_push(self, tenant: Any) -> None:
        push(tenant, ROW)
        last = DeviceSource.objects.get().last_pushed_at
        assert last is not None
        assert timezone.now() - last < datetime.timedelta(seconds=10)

    def test_a_push_of_which_nothing_was_taken_is_none(self, tenant: Any) -> None:
        """Until something is known of somebody, nobody is kept out for want of a record."""
        assert push(tenant, {"id": "r1"}) == ["refused"]
        assert push(tenant) == []

        assert DeviceSource.objects.get().last_pushed_at is None


class TestChecks:
    @pytest.fixture
    def box(self, tenant: Any) -> Mailbox:
        now = timezone.now()
        return Mailbox.objects.create(
            organization=OrganizationFactory(tenant=tenant), guid=uuid.uuid4(), primary_smtp="Ada@Contoso.com",
            read_at=now, changed_at=now,
        )  # fmt: skip

    def asked(self) -> list[tuple[int, str]]:
        return list(MailboxCheck.objects.values_list("mailbox_id", "because"))

    def test_a_change_asks_at_once(self, tenant: Any, box: Mailbox) -> None:
        push(tenant, ROW)
        assert self.asked() == [(box.pk, "recordChanged")]

    @pytest.mark.parametrize("many", [0, 2000], ids=["walked once", "asked for"])
    def test_of_many_addresses_and_of_few_the_same_mailboxes(
        self, tenant: Any, box: Mailbox, monkeypatch: pytest.MonkeyPatch, many: int
    ) -> None:
        monkeypatch.setattr("sync.records.affected.MANY_TEXTS", many)
        now = timezone.now()
        others = [
            Mailbox.objects.create(
                organization=box.organization if mine else OrganizationFactory(), guid=uuid.uuid4(), read_at=now,
                changed_at=now, gone_at=gone_at, primary_smtp="x@contoso.com", upn=upn,
            )
            for upn, mine, gone_at in (
                ("BO@contoso.com", True, None), ("", True, None), ("bo@contoso.com", False, None),
                ("bo@contoso.com", True, now),
            )
        ]  # fmt: skip
        push(tenant, ROW, {"id": "r2", "complianceState": "compliant", "userPrincipalName": " bo@Contoso.com"})
        assert {mailbox for mailbox, _because in self.asked()} == {box.pk, others[0].pk}

    def test_nothing_new_asks_for_nothing(self, tenant: Any, box: Mailbox) -> None:
        push(tenant, ROW)
        MailboxCheck.objects.all().delete()
        push(tenant, ROW)
        assert self.asked() == []

    def test_deleting_asks_too_and_can_be_repeated(self, tenant: Any, box: Mailbox) -> None:
        push(tenant, ROW)
        MailboxCheck.objects.all().delete()
        assert record_delete(tenant=tenant, source_id="r1", actor=MDM)
        assert self.asked() == [(box.pk, "recordChanged")]
        gone_at = ManagedDevice.objects.get().gone_at
        assert gone_at is not None
        assert record_delete(tenant=tenant, source_id="r1", actor=MDM)
        assert ManagedDevice.objects.get().gone_at == gone_at
        assert not record_delete(tenant=tenant, source_id="never", actor=MDM)

    def test_pushed_again_it_is_back(self, tenant: Any, box: Mailbox) -> None:
        push(tenant, ROW)
        record_delete(tenant=tenant, source_id="r1", actor=MDM)
        assert push(tenant, ROW) == ["changed"]
        record = ManagedDevice.objects.get()
        assert (record.presence, record.gone_at) == (Presence.PRESENT, None)

    def test_another_tenant_has_records_of_its_own(self, tenant: Any) -> None:
        push(tenant, ROW)
        other = TenantFactory()
        DeviceSource.objects.create(tenant=other, kind="pushed")
        assert not record_delete(tenant=other, source_id="r1", actor=MDM)
        assert push(other, ROW) == ["created"]
        assert ManagedDevice.objects.filter(presence=Presence.PRESENT).count() == 2


def test_the_records_of_a_source_that_was_given_up(tenant: Any) -> None:
    push(tenant, ROW)
    now = timezone.now()
    ManagedDevice.objects.create(tenant=tenant, source="graph", source_id="d1", first_seen_at=now, changed_at=now)
    assert others_of(tenant, "pushed").count() == 1
    assert records_of_others_end(tenant=tenant, actor=MDM) == 1
    assert dict(ManagedDevice.objects.values_list("source_id", "presence")) == {"r1": "present", "d1": "gone"}

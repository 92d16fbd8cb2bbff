"""CSV files as people send them: any usual form is read, any wrong one is told, and nothing is half imported."""

from __future__ import annotations

import io
import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.actors import Actor
from connectors.models import DeviceSource
from sync.models import CsvImport, ManagedDevice
from sync.records import record_csv, record_import
from sync.records.pushed import SourceConflictError, records_upsert
from sync.records.record_csv import CsvError, Line, lines_read, text_lines
from sync.records.record_import import (
    BadRowsError,
    ImportOverError,
    import_apply,
    import_prepare,
    import_preview,
    imports_for,
)
from tests.factories import MembershipFactory, TenantFactory

ADA = Actor("Ada")
HEADING = "id,complianceState,userPrincipalName,deviceName"
TEXT = f"{HEADING}\r\nr1,compliant,ada@contoso.com,Ädas Handy\r\nr2,noncompliant,bo@contoso.com,\r\n"


def read(content: bytes) -> list[Line]:
    return list(lines_read(text_lines(io.BytesIO(content)))[1])


def problems(*rows: str, heading: str = HEADING) -> list[tuple[int, str, str]]:
    content = "\n".join([heading, *rows]).encode()
    return [(line.number, one.field, one.code) for line in read(content) for one in line.problems]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("end", ["\r\n", "\n", "\r"])
def test_every_usual_form_is_read(encoding: str, separator: str, end: str) -> None:
    lines = read(TEXT.replace(",", separator).replace("\r\n", end).encode(encoding))
    assert [(line.id, line.problems) for line in lines] == [("r1", ()), ("r2", ())]
    assert lines[0].values is not None
    assert lines[0].values.device_name == "Ädas Handy"


def test_quotes_blank_lines_and_the_line_of_a_row() -> None:
    text = f'sep=;\n{HEADING.replace(",", ";")}\n\n"r1";compliant;;"a;""b"""\n;;;\nr2;x;;\n'
    lines = read(text.encode())
    assert [(line.number, line.id) for line in lines] == [(4, "r1"), (6, "r2")]
    assert lines[0].values is not None
    assert lines[0].values.device_name == 'a;"b"'


def test_headings_in_any_case_and_columns_that_are_not_used() -> None:
    heading, lines = lines_read(iter(["ID , Colour,COMPLIANCESTATE\n", "r1,red,compliant\n"]))
    assert heading.fields == ("id", None, "complianceState")
    assert heading.unused == ("Colour",)
    assert [line.problems for line in lines] == [()]


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", "empty"),
        (b"\n\n", "empty"),
        (HEADING.encode(), "no_rows"),
        (f"{HEADING}\n\n,,,\n".encode(), "no_rows"),
        (b"name,state\nx,y\n", "columns"),
        (b"id\nr1\n", "columns"),
        (b"a" * 200_000, "heading"),
        (b"sep=\r\nid\rcomplianceState\r\n", "columns"),
        (b'sep="\nid"complianceState\nr1"compliant\n', "columns"),
        (b"id,complianceState,ID\nr1,compliant,r1\n", "column_twice"),
        (TEXT.encode("latin-1"), "encoding"),
        (TEXT.encode("utf-16")[:-1], "encoding"),
        (b"PK\x03\x04\xff\xfe\x00xl/workbook", "encoding"),
        (f'{HEADING}\nr1,compliant,,"open\nr2,compliant,,\n'.encode(), "quotes"),
        (f'{HEADING}\nr1,compliant,,"a"b\n'.encode(), "quotes"),
        (f"{HEADING}\nr1,compliant,,{'a' * 200_000}\n".encode(), "value_too_long"),
        (f'{HEADING}\nr1,compliant,,"open\n{"r2,compliant,," * 20_000}'.encode(), "value_too_long"),
    ],
    ids=[
        "empty", "blank", "heading alone", "blank rows", "wrong columns", "one missing", "a long line",
        "a line end parts", "a quote parts", "twice", "latin-1", "cut off", "a workbook", "open quote", "quote within",
        "a long value", "open quote of a long file",
    ],
)  # fmt: skip
def test_a_file_that_cannot_be_taken_is_told_why(content: bytes, code: str) -> None:
    with pytest.raises(CsvError) as caught:
        read(content)
    assert caught.value.code == code
    assert str(caught.value).endswith(".")


def test_where_the_encoding_breaks() -> None:
    with pytest.raises(CsvError, match="In line 2 "):
        read(TEXT.encode("latin-1"))


def test_what_is_wrong_in_a_row() -> None:
    assert problems(
        "r1,compliant,ada@contoso.com,",
        "r2,perhaps,,",
        "r3,,,",
        ",compliant,,",
        "r5,compliant",
        "r6,compliant,,,,",
        "r1,compliant,,",
    ) == [
        (3, "complianceState", "not_a_state"), (4, "complianceState", "missing"), (5, "id", "missing"),
        (6, "", "cells"), (7, "", "cells"), (8, "id", "twice"),
    ]  # fmt: skip
    assert problems("r1,compliant,3.56938E+14", heading="id,complianceState,imei") == [(2, "imei", "rounded")]


@given(st.binary(max_size=300), st.sampled_from(["", HEADING + "\n"]))
def test_any_bytes_are_read_or_refused(content: bytes, start: str) -> None:
    try:
        lines = read(start.encode() + content)
    except CsvError as error:
        code = error.code
    else:
        code = ""
        assert all((line.values is None) == bool(line.problems) for line in lines)
    assert code or lines


# --- importing -----------------------------------------------------------------------------------------------------


@pytest.fixture
def tenant(db: None) -> Any:
    made = TenantFactory()
    DeviceSource.objects.create(tenant=made, kind=DeviceSource.Kind.PUSHED)
    return made


def prepare(tenant: Any, text: str = TEXT) -> CsvImport:
    content = text.encode()
    return import_prepare(tenant=tenant, file=io.BytesIO(content), size=len(content), file_name="phones.csv", actor=ADA)


class TestImport:
    def test_what_was_shown_is_imported(self, tenant: Any) -> None:
        kept = prepare(tenant)
        preview = import_preview(kept)
        assert (preview.rows, preview.new, preview.bad) == (2, 2, 0)
        assert [(line.id, status) for line, status in preview.shown] == [("r1", "new"), ("r2", "new")]
        assert not ManagedDevice.objects.exists()
        report = import_apply(kept=kept, leave_out_bad=False, actor=ADA)
        assert (report.created, report.changed, report.unchanged, report.left_out) == (2, 0, 0, 0)
        assert ManagedDevice.objects.get(source_id="r1").device_name == "Ädas Handy"
        kept.refresh_from_db()
        assert bytes(kept.content) == b""

    def test_new_changed_and_unchanged(self, tenant: Any) -> None:
        import_apply(kept=prepare(tenant), leave_out_bad=False, actor=ADA)
        kept = prepare(tenant, TEXT.replace("r2,noncompliant", "r2,compliant") + "r3,error,,\n")
        preview = import_preview(kept)
        assert (preview.new, preview.changed, preview.unchanged) == (1, 1, 1)
        report = import_apply(kept=kept, leave_out_bad=False, actor=ADA)
        assert (report.created, report.changed, report.unchanged) == (1, 1, 1)

    def test_a_file_of_a_few_columns_leaves_the_others_as_they_are(self, tenant: Any) -> None:
        """Ids and compliance alone, as somebody exports them: no phone may lose its owner and its id by that."""
        row = {"id": "r1", "complianceState": "compliant", "easDeviceId": "X1", "userPrincipalName": "ada@contoso.com"}
        records_upsert(tenant=tenant, rows=[row], actor=ADA)
        kept = prepare(tenant, "id,complianceState,deviceName\nr1,noncompliant,\nr9,compliant,New\n")
        assert (import_preview(kept).new, import_preview(kept).changed) == (1, 1)

        report = import_apply(kept=kept, leave_out_bad=False, actor=ADA)

        assert (report.created, report.changed) == (1, 1)
        found = ManagedDevice.objects.get(source_id="r1")
        assert (found.compliance, found.eas_device_id, found.upn) == ("noncompliant", "X1", "ada@contoso.com")
        again = prepare(tenant, "id,complianceState\nr1,noncompliant\n")
        assert import_preview(again).unchanged == 1

    def test_bad_rows_stop_all_unless_they_are_left_out(self, tenant: Any) -> None:
        kept = prepare(tenant, TEXT + "r3,perhaps,,\n")
        preview = import_preview(kept)
        assert (preview.good, preview.bad, [line.number for line in preview.bad_shown]) == (2, 1, [4])
        with pytest.raises(BadRowsError):
            import_apply(kept=kept, leave_out_bad=False, actor=ADA)
        assert not ManagedDevice.objects.exists()
        assert import_apply(kept=kept, leave_out_bad=True, actor=ADA).left_out == 1
        assert ManagedDevice.objects.count() == 2

    def test_once_only(self, tenant: Any) -> None:
        kept = prepare(tenant)
        import_apply(kept=kept, leave_out_bad=False, actor=ADA)
        # As whoever pressed the button a second time sees it: the file as it was before.
        with pytest.raises(ImportOverError, match="already"):
            import_apply(kept=kept, leave_out_bad=False, actor=ADA)
        kept.refresh_from_db()
        with pytest.raises(ImportOverError, match="already"):
            import_apply(kept=kept, leave_out_bad=False, actor=ADA)
        with pytest.raises(ImportOverError, match="already"):
            import_preview(kept)

    def test_not_after_its_hour(self, tenant: Any) -> None:
        kept = prepare(tenant)
        CsvImport.objects.update(expires_at=kept.made_at)
        kept.refresh_from_db()
        with pytest.raises(ImportOverError, match="hour"):
            import_apply(kept=kept, leave_out_bad=False, actor=ADA)
        prepare(tenant)
        assert CsvImport.objects.count() == 1
        with pytest.raises(ImportOverError, match="hour"):
            import_apply(kept=kept, leave_out_bad=False, actor=ADA)

    def test_nothing_is_half_imported(self, tenant: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        kept = prepare(tenant)

        def dies(*_: object, **__: object) -> None:
            raise RuntimeError

        monkeypatch.setattr("sync.records.pushed.affected_mailboxes", dies)
        with pytest.raises(RuntimeError):
            import_apply(kept=kept, leave_out_bad=False, actor=ADA)
        assert not ManagedDevice.objects.exists()
        monkeypatch.undo()
        assert import_apply(kept=kept, leave_out_bad=False, actor=ADA).created == 2

    def test_not_where_records_come_from_elsewhere(self, tenant: Any) -> None:
        kept = prepare(tenant)
        DeviceSource.objects.update(kind="graph")
        with pytest.raises(SourceConflictError):
            prepare(tenant)
        with pytest.raises(SourceConflictError):
            import_apply(kept=kept, leave_out_bad=False, actor=ADA)
        assert not ManagedDevice.objects.exists()

    def test_what_is_gone_counts_as_new(self, tenant: Any) -> None:
        records_upsert(tenant=tenant, rows=[{"id": "r1", "complianceState": "compliant"}], actor=ADA)
        ManagedDevice.objects.update(presence="gone")
        assert import_preview(prepare(tenant)).new == 2

    def test_another_tenants_file_is_not_seen(self, tenant: Any) -> None:
        kept = prepare(tenant)
        mine, other = MembershipFactory(tenant=tenant).user, MembershipFactory().user
        assert list(imports_for(mine)) == [kept]
        assert not imports_for(other).exists()


class TestLimits:
    def test_too_many_rows_are_refused_before_anything_is_kept(
        self, tenant: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(record_csv, "ROW_LIMIT", 3)
        with pytest.raises(CsvError, match="more than 3 rows"):
            prepare(tenant, TEXT + "r3,error,,\nr4,error,,\n")
        assert prepare(tenant, TEXT + "r3,error,,\n").pk
        assert CsvImport.objects.count() == 1

    def test_too_many_bytes(self, tenant: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(record_import, "BYTE_LIMIT", 20)
        with pytest.raises(CsvError) as caught:
            prepare(tenant)
        assert caught.value.code == "too_large"

    def test_a_million_rows_are_refused_in_little_memory(self) -> None:
        class Endless(io.RawIOBase):
            """A file of a million rows that exists nowhere as a whole."""

            def __init__(self) -> None:
                self.left = 1_000_000
                self.start = HEADING.encode() + b"\n"

            def readable(self) -> bool:
                return True

            def seekable(self) -> bool:
                return True

            def seek(self, *_: int) -> int:
                return 0

            def readinto(self, buffer: Any) -> int:
                rows = self.start or b"".join(b"r%d,compliant,,\n" % (self.left - n) for n in range(len(buffer) // 32))
                self.start = b""
                self.left -= len(buffer) // 32
                buffer[: len(rows)] = rows
                return len(rows) if self.left > 0 else 0

        file = io.BufferedReader(Endless())
        file.peek(4)
        tracemalloc.start()
        with pytest.raises(CsvError) as caught:
            for _row in record_csv.heading_and_rows(text_lines(file))[1]:
                pass
        _now, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert caught.value.code == "too_many_rows"
        assert peak < 5_000_000

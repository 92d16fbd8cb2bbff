"""managedDevices over HTTP: upserted, in bulk, listed, deleted; each mistake has its sentence; tenants are apart."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from connectors.models import DeviceSource
from console.api import views
from sync.models import ManagedDevice
from tests.console.api.conftest import Program

Programs = Callable[[str], Program]
ROW = {"complianceState": "compliant", "userPrincipalName": "ada@contoso.com", "easDeviceId": "ApplX1"}


def error(answer: Any) -> tuple[int, str]:
    body = answer.json()
    assert set(body) == {"error"}
    assert set(body["error"]) == {"code", "message", "details"}
    assert answer["Content-Type"] == "application/json"
    return answer.status_code, body["error"]["code"]


class TestOne:
    def test_put_is_created_changed_and_unchanged(self, program: Programs) -> None:
        call = program("operator")
        first = call("PUT", "managedDevices/r1", ROW)
        assert (first.status_code, first.json()["status"]) == (201, "created")
        again = call("PUT", "managedDevices/r1", {**ROW, "id": "r1"})
        assert (again.status_code, again.json()["status"]) == (200, "unchanged")
        changed = call("PUT", "managedDevices/r1", {**ROW, "complianceState": "noncompliant"})
        assert (changed.json()["status"], changed.json()["complianceState"]) == ("changed", "noncompliant")
        assert call("GET", "managedDevices/r1").json()["userPrincipalName"] == "ada@contoso.com"

    @pytest.mark.parametrize("record_id", ["a/b", "a b", "ä", "bulk", "x" * 255, "urn:x:1"])
    def test_any_id(self, program: Programs, record_id: str) -> None:
        from urllib.parse import quote

        call = program("operator")
        address = f"managedDevices/{quote(record_id, safe='')}"
        assert call("PUT", address, ROW).status_code == 201
        assert call("GET", address).json()["id"] == record_id
        assert call("DELETE", address).status_code == 204

    def test_delete_can_be_repeated(self, program: Programs) -> None:
        call = program("operator")
        call("PUT", "managedDevices/r1", ROW)
        assert call("DELETE", "managedDevices/r1").status_code == 204
        assert call("DELETE", "managedDevices/r1").status_code == 204
        assert call("GET", "managedDevices/r1").json()["presence"] == "gone"
        assert error(call("DELETE", "managedDevices/never")) == (404, "not_found")

    def test_a_wrong_record_names_every_field(self, program: Programs) -> None:
        answer = program("operator")("PUT", "managedDevices/r1", {"complianceState": "x", "imei": 1})
        assert error(answer) == (422, "invalid")
        details = answer.json()["error"]["details"]
        assert {one["field"]: one["code"] for one in details} == {"complianceState": "not_a_state", "imei": "not_text"}
        assert not ManagedDevice.objects.exists()

    def test_two_ids(self, program: Programs) -> None:
        assert error(program("operator")("PUT", "managedDevices/r1", {**ROW, "id": "r2"})) == (400, "other_id")

    @pytest.mark.parametrize("kind", ["graph", "none"])
    def test_another_source(self, program: Programs, kind: str) -> None:
        DeviceSource.objects.update(kind=kind)
        call = program("operator")
        for answer in (
            call("PUT", "managedDevices/r1", ROW),
            call("DELETE", "managedDevices/r1"),
            call("POST", "managedDevices/bulk", {"value": [{**ROW, "id": "r1"}]}),
        ):
            assert error(answer) == (409, "other_source")
            assert "Device records" in answer.json()["error"]["message"]


class TestBulk:
    def test_good_rows_beside_bad_ones(self, program: Programs) -> None:
        rows = [{**ROW, "id": "r1"}, {"id": "r2"}, 7]
        answer = program("operator")("POST", "managedDevices/bulk", {"value": rows})
        body = answer.json()
        assert (answer.status_code, body["created"], body["refused"]) == (200, 1, 2)
        assert [(one["index"], one["status"]) for one in body["results"]] == [
            (0, "created"), (1, "refused"), (2, "refused"),
        ]  # fmt: skip
        assert body["results"][1]["errors"][0]["field"] == "complianceState"

    def test_all_or_nothing(self, program: Programs) -> None:
        rows = [{**ROW, "id": "r1"}, {"id": "r2"}]
        answer = program("operator")("POST", "managedDevices/bulk", {"value": rows, "allOrNothing": True})
        assert error(answer) == (422, "invalid")
        assert [one["index"] for one in answer.json()["error"]["details"]] == [1]
        assert not ManagedDevice.objects.exists()

    def test_a_thousand_cost_as_many_statements_as_five_hundred_twice(self, program: Programs) -> None:
        call = program("operator")
        counts = []
        for size in (500, 1000):
            rows = [{**ROW, "id": f"{size}-{number}", "easDeviceId": f"a{size}{number}"} for number in range(size)]
            with CaptureQueriesContext(connection) as captured:
                assert call("POST", "managedDevices/bulk", {"value": rows}).json()["created"] == size
            counts.append(len(captured))
        assert counts[1] < counts[0] + 20

    @pytest.mark.parametrize(
        ("body", "expected"),
        [
            ({"value": [{**ROW, "id": str(number)} for number in range(1001)]}, (413, "too_many_rows")),
            ({"value": {}}, (400, "bad_bulk")),
            ({"records": []}, (400, "bad_bulk")),
            ({"value": [], "allOrNothing": "yes"}, (400, "bad_bulk")),
            ([], (400, "not_an_object")),
        ],
        ids=["too many", "no list", "another name", "no boolean", "a list"],
    )
    def test_refused_whole(self, program: Programs, body: Any, expected: tuple[int, str]) -> None:
        assert error(program("operator")("POST", "managedDevices/bulk", body)) == expected
        assert not ManagedDevice.objects.exists()


class TestList:
    @pytest.fixture
    def call(self, program: Programs) -> Program:
        call = program("operator")
        rows = [{**ROW, "id": f"r{number}", "easDeviceId": f"A{number}"} for number in range(7)]
        call("POST", "managedDevices/bulk", {"value": rows})
        call("DELETE", "managedDevices/r6")
        return call

    def test_page_after_page(self, call: Program) -> None:
        seen, address = [], "managedDevices?limit=4"
        while address:
            body = call("GET", address).json()
            seen.append([one["id"] for one in body["value"]])
            address = body["nextLink"]
        assert seen == [["r0", "r1", "r2", "r3"], ["r4", "r5"]]

    @pytest.mark.parametrize(
        ("query", "ids"),
        [
            ("presence=gone", ["r6"]),
            ("presence=all&limit=1000", [f"r{number}" for number in range(7)]),
            ("easDeviceId=a3", ["r3"]),
            ("userPrincipalName=ADA@contoso.com&limit=2", ["r0", "r1"]),
            ("userPrincipalName=nobody", []),
        ],
    )
    def test_filters(self, call: Program, query: str, ids: list[str]) -> None:
        assert [one["id"] for one in call("GET", f"managedDevices?{query}").json()["value"]] == ids

    @pytest.mark.parametrize(
        ("query", "code"),
        [
            ("limit=0", "bad_limit"),
            ("limit=1001", "bad_limit"),
            ("limit=x", "bad_limit"),
            ("limit=99999999999999999999", "bad_limit"),
            ("cursor=x", "bad_cursor"),
            ("presence=maybe", "bad_parameter"),
        ],
    )
    def test_wrong_parameters(self, call: Program, query: str, code: str) -> None:
        assert error(call("GET", f"managedDevices?{query}")) == (400, code)


class TestRequests:
    @pytest.mark.parametrize(
        ("content", "kind", "expected"),
        [
            ("{", "application/json", (400, "not_json")),
            ("[" * 100_000, "application/json", (400, "not_json")),
            ('{"a": NaN}', "application/json", (400, "not_json")),
            ("a=b", "application/x-www-form-urlencoded", (415, "not_json")),
            ('"text"', "application/json", (400, "not_an_object")),
            (b"\xff\xfe", "application/json", (400, "not_json")),
        ],
        ids=["cut off", "deep", "NaN", "a form", "no object", "no UTF-8"],
    )
    def test_what_is_no_json(self, program: Programs, content: Any, kind: str, expected: tuple[int, str]) -> None:
        call = program("operator")
        answer = call.client.put("/api/v1/managedDevices/r1", content, content_type=kind, headers=call.headers)
        assert error(answer) == expected

    def test_too_large(self, program: Programs, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(views, "BODY_LIMIT", 10)
        assert error(program("operator")("PUT", "managedDevices/r1", ROW)) == (413, "too_large")
        assert not ManagedDevice.objects.exists()

    def test_methods_and_addresses_that_are_none(self, program: Programs) -> None:
        call = program("operator")
        assert error(call("POST", "managedDevices/r1", ROW)) == (405, "method_not_allowed")
        assert error(call("GET", "nothing")) == (404, "not_found")
        assert error(call("GET", "/api/v2/managedDevices")) == (404, "not_found")
        assert error(call("GET", "/api/")) == (404, "not_found")
        assert error(Program("")("GET", "/api/v1/nothing/at/all")) == (404, "not_found")

    @pytest.mark.parametrize("method", ["post", "put", "patch", "delete"])
    def test_an_address_that_is_none_answers_a_program_as_one(self, tenant: Any, method: str) -> None:
        for path in ("", "v1/nothing", "v1/connectors/x/sync", "v1/managedDevices/"):
            assert error(getattr(Program("").client, method)(f"/api/{path}")) == (404, "not_found")

    def test_what_an_address_takes_is_told_by_the_docs_alone(self, program: Programs) -> None:
        assert error(program("reader")("OPTIONS", "managedDevices")) == (405, "method_not_allowed")

    @pytest.mark.parametrize(
        ("text", "quoted"),
        [
            (r'{"\ud800": 1, "complianceState": "compliant"}', "There is no field “\ufffd”"),
            (r'{"complianceState": "\ud800"}', "“\ufffd” is no complianceState"),
            (r'{"complianceState": "compliant", "deviceName": "\ud800"}', "control character"),
            (r'{"complianceState": "compliant", "deviceName": "a\u0000"}', "control character"),
        ],
        ids=["a field's name", "a state", "half a character", "NUL"],
    )
    def test_characters_that_no_answer_can_hold(self, program: Programs, text: str, quoted: str) -> None:
        call = program("operator")
        answer = call.client.put("/api/v1/managedDevices/r1", text, "application/json", headers=call.headers)
        assert error(answer) == (422, "invalid")
        assert quoted in answer.json()["error"]["details"][0]["message"]

    def test_such_an_id_among_others_keeps_those_from_nothing(self, program: Programs) -> None:
        call = program("operator")
        text = (
            r'{"value": [{"id": "\ud800", "complianceState": "compliant"}, {"id": "r2", "complianceState": "error"}]}'
        )
        answer = call.client.post("/api/v1/managedDevices/bulk", text, "application/json", headers=call.headers)
        results = answer.json()["results"]
        assert [(one["id"], one["status"]) for one in results] == [("\ufffd", "refused"), ("r2", "created")]

    @pytest.mark.parametrize("method", ["GET", "DELETE"])
    def test_an_id_that_no_database_can_be_asked_for(self, program: Programs, method: str) -> None:
        assert error(program("operator")(method, "managedDevices/a%00b")) == (404, "not_found")

    def test_what_nobody_expected(self, program: Programs, monkeypatch: pytest.MonkeyPatch) -> None:
        def broken(**_: object) -> None:
            raise RuntimeError("secret inside")

        monkeypatch.setattr("console.api.records.records_upsert", broken)
        answer = program("operator")("PUT", "managedDevices/r1", ROW)
        assert error(answer) == (500, "internal_error")
        assert b"secret inside" not in answer.content

    def test_answers_follow_the_callers_language(self, program: Programs) -> None:
        call = program("operator")
        call.headers["Accept-Language"] = "en"
        assert "not stored" in call("PUT", "managedDevices/r1", {}).json()["error"]["message"]


class TestTenantsAndRoles:
    def test_another_tenants_record_does_not_exist(self, program: Programs) -> None:
        program("operator")("PUT", "managedDevices/r1", ROW)
        stranger = program("stranger")
        assert error(stranger("GET", "managedDevices/r1")) == (404, "not_found")
        assert error(stranger("DELETE", "managedDevices/r1")) == (404, "not_found")
        assert stranger("GET", "managedDevices").json()["value"] == []
        assert stranger("PUT", "managedDevices/r1", {**ROW, "complianceState": "error"}).status_code == 201
        assert program("reader")("GET", "managedDevices/r1").json()["complianceState"] == "compliant"

    @pytest.mark.parametrize(
        ("method", "path", "body"),
        [
            ("PUT", "managedDevices/r1", ROW),
            ("DELETE", "managedDevices/r1", None),
            ("POST", "managedDevices/bulk", {"value": []}),
        ],
    )
    def test_a_reader_only_reads(self, program: Programs, method: str, path: str, body: Any) -> None:
        assert error(program("reader")(method, path, body)) == (403, "forbidden")
        assert program("reader")("GET", "managedDevices").status_code == 200
        assert error(program("nobody")(method, path, body)) == (401, "no_token")

"""managedDevices: the tenant's device records, read by everyone, written where they are pushed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.http import Http404
from django.utils.translation import gettext as _
from rest_framework.request import Request
from rest_framework.response import Response

from console.accounts.permissions import Action
from console.api.errors import ApiError
from console.api.views import View, choice, page_answer, text_parameter
from sync.deciding.facts import id_key, text_key
from sync.models import ManagedDevice, Presence
from sync.records.pushed import (
    BULK_LIMIT,
    PushReport,
    RowResult,
    SourceConflictError,
    record_delete,
    records_upsert,
)
from sync.records.pushed_rows import row_shown

_PRESENCES = {
    "present": (Presence.PRESENT, Presence.MISSING),
    "gone": (Presence.GONE,),
    "all": tuple(Presence),
}


def record_shown(record: ManagedDevice) -> dict[str, Any]:
    return {
        **row_shown(record),
        "source": record.source,
        "presence": record.presence,
        "changedDateTime": record.changed_at.isoformat(timespec="seconds").replace("+00:00", "Z"),
    }


class Records(View):
    """GET managedDevices."""

    def get(self, request: Request) -> Response:
        rows = ManagedDevice.objects.filter(
            tenant=self.tenant, presence__in=choice(request, "presence", _PRESENCES, "present")
        )
        if upn := text_parameter(request, "userPrincipalName"):
            rows = rows.filter(upn_key=text_key(upn))
        if device_id := text_parameter(request, "easDeviceId"):
            rows = rows.filter(eas_device_id_key=id_key(device_id))
        if serial := text_parameter(request, "serialNumber"):
            rows = rows.filter(serial=serial)
        return page_answer(request, rows, record_shown)


class Record(View):
    """One record by the id that its source gave it."""

    needs = {"PUT": Action.RECORDS, "DELETE": Action.RECORDS}

    def get(self, request: Request, record_id: str) -> Response:
        return Response(record_shown(self._record(record_id)))

    def put(self, request: Request, record_id: str) -> Response:
        """Make the record this one, new or known: 201 or 200."""
        row = dict(self.json_object())
        if row.setdefault("id", record_id) != record_id:
            raise ApiError(400, "other_id", _("The id in the body is not the one in the address. Send it once."))
        report = _claimed(lambda: records_upsert(tenant=self.tenant, rows=[row], actor=self.caller.actor))
        (result,) = report.results
        if result.status == "refused":
            raise ApiError(422, "invalid", _("The record was not stored."), _problems(result))
        record = ManagedDevice.objects.get(tenant=self.tenant, source=ManagedDevice.Source.PUSHED, source_id=result.id)
        answer = {**record_shown(record), "status": result.status, "checks": report.mailboxes}
        return Response(answer, 201 if result.status == "created" else 200)

    def delete(self, request: Request, record_id: str) -> Response:
        _storable_id(record_id)
        found = _claimed(lambda: record_delete(tenant=self.tenant, source_id=record_id, actor=self.caller.actor))
        if not found:
            raise Http404
        return Response(status=204)

    def _record(self, record_id: str) -> ManagedDevice:
        _storable_id(record_id)
        rows = ManagedDevice.objects.filter(tenant=self.tenant, source_id=record_id)
        # Of two sources' records of one id the one that still counts.
        record = rows.exclude(presence=Presence.GONE).first() or rows.first()
        if record is None:
            raise Http404
        return record


def _storable_id(record_id: str) -> None:
    """PostgreSQL cannot even be asked for a text that holds NUL. No record has such an id: Http404."""
    if "\0" in record_id:
        raise Http404


class RecordsBulk(Record):
    """POST managedDevices/bulk. (A record whose id is "bulk" keeps the other methods.)"""

    needs = {**Record.needs, "POST": Action.RECORDS}

    def post(self, request: Request, record_id: str) -> Response:
        sent = self.json_object()
        rows, all_or_nothing = sent.get("value"), sent.get("allOrNothing", False)
        if (
            not isinstance(rows, list)
            or not isinstance(all_or_nothing, bool)
            or sent.keys() - {"value", "allOrNothing"}
        ):
            raise ApiError(
                400, "bad_bulk", _('Send {"value": [records], "allOrNothing": true or false}, and nothing else.')
            )
        if len(rows) > BULK_LIMIT:
            text = _("%(count)d records were sent; at most %(limit)d are taken at a time. Send them in parts.")
            raise ApiError(413, "too_many_rows", text % {"count": len(rows), "limit": BULK_LIMIT})
        report = _claimed(
            lambda: records_upsert(
                tenant=self.tenant, rows=rows, actor=self.caller.actor, all_or_nothing=all_or_nothing
            )
        )
        if all_or_nothing and report.count("refused"):
            bad = [_result(result) for result in report.results if result.problems]
            raise ApiError(422, "invalid", _("Some records are wrong, so that none was stored."), bad)
        return Response(_bulk_answer(report))


def _bulk_answer(report: PushReport) -> dict[str, Any]:
    statuses = ("created", "changed", "unchanged", "refused")
    return {
        **{status: report.count(status) for status in statuses},
        "checks": report.mailboxes,
        "results": [_result(result) for result in report.results],
    }


def _result(result: RowResult) -> dict[str, Any]:
    shown: dict[str, Any] = {"index": result.index, "id": result.id, "status": result.status}
    return {**shown, "errors": _problems(result)} if result.problems else shown


def _problems(result: RowResult) -> list[dict[str, str]]:
    return [{"field": one.field, "code": one.code, "message": one.message} for one in result.problems]


def _claimed(act: Callable[[], Any]) -> Any:
    try:
        return act()
    except SourceConflictError as error:
        raise ApiError(409, "other_source", str(error)) from None

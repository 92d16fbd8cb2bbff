"""devices: the phones as Exchange knows them, with what was decided of each. Only read."""

from __future__ import annotations

import datetime
import uuid
from typing import Any

from django.db.models import QuerySet
from django.http import Http404
from django.utils.translation import gettext as _
from rest_framework.request import Request
from rest_framework.response import Response

from console.api.errors import ApiError
from console.api.views import View, choice, page_answer, text_parameter
from sync.deciding.facts import id_key, text_key
from sync.models import DeviceAccess, MobileDevice

_PRESENCES = {"present": {"gone_at": None}, "gone": {"gone_at__isnull": False}, "all": {}}


def device_shown(device: MobileDevice) -> dict[str, Any]:
    owner = device.owner
    return {
        "id": str(device.public_id),
        "organization": {"id": str(device.organization.public_id), "name": device.organization.name},
        "deviceId": device.device_id,
        "mailbox": owner.primary_smtp if owner else "",
        "userDisplayName": device.user_display_name,
        "deviceType": device.device_type,
        "deviceModel": device.device_model,
        "deviceOS": device.device_os,
        "clientType": device.client_type,
        # As Exchange's last evaluation wrote it: it lags until the phone comes again.
        "deviceAccessState": device.access_state,
        "deviceAccessStateReason": device.access_state_reason,
        "firstSyncDateTime": time_shown(device.first_sync_time),
        "goneDateTime": time_shown(device.gone_at),
        "verdict": _verdict(device),
    }


def _verdict(device: MobileDevice) -> dict[str, Any] | None:
    """What was last decided; None for a device that was not decided of yet."""
    try:
        access: DeviceAccess = device.access
    except DeviceAccess.DoesNotExist:
        return None
    return {
        "access": access.access,
        "exchangeAccessState": access.state,
        "exchangeAccessStateReason": access.reason,
        "rule": access.rule,
        "hinderedBy": access.hindered_by,
        "managedDeviceId": access.managed_device.source_id if access.managed_device else None,
        "decidedDateTime": time_shown(access.decided_at),
    }


def time_shown(moment: datetime.datetime | None) -> str | None:
    return moment.astimezone(datetime.UTC).isoformat(timespec="seconds").replace("+00:00", "Z") if moment else None


class Devices(View):
    """GET devices."""

    def get(self, request: Request) -> Response:
        rows = _devices(self).filter(**choice(request, "presence", _PRESENCES, "present"))
        if organization := text_parameter(request, "organization"):
            rows = rows.filter(organization__public_id=_uuid(organization))
        if device_id := text_parameter(request, "deviceId"):
            rows = rows.filter(device_id_key=id_key(device_id))
        if mailbox := text_parameter(request, "mailbox"):
            rows = rows.filter(owner__primary_smtp__iexact=text_key(mailbox))
        if state := text_parameter(request, "exchangeAccessState"):
            rows = rows.filter(access__state=state)
        return page_answer(request, rows, device_shown)


class Device(View):
    """GET devices/{id}."""

    def get(self, request: Request, public_id: uuid.UUID) -> Response:
        device = _devices(self).filter(public_id=public_id).first()
        if device is None:
            raise Http404
        return Response(device_shown(device))


def _devices(view: View) -> QuerySet[MobileDevice]:
    return MobileDevice.objects.filter(organization__tenant=view.tenant).select_related(
        "organization", "owner", "access__managed_device"
    )


def _uuid(text: str) -> uuid.UUID:
    try:
        return uuid.UUID(text)
    except ValueError:
        text = _("organization must be its id, as devices and connectors show it.")
        raise ApiError(400, "bad_parameter", text) from None

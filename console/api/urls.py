"""Addresses of the API, below /api/. An id of another system may hold any character, a slash too."""

from __future__ import annotations

from django.contrib.auth.decorators import login_not_required
from django.urls import URLPattern, URLResolver, path

from console.api import connectors, devices, dry_runs, records
from console.api.errors import nothing_here

urlpatterns: list[URLPattern | URLResolver] = [
    path("v1/managedDevices", records.Records.as_view()),
    path("v1/managedDevices/bulk", records.RecordsBulk.as_view(), {"record_id": "bulk"}),
    path("v1/managedDevices/<path:record_id>", records.Record.as_view()),
    path("v1/devices", devices.Devices.as_view()),
    path("v1/devices/<uuid:public_id>", devices.Device.as_view()),
    path("v1/connectors", connectors.Connectors.as_view()),
    path("v1/connectors/<uuid:public_id>/sync", connectors.ConnectorSync.as_view()),
    path("v1/runs/<uuid:public_id>", connectors.Run.as_view()),
    path("v1/runs/<uuid:public_id>/dryRun", dry_runs.DryRunResult.as_view()),
    path("v1/runs/<uuid:public_id>/dryRun/devices", dry_runs.DryRunDevices.as_view()),
    path("", login_not_required(nothing_here)),
    path("<path:rest>", login_not_required(nothing_here)),
]

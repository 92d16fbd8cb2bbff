"""connectors and their runs: how they stand, and a sync on demand."""

from __future__ import annotations

import uuid
from typing import Any

from django.http import Http404
from django.utils.translation import gettext as _
from rest_framework.request import Request
from rest_framework.response import Response

from connectors.models import Connector
from console.accounts.permissions import Action
from console.api.devices import time_shown
from console.api.errors import ApiError
from console.api.views import View, page_answer
from sync.models import SyncRun
from sync.services import sync_request

_KINDS = (SyncRun.Kind.QUICK, SyncRun.Kind.FULL, SyncRun.Kind.STATISTICS)


def connector_shown(connector: Connector) -> dict[str, Any]:
    return {
        "id": str(connector.public_id),
        "organization": {"id": str(connector.organization.public_id), "name": connector.organization.name},
        "status": connector.status,
        "lastErrorCode": connector.last_error_code,
        "exchangeServer": connector.exchange_server,
        "lastSuccessfulSyncDateTime": time_shown(connector.last_successful_sync_at),
        "lastFullSyncDateTime": time_shown(connector.last_full_sync_at),
        "isObserveOnly": connector.is_observe_only,
    }


def run_shown(run: SyncRun) -> dict[str, Any]:
    return {
        "id": str(run.public_id),
        "connectorId": str(run.connector.public_id),
        "kind": run.kind,
        "dryRun": run.is_dry_run,
        "status": run.status,
        "phase": run.phase,
        "errorCode": run.error_code,
        "observed": run.observed,
        "expected": run.expected,
        "rejected": run.rejected,
        "queuedDateTime": time_shown(run.queued_at),
        "startedDateTime": time_shown(run.started_at),
        "finishedDateTime": time_shown(run.finished_at),
    }


class Connectors(View):
    """GET connectors."""

    def get(self, request: Request) -> Response:
        rows = Connector.objects.filter(organization__tenant=self.tenant).select_related("organization")
        return page_answer(request, rows, connector_shown)


class ConnectorSync(View):
    """POST connectors/{id}/sync: {"kind": "deltaSync", "fullSync" or "statistics", "dryRun": false}."""

    needs = {"POST": Action.SYNC}

    def post(self, request: Request, public_id: uuid.UUID) -> Response:
        connector = Connector.objects.filter(public_id=public_id, organization__tenant=self.tenant).first()
        if connector is None:
            raise Http404
        sent = self.json_object()
        kind, is_dry_run = sent.get("kind"), sent.get("dryRun", False)
        if kind not in _KINDS or not isinstance(is_dry_run, bool) or sent.keys() - {"kind", "dryRun"}:
            text = _('Send {"kind": "deltaSync", "fullSync" or "statistics", "dryRun": true or false}.')
            raise ApiError(400, "bad_sync", text)
        if is_dry_run and kind == SyncRun.Kind.STATISTICS:
            raise ApiError(400, "bad_sync", _("Device statistics are only read: there is no dry run of that."))
        asked = sync_request(
            connector=connector, kind=kind, trigger=SyncRun.Trigger.API, actor=self.caller.actor, is_dry_run=is_dry_run
        )
        return Response({"outcome": asked.outcome, "run": run_shown(asked.run)}, 202)


class Run(View):
    """GET runs/{id}."""

    def get(self, request: Request, public_id: uuid.UUID) -> Response:
        runs = SyncRun.objects.filter(connector__organization__tenant=self.tenant).select_related("connector")
        run = runs.filter(public_id=public_id).first()
        if run is None:
            raise Http404
        return Response(run_shown(run))

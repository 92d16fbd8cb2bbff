"""What a dry run found: how many devices, and each with its verdict and the commands that were not sent. Only read."""

from __future__ import annotations

import uuid
from typing import Any

from django.http import Http404
from rest_framework.request import Request
from rest_framework.response import Response

from console.api.devices import time_shown
from console.api.views import View, choice, page_answer
from sync.models import DryRun, DryRunLine, SyncRun
from sync.showing.dry_run import Effect, Standing, dry_lines, dry_of, standing

_EFFECTS = {"": "", **{value: value for value in Effect.values}}


def dry_run_shown(run: SyncRun, found: DryRun | None) -> dict[str, Any]:
    """standing: waiting, nothing, underWay, cutOff, whole, pruned."""
    return {
        "runId": str(run.public_id),
        "standing": standing(run, found).value,
        "isWholeOrganization": found.is_whole if found else None,
        "beganDateTime": time_shown(found.begun_at) if found else None,
        "finishedDateTime": time_shown(found.finished_at) if found else None,
        "prunedDateTime": time_shown(found.pruned_at) if found else None,
        # How many there are is known in the end.
        "counts": {effect.value: getattr(found, effect.value) for effect in Effect}
        if found and found.finished_at
        else None,
        "commands": found.settings if found else [],
        "commandsHeld": found.settings_held if found else [],
        "withheldBecause": found.withheld if found else [],
    }


def line_shown(line: DryRunLine) -> dict[str, Any]:
    """Texts as they were then. verdict: None for an entry whose device is gone."""
    return {
        "deviceId": line.device_id,
        "id": str(line.device_public_id) if line.device_public_id else None,
        "userDisplayName": line.person,
        "mailbox": line.mailbox,
        "deviceName": line.device_name,
        "deviceAccessState": line.access_state,
        "verdict": {
            "access": line.access,
            "exchangeAccessState": line.state,
            "exchangeAccessStateReason": line.reason,
            "rule": line.rule,
            "hinderedBy": line.hindered_by,
        }
        if line.rule
        else None,
        "effect": line.effect,
        "commands": line.commands.splitlines(),
        "commandsHeld": line.commands_held.splitlines(),
    }


def _run(view: View, public_id: uuid.UUID) -> tuple[SyncRun, DryRun | None]:
    run = SyncRun.objects.filter(connector__organization__tenant=view.tenant, public_id=public_id).first()
    if run is None:
        raise Http404
    return run, dry_of(run)


class DryRunResult(View):
    """GET runs/{id}/dryRun."""

    def get(self, request: Request, public_id: uuid.UUID) -> Response:
        return Response(dry_run_shown(*_run(self, public_id)))


class DryRunDevices(View):
    """GET runs/{id}/dryRun/devices; effect: changed, held or unchanged. 404 where nothing is kept (any more)."""

    def get(self, request: Request, public_id: uuid.UUID) -> Response:
        run, found = _run(self, public_id)
        effect = choice(request, "effect", _EFFECTS, "")
        if found is None or standing(run, found) == Standing.PRUNED:
            raise Http404
        return page_answer(request, dry_lines(found, effect=effect), line_shown)

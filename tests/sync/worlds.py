"""What tests of runs ask of the tables, and how they kill a worker."""

from __future__ import annotations

import dataclasses
import datetime
from typing import Any

from django.db.models.functions import Now

from connectors.models import Connector
from sync.models import MobileDevice, RunEvent, SyncRun
from tests.sync.exchange import FakeExchange


class Killed(BaseException):
    """SIGKILL: nothing after it runs, and the transaction under way is lost. No handler of the product takes it."""


def present(connector: Connector) -> dict[str, dict[str, Any]]:
    """The devices held as present: values by DeviceId, as Exchange's record names them."""
    rows = MobileDevice.objects.filter(organization_id=connector.organization_id, gone_at=None)
    names = [name for name in _names() if name != "guid"]
    return {row["device_id"]: row for row in rows.values(*names)}


def listed(exchange: FakeExchange) -> dict[str, dict[str, Any]]:
    """The same of what Exchange has."""
    return {
        record.device_id: {name: getattr(record, name) for name in _names() if name != "guid"}
        for record in exchange.devices.values()
    }


def _names() -> list[str]:
    from connectors.exchange.records import MobileDeviceRecord

    return [field.name for field in dataclasses.fields(MobileDeviceRecord)]


def codes(run: SyncRun) -> list[str]:
    """The events of a run, in order; a phase as "phase NAME"."""
    rows = RunEvent.objects.filter(run=run).order_by("pk").values_list("code", "params")
    return [f"phase {params['phase']}" if code == "phase" else code for code, params in rows]


def event(run: SyncRun, code: str) -> RunEvent:
    return RunEvent.objects.get(run=run, code=code)


def lease_expire(run: SyncRun, seconds: float = 1.0) -> None:
    """As if no heartbeat had come since."""
    past = Now() - datetime.timedelta(seconds=seconds)
    SyncRun.objects.filter(pk=run.pk).update(lease_expires_at=past)


def make_older(run: SyncRun, seconds: float) -> None:
    """As if everything about the run had happened so much earlier."""
    past = Now() - datetime.timedelta(seconds=seconds)
    SyncRun.objects.filter(pk=run.pk).update(queued_at=past)
    SyncRun.objects.filter(pk=run.pk).exclude(dispatched_at=None).update(dispatched_at=past)
    SyncRun.objects.filter(pk=run.pk).exclude(heartbeat_at=None).update(heartbeat_at=past)

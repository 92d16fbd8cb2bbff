"""Whatever a phone, Exchange, Graph or a colleague calls things stands on pages as text, in every column there is."""

from __future__ import annotations

from typing import Any

import pytest
from django.apps import apps
from django.db import IntegrityError, models, transaction
from django.urls import reverse

from sync.models import DeviceEvent, RunEvent
from tests.console.conftest import Scene
from tests.console.test_permissions import OWN_ADDRESSES
from tests.console.test_walk import Held, hold, told

pytestmark = pytest.mark.django_db

BAD = "\"'><img src=x onerror=q()>&amp;</script>"
# Codes and names of ours, which no foreign text comes into.
OURS = {"time_zone", "site", "code", "rule", "kind", "phase", "because", "error_code", "last_error_code", "subject"}
ADDRESSED = {
    "connector": "organization.connector", "connector_runs": "organization.connector", "device": "device",
    "device_link": "device", "run": "run", "command": "command", "approval": "approval", "drift": "drift",
    "mailbox_policy": "policy", "mailbox_policy_mailboxes": "policy", "mailbox_policy_edit": "policy",
    "organization_mailbox_policies": "organization", "organization_policy": "organization",
    "organization_notification": "organization", "notification_account": "organization", "source": "tenant",
    "source_records": "tenant", "tenant_policy": "tenant", "tenant_policy_history": "tenant", "api_tokens": "tenant",
}  # fmt: skip


def poison() -> int:
    """BAD in every column of text; how many columns took it."""
    count = 0
    for model in (*apps.get_app_config("connectors").get_models(), *apps.get_app_config("sync").get_models()):
        for field in model._meta.fields:
            is_text = type(field) in (models.CharField, models.TextField) and not field.choices
            if not is_text or field.name in OURS or field.name.endswith("_key"):
                continue
            value = BAD[: getattr(field, "max_length", None) or len(BAD)]
            try:
                with transaction.atomic():
                    count += bool(model._default_manager.update(**{field.name: value}))
            except IntegrityError:  # unique, and more rows than one
                row: Any = model._default_manager.first()
                model._default_manager.filter(pk=row.pk).update(**{field.name: value})
                count += 1
    return count


def thing(held: Held, path: str) -> Any:
    around = {"organization": held.device.organization, "tenant": held.device.organization.tenant}
    first, _dot, rest = path.partition(".")
    found = around.get(first) or getattr(held, first)
    return getattr(found, rest) if rest else found


def test_it_stands_as_text_on_every_page(scene: Scene) -> None:
    ada = scene.client("administrator")
    held = hold("Fabrikam", scene.connector.organization.tenant)
    params = {"server": BAD, "cmdlet": BAD, "remote_text": BAD, "entries": [BAD], "record": BAD, "reason": BAD}
    type(held.run).objects.update(status="failed", error_code="command_failed", error_params=params)
    type(held.command).objects.update(state="failed", error_code="command_failed", error_params=params)
    for code in ("commandFailed", "overrideSet", "linked", "recordChanged"):
        DeviceEvent.objects.create(device=held.device, at=held.run.queued_at, code=code, params=params)
    RunEvent.objects.create(run=held.run, at=held.run.queued_at, code="server_failed", params=params)
    assert poison() > 80
    pages = {name: reverse(name) for name in sorted(OWN_ADDRESSES) if name not in ("account_logout", "commands_csv")}
    pages |= {name: reverse(name, args=[thing(held, path).public_id]) for name, path in ADDRESSED.items()}
    shown = set()
    for name, address in pages.items():
        html = told(ada.get(address, follow=True))
        assert "<img src=x" not in html, name
        assert "&amp;amp;</script>" not in html, name
        if "&lt;img src=x" in html:
            shown.add(name)
    # It came so far at all.
    assert {"devices", "device", "run", "command", "drift", "overrides", "notifications", "home"} <= shown

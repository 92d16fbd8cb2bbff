"""One decision about many devices: who is ticked, what would be done and for whom not, why; then, confirmed, done.

The devices travel in the form. What is confirmed is looked at anew: whoever went, or may not be decided about, is left.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Any

from django.contrib import messages
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse, HttpResponseBadRequest
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.http import url_has_allowed_host_and_scheme
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext
from django.views.decorators.http import require_POST

from console.accounts.actors import actor_of
from console.accounts.permissions import Action, actions_by_tenant
from console.pages.device_acts import errors_take
from console.pages.device_forms import OverrideForm
from console.pages.device_words import LEFT_OUT
from sync.models import MobileDevice
from sync.policies.overrides import (
    BULK_LIMIT,
    Done,
    Left,
    override_clear,
    override_set,
    overrides_clear_preview,
    overrides_preview,
    recheck,
)
from sync.selectors import devices_for
from sync.showing.access_words import said

ACTS = {
    "allow": (Action.ACCESS, gettext_lazy("Allow devices")),
    "block": (Action.ACCESS, gettext_lazy("Block devices")),
    "clear": (Action.ACCESS, gettext_lazy("Clear overrides")),
    "recheck": (Action.RECHECK, gettext_lazy("Re-evaluate devices")),
}


@dataclass(frozen=True, slots=True)
class _Asked:
    """Devices that the person may do it to, those left out for want of a role, and how many ids named none."""

    devices: list[MobileDevice]
    refused: list[MobileDevice]
    unknown: int


@require_POST
def bulk(request: HttpRequest) -> HttpResponse:
    """The preview; with step=confirm the act. act: one of ACTS; device: public ids; back: the list's address."""
    act = request.POST.get("act", "")
    if act not in ACTS:
        return HttpResponseBadRequest()
    ids = list(dict.fromkeys(request.POST.getlist("device")))
    if not ids:
        messages.info(request, _("No device was ticked."))
        return redirect(_back(request))
    if len(ids) > BULK_LIMIT:
        messages.error(request, _("At most %(limit)d devices at once.") % {"limit": BULK_LIMIT})
        return redirect(_back(request))
    asked = _asked(request, ids, ACTS[act][0])
    is_confirmed = request.POST.get("step") == "confirm"
    form = (
        OverrideForm(request.POST if is_confirmed else None, zone=_zone(asked)) if act in ("allow", "block") else None
    )
    if is_confirmed and (form is None or form.is_valid()):
        try:
            count = _do(act, asked.devices, form, request)
        except ValidationError as error:
            if form is None:
                raise
            errors_take(form, error)
        else:
            messages.success(
                request,
                ngettext(
                    "%(act)s: noted for %(count)d device. Its mailbox is looked at now.",
                    "%(act)s: noted for %(count)d devices. Their mailboxes are looked at now.",
                    count,
                )
                % {"act": ACTS[act][1], "count": count},
            )
            return redirect(_back(request))
    done = _preview(act, asked.devices)
    context = {
        "act": act,
        "title": ACTS[act][1],
        "devices": done.devices,
        "ids": [device.public_id for device in done.devices],
        "left": [
            *((left.device, said(LEFT_OUT, left.because)) for left in done.left),
            *((device, said(LEFT_OUT, "notPermitted")) for device in asked.refused),
        ],
        "unknown": asked.unknown,
        "form": form,
        "back": _back(request),
    }
    return render(request, "pages/device_bulk.html", context, status=422 if form is not None and form.errors else 200)


def _back(request: HttpRequest) -> str:
    back = request.POST.get("back", "")
    is_ours = back.startswith("/") and url_has_allowed_host_and_scheme(back, allowed_hosts=None)
    return back if is_ours else reverse("devices")


def _asked(request: HttpRequest, ids: list[str], action: Action) -> _Asked:
    wanted = []
    for text in ids:
        try:
            wanted.append(uuid.UUID(text))
        except ValueError:
            continue
    rows = devices_for(request.user).select_related("organization__tenant", "access", "owner")
    found = list(rows.filter(public_id__in=wanted).order_by("user_display_name", "pk"))
    allowed = actions_by_tenant(request.user)
    may = [device for device in found if action in allowed(device.organization.tenant_id)]
    return _Asked(may, [device for device in found if device not in may], len(ids) - len(found))


def _zone(asked: _Asked) -> str:
    """Of the tenant, where it is one; UTC otherwise."""
    zones = {device.organization.tenant.time_zone for device in asked.devices}
    return zones.pop() if len(zones) == 1 else "UTC"


def _preview(act: str, devices: list[MobileDevice]) -> Done:
    if act == "clear":
        return overrides_clear_preview(devices)
    if act == "recheck":
        fit = tuple(device for device in devices if device.owner_id is not None and device.gone_at is None)
        left = (Left(d, "gone" if d.gone_at else "noMailbox") for d in devices if d not in fit)
        return Done(fit, tuple(left))
    return overrides_preview(devices, level=act)


def _do(act: str, devices: list[MobileDevice], form: OverrideForm | None, request: HttpRequest) -> int:
    actor: Any = actor_of(request.user)
    if act == "clear":
        return len(override_clear(devices=devices, actor=actor).devices)
    if form is None:
        fit = _preview(act, devices).devices
        recheck(devices=fit, actor=actor)
        return len(fit)
    done = override_set(
        devices=devices, level=act, reason=form.cleaned_data["reason"], expires_at=form.expires_at(), actor=actor
    )
    return len(done.devices)

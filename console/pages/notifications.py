"""Mails to people whose device is kept out: what became of each, why, and having one tried again."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

from django.contrib import messages
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_POST, require_safe

from connectors.models import ExchangeOrganization, NotificationAccount
from connectors.problems import RenderedProblem, problem
from connectors.selectors import organizations_for
from console.accounts.actors import actor_of
from console.accounts.permissions import Action, actions_by_tenant, require
from console.pages.listing import Listing, uuid_of
from sync.models import Notification
from sync.notifying.notify import is_retriable, notification_retry
from sync.notifying.notify_queue import NO_ADDRESS, NOT_NEEDED, OFF, REPEATED
from sync.selectors import devices_for, notifications_for
from sync.showing import access_words as words

PAGE_SIZE = 50
SUPPRESSED = {
    REPEATED: gettext_lazy("The person was told about this device a short while ago."),
    OFF: gettext_lazy("User notification, or its account, was switched off before it left."),
    NO_ADDRESS: gettext_lazy("The mailbox has no mail address that can be written to."),
    NOT_NEEDED: gettext_lazy("The device was let in, or was gone, before it left."),
}


@require_safe
def notifications(request: HttpRequest) -> HttpResponse:
    """Newest first, by keyset. ?state= and ?device= (a public id) narrow it down."""
    listing = Listing(request, "notifications", {"state": ("", *Notification.State.values)})
    device_id = uuid_of(request.GET.get("device", ""))
    device = devices_for(request.user).filter(public_id=device_id).first() if device_id else None
    rows = notifications_for(request.user)
    if listing.organization is not None:
        rows = rows.filter(organization__public_id=listing.organization)
    if listing.chosen["state"]:
        rows = rows.filter(state=listing.chosen["state"])
    if device_id is not None:
        rows = rows.filter(device__public_id=device_id)
    before = request.GET.get("before", "")
    if before.isascii() and before.isdigit() and len(before) < 19:
        rows = rows.filter(pk__lt=int(before))
    found = list(rows[: PAGE_SIZE + 1])
    shown = found[:PAGE_SIZE]
    organizations = list(organizations_for(request.user).order_by("tenant__name", "name"))
    context: dict[str, Any] = {
        "rows": list(_rows(request, shown)),
        "listing": listing,
        "states": Notification.State.choices,
        "device": device,
        "organizations": organizations,
        "troubles": _troubles(organizations),
        "previous_url": listing.link() if before else "",
        "next_url": listing.link(before=shown[-1].pk) if len(found) > PAGE_SIZE else "",
    }
    return render(request, "pages/notifications.html", context)


def _rows(request: HttpRequest, shown: list[Notification]) -> Iterator[dict[str, Any]]:
    allowed = actions_by_tenant(request.user)
    for one in shown:
        can_retry = is_retriable(one) and Action.RECHECK in allowed(one.organization.tenant_id)
        yield {
            "notification": one,
            "reason": words.said(words.REASONS, one.reason),
            "problem": problem(one.error_code, one.error_params) if one.error_code else None,
            "why": SUPPRESSED.get(one.suppressed_because, ""),
            "can_retry": can_retry,
        }


def _troubles(organizations: list[ExchangeOrganization]) -> list[tuple[ExchangeOrganization, RenderedProblem]]:
    """Organizations by whose account no mail leaves."""
    accounts = NotificationAccount.objects.filter(organization__in=organizations).exclude(last_error_code="")
    by_organization = {account.organization_id: account for account in accounts}
    return [
        (organization, problem(account.last_error_code, account.last_error_params))
        for organization in organizations
        if (account := by_organization.get(organization.pk)) is not None
    ]


@require_POST
def retry(request: HttpRequest, public_id: uuid.UUID) -> HttpResponse:
    """Have one tried again."""
    found: Notification = get_object_or_404(notifications_for(request.user), public_id=public_id)
    require(request.user, Action.RECHECK, found.organization.tenant)
    try:
        notification_retry(notification=found, actor=actor_of(request.user))
    except ValidationError as error:
        messages.info(request, error.messages[0])
    else:
        messages.success(request, _("The mail to %(address)s is tried again now.") % {"address": found.recipient})
    return redirect("notifications")

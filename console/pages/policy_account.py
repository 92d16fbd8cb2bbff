"""The notification account of an organization: by which account mails leave, and whether it works."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from django.contrib import messages
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_http_methods, require_POST

from connectors.mail.client import Check
from connectors.models import ExchangeOrganization, NotificationAccount
from connectors.notification_accounts import (
    notification_account_configure,
    notification_account_of,
    notification_account_test,
)
from connectors.problems import RenderedProblem, problem
from console.accounts.actors import actor_of
from console.accounts.permissions import Action, actions_in, require
from console.pages.policy_forms import NotificationAccountForm, errors_put
from console.pages.policy_organization import organization_of

if TYPE_CHECKING:
    from django_stubs_ext import StrOrPromise

CHECKS: dict[str, StrOrPromise] = {
    "address": gettext_lazy("Address of the service"),
    "connection": gettext_lazy("Connection"),
    "sign_in": gettext_lazy("Sign-in"),
    "sender": gettext_lazy("Sending as the sender"),
}


@dataclass(frozen=True, slots=True)
class CheckRow:
    """One check in words. problem: what went wrong and what to do; None when it is well."""

    name: str
    is_ok: bool
    detail: str
    problem: RenderedProblem | None


@require_http_methods(["GET", "HEAD", "POST"])
def notification_account(request: HttpRequest, public_id: uuid.UUID) -> HttpResponseBase:
    """The form and its saving."""
    organization = organization_of(request, public_id)
    account = notification_account_of(organization)
    if request.method != "POST":
        return _page(request, organization, account, NotificationAccountForm(account=account))
    require(request.user, Action.POLICY, organization.tenant)
    form = NotificationAccountForm(request.POST, account=account)
    if form.is_valid():
        try:
            notification_account_configure(
                organization=organization, settings=form.to_settings(), actor=actor_of(request.user)
            )
        except ValidationError as error:
            errors_put(form, error)
        else:
            messages.success(request, _("The notification account was saved. Press Test to try it."))
            return redirect("notification_account", public_id=public_id)
    return _page(request, organization, account, form)


@require_POST
def notification_account_try(request: HttpRequest, public_id: uuid.UUID) -> HttpResponse:
    """Try the account as it is saved, and show what was found. Seconds; sends nothing; no transaction is open."""
    organization = organization_of(request, public_id)
    require(request.user, Action.POLICY, organization.tenant)
    checks = notification_account_test(organization)
    account = notification_account_of(organization)
    return _page(request, organization, account, NotificationAccountForm(account=account), checks)


def _page(
    request: HttpRequest,
    organization: ExchangeOrganization,
    account: NotificationAccount,
    form: NotificationAccountForm,
    checks: Sequence[Check] = (),
) -> HttpResponse:
    context = {
        "organization": organization,
        "tenant": organization.tenant,
        "account": account,
        "form": form,
        "checks": [_row(check) for check in checks],
        "is_well": bool(checks) and all(check.is_ok for check in checks),
        "allowed": actions_in(request.user, organization.tenant),
    }
    return render(request, "pages/policy_account.html", context, status=422 if form.errors else 200)


def _row(check: Check) -> CheckRow:
    told = problem(check.error.code, check.error.params) if check.error else None
    return CheckRow(str(CHECKS.get(check.name, check.name)), check.is_ok, check.detail, told)

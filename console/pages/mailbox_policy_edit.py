"""Making and changing a mailbox policy: the form, a look at what is to be sent, and the order.

What is proposed travels in the form itself and is checked anew when it is ordered: nothing is kept on the server.
"""

from __future__ import annotations

import uuid
from typing import Any

from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods

from connectors.models import ExchangeOrganization
from console.accounts.actors import actor_of
from console.accounts.permissions import Action, require
from console.pages.mailbox_policies import policies_of, policy_of, say_ordered
from console.pages.mailbox_policy_forms import MailboxPolicyForm
from console.pages.policy_forms import errors_put
from console.pages.policy_organization import organization_of
from sync.acting.policy_deeds import PolicyCreate, PolicySet
from sync.models import MailboxPolicy
from sync.observing.mailbox_policy_rows import mailboxes_of
from sync.policies.mailbox_policies import (
    change_of,
    creation_of,
    policy_change,
    policy_create,
    settings_for_new,
    settings_of,
    stamp_of,
)
from sync.policies.mailbox_policy_values import NAME_LENGTH
from sync.policies.mailbox_policy_words import Pair, pairs_said


@require_http_methods(["GET", "HEAD", "POST"])
def create(request: HttpRequest, public_id: uuid.UUID) -> HttpResponse:
    """A new policy, from Exchange's defaults or as a copy (?copy=)."""
    organization = organization_of(request, public_id)
    require(request.user, Action.POLICY, organization.tenant)
    found = policies_of(request, organization)
    wanted = (request.POST if request.method == "POST" else request.GET).get("copy", "")
    copied = next((one for one in found if str(one.public_id) == wanted), None)
    settings = settings_for_new(organization, copied)
    name = (_("Copy of %(name)s") % {"name": copied.name})[:NAME_LENGTH] if copied is not None else ""
    context: dict[str, Any] = {
        "organization": organization,
        "tenant": organization.tenant,
        "policies": found,
        "copied": copied,
        "title": _("New mailbox policy"),
    }
    if request.method != "POST":
        form = MailboxPolicyForm(name=name, settings=settings, version=organization.version)
        return _form(request, form, context, key=uuid.uuid4().hex)
    form = MailboxPolicyForm(request.POST, name=name, settings=settings, version=organization.version)
    step = request.POST.get("step", "review")
    if form.is_valid() and step != "edit":
        try:
            given = {"name": form.cleaned_data["name"], "settings": form.to_settings()}
            if step == "save":
                command = policy_create(
                    organization=organization, key=request.POST.get("key", ""), actor=actor_of(request.user), **given
                )
                say_ordered(request, [command])
                return redirect("organization_mailbox_policies", public_id=public_id)
            return _review(request, form, context, creation_of(organization=organization, **given), [], None)
        except ValidationError as error:
            errors_put(form, error)
    return _form(request, form, context, key=request.POST.get("key", "")[:80])


@require_http_methods(["GET", "HEAD", "POST"])
def edit(request: HttpRequest, public_id: uuid.UUID) -> HttpResponse:
    """The policy's settings and name."""
    found = policy_of(request, public_id)
    organization = found.organization
    require(request.user, Action.POLICY, organization.tenant)
    settings = settings_of(found)
    context: dict[str, Any] = {
        "organization": organization,
        "tenant": organization.tenant,
        "policy": found,
        "title": _("Edit %(name)s") % {"name": found.name},
    }
    if request.method != "POST":
        form = MailboxPolicyForm(name=found.name, settings=settings, version=organization.version)
        return _form(request, form, context, key=uuid.uuid4().hex, based_on=stamp_of(found))
    form = MailboxPolicyForm(request.POST, name=found.name, settings=settings, version=organization.version)
    step, based_on = request.POST.get("step", "review"), request.POST.get("based_on", "")[:64]
    if form.is_valid() and step != "edit":
        try:
            given = {"name": form.cleaned_data["name"], "settings": form.to_settings(), "based_on": based_on}
            if step == "save":
                command = policy_change(
                    policy=found, key=request.POST.get("key", ""), actor=actor_of(request.user), **given
                )
                say_ordered(request, [command])
                return redirect("mailbox_policy", public_id=public_id)
            deed = change_of(policy=found, **given)
            return _review(request, form, {**context, "based_on": based_on}, deed, _pairs(found, deed), found)
        except ValidationError as error:
            errors_put(form, error)
    return _form(request, form, context, key=request.POST.get("key", "")[:80], based_on=based_on)


def _form(
    request: HttpRequest, form: MailboxPolicyForm, context: dict[str, Any], *, key: str, based_on: str = ""
) -> HttpResponse:
    shown = {**context, "form": form, "groups": form.groups(), "key": key, "based_on": based_on}
    return render(request, "pages/mailbox_policy_form.html", shown, status=422 if form.errors else 200)


def _pairs(found: MailboxPolicy, deed: PolicySet) -> list[Pair]:
    pairs = pairs_said(
        settings_of(found), deed.settings, version=found.organization.version, names=tuple(deed.settings)
    )
    return [Pair(_("Name"), "Name", found.name, deed.name), *pairs] if deed.name else pairs


def _review(
    request: HttpRequest,
    form: MailboxPolicyForm,
    context: dict[str, Any],
    deed: PolicyCreate | PolicySet,
    pairs: list[Pair],
    found: MailboxPolicy | None,
) -> HttpResponse:
    """What is to be sent. found: the policy that changes."""
    organization: ExchangeOrganization = context["organization"]
    before = settings_of(found) if found is not None else {}
    cut_off = deed.settings.get("AllowNonProvisionableDevices") is False
    shown = {
        **context,
        "form": form,
        "key": request.POST.get("key", "")[:80],
        "name": form.cleaned_data["name"],
        "pairs": pairs,
        "text": deed.text(),
        "affected": mailboxes_of(found).count() if found is not None else 0,
        "cuts_off": cut_off and before.get("AllowNonProvisionableDevices") is not False and found is not None,
        "opens": deed.settings.get("AllowNonProvisionableDevices") is True,
        "observes": bool(getattr(getattr(organization, "connector", None), "is_observe_only", False)),
    }
    return render(request, "pages/mailbox_policy_review.html", shown)

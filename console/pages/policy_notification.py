"""User notification of an organization: whether and how people are told that their device is denied."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from csp.constants import NONE, SELF, UNSAFE_INLINE
from csp.decorators import csp, csp_update
from django.conf import settings
from django.contrib import messages
from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import redirect, render
from django.utils import formats, timezone, translation
from django.utils.html import format_html
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.clickjacking import xframe_options_sameorigin
from django.views.decorators.http import require_http_methods, require_POST

from connectors.mail.client import Message, new_message_id
from connectors.mail.errors import MailError
from connectors.models import ExchangeOrganization, NotificationAccount
from connectors.notification_accounts import (
    TEST_OPTIONS,
    account_outcome_note,
    mailer_for,
    notification_account_of,
)
from connectors.problems import problem
from console.accounts.actors import actor_of
from console.accounts.permissions import Action, actions_in, require
from console.pages.policy_forms import NotificationForm, ReviewForm, errors_put
from console.pages.policy_organization import organization_of
from console.pages.policy_review import based_on, say
from sync.models import PolicyVersion
from sync.notifying.mail_template import (
    PLACEHOLDERS,
    MailTemplate,
    RenderedMail,
    default_template,
    reason_text,
    state_text,
)
from sync.notifying.mail_template import render as render_mail
from sync.policies.policy import MailTemplateValues, NotificationValues
from sync.policies.policy_checks import template_errors, template_warnings
from sync.policies.policy_services import organization_policy_change, policy_current

# Reasons of which the built-in texts differ.
REASONS: Mapping[str, Any] = {
    "notEnrolled": gettext_lazy("Not enrolled"),
    "notCompliant": gettext_lazy("Not compliant"),
    "other": gettext_lazy("Denied for another reason"),
}


@csp_update({"frame-src": [SELF]})  # type: ignore[arg-type]  # its types know no view with an argument
@require_http_methods(["GET", "HEAD", "POST"])
def organization_notification(request: HttpRequest, public_id: uuid.UUID) -> HttpResponseBase:
    """The form and its saving. The preview is a document of its own, in a frame."""
    organization = organization_of(request, public_id)
    current, version = policy_current(organization)
    if request.method != "POST":
        form = NotificationForm(values=current.notification)
        return _page(request, organization, form, ReviewForm(), version.number if version else 0, version)
    require(request.user, Action.POLICY, organization.tenant)
    number = based_on(request)
    form, reason = NotificationForm(request.POST, values=current.notification), ReviewForm(request.POST)
    if form.is_valid() and reason.is_valid():
        try:
            change = organization_policy_change(
                organization=organization,
                values=replace(current, notification=form.to_values()),
                reason=reason.cleaned_data["reason"],
                actor=actor_of(request.user),
                based_on=number,
            )
        except ValidationError as error:
            errors_put(form, error, NotificationForm.names())
        else:
            say(request, organization, change)
            _warn(request, form.to_values())
            return redirect("organization_notification", public_id=public_id)
    return _page(request, organization, form, reason, number, version, status=422)


def _warn(request: HttpRequest, values: NotificationValues) -> None:
    for language, template in values.templates.items():
        for sentence in template_warnings(template.subject, template.body):
            name = dict(settings.LANGUAGES).get(language, language)
            messages.warning(request, f"{name}: {sentence}")


def _page(
    request: HttpRequest,
    organization: ExchangeOrganization,
    form: NotificationForm,
    reason: ReviewForm,
    number: int,
    version: PolicyVersion | None,
    status: int = 200,
    test_address: str | None = None,
) -> HttpResponse:
    context = {
        "organization": organization,
        "tenant": organization.tenant,
        "form": form,
        "reason": reason,
        "based_on": number,
        "version": version,
        "languages": [
            (*parts, [(label, default_template(reason, parts[0])) for reason, label in REASONS.items()])
            for parts in form.languages()
        ],
        "placeholders": PLACEHOLDERS,
        "reasons": list(REASONS.items()),
        "preview_reason": _reason(request),
        "account": notification_account_of(organization),
        "test_address": request.user.email if test_address is None else test_address,  # type: ignore[union-attr]
        "allowed": actions_in(request.user, organization.tenant),
    }
    return render(request, "pages/policy_notification.html", context, status=status)


def _reason(request: HttpRequest) -> str:
    chosen = request.POST.get("preview_reason", request.GET.get("reason", ""))
    return chosen if chosen in REASONS else "notEnrolled"


# --- preview ----------------------------------------------------------------------------------------------------------


@xframe_options_sameorigin
@csp(  # type: ignore[arg-type]
    {
        "default-src": [NONE],
        # Mail has its styles in the elements themselves. They may stand here alone, where no script can run and
        # nothing can be loaded or sent.
        "style-src": [UNSAFE_INLINE],
        "frame-ancestors": [SELF],
        "base-uri": [NONE],
        "form-action": [NONE],
        "sandbox": True,
    }
)
@require_http_methods(["GET", "HEAD", "POST"])
def preview(request: HttpRequest, public_id: uuid.UUID) -> HttpResponse:
    """The mail as a document of its own, for a frame: of the texts that were entered, or of those in force."""
    organization = organization_of(request, public_id)
    values, _version = policy_current(organization)
    language = request.POST.get("preview_language", request.GET.get("language", values.notification.language))
    if language not in dict(settings.LANGUAGES):
        language = values.notification.language
    notification = values.notification
    if request.method == "POST":
        form = NotificationForm(request.POST, values=notification)
        form.is_valid()  # what is wrong elsewhere in the form keeps nobody from looking at the text
        notification = _entered(form, language)
    mail = rendered(organization, notification, language, _reason(request))
    # The subject above what the mail itself is, a whole document.
    head, body, rest = mail.html.partition("<body")
    attributes, end, text = rest.partition(">")
    subject = format_html('<p style="margin:0;padding:12px 16px;font:600 16px sans-serif">{}</p>', mail.subject)
    return HttpResponse("".join((head, body, attributes, end, subject, text)))


def _entered(form: NotificationForm, language: str) -> NotificationValues:
    given = {name: form.cleaned_data.get(name, "") for name in ("enrollment_link", "help_contact")}
    texts = {part: form.cleaned_data.get(f"{part}_{language}", "") for part in ("subject", "body")}
    from_form = NotificationValues(**given, language=language)
    return replace(from_form, templates={language: MailTemplateValues(**texts)})


def rendered(
    organization: ExchangeOrganization, notification: NotificationValues, language: str, reason: str
) -> RenderedMail:
    """The mail to a made-up person, in a language."""
    own = notification.templates.get(language)
    built_in = default_template(reason, language)
    template = MailTemplate(
        own.subject if own and own.subject else built_in.subject, own.body if own and own.body else built_in.body
    )
    return render_mail(template, _sample(organization, notification, language, reason), language)


def _sample(
    organization: ExchangeOrganization, notification: NotificationValues, language: str, reason: str
) -> dict[str, str]:
    """Values for each placeholder, of a person and a device that do not exist; in the mail's language where that is one
    of ours."""
    with translation.override(language):
        return {
            "person": "Ada Lovelace",
            "person_first_name": "Ada",
            "mailbox": "ada.lovelace@example.com",
            "device": _("Ada's phone"),
            "device_model": "iPhone15C2",
            "device_type": "iPhone",
            "device_os": "iOS 17.5.1",
            "device_id": "ApplEXAMPLE0001",
            "reason": reason_text(reason, language),
            "state": state_text("quarantined", language),
            "organization": organization.name,
            "tenant": organization.tenant.name,
            "enrollment_link": notification.enrollment_link or "https://enroll.example.com/",
            "help_contact": notification.help_contact or _("the service desk"),
            "date": formats.date_format(timezone.localdate(), "DATE_FORMAT"),
        }


# --- test mail --------------------------------------------------------------------------------------------------------


@csp_update({"frame-src": [SELF]})  # type: ignore[arg-type]
@require_POST
def test_mail(request: HttpRequest, public_id: uuid.UUID) -> HttpResponseBase:
    """Send the text as it stands in the form, saved or not, to one address. Seconds; no transaction is open."""
    organization = organization_of(request, public_id)
    require(request.user, Action.POLICY, organization.tenant)
    current, version = policy_current(organization)
    number = based_on(request)
    form = NotificationForm(request.POST, values=current.notification)
    address = request.POST.get("test_address", "").strip()
    language = request.POST.get("test_language", "")
    if language not in dict(settings.LANGUAGES):
        language = current.notification.language
    form.is_valid()
    notification = _entered(form, language)
    sentence = _refused(notification, language, address)
    if not sentence:
        sentence = _sent(organization, notification, language, _reason(request), address)
    if sentence:
        messages.error(request, sentence)
    else:
        messages.success(
            request, _("A test mail was handed over for %(address)s. Look into that mailbox.") % {"address": address}
        )
    # Nothing that was entered is lost, and nothing was saved by this.
    unsaved = NotificationForm(request.POST, values=current.notification)
    return _page(request, organization, unsaved, ReviewForm(), number, version, test_address=address)


def _refused(notification: NotificationValues, language: str, address: str) -> str:
    """Why no mail can be made of this; "" when one can."""
    try:
        validate_email(address)
    except ValidationError:
        return _("“%(value)s” is not a mail address. No test mail was sent.") % {"value": address[:80]}
    template = notification.templates[language]
    if errors := template_errors(template.subject, template.body):
        return _("No test mail was sent. %(problem)s") % {"problem": errors[0][1].messages[0]}
    return ""


def _sent(
    organization: ExchangeOrganization, notification: NotificationValues, language: str, reason: str, address: str
) -> str:
    """Send it; why it could not be sent, or ""."""
    account = notification_account_of(organization)
    if account.channel == NotificationAccount.Channel.NONE:
        return _("No notification account is set up. Set one up first.")
    mail = rendered(organization, notification, language, reason)
    try:
        message = Message(
            to=address, subject=mail.subject, html=mail.html, text=mail.text, message_id=new_message_id(account.sender)
        )
        with mailer_for(organization, options=TEST_OPTIONS) as mailer:
            mailer.send(message)
    except MailError as error:
        account_outcome_note(organization, error)
        told = problem(error.code, error.params)
        return " ".join(part for part in (told.title + ".", told.happened, told.remedy, told.detail) if part)
    account_outcome_note(organization, None, sent=True)
    return ""

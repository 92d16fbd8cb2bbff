"""What people do about one device: allow and block, take that back, look again, link a record, wipe, remove.

What can be undone is one form and one press; what cannot asks for the device's ID to be typed, on a page that says
exactly what will happen, and carries a key so that a form that is sent twice is one act.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from django.contrib import messages
from django.core.exceptions import ValidationError
from django.core.paginator import Paginator
from django.db.models import Q
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBadRequest
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_http_methods, require_POST

from console.accounts.actors import actor_of
from console.accounts.permissions import Action, require
from console.pages.device import device_of, device_title
from console.pages.device_forms import OverrideForm, RemoveForm, TypedForm, WipeForm
from console.pages.device_words import LEFT_OUT, account_wipe_refusal, is_app_client
from console.pages.searching import searched
from sync.acting import destructive
from sync.models import AccessOverride, DeviceLink, EntryChoice, ManagedDevice, MobileDevice, Presence
from sync.observing.statistics import statistics_request
from sync.policies.overrides import entry_choice_clear, link_clear, link_set, override_clear, override_set, recheck
from sync.showing.access_words import said

RECORDS_SHOWN = 50


def _device(request: HttpRequest, public_id: uuid.UUID, action: Action) -> MobileDevice:
    found = device_of(request, public_id)
    require(request.user, action, found.organization.tenant)
    return found


def errors_take(form: Any, error: ValidationError) -> None:
    """Errors of a service onto the form: beside their fields where it has them, above it otherwise."""
    if not hasattr(error, "error_dict"):
        form.add_error(None, error)
        return
    for name, errors in error.error_dict.items():
        form.add_error(name if name in form.fields else None, errors)


def refused(request: HttpRequest, error: ValidationError) -> None:
    for message in error.messages:
        messages.error(request, message)


# --- allow, block, look again -----------------------------------------------------------------------------------------


@require_http_methods(["GET", "HEAD", "POST"])
def override(request: HttpRequest, public_id: uuid.UUID, level: str) -> HttpResponse:
    """The form that allows or blocks, with reason and end."""
    found = _device(request, public_id, Action.ACCESS)
    if level not in AccessOverride.Level.values:
        raise Http404
    form = OverrideForm(request.POST if request.method == "POST" else None, zone=found.organization.tenant.time_zone)
    if form.is_valid():
        try:
            done = override_set(
                devices=[found],
                level=level,
                reason=form.cleaned_data["reason"],
                expires_at=form.expires_at(),
                actor=actor_of(request.user),
            )
        except ValidationError as error:
            errors_take(form, error)
        else:
            if done.devices:
                messages.success(request, _ALLOWED if level == "allow" else _BLOCKED)
            for left in done.left:
                messages.info(request, said(LEFT_OUT, left.because))
            return redirect("device", public_id=public_id)
    context = {
        "device": found,
        "title": device_title(found),
        "level": level,
        "form": form,
        "others": _sharing(found),
    }
    return render(request, "pages/device_override.html", context, status=422 if form.errors else 200)


_ALLOWED = gettext_lazy("The device is allowed. Exchange is told now; the phone notices at its next request.")
_BLOCKED = gettext_lazy("The device is blocked. Exchange is told now; the phone notices at its next request.")


def _sharing(found: MobileDevice) -> int:
    """How many other devices of the mailbox have the same ID, and so share what is decided."""
    if found.owner_id is None:
        return 0
    same = MobileDevice.objects.filter(owner=found.owner_id, device_id_key=found.device_id_key, gone_at=None)
    return same.exclude(pk=found.pk).count()


@require_POST
def override_end(request: HttpRequest, public_id: uuid.UUID) -> HttpResponse:
    found = _device(request, public_id, Action.ACCESS)
    done = override_clear(devices=[found], actor=actor_of(request.user))
    if done.devices:
        messages.success(request, _("The policy decides about the device again, in a moment."))
    else:
        messages.info(request, said(LEFT_OUT, "none"))
    return redirect("device", public_id=public_id)


@require_POST
def evaluate(request: HttpRequest, public_id: uuid.UUID) -> HttpResponse:
    found = _device(request, public_id, Action.RECHECK)
    if recheck(devices=[found], actor=actor_of(request.user)):
        messages.success(request, _("Its mailbox is read and decided anew now. Load the page again in a moment."))
    else:
        messages.info(request, said(LEFT_OUT, "noMailbox"))
    return redirect("device", public_id=public_id)


@require_POST
def statistics(request: HttpRequest, public_id: uuid.UUID) -> HttpResponse:
    found = _device(request, public_id, Action.RECHECK)
    if found.owner is not None and statistics_request(mailbox=found.owner):
        messages.success(request, _("The mailbox's statistics are read now. Load the page again in a moment."))
    else:
        messages.info(request, said(LEFT_OUT, "noMailbox"))
    return redirect("device", public_id=public_id)


# --- records ----------------------------------------------------------------------------------------------------------


@require_http_methods(["GET", "HEAD", "POST"])
def link(request: HttpRequest, public_id: uuid.UUID) -> HttpResponse:
    """Search the tenant's records for the one that this device is; POST says so of one (or says that it is not)."""
    found = _device(request, public_id, Action.ACCESS)
    if request.method == "POST":
        return _link_do(request, found)
    text = searched(request.GET)
    rows = ManagedDevice.objects.filter(tenant=found.organization.tenant).exclude(presence=Presence.GONE)
    if not text and found.owner is not None:
        # To begin with: what the person of the mailbox has.
        person = found.owner.person
        mine = Q(email_key=found.owner.primary_smtp.lower()) | Q(upn_key=found.owner.upn.lower())
        if person is not None:
            mine |= Q(user_source_id=person.source_id)
        rows = rows.filter(mine & ~(Q(email_key="") & Q(upn_key="") & Q(user_source_id="")))
    for word in text.split()[:8]:
        rows = rows.filter(
            Q(device_name__icontains=word)
            | Q(upn__icontains=word)
            | Q(email__icontains=word)
            | Q(serial__icontains=word)
            | Q(imei__icontains=word)
            | Q(eas_device_id__icontains=word)
            | Q(model__icontains=word)
        )
    page = Paginator(rows.order_by("upn_key", "device_name", "pk"), RECORDS_SHOWN).get_page(request.GET.get("page"))
    context = {
        "device": found,
        "title": device_title(found),
        "tenant": found.organization.tenant,
        "query": text,
        "page": page,
        "previous_url": _page_link(text, page.previous_page_number()) if page.has_previous() else "",
        "next_url": _page_link(text, page.next_page_number()) if page.has_next() else "",
        "linked": set(_words(found).filter(kind=DeviceLink.Kind.LINK).values_list("managed_device_id", flat=True)),
    }
    return render(request, "pages/device_link.html", context)


def _page_link(text: str, number: int) -> str:
    return f"?{urlencode({'q': text, 'page': number})}"


def _words(found: MobileDevice) -> Any:
    return DeviceLink.objects.filter(mailbox=found.owner_id, device_id_key=found.device_id_key)


def _link_do(request: HttpRequest, found: MobileDevice) -> HttpResponse:
    """record: its public id; kind: link, unlink or clear."""
    kind = request.POST.get("kind", "")
    try:
        wanted = uuid.UUID(request.POST.get("record", ""))
    except ValueError:
        return HttpResponseBadRequest()
    record = get_object_or_404(ManagedDevice, tenant=found.organization.tenant, public_id=wanted)
    actor = actor_of(request.user)
    try:
        if kind == "clear":
            link_clear(device=found, record=record, actor=actor)
            messages.success(request, _("The matching rules decide about this record again."))
        else:
            link_set(device=found, record=record, kind=kind, actor=actor)
            messages.success(request, _("Noted. The device is decided anew now."))
    except ValidationError as error:
        refused(request, error)
    return redirect("device", public_id=found.public_id)


@require_POST
def choice_clear(request: HttpRequest, public_id: uuid.UUID) -> HttpResponse:
    """Take back what was chosen about an entry of somebody else. listed: which list."""
    found = _device(request, public_id, Action.ACCESS)
    listed = request.POST.get("listed", "").replace("\0", "")
    chosen = EntryChoice.objects.filter(
        mailbox=found.owner_id, device_id_key=found.device_id_key, listed=listed
    ).first()
    if chosen is None:
        messages.info(request, _("There is no such choice any more."))
    else:
        entry_choice_clear(choice=chosen, actor=actor_of(request.user))
        messages.success(request, _("The choice was taken back. Where the entry still stands, it is drift again."))
    return redirect("device", public_id=public_id)


# --- what cannot be undone --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Act:
    form: type[TypedForm]
    do: Callable[..., Any]
    said: Any


def _wiped(found: MobileDevice, form: TypedForm, actor: Any) -> None:
    destructive.device_wipe(device=found, key=form.cleaned_data["key"], actor=actor, notify=_notify(form))


def _account_wiped(found: MobileDevice, form: TypedForm, actor: Any) -> None:
    destructive.device_wipe_account(device=found, key=form.cleaned_data["key"], actor=actor, notify=_notify(form))


def _removed(found: MobileDevice, form: TypedForm, actor: Any) -> None:
    destructive.device_remove(
        device=found, key=form.cleaned_data["key"], actor=actor, clear_foreign=form.cleaned_data["clear_foreign"]
    )


def _notify(form: TypedForm) -> tuple[str, ...]:
    return (form.cleaned_data["notify"],) if form.cleaned_data["notify"] else ()


_ACTS = {
    "wipe": _Act(WipeForm, _wiped, gettext_lazy("The wipe is ordered. The phone carries it out at its next request.")),
    "wipe-account": _Act(
        WipeForm,
        _account_wiped,
        gettext_lazy("The account-only wipe is ordered. The phone carries it out at its next request."),
    ),
    "remove": _Act(RemoveForm, _removed, gettext_lazy("The partnership is being removed.")),
}


@require_http_methods(["GET", "HEAD", "POST"])
def destroy(request: HttpRequest, public_id: uuid.UUID, act: str) -> HttpResponse:
    """The page that says what will happen and asks for the device's ID, for wipe, wipe-account and remove."""
    found = _device(request, public_id, Action.WIPE)
    if act not in _ACTS:
        raise Http404
    wanted = _ACTS[act]
    refusal = account_wipe_refusal(found) if act == "wipe-account" else ""
    data = request.POST if request.method == "POST" else None
    form = wanted.form(data, device_id=found.device_id, initial={"key": uuid.uuid4().hex})
    if not refusal and form.is_valid():
        try:
            wanted.do(found, form, actor_of(request.user))
        except ValidationError as error:
            errors_take(form, error)
        else:
            messages.success(request, wanted.said)
            return redirect("device", public_id=public_id)
    context = {
        "device": found,
        "title": device_title(found),
        "act": act,
        "form": form,
        "refusal": refusal,
        "is_app": is_app_client(found),
        "is_unsure": act == "wipe-account" and not found.client_version,
        "connector": getattr(found.organization, "connector", None),
    }
    return render(request, "pages/device_destroy.html", context, status=422 if form.errors or refusal else 200)


@require_POST
def wipe_cancel(request: HttpRequest, public_id: uuid.UUID) -> HttpResponse:
    """key: of the form, so that a second press is none."""
    found = _device(request, public_id, Action.WIPE)
    try:
        destructive.device_wipe_cancel(device=found, key=request.POST.get("key", ""), actor=actor_of(request.user))
    except ValidationError as error:
        refused(request, error)
    else:
        messages.success(
            request, _("Exchange is asked to take the wipe back. Whether it was in time is shown here in a moment.")
        )
    return redirect("device", public_id=public_id)

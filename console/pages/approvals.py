"""Denials that wait for somebody: the list, and a page that decides about one of them."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from typing import Any

from django.contrib import messages
from django.core.exceptions import ValidationError
from django.core.paginator import Paginator
from django.db.models import Case, Count, Q, QuerySet, Value, When
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods, require_safe

from console.accounts.actors import actor_of
from console.accounts.permissions import Action, actions_in, require
from console.pages.approval_forms import DecisionForm
from console.pages.device_acts import errors_take
from console.pages.downloads import csv_download
from console.pages.searching import searched
from console.templatetags.devices import person_name
from sync.models import Approval, HeldDenial
from sync.selectors import approvals_for
from sync.showing import access_words as words
from sync.showing.approval_list import APPROVE, RAISE, approval_decide, approval_digest, kept_out_of
from sync.showing.explain import row_number

PAGE_SIZE = 50
# So many can be looked through and ticked on one page; a search narrows more down.
DENIALS_SHOWN = 500


@require_safe
def approvals(request: HttpRequest) -> HttpResponse:
    """Waiting ones first, then what became of the others."""
    is_waiting = Case(When(state=Approval.State.WAITING, then=Value(0)), default=Value(1))
    rows = approvals_for(request.user).annotate(devices=Count("denials")).order_by(is_waiting, "-made_at", "-pk")
    page = Paginator(rows, PAGE_SIZE).get_page(request.GET.get("page"))
    context = {
        "page": page,
        "approvals": list(page.object_list),
        "previous_url": f"?page={page.previous_page_number()}" if page.has_previous() else "",
        "next_url": f"?page={page.next_page_number()}" if page.has_next() else "",
    }
    return render(request, "pages/approvals.html", context)


def _approval(request: HttpRequest, public_id: uuid.UUID) -> Approval:
    found: Approval = get_object_or_404(approvals_for(request.user), public_id=public_id)
    return found


def _denials(found: Approval) -> QuerySet[HeldDenial]:
    return (
        HeldDenial.objects.filter(approval=found)
        .select_related("device__organization", "device__owner")
        .order_by("device__user_display_name", "device_id")
    )


@require_http_methods(["GET", "HEAD", "POST"])
def approval(request: HttpRequest, public_id: uuid.UUID) -> HttpResponse:
    """One approval with its devices. POST decides: decision=approve, approve_except (leave_out: ticked devices),
    reject or raise."""
    found = _approval(request, public_id)
    form = DecisionForm(request.POST if request.method == "POST" else None, limit=found.limit_devices)
    if request.method == "POST":
        require(request.user, Action.ACCESS, found.organization.tenant)
        if form.is_valid() and _decide(request, found, form):
            return redirect("approval", public_id=public_id)
    text = searched(request.GET)
    rows = _denials(found)
    total = rows.count()
    for word in text.split()[:8]:
        rows = rows.filter(
            Q(device__user_display_name__icontains=word)
            | Q(device__device_id__icontains=word)
            | Q(device__device_model__icontains=word)
        )
    counts = found.denials.values_list("rule").annotate(count=Count("pk")).order_by("-count")
    context: dict[str, Any] = {
        "approval": found,
        "organization": found.organization,
        "tenant": found.organization.tenant,
        "denials": list(rows[:DENIALS_SHOWN]),
        "total": total,
        "shown_limit": DENIALS_SHOWN,
        "query": text,
        "reasons": [(words.said(words.ROWS, rule), count) for rule, count in counts],
        "percent": 100 * total / found.devices_total if found.devices_total else 0,
        "seen": approval_digest(found),
        "form": form,
        "ticked": set(request.POST.getlist("leave_out")),
        "is_waiting": found.state == Approval.State.WAITING,
        "left_out": _left_out(found),
        "allowed": actions_in(request.user, found.organization.tenant),
    }
    return render(request, "pages/approval.html", context, status=422 if form.errors else 200)


def _left_out(found: Approval) -> int:
    """Devices that this approval left out, or an earlier one, so that what it holds may stay as it is."""
    if not found.settings_held or found.state not in (Approval.State.WAITING, Approval.State.APPROVED):
        return 0
    return len(kept_out_of(found))


def _decide(request: HttpRequest, found: Approval, form: DecisionForm) -> bool:
    decision = form.cleaned_data["decision"]
    leave_out: list[int] = []
    if decision == "approve_except":
        leave_out = _ticked(request, found)
        if not leave_out:
            form.add_error(None, _("Tick the devices that are to keep their access, or approve all."))
            return False
        decision = APPROVE
    try:
        asked = approval_decide(
            approval=found,
            decision=decision,
            seen=form.cleaned_data["seen"],
            actor=actor_of(request.user),
            note=form.cleaned_data["note"],
            leave_out=leave_out,
            to=form.cleaned_data["to"] or 0,
        )
    except ValidationError as error:
        errors_take(form, error)
        found.refresh_from_db()
        return False
    if decision == APPROVE:
        said = [_("Approved.")]
        # Where settings stay as they are, the run may have nothing to carry out.
        is_kept = bool(found.settings_held and kept_out_of(found))
        if asked and not is_kept:
            said.append(_("A run carries it out now."))
        if is_kept:
            said.append(_("Settings and rules stay as they are while they would deny a device that was left out."))
        messages.success(request, " ".join(said))
    elif decision == RAISE:
        messages.success(request, _("The limit is raised for the next run, which was asked for."))
    else:
        messages.success(request, _("Rejected. These devices keep their access while their verdict stays the same."))
    return True


def _ticked(request: HttpRequest, found: Approval) -> list[int]:
    wanted = []
    for text in request.POST.getlist("leave_out")[: DENIALS_SHOWN * 2]:
        try:
            wanted.append(uuid.UUID(text))
        except ValueError:
            continue
    return list(found.denials.filter(device__public_id__in=wanted).values_list("device_id", flat=True))


@require_safe
def approval_csv(request: HttpRequest, public_id: uuid.UUID) -> HttpResponse:
    """All of its devices as a file."""
    found = _approval(request, public_id)
    heads = (_("Person"), _("Mailbox"), _("Device"), _("Device ID"), _("Wanted"), _("Why"), _("Rule"), _("Approved"))

    def rows() -> Iterator[Sequence[object]]:
        for denial in _denials(found).iterator(chunk_size=2000):
            device = denial.device
            yield (
                person_name(device), device.owner or device.mailbox, device.friendly_name or device.device_model,
                device.device_id, words.said(words.ACCESSES, denial.access), words.said(words.ROWS, denial.rule),
                row_number(denial.rule) or "",
                "" if denial.is_approved is None else _("Yes") if denial.is_approved else _("No"),
            )  # fmt: skip

    answer: HttpResponse = csv_download(f"approval-{found.public_id}.csv", heads, rows())  # type: ignore[assignment]
    return answer

"""The step between a change of a policy and its saving: what differs, who would lose mail, and why it is done.

What is proposed travels in the form itself, as JSON, and is checked anew when it is saved: nothing is kept on the
server, and two people may review at once. It was made from a numbered version; a newer one refuses the save.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from django.contrib import messages
from django.core.exceptions import BadRequest, ValidationError
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.shortcuts import render
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from connectors.models import ExchangeOrganization, Tenant
from console.accounts.permissions import Action, actions_in
from console.pages.downloads import csv_download
from console.pages.policy_forms import KeepForm, ReviewForm
from console.pages.statistics import StatisticsReading
from sync.models import MobileDevice
from sync.policies.policy import OrganizationPolicyValues, TenantPolicyValues
from sync.policies.policy_checks import organization_values_clean, tenant_values_clean
from sync.policies.policy_preview import SHOWN, Loss, Preview, TenantPreview, losses_with_devices
from sync.policies.policy_services import PolicyChange, Values
from sync.policies.policy_words import DOUBT_WORDS, LEVELS, LOSS_WORDS, differences

# Characters of a proposal; the longest templates and all rules together come to less.
PROPOSAL_LIMIT = 600_000


@dataclass(frozen=True, slots=True)
class Place:
    """Where a review stands. action: the address that takes its steps; cancel: the page that it goes back to.
    crumbs: as components/breadcrumb.html takes them."""

    title: str
    subtitle: str
    action: str
    cancel: str
    parent: str
    parent_url: str
    can_edit: bool = True


@dataclass(frozen=True, slots=True)
class LossRow:
    """One line of the list of those who would lose mail."""

    device: MobileDevice
    organization: str
    before: str
    after: str
    why: str


def proposal_of(request: HttpRequest, kind: type[TenantPolicyValues] | type[OrganizationPolicyValues]) -> Values | None:
    """The values that a review's form carries; None when it carries none.

    They were checked before the form was made: what is no policy that could be saved raises BadRequest.
    """
    text = request.POST.get("proposal")
    if text is None:
        return None
    if len(text) > PROPOSAL_LIMIT:
        raise BadRequest("the proposal is longer than any policy")
    try:
        values = kind.from_json(json.loads(text))
        if isinstance(values, TenantPolicyValues):
            return tenant_values_clean(values)
        return organization_values_clean(values)
    except (ValidationError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise BadRequest("the proposal is no policy") from error


def based_on(request: HttpRequest) -> int:
    """The version that the form was made from. Raises BadRequest when it does not say."""
    text = request.POST.get("based_on", "")
    if not text.isascii() or not text.isdigit() or len(text) > 9:
        raise BadRequest("the form does not say which version it was made from")
    return int(text)


def review(
    request: HttpRequest,
    *,
    place: Place,
    before: Values,
    after: Values,
    number: int,
    previews: TenantPreview | None,
    form: ReviewForm | None = None,
    keep: KeepForm | None = None,
    kept: str = "",
    reading: StatisticsReading | None = None,
    status: int = 200,
) -> HttpResponse:
    """The page. number: of the version it was made from. previews None: nothing of it reaches Exchange. keep: the offer
    to keep devices that are in use; kept: the sentence about those kept already; reading: how far it is known which
    are."""
    form = form or ReviewForm()
    context: dict[str, Any] = {
        "place": place,
        "differences": differences(before, after),
        "proposal": json.dumps(after.to_json()),
        "based_on": number,
        "form": form,
        "keep": keep,
        "kept": kept,
        "reading": reading,
        "may_read": reading is not None and Action.SYNC in actions_in(request.user, reading.organization.tenant),
        "previews": previews,
        "shown_limit": SHOWN,
    }
    if previews is not None:
        context |= {
            "rows": _first(previews),
            "reasons": _reasons(previews),
            "doubts": _doubts(previews),
            "groups_unread": sorted({name for one in previews.organizations for name in one.groups_unread}),
            "has_organizations": len(previews.organizations) > 1,
        }
    return render(request, "pages/policy_review.html", context, status=422 if form.errors or status == 422 else status)


def _first(previews: TenantPreview) -> list[LossRow]:
    rows: list[LossRow] = []
    for one in previews.organizations:
        if len(rows) < SHOWN:
            rows += loss_rows(one, one.losses[: SHOWN - len(rows)])
    return rows


def loss_rows(preview: Preview, losses: Sequence[Loss]) -> Iterator[LossRow]:
    """Lines for some of a preview's losses; a query for each five thousand."""
    for loss, device in losses_with_devices(losses):
        yield LossRow(
            device,
            preview.organization.name,
            str(LEVELS[loss.before]),
            str(LEVELS[loss.after]),
            str(LOSS_WORDS.get(loss.row, loss.row)),
        )


def _reasons(previews: TenantPreview) -> list[tuple[str, int]]:
    counts: dict[str, int] = {}
    for one in previews.organizations:
        for row, count in one.by_row:
            counts[row] = counts.get(row, 0) + count
    ordered = sorted(counts.items(), key=lambda item: -item[1])
    return [(str(LOSS_WORDS.get(row, row)), count) for row, count in ordered]


def _doubts(previews: TenantPreview) -> list[str]:
    found = {doubt for one in previews.organizations for doubt in one.doubts}
    return [str(DOUBT_WORDS.get(doubt, doubt)) for doubt in sorted(found)]


def losses_csv(name: str, previews: TenantPreview) -> StreamingHttpResponse:
    """All who would lose mail, as a file."""
    heads = (
        _("Organization"), _("Person"), _("Mailbox"), _("Device"), _("Model"), _("Device ID"), _("Last sync"),
        _("Access now"), _("Access then"), _("Why"),
    )  # fmt: skip

    def rows() -> Iterator[Sequence[object]]:
        for preview in previews.organizations:
            for row in loss_rows(preview, preview.losses):
                device = row.device
                statistics = getattr(device, "statistics", None)
                last = statistics.last_success_at if statistics is not None else None
                yield (
                    row.organization, device.user_display_name, device.owner or device.mailbox, device.friendly_name,
                    device.device_model, device.device_id, last.isoformat() if last else "", row.before, row.after,
                    row.why,
                )  # fmt: skip

    return csv_download(name, heads, rows())


def say(request: HttpRequest, owner: Tenant | ExchangeOrganization, change: PolicyChange) -> None:
    """The message on the page that a save leads to."""
    if not change.is_changed or change.version is None:
        messages.info(request, _("Nothing differs from what is in force; no version was made."))
        return
    words = {"number": change.version.number, "name": owner.name}
    saved = _("Version %(number)s of %(name)s was saved.") % words
    if change.requests:
        count = len(change.requests)
        saved += " " + ngettext(
            "A run brings it to Exchange now.", "%(count)d runs bring it to Exchange now.", count
        ) % {"count": count}
    messages.success(request, saved)

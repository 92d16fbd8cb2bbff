"""Advanced Exchange ActiveSync access settings of an organization: default level, rules, Exchange's own mails."""

from __future__ import annotations

import datetime
import uuid
import zoneinfo
from dataclasses import dataclass, replace
from typing import Any

from django.core.exceptions import ValidationError
from django.db.models import Count
from django.http import HttpRequest, HttpResponse, HttpResponseBadRequest, HttpResponseBase
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods

from connectors.models import Connector, ExchangeOrganization
from connectors.selectors import organizations_for
from console.accounts.actors import actor_of
from console.accounts.permissions import Action, actions_in, require
from console.pages.policy_forms import KeepForm, OrganizationPolicyForm, ReviewForm, RuleRows, errors_put
from console.pages.policy_review import Place, based_on, losses_csv, proposal_of, review, say
from console.pages.statistics import statistics_reading
from sync.deciding.facts import Level
from sync.deciding.judge import SEVERITY
from sync.models import PolicyVersion, SyncRun
from sync.policies.policy import MAIL_INSERT_LENGTH, OrganizationPolicyValues
from sync.policies.policy_checks import CHARACTERISTICS, organization_values_clean
from sync.policies.policy_preview import TenantPreview, grandfathering, organization_preview
from sync.policies.policy_services import organization_policy_change, policy_current
from sync.policies.policy_words import CHARACTERISTIC_WORDS, LEVELS, grandfathering_said
from sync.selectors import devices_for
from sync.services import sync_request

# Where our rows hold what a rule of this kind is about. The X-MS-WL header is told by no cmdlet.
COLUMNS = {
    "DeviceType": "device_type",
    "DeviceModel": "device_model",
    "DeviceOS": "device_os",
    "UserAgent": "device_user_agent",
}
CLASSES_SHOWN = 50
KEEP_DAYS, KEEP_WEEKS, KEEP_LIMIT = 30, 8, 3650


def organization_of(request: HttpRequest, public_id: uuid.UUID) -> ExchangeOrganization:
    return get_object_or_404(organizations_for(request.user), public_id=public_id)


@dataclass(frozen=True, slots=True)
class KnownClass:
    """A value that devices of the organization have. devices: how many; 0: Exchange has seen it once."""

    value: str
    devices: int


@require_http_methods(["GET", "HEAD", "POST"])
def organization_policy(request: HttpRequest, public_id: uuid.UUID) -> HttpResponseBase:
    """The form; and its steps: rows of rules, review, keep devices in use, save, or the review's list as a file."""
    organization = organization_of(request, public_id)
    current, version = policy_current(organization)
    if request.method != "POST":
        form = OrganizationPolicyForm(values=current)
        return _page(request, organization, form, RuleRows(current.rules), version.number if version else 0, version)
    require(request.user, Action.POLICY, organization.tenant)
    step, number = request.POST.get("step", "review"), based_on(request)
    proposal = proposal_of(request, OrganizationPolicyValues)
    if isinstance(proposal, OrganizationPolicyValues):
        return _reviewed(request, organization, current, proposal, step, number)
    form, rows = OrganizationPolicyForm(request.POST, values=current), RuleRows.of_data(request.POST)
    if step != "review":
        return _rows_changed(request, organization, form, rows, number, version, step)
    if form.is_valid():
        try:
            values = organization_values_clean(form.to_values(rows.entered()))
        except ValidationError as error:
            errors_put(form, error)
        else:
            return _review(request, organization, current, values, number)
    return _page(request, organization, form, rows, number, version, status=422)


def _rows_changed(
    request: HttpRequest,
    organization: ExchangeOrganization,
    form: OrganizationPolicyForm,
    rows: RuleRows,
    number: int,
    version: PolicyVersion | None,
    step: str,
) -> HttpResponse:
    """The form again, with a rule more or less, or other known classes. step: add|<value>, remove|<row>, classes."""
    name, _bar, value = step.partition("|")
    if name == "remove" and value.isascii() and value.isdigit() and len(value) < 6:
        rows.remove(int(value))
    elif name == "add":
        rows.add(_classes_of(request), value)
    elif name not in ("row", "classes"):
        return HttpResponseBadRequest()
    return _page(request, organization, form, rows, number, version)


def _classes_of(request: HttpRequest) -> str:
    chosen = request.POST.get("classes_of", "DeviceType")
    return chosen if chosen in COLUMNS else "DeviceType"


def _page(
    request: HttpRequest,
    organization: ExchangeOrganization,
    form: OrganizationPolicyForm,
    rows: RuleRows,
    number: int,
    version: PolicyVersion | None,
    status: int = 200,
) -> HttpResponse:
    classes_of, text = _classes_of(request), request.POST.get("classes_query", "").strip()
    tenant_values, _version = policy_current(organization.tenant)
    chosen = {row.query.lower() for row in rows.rows if row.characteristic == classes_of}
    context: dict[str, Any] = {
        "organization": organization,
        "tenant": organization.tenant,
        "form": form,
        "based_on": number,
        "version": version,
        "rules": rows.shown(),
        "characteristics": [(name, CHARACTERISTIC_WORDS[name]) for name in CHARACTERISTICS],
        "levels": list(LEVELS.items()),
        "classes_of": classes_of,
        "classes_query": text,
        "classes_choices": [(name, CHARACTERISTIC_WORDS[name]) for name in COLUMNS],
        "classes": [
            one for one in _classes(request, organization, classes_of, text) if one.value.lower() not in chosen
        ],
        "in_exchange": [
            {"characteristic": CHARACTERISTIC_WORDS.get(kind, kind), "query": query, "level": level}
            for _identity, kind, query, level in organization.access_rules
        ],
        "is_control_on": tenant_values.enabled,
        "insert_limit": MAIL_INSERT_LENGTH,
        "allowed": actions_in(request.user, organization.tenant),
    }
    return render(request, "pages/policy_organization.html", context, status=status)


def _classes(
    request: HttpRequest, organization: ExchangeOrganization, characteristic: str, text: str
) -> list[KnownClass]:
    """The commonest values of the organization's devices, then those of Get-ActiveSyncDeviceClass. One query."""
    column = COLUMNS[characteristic]
    rows = (
        devices_for(request.user)
        .filter(organization=organization, gone_at=None)
        .exclude(**{column: ""})
        .order_by()
        .values_list(column)
        .annotate(count=Count("pk"))
        .order_by("-count", column)
    )
    if text:
        rows = rows.filter(**{f"{column}__icontains": text})
    found = {value: KnownClass(value, count) for value, count in rows[:CLASSES_SHOWN]}
    place = {"DeviceType": 0, "DeviceModel": 1}.get(characteristic)
    if place is not None:
        for one in organization.device_classes:
            value = str(one[place])
            if value and text.lower() in value.lower() and len(found) < CLASSES_SHOWN:
                found.setdefault(value, KnownClass(value, 0))
    return list(found.values())


# --- review -----------------------------------------------------------------------------------------------------------


def _reviewed(
    request: HttpRequest,
    organization: ExchangeOrganization,
    current: OrganizationPolicyValues,
    values: OrganizationPolicyValues,
    step: str,
    number: int,
) -> HttpResponseBase:
    """A step that a review's form asked for."""
    if step == "edit":
        form = OrganizationPolicyForm(values=values)
        return _page(request, organization, form, RuleRows(values.rules), number, None)
    if step == "csv":
        previews = _previews(organization, current, values)
        return losses_csv(f"gatehouse-preview-{organization.name}.csv", previews or TenantPreview(()))
    if step in ("again", "statistics"):
        if step == "statistics":
            _statistics_request(request, organization)
        return _review(request, organization, current, values, number)
    if step == "unkeep":
        return _review(request, organization, current, replace(values, grandfathering=None), number)
    if step == "keep":
        keep = KeepForm(request.POST)
        if keep.is_valid() and _is_kept(keep, organization):
            values = replace(values, grandfathering=_kept(keep, organization))
            return _review(request, organization, current, values, number)
        return _review(request, organization, current, values, number, keep=keep)
    if step != "save":
        return HttpResponseBadRequest()
    form_of_reason = ReviewForm(request.POST)
    if form_of_reason.is_valid():
        try:
            change = organization_policy_change(
                organization=organization,
                values=values,
                reason=form_of_reason.cleaned_data["reason"],
                actor=actor_of(request.user),
                based_on=number,
            )
        except ValidationError as error:
            errors_put(form_of_reason, error)
        else:
            say(request, organization, change)
            return redirect("organization_policy", public_id=organization.public_id)
    return _review(request, organization, current, values, number, form=form_of_reason)


def _statistics_request(request: HttpRequest, organization: ExchangeOrganization) -> None:
    """What is known of last syncs then is what the next count goes by; the page says how far it is."""
    require(request.user, Action.SYNC, organization.tenant)
    connector = get_object_or_404(Connector, organization=organization)
    sync_request(
        connector=connector,
        kind=SyncRun.Kind.STATISTICS,
        trigger=SyncRun.Trigger.BUTTON,
        actor=actor_of(request.user),
    )


def _end_of(day: datetime.date, organization: ExchangeOrganization) -> datetime.datetime:
    """The last moment of a day in the tenant's time zone, so that the day it names is the one that was chosen."""
    zone = zoneinfo.ZoneInfo(organization.tenant.time_zone)
    return datetime.datetime.combine(day, datetime.time(23, 59, 59), zone)


def _is_kept(keep: KeepForm, organization: ExchangeOrganization) -> bool:
    today = timezone.localdate(timezone=zoneinfo.ZoneInfo(organization.tenant.time_zone))
    if today <= keep.cleaned_data["keep_until"] <= today + datetime.timedelta(days=KEEP_LIMIT):
        return True
    keep.add_error("keep_until", _("Choose a day that is still to come, within ten years."))
    return False


def _kept(keep: KeepForm, organization: ExchangeOrganization) -> Any:
    return grandfathering(
        days=keep.cleaned_data["keep_days"],
        until=_end_of(keep.cleaned_data["keep_until"], organization),
        now=timezone.now(),
    )


def _previews(
    organization: ExchangeOrganization, current: OrganizationPolicyValues, values: OrganizationPolicyValues
) -> TenantPreview | None:
    if current.facts() == values.facts():
        return None
    return TenantPreview((organization_preview(organization=organization, organization_values=values),))


def _review(
    request: HttpRequest,
    organization: ExchangeOrganization,
    current: OrganizationPolicyValues,
    values: OrganizationPolicyValues,
    number: int,
    form: ReviewForm | None = None,
    keep: KeepForm | None = None,
) -> HttpResponse:
    address = reverse("organization_policy", args=[organization.public_id])
    title = _("Advanced Exchange ActiveSync access settings")
    place = Place(
        title=_("Review and save"),
        subtitle=f"{title} · {organization.name}",
        action=address,
        cancel=address,
        parent=title,
        parent_url=address,
    )
    offered = None
    if values.grandfathering is None and is_tightened(organization, current, values):
        until = timezone.now() + datetime.timedelta(weeks=KEEP_WEEKS)
        offered = keep or KeepForm(initial={"keep_days": KEEP_DAYS, "keep_until": until.date()})
    return review(
        request,
        place=place,
        before=current,
        after=values,
        number=number,
        previews=_previews(organization, current, values),
        form=form,
        keep=offered,
        kept=grandfathering_said(values.grandfathering) if values.grandfathering else "",
        reading=statistics_reading(organization) if offered is not None or values.grandfathering else None,
        status=422 if keep is not None and keep.errors else 200,
    )


def is_tightened(
    organization: ExchangeOrganization, current: OrganizationPolicyValues, values: OrganizationPolicyValues
) -> bool:
    """Whether the default level that is wanted is stricter than the present one (Exchange's, where none is managed)."""
    if values.default_level is None or values.default_level == current.default_level:
        return False
    observed = organization.default_access_level.lower()
    now = current.default_level or (observed if observed in list(Level) else Level.ALLOW)
    return SEVERITY[Level(values.default_level)] < SEVERITY[Level(now)]  # the strictest is 0

"""The ActiveSync mailbox policies of an organization: the list, one of them, two compared, and who has which.

What changes Exchange is ordered through sync.policies and sent by a worker: pages show the command's text at
once, and what became of it. Forms of a policy's settings: mailbox_policy_edit.py.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from django.contrib import messages
from django.core.exceptions import ValidationError
from django.core.paginator import Paginator
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from connectors.models import ExchangeOrganization
from connectors.problems import RenderedProblem, problem
from console.accounts.actors import actor_of
from console.accounts.permissions import Action, actions_in, require
from console.pages.policy_organization import organization_of
from console.pages.searching import searched
from sync.acting.policy_deeds import KINDS
from sync.models import Command, Mailbox, MailboxPolicy
from sync.observing.mailbox_policy_rows import (
    assigned_counts,
    mailbox_policies_for,
    mailboxes_of,
    names_of,
    own_mailboxes_of,
)
from sync.policies.mailbox_policies import (
    policies_request,
    policy_assign,
    policy_make_default,
    policy_remove,
    settings_of,
)
from sync.policies.mailbox_policy_words import groups_said, pairs_said, shown_names
from sync.selectors import commands_for

PAGE_SIZE = 50
COMMANDS_SHOWN = 5
# Seconds after which somebody who asked for a reading is told that none came.
PATIENCE = 60


@dataclass(frozen=True, slots=True)
class Told:
    """A command in words. problem: what went wrong and what to do; None when nothing did."""

    command: Command
    what: str
    problem: RenderedProblem | None


@dataclass(frozen=True, slots=True)
class MailboxRow:
    """One mailbox and the policy that it has. is_own: by its own choice, not since it is the default."""

    mailbox: Mailbox
    policy: str
    is_own: bool


def policy_of(request: HttpRequest, public_id: uuid.UUID) -> MailboxPolicy:
    """The policy, if the person may see it; 404 otherwise."""
    return get_object_or_404(mailbox_policies_for(request.user), public_id=public_id)


def policies_of(request: HttpRequest, organization: ExchangeOrganization) -> list[MailboxPolicy]:
    return list(mailbox_policies_for(request.user).filter(organization=organization, gone_at=None))


# --- commands in words ------------------------------------------------------------------------------------------------


def commands_told(
    request: HttpRequest, organization: ExchangeOrganization, policy: MailboxPolicy | None = None
) -> list[Told]:
    """The newest commands about policies; policy: about that one alone. Two queries."""
    rows = commands_for(request.user).filter(organization=organization, kind__in=list(KINDS))
    if policy is not None:
        rows = rows.filter(
            Q(payload__policy=str(policy.guid)) | Q(kind=Command.Kind.POLICY_CREATE, payload__name=policy.name)
        )
    found = list(rows[:COMMANDS_SHOWN])
    named = dict(MailboxPolicy.objects.filter(organization=organization).values_list("guid", "name")) if found else {}
    names = {str(guid): name for guid, name in named.items()}
    return [
        Told(
            command,
            _what(command, names),
            problem(command.error_code, command.error_params)
            if command.error_code and command.state != Command.State.DONE
            else None,
        )
        for command in found
    ]


def _what(command: Command, names: Mapping[str, str]) -> str:
    payload = command.payload
    name = names.get(str(payload.get("policy", "")), "") or str(payload.get("name", ""))
    if command.kind == Command.Kind.POLICY_CREATE:
        return _("New policy “%(name)s”") % {"name": payload.get("name", "")}
    if command.kind == Command.Kind.POLICY_REMOVE:
        return _("Removal of “%(name)s”") % {"name": payload.get("name", "") or name}
    if command.kind == Command.Kind.POLICY_ASSIGN:
        mailbox = str(command.mailbox) if command.mailbox is not None else str(payload.get("mailbox", ""))
        if not payload.get("policy"):
            return _("Default policy for %(mailbox)s") % {"mailbox": mailbox}
        return _("“%(name)s” for %(mailbox)s") % {"name": name, "mailbox": mailbox}
    if payload.get("make_default"):
        return _("“%(name)s” becomes the default") % {"name": name}
    return _("Change of “%(name)s”") % {"name": name}


def any_open(told: Iterable[Told]) -> bool:
    return any(one.command.state in Command.OPEN for one in told)


def say_ordered(request: HttpRequest, commands: Sequence[Command]) -> None:
    """Tell what was ordered."""
    if not commands:
        messages.info(request, _("Nothing had to be changed."))
    elif any(command.state == Command.State.OBSERVED for command in commands):
        messages.warning(
            request, _("This connector only observes: nothing was sent. The command below is what would have been.")
        )
    else:
        messages.success(
            request,
            ngettext(
                "The command is in the journal and is sent to Exchange now.",
                "%(count)s commands are in the journal and are sent to Exchange now.",
                len(commands),
            )
            % {"count": len(commands)},
        )


# --- the list ---------------------------------------------------------------------------------------------------------


@require_safe
def policies(request: HttpRequest, public_id: uuid.UUID) -> HttpResponse:
    organization = organization_of(request, public_id)
    found = policies_of(request, organization)
    counts = assigned_counts(found)
    told = commands_told(request, organization)
    read_at = max((policy.read_at for policy in found), default=None)
    asked = request.GET.get("asked", "")
    waited = time.time() - int(asked) if asked.isascii() and asked.isdecimal() and len(asked) < 12 else None
    is_awaited = waited is not None and (read_at is None or read_at.timestamp() < int(asked))
    context = {
        "organization": organization,
        "tenant": organization.tenant,
        "rows": [(policy, counts.get(policy.pk, 0)) for policy in found],
        "read_at": read_at,
        "is_awaited": is_awaited and waited is not None and waited < PATIENCE,
        "is_overdue": is_awaited and waited is not None and waited >= PATIENCE,
        "commands": told,
        "is_live": any_open(told) or (is_awaited and waited is not None and waited < PATIENCE),
        "here": request.get_full_path(),
        "allowed": actions_in(request.user, organization.tenant),
    }
    return render(request, "pages/mailbox_policies.html", context)


@require_POST
def read(request: HttpRequest, public_id: uuid.UUID) -> HttpResponse:
    """Have them read now."""
    organization = organization_of(request, public_id)
    require(request.user, Action.SYNC, organization.tenant)
    address = reverse("organization_mailbox_policies", args=[public_id])
    try:
        policies_request(organization=organization)
    except ValidationError as error:
        messages.error(request, error.messages[0])
        return redirect(address)
    return redirect(f"{address}?{urlencode({'asked': int(time.time())})}")


@require_safe
def compare(request: HttpRequest, public_id: uuid.UUID) -> HttpResponse:
    """Two policies side by side: where they differ, or all of it."""
    organization = organization_of(request, public_id)
    found = policies_of(request, organization)
    one, other = (_chosen(found, request.GET.get(name, "")) for name in ("one", "other"))
    is_all = request.GET.get("all") == "on"
    pairs = []
    if one is not None and other is not None:
        left, right = settings_of(one), settings_of(other)
        names = [name for name in shown_names() if name in left or name in right] if is_all else None
        pairs = pairs_said(left, right, version=organization.version, names=names)
    context = {
        "organization": organization,
        "tenant": organization.tenant,
        "policies": found,
        "one": one,
        "other": other,
        "is_all": is_all,
        "pairs": pairs,
    }
    return render(request, "pages/mailbox_policies_compare.html", context)


def _chosen(found: Sequence[MailboxPolicy], text: str) -> MailboxPolicy | None:
    return next((policy for policy in found if str(policy.public_id) == text.lower()), None)


# --- one policy -------------------------------------------------------------------------------------------------------


@require_safe
def policy(request: HttpRequest, public_id: uuid.UUID) -> HttpResponse:
    found = policy_of(request, public_id)
    organization = found.organization
    told = commands_told(request, organization, found)
    context = {
        **_around(request, found),
        "groups": groups_said(settings_of(found), version=organization.version),
        "assigned": mailboxes_of(found).count() if found.gone_at is None else 0,
        "others": [other for other in policies_of(request, organization) if other.pk != found.pk],
        "commands": told,
        "is_live": any_open(told),
        "here": request.get_full_path(),
    }
    return render(request, "pages/mailbox_policy.html", context)


def _around(request: HttpRequest, found: MailboxPolicy) -> dict[str, Any]:
    return {
        "policy": found,
        "organization": found.organization,
        "tenant": found.organization.tenant,
        "allowed": actions_in(request.user, found.organization.tenant),
    }


@require_http_methods(["GET", "HEAD", "POST"])
def make_default(request: HttpRequest, public_id: uuid.UUID) -> HttpResponse:
    """Ask, and do it."""
    found = policy_of(request, public_id)
    require(request.user, Action.POLICY, found.organization.tenant)
    if request.method == "POST" and (answer := _ordered(request, found, policy_make_default)) is not None:
        return answer
    former = next((one for one in policies_of(request, found.organization) if one.is_default), None)
    context = {
        **_around(request, found),
        "key": uuid.uuid4().hex,
        "former": former,
        "affected": mailboxes_of(former).filter(mailbox_policy="").count() if former is not None else 0,
    }
    return render(request, "pages/mailbox_policy_default.html", context)


@require_http_methods(["GET", "HEAD", "POST"])
def remove(request: HttpRequest, public_id: uuid.UUID) -> HttpResponse:
    """Ask, and do it."""
    found = policy_of(request, public_id)
    require(request.user, Action.POLICY, found.organization.tenant)
    if request.method == "POST" and (answer := _ordered(request, found, policy_remove)) is not None:
        return answer
    default = next((one for one in policies_of(request, found.organization) if one.is_default), None)
    context = {
        **_around(request, found),
        "key": uuid.uuid4().hex,
        "default": default,
        "affected": own_mailboxes_of(found).count(),
    }
    return render(request, "pages/mailbox_policy_remove.html", context)


def _ordered(request: HttpRequest, found: MailboxPolicy, order: Any) -> HttpResponse | None:
    """The answer after ordering; None when it was refused, which is said then."""
    try:
        command = order(policy=found, key=request.POST.get("key", ""), actor=actor_of(request.user))
    except ValidationError as error:
        messages.error(request, error.messages[0])
        return None
    say_ordered(request, [command])
    return redirect("mailbox_policy", public_id=found.public_id)


# --- who has it -------------------------------------------------------------------------------------------------------


@require_http_methods(["GET", "HEAD", "POST"])
def mailboxes(request: HttpRequest, public_id: uuid.UUID) -> HttpResponse:
    """Mailboxes that have the policy, or the others; and giving it, or the default again."""
    found = policy_of(request, public_id)
    if request.method == "POST":
        require(request.user, Action.POLICY, found.organization.tenant)
        return _assign(request, found)
    others, text = request.GET.get("which") == "others", searched(request.GET)
    every = Mailbox.objects.filter(organization=found.organization, gone_at=None)
    rows = every.exclude(pk__in=mailboxes_of(found).values("pk")) if others else mailboxes_of(found)
    page = Paginator(_searched(rows, text).order_by("display_name", "pk"), PAGE_SIZE).get_page(request.GET.get("page"))
    told = commands_told(request, found.organization, found)
    context = {
        **_around(request, found),
        "page": page,
        "rows": _rows(page.object_list, policies_of(request, found.organization)),
        "others": others,
        "query": text,
        "known": every.count(),
        "key": uuid.uuid4().hex,
        "links": {
            "previous": _page_link(request, page.previous_page_number()) if page.has_previous() else "",
            "next": _page_link(request, page.next_page_number()) if page.has_next() else "",
        },
        "commands": told,
        "is_live": any_open(told),
        "here": request.get_full_path(),
    }
    return render(request, "pages/mailbox_policy_mailboxes.html", context)


def _page_link(request: HttpRequest, number: int) -> str:
    return "?" + urlencode({**{key: value for key, value in request.GET.items() if value}, "page": number})


def _searched(rows: QuerySet[Mailbox], text: str) -> QuerySet[Mailbox]:
    if not text:
        return rows
    return rows.filter(Q(display_name__icontains=text) | Q(primary_smtp__icontains=text) | Q(identity__icontains=text))


def _rows(shown: Iterable[Mailbox], found: Sequence[MailboxPolicy]) -> list[MailboxRow]:
    by_name = {name: policy.name for policy in found for name in names_of(policy)}
    default = next((policy.name for policy in found if policy.is_default), "")
    return [
        MailboxRow(
            mailbox,
            by_name.get(mailbox.mailbox_policy.strip().lower(), mailbox.mailbox_policy) or default,
            bool(mailbox.mailbox_policy),
        )
        for mailbox in shown
    ]


def _assign(request: HttpRequest, found: MailboxPolicy) -> HttpResponse:
    chosen = [text for text in request.POST.getlist("mailbox") if _is_uuid(text)]
    rows = Mailbox.objects.filter(organization=found.organization, public_id__in=chosen[: 2 * PAGE_SIZE])
    which = "others" if request.POST.get("step") == "assign" else ""
    address = reverse("mailbox_policy_mailboxes", args=[found.public_id])
    back = redirect(f"{address}?which={which}" if which else address)
    selected = list(rows.order_by("pk"))
    if not selected:
        messages.error(request, _("Choose at least one mailbox."))
        return back
    try:
        commands = policy_assign(
            organization=found.organization,
            mailboxes=selected,
            policy=found if which else None,
            key=request.POST.get("key", ""),
            actor=actor_of(request.user),
        )
    except ValidationError as error:
        messages.error(request, error.messages[0])
        return back
    say_ordered(request, commands)
    return back


def _is_uuid(text: str) -> bool:
    try:
        uuid.UUID(text)
    except ValueError:
        return False
    return True

"""A device's page: what is wanted for it and why, what Exchange shows, what was done, and all that ever happened."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Any

from django.db.models import Q
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_safe

from connectors.models import Connector
from connectors.selectors import connectors_for
from console.accounts.permissions import actions_in
from console.pages.device_words import REASONS, STATES, account_wipe_refusal
from sync.deciding.entries import NOWHERE, Named
from sync.deciding.facts import Key
from sync.deciding.matches import Suggestion
from sync.models import (
    AccessOverride,
    Approval,
    Command,
    DeviceEvent,
    DeviceLink,
    DeviceStatistics,
    Drift,
    EntryChoice,
    HeldDenial,
    ManagedDevice,
    MobileDevice,
)
from sync.policies.policy_words import DOUBT_WORDS
from sync.selectors import devices_for, runs_for
from sync.showing import access_words as words
from sync.showing.access_words import said
from sync.showing.device_story import level, sentence
from sync.showing.explain import Explained, explained, lines_stored
from sync.showing.wishes import wishes

EVENTS_SHOWN = 30
COMMANDS_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Suggested:
    """A record that may be the device's, with the words for why."""

    record: ManagedDevice
    confidence: str
    why: str
    instead_of: str


@dataclass(frozen=True, slots=True)
class EntryLine:
    """The device on one of the mailbox's lists. whose: entries.Whose; choice: a person's, if any."""

    listed: str
    whose: str
    words: str
    written: tuple[str, ...]
    choice: EntryChoice | None


@dataclass(frozen=True, slots=True)
class Told:
    event: DeviceEvent
    sentence: str
    level: str


@dataclass(frozen=True, slots=True)
class WipeCourse:
    """How far a wipe is, by the times that Exchange told when its statistics were read last."""

    is_account: bool
    requested_at: Any
    sent_at: Any
    acknowledged_at: Any

    @property
    def is_pending(self) -> bool:
        return self.requested_at is not None and (
            self.acknowledged_at is None or self.acknowledged_at < self.requested_at
        )


def device_of(request: HttpRequest, public_id: uuid.UUID) -> MobileDevice:
    """The device, if the person may see it; Http404 otherwise."""
    rows = devices_for(request.user).select_related("organization__tenant", "access", "owner__person", "statistics")
    found: MobileDevice = get_object_or_404(rows, public_id=public_id)
    return found


def device_title(found: MobileDevice) -> str:
    """What a person would call it: its name, else its model, else its type, else its ID."""
    return found.friendly_name or found.device_model or found.device_type or found.device_id


@require_safe
def device(request: HttpRequest, public_id: uuid.UUID) -> HttpResponse:
    """All that is known of one device."""
    found = device_of(request, public_id)
    tenant = found.organization.tenant
    connector = connectors_for(request.user).filter(organization=found.organization).first()
    others = devices_for(request.user).filter(
        organization=found.organization, mailbox_key=found.mailbox_key, gone_at=None
    )
    context = {
        "device": found,
        "title": device_title(found),
        "organization": found.organization,
        "tenant": tenant,
        "connector": connector,
        "allowed": actions_in(request.user, tenant),
        "state_words": STATES.get(found.access_state, ""),
        "reason_words": REASONS.get(found.access_state_reason, ""),
        "seen_in": _seen_in(request, connector, found),
        "removed": _removed(found),
        "others": list(others.exclude(pk=found.pk).order_by("device_model", "pk")[:20]) if found.mailbox_key else [],
        **_decided(found),
        **_done(found),
        **_story(request, found, tenant.time_zone),
    }
    return render(request, "pages/device.html", context)


def _removed(found: MobileDevice) -> DeviceEvent | None:
    """Its removal from here, where that is why it is gone."""
    if found.gone_at is None:
        return None
    last = found.events.filter(code__in=("removed", "gone", "back")).order_by("-pk").first()
    return last if last is not None and last.code == "removed" else None


def _seen_in(request: HttpRequest, connector: Connector | None, found: MobileDevice) -> Any:
    """The run that saw it last; None when that run is of an older connector."""
    if connector is None or not found.seen_fence:
        return None
    return runs_for(request.user).filter(connector=connector, fence=found.seen_fence).first()


# --- what is wanted, and why ------------------------------------------------------------------------------------------


def _decided(found: MobileDevice) -> dict[str, Any]:
    now = explained(found)
    access = getattr(found, "access", None)
    return {
        "access": access,
        "now": now,
        "lines": now.lines if now else lines_stored(access.rule) if access else (),
        "is_newer": now is not None and access is not None and _word(now) != (access.access, access.state, access.rule),
        "doubts": [said(DOUBT_WORDS, doubt) for doubt in now.doubts] if now else [],
        "wish": wishes([found])[found.pk],
        "entries": _entries(found, now.named if now else NOWHERE),
        "override": _override(found),
        "drift": _drift(found) if access is not None and access.hindered_by else None,
        "waiting": HeldDenial.objects.filter(device=found, approval__state=Approval.State.WAITING)
        .select_related("approval")
        .first(),
        **_records(found, now),
    }


def _word(now: Explained) -> tuple[str, str, str]:
    return (str(now.verdict.access), str(now.verdict.state), str(now.verdict.row))


def _override(found: MobileDevice) -> AccessOverride | None:
    if found.owner_id is None:
        return None
    return AccessOverride.objects.filter(
        mailbox=found.owner_id, device_id_key=found.device_id_key, ended_at=None
    ).first()


def _drift(found: MobileDevice) -> Drift | None:
    """The entry of somebody else that hinders, to be adopted or overridden."""
    if found.owner_id is None:
        return None
    kinds = (Drift.Kind.FOREIGN_ALLOW, Drift.Kind.FOREIGN_BLOCK)
    return Drift.objects.filter(
        mailbox=found.owner_id, device_id_key=found.device_id_key, kind__in=kinds, ended_at=None
    ).first()


def _entries(found: MobileDevice, named: Named) -> list[EntryLine]:
    choices = {
        choice.listed: choice
        for choice in EntryChoice.objects.filter(mailbox=found.owner_id, device_id_key=found.device_id_key)
    }
    sides = (("allowed", named.allowed, named.written_allowed), ("blocked", named.blocked, named.written_blocked))
    return [
        EntryLine(listed, str(whose), said(words.WHOSE, whose), written, choices.get(listed))
        for listed, whose, written in sides
        if whose is not None
    ]


def _records(found: MobileDevice, now: Explained | None) -> dict[str, Any]:
    """The record that it is matched with, further ones, suggestions, and what people said of records."""
    links = list(
        DeviceLink.objects.filter(mailbox=found.owner_id, device_id_key=found.device_id_key)
        .select_related("managed_device")
        .order_by("-made_at")
        if found.owner_id is not None
        else ()
    )
    match = now.match if now else None
    record_key: Key | None = match.record.key if match and match.record else None
    if now is None:
        access = getattr(found, "access", None)
        record_key = access.managed_device_id if access else None
    other_keys = [other.key for other in match.others] if match else []
    suggestions = match.suggestions if match else ()
    wanted = {key for key in (record_key, *other_keys, *(one.record for one in suggestions)) if key is not None}
    rows = ManagedDevice.objects.filter(tenant=found.organization.tenant).in_bulk([int(key) for key in wanted])
    outcome = str(match.outcome) if match else getattr(getattr(found, "access", None), "outcome", "")
    return {
        "outcome": outcome,
        "record": rows.get(int(record_key)) if record_key is not None else None,
        "record_others": [rows[int(key)] for key in other_keys if int(key) in rows],
        "device_by": said(words.DEVICE_BY, match.device_by) if match else "",
        "user_by": said(words.USER_BY, match.user_by) if match else "",
        "suggestions": [_suggested(one, rows) for one in suggestions if int(one.record) in rows],
        "links": links,
    }


def _suggested(one: Suggestion, rows: dict[int, ManagedDevice]) -> Suggested:
    return Suggested(
        rows[int(one.record)], said(words.CONFIDENCES, one.confidence), said(words.LIKENESSES, one.likeness),
        one.instead_of,
    )  # fmt: skip


# --- what was done ----------------------------------------------------------------------------------------------------


def _done(found: MobileDevice) -> dict[str, Any]:
    told = DeviceEvent.objects.filter(device=found, command__isnull=False).values("command")
    commands = list(
        Command.objects.filter(Q(device=found) | Q(pk__in=told)).select_related("run").order_by("-pk")[:COMMANDS_SHOWN]
    )
    courses = _courses(getattr(found, "statistics", None))
    return {
        "commands": commands,
        "is_busy": any(command.state in Command.OPEN for command in commands),
        "statistics": getattr(found, "statistics", None),
        "courses": courses,
        "has_pending_wipe": any(course.is_pending for course in courses),
        "cancel_key": uuid.uuid4().hex,
        "account_wipe_refusal": account_wipe_refusal(found),
    }


def _courses(statistics: DeviceStatistics | None) -> list[WipeCourse]:
    if statistics is None:
        return []
    found = []
    if statistics.wipe_requested_at or statistics.wipe_sent_at or statistics.wipe_acknowledged_at:
        found.append(
            WipeCourse(False, statistics.wipe_requested_at, statistics.wipe_sent_at, statistics.wipe_acknowledged_at)
        )
    if statistics.account_wipe_requested_at or statistics.account_wipe_acknowledged_at:
        found.append(
            WipeCourse(
                True,
                statistics.account_wipe_requested_at,
                statistics.account_wipe_sent_at,
                statistics.account_wipe_acknowledged_at,
            )
        )
    return found


# --- its story --------------------------------------------------------------------------------------------------------


def _story(request: HttpRequest, found: MobileDevice, zone: str) -> dict[str, Any]:
    """One page of events, newest first; `before` in the address is the last event of the page before."""
    rows = DeviceEvent.objects.filter(device=found).select_related("run", "command").order_by("-pk")
    before = request.GET.get("before", "")
    is_first = not (before.isascii() and before.isdigit() and len(before) < 19)
    if not is_first:
        rows = rows.filter(pk__lt=int(before))
    events = list(rows[: EVENTS_SHOWN + 1])
    has_more = len(events) > EVENTS_SHOWN
    events = events[:EVENTS_SHOWN]
    return {
        "story": [Told(event, sentence(event, zone), level(event)) for event in events],
        "story_next": f"?before={events[-1].pk}#story" if has_more else "",
        "story_first": "" if is_first else "?#story",
        "story_text": _("Newest first") if is_first else _("Older events"),
    }

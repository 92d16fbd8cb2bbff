"""What pages and programs read of runs and devices. Each takes the person, and shows what that person may see."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from django.db.models import Count, OuterRef, Q, QuerySet, Subquery
from django.utils import timezone

from connectors.models import Connector, ExchangeOrganization
from connectors.selectors import Person, organizations_for, tenants_for
from sync.models import (
    AccessOverride,
    Approval,
    Command,
    Drift,
    HeldDenial,
    ManagedDevice,
    MobileDevice,
    Notification,
    SyncRun,
)


def runs_for(person: Person) -> QuerySet[SyncRun]:
    """Runs of the connectors a person may see, newest first."""
    return (
        SyncRun.objects.filter(connector__organization__in=organizations_for(person))
        .select_related("connector__organization__tenant")
        .order_by("-queued_at", "-pk")
    )


def devices_for(person: Person) -> QuerySet[MobileDevice]:
    """Devices, those that are gone too, of the organisations a person may see."""
    return MobileDevice.objects.filter(organization__in=organizations_for(person)).select_related(
        "organization__tenant"
    )


def records_for(person: Person) -> QuerySet[ManagedDevice]:
    """Device records, those that are gone too, of the tenants a person may see."""
    return ManagedDevice.objects.filter(tenant__in=tenants_for(person))


def latest_runs(connectors: Iterable[Connector]) -> dict[int, SyncRun]:
    """The newest run of each connector by the connector's key; two queries however many there are."""
    newest = SyncRun.objects.filter(connector=OuterRef("pk")).order_by("-queued_at", "-pk").values("pk")[:1]
    keys = Connector.objects.filter(pk__in=[c.pk for c in connectors]).values_list(Subquery(newest), flat=True)
    return {run.connector_id: run for run in SyncRun.objects.filter(pk__in=[k for k in keys if k])}


# Phases in which what is expected is counted.
_COUNTED = (SyncRun.Phase.DEVICES, SyncRun.Phase.STATISTICS)


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is. Seconds; None where nothing can be said yet. done: of `expected`, read or given up."""

    phase: str
    observed: int
    expected: int | None
    rate_per_second: float | None
    remaining_seconds: float | None
    elapsed_seconds: float | None
    done: int = 0

    @property
    def percent(self) -> int | None:
        """0 to 100, or None when what is expected is not known."""
        if not self.expected:
            return None
        return min(100, self.done * 100 // self.expected)


def run_progress(run: SyncRun, now: datetime.datetime | None = None) -> Progress:
    """Reckoned from the row alone. Rate over the time of the device listing so far, or of reading statistics."""
    now = now or timezone.now()
    # The row's times are the database's; a console whose clock is behind must not show a time before the start.
    elapsed = max(0.0, ((run.finished_at or now) - run.started_at).total_seconds()) if run.started_at else None
    since = run.devices_started_at
    seconds = ((run.finished_at or now) - since).total_seconds() if since else 0.0
    rate = run.observed / seconds if seconds > 0 and run.observed else None
    # A listing does not expect what it cannot read; of statistics, a mailbox that cannot be read is done with.
    done = run.observed + (run.rejected if run.kind == SyncRun.Kind.STATISTICS else 0)
    remaining = None
    if run.status == SyncRun.Status.RUNNING and run.phase in _COUNTED and rate and run.expected:
        remaining = max(0.0, (run.expected - done) / rate)
    return Progress(run.phase, run.observed, run.expected, rate, remaining, elapsed, done)


# --- access -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class AccessCounts:
    """Of one organization. states: present devices by the state that their verdict comes to (facts.State); undecided
    ones are under "". pending: commands under way. waiting: denials that wait for approval. drifts: open ones, of which
    alarms stand against a verdict."""

    states: Mapping[str, int]
    pending: int = 0
    waiting: int = 0
    drifts: int = 0
    alarms: int = 0


def access_counts(person: Person, organization: ExchangeOrganization) -> AccessCounts:
    """What an organization's pages show at a glance; nothing of an organization that the person may not see."""
    if not organizations_for(person).filter(pk=organization.pk).exists():
        return AccessCounts({})
    devices = MobileDevice.objects.filter(organization=organization, gone_at=None)
    states = devices.values_list("access__state").annotate(count=Count("pk")).order_by()
    drifts = Drift.objects.filter(organization=organization, ended_at=None).aggregate(
        all=Count("pk"), alarms=Count("pk", filter=Q(is_alarm=True))
    )
    held = HeldDenial.objects.filter(approval__organization=organization, approval__state=Approval.State.WAITING)
    return AccessCounts(
        states={state or "": count for state, count in states},
        pending=Command.objects.filter(organization=organization, state__in=Command.OPEN).count(),
        waiting=held.count(),
        drifts=drifts["all"],
        alarms=drifts["alarms"],
    )


def approvals_for(person: Person) -> QuerySet[Approval]:
    """Approvals of the organizations a person may see, newest first."""
    return (
        Approval.objects.filter(organization__in=organizations_for(person))
        .select_related("organization__tenant", "run")
        .order_by("-made_at", "-pk")
    )


def approvals_pending(person: Person) -> QuerySet[Approval]:
    """Those of them that wait, oldest first, each with its number of `devices`."""
    rows = approvals_for(person).filter(state=Approval.State.WAITING)
    return rows.annotate(devices=Count("denials")).order_by("made_at", "pk")


def drifts_for(person: Person) -> QuerySet[Drift]:
    """Drift, ended too, of the organizations a person may see, newest first."""
    return (
        Drift.objects.filter(organization__in=organizations_for(person))
        .select_related("organization__tenant", "mailbox", "device")
        .order_by("-first_seen_at", "-pk")
    )


def commands_for(person: Person) -> QuerySet[Command]:
    """The journal of the organizations a person may see, newest first."""
    return (
        Command.objects.filter(organization__in=organizations_for(person))
        .select_related("organization__tenant", "mailbox", "device", "run")
        .order_by("-planned_at", "-pk")
    )


def overrides_for(person: Person) -> QuerySet[AccessOverride]:
    """Administrators' own decisions, ended ones too, of the organizations a person may see, newest first."""
    return (
        AccessOverride.objects.filter(organization__in=organizations_for(person))
        .select_related("organization__tenant", "mailbox")
        .order_by("-made_at", "-pk")
    )


def notifications_for(person: Person) -> QuerySet[Notification]:
    """Mails to people of the organizations a person may see, newest first."""
    return (
        Notification.objects.filter(organization__in=organizations_for(person))
        .select_related("organization__tenant", "device", "run")
        .order_by("-pk")
    )

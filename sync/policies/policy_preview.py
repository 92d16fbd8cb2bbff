"""Who would lose mail by a policy that is not saved yet. Reads and reckons; changes nothing and asks no server.

The pure phases say so themselves: the organization's world is loaded with the policy that is wanted, and what decide,
plan and guard come to is what a run would do.
"""

from __future__ import annotations

import datetime
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from django.utils import timezone

from connectors.models import ExchangeOrganization
from sync.deciding.decide import decide
from sync.deciding.effects import Denial
from sync.deciding.facts import Key, Level
from sync.deciding.guard import newly_denied
from sync.deciding.plan import plan
from sync.deciding.verdicts import Row, Verdict
from sync.deciding.world import World
from sync.enforcing.loading import Loaded, world_load, worlds
from sync.models import DirectoryGroup, MobileDevice
from sync.policies.policy import GrandfatheringValues, GroupRef, OrganizationPolicyValues, TenantPolicyValues

SHOWN = 200
# Rows in one IN (...); SQLite takes 32766 values.
BLOCK = 5000
# Seconds after which no further organization of a tenant is begun: a person waits for the page.
PATIENCE = 20.0


@dataclass(frozen=True, slots=True)
class Loss:
    """One device that has mail and would lose it. row: of the decision table, as it is stored."""

    device: int
    before: Level
    after: Level
    row: str
    reason: str


@dataclass(frozen=True, slots=True)
class Preview:
    """losses: all of them, by row and device. people: mailboxes they belong to. kept: devices that the table keeps
    although the default level would not (grandfathering), kept_unknown: those among them whose last sync nobody knows.

    is_held: so many wait for approval on the console instead of being denied at once. doubts: codes of loading.py for
    why nothing would be denied at all as yet. groups_unread: groups of the policy whose members were never read; what
    they come to is not in the numbers.
    """

    organization: ExchangeOrganization
    total: int
    losses: tuple[Loss, ...] = ()
    people: int = 0
    by_row: tuple[tuple[str, int], ...] = ()
    kept: int = 0
    kept_unknown: int = 0
    is_held: bool = False
    doubts: tuple[str, ...] = ()
    groups_unread: tuple[str, ...] = ()

    @property
    def percent(self) -> float:
        return len(self.losses) * 100 / self.total if self.total else 0.0


@dataclass(frozen=True, slots=True)
class TenantPreview:
    """organizations: by name. uncounted: those that there was no time for."""

    organizations: tuple[Preview, ...]
    uncounted: tuple[ExchangeOrganization, ...] = ()

    @property
    def total(self) -> int:
        return sum(one.total for one in self.organizations)

    @property
    def losses(self) -> int:
        return sum(len(one.losses) for one in self.organizations)


def organization_preview(
    *,
    organization: ExchangeOrganization,
    tenant_values: TenantPolicyValues | None = None,
    organization_values: OrganizationPolicyValues | None = None,
    now: datetime.datetime | None = None,
    load: Callable[..., Iterator[Loaded]] = worlds,
) -> Preview:
    """What these values would come to; None: those in force. The organization is looked at some mailboxes at a time."""
    now = now or timezone.now()
    frame = world_load(
        organization.pk,
        mailboxes=(),
        now=now,
        tenant_values=tenant_values,
        organization_values=organization_values,
    )
    tenant = frame.tenant
    reckoning = _Reckoning()
    for loaded in load(organization.pk, now=now, tenant_values=tenant_values, organization_values=organization_values):
        reckoning.add(loaded.world)
    losses = sorted(reckoning.losses, key=lambda loss: (loss.row, loss.device))
    return Preview(
        organization=organization,
        total=frame.total_devices,
        losses=tuple(losses),
        people=len(reckoning.mailboxes),
        by_row=tuple(Counter(loss.row for loss in losses).most_common()),
        kept=reckoning.kept,
        kept_unknown=reckoning.kept_unknown,
        is_held=tenant.limits().are_passed(len(losses), frame.total_devices),
        doubts=frame.doubts,
        groups_unread=_unread(organization.tenant_id, (*tenant.included_groups, *tenant.excluded_groups)),
    )


def tenant_preview(
    *,
    organizations: Iterable[ExchangeOrganization],
    tenant_values: TenantPolicyValues,
    now: datetime.datetime | None = None,
    load: Callable[..., Iterator[Loaded]] = worlds,
    clock: Callable[[], float] = time.monotonic,
) -> TenantPreview:
    """What a tenant's values would come to in each of its organizations, until PATIENCE is over."""
    end = clock() + PATIENCE
    done: list[Preview] = []
    left: list[ExchangeOrganization] = []
    for organization in organizations:
        if done and clock() > end:
            left.append(organization)
        else:
            done.append(
                organization_preview(organization=organization, tenant_values=tenant_values, now=now, load=load)
            )
    return TenantPreview(tuple(done), tuple(left))


class _Reckoning:
    """What is kept of each part of an organization."""

    def __init__(self) -> None:
        self.losses: list[Loss] = []
        self.mailboxes: set[Key] = set()
        self.kept = self.kept_unknown = 0

    def add(self, world: World) -> None:
        verdicts = decide(world)
        devices = {device.key: device for device in world.devices}
        for denial in newly_denied(world, plan(world, verdicts)):
            self.losses.append(_loss(denial, verdicts[denial.device]))
            self.mailboxes.add(devices[denial.device].mailbox)
        kept = [devices[key] for key, verdict in verdicts.items() if verdict.row is Row.GRANDFATHERED]
        self.kept += len(kept)
        self.kept_unknown += sum(device.last_success is None for device in kept)


def _loss(denial: Denial, verdict: Verdict) -> Loss:
    return Loss(int(denial.device), denial.before, denial.after, verdict.row.value, verdict.reason.value)


# --- groups ---------------------------------------------------------------------------------------------------------


def _unread(tenant_id: int, groups: Sequence[GroupRef]) -> tuple[str, ...]:
    if not groups:
        return ()
    read = set(
        DirectoryGroup.objects.filter(
            tenant=tenant_id, source_id__in=[group.id for group in groups], read_at__isnull=False
        ).values_list("source_id", flat=True)
    )
    return tuple(group.name or group.id for group in groups if group.id not in read)


# --- keeping devices that are in use ----------------------------------------------------------------------------------


def grandfathering(*, days: int, until: datetime.datetime, now: datetime.datetime) -> GrandfatheringValues:
    """Devices known now that synced in the last `days` days keep their access until `until`."""
    return GrandfatheringValues(
        decided=now.isoformat(),
        synced_since=(now - datetime.timedelta(days=days)).isoformat(),
        until=until.isoformat(),
        days=days,
    )


# --- what is shown of them ------------------------------------------------------------------------------------------


def losses_with_devices(losses: Sequence[Loss]) -> Iterator[tuple[Loss, MobileDevice]]:
    """Each loss with its device's row, in order; one query a block. A device deleted meanwhile is left out."""
    for start in range(0, len(losses), BLOCK):
        block = losses[start : start + BLOCK]
        rows = MobileDevice.objects.select_related("owner", "statistics").in_bulk([loss.device for loss in block])
        for loss in block:
            if loss.device in rows:
                yield loss, rows[loss.device]

"""What the pure phases are told, read from the tables: an organization some mailboxes at a time, or those asked for.

Reads alone. However many devices there are, no more of them is held than a block's: some mailboxes come with all that
could speak about them (world_rows.py), so that their verdicts are those of the whole.
"""

from __future__ import annotations

import datetime
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from django.db.models import Count, Exists, OuterRef, Q

from connectors.models import DeviceSource, ExchangeOrganization
from sync.blocks import blocks
from sync.deciding import facts
from sync.deciding.facts import Partnership, id_key
from sync.deciding.match import match
from sync.deciding.world import World
from sync.enforcing.world_rows import Reader
from sync.models import (
    AccessOverride,
    DirectoryGroup,
    LedgerEntry,
    Mailbox,
    ManagedDevice,
    MobileDevice,
    OrganizationLedger,
)
from sync.observing.rulebook import rules_from_json, settings_facts, settings_from_json
from sync.policies.policy import OrganizationPolicyValues, TenantPolicyValues
from sync.policies.policy_rows import organization_policy, tenant_policy

# Why no new denial may be enacted: what is not known of people and records must keep nobody out.
NO_SOURCE, RECORDS_NEVER_READ, PEOPLE_NEVER_READ, GROUP_NEVER_READ = (
    "noSource", "recordsNeverRead", "peopleNeverRead", "groupNeverRead",
)  # fmt: skip
# So long the entries of phones are kept that went too many at once: long enough that somebody sees that they are gone.
ABSENT = datetime.timedelta(days=7)
# Mailboxes of one block: enough that few statements read many, and little enough to be held at once.
BLOCK = 2000


@dataclass(frozen=True, slots=True)
class Loaded:
    """Some mailboxes of an organization at one moment, with their phones. mailboxes: those that were asked for.
    total_devices: of the whole organization. doubts: codes of what was never read; while there is one, nobody may newly
    be kept out."""

    organization: ExchangeOrganization
    tenant: TenantPolicyValues
    policy: OrganizationPolicyValues
    world: World
    mailboxes: frozenset[int]
    total_devices: int
    doubts: tuple[str, ...] = ()


def world_load(
    organization_id: int,
    *,
    mailboxes: Collection[int],
    now: datetime.datetime,
    tenant_values: TenantPolicyValues | None = None,
    organization_values: OrganizationPolicyValues | None = None,
) -> Loaded:
    """Some mailboxes as `now` (aware) finds them; none: settings, rules and policy alone. What is gone is not in it.
    Values given replace the policy in force, to see what they would come to."""
    return Whole(organization_id, now, tenant_values, organization_values).part(mailboxes)


def worlds(
    organization_id: int,
    *,
    mailboxes: Collection[int] | None = None,
    now: datetime.datetime,
    tenant_values: TenantPolicyValues | None = None,
    organization_values: OrganizationPolicyValues | None = None,
    size: int | None = None,
) -> Iterator[Loaded]:
    """The organization a block of mailboxes after another, as Whole.parts() tells."""
    return Whole(organization_id, now, tenant_values, organization_values).parts(mailboxes, size)


class Whole:
    """An organization to be read in parts: policy, settings and rules are read now, and are the same for each."""

    def __init__(
        self,
        organization_id: int,
        now: datetime.datetime,
        tenant_values: TenantPolicyValues | None = None,
        organization_values: OrganizationPolicyValues | None = None,
    ) -> None:
        self.now = now
        self.organization = ExchangeOrganization.objects.select_related("tenant").get(pk=organization_id)
        self.tenant = tenant_values or tenant_policy(self.organization.tenant_id)
        self.policy = organization_values or organization_policy(organization_id)
        self.ledger = OrganizationLedger.objects.filter(organization_id=organization_id).first()
        self.devices = MobileDevice.objects.filter(organization_id=organization_id, gone_at=None)
        # One walk of the devices for both: it is made for each few mailboxes that are looked at.
        counted = MobileDevice.objects.filter(organization_id=organization_id).aggregate(
            total=Count("pk", filter=Q(gone_at=None)), gone=Count("pk", filter=Q(gone_at__gte=now - ABSENT))
        )
        self.total: int = counted["total"]
        self.doubts = doubts_of(self.organization.tenant_id, self.tenant)
        self.absent = self._absent() if counted["gone"] > self.tenant.guard_devices else frozenset()
        self.heard_at = heard_at(self.organization.tenant_id)

    def parts(self, mailboxes: Collection[int] | None = None, size: int | None = None) -> Iterator[Loaded]:
        """A block of mailboxes after another, each read when it is asked for; mailboxes: of these alone.

        At last come the phones whose mailbox has no row. Theirs is none of the world: nothing is written for them.
        """
        size = size or BLOCK
        for chosen in blocks(self._mailboxes() if mailboxes is None else sorted(mailboxes), size):
            yield self.part(chosen)
        for strays in blocks(self._strays() if mailboxes is None else (), size):
            yield self.part((), strays)

    def _mailboxes(self) -> list[int]:
        """Those that are gone too: a phone may still be there."""
        rows = Mailbox.objects.filter(organization=self.organization)
        return list(rows.order_by("pk").values_list("pk", flat=True))

    def _strays(self) -> list[int]:
        return list(self.devices.filter(owner=None).order_by("pk").values_list("pk", flat=True))

    def _absent(self) -> frozenset[Partnership]:
        """Phones that went lately and are let in by an entry of ours, where they are more than the guard lets be denied
        at once: what left them out may be the listing, and no guard counts phones that are not there."""
        ours = LedgerEntry.objects.filter(
            mailbox=OuterRef("owner"), listed="allowed", device_id_key=OuterRef("device_id_key")
        )
        gone = MobileDevice.objects.filter(
            Exists(ours), organization=self.organization, gone_at__gte=self.now - ABSENT, owner__isnull=False
        )
        absent = {(owner, id_key(text)) for owner, text in gone.values_list("owner_id", "device_id") if owner}
        is_over = self.tenant.limits().are_passed(len(absent), self.total + len(absent))
        return frozenset(absent) if is_over else frozenset()

    def part(self, mailboxes: Collection[int], strays: Collection[int] = ()) -> Loaded:
        reader = Reader(self.organization, self.tenant, mailboxes, strays)
        devices, boxes, links = reader.devices(), reader.mailboxes(), reader.links()
        records, users = reader.records_and_users(devices, boxes.values(), links)
        ledger = self.ledger
        world = World(
            now=self.now,
            devices=devices,
            matches=match(devices, boxes.values(), records, users, links),
            mailboxes=boxes,
            tenant=self.tenant.facts(),
            organization=self.policy.facts(),
            exchange=settings_facts(self.organization),
            ledger=facts.Ledger(
                entries=reader.entries(),
                rules=rules_from_json(ledger.rules) if ledger else (),
                settings=settings_from_json(ledger.settings) if ledger else None,
            ),
            overrides=reader.overrides(),
            choices=reader.choices(),
            absent=self.absent,
            heard_at=self.heard_at,
        )
        return Loaded(self.organization, self.tenant, self.policy, world, frozenset(mailboxes), self.total, self.doubts)


def is_governed(organization: ExchangeOrganization) -> bool:
    """Whether mailboxes and records matter at all: something is to be decided, can be matched, or is ours to undo."""
    has_source = DeviceSource.objects.filter(tenant_id=organization.tenant_id).exclude(kind=DeviceSource.Kind.NONE)
    return is_enforcing(organization) or has_source.exists()


def is_enforcing(organization: ExchangeOrganization) -> bool:
    """Whether there is anything to bring to Exchange: a policy, a person's word, or what is ours there."""
    if tenant_policy(organization.tenant_id).enabled:
        return True
    policy = organization_policy(organization.pk)
    is_set = (policy.default_level, policy.user_mail_insert, policy.admin_mail_recipients)
    if policy.rules or any(value is not None for value in is_set):
        return True
    return (
        AccessOverride.objects.filter(organization=organization, ended_at=None).exists()
        or LedgerEntry.objects.filter(mailbox__organization=organization).exists()
        or OrganizationLedger.objects.filter(organization=organization).exclude(rules=[]).exists()
    )


def heard_at(tenant_id: int) -> datetime.datetime | None:
    """When the tenant's device management last told how its devices stand; None where it never did, or has none."""
    source = DeviceSource.objects.filter(tenant_id=tenant_id).first()
    if source is None or source.kind == DeviceSource.Kind.NONE:
        return None
    return source.last_pushed_at if source.kind == DeviceSource.Kind.PUSHED else source.devices_read_at


def doubts_of(tenant_id: int, policy: TenantPolicyValues) -> tuple[str, ...]:
    """What has never been read although the policy rests on it."""
    source = DeviceSource.objects.filter(tenant_id=tenant_id).first()
    found = []
    if source is None:
        if not ManagedDevice.objects.filter(tenant_id=tenant_id).exists():
            found.append(NO_SOURCE)
    elif source.kind == DeviceSource.Kind.NONE:
        # One that was given up tells of nobody any more, whatever is left of it.
        found.append(NO_SOURCE)
    elif source.kind == DeviceSource.Kind.PUSHED:
        if source.last_pushed_at is None:
            found.append(RECORDS_NEVER_READ)
    else:
        if source.devices_read_at is None:
            found.append(RECORDS_NEVER_READ)
        if source.users_read_at is None:
            found.append(PEOPLE_NEVER_READ)
    named = {group.id for group in (*policy.included_groups, *policy.excluded_groups)}
    if named:
        groups = DirectoryGroup.objects.filter(tenant_id=tenant_id, source_id__in=named, read_at__isnull=False)
        if groups.count() < len(named):
            found.append(GROUP_NEVER_READ)
    return tuple(found)

"""Some mailboxes, loaded by themselves, are decided as they are in the whole organization."""

from __future__ import annotations

import datetime
import random
from typing import Any

import pytest
from django.db.models import QuerySet
from django.utils import timezone
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from connectors.models import Connector, DeviceSource, ExchangeOrganization
from sync.deciding.decide import decide
from sync.deciding.plan import plan
from sync.enforcing.loading import Loaded, doubts_of, is_enforcing, is_governed, world_load, worlds
from sync.models import (
    DeviceLink,
    DirectoryGroup,
    DirectoryUser,
    EntryChoice,
    GroupMember,
    LedgerEntry,
    Mailbox,
    ManagedDevice,
    MobileDevice,
    Presence,
    UserKeyText,
)
from sync.policies.policy import GroupRef, TenantPolicyValues
from sync.records.people_store import key_texts
from tests.factories import (
    ConnectorFactory,
    DeviceFactory,
    MailboxFactory,
    OverrideFactory,
    PersonFactory,
    RecordFactory,
)
from tests.sync.access import govern, organize

NOW = timezone.now()
MAILBOXES, PHONES, PEOPLE, RECORDS = 6, 14, 6, 12
IDS = [f"ApplX{number}" for number in range(9)]  # fewer than phones: some share one
COMPLIANCES = ("compliant", "noncompliant", "unknown", "inGracePeriod", "configManager", "error")


def populate(connector: Connector, seed: int) -> list[int]:
    """A crowded little organization, any way that rows may stand to each other. Keys of its mailboxes."""
    pick = random.Random(seed)
    tenant, organization = connector.organization.tenant, connector.organization
    people = [_person(tenant, number, pick) for number in range(PEOPLE)]
    boxes = [_mailbox(organization, number, pick) for number in range(MAILBOXES)]
    for number in range(PHONES):
        DeviceFactory(
            organization=organization,
            owner=pick.choice([*boxes, None]),
            device_id=pick.choice(IDS),
            mailbox=f"contoso.lab/Users/{number}",
            client_type=pick.choice(["EAS", "EAS", "EAS", "Outlook", ""]),
            gone_at=pick.choice([None, None, None, NOW]),
        )
    records = [_record(tenant, people, pick) for _ in range(RECORDS)]
    for box in boxes:
        for listed in ("allowed", "blocked"):
            if pick.random() < 0.4:
                LedgerEntry.objects.create(
                    mailbox=box, listed=listed, device_id=(one := pick.choice(IDS)), device_id_key=one.lower(),
                    made_at=NOW,
                )  # fmt: skip
                EntryChoice.objects.create(
                    mailbox=box, listed=listed, device_id_key=pick.choice(IDS).lower(),
                    choice=pick.choice(["adopt", "override"]), made_at=NOW, made_by_name="Ada",
                )  # fmt: skip
        if pick.random() < 0.3:
            DeviceLink.objects.create(
                mailbox=box, device_id_key=pick.choice(IDS).lower(), managed_device=pick.choice(records),
                kind=pick.choice(["link", "unlink"]), made_at=NOW, made_by_name="Ada",
            )  # fmt: skip
        if pick.random() < 0.3:
            OverrideFactory(mailbox=box, device_id=pick.choice(IDS), level=pick.choice(["allow", "block"]))
    for name in ("in", "out"):
        group = DirectoryGroup.objects.create(tenant=tenant, source_id=name, read_at=NOW)
        members = pick.sample(people, pick.randrange(PEOPLE))
        GroupMember.objects.bulk_create(GroupMember(group=group, user_source_id=one.source_id) for one in members)
    return [box.pk for box in boxes]


def _person(tenant: Any, number: int, pick: random.Random) -> DirectoryUser:
    made: DirectoryUser = PersonFactory(
        tenant=tenant,
        display_name=f"Person {number}",
        source_id=f"u{number}",
        # Addresses may be shared, so that one text names several people.
        mail=f"person{pick.randrange(PEOPLE)}@contoso.lab",
        sid=pick.choice(["", f"S-1-5-21-7-7-7-{number}"]),
        proxies=[f"smtp:alias{pick.randrange(PEOPLE)}@contoso.lab"],
        licensed=pick.choice([True, False, None]),
        presence=pick.choice([Presence.PRESENT, Presence.PRESENT, Presence.MISSING, Presence.GONE]),
    )
    UserKeyText.objects.bulk_create(
        UserKeyText(user=made, tenant=tenant, kind=kind, text=text) for kind, text in key_texts(made)
    )
    return made


def _mailbox(organization: ExchangeOrganization, number: int, pick: random.Random) -> Mailbox:
    made: Mailbox = MailboxFactory(
        organization=organization,
        display_name=f"Person {number}",
        sid=pick.choice(["", f"S-1-5-21-7-7-7-{number}"]),
        upn=pick.choice(["", f"person{number}@contoso.lab"]),
        addresses=[f"smtp:alias{pick.randrange(PEOPLE)}@contoso.lab"],
        allowed=pick.sample(IDS, pick.randrange(3)),
        blocked=pick.sample(IDS, pick.randrange(3)),
        gone_at=pick.choice([None, None, None, NOW]),
    )
    return made


def _record(tenant: Any, people: list[DirectoryUser], pick: random.Random) -> ManagedDevice:
    made: ManagedDevice = RecordFactory(
        tenant=tenant,
        user_source_id=pick.choice(["", "nobody", pick.choice(people).source_id]),
        upn=pick.choice(["", f"person{pick.randrange(PEOPLE)}@contoso.lab"]),
        email=pick.choice(["", f"alias{pick.randrange(PEOPLE)}@contoso.lab"]),
        eas_device_id=pick.choice([*IDS, ""]),
        compliance=pick.choice(COMPLIANCES),
        registered=pick.choice([True, False, None]),
        enrolled_at=NOW - datetime.timedelta(days=pick.randrange(90)),
        presence=pick.choice([Presence.PRESENT, Presence.PRESENT, Presence.MISSING, Presence.GONE]),
    )
    return made


@pytest.mark.django_db(transaction=True)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 10**9))
def test_a_part_is_decided_and_planned_as_in_the_whole(seed: int) -> None:
    connector = ConnectorFactory()
    keys = populate(connector, seed)
    everyone = seed % 3 == 0
    govern(
        connector,
        target_everyone=everyone,
        included_groups=() if everyone else (GroupRef("in"),),
        excluded_groups=(GroupRef("out"),),
        override_default_rule=seed % 2 == 0,
    )
    organize(connector, denial="block" if seed % 5 == 0 else "quarantine")
    chosen = random.Random(seed).sample(keys, 2)

    whole = world_load(connector.organization_id, mailboxes=keys, now=NOW)
    part = world_load(connector.organization_id, mailboxes=chosen, now=NOW)

    of_whole, of_part = decide(whole.world), decide(part.world)
    mine = {device.key for device in whole.world.devices if device.mailbox in chosen}
    assert of_part.keys() == mine
    assert of_part == {key: of_whole[key] for key in mine}
    for key in mine:
        one, other = whole.world.matches[key], part.world.matches[key]
        assert (one.outcome, one.record, one.person, one.user_by) == (
            other.outcome, other.record, other.person, other.user_by,
        )  # fmt: skip
    commands = plan(whole.world.as_it_is(), decide(whole.world.as_it_is())).changes
    assert [c for c in commands if c.partnership[0] in chosen] == list(
        plan(part.world.as_it_is(), decide(part.world.as_it_is())).changes
    )


@pytest.mark.django_db(transaction=True)
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 10**9), size=st.integers(1, 5))
def test_blocks_hold_everything_once_and_decide_as_one(seed: int, size: int) -> None:
    connector = ConnectorFactory()
    populate(connector, seed)
    govern(connector, included_groups=(GroupRef("in"),), excluded_groups=(GroupRef("out"),))

    one, blocks = (list(worlds(connector.organization_id, now=NOW, size=many)) for many in (1000, size))

    def ours(rows: QuerySet[Any]) -> list[int]:
        return list(rows.filter(organization=connector.organization).values_list("pk", flat=True))

    mailboxes = [pk for loaded in blocks for pk in loaded.mailboxes]
    assert sorted(mailboxes) == sorted(ours(Mailbox.objects.all()))
    assert all(len(loaded.mailboxes) <= size and len(loaded.doubts) == len(one[0].doubts) for loaded in blocks)
    devices = [device.key for loaded in blocks for device in loaded.world.devices]
    assert sorted(devices) == sorted(ours(MobileDevice.objects.filter(gone_at=None)))
    assert _decided(blocks) == _decided(one)


def _decided(parts: list[Loaded]) -> dict[Any, Any]:
    return {key: verdict for loaded in parts for key, verdict in decide(loaded.world).items()}


def test_how_often_the_database_is_asked_does_not_grow(db: None, django_assert_max_num_queries: Any) -> None:
    connector = ConnectorFactory()
    keys = populate(connector, 1)
    govern(connector, included_groups=(GroupRef("in"),))

    with django_assert_max_num_queries(26):
        world_load(connector.organization_id, mailboxes=keys, now=NOW)


def test_a_phone_without_a_mailbox_is_decided_and_never_written_for(db: None) -> None:
    connector = ConnectorFactory()
    govern(connector)
    phone = DeviceFactory(organization=connector.organization, owner=None)

    (loaded,) = worlds(connector.organization_id, now=NOW)

    world = loaded.world
    assert [device.key for device in world.devices] == [phone.pk]
    assert plan(world, decide(world)).commands == ()


def test_values_given_take_the_place_of_the_policy(db: None) -> None:
    connector = ConnectorFactory()
    DeviceFactory(organization=connector.organization, owner=MailboxFactory(organization=connector.organization))

    (loaded,) = worlds(
        connector.organization_id, now=NOW, tenant_values=TenantPolicyValues(enabled=True, target_everyone=True)
    )

    assert {verdict.row for verdict in decide(loaded.world).values()} == {"noRecord"}


def test_another_organizations_rows_are_not_loaded(db: None) -> None:
    one, other = ConnectorFactory(), ConnectorFactory()
    populate(other, 3)

    assert list(worlds(one.organization_id, now=NOW)) == []
    loaded = world_load(one.organization_id, mailboxes=Mailbox.objects.values_list("pk", flat=True), now=NOW)
    assert (list(loaded.world.devices), loaded.world.mailboxes, loaded.total_devices) == ([], {}, 0)


def test_records_of_an_earlier_source_count_no_more(db: None) -> None:
    connector = ConnectorFactory()
    govern(connector)
    box = MailboxFactory(organization=connector.organization, display_name="Person 1")
    phone = DeviceFactory(organization=connector.organization, owner=box)
    RecordFactory(
        tenant=connector.organization.tenant, source="graph", upn=box.primary_smtp, eas_device_id=phone.device_id
    )

    loaded = world_load(connector.organization_id, mailboxes=[box.pk], now=NOW)
    assert {v.row for v in decide(loaded.world).values()} == {"noRecord"}


class TestWhetherAnythingConcernsIt:
    def test_a_bare_organization(self, db: None) -> None:
        organization = ConnectorFactory().organization

        assert not is_governed(organization)
        assert not is_enforcing(organization)

    def test_a_source_is_worth_matching_and_nothing_to_enforce(self, db: None) -> None:
        organization = ConnectorFactory().organization
        DeviceSource.objects.create(tenant=organization.tenant, kind="graph")

        assert is_governed(organization)
        assert not is_enforcing(organization)

    def test_what_is_ours_is_to_be_undone(self, db: None) -> None:
        organization = ConnectorFactory().organization
        box = MailboxFactory(organization=organization)
        LedgerEntry.objects.create(mailbox=box, listed="allowed", device_id="X", device_id_key="x", made_at=NOW)

        assert is_enforcing(organization)


DOUBTS = [
    ("nothing at all", {}, False, (), ("noSource",)),
    ("records without a source", {}, True, (), ()),
    ("nothing was pushed yet", {"kind": "pushed"}, False, (), ("recordsNeverRead",)),
    ("pushed", {"kind": "pushed", "last_pushed_at": NOW}, False, (), ()),
    ("graph, never read", {"kind": "graph"}, True, (), ("recordsNeverRead", "peopleNeverRead")),
    ("graph, read", {"kind": "graph", "devices_read_at": NOW, "users_read_at": NOW}, False, (), ()),
    ("a group, never read", {"kind": "pushed", "last_pushed_at": NOW}, False, ("g",), ("groupNeverRead",)),
]


@pytest.mark.parametrize(("source", "has_record", "groups", "expected"), [row[1:] for row in DOUBTS],
                         ids=[row[0] for row in DOUBTS])  # fmt: skip
def test_what_is_doubted(
    db: None, source: dict[str, Any], has_record: bool, groups: tuple[str, ...], expected: tuple[str, ...]
) -> None:
    tenant = ConnectorFactory().organization.tenant
    if source:
        DeviceSource.objects.create(tenant=tenant, **source)
    if has_record:
        RecordFactory(tenant=tenant)

    policy = TenantPolicyValues(enabled=True, included_groups=tuple(GroupRef(one) for one in groups))

    assert doubts_of(tenant.pk, policy) == expected
    assert MobileDevice.objects.count() == 0

"""Rows for the tests of the console, by factory-boy. Everything hangs below one tenant unless told otherwise.

Connectors made here bypass the services, which tests/connectors covers; what the pages do goes through them.
"""

from __future__ import annotations

import datetime
import uuid
from functools import cache
from typing import TYPE_CHECKING, Any

from django.contrib.auth import get_user_model
from django.contrib.auth.hashers import make_password
from django.utils import timezone
from factory.declarations import LazyAttribute, LazyFunction, SelfAttribute, Sequence, SubFactory, Trait
from factory.django import DjangoModelFactory
from factory.helpers import post_generation

from connectors.models import ClientAccessServer, Connector, ConnectorStatus, ExchangeOrganization, Tenant
from console.accounts.models import Membership, Role
from sync.deciding.facts import id_key, text_key
from sync.models import (
    AccessOverride,
    Approval,
    Command,
    DeviceAccess,
    DirectoryUser,
    Drift,
    DryRun,
    DryRunLine,
    HeldDenial,
    Mailbox,
    ManagedDevice,
    MobileDevice,
    Notification,
    PolicyVersion,
    RunEvent,
    SyncRun,
)

PASSWORD = "correct-horse-battery"


@cache
def _hashed() -> str:
    """Hashing takes a quarter of a second by design: once is enough."""
    return make_password(PASSWORD)


class Rows(DjangoModelFactory):  # type: ignore[type-arg]  # of Any: see __new__
    """A factory's call makes a row of its model; the type checker is told so in the one way it takes."""

    class Meta:
        abstract = True

    if TYPE_CHECKING:

        def __new__(cls, *args: Any, **kwargs: Any) -> Any: ...


class TenantFactory(Rows):
    class Meta:
        model = Tenant

    name = Sequence(lambda n: f"Tenant {n}")
    time_zone = "Europe/Berlin"


class UserFactory(Rows):
    class Meta:
        model = get_user_model()

    username = Sequence(lambda n: f"person{n}")

    password = LazyFunction(lambda: _hashed())


class MembershipFactory(Rows):
    class Meta:
        model = Membership

    user = SubFactory(UserFactory)
    tenant = SubFactory(TenantFactory)
    role = Role.ADMINISTRATOR


class OrganizationFactory(Rows):
    class Meta:
        model = ExchangeOrganization
        rename = {"exchange_build": "build"}  # a factory has a method of that name

    tenant = SubFactory(TenantFactory)
    name = Sequence(lambda n: f"Organization {n}")
    version = "2019"
    exchange_build = "Version 15.2 (Build 1544.4)"


class ConnectorFactory(Rows):
    """Connected, synchronised a minute ago, with two servers."""

    class Meta:
        model = Connector
        skip_postgeneration_save = True

    organization = SubFactory(OrganizationFactory)
    username = "CONTOSO\\svc-gatehouse"
    status = ConnectorStatus.CONNECTED
    exchange_server = "ex01.contoso.lab"
    connector_server = "worker-1"
    last_successful_sync_at = LazyFunction(lambda: timezone.now() - datetime.timedelta(minutes=1))
    last_full_sync_at = SelfAttribute("last_successful_sync_at")

    @post_generation  # type: ignore[untyped-decorator]
    def servers(self: Any, create, extracted, **kwargs):
        names = extracted if extracted is not None else ("ex01.contoso.lab", "ex02.contoso.lab")
        for priority, fqdn in enumerate(names):
            ClientAccessServer.objects.create(connector=self, fqdn=fqdn, priority=priority)


class RunFactory(Rows):
    """A full sync that succeeded a minute ago and took 12 s."""

    class Meta:
        model = SyncRun

    connector = SubFactory(ConnectorFactory)
    kind = SyncRun.Kind.FULL
    trigger = SyncRun.Trigger.BUTTON
    requested_by_name = "Ada"
    status = SyncRun.Status.SUCCEEDED
    phase = SyncRun.Phase.FINISHED
    attempt = 1
    queued_at = LazyFunction(lambda: timezone.now() - datetime.timedelta(minutes=1))
    started_at = SelfAttribute("queued_at")
    finished_at = LazyAttribute(lambda run: run.queued_at + datetime.timedelta(seconds=12))
    observed = 300

    class Params:
        running = Trait(
            status=SyncRun.Status.RUNNING,
            phase=SyncRun.Phase.DEVICES,
            queued_at=LazyFunction(lambda: timezone.now() - datetime.timedelta(seconds=10)),
            finished_at=None,
            devices_started_at=SelfAttribute("started_at"),
            observed=60,
            expected=240,
        )
        queued = Trait(
            status=SyncRun.Status.QUEUED,
            phase=SyncRun.Phase.WAITING,
            queued_at=LazyFunction(timezone.now),
            started_at=None,
            finished_at=None,
            observed=0,
            attempt=0,
        )
        failed = Trait(
            status=SyncRun.Status.FAILED,
            observed=0,
            error_code="connection_refused",
            error_params={"server": "ex01.contoso.lab"},
        )


class EventFactory(Rows):
    class Meta:
        model = RunEvent

    run = SubFactory(RunFactory)
    at = LazyFunction(timezone.now)
    code = "succeeded"


class DeviceFactory(Rows):
    class Meta:
        model = MobileDevice

    organization = SubFactory(OrganizationFactory)
    guid = LazyFunction(uuid.uuid4)
    device_id = Sequence(lambda n: f"ApplDN{n:06X}")
    device_id_key = LazyAttribute(lambda device: device.device_id.casefold())
    mailbox = Sequence(lambda n: f"contoso.lab/Users/Person {n}")
    mailbox_key = LazyAttribute(lambda device: device.mailbox.casefold())
    identity = LazyAttribute(lambda device: f"{device.mailbox}/ExchangeActiveSyncDevices/{device.device_id}")
    user_display_name = LazyAttribute(lambda device: device.mailbox.rsplit("/", 1)[-1])
    friendly_name = "Phone"
    device_type = "iPhone"
    device_model = "iPhone15C2"
    device_os = "iOS 17.5.1 21F90"
    client_type = "EAS"
    access_state = "Allowed"
    access_state_reason = "Global"
    first_sync_time = LazyFunction(lambda: timezone.now() - datetime.timedelta(days=40))
    wire_digest = Sequence(lambda n: n.to_bytes(16, "big"))
    first_observed_at = LazyFunction(lambda: timezone.now() - datetime.timedelta(days=30))
    changed_at = SelfAttribute("first_observed_at")


class MailboxFactory(Rows):
    """Read a minute ago; both lists empty."""

    class Meta:
        model = Mailbox

    organization = SubFactory(OrganizationFactory)
    guid = LazyFunction(uuid.uuid4)
    display_name = Sequence(lambda n: f"Person {n}")
    identity = LazyAttribute(lambda box: f"contoso.lab/Users/{box.display_name}")
    distinguished_name = LazyAttribute(lambda box: f"CN={box.display_name},OU=Users,DC=contoso,DC=lab")
    dn_key = LazyAttribute(lambda box: text_key(box.distinguished_name))
    primary_smtp = LazyAttribute(lambda box: f"{box.display_name.replace(' ', '').lower()}@contoso.lab")
    addresses = LazyAttribute(lambda box: [f"SMTP:{box.primary_smtp}"])
    domain = "contoso.lab"
    sam = LazyAttribute(lambda box: box.display_name.replace(" ", "").lower())
    read_at = LazyFunction(lambda: timezone.now() - datetime.timedelta(minutes=1))
    changed_at = SelfAttribute("read_at")


class PersonFactory(Rows):
    """Somebody of the tenant's directory, by address."""

    class Meta:
        model = DirectoryUser

    tenant = SubFactory(TenantFactory)
    source_id = LazyFunction(lambda: str(uuid.uuid4()))
    display_name = Sequence(lambda n: f"Person {n}")
    upn = LazyAttribute(lambda person: f"{person.display_name.replace(' ', '').lower()}@contoso.lab")
    mail = SelfAttribute("upn")
    licensed = True
    changed_at = LazyFunction(timezone.now)


class RecordFactory(Rows):
    """A compliant record that was pushed to us."""

    class Meta:
        model = ManagedDevice

    tenant = SubFactory(TenantFactory)
    source = ManagedDevice.Source.PUSHED
    source_id = LazyFunction(lambda: str(uuid.uuid4()))
    upn = ""
    email = ""
    upn_key = LazyAttribute(lambda record: text_key(record.upn))
    email_key = LazyAttribute(lambda record: text_key(record.email))
    eas_device_id = Sequence(lambda n: f"ApplDN{n:06X}")
    eas_device_id_key = LazyAttribute(lambda record: id_key(record.eas_device_id))
    device_name = "Phone"
    os = "iOS"
    compliance = "compliant"
    registered = True
    agent = "mdm"
    last_check_in_at = LazyFunction(timezone.now)
    first_seen_at = LazyFunction(timezone.now)
    changed_at = SelfAttribute("first_seen_at")


class AccessFactory(Rows):
    """The verdict on a device."""

    class Meta:
        model = DeviceAccess

    device = SubFactory(DeviceFactory)
    organization = SelfAttribute("device.organization")
    access = "allow"
    state = "allowed"
    reason = "compliant"
    rule = "compliant"
    outcome = "matched"
    decided_at = LazyFunction(timezone.now)


class PolicyFactory(Rows):
    """A version of a tenant's policy; of an organization's when that is given."""

    class Meta:
        model = PolicyVersion

    tenant = SubFactory(TenantFactory)
    number = Sequence(lambda n: n + 1)
    content = LazyFunction(dict)
    made_at = LazyFunction(timezone.now)
    made_by_name = "Ada"


class OverrideFactory(Rows):
    class Meta:
        model = AccessOverride

    organization = SelfAttribute("mailbox.organization")
    mailbox = SubFactory(MailboxFactory)
    device_id = Sequence(lambda n: f"ApplDN{n:06X}")
    device_id_key = LazyAttribute(lambda override: id_key(override.device_id))
    level = AccessOverride.Level.ALLOW
    reason = "Travels today"
    made_at = LazyFunction(timezone.now)
    made_by_name = "Ada"


class ApprovalFactory(Rows):
    """Waiting, of an organization of 200 devices."""

    class Meta:
        model = Approval

    organization = SubFactory(OrganizationFactory)
    made_at = LazyFunction(timezone.now)
    renewed_at = SelfAttribute("made_at")
    devices_total = 200
    limit_devices = 10
    limit_percent = 5.0
    limit_at_most = 1000


class HeldDenialFactory(Rows):
    class Meta:
        model = HeldDenial

    approval = SubFactory(ApprovalFactory)
    device = SubFactory(DeviceFactory)
    access = "quarantine"
    reason = "notEnrolled"
    rule = "noRecord"


class DriftFactory(Rows):
    """Somebody else's allow entry."""

    class Meta:
        model = Drift

    organization = SelfAttribute("mailbox.organization")
    mailbox = SubFactory(MailboxFactory)
    kind = Drift.Kind.FOREIGN_ALLOW
    device_id_key = Sequence(lambda n: f"appldn{n:06x}")
    subject = LazyAttribute(lambda drift: f"allowed:{drift.device_id_key}")
    is_alarm = True
    first_seen_at = LazyFunction(timezone.now)
    last_seen_at = SelfAttribute("first_seen_at")


class CommandFactory(Rows):
    """Personal entries of a mailbox, done."""

    class Meta:
        model = Command

    organization = SelfAttribute("mailbox.organization")
    mailbox = SubFactory(MailboxFactory)
    kind = Command.Kind.MAILBOX_ENTRIES
    state = Command.State.DONE
    subject = LazyAttribute(lambda command: f"mailbox:{command.mailbox.pk}")
    payload = LazyFunction(dict)
    text = "Set-CASMailbox"
    actor_name = "Sync"
    planned_at = LazyFunction(timezone.now)
    finished_at = SelfAttribute("planned_at")


class DryRunFactory(Rows):
    """What a dry run kept that looked at everybody; its lines are made with it by their tests."""

    class Meta:
        model = DryRun

    run = SubFactory(RunFactory, is_dry_run=True)
    organization = SelfAttribute("run.connector.organization")
    is_whole = True
    begun_at = LazyFunction(timezone.now)
    finished_at = SelfAttribute("begun_at")
    limit_devices = 10
    limit_percent = 5.0
    limit_at_most = 1000


class DryLineFactory(Rows):
    """A compliant phone that would be let in."""

    class Meta:
        model = DryRunLine

    dry_run = SubFactory(DryRunFactory)
    device_public_id = LazyFunction(uuid.uuid4)
    person = Sequence(lambda n: f"Person {n}")
    mailbox = Sequence(lambda n: f"person{n}@contoso.lab")
    device_name = "Phone"
    device_id = Sequence(lambda n: f"ApplDN{n:06X}")
    access_state = "Quarantined"
    access = "allow"
    state = "allowed"
    reason = "compliant"
    rule = "alwaysAllowed"
    effect = DryRunLine.Effect.CHANGED
    commands = LazyAttribute(lambda line: f"Set-CASMailbox {line.device_id}")


class NotificationFactory(Rows):
    """A mail that was sent a minute ago."""

    class Meta:
        model = Notification

    organization = SelfAttribute("device.organization")
    device = SubFactory(DeviceFactory)
    denial = Sequence(lambda n: f"{n}:1")
    recipient = Sequence(lambda n: f"person{n}@contoso.lab")
    language = "en"
    reason = "notEnrolled"
    message_id = Sequence(lambda n: f"<{n}@contoso.lab>")
    state = Notification.State.SENT
    made_at = LazyFunction(lambda: timezone.now() - datetime.timedelta(minutes=1))
    finished_at = SelfAttribute("made_at")

    class Params:
        failed = Trait(state=Notification.State.FAILED, error_code="mail_recipient_refused", attempts=1)
        queued = Trait(state=Notification.State.QUEUED, finished_at=None)

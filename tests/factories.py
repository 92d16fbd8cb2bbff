"""Rows for the tests of the console, by factory-boy. Everything hangs below one tenant unless told otherwise.

Connectors made here bypass the services, which tests/connectors covers; what the pages do goes through them.
"""

from __future__ import annotations

import datetime
import uuid

import factory
from django.contrib.auth import get_user_model
from django.utils import timezone

from connectors.models import ClientAccessServer, Connector, ConnectorStatus, ExchangeOrganization, Tenant
from console.accounts.models import Membership, Role
from sync.models import MobileDevice, RunEvent, SyncRun

PASSWORD = "correct-horse-battery"


class TenantFactory(factory.django.DjangoModelFactory):
    class Meta:
        model = Tenant

    name = factory.Sequence(lambda n: f"Tenant {n}")
    time_zone = "Europe/Berlin"


class UserFactory(factory.django.DjangoModelFactory):
    class Meta:
        model = get_user_model()
        skip_postgeneration_save = True

    username = factory.Sequence(lambda n: f"person{n}")

    @factory.post_generation
    def password(self, create, extracted, **kwargs):
        self.set_password(extracted or PASSWORD)
        self.save()


class MembershipFactory(factory.django.DjangoModelFactory):
    class Meta:
        model = Membership

    user = factory.SubFactory(UserFactory)
    tenant = factory.SubFactory(TenantFactory)
    role = Role.ADMINISTRATOR


class OrganizationFactory(factory.django.DjangoModelFactory):
    class Meta:
        model = ExchangeOrganization

    tenant = factory.SubFactory(TenantFactory)
    name = factory.Sequence(lambda n: f"Organization {n}")
    version = "2019"
    build = "Version 15.2 (Build 1544.4)"


class ConnectorFactory(factory.django.DjangoModelFactory):
    """Connected, synchronised a minute ago, with two servers."""

    class Meta:
        model = Connector
        skip_postgeneration_save = True

    organization = factory.SubFactory(OrganizationFactory)
    username = "CONTOSO\\svc-gatehouse"
    status = ConnectorStatus.CONNECTED
    exchange_server = "ex01.contoso.lab"
    connector_server = "worker-1"
    last_successful_sync_at = factory.LazyFunction(lambda: timezone.now() - datetime.timedelta(minutes=1))
    last_full_sync_at = factory.SelfAttribute("last_successful_sync_at")

    @factory.post_generation
    def servers(self, create, extracted, **kwargs):
        for priority, fqdn in enumerate(extracted if extracted is not None else ("ex01.contoso.lab", "ex02.contoso.lab")):
            ClientAccessServer.objects.create(connector=self, fqdn=fqdn, priority=priority)


class RunFactory(factory.django.DjangoModelFactory):
    """A full sync that succeeded a minute ago and took 12 s."""

    class Meta:
        model = SyncRun

    connector = factory.SubFactory(ConnectorFactory)
    kind = SyncRun.Kind.FULL
    trigger = SyncRun.Trigger.BUTTON
    requested_by_name = "Ada"
    status = SyncRun.Status.SUCCEEDED
    phase = SyncRun.Phase.FINISHED
    attempt = 1
    queued_at = factory.LazyFunction(lambda: timezone.now() - datetime.timedelta(minutes=1))
    started_at = factory.SelfAttribute("queued_at")
    finished_at = factory.LazyAttribute(lambda run: run.queued_at + datetime.timedelta(seconds=12))
    observed = 300

    class Params:
        running = factory.Trait(
            status=SyncRun.Status.RUNNING,
            phase=SyncRun.Phase.DEVICES,
            queued_at=factory.LazyFunction(lambda: timezone.now() - datetime.timedelta(seconds=10)),
            finished_at=None,
            devices_started_at=factory.SelfAttribute("started_at"),
            observed=60,
            expected=240,
        )
        queued = factory.Trait(
            status=SyncRun.Status.QUEUED,
            phase=SyncRun.Phase.WAITING,
            queued_at=factory.LazyFunction(timezone.now),
            started_at=None,
            finished_at=None,
            observed=0,
            attempt=0,
        )
        failed = factory.Trait(
            status=SyncRun.Status.FAILED,
            observed=0,
            error_code="connection_refused",
            error_params={"server": "ex01.contoso.lab"},
        )


class EventFactory(factory.django.DjangoModelFactory):
    class Meta:
        model = RunEvent

    run = factory.SubFactory(RunFactory)
    at = factory.LazyFunction(timezone.now)
    code = "succeeded"


class DeviceFactory(factory.django.DjangoModelFactory):
    class Meta:
        model = MobileDevice

    organization = factory.SubFactory(OrganizationFactory)
    guid = factory.LazyFunction(uuid.uuid4)
    device_id = factory.Sequence(lambda n: f"ApplDN{n:06X}")
    device_id_key = factory.LazyAttribute(lambda device: device.device_id.casefold())
    mailbox = factory.Sequence(lambda n: f"contoso.lab/Users/Person {n}")
    mailbox_key = factory.LazyAttribute(lambda device: device.mailbox.casefold())
    identity = factory.LazyAttribute(lambda device: f"{device.mailbox}/ExchangeActiveSyncDevices/{device.device_id}")
    user_display_name = factory.LazyAttribute(lambda device: device.mailbox.rsplit("/", 1)[-1])
    friendly_name = "Phone"
    device_type = "iPhone"
    device_model = "iPhone15C2"
    device_os = "iOS 17.5.1 21F90"
    client_type = "EAS"
    access_state = "Allowed"
    access_state_reason = "Global"
    first_sync_time = factory.LazyFunction(lambda: timezone.now() - datetime.timedelta(days=40))
    wire_digest = factory.Sequence(lambda n: n.to_bytes(16, "big"))
    first_observed_at = factory.LazyFunction(lambda: timezone.now() - datetime.timedelta(days=30))
    changed_at = factory.SelfAttribute("first_observed_at")

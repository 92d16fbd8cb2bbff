"""What tests of access put into the tables: a policy, a source that has been read, people and records.

Numbers are those of tests.sync.exchange: device 3 is in the mailbox of person 3, whose record is record 3.
"""

from __future__ import annotations

from typing import Any

from django.utils import timezone

from connectors.models import Connector, DeviceSource, Tenant
from sync.models import DeviceAccess, DirectoryUser, ManagedDevice, PolicyVersion, UserKeyText
from sync.policies.policy import OrganizationPolicyValues, TenantPolicyValues
from sync.records.people_store import key_texts
from tests.factories import PersonFactory, RecordFactory
from tests.sync.exchange import device


def tenant_of(connector: Connector) -> Tenant:
    return connector.organization.tenant


def govern(connector: Connector, **values: Any) -> None:
    """Control on, for everyone unless told otherwise; records are pushed, and have been."""
    tenant = tenant_of(connector)
    content = TenantPolicyValues(**{"enabled": True, "target_everyone": True, **values}).to_json()
    _version(tenant, None, content)
    source = {"kind": DeviceSource.Kind.PUSHED, "last_pushed_at": timezone.now()}
    DeviceSource.objects.update_or_create(tenant=tenant, defaults=source)


def organize(connector: Connector, **values: Any) -> None:
    """The organization's own policy."""
    _version(tenant_of(connector), connector.organization, OrganizationPolicyValues(**values).to_json())


def _version(tenant: Tenant, organization: Any, content: dict[str, Any]) -> None:
    number = PolicyVersion.objects.filter(tenant=tenant, organization=organization).count() + 1
    PolicyVersion.objects.create(
        tenant=tenant,
        organization=organization,
        number=number,
        content=content,
        made_at=timezone.now(),
        made_by_name="Ada",
    )


def person(connector: Connector, number: int, **values: Any) -> DirectoryUser:
    upn = f"person{number}@contoso.com"
    made: DirectoryUser = PersonFactory(
        tenant=tenant_of(connector), display_name=f"Person {number}", source_id=f"user-{number}", upn=upn, mail=upn,
        **values,
    )  # fmt: skip
    person_keys(made)
    return made


def person_keys(person: DirectoryUser) -> None:
    """What somebody is found by, as a reading of the directory keeps it."""
    UserKeyText.objects.bulk_create(
        UserKeyText(user=person, tenant_id=person.tenant_id, kind=kind, text=text) for kind, text in key_texts(person)
    )


def record(connector: Connector, number: int, **values: Any) -> ManagedDevice:
    """Compliant unless told otherwise."""
    usual = {"user_source_id": f"user-{number}", "eas_device_id": device(number).device_id}
    made: ManagedDevice = RecordFactory(
        tenant=tenant_of(connector), source_id=f"record-{number}", **{**usual, **values}
    )
    return made


def enrolled(connector: Connector, *numbers: int, **values: Any) -> None:
    """People with a record each."""
    for number in numbers:
        person(connector, number)
        record(connector, number, **values)


def rows(connector: Connector) -> dict[str, str]:
    """The row of the decision table that spoke, by DeviceId."""
    found = DeviceAccess.objects.filter(organization=connector.organization)
    return dict(found.values_list("device__device_id", "rule"))


def states(connector: Connector) -> dict[str, str]:
    found = DeviceAccess.objects.filter(organization=connector.organization)
    return dict(found.values_list("device__device_id", "state"))

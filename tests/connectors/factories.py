"""Tenants, organisations and connectors for the tests of this folder, made through the services."""

from __future__ import annotations

import datetime
import uuid
from dataclasses import replace
from functools import cache
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from connectors.actors import SETUP
from connectors.exchange.records import (
    ActiveSyncOrganizationSettingsRecord,
    CasMailboxRecord,
    ExchangeServerRecord,
    MailboxPolicyRecord,
    OrganizationRecord,
    ServerVersion,
    UserRecord,
)
from connectors.models import Connector, ExchangeOrganization, Tenant
from connectors.secrets import Secret
from connectors.services import (
    AccountSettings,
    ServerSettings,
    connector_create,
    organization_create,
    tenant_create,
)

ACCOUNT = AccountSettings("svc-eas@contoso.com", Secret("Pa55 word"), "negotiate")
SERVERS = (ServerSettings("ex01.contoso.com"), ServerSettings("ex02.contoso.com"))


def tenant(name: str = "Contoso") -> Tenant:
    return Tenant.objects.filter(name=name).first() or tenant_create(name=name, actor=SETUP)


def organization(name: str = "Contoso", *, of: str = "Contoso") -> ExchangeOrganization:
    return organization_create(tenant=tenant(of), name=name, actor=SETUP)


def connector(
    name: str = "Contoso", *, of: str = "Contoso", servers: tuple[ServerSettings, ...] = SERVERS
) -> Connector:
    return connector_create(organization=organization(name, of=of), account=ACCOUNT, servers=servers, actor=SETUP)


def version(text: str, product: str, *numbers: int) -> ServerVersion:
    major, minor, build, revision = numbers
    return ServerVersion(text, major, minor, build, revision, product)


E2016 = version("Version 15.1 (Build 2507.6)", "2016", 15, 1, 2507, 6)
E2019 = version("Version 15.2 (Build 1544.4)", "2019", 15, 2, 1544, 4)
E_NEXT = version("Version 15.9 (Build 1.0)", "", 15, 9, 1, 0)


def server_record(fqdn: str, found: ServerVersion = E2019, *, is_client_access: bool = True) -> ExchangeServerRecord:
    return ExchangeServerRecord(
        name=fqdn.split(".")[0].upper(),
        fqdn=fqdn,
        version=found,
        is_client_access_server=is_client_access,
        is_mailbox_server=True,
        site="contoso.com/Configuration/Sites/Default-First-Site-Name",
        edition="Enterprise",
    )


ORGANIZATION_RECORD = OrganizationRecord("First Organization", uuid.UUID(int=7))
SETTINGS_RECORD = ActiveSyncOrganizationSettingsRecord("Quarantine", "Ask the desk", ("desk@contoso.com",))


def cas_mailbox_record(number: int = 0, **values: Any) -> CasMailboxRecord:
    """The mailbox of person `number`, always the same; `values` are what differs."""
    made = CasMailboxRecord(
        guid=uuid.UUID(int=1000 + number),
        identity=f"contoso.com/Users/Person {number}",
        name=f"Person {number}",
        display_name=f"Person {number}",
        distinguished_name=f"CN=Person {number},CN=Users,DC=contoso,DC=com",
        sam_account_name=f"person{number}",
        primary_smtp_address=f"person{number}@contoso.com",
        email_addresses=(f"SMTP:person{number}@contoso.com",),
        originating_server="dc01.contoso.com",
        active_sync_enabled=True,
        has_active_sync_device_partnership=True,
        allowed_device_ids=(),
        blocked_device_ids=(),
        active_sync_mailbox_policy="",
        is_policy_defaulted=True,
        when_changed=datetime.datetime(2026, 3, 1, 8, 0, tzinfo=datetime.UTC),
    )
    return replace(made, **values)


def user_record(number: int = 0, **values: Any) -> UserRecord:
    """The account of the same person."""
    made = UserRecord(
        guid=uuid.UUID(int=1000 + number),
        identity=f"contoso.com/Users/Person {number}",
        distinguished_name=f"CN=Person {number},CN=Users,DC=contoso,DC=com",
        sid=f"S-1-5-21-1-2-3-{1000 + number}",
        user_principal_name=f"person{number}@contoso.com",
        sam_account_name=f"person{number}",
        primary_smtp_address=f"person{number}@contoso.com",
    )
    return replace(made, **values)


def policy_record(name: str = "Default", **values: Any) -> MailboxPolicyRecord:
    made = MailboxPolicyRecord(
        identity=name,
        name=name,
        guid=uuid.uuid5(uuid.NAMESPACE_DNS, name),
        distinguished_name=f"CN={name},CN=Mobile Mailbox Policies,DC=contoso,DC=com",
        is_default=name == "Default",
        settings={"PasswordEnabled": False, "MinPasswordLength": 4, "MaxInactivityTimeLock": "00:15:00"},
        when_changed=None,
    )
    return replace(made, **values)


@cache
def authority() -> tuple[str, str]:
    """A self-signed authority, made once: (certificate, private key), PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Test authority")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now)
        .not_valid_after(now + datetime.timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    return (
        certificate.public_bytes(Encoding.PEM).decode(),
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode(),
    )

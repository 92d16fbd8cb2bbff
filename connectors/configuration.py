"""How a connector is set up: written, compared, checked. Used by the services, inside their transactions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from django.core.exceptions import ValidationError

from connectors.models import ClientAccessServer, Connector
from connectors.secrets import Secret, SecretError
from connectors.validation import (
    AccountSettings,
    ServerSettings,
    account_clean,
    certificates_clean,
    servers_clean,
)

# Order in which servers are tried; steps leave room to move one between two others.
PRIORITY_STEP = 10


def configure(
    connector: Connector, account: AccountSettings, servers: Sequence[ServerSettings], ca_certificates: str
) -> tuple[ServerSettings, ...]:
    """Set the fields of `connector`, unsaved, and return the servers; one ValidationError with all that is wrong."""
    problems: dict[str, list[ValidationError]] = {}
    clean_servers: tuple[ServerSettings, ...] = ()
    try:
        account = account_clean(account)
    except ValidationError as error:
        problems.update(error.error_dict)
    try:
        clean_servers = servers_clean(
            servers,
            authentication=account.authentication,
            is_clear_text_allowed=connector.is_clear_text_allowed,
        )
    except ValidationError as error:
        problems["servers"] = error.error_list
    try:
        connector.ca_certificates = certificates_clean(ca_certificates)
    except ValidationError as error:
        problems["ca_certificates"] = error.error_list
    connector.username = account.username
    connector.password = account.password
    connector.authentication = account.authentication
    try:
        connector.clean_fields(exclude=["organization", *problems])
    except ValidationError as error:
        problems.update(error.error_dict)
    if problems:
        raise ValidationError(problems)
    return clean_servers


@dataclass(frozen=True, slots=True, eq=False)
class Configuration:
    """What a generation stands for."""

    password: Secret
    others: tuple[object, ...]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Configuration) or other.others != self.others:
            return False
        try:
            return self.password == other.password
        except SecretError:
            return False  # the key of the old password is lost; entering it again is the remedy


def configuration(connector: Connector) -> Configuration:
    """How `connector` is set up: its fields as the instance has them, its servers as the database has them."""
    servers = ClientAccessServer.objects.filter(connector=connector, source=ClientAccessServer.Source.CONFIGURED)
    return Configuration(
        password=connector.password,
        others=(
            connector.username,
            connector.authentication,
            connector.ca_certificates,
            connector.is_clear_text_allowed,
            tuple(servers.order_by("priority", "fqdn").values_list("fqdn", "address", "port", "use_tls")),
        ),
    )


def servers_write(connector: Connector, servers: Sequence[ServerSettings]) -> None:
    """Make the configured servers exactly these, in this order; discovered ones that are not named stay."""
    names = [server.fqdn for server in servers]
    ClientAccessServer.objects.filter(connector=connector, source=ClientAccessServer.Source.CONFIGURED).exclude(
        fqdn__in=names
    ).delete()
    for position, server in enumerate(servers, start=1):
        ClientAccessServer.objects.update_or_create(
            connector=connector,
            fqdn=server.fqdn,
            defaults={
                "address": server.address,
                "port": server.port,
                "use_tls": server.use_tls,
                "priority": position * PRIORITY_STEP,
                "source": ClientAccessServer.Source.CONFIGURED,
                "is_usable": True,
            },
        )

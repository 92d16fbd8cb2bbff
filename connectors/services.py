"""Everything that changes tenants, organisations and connectors: one function a business act.

Each takes the actor who does it and raises django's ValidationError, with sentences for people, for what they can put
right. No function speaks to a network, so none holds a transaction across one.
"""

from __future__ import annotations

import datetime
import logging
from collections.abc import Sequence

from django.core.exceptions import ValidationError
from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from connectors.actors import Actor
from connectors.configuration import configuration, configure, servers_write
from connectors.exchange.records import (
    ActiveSyncOrganizationSettingsRecord,
    ExchangeServerRecord,
    OrganizationRecord,
)
from connectors.models import (
    ClientAccessServer,
    Connector,
    ConnectorStatus,
    ExchangeOrganization,
    ExchangeVersion,
    Tenant,
)
from connectors.validation import AccountSettings, ServerSettings

__all__ = [
    "AccountSettings",
    "ServerSettings",
    "StaleFenceError",
    "connector_create",
    "connector_observed",
    "connector_reconfigure",
    "connector_status_set",
    "organization_create",
    "schedule_change",
    "server_answered",
    "server_failed",
    "tenant_create",
]

logger = logging.getLogger(__name__)

# Discovered servers stand behind all configured ones.
DISCOVERED_PRIORITY = 10_000


class StaleFenceError(Exception):
    """A newer run holds the connector's lease: what an older one still has to say is not written."""


def tenant_create(*, name: str, time_zone: str = "UTC", actor: Actor) -> Tenant:
    """A new tenant. Raises ValidationError for a name already taken or an unknown time zone."""
    tenant = Tenant(name=name.strip(), time_zone=time_zone)
    tenant.full_clean()
    tenant.save()
    logger.info("tenant %s created by %s", tenant.public_id, actor.name)
    return tenant


def organization_create(*, tenant: Tenant, name: str, actor: Actor) -> ExchangeOrganization:
    """A new Exchange organisation without a connector yet. Raises ValidationError for a name taken in this tenant."""
    organization = ExchangeOrganization(tenant=tenant, name=name.strip())
    organization.full_clean()
    organization.save()
    logger.info("organisation %s created by %s", organization.public_id, actor.name)
    return organization


@transaction.atomic
def connector_create(
    *,
    organization: ExchangeOrganization,
    account: AccountSettings,
    servers: Sequence[ServerSettings],
    ca_certificates: str = "",
    is_clear_text_allowed: bool = False,
    site: str = "default",
    actor: Actor,
) -> Connector:
    """The organisation's one connector, of generation 1, its servers tried in the order given.

    Raises ValidationError keyed by field: organization (has a connector already), servers, username, password,
    authentication, ca_certificates, site.
    """
    # Locked, so that of two people who press the button at once the second gets the sentence and not a database error.
    ExchangeOrganization.objects.select_for_update().get(pk=organization.pk)
    if Connector.objects.filter(organization=organization).exists():
        raise ValidationError(
            {
                "organization": ValidationError(
                    _(
                        "%(organization)s has a connector already, and an organization has one only. Reconfigure "
                        "that one instead."
                    ),
                    code="connector_exists",
                    params={"organization": organization.name},
                )
            }
        )
    connector = Connector(organization=organization, site=site, is_clear_text_allowed=is_clear_text_allowed)
    clean_servers = configure(connector, account, servers, ca_certificates)
    connector.save()
    servers_write(connector, clean_servers)
    logger.info("connector %s created by %s", connector.public_id, actor.name)
    return connector


@transaction.atomic
def connector_reconfigure(
    *,
    connector: Connector,
    account: AccountSettings,
    servers: Sequence[ServerSettings],
    ca_certificates: str = "",
    is_clear_text_allowed: bool = False,
    actor: Actor,
) -> bool:
    """Write account, servers and authorities anew; True when something differed.

    Only then the generation grows by one. Servers not named any more are removed, what is known of the others (last
    answer, build) stays. A run that is under way keeps what it connected with. Raises ValidationError as
    connector_create does.
    """
    current = Connector.objects.select_for_update().get(pk=connector.pk)
    before = configuration(current)
    current.is_clear_text_allowed = is_clear_text_allowed
    clean_servers = configure(current, account, servers, ca_certificates)
    servers_write(current, clean_servers)
    if configuration(current) == before:
        return False
    current.generation += 1
    # What kept checks of single mailboxes waiting may be what was put right.
    current.checks_not_before = None
    current.save(
        update_fields=[
            "generation", "username", "password", "authentication", "ca_certificates", "is_clear_text_allowed",
            "checks_not_before",
        ]
    )  # fmt: skip
    connector.refresh_from_db()
    logger.info("connector %s reconfigured to generation %d by %s", current.public_id, current.generation, actor.name)
    return True


def schedule_change(
    *,
    connector: Connector,
    quick_sync_minutes: int,
    full_sync_time: datetime.time,
    is_enabled: bool,
    actor: Actor,
    parallel_commands: int | None = None,
) -> None:
    """Set when the connector syncs by itself: every so many minutes, and daily at a time of the tenant's time zone.
    parallel_commands: how many commands are in flight at the same time; None leaves it.

    The next due times are forgotten; the scheduler reckons them anew. Raises ValidationError keyed by field.
    """
    connector.quick_sync_minutes = quick_sync_minutes
    connector.full_sync_time = full_sync_time
    connector.is_enabled = is_enabled
    connector.next_quick_sync_at = connector.next_full_sync_at = None
    fields = ["quick_sync_minutes", "full_sync_time", "is_enabled", "next_quick_sync_at", "next_full_sync_at"]
    if parallel_commands is not None:
        connector.parallel_commands = parallel_commands
        fields.append("parallel_commands")
    connector.clean_fields(exclude={field.name for field in Connector._meta.fields} - set(fields))
    connector.save(update_fields=fields)
    logger.info("schedule of connector %s changed by %s", connector.public_id, actor.name)


def connector_observe_only_set(*, connector: Connector, is_observe_only: bool, actor: Actor) -> bool:
    """On: no command that changes Exchange is sent any more, from the next one on. False when it was so already."""
    changed = Connector.objects.filter(pk=connector.pk).exclude(is_observe_only=is_observe_only)
    if not changed.update(is_observe_only=is_observe_only):
        return False
    connector.is_observe_only = is_observe_only
    word = "only observes" if is_observe_only else "sends commands"
    logger.info("connector %s %s from now on, by %s", connector.public_id, word, actor.name)
    return True


# --- what runs report -------------------------------------------------------------------------------------------


@transaction.atomic
def connector_observed(
    *,
    connector: Connector,
    fence: int,
    organization: OrganizationRecord,
    settings: ActiveSyncOrganizationSettingsRecord,
    servers: Sequence[ExchangeServerRecord],
    actor: Actor,
) -> None:
    """Keep what Exchange said of itself: its name, version, settings and Client Access Servers.

    Configured servers keep how they are reached and learn their build. Others are added, not usable, since discovery
    tells a name but not how it is reached from here; a discovered server that Exchange no longer names is removed.
    `fence` is the lease number of the run that read it. Raises StaleFenceError.
    """
    _fence_check(connector, fence)
    row = ExchangeOrganization.objects.get(pk=connector.organization_id)
    row.observed_name = _column(organization.name, 200)
    row.observed_guid = organization.guid
    row.default_access_level = _column(settings.default_access_level, 32)
    row.user_mail_insert = _column(settings.user_mail_insert)
    row.admin_mail_recipients = [_column(address) for address in settings.admin_mail_recipients]
    row.settings_observed_at = timezone.now()
    newest = max(
        (server.version for server in servers),
        key=lambda version: (version.major, version.minor, version.build, version.revision),
        default=None,
    )
    if newest is not None:
        known = newest.product in ExchangeVersion.values
        row.version = ExchangeVersion(newest.product) if known else ExchangeVersion.UNKNOWN
        row.build = _column(newest.text, 64)
    row.save(
        update_fields=[
            "observed_name", "observed_guid", "version", "build", "default_access_level", "user_mail_insert",
            "admin_mail_recipients", "settings_observed_at",
        ]
    )  # fmt: skip
    _servers_observed(connector, servers)
    logger.info("organisation %s observed by %s", row.public_id, actor.name)


def _column(text: str, limit: int | None = None) -> str:
    """Foreign text as a column can hold it: PostgreSQL takes no NUL and nothing longer than the column."""
    return text.replace("\0", "")[:limit]


def _servers_observed(connector: Connector, servers: Sequence[ExchangeServerRecord]) -> None:
    found = {server.fqdn.lower(): server for server in servers if server.is_client_access_server and server.fqdn}
    known = {row.fqdn.lower(): row for row in ClientAccessServer.objects.filter(connector=connector)}
    for name, row in known.items():
        if name in found and row.build != _column(found[name].version.text, 64):
            row.build = _column(found[name].version.text, 64)
            row.save(update_fields=["build"])
        elif name not in found and row.source == ClientAccessServer.Source.DISCOVERED:
            row.delete()
    ClientAccessServer.objects.bulk_create(
        ClientAccessServer(
            connector=connector,
            fqdn=name,
            priority=DISCOVERED_PRIORITY,
            source=ClientAccessServer.Source.DISCOVERED,
            build=_column(server.version.text, 64),
            is_usable=False,
        )
        for name, server in found.items()
        if name not in known
    )


@transaction.atomic
def connector_status_set(
    *,
    connector: Connector,
    status: str,
    error_code: str = "",
    exchange_server: str = "",
    connector_server: str = "",
    fence: int | None = None,
    actor: Actor,
) -> None:
    """Set the status and the code of what is wrong ("" when nothing is).

    `status_changed_at` moves only when the status differs. A server name left "" keeps the one known. `fence`: lease
    number of the run that says so, None when no run does. Raises StaleFenceError.
    """
    current = _fence_check(connector, fence)
    current.last_error_code = error_code
    current.exchange_server = exchange_server or current.exchange_server
    current.connector_server = connector_server or current.connector_server
    if current.status != status:
        current.status = ConnectorStatus(status)
        current.status_changed_at = timezone.now()
        logger.info("connector %s is %s (%s), says %s", current.public_id, status, error_code, actor.name)
    fields = ["status", "status_changed_at", "last_error_code", "exchange_server", "connector_server"]
    current.save(update_fields=fields)
    for name in fields:
        setattr(connector, name, getattr(current, name))


def server_answered(*, server: ClientAccessServer, actor: Actor) -> None:
    """Remember that a server let us in just now; what was wrong with it before is over."""
    server.last_answered_at = timezone.now()
    server.last_error_code = ""
    server.save(update_fields=["last_answered_at", "last_error_code"])
    logger.debug("server %s answered %s", server.fqdn, actor.name)


def server_failed(*, server: ClientAccessServer, error_code: str, actor: Actor) -> None:
    """Remember that a server could not be used, and why; it is tried later than the others for a while."""
    server.last_error_code = error_code
    server.last_error_at = timezone.now()
    server.save(update_fields=["last_error_code", "last_error_at"])
    logger.warning("server %s did not serve %s: %s", server.fqdn, actor.name, error_code)


def _fence_check(connector: Connector, fence: int | None) -> Connector:
    """The connector's row, locked. Raises StaleFenceError when a newer run took the lease."""
    current = Connector.objects.select_for_update().get(pk=connector.pk)
    if fence is not None and fence != current.fence:
        raise StaleFenceError(f"lease {fence} of connector {current.public_id} was taken over by {current.fence}")
    return current

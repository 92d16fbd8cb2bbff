"""Connectors to organisations of the lab, and syncs of them done in the test's own process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from connectors import gateway
from connectors.actors import SETUP
from connectors.exchange import session
from connectors.exchange.client import Account, Endpoint, ExchangeClient, Options
from connectors.models import Connector, Tenant
from connectors.secrets import Secret
from connectors.services import (
    AccountSettings,
    ServerSettings,
    connector_create,
    organization_create,
    tenant_create,
)
from sync.models import MobileDevice, SyncRun
from sync.runs import run_execute
from sync.services import sync_request
from tests.labs import Organization


def connector_to(
    organization: Organization, authentication: str = "ntlm", *, tls: bool = False, role: str = "connector"
) -> Connector:
    """As an administrator would set it up: all servers of the organisation, the lab's authority trusted."""
    account = organization.account(role)
    user = account.upn if authentication == "kerberos" else account.user
    tenant = Tenant.objects.filter(name="Contoso").first() or tenant_create(name="Contoso", actor=SETUP)
    return connector_create(
        organization=organization_create(tenant=tenant, name=organization.name, actor=SETUP),
        account=AccountSettings(user, Secret(account.password), authentication),
        servers=[
            ServerSettings(one.fqdn, one.https_port if tls else one.http_port, tls, one.host)
            for one in organization.servers
        ],
        ca_certificates=Path(organization.lab.ca).read_text(encoding="ascii"),
        is_clear_text_allowed=True,
        actor=SETUP,
    )


def sync(connector: Connector, kind: str = "fullSync", *, is_dry_run: bool = False, **options: Any) -> SyncRun:
    """The run as it ended. `options` replace what the gateway would choose: limits of time, above all."""
    run = sync_request(connector=connector, kind=kind, trigger="button", actor=SETUP, is_dry_run=is_dry_run).run
    connect = _connect(options)
    run_execute(
        run.pk,
        open_exchange=partial(gateway.open_exchange, connect=connect),
        open_sessions=partial(gateway.open_sessions, connect=connect),
    )
    run.refresh_from_db()
    return run


def _connect(changes: dict[str, Any]) -> Callable[..., AbstractContextManager[ExchangeClient]]:
    def connect(
        endpoint: Endpoint, account: Account, options: Options, **rest: Any
    ) -> AbstractContextManager[ExchangeClient]:
        return session.connect(endpoint, account, replace(options, **changes), **rest)

    return connect


def held(connector: Connector) -> dict[str, str]:
    """What the table holds as present: access state by guid."""
    rows = MobileDevice.objects.filter(organization_id=connector.organization_id, gone_at=None)
    return {str(guid): state for guid, state in rows.values_list("guid", "access_state")}


def in_lab(organization: Organization) -> dict[str, str]:
    """The same, asked of the lab's own control interface."""
    return dict(_rows(organization))


def _rows(organization: Organization) -> Iterator[tuple[str, str]]:
    for device in organization.devices():
        yield str(device["guid"]).lower(), str(device["state"])

"""What decides about the phones of the lab's tenants: where their records come from, their policy, who tells people.

Contoso reads the lab's Graph and controls the phones of its sales people; Fabrikam's records are pushed, and it
controls nothing yet. What somebody chose since is kept: only addresses and passwords, which a new lab makes anew, are
renewed.
"""

from __future__ import annotations

from typing import Any

from connectors.actors import SETUP
from connectors.models import DeviceSource, ExchangeOrganization, NotificationAccount, Tenant
from connectors.notification_accounts import (
    NotificationAccountSettings,
    notification_account_configure,
    notification_account_of,
)
from connectors.secrets import Secret
from connectors.sources import SourceSettings, source_configure, source_of
from sync.policies.policy import GroupRef, NotificationValues, OrganizationPolicyValues, TenantPolicyValues
from sync.policies.policy_services import organization_policy_change, policy_current, tenant_policy_change

REASON = "Demonstration"
# Tenants whose records come from the lab's Graph; others' are pushed.
BY_GRAPH = ("Contoso",)


def access_set_up(
    organization: ExchangeOrganization, description: dict[str, Any], state: dict[str, Any], authority: str
) -> None:
    """Make, or bring up to date, what one organization of lab.json needs. Raises KeyError for a lab of another kind."""
    tenant = organization.tenant
    if tenant.name not in BY_GRAPH:
        if source_of(tenant).kind == DeviceSource.Kind.NONE:
            source_configure(tenant=tenant, values=SourceSettings(kind=DeviceSource.Kind.PUSHED), actor=SETUP)
        return
    graph = next(one for one in state["graph"]["tenants"] if one["name"] == tenant.name)
    _source(tenant, graph, state["graph"])
    _tenant_policy(tenant, graph["groups"])
    _notification(organization, description, state, authority)


def _source(tenant: Tenant, graph: dict[str, Any], roots: dict[str, Any]) -> None:
    if source_of(tenant).kind not in (DeviceSource.Kind.NONE, DeviceSource.Kind.GRAPH):
        return
    values = SourceSettings(
        kind=DeviceSource.Kind.GRAPH,
        directory_id=graph["id"],
        client_id=graph["client_id"],
        client_secret=Secret(graph["client_secret"]),
        login_root=roots["login"],
        graph_root=roots["graph"],
    )
    source_configure(tenant=tenant, values=values, actor=SETUP)


def _tenant_policy(tenant: Tenant, groups: dict[str, str]) -> None:
    if policy_current(tenant)[1] is not None:
        return

    def named(word: str) -> tuple[GroupRef, ...]:
        return tuple(GroupRef(key, name) for name, key in groups.items() if name == f"{tenant.name} {word}")

    values = TenantPolicyValues(enabled=True, included_groups=named("sales"), excluded_groups=named("executives"))
    tenant_policy_change(tenant=tenant, values=values, reason=REASON, actor=SETUP)


def _notification(
    organization: ExchangeOrganization, description: dict[str, Any], state: dict[str, Any], authority: str
) -> None:
    row = notification_account_of(organization)
    if row.channel in (NotificationAccount.Channel.NONE, NotificationAccount.Channel.EWS):
        account = next(one for one in description["accounts"] if one["role"] == "notification")
        server = description["servers"][0]
        settings = NotificationAccountSettings(
            channel=NotificationAccount.Channel.EWS,
            sender=account["upn"],
            username=account["user"],
            password=Secret(account["password"]),
            ews_url=f"https://{server['host']}:{server['https_port']}/EWS/Exchange.asmx",
            ca_certificates=authority,
        )
        notification_account_configure(organization=organization, settings=settings, actor=SETUP)
    if policy_current(organization)[1] is None:
        notification = NotificationValues(
            enabled=True,
            enrollment_link=f"{state['graph']['graph']}/enroll/{organization.tenant.name}",
            help_contact=f"helpdesk@{description['domain']}",
        )
        organization_policy_change(
            organization=organization,
            values=OrganizationPolicyValues(notification=notification),
            reason=REASON,
            actor=SETUP,
        )

"""Set up the tenants of the lab: two customers, three Exchange organisations, each with a connector to the lab, and
what decides about their phones (demo_access.py).

Safe to run at every start: what exists is brought to the lab's present ports, password and authority. A connector that
does not point at this machine is never touched, whatever its name.
"""

from __future__ import annotations

import ipaddress
import json
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError
from django.db import transaction
from django.utils.translation import gettext as _

from connectors.actors import SETUP
from connectors.models import Authentication, ClientAccessServer, Connector, ExchangeOrganization, Tenant
from connectors.secrets import Secret
from connectors.services import (
    AccountSettings,
    ServerSettings,
    connector_create,
    connector_reconfigure,
    organization_create,
    tenant_create,
)
from console.management.demo_access import access_set_up
from sync.models import SyncRun
from sync.services import sync_request

# Spread over the ways to sign in, so that the demonstration shows each; (authentication, TLS) by Exchange version.
WAYS: dict[str, tuple[Authentication, bool]] = {
    "2010": (Authentication.BASIC, True),
    "2013": (Authentication.BASIC, True),
    "2016": (Authentication.NTLM, False),
    "2019": (Authentication.NEGOTIATE, False),
    "SE": (Authentication.NEGOTIATE, True),
}
TIME_ZONES = {"Contoso": "Europe/Berlin", "Fabrikam": "Asia/Taipei"}


class Command(BaseCommand):
    help = "Create or refresh the demonstration tenants from a lab's state file."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--lab", required=True, metavar="PATH", help="lab.json, as the lab wrote it")

    def handle(self, *args: Any, **options: Any) -> None:
        state = _state(Path(options["lab"]))
        requested = 0
        try:
            authority = Path(state["ca"]).read_text(encoding="ascii")
            for description in state["organizations"]:
                connector = _connector(description, authority, state)
                if connector is None:
                    self.stderr.write(
                        _("%(name)s has a connector that is not the lab's; it is left as it is.")
                        % {"name": description["name"]}
                    )
                elif connector.last_full_sync_at is None:
                    sync_request(
                        connector=connector, kind=SyncRun.Kind.FULL, trigger=SyncRun.Trigger.SETUP, actor=SETUP
                    )
                    requested += 1
        except (KeyError, TypeError, OSError) as error:
            raise CommandError(
                _("%(path)s does not describe a lab this version knows: %(reason)r")
                % {
                    "path": options["lab"],
                    "reason": error,
                }
            ) from error
        except ValidationError as error:
            raise CommandError("\n".join(error.messages)) from error
        self.stdout.write(
            _("demo: %(tenants)d tenants, %(organizations)d organizations, %(requested)d first syncs requested")
            % {
                "tenants": len({_tenant_name(d) for d in state["organizations"]}),
                "organizations": len(state["organizations"]),
                "requested": requested,
            }
        )


def _state(path: Path) -> dict[str, Any]:
    try:
        state: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CommandError(
            _("Cannot read %(path)s: %(reason)s. Is the lab started?") % {"path": path, "reason": error.strerror}
        ) from error
    except ValueError as error:
        raise CommandError(_("%(path)s is not JSON.") % {"path": path}) from error
    return state


def _tenant_name(description: dict[str, Any]) -> str:
    return str(description.get("tenant") or description["name"])


@transaction.atomic
def _connector(description: dict[str, Any], authority: str, state: dict[str, Any]) -> Connector | None:
    """The organisation's connector, made or brought up to date; None when it is not the lab's to change."""
    name = _tenant_name(description)
    tenant = Tenant.objects.filter(name=name).first() or tenant_create(
        name=name, time_zone=TIME_ZONES.get(name, "UTC"), actor=SETUP
    )
    organization = ExchangeOrganization.objects.filter(tenant=tenant, name=description["name"]).first()
    if organization is None:
        organization = organization_create(tenant=tenant, name=description["name"], actor=SETUP)
    existing = Connector.objects.filter(organization=organization).first()
    # A tenant with one real connector is a real tenant: nothing is decided for its people.
    if all(_is_local(one) for one in Connector.objects.filter(organization__tenant=tenant)):
        # Before the connector, so that its first sync decides already.
        access_set_up(organization, description, state, authority)
    if existing is None:
        account, servers = _way_in(description, *_way(description))
        return connector_create(
            organization=organization, account=account, servers=servers, ca_certificates=authority, actor=SETUP
        )
    if not _is_local(existing):
        return None
    # How to sign in is kept, since someone may be trying the other ways; what a new lab made anew is not.
    use_tls = existing.servers.filter(source=ClientAccessServer.Source.CONFIGURED, use_tls=False).first() is None
    account, servers = _way_in(description, Authentication(existing.authentication), use_tls)
    connector_reconfigure(
        connector=existing,
        account=account,
        servers=servers,
        ca_certificates=authority,
        is_clear_text_allowed=existing.is_clear_text_allowed,
        actor=SETUP,
    )
    return existing


def _way(description: dict[str, Any]) -> tuple[Authentication, bool]:
    way = WAYS.get(description["version"], (Authentication.NEGOTIATE, True))
    # The lab spells them as the header WWW-Authenticate does.
    offered = [kind.lower() for kind in description.get("authentications") or [way[0]]]
    if way[0] in offered:
        return way
    # Over TLS none is refused for clear text; Kerberos last, since it needs a key distribution centre.
    return next(one for one in reversed(Authentication) if one in offered), True


def _way_in(
    description: dict[str, Any], authentication: Authentication, use_tls: bool
) -> tuple[AccountSettings, list[ServerSettings]]:
    account = {account["role"]: account for account in description["accounts"]}["connector"]
    port = "https_port" if use_tls else "http_port"
    servers = [
        ServerSettings(server["fqdn"], server[port], use_tls, server["host"]) for server in description["servers"]
    ]
    return AccountSettings(account["user"], Secret(account["password"]), authentication), servers


def _is_local(connector: Connector) -> bool:
    """Whether every configured server is dialled at this machine's loopback, as the lab's are."""
    addresses = connector.servers.filter(source=ClientAccessServer.Source.CONFIGURED).values_list("address", flat=True)
    return all(_is_loopback(address) for address in addresses)


def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return address == "localhost"

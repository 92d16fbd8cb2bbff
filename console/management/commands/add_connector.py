"""Add a connector from the command line: the organisation, its servers and the account that reads them.

The password is never an argument, since anyone on the machine can read those: it is asked for, or read from a file.
"""

from __future__ import annotations

import getpass
import sys
from argparse import SUPPRESS, ArgumentParser
from pathlib import Path
from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError
from django.db import transaction
from django.utils.translation import gettext as _

from connectors.actors import COMMAND_LINE
from connectors.models import Authentication, Connector, ExchangeOrganization, Tenant
from connectors.secrets import Secret
from connectors.services import (
    AccountSettings,
    ServerSettings,
    connector_create,
    organization_create,
    tenant_create,
)
from connectors.validation import advice
from sync.models import SyncRun
from sync.services import sync_request


class Command(BaseCommand):
    help = "Add an Exchange organization and its connector. Creates the tenant when it does not exist."
    # The connection is made by workers, later; nothing here needs the checks of the whole project.
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--tenant", required=True, metavar="NAME")
        parser.add_argument("--time-zone", default="", metavar="ZONE", help="of a new tenant, such as Europe/Berlin")
        parser.add_argument("--organization", required=True, metavar="NAME", help="as the console shows it")
        parser.add_argument(
            "--server",
            dest="servers",
            action="append",
            required=True,
            metavar="FQDN[:PORT][=ADDRESS]",
            help="a Client Access Server; repeat it, the first is tried first. ADDRESS: where to connect instead",
        )
        parser.add_argument("--user", required=True, metavar="USER", help="name@contoso.com or CONTOSO\\name")
        parser.add_argument(
            "--password-file", default="", metavar="FILE", help="- reads standard input; without it you are asked"
        )
        # Known only to be refused: without it, argparse would take it for a shortened --password-file.
        parser.add_argument("--password", default=None, help=SUPPRESS)
        parser.add_argument("--auth", choices=Authentication.values, default=Authentication.KERBEROS)
        parser.add_argument("--no-tls", action="store_true", help="http, port 80 unless another is given")
        parser.add_argument("--allow-clear-text", action="store_true", help="Basic without TLS, in spite of all")
        parser.add_argument("--ca-file", default="", metavar="FILE", help="PEM of the authority to trust")
        parser.add_argument("--site", default="default", help="which workers serve it (queue site.<name>)")
        parser.add_argument("--sync", action="store_true", help="request a full sync at once")

    def handle(self, *args: Any, **options: Any) -> None:
        servers = [server_parse(text, use_tls=not options["no_tls"]) for text in options["servers"]]
        account = AccountSettings(options["user"], _password(options), options["auth"])
        authorities = _read(options["ca_file"]) if options["ca_file"] else ""
        try:
            with transaction.atomic():
                connector = connector_create(
                    organization=_organization(options["tenant"], options["time_zone"], options["organization"]),
                    account=account,
                    servers=servers,
                    ca_certificates=authorities,
                    is_clear_text_allowed=options["allow_clear_text"],
                    site=options["site"],
                    actor=COMMAND_LINE,
                )
        except ValidationError as error:
            raise CommandError(sentences(error)) from error
        self._report(connector, account, servers, wants_sync=options["sync"])

    def _report(
        self, connector: Connector, account: AccountSettings, servers: list[ServerSettings], *, wants_sync: bool
    ) -> None:
        for line in advice(account, servers):
            self.stdout.write(_("Note: %(advice)s") % {"advice": line})
        self.stdout.write(
            _("Added the connector of %(organization)s (%(id)s).")
            % {"organization": connector.organization.name, "id": connector.public_id}
        )
        if wants_sync:
            sync_request(connector=connector, kind=SyncRun.Kind.FULL, trigger=SyncRun.Trigger.SETUP, actor=COMMAND_LINE)
            self.stdout.write(
                _("A full sync is requested; it begins when a worker listens on the queue site.%(site)s.")
                % {"site": connector.site}
            )
        else:
            self.stdout.write(_("Next: manage.py sync %(id)s --wait") % {"id": connector.public_id})


def server_parse(text: str, *, use_tls: bool) -> ServerSettings:
    """FQDN[:PORT][=ADDRESS]. Raises CommandError when the port is no number; the rest is checked by the service."""
    name, _equals, address = text.partition("=")
    fqdn, colon, port = name.partition(":")
    if not colon:
        return ServerSettings(fqdn, 443 if use_tls else 80, use_tls, address)
    if not (port.isascii() and port.isdigit()):
        raise CommandError(
            _("“%(port)s” in --server %(text)s is not a port number. Write FQDN:PORT, such as ex01.contoso.com:443.")
            % {"port": port, "text": text}
        )
    return ServerSettings(fqdn, int(port), use_tls, address)


def sentences(error: ValidationError) -> str:
    """All that is wrong, each thing on one line."""
    return "\n".join(error.messages)


def _organization(tenant_name: str, time_zone: str, name: str) -> ExchangeOrganization:
    tenant = Tenant.objects.filter(name=tenant_name).first()
    if tenant is None:
        tenant = tenant_create(name=tenant_name, time_zone=time_zone or "UTC", actor=COMMAND_LINE)
    elif time_zone and time_zone != tenant.time_zone:
        raise CommandError(
            _("Tenant %(tenant)s exists, in time zone %(zone)s; leave --time-zone out to add to it.")
            % {"tenant": tenant.name, "zone": tenant.time_zone}
        )
    existing = ExchangeOrganization.objects.filter(tenant=tenant, name=name).first()
    return existing or organization_create(tenant=tenant, name=name, actor=COMMAND_LINE)


def _password(options: dict[str, Any]) -> Secret:
    if options["password"] is not None:
        raise CommandError(
            _(
                "A password is not taken as an argument: everyone on this machine can read those, and the shell keeps "
                "them. Use --password-file, or leave it out to be asked; and change the one just shown."
            )
        )
    if options["password_file"]:
        return Secret(_read(options["password_file"]).rstrip("\r\n"))
    if not sys.stdin.isatty():
        raise CommandError(
            _("There is no terminal to ask for the password. Give --password-file FILE, or - for standard input.")
        )
    return Secret(getpass.getpass(_("Password of %(user)s: ") % {"user": options["user"]}))


def _read(path: str) -> str:
    try:
        return sys.stdin.read() if path == "-" else Path(path).read_text(encoding="utf-8-sig")
    except OSError as error:
        raise CommandError(_("Cannot read %(path)s: %(reason)s.") % {"path": path, "reason": error.strerror}) from error
    except UnicodeDecodeError as error:
        raise CommandError(
            _("%(path)s is not text. A certificate must be in PEM form (Base-64 encoded X.509).") % {"path": path}
        ) from error

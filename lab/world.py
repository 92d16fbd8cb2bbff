"""Everything that one lab process holds: organisations with their servers, Graph tenants, faults; and its state file.

Passwords and ports are taken from an older state file where there is one, so that a connector made yesterday works
today.
"""

from __future__ import annotations

import json
import os
import secrets
import tempfile
import threading
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab.exchange.activesync import ActiveSync
from lab.exchange.auth import SCHEMES, Accounts
from lab.exchange.autodiscover import Autodiscover, AutodiscoverJson
from lab.exchange.contract import Account, Route
from lab.exchange.engine import ExchangeEngine
from lab.exchange.ews import Ews
from lab.exchange.http import WebServer
from lab.exchange.objects import EPOCH, Mailbox
from lab.exchange.scenario import build
from lab.exchange.store import Store
from lab.exchange.tls import Authority
from lab.exchange.wsman import Limits
from lab.faults import Faults
from lab.graph import Graph
from lab.graph_application import application_certificate
from lab.kdc import Kdc
from lab.scenarios import OrganizationSpec
from lab.smtp import SmtpServer
from lab.tenant import Tenant, populate

HOST = "127.0.0.1"
# role of lab.json → role of contract.Account. The notification account signs in to EWS and may run no cmdlet.
ROLES = {"connector": "connector", "viewer": "viewer", "none": "none", "notification": "none"}


@dataclass
class Organization:
    """One running organisation."""

    spec: OrganizationSpec
    store: Store
    engine: ExchangeEngine
    accounts: Accounts
    account_rows: list[dict[str, str]]
    servers: list[WebServer]
    autodiscover: Autodiscover
    smtp: SmtpServer

    def row(self) -> dict[str, Any]:
        """Its entry in the state file."""
        return {
            "name": self.spec.name,
            "tenant": self.spec.tenant,
            "domain": self.spec.domain,
            "version": self.spec.version,
            "devices": len(self.store.devices),
            "authentications": list(self.servers[0].authentications),
            "servers": [
                {"fqdn": s.fqdn, "host": HOST, "http_port": s.http_port, "https_port": s.https_port}
                for s in self.servers
            ],
            "accounts": self.account_rows,
            "smtp": {"fqdn": self.smtp.fqdn, "host": HOST, "port": self.smtp.port, "tls_port": self.smtp.tls_port},
        }


class World:
    """Made, then add() and start_graph(); stop() at the end. `previous` is the content of an older state file, or {}.

    with_kerberos: with a KDC, and a realm for each organisation; raises kdc.KdcError where that cannot be had.
    """

    def __init__(self, home: Path, seed: int, previous: dict[str, Any], *, with_kerberos: bool = False) -> None:
        self.home, self.seed, self.previous = home, seed, previous
        self.kdc = self._kdc() if with_kerberos else None
        self._adding = threading.Lock()
        self.faults = Faults()
        self.authority = Authority(home / "lab-ca")
        self.limits = Limits()
        self.organizations: list[Organization] = []
        self.tenants: list[Tenant] = []
        self.graph: Graph | None = None
        # Hexadecimal: a program that takes it as an argument would see an option in a "-" that it begins with.
        self.mailbox_password = str(previous.get("mailbox_password") or secrets.token_hex(8))

    # --- organisations ---

    def _kdc(self) -> Kdc:
        kdc = Kdc(self.home / "kerberos", int(self.previous.get("kerberos", {}).get("port", 0)))
        # The acceptor's library reads its settings from the environment.
        os.environ.update(kdc.environment)
        return kdc

    def add(self, spec: OrganizationSpec) -> Organization:
        """Build and start one organisation. Raises ValueError for a name or domain that is taken."""
        with self._adding:
            return self._add(spec)

    def _add(self, spec: OrganizationSpec) -> Organization:
        if any(o.spec.name == spec.name or o.spec.domain == spec.domain for o in self.organizations):
            raise ValueError(f"an organisation named {spec.name!r}, or with domain {spec.domain!r}, is there already")
        fqdns = [f"ex{number:02d}.{spec.domain}" for number in range(1, spec.cas + 1)]
        store = build(
            version=spec.version, name=spec.name, domain=spec.domain, devices=spec.devices,
            seed=self.seed if spec.seed is None else spec.seed, servers=fqdns, password=self.mailbox_password,
            child=spec.child,
        )  # fmt: skip
        old = self._previous_organization(spec.name)
        rows = self._account_rows(store, old)
        accounts = Accounts(Account(r["user"], r["upn"], r["password"], ROLES[r["role"]]) for r in rows)
        if self.kdc is not None:
            self.kdc.add(spec.domain, {r["upn"].partition("@")[0]: r["password"] for r in rows}, fqdns)
        engine = ExchangeEngine(store, self.faults)
        autodiscover = Autodiscover(store)
        routes: dict[str, Route] = {
            "/Microsoft-Server-ActiveSync": ActiveSync(store),
            "/EWS/Exchange.asmx": Ews(store, self.faults),
            "/autodiscover": autodiscover,
            "/autodiscover/autodiscover.json": AutodiscoverJson(autodiscover),
        }
        servers = [self._server(fqdn, old, engine, accounts, routes, spec.authentications or SCHEMES) for fqdn in fqdns]
        smtp = self._smtp(servers[0], store, accounts, old.get("smtp", {}))
        organization = Organization(spec, store, engine, accounts, rows, servers, autodiscover, smtp)
        autodiscover.base_url = f"https://{HOST}:{servers[0].https_port}"
        self.organizations.append(organization)
        populate(self._tenant(spec.tenant), store, self.seed)
        return organization

    def _server(
        self,
        fqdn: str,
        old: dict[str, Any],
        engine: ExchangeEngine,
        accounts: Accounts,
        routes: dict[str, Route],
        schemes: Sequence[str],
    ) -> WebServer:
        known: dict[str, Any] = next((s for s in old.get("servers", []) if s["fqdn"] == fqdn), {})
        for http_port, https_port in ((known.get("http_port", 0), known.get("https_port", 0)), (0, 0)):
            server = WebServer(
                fqdn, HOST, http_port, https_port, engine, accounts, self.authority, self.faults, routes,
                authentications=tuple(schemes), limits=self.limits,
            )  # fmt: skip
            try:
                server.start()
            except OSError:
                continue  # someone else took the port meanwhile
            return server
        raise OSError("no free port on loopback")

    def _smtp(self, site: WebServer, store: Store, accounts: Accounts, old: dict[str, Any]) -> SmtpServer:
        for ports in ((old.get("port", 0), old.get("tls_port", 0)), (0, 0)):
            server = SmtpServer(site.fqdn, HOST, ports, store, accounts, site.certificate.context, self.faults)
            try:
                server.start()
            except OSError:
                continue  # someone else took the port meanwhile
            return server
        raise OSError("no free port on loopback")

    def _account_rows(self, store: Store, old: dict[str, Any]) -> list[dict[str, str]]:
        rows = []
        for role, sam in (
            ("connector", "svc-gatehouse"),
            ("viewer", "svc-viewer"),
            ("none", "svc-none"),
            ("notification", "notify"),
        ):
            user = f"{store.netbios}\\{sam}"
            known: dict[str, Any] = next((a for a in old.get("accounts", []) if a["user"] == user), {})
            password = known.get("password") or secrets.token_urlsafe(12)
            rows.append({"user": user, "upn": f"{sam}@{store.domain}", "password": password, "role": role})
        store.add_mailbox(
            Mailbox(
                guid=uuid.uuid5(store.guid, "notify"),
                sam="notify",
                display_name="Device notifications",
                domain=store.domain,
                upn=f"notify@{store.domain}",
                smtp=f"notify@{store.domain}",
                sid="S-1-5-21-1111-2222-3333-1099",
                password=self.mailbox_password,
                created=EPOCH,
                changed=EPOCH,
            )
        )
        return rows

    def _previous_organization(self, name: str) -> dict[str, Any]:
        return next((o for o in self.previous.get("organizations", []) if o.get("name") == name), {})

    def find(self, name: str) -> Organization | None:
        return next((o for o in self.organizations if o.spec.name.lower() == name.lower()), None)

    # --- Graph ---

    def _tenant(self, name: str) -> Tenant:
        for tenant in self.tenants:
            if tenant.name == name:
                return tenant
        rows = self.previous.get("graph", {}).get("tenants", [])
        known: dict[str, Any] = next((t for t in rows if t["name"] == name), {})
        tenant = Tenant(
            name,
            known.get("id") or str(uuid.uuid5(uuid.NAMESPACE_DNS, f"{name}.lab")),
            known.get("client_id") or str(uuid.uuid5(uuid.NAMESPACE_DNS, f"{name}.app.lab")),
            known.get("client_secret") or secrets.token_urlsafe(24),
        )
        tenant.certificate = application_certificate(self.home / "graph" / f"{tenant.id}.pem", name)
        self.tenants.append(tenant)
        return tenant

    def start_graph(self) -> None:
        self.graph = Graph(self.tenants, int(self.previous.get("graph", {}).get("port", 0)))
        self.graph.service.start()

    # --- the state file ---

    def state(self, control: str) -> dict[str, Any]:
        if self.graph is None:
            raise RuntimeError("state() before start_graph()")
        first = self.organizations[0] if self.organizations else None
        return {
            "ca": str(self.authority.ca_path),
            "control": control,
            "graph": {
                "login": self.graph.url,
                "graph": self.graph.url,
                "port": self.graph.service.port,
                "tenants": [
                    {
                        "name": t.name,
                        "id": t.id,
                        "client_id": t.client_id,
                        "client_secret": t.client_secret,
                        "certificate": str(t.certificate.path) if t.certificate else "",
                        "groups": {group["displayName"]: key for key, group in t.groups.items()},
                    }
                    for t in self.tenants
                ],
            },
            "ews": first.autodiscover.ews_url if first else "",
            "mailbox_password": self.mailbox_password,
            "pid": os.getpid(),
            **self._kerberos(),
            "organizations": [organization.row() for organization in self.organizations],
        }

    def _kerberos(self) -> dict[str, Any]:
        """For whoever wants to sign in by Kerberos: KRB5_CONFIG, and the realms, which are the domains in capitals."""
        if self.kdc is None:
            return {}
        return {"kerberos": {"config": str(self.kdc.config), "port": self.kdc.port, "realms": self.kdc.realms}}

    def write_state(self, control: str) -> Path:
        """lab.json, mode 600, whole or not at all."""
        path = self.home / "lab.json"
        with tempfile.NamedTemporaryFile("w", dir=self.home, encoding="utf-8", delete=False) as draft:
            json.dump(self.state(control), draft, indent=2, ensure_ascii=False)
        os.chmod(draft.name, 0o600)
        os.replace(draft.name, path)
        return path

    def stop(self) -> None:
        for organization in self.organizations:
            organization.smtp.stop()
            for server in organization.servers:
                server.stop()
        if self.graph is not None:
            self.graph.service.stop()
        if self.kdc is not None:
            self.kdc.stop()


def read_previous(home: Path) -> dict[str, Any]:
    """What an older lab left in `home`; {} when there is none or it cannot be read."""
    try:
        value = json.loads((home / "lab.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}

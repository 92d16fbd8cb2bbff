"""A lab organisation inside the test's own process: its store, servers and faults at hand. Client and lab still meet
on the wire alone.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from connectors.exchange.client import Account, Endpoint, Options
from lab.exchange import scenario
from lab.exchange.activesync import ActiveSync
from lab.exchange.auth import Accounts
from lab.exchange.contract import Account as LabAccount
from lab.exchange.engine import ExchangeEngine
from lab.exchange.http import WebServer
from lab.exchange.store import Store
from lab.exchange.tls import Authority
from lab.faults import Fault, Faults

PASSWORD = 'Sésame "quoted" & <42>'
ROLES = ("connector", "viewer", "none")


@dataclass
class Organization:
    store: Store
    servers: list[WebServer]
    faults: Faults
    ca_file: str
    options: Options = field(init=False)

    def __post_init__(self) -> None:
        self.options = Options(
            ca_file=self.ca_file, connect_timeout=3, operation_timeout=1, read_timeout=4, silence=6, deadline=60
        )

    def endpoint(self, *, tls: bool = False, number: int = 0) -> Endpoint:
        server = self.servers[number]
        port = server.https_port if tls else server.http_port
        assert port is not None
        return Endpoint(fqdn=server.fqdn, port=port, use_tls=tls, address="127.0.0.1")

    def account(self, kind: str = "basic", role: str = "connector", password: str = PASSWORD) -> Account:
        return Account(f"{self.store.netbios}\\svc-{role}", password, kind)

    def fault(self, kind: str, value: object = "", cmdlet: str = "", times: int = 0) -> None:
        self.faults.add(Fault(kind, cmdlet=cmdlet, value=str(value), times=times))

    def refuse(self) -> None:
        """As the fault, and wait until it holds: the listener looks now and again."""
        self.fault("refuse")
        self._until(is_open=False)

    def settle(self) -> None:
        """No more faults, and connections are taken."""
        self.faults.clear()
        self._until(is_open=True)

    def _until(self, *, is_open: bool) -> None:
        end = time.monotonic() + 5
        for port in (self.endpoint().port, self.endpoint(tls=True).port):
            while self._is_open(port) is not is_open:
                assert time.monotonic() < end
                time.sleep(0.01)

    @staticmethod
    def _is_open(port: int) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", port), 1) as connection:
                connection.settimeout(0.06)
                return connection.recv(1) != b""
        except TimeoutError:
            return True
        except OSError:
            return False

    @property
    def open_shells(self) -> int:
        return sum(server.powershell.open_shells for server in self.servers)


@contextmanager
def organization(folder: Path, version: str = "2016", devices: int = 60, **web: Any) -> Iterator[Organization]:
    domain = f"e{version.lower()}.test"
    fqdn = f"ex01.{domain}"
    store = scenario.build(
        version=version, name=f"Org {version}", domain=domain, devices=devices, seed=5, servers=[fqdn]
    )
    faults = Faults()
    accounts = Accounts(
        LabAccount(f"{store.netbios}\\svc-{role}", f"svc-{role}@{domain}", PASSWORD, role) for role in ROLES
    )
    authority = Authority(folder)
    routes = {"/Microsoft-Server-ActiveSync": ActiveSync(store)}
    engine = ExchangeEngine(store, faults)
    server = WebServer(fqdn, "127.0.0.1", 0, 0, engine, accounts, authority, faults, routes, **web)
    server.start()
    try:
        yield Organization(store, [server], faults, str(authority.ca_path))
    finally:
        server.stop()
        accounts.forget()

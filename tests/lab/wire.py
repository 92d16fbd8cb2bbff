"""What the tests of the lab's wire share: a small engine, a server in this process, and pypsrp as it is shipped."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pypsrp.powershell import PowerShell, RunspacePool
from pypsrp.wsman import WSMan

from lab.exchange.auth import Accounts
from lab.exchange.contract import Account, Command, Failure, ObjectXml, Output, Progress, SessionState, Warn
from lab.exchange.http import WebServer
from lab.exchange.tls import Authority
from lab.faults import Fault, Faults

FQDN = "ex01.lab.test"
CONNECTOR = Account("LAB\\svc-eas", "svc-eas@lab.test", "Str0ng pass§word", "connector")
OTHER = Account("LAB\\viewer", "viewer@lab.test", "other", "viewer")


def text(value: str) -> ObjectXml:
    return ObjectXml(f"<S>{value}</S>".encode())


def failure(*, terminating: bool) -> Failure:
    return Failure(
        message="The operation couldn't be performed because object 'nobody' couldn't be found on 'dc1.lab.test'.",
        exception="Microsoft.Exchange.Configuration.Tasks.ManagementObjectNotFoundException",
        category=0,
        fq_error_id="[FailureCategory=Cmdlet-ManagementObjectNotFoundException] 4C9,Get-Thing",
        reason="ManagementObjectNotFoundException",
        activity="Get-Thing",
        terminating=terminating,
    )


@dataclass
class FakeEngine:
    """Cmdlets made for the wire: what they print is what the tests look at."""

    protocol: str = "2.3"
    seen: list[tuple[Command, ...]] = field(default_factory=list)
    states: list[SessionState] = field(default_factory=list)
    made: int = 0
    running: int = 0
    most_running: int = 0
    gate: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def protocol_version(self) -> str:
        return self.protocol

    def run(self, state: SessionState, commands: Sequence[Command], stop: threading.Event) -> Iterator[Output]:
        self.seen.append(tuple(commands))
        self.states.append(state)
        with self._lock:
            self.running += 1
            self.most_running = max(self.most_running, self.running)
        try:
            for command in commands:
                yield from self._one(command, stop)
        finally:
            with self._lock:
                self.running -= 1

    def _one(self, command: Command, stop: threading.Event) -> Iterator[Output]:
        parameters = dict(command.parameters)
        match command.name:
            case "Get-Echo":
                yield text(repr(parameters))
            case "Get-Many":
                size = int(parameters.get("Size") or 100)
                for number in range(int(parameters["Count"])):
                    self.made += 1
                    yield text(f"{number:0{size}d}")
            case "Get-Slow":
                yield text("first")
                self.gate.wait(20)
                yield text("second")
            case "Wait-Stop":
                yield text("begun")
                stop.wait(20)
            case "Get-Streams":
                yield Warn("By default, only the first 1000 items are returned.")
                yield Progress("Reading", 50)
                yield failure(terminating=False)
                yield text("last")
            case "Get-Failure":
                yield text("before")
                yield failure(terminating=True)
                yield text("never")
            case "Get-Bug":
                raise LookupError("a bug")
            case _:
                yield text(command.name)


@dataclass
class Site:
    """A server under test."""

    server: WebServer
    engine: FakeEngine
    faults: Faults
    ca_path: str

    def wsman(self, *, tls: bool = False, account: Account = CONNECTOR, auth: str = "basic", **options: Any) -> WSMan:
        """pypsrp's WSMan, unmodified."""
        arguments: dict[str, Any] = {
            "server": "127.0.0.1",
            "port": self.server.https_port if tls else self.server.http_port,
            "username": account.user,
            "password": account.password,
            "ssl": tls,
            "path": "PowerShell",
            "auth": auth,
            "encryption": "never" if auth == "basic" and not tls else "auto",
            "operation_timeout": 5,
            "read_timeout": 20,
            "no_proxy": True,
        }
        if tls:
            arguments["cert_validation"] = self.ca_path
        return WSMan(**(arguments | options))

    @contextmanager
    def pool(
        self, *, idle_timeout: int | None = None, max_runspaces: int = 1, **options: Any
    ) -> Iterator[RunspacePool]:
        with self.wsman(**options) as wsman:
            pool = make_pool(wsman, idle_timeout=idle_timeout, max_runspaces=max_runspaces)
            with pool:
                yield pool

    def fault(self, kind: str, value: str = "", times: int = 0, cmdlet: str = "") -> Fault:
        return self.faults.add(Fault(kind, server=FQDN, value=value, times=times, cmdlet=cmdlet))


def make_pool(wsman: WSMan, **options: Any) -> RunspacePool:
    return RunspacePool(wsman, configuration_name="Microsoft.Exchange", **options)


def command(pool: RunspacePool, name: str, **parameters: Any) -> PowerShell:
    shell = PowerShell(pool)
    shell.add_cmdlet(name)
    for key, value in parameters.items():
        shell.add_parameter(key, value)
    return shell


def run(pool: RunspacePool, name: str, **parameters: Any) -> list[Any]:
    with command(pool, name, **parameters) as shell:
        return list(shell.invoke())


@contextmanager
def serving(home: Path, protocol: str = "2.3", **options: Any) -> Iterator[Site]:
    engine, faults = FakeEngine(protocol), Faults()
    authority = Authority(home / "tls")
    accounts = Accounts([CONNECTOR, OTHER])
    server = WebServer(FQDN, "127.0.0.1", 0, 0, engine, accounts, authority, faults, **options)
    server.start()
    try:
        yield Site(server, engine, faults, str(authority.ca_path))
    finally:
        engine.gate.set()
        server.stop()
        accounts.forget()

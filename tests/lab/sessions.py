"""A session with an organisation, in this process: commands go to the engine, its CLIXML comes back as plain values."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any
from xml.etree import ElementTree

from lab.exchange.contract import Account, Command, Failure, ObjectXml, SessionState, Warn
from lab.exchange.engine import ExchangeEngine
from lab.exchange.scenario import build
from lab.exchange.store import Store
from lab.faults import Fault, Faults

VERSIONS = ("2010", "2013", "2016", "2019", "SE")


def make_store(version: str = "SE", devices: int = 60, seed: int = 5, **options: Any) -> Store:
    domain = f"e{version.lower()}.test"
    servers = [f"ex01.{domain}", f"ex02.{domain}"]
    return build(version=version, name="Org", domain=domain, devices=devices, seed=seed, servers=servers, **options)


@dataclass
class Result:
    """What a pipeline put out. `failed`: the error that ended it."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    elements: list[ElementTree.Element] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    errors: list[Failure] = field(default_factory=list)
    failed: Failure | None = None

    @property
    def error(self) -> Failure:
        """The one error, of whatever kind."""
        [error] = [*self.errors, *([self.failed] if self.failed else [])]
        return error

    def values(self, name: str) -> list[Any]:
        return [row[name] for row in self.rows]

    @property
    def row(self) -> dict[str, Any]:
        [row] = self.rows
        return row


@dataclass
class Session:
    store: Store
    role: str = "connector"
    level: str = "default"
    faults: Faults = field(default_factory=Faults)
    engine: ExchangeEngine = field(init=False)
    state: SessionState = field(init=False)

    def __post_init__(self) -> None:
        self.engine = ExchangeEngine(self.store, self.faults)
        account = Account(f"{self.store.netbios}\\svc", f"svc@{self.store.domain}", "secret", self.role)
        self.state = SessionState(account, self.store.servers[0].fqdn, self.level)

    def run(self, name: str, select: Iterable[str] = (), /, **parameters: Any) -> Result:
        commands = [Command(name, tuple(parameters.items()))]
        if chosen := list(select):
            commands.append(Command("Select-Object", (("Property", chosen),)))
        return self.pipeline(*commands)

    def pipeline(self, *commands: Command) -> Result:
        result = Result()
        for output in self.engine.run(self.state, commands, threading.Event()):
            assert result.failed is None, "output after the pipeline has failed"
            if isinstance(output, ObjectXml):
                element = ElementTree.fromstring(output.xml)
                result.elements.append(element)
                result.rows.append(values_of(element))
            elif isinstance(output, Warn):
                result.warnings.append(output.text)
            elif isinstance(output, Failure):
                assert output.reason != "DefectException", output.message
                if output.terminating:
                    result.failed = output
                else:
                    result.errors.append(output)
        return result

    def entire_forest(self) -> Session:
        assert not self.run("Set-ADServerSettings", ViewEntireForest=True).errors
        return self

    def fault(self, kind: str, value: object = "", **where: Any) -> None:
        self.faults.add(Fault(kind, value=str(value), **where))


def session(version: str = "SE", **options: Any) -> Session:
    return Session(make_store(version, **options))


def values_of(element: ElementTree.Element) -> dict[str, Any]:
    """The properties of an object, adapted or extended, by name."""
    holder = element.find("Props")
    holder = element.find("MS") if holder is None else holder
    assert holder is not None
    return {child.get("N", ""): value_of(child) for child in holder}


def value_of(element: ElementTree.Element) -> Any:
    if element.tag == "Nil":
        return None
    if element.tag == "B":
        return element.text == "true"
    if element.tag in ("I32", "I64"):
        return int(element.text or "")
    entries = element.find("LST")
    if entries is not None:
        return [value_of(entry) for entry in entries]
    if element.tag == "Obj":
        return element.findtext("ToString")
    return unescaped(element.text or "")


def unescaped(text: str) -> str:
    """Without PSRP's _xHHHH_, whose units are UTF-16's."""
    units = re.sub("_x([0-9A-F]{4})_", lambda match: chr(int(match[1], 16)), text)
    return units.encode("utf-16-le", "surrogatepass").decode("utf-16-le")

"""The lab's Graph tenant for tests of the client: how to reach it, and what goes wrong there."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from connectors.graph.client import GraphClient, Options, never
from connectors.graph.clouds import Cloud, cloud
from connectors.graph.credentials import Credentials
from connectors.graph.source import GraphSource, connect
from tests.labs import Lab

# Waits that Graph does not name are seconds, so tests allow few of them.
QUICK = Options(connect_timeout=5, read_timeout=10, patience=20, page_size=40)


@dataclass(frozen=True)
class GraphTenant:
    """One tenant of a running lab."""

    lab: Lab
    name: str = "Contoso"

    @property
    def row(self) -> dict[str, Any]:
        rows: list[dict[str, Any]] = self.lab.state["graph"]["tenants"]
        return next(row for row in rows if row["name"] == self.name)

    @property
    def cloud(self) -> Cloud:
        where = self.lab.state["graph"]
        return cloud("global", login=where["login"], graph=where["graph"])

    @property
    def secret(self) -> Credentials:
        return Credentials(self.row["id"], self.row["client_id"], client_secret=self.row["client_secret"])

    @property
    def certificate(self) -> Credentials:
        pem = Path(self.row["certificate"]).read_text(encoding="ascii")
        return Credentials(self.row["id"], self.row["client_id"], certificate=pem)

    def client(self, options: Options = QUICK, should_stop: Callable[[], bool] = never) -> GraphClient:
        return GraphClient(self.secret, self.cloud, options, should_stop=should_stop)

    @contextlib.contextmanager
    def source(self, options: Options = QUICK, should_stop: Callable[[], bool] = never) -> Iterator[GraphSource]:
        with connect(self.secret, self.cloud, options, should_stop=should_stop) as source:
            yield source

    def call(self, method: str, path: str, body: Any = None, **query: Any) -> dict[str, Any]:
        return self.lab.call(method, f"graph/{self.name}/{path}", body, **query)

    @contextlib.contextmanager
    def fault(self, kind: str, *, path: str = "", value: object = "", times: int = 0) -> Iterator[None]:
        """The fault for as long as the block takes."""
        body = {"kind": kind, "path": path, "value": str(value), "times": times}
        fault_id = self.call("POST", "faults", body)["id"]
        try:
            yield
        finally:
            self.call("DELETE", f"faults/{fault_id}")

    def devices(self, **query: Any) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = self.call("GET", "devices", **query)["devices"]
        return rows

    def users(self) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = self.call("GET", "users")["users"]
        return rows

    def asked(self) -> list[str]:
        rows: list[str] = self.lab.call("GET", "graph/log")["log"]
        return rows

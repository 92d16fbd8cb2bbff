"""The lab for tests: `python -m lab` as a process of its own, reached as anybody would: lab.json, HTTP, the wire.

`lab` (one for the whole test process) has one small organisation for each Exchange version, named after it: "2010",
"2013", "2016", "2019", "SE". `fresh_lab(...)` starts others, with organisations of one's own, while a test takes.
Nothing of the lab's code is imported here, so that tests of the product cannot reach into it either.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
VERSIONS = ("2010", "2013", "2016", "2019", "SE")
DEVICES = 40
# SE has three Client Access Servers and 2016 two, as in the lab that `make run` starts.
ORGANIZATIONS = tuple(
    f"name={version},tenant=Contoso,version={version},domain=e{version.lower()}.lab,devices={DEVICES},child=10,"
    f"cas={ {'SE': 3, '2016': 2}.get(version, 1) }"
    for version in VERSIONS
)
READY_SECONDS = 60.0
_PR_SET_PDEATHSIG = 1
_open = urllib.request.build_opener(urllib.request.ProxyHandler({})).open


class ControlRefusal(Exception):
    """The control interface said no: `status`, and its text."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(f"{status}: {text}")
        self.status = status


@dataclass(frozen=True)
class Server:
    """One Client Access Server."""

    fqdn: str
    host: str
    http_port: int
    https_port: int


@dataclass(frozen=True)
class Account:
    user: str
    upn: str
    password: str
    role: str


@dataclass(frozen=True)
class Organization:
    """One organisation of the lab: where its servers are, who may sign in, and what is in it."""

    lab: Lab
    row: dict[str, Any]

    @property
    def name(self) -> str:
        return str(self.row["name"])

    @property
    def version(self) -> str:
        return str(self.row["version"])

    @property
    def domain(self) -> str:
        return str(self.row["domain"])

    @property
    def servers(self) -> list[Server]:
        return [Server(**row) for row in self.row["servers"]]

    def account(self, role: str = "connector") -> Account:
        """connector (everything), viewer (Get- only), none (signs in, has no cmdlet), notification (EWS)."""
        return next(Account(**row) for row in self.row["accounts"] if row["role"] == role)

    def _call(self, method: str, path: str, body: Any = None, **query: Any) -> dict[str, Any]:
        return self.lab.call(method, f"organizations/{urllib.parse.quote(self.name, safe='')}/{path}", body, **query)

    def log(self, since: int = 0) -> list[dict[str, Any]]:
        """Commands run so far: number, at, server, account, cmdlet, parameters."""
        rows: list[dict[str, Any]] = self._call("GET", "log", since=since)["log"]
        return rows

    def log_clear(self) -> None:
        self._call("DELETE", "log")

    def hide(self, *names: str) -> None:
        """What RBAC keeps from everyone: "Get-MobileDevice", "Get-MobileDevice:Filter"; nothing: all is seen."""
        self._call("PUT", "hidden", {"hidden": list(names)})

    def devices(self, **query: Any) -> list[dict[str, Any]]:
        """All of them, page by page (or offset=, limit=)."""
        rows: list[dict[str, Any]] = []
        while True:
            page = self._call("GET", "devices", **({"offset": len(rows)} | query))
            rows += page["devices"]
            if query or len(rows) >= page["count"]:
                return rows

    def device_add(self, **body: Any) -> dict[str, Any]:
        """One device; mailbox=, device_id=, device_type=, model=, os=, state=, reason=, friendly_name=, first_sync=,
        last_success= (ISO text)."""
        added: dict[str, Any] = self._call("POST", "devices", body)["devices"][0]
        return added

    def devices_add(self, count: int, **body: Any) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = self._call("POST", "devices", {"count": count, **body})["devices"]
        return rows

    def device_change(self, guid: str, **body: Any) -> dict[str, Any]:
        """state=, reason=, rule=, friendly_name=, os=, model=, first_sync=: what the directory holds, without the
        phone's doing; last_success=: what the statistics say."""
        return self._call("PATCH", f"devices/{guid}", body)

    def devices_mutate(self, count: int) -> int:
        """Change the operating system of so many devices, as updates do."""
        return int(self._call("POST", "devices/mutate", {"count": count})["count"])

    def devices_remove(self, count: int = 1, guid: str = "") -> list[dict[str, Any]]:
        body: dict[str, Any] = {"guid": guid} if guid else {"count": count}
        rows: list[dict[str, Any]] = self._call("POST", "devices/remove", body)["devices"]
        return rows

    def mailboxes(self, **query: Any) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = self._call("GET", "mailboxes", **query)["mailboxes"]
        return rows

    def mailbox_change(self, mailbox: str, **body: Any) -> dict[str, Any]:
        """allowed=, blocked=, active_sync_enabled=, policy=: as another administrator would set them."""
        return self._call("PATCH", f"mailboxes/{urllib.parse.quote(mailbox, safe='')}", body)

    def mailbox(self, sam: str) -> dict[str, Any]:
        """One mailbox as it is now: its lists, guid, addresses."""
        offset = 0
        while True:
            page = self._call("GET", "mailboxes", offset=offset)
            found = next((row for row in page["mailboxes"] if row["sam"] == sam), None)
            offset += len(page["mailboxes"])
            if found is not None or offset >= page["count"]:
                assert found is not None, f"no mailbox {sam}"
                return dict(found)

    def rules_set(self, *rules: tuple[str, str, str]) -> None:
        """All access rules, (query, characteristic, level) each, as another administrator would set them."""
        names = ("query", "characteristic", "level")
        self._call("PUT", "rules", {"rules": [dict(zip(names, rule, strict=True)) for rule in rules]})

    def rules(self) -> list[dict[str, Any]]:
        """Access rules: name, query, characteristic, level."""
        found: list[dict[str, Any]] = self._call("GET", "rules")["rules"]
        return found

    def policies(self) -> list[dict[str, Any]]:
        """Mailbox policies: name, is_default, settings (ActiveSync names) and how many mailboxes have each."""
        found: list[dict[str, Any]] = self._call("GET", "policies")["policies"]
        return found

    def writes(self, since: int = 0) -> list[dict[str, Any]]:
        """Of the log, what changes something in Exchange."""
        return [
            entry
            for entry in self.log(since)
            if not entry["cmdlet"].startswith("Get-") and entry["cmdlet"] != "Set-ADServerSettings"
        ]

    def settings(self, **body: Any) -> dict[str, Any]:
        """Change the organisation's ActiveSync settings, default_access_level= and so on; nothing: as they are."""
        if body:
            return self._call("PATCH", "", body)
        found: dict[str, Any] = self._call("GET", "")["settings"]
        return found

    def messages(self, mailbox: str) -> list[dict[str, Any]]:
        path = f"mailboxes/{urllib.parse.quote(mailbox, safe='')}/messages"
        rows: list[dict[str, Any]] = self._call("GET", path)["messages"]
        return rows

    def phone(self, mailbox: str, device_id: str, **body: Any) -> dict[str, Any]:
        """One request of a phone, over HTTP: status, eas_status, state, reason, mail."""
        return self._call("POST", "phone", {"mailbox": mailbox, "device_id": device_id, **body})


@dataclass
class Lab:
    """A running lab."""

    home: Path
    process: subprocess.Popen[bytes]
    state: dict[str, Any] = field(default_factory=dict)

    @property
    def ca(self) -> str:
        """Path of the certificate that vouches for all its servers."""
        return str(self.state["ca"])

    @property
    def organizations(self) -> list[Organization]:
        return [Organization(self, row) for row in self.state["organizations"]]

    def organization(self, name: str = "SE") -> Organization:
        return next(one for one in self.organizations if one.name == name)

    def organization_add(self, **specification: Any) -> Organization:
        """Another one in the running lab: name=, version=, cas=, devices=, tenant=, domain=, seed=."""
        row = self.call("POST", "organizations", specification)
        self.state = json.loads((self.home / "lab.json").read_text(encoding="utf-8"))
        return Organization(self, row)

    def call(self, method: str, path: str, body: Any = None, **query: Any) -> dict[str, Any]:
        """One request to the control interface. Raises ControlRefusal."""
        url = f"{self.state['control']}{path}" + (f"?{urllib.parse.urlencode(query)}" if query else "")
        data = None if body is None else json.dumps(body).encode()
        try:
            request = urllib.request.Request(url, data, method=method)  # noqa: S310 - lab.json's own address
            with _open(request, timeout=60) as response:
                answer: dict[str, Any] = json.load(response)
                return answer
        except urllib.error.HTTPError as error:
            raise ControlRefusal(error.code, error.read().decode()) from None

    def fault_add(self, kind: str, *, server: str = "", cmdlet: str = "", value: object = "", times: int = 0) -> str:
        """Its id. `times` 0: until it is cleared. See lab/faults.py for the kinds."""
        body = {"kind": kind, "server": server, "cmdlet": cmdlet, "value": str(value), "times": times}
        return str(self.call("POST", "faults", body)["id"])

    def faults_clear(self, fault_id: str = "") -> None:
        self.call("DELETE", f"faults/{fault_id}" if fault_id else "faults")

    @contextlib.contextmanager
    def fault(self, kind: str, **where: Any) -> Iterator[str]:
        """The fault for as long as the block takes."""
        fault_id = self.fault_add(kind, **where)
        try:
            yield fault_id
        finally:
            with contextlib.suppress(ControlRefusal):  # used up meanwhile
                self.faults_clear(fault_id)

    def limits(self, **limits: Any) -> dict[str, Any]:
        """Change limits (shells_per_user, idle seconds, ...); nothing: as they are."""
        return self.call("PATCH" if limits else "GET", "limits", limits or None)

    def reset(self) -> None:
        """No faults, usual limits, nothing hidden. The data stay as they are."""
        self.call("POST", "reset", {})

    def stop(self, number: int = signal.SIGTERM) -> int:
        """End it; the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            return self.process.wait(15)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait(5)


def start_lab(home: Path, organizations: Sequence[str] = ORGANIZATIONS, *options: str) -> Lab:
    """Start one and wait until it is ready. Raises RuntimeError with what it said when it ends before."""
    home.mkdir(parents=True, exist_ok=True)
    chosen = [part for one in organizations for part in ("--organization", one)]
    log = home / "lab.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "lab", "--home", str(home), *chosen, *options],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C ends the tests first, and they end the lab
            preexec_fn=_die_with_parent,
        )
    lab = Lab(home, process)
    end = time.monotonic() + READY_SECONDS
    while not log.read_bytes().startswith(b"lab ready"):
        if process.poll() is not None or time.monotonic() > end:
            lab.stop(signal.SIGKILL)
            raise RuntimeError(f"the lab did not start: {log.read_text(encoding='utf-8', errors='replace')}")
        time.sleep(0.02)
    lab.state = json.loads((home / "lab.json").read_text(encoding="utf-8"))
    return lab


def _die_with_parent() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


@pytest.fixture(scope="session")
def lab() -> Iterator[Lab]:
    """The lab that tests share: whoever sets a fault uses `with lab.fault(...)`, or ends with lab.reset()."""
    with tempfile.TemporaryDirectory(prefix="gatehouse-lab-") as folder:
        running = start_lab(Path(folder))
        try:
            yield running
        finally:
            running.stop()


@pytest.fixture
def fresh_lab() -> Iterator[Callable[..., Lab]]:
    """Starts labs: fresh_lab("name=Bench,version=2016,devices=500", ..., seed=7, home=..., kerberos=True)."""
    running: list[Lab] = []
    with tempfile.TemporaryDirectory(prefix="gatehouse-lab-") as folder:

        def start(*organizations: str, home: Path | None = None, seed: int = 1, kerberos: bool = False) -> Lab:
            chosen = organizations or ("name=Bench,version=2016,devices=50",)
            options = ["--seed", str(seed), *(["--kerberos"] if kerberos else [])]
            running.append(start_lab(home or Path(folder) / str(len(running)), chosen, *options))
            return running[-1]

        try:
            yield start
        finally:
            for one in running:
                one.stop()


def environment_without_proxies() -> dict[str, str]:
    """For programs that tests start against the lab."""
    return {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}

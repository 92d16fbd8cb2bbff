"""A product of its own for a measurement or a crash test: fresh home and database, valkey, real Celery workers.

Set GATEHOUSE_HOME (and what else the product reads) before this is used: Django is set up when a Stack is made.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import django

from bench.children import ROOT, stop, wait_for

if TYPE_CHECKING:
    from connectors.models import Connector
    from sync.models import SyncRun

RUN_TIMEOUT = 900.0
PROMPT_QUEUES = "gatehouse.now,site.default.now"
EVERY_QUEUE = f"gatehouse,site.default,{PROMPT_QUEUES}"


class Stack:
    """Use as a context; everything it started is stopped at its end."""

    def __init__(self, home: Path) -> None:
        home.mkdir(parents=True, exist_ok=True)
        self.home = home
        self._processes: list[subprocess.Popen[bytes]] = []
        os.environ["GATEHOUSE_HOME"] = str(home)
        os.environ["DJANGO_SETTINGS_MODULE"] = "console.settings"
        django.setup()

    def __enter__(self) -> Stack:
        from django.core.management import call_command

        from console.embedded import valkey_command
        from console.settings import REDIS_IS_EMBEDDED, REDIS_URL

        call_command("migrate", verbosity=0)
        if REDIS_IS_EMBEDDED:
            socket = Path(REDIS_URL.removeprefix("unix://"))
            self._start("valkey", valkey_command(self.home), socket.exists)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in reversed(self._processes):
            stop(process)

    def _start(self, name: str, command: list[str], ready: Callable[[], bool]) -> subprocess.Popen[bytes]:
        log = self.home / f"{name}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                command, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
            )
        self._processes.append(process)
        wait_for(ready, name, process, log)
        return process

    def start_worker(self, name: str, queues: str = EVERY_QUEUE) -> subprocess.Popen[bytes]:
        """A prefork worker with one child, serving every queue, or those named; returns once it is ready."""
        log = self.home / f"{name}.log"
        command = [
            *(sys.executable, "-m", "celery", "-A", "console", "worker", "-Q", queues),
            *("-n", f"{name}@bench", "-c", "1", "--without-mingle", "--without-gossip", "-l", "INFO"),
        ]
        return self._start(name, command, lambda: log.exists() and b" ready." in log.read_bytes())

    def kill_worker(self, worker: subprocess.Popen[bytes]) -> None:
        """SIGKILL the worker and all its children at once."""
        os.killpg(worker.pid, signal.SIGKILL)
        worker.wait()
        self._processes.remove(worker)

    def add_connector(self, target: dict[str, Any]) -> Connector:
        """Tenant, organisation and connector for one lab organisation, over plain http with Basic."""
        from connectors import services
        from connectors.actors import SETUP
        from connectors.secrets import Secret

        tenant = services.tenant_create(name="Bench", time_zone="UTC", actor=SETUP)
        organization = services.organization_create(tenant=tenant, name=target["organization"], actor=SETUP)
        return services.connector_create(
            organization=organization,
            account=services.AccountSettings(
                username=target["user"], password=Secret(target["password"]), authentication="basic"
            ),
            servers=[
                services.ServerSettings(fqdn=target["fqdn"], address=target["host"], port=target["port"], use_tls=False)
            ],
            is_clear_text_allowed=True,
            actor=SETUP,
        )

    def request(self, connector: Connector, kind: str) -> SyncRun:
        from connectors.actors import SETUP
        from sync import services
        from sync.models import SyncRun

        return services.sync_request(connector=connector, kind=kind, trigger=SyncRun.Trigger.COMMAND, actor=SETUP).run

    def wait(self, run: SyncRun, timeout: float = RUN_TIMEOUT, tick: Callable[[], None] | None = None) -> SyncRun:
        """The run once it has ended; `tick` is called while waiting."""
        end = time.monotonic() + timeout
        while run.is_active:
            if time.monotonic() > end:
                raise SystemExit(f"run {run.public_id} is still {run.status} in {run.phase} after {timeout} s")
            if tick is not None:
                tick()
            time.sleep(0.05)
            run.refresh_from_db()
        return run

    def full_sync(self, connector: Connector) -> SyncRun:
        run = self.wait(self.request(connector, "fullSync"))
        if run.status != "succeeded":
            raise SystemExit(f"full sync ended {run.status}: {run.error_code} {run.error_params}")
        return run

    @staticmethod
    def seconds(run: SyncRun) -> float:
        assert run.started_at is not None
        assert run.finished_at is not None
        return (run.finished_at - run.started_at).total_seconds()

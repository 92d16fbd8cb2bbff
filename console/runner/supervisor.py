"""Starts processes, keeps them running, prefixes what they print, and stops them: what others stand on last."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

CHILD = Path(__file__).with_name("child.py")
GRACE = 15.0  # seconds from SIGTERM to SIGKILL; a worker in the middle of something takes ten of them
BACK_OFF = (0.5, 1.0, 2.0, 5.0, 15.0)  # seconds before the next restart; the last repeats
STEADY = 60.0  # seconds of life after which a process has earned its first back-off again


class StartError(Exception):
    """A process ended, or was not ready in time, while it was started. The text is for people."""


@dataclass(eq=False)
class Service:
    """One process to keep running. Ready when `ready` says so, or when it has printed `ready_text`.

    is_base: the others need it until their own end.
    """

    name: str
    command: Sequence[str]
    ready: Callable[[], bool] | None = None
    ready_text: str = ""
    timeout: float = 90.0
    is_base: bool = False
    process: subprocess.Popen[bytes] | None = None
    said_ready: threading.Event = field(default_factory=threading.Event)
    last_lines: list[str] = field(default_factory=list)
    failures: int = 0
    started: float = 0.0
    restart_at: float = 0.0

    def is_ready(self) -> bool:
        if self.ready_text:
            return self.said_ready.is_set()
        return self.ready is None or self.ready()


class Supervisor:
    """start() and wait_ready() for each service, then watch() until `stopping` is set, then stop()."""

    def __init__(self, write: Callable[[str], None]) -> None:
        self.stopping = threading.Event()
        self._write = write
        self._services: list[Service] = []
        # Our end is open for as long as we live; each child's guardian sees it close.
        self._lifeline, self._held = os.pipe()

    def start(self, service: Service) -> None:
        self._services.append(service)
        self._spawn(service)

    def wait_ready(self, service: Service) -> None:
        """Raises StartError when it ends or takes too long; returns early when we are told to stop."""
        end = time.monotonic() + service.timeout
        while not service.is_ready():
            code = service.process.poll() if service.process else None
            if code is not None:
                tail = "\n".join(f"  {line}" for line in service.last_lines)
                raise StartError(f"{service.name} ended with {code} while starting. It said:\n{tail}")
            if time.monotonic() > end:
                raise StartError(f"{service.name} was not ready after {service.timeout:.0f} s.")
            if self.stopping.wait(0.05):
                return

    def _spawn(self, service: Service) -> None:
        service.started = time.monotonic()
        service.said_ready.clear()
        process = subprocess.Popen(
            [sys.executable, str(CHILD), str(self._lifeline), *service.command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            pass_fds=(self._lifeline,),
        )
        service.process = process
        threading.Thread(target=self._relay, args=(service, process), daemon=True).start()

    def _relay(self, service: Service, process: subprocess.Popen[bytes]) -> None:
        if process.stdout is None:
            return
        for raw in process.stdout:
            line = raw.decode(errors="replace").rstrip()
            service.last_lines = [*service.last_lines[-4:], line]
            if service.ready_text and service.ready_text in line:
                service.said_ready.set()
            self._write(f"{service.name:<7}| {line}")

    def watch(self) -> None:
        """Restart what dies, until `stopping` is set."""
        while not self.stopping.wait(0.25):
            now = time.monotonic()
            for service in self._services:
                self._look(service, now)

    def _look(self, service: Service, now: float) -> None:
        if service.process is None:
            if now >= service.restart_at:
                self._write(f"{service.name:<7}| starting again")
                self._spawn(service)
            return
        code = service.process.poll()
        if code is None:
            return
        _kill_group(service.process)  # its own children, should the guardian have been killed
        if now - service.started > STEADY:
            service.failures = 0
        wait = BACK_OFF[min(service.failures, len(BACK_OFF) - 1)]
        service.failures += 1
        service.process, service.restart_at = None, now + wait
        self._write(f"{service.name:<7}| ended with {code}; starting again in {wait} s")

    def stop(self) -> None:
        """SIGTERM, then SIGKILL for what is left when the grace is over: all at once, and after them what they stand
        on. Idempotent."""
        self.stopping.set()
        for is_base in (False, True):
            running = [(one.name, one.process) for one in self._services if one.process and one.is_base is is_base]
            for _, process in running:
                if process.poll() is None:
                    process.send_signal(signal.SIGTERM)
            deadline = time.monotonic() + GRACE
            for name, process in running:
                try:
                    process.wait(max(0.1, deadline - time.monotonic()))
                except subprocess.TimeoutExpired:
                    self._write(f"{name:<7}| did not stop in time and is killed")
                _kill_group(process)
                process.wait()


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)

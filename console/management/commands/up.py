"""`manage.py up`: everything on this machine, in the foreground: broker, lab, web, worker, beat."""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
import urllib.error
import urllib.request
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

import redis
from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError

from console.accounts.first_admin import NAME, first_admin_create
from console.embedded import valkey_command
from console.runner.checks import CheckError, home_writable, only_one, port_free
from console.runner.supervisor import Service, StartError, Supervisor

HOST = "127.0.0.1"


class Command(BaseCommand):
    help = "Run everything on this machine until Ctrl-C: broker, lab, web, worker and beat."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--no-lab", action="store_true", help="do not start the lab, nor set up its tenants")
        parser.add_argument("--workers", type=int, default=2, metavar="N", help="syncs done at the same time")

    def handle(self, *args: Any, **options: Any) -> None:
        started = time.monotonic()
        home: Path = settings.HOME
        try:
            home_writable(home)
            lock = only_one(home)
            port_free(HOST, settings.PORT)
        except CheckError as error:
            raise CommandError(str(error)) from error
        supervisor = Supervisor(self._say)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: supervisor.stopping.set())
        with_lab = not options["no_lab"] and os.environ.get("GATEHOUSE_DEMO", "1") != "0"
        try:
            password = self._start(supervisor, home, with_lab=with_lab, workers=options["workers"])
            if not supervisor.stopping.is_set():
                self._ready_block(password, time.monotonic() - started, with_lab=with_lab)
                supervisor.watch()
        except StartError as error:
            raise CommandError(str(error)) from error
        finally:
            self._say("stopping ...")
            supervisor.stop()
            lock.close()
            self._say("stopped")

    def _say(self, line: str) -> None:
        # A closed terminal must not keep the processes from being stopped.
        try:
            sys.stdout.write(line + "\n")
            sys.stdout.flush()
        except OSError:
            pass

    def _start(self, supervisor: Supervisor, home: Path, *, with_lab: bool, workers: int) -> str:
        """Start everything, side by side where it can be. Returns the admin's new password, "" when it was there."""
        if settings.REDIS_IS_EMBEDDED:
            broker = Service("valkey", valkey_command(home), ready=_broker_answers, timeout=20, is_base=True)
            supervisor.start(broker)
        lab = Service("lab", [sys.executable, "-m", "lab", "--home", str(home)], ready_text="lab ready", is_base=True)
        if with_lab:
            supervisor.start(lab)
        if settings.REDIS_IS_EMBEDDED:
            supervisor.wait_ready(broker)
        call_command("migrate", verbosity=0, interactive=False)
        call_command("collectstatic", verbosity=0, interactive=False)
        password = first_admin_create()
        services = [_web(), _worker(workers), _prompt_worker(), _beat()]
        for service in services:
            supervisor.start(service)
        for service in services:
            supervisor.wait_ready(service)
        if with_lab and not supervisor.stopping.is_set():
            supervisor.wait_ready(lab)
            call_command("demo", lab=home / "lab.json", stdout=self.stdout)
        return password

    def _ready_block(self, password: str, seconds: float, *, with_lab: bool) -> None:
        lines = [
            f"Gatehouse is ready after {seconds:.0f} s.",
            f"  Address    http://{HOST}:{settings.PORT}",
            f"  Sign in    {NAME}" + (f"   password  {password}" if password else "   (the password you were given)"),
            f"  Data       {settings.HOME}",
        ]
        if with_lab:
            lines.append(f"  Lab        {settings.HOME / 'lab.json'} says how to reach its Exchange servers")
        lines.append("  Stop       Ctrl-C")
        rule = "-" * 72
        self._say("\n".join(["", rule, *lines, rule, ""]))


def _broker_answers() -> bool:
    try:
        client = redis.Redis.from_url(settings.REDIS_URL, socket_timeout=2)
        try:
            return bool(client.ping())
        finally:
            client.close()
    except redis.RedisError:
        return False


def _web() -> Service:
    command = [
        *(sys.executable, "-m", "granian", "--interface", "wsgi", "--host", HOST, "--port", str(settings.PORT)),
        *("--workers", "1", "--blocking-threads", "4", "--no-ws", "--log-level", "warning", "console.wsgi:application"),
    ]
    return Service("web", command, ready=_web_answers)


def _web_answers() -> bool:
    try:
        with urllib.request.urlopen(f"http://{HOST}:{settings.PORT}/healthz", timeout=5) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def _worker(workers: int) -> Service:
    """Does syncs, which take long."""
    return _celery("worker", "gatehouse,site.default", workers, "gatehouse")


def _prompt_worker() -> Service:
    """Does what somebody waits for, however many syncs are running."""
    return _celery("prompt", "gatehouse.now,site.default.now", 2, "prompt")


def _celery(name: str, queues: str, processes: int, node: str) -> Service:
    command = [
        # Soft shutdown: a sync that runs when Ctrl-C comes goes back to the queue at once.
        *("env", "REMAP_SIGTERM=SIGQUIT"),
        *(sys.executable, "-m", "celery", "-A", "console", "worker", "-Q", queues),
        *("-c", str(processes), "-n", f"{node}@{socket.gethostname()}", "-l", "INFO"),
        *("--without-mingle", "--without-gossip"),
    ]
    return Service(name, command, ready_text=" ready.")


def _beat() -> Service:
    return Service("beat", [sys.executable, "-m", "celery", "-A", "console", "beat", "-l", "WARNING"])

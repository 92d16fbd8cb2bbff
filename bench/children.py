"""Starting and stopping the processes a benchmark needs: measured children, the lab, valkey, a Celery worker."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
START_TIMEOUT = 120.0


def measured(module: str, *arguments: str, env: dict[str, str] | None = None) -> dict[str, Any]:
    """Run `python -m module` to its end; the last line it prints is its JSON result, peak_mb is added here."""
    before = time.monotonic()
    child = subprocess.Popen(
        [sys.executable, "-m", module, *arguments],
        cwd=ROOT,
        env={**os.environ, **(env or {})},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    output = child.stdout.read()
    _pid, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise SystemExit(f"bench: {module} {' '.join(arguments)} ended with {child.returncode}\n{output}")
    result: dict[str, Any] = json.loads(output.strip().splitlines()[-1])
    result.setdefault("seconds", time.monotonic() - before)
    result["peak_mb"] = usage.ru_maxrss / 1024
    return result


@dataclass(frozen=True)
class Lab:
    state: dict[str, Any]

    def organization(self, name: str) -> dict[str, Any]:
        return next(o for o in self.state["organizations"] if o["name"] == name)


@contextmanager
def lab(home: Path, *arguments: str) -> Iterator[Lab]:
    """A lab of its own under home, ready when its state file is there and it accepts connections."""
    home.mkdir(parents=True, exist_ok=True)
    state_file = home / "lab.json"
    state_file.unlink(missing_ok=True)
    log = (home / "lab.log").open("wb")
    process = subprocess.Popen(
        [sys.executable, "-m", "lab", "--home", str(home), *arguments], cwd=ROOT, stdout=log, stderr=subprocess.STDOUT
    )
    try:
        wait_for(state_file.exists, "the lab", process, home / "lab.log")
        yield Lab(json.loads(state_file.read_text(encoding="utf-8")))
    finally:
        stop(process)
        log.close()


def wait_for(ready: Any, what: str, process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + START_TIMEOUT
    while not ready():
        if process.poll() is not None or time.monotonic() > end:
            tail = log.read_text(encoding="utf-8", errors="replace")[-2000:] if log.exists() else ""
            raise SystemExit(f"bench: {what} did not start.\n{tail}")
        time.sleep(0.05)


def stop(process: subprocess.Popen[bytes], grace: float = 10.0) -> None:
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(grace)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

"""What must be set before Django's settings are read; loaded by `-p tests.environment` in pyproject.toml.

Every test process gets a data folder of its own, so that a run of the suite never touches anybody's data, and no test
can reach beyond this machine: a connection to any other address fails and names it.
"""

from __future__ import annotations

import atexit
import ipaddress
import os
import shutil
import sys
import tempfile
from typing import Any

_LOCAL_NAMES = frozenset({"localhost", ""})


def _own_home() -> None:
    home = tempfile.mkdtemp(prefix="gatehouse-test-")
    atexit.register(shutil.rmtree, home, ignore_errors=True)
    os.environ["GATEHOUSE_HOME"] = home
    os.mkdir(os.path.join(home, "static"))  # empty: the tests serve static files from where they are written


def _own_redis_database() -> None:
    """Where one Redis server serves the whole suite, each worker of pytest-xdist takes another of its databases."""
    url, worker = os.environ.get("REDIS_URL", ""), os.environ.get("PYTEST_XDIST_WORKER", "")
    if url and worker:
        base = url.rstrip("/").rsplit("/", 1)[0] if url.count("/") > 2 else url
        os.environ["REDIS_URL"] = f"{base}/{int(worker.removeprefix('gw')) + 1}"


def _only_this_machine(event: str, arguments: tuple[Any, ...]) -> None:
    if event != "socket.connect":
        return
    address = arguments[1]
    if not isinstance(address, tuple):
        return  # a unix socket
    host = address[0]
    if host in _LOCAL_NAMES:
        return
    try:
        local = ipaddress.ip_address(host).is_loopback
    except ValueError:
        return  # a name: it is resolved first, and the address comes by here in its turn
    if not local:
        raise RuntimeError(f"a test tried to connect to {host}, which is not this machine")


_own_home()
_own_redis_database()
# The browser tests run Django's server in a thread beside Playwright's event loop.
os.environ.setdefault("DJANGO_ALLOW_ASYNC_UNSAFE", "true")
os.environ.pop("GATEHOUSE_ADMIN_PASSWORD", None)
sys.addaudithook(_only_this_machine)

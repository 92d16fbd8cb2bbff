"""An MIT key distribution centre on loopback, for tests: needs krb5-kdc and the Kerberos Python libraries, no root."""

from __future__ import annotations

import importlib.util
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin"


def missing() -> str:
    """What this machine lacks; "" when it can."""
    for tool in ("krb5kdc", "kdb5_util", "kadmin.local"):
        if shutil.which(tool, path=_PATH) is None:
            return f"{tool} is not installed"
    for module in ("gssapi", "krb5"):
        if importlib.util.find_spec(module) is None:
            return f"{module} is not installed (requirements/kerberos.txt)"
    return ""


@dataclass(frozen=True)
class Kdc:
    realm: str
    environment: dict[str, str]  # for client and acceptor alike
    folder: Path

    def kadmin(self, command: str) -> None:
        _run("kadmin.local", "-r", self.realm, "-q", command, environment=self.environment)


def _run(tool: str, *arguments: str, environment: dict[str, str]) -> None:
    program = shutil.which(tool, path=_PATH)
    assert program is not None
    subprocess.run(
        [program, *arguments], env={**os.environ, **environment}, check=True, capture_output=True, timeout=30
    )


@contextmanager
def kdc(folder: Path, realm: str) -> Iterator[Kdc]:
    """Runs until the context ends; its database and configuration lie in `folder`."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    (folder / "krb5.conf").write_text(
        f"[libdefaults]\n default_realm = {realm}\n dns_lookup_kdc = false\n dns_lookup_realm = false\n rdns = false\n"
        f" dns_canonicalize_hostname = false\n udp_preference_limit = 1\n"
        f"[realms]\n {realm} = {{\n  kdc = 127.0.0.1:{port}\n }}\n"
        f"[domain_realm]\n .{realm.lower()} = {realm}\n {realm.lower()} = {realm}\n"
    )
    (folder / "kdc.conf").write_text(
        f'[kdcdefaults]\n kdc_listen = ""\n kdc_tcp_listen = 127.0.0.1:{port}\n'
        f"[realms]\n {realm} = {{\n  database_name = {folder}/principal\n  key_stash_file = {folder}/stash\n"
        f"  acl_file = {folder}/acl\n  max_life = 1h\n }}\n"
    )
    environment = {
        "KRB5_CONFIG": str(folder / "krb5.conf"),
        "KRB5_KDC_PROFILE": str(folder / "kdc.conf"),
        "KRB5_KTNAME": str(folder / "http.keytab"),
        "KRB5CCNAME": f"FILE:{folder}/ccache",
    }
    _run("kdb5_util", "create", "-s", "-r", realm, "-P", "master", environment=environment)
    program = shutil.which("krb5kdc", path=_PATH)
    assert program is not None
    process = subprocess.Popen(
        [program, "-n", "-r", realm],
        env={**os.environ, **environment},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        end = time.monotonic() + 10
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                assert process.poll() is None, "krb5kdc ended"
                assert time.monotonic() < end, "krb5kdc does not answer"
                time.sleep(0.02)
        yield Kdc(realm, environment, folder)
    finally:
        process.terminate()
        process.wait(10)

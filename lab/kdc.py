"""A Kerberos KDC of the lab's own on loopback: MIT's krb5kdc, a realm for each organisation, everything in one folder.

Only where the machine has krb5-kdc and Python the gssapi and krb5 packages; `missing()` says what it lacks. Touches no
file of the system's own Kerberos. The key table holds services of class HTTP alone, as Exchange's web site is reached
by it: the acceptor takes whatever key stands there.
"""

from __future__ import annotations

import importlib.util
import os
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

HOST = "127.0.0.1"
_PLACES = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/usr/local/sbin", "/sbin"])
# krb5kdc beside a shell that reads from us: when we are gone, however that came about, so is the KDC.
_LEASH = '"$@" & child=$!; read _; kill "$child"; wait "$child"'


class KdcError(Exception):
    """The KDC cannot be had; the text says why, and what would help."""


def missing() -> str:
    """What is not there, in a sentence; empty when Kerberos can be had."""
    if not all(shutil.which(name, path=_PLACES) for name in ("krb5kdc", "kdb5_util", "kadmin.local")):
        return "krb5kdc is not installed (Debian: krb5-kdc krb5-admin-server)"
    if not all(importlib.util.find_spec(name) for name in ("gssapi", "krb5")):
        return "the Python packages gssapi and krb5 are not installed (pyspnego[kerberos])"
    return ""


class Kdc:
    """A KDC for any number of realms. Not thread-safe; add() and stop() are to be called from one thread at a time.

    home: made with mode 700. port: 0 takes one that is free. `environment` is what clients and acceptors need.
    """

    def __init__(self, home: Path, port: int = 0) -> None:
        if lacking := missing():
            raise KdcError(lacking)
        home.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.home = home
        self.port = port or _free_port()
        self.config = home / "krb5.conf"
        self.keytab = home / "http.keytab"
        self.realms: list[str] = []
        self._profile = home / "kdc.conf"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def environment(self) -> dict[str, str]:
        """For the processes that sign in (the first), and for the acceptor."""
        return {
            "KRB5_CONFIG": str(self.config),
            "KRB5_KTNAME": f"FILE:{self.keytab}",
            "KRB5RCACHENAME": "none:",
        }

    def add(self, domain: str, passwords: Mapping[str, str], hosts: Iterable[str]) -> str:
        """Serve the realm of a domain: users (sam name to password) and web servers (FQDNs). The realm's name.

        What an earlier run left of the realm is made anew. Raises KdcError.
        """
        realm = domain.upper()
        if realm not in self.realms:
            self.realms.append(realm)
        self.stop()
        self._configure()
        for leftover in self.home.glob(f"{realm}.*"):
            leftover.unlink()
        self._run("kdb5_util", "-r", realm, "create", "-s", "-P", secrets.token_hex(16))
        lines = [f'addprinc -pw "{password}" "{user}"' for user, password in passwords.items()]
        for host in hosts:
            lines.append(f"addprinc -randkey HTTP/{host}")
            lines.append(f"ktadd -k {self.keytab} HTTP/{host}")
        self._run("kadmin.local", "-r", realm, script="\n".join(lines) + "\n")
        self._start()
        return realm

    def stop(self) -> None:
        """End the KDC; its databases stay."""
        if self._process is None:
            return
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._process.wait(10)
        self._process = None

    def _configure(self) -> None:
        realms = "".join(
            f"  {realm} = {{\n    kdc = {HOST}:{self.port}\n    admin_server = {HOST}:{self.port}\n  }}\n"
            for realm in self.realms
        )
        domains = "".join(f"  .{realm.lower()} = {realm}\n  {realm.lower()} = {realm}\n" for realm in self.realms)
        self.config.write_text(
            f"[libdefaults]\n  default_realm = {self.realms[0]}\n  dns_lookup_kdc = false\n  dns_lookup_realm = false\n"
            "  dns_canonicalize_hostname = false\n  rdns = false\n  udp_preference_limit = 1\n"
            f"[realms]\n{realms}[domain_realm]\n{domains}",
            encoding="utf-8",
        )
        databases = "".join(
            f"  {realm} = {{\n    database_name = {self.home / realm}.db\n"
            f"    key_stash_file = {self.home / realm}.stash\n"
            f"    acl_file = {self.home / realm}.acl\n    max_life = 10h\n  }}\n"
            for realm in self.realms
        )
        log = self.home / "kdc.log"
        self._profile.write_text(
            f"[kdcdefaults]\n  kdc_listen = {HOST}:{self.port}\n  kdc_tcp_listen = {HOST}:{self.port}\n"
            f"[realms]\n{databases}[logging]\n  kdc = FILE:{log}\n  default = FILE:{log}\n",
            encoding="utf-8",
        )

    def _run(self, name: str, *arguments: str, script: str = "") -> None:
        done = subprocess.run(
            [self._program(name), *arguments],
            input=script,
            env=self._environment(),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        # kadmin.local goes on after an error and ends with 0.
        problems = [line for line in done.stderr.splitlines() if "while " in line]
        if done.returncode or problems:
            raise KdcError(f"{name}: {problems[0] if problems else done.stderr.strip() or done.returncode}")

    def _start(self) -> None:
        chosen = [part for realm in self.realms for part in ("-r", realm)]
        command = [self._program("krb5kdc"), "-n", *chosen]
        self._process = subprocess.Popen(
            ["/bin/sh", "-c", _LEASH, "kdc", *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=self._environment(),
            start_new_session=True,
        )
        until = time.monotonic() + 10
        while not _answers(self.port):
            if self._process.poll() is not None or time.monotonic() > until:
                raise KdcError(f"krb5kdc does not answer on port {self.port}; see {self.home / 'kdc.log'}")
            time.sleep(0.02)

    def _program(self, name: str) -> str:
        return shutil.which(name, path=_PLACES) or name

    def _environment(self) -> dict[str, str]:
        return {**os.environ, "KRB5_CONFIG": str(self.config), "KRB5_KDC_PROFILE": str(self._profile)}


def _free_port() -> int:
    with socket.create_server((HOST, 0)) as probe:
        return int(probe.getsockname()[1])


def _answers(port: int) -> bool:
    try:
        with socket.create_connection((HOST, port), timeout=1):
            return True
    except OSError:
        return False

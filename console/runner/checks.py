"""What must be right before anything starts. Each failure is one line that says what to do."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
from pathlib import Path
from typing import IO


class CheckError(Exception):
    """One line for the person at the terminal."""


def home_writable(home: Path) -> None:
    probe = home / ".writable"
    try:
        home.mkdir(parents=True, exist_ok=True)
        (home / "run").mkdir(exist_ok=True, mode=0o700)
        probe.write_text("", encoding="ascii")
        probe.unlink()
    except OSError as error:
        raise CheckError(
            f"Cannot write to {home} ({error.strerror}). Make it writable for this user, or set GATEHOUSE_HOME to a "
            "folder that is."
        ) from error


def only_one(home: Path) -> IO[str]:
    """The lock that says this home is in use; held until the file is closed, by the kernel at the latest."""
    file = (home / "run" / "up.lock").open("a+", encoding="ascii")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        file.seek(0)
        owner = file.read().strip() or "another process"
        file.close()
        raise CheckError(
            f"Gatehouse is running already on {home} (process {owner}). Stop that one, or set another GATEHOUSE_HOME."
        ) from error
    file.seek(0)
    file.truncate()
    file.write(str(os.getpid()))
    file.flush()
    return file


def port_free(host: str, port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            if error.errno == errno.EACCES:
                raise CheckError(f"Port {port} needs root. Choose one above 1023: PORT=8000 make run.") from error
            raise CheckError(
                f"Port {port} is taken by another program. Stop that one, or choose another: PORT={port + 1} make run."
            ) from error

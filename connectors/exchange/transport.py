"""HTTP under pypsrp's WS-Man: how long we wait, where we connect, and what we take for an answer.

A subclass of pypsrp's transport that
- dials an address while naming the server (certificate, SPN, Host) by its FQDN;
- follows no redirect, and takes nothing but SOAP for an answer, encrypted where the connection encrypts;
- waits in slices, so that a cancel is seen although the server is silent;
- starts over with a fresh connection and sign-in after any failure and after a pause: a message encrypted for a
  connection that the server has closed meanwhile fails otherwise (wire.md 10, pitfall 3).

One thread, the one that opened it, in the process that opened it: message encryption allows one request at a time,
and PSRP's fragment counter is not locked (pitfalls 1, 2, 10). Any other use raises RuntimeError.
"""

from __future__ import annotations

import datetime
import email.utils
import os
import re
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests
from pypsrp.exceptions import AuthenticationError, WinRMTransportError
from pypsrp.wsman import _TransportHTTP
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.util.wait import wait_for_read

from connectors.exchange.client import Account, Endpoint, Options
from connectors.exchange.errors import CanceledError

# Seconds between two looks at should_stop while the server is silent, and what an answer under way is given to arrive.
SLICE = 0.5
STOP_GRACE = 1.0
# What a command that changes something is given to come to its end when the caller wants to stop.
WRITE_GRACE = 10.0
# IIS closes idle connections after 120 s, load balancers often after 60.
IDLE_RESET = 45.0

_BOUNDARY = re.compile(r'boundary="?([^";]+)"?')


class UnexpectedAnswerError(Exception):
    """HTTP 200 that is no WS-Man answer, or a redirect. Holds nothing of the body."""

    def __init__(self, status: int, content_type: str) -> None:
        super().__init__(f"HTTP {status} with {content_type or 'no content type'}")
        self.status = status
        self.content_type = content_type


@dataclass
class Watch:
    """Whether the caller wants to stop; switched off while a session is being closed.

    grace: seconds from the moment that the caller wants to, until that is heeded. has_delivered: a whole message has
    left since this was last set to false, so the server may have acted on it.
    """

    should_stop: Callable[[], bool]
    is_on: bool = True
    grace: float = 0.0
    has_delivered: bool = False
    _is_message: bool = False
    _asked_at: float | None = None

    def check(self) -> None:
        """Raises CanceledError when it is time to stop."""
        if self.is_on and self.should_stop() and self._until_stop() <= 0:
            raise CanceledError

    @contextmanager
    def patiently(self) -> Iterator[None]:
        """Within, a command is let come to its end for some seconds although the caller wants to stop."""
        self.grace, self._asked_at = WRITE_GRACE, None
        try:
            yield
        finally:
            self.grace = 0.0

    def _until_stop(self) -> float:
        """Seconds that are left of the grace, which begins now if it has not begun."""
        if self.grace <= 0:
            return 0.0
        now = time.monotonic()
        if self._asked_at is None:
            self._asked_at = now
        return self._asked_at + self.grace - now

    def sends(self, *, is_message: bool) -> None:
        """A request begins: one that says something, or the empty one that only signs in."""
        self._is_message = is_message

    def sent(self) -> None:
        """The whole request has left."""
        self.has_delivered |= self._is_message

    def wait(self, socket: Any, timeout: float | None) -> None:
        """Until the socket has something to read. Raises TimeoutError after `timeout` seconds, and CanceledError."""
        end = time.monotonic() + (timeout if timeout is not None else 3600.0)
        stop_at: float | None = None
        while True:
            if isinstance(socket, ssl.SSLSocket) and socket.pending():
                return
            now = time.monotonic()
            remaining = end - now
            if remaining <= 0:
                raise TimeoutError("timed out")
            if wait_for_read(socket, timeout=min(SLICE, remaining)):
                return
            if not self.is_on:
                continue
            if stop_at is None and self.should_stop():
                stop_at = now + max(STOP_GRACE, self._until_stop())
            if stop_at is not None and time.monotonic() >= stop_at:
                raise CanceledError


class _Adapter(HTTPAdapter):
    """Dials `address` for every host, checks certificates against the host, and waits under a watch.

    What requests would find out anew for each message (which pool, which authorities, whether their file is there) is
    found once: there is one server, and how it is reached does not change.
    """

    def __init__(self, address: str, watch: Watch) -> None:
        self._address = address
        self._pool: Any = None
        self._pool_for: tuple[object, ...] = ()
        self._verified: Any = None
        self._pool_classes = _pool_classes(watch)
        super().__init__()
        self.poolmanager.pool_classes_by_scheme = self._pool_classes

    def build_connection_pool_key_attributes(
        self, request: requests.PreparedRequest, verify: Any, cert: Any = None
    ) -> Any:
        host, options = super().build_connection_pool_key_attributes(request, verify, cert)
        name = host["host"]
        if not self._address or self._address == name:
            return host, options
        named = {"server_hostname": name, "assert_hostname": name} if host["scheme"] == "https" else {}
        return {**host, "host": self._address}, {**options, **named}

    def get_connection_with_tls_context(
        self, request: requests.PreparedRequest, verify: Any, proxies: Any = None, cert: Any = None
    ) -> Any:
        wanted = (request.url, verify, cert, tuple((proxies or {}).items()))
        if self._pool is None or self._pool_for != wanted:
            self._pool = super().get_connection_with_tls_context(request, verify, proxies=proxies, cert=cert)
            self._pool_for, self._verified = wanted, None
        return self._pool

    def cert_verify(self, conn: Any, url: str, verify: Any, cert: Any) -> None:
        if conn is not self._verified:
            super().cert_verify(conn, url, verify, cert)
            self._verified = conn

    def close(self) -> None:
        super().close()
        self._pool = self._verified = None

    def proxy_manager_for(self, proxy: str, **options: Any) -> Any:
        manager = super().proxy_manager_for(proxy, **options)
        manager.pool_classes_by_scheme = self._pool_classes
        return manager


def _pool_classes(watch: Watch) -> dict[str, type[HTTPConnectionPool]]:
    class Connection(HTTPConnection):
        def getresponse(self) -> Any:
            watch.sent()
            watch.wait(self.sock, _seconds(self.timeout))
            return super().getresponse()

    class SecureConnection(HTTPSConnection):
        def getresponse(self) -> Any:
            watch.sent()
            watch.wait(self.sock, _seconds(self.timeout))
            return super().getresponse()

    class Pool(HTTPConnectionPool):
        ConnectionCls = Connection

    class SecurePool(HTTPSConnectionPool):
        ConnectionCls = SecureConnection

    return {"http": Pool, "https": SecurePool}


def _seconds(timeout: Any) -> float | None:
    return float(timeout) if isinstance(timeout, int | float) else None


def system_authorities() -> str | bool:
    """The bundle of the system's authorities; True (those that requests brings) where the system has none."""
    paths = ssl.get_default_verify_paths()
    for path in (paths.cafile, "/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt"):
        if path and Path(path).exists():
            return path
    return True


class Transport(_TransportHTTP):
    """One connection to one server.

    clock_skew: seconds by which the server's clock was ahead of ours, when it refused us.
    has_failed: the last request got no answer at all.
    """

    def __init__(self, endpoint: Endpoint, account: Account, options: Options, watch: Watch) -> None:
        super().__init__(**arguments(endpoint, account, options))
        self.watch = watch
        self.clock_skew = 0.0
        self.has_failed = False
        self._address = endpoint.address
        default = 443 if endpoint.use_tls else 80
        self._host = endpoint.fqdn if endpoint.port == default else f"{endpoint.fqdn}:{endpoint.port}"
        self._used_at = time.monotonic()
        self._owner = (os.getpid(), threading.get_ident())

    @property
    def is_own(self) -> bool:
        """Whether this is the thread and the process that opened the session."""
        return (os.getpid(), threading.get_ident()) == self._owner

    def reset(self) -> None:
        """Forget connection, sign-in and encryption; the next request makes them anew, the shell goes on."""
        self.close()
        self.session = None
        self.encryption = None

    @contextmanager
    def taking_leave(self, seconds: int) -> Iterator[None]:
        """Within, wait no longer than this for anything, and do not ask whether to stop."""
        patience = self.connection_timeout, self.read_timeout
        self.connection_timeout, self.read_timeout = min(patience[0], seconds), min(patience[1], seconds)
        self.watch.is_on = False
        try:
            yield
        finally:
            self.connection_timeout, self.read_timeout = patience
            self.watch.is_on = True

    def send(self, message: bytes, *, retries_on_read_timeout: int = 0, timeout: Any = None) -> bytes:
        """One request and its answer. `retries_on_read_timeout` is refused: nothing is sent twice from here."""
        self.has_failed = False
        if not self.is_own:
            raise RuntimeError("an Exchange session belongs to the thread and process that opened it")
        if time.monotonic() - self._used_at > IDLE_RESET:
            self.reset()
        try:
            answer: bytes = super().send(message, timeout=timeout)
        except WinRMTransportError:
            raise  # an answer, though not a good one: the connection stands
        except KeyError as error:
            self.has_failed = True
            # No sign-in took place although pypsrp asked for one: whoever answered did not ask back.
            self.reset()
            raise UnexpectedAnswerError(200, "no sign-in asked") from error
        except BaseException:
            self.has_failed = True
            self.reset()
            raise
        finally:
            self._used_at = time.monotonic()
        return answer

    def _build_session(self) -> requests.Session:
        session: requests.Session = super()._build_session()
        session.trust_env = False  # no .netrc and no proxy from the environment
        session.headers["Host"] = self._host
        for scheme in ("http://", "https://"):
            session.mount(scheme, _Adapter(self._address, self.watch))
        return session

    def _send_request(self, request: requests.PreparedRequest, timeout: Any = None) -> bytes:
        if self.session is None:
            raise RuntimeError("_send_request() before send()")
        self.watch.sends(is_message=bool(request.body))
        response = self.session.send(
            request,
            timeout=timeout if timeout is not None else (self.connection_timeout, self.read_timeout),
            allow_redirects=False,
            stream=True,
        )
        # One read; response.content would join fifty pieces of a full envelope.
        body: bytes = response.content if response.raw.closed else response.raw.read(decode_content=True)
        content_type = response.headers.get("content-type", "").lower()
        status = response.status_code
        if content_type.startswith(("multipart/encrypted", "multipart/x-multi-encrypted")):
            body = self._decrypted(body, response.headers["content-type"])
        elif status == 200 and body and self.encryption is not None:
            raise UnexpectedAnswerError(status, "an answer that is not encrypted")
        elif status == 200 and request.body and not content_type.startswith("application/soap+xml"):
            # The empty request that only signs in may be answered by anything.
            raise UnexpectedAnswerError(status, content_type)
        if status == 200:
            return body
        self.clock_skew = _skew(response.headers.get("date", ""))
        if status == 401:
            raise AuthenticationError(response.headers.get("www-authenticate", ""))
        if 300 <= status < 400:
            raise UnexpectedAnswerError(status, content_type)
        raise WinRMTransportError("http", status, body.decode("utf-8", "replace"))

    def _decrypted(self, body: bytes, content_type: str) -> bytes:
        boundary = _BOUNDARY.search(content_type)
        if self.encryption is None or boundary is None:
            raise UnexpectedAnswerError(200, "an encrypted answer without a key")
        plain: bytes = self.encryption.unwrap_message(body, boundary[1])
        return plain


def arguments(endpoint: Endpoint, account: Account, options: Options) -> dict[str, Any]:
    """What WSMan and its transport are both made with."""
    return {
        "server": endpoint.fqdn,
        "port": endpoint.port,
        "username": _user(account),
        # Without a password Kerberos takes its ticket cache or keytab; an empty one would be tried, and counted.
        "password": account.password or None if account.authentication == "kerberos" else account.password,
        "ssl": endpoint.use_tls,
        "path": "PowerShell",
        "auth": account.authentication,
        "cert_validation": options.ca_file or system_authorities(),
        "connection_timeout": options.connect_timeout,
        "read_timeout": options.read_timeout,
        "encryption": "never" if account.authentication == "basic" and not endpoint.use_tls else "auto",
        "proxy": options.proxy,
        "no_proxy": options.proxy is None,
        # Exchange's names stand under HTTP/, above all those of a load-balanced name.
        "negotiate_service": "HTTP",
    }


def _user(account: Account) -> str:
    """As typed; for Kerberos with the realm in capitals, as every Active Directory has it."""
    name, at, domain = account.username.rpartition("@")
    return f"{name}@{domain.upper()}" if at and account.authentication == "kerberos" else account.username


def _skew(date: str) -> float:
    """Seconds that a Date header is ahead of our clock; 0 without one."""
    try:
        told = email.utils.parsedate_to_datetime(date)
    except (TypeError, ValueError):
        return 0.0
    if told.tzinfo is None:
        return 0.0
    return (told - datetime.datetime.now(datetime.UTC)).total_seconds()

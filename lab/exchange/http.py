"""A Client Access Server's web site: http and https listeners, sign-in, /powershell, and routes to everything else.

The stdlib's threading server, one thread and one handler a TCP connection, because NTLM and Kerberos sign in a
connection and not a request. Faults that happen before a message is understood are acted on here. A request that makes
no sense gets a status of 4xx or 5xx, never a traceback.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from http.server import ThreadingHTTPServer
from typing import Any

from lab.exchange.auth import ALL_SCHEMES, SCHEMES, Accounts
from lab.exchange.connection import Connection
from lab.exchange.contract import Account, Engine, Route
from lab.exchange.tls import Authority
from lab.exchange.wsman import Limits, WsManService
from lab.faults import Faults

logger = logging.getLogger(__name__)

# How often (seconds) a listener looks for the "refuse" fault, and the service for idle shells.
LOOK = 0.05
REAP = 0.25


@dataclass
class Traffic:
    """Counts since the start; of bytes, those of bodies. Thread-safe."""

    requests: int = 0
    connections: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def add(self, *, requests: int = 0, connections: int = 0, bytes_in: int = 0, bytes_out: int = 0) -> None:
        with self._lock:
            self.requests += requests
            self.connections += connections
            self.bytes_in += bytes_in
            self.bytes_out += bytes_out


class WebServer:
    """One CAS. `start()` binds (a port of 0 is chosen then, None: no such listener), `stop()` closes everything.

    accounts: those of the organisation; pass one Accounts to all its servers. routes: path prefix, in any case, to
    Route; Basic sign-in is asked for unless the route has `requires_sign_in = False`, and it may name other schemes in
    `authentications`. authentications: what /powershell offers, in order. require_tls: http answers 403 there.
    """

    def __init__(
        self,
        fqdn: str,
        host: str,
        http_port: int | None,
        https_port: int | None,
        engine: Engine,
        accounts: Accounts | Iterable[Account],
        tls: Authority,
        faults: Faults,
        routes: Mapping[str, Route] | None = None,
        *,
        authentications: Sequence[str] = SCHEMES,
        enforce_channel_binding: bool = True,
        require_tls: bool = False,
        limits: Limits | None = None,
    ) -> None:
        unknown = set(authentications) - set(ALL_SCHEMES)
        if unknown:
            raise ValueError(f"no such sign-in: {', '.join(sorted(unknown))}")
        self.fqdn = fqdn
        self.host = host
        self.http_port = http_port
        self.https_port = https_port
        self.accounts = accounts if isinstance(accounts, Accounts) else Accounts(accounts)
        self.authentications = tuple(authentications)
        self.enforce_channel_binding = enforce_channel_binding
        self.require_tls = require_tls
        self.faults = faults
        self.traffic = Traffic()
        self.powershell = WsManService(fqdn, engine, faults, limits)
        self.stopping = threading.Event()
        names = [host, f"autodiscover.{fqdn.partition('.')[2]}"]
        self.certificate = tls.certificate(fqdn, names)
        self.expired_certificate = tls.certificate(fqdn, names, expired=True)
        self._routes = sorted(((k.lower().rstrip("/"), v) for k, v in (routes or {}).items()), key=lambda r: -len(r[0]))
        self._listeners: list[Listener] = []
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Bind and serve. Raises OSError when a port is taken."""
        self.stopping.clear()
        try:
            if self.http_port is not None:
                self._listeners.append(Listener(self, self.http_port, is_tls=False))
                self.http_port = self._listeners[-1].port
            if self.https_port is not None:
                self._listeners.append(Listener(self, self.https_port, is_tls=True))
                self.https_port = self._listeners[-1].port
        except OSError:
            self.stop()
            raise
        targets = [(listener.serve, "listener") for listener in self._listeners] + [(self._reap, "reaper")]
        self._threads = [
            threading.Thread(target=target, name=f"{self.fqdn} {name}", daemon=True) for target, name in targets
        ]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Close listeners, connections and shells. The same object may be started again."""
        self.stopping.set()
        for thread in self._threads:
            thread.join(5)
        for listener in self._listeners:
            listener.server_close()
            listener.drop_connections()
        self._listeners = []
        self._threads = []
        self.powershell.close()

    @property
    def stats(self) -> dict[str, int]:
        """Counts for the control interface."""
        counts = self.powershell.counts
        return {
            "requests": self.traffic.requests,
            "connections": self.traffic.connections,
            "open_connections": sum(len(listener.connections) for listener in self._listeners),
            "bytes_in": self.traffic.bytes_in,
            "bytes_out": self.traffic.bytes_out,
            "open_shells": self.powershell.open_shells,
            "shells": counts.shells,
            "commands": counts.commands,
            "objects": counts.objects,
            "faults": counts.faults,
        }

    def route(self, path: str) -> Route | None:
        """What answers below the longest matching prefix."""
        lower = path.lower()
        for prefix, route in self._routes:
            if lower == prefix or lower.startswith(prefix + "/"):
                return route
        return None

    def settle(self, seconds: float = 2.0) -> None:
        """Wait until the listeners refuse, or listen again, as the faults now say."""
        should_refuse = self.faults.peek("refuse", self.fqdn) is not None
        end = time.monotonic() + seconds
        while any(one.is_refusing != should_refuse for one in self._listeners) and time.monotonic() < end:
            time.sleep(LOOK / 5)

    def _reap(self) -> None:
        while not self.stopping.wait(REAP):
            self.powershell.expire()


class Listener(ThreadingHTTPServer):
    """One listening socket; the connections taken from it."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 256
    timeout = LOOK

    def __init__(self, site: WebServer, port: int, *, is_tls: bool) -> None:
        self.site = site
        self.is_tls = is_tls
        self.connections: set[socket.socket] = set()
        self.is_refusing = False
        super().__init__((site.host, port), Connection)

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    def serve(self) -> None:
        """Take connections until the site stops. While the fault says so the port is bound but refuses."""
        while not self.site.stopping.is_set():
            should_refuse = self.site.faults.peek("refuse", self.site.fqdn) is not None
            if should_refuse != self.is_refusing:
                self._refuse() if should_refuse else self.socket.listen(self.request_queue_size)
                self.is_refusing = should_refuse
            if should_refuse:
                self.site.stopping.wait(LOOK)
            else:
                self.handle_request()

    def _refuse(self) -> None:
        """A socket that is bound but does not listen: the kernel refuses, and nobody else gets the port."""
        address = self.server_address
        self.socket.close()
        self.socket = socket.socket(self.address_family, self.socket_type)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(address)
        self.drop_connections()

    def drop_connections(self) -> None:
        for connection in list(self.connections):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def server_bind(self) -> None:
        # HTTPServer would ask the name service for our own name here.
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = self.site.fqdn, self.port

    def get_request(self) -> tuple[socket.socket, Any]:
        connection, address = super().get_request()
        if self.site.faults.peek("refuse", self.site.fqdn):
            connection.close()
            raise OSError("refused")
        self.site.traffic.add(connections=1)
        if self.is_tls:
            certificate = self.site.certificate
            if self.site.faults.take("expired_certificate", self.site.fqdn):
                certificate = self.site.expired_certificate
            # The handshake is done in the connection's thread: one slow client must not keep the others out.
            connection = certificate.context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        return connection, address

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        self.connections.add(request)
        try:
            super().process_request_thread(request, client_address)
        finally:
            self.connections.discard(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        logger.debug("connection from %s ended", client_address, exc_info=True)

"""HTTP under the client: connections that wait in slices, so that a cancel is seen although the other side is silent.

httpx waits for a read as long as its timeout says and cannot be interrupted; httpcore, on which it stands, takes a
network backend of one's own, and this is one. Follows no redirect, reads no proxy and no .netrc from the environment.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import ssl
import time
import typing
from collections.abc import Callable, Iterable, Iterator

import httpcore
import httpx

# Seconds between two looks at should_stop while nothing comes.
SLICE = 0.25
# Idle connections are given up before Graph's front ends or a firewall do it silently.
KEEPALIVE = 45.0
CONNECTIONS = 16
_FOREVER = 3600.0

Check = Callable[[], None]
Result = typing.TypeVar("Result")


class Transport(httpx.BaseTransport):
    """`check` is called between waits and may raise; what it raises passes through."""

    def __init__(self, check: Check, ca_file: str | None, proxy: str | None) -> None:
        context = _tls(ca_file)
        backend = _Backend(check)
        if proxy:
            address = httpx.URL(proxy)
            if address.scheme != "http" or not address.host:
                raise ValueError("a proxy is reached by http, and passes TLS through")
            auth = (address.username, address.password) if address.username else None
            self._pool: httpcore.ConnectionPool = httpcore.HTTPProxy(
                proxy_url=str(address.copy_with(username=None, password=None)),
                proxy_auth=auth,
                ssl_context=context,
                max_connections=CONNECTIONS,
                keepalive_expiry=KEEPALIVE,
                network_backend=backend,
            )
        else:
            self._pool = httpcore.ConnectionPool(
                ssl_context=context,
                max_connections=CONNECTIONS,
                keepalive_expiry=KEEPALIVE,
                network_backend=backend,
            )

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        url = request.url
        answer = self._pool.handle_request(
            httpcore.Request(
                method=request.method,
                url=httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path),
                headers=request.headers.raw,
                content=typing.cast(typing.Iterable[bytes], request.stream),
                extensions=request.extensions,
            )
        )
        stream = _Body(typing.cast(typing.Iterable[bytes], answer.stream), answer.close)
        return httpx.Response(answer.status, headers=answer.headers, stream=stream, extensions=answer.extensions)

    def close(self) -> None:
        self._pool.close()


class _Body(httpx.SyncByteStream):
    def __init__(self, parts: Iterable[bytes], close: Callable[[], None]) -> None:
        self._parts, self._close = parts, close

    def __iter__(self) -> Iterator[bytes]:
        yield from self._parts

    def close(self) -> None:
        self._close()


def _tls(ca_file: str | None) -> ssl.SSLContext:
    """Trusting the authorities of `ca_file`, or the system's and those that httpx brings, where a system has none."""
    if ca_file:
        return ssl.create_default_context(cafile=ca_file)
    context = httpx.create_ssl_context(trust_env=False)
    context.load_default_certs()
    return context


class _Backend(httpcore.NetworkBackend):
    def __init__(self, check: Check) -> None:
        self._check = check

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: typing.Iterable[typing.Any] | None = None,
    ) -> httpcore.NetworkStream:
        self._check()
        end = time.monotonic() + (_FOREVER if timeout is None else timeout)
        try:
            # Looking up a name cannot be cut into slices.
            addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except OSError as error:
            raise httpcore.ConnectError(str(error)) from error
        last: Exception = httpcore.ConnectError("no address")
        for family, kind, protocol, _, address in addresses:
            try:
                return self._connected(socket.socket(family, kind, protocol), address, end)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                last = error
        raise last

    def _connected(self, sock: socket.socket, address: typing.Any, end: float) -> httpcore.NetworkStream:
        try:
            sock.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                sock.connect(address)
            _wait(sock, selectors.EVENT_WRITE, end, self._check, httpcore.ConnectTimeout)
            sock.getpeername()  # an OSError unless it is connected
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError as error:
            sock.close()
            raise httpcore.ConnectError(str(error)) from error
        except BaseException:
            sock.close()
            raise
        return _Stream(sock, self._check)

    def sleep(self, seconds: float) -> None:
        """httpcore's own retries, of which there are none."""
        time.sleep(seconds)


class _Stream(httpcore.NetworkStream):
    """A non-blocking socket, with or without TLS, that is waited for in slices."""

    def __init__(self, sock: socket.socket, check: Check) -> None:
        self._socket, self._check = sock, check

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._done(
            lambda: self._socket.recv(max_bytes),
            selectors.EVENT_READ, timeout, httpcore.ReadTimeout, httpcore.ReadError,
        )  # fmt: skip

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        rest = memoryview(buffer)
        while rest:
            part = rest
            sent = self._done(
                lambda part=part: self._socket.send(part),  # type: ignore[misc]
                selectors.EVENT_WRITE, timeout, httpcore.WriteTimeout, httpcore.WriteError,
            )  # fmt: skip
            rest = rest[sent:]

    def close(self) -> None:
        self._socket.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        try:
            secure = ssl_context.wrap_socket(
                self._socket, server_hostname=server_hostname, do_handshake_on_connect=False
            )
        except OSError as error:
            self.close()
            raise httpcore.ConnectError(str(error)) from error
        stream = _Stream(secure, self._check)
        try:
            stream._done(
                secure.do_handshake, selectors.EVENT_READ, timeout, httpcore.ConnectTimeout, httpcore.ConnectError
            )
        except BaseException:
            stream.close()
            raise
        return stream

    def get_extra_info(self, info: str) -> typing.Any:
        if info == "is_readable":
            # Of an idle connection: readable means that the other side has closed it.
            with selectors.DefaultSelector() as selector:
                selector.register(self._socket, selectors.EVENT_READ)
                return bool(selector.select(0))
        return self._socket if info == "socket" else None

    def _done(
        self,
        operation: Callable[[], Result],
        event: int,
        timeout: float | None,
        timed_out: type[Exception],
        failed: type[Exception],
    ) -> Result:
        end = time.monotonic() + (_FOREVER if timeout is None else timeout)
        while True:
            try:
                return operation()
            except ssl.SSLWantReadError:
                wanted = selectors.EVENT_READ
            except ssl.SSLWantWriteError:
                wanted = selectors.EVENT_WRITE
            except BlockingIOError:
                wanted = event
            except OSError as error:
                raise failed(str(error)) from error
            _wait(self._socket, wanted, end, self._check, timed_out)


def _wait(sock: socket.socket, event: int, end: float, check: Check, timed_out: type[Exception]) -> None:
    with selectors.DefaultSelector() as selector:
        selector.register(sock, event)
        while True:
            check()
            remaining = end - time.monotonic()
            if remaining <= 0:
                raise timed_out("timed out")
            if selector.select(min(SLICE, remaining)):
                return

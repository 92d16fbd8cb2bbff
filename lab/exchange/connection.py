"""One TCP connection to a Client Access Server: reading requests, signing in, faults, writing answers whole.

Each answer leaves in one write (header and body apart would meet Nagle and delayed acknowledgements), and whatever a
client sends, it gets an HTTP status rather than a traceback.
"""

from __future__ import annotations

import email.utils
import http.client
import logging
import socket
import struct
import time
import urllib.parse
import uuid
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any

from lab.exchange.auth import SealError, SignIn
from lab.exchange.contract import Account, Route, WebRequest, WebResponse
from lab.exchange.wsman import Caller, DropConnection
from lab.faults import Fault

if TYPE_CHECKING:
    from lab.exchange.http import Listener

logger = logging.getLogger(__name__)

# Seconds after which IIS closes a silent connection, and those that a TLS handshake may take.
KEEP_ALIVE = 120.0
HANDSHAKE = 15.0
LARGEST_BODY = 8 * 1024 * 1024
SOAP = "application/soap+xml;charset=UTF-8"
HTML = "text/html; charset=utf-8"
# How often a hanging request looks whether it may go on.
LOOK = 0.05

Headers = Sequence[tuple[str, str]]


class BadRequestError(Exception):
    """A request that HTTP does not allow; `status` is the answer."""

    def __init__(self, status: int) -> None:
        super().__init__(http.client.responses.get(status, str(status)))
        self.status = status


class Connection(BaseHTTPRequestHandler):
    """The stdlib's handler: one object a connection, therefore the place of what is bound to it."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    timeout = KEEP_ALIVE
    server: Listener

    def setup(self) -> None:
        site = self.server.site
        binding = None
        if self.server.is_tls:
            self.request.settimeout(HANDSHAKE)
            self.request.do_handshake()
            shown = (site.certificate, site.expired_certificate)
            binding = next(one.channel_binding for one in shown if one.context is self.request.context)
        self.sign_in = SignIn(
            site.fqdn,
            site.accounts,
            schemes=site.authentications,
            is_tls=self.server.is_tls,
            channel_binding=binding if site.enforce_channel_binding else None,
        )
        super().setup()

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: the lab counts and does not chat."""

    def handle_any(self) -> None:
        """One request of whatever method."""
        site = self.server.site
        path, _, query = self.path.partition("?")
        try:
            body = self._body()
        except BadRequestError as error:
            self.close_connection = True
            self._html(error.status)
            return
        site.traffic.add(requests=1, bytes_in=len(body))
        area = path.strip("/").partition("/")[0].lower()
        self.sign_in.clock_skew = self._clock_skew()
        if self._is_faulty(area):
            return
        if path.rstrip("/").lower() == "/powershell":
            self._powershell(query, body)
        elif (route := site.route(path)) is not None:
            self._route(route, path, query, body)
        else:
            self._html(404)

    do_GET = do_POST = do_PUT = do_HEAD = do_DELETE = do_OPTIONS = do_PATCH = handle_any

    # PowerShell

    def _powershell(self, query: str, body: bytes) -> None:
        site = self.server.site
        if site.require_tls and not self.server.is_tls:
            self._html(403)
            return
        answer = self.sign_in.check(self.headers.get("Authorization", ""))
        challenge = [("WWW-Authenticate", header) for header in answer.headers]
        if answer.account is None:
            self._html(401, challenge)
            return
        if self.command != "POST":
            self._html(405, [("Allow", "POST")])
            return
        if not body:
            # The empty message with which a client signs in before it can encrypt one.
            self._send(200, challenge, b"")
            return
        content_type = self.headers.get("Content-Type", "")
        kind = content_type.partition(";")[0].strip().lower()
        is_sealed = kind in ("multipart/encrypted", "multipart/x-multi-encrypted")
        try:
            body = self.sign_in.opened(body, content_type if is_sealed else "")
        except SealError:
            # The sequence of signatures is lost with the message.
            self.sign_in.reset()
            self.close_connection = True
            self._html(400)
            return
        if not is_sealed and kind not in ("application/soap+xml", "text/xml"):
            self._html(415)
            return
        if site.faults.take("non_soap", site.fqdn, "powershell"):
            self._html(200)
            return
        self._wsman(answer.account, query, body, challenge, is_sealed=is_sealed)

    def _wsman(self, account: Account, query: str, body: bytes, headers: Headers, *, is_sealed: bool) -> None:
        site = self.server.site
        level = _query(query).get("serializationlevel", "default").lower()
        scheme = "https" if self.server.is_tls else "http"
        caller = Caller(
            account=account,
            address=str(self.client_address[0]),
            url=f"{scheme}://{self.headers.get('Host') or site.fqdn}{self.path}",
            serialization_level="full" if level == "full" else "default",
        )
        is_dropped = False
        try:
            status, envelope = site.powershell.handle(body, caller)
        except DropConnection as drop:
            if not drop.begun:
                self._reset()
                return
            status, envelope, is_dropped = 200, drop.begun, True
        except Exception:
            logger.exception("a request ended by an error of the lab's own")
            self._html(500)
            return
        content_type = SOAP
        if is_sealed:
            content_type, envelope = self.sign_in.seal(envelope)
        extra = [*headers, ("Content-Type", content_type), ("request-id", str(uuid.uuid4()))]
        if "X-BackEndCookie" not in self.headers.get("Cookie", ""):
            extra.append(("Set-Cookie", f"X-BackEndCookie={uuid.uuid4().hex}; path=/powershell; HttpOnly"))
        self._send(status, extra, envelope, cut=len(envelope) // 2 if is_dropped else None)

    # Other places

    def _route(self, route: Route, path: str, query: str, body: bytes) -> None:
        authorization = self.headers.get("Authorization", "")
        must_sign_in = getattr(route, "requires_sign_in", True)
        account = None
        challenge: list[tuple[str, str]] = []
        if must_sign_in or authorization:
            answer = self.sign_in.check(authorization, getattr(route, "authentications", ("Basic",)))
            account = answer.account
            challenge = [("WWW-Authenticate", header) for header in answer.headers]
        if must_sign_in and account is None:
            self._html(401, challenge)
            return
        request = WebRequest(
            method=self.command,
            path=path,
            query=dict(urllib.parse.parse_qsl(query, keep_blank_values=True)),
            headers={name.lower(): value for name, value in self.headers.items()},
            body=body,
            account=account,
            server=self.server.site.fqdn,
            is_tls=self.server.is_tls,
        )
        try:
            response = route.handle(request)
        except DropConnection:
            self._reset()
            return
        except Exception:
            logger.exception("a route ended by an error of the lab's own")
            response = WebResponse(500, {"Content-Type": HTML}, _page(500))
        self._send(response.status, [*response.headers.items(), *(challenge if account else [])], response.body)

    # Faults

    def _clock_skew(self) -> float:
        site = self.server.site
        fault = site.faults.peek("clock_skew", site.fqdn)
        return _number(fault, 0.0) if fault else 0.0

    def _is_faulty(self, area: str) -> bool:
        """Act on the faults that are due for this request. True: it is dealt with."""
        site = self.server.site
        if site.faults.peek("refuse", site.fqdn) or site.faults.take("drop", site.fqdn, area):
            self._reset()
            return True
        if fault := site.faults.take("hang", site.fqdn, area):
            self._hang(fault)
            if site.stopping.is_set():
                self._reset()
                return True
        if fault := site.faults.take("status", site.fqdn, area):
            status = int(_number(fault, 503))
            offered = [("WWW-Authenticate", one) for one in self.sign_in.offered()] if status == 401 else []
            self._html(status, offered)
            return True
        if fault := site.faults.take("redirect", site.fqdn, area):
            self._html(302, [("Location", fault.value or f"https://elsewhere.{site.fqdn}{self.path}")])
            return True
        return False

    def _hang(self, fault: Fault) -> None:
        """Until its seconds are over, it is lifted, or the server stops."""
        site = self.server.site
        until = time.monotonic() + _number(fault, float("inf"))
        while time.monotonic() < until and not site.stopping.wait(LOOK):
            if not fault.times and fault not in site.faults.all():
                return

    def _reset(self) -> None:
        """Close with RST, without an answer."""
        self.close_connection = True
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()

    # HTTP

    def _body(self) -> bytes:
        coding = self.headers.get("Transfer-Encoding", "").strip().lower()
        if coding == "chunked":
            return self._chunked()
        if coding:
            raise BadRequestError(501)
        length = self.headers.get("Content-Length", "0").strip()
        if not length.isascii() or not length.isdecimal():
            raise BadRequestError(400)
        if int(length) > LARGEST_BODY:
            raise BadRequestError(413)
        return self._exactly(int(length))

    def _chunked(self) -> bytes:
        parts: list[bytes] = []
        total = 0
        while True:
            size = self.rfile.readline(1024).partition(b";")[0].strip()
            try:
                length = int(size, 16)
            except ValueError as error:
                raise BadRequestError(400) from error
            total += length
            if length < 0 or total > LARGEST_BODY:
                raise BadRequestError(413)
            parts.append(self._exactly(length))
            if length == 0:
                break
            self.rfile.readline(8)
        while self.rfile.readline(8192).strip():
            pass
        return b"".join(parts)

    def _exactly(self, length: int) -> bytes:
        data = self.rfile.read(length)
        if len(data) != length:
            raise ConnectionAbortedError("the client went away within its request")
        return data

    def _html(self, status: int, headers: Headers = ()) -> None:
        self._send(status, [*headers, ("Content-Type", HTML)], _page(status))

    def _send(self, status: int, headers: Headers, body: bytes, *, cut: int | None = None) -> None:
        """Send an answer; with `cut` only so many bytes of its body, and then close the connection."""
        given = {name.lower() for name, _ in headers}
        lines = [f"HTTP/1.1 {status} {http.client.responses.get(status, 'Status')}"]
        lines.extend(f"{name}: {value}" for name, value in headers if name.lower() != "content-length")
        if "date" not in given:
            lines.append(f"Date: {email.utils.formatdate(time.time() + self._clock_skew(), usegmt=True)}")
        lines.append("Server: Microsoft-IIS/10.0")
        lines.append(f"X-FEServer: {self.server.site.fqdn.partition('.')[0].upper()}")
        if self.close_connection:
            lines.append("Connection: close")
        lines.append(f"Content-Length: {len(body)}")
        head = ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1", "replace")
        sent = b"" if self.command == "HEAD" else body if cut is None else body[:cut]
        self.server.site.traffic.add(bytes_out=len(sent))
        self.wfile.write(head + sent)
        if cut is not None:
            self.close_connection = True


def _query(query: str) -> dict[str, str]:
    return {key.lower(): value for key, value in urllib.parse.parse_qsl(query, keep_blank_values=True)}


def _number(fault: Fault, default: float) -> float:
    try:
        return float(fault.value)
    except ValueError:
        return default


def _page(status: int) -> bytes:
    """In HTML 4 as HTTP.sys writes it, which no XML parser takes for a fault."""
    name = http.client.responses.get(status, "Status")
    return (
        '<!DOCTYPE HTML PUBLIC "-//W3C//DTD HTML 4.01//EN""http://www.w3.org/TR/html4/strict.dtd">\r\n'
        f"<HTML><HEAD><TITLE>{name}</TITLE>\r\n"
        '<META HTTP-EQUIV="Content-Type" Content="text/html; charset=us-ascii"></HEAD>\r\n'
        f"<BODY><h2>{name}</h2>\r\n<hr><p>HTTP Error {status}. {name}.</p>\r\n</BODY></HTML>\r\n"
    ).encode()

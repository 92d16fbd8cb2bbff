"""A small HTTP server for the lab's own services (control interface, Graph): loopback, threads, JSON."""

from __future__ import annotations

import json
import threading
import traceback
import urllib.parse
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

LARGEST_BODY = 32 * 1024 * 1024


@dataclass(frozen=True)
class Request:
    """One request. `query` keeps the last of repeated names; `headers` have lower-case names."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes
    raw_path: str = ""  # as sent: a slash within a name is still %2F

    def json(self) -> dict[str, Any]:
        """The body as an object. Raises ValueError that says what is wrong."""
        if not self.body:
            return {}
        try:
            value = json.loads(self.body)
        except ValueError as error:
            raise ValueError(f"the body is not JSON: {error}") from None
        if not isinstance(value, dict):
            raise ValueError(  # noqa: TRY004 - what was sent is wrong, not our call
                "the body must be a JSON object"
            )
        return value

    def form(self) -> dict[str, str]:
        return {name: values[-1] for name, values in urllib.parse.parse_qs(self.body.decode()).items()}


@dataclass(frozen=True)
class Reply:
    """`body`: bytes as they are, anything else as JSON. `status` 0: the connection ends without an answer.

    sent: only so many bytes of the body go out before the connection ends; None sends all.
    """

    status: int
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    sent: int | None = None


Handle = Callable[[Request], Reply]


class Service:
    """Serves `handle` on 127.0.0.1 from start() to stop(); `port` is the one really bound."""

    def __init__(self, handle: Handle, port: int = 0) -> None:
        class Handler(_Handler):
            answer = staticmethod(handle)

        self._server = _server(port, Handler)
        self.port = int(self._server.server_address[1])
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.1,), daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def _server(port: int, handler: type[BaseHTTPRequestHandler]) -> ThreadingHTTPServer:
    """On the wanted port, or on any when someone else has it."""
    try:
        return _Threading(("127.0.0.1", port), handler)
    except OSError:
        return _Threading(("127.0.0.1", 0), handler)


class _Threading(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128


def _bytes(body: Any) -> bytes:
    if body is None:
        return b""
    return body if isinstance(body, bytes) else json.dumps(body).encode()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    answer: Handle

    def _any(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        if length > LARGEST_BODY:
            self.send_error(413)
            return
        split = urllib.parse.urlsplit(self.path)
        request = Request(
            self.command,
            urllib.parse.unquote(split.path),
            dict(urllib.parse.parse_qsl(split.query, keep_blank_values=True)),
            {name.lower(): value for name, value in self.headers.items()},
            self.rfile.read(length),
            split.path,
        )
        try:
            reply = type(self).answer(request)
        except Exception as error:  # noqa: BLE001 - the outermost boundary of a request
            traceback.print_exc()
            reply = Reply(500, {"error": f"the lab itself failed: {error!r}", "remedy": "see what it printed"})
        if reply.status == 0:
            self.close_connection = True
            return
        body = _bytes(reply.body)
        self.send_response(reply.status)
        if body and "Content-Type" not in reply.headers:
            self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        for name, value in reply.headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body[: reply.sent])
        self.close_connection = self.close_connection or reply.sent is not None

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _any

    def log_message(self, format: str, *args: object) -> None:
        """Silent: the wire log is the log."""

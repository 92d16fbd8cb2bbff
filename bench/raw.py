"""The raw limit: the same objects' bytes over plain HTTP into dictionaries by expat, no sign-in, no PSRP, no database.

`python -m bench.raw serve DUMP` prints its port and serves the dump (see bench.observe) in bodies as large as a WS-Man
envelope's payload; `python -m bench.raw fetch PORT` reads them all, one expat parser a body, and prints its time.
"""

from __future__ import annotations

import http.client
import json
import struct
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from xml.parsers import expat

BODY_BYTES = 380_000  # what 512,000 bytes of envelope hold after base64


def bodies(dump: Path) -> list[bytes]:
    """The dump's objects, wrapped by the body: <R><Obj>...</Obj>...</R>. In memory, so that disk is not measured."""
    data = dump.read_bytes()
    result, body, size, offset = [], [], 0, 0
    while offset < len(data):
        (length,) = struct.unpack_from(">I", data, offset)
        offset += 4
        body.append(data[offset : offset + length])
        offset += length
        size += length
        if size >= BODY_BYTES:
            result.append(b"<R>" + b"".join(body) + b"</R>")
            body, size = [], 0
    if body:
        result.append(b"<R>" + b"".join(body) + b"</R>")
    return result


def serve(dump: Path) -> None:
    documents = bodies(dump)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            number = int(self.path.rsplit("/", 1)[1])
            body = documents[number] if number < len(documents) else b""
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    print(server.server_address[1], flush=True)
    server.serve_forever()


class Reader:
    """Flat dictionaries from CLIXML: {property name: text}, lists as lists, an object with ToString as that text."""

    def __init__(self) -> None:
        self.count = 0
        self.record: dict[str, object] = {}
        self._path: list[str] = []
        self._name = ""
        self._text: list[str] = []
        self._items: list[str] | None = None

    def parse(self, body: bytes) -> None:
        parser = expat.ParserCreate()
        parser.buffer_text = True
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._text.append
        parser.Parse(body, True)

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        path = self._path
        path.append(tag)
        self._text.clear()
        depth = len(path)
        if depth == 2:
            self.record = {}
        elif depth == 4:
            self._name = attributes.get("N", "")
            self._items = None
        elif tag == "LST":
            self._items = []

    def _end(self, tag: str) -> None:
        path = self._path
        depth = len(path)
        if depth == 4 and self._name:
            if self._items is not None:
                self.record[self._name] = self._items
            elif tag == "Nil":
                self.record[self._name] = None
            elif tag != "Obj":
                self.record[self._name] = "".join(self._text)
        elif depth == 5 and tag == "ToString":
            self.record[self._name] = "".join(self._text)
        elif depth > 5 and self._items is not None:
            self._items.append("".join(self._text))
        elif depth == 2:
            self.count += 1
        self._text.clear()
        path.pop()


def fetch(port: int) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port)
    reader = Reader()
    started = time.perf_counter()
    number = 0
    while True:
        connection.request("GET", f"/{number}")
        body = connection.getresponse().read()
        if not body:
            break
        reader.parse(body)
        number += 1
    seconds = time.perf_counter() - started
    assert reader.record, "nothing was parsed"
    print(json.dumps({"objects": reader.count, "seconds": seconds, "properties": len(reader.record)}))


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(Path(sys.argv[2]))
    else:
        fetch(int(sys.argv[2]))

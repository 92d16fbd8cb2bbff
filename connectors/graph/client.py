"""Signed-in reading of Graph: a token that is kept fresh, requests that are tried again, pages that are followed.

Refuses to write, to follow redirects, and to send the token anywhere but to the cloud's own Graph address: a next or
delta link to another origin is an error. Links are followed whole; what is in them is not looked at.
"""

from __future__ import annotations

import datetime
import json
import logging
import random
import sys
import threading
import time
import urllib.parse
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

import httpcore
import httpx

from connectors.graph import translate
from connectors.graph.clouds import Cloud
from connectors.graph.credentials import Credentials
from connectors.graph.errors import (
    BadAnswerGraphError,
    CanceledError,
    GraphError,
    StopGraphError,
    ThrottledGraphError,
    TransientGraphError,
)
from connectors.graph.transport import SLICE, Transport

VERSION = "/v1.0"
# A page of 1000 devices is about a megabyte.
LARGEST_ANSWER = 64 * 1024 * 1024
LARGEST_TOKEN_ANSWER = 256 * 1024
# Seconds before its end at which a token is not used any more, and what to assume when its life is not told.
TOKEN_MARGIN = 300.0
TOKEN_LIFE = 600.0
# Waits between tries where Graph names none: 1, 2, 4 ... seconds, and a little less by chance, so that not all try at
# once.
FIRST_WAIT = 1.0
LONGEST_WAIT = 30.0
# How often a request goes out that meets no answer or a fault of the server; one whose answer cannot be read.
TRIES = 6
TRIES_OF_BROKEN = 3

# httpx tells every address, with what it asks for, at INFO.
for _name in ("httpx", "httpcore"):
    logging.getLogger(_name).setLevel(logging.WARNING)


def never() -> bool:
    """The should_stop of a caller that cannot be canceled."""
    return False


@dataclass(frozen=True, slots=True)
class Options:
    """How to connect. Seconds throughout; `ca_file` None trusts the system's authorities.

    proxy: its http:// URL, with percent-encoded credentials; None connects directly, whatever the environment says.
    read_timeout: silence within one answer. patience: one request with all its tries and waits; a wait that Graph
    asks for and that does not fit in ends it at once. deadline: a whole listing, the time that the caller takes
    between pages included. page_size: what is asked for; Graph may send other sizes.
    """

    ca_file: str | None = None
    proxy: str | None = field(default=None, repr=False)
    connect_timeout: float = 10.0
    read_timeout: float = 60.0
    patience: float = 180.0
    deadline: float = 3600.0
    page_size: int = 999


@dataclass
class Throttling:
    """How long this client waited because Graph asked it to, and how often."""

    seconds: float = 0.0
    events: int = 0


class GraphClient:
    """Reads one tenant. Made within a `with`; may be used by several threads at once.

    Every call may raise GraphError, or CanceledError when should_stop() turned true, within a second of it (only the
    look-up of a name cannot be interrupted).
    """

    def __init__(
        self,
        credentials: Credentials,
        cloud: Cloud,
        options: Options | None = None,
        *,
        should_stop: Callable[[], bool] = never,
    ) -> None:
        """Nothing is sent yet. Raises StopGraphError for settings that cannot work."""
        credentials.check(_now())
        self.cloud = cloud
        self.options = options or Options()
        self.throttling = Throttling()
        self._credentials = credentials
        self._should_stop = should_stop
        self._origin = _origin(cloud.graph)
        self._token = ""
        self._token_ends = 0.0
        self._token_lock = threading.Lock()
        self._http = self._connections()

    def _connections(self) -> httpx.Client:
        options = self.options
        try:
            transport = Transport(self._check, options.ca_file, options.proxy)
        except (OSError, ValueError, httpx.InvalidURL) as error:
            # `from None`: the text of these can hold the proxy's credentials.
            raise StopGraphError(f"the authorities or the proxy cannot be used: {type(error).__name__}") from None
        return httpx.Client(
            transport=transport,
            timeout=httpx.Timeout(options.read_timeout, connect=options.connect_timeout),
            follow_redirects=False,
            trust_env=False,
            headers={"User-Agent": "Gatehouse", "Accept": "application/json"},
        )

    def __enter__(self) -> GraphClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()
        self._token = ""

    def __repr__(self) -> str:
        return f"GraphClient(cloud={self.cloud.name!r}, tenant={self._credentials.tenant_id!r})"

    # --- reading ---

    def get(
        self,
        path: str,
        query: Mapping[str, str] | None = None,
        *,
        permission: str = "",
        headers: Mapping[str, str] | None = None,
    ) -> dict[str, Any]:
        """One object. `path` begins with a slash and is below the version; its parts are percent-encoded already."""
        # Spaces as %20: a plus sign stands for itself in OData.
        text = f"?{urllib.parse.urlencode(query, safe='$,', quote_via=urllib.parse.quote)}" if query else ""
        return self._get(f"{self.cloud.graph}{VERSION}{path}{text}", path, permission, headers or {})

    def follow(self, link: str, *, permission: str = "", headers: Mapping[str, str] | None = None) -> dict[str, Any]:
        """What a next or delta link leads to, which must be on Graph's own address."""
        path = self._own_path(link)
        return self._get(link, path, permission, headers or {})

    def pages(
        self,
        path: str,
        query: Mapping[str, str] | None = None,
        *,
        permission: str = "",
        headers: Mapping[str, str] | None = None,
    ) -> Iterator[dict[str, Any]]:
        """All pages of a listing, one in memory at a time; `headers` go with each.

        A link that came before, or a page without `value`, is a BadAnswerGraphError: the iterator ends normally only
        at a page that has no next link.
        """
        end = time.monotonic() + self.options.deadline
        page = self.get(path, query, permission=permission, headers=headers)
        yield from self.rest(page, end, permission=permission, headers=headers)

    def rest(
        self, page: dict[str, Any], end: float, *, permission: str = "", headers: Mapping[str, str] | None = None
    ) -> Iterator[dict[str, Any]]:
        """This page and those that follow it, until time.monotonic() says `end`."""
        followed: set[int] = set()
        while True:
            if not isinstance(page.get("value"), list):
                raise BadAnswerGraphError("a page without a list", server=self._host)
            yield page
            link = page.get("@odata.nextLink")
            if link is None:
                return
            if not isinstance(link, str) or hash(link) in followed:
                raise BadAnswerGraphError("a next link that leads nowhere", server=self._host)
            followed.add(hash(link))
            if time.monotonic() > end:
                raise TransientGraphError(
                    "the listing takes too long", code="graph_deadline_exceeded", server=self._host
                )
            page = self.follow(link, permission=permission, headers=headers)

    @property
    def _host(self) -> str:
        return urllib.parse.urlsplit(self.cloud.graph).netloc

    def _own_path(self, link: str) -> str:
        try:
            is_own = _origin(link) == self._origin
        except ValueError:
            is_own = False
        if not is_own:
            raise BadAnswerGraphError("a link that leads away from Graph", code="graph_foreign_link", server=self._host)
        return urllib.parse.urlsplit(link).path.removeprefix(VERSION)

    def _get(self, url: str, resource: str, permission: str, headers: Mapping[str, str]) -> dict[str, Any]:
        asked = translate.Asked(self._host, resource, permission)
        end = time.monotonic() + self.options.patience
        is_renewed = False
        tries = 0
        while True:
            token = self._fresh_token(end)
            try:
                status, answer_headers, body = self._send(
                    "GET", url, asked, end,
                    headers={**headers, "Authorization": f"Bearer {token}", "client-request-id": str(uuid.uuid4())},
                )  # fmt: skip
                if status == 200:
                    return _object(body, asked)
                error = translate.refusal(status, answer_headers, body, asked)
                told_wait = translate.retry_after(answer_headers)
            except GraphError as failure:
                error, told_wait = failure, None
            if error.code == "graph_token_refused" and not is_renewed:
                is_renewed = True
                self._forget(token)
                continue
            tries += 1
            self._wait_or_raise(error, tries, told_wait, end)

    def _wait_or_raise(self, error: GraphError, tries: int, told: float | None, end: float) -> None:
        """Wait before another try, or raise `error` when there is none, or no time for it."""
        if tries >= _most_tries(error):
            raise error
        backoff = min(FIRST_WAIT * 2.0 ** min(tries - 1, 10), LONGEST_WAIT)
        # A wait of nothing, told again and again, would be a flood.
        wait = backoff * random.uniform(0.75, 1.0) if told is None else max(told, backoff / 8)  # noqa: S311 - no secret
        if time.monotonic() + wait >= end:
            if isinstance(error, ThrottledGraphError):
                error.retry_after = wait
            raise error
        if isinstance(error, ThrottledGraphError):
            self.throttling.seconds += wait
            self.throttling.events += 1
        self._sleep(wait)

    # --- the token ---

    def sign_in(self) -> None:
        """Get a token now, whatever is kept. Raises GraphError."""
        self._forget(self._token)
        self._fresh_token(time.monotonic() + self.options.patience)

    def _forget(self, token: str) -> None:
        with self._token_lock:
            if self._token == token:  # another thread may have renewed it meanwhile
                self._token = ""

    def _fresh_token(self, end: float) -> str:
        with self._token_lock:
            if not self._token or time.monotonic() >= self._token_ends:
                self._token, life = self._requested_token(end)
                self._token_ends = time.monotonic() + life - min(TOKEN_MARGIN, life / 2)
            return self._token

    def _requested_token(self, end: float) -> tuple[str, float]:
        endpoint = f"{self.cloud.login}/{self._credentials.tenant_id}/oauth2/v2.0/token"
        asked = translate.Asked(urllib.parse.urlsplit(endpoint).netloc, "/oauth2/v2.0/token")
        tries = 0
        while True:
            form = {
                "client_id": self._credentials.client_id,
                "scope": self.cloud.scope,
                "grant_type": "client_credentials",
                **self._credentials.form(endpoint, _now()),  # a new assertion each time: each is good once
            }
            try:
                status, headers, body = self._send(
                    "POST", endpoint, asked, end, form=form, limit=LARGEST_TOKEN_ANSWER,
                    headers={"client-request-id": str(uuid.uuid4())},
                )  # fmt: skip
                if status == 200:
                    return _token(_object(body, asked), asked)
                error = translate.sign_in_refusal(status, headers, body, asked)
                told_wait = translate.retry_after(headers)
            except GraphError as failure:
                error, told_wait = failure, None
            tries += 1
            self._wait_or_raise(error, tries, told_wait, end)

    # --- one exchange of messages ---

    def _send(
        self,
        method: str,
        url: str,
        asked: translate.Asked,
        end: float,
        *,
        headers: Mapping[str, str],
        form: Mapping[str, str] | None = None,
        limit: int | None = None,
    ) -> tuple[int, Mapping[str, str], bytes]:
        """Status, headers (lower case) and whole body. Raises GraphError when there is no answer to be had."""
        self._check()
        try:
            request = self._http.build_request(method, url, headers=headers, data=form)
            response = self._http.send(request, stream=True)
            try:
                body = self._read(response, asked, limit or LARGEST_ANSWER, end)
            finally:
                response.close()
        except (httpx.HTTPError, httpx.InvalidURL, *_HTTPCORE) as error:
            raise translate.network(error, asked) from error
        return response.status_code, response.headers, body

    def _read(self, response: httpx.Response, asked: translate.Asked, limit: int, end: float) -> bytes:
        where: dict[str, Any] = {"server": asked.server, "resource": asked.resource}
        parts: list[bytes] = []
        size = 0
        for part in response.iter_bytes():
            parts.append(part)
            size += len(part)
            if size > limit:
                raise BadAnswerGraphError("an answer beyond measure", code="graph_answer_too_large", **where)
            if time.monotonic() > end:
                raise TransientGraphError("an answer that does not end", code="graph_timed_out", **where)
        return b"".join(parts)

    def _check(self) -> None:
        if self._should_stop():
            raise CanceledError

    def _sleep(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while (remaining := end - time.monotonic()) > 0:
            self._check()
            time.sleep(min(SLICE, remaining))
        self._check()


_HTTPCORE = (
    httpcore.TimeoutException,
    httpcore.NetworkError,
    httpcore.ProtocolError,
    httpcore.ProxyError,
    httpcore.UnsupportedProtocol,
)


def _most_tries(error: GraphError) -> int:
    """Of what goes away by itself: patience alone ends the waiting that Graph asks for. 1: once is enough."""
    if isinstance(error, ThrottledGraphError):
        return sys.maxsize
    if isinstance(error, TransientGraphError):
        return 1 if error.code in ("graph_resync_required", "graph_deadline_exceeded") else TRIES
    return TRIES_OF_BROKEN if error.code == "graph_bad_answer" else 1


def _object(body: bytes, asked: translate.Asked) -> dict[str, Any]:
    try:
        value = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise BadAnswerGraphError("an answer that is not JSON", server=asked.server, resource=asked.resource) from error
    if not isinstance(value, dict):
        raise BadAnswerGraphError("an answer that is no object", server=asked.server, resource=asked.resource)
    return value


def _token(answer: dict[str, Any], asked: translate.Asked) -> tuple[str, float]:
    """The token and its life in seconds. A token is good for Graph whether or not the application has any role."""
    token = answer.get("access_token")
    if not isinstance(token, str) or not token or not token.isascii() or not token.isprintable():
        raise BadAnswerGraphError("a sign-in without a token", server=asked.server, resource=asked.resource)
    if str(answer.get("token_type", "Bearer")).lower() != "bearer":
        raise BadAnswerGraphError("a token of another type", server=asked.server, resource=asked.resource)
    try:
        life = float(answer.get("expires_in") or TOKEN_LIFE)
    except (TypeError, ValueError):
        life = TOKEN_LIFE
    return token, life if 0 < life < 7 * 86_400 else TOKEN_LIFE


def _origin(url: str) -> tuple[str, str, int | None]:
    parts = urllib.parse.urlsplit(url)
    if parts.username is not None or parts.password is not None:
        raise ValueError("a link with credentials")
    default = {"https": 443, "http": 80}.get(parts.scheme)
    return parts.scheme, (parts.hostname or "").lower(), parts.port or default


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)

"""Everything this package raises: few classes, each tied to what the caller should do, each with a stable code.

What httpx, the sign-in service and Graph say is turned into these in one place (translate.py) and chained with `from`.
The text of an error is ours; foreign text is cut to `FOREIGN_TEXT_LIMIT` characters. No error holds a credential, a
token, a header or a whole address: `resource` is the path alone.
The sentence and remedy that people read for a code stand in connectors/problems/graph.py.
"""

from __future__ import annotations

from typing import ClassVar

from connectors.exchange.errors import CanceledError

__all__ = [
    "BadAnswerGraphError",
    "BadRequestGraphError",
    "CanceledError",  # one class, whoever was canceled: a sync that stops, stops
    "GraphError",
    "NotFoundGraphError",
    "NotPermittedGraphError",
    "RecordError",
    "StopGraphError",
    "ThrottledGraphError",
    "TransientGraphError",
]

FOREIGN_TEXT_LIMIT = 300


class GraphError(Exception):
    """Base. `code` is stable; `params` are JSON-safe values that the sentence of that code names.

    resource: the path that was asked for. permission: the application permission that it needs. status: HTTP's, 0
    without an answer. remote_code: Graph's error code, or the sign-in service's AADSTS number. server: host that was
    asked. request_id: under which Microsoft's support finds the request.
    """

    reaction: ClassVar[str] = "stop"
    default_code: ClassVar[str] = "graph_error"

    def __init__(
        self,
        message: str,
        *,
        code: str = "",
        server: str = "",
        resource: str = "",
        permission: str = "",
        status: int = 0,
        remote_code: str = "",
        remote_text: str = "",
        request_id: str = "",
    ) -> None:
        super().__init__(message)
        self.code = code or self.default_code
        self.server = server
        self.resource = resource
        self.permission = permission
        self.status = status
        self.remote_code = _storable(remote_code)
        self.remote_text = _storable(remote_text)
        self.request_id = _storable(request_id)

    @property
    def params(self) -> dict[str, str | float]:
        named: dict[str, str | float] = {
            "server": self.server,
            "resource": self.resource,
            "permission": self.permission,
            "status": self.status,
            "remote_code": self.remote_code,
            "remote_text": self.remote_text,
            "request_id": self.request_id,
        }
        return {name: value for name, value in named.items() if value}

    def __repr__(self) -> str:
        return f"{type(self).__name__}(code={self.code!r}, resource={self.resource!r}, status={self.status!r})"


def _storable(text: str) -> str:
    """Foreign text: cut short, and without the one character that no database takes."""
    return text[:FOREIGN_TEXT_LIMIT].replace("\0", "\ufffd")


class TransientGraphError(GraphError):
    """Try again later: the network, or a service that is unwell. What was read before still counts.

    Codes: graph_name_not_resolved, graph_unreachable, graph_timed_out, graph_dropped, graph_server_error,
    graph_deadline_exceeded, graph_resync_required.
    """

    reaction = "retry"
    default_code = "graph_server_error"


class ThrottledGraphError(TransientGraphError):
    """Graph asks us to slow down for longer than we were allowed to wait; wait `retry_after` seconds.

    Code: graph_throttled.
    """

    reaction = "wait"
    default_code = "graph_throttled"

    def __init__(self, message: str, *, retry_after: float = 30.0, **more: str | int) -> None:
        super().__init__(message, **more)  # type: ignore[arg-type]
        self.retry_after = retry_after

    @property
    def params(self) -> dict[str, str | float]:
        return {**super().params, "retry_after": self.retry_after}


class NotFoundGraphError(GraphError):
    """The object asked for is not there. Code: graph_not_found."""

    reaction = "heal"
    default_code = "graph_not_found"


class NotPermittedGraphError(GraphError):
    """The application may not read this; `permission` is what it needs. Others may still be read.

    Codes: graph_permission_missing, graph_members_hidden.
    """

    reaction = "stop"
    default_code = "graph_permission_missing"


class BadRequestGraphError(GraphError):
    """Graph refuses this one request; others may go on. Codes: graph_request_refused, graph_intune_unavailable."""

    reaction = "record"
    default_code = "graph_request_refused"


class StopGraphError(GraphError):
    """Settings or credentials: nothing will work until a person changes something.

    Codes: graph_bad_settings, graph_secret_wrong, graph_secret_expired, graph_certificate_refused,
    graph_certificate_expired, graph_certificate_unreadable, graph_application_unknown, graph_application_disabled,
    graph_tenant_unknown, graph_conditional_access, graph_wrong_cloud, graph_token_refused, graph_sign_in_failed,
    graph_clock_skew, graph_certificate_untrusted, graph_proxy_failed.
    """

    reaction = "stop"
    default_code = "graph_bad_settings"


class BadAnswerGraphError(GraphError):
    """An answer that is none of Graph's: something stands in between, or Graph changed. Nothing of it is used.

    Codes: graph_bad_answer, graph_record_unreadable, graph_answer_too_large, graph_foreign_link, graph_redirected.
    """

    reaction = "retry"
    default_code = "graph_bad_answer"


class RecordError(ValueError):
    """One row of a listing lacks what we cannot do without, or has it in a shape we do not know. Names the property.

    record_id: the object's id where at least that can be read; "" otherwise. Of an object that was asked for alone
    it becomes a BadAnswerGraphError graph_record_unreadable.
    """

    def __init__(self, message: str, *, record_id: str = "") -> None:
        super().__init__(message)
        self.record_id = record_id

    def as_graph_error(self, resource: str) -> BadAnswerGraphError:
        return BadAnswerGraphError(str(self), code="graph_record_unreadable", resource=resource, remote_text=str(self))

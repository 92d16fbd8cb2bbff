"""Everything this package raises: few classes, each tied to what the caller should do, each with a stable code.

Library errors are turned into these in one place (translate.py) and chained with `from`. The text of an error is ours;
foreign text is cut to `FOREIGN_TEXT_LIMIT` characters and never holds credentials, headers or payloads.
The sentence and remedy that people read for a code stand in connectors/problems.py.
"""

from __future__ import annotations

from typing import ClassVar

FOREIGN_TEXT_LIMIT = 300


class ExchangeError(Exception):
    """Base. `code` is stable; `params` are JSON-safe values that the sentence of that code names."""

    reaction: ClassVar[str] = "stop"
    default_code: ClassVar[str] = "exchange_error"

    def __init__(
        self,
        message: str,
        *,
        code: str = "",
        server: str = "",
        cmdlet: str = "",
        remote_text: str = "",
        request_id: str = "",
    ) -> None:
        super().__init__(message)
        self.code = code or self.default_code
        self.server = server
        self.cmdlet = cmdlet
        # Foreign text: cut short, and without the one character that no database takes.
        self.remote_text = remote_text[:FOREIGN_TEXT_LIMIT].replace("\0", "\ufffd")
        self.request_id = request_id

    @property
    def params(self) -> dict[str, str | float]:
        named = {
            "server": self.server,
            "cmdlet": self.cmdlet,
            "remote_text": self.remote_text,
            "request_id": self.request_id,
        }
        return {name: value for name, value in named.items() if value}

    def __repr__(self) -> str:
        return f"{type(self).__name__}(code={self.code!r}, server={self.server!r}, cmdlet={self.cmdlet!r})"


class TransientError(ExchangeError):
    """Try again, on this server or the next: the network, a lost shell, a busy or broken server.

    Codes: connection_refused, connection_timed_out, connection_dropped, name_not_resolved, server_unavailable (503),
    server_error (500 without a fault we know), shell_lost, pool_broken, no_answer (silence past the limit),
    deadline_exceeded, malformed_answer, listing_incomplete, exchange_transient, cmdlet_proxy_failed.
    """

    reaction = "retry"
    default_code = "exchange_transient"


class ThrottledError(TransientError):
    """Exchange asks us to slow down; wait `retry_after` seconds (our default where it names no time).

    Codes: too_many_shells, user_load_quota, too_many_commands, server_busy.
    """

    reaction = "wait"
    default_code = "server_busy"

    def __init__(
        self,
        message: str,
        *,
        retry_after: float = 30.0,
        code: str = "",
        server: str = "",
        cmdlet: str = "",
        remote_text: str = "",
        request_id: str = "",
    ) -> None:
        super().__init__(
            message, code=code, server=server, cmdlet=cmdlet, remote_text=remote_text, request_id=request_id
        )
        self.retry_after = retry_after

    @property
    def params(self) -> dict[str, str | float]:
        return {**super().params, "retry_after": self.retry_after}


class NotFoundError(ExchangeError):
    """The object asked for is not there. Code: object_not_found."""

    reaction = "heal"
    default_code = "object_not_found"


class AmbiguousError(ExchangeError):
    """The identity fits several objects. Code: object_ambiguous."""

    reaction = "record"
    default_code = "object_ambiguous"


class AlreadyExistsError(ExchangeError):
    """There is such an object already: take it over instead of making it. Code: object_exists."""

    reaction = "adopt"
    default_code = "object_exists"


class NotPermittedError(ExchangeError):
    """RBAC does not give the account this. Codes: cmdlet_not_granted, parameter_not_granted."""

    reaction = "stop"
    default_code = "cmdlet_not_granted"


class BadRequestError(ExchangeError):
    """Exchange refuses this one command (our value or our bug); others may go on.

    Codes: argument_refused, confirmation_required, script_refused, command_failed.
    """

    reaction = "record"
    default_code = "command_failed"


class StopError(ExchangeError):
    """Settings or credentials: nothing will work until a person changes something.

    Codes: authentication_failed, authentication_not_offered, access_denied, forbidden (403),
    endpoint_not_found (404), wrong_port, not_powershell (an answer that is not WS-Man), redirected,
    certificate_untrusted, certificate_expired, certificate_wrong_name, kerberos_failed, kerberos_unavailable,
    clock_skew, proxy_failed, bad_settings.
    """

    reaction = "stop"
    default_code = "bad_settings"


class _CommandError(ExchangeError):
    """About one command that changes something; `command` is its PowerShell text (powershell.py), without secrets."""

    def __init__(
        self,
        message: str,
        *,
        command: str = "",
        code: str = "",
        server: str = "",
        cmdlet: str = "",
        remote_text: str = "",
        request_id: str = "",
    ) -> None:
        super().__init__(
            message, code=code, server=server, cmdlet=cmdlet, remote_text=remote_text, request_id=request_id
        )
        self.command = command

    @property
    def params(self) -> dict[str, str | float]:
        return {**super().params, **({"command": self.command} if self.command else {})}


class OutcomeUnknownError(_CommandError):
    """A command that changes something went out, and what became of it was not learnt.

    Read the object before anything else is done about it; never send the command again blindly. It is no
    TransientError, so that nothing that tries again on those can catch it by accident. The failure behind it is
    `__cause__`, its code `because`. is_accepted: Exchange said that it did it, only reading it back failed.

    Code: outcome_unknown.
    """

    reaction = "read back"
    default_code = "outcome_unknown"
    because: str = ""
    is_accepted: bool = False

    @property
    def params(self) -> dict[str, str | float]:
        return {**super().params, **({"because": self.because} if self.because else {})}


class ObserveOnlyError(_CommandError):
    """The session only observes, so the command was not sent; `command` is its exact text. Code: observe_only."""

    reaction = "dry run"
    default_code = "observe_only"


class CanceledError(Exception):
    """The caller's `should_stop` said so. Not an ExchangeError: nothing went wrong."""

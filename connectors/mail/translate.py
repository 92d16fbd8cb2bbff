"""The one place where what exchangelib, requests, urllib3, ssl and SMTP servers say becomes an error of ours.

By class, code and status (exchange.md 6.2), never by the words of a text. What we do not know becomes the least
specific error of its kind. Nothing here retries.
"""

from __future__ import annotations

import re
import socket
import ssl
from collections.abc import Iterator

import requests
import urllib3.exceptions
from exchangelib.errors import ErrorServerBusy, EWSError

from connectors.mail.errors import (
    MailError,
    MailOutcomeUnknownError,
    MailRefusedError,
    MailStopError,
    MailTransientError,
)
from connectors.mail.web import OFFERED_AS

# Seconds, where a server asks to wait and does not say how long; quotas count by the hour.
BUSY_WAIT = 60.0
QUOTA_WAIT = 900.0

# EWS response code → (class, our code). ErrorInternalServerTransientError and ErrorTooManyObjectsOpened come from the
# library as ErrorServerBusy.
RESPONSE_CODES: dict[str, tuple[type[MailError], str]] = {
    "ErrorSendAsDenied": (MailStopError, "mail_send_as_denied"),
    "ErrorAccessDenied": (MailStopError, "mail_send_as_denied"),
    "ErrorImpersonateUserDenied": (MailStopError, "mail_send_as_denied"),
    "ErrorImpersonationDenied": (MailStopError, "mail_send_as_denied"),
    "ErrorNonExistentMailbox": (MailStopError, "mail_no_mailbox"),
    "ErrorMissingEmailAddress": (MailStopError, "mail_no_mailbox"),
    "ErrorFolderNotFound": (MailStopError, "mail_no_mailbox"),
    "ErrorQuotaExceeded": (MailStopError, "mail_mailbox_full"),
    "ErrorAccountDisabled": (MailStopError, "mail_account_disabled"),
    "ErrorPasswordExpired": (MailStopError, "mail_account_disabled"),
    "ErrorPasswordChangeRequired": (MailStopError, "mail_account_disabled"),
    "ErrorSchemaValidation": (MailStopError, "mail_request_refused"),
    "ErrorInvalidRequest": (MailStopError, "mail_request_refused"),
    "ErrorIncorrectSchemaVersion": (MailStopError, "mail_request_refused"),
    "ErrorInvalidServerVersion": (MailStopError, "mail_request_refused"),
    "ErrorInvalidSchemaVersionForMailboxVersion": (MailStopError, "mail_request_refused"),
    "ErrorInvalidRecipients": (MailRefusedError, "mail_recipient_refused"),
    "ErrorInvalidSmtpAddress": (MailRefusedError, "mail_recipient_refused"),
    "ErrorMessageSizeExceeded": (MailRefusedError, "mail_message_refused"),
    "ErrorSubmissionQuotaExceeded": (MailTransientError, "mail_server_busy"),
    "ErrorServerBusy": (MailTransientError, "mail_server_busy"),
    "ErrorExceededConnectionCount": (MailTransientError, "mail_server_busy"),
    **dict.fromkeys(
        (
            "ErrorTimeoutExpired", "ErrorMailboxStoreUnavailable", "ErrorMailboxMoveInProgress", "ErrorADUnavailable",
            "ErrorConnectionFailed", "ErrorNoRespondingCASInDestinationSite",
            "ErrorInternalServerError",
        ),
        (MailTransientError, "mail_server_failed"),
    ),
}  # fmt: skip


class UnexpectedStatusError(Exception):
    """An HTTP status that is neither EWS's nor Autodiscover's answer. Holds nothing of the body.

    is_signed: the request came with a sign-in.
    """

    def __init__(self, status: int, *, offered: str = "", retry_after: str = "", is_signed: bool = True) -> None:
        super().__init__(f"HTTP {status}")
        self.status, self.offered, self.retry_after, self.is_signed = status, offered, retry_after, is_signed

    @classmethod
    def of(cls, response: requests.Response) -> UnexpectedStatusError:
        told = response.headers
        return cls(
            response.status_code,
            offered=told.get("WWW-Authenticate", ""),
            retry_after=told.get("Retry-After", ""),
            is_signed="Authorization" in response.request.headers,
        )


def translate(error: BaseException, *, server: str, authentication: str = "", is_sent: bool = False) -> MailError:
    """Ours for a library's error; to be raised `from` it.

    is_sent: the request would have sent a mail, so that a failure after it went out leaves that open.
    """
    found = _classified(error, authentication, is_sent=is_sent)
    found.server = found.server or server
    return found


def _classified(error: BaseException, authentication: str, *, is_sent: bool) -> MailError:
    if isinstance(error, MailError):
        return error
    if isinstance(error, UnexpectedStatusError):
        return _status(error, authentication, is_sent=is_sent)
    if isinstance(error, PermissionError):
        # requests_ntlm, where a server that offered NTLM did not go on with it.
        return MailStopError("the server broke off the sign-in", code="mail_sign_in_not_offered")
    # exchangelib wraps requests' errors as if Exchange had answered ErrorTimeoutExpired.
    if any(isinstance(item, requests.RequestException | OSError) for item in chain(error)):
        return network(error, is_sent=is_sent)
    if isinstance(error, EWSError) and (entry := RESPONSE_CODES.get(type(error).__name__)):
        return _answered(error, *entry)
    if isinstance(error, EWSError) and type(error).__name__.startswith("Error"):
        # An answer of Exchange's that refuses, with a code that we have no word for.
        text = f"{type(error).__name__}: {error}"
        return MailRefusedError("Exchange refused the mail", code="mail_message_refused", remote_text=text)
    if is_sent:
        return MailOutcomeUnknownError("an answer that cannot be read", because="mail_server_failed")
    return MailStopError(f"this is not EWS ({type(error).__name__})", code="mail_not_ews")


def _answered(error: EWSError, kind: type[MailError], code: str) -> MailError:
    name = type(error).__name__
    text = f"{name}: {error}" if str(error) != "None" else name
    if kind is MailTransientError:
        wait = QUOTA_WAIT if name == "ErrorSubmissionQuotaExceeded" else None
        if isinstance(error, ErrorServerBusy):
            wait = float(error.back_off or BUSY_WAIT)
        return MailTransientError("Exchange cannot do it now", code=code, remote_text=text, retry_after=wait)
    return kind("Exchange refused", code=code, remote_text=text)


def _status(error: UnexpectedStatusError, authentication: str, *, is_sent: bool) -> MailError:
    text = str(error)
    match error.status:
        case 401:
            return _unauthorized(error, authentication)
        case 440 | 456 | 457:
            return MailStopError("the account is locked", code="mail_account_disabled", remote_text=text)
        case 413:
            return MailRefusedError("too large", code="mail_message_refused", remote_text=text)
        case 407:
            return MailTransientError("the proxy refused us", code="mail_unreachable", remote_text=text)
        case 429 | 503:
            wait = float(error.retry_after) if error.retry_after.isdecimal() else BUSY_WAIT
            return MailTransientError("the server is busy", code="mail_server_busy", remote_text=text, retry_after=wait)
    if error.status >= 500 and is_sent:
        # A proxy that lost patience, or a failure after the mail was taken: no telling.
        return MailOutcomeUnknownError(
            "the server failed over the mail", because="mail_server_failed", remote_text=text
        )
    if error.status >= 500:
        return MailTransientError("the server failed", code="mail_server_failed", remote_text=text)
    return MailStopError("something else than EWS answers here", code="mail_not_ews", remote_text=text)


def _unauthorized(error: UnexpectedStatusError, authentication: str) -> MailStopError:
    # Names only: the header of a sign-in under way holds a token.
    kinds = re.findall(r"(?<![\w=+/])(basic|ntlm|negotiate|kerberos)(?![\w=+/])", error.offered.lower())
    acceptable = OFFERED_AS.get(authentication, ())
    if kinds and acceptable and not set(kinds) & set(acceptable):
        return MailStopError(
            "the server does not offer this way to sign in",
            code="mail_sign_in_not_offered",
            remote_text=", ".join(sorted(set(kinds))),
        )
    if authentication == "kerberos" and not error.is_signed:
        # The library gives the 401 back when it gets no ticket for the server.
        return MailStopError("no ticket for the server", code="mail_kerberos_failed", remote_text="no service ticket")
    return MailStopError("the server refused user name or password", code="mail_sign_in_failed")


def chain(error: BaseException) -> Iterator[BaseException]:
    """An error and all that it wraps, by cause, context, `reason` and arguments; each once."""
    pending, seen = [error], set()
    while pending:
        current = pending.pop(0)
        if id(current) in seen:
            continue
        seen.add(id(current))
        yield current
        inner = (current.__cause__, current.__context__, getattr(current, "reason", None), *current.args)
        pending.extend(item for item in inner if isinstance(item, BaseException))


def network(error: BaseException, *, is_sent: bool) -> MailError:
    """What went wrong below HTTP or SMTP, told by the innermost error that says it."""
    items = list(chain(error))

    def has(*kinds: type[BaseException]) -> bool:
        return any(isinstance(item, kinds) for item in items)

    if (verification := _verification(items)) is not None:
        return MailStopError("the certificate is not trusted", code="mail_certificate", remote_text=verification)
    if has(requests.exceptions.InvalidURL, requests.exceptions.MissingSchema, requests.exceptions.InvalidProxyURL,
           requests.exceptions.InvalidSchema, urllib3.exceptions.LocationParseError):  # fmt: skip
        return MailStopError("the address is none", code="mail_bad_settings")
    if any(isinstance(item, OSError) and "CA certificate" in str(item) for item in items):
        return MailStopError("the file of authorities cannot be read", code="mail_bad_settings")
    if has(socket.gaierror, urllib3.exceptions.NameResolutionError):
        return MailTransientError("the name is not known", code="mail_unreachable", remote_text="name not known")
    if has(
        ConnectionRefusedError,
        requests.exceptions.ConnectTimeout,
        requests.exceptions.ProxyError,
        urllib3.exceptions.NewConnectionError,
        urllib3.exceptions.ConnectTimeoutError,
    ):
        return MailTransientError("no connection", code="mail_unreachable", remote_text=_plain(items))
    if has(ssl.SSLError, requests.exceptions.SSLError) and not is_sent:
        return MailTransientError("no TLS at this port", code="mail_unreachable", remote_text="no TLS is spoken here")
    if is_sent:
        return MailOutcomeUnknownError("no answer to the mail", because="mail_unreachable", remote_text=_plain(items))
    return MailTransientError("the connection broke off", code="mail_unreachable", remote_text=_plain(items))


def _verification(items: list[BaseException]) -> str | None:
    """Why the certificate was not believed; None when it was."""
    for item in items:
        if isinstance(item, ssl.SSLCertVerificationError):
            return item.verify_message or "not trusted"
        if isinstance(item, urllib3.exceptions.SSLError) and "doesn't match" in str(item):
            return "it names another server"
    return None


def _plain(items: list[BaseException]) -> str:
    """The kind of the innermost failure: its text may hold addresses of proxies."""
    return next((type(item).__name__ for item in reversed(items) if isinstance(item, OSError)), "")


# --- SMTP -------------------------------------------------------------------------------------------------------


def refused(stage: str, code: int, text: str) -> MailError:
    """Ours for an SMTP reply of 4xx or 5xx. stage: greeting, tls, sign_in, sender, recipient or data."""
    said = f"{code} {text}".strip()
    if code == 421 or (400 <= code < 500 and stage != "recipient"):
        return MailTransientError("the server cannot do it now", code="mail_server_busy", remote_text=said)
    if 400 <= code < 500:
        return MailTransientError("the server asks to come again", code="mail_deferred", remote_text=said)
    if not 500 <= code < 600:
        return MailTransientError("an answer that is not SMTP's", code="mail_server_failed", remote_text=said)
    match stage:
        case "sign_in":
            wanted = "mail_sign_in_not_offered" if code in (500, 502, 503, 504, 534, 538) else "mail_sign_in_failed"
            return MailStopError("the server refused the sign-in", code=wanted, remote_text=said)
        case "sender":
            return MailStopError("the server refused the sender", code="mail_send_as_denied", remote_text=said)
        case "recipient" if code in (530, 535) or _is_relaying(text):
            return MailStopError("the server sends nothing for us", code="mail_send_as_denied", remote_text=said)
        case "recipient":
            return MailRefusedError("the server refused the recipient", code="mail_recipient_refused", remote_text=said)
        case "data":
            return MailRefusedError("the server refused the mail", code="mail_message_refused", remote_text=said)
    return MailStopError("the server refuses us", code="mail_request_refused", remote_text=said)


def _is_relaying(text: str) -> bool:
    """5.7.x by RFC 3463 is about permission, not about the recipient: 5.7.1 Unable to relay, 5.7.57, 5.7.60."""
    return re.match(r"\s*5\.7\.\d+", text) is not None

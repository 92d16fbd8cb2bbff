"""The one place where what pypsrp, requests, urllib3, ssl, spnego and Exchange say becomes an error of ours.

Texts are looked at last and in English only; codes, types and exception names come first. A code that we do not know
becomes the least specific error of its kind, with Exchange's text cut short. Nothing here retries.
"""

from __future__ import annotations

import errno
import re
import socket
import ssl
import xml.etree.ElementTree as ET  # only its ParseError
from collections.abc import Iterator

import requests
import urllib3.exceptions
from pypsrp.exceptions import (
    AuthenticationError,
    FragmentError,
    InvalidPipelineStateError,
    InvalidPSRPOperation,
    InvalidRunspacePoolStateError,
    SerializationError,
    WinRMError,
    WinRMTransportError,
    WSManFaultError,
)

from connectors.exchange import throttle
from connectors.exchange.clixml import ClixmlError
from connectors.exchange.errors import (
    FOREIGN_TEXT_LIMIT,
    AlreadyExistsError,
    AmbiguousError,
    BadRequestError,
    ExchangeError,
    NotFoundError,
    NotPermittedError,
    StopError,
    ThrottledError,
    TransientError,
)
from connectors.exchange.pool import RemoteError
from connectors.exchange.transport import UnexpectedAnswerError
from connectors.exchange.wsman import OPERATION_TIMED_OUT

# WS-Man faults (exchange.md 1.1, 1.4).
RESOURCE_URI_UNKNOWN = 2150858811  # 0x8033803B: the machine's own WinRM, without Exchange
ACCESS_DENIED = 2150858819  # 0x80338043: also said to carry quota texts
SHELL_NOT_FOUND = 2150858843  # 0x8033805B
BACK_END_UNREACHABLE = 2150859084  # 0x8033814C: the back end's certificate is missing, and the like
WIN_ACCESS_DENIED = 5

# Codes of MIT Kerberos (krb5_err.et): a client that is unknown, revoked (disabled or locked), whose password has
# expired or is wrong (by pre-authentication, or by what cannot be decrypted with it); and clocks.
KERBEROS_CREDENTIALS = frozenset({-1765328378, -1765328366, -1765328361, -1765328360, -1765328353})
KERBEROS_CLOCK = -1765328347
# Kerberos refuses tickets when clocks differ by more.
CLOCK_TOLERANCE = 300.0

_CLOCK_TEXT = re.compile(r"clock skew|skew too great|KRB_?AP_ERR_SKEW", re.IGNORECASE)
_KERBEROS_CREDENTIALS = re.compile(
    r"preauthentication failed|password (?:incorrect|has expired)|decrypt integrity check failed"
    r"|client.*(?:not found in kerberos|revoked)",
    re.IGNORECASE,
)
_ANGLE_OR_SPACE = re.compile(r"<[^>]*>|\s+")
_REQUEST_ID = re.compile(r"RequestId=([0-9a-fA-F-]{36})")
_FAILURE_CATEGORY = re.compile(r"\[FailureCategory=[A-Za-z]+-([A-Za-z]+)\]")
_PARAMETER = re.compile(r"parameter name '([^']*)'")
_AMBIGUOUS = re.compile(r"matches multiple entries|multiple (?:recipients|mailbox users) match", re.IGNORECASE)
_CONFIRMATION = re.compile(
    r"confirm|non-?interactive|prompt|host (?:program )?does not support user interaction", re.IGNORECASE
)
_NO_SCRIPTS = re.compile(r"no-language mode|restricted language mode|is not allowed in restricted", re.IGNORECASE)
_SHELL_LOST = re.compile(r"InvalidShellID|shell was not found on the server", re.IGNORECASE)
_MAXIMUM_FOREIGN = 2000


def translate(
    error: BaseException, *, server: str = "", cmdlet: str = "", authentication: str = "", clock_skew: float = 0.0
) -> ExchangeError:
    """Ours for a library's error; to be raised `from` it. An ExchangeError comes back with server and cmdlet filled in.

    clock_skew: seconds by which the server's clock was ahead of ours when it refused, 0 when not known.
    """
    found = _classified(error, authentication, clock_skew)
    found.server = found.server or server
    found.cmdlet = found.cmdlet or cmdlet
    return found


def _classified(error: BaseException, authentication: str, clock_skew: float) -> ExchangeError:
    if isinstance(error, ExchangeError):
        return error
    if isinstance(error, AuthenticationError):
        return _sign_in(error, authentication, clock_skew)
    if isinstance(error, WSManFaultError):
        return _fault(error)
    if isinstance(error, WinRMTransportError):
        return _status(error.code, error.response_text)
    if isinstance(error, UnexpectedAnswerError):
        if 300 <= error.status < 400:
            return StopError("the server redirects elsewhere", code="redirected", remote_text=str(error))
        return StopError("the answer is not PowerShell's", code="not_powershell", remote_text=str(error))
    if isinstance(error, InvalidPSRPOperation | InvalidRunspacePoolStateError):
        return _limit(str(error)) or TransientError("the session is broken", code="pool_broken", remote_text=str(error))
    if isinstance(error, InvalidPipelineStateError):
        return TransientError("the command is in a state it should not be in", code="pool_broken")
    if _is_kerberos(error):
        return _kerberos(error, clock_skew)
    network = _network(error)
    if network is not None:
        return network
    if isinstance(error, FragmentError | SerializationError | ClixmlError | ET.ParseError | WinRMError):
        return TransientError("an answer that cannot be read", code="malformed_answer", remote_text=str(error))
    if isinstance(error, ValueError | LookupError | TypeError | AttributeError):
        # How the libraries fail on answers their authors did not think of.
        return _unthought(error)
    return TransientError(f"an unknown failure: {type(error).__name__}", code="malformed_answer")


def _sign_in(error: AuthenticationError, authentication: str, clock_skew: float) -> ExchangeError:
    # pypsrp quotes the header in a sentence that names other kinds, too.
    offered = str(error).rpartition("actual: ")[2]
    if authentication in ("kerberos", "negotiate") and abs(clock_skew) > CLOCK_TOLERANCE:
        return _clock(clock_skew)
    if authentication and not _is_offered(authentication, offered):
        return StopError(
            f"the server does not offer {authentication} sign-in",
            code="authentication_not_offered",
            remote_text=_kinds(offered),
        )
    return StopError("the server refused user name or password", code="authentication_failed")


def _kinds(offered: str) -> str:
    """The names of the kinds in a WWW-Authenticate header, without tokens and realms."""
    known = [kind for kind in ("Kerberos", "Negotiate", "NTLM", "Basic") if kind.lower() in offered.lower()]
    return ", ".join(known)


def _is_offered(authentication: str, offered: str) -> bool:
    """Whether a 401 names a kind that could have served. One that names none is taken for a refusal."""
    kinds = _kinds(offered).lower()
    acceptable = {
        "basic": ("basic",),
        "ntlm": ("ntlm", "negotiate"),
        "kerberos": ("kerberos", "negotiate"),
        "negotiate": ("kerberos", "negotiate", "ntlm"),
    }
    return not kinds or any(kind in kinds for kind in acceptable.get(authentication, ()))


def _fault(error: WSManFaultError) -> ExchangeError:
    text = str(error.reason or error.provider_fault or "")
    limit = _limit(f"{error.code} {text} {error.provider_fault or ''}")
    if limit is not None:
        return limit
    match error.code:
        case c if c == SHELL_NOT_FOUND:
            return TransientError("the session is gone", code="shell_lost", remote_text=text)
        case c if c == RESOURCE_URI_UNKNOWN:
            return StopError("WinRM answers here, not Exchange", code="wrong_port", remote_text=text)
        case c if c in (ACCESS_DENIED, WIN_ACCESS_DENIED):
            return StopError("signed in, but not allowed to use PowerShell", code="access_denied", remote_text=text)
        case c if c == OPERATION_TIMED_OUT:
            return TransientError("the server did not finish in time", code="no_answer", remote_text=text)
        case c if c == BACK_END_UNREACHABLE:
            return TransientError("the back end cannot be reached", code="server_error", remote_text=text)
    if _SHELL_LOST.search(text):
        return TransientError("the session is gone", code="shell_lost", remote_text=text)
    if "access is denied" in text.lower():
        return StopError("signed in, but not allowed to use PowerShell", code="access_denied", remote_text=text)
    # Exchange sometimes sends an empty fault.
    return TransientError(f"a WS-Man fault {error.code or 'without a code'}", code="server_error", remote_text=text)


def _status(status: int, body: str) -> ExchangeError:
    text = _ANGLE_OR_SPACE.sub(" ", body[:_MAXIMUM_FOREIGN]).strip()
    match status:
        case 403:
            return StopError(
                "forbidden; where the connection is not TLS, the virtual directory may require SSL",
                code="forbidden",
                remote_text=text,
            )
        case 404 | 410:
            return StopError("nothing answers at /PowerShell", code="endpoint_not_found", remote_text=text)
        case 407:
            return StopError("the proxy refused us", code="proxy_failed", remote_text=text)
        case 429:
            return ThrottledError(
                "too many requests",
                retry_after=throttle.DEFAULT_WAITS["server_busy"],
                code="server_busy",
                remote_text=text,
            )
        case 502 | 503 | 504:
            return TransientError("the server is not available", code="server_unavailable", remote_text=text)
    if status >= 500:
        return _limit(text) or TransientError("the server failed", code="server_error", remote_text=text)
    return StopError(f"HTTP {status}, which PowerShell never answers", code="not_powershell", remote_text=text)


def _limit(text: str) -> ThrottledError | None:
    limit = throttle.recognised(text)
    if limit is None:
        return None
    return ThrottledError(
        "Exchange asks us to slow down", retry_after=limit.retry_after, code=limit.code, remote_text=text.strip()
    )


def _clock(clock_skew: float) -> StopError:
    return StopError("the clocks differ", code="clock_skew", remote_text=f"{clock_skew:+.0f} s" if clock_skew else "")


def _chain(error: BaseException) -> Iterator[BaseException]:
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


def _is_kerberos(error: BaseException) -> bool:
    """Kerberos' libraries are optional, so their errors are told by the module they come from."""
    return isinstance(error, ImportError) or any(
        type(item).__module__.split(".")[0] in ("krb5", "gssapi", "spnego") for item in _chain(error)
    )


def _kerberos(error: BaseException, clock_skew: float) -> ExchangeError:
    texts = " | ".join(str(item) for item in _chain(error))
    if any(isinstance(item, ImportError) for item in _chain(error)):
        return StopError("the Kerberos libraries are not installed", code="kerberos_unavailable")
    codes = {getattr(item, "err_code", 0) for item in _chain(error)}
    if KERBEROS_CLOCK in codes or _CLOCK_TEXT.search(texts) or abs(clock_skew) > CLOCK_TOLERANCE:
        return _clock(clock_skew)
    if codes & KERBEROS_CREDENTIALS or _KERBEROS_CREDENTIALS.search(texts):
        return StopError("the domain refused user name or password", code="authentication_failed")
    if re.search(r"NTLM|logon", texts) and "kerberos" not in texts.lower():
        return StopError("the server refused user name or password", code="authentication_failed")
    return StopError("sign-in by Kerberos failed", code="kerberos_failed", remote_text=str(error))


def _network(error: BaseException) -> ExchangeError | None:
    """What went wrong below HTTP, told by the innermost error that says it."""
    chain = list(_chain(error))

    def has(*kinds: type[BaseException]) -> bool:
        return any(isinstance(item, kinds) for item in chain)

    if has(requests.exceptions.ProxyError, urllib3.exceptions.ProxyError):
        return StopError("the proxy did not let us through", code="proxy_failed", remote_text=_proxy_text(chain))
    if has(ssl.CertificateError, urllib3.exceptions.SSLError, ssl.SSLError, requests.exceptions.SSLError):
        return _certificate(" | ".join(str(item) for item in chain), chain)
    if has(socket.gaierror, urllib3.exceptions.NameResolutionError):
        return TransientError("the server's name is not known", code="name_not_resolved")
    if has(ConnectionRefusedError):
        return TransientError("the server refuses connections", code="connection_refused")
    if has(requests.exceptions.ConnectTimeout, urllib3.exceptions.ConnectTimeoutError) or any(
        isinstance(item, OSError) and item.errno in (errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ETIMEDOUT)
        for item in chain
    ):
        return TransientError("the server does not answer connections", code="connection_timed_out")
    if has(requests.exceptions.ReadTimeout, urllib3.exceptions.ReadTimeoutError, TimeoutError):
        return TransientError("the server took the request and did not answer", code="no_answer")
    if has(requests.exceptions.InvalidProxyURL):
        return StopError("the proxy's address is no address", code="bad_settings")
    if has(requests.exceptions.InvalidURL, urllib3.exceptions.LocationParseError):
        return StopError("the server's address is no address", code="bad_settings")
    if has(requests.exceptions.ConnectionError, requests.exceptions.ChunkedEncodingError) or has(
        urllib3.exceptions.HTTPError, ConnectionError
    ):
        return TransientError("the connection broke off", code="connection_dropped")
    if isinstance(error, OSError) and "CA certificate" in str(error):
        return StopError("the file of authorities cannot be read", code="bad_settings")
    return None


def _proxy_text(chain: list[BaseException]) -> str:
    """The status a proxy gave, never its URL, which holds credentials."""
    for item in chain:
        match = re.search(r"Tunnel connection failed: (\d{3}[^'\")]*)", str(item))
        if match:
            return match[1].strip()
    return ""


def _certificate(texts: str, chain: list[BaseException]) -> ExchangeError:
    verification = next((item for item in chain if isinstance(item, ssl.SSLCertVerificationError)), None)
    message = getattr(verification, "verify_message", "") or ""
    lowered = texts.lower()
    if "has expired" in lowered or "not yet valid" in lowered:
        return StopError("the server's certificate is not valid at this time", code="certificate_expired")
    if "hostname mismatch" in lowered or "ip address mismatch" in lowered or "doesn't match" in lowered:
        return StopError("the server's certificate names another server", code="certificate_wrong_name")
    if verification is not None or "certificate verify failed" in lowered:
        return StopError(
            "nobody we trust vouches for the certificate", code="certificate_untrusted", remote_text=message
        )
    if "wrong_version_number" in lowered or "unknown_protocol" in lowered or "http request" in lowered:
        return StopError("no TLS is spoken at this port", code="wrong_port")
    return TransientError("the connection broke off in TLS", code="connection_dropped")


def _unthought(error: BaseException) -> ExchangeError:
    text = str(error)
    if "incompatible with the" in text and "auth protocol" in text:
        return StopError("the server does not offer this sign-in", code="authentication_not_offered")
    return TransientError(
        f"an answer that cannot be read ({type(error).__name__})",
        code="malformed_answer",
    )


def from_record(record: RemoteError, *, server: str = "", cmdlet: str = "") -> ExchangeError:
    """Ours for an error record. By exception name first, by text only where names say too little (exchange.md 5.5)."""
    found = _record(record)
    found.server, found.cmdlet = server, cmdlet
    request = _REQUEST_ID.search(record.fq_error_id) or _REQUEST_ID.search(record.message)
    found.request_id = request[1] if request else ""
    return found


def _record(record: RemoteError) -> ExchangeError:
    text = record.message[:_MAXIMUM_FOREIGN]
    category = _FAILURE_CATEGORY.search(record.fq_error_id) or _FAILURE_CATEGORY.search(record.message)
    names = {record.reason, category[1] if category else "", record.exception.rpartition(".")[2]}
    identifiers = record.fq_error_id.split(",")[0]

    def named(*wanted: str) -> bool:
        return not names.isdisjoint(wanted)

    limit = _limit(f"{text} {' '.join(names)}")
    if limit is not None:
        limit.remote_text = text[:FOREIGN_TEXT_LIMIT]
        return limit
    if named("CommandNotFoundException") or identifiers == "CommandNotFoundException":
        return NotPermittedError("the account has no such command", code="cmdlet_not_granted", remote_text=text)
    if identifiers == "NamedParameterNotFound":
        return NotPermittedError("the account has no such parameter", code="parameter_not_granted", remote_text=text)
    if named("ManagementObjectNotFoundException"):
        return NotFoundError("no such object", remote_text=text)
    if named("ManagementObjectAmbiguousException") or _AMBIGUOUS.search(text):
        return AmbiguousError("several such objects", remote_text=text)
    if any(name.endswith("AlreadyExistsException") for name in names):
        return AlreadyExistsError("there is such an object already", remote_text=text)
    if named("CmdletProxyException") or text.startswith("Error on proxy command"):
        return TransientError("Exchange could not pass the command on", code="cmdlet_proxy_failed", remote_text=text)
    if any(name.endswith("TransientException") for name in names):
        return TransientError("a passing error in Exchange", code="exchange_transient", remote_text=text)
    if named("PSRemotingTransportException") or _SHELL_LOST.search(text):
        return TransientError("the session is gone", code="shell_lost", remote_text=text)
    if identifiers == "ScriptsNotAllowed" or _NO_SCRIPTS.search(text):
        return BadRequestError("scripts are refused", code="script_refused", remote_text=text)
    if named("HostException", "PSInvalidOperationException", "ShouldContinueException") and _CONFIRMATION.search(text):
        return BadRequestError("a confirmation was asked for", code="confirmation_required", remote_text=text)
    if named("ParameterBindingException", "ParameterBindingValidationException"):
        return BadRequestError("a value was refused", code="argument_refused", remote_text=text)
    if identifiers.startswith(("ParameterArgument", "CannotConvertArgument", "PositionalParameter", "AmbiguousParam")):
        return BadRequestError("a value was refused", code="argument_refused", remote_text=text)
    return BadRequestError("the command failed", code="command_failed", remote_text=text)

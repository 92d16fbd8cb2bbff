"""Where EWS is: Autodiscover for Exchange in one's own building (exchange.md 6.4).

exchangelib's own looks at ExternalEwsUrl alone, which such organizations often leave empty. Here the sender's domain is
asked in the documented order, without the directory's service connection points, which only domain members can read:

1. the URL that the settings name, if any
2. https://<domain>/autodiscover/
3. https://autodiscover.<domain>/autodiscover/
4. http://autodiscover.<domain>/autodiscover/autodiscover.xml, unauthenticated, for a redirect to https
5. DNS SRV _autodiscover._tcp.<domain>

at each by POX and then by SOAP. The account's name and password go over https alone, and only after the server has
asked for a sign-in of the account's kind. What came by clear HTTP or by DNS can be anybody's word, so that such a
redirection is followed within the sender's domain only.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from urllib.parse import urljoin, urlsplit
from xml.etree import ElementTree
from xml.sax.saxutils import escape

import dns.exception
import dns.resolver
import requests

from connectors.mail import web
from connectors.mail.client import MailAccount, MailOptions
from connectors.mail.errors import MailError, MailStopError
from connectors.mail.translate import UnexpectedStatusError, translate

MAXIMUM_REDIRECTS = 10
LARGEST_ANSWER = 1 << 20
# Seconds; one silent address must not use up the others' time.
CONNECT_TIMEOUT, READ_TIMEOUT, DNS_TIMEOUT = 5.0, 15.0, 5.0
# Of a whole answer, however steadily it drips.
ANSWER_TIMEOUT = 30.0

_SOAP = "http://schemas.xmlsoap.org/soap/envelope/"
_WSA = "http://www.w3.org/2005/08/addressing"
_SOAP_NS = "http://schemas.microsoft.com/exchange/2010/Autodiscover"
_POX_REQUEST = "http://schemas.microsoft.com/exchange/autodiscover/outlook/requestschema/2006"
_POX_OUTLOOK = "http://schemas.microsoft.com/exchange/autodiscover/outlook/responseschema/2006a"
_SETTINGS = ("InternalEwsUrl", "ExternalEwsUrl")


@dataclass(frozen=True, slots=True)
class Attempt:
    """One request, or one look into DNS. outcome: found, redirected, or what was in the way."""

    url: str
    outcome: str


@dataclass(frozen=True, slots=True)
class Discovery:
    """Where EWS is. `source`: the URL that said so."""

    internal_url: str
    external_url: str
    source: str
    attempts: tuple[Attempt, ...]

    @property
    def ews_url(self) -> str:
        """The inner one first: we stand in the building, or near it."""
        return self.internal_url or self.external_url


@dataclass(frozen=True, slots=True)
class _Answer:
    """What one server said; all empty: nothing that helps."""

    internal_url: str = ""
    external_url: str = ""
    redirect_url: str = ""
    redirect_address: str = ""
    trouble: str = ""


@dataclass
class _Search:
    """One discovery under way."""

    account: MailAccount
    options: MailOptions
    address: str
    service: Callable[[str], tuple[str, int]]
    attempts: list[Attempt] = field(default_factory=list)
    seen: set[tuple[str, str]] = field(default_factory=set)
    redirects: int = 0
    refusal: MailError | None = None


def discover(
    account: MailAccount, options: MailOptions, *, service: Callable[[str], tuple[str, int]] | None = None
) -> Discovery:
    """Where EWS is for the account's sender. service: what looks into DNS, service_record() or a fake of it.

    Raises MailStopError: mail_sign_in_failed where a server refused us and none took us, otherwise
    mail_address_not_found. The attempts are its notes.
    """
    search = _Search(account, options, account.sender, service or service_record)
    found = _domain(search, account.domain)
    if found is not None:
        return found
    error = search.refusal or MailStopError(
        "no Autodiscover answer names EWS",
        code="mail_address_not_found",
        server=account.domain,
        remote_text="; ".join(f"{one.url}: {one.outcome}" for one in search.attempts),
    )
    for one in search.attempts:
        error.add_note(f"{one.url}: {one.outcome}")
    raise error


def host(url: str) -> str:
    """The name in a URL, "" where there is none."""
    try:
        return (urlsplit(url).hostname or "").lower()
    except ValueError:
        return ""


def is_secure(url: str) -> bool:
    return url.lower().startswith("https://") and bool(host(url))


def _domain(search: _Search, domain: str) -> Discovery | None:
    for url in _urls(search, domain):
        found = _ask(search, url)
        if found is not None:
            return found
    return None


def _urls(search: _Search, domain: str) -> Iterator[str]:
    """The places in order, each found only when its turn comes."""
    if search.account.autodiscover_url and search.address == search.account.sender:
        yield from _pair(search.account.autodiscover_url)
    yield from _pair(f"https://{domain}")
    yield from _pair(f"https://autodiscover.{domain}")
    for place in (_redirected, _service):
        if url := place(search, domain):
            yield from _pair(url)


def _pair(url: str) -> tuple[str, str]:
    """POX and SOAP at the server of `url`; its own path where it has one."""
    parts = urlsplit(url)
    base = f"{parts.scheme}://{parts.netloc}"
    if parts.path.lower().endswith(".svc"):
        return url, f"{base}/autodiscover/autodiscover.xml"
    return url if parts.path.strip(
        "/"
    ) else f"{base}/autodiscover/autodiscover.xml", f"{base}/autodiscover/autodiscover.svc"


def _ask(search: _Search, url: str) -> Discovery | None:
    """One URL and where it sends us; None: nothing there."""
    if (url.lower(), search.address.lower()) in search.seen:
        return None
    search.seen.add((url.lower(), search.address.lower()))
    try:
        answer = _post(search, url)
    except MailError as error:
        search.attempts.append(Attempt(url, f"{error} ({error.remote_text})" if error.remote_text else str(error)))
        # 401 on one URL is no proof of a wrong password, but it is all there is to say if no other takes us.
        if error.code.startswith(("mail_sign_in", "mail_kerberos")):
            search.refusal = search.refusal or error
        return None
    if answer.internal_url or answer.external_url:
        search.attempts.append(Attempt(url, "found"))
        return Discovery(answer.internal_url, answer.external_url, url, tuple(search.attempts))
    is_sent_on = bool(answer.redirect_url or answer.redirect_address)
    search.attempts.append(Attempt(url, "redirected" if is_sent_on else answer.trouble or "no EWS address"))
    if not is_sent_on:
        return None
    search.redirects += 1
    if search.redirects > MAXIMUM_REDIRECTS:
        search.attempts.append(Attempt(url, "too many redirections"))
        return None
    if answer.redirect_url:
        target = urljoin(url, answer.redirect_url)
        if not is_secure(target):
            search.attempts.append(Attempt(target, "not https, not followed"))
            return None
        return _ask(search, target)
    search.address = answer.redirect_address
    return _domain(search, answer.redirect_address.rpartition("@")[2].lower())


def _post(search: _Search, url: str) -> _Answer:
    """The answer of one URL. Raises MailError."""
    try:
        return _asked(search, url)
    except MailError:
        raise
    except Exception as error:
        raise translate(error, server=host(url), authentication=search.account.authentication) from error


def _asked(search: _Search, url: str) -> _Answer:
    is_soap = url.lower().partition("?")[0].endswith(".svc")
    body = _soap_request(search.address, url) if is_soap else _pox_request(search.address)
    with web.new_session(search.options, search.account.address) as session:
        response = _send(session, url, body)
        if response.status_code == 401:
            refusal = translate(
                UnexpectedStatusError.of(response), server=host(url), authentication=search.account.authentication
            )
            response.close()
            if refusal.code == "mail_sign_in_not_offered":
                raise refusal
            session.auth = web.sign_in(search.account)
            response = _send(session, url, body)
        content = _content(response)
    if response.status_code in (301, 302, 307, 308) and response.headers.get("Location"):
        return _Answer(redirect_url=response.headers["Location"])
    if response.status_code != 200:
        raise UnexpectedStatusError.of(response)
    return _read(content, is_soap=is_soap)


def _send(session: requests.Session, url: str, body: str) -> requests.Response:
    return session.post(
        url,
        body.encode(),
        headers={"Content-Type": "text/xml; charset=utf-8"},
        timeout=(CONNECT_TIMEOUT, READ_TIMEOUT),
        allow_redirects=False,
        stream=True,
    )


def _content(response: requests.Response) -> bytes:
    """As much of the body as any answer has; a server that sends without end keeps nobody. Raises ReadTimeout."""
    end = time.monotonic() + ANSWER_TIMEOUT
    content = bytearray()
    for part in response.iter_content(65_536):
        content += part
        if len(content) > LARGEST_ANSWER:
            break
        if time.monotonic() > end:
            raise requests.ReadTimeout("an answer that does not end")
    response.close()
    return bytes(content[:LARGEST_ANSWER])


# --- redirections without a sign-in -----------------------------------------------------------------------------


def _redirected(search: _Search, domain: str) -> str:
    """Step 4: where clear HTTP sends us; "" nowhere, or out of the sender's domain."""
    url = f"http://autodiscover.{domain}/autodiscover/autodiscover.xml"
    try:
        with web.new_session(search.options, search.account.address) as session:
            # Its head is all that is read.
            response = session.get(url, timeout=(CONNECT_TIMEOUT, READ_TIMEOUT), allow_redirects=False, stream=True)
            response.close()
    except (requests.RequestException, OSError) as error:
        search.attempts.append(Attempt(url, str(translate(error, server=host(url)))))
        return ""
    location = response.headers.get("Location", "") if response.status_code in (301, 302) else ""
    return _within(search, domain, url, location or "", f"HTTP {response.status_code}")


def _service(search: _Search, domain: str) -> str:
    """Step 5: the host of DNS's SRV record."""
    name = f"_autodiscover._tcp.{domain}"
    try:
        target, port = search.service(name)
    except (dns.exception.DNSException, OSError) as error:
        search.attempts.append(Attempt(f"DNS SRV {name}", type(error).__name__))
        return ""
    server = target if port == 443 else f"{target}:{port}"
    return _within(search, domain, f"DNS SRV {name}", f"https://{server}/autodiscover/autodiscover.xml", "")


def service_record(name: str) -> tuple[str, int]:
    """(host, port) that DNS prefers. Raises DNSException."""
    answer = dns.resolver.resolve(name, "SRV", lifetime=DNS_TIMEOUT)
    best = min(answer, key=lambda row: (row.priority, -row.weight))
    return str(best.target).rstrip("."), int(best.port)


def _within(search: _Search, domain: str, asked: str, target: str, otherwise: str) -> str:
    """`target` where it is https and in the sender's domain, and a line of the story either way."""
    name = host(target)
    if not target:
        search.attempts.append(Attempt(asked, otherwise))
    elif not is_secure(target):
        search.attempts.append(Attempt(asked, f"sends to {target}: not https, not followed"))
    elif name != domain and not name.endswith(f".{domain}"):
        search.attempts.append(Attempt(asked, f"sends to {name}: not in the domain, not followed; name it yourself"))
    else:
        search.attempts.append(Attempt(asked, "redirected"))
        return target
    return ""


# --- what is asked and what is answered -------------------------------------------------------------------------


def _pox_request(address: str) -> str:
    return (
        f'<?xml version="1.0" encoding="utf-8"?><Autodiscover xmlns="{_POX_REQUEST}"><Request>'
        f"<EMailAddress>{escape(address)}</EMailAddress>"
        f"<AcceptableResponseSchema>{_POX_OUTLOOK}</AcceptableResponseSchema></Request></Autodiscover>"
    )


def _soap_request(address: str, url: str) -> str:
    settings = "".join(f"<a:Setting>{name}</a:Setting>" for name in _SETTINGS)
    return (
        f'<?xml version="1.0" encoding="utf-8"?><s:Envelope xmlns:s="{_SOAP}" xmlns:a="{_SOAP_NS}" xmlns:w="{_WSA}">'
        f"<s:Header><a:RequestedServerVersion>Exchange2010</a:RequestedServerVersion>"
        f"<w:Action>{_SOAP_NS}/Autodiscover/GetUserSettings</w:Action><w:To>{escape(url)}</w:To>"
        f"<w:MessageID>urn:uuid:{uuid.uuid4()}</w:MessageID></s:Header><s:Body><a:GetUserSettingsRequestMessage>"
        f"<a:Request><a:Users><a:User><a:Mailbox>{escape(address)}</a:Mailbox></a:User></a:Users>"
        f"<a:RequestedSettings>{settings}</a:RequestedSettings></a:Request></a:GetUserSettingsRequestMessage>"
        "</s:Body></s:Envelope>"
    )


def _read(content: bytes, *, is_soap: bool) -> _Answer:
    # No document type is needed, and none is read: entities could make a small answer huge. Nor is UTF-16, in which
    # one would look otherwise; of what the parser reads, all else writes these signs as ASCII does.
    if b"\0" in content or b"<!DOCTYPE" in content or b"<!ENTITY" in content:
        return _Answer(trouble="an answer that is not Autodiscover's")
    try:
        root = ElementTree.fromstring(content)  # noqa: S314 - see above
    except ElementTree.ParseError:
        return _Answer(trouble="an answer that is not Autodiscover's")
    return _read_soap(root) if is_soap else _read_pox(root)


def _read_pox(root: ElementTree.Element) -> _Answer:
    def text(name: str) -> str:
        return (root.findtext(f".//{{{_POX_OUTLOOK}}}{name}") or "").strip()

    match text("Action").lower():
        case "redirecturl":
            return _Answer(redirect_url=text("RedirectUrl"))
        case "redirectaddr":
            return _Answer(redirect_address=text("RedirectAddr"))
    urls = {
        (one.findtext(f"{{{_POX_OUTLOOK}}}Type") or "").strip(): (
            one.findtext(f"{{{_POX_OUTLOOK}}}EwsUrl") or ""
        ).strip()
        for one in root.iter(f"{{{_POX_OUTLOOK}}}Protocol")
    }
    code = next((one.text or "" for one in root.iter() if one.tag.endswith("}ErrorCode")), "")
    return _secure(urls.get("EXCH", ""), urls.get("EXPR", ""), f"error {code}" if code else "")


def _read_soap(root: ElementTree.Element) -> _Answer:
    user = root.find(f".//{{{_SOAP_NS}}}UserResponse")
    scope = root if user is None else user
    name = f"{{{_SOAP_NS}}}ErrorCode"
    code = (scope.findtext(name) or scope.findtext(f".//{name}") or "").strip()
    target = (scope.findtext(f"{{{_SOAP_NS}}}RedirectTarget") or "").strip()
    if code == "RedirectUrl":
        return _Answer(redirect_url=target)
    if code == "RedirectAddress":
        return _Answer(redirect_address=target)
    values = {
        (one.findtext(f"{{{_SOAP_NS}}}Name") or ""): (one.findtext(f"{{{_SOAP_NS}}}Value") or "").strip()
        for one in scope.iter(f"{{{_SOAP_NS}}}UserSetting")
    }
    return _secure(
        values.get("InternalEwsUrl", ""), values.get("ExternalEwsUrl", ""), "" if code == "NoError" else f"error {code}"
    )


def _secure(internal: str, external: str, trouble: str) -> _Answer:
    """Only https addresses: another one would carry the account in clear text."""
    return _Answer(
        internal_url=internal if is_secure(internal) else "",
        external_url=external if is_secure(external) else "",
        trouble=trouble or ("an address that is not https" if internal or external else ""),
    )

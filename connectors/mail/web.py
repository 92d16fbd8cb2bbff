"""HTTP for EWS and Autodiscover: whom we trust, where we connect, and how we sign in.

Nothing is taken from the environment (proxies, netrc), and nothing here is shared by two accounts: the authorities of
one organization vouch for no other's servers.
"""

from __future__ import annotations

import importlib
import logging
import ssl
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests
from exchangelib.transport import BASIC, NTLM, get_auth_instance
from requests.adapters import HTTPAdapter

from connectors.mail.client import MailAccount, MailOptions
from connectors.mail.errors import MailStopError

USER_AGENT = "Gatehouse"
# Their debug lines hold request headers, and with them the password of a Basic sign-in; their error lines the mail.
for _library in ("exchangelib", "requests_gssapi"):
    logging.getLogger(_library).setLevel(logging.CRITICAL + 1)
# WWW-Authenticate names under which a way to sign in is offered.
OFFERED_AS = {
    "basic": ("basic",),
    "ntlm": ("ntlm", "negotiate"),
    "negotiate": ("ntlm", "negotiate"),
    "kerberos": ("negotiate", "kerberos"),
}


class _Adapter(HTTPAdapter):
    """Dials `address`, "host" or "host:port", for every host, and checks certificates against the host."""

    def __init__(self, address: str) -> None:
        self._address, port = split_port(address)
        self._port = {"port": port} if port else {}
        super().__init__(pool_connections=1, pool_maxsize=1, max_retries=0, pool_block=True)

    def build_connection_pool_key_attributes(
        self, request: requests.PreparedRequest, verify: Any, cert: Any = None
    ) -> Any:
        host, options = super().build_connection_pool_key_attributes(request, verify, cert)
        name = host["host"]
        if not self._address or self._address == name:
            return host, options
        named = {"server_hostname": name, "assert_hostname": name} if host["scheme"] == "https" else {}
        return {**host, **self._port, "host": self._address}, {**options, **named}

    def add_headers(self, request: requests.PreparedRequest, **kwargs: Any) -> None:
        if self._address:
            request.headers["Host"] = urlsplit(request.url or "").netloc


def new_session(options: MailOptions, address: str = "") -> requests.Session:
    """A session of its own, not signed in. `address`: dialled in place of every host's name."""
    session = requests.Session()
    session.trust_env = False
    session.verify = options.ca_file or system_authorities()
    session.headers["User-Agent"] = USER_AGENT
    if options.proxy:
        session.proxies = {"http": options.proxy, "https": options.proxy}
    for scheme in ("https://", "http://"):
        session.mount(scheme, _Adapter(address))
    return session


def split_port(address: str) -> tuple[str, int]:
    """ "host:port" → (host, port), of an IPv6 address "[::1]:443"; port 0 where there is none."""
    name, colon, port = address.rpartition(":")
    if colon and port.isdecimal() and (":" not in name or name.endswith("]")):
        return name.strip("[]"), int(port)
    return address.strip("[]"), 0


def system_authorities() -> str | bool:
    """The bundle of the system's authorities; True (those that requests brings) where the system has none."""
    paths = ssl.get_default_verify_paths()
    for path in (paths.cafile, "/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt"):
        if path and Path(path).exists():
            return path
    return True


def sign_in(account: MailAccount) -> Any:
    """What requests signs in with. Raises MailStopError."""
    if account.authentication == "basic":
        return get_auth_instance(BASIC, username=account.username.encode(), password=account.password.encode())
    if account.authentication in ("ntlm", "negotiate"):
        # name@domain has no NetBIOS domain to split off.
        name = account.username if "\\" in account.username else f"\\{account.username}"
        return get_auth_instance(NTLM, username=name, password=account.password)
    if account.authentication == "kerberos":
        return _kerberos(account)
    raise MailStopError(f"no such way to sign in: {account.authentication}", code="mail_bad_settings")


def _kerberos(account: MailAccount) -> Any:
    """By a ticket that is got with the account's password and kept in memory: the worker's tickets are left alone.
    Without a password by what the worker has, a keytab or a ticket.
    """
    name = account.username
    if "\\" in name:
        raise MailStopError(
            "Kerberos wants name@domain", code="mail_bad_settings", remote_text="For Kerberos use name@domain."
        )
    try:
        # Optional (requirements/kerberos.txt), and without types.
        gssapi: Any = importlib.import_module("gssapi")
        raw: Any = importlib.import_module("gssapi.raw")
        requests_gssapi: Any = importlib.import_module("requests_gssapi")
    except ImportError as error:
        raise MailStopError("the Kerberos libraries are not installed", code="mail_kerberos_unavailable") from error
    user, _, realm = name.partition("@")
    try:
        principal = gssapi.Name(f"{user}@{realm.upper()}", gssapi.NameType.kerberos_principal)
        ways = [requests_gssapi.SPNEGO]
        if account.password:
            password = account.password.encode()
            ticket = raw.acquire_cred_with_password(principal, password, mechs=ways, usage="initiate").creds
        else:
            ticket = raw.acquire_cred(principal, mechs=ways, usage="initiate").creds
    except gssapi.exceptions.GSSError as error:
        raise _kerberos_failure(error) from error
    return requests_gssapi.HTTPSPNEGOAuth(
        creds=gssapi.Credentials(base=ticket),
        mutual_authentication=requests_gssapi.OPTIONAL,
        # Exchange's Extended Protection wants the sign-in bound to the TLS connection.
        channel_bindings="tls-server-end-point",
    )


def _kerberos_failure(error: Any) -> MailStopError:
    text = str(error)
    lowered = text.lower()
    wrong = ("preauthentication failed", "password", "not found in kerberos database", "revoked", "decrypt integrity")
    if any(sign in lowered for sign in wrong):
        return MailStopError("the domain refused user name or password", code="mail_sign_in_failed", remote_text=text)
    return MailStopError("sign-in by Kerberos failed", code="mail_kerberos_failed", remote_text=text)

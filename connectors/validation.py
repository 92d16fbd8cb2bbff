"""Whether what an administrator enters for a connector can work: host names, ports, account, certificates.

Checks values alone; it asks no server (that is preflight's work). Every ValidationError names the thing, the reason
and the remedy. What is allowed but unwise is told by `advice`.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from django.core.exceptions import ValidationError
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from connectors.models import Authentication
from connectors.secrets import Secret

# RFC 1123 labels; a name of one label is allowed, since a private network may use one.
_LABEL = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)\Z", re.ASCII)
_DOWN_LEVEL = re.compile(r"[^\\/@\"\[\]:;|=,+*?<>\s]{1,64}\\[^\\/@\"\[\]:;|=,+*?<>]{1,104}\Z")
_UPN = re.compile(r"[^\\/@\s\"]{1,64}@[^\\/@\s\"]{1,190}\Z")
# The machine's own WinRM listens there; it has no Exchange endpoint.
WINRM_PORTS = frozenset({5985, 5986})


@dataclass(frozen=True, slots=True)
class AccountSettings:
    """The service account as entered. The password may be empty for Kerberos (a keytab or ticket cache is used)."""

    username: str
    password: Secret = field(default_factory=lambda: Secret(""))
    authentication: str = Authentication.KERBEROS


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """One Client Access Server as entered; `address` is dialled when it is not the FQDN itself."""

    fqdn: str
    port: int = 443
    use_tls: bool = True
    address: str = ""


def host_name_clean(value: str) -> str:
    """`value` lower-case and without a trailing dot. Raises ValidationError when it is no host name."""
    name = value.strip().rstrip(".").lower()
    if "://" in name or "/" in name:
        raise ValidationError(
            _("“%(value)s” is the address of a page. Enter the server's name alone, such as ex01.contoso.com."),
            code="host_is_url",
            params={"value": value},
        )
    try:
        ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        pass
    else:
        raise ValidationError(
            _(
                "“%(value)s” is an IP address. Certificates and Kerberos know servers by name: enter the fully "
                "qualified name, and the IP address as the address to connect to where the name is not resolved here."
            ),
            code="host_is_address",
            params={"value": value},
        )
    labels = name.split(".")
    if not name or len(name) > 253 or not all(_LABEL.match(label) for label in labels) or labels[-1].isdigit():
        raise ValidationError(
            _(
                "“%(value)s” is not a host name. Use letters, digits and hyphens, in parts separated by dots, such as "
                "ex01.contoso.com."
            ),
            code="host_malformed",
            params={"value": value},
        )
    return name


def address_clean(value: str) -> str:
    """A host name or an IP address, or "". Raises ValidationError."""
    text = value.strip()
    if not text:
        return ""
    try:
        return str(ipaddress.ip_address(text.strip("[]")))
    except ValueError:
        return host_name_clean(text)


def servers_clean(
    servers: Sequence[ServerSettings], *, authentication: str, is_clear_text_allowed: bool
) -> tuple[ServerSettings, ...]:
    """The servers in the order given, names normalised. Raises ValidationError with everything that is wrong."""
    if not servers:
        raise ValidationError(_("Name at least one Client Access Server of this organization."), code="no_servers")
    problems: list[ValidationError] = []
    clean: list[ServerSettings] = []
    for server in servers:
        try:
            one = ServerSettings(
                host_name_clean(server.fqdn), server.port, server.use_tls, address_clean(server.address)
            )
        except ValidationError as error:
            problems.append(error)
            continue
        problems += _server_problems(one, authentication, is_clear_text_allowed)
        if one.fqdn in [other.fqdn for other in clean]:
            problems.append(
                ValidationError(
                    _("%(server)s is named twice. Name each server once."),
                    code="server_twice",
                    params={"server": one.fqdn},
                )
            )
        clean.append(one)
    if problems:
        raise ValidationError(problems)
    return tuple(clean)


def _server_problems(
    server: ServerSettings, authentication: str, is_clear_text_allowed: bool
) -> Iterator[ValidationError]:
    if not 1 <= server.port <= 65535:
        yield ValidationError(
            _("Port %(port)s of %(server)s is not between 1 and 65535."),
            code="port_range",
            params={"port": server.port, "server": server.fqdn},
        )
    if server.port in WINRM_PORTS:
        yield ValidationError(
            _(
                "Port %(port)s of %(server)s is the machine's own remote management, which has no Exchange. Exchange "
                "answers at IIS: use 443, or 80 without TLS."
            ),
            code="port_winrm",
            params={"port": server.port, "server": server.fqdn},
        )
    if authentication == Authentication.BASIC and not server.use_tls and not is_clear_text_allowed:
        yield ValidationError(
            _(
                "Basic sign-in to %(server)s without TLS would send the password readable over the network. Use TLS, "
                "or Kerberos, Negotiate or NTLM, which encrypt the messages themselves, or allow clear text explicitly."
            ),
            code="clear_text",
            params={"server": server.fqdn},
        )


def account_clean(account: AccountSettings) -> AccountSettings:
    """The account with its user name trimmed. Raises ValidationError keyed by field."""
    problems: dict[str, list[ValidationError]] = {}
    username = account.username.strip()
    if account.authentication not in Authentication.values:
        problems["authentication"] = [
            ValidationError(
                _("“%(value)s” is no way to sign in. Choose one of: %(choices)s."),
                code="authentication_unknown",
                params={"value": account.authentication, "choices": ", ".join(Authentication.values)},
            )
        ]
    if not (_UPN.match(username) or _DOWN_LEVEL.match(username)):
        problems["username"] = [
            ValidationError(
                _(
                    "“%(value)s” is not an account name. Write it as name@contoso.com (user principal name) or as "
                    "CONTOSO\\name."
                ),
                code="username_form",
                params={"value": username},
            )
        ]
    if not account.password and account.authentication != Authentication.KERBEROS:
        problems["password"] = [
            ValidationError(
                _("A password is needed; only Kerberos can sign in without one, from a keytab."),
                code="password_missing",
            )
        ]
    if problems:
        raise ValidationError(problems)
    return AccountSettings(username, account.password, Authentication(account.authentication))


def certificates_clean(pem: str) -> str:
    """The certificates of `pem`, re-encoded; anything between them is dropped. Raises ValidationError."""
    if not pem.strip():
        return ""
    if "PRIVATE KEY" in pem:
        raise ValidationError(
            _("This holds a private key, which is not needed here. Give only the certificates of your authority."),
            code="private_key",
        )
    try:
        certificates = x509.load_pem_x509_certificates(pem.encode())
    except ValueError:
        raise ValidationError(
            _(
                "This is not a certificate in PEM form (a text beginning with “-----BEGIN CERTIFICATE-----”). Export "
                "your authority's certificate as Base-64 encoded X.509."
            ),
            code="certificate_malformed",
        ) from None
    return "".join(certificate.public_bytes(Encoding.PEM).decode() for certificate in certificates)


def advice(account: AccountSettings, servers: Sequence[ServerSettings]) -> list[str | Promise]:
    """What is allowed but often a mistake, as sentences for the person who enters it. Never raises."""
    found: list[str | Promise] = []
    if account.authentication == Authentication.KERBEROS and "\\" in account.username:
        found.append(
            _("Kerberos reads the realm from the user name: name@contoso.com works where CONTOSO\\name may not.")
        )
    if account.authentication == Authentication.BASIC and any(not server.use_tls for server in servers):
        found.append(_("Basic without TLS: anyone on the way can read the password."))
    found.extend(
        _("Port 80 usually speaks http and port 443 https; check whether TLS is meant for %(server)s.")
        % {"server": server.fqdn}
        for server in servers
        if (server.port == 80) == server.use_tls and server.port in (80, 443)
    )
    return found

"""Who we are to the sign-in service: an application of a directory, with a client secret or a certificate.

Refuses tenants that are not one tenant (common, organizations), and certificates that cannot sign or have expired,
before anything is sent. Keys and secrets are in no repr and in no error.
"""

from __future__ import annotations

import base64
import datetime
import json
import re
import uuid
from dataclasses import dataclass, field

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from connectors.graph.errors import StopGraphError

ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
# Seconds. The documentation asks for 5 to 10 minutes at most; the start lies back a little, since clocks differ.
ASSERTION_LIFE = 300
ASSERTION_BACKDATED = 60
SMALLEST_KEY = 2048

_DOMAIN = re.compile(r"(?=.{1,253}\Z)[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)+")
_CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)
_PRIVATE_KEY = re.compile(r"-----BEGIN ([A-Z ]*)PRIVATE KEY-----.+?-----END \1PRIVATE KEY-----", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Credentials:
    """`tenant_id`: directory GUID or a domain name of it. `client_id`: the application's GUID.

    Exactly one of `client_secret` and `certificate`; the latter is PEM text that holds the private key (RSA, without
    a password) and its certificate.
    """

    tenant_id: str
    client_id: str
    client_secret: str = field(default="", repr=False)
    certificate: str = field(default="", repr=False)

    def check(self, now: datetime.datetime) -> None:
        """Whether these can be sent at all. Raises StopGraphError."""
        if not _is_guid(self.tenant_id) and not _DOMAIN.fullmatch(self.tenant_id.lower()):
            raise _bad("the directory must be named by its GUID or one of its domain names")
        if not _is_guid(self.client_id):
            raise _bad("the application (client) ID must be a GUID")
        if bool(self.client_secret) == bool(self.certificate):
            raise _bad("give a client secret or a certificate, and not both")
        if self.certificate:
            certificate = read_certificate(self.certificate)
            if certificate.expires <= now:
                raise StopGraphError("the certificate has expired", code="graph_certificate_expired")

    def form(self, token_endpoint: str, now: datetime.datetime) -> dict[str, str]:
        """What proves who we are, as fields of the token request. Raises StopGraphError."""
        if self.client_secret:
            return {"client_secret": self.client_secret}
        certificate = read_certificate(self.certificate)
        return {
            "client_assertion_type": ASSERTION_TYPE,
            "client_assertion": certificate.assertion(self.client_id, token_endpoint, now),
        }


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate with its key, as read."""

    key: rsa.RSAPrivateKey = field(repr=False)
    x509: x509.Certificate

    @property
    def expires(self) -> datetime.datetime:
        return self.x509.not_valid_after_utc

    @property
    def thumbprint(self) -> str:
        """SHA-256 in hexadecimal, as people compare it."""
        return self.x509.fingerprint(hashes.SHA256()).hex().upper()

    def assertion(self, client_id: str, audience: str, now: datetime.datetime) -> str:
        """A signed JWT that lives for five minutes.

        Source: learn.microsoft.com/entra/identity-platform/certificate-credentials (PS256, x5t#S256).
        """
        seconds = int(now.timestamp())
        header = {
            "alg": "PS256",
            "typ": "JWT",
            "x5t#S256": _base64url(self.x509.fingerprint(hashes.SHA256())),
        }
        claims = {
            "aud": audience,
            "iss": client_id,
            "sub": client_id,
            "jti": str(uuid.uuid4()),
            "nbf": seconds - ASSERTION_BACKDATED,
            "iat": seconds,
            "exp": seconds + ASSERTION_LIFE,
        }
        signed = f"{_json64(header)}.{_json64(claims)}"
        signature = self.key.sign(
            signed.encode(), padding.PSS(padding.MGF1(hashes.SHA256()), padding.PSS.DIGEST_LENGTH), hashes.SHA256()
        )
        return f"{signed}.{_base64url(signature)}"


def read_certificate(pem: str) -> Certificate:
    """From PEM text with a private key and the certificate of that key; others (of authorities) may stand beside it.

    Raises StopGraphError graph_certificate_unreadable, which says what is wrong and quotes nothing.
    """
    key_match = _PRIVATE_KEY.search(pem)
    if key_match is None:
        raise _unreadable("no private key in the text (PEM, without a password)")
    try:
        key = serialization.load_pem_private_key(key_match[0].encode(), password=None)
    except (ValueError, TypeError):
        # `from None`: a parser's message can quote what it could not read.
        raise _unreadable("the private key cannot be read; it must have no password") from None
    if not isinstance(key, rsa.RSAPrivateKey) or key.key_size < SMALLEST_KEY:
        raise _unreadable(f"the private key must be RSA with at least {SMALLEST_KEY} bits")
    for match in _CERTIFICATE.finditer(pem):
        try:
            certificate = x509.load_pem_x509_certificate(match[0].encode())
            is_its = certificate.public_key() == key.public_key()
        except ValueError:
            raise _unreadable("a certificate in the text cannot be read") from None
        if is_its:
            return Certificate(key, certificate)
    raise _unreadable("no certificate of the private key in the text")


def _is_guid(text: str) -> bool:
    try:
        return str(uuid.UUID(text)) == text.lower()
    except ValueError:
        return False


def _bad(message: str) -> StopGraphError:
    return StopGraphError(message, code="graph_bad_settings")


def _unreadable(message: str) -> StopGraphError:
    return StopGraphError(message, code="graph_certificate_unreadable", remote_text="")


def _base64url(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()


def _json64(value: dict[str, object] | dict[str, str]) -> str:
    return _base64url(json.dumps(value, separators=(",", ":")).encode())

"""The application of a tenant that signs in: its secret, and its certificate with the private key for tests.

Checks a client assertion as the sign-in service is documented to: certificate by its SHA-256 thumbprint, signature
(PS256, or RS256), audience, issuer and time. It does not refuse an assertion that comes twice.
Source: learn.microsoft.com/entra/identity-platform/certificate-credentials.
"""

from __future__ import annotations

import base64
import datetime
import json
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.x509.oid import NameOID

LIFE = datetime.timedelta(days=365)
RENEW_BEFORE = datetime.timedelta(days=30)
CLOCK_TOLERANCE = 300.0
ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"


class AssertionRefusal(Exception):
    """Why an assertion is refused; `number` is the AADSTS number."""

    def __init__(self, number: int, text: str) -> None:
        super().__init__(text)
        self.number = number


@dataclass(frozen=True)
class ApplicationCertificate:
    """The file holds private key and certificate, PEM, mode 600."""

    path: Path
    certificate: x509.Certificate

    def check(self, assertion: str, client_id: str, audience: str) -> None:
        """Raises AssertionRefusal."""
        header, claims, signed, signature = _parts(assertion)
        fingerprint = base64.urlsafe_b64encode(self.certificate.fingerprint(hashes.SHA256())).rstrip(b"=").decode()
        if header.get("x5t#S256") != fingerprint:
            raise AssertionRefusal(700027, "The certificate with this thumbprint is not registered on application.")
        key = self.certificate.public_key()
        pss = padding.PSS(padding.MGF1(hashes.SHA256()), padding.PSS.DIGEST_LENGTH)
        scheme = {"PS256": pss, "RS256": padding.PKCS1v15()}.get(str(header.get("alg")))
        if scheme is None or not isinstance(key, rsa.RSAPublicKey):
            raise AssertionRefusal(700027, "The algorithm of the client assertion is not supported.")
        try:
            key.verify(signature, signed, scheme, hashes.SHA256())
        except InvalidSignature:
            raise AssertionRefusal(700027, "Client assertion failed signature validation.") from None
        if claims.get("iss") != client_id or claims.get("sub") != client_id:
            raise AssertionRefusal(700021, "Client assertion application identifier doesn't match 'client_id'.")
        if claims.get("aud") != audience:
            raise AssertionRefusal(700023, "Client assertion audience claim does not match realm issuer.")
        now = time.time()
        begin, end = float(claims.get("nbf", now)), float(claims.get("exp", 0))
        if not begin - CLOCK_TOLERANCE <= now <= end + CLOCK_TOLERANCE:
            raise AssertionRefusal(700024, "Client assertion is not within its valid time range.")


def _parts(assertion: str) -> tuple[dict[str, Any], dict[str, Any], bytes, bytes]:
    try:
        header, claims, signature = assertion.split(".")
        told = [dict(json.loads(_decoded(part))) for part in (header, claims)]
        return told[0], told[1], f"{header}.{claims}".encode(), _decoded(signature)
    except (ValueError, TypeError):
        raise AssertionRefusal(50027, "JWT token is invalid or malformed.") from None


def _decoded(part: str) -> bytes:
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))


def application_certificate(path: Path, name: str) -> ApplicationCertificate:
    """The one in the file, or a new one where there is none that lasts."""
    try:
        certificate = x509.load_pem_x509_certificate(path.read_bytes())
    except (OSError, ValueError):
        return _made(path, name)
    if certificate.not_valid_after_utc - datetime.datetime.now(datetime.UTC) < RENEW_BEFORE:
        return _made(path, name)
    return ApplicationCertificate(path, certificate)


def _made(path: Path, name: str) -> ApplicationCertificate:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"Gatehouse {name}"[:64])])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + LIFE)
        .sign(key, hashes.SHA256())
    )
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    text = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ) + certificate.public_bytes(serialization.Encoding.PEM)
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(text)
    return ApplicationCertificate(path, certificate)

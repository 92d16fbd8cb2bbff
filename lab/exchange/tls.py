"""The lab's own certificate authority, and the certificates its servers show.

The authority is kept in a directory and used again at the next start, so that a client that was told once where ca.pem
is stays content. It signs for the lab's servers and nothing else; keys never leave files of mode 600.
"""

from __future__ import annotations

import datetime
import hashlib
import ipaddress
import os
import ssl
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

AUTHORITY_LIFE = datetime.timedelta(days=3650)
SERVER_LIFE = datetime.timedelta(days=397)
# A kept certificate with less than this left is made anew.
RENEW_BEFORE = datetime.timedelta(days=30)
# Certificates begin a little in the past: clocks differ.
BACKDATED = datetime.timedelta(hours=1)


@dataclass(frozen=True)
class ServerCertificate:
    """What one listener shows. `context`: ready for wrap_socket(server_side=True)."""

    der: bytes
    context: ssl.SSLContext

    @property
    def channel_binding(self) -> bytes:
        """RFC 5929 tls-server-end-point. The lab's certificates are signed with SHA-256, which is the hash then."""
        return b"tls-server-end-point:" + hashlib.sha256(self.der).digest()


class Authority:
    """A certificate authority in a directory (made with mode 700). Thread-safe."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._lock = threading.Lock()
        self._given: dict[tuple[str, tuple[str, ...], bool], ServerCertificate] = {}
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._key, self._certificate = self._load() or self._make()

    @property
    def ca_path(self) -> Path:
        """The certificate that clients are to trust, PEM."""
        return self._directory / "ca.pem"

    def certificate(self, fqdn: str, names: Iterable[str] = (), *, expired: bool = False) -> ServerCertificate:
        """A certificate for fqdn, localhost, 127.0.0.1 and further DNS names or addresses. The same one each time."""
        alternatives = tuple(dict.fromkeys([fqdn.lower(), "localhost", "127.0.0.1", *(n.lower() for n in names)]))
        with self._lock:
            wanted = (fqdn.lower(), alternatives, expired)
            if wanted not in self._given:
                self._given[wanted] = self._issue(fqdn.lower(), alternatives, expired=expired)
            return self._given[wanted]

    def _load(self) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate] | None:
        try:
            key = serialization.load_pem_private_key((self._directory / "ca-key.pem").read_bytes(), None)
            certificate = x509.load_pem_x509_certificate(self.ca_path.read_bytes())
        except (OSError, ValueError):
            return None
        if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
            return None
        if certificate.not_valid_after_utc - _now() < SERVER_LIFE + RENEW_BEFORE:
            return None
        return key, certificate

    def _make(self) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Gatehouse lab authority")])
        usage = _key_usage(signs_certificates=True)
        certificate = (
            _builder(name, name, key, _now() - BACKDATED, _now() + AUTHORITY_LIFE)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .sign(key, hashes.SHA256())
        )
        _write(self._directory / "ca-key.pem", _private(key))
        _write(self.ca_path, certificate.public_bytes(serialization.Encoding.PEM))
        return key, certificate

    def _issue(self, fqdn: str, names: tuple[str, ...], *, expired: bool) -> ServerCertificate:
        key = ec.generate_private_key(ec.SECP256R1())
        begin, end = _now() - BACKDATED, _now() + SERVER_LIFE
        if expired:
            begin, end = _now() - SERVER_LIFE, _now() - datetime.timedelta(days=1)
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, fqdn[:64])])
        certificate = (
            _builder(subject, self._certificate.subject, key, begin, end)
            .add_extension(x509.SubjectAlternativeName([_general_name(n) for n in names]), critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        # OpenSSL takes a chain from a file only, so the key stands on disk as long as the lab's home does.
        path = self._directory / f"{fqdn}{'-expired' if expired else ''}.pem"
        _write(path, certificate.public_bytes(serialization.Encoding.PEM) + _private(key))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(path)
        return ServerCertificate(certificate.public_bytes(serialization.Encoding.DER), context)


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    begin: datetime.datetime,
    end: datetime.datetime,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(end)
    )


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _private(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _write(path: Path, data: bytes) -> None:
    """Put the file in place whole and with mode 600 from its first byte."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(data)
    draft.replace(path)


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)

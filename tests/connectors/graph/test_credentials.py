"""Secrets and certificates: what can sign, and that nothing of it shows."""

from __future__ import annotations

import base64
import datetime
import functools
import json

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.x509.oid import NameOID

from connectors.graph.credentials import Credentials, read_certificate
from connectors.graph.errors import StopGraphError

NOW = datetime.datetime(2026, 5, 1, 12, tzinfo=datetime.UTC)
TENANT, CLIENT = "2b1f7a30-93ae-4a2c-9f0c-9a7a8f6f1d11", "6f0f6c1e-3f5d-4a0e-8c07-0a4b3c1d2e3f"
Key = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey


@functools.cache
def rsa_key(bits: int = 2048, number: int = 0) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=bits)


def key_pem(key: Key, password: bytes = b"") -> str:
    hidden = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, hidden).decode()


def certificate_pem(key: Key, ends: datetime.datetime = NOW + datetime.timedelta(days=90)) -> str:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Gatehouse")])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(7)
        .not_valid_before(ends - datetime.timedelta(days=365))
        .not_valid_after(ends)
        .sign(key, hashes.SHA256())
    )
    return made.public_bytes(serialization.Encoding.PEM).decode()


def whole() -> str:
    return key_pem(rsa_key()) + certificate_pem(rsa_key())


def _read(part: str) -> dict[str, object]:
    return dict(json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))))


def test_an_assertion_is_signed_as_documented() -> None:
    credentials = Credentials(TENANT, CLIENT, certificate=whole())
    form = credentials.form("https://login.example/t/oauth2/v2.0/token", NOW)
    assert form["client_assertion_type"] == "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
    header, claims, signature = form["client_assertion"].split(".")
    certificate = x509.load_pem_x509_certificate(certificate_pem(rsa_key()).encode())
    public = certificate.public_key()
    assert isinstance(public, rsa.RSAPublicKey)
    public.verify(
        base64.urlsafe_b64decode(signature + "=="), f"{header}.{claims}".encode(),
        padding.PSS(padding.MGF1(hashes.SHA256()), padding.PSS.DIGEST_LENGTH), hashes.SHA256(),
    )  # fmt: skip
    assert _read(header)["alg"] == "PS256"
    assert _read(header)["typ"] == "JWT"
    told = _read(claims)
    seconds = int(NOW.timestamp())
    assert (told["aud"], told["iss"], told["sub"]) == ("https://login.example/t/oauth2/v2.0/token", CLIENT, CLIENT)
    assert (told["nbf"], told["iat"], told["exp"]) == (seconds - 60, seconds, seconds + 300)


def test_each_assertion_is_another() -> None:
    credentials = Credentials(TENANT, CLIENT, certificate=whole())
    assert credentials.form("x", NOW)["client_assertion"] != credentials.form("x", NOW)["client_assertion"]


def test_the_keys_certificate_is_found_among_others() -> None:
    other = certificate_pem(rsa_key(number=1))
    certificate = read_certificate(other + whole())
    assert certificate.expires == NOW + datetime.timedelta(days=90)
    assert len(certificate.thumbprint) == 64


UNREADABLE = {
    "nothing": lambda: "",
    "no key": lambda: certificate_pem(rsa_key()),
    "no certificate": lambda: key_pem(rsa_key()),
    "another key's certificate": lambda: key_pem(rsa_key()) + certificate_pem(rsa_key(number=1)),
    "a key with a password": lambda: key_pem(rsa_key(), b"hidden") + certificate_pem(rsa_key()),
    "an elliptic key": lambda: "".join((key_pem(key := ec.generate_private_key(ec.SECP256R1())), certificate_pem(key))),
    "a short key": lambda: key_pem(rsa_key(1024)) + certificate_pem(rsa_key(1024)),
    "a torn key": lambda: whole().replace("M", "!", 40),
    "a torn certificate": lambda: key_pem(rsa_key()) + "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
}


@pytest.mark.parametrize("case", UNREADABLE)
def test_certificates_that_cannot_sign(case: str) -> None:
    with pytest.raises(StopGraphError) as caught:
        read_certificate(UNREADABLE[case]())
    assert caught.value.code == "graph_certificate_unreadable"
    assert "PRIVATE KEY-----" not in str(caught.value)
    assert caught.value.__cause__ is None


REFUSED = {
    "all tenants": (Credentials("common", CLIENT, "s"), "graph_bad_settings"),
    "a path for a tenant": (Credentials("contoso.com/../x", CLIENT, "s"), "graph_bad_settings"),
    "no tenant": (Credentials("", CLIENT, "s"), "graph_bad_settings"),
    "a name for an application": (Credentials(TENANT, "Gatehouse", "s"), "graph_bad_settings"),
    "neither": (Credentials(TENANT, CLIENT), "graph_bad_settings"),
    "both": (Credentials(TENANT, CLIENT, "s", "c"), "graph_bad_settings"),
    "a certificate that is none": (Credentials(TENANT, CLIENT, certificate="c"), "graph_certificate_unreadable"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_not_even_sent(case: str) -> None:
    credentials, code = REFUSED[case]
    with pytest.raises(StopGraphError) as caught:
        credentials.check(NOW)
    assert caught.value.code == code


def test_a_certificate_that_has_expired() -> None:
    key = rsa_key()
    credentials = Credentials(TENANT, CLIENT, certificate=key_pem(key) + certificate_pem(key, NOW))
    credentials.check(NOW - datetime.timedelta(seconds=1))
    with pytest.raises(StopGraphError) as caught:
        credentials.check(NOW)
    assert caught.value.code == "graph_certificate_expired"


@pytest.mark.parametrize("tenant", [TENANT, TENANT.upper(), "contoso.com", "contoso.onmicrosoft.com"])
def test_tenants_by_id_and_by_name(tenant: str) -> None:
    Credentials(tenant, CLIENT, "s").check(NOW)


def test_nothing_secret_shows() -> None:
    text = whole()
    credentials = Credentials(TENANT, CLIENT, client_secret="h1dden", certificate=text)
    certificate = read_certificate(text)
    for shown in (repr(credentials), str(credentials), repr(certificate)):
        assert "h1dden" not in shown
        assert "PRIVATE" not in shown
        assert "RSAPrivateKey" not in shown

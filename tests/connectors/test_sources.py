"""Setting up a source: what cannot work is refused with its remedy, secrets stay secret, the real Graph is reached."""

from __future__ import annotations

import datetime
from functools import cache
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from django.core.exceptions import ValidationError
from django.db import connection
from django.utils import timezone

from connectors.actors import SETUP
from connectors.graph.errors import StopGraphError
from connectors.models import DeviceSource
from connectors.secrets import Secret
from connectors.sources import (
    SourceSettings,
    source_answered,
    source_configure,
    source_failed,
    source_for,
    source_of,
    source_verify,
)
from tests.connectors import factories
from tests.labs import Lab

pytestmark = pytest.mark.django_db

GUID = "11111111-2222-3333-4444-555555555555"


@cache
def key(number: int) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def pem(days: int = 90, *, key_of: int = 0, with_key: bool = True) -> str:
    """A certificate of key 0 with the private key numbered `key_of`, which ends in so many days."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "gatehouse")])
    end = timezone.now() + datetime.timedelta(days=days)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key(0).public_key())
        .serial_number(1)
        .not_valid_before(end - datetime.timedelta(days=400))
        .not_valid_after(end)
        .sign(key(0), hashes.SHA256())
    )
    text = certificate.public_bytes(Encoding.PEM).decode()
    if with_key:
        text += key(key_of).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    return text


def values(**more: Any) -> SourceSettings:
    given = {"kind": "graph", "directory_id": "contoso.com", "client_id": GUID, "client_secret": Secret("S3cret")}
    return SourceSettings(**{**given, **more})


def configure(**more: Any) -> DeviceSource:
    return source_configure(tenant=factories.tenant(), values=values(**more), actor=SETUP)


class TestConfigure:
    def test_what_is_stored(self) -> None:
        source = configure(directory_id=" Contoso.COM ", client_secret=Secret(" S3cret \n"))
        source.refresh_from_db()
        assert (source.directory_id, source.client_id, source.cloud) == ("contoso.com", GUID, "global")
        assert source.client_secret.reveal() == "S3cret"
        with connection.cursor() as cursor:
            cursor.execute("SELECT * FROM connectors_devicesource")
            assert "S3cret" not in str(cursor.fetchall())
        assert "S3cret" not in repr(values())

    @pytest.mark.parametrize(
        ("changes", "fields"),
        [
            ({"kind": "intune"}, {"kind"}),
            ({"cloud": "germany"}, {"cloud"}),
            ({"directory_id": ""}, {"directory_id"}),
            ({"directory_id": "common"}, {"directory_id"}),
            ({"client_id": ""}, {"client_id"}),
            ({"login_root": "http://login.contoso.com"}, {"login_root"}),
            ({"graph_root": "https://graph.contoso.com/v1.0"}, {"graph_root"}),
            ({"graph_root": "graph.contoso.com"}, {"graph_root"}),
            ({"credential": "password"}, {"credential"}),
            ({"client_secret": Secret("")}, {"client_secret"}),
            ({"client_secret": Secret(GUID)}, {"client_secret"}),
            ({"credential": "certificate"}, {"certificate"}),
            ({"credential": "certificate", "certificate": Secret("no PEM")}, {"certificate"}),
            ({"directory_id": "x y", "client_id": "z", "client_secret": Secret("")},
             {"directory_id", "client_id", "client_secret"}),
        ],
    )  # fmt: skip
    def test_what_cannot_work_is_refused_all_at_once(self, changes: dict[str, Any], fields: set[str]) -> None:
        with pytest.raises(ValidationError) as caught:
            configure(**changes)
        assert set(caught.value.error_dict) == fields
        assert all(text.endswith(".") for texts in caught.value.message_dict.values() for text in texts)
        assert not DeviceSource.objects.exists()

    @pytest.mark.parametrize(
        ("text", "code"),
        [
            (lambda: pem(-1), "certificate_expired"),
            (lambda: pem(key_of=1), "certificate_unreadable"),
            (lambda: pem(with_key=False), "certificate_unreadable"),
        ],
        ids=["ended", "another key", "no key"],
    )
    def test_a_certificate_that_cannot_sign(self, text: Any, code: str) -> None:
        with pytest.raises(ValidationError) as caught:
            configure(credential="certificate", certificate=Secret(text()))
        assert caught.value.error_dict["certificate"][0].code == code
        assert "PRIVATE KEY--" not in str(caught.value)

    def test_a_certificate_tells_its_end_and_is_kept_when_left_empty(self) -> None:
        configure(credential="certificate", certificate=Secret(pem()))
        source = configure(credential="certificate", cloud="china")
        assert source.cloud == "china"
        assert source.credential_expires_at is not None
        assert (source.credential_expires_at - timezone.now()).days == 89

    def test_an_empty_secret_keeps_the_stored_one(self) -> None:
        configure()
        assert configure(client_secret=Secret("")).client_secret.reveal() == "S3cret"

    def test_a_stored_secret_goes_to_no_address_that_it_was_not_entered_for(self) -> None:
        configure(login_root="https://login.contoso.com", graph_root="https://graph.contoso.com")
        with pytest.raises(ValidationError) as caught:
            configure(client_secret=Secret(""), login_root="https://login.evil.example")
        assert caught.value.error_dict["client_secret"][0].code == "secret_again"
        assert source_of(factories.tenant()).login_root == "https://login.contoso.com"
        kept = {"client_secret": Secret(""), "login_root": "https://LOGIN.contoso.com/"}
        assert configure(**kept).client_secret.reveal() == "S3cret"
        assert configure(client_secret=Secret("")).client_secret.reveal() == "S3cret"
        entered = configure(client_secret=Secret("another"), login_root="https://login.fabrikam.com")
        assert entered.client_secret.reveal() == "another"

    def test_another_directory_is_read_from_the_beginning(self) -> None:
        source = configure()
        now = timezone.now()
        remembered = {"users_delta_link": "link", "devices_read_at": now, "users_read_at": now, "last_pushed_at": now}

        def remember() -> None:
            for name, value in remembered.items():
                setattr(source, name, value)
            source.save()

        remember()
        assert configure(client_secret=Secret("another")).users_delta_link.reveal() == "link"
        source = configure(directory_id="fabrikam.com")
        assert source.users_delta_link.reveal() == ""
        assert (source.devices_read_at, source.users_read_at, source.last_pushed_at) == (None, None, None)

    def test_what_was_wrong_is_over_with_new_settings(self) -> None:
        source = configure()
        source_failed(source_id=source.pk, error_code="graph_secret_wrong", params={"a": 1})
        assert source_of(source.tenant).last_error_code == "graph_secret_wrong"
        assert configure(client_secret=Secret("right")).last_error_code == ""
        source_failed(source_id=source.pk, error_code="graph_dropped", params={})
        source_answered(source_id=source.pk)
        assert source_of(source.tenant).last_error_code == ""


class TestReach:
    def test_a_tenant_without_graph_has_none_to_open(self) -> None:
        with pytest.raises(StopGraphError), source_for(factories.tenant()):
            pass
        verified = source_verify(factories.tenant())
        assert verified.error is not None
        assert verified.error.code == "graph_bad_settings"

    def test_a_secret_whose_key_is_lost(self, settings: Any) -> None:
        source = configure()
        settings.FIELD_KEYS = ["MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="]
        verified = source_verify(source.tenant)
        assert verified.error is not None
        assert verified.error.code == "secret_unreadable"

    @pytest.mark.wire
    def test_the_labs_graph(self, lab: Lab) -> None:
        where = lab.state["graph"]
        row = where["tenants"][0]
        given = {
            "directory_id": row["id"],
            "client_id": row["client_id"],
            "client_secret": Secret(row["client_secret"]),
            "login_root": where["login"],
            "graph_root": where["graph"],
        }
        source = configure(**given)
        verified = source_verify(source.tenant)
        assert [(check.name, check.error) for check in verified.checks] == [
            (name, None) for name in ("sign_in", "managed_devices", "users", "licences", "groups", "members")
        ]
        with source_for(source.tenant) as opened:
            listing = opened.managed_devices()
            assert sum(len(page.records) for page in listing) > 0
            assert listing.outcome.is_complete
        wrong = configure(**{**given, "client_secret": Secret("wrong")})
        (check,) = source_verify(wrong.tenant).checks
        assert check.error is not None
        assert check.error.code == "graph_secret_wrong"

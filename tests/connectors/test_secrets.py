"""A secret can be stored, read back and rotated, and shows itself nowhere."""

from __future__ import annotations

import copy
import io
import json
import logging
import pickle

import pytest
from cryptography.fernet import Fernet
from django import forms
from django.core import serializers
from django.core.exceptions import FieldError, ValidationError
from django.core.management import call_command
from django.core.serializers.json import DjangoJSONEncoder
from django.db import connection
from django.db.models import F, TextField
from django.db.models.functions import Cast
from django.forms import modelform_factory
from django.forms.models import model_to_dict
from django.test.utils import CaptureQueriesContext
from pytest_django import Settings
from rest_framework.renderers import JSONRenderer
from rest_framework.serializers import ModelSerializer

from connectors.models import Connector, ExchangeOrganization, Tenant
from connectors.secrets import EncryptedTextField, Secret, SecretError, decrypt, encrypt

TEXT = "pä§w0rd 🔑 with spaces "


@pytest.fixture
def connector(db: None) -> Connector:
    tenant = Tenant.objects.create(name="Contoso")
    organization = ExchangeOrganization.objects.create(tenant=tenant, name="Contoso")
    return Connector.objects.create(organization=organization, username="svc@contoso.com", password=Secret(TEXT))


def stored(connector: Connector) -> str:
    """What lies in the database itself."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT password FROM connectors_connector WHERE id = %s", [connector.pk])
        return str(cursor.fetchone()[0])


def reread(connector: Connector) -> Connector:
    return Connector.objects.get(pk=connector.pk)


class TestRoundTrip:
    def test_text_comes_back_as_it_was(self, connector: Connector) -> None:
        assert reread(connector).password.reveal() == TEXT

    def test_the_database_holds_a_token(self, connector: Connector) -> None:
        assert TEXT not in stored(connector)
        assert decrypt(stored(connector)) == TEXT

    def test_one_text_gives_another_token_each_time(self) -> None:
        assert encrypt(TEXT) != encrypt(TEXT)

    def test_the_empty_text_stays_empty_and_is_false(self, connector: Connector) -> None:
        connector.password = Secret("")
        connector.save()
        assert stored(connector) == ""
        assert not reread(connector).password

    def test_a_stored_text_is_true(self, connector: Connector) -> None:
        assert reread(connector).password

    @pytest.mark.parametrize("how", ["constructor", "attribute", "update", "bulk_update"])
    def test_plain_text_becomes_a_secret_however_it_is_given(self, connector: Connector, how: str) -> None:
        if how == "constructor":
            other = Connector(organization=connector.organization, password="plain")
            assert isinstance(other.password, Secret)
            connector.password = other.password
            connector.save()
        elif how == "attribute":
            connector.password = "plain"
            assert isinstance(connector.password, Secret)
            connector.save()
        elif how == "update":
            Connector.objects.update(password="plain")
        else:
            connector.password = Secret("plain")
            Connector.objects.bulk_update([connector], ["password"])
        assert stored(connector) != "plain"
        assert reread(connector).password.reveal() == "plain"

    def test_a_deferred_secret_is_read_when_asked_for(self, connector: Connector) -> None:
        assert Connector.objects.defer("password").get().password.reveal() == TEXT

    def test_equality_is_of_the_text(self, connector: Connector) -> None:
        first, second = reread(connector).password, reread(connector).password
        assert first == second == Secret(TEXT)
        assert Secret(TEXT) == first
        assert first != Secret("other")
        assert first != TEXT

    def test_copies_are_the_same_secret(self, connector: Connector) -> None:
        for secret in (Secret(TEXT), reread(connector).password):
            assert copy.copy(secret) == copy.deepcopy(secret) == Secret(TEXT)


class TestRotation:
    def test_a_new_key_in_front_reads_the_old_and_writes_the_new(
        self, connector: Connector, settings: Settings
    ) -> None:
        old_keys = list(settings.FIELD_KEYS)
        new_key = Fernet.generate_key().decode()
        settings.FIELD_KEYS = [new_key, *old_keys]
        again = reread(connector)
        assert again.password.reveal() == TEXT
        again.password = Secret(again.password.reveal())
        again.save()
        settings.FIELD_KEYS = [new_key]
        assert reread(connector).password.reveal() == TEXT
        settings.FIELD_KEYS = old_keys
        with pytest.raises(SecretError):
            reread(connector).password.reveal()

    def test_a_lost_key_says_what_to_do_and_no_more(self, connector: Connector, settings: Settings) -> None:
        token = stored(connector)
        lost, other = settings.FIELD_KEYS[0], Fernet.generate_key().decode()
        settings.FIELD_KEYS = [other]
        with pytest.raises(SecretError, match=r"GATEHOUSE_FIELD_KEYS.*enter the secret again") as caught:
            reread(connector).password.reveal()
        assert caught.value.__cause__ is None
        assert caught.value.__suppress_context__
        for hidden in (token, lost, other, TEXT):
            assert hidden not in str(caught.value)

    @pytest.mark.parametrize("keys", [["garbled"], [""], [], ["é" * 44]], ids=["text", "empty", "none", "not ascii"])
    def test_a_malformed_key_says_what_to_do(self, keys: list[str], settings: Settings) -> None:
        settings.FIELD_KEYS = keys
        with pytest.raises(SecretError, match="GATEHOUSE_FIELD_KEYS") as caught:
            encrypt(TEXT)
        assert caught.value.__suppress_context__
        assert all(not key or key not in str(caught.value) for key in keys)

    @pytest.mark.parametrize("token", ["plain", "gAAAAA", "§", "a" * 200])
    def test_what_is_no_token_is_unreadable(self, token: str) -> None:
        with pytest.raises(SecretError):
            decrypt(token)

    def test_without_the_key_rows_are_listed_and_saved_and_the_secret_replaced(
        self, connector: Connector, settings: Settings
    ) -> None:
        token = stored(connector)
        settings.FIELD_KEYS = [Fernet.generate_key().decode()]
        again = Connector.objects.all()[:1][0]
        again.username = "other@contoso.com"
        again.full_clean()
        again.save()
        assert stored(connector) == token
        again.password = Secret("entered again")
        again.save()
        assert reread(connector).password.reveal() == "entered again"


def test_saving_another_field_keeps_the_token(connector: Connector) -> None:
    token = stored(connector)
    again = reread(connector)
    again.username = "other@contoso.com"
    again.save()
    assert stored(connector) == token


class TestNotSeen:
    @pytest.fixture(params=["fresh", "stored"])
    def secret(self, request: pytest.FixtureRequest, connector: Connector) -> Secret:
        return Secret(TEXT) if request.param == "fresh" else reread(connector).password

    def test_in_no_way_of_printing(self, secret: Secret) -> None:
        shown = [repr(secret), str(secret), f"{secret}", f"{secret!r:>40}", f"{secret:>40}", f"{[secret]}"]
        assert all("********" in text for text in shown)
        assert all(TEXT.strip() not in text and "gAAAA" not in text for text in shown)

    def test_in_no_container_or_traceback(self, secret: Secret) -> None:
        assert TEXT.strip() not in repr({"password": [secret]})
        assert not hasattr(secret, "__dict__")

    def test_not_hashed(self, secret: Secret) -> None:
        with pytest.raises(TypeError):
            hash(secret)

    @pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
    def test_not_pickled(self, secret: Secret, protocol: int) -> None:
        with pytest.raises(TypeError, match="not pickled"):
            pickle.dumps(secret, protocol)

    def test_not_pickled_with_its_row(self, connector: Connector) -> None:
        with pytest.raises(TypeError, match="not pickled"):
            pickle.dumps(reread(connector))

    @pytest.mark.parametrize("encoder", [json.JSONEncoder, DjangoJSONEncoder])
    def test_not_json(self, secret: Secret, encoder: type[json.JSONEncoder]) -> None:
        with pytest.raises(TypeError):
            json.dumps({"password": secret}, cls=encoder)

    def test_not_in_a_log(self, secret: Secret, caplog: pytest.LogCaptureFixture) -> None:
        with caplog.at_level(logging.DEBUG):
            logging.getLogger("test").warning("password %s %r", secret, secret)
        assert TEXT.strip() not in caplog.text

    @pytest.mark.parametrize("format", ["json", "xml", "jsonl", "python"])
    def test_not_by_a_serialiser(self, connector: Connector, format: str) -> None:
        with pytest.raises((TypeError, serializers.base.SerializationError), match="is secret"):
            serializers.serialize(format, Connector.objects.all())

    def test_not_by_dumpdata(self, connector: Connector) -> None:
        out = io.StringIO()
        with pytest.raises(Exception, match="is secret"):
            call_command("dumpdata", "connectors", stdout=out)
        assert "gAAAA" not in out.getvalue()

    def test_not_by_rest_framework(self, connector: Connector) -> None:
        class ConnectorSerializer(ModelSerializer[Connector]):
            class Meta:
                model = Connector
                fields = ["username", "password"]

        for row in (connector, reread(connector)):
            shown = JSONRenderer().render(ConnectorSerializer(row).data).decode()
            assert "svc@contoso.com" in shown
            assert TEXT.strip() not in shown
            assert "gAAAA" not in shown

    def test_not_in_a_form(self, connector: Connector) -> None:
        form = modelform_factory(Connector, fields=["username", "password"])(instance=reread(connector))
        html = form.as_p()
        assert 'type="password"' in html
        for hidden in (TEXT.strip(), "gAAAA", "********"):
            assert hidden not in html

    def test_not_in_a_form_that_is_shown_again(self, connector: Connector) -> None:
        form_class = modelform_factory(Connector, fields=["username", "password"])
        form = form_class({"username": "", "password": "typed"}, instance=reread(connector))
        assert not form.is_valid()
        assert "typed" not in form.as_p()

    def test_not_in_queries(self, connector: Connector) -> None:
        with CaptureQueriesContext(connection) as queries:
            connector.password = Secret("plain to see")
            connector.save()
            Connector.objects.update(password="plain to see")
        assert len(queries) == 2
        assert "plain to see" not in repr(queries.captured_queries)

    def test_values_and_expressions_give_no_text(self, connector: Connector) -> None:
        row = Connector.objects.annotate(same=F("password")).values("password", "same").get()
        assert TEXT.strip() not in repr(row)
        assert TEXT.strip() not in repr(model_to_dict(reread(connector)))
        assert Connector.objects.annotate(raw=Cast("password", TextField())).get().raw == stored(connector)


class TestForm:
    def form(self, connector: Connector, password: str) -> forms.ModelForm[Connector]:
        form_class = modelform_factory(Connector, fields=["username", "password"])
        return form_class({"username": "svc@contoso.com", "password": password}, instance=reread(connector))

    def test_left_empty_keeps_what_is_stored(self, connector: Connector) -> None:
        token = stored(connector)
        form = self.form(connector, "")
        assert form.is_valid()
        assert "password" not in form.changed_data
        form.save()
        assert stored(connector) == token

    def test_filled_in_replaces_it_unstripped(self, connector: Connector) -> None:
        form = self.form(connector, " new ")
        assert form.is_valid()
        form.save()
        assert reread(connector).password.reveal() == " new "


class TestRefused:
    @pytest.mark.parametrize(
        "lookup", ["exact", "in", "contains", "startswith", "regex", "gt", "iexact", "lower", "length"]
    )
    def test_lookups(self, lookup: str) -> None:
        with pytest.raises(FieldError):
            Connector.objects.filter(**{f"password__{lookup}": ["x"] if lookup == "in" else "x"})

    def test_filtering_on_the_field_itself(self) -> None:
        with pytest.raises(FieldError):
            Connector.objects.filter(password="x")

    def test_only_whether_there_is_one_can_be_asked(self, connector: Connector) -> None:
        assert Connector.objects.filter(password__isnull=False).count() == 1

    def test_an_empty_secret_where_one_is_required(self) -> None:
        field = EncryptedTextField()
        field.set_attributes_from_name("password")
        with pytest.raises(ValidationError):
            field.clean(Secret(""), None)
        assert field.clean("x", None) == Secret("x")

"""Encrypted model fields.

A value is encrypted with the first key of settings.FIELD_KEYS and decrypted with whichever fits (MultiFernet), so a
key is rotated by putting a new one in front. In Python the value is a `Secret`, which shows itself in no repr, log,
page, form or serialiser: only `reveal()` gives the text. What was read from the database stays encrypted until then,
so a lost key breaks connecting, never listing or saving something else.

Refuses: filtering on the field (tokens of one text differ), pickling, Django's serialisers.
"""

from __future__ import annotations

import hmac
from functools import lru_cache
from typing import Any, NoReturn

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from django import forms
from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import models
from django.db.models.query_utils import DeferredAttribute


class SecretError(Exception):
    """A secret cannot be decrypted, or the keys cannot be used. The text names the remedy, never a token or a key."""


class Secret:
    """Text that must not be seen. Equal to another Secret with the same text; not hashable, not picklable."""

    # Defining __eq__ alone leaves __hash__ None; wanted, since a hash of the text would be a way to guess it.
    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """The text. Raises SecretError when it was stored with a key that is no longer configured."""
        return self._text

    def __repr__(self) -> str:
        return "Secret(********)"

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return format(repr(self), spec)

    def __bool__(self) -> bool:
        return bool(self._text)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and hmac.compare_digest(self.reveal().encode(), other.reveal().encode())

    def __copy__(self) -> Secret:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Secret:
        return self  # immutable; and the default way would go through pickling

    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        raise TypeError("A Secret is not pickled: pass the id of the row that holds it.")


class _StoredSecret(Secret):
    """A Secret still encrypted; saving the row again writes the same token, so a save never needs the key."""

    __slots__ = ("token",)

    def __init__(self, token: str) -> None:
        self.token = token

    def reveal(self) -> str:
        return decrypt(self.token)

    def __bool__(self) -> bool:
        return True  # the empty text is stored as it is, never as a token

    def __eq__(self, other: object) -> bool:
        if isinstance(other, _StoredSecret) and other.token == self.token:
            return True
        return super().__eq__(other)


@lru_cache(maxsize=4)
def _fernet(keys: tuple[str, ...]) -> MultiFernet:
    return MultiFernet([Fernet(key) for key in keys])


def _keys() -> MultiFernet:
    try:
        return _fernet(tuple(settings.FIELD_KEYS))
    except ValueError:
        raise SecretError(
            "GATEHOUSE_FIELD_KEYS holds something that is not a key. Each key is 32 bytes in URL-safe base64, "
            "several are separated by commas; the keys that secrets were written with must be among them."
        ) from None


def encrypt(text: str) -> str:
    """A token of `text` by the newest key; another one each time. Raises SecretError when a key is malformed."""
    return _keys().encrypt(text.encode()).decode()


def decrypt(token: str) -> str:
    """The text of a token. Raises SecretError when no configured key fits."""
    try:
        return _keys().decrypt(token.encode()).decode()
    except InvalidToken:
        raise SecretError(
            "A stored secret cannot be decrypted. Put the key it was written with back into GATEHOUSE_FIELD_KEYS "
            "(or GATEHOUSE_HOME/secrets/fields.key), or enter the secret again."
        ) from None


class _SecretAttribute(DeferredAttribute):
    """Turns what is assigned into a Secret at once, so that no plain text lies in an instance."""

    def __set__(self, instance: models.Model, value: object) -> None:
        instance.__dict__[self.field.attname] = self.field.to_python(value)


class SecretFormField(forms.CharField):
    """Never shows what is stored; left empty, it keeps it."""

    widget = forms.PasswordInput(render_value=False)

    def __init__(self, **kwargs: Any) -> None:
        kwargs["strip"] = False
        kwargs.pop("initial", None)
        super().__init__(**kwargs)

    def has_changed(self, initial: object, data: object) -> bool:
        return bool(data)


class EncryptedTextField(models.TextField):  # type: ignore[type-arg]
    """A TextField holding a Fernet token in the database and a Secret in Python. Cannot be filtered on."""

    # What the type checker takes and gives; read by its Django plug-in alone.
    _pyi_private_set_type: Secret | str  # type: ignore[assignment]
    _pyi_private_get_type: Secret  # type: ignore[assignment]

    descriptor_class = _SecretAttribute

    def from_db_value(self, value: str | None, expression: object, connection: object) -> Secret | None:
        if value is None:
            return None
        return _StoredSecret(value) if value else Secret("")

    def to_python(self, value: object) -> Any:
        if value is None or isinstance(value, Secret) or hasattr(value, "resolve_expression"):
            return value
        return Secret(str(value))

    def get_prep_value(self, value: object) -> Any:
        if value is None or hasattr(value, "resolve_expression"):
            return value
        if isinstance(value, _StoredSecret):
            return value.token
        text = value.reveal() if isinstance(value, Secret) else str(value)
        return encrypt(text) if text else ""

    def validate(self, value: Any, model_instance: models.Model | None) -> None:
        super().validate(value, model_instance)
        if not self.blank and value is not None and not value:
            raise ValidationError(self.error_messages["blank"], code="blank")

    def value_to_string(self, obj: models.Model) -> str:
        raise TypeError(
            f"{self.name} is secret and is not serialised. Back up the database itself, or leave out "
            f"{self.model._meta.label}."
        )

    def formfield(self, **kwargs: Any) -> Any:
        return models.Field.formfield(self, **{"form_class": SecretFormField, **kwargs})

    def save_form_data(self, instance: models.Model, data: Any) -> None:
        if data:
            super().save_form_data(instance, data)

    def get_lookup(self, lookup_name: str) -> Any:
        return super().get_lookup(lookup_name) if lookup_name == "isnull" else None

    def get_transform(self, lookup_name: str) -> Any:
        return None

"""Encrypted model fields.

A value is encrypted with the first key of settings.FIELD_KEYS and decrypted with whichever fits (MultiFernet), so a
key is rotated by putting a new one in front. In Python the value is a `Secret`, which shows itself in no repr, log,
page or serialiser: only `reveal()` gives the text.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from django.conf import settings
from django.db import models


class SecretError(Exception):
    """A stored secret cannot be decrypted with any of the configured keys."""


class Secret:
    """Text that must not be seen. Equal to another Secret with the same text; hashes by identity of the text."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        return self._text

    def __repr__(self) -> str:
        return "Secret(********)"

    __str__ = __repr__

    def __bool__(self) -> bool:
        return bool(self._text)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._text == self._text

    def __hash__(self) -> int:
        return hash(self._text)

    def __reduce__(self) -> Any:
        raise TypeError("a Secret is not pickled: pass the id of the row that holds it")


@lru_cache(maxsize=4)
def _fernet(keys: tuple[str, ...]) -> MultiFernet:
    return MultiFernet([Fernet(key) for key in keys])


def encrypt(text: str) -> str:
    return _fernet(tuple(settings.FIELD_KEYS)).encrypt(text.encode()).decode()


def decrypt(token: str) -> str:
    """Raises SecretError when no key fits; its text names the remedy and never the token."""
    try:
        return _fernet(tuple(settings.FIELD_KEYS)).decrypt(token.encode()).decode()
    except InvalidToken:
        raise SecretError(
            "A stored secret cannot be decrypted. Put the key it was written with back into GATEHOUSE_FIELD_KEYS "
            "(or GATEHOUSE_HOME/secrets/fields.key), or enter the secret again."
        ) from None


class EncryptedTextField(models.TextField):  # type: ignore[type-arg]
    """A TextField holding a Fernet token in the database and a Secret in Python. Cannot be filtered on."""

    def from_db_value(self, value: str | None, expression: object, connection: object) -> Secret | None:
        # Decrypted only when read by reveal-ers; an unreadable secret must not break listing the connectors.
        return None if value is None else (_LazySecret(value) if value else Secret(""))

    def to_python(self, value: object) -> Secret | None:
        return value if isinstance(value, Secret) or value is None else Secret(str(value))

    def get_prep_value(self, value: object) -> str | None:
        if value is None:
            return None
        if isinstance(value, _LazySecret):
            return value.token
        text = value.reveal() if isinstance(value, Secret) else str(value)
        return encrypt(text) if text else ""

    def value_to_string(self, obj: models.Model) -> str:
        raise TypeError(f"{self.name} is secret and is not serialised")

    def get_lookup(self, lookup_name: str) -> Any:
        return super().get_lookup(lookup_name) if lookup_name == "isnull" else None


class _LazySecret(Secret):
    """A Secret still encrypted; saving the row again writes the same token, so a save never needs the key."""

    __slots__ = ("token",)

    def __init__(self, token: str) -> None:
        self.token = token

    def reveal(self) -> str:
        return decrypt(self.token)

    def __bool__(self) -> bool:
        return True

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other.reveal() == self.reveal()

    def __hash__(self) -> int:
        return hash(self.token)

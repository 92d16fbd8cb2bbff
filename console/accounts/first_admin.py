"""The administrator that a new installation begins with."""

from __future__ import annotations

import logging
import secrets

from django.conf import settings
from django.contrib.auth import get_user_model
from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError

logger = logging.getLogger(__name__)

NAME = "admin"


def first_admin_create() -> str:
    """Make the first administrator, unless there is one. Returns the words to show as its password, "" if it was there.

    The password is GATEHOUSE_ADMIN_PASSWORD (which is not repeated), else a generated one, shown this once.
    """
    users = get_user_model()
    if users.objects.filter(is_superuser=True).exists():
        return ""
    given: str = settings.FIRST_ADMIN_PASSWORD
    if given:
        _weakness_tell(given)
    password = given or secrets.token_urlsafe(12)
    users.objects.create_superuser(username=NAME, password=password)
    return "(from GATEHOUSE_ADMIN_PASSWORD)" if given else password


def _weakness_tell(password: str) -> None:
    """Say what a password entered on a page would be refused for. It is taken: a first start must not fail for it."""
    try:
        validate_password(password, get_user_model()(username=NAME))
    except ValidationError as error:
        logger.warning(
            "GATEHOUSE_ADMIN_PASSWORD is weak: %s Sign in as %s and change the password.",
            " ".join(error.messages),
            NAME,
        )

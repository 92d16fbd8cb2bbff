"""The administrator that a new installation begins with."""

from __future__ import annotations

import secrets

from django.conf import settings
from django.contrib.auth import get_user_model

NAME = "admin"


def first_admin_create() -> str:
    """Make the first administrator, unless there is one. Returns the words to show as its password, "" if it was there.

    The password is GATEHOUSE_ADMIN_PASSWORD (which is not repeated), else a generated one, shown this once.
    """
    users = get_user_model()
    if users.objects.filter(is_superuser=True).exists():
        return ""
    given: str = settings.FIRST_ADMIN_PASSWORD
    password = given or secrets.token_urlsafe(12)
    users.objects.create_superuser(username=NAME, password=password)
    return "(from GATEHOUSE_ADMIN_PASSWORD)" if given else password

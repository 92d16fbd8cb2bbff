"""Keys by which programs use the API: made, revoked, recognised.

A token is shown once, when it is made; what is kept is its digest, which opens nothing. Its role decides what it may
do, in its one tenant. Refuses to say of an unknown token anything but that it is unknown.
"""

from __future__ import annotations

import datetime
import hashlib
import hmac
import logging
import secrets

from django.core.exceptions import ValidationError
from django.db.models import QuerySet
from django.utils import timezone
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from connectors.actors import Actor
from connectors.models import Tenant
from connectors.selectors import Person, tenants_for
from console.accounts.models import ApiToken, Role

logger = logging.getLogger(__name__)

# So that a token is known as ours where it turns up: in a log, in a repository.
PREFIX = "gatehouse_"
HINT_LENGTH = len(PREFIX) + 4
# last_used_at is for people; more exact is not worth a write with every request.
USED_STEP = datetime.timedelta(minutes=1)


class TokenError(Exception):
    """A token that opens nothing. code: unknown, revoked or expired; the text is for whoever sent it."""

    def __init__(self, code: str, message: str | Promise) -> None:
        super().__init__(str(message))
        self.code = code


def token_make(
    *, tenant: Tenant, name: str, role: str, expires_at: datetime.datetime | None, actor: Actor
) -> tuple[ApiToken, str]:
    """A new token and its text, which is nowhere else. Raises ValidationError keyed by field."""
    problems: dict[str, ValidationError] = {}
    if not name.strip():
        problems["name"] = ValidationError(_("Name what uses it, so that it can be recognised later."), code="name")
    if role not in Role.values:
        problems["role"] = ValidationError(_("Choose a role."), code="role")
    if expires_at is not None and expires_at <= timezone.now():
        problems["expires_at"] = ValidationError(_("This day is over. Choose a later one, or none."), code="expired")
    if problems:
        raise ValidationError(problems)
    text = PREFIX + secrets.token_urlsafe(32)
    token = ApiToken(
        tenant=tenant,
        name=name.strip()[:100],
        digest=_digest(text),
        hint=text[:HINT_LENGTH],
        role=Role(role),
        expires_at=expires_at,
        made_by_id=actor.user_id,
        made_by_name=actor.name[:200],
    )
    token.save()
    logger.info("API token %s of tenant %s made by %s", token.public_id, tenant.public_id, actor.name)
    return token, text


def token_revoke(*, token: ApiToken, actor: Actor) -> None:
    """From now on it opens nothing. Safe to repeat."""
    if ApiToken.objects.filter(pk=token.pk, revoked_at=None).update(revoked_at=timezone.now()):
        logger.info("API token %s revoked by %s", token.public_id, actor.name)


def tokens_for(person: Person) -> QuerySet[ApiToken]:
    """The tokens of the tenants that a person may see."""
    return ApiToken.objects.filter(tenant__in=tenants_for(person)).select_related("tenant")


def token_recognise(text: str) -> ApiToken:
    """The token whose text this is, in force. Raises TokenError."""
    digest = _digest(text)
    token = ApiToken.objects.select_related("tenant").filter(digest=digest).first()
    if token is None or not hmac.compare_digest(bytes(token.digest), digest):
        raise TokenError("unknown", _("This token is not known. Make one on the page of the tenant's API tokens."))
    now = timezone.now()
    if token.revoked_at is not None:
        raise TokenError("revoked", _("This token was revoked. Use another one."))
    if token.expires_at is not None and token.expires_at <= now:
        raise TokenError(
            "expired", _("This token ended on %(day)s. Make a new one.") % {"day": f"{token.expires_at:%Y-%m-%d}"}
        )
    if token.last_used_at is None or now - token.last_used_at > USED_STEP:
        ApiToken.objects.filter(pk=token.pk).update(last_used_at=now)
    return token


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()

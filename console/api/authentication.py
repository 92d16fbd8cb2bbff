"""Who calls: a bearer token, and nothing else. No session or cookie counts here, so no form of another site can act.

Failed attempts are counted by address: a caller that guesses is sent away for a minute, one with a right token never.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

from django.core.cache import cache
from django.utils.translation import gettext as _
from redis.exceptions import RedisError
from rest_framework.authentication import BaseAuthentication
from rest_framework.exceptions import AuthenticationFailed, Throttled
from rest_framework.permissions import BasePermission
from rest_framework.request import Request
from rest_framework.views import APIView

from connectors.actors import Actor
from connectors.models import Tenant
from console.accounts.addresses import client_address
from console.accounts.models import ApiToken, Role
from console.accounts.permissions import ALLOWED, Action
from console.accounts.tokens import TokenError, token_recognise
from console.api.errors import WAIT_SECONDS

logger = logging.getLogger(__name__)

SCHEME = "Bearer"
# Wrong tokens from one address within a minute.
FAILURES = 30


@dataclass(frozen=True)
class Caller:
    """The program behind a token; stands where a person would."""

    token: ApiToken
    is_authenticated: bool = True

    @property
    def tenant(self) -> Tenant:
        return self.token.tenant

    @property
    def actions(self) -> frozenset[Action]:
        return ALLOWED[Role(self.token.role)] if self.token.role in Role.values else frozenset()

    @property
    def actor(self) -> Actor:
        return Actor(name=f"API · {self.token.name}")


class TokenAuthentication(BaseAuthentication):
    def authenticate(self, request: Request) -> tuple[Caller, ApiToken]:
        scheme, _space, text = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != SCHEME.lower() or not text.strip():
            raise AuthenticationFailed(
                _("Send a token of the tenant with each request, as the header “Authorization: Bearer …”."),
                code="no_token",
            )
        try:
            token = token_recognise(text.strip())
        except TokenError as error:
            _failure_count(client_address(request))
            raise AuthenticationFailed(str(error), code=f"token_{error.code}") from None
        return Caller(token), token

    def authenticate_header(self, request: Request) -> str:
        return f'{SCHEME} realm="Gatehouse"'


def _failure_count(address: str) -> None:
    """Raises Throttled when there were too many."""
    key = f"api-failures-{address}"
    try:
        cache.add(key, 0, WAIT_SECONDS)
        failures = cache.incr(key)
    except (RedisError, ValueError):
        # Without a cache nothing is counted; a token has 256 random bits, which nobody guesses anyway.
        logger.debug("a failed attempt could not be counted", exc_info=True)
        return
    if failures > FAILURES:
        raise Throttled(WAIT_SECONDS)


class RoleAllows(BasePermission):
    """Whether the token's role allows what the view's `needs` names for the method."""

    def has_permission(self, request: Request, view: APIView) -> bool:
        needs: dict[str, Action] = getattr(view, "needs", {})
        action = needs.get(request.method or "", Action.VIEW)
        return isinstance(request.user, Caller) and action in request.user.actions

"""How allauth behaves here: nobody signs up by themselves; an administrator makes accounts."""

from __future__ import annotations

from typing import Any

from allauth.account.adapter import DefaultAccountAdapter
from django.http import HttpRequest, HttpResponse

from console.accounts.addresses import client_address
from console.accounts.language import language_remember


class AccountAdapter(DefaultAccountAdapter):  # type: ignore[misc]
    def is_open_for_signup(self, request: HttpRequest) -> bool:
        return False

    def get_client_ip(self, request: HttpRequest) -> str:
        """What attempts to sign in are counted by."""
        return client_address(request)

    def post_login(self, request: HttpRequest, user: Any, **kwargs: Any) -> HttpResponse:
        """Signing in brings the person's own language along, whatever this browser was set to before."""
        response: HttpResponse = super().post_login(request, user, **kwargs)
        if user.language:
            language_remember(response, user.language)
        return response

    def get_password_change_redirect_url(self, request: HttpRequest) -> str:
        return "/"

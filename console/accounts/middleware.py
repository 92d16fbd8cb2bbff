"""Every page needs a sign-in, unless its view is marked with login_not_required."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.middleware import LoginRequiredMiddleware
from django.http import HttpRequest, HttpResponseBase
from django_htmx.http import HttpResponseClientRefresh


class SignInRequired(LoginRequiredMiddleware):
    def handle_no_permission(  # type: ignore[override]  # the superclass says redirect, Django takes any response
        self, request: HttpRequest, view_func: Any
    ) -> HttpResponseBase:
        """A part of a page that asks for news after the session ended gets the whole page loaded, hence the sign-in.

        A redirect would be followed by the script, and the sign-in page would land in the middle of the page.
        """
        if request.headers.get("HX-Request"):
            return HttpResponseClientRefresh()
        return super().handle_no_permission(request, view_func)

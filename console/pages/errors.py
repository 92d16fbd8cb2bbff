"""Pages for what went wrong with a request. Each says what happened and what to do, and needs no database.

They stand alone, without navigation and person menu: reading the session could fail for the same reason.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass

from django.contrib.auth.decorators import login_not_required
from django.db import InterfaceError, OperationalError
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _
from redis.exceptions import RedisError

RETRY_SECONDS = 15


@dataclass(frozen=True, slots=True)
class Trouble:
    """status: the HTTP status. todo: sentences, each a line. retry: offer to load the same address again."""

    status: int
    icon: str
    title: str | Promise
    happened: str | Promise
    todo: str | Promise
    retry: bool = False


REFUSED = Trouble(
    403,
    "no-symbol",
    _("Your role does not allow this"),
    _("You may see this tenant, but what you asked for needs another role in it. Nothing was changed."),
    _("Ask an administrator of the tenant to do it, or to give you the role of operator or administrator."),
)
NOT_FOUND = Trouble(
    404,
    "magnifying-glass",
    _("There is nothing here"),
    _("The address is wrong, or what it led to was removed, or it belongs to a tenant you have no role in."),
    _("Start again from Home. If a colleague gave you the link, ask an administrator for a role in that tenant."),
)
BAD_REQUEST = Trouble(
    400,
    "exclamation-triangle",
    _("The request could not be understood"),
    _("Your browser sent something that Gatehouse does not accept. Nothing was changed."),
    _("Go back and try again. If it happens again, clear this site's cookies and sign in anew."),
)
CSRF = Trouble(
    403,
    "shield-check",
    _("This page was open too long"),
    _(
        "The form did not carry a valid proof that it came from you, usually because you signed in or out in another "
        "tab since, or because cookies are switched off. Nothing was changed."
    ),
    _("Go back, load the page anew, and press the button again."),
)
TOO_MANY = Trouble(
    429,
    "clock",
    _("Too many attempts"),
    _("There were too many attempts to sign in from here, or for this name, within a short time."),
    _(
        "Wait five minutes, then try again. If you forgot your password, an administrator of Gatehouse can set a "
        "new one; more attempts will not help."
    ),
)
BROKEN = Trouble(
    500,
    "exclamation-triangle",
    _("Gatehouse made a mistake"),
    _(
        "This page could not be shown. The fault is in Gatehouse, not in what you did. Syncs run apart from these "
        "pages and go on; phones keep the access they have."
    ),
    _("Try again. If it stays so, the web process's log says why, with the time and the address of this page."),
    retry=True,
)
DATABASE_AWAY = Trouble(
    503,
    "server-stack",
    _("The database does not answer"),
    _(
        "Gatehouse cannot read its database, so no page can be shown. Phones keep the access they have: Exchange "
        "decides by itself. Syncs go on when the database is back; nothing is lost."
    ),
    _("Check that the database runs and that this machine reaches it; /readyz names what fails. Then try again."),
    retry=True,
)

BROKER_AWAY = Trouble(
    503,
    "server-stack",
    _("The broker does not answer"),
    _(
        "Gatehouse cannot reach Redis, by which attempts to sign in are counted, so nobody can sign in now. Whoever is "
        "signed in stays so. Phones keep the access they have; syncs go on when it is back, and nothing is lost."
    ),
    _("Check that Redis runs and that this machine reaches it; /readyz names what fails. Then try again."),
    retry=True,
)


def _page(request: HttpRequest, trouble: Trouble) -> HttpResponse:
    response = render(request, "errors/trouble.html", {"trouble": trouble}, status=trouble.status)
    # htmx shows nothing of an error's body by itself: an action that failed leads to the page that says so.
    if trouble in (DATABASE_AWAY, BROKER_AWAY):
        response["Retry-After"] = str(RETRY_SECONDS)
    return response


def refused(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:
    return _page(request, REFUSED)


def not_found(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:
    return _page(request, NOT_FOUND)


def bad_request(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:
    return _page(request, BAD_REQUEST)


@login_not_required
def csrf_failure(request: HttpRequest, reason: str = "") -> HttpResponse:
    return _page(request, CSRF)


def too_many(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:
    return _page(request, TOO_MANY)


def broken(request: HttpRequest) -> HttpResponse:
    """Any other failure. Django calls this while the exception is being handled, so that its kind can be told."""
    error = sys.exc_info()[1]
    if isinstance(error, RedisError):
        return _page(request, BROKER_AWAY)
    return _page(request, DATABASE_AWAY if isinstance(error, OperationalError | InterfaceError) else BROKEN)

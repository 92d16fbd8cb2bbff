"""One shape for everything that goes wrong: {"error": {"code", "message", "details"}}.

code is stable and for programs, message a sentence for people, details a list that is empty where there is nothing to
add. What nobody expected is logged here, and the caller is told no more than that.
"""

from __future__ import annotations

import logging
from typing import Any

from django.core.exceptions import PermissionDenied
from django.db import InterfaceError, OperationalError
from django.http import Http404, HttpRequest, JsonResponse
from django.utils.translation import gettext as _
from django.views.decorators.csrf import csrf_exempt
from rest_framework import exceptions, status
from rest_framework.response import Response
from rest_framework.views import set_rollback

logger = logging.getLogger(__name__)

# Seconds after which an address that sent too many wrong tokens is listened to again.
WAIT_SECONDS = 60


class ApiError(exceptions.APIException):
    """An answer of ours that is an error. details: JSON-safe."""

    def __init__(self, status_code: int, code: str, message: str, details: list[Any] | None = None) -> None:
        super().__init__(message, code)
        self.status_code = status_code
        self.code = code
        self.message = message
        self.details = details or []


def body(code: str, message: str, details: list[Any] | None = None) -> dict[str, Any]:
    return {"error": {"code": code, "message": message, "details": details or []}}


def exception_handler(error: Exception, context: dict[str, Any]) -> Response:
    """What a view raised, as an answer."""
    set_rollback()
    if isinstance(error, ApiError):
        return Response(body(error.code, error.message, error.details), error.status_code)
    if isinstance(error, Http404 | exceptions.NotFound):
        return Response(body("not_found", _not_found()), status.HTTP_404_NOT_FOUND)
    if isinstance(error, PermissionDenied | exceptions.PermissionDenied):
        text = _("The token's role does not allow this. Nothing was changed. Use a token with another role.")
        return Response(body("forbidden", text), status.HTTP_403_FORBIDDEN)
    if isinstance(error, exceptions.AuthenticationFailed):
        answer = Response(body(str(error.get_codes()), str(error.detail)), status.HTTP_401_UNAUTHORIZED)
        answer["WWW-Authenticate"] = 'Bearer realm="Gatehouse"'
        return answer
    if isinstance(error, exceptions.Throttled):
        text = _("Too many wrong tokens came from your address. Wait a minute, and use the right one.")
        answer = Response(body("too_many_failures", text), status.HTTP_429_TOO_MANY_REQUESTS)
        answer["Retry-After"] = str(WAIT_SECONDS)
        return answer
    if isinstance(error, exceptions.APIException):
        return _of_framework(error)
    if isinstance(error, RecursionError):
        return Response(body("not_json", _("The JSON is nested too deeply.")), status.HTTP_400_BAD_REQUEST)
    if isinstance(error, OperationalError | InterfaceError):
        logger.exception("the database does not answer")
        answer = Response(
            body("database_away", _("The database does not answer. Try again; nothing was lost.")),
            status.HTTP_503_SERVICE_UNAVAILABLE,
        )
        answer["Retry-After"] = "15"
        return answer
    logger.exception("an API request failed")
    text = _("Gatehouse made a mistake; its log says more. What you sent was not stored.")
    return Response(body("internal_error", text), status.HTTP_500_INTERNAL_SERVER_ERROR)


def _of_framework(error: exceptions.APIException) -> Response:
    if isinstance(error, exceptions.ParseError):
        code, text = "not_json", _("The body is no JSON: %(detail)s") % {"detail": str(error.detail)[:200]}
    elif isinstance(error, exceptions.UnsupportedMediaType):
        code, text = "not_json", _("Send JSON, with the header “Content-Type: application/json”.")
    elif isinstance(error, exceptions.NotAcceptable):
        code, text = "not_acceptable", _("Answers are JSON: accept application/json.")
    elif isinstance(error, exceptions.MethodNotAllowed):
        code, text = "method_not_allowed", _("This address does not take that method; docs/api.md lists what it takes.")
    else:
        code, text = "bad_request", str(error.detail)
    return Response(body(code, text), error.status_code)


def _not_found() -> str:
    return _("There is nothing at this address, or not in the token's tenant.")


@csrf_exempt
def nothing_here(request: HttpRequest, rest: str = "") -> JsonResponse:
    """Any address below /api/ that is none, whatever the method: no cookie counts here, so no proof of one is asked."""
    return JsonResponse(body("not_found", _not_found()), status=404)

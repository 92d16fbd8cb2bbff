"""What all views of the API share: who may, how large, and how a long list is walked."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from django.core import signing
from django.db.models import Model, QuerySet
from django.utils.translation import gettext as _
from rest_framework.parsers import JSONParser
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from connectors.models import Tenant
from console.accounts.permissions import Action
from console.api.authentication import Caller, RoleAllows, TokenAuthentication
from console.api.errors import ApiError

# Bytes. A thousand records with every field filled are about one and a half million.
BODY_LIMIT = 4_000_000
PAGE, LARGEST_PAGE = 100, 1000
_SALT = "console.api"
_Row = TypeVar("_Row", bound=Model)


class View(APIView):
    """needs: the action that each method needs; VIEW where it is not named."""

    authentication_classes = [TokenAuthentication]
    permission_classes = [RoleAllows]
    parser_classes = [JSONParser]
    renderer_classes = [JSONRenderer]
    # OPTIONS is answered like any other method that is not taken: docs/api.md says what there is.
    metadata_class = None
    needs: Mapping[str, Action] = {}

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        try:
            length = int(request.META.get("CONTENT_LENGTH") or 0)
        except ValueError:
            length = 0
        if length > BODY_LIMIT:
            text = _("The body has %(length)d bytes; at most %(limit)d are taken. Send it in parts.")
            raise ApiError(413, "too_large", text % {"length": length, "limit": BODY_LIMIT})

    @property
    def caller(self) -> Caller:
        user = self.request.user
        assert isinstance(user, Caller)  # noqa: S101 - RoleAllows let nobody else in
        return user

    @property
    def tenant(self) -> Tenant:
        return self.caller.tenant

    def json_object(self) -> Mapping[str, Any]:
        """The body. Raises ApiError when it is no object."""
        data = self.request.data
        if not isinstance(data, Mapping):
            raise ApiError(400, "not_an_object", _("The body must be a JSON object."))
        return data


def page_answer(request: Request, rows: QuerySet[_Row], show: Callable[[_Row], dict[str, Any]]) -> Response:
    """A page of `rows` by key, which costs the same wherever it is: {"value": [...], "nextLink": address or null}."""
    size = _size(request)
    if cursor := request.query_params.get("cursor", ""):
        rows = rows.filter(pk__gt=_place(cursor))
    taken = list(rows.order_by("pk")[: size + 1])
    link = None
    if len(taken) > size:
        taken = taken[:size]
        query = request.query_params.copy()
        query["cursor"] = signing.dumps(taken[-1].pk, salt=_SALT)
        link = f"{request.build_absolute_uri(request.path)}?{query.urlencode()}"
    return Response({"value": [show(row) for row in taken], "nextLink": link})


def _size(request: Request) -> int:
    text = request.query_params.get("limit", str(PAGE))
    if not text.isascii() or not text.isdigit() or not 1 <= int(text[:9]) <= LARGEST_PAGE:
        raise ApiError(
            400, "bad_limit", _("limit must be a number between 1 and %(largest)d.") % {"largest": LARGEST_PAGE}
        )
    return int(text)


def _place(cursor: str) -> int:
    try:
        return int(signing.loads(cursor, salt=_SALT))
    except (signing.BadSignature, TypeError, ValueError):
        raise ApiError(
            400, "bad_cursor", _("This cursor is none of ours. Begin again without one, and follow nextLink.")
        ) from None


def choice(request: Request, name: str, allowed: Mapping[str, Any], default: str) -> Any:
    """What a parameter that has few values stands for. Raises ApiError for another one."""
    value = request.query_params.get(name, default)
    if value not in allowed:
        text = _("%(name)s must be one of: %(choices)s.") % {"name": name, "choices": ", ".join(allowed)}
        raise ApiError(400, "bad_parameter", text)
    return allowed[value]


def text_parameter(request: Request, name: str) -> str:
    return request.query_params.get(name, "").replace("\0", "").strip()[:512]

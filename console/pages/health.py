"""/healthz and /readyz, for whoever watches the processes. Neither needs a sign-in, neither tells anything private.

/healthz: this process answers; it touches nothing else, so that a database that is away does not get processes
restarted. /readyz: whether requests can be served; 503 with the names of what fails, never with a library's text.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping

import redis
from django.conf import settings
from django.db import connection
from django.db.migrations.executor import MigrationExecutor
from django.http import HttpRequest, HttpResponse, HttpResponseBase, JsonResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

logger = logging.getLogger(__name__)

BROKER_TIMEOUT = 2.0  # seconds


@never_cache
@require_safe
def healthz(request: HttpRequest) -> HttpResponse:
    """GET /healthz."""
    return HttpResponse("ok\n", content_type="text/plain")


@never_cache
@require_safe
def readyz(request: HttpRequest) -> JsonResponse:
    """GET /readyz."""
    failing = [name for name, check in CHECKS.items() if not _passes(name, check)]
    body = {
        "ready": not failing,
        "checks": {name: "failing" if name in failing else "ok" for name in CHECKS},
        "failing": failing,
    }
    return JsonResponse(body, status=503 if failing else 200)


def _passes(name: str, check: Callable[[], bool]) -> bool:
    try:
        return check()
    except Exception as error:  # noqa: BLE001 - the outermost boundary: whatever it is, this part is not ready
        logger.warning("not ready: %s: %s", name, error)
        return False


def _database() -> bool:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
        return bool(cursor.fetchone() == (1,))


def _migrations() -> bool:
    executor = MigrationExecutor(connection)
    return not executor.migration_plan(executor.loader.graph.leaf_nodes())


def _broker() -> bool:
    timeouts = {"socket_timeout": BROKER_TIMEOUT}
    if not settings.REDIS_URL.startswith("unix://"):
        timeouts["socket_connect_timeout"] = BROKER_TIMEOUT
    client = redis.Redis.from_url(settings.REDIS_URL, **timeouts)
    try:
        return bool(client.ping())
    finally:
        client.close()


class HealthMiddleware:
    """Answers both before anything else looks at the request, so that no host check, session or redirect is in the way.

    A probe asks by whatever name or address it has, over plain HTTP.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        if request.path == "/healthz":
            return healthz(request)
        if request.path == "/readyz":
            return readyz(request)
        return self.get_response(request)


CHECKS: Mapping[str, Callable[[], bool]] = {"database": _database, "migrations": _migrations, "broker": _broker}

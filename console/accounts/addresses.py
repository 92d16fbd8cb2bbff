"""Which address a request comes from, for slowing down whoever guesses passwords or tokens."""

from __future__ import annotations

import ipaddress

from django.conf import settings
from django.http import HttpRequest


def client_address(request: HttpRequest) -> str:
    """Of the browser or program: what the outermost of our own proxies saw (GATEHOUSE_TRUSTED_PROXIES).

    X-Forwarded-For is believed from its end, as far as our proxies wrote it; anybody can write what stands before that.
    Without such a proxy, or where it wrote no address, that of the connection itself.
    """
    count: int = settings.TRUSTED_PROXIES
    told = [part.strip() for part in request.headers.get("X-Forwarded-For", "").split(",")]
    if count > 0 and len(told) >= count and (address := _address(told[-count])):
        return address
    return _address(request.META.get("REMOTE_ADDR", "")) or "unknown"


def _address(text: str) -> str:
    """In one spelling; "" when it is no address. A port, as some proxies add it, is left out."""
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        return ""

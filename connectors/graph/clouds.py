"""The clouds in which Graph stands, and where each signs in (exchange.md 7.1).

Tokens are not interchangeable between clouds. Refuses plain http for anything but this machine's loopback, where the
simulated Graph answers.
"""

from __future__ import annotations

import ipaddress
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from connectors.graph.errors import StopGraphError


@dataclass(frozen=True, slots=True)
class Cloud:
    """Roots are addresses without a slash at their end."""

    name: str
    login: str
    graph: str

    @property
    def scope(self) -> str:
        return f"{self.graph}/.default"


_KNOWN = (
    # US GCC is served from the global cloud.
    Cloud("global", "https://login.microsoftonline.com", "https://graph.microsoft.com"),
    Cloud("usGovL4", "https://login.microsoftonline.us", "https://graph.microsoft.us"),
    Cloud("usGovL5", "https://login.microsoftonline.us", "https://dod-graph.microsoft.us"),
    # Graph's own documentation names login.chinacloudapi.cn; either can be set.
    Cloud("china", "https://login.partner.microsoftonline.cn", "https://microsoftgraph.chinacloudapi.cn"),
)
CLOUDS: Mapping[str, Cloud] = MappingProxyType({one.name: one for one in _KNOWN})


def cloud(name: str, *, login: str = "", graph: str = "") -> Cloud:
    """The cloud of that name, with other roots where they are given. Raises StopGraphError graph_bad_settings."""
    known = CLOUDS.get(name)
    if known is None:
        raise StopGraphError(f"no cloud {name!r}; there are {', '.join(CLOUDS)}", code="graph_bad_settings")
    return Cloud(
        name,
        _root(login, "sign-in") if login else known.login,
        _root(graph, "Graph") if graph else known.graph,
    )


def _root(text: str, what: str) -> str:
    try:
        parts = urllib.parse.urlsplit(text.strip())
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        host, parts = "", urllib.parse.SplitResult("", "", "", "", "")
    if not host or parts.path.rstrip("/") or parts.query or parts.fragment or parts.username is not None:
        raise StopGraphError(f"the {what} address must be a scheme and a host", code="graph_bad_settings")
    if parts.scheme != "https" and not (parts.scheme == "http" and _is_loopback(host)):
        raise StopGraphError(f"the {what} address must begin with https", code="graph_bad_settings")
    return f"{parts.scheme}://{parts.netloc.lower()}"


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False

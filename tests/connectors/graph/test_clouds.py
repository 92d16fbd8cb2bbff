"""The four clouds, and other addresses for them."""

from __future__ import annotations

import pytest

from connectors.graph.clouds import CLOUDS, cloud
from connectors.graph.errors import StopGraphError


def test_the_four_clouds() -> None:
    assert {one.name: (one.login, one.graph) for one in CLOUDS.values()} == {
        "global": ("https://login.microsoftonline.com", "https://graph.microsoft.com"),
        "usGovL4": ("https://login.microsoftonline.us", "https://graph.microsoft.us"),
        "usGovL5": ("https://login.microsoftonline.us", "https://dod-graph.microsoft.us"),
        "china": ("https://login.partner.microsoftonline.cn", "https://microsoftgraph.chinacloudapi.cn"),
    }


@pytest.mark.parametrize("name", CLOUDS)
def test_the_scope_is_the_clouds_own(name: str) -> None:
    assert cloud(name).scope == f"{CLOUDS[name].graph}/.default"


GOOD = {
    "https://login.chinacloudapi.cn": "https://login.chinacloudapi.cn",
    "https://Login.Example/": "https://login.example",
    "http://127.0.0.1:8080": "http://127.0.0.1:8080",
    "http://localhost:80": "http://localhost:80",
    "http://[::1]:8080/": "http://[::1]:8080",
}


@pytest.mark.parametrize(("given", "root"), GOOD.items())
def test_other_addresses(given: str, root: str) -> None:
    assert cloud("china", login=given).login == root
    assert cloud("china", graph=given).graph == root
    assert cloud("china", login=given).graph == CLOUDS["china"].graph


BAD = (
    "http://graph.microsoft.com", "http://10.0.0.1", "http://127.0.0.1.example.com", "ftp://127.0.0.1", "graph",
    "https://", "https://graph.microsoft.com/v1.0", "https://x.example?a=b", "https://user:secret@x.example",
    "https://x.example:port", "javascript:alert(1)", "https://[::1", "http://0.0.0.0",
)  # fmt: skip


@pytest.mark.parametrize("given", BAD)
def test_addresses_that_are_refused(given: str) -> None:
    for names in ({"login": given}, {"graph": given}):
        with pytest.raises(StopGraphError) as caught:
            cloud("global", **names)
        assert caught.value.code == "graph_bad_settings"
        assert "secret" not in str(caught.value)


def test_a_cloud_that_is_none() -> None:
    with pytest.raises(StopGraphError, match="global, usGovL4, usGovL5, china"):
        cloud("germany")

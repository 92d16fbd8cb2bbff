"""Microsoft's side must prove who it is before the client secret leaves; what is trusted is the system's, or a file."""

from __future__ import annotations

from pathlib import Path

import pytest

from connectors.graph.client import GraphClient, Options
from connectors.graph.clouds import cloud
from connectors.graph.credentials import Credentials
from connectors.graph.errors import GraphError
from tests.connectors.mail.servers import Reply, site

CREDENTIALS = Credentials("contoso.com", "11111111-2222-3333-4444-555555555555", client_secret="geheim")


@pytest.mark.parametrize(
    ("host", "is_trusted", "code"),
    [
        ("127.0.0.1", False, "graph_certificate_untrusted"),
        ("localhost", True, "graph_certificate_untrusted"),
        ("127.0.0.1", True, "graph_bad_answer"),
    ],
    ids=["nobody vouches for it", "another name", "as it should be"],
)
def test_the_secret_goes_to_who_proves_to_be_it(tmp_path: Path, host: str, is_trusted: bool, code: str) -> None:
    (tmp_path / "other").mkdir()
    with site(tmp_path, "graph.test") as web, site(tmp_path / "other", "graph.test") as other:
        web.replies[("POST", "/contoso.com/oauth2/v2.0/token")] = Reply(400, "no JSON")
        root = f"https://{host}:{web.address.rpartition(':')[2]}"
        where = cloud("global", login=root, graph=root)
        options = Options(ca_file=web.ca if is_trusted else other.ca, patience=0.5)
        with GraphClient(CREDENTIALS, where, options) as graph, pytest.raises(GraphError) as caught:
            graph.sign_in()
    assert caught.value.code == code
    assert bool(web.seen) is (code == "graph_bad_answer")
    assert "geheim" not in f"{caught.value!r} {caught.value} {caught.value.params} {caught.value.__cause__!r}"

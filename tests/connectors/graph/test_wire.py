"""The client against the lab's Graph: signing in, trying again, pages, and everything that goes wrong on the way."""

from __future__ import annotations

import dataclasses
import datetime
import logging
import threading
import time
from typing import Any

import pytest

from connectors.graph import client as client_module
from connectors.graph.client import GraphClient, Options
from connectors.graph.clouds import cloud
from connectors.graph.credentials import Credentials
from connectors.graph.errors import CanceledError, GraphError, StopGraphError, ThrottledGraphError
from connectors.graph.source import connect
from tests.connectors.graph.tenants import QUICK, GraphTenant
from tests.connectors.graph.test_credentials import certificate_pem, key_pem, rsa_key

pytestmark = pytest.mark.wire

DEVICES = "/deviceManagement/managedDevices"


def error_of(client: GraphClient, path: str = "/users", query: dict[str, str] | None = None) -> GraphError:
    with client, pytest.raises(GraphError) as caught:
        list(client.pages(path, query or {"$top": "5"}, permission="User.Read.All"))
    return caught.value


def rows_of(client: GraphClient, path: str = "/users") -> list[dict[str, Any]]:
    return [row for page in client.pages(path, {"$top": "40"}) for row in page["value"]]


# --- signing in ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["secret", "certificate"])
def test_a_token_is_fetched_once(tenant: GraphTenant, kind: str) -> None:
    before = len([one for one in tenant.asked() if "oauth2" in one])
    with GraphClient(getattr(tenant, kind), tenant.cloud, QUICK) as client:
        assert client.get("/users", {"$top": "1"})["value"]
        assert rows_of(client)
    assert len([one for one in tenant.asked() if "oauth2" in one]) == before + 1


def test_a_token_that_is_refused_is_renewed_once(tenant: GraphTenant) -> None:
    with tenant.client() as client:
        assert client.get("/users", {"$top": "1"})["value"]
        tenant.call("POST", "tokens/expire", {})
        assert client.get("/users", {"$top": "1"})["value"]
        with tenant.fault("unauthorized"), pytest.raises(StopGraphError) as caught:
            client.get("/users", {"$top": "1"})
    assert (caught.value.code, caught.value.status) == ("graph_token_refused", 401)


def test_a_token_is_renewed_before_its_end(tenant: GraphTenant, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "TOKEN_MARGIN", 3599.0)
    with tenant.client() as client:
        client.get("/users", {"$top": "1"})
        clock = time.monotonic
        monkeypatch.setattr(time, "monotonic", lambda: clock() + 1801)  # half of its life: no margin is longer
        before = len([one for one in tenant.asked() if "oauth2" in one])
        client.get("/users", {"$top": "1"})
    assert len([one for one in tenant.asked() if "oauth2" in one]) == before + 1


def refused(tenant: GraphTenant, **changes: str) -> GraphError:
    credentials = dataclasses.replace(tenant.secret, **changes)
    with GraphClient(credentials, tenant.cloud, QUICK) as client, pytest.raises(GraphError) as caught:
        client.get("/users")
    return caught.value


SIGN_IN: dict[str, tuple[dict[str, str], str]] = {
    "secret": ({"client_secret": "h1dden"}, "graph_secret_wrong"),
    "application": ({"client_id": "00000000-0000-0000-0000-000000000001"}, "graph_application_unknown"),
    "tenant": ({"tenant_id": "nobody.example"}, "graph_tenant_unknown"),
}


@pytest.mark.parametrize("case", SIGN_IN)
def test_who_may_not_sign_in(tenant: GraphTenant, case: str) -> None:
    changes, code = SIGN_IN[case]
    error = refused(tenant, **changes)
    assert (error.code, error.reaction) == (code, "stop")
    assert error.request_id
    assert "h1dden" not in f"{error!r}{error}{error.params}"


def test_the_end_of_a_secret_and_other_refusals(tenant: GraphTenant) -> None:
    with tenant.fault("secret_expired"):
        assert refused(tenant).code == "graph_secret_expired"
    for number, code in (
        (700024, "graph_clock_skew"),
        (53003, "graph_conditional_access"),
        (1, "graph_sign_in_failed"),
    ):
        with tenant.fault("sign_in", value=number):
            assert refused(tenant).code == code


def test_a_certificate_that_is_not_the_applications(tenant: GraphTenant) -> None:
    key, ends = rsa_key(), datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=1)
    pem = key_pem(key) + certificate_pem(key, ends)
    credentials = Credentials(tenant.row["id"], tenant.row["client_id"], certificate=pem)
    with GraphClient(credentials, tenant.cloud, QUICK) as client, pytest.raises(StopGraphError) as caught:
        client.get("/users")
    assert caught.value.code == "graph_certificate_refused"


def test_another_clouds_graph(tenant: GraphTenant) -> None:
    """The sign-in service does not know Graph's address of another cloud."""
    elsewhere = dataclasses.replace(tenant.cloud, graph=cloud("usGovL4").graph)
    with GraphClient(tenant.secret, elsewhere, QUICK) as client, pytest.raises(StopGraphError) as caught:
        client.get("/users")
    assert caught.value.code == "graph_wrong_cloud"


def test_a_sign_in_service_that_is_down_for_a_moment(tenant: GraphTenant) -> None:
    with tenant.fault("sign_in_down", times=2), tenant.client() as client:
        assert client.get("/users", {"$top": "1"})["value"]


# --- trying again -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "value"),
    [("status", 500), ("status", 502), ("status", 503), ("status", 504), ("drop", ""), ("cut", ""), ("not_json", "")],
)
def test_what_goes_away_is_tried_again(tenant: GraphTenant, kind: str, value: object) -> None:
    with tenant.client() as client:
        whole = rows_of(client)
        with tenant.fault(kind, value=value, times=2):
            assert rows_of(client) == whole


LASTING: dict[str, tuple[str, object, str]] = {
    "a fault of the server": ("status", 500, "graph_server_error"),
    "a server that is away": ("status", 503, "graph_server_error"),
    "no answer": ("drop", "", "graph_dropped"),
    "half an answer": ("cut", "", "graph_dropped"),
    "a proxy's page": ("not_json", "", "graph_bad_answer"),
    "elsewhere": ("redirect", "http://127.0.0.1:9/", "graph_redirected"),
    "conditional access": ("claims", "", "graph_conditional_access"),
}


@pytest.mark.parametrize("case", LASTING)
def test_what_does_not_go_away(tenant: GraphTenant, case: str) -> None:
    kind, value, code = LASTING[case]
    with tenant.fault(kind, value=value):
        error = error_of(tenant.client())
    assert error.code == code
    assert error.params["resource"] == "/users"


def test_throttling_waits_as_long_as_it_is_told(tenant: GraphTenant) -> None:
    tenant.call("POST", "throttle", {"count": 2, "retry_after": "0.4"})
    with tenant.client() as client:
        began = time.monotonic()
        assert client.get("/users", {"$top": "1"})["value"]
        assert time.monotonic() - began >= 0.8
        assert client.throttling.events == 2
        assert client.throttling.seconds == pytest.approx(0.8)


def test_throttling_for_longer_than_our_patience(tenant: GraphTenant) -> None:
    tenant.call("POST", "throttle", {"count": 1, "retry_after": "300.5"})
    began = time.monotonic()
    error = error_of(tenant.client())
    assert time.monotonic() - began < 5
    assert isinstance(error, ThrottledGraphError)
    assert (error.code, error.retry_after) == ("graph_throttled", 300.5)


def test_throttling_that_names_no_time_is_not_answered_by_a_flood(tenant: GraphTenant) -> None:
    tenant.call("POST", "throttle", {"count": 4, "retry_after": "0"})
    with tenant.client() as client:
        assert client.get("/users", {"$top": "1"})["value"]
        assert client.throttling.events == 4


# --- answers ------------------------------------------------------------------------------------------------------


def test_pages_are_followed_with_their_headers(tenant: GraphTenant) -> None:
    with tenant.client() as client:
        group = client.get("/groups", {"$top": "1"})["value"][0]["id"]
        path = f"/groups/{group}/transitiveMembers/microsoft.graph.user"
        query = {"$count": "true", "$top": "3"}
        pages = list(client.pages(path, query, headers={"ConsistencyLevel": "eventual"}))
        ids = [row["id"] for page in pages for row in page["value"]]
    assert len(pages) > 2
    assert len(set(ids)) == len(ids) == pages[0]["@odata.count"]


def test_the_token_goes_to_graph_alone(tenant: GraphTenant) -> None:
    with tenant.fault("foreign_link", value="http://127.0.0.1:9/v1.0/users"):
        assert error_of(tenant.client()).code == "graph_foreign_link"
    with tenant.client() as client:
        root = tenant.cloud.graph
        for link in ("https://graph.example/v1.0/users", root.replace("http:", "https:"), f"{root}.example/", "x", "",
                     root.replace("//", "//user@"), "http://[", f"//{root}"):  # fmt: skip
            with pytest.raises(GraphError) as caught:
                client.follow(link)
            assert caught.value.code == "graph_foreign_link", link


def test_pages_that_never_end(tenant: GraphTenant) -> None:
    with tenant.fault("endless"):
        assert error_of(tenant.client()).code == "graph_bad_answer"


def test_an_answer_beyond_measure(tenant: GraphTenant, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "LARGEST_ANSWER", 1024 * 1024)
    with tenant.fault("huge", value=8):
        assert error_of(tenant.client()).code == "graph_answer_too_large"


def test_silence_ends_a_request(tenant: GraphTenant) -> None:
    options = dataclasses.replace(QUICK, read_timeout=0.3, patience=1.0)
    with tenant.fault("slow", value=2):
        began = time.monotonic()
        error = error_of(tenant.client(options))
        assert time.monotonic() - began < 3
    assert error.code == "graph_timed_out"


def test_nobody_listens(tenant: GraphTenant) -> None:
    nowhere = dataclasses.replace(tenant.cloud, login="http://127.0.0.1:9")
    with GraphClient(tenant.secret, nowhere, QUICK) as client, pytest.raises(GraphError) as caught:
        client.get("/users")
    assert (caught.value.code, caught.value.params["server"]) == ("graph_unreachable", "127.0.0.1:9")


def test_a_listing_has_a_deadline(tenant: GraphTenant) -> None:
    options = dataclasses.replace(QUICK, deadline=0.0)
    assert error_of(tenant.client(options)).code == "graph_deadline_exceeded"


# --- canceling ----------------------------------------------------------------------------------------------------


def canceled_after(tenant: GraphTenant, **fault: Any) -> float:
    """Seconds between the wish to stop and the end."""
    stop = threading.Event()
    wished: list[float] = []

    def wish() -> None:
        wished.append(time.monotonic())
        stop.set()

    with tenant.client(Options(), stop.is_set) as client:
        client.sign_in()
        with tenant.fault(**fault):
            timer = threading.Timer(0.3, wish)
            timer.start()
            with pytest.raises(CanceledError):
                client.get("/users")
            timer.join()
    return time.monotonic() - wished[0]


def test_a_cancel_is_seen_although_the_server_is_silent(tenant: GraphTenant) -> None:
    assert canceled_after(tenant, kind="slow", value=5) < 1


def test_a_cancel_ends_a_wait(tenant: GraphTenant, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "FIRST_WAIT", 20.0)
    assert canceled_after(tenant, kind="status", value=503) < 1


# --- what shows ---------------------------------------------------------------------------------------------------


def test_nothing_secret_is_logged_or_shown(tenant: GraphTenant, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    with tenant.client() as client:
        client.get("/users", {"$top": "1"})
        token = client._token
        with tenant.fault("status", value=500), pytest.raises(GraphError) as caught:
            client.get("/users", {"$filter": "mail eq 'person@contoso.lab'"})
        shown = f"{caplog.text}{client!r}{client.__dict__['_credentials']!r}{caught.value!r}{caught.value.params}"
    assert token
    for secret in (token, tenant.row["client_secret"], "person@contoso.lab"):
        assert secret not in shown


def test_the_proxys_password_does_not_show() -> None:
    options = Options(proxy="http://user:h1dden@127.0.0.1:9")
    assert "h1dden" not in repr(options)
    credentials = Credentials("contoso.com", "00000000-0000-0000-0000-000000000001", "s")
    with connect(credentials, cloud("global"), options) as source, pytest.raises(GraphError) as caught:
        source.user("x")
    assert caught.value.code == "graph_unreachable"
    assert "h1dden" not in f"{caught.value!r}{caught.value}{caught.value.params}"


@pytest.mark.parametrize(
    "options", [Options(ca_file="/nowhere.pem"), Options(proxy="socks5://h1dden@x"), Options(proxy="http://")]
)
def test_options_that_cannot_be_used(tenant: GraphTenant, options: Options) -> None:
    with pytest.raises(StopGraphError) as caught:
        tenant.client(options)
    assert caught.value.code == "graph_bad_settings"
    assert "h1dden" not in str(caught.value)


def test_several_threads_share_a_client(tenant: GraphTenant) -> None:
    found: list[int] = []
    with tenant.client() as client:
        threads = [threading.Thread(target=lambda: found.append(len(rows_of(client, DEVICES)))) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert found == [len(tenant.devices())] * 4

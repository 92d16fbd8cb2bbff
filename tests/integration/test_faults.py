"""Every fault of the lab, through a whole run: a stable code with sentences and a remedy, or a run that survives it.

The tables below are the promise; a kind of fault that stands in none of them fails a test. Devices known before are
never touched by a run that failed, and the next run puts everything right.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from connectors.models import Connector
from connectors.problems import PROBLEMS, problem
from sync.models import SyncRun
from sync.narrative import sentence
from tests.integration.worlds import connector_to, held, in_lab, sync
from tests.labs import DEVICES, Lab, Organization

pytestmark = [pytest.mark.wire, pytest.mark.timeout(60)]

LIST = "Get-MobileDevice"
# Small limits, so that silence is noticed within a test. Seconds.
QUICK: dict[str, Any] = {"connect_timeout": 2.0, "operation_timeout": 1, "read_timeout": 2, "silence": 2.0}

# A fault that stays: fault, code of the run, status of the connector.
FAILS: dict[str, tuple[dict[str, Any], str, str]] = {
    "refuse": ({"kind": "refuse"}, "connection_refused", "disconnected"),
    "hang": ({"kind": "hang"}, "no_answer", "disconnected"),
    "401": ({"kind": "status", "value": 401}, "authentication_failed", "disconnected"),
    "403": ({"kind": "status", "value": 403}, "forbidden", "disconnected"),
    "404": ({"kind": "status", "value": 404}, "endpoint_not_found", "disconnected"),
    "500": ({"kind": "status", "value": 500}, "server_error", "disconnected"),
    "503": ({"kind": "status", "value": 503}, "server_unavailable", "disconnected"),
    "an HTML page": ({"kind": "non_soap"}, "not_powershell", "disconnected"),
    "a redirect": ({"kind": "redirect", "value": "https://owa.contoso.test/"}, "redirected", "disconnected"),
    "drop": ({"kind": "drop"}, "connection_dropped", "disconnected"),
    "too many shells": ({"kind": "too_many_shells"}, "too_many_shells", "connected"),
    "shell not found": ({"kind": "shell_not_found", "cmdlet": LIST}, "shell_lost", "disconnected"),
    "broken pool": ({"kind": "broken_pool", "cmdlet": LIST}, "pool_broken", "disconnected"),
    "drop in mid-stream": (
        {"kind": "drop_mid_stream", "value": 15, "cmdlet": LIST},
        "connection_dropped",
        "disconnected",
    ),
    "malformed CLIXML": (
        {"kind": "malformed_clixml", "value": 15, "cmdlet": LIST},
        "malformed_answer",
        "connected",
    ),
    "no end": ({"kind": "silent_end", "cmdlet": LIST}, "listing_incomplete", "connected"),
    "throttled": ({"kind": "throttle", "value": 2500, "cmdlet": LIST}, "user_load_quota", "connected"),
    "a directory error": ({"kind": "transient", "cmdlet": LIST}, "exchange_transient", "connected"),
    "an error among the devices": (
        {"kind": "error_record", "value": "odd", "cmdlet": LIST},
        "listing_incomplete",
        "connected",
    ),
    "cut short": ({"kind": "truncated", "value": 15, "cmdlet": LIST}, "listing_incomplete", "connected"),
    "a proxy error": ({"kind": "proxy_error", "cmdlet": LIST}, "cmdlet_proxy_failed", "connected"),
    "a command that takes for ever": (
        {"kind": "slow_command", "value": 30, "cmdlet": LIST},
        "no_answer",
        "disconnected",
    ),
}
# A fault that a run lives with, as long as it lasts.
SURVIVED: dict[str, dict[str, Any]] = {
    "one object a Receive": {"kind": "objects_per_receive", "value": 1},
    "slow objects": {"kind": "slow_object", "value": 0.01, "cmdlet": LIST},
    "a slow command": {"kind": "slow_command", "value": 1, "cmdlet": LIST},
    "micro delays": {"kind": "micro_delay", "value": 200, "cmdlet": LIST},
    "another clock, by a quarter of an hour": {"kind": "clock_skew", "value": 900},
}
# Only over TLS.
TLS_FAILS: dict[str, tuple[dict[str, Any], str, str]] = {
    "expired certificate": ({"kind": "expired_certificate"}, "certificate_expired", "disconnected"),
}
# Once is forgiven: what is tried again and then succeeds.
STOPS = {"401", "403", "404", "an HTML page", "a redirect"}
ONCE = {name: fault for name, (fault, _, _) in FAILS.items() if name not in STOPS and name != "refuse"}


@pytest.fixture(scope="module")
def exchange(lab: Lab) -> Organization:
    """One with a single server, so that there is no other to turn to."""
    return lab.organization("2019")


@pytest.fixture(autouse=True)
def settled(lab: Lab, exchange: Organization) -> Iterator[None]:
    """No fault is left behind, and connections are taken again."""
    yield
    lab.reset()
    exchange.hide()
    for one in exchange.servers:
        end = time.monotonic() + 5
        while not _is_open(one.host, one.http_port):
            assert time.monotonic() < end
            time.sleep(0.02)


def _is_open(host: str, port: int) -> bool:
    try:
        with socket.create_connection((host, port), 1) as connection:
            connection.settimeout(0.05)
            return connection.recv(1) != b""
    except TimeoutError:
        return True
    except OSError:
        return False


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """One more try of what is tried again, and no waiting for it."""
    monkeypatch.setattr("sync.runs.RETRY_WAITS", (0.0,))
    monkeypatch.setattr("sync.runs.THROTTLE_WAITS", 1)
    monkeypatch.setattr("sync.runs._Walk._sleep", lambda walk, seconds: None)


def add(lab: Lab, exchange: Organization, fault: dict[str, Any], times: int = 0) -> None:
    server = exchange.servers[0]
    given = dict(fault)
    lab.fault_add(given.pop("kind"), server=server.fqdn, times=times, **given)
    if fault["kind"] == "refuse":
        end = time.monotonic() + 5
        while _is_open(server.host, server.http_port):
            assert time.monotonic() < end
            time.sleep(0.02)


def check_told(run: SyncRun, code: str) -> None:
    """The run's page has a sentence for what happened, what was kept, and what to do; its story ends with it."""
    assert (run.status, run.error_code) == ("failed", code)
    assert code in PROBLEMS
    told = problem(run.error_code, run.error_params)
    for text in (told.title, told.happened, told.kept, told.remedy):
        assert text
        assert "%(" not in text
    last = run.events.last()
    assert last is not None
    assert last.code == "failed"
    assert told.title in sentence(last)


def check_next(connector: Connector, lab: Lab, exchange: Organization) -> None:
    lab.reset()
    if not _is_open(exchange.servers[0].host, exchange.servers[0].http_port):
        time.sleep(0.2)
    run = sync(connector, **QUICK)
    assert (run.status, run.error_code) == ("succeeded", "")
    assert held(connector) == in_lab(exchange)
    connector.refresh_from_db()
    assert (connector.status, connector.last_error_code) == ("connected", "")


@pytest.mark.parametrize(("fault", "code", "status"), FAILS.values(), ids=FAILS.keys())
def test_a_fault_that_stays(lab: Lab, exchange: Organization, fault: dict[str, Any], code: str, status: str) -> None:
    connector = connector_to(exchange, "ntlm")
    assert sync(connector, **QUICK).status == "succeeded"
    before = held(connector)
    add(lab, exchange, fault)
    run = sync(connector, **QUICK)
    check_told(run, code)
    assert run.error_params.get("server", exchange.servers[0].fqdn) == exchange.servers[0].fqdn
    assert held(connector) == before
    assert run.gone == 0
    connector.refresh_from_db()
    assert (connector.status, connector.last_error_code) == (status, code)
    check_next(connector, lab, exchange)


@pytest.mark.parametrize(("fault", "code", "status"), TLS_FAILS.values(), ids=TLS_FAILS.keys())
def test_a_fault_of_tls(lab: Lab, exchange: Organization, fault: dict[str, Any], code: str, status: str) -> None:
    connector = connector_to(exchange, "basic", tls=True)
    add(lab, exchange, fault)
    check_told(sync(connector, **QUICK), code)
    check_next(connector, lab, exchange)


@pytest.mark.parametrize("fault", ONCE.values(), ids=ONCE.keys())
def test_a_fault_that_goes_away(lab: Lab, exchange: Organization, fault: dict[str, Any]) -> None:
    """A run meets it once, tries again, and ends right; nothing is doubled by what was read before it."""
    connector = connector_to(exchange, "ntlm")
    add(lab, exchange, fault, times=1)
    run = sync(connector, **QUICK)
    assert (run.status, run.error_code) == ("succeeded", ""), run.error_params
    assert held(connector) == in_lab(exchange)
    assert (run.observed, run.created) == (DEVICES, DEVICES)


@pytest.mark.parametrize("kind", ["basic", "ntlm"])
@pytest.mark.parametrize("fault", SURVIVED.values(), ids=SURVIVED.keys())
def test_a_fault_to_live_with(lab: Lab, exchange: Organization, fault: dict[str, Any], kind: str) -> None:
    connector = connector_to(exchange, kind)
    add(lab, exchange, fault)
    run = sync(connector, **QUICK)
    assert (run.status, run.error_code) == ("succeeded", "")
    assert not run.events.filter(code__in=["retry", "throttled", "server_failed"]).exists()
    assert held(connector) == in_lab(exchange)
    assert run.throttled_seconds == (pytest.approx(0.2) if fault["kind"] == "micro_delay" else 0.0)


def test_every_kind_of_fault_stands_in_a_table(lab: Lab) -> None:
    tables = [*(row[0] for row in FAILS.values()), *SURVIVED.values(), *(row[0] for row in TLS_FAILS.values())]
    elsewhere = {"ews_error", "ews_fault", "smtp_reply", "smtp_drop"}  # of mail: tests/connectors/mail
    elsewhere |= {"hold", "outcome_lost"}  # of writing: tests/connectors/exchange/test_wire.py
    assert {str(fault["kind"]) for fault in tables} == set(lab.call("GET", "faults")["kinds"]) - elsewhere


# What is no fault of the lab's, and happens all the same


def test_a_wrong_password_is_tried_at_one_server_once(lab: Lab) -> None:
    """Accounts lock out: three servers must not make three failures of one."""
    organization = lab.organization("SE")
    connector = connector_to(organization, "basic", tls=True)
    Connector.objects.filter(pk=connector.pk).update(username=f"{organization.account().user}x")
    run = sync(connector, **QUICK)
    check_told(run, "authentication_failed")
    assert run.events.filter(code="server_failed").count() == 1


@pytest.mark.parametrize("hidden", [(LIST, "Get-ActiveSyncDevice"), ("Get-ExchangeServer",)])
def test_roles_that_are_missing(lab: Lab, exchange: Organization, hidden: tuple[str, ...]) -> None:
    connector = connector_to(exchange, "ntlm")
    exchange.hide(*hidden)
    run = sync(connector, **QUICK)
    check_told(run, "cmdlet_not_granted")
    connector.refresh_from_db()
    assert (connector.status, connector.last_error_code) == ("disconnected", "cmdlet_not_granted")


def test_an_old_name_serves_where_the_new_one_is_not_granted(lab: Lab, exchange: Organization) -> None:
    connector = connector_to(exchange, "ntlm")
    exchange.hide(LIST)
    assert sync(connector, **QUICK).status == "succeeded"


def test_an_account_without_any_role(lab: Lab, exchange: Organization) -> None:
    connector = connector_to(exchange, "basic", tls=True, role="none")
    check_told(sync(connector, **QUICK), "cmdlet_not_granted")


def test_one_server_of_several_is_down(lab: Lab) -> None:
    organization = lab.organization("SE")
    connector = connector_to(organization, "ntlm")
    with lab.fault("status", server=organization.servers[0].fqdn, value=503):
        run = sync(connector, **QUICK)
    assert (run.status, run.exchange_server) == ("succeeded", organization.servers[1].fqdn)
    assert held(connector) == in_lab(organization)
    assert run.events.filter(code="server_failed").count() == 1


def test_a_server_that_breaks_in_the_listing_hands_over_to_the_next(lab: Lab) -> None:
    organization = lab.organization("SE")
    connector = connector_to(organization, "ntlm")
    with lab.fault("drop_mid_stream", server=organization.servers[0].fqdn, cmdlet=LIST, value=10):
        run = sync(connector, **QUICK)
    assert (run.status, run.exchange_server) == ("succeeded", organization.servers[1].fqdn)
    assert (run.observed, run.created) == (len(in_lab(organization)),) * 2


def test_an_emptied_organisation_is_not_believed_at_once(fresh_lab: Callable[..., Lab]) -> None:
    organization = fresh_lab("name=Emptied,version=2019,devices=30").organization("Emptied")
    connector = connector_to(organization, "basic", tls=True)
    sync(connector, **QUICK)
    organization.devices_remove(30)
    assert sync(connector, **QUICK).gone == 0
    assert len(held(connector)) == 30
    assert sync(connector, **QUICK).gone == 30

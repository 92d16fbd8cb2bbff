"""The client against the lab, over the wire: every way to sign in, every version, every fault."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pypsrp.powershell import PowerShell, RunspacePool
from pypsrp.wsman import WSMan

from connectors.exchange import opath, transport
from connectors.exchange.client import Options
from connectors.exchange.cmdlets import Family, Identity
from connectors.exchange.errors import (
    CanceledError,
    ExchangeError,
    NotFoundError,
    NotPermittedError,
    ThrottledError,
    TransientError,
)
from connectors.exchange.records import MobileDeviceRecord
from connectors.exchange.session import Session, connect
from lab.exchange.wsman import Limits
from tests.connectors.exchange.organizations import PASSWORD, Organization, organization

pytestmark = pytest.mark.wire
VERSIONS = ("2010", "2013", "2016", "2019", "SE")
SIGN_INS = [(kind, tls) for kind in ("basic", "ntlm", "negotiate") for tls in (False, True)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("authority")


@pytest.fixture(scope="module")
def shared(folder: Path) -> Iterator[Organization]:
    """One Exchange 2016 for all tests that leave it as it was; see `exchange`."""
    with organization(folder) as found:
        yield found


@pytest.fixture
def exchange(shared: Organization) -> Iterator[Organization]:
    yield shared
    if shared.faults.all():
        shared.settle()


def records(client: Any, **arguments: Any) -> list[MobileDeviceRecord]:
    return [page.parse(wire) for page in client.devices(**arguments) for wire in page.objects]


def listed(exchange: Organization, options: Options | None = None, **how: Any) -> list[MobileDeviceRecord]:
    tls = how.pop("tls", False)
    account = exchange.account(**how)
    with connect(exchange.endpoint(tls=tls), account, options or exchange.options) as client:
        return records(client)


def failure(exchange: Organization, **how: Any) -> ExchangeError:
    with pytest.raises(ExchangeError) as caught:
        listed(exchange, **how)
    return caught.value


def known(exchange: Organization) -> set[str]:
    """What the organisation's cmdlet lists: in 2010 there is only the one that leaves out what is no ActiveSync."""
    is_mobile = exchange.store.version.has_mobile_names
    return {d.device_id for d in exchange.store.devices.values() if is_mobile or d.client_type == "EAS"}


# Signing in


@pytest.mark.parametrize(("kind", "tls"), SIGN_INS)
def test_every_sign_in(exchange: Organization, kind: str, tls: bool) -> None:
    found = listed(exchange, kind=kind, tls=tls)
    assert len(found) == len(exchange.store.devices)
    assert {device.device_id for device in found} == known(exchange)
    assert exchange.open_shells == 0


@pytest.mark.parametrize(("kind", "tls"), SIGN_INS)
def test_a_wrong_password(exchange: Organization, kind: str, tls: bool) -> None:
    error = failure(exchange, kind=kind, tls=tls, password="wrong")
    assert error.code == "authentication_failed"
    assert PASSWORD not in repr(error)


@pytest.mark.parametrize(
    ("kind", "offered"), [("basic", ("Negotiate", "NTLM")), ("ntlm", ("Basic",)), ("negotiate", ("Basic",))]
)
def test_a_sign_in_that_is_not_offered(folder: Path, kind: str, offered: tuple[str, ...]) -> None:
    with organization(folder, devices=1, authentications=offered) as exchange:
        assert failure(exchange, kind=kind).code == "authentication_not_offered"


def test_tls_required(folder: Path) -> None:
    with organization(folder, devices=1, require_tls=True) as exchange:
        assert failure(exchange).code == "forbidden"
        assert len(listed(exchange, tls=True)) == 1


def test_the_labs_authority_is_needed(exchange: Organization) -> None:
    assert failure(exchange, tls=True, options=replace(exchange.options, ca_file=None)).code == "certificate_untrusted"


def test_another_servers_name(exchange: Organization) -> None:
    endpoint = replace(exchange.endpoint(tls=True), fqdn="ex99.e2016.test")
    with pytest.raises(ExchangeError) as caught, connect(endpoint, exchange.account(), exchange.options):
        pass
    assert caught.value.code == "certificate_wrong_name"


def test_an_account_that_may_only_read(exchange: Organization) -> None:
    assert len(listed(exchange, role="viewer")) == len(exchange.store.devices)


def test_an_account_without_roles(exchange: Organization) -> None:
    error = failure(exchange, role="none")
    assert isinstance(error, NotPermittedError)
    assert error.code == "cmdlet_not_granted"


# What is read


@pytest.mark.parametrize("version", VERSIONS)
def test_every_version(folder: Path, version: str) -> None:
    with organization(folder, version, devices=40) as exchange, ExitStack() as stack:
        client = stack.enter_context(connect(exchange.endpoint(), exchange.account(), exchange.options))
        assert isinstance(client, Session)
        selected = records(client)
        assert {device.device_id for device in selected} == known(exchange)
        assert all(device.mailbox and device.access_state and device.when_changed for device in selected)
        assert client.selects
        assert client.family is (Family.ACTIVE_SYNC if version == "2010" else Family.MOBILE)
        (server,) = client.servers()
        assert (server.fqdn, server.version.product) == (exchange.store.servers[0].fqdn, version)
        assert server.is_client_access_server
        assert client.version == server.version
        assert client.organization().name == exchange.store.name
        assert client.organization_settings().default_access_level == "Allow"
        # Whole objects read as the selected properties do.
        whole = listed(exchange, replace(exchange.options, select_properties=False))
        assert {device.guid: device for device in whole} == {device.guid: device for device in selected}


def test_the_same_devices_as_plain_pypsrp(exchange: Organization) -> None:
    endpoint = exchange.endpoint()
    wsman = WSMan(
        "127.0.0.1", port=endpoint.port, path="PowerShell", ssl=False, auth="basic", encryption="never",
        username=exchange.account().username, password=PASSWORD,
    )  # fmt: skip
    with wsman, RunspacePool(wsman, configuration_name="Microsoft.Exchange") as pool:
        with PowerShell(pool) as script:  # so that it sees the other domains of the forest, as we do
            script.add_cmdlet("Set-ADServerSettings").add_parameter("ViewEntireForest", True).invoke()
        with PowerShell(pool) as script:
            script.add_cmdlet("Get-MobileDevice").add_parameter("ResultSize", "Unlimited")
            stock = {str(item.adapted_properties["Guid"]): item.adapted_properties for item in script.invoke()}
    ours = {str(device.guid): device for device in listed(exchange)}
    assert ours.keys() == stock.keys()
    for guid, device in ours.items():
        plain = stock[guid]
        assert device.identity == str(plain["Identity"])
        assert (device.device_id, device.device_model) == (plain["DeviceId"], plain["DeviceModel"] or "")
        assert device.user_display_name == (plain["UserDisplayName"] or "")


def test_a_filter(exchange: Organization) -> None:
    with connect(exchange.endpoint(), exchange.account(), exchange.options) as client:
        everything = records(client)
        states = {device.access_state for device in everything}
        for state in states:
            expected = {device.guid for device in everything if device.access_state == state}
            assert {device.guid for device in records(client, filter=opath.devices_in_state(state))} == expected
        times = sorted(device.first_sync_time for device in everything if device.first_sync_time)
        middle = times[len(times) // 2]
        later = records(client, filter=opath.devices_first_seen_after(middle))
        assert {d.guid for d in later} == {
            d.guid for d in everything if d.first_sync_time and d.first_sync_time > middle
        }


def test_an_unchanged_device_has_the_same_digest_in_another_session(exchange: Organization) -> None:
    def digests() -> list[bytes]:
        with connect(exchange.endpoint(), exchange.account(), exchange.options) as client:
            return [wire.digest for page in client.devices() for wire in page.objects]

    first = digests()
    assert len(set(first)) == len(exchange.store.devices)
    assert digests() == first


def test_other_readings(exchange: Organization) -> None:
    mailbox = next(iter(exchange.store.devices.values())).mailbox
    with connect(exchange.endpoint(), exchange.account(), exchange.options) as client:
        assert isinstance(client, Session)
        identity = Identity(mailbox.smtp)
        statistics = client.device_statistics(identity)
        assert {found.device_id for found in statistics} <= known(exchange)
        assert statistics
        assert client.cas_mailbox(identity).active_sync_enabled
        recipient = client.recipient(identity)
        assert any(address.startswith("SMTP:") for address in recipient.email_addresses)
        assert {rule.query_string for rule in client.device_access_rules()} == {
            rule.query for rule in exchange.store.rules
        }
        assert client.device_classes()


def test_what_is_not_there(exchange: Organization) -> None:
    """An error of its own, and the session goes on."""
    with connect(exchange.endpoint(), exchange.account(), exchange.options) as client:
        assert isinstance(client, Session)
        with pytest.raises(NotFoundError) as caught:
            client.cas_mailbox(Identity("nobody-of-that-name"))
        assert caught.value.request_id
        assert client.organization().name == exchange.store.name


# Faults. What is not named raises in the listing; `opening` faults are there from the start.

FAULTS: dict[str, tuple[dict[str, Any], str]] = {
    "hang": ({"kind": "hang"}, "no_answer"),
    "status 401": ({"kind": "status", "value": 401}, "authentication_failed"),
    "status 403": ({"kind": "status", "value": 403}, "forbidden"),
    "status 404": ({"kind": "status", "value": 404}, "endpoint_not_found"),
    "status 500": ({"kind": "status", "value": 500}, "server_error"),
    "status 503": ({"kind": "status", "value": 503}, "server_unavailable"),
    "non_soap": ({"kind": "non_soap"}, "not_powershell"),
    "redirect": ({"kind": "redirect", "value": "https://owa.contoso.test/"}, "redirected"),
    "drop": ({"kind": "drop"}, "connection_dropped"),
    "too_many_shells": ({"kind": "too_many_shells"}, "too_many_shells"),
    "shell_not_found": ({"kind": "shell_not_found", "cmdlet": "Get-MobileDevice"}, "shell_lost"),
    "broken_pool": ({"kind": "broken_pool", "cmdlet": "Get-MobileDevice"}, "pool_broken"),
    "drop_mid_stream": (
        {"kind": "drop_mid_stream", "value": 20, "cmdlet": "Get-MobileDevice"},
        "connection_dropped",
    ),
    "malformed_clixml": (
        {"kind": "malformed_clixml", "value": 20, "cmdlet": "Get-MobileDevice"},
        "malformed_answer",
    ),
    "silent_end": ({"kind": "silent_end", "cmdlet": "Get-MobileDevice"}, "listing_incomplete"),
    "throttle": ({"kind": "throttle", "value": 2500, "cmdlet": "Get-MobileDevice"}, "user_load_quota"),
    "transient": ({"kind": "transient", "cmdlet": "Get-MobileDevice"}, "exchange_transient"),
    "error_record": ({"kind": "error_record", "value": "odd", "cmdlet": "Get-MobileDevice"}, "listing_incomplete"),
    "truncated": ({"kind": "truncated", "value": 20, "cmdlet": "Get-MobileDevice"}, "listing_incomplete"),
    "proxy_error": ({"kind": "proxy_error", "cmdlet": "Get-MobileDevice"}, "cmdlet_proxy_failed"),
    "slow_command": ({"kind": "slow_command", "value": 30, "cmdlet": "Get-MobileDevice"}, "no_answer"),
}


@pytest.mark.parametrize("kind", ["basic", "ntlm"])
@pytest.mark.parametrize(("fault", "code"), FAULTS.values(), ids=FAULTS.keys())
def test_every_fault_has_its_code(exchange: Organization, fault: dict[str, Any], code: str, kind: str) -> None:
    exchange.fault(**fault)
    found = failure(exchange, kind=kind, options=replace(exchange.options, read_timeout=2, silence=2))
    assert found.code == code
    assert found.server == exchange.servers[0].fqdn


HARMLESS: dict[str, dict[str, Any]] = {
    "one object a Receive": {"kind": "objects_per_receive", "value": 1},
    "slow objects": {"kind": "slow_object", "value": 0.005, "cmdlet": "Get-MobileDevice"},
    "a slow command": {"kind": "slow_command", "value": 1.5, "cmdlet": "Get-MobileDevice"},
    "another's clock": {"kind": "clock_skew", "value": 900},
}


@pytest.mark.parametrize("kind", ["basic", "ntlm"])
@pytest.mark.parametrize("fault", HARMLESS.values(), ids=HARMLESS.keys())
def test_what_is_only_slow_or_odd_is_read_to_the_end(exchange: Organization, fault: dict[str, Any], kind: str) -> None:
    exchange.fault(**fault)
    assert len(listed(exchange, kind=kind)) == len(exchange.store.devices)


@pytest.mark.parametrize("kind", ["basic", "ntlm"])
def test_refused_connections(exchange: Organization, kind: str) -> None:
    exchange.refuse()
    assert failure(exchange, kind=kind).code == "connection_refused"


def test_an_expired_certificate(exchange: Organization) -> None:
    exchange.fault("expired_certificate")
    assert failure(exchange, tls=True).code == "certificate_expired"


def test_an_asked_for_wait_is_told(exchange: Organization) -> None:
    exchange.fault("throttle", 2500, "Get-MobileDevice")
    error = failure(exchange)
    assert isinstance(error, ThrottledError)
    assert error.retry_after == 2.5


def test_micro_delays_are_counted(exchange: Organization) -> None:
    exchange.fault("micro_delay", 200, "Get-MobileDevice")
    with connect(exchange.endpoint(), exchange.account(), exchange.options) as client:
        assert len(records(client)) == len(exchange.store.devices)
        assert client.throttling.events == 1
        assert client.throttling.seconds == pytest.approx(0.2)


@pytest.mark.parametrize("version", ["2010", "2016", "SE"])
def test_too_many_sessions(folder: Path, version: str) -> None:
    """In each version's own words."""
    with (
        organization(folder, version, devices=1, limits=Limits(shells_per_user=2)) as exchange,
        ExitStack() as stack,
    ):
        for _ in range(2):
            stack.enter_context(connect(exchange.endpoint(), exchange.account(), exchange.options))
        error = failure(exchange)
        assert (error.code, isinstance(error, ThrottledError)) == ("too_many_shells", True)


def test_a_session_that_was_taken_away(exchange: Organization) -> None:
    with connect(exchange.endpoint(), exchange.account(), exchange.options) as client:
        exchange.servers[0].powershell.close()
        with pytest.raises(TransientError) as caught:
            client.organization()
    assert caught.value.code == "shell_lost"


# Time, cancel and encryption


@pytest.mark.parametrize(("kind", "tls"), [("basic", False), ("ntlm", False), ("ntlm", True)])
@pytest.mark.parametrize("fault", [("slow_object", 0.05), ("slow_command", 60), ("hang", "")])
def test_cancel(exchange: Organization, kind: str, tls: bool, fault: tuple[str, object]) -> None:
    """In mid-stream, before the first object, and with a server that hangs: within seconds, no shell left."""
    wants_stop = threading.Event()
    with connect(
        exchange.endpoint(tls=tls), exchange.account(kind), exchange.options, should_stop=wants_stop.is_set
    ) as client:
        exchange.fault(fault[0], fault[1], times=1 if fault[0] == "hang" else 0)
        threading.Timer(0.4, wants_stop.set).start()
        started = time.monotonic()
        with pytest.raises(CanceledError):
            records(client)
    assert time.monotonic() - started < 5
    assert exchange.open_shells == 0


@pytest.mark.parametrize(("kind", "tls"), SIGN_INS)
def test_the_connection_is_lost_between_commands(exchange: Organization, kind: str, tls: bool) -> None:
    """The server closes what is idle. After a pause the client starts over by itself, and the shell goes on."""
    with connect(exchange.endpoint(tls=tls), exchange.account(kind), exchange.options) as client:
        assert isinstance(client, Session)
        for listener in exchange.servers[0]._listeners:
            listener.drop_connections()
        client._channel._connection.transport._used_at -= transport.IDLE_RESET + 1
        assert client.organization().name == exchange.store.name
        assert exchange.servers[0].powershell.open_shells == 1


@pytest.mark.parametrize("kind", ["basic", "ntlm"])
def test_leaving_a_listing_leaves_the_session_usable(exchange: Organization, kind: str) -> None:
    exchange.fault("slow_object", 0.01, "Get-MobileDevice")
    exchange.fault("objects_per_receive", 2)
    with connect(exchange.endpoint(), exchange.account(kind), exchange.options) as client:
        started = time.monotonic()
        for _ in client.devices():
            break
        assert client.organization().name == exchange.store.name
        assert time.monotonic() - started < 3


def test_the_deadline(exchange: Organization) -> None:
    exchange.fault("slow_object", 0.05, "Get-MobileDevice")
    assert failure(exchange, options=replace(exchange.options, deadline=0.5)).code == "deadline_exceeded"


def test_many_sessions_at_once(exchange: Organization) -> None:
    """A pool a thread."""
    counts: list[int] = []

    def work(kind: str) -> Callable[[], None]:
        return lambda: counts.append(len(listed(exchange, kind=kind)))

    threads = [threading.Thread(target=work(kind)) for kind in ("basic", "ntlm", "negotiate", "ntlm")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert counts == [len(exchange.store.devices)] * 4

"""The small pure parts: versions, order of servers, filters, throttling texts, commands."""

from __future__ import annotations

import datetime
from dataclasses import dataclass

import pytest

from connectors.exchange import cmdlets, failover, opath, throttle, versions
from connectors.exchange.cmdlets import NULL, Command, Family, Identity

NOW = datetime.datetime(2026, 11, 24, 12, 0, tzinfo=datetime.UTC)


@pytest.mark.parametrize(
    ("text", "product", "numbers"),
    [
        ("Version 14.3 (Build 123.4)", "2010", (14, 3, 123, 4)),
        ("Version 15.0 (Build 1497.2)", "2013", (15, 0, 1497, 2)),
        ("Version 15.1 (Build 2507.6)", "2016", (15, 1, 2507, 6)),
        ("Version 15.2 (Build 986.5)", "2019", (15, 2, 986, 5)),
        ("Version 15.2 (Build 2561.9)", "2019", (15, 2, 2561, 9)),
        ("Version 15.2 (Build 2562.17)", "SE", (15, 2, 2562, 17)),
        ("15.02.1748.010", "2019", (15, 2, 1748, 10)),
        ("Version 8.3 (Build 83.6)", "", (8, 3, 83, 6)),
        ("Version 16.0 (Build 1.0)", "", (16, 0, 1, 0)),
        ("newest", "", (0, 0, 0, 0)),
        ("", "", (0, 0, 0, 0)),
    ],
)
def test_versions(text: str, product: str, numbers: tuple[int, ...]) -> None:
    version = versions.parse(text)
    assert (version.text, version.product) == (text, product)
    assert (version.major, version.minor, version.build, version.revision) == numbers


@dataclass(frozen=True)
class Server:
    fqdn: str
    priority: int = 100
    last_answered_at: datetime.datetime | None = None
    last_error_at: datetime.datetime | None = None


def ago(minutes: int) -> datetime.datetime:
    return NOW - datetime.timedelta(minutes=minutes)


@pytest.mark.parametrize(
    ("servers", "expected"),
    [
        ([], []),
        ([Server("b"), Server("a")], ["a", "b"]),
        ([Server("b", 1), Server("a", 2)], ["b", "a"]),
        ([Server("a", 1, last_error_at=ago(1)), Server("b", 2)], ["b", "a"]),
        # It answered since, or has rested long enough: back to its place.
        ([Server("a", 1, ago(0), ago(1)), Server("b", 2)], ["a", "b"]),
        ([Server("a", 1, last_error_at=ago(11)), Server("b", 2)], ["a", "b"]),
        # All failed lately: the one that failed longest ago is the likeliest to be back.
        ([Server("a", 1, last_error_at=ago(1)), Server("b", 2, last_error_at=ago(5))], ["b", "a"]),
    ],
)
def test_order_of_servers(servers: list[Server], expected: list[str]) -> None:
    assert [server.fqdn for server in failover.order(servers, now=NOW)] == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("Quarantined", "'Quarantined'"),
        ("O'Neil", "'O''Neil'"),
        ("' -or 1 -eq 1 -or '", "''' -or 1 -eq 1 -or '''"),
        (True, "$true"),
        (None, "$null"),
        (16, "16"),
        (NOW, "'2026-11-24 12:00:00Z'"),
        (NOW.astimezone(datetime.timezone(datetime.timedelta(hours=2))), "'2026-11-24 12:00:00Z'"),
    ],
)
def test_literals(value: opath.Value, expected: str) -> None:
    assert opath.literal(value) == expected


def test_filters() -> None:
    assert opath.devices_in_state("Quarantined") == "DeviceAccessState -eq 'Quarantined'"
    assert opath.some(
        opath.devices_in_state("Quarantined", "DeviceDiscovery"), opath.devices_first_seen_after(NOW)
    ) == (
        "((DeviceAccessState -eq 'Quarantined') -or (DeviceAccessState -eq 'DeviceDiscovery'))"
        " -or (FirstSyncTime -gt '2026-11-24 12:00:00Z')"
    )


@pytest.mark.parametrize(
    "make",
    [
        lambda: opath.compare("WhenChangedUTC", "gt", NOW),
        lambda: opath.compare("DeviceId -or 1", "eq", "x"),
        lambda: opath.literal("a\nb"),
        lambda: opath.literal("O\u2019Neil"),
        lambda: opath.literal(datetime.datetime(2026, 1, 1)),  # noqa: DTZ001 - what is refused
        lambda: opath.every(),
    ],
)
def test_filters_that_are_refused(make: object) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        make()  # type: ignore[operator]


SHELLS_2010 = (
    "This user is allowed a maximum of 18 concurrent shells, which has been exceeded. Close existing shells or raise "
    "the quota for this user."
)
SHELLS_2019 = (
    "Fail to create a runspace because you have exceeded the maximum number of connections allowed : 18 for the "
    "policy party : MaxConcurrency. Please close existing runspace and try again."
)
LOAD = (
    "The user load quota of 1000 requests per 2 seconds has been exceeded. Send future requests at a slower rate or "
    "raise the quota for this user. The next request from this user will not be approved for at least 1500 milliseconds"
)


@pytest.mark.parametrize(
    ("text", "code", "wait"),
    [
        (SHELLS_2010, "too_many_shells", 60),
        (SHELLS_2019, "too_many_shells", 60),
        (
            "The maximum number of concurrent shells a user can remotely open: maximum number of shells.",
            "too_many_shells",
            60,
        ),
        (LOAD, "user_load_quota", 1.5),
        ("user load quota of 1 .. for at least 0 milliseconds", "user_load_quota", throttle.SHORTEST_WAIT),
        ("user load quota of 1 .. for at least 99999999999 milliseconds", "user_load_quota", throttle.LONGEST_WAIT),
        ("The maximum number of concurrent commands per shell has been exceeded.", "too_many_commands", 30),
        ("The server is too busy.", "server_busy", 30),
    ],
)
def test_limits_are_recognised(text: str, code: str, wait: float) -> None:
    limit = throttle.recognised(text)
    assert limit is not None
    assert (limit.code, limit.retry_after) == (code, wait)


@pytest.mark.parametrize("text", ["", "Access is denied.", "The quota of the mailbox is 2 GB."])
def test_other_texts_are_no_limits(text: str) -> None:
    assert throttle.recognised(text) is None


def test_micro_delays() -> None:
    warning = "Micro delay applied. Actual delayed: 1250 msecs, Enforced: True, Capped delay: 5000 msecs"
    assert throttle.micro_delay(warning) == 1.25
    assert throttle.micro_delay("There are more results available") is None


@pytest.mark.parametrize("text", ["", "  ", "*", "a*", "\t"])
def test_an_identity_names_one_object(text: str) -> None:
    with pytest.raises(ValueError, match="names"):
        Identity(text)


def test_an_identity_is_text() -> None:
    with pytest.raises(TypeError):
        Identity(None)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("Get-MobileDevice", {"Identity": None}),
        ("Get-MobileDevice", {"Identity": ""}),
        ("Get-MobileDevice", {"Identity": "plain text"}),
        ("Get-MobileDevice", {"Identity": NULL}),
        ("Get-MobileDeviceStatistics", {"Mailbox": None}),
        ("Get-MobileDevice", {"Filter": None}),
    ],
)
def test_no_null_and_no_unchecked_identity_is_ever_sent(name: str, parameters: dict[str, object]) -> None:
    with pytest.raises(TypeError):
        Command(name, parameters)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "name", ["Get-MobileDevice | Remove-MobileDevice", "get_mobile", "", "Get-Mobile;Device", "ls"]
)
def test_a_cmdlets_name_is_only_a_name(name: str) -> None:
    with pytest.raises(ValueError, match="cmdlet"):
        Command(name)


def test_names_by_family() -> None:
    assert cmdlets.list_mobile_devices(Family.MOBILE).name == "Get-MobileDevice"
    assert cmdlets.list_mobile_devices(Family.ACTIVE_SYNC).name == "Get-ActiveSyncDevice"
    statistics = cmdlets.get_mobile_device_statistics(Family.ACTIVE_SYNC, mailbox=Identity("a"))
    assert statistics.name == "Get-ActiveSyncDeviceStatistics"


def test_listings_are_unlimited() -> None:
    assert cmdlets.list_mobile_devices(Family.MOBILE).parameters == {"ResultSize": "Unlimited"}
    with pytest.raises(ValueError, match="filter"):
        cmdlets.list_mobile_devices(Family.MOBILE, filter=" ")


def test_switches_only_when_on() -> None:
    assert cmdlets.switches(ActiveSync=True, RestApi=False) == {"ActiveSync": True}


def test_personal_entries_move_in_one_call() -> None:
    command = cmdlets.set_cas_mailbox(Identity("carlos"), allowed_add=("A1",), blocked_remove=("A1",))
    assert command.parameters == {
        "Identity": "carlos",
        "ActiveSyncAllowedDeviceIDs": {"Add": ["A1"]},
        "ActiveSyncBlockedDeviceIDs": {"Remove": ["A1"]},
        "Confirm": False,
    }
    with pytest.raises(ValueError, match="entry"):
        cmdlets.set_cas_mailbox(Identity("carlos"))


def test_a_commands_repr_shows_no_values() -> None:
    assert "carlos" not in repr(cmdlets.get_cas_mailbox(Identity("carlos")))

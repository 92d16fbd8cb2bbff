"""Organisations by seed and size: the same each time, at once, and with everything odd that must survive."""

from __future__ import annotations

import hashlib
import re
import time
from collections import Counter

import pytest

from lab.exchange import people
from lab.exchange.access import Claim, evaluate
from lab.exchange.scenario import build
from lab.exchange.store import Store
from tests.lab.sessions import VERSIONS, Session, make_store


def fingerprint(store: Store) -> str:
    """Of every object that the cmdlets show."""
    digest = hashlib.sha256()
    one = Session(store).entire_forest()
    for name in (
        "Get-ActiveSyncDevice", "Get-CASMailbox", "Get-ExchangeServer", "Get-ActiveSyncDeviceAccessRule",
        "Get-ActiveSyncMailboxPolicy", "Get-ActiveSyncOrganizationSettings", "Get-ActiveSyncDeviceClass",
    ):  # fmt: skip
        for row in one.run(name, ResultSize="Unlimited").rows if name in PAGED else one.run(name).rows:
            digest.update(repr(row).encode())
    return digest.hexdigest()


PAGED = ("Get-ActiveSyncDevice", "Get-CASMailbox")


@pytest.mark.parametrize("version", VERSIONS)
def test_the_same_seed_makes_the_same_organisation(version: str) -> None:
    assert fingerprint(make_store(version, 120)) == fingerprint(make_store(version, 120))


def test_another_seed_or_domain_makes_another() -> None:
    servers = ["ex01.x.test"]
    found = {
        fingerprint(build(version="SE", name="X", domain=domain, devices=50, seed=seed, servers=servers))
        for domain, seed in (("x.test", 1), ("x.test", 2), ("y.test", 1))
    }
    assert len(found) == 3


@pytest.mark.parametrize("devices", [0, 1, 300])
def test_as_many_devices_as_asked_for(devices: int) -> None:
    assert len(make_store(devices=devices).devices) == devices


@pytest.mark.slow
def test_a_hundred_thousand_devices_take_less_than_twenty_seconds() -> None:
    began = time.perf_counter()
    store = make_store(devices=100_000)
    assert time.perf_counter() - began < 20
    assert len(store.devices) == 100_000


@pytest.fixture(scope="module")
def store() -> Store:
    return make_store(devices=3000)


def test_people_are_told_apart(store: Store) -> None:
    for field in ("sam", "upn", "smtp", "sid", "dn", "canonical"):
        values = Counter(str(getattr(mailbox, field)).lower() for mailbox in store.mailboxes.values())
        assert values.most_common(1)[0][1] == 1, field
    shared = Counter(mailbox.display_name for mailbox in store.mailboxes.values())
    assert shared.most_common(1)[0][1] > 1


def test_people_are_as_in_real_directories(store: Store) -> None:
    mailboxes = list(store.mailboxes.values())
    assert any(m.domain == store.child_domain for m in mailboxes)
    assert any(m.smtp != m.upn for m in mailboxes)
    assert any(m.aliases for m in mailboxes)
    names = "".join(m.display_name for m in mailboxes)
    for script in ("[一-鿿]", "[ぁ-ゟ]", "[а-я]", "[α-ω]", "[א-ת]", "[ء-ي]", "ö", "'"):
        assert re.search(script, names), script


def test_how_many_devices_people_have(store: Store) -> None:
    counts = Counter(len(store.devices_of(mailbox)) for mailbox in store.mailboxes.values())
    assert set(counts) == {0, 1, 2, 3}
    assert counts[1] > counts[2] > counts[3]


def test_one_device_id_under_two_mailboxes(store: Store) -> None:
    owners = Counter(device.device_id for device in store.devices.values())
    assert 5 < sum(count == 2 for count in owners.values()) < 60
    assert max(owners.values()) == 2


def test_every_odd_text_is_there(store: Store) -> None:
    names = {device.friendly_name for device in store.devices.values()}
    assert set(people.ODD) <= names
    assert any("§" in device.name for device in store.devices.values())


FORMS = {
    "SamsungDevice": r"SEC[0-9A-F]{13}",
    "Android": r"androidc\d{10}",
    "iPad": r"[A-Z0-9]{26}",
    "iPhone": r"[A-Z0-9]{26}|Appl[A-Z0-9]{12}",
    "Outlook": r"[0-9a-f]{32}",
    "WindowsMail": r"[0-9a-f]{32}",
    "BlackBerry": r"androidc\d{10}",
}


def test_ids_have_their_clients_form(store: Store) -> None:
    owners = Counter(device.device_id for device in store.devices.values())
    for device in store.devices.values():
        if owners[device.device_id] == 1:
            assert re.fullmatch(FORMS[device.device_type], device.device_id), device.name


def test_states_are_those_that_exchange_would_have_decided(store: Store) -> None:
    """But for what was decided under another default in the past, and who is still being discovered."""
    odd = 0
    for device in store.devices.values():
        claim = Claim(device.device_id, device.device_type, device.model, device.os, device.user_agent)
        decision = evaluate(store, device.mailbox, claim)
        if (decision.state, decision.reason, decision.rule) != (device.state, device.reason, device.rule):
            assert (device.state, device.reason) in (("Quarantined", "Global"), ("DeviceDiscovery", "Global")) or (
                device.device_id in device.mailbox.allowed + device.mailbox.blocked
            )
            odd += 1
    assert odd < len(store.devices) / 10
    assert {device.state for device in store.devices.values()} == {
        "Allowed", "Blocked", "Quarantined", "DeviceDiscovery",
    }  # fmt: skip


@pytest.mark.parametrize("version", VERSIONS)
def test_phones_fit_the_version(version: str) -> None:
    store = make_store(version, devices=400)
    clients = {device.client_type for device in store.devices.values()}
    protocols = {device.client_version for device in store.devices.values() if device.client_type == "EAS"}
    if store.version.rank < 2016:
        assert (clients, protocols) == ({"EAS"}, {"14.1"})
    else:
        assert (clients, protocols) == ({"EAS", "REST"}, {"14.1", "16.1"})


def test_an_unknown_version_is_refused() -> None:
    with pytest.raises(ValueError, match="known: 2010, 2013, 2016, 2019, SE"):
        make_store("2007")

"""A full sync over the wire: every version of Exchange and every way to sign in, against what a plain client lists.

The plain client is pypsrp as it is shipped, signed in by Basic over TLS, with none of our code in between.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from lab import kdc
from sync.models import MobileDevice
from tests.integration.worlds import connector_to, held, in_lab, sync
from tests.lab.remote import ask
from tests.labs import Lab, Organization

pytestmark = [pytest.mark.wire, pytest.mark.timeout(60)]

VERSIONS = ("2010", "2013", "2016", "2019", "SE")
PRODUCT = {"2010": "Version 14.", "2013": "Version 15.0", "2016": "Version 15.1", "2019": "Version 15.2"}
SIGN_INS = [(kind, tls) for kind in ("basic", "ntlm", "negotiate") for tls in (False, True)]
WAYS = [pytest.param(kind, tls, id=f"{kind} over {'https' if tls else 'http'}") for kind, tls in SIGN_INS]


# Asked once an organisation, whose devices these tests leave as they are.
_listings: dict[tuple[str, str], dict[str, tuple[str, str]]] = {}


def plain(organization: Organization) -> dict[str, tuple[str, str]]:
    """DeviceId and access state by guid, as a separate plain script sees them."""
    key = (organization.lab.state["control"], organization.name)
    if key not in _listings:
        name = "Get-ActiveSyncDevice" if organization.version == "2010" else "Get-MobileDevice"
        found = ask(organization, name, ResultSize="Unlimited")
        assert not found.had_errors
        _listings[key] = {
            str(_value(one, "Guid")).lower(): (_value(one, "DeviceId"), str(_value(one, "DeviceAccessState")))
            for one in found.output
        }
    return _listings[key]


def _value(found: Any, name: str) -> Any:
    return found.adapted_properties.get(name, found.extended_properties.get(name))


def table(organization_id: int) -> dict[str, tuple[str, str]]:
    rows = MobileDevice.objects.filter(organization_id=organization_id, gone_at=None)
    return {str(guid): (name, state) for guid, name, state in rows.values_list("guid", "device_id", "access_state")}


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(("kind", "tls"), WAYS)
def test_count_and_devices_are_those_of_a_plain_client(lab: Lab, version: str, kind: str, tls: bool) -> None:
    organization = lab.organization(version)
    connector = connector_to(organization, kind, tls=tls)

    run = sync(connector)
    expected = plain(organization)
    assert (run.status, run.error_code) == ("succeeded", "")
    assert (run.observed, run.created, run.rejected) == (len(expected), len(expected), 0)
    assert table(connector.organization_id) == expected

    again = sync(connector)
    assert (again.status, again.unchanged, again.created, again.changed) == ("succeeded", len(expected), 0, 0)
    connector.refresh_from_db()
    assert (connector.status, connector.exchange_server) == ("connected", organization.servers[0].fqdn)
    assert connector.organization.version == version
    assert connector.organization.build.startswith(PRODUCT.get(version, "Version 15.2"))
    assert connector.servers.count() == len(organization.servers)
    assert connector.servers.exclude(build="").count() == len(organization.servers)


@pytest.mark.kerberos
@pytest.mark.skipif(bool(kdc.missing()), reason=kdc.missing() or "-")
def test_kerberos(fresh_lab: Callable[..., Lab], monkeypatch: pytest.MonkeyPatch) -> None:
    """One KDC for all versions; the library reads its settings from the environment."""
    lab = fresh_lab(*(f"name={v},version={v},domain=k{v.lower()}.lab,devices=20" for v in VERSIONS), kerberos=True)
    monkeypatch.setenv("KRB5_CONFIG", lab.state["kerberos"]["config"])
    for version in VERSIONS:
        organization = lab.organization(version)
        for tls in (False, True):
            connector = connector_to(organization, "kerberos", tls=tls)
            run = sync(connector)
            assert (run.status, run.error_code) == ("succeeded", ""), (version, tls, run.error_params)
            assert table(connector.organization_id) == plain(organization)
            connector.organization.delete()


def test_what_changes_is_followed(fresh_lab: Callable[..., Lab]) -> None:
    """Changed, removed, added and quarantined devices, by full and quick syncs in turns."""
    organization = fresh_lab("name=Changing,version=2019,devices=40").organization("Changing")
    connector = connector_to(organization, "negotiate", tls=True)
    assert sync(connector).created == 40

    organization.devices_mutate(5)
    removed = organization.devices_remove(3)
    organization.devices_add(4)
    run = sync(connector)
    assert (run.changed, run.gone, run.created) == (5, 3, 4)
    assert held(connector) == in_lab(organization)
    assert MobileDevice.objects.exclude(gone_at=None).count() == len(removed)

    new = organization.device_add(state="Quarantined", reason="Global")
    settled = next(one for one in organization.devices() if one["state"] == "Allowed")
    organization.device_change(settled["guid"], state="Quarantined", reason="Individual")
    quick = sync(connector, "deltaSync")
    assert (quick.kind, quick.status) == ("deltaSync", "succeeded")
    assert held(connector) == in_lab(organization)

    organization.device_change(new["guid"], state="Blocked", reason="Individual")
    assert sync(connector, "deltaSync").changed == 1
    assert held(connector) == in_lab(organization)


def test_a_thousand_devices_and_more(fresh_lab: Callable[..., Lab]) -> None:
    """Beyond Exchange's default of a thousand results, and in several pages."""
    organization = fresh_lab("name=Large,version=SE,devices=2500").organization("Large")
    connector = connector_to(organization, "basic", tls=True)
    run = sync(connector)
    assert (run.status, run.observed) == ("succeeded", 2500)
    assert held(connector) == in_lab(organization)

"""Over the wire, in each version: changes name the domain controller that showed the object, and are read back there;
an account that may not name one changes it nevertheless."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

import pytest

from connectors.exchange.client import Account, Endpoint, Options
from connectors.exchange.cmdlets import Identity, policy_noun
from connectors.exchange.session import Session, connect
from sync.acting.controllers import Controllers
from sync.acting.deeds import Deed, MailboxEntries, OrganizationSettings, RuleCreate, RuleRemove, RuleSet
from sync.acting.device_deeds import RemoveDevice
from sync.acting.policy_deeds import PolicyAssign, PolicyCreate, PolicyRemove, PolicySet
from tests.labs import VERSIONS, Lab, Organization, start_lab

pytestmark = [pytest.mark.wire, pytest.mark.timeout(60)]

QUERY = "Phone of the reading room"


@pytest.fixture(scope="module")
def own_lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """An organization of each version, from which a partnership may be removed."""
    chosen = [f"name={version},version={version},domain=e{version.lower()}.lab,devices=6" for version in VERSIONS]
    running = start_lab(tmp_path_factory.mktemp("lab"), chosen)
    yield running
    running.stop()


@contextmanager
def session(organization: Organization) -> Iterator[Session]:
    server, account = organization.servers[0], organization.account()
    endpoint = Endpoint(server.fqdn, server.https_port, use_tls=True, address=server.host)
    options = Options(ca_file=organization.lab.ca)
    with connect(endpoint, Account(account.user, account.password, "ntlm"), options) as client:
        yield cast("Session", client)


def deeds(organization: Organization, client: Session) -> Iterator[Deed]:
    """Each kind, in an order that leaves all as it was, but for one partnership."""
    mailboxes = {box["sam"]: box for box in organization.mailboxes(limit=1000)}
    phone = next(one for one in organization.devices() if mailboxes[one["mailbox"]]["domain"] == organization.domain)
    mailbox, domain = str(mailboxes[phone["mailbox"]]["guid"]), organization.domain
    before = str(organization.settings()["default_access_level"]).lower()
    yield OrganizationSettings("block" if before != "block" else "allow")
    yield OrganizationSettings(before)
    yield RuleCreate("DeviceModel", QUERY, "block")
    rule = next(one.identity for one in client.device_access_rules() if one.query_string == QUERY)
    yield RuleSet("DeviceModel", QUERY, "quarantine", rule)
    yield RuleRemove("DeviceModel", QUERY, "quarantine", rule)
    family = client.policy_family.value
    yield PolicyCreate("Reading room", family, {"PasswordEnabled": True})
    policy = next(one for one in client.mailbox_policies() if one.name == "Reading room")
    yield PolicySet(str(policy.guid), policy.name, family, {"MinPasswordLength": 6})
    names = tuple(one.lower() for one in (policy.name, policy.identity, policy.distinguished_name))
    yield PolicyAssign(mailbox, str(policy.guid), policy.name, names, domain)
    yield PolicyAssign(mailbox, "", domain=domain)
    yield PolicyRemove(str(policy.guid), policy.name, family)
    yield MailboxEntries(mailbox, domain, allow_add=(phone["device_id"],))
    device = client.device(Identity(str(phone["guid"])))
    yield RemoveDevice(
        device.identity, mailbox, device.device_id, client.family.value, domain, allowed=(device.device_id,)
    )


@pytest.mark.parametrize("version", VERSIONS)
def test_written_to_and_read_back_at_the_one_that_showed_it(own_lab: Lab, version: str) -> None:
    organization, controllers = own_lab.organization(version), Controllers()
    named = f"dc01.{organization.domain}"
    with session(organization) as client:
        for deed in deeds(organization, client):
            organization.log_clear()
            reading = deed.send(client, controllers)
            assert reading is not None, deed.kind
            assert (deed.is_done(reading), reading.controller) == (True, named), deed.kind
            (*_, last) = lines = organization.log()
            assert last["cmdlet"].startswith("Get-"), deed.kind
            writes = [one for one in lines if not one["cmdlet"].startswith("Get-")]
            assert writes, deed.kind
            assert {one["parameters"].get("DomainController") for one in (*writes, last)} == {named}, deed.kind


@pytest.mark.parametrize("version", ["2010", "SE"])
def test_an_account_that_may_not_name_one_changes_it_nevertheless(own_lab: Lab, version: str) -> None:
    organization, controllers = own_lab.organization(version), Controllers()
    with session(organization) as client:
        nouns = (
            "CASMailbox", "ActiveSyncOrganizationSettings", "ActiveSyncDeviceAccessRule", client.family.value,
            policy_noun(client.policy_family),
        )  # fmt: skip
        names = [f"{verb}-{noun}" for noun in nouns for verb in ("Get", "New", "Set", "Remove")]
        organization.hide(*(f"{name}:DomainController" for name in names))
        try:
            for deed in deeds(organization, client):
                organization.log_clear()
                reading = deed.send(client, controllers)
                assert reading is not None, deed.kind
                assert (deed.is_done(reading), reading.controller) == (True, ""), deed.kind
            # What was refused once is not tried again.
            assert not any("DomainController" in one["parameters"] for one in organization.log())
        finally:
            organization.hide()

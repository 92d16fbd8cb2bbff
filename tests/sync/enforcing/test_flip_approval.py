"""A default level that waits for approval: whoever is left out holds it back for all, until they have access of their
own. The approval's page says so; here is that it is so."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from django.contrib.messages import get_messages
from django.test import Client
from django.urls import reverse

from connectors.actors import Actor
from connectors.models import Connector
from sync.enforcing.approvals import approval_approve
from sync.models import Approval, MobileDevice, SyncRun
from sync.showing.approval_list import approval_digest, kept_out_of
from sync.showing.wishes import wishes
from tests.factories import OverrideFactory
from tests.sync.access import enrolled, govern, organize
from tests.sync.exchange import FakeExchange, device

Sync = Callable[..., SyncRun]
APPLY = SyncRun.Kind.APPLY
ADA = Actor(name="Ada")


def waits_for(device_id: str) -> str:
    known = MobileDevice.objects.select_related("organization", "access", "owner").get(device_id=device_id)
    return wishes([known])[known.pk].waits_for


@pytest.fixture
def waiting(connector: Connector, exchange: FakeExchange, sync: Sync) -> Approval:
    """Forty people are let in by Exchange's default, which is to block; two of them have a record."""
    exchange.settings = exchange.settings.__class__("Allow", "", ())
    exchange.put(*(device(number) for number in range(40)))
    exchange.put_people(*range(40))
    govern(connector)
    organize(connector, default_level="block")
    enrolled(connector, 0, 1)
    sync()
    assert exchange.settings.default_access_level == "Allow"
    found = Approval.objects.get()
    assert len(found.settings_held) == 1
    return found


def test_whoever_is_left_out_holds_it_back_until_they_are_allowed(
    connector: Connector, exchange: FakeExchange, sync: Sync, waiting: Approval
) -> None:
    left_out = MobileDevice.objects.get(device_id="ID0007")
    approval_approve(approval=waiting, actor=ADA, leave_out=[left_out.pk])

    sync(APPLY)
    sync()

    assert exchange.settings.default_access_level == "Allow"
    assert not Approval.objects.filter(state=Approval.State.WAITING).exists()

    OverrideFactory(mailbox=left_out.owner, device_id="ID0007")
    sync()

    assert exchange.settings.default_access_level == "Block"
    assert exchange.box(7).allowed_device_ids == ("ID0007",)
    assert exchange.box(0).allowed_device_ids == ("ID0000",)


@pytest.mark.parametrize("level", ["block", "quarantine"])
def test_nobody_is_asked_twice_and_whoever_is_left_out_keeps_mail(
    connector: Connector, exchange: FakeExchange, sync: Sync, waiting: Approval, level: str
) -> None:
    """Where quarantine was shown, and the default level that would give it waits, nobody is blocked instead."""
    organize(connector, default_level=level)
    sync()
    left_out = MobileDevice.objects.get(device_id="ID0007")
    approval_approve(approval=Approval.objects.get(), actor=ADA, leave_out=[left_out.pk])

    for kind in (APPLY, SyncRun.Kind.QUICK, SyncRun.Kind.FULL, SyncRun.Kind.QUICK):
        sync(kind)

    assert not Approval.objects.filter(state=Approval.State.WAITING).exists()
    assert exchange.settings.default_access_level == "Allow"
    assert exchange.box(7).blocked_device_ids == ()
    assert exchange.box(8).blocked_device_ids == (("ID0008",) if level == "block" else ())
    assert waits_for("ID0007") == "leftOut"
    if level == "quarantine":
        assert waits_for("ID0008") == "settings"

    OverrideFactory(mailbox=left_out.owner, device_id="ID0007")
    sync()

    assert exchange.settings.default_access_level == level.capitalize()
    assert exchange.box(7).allowed_device_ids == ("ID0007",)


@pytest.mark.parametrize("is_renewed", [True, False])
def test_allowed_first_and_then_all_approved(
    connector: Connector, exchange: FakeExchange, sync: Sync, waiting: Approval, is_renewed: bool
) -> None:
    OverrideFactory(mailbox=MobileDevice.objects.get(device_id="ID0007").owner, device_id="ID0007")
    if is_renewed:
        sync()
        assert exchange.settings.default_access_level == "Allow"
        assert not waiting.denials.filter(device__device_id="ID0007").exists()

    approval_approve(approval=waiting, actor=ADA)
    sync(APPLY)

    assert exchange.settings.default_access_level == "Block"
    assert exchange.box(7).allowed_device_ids == ("ID0007",)
    assert exchange.box(8).allowed_device_ids == ()


def test_all_approved_while_an_earlier_one_is_left_out_promises_no_run(
    connector: Connector, exchange: FakeExchange, sync: Sync, waiting: Approval, admin_client: Client
) -> None:
    organize(connector, default_level="quarantine")
    sync()
    left_out = MobileDevice.objects.get(device_id="ID0007")
    approval_approve(approval=Approval.objects.get(), actor=ADA, leave_out=[left_out.pk])
    sync(APPLY)
    exchange.put(*(device(number) for number in range(40, 70)))
    exchange.put_people(*range(40, 70))
    sync()
    newcomers = Approval.objects.get(state=Approval.State.WAITING)
    assert kept_out_of(newcomers) == {left_out.pk}
    address = reverse("approval", args=[newcomers.public_id])
    assert "1 device was left out." in admin_client.get(address).content.decode()

    answer = admin_client.post(address, {"decision": "approve", "seen": approval_digest(newcomers)})

    said = " ".join(str(message) for message in get_messages(answer.wsgi_request))
    assert "A run carries it out now." not in said
    assert "while they would deny a device that was left out" in said
    sync(APPLY)
    assert exchange.settings.default_access_level == "Allow"
    assert not Approval.objects.filter(state=Approval.State.WAITING).exists()

    OverrideFactory(mailbox=left_out.owner, device_id="ID0007")
    sync()

    assert exchange.settings.default_access_level == "Quarantine"
    assert kept_out_of(newcomers) == set()

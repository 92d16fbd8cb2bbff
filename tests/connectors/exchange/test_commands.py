"""Commands that change something: which name and which parameters, by version; and what cannot be written at all."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from connectors.exchange import cmdlets, policies
from connectors.exchange.cmdlets import NULL, Command, Family, Identity, is_reading
from connectors.exchange.policies import ACTIVE_SYNC_NAMES, SETTINGS, Kind

ME = Identity("carlos")
MOBILE, ACTIVE_SYNC = Family.MOBILE, Family.ACTIVE_SYNC

CASES: dict[str, tuple[Callable[[], Command], str, dict[str, Any]]] = {
    "entries of both lists": (
        lambda: cmdlets.set_cas_mailbox(ME, allowed_add=("A", "B"), allowed_remove=("C",), blocked_add=("C",)),
        "Set-CASMailbox",
        {
            "Identity": "carlos",
            "ActiveSyncAllowedDeviceIDs": {"Add": ["A", "B"], "Remove": ["C"]},
            "ActiveSyncBlockedDeviceIDs": {"Add": ["C"]},
        },
    ),
    "entries at a domain controller": (
        lambda: cmdlets.set_cas_mailbox(ME, allowed_add=("A",), domain_controller="dc01.contoso.com"),
        "Set-CASMailbox",
        {"Identity": "carlos", "ActiveSyncAllowedDeviceIDs": {"Add": ["A"]}, "DomainController": "dc01.contoso.com"},
    ),
    "a policy of one's own": (
        lambda: cmdlets.assign_mailbox_policy(ME, Identity("Strict")),
        "Set-CASMailbox",
        {"Identity": "carlos", "ActiveSyncMailboxPolicy": "Strict"},
    ),
    "the default policy": (
        lambda: cmdlets.assign_mailbox_policy(ME, None),
        "Set-CASMailbox",
        {"Identity": "carlos", "ActiveSyncMailboxPolicy": NULL},
    ),
    "level": (
        lambda: cmdlets.set_active_sync_organization_settings(default_access_level="Quarantine"),
        "Set-ActiveSyncOrganizationSettings",
        {"DefaultAccessLevel": "Quarantine"},
    ),
    "no text": (
        lambda: cmdlets.set_active_sync_organization_settings(user_mail_insert=""),
        "Set-ActiveSyncOrganizationSettings",
        {"UserMailInsert": NULL},
    ),
    "the longest text": (
        lambda: cmdlets.set_active_sync_organization_settings(user_mail_insert="手" * 256),
        "Set-ActiveSyncOrganizationSettings",
        {"UserMailInsert": "手" * 256},
    ),
    "some recipients": (
        lambda: cmdlets.set_active_sync_organization_settings(
            admin_recipients_add=("a@b.c",), admin_recipients_remove=("d@e.f",)
        ),
        "Set-ActiveSyncOrganizationSettings",
        {"AdminMailRecipients": {"Add": ["a@b.c"], "Remove": ["d@e.f"]}},
    ),
    "these recipients": (
        lambda: cmdlets.set_active_sync_organization_settings(admin_recipients=("a@b.c",)),
        "Set-ActiveSyncOrganizationSettings",
        {"AdminMailRecipients": ["a@b.c"]},
    ),
    "no recipients": (
        lambda: cmdlets.set_active_sync_organization_settings(admin_recipients=()),
        "Set-ActiveSyncOrganizationSettings",
        {"AdminMailRecipients": NULL},
    ),
    "a new rule": (
        lambda: cmdlets.new_active_sync_device_access_rule(
            characteristic="DeviceModel", query_string="Pixel 8", access_level="Block"
        ),
        "New-ActiveSyncDeviceAccessRule",
        {"Characteristic": "DeviceModel", "QueryString": "Pixel 8", "AccessLevel": "Block"},
    ),
    "another level of a rule": (
        lambda: cmdlets.set_active_sync_device_access_rule(Identity("Pixel 8 (DeviceModel)"), access_level="Allow"),
        "Set-ActiveSyncDeviceAccessRule",
        {"Identity": "Pixel 8 (DeviceModel)", "AccessLevel": "Allow"},
    ),
    "no rule": (
        lambda: cmdlets.remove_active_sync_device_access_rule(Identity("Pixel 8 (DeviceModel)")),
        "Remove-ActiveSyncDeviceAccessRule",
        {"Identity": "Pixel 8 (DeviceModel)"},
    ),
    "wipe": (lambda: cmdlets.clear_mobile_device(MOBILE, ME), "Clear-MobileDevice", {"Identity": "carlos"}),
    "wipe, 2010": (
        lambda: cmdlets.clear_mobile_device(ACTIVE_SYNC, ME, notify=("a@b.c",)),
        "Clear-ActiveSyncDevice",
        {"Identity": "carlos", "NotificationEmailAddresses": ["a@b.c"]},
    ),
    "wipe the account": (
        lambda: cmdlets.clear_mobile_device(MOBILE, ME, account_only=True),
        "Clear-MobileDevice",
        {"Identity": "carlos", "AccountOnly": True},
    ),
    "take a wipe back": (
        lambda: cmdlets.clear_mobile_device(MOBILE, ME, cancel=True),
        "Clear-MobileDevice",
        {"Identity": "carlos", "Cancel": True},
    ),
    "remove": (lambda: cmdlets.remove_mobile_device(MOBILE, ME), "Remove-MobileDevice", {"Identity": "carlos"}),
    "remove, 2010": (
        lambda: cmdlets.remove_mobile_device(ACTIVE_SYNC, ME),
        "Remove-ActiveSyncDevice",
        {"Identity": "carlos"},
    ),
    "a new policy": (
        lambda: cmdlets.new_mailbox_policy(
            MOBILE, "Strict", {"PasswordEnabled": True, "ApprovedApplicationList": ("a",)}, is_default=True
        ),
        "New-MobileDeviceMailboxPolicy",
        {"Name": "Strict", "PasswordEnabled": True, "ApprovedApplicationList": ["a"], "IsDefault": True},
    ),
    "a new policy, 2010": (
        lambda: cmdlets.new_mailbox_policy(ACTIVE_SYNC, "Strict", {"PasswordEnabled": True}, is_default=True),
        "New-ActiveSyncMailboxPolicy",
        {"Name": "Strict", "DevicePasswordEnabled": True, "IsDefaultPolicy": True},
    ),
    "another policy": (
        lambda: cmdlets.set_mailbox_policy(
            MOBILE, Identity("Strict"), {"MaxInactivityTimeLock": "00:05:00", "ApprovedApplicationList": ()}, name="S"
        ),
        "Set-MobileDeviceMailboxPolicy",
        {"Identity": "Strict", "Name": "S", "MaxInactivityTimeLock": "00:05:00", "ApprovedApplicationList": NULL},
    ),
    "another default": (
        lambda: cmdlets.set_mailbox_policy(ACTIVE_SYNC, Identity("Strict"), {}, make_default=True),
        "Set-ActiveSyncMailboxPolicy",
        {"Identity": "Strict", "IsDefaultPolicy": True},
    ),
    "no policy": (
        lambda: cmdlets.remove_mailbox_policy(MOBILE, Identity("Strict")),
        "Remove-MobileDeviceMailboxPolicy",
        {"Identity": "Strict"},
    ),
    "no default policy": (
        lambda: cmdlets.remove_mailbox_policy(ACTIVE_SYNC, Identity("Strict"), force=True),
        "Remove-ActiveSyncMailboxPolicy",
        {"Identity": "Strict", "Force": True},
    ),
}


@pytest.mark.parametrize(("make", "name", "parameters"), CASES.values(), ids=CASES.keys())
def test_what_is_sent(make: Callable[[], Command], name: str, parameters: dict[str, Any]) -> None:
    command = make()
    assert (command.name, command.parameters) == (name, {**parameters, "Confirm": False})
    assert not command.is_read
    assert command.name in cmdlets.PROBED


REFUSED: dict[str, Callable[[], object]] = {
    "nothing to change": lambda: cmdlets.set_cas_mailbox(ME),
    "an id of blanks": lambda: cmdlets.set_cas_mailbox(ME, allowed_add=(" ",)),
    "no such level": lambda: cmdlets.set_active_sync_organization_settings(default_access_level="Deny"),
    "no setting": lambda: cmdlets.set_active_sync_organization_settings(),
    "257 characters": lambda: cmdlets.set_active_sync_organization_settings(user_mail_insert="x" * 257),
    "129 characters of two units": lambda: cmdlets.set_active_sync_organization_settings(user_mail_insert="📱" * 129),
    "a list replaced and changed": lambda: cmdlets.set_active_sync_organization_settings(
        admin_recipients=("a@b.c",), admin_recipients_add=("d@e.f",)
    ),
    "a rule for nothing": lambda: cmdlets.new_active_sync_device_access_rule(
        characteristic="DeviceType", query_string=" ", access_level="Block"
    ),
    "no such characteristic": lambda: cmdlets.new_active_sync_device_access_rule(
        characteristic="Colour", query_string="x", access_level="Block"
    ),
    "no such level of a rule": lambda: cmdlets.set_active_sync_device_access_rule(ME, access_level="block"),
    "the account alone in 2010": lambda: cmdlets.clear_mobile_device(ACTIVE_SYNC, ME, account_only=True),
    "telling of what is taken back": lambda: cmdlets.clear_mobile_device(MOBILE, ME, cancel=True, notify=("a@b.c",)),
    "a policy without a name": lambda: cmdlets.new_mailbox_policy(MOBILE, " ", {}),
    "no change of a policy": lambda: cmdlets.set_mailbox_policy(MOBILE, ME, {}),
    "an unknown setting": lambda: cmdlets.set_mailbox_policy(MOBILE, ME, {"Identity": "x"}),
    "the other family's name": lambda: cmdlets.set_mailbox_policy(ACTIVE_SYNC, ME, {"DevicePasswordEnabled": True}),
    "a number for a flag": lambda: cmdlets.set_mailbox_policy(MOBILE, ME, {"PasswordEnabled": 1}),
    "a flag for a number": lambda: cmdlets.set_mailbox_policy(MOBILE, ME, {"MinPasswordLength": True}),
    "a number for a size": lambda: cmdlets.set_mailbox_policy(MOBILE, ME, {"MaxAttachmentSize": 5}),
    "a text for a list": lambda: cmdlets.set_mailbox_policy(MOBILE, ME, {"ApprovedApplicationList": "a"}),
    "everybody": lambda: cmdlets.list_cas_mailboxes(filter=" "),
}


@pytest.mark.parametrize("make", REFUSED.values(), ids=REFUSED.keys())
def test_what_cannot_be_written(make: Callable[[], object]) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        make()


@pytest.mark.parametrize(
    ("name", "reads"),
    [
        ("Get-MobileDevice", True),
        ("get-casmailbox", True),
        ("Select-Object", True),
        ("Set-ADServerSettings", True),
        ("Set-CASMailbox", False),
        ("Clear-MobileDevice", False),
        ("Remove-MobileDevice", False),
        ("New-MobileDeviceMailboxPolicy", False),
        ("Getaway", False),
        ("Invoke-Expression", False),
        ("", False),
    ],
)
def test_what_only_reads(name: str, reads: bool) -> None:
    assert is_reading(name) is reads


def test_every_setting_has_a_kind_and_the_renamed_ones_are_among_them() -> None:
    assert set(ACTIVE_SYNC_NAMES) <= set(SETTINGS)
    assert not set(ACTIVE_SYNC_NAMES.values()) & set(SETTINGS)
    assert set(SETTINGS.values()) == set(Kind)
    for name in SETTINGS:
        assert policies.remote_name(name, is_active_sync=False) == name

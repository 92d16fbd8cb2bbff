"""Cmdlets as exchange.md describes them: which there are, their parameters, what they do and refuse, per version.

In this process; test_organization.py asks the same engine over the wire, with pypsrp as it is shipped.
"""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from lab.exchange.contract import Command
from lab.exchange.versions import VERSIONS as FACTS
from tests.lab.sessions import VERSIONS, Session, make_store, session

# The connector's list (exchange.md 0), and what ConfigMgr's needs besides; then what this project adds.
READ = (
    "Get-ActiveSyncOrganizationSettings", "Get-CASMailbox", "Get-ActiveSyncMailboxPolicy",
    "Get-ActiveSyncDeviceAccessRule", "Get-ActiveSyncDeviceStatistics", "Get-ActiveSyncDevice", "Get-ExchangeServer",
    "Get-ActiveSyncDeviceClass", "Get-Recipient", "Get-Mailbox", "Get-User", "Get-OrganizationConfig",
    "Get-ThrottlingPolicy", "Get-Command",
)  # fmt: skip
WRITE = (
    "Set-ActiveSyncOrganizationSettings", "Set-CASMailbox", "Set-ActiveSyncMailboxPolicy",
    "New-ActiveSyncMailboxPolicy", "Remove-ActiveSyncMailboxPolicy", "Set-ActiveSyncDeviceAccessRule",
    "New-ActiveSyncDeviceAccessRule", "Remove-ActiveSyncDeviceAccessRule", "Clear-ActiveSyncDevice",
    "Remove-ActiveSyncDevice",
)  # fmt: skip
MOBILE = (
    "Get-MobileDevice", "Get-MobileDeviceStatistics", "Clear-MobileDevice", "Remove-MobileDevice",
    "Get-MobileDeviceMailboxPolicy", "New-MobileDeviceMailboxPolicy", "Set-MobileDeviceMailboxPolicy",
    "Remove-MobileDeviceMailboxPolicy",
)  # fmt: skip


def granted(one: Session) -> set[str]:
    return set(one.run("Get-Command").values("Name"))


# --- which cmdlets there are ------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
def test_the_connectors_list_is_there(version: str) -> None:
    found = granted(session(version, devices=1))
    assert {*READ, *WRITE, "Set-ADServerSettings", "Select-Object"} <= found
    assert found & set(MOBILE) == (set() if version == "2010" else set(MOBILE))


def test_a_viewer_reads_only() -> None:
    one = Session(make_store(devices=3), role="viewer")
    found = granted(one)
    assert not {name for name in found if name.startswith(("Set-", "New-", "Remove-", "Clear-"))} - {
        "Set-ADServerSettings"
    }
    assert set(READ) <= found
    assert one.run("Set-CASMailbox", Identity="x").error.fq_error_id == "CommandNotFoundException"


def test_who_has_no_role_has_no_cmdlet() -> None:
    error = Session(make_store(devices=1), role="none").run("Get-Command").error
    assert (error.reason, error.category) == ("CommandNotFoundException", 13)


@pytest.mark.parametrize("name", ["Get-Process", "Where-Object", "ForEach-Object", "Group-Object", "Invoke-Expression"])
def test_what_exchange_does_not_have_is_not_found(name: str) -> None:
    error = session(devices=1).run(name).error
    assert error.terminating
    assert (error.fq_error_id, error.target_name) == ("CommandNotFoundException", name)


def test_rbac_hides_a_cmdlet_as_if_it_were_not_there() -> None:
    one = session(devices=3)
    one.engine.hidden = frozenset({"get-mobiledevice", "get-activesyncdevice:filter"})
    assert one.run("Get-MobileDevice").error.fq_error_id == "CommandNotFoundException"
    assert "Get-MobileDevice" not in granted(one)
    hidden = one.run("Get-ActiveSyncDevice", Filter="DeviceType -eq 'iPhone'").error
    assert hidden.fq_error_id == "NamedParameterNotFound,Get-ActiveSyncDevice"


def test_get_command_goes_on_after_a_name_that_is_not_there() -> None:
    found = session(devices=1).run("Get-Command", Name=["Get-Nothing", "Get-CASMailbox", "Get-*Mailbox", "Set-None"])
    assert found.values("Name")[0] == "Get-CASMailbox"
    assert set(found.values("Name")) == {"Get-CASMailbox", "Get-Mailbox"}
    assert [error.target_name for error in found.errors] == ["Get-Nothing", "Set-None"]
    assert found.failed is None


def test_scripts_are_refused() -> None:
    result = session(devices=1).pipeline(Command("Get-MobileDevice | ForEach-Object { $_ }", is_script=True))
    assert result.error.fq_error_id == "ScriptsNotAllowed"
    assert "no-language mode" in result.error.message


# --- parameters -------------------------------------------------------------------------------------------------

NO_SUCH_PARAMETER: dict[str, tuple[str, str, dict[str, Any]]] = {
    "misspelt": ("SE", "Get-MobileDevice", {"Identitty": "x"}),
    "2010 has no Monitoring": ("2010", "Get-ActiveSyncDevice", {"Monitoring": True}),
    "the ActiveSync name has no client switches": ("SE", "Get-ActiveSyncDevice", {"RestApi": True}),
    "2013 has no RestApi": ("2013", "Get-MobileDevice", {"RestApi": True}),
    "2013 has no UniversalOutlook": ("2013", "Get-MobileDevice", {"UniversalOutlook": True}),
    "2013 has no AccountOnly": ("2013", "Clear-MobileDevice", {"Identity": "x", "AccountOnly": True}),
    "the ActiveSync name has no AccountOnly": ("SE", "Clear-ActiveSyncDevice", {"Identity": "x", "AccountOnly": True}),
    "statistics have no ResultSize": ("SE", "Get-MobileDeviceStatistics", {"Mailbox": "x", "ResultSize": "Unlimited"}),
    "statistics have no Filter": ("SE", "Get-MobileDeviceStatistics", {"Mailbox": "x", "Filter": "x"}),
    "rules have no Filter": ("SE", "Get-ActiveSyncDeviceAccessRule", {"Filter": "x"}),
    "a rule's query cannot change": ("SE", "Set-ActiveSyncDeviceAccessRule", {"Identity": "x", "QueryString": "y"}),
    "2010 has no ResetAutoBlockedDevices": (
        "2010", "Set-CASMailbox", {"Identity": "x", "ResetAutoBlockedDevices": True}),
    "2013 cannot set the partnership": (
        "2013", "Set-CASMailbox", {"Identity": "x", "HasActiveSyncDevicePartnership": True}),
    "the Mobile name has no IsDefaultPolicy": (
        "SE", "New-MobileDeviceMailboxPolicy", {"Name": "x", "IsDefaultPolicy": True}),
    "the Mobile name has its own names": (
        "SE", "Set-MobileDeviceMailboxPolicy", {"Identity": "Default", "DevicePasswordEnabled": True}),
    "the ActiveSync name has its own names": (
        "SE", "Set-ActiveSyncMailboxPolicy", {"Identity": "Default", "PasswordEnabled": True}),
    "2010 has no unsupported platforms": (
        "2010", "Set-ActiveSyncOrganizationSettings", {"AllowAccessForUnSupportedPlatform": True}),
    "2013 has no unenlightened apps": (
        "2013", "Set-ActiveSyncOrganizationSettings", {"AllowRMSSupportForUnenlightenedApps": True}),
    "Get- has no WhatIf": ("SE", "Get-CASMailbox", {"WhatIf": True}),
}  # fmt: skip


@pytest.mark.parametrize("case", NO_SUCH_PARAMETER.values(), ids=NO_SUCH_PARAMETER.keys())
def test_no_such_parameter(case: tuple[str, str, dict[str, Any]]) -> None:
    version, name, parameters = case
    one = session(version, devices=1)
    error = one.run(name, **parameters).error
    assert error.fq_error_id == f"NamedParameterNotFound,{name}"
    assert (error.category, error.reason, error.terminating) == (5, "ParameterBindingException", True)


TAKEN: dict[str, tuple[str, str, dict[str, Any]]] = {
    "any case": ("SE", "Get-MobileDevice", {"rESULTsIZE": "UNLIMITED"}),
    "short but clear": ("SE", "Get-MobileDevice", {"ResultS": 5}),
    "2010 has no IsDefault, and takes it as short for the other": (
        "2010", "New-ActiveSyncMailboxPolicy", {"Name": "x", "IsDefault": True}),
    "2010 can set the partnership": ("2010", "Set-CASMailbox", {"HasActiveSyncDevicePartnership": False}),
    "common parameters": ("SE", "Get-MobileDevice", {"ErrorAction": "Continue", "Verbose": False, "OutBuffer": 1}),
    "a switch that is off": ("SE", "Get-MobileDevice", {"RestApi": False}),
    "ResultSize as text": ("SE", "Get-MobileDevice", {"ResultSize": "5"}),
    "a domain controller": ("SE", "Get-MobileDevice", {"DomainController": "dc01.ese.test"}),
}  # fmt: skip


@pytest.mark.parametrize("name", TAKEN)
def test_taken(name: str) -> None:
    version, cmdlet, parameters = TAKEN[name]
    one = session(version, devices=3)
    if cmdlet.startswith("Set-"):
        parameters = {"Identity": next(iter(one.store.mailboxes.values())).sam, **parameters}
    assert not one.run(cmdlet, **parameters).errors


REFUSED: dict[str, tuple[str, dict[str, Any], str]] = {
    "two sets at once": ("Get-MobileDevice", {"Identity": "a", "Mailbox": "b"}, "AmbiguousParameterSet"),
    "neither of two": ("Get-MobileDeviceStatistics", {}, "MissingMandatoryParameter"),
    "no identity": ("Set-CASMailbox", {"ActiveSyncEnabled": True}, "MissingMandatoryParameter"),
    "identity of null where one is needed": (
        "Set-CASMailbox", {"Identity": None}, "ParameterArgumentValidationErrorNullNotAllowed"),
    "mailbox of null for statistics": (
        "Get-MobileDeviceStatistics", {"Mailbox": None}, "ParameterArgumentValidationErrorNullNotAllowed"),
    "wipe of null": ("Clear-MobileDevice", {"Identity": None}, "ParameterArgumentValidationErrorNullNotAllowed"),
    "identity of empty text": ("Get-MobileDevice", {"Identity": ""}, "ParameterArgumentTransformationError"),
    "an object instead of text": (
        "Get-MobileDeviceStatistics", {"Identity": {"DeviceId": "x"}}, "ParameterArgumentTransformationError"),
    "a ResultSize that is no number": (
        "Get-MobileDevice", {"ResultSize": "all"}, "ParameterArgumentTransformationError"),
    "a ResultSize below zero": ("Get-MobileDevice", {"ResultSize": -1}, "ParameterArgumentTransformationError"),
    "a ResultSize of null": ("Get-MobileDevice", {"ResultSize": None}, "ParameterArgumentTransformationError"),
    "text for a Boolean": (
        "Set-CASMailbox", {"Identity": "x", "ActiveSyncEnabled": "no"}, "ParameterArgumentTransformationError"),
    "short and unclear": ("Get-MobileDevice", {"D": "x"}, "AmbiguousParameter"),
    "given twice": ("Get-MobileDevice", {"Filter": "x", "filter": "y"}, "ParameterAlreadyBound"),
    "one of three missing": (
        "New-ActiveSyncDeviceAccessRule", {"QueryString": "x", "AccessLevel": "Block"}, "MissingMandatoryParameter"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED.values(), ids=REFUSED.keys())
def test_refused_by_the_binder(case: tuple[str, dict[str, Any], str]) -> None:
    name, parameters, error_id = case
    error = session(devices=1).run(name, **parameters).error
    assert error.fq_error_id == f"{error_id},{name}"
    assert error.terminating


def test_a_position_is_the_identity_and_there_is_no_second() -> None:
    one = session(devices=5)
    mailbox = next(iter(one.store.mailboxes.values()))
    found = one.pipeline(Command("Get-CASMailbox", ((None, mailbox.upn),)))
    assert found.values("SamAccountName") == [mailbox.sam]
    error = one.pipeline(Command("Get-CASMailbox", ((None, "a"), (None, "b")))).error
    assert error.fq_error_id == "PositionalParameterNotFound,Get-CASMailbox"


# --- asking first -----------------------------------------------------------------------------------------------

PROMPTS = ("Clear-MobileDevice", "Remove-MobileDevice", "Clear-ActiveSyncDevice", "Remove-ActiveSyncDevice")


@pytest.mark.parametrize("name", PROMPTS)
def test_a_cmdlet_that_prompts_is_refused_without_confirm(name: str) -> None:
    one = session(devices=5).entire_forest()
    device = next(iter(one.store.devices.values()))
    refused = one.run(name, Identity=one.store.identity_of(device)).error
    assert (refused.reason, refused.terminating) == ("HostException", True)
    assert one.run(name, Identity=one.store.identity_of(device), Confirm=True).error.reason == "HostException"
    # An explicit null counts as present for a switch.
    assert one.run(name, Identity=one.store.identity_of(device), Confirm=None).error.reason == "HostException"
    assert device.guid in one.store.devices
    assert device.wipe_requested is None
    assert not one.run(name, Identity=one.store.identity_of(device), Confirm=False).errors
    assert device.guid not in one.store.devices or device.wipe_requested is not None


def test_confirm_makes_any_writing_cmdlet_ask() -> None:
    one = session(devices=2)
    assert (
        one.run("Set-ActiveSyncOrganizationSettings", UserMailInsert="x", Confirm=True).error.reason == "HostException"
    )
    assert one.store.settings.user_mail_insert == ""


WHAT_IF: dict[str, dict[str, Any]] = {
    "Remove-MobileDevice": {},
    "Clear-MobileDevice": {},
    "Set-CASMailbox": {"ActiveSyncBlockedDeviceIDs": ["X"]},
    "Set-ActiveSyncOrganizationSettings": {"DefaultAccessLevel": "Block"},
    "New-ActiveSyncDeviceAccessRule": {"QueryString": "q", "Characteristic": "DeviceType", "AccessLevel": "Block"},
    "Remove-ActiveSyncDeviceAccessRule": {"Identity": "BlackBerry (DeviceType)"},
    "New-MobileDeviceMailboxPolicy": {"Name": "Strict"},
}


@pytest.mark.parametrize("name", WHAT_IF)
def test_what_if_changes_nothing(name: str) -> None:
    one = session(devices=4).entire_forest()
    device = next(iter(one.store.devices.values()))
    named = {"Set-CASMailbox": device.mailbox.sam, "Remove-MobileDevice": str(device.guid)}
    named["Clear-MobileDevice"] = named["Remove-MobileDevice"]
    identity = {"Identity": named[name]} if name in named else {}
    result = one.run(name, WhatIf=True, **(identity | WHAT_IF[name]))
    assert (result.rows, result.errors, result.failed) == ([], [], None)
    fresh = make_store(devices=4)
    assert len(one.store.devices) == len(fresh.devices)
    assert device.wipe_requested is None
    assert device.mailbox.blocked == fresh.mailboxes[device.mailbox.guid].blocked
    assert one.store.settings == fresh.settings
    assert len(one.store.rules) == len(fresh.rules)
    assert len(one.store.policies) == 1


# --- preferences ------------------------------------------------------------------------------------------------


def test_error_and_warning_action() -> None:
    one = session(devices=60)
    missing: dict[str, Any] = {"Identity": "nobody"}
    assert one.run("Get-CASMailbox", **missing).failed is None
    assert one.run("Get-CASMailbox", **missing, ErrorAction="Stop").failed is not None
    assert one.run("Get-CASMailbox", **missing, ErrorAction=1).failed is not None
    assert one.run("Get-CASMailbox", **missing, ErrorAction="Ignore").errors == []
    assert one.run("Get-CASMailbox", ResultSize=1).warnings
    assert one.run("Get-CASMailbox", ResultSize=1, WarningAction="SilentlyContinue").warnings == []


# --- Select-Object ----------------------------------------------------------------------------------------------


def test_select_object_takes_properties_in_any_case_and_null_for_what_is_not_there() -> None:
    row = session(devices=1).entire_forest().run("Get-MobileDevice", ["deviceid", "FriendlyName", "Nothing"]).row
    assert list(row) == ["DeviceId", "FriendlyName", "Nothing"]
    assert row["Nothing"] is None


def test_select_object_of_everything() -> None:
    one = session(devices=1).entire_forest()
    assert one.run("Get-MobileDevice", ["*"]).row == one.run("Get-MobileDevice").row


def test_select_object_gives_a_custom_object() -> None:
    [element] = session(devices=1).entire_forest().run("Get-MobileDevice", ["DeviceId"]).elements
    assert [node.text for node in element.iterfind("TN/T")] == [
        "Selected.Microsoft.Exchange.Data.Directory.SystemConfiguration.MobileDevice",
        "System.Management.Automation.PSCustomObject",
        "System.Object",
    ]
    assert element.find("Props") is None


def test_select_object_has_no_other_parameter() -> None:
    result = session(devices=1).pipeline(Command("Get-MobileDevice"), Command("Select-Object", (("First", 1),)))
    assert result.error.fq_error_id == "NamedParameterNotFound,Microsoft.PowerShell.Commands.SelectObjectCommand"


def test_select_object_can_be_missing() -> None:
    one = session(devices=1)
    one.engine.hidden = frozenset({"select-object"})
    assert one.run("Get-MobileDevice", ["DeviceId"]).error.target_name == "Select-Object"


def test_no_other_command_stands_behind_the_first() -> None:
    result = session(devices=1).pipeline(Command("Get-MobileDevice"), Command("Get-CASMailbox"))
    assert result.error.fq_error_id == "CommandNotFoundException"


# --- Exchange's own errors --------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
def test_not_found_in_each_versions_words(version: str) -> None:
    error = session(version, devices=1).run("Get-CASMailbox", Identity="nobody").error
    assert error.exception == "Microsoft.Exchange.Configuration.Tasks.ManagementObjectNotFoundException"
    assert (error.reason, error.terminating) == ("ManagementObjectNotFoundException", False)
    assert "'nobody'" in error.message
    prefix, _, rest = error.fq_error_id.rpartition(" ")
    assert rest.endswith(",Microsoft.Exchange.Management.RecipientTasks.GetCASMailbox")
    if version == "2010":
        assert (prefix, error.category) == ("", 6)
        assert "could not be found" in error.message
    else:
        assert prefix.startswith("[Server=EX01,RequestId=")
        assert prefix.endswith("[FailureCategory=Cmdlet-ManagementObjectNotFoundException]")
        assert "couldn't be found on 'dc01" in error.message
        assert error.category == 0


# --- versions ---------------------------------------------------------------------------------------------------

BUILDS = {
    "2010": "Version 14.3 (Build 123.4)",
    "2013": "Version 15.0 (Build 1497.2)",
    "2016": "Version 15.1 (Build 2507.6)",
    "2019": "Version 15.2 (Build 1748.10)",
    "SE": "Version 15.2 (Build 2562.17)",
}
ROLES = {"2010": "Mailbox, ClientAccess, HubTransport", "2013": "Mailbox, ClientAccess"}


@pytest.mark.parametrize("version", VERSIONS)
def test_servers_say_their_version(version: str) -> None:
    one = session(version, devices=1)
    rows = one.run("Get-ExchangeServer").rows
    assert [row["Fqdn"] for row in rows] == [server.fqdn for server in one.store.servers]
    for row in rows:
        assert row["AdminDisplayVersion"] == BUILDS[version]
        assert row["ServerRole"] == ROLES.get(version, "Mailbox")
        assert row["IsClientAccessServer"] is True
        assert row["IsE15OrLater"] is (version != "2010")
        # The oldest version that can manage the object, not the server's.
        assert row["ExchangeVersion"] == "0.1 (8.0.535.0)"
    assert {"2010": "2.1", "2013": "2.2"}.get(version, "2.3") == FACTS[version].protocol


def test_one_server_by_name_fqdn_or_domain() -> None:
    one = session("2016", devices=1)
    server = one.store.servers[1]
    for wanted in (server.name, server.fqdn.upper(), str(server.guid)):
        assert one.run("Get-ExchangeServer", Identity=wanted).values("Fqdn") == [server.fqdn]
    assert len(one.run("Get-ExchangeServer", Domain="e2016.test").rows) == 2
    assert one.run("Get-ExchangeServer", Identity="ex09").error.reason == "ManagementObjectNotFoundException"
    assert one.run("Get-ExchangeServer", Status=True).rows[0]["CurrentDomainControllers"] == ["dc01.e2016.test"]


def test_the_scope_is_the_sessions_own() -> None:
    one = session(devices=200)
    other = Session(one.store)
    few = len(one.run("Get-MobileDevice", ResultSize="Unlimited").rows)
    every = len(one.entire_forest().run("Get-MobileDevice", ResultSize="Unlimited").rows)
    assert few < every == len(one.store.devices)
    assert len(other.run("Get-MobileDevice", ResultSize="Unlimited").rows) == few
    one.run("Set-ADServerSettings", RecipientViewRoot="ese.test")
    assert len(one.run("Get-MobileDevice", ResultSize="Unlimited").rows) == few


def test_what_is_run_stands_in_the_log() -> None:
    one = session(devices=1)
    one.run("Get-CASMailbox", Identity="x", ResultSize=5)
    one.run("Get-Nothing")
    [entry] = one.store.executed()
    assert (entry.cmdlet, entry.parameters, entry.server) == (
        "Get-CASMailbox", {"Identity": "x", "ResultSize": 5}, "ex01.ese.test",
    )  # fmt: skip


# --- faults -----------------------------------------------------------------------------------------------------

FAULTS: dict[str, tuple[str, object, str, bool]] = {
    "throttled": ("throttle", 1500, "will not be approved for at least 1500 milliseconds", True),
    "transient": ("transient", "", "is not available. Please retry", True),
    "proxied": ("proxy_error", "", "Error on proxy command 'Get-CASMailbox'", True),
    "an error at the end": ("error_record", "something odd", "something odd", False),
}


@pytest.mark.parametrize("case", FAULTS.values(), ids=FAULTS.keys())
def test_faults_that_are_errors(case: tuple[str, object, str, bool]) -> None:
    kind, value, words, is_terminating = case
    one = session(devices=3)
    one.fault(kind, value, cmdlet="get-casmailbox", times=1)
    assert not one.run("Get-ExchangeServer").errors
    result = one.run("Get-CASMailbox")
    assert words in result.error.message
    assert (result.failed is not None) is is_terminating
    assert bool(result.rows) is not is_terminating
    assert not one.run("Get-CASMailbox").errors


def test_a_fault_is_for_the_server_named() -> None:
    one = session(devices=3)
    one.fault("transient", server="ex02.ese.test")
    assert one.run("Get-CASMailbox").failed is None
    one.state.server = "ex02.ese.test"
    assert one.run("Get-CASMailbox").failed is not None


def test_micro_delay_and_truncation_are_warnings() -> None:
    one = session(devices=30)
    one.fault("micro_delay", 5)
    assert one.run("Get-ExchangeServer").warnings[0].startswith("Micro delay applied. Actual delayed: 5 msecs")
    one.faults.clear()
    one.fault("truncated", 4)
    result = one.run("Get-MobileDevice", ResultSize="Unlimited")
    assert len(result.rows) == 4
    assert "more results available" in result.warnings[0]


@pytest.mark.parametrize("is_stopped", [False, True], ids=["lifted", "stopped meanwhile"])
def test_a_held_command_is_not_begun(is_stopped: bool) -> None:
    one = session(devices=3)
    mailbox = next(m for m in one.store.mailboxes.values() if m.domain == one.store.domain)
    mailbox.allowed = []
    one.fault("hold", cmdlet="Set-CASMailbox")
    stop = threading.Event()
    change = Command("Set-CASMailbox", (("Identity", mailbox.upn), ("ActiveSyncAllowedDeviceIDs", {"Add": ["A"]})))
    thread = threading.Thread(target=lambda: list(one.engine.run(one.state, [change], stop)))
    thread.start()
    assert one.run("Get-CASMailbox", Identity=mailbox.upn).row["ActiveSyncAllowedDeviceIDs"] == []
    thread.join(0.1)
    assert thread.is_alive()
    if is_stopped:
        stop.set()
        thread.join(5)
    one.faults.clear()
    thread.join(5)
    assert not thread.is_alive()
    assert mailbox.allowed == ([] if is_stopped else ["A"])


def test_a_command_can_be_held_for_a_time() -> None:
    one = session(devices=3)
    one.fault("hold", 0.2, cmdlet="Get-OrganizationConfig", times=1)
    started = time.monotonic()
    assert one.run("Get-OrganizationConfig").rows
    assert time.monotonic() - started >= 0.2
    assert one.faults.all() == []


def test_slowness_is_waited_for_and_given_up_when_the_command_is_stopped() -> None:
    waits: list[float] = []

    class Impatient:
        """A threading.Event that is never set and does not wait."""

        def wait(self, seconds: float) -> bool:
            waits.append(seconds)
            return False

        def is_set(self) -> bool:
            return False

    one = session(devices=10).entire_forest()
    one.fault("slow_command", 3)
    one.fault("slow_object", 0.5)
    outputs = list(one.engine.run(one.state, [Command("Get-MobileDevice")], Impatient()))  # type: ignore[arg-type]
    assert waits == [3.0] + [0.5] * len(outputs)

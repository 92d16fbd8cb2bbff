"""The lab as it is started, asked over the wire with pypsrp as it is shipped: a representative set of everything."""

from __future__ import annotations

import re
from xml.etree.ElementTree import ParseError

import pytest
from pypsrp.complex_objects import PSInvocationState
from pypsrp.exceptions import AuthenticationError, InvalidPSRPOperation, WinRMTransportError, WSManFaultError
from pypsrp.powershell import PowerShell
from requests import exceptions as requests_errors

from tests.lab.remote import Options, ask, pool, run
from tests.labs import VERSIONS, Lab

pytestmark = pytest.mark.wire

SIGN_INS: dict[str, Options] = {
    "Basic, http": {"auth": "basic", "ssl": False, "encryption": "never"},
    "Basic, https": {"auth": "basic"},
    "NTLM, http": {"auth": "ntlm", "ssl": False},
    "NTLM, https": {"auth": "ntlm"},
    "Negotiate, http": {"auth": "negotiate", "ssl": False},
    "Negotiate, https": {"auth": "negotiate"},
}


def devices_cmdlet(version: str) -> str:
    return "Get-ActiveSyncDevice" if version == "2010" else "Get-MobileDevice"


# --- every version, every sign-in -------------------------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
def test_every_version_lists_its_devices(lab: Lab, version: str) -> None:
    organization = lab.organization(version)
    found = ask(organization, devices_cmdlet(version), ResultSize="Unlimited").output
    known = {row["guid"]: row for row in organization.devices()}
    assert {str(one.adapted_properties["Guid"]) for one in found} == set(known)
    for one in found:
        row = known[str(one.adapted_properties["Guid"])]
        assert one.adapted_properties["DeviceId"] == row["device_id"]
        assert one.adapted_properties["FriendlyName"] == row["friendly_name"]
        assert one.adapted_properties["DeviceAccessState"] == row["state"]


@pytest.mark.parametrize("options", SIGN_INS.values(), ids=SIGN_INS.keys())
def test_every_sign_in(lab: Lab, options: Options) -> None:
    with pool(lab.organization("2016"), **options) as opened:
        assert len(run(opened, "Get-ExchangeServer").output) == 2


def test_a_upn_signs_in_as_well(lab: Lab) -> None:
    organization = lab.organization("2013")
    with pool(organization, username=organization.account().upn.upper()) as opened:
        assert run(opened, "Get-ExchangeServer").output


def test_servers_share_one_store_and_no_shells(lab: Lab) -> None:
    organization = lab.organization("SE")
    mailbox = organization.mailboxes()[0]["upn"]
    with pool(organization, server=0) as one, pool(organization, server=2) as other:
        run(one, "Set-CASMailbox", Identity=mailbox, ActiveSyncBlockedDeviceIDs=["SHARED"])
        row = run(other, "Get-CASMailbox", "ActiveSyncBlockedDeviceIDs", Identity=mailbox).output[0]
        assert "<S>SHARED</S>" in row.extended_properties["ActiveSyncBlockedDeviceIDs"].property_sets[0]
        run(other, "Set-CASMailbox", Identity=mailbox, ActiveSyncBlockedDeviceIDs=None)
    # Its shell is known to the server that made it alone.
    with pool(organization, server=0) as one:
        one.connection.transport.endpoint = one.connection.transport.endpoint.replace(
            str(organization.servers[0].https_port), str(organization.servers[1].https_port)
        )
        with pytest.raises(WSManFaultError) as caught:
            run(one, "Get-ExchangeServer")
        assert caught.value.code == 2150858843
        one.connection.transport.endpoint = one.connection.transport.endpoint.replace(
            str(organization.servers[1].https_port), str(organization.servers[0].https_port)
        )


# --- a representative set of cmdlets ----------------------------------------------------------------------------


def test_a_hashtable_changes_a_personal_list(lab: Lab) -> None:
    organization = lab.organization("2019")
    mailbox = organization.mailboxes()[1]
    with pool(organization) as opened:
        run(opened, "Set-ADServerSettings", ViewEntireForest=True)
        done = run(opened, "Set-CASMailbox", Identity=mailbox["upn"],
                   ActiveSyncAllowedDeviceIDs={"Add": ["A§1", "手機📱"], "Remove": ["B"]})  # fmt: skip
        assert done.streams.error == []
        again = run(opened, "Set-CASMailbox", Identity=mailbox["upn"], ActiveSyncAllowedDeviceIDs={"Add": "a§1"})
        assert "have been modified" in str(again.streams.warning[0].message)
    found = next(row for row in organization.mailboxes() if row["upn"] == mailbox["upn"])
    assert found["allowed"][-2:] == ["A§1", "手機📱"]
    organization.mailbox_change(mailbox["upn"], allowed=mailbox["allowed"])


def test_an_error_is_no_failure(lab: Lab) -> None:
    shell = ask(lab.organization("SE"), "Get-CASMailbox", Identity="nobody")
    assert shell.had_errors is False
    [error] = shell.streams.error
    assert error.reason == "ManagementObjectNotFoundException"
    assert re.fullmatch(
        r"\[Server=EX01,RequestId=[0-9a-f-]{36},TimeStamp=[^\]]+\] "
        r"\[FailureCategory=Cmdlet-ManagementObjectNotFoundException\] [0-9A-F]{8},\S+\.GetCASMailbox",
        str(error.fq_error),
    )


FAILS: dict[str, tuple[str, Options, str]] = {
    "a cmdlet that is not there": ("Get-Process", {}, "CommandNotFoundException"),
    "a parameter that is not there": ("Get-MobileDevice", {"X": 1}, "NamedParameterNotFound,Get-MobileDevice"),
    "a prompt": (
        "Remove-MobileDevice", {"Identity": "x"},
        "HostFunctionNotImplemented,Microsoft.Exchange.Management.Tasks.RemoveMobileDevice"),
}  # fmt: skip


@pytest.mark.parametrize("case", FAILS.values(), ids=FAILS.keys())
def test_what_ends_a_pipeline(lab: Lab, case: tuple[str, Options, str]) -> None:
    name, parameters, error_id = case
    shell = ask(lab.organization("SE"), name, **parameters)
    assert shell.had_errors is True
    assert [error.fq_error for error in shell.streams.error] == [error_id]


def test_a_script_is_refused(lab: Lab) -> None:
    with pool(lab.organization("2016")) as opened, PowerShell(opened) as shell:
        shell.add_script("Get-MobileDevice | Where-Object { $true }")
        shell.invoke()
        assert "no-language mode" in str(shell.streams.error[0])


def test_what_if_and_confirm_over_the_wire(lab: Lab) -> None:
    organization = lab.organization("2016")
    guid = organization.device_add(device_id="TO-GO")["guid"]
    with pool(organization) as opened:
        run(opened, "Set-ADServerSettings", ViewEntireForest=True)
        run(opened, "Remove-MobileDevice", Identity=guid, WhatIf=True)
        assert any(row["guid"] == guid for row in organization.devices())
        assert not run(opened, "Remove-MobileDevice", Identity=guid, Confirm=False).streams.error
    assert not any(row["guid"] == guid for row in organization.devices())


@pytest.mark.parametrize("name", ["Get-CASMailbox", "Get-Recipient", "Get-ActiveSyncDevice", "Get-MobileDevice"])
def test_truncation_over_the_wire(lab: Lab, name: str) -> None:
    shell = ask(lab.organization("2013"), name, ResultSize=3)
    assert len(shell.output) == 3
    assert "more results available" in str(shell.streams.warning[0].message)


def test_the_full_level(lab: Lab) -> None:
    organization = lab.organization("2016")
    with pool(organization, path="PowerShell?serializationLevel=Full") as opened:
        server = run(opened, "Get-ExchangeServer").output[0].adapted_properties
    assert server["AdminDisplayVersion"].to_string == "Version 15.1 (Build 2507.6)"
    assert server["AdminDisplayVersion"].adapted_properties["Build"] == 2507
    assert server["ServerRole"].property_sets == [2]


def test_roles(lab: Lab) -> None:
    organization = lab.organization("2019")
    with pool(organization, organization.account("viewer")) as opened:
        assert run(opened, "Get-MobileDevice").output
        assert run(opened, "Set-CASMailbox", Identity="x").streams.error[0].fq_error == "CommandNotFoundException"
    with pool(organization, organization.account("none")) as opened:
        assert run(opened, "Get-MobileDevice").streams.error[0].fq_error == "CommandNotFoundException"
    with pytest.raises(AuthenticationError), pool(organization, password="wrong"):
        pass


def test_a_hidden_cmdlet(lab: Lab) -> None:
    organization = lab.organization("2019")
    organization.hide("Select-Object", "Get-MobileDevice:Filter")
    try:
        error = ask(organization, "Get-MobileDevice", "DeviceId").streams.error[0]
        assert error.target_name == "Select-Object"
        error = ask(organization, "Get-MobileDevice", Filter="DeviceType -eq 'iPhone'").streams.error[0]
        assert error.fq_error == "NamedParameterNotFound,Get-MobileDevice"
    finally:
        lab.reset()


# --- faults, as the control interface sets them -----------------------------------------------------------------

# Fault and its value → what pypsrp makes of it: an exception with a code, or an error id in a failed pipeline.
TRANSPORT: dict[str, tuple[str, object, type[Exception], object]] = {
    "refused connection": ("refuse", "", requests_errors.ConnectionError, None),
    "hang": ("hang", 30, requests_errors.Timeout, None),
    "closed without an answer": ("drop", "", requests_errors.ConnectionError, None),
    "401": ("status", 401, AuthenticationError, None),
    "403": ("status", 403, WinRMTransportError, 403),
    "404": ("status", 404, WinRMTransportError, 404),
    "500": ("status", 500, WinRMTransportError, 500),
    "503": ("status", 503, WinRMTransportError, 503),
    "too many shells": ("too_many_shells", "", WSManFaultError, 2150858819),
    "expired certificate": ("expired_certificate", "", requests_errors.SSLError, None),
}


@pytest.mark.parametrize("case", TRANSPORT.values(), ids=TRANSPORT.keys())
def test_faults_of_the_transport(lab: Lab, case: tuple[str, object, type[Exception], object]) -> None:
    kind, value, error, code = case
    organization = lab.organization("SE")
    options: Options = {"reconnection_retries": 0}
    if kind == "hang":
        options |= {"operation_timeout": 1, "read_timeout": 2}
    with lab.fault(kind, server=organization.servers[1].fqdn, value=value):
        with pytest.raises(error) as caught, pool(organization, server=1, **options):
            pass
        assert code is None or getattr(caught.value, "code", None) == code
        # The organisation's other servers are well.
        with pool(organization, server=0) as opened:
            assert run(opened, "Get-ExchangeServer").output
    with pool(organization, server=1) as opened:
        assert run(opened, "Get-ExchangeServer").output


ERRORS: dict[str, tuple[str, object, str]] = {
    "throttled": ("throttle", 2000, "OverBudgetException"),
    "transient": ("transient", "", "ADTransientException"),
    "proxied": ("proxy_error", "", "CmdletProxyException"),
    "an error among the output": ("error_record", "odd", "InvalidOperationException"),
}


@pytest.mark.parametrize("case", ERRORS.values(), ids=ERRORS.keys())
def test_faults_that_are_errors_of_a_cmdlet(lab: Lab, case: tuple[str, object, str]) -> None:
    kind, value, reason = case
    organization = lab.organization("2013")
    with lab.fault(kind, cmdlet="Get-MobileDevice", value=value), pool(organization) as opened:
        assert run(opened, "Get-ExchangeServer").streams.error == []
        assert run(opened, "Get-MobileDevice").streams.error[0].reason == reason
        assert run(opened, "Get-ExchangeServer").streams.error == []


BREAKS: dict[str, tuple[str, object, type[Exception]]] = {
    "shell not found": ("shell_not_found", "", WSManFaultError),
    "broken pool": ("broken_pool", "", InvalidPSRPOperation),
    "dropped in mid-stream": ("drop_mid_stream", 5, requests_errors.RequestException),
}


@pytest.mark.parametrize("case", BREAKS.values(), ids=BREAKS.keys())
def test_faults_that_end_the_session(lab: Lab, case: tuple[str, object, type[Exception]]) -> None:
    kind, value, error = case
    organization = lab.organization("2013")
    with lab.fault(kind, cmdlet="Get-MobileDevice", value=value, times=1):
        with pytest.raises(error) as caught, pool(organization, reconnection_retries=0) as opened:
            run(opened, "Get-MobileDevice")
        if kind == "shell_not_found":
            assert caught.value.code == 2150858843  # type: ignore[attr-defined]
    assert len(ask(organization, "Get-MobileDevice").output) == len(organization.devices())


def test_malformed_clixml(lab: Lab) -> None:
    organization = lab.organization("2013")
    with lab.fault("malformed_clixml", cmdlet="Get-MobileDevice", value=3):
        found = ask(organization, "Get-MobileDevice").output
    # As shipped, pypsrp hands on what it cannot parse, as text.
    assert [number for number, one in enumerate(found, 1) if isinstance(one, str)] == [3]


def test_an_end_that_never_comes(lab: Lab) -> None:
    """pypsrp would ask for ever; so this asks by hand."""
    lab.fault_add("silent_end", cmdlet="Get-ExchangeServer", times=1)
    with pool(lab.organization("2010")) as opened, PowerShell(opened) as shell:
        shell.add_cmdlet("Get-ExchangeServer")
        shell.begin_invoke()
        shell.poll_invoke(timeout=1)
        assert len(shell.output) == 1
        assert shell.state == PSInvocationState.RUNNING
        shell.stop()


GENTLE: dict[str, tuple[str, object]] = {
    "slow at first": ("slow_command", 0.3),
    "slow by the object": ("slow_object", 0.01),
    "one object a Receive": ("objects_per_receive", 1),
    "clock skew": ("clock_skew", 600),
    "micro delay": ("micro_delay", 50),
}


@pytest.mark.parametrize("case", GENTLE.values(), ids=GENTLE.keys())
def test_faults_that_lose_nothing(lab: Lab, case: tuple[str, object]) -> None:
    kind, value = case
    organization = lab.organization("2019")
    cmdlet = "" if kind == "clock_skew" else "Get-MobileDevice"
    with lab.fault(kind, cmdlet=cmdlet, value=value):
        shell = ask(organization, "Get-MobileDevice", "DeviceId")
    assert len(shell.output) == len(organization.devices())
    assert bool(shell.streams.warning) is (kind == "micro_delay")


def test_a_fault_lasts_as_many_times_as_it_says(lab: Lab) -> None:
    organization = lab.organization("2010")
    lab.fault_add("transient", cmdlet="Get-ExchangeServer", times=2)
    with pool(organization) as opened:
        found = [run(opened, "Get-ExchangeServer").had_errors for _ in range(3)]
    assert found == [True, True, False]
    assert lab.call("GET", "faults")["faults"] == []


def test_non_soap(lab: Lab) -> None:
    with lab.fault("non_soap"), pytest.raises(ParseError), pool(lab.organization("2016")):
        pass


def test_redirect(lab: Lab) -> None:
    elsewhere = pytest.raises(requests_errors.ConnectionError, match="port=9")
    with lab.fault("redirect", value="https://127.0.0.1:9/x"), elsewhere, pool(lab.organization("2016")):
        pass

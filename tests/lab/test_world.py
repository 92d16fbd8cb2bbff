"""The lab as a process: its state file, starting again where it was, and ending without a trace."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from lab.kdc import missing
from lab.scenarios import DEFAULTS, OrganizationSpec, parse
from tests.labs import ROOT, Lab, start_lab

FreshLab = Callable[..., Lab]


def test_the_state_file(lab: Lab) -> None:
    path = lab.home / "lab.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    state = json.loads(path.read_text(encoding="utf-8"))
    assert {"ca", "control", "graph", "ews", "organizations"} <= set(state)
    assert Path(state["ca"]).read_text(encoding="ascii").startswith("-----BEGIN CERTIFICATE")
    for row in state["organizations"]:
        assert {"name", "version", "servers", "accounts"} <= set(row)
        assert [account["role"] for account in row["accounts"]] == ["connector", "viewer", "none", "notification"]
        for server in row["servers"]:
            assert set(server) == {"fqdn", "host", "http_port", "https_port"}
            assert server["host"] == "127.0.0.1"
            for port in (server["http_port"], server["https_port"]):
                socket.create_connection(("127.0.0.1", port), 5).close()
    passwords = [account["password"] for row in state["organizations"] for account in row["accounts"]]
    assert len(set(passwords)) == len(passwords)


def test_the_default_organisations() -> None:
    assert [(one.name, one.tenant, one.version, one.cas, one.devices) for one in DEFAULTS] == [
        ("Contoso", "Contoso", "SE", 3, 300),
        ("Contoso Research", "Contoso", "2016", 2, 300),
        ("Fabrikam", "Fabrikam", "2013", 1, 300),
    ]


def test_what_was_is_there_again_after_a_restart(fresh_lab: FreshLab) -> None:
    first = fresh_lab("name=One,version=2013,devices=5", "name=Two,devices=0")
    assert first.stop() == 0
    again = fresh_lab("name=One,version=2013,devices=5", "name=Two,devices=0", home=first.home)
    same = ("ca", "control", "graph", "ews", "mailbox_password", "organizations")
    assert {key: again.state[key] for key in same} == {key: first.state[key] for key in same}
    assert again.organization("One").devices() == again.organization("One").devices()


def test_a_port_that_somebody_took_meanwhile(fresh_lab: FreshLab) -> None:
    first = fresh_lab("name=One,devices=0")
    server = first.organization("One").servers[0]
    first.stop()
    with socket.create_server(("127.0.0.1", server.https_port)):
        again = fresh_lab("name=One,devices=0", home=first.home).organization("One").servers[0]
    assert again.https_port != server.https_port


def test_a_spoilt_state_file_is_started_over(fresh_lab: FreshLab, tmp_path: Path) -> None:
    (tmp_path / "lab.json").write_text("{", encoding="utf-8")
    assert fresh_lab("name=One,devices=0", home=tmp_path).organization("One").servers


def test_another_organisation_while_it_runs(fresh_lab: FreshLab) -> None:
    lab = fresh_lab("name=One,devices=0")
    added = lab.organization_add(name="Two", version="2010", cas=2, devices=7, tenant="Two", child=3)
    assert [one.name for one in lab.organizations] == ["One", "Two"]
    assert len(added.servers) == 2
    assert len(added.devices()) == 7
    assert {mailbox["domain"] for mailbox in added.mailboxes()} == {"two.lab", "emea.two.lab"}
    assert {mailbox["domain"] for mailbox in lab.organization("One").mailboxes()} == {"one.lab"}
    assert len(added.devices_remove(3)) == 3
    assert len(added.devices()) == 4
    assert [tenant["name"] for tenant in lab.state["graph"]["tenants"]] == ["One", "Two"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_at_once_and_well(fresh_lab: FreshLab, number: int) -> None:
    lab = fresh_lab("name=One,devices=5")
    began = time.monotonic()
    assert lab.stop(number) == 0
    assert time.monotonic() - began < 3
    server = lab.organization("One").servers[0]
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", server.https_port), 5)


def test_it_dies_with_the_tests_that_started_it(tmp_path: Path) -> None:
    program = (
        "import sys, time; from pathlib import Path; from tests.labs import start_lab;"
        f"lab = start_lab(Path({str(tmp_path)!r}), ['name=One,devices=0']);"
        "print(lab.process.pid, flush=True); time.sleep(60)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(ROOT)}
    ) as tests:
        assert tests.stdout is not None
        pid = int(tests.stdout.readline())
        tests.kill()
    end = time.monotonic() + 5
    while _is_running(pid) and time.monotonic() < end:
        time.sleep(0.02)
    assert not _is_running(pid)


def _is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


# --- the command line -------------------------------------------------------------------------------------------

SPECIFICATIONS = {
    "name=Bench,version=2016,cas=1,devices=50000": OrganizationSpec("Bench", "Bench", "2016", "bench.lab", 1, 50_000),
    "name=Zoë & Co,devices=0": OrganizationSpec("Zoë & Co", "Zoë & Co", "SE", "zo-co.lab", 1, 0),
    "name=A,tenant=T,domain=A.Test,seed=4,child=10,authentications=Kerberos+Basic": OrganizationSpec(
        "A", "T", "SE", "a.test", 1, 300, 4, 10, ("Kerberos", "Basic")
    ),
}
WRONG = {
    "": "write name=value",
    "version=2016": "name: missing",
    "name=A,version=2007": "version: '2007' is none of 2010, 2013, 2016, 2019, SE",
    "name=A,cas=0": "cas: 1 to 20",
    "name=A,devices=many": "devices: 'many' is not a whole number",
    "name=A,child=-1": "child: 0 for none",
    "name=A,devices=-1": "devices: 0 to 2000000",
    "name=A,colour=red": "known names are",
    "name=§§": "needs a name with letters or digits",
    "name=A,authentications=Digest": "Digest is none of",
    "name=A,domain=a_b": "domain: ",
}


@pytest.mark.parametrize("text", SPECIFICATIONS)
def test_specifications(text: str) -> None:
    assert parse(text) == SPECIFICATIONS[text]


@pytest.mark.parametrize("text", WRONG)
def test_specifications_that_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=re.escape(WRONG[text])):
        parse(text)


def test_wrong_arguments_end_in_one_line(tmp_path: Path) -> None:
    for organizations in (["name=A,cas=99"], ["name=A", "name=A"]):
        with pytest.raises(RuntimeError) as caught:
            start_lab(tmp_path, organizations)
        text = str(caught.value).partition("did not start: ")[2].strip()
        assert text.startswith("lab: ")
        assert len(text.splitlines()) == 1


@pytest.mark.kerberos
@pytest.mark.skipif(missing() != "", reason=missing())
def test_with_kerberos(fresh_lab: FreshLab) -> None:
    lab = fresh_lab("name=One,devices=2", "name=Two,devices=2", kerberos=True)
    known = lab.state["kerberos"]
    assert known["realms"] == ["ONE.LAB", "TWO.LAB"]
    organization = lab.organization("Two")
    account, server = organization.account(), organization.servers[0]
    program = """
import sys
from pypsrp.powershell import PowerShell, RunspacePool
from pypsrp.wsman import WSMan
port, user, password, name = sys.argv[1:]
wsman = WSMan("127.0.0.1", port=int(port), ssl=False, path="PowerShell", auth="kerberos", username=user,
              password=password, negotiate_hostname_override=name, negotiate_service="HTTP", no_proxy=True)
with wsman, RunspacePool(wsman, configuration_name="Microsoft.Exchange") as pool, PowerShell(pool) as shell:
    shell.add_cmdlet("Get-ExchangeServer")
    print(shell.invoke()[0].adapted_properties["Fqdn"])
"""
    user = account.upn.replace("two.lab", "TWO.LAB")
    done = subprocess.run(
        [sys.executable, "-c", program, str(server.http_port), user, account.password, server.fqdn],
        env={**os.environ, "KRB5_CONFIG": known["config"]}, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.stdout.strip() == server.fqdn, done.stderr

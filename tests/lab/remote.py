"""pypsrp as it is shipped, against an organisation of a running lab: pools, and commands in them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pypsrp.powershell import PowerShell, RunspacePool
from pypsrp.wsman import WSMan

from tests.labs import Account, Organization

Options = dict[str, Any]


@contextmanager
def pool(
    organization: Organization, account: Account | None = None, server: int = 0, **options: Any
) -> Iterator[RunspacePool]:
    place, who = organization.servers[server], account or organization.account()
    arguments: Options = {"ssl": True, "auth": "basic", "username": who.user, "password": who.password} | options
    if arguments["ssl"]:
        arguments["cert_validation"] = organization.lab.ca
    port = place.https_port if arguments["ssl"] else place.http_port
    usual: Options = {"operation_timeout": 3, "read_timeout": 8, "connection_timeout": 5, "path": "PowerShell"}
    wsman = WSMan(place.host, port=port, no_proxy=True, **(usual | arguments))
    with wsman, RunspacePool(wsman, configuration_name="Microsoft.Exchange") as opened:
        yield opened


def run(opened: RunspacePool, name: str, /, *select: str, **parameters: Any) -> PowerShell:
    shell = PowerShell(opened)
    shell.add_cmdlet(name).add_parameters(parameters)
    if select:
        shell.add_cmdlet("Select-Object").add_parameter("Property", list(select))
    shell.invoke()
    return shell


def ask(organization: Organization, name: str, /, *select: str, **parameters: Any) -> PowerShell:
    with pool(organization) as opened:
        run(opened, "Set-ADServerSettings", ViewEntireForest=True)
        return run(opened, name, *select, **parameters)

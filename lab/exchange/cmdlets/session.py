"""What is about the session itself: recipient scope. (Get-Command and Select-Object need the engine and stand there.)"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from lab.exchange.cmdlets.registry import Context, Item, cmdlet
from lab.exchange.contract import Output


@cmdlet(
    "Set-ADServerSettings",
    parameters="ViewEntireForest:bool RecipientViewRoot PreferredServer PreferredGlobalCatalog ConfigurationDomainController SetPreferredDomainControllers:strings",
    class_name="Microsoft.Exchange.Management.SystemConfigurationTasks.SetADServerSettings",
    positional="RecipientViewRoot",
)
def set_ad_server_settings(context: Context, arguments: dict[str, Any]) -> Iterator[Item | Output]:
    """Valid for this session only."""
    if "ViewEntireForest" in arguments:
        context.state.view_entire_forest = bool(arguments["ViewEntireForest"])
    return iter(())


@cmdlet(
    "Get-ADServerSettings",
    parameters="",
    class_name="Microsoft.Exchange.Management.SystemConfigurationTasks.GetADServerSettings",
    positional="",
)
def get_ad_server_settings(context: Context, arguments: dict[str, Any]) -> Iterator[Item | Output]:
    properties = [
        ("ViewEntireForest", context.state.view_entire_forest),
        ("DefaultGlobalCatalog", f"dc01.{context.store.domain}"),
    ]
    yield Item(("Microsoft.Exchange.Data.Directory.ADServerSettings", "System.Object"), None, lambda: properties)

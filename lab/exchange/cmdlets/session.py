"""What is about the session itself: recipient scope. (Get-Command and Select-Object stand in helpers.py.)"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from lab.exchange.cmdlets.registry import Context, Item, cmdlet
from lab.exchange.contract import Output

_TASKS = "Microsoft.Exchange.Management.SystemConfigurationTasks"


@cmdlet(
    "Set-ADServerSettings",
    parameters="ViewEntireForest:bool RecipientViewRoot PreferredServer PreferredGlobalCatalog "
    "ConfigurationDomainController SetPreferredDomainControllers:strings",
    class_name=f"{_TASKS}.SetADServerSettings",
    positional="PreferredServer",
)
def set_ad_server_settings(context: Context, arguments: dict[str, Any]) -> Iterator[Item | Output]:
    """Valid for this session only. A view root of the forest's own top domain is the default scope."""
    state = context.state
    if "ViewEntireForest" in arguments:
        state.view_entire_forest = arguments["ViewEntireForest"]
        state.extra.pop("RecipientViewRoot", None)
    if arguments.get("RecipientViewRoot"):
        state.view_entire_forest = False
        state.extra["RecipientViewRoot"] = arguments["RecipientViewRoot"]
    return iter(())


@cmdlet(
    "Get-ADServerSettings",
    parameters="",
    class_name=f"{_TASKS}.GetADServerSettings",
    positional="",
)
def get_ad_server_settings(context: Context, arguments: dict[str, Any]) -> Iterator[Item | Output]:
    state, domain = context.state, context.store.domain
    root = None if state.view_entire_forest else state.extra.get("RecipientViewRoot", domain)
    properties = [
        ("ViewEntireForest", state.view_entire_forest),
        ("RecipientViewRoot", root),
        ("DefaultGlobalCatalog", f"dc01.{domain}"),
    ]
    yield Item(("Microsoft.Exchange.Data.Directory.ADServerSettings", "System.Object"), None, lambda: properties)

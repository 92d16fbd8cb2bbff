"""The commands that are PowerShell's own: Get-Command, Select-Object, and those that Import-PSSession wants.

Exchange must have them (Import-PSSession does not work without); their exact output there is not confirmed.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from lab.exchange.cmdlets.binding import named, unknown_cmdlet
from lab.exchange.cmdlets.registry import CMDLETS, Item, Refusal
from lab.exchange.contract import Command, Output

HELPERS = {name.lower(): name for name in ("Get-Command", "Select-Object", "Get-FormatData", "Get-Help")}
_COMMANDS = "Microsoft.PowerShell.Commands"
_GET_COMMAND = f"{_COMMANDS}.GetCommandCommand"
_TYPES = ("System.Management.Automation.FunctionInfo", "System.Management.Automation.CommandInfo", "System.Object")


def get_command(command: Command, is_granted: Callable[[str], bool]) -> Iterator[Item | Output]:
    """Those of the wanted names that the account has; an error record for each that it has not, and it goes on."""
    wanted: list[str] = []
    for name, value in named(command, _GET_COMMAND, "Name", "CommandType", "Module", "ErrorAction"):
        if name == "Name":
            wanted += [str(one) for one in value] if isinstance(value, list) else [str(value)]
    everything = sorted({cmdlet.name for cmdlet in CMDLETS.values()} | set(HELPERS.values()))
    for pattern in wanted or ["*"]:
        fitting = [name for name in everything if fnmatch.fnmatchcase(name.lower(), pattern.lower())]
        found = [name for name in fitting if is_granted(name)]
        if not found and "*" not in pattern:
            error_id = f"CommandNotFoundException,{_GET_COMMAND}"
            yield unknown_cmdlet(pattern, terminating=False, activity="Get-Command", error_id=error_id)
        for name in found:
            yield _command_info(name)


def _command_info(name: str) -> Item:
    properties: list[tuple[str, Any]] = [
        ("Name", name),
        ("CommandType", "Function"),
        ("Visibility", "Public"),
        ("ModuleName", ""),
    ]
    return Item(_TYPES, name, lambda: properties)


def selection(rest: Sequence[Command]) -> tuple[str, ...] | None:
    """Property names of `| Select-Object -Property ...`; None without it. Raises Refusal for any other command."""
    if not rest:
        return None
    if len(rest) > 1 or rest[0].name.lower() != "select-object":
        raise Refusal(unknown_cmdlet(rest[-1].name))
    names: list[str] = []
    for _, value in named(rest[0], f"{_COMMANDS}.SelectObjectCommand", "Property"):
        names += [str(one) for one in value] if isinstance(value, list) else [str(value)]
    return tuple(names)

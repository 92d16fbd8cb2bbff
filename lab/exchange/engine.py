"""Runs pipelines: which cmdlets an account has, binding, Select-Object, the wire log, and command faults.

Implements contract.Engine. What a client does wrong becomes an error record; a defect of the lab itself does too, plainly
marked, so that a test sees it instead of a hung pipeline.
"""

from __future__ import annotations

import fnmatch
import threading
import traceback
from collections.abc import Iterator, Sequence
from typing import Any

import lab.exchange.cmdlets  # noqa: F401 - fills the registry
from lab.exchange.cmdlets.devices import truncation
from lab.exchange.cmdlets.registry import (
    CMDLETS,
    INVALID_OPERATION,
    OBJECT_NOT_FOUND,
    PARSER_ERROR,
    Cmdlet,
    Context,
    Item,
    Refusal,
    bind,
    unknown_cmdlet,
)
from lab.exchange.contract import Command, Failure, ObjectXml, Output, SessionState, Warn
from lab.exchange.store import Store
from lab.faults import Faults

NO_LANGUAGE = "The syntax is not supported by this runspace. This can occur if the runspace is in no-language mode."
_HELPERS = ("Get-Command", "Select-Object", "Get-FormatData", "Get-Help")


class ExchangeEngine:
    """One organisation. `hidden`: lower-case cmdlet names, or "cmdlet:parameter", that RBAC keeps from everyone."""

    def __init__(self, store: Store, faults: Faults) -> None:
        self.store, self.faults = store, faults
        self.hidden: frozenset[str] = frozenset()

    def protocol_version(self) -> str:
        return self.store.version.protocol

    def run(self, state: SessionState, commands: Sequence[Command], stop: threading.Event) -> Iterator[Output]:
        try:
            yield from self._statements(state, commands, stop)
        except Refusal as refusal:
            yield refusal.failure
        except Exception as error:  # noqa: BLE001 - the outermost boundary of a pipeline
            traceback.print_exc()
            yield Failure(
                message=f"The lab itself failed: {error!r}", exception="Lab.DefectException", category=0,
                fq_error_id="LabDefect", reason="DefectException", terminating=True,
            )  # fmt: skip

    def _statements(self, state: SessionState, commands: Sequence[Command], stop: threading.Event) -> Iterator[Output]:
        statement: list[Command] = []
        for command in commands:
            statement.append(command)
            if command.end_of_statement:
                yield from self._pipeline(state, statement, stop)
                statement = []
        if statement:
            yield from self._pipeline(state, statement, stop)

    def _pipeline(self, state: SessionState, commands: list[Command], stop: threading.Event) -> Iterator[Output]:
        first, *rest = commands
        if any(command.is_script for command in commands):
            yield Failure(
                message=NO_LANGUAGE, exception="System.Management.Automation.ParseException", category=PARSER_ERROR,
                fq_error_id="ScriptsNotAllowed", reason="ParseException", terminating=True,
            )  # fmt: skip
            return
        for command in commands:
            if not self._granted(state, command.name):
                yield unknown_cmdlet(command.name)
                return
        select = self._selection(rest)
        self._log(state, first)
        full = state.serialization_level == "full"
        if first.name.lower() == "get-command":
            yield from (ObjectXml(item.whole(full)) for item in self._get_command(state, first))
            return
        if first.name.lower() not in CMDLETS:
            return  # Get-Help and the like: nothing to show
        yield from self._with_faults(state, first, self._outputs(state, first, select, full), stop)

    def _outputs(
        self, state: SessionState, command: Command, select: tuple[str, ...] | None, full: bool
    ) -> Iterator[Output]:
        cmdlet = CMDLETS[command.name.lower()]
        arguments = bind(cmdlet, command, self.store.version.rank, self.hidden)
        context = Context(self.store, state, cmdlet.name, cmdlet.class_name)
        if arguments.pop("WhatIf", False):
            # Host output only; nothing is done and nothing comes back.
            return
        if cmdlet.confirms and arguments.pop("Confirm", True):
            raise Refusal(_confirmation(context))
        arguments.pop("Confirm", None)
        for item in cmdlet.run(context, arguments):
            if isinstance(item, Item):
                yield ObjectXml(item.whole(full) if select is None else item.selected(select, full))
            else:
                yield item
        yield from context.warnings

    # --- what an account may see ---

    def _granted(self, state: SessionState, name: str) -> bool:
        lowered = name.lower()
        role = state.account.role
        if role == "none" or lowered in self.hidden:
            return False
        if lowered in (helper.lower() for helper in _HELPERS):
            return True
        cmdlet = CMDLETS.get(lowered)
        return cmdlet is not None and self._visible(cmdlet, role)

    def _visible(self, cmdlet: Cmdlet, role: str) -> bool:
        if cmdlet.since > self.store.version.rank:
            return False
        return role == "connector" or cmdlet.is_read or cmdlet.name == "Set-ADServerSettings"

    def _get_command(self, state: SessionState, command: Command) -> Iterator[Item]:
        wanted: list[str] = []
        for name, value in command.parameters:
            if name is None or name.rstrip(":").lower() == "name":
                wanted += [str(v) for v in value] if isinstance(value, list) else [str(value)]
        names = sorted([c.name for c in CMDLETS.values()] + list(_HELPERS))
        for pattern in wanted or ["*"]:
            found = [n for n in names if fnmatch.fnmatchcase(n.lower(), pattern.lower()) and self._granted(state, n)]
            if not found and "*" not in pattern:
                raise Refusal(
                    Failure(
                        message=f"The term '{pattern}' is not recognized as the name of a cmdlet, function, script file, or operable program.",
                        exception="System.Management.Automation.CommandNotFoundException",
                        category=OBJECT_NOT_FOUND,
                        fq_error_id="CommandNotFoundException,Microsoft.PowerShell.Commands.GetCommandCommand",
                        reason="CommandNotFoundException",
                        activity="Get-Command",
                        target_name=pattern,
                    )  # fmt: skip
                )
            for name in found:
                yield _command_info(name)

    def _selection(self, rest: list[Command]) -> tuple[str, ...] | None:
        """Property names of `| Select-Object -Property ...`; None without it."""
        if not rest:
            return None
        if len(rest) > 1 or rest[0].name.lower() != "select-object":
            raise Refusal(unknown_cmdlet(rest[-1].name))
        names: list[str] = []
        for name, value in rest[0].parameters:
            if name is not None and name.rstrip(":").lower() != "property":
                raise Refusal(
                    Failure(
                        message=f"A parameter cannot be found that matches parameter name '{name}'.",
                        exception="System.Management.Automation.ParameterBindingException",
                        category=5,
                        fq_error_id="NamedParameterNotFound,Microsoft.PowerShell.Commands.SelectObjectCommand",
                        reason="ParameterBindingException",
                        activity="Select-Object",
                        target_name=str(name),
                        terminating=True,
                    )  # fmt: skip
                )
            names += [str(v) for v in value] if isinstance(value, list | tuple) else [str(value)]
        return tuple(names)

    def _log(self, state: SessionState, command: Command) -> None:
        parameters = {str(name or "").rstrip(":"): _jsonable(value) for name, value in command.parameters}
        self.store.log(state.server, state.account.user, command.name, parameters)

    # --- faults of lab/faults.py that concern commands ---

    def _with_faults(
        self, state: SessionState, command: Command, outputs: Iterator[Output], stop: threading.Event
    ) -> Iterator[Output]:
        where = {"server": state.server, "cmdlet": command.name}
        context = Context(self.store, state, command.name, f"Lab.{command.name.replace('-', '')}")
        if fault := self.faults.take("slow_command", **where):
            stop.wait(float(fault.value or 1))
        if fault := self.faults.take("micro_delay", **where):
            milliseconds = int(fault.value or 500)
            stop.wait(milliseconds / 1000)
            yield Warn(
                f"Micro delay applied. Actual delayed: {milliseconds} msecs, Enforced delay: {milliseconds} msecs, "
                "Capped delay: 0 msecs, Required: False, Additional info: Policy: Default."
            )
        for kind, failure in (("throttle", _throttled), ("transient", _transient), ("proxy_error", _proxy)):
            if fault := self.faults.take(kind, **where):
                yield failure(context, fault.value)
                return
        truncated = self.faults.take("truncated", **where)
        slow = self.faults.take("slow_object", **where)
        sent = 0
        for output in outputs:
            if stop.is_set():
                return
            if slow is not None and isinstance(output, ObjectXml):
                stop.wait(float(slow.value or 0.01))
            if truncated is not None and isinstance(output, ObjectXml) and sent >= int(truncated.value or 0):
                yield truncation(sent)
                return
            sent += isinstance(output, ObjectXml)
            yield output
        if fault := self.faults.take("error_record", **where):
            yield context.error(
                fault.value or "An error of the lab's making.",
                "System.InvalidOperationException",
                category=INVALID_OPERATION,
            )


def _throttled(context: Context, value: str) -> Failure:
    milliseconds = int(value or 30_000)
    return context.error(
        "The user load quota of 500 requests per 5 seconds has been exceeded. Send future requests at a slower rate or raise the "
        f"quota for this user. The next request from this user will not be approved for at least {milliseconds} milliseconds.",
        "Microsoft.Exchange.Data.Directory.OverBudgetException",
        terminating=True,
    )


def _transient(context: Context, value: str) -> Failure:
    return context.error(
        value or f"Active Directory server dc01.{context.store.domain} is not available. Please retry at a later time.",
        "Microsoft.Exchange.Data.Directory.ADTransientException",
        terminating=True,
    )


def _proxy(context: Context, value: str) -> Failure:
    return context.error(
        value
        or f"Error on proxy command '{context.cmdlet}' to server {context.state.server}: Server version 15.01.2507.000, "
        "Proxy method RPS: The WinRM client cannot process the request.",
        "Microsoft.Exchange.Configuration.CmdletProxyException",
        terminating=True,
    )


def _confirmation(context: Context) -> Failure:
    return Failure(
        message="A command that prompts the user failed because the host program or the command type does not support user interaction. "
        "The host was attempting to request confirmation with the following message: Are you sure you want to perform this action?",
        exception="System.Management.Automation.Host.HostException", category=INVALID_OPERATION,
        fq_error_id=f"HostFunctionNotImplemented,{context.class_name}", reason="HostException", activity=context.cmdlet,
        terminating=True,
    )  # fmt: skip


def _command_info(name: str) -> Item:
    properties: list[tuple[str, Any]] = [
        ("Name", name),
        ("CommandType", "Function"),
        ("Visibility", "Public"),
        ("ModuleName", ""),
    ]
    types = ("System.Management.Automation.FunctionInfo", "System.Management.Automation.CommandInfo", "System.Object")
    return Item(types, name, lambda: properties)


def _jsonable(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _jsonable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_jsonable(item) for item in value]
    return value if isinstance(value, str | int | float | bool) or value is None else str(value)

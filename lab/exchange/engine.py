"""Runs pipelines: which cmdlets an account has, binding, confirmation, preferences, the wire log.

Implements contract.Engine. What a client does wrong becomes an error record; a defect of the lab itself does too,
plainly marked, so that a test sees it instead of a hung pipeline.
"""

from __future__ import annotations

import dataclasses
import threading
import traceback
from collections.abc import Iterator, Sequence
from typing import Any

import lab.exchange.cmdlets  # noqa: F401 - fills the registry
from lab.exchange.cmdlets.binding import Bound, bind, unknown_cmdlet
from lab.exchange.cmdlets.helpers import HELPERS, get_command, selection
from lab.exchange.cmdlets.registry import CMDLETS, INVALID_OPERATION, Cmdlet, Context, Item, Refusal
from lab.exchange.command_faults import with_faults
from lab.exchange.contract import Command, Failure, ObjectXml, Output, SessionState, Warn
from lab.exchange.store import Store
from lab.exchange.values import NO_SCRIPTS
from lab.faults import Faults


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
        if any(command.is_script for command in commands):
            yield NO_SCRIPTS
            return
        for command in commands:
            if not self._granted(state, command.name):
                yield unknown_cmdlet(command.name)
                return
        first, *rest = commands
        select = selection(rest)
        self._log(state, first)
        cmdlet = CMDLETS.get(first.name.lower())
        if cmdlet is not None:
            yield from self._cmdlet(state, cmdlet, first, select, stop)
            return
        # The helpers: Get-Help, Get-FormatData and a lone Select-Object have nothing to show.
        if first.name.lower() == "get-command":
            found = get_command(first, lambda name: self._granted(state, name))
            yield from self._rendered(found, select, state.serialization_level == "full")

    def _cmdlet(
        self,
        state: SessionState,
        cmdlet: Cmdlet,
        command: Command,
        select: tuple[str, ...] | None,
        stop: threading.Event,
    ) -> Iterator[Output]:
        context = Context(self.store, state, cmdlet.name, cmdlet.class_name)
        bound = bind(cmdlet, command, self.store.version.rank, self.hidden)
        outputs = self._rendered(self._run(cmdlet, context, bound), select, state.serialization_level == "full")
        for output in with_faults(self.faults, context, outputs, stop):
            if isinstance(output, Warn) and bound.action("WarningAction") in ("SilentlyContinue", "Ignore"):
                continue
            if isinstance(output, Failure) and not output.terminating:
                action = bound.action("ErrorAction")
                if action == "Ignore":
                    continue
                if action == "Stop":
                    yield dataclasses.replace(output, terminating=True)
                    return
            yield output

    def _run(self, cmdlet: Cmdlet, context: Context, bound: Bound) -> Iterator[Item | Output]:
        arguments: dict[str, Any] = dict(bound.values)
        if arguments.pop("WhatIf", False):
            # What would be done is told to the host, which a remote client does not have: nothing comes back.
            return
        if arguments.pop("Confirm", cmdlet.confirms):
            raise Refusal(_confirmation(context))
        try:
            yield from cmdlet.run(context, arguments)
        except Refusal as refusal:
            yield refusal.failure
        yield from context.warnings

    def _rendered(
        self, outputs: Iterator[Item | Output], select: tuple[str, ...] | None, full: bool
    ) -> Iterator[Output]:
        for output in outputs:
            if isinstance(output, Item):
                yield ObjectXml(output.whole(full) if select is None else output.selected(select, full))
            else:
                yield output

    # --- what an account may see ---

    def _granted(self, state: SessionState, name: str) -> bool:
        lowered, role = name.lower(), state.account.role
        if role == "none" or lowered in self.hidden:
            return False
        cmdlet = CMDLETS.get(lowered)
        if cmdlet is None:
            return lowered in HELPERS
        if cmdlet.since > self.store.version.rank:
            return False
        return role == "connector" or cmdlet.is_read or cmdlet.name == "Set-ADServerSettings"

    def _log(self, state: SessionState, command: Command) -> None:
        parameters = {str(name or "").rstrip(":"): _jsonable(value) for name, value in command.parameters}
        self.store.log(state.server, state.account.user, command.name, parameters)


def _confirmation(context: Context) -> Failure:
    return Failure(
        message="A command that prompts the user failed because the host program or the command type does not support "
        "user interaction. The host was attempting to request confirmation with the following message: Are you sure "
        "you want to perform this action?",
        exception="System.Management.Automation.Host.HostException", category=INVALID_OPERATION,
        fq_error_id=f"HostFunctionNotImplemented,{context.class_name}", reason="HostException", activity=context.cmdlet,
        terminating=True,
    )  # fmt: skip


def _jsonable(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _jsonable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_jsonable(item) for item in value]
    return value if isinstance(value, str | int | float | bool) or value is None else str(value)

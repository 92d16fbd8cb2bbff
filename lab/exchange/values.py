"""From psrpcore's objects to plain Python, and from the contract's failures to psrpcore's error records."""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Any

from psrpcore.types import ErrorCategory, ErrorCategoryInfo, ErrorRecord, NETException, PSObject

from lab.exchange.contract import Command, Failure

# HRESULT of System.Exception; Exchange's own differ by class and nobody looks at them.
HRESULT = -2146233088


def plain(value: Any) -> Any:
    """A parameter's value: str, int, float, bool, None, bytes, list, dict, UUID, datetime; text for the rest."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, Enum):
        return str(value.name)
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value)
    if isinstance(value, uuid.UUID):
        return uuid.UUID(int=value.int)
    if isinstance(value, datetime.datetime | datetime.timedelta):
        return value
    if isinstance(value, bytes | bytearray):
        return bytes(value)
    if isinstance(value, Mapping):
        return {plain(key): plain(item) for key, item in value.items()}
    if isinstance(value, Sequence):
        return [plain(item) for item in value]
    return _from_object(value)


def _from_object(value: Any) -> Any:
    """An object that came deserialized: its base value where it wraps one, else its text."""
    inner = getattr(value, "value", None)
    if isinstance(inner, str | int | float) and isinstance(value, PSObject):
        return inner
    try:
        return [plain(item) for item in value]
    except TypeError:
        text = getattr(getattr(value, "PSObject", None), "to_string", None)
        return text if isinstance(text, str) else str(value)


def commands(spec: Any) -> tuple[Command, ...]:
    """The commands of a CREATE_PIPELINE's specification."""
    return tuple(
        Command(
            name=plain(command.command_text) or "",
            parameters=tuple((_parameter(name), plain(value)) for name, value in command.parameters),
            is_script=bool(command.is_script),
            end_of_statement=bool(command.end_of_statement),
        )
        for command in spec.commands
    )


def _parameter(name: Any) -> str | None:
    return plain(name).removeprefix("-").removesuffix(":") if name else None


class CategoryInfo(ErrorCategoryInfo):
    """psrpcore's, with the text as PowerShell writes it: `ObjectNotFound: (x:String) [Get-Thing], SomeException`."""

    def __str__(self) -> str:
        target = f"({self.TargetName or ''}:{self.TargetType or ''})"
        return f"{self.Category.name}: {target} [{self.Activity or ''}], {self.Reason or ''}"


def error_parts(failure: Failure) -> dict[str, Any]:
    """The arguments of ServerPipeline.write_error for a failure."""
    exception = NETException(Message=failure.message, HResult=HRESULT)
    exception.PSObject.type_names = list(dict.fromkeys([failure.exception, *exception.PSObject.type_names]))
    try:
        category = ErrorCategory(failure.category)
    except ValueError:
        category = ErrorCategory.NotSpecified
    return {
        "exception": exception,
        "category_info": CategoryInfo(
            Category=category,
            Activity=failure.activity,
            Reason=failure.reason,
            TargetName=failure.target_name,
            TargetType=failure.target_type,
        ),
        "fully_qualified_error_id": failure.fq_error_id,
    }


def error_record(failure: Failure) -> ErrorRecord:
    """The record with which a pipeline or a pool ends."""
    parts = error_parts(failure)
    return ErrorRecord(
        Exception=parts["exception"],
        CategoryInfo=parts["category_info"],
        FullyQualifiedErrorId=parts["fully_qualified_error_id"],
    )


NO_SCRIPTS = Failure(
    message="The syntax is not supported by this runspace. This can occur if the runspace is in no-language mode.",
    exception="System.Management.Automation.ParseException",
    category=ErrorCategory.ParserError.value,
    fq_error_id="ScriptsNotAllowed",
    reason="ParseException",
    terminating=True,
)

POOL_BROKEN = Failure(
    message="The runspace pool was closed because the process that hosts it has ended.",
    exception="System.Management.Automation.Remoting.PSRemotingTransportException",
    category=ErrorCategory.OperationStopped.value,
    fq_error_id="PSSessionStateBroken",
    reason="PSRemotingTransportException",
    terminating=True,
)

"""Binding as PowerShell does it: names in any case and unambiguously short, positions, conversion, parameter sets.

What it refuses carries PowerShell's own ids (NamedParameterNotFound and the like), not Exchange's.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from lab.exchange.cmdlets.registry import INVALID_ARGUMENT, INVALID_DATA, OBJECT_NOT_FOUND, Cmdlet, Parameter, Refusal
from lab.exchange.contract import Command, Failure

_AUTOMATION = "System.Management.Automation"
# Parameters that every cmdlet has; the engine heeds the first two.
COMMON = (
    "ErrorAction", "WarningAction", "InformationAction", "Verbose", "Debug", "ErrorVariable", "WarningVariable",
    "InformationVariable", "OutVariable", "OutBuffer", "PipelineVariable",
)  # fmt: skip
# ActionPreference by its number, which is what a client sends that knows the type.
_ACTIONS = ("SilentlyContinue", "Stop", "Continue", "Inquire", "Ignore", "Suspend")


@dataclass
class Bound:
    """Values by declared names, and the common parameters."""

    values: dict[str, Any] = field(default_factory=dict)
    common: dict[str, Any] = field(default_factory=dict)

    def action(self, name: str) -> str:
        """ErrorAction or WarningAction, as its label."""
        value = self.common.get(name, "Continue")
        if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < len(_ACTIONS):
            return _ACTIONS[value]
        return next((label for label in _ACTIONS if label.lower() == str(value).lower()), "Continue")


def unknown_cmdlet(name: str, *, terminating: bool = True, activity: str = "", error_id: str = "") -> Failure:
    """What PowerShell says of a command that is not there, or hidden."""
    return Failure(
        message=f"The term '{name}' is not recognized as the name of a cmdlet, function, script file, or operable "
        "program. Check the spelling of the name, or if a path was included, verify that the path is correct and try "
        "again.",
        exception=f"{_AUTOMATION}.CommandNotFoundException", category=OBJECT_NOT_FOUND, activity=activity,
        fq_error_id=error_id or "CommandNotFoundException", reason="CommandNotFoundException", target_name=name,
        target_type="String", terminating=terminating,
    )  # fmt: skip


def refusal(cmdlet: str, message: str, error_id: str, *, owner: str = "", data: bool = False) -> Refusal:
    """A binder's refusal. `data`: of a value; otherwise of a name or a set."""
    reason = "ParameterBindingException"
    if error_id == "ParameterArgumentTransformationError":
        reason = "ParameterBindingArgumentTransformationException"
    elif data:
        reason = "ParameterBindingValidationException"
    return Refusal(
        Failure(
            message=message, exception=f"{_AUTOMATION}.{reason}", reason=reason,
            category=INVALID_DATA if data else INVALID_ARGUMENT, fq_error_id=f"{error_id},{owner or cmdlet}",
            activity=cmdlet, terminating=True,
        )
    )  # fmt: skip


def bind(cmdlet: Cmdlet, command: Command, rank: int, hidden: frozenset[str]) -> Bound:
    """Parameter values by their declared names. Raises Refusal as PowerShell's binder would."""
    visible = [
        one
        for one in cmdlet.parameters.values()
        if one.since <= rank <= one.until and f"{cmdlet.name}:{one.name}".lower() not in hidden
    ]
    bound = Bound()
    for name, value in command.parameters:
        if name is None:
            parameter = _positional(cmdlet, visible, bound, value)
        else:
            parameter = _named(cmdlet, visible, name.rstrip(":"))
        target = bound.common if parameter.name in COMMON else bound.values
        if parameter.name in target:
            raise refusal(
                cmdlet.name,
                f"Cannot bind parameter because parameter '{parameter.name}' is specified more than once.",
                "ParameterAlreadyBound",
            )
        is_required = any(parameter.name in words for words in cmdlet.required)
        target[parameter.name] = _convert(cmdlet.name, parameter, value, is_required=is_required)
    _check_sets(cmdlet, bound.values)
    return bound


def _positional(cmdlet: Cmdlet, visible: list[Parameter], bound: Bound, value: Any) -> Parameter:
    free = next((one for one in visible if one.name == cmdlet.positional and one.name not in bound.values), None)
    if free is None:
        raise refusal(
            cmdlet.name,
            f"A positional parameter cannot be found that accepts argument '{value}'.",
            "PositionalParameterNotFound",
        )
    return free


def _named(cmdlet: Cmdlet, visible: list[Parameter], name: str) -> Parameter:
    wanted = name.lower()
    known = {one.name.lower(): one for one in [*visible, *(Parameter(word, "any") for word in COMMON)]}
    if wanted in known:
        return known[wanted]
    candidates = [one for key, one in known.items() if key.startswith(wanted)]
    if len(candidates) == 1:
        return candidates[0]
    if candidates:
        matches = " ".join(f"-{one.name}" for one in candidates)
        raise refusal(
            cmdlet.name,
            f"Parameter cannot be processed because the parameter name '{name}' is ambiguous. Possible matches "
            f"include: {matches}.",
            "AmbiguousParameter",
        )
    raise refusal(
        cmdlet.name, f"A parameter cannot be found that matches parameter name '{name}'.", "NamedParameterNotFound"
    )


def _check_sets(cmdlet: Cmdlet, values: dict[str, Any]) -> None:
    missing = [words[0] for words in cmdlet.required if not any(word in values for word in words)]
    if missing:
        raise refusal(
            cmdlet.name,
            f"Cannot process command because of one or more missing mandatory parameters: {' '.join(missing)}.",
            "MissingMandatoryParameter",
        )
    if any(sum(word in values for word in words) > 1 for words in cmdlet.exclusive):
        raise refusal(
            cmdlet.name,
            "Parameter set cannot be resolved using the specified named parameters.",
            "AmbiguousParameterSet",
        )


# --- values -----------------------------------------------------------------------------------------------------


class _Unfit(Exception):
    """The value does not fit the parameter's .NET type, which is named."""


def _convert(cmdlet: str, parameter: Parameter, value: Any, *, is_required: bool) -> Any:
    if value is None and is_required:
        raise refusal(
            cmdlet,
            f"Cannot bind argument to parameter '{parameter.name}' because it is null.",
            "ParameterArgumentValidationErrorNullNotAllowed",
            data=True,
        )
    try:
        return _CONVERSIONS[parameter.kind](value)
    except _Unfit as error:
        raise refusal(
            cmdlet,
            f"Cannot process argument transformation on parameter '{parameter.name}'. Cannot convert value "
            f'"{value}" to type "{error}".',
            "ParameterArgumentTransformationError",
            data=True,
        ) from None


def _switch(value: Any) -> bool:
    # A switch sent with an explicit null counts as present.
    return True if value is None else _boolean(value)


def _boolean(value: Any) -> bool:
    if value is None:
        return False
    if isinstance(value, bool | int):
        return bool(value)
    raise _Unfit("System.Boolean")


def _size(value: Any) -> int | None:
    """ResultSize; None is Unlimited."""
    if isinstance(value, str) and value.strip().lower() == "unlimited":
        return None
    if (number := _whole(value)) is not None and 0 <= number < 2**32:
        return number
    raise _Unfit("Microsoft.Exchange.Data.Unlimited`1[System.UInt32]")


def _number(value: Any) -> int | None:
    if value is None:
        return None
    if (number := _whole(value)) is not None:
        return number
    raise _Unfit("System.Int32")


def _whole(value: Any) -> int | None:
    if isinstance(value, str) and re.fullmatch(r"\s*-?\d+\s*", value):
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _strings(value: Any) -> Any:
    return value if value is None or isinstance(value, dict | list) else [str(value)]


def _string(value: Any) -> str | None:
    if isinstance(value, dict | list):
        raise _Unfit("System.String")
    return None if value is None else str(value)


def _identity(value: Any) -> str | None:
    """What names an object: text or a GUID, never a whole object, and never empty."""
    text = _string(value)
    if text is not None and not text.strip():
        raise _Unfit("Microsoft.Exchange.Configuration.Tasks.ADIdParameter")
    return text


_CONVERSIONS: dict[str, Callable[[Any], Any]] = {
    "string": _string, "id": _identity, "switch": _switch, "bool": _boolean, "size": _size, "number": _number,
    "strings": _strings, "any": lambda value: value,
}  # fmt: skip


def named(command: Command, owner: str, *names: str) -> Iterator[tuple[str, Any]]:
    """The parameters of a helper command, of which only `names` exist; one without a name is the first's."""
    for name, value in command.parameters:
        wanted = (name or names[0]).rstrip(":").lower()
        known = next((one for one in names if one.lower() == wanted), None)
        if known is None:
            raise refusal(
                command.name,
                f"A parameter cannot be found that matches parameter name '{name}'.",
                "NamedParameterNotFound",
                owner=owner,
            )
        yield known, value

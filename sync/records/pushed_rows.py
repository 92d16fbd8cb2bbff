"""What another system may say of a record, checked field by field: names as Graph's managedDevice has them.

Reads JSON values and the text of CSV cells; touches no table. Each problem names the field, the reason and the remedy.
Refuses what it does not know rather than passing over it: a misspelt complianceState must not count as none.
"""

from __future__ import annotations

import datetime
import difflib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from django.utils.translation import gettext as _

from sync.deciding.facts import text_key
from sync.events import storable
from sync.models import ManagedDevice
from sync.records.record_store import RecordValues

# Graph's complianceState.
COMPLIANCE = (
    "unknown", "compliant", "noncompliant", "conflict", "error", "inGracePeriod", "configManager",
)  # fmt: skip
_COMPLIANCE = {text_key(label): label for label in COMPLIANCE}
_TRUE, _FALSE = frozenset({"true", "yes", "1"}), frozenset({"false", "no", "0"})
_CONTROL = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")
# Graph writes "never" and "no deadline" as years that no device has.
_NO_TIME = ("0001-", "9999-")


@dataclass(frozen=True, slots=True)
class FieldProblem:
    """field: "" for the row as a whole. code: stable; message: in the language of whoever reads it now."""

    field: str
    code: str
    message: str


class RowError(ValueError):
    """A row that cannot be taken. Nothing of it is."""

    def __init__(self, problems: list[FieldProblem]) -> None:
        super().__init__("; ".join(problem.message for problem in problems))
        self.problems = problems


class _Refused(ValueError):
    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def quoted(value: object, length: int = 64) -> str:
    """What was sent, as a message can repeat it: cut short, and without halves of characters, which JSON can hold and
    no answer can."""
    return str(storable(str(value)))[:length]


def _text(value: object, name: str) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        raise _Refused("not_text", _("%(field)s is not text. Put its value in quotes.") % {"field": name})
    text = value.strip()
    if _CONTROL.search(text):
        raise _Refused(
            "control_character",
            _("%(field)s holds a line break or another control character. Leave it out.") % {"field": name},
        )
    limit = _LIMITS[FIELDS[name].column]
    if len(text) > limit:
        raise _Refused(
            "too_long",
            _("%(field)s has %(length)d characters; at most %(limit)d are kept. Shorten it.")
            % {"field": name, "length": len(text), "limit": limit},
        )
    return text


def _flag(value: object, name: str) -> bool | None:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        word = text_key(value)
        if not word:
            return None
        if word in _TRUE or word in _FALSE:
            return word in _TRUE
    raise _Refused(
        "not_a_flag",
        _("%(field)s is neither true nor false. Write true, false, or leave it empty when it is not known.")
        % {"field": name},
    )


def _time(value: object, name: str) -> datetime.datetime | None:
    if value is None or value == "":
        return None
    wrong = _Refused(
        "not_a_time",
        _("%(field)s is not a time. Write it as 2026-01-31T08:00:00Z, or leave it empty.") % {"field": name},
    )
    if not isinstance(value, str):
        raise wrong
    if value.strip().startswith(_NO_TIME):
        return None
    try:
        moment = datetime.datetime.fromisoformat(value.strip())
        moment_utc = moment.astimezone(datetime.UTC) if moment.tzinfo else None
    except (ValueError, OverflowError):
        raise wrong from None
    if moment_utc is None:
        raise _Refused(
            "no_time_zone",
            _("%(field)s has no time zone. Add Z for UTC, or an offset such as +08:00.") % {"field": name},
        )
    return moment_utc


def _compliance(value: object, name: str) -> str:
    label = _COMPLIANCE.get(text_key(value)) if isinstance(value, str) else None
    if label is None:
        raise _Refused(
            "not_a_state",
            _("“%(value)s” is no %(field)s. Write one of: %(choices)s.")
            % {"field": name, "value": quoted(value), "choices": ", ".join(COMPLIANCE)},
        )
    return label


def _agent(value: object, name: str) -> str:
    text = _text(value, name)
    if text_key(text) == "eas":
        raise _Refused(
            "agent_eas",
            _(
                "%(field)s “eas” means that nothing manages the phone, and such a record counts as none. Leave the "
                "record out, or name what manages it."
            )
            % {"field": name},
        )
    return text


@dataclass(frozen=True, slots=True)
class Field:
    """column: of ManagedDevice. read: the value out of JSON or a cell; raises _Refused."""

    column: str
    read: Callable[[object, str], Any]


FIELDS: Mapping[str, Field] = MappingProxyType(
    {
        "id": Field("source_id", _text),
        "userPrincipalName": Field("upn", _text),
        "emailAddress": Field("email", _text),
        "deviceName": Field("device_name", _text),
        "easDeviceId": Field("eas_device_id", _text),
        "serialNumber": Field("serial", _text),
        "imei": Field("imei", _text),
        "manufacturer": Field("manufacturer", _text),
        "model": Field("model", _text),
        "operatingSystem": Field("os", _text),
        "osVersion": Field("os_version", _text),
        "complianceState": Field("compliance", _compliance),
        "complianceGracePeriodExpirationDateTime": Field("grace_until", _time),
        "azureADRegistered": Field("registered", _flag),
        "managementAgent": Field("agent", _agent),
        "enrolledDateTime": Field("enrolled_at", _time),
        "lastSyncDateTime": Field("last_check_in_at", _time),
    }
)
REQUIRED = ("id", "complianceState")
_LIMITS: dict[str, int] = {
    field.column: getattr(ManagedDevice._meta.get_field(field.column), "max_length", None) or 0
    for field in FIELDS.values()
}
_NAMES = {text_key(name): name for name in FIELDS}


def field_name(text: str) -> str | None:
    """The field that a column's heading means, whatever its case; None when it is none of ours."""
    return _NAMES.get(text_key(text))


def row_read(row: object) -> RecordValues:
    """A record out of a JSON object, or a line of CSV by field name. Raises RowError with all that is wrong."""
    if not isinstance(row, Mapping):
        raise RowError([FieldProblem("", "not_an_object", _("A record is an object with named fields."))])
    problems: list[FieldProblem] = []
    values: dict[str, Any] = {}
    for name, value in row.items():
        if not isinstance(name, str) or name.startswith("@odata."):
            continue
        field = FIELDS.get(name)
        if field is None:
            problems.append(FieldProblem(quoted(name), "unknown_field", _unknown(quoted(name))))
            continue
        try:
            values[field.column] = field.read(value, name)
        except _Refused as refused:
            problems.append(FieldProblem(name, refused.code, str(refused)))
    refused_names = {problem.field for problem in problems}
    for name in REQUIRED:
        if not values.get(FIELDS[name].column) and name not in refused_names:
            text = _("%(field)s is missing. Every record needs it.") % {"field": name}
            problems.append(FieldProblem(name, "missing", text))
    if problems:
        raise RowError(problems)
    return RecordValues(**values)


def _unknown(name: str) -> str:
    near = difflib.get_close_matches(text_key(name), _NAMES, n=1, cutoff=0.75)
    if near:
        return _("There is no field “%(name)s”. Did you mean %(near)s?") % {"name": name, "near": _NAMES[near[0]]}
    return _("There is no field “%(name)s”. Leave it out; the fields are: %(fields)s.") % {
        "name": name,
        "fields": ", ".join(FIELDS),
    }


def row_shown(record: ManagedDevice) -> dict[str, Any]:
    """The same names and shapes the other way round."""
    shown: dict[str, Any] = {}
    for name, field in FIELDS.items():
        value = getattr(record, field.column)
        if isinstance(value, datetime.datetime):
            value = value.astimezone(datetime.UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
        shown[name] = value
    return shown

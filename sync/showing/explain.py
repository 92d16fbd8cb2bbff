"""Why a device has the verdict it has: the decision table in words, with the person's own facts.

Made when somebody looks. Decides nothing and keeps nothing: it asks the pure phases about the device's mailbox alone,
and words what they looked at.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from django.utils import timezone
from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from sync.acting.deeds import deed_of_plan
from sync.deciding.commands import SetMailboxEntries
from sync.deciding.decide import decide, explain
from sync.deciding.entries import NOWHERE, Named, entries_of
from sync.deciding.matches import Match
from sync.deciding.plan import plan
from sync.deciding.verdicts import Hindrance, Param, Row, Step, Verdict
from sync.enforcing.loading import world_load
from sync.models import MobileDevice
from sync.showing import access_words as words


@dataclass(frozen=True, slots=True)
class Line:
    """One row of the decision table for one device. sentence: what was looked at; "" for a row that was not asked."""

    number: int
    row: str
    title: str
    sentence: str = ""
    is_asked: bool = False
    spoke: bool = False


@dataclass(frozen=True, slots=True)
class Explained:
    """One device as it is decided now. untold: PowerShell text of what Exchange has yet to be told about the mailbox's
    entries that name this device, as its settings are. doubts: why nobody may newly be kept out just now (codes).
    beyond: what else decides in Exchange of this device, where the verdict is not already said to be hindered by it."""

    verdict: Verdict
    match: Match
    named: Named
    lines: tuple[Line, ...]
    untold: tuple[str, ...] = ()
    doubts: tuple[str, ...] = ()
    beyond: tuple[str, ...] = ()


def explained(device: MobileDevice, *, now: datetime.datetime | None = None) -> Explained | None:
    """None where nothing can be decided: the device has gone, or its mailbox is not known yet. A fixed number of
    queries."""
    if device.gone_at is not None or device.owner_id is None:
        return None
    loaded = world_load(device.organization_id, mailboxes=[device.owner_id], now=now or timezone.now())
    world = loaded.world
    if not any(known.key == device.pk for known in world.devices):
        return None  # it went in this moment
    verdict = decide(world)[device.pk]
    zone = loaded.organization.tenant.time_zone
    named = entries_of(world.mailboxes.values(), world.ledger, world.choices)
    as_it_is = world.as_it_is()
    untold = tuple(
        deed_of_plan(command).text()
        for command in plan(as_it_is, decide(as_it_is)).commands
        if isinstance(command, SetMailboxEntries) and device.pk in command.devices
    )
    return Explained(
        verdict=verdict,
        match=world.matches[device.pk],
        named=named.get((device.owner_id, device.device_id_key), NOWHERE),
        lines=lines_of(explain(world, device.pk), zone),
        untold=untold,
        doubts=loaded.doubts,
        beyond=_beyond(verdict),
    )


def _beyond(verdict: Verdict) -> tuple[str, ...]:
    """What comes before the lists in Exchange's own evaluation, in words."""
    if not verdict.is_off or verdict.hindered_by is Hindrance.ACTIVE_SYNC_OFF:
        return ()
    return (_("ActiveSync is switched off for its mailbox: it cannot read mail, whatever is decided here."),)


def lines_of(steps: tuple[Step, ...], zone: str = "UTC") -> tuple[Line, ...]:
    """The whole table: the rows that were asked with their sentences, the others without."""
    asked = {step.row: step for step in steps}
    return tuple(_line(row, asked.get(row), zone) for row in Row)


def lines_stored(rule: str) -> tuple[Line, ...]:
    """The table where nothing can be asked any more: the row that spoke when it was decided last is marked."""
    return tuple(
        Line(row.number, row.value, words.said(words.ROWS, row), is_asked=row.value == rule, spoke=row.value == rule)
        for row in Row
    )


def _line(row: Row, step: Step | None, zone: str) -> Line:
    title = words.said(words.ROWS, row)
    if step is None:
        return Line(row.number, row.value, title)
    return Line(row.number, row.value, title, sentence(step, zone), is_asked=True, spoke=step.spoke)


_ROWS = frozenset(row.value for row in Row)


def row_number(rule: str) -> int | None:
    """The number of a stored row in the table; None for one that this version does not have."""
    return Row(rule).number if rule in _ROWS else None


# --- sentences --------------------------------------------------------------------------------------------------------


def sentence(step: Step, zone: str = "UTC") -> str:
    """What a row looked at and what came of it. Never raises: a fact that is missing is worded around."""
    make = _MADE.get(step.row)
    text = make(step) if make else (_SPOKE if step.spoke else _SILENT).get(step.row)
    if text is None:
        return _("Yes.") if step.spoke else _("No.")
    return str(text) % _Values(step.params, zone)


class _Values(Mapping[str, object]):
    """The facts of a step as people read them."""

    def __init__(self, params: Mapping[str, Param], zone: str) -> None:
        self._params, self._zone = params, zone

    def __getitem__(self, name: str) -> object:
        value = self._params.get(name)
        if value is None or value == "":
            return _("not told")
        if name in _TIMES:
            return words.moment_said(value, self._zone)
        if name == "compliance":
            return words.compliance_said(str(value))
        if name == "level":
            return words.said(words.LEVELS, value)
        return value

    def __iter__(self):  # type: ignore[no-untyped-def]  # asked for by Mapping, used by nobody
        return iter(self._params)

    def __len__(self) -> int:
        return len(self._params)


_TIMES = frozenset(("expires", "graceUntil", "lastCheckIn", "until"))
Text = str | Promise

_SPOKE: Mapping[Row, Text] = {
    Row.NOT_ACTIVE_SYNC: gettext_lazy(
        "The client “%(clientType)s” does not read mail over ActiveSync; Exchange's personal lists do not fit it."
    ),
    Row.CONTROL_OFF: gettext_lazy("The tenant's access control is off: Exchange decides by its own settings."),
    Row.EXEMPT: gettext_lazy("%(person)s is in an excluded group. Exclusion wins."),
    Row.OTHER_PERSONS: gettext_lazy("The record with this device ID belongs to %(upn)s, who does not own the mailbox."),
    Row.NO_RECORD: gettext_lazy("No record of the person has the device ID %(deviceId)s."),
    Row.NOT_REGISTERED: gettext_lazy("The record says that the device is not registered in the directory."),
    Row.STALE: gettext_lazy("Last checked in at %(lastCheckIn)s, which is more than %(days)s days ago."),
    Row.NOT_COMPLIANT: gettext_lazy("The record's compliance is “%(compliance)s”."),
    Row.GRACE_OVER: gettext_lazy("The grace period ended at %(graceUntil)s."),
    Row.CONFIG_MANAGER: gettext_lazy(
        "Configuration Manager manages the device, which the policy counts as not compliant."
    ),
    Row.UNKNOWN_COMPLIANCE: gettext_lazy(
        "The compliance is “%(compliance)s”, which the policy counts as not compliant."
    ),
    Row.PLATFORM_RULE: gettext_lazy("The rule %(characteristic)s “%(query)s” says: %(level)s."),
    Row.ALWAYS_ALLOWED: gettext_lazy("Enrolled and compliant devices are always allowed by the policy."),
    Row.GRANDFATHERED: gettext_lazy(
        "The default access level was tightened, and devices in use keep their access until %(until)s."
    ),
}
_SILENT: Mapping[Row, Text] = {
    Row.NOT_ACTIVE_SYNC: gettext_lazy("It is an ActiveSync client (client: %(clientType)s, type: %(deviceType)s)."),
    Row.OVERRIDE_BLOCK: gettext_lazy("No administrator blocked it."),
    Row.OVERRIDE_ALLOW: gettext_lazy("No administrator allowed it."),
    Row.ADOPTED: gettext_lazy("No adopted entry names it."),
    Row.CONTROL_OFF: gettext_lazy("Access control is on."),
    Row.UNLICENSED: gettext_lazy("The person is licensed, or the directory does not say, or it does not matter."),
    Row.AMBIGUOUS: gettext_lazy("Nothing contradicts itself."),
    Row.OTHER_PERSONS: gettext_lazy("No record with this device ID belongs to somebody else."),
    Row.NO_RECORD: gettext_lazy("There is a record."),
    Row.NOT_REGISTERED: gettext_lazy("The record does not say that the device is not registered."),
    Row.NOT_COMPLIANT: gettext_lazy("The compliance is “%(compliance)s”."),
    Row.CONFIG_MANAGER: gettext_lazy("Not managed by Configuration Manager, or the policy counts that as compliant."),
    Row.UNKNOWN_COMPLIANCE: gettext_lazy("The compliance “%(compliance)s” is known, or counts as compliant."),
    Row.ALWAYS_ALLOWED: gettext_lazy("The policy does not always allow compliant devices."),
    Row.GRANDFATHERED: gettext_lazy("It is not one of the devices that keep their access."),
}


def _of_override(step: Step) -> Text | None:
    if not step.spoke:
        return _SILENT[step.row]
    if step.params.get("expires"):
        return gettext_lazy("An administrator decided so until %(expires)s: “%(reason)s”.")
    return gettext_lazy("An administrator decided so, with no end: “%(reason)s”.")


def _of_adopted(step: Step) -> Text | None:
    if not step.spoke:
        return _SILENT[step.row]
    if step.params.get("allowed") == "adopted":
        return gettext_lazy("The entry on the allowed list that somebody else made was adopted: it decides.")
    return gettext_lazy("The entry on the blocked list that somebody else made was adopted: it decides.")


def _of_exempt(step: Step) -> Text | None:
    if step.spoke:
        return _SPOKE[step.row]
    if step.params.get("person") is None:
        return gettext_lazy("The directory knows nobody, or several people, to whom the mailbox belongs.")
    return gettext_lazy("%(person)s is in no excluded group.")


def _of_target(step: Step) -> Text | None:
    if step.params.get("person") is None:
        if step.spoke:
            return gettext_lazy("The directory knows nobody, or several people, to whom the mailbox belongs.")
        return gettext_lazy("The policy reaches everybody.")
    if step.spoke:
        return gettext_lazy("%(person)s is in no included group.")
    if step.params.get("included"):
        return gettext_lazy("%(person)s is in an included group.")
    return gettext_lazy("The policy reaches everybody, %(person)s too.")


def _of_licence(step: Step) -> Text | None:
    return gettext_lazy("%(person)s has no license for device management.") if step.spoke else _SILENT[step.row]


def _of_ambiguous(step: Step) -> Text | None:
    if not step.spoke:
        return _SILENT[step.row]
    if step.params.get("others"):
        return gettext_lazy("%(others)s records have the device ID %(deviceId)s and contradict each other.")
    return gettext_lazy("The mailbox may belong to several people, of whom one has a record with this device ID.")


def _of_stale(step: Step) -> Text | None:
    if step.spoke:
        return _SPOKE[step.row]
    if step.params.get("days") is None:
        return gettext_lazy("The policy has no limit for check-ins. Last checked in: %(lastCheckIn)s.")
    if step.params.get("lastCheckIn") is None:
        return gettext_lazy("The record does not say when it checked in; what is not known keeps nobody out.")
    return gettext_lazy("Last checked in at %(lastCheckIn)s; the limit is %(days)s days.")


def _of_grace(step: Step) -> Text | None:
    if step.spoke:
        return _SPOKE[step.row]
    if str(step.params.get("compliance") or "").lower() != "ingraceperiod":
        return gettext_lazy("It is in no grace period.")
    if step.params.get("graceUntil") is None:
        return gettext_lazy("It is in a grace period that has no end.")
    return gettext_lazy("Its grace period lasts until %(graceUntil)s.")


def _of_rule(step: Step) -> Text | None:
    if step.spoke:
        return _SPOKE[step.row]
    if step.params.get("characteristic"):
        return gettext_lazy("The rule %(characteristic)s “%(query)s” lets it in.")
    return gettext_lazy("No device access rule fits it.")


def _of_compliant(step: Step) -> Text | None:
    if step.params.get("characteristic"):
        return gettext_lazy("Exchange's rule %(characteristic)s “%(query)s” decides: %(level)s.")
    return gettext_lazy("Exchange's default access level decides: %(level)s.")


_MADE: Mapping[Row, Callable[[Step], Text | None]] = {
    Row.OVERRIDE_BLOCK: _of_override,
    Row.OVERRIDE_ALLOW: _of_override,
    Row.ADOPTED: _of_adopted,
    Row.EXEMPT: _of_exempt,
    Row.NOT_TARGETED: _of_target,
    Row.UNLICENSED: _of_licence,
    Row.AMBIGUOUS: _of_ambiguous,
    Row.STALE: _of_stale,
    Row.GRACE_OVER: _of_grace,
    Row.PLATFORM_RULE: _of_rule,
    Row.COMPLIANT: _of_compliant,
}

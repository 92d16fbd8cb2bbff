"""Verdicts, matches and commands on pages: always an icon and a word, in the words of sync.showing.access_words."""

from __future__ import annotations

import datetime
import re
from typing import Any

from django import template
from django.contrib.humanize.templatetags.humanize import intcomma
from django.template.defaultfilters import floatformat
from django.utils.html import format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext

from console.pages.device_words import WAITS
from sync.deciding.facts import State
from sync.deciding.matches import Outcome
from sync.models import Approval, Command, DryRun
from sync.selectors import approvals_for
from sync.showing import access_words as words
from sync.showing.explain import row_number

register = template.Library()

# The space before a parameter of a cmdlet.
PARAMETER = re.compile(r" (?=-[A-Z])")

# (tone, icon) of each member; tones are classes of components.css.
VERDICT_LOOK = {
    State.ALLOWED: ("success", "check-circle"),
    State.BLOCKED: ("danger", "no-symbol"),
    State.QUARANTINED: ("warning", "lock-closed"),
}
OUTCOME_LOOK = {
    Outcome.MATCHED: ("success", "link"),
    Outcome.AMBIGUOUS: ("warning", "exclamation-triangle"),
    Outcome.UNMATCHED: ("neutral", "minus-circle"),
    Outcome.OTHER_PERSONS: ("warning", "user-circle"),
    Outcome.NOT_ACTIVE_SYNC: ("neutral", "minus-circle"),
}
COMMAND_LOOK = {
    Command.State.PLANNED: ("info", "clock"),
    Command.State.SENT: ("info", "arrow-path"),
    Command.State.UNKNOWN: ("warning", "question-mark-circle"),
    Command.State.DONE: ("success", "check-circle"),
    Command.State.FAILED: ("danger", "x-circle"),
    Command.State.SKIPPED: ("neutral", "minus-circle"),
    Command.State.CANCELED: ("neutral", "stop-circle"),
    Command.State.OBSERVED: ("neutral", "eye"),
}
APPROVAL_LOOK = {
    Approval.State.WAITING: ("warning", "pause-circle"),
    Approval.State.APPROVED: ("success", "check-circle"),
    Approval.State.REJECTED: ("neutral", "x-circle"),
    Approval.State.SUPERSEDED: ("neutral", "minus-circle"),
}
_UNKNOWN = ("neutral", "question-mark-circle")


def _badge(look: tuple[str, str], label: str, title: str = "") -> dict[str, Any]:
    return {"tone": look[0], "icon_name": look[1], "label": label, "title": title}


@register.inclusion_tag("components/badge.html")
def verdict_state(state: str) -> dict[str, Any]:
    """What a verdict comes to; facts.State's value, "" for a device that nothing was decided of."""
    return _badge(VERDICT_LOOK.get(state, _UNKNOWN), words.said(words.STATES, state or State.NONE), state)  # type: ignore[call-overload]


@register.inclusion_tag("components/badge.html")
def match_outcome(outcome: str) -> dict[str, Any]:
    """Whether a device has a record; matches.Outcome's value."""
    return _badge(OUTCOME_LOOK.get(outcome, _UNKNOWN), words.said(words.OUTCOMES, outcome), "")  # type: ignore[call-overload]


@register.inclusion_tag("components/badge.html")
def command_state(command: Command) -> dict[str, Any]:
    return _badge(COMMAND_LOOK.get(Command.State(command.state), _UNKNOWN), command.get_state_display())


@register.inclusion_tag("components/badge.html")
def approval_state(approval: Approval) -> dict[str, Any]:
    return _badge(APPROVAL_LOOK.get(Approval.State(approval.state), _UNKNOWN), approval.get_state_display())


@register.inclusion_tag("components/badge.html")
def override_level(level: str) -> dict[str, Any]:
    """An administrator's decision."""
    look = ("success", "check-circle") if level == "allow" else ("danger", "no-symbol")
    return _badge(look, words.said(words.ACCESSES, level))


@register.simple_tag(takes_context=True)
def approvals_waiting(context: Any) -> int:
    """How many approvals wait for somebody, of those that the person may see. One query."""
    user = getattr(context.get("request"), "user", None)
    return approvals_for(user).filter(state=Approval.State.WAITING).order_by().count() if user else 0


@register.filter
def row_words(rule: str) -> str:
    """The row of the decision table that spoke."""
    return words.said(words.ROWS, rule)


@register.filter
def row_no(rule: str) -> int | str:
    """Its number; "" for a row that this version does not have."""
    return row_number(rule) or ""


@register.filter
def reason_words(reason: str) -> str:
    return words.said(words.REASONS, reason)


@register.filter
def hindrance_words(hindrance: str) -> str:
    return words.said(words.HINDRANCES, hindrance)


@register.filter
def state_words(state: str) -> str:
    return words.said(words.STATES, state)


@register.filter
def access_words(access: str) -> str:
    return words.said(words.ACCESSES, access)


@register.filter
def because_words(because: str) -> str:
    return words.said(words.BECAUSE, because)


@register.filter
def compliance_words(label: str) -> str:
    return words.compliance_said(label)


@register.filter
def wait_words(waits_for: str) -> str:
    """What a difference between wish and reality waits for."""
    return words.said(WAITS, waits_for)


@register.filter
def list_words(listed: str) -> str:
    return words.said(words.LISTS, listed)


@register.filter
def command_parts(text: str) -> SafeString:
    """Commands, one a line, each parameter with its value in one piece: else a line breaks after "-" of "-Confirm"."""

    def parts(line: str) -> SafeString:
        found = PARAMETER.split(line)
        return format_html_join(" ", '<span class="command-part">{}</span>', ((part,) for part in found))

    return format_html_join("\n", "{}", ((parts(line),) for line in str(text).splitlines()))


@register.filter
def limit_words(held: Approval | DryRun) -> str:
    """What the guard went by: beyond both of the first, or beyond the last, denials wait."""
    said = {"devices": intcomma(held.limit_devices), "percent": floatformat(held.limit_percent, -1)}
    if held.limit_at_most is None:
        return gettext("%(devices)s devices and %(percent)s %%") % said
    said["most"] = intcomma(held.limit_at_most)
    return gettext("%(devices)s devices and %(percent)s %%, or %(most)s devices") % said


@register.filter
def is_past(moment: datetime.datetime | None) -> bool:
    return moment is not None and moment <= datetime.datetime.now(datetime.UTC)

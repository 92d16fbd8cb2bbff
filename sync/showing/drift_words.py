"""Drift in words: what it is about, what was expected and what was found. Reads no table."""

from __future__ import annotations

from collections.abc import Mapping

from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from sync.models import Drift
from sync.policies.policy_words import CHARACTERISTIC_WORDS
from sync.showing.access_words import LEVELS, LISTS, said

_SETTINGS: Mapping[str, str | Promise] = {
    "defaultLevel": gettext_lazy("Default access level"),
    "userMailInsert": gettext_lazy("Text added to Exchange's quarantine mail"),
    "adminMailRecipients": gettext_lazy("Administrator mail recipients"),
}
_ENDED: Mapping[str, str | Promise] = {
    "gone": gettext_lazy("Not there any more"),
    "leftAlone": gettext_lazy("Left alone by the policy"),
    "adopted": gettext_lazy("Adopted"),
    "overridden": gettext_lazy("Overridden"),
    "enforced": gettext_lazy("Put right by a full sync"),
}
_RULES = (Drift.Kind.RULE_ADDED, Drift.Kind.RULE_CHANGED, Drift.Kind.RULE_REMOVED)


def subject_said(drift: Drift) -> str:
    """What it is about: a device ID on a list, a setting, a rule."""
    first, _colon, rest = drift.subject.partition(":")
    if drift.mailbox_id is not None:
        # As the phone writes it, where the phone is known; lists are compared without regard to case.
        device_id = rest if drift.device is None else drift.device.device_id
        return _("%(id)s on the %(list)s") % {"id": device_id, "list": said(LISTS, first)}
    if drift.kind in _RULES:
        return _("Rule: %(characteristic)s “%(query)s”") % {
            "characteristic": said(CHARACTERISTIC_WORDS, first),
            "query": rest,
        }
    return said(_SETTINGS, drift.subject)


def expected_said(drift: Drift) -> str:
    match drift.kind:
        case Drift.Kind.FOREIGN_ALLOW | Drift.Kind.FOREIGN_BLOCK:
            return _("No entry that Gatehouse did not write")
        case Drift.Kind.ENTRY_VANISHED:
            return _("The entry that Gatehouse wrote")
        case Drift.Kind.RULE_ADDED:
            return _("No such rule in the policy")
    return _value(drift, drift.expected)


def found_said(drift: Drift) -> str:
    match drift.kind:
        case Drift.Kind.FOREIGN_ALLOW:
            return _("An entry of somebody else that lets the device in")
        case Drift.Kind.FOREIGN_BLOCK:
            return _("An entry of somebody else that keeps the device out")
        case Drift.Kind.ENTRY_VANISHED:
            return _("No entry: somebody else took it away")
        case Drift.Kind.RULE_REMOVED:
            return _("No such rule: somebody else removed it")
    return _value(drift, drift.found)


def ended_said(drift: Drift) -> str:
    """How it ended; "" while it is open."""
    return said(_ENDED, drift.ended_because) if drift.ended_at else ""


def _value(drift: Drift, text: str) -> str:
    is_level = drift.kind in _RULES or drift.subject == "defaultLevel"
    return (said(LEVELS, text) if is_level else text) or _("Empty")

"""Sentences for the events of a device, in the reader's language."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, pgettext

from connectors.problems import problem
from sync.models import DeviceEvent
from sync.showing import access_words as words

SENTENCES: Mapping[str, Promise] = {
    "linkCleared": gettext_lazy("What was said about the record “%(record)s” was taken back; the rules decide."),
    "linked": gettext_lazy("Linked to the record “%(record)s”."),
    "unlinked": gettext_lazy("Said not to be the device of the record “%(record)s”."),
    "entryChoiceCleared": gettext_lazy("The choice about the entry on the %(listed)s was taken back."),
    "recheck": gettext_lazy("Somebody asked to look at it again."),
    "held": gettext_lazy("Its denial waits for approval, since many devices would have lost mail at once."),
    "approved": gettext_lazy("Its denial was approved."),
    "rejected": gettext_lazy("Its denial was rejected; it keeps its access while the verdict stays the same."),
    "notificationQueued": gettext_lazy("A mail to the person is to be sent."),
    "notificationSent": gettext_lazy("The person was told by mail."),
    "notificationFailed": gettext_lazy("The mail to the person could not be sent: %(problem)s."),
    "notificationSuppressed": gettext_lazy("No mail was sent: the person was told a short while ago."),
    "removed": gettext_lazy("The partnership was removed from Exchange."),
    "gone": gettext_lazy("A complete listing of Exchange did not hold it any more."),
    "back": gettext_lazy("It is in Exchange again."),
}
_ENTRIES: Mapping[str, Promise] = {
    "allowAdd": gettext_lazy("add to the allowed list"),
    "allowRemove": gettext_lazy("take off the allowed list"),
    "blockAdd": gettext_lazy("add to the blocked list"),
    "blockRemove": gettext_lazy("take off the blocked list"),
}
_KINDS: Mapping[str, Promise] = {
    "wipe": gettext_lazy("wipe the device"),
    "wipeAccount": gettext_lazy("wipe the account alone"),
    "wipeCancel": gettext_lazy("take the wipe back"),
    "removeDevice": gettext_lazy("remove the partnership"),
}
# Names of a record's values that a change may be about.
_FIELDS: Mapping[str, Promise] = {
    "compliance": gettext_lazy("compliance"),
    "presence": gettext_lazy("presence"),
    "grace_until": gettext_lazy("end of the grace period"),
    "registered": gettext_lazy("registration"),
    "agent": gettext_lazy("management agent"),
    "eas_device_id": gettext_lazy("ActiveSync device ID"),
    "user_source_id": gettext_lazy("person"),
    "upn": gettext_lazy("user principal name"),
    "email": gettext_lazy("mail address"),
    "device_name": gettext_lazy("name"),
    "model": gettext_lazy("model"),
    "os": gettext_lazy("operating system"),
    "os_version": gettext_lazy("version of the operating system"),
    "last_check_in_at": gettext_lazy("last check-in"),
}
WARNINGS = frozenset(("commandUnknown", "held", "gone", "notificationFailed"))
ERRORS = frozenset(("commandFailed", "wipeRequested", "wipeSent", "wipeAcknowledged", "removed"))


def sentence(event: DeviceEvent, zone: str = "UTC") -> str:
    """What happened, as one sentence; times in `zone`. An unknown code (a newer version wrote it) is shown as it is.
    Never raises."""
    params = event.params if isinstance(event.params, dict) else {}
    try:
        make = _MADE.get(event.code)
        if make is not None:
            return make(params, zone)
        text = SENTENCES.get(event.code)
        if text is None:
            return event.code
        return str(text) % _values(params) + _noted(params)
    except (KeyError, ValueError, TypeError, AttributeError):
        return event.code


def level(event: DeviceEvent) -> str:
    """ "info", "warning" or "error": how much it is to stand out."""
    if event.code in ERRORS:
        return "error"
    return "warning" if event.code in WARNINGS else "info"


def _values(params: Mapping[str, Any]) -> dict[str, object]:
    values: dict[str, object] = {**params}
    if "listed" in values:
        values["listed"] = words.said(words.LISTS, values["listed"])
    code = values.get("error_code")
    values["problem"] = problem(str(code), params).title if code else _("for a reason that is not known")
    return values


def _noted(params: Mapping[str, Any]) -> str:
    return f" “{params['note']}”" if params.get("note") else ""


def _verdict(params: Mapping[str, Any], _zone: str) -> str:
    return _("Decided anew: %(state)s (%(row)s). Before: %(before)s (%(before_row)s).") % {
        "state": words.said(words.STATES, params["state"]),
        "row": words.said(words.ROWS, params["rule"]),
        "before": words.said(words.STATES, params["before_state"]),
        "before_row": words.said(words.ROWS, params["before_rule"]),
    }


def _doing(params: Mapping[str, Any]) -> str:
    """What a command does to the device, in the infinitive."""
    entries = [str(_ENTRIES.get(str(name), name)) for name in params.get("entries") or ()]
    if entries:
        # Translators: stands between two things that a command does.
        return pgettext("joins a list", "; ").join(entries)
    return str(_KINDS.get(str(params.get("kind")), params.get("kind") or _("a command")))


def _because(params: Mapping[str, Any]) -> str:
    because = str(params.get("because") or "")
    if not because or because == params.get("kind"):
        return ""
    return " " + _("Because of %(because)s.") % {"because": words.said(words.BECAUSE, because)}


def _planned(params: Mapping[str, Any], _zone: str) -> str:
    return _("To be done in Exchange: %(doing)s.") % {"doing": _doing(params)} + _because(params)


def _done(params: Mapping[str, Any], _zone: str) -> str:
    if params.get("controller"):
        # Translators: controller is the name of a domain controller.
        return _("Done in Exchange, at %(controller)s: %(doing)s.") % {"doing": _doing(params), **params}
    return _("Done in Exchange: %(doing)s.") % {"doing": _doing(params)}


def _failed(params: Mapping[str, Any], _zone: str) -> str:
    values = {"doing": _doing(params), "problem": _values(params)["problem"]}
    return _("Could not be done in Exchange (%(doing)s): %(problem)s.") % values


def _unknown(params: Mapping[str, Any], _zone: str) -> str:
    return _("Sent to Exchange, and no answer came (%(doing)s); what became of it is being read.") % {
        "doing": _doing(params)
    }


def _override_set(params: Mapping[str, Any], zone: str) -> str:
    values = {"reason": params.get("reason", ""), "until": words.moment_said(params.get("until", ""), zone)}
    is_allow = params["level"] == "allow"
    if params.get("until"):
        if is_allow:
            return _("Allowed until %(until)s, whatever the policy says: “%(reason)s”.") % values
        return _("Blocked until %(until)s, whatever the policy says: “%(reason)s”.") % values
    if is_allow:
        return _("Allowed with no end, whatever the policy says: “%(reason)s”.") % values
    return _("Blocked with no end, whatever the policy says: “%(reason)s”.") % values


def _override_ended(params: Mapping[str, Any], _zone: str) -> str:
    if params.get("expired"):
        return _("The administrator's decision expired; the policy decides again.")
    return _("The administrator's decision was taken back; the policy decides again.")


def _entry_chosen(params: Mapping[str, Any], _zone: str) -> str:
    values = {"listed": words.said(words.LISTS, params["listed"]), "reason": params.get("reason", "")}
    if params["choice"] == "adopt":
        return _("The entry that somebody else made on the %(listed)s was adopted: “%(reason)s”.") % values
    return _("The entry that somebody else made on the %(listed)s is overridden: “%(reason)s”.") % values


def _wipe(params: Mapping[str, Any], is_account: str, is_whole: str) -> str:
    return is_account if params.get("account_only") or params.get("kind") == "wipeAccount" else is_whole


def _wipe_requested(params: Mapping[str, Any], _zone: str) -> str:
    return _wipe(params, _("An account-only wipe was ordered."), _("A wipe was ordered."))


def _wipe_sent(params: Mapping[str, Any], _zone: str) -> str:
    return _wipe(params, _("The phone was told to wipe the account."), _("The phone was told to wipe itself."))


def _wipe_acknowledged(params: Mapping[str, Any], _zone: str) -> str:
    return _wipe(
        params, _("The phone confirmed that it wiped the account."), _("The phone confirmed that it wiped itself.")
    )


def _state_changed(params: Mapping[str, Any], _zone: str) -> str:
    def told(state: object, reason: object) -> str:
        text = str(state or "") or _("not told")
        return f"{text} ({reason})" if reason else text

    return _("Exchange now shows %(after)s; before: %(before)s.") % {
        "after": told(params.get("state"), params.get("reason")),
        "before": told(params.get("before"), params.get("before_reason")),
    }


def _record_changed(params: Mapping[str, Any], zone: str) -> str:
    presence = params.get("presence")
    if isinstance(presence, list) and presence[-1:] == ["gone"]:
        return _("Its record is gone from the device-management system.")
    changes = []
    for name, pair in params.items():
        if not isinstance(pair, list) or len(pair) != 2:
            continue
        before, after = (_field_value(name, value, zone) for value in pair)
        changes.append(
            _("%(name)s: %(after)s (before: %(before)s)")
            % {"name": _FIELDS.get(name, name), "after": after, "before": before}
        )
    return _("Its record changed. %(changes)s.") % {"changes": pgettext("joins a list", "; ").join(changes)}


def _field_value(name: str, value: object, zone: str) -> str:
    if value is None or value == "":
        return _("not told")
    if isinstance(value, bool):
        return _("yes") if value else _("no")
    if name == "compliance":
        return words.compliance_said(str(value))
    return words.moment_said(value, zone) if name.endswith(("_at", "_until")) else str(value)


_MADE: Mapping[str, Callable[[Mapping[str, Any], str], str]] = {
    "verdict": _verdict,
    "commandPlanned": _planned,
    "commandDone": _done,
    "commandFailed": _failed,
    "commandUnknown": _unknown,
    "overrideSet": _override_set,
    "overrideEnded": _override_ended,
    "entryChosen": _entry_chosen,
    "wipeRequested": _wipe_requested,
    "wipeSent": _wipe_sent,
    "wipeAcknowledged": _wipe_acknowledged,
    "stateChanged": _state_changed,
    "recordChanged": _record_changed,
}
CODES = frozenset((*SENTENCES, *_MADE))

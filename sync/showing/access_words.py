"""What verdicts, matches and what keeps a phone from its verdict are called, for people. Reads no table.

Every mapping is asked by `said`, which gives back a value that is not known here: a newer version may have stored it.
"""

from __future__ import annotations

import datetime
import zoneinfo
from collections.abc import Mapping

from django.utils import formats
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy, pgettext, pgettext_lazy

from sync.deciding.entries import Whose
from sync.deciding.facts import Access, Level, Reason, State
from sync.deciding.matches import Confidence, DeviceBy, Likeness, Outcome
from sync.deciding.people import UserKey
from sync.deciding.verdicts import Hindrance, Row

Words = Mapping[str, str | Promise]

STATES: Words = {
    State.ALLOWED: gettext_lazy("Allowed"),
    State.BLOCKED: gettext_lazy("Blocked"),
    State.QUARANTINED: gettext_lazy("Quarantined"),
    State.UNKNOWN: gettext_lazy("Unknown"),
    State.NONE: gettext_lazy("Not decided"),
}
ACCESSES: Words = {
    Access.ALLOW: gettext_lazy("Allow"),
    Access.BLOCK: gettext_lazy("Block"),
    Access.QUARANTINE: gettext_lazy("Quarantine"),
    Access.LEAVE_ALONE: gettext_lazy("Left to Exchange"),
}
LEVELS: Words = {
    Level.ALLOW: gettext_lazy("Allow access"),
    Level.BLOCK: gettext_lazy("Block access"),
    Level.QUARANTINE: gettext_lazy("Quarantine"),
}
REASONS: Words = {
    Reason.UNKNOWN: gettext_lazy("Not known"),
    Reason.GLOBAL_RULE: gettext_lazy("Exchange's default access level"),
    Reason.INDIVIDUAL_RULE: gettext_lazy("Decided for this device alone"),
    Reason.DEVICE_RULE: gettext_lazy("A device access rule in Exchange"),
    Reason.OTHER: gettext_lazy("Another reason"),
    Reason.COMPLIANT: gettext_lazy("Enrolled and compliant"),
    Reason.NOT_COMPLIANT: gettext_lazy("Not compliant"),
    Reason.NOT_ENROLLED: gettext_lazy("Not enrolled"),
}
ROWS: Words = {
    Row.NOT_ACTIVE_SYNC: gettext_lazy("Not an ActiveSync mail program"),
    Row.OVERRIDE_BLOCK: gettext_lazy("Blocked by an administrator"),
    Row.OVERRIDE_ALLOW: gettext_lazy("Allowed by an administrator"),
    Row.ADOPTED: gettext_lazy("An entry of somebody else, adopted"),
    Row.CONTROL_OFF: gettext_lazy("Access control is off"),
    Row.EXEMPT: gettext_lazy("Person in an excluded group"),
    Row.NOT_TARGETED: gettext_lazy("Person in no included group"),
    Row.UNLICENSED: gettext_lazy("Person without a license"),
    Row.AMBIGUOUS: gettext_lazy("Records or people contradict each other"),
    Row.OTHER_PERSONS: gettext_lazy("Enrolled by somebody else"),
    Row.NO_RECORD: gettext_lazy("Not enrolled"),
    Row.NOT_REGISTERED: gettext_lazy("Not registered in the directory"),
    Row.STALE: gettext_lazy("Stopped checking in"),
    Row.NOT_COMPLIANT: gettext_lazy("Not compliant"),
    Row.GRACE_OVER: gettext_lazy("Grace period is over"),
    Row.CONFIG_MANAGER: gettext_lazy("Managed by Configuration Manager"),
    Row.UNKNOWN_COMPLIANCE: gettext_lazy("Compliance is not known"),
    Row.PLATFORM_RULE: gettext_lazy("A device access rule"),
    Row.ALWAYS_ALLOWED: gettext_lazy("Enrolled and compliant, always allowed"),
    Row.COMPLIANT: gettext_lazy("Enrolled and compliant, left to Exchange's settings"),
    Row.GRANDFATHERED: gettext_lazy("Keeps its access for a while"),
}
HINDRANCES: Words = {
    Hindrance.FOREIGN_ALLOW: gettext_lazy(
        "Somebody else put this device on the mailbox's allowed list, and so it is in"
    ),
    Hindrance.FOREIGN_BLOCK: gettext_lazy(
        "Somebody else put this device on the mailbox's blocked list, and so it is kept out"
    ),
    Hindrance.SHARED_ID: gettext_lazy(
        "Another device of this mailbox has the same device ID; both share each entry, and the stricter wish counts"
    ),
    Hindrance.NO_MAILBOX: gettext_lazy("Its mailbox is not known, so that nothing can be written for it"),
    Hindrance.UNSEEN_RULE: gettext_lazy(
        "A device access rule looks at something that Exchange does not list of devices (the X-MS-WL header), and may "
        "decide otherwise than the rules and the default level that can be foreseen"
    ),
    Hindrance.ACTIVE_SYNC_OFF: gettext_lazy(
        "ActiveSync is switched off for its mailbox, so that it cannot read mail whatever the lists say"
    ),
    Hindrance.MAILBOX_POLICY: gettext_lazy(
        "Its ActiveSync mailbox policy kept it out at its last request, and is asked before the lists: the device has "
        "to do what the policy asks, or the policy has to allow devices that cannot"
    ),
}
OUTCOMES: Words = {
    Outcome.MATCHED: gettext_lazy("Matched"),
    Outcome.AMBIGUOUS: gettext_lazy("Ambiguous"),
    Outcome.UNMATCHED: gettext_lazy("No record"),
    Outcome.OTHER_PERSONS: gettext_lazy("Another person's"),
    Outcome.NOT_ACTIVE_SYNC: gettext_lazy("Not ActiveSync"),
}
DEVICE_BY: Words = {
    DeviceBy.LINK: gettext_lazy("a link that an administrator made"),
    DeviceBy.EAS_ID: gettext_lazy("the ActiveSync device ID"),
}
USER_BY: Words = {
    UserKey.SID: gettext_lazy("security identifier (SID)"),
    UserKey.IMMUTABLE_ID: gettext_lazy("immutable ID"),
    UserKey.DOMAIN_SAM: gettext_lazy("domain and account name"),
    UserKey.SMTP: gettext_lazy("mail address"),
    UserKey.UPN: gettext_lazy("user principal name"),
}
CONFIDENCES: Words = {
    Confidence.HIGH: gettext_lazy("High confidence"),
    Confidence.MEDIUM: gettext_lazy("Medium confidence"),
    Confidence.LOW: gettext_lazy("Low confidence"),
}
LIKENESSES: Words = {
    Likeness.APPLE_SERIAL: gettext_lazy("The device ID is made of the record's serial number."),
    Likeness.IMEI: gettext_lazy("The IMEI is the same."),
    Likeness.RESET: gettext_lazy(
        "Same person, model and system as a phone that has been silent since this one came: probably the same phone "
        "after a reset."
    ),
    Likeness.ID_OF_NOBODY: gettext_lazy("The record has this device ID and names no person."),
    Likeness.ONLY_RECORD: gettext_lazy("It is the person's only record that belongs to no phone yet."),
}
WHOSE: Words = {
    Whose.OURS: gettext_lazy("written by Gatehouse"),
    Whose.FOREIGN: gettext_lazy("written by somebody else"),
    Whose.ADOPTED: gettext_lazy("written by somebody else, adopted"),
    Whose.OVERRIDDEN: gettext_lazy("written by somebody else, to be overridden"),
}
# Graph's complianceState; the source's own label otherwise.
COMPLIANCES: Words = {
    "compliant": gettext_lazy("Compliant"),
    "noncompliant": gettext_lazy("Not compliant"),
    "conflict": gettext_lazy("Conflict"),
    "error": gettext_lazy("Error"),
    "ingraceperiod": gettext_lazy("In grace period"),
    "configmanager": gettext_lazy("Managed by Configuration Manager"),
    "unknown": gettext_lazy("Unknown"),
}
# Why something was done, or is to be looked at: codes of Command.because and MailboxCheck.because.
BECAUSE: Words = {
    "deltaSync": gettext_lazy("a quick sync"),
    "fullSync": gettext_lazy("a full sync"),
    "apply": gettext_lazy("a change of policy or an approval"),
    "override": gettext_lazy("an administrator's decision"),
    "overrideEnded": gettext_lazy("an administrator's decision that ended"),
    "linked": gettext_lazy("a link to a record"),
    "entryChosen": gettext_lazy("a choice about somebody else's entry"),
    "asked": gettext_lazy("an administrator's wish to look again"),
    "removed": gettext_lazy("the removal of a partnership"),
    "deadline": gettext_lazy("a deadline that passed"),
    "complianceChanged": gettext_lazy("a changed device record"),
    "recordChanged": gettext_lazy("a changed device record"),
    "commandLost": gettext_lazy("a command whose outcome was not known"),
    "wipe": gettext_lazy("a wipe"),
    "wipeAccount": gettext_lazy("an account-only wipe"),
    "wipeCancel": gettext_lazy("the cancellation of a wipe"),
    "removeDevice": gettext_lazy("the removal of a partnership"),
}
LISTS: Words = {
    "allowed": pgettext_lazy("list of a mailbox", "allowed list"),
    "blocked": pgettext_lazy("list of a mailbox", "blocked list"),
}


def said(words: Words, value: object) -> str:
    """The word for a value; the value itself when it has none, "" for none."""
    text = "" if value is None else str(value)
    return str(words.get(text, text))


def compliance_said(label: str) -> str:
    """A record's compliance; a label that we have never heard of as it came."""
    return str(COMPLIANCES.get(label.strip().lower(), label))


def moment_said(text: object, zone: str = "UTC") -> str:
    """A moment in ISO 8601 as people read it, in a time zone; other text as it is."""
    try:
        moment = datetime.datetime.fromisoformat(str(text))
    except ValueError:
        return str(text)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=datetime.UTC)
    local = moment.astimezone(zoneinfo.ZoneInfo(zone))
    # Translators: a date such as 24 Nov 2026, in the letters of Django's date filter.
    return f"{formats.date_format(local, pgettext('date format', 'j M Y'))} {local:%H:%M}"

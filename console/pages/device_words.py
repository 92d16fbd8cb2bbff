"""What Exchange's access states and reasons mean, for people; its own labels stay visible beside them.

From the reference on how Exchange decides. A label that is not known here (a newer Exchange wrote it) has no sentence.
"""

from __future__ import annotations

from collections.abc import Mapping

from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from sync.models import MobileDevice

STATES: Mapping[str, str | Promise] = {
    "Allowed": _("The phone synchronizes mail."),
    "Blocked": _(
        "The phone is refused. It cannot even receive the message that explains why; the person's mailbox has it."
    ),
    "Quarantined": _(
        "The phone may connect and gets nothing of the mailbox, except one message that says it waits for an "
        "administrator."
    ),
    "DeviceDiscovery": _(
        "Exchange waits for the phone to say what it is, usually for less than a quarter of an hour; until then it is "
        "treated like one in quarantine."
    ),
    "Unknown": _("Exchange has not decided about this phone, or does not say."),
}

_BEHAVIOUR = _("Exchange's automatic blocking: the phone behaved in a way that is over a threshold. It ends by itself.")
REASONS: Mapping[str, str | Promise] = {
    "Global": _("The organization's default access level decided."),
    "Individual": _("A personal entry of the mailbox decided: the device ID is on its allowed or blocked list."),
    "DeviceRule": _("A device access rule decided."),
    "Upgrade": _("The mailbox was moved to a newer Exchange; this passes."),
    "Policy": _("The phone does not meet the ActiveSync mailbox policy."),
    "UserAgentsChanges": _BEHAVIOUR,
    "RecentCommands": _BEHAVIOUR,
    "CommandFrequency": _BEHAVIOUR,
    "SyncCommands": _BEHAVIOUR,
    "Watsons": _BEHAVIOUR,
    "OutOfBudgets": _BEHAVIOUR,
    "EnableNotificationEmail": _("Exchange names this reason without documenting it."),
    "Unknown": _("Exchange gives no reason."),
}
# Labels seen on the wire; the property does not exist before Exchange 2013.
CLIENT_TYPES = ("EAS", "REST", "Outlook", "UniversalOutlook", "MOWA")

# What a list of devices can be narrowed to because somebody may have to look (sync.showing.device_page.ATTENTIONS).
ATTENTIONS: Mapping[str, str | Promise] = {
    "differs": _("Wish and reality differ"),
    "hindered": _("Hindered"),
    "waiting": _("Waiting for approval"),
    "override": _("Decided by an administrator"),
}
# What a difference, or a command, waits for (sync.wishes.Wish.waits_for).
WAITS: Mapping[str, str | Promise] = {
    "command": _("Exchange is being told."),
    "approval": _("The denial waits for approval."),
    "leftOut": _("An administrator left it out of an approval: it keeps its access."),
    "settings": _("Its denial was approved, and comes with settings or a run that have yet to come."),
    "check": _("It is looked at in a moment."),
    "phone": _("Exchange shows it at the phone's next request."),
    "activeSync": _("ActiveSync is off for the mailbox; Exchange goes on showing the state of before."),
    "policy": _("The mailbox policy keeps the device out, whatever the lists say."),
    "sync": _("Exchange has yet to be told; the next sync does it."),
}
LEFT_OUT: Mapping[str, str | Promise] = {
    "noMailbox": _("Its mailbox is not known yet; a full sync reads it."),
    "gone": _("It is not in Exchange any more."),
    "notActiveSync": _("It does not read mail over ActiveSync: one device ID stands for all of the person's programs."),
    "same": _("This very decision is in force already."),
    "none": _("No administrator's decision is in force."),
    "notPermitted": _("Your role in its tenant does not allow it."),
    "unknown": _("There is no such device, or you may not see it."),
}

# Clients that are not a phone's own mail program: a wipe clears the app's data, not the phone.
APP_CLIENTS = frozenset(("rest", "outlook", "universaloutlook"))


def is_app_client(device: MobileDevice) -> bool:
    """Whether it is Outlook for iOS and Android, whose wipe clears the app's data on all of the person's devices."""
    return device.client_type.lower() in APP_CLIENTS or device.device_model.lower().startswith("outlook for ")


def account_wipe_refusal(device: MobileDevice) -> str | Promise:
    """Why the account alone cannot be wiped; "" when it can, as far as is known."""
    if device.organization.version in ("2010", "2013"):
        return _("Exchange 2016 or later is needed to wipe the account alone.")
    if is_app_client(device):
        return _("Only phones that speak ActiveSync 16.1 can wipe the account alone; this client does not.")
    if device.client_version and _version(device.client_version) < (16, 1):
        return _("Only phones that speak ActiveSync 16.1 can wipe the account alone; this one speaks an older version.")
    return ""


def _version(text: str) -> tuple[int, ...]:
    """A protocol version as numbers; one that is none counts as new enough, and Exchange says what it thinks of it."""
    parts = text.strip().split(".")
    return tuple(int(part) for part in parts) if all(p.isascii() and p.isdigit() for p in parts) else (99,)

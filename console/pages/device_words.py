"""What Exchange's access states and reasons mean, for people; its own labels stay visible beside them.

From the reference on how Exchange decides. A label that is not known here (a newer Exchange wrote it) has no sentence.
"""

from __future__ import annotations

from collections.abc import Mapping

from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

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

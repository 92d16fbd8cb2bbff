"""What the settings of a mailbox policy are called, what they mean, and how they are grouped, for people.

Exchange's own name stands beside each on the pages: it is what its documentation and its shell know. Reads no table.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from connectors.exchange import policies
from connectors.exchange.policies import SETTINGS, PolicyValue
from sync.policies.mailbox_policy_values import CHOICES, PERIODS, UNLIMITED, differing, seconds_of

if TYPE_CHECKING:
    from django_stubs_ext import StrOrPromise

GROUPS: Sequence[tuple[StrOrPromise, tuple[str, ...]]] = (
    (
        gettext_lazy("Which phones may connect"),
        ("AllowNonProvisionableDevices", "AllowExternalDeviceManagement", "DevicePolicyRefreshInterval"),
    ),
    (
        gettext_lazy("Password"),
        (
            "PasswordEnabled", "AllowSimplePassword", "AlphanumericPasswordRequired", "MinPasswordComplexCharacters",
            "MinPasswordLength", "MaxPasswordFailedAttempts", "MaxInactivityTimeLock", "PasswordExpiration",
            "PasswordHistory", "PasswordRecoveryEnabled",
        ),
    ),
    (
        gettext_lazy("Encryption"),
        ("RequireDeviceEncryption", "DeviceEncryptionEnabled", "RequireStorageCardEncryption"),
    ),
    (
        gettext_lazy("Mail and calendar"),
        (
            "AttachmentsEnabled", "MaxAttachmentSize", "MaxEmailAgeFilter", "MaxCalendarAgeFilter",
            "MaxEmailBodyTruncationSize", "MaxEmailHTMLBodyTruncationSize", "AllowHTMLEmail",
            "RequireManualSyncWhenRoaming", "AllowApplePushNotifications", "AllowPOPIMAPEmail", "AllowConsumerEmail",
            "IrmEnabled", "UNCAccessEnabled", "WSSAccessEnabled",
        ),
    ),
    (
        gettext_lazy("Signed and encrypted mail (S/MIME)"),
        (
            "RequireSignedSMIMEMessages", "RequireSignedSMIMEAlgorithm", "RequireEncryptedSMIMEMessages",
            "RequireEncryptionSMIMEAlgorithm", "AllowSMIMEEncryptionAlgorithmNegotiation", "AllowSMIMESoftCerts",
        ),
    ),
    (
        gettext_lazy("Parts of the phone"),
        (
            "AllowCamera", "AllowStorageCard", "AllowWiFi", "AllowBluetooth", "AllowIrDA", "AllowTextMessaging",
            "AllowInternetSharing", "AllowRemoteDesktop", "AllowDesktopSync", "AllowBrowser", "AllowMobileOTAUpdate",
        ),
    ),
    (
        gettext_lazy("Applications"),
        (
            "AllowUnsignedApplications", "AllowUnsignedInstallationPackages", "ApprovedApplicationList",
            "UnapprovedInROMApplicationList",
        ),
    ),
)  # fmt: skip
LABELS: Mapping[str, StrOrPromise] = {
    "AllowApplePushNotifications": gettext_lazy("Push notifications on Apple devices"),
    "AllowBluetooth": gettext_lazy("Bluetooth"),
    "AllowBrowser": gettext_lazy("Built-in browser"),
    "AllowCamera": gettext_lazy("Camera"),
    "AllowConsumerEmail": gettext_lazy("Personal mail accounts"),
    "AllowDesktopSync": gettext_lazy("Synchronization with a computer by cable"),
    "AllowExternalDeviceManagement": gettext_lazy("Let in phones that a device management manages"),
    "AllowHTMLEmail": gettext_lazy("Mail in HTML"),
    "AllowInternetSharing": gettext_lazy("Use of the phone as a modem"),
    "AllowIrDA": gettext_lazy("Infrared"),
    "AllowMobileOTAUpdate": gettext_lazy("Policy updates over the mobile network"),
    "AllowNonProvisionableDevices": gettext_lazy("Let in phones that cannot apply the policy"),
    "AllowPOPIMAPEmail": gettext_lazy("POP and IMAP accounts"),
    "AllowRemoteDesktop": gettext_lazy("Remote desktop"),
    "AllowSMIMEEncryptionAlgorithmNegotiation": gettext_lazy("Negotiation of the encryption algorithm"),
    "AllowSMIMESoftCerts": gettext_lazy("S/MIME certificates kept in software"),
    "AllowSimplePassword": gettext_lazy("Simple passwords such as 1234"),
    "AllowStorageCard": gettext_lazy("Storage card"),
    "AllowTextMessaging": gettext_lazy("Text messages"),
    "AllowUnsignedApplications": gettext_lazy("Applications without a signature"),
    "AllowUnsignedInstallationPackages": gettext_lazy("Installation packages without a signature"),
    "AllowWiFi": gettext_lazy("Wi-Fi"),
    "AlphanumericPasswordRequired": gettext_lazy("Password needs letters"),
    "ApprovedApplicationList": gettext_lazy("Approved applications"),
    "AttachmentsEnabled": gettext_lazy("Attachments may be loaded"),
    "DeviceEncryptionEnabled": gettext_lazy("Device encryption"),
    "DevicePolicyRefreshInterval": gettext_lazy("Phones fetch the policy anew after"),
    "IrmEnabled": gettext_lazy("Information Rights Management"),
    "MaxAttachmentSize": gettext_lazy("Largest attachment"),
    "MaxCalendarAgeFilter": gettext_lazy("Calendar: how far back"),
    "MaxEmailAgeFilter": gettext_lazy("Mail: how far back"),
    "MaxEmailBodyTruncationSize": gettext_lazy("Text mail is cut off after (KB)"),
    "MaxEmailHTMLBodyTruncationSize": gettext_lazy("HTML mail is cut off after (KB)"),
    "MaxInactivityTimeLock": gettext_lazy("Locks when not used for"),
    "MaxPasswordFailedAttempts": gettext_lazy("Wrong passwords before the phone is wiped"),
    "MinPasswordComplexCharacters": gettext_lazy("Kinds of characters in the password"),
    "MinPasswordLength": gettext_lazy("Shortest password"),
    "PasswordEnabled": gettext_lazy("Password required"),
    "PasswordExpiration": gettext_lazy("Password expires after"),
    "PasswordHistory": gettext_lazy("Former passwords that may not come back"),
    "PasswordRecoveryEnabled": gettext_lazy("Recovery password kept in Exchange"),
    "RequireDeviceEncryption": gettext_lazy("Encryption of the phone required"),
    "RequireEncryptedSMIMEMessages": gettext_lazy("Mail must be encrypted"),
    "RequireEncryptionSMIMEAlgorithm": gettext_lazy("Algorithm for encrypting"),
    "RequireManualSyncWhenRoaming": gettext_lazy("Synchronize by hand only while roaming"),
    "RequireSignedSMIMEAlgorithm": gettext_lazy("Algorithm for signing"),
    "RequireSignedSMIMEMessages": gettext_lazy("Mail must be signed"),
    "RequireStorageCardEncryption": gettext_lazy("Encryption of the storage card required"),
    "UNCAccessEnabled": gettext_lazy("Windows file shares"),
    "UnapprovedInROMApplicationList": gettext_lazy("Built-in applications that may not run"),
    "WSSAccessEnabled": gettext_lazy("SharePoint libraries"),
}
_UNLIMITED_HELP = gettext_lazy("hh:mm:ss or days.hh:mm:ss, or Unlimited.")
HELP: Mapping[str, StrOrPromise] = {
    "AllowNonProvisionableDevices": gettext_lazy(
        "No: phones and mail programs that do not understand policies, or refuse this one, get no mail. Switching it "
        "off cuts those off that connect today. Yes: they connect, and nothing of this policy holds on them."
    ),
    "AllowExternalDeviceManagement": gettext_lazy(
        "Yes: a phone that says it is managed by somebody else, such as Intune, passes the checks of this policy. No: "
        "Exchange turns it away. Whether such a phone is really managed is not checked by Exchange."
    ),
    "DevicePolicyRefreshInterval": _UNLIMITED_HELP,
    "PasswordEnabled": gettext_lazy("No: Exchange asks for none, whatever the other settings of the password say."),
    "MaxPasswordFailedAttempts": gettext_lazy("4 to 16, or Unlimited. The phone deletes all its data then."),
    "MaxInactivityTimeLock": gettext_lazy("hh:mm:ss, from 30 seconds to 1 hour, or Unlimited."),
    "MinPasswordLength": gettext_lazy("1 to 16 characters."),
    "MinPasswordComplexCharacters": gettext_lazy(
        "1 to 4: lower case, upper case, digits, signs. Counts when letters are needed."
    ),
    "PasswordExpiration": _UNLIMITED_HELP,
    "PasswordHistory": gettext_lazy("0 to 50."),
    "MaxAttachmentSize": gettext_lazy("Such as 10MB, or Unlimited."),
    "MaxEmailBodyTruncationSize": gettext_lazy("A number, or Unlimited."),
    "MaxEmailHTMLBodyTruncationSize": gettext_lazy("A number, or Unlimited."),
    "ApprovedApplicationList": gettext_lazy("One a line, as hash:name. Empty: any."),
    "UnapprovedInROMApplicationList": gettext_lazy("One file name a line. Empty: none."),
}
# What deserves a second look where it is read.
NOTABLE = ("AllowNonProvisionableDevices", "AllowExternalDeviceManagement")
_WORDS: Mapping[str, StrOrPromise] = {
    "Disable": gettext_lazy("Off"),
    "HandsfreeOnly": gettext_lazy("Hands-free only"),
    "Allow": gettext_lazy("Allowed"),
    "BlockNegotiation": gettext_lazy("No negotiation"),
    "OnlyStrongAlgorithmNegotiation": gettext_lazy("Strong algorithms only"),
    "AllowAnyAlgorithmNegotiation": gettext_lazy("Any algorithm"),
    "All": gettext_lazy("All"),
    "OneDay": gettext_lazy("One day"),
    "ThreeDays": gettext_lazy("Three days"),
    "OneWeek": gettext_lazy("One week"),
    "TwoWeeks": gettext_lazy("Two weeks"),
    "OneMonth": gettext_lazy("One month"),
    "ThreeMonths": gettext_lazy("Three months"),
    "SixMonths": gettext_lazy("Six months"),
    "TripleDES": gettext_lazy("Triple DES"),
    "RC2128bit": gettext_lazy("RC2, 128 bits"),
    "RC264bit": gettext_lazy("RC2, 64 bits"),
    "RC240bit": gettext_lazy("RC2, 40 bits"),
    "SHA1": gettext_lazy("SHA-1"),
}


@dataclass(frozen=True, slots=True)
class Line:
    """One setting in words. remote: what the organization's cmdlets call it."""

    name: str
    remote: str
    label: str
    value: str
    help: str = ""


@dataclass(frozen=True, slots=True)
class Pair:
    """One setting of two policies. "": the policy does not show it."""

    label: str
    remote: str
    one: str
    other: str


def remote_name(name: str, *, version: str) -> str:
    """What the policy cmdlets of an Exchange of that version (ExchangeOrganization.version) call a setting."""
    return policies.remote_name(name, is_active_sync=version == "2010")


def label_of(name: str) -> str:
    return str(LABELS.get(name, name))


def choice_said(value: str) -> str:
    return str(_WORDS.get(value, value))


def value_said(name: str, value: PolicyValue) -> str:
    """A value in words; what cannot be read is shown as Exchange wrote it."""
    if isinstance(value, bool):
        return _("Yes") if value else _("No")
    if isinstance(value, tuple):
        return "\n".join(value) or _("None")
    if not isinstance(value, str):
        return str(value)
    if value == UNLIMITED:
        return _("Unlimited")
    if name in CHOICES:
        return choice_said(value)
    seconds = seconds_of(value) if name in PERIODS else None
    return value if seconds is None else period_said(seconds)


def period_said(seconds: int) -> str:
    """A time in the largest whole units: "15 minutes", "90 days", "1 hour 30 minutes"."""
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    parts = [
        said % {"count": count}
        for count, said in (
            (days, ngettext("%(count)s day", "%(count)s days", days)),
            (hours, ngettext("%(count)s hour", "%(count)s hours", hours)),
            (minutes, ngettext("%(count)s minute", "%(count)s minutes", minutes)),
            (rest, ngettext("%(count)s second", "%(count)s seconds", rest)),
        )
        if count
    ]
    return " ".join(parts) or _("0 seconds")


def groups_said(settings: Mapping[str, PolicyValue], *, version: str) -> list[tuple[str, list[Line]]]:
    """A policy's settings by their groups; without settings that it does not show, and groups that are empty."""
    found = []
    for title, names in GROUPS:
        lines = [
            Line(
                name=name,
                remote=remote_name(name, version=version),
                label=label_of(name),
                value=value_said(name, settings[name]),
                help=str(HELP[name]) if name in NOTABLE else "",
            )
            for name in names
            if name in settings
        ]
        if lines:
            found.append((str(title), lines))
    return found


def pairs_said(
    one: Mapping[str, PolicyValue],
    other: Mapping[str, PolicyValue],
    *,
    version: str,
    names: Sequence[str] | None = None,
) -> list[Pair]:
    """Where two policies differ; names: these settings, whether they differ or not."""
    chosen = differing(one, other) if names is None else names
    return [
        Pair(
            label=label_of(name),
            remote=remote_name(name, version=version),
            one=value_said(name, one[name]) if name in one else "",
            other=value_said(name, other[name]) if name in other else "",
        )
        for name in _ordered(chosen)
    ]


def _ordered(names: Sequence[str]) -> list[str]:
    """In the order of the pages."""
    order = [name for _title, group in GROUPS for name in group]
    return sorted(names, key=lambda name: order.index(name) if name in order else len(order))


def shown_names() -> tuple[str, ...]:
    """Every setting, in the order of the pages."""
    return tuple(_ordered(tuple(SETTINGS)))

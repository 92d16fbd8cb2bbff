"""What the values of a policy are called, and how two versions differ, for people. Reads no table.

The words are those of Intune's admin center, where its on-premises connector had them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.utils import formats
from django.utils.dateparse import parse_datetime
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, pgettext

from sync.deciding import facts
from sync.deciding.verdicts import Row
from sync.policies.policy import (
    GrandfatheringValues,
    GroupRef,
    NotificationValues,
    OrganizationPolicyValues,
    RuleValues,
    TenantPolicyValues,
)

if TYPE_CHECKING:
    from django_stubs_ext import StrOrPromise

LEVELS: Mapping[str, StrOrPromise] = {
    facts.Level.ALLOW: gettext_lazy("Allow access"),
    facts.Level.BLOCK: gettext_lazy("Block access"),
    facts.Level.QUARANTINE: gettext_lazy("Quarantine"),
}
CHARACTERISTIC_WORDS: Mapping[str, StrOrPromise] = {
    "DeviceType": gettext_lazy("Device type"),
    "DeviceModel": gettext_lazy("Device model"),
    "DeviceOS": gettext_lazy("Operating system"),
    "UserAgent": gettext_lazy("User agent"),
    "XMSWLHeader": gettext_lazy("X-MS-WL header"),
}
UNLICENSED: Mapping[str, StrOrPromise] = {
    facts.Unlicensed.LEAVE_ALONE: gettext_lazy("Leave alone: Exchange decides by its own rules"),
    facts.Unlicensed.DENY: gettext_lazy("Deny access"),
    facts.Unlicensed.AS_OTHERS: gettext_lazy("Treat like everybody else"),
}
DOUBTS: Mapping[str, StrOrPromise] = {
    facts.Doubt.NONCOMPLIANT: gettext_lazy("Count as not compliant"),
    facts.Doubt.COMPLIANT: gettext_lazy("Count as compliant"),
}
TENANT_LABELS: Mapping[str, StrOrPromise] = {
    "enabled": gettext_lazy("Enable Exchange on-premises access control"),
    "override_default_rule": gettext_lazy("Always allow enrolled and compliant devices"),
    "target_everyone": gettext_lazy("Include all users"),
    "included_groups": gettext_lazy("Included groups"),
    "excluded_groups": gettext_lazy("Excluded groups"),
    "unlicensed": gettext_lazy("People without a license"),
    "unknown_compliance": gettext_lazy("Unknown compliance"),
    "config_manager": gettext_lazy("Managed by Configuration Manager"),
    "stale": gettext_lazy("Devices that stopped checking in"),
    "stale_days": gettext_lazy("Days without a check-in"),
    "guard_devices": gettext_lazy("Approval limit: devices"),
    "guard_percent": gettext_lazy("Approval limit: percent of the organization's devices"),
    "guard_at_most": gettext_lazy("Approval limit: at most, whatever the percentage"),
}
ORGANIZATION_LABELS: Mapping[str, StrOrPromise] = {
    "default_level": gettext_lazy("Default access level"),
    "rules": gettext_lazy("Device access rules"),
    "user_mail_insert": gettext_lazy("Text added to Exchange's quarantine mail"),
    "admin_mail_recipients": gettext_lazy("Administrator mail recipients"),
    "denial": gettext_lazy("What a denied device meets"),
    "grandfathering": gettext_lazy("Devices that keep their access"),
}
NOTIFICATION_LABELS: Mapping[str, StrOrPromise] = {
    "enabled": gettext_lazy("User notification"),
    "language": gettext_lazy("Language"),
    "enrollment_link": gettext_lazy("Enrollment link"),
    "help_contact": gettext_lazy("Help contact"),
    "repeat_days": gettext_lazy("Not again before (days)"),
}
# Why a device is kept out, by the row of the decision table that says so.
LOSS_WORDS: Mapping[str, StrOrPromise] = {
    Row.NOT_ACTIVE_SYNC: gettext_lazy("Not an ActiveSync mail program"),
    Row.OVERRIDE_BLOCK: gettext_lazy("An administrator blocked the device"),
    Row.ADOPTED: gettext_lazy("An entry of somebody else, adopted"),
    Row.CONTROL_OFF: gettext_lazy("Left to Exchange's own settings"),
    Row.EXEMPT: gettext_lazy("Excluded person: left to Exchange's own settings"),
    Row.NOT_TARGETED: gettext_lazy("Person not included: left to Exchange's own settings"),
    Row.UNLICENSED: gettext_lazy("Person without a license"),
    Row.AMBIGUOUS: gettext_lazy("Several records or people, which contradict each other"),
    Row.OTHER_PERSONS: gettext_lazy("Enrolled by somebody else"),
    Row.NO_RECORD: gettext_lazy("Not enrolled"),
    Row.NOT_REGISTERED: gettext_lazy("Not registered in the directory"),
    Row.STALE: gettext_lazy("Stopped checking in"),
    Row.NOT_COMPLIANT: gettext_lazy("Not compliant"),
    Row.GRACE_OVER: gettext_lazy("Grace period is over"),
    Row.CONFIG_MANAGER: gettext_lazy("Managed by Configuration Manager"),
    Row.UNKNOWN_COMPLIANCE: gettext_lazy("Compliance unknown"),
    Row.PLATFORM_RULE: gettext_lazy("A device access rule"),
    Row.COMPLIANT: gettext_lazy("Enrolled and compliant, but not always allowed"),
}
DOUBT_WORDS: Mapping[str, StrOrPromise] = {
    "noSource": gettext_lazy("no source of device records is set up"),
    "recordsNeverRead": gettext_lazy("the device records were never read"),
    "peopleNeverRead": gettext_lazy("the directory's people were never read"),
    "groupNeverRead": gettext_lazy("the members of a group were never read"),
}


@dataclass(frozen=True, slots=True)
class Difference:
    """One value that differs, as people read it. "": a rule that was not there before, or is not any more."""

    label: str
    before: str
    after: str


def differences(
    before: TenantPolicyValues | OrganizationPolicyValues, after: TenantPolicyValues | OrganizationPolicyValues
) -> tuple[Difference, ...]:
    """How the second differs from the first, in the order of the pages. Both of one kind."""
    if isinstance(before, TenantPolicyValues) and isinstance(after, TenantPolicyValues):
        return tuple(_named(TENANT_LABELS, before, after))
    if isinstance(before, OrganizationPolicyValues) and isinstance(after, OrganizationPolicyValues):
        return (*_organization(before, after), *_notification(before.notification, after.notification))
    raise TypeError("A tenant's policy cannot be compared with an organization's.")


def _named(labels: Mapping[str, StrOrPromise], before: Any, after: Any) -> Iterator[Difference]:
    for name, label in labels.items():
        one, other = getattr(before, name), getattr(after, name)
        if one != other:
            yield Difference(str(label), _said(name, one), _said(name, other))


def _organization(before: OrganizationPolicyValues, after: OrganizationPolicyValues) -> Iterator[Difference]:
    labels = {name: label for name, label in ORGANIZATION_LABELS.items() if name != "rules"}
    yield from _named(labels, before, after)
    old, new = _by_key(before.rules), _by_key(after.rules)
    for key in [*old, *(key for key in new if key not in old)]:
        one, other = old.get(key), new.get(key)
        if (one and one.level) != (other and other.level):
            yield Difference(rule_said(one or other or RuleValues("", "", "")), _level(one), _level(other))


def _by_key(rules: Iterable[RuleValues]) -> dict[tuple[str, str], RuleValues]:
    return {(rule.characteristic.lower(), rule.query.lower()): rule for rule in rules}


def _level(rule: RuleValues | None) -> str:
    return "" if rule is None else str(LEVELS.get(rule.level, rule.level))


def rule_said(rule: RuleValues) -> str:
    """A rule's subject as a label."""
    return _("Rule: %(characteristic)s “%(query)s”") % {
        "characteristic": CHARACTERISTIC_WORDS.get(rule.characteristic, rule.characteristic),
        "query": rule.query,
    }


def _notification(before: NotificationValues, after: NotificationValues) -> Iterator[Difference]:
    yield from _named(NOTIFICATION_LABELS, before, after)
    names = dict(settings.LANGUAGES)
    for language in [*names, *(set(before.templates) | set(after.templates)) - set(names)]:
        one, other = before.templates.get(language), after.templates.get(language)
        if (old := one.subject if one else "") != (new := other.subject if other else ""):
            label = _("Subject (%(language)s)") % {"language": names.get(language, language)}
            yield Difference(label, old or _("Built-in text"), new or _("Built-in text"))
        if (old := one.body if one else "") != (new := other.body if other else ""):
            label = _("Text (%(language)s)") % {"language": names.get(language, language)}
            yield Difference(label, old or _("Built-in text"), new or _("Built-in text"))


_CHOICES: Mapping[str, Mapping[str, StrOrPromise]] = {
    "unlicensed": UNLICENSED,
    "unknown_compliance": DOUBTS,
    "config_manager": DOUBTS,
    "stale": DOUBTS,
    "default_level": LEVELS,
    "denial": LEVELS,
}


def _said(name: str, value: Any) -> str:
    """One value as people read it."""
    if name in _CHOICES and value is not None:
        return str(_CHOICES[name].get(value, value))
    if name == "language":
        return str(dict(settings.LANGUAGES).get(value, value))
    if value is None:
        return str(_NONE.get(name, gettext_lazy("Not managed")))
    if isinstance(value, bool):
        return _("On") if value else _("Off")
    if isinstance(value, GrandfatheringValues):
        return grandfathering_said(value)
    if isinstance(value, tuple):
        return ", ".join(_item(item) for item in value) or _("None")
    return str(value) or _("Empty")


_NONE: Mapping[str, StrOrPromise] = {
    "stale_days": gettext_lazy("Never"),
    "grandfathering": gettext_lazy("None"),
}


def _item(value: Any) -> str:
    return (value.name or value.id) if isinstance(value, GroupRef) else str(value)


def grandfathering_said(kept: GrandfatheringValues) -> str:
    """The sentence about devices that keep their access."""
    until = parse_datetime(kept.until)
    return _("Devices that synced in the %(days)s days before keep their access until %(until)s") % {
        "days": kept.days,
        "until": formats.date_format(until, pgettext("date format", "j M Y")) if until else kept.until,
    }

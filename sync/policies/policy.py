"""What a policy holds: the values of a tenant's and of an organization's policy, to and from JSON.

Refuses to know how they are kept (policy_services.py) and what they come to (decide.py takes facts.TenantPolicy and
facts.OrganizationPolicy, which `facts()` makes). Reading tolerates what an older or newer version wrote: a missing
value is the default, an unknown one is left out.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from sync.deciding import facts
from sync.deciding.guard import Limits

# Exchange's limit for UserMailInsert.
MAIL_INSERT_LENGTH = 256


@dataclass(frozen=True, slots=True)
class GroupRef:
    """A directory group by its id at the source; the name is for people, as it was when it was chosen."""

    id: str
    name: str = ""


@dataclass(frozen=True, slots=True)
class TenantPolicyValues:
    """Exchange on-premises access of a tenant. Graph's onPremisesConditionalAccessSettings: enabled, includedGroups,
    excludedGroups, overrideDefaultRule; the others are ours.

    guard_devices, guard_percent: denials beyond BOTH wait for approval, and so do more than guard_at_most (None: no
    such number). stale_days None: a record never grows stale.
    """

    enabled: bool = False
    override_default_rule: bool = True
    target_everyone: bool = False
    included_groups: tuple[GroupRef, ...] = ()
    excluded_groups: tuple[GroupRef, ...] = ()
    unlicensed: str = facts.Unlicensed.LEAVE_ALONE
    unknown_compliance: str = facts.Doubt.NONCOMPLIANT
    config_manager: str = facts.Doubt.NONCOMPLIANT
    stale: str = facts.Doubt.NONCOMPLIANT
    stale_days: int | None = None
    guard_devices: int = 10
    guard_percent: float = 5.0
    guard_at_most: int | None = 1000

    def limits(self) -> Limits:
        return Limits(self.guard_devices, self.guard_percent, self.guard_at_most)

    def facts(self) -> facts.TenantPolicy:
        return facts.TenantPolicy(
            control_on=self.enabled,
            always_allow_compliant=self.override_default_rule,
            target_everyone=self.target_everyone,
            unlicensed=facts.Unlicensed(self.unlicensed),
            unknown_compliance=facts.Doubt(self.unknown_compliance),
            config_manager=facts.Doubt(self.config_manager),
            stale=facts.Doubt(self.stale),
            stale_days=self.stale_days,
        )

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> TenantPolicyValues:
        known = _known(cls, content)
        for name in ("included_groups", "excluded_groups"):
            if name in known:
                known[name] = tuple(GroupRef(str(g["id"]), str(g.get("name", ""))) for g in known[name])
        return cls(**known)


@dataclass(frozen=True, slots=True)
class RuleValues:
    """A device access rule that the policy wants."""

    characteristic: str
    query: str
    level: str


@dataclass(frozen=True, slots=True)
class GrandfatheringValues:
    """As facts.Grandfathering, in ISO times with their zone; days: the N that the administrator chose."""

    decided: str
    synced_since: str
    until: str
    days: int

    def facts(self) -> facts.Grandfathering:
        """Raises ValueError for what is no time."""
        return facts.Grandfathering(_utc(self.decided), _utc(self.synced_since), _utc(self.until))


@dataclass(frozen=True, slots=True)
class MailTemplateValues:
    """Markdown with {{placeholders}}, see mail_template.py. Empty: the built-in text of the language."""

    subject: str = ""
    body: str = ""


@dataclass(frozen=True, slots=True)
class NotificationValues:
    """User notification. repeat_days: about the same phone not again before so many days.

    templates: by language code of settings.LANGUAGES. language: of a mail to somebody whose own is not known.
    """

    enabled: bool = False
    language: str = "en"
    enrollment_link: str = ""
    help_contact: str = ""
    repeat_days: int = 7
    templates: Mapping[str, MailTemplateValues] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class OrganizationPolicyValues:
    """What one organization's Exchange should be set to. None: as it is in Exchange is right, and never touched."""

    default_level: str | None = None
    rules: tuple[RuleValues, ...] = ()
    user_mail_insert: str | None = None
    admin_mail_recipients: tuple[str, ...] | None = None
    denial: str = facts.Level.QUARANTINE
    grandfathering: GrandfatheringValues | None = None
    notification: NotificationValues = field(default_factory=NotificationValues)

    def facts(self) -> facts.OrganizationPolicy:
        return facts.OrganizationPolicy(
            default_level=facts.Level(self.default_level) if self.default_level else None,
            rules=tuple(facts.AccessRule(r.characteristic, r.query, facts.Level(r.level)) for r in self.rules),
            user_mail_insert=self.user_mail_insert,
            admin_mail_recipients=self.admin_mail_recipients,
            denial=facts.Level(self.denial),
            grandfathering=self.grandfathering.facts() if self.grandfathering else None,
        )

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> OrganizationPolicyValues:
        known = _known(cls, content)
        if "rules" in known:
            known["rules"] = tuple(RuleValues(**_known(RuleValues, rule)) for rule in known["rules"])
        if known.get("admin_mail_recipients") is not None:
            known["admin_mail_recipients"] = tuple(known["admin_mail_recipients"])
        if known.get("grandfathering") is not None:
            known["grandfathering"] = GrandfatheringValues(**_known(GrandfatheringValues, known["grandfathering"]))
        if "notification" in known:
            notification = _known(NotificationValues, known["notification"])
            templates = notification.pop("templates", None) or {}
            notification["templates"] = {
                language: MailTemplateValues(**_known(MailTemplateValues, one)) for language, one in templates.items()
            }
            known["notification"] = NotificationValues(**notification)
        return cls(**known)


def _utc(text: str) -> datetime.datetime:
    moment = datetime.datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError("A time without a zone says nothing.")
    return moment.astimezone(datetime.UTC)


def _known(cls: Any, content: Mapping[str, Any]) -> dict[str, Any]:
    names = {one.name for one in fields(cls)}
    return {name: value for name, value in content.items() if name in names}

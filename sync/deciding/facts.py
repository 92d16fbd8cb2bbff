"""What the pure phases (match, decide, plan, guard) are told: frozen values, and the words they answer with.

Refuses to know where a fact comes from: no database, setting, clock, network or translation is reached from here.
Labels of Exchange and Graph stay the text that came, so that one we have never heard of survives. Times are aware UTC;
None means that the source did not say (Graph's 0001-01-01 is None). Text that was left null is "". Keys are whatever
the caller tells its rows by; two facts are the same when their keys are equal, and a key is never compared with text.
What phones and records are looked up by is made once, with them: each phase asks for it again.
"""

from __future__ import annotations

import datetime
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeAlias

Key: TypeAlias = int | str
# (mailbox key, id_key of the DeviceId): a DeviceId alone names nothing, it may stand under several mailboxes.
Partnership: TypeAlias = tuple[Key, str]


def id_key(device_id: str) -> str:
    """A DeviceId for comparing. Whether Exchange itself regards case is not confirmed.

    Lower case and no full case folding: folding would take "ß" for "ss", and ids that differ for the same.
    """
    return device_id.strip().lower()


def text_key(text: str) -> str:
    """An address, name or other text for comparing; lower case for the same reason."""
    return text.strip().lower()


# --- words --------------------------------------------------------------------------------------------------------


class Level(StrEnum):
    """DeviceAccessLevel: what a default, a rule, or in the end Exchange itself says. Graph's spelling."""

    ALLOW = "allow"
    BLOCK = "block"
    QUARANTINE = "quarantine"

    @property
    def label(self) -> str:
        """Exchange's spelling."""
        return self.value.capitalize()


class Access(StrEnum):
    """What a verdict wants. Leaving alone: Exchange's own rules decide, and what is ours is withdrawn."""

    ALLOW = "allow"
    BLOCK = "block"
    QUARANTINE = "quarantine"
    LEAVE_ALONE = "leaveAlone"


class State(StrEnum):
    """Graph's deviceManagementExchangeAccessState."""

    NONE = "none"
    UNKNOWN = "unknown"
    ALLOWED = "allowed"
    BLOCKED = "blocked"
    QUARANTINED = "quarantined"


class Reason(StrEnum):
    """Graph's deviceManagementExchangeAccessStateReason; the members that a verdict can carry."""

    UNKNOWN = "unknown"
    GLOBAL_RULE = "exchangeGlobalRule"
    INDIVIDUAL_RULE = "exchangeIndividualRule"
    DEVICE_RULE = "exchangeDeviceRule"
    OTHER = "other"
    COMPLIANT = "compliant"
    NOT_COMPLIANT = "notCompliant"
    NOT_ENROLLED = "notEnrolled"


class PersonalList(StrEnum):
    """One of a mailbox's two lists of DeviceIds."""

    ALLOWED = "allowed"
    BLOCKED = "blocked"


class Presence(StrEnum):
    """MISSING: a listing did not hold it and nothing has confirmed that yet. It counts as if it were there: absence
    in one listing is no proof of being gone. What is confirmed as gone is not handed in."""

    PRESENT = "present"
    MISSING = "missing"


class Doubt(StrEnum):
    """How a record counts whose compliance does not say yes or no."""

    COMPLIANT = "compliant"
    NONCOMPLIANT = "noncompliant"


class Unlicensed(StrEnum):
    """What becomes of people without a licence for device management."""

    LEAVE_ALONE = "leaveAlone"
    DENY = "deny"
    AS_OTHERS = "asOthers"


class LinkKind(StrEnum):
    LINK = "link"
    UNLINK = "unlink"


class Choice(StrEnum):
    """What an administrator chose for an entry that is not ours. ADOPT: it decides, stays, and alarms nobody.
    OVERRIDE: the verdict counts, and the entry is removed where it stands in its way."""

    ADOPT = "adopt"
    OVERRIDE = "override"


# --- Exchange -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class EasDevice:
    """One ActiveSync partnership. Type, model, system and user agent are the phone's own words: it may lie."""

    key: Key
    mailbox: Key
    device_id: str  # as Exchange wrote it, and as it is sent back
    client_type: str = ""  # EAS, REST, Outlook, ...; "" before Exchange 2013
    device_type: str = ""
    model: str = ""
    os: str = ""
    user_agent: str = ""
    imei: str = ""
    state: str = ""  # what Exchange's last evaluation wrote: it lags until the phone comes again
    state_reason: str = ""
    state_rule: str = ""
    first_seen: datetime.datetime | None = None
    last_seen: datetime.datetime | None = None  # the last contact of any kind
    last_success: datetime.datetime | None = None  # the last sync that gave it mail; a denied phone has none
    partnership: Partnership = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "partnership", (self.mailbox, id_key(self.device_id)))


@dataclass(frozen=True, slots=True)
class Mailbox:
    """A mailbox with its two personal lists, in full and as written."""

    key: Key
    identity: str  # what Set-CASMailbox is sent: the GUID where known
    sid: str = ""
    master_sid: str = ""  # of the linked account, where the mailbox's own is a disabled one in a resource forest
    immutable_id: str = ""  # base64 of the objectGUID's bytes, or of ms-DS-ConsistencyGuid
    domain: str = ""  # FQDN
    sam: str = ""
    primary_smtp: str = ""
    proxies: tuple[str, ...] = ()  # with or without "smtp:"
    upn: str = ""
    allowed: tuple[str, ...] = ()
    blocked: tuple[str, ...] = ()
    activesync_enabled: bool = True


@dataclass(frozen=True, slots=True)
class AccessRule:
    """A device access rule. `identity` as Exchange gave it, "" in a policy: its form differs by version."""

    characteristic: str  # DeviceType, DeviceModel, DeviceOS, UserAgent, XMSWLHeader, or a newer one
    query: str  # exact, no wildcards
    level: Level
    identity: str = ""

    @property
    def key(self) -> tuple[str, str]:
        return (self.characteristic.lower(), self.query.lower())


@dataclass(frozen=True, slots=True)
class ExchangeSettings:
    """The organisation's settings as read from Exchange."""

    default_level: Level = Level.ALLOW
    rules: tuple[AccessRule, ...] = ()
    user_mail_insert: str = ""
    admin_mail_recipients: tuple[str, ...] = ()


# --- device management and directory ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ManagedDevice:
    """A record of the device-management system."""

    key: Key
    user: Key | None = None  # the DirectoryUser's key, where the source gives one
    upn: str = ""
    email: str = ""
    eas_device_id: str = ""
    serial: str = ""
    imei: str = ""
    manufacturer: str = ""
    model: str = ""
    os: str = ""
    compliance: str = "unknown"  # Graph's complianceState label
    grace_until: datetime.datetime | None = None  # None: no deadline
    registered: bool | None = None  # in the directory; None: the source does not tell
    agent: str = ""  # Graph's managementAgent label
    enrolled: datetime.datetime | None = None
    last_check_in: datetime.datetime | None = None
    presence: Presence = Presence.PRESENT
    eas_key: str = field(init=False, repr=False, compare=False)  # id_key of eas_device_id

    def __post_init__(self) -> None:
        object.__setattr__(self, "eas_key", id_key(self.eas_device_id))


@dataclass(frozen=True, slots=True)
class DirectoryUser:
    """A person, with what group membership and licences come to."""

    key: Key
    upn: str = ""
    on_premises_upn: str = ""
    mail: str = ""
    proxies: tuple[str, ...] = ()
    sid: str = ""
    immutable_id: str = ""
    domain: str = ""
    sam: str = ""
    licensed: bool | None = None  # None: the source does not tell
    included: bool = False  # in a group that the policy includes, directly or through others
    excluded: bool = False
    presence: Presence = Presence.PRESENT


# --- what people chose --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Override:
    """An administrator's own decision about one partnership."""

    mailbox: Key
    device_id: str
    level: Level  # ALLOW or BLOCK
    reason: str = ""
    expires: datetime.datetime | None = None  # None: it stands until it is taken back

    def __post_init__(self) -> None:
        if self.level is Level.QUARANTINE:
            raise ValueError("Exchange has no personal quarantine: an override allows or blocks.")

    @property
    def partnership(self) -> Partnership:
        return (self.mailbox, id_key(self.device_id))


@dataclass(frozen=True, slots=True)
class Link:
    """A person said that a partnership and a record are one device (LINK), or are not (UNLINK)."""

    mailbox: Key
    device_id: str
    managed: Key
    kind: LinkKind = LinkKind.LINK

    @property
    def partnership(self) -> Partnership:
        return (self.mailbox, id_key(self.device_id))


@dataclass(frozen=True, slots=True)
class EntryChoice:
    """A person's recorded choice about an entry that is not ours."""

    mailbox: Key
    listed: PersonalList
    device_id: str
    choice: Choice


@dataclass(frozen=True, slots=True)
class TenantPolicy:
    """Whom the policy reaches, and how doubtful cases count.

    target_everyone: every mailbox is reached, also where the directory knows nobody it belongs to. For tenants whose
    records are pushed: they have no groups. Exclusion wins here too.
    """

    control_on: bool = False
    target_everyone: bool = False
    always_allow_compliant: bool = False  # Graph's overrideDefaultRule
    unlicensed: Unlicensed = Unlicensed.LEAVE_ALONE
    unknown_compliance: Doubt = Doubt.NONCOMPLIANT
    config_manager: Doubt = Doubt.NONCOMPLIANT
    stale: Doubt = Doubt.NONCOMPLIANT
    stale_days: int | None = None  # None: a record never grows stale


@dataclass(frozen=True, slots=True)
class Grandfathering:
    """When the default level was tightened: phones known at `decided` that had mail since `synced_since` keep it
    until `until`."""

    decided: datetime.datetime
    synced_since: datetime.datetime
    until: datetime.datetime


@dataclass(frozen=True, slots=True)
class OrganizationPolicy:
    """What one organisation's Exchange should be set to. None: not ours to enforce, as it is is right.

    denial: what a denied phone should meet where Exchange offers a choice. A personal entry can only block; a phone is
    quarantined when no entry names it and the default level or a rule quarantines it.
    """

    default_level: Level | None = None
    rules: tuple[AccessRule, ...] = ()
    user_mail_insert: str | None = None
    admin_mail_recipients: tuple[str, ...] | None = None
    denial: Level = Level.QUARANTINE  # BLOCK or QUARANTINE
    grandfathering: Grandfathering | None = None

    def __post_init__(self) -> None:
        if self.denial is Level.ALLOW:
            raise ValueError("A denial blocks or quarantines.")


# --- what is ours -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Entry:
    """One DeviceId on one of a mailbox's personal lists, as it was written."""

    mailbox: Key
    listed: PersonalList
    device_id: str


@dataclass(frozen=True, slots=True)
class Ledger:
    """What Gatehouse wrote into Exchange. Noted before the cmdlet is sent: an entry noted here that is not in Exchange
    does no harm, one in Exchange that is not noted here would be taken for somebody else's.

    rules: those that we made. settings: as last enforced, None when never; what differs from it, someone else changed.
    """

    entries: frozenset[Entry] = frozenset()
    rules: tuple[AccessRule, ...] = ()
    settings: ExchangeSettings | None = None

"""Organisations for the property tests: made up by hypothesis, held by the lab's own objects, seen through the facts.

Only here product and lab meet in one process, so that the pure phases can be put beside Exchange's evaluation as the
lab has it, with which they share no code.
"""

from __future__ import annotations

import datetime
import uuid
from dataclasses import dataclass, field, replace

from hypothesis import strategies as st

from lab.exchange import access
from lab.exchange.objects import AccessRule as LabRule
from lab.exchange.objects import Device as LabDevice
from lab.exchange.objects import Mailbox as LabMailbox
from lab.exchange.store import Store
from lab.exchange.versions import VERSIONS
from sync import facts
from sync.commands import Command, CreateRule, RemoveRule, SetMailboxEntries, SetOrganizationSettings, SetRuleLevel
from sync.facts import Choice, Doubt, Entry, Key, Level, PersonalList, Unlicensed
from sync.match import match
from sync.world import World

NOW = datetime.datetime(2026, 11, 20, 12, tzinfo=datetime.UTC)
STATES = {"Allowed": "allowed", "Blocked": "blocked", "Quarantined": "quarantined"}

# Few words, so that rules, phones and entries meet again and again. Case differs on purpose.
IDS = ("ApplA1", "appla1", "K6CK", "androidc7")
TYPES = ("iPhone", "Android")
MODELS = ("iPhone14C5", "Pixel 8", "Outlook for iOS and Android")
SYSTEMS = ("iOS 17.6", "Android 14")
AGENTS = ("Apple-iPhone14C5/2107.93", "Android-Mail/1")
QUERIES = {
    "DeviceType": TYPES,
    "DeviceModel": MODELS[:2],
    "DeviceOS": SYSTEMS,
    "UserAgent": AGENTS,
    "XMSWLHeader": ("x",),
}
COMPLIANCE = (
    "compliant",
    "compliant",
    "noncompliant",
    "inGracePeriod",
    "unknown",
    "configManager",
    "error",
    "newLabel",
)

LEVELS = st.sampled_from(Level)
DAYS = st.sampled_from((-400, -40, -2, 3)).map(lambda days: NOW + datetime.timedelta(days=days))


@dataclass
class Organization:
    """The lab's store, with what Gatehouse knows and wants beside it."""

    store: Store
    mailboxes: list[LabMailbox]
    devices: list[LabDevice]
    records: list[facts.ManagedDevice]
    users: list[facts.DirectoryUser]
    links: list[facts.Link]
    overrides: list[facts.Override]
    choices: list[facts.EntryChoice]
    tenant: facts.TenantPolicy
    policy: facts.OrganizationPolicy
    ledger: facts.Ledger
    moments: dict[int, tuple[datetime.datetime | None, datetime.datetime | None]] = field(default_factory=dict)

    def exchange(self) -> facts.ExchangeSettings:
        rules = (
            facts.AccessRule(rule.characteristic, rule.query, Level(rule.level.lower()), str(rule.guid))
            for rule in self.store.rules
        )
        settings = self.store.settings
        return facts.ExchangeSettings(
            Level(settings.default_access_level.lower()),
            tuple(rules),
            settings.user_mail_insert,
            tuple(settings.admin_mail_recipients),
        )

    def world(self) -> World:
        """As a sync that reads everything would see it."""
        devices = [
            facts.EasDevice(
                number,
                self.mailboxes.index(device.mailbox),
                device.device_id,
                device.client_type,
                device.device_type,
                device.model,
                device.os,
                device.user_agent,
                first_seen=self.moments[number][0],
                last_success=self.moments[number][1],
            )
            for number, device in enumerate(self.devices)
        ]
        mailboxes: dict[Key, facts.Mailbox] = {
            number: facts.Mailbox(
                number,
                str(mailbox.guid),
                primary_smtp=mailbox.smtp,
                allowed=tuple(mailbox.allowed),
                blocked=tuple(mailbox.blocked),
                activesync_enabled=mailbox.active_sync_enabled,
            )
            for number, mailbox in enumerate(self.mailboxes)
        }
        matches = match(devices, mailboxes.values(), self.records, self.users, self.links)
        return World(
            NOW,
            devices,
            matches,
            mailboxes,
            self.tenant,
            self.policy,
            self.exchange(),
            self.ledger,
            self.overrides,
            self.choices,
        )

    def evaluated(self) -> dict[Key, str]:
        """Graph's word for what Exchange says to each phone whose mailbox may use ActiveSync."""
        found: dict[Key, str] = {}
        for number, device in enumerate(self.devices):
            claim = access.Claim(device.device_id, device.device_type, device.model, device.os, device.user_agent)
            decision = access.evaluate(self.store, device.mailbox, claim)
            if decision.state != "Disabled":
                found[number] = STATES[decision.state]
        return found

    def carry_out(self, command: Command) -> None:
        """As Exchange and the ledger would: a note of what is ours is made first, and taken back last."""
        match command:
            case SetMailboxEntries():
                self._set_entries(command)
            case SetOrganizationSettings(
                default_level=level, user_mail_insert=insert, admin_mail_recipients=recipients
            ):
                settings = self.store.settings
                settings.default_access_level = level.label if level else settings.default_access_level
                settings.user_mail_insert = settings.user_mail_insert if insert is None else insert
                settings.admin_mail_recipients = list(
                    settings.admin_mail_recipients if recipients is None else recipients
                )
            case CreateRule(rule=rule):
                self.ledger = replace(self.ledger, rules=(*self.ledger.rules, rule))
                self.store.rules.append(LabRule(rule.query, rule.characteristic, rule.level.label))
            case SetRuleLevel(rule=rule, level=level):
                [known] = [known for known in self.store.rules if str(known.guid) == rule.identity]
                known.level = level.label
            case RemoveRule(rule=rule):
                [known] = [known for known in self.store.rules if str(known.guid) == rule.identity]
                self.store.rules.remove(known)
                kept = tuple(other for other in self.ledger.rules if other.key != rule.key)
                self.ledger = replace(self.ledger, rules=kept)

    def _set_entries(self, command: SetMailboxEntries) -> None:
        [mailbox] = self.store.find_mailboxes(command.identity)
        number = self.mailboxes.index(mailbox)
        entries = set(self.ledger.entries)
        for listed, standing, added, removed in (
            (PersonalList.ALLOWED, mailbox.allowed, command.allow_add, command.allow_remove),
            (PersonalList.BLOCKED, mailbox.blocked, command.block_add, command.block_remove),
        ):
            for text in removed:
                standing.remove(text)  # what is to be removed must be told as it stands
                entries = {
                    entry
                    for entry in entries
                    if (entry.mailbox, entry.listed, entry.device_id.lower()) != (number, listed, text.lower())
                }
            for text in added:
                assert text.lower() not in (known.lower() for known in standing)
                standing.append(text)
                entries.add(Entry(number, listed, text))
        self.ledger = replace(self.ledger, entries=frozenset(entries))


# --- made up ------------------------------------------------------------------------------------------------------


@st.composite
def _rules(draw: st.DrawFn) -> list[tuple[str, str, Level]]:
    """At most one for each characteristic and text: Exchange refuses a second."""
    found = {}
    for characteristic in draw(st.lists(st.sampled_from(sorted(QUERIES)), max_size=4)):
        query = draw(st.sampled_from(QUERIES[characteristic]))
        found[(characteristic, query)] = (characteristic, query, draw(LEVELS))
    return list(found.values())


@st.composite
def organizations(draw: st.DrawFn) -> Organization:
    store = Store(name="Org", domain="org.test", version=VERSIONS["SE"], seed=1)
    store.settings.default_access_level = draw(LEVELS).label
    store.rules = [LabRule(query, characteristic, level.label) for characteristic, query, level in draw(_rules())]
    mailboxes = [_mailbox(store, draw, number) for number in range(draw(st.integers(1, 3)))]
    devices = draw(st.lists(_devices(store, mailboxes), min_size=1, max_size=6))
    devices = [device for number, device in enumerate(devices) if _is_first(devices, number)]
    for device in devices:
        store.add_device(device)
    moment = st.none() | DAYS
    users = [
        facts.DirectoryUser(
            f"user-{number}",
            upn=mailbox.upn,
            mail=mailbox.smtp,
            licensed=draw(st.sampled_from((True, True, None, False))),
            included=draw(st.sampled_from((True, True, True, False))),
            excluded=draw(st.sampled_from((False, False, False, True))),
        )
        for number, mailbox in enumerate(mailboxes)
        if draw(st.integers(0, 5))
    ]
    entries = [
        Entry(number, listed, device_id)
        for number, mailbox in enumerate(mailboxes)
        for listed, ids in ((PersonalList.ALLOWED, mailbox.allowed), (PersonalList.BLOCKED, mailbox.blocked))
        for device_id in ids
    ]
    partnerships = st.tuples(st.integers(0, len(mailboxes) - 1), st.sampled_from(IDS))
    policy_rules = tuple(facts.AccessRule(*rule) for rule in draw(_rules()))
    all_rules = tuple(facts.AccessRule(rule.characteristic, rule.query, Level.ALLOW) for rule in store.rules)
    records = draw(st.lists(_records(), max_size=5))
    return Organization(
        store,
        mailboxes,
        devices,
        [replace(record, key=f"record-{number}") for number, record in enumerate(records)],
        users,
        [
            facts.Link(mailbox, device_id, "record-0", draw(st.sampled_from(facts.LinkKind)))
            for mailbox, device_id in draw(st.lists(partnerships, max_size=1))
        ],
        [
            facts.Override(mailbox, device_id, draw(st.sampled_from((Level.ALLOW, Level.BLOCK))), "", draw(moment))
            for mailbox, device_id in draw(st.lists(partnerships, max_size=2))
        ],
        [
            facts.EntryChoice(entry.mailbox, entry.listed, entry.device_id, draw(st.sampled_from(Choice)))
            for entry in entries
            if draw(st.booleans())
        ],
        draw(_tenants()),
        draw(_policies(policy_rules)),
        facts.Ledger(
            frozenset(entry for entry in entries if draw(st.booleans())),
            tuple(rule for rule in all_rules if draw(st.booleans())),
        ),
        {number: (draw(moment), draw(moment)) for number in range(len(devices))},
    )


def _mailbox(store: Store, draw: st.DrawFn, number: int) -> LabMailbox:
    def ids() -> list[str]:
        found = {device_id.lower(): device_id for device_id in draw(st.lists(st.sampled_from(IDS), max_size=2))}
        return list(found.values())

    name = f"person{number}"
    return store.add_mailbox(
        LabMailbox(
            uuid.UUID(int=number + 1),
            name,
            name,
            store.domain,
            f"{name}@org.test",
            f"{name}@org.test",
            f"S-1-5-21-1-2-3-{number}",
            active_sync_enabled=draw(st.sampled_from((True, True, True, True, False))),
            allowed=ids(),
            blocked=ids(),
        )
    )


def _devices(store: Store, mailboxes: list[LabMailbox]) -> st.SearchStrategy[LabDevice]:
    return st.builds(
        LabDevice,
        guid=st.uuids(),
        mailbox=st.sampled_from(mailboxes),
        device_id=st.sampled_from(IDS),
        device_type=st.sampled_from(TYPES),
        model=st.sampled_from(MODELS),
        os=st.sampled_from(SYSTEMS),
        os_language=st.just("en"),
        user_agent=st.sampled_from(AGENTS),
    )


def _is_first(devices: list[LabDevice], number: int) -> bool:
    def key(device: LabDevice) -> tuple[uuid.UUID, str, str]:
        return device.mailbox.guid, device.device_id.lower(), device.device_type

    return key(devices[number]) not in [key(device) for device in devices[:number]]


def _records() -> st.SearchStrategy[facts.ManagedDevice]:
    return st.builds(
        facts.ManagedDevice,
        key=st.just(""),
        upn=st.integers(0, 2).map("person{}@org.test".format),
        eas_device_id=st.sampled_from((*IDS, "")),
        compliance=st.sampled_from(COMPLIANCE),
        grace_until=st.none() | DAYS,
        registered=st.sampled_from((True, True, True, None, False)),
        enrolled=DAYS,
        last_check_in=DAYS,
    )


def _tenants() -> st.SearchStrategy[facts.TenantPolicy]:
    return st.builds(
        facts.TenantPolicy,
        control_on=st.sampled_from((True, True, True, True, False)),
        target_everyone=st.booleans(),
        always_allow_compliant=st.booleans(),
        unlicensed=st.sampled_from(Unlicensed),
        unknown_compliance=st.sampled_from(Doubt),
        config_manager=st.sampled_from(Doubt),
        stale=st.sampled_from(Doubt),
        stale_days=st.sampled_from((None, 30)),
    )


def _policies(rules: tuple[facts.AccessRule, ...]) -> st.SearchStrategy[facts.OrganizationPolicy]:
    keeping = st.builds(
        facts.Grandfathering,
        decided=st.just(NOW - datetime.timedelta(days=10)),
        synced_since=st.just(NOW - datetime.timedelta(days=60)),
        until=st.sampled_from((NOW + datetime.timedelta(days=30), NOW)),
    )
    return st.builds(
        facts.OrganizationPolicy,
        default_level=st.none() | LEVELS,
        rules=st.just(rules),
        user_mail_insert=st.sampled_from((None, "Please enrol.")),
        admin_mail_recipients=st.sampled_from((None, ("admin@org.test",))),
        denial=st.sampled_from((Level.BLOCK, Level.QUARANTINE)),
        grandfathering=st.none() | keeping,
    )

"""Organisations for the property tests: made up by hypothesis, held by the lab's own objects, seen through the facts.

Only here product and lab meet in one process, so that the pure phases can be put beside Exchange's evaluation as the
lab has it, with which they share no code.
"""

from __future__ import annotations

import datetime
import uuid
from dataclasses import dataclass, replace

from hypothesis import strategies as st

from lab.exchange import access
from lab.exchange.objects import AccessRule as LabRule
from lab.exchange.objects import Device as LabDevice
from lab.exchange.objects import Mailbox as LabMailbox
from lab.exchange.store import Store
from lab.exchange.versions import VERSIONS
from sync.deciding import facts
from sync.deciding.commands import (
    Command,
    CreateRule,
    RemoveRule,
    SetMailboxEntries,
    SetOrganizationSettings,
    SetRuleLevel,
)
from sync.deciding.facts import Choice, Doubt, Entry, Key, Level, PersonalList, Unlicensed
from sync.deciding.match import match
from sync.deciding.world import World

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
    *("compliant",) * 8,
    "noncompliant",
    "inGracePeriod",
    "unknown",
    "configManager",
    "error",
    "newLabel",
)


@dataclass(frozen=True)
class Claim(access.Claim):
    """With the header on which rules may be made."""

    header: str = ""

    def characteristic(self, name: str) -> str:
        return self.header if name == "XMSWLHeader" else super().characteristic(name)


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
    # Of each device: when it was first seen, and when it last had mail.
    moments: list[tuple[datetime.datetime | None, datetime.datetime | None]]
    # Of each device: what it says in the X-MS-WL header, which no listing shows.
    headers: list[str]

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
        return {key: STATES[state] for key, state in self.answers().items() if state != "Disabled"}

    def answers(self, header: str | None = None) -> dict[Key, str]:
        """What Exchange says to each phone. header: as if all said this in it."""
        found: dict[Key, str] = {}
        for number, device in enumerate(self.devices):
            texts = (device.device_id, device.device_type, device.model, device.os, device.user_agent)
            claim = Claim(*texts, header=self.headers[number] if header is None else header)
            found[number] = access.evaluate(self.store, device.mailbox, claim).state
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

LEVELS = st.sampled_from(Level)
BOOLEANS = st.booleans()
MOSTLY = st.sampled_from((True, True, True, True, False))
SELDOM = st.sampled_from((False,) * 6 + (True,))
DAYS = st.sampled_from([NOW + datetime.timedelta(days=days) for days in (-400, -40, -2, 3)])
MOMENTS = st.none() | DAYS


def _rules(*characteristics: str) -> st.SearchStrategy[list[tuple[str, str, Level]]]:
    asked = [(characteristic, query) for characteristic in characteristics for query in QUERIES[characteristic]]
    return st.lists(
        st.sampled_from(asked).flatmap(lambda rule: st.tuples(st.just(rule[0]), st.just(rule[1]), LEVELS)),
        max_size=4,
        unique_by=lambda rule: rule[:2],  # Exchange refuses a second
    )


RULES = _rules(*QUERIES)
SEEN_RULES = _rules(*(name for name in QUERIES if name != "XMSWLHeader"))
HEADERS = st.sampled_from(("", "x"))
LISTS = st.lists(st.sampled_from(IDS), max_size=2, unique_by=str.lower)
MAILBOXES = st.lists(st.tuples(MOSTLY, LISTS, LISTS), min_size=1, max_size=3)
# Mailboxes by number, modulo how many there are.
MAILBOX = st.integers(0, 2)
PARTNERSHIPS = st.tuples(MAILBOX, st.sampled_from(IDS))
DEVICES = st.lists(
    st.tuples(
        MAILBOX,
        st.sampled_from(IDS),
        st.sampled_from(TYPES),
        st.sampled_from((*MODELS[:2] * 3, MODELS[2])),
        st.sampled_from(SYSTEMS),
        st.sampled_from(AGENTS),
        MOMENTS,
        MOMENTS,
    ),
    min_size=1,
    max_size=6,
)
RECORDS = st.lists(
    st.builds(
        facts.ManagedDevice,
        key=st.just(""),
        upn=st.sampled_from((0, 0, 1, 1, 2)).map("person{}@org.test".format),
        eas_device_id=st.sampled_from((*IDS * 2, "")),
        compliance=st.sampled_from(COMPLIANCE),
        grace_until=MOMENTS,
        registered=st.sampled_from((True,) * 6 + (None, False)),
        enrolled=DAYS,
        last_check_in=DAYS,
    ),
    min_size=2,
    max_size=6,
)
USERS = st.lists(
    st.builds(
        facts.DirectoryUser,
        key=st.just(""),
        licensed=st.sampled_from((True,) * 6 + (None, False)),
        included=MOSTLY,
        excluded=SELDOM,
    ),
    min_size=2,
    max_size=3,
)
LINKS = st.lists(st.tuples(PARTNERSHIPS, st.sampled_from(facts.LinkKind)), max_size=1)
OVERRIDES = st.lists(st.tuples(PARTNERSHIPS, st.sampled_from((Level.ALLOW, Level.BLOCK)), MOMENTS), max_size=2)
# What is known of each entry and rule: whether it is ours, and what a person chose.
KNOWN = st.lists(st.tuples(BOOLEANS, st.sampled_from((None, None, *Choice))), min_size=12, max_size=12)
TENANTS = st.builds(
    facts.TenantPolicy,
    control_on=st.sampled_from((True,) * 8 + (False,)),
    target_everyone=BOOLEANS,
    always_allow_compliant=BOOLEANS,
    unlicensed=st.sampled_from(Unlicensed),
    unknown_compliance=st.sampled_from(Doubt),
    config_manager=st.sampled_from(Doubt),
    stale=st.sampled_from(Doubt),
    stale_days=st.sampled_from((None, None, 30)),
)
KEEPING = st.builds(
    facts.Grandfathering,
    decided=st.just(NOW - datetime.timedelta(days=10)),
    synced_since=st.just(NOW - datetime.timedelta(days=60)),
    until=st.sampled_from((NOW + datetime.timedelta(days=30), NOW)),
)


def _policies(rules: st.SearchStrategy[list[tuple[str, str, Level]]]) -> st.SearchStrategy[facts.OrganizationPolicy]:
    return st.builds(
        facts.OrganizationPolicy,
        default_level=st.none() | LEVELS,
        rules=rules.map(lambda made: tuple(facts.AccessRule(*rule) for rule in made)),
        user_mail_insert=st.sampled_from((None, "Please enrol.")),
        admin_mail_recipients=st.sampled_from((None, ("admin@org.test",))),
        denial=st.sampled_from((Level.BLOCK, Level.QUARANTINE)),
        grandfathering=st.none() | KEEPING,
    )


POLICIES, SEEN_POLICIES = _policies(RULES), _policies(SEEN_RULES)


@st.composite
def organizations(draw: st.DrawFn, *, unseen: bool = False) -> Organization:
    """unseen: with rules on a header that no listing shows, and phones that send it."""
    store = Store(name="Org", domain="org.test", version=VERSIONS["SE"], seed=1)
    store.settings.default_access_level = draw(LEVELS).label
    rules = RULES if unseen else SEEN_RULES
    store.rules = [LabRule(query, characteristic, level.label) for characteristic, query, level in draw(rules)]
    mailboxes = [_mailbox(store, number, *made) for number, made in enumerate(draw(MAILBOXES))]

    def of(number: int) -> int:
        return number % len(mailboxes)

    devices: dict[tuple[int, str, str], LabDevice] = {}
    moments: list[tuple[datetime.datetime | None, datetime.datetime | None]] = []
    for number, device_id, device_type, model, system, agent, first_seen, last_success in draw(DEVICES):
        key = (of(number), device_id.lower(), device_type)
        if key not in devices:
            guid = uuid.UUID(int=100 + len(devices))
            mailbox = mailboxes[of(number)]
            devices[key] = LabDevice(guid, mailbox, device_id, device_type, model, system, "en", agent)
            moments.append((first_seen, last_success))
            store.add_device(devices[key])
    entries = [
        Entry(number, listed, device_id)
        for number, mailbox in enumerate(mailboxes)
        for listed, ids in ((PersonalList.ALLOWED, mailbox.allowed), (PersonalList.BLOCKED, mailbox.blocked))
        for device_id in ids
    ]
    known, known_rules = draw(KNOWN), draw(KNOWN)
    return Organization(
        store,
        mailboxes,
        list(devices.values()),
        [replace(record, key=f"record-{number}") for number, record in enumerate(draw(RECORDS))],
        [
            replace(user, key=f"user-{number}", upn=mailboxes[number].upn, mail=mailboxes[number].smtp)
            for number, user in enumerate(draw(USERS))
            if number < len(mailboxes)
        ],
        [facts.Link(of(number), device_id, "record-0", kind) for (number, device_id), kind in draw(LINKS)],
        [
            facts.Override(of(number), device_id, level, "", expires)
            for (number, device_id), level, expires in draw(OVERRIDES)
        ],
        [
            facts.EntryChoice(entry.mailbox, entry.listed, entry.device_id, choice)
            for entry, (_, choice) in zip(entries, known, strict=False)
            if choice is not None
        ],
        draw(TENANTS),
        draw(POLICIES if unseen else SEEN_POLICIES),
        facts.Ledger(
            frozenset(entry for entry, (is_ours, _) in zip(entries, known, strict=False) if is_ours),
            tuple(
                facts.AccessRule(rule.characteristic, rule.query, Level.ALLOW)
                for rule, (is_ours, _) in zip(store.rules, known_rules, strict=False)
                if is_ours
            ),
        ),
        moments,
        [draw(HEADERS) if unseen else "" for _ in devices],
    )


def _mailbox(store: Store, number: int, is_enabled: bool, allowed: list[str], blocked: list[str]) -> LabMailbox:
    name = f"person{number}"
    address = f"{name}@org.test"
    mailbox = LabMailbox(
        uuid.UUID(int=number + 1), name, name, store.domain, address, address, f"S-1-5-21-1-2-3-{number}"
    )
    mailbox.active_sync_enabled, mailbox.allowed, mailbox.blocked = is_enabled, list(allowed), list(blocked)
    return store.add_mailbox(mailbox)

"""Match: which record of device management a phone is, and whose.

Refuses to take likeness for proof. A record is a phone's when a person linked the two, or when it holds the phone's
DeviceId and belongs to the mailbox's person; all else is a suggestion (suggestions.py). The rules are told in
docs/access.md. Time and memory grow in step with what is handed in.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import lru_cache

from sync.deciding.facts import (
    DirectoryUser,
    EasDevice,
    Key,
    Link,
    LinkKind,
    Mailbox,
    ManagedDevice,
    Partnership,
    id_key,
    text_key,
)
from sync.deciding.matches import DeviceBy, Match, Outcome
from sync.deciding.people import NOBODY, Directory, Owner, UserKey
from sync.deciding.record_index import Records, Token, is_unknown_id, newest_of, times, tokens_of_owner
from sync.deciding.suggestions import Suggester

# As many records as are named in a warning; one id may stand in thousands.
_NAMED = 5


def is_active_sync(device: EasDevice) -> bool:
    """Outlook mobile has one association for all of a person's installations and is governed by rules alone.

    Exchange 2010 tells no client type; there, and where an on-premises Outlook speaks ActiveSync, its own words count.
    """
    return _is_active_sync(device.client_type, device.device_type, device.model)


@lru_cache(maxsize=4096)  # an organisation's phones are of a few kinds
def _is_active_sync(client_type: str, device_type: str, model: str) -> bool:
    if client_type and text_key(client_type) != "eas":
        return False
    if text_key(device_type) in ("outlook", "outlookservice"):
        return False
    return text_key(model) != "outlook for ios and android"


def match(
    devices: Sequence[EasDevice],
    mailboxes: Iterable[Mailbox],
    records: Iterable[ManagedDevice],
    users: Iterable[DirectoryUser],
    links: Iterable[Link] = (),
) -> dict[Key, Match]:
    """A Match for each phone, by its key. Idempotent; no input needs any order.

    Suggestions look at the phones that are handed in alone: a phone that is not counts as not there.
    """
    matcher = _Matcher(mailboxes, Records(records, Directory(users)), links)
    found = {device.key: matcher.match(device) for device in devices}
    without = [device for device in devices if found[device.key].outcome in (Outcome.UNMATCHED, Outcome.OTHER_PERSONS)]
    tokens = {device.mailbox: matcher.tokens(device.mailbox) for device in without}
    suggester = Suggester(matcher.records, devices, found, tokens)
    for device in without:
        suggestions = suggester.suggestions(device, tokens[device.mailbox], matcher.unlinked(device))
        if suggestions:
            found[device.key] = replace(found[device.key], suggestions=suggestions)
    return found


class _Matcher:
    def __init__(self, mailboxes: Iterable[Mailbox], records: Records, links: Iterable[Link]) -> None:
        self.records = records
        self._mailboxes = {mailbox.key: mailbox for mailbox in mailboxes}
        self._owners: dict[Key, Owner] = {}
        self._tokens: dict[Key, dict[Token, UserKey]] = {}
        self._linked: dict[Partnership, list[ManagedDevice]] = {}
        self._unlinked: dict[Partnership, set[Key]] = {}
        for link in links:
            record = records.by_key.get(link.managed)
            if record is None:  # retired since: the link says nothing any more
                continue
            if link.kind is LinkKind.LINK:
                self._linked.setdefault(link.partnership, []).append(record)
            else:
                self._unlinked.setdefault(link.partnership, set()).add(record.key)

    def tokens(self, mailbox: Key) -> dict[Token, UserKey]:
        known = self._tokens.get(mailbox)
        if known is None:
            found = self._mailboxes.get(mailbox)
            known = self._tokens[mailbox] = tokens_of_owner(found, self._owner(mailbox)) if found else {}
        return known

    def unlinked(self, device: EasDevice) -> frozenset[Key]:
        return frozenset(self._unlinked.get(device.partnership, ()))

    def _owner(self, key: Key) -> Owner:
        known = self._owners.get(key)
        if known is None:
            mailbox = self._mailboxes.get(key)
            known = self._owners[key] = self.records.directory.owner_of(mailbox) if mailbox else NOBODY
        return known

    def match(self, device: EasDevice) -> Match:
        owner = self._owner(device.mailbox)
        if not is_active_sync(device):
            return Match(device.key, Outcome.NOT_ACTIVE_SYNC, person=owner.person)
        linked = self._linked.get(device.partnership) if self._linked else None
        if linked:
            return self._linked_match(device, owner, linked)
        if is_unknown_id(device.device_id):
            return Match(device.key, Outcome.UNMATCHED, person=owner.person)
        key = id_key(device.device_id)
        with_id = self.records.by_id.get(key)
        if with_id is None:
            return Match(device.key, Outcome.UNMATCHED, person=owner.person)
        own, user_by = self._own(key, with_id, owner, device.mailbox)
        unlinked = self._unlinked.get(device.partnership) if self._unlinked else None
        if unlinked:
            own = [record for record in own if record.key not in unlinked]
        if own:
            return _of_own(device, owner, own, user_by)
        return self._of_others(device, owner, with_id, unlinked or set())

    def _own(
        self, key: str, with_id: list[ManagedDevice], owner: Owner, mailbox: Key
    ) -> tuple[list[ManagedDevice], UserKey | None]:
        """The owner's records of this id. Most ids are in one, which names its person by key: no text is looked at."""
        if len(with_id) == 1:
            tokens = self.records.tokens[with_id[0].key]
            if len(tokens) == 1 and tokens[0][0] == "key":
                is_own = owner.person is not None and owner.person.key == tokens[0][1]
                return (with_id, owner.by or UserKey.UPN) if is_own else ([], None)
        return self.records.of(key, self.tokens(mailbox))

    def _linked_match(self, device: EasDevice, owner: Owner, linked: list[ManagedDevice]) -> Match:
        """A person's word needs neither id nor agreement; and it tells whose a mailbox without a person is."""
        best, rest = newest_of(linked)
        if best is None:
            return Match(device.key, Outcome.AMBIGUOUS, person=owner.person, others=tuple(rest[:_NAMED]))
        person = owner.person or self.records.owner_of(best)
        others = tuple(rest[:_NAMED])
        return Match(device.key, Outcome.MATCHED, best, person, DeviceBy.LINK, owner.by, others)

    def _of_others(self, device: EasDevice, owner: Owner, with_id: list[ManagedDevice], unlinked: set[Key]) -> Match:
        """The id is in records, but in none that is certainly this person's."""
        person = owner.person
        named = [record for record in with_id if self.records.tokens[record.key] and record.key not in unlinked]
        candidates = {user.key for user in owner.candidates}
        own = self.records.owner_of
        if candidates and any((user := own(record)) and user.key in candidates for record in named):
            return Match(device.key, Outcome.AMBIGUOUS, others=tuple(named[:_NAMED]))
        if not named:
            return Match(device.key, Outcome.UNMATCHED, person=person)
        newest = max(named, key=lambda record: (*times(record), str(record.key)))
        others = tuple(record for record in named[: _NAMED + 1] if record is not newest)[:_NAMED]
        return Match(device.key, Outcome.OTHER_PERSONS, newest, person, DeviceBy.EAS_ID, others=others)


def _of_own(device: EasDevice, owner: Owner, own: list[ManagedDevice], user_by: UserKey | None) -> Match:
    if len(own) == 1:
        return Match(device.key, Outcome.MATCHED, own[0], owner.person, DeviceBy.EAS_ID, user_by)
    best, rest = newest_of(own)
    others = tuple(rest[:_NAMED])
    if best is None:
        return Match(device.key, Outcome.AMBIGUOUS, person=owner.person, others=others)
    return Match(device.key, Outcome.MATCHED, best, owner.person, DeviceBy.EAS_ID, user_by, others)

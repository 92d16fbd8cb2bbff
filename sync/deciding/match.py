"""Match: which record of device management a phone is, and whose.

Refuses to take likeness for proof. A record is a phone's when a person linked the two, or when it holds the phone's
DeviceId and belongs to the mailbox's person; all else is a suggestion (suggestions.py). The rules are told in
docs/access.md. Time and memory grow in step with what is handed in.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
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
    text_key,
)
from sync.deciding.matches import DeviceBy, Match, Outcome
from sync.deciding.people import NOBODY, Directory, Owner, UserKey
from sync.deciding.record_index import Records, Token, newest_of, times, tokens_of_owner
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
    found: dict[Key, Match] = {}
    without: list[EasDevice] = []
    for device in devices:
        this = found[device.key] = matcher.match(device)
        if this.outcome is Outcome.UNMATCHED or this.outcome is Outcome.OTHER_PERSONS:
            without.append(device)
    if not without:
        return found
    tokens = {device.mailbox: matcher.tokens(device.mailbox) for device in without}
    suggester = Suggester(matcher.records, devices, found, tokens)
    for device in without:
        suggestions = suggester.suggestions(device, tokens[device.mailbox], matcher.unlinked(device))
        if suggestions:
            found[device.key] = found[device.key]._replace(suggestions=suggestions)
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
            known = {}
            if found is not None:
                known = tokens_of_owner(found, self._owner(mailbox), by_text=self.records.has_texts)
            self._tokens[mailbox] = known
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
        owner = self._owners.get(device.mailbox) or self._owner(device.mailbox)
        if not _is_active_sync(device.client_type, device.device_type, device.model):
            return Match(Outcome.NOT_ACTIVE_SYNC, None, owner.person)
        partnership = device.partnership
        linked = self._linked.get(partnership)
        if linked:
            return self._linked_match(owner, linked)
        with_id = self.records.with_id(partnership[1])
        if not with_id:
            return Match(Outcome.UNMATCHED, None, owner.person)
        own, user_by = self._own(partnership[1], with_id, owner, device.mailbox)
        unlinked = self._unlinked.get(partnership)
        if unlinked:
            own = [record for record in own if record.key not in unlinked]
        if own:
            return _of_own(owner, own, user_by)
        return self._of_others(owner, with_id, unlinked or set())

    def _own(
        self, key: str, with_id: Sequence[ManagedDevice], owner: Owner, mailbox: Key
    ) -> tuple[Sequence[ManagedDevice], UserKey | None]:
        """The owner's records of this id. Most ids are in one, which names its person by key: no text is looked at."""
        if len(with_id) == 1:
            user = with_id[0].user
            if user is not None and user in self.records.directory.by_key:
                is_own = owner.person is not None and owner.person.key == user
                return (with_id, owner.by or UserKey.UPN) if is_own else ((), None)
        return self.records.of(key, self.tokens(mailbox))

    def _linked_match(self, owner: Owner, linked: list[ManagedDevice]) -> Match:
        """A person's word needs neither id nor agreement; and it tells whose a mailbox without a person is."""
        best, rest = newest_of(linked)
        if best is None:
            return Match(Outcome.AMBIGUOUS, person=owner.person, others=tuple(rest[:_NAMED]))
        person = owner.person or self.records.owner_of(best)
        others = tuple(rest[:_NAMED])
        return Match(Outcome.MATCHED, best, person, DeviceBy.LINK, owner.by, others)

    def _of_others(self, owner: Owner, with_id: Sequence[ManagedDevice], unlinked: set[Key]) -> Match:
        """The id is in records, but in none that is certainly this person's."""
        person = owner.person
        named = [record for record in with_id if self.records.tokens(record) and record.key not in unlinked]
        candidates = {user.key for user in owner.candidates}
        own = self.records.owner_of
        if candidates and any((user := own(record)) and user.key in candidates for record in named):
            return Match(Outcome.AMBIGUOUS, others=tuple(named[:_NAMED]))
        if not named:
            return Match(Outcome.UNMATCHED, person=person)
        newest = max(named, key=lambda record: (*times(record), str(record.key)))
        others = tuple(record for record in named[: _NAMED + 1] if record is not newest)[:_NAMED]
        return Match(Outcome.OTHER_PERSONS, newest, person, DeviceBy.EAS_ID, others=others)


def _of_own(owner: Owner, own: Sequence[ManagedDevice], user_by: UserKey | None) -> Match:
    if len(own) == 1:
        return Match(Outcome.MATCHED, own[0], owner.person, DeviceBy.EAS_ID, user_by)
    best, rest = newest_of(own)
    others = tuple(rest[:_NAMED])
    if best is None:
        return Match(Outcome.AMBIGUOUS, person=owner.person, others=others)
    return Match(Outcome.MATCHED, best, owner.person, DeviceBy.EAS_ID, user_by, others)

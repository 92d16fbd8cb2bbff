"""Records of device management, made ready to be found by an id and by whose they are.

Refuses what proves nothing: an empty or all-zero id is in no index, and a record that only repeats what Exchange said
(managementAgent "eas") counts as no record.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeAlias

from sync.deciding.facts import DirectoryUser, Key, Mailbox, ManagedDevice, text_key
from sync.deciding.people import Directory, Owner, UserKey, mailbox_addresses, smtp_key, user_addresses

# Graph's managementAgent of a record that only repeats what Exchange said: nothing manages that phone.
_EXCHANGE_ONLY = "eas"
_NO_ID = re.compile(r"[0{}()\-\s]*")
# What such an id begins with; "" too.
_NOTHING = ("", "0", "{", "}", "(", ")", "-", *" \t\n\r\f\v")
# Among so many records of one id the owner's are looked for one by one.
_FEW = 8
_LONG_AGO = datetime.datetime.min.replace(tzinfo=datetime.UTC)
_NEVER = datetime.datetime.max.replace(tzinfo=datetime.UTC)

# What a record's owner is told by: a person's key, or a text where the directory knows nobody.
Token: TypeAlias = tuple[str, Key]


def is_unknown_id(device_id: str) -> bool:
    """Empty, or nothing but zeros: says nothing, and never equals another."""
    if device_id[:1] not in _NOTHING:  # by far the most
        return False
    return _NO_ID.fullmatch(device_id) is not None


class Records:
    """Records by what they are looked up by. Whose each is, is made out when it is asked for: most never are.

    managed: those that count. has_texts: some of them may have to be told by a text, since the directory does not know
    the person they name.
    """

    def __init__(self, records: Iterable[ManagedDevice], directory: Directory) -> None:
        self.directory = directory
        self.by_key: dict[Key, ManagedDevice] = {}
        self.managed: list[ManagedDevice] = []
        self.has_texts = False
        self._only: dict[str, ManagedDevice] = {}  # of each id, the first
        self._several: dict[str, list[ManagedDevice]] = {}
        self._tokens: dict[Key, tuple[Token, ...]] = {}
        self._by_owner: dict[str, dict[Token, list[ManagedDevice]]] = {}
        people = directory.by_key
        for record in records:
            self.by_key[record.key] = record
            if record.agent and text_key(record.agent) == _EXCHANGE_ONLY:
                continue
            self.managed.append(record)
            if record.user not in people:
                self.has_texts = True
            if not is_unknown_id(record.eas_device_id):
                known = self._only.setdefault(record.eas_key, record)
                if known is not record:
                    self._several.setdefault(record.eas_key, [known]).append(record)

    def with_id(self, device_id: str) -> Sequence[ManagedDevice]:
        """Those that hold it (an id_key); never one of an id that says nothing."""
        only = self._only.get(device_id)
        if only is None:
            return ()
        return self._several.get(device_id) or (only,)

    def tokens(self, record: ManagedDevice) -> tuple[Token, ...]:
        """What its owner is told by."""
        if record.user is not None and record.user in self.directory.by_key:  # by far the most
            return (("key", record.user),)
        known = self._tokens.get(record.key)
        if known is None:
            known = self._tokens[record.key] = tuple(self._tokens_of(record))
        return known

    def _tokens_of(self, record: ManagedDevice) -> Iterator[Token]:
        """A record whose person is not in the directory may still be told by text: by that of a mailbox without person
        ("lost"), or, where the record names no key at all, by anybody's ("text"). A text that several people share
        names none of them: it can only be a mailbox's own ("shared"), of which there is one."""
        owner = self.owner_of(record)
        if owner is not None:
            yield ("key", owner.key)
            return
        if record.user is not None:
            yield ("key", record.user)
        kind = "lost"
        if record.user is None:
            kind = "shared" if self.directory.all_named(record.upn, record.email) else "text"
        for text in sorted({text_key(record.upn), smtp_key(record.upn), smtp_key(record.email)} - {""}):
            yield (kind, text)

    def owner_of(self, record: ManagedDevice) -> DirectoryUser | None:
        if record.user is not None:
            return self.directory.by_key.get(record.user)
        return self.directory.named(record.upn, record.email)

    def of(self, device_id: str, owner_tokens: dict[Token, UserKey]) -> tuple[list[ManagedDevice], UserKey | None]:
        """Records that hold this id and are the owner's, with the safest key by which they are."""
        with_id = self.with_id(device_id)
        found: dict[Key, ManagedDevice] = {}
        by: UserKey | None = None
        if len(with_id) > _FEW:
            of_owner = self._by_owner.get(device_id) or self._index(device_id)
            for token, user_key in owner_tokens.items():
                for record in of_owner.get(token, ()):
                    found.setdefault(record.key, record)
                    by = by or user_key
            return list(found.values()), by
        for token, user_key in owner_tokens.items():
            for record in with_id:
                if token in self.tokens(record):
                    found.setdefault(record.key, record)
                    by = by or user_key
        return list(found.values()), by

    def _index(self, device_id: str) -> dict[Token, list[ManagedDevice]]:
        """One id may stand in the records of thousands: by owner, so that each of them finds its own at once."""
        found = self._by_owner[device_id] = {}
        for record in self.with_id(device_id):
            for token in self.tokens(record):
                found.setdefault(token, []).append(record)
        return found


def tokens_of_owner(mailbox: Mailbox, owner: Owner, *, by_text: bool = True) -> dict[Token, UserKey]:
    """The tokens under which this mailbox's person finds records, safest first. by_text: also those that are texts."""
    tokens: dict[Token, UserKey] = {}
    if owner.candidates:  # several people: nobody is told apart by a text
        return tokens
    if owner.person is not None:
        tokens[("key", owner.person.key)] = owner.by or UserKey.UPN
    if not by_text:
        return tokens
    own = ("text", "shared", "lost") if owner.person is None else ("text", "shared")
    smtp: Iterable[str] = ()
    upns: Iterable[str] = ()
    if owner.person is not None:
        smtp = user_addresses(owner.person)
        upns = (text_key(owner.person.on_premises_upn), text_key(owner.person.upn))
    for texts, kinds, user_key in (
        (mailbox_addresses(mailbox), own, UserKey.SMTP),
        (smtp, ("text",), UserKey.SMTP),
        ((text_key(mailbox.upn),), own, UserKey.UPN),
        (upns, ("text",), UserKey.UPN),
    ):
        for text in filter(None, texts):
            for kind in kinds:
                tokens.setdefault((kind, text), user_key)
    return tokens


def times(record: ManagedDevice) -> tuple[datetime.datetime, datetime.datetime]:
    return (record.enrolled or _LONG_AGO, record.last_check_in or _LONG_AGO)


def newest_of(records: Sequence[ManagedDevice]) -> tuple[ManagedDevice | None, list[ManagedDevice]]:
    """The one that counts of several records of one phone, and the rest of them.

    Newer is what was enrolled later and has not checked in earlier. Where these two contradict, or nothing tells which
    is newer, and compliance differs, none counts: a compliant stale record must not speak for a phone that is not.
    Where only the rest differs, the stricter counts.
    """
    if len(records) == 1:
        return records[0], []
    in_order = sorted(records, key=lambda record: (*times(record), str(record.key)), reverse=True)
    best = in_order[0]
    last_check_in = times(best)[1]
    rivals = [best]
    for record in in_order[1:]:
        enrolled, checked_in = times(record)
        is_older = checked_in < last_check_in or (checked_in == last_check_in and enrolled < times(best)[0])
        if is_older:
            continue
        if text_key(record.compliance) != text_key(best.compliance):
            return None, in_order
        rivals.append(record)
    counts = min(rivals, key=_strictness)  # the newest of equals
    return counts, [record for record in in_order if record is not counts]


def _strictness(record: ManagedDevice) -> tuple[bool, datetime.datetime]:
    """What keeps out, sorted first."""
    return (record.registered is not False, record.grace_until or _NEVER)

"""Which record an unmatched phone might be: hints for a person who then links the two, never a match.

What a phone says of itself (model, system, IMEI) is its own word. Only records of the mailbox's person are suggested,
and such as hold the phone's id and name nobody.
"""

from __future__ import annotations

import datetime
from bisect import bisect_left
from collections.abc import Mapping, Sequence

from sync.deciding.facts import EasDevice, Key, ManagedDevice, id_key, text_key
from sync.deciding.matches import Confidence, Likeness, Match, Outcome, Suggestion
from sync.deciding.people import UserKey
from sync.deciding.record_index import Records, Token

_APPLE = "appl"
# 15 digits, of which the last is a check digit that some write and some do not.
_IMEI_DIGITS = 14
# So many of one kind are shown: one person may be the named owner of thousands of records.
_SHOWN = 3
_CONFIDENCE = {
    Likeness.APPLE_SERIAL: Confidence.HIGH,
    Likeness.IMEI: Confidence.HIGH,
    Likeness.RESET: Confidence.MEDIUM,
    Likeness.ID_OF_NOBODY: Confidence.MEDIUM,
    Likeness.ONLY_RECORD: Confidence.LOW,
}


def _imei_key(imei: str) -> str:
    digits = "".join(character for character in imei if character.isascii() and character.isdigit())[:_IMEI_DIGITS]
    return digits if len(digits) == _IMEI_DIGITS and digits.strip("0") else ""


def _platform(*texts: str) -> str:
    text = " ".join(texts).lower()
    for platform, words in (
        ("windows", ("windows",)),
        ("android", ("android", "samsung")),
        ("apple", ("iphone", "ipad", "ipod", "ios", "macos")),
    ):
        if any(word in text for word in words):
            return platform
    return ""


class Suggester:
    """Looks at all phones and records once, then answers for each phone in about constant time.

    tokens: by mailbox, of those that have a phone without a record. Other people's records need no preparing.
    """

    def __init__(
        self,
        records: Records,
        devices: Sequence[EasDevice],
        matches: Mapping[Key, Match],
        tokens: Mapping[Key, Mapping[Token, UserKey]],
    ) -> None:
        self._records = records
        wanted = {token for of_mailbox in tokens.values() for token in of_mailbox}
        used = {this.record.key for this in matches.values() if this.outcome is Outcome.MATCHED and this.record}
        self._hints: dict[tuple[Token, str], list[ManagedDevice]] = {}
        self._unused: dict[Token, list[ManagedDevice]] = {}
        people = {key for kind, key in wanted if kind == "key"}
        for record in records.managed:
            # Told by its key alone, as most are, it is nobody's who is asked about.
            if record.user not in people and (not records.has_texts or record.user in records.directory.by_key):
                continue
            of_record = records.tokens(record)
            if wanted.isdisjoint(of_record):
                continue
            for token in of_record:
                for hint in _hints_of(record):
                    self._hints.setdefault((token, hint), []).append(record)
                if record.key not in used:
                    self._unused.setdefault(token, []).append(record)
        self._silent: dict[tuple[Key, str, str], list[tuple[datetime.datetime, str, Key]]] = {}
        for device in devices:
            if device.mailbox in tokens:
                self._note_matched(device, matches[device.key])
        for known in self._silent.values():
            known.sort(key=lambda entry: entry[:2])

    def _note_matched(self, device: EasDevice, this: Match) -> None:
        if this.outcome is Outcome.MATCHED and this.record and device.last_seen and device.model:
            entry = (device.last_seen, device.device_id, this.record.key)
            self._silent.setdefault(_likeness_key(device), []).append(entry)

    def suggestions(
        self, device: EasDevice, tokens: Mapping[Token, UserKey], unlinked: frozenset[Key]
    ) -> tuple[Suggestion, ...]:
        """Surest first, each record once. unlinked: records that a person said this phone is not."""
        found: dict[Key, Suggestion] = {}

        def suggest(record: Key, likeness: Likeness, instead_of: str = "") -> None:
            if record not in unlinked:
                found.setdefault(record, Suggestion(record, _CONFIDENCE[likeness], likeness, instead_of))

        for record in self._hinted(tokens, f"serial {device.partnership[1]}"):
            suggest(record.key, Likeness.APPLE_SERIAL)
        if imei := _imei_key(device.imei):
            for record in self._hinted(tokens, f"imei {imei}"):
                suggest(record.key, Likeness.IMEI)
        for instead_of, key in self._reset_of(device):
            suggest(key, Likeness.RESET, instead_of)
        for record in self._of_nobody(device):
            suggest(record.key, Likeness.ID_OF_NOBODY)
        only = self._only_record(device, tokens)
        if only is not None:
            suggest(only.key, Likeness.ONLY_RECORD)
        return tuple(found.values())

    def _hinted(self, tokens: Mapping[Token, UserKey], hint: str) -> list[ManagedDevice]:
        return [record for token in tokens for record in self._hints.get((token, hint), ())[:_SHOWN]]

    def _reset_of(self, device: EasDevice) -> list[tuple[str, Key]]:
        """Phones of this mailbox, like this one, that were last heard of before this one was first seen."""
        known = self._silent.get(_likeness_key(device))
        if not known or device.first_seen is None:
            return []
        before = bisect_left(known, (device.first_seen,), key=lambda entry: (entry[0],))
        return [(device_id, record) for _, device_id, record in reversed(known[max(0, before - _SHOWN) : before])]

    def _of_nobody(self, device: EasDevice) -> list[ManagedDevice]:
        with_id = self._records.with_id(device.partnership[1])
        return [record for record in with_id[: _SHOWN * 2] if not self._records.tokens(record)][:_SHOWN]

    def _only_record(self, device: EasDevice, tokens: Mapping[Token, UserKey]) -> ManagedDevice | None:
        unused = [record for token in tokens for record in self._unused.get(token, ())[:2]]
        if len({record.key for record in unused}) != 1:
            return None
        record = unused[0]
        theirs = _platform(record.os, record.manufacturer, record.model)
        ours = _platform(device.device_type, device.os, device.model)
        return record if theirs and theirs == ours else None


def _hints_of(record: ManagedDevice) -> list[str]:
    hints = []
    if record.serial.strip().strip("0"):
        hints.append(f"serial {_APPLE}{id_key(record.serial)}")
    if imei := _imei_key(record.imei):
        hints.append(f"imei {imei}")
    return hints


def _likeness_key(device: EasDevice) -> tuple[Key, str, str]:
    return (device.mailbox, text_key(device.model), text_key(device.os))

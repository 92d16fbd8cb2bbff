"""What stands on the mailboxes' personal lists, and whose each entry is.

Refuses to guess: ours is what the ledger has, by mailbox, list and id. All else is somebody else's, also where it is
just what we would have written.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import NamedTuple

from sync.deciding.facts import Choice, EntryChoice, Key, Ledger, Mailbox, Partnership, PersonalList, id_key


class Whose(StrEnum):
    """FOREIGN: nobody has chosen yet. ADOPTED, OVERRIDDEN: foreign, with a person's choice."""

    OURS = "ours"
    FOREIGN = "foreign"
    ADOPTED = "adopted"
    OVERRIDDEN = "overridden"


class Named(NamedTuple):
    """Where an id stands; None: not on that list. written_*: as on the list, more than one where only case differs."""

    allowed: Whose | None = None
    blocked: Whose | None = None
    written_allowed: tuple[str, ...] = ()
    written_blocked: tuple[str, ...] = ()


NOWHERE = Named()


def entries_of(
    mailboxes: Iterable[Mailbox], ledger: Ledger, choices: Iterable[EntryChoice] = ()
) -> dict[Partnership, Named]:
    """All ids that stand on a list, by partnership. A choice about an entry that is ours says nothing."""
    ours = {(entry.mailbox, entry.listed, id_key(entry.device_id)) for entry in ledger.entries}
    chosen: dict[tuple[Key, PersonalList, str], Choice] = {}
    for choice in choices:
        about = (choice.mailbox, choice.listed, id_key(choice.device_id))
        if chosen.get(about) is not Choice.ADOPT:  # of two choices the one that touches nothing
            chosen[about] = choice.choice

    def whose(mailbox: Key, listed: PersonalList, key: str) -> Whose:
        if (mailbox, listed, key) in ours:
            return Whose.OURS
        choice = chosen.get((mailbox, listed, key))
        if choice is None:
            return Whose.FOREIGN
        return Whose.ADOPTED if choice is Choice.ADOPT else Whose.OVERRIDDEN

    found: dict[Partnership, Named] = {}
    for mailbox in mailboxes:
        if not mailbox.allowed and not mailbox.blocked:
            continue
        allowed, blocked = _written(mailbox.allowed), _written(mailbox.blocked)
        for key in allowed.keys() | blocked.keys():
            found[(mailbox.key, key)] = Named(
                whose(mailbox.key, PersonalList.ALLOWED, key) if key in allowed else None,
                whose(mailbox.key, PersonalList.BLOCKED, key) if key in blocked else None,
                allowed.get(key, ()),
                blocked.get(key, ()),
            )
    return found


def _written(device_ids: Iterable[str]) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for device_id in device_ids:
        key = id_key(device_id)
        found[key] = (*found.get(key, ()), device_id)
    return found

"""Whose mailbox it is: a mailbox and the person of the directory it belongs to, by the safest key that both have.

Refuses to guess: keys that name two people name none, and a person whose SID is another account's of the mailbox's own
domain is another person, whatever address they share (addresses are given to the next who comes, SIDs never).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from enum import StrEnum
from typing import NamedTuple

from sync.deciding.facts import DirectoryUser, Key, Mailbox, text_key


class UserKey(StrEnum):
    """What a mailbox and a person agree in, safest first."""

    SID = "sid"
    IMMUTABLE_ID = "immutableId"
    DOMAIN_SAM = "domainSam"
    SMTP = "smtp"
    UPN = "upn"


class Owner(NamedTuple):
    """person: None when nobody, or more than one, was found. candidates: those whom no key could tell apart."""

    person: DirectoryUser | None = None
    by: UserKey | None = None
    candidates: tuple[DirectoryUser, ...] = ()


NOBODY = Owner()


def smtp_key(address: str) -> str:
    """An e-mail address for comparing, without "SMTP:"; "" for an address of another kind (X500, SIP, ...)."""
    if ":" not in address:
        return text_key(address)
    prefix, _, rest = address.partition(":")
    return text_key(rest) if text_key(prefix) == "smtp" else ""


def mailbox_addresses(mailbox: Mailbox) -> Iterator[str]:
    for address in (mailbox.primary_smtp, *mailbox.proxies):
        if key := smtp_key(address):
            yield key


def user_addresses(user: DirectoryUser) -> Iterator[str]:
    for address in (user.mail, *user.proxies):
        if key := smtp_key(address):
            yield key


def keys_of_mailbox(mailbox: Mailbox) -> Iterator[tuple[UserKey, tuple[str, ...]]]:
    yield UserKey.SID, tuple(text_key(sid) for sid in (mailbox.sid, mailbox.master_sid) if sid)
    # Base64: its case counts.
    yield UserKey.IMMUTABLE_ID, (mailbox.immutable_id.strip(),) if mailbox.immutable_id else ()
    yield UserKey.DOMAIN_SAM, _domain_sam(mailbox.domain, mailbox.sam)
    yield UserKey.SMTP, tuple(mailbox_addresses(mailbox))
    yield UserKey.UPN, (text_key(mailbox.upn),) if mailbox.upn else ()


def keys_of_user(user: DirectoryUser) -> Iterator[tuple[UserKey, tuple[str, ...]]]:
    """Each kind of key with the texts by which this person can be found, as they are compared."""
    yield UserKey.SID, (text_key(user.sid),) if user.sid else ()
    yield UserKey.IMMUTABLE_ID, (user.immutable_id.strip(),) if user.immutable_id else ()
    yield UserKey.DOMAIN_SAM, _domain_sam(user.domain, user.sam)
    yield UserKey.SMTP, tuple(user_addresses(user))
    yield UserKey.UPN, tuple(text_key(upn) for upn in (user.on_premises_upn, user.upn) if upn)


def _domain_sam(domain: str, sam: str) -> tuple[str, ...]:
    """Both or nothing: an account's name is unique in its own domain alone."""
    return (f"{text_key(domain)}\\{text_key(sam)}",) if domain and sam else ()


def _is_another_account(mailbox: Mailbox, user: DirectoryUser) -> bool:
    """Both SIDs known, of one domain, and not equal. Of two domains they may well be one person (linked mailboxes)."""
    if not user.sid:
        return False
    theirs = text_key(user.sid)
    known = [text_key(sid) for sid in (mailbox.sid, mailbox.master_sid) if sid]
    domain = theirs.rpartition("-")[0]
    return theirs not in known and any(sid.rpartition("-")[0] == domain for sid in known)


class Directory:
    """People, made ready for many questions. Most mailboxes find theirs by SID; the other keys are looked at when one
    does not."""

    __slots__ = ("_by_sid", "_found", "by_key")

    def __init__(self, users: Iterable[DirectoryUser]) -> None:
        self.by_key: dict[Key, DirectoryUser] = {user.key: user for user in users}
        # None: several people have it.
        self._by_sid: dict[str, DirectoryUser | None] = {}
        self._found: tuple[dict[str, list[DirectoryUser]], ...] = ()
        for user in self.by_key.values():
            if user.sid:
                sid = text_key(user.sid)
                self._by_sid[sid] = None if sid in self._by_sid else user

    def _by_kind(self) -> tuple[dict[str, list[DirectoryUser]], ...]:
        """By kind of key in their order, then by text."""
        if not self._found:
            self._found = tuple({} for _ in UserKey)
            for user in self.by_key.values():
                for of_kind, (_, texts) in zip(self._found, keys_of_user(user), strict=True):
                    for text in texts:
                        known = of_kind.setdefault(text, [])
                        if not known or known[-1] is not user:
                            known.append(user)
        return self._found

    def owner_of(self, mailbox: Mailbox) -> Owner:
        """The first key that finds somebody decides; later keys only tell apart those whom it left."""
        if mailbox.sid and not mailbox.master_sid:
            sure = self._by_sid.get(text_key(mailbox.sid))
            if sure is not None:
                return Owner(sure, UserKey.SID)
        left: dict[Key, DirectoryUser] = {}
        by: UserKey | None = None
        for of_kind, (kind, texts) in zip(self._by_kind(), keys_of_mailbox(mailbox), strict=True):
            found = {
                user.key: user
                for text in texts
                for user in of_kind.get(text, ())
                if not _is_another_account(mailbox, user)
            }
            if not found:
                continue
            if by is None:
                left, by = found, kind
            else:
                left = {key: user for key, user in left.items() if key in found} or left
            if len(left) == 1:
                return Owner(next(iter(left.values())), by)
        return Owner(candidates=tuple(left.values()))

    def named(self, upn: str, email: str) -> DirectoryUser | None:
        """The one person whom a record's texts name; None when nobody or several are."""
        found = self.all_named(upn, email)
        return found[0] if len(found) == 1 else None

    def all_named(self, upn: str, email: str) -> Sequence[DirectoryUser]:
        """Those whom the first of a record's texts names that names anybody."""
        *_, by_address, by_upn = self._by_kind()
        for of_kind, text in ((by_upn, text_key(upn)), (by_address, smtp_key(email)), (by_address, smtp_key(upn))):
            found = of_kind.get(text) if text else None
            if found:
                return found
        return ()

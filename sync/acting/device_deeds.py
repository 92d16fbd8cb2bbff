"""What people have done to a device itself: wipe, wipe of the account alone, taking a wipe back, removal.

As deeds.py; and more careful, since a phone that is wiped stays wiped. That Exchange answered is believed; when it did
not, the mailbox's own statistics tell whether the order is there, by times and never by labels, which no vendor's list
confirms.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, ClassVar

from connectors.exchange import cmdlets, powershell
from connectors.exchange.client import ExchangeClient
from connectors.exchange.cmdlets import Family, Identity
from connectors.exchange.errors import NotFoundError
from connectors.exchange.records import DeviceStatisticsRecord
from sync.acting import deeds, policy_deeds
from sync.acting.controllers import Controllers, place_of_mailbox, read_back, write_and_read
from sync.acting.deeds import Deed, MailboxEntries, Reading, keys, mailbox_read, utc_now
from sync.deciding.facts import id_key


def family_of(version: str) -> Family:
    """What the device cmdlets are called in an Exchange of that version (ExchangeOrganization.version)."""
    return Family.ACTIVE_SYNC if version == "2010" else Family.MOBILE


@dataclass(frozen=True, slots=True)
class _OfDevice:
    """identity: the partnership's, as Exchange wrote it. mailbox: its GUID. before: when a wipe was ordered last, as
    read just before this one was sent (ISO 8601); "" for never."""

    identity: str
    mailbox: str
    device_id: str
    family: str
    notify: tuple[str, ...] = ()
    before: str = ""

    def payload(self) -> dict[str, Any]:
        return asdict(self)

    def read(self, client: ExchangeClient) -> Reading:
        return statistics_read(client, Identity(self.mailbox))

    def found(self, reading: Reading) -> DeviceStatisticsRecord | None:
        """This device among those of its mailbox."""
        for one in reading.statistics or ():
            if one.identity == self.identity or id_key(one.device_id) == id_key(self.device_id):
                return one
        return None


def statistics_read(client: ExchangeClient, mailbox: Identity) -> Reading:
    """Of every device of a mailbox. Raises ExchangeError, CanceledError."""
    asked_at = utc_now()
    try:
        return Reading(asked_at, statistics=client.device_statistics(mailbox))
    except NotFoundError:
        return Reading(asked_at, is_gone=True)


@dataclass(frozen=True, slots=True)
class Wipe(_OfDevice):
    """Everything on the device, where its mail program does as it is told: often the whole phone."""

    kind: ClassVar[str] = "wipe"
    is_answer_enough: ClassVar[bool] = True
    account_only: ClassVar[bool] = False

    def text(self) -> str:
        return powershell.text(
            cmdlets.clear_mobile_device(
                Family(self.family), Identity(self.identity), account_only=self.account_only, notify=self.notify
            )
        )

    def ordered(self, reading: Reading) -> tuple[datetime.datetime | None, datetime.datetime | None]:
        """When a wipe of this kind was ordered last, and when the phone confirmed it."""
        found = self.found(reading)
        if found is None:
            return None, None
        if self.account_only:
            return found.account_only_wipe_requested_at, found.account_only_wipe_acknowledged_at
        return found.wipe_requested_at, found.wipe_acknowledged_at

    def after(self, reading: Reading) -> Wipe:
        """The same, knowing what was ordered before."""
        ordered_at, _ = self.ordered(reading)
        return replace(self, before=ordered_at.isoformat() if ordered_at else "")

    def send(self, client: ExchangeClient, controllers: Controllers) -> Reading | None:
        client.device_wipe(Identity(self.identity), account_only=self.account_only, notify=self.notify)
        return read_back(lambda: self.read(client))

    def is_done(self, reading: Reading) -> bool:
        """There is an order that was not there before, or one that is still to be carried out."""
        ordered_at, confirmed_at = self.ordered(reading)
        if ordered_at is None:
            return False
        return ordered_at.isoformat() != self.before or confirmed_at is None or confirmed_at < ordered_at


@dataclass(frozen=True, slots=True)
class WipeAccount(Wipe):
    """The account's data alone, from Exchange 2016 on."""

    kind: ClassVar[str] = "wipeAccount"
    account_only: ClassVar[bool] = True


@dataclass(frozen=True, slots=True)
class WipeCancel(_OfDevice):
    """Takes back an order that the phone has not carried out yet."""

    kind: ClassVar[str] = "wipeCancel"
    is_answer_enough: ClassVar[bool] = True

    def text(self) -> str:
        return powershell.text(cmdlets.clear_mobile_device(Family(self.family), Identity(self.identity), cancel=True))

    def send(self, client: ExchangeClient, controllers: Controllers) -> Reading | None:
        client.device_wipe_cancel(Identity(self.identity))
        return read_back(lambda: self.read(client))

    def is_done(self, reading: Reading) -> bool:
        found = self.found(reading)
        if found is None:
            return False
        return found.wipe_requested_at is None and found.account_only_wipe_requested_at is None


@dataclass(frozen=True, slots=True)
class RemoveDevice:
    """The partnership, and its id off the mailbox's lists first: what stays there would let the phone in again.

    allowed, blocked: the entries to clear, as written.
    """

    kind: ClassVar[str] = "removeDevice"
    is_answer_enough: ClassVar[bool] = False

    identity: str
    mailbox: str
    device_id: str
    family: str
    domain: str = ""
    allowed: tuple[str, ...] = ()
    blocked: tuple[str, ...] = ()

    def _entries(self) -> MailboxEntries | None:
        if not self.allowed and not self.blocked:
            return None
        return MailboxEntries(self.mailbox, self.domain, allow_remove=self.allowed, block_remove=self.blocked)

    def text(self) -> str:
        entries = self._entries()
        removal = powershell.text(cmdlets.remove_mobile_device(Family(self.family), Identity(self.identity)))
        return f"{entries.text()}\n{removal}" if entries else removal

    def payload(self) -> dict[str, Any]:
        return asdict(self)

    def send(self, client: ExchangeClient, controllers: Controllers) -> Reading | None:
        entries = self._entries()
        if entries is not None:
            entries.send(client, controllers)
        return write_and_read(
            client,
            controllers,
            place_of_mailbox(Identity(self.mailbox), self.domain),  # the partnership lies below the person
            write=lambda controller: client.device_remove(Identity(self.identity), domain_controller=controller),
            read=lambda controller: self.read(client, controller),
            unless=(NotFoundError,),
        )

    def read(self, client: ExchangeClient, controller: str = "") -> Reading:
        found = mailbox_read(client, Identity(self.mailbox), controller)
        try:
            client.device(Identity(self.identity), domain_controller=controller)
        except NotFoundError:
            return replace(found, is_device_gone=True)
        return found

    def is_done(self, reading: Reading) -> bool:
        if not reading.is_device_gone:
            return False
        found = reading.mailbox
        if found is None:
            return reading.is_gone
        return not (
            keys(self.allowed) & keys(found.allowed_device_ids) or keys(self.blocked) & keys(found.blocked_device_ids)
        )


DeviceDeed = Wipe | WipeAccount | WipeCancel | RemoveDevice


def _made(cls: Callable[..., Deed], *lists: str) -> Callable[[Mapping[str, Any]], Deed]:
    fields = cls.__dataclass_fields__  # type: ignore[attr-defined]

    def make(payload: Mapping[str, Any]) -> Deed:
        return cls(
            **{
                name: tuple(payload[name]) if name in lists else str(payload[name])
                for name in fields
                if name in payload
            }
        )

    return make


KINDS: Mapping[str, Callable[[Mapping[str, Any]], Deed]] = {
    **{cls.kind: _made(cls, "notify") for cls in (Wipe, WipeAccount, WipeCancel)},
    RemoveDevice.kind: _made(RemoveDevice, "allowed", "blocked"),
}


def deed_of(kind: str, payload: Mapping[str, Any]) -> Deed:
    """The deed of a journal's row, of this module, policy_deeds.py or deeds.py. Raises KeyError for a kind that is
    carried out elsewhere, and for a broken payload."""
    return (KINDS.get(kind) or policy_deeds.KINDS.get(kind) or deeds.KINDS[kind])(payload)

"""What people have done to a device that cannot be undone: wipe, wipe of the account alone, removal; and calling a wipe
back. Whether somebody really meant it (the typed confirmation) is the page's to ask.

Each is one row with a key of its own, made when the form was shown: asked for twice, it is one. It is sent once by a
worker that stands near its Exchange, and never again blindly: when no answer comes, the mailbox's statistics tell. What
no worker took within SEND_WITHIN is not sent at all: a phone must not be wiped hours after somebody gave up waiting.
"""

from __future__ import annotations

import datetime
import logging
from collections.abc import Callable, Collection
from contextlib import AbstractContextManager
from typing import Any

from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from django.db import transaction
from django.db.models.functions import Now
from django.utils.translation import gettext as _

from connectors import gateway
from connectors.actors import Actor
from connectors.exchange.client import ExchangeClient
from connectors.exchange.errors import ExchangeError
from connectors.models import Connector
from connectors.parallel import Sessions, parallel
from sync.acting import journal, policy_deeds
from sync.acting.checks import check_request
from sync.acting.controllers import Controllers
from sync.acting.deeds import Reading
from sync.acting.device_deeds import DeviceDeed, RemoveDevice, Wipe, WipeAccount, WipeCancel, deed_of, family_of
from sync.acting.journal import By, Intent
from sync.acting.outcomes import OUTCOME_UNKNOWN, Ending, ending_of, ending_of_outcome, outcome_record
from sync.acting.settle import readings
from sync.deciding.facts import id_key
from sync.dispatch import command_dispatch
from sync.lease import beating, lease_end
from sync.models import Command, LedgerEntry, Mailbox, MobileDevice
from sync.observing.statistics import statistics_request

logger = logging.getLogger(__name__)

OpenSessions = Callable[..., AbstractContextManager[Sessions]]
State = Command.State

SEND_WITHIN = datetime.timedelta(minutes=15)
# Whoever asked told the queue itself, right after it committed.
AGAIN = datetime.timedelta(seconds=10)
# Seconds that a person's command waits at most while Exchange asks to slow down.
THROTTLE_BUDGET = 120.0
KINDS = (Wipe.kind, WipeAccount.kind, WipeCancel.kind, RemoveDevice.kind)
# All that a person orders and a worker sends by itself; those about mailbox policies are made elsewhere.
SENT_ALONE = (*KINDS, *policy_deeds.KINDS)
# The first versions that cannot wipe the account alone.
_WITHOUT_ACCOUNT_WIPE = ("2010", "2013")


def device_wipe(*, device: MobileDevice, key: str, actor: Actor, notify: tuple[str, ...] = ()) -> Command:
    """Order a wipe, carried out at the phone's next request. notify: addresses that Exchange tells when it is done.

    Raises ValidationError, as do the others: codes device_gone, no_mailbox, no_connector, observe_only, command_open,
    key_used, invalid.
    """
    mailbox, connector = _reached(device)
    _addresses_check(notify)
    deed = Wipe(device.identity, str(mailbox.guid), device.device_id, _family(connector), notify)
    return _request(device, mailbox, connector, deed, key, actor)


def device_wipe_account(*, device: MobileDevice, key: str, actor: Actor, notify: tuple[str, ...] = ()) -> Command:
    """The account's data alone. Also raises account_wipe_unsupported: Exchange 2016 and later can."""
    mailbox, connector = _reached(device)
    _addresses_check(notify)
    if connector.organization.version in _WITHOUT_ACCOUNT_WIPE:
        raise ValidationError(
            _("This version of Exchange cannot wipe the account alone."), code="account_wipe_unsupported"
        )
    deed = WipeAccount(device.identity, str(mailbox.guid), device.device_id, _family(connector), notify)
    return _request(device, mailbox, connector, deed, key, actor)


def device_wipe_cancel(*, device: MobileDevice, key: str, actor: Actor) -> Command:
    """Take back an order that the phone has not carried out."""
    mailbox, connector = _reached(device)
    deed = WipeCancel(device.identity, str(mailbox.guid), device.device_id, _family(connector))
    return _request(device, mailbox, connector, deed, key, actor)


def device_remove(*, device: MobileDevice, key: str, actor: Actor, clear_foreign: bool = True) -> Command:
    """Delete the partnership; its id goes off both lists of the mailbox first, and an override of it ends.

    clear_foreign False: entries that others made stay, and may let the phone in again when it comes back.
    """
    mailbox, connector = _reached(device)
    wanted = id_key(device.device_id)
    ours = set(LedgerEntry.objects.filter(mailbox=mailbox, device_id_key=wanted).values_list("listed", flat=True))

    def entries(listed: str, written: Collection[str]) -> tuple[str, ...]:
        is_cleared = clear_foreign or listed in ours
        return tuple(one for one in written if id_key(one) == wanted) if is_cleared else ()

    deed = RemoveDevice(
        device.identity,
        str(mailbox.guid),
        device.device_id,
        _family(connector),
        mailbox.domain,
        entries("allowed", mailbox.allowed),
        entries("blocked", mailbox.blocked),
    )
    return _request(device, mailbox, connector, deed, key, actor)


def _reached(device: MobileDevice) -> tuple[Mailbox, Connector]:
    """The phone's mailbox and the way to it. Raises ValidationError."""
    if device.gone_at is not None:
        raise ValidationError(_("Exchange does not have this device any more."), code="device_gone")
    if device.owner is None or device.owner.gone_at is not None:
        raise ValidationError(
            _("The mailbox of this device is not known yet. A full sync reads it."), code="no_mailbox"
        )
    connector = Connector.objects.select_related("organization").filter(organization=device.organization_id).first()
    if connector is None:
        raise ValidationError(_("This organization has no connector."), code="no_connector")
    if connector.is_observe_only:
        raise ValidationError(
            _("This connector only observes: it sends no command that changes Exchange."), code="observe_only"
        )
    return device.owner, connector


def _family(connector: Connector) -> str:
    return family_of(connector.organization.version).value


def _addresses_check(addresses: Collection[str]) -> None:
    for address in addresses:
        validate_email(address)


@transaction.atomic
def _request(
    device: MobileDevice, mailbox: Mailbox, connector: Connector, deed: DeviceDeed, key: str, actor: Actor
) -> Command:
    journal.key_check(key)
    known = _known(key, device, deed)
    if known is not None:
        return known
    if Command.objects.filter(device=device, state__in=Command.OPEN).exists():
        raise _busy()
    # A removal changes the mailbox's lists too, so it locks the mailbox as every change of them does.
    is_removal = isinstance(deed, RemoveDevice)
    subject = journal.mailbox_subject(mailbox.pk) if is_removal else f"device:{device.pk}"
    intent = Intent(subject, deed, mailbox.pk, (device.pk,), device=device.pk, key=key)
    by = By(device.organization_id, "", actor, deed.kind)
    rows = journal.intents_write([intent], by)
    if not rows:
        known = _known(key, device, deed)  # the same form, sent twice at once
        if known is None:
            raise _busy()
        return known
    Command.objects.filter(pk__in=rows).update(lease_expires_at=Now() + SEND_WITHIN)
    command = Command.objects.get(pk__in=rows)
    command_dispatch(command, connector)
    return command


def _known(key: str, device: MobileDevice, deed: DeviceDeed) -> Command | None:
    command = Command.objects.filter(key=key).first()
    if command is not None and (command.device_id, command.kind) != (device.pk, deed.kind):
        raise journal.key_used()
    return command


def _busy() -> ValidationError:
    return ValidationError(
        _("Another command about this device is under way. Try again in a moment."), code="command_open"
    )


# --- sending ----------------------------------------------------------------------------------------------------------


def command_send(command_id: int, *, open_sessions: OpenSessions = gateway.open_sessions) -> str:
    """Send a person's command, once. Returns the state it came to; "" when it is not this worker's to send."""
    owner = journal.order_owner()
    waiting = Command.objects.filter(
        pk=command_id, state=State.PLANNED, owner="", kind__in=SENT_ALONE, lease_expires_at__gte=Now()
    )
    if not waiting.update(owner=owner, lease_expires_at=lease_end()):
        return ""
    row = Command.objects.get(pk=command_id)
    connector = Connector.objects.filter(organization=row.organization_id).first()
    deed = deed_of(row.kind, row.payload)
    if connector is None:
        outcome_record(row.pk, owner, deed, Ending(State.CANCELED, code="no_server_configured"))
        return str(State.CANCELED)
    with beating(lambda: journal.leases_renew(owner), "command"):
        try:
            with open_sessions(connector, role="act") as sessions:
                _send(sessions, row, owner, deed)
        except ExchangeError as error:
            # No session: whatever was not sent will not be.
            still_planned = Command.objects.filter(pk=row.pk, owner=owner, state=State.PLANNED).exists()
            if still_planned:
                outcome_record(row.pk, owner, deed, Ending(State.FAILED, code=error.code, params=error.params))
    row.refresh_from_db()
    if row.mailbox_id is not None and isinstance(deed, RemoveDevice):
        check_request([row.mailbox_id], because="removed")
    return row.state


def _send(sessions: Sessions, row: Command, owner: str, deed: Any) -> None:
    """Raises ExchangeError when no session can be had."""
    if isinstance(deed, Wipe):
        found = readings(sessions, {row.pk: deed}, in_flight=1)
        if row.pk not in found:
            outcome_record(row.pk, owner, deed, Ending(State.FAILED, code="statistics_unreadable"))
            return
        deed = deed.after(found[row.pk][0])
        row.payload = {**row.payload, **deed.payload()}
        Command.objects.filter(pk=row.pk, owner=owner).update(payload=row.payload)
    controllers = Controllers()

    def do(client: ExchangeClient, _: int) -> Reading | None:
        return deed.send(client, controllers)  # type: ignore[no-any-return]

    def jobs() -> Any:
        mine = Command.objects.filter(pk=row.pk, owner=owner, state=State.PLANNED)
        if mine.update(state=State.SENT, sent_at=Now(), lease_expires_at=lease_end()):
            yield row.pk

    state = None
    for outcome in parallel(sessions, jobs(), do, in_flight=1, throttle_budget=THROTTLE_BUDGET):
        ending = ending_of_outcome(deed, outcome)
        outcome_record(row.pk, owner, deed, ending)
        state = ending.state
        if state == State.DONE and ending.reading is None and row.mailbox is not None:
            statistics_request(mailbox=row.mailbox)  # so that its course is followed
    if state == State.UNKNOWN:
        for reading, server in readings(sessions, {row.pk: deed}, in_flight=1).values():
            outcome_record(row.pk, owner, deed, ending_of(deed, reading, server=server, otherwise=OUTCOME_UNKNOWN))


def commands_offer() -> int:
    """Tell the queue again of commands that no worker took yet. Returns of how many."""
    waiting = Command.objects.filter(
        state=State.PLANNED, owner="", kind__in=SENT_ALONE, lease_expires_at__gte=Now(), planned_at__lt=Now() - AGAIN
    )
    found = Connector.objects.filter(organization__in=waiting.values("organization"))
    connectors = {one.organization_id: one for one in found}
    offered = [row for row in waiting if row.organization_id in connectors]
    for row in offered:
        command_dispatch(row, connectors[row.organization_id])
    return len(offered)

"""Commands whose worker died: the object is read, and the row ends as what was found. Nothing is ever sent from here.

A row that was not sent is canceled, and its mailbox looked at again; one that was sent, or may have been, is done when
all is as it wanted, and failed otherwise. One that cannot be read now stays open, and locked, until it can.
"""

from __future__ import annotations

import datetime
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Any

from django.db import transaction
from django.db.models import Q
from django.db.models.functions import Now

from connectors import gateway
from connectors.exchange.client import ExchangeClient, never
from connectors.exchange.errors import CanceledError, ExchangeError
from connectors.models import Connector
from connectors.parallel import Outcome, Sessions, parallel
from sync.acting import deeds, device_deeds, journal, policy_deeds
from sync.acting.checks import check_request
from sync.acting.deeds import Deed, Reading
from sync.acting.device_deeds import deed_of
from sync.acting.outcomes import OUTCOME_UNKNOWN, ending_of, outcome_record
from sync.dispatch import settle_dispatch
from sync.lease import Lease, lease_end
from sync.models import Command

logger = logging.getLogger(__name__)

# How long a row waits that could not be read, before it is tried again.
AGAIN = datetime.timedelta(minutes=2)
# What is settled from here; other kinds have their own ways.
KINDS = (*deeds.KINDS, *device_deeds.KINDS, *policy_deeds.KINDS)
# Rows taken up at once.
MOST = 500

OpenSessions = Callable[..., AbstractContextManager[Sessions]]
Carry = Callable[..., Iterator[Outcome[Any, Any]]]


def readings(
    sessions: Sessions,
    wanted: Mapping[int, Deed],
    carry: Carry = parallel,
    *,
    in_flight: int,
    should_stop: Callable[[], bool] = never,
) -> dict[int, tuple[Reading, str]]:
    """What each deed is about, as it is now, and which server said so; without those that could not be read. Never
    raises what Exchange answers."""
    found: dict[int, tuple[Reading, str]] = {}
    if not wanted:
        return found

    def read(client: ExchangeClient, job: tuple[int, Deed]) -> Reading:
        return job[1].read(client)

    try:
        for outcome in carry(sessions, wanted.items(), read, in_flight=in_flight, should_stop=should_stop):
            if outcome.result is not None:
                found[outcome.job[0]] = (outcome.result, outcome.server)
            else:
                logger.warning("command %s could not be read back: %r", outcome.job[0], outcome.error)
    except (ExchangeError, CanceledError) as error:
        logger.warning("reading back ended early: %r", error)
    return found


def recover(
    connector: Connector, *, lease: Lease | None = None, open_sessions: OpenSessions = gateway.open_sessions
) -> int:
    """End the organization's open rows whose lease is over. Returns how many ended. A session is opened only when
    something is to be read; that none can be had is no error here: the rows wait.

    lease: of a run that has not acted yet. What an earlier worker of it planned and did not send is canceled too,
    however long its lease: that worker lost the run, and nothing can be sent without it. Raises LeaseLostError.
    """
    organization_id = connector.organization_id
    owner = journal.order_owner()
    again = _unsent_cancel(organization_id)
    if lease is not None:
        again += _unsent_of_run_cancel(lease)
    rows = _take_up(organization_id, owner)
    ended = len(again)
    lost = {pk: deed_of(row.kind, row.payload) for pk, row in rows.items()}
    found: dict[int, tuple[Reading, str]] = {}
    if lost:
        try:
            with open_sessions(connector, role="act") as sessions:
                found = readings(sessions, lost, in_flight=connector.parallel_commands)
        except ExchangeError as error:
            logger.warning("organization %s: commands cannot be read back now: %r", organization_id, error)
    for pk, (reading, server) in found.items():
        row = rows[pk]
        ending = ending_of(lost[pk], reading, server=server, otherwise=OUTCOME_UNKNOWN)
        if outcome_record(pk, owner, lost[pk], ending):
            ended += 1
            again += [row.mailbox_id] if ending.state == Command.State.FAILED and row.mailbox_id else []
    if len(found) < len(rows):
        mine = Command.objects.filter(owner=owner, state__in=Command.OPEN)
        mine.update(lease_expires_at=Now() + AGAIN)
    check_request([pk for pk in again if pk], because="commandLost")
    return ended


def commands_recover() -> int:
    """Have rows whose lease is over looked at, by a worker that stands near their Exchange. Returns for how many
    connectors. A doubled message finds nothing left."""
    over = Command.objects.filter(state__in=Command.OPEN, lease_expires_at__lt=Now(), kind__in=KINDS)
    connectors = Connector.objects.filter(organization__in=over.values("organization"))
    for connector in connectors:
        settle_dispatch(connector)
    return len(connectors)


def _unsent_cancel(organization_id: int) -> list[int | None]:
    """Rows that were never sent and will not be: the next run plans anew, and a person asks again. Their mailboxes."""
    over = Q(organization_id=organization_id, lease_expires_at__lt=Now(), kind__in=KINDS)
    with transaction.atomic():
        return _planned_cancel(over)


def _unsent_of_run_cancel(lease: Lease) -> list[int | None]:
    with lease.guard():
        return _planned_cancel(Q(run_id=lease.run_id))


def _planned_cancel(chosen: Q) -> list[int | None]:
    rows = Command.objects.select_for_update().filter(chosen, state=Command.State.PLANNED)
    found = dict(rows.values_list("pk", "mailbox_id"))
    journal.unsent_end(found, Command.State.CANCELED, "worker_lost")
    return list(found.values())


def _take_up(organization_id: int, owner: str) -> dict[int, Command]:
    """Rows that were sent, or may have been, made this one's own: whoever had them writes nothing any more."""
    with transaction.atomic():
        over = Command.objects.select_for_update().filter(
            organization_id=organization_id,
            state__in=(Command.State.SENT, Command.State.UNKNOWN),
            lease_expires_at__lt=Now(),
            kind__in=KINDS,
        )
        keys = list(over.order_by("pk").values_list("pk", flat=True)[:MOST])
        Command.objects.filter(pk__in=keys).update(owner=owner, lease_expires_at=lease_end())
    return {row.pk: row for row in Command.objects.filter(owner=owner, state__in=Command.OPEN)}

"""Mailboxes that are to be looked at now, without waiting for a sync: marks, and who is told of them.

A mark is a row, and what is done about it is found out when it is looked at (lane.py): asked for twice is looked at
once, and what a dying worker left is still there. The queue is only a hint, as for runs.
"""

from __future__ import annotations

import datetime
import logging
from collections.abc import Iterable
from functools import partial

from django.db import transaction
from django.db.models import Q, QuerySet
from django.db.models.functions import Now

from connectors.models import Connector
from sync.blocks import blocks
from sync.dispatch import check_dispatch
from sync.lease import lane_is_taken
from sync.models import Mailbox, MailboxCheck

logger = logging.getLogger(__name__)

# Whoever left a mark tells the queue itself, right after it committed.
JUST_MADE = datetime.timedelta(seconds=5)


def check_request(mailboxes: Iterable[int], *, because: str) -> int:
    """Have these mailboxes (keys) looked at as soon as may be. Safe to repeat; to be called in the transaction of what
    changed. because: a code. Returns how many were marked."""
    marked = 0
    organizations: set[int] = set()
    with transaction.atomic():
        for chosen in blocks(sorted(set(mailboxes))):
            rows = Mailbox.objects.filter(pk__in=chosen, gone_at=None).values_list("pk", "organization_id")
            marks = [
                MailboxCheck(
                    mailbox_id=pk, organization_id=organization_id, wanted_at=Now(), first_wanted_at=Now(),
                    because=because[:64],
                )
                for pk, organization_id in rows
            ]  # fmt: skip
            # What failed before keeps its distance: the mailbox, or the way to it, may still be as it was.
            MailboxCheck.objects.bulk_create(
                marks,
                batch_size=200,
                update_conflicts=True,
                unique_fields=["mailbox"],
                update_fields=["wanted_at", "because"],
            )
            marked += len(marks)
            organizations.update(mark.organization_id for mark in marks)
        for organization_id in organizations:
            transaction.on_commit(partial(_tell, organization_id))
    return marked


def checks_dispatch_due() -> int:
    """Tell workers of marks that nobody looks at. Returns for how many connectors."""
    due = marks_due().filter(first_wanted_at__lt=Now() - JUST_MADE)
    waiting = Connector.objects.filter(organization__in=due.values("organization"), pk__in=lanes_open().values("pk"))
    told = [connector for connector in waiting if not lane_is_taken(connector.pk)]
    for connector in told:
        check_dispatch(connector)
    return len(told)


def marks_due(organization_id: int | None = None) -> QuerySet[MailboxCheck]:
    """Those that may be looked at now."""
    rows = MailboxCheck.objects.filter(Q(not_before=None) | Q(not_before__lte=Now()))
    return rows if organization_id is None else rows.filter(organization_id=organization_id)


def _tell(organization_id: int) -> None:
    connector = lanes_open().filter(organization=organization_id).first()
    # Who has the lane looks again before and after leaving it.
    if connector is not None and not lane_is_taken(connector.pk):
        check_dispatch(connector)


def lanes_open() -> QuerySet[Connector]:
    """Connectors whose Exchange was not found unreachable just now."""
    return Connector.objects.filter(Q(checks_not_before=None) | Q(checks_not_before__lte=Now()))

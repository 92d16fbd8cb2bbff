"""Denials as act notes them, before they are sent: where whoever tells the people concerned is told.

Refuses to let a mail decide about access: what a listener does wrong is logged, and the denial goes on.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from dataclasses import dataclass

from django.db import transaction

from sync.notifying.notify_queue import are_under_way

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Denied:
    """A phone that has mail now and is about to lose it. Values as DeviceAccess has them."""

    device: int
    mailbox: int | None
    access: str
    reason: str
    rule: str


# (organization's key, run's key, whom). Called in the transaction that records the intent, or in short ones between it
# and the cmdlet; must be quick, and reach nothing but the database.
Listener = Callable[[int, int | None, tuple[Denied, ...]], None]
listeners: list[Listener] = []


def noted(organization_id: int, run_id: int | None, denied: tuple[Denied, ...]) -> None:
    """To be called in a transaction, before the denial is sent. Never raises what a listener raised."""
    if not denied:
        return
    for listener in listeners:
        try:
            with transaction.atomic():
                listener(organization_id, run_id, denied)
        except Exception:
            logger.exception("organization %s: %d denials could not be noted", organization_id, len(denied))


def mails_are_under_way(devices: Collection[int]) -> bool:
    """Whether a mail to one of these is being sent, or about to be. One that failed and waits keeps nobody waiting."""
    return are_under_way(devices)

"""The lane: looks at the marked mailboxes of one connector, now, and beside any run.

Reads those mailboxes alone, decides and acts as a run does, under the same guard and journal. One worker a connector at
a time. It keeps its session for a little while after the last mark, so that changes that trickle in need not wait for a
sign-in. A mark is taken away when nobody asked again since it was read; what failed keeps its mark, for later.
"""

from __future__ import annotations

import datetime
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from itertools import chain
from typing import Any

from django.conf import settings
from django.db import InterfaceError, OperationalError, transaction
from django.db.models import F
from django.db.models.functions import Now
from django.utils import timezone

from connectors import gateway
from connectors.actors import Actor
from connectors.exchange.client import ExchangeClient
from connectors.exchange.errors import (
    CanceledError,
    ExchangeError,
    OutcomeUnknownError,
    ThrottledError,
    TransientError,
)
from connectors.models import Connector
from connectors.parallel import Outcome, Sessions, parallel
from sync.acting import act
from sync.acting.act import Order, Report
from sync.acting.checks import marks_due
from sync.blocks import blocks
from sync.deciding.decide import decide
from sync.deciding.drift import drift
from sync.deciding.plan import plan
from sync.dispatch import check_dispatch
from sync.enforcing.approvals import hold
from sync.enforcing.drifts import drifts_record, ledger_settle
from sync.enforcing.judging import Judging
from sync.enforcing.loading import Loaded, Whole, is_enforcing
from sync.enforcing.verdict_rows import verdicts_record
from sync.lease import LaneLease, LeaseLostError, lane_claim
from sync.models import Mailbox, MailboxCheck
from sync.notifying.notify_kept_out import kept_out_note
from sync.observing.mailboxes import mailboxes_refresh

logger = logging.getLogger(__name__)

ACTOR = Actor(name="Checks")
# Mailboxes read and decided at once; all that are marked are judged together, so that the guard sees them as one.
BATCH = 200
MOST = 100_000
# Few commands go out in the session that is open already; more are worth sessions of their own.
INLINE = 8
# Seconds between two looks at the marks.
POLL = 0.1
BUSY_AGAIN = datetime.timedelta(seconds=1)
FAILED_AGAIN = datetime.timedelta(seconds=20)
FAILED_AGAIN_MOST = datetime.timedelta(hours=1)
# How long nothing is tried after Exchange could not be reached, or refused the account: each try counts to a lock-out.
UNREACHABLE_AGAIN = datetime.timedelta(seconds=30)
REFUSED_AGAIN = datetime.timedelta(minutes=15)

# What ends the lane, and is no mailbox's trouble.
_ABOVE = (LeaseLostError, CanceledError, OperationalError, InterfaceError)

OpenExchange = Callable[..., AbstractContextManager[ExchangeClient]]


def checks_do(
    connector_id: int,
    *,
    open_exchange: OpenExchange = gateway.open_exchange,
    open_sessions: act.OpenSessions = gateway.open_sessions,
) -> int:
    """Look at the marked mailboxes of a connector until none is left. Returns at how many; 0 too when another worker
    is at it."""
    lease = lane_claim(connector_id)
    if lease is None:
        return 0
    lane = _Lane(Connector.objects.select_related("organization").get(pk=connector_id), lease, open_sessions)
    try:
        with lease.kept():
            lane.work(open_exchange)
    except (LeaseLostError, CanceledError):
        logger.warning("connector %s: the lane is another worker's now", connector_id)
        return lane.looked_at
    except ExchangeError as error:
        logger.warning("connector %s: the checks wait: %r", connector_id, error)
        _put_off(connector_id, error)
    except (OperationalError, InterfaceError):
        # The lane runs out, and the marks are still there.
        logger.exception("connector %s: the database failed in the middle of checks", connector_id)
        return lane.looked_at
    lease.release()
    # Asked for between the last look and now: who asked saw the lane taken.
    current = Connector.objects.filter(pk=connector_id).first()
    if current is not None and _may_go_on(current) and marks_due(current.organization_id).exists():
        check_dispatch(current)
    return lane.looked_at


def _may_go_on(connector: Connector) -> bool:
    return not Connector.objects.filter(pk=connector.pk, checks_not_before__gt=Now()).exists()


def _put_off(connector_id: int, error: ExchangeError) -> None:
    wait = REFUSED_AGAIN
    if isinstance(error, ThrottledError):
        wait = max(UNREACHABLE_AGAIN, datetime.timedelta(seconds=error.retry_after))
    elif isinstance(error, TransientError | OutcomeUnknownError):
        wait = UNREACHABLE_AGAIN
    Connector.objects.filter(pk=connector_id).update(checks_not_before=Now() + wait)


class _Lane:
    def __init__(self, connector: Connector, lease: LaneLease, open_sessions: act.OpenSessions) -> None:
        self.connector, self.lease, self.open_sessions = connector, lease, open_sessions
        self.organization_id = connector.organization_id
        self.looked_at = 0

    def work(self, open_exchange: OpenExchange) -> None:
        """Raises ExchangeError when no session can be had, or it broke; LeaseLostError."""
        if not is_enforcing(self.connector.organization):
            # Nothing is decided here, and a policy that is switched on looks at everybody.
            MailboxCheck.objects.filter(organization=self.organization_id).delete()
            return
        if not _may_go_on(self.connector) or not self._marks():
            return
        ends = time.monotonic() + settings.CHECKS_SESSION_SECONDS
        with open_exchange(self.connector, role="act", should_stop=self.lease.should_stop) as client:
            Connector.objects.filter(pk=self.connector.pk).exclude(checks_not_before=None).update(
                checks_not_before=None
            )
            lingers = time.monotonic() + settings.CHECKS_LINGER_SECONDS
            while time.monotonic() < ends and not self.lease.should_stop():
                marks = self._marks()
                if marks:
                    self._look(client, marks)
                    lingers = time.monotonic() + settings.CHECKS_LINGER_SECONDS
                elif time.monotonic() >= lingers:
                    return
                else:
                    time.sleep(POLL)

    def _marks(self) -> dict[int, MailboxCheck]:
        rows = marks_due(self.organization_id).order_by("first_wanted_at")[:MOST]
        return {row.mailbox_id: row for row in rows}

    def _look(self, client: ExchangeClient, marks: Mapping[int, MailboxCheck]) -> None:
        """At all that are marked. What goes wrong with some is theirs; what is wrong with the session is raised."""
        self.looked_at += len(marks)
        try:
            self._decide_and_act(client, marks)
        except _ABOVE:
            raise
        except ExchangeError as error:
            logger.warning("connector %s: %d mailboxes wait: %r", self.connector.pk, len(marks), error)
            _failed(marks)
            raise
        except Exception:
            # The outermost boundary: the marks stay, and the trace must be found.
            logger.exception("connector %s: %d mailboxes could not be looked at", self.connector.pk, len(marks))
            _failed(marks)

    def _decide_and_act(self, client: ExchangeClient, marks: Mapping[int, MailboxCheck]) -> None:
        whole = Whole(self.organization_id, timezone.now())
        frame, good = whole.part(()), dict[int, MailboxCheck]()
        judging = Judging(frame, is_whole=False)
        for chosen in blocks(marks, BATCH):
            some = {pk: marks[pk] for pk in chosen}
            try:
                self._decide(client, whole, chosen, judging)
            except (*_ABOVE, ExchangeError):
                raise
            except Exception:
                # A fault about some of them keeps the others waiting no longer.
                logger.exception("connector %s: %d mailboxes could not be decided", self.connector.pk, len(some))
                _failed(some)
            else:
                good |= some
        report = self._act(client, frame, judging, good) if good else Report()
        busy, failed = report.busy & good.keys(), report.failed_mailboxes & good.keys()
        for part in blocks(busy):
            MailboxCheck.objects.filter(mailbox__in=part).update(not_before=Now() + BUSY_AGAIN)
        _failed({pk: good[pk] for pk in failed})
        _taken_away({pk: mark for pk, mark in good.items() if pk not in busy and pk not in failed})

    def _decide(self, client: ExchangeClient, whole: Whole, mailboxes: list[int], judging: Judging) -> None:
        """Read and decide some mailboxes, and have them judged with the others."""
        mailboxes_refresh(client, self.organization_id, mailboxes)
        whole.now = timezone.now()  # after it was read: what is read later has changed since
        loaded = whole.part(mailboxes)
        verdicts = decide(loaded.world)
        # Kept before anything is sent, so that the pages tell why.
        verdicts_record(loaded, verdicts, actor_name=ACTOR.name, guard=self.lease.guard)
        drifts_record(loaded, drift(loaded.world, verdicts), guard=self.lease.guard)
        ledger_settle(loaded)
        # Settings and rules are a full sync's; until then they are as they are.
        loaded = replace(loaded, world=loaded.world.as_it_is())
        verdicts = decide(loaded.world)
        judging.add(loaded, verdicts, plan(loaded.world, verdicts))
        if not self._is_observing():
            kept_out_note(loaded, verdicts, run=None, guard=self.lease.guard)

    def _act(
        self, client: ExchangeClient, frame: Loaded, judging: Judging, marks: Mapping[int, MailboxCheck]
    ) -> Report:
        judged = judging.judged()
        if not self._is_observing():
            with self.lease.guard():
                hold(frame, judged, run=None)
        wanted = judged.mailboxes
        if not wanted:
            return Report()
        because = Counter(mark.because for mark in marks.values()).most_common(1)[0][0]
        return act.execute(
            Order(self.organization_id, wanted, judged.may_deny),
            connector=self.connector,
            hold=self.lease,
            actor=ACTOR,
            because=because,
            open_sessions=self.open_sessions,
            carry=inline(client) if len(wanted) <= INLINE else parallel,
        )

    def _is_observing(self) -> bool:
        return Connector.objects.filter(pk=self.connector.pk, is_observe_only=True).exists()


def inline(client: ExchangeClient) -> act.Carry:
    """Jobs one after another in a session that is open already, for as long as it works; after that as parallel() does
    them, which knows how to wait and to begin again."""

    def carry(
        sessions: Sessions,
        jobs: Iterable[Any],
        do: Callable[[ExchangeClient, Any], Any],
        *,
        should_stop: Callable[[], bool],
        **options: Any,
    ) -> Iterator[Outcome[Any, Any]]:
        left = iter(jobs)
        for job in left:
            try:
                result = do(client, job)
            except TransientError:
                # Nothing was done about this one.
                yield from parallel(sessions, chain([job], left), do, should_stop=should_stop, **options)
                return
            except OutcomeUnknownError as error:
                yield Outcome(job, None, error, client.endpoint.fqdn)
                yield from parallel(sessions, left, do, should_stop=should_stop, **options)
                return
            except Exception as error:  # noqa: BLE001 - the outcome of this one job
                yield Outcome(job, None, error, client.endpoint.fqdn)
            else:
                yield Outcome(job, result, None, client.endpoint.fqdn)
        if should_stop():
            raise CanceledError

    return carry


# --- marks ------------------------------------------------------------------------------------------------------------


@transaction.atomic
def _taken_away(marks: Mapping[int, MailboxCheck]) -> None:
    """Those that were asked for again since stay."""
    for chosen in blocks(marks):
        rows = MailboxCheck.objects.select_for_update().filter(mailbox__in=chosen)
        asked_again = {
            pk for pk, wanted_at in rows.values_list("mailbox", "wanted_at") if wanted_at != marks[pk].wanted_at
        }
        MailboxCheck.objects.filter(mailbox__in=set(chosen) - asked_again).delete()
        # It was looked at all the same: the trouble is over.
        MailboxCheck.objects.filter(mailbox__in=asked_again).update(failures=0, not_before=None)


def _failed(marks: Mapping[int, MailboxCheck]) -> None:
    """Again later, each time after twice as long. A mailbox that is gone has nothing to be looked at."""
    by_failures: dict[int, list[int]] = {}
    for pk, mark in marks.items():
        by_failures.setdefault(mark.failures, []).append(pk)
    for failures, pks in by_failures.items():
        wait = min(FAILED_AGAIN * 2 ** min(failures, 20), FAILED_AGAIN_MOST)
        for chosen in blocks(pks):
            gone = Mailbox.objects.filter(pk__in=chosen).exclude(gone_at=None)
            MailboxCheck.objects.filter(mailbox__in=gone).delete()
            MailboxCheck.objects.filter(mailbox__in=chosen).update(failures=F("failures") + 1, not_before=Now() + wait)

"""Sending what is queued: one organization's mails, one after another, in one session of its account.

Each is claimed just before it is sent and its outcome written just after, with no transaction in between. A worker
killed anywhere leaves at most one mail of which nobody knows whether it left; that one is looked for in Sent Items
before it is sent again, or, by SMTP, sent again once at most. Whatever fails here is a row's or the account's trouble,
never a sync's.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import AbstractContextManager

from django.conf import settings

from connectors.mail.client import Mailer
from connectors.mail.errors import (
    MailError,
    MailOutcomeUnknownError,
    MailRefusedError,
    MailTransientError,
)
from connectors.models import ExchangeOrganization, NotificationAccount
from connectors.notification_accounts import account_outcome_note, mailer_for
from sync.deciding.facts import State as AccessState
from sync.dispatch import notify_dispatch
from sync.lease import beating
from sync.models import Notification
from sync.notifying import notify_queue as queue
from sync.notifying.notify_mail import message_of
from sync.policies.policy import NotificationValues
from sync.policies.policy_rows import organization_policy

logger = logging.getLogger(__name__)

State = Notification.State
# Mails of one session; what is left then is the next task's, so that others get their turn.
BATCH = 50
# Of these the mail is the cause, and the next one may go.
_OF_ONE_MAIL = ("mail_deferred",)

OpenMailer = Callable[[ExchangeOrganization], AbstractContextManager[Mailer]]


def notifications_send(organization_id: int, *, open_mailer: OpenMailer = mailer_for) -> int:
    """Send what is due of an organization. Returns how many left; 0 too when another worker is at it."""
    organization = ExchangeOrganization.objects.filter(pk=organization_id).first()
    if organization is None or queue.being_sent().filter(organization=organization_id).exists():
        return 0
    queue.abandoned_take_up(organization_id)
    values = organization_policy(organization_id).notification
    if not values.enabled or not _has_account(organization_id):
        queue.all_suppress(organization_id)
        return 0
    rows = queue.due(organization_id).order_by("made_at", "pk")
    found = list(rows.values_list("pk", "state", "attempts")[:BATCH])
    if not found:
        return 0
    sender = _Sender(organization, values)
    with beating(sender.renew, f"notify-{organization_id}"):
        sender.work(found, open_mailer)
    if queue.due(organization_id).exists():
        notify_dispatch(organization_id)
    return sender.sent


def _has_account(organization_id: int) -> bool:
    accounts = NotificationAccount.objects.filter(organization=organization_id)
    return accounts.exclude(channel=NotificationAccount.Channel.NONE).exists()


def notifications_dispatch_due() -> int:
    """Tell workers of mails that are due and that nobody is at. Returns of how many organizations."""
    waiting = set(queue.due().values_list("organization_id", flat=True).distinct())
    waiting.update(queue.abandoned().values_list("organization_id", flat=True).distinct())
    waiting.difference_update(queue.being_sent().values_list("organization_id", flat=True).distinct())
    for organization_id in sorted(waiting):
        notify_dispatch(organization_id)
    return len(waiting)


class _Sender:
    """One session's worth of mails."""

    def __init__(self, organization: ExchangeOrganization, values: NotificationValues) -> None:
        self.organization, self.values = organization, values
        self.sent = 0
        self._current: Notification | None = None

    def renew(self) -> None:
        """From a thread of its own."""
        row = self._current
        if row is not None:
            queue.lease_renew(row)

    def work(self, found: list[tuple[int, str, int]], open_mailer: OpenMailer) -> None:
        try:
            with open_mailer(self.organization) as mailer:
                for pk, state, attempts in found:
                    if not self._try(mailer, pk, state, attempts):
                        break
        except MailError as error:
            # No session at all: none of them was tried.
            self._of_all(error)
        if self.sent:
            account_outcome_note(self.organization, None, sent=True)

    def _of_all(self, error: MailError) -> None:
        logger.warning("%s: no mail can be sent: %r", self.organization.public_id, error)
        if isinstance(error, MailTransientError):
            queue.all_put_off(self.organization.pk, error.code, error.params, error.retry_after or 0.0)
        else:
            # The queue pauses with the account.
            account_outcome_note(self.organization, error)

    def _try(self, mailer: Mailer, pk: int, state: str, attempts: int) -> bool:
        """One mail. Whether the session goes on."""
        began = time.monotonic()
        row = queue.claim(pk, state, attempts)
        if row is None:
            return True
        self._current = row
        try:
            if state == State.UNKNOWN:
                if self._is_settled(mailer, row):
                    return True
                # It did not leave, or nobody can know: from here on it is like any other.
                state = State.QUEUED
            return self._send(mailer, row, began)
        except MailError as error:
            return self._failed(row, state, error)
        except Exception:
            # The outermost boundary: the other mails go on, and the trace must be found.
            logger.exception("notification %s could not be sent", row.public_id)
            queue.put_off(row, state, "internal_error", {})
            return True
        finally:
            self._current = None

    def _is_settled(self, mailer: Mailer, row: Notification) -> bool:
        """Of a mail that may have left."""
        if mailer.can_find_sent:
            if mailer.find_sent(row.message_id):
                queue.sent_record(row)
                self.sent += 1
                return True
            return False
        if queue.unknown_times(row) > 1:
            queue.unknown_keep(row)
            return True
        return False

    def _send(self, mailer: Mailer, row: Notification, began: float) -> bool:
        if not _is_needed(row):
            queue.suppressed_record(row, queue.NOT_NEEDED)
            return True
        message = message_of(row, self.values)
        if time.monotonic() - began > settings.SYNC_LEASE_SECONDS / 2:
            # This process slept, and another one may have found the row abandoned.
            queue.give_back(row, State.QUEUED)
            return False
        mailer.send(message)
        queue.sent_record(row)
        self.sent += 1
        return True

    def _failed(self, row: Notification, state: str, error: MailError) -> bool:
        logger.warning("notification %s: %r", row.public_id, error)
        if isinstance(error, MailRefusedError):
            queue.failed_record(row, error.code, error.params)
            return True
        if isinstance(error, MailOutcomeUnknownError):
            queue.unknown_record(row, error.params)
            # The session is broken; the others go with the next one.
            return False
        if isinstance(error, MailTransientError):
            queue.put_off(row, state, error.code, error.params, error.retry_after or 0.0)
            if error.code in _OF_ONE_MAIL:
                return True
            self._of_all(error)
            return False
        queue.give_back(row, state)
        self._of_all(error)
        return False


def _is_needed(row: Notification) -> bool:
    """Whether the phone is kept out still."""
    access = getattr(row.device, "access", None)
    return row.device.gone_at is None and access is not None and access.state != AccessState.ALLOWED.value

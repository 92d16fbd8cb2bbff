"""A mail server of our own interface, and an organization that tells its people by it.

`Server.open` stands where connectors.notification_accounts.mailer_for does. What is planned for a place ("open",
"send", "after send", "find") happens at its next passing: an exception is raised, anything else called. "after send" is
reached when the server has taken the mail.
"""

from __future__ import annotations

import datetime
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.db.models import F
from django.db.models.functions import Now

from connectors.mail.client import Check, Mailer, Message, Receipt
from connectors.models import Connector, ExchangeOrganization, NotificationAccount
from sync.models import Notification
from sync.notifying.notify_send import notifications_send
from sync.policies.policy import NotificationValues
from tests.sync.access import organize

LINK = "https://enroll.contoso.com/start"


class Server:
    """What it took, in order; with Sent Items (EWS) or without (SMTP)."""

    def __init__(self, *, has_sent_items: bool = True) -> None:
        self.has_sent_items = has_sent_items
        self.taken: list[Message] = []
        self.sessions = 0
        self.tries = 0
        self._plan: dict[str, list[Any]] = defaultdict(list)

    def at(self, place: str, *happens: Any) -> None:
        self._plan[place] += happens

    def pass_by(self, place: str) -> None:
        happens = self._plan[place].pop(0) if self._plan[place] else None
        if isinstance(happens, BaseException):
            raise happens
        if happens is not None:
            happens()

    def forget_plans(self) -> None:
        self._plan.clear()

    @contextmanager
    def open(self, organization: ExchangeOrganization) -> Iterator[Mailer]:
        self.pass_by("open")
        self.sessions += 1
        yield _Mailer(self)

    def to(self) -> list[str]:
        return sorted(message.to for message in self.taken)

    def times(self) -> list[int]:
        """How often each mail was taken."""
        ids = [message.message_id for message in self.taken]
        return [ids.count(one) for one in sorted(set(ids))]


class _Mailer:
    ews_url = ""

    def __init__(self, server: Server) -> None:
        self._server = server
        self.can_find_sent = server.has_sent_items

    def send(self, message: Message) -> Receipt:
        self._server.tries += 1
        self._server.pass_by("send")
        self._server.taken.append(message)
        self._server.pass_by("after send")
        return Receipt(message.message_id, "mail.contoso.com")

    def verify(self) -> tuple[Check, ...]:
        return ()

    def find_sent(self, message_id: str) -> bool:
        assert self._server.has_sent_items
        self._server.pass_by("find")
        return any(message.message_id == message_id for message in self._server.taken)


def tell(connector: Connector, *, channel: str = "ews", **values: Any) -> None:
    """User notification on, by an account; `values` are what differs in the policy."""
    NotificationAccount.objects.update_or_create(
        organization=connector.organization, defaults={"channel": channel, "sender": "phones@contoso.com"}
    )
    usual = {"enabled": True, "enrollment_link": LINK, "help_contact": "desk@contoso.com"}
    organize(connector, notification=NotificationValues(**{**usual, **values}))


def send(connector: Connector, server: Server) -> int:
    return notifications_send(connector.organization_id, open_mailer=server.open)


def later(minutes: float = 60 * 25) -> None:
    """As if so much time had passed for the queue: leases are over, and what waits is due."""
    past = datetime.timedelta(minutes=minutes)
    for name in ("next_attempt_at", "lease_expires_at"):
        Notification.objects.exclude(**{name: None}).update(**{name: F(name) - past})
    NotificationAccount.objects.exclude(last_error_at=None).update(last_error_at=F("last_error_at") - past)


def lose(row: Notification, **values: Any) -> None:
    """As if its worker had died while sending it."""
    dead = {"state": Notification.State.SENDING, "lease_expires_at": Now() - datetime.timedelta(seconds=1)}
    Notification.objects.filter(pk=row.pk).update(**{**dead, **values})

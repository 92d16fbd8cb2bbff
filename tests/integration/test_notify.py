"""Telling people, over the wire: the lab's EWS and SMTP take the mail, and its mailboxes show it.

A mail that the lab took is the only proof that counts here; how often it lies in the mailbox says whether it went once.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from connectors.actors import SETUP
from connectors.mail.client import MailAccount, Mailer, MailOptions
from connectors.mail.opening import open_mailer
from connectors.models import Authentication, Connector, NotificationAccount
from connectors.notification_accounts import NotificationAccountSettings, mailer_for, notification_account_configure
from connectors.secrets import Secret
from sync.models import DirectoryUser, Notification
from sync.notifying.notify_send import notifications_send
from sync.policies.policy import NotificationValues
from tests.integration.test_access import enroll, phones, scene
from tests.integration.worlds import sync
from tests.labs import Lab, Organization
from tests.sync.access import govern, organize
from tests.sync.mails import later

pytestmark = [pytest.mark.wire, pytest.mark.timeout(120)]

State = Notification.State
LINK = "https://enroll.contoso.test/start?from=mail"


@pytest.fixture(autouse=True)
def by_hand_too(monkeypatch: pytest.MonkeyPatch, settings: Any) -> None:
    monkeypatch.setattr("sync.dispatch._send_prompt", lambda *_: None)
    settings.NOTIFY_BEFORE_DENIAL_SECONDS = 0.0


def account(connector: Connector, organization: Organization, channel: str) -> None:
    """The lab's notification account, as an administrator would set it up."""
    known = organization.account("notification")
    common = NotificationAccountSettings(
        channel=channel,
        sender=known.upn,
        username=known.user,
        password=Secret(known.password),
        ca_certificates=Path(organization.lab.ca).read_text(encoding="ascii"),
    )
    server, smtp = organization.servers[0], organization.row["smtp"]
    chosen = {
        "ews": replace(
            common,
            authentication=Authentication.NTLM,
            ews_url=f"https://127.0.0.1:{server.https_port}/EWS/Exchange.asmx",
        ),
        "smtp": replace(common, smtp_host=smtp["fqdn"], smtp_port=smtp["port"]),
    }[channel]
    notification_account_configure(organization=connector.organization, settings=chosen, actor=SETUP)


def opener(organization: Organization) -> Callable[..., AbstractContextManager[Mailer]]:
    """As the product opens it; the SMTP server's name leads to the lab, for this process knows no such host."""

    def open_with(given: MailAccount, options: MailOptions) -> AbstractContextManager[Mailer]:
        address = organization.row["smtp"]["host"] if given.kind == "smtp" else ""
        limits = replace(options, connect_timeout=5.0, read_timeout=5.0)
        return open_mailer(replace(given, address=address), limits)

    return partial(mailer_for, open_with=open_with)


def send(connector: Connector, organization: Organization) -> int:
    return notifications_send(connector.organization_id, open_mailer=opener(organization))


def received(organization: Organization, mailbox: str) -> list[dict[str, Any]]:
    """The mails about phones in a mailbox; the lab puts others there too."""
    return [mail for mail in organization.messages(mailbox) if LINK in f"{mail['body']}{mail.get('text', '')}"]


def kept_out(fresh_lab: Callable[..., Lab], channel: str, language: str = "en") -> tuple[Organization, Connector, str]:
    """A phone that lost its mail by a sync, and whose person is to be told: the mailbox's name."""
    organization, connector = scene(fresh_lab)
    organization.settings(default_access_level="Quarantine")
    govern(connector, guard_devices=1000)
    organize(
        connector,
        notification=NotificationValues(enabled=True, enrollment_link=LINK, help_contact="help@contoso.test"),
    )
    account(connector, organization, channel)
    one = phones(organization)[0]
    enroll(connector, organization, one)
    sync(connector)
    assert organization.phone(one["mailbox"], one["device_id"])["status"] == 200
    DirectoryUser.objects.update(preferred_language=language)
    # Un-enrolled: the entry goes, and with it the mail.
    connector.organization.tenant.managed_devices.update(presence="gone")
    sync(connector)
    assert organization.phone(one["mailbox"], one["device_id"])["state"] == "Quarantined"
    return organization, connector, str(one["mailbox"])


@pytest.mark.parametrize("channel", ["ews", "smtp"])
@pytest.mark.parametrize(("language", "word"), [("en", "Enroll"), ("zh-TW", "註冊")])
def test_the_mail_is_in_the_mailbox(fresh_lab: Callable[..., Lab], channel: str, language: str, word: str) -> None:
    organization, connector, mailbox = kept_out(fresh_lab, channel, language)

    assert send(connector, organization) >= 1

    (mail,) = received(organization, mailbox)
    assert word in mail["subject"]
    links = re.findall(r'href="([^"]+)"', mail["body"])
    assert LINK in [link.replace("&amp;", "&") for link in links]
    assert {row.state for row in Notification.objects.all()} == {State.SENT}
    assert NotificationAccount.objects.get().last_sent_at is not None
    assert send(connector, organization) == 0
    sync(connector)
    assert send(connector, organization) == 0
    assert len(received(organization, mailbox)) == 1


def test_an_unknown_phone_is_told_how_to_enroll(fresh_lab: Callable[..., Lab]) -> None:
    """The first of the ten steps: the default level keeps it out, and no command of ours names it."""
    organization, connector = scene(fresh_lab)
    organization.settings(default_access_level="Quarantine")
    govern(connector, guard_devices=1000)
    notification = NotificationValues(enabled=True, enrollment_link=LINK, help_contact="help@contoso.test")
    organize(connector, notification=notification)
    account(connector, organization, "ews")
    sync(connector)
    mailbox = phones(organization)[0]["mailbox"]
    before = len(received(organization, mailbox))
    Notification.objects.all().delete()

    tried = organization.phone(mailbox, "ApplNEWPHONE1", device_type="iPhone", model="iPhone15C2", name="New 手機")
    assert tried["state"] == "Quarantined"
    sync(connector, "deltaSync")

    row = Notification.objects.get()
    assert (row.device.device_id, row.reason) == ("ApplNEWPHONE1", "notEnrolled")
    assert send(connector, organization) == 1
    assert len(received(organization, mailbox)) == before + 1


def mails_after(
    organization: Organization, connector: Connector, mailbox: str, minutes: float
) -> tuple[list[str], int]:
    """States of the rows and mails in the mailbox, once the queue has had that time."""
    later(minutes)
    send(connector, organization)
    return list(Notification.objects.values_list("state", flat=True)), len(received(organization, mailbox))


@pytest.mark.parametrize("channel", ["ews", "smtp"])
def test_a_busy_server_is_asked_later(fresh_lab: Callable[..., Lab], channel: str) -> None:
    organization, connector, mailbox = kept_out(fresh_lab, channel)
    fault = ("ews_fault", "CreateItem", "ErrorServerBusy:5000") if channel == "ews" else (
        "smtp_reply", "message", "450 4.7.1 Try later",
    )  # fmt: skip
    with organization.lab.fault(fault[0], cmdlet=fault[1], value=fault[2]):
        assert send(connector, organization) == 0
        row = Notification.objects.get()
        assert (row.state, row.error_code) in (
            (State.QUEUED, "mail_server_busy"), (State.QUEUED, "mail_deferred"), (State.QUEUED, "mail_server_failed"),
        )  # fmt: skip
        assert row.next_attempt_at is not None
    assert mails_after(organization, connector, mailbox, 2) == ([State.SENT], 1)


@pytest.mark.parametrize("channel", ["ews", "smtp"])
def test_a_wrong_password_pauses_and_is_told(fresh_lab: Callable[..., Lab], channel: str) -> None:
    organization, connector, mailbox = kept_out(fresh_lab, channel)
    NotificationAccount.objects.update(password=Secret("wrong"))
    assert send(connector, organization) == 0
    found = NotificationAccount.objects.get()
    assert found.last_error_code == "mail_sign_in_failed"
    assert Notification.objects.get().state == State.QUEUED

    account(connector, organization, channel)
    assert send(connector, organization) == 1
    assert len(received(organization, mailbox)) == 1


@pytest.mark.parametrize("channel", ["ews", "smtp"])
def test_a_lost_answer(fresh_lab: Callable[..., Lab], channel: str) -> None:
    """EWS: it is found in Sent Items. SMTP: it comes twice, and no oftener."""
    organization, connector, mailbox = kept_out(fresh_lab, channel)
    step = "CreateItem" if channel == "ews" else "message"
    with organization.lab.fault("outcome_lost", cmdlet=step, value=0, times=1):
        assert send(connector, organization) == 0
    assert Notification.objects.get().state == State.UNKNOWN
    assert len(received(organization, mailbox)) == 1

    assert mails_after(organization, connector, mailbox, 2) == ([State.SENT], 1 if channel == "ews" else 2)

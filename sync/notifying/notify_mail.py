"""The mail about one denial: template of the organization or the built-in one, filled for the person and the phone.

Its words are those of the moment it is sent, in the language that was chosen when the denial was noted.
"""

from __future__ import annotations

import zoneinfo

from django.utils import formats, timezone, translation

from connectors.mail.client import Message
from sync.models import DirectoryUser, Mailbox, MobileDevice, Notification
from sync.notifying.mail_template import MailTemplate, default_template, reason_text, render, state_text
from sync.policies.policy import NotificationValues


def message_of(row: Notification, values: NotificationValues) -> Message:
    """`row` with its organization, tenant, device, access, mailbox and person. Raises MailRefusedError for an address
    that is none."""
    mail = render(_template(row, values), _filling(row, values), row.language)
    return Message(to=row.recipient, subject=mail.subject, html=mail.html, text=mail.text, message_id=row.message_id)


def _template(row: Notification, values: NotificationValues) -> MailTemplate:
    own = values.templates.get(row.language)
    built_in = default_template(row.reason, row.language)
    return MailTemplate(
        own.subject if own and own.subject else built_in.subject, own.body if own and own.body else built_in.body
    )


def _filling(row: Notification, values: NotificationValues) -> dict[str, str]:
    device, organization = row.device, row.organization
    mailbox = device.owner
    person = _person(mailbox.person if mailbox else None, mailbox, device)
    return {
        "person": person,
        "person_first_name": first_name(person),
        "mailbox": mailbox.primary_smtp if mailbox else device.mailbox,
        "device": device.friendly_name or device.device_model or device.device_type or device.device_id,
        "device_model": device.device_model,
        "device_type": device.device_type,
        "device_os": device.device_os,
        "device_id": device.device_id,
        "reason": reason_text(row.reason, row.language),
        "state": state_text(device.access.state, row.language),
        "organization": organization.name,
        "tenant": organization.tenant.name,
        "enrollment_link": values.enrollment_link,
        "help_contact": values.help_contact,
        "date": _date(row, organization.tenant.time_zone),
    }


def _person(person: DirectoryUser | None, mailbox: Mailbox | None, device: MobileDevice) -> str:
    if person is not None and person.display_name:
        return person.display_name
    return (mailbox.display_name if mailbox else "") or device.user_display_name


def first_name(name: str) -> str:
    """Of "Ada Lovelace" and "Lovelace, Ada"; a name of one word, as Chinese ones are, is said whole."""
    _family, comma, given = name.partition(",")
    words = (given if comma else name).split()
    return words[0] if words else name.strip()


def _date(row: Notification, zone: str) -> str:
    with translation.override(row.language):
        day = timezone.localtime(row.made_at, zoneinfo.ZoneInfo(zone)).date()
        return str(formats.date_format(day, "DATE_FORMAT"))

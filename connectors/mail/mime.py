"""A message as RFC 5322 wants it: text and HTML side by side, any script in subject and names, nothing to inject.

Header values come from `Message` and `MailAccount`, which hold no line breaks, and the email package refuses any.
"""

from __future__ import annotations

import datetime
import email.policy
from email.headerregistry import Address
from email.message import EmailMessage
from email.utils import format_datetime

from connectors.mail.client import MailAccount, Message
from connectors.mail.errors import MailRefusedError, MailStopError

# Bodies leave in seven bits: not every relay on the way takes eight.
_POLICY = email.policy.SMTP.clone(cte_type="7bit")


def build(account: MailAccount, message: Message, *, utf8: bool, now: datetime.datetime) -> bytes:
    """The whole mail, lines ended by CRLF. utf8: the server takes addresses beyond ASCII (SMTPUTF8).

    Raises MailRefusedError for a recipient that cannot be written so, MailStopError for such a sender.
    """
    mail = EmailMessage(policy=_POLICY.clone(utf8=utf8))
    try:
        mail["To"] = Address(addr_spec=ascii_domain(message.to, utf8=utf8))
    except (ValueError, UnicodeError) as error:
        raise MailRefusedError("the recipient's address cannot be written", code="mail_recipient_refused") from error
    try:
        sender = ascii_domain(account.sender, utf8=utf8)
        mail["From"] = Address(display_name=" ".join(account.sender_name.split()), addr_spec=sender)
    except (ValueError, UnicodeError) as error:
        raise MailStopError("the sender's address cannot be written", code="mail_bad_settings") from error
    mail["Subject"] = message.subject
    mail["Date"] = format_datetime(now)
    mail["Message-ID"] = message.message_id
    # RFC 3834, and what Exchange and Outlook go by: no out-of-office answers to a machine.
    mail["Auto-Submitted"] = "auto-generated"
    mail["X-Auto-Response-Suppress"] = "All"
    mail.set_content(message.text)
    mail.add_alternative(message.html, subtype="html")
    return mail.as_bytes()


def ascii_domain(address: str, *, utf8: bool) -> str:
    """The address with its domain in ASCII. Raises UnicodeError where the rest is not, and may not be."""
    local, _, domain = address.rpartition("@")
    if not local.isascii() and not utf8:
        raise UnicodeError("a local part beyond ASCII")
    return f"{local}@{domain if domain.isascii() else domain.encode('idna').decode('ascii')}"

"""A Mailer for an account: EWS or SMTP, as its kind says."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from connectors.mail.client import MailAccount, Mailer, MailOptions
from connectors.mail.errors import MailStopError
from connectors.mail.ews import EwsMailer
from connectors.mail.smtp import SmtpMailer

KINDS: dict[str, type[EwsMailer | SmtpMailer]] = {"ews": EwsMailer, "smtp": SmtpMailer}


@contextmanager
def open_mailer(account: MailAccount, options: MailOptions | None = None) -> Iterator[Mailer]:
    """Connects with the first call of the mailer, not here. Raises MailStopError for a kind that there is not."""
    if account.kind not in KINDS:
        raise MailStopError(f"no such kind: {account.kind}", code="mail_bad_settings")
    mailer = KINDS[account.kind](account, options or MailOptions())
    try:
        yield mailer
    finally:
        mailer.close()

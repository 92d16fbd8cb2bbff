"""A Mailer for an account: EWS or SMTP, as its kind says.

The libraries are loaded with the first mailer: who only shows pages does not need them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from connectors.mail.client import MailAccount, Mailer, MailOptions
from connectors.mail.errors import MailStopError

if TYPE_CHECKING:
    from connectors.mail.ews import EwsMailer
    from connectors.mail.smtp import SmtpMailer


@contextmanager
def open_mailer(account: MailAccount, options: MailOptions | None = None) -> Iterator[Mailer]:
    """Connects with the first call of the mailer, not here. Raises MailStopError for a kind that there is not."""
    mailer = _new_mailer(account, options or MailOptions())
    try:
        yield mailer
    finally:
        mailer.close()


def _new_mailer(account: MailAccount, options: MailOptions) -> EwsMailer | SmtpMailer:
    if account.kind == "ews":
        from connectors.mail.ews import EwsMailer

        return EwsMailer(account, options)
    if account.kind == "smtp":
        from connectors.mail.smtp import SmtpMailer

        return SmtpMailer(account, options)
    raise MailStopError(f"no such kind: {account.kind}", code="mail_bad_settings")

"""Everything this package raises: a class for each thing that the sender of a mail can do about it, a stable code each.

Library errors are turned into these in one place (translate.py) and chained with `from`. The text of an error is ours;
foreign text is cut to `FOREIGN_TEXT_LIMIT` characters and never holds credentials or the mail itself.
The sentence and remedy that people read for a code stand in connectors/problems/mail.py.
"""

from __future__ import annotations

from typing import ClassVar

FOREIGN_TEXT_LIMIT = 300


class MailError(Exception):
    """Base. `code` is stable; `params` are JSON-safe values that the sentence of that code names."""

    reaction: ClassVar[str] = "stop"
    default_code: ClassVar[str] = "mail_bad_settings"

    def __init__(self, message: str, *, code: str = "", server: str = "", remote_text: str = "") -> None:
        super().__init__(message)
        self.code = code or self.default_code
        self.server = server
        # Foreign text: cut short, and without the one character that no database takes.
        self.remote_text = remote_text[:FOREIGN_TEXT_LIMIT].replace("\0", "\ufffd")

    @property
    def params(self) -> dict[str, str | float]:
        named = {"server": self.server, "remote_text": self.remote_text}
        return {name: value for name, value in named.items() if value}

    def __repr__(self) -> str:
        return f"{type(self).__name__}(code={self.code!r}, server={self.server!r})"


class MailTransientError(MailError):
    """Nothing was sent; try again, after `retry_after` seconds where the server named a time.

    Codes: mail_unreachable, mail_server_busy, mail_server_failed, mail_deferred.
    """

    reaction = "retry"
    default_code = "mail_server_failed"

    def __init__(
        self,
        message: str,
        *,
        retry_after: float | None = None,
        code: str = "",
        server: str = "",
        remote_text: str = "",
    ) -> None:
        super().__init__(message, code=code, server=server, remote_text=remote_text)
        self.retry_after = retry_after

    @property
    def params(self) -> dict[str, str | float]:
        return {**super().params, **({"retry_after": self.retry_after} if self.retry_after else {})}


class MailRefusedError(MailError):
    """This one mail is not taken, now or later; others may go on.

    Codes: mail_recipient_refused, mail_message_refused.
    """

    reaction = "give up"
    default_code = "mail_message_refused"


class MailStopError(MailError):
    """The account or its settings: no mail will leave until a person changes something.

    Codes: mail_sign_in_failed, mail_sign_in_not_offered, mail_account_disabled, mail_send_as_denied, mail_no_mailbox,
    mail_mailbox_full, mail_certificate, mail_not_ews, mail_tls_missing, mail_address_not_found, mail_kerberos_failed,
    mail_kerberos_unavailable, mail_request_refused, mail_bad_settings.
    """

    reaction = "stop"
    default_code = "mail_bad_settings"


class MailOutcomeUnknownError(MailError):
    """The mail went out to the server, and what became of it was not learnt. `because`: the code of the failure.

    No MailTransientError, so that nothing that sends again on those can catch it by accident: look first, where
    Mailer.can_find_sent. Code: mail_outcome_unknown.
    """

    reaction = "look"
    default_code = "mail_outcome_unknown"

    def __init__(self, message: str, *, because: str = "", server: str = "", remote_text: str = "") -> None:
        super().__init__(message, server=server, remote_text=remote_text)
        self.because = because

    @property
    def params(self) -> dict[str, str | float]:
        return {**super().params, **({"because": self.because} if self.because else {})}

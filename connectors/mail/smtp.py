"""Mail by SMTP: to a relay or a receive connector, over TLS, one mail a transaction.

Knows at each step whether the server can have taken the mail: only between the last line and the answer to it is that
open. There is no way to ask afterwards; a mail whose outcome was not learnt may come twice when it is sent again, with
the same Message-ID.
"""

from __future__ import annotations

import base64
import datetime
import ipaddress
import re
import smtplib
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from connectors.mail import mime
from connectors.mail.client import Check, MailAccount, MailOptions, Message, Receipt
from connectors.mail.errors import MailError, MailOutcomeUnknownError, MailStopError, MailTransientError
from connectors.mail.translate import network, refused

# Seconds for saying goodbye.
GOODBYE = 2.0


class SmtpMailer:
    """A Mailer. The first call connects; a connection that broke is made anew by the next."""

    can_find_sent = False
    ews_url = ""

    def __init__(self, account: MailAccount, options: MailOptions) -> None:
        self._account, self._options = account, options
        self._connection: smtplib.SMTP | None = None
        self._steps: list[str] = []

    @property
    def server(self) -> str:
        return self._account.smtp_host

    def send(self, message: Message) -> Receipt:
        smtp = self._connected()
        utf8 = smtp.has_extn("smtputf8")
        now = datetime.datetime.now(datetime.UTC)
        data = mime.build(self._account, message, utf8=utf8, now=now)
        recipient = mime.ascii_domain(message.to, utf8=utf8)
        with self._translated():
            self._begin(smtp, utf8=utf8)
            self._expect("recipient", *smtp.rcpt(recipient))
            self._expect("data", *smtp.docmd("DATA"), wanted=354)
            # A final dot that did not leave whole ended no mail, so a failure in here has sent nothing.
            smtp.send(re.sub(rb"(?m)^\.", b"..", data) + b".\r\n")
        with self._translated(is_sent=True):
            code, text = smtp.getreply()
        self._expect("data", code, text)
        return Receipt(message.message_id, self.server, _text(text))

    def find_sent(self, message_id: str) -> bool:
        raise NotImplementedError("SMTP keeps nothing that could be searched; see can_find_sent")

    def verify(self) -> tuple[Check, ...]:
        checks: list[Check] = []
        step = "connection"
        try:
            with self._translated():
                smtp = self._connected()
                checks.append(Check("connection", is_ok=True, detail=" · ".join(self._steps)))
                if self._account.username:
                    checks.append(Check("sign_in", is_ok=True, detail=self._account.username))
                step = "sender"
                self._begin(smtp, utf8=smtp.has_extn("smtputf8"))
                smtp.rset()
        except MailError as error:
            failed = "sign_in" if error.code.startswith("mail_sign_in") else step
            return (*checks, Check(failed, is_ok=False, detail=error.remote_text, error=error))
        return (*checks, Check("sender", is_ok=True, detail=self._account.sender))

    def close(self) -> None:
        if self._connection is None:
            return
        with suppress(OSError, smtplib.SMTPException):
            if self._connection.sock is not None:
                self._connection.sock.settimeout(GOODBYE)
            self._connection.quit()
        self._drop()

    # --- the steps ---

    def _connected(self) -> smtplib.SMTP:
        if self._connection is None:
            with self._translated():
                self._connection = self._connect()
                self._sign_in(self._connection)
        return self._connection

    def _connect(self) -> smtplib.SMTP:
        account, context = self._account, self._context()
        self._steps = []
        if account.security not in ("starttls", "tls", "none"):
            raise MailStopError(f"no such security: {account.security}", code="mail_bad_settings")
        is_clear = account.security == "none" and not self._options.allow_plain and not _is_loopback(self._dialled)
        if is_clear and account.username:
            raise MailStopError("no password without TLS but to this machine", code="mail_tls_missing")
        smtp = _Smtp(account.smtp_host, context if account.security == "tls" else None, self._options.connect_timeout)
        self._connection = smtp
        self._expect("greeting", *smtp.connect(self._dialled, account.smtp_port))
        if smtp.sock is not None:
            smtp.sock.settimeout(self._options.read_timeout)
        self._hello(smtp)
        if account.security == "starttls":
            if not smtp.has_extn("starttls"):
                raise MailStopError("the server does not offer STARTTLS", code="mail_tls_missing")
            self._expect("tls", *smtp.docmd("STARTTLS"))
            smtp.secure(context)
            self._hello(smtp)
        if isinstance(smtp.sock, ssl.SSLSocket):
            self._steps.append(smtp.sock.version() or "TLS")
        return smtp

    @property
    def _dialled(self) -> str:
        return self._account.address or self._account.smtp_host

    def _context(self) -> ssl.SSLContext:
        try:
            return ssl.create_default_context(cafile=self._options.ca_file)
        except (OSError, ssl.SSLError) as error:
            raise MailStopError("the file of authorities cannot be read", code="mail_bad_settings") from error

    def _hello(self, smtp: smtplib.SMTP) -> None:
        code, text = smtp.ehlo()
        if code != 250:
            code, text = smtp.helo()
        self._expect("greeting", code, text)
        if not self._steps:
            self._steps.append(_text(text).split("\n")[0])

    def _sign_in(self, smtp: smtplib.SMTP) -> None:
        """By one way alone, so that a wrong password is tried once."""
        if not self._account.username:
            return
        offered = smtp.esmtp_features.get("auth", "").upper().split()
        user, password = self._account.username.encode(), self._account.password.encode()
        if "PLAIN" in offered:
            answer = smtp.docmd("AUTH PLAIN", _base64(b"\0" + user + b"\0" + password))
        elif "LOGIN" in offered:
            self._expect("sign_in", *smtp.docmd("AUTH LOGIN"), wanted=334)
            self._expect("sign_in", *smtp.docmd(_base64(user)), wanted=334)
            answer = smtp.docmd(_base64(password))
        else:
            raise MailStopError(
                "neither PLAIN nor LOGIN is offered", code="mail_sign_in_not_offered", remote_text=" ".join(offered)
            )
        self._expect("sign_in", *answer)

    def _begin(self, smtp: smtplib.SMTP, *, utf8: bool) -> None:
        options = ["SMTPUTF8"] if utf8 and not self._account.sender.isascii() else []
        try:
            sender = mime.ascii_domain(self._account.sender, utf8=utf8)
        except UnicodeError as error:
            raise MailStopError("the sender's address cannot be written", code="mail_bad_settings") from error
        self._expect("sender", *smtp.mail(sender, options))

    def _expect(self, stage: str, code: int, text: bytes, *, wanted: int = 0) -> None:
        """Raises MailError for a reply that is not the one, and leaves the connection fit for the next mail."""
        if code == wanted or (not wanted and 200 <= code < 300):
            return
        error = refused(stage, code, _text(text))
        error.server = self.server
        if stage in ("sender", "recipient", "data") and code != 421 and self._connection is not None:
            with suppress(OSError, smtplib.SMTPException):
                self._connection.rset()
        else:
            self._drop()
        raise error

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    @contextmanager
    def _translated(self, *, is_sent: bool = False) -> Iterator[None]:
        try:
            yield
        except MailError as error:
            error.server = error.server or self.server
            raise
        except smtplib.SMTPException as error:
            self._drop()
            if is_sent:
                raise MailOutcomeUnknownError(
                    "no answer to the mail", because="mail_unreachable", server=self.server
                ) from error
            raise MailTransientError(
                "the connection broke off", code="mail_unreachable", server=self.server,
                remote_text=type(error).__name__,
            ) from error  # fmt: skip
        except (OSError, UnicodeError) as error:
            self._drop()
            found = network(error, is_sent=is_sent)
            found.server = self.server
            raise found from error


class _Smtp(smtplib.SMTP):
    """Certificates are checked against the server's name, whatever address is dialled."""

    def __init__(self, name: str, context: ssl.SSLContext | None, timeout: float) -> None:
        self._name, self._implicit = name, context
        own = socket.gethostname()
        super().__init__(local_hostname=own if own.isascii() and own else "localhost", timeout=timeout)

    def _get_socket(self, host: str, port: int, timeout: float) -> socket.socket:  # smtplib's hook for subclasses
        plain = socket.create_connection((host, port), timeout)
        if self._implicit is None:
            return plain
        return self._implicit.wrap_socket(plain, server_hostname=self._name)

    def secure(self, context: ssl.SSLContext) -> None:
        """TLS on the open connection; all that was said before it is forgotten (RFC 3207)."""
        if self.sock is None:
            raise smtplib.SMTPServerDisconnected("not connected")
        self.sock = context.wrap_socket(self.sock, server_hostname=self._name)
        self.file = None
        self.helo_resp = self.ehlo_resp = None
        self.esmtp_features = {}
        self.does_esmtp = False


def _base64(value: bytes) -> str:
    return base64.b64encode(value).decode("ascii")


def _text(reply: bytes) -> str:
    return reply.decode("utf-8", "replace")


def _is_loopback(host: str) -> bool:
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False

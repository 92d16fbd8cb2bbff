"""The interface by which the product sends mail. `sync` depends on `Mailer`, tests fake it; opening.py makes it.

One message has one recipient: whether a person was told is kept person by person.
"""

from __future__ import annotations

import re
import unicodedata
import uuid
from dataclasses import dataclass, field
from typing import Protocol

from connectors.mail.errors import MailError, MailRefusedError

# Seconds after which Exchange has surely put a mail that it took into Sent Items; look no sooner (Mailer.find_sent).
FIND_SENT_AFTER = 60.0

_ADDRESS = re.compile(r"[^\s@<>\"(),:;\\\[\]]+@[^\s@<>\"(),:;\\\[\]]+")
_MESSAGE_ID = re.compile(r"<[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]+@[A-Za-z0-9.-]+>")


@dataclass(frozen=True, slots=True)
class MailAccount:
    """By which account mail leaves, and how. The password is in no repr.

    kind: ews or smtp. sender: the account's primary SMTP address; with EWS the mailbox that sends, and keeps a copy.
    sender_name: shown beside the address (SMTP; Exchange shows the mailbox's own). username "": SMTP without sign-in.
    authentication: kerberos, negotiate, ntlm or basic (EWS; negotiate is NTLM under the other name). ews_url "": by
    Autodiscover; autodiscover_url is asked before the places that the sender's domain names. known_ews_url: what
    Autodiscover named before; it is asked again only when nothing usable answers there. security: starttls, tls or
    none (SMTP). password "" with kerberos: by the worker's own ticket or keytab.
    address: what is dialled in place of every server's name, which certificates are still checked against; "host", and
    for EWS also "host:port".
    """

    kind: str
    sender: str
    username: str = ""
    password: str = field(default="", repr=False)
    sender_name: str = ""
    authentication: str = "ntlm"
    ews_url: str = ""
    autodiscover_url: str = ""
    known_ews_url: str = ""
    smtp_host: str = ""
    smtp_port: int = 587
    security: str = "starttls"
    address: str = ""

    @property
    def domain(self) -> str:
        return self.sender.rpartition("@")[2].lower()


@dataclass(frozen=True, slots=True)
class MailOptions:
    """How to connect. Seconds throughout; `ca_file` None trusts the system's authorities.

    proxy: its URL, with percent-encoded credentials (EWS and Autodiscover); None connects directly, whatever the
    environment says. allow_plain: SMTP's password without TLS also to other machines than this one.
    """

    ca_file: str | None = None
    proxy: str | None = field(default=None, repr=False)
    connect_timeout: float = 15.0
    read_timeout: float = 60.0
    allow_plain: bool = False


@dataclass(frozen=True, slots=True)
class Message:
    """One mail. `text` is the plain part that SMTP sends beside `html`; Exchange makes its own of what EWS gets.

    message_id: of new_message_id(), stored before the first attempt and kept for all; by it a mail is found again.
    subject: one line; line breaks and control characters become blanks. Raises MailRefusedError for an address or an
    id that is none.
    """

    to: str
    subject: str
    html: str
    text: str
    message_id: str

    def __post_init__(self) -> None:
        if not _ADDRESS.fullmatch(self.to):
            raise MailRefusedError("the recipient's address is none", code="mail_recipient_refused")
        if not _MESSAGE_ID.fullmatch(self.message_id):
            raise MailRefusedError("the mail's id is none", code="mail_message_refused")
        object.__setattr__(self, "subject", _one_line(self.subject))
        for part in ("html", "text"):
            object.__setattr__(self, part, _storable(getattr(self, part)))


@dataclass(frozen=True, slots=True)
class Receipt:
    """The server took the mail. remote_text: what it said to that, such as the number in its queue."""

    message_id: str
    server: str
    remote_text: str = ""


@dataclass(frozen=True, slots=True)
class Check:
    """One step of verify(). name: address, connection, sign_in or sender. detail: what was found, in foreign words."""

    name: str
    is_ok: bool
    detail: str = ""
    error: MailError | None = None


class Mailer(Protocol):
    """One way to send, for the thread that opened it; closes with its context. Tries everything once, never waits."""

    can_find_sent: bool

    @property
    def ews_url(self) -> str:
        """The address in use, to be stored so that Autodiscover is spared the next time; "" by SMTP."""

    def send(self, message: Message) -> Receipt:
        """Raises MailError; its `reaction` says what to do."""

    def verify(self) -> tuple[Check, ...]:
        """Everything up to sending, without sending: the checks, the last one being the first that failed."""

    def find_sent(self, message_id: str) -> bool:
        """Whether the mail is in Sent Items. Raises MailError. Only where can_find_sent.

        Ask FIND_SENT_AFTER seconds after the attempt whose outcome is unknown: a mail may still be on its way there.
        """


def new_message_id(sender: str) -> str:
    """An id that no other mail has, of the domain of the address `sender`."""
    domain = sender.rpartition("@")[2].lower()
    try:
        domain = domain.encode("idna").decode("ascii")
    except UnicodeError:
        domain = "gatehouse.invalid"
    return f"<{uuid.uuid4().hex}@{domain or 'gatehouse.invalid'}>"


def _one_line(text: str) -> str:
    kept = (" " if unicodedata.category(sign) in ("Cc", "Zl", "Zp", "Cs") else sign for sign in text)
    return " ".join("".join(kept).split())


def _storable(text: str) -> str:
    """Without what no XML and no mail may hold."""
    return "".join(
        sign
        if sign in "\t\n\r" or (unicodedata.category(sign) not in ("Cc", "Cs") and sign not in "\ufffe\uffff")
        else "\ufffd"
        for sign in text
    )

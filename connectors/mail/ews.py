"""Mail by Exchange Web Services, through exchangelib, as the account itself (no impersonation).

exchangelib keeps adapters, user agent, and protocols with their credentials in globals of the process. Here each mailer
has a protocol of its own that is in no cache, whose sessions come from web.py; the library never sees the password.
Nothing is tried twice and nothing sleeps: failures come back as errors of ours (translate.py).

There is no idempotency key in EWS. Each mail carries its id twice, as InternetMessageId and in a property of ours by
which Sent Items are searched after an outcome that was not learnt.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import requests
from exchangelib import DELEGATE, UTC, Account, Build, Configuration, ExtendedProperty, HTMLBody, Mailbox, Version
from exchangelib import Message as EwsMessage
from exchangelib.protocol import CachingProtocol, FailFast, Protocol
from exchangelib.transport import NOAUTH
from exchangelib.util import is_xml

from connectors.mail import autodiscover, web
from connectors.mail.client import Check, MailAccount, MailOptions, Message, Receipt
from connectors.mail.errors import MailError, MailStopError
from connectors.mail.translate import UnexpectedStatusError, translate

# Every version in scope takes it (exchange.md 6.2); what the server's own version is, its first answer tells.
FIRST_VERSION = Version(Build(14, 2), "Exchange2010_SP2")

# What may mean that EWS is not where it was any more: nothing answers, something else does, or without the mailbox.
_MOVED = ("mail_unreachable", "mail_not_ews", "mail_certificate", "mail_server_failed", "mail_no_mailbox")


class _NoticeId(ExtendedProperty):  # type: ignore[misc]  # exchangelib has no types
    """Our mail's id, beside InternetMessageId, which a transport may replace."""

    distinguished_property_set_id = "PublicStrings"
    property_name = "GatehouseNoticeId"
    property_type = "String"


EwsMessage.register("gatehouse_notice", _NoticeId)


class _Uncached(CachingProtocol):  # type: ignore[misc]
    """Makes a protocol as any class makes its objects: the library's cache would share it, and keep it for ever."""

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        return type.__call__(cls, *args, **kwargs)


class _Protocol(Protocol, metaclass=_Uncached):  # type: ignore[misc]
    """One account's connection, with its own authorities, sign-in and timeouts."""

    def __init__(self, config: Configuration, account: MailAccount, options: MailOptions) -> None:
        self._account, self._options = account, options
        self.TIMEOUT = (options.connect_timeout, options.read_timeout)
        super().__init__(config=config)

    def raw_session(self, prefix: str, *args: Any, **kwargs: Any) -> requests.Session:
        session = web.new_session(self._options, self._account.address)
        session.headers["Content-Type"] = "text/xml; charset=utf-8"
        return session

    def create_session(self) -> requests.Session:
        session: requests.Session = super().create_session()
        session.auth = web.sign_in(self._account)
        return session


class _Once(FailFast):  # type: ignore[misc]
    """Every status that is not an answer of EWS's, as what it is; the library guesses from texts."""

    def raise_response_errors(self, response: requests.Response) -> None:
        is_fault = response.status_code == 500 and is_xml(response.content)
        if response.status_code != 200 and not is_fault:
            raise UnexpectedStatusError.of(response)


class EwsMailer:
    """A Mailer. The first call connects."""

    can_find_sent = True

    def __init__(self, account: MailAccount, options: MailOptions) -> None:
        self._mail_account, self._options = account, options
        self._ews_url = account.ews_url or account.known_ews_url
        # Of an address that Autodiscover named some time ago, it may be asked again, once.
        self._is_old = not account.ews_url and bool(account.known_ews_url)
        self._opened: Account | None = None

    @property
    def ews_url(self) -> str:
        return self._ews_url

    @property
    def server(self) -> str:
        """The name that errors and receipts tell."""
        return autodiscover.host(self._ews_url) or self._mail_account.domain

    def send(self, message: Message) -> Receipt:
        account, sent = self._ready()  # before anything is sent: what fails here has sent nothing
        with self._translated():
            item = EwsMessage(
                account=account,
                subject=message.subject,
                body=HTMLBody(message.html),
                to_recipients=[Mailbox(email_address=message.to)],
                message_id=message.message_id,
                gatehouse_notice=message.message_id,
            )
        with self._translated(is_sent=True):
            item.send(save_copy=True, copy_to_folder=sent)
        return Receipt(message.message_id, self.server)

    def find_sent(self, message_id: str) -> bool:
        _, sent = self._ready()
        with self._translated():
            return int(sent.filter(gatehouse_notice=message_id).count()) > 0

    def verify(self) -> tuple[Check, ...]:
        checks: list[Check] = []
        try:
            with self._translated():
                self._account()
            checks.append(Check("address", is_ok=True, detail=self._ews_url))
            account, folder = self._ready()
            checks = [Check("address", is_ok=True, detail=self._ews_url)]  # it may be another one by now
            version = account.version
        except MailError as error:
            checks.append(Check(_step(error), is_ok=False, detail=error.remote_text, error=error))
            return tuple(checks)
        return (
            *checks,
            Check("connection", is_ok=True, detail=str(version.build)),
            Check("sign_in", is_ok=True, detail=self._mail_account.username),
            Check("sender", is_ok=True, detail=f"{self._mail_account.sender}: {folder.name}"),
        )

    def close(self) -> None:
        if self._opened is not None:
            self._opened.protocol.close()

    def _ready(self) -> tuple[Account, Any]:
        """The account, signed in, and its Sent Items: at the known address, or where Autodiscover says that EWS is by
        now. Raises MailError."""
        try:
            return self._signed_in()
        except MailError as error:
            if not self._has_moved(error):
                raise
        return self._signed_in()

    def _signed_in(self) -> tuple[Account, Any]:
        with self._translated():
            account = self._account()
            return account, account.sent

    def _has_moved(self, error: MailError) -> bool:
        """Whether Autodiscover names another address now than the old one, at which the error came."""
        if not self._is_old or error.code not in _MOVED:
            return False
        self._is_old = False
        try:
            found = self._discovered()
        except MailError:
            return False
        if found.lower() == self._ews_url.lower():
            return False
        self.close()
        self._ews_url, self._opened = found, None
        return True

    def _account(self) -> Account:
        if self._opened is None:
            self._ews_url = self._ews_url or self._discovered()
            if not autodiscover.is_secure(self._ews_url):
                raise MailStopError("EWS is spoken over https alone", code="mail_bad_settings")
            self._opened = self._new_account()
        return self._opened

    def _discovered(self) -> str:
        return autodiscover.discover(self._mail_account, self._options).ews_url

    def _new_account(self) -> Account:
        def configuration() -> Configuration:
            return Configuration(
                service_endpoint=self._ews_url, auth_type=NOAUTH, version=FIRST_VERSION, retry_policy=_Once(),
                max_connections=1,
            )  # fmt: skip

        # Account() makes a protocol of the library's cache, without credentials; ours takes its place unused.
        account = Account(
            self._mail_account.sender, config=configuration(), access_type=DELEGATE, locale="en_US",
            default_timezone=UTC,
        )  # fmt: skip
        account.protocol = _Protocol(configuration(), self._mail_account, self._options)
        return account

    @contextmanager
    def _translated(self, *, is_sent: bool = False) -> Iterator[None]:
        try:
            yield
        except MailError as error:
            error.server = error.server or self.server
            raise
        except Exception as error:
            raise translate(
                error, server=self.server, authentication=self._mail_account.authentication, is_sent=is_sent
            ) from error


def _step(error: MailError) -> str:
    """The check that an error belongs to."""
    if error.code in ("mail_address_not_found", "mail_bad_settings"):
        return "address"
    if error.code in ("mail_no_mailbox", "mail_send_as_denied", "mail_mailbox_full"):
        return "sender"
    if error.code.startswith(("mail_sign_in", "mail_kerberos")) or error.code == "mail_account_disabled":
        return "sign_in"
    return "connection"

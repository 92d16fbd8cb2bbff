"""An SMTP server of an organisation: takes mail for its own mailboxes, with STARTTLS on one port and TLS on the other.

As a receive connector of Exchange does: who has not signed in may write to the organisation's people; who has, to
anybody, as himself. Mail for elsewhere is accepted and dropped. Sign-in (PLAIN, LOGIN) is offered within TLS alone.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import email
import email.policy
import socket
import socketserver
import ssl
import threading
import time

from lab.exchange.auth import Accounts
from lab.exchange.contract import Account
from lab.exchange.objects import Message
from lab.exchange.store import Store
from lab.faults import Faults

LARGEST_MAIL = 10 * 1024 * 1024
# Seconds after which a silent client is let go.
PATIENCE = 60.0


class DropError(Exception):
    """The connection is to be closed without a word."""


class SmtpServer:
    """start() binds (a port of 0 is chosen then), stop() closes everything. ports: of STARTTLS and of TLS."""

    def __init__(
        self,
        fqdn: str,
        host: str,
        ports: tuple[int, int],
        store: Store,
        accounts: Accounts,
        context: ssl.SSLContext,
        faults: Faults,
    ) -> None:
        self.fqdn, self.host, (self.port, self.tls_port) = fqdn, host, ports
        self.store, self.accounts, self.context, self.faults = store, accounts, context, faults
        self._listeners: list[_Listener] = []

    def start(self) -> None:
        """Raises OSError when a port is taken."""
        try:
            for port, is_tls in ((self.port, False), (self.tls_port, True)):
                self._listeners.append(_Listener(self, port, is_tls=is_tls))
        except OSError:
            self.stop()
            raise
        self.port, self.tls_port = (int(one.server_address[1]) for one in self._listeners)
        for listener in self._listeners:
            name = f"{self.fqdn} smtp"
            threading.Thread(target=listener.serve_forever, args=(0.05,), name=name, daemon=True).start()

    def stop(self) -> None:
        for listener in self._listeners:
            if listener.is_serving:
                listener.shutdown()
            listener.server_close()
        self._listeners = []


class _Listener(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False

    def __init__(self, site: SmtpServer, port: int, *, is_tls: bool) -> None:
        self.site, self.is_tls, self.is_serving = site, is_tls, False
        super().__init__((site.host, port), _Conversation)

    def serve_forever(self, poll_interval: float = 0.5) -> None:
        self.is_serving = True
        super().serve_forever(poll_interval)

    def handle_error(self, request: object, client_address: object) -> None:
        """Nothing: clients go away."""


class _Conversation(socketserver.BaseRequestHandler):
    server: _Listener

    def setup(self) -> None:
        self.site = self.server.site
        self.is_tls = False
        self.account: Account | None = None
        self.sender: str | None = None
        self.recipients: list[str] = []
        self.connection: socket.socket = self.request
        self.connection.settimeout(PATIENCE)
        if self.server.is_tls:
            self._secure()
        self.file = self.connection.makefile("rb")

    def handle(self) -> None:
        with contextlib.suppress(DropError, OSError):
            self._reply("greeting", f"220 {self.site.fqdn} Microsoft ESMTP MAIL Service ready")
            while line := self.file.readline(8192):
                verb, _, rest = line.decode("utf-8", "replace").strip().partition(" ")
                if verb.upper() == "QUIT":
                    self._reply("", "221 2.0.0 Service closing transmission channel")
                    return
                self._command(verb.upper(), rest.strip())

    def finish(self) -> None:
        self.file.close()
        with contextlib.suppress(OSError):
            self.connection.close()

    def _command(self, verb: str, rest: str) -> None:
        match verb:
            case "EHLO":
                self._hello(rest)
            case "HELO":
                self._reply("", f"250 {self.site.fqdn} Hello")
            case "STARTTLS" if not self.is_tls:
                self._reply("", "220 2.0.0 SMTP server ready")
                self._secure()
                self.file = self.connection.makefile("rb")
                self._forget()
            case "AUTH":
                self._auth(rest)
            case "MAIL":
                self._mail(rest)
            case "RCPT":
                self._rcpt(rest)
            case "DATA":
                self._data()
            case "RSET":
                self._forget()
                self._reply("", "250 2.0.0 Resetting")
            case "NOOP":
                self._reply("", "250 2.0.0 OK")
            case _:
                self._reply("", "500 5.3.3 Unrecognized command")

    def _reply(self, step: str, text: str) -> bool:
        """Say it, or what a fault for the step wants said. True: as meant."""
        faults, fqdn = self.site.faults, self.site.fqdn
        if step and faults.take("smtp_drop", fqdn, step):
            raise DropError
        if step and (fault := faults.take("smtp_reply", fqdn, step)):
            self.connection.sendall(f"{fault.value or '451 4.3.0 Try again later'}\r\n".encode())
            return False
        self.connection.sendall(f"{text}\r\n".encode())
        return True

    def _secure(self) -> None:
        self.connection = self.site.context.wrap_socket(self.connection, server_side=True)
        self.is_tls = True

    def _forget(self) -> None:
        self.sender, self.recipients = None, []

    def _hello(self, name: str) -> None:
        offered = [f"{self.site.fqdn} Hello [{name}]", f"SIZE {LARGEST_MAIL}", "8BITMIME", "SMTPUTF8"]
        offered.append("AUTH PLAIN LOGIN" if self.is_tls else "STARTTLS")
        lines = [f"250{' ' if one is offered[-1] else '-'}{one}" for one in offered]
        self._forget()
        self._reply("", "\r\n".join(lines))

    # --- sign-in ---

    def _auth(self, rest: str) -> None:
        kind, _, initial = rest.partition(" ")
        if not self.is_tls:
            self._reply("", "538 5.7.11 Encryption required for requested authentication mechanism")
            return
        if kind.upper() == "PLAIN":
            _, name, password = f"{self._decoded(initial or self._asked(''))}\0\0".split("\0")[:3]
        elif kind.upper() == "LOGIN":
            name = self._decoded(initial or self._asked("VXNlcm5hbWU6"))
            password = self._decoded(self._asked("UGFzc3dvcmQ6"))
        else:
            self._reply("", "504 5.7.4 Unrecognized authentication type")
            return
        account = self.site.accounts.check(name, password)
        if account is None:
            self._reply("auth", "535 5.7.3 Authentication unsuccessful")
        elif self._reply("auth", "235 2.7.0 Authentication successful"):
            self.account = account

    def _asked(self, challenge: str) -> str:
        self._reply("", f"334 {challenge}")
        line: bytes = self.file.readline(8192)
        return line.decode("ascii", "replace").strip()

    def _decoded(self, text: str) -> str:
        try:
            return base64.b64decode(text, validate=True).decode("utf-8")
        except (binascii.Error, UnicodeDecodeError):
            return ""

    # --- a mail ---

    def _mail(self, rest: str) -> None:
        address = _address(rest, "FROM:")
        if self.account is not None:
            own = self.site.store.find_mailbox(self.account.upn)
            if own is None or address.lower() != own.smtp.lower():
                self._reply("mail", "550 5.7.60 SMTP; Client does not have permissions to send as this sender")
                return
        if self._reply("mail", "250 2.1.0 Sender OK"):
            self.sender, self.recipients = address, []

    def _rcpt(self, rest: str) -> None:
        address = _address(rest, "TO:")
        if self.sender is None:
            self._reply("", "503 5.5.2 Need mail command")
            return
        is_own = address.lower().rpartition("@")[2] in (self.site.store.domain, *self._child_domains())
        if self.site.store.find_mailbox(address) is None and is_own:
            self._reply("rcpt", "550 5.1.1 RESOLVER.ADR.RecipNotFound; not found")
        elif not is_own and self.account is None:
            self._reply("rcpt", "550 5.7.54 SMTP; Unable to relay recipient in non-accepted domain")
        elif self._reply("rcpt", "250 2.1.5 Recipient OK"):
            self.recipients.append(address)

    def _child_domains(self) -> set[str]:
        with self.site.store.lock:
            return {mailbox.smtp.rpartition("@")[2].lower() for mailbox in self.site.store.mailboxes.values()}

    def _data(self) -> None:
        if not self.recipients:
            self._reply("", "503 5.5.2 Need rcpt command")
            return
        if not self._reply("data", "354 Start mail input; end with <CRLF>.<CRLF>"):
            return
        lines: list[bytes] = []
        while (line := self.file.readline(LARGEST_MAIL)) not in (b".\r\n", b""):
            lines.append(line[1:] if line.startswith(b".") else line)
        if not line:
            raise DropError
        fault = self.site.faults.peek("smtp_reply", self.site.fqdn, "message")
        if fault is None:
            self._deliver(b"".join(lines))
        if lost := self.site.faults.take("outcome_lost", self.site.fqdn, "message"):
            time.sleep(float(lost.value or 0))
            raise DropError
        self._reply("message", "250 2.6.0 Queued mail for delivery")
        self._forget()

    def _deliver(self, data: bytes) -> None:
        mail = email.message_from_bytes(data, policy=email.policy.default)
        html, plain = (mail.get_body((kind,)) for kind in ("html", "plain"))
        text = str(plain.get_content()) if plain else ""
        for address in self.recipients:
            mailbox = self.site.store.find_mailbox(address)
            if mailbox is None:
                continue
            message = Message(
                sender=self.sender or "", subject=str(mail.get("Subject", "")), recipients=list(self.recipients),
                body=str(html.get_content()) if html else text, body_type="HTML" if html else "Text", text=text,
                message_id=str(mail.get("Message-ID", "")), received=self.site.store.now(),
                headers={name: str(value) for name, value in mail.items()},
            )  # fmt: skip
            self.site.store.deliver(mailbox, message)


def _address(rest: str, prefix: str) -> str:
    """Of `FROM:<a@b> SIZE=1`."""
    text = rest[len(prefix) :] if rest.upper().startswith(prefix) else rest
    return text.strip().partition(">")[0].lstrip("<").strip()

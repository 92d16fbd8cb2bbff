"""By which account an organization's people are told: set up, opened for sending, tried out.

Refuses to decide what is sent and to whom (sync/notifying). The password goes to the mail package when a mailer is
opened and nowhere else.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import TypeAlias
from urllib.parse import urlsplit

from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from django.db import transaction
from django.db.models.functions import Now
from django.utils.translation import gettext_lazy as _

from connectors.actors import Actor
from connectors.authorities import authority_file
from connectors.mail.client import Check, MailAccount, Mailer, MailOptions
from connectors.mail.errors import MailError, MailStopError
from connectors.mail.opening import open_mailer
from connectors.models import Authentication, ExchangeOrganization, NotificationAccount
from connectors.secrets import Secret, SecretError
from connectors.validation import certificates_clean, host_name_clean

logger = logging.getLogger(__name__)

# Seconds that the "Test" button waits for a server: somebody sits before the page.
TEST_OPTIONS = MailOptions(connect_timeout=8.0, read_timeout=15.0)

_FIELDS = (
    "channel", "sender", "username", "password", "authentication", "ews_url", "autodiscover_url", "smtp_host",
    "smtp_port", "smtp_security", "ca_certificates",
)  # fmt: skip
# connectors.mail.opening.open_mailer, or a fake of it: (account, options) -> a mailer for as long as the context lasts.
OpenMailer: TypeAlias = Callable[[MailAccount, MailOptions], AbstractContextManager[Mailer]]


@dataclass(frozen=True, slots=True)
class NotificationAccountSettings:
    """An account as entered. password None: the one that is stored stays, while account and server stay the same."""

    channel: str = NotificationAccount.Channel.NONE
    sender: str = ""
    username: str = ""
    password: Secret | None = field(default=None)
    authentication: str = Authentication.NTLM
    ews_url: str = ""
    autodiscover_url: str = ""
    smtp_host: str = ""
    smtp_port: int = 587
    smtp_security: str = NotificationAccount.Security.STARTTLS
    ca_certificates: str = ""


def notification_account_of(organization: ExchangeOrganization) -> NotificationAccount:
    """The organization's account; one of channel "none", unsaved, where none was set up."""
    found = NotificationAccount.objects.filter(organization=organization).first()
    return found if found is not None else NotificationAccount(organization=organization)


@transaction.atomic
def notification_account_configure(
    *, organization: ExchangeOrganization, settings: NotificationAccountSettings, actor: Actor
) -> NotificationAccount:
    """Write the account anew. What was wrong with it before is forgotten: the next mail tries it.

    Raises ValidationError keyed by field. A stored password is kept for the account and server that it was entered for
    alone: who could point it at another server would learn it there.
    """
    ExchangeOrganization.objects.select_for_update().get(pk=organization.pk)
    row = notification_account_of(organization)
    settings = _password_kept(row, settings)
    clean = _clean(settings)
    for name in _FIELDS:
        setattr(row, name, getattr(clean, name))
    row.known_ews_url = ""
    row.last_error_code, row.last_error_params, row.last_error_at = "", {}, None
    row.save()
    logger.info("notification account of %s set to %s by %s", organization.public_id, row.channel, actor.name)
    return row


def _password_kept(row: NotificationAccount, settings: NotificationAccountSettings) -> NotificationAccountSettings:
    if settings.password is not None:
        return settings
    where = ("channel", "username", "ews_url", "autodiscover_url", "smtp_host")
    is_same = all(str(getattr(row, name)).strip() == str(getattr(settings, name)).strip() for name in where)
    # Without a sender's domain in common, Autodiscover leads elsewhere.
    is_same = is_same and row.sender.rpartition("@")[2].lower() == settings.sender.strip().rpartition("@")[2].lower()
    if bool(row.password) and not is_same and settings.channel != NotificationAccount.Channel.NONE:
        raise ValidationError(
            {
                "password": ValidationError(
                    _(
                        "The stored password was entered for another account or server. Enter the password for this "
                        "one."
                    ),
                    code="password_again",
                )
            }
        )
    return replace(settings, password=row.password if is_same else Secret(""))


def _clean(settings: NotificationAccountSettings) -> NotificationAccountSettings:
    """Trimmed; what the channel does not use is emptied. Raises ValidationError keyed by field."""
    channels = NotificationAccount.Channel
    problems: dict[str, ValidationError] = {}
    if settings.channel == channels.NONE:
        return NotificationAccountSettings(password=Secret(""))
    if settings.channel not in channels.values:
        raise ValidationError({"channel": _choice_error(settings.channel, channels.values)})
    sender = settings.sender.strip()
    try:
        validate_email(sender)
    except ValidationError:
        problems["sender"] = ValidationError(
            _("“%(value)s” is not a mail address. Enter the account's own address, such as phones@contoso.com."),
            code="sender_malformed",
            params={"value": sender[:80]},
        )
    try:
        authorities = certificates_clean(settings.ca_certificates)
    except ValidationError as error:
        problems["ca_certificates"], authorities = error, ""
    common = NotificationAccountSettings(
        channel=settings.channel,
        sender=sender,
        username=settings.username.strip(),
        password=settings.password,
        ca_certificates=authorities,
    )
    clean = _ews(common, settings, problems) if settings.channel == channels.EWS else _smtp(common, settings, problems)
    if problems:
        raise ValidationError({name: [error] for name, error in problems.items()})
    return clean


def _ews(
    common: NotificationAccountSettings, settings: NotificationAccountSettings, problems: dict[str, ValidationError]
) -> NotificationAccountSettings:
    if settings.authentication not in Authentication.values:
        problems["authentication"] = _choice_error(settings.authentication, Authentication.values)
    if not common.username:
        problems["username"] = ValidationError(
            _("Exchange Web Services need an account. Enter it as name@contoso.com or CONTOSO\\name."),
            code="username_missing",
        )
    if not common.password and settings.authentication != Authentication.KERBEROS:
        problems["password"] = ValidationError(
            _("A password is needed; only Kerberos can sign in without one, from a keytab."), code="password_missing"
        )
    urls = {}
    for name in ("ews_url", "autodiscover_url"):
        urls[name] = getattr(settings, name).strip()
        if urls[name] and not _is_https(urls[name]):
            problems[name] = ValidationError(
                _(
                    "“%(value)s” is not an address that begins with https://. Enter it whole, such as %(example)s, or "
                    "leave it empty."
                ),
                code="url_malformed",
                params={
                    "value": urls[name][:80],
                    "example": "https://mail.contoso.com/EWS/Exchange.asmx"
                    if name == "ews_url"
                    else "https://autodiscover.contoso.com/autodiscover/autodiscover.xml",
                },
            )
    return replace(common, authentication=settings.authentication, **urls)


def _is_https(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme.lower() == "https" and bool(parts.hostname) and not parts.username and " " not in url
    except ValueError:
        return False


def _smtp(
    common: NotificationAccountSettings, settings: NotificationAccountSettings, problems: dict[str, ValidationError]
) -> NotificationAccountSettings:
    security = NotificationAccount.Security
    host = settings.smtp_host.strip()
    try:
        host = host_name_clean(host)
    except ValidationError as error:
        problems["smtp_host"] = error
    if not 1 <= settings.smtp_port <= 65535:
        problems["smtp_port"] = ValidationError(
            _("Port %(port)s is not between 1 and 65535. Usual are 587 with STARTTLS and 465 with TLS."),
            code="port_range",
            params={"port": settings.smtp_port},
        )
    if settings.smtp_security not in security.values:
        problems["smtp_security"] = _choice_error(settings.smtp_security, security.values)
    elif settings.smtp_security == security.NONE and common.username:
        problems["smtp_security"] = ValidationError(
            _(
                "Without TLS the password would go readable over the network. Use STARTTLS or TLS, or a relay that "
                "needs no sign-in, and leave the account empty."
            ),
            code="clear_text",
        )
    if common.username and not common.password:
        problems["password"] = ValidationError(
            _("A password is needed to sign in. For a relay that needs no sign-in, leave the account empty."),
            code="password_missing",
        )
    return replace(
        common,
        password=common.password if common.username else Secret(""),
        smtp_host=host,
        smtp_port=settings.smtp_port,
        smtp_security=settings.smtp_security,
    )


def _choice_error(value: str, choices: list[str]) -> ValidationError:
    return ValidationError(
        _("“%(value)s” cannot be chosen here. Choose one of: %(choices)s."),
        code="choice_unknown",
        params={"value": value[:80], "choices": ", ".join(choices)},
    )


# --- sending --------------------------------------------------------------------------------------------------------


def mail_account_of(row: NotificationAccount) -> MailAccount:
    """What the mail package is told. Raises MailStopError: mail_not_configured, mail_secret_unreadable."""
    if row.channel == NotificationAccount.Channel.NONE:
        raise MailStopError("no notification account is set up", code="mail_not_configured")
    try:
        password = row.password.reveal()
    except SecretError:
        raise MailStopError("the stored password cannot be read", code="mail_secret_unreadable") from None
    return MailAccount(
        kind=row.channel,
        sender=row.sender,
        username=row.username,
        password=password,
        authentication=row.authentication or Authentication.NTLM,
        ews_url=row.ews_url,
        autodiscover_url=row.autodiscover_url,
        known_ews_url=row.known_ews_url,
        smtp_host=row.smtp_host,
        smtp_port=row.smtp_port,
        security=row.smtp_security,
    )


@contextmanager
def mailer_for(
    organization: ExchangeOrganization,
    *,
    options: MailOptions = MailOptions(),  # noqa: B008 (frozen)
    is_address_known: bool = True,
    open_with: OpenMailer = open_mailer,
) -> Iterator[Mailer]:
    """A mailer of the organization's account, read anew at each call; closed with the context. Hold no transaction.

    is_address_known False: Autodiscover is asked even though it named an address before. What it names is kept.
    Raises MailError; MailStopError mail_not_configured and mail_secret_unreadable beside what opening raises.
    """
    row = notification_account_of(organization)
    account = mail_account_of(row)
    if not is_address_known:
        account = replace(account, known_ews_url="")
    with ExitStack() as stack:
        if row.ca_certificates:
            options = replace(options, ca_file=stack.enter_context(authority_file(row.ca_certificates)))
        mailer = stack.enter_context(open_with(account, options))
        try:
            yield mailer
        finally:
            _address_keep(row, mailer.ews_url)


def _address_keep(row: NotificationAccount, ews_url: str) -> None:
    """What Autodiscover named, unless it was the same already, or the account was set up anew meanwhile."""
    most = NotificationAccount._meta.get_field("known_ews_url").max_length or 0
    if row.channel != NotificationAccount.Channel.EWS or row.ews_url or not 0 < len(ews_url) <= most:
        return
    if ews_url != row.known_ews_url:
        same = {name: getattr(row, name) for name in ("channel", "sender", "ews_url", "autodiscover_url")}
        NotificationAccount.objects.filter(pk=row.pk, **same).update(known_ews_url=ews_url)


def notification_account_test(
    organization: ExchangeOrganization, *, open_with: OpenMailer = open_mailer
) -> tuple[Check, ...]:
    """Try the account up to sending, and keep on its row what was wrong. Takes seconds; raises no MailError."""
    try:
        with mailer_for(organization, options=TEST_OPTIONS, is_address_known=False, open_with=open_with) as mailer:
            checks = mailer.verify()
    except MailError as error:
        checks = (Check("connection", is_ok=False, error=error),)
    failed = next((check.error for check in checks if not check.is_ok), None)
    account_outcome_note(organization, failed)
    return checks


def account_outcome_note(organization: ExchangeOrganization, error: MailError | None, *, sent: bool = False) -> None:
    """Keep how the account did last: what was wrong, None when nothing; `sent`: a mail left."""
    values: dict[str, object] = {
        "last_error_code": error.code if error else "",
        "last_error_params": error.params if error else {},
        "last_error_at": Now() if error else None,
    }
    if sent:
        values["last_sent_at"] = Now()
    NotificationAccount.objects.filter(organization=organization).update(**values)

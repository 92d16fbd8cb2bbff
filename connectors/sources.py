"""Where a tenant's device records come from: set it up, open it, try it.

Refuses to read records (sync.records does) and to show what is secret: a secret left empty keeps the one stored.
Raises ValidationError keyed by field for what people can put right. `source_verify` and `source_for` reach the
network; neither is called inside a transaction.
"""

from __future__ import annotations

import datetime
import logging
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import transaction
from django.utils import timezone
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from connectors.actors import Actor
from connectors.exchange.client import never
from connectors.graph.client import Options
from connectors.graph.clouds import CLOUDS, cloud
from connectors.graph.credentials import Credentials, read_certificate
from connectors.graph.errors import CanceledError, GraphError, StopGraphError, TransientGraphError
from connectors.graph.source import GraphSource, connect
from connectors.graph.verification import Check
from connectors.models import DeviceSource, Tenant
from connectors.secrets import Secret, SecretError

logger = logging.getLogger(__name__)

# Seconds. Somebody waits for the page.
VERIFY_SECONDS = 20.0
# Before a secret or certificate ends, so that it can be renewed in time.
EXPIRY_WARNING = datetime.timedelta(days=30)

_NO_SECRET = Secret("")


@dataclass(frozen=True, slots=True)
class SourceSettings:
    """As entered. Secrets that are empty keep what is stored. Roots: empty for those of the cloud.

    secret_expires_at: as the directory said when the secret was made; a certificate tells its own end.
    """

    kind: str
    cloud: str = "global"
    directory_id: str = ""
    client_id: str = ""
    credential: str = DeviceSource.Credential.SECRET
    client_secret: Secret = field(default_factory=lambda: _NO_SECRET)
    certificate: Secret = field(default_factory=lambda: _NO_SECRET)
    secret_expires_at: datetime.datetime | None = None
    login_root: str = ""
    graph_root: str = ""


def source_of(tenant: Tenant) -> DeviceSource:
    """The tenant's source; a tenant that never chose one has one of kind "none", which is not stored."""
    return DeviceSource.objects.filter(tenant=tenant).first() or DeviceSource(tenant=tenant)


@transaction.atomic
def source_configure(*, tenant: Tenant, values: SourceSettings, actor: Actor) -> DeviceSource:
    """Choose the source and how it is reached. Raises ValidationError keyed by field.

    Another directory or application is read from the beginning: what was remembered of the old one is dropped. A stored
    client secret is kept for the sign-in address that it was entered for, and for Microsoft's own: who could name
    another one would learn it there. (A certificate's key never leaves.)
    """
    # Locked, so that two people who save at once make one row.
    Tenant.objects.select_for_update().get(pk=tenant.pk)
    source = source_of(tenant)
    before = (source.kind, source.cloud, source.login_root, source.graph_root, source.directory_id, source.client_id)
    if values.kind not in DeviceSource.Kind.values:
        raise ValidationError(
            {"kind": ValidationError(_("“%(value)s” is no source."), code="kind", params={"value": values.kind})}
        )
    source.kind = DeviceSource.Kind(values.kind)
    if source.kind == DeviceSource.Kind.GRAPH:
        _graph_set(source, values)
    after = (source.kind, source.cloud, source.login_root, source.graph_root, source.directory_id, source.client_id)
    if after != before:
        source.users_delta_link = ""
        # Until the new one has spoken, nobody is kept out for want of a record.
        source.devices_read_at = source.users_read_at = source.last_pushed_at = None
    source.last_error_code, source.last_error_params, source.last_error_at = "", {}, None
    source.save()
    logger.info("source of tenant %s set to %s by %s", tenant.public_id, source.kind, actor.name)
    return source


def _graph_set(source: DeviceSource, values: SourceSettings) -> None:
    """Set the fields of `source`, unsaved. Raises one ValidationError with all that is wrong."""
    problems: dict[str, ValidationError] = {}
    former = _login_of(source)
    source.cloud = values.cloud
    source.directory_id = values.directory_id.strip().lower()
    source.client_id = values.client_id.strip().lower()
    source.login_root, source.graph_root = values.login_root.strip(), values.graph_root.strip()
    if source.cloud not in CLOUDS:
        problems["cloud"] = ValidationError(
            _("“%(value)s” is no cloud that Gatehouse knows. Choose one of: %(choices)s."),
            code="cloud",
            params={"value": source.cloud, "choices": ", ".join(CLOUDS)},
        )
    for name, text in (("login_root", source.login_root), ("graph_root", source.graph_root)):
        if text and not _is_root(text):
            problems[name] = ValidationError(
                _(
                    "“%(value)s” cannot be used. Enter the scheme and host alone, such as https://graph.microsoft.com; "
                    "plain http is taken only for this machine itself. Leave it empty for the cloud's own address."
                ),
                code="root",
                params={"value": text},
            )
    if not _is_directory(source.directory_id):
        problems["directory_id"] = ValidationError(
            _(
                "“%(value)s” is not a directory (tenant) ID. Copy the GUID from the overview page of your directory, "
                "or enter one of its domain names, such as contoso.onmicrosoft.com."
            ),
            code="directory_id",
            params={"value": values.directory_id},
        )
    if not _is_guid(source.client_id):
        problems["client_id"] = ValidationError(
            _(
                "“%(value)s” is not an application (client) ID. Copy the GUID from the overview page of the app "
                "registration; the secret's own ID is another one."
            ),
            code="client_id",
            params={"value": values.client_id},
        )
    try:
        _credential_set(source, values, is_known=_login_of(source) in {former, *(one.login for one in CLOUDS.values())})
    except ValidationError as error:
        problems.update({name: errors[0] for name, errors in error.error_dict.items()})
    if problems:
        raise ValidationError(problems)


def _login_of(source: DeviceSource) -> str:
    """The sign-in address that the source's settings come to; "" where they come to none."""
    try:
        return cloud(source.cloud or "global", login=source.login_root).login
    except StopGraphError:
        return ""


def _credential_set(source: DeviceSource, values: SourceSettings, *, is_known: bool) -> None:
    """is_known: the stored secret may go to the address that is wanted."""
    if values.credential not in DeviceSource.Credential.values:
        raise ValidationError(
            {
                "credential": ValidationError(
                    _("Choose a client secret or a certificate."),
                    code="credential",
                    params={"value": values.credential},
                )
            }
        )
    source.credential = DeviceSource.Credential(values.credential)
    if source.credential == DeviceSource.Credential.CERTIFICATE:
        if values.certificate:
            source.certificate = values.certificate
        source.credential_expires_at = _certificate_expiry(source.certificate)
        return
    if values.client_secret:
        if _is_guid(values.client_secret.reveal().strip()):
            raise ValidationError(
                {
                    "client_secret": ValidationError(
                        _(
                            "This is the ID of a secret and not the secret itself. Copy the column “Value”, which the "
                            "directory shows only when the secret is made; make a new one if it is lost."
                        ),
                        code="secret_id",
                    )
                }
            )
        source.client_secret = Secret(values.client_secret.reveal().strip())
    elif source.client_secret and not is_known:
        raise ValidationError(
            {
                "client_secret": ValidationError(
                    _("The stored secret was entered for another sign-in address. Enter the secret for this one."),
                    code="secret_again",
                )
            }
        )
    if not source.client_secret:
        raise ValidationError(
            {"client_secret": ValidationError(_("Enter the client secret's value."), code="secret_missing")}
        )
    source.credential_expires_at = values.secret_expires_at


def _certificate_expiry(pem: Secret) -> datetime.datetime:
    """When it ends. Raises ValidationError for one that cannot sign, or has ended."""

    def refuse(code: str, text: str | Promise, **params: object) -> ValidationError:
        return ValidationError({"certificate": ValidationError(str(text), code=code, params=params)})

    if not pem:
        raise refuse("certificate_missing", _("Give the private key and the certificate as PEM text."))
    try:
        expires = read_certificate(pem.reveal()).expires
    except SecretError as error:
        raise refuse("certificate_lost", str(error)) from None
    except StopGraphError as error:
        raise refuse(
            "certificate_unreadable",
            _(
                "This cannot be used to sign in: %(reason)s. Give PEM text that holds the RSA private key (2048 bits "
                "or more, without a password) and the certificate that belongs to it."
            ),
            reason=str(error),
        ) from None
    if expires <= timezone.now():
        raise refuse(
            "certificate_expired",
            _("This certificate ended on %(day)s. Make a new one, and upload it to the app registration too."),
            day=f"{expires:%Y-%m-%d}",
        )
    return expires


def _is_guid(text: str) -> bool:
    try:
        return str(uuid.UUID(text)) == text.lower()
    except ValueError:
        return False


def _is_directory(text: str) -> bool:
    try:
        # Any secret: only the name of the directory is asked about.
        Credentials(text, str(uuid.UUID(int=0)), client_secret="-").check(timezone.now())  # noqa: S106
    except StopGraphError:
        return False
    return True


def _is_root(text: str) -> bool:
    try:
        cloud("global", graph=text)
    except StopGraphError:
        return False
    return True


# --- reaching it ------------------------------------------------------------------------------------------------


@contextmanager
def source_for(
    tenant: Tenant, should_stop: Callable[[], bool] = never, *, options: Options | None = None
) -> Iterator[GraphSource]:
    """The tenant's Graph, for as long as the context lasts. Raises GraphError, CanceledError.

    Read anew at each call: the secret may have been changed since.
    """
    source = source_of(tenant)
    if source.kind != DeviceSource.Kind.GRAPH:
        raise StopGraphError("the tenant's source is not Microsoft Graph", code="graph_bad_settings")
    place = cloud(source.cloud, login=source.login_root, graph=source.graph_root)
    with connect(_credentials(source), place, options or _options(), should_stop=should_stop) as graph:
        yield graph


def _options() -> Options:
    return Options(proxy=settings.GRAPH_PROXY or None, ca_file=settings.GRAPH_CA_FILE or None)


def _credentials(source: DeviceSource) -> Credentials:
    by_certificate = source.credential == DeviceSource.Credential.CERTIFICATE
    try:
        secret = (source.certificate if by_certificate else source.client_secret).reveal()
    except SecretError:
        raise StopGraphError("the stored secret cannot be read", code="secret_unreadable") from None
    return Credentials(
        source.directory_id,
        source.client_id,
        client_secret="" if by_certificate else secret,
        certificate=secret if by_certificate else "",
    )


@dataclass(frozen=True, slots=True)
class Verified:
    """What trying the source led to: its checks in order, or the error that came before any of them."""

    checks: tuple[Check, ...] = ()
    error: GraphError | None = None

    @property
    def is_ok(self) -> bool:
        return self.error is None and all(check.is_ok for check in self.checks)


def source_verify(tenant: Tenant) -> Verified:
    """Try it, within VERIFY_SECONDS: sign in, and read a little of everything that is needed. Changes nothing."""
    end = time.monotonic() + VERIFY_SECONDS
    options = Options(
        proxy=settings.GRAPH_PROXY or None,
        ca_file=settings.GRAPH_CA_FILE or None,
        connect_timeout=5.0,
        read_timeout=10.0,
        patience=10.0,
        deadline=VERIFY_SECONDS,
        page_size=1,
    )
    try:
        with source_for(tenant, lambda: time.monotonic() > end, options=options) as graph:
            return Verified(checks=tuple(graph.verify()))
    except GraphError as error:
        return Verified(error=error)
    except CanceledError:
        return Verified(error=TransientGraphError("it took too long", code="graph_timed_out"))


# --- what readings report ---------------------------------------------------------------------------------------


def source_failed(*, source_id: int, error_code: str, params: dict[str, object]) -> None:
    """Remember why the last reading did not succeed."""
    DeviceSource.objects.filter(pk=source_id).update(
        last_error_code=error_code, last_error_params=params, last_error_at=timezone.now()
    )
    logger.warning("source %s could not be read: %s", source_id, error_code)


def source_answered(*, source_id: int) -> None:
    """What was wrong with it before is over."""
    DeviceSource.objects.filter(pk=source_id).exclude(last_error_code="").update(
        last_error_code="", last_error_params={}, last_error_at=None
    )

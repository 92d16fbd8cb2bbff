"""Tenants, their Exchange organisations, and the one connector of each.

Written by services alone; read through selectors. Times are UTC. Rows are addressed outside by `public_id`.
"""

from __future__ import annotations

import datetime
import uuid
import zoneinfo

from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator, RegexValidator
from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from connectors.secrets import EncryptedTextField


def validate_time_zone(value: str) -> None:
    if value not in zoneinfo.available_timezones():
        raise ValidationError(_("“%(value)s” is not a time zone name such as Europe/Berlin."), params={"value": value})


class Tenant(models.Model):
    """One customer: a directory and device-management tenant with its own administrators."""

    public_id = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    name = models.CharField(max_length=200, unique=True)
    time_zone = models.CharField(max_length=64, default="UTC", validators=[validate_time_zone])
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name


class ExchangeVersion(models.TextChoices):
    """Which Exchange an organisation's newest server runs; UNKNOWN until the first sync read it."""

    UNKNOWN = "", _("Not yet known")
    E2010 = "2010", "Exchange Server 2010"
    E2013 = "2013", "Exchange Server 2013"
    E2016 = "2016", "Exchange Server 2016"
    E2019 = "2019", "Exchange Server 2019"
    SE = "SE", "Exchange Server SE"


class ExchangeOrganization(models.Model):
    """One on-premises (or hosted) Exchange. What Exchange says of itself is kept here as last observed."""

    public_id = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, related_name="organizations")
    name = models.CharField(max_length=200, help_text="As shown in the console; Exchange's own name is observed_name.")
    observed_name = models.CharField(max_length=200, blank=True, help_text="Get-OrganizationConfig Name.")
    # Tells two Exchange organisations of the same name apart, and one that is reached by two connectors.
    observed_guid = models.UUIDField(null=True, blank=True, help_text="Get-OrganizationConfig Guid.")
    version = models.CharField(
        max_length=8, choices=ExchangeVersion.choices, default=ExchangeVersion.UNKNOWN, blank=True
    )
    build = models.CharField(max_length=64, blank=True, help_text="AdminDisplayVersion, as Exchange wrote it.")
    # Get-ActiveSyncOrganizationSettings, remote spelling of the level kept (Allow, Block, Quarantine).
    default_access_level = models.CharField(max_length=32, blank=True)
    user_mail_insert = models.TextField(blank=True)
    admin_mail_recipients = models.JSONField(default=list, blank=True)
    settings_observed_at = models.DateTimeField(null=True, blank=True)
    # Device access rules as [identity, characteristic, query, level], device classes as [type, model]; remote spelling.
    access_rules = models.JSONField(default=list, blank=True)
    device_classes = models.JSONField(default=list, blank=True)
    rules_observed_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["name"]
        constraints = [models.UniqueConstraint(fields=["tenant", "name"], name="organization_name_once_a_tenant")]

    def __str__(self) -> str:
        return self.name


class ConnectorStatus(models.TextChoices):
    """Graph's deviceManagementExchangeConnectorStatus members, spelt as in Graph."""

    NONE = "none", _("None")
    CONNECTION_PENDING = "connectionPending", _("Connection pending")
    CONNECTED = "connected", _("Connected")
    DISCONNECTED = "disconnected", _("Disconnected")


class Authentication(models.TextChoices):
    """How the service account signs in to the PowerShell virtual directory."""

    KERBEROS = "kerberos", "Kerberos"
    NEGOTIATE = "negotiate", "Negotiate"
    NTLM = "ntlm", "NTLM"
    BASIC = "basic", "Basic"


class Connector(models.Model):
    """Account, servers, schedule and state by which one organisation is reached. Exactly one an organisation."""

    public_id = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    organization = models.OneToOneField(ExchangeOrganization, on_delete=models.CASCADE, related_name="connector")
    generation = models.PositiveIntegerField(
        default=1, help_text="Grows when the connector is replaced or reconfigured."
    )

    # The service account.
    authentication = models.CharField(max_length=16, choices=Authentication.choices, default=Authentication.KERBEROS)
    username = models.CharField(max_length=256)
    password = EncryptedTextField(blank=True)
    ca_certificates = models.TextField(blank=True, help_text="PEM; empty trusts the system's authorities.")
    is_clear_text_allowed = models.BooleanField(
        default=False, help_text="Basic without TLS sends the password readable over the network."
    )

    # Where its worker stands, and when it runs.
    site = models.CharField(
        max_length=40,
        default="default",
        validators=[
            RegexValidator(r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?\Z", _("Use lower-case letters, digits and hyphens."))
        ],
        help_text="Workers serving this connector listen on the queue site.<name>.",
    )
    is_enabled = models.BooleanField(default=True, help_text="Off: no scheduled syncs. The buttons still work.")
    quick_sync_minutes = models.PositiveIntegerField(
        default=120, validators=[MinValueValidator(5), MaxValueValidator(24 * 60)]
    )
    full_sync_time = models.TimeField(default=datetime.time(2, 0), help_text="In the tenant's time zone.")
    # NULL: not yet reckoned since the schedule was made or changed; sync.schedule fills it in.
    next_quick_sync_at = models.DateTimeField(null=True, blank=True)
    next_full_sync_at = models.DateTimeField(null=True, blank=True)

    # How it acts.
    is_observe_only = models.BooleanField(
        default=False, help_text="On: no command that changes Exchange is ever sent; what would be sent is shown."
    )
    parallel_commands = models.PositiveSmallIntegerField(
        default=4,
        validators=[MinValueValidator(1), MaxValueValidator(16)],
        help_text="Commands in flight at the same time. Each is a session of the account, of 18 by default.",
    )

    # State. status_changed_at tells how long it has been so; last_error_code is empty when the last run succeeded.
    status = models.CharField(
        max_length=24, choices=ConnectorStatus.choices, default=ConnectorStatus.CONNECTION_PENDING
    )
    status_changed_at = models.DateTimeField(auto_now_add=True)
    last_error_code = models.CharField(max_length=64, blank=True)
    exchange_server = models.CharField(max_length=255, blank=True, help_text="FQDN of the server that answered last.")
    connector_server = models.CharField(max_length=255, blank=True, help_text="Host name of the worker that asked.")
    last_successful_sync_at = models.DateTimeField(null=True, blank=True)
    last_full_sync_at = models.DateTimeField(null=True, blank=True)
    # Start of the newest successful sync, by the database's clock: a quick sync asks for what is newer, with a margin.
    synced_until = models.DateTimeField(null=True, blank=True)
    # Grows by one each time a run takes the lease; a write carrying an older number is refused.
    fence = models.BigIntegerField(default=0)
    # Who looks at single mailboxes now (sync.acting.checks): one worker at a time, beside any run.
    checks_owner = models.CharField(max_length=255, blank=True)
    checks_lease_expires_at = models.DateTimeField(null=True, blank=True)
    checks_not_before = models.DateTimeField(
        null=True, blank=True, help_text="Set when Exchange could not be reached, or refused the account."
    )
    # Of the moments at which somebody's access ends by itself, those until then have been looked at.
    deadlines_until = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["organization__name"]
        indexes = [
            models.Index(fields=["next_quick_sync_at"], name="connector_next_quick"),
            models.Index(fields=["next_full_sync_at"], name="connector_next_full"),
        ]

    def __str__(self) -> str:
        return self.organization.name


class ClientAccessServer(models.Model):
    """One entry server of an organisation (CAS), in the order in which it is tried."""

    class Source(models.TextChoices):
        CONFIGURED = "configured", _("Configured")
        DISCOVERED = "discovered", _("Discovered")

    connector = models.ForeignKey(Connector, on_delete=models.CASCADE, related_name="servers")
    fqdn = models.CharField(
        max_length=255, help_text="As in the certificate and the service principal name; lower-case."
    )
    address = models.CharField(max_length=255, blank=True, help_text="Where to connect, when not the FQDN itself.")
    port = models.PositiveIntegerField(default=443, validators=[MaxValueValidator(65535)])
    use_tls = models.BooleanField(default=True)
    priority = models.PositiveSmallIntegerField(default=100, help_text="The lowest is tried first.")
    source = models.CharField(max_length=16, choices=Source.choices, default=Source.CONFIGURED)
    # A discovered server says which Exchange it runs; whether and how it can be reached is not known by that.
    build = models.CharField(max_length=64, blank=True)
    is_usable = models.BooleanField(
        default=True,
        help_text="False: only listed, because discovery tells a name but not how it is reached from here.",
    )
    last_answered_at = models.DateTimeField(null=True, blank=True)
    last_error_code = models.CharField(max_length=64, blank=True)
    last_error_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["priority", "fqdn"]
        constraints = [
            models.UniqueConstraint(fields=["connector", "fqdn"], name="server_once_a_connector"),
            models.CheckConstraint(condition=Q(port__gte=1), name="server_port_positive"),
        ]

    def __str__(self) -> str:
        return self.fqdn


class DeviceSource(models.Model):
    """Where a tenant's device records come from: Microsoft Graph, or pushed to us by another system. One a tenant."""

    class Kind(models.TextChoices):
        NONE = "none", _("None")
        GRAPH = "graph", _("Microsoft Graph (Intune)")
        PUSHED = "pushed", _("Pushed by another system")

    class Credential(models.TextChoices):
        SECRET = "secret", _("Client secret")
        CERTIFICATE = "certificate", _("Certificate")

    tenant = models.OneToOneField(Tenant, on_delete=models.CASCADE, related_name="device_source")
    kind = models.CharField(max_length=16, choices=Kind.choices, default=Kind.NONE)
    cloud = models.CharField(max_length=16, blank=True, default="global", help_text="connectors.graph.clouds.")
    # Empty: those of the cloud. Others are for sovereign or simulated clouds.
    login_root = models.CharField(max_length=255, blank=True)
    graph_root = models.CharField(max_length=255, blank=True)
    directory_id = models.CharField(max_length=190, blank=True, help_text="Directory (tenant) ID or domain name.")
    client_id = models.CharField(max_length=64, blank=True, help_text="Application (client) ID.")
    credential = models.CharField(max_length=16, choices=Credential.choices, default=Credential.SECRET)
    client_secret = EncryptedTextField(blank=True)
    certificate = EncryptedTextField(blank=True, help_text="PEM: private key and certificate.")
    credential_expires_at = models.DateTimeField(null=True, blank=True)

    # State. number counts listings: a record carries that of the listing that held it last.
    listing_number = models.BigIntegerField(default=0)
    users_delta_link = EncryptedTextField(blank=True)
    devices_read_at = models.DateTimeField(null=True, blank=True, help_text="The last complete listing.")
    users_read_at = models.DateTimeField(null=True, blank=True)
    last_pushed_at = models.DateTimeField(null=True, blank=True)
    last_error_code = models.CharField(max_length=64, blank=True)
    last_error_params = models.JSONField(default=dict, blank=True)
    last_error_at = models.DateTimeField(null=True, blank=True)
    # One reading at a time, whoever asks: several connectors of a tenant share it.
    lease_expires_at = models.DateTimeField(null=True, blank=True)
    lease_owner = models.CharField(max_length=255, blank=True)

    def __str__(self) -> str:
        return f"{self.tenant} · {self.kind}"


class NotificationAccount(models.Model):
    """By which account an organization's people are told, and how. One an organization; "none" tells nobody."""

    class Channel(models.TextChoices):
        NONE = "none", _("None")
        EWS = "ews", _("Exchange Web Services")
        SMTP = "smtp", "SMTP"

    class Security(models.TextChoices):
        NONE = "none", _("None")
        STARTTLS = "starttls", "STARTTLS"
        TLS = "tls", "TLS"

    organization = models.OneToOneField(
        ExchangeOrganization, on_delete=models.CASCADE, related_name="notification_account"
    )
    channel = models.CharField(max_length=8, choices=Channel.choices, default=Channel.NONE)
    sender = models.EmailField(max_length=320, blank=True, help_text="The account's primary SMTP address.")
    username = models.CharField(max_length=256, blank=True)
    password = EncryptedTextField(blank=True)
    authentication = models.CharField(
        max_length=16, choices=Authentication.choices, default=Authentication.NTLM, blank=True
    )
    ews_url = models.CharField(max_length=255, blank=True, help_text="Empty: found by Autodiscover.")
    # Where Autodiscover is asked when not at the sender's domain.
    autodiscover_url = models.CharField(max_length=255, blank=True)
    known_ews_url = models.CharField(
        max_length=1000, blank=True, help_text="What Autodiscover named last; it is asked again when nothing is there."
    )
    smtp_host = models.CharField(max_length=255, blank=True)
    smtp_port = models.PositiveIntegerField(default=587, validators=[MaxValueValidator(65535)])
    smtp_security = models.CharField(max_length=8, choices=Security.choices, default=Security.STARTTLS)
    ca_certificates = models.TextField(blank=True, help_text="PEM; empty trusts the system's authorities.")

    last_sent_at = models.DateTimeField(null=True, blank=True)
    last_error_code = models.CharField(max_length=64, blank=True)
    last_error_params = models.JSONField(default=dict, blank=True)
    last_error_at = models.DateTimeField(null=True, blank=True)

    def __str__(self) -> str:
        return f"{self.organization} · {self.channel}"

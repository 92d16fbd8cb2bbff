"""Servers, the organisation, its ActiveSync settings, throttling policy."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from lab.exchange.cmdlets.registry import Context, Item, change_list, cmdlet
from lab.exchange.contract import Output
from lab.exchange.render import Enum, ObjectId, ServerVersion

_CONFIGURATION = "Microsoft.Exchange.Data.Directory.SystemConfiguration"
_LEVELS = {"Allow": 0, "Block": 1, "Quarantine": 2}
INSERT_LIMIT = 256


@cmdlet(
    "Get-ExchangeServer",
    parameters="Identity Domain Status:switch DomainController",
    class_name="Microsoft.Exchange.Management.SystemConfigurationTasks.GetExchangeServer",
    exclusive=(("Identity", "Domain"),),
)
def get_exchange_server(context: Context, arguments: dict[str, Any]) -> Iterator[Item | Output]:
    store = context.store
    wanted = arguments.get("Identity")
    found = [
        s for s in store.servers if wanted is None or wanted.lower() in (s.name.lower(), s.fqdn.lower(), str(s.guid))
    ]
    if wanted is not None and not found:
        raise context.not_found(wanted)
    types = (
        "Microsoft.Exchange.Data.Directory.Management.ExchangeServer",
        "Microsoft.Exchange.Data.Directory.Management.ADPresentationObject",
        "System.Object",
    )
    for server in found:
        role = store.version.role_text
        number = {"Mailbox": 2, "Mailbox, ClientAccess": 6}.get(role, 38)
        properties = [
            ("Name", server.name),
            ("Fqdn", server.fqdn),
            ("AdminDisplayVersion", ServerVersion(server.build)),
            ("ServerRole", Enum(f"{_CONFIGURATION}.ServerRole", role, number)),
            ("IsClientAccessServer", server.is_client_access),
            ("IsMailboxServer", True),
            ("IsHubTransportServer", True),
            ("IsEdgeServer", False),
            ("IsE14OrLater", True),
            ("IsE15OrLater", store.version.rank >= 2013),
            ("Site", ObjectId(server.site)),
            ("Edition", Enum(f"{_CONFIGURATION}.ServerEditionType", "Standard", 1)),
            ("ExchangeVersion", "0.1 (8.0.535.0)"),
            ("NetworkAddress", [f"ncacn_ip_tcp:{server.fqdn}", f"ncacn_np:{server.name}"]),
            ("Guid", server.guid),
            ("Identity", ObjectId(server.name)),
            ("DistinguishedName", f"CN={server.name},CN=Servers,CN={store.name}"),
            ("OriginatingServer", f"dc01.{store.domain}"),
            ("IsValid", True),
            ("ObjectState", Enum("Microsoft.Exchange.Data.ObjectState", "Unchanged", 1)),
        ]
        yield Item(types, server.name, lambda p=properties: p)  # type: ignore[misc]


@cmdlet(
    "Get-OrganizationConfig",
    parameters="DomainController",
    class_name="Microsoft.Exchange.Management.SystemConfigurationTasks.GetOrganizationConfig",
    positional="DomainController",
)
def get_organization_config(context: Context, arguments: dict[str, Any]) -> Iterator[Item | Output]:
    store = context.store
    properties = [
        ("Name", store.name),
        ("Identity", ObjectId(store.name)),
        ("Guid", store.guid),
        ("DistinguishedName", f"CN={store.name},CN=Microsoft Exchange,CN=Services,CN=Configuration"),
        ("AdminDisplayVersion", store.version.exchange_version),
        ("IsMixedMode", False),
        ("IsValid", True),
        ("ObjectState", "Unchanged"),
    ]
    yield Item((f"{_CONFIGURATION}.ADOrganizationConfig", "System.Object"), store.name, lambda: properties)


@cmdlet(
    "Get-ActiveSyncOrganizationSettings",
    parameters="Identity DomainController",
    class_name="Microsoft.Exchange.Management.SystemConfigurationTasks.GetActiveSyncOrganizationSettings",
)
def get_settings(context: Context, arguments: dict[str, Any]) -> Iterator[Item | Output]:
    store, settings = context.store, context.store.settings
    properties: list[tuple[str, Any]] = [
        (
            "DefaultAccessLevel",
            Enum(
                f"{_CONFIGURATION}.DeviceAccessLevel",
                settings.default_access_level,
                _LEVELS[settings.default_access_level],
            ),
        ),
        ("UserMailInsert", settings.user_mail_insert),
        ("OtaNotificationMailInsert", settings.ota_mail_insert),
        ("AdminMailRecipients", list(settings.admin_mail_recipients)),
        ("Name", "Mobile Mailbox Settings"),
        ("Identity", ObjectId("Mobile Mailbox Settings")),
        ("IsValid", True),
        ("ObjectState", "Unchanged"),
    ]
    if store.version.rank >= 2013:
        properties.insert(1, ("AllowAccessForUnSupportedPlatform", False))
    if store.version.rank >= 2016:
        properties.insert(2, ("AllowRMSSupportForUnenlightenedApps", False))
    yield Item(
        (f"{_CONFIGURATION}.ActiveSyncOrganizationSettings", "System.Object"),
        "Mobile Mailbox Settings",
        lambda: properties,
    )


@cmdlet(
    "Set-ActiveSyncOrganizationSettings",
    parameters="Identity DefaultAccessLevel UserMailInsert OtaNotificationMailInsert AdminMailRecipients:strings "
    "AllowAccessForUnSupportedPlatform:bool@2013 AllowRMSSupportForUnenlightenedApps:bool@2016 DomainController",
    class_name="Microsoft.Exchange.Management.SystemConfigurationTasks.SetActiveSyncOrganizationSettings",
)
def set_settings(context: Context, arguments: dict[str, Any]) -> Iterator[Item | Output]:
    settings = context.store.settings
    level = arguments.get("DefaultAccessLevel")
    if level is not None:
        level = next((name for name in _LEVELS if name.lower() == level.lower()), None)
        if level is None:
            raise context.invalid(
                f"The value '{arguments['DefaultAccessLevel']}' is not one of Allow, Block, Quarantine."
            )
    for name in ("UserMailInsert", "OtaNotificationMailInsert"):
        if len(arguments.get(name) or "") > INSERT_LIMIT:
            raise context.invalid(
                f'The property value you specified for "{name}" is too long. The maximum length is {INSERT_LIMIT}.',
                "Microsoft.Exchange.Data.DataValidationException",
            )
    with context.store.lock:
        before = (
            settings.default_access_level,
            settings.user_mail_insert,
            settings.ota_mail_insert,
            list(settings.admin_mail_recipients),
        )
        settings.default_access_level = level or settings.default_access_level
        if "UserMailInsert" in arguments:
            settings.user_mail_insert = arguments["UserMailInsert"] or ""
        if "OtaNotificationMailInsert" in arguments:
            settings.ota_mail_insert = arguments["OtaNotificationMailInsert"] or ""
        if "AdminMailRecipients" in arguments:
            settings.admin_mail_recipients = change_list(
                settings.admin_mail_recipients, arguments["AdminMailRecipients"]
            )
        if before == (
            settings.default_access_level,
            settings.user_mail_insert,
            settings.ota_mail_insert,
            settings.admin_mail_recipients,
        ):
            context.unchanged("Mobile Mailbox Settings")
    return iter(())


@cmdlet(
    "Get-ThrottlingPolicy",
    parameters="Identity DomainController Explicit:switch@2013 ThrottlingPolicyScope@2013 Diagnostics:switch@2013",
    class_name="Microsoft.Exchange.Management.SystemConfigurationTasks.GetThrottlingPolicy",
)
def get_throttling_policy(context: Context, arguments: dict[str, Any]) -> Iterator[Item | Output]:
    name = f"GlobalThrottlingPolicy_{context.store.guid}"
    properties = [
        ("Name", name),
        ("Identity", ObjectId(name)),
        ("PowerShellMaxConcurrency", "18"),
        ("PowerShellMaxTenantConcurrency", "9"),
        ("PowerShellMaxCmdlets", "Unlimited"),
        ("PowerShellMaxCmdletsTimePeriod", "Unlimited"),
        ("ExchangeMaxCmdlets", "Unlimited"),
        ("PowerShellMaxCmdletQueueDepth", "Unlimited"),
        ("EasMaxDevices", "100"),
        ("IsValid", True),
    ]
    yield Item((f"{_CONFIGURATION}.ThrottlingPolicy", "System.Object"), name, lambda: properties)

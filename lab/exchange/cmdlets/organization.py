"""Servers, the organisation, its ActiveSync settings, throttling policy."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from lab.exchange.cmdlets.directory import (
    ACCESS_LEVELS,
    CONFIGURATION,
    CONFIGURATION_BASES,
    DIRECTORY,
    ROOTS,
    directory_properties,
    enum,
    organization_dn,
)
from lab.exchange.cmdlets.listing import changed_list
from lab.exchange.cmdlets.registry import Context, Item, cmdlet
from lab.exchange.contract import Output
from lab.exchange.objects import EPOCH, ExchangeServer
from lab.exchange.render import Enum, Multi, ObjectId, ServerVersion
from lab.exchange.store import Store

_TASKS = "Microsoft.Exchange.Management.SystemConfigurationTasks"
INSERT_LIMIT = 256
SETTINGS_NAME = "Mobile Mailbox Settings"
_ROLE_NUMBERS = {"Mailbox": 2, "Mailbox, ClientAccess": 6, "Mailbox, ClientAccess, HubTransport": 38}


@cmdlet(
    "Get-ExchangeServer",
    parameters="Identity:id Domain Status:switch DomainController",
    class_name=f"{_TASKS}.GetExchangeServer",
    exclusive="Identity|Domain",
)
def get_exchange_server(context: Context, arguments: dict[str, Any]) -> Iterator[Item | Output]:
    store = context.store
    wanted, domain = arguments.get("Identity"), arguments.get("Domain")
    found = list(store.servers)
    if wanted is not None:
        found = [s for s in found if wanted.lower() in (s.name.lower(), s.fqdn.lower(), str(s.guid))]
        if not found:
            raise context.not_found(wanted)
    if domain is not None:
        found = [s for s in found if s.fqdn.lower().endswith(f".{domain.lower()}")]
    types = (f"{DIRECTORY}.Management.ExchangeServer", f"{DIRECTORY}.Management.ADPresentationObject", *ROOTS)
    for server in found:
        properties = _server(store, server, with_status=bool(arguments.get("Status")))
        yield Item(types, server.name, lambda properties=properties: properties)  # type: ignore[misc]


def _server(store: Store, server: ExchangeServer, *, with_status: bool) -> list[tuple[str, Any]]:
    role, is_new = store.version.role_text, store.version.rank >= 2013
    controllers = [f"dc01.{store.domain}"] if with_status else []
    return [
        ("Fqdn", server.fqdn),
        ("AdminDisplayVersion", ServerVersion(server.build)),
        ("ServerRole", Enum(f"{CONFIGURATION}.ServerRole", role, _ROLE_NUMBERS[role])),
        # True although since 2016 the role's text says Mailbox alone.
        ("IsClientAccessServer", server.is_client_access),
        ("IsMailboxServer", True),
        ("IsHubTransportServer", True),
        ("IsFrontendTransportServer", is_new),
        ("IsUnifiedMessagingServer", False),
        ("IsEdgeServer", False),
        ("IsExchange2007OrLater", True),
        ("IsE14OrLater", True),
        ("IsE15OrLater", is_new),
        ("IsProvisionedServer", False),
        ("Site", ObjectId(server.site)),
        ("Edition", Enum(f"{CONFIGURATION}.ServerEditionType", "Standard", 1)),
        ("NetworkAddress", [f"ncacn_ip_tcp:{server.fqdn}", f"ncacn_np:{server.name}"]),
        ("OrganizationalUnit", f"{store.domain}/{server.name}"),
        ("CurrentDomainControllers", controllers),
        ("CurrentGlobalCatalogs", controllers),
        ("CurrentConfigDomainController", controllers[0] if controllers else ""),
        *(
            # Of an old version, as Exchange says it: the oldest that can manage the object, not the server's own.
            (name, "0.1 (8.0.535.0)" if name == "ExchangeVersion" else value)
            for name, value in directory_properties(
                store, name=server.name, dn=f"CN={server.name},CN=Servers,{organization_dn(store)}", guid=server.guid,
                category="ms-Exch-Exchange-Server", classes=("server", "msExchExchangeServer"), created=EPOCH,
                changed=EPOCH,
            )
        ),
    ]  # fmt: skip


@cmdlet(
    "Get-OrganizationConfig",
    parameters="DomainController",
    class_name=f"{_TASKS}.GetOrganizationConfig",
    positional="",
)
def get_organization_config(context: Context, arguments: dict[str, Any]) -> Iterator[Item | Output]:
    store = context.store
    properties = [
        ("AdminDisplayVersion", store.version.exchange_version),
        ("IsMixedMode", False),
        *directory_properties(
            store, name=store.name, dn=organization_dn(store), guid=store.guid, created=EPOCH, changed=EPOCH,
            category="ms-Exch-Organization-Container", classes=("msExchOrganizationContainer",),
        ),
    ]  # fmt: skip
    yield Item((f"{CONFIGURATION}.ADOrganizationConfig", *CONFIGURATION_BASES), store.name, lambda: properties)


# --- ActiveSync settings ----------------------------------------------------------------------------------------

# Parameter → field of OrganizationSettings.
_FIELDS = {
    "DefaultAccessLevel": "default_access_level",
    "UserMailInsert": "user_mail_insert",
    "OtaNotificationMailInsert": "ota_mail_insert",
    "AdminMailRecipients": "admin_mail_recipients",
    "AllowAccessForUnSupportedPlatform": "allow_unsupported_platform",
    "AllowRMSSupportForUnenlightenedApps": "allow_rms_for_unenlightened",
}


@cmdlet(
    "Get-ActiveSyncOrganizationSettings",
    parameters="Identity:id DomainController",
    class_name=f"{_TASKS}.GetActiveSyncOrganizationSettings",
)
def get_settings(context: Context, arguments: dict[str, Any]) -> Iterator[Item | Output]:
    _check_identity(context, arguments)
    store, settings = context.store, context.store.settings
    properties: list[tuple[str, Any]] = [
        ("DefaultAccessLevel", enum("DeviceAccessLevel", settings.default_access_level))
    ]
    if store.version.rank >= 2013:
        properties.append(("AllowAccessForUnSupportedPlatform", settings.allow_unsupported_platform))
    if store.version.rank >= 2016:
        properties.append(("AllowRMSSupportForUnenlightenedApps", settings.allow_rms_for_unenlightened))
    properties += [
        ("UserMailInsert", settings.user_mail_insert),
        ("OtaNotificationMailInsert", settings.ota_mail_insert),
        ("AdminMailRecipients", Multi(tuple(settings.admin_mail_recipients), "smtp")),
        *directory_properties(
            store, name=SETTINGS_NAME, dn=f"CN={SETTINGS_NAME},{organization_dn(store)}", guid=store.guid,
            category="ms-Exch-Mobile-Mailbox-Settings", classes=("msExchMobileMailboxSettings",), created=EPOCH,
            changed=EPOCH,
        ),
    ]  # fmt: skip
    types = (f"{CONFIGURATION}.ActiveSyncOrganizationSettings", *CONFIGURATION_BASES)
    yield Item(types, SETTINGS_NAME, lambda: properties)


def _check_identity(context: Context, arguments: dict[str, Any]) -> None:
    wanted = arguments.get("Identity")
    if wanted is not None and wanted.lower() not in (SETTINGS_NAME.lower(), str(context.store.guid)):
        raise context.not_found(wanted)


@cmdlet(
    "Set-ActiveSyncOrganizationSettings",
    parameters="Identity:id DefaultAccessLevel UserMailInsert OtaNotificationMailInsert AdminMailRecipients:strings "
    "AllowAccessForUnSupportedPlatform:bool@2013 AllowRMSSupportForUnenlightenedApps:bool@2016 DomainController",
    class_name=f"{_TASKS}.SetActiveSyncOrganizationSettings",
)
def set_settings(context: Context, arguments: dict[str, Any]) -> Iterator[Item | Output]:
    """A new default level concerns every phone that nothing else covers, at its next request."""
    _check_identity(context, arguments)
    settings = context.store.settings
    with context.store.lock:
        wanted = {
            field: _setting(context, name, arguments[name], getattr(settings, field))
            for name, field in _FIELDS.items()
            if name in arguments
        }
        if all(getattr(settings, field) == value for field, value in wanted.items()):
            context.unchanged(SETTINGS_NAME)
        for field, value in wanted.items():
            setattr(settings, field, value)
    return iter(())


def _setting(context: Context, name: str, value: Any, current: Any) -> Any:
    """The value to store. Raises Refusal."""
    if name == "DefaultAccessLevel":
        level = next((known for known in ACCESS_LEVELS if known.lower() == str(value).lower()), None)
        if level is None:
            raise context.invalid(f"The value '{value}' is not one of {', '.join(ACCESS_LEVELS)}.")
        return level
    if name == "AdminMailRecipients":
        recipients = changed_list(current, value)
        if wrong := next((address for address in recipients if "@" not in address), None):
            raise context.invalid(f"'{wrong}' is not a valid SMTP address.", "System.FormatException")
        return recipients
    if isinstance(value, bool):
        return value
    text = value or ""
    if len(text) > INSERT_LIMIT:
        raise context.invalid(
            f'The property value you specified, for "{name}", is too long. The maximum length is {INSERT_LIMIT} and '
            f"the length of the value provided is {len(text)}.",
            "Microsoft.Exchange.Data.DataValidationException",
        )
    return text


@cmdlet(
    "Get-ThrottlingPolicy",
    parameters="Identity:id DomainController Explicit:switch@2013 ThrottlingPolicyScope@2013 Diagnostics:switch@2013",
    class_name=f"{_TASKS}.GetThrottlingPolicy",
)
def get_throttling_policy(context: Context, arguments: dict[str, Any]) -> Iterator[Item | Output]:
    """The global policy, which is the only one. Values that no source confirms are not shown."""
    store = context.store
    name = f"GlobalThrottlingPolicy_{store.guid}"
    if (wanted := arguments.get("Identity")) is not None and wanted.lower() != name.lower():
        raise context.not_found(wanted)
    properties: list[tuple[str, Any]] = [
        ("PowerShellMaxConcurrency", "18"),
        ("PowerShellMaxTenantConcurrency", "9"),
        ("PowerShellMaxCmdlets", "Unlimited"),
        ("PowerShellMaxCmdletsTimePeriod", "Unlimited"),
        ("ExchangeMaxCmdlets", "Unlimited"),
        ("PowerShellMaxCmdletQueueDepth", "Unlimited"),
        ("EwsMaxConcurrency", "10" if store.version.rank < 2013 else "27"),
        ("EasMaxDevices", "100"),
        *directory_properties(
            store, name=name, dn=f"CN={name},CN=Global Settings,{organization_dn(store)}", guid=store.guid,
            category="ms-Exch-Throttling-Policy", classes=("msExchThrottlingPolicy",), created=EPOCH, changed=EPOCH,
        ),
    ]  # fmt: skip
    if store.version.rank >= 2013:
        properties += [("PswsMaxConcurrency", "18"), ("ThrottlingPolicyScope", "Global")]
    yield Item((f"{CONFIGURATION}.ThrottlingPolicy", *CONFIGURATION_BASES), name, lambda: properties)

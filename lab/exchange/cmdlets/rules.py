"""Device access rules."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from lab.exchange.cmdlets.registry import Context, Item, cmdlet
from lab.exchange.contract import Output
from lab.exchange.render import Enum, ObjectId
from lab.exchange.store import AccessRule

_CONFIGURATION = "Microsoft.Exchange.Data.Directory.SystemConfiguration"
_TASKS = "Microsoft.Exchange.Management.SystemConfigurationTasks"
_LEVELS = ("Allow", "Block", "Quarantine")
_CHARACTERISTICS = ("DeviceType", "DeviceModel", "DeviceOS", "UserAgent", "XMSWLHeader")


def _item(rule: AccessRule) -> Item:
    properties = [
        ("QueryString", rule.query),
        ("Characteristic", Enum(f"{_CONFIGURATION}.DeviceAccessCharacteristic", rule.characteristic, _CHARACTERISTICS.index(rule.characteristic))),
        ("AccessLevel", Enum(f"{_CONFIGURATION}.DeviceAccessLevel", rule.level, _LEVELS.index(rule.level))),
        ("Name", rule.name),
        ("Identity", ObjectId(rule.name)),
        ("Guid", rule.guid),
        ("IsValid", True),
        ("ObjectState", "Unchanged"),
    ]  # fmt: skip
    return Item((f"{_CONFIGURATION}.ActiveSyncDeviceAccessRule", "System.Object"), rule.name, lambda: properties)


def _one_of(context: Context, value: str, allowed: tuple[str, ...], what: str) -> str:
    found = next((name for name in allowed if name.lower() == value.lower()), None)
    if found is None:
        raise context.invalid(f"The {what} '{value}' is not one of {', '.join(allowed)}.")
    return found


def _find(context: Context, identity: str) -> AccessRule:
    wanted = identity.lower()
    for rule in context.store.rules:
        if wanted in (rule.name.lower(), str(rule.guid)):
            return rule
    raise context.not_found(identity)


@cmdlet(
    "Get-ActiveSyncDeviceAccessRule",
    parameters="Identity DomainController",
    class_name=f"{_TASKS}.GetActiveSyncDeviceAccessRule",
)
def get_rules(context: Context, arguments: dict[str, Any]) -> Iterator[Item | Output]:
    if arguments.get("Identity") is not None:
        return iter([_item(_find(context, arguments["Identity"]))])
    return (_item(rule) for rule in list(context.store.rules))


@cmdlet(
    "New-ActiveSyncDeviceAccessRule",
    parameters="AccessLevel Characteristic QueryString DomainController",
    class_name=f"{_TASKS}.NewActiveSyncDeviceAccessRule",
    required="AccessLevel Characteristic QueryString",
    positional="QueryString",
)
def new_rule(context: Context, arguments: dict[str, Any]) -> Iterator[Item | Output]:
    level = _one_of(context, str(arguments["AccessLevel"]), _LEVELS, "access level")
    characteristic = _one_of(context, str(arguments["Characteristic"]), _CHARACTERISTICS, "characteristic")
    rule = AccessRule(str(arguments["QueryString"]), characteristic, level)
    if any(known.name.lower() == rule.name.lower() for known in context.store.rules):
        raise context.invalid(
            f"A rule named '{rule.name}' exists already.",
            "Microsoft.Exchange.Data.Directory.ADObjectAlreadyExistsException",
        )
    context.store.rules.append(rule)
    return iter([_item(rule)])


@cmdlet(
    "Set-ActiveSyncDeviceAccessRule",
    parameters="Identity AccessLevel DomainController",
    class_name=f"{_TASKS}.SetActiveSyncDeviceAccessRule",
    required="Identity",
)
def set_rule(context: Context, arguments: dict[str, Any]) -> Iterator[Item | Output]:
    rule = _find(context, str(arguments["Identity"]))
    level = _one_of(context, str(arguments.get("AccessLevel") or rule.level), _LEVELS, "access level")
    if level == rule.level:
        context.unchanged(rule.name)
    rule.level = level
    return iter(())


@cmdlet(
    "Remove-ActiveSyncDeviceAccessRule",
    parameters="Identity DomainController",
    class_name=f"{_TASKS}.RemoveActiveSyncDeviceAccessRule",
    required="Identity",
    confirms=True,
)
def remove_rule(context: Context, arguments: dict[str, Any]) -> Iterator[Item | Output]:
    context.store.rules.remove(_find(context, str(arguments["Identity"])))
    return iter(())

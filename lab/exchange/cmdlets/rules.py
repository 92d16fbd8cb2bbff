"""Device access rules, and the device classes that their pick-lists are made of."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from lab.exchange.cmdlets.directory import (
    ACCESS_LEVELS,
    CHARACTERISTICS,
    CONFIGURATION,
    CONFIGURATION_BASES,
    directory_properties,
    enum,
    settings_dn,
)
from lab.exchange.cmdlets.listing import filtering, ordered
from lab.exchange.cmdlets.registry import Context, Item, cmdlet
from lab.exchange.contract import Output
from lab.exchange.objects import AccessRule, DeviceClass
from lab.exchange.store import Store

_TASKS = "Microsoft.Exchange.Management.SystemConfigurationTasks"


def _item(store: Store, rule: AccessRule) -> Item:
    properties = [
        ("QueryString", rule.query),
        ("Characteristic", enum("DeviceAccessCharacteristic", rule.characteristic)),
        ("AccessLevel", enum("DeviceAccessLevel", rule.level)),
        *directory_properties(
            store, name=rule.name, dn=settings_dn(store, rule.name), guid=rule.guid, created=rule.created,
            category="ms-Exch-Device-Access-Rule", classes=("msExchDeviceAccessRule",), changed=rule.changed,
        ),
    ]  # fmt: skip
    types = (f"{CONFIGURATION}.ActiveSyncDeviceAccessRule", *CONFIGURATION_BASES)
    return Item(types, rule.name, lambda: properties)


def _one_of(context: Context, value: str, allowed: tuple[str, ...], what: str) -> str:
    found = next((name for name in allowed if name.lower() == value.lower()), None)
    if found is None:
        raise context.invalid(f"The {what} '{value}' is not one of {', '.join(allowed)}.")
    return found


def _find(context: Context, identity: str) -> AccessRule:
    wanted = identity.lower()
    for rule in context.store.rules:
        if wanted in (rule.name.lower(), str(rule.guid), settings_dn(context.store, rule.name).lower()):
            return rule
    raise context.not_found(identity)


@cmdlet(
    "Get-ActiveSyncDeviceAccessRule",
    parameters="Identity:id DomainController",
    class_name=f"{_TASKS}.GetActiveSyncDeviceAccessRule",
)
def get_rules(context: Context, arguments: dict[str, Any]) -> Iterator[Item | Output]:
    if arguments.get("Identity") is not None:
        return iter([_item(context.store, _find(context, arguments["Identity"]))])
    return (_item(context.store, rule) for rule in list(context.store.rules))


@cmdlet(
    "New-ActiveSyncDeviceAccessRule",
    parameters="AccessLevel Characteristic QueryString DomainController",
    class_name=f"{_TASKS}.NewActiveSyncDeviceAccessRule",
    required="AccessLevel Characteristic QueryString",
    positional="",
)
def new_rule(context: Context, arguments: dict[str, Any]) -> Iterator[Item | Output]:
    store = context.store
    level = _one_of(context, arguments["AccessLevel"], ACCESS_LEVELS, "access level")
    known = CHARACTERISTICS if store.version.rank >= 2016 else CHARACTERISTICS[:-1]
    characteristic = _one_of(context, arguments["Characteristic"], known, "characteristic")
    now = store.now()
    rule = AccessRule(arguments["QueryString"], characteristic, level, created=now, changed=now)
    with store.lock:
        if any(other.name.lower() == rule.name.lower() for other in store.rules):
            raise context.invalid(
                f"The object '{rule.name}' already exists.",
                "Microsoft.Exchange.Data.Directory.ADObjectAlreadyExistsException",
            )
        store.rules.append(rule)
    return iter([_item(store, rule)])


@cmdlet(
    "Set-ActiveSyncDeviceAccessRule",
    parameters="Identity:id AccessLevel DomainController",
    class_name=f"{_TASKS}.SetActiveSyncDeviceAccessRule",
    required="Identity",
)
def set_rule(context: Context, arguments: dict[str, Any]) -> Iterator[Item | Output]:
    rule = _find(context, arguments["Identity"])
    level = _one_of(context, arguments.get("AccessLevel") or rule.level, ACCESS_LEVELS, "access level")
    if level == rule.level:
        context.unchanged(rule.name)
    else:
        rule.level, rule.changed = level, context.store.now()
    return iter(())


@cmdlet(
    "Remove-ActiveSyncDeviceAccessRule",
    parameters="Identity:id DomainController",
    class_name=f"{_TASKS}.RemoveActiveSyncDeviceAccessRule",
    required="Identity",
    confirms=True,
)
def remove_rule(context: Context, arguments: dict[str, Any]) -> Iterator[Item | Output]:
    context.store.rules.remove(_find(context, arguments["Identity"]))
    return iter(())


# --- classes ----------------------------------------------------------------------------------------------------

_CLASS_FIELDS = {"DeviceType": "device_type", "DeviceModel": "model", "LastUpdateTime": "updated"}


def _class_item(store: Store, seen: DeviceClass) -> Item:
    properties = [
        *((name, getattr(seen, field)) for name, field in _CLASS_FIELDS.items()),
        *directory_properties(
            store, name=seen.name, dn=settings_dn(store, seen.name), guid=seen.guid, created=seen.updated,
            category="ms-Exch-Device-Class", classes=("msExchActiveSyncDeviceClass",), changed=seen.updated,
        ),
    ]  # fmt: skip
    types = (f"{CONFIGURATION}.ActiveSyncDeviceClass", *CONFIGURATION_BASES)
    return Item(types, seen.name, lambda: properties)


@cmdlet(
    "Get-ActiveSyncDeviceClass",
    parameters="Identity:id Filter SortBy DomainController",
    class_name=f"{_TASKS}.GetActiveSyncDeviceClass",
)
def get_device_class(context: Context, arguments: dict[str, Any]) -> Iterator[Item | Output]:
    store = context.store
    with store.lock:
        classes = sorted(store.classes.values(), key=lambda one: one.name)
    identity = arguments.get("Identity")
    if identity is not None:
        classes = [one for one in classes if identity.lower() in (one.name.lower(), str(one.guid))]
        if not classes:
            raise context.not_found(identity)

    def value(one: DeviceClass, name: str) -> Any:
        return getattr(one, _CLASS_FIELDS[name])

    allowed = frozenset(_CLASS_FIELDS)
    predicate = filtering(context, arguments.get("Filter"), allowed)
    chosen = [one for one in classes if predicate is None or predicate(lambda name, one=one: value(one, name))]  # type: ignore[misc]
    return (_class_item(store, one) for one in ordered(context, chosen, arguments.get("SortBy"), allowed, value))

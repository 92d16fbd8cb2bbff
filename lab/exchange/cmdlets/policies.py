"""Mailbox policies, under their ActiveSync names and their Mobile names, whose parameters differ (exchange.md 2.8)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from lab.exchange.cmdlets.directory import CONFIGURATION, CONFIGURATION_BASES, directory_properties, settings_dn
from lab.exchange.cmdlets.listing import changed_list
from lab.exchange.cmdlets.registry import Context, Item, cmdlet
from lab.exchange.contract import Output
from lab.exchange.objects import MailboxPolicy
from lab.exchange.policy import DEFAULTS, RENAMED

_TASKS = "Microsoft.Exchange.Management.Tasks"
_BACK = {mobile: active for active, mobile in RENAMED.items()}
# Stored name → (smallest, largest).
_RANGES = {
    "MinDevicePasswordLength": (1, 16),
    "MaxDevicePasswordFailedAttempts": (4, 16),
    "MinDevicePasswordComplexCharacters": (1, 4),
    "DevicePasswordHistory": (0, 50),
}
_LOCK_SECONDS = (30, 3600)


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return ":bool"
    if isinstance(value, list):
        return ":strings"
    return ":number" if isinstance(value, int) else ""


_ACTIVE_SYNC = " ".join(f"{name}{_kind(value)}" for name, value in DEFAULTS.items())
_MOBILE = " ".join(f"{RENAMED.get(name, name)}{_kind(value)}" for name, value in DEFAULTS.items())


def _is_mobile(context: Context) -> bool:
    return "-mobile" in context.cmdlet.lower()


def _find(context: Context, identity: str) -> MailboxPolicy:
    wanted = identity.lower()
    for policy in context.store.policies:
        if wanted in (policy.name.lower(), str(policy.guid), settings_dn(context.store, policy.name).lower()):
            return policy
    raise context.not_found(identity)


def _item(context: Context, policy: MailboxPolicy) -> Item:
    mobile, store = _is_mobile(context), context.store
    values = {**DEFAULTS, **policy.settings}
    properties: list[tuple[str, Any]] = [
        *((RENAMED.get(name, name) if mobile else name, value) for name, value in values.items()),
        ("IsDefault" if mobile else "IsDefaultPolicy", policy.is_default),
        *directory_properties(
            store, name=policy.name, dn=settings_dn(store, policy.name), guid=policy.guid, created=policy.created,
            category="ms-Exch-Mobile-Mailbox-Policy", classes=("msExchMobileMailboxPolicy",), changed=policy.changed,
        ),
    ]  # fmt: skip
    if not mobile and store.version.rank >= 2013:
        properties.append(("IsDefault", policy.is_default))
    types = [f"{CONFIGURATION}.MobileMailboxPolicy", *CONFIGURATION_BASES]
    if not mobile:
        types.insert(0, f"{CONFIGURATION}.ActiveSyncMailboxPolicy")
    return Item(tuple(types), policy.name, lambda: properties)


@cmdlet(
    "Get-ActiveSyncMailboxPolicy",
    "Get-MobileDeviceMailboxPolicy",
    parameters="Identity:id DomainController",
    class_name=f"{_TASKS}.GetMobileMailboxPolicy",
)
def get_policy(context: Context, arguments: dict[str, Any]) -> Iterator[Item | Output]:
    if arguments.get("Identity") is not None:
        return iter([_item(context, _find(context, arguments["Identity"]))])
    return (_item(context, policy) for policy in list(context.store.policies))


def _wanted(context: Context, policy: MailboxPolicy, arguments: dict[str, Any]) -> dict[str, Any]:
    """The settings after a change, by stored names. Raises Refusal for a value out of range."""
    settings = dict(policy.settings)
    for name, value in arguments.items():
        stored = _BACK.get(name, name)
        if stored not in DEFAULTS:
            continue
        if isinstance(DEFAULTS[stored], list):
            value = changed_list(settings.get(stored, []), value)
        _check(context, name, stored, value)
        settings[stored] = value
    return settings


def _check(context: Context, name: str, stored: str, value: Any) -> None:
    smallest, largest = _RANGES.get(stored, (None, None))
    number = value
    if stored == "MaxInactivityTimeDeviceLock":
        parts = re.fullmatch(r"(\d\d):(\d\d):(\d\d)", str(value))
        number = (
            sum(int(part) * unit for part, unit in zip(parts.groups(), (3600, 60, 1), strict=True)) if parts else -1
        )
        smallest, largest = _LOCK_SECONDS
    if smallest is None or largest is None or str(value).lower() == "unlimited":
        return
    if not str(number).isdigit() or not smallest <= int(number) <= largest:
        raise context.invalid(
            f"The value '{value}' of {name} isn't between {smallest} and {largest}.",
            "Microsoft.Exchange.Data.DataValidationException",
        )


def _apply(context: Context, policy: MailboxPolicy, settings: dict[str, Any], arguments: dict[str, Any]) -> None:
    policy.settings = settings
    if arguments.get("IsDefault") or arguments.get("IsDefaultPolicy"):
        for other in context.store.policies:
            other.is_default = other is policy


def _new(context: Context, arguments: dict[str, Any]) -> Iterator[Item | Output]:
    store, name = context.store, arguments["Name"]
    now = store.now()
    policy = MailboxPolicy(name, created=now, changed=now)
    settings = _wanted(context, policy, arguments)
    with store.lock:
        if any(other.name.lower() == name.lower() for other in store.policies):
            raise context.invalid(
                f"The object '{name}' already exists.",
                "Microsoft.Exchange.Data.Directory.ADObjectAlreadyExistsException",
            )
        store.policies.append(policy)
        _apply(context, policy, settings, arguments)
    return iter([_item(context, policy)])


def _set(context: Context, arguments: dict[str, Any]) -> Iterator[Item | Output]:
    policy = _find(context, arguments["Identity"])
    settings = _wanted(context, policy, arguments)
    with context.store.lock:
        before = (policy.settings, policy.is_default, policy.name)
        _apply(context, policy, settings, arguments)
        policy.name = arguments.get("Name") or policy.name
        if (policy.settings, policy.is_default, policy.name) == before:
            context.unchanged(policy.name)
        else:
            policy.changed = context.store.now()
            for mailbox in context.store.mailboxes.values():
                if mailbox.policy == before[2]:
                    mailbox.policy = policy.name
    return iter(())


def _remove(context: Context, arguments: dict[str, Any]) -> Iterator[Item | Output]:
    policy = _find(context, arguments["Identity"])
    if policy.is_default and not arguments.get("Force"):
        raise context.invalid(
            f"The policy '{policy.name}' is the default policy and can't be removed without Force.",
            "System.InvalidOperationException",
        )
    with context.store.lock:
        context.store.policies.remove(policy)
        for mailbox in context.store.mailboxes.values():
            if mailbox.policy == policy.name:
                mailbox.policy = None
    return iter(())


for _verb, _run, _own, _needed in (("New", _new, "Name:id", "Name"), ("Set", _set, "Identity:id Name", "Identity")):
    cmdlet(
        f"{_verb}-ActiveSyncMailboxPolicy",
        parameters=f"{_own} {_ACTIVE_SYNC} IsDefaultPolicy:bool IsDefault:bool@2013 DomainController",
        class_name=f"{_TASKS}.{_verb}ActiveSyncMailboxPolicy",
        required=_needed,
        positional=_needed,
    )(_run)
    cmdlet(
        f"{_verb}-MobileDeviceMailboxPolicy",
        parameters=f"{_own} {_MOBILE} IsDefault:bool DomainController",
        class_name=f"{_TASKS}.{_verb}MobileMailboxPolicy",
        required=_needed,
        positional=_needed,
    )(_run)
cmdlet(
    "Remove-ActiveSyncMailboxPolicy",
    "Remove-MobileDeviceMailboxPolicy",
    parameters="Identity:id Force:switch DomainController",
    class_name=f"{_TASKS}.RemoveMobileMailboxPolicy",
    required="Identity",
    confirms=True,
)(_remove)

"""The values of a mailbox policy: what may be asked for, and when two of them mean the same. Reads no table.

Exchange writes sizes and times its own way ("10 MB (10,485,760 bytes)", "00:15:00"), so that what was sent is compared
with what is read by what it means. Only what is documented is refused (exchange.md 2.8); all else Exchange itself may.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from django.core.exceptions import ValidationError
from django.utils.translation import gettext as _

from connectors.exchange.policies import SETTINGS, Kind, PolicyValue
from sync.events import storable

UNLIMITED = "Unlimited"
NAME_LENGTH = 64  # of a common name in Active Directory
LIST_LENGTH = 500
TEXT_LENGTH = 512
# (smallest, largest)
NUMBERS: Mapping[str, tuple[int, int]] = MappingProxyType(
    {"MinPasswordLength": (1, 16), "MinPasswordComplexCharacters": (1, 4), "PasswordHistory": (0, 50)}
)
# A number or "Unlimited"; None: any number.
COUNTS: Mapping[str, tuple[int, int] | None] = MappingProxyType(
    {
        "MaxPasswordFailedAttempts": (4, 16),
        "MaxEmailBodyTruncationSize": None,
        "MaxEmailHTMLBodyTruncationSize": None,
    }
)
# A time or "Unlimited"; limits in seconds.
PERIODS: Mapping[str, tuple[int, int] | None] = MappingProxyType(
    {"MaxInactivityTimeLock": (30, 3600), "PasswordExpiration": None, "DevicePolicyRefreshInterval": None}
)
SIZES = ("MaxAttachmentSize",)
CHOICES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "AllowBluetooth": ("Disable", "HandsfreeOnly", "Allow"),
        "AllowSMIMEEncryptionAlgorithmNegotiation": (
            "BlockNegotiation",
            "OnlyStrongAlgorithmNegotiation",
            "AllowAnyAlgorithmNegotiation",
        ),
        "MaxCalendarAgeFilter": ("All", "TwoWeeks", "OneMonth", "ThreeMonths", "SixMonths"),
        "MaxEmailAgeFilter": ("All", "OneDay", "ThreeDays", "OneWeek", "TwoWeeks", "OneMonth"),
        "RequireEncryptionSMIMEAlgorithm": ("TripleDES", "DES", "RC2128bit", "RC264bit", "RC240bit"),
        "RequireSignedSMIMEAlgorithm": ("SHA1", "MD5"),
    }
)
# Of these Exchange's documentation tells the values; a newer version may know further ones of the others.
CLOSED = ("AllowBluetooth",)
_OFF = frozenset(
    {
        "AllowExternalDeviceManagement", "AllowNonProvisionableDevices", "AlphanumericPasswordRequired",
        "DeviceEncryptionEnabled", "PasswordEnabled", "PasswordRecoveryEnabled", "RequireDeviceEncryption",
        "RequireEncryptedSMIMEMessages", "RequireManualSyncWhenRoaming", "RequireSignedSMIMEMessages",
        "RequireStorageCardEncryption",
    }
)  # fmt: skip
# What New-…MailboxPolicy takes for a setting that it is not told, by its documentation.
DEFAULTS: Mapping[str, PolicyValue] = MappingProxyType(
    {
        **{name: name not in _OFF for name, kind in SETTINGS.items() if kind is Kind.FLAG},
        **{name: () for name, kind in SETTINGS.items() if kind is Kind.LIST},
        "MinPasswordComplexCharacters": 1,
        "MinPasswordLength": 4,
        "PasswordHistory": 0,
        "AllowBluetooth": "Allow",
        "AllowSMIMEEncryptionAlgorithmNegotiation": "AllowAnyAlgorithmNegotiation",
        "DevicePolicyRefreshInterval": UNLIMITED,
        "MaxAttachmentSize": UNLIMITED,
        "MaxCalendarAgeFilter": "All",
        "MaxEmailAgeFilter": "All",
        "MaxEmailBodyTruncationSize": UNLIMITED,
        "MaxEmailHTMLBodyTruncationSize": UNLIMITED,
        "MaxInactivityTimeLock": "00:15:00",
        "MaxPasswordFailedAttempts": "8",
        "PasswordExpiration": UNLIMITED,
        "RequireEncryptionSMIMEAlgorithm": "TripleDES",
        "RequireSignedSMIMEAlgorithm": "SHA1",
    }
)

_PERIOD = re.compile(r"(?:(\d{1,6})\.)?(\d{1,2}):(\d{2}):(\d{2})(?:\.\d+)?", re.ASCII)
_SIZE = re.compile(r"(\d{1,15}(?:\.\d{1,6})?)\s*(B|KB|MB|GB|TB)?(?:\s*\(([\d,]+) bytes\))?", re.ASCII | re.IGNORECASE)
_UNITS = {"": 1, "B": 1, "KB": 1 << 10, "MB": 1 << 20, "GB": 1 << 30, "TB": 1 << 40}
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def seconds_of(text: str) -> int | None:
    """Seconds of a time as Exchange writes it, "[days.]hh:mm:ss"; None for what is none."""
    found = _PERIOD.fullmatch(text.strip())
    if found is None:
        return None
    days, hours, minutes, seconds = (int(part or 0) for part in found.groups())
    if hours > 23 or minutes > 59 or seconds > 59:
        return None
    return ((days * 24 + hours) * 60 + minutes) * 60 + seconds


def bytes_of(text: str) -> int | None:
    """Bytes of a size, "10MB" or "10 MB (10,485,760 bytes)"; None for what is none."""
    found = _SIZE.fullmatch(text.strip())
    if found is None:
        return None
    amount, unit, told = found.groups()
    if told:
        return int(told.replace(",", "") or 0)
    return int(float(amount) * _UNITS[(unit or "").upper()])


def same(name: str, one: PolicyValue, other: PolicyValue) -> bool:
    """Whether two values of a setting mean the same."""
    return bool(_meaning(name, one) == _meaning(name, other))


def _meaning(name: str, value: PolicyValue) -> Any:
    if isinstance(value, tuple):
        return frozenset(item.strip().lower() for item in value)
    if not isinstance(value, str):
        return value
    text = value.strip().lower()
    read = seconds_of(text) if name in PERIODS else bytes_of(text) if name in SIZES else None
    return text if read is None else read


def changes(before: Mapping[str, PolicyValue], after: Mapping[str, PolicyValue]) -> dict[str, PolicyValue]:
    """What of `after` is not in `before`, or differs there; in the order of SETTINGS."""
    return {
        name: after[name]
        for name in SETTINGS
        if name in after and (name not in before or not same(name, before[name], after[name]))
    }


def differing(one: Mapping[str, PolicyValue], other: Mapping[str, PolicyValue]) -> tuple[str, ...]:
    """The settings that only one of two policies shows, or that differ; in the order of SETTINGS."""
    return tuple(
        name
        for name in SETTINGS
        if (name in one) != (name in other) or (name in one and not same(name, one[name], other[name]))
    )


def to_json(settings: Mapping[str, PolicyValue]) -> dict[str, Any]:
    """As the column and a command's payload hold them."""
    stored: dict[str, Any] = storable(dict(settings))
    return stored


def from_json(content: Mapping[str, Any]) -> dict[str, PolicyValue]:
    """Back again; without settings that this version of Gatehouse does not know."""
    return {
        name: tuple(str(item) for item in value) if isinstance(value, list | tuple) else value
        for name, value in content.items()
        if name in SETTINGS
    }


# --- checking ---------------------------------------------------------------------------------------------------------


def name_clean(name: str) -> str:
    """Raises ValidationError keyed by "name"."""
    cleaned = name.strip()
    if not cleaned:
        raise ValidationError({"name": _("Enter a name.")})
    if len(cleaned) > NAME_LENGTH:
        raise ValidationError({"name": _("The name may have up to %(limit)s characters.") % {"limit": NAME_LENGTH}})
    if _CONTROL.search(cleaned):
        raise ValidationError({"name": _("The name holds a character that cannot be printed. Leave it out.")})
    return cleaned


def settings_clean(settings: Mapping[str, PolicyValue]) -> dict[str, PolicyValue]:
    """The settings as they may be sent. Raises ValidationError keyed by their names."""
    cleaned: dict[str, PolicyValue] = {}
    errors: dict[str, str] = {}
    for name, value in settings.items():
        try:
            cleaned[name] = _clean(name, value)
        except ValidationError as error:
            errors[name] = error.messages[0]
    if errors:
        raise ValidationError(dict(errors))
    return cleaned


def _clean(name: str, value: PolicyValue) -> PolicyValue:
    kind = SETTINGS.get(name)
    if kind is None:
        raise ValidationError(_("“%(name)s” is no setting of a mailbox policy.") % {"name": name})
    if kind is Kind.FLAG:
        if not isinstance(value, bool):
            raise ValidationError(_("Choose yes or no."))
        return value
    if kind is Kind.NUMBER:
        return _number(value, NUMBERS[name])
    if kind is Kind.LIST:
        return _list(value)
    return _text(name, value)


def _number(value: PolicyValue, limits: tuple[int, int]) -> int:
    smallest, largest = limits
    if isinstance(value, bool) or not isinstance(value, int) or not smallest <= value <= largest:
        raise ValidationError(
            _("Enter a whole number from %(smallest)s to %(largest)s.") % {"smallest": smallest, "largest": largest}
        )
    return value


def _list(value: PolicyValue) -> tuple[str, ...]:
    if not isinstance(value, tuple):
        raise ValidationError(_("Enter one entry a line."))
    entries = tuple(dict.fromkeys(item.strip() for item in value if item.strip()))
    if len(entries) > LIST_LENGTH or any(len(item) > TEXT_LENGTH or _CONTROL.search(item) for item in entries):
        raise ValidationError(
            _("Enter up to %(count)s entries of up to %(length)s characters.")
            % {"count": LIST_LENGTH, "length": TEXT_LENGTH}
        )
    return entries


def _text(name: str, value: PolicyValue) -> str:
    text = value.strip() if isinstance(value, str) else ""
    if not text or len(text) > TEXT_LENGTH or _CONTROL.search(text):
        raise ValidationError(_("Enter a value."))
    if name in CHOICES:
        return _choice(name, text)
    if text.lower() == UNLIMITED.lower():
        return UNLIMITED
    if name in COUNTS:
        return _count(text, COUNTS[name])
    if name in PERIODS:
        return _period(text, PERIODS[name])
    if name in SIZES and bytes_of(text) is None:
        raise ValidationError(_("Enter a size such as 10MB, or Unlimited."))
    return text


def _choice(name: str, text: str) -> str:
    known = {choice.lower(): choice for choice in CHOICES[name]}
    if text.lower() not in known and name in CLOSED:
        raise ValidationError(_("Choose one of %(choices)s.") % {"choices": ", ".join(CHOICES[name])})
    return known.get(text.lower(), text)


def _count(text: str, limits: tuple[int, int] | None) -> str:
    is_number = text.isascii() and text.isdecimal() and len(text) <= 9
    if limits is None and not is_number:
        raise ValidationError(_("Enter a whole number, or Unlimited."))
    if limits is not None and not (is_number and limits[0] <= int(text) <= limits[1]):
        raise ValidationError(
            _("Enter a whole number from %(smallest)s to %(largest)s, or Unlimited.")
            % {"smallest": limits[0], "largest": limits[1]}
        )
    return str(int(text))


def _period(text: str, limits: tuple[int, int] | None) -> str:
    seconds = seconds_of(text)
    if seconds is None:
        raise ValidationError(_("Enter a time as hh:mm:ss or days.hh:mm:ss, such as 00:15:00, or Unlimited."))
    if limits is not None and not limits[0] <= seconds <= limits[1]:
        raise ValidationError(
            _("Enter a time from %(smallest)s to %(largest)s, or Unlimited.")
            % {"smallest": _written(limits[0]), "largest": _written(limits[1])}
        )
    return _written(seconds)


def _written(seconds: int) -> str:
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    clock = f"{hours:02}:{minutes:02}:{rest:02}"
    return f"{days}.{clock}" if days else clock

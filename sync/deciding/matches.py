"""What match answers with: frozen values and their words. Does nothing."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from sync.deciding.facts import DirectoryUser, Key, ManagedDevice
from sync.deciding.people import UserKey


class Outcome(StrEnum):
    MATCHED = "matched"
    AMBIGUOUS = "ambiguous"
    UNMATCHED = "unmatched"
    OTHER_PERSONS = "otherPersons"
    NOT_ACTIVE_SYNC = "notActiveSync"


class DeviceBy(StrEnum):
    """What joins phone and record."""

    LINK = "link"
    EAS_ID = "easDeviceId"


class Confidence(StrEnum):
    HIGH = "high"
    MEDIUM = "medium"
    LOW = "low"


class Likeness(StrEnum):
    """Why a record is suggested."""

    APPLE_SERIAL = "appleSerial"  # the DeviceId is "Appl" and the record's serial number
    IMEI = "imei"
    RESET = "reset"  # same person, model and system as a phone that is silent since this one came
    ID_OF_NOBODY = "idOfNobody"  # the record holds this DeviceId and names no person
    ONLY_RECORD = "onlyRecord"  # of the person's records, the only one that is no phone's yet


@dataclass(frozen=True, slots=True)
class Suggestion:
    """A record that may be this phone's, for a person to confirm. instead_of: the DeviceId that it has had so far."""

    record: Key
    confidence: Confidence
    likeness: Likeness
    instead_of: str = ""


class Match(NamedTuple):
    """What is known of one phone. A tuple, since one is made of every phone and tuples are made fastest.

    record: the phone's when MATCHED; the other person's when OTHER_PERSONS; else None. person: the mailbox's, or None
    when the directory has none or several. others: when AMBIGUOUS those that cannot be told apart, when MATCHED older
    records of the same phone, when OTHER_PERSONS further ones; the first few.
    """

    outcome: Outcome
    record: ManagedDevice | None = None
    person: DirectoryUser | None = None
    device_by: DeviceBy | None = None
    user_by: UserKey | None = None
    others: tuple[ManagedDevice, ...] = ()
    suggestions: tuple[Suggestion, ...] = ()

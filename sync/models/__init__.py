"""The tables of the sync package, one module a concern."""

from sync.models.access import AccessOverride, DeviceAccess, DeviceLink, EntryChoice, MailboxCheck, PolicyVersion
from sync.models.devices import DeviceStatistics, MobileDevice
from sync.models.dry_runs import DryRun, DryRunLine
from sync.models.journal import Approval, Command, DeviceEvent, Drift, HeldDenial, LedgerEntry, OrganizationLedger
from sync.models.mailboxes import Mailbox, MailboxPolicy
from sync.models.notifications import Notification
from sync.models.records import (
    CsvImport,
    DirectoryGroup,
    DirectoryUser,
    GroupMember,
    ManagedDevice,
    Presence,
    UserKeyText,
)
from sync.models.runs import RunEvent, SyncRun

__all__ = [
    "AccessOverride",
    "Approval",
    "Command",
    "CsvImport",
    "DeviceAccess",
    "DeviceEvent",
    "DeviceLink",
    "DeviceStatistics",
    "DirectoryGroup",
    "DirectoryUser",
    "Drift",
    "DryRun",
    "DryRunLine",
    "EntryChoice",
    "GroupMember",
    "HeldDenial",
    "LedgerEntry",
    "Mailbox",
    "MailboxCheck",
    "MailboxPolicy",
    "ManagedDevice",
    "MobileDevice",
    "Notification",
    "OrganizationLedger",
    "PolicyVersion",
    "Presence",
    "RunEvent",
    "SyncRun",
    "UserKeyText",
]

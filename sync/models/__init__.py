"""The tables of the sync package, one module a concern."""

from sync.models.devices import MobileDevice
from sync.models.runs import RunEvent, SyncRun

__all__ = ["MobileDevice", "RunEvent", "SyncRun"]

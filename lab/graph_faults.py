"""What goes wrong with Graph, on demand: a tenant's own faults, by kind and by part of the path."""

from __future__ import annotations

import threading
import uuid
from dataclasses import dataclass, field

# kind → what happens; `value` is what the kind says.
KINDS = frozenset(
    {
        "status",  # HTTP `value` (500, 502, 503, 504, 408, 410 ...) in Graph's shape
        "slow",  # `value` seconds before the answer
        "drop",  # the connection is closed without an answer
        "cut",  # the answer ends in its middle
        "not_json",  # 200 with HTML, as a proxy sends
        "huge",  # 200 with `value` megabytes of blanks before the answer
        "redirect",  # 302 to `value`
        "claims",  # 403 that asks for claims, by conditional access
        "unauthorized",  # 401 for any token
        "no_intune",  # what is below deviceManagement answers 400
        "hide",  # `value` devices are missing from lists; counts still hold them
        "null_eas",  # easDeviceId is null in lists
        "page_count",  # @odata.count counts the page's rows
        "no_count",  # no @odata.count, no overview
        "repeat",  # every page begins with the last row of the one before
        "odd_row",  # lastSyncDateTime of a list's first row is a number
        "foreign_link",  # @odata.nextLink leads to `value`
        "endless",  # @odata.nextLink leads to the same page again
        "top",  # a $top of more than `value` is refused
        "veiled",  # members come with id and nulls
        "no_plans",  # users come without assignedPlans
        "lag",  # @odata.count of members is `value` more than there are
        "secret_expired",  # the sign-in service says 7000222
        "sign_in",  # the sign-in service says AADSTS`value`
        "sign_in_down",  # the sign-in service says 503
    }
)


@dataclass
class GraphFault:
    """`path` "" is every path, otherwise a part of it. `times` 0: until it is lifted."""

    kind: str
    path: str = ""
    value: str = ""
    times: int = 0
    id: str = field(default_factory=lambda: uuid.uuid4().hex[:8])
    used: int = 0

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"unknown fault kind {self.kind!r}; known: {', '.join(sorted(KINDS))}")


class GraphFaults:
    """The active faults of one tenant. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._faults: list[GraphFault] = []

    def add(self, fault: GraphFault) -> GraphFault:
        with self._lock:
            self._faults.append(fault)
        return fault

    def clear(self, fault_id: str = "") -> None:
        with self._lock:
            self._faults = [fault for fault in self._faults if fault_id and fault.id != fault_id]

    def all(self) -> list[GraphFault]:
        with self._lock:
            return list(self._faults)

    def take(self, kind: str, path: str) -> GraphFault | None:
        """The first that fits, counted as used once; gone when its times are over."""
        with self._lock:
            for fault in self._faults:
                if fault.kind == kind and fault.path.lower() in path.lower():
                    fault.used += 1
                    if fault.times and fault.used >= fault.times:
                        self._faults.remove(fault)
                    return fault
        return None

"""The one order in which rows are locked: the connector, then its run. Everything that locks either goes through here.

With one order no two of button, worker, schedule and recovery can wait for each other in a circle; and since both rows
are held, what is decided about a run (join it, end it, promise a full sync after it) is decided about its state now.
"""

from __future__ import annotations

from connectors.models import Connector
from sync.models import SyncRun


def run_locked(run_id: int, **conditions: object) -> SyncRun | None:
    """The run with its connector (`run.connector`), both locked until the transaction ends.

    None when there is no such run, or when it does not meet the conditions (field lookups) now.
    """
    connector_id = SyncRun.objects.filter(pk=run_id).values_list("connector_id", flat=True).first()
    if connector_id is None:
        return None
    connector = Connector.objects.select_for_update().filter(pk=connector_id).first()
    if connector is None:
        return None
    run = SyncRun.objects.select_for_update().filter(pk=run_id, **conditions).first()
    if run is not None:
        run.connector = connector
    return run

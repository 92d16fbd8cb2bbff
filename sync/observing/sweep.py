"""After a complete listing: marking as gone what it did not hold, unless there is reason to doubt it.

Exchange answers a listing "complete" also when the account's scope was narrowed, or when the domain controller it asked
knows only part of the forest. So a listing in which most of the known devices are missing is not believed the first
time: nothing is marked, and the run says so. The next full sync that finds the same is believed. Marked rows stay, with
the time, and come back when they are seen again.
"""

from __future__ import annotations

from sync.events import WARNING
from sync.lease import Lease
from sync.models import RunEvent, SyncRun
from sync.observing.record import gone_mark, unseen

# Fewer missing devices than this are believed at once: in a small organisation a few people can be most of it.
DOUBTFUL_COUNT = 10
HELD = "sweep_held"


def sweep(*, lease: Lease, organization_id: int, rejected: int) -> None:
    """Mark what is gone, and tell it; or tell why nothing was marked. Raises LeaseLostError."""
    if rejected:
        # A missing device may be among those that could not be read.
        lease.note("sweep_skipped", WARNING, rejected=rejected)
        return
    run = SyncRun.objects.get(pk=lease.run_id)
    missing = unseen(organization_id, lease.fence).count()
    known = run.expected or 0
    if is_doubtful(missing=missing, known=known) and not _was_held_before(run):
        lease.note(HELD, WARNING, missing=missing, known=known)
        return
    gone = gone_mark(lease=lease, organization_id=organization_id)
    if gone:
        lease.note("gone_marked", gone=gone)


def is_doubtful(*, missing: int, known: int) -> bool:
    """Whether so many missing of those known before speak against the listing rather than the devices."""
    return missing >= DOUBTFUL_COUNT and missing * 2 > known


def _was_held_before(run: SyncRun) -> bool:
    """Whether the last full sync that succeeded met the same doubt: two listings agree, then."""
    last = (
        SyncRun.objects.filter(connector_id=run.connector_id, kind=SyncRun.Kind.FULL, status=SyncRun.Status.SUCCEEDED)
        .exclude(pk=run.pk)
        .order_by("-queued_at", "-pk")
        .first()
    )
    return last is not None and RunEvent.objects.filter(run=last, code=HELD).exists()

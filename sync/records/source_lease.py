"""One reading of a tenant's source at a time, whoever asks: several connectors of a tenant share it.

Times are the database's. A holder that died is waited for until its lease is over.
"""

from __future__ import annotations

import datetime
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from django.db import transaction
from django.db.models import F, Q
from django.db.models.functions import Now

from connectors.graph.errors import CanceledError
from connectors.models import DeviceSource
from sync.lease import owner_name

# Longer than one request of Graph with all its retries may take; renewed with every page that is written.
LEASE = datetime.timedelta(seconds=240)
# Seconds between two looks at a reading that somebody else does.
POLL = 1.0


class SourceLeaseLostError(Exception):
    """Another reading began since: this one must write nothing more."""


class SourceLease:
    """The right to write what the source says. number: of this listing, which its records carry."""

    def __init__(self, *, source_id: int, owner: str, number: int) -> None:
        self.source_id = source_id
        self.number = number
        self._owner = owner

    @contextmanager
    def guard(self) -> Iterator[DeviceSource]:
        """A transaction in which the lease is surely held, and renewed. Raises SourceLeaseLostError."""
        with transaction.atomic():
            source = DeviceSource.objects.select_for_update().filter(pk=self.source_id, lease_owner=self._owner).first()
            if source is None:
                raise SourceLeaseLostError(f"the source {self.source_id} is read by somebody else")
            DeviceSource.objects.filter(pk=self.source_id).update(lease_expires_at=Now() + LEASE)
            yield source


@contextmanager
def source_lease(source_id: int, should_stop: Callable[[], bool]) -> Iterator[tuple[SourceLease, bool]]:
    """The lease, and whether somebody else's reading had to be waited for. Raises CanceledError."""
    # Each reading has a name of its own: one process may do several.
    owner = f"{owner_name()}/{uuid.uuid4().hex[:8]}"
    waited = False
    while not _take(source_id, owner):
        waited = True
        if should_stop():
            raise CanceledError
        time.sleep(POLL)
    number = DeviceSource.objects.values_list("listing_number", flat=True).get(pk=source_id)
    try:
        yield SourceLease(source_id=source_id, owner=owner, number=number), waited
    finally:
        DeviceSource.objects.filter(pk=source_id, lease_owner=owner).update(lease_owner="", lease_expires_at=None)


def _take(source_id: int, owner: str) -> bool:
    free = Q(lease_expires_at=None) | Q(lease_expires_at__lt=Now())
    return bool(
        DeviceSource.objects.filter(free, pk=source_id).update(
            lease_owner=owner, lease_expires_at=Now() + LEASE, listing_number=F("listing_number") + 1
        )
    )

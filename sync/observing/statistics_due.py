"""Whose statistics are to be read, and how long that would roughly take. Reads rows alone.

Reading opens the mailbox, one call each, so that what was read within a day counts as known and is left out; whoever
begins again after a break goes on by that.
"""

from __future__ import annotations

import datetime
import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from django.db.models import Count, F, Q, QuerySet
from django.db.models.functions import Now

from connectors.models import Connector
from sync.blocks import blocks
from sync.models import Mailbox, MobileDevice, SyncRun
from sync.observing.mailboxes import dn_key, mailbox_dn

# What was read within this time is not read again in bulk.
FRESH = datetime.timedelta(hours=24)
# Seconds that one mailbox is guessed to take, and those to sign in, before a reading of this organization has shown it:
# nobody has published a figure. A reading of fewer devices shows nothing.
GUESSED, SIGN_IN = 0.5, 5.0
ENOUGH = 20


@dataclass(frozen=True, slots=True)
class Box:
    """A mailbox to be read. identity: its GUID, or its distinguished name where it has no row; "" when nothing says
    whose its devices are. devices: (DeviceId for comparing, key) of each of its present devices; due: how many of them
    are to be read."""

    identity: str
    name: str
    devices: tuple[tuple[str, int], ...]
    due: int


@dataclass(frozen=True, slots=True)
class Ahead:
    """What a reading would have to do. seconds: roughly; is_measured: by the last reading, not by a guess."""

    devices: int
    mailboxes: int
    seconds: float
    is_measured: bool


def devices_due(organization_id: int) -> QuerySet[MobileDevice]:
    """Present devices whose statistics were never read, or not within FRESH."""
    old = Q(statistics=None) | Q(statistics__read_at__lt=Now() - FRESH)
    return MobileDevice.objects.filter(old, organization=organization_id, gone_at=None)


def statistics_ahead(connector: Connector) -> Ahead:
    """Three queries."""
    due = devices_due(connector.organization_id).order_by()
    counts = due.aggregate(
        devices=Count("pk"),
        owners=Count("owner", distinct=True),
        # Of devices whose mailbox has no row yet, the text in their identity tells them apart.
        others=Count("mailbox_key", distinct=True, filter=Q(owner=None)),
    )
    mailboxes = counts["owners"] + counts["others"]
    rate = _rate(connector)
    if rate is not None:
        return Ahead(counts["devices"], mailboxes, counts["devices"] / rate, is_measured=True)
    seconds = SIGN_IN + mailboxes * GUESSED / connector.parallel_commands
    return Ahead(counts["devices"], mailboxes, seconds, is_measured=False)


def _rate(connector: Connector) -> float | None:
    """Devices a second, waits for Exchange's sake included, of the last reading that came far enough to tell."""
    done = SyncRun.objects.filter(
        connector=connector,
        kind=SyncRun.Kind.STATISTICS,
        observed__gte=ENOUGH,
        finished_at__gt=F("devices_started_at"),
    )
    found = done.order_by("-queued_at").values_list("observed", "devices_started_at", "finished_at").first()
    if found is None or found[1] is None or found[2] is None:
        return None
    return found[0] / float((found[2] - found[1]).total_seconds())


def boxes_due(organization_id: int) -> Iterator[Box]:
    """The mailboxes to be read, some rows at a time, each once whatever becomes of it meanwhile."""
    due = devices_due(organization_id)
    known = due.filter(owner__isnull=False, owner__gone_at=None).order_by("owner")
    owners = list(known.values_list("owner", flat=True).distinct())
    # Devices of one mailbox stand beside one another, so that it is asked once.
    others = due.filter(Q(owner=None) | Q(owner__gone_at__isnull=False)).order_by("mailbox_key", "pk")
    strays = list(others.values_list("pk", flat=True))
    for chosen in blocks(owners):
        yield from _known(organization_id, chosen)
    for chosen in blocks(strays):
        yield from _strays(chosen)


def _known(organization_id: int, owners: list[int]) -> Iterator[Box]:
    """With all their devices: one call tells of each."""
    due = set(devices_due(organization_id).filter(owner__in=owners).values_list("pk", flat=True))
    rows = MobileDevice.objects.filter(owner__in=owners, gone_at=None).order_by("owner_id", "pk")
    devices: dict[int, list[tuple[str, int]]] = {}
    for owner, key, pk in rows.values_list("owner_id", "device_id_key", "pk"):
        devices.setdefault(owner or 0, []).append((key, pk))
    boxes = Mailbox.objects.in_bulk(owners)
    for owner in owners:
        box, present = boxes.get(owner), devices.get(owner, [])
        count = sum(pk in due for _key, pk in present)
        if box is not None and count:
            yield Box(str(box.guid), str(box), tuple(present), count)


def _strays(pks: list[int]) -> Iterator[Box]:
    """Devices whose mailbox has no row: where nothing governs an organization yet, mailboxes are not listed. Their own
    distinguished name holds the mailbox's."""
    found = MobileDevice.objects.filter(pk__in=pks, gone_at=None).order_by("mailbox_key", "pk")
    rows = found.values_list("distinguished_name", "mailbox", "device_id_key", "pk")
    for _key, group in itertools.groupby(rows, lambda row: dn_key(mailbox_dn(row[0]))):
        yield _stray(list(group))


def _stray(rows: Iterable[tuple[str, str, str, int]]) -> Box:
    devices = list(rows)
    name, mailbox, _key, _pk = devices[0]
    present = tuple((key, pk) for _name, _mailbox, key, pk in devices)
    return Box(mailbox_dn(name), mailbox, present, len(present))

"""The list of devices, a page at a time: filters, sort and a cursor, for whoever may see them.

Pages follow one another by the last row's values (keyset), not by number: page 400 costs what page 1 costs, and a sync
that adds rows in the meantime makes nobody see a row twice. Reads only.
"""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from django.core import signing
from django.db.models import F, Q, QuerySet
from django.db.models.expressions import OrderBy

from connectors.selectors import Person
from sync.deciding.facts import State
from sync.deciding.verdicts import Row
from sync.models import Approval, HeldDenial, MobileDevice
from sync.selectors import devices_for

# Column of each sort a page may name. first_sync_time is the only one that can be NULL.
SORTS: Mapping[str, str] = {
    "user": "user_display_name",
    "model": "device_model",
    "os": "device_os",
    "state": "access_state",
    "first_sync": "first_sync_time",
    "changed": "changed_at",
}
DEFAULT_SORT = "user"
PAGE_SIZE = 50
# Counting stops here: beyond it a number helps nobody and costs time that grows with it.
COUNT_LIMIT = 100_000
_SALT = "sync.device_page"


# What Exchange shows where it does what a verdict comes to. Other states of verdicts say nothing that could differ.
SHOWN: Mapping[str, str] = {State.ALLOWED: "Allowed", State.BLOCKED: "Blocked", State.QUARANTINED: "Quarantined"}
UNDECIDED = "undecided"


def differs() -> Q:
    """Devices of which Exchange shows something else than their verdict comes to. What does not read mail over
    ActiveSync is not ours to compare, and where Exchange tells no state nothing differs."""
    same = Q()
    for state, label in SHOWN.items():
        same |= Q(access__state=state, access_state=label)
    return Q(access__state__in=list(SHOWN)) & ~same & ~Q(access_state="") & ~Q(access__rule=Row.NOT_ACTIVE_SYNC.value)


def _is_waiting() -> Q:
    waiting = HeldDenial.objects.filter(approval__state=Approval.State.WAITING)
    return Q(pk__in=waiting.values("device"))


def _is_overridden() -> Q:
    return Q(access__rule__in=[Row.OVERRIDE_ALLOW.value, Row.OVERRIDE_BLOCK.value])


_ATTENTION: Mapping[str, Callable[[], Q]] = {
    "differs": differs,
    "hindered": lambda: Q(access__isnull=False) & ~Q(access__hindered_by=""),
    "waiting": _is_waiting,
    "override": _is_overridden,
}
ATTENTIONS = tuple(_ATTENTION)


class CursorError(ValueError):
    """A cursor that is not one of ours, or belongs to another sort."""


@dataclass(frozen=True, slots=True)
class DeviceFilters:
    """Empty means any. State, reason and client type are Exchange's labels, compared as they are spelt; verdict, rule
    and outcome are DeviceAccess's values, "undecided" for devices without one.

    attention: "differs" (Exchange shows something else than the verdict comes to), "hindered" (an entry of somebody
    else is in the verdict's way), "waiting" (its denial waits for approval), "override" (an administrator decided).
    """

    organization: uuid.UUID | None = None
    state: str = ""
    reason: str = ""
    client_type: str = ""
    verdict: str = ""
    rule: str = ""
    outcome: str = ""
    attention: str = ""
    presence: str = "present"  # present, gone, all
    text: str = ""

    @property
    def is_empty(self) -> bool:
        return self == DeviceFilters()


@dataclass(frozen=True, slots=True)
class DevicePage:
    """`devices` in the order asked for. Cursors are "" where there is nothing further that way."""

    devices: list[MobileDevice]
    count: int
    is_count_exact: bool
    next_cursor: str
    previous_cursor: str


@dataclass(frozen=True, slots=True)
class _Place:
    """The row beside which a page begins. `back`: the page that ends before it."""

    sort: str
    value: Any
    pk: int
    back: bool = False


def device_page(
    person: Person,
    filters: DeviceFilters,
    *,
    sort: str = DEFAULT_SORT,
    descending: bool = False,
    cursor: str = "",
    size: int = PAGE_SIZE,
) -> DevicePage:
    """One page of the devices that the person may see; two queries. Raises CursorError."""
    if sort not in SORTS:
        raise ValueError(f"no sort {sort!r}; there are {', '.join(SORTS)}")
    found = _filtered(devices_for(person).select_related("organization__tenant", "access", "owner"), filters)
    place = _read(cursor, sort) if cursor else None
    back = place is not None and place.back
    rows = found if place is None else found.filter(_beyond(place, SORTS[sort], descending != back))
    # One more than the page holds tells whether there is a further one.
    taken = list(rows.order_by(*_order(SORTS[sort], descending != back))[: size + 1])
    has_more = len(taken) > size
    devices = taken[:size][::-1] if back else taken[:size]
    count = found.order_by()[: COUNT_LIMIT + 1].count()
    return DevicePage(
        devices=devices,
        count=min(count, COUNT_LIMIT),
        is_count_exact=count <= COUNT_LIMIT,
        next_cursor=_write(sort, devices[-1], back=False) if devices and (has_more or back) else "",
        previous_cursor=_write(sort, devices[0], back=True)
        if devices and (has_more if back else place is not None)
        else "",
    )


def _filtered(found: QuerySet[MobileDevice], filters: DeviceFilters) -> QuerySet[MobileDevice]:
    if filters.organization is not None:
        found = found.filter(organization__public_id=filters.organization)
    if filters.presence != "all":
        found = found.filter(gone_at__isnull=filters.presence != "gone")
    if filters.state:
        found = found.filter(access_state=filters.state)
    if filters.reason:
        found = found.filter(access_state_reason=filters.reason)
    if filters.client_type:
        found = found.filter(client_type=filters.client_type)
    if filters.verdict:
        found = (
            found.filter(access=None) if filters.verdict == UNDECIDED else found.filter(access__state=filters.verdict)
        )
    if filters.rule:
        found = found.filter(access__rule=filters.rule)
    if filters.outcome:
        found = found.filter(access__outcome=filters.outcome)
    if filters.attention in _ATTENTION:
        found = found.filter(_ATTENTION[filters.attention]())
    # Every word must be found somewhere: "ada iphone" is Ada's phone.
    for word in filters.text.split()[:8]:
        found = found.filter(
            Q(user_display_name__icontains=word)
            | Q(mailbox__icontains=word)
            | Q(device_id__icontains=word)
            | Q(device_model__icontains=word)
            | Q(friendly_name__icontains=word)
            | Q(device_type__icontains=word)
            | Q(device_os__icontains=word)
        )
    return found


def _order(column: str, descending: bool) -> tuple[OrderBy, OrderBy]:
    # NULL stands before everything in either database.
    if descending:
        return F(column).desc(nulls_last=True), F("pk").desc()
    return F(column).asc(nulls_first=True), F("pk").asc()


def _beyond(place: _Place, column: str, descending: bool) -> Q:
    """What stands after the place in the order; a tie is broken by the key."""
    none = Q(**{f"{column}__isnull": True})
    if place.value is None:
        return none & Q(pk__lt=place.pk) if descending else (none & Q(pk__gt=place.pk)) | ~none
    same = Q(**{column: place.value})
    if descending:
        return Q(**{f"{column}__lt": place.value}) | none | (same & Q(pk__lt=place.pk))
    return Q(**{f"{column}__gt": place.value}) | (same & Q(pk__gt=place.pk))


def _write(sort: str, device: MobileDevice, *, back: bool) -> str:
    value = getattr(device, SORTS[sort])
    if isinstance(value, datetime.datetime):
        value = value.isoformat()
    return signing.dumps([sort, value, device.pk, back], salt=_SALT, compress=True)


def _read(cursor: str, sort: str) -> _Place:
    try:
        place = _Place(*signing.loads(cursor, salt=_SALT))
    except (signing.BadSignature, TypeError, ValueError) as error:
        raise CursorError("not a cursor of this list") from error
    if place.sort != sort:
        raise CursorError(f"a cursor of the sort by {place.sort}")
    if MobileDevice._meta.get_field(SORTS[sort]).get_internal_type() == "DateTimeField" and place.value is not None:
        place = replace(place, value=datetime.datetime.fromisoformat(place.value))
    return place

"""The groups of a tenant's directory, for whoever writes a policy: found by name, and known to be there.

Speaks to the tenant's source, for seconds and outside of any transaction. A source that does not answer keeps nobody
from changing a policy: a group that could not be asked about is taken as it is, and the reading of its members tells.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.core.exceptions import ValidationError
from django.utils.translation import gettext_lazy as _

from connectors.graph.client import Options
from connectors.graph.errors import BadRequestGraphError, CanceledError, GraphError, TransientGraphError
from connectors.graph.source import GraphSource
from connectors.models import DeviceSource, Tenant
from connectors.sources import source_for, source_of
from sync.models import DirectoryGroup
from sync.policies.policy import GroupRef

logger = logging.getLogger(__name__)

# Seconds that a page waits for the directory.
PATIENCE = 12.0
FOUND_LIMIT = 25

OpenSource = Callable[..., AbstractContextManager[GraphSource]]


@dataclass(frozen=True, slots=True)
class GroupSearch:
    """found: by name, at most FOUND_LIMIT. error: why the directory could not be asked; then found is what is known
    here. is_directory: a directory was asked; without one groups are found among those known here, or entered by ID."""

    found: tuple[GroupRef, ...]
    is_directory: bool
    error: GraphError | None = None


def groups_search(tenant: Tenant, text: str, *, open_source: OpenSource = source_for) -> GroupSearch:
    """Groups whose name begins with, or whose ID is, `text`. Never raises GraphError."""
    text = text.strip()[:120]
    if not text:
        return GroupSearch((), is_directory=False)
    if source_of(tenant).kind != DeviceSource.Kind.GRAPH:
        return GroupSearch(_known_like(tenant, text), is_directory=False)
    try:
        with _opened(tenant, open_source) as source:
            records = source.groups_search(text, FOUND_LIMIT)
    except (GraphError, CanceledError) as error:
        problem = error if isinstance(error, GraphError) else TransientGraphError("too slow", code="graph_timed_out")
        logger.warning("groups of tenant %s could not be searched: %s", tenant.public_id, problem.code)
        return GroupSearch(_known_like(tenant, text), is_directory=True, error=problem)
    return GroupSearch(tuple(GroupRef(one.id, one.display_name) for one in records), is_directory=True)


def _known_like(tenant: Tenant, text: str) -> tuple[GroupRef, ...]:
    known = DirectoryGroup.objects.filter(tenant=tenant)
    rows = known.filter(name__icontains=text) | known.filter(source_id__iexact=text)
    return tuple(GroupRef(row.source_id, row.name) for row in rows.order_by("name")[:FOUND_LIMIT])


def groups_resolve(
    tenant: Tenant, groups: Sequence[GroupRef], *, before: Collection[str] = (), open_source: OpenSource = source_for
) -> tuple[GroupRef, ...]:
    """The groups with the names that they have now. before: ids that the policy names already; those, and others that
    were read, are not asked about.

    Raises ValidationError for ids that the directory says it does not have. Where the source pushes its groups to us,
    those pushed are the directory, once there are any.
    """
    known = {row.source_id.lower(): row.name for row in DirectoryGroup.objects.filter(tenant=tenant)}
    taken = {one.lower() for one in before} | set(known)
    fresh = [group for group in groups if group.id and group.id.lower() not in taken]
    kind = source_of(tenant).kind
    names: dict[str, str | None] = {}
    if fresh and kind == DeviceSource.Kind.GRAPH:
        names = _asked(tenant, fresh, open_source)
    elif kind == DeviceSource.Kind.PUSHED and known:
        names = {group.id.lower(): None for group in fresh}
    unknown = [group for group in fresh if names.get(group.id.lower(), "") is None]
    if unknown:
        raise ValidationError([_unknown_error(group) for group in unknown])
    return tuple(
        GroupRef(group.id, names.get(group.id.lower()) or known.get(group.id.lower()) or group.name) for group in groups
    )


def _asked(tenant: Tenant, groups: Sequence[GroupRef], open_source: OpenSource) -> dict[str, str | None]:
    """Names by id in lower case: None for a group that is not there; one that could not be asked about is missing."""
    names: dict[str, str | None] = {}
    try:
        with _opened(tenant, open_source) as source:
            for group in groups:
                try:
                    record = source.group(group.id)
                except BadRequestGraphError:
                    record = None  # an id of another form than the directory's is no group of it
                names[group.id.lower()] = record.display_name if record else None
    except (GraphError, CanceledError) as error:
        logger.warning("groups of tenant %s were not verified: %s", tenant.public_id, getattr(error, "code", "slow"))
    return names


def _unknown_error(group: GroupRef) -> ValidationError:
    return ValidationError(
        _(
            "There is no group “%(value)s” in the directory. It may have been deleted, or the ID belongs to something "
            "else. Search for the group by its name."
        ),
        code="group_unknown",
        params={"value": group.name or group.id},
    )


def _opened(tenant: Tenant, open_source: OpenSource) -> AbstractContextManager[GraphSource]:
    end = time.monotonic() + PATIENCE
    options: dict[str, Any] = {
        "connect_timeout": 5.0,
        "read_timeout": 8.0,
        "patience": 8.0,
        "deadline": PATIENCE,
    }
    return open_source(
        tenant,
        lambda: time.monotonic() > end,
        options=Options(proxy=settings.GRAPH_PROXY or None, ca_file=settings.GRAPH_CA_FILE or None, **options),
    )

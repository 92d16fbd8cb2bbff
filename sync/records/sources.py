"""Reading a tenant's Graph: people, the groups that its policy names, device records.

Page by page, each page one short transaction under the source's lease, so that memory stays flat and no transaction
spans the network. What a change concerns is asked to be checked in the same transaction: a change that was seen is
acted upon, even if the reader dies right after.

Absence from one listing marks nobody as gone. A record that a complete listing did not hold is MISSING, and counts as
before; it is GONE when Graph says of it alone that it is not there, or when a second complete listing does not hold it
either. A listing that lacks most of what was known is doubted: then only the second listing tells.
"""

from __future__ import annotations

import datetime
import logging
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TypeAlias

from django.db.models import QuerySet
from django.utils import timezone

from connectors.exchange.client import never
from connectors.graph.errors import BadRequestGraphError, GraphError, NotFoundGraphError, StopGraphError
from connectors.graph.records import ManagedDeviceRecord, UserRecord
from connectors.graph.source import GraphSource
from connectors.models import DeviceSource, Tenant
from connectors.secrets import Secret, SecretError
from connectors.sources import source_answered, source_failed, source_for
from sync.acting.checks import check_request
from sync.models import DirectoryUser, Mailbox, ManagedDevice, PolicyVersion, Presence
from sync.observing.sweep import is_doubtful
from sync.policies.policy import TenantPolicyValues
from sync.records import people_store
from sync.records.affected import affected_mailboxes
from sync.records.record_store import Touched, graph_values, records_end, records_store
from sync.records.source_lease import SourceLease, SourceLeaseLostError, source_lease

logger = logging.getLogger(__name__)

# A reading that began so recently serves whoever does not say since when it asks.
FRESH = datetime.timedelta(seconds=60)
# A directory that offers no delta is read whole; not with every look at the records.
USERS_AGE = datetime.timedelta(minutes=30)
# Single questions of one reading ("is it really gone?", "is she licensed?"). The rest waits for the next.
CONFIRM_LIMIT = 200
LICENCE_LIMIT = 200
# Records of which two listings agree that they are gone: so many are asked for by themselves all the same.
SAMPLE = 20
BECAUSE = "recordChanged"

Open: TypeAlias = Callable[[Tenant, Callable[[], bool]], AbstractContextManager[GraphSource]]


@dataclass(frozen=True, slots=True)
class RefreshReport:
    """What a reading came to.

    kind: of the source; a tenant whose source is not Graph has nothing to be read, which is no error. is_complete: the
    listing of records held all of them. mailboxes: those that a change concerns, of all the tenant's organizations.
    error_code: why a part could not be read, "" when all could.
    """

    kind: str
    mailboxes: frozenset[int] = frozenset()
    created: int = 0
    changed: int = 0
    unchanged: int = 0
    missing: int = 0
    gone: int = 0
    people: int = 0
    members: int = 0
    rejected: int = 0
    is_complete: bool = True
    is_doubted: bool = False
    is_reused: bool = False
    groups_failed: tuple[str, ...] = ()
    error_code: str = ""
    error_params: dict[str, object] = field(default_factory=dict)

    @property
    def is_readable(self) -> bool:
        """Whether what is known of records can be relied on to deny somebody access."""
        return not self.error_code and (self.is_complete or self.is_reused)


def records_refresh(
    tenant_id: int,
    *,
    should_stop: Callable[[], bool] = never,
    full: bool,
    except_organization: int | None = None,
    asked_at: datetime.datetime | None = None,
    open_source: Open = source_for,
) -> RefreshReport:
    """Read the tenant's source, and ask for checks of the mailboxes that changes concern.

    full: people are read whole too where the directory offers no delta. except_organization: its mailboxes are not
    asked to be checked, since the caller decides them all. asked_at: a reading that began after this serves as well,
    and none from before: who presses a button has seen something change. Raises CanceledError; what Graph says wrong is
    in the report and on the source's row.
    """
    tenant = Tenant.objects.get(pk=tenant_id)
    source = DeviceSource.objects.filter(tenant=tenant).first()
    if source is None or source.kind != DeviceSource.Kind.GRAPH:
        return RefreshReport(source.kind if source else DeviceSource.Kind.NONE)
    since = asked_at or timezone.now() - FRESH
    if _is_fresh(source, since):
        return RefreshReport(source.kind, is_reused=True)
    with source_lease(source.pk, should_stop) as (lease, waited):
        source.refresh_from_db()
        if waited and _is_fresh(source, since):
            return RefreshReport(source.kind, is_reused=True)
        reading = _Reading(tenant, source, lease, except_organization)
        try:
            with open_source(tenant, should_stop) as graph:
                reading.read(graph, full=full)
        except GraphError as error:
            reading.failed(error)
        except SourceLeaseLostError:
            logger.warning("reading of tenant %s was taken over", tenant.public_id)
            # By one that may not have come to its end yet, or came to a bad one.
            source.refresh_from_db()
            return replace(reading.report, is_complete=False, is_reused=_is_fresh(source, since))
    report = reading.report
    if report.error_code:
        source_failed(source_id=source.pk, error_code=report.error_code, params=report.error_params)
    else:
        source_answered(source_id=source.pk)
    return report


def _is_fresh(source: DeviceSource, since: datetime.datetime) -> bool:
    return source.devices_read_at is not None and not source.last_error_code and source.devices_read_at >= since


def tenants_to_read() -> list[int]:
    """Tenants whose Graph is to be looked at now and then: those of which a connector syncs by schedule."""
    sources = DeviceSource.objects.filter(
        kind=DeviceSource.Kind.GRAPH, tenant__organizations__connector__is_enabled=True
    )
    return list(sources.values_list("tenant_id", flat=True).distinct())


class _Reading:
    """One reading under way; `report` grows."""

    def __init__(
        self, tenant: Tenant, source: DeviceSource, lease: SourceLease, except_organization: int | None
    ) -> None:
        self.tenant_id = tenant.pk
        self.source = source
        self.lease = lease
        self.report = RefreshReport(source.kind, is_complete=False)
        self._except = except_organization
        self._began = timezone.now()
        version = PolicyVersion.objects.filter(tenant=tenant, organization=None).order_by("-number").first()
        policy = TenantPolicyValues.from_json(version.content) if version else TenantPolicyValues()
        # While control is off nobody's access hangs on a record: the next sync shows what is matched with what.
        self._is_control_on = policy.enabled

    def failed(self, error: GraphError) -> None:
        """Note what went wrong; the first counts."""
        logger.warning("tenant %s: Graph could not be read: %r", self.tenant_id, error)
        if not self.report.error_code:
            self._add(error_code=error.code, error_params=dict(error.params))

    def read(self, graph: GraphSource, *, full: bool) -> None:
        """Each part has its own error boundary: who may not read groups may still read devices.

        People first, so that a record finds its person; groups last, so that whoever enrolled and was then put into one
        is not looked at before the record is there.
        """
        parts = (partial(self._users, graph, full), partial(self._devices, graph), partial(self._groups, graph))
        for part in parts:
            try:
                part()
            except StopGraphError:
                raise  # the other parts would only be told the same
            except GraphError as error:
                self.failed(error)
        if self.report.is_complete:
            with self.lease.guard() as source:
                # When it began: what changed while it went on may not be in it. Said last: it stands for groups too.
                source.devices_read_at = self._began
                source.save(update_fields=["devices_read_at"])

    # --- people ---

    def _users(self, graph: GraphSource, full: bool) -> None:
        link = self._link()
        age = self._began - self.source.users_read_at if self.source.users_read_at else None
        if not link and not full and age is not None and age < USERS_AGE:
            return
        try:
            is_whole = self._users_by_delta(graph, link)
        except (BadRequestGraphError, NotFoundGraphError):
            # This directory offers none.
            is_whole = self._users_by_listing(graph)
        if is_whole:
            self._users_missing()
        self._users_confirm(graph)
        self._licences(graph)

    def _link(self) -> str:
        link: Secret = self.source.users_delta_link
        try:
            return link.reveal()
        except SecretError:
            return ""  # the key that it was kept with is lost: begin anew

    def _users_by_delta(self, graph: GraphSource, link: str) -> bool:
        """Whether it told of everybody, from the beginning."""
        rejected, is_fresh, last = 0, False, ""
        try:
            for page in graph.users_delta(link):
                is_fresh, last = page.is_fresh, page.link
                rejected += len(page.unreadable)
                with self.lease.guard():
                    now, touched = timezone.now(), Touched()
                    changed = people_store.changes_store(
                        tenant_id=self.tenant_id,
                        changes=page.changes,
                        number=self.lease.number,
                        now=now,
                        touched=touched,
                    )
                    gone = people_store.people_end(
                        tenant_id=self.tenant_id, source_ids=page.removed, now=now, touched=touched
                    )
                    self._ask(touched)
                self._add(people=changed + gone)
        except GraphError as error:
            if error.code == "graph_resync_required" and link:
                DeviceSource.objects.filter(pk=self.source.pk).update(users_delta_link="")
            raise
        self._add(rejected=rejected)
        with self.lease.guard() as source:
            # With people that could not be read the link is not kept: the next time begins anew and tries them again.
            source.users_delta_link = "" if rejected else last
            source.users_read_at = timezone.now()
            source.save(update_fields=["users_delta_link", "users_read_at"])
        return is_fresh and not rejected

    def _users_by_listing(self, graph: GraphSource) -> bool:
        listing = graph.users()
        for page in listing:
            self._users_store(page.records)
            self._add(rejected=len(page.unreadable))
        with self.lease.guard() as source:
            source.users_read_at = timezone.now()
            source.save(update_fields=["users_read_at"])
        return listing.outcome.is_complete

    def _users_store(self, users: Iterable[UserRecord]) -> None:
        with self.lease.guard():
            touched = Touched()
            changed = people_store.users_store(
                tenant_id=self.tenant_id,
                users=list(users),
                number=self.lease.number,
                now=timezone.now(),
                touched=touched,
            )
            self._ask(touched)
        self._add(people=changed)

    def _users_missing(self) -> None:
        """Whoever a whole reading did not name is missing, and asked about one by one."""
        with self.lease.guard():
            self._known_users().filter(presence=Presence.PRESENT).exclude(seen_number=self.lease.number).update(
                presence=Presence.MISSING, missing_since=timezone.now()
            )

    def _users_confirm(self, graph: GraphSource) -> None:
        missing = self._known_users().filter(presence=Presence.MISSING)
        asked = list(missing.order_by("missing_since", "pk").values_list("source_id", flat=True)[:CONFIRM_LIMIT])
        for source_id in asked:
            user = graph.user(source_id)
            if user is not None:
                self._users_store([user])
                continue
            with self.lease.guard():
                touched = Touched()
                gone = people_store.people_end(
                    tenant_id=self.tenant_id, source_ids=[source_id], now=timezone.now(), touched=touched
                )
                self._ask(touched)
            self._add(people=gone)

    def _known_users(self) -> QuerySet[DirectoryUser]:
        return DirectoryUser.objects.filter(tenant_id=self.tenant_id).exclude(presence=Presence.GONE)

    def _licences(self, graph: GraphSource) -> None:
        """Of people with a mailbox whose licence the listing did not tell: a question for each, some at a time."""
        untold = self._known_users().filter(licensed=None, mailboxes__isnull=False).order_by("pk").distinct()
        for source_id in list(untold.values_list("source_id", flat=True)[:LICENCE_LIMIT]):
            answer = graph.licensed(source_id)
            if answer is None:
                continue
            with self.lease.guard():
                self._known_users().filter(source_id=source_id).update(licensed=answer, changed_at=timezone.now())
                self._ask(Touched(people={source_id}))
            self._add(people=1)

    # --- groups ---

    def _groups(self, graph: GraphSource) -> None:
        for group_id, name in people_store.groups_wanted(self.tenant_id).items():
            try:
                code = self._group(graph, group_id, name)
            except StopGraphError:
                raise
            except GraphError as error:
                code = error.code
                self.failed(error)
            if code:
                with self.lease.guard():
                    people_store.group_failed(tenant_id=self.tenant_id, group_id=group_id, name=name, code=code)
                self._add(groups_failed=(*self.report.groups_failed, group_id))

    def _group(self, graph: GraphSource, group_id: str, name: str) -> str:
        """The code of why its members could not be taken over, "" when they were."""
        members = graph.group_members(group_id)
        if members is None:
            return "graph_not_found"
        if members.is_veiled and not members.is_complete:
            return "graph_members_hidden"
        if not members.is_complete and members.user_ids:
            # The index lags: whoever is named is in it, and nobody is taken out of it for now.
            members = replace(members, user_ids=members.user_ids | people_store.members_of(self.tenant_id, group_id))
        elif not members.is_complete:
            return "graph_bad_answer"
        elif not members.user_ids and members.expected is None and people_store.members_of(self.tenant_id, group_id):
            # Nobody, and no count that says so too.
            return "graph_bad_answer"
        with self.lease.guard():
            touched = Touched()
            moved = people_store.members_store(
                tenant_id=self.tenant_id,
                group_id=group_id,
                name=name,
                members=members.user_ids,
                now=timezone.now(),
                touched=touched,
            )
            self._ask(touched)
        self._add(members=moved)
        return ""

    # --- records ---

    def _devices(self, graph: GraphSource) -> None:
        listing = graph.managed_devices()
        for page in listing:
            self._devices_store(page.records)
            self._add(rejected=len(page.unreadable))
        if not listing.outcome.is_complete:
            logger.warning(
                "tenant %s: the listing of records is not complete (%s of %s); nothing is marked as missing",
                self.tenant_id,
                listing.outcome.rows,
                listing.outcome.expected,
            )
            return
        unconfirmed = self._devices_missing(graph)
        self._add(is_complete=True)
        for pk, source_id in unconfirmed[:CONFIRM_LIMIT]:
            record = graph.managed_device(source_id)
            if record is None:
                self._devices_end([pk])
            else:
                self._devices_store([record])

    def _devices_store(self, records: Iterable[ManagedDeviceRecord]) -> None:
        with self.lease.guard():
            touched = Touched()
            stored = records_store(
                tenant_id=self.tenant_id,
                source=ManagedDevice.Source.GRAPH,
                rows=[graph_values(record) for record in records],
                number=self.lease.number,
                now=timezone.now(),
                touched=touched,
            )
            self._ask(touched)
        self._add(created=len(stored.created), changed=len(stored.changed), unchanged=stored.unchanged)

    def _devices_missing(self, graph: GraphSource) -> list[tuple[int, str]]:
        """After a complete listing: end what was missing before it too, mark what is missing now, and return what is
        to be asked about one by one."""
        known = ManagedDevice.objects.filter(tenant_id=self.tenant_id, source=ManagedDevice.Source.GRAPH).exclude(
            presence=Presence.GONE
        )
        total = known.count()
        unseen = known.exclude(seen_number=self.lease.number)
        twice = list(
            unseen.filter(presence=Presence.MISSING, missing_since__lt=self._began).values_list("pk", flat=True)
        )
        once = list(unseen.filter(presence=Presence.PRESENT).order_by("pk").values_list("pk", "source_id"))
        twice, is_contradicted = self._twice_confirmed(graph, twice)
        self._devices_end(twice)
        is_doubted = is_contradicted or is_doubtful(missing=len(once), known=total)
        with self.lease.guard():
            unseen.filter(presence=Presence.PRESENT).update(presence=Presence.MISSING, missing_since=timezone.now())
        self._add(missing=len(once), is_doubted=is_doubted)
        # What an earlier source said is over now that this one was read whole.
        pushed = ManagedDevice.objects.filter(tenant_id=self.tenant_id, source=ManagedDevice.Source.PUSHED)
        self._devices_end(list(pushed.exclude(presence=Presence.GONE).values_list("pk", flat=True)))
        return [] if is_doubted else once

    def _twice_confirmed(self, graph: GraphSource, pks: list[int]) -> tuple[list[int], bool]:
        """Of those that two listings did not hold: who is gone, and whether the listings are wrong. Some are asked for
        by themselves: while one of them is there, a listing proves nothing about the others."""
        asked = dict(ManagedDevice.objects.filter(pk__in=sorted(pks)[:SAMPLE]).values_list("pk", "source_id"))
        absent: list[int] = []
        for pk, source_id in asked.items():
            try:
                record = graph.managed_device(source_id)
            except StopGraphError:
                raise
            except GraphError:
                return pks, False  # nobody can be asked: the second listing tells
            if record is None:
                absent.append(pk)
            else:
                self._devices_store([record])
        is_contradicted = len(absent) < len(asked)
        return (absent if is_contradicted else pks), is_contradicted

    def _devices_end(self, pks: list[int]) -> None:
        if not pks:
            return
        with self.lease.guard():
            touched = Touched()
            ended = records_end(pks, now=timezone.now(), touched=touched)
            self._ask(touched)
        self._add(gone=ended)

    # --- what it comes to ---

    def _ask(self, touched: Touched) -> None:
        """Have the mailboxes that this concerns looked at. Inside the transaction that wrote it."""
        if not touched:
            return
        found = affected_mailboxes(self.tenant_id, touched)
        if not found:
            return
        self.report = replace(self.report, mailboxes=self.report.mailboxes | found)
        if not self._is_control_on:
            return
        if self._except is not None:
            others = Mailbox.objects.filter(organization__tenant_id=self.tenant_id)
            found &= set(others.exclude(organization_id=self._except).values_list("pk", flat=True))
        if found:
            check_request(found, because=BECAUSE)

    def _add(self, **more: object) -> None:
        """Numbers are added up, anything else is set."""
        values = {
            name: getattr(self.report, name) + value if type(value) is int else value for name, value in more.items()
        }
        self.report = replace(self.report, **values)  # type: ignore[arg-type]  # by field name

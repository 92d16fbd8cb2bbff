"""What a run does once the devices are read: records and mailboxes, whose access is to be looked at, and enforcing it.

Nothing at all for an organization that no policy, record source or entry of ours concerns: a console that only shows
devices costs Exchange no more than that.
"""

from __future__ import annotations

import datetime
import logging
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from typing import Any

from django.db.models import Q

from connectors import gateway
from connectors.actors import SCHEDULE
from connectors.exchange.client import ExchangeClient
from connectors.models import Connector, ExchangeOrganization
from sync.enforcing.drifts import drifts_leave_alone
from sync.enforcing.enforce import Enforcement, enforce
from sync.enforcing.loading import doubts_of, is_enforcing, is_governed
from sync.events import WARNING
from sync.lease import Lease
from sync.models import Command, Mailbox, MobileDevice, RunEvent, SyncRun
from sync.observing.mailboxes import mailboxes_observe_all, mailboxes_observe_some
from sync.observing.observe import phase_begin
from sync.policies.policy_rows import tenant_policy
from sync.records.sources import RefreshReport, records_refresh
from sync.services import sync_request

logger = logging.getLogger(__name__)

RECORDS_UNREADABLE = "recordsUnreadable"
# Times of rows are of workers' clocks, those of runs the database's.
MARGIN = datetime.timedelta(minutes=5)

# What the story of a run says that left somebody as he was.
_LEFT = ("records_failed", "records_incomplete", "withheld", "observed")

OpenClient = Callable[[], AbstractContextManager[ExchangeClient]]
ReadRecords = Callable[..., RefreshReport]


@dataclass(frozen=True, slots=True)
class SecondHalf:
    """are_settings_read: settings and rules were read in this run, so that they may be enforced."""

    run: SyncRun
    lease: Lease
    connector: Connector
    open_client: OpenClient
    are_settings_read: bool
    open_sessions: Callable[..., Any] = gateway.open_sessions
    read_records: ReadRecords = records_refresh

    def do(self) -> None:
        """Raises ExchangeError, CanceledError, LeaseLostError."""
        organization = ExchangeOrganization.objects.get(pk=self.connector.organization_id)
        if not is_governed(organization):
            # Nothing is wanted any more that anything could stand against.
            with self.lease.guard():
                ended = drifts_leave_alone(organization.pk)
            if ended:
                self.lease.note("drift_ended", ended=ended)
            return
        distrust, concerned = self._records(organization)
        if not distrust and self._is_owed():
            # Asked for and not done here: it enforces settings too, and its story says what it was.
            sync_request(
                connector=self.connector, kind=SyncRun.Kind.APPLY, trigger=SyncRun.Trigger.SCHEDULE, actor=SCHEDULE
            )
        scope = self._mailboxes(organization, concerned)
        if scope is not None and not scope:
            return
        is_dry = self.is_dry
        enforce(
            Enforcement(
                run=self.run,
                lease=self.lease,
                connector=self.connector,
                scope=scope,
                settings=self.are_settings_read and is_enforcing(organization),
                distrust=distrust,
                is_dry=is_dry,
                # Should anything of a dry run ever want to send, its sessions refuse.
                open_sessions=partial(self.open_sessions, observe_only=True) if is_dry else self.open_sessions,
            )
        )

    @property
    def is_dry(self) -> bool:
        """By the run, or by the connector as it is set now."""
        return self.run.is_dry_run or Connector.objects.filter(pk=self.connector.pk, is_observe_only=True).exists()

    # --- what earlier runs left ---

    def _is_owed(self) -> bool:
        """Whether a quick sync finds that nothing is doubted any more that was, that the connector no longer only
        observes, or that a run which was to decide everybody never came to it although it had read the records: then
        somebody has been left as he was whom nothing that changes now concerns."""
        tenant = self.connector.organization.tenant_id
        if self.run.kind != SyncRun.Kind.QUICK or self.is_dry or doubts_of(tenant, tenant_policy(tenant)):
            return False
        runs = SyncRun.objects.filter(connector=self.connector, is_dry_run=False).exclude(pk=self.run.pk)
        whole = runs.filter(kind__in=(SyncRun.Kind.FULL, SyncRun.Kind.APPLY))
        last = whole.filter(status=SyncRun.Status.SUCCEEDED).order_by("-pk").values_list("pk", flat=True).first()
        since = runs.filter(pk__gte=last or 0)
        left = RunEvent.objects.filter(run__in=since, code__in=_LEFT)
        broken = whole.filter(pk__gt=last or 0).exclude(status__in=(*SyncRun.ACTIVE, SyncRun.Status.SUCCEEDED))
        began = RunEvent.objects.filter(run__in=broken, code="phase", params__phase=SyncRun.Phase.RECORDS)
        return left.exists() or began.exists()

    # --- records ---

    def _records(self, organization: ExchangeOrganization) -> tuple[tuple[str, ...], frozenset[int]]:
        """Read the tenant's records. Codes of why nobody may newly be kept out, and the mailboxes of what changed."""
        phase_begin(self.lease, SyncRun.Phase.RECORDS)
        is_quick = self.run.kind == SyncRun.Kind.QUICK
        report = self.read_records(
            organization.tenant_id,
            should_stop=self.lease.should_stop,
            full=not is_quick,
            asked_at=self.run.queued_at,
            # A run that decides everything asks for no checks of its own. One that may not act leaves them to be asked.
            except_organization=None if is_quick or self.is_dry else organization.pk,
        )
        self._records_tell(report)
        return (() if report.is_readable else (RECORDS_UNREADABLE,)), report.mailboxes

    def _records_tell(self, report: RefreshReport) -> None:
        if report.error_code:
            self.lease.note("records_failed", WARNING, **{**report.error_params, "error_code": report.error_code})
        elif not report.is_readable:
            self.lease.note("records_incomplete", WARNING)
        elif report.created or report.changed or report.gone:
            self.lease.note("records_read", created=report.created, changed=report.changed, gone=report.gone)
        if report.groups_failed:
            self.lease.note("groups_failed", WARNING, groups=len(report.groups_failed))
        if report.is_doubted:
            self.lease.note("records_doubted", WARNING, missing=report.missing)

    # --- mailboxes ---

    def _mailboxes(self, organization: ExchangeOrganization, concerned: frozenset[int]) -> frozenset[int] | None:
        """Read the mailboxes that matter. Whose access is to be looked at then; None: everybody's."""
        if self.run.kind == SyncRun.Kind.QUICK and self._are_known(organization) and self.connector.synced_until:
            return self._changed(organization, concerned, self.connector.synced_until - MARGIN)
        if self.run.kind == SyncRun.Kind.APPLY and self._are_known(organization):
            self._of_new(organization)
        else:
            self._all(organization)
        return None

    def _are_known(self, organization: ExchangeOrganization) -> bool:
        return Mailbox.objects.filter(organization=organization).exists()

    def _all(self, organization: ExchangeOrganization) -> None:
        phase_begin(self.lease, SyncRun.Phase.MAILBOXES)
        with self.open_client() as client:
            read = mailboxes_observe_all(client=client, organization_id=organization.pk, lease=self.lease)
        self.lease.note("mailboxes_read", mailboxes=read)

    def _of_new(self, organization: ExchangeOrganization) -> None:
        """Everybody is decided by what is known; only the mailboxes of devices that came since are read first."""
        new = set(self._present(organization).filter(owner=None).values_list("pk", flat=True))
        if new:
            self._some(organization, new, frozenset())

    def _some(self, organization: ExchangeOrganization, devices: set[int], mailboxes: frozenset[int]) -> frozenset[int]:
        phase_begin(self.lease, SyncRun.Phase.MAILBOXES)
        with self.open_client() as client:
            found = mailboxes_observe_some(
                client=client,
                organization_id=organization.pk,
                lease=self.lease,
                devices=devices,
                mailboxes=mailboxes,
            )
        self.lease.note("mailboxes_read", mailboxes=len(found))
        return found

    def _changed(
        self, organization: ExchangeOrganization, concerned: frozenset[int], since: datetime.datetime
    ) -> frozenset[int]:
        """Those of devices that came or changed, of records that changed, and of commands that came to nothing, since
        the last run that succeeded began: a run that failed in between leaves its work to this one."""
        devices = self._present(organization).filter(Q(changed_at__gte=since) | Q(access=None))
        unfinished = Command.objects.filter(
            organization=organization,
            state__in=(Command.State.FAILED, Command.State.CANCELED),
            finished_at__gte=since,
            mailbox__gone_at=None,
            mailbox__isnull=False,
        )
        mailboxes = concerned | set(unfinished.values_list("mailbox_id", flat=True))
        ours = Mailbox.objects.filter(organization=organization, gone_at=None)
        mine = frozenset(mailboxes & set(ours.values_list("pk", flat=True))) if mailboxes else frozenset()
        new = set(devices.values_list("pk", flat=True))
        if not new and not mine:
            return frozenset()
        return self._some(organization, new, mine)

    @staticmethod
    def _present(organization: ExchangeOrganization) -> Any:
        return MobileDevice.objects.filter(organization=organization, gone_at=None)

"""The second half of a run: from what is known to what Exchange is told.

Some mailboxes after others: load, decide, keep the verdicts, tell drift, plan. Then for all of them: guard, hold what
waits, act. Opens no transaction across a network call, and sends nothing itself (act.py does). Whatever is doubtful
keeps nobody out: while records could not be read, or a group that the policy names was never read, people are let in
and nobody newly loses mail.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from django.db.models.functions import Now
from django.utils import timezone

from connectors import gateway
from connectors.actors import Actor
from connectors.exchange.errors import CanceledError
from connectors.models import Connector
from sync.acting import act
from sync.acting.settle import recover
from sync.deciding.commands import is_about_access
from sync.deciding.decide import decide
from sync.deciding.drift import drift
from sync.deciding.facts import ExchangeSettings, OrganizationPolicy
from sync.deciding.plan import plan
from sync.enforcing.approvals import hold
from sync.enforcing.drifts import drifts_record, ledger_settle, settings_drift_end
from sync.enforcing.dry_results import DryOrder, dry_run_record
from sync.enforcing.judging import Judged, Judging
from sync.enforcing.loading import Loaded, Whole, world_load
from sync.enforcing.verdict_rows import verdicts_record
from sync.events import INFO, WARNING
from sync.lease import Lease
from sync.models import OrganizationLedger, SyncRun
from sync.notifying.notify_kept_out import kept_out_note
from sync.observing.observe import phase_begin
from sync.observing.rulebook import settings_to_json

logger = logging.getLogger(__name__)

ACTOR = Actor(name="Sync")


@dataclass(frozen=True, slots=True)
class Enforcement:
    """What one run is to do. scope: keys of the mailboxes to look at, None: all. settings: whether the organization's
    settings and rules are enforced too. distrust: codes of why nobody may newly be kept out."""

    run: SyncRun
    lease: Lease
    connector: Connector
    scope: Collection[int] | None
    settings: bool
    distrust: tuple[str, ...] = ()
    is_dry: bool = False
    open_sessions: Callable[..., Any] = gateway.open_sessions


def enforce(wanted: Enforcement) -> None:
    """Do it. Raises ExchangeError, CanceledError, LeaseLostError."""
    lease = wanted.lease
    phase_begin(lease, SyncRun.Phase.DECIDING)
    if not wanted.is_dry:
        recover(wanted.connector, lease=lease, open_sessions=wanted.open_sessions)
    walk = _Walk(wanted, Whole(wanted.connector.organization_id, timezone.now()))
    frame, judged = walk.frame, walk.judged()
    with lease.guard():
        # A dry run asks nobody for anything.
        approval = None if wanted.is_dry else hold(frame, judged, run=wanted.run)
    _judged_tell(lease, judged, is_waiting=approval is not None)
    if wanted.is_dry:
        _write_down(walk, judged)
        return
    _act(wanted, judged, frame.world.organization)
    if wanted.settings:
        _settings_enforced(frame)


class _Walk:
    """The organization some mailboxes at a time: what is decided of them is kept, and what is planned is judged in the
    end. No more than a block of it is held at once, however many devices there are."""

    def __init__(self, wanted: Enforcement, whole: Whole) -> None:
        self.wanted, self.lease, self.whole = wanted, wanted.lease, whole
        # What is the organization's own, without any mailbox.
        self.frame = whole.part(())
        self.decided = self.changed = self.opened = self.ended = 0

    def judged(self) -> Judged:
        """Where a change of the default level or of rules has to wait, everything else goes as if it were not wanted:
        nobody is let in or kept out by what has not come yet."""
        judging = self._judging()
        for loaded in self.parts():
            self._block(loaded, judging)
        self._tell()
        judged = judging.judged()
        if not any(is_about_access(command) for command in judged.settings_held):
            return judged
        second = self._as_it_is(judged.held)
        return replace(
            judged,
            mailboxes=second.mailboxes,
            may_deny=second.may_deny,
            held=judged.held | second.held,
            words={**second.words, **judged.words},
            doubted=max(judged.doubted, second.doubted),
            lets_in=second.lets_in,
        )

    def _as_it_is(self, held: Collection[int]) -> Judged:
        judging = self._judging(held)
        for loaded in self.parts():
            world = loaded.world.as_it_is()
            verdicts = decide(world)
            judging.add(replace(loaded, world=world), verdicts, plan(world, verdicts))
        return judging.judged()

    def _judging(self, held: Collection[int] = ()) -> Judging:
        wanted = self.wanted
        return Judging(self.frame, is_whole=wanted.scope is None, distrust=wanted.distrust, hold_also=held)

    def parts(self) -> Iterator[Loaded]:
        """The frame first: settings and rules are to be looked at where there is no mailbox, too."""
        yield self.frame
        for loaded in self.whole.parts(self.wanted.scope):
            yield loaded
            if self.lease.should_stop():
                raise CanceledError

    def _block(self, loaded: Loaded, judging: Judging) -> None:
        wanted, guard = self.wanted, self.lease.guard
        verdicts = decide(loaded.world)
        self.decided += len(verdicts)
        self.changed += verdicts_record(loaded, verdicts, run=wanted.run, guard=guard)
        are_settings_looked_at = loaded is self.frame and wanted.scope is None
        opened, ended = drifts_record(
            loaded, drift(loaded.world, verdicts), settings=are_settings_looked_at, guard=guard
        )
        self.opened += opened
        self.ended += ended
        ledger_settle(loaded)
        if not wanted.settings:
            loaded = replace(loaded, world=loaded.world.as_it_is())
            verdicts = decide(loaded.world)
        judging.add(loaded, verdicts, plan(loaded.world, verdicts))
        if not wanted.is_dry and not wanted.distrust:
            kept_out_note(loaded, verdicts, run=wanted.run, guard=guard)
        # Under the lease, which learns here that it was lost, or somebody canceled.
        with guard():
            SyncRun.objects.filter(pk=self.lease.run_id).update(decided=self.decided)

    def _tell(self) -> None:
        self.lease.note("decided", devices=self.decided, changed=self.changed)
        if self.opened:
            self.lease.note("drift_found", WARNING, opened=self.opened)
        if self.ended:
            self.lease.note("drift_ended", ended=self.ended)


# --- acting -----------------------------------------------------------------------------------------------------------


def _act(wanted: Enforcement, judged: Judged, policy: OrganizationPolicy) -> None:
    lease = wanted.lease
    if not judged.mailboxes and not judged.settings:
        if judged.is_nothing:
            lease.note("nothing_to_do")
        else:
            lease.note("nothing_may_be_done")
        return
    phase_begin(lease, SyncRun.Phase.ACTING)
    report = act.execute(
        act.Order(
            organization_id=wanted.connector.organization_id,
            mailboxes=judged.mailboxes,
            may_deny=judged.may_deny,
            settings=judged.settings,
            policy=policy,
        ),
        connector=wanted.connector,
        hold=lease,
        run=wanted.run,
        actor=_actor(wanted.run),
        because=wanted.run.kind,
        on_progress=lambda so_far: _progress(lease, so_far),
        on_event=lambda code, params: _event(lease, code, params),
        open_sessions=wanted.open_sessions,
    )
    _progress(lease, report)
    _report_tell(lease, report)


def _write_down(walk: _Walk, judged: Judged) -> None:
    """A dry run: all that would be sent, and what would wait, is kept instead."""
    wanted, lease = walk.wanted, walk.lease
    phase_begin(lease, SyncRun.Phase.ACTING)
    order = DryOrder(
        run=wanted.run,
        lease=lease,
        judged=judged,
        are_settings_wanted=wanted.settings,
        actor=_actor(wanted.run),
        because=wanted.run.kind,
        on_progress=lambda so_far: _progress(lease, so_far),
    )
    report = dry_run_record(order, walk.frame, walk.parts())
    if report.observed:
        _report_tell(lease, report)
    elif judged.is_nothing:
        lease.note("nothing_to_do")
    else:
        lease.note("nothing_may_be_done")


def _actor(run: SyncRun) -> Actor:
    """Whoever asked for the run acts; the journal names them."""
    return Actor(name=run.requested_by_name or ACTOR.name, user_id=run.requested_by_id)


def _progress(lease: Lease, report: act.Report) -> None:
    SyncRun.objects.filter(pk=lease.run_id, fence=lease.fence).update(
        commands_planned=report.planned,
        commands_done=report.done + report.observed,
        commands_failed=report.failed + report.unknown,
    )


def _event(lease: Lease, code: str, params: dict[str, object]) -> None:
    """That a server answered was told when the run signed in; that one did not is news."""
    if code != "server_answered":
        lease.note(code, WARNING if code == "server_failed" else INFO, **params)


def _report_tell(lease: Lease, report: act.Report) -> None:
    if report.observed:
        lease.note("observed", commands=report.observed)
        return
    for failure in report.failures:
        lease.note(
            "command_failed", WARNING, **{**failure.params, "error_code": failure.code, "subject": failure.subject}
        )
    if report.failed or report.unknown:
        lease.note("acted_partly", WARNING, done=report.done, failed=report.failed, unknown=report.unknown)
    else:
        lease.note("acted", done=report.done, skipped=report.skipped)


# --- settings that were enforced -----------------------------------------------------------------------------------


def _settings_enforced(before: Loaded) -> None:
    """After settings were enforced: remember what was left, so that what differs from it later is somebody else's
    doing. What the policy wants and could not have yet stays as it was remembered. Drift of what is right again ends.

    before: as it was loaded before acting; act keeps on the organization's row what it read back.
    """
    now = world_load(before.organization.pk, mailboxes=(), now=timezone.now())
    world = now.world
    left = _left(world.organization, world.exchange, before.world.ledger.settings or before.world.exchange)
    OrganizationLedger.objects.update_or_create(
        organization=before.organization, defaults={"settings": settings_to_json(left), "enforced_at": Now()}
    )
    remembered = replace(world, ledger=replace(world.ledger, settings=left))
    settings_drift_end(now, drift(remembered, {}), because="enforced", actor_name=ACTOR.name)


def _left(wanted: OrganizationPolicy, found: ExchangeSettings, before: ExchangeSettings) -> ExchangeSettings:
    """What Exchange has, but for what it should have and has not: of that, what it had when it was last enforced."""
    rules = {rule.key: rule for rule in found.rules}
    earlier = {rule.key: rule for rule in before.rules}
    for rule in wanted.rules:
        if rule.key not in rules or rules[rule.key].level is not rule.level:
            rules.pop(rule.key, None)
            if rule.key in earlier:
                rules[rule.key] = earlier[rule.key]
    is_level = wanted.default_level in (None, found.default_level)
    is_insert = wanted.user_mail_insert in (None, found.user_mail_insert)
    recipients = wanted.admin_mail_recipients
    are_recipients = recipients is None or _folded(recipients) == _folded(found.admin_mail_recipients)
    return ExchangeSettings(
        default_level=(found if is_level else before).default_level,
        rules=tuple(rules.values()),
        user_mail_insert=(found if is_insert else before).user_mail_insert,
        admin_mail_recipients=(found if are_recipients else before).admin_mail_recipients,
    )


def _folded(addresses: Iterable[str]) -> set[str]:
    return {address.lower() for address in addresses}


# --- the story --------------------------------------------------------------------------------------------------------


def _judged_tell(lease: Lease, judged: Judged, *, is_waiting: bool) -> None:
    to_allow, to_deny = judged.lets_in, len(judged.may_deny)
    SyncRun.objects.filter(pk=lease.run_id, fence=lease.fence).update(
        to_allow=to_allow, to_deny=to_deny, held=len(judged.held)
    )
    if to_allow or to_deny:
        lease.note("planned", allow=to_allow, deny=to_deny)
    for code in judged.withheld if judged.doubted else ():
        lease.note("withheld", WARNING, reason=code, devices=judged.doubted)
    if judged.held:
        limits = judged.limits
        of = {"devices": len(judged.held), "limit": limits.devices, "percent": f"{limits.percent:g}"}
        if is_waiting:
            lease.note("held", WARNING, **of)
        else:
            lease.note("would_be_held", WARNING, **of)

"""Sentences for the events of a run, in the reader's language."""

from __future__ import annotations

import math
from collections.abc import Mapping

from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from connectors.problems import problem
from sync.models import RunEvent, SyncRun

SENTENCES: Mapping[str, Promise] = {
    "requested": gettext_lazy("Requested by %(name)s."),
    "made_full": gettext_lazy("Runs as a full sync: this connector has not had a complete one yet."),
    "full_follows": gettext_lazy("%(name)s asked for a full sync; it starts when this run has ended."),
    "quick_follows": gettext_lazy("%(name)s asked for a quick sync; it starts when this run has ended."),
    "statistics_follow": gettext_lazy("%(name)s asked for device statistics; they are read when this run has ended."),
    "apply_follows": gettext_lazy("%(name)s asked to apply the policy; that starts when this run has ended."),
    "dry_follows": gettext_lazy("%(name)s asked for a dry run; it starts when this run has ended."),
    "requested_dry": gettext_lazy("Requested by %(name)s as a dry run: nothing in Exchange is changed."),
    "claimed": gettext_lazy("Taken by worker %(worker)s (attempt %(attempt)s)."),
    "taken_up_again": gettext_lazy("Worker %(worker)s disappeared; the run is taken up again."),
    "no_worker": gettext_lazy("No worker has taken this run yet. Is one listening on the queue %(queue)s?"),
    "queue_unreachable": gettext_lazy("The queue could not be reached; the run waits and is offered again."),
    "server_answered": gettext_lazy("Signed in at %(server)s."),
    "server_failed": gettext_lazy("%(server)s could not be used: %(problem)s."),
    "retry": gettext_lazy("%(problem)s. Trying again in %(seconds)s s (%(number)s of %(of)s)."),
    "throttled": gettext_lazy("Exchange asked to slow down; waiting %(seconds)s s."),
    "organization_read": gettext_lazy("Read %(servers)s Client Access Servers and the organization's settings."),
    "listing_complete": gettext_lazy("The listing was complete: %(observed)s devices."),
    "filter_refused": gettext_lazy(
        "Exchange refused the filter for new devices; read those in quarantine and discovery only. The next full "
        "sync finds the new ones."
    ),
    "rejected": gettext_lazy("A device could not be read and was left as it was: %(reason)s"),
    "sweep_skipped": gettext_lazy(
        "%(rejected)s devices could not be read, so none was marked as gone: a missing one may be among them."
    ),
    "sweep_held": gettext_lazy(
        "%(missing)s of %(known)s devices were missing from the listing. That is so many that none was marked as gone: "
        "the account may no longer see all of them. If the next full sync finds the same, it is believed."
    ),
    "gone_marked": gettext_lazy("%(gone)s devices are no longer in Exchange."),
    "rules_unreadable": gettext_lazy(
        "The account may not read device access rules, so settings and rules were left as they are. Grant "
        "Get-ActiveSyncDeviceAccessRule to have them enforced."
    ),
    "records_read": gettext_lazy("Device records: %(created)s new, %(changed)s changed, %(gone)s gone."),
    "records_failed": gettext_lazy(
        "Device records could not be read: %(problem)s. What was known before counts on; nobody newly loses mail in "
        "this run, and whoever may have mail gets it."
    ),
    "records_incomplete": gettext_lazy(
        "The listing of device records was not complete. Nothing was marked as gone, and nobody newly loses mail in "
        "this run; the next sync reads it again."
    ),
    "records_doubted": gettext_lazy(
        "%(missing)s device records were missing from the listing. That is so many that they count on; if the next "
        "listing lacks them too, it is believed."
    ),
    "groups_failed": gettext_lazy(
        "%(groups)s groups that the policy names could not be read; they keep the members they had."
    ),
    "mailboxes_read": gettext_lazy("Read %(mailboxes)s mailboxes with their personal entries."),
    "mailbox_sweep_held": gettext_lazy(
        "%(missing)s of %(known)s mailboxes were missing from the listing. That is so many that none was marked as "
        "gone. If the next full sync finds the same, it is believed."
    ),
    "accounts_unreadable": gettext_lazy(
        "The account may not use Get-User, so people are found by their addresses and account names alone."
    ),
    "decided": gettext_lazy("Decided the access of %(devices)s devices; %(changed)s are new or decided differently."),
    "drift_found": gettext_lazy("Somebody else changed %(opened)s things in Exchange; see Drift."),
    "drift_ended": gettext_lazy("%(ended)s changes of others are no longer there."),
    "planned": gettext_lazy("%(allow)s devices are to get mail, %(deny)s are to lose it."),
    "held": gettext_lazy(
        "%(devices)s devices would newly lose mail, which is more than %(limit)s and more than %(percent)s %% of all. "
        "They keep it until somebody approves; allowing went ahead."
    ),
    "withheld": gettext_lazy("%(devices)s devices would newly lose mail and keep it for now: %(reason)s."),
    "would_be_held": gettext_lazy(
        "%(devices)s devices would newly lose mail, which is more than %(limit)s and more than %(percent)s %% of all: "
        "a run that acts would wait for approval."
    ),
    "nothing_to_do": gettext_lazy("Exchange is as it should be; nothing was sent."),
    "nothing_may_be_done": gettext_lazy("What differs in Exchange has to wait; nothing was sent."),
    "observed": gettext_lazy("Dry run: %(commands)s commands were written down and not sent."),
    "acted": gettext_lazy("Exchange was told: %(done)s commands done, %(skipped)s no longer needed."),
    "acted_partly": gettext_lazy(
        "%(done)s commands were done, %(failed)s failed and of %(unknown)s the outcome is not known. Nothing is lost: "
        "what is still needed is planned anew by the next sync."
    ),
    "command_failed": gettext_lazy(
        "A command failed (%(subject)s): %(problem)s. What it was about was left as it was; the next sync tries again."
    ),
    "session_lost": gettext_lazy(
        "A session with %(server)s was lost: %(problem)s. The others go on, and another takes its place."
    ),
    "sessions_limited": gettext_lazy("No further session could be had: %(problem)s. Goes on with %(sessions)s."),
    "statistics_due": gettext_lazy(
        "To be read: %(devices)s devices in %(mailboxes)s mailboxes. What was read within the last 24 hours is not "
        "read again."
    ),
    "statistics_known": gettext_lazy(
        "Nothing had to be read: the statistics of every device were read within the last 24 hours."
    ),
    "statistics_unread": gettext_lazy("The mailbox %(mailbox)s could not be read: %(problem)s."),
    "statistics_unread_all": gettext_lazy(
        "%(mailboxes)s mailboxes could not be read. What was known of their devices stays; the next reading asks again."
    ),
    "statistics_silent": gettext_lazy(
        "Of %(devices)s devices their mailbox knows nothing: they have not synchronized, or their partnership is gone."
    ),
    "statistics_nameless": gettext_lazy(
        "%(devices)s devices do not say whose mailbox they belong to, and could not be read."
    ),
    "made_way": gettext_lazy(
        "Made way for another run. What was read is kept; the rest is read by itself after that run."
    ),
    "cancel_requested": gettext_lazy("%(name)s asked to cancel."),
    "canceled": gettext_lazy("Canceled. What had been read until then was kept."),
    "interrupted": gettext_lazy("Given up after %(attempts)s attempts, each of which lost its worker."),
    "failed": gettext_lazy("Failed: %(problem)s."),
    "succeeded": gettext_lazy("Successful."),
}


def sentence(event: RunEvent) -> str:
    """What happened, as one sentence. An unknown code (a newer version wrote it) is shown as it is. Never raises."""
    if event.code == "phase":
        return str(_phase(str(event.params.get("phase", ""))))
    text = SENTENCES.get(event.code)
    if text is None:
        return event.code
    values = {**event.params}
    if "retry_after" in values:
        values.setdefault("seconds", math.ceil(float(values["retry_after"])))
    if "error_code" in values:
        values["problem"] = problem(str(values["error_code"]), values).title
    if event.code == "withheld":
        values["reason"] = _DOUBTS.get(str(values.get("reason")), values.get("reason", ""))
    try:
        return str(text) % values
    except (KeyError, ValueError, TypeError):
        return event.code


_DOUBTS: Mapping[str, Promise] = {
    "noSource": gettext_lazy("no source of device records is set up"),
    "recordsNeverRead": gettext_lazy("device records were never read"),
    "peopleNeverRead": gettext_lazy("the directory's people were never read"),
    "groupNeverRead": gettext_lazy("a group that the policy names was never read"),
    "recordsUnreadable": gettext_lazy("device records could not be read"),
}


def _phase(value: str) -> str:
    return str(SyncRun.Phase(value).label) if value in SyncRun.Phase.values else _("A new phase")

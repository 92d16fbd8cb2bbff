"""Entries for runs that ended on our own side: workers, queues, people."""

from __future__ import annotations

from collections.abc import Mapping

from django.utils.translation import gettext_lazy as _

from connectors.problems.entry import KEPT_JOURNAL, KEPT_RETRIED, Problem

PROBLEMS: Mapping[str, Problem] = {
    "run_interrupted": Problem(
        title=_("The run was interrupted"),
        happened=_(
            "The run was started %(attempts)s times and its worker disappeared each time; it was given up then."
        ),
        kept=KEPT_JOURNAL,
        remedy=_(
            "Something ends the workers: see their logs, the machine's memory, and whether they are restarted by a "
            "time limit. Then start the sync again; it begins anew and puts everything right."
        ),
    ),
    "run_canceled": Problem(
        title=_("The run was canceled"),
        happened=_("%(person)s canceled it."),
        kept=KEPT_JOURNAL,
        remedy=_("Nothing is wrong. Start a sync when you want one, or wait for the next scheduled one."),
    ),
    "no_worker": Problem(
        title=_("No worker took the run"),
        happened=_("The run waited in the queue of %(site)s, and no worker took it."),
        kept=KEPT_RETRIED,
        remedy=_(
            "Start a worker that listens there: “celery -A console worker -Q gatehouse,site.<name>”, with the name "
            "of the connector's site. If one runs, see whether it is busy with other runs, and whether it uses the "
            "same broker (REDIS_URL) as the console."
        ),
    ),
    "worker_lost": Problem(
        title=_("The command was not sent"),
        happened=_("Its worker disappeared, or none took it in time, before the command was handed to Exchange."),
        kept=_("Nothing was changed in Exchange by it."),
        remedy=_(
            "What the policy wants is planned anew by itself. A wipe or a removal that somebody asked for is not sent "
            "later: ask for it again if it is still wanted, and see whether a worker listens on the queue of the "
            "connector's site (“site.<name>.now”)."
        ),
    ),
    "not_as_wanted": Problem(
        title=_("Exchange does not show what was asked for"),
        happened=_("Exchange carried the command out, and what was read back right after it is something else."),
        kept=_("What was read is what Gatehouse goes by. The command is not repeated blindly; all else went on."),
        remedy=_(
            "Somebody else may have changed the same mailbox in that moment, or two domain controllers do not agree "
            "yet. The mailbox is looked at again; if it comes back, compare Get-CASMailbox at each domain controller."
        ),
    ),
    "statistics_unreadable": Problem(
        title=_("The wipe was not sent: the state of the device cannot be read"),
        happened=_(
            "Before a wipe Gatehouse reads what the mailbox knows of the device, so that an order that is sent can "
            "be told from an older one. That reading failed."
        ),
        kept=_("No wipe was ordered."),
        remedy=_(
            "See whether Get-MobileDeviceStatistics works for this mailbox and is granted to the account; then ask "
            "for the wipe again."
        ),
    ),
    "subject_busy": Problem(
        title=_("Another command about the same thing is under way"),
        happened=_("A command about it was sent before, and what became of it is not known yet."),
        kept=_("Nothing was sent, so that nothing is done twice."),
        remedy=_("Nothing is wrong: the earlier command is read back first, and the next sync does the rest."),
    ),
    "internal_error": Problem(
        title=_("Something went wrong in Gatehouse"),
        happened=_(
            "Gatehouse met an error that it has no other name for. The fault is in Gatehouse, not in your settings."
        ),
        kept=KEPT_JOURNAL,
        remedy=_(
            "The worker's log holds the details under the run's number. Start the sync again; if it fails in the "
            "same way, report it with that part of the log."
        ),
    ),
}

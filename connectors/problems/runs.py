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

"""Sentences for the events of a run, in the reader's language."""

from __future__ import annotations

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
    if "error_code" in values:
        values["problem"] = problem(str(values["error_code"]), values).title
    try:
        return str(text) % values
    except (KeyError, ValueError, TypeError):
        return event.code


def _phase(value: str) -> str:
    return str(SyncRun.Phase(value).label) if value in SyncRun.Phase.values else _("A new phase")

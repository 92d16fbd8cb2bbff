"""Start a sync from the command line, and, when asked, follow it to its end.

Only requests it: the work is done by the workers, as for the buttons. Stopping this command does not stop the run.
"""

from __future__ import annotations

import uuid
from argparse import ArgumentParser
from time import sleep
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db.models import Q
from django.utils.translation import gettext as _

from connectors.actors import COMMAND_LINE
from connectors.models import Connector
from connectors.problems import problem
from sync.models import SyncRun
from sync.selectors import run_progress
from sync.services import sync_request

POLL_SECONDS = 0.5
# How long a full sync that was asked for during a quick one may take to be queued behind it.
SUCCESSOR_SECONDS = 20.0


class Command(BaseCommand):
    help = "Request a full sync (or --quick) of one connector. With --wait: exit code 0 when it succeeded, else 1."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("organization", metavar="ORGANIZATION|UUID", help="its name, or the connector's id")
        parser.add_argument("--tenant", default="", metavar="NAME", help="where two tenants share the name")
        parser.add_argument("--quick", action="store_true", help="only what changed")
        parser.add_argument("--wait", action="store_true", help="print progress until the run has ended")

    def handle(self, *args: Any, **options: Any) -> None:
        connector = connector_find(options["organization"], options["tenant"])
        kind = SyncRun.Kind.QUICK if options["quick"] else SyncRun.Kind.FULL
        request = sync_request(connector=connector, kind=kind, trigger=SyncRun.Trigger.COMMAND, actor=COMMAND_LINE)
        outcomes = {
            "started": _("%(kind)s of %(organization)s requested (run %(run)s)."),
            "joined": _("%(organization)s is being synchronized already; this joins run %(run)s."),
            "queued_after": _("A quick sync of %(organization)s is under way (run %(run)s); the full one follows it."),
        }
        self.stdout.write(
            outcomes[request.outcome]
            % {
                "kind": SyncRun.Kind(request.run.kind).label,
                "organization": connector.organization.name,
                "run": request.run.public_id,
            }
        )
        if options["wait"]:
            self._follow(request.run)
            self._judge(_successor(request.run) if request.outcome == "queued_after" else request.run)

    def _follow(self, run: SyncRun) -> None:
        """Print each change of the run's progress until it has ended, however it ends."""
        last = ""
        while True:
            run.refresh_from_db()
            line = _progress(run)
            if line != last:
                self.stdout.write(line)
                self.stdout.flush()
                last = line
            if not run.is_active:
                break
            sleep(POLL_SECONDS)

    def _judge(self, run: SyncRun | None) -> None:
        """Print how the run that was asked for ended, following it first. Raises CommandError unless it succeeded."""
        if run is None:
            raise CommandError(_("The full sync did not start after the quick one; start it again."))
        if run.is_active:
            self._follow(run)
        if run.status != SyncRun.Status.SUCCEEDED:
            rendered = problem(run.error_code, run.error_params)
            lines = [f"{rendered.title} [{rendered.code}]", rendered.happened, rendered.detail, rendered.kept]
            raise CommandError("\n".join(line for line in [*lines, rendered.remedy] if line))
        self.stdout.write(
            _("Successful: %(observed)d devices, %(created)d new, %(changed)d changed, %(gone)d gone.")
            % {"observed": run.observed, "created": run.created, "changed": run.changed, "gone": run.gone}
        )


def connector_find(text: str, tenant: str = "") -> Connector:
    """The one connector that a name or id means. Raises CommandError when none or several do."""
    wanted = Q(organization__name=text)
    try:
        public_id = uuid.UUID(text)
    except ValueError:
        pass
    else:
        wanted |= Q(public_id=public_id) | Q(organization__public_id=public_id)
    found = Connector.objects.filter(wanted).select_related("organization__tenant")
    if tenant:
        found = found.filter(organization__tenant__name=tenant)
    connectors = list(found[:2])
    if not connectors:
        raise CommandError(_("There is no connector of an organization called “%(text)s”.") % {"text": text})
    if len(connectors) > 1:
        raise CommandError(
            _("Several tenants have an organization called “%(text)s”; say which with --tenant.") % {"text": text}
        )
    return connectors[0]


def _progress(run: SyncRun) -> str:
    progress = run_progress(run)
    label = SyncRun.Phase(progress.phase).label
    if progress.phase != SyncRun.Phase.DEVICES:
        return str(label)
    of = f" / {progress.expected}" if progress.expected else ""
    return f"{label}: {progress.observed}{of}"


def _successor(run: SyncRun) -> SyncRun | None:
    """The full run that followed this one; the worker makes it a moment after this one ended. None: it did not."""
    later = SyncRun.objects.filter(connector=run.connector_id, kind=SyncRun.Kind.FULL, queued_at__gt=run.queued_at)
    for _attempt in range(int(SUCCESSOR_SECONDS / POLL_SECONDS)):
        if found := later.order_by("queued_at").first():
            return found
        sleep(POLL_SECONDS)
    return None

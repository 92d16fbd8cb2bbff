"""What a dry run would have sent: each device, its verdict and why, and the exact command; as a page and as a file."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from typing import Any

from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_safe

from console.pages.downloads import csv_download
from console.templatetags.devices import person_name
from sync.models import SyncRun
from sync.selectors import runs_for
from sync.showing import access_words as words
from sync.showing.dry_run import DryLine, dry_devices, dry_lines, dry_lines_all, dry_settings

PAGE_SIZE = 100


@require_safe
def dry_run(request: HttpRequest, public_id: uuid.UUID) -> HttpResponse:
    """?shown=all: devices about which nothing would be sent too."""
    run: SyncRun = get_object_or_404(runs_for(request.user), public_id=public_id)
    only_changed = request.GET.get("shown", "") != "all"
    text = request.GET.get("q", "").replace("\0", "").strip()[:200]
    page = Paginator(dry_devices(run, only_changed=only_changed, text=text), PAGE_SIZE).get_page(
        request.GET.get("page")
    )
    context: dict[str, Any] = {
        "run": run,
        "connector": run.connector,
        "organization": run.connector.organization,
        "tenant": run.connector.organization.tenant,
        "lines": dry_lines(run, page.object_list, only_changed=only_changed),
        "settings": dry_settings(run) if page.number == 1 else [],
        "only_changed": only_changed,
        "query": text,
        "page": page,
        "previous_url": _link(request, page.previous_page_number()) if page.has_previous() else "",
        "next_url": _link(request, page.next_page_number()) if page.has_next() else "",
    }
    return render(request, "pages/dry_run.html", context)


def _link(request: HttpRequest, number: int) -> str:
    query = request.GET.copy()
    query["page"] = str(number)
    return f"?{query.urlencode()}"


@require_safe
def dry_run_csv(request: HttpRequest, public_id: uuid.UUID) -> HttpResponse:
    """Every device, as a file."""
    run: SyncRun = get_object_or_404(runs_for(request.user), public_id=public_id)
    heads = (
        _("Person"), _("Mailbox"), _("Device"), _("Device ID"), _("Exchange shows"), _("Wanted"), _("Reason"),
        _("Rule"), _("Hindered"), _("Command not sent"),
    )  # fmt: skip

    def rows() -> Iterator[Sequence[object]]:
        for command in dry_settings(run):
            yield ("", "", _("The whole organization"), "", "", "", "", "", "", command)
        for line in dry_lines_all(run):
            yield _cells(line)

    answer: HttpResponse = csv_download(f"dry-run-{run.public_id}.csv", heads, rows())  # type: ignore[assignment]
    return answer


def _cells(line: DryLine) -> Sequence[object]:
    device = line.device
    access = getattr(device, "access", None)
    return (
        person_name(device),
        device.owner or device.mailbox,
        device.friendly_name or device.device_model,
        device.device_id,
        device.access_state,
        words.said(words.STATES, access.state) if access else "",
        words.said(words.REASONS, access.reason) if access else "",
        words.said(words.ROWS, access.rule) if access else "",
        words.said(words.HINDRANCES, access.hindered_by) if access else "",
        "\n".join(line.texts),
    )

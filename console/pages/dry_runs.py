"""What a dry run would have sent: each device, its verdict and why, and the exact command; as a page and as a file."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_safe

from console.pages.downloads import csv_download
from console.pages.searching import searched
from sync.enforcing.dry_results import KEPT, KEPT_PARTS
from sync.models import DryRun, DryRunLine, SyncRun
from sync.selectors import runs_for
from sync.showing import access_words as words
from sync.showing.dry_run import (
    WITHHELD,
    Effect,
    Standing,
    dry_lines,
    dry_of,
    known_still,
    rule_said,
    standing,
)

PAGE_SIZE = 100
ALL = "all"
TABS: Mapping[str, Any] = {
    **dict(Effect.choices),
    ALL: gettext_lazy("All devices"),
}


def _found(request: HttpRequest, public_id: uuid.UUID) -> tuple[SyncRun, DryRun | None]:
    run: SyncRun = get_object_or_404(runs_for(request.user), public_id=public_id)
    return run, dry_of(run)


@require_safe
def dry_run(request: HttpRequest, public_id: uuid.UUID) -> HttpResponse:
    """?shown=: changed, held, unchanged or all; ?q= searches."""
    run, found = _found(request, public_id)
    context: dict[str, Any] = {
        "run": run,
        "connector": run.connector,
        "organization": run.connector.organization,
        "tenant": run.connector.organization.tenant,
        "found": found,
        "standing": standing(run, found),
        "kept": KEPT,
        "kept_parts": KEPT_PARTS,
    }
    if found is not None and found.pruned_at is None:
        context.update(_listed(request, found))
    return render(request, "pages/dry_run.html", context)


def _listed(request: HttpRequest, found: DryRun) -> dict[str, Any]:
    shown = request.GET.get("shown", "")
    if shown not in TABS:
        shown = Effect.CHANGED if found.changed else Effect.HELD if found.held else ALL
    text = searched(request.GET)
    rows = dry_lines(found, effect="" if shown == ALL else shown, text=text)
    page = Paginator(rows, PAGE_SIZE).get_page(request.GET.get("page"))
    lines = list(page.object_list)
    known = known_still(lines)
    return {
        "rows": [(line, line.device_public_id in known, rule_said(line.rule, line.reason)) for line in lines],
        "withheld": [words.said(WITHHELD, code) for code in found.withheld],
        "tabs": _tabs(found, shown),
        "shown": shown,
        "query": text,
        "page": page,
        "previous_url": _link(request, page.previous_page_number()) if page.has_previous() else "",
        "next_url": _link(request, page.next_page_number()) if page.has_next() else "",
    }


def _tabs(found: DryRun, shown: str) -> list[tuple[str, Any, int | None, bool]]:
    """Value, title, how many (None: not known yet), and whether it is the one that is shown."""
    counts: dict[str, int | None] = dict.fromkeys(TABS)
    if found.finished_at is not None:
        of_effects = {effect.value: getattr(found, effect.value) for effect in Effect}
        counts = {**of_effects, ALL: sum(of_effects.values())}
    return [(value, title, counts[value], value == shown) for value, title in TABS.items()]


def _link(request: HttpRequest, number: int) -> str:
    query = request.GET.copy()
    query["page"] = str(number)
    return f"?{query.urlencode()}"


@require_safe
def dry_run_csv(request: HttpRequest, public_id: uuid.UUID) -> HttpResponse:
    """Every device, as a file. Where nothing is kept there is none: the page says why."""
    run, found = _found(request, public_id)
    if found is None or standing(run, found) == Standing.PRUNED:
        return redirect("dry_run", public_id=public_id)
    heads = (
        _("Person"), _("Mailbox"), _("Device"), _("Device ID"), _("Exchange showed"), _("Wanted"), _("Verdict"),
        _("Reason"), _("Rule"), _("Hindered"), _("What would happen"), _("Command not sent"), _("Command held back"),
    )  # fmt: skip

    def rows() -> Iterator[Sequence[object]]:
        about = (*[""] * 2, _("The whole organization"), *[""] * 7)
        for effect, texts in ((Effect.CHANGED, found.settings), (Effect.HELD, found.settings_held)):
            for text in texts:
                yield (*about, effect.label, *((text, "") if effect == Effect.CHANGED else ("", text)))
        for line in dry_lines(found).iterator(chunk_size=2000):
            yield _cells(line)

    answer: HttpResponse = csv_download(f"dry-run-{run.public_id}.csv", heads, rows())  # type: ignore[assignment]
    return answer


def _cells(line: DryRunLine) -> Sequence[object]:
    return (
        line.person,
        line.mailbox,
        line.device_name if line.rule else _("Entry whose device is gone"),
        line.device_id,
        line.access_state,
        words.said(words.ACCESSES, line.access),
        words.said(words.STATES, line.state),
        words.said(words.REASONS, line.reason),
        rule_said(line.rule, line.reason),
        words.said(words.HINDRANCES, line.hindered_by),
        line.get_effect_display(),
        line.commands,
        line.commands_held,
    )

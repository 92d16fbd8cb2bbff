"""What a dry run comes to, kept as it is then: each device with its verdict, the commands that are not sent, and those
that would wait for approval besides.

Sends nothing and decides nothing: plans what was judged once more, some mailboxes at a time, and writes it down as it
goes. A run that is taken up again begins this anew. Of each organization the newest few are kept (KEPT, KEPT_PARTS); of
those before, lines and observed commands go, and the row stays to say so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from django.db import connection
from django.db.models import Exists, OuterRef, Q, QuerySet
from django.db.models.functions import Now

from connectors.actors import Actor
from sync.acting import journal
from sync.acting.act import Report
from sync.acting.deeds import deed_of_plan
from sync.acting.journal import By, Intent
from sync.acting.prepare import settings_intent
from sync.blocks import blocks
from sync.deciding.commands import SettingsCommand
from sync.enforcing.dry_block import Block, Line, block_of
from sync.enforcing.judging import Judged, limit_columns
from sync.enforcing.loading import Loaded
from sync.events import storable
from sync.lease import Lease
from sync.models import Command, DryRun, DryRunLine, SyncRun
from sync.observing.columns import adapters

# Dry runs kept of an organization: such as looked at everybody, and such as looked at some mailboxes (quick ones).
KEPT, KEPT_PARTS = 3, 10
# Rows of one transaction.
ROWS = 1000

_COLUMNS = (
    "dry_run_id", "device_public_id", "person", "mailbox", "device_name", "device_id", "access_state", "access",
    "state", "reason", "rule", "hindered_by", "effect", "commands", "commands_held",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class DryOrder:
    """are_settings_wanted: settings and rules are enforced by runs of this kind. actor, because: of the journal's
    rows."""

    run: SyncRun
    lease: Lease
    judged: Judged
    are_settings_wanted: bool
    actor: Actor
    because: str
    on_progress: Callable[[Report], None]


def dry_run_record(order: DryOrder, frame: Loaded, parts: Iterable[Loaded]) -> Report:
    """Keep all of it; `planned` and `observed` of the report count the commands that go nowhere. frame: any part of the
    organization; parts: all that was judged. Raises LeaseLostError, and what `parts` raises."""
    organization, lease, judged = frame.organization, order.lease, order.judged
    by = By(organization.pk, journal.order_owner(), order.actor, order.because, order.run.pk)
    report = Report()
    _begin(order, frame)
    counts = dict.fromkeys(DryRunLine.Effect.values, 0)
    going = frozenset(judged.mailboxes)
    for loaded in parts:
        block = block_of(loaded, judged, going, are_settings_wanted=order.are_settings_wanted)
        for line in block.lines:
            counts[line.effect] += 1
        _write(order, by, block, report)
    with lease.guard():
        _observe([settings_intent(command) for command in judged.settings], by, report)
        DryRun.objects.filter(pk=order.run.pk).update(finished_at=Now(), **counts)
    order.on_progress(report)
    _prune(organization.pk, lease)
    return report


def _begin(order: DryOrder, frame: Loaded) -> None:
    judged = order.judged
    with order.lease.guard():
        DryRun.objects.update_or_create(
            run_id=order.run.pk,
            defaults={
                "organization": frame.organization,
                "is_whole": judged.is_whole,
                "begun_at": Now(),
                "finished_at": None,
                **limit_columns(judged.limits),
                "settings": _texts(judged.settings),
                "settings_held": _texts(judged.settings_held),
                "withheld": list(judged.withheld) if judged.doubted else [],
            },
        )
    # What an attempt before this one left.
    _empty(order.run.pk, order.lease)


def _texts(commands: Iterable[SettingsCommand]) -> list[str]:
    return [storable(deed_of_plan(command).text()) for command in commands]


# --- rows -------------------------------------------------------------------------------------------------------------


def _write(order: DryOrder, by: By, block: Block, report: Report) -> None:
    for lines in blocks(block.lines, ROWS):
        with order.lease.guard():
            _insert(order.run.pk, lines)
    for intents in blocks(block.intents, ROWS):
        with order.lease.guard():
            _observe(intents, by, report)
    order.on_progress(report)


def _observe(intents: Sequence[Intent], by: By, report: Report) -> None:
    rows = journal.intents_write(intents, by, state=Command.State.OBSERVED)
    report.observed += len(rows)
    report.planned += len(rows)


def _insert(run: int, lines: Iterable[Line]) -> None:
    """As columns.py does: there is a line for every device."""
    guid = adapters()[0]
    quote = connection.ops.quote_name
    listed, marks = ", ".join(map(quote, _COLUMNS)), ", ".join(["%s"] * len(_COLUMNS))
    table = quote(DryRunLine._meta.db_table)
    rows = [(run, None if line.public_id is None else guid(line.public_id), *line.values) for line in lines]
    with connection.cursor() as cursor:
        cursor.executemany(f"INSERT INTO {table} ({listed}) VALUES ({marks})", rows)  # noqa: S608 - our own names


# --- what is not kept any more ----------------------------------------------------------------------------------------


def _prune(organization_id: int, lease: Lease) -> None:
    """Cut off in between, the next one goes on with it."""
    for run in _not_kept(organization_id):
        with lease.guard():
            DryRun.objects.filter(pk=run, pruned_at=None).update(pruned_at=Now())
        _empty(run, lease)


def _not_kept(organization_id: int) -> Iterator[int]:
    has_lines = Exists(DryRunLine.objects.filter(dry_run=OuterRef("pk")))
    rows = DryRun.objects.filter(organization=organization_id)
    for is_whole, number in ((True, KEPT), (False, KEPT_PARTS)):
        some = rows.filter(is_whole=is_whole)
        kept = list(some.filter(pruned_at=None).order_by("-begun_at", "-pk").values_list("pk", flat=True)[:number])
        yield from some.filter(Q(pruned_at=None) | has_lines).exclude(pk__in=kept).values_list("pk", flat=True)


def _empty(run: int, lease: Lease) -> None:
    """Take the lines of a dry run, and the commands that it wrote down; lines last, which tell that something is left.
    A command that was on its way when the connector was switched to observing is none of them."""
    commands = Command.objects.filter(run=run, state=Command.State.OBSERVED, sent_at=None)
    tables: tuple[QuerySet[Any], ...] = (commands, DryRunLine.objects.filter(dry_run=run))
    for rows in tables:
        while chosen := list(rows.order_by("pk").values_list("pk", flat=True)[:ROWS]):
            with lease.guard():
                rows.filter(pk__in=chosen).delete()

"""What a dry run found, as it was kept then: each device with its verdict, the exact commands that were not sent, and
those that would wait for approval. Reads only; the rows are enforcing's (dry_results.py)."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from enum import StrEnum

from django.db.models import Q, QuerySet
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from sync.enforcing.second_half import RECORDS_UNREADABLE
from sync.models import DryRun, DryRunLine, MobileDevice, SyncRun
from sync.policies.policy_words import DOUBT_WORDS
from sync.showing import access_words as words
from sync.showing.explain import row_number

Effect = DryRunLine.Effect
WITHHELD: words.Words = {**DOUBT_WORDS, RECORDS_UNREADABLE: gettext_lazy("device records could not be read")}


class Standing(StrEnum):
    """What there is of a dry run: nothing yet, nothing at all, a part, all, or nothing any more."""

    WAITING = "waiting"
    NOTHING = "nothing"
    UNDER_WAY = "underWay"
    CUT_OFF = "cutOff"
    WHOLE = "whole"
    PRUNED = "pruned"


def is_dry(run: SyncRun) -> bool:
    """Asked for as one, or made one by a connector that only observes."""
    return run.is_dry_run or DryRun.objects.filter(pk=run.pk).exists()


def dry_of(run: SyncRun) -> DryRun | None:
    """What was kept of a run; None: it has not decided anything (yet), or it acted."""
    return DryRun.objects.filter(pk=run.pk).first()


def standing(run: SyncRun, found: DryRun | None) -> Standing:
    if found is None:
        return Standing.WAITING if run.is_active else Standing.NOTHING
    if found.pruned_at is not None:
        return Standing.PRUNED
    if found.finished_at is not None:
        return Standing.WHOLE
    return Standing.UNDER_WAY if run.is_active else Standing.CUT_OFF


def dry_lines(found: DryRun, *, effect: str = "", text: str = "") -> QuerySet[DryRunLine]:
    """Its lines by what would become of them and by person; nothing of one that is not kept any more. effect: of
    Effect, "" for all."""
    if found.pruned_at is not None:
        return DryRunLine.objects.none()
    rows = DryRunLine.objects.filter(dry_run=found)
    if effect:
        rows = rows.filter(effect=effect)
    for word in text.split()[:8]:
        rows = rows.filter(
            Q(person__icontains=word)
            | Q(mailbox__icontains=word)
            | Q(device_id__icontains=word)
            | Q(device_name__icontains=word)
        )
    return rows.order_by("effect", "person", "pk")


def known_still(lines: Iterable[DryRunLine]) -> set[uuid.UUID]:
    """The devices among them that have a page, by public id. One query."""
    ids = [line.device_public_id for line in lines if line.device_public_id is not None]
    return set(MobileDevice.objects.filter(public_id__in=ids).values_list("public_id", flat=True))


def rule_said(rule: str, reason: str) -> str:
    """The row of the table that spoke, with its number; its words only where the reason does not say the same."""
    number, row = row_number(rule), words.said(words.ROWS, rule)
    is_same = row == words.said(words.REASONS, reason)
    if not number:
        return "" if is_same else row
    if is_same:
        return _("Rule %(number)d") % {"number": number}
    return _("Rule %(number)d: %(words)s") % {"number": number, "words": row}

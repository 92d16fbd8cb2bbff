"""Importing a CSV file of records: kept, shown, and then applied as it was shown, whole or not at all.

The file lies in a row until it is imported or an hour has passed, so that what is imported is what was looked at, by
whichever process. One transaction for the whole import: nothing is ever half imported.
"""

from __future__ import annotations

import datetime
import io
import logging
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from operator import attrgetter
from typing import Any, BinaryIO

from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone
from django.utils.translation import gettext as _

from connectors.actors import Actor
from connectors.models import Tenant
from connectors.selectors import Person, tenants_for
from sync.models import CsvImport, ManagedDevice, Presence
from sync.records.pushed import records_apply, source_claim
from sync.records.pushed_rows import FIELDS
from sync.records.record_csv import BYTE_LIMIT, CsvError, Heading, Line, heading_and_rows, lines_read, text_lines
from sync.records.record_store import COLUMNS, RecordValues, chunks

logger = logging.getLogger(__name__)

KEPT = datetime.timedelta(hours=1)
# Rows of the preview; bad ones are listed by themselves.
SHOWN = 50
_values = attrgetter(*COLUMNS)


class ImportOverError(Exception):
    """The file was imported already, or its hour is over. Its text is for people."""


class BadRowsError(Exception):
    """There are rows that cannot be taken, and nobody said that they are to be left out. Nothing was stored."""


@dataclass(slots=True)
class Preview:
    """What an import would do. shown: the first rows with what would become of them (new, changed, unchanged, bad).
    bad_shown: the first rows that are wrong."""

    heading: Heading | None = None
    rows: int = 0
    new: int = 0
    changed: int = 0
    unchanged: int = 0
    bad: int = 0
    shown: list[tuple[Line, str]] = field(default_factory=list)
    bad_shown: list[Line] = field(default_factory=list)

    @property
    def good(self) -> int:
        return self.new + self.changed + self.unchanged


def imports_for(person: Person) -> QuerySet[CsvImport]:
    """Files of the tenants that a person may see."""
    return CsvImport.objects.filter(tenant__in=tenants_for(person)).select_related("tenant")


def import_prepare(*, tenant: Tenant, file: BinaryIO, size: int, file_name: str, actor: Actor) -> CsvImport:
    """Keep an uploaded file. Raises CsvError for what is wrong with it as a whole, SourceConflictError."""
    with transaction.atomic():
        source_claim(tenant)
        CsvImport.objects.filter(expires_at__lt=timezone.now()).delete()
    if size > BYTE_LIMIT:
        raise CsvError(
            "too_large",
            _("The file has %(size)d MB; at most %(limit)d are taken. Split it, or push the records through the API.")
            % {"size": -(-size // 1024 // 1024), "limit": BYTE_LIMIT // 1024 // 1024},
        )
    now = timezone.now()
    return CsvImport.objects.create(
        tenant=tenant,
        file_name=file_name.replace("\0", "")[:255],
        content=_compressed(file),
        made_at=now,
        made_by_name=actor.name[:200],
        made_by_id=actor.user_id,
        expires_at=now + KEPT,
    )


def _compressed(file: BinaryIO) -> bytes:
    """The text in UTF-8, walked once to the end, so that a file that cannot be read is refused before it is kept."""
    packer = zlib.compressobj(6)
    packed = bytearray()

    def tee() -> Iterator[str]:
        for line in text_lines(file):
            packed.extend(packer.compress(line.encode("utf-8", "surrogatepass")))
            yield line

    _heading, rows = heading_and_rows(tee())
    for _row in rows:
        pass
    packed.extend(packer.flush())
    return bytes(packed)


def _lines(kept: CsvImport) -> Iterator[str]:
    """The lines of a kept file, their ends as they were, unpacked as they are needed."""
    yield from io.TextIOWrapper(io.BufferedReader(_Unpacking(bytes(kept.content))), encoding="utf-8", newline="")


class _Unpacking(io.RawIOBase):
    """A compressed text as a file to be read from."""

    def __init__(self, content: bytes) -> None:
        self._content = memoryview(content)
        self._unpacker = zlib.decompressobj()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = b""
        while not data and not self._unpacker.eof:
            pending = self._unpacker.unconsumed_tail
            if not pending:
                pending, self._content = bytes(self._content[:65_536]), self._content[65_536:]
            data = self._unpacker.decompress(pending, len(buffer))
        buffer[: len(data)] = data
        return len(data)


def import_preview(kept: CsvImport) -> Preview:
    """What importing it now would do. Raises ImportOverError."""
    _open_check(kept)
    preview = Preview()
    preview.heading, lines = lines_read(_lines(kept))
    for part in chunks(lines):
        good = [line.values for line in part if line.values is not None]
        statuses = _statuses(kept.tenant_id, _completed(kept.tenant_id, preview.heading, good))
        for line in part:
            status = "bad" if line.values is None else statuses[line.values.source_id]
            preview.rows += 1
            setattr(preview, status, getattr(preview, status) + 1)
            if len(preview.shown) < SHOWN:
                preview.shown.append((line, status))
            if status == "bad" and len(preview.bad_shown) < SHOWN:
                preview.bad_shown.append(line)
    return preview


def _completed(tenant_id: int, heading: Heading, rows: list[RecordValues]) -> list[RecordValues]:
    """The rows with what is stored in the columns that the file does not name: a file of ids and compliance alone must
    not take from every phone whose it is."""
    named = {FIELDS[name].column for name in heading.fields if name is not None}
    left = [column for column in COLUMNS if column not in named]
    completed: list[RecordValues] = []
    for part in chunks(rows):
        known = {
            source_id: dict(zip(left, values, strict=True))
            for source_id, *values in _held(tenant_id, part).values_list("source_id", *left)
        }
        completed += [replace(row, **known[row.source_id]) if row.source_id in known else row for row in part]
    return completed


def _held(tenant_id: int, rows: list[RecordValues]) -> QuerySet[ManagedDevice]:
    return ManagedDevice.objects.filter(
        tenant_id=tenant_id, source=ManagedDevice.Source.PUSHED, source_id__in=[row.source_id for row in rows]
    ).exclude(presence=Presence.GONE)


def _statuses(tenant_id: int, rows: list[RecordValues]) -> dict[str, str]:
    known = {record.source_id: _values(record) for record in _held(tenant_id, rows)}
    return {
        row.source_id: "new"
        if row.source_id not in known
        else "unchanged"
        if known[row.source_id] == _values(row)
        else "changed"
        for row in rows
    }


@dataclass(frozen=True, slots=True)
class ImportReport:
    """mailboxes: how many are looked at again because of it."""

    created: int
    changed: int
    unchanged: int
    left_out: int
    mailboxes: int


def import_apply(*, kept: CsvImport, leave_out_bad: bool, actor: Actor) -> ImportReport:
    """Import the file, once. Raises ImportOverError, BadRowsError and SourceConflictError, and then nothing was
    stored."""
    _open_check(kept)
    # Read before the transaction, which others wait for.
    heading, lines = lines_read(_lines(kept))
    rows: list[RecordValues] = []
    bad = 0
    for line in lines:
        if line.values is None:
            bad += 1
        else:
            rows.append(line.values)
    if bad and not leave_out_bad:
        raise BadRowsError
    with transaction.atomic():
        source = source_claim(kept.tenant)
        current = CsvImport.objects.select_for_update().filter(pk=kept.pk).first()
        if current is None:
            raise ImportOverError(_over())
        _open_check(current)
        rows = _completed(kept.tenant_id, heading, rows)
        stored, mailboxes = records_apply(tenant=kept.tenant, source=source, rows=rows, actor=actor)
        CsvImport.objects.filter(pk=kept.pk).update(imported_at=timezone.now(), content=b"")
    logger.info("file of %d records of tenant %s imported by %s", len(rows), kept.tenant.public_id, actor.name)
    return ImportReport(len(stored.created), len(stored.changed), stored.unchanged, bad, mailboxes)


def _open_check(kept: CsvImport) -> None:
    if kept.imported_at is not None:
        raise ImportOverError(_("This file was imported already. Upload it again to see whether it would do more."))
    if kept.expires_at <= timezone.now():
        raise ImportOverError(_over())


def _over() -> str:
    return _("The hour for which an uploaded file is kept is over, and nothing was imported. Upload it again.")

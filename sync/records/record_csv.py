"""A CSV file of records: bytes in, lines with a record or with what is wrong in them out.

Takes UTF-8 with or without a mark and UTF-16, comma, semicolon or tab, as spreadsheets write them. Reads line by line,
so that a file of any length takes little memory. Touches no table. Refuses to guess: what is no UTF, has no heading or
has quotes left open is refused whole, with the line; a row that is wrong is told by itself.
"""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import BinaryIO

from django.utils.translation import gettext as _

from sync.records.pushed_rows import FIELDS, REQUIRED, FieldProblem, RowError, field_name, row_read
from sync.records.record_store import RecordValues

# So that a whole import is one transaction that nobody else waits long for.
ROW_LIMIT = 50_000
BYTE_LIMIT = 32 * 1024 * 1024
SEPARATORS = (",", ";", "\t")
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_SEPARATOR_LINE = re.compile(r"sep=([^\w\s\"\0]|\t)\s*\Z", re.IGNORECASE)
# What a spreadsheet makes of a long number.
_ROUNDED = re.compile(r"\d([.,]\d+)?E\+\d+", re.IGNORECASE)


class CsvError(ValueError):
    """The file as a whole cannot be taken. Its text is for people; code is stable."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class Line:
    """A row. number: the line of the file where it begins. values: None when there are problems."""

    number: int
    id: str
    values: RecordValues | None
    problems: tuple[FieldProblem, ...] = ()


@dataclass(frozen=True, slots=True)
class Heading:
    """fields: of each column in order, None for one that is not used. unused: their headings."""

    separator: str
    fields: tuple[str | None, ...]
    unused: tuple[str, ...]


def text_lines(file: BinaryIO) -> Iterator[str]:
    """The file's lines, their ends kept. Raises CsvError for an encoding that is none of ours."""
    start = file.read(4)
    encoding = next((name for mark, name in _MARKS if start.startswith(mark)), "")
    if not encoding:
        # Without a mark: every second byte of plain text is zero in UTF-16.
        encoding = "utf-16-le" if start[1:2] == b"\0" else "utf-16-be" if start[:1] == b"\0" else "utf-8"
    file.seek(0)
    text = io.TextIOWrapper(file, encoding=encoding, newline="")
    try:
        yield from text
    except UnicodeError:
        text.detach()
        raise CsvError(
            "encoding",
            _("In line %(line)s there is text that is not UTF-8. Save the file as “CSV UTF-8” and upload it again.")
            % {"line": _broken_line(file) or "?"},
        ) from None


def _broken_line(file: BinaryIO) -> int:
    """The first line that is no UTF-8; the decoder itself reads ahead. 0 when there is none (it is no whole UTF-16)."""
    file.seek(0)
    for number, line in enumerate(file, 1):
        try:
            line.decode()
        except UnicodeError:
            return number
    return 0


def heading_and_rows(lines: Iterable[str]) -> tuple[Heading, Iterator[tuple[int, list[str]]]]:
    """The heading, and after it each row that is not blank with the number of its line. Raises CsvError, for what is
    wrong below also while the rows are walked."""
    lines = iter(lines)
    first = next((line for line in lines), "")
    skipped = 1
    separator = ""
    if match := _SEPARATOR_LINE.match(first.strip("\ufeff")):
        separator, first, skipped = match[1], next(lines, ""), 2
    if not first.strip():
        raise CsvError("empty", _("The file is empty, or its first line is. The first line names the columns."))
    separator = separator or max(SEPARATORS, key=first.count)
    try:
        cells = next(csv.reader([first], delimiter=separator))
    except csv.Error:
        raise CsvError(
            "heading",
            _("The first line is no list of column names. It names the columns, parted as the lines below it."),
        ) from None
    heading = _heading(cells, separator)
    return heading, _rows(lines, heading, skipped)


def _heading(cells: list[str], separator: str) -> Heading:
    fields = tuple(field_name(cell) for cell in cells)
    twice = sorted({field for field in fields if field is not None and fields.count(field) > 1})
    if twice:
        raise CsvError("column_twice", _("The column %(names)s stands twice.") % {"names": ", ".join(twice)})
    missing = [name for name in REQUIRED if name not in fields]
    if missing:
        raise CsvError(
            "columns",
            _(
                "The first line does not name the column %(missing)s. It names: %(found)s. The columns that are known "
                "are: %(known)s."
            )
            % {
                "missing": ", ".join(missing),
                "found": ", ".join(cell.strip()[:40] for cell in cells[:30]),
                "known": ", ".join(FIELDS),
            },
        )
    unused = tuple(cell.strip() for cell, field in zip(cells, fields, strict=True) if field is None and cell.strip())
    return Heading(separator, fields, unused)


def _rows(lines: Iterator[str], heading: Heading, skipped: int) -> Iterator[tuple[int, list[str]]]:
    reader = csv.reader(lines, delimiter=heading.separator, strict=True)
    count, number = 0, skipped + 1
    try:
        for cells in reader:
            begins, number = number, skipped + reader.line_num + 1
            if not any(cell.strip() for cell in cells):
                continue
            count += 1
            if count > ROW_LIMIT:
                raise CsvError(
                    "too_many_rows",
                    _("The file has more than %(limit)d rows. Split it, or push the records through the API.")
                    % {"limit": ROW_LIMIT},
                )
            yield begins, cells
    except csv.Error as error:
        if "field limit" in str(error):
            raise CsvError(
                "value_too_long",
                _(
                    "From line %(line)d on there is a value of more than %(limit)d characters. Most likely a quote "
                    "begins there that is not closed, or the separator is another one than in the first line."
                )
                % {"line": number, "limit": csv.field_size_limit()},
            ) from None
        raise CsvError(
            "quotes",
            _(
                "From line %(line)d on the quotes do not match. A quote within a value is written twice, and a value "
                "with a separator, quote or line break stands in quotes."
            )
            % {"line": number},
        ) from None
    if not count:
        raise CsvError("no_rows", _("The file has a heading and no row below it."))


def lines_read(lines: Iterable[str]) -> tuple[Heading, Iterator[Line]]:
    """The heading and every row, read. Raises CsvError, for what is wrong below also while the rows are walked."""
    heading, rows = heading_and_rows(lines)
    return heading, _lines(heading, rows)


def _lines(heading: Heading, rows: Iterator[tuple[int, list[str]]]) -> Iterator[Line]:
    seen: dict[str, int] = {}
    for number, cells in rows:
        if len(cells) != len(heading.fields):
            yield Line(number, "", None, (_cells_problem(len(cells), len(heading.fields)),))
            continue
        named = {
            field: cell for field, cell in zip(heading.fields, cells, strict=True) if field is not None and cell.strip()
        }
        source_id = named.get("id", "").strip()[:255]
        problems = list(_rounded(named))
        values = None
        try:
            values = row_read(named)
        except RowError as error:
            problems += error.problems
        if values is not None and (first := seen.setdefault(values.source_id, number)) != number:
            text = _("The id “%(id)s” stands in line %(line)d already.") % {"id": source_id[:64], "line": first}
            problems.append(FieldProblem("id", "twice", text))
        yield Line(number, source_id, None if problems else values, tuple(problems))


def _cells_problem(count: int, expected: int) -> FieldProblem:
    text = _(
        "The row has %(count)d cells, the heading %(expected)d. A value that holds the separator must stand in quotes."
    )
    return FieldProblem("", "cells", text % {"count": count, "expected": expected})


def _rounded(named: dict[str, str]) -> Iterator[FieldProblem]:
    for name in ("imei", "serialNumber", "easDeviceId", "id"):
        if _ROUNDED.fullmatch(named.get(name, "").strip()):
            text = _(
                "%(field)s was rounded by a spreadsheet (%(value)s). Format its column as text before you enter or "
                "import the numbers."
            )
            yield FieldProblem(name, "rounded", text % {"field": name, "value": named[name].strip()[:40]})

"""CSV and TSV files, compressed or not, as records by the names in their header, in bounded memory.

A record may span lines where a value is quoted. Rows are records from zero, the header not counted, bad ones included: what is
quoted wrongly, is not UTF-8, or has more or fewer values than the header is a bad row, and reading goes on at the next line.
"""

from __future__ import annotations

import codecs
import csv
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from ..run.identity import SourceFile
from .arrow_messages import TwoColumns
from .formats import MAX_LINE, Damaged, json_lines

DELIMITERS = {".csv": ",", ".tsv": "\t"}


class Record(NamedTuple):
    """A row of a file."""

    row: int
    offset: int
    """Of its first byte in the decompressed file."""
    values: dict[str, str]
    bad: str = ""
    """Why it has no values."""


def delimiter_of(path: str) -> str:
    """What stands between the values of a file, by its name."""
    name = path.removesuffix(".gz").removesuffix(".zst").removesuffix(".bz2")
    return next(delimiter for suffix, delimiter in DELIMITERS.items() if name.endswith(suffix))


class _Lines:
    """The lines of a file as text, and what was wrong with those that were taken since it was last asked."""

    def __init__(self, url: str) -> None:
        self._lines = json_lines(url)
        self.begin = -1
        """Of the first byte that was taken since."""
        self.bad = ""
        self.size = 0

    def __iter__(self) -> Iterator[str]:
        for row, offset, line, ended in self._lines:
            data = bytes(line)
            if not row:
                data = data.removeprefix(codecs.BOM_UTF8)
            self.begin = offset if self.begin < 0 else self.begin
            self.size += len(data)
            if self.size > MAX_LINE:
                # What follows belongs to the same record, and is not kept.
                self.bad, data = "row too long", b'"' if data.endswith(b'"') else b""
            try:
                text = data.decode()
            except UnicodeDecodeError as error:
                self.bad = self.bad or f"invalid UTF-8: {error.reason}"
                text = data.decode(errors="replace")
            yield f"{text}\n" if ended and self.size <= MAX_LINE else text

    def taken(self) -> tuple[int, str]:
        """(first byte, what is wrong) of the lines since the last call."""
        found = self.begin, self.bad
        self.begin, self.bad, self.size = -1, "", 0
        return found


def no_column(file: SourceFile, name: str) -> str:
    """What to say of a table without the column of its text."""
    if file.format == "huggingface":
        return f"{file.name} has no column {name!r}; name that of its text in the source's `columns`, as in {{text: content}}"
    return f"{file.name} has no column {name!r}; is its format really {file.format!r}?"


def records(file: SourceFile, wanted: Sequence[str], needed: Sequence[str]) -> Iterator[Record]:
    """Yield every record after the header of a CSV or TSV file, with those of the `wanted` columns that the header has.

    Raises:
        Damaged: the file is truncated or corrupt, or has no header; what came before has been yielded.
        TwoColumns: the header names a wanted column twice.
        ValueError: it lacks a `needed` column; names it.
    """
    lines = _Lines(file.url)
    delimiter = delimiter_of(file.path)
    csv.field_size_limit(2 * MAX_LINE)
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    try:
        header = next(reader, None)
    except csv.Error as found:
        raise Damaged(f"its header cannot be read ({found})") from None
    if header is None:
        raise Damaged("the file is empty, without a header", cut=True)
    lines.taken()
    if twice := next((name for name in wanted if header.count(name) > 1), None):
        raise TwoColumns(twice)
    if absent := next((name for name in needed if name not in header), None):
        raise ValueError(no_column(file, absent))
    places = {name: header.index(name) for name in wanted if name in header}
    row = 0
    while True:
        error = ""
        values: list[str] | None = []
        try:
            values = next(reader, None)
        except csv.Error as found:
            error = str(found)
        begin, bad = lines.taken()
        if values is None:
            return
        if not (values or bad or error):
            continue  # an empty line is no record
        if "end of data" in error:
            yield Record(row, begin, {}, "a quoted value does not end")
            raise Damaged("the last row is incomplete: a quoted value does not end", cut=True)
        if not bad and not error and len(values) != len(header):
            bad = f"{len(values)} values, where the header has {len(header)}"
        bad = bad or error
        yield Record(row, begin, {} if bad else {name: values[at] for name, at in places.items()}, bad)
        row += 1

"""A row of a source as it stands in its file, for people to look at: the line of a text file, all columns of a table's row."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import Any

import msgspec
import pyarrow as pa

from ..run.identity import TOKENS, SourceFile
from .adapter import Adapter
from .formats import Damaged, is_json_lines, is_separated, json_lines
from .rows import ADAPTERS
from .separated import records
from .tables import arrow_tables, columns_of, row_bytes
from .values import plain, plain_table

MOST_BYTES = 200_000
"""Of a row that are shown."""


@dataclass(frozen=True)
class SourceRow:
    """A row as it stands in its file."""

    kind: str
    """`line` of a text file, or `columns` of a table, as JSON."""
    text: str
    bytes: int
    """Of the whole row; more than `MOST_BYTES` are cut."""


def source_row(file: SourceFile, row: int) -> SourceRow:
    """Read a row, up to which the file is read.

    Args:
        row: its number in the file.

    Raises:
        ValueError: the file has no such row, or is damaged before it.
        OSError: the file cannot be opened.
    """
    try:
        found = _line(file, row) if is_json_lines(file.path) and not file.reader else _columns(file, row)
    except Damaged as damage:
        raise ValueError(f"{file.name} is damaged ({damage.reason})") from None
    if found is None:
        raise ValueError(f"{file.name} has no row {row:,} any more; was the file replaced?")
    return found


def _line(file: SourceFile, row: int) -> SourceRow | None:
    for number, _, line, _ in json_lines(file.url, None if file.read_whole else file.piece):
        if number == row:
            return SourceRow("line", bytes(line[:MOST_BYTES]).decode(errors="replace"), len(line))
    return None


def _columns(file: SourceFile, row: int) -> SourceRow | None:
    if file.format == TOKENS:
        raise ValueError(f"{file.name} holds token ids")
    if is_separated(file.path):
        adapter: Adapter = ADAPTERS[file.format]
        names = [f.encode_name for f in msgspec.structs.fields(adapter.row)]
        values = next((bad or own for number, _, own, bad in records(file, names, []) if number == row), None)
        return None if values is None else _as_json(values)
    first = file.piece.row if file.piece else file.reader.first_row if file.reader else 0
    tables = (
        file.reader.tables(file.path) if file.reader else arrow_tables(file.url, columns_of(file.url), piece=file.piece)
    )
    for table in tables:
        if row < first + table.num_rows:
            return _as_json(_plain_row(table.slice(row - first, 1)))
        first += table.num_rows
    return None


def _plain_row(row: pa.RecordBatch) -> dict[str, Any]:
    """The values of a row by column; one that is too large is named by its size."""
    row = plain_table(row)
    found: dict[str, Any] = {}
    for name, column in zip(row.schema.names, row.columns, strict=True):
        size = int(row_bytes(column)[0])
        found[name] = plain(column[0]) if size <= 4 * MOST_BYTES else f"({size:,} bytes, not shown)"
    return found


def _as_json(values: Any) -> SourceRow:
    data = msgspec.json.encode(values)
    text = msgspec.json.format(data, indent=1).decode(errors="replace")
    return SourceRow("columns", "".join(islice(text, MOST_BYTES)), len(data))

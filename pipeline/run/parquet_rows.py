"""Single rows of a run's Parquet files, by their place or by the document they describe."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from .artifacts import row_groups
from .columns import Columns, open_columns


def take_rows(path: Path, rows: Sequence[int]) -> pa.RecordBatch:
    """Rows of a Parquet file of ours by their places, ascending; each row group is read once.

    Raises:
        IndexError: the file has no such row.
    """
    with open_columns(path) as file:
        found, begin = [file.schema_arrow.empty_table()], 0
        for group in range(file.num_row_groups):
            end = begin + file.metadata.row_group(group).num_rows
            inside = [row - begin for row in rows if begin <= row < end]
            if inside:
                found.append(file.read_row_group(group).take(pa.array(inside, pa.int64())))
            begin = end
    for row in rows:
        if not 0 <= row < begin:
            raise IndexError(f"{path} has no row {row}")
    table = pa.concat_tables(found).combine_chunks()
    return table.to_batches()[0] if len(table) else pa.RecordBatch.from_pylist([], table.schema)


class RowCursor:
    """Some columns of a Parquet file of ours, from the front, in slices of any number of rows: of a file with tens of millions of
    rows a few row groups are in memory.
    """

    def __init__(self, file: Columns, columns: Sequence[str]) -> None:
        self._file, self._columns = file, list(columns)
        self._group = 0
        self._held = file.schema_arrow.empty_table().select(self._columns)

    def take(self, rows: int) -> pa.Table:
        """The next rows, fewer at the end of the file."""
        parts = [self._held]
        while sum(part.num_rows for part in parts) < rows and self._group < self._file.num_row_groups:
            parts.append(self._file.read_row_group(self._group, self._columns, onwards=True).select(self._columns))
            self._group += 1
        held = pa.concat_tables(parts)
        self._held = held.slice(rows)
        return held.slice(0, rows).combine_chunks()


def row_of(path: Path, doc_id: int, columns: Sequence[str] | None = None) -> pa.RecordBatch | None:
    """The row of a document in a Parquet file of ours, found by the statistics of its row groups.

    Args:
        columns: in this order; None: all.

    Returns:
        None if the file has no such row, or is not there (yet).
    """
    if not path.exists():
        return None
    for file, group in row_groups(path, "doc_id", doc_id, doc_id):
        at = place_of(file.read_row_group(group, columns=["doc_id"]).column(0), doc_id)
        if at >= 0:
            table = file.read_row_group(group, columns=columns).slice(at, 1).combine_chunks()
            return table.select(columns).to_batches()[0] if columns else table.to_batches()[0]
    return None


def place_of(ids: pa.Array | pa.ChunkedArray, doc_id: int) -> int:
    """Where a document first stands in a column of ids; -1 if it is not there."""
    at = np.flatnonzero(uint64s(ids) == doc_id)
    return int(at[0]) if len(at) else -1


def uint64s(column: pa.Array | pa.ChunkedArray) -> np.ndarray:
    """A column of uint64 without nulls as numpy. Not `to_numpy`: that imports pandas, which takes longer than a lookup."""
    parts = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
    views = [np.frombuffer(part.buffers()[1], np.uint64)[part.offset : part.offset + len(part)] for part in parts]
    return np.concatenate([np.empty(0, np.uint64), *views])

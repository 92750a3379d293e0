"""Parquet files of a run, of which a reader wants some columns: in a store, no more than these are fetched.

A local file, or one that a mirror has, is opened as it is. Of another one the footer is read, and for every row group the
ranges of the columns that are asked for, at once; ranges with little between them are one request. Nothing of it stays in
the mirror.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from ...storage import store

FOOTER_BYTES = 64 << 10
"""What is read of the end of a file first: its footer, and all of a small one."""
SPARE = 0.2
"""What may be fetched beside the columns that are asked for, as a share of these, to make fewer requests."""
REQUESTS = 8
"""Requests at once."""


class Columns:
    """An open Parquet file, row group by row group, with the names of `pyarrow.parquet.ParquetFile`."""

    def __init__(self, path: Path, threads: bool = True) -> None:
        """
        Args:
            threads: columns are decoded at once, by the threads of Arrow. Not where one of these waits for the columns.
        """
        self._threads = threads
        self._ranges = _Ranges(path) if store.only_in_store(path) else None
        self._file = pq.ParquetFile(self._ranges or path)

    @property
    def num_row_groups(self) -> int:
        return int(self._file.num_row_groups)

    @property
    def schema_arrow(self) -> pa.Schema:
        return self._file.schema_arrow

    @property
    def metadata(self) -> pq.FileMetaData:
        return self._file.metadata

    def read_row_group(self, group: int, columns: Sequence[str] | None = None) -> pa.Table:
        """Some columns (None: all) of a row group."""
        if self._ranges:
            self._ranges.fetch(_chunks(self.metadata.row_group(group), columns))
        return self._file.read_row_group(group, columns=columns, use_threads=self._threads)

    def close(self) -> None:
        self._file.close()


class Beside(Columns):
    """Parquet files of the same rows, in the same row groups, as one: a column of several is that of the last of them."""

    def __init__(self, path: Path, beside: Sequence[Path], threads: bool = True) -> None:
        self._all = [Columns(each, threads) for each in (path, *beside)]
        rows = [[f.metadata.row_group(g).num_rows for g in range(f.num_row_groups)] for f in self._all]
        if other := next((i for i in range(1, len(rows)) if rows[i] != rows[0]), 0):
            self.close()
            raise ValueError(
                f"{store.shown(path)} and {store.shown(beside[other - 1])} differ in their rows; delete both and run `fox1 curate` "
                "again"
            )

    @property
    def num_row_groups(self) -> int:
        return self._all[0].num_row_groups

    @property
    def schema_arrow(self) -> pa.Schema:
        schema = self._all[0].schema_arrow
        for file in self._all[1:]:
            for field in file.schema_arrow:
                at = schema.get_field_index(field.name)
                schema = schema.append(field) if at < 0 else schema.set(at, field)
        return schema

    @property
    def metadata(self) -> pq.FileMetaData:
        """Of the first one."""
        return self._all[0].metadata

    def read_row_group(self, group: int, columns: Sequence[str] | None = None) -> pa.Table:
        names = self.schema_arrow.names if columns is None else list(columns)
        found: dict[str, pa.ChunkedArray] = {}
        left = names
        for file in reversed(self._all):
            own = [name for name in left if name in file.schema_arrow.names]
            left = [name for name in left if name not in own]
            if own:
                table = file.read_row_group(group, own)
                found |= {name: table.column(name) for name in own}
        if left or not names:
            # Whoever asks for none, or for what no file has, is answered as by one file.
            return self._all[0].read_row_group(group, names)
        schema = self.schema_arrow
        return pa.table([found[name] for name in names], schema=pa.schema([schema.field(name) for name in names]))

    def close(self) -> None:
        for file in self._all:
            file.close()


@contextmanager
def open_columns(path: Path, threads: bool = True, beside: Sequence[Path] = ()) -> Iterator[Columns]:
    """Open a Parquet file of a run, or several of the same rows as one.

    Args:
        threads: as `Columns` takes it.
        beside: see `Beside`.
    """
    file = Beside(path, beside, threads) if beside else Columns(path, threads)
    try:
        yield file
    finally:
        file.close()


def read_columns(path: Path, columns: Sequence[str]) -> pa.Table:
    """Some columns of a Parquet file of a run, of all its rows."""
    with open_columns(path) as file:
        parts = [file.read_row_group(group, columns).select(columns) for group in range(file.num_row_groups)]
        return pa.concat_tables([file.schema_arrow.empty_table().select(columns), *parts])


def _chunks(group: pq.RowGroupMetaData, columns: Sequence[str] | None) -> list[tuple[int, int]]:
    """(first byte, byte after the last) of the columns' chunks in a row group."""
    found = []
    for i in range(group.num_columns):
        chunk = group.column(i)
        if columns is None or chunk.path_in_schema.split(".")[0] in columns:
            begin = chunk.data_page_offset
            if chunk.has_dictionary_page and chunk.dictionary_page_offset:
                begin = min(begin, chunk.dictionary_page_offset)
            found.append((begin, begin + chunk.total_compressed_size))
    return found


def joined(ranges: Sequence[tuple[int, int]], spare: float = SPARE) -> list[tuple[int, int]]:
    """Ranges with the smallest gaps closed, as long as what lies in these is a share `spare` of the ranges at most."""
    ordered = sorted(ranges)
    left = spare * sum(end - begin for begin, end in ordered)
    gaps = sorted((ordered[i + 1][0] - ordered[i][1], i) for i in range(len(ordered) - 1))
    closed = set()
    for gap, i in gaps:
        if gap > left:
            break
        left -= max(gap, 0)
        closed.add(i)
    out: list[tuple[int, int]] = []
    for i, (begin, end) in enumerate(ordered):
        if out and i - 1 in closed:
            out[-1] = (out[-1][0], max(out[-1][1], end))
        else:
            out.append((begin, end))
    return out


class _Ranges(io.RawIOBase):
    """An object of a store as a file, of which pieces are held: its end, and what was fetched last."""

    def __init__(self, path: Path) -> None:
        self._path, self._at = path, 0
        self._size = path.stat().st_size
        begin = max(0, self._size - FOOTER_BYTES)
        self._footer = [(begin, store.read_range(path, begin, self._size))]
        self._held: list[tuple[int, bytes]] = []

    def fetch(self, ranges: Sequence[tuple[int, int]]) -> None:
        """Hold these ranges, and none of those before."""
        wanted = joined([r for r in ranges if r[0] < self._footer[0][0]])
        with ThreadPoolExecutor(REQUESTS) as pool:
            self._held = [
                (begin, data)
                for (begin, _), data in zip(
                    wanted, pool.map(lambda r: store.read_range(self._path, *r), wanted), strict=True
                )
            ]

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = offset + (0, self._at, self._size)[whence]
        return self._at

    def tell(self) -> int:
        return self._at

    def read(self, size: int | None = -1) -> bytes:
        end = self._size if size is None or size < 0 else min(self._at + size, self._size)
        data = self._stored(self._at, end)
        self._at = end
        return data

    def _stored(self, begin: int, end: int) -> bytes:
        for at, data in (*self._held, *self._footer):
            if at <= begin and end <= at + len(data):
                return data[begin - at : end - at]
        return store.read_range(self._path, begin, end)

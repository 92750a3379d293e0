"""Parquet files of a run, of which a reader wants some columns: in a store, no more than these are fetched.

A local file, or one that a mirror has, is opened as it is. Of another one the footer is read, and for every row group the
ranges of the columns that are asked for, at once; ranges with little between them are one request. Nothing of it stays in
the mirror. Who reads tables from their beginning to their end (`each_open`) finds the next footers and the next row group there.
"""

from __future__ import annotations

import io
import itertools
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from ...storage import store
from ...storage.ahead import ahead

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

    def read_row_group(self, group: int, columns: Sequence[str] | None = None, onwards: bool = False) -> pa.Table:
        """Some columns (None: all) of a row group.

        Args:
            onwards: those of the next one are fetched meanwhile.
        """
        if self._ranges:
            self._ranges.fetch(self._places(group, columns))
            if onwards:
                self.expect(group + 1, columns)
        return self._file.read_row_group(group, columns=columns, use_threads=self._threads)

    def batches(self, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """Some columns of one row group after the other; empty ones are left out."""
        for group in range(self.num_row_groups):
            yield from self.read_row_group(group, columns, onwards=True).combine_chunks().to_batches()

    def expect(self, group: int, columns: Sequence[str] | None = None) -> None:
        """Begin to fetch what is read next, if the file lies in a store and has such a row group."""
        if self._ranges and group < self.num_row_groups:
            self._ranges.expect(self._places(group, columns))

    def _places(self, group: int, columns: Sequence[str] | None) -> list[tuple[int, int]]:
        return _chunks(self.metadata.row_group(group), columns)

    def close(self) -> None:
        self._file.close()
        if self._ranges:
            self._ranges.close()


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

    def read_row_group(self, group: int, columns: Sequence[str] | None = None, onwards: bool = False) -> pa.Table:
        names, parts = self._parts(columns)
        if not parts:
            # Whoever asks for none, or for what no file has, is answered as by one file.
            return self._all[0].read_row_group(group, names)
        found: dict[str, pa.ChunkedArray] = {}
        for file, own in parts:
            table = file.read_row_group(group, own, onwards)
            found |= {name: table.column(name) for name in own}
        schema = self.schema_arrow
        return pa.table([found[name] for name in names], schema=pa.schema([schema.field(name) for name in names]))

    def expect(self, group: int, columns: Sequence[str] | None = None) -> None:
        for file, own in self._parts(columns)[1]:
            file.expect(group, own)

    def _parts(self, columns: Sequence[str] | None) -> tuple[list[str], list[tuple[Columns, list[str]]]]:
        """(the names of the columns, each file with those that are its own); no file where one of them is nowhere."""
        names = self.schema_arrow.names if columns is None else list(columns)
        parts, left = list[tuple[Columns, list[str]]](), names
        for file in reversed(self._all):
            own = [name for name in left if name in file.schema_arrow.names]
            left = [name for name in left if name not in own]
            if own:
                parts.append((file, own))
        return names, [] if left else parts

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


def each_open(
    tables: Iterable[Sequence[Sequence[Path]]], first: Sequence[Sequence[str]] = ()
) -> Generator[tuple[Columns, ...]]:
    """Open tables that are read side by side, one set of them after the other; each is closed when the next set is asked for. Of
    tables in a store the footers of the next ones are fetched meanwhile.

    Args:
        tables: of each table its file, and those beside it (see `Beside`). Asked for ahead of time where they lie in a store.
        first: columns of each table of a set; those of the next set's first row groups are fetched meanwhile, too. Looked at
            whenever a set is asked for.
    """
    sets = iter(tables)
    begin = next(sets, None)
    if begin is None:
        return
    sets = itertools.chain([begin], sets)
    if not any(store.only_in_store(path) for table in begin for path in table):
        for one in sets:
            with _opened(_open_all(one)) as files:
                yield files
        return
    with closing(ahead(_open_all, sets)) as opened:
        files = next(opened)
        while files:
            with _opened(files):
                following = next(opened, ())
                for file, columns in zip(following, first, strict=False):
                    file.expect(0, columns)
                yield files
            files = following


def _open_all(tables: Sequence[Sequence[Path]]) -> tuple[Columns, ...]:
    return tuple(Beside(path, beside) if beside else Columns(path) for path, *beside in tables)


@contextmanager
def _opened(files: Sequence[Columns]) -> Iterator[tuple[Columns, ...]]:
    try:
        yield tuple(files)
    finally:
        for file in files:
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


NOTHING: tuple[list[tuple[int, int]], Future[list[tuple[int, bytes]]]] = [], Future()


class _Ranges(io.RawIOBase):
    """An object of a store as a file, of which pieces are held: its end, and what was fetched last."""

    def __init__(self, path: Path) -> None:
        self._path, self._at = path, 0
        self._size = path.stat().st_size
        begin = max(0, self._size - FOOTER_BYTES)
        self._footer = [(begin, store.read_range(path, begin, self._size))]
        self._held: list[tuple[int, bytes]] = []
        self._thread: ThreadPoolExecutor | None = None
        self._next = NOTHING
        """What is expected to be asked for next, and what comes of it."""

    def fetch(self, ranges: list[tuple[int, int]]) -> None:
        """Hold these ranges, and none of those before."""
        (expected, found), self._next = self._next, NOTHING
        self._held = found.result() if ranges and ranges == expected else self._read(ranges)

    def expect(self, ranges: list[tuple[int, int]]) -> None:
        """Begin to read what will be asked for next."""
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, "columns")
        self._next = ranges, self._thread.submit(self._read, ranges)

    def _read(self, ranges: Sequence[tuple[int, int]]) -> list[tuple[int, bytes]]:
        """(first byte, what is there) of these ranges, but for what the footer holds."""
        wanted = joined([r for r in ranges if r[0] < self._footer[0][0]])
        if not wanted:
            return []
        with ThreadPoolExecutor(REQUESTS) as pool:
            found = pool.map(lambda r: store.read_range(self._path, *r), wanted)
            return [(begin, data) for (begin, _), data in zip(wanted, found, strict=True)]

    def close(self) -> None:
        if self._thread:
            self._thread.shutdown(wait=False, cancel_futures=True)
        super().close()

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

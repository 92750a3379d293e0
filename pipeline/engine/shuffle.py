"""The file shuffle: how rows move between tasks, with files as the only medium.

A map task writes one shuffle file (`shuffle_file.py`) with its rows by partition, and a reducer reads its partition of every
file. Rows are fixed-width numpy records (here), or of any length (`rows.py`). Records may be sorted within each partition of
each file; then `merged` reads a partition of any size in sorted slices of bounded size. No result depends on the number of map
tasks, of reducers or of files, nor on whether rows went in one step or in two (`two_level.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numba import njit

from ...storage.ahead import ahead
from ...storage.store import Mirrored
from ..run.artifacts import Artifact
from .shuffle_file import (
    SLICE_BYTES,
    SPILL_BYTES,
    Levels,
    Run,
    ShuffleWriter,
    of_files,
    partition_place,
    read_exactly,
    read_partition,
)

ONE_PARTITION = Levels(1)
MIN_PIECE = 128 << 10
"""Bytes that a reducer should find per map file; smaller pieces cost more in seeks than in reading."""


def partition_count(total_bytes: int, maps: int, target: int = 64 << 20, at_least: int = 4) -> int:
    """How many partitions a shuffle of `total_bytes` from `maps` tasks gets: from bytes, not from shards."""
    wanted = max(at_least, -(-total_bytes // target))
    return max(1, min(wanted, total_bytes // (MIN_PIECE * max(1, maps))))


AHEAD_BYTES = 4 << 20
"""Of each slice that is read from a store while others are worked on."""


@dataclass(frozen=True)
class Shuffled:
    """The shuffle files of a map task."""

    files: tuple[Artifact, ...]


Combine = Callable[[np.ndarray], np.ndarray]
"""What is made of a partition's sorted records before they are written, such as leaving out repeats. It may see them in any
number of parts, one after another."""


@dataclass(frozen=True)
class Records:
    """What the rows of a shuffle are."""

    dtype: np.dtype
    by: tuple[str, ...] = ()
    """Fields (all uint64) by which the records of a partition are sorted within each file."""
    combine: Combine | None = None

    def identity(self) -> object:
        """What it adds to the key of a task."""
        name = f"{self.combine.__module__}.{self.combine.__qualname__}" if self.combine else ""
        return [self.dtype.descr, self.by, name]

    def writer(self, path: Path, levels: Levels = ONE_PARTITION) -> RecordShuffle:
        """A writer of a file of such rows."""
        return RecordShuffle(path, levels, self.dtype, self.by, self.combine)


class RecordShuffle(ShuffleWriter):
    """Collects numpy records by partition and writes them to one shuffle file.

    Args:
        by, combine: as in `Records`.
    """

    def __init__(
        self,
        path: Path,
        partitions: int | Levels,
        dtype: np.dtype,
        by: tuple[str, ...] = (),
        combine: Combine | None = None,
    ) -> None:
        super().__init__(path, partitions if isinstance(partitions, Levels) else Levels(partitions))
        self._dtype, self._by, self._combine = dtype, by, combine
        self.shrinks = combine is not None
        self._rows: list[np.ndarray] = []
        self._where: list[np.ndarray] = []

    def add(self, records: np.ndarray, partition: np.ndarray | int = 0) -> None:
        """Append `records` ([n], the shuffle's dtype), row i to ``partition[i]``."""
        assert records.dtype == self._dtype
        # In pieces, so that one large call does not go past what a file should hold.
        step = max(1, SPILL_BYTES // self._dtype.itemsize)
        where = np.broadcast_to(np.asarray(partition, np.int64), len(records))
        for start in range(0, len(records), step):
            self._keep(records[start : start + step], where[start : start + step])
            self._spill_if_full()

    def _keep(self, records: np.ndarray, where: np.ndarray) -> None:
        self._rows.append(records)
        self._where.append(where)
        self._held += records.nbytes

    def _hold(self, sizes: np.ndarray, data: bytes, first: int) -> None:
        where = np.repeat(np.arange(first, first + len(sizes)), sizes[:, 1])
        self._keep(np.frombuffer(data, self._dtype), where)

    def _arranged(self, first: int, end: int) -> tuple[np.ndarray, Any]:
        rows = np.concatenate(self._rows) if self._rows else np.empty(0, self._dtype)
        where = np.concatenate(self._where) if self._where else np.empty(0, np.int64)
        self._rows, self._where, self._held = [], [], 0
        if self._by and end - first > 1:
            # One sort for all: of thousands of partitions, each would be a handful of records.
            order = sort_order(rows, self._by)
            rows, where = rows[order], where[order]
        if end - first > 1:
            order = np.argsort(where.astype(np.uint16) if end <= 1 << 16 else where, kind="stable")
            rows, where = rows[order], where[order]
        elif self._by:
            rows = sort_records(rows, self._by)
        counts = np.bincount(where - first, minlength=end - first)
        if self._combine:
            bounds = np.r_[0, np.cumsum(counts)]
            parts = [rows[:0], *(self._combine(rows[bounds[p] : bounds[p + 1]]) for p in np.flatnonzero(counts))]
            counts[counts > 0] = [len(part) for part in parts[1:]]
            rows = np.concatenate(parts)
        return np.stack([counts * self._dtype.itemsize, counts], axis=1), _bytes_of(rows)

    def _streamed(self, runs: Sequence[Run]) -> Iterator[tuple[int, Any]]:
        slices = merged_runs(runs, self._dtype, self._by) if self._by else _one_by_one(runs, self._dtype, SLICE_BYTES)
        for rows in slices:
            kept = self._combine(rows) if self._combine else rows
            yield len(kept), _bytes_of(kept)


def _bytes_of(rows: np.ndarray) -> memoryview | bytes:
    return memoryview(np.ascontiguousarray(rows).view(np.uint8).data) if len(rows) else b""


def _runs(files: Iterable[Path], partition: int, count: int = 1) -> list[Run]:
    """The rows of a partition in each of some files, or of consecutive ones."""

    def place(path: Path) -> Run:
        return Run(
            partial(read_exactly, path), *partition_place(path, partition, count)[:2], isinstance(path, Mirrored)
        )

    return list(of_files(place, files))


def read_records(files: Iterable[Path], partition: int, dtype: np.dtype) -> np.ndarray:
    """All records of one partition over all map files, in file order."""
    parts = [np.frombuffer(data, dtype) for data in of_files(partial(read_partition, partition=partition), files)]
    return np.concatenate(parts) if parts else np.empty(0, dtype)


def read_ahead(files: Iterable[Path], partition: int, dtype: np.dtype) -> Iterator[np.ndarray]:
    """The records of one partition in file order, in slices, of which the next are read meanwhile."""
    step = max(1, SPILL_BYTES // dtype.itemsize) * dtype.itemsize
    runs = ahead(lambda path: (path, partition_place(path, partition)), files)
    slices = ((path, at, min(at + step, end)) for path, (begin, end, _) in runs for at in range(begin, end, step))
    yield from (np.frombuffer(data, dtype) for data in ahead(lambda piece: read_exactly(*piece), slices))


def sequential(
    files: Iterable[Path], partition: int, dtype: np.dtype, limit: int = SLICE_BYTES
) -> Iterator[np.ndarray]:
    """The records of one partition in file order, in slices of at most `limit` bytes."""
    runs = _runs(files, partition)
    if not any(run.far for run in runs):
        return _one_by_one(runs, dtype, limit)
    pieces = _pieces(runs, dtype, min(limit, AHEAD_BYTES))
    return (np.frombuffer(data, dtype) for data in ahead(lambda piece: piece[0].read(*piece[1:]), pieces))


def _one_by_one(runs: Iterable[Run], dtype: np.dtype, limit: int) -> Iterator[np.ndarray]:
    return (np.frombuffer(run.read(begin, end), dtype) for run, begin, end in _pieces(runs, dtype, limit))


def _pieces(runs: Iterable[Run], dtype: np.dtype, limit: int) -> Iterator[tuple[Run, int, int]]:
    """(run, first byte, byte after the last) of slices of at most `limit` bytes."""
    step = max(1, limit // dtype.itemsize) * dtype.itemsize
    return ((run, at, min(at + step, run.end)) for run in runs for at in range(run.begin, run.end, step))


def merged(
    files: Iterable[Path],
    partition: int,
    dtype: np.dtype,
    by: tuple[str, ...],
    limit: int = SLICE_BYTES,
    count: int = 1,
) -> Iterator[np.ndarray]:
    """The records of one partition of files sorted by `by`, as sorted slices that follow each other in that order.

    Args:
        limit: bytes of a slice. All that is held is a block of each file, together as much.
        count: of consecutive partitions that are in that order, too.
    """
    return merged_runs(_runs(files, partition, count), dtype, by, limit)


def merged_runs(
    places: Iterable[Run], dtype: np.dtype, by: tuple[str, ...], limit: int = SLICE_BYTES
) -> Iterator[np.ndarray]:
    """The records of sorted runs, as `merged` gives them."""
    runs = [_SortedRun(run, dtype) for run in places]
    while True:
        # Blocks in proportion, so that they end near the same key.
        total = sum(run.bytes for run in runs)
        wanted = [max(1, min(limit, total) * run.bytes // max(total, 1) // dtype.itemsize + 1) for run in runs]
        _fill(runs, wanted)
        runs = [run for run in runs if len(run.buffer)]
        if not runs:
            return
        # What comes after the smallest end of an unfinished block may still have records before it.
        ends = [tuple(int(run.buffer[-1][name]) for name in by) for run in runs if run.left]
        parts = [run.take(min(ends) if ends else None, by) for run in runs]
        rows = parts[0] if len(parts) == 1 else np.concatenate(parts)
        # Nothing is held here while the caller works but what it was given.
        many = len(parts) > 1
        parts = []
        rows = sort_records(rows, by) if many else rows
        yield rows
        del rows


def _fill(runs: Sequence[_SortedRun], rows: Sequence[int]) -> None:
    """Let blocks hold so many rows; those of a store are read side by side."""
    some = [(run, n) for run, n in zip(runs, rows, strict=True) if run.left]
    if len(some) > 1 and all(run.far for run, _ in some):
        list(ahead(lambda each: each[0].fill(each[1]), some))
    else:
        for run, n in some:
            run.fill(n)


class _SortedRun:
    """A sorted partition of one file, read block by block."""

    def __init__(self, run: Run, dtype: np.dtype) -> None:
        self._read, self._at, self._end, self._dtype = run.read, run.begin, run.end, dtype
        self.far = run.far
        self.buffer = np.empty(0, dtype)

    @property
    def left(self) -> int:
        """Bytes not read yet."""
        return self._end - self._at

    @property
    def bytes(self) -> int:
        """Of all records that were not taken."""
        return self.left + self.buffer.nbytes

    def fill(self, rows: int) -> None:
        """Read on until the block holds `rows`."""
        size = min(self.left, max(0, rows - len(self.buffer)) * self._dtype.itemsize)
        if size:
            more = np.frombuffer(self._read(self._at, self._at + size), self._dtype)
            self.buffer = np.concatenate([self.buffer, more]) if len(self.buffer) else more
            self._at += size

    def take(self, last: tuple[int, ...] | None, by: tuple[str, ...]) -> np.ndarray:
        """Remove and return the records up to the key `last`, or all."""
        n = len(self.buffer) if last is None else _count_up_to(self.buffer, last, by)
        # A copy of the rest: a view would keep the whole block.
        taken, self.buffer = self.buffer[:n], self.buffer[n:].copy()
        return taken


def _count_up_to(rows: np.ndarray, last: tuple[int, ...], by: tuple[str, ...]) -> int:
    low, high = 0, len(rows)
    for name, value in zip(by, last, strict=True):
        column = rows[name][low:high]
        low, high = (
            low + int(np.searchsorted(column, np.uint64(value), "left")),
            low + int(np.searchsorted(column, np.uint64(value), "right")),
        )
    return high if high > low else low


class Cursor:
    """Walks slices that are sorted by a key alongside something else in the order of the same key."""

    def __init__(self, slices: Iterator[np.ndarray], key: str, dtype: np.dtype) -> None:
        self._slices, self._key = slices, key
        self._rows = np.empty(0, dtype)
        self._advance()

    def _advance(self) -> None:
        while not len(self._rows) and (more := next(self._slices, None)) is not None:
            self._rows = more

    def next_key(self) -> int | None:
        """The key of the first record not taken; None at the end."""
        return int(self._rows[self._key][0]) if len(self._rows) else None

    def take(self, last: int) -> np.ndarray:
        """Remove and return all records up to the key `last`."""
        parts = [self._rows[:0]]
        while (key := self.next_key()) is not None and key <= last:
            n = int(np.searchsorted(self._rows[self._key], np.uint64(last), "right"))
            parts.append(self._rows[:n])
            self._rows = self._rows[n:]
            self._advance()
        return np.concatenate(parts) if len(parts) != 2 else parts[1]


def sort_records(rows: np.ndarray, by: tuple[str, ...]) -> np.ndarray:
    """Records of uint64 fields in the order of the fields `by`."""
    return rows[sort_order(rows, by)] if len(rows) > 1 else rows


def sort_order(rows: np.ndarray, by: tuple[str, ...]) -> np.ndarray:
    """int64: the places of records of uint64 fields, in the order of the fields `by`."""
    if len(rows) < 2:
        return np.arange(len(rows))
    offsets = {name: field[1] // 8 for name, field in (rows.dtype.fields or {}).items()}
    columns = np.array([offsets[name] for name in by])
    order = np.argsort(rows[by[0]])
    matrix = np.ascontiguousarray(rows).view(np.uint64).reshape(len(rows), -1)
    for level in range(1, len(by)):
        _sort_ties(matrix, order, columns, level)
    return order


def lookup(keys: np.ndarray, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(place in the ascending `keys` of each wanted one, whether it is there); a place of what is not there means nothing."""
    if not len(keys):
        return np.zeros(len(wanted), np.int64), np.zeros(len(wanted), bool)
    at = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return at, keys[at] == wanted


def first_of_runs(*columns: np.ndarray) -> np.ndarray:
    """int64: where rows begin that differ from the one before them in any of the columns."""
    new = np.ones(len(columns[0]), bool)
    new[1:] = np.logical_or.reduce([c[1:] != c[:-1] for c in columns])
    return np.flatnonzero(new)


def distinct(rows: np.ndarray) -> np.ndarray:
    """Sorted records without repeats."""
    return rows[first_of_runs(rows)]


@njit(cache=True, nogil=True)
def _sort_ties(matrix: np.ndarray, order: np.ndarray, columns: np.ndarray, level: int) -> None:
    """Sort runs of rows that are equal in the first `level` columns by the next one."""
    n = len(order)
    by = columns[level]
    begin = 0
    while begin < n:
        end = begin + 1
        while end < n:
            same = True
            for c in range(level):
                if matrix[order[end], columns[c]] != matrix[order[begin], columns[c]]:
                    same = False
                    break
            if not same:
                break
            end += 1
        if end - begin > 32:
            keys = np.empty(end - begin, np.uint64)
            for i in range(begin, end):
                keys[i - begin] = matrix[order[i], by]
            order[begin:end] = order[begin:end][np.argsort(keys)]
        else:
            for i in range(begin + 1, end):
                row = order[i]
                key = matrix[row, by]
                j = i
                while j > begin and matrix[order[j - 1], by] > key:
                    order[j] = order[j - 1]
                    j -= 1
                order[j] = row
        begin = end


def by_hash_range(hashes: np.ndarray, partitions: int) -> np.ndarray:
    """Partition of each uint64 hash: equal ranges of the top 32 bits, so that a sorted partition is a sorted range."""
    return ((hashes >> np.uint64(32)) * np.uint64(partitions) >> np.uint64(32)).astype(np.int64)

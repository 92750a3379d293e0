"""The file shuffle: how rows move between tasks, with files as the only medium.

A map task writes shuffle files; each holds all its partitions back to back behind one table of offsets:

    magic (8 bytes) | partitions P (uint64) | offsets (uint64 [P + 1]) | partition 0 | partition 1 | ...

so a reducer makes one small read and one range read per file. A partition's bytes are opaque here: fixed-width numpy
records (`RecordShuffle`) or Arrow streams. Records may be sorted within each partition of each file; then `merged`
reads a partition of any size in sorted slices of bounded size, and `between` a range of keys. No result depends on the
number of map tasks, of reducers or of files.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numba import njit

from ...storage import store
from ..run.artifacts import Artifact, publish

MAGIC = b"fox1shf1"
MIN_PIECE = 128 << 10
"""Bytes that a reducer should find per map file; smaller pieces cost more in seeks than in reading."""
SPILL_BYTES = 32 << 20
"""A map task writes a file when it holds this much, so its memory does not grow with its input."""
SLICE_BYTES = 64 << 20
"""What `merged` and `sequential` yield at once unless told otherwise."""


def partition_count(total_bytes: int, maps: int, target: int = 64 << 20, at_least: int = 4) -> int:
    """How many partitions a shuffle of `total_bytes` from `maps` tasks gets: from bytes, not from shards."""
    wanted = max(at_least, -(-total_bytes // target))
    return max(1, min(wanted, total_bytes // (MIN_PIECE * max(1, maps))))


def write_shuffle(path: Path, parts: Sequence[bytes | memoryview], rows: int) -> Artifact:
    """Write one shuffle file with ``len(parts)`` partitions."""
    offsets = np.zeros(len(parts) + 1, np.uint64)
    offsets[1:] = np.cumsum([len(p) for p in parts], dtype=np.uint64)
    with publish(path, rows=rows) as out:
        out.write(MAGIC)
        out.write(np.uint64(len(parts)).tobytes())
        out.write(offsets.tobytes())
        for part in parts:
            out.write(part)
    return out.artifact


@dataclass(frozen=True)
class Shuffled:
    """The shuffle files of a map task."""

    files: tuple[Artifact, ...]


def partition_bounds(path: Path, partition: int) -> tuple[int, int]:
    """(first byte, byte after the last) of a partition in its file.

    Raises:
        ValueError: the file is no shuffle file.
    """
    head = store.read_range(path, 0, 32 + 8 * partition)
    if head[:8] != MAGIC:
        raise ValueError(f"{path} is not a shuffle file; delete it and run again")
    begin, end = np.frombuffer(head[-16:], np.uint64)
    base = 16 + 8 * (int(np.frombuffer(head[8:16], np.uint64)[0]) + 1)
    return base + int(begin), base + int(end)


def _read(path: Path, begin: int, end: int) -> bytes:
    data = store.read_range(path, begin, end)
    if len(data) != end - begin:
        raise ValueError(f"{path} ends early; delete it and run again")
    return data


def read_partition(path: Path, partition: int) -> bytes:
    """The bytes of one partition.

    Raises:
        ValueError: the file is no shuffle file or ends early.
    """
    return _read(path, *partition_bounds(path, partition))


class RecordShuffle:
    """Collects numpy records by partition and spills them to shuffle files named `<stem>.<i>`.

    Args:
        by: fields (all uint64) by which the records of a partition are sorted within each file.
        combine: what is made of a partition's sorted records before they are written, such as leaving out repeats.
    """

    def __init__(
        self,
        stem: Path,
        partitions: int,
        dtype: np.dtype,
        by: tuple[str, ...] = (),
        combine: Callable[[np.ndarray], np.ndarray] | None = None,
    ) -> None:
        self._stem, self._partitions, self._dtype = stem, partitions, dtype
        self._by, self._combine = by, combine
        self._rows: list[np.ndarray] = []
        self._where: list[np.ndarray] = []
        self._held = 0
        self.files: list[Artifact] = []

    def add(self, records: np.ndarray, partition: np.ndarray | int = 0) -> None:
        """Append `records` ([n], the shuffle's dtype), row i to ``partition[i]``."""
        assert records.dtype == self._dtype
        if not len(records):
            return
        # In pieces, so that one large call does not go past what a file should hold.
        step = max(1, SPILL_BYTES // self._dtype.itemsize)
        where = np.broadcast_to(np.asarray(partition, np.int64), len(records))
        for start in range(0, len(records), step):
            self._rows.append(records[start : start + step])
            self._where.append(where[start : start + step])
            self._held += self._rows[-1].nbytes
            if self._held >= SPILL_BYTES:
                self._spill()

    def _spill(self) -> None:
        rows = np.concatenate(self._rows) if self._rows else np.empty(0, self._dtype)
        where = np.concatenate(self._where) if self._where else np.empty(0, np.int64)
        self._rows, self._where, self._held = [], [], 0
        if self._partitions > 1:
            order = np.argsort(where, kind="stable")
            rows, where = rows[order], where[order]
        bounds = np.searchsorted(where, np.arange(self._partitions + 1))
        parts = [rows[a:b] for a, b in itertools.pairwise(bounds)]
        if self._by:
            parts = [sort_records(part, self._by) for part in parts]
        if self._combine:
            parts = [self._combine(part) for part in parts]
        path = self._stem.with_name(f"{self._stem.name}.{len(self.files)}")
        views = [memoryview(part.view(np.uint8).data) if len(part) else b"" for part in parts]
        self.files.append(write_shuffle(path, views, sum(map(len, parts))))

    def close(self) -> tuple[Artifact, ...]:
        if self._rows or not self.files:
            self._spill()
        return tuple(self.files)


def read_records(files: Iterable[Path], partition: int, dtype: np.dtype) -> np.ndarray:
    """All records of one partition over all map files, in file order."""
    parts = [np.frombuffer(read_partition(f, partition), dtype) for f in files]
    return np.concatenate(parts) if parts else np.empty(0, dtype)


def sequential(
    files: Iterable[Path], partition: int, dtype: np.dtype, limit: int = SLICE_BYTES
) -> Iterator[np.ndarray]:
    """The records of one partition in file order, in slices of at most `limit` bytes."""
    step = max(1, limit // dtype.itemsize) * dtype.itemsize
    for path in files:
        begin, end = partition_bounds(path, partition)
        for at in range(begin, end, step):
            yield np.frombuffer(_read(path, at, min(at + step, end)), dtype)


def merged(
    files: Iterable[Path], partition: int, dtype: np.dtype, by: tuple[str, ...], limit: int = SLICE_BYTES
) -> Iterator[np.ndarray]:
    """The records of one partition of files sorted by `by`, as sorted slices that follow each other in that order.

    Args:
        limit: bytes of a slice. All that is held is a block of each file, together as much.
    """
    runs = [_SortedRun(path, *partition_bounds(path, partition), dtype) for path in files]
    while True:
        # Blocks in proportion, so that they end near the same key.
        total = sum(run.bytes for run in runs)
        for run in runs:
            run.fill(max(1, min(limit, total) * run.bytes // max(total, 1) // dtype.itemsize + 1))
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


class _SortedRun:
    """A sorted partition of one file, read block by block."""

    def __init__(self, path: Path, begin: int, end: int, dtype: np.dtype) -> None:
        self._path, self._at, self._end, self._dtype = path, begin, end, dtype
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
            more = np.frombuffer(_read(self._path, self._at, self._at + size), self._dtype)
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


def between(
    files: Iterable[Path],
    partition: int,
    dtype: np.dtype,
    by: tuple[str, ...],
    first: tuple[int, ...] | None,
    end: tuple[int, ...] | None,
) -> np.ndarray:
    """The records with ``first <= key < end`` of files sorted by `by`, in file order; None is no bound."""
    parts = [np.empty(0, dtype)]
    for path in files:
        begin, stop = partition_bounds(path, partition)
        low, high = (
            default if key is None else begin + dtype.itemsize * _count_below(path, begin, stop, dtype, by, key)
            for key, default in ((first, begin), (end, stop))
        )
        parts.append(np.frombuffer(_read(path, low, high), dtype))
    return np.concatenate(parts)


def _count_below(path: Path, begin: int, end: int, dtype: np.dtype, by: tuple[str, ...], key: tuple[int, ...]) -> int:
    low, high = 0, (end - begin) // dtype.itemsize
    with open(path, "rb") as file:
        while low < high:
            middle = (low + high) // 2
            file.seek(begin + middle * dtype.itemsize)
            row = np.frombuffer(file.read(dtype.itemsize), dtype)[0]
            if tuple(int(row[name]) for name in by) < key:
                low = middle + 1
            else:
                high = middle
    return low


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
    if len(rows) < 2:
        return rows
    offsets = {name: field[1] // 8 for name, field in (rows.dtype.fields or {}).items()}
    columns = np.array([offsets[name] for name in by])
    order = np.argsort(rows[by[0]])
    matrix = np.ascontiguousarray(rows).view(np.uint64).reshape(len(rows), -1)
    for level in range(1, len(by)):
        _sort_ties(matrix, order, columns, level)
    return rows[order]


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

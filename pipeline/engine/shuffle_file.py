"""Shuffle files: rows of one task, by partition, in one file.

    magic (8 bytes) | partitions P (uint64) | table (int64 [P + 1, 2]: bytes and rows before each) | partition 0 | ...

so a reducer makes one small read and one range read per file. What a partition's bytes are is up to its writer. In the first
of two levels (`two_level.py`) a file's partitions are coarse, and each holds its fine ones:

    n (uint64) | lines (int64 [n, 3]: fine partition, bytes, rows), of those that have rows | fine partitions in order

so that no file grows with the number of partitions beyond what it holds.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, TypeVar

import numpy as np

from ...storage import store
from ...storage.ahead import ahead
from ...storage.disk import writing
from ...storage.lease import allow_write
from ..run.artifacts import Artifact, publish

Read = TypeVar("Read")

MAGIC = b"fox1shf2"
HEAD = 16
"""Bytes before the table."""
ENTRY = 16
"""Bytes of a partition in a table."""
LIKELY_TABLE = 1 << 16
"""Most tables, and all that two levels write, are shorter: one request reads them."""
SPILL_BYTES = 32 << 20
"""A writer holds this much before it goes to scratch, so its memory does not grow with its input."""
SLICE_BYTES = 64 << 20
"""What is merged or read at once unless told otherwise."""


@dataclass(frozen=True)
class Levels:
    """Into how many partitions rows go, and in how many steps; see `two_level.plan_levels`."""

    partitions: int
    fine: int = 0
    """Partitions of a coarse one; 0: there is one level."""
    group: int = 0
    """Map files that a merge task reads."""

    @property
    def coarse(self) -> int:
        """Partitions of the map files' tables."""
        return -(-self.partitions // self.fine) if self.fine else self.partitions

    def parts(self) -> Iterator[tuple[int, int]]:
        """(first, end) of the partitions of each coarse one; of all where there is one level."""
        step = self.fine or max(1, self.partitions)
        return ((first, min(first + step, self.partitions)) for first in range(0, self.partitions, step))


def table_bytes(partitions: int) -> int:
    """Bytes of the table of a file."""
    return ENTRY * (partitions + 1)


def read_table(data: bytes | memoryview) -> np.ndarray:
    """int64 [n, 2]: (bytes, rows) before each partition, of a table or of some of its lines."""
    return np.frombuffer(data, np.int64).reshape(-1, 2)


def _table(sizes: np.ndarray) -> np.ndarray:
    """int64 [P + 1, 2] of int64 [P, 2] (bytes, rows)."""
    table = np.zeros((len(sizes) + 1, 2), np.int64)
    np.cumsum(sizes, axis=0, out=table[1:])
    return table


def _fine_lines(sizes: np.ndarray) -> bytes:
    """What stands before the fine partitions of a coarse one; `sizes`: int64 [fine partitions, 2], bytes and rows."""
    there = np.flatnonzero(sizes.any(axis=1))
    return np.int64(len(there)).tobytes() + np.column_stack([there, sizes[there]]).astype(np.int64).tobytes()


def read_fine(data: bytes, fine: int) -> tuple[np.ndarray, bytes]:
    """(int64 [fine, 2] bytes and rows of each fine partition, these one after another) of a coarse partition."""
    sizes = np.zeros((fine, 2), np.int64)
    if not data:
        return sizes, data
    end = 8 + 24 * int(np.frombuffer(data[:8], np.int64)[0])
    lines = np.frombuffer(data[8:end], np.int64).reshape(-1, 3)
    sizes[lines[:, 0]] = lines[:, 1:]
    return sizes, data[end:]


def write_partitions(path: Path, levels: Levels, sizes: np.ndarray, chunks: Iterable[tuple[int, Any]]) -> Artifact:
    """Write a shuffle file.

    Args:
        sizes: int64 [P, 2], bytes and rows of every partition.
        chunks: (partition in which it begins, bytes) of what follows each other; none reaches into a second coarse one.
    """
    lines: dict[int, bytes] = {}
    if levels.fine:
        lines = {a // levels.fine: _fine_lines(sizes[a:b]) for a, b in levels.parts() if sizes[a:b].any()}
        whole = np.array([sizes[a:b].sum(axis=0) for a, b in levels.parts()], np.int64)
        for coarse, text in lines.items():
            whole[coarse, 0] += len(text)
        sizes = whole
    with publish(path, rows=int(sizes[:, 1].sum())) as out:
        out.write(MAGIC)
        out.write(np.uint64(levels.coarse).tobytes())
        out.write(_table(sizes))
        for first, data in chunks:
            if levels.fine and memoryview(data).nbytes:
                out.write(lines.pop(first // levels.fine, b""))
            out.write(data)
    assert not lines
    return out.artifact


def partition_place(path: Path, partition: int, count: int = 1) -> tuple[int, int, int]:
    """(first byte, byte after the last, rows) of a partition in its file, or of consecutive ones.

    Raises:
        ValueError: the file is no shuffle file.
    """
    size = HEAD + ENTRY * (partition + count + 1)
    head = store.read_range(path, 0, size)
    if head[:8] != MAGIC or len(head) < size:
        raise ValueError(f"{store.shown(path)} is not a shuffle file; delete it and run again")
    base = HEAD + table_bytes(int(np.frombuffer(head[8:HEAD], np.uint64)[0]))
    table = read_table(head[HEAD:])
    (begin, before), (end, after) = table[partition].tolist(), table[-1].tolist()
    return base + begin, base + end, after - before


def read_sizes(path: Path) -> tuple[int, np.ndarray]:
    """(first byte of partition 0, the table int64 [P + 1, 2]) of a file.

    Raises:
        ValueError: the file is no shuffle file.
    """
    head = store.read_range(path, 0, LIKELY_TABLE)
    if head[:8] != MAGIC or len(head) < HEAD:
        raise ValueError(f"{store.shown(path)} is not a shuffle file; delete it and run again")
    base = HEAD + table_bytes(int(np.frombuffer(head[8:HEAD], np.uint64)[0]))
    return base, read_table(head[HEAD:base] if base <= len(head) else read_exactly(path, HEAD, base))


def of_files(read: Callable[[Path], Read], files: Iterable[Path]) -> Iterator[Read]:
    """What is read of each of some files, `ahead` where they lie in a store; a disk answers at once."""
    paths = list(files)
    far = len(paths) > 1 and isinstance(paths[0], store.Mirrored)
    return ahead(read, paths) if far else map(read, paths)


def read_exactly(path: Path, begin: int, end: int) -> bytes:
    """Bytes of a file.

    Raises:
        ValueError: it ends before them.
    """
    data = store.read_range(path, begin, end)
    if len(data) != end - begin:
        raise ValueError(f"{store.shown(path)} ends early; delete it and run again")
    return data


def read_partition(path: Path, partition: int) -> bytes:
    """The bytes of one partition.

    Raises:
        ValueError: the file is no shuffle file or ends early.
    """
    begin, end, _ = partition_place(path, partition)
    return read_exactly(path, begin, end)


@dataclass(frozen=True)
class Run:
    """Rows of one partition that lie together, in scratch or in a shuffle file."""

    read: Callable[[int, int], bytes]
    """The bytes from one place to another."""
    begin: int
    end: int
    far: bool = False
    """In a store, whose answers take time."""


@dataclass(frozen=True)
class _Spill:
    """All that a writer held once, in its scratch file."""

    begin: int
    """Its first byte there."""
    table: np.ndarray
    """int64 [P + 1, 2], as in a file."""


class ShuffleWriter:
    """Collects rows by partition and writes one shuffle file when it is closed; what it cannot hold waits in scratch.

    A subclass knows the rows: it holds them, puts them in order, and counts what it holds in `_held`.

    Args:
        most: bytes that it holds.
    """

    def __init__(self, path: Path, levels: Levels, most: int = 0) -> None:
        self._path, self._levels = path, levels
        self._most = most or SPILL_BYTES
        self._held = 0
        self._spills: list[_Spill] = []
        self._scratch: IO[bytes] | None = None

    def _hold(self, sizes: np.ndarray, data: bytes, first: int) -> None:
        """Hold rows of the partitions from `first` on that were in order before; `sizes`: int64 [n, 2], bytes and rows."""
        raise NotImplementedError

    def _arranged(self, first: int, end: int) -> tuple[np.ndarray, Any]:
        """Give away all that is held: (int64 [end - first, 2] bytes and rows of these partitions, the bytes in order)."""
        raise NotImplementedError

    def _streamed(self, runs: Sequence[Run]) -> Iterator[tuple[int, Any]]:
        """(rows, bytes) of one partition that is larger than memory, in order."""
        raise NotImplementedError

    shrinks = False
    """Whether fewer rows may come out of it than went in."""

    def add_block(self, sizes: np.ndarray, data: bytes) -> None:
        """Add rows of all partitions that another writer has put in order; `sizes`: int64 [P, 2], bytes and rows."""
        self._hold(sizes, data, 0)
        self._spill_if_full()

    def make_room(self) -> None:
        """Put what is held into scratch, before something else takes much memory."""
        if self._held:
            self._spill()

    def _spill_if_full(self) -> None:
        if self._held >= self._most:
            self._spill()

    def _spill(self) -> None:
        sizes, data = self._arranged(0, self._levels.partitions)
        self._spills.append(_Spill(self._append(data), _table(sizes)))

    def _append(self, data: Any) -> int:
        """Write to the end of the scratch file; where that begins."""
        allow_write(self._path)
        with writing(self._path):
            if self._scratch is None:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                # It has no name, so that nothing is left of it whatever happens to this process.
                self._scratch = tempfile.TemporaryFile(dir=str(self._path.parent), buffering=0)
            begin = self._scratch.seek(0, os.SEEK_END)
            view = memoryview(data).cast("B")
            while len(view):
                view = view[self._scratch.write(view) :]
        return begin

    def _read(self, begin: int, end: int) -> bytes:
        assert self._scratch is not None
        data = b"".join(self._read_parts(self._scratch.fileno(), begin, end))
        assert len(data) == end - begin, "scratch file ends early"
        return data

    @staticmethod
    def _read_parts(descriptor: int, begin: int, end: int) -> Iterator[bytes]:
        # One call returns at most 2 GiB.
        while begin < end and (data := os.pread(descriptor, end - begin, begin)):
            yield data
            begin += len(data)

    def close(self) -> tuple[Artifact, ...]:
        """Publish the file; it is the only one."""
        try:
            if not self._spills:
                sizes, data = self._arranged(0, self._levels.partitions)
                bounds, view = _table(sizes)[:, 0], memoryview(data).cast("B")
                blocks = ((a, view[bounds[a] : bounds[b]]) for a, b in self._levels.parts())
                return (write_partitions(self._path, self._levels, sizes, blocks),)
            self.make_room()
            if self.shrinks:
                sizes, chunks = self._settled()
            else:
                sizes = np.sum([np.diff(s.table, axis=0) for s in self._spills], axis=0)
                chunks = ((first, data) for first, _, data in self._merged())
            return (write_partitions(self._path, self._levels, sizes, chunks),)
        finally:
            if self._scratch is not None:
                self._scratch.close()

    def _settled(self) -> tuple[np.ndarray, Iterator[tuple[int, Any]]]:
        """Sizes and bytes of what is merged: the table comes first in a file, and here follows from the merging."""
        sizes = np.zeros((self._levels.partitions, 2), np.int64)
        places = []
        for first, found, data in self._merged():
            sizes[first : first + len(found)] += found
            begin = self._append(data)
            places.append((first, begin, begin + memoryview(data).nbytes))
        return sizes, ((first, self._read(begin, end)) for first, begin, end in places)

    def _merged(self) -> Iterator[tuple[int, np.ndarray, Any]]:
        """(first partition, sizes from there on, bytes) of all spills as one, in chunks of bounded size."""
        total = np.sum([s.table[:, 0] for s in self._spills], axis=0)
        for begin, stop in self._levels.parts():
            first = begin
            while first < stop:
                # As many partitions as memory holds, and at least one.
                end = int(np.searchsorted(total, total[first] + SLICE_BYTES, "right")) - 1
                end = min(max(end, first + 1), stop)
                if total[end] - total[first] > SLICE_BYTES:
                    places = [(s.begin + s.table[first, 0], s.begin + s.table[end, 0]) for s in self._spills]
                    for rows, data in self._streamed([Run(self._read, int(a), int(b)) for a, b in places]):
                        yield first, np.array([[memoryview(data).nbytes, rows]], np.int64), data
                else:
                    for s in self._spills:
                        low, high = (int(s.begin + s.table[at, 0]) for at in (first, end))
                        if low < high:
                            self._hold(np.diff(s.table[first : end + 1], axis=0), self._read(low, high), first)
                    yield first, *self._arranged(first, end)
                first = end

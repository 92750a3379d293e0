"""The file shuffle: how rows move between tasks, with files as the only medium.

A map task writes shuffle files; each holds all its partitions back to back behind one table of offsets:

    magic (8 bytes) | partitions P (uint64) | offsets (uint64 [P + 1]) | partition 0 | partition 1 | ...

so a reducer makes one small read and one range read per file. A partition's bytes are opaque here: fixed-width numpy
records (`RecordShuffle`) or Arrow streams. Reducers sort by a full key, so no result depends on the number of map
tasks, of reducers or of files.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from .artifacts import Artifact, publish

MAGIC = b"fox1shf1"
MIN_PIECE = 128 << 10
"""Bytes that a reducer should find per map file; smaller pieces cost more in seeks than in reading."""
SPILL_BYTES = 128 << 20
"""A map task writes a file when it holds this much, so its memory does not grow with its input."""


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


def read_partition(path: Path, partition: int) -> bytes:
    """The bytes of one partition.

    Raises:
        ValueError: the file is no shuffle file or ends early.
    """
    with open(path, "rb") as file:
        head = file.read(16)
        if head[:8] != MAGIC:
            raise ValueError(f"{path} is not a shuffle file; delete it and run again")
        file.seek(16 + 8 * partition)
        begin, end = np.frombuffer(file.read(16), np.uint64)
        file.seek(16 + 8 * (int(np.frombuffer(head[8:], np.uint64)[0]) + 1) + int(begin))
        data = file.read(int(end - begin))
    if len(data) != end - begin:
        raise ValueError(f"{path} ends early in partition {partition}; delete it and run again")
    return data


class RecordShuffle:
    """Collects numpy records by partition and spills them to shuffle files named `<stem>.<i>`."""

    def __init__(self, stem: Path, partitions: int, dtype: np.dtype) -> None:
        self._stem, self._partitions, self._dtype = stem, partitions, dtype
        self._rows: list[np.ndarray] = []
        self._where: list[np.ndarray] = []
        self._held = 0
        self.files: list[Artifact] = []

    def add(self, records: np.ndarray, partition: np.ndarray) -> None:
        """Append `records` ([n], the shuffle's dtype), row i to ``partition[i]``."""
        assert records.dtype == self._dtype
        self._rows.append(records)
        self._where.append(partition)
        self._held += records.nbytes
        if self._held >= SPILL_BYTES:
            self._spill()

    def _spill(self) -> None:
        rows = np.concatenate(self._rows) if self._rows else np.empty(0, self._dtype)
        where = np.concatenate(self._where) if self._where else np.empty(0, np.int64)
        order = np.argsort(where, kind="stable")
        rows = rows[order]
        bounds = np.searchsorted(where[order], np.arange(self._partitions + 1))
        parts = [rows[a:b].tobytes() for a, b in itertools.pairwise(bounds)]
        path = self._stem.with_name(f"{self._stem.name}.{len(self.files)}")
        self.files.append(write_shuffle(path, parts, len(rows)))
        self._rows, self._where, self._held = [], [], 0

    def close(self) -> list[Artifact]:
        if self._rows or not self.files:
            self._spill()
        return self.files


def read_records(files: Iterable[Path], partition: int, dtype: np.dtype) -> np.ndarray:
    """All records of one partition over all map files, in file order."""
    parts = [np.frombuffer(read_partition(f, partition), dtype) for f in files]
    return np.concatenate(parts) if parts else np.empty(0, dtype)


def by_hash_range(hashes: np.ndarray, partitions: int) -> np.ndarray:
    """Partition of each uint64 hash: equal ranges of the top 32 bits, so that a sorted partition is a sorted range."""
    return ((hashes >> np.uint64(32)) * np.uint64(partitions) >> np.uint64(32)).astype(np.int64)

"""Rows of any length for the file shuffle: a record of fixed width with columns of int32 behind it.

    row:   record (a dtype of whole int32 words) | length of each column (int32 [k]) | column 0 | column 1 | ...

Rows lie back to back, so that a partition is the concatenation of its pieces, and rows are moved without being read.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numba import njit

from .shuffle_file import SLICE_BYTES, Levels, Run, ShuffleWriter, of_files, partition_place, read_exactly


@dataclass(frozen=True)
class Column:
    """int32 values of rows: row i has ``counts[i]`` from ``begins[i]`` on."""

    values: np.ndarray
    begins: np.ndarray
    """int64 [n]."""
    counts: np.ndarray
    """int64 [n]."""

    @classmethod
    def of(cls, values: np.ndarray, offsets: np.ndarray) -> Column:
        """Values of rows that follow each other; `offsets`: int64 [n + 1]."""
        return cls(values, offsets[:-1], np.diff(offsets))

    def take(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The values of some rows back to back, and where each row's begin there (int64 [n + 1])."""
        counts = self.counts[rows]
        ends = np.cumsum(counts)
        values = np.empty(int(ends[-1]) if len(ends) else 0, np.int32)
        _copy(values, ends - counts, self.values, self.begins[rows], counts)
        return values, np.concatenate([[0], ends])


@dataclass(frozen=True)
class Rows:
    """What the rows of a shuffle are: of any length, in no order."""

    def writer(self, path: Path, levels: Levels) -> ShuffleWriter:
        """A writer of a file of such rows."""
        return RowShuffle(path, levels)


class RowShuffle(ShuffleWriter):
    """Collects rows of any length by partition and writes them to one shuffle file, in the order in which they came."""

    def __init__(self, path: Path, levels: Levels, most: int = 0) -> None:
        super().__init__(path, levels, most)
        self._data: list[np.ndarray] = []
        self._units: list[np.ndarray] = []

    def add(self, words: np.ndarray, lengths: np.ndarray, partition: np.ndarray | int = 0) -> None:
        """Append rows, row i to ``partition[i]``.

        Args:
            words: int32, rows back to back, as `pack_rows` gives them.
            lengths: int64 [n], words of every row.
        """
        units = np.empty((len(lengths), 3), np.int64)
        units[:, 0], units[:, 1], units[:, 2] = lengths, 1, partition
        self._keep(words, units)
        self._spill_if_full()

    def _keep(self, words: np.ndarray, units: np.ndarray) -> None:
        """Hold units that stay together; `units`: int64 [n, 3], words, rows and partition of each."""
        self._data.append(words)
        self._units.append(units)
        self._held += words.nbytes

    def _hold(self, sizes: np.ndarray, data: bytes, first: int) -> None:
        there = np.flatnonzero(sizes[:, 1])
        units = np.stack([sizes[there, 0] // 4, sizes[there, 1], there + first], axis=1)
        self._keep(np.frombuffer(data, np.int32), units)

    def _arranged(self, first: int, end: int) -> tuple[np.ndarray, Any]:
        units = np.concatenate([np.empty((0, 3), np.int64), *self._units])
        lengths, rows, where = units.T
        # Sums of floats, exact below 2^53 bytes.
        sums = [np.bincount(where - first, column, end - first) for column in (4 * lengths, rows)]
        order = np.argsort(where, kind="stable")
        ends = np.cumsum(lengths[order])
        to = np.empty(len(units), np.int64)
        to[order] = ends - lengths[order]
        out = np.empty(int(ends[-1]) if len(ends) else 0, np.int32)
        at = 0
        for words, part in zip(self._data, self._units, strict=True):
            n = np.ascontiguousarray(part[:, 0])
            _copy(out, to[at : at + len(n)], words, np.cumsum(n) - n, n)
            at += len(n)
        self._data, self._units, self._held = [], [], 0
        return np.stack(sums, axis=1).astype(np.int64), out

    def _streamed(self, runs: Sequence[Run]) -> Iterator[tuple[int, Any]]:
        # Sizes are known before: nothing here counts rows.
        for run in runs:
            for at in range(run.begin, run.end, SLICE_BYTES):
                yield 0, run.read(at, min(at + SLICE_BYTES, run.end))


def pack_rows(heads: np.ndarray, columns: Sequence[Column]) -> tuple[np.ndarray, np.ndarray]:
    """(int32 words of rows back to back, int64 [n] words of each) of records [n] and their columns."""
    fixed = np.ascontiguousarray(heads).view(np.int32).reshape(len(heads), heads.dtype.itemsize // 4)
    start = np.hstack([fixed, *(column.counts.astype(np.int32)[:, None] for column in columns)])
    lengths = np.full(len(heads), start.shape[1], np.int64)
    for column in columns:
        lengths += column.counts
    at = np.cumsum(lengths) - lengths
    words = np.empty(int(lengths.sum()), np.int32)
    width = np.full(len(heads), start.shape[1], np.int64)
    _copy(words, at, start.ravel(), np.cumsum(width) - width, width)
    at += width
    for column in columns:
        _copy(words, at, column.values, column.begins, column.counts)
        at += column.counts
    return words, lengths


def unpack_rows(words: np.ndarray, dtype: np.dtype, columns: int) -> tuple[np.ndarray, list[Column]]:
    """The records (dtype, [n]) and columns of rows back to back."""
    width = dtype.itemsize // 4
    at = _row_begins(words, width, columns)
    start = words[at[:, None] + np.arange(width + columns)]
    heads = np.ascontiguousarray(start[:, :width]).view(dtype).ravel()
    at += width + columns
    found = []
    for k in range(columns):
        counts = start[:, width + k].astype(np.int64)
        found.append(Column(words, at.copy(), counts))
        at += counts
    return heads, found


def read_rows(files: Iterable[Path], partition: int, dtype: np.dtype, columns: int) -> tuple[np.ndarray, list[Column]]:
    """The records and columns of one partition over all files, in file order."""
    paths = list(files)
    places = dict(zip(paths, of_files(partial(partition_place, partition=partition), paths), strict=True))
    words = np.empty(sum(end - begin for begin, end, _ in places.values()) // 4, np.int32)
    at = 0
    # Piece by piece: all of them and what they are put into would be twice as much.
    for data in of_files(lambda path: read_exactly(path, *places[path][:2]), paths):
        words[at : at + len(data) // 4] = np.frombuffer(data, np.int32)
        at += len(data) // 4
    # As what is mapped or read at once is: kernels are compiled for such arrays.
    words.flags.writeable = False
    return unpack_rows(words, dtype, columns)


@njit(cache=True, nogil=True)
def _copy(out: np.ndarray, to: np.ndarray, values: np.ndarray, begins: np.ndarray, counts: np.ndarray) -> None:
    """Copy pieces of `values` to their places in `out`."""
    for i in range(len(to)):
        out[to[i] : to[i] + counts[i]] = values[begins[i] : begins[i] + counts[i]]


@njit(cache=True, nogil=True)
def _row_begins(words: np.ndarray, width: int, columns: int) -> np.ndarray:
    begins = np.empty(len(words) // (width + columns), np.int64)
    n = at = 0
    while at < len(words):
        begins[n] = at
        n += 1
        length = width + columns
        for k in range(columns):
            length += words[at + width + k]
        at += length
    return begins[:n]

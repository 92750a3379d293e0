"""Rows of any length for the file shuffle: a record of fixed width with columns of int32 behind it.

    row:   record (a dtype of whole int32 words) | length of each column (int32 [k]) | column 0 | column 1 | ...

Rows lie back to back, so that a partition is the concatenation of its pieces, and rows are moved without being read.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numba import njit

from .shuffle_file import SLICE_BYTES, Levels, Run, ShuffleWriter

Column = tuple[np.ndarray, np.ndarray]
"""Values (int32), and where each row's begin in them (int64 [n + 1])."""


@dataclass(frozen=True)
class Rows:
    """What the rows of a shuffle are: of any length, in no order."""

    def writer(self, path: Path, levels: Levels) -> ShuffleWriter:
        """A writer of a file of such rows."""
        return RowShuffle(path, levels)


class RowShuffle(ShuffleWriter):
    """Collects rows of any length by partition and writes them to one shuffle file, in the order in which they came."""

    def __init__(self, path: Path, partitions: int | Levels) -> None:
        super().__init__(path, partitions if isinstance(partitions, Levels) else Levels(partitions))
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
        words = np.concatenate([np.empty(0, np.int32), *self._data])
        units = np.concatenate([np.empty((0, 3), np.int64), *self._units])
        self._data, self._units, self._held = [], [], 0
        lengths, rows, where = units.T
        # Sums of floats, exact below 2^53 bytes.
        sums = [np.bincount(where - first, column, end - first) for column in (4 * lengths, rows)]
        sizes = np.stack(sums, axis=1).astype(np.int64)
        order = np.argsort(where, kind="stable")
        return sizes, _gather(words, np.cumsum(lengths) - lengths, lengths, order)

    def _streamed(self, runs: Sequence[Run]) -> Iterator[tuple[int, Any]]:
        # Sizes are known before: nothing here counts rows.
        for run in runs:
            for at in range(run.begin, run.end, SLICE_BYTES):
                yield 0, run.read(at, min(at + SLICE_BYTES, run.end))


@njit(cache=True, nogil=True)
def _gather(words: np.ndarray, begins: np.ndarray, lengths: np.ndarray, order: np.ndarray) -> np.ndarray:
    """The units of `words` in another order."""
    out = np.empty(lengths[order].sum(), np.int32)
    at = 0
    for unit in order:
        n = lengths[unit]
        out[at : at + n] = words[begins[unit] : begins[unit] + n]
        at += n
    return out


def pack_rows(heads: np.ndarray, columns: Sequence[Column]) -> tuple[np.ndarray, np.ndarray]:
    """(int32 words of rows back to back, int64 [n] words of each) of records [n] and their columns."""
    fixed = np.ascontiguousarray(heads).view(np.int32).reshape(len(heads), heads.dtype.itemsize // 4)
    counts = [np.diff(offsets) for _, offsets in columns]
    width = fixed.shape[1] + len(columns)
    lengths = np.array(np.sum(counts, axis=0), np.int64) + width
    begins = np.cumsum(lengths) - lengths
    words = np.empty(int(lengths.sum()), np.int32)
    _scatter(words, begins, np.hstack([fixed, *(n.astype(np.int32)[:, None] for n in counts)]))
    at = begins + width
    for (values, offsets), n in zip(columns, counts, strict=True):
        _scatter_column(words, at, values, offsets)
        at = at + n
    return words, lengths


def unpack_rows(words: np.ndarray, dtype: np.dtype, columns: int) -> tuple[np.ndarray, list[np.ndarray], np.ndarray]:
    """(records [n], where the values of each column begin in `words` (int64 [n] each), their numbers int64 [n, columns])."""
    fixed = dtype.itemsize // 4
    begins = _row_begins(words, fixed, columns)
    heads = np.empty((len(begins), fixed + columns), np.int32)
    _collect(words, begins, heads)
    counts = heads[:, fixed:].astype(np.int64)
    at = begins + fixed + columns
    starts = []
    for k in range(columns):
        starts.append(at)
        at = at + counts[:, k]
    return np.ascontiguousarray(heads[:, :fixed]).view(dtype).ravel(), starts, counts


def take_column(words: np.ndarray, begins: np.ndarray, counts: np.ndarray, order: np.ndarray) -> Column:
    """One column of rows of `unpack_rows`, in another order."""
    return _gather(words, begins, counts, order), np.r_[0, np.cumsum(counts[order])]


@njit(cache=True, nogil=True)
def _scatter(words: np.ndarray, begins: np.ndarray, heads: np.ndarray) -> None:
    for i in range(len(begins)):
        words[begins[i] : begins[i] + heads.shape[1]] = heads[i]


@njit(cache=True, nogil=True)
def _scatter_column(words: np.ndarray, at: np.ndarray, values: np.ndarray, offsets: np.ndarray) -> None:
    for i in range(len(at)):
        n = offsets[i + 1] - offsets[i]
        words[at[i] : at[i] + n] = values[offsets[i] : offsets[i + 1]]


@njit(cache=True, nogil=True)
def _row_begins(words: np.ndarray, fixed: int, columns: int) -> np.ndarray:
    begins = np.empty(len(words) // (fixed + columns), np.int64)
    n = at = 0
    while at < len(words):
        begins[n] = at
        n += 1
        length = fixed + columns
        for k in range(columns):
            length += words[at + fixed + k]
        at += length
    return begins[:n]


@njit(cache=True, nogil=True)
def _collect(words: np.ndarray, begins: np.ndarray, heads: np.ndarray) -> None:
    for i in range(len(begins)):
        heads[i] = words[begins[i] : begins[i] + heads.shape[1]]

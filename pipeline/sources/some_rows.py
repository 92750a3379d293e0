"""Some rows of a file: those of a piece that was cut by rows, or those that are wanted."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from ..run.identity import MAX_ROWS, SourceFile


class Wanted:
    """Numbers of rows, ascending: a read that is given them decodes no others, and may end after the last."""

    def __init__(self, numbers: Iterator[np.ndarray]) -> None:
        """
        Args:
            numbers: int64, some at a time; they are asked for as the read goes on.
        """
        self._numbers = numbers

    def each(self) -> Iterator[int]:
        """One after the other."""
        for some in self._numbers:
            yield from some.tolist()

    def of(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Of batches in row order the rows with these numbers."""
        held = np.empty(0, np.int64)
        for batch in filter(len, batches):
            rows = batch.column("row").to_numpy()
            parts, last = [held], held[-1] if len(held) else -1
            while last <= rows[-1] and (more := next(self._numbers, None)) is not None:
                parts.append(more)
                last = more[-1] if len(more) else last
            held = np.concatenate(parts)
            end = int(np.searchsorted(held, rows[-1], "right"))
            kept = np.isin(rows, held[:end], assume_unique=True)
            held = held[end:]
            if kept.any():
                yield batch.filter(pa.array(kept))


def row_range(file: SourceFile) -> tuple[int, int]:
    """The first row of a file or piece and the one after its last."""
    piece = file.piece
    return (piece.row, piece.row + piece.rows if piece.rows > 0 else MAX_ROWS) if piece else (0, MAX_ROWS)


class PutBack:
    """Batches, one of which may be put back."""

    def __init__(self, batches: Iterator[pa.RecordBatch]) -> None:
        self._batches = batches
        self._held: list[pa.RecordBatch] = []

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        return self

    def __next__(self) -> pa.RecordBatch:
        return self._held.pop() if self._held else next(self._batches)

    def put_back(self, batch: pa.RecordBatch) -> None:
        self._held.append(batch)


def between(batches: Iterator[pa.RecordBatch], first: int, end: int) -> Iterator[pa.RecordBatch]:
    """The rows from `first` on and before `end`, of batches in row order; what follows is put back where that can be."""
    for batch in batches:
        begin, stop = np.searchsorted(batch.column("row").to_numpy(), (first, end)).tolist()
        if begin < stop:
            yield batch.slice(begin, stop - begin)
        if stop < batch.num_rows:
            if isinstance(batches, PutBack):
                batches.put_back(batch.slice(stop))
            return

"""Held-out documents as blocks, in file order: what validation reads, and nothing else.

The columns are those of the phase sets. Documents are concatenated and chunked, so that every token is there once.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from ...tokenize.pack import fill, pack, streams
from ...tokenize.shards import block_schema, blocks_to_batch, rows_per_file, token_batches, write_blocks
from ..artifacts import Artifact, publish
from ..engine import TaskResult
from .blocks import SetShape


def write_held_out(shards: Sequence[tuple[Path, int]], shape: SetShape, folder: Path) -> TaskResult:
    """Stream the token shards (path, cell code) of held-out groups into files of blocks, `data-00000.arrow` and on."""
    stream = _Stream(shape)
    outputs: list[Artifact] = []
    rows = rows_per_file(shape.block_length)

    def write(table: pa.Table) -> None:
        with publish(folder / f"data-{len(outputs):05d}.arrow", rows=table.num_rows) as out:
            write_blocks(out, table, shape.block_length)
        outputs.append(out.artifact)

    for shard, cell in shards:
        for batch in token_batches(shard):
            stream.add(batch, cell)
            while stream.rows >= rows:
                write(stream.take(rows))
    stream.finish()
    while stream.rows or not outputs:
        write(stream.take(rows))
    counts = {"tokens": stream.tokens, "segments": stream.segments, "cut_to_fill": stream.cut}
    counts["blocks"] = sum(a.rows for a in outputs)
    return TaskResult(tuple(outputs), counts, {"cells": {str(c): t for c, t in sorted(stream.cells.items())}})


class _Stream:
    """Chunks batch after batch, carrying the underfull last block over as pieces."""

    def __init__(self, shape: SetShape) -> None:
        self._shape = shape
        self._batches: list[pa.RecordBatch] = []
        self._carried: list[tuple[int, int, int, np.ndarray]] = []
        self.tokens = self.segments = self.cut = 0
        self.cells: dict[int, int] = {}

    def add(self, batch: pa.RecordBatch, cell: int) -> None:
        shape = self._shape
        ids = batch.column("input_ids")
        extra = int(shape.bos >= 0) + int(shape.eos >= 0)
        lengths = np.diff(ids.offsets.to_numpy()).astype(np.int64) + extra
        offsets = ids.offsets.to_numpy().astype(np.int64) - ids.offsets[0].as_py()
        stream = streams(ids.flatten().to_numpy(), offsets, lengths, shape.bos, shape.eos)
        bounds = np.r_[0, np.cumsum(lengths)]
        pieces = [
            (doc, cell, 0, stream[bounds[k] : bounds[k + 1]])
            for k, doc in enumerate(batch.column("doc_id").to_pylist())
        ]
        self.cells[cell] = self.cells.get(cell, 0) + int(lengths.sum())
        self._chunk([*self._carried, *pieces], last=False)

    def finish(self) -> None:
        """Close the last block."""
        self._chunk(self._carried, last=True)

    @property
    def rows(self) -> int:
        """Blocks ready to be taken."""
        return sum(b.num_rows for b in self._batches)

    def take(self, rows: int) -> pa.Table:
        """The next blocks, at most `rows`."""
        table = pa.Table.from_batches(self._batches, block_schema(self._shape.block_length))
        self._batches = table.slice(rows).combine_chunks().to_batches()
        return table.slice(0, rows)

    def _chunk(self, pieces: list[tuple[int, int, int, np.ndarray]], last: bool) -> None:
        shape = self._shape
        lengths = np.array([len(p[3]) for p in pieces], np.int64)
        packed = pack(lengths, shape.block_length, shape.max_docs, "concatenate", last)
        stream = np.concatenate([np.empty(0, np.int32), *(p[3] for p in pieces)])
        offsets = np.r_[0, np.cumsum(lengths)].astype(np.int64)
        s = packed.segments
        blocks, ends = fill(
            s.document, s.start, s.length, s.block, packed.n_blocks, shape.block_length, stream, offsets, shape.pad
        )
        facts = np.array([p[:3] for p in pieces], np.uint64).reshape(-1, 3)
        if packed.n_blocks:
            begins = np.searchsorted(s.block, np.arange(packed.n_blocks + 1))
            starts = facts[s.document, 2].astype(np.int64) + s.start
            cells = facts[s.document, 1].astype(np.uint16)
            self._batches.append(blocks_to_batch(blocks, begins, facts[s.document, 0], starts, ends, cells))
        self.tokens += int(s.length.sum())
        self.segments += len(s)
        self.cut += packed.cut
        left = packed.leftover
        self._carried = [
            (pieces[d][0], pieces[d][1], pieces[d][2] + int(a), pieces[d][3][a : a + n])
            for d, a, n in zip(left.document, left.start, left.length, strict=True)
        ]

"""Held-out documents as blocks, in file order, then those that were set apart: what validation reads, and nothing else.

The columns are those of the phase sets. Documents are concatenated and chunked, so that every token is there once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from ...tokenize.pack import pack, streams
from ...tokenize.shards import block_schema, rows_per_file, token_batches, write_blocks
from ..run.artifacts import Artifact, publish
from .assign import column_lists
from .blocks import Material, SetShape
from .select import CellShard


@dataclass(frozen=True)
class HeldOutSet:
    """The set of held-out documents."""

    files: tuple[Artifact, ...]
    documents: int
    tokens: int
    carved: int = 0
    """Of the documents, those that were set apart."""
    carved_tokens: int = 0

    @property
    def blocks(self) -> int:
        return sum(a.rows for a in self.files)


class Windows(NamedTuple):
    """A token shard of documents that were set apart, with the code of its source."""

    file: Artifact
    cell: int
    most: int
    """Tokens of a document that are measured at most, about: of a longer one, windows that lie evenly over it."""


def write_held_out(
    shards: Sequence[CellShard], shape: SetShape, folder: Path, windows: Sequence[Windows] = ()
) -> HeldOutSet:
    """Stream token shards into files of blocks, `data-00000.arrow` and on.

    Args:
        shards: of held-out groups.
        windows: of what was set apart, after them.
    """
    stream = _Stream(shape)
    outputs: list[Artifact] = []
    rows = rows_per_file(shape.block_length)

    def write(table: pa.Table) -> None:
        with publish(folder / f"data-{len(outputs):05d}.arrow", rows=table.num_rows) as out:
            write_blocks(out, table, shape.block_length, shape.masked)
        outputs.append(out.artifact)

    whole = (Windows(shard, cell, 0) for shard, cell in shards)
    for shard, cell, most in (*whole, *windows):
        for batch in token_batches(shard.file):
            stream.add(batch, cell, most)
            while stream.rows >= rows:
                write(stream.take(rows))
    stream.finish()
    while stream.rows or not outputs:
        write(stream.take(rows))
    return HeldOutSet(tuple(outputs), stream.documents, stream.tokens, stream.carved, stream.carved_tokens)


class _Stream:
    """Chunks batch after batch, carrying the underfull last block over as pieces."""

    def __init__(self, shape: SetShape) -> None:
        self._shape = shape
        self._batches: list[pa.RecordBatch] = []
        self._carried: list[_Piece] = []
        self.documents = self.tokens = self.carved = self.carved_tokens = 0

    def add(self, batch: pa.RecordBatch, cell: int, most: int) -> None:
        """Append documents, whole (`most` 0) or in windows of about so many tokens each."""
        shape = self._shape
        ids, offsets = column_lists(batch.column("input_ids"))
        extra = int(shape.bos >= 0) + int(shape.eos >= 0)
        lengths = np.diff(offsets) + extra
        stream = streams(ids, offsets, lengths, shape.bos, shape.eos)
        bounds = np.r_[0, np.cumsum(lengths)]
        spans, at = column_lists(batch.column("loss_spans"))
        spans = spans.astype(np.int64) + int(shape.bos >= 0)
        self.documents += batch.num_rows
        pieces = [
            _Piece(doc, cell, 0, stream[bounds[k] : bounds[k + 1]], spans[at[k] : at[k + 1]])
            for k, doc in enumerate(batch.column("doc_id").to_pylist())
        ]
        if most:
            pieces = [window for piece in pieces for window in _windows(piece, most, shape.block_length)]
            self.carved += batch.num_rows
            self.carved_tokens += sum(len(window.stream) for window in pieces)
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
        table = pa.Table.from_batches(self._batches, block_schema(self._shape.block_length, self._shape.masked))
        self._batches = table.slice(rows).combine_chunks().to_batches()
        return table.slice(0, rows)

    def _chunk(self, pieces: list[_Piece], last: bool) -> None:
        shape = self._shape
        lengths = np.array([len(p.stream) for p in pieces], np.int64)
        packed = pack(lengths, shape.block_length, shape.max_docs, "concatenate", last)
        nothing = np.empty(0, np.int64)
        material = Material(
            np.concatenate([np.empty(0, np.int32), *(p.stream for p in pieces)]),
            np.r_[0, np.cumsum(lengths)].astype(np.int64),
            np.array([p.doc_id for p in pieces], np.uint64),
            np.array([p.cell for p in pieces], np.uint16),
            np.array([p.start for p in pieces], np.int64),
            np.concatenate([nothing, *(p.spans for p in pieces)]),
            np.r_[0, np.cumsum([len(p.spans) for p in pieces])].astype(np.int64),
        )
        s = packed.segments
        if packed.n_blocks:
            self._batches.append(material.blocks(s, packed.n_blocks, shape).batch())
        self.tokens += int(s.length.sum())
        left = packed.leftover
        self._carried = [
            _Piece(
                pieces[d].doc_id, pieces[d].cell, pieces[d].start + int(a), pieces[d].stream[a : a + n], pieces[d].spans
            )
            for d, a, n in zip(left.document, left.start, left.length, strict=True)
        ]


@dataclass(frozen=True)
class _Piece:
    """A document, or what a block left of it."""

    doc_id: int
    cell: int
    start: int
    """Position in its document's stream."""
    stream: np.ndarray
    spans: np.ndarray
    """What of the document's stream is trained on."""


def _windows(whole: _Piece, most: int, block_length: int) -> list[_Piece]:
    """Parts of a document that lie evenly over it, of about so many tokens in all; the first one begins it."""
    length, size = min(block_length, most), len(whole.stream)
    parts = -(-size // length)
    count = max(1, min(parts, round(most / length))) if size > most else parts
    starts = [i * parts // count * length for i in range(count)]
    return [_Piece(whole.doc_id, whole.cell, s, whole.stream[s : s + length], whole.spans) for s in starts]

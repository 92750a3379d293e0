"""Partitions to blocks, and blocks to files in their global order.

A pack task turns partitions into blocks and what is left over of each (less than one block); last tasks of a set pack all
leftovers. Every block gets a random 64-bit rank; it goes through the file shuffle by rank, and a set's files are consecutive
runs of equal length of all its blocks by rank. So the order is global and needs nobody to know all blocks.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from ...tokenize.pack import Packed, PackedSegments, Packing, fill, loss_spans, pack, streams
from ...tokenize.shards import block_schema, blocks_to_batch, rows_per_file, write_blocks
from ..engine.rows import Column, RowShuffle, pack_rows, read_rows
from ..engine.shuffle import by_hash_range
from ..engine.shuffle_file import Levels, of_files, read_sizes
from ..engine.two_level import Partition
from ..run.artifacts import Artifact, publish
from ..run.file_sets import FileSet
from ..signals.hashing import mix_array
from .assign import column_lists, read_entries

LEFTOVER_SCHEMA = pa.schema(
    [
        pa.field("doc_id", pa.uint64(), nullable=False),
        pa.field("cell", pa.uint16(), nullable=False),
        pa.field("start", pa.int64(), nullable=False),
        pa.field("stream", pa.list_(pa.field("item", pa.int32(), nullable=False)), nullable=False),
        pa.field("loss_spans", pa.list_(pa.field("item", pa.int64(), nullable=False)), nullable=False),
    ]
)
"""A piece of a document that found no block: its tokens, from position `start` of the document's stream on; and what of
that stream is trained on. Its metadata say what tokens of each cell are in the blocks so far."""
BLOCK = np.dtype([("rank", "<u8")])
"""A block on its way to its file. Its columns are those of `block_schema`, ids of documents as two numbers each; `loss_spans` is
empty where the set has none."""
BLOCK_COLUMNS = 6
HELD_BYTES = 64 << 20
"""Blocks that a pack task holds, beside the documents of one partition: half of what these take, as putting them in order takes
as much again."""
FILL_TOKENS = 1 << 22
"""Tokens of blocks that are made at once."""


@dataclass(frozen=True)
class SetShape:
    """What packing needs to know about a set."""

    block_length: int
    max_docs: int
    packing: Packing
    levels: Levels
    """Of the block shuffle."""
    seed: int
    """Seed of the block ranks, another one for each set."""
    bos: int
    eos: int
    """-1: none is added."""
    pad: int
    masked: bool = False
    """Whether some documents are trained on in parts; blocks then say which."""


@dataclass(frozen=True)
class Material:
    """Documents (or pieces) to pack: streams back to back with the facts of each."""

    stream: np.ndarray
    offsets: np.ndarray
    doc_ids: np.ndarray
    cells: np.ndarray
    starts: np.ndarray
    """Position in its document at which each stream begins."""
    spans: np.ndarray
    """int64 [2 m]: begins and exclusive ends, in a document's stream, of what is trained on."""
    span_offsets: np.ndarray
    """int64 [n + 1]: where each document's spans begin in `spans`; a document without any is trained on whole."""

    def blocks(self, segments: PackedSegments, n_blocks: int, shape: SetShape) -> Blocks:
        """Blocks of these segments."""
        blocks, ends = fill(
            segments.document,
            segments.start,
            segments.length,
            segments.block,
            n_blocks,
            shape.block_length,
            self.stream,
            self.offsets,
            shape.pad,
        )
        # A segment's place in its document: spans count from there too.
        starts = self.starts[segments.document] + segments.start
        loss = None
        if shape.masked:
            loss = loss_spans(
                segments.document, starts, segments.length, segments.block, n_blocks, self.spans, self.span_offsets
            )
        return Blocks(
            blocks,
            np.searchsorted(segments.block, np.arange(n_blocks + 1)),
            self.doc_ids[segments.document],
            starts,
            ends,
            self.cells[segments.document],
            loss,
        )


@dataclass(frozen=True)
class Blocks:
    """Blocks of a set, as `blocks_to_batch` takes them."""

    ids: np.ndarray
    segments: np.ndarray
    doc_ids: np.ndarray
    starts: np.ndarray
    ends: np.ndarray
    codes: np.ndarray
    loss: tuple[np.ndarray, np.ndarray] | None

    def batch(self) -> pa.RecordBatch:
        """Rows of the set."""
        return blocks_to_batch(self.ids, self.segments, self.doc_ids, self.starts, self.ends, self.codes, self.loss)

    def rows(self, ranks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Rows of the block shuffle, as `pack_rows` gives them; `ranks`: uint64 [n]."""
        n, length = self.ids.shape
        at = self.segments.astype(np.int64)
        spans, bounds = self.loss or (np.empty(0, np.int64), np.zeros(n + 1, np.int64))
        columns = [
            Column.of(self.ids.ravel(), np.arange(n + 1) * length),
            Column.of(self.ends.astype(np.int32), at),
            Column.of(self.doc_ids.astype(np.uint64).view(np.int32), 2 * at),
            Column.of(self.starts.astype(np.int32), at),
            Column.of(self.codes.astype(np.int32), at),
            Column.of(spans.astype(np.int32), bounds),
        ]
        return pack_rows(ranks.astype(np.uint64).view(BLOCK), columns)

    @classmethod
    def of_rows(cls, columns: Sequence[Column], order: np.ndarray, block_length: int, masked: bool) -> Blocks:
        """Blocks from columns of the block shuffle, in another order."""
        (ids, _), (ends, at), (doc_ids, _), (starts, _), (codes, _), loss = (c.take(order) for c in columns)
        ids = ids.reshape(-1, block_length)
        return cls(ids, at, doc_ids.view(np.uint64), starts, ends, codes.astype(np.uint16), loss if masked else None)


@dataclass(frozen=True)
class PackedBlocks:
    """Blocks by their rank, and what found no block."""

    blocks: Artifact
    """A shuffle file of `BLOCK` rows, by ranges of the rank."""
    leftovers: Artifact | None
    """`LEFTOVER_SCHEMA`; None where nothing comes after."""
    tokens: int
    segments: int
    cut_to_fill: int
    cells: dict[int, int]
    """Tokens of the whole set by cell code, where nothing comes after; else none: they are told with the leftovers."""


@dataclass(frozen=True)
class PartitionDocuments:
    """The documents of one partition, in the shuffle files of all."""

    part: Partition
    digest: str
    """Of its documents, or of those of all partitions that are merged with it."""

    def identity(self) -> str:
        """A partition is packed again where its own documents changed, not where any did."""
        return self.digest


def pack_partitions(documents: Sequence[PartitionDocuments], first: int, shape: SetShape, stem: Path) -> PackedBlocks:
    """Reduce: partitions' documents to blocks (`<stem>.blocks`) and leftovers (`<stem>.left`).

    Args:
        first: number of the first partition in its set, which the others follow; part of the ranks of their blocks.
    """
    out = _BlockOut(shape, stem)
    for number, partition in enumerate(documents, first):
        out.make_room()
        material = _material(partition.part, shape)
        packed = pack(np.diff(material.offsets), shape.block_length, shape.max_docs, shape.packing)
        out.add(material, packed, number)
        del material
    return out.close(last=False)


def _material(part: Partition, shape: SetShape) -> Material:
    """The documents of a partition in their order there."""
    entries, columns, order = read_entries(part)
    entries = entries[order]
    lengths = entries["take"].astype(np.int64)
    ids, (trained, span_offsets) = (column.take(order) for column in columns)
    # Not held beside both of its copies.
    del columns
    stream = streams(*ids, lengths, shape.bos, shape.eos)
    del ids
    return Material(
        stream,
        np.r_[0, np.cumsum(lengths)],
        entries["doc_id"],
        entries["cell"].astype(np.uint16),
        np.zeros(len(lengths), np.int64),
        trained.astype(np.int64) + int(shape.bos >= 0),
        span_offsets,
    )


def pack_leftovers(files: FileSet, number: int, shape: SetShape, last: bool, stem: Path) -> PackedBlocks:
    """What partitions of a set left over, in partition order, to blocks.

    Args:
        number: as of a partition; those of the set's partitions come before it.
        last: whether these are all of the set: then the last block may be underfull.
    """
    out = _BlockOut(shape, stem)
    tables = [pa.Table.from_batches([], LEFTOVER_SCHEMA)]
    for data in of_files(lambda file: file.read_bytes(), files):
        read = pa.ipc.open_stream(data).read_all()
        out.count(json.loads(read.schema.metadata[b"cells"]))
        tables.append(read.replace_schema_metadata())
    table = pa.concat_tables(tables).combine_chunks()
    stream, offsets = column_lists(table.column("stream"))
    spans, span_offsets = column_lists(table.column("loss_spans"))
    material = Material(
        stream,
        offsets,
        table.column("doc_id").to_numpy(),
        table.column("cell").to_numpy(),
        table.column("start").to_numpy(),
        spans,
        span_offsets,
    )
    runs = _apart(material.doc_ids.tolist(), np.diff(material.offsets).tolist(), shape.block_length, shape.max_docs)
    parts: list[PackedSegments] = []
    left: list[PackedSegments] = []
    n_blocks = cut = 0
    for run in runs:
        order = np.array(run, np.int64)
        packed = pack(np.diff(material.offsets)[order], shape.block_length, shape.max_docs, "concatenate", last)
        for segments, into in ((packed.segments, parts), (packed.leftover, left)):
            into.append(
                PackedSegments(order[segments.document], segments.start, segments.length, segments.block + n_blocks)
            )
        n_blocks += packed.n_blocks
        cut += packed.cut
    out.add(material, Packed(_joined(parts), n_blocks, _joined(left), cut), number)
    return out.close(last)


def _joined(parts: Sequence[PackedSegments]) -> PackedSegments:
    nothing = np.empty(0, np.int64)
    columns = ("document", "start", "length", "block")
    return PackedSegments(*(np.concatenate([nothing, *(getattr(p, name) for p in parts)]) for name in columns))


def _apart(doc_ids: Sequence[int], lengths: Sequence[int], block_length: int, max_docs: int) -> list[list[int]]:
    """Order pieces for concatenation so that no block gets two pieces of one document (copies for other epochs).

    Returns:
        Runs of pieces; each begins a new block. More than one only where every piece left would meet its copy.
    """
    runs: list[list[int]] = []
    waiting = list(range(len(doc_ids)))
    while waiting:
        runs.append([])
        room, held, inside = block_length, 0, set[int]()
        while True:
            place = next((k for k, i in enumerate(waiting) if doc_ids[i] not in inside), None)
            if place is None:
                break
            piece = waiting.pop(place)
            runs[-1].append(piece)
            # The blocks that chunking will make: full ones, and those that hold `max_docs` pieces.
            left = lengths[piece]
            while left:
                take = min(left, room)
                left, room, held = left - take, room - take, held + 1
                inside.add(doc_ids[piece])
                if room == 0 or held == max_docs:
                    room, held, inside = block_length, 0, set()
    return runs


class _BlockOut:
    """What a pack task publishes: blocks by rank, and (unless nothing comes after) what is left over."""

    def __init__(self, shape: SetShape, stem: Path) -> None:
        self._shape, self._stem = shape, stem
        self._blocks = RowShuffle(stem.with_name(f"{stem.name}.blocks"), shape.levels, HELD_BYTES)
        self._left: list[pa.Table] = []
        self._cells: dict[int, int] = {}
        self._tokens = self._segments = self._cut = 0

    def count(self, cells: Mapping[str, int]) -> None:
        """Add what is in blocks of other tasks, tokens by cell code."""
        for cell, tokens in cells.items():
            self._cells[int(cell)] = self._cells.get(int(cell), 0) + tokens

    def make_room(self) -> None:
        """Hold no blocks of earlier partitions while the next one is read."""
        self._blocks.make_room()

    def add(self, material: Material, packed: Packed, number: int) -> None:
        """Add blocks; `number` is that of their partition."""
        shape, segments = self._shape, packed.segments
        rank = mix_array(np.arange(packed.n_blocks, dtype=np.uint64) | np.uint64(number << 40), shape.seed)
        step = max(1, FILL_TOKENS // shape.block_length)
        for begin in range(0, packed.n_blocks, step):
            end = min(begin + step, packed.n_blocks)
            first, last = np.searchsorted(segments.block, [begin, end])
            mine = slice(int(first), int(last))
            some = PackedSegments(
                segments.document[mine], segments.start[mine], segments.length[mine], segments.block[mine] - begin
            )
            rows = material.blocks(some, end - begin, shape).rows(rank[begin:end])
            self._blocks.add(*rows, by_hash_range(rank[begin:end], shape.levels.partitions))
        self._left.append(_leftover(material, packed.leftover))
        by_cell = np.bincount(material.cells[segments.document], weights=segments.length).astype(np.int64)
        self.count({str(cell): int(t) for cell, t in enumerate(by_cell) if t})
        self._tokens += int(segments.length.sum())
        self._segments += len(segments)
        self._cut += packed.cut

    def close(self, last: bool) -> PackedBlocks:
        """Publish."""
        (blocks,) = self._blocks.close()
        left_over = None
        if not last:
            left = pa.concat_tables(self._left).combine_chunks()
            told = LEFTOVER_SCHEMA.with_metadata({"cells": json.dumps(self._cells, sort_keys=True)})
            path = self._stem.with_name(f"{self._stem.name}.left")
            with publish(path, rows=left.num_rows) as out, pa.ipc.new_stream(out, told) as writer:
                writer.write_table(left.cast(told))
            left_over = out.artifact
        cells = dict(sorted(self._cells.items())) if last else {}
        return PackedBlocks(blocks, left_over, self._tokens, self._segments, self._cut, cells)


def _leftover(material: Material, left: PackedSegments) -> pa.Table:
    pieces = [
        material.stream[material.offsets[d] + s : material.offsets[d] + s + n]
        for d, s, n in zip(left.document, left.start, left.length, strict=True)
    ]
    spans = [material.spans[material.span_offsets[d] : material.span_offsets[d + 1]] for d in left.document]

    def lists(values: list[np.ndarray], name: str) -> pa.ListArray:
        type_ = LEFTOVER_SCHEMA.field(name).type
        offsets = np.r_[0, np.cumsum([len(v) for v in values])].astype(np.int32)
        flat = pa.array(np.concatenate([np.empty(0, np.int32), *values]), type_.value_type)
        return pa.ListArray.from_arrays(pa.array(offsets), flat, type=type_)

    columns = [
        pa.array(material.doc_ids[left.document]),
        pa.array(material.cells[left.document]),
        pa.array(material.starts[left.document] + left.start),
        lists(pieces, "stream"),
        lists(spans, "loss_spans"),
    ]
    return pa.Table.from_arrays(columns, schema=LEFTOVER_SCHEMA)


@dataclass(frozen=True)
class BlockFiles:
    """Files of blocks of a set, in their order."""

    files: tuple[Artifact, ...]


def write_files(
    shuffled: Sequence[FileSet], skip: int, count: int, block_length: int, masked: bool, paths: Sequence[Path]
) -> BlockFiles:
    """Consecutive blocks of a set in their global order, as files of the set.

    Args:
        shuffled: files of each coarse partition that may hold some of them, or of all blocks.
        skip: blocks in these before the first one that is wanted.
        count: blocks that are wanted.
        paths: of the files, all of which but the set's last are full.
    """
    blocks = _in_order(shuffled, skip, count, block_length, masked)
    written, held = [], pa.Table.from_batches([], block_schema(block_length, masked))
    for path in paths:
        rows = min(count, rows_per_file(block_length))
        count -= rows
        while held.num_rows < rows:
            held = pa.concat_tables([held, pa.Table.from_batches([next(blocks)])])
        with publish(path, rows=rows) as out:
            write_blocks(out, held.slice(0, rows), block_length, masked)
        written.append(out.artifact)
        held = held.slice(rows)
    return BlockFiles(tuple(written))


def _in_order(
    shuffled: Sequence[FileSet], skip: int, count: int, block_length: int, masked: bool
) -> Iterator[pa.RecordBatch]:
    """`count` blocks after the first `skip` by rank: of one partition of the shuffle after the other."""
    for files in shuffled:
        rows = np.sum([np.diff(read_sizes(file)[1][:, 1]) for file in files], axis=0)
        for place in np.flatnonzero(rows).tolist():
            if skip >= rows[place]:
                skip -= int(rows[place])
                continue
            heads, columns = read_rows(files, place, BLOCK, BLOCK_COLUMNS)
            order = np.argsort(heads["rank"], kind="stable")[skip : skip + count]
            yield Blocks.of_rows(columns, order, block_length, masked).batch()
            skip, count = 0, count - len(order)
            if not count:
                return

"""Partitions to blocks, and blocks to files in their global order.

A pack task turns one partition into blocks and what is left over (less than one block); one last task per set packs
all leftovers. Every block gets a random 64-bit rank; it goes through the file shuffle by rank, and a set's files are
consecutive runs of equal length of all its blocks by rank. So the order is global and needs nobody to know all blocks.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from ...tokenize.pack import Packed, PackedSegments, Packing, fill, loss_spans, pack, streams
from ...tokenize.shards import block_schema, blocks_to_batch, rows_per_file, write_blocks
from ..engine.shuffle import by_hash_range
from ..engine.shuffle_file import read_partition
from ..run.artifacts import Artifact, FileSet, publish
from ..signals.hashing import mix_array
from .assign import column_lists, ipc_bytes, read_entries, write_parts

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
that stream is trained on."""


@dataclass(frozen=True)
class SetShape:
    """What packing needs to know about a set."""

    block_length: int
    max_docs: int
    packing: Packing
    buckets: int
    """Partitions of the block shuffle."""
    seed: int
    """Seed of the block ranks, another one for each set."""
    bos: int
    eos: int
    """-1: none is added."""
    pad: int
    masked: bool = False
    """Whether some documents are trained on in parts; blocks then say which."""


def ranked_schema(block_length: int, masked: bool) -> pa.Schema:
    return pa.schema([pa.field("rank", pa.uint64(), nullable=False), *block_schema(block_length, masked)])


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

    def batch(self, segments: PackedSegments, n_blocks: int, shape: SetShape) -> pa.RecordBatch:
        """Blocks of these segments, as rows of a set."""
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
        return blocks_to_batch(
            blocks,
            np.searchsorted(segments.block, np.arange(n_blocks + 1)),
            self.doc_ids[segments.document],
            starts,
            ends,
            self.cells[segments.document],
            loss,
        )


@dataclass(frozen=True)
class PackedBlocks:
    """Blocks by their rank, and what found no block."""

    blocks: Artifact
    """A shuffle file of `ranked_schema`, by ranges of the rank."""
    leftovers: Artifact | None
    """`LEFTOVER_SCHEMA`; None where nothing comes after."""
    tokens: int
    segments: int
    cut_to_fill: int
    buckets: tuple[int, ...]
    """Blocks in every partition of the shuffle file."""
    cells: dict[int, int]
    """Tokens by cell code."""


@dataclass(frozen=True)
class PartitionDocuments:
    """The documents of one partition, in the shuffle files of all."""

    files: FileSet
    place: int
    """Of the partition in the files."""
    digest: int
    """Of its documents."""

    def identity(self) -> int:
        """A partition is packed again where its own documents changed, not where any did."""
        return self.digest


def pack_partition(documents: PartitionDocuments, number: int, shape: SetShape, stem: Path) -> PackedBlocks:
    """Reduce: one partition's documents to blocks (`<stem>.blocks`) and leftovers (`<stem>.left`).

    Args:
        number: of the partition in its set; part of the ranks of its blocks.
    """
    entries = read_entries(documents.files, documents.place)
    lengths = entries.column("take").to_numpy()
    ids, offsets = column_lists(entries.column("input_ids"))
    spans, span_offsets = column_lists(entries.column("loss_spans"))
    material = Material(
        streams(ids, offsets, lengths, shape.bos, shape.eos),
        np.r_[0, np.cumsum(lengths)],
        entries.column("doc_id").to_numpy(),
        entries.column("cell").to_numpy(),
        np.zeros(len(lengths), np.int64),
        spans.astype(np.int64) + int(shape.bos >= 0),
        span_offsets,
    )
    packed = pack(lengths, shape.block_length, shape.max_docs, shape.packing)
    return _write(material, packed, number, shape, stem, leftovers=True)


def pack_leftovers(files: FileSet, number: int, shape: SetShape, stem: Path) -> PackedBlocks:
    """What all partitions of a set left over, in partition order, to blocks; the last may be underfull."""
    tables = [pa.Table.from_batches([], LEFTOVER_SCHEMA)]
    tables += [pa.ipc.open_stream(file.read_bytes()).read_all() for file in files]
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
    parts, n_blocks, cut = [], 0, 0
    for run in runs:
        order = np.array(run, np.int64)
        packed = pack(np.diff(material.offsets)[order], shape.block_length, shape.max_docs, "concatenate", last=True)
        s = packed.segments
        parts.append(PackedSegments(order[s.document], s.start, s.length, s.block + n_blocks))
        n_blocks += packed.n_blocks
        cut += packed.cut
    nothing = np.empty(0, np.int64)
    joined = [
        np.concatenate([nothing, *(getattr(p, f) for p in parts)]) for f in ("document", "start", "length", "block")
    ]
    whole = Packed(PackedSegments(*joined), n_blocks, PackedSegments(nothing, nothing, nothing, nothing), cut)
    return _write(material, whole, number, shape, stem, leftovers=False)


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


def _write(
    material: Material, packed: Packed, number: int, shape: SetShape, stem: Path, leftovers: bool
) -> PackedBlocks:
    """Publish blocks by rank, and (unless nothing comes after) what is left over."""
    segments = packed.segments
    batch = material.batch(segments, packed.n_blocks, shape)
    rank = mix_array(np.arange(packed.n_blocks, dtype=np.uint64) | np.uint64(number << 40), shape.seed)
    order = np.argsort(rank, kind="stable")
    schema = ranked_schema(shape.block_length, shape.masked)
    table = pa.Table.from_arrays([pa.array(rank), *batch.columns], schema=schema)
    bounds = np.searchsorted(by_hash_range(rank[order], shape.buckets), np.arange(shape.buckets + 1))
    parts = [ipc_bytes(table.take(pa.array(order[a:b])), schema) for a, b in itertools.pairwise(bounds)]
    blocks = write_parts(stem.with_name(f"{stem.name}.blocks"), parts, np.diff(bounds))
    left_over = None
    if leftovers:
        left = _leftover(material, packed.leftover)
        with publish(stem.with_name(f"{stem.name}.left"), rows=left.num_rows) as out:
            out.write(ipc_bytes(left, LEFTOVER_SCHEMA, always=True))
        left_over = out.artifact
    by_cell = np.bincount(material.cells[segments.document], weights=segments.length).astype(np.int64)
    return PackedBlocks(
        blocks,
        left_over,
        int(segments.length.sum()),
        len(segments),
        packed.cut,
        tuple(np.diff(bounds).tolist()),
        {cell: int(t) for cell, t in enumerate(by_cell) if t},
    )


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
class BlockFile:
    """A file of blocks of a set."""

    file: Artifact


def write_file(
    shuffles: FileSet, bucket_sizes: Sequence[int], number: int, block_length: int, masked: bool, path: Path
) -> BlockFile:
    """Blocks ``number * R`` to ``(number + 1) * R - 1`` of a set in their global order, as one file of the set.

    Args:
        bucket_sizes: blocks in every bucket, over all shuffle files.
    """
    begin = number * rows_per_file(block_length)
    bounds = np.r_[0, np.cumsum(bucket_sizes)]
    end = min(int(bounds[-1]), begin + rows_per_file(block_length))
    schema = ranked_schema(block_length, masked)
    tables = [pa.Table.from_batches([], schema)]
    first, last = np.searchsorted(bounds, begin, "right") - 1, np.searchsorted(bounds, end, "left")
    for bucket in range(int(first), int(last)):
        for file in shuffles:
            data = read_partition(file, bucket)
            if data:
                tables.append(pa.ipc.open_stream(data).read_all())
    table = pa.concat_tables(tables)
    order = np.argsort(table.column("rank").to_numpy(), kind="stable")
    wanted = order[begin - int(bounds[first]) : end - int(bounds[first])] if len(order) else order
    blocks = table.take(pa.array(wanted)).drop_columns(["rank"])
    with publish(path, rows=len(wanted)) as out:
        write_blocks(out, blocks, block_length, masked)
    return BlockFile(out.artifact)

"""`index/`: from a document to the blocks it went to, written after the blocks, sorted by document."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from ..engine.shuffle import RecordShuffle, Shuffled, by_hash_range, read_records
from ..engine.shuffle_file import Levels
from ..engine.two_level import Partition
from ..run.artifacts import Artifact, parquet_writer, row_groups

INDEX_SCHEMA = pa.schema(
    [
        pa.field("doc_id", pa.uint64(), nullable=False),
        pa.field("phase", pa.uint8(), nullable=False),
        pa.field("block_length", pa.int32(), nullable=False),
        pa.field("block", pa.int64(), nullable=False),
        pa.field("doc_start", pa.int64(), nullable=False),
        pa.field("length", pa.int32(), nullable=False),
    ]
)
"""One row per segment: phase by number from 1, block by its place in the phase's split."""
RECORD = np.dtype(
    [("id", "<u8"), ("block", "<i8"), ("start", "<i8"), ("length", "<i4"), ("block_length", "<i4"), ("phase", "<i8")]
)

SEGMENT = np.dtype([("doc_id", "<u8"), ("phase", "<u1"), ("length", "<i4")])


def part_of(doc_ids: np.ndarray, parts: int) -> np.ndarray:
    """int64: the part of the index that holds each document. Ids are below 2^63 with a uniform hash on top."""
    return by_hash_range(doc_ids << np.uint64(1), parts)


def shuffle_segments(
    files: Sequence[Artifact], phase: int, block_length: int, first_block: int, levels: Levels, stem: Path
) -> Shuffled:
    """Map: the segments of consecutive files of a phase set, by ranges of the document id."""
    out = RecordShuffle(stem, levels, RECORD)
    at = first_block
    for batch in (batch for file in files for batch in _batches(file)):
        ends = batch.column("doc_ends")
        per_block = np.diff(ends.offsets.to_numpy())
        end = ends.flatten().to_numpy().astype(np.int64)
        begin = np.r_[0, end[:-1]]
        begin[np.cumsum(per_block)[:-1]] = 0
        records = np.zeros(len(end), RECORD)
        records["id"] = batch.column("doc_ids").flatten().to_numpy()
        records["block"] = np.repeat(np.arange(at, at + batch.num_rows), per_block)
        records["start"] = batch.column("doc_starts").flatten().to_numpy()
        records["length"] = end - begin
        records["block_length"], records["phase"] = block_length, phase + 1
        out.add(records, part_of(records["id"], levels.partitions))
        at += batch.num_rows
    return Shuffled(out.close())


def _batches(file: Artifact) -> Iterator[pa.RecordBatch]:
    with pa.memory_map(os.fspath(file.file)) as source:
        yield from pa.ipc.open_stream(source)


@dataclass(frozen=True)
class IndexPart:
    """One sorted part of the index."""

    file: Artifact
    """`INDEX_SCHEMA`."""


def write_index(part: Partition, path: Path) -> IndexPart:
    """Reduce: one sorted part of the index."""
    rows = read_records(part.files, part.place, RECORD)
    rows = rows[np.lexsort((rows["start"], rows["block"], rows["block_length"], rows["phase"], rows["id"]))]
    names = {"doc_id": "id", "doc_start": "start"}
    columns = [pa.array(rows[names.get(f.name, f.name)]).cast(f.type) for f in INDEX_SCHEMA]
    with parquet_writer(path, INDEX_SCHEMA) as out:
        for batch in pa.Table.from_arrays(columns, schema=INDEX_SCHEMA).to_batches(1 << 16):
            out.write(batch)
    return IndexPart(out.artifact)


def segments_between(parts: Sequence[Path], first: int, last: int) -> np.ndarray:
    """The segments of the documents ``first <= doc_id <= last``, by document: records of id, phase (from 1) and length.

    Args:
        parts: all parts of the index, in order.
    """
    rows = [np.empty(0, SEGMENT)]
    if not parts:
        return rows[0]
    low, high = part_of(np.array([first, last], np.uint64), len(parts)).tolist()
    for part in parts[low : high + 1]:
        for file, group in row_groups(part, "doc_id", first, last):
            table = file.read_row_group(group, columns=["doc_id", "phase", "length"])
            found = np.empty(table.num_rows, SEGMENT)
            for name in SEGMENT.names or ():
                found[name] = table.column(name).to_numpy()
            rows.append(found[(found["doc_id"] >= first) & (found["doc_id"] <= last)])
    return np.concatenate(rows)

"""The indices behind `fox1 find`: from a URL, a native id or a content hash to documents.

Each is (key, doc_id), sorted, in parts by ranges of the key; so a lookup reads one row group of one file, however many
documents a run has.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ..engine.shuffle import RecordShuffle, by_hash_range, read_records
from ..engine.tasks import Engine, Task
from ..run.artifacts import Artifact, FileSet, RunPaths, parquet_writer
from ..run.identity import Group
from ..signals.hashing import halves
from ..signals.scan import FileSignals

VERSION = 1
KINDS = {"url": "url_hash", "id": "native_id_hash", "hash": "content_hash"}
"""Kind of a lookup -> the column of signals that it is by."""
PART_ROWS = 1 << 20
_RECORD = np.dtype([("key", "<u8"), ("id", "<u8")])
_SCHEMA = pa.schema([pa.field("key", pa.uint64(), nullable=False), pa.field("doc_id", pa.uint64(), nullable=False)])


def write_lookup(engine: Engine, groups: Sequence[Group], signals: Mapping[str, FileSignals]) -> None:
    """Write the indices of a run.

    Args:
        signals: by `SourceFile.table`.
    """
    paths = engine.paths
    parts = max(1, -(-sum(s.documents for s in signals.values()) // PART_ROWS))
    tasks = [Task(g.name, shuffle_keys, (g, [signals[f.table].signals for f in g.files], parts, paths)) for g in groups]
    moved = engine.run("mix.lookup_shuffle", VERSION, tasks)
    files = {kind: FileSet.of(a for shuffled in moved for a in shuffled.files[kind]) for kind in KINDS}
    engine.run(
        "mix.lookup",
        VERSION,
        [
            Task(
                f"{kind}-{part:05d}",
                write_part,
                (files[kind], part, parts, paths.index(f"{kind}-{part:05d}-of-{parts:05d}.parquet")),
            )
            for kind in KINDS
            for part in range(parts)
        ],
    )


@dataclass(frozen=True)
class ShuffledKeys:
    """The keys of a group's documents, by range."""

    files: dict[str, tuple[Artifact, ...]]
    """By kind of key."""


def shuffle_keys(group: Group, signals: Sequence[Artifact], parts: int, paths: RunPaths) -> ShuffledKeys:
    """Map: the keys of all documents of a group, by kind and range."""
    files = {}
    for kind, column in KINDS.items():
        out = RecordShuffle(paths.mix(f"lookup/{kind}/{group.name}"), parts, _RECORD)
        for scanned in signals:
            table = pq.read_table(scanned.file, columns=["doc_id", column])
            keys = _keys(table.column(column).combine_chunks())
            rows = np.empty(len(keys), _RECORD)
            rows["key"], rows["id"] = keys, table.column("doc_id").to_numpy()
            rows = rows[keys != 0]
            out.add(rows, by_hash_range(rows["key"], parts))
        files[kind] = out.close()
    return ShuffledKeys(files)


def _keys(values: pa.Array) -> np.ndarray:
    """uint64 [n]: hashes as they are, the first eight bytes of longer ones."""
    if pa.types.is_uint64(values.type):
        return values.to_numpy()
    return halves(values)[0]


@dataclass(frozen=True)
class LookupPart:
    """One sorted part of an index."""

    file: Artifact


def write_part(files: FileSet, part: int, parts: int, path: Path) -> LookupPart:
    """Reduce: one sorted part, of `parts`, of an index."""
    rows = read_records(files, part, _RECORD)
    rows = rows[np.lexsort((rows["id"], rows["key"]))]
    with parquet_writer(path, _SCHEMA) as out:
        table = pa.Table.from_arrays([pa.array(rows["key"]), pa.array(rows["id"])], schema=_SCHEMA)
        for batch in table.to_batches(1 << 16):
            out.write(batch)
    return LookupPart(out.artifact)

"""The indices of `fox1 find`: from the hash of a URL, of a native id or of a text to the documents that have it.

Written after the blocks, one index of each kind: (key, doc_id), sorted, in parts by ranges of the key. So a lookup reads one
row group of one file, however many documents a run has.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ..engine.shuffle import RecordShuffle, by_hash_range, read_records
from ..engine.tasks import Engine, Task, TaskResult, task_key
from ..run.artifacts import Artifact, RunPaths, parquet_writer
from ..run.identity import Group
from ..signals.hashing import halves

VERSION = 1
KINDS = {"url": "url_hash", "id": "native_id_hash", "hash": "content_hash"}
"""Kind of a lookup -> the column of signals that it is by."""
PART_ROWS = 1 << 20
_RECORD = np.dtype([("key", "<u8"), ("id", "<u8")])
_SCHEMA = pa.schema([pa.field("key", pa.uint64(), nullable=False), pa.field("doc_id", pa.uint64(), nullable=False)])


def write_lookup(engine: Engine, groups: Sequence[Group], scans: dict[str, TaskResult]) -> None:
    """Write the indices of a run. `scans`: by file name."""
    paths = engine.paths
    parts = max(1, -(-sum(r.counts["documents"] for r in scans.values()) // PART_ROWS))
    inputs = {g.name: [scans[f.name].outputs[0].hash for f in g.files] for g in groups}
    moved = engine.run(
        "mix.lookup_shuffle",
        [
            Task(
                g.name,
                task_key("mix.lookup_shuffle", VERSION, None, [inputs[g.name], parts]),
                shuffle_keys,
                (g, parts, paths),
            )
            for g in groups
        ],
    )
    files: dict[str, list[Artifact]] = {kind: [] for kind in KINDS}
    for result in moved:
        outputs = iter(result.outputs)
        for kind in KINDS:
            files[kind] += itertools.islice(outputs, result.data["files"][kind])
    engine.run(
        "mix.lookup",
        [
            Task(
                f"{kind}-{part:05d}",
                task_key("mix.lookup", VERSION, None, [[a.hash for a in files[kind]], part, parts]),
                write_part,
                ([a.file for a in files[kind]], part, paths.index(f"{kind}-{part:05d}-of-{parts:05d}.parquet")),
            )
            for kind in KINDS
            for part in range(parts)
        ],
    )


def shuffle_keys(group: Group, parts: int, paths: RunPaths) -> TaskResult:
    """Map: the keys of all documents of a group, by kind and range."""
    outputs: list[Artifact] = []
    counts = {}
    for kind, column in KINDS.items():
        out = RecordShuffle(paths.mix(f"lookup/{kind}/{group.name}"), parts, _RECORD)
        for file in group.files:
            table = pq.read_table(paths.signals(file.corpus, file.path), columns=["doc_id", column])
            keys = _keys(table.column(column).combine_chunks())
            rows = np.empty(len(keys), _RECORD)
            rows["key"], rows["id"] = keys, table.column("doc_id").to_numpy()
            rows = rows[keys != 0]
            out.add(rows, by_hash_range(rows["key"], parts))
        written = out.close()
        counts[kind] = len(written)
        outputs += written
    return TaskResult(tuple(outputs), {}, {"files": counts})


def _keys(values: pa.Array) -> np.ndarray:
    """uint64 [n]: hashes as they are, the first eight bytes of longer ones."""
    if pa.types.is_uint64(values.type):
        return values.to_numpy()
    return halves(values)[0]


def write_part(files: Sequence[Path], part: int, path: Path) -> TaskResult:
    """Reduce: one sorted part of an index."""
    rows = read_records(files, part, _RECORD)
    rows = rows[np.lexsort((rows["id"], rows["key"]))]
    with parquet_writer(path, _SCHEMA) as out:
        table = pa.Table.from_arrays([pa.array(rows["key"]), pa.array(rows["id"])], schema=_SCHEMA)
        for batch in table.to_batches(1 << 16):
            out.write(batch)
    return TaskResult((out.artifact,), {"keys": len(rows)})

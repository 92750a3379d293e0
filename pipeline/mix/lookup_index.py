"""The indices behind `fox1 find`: from a URL, a native id or a content hash to documents.

Each is (key, doc_id), sorted, in parts by ranges of the key; so a lookup reads one row group of one file, however many
documents a run has.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa

from ..engine.engine import Engine
from ..engine.shuffle import Records, RecordShuffle, by_hash_range, read_records
from ..engine.shuffle_file import Levels
from ..engine.tasks import MOST_BESIDE, Task, portions
from ..engine.two_level import Partition, Partitioned, bring_together, plan_levels
from ..run.artifacts import Artifact, parquet_writer
from ..run.columns import each_open
from ..run.identity import Group
from ..signals.hashing import halves
from ..signals.scan import FileSignals

VERSION = 1
KINDS = {"url": "url_hash", "id": "native_id_hash", "hash": "content_hash"}
"""Kind of a lookup -> the column of signals that it is by."""
PART_ROWS = 1 << 20
WRITERS = 1024
"""About so many tasks at most write the parts."""
RECORD = np.dtype([("key", "<u8"), ("id", "<u8")])
_SCHEMA = pa.schema([pa.field("key", pa.uint64(), nullable=False), pa.field("doc_id", pa.uint64(), nullable=False)])


def write_lookup(engine: Engine, groups: Sequence[Group], signals: Mapping[str, FileSignals]) -> None:
    """Write the indices of a run.

    Args:
        signals: by `SourceFile.table`.
    """
    paths = engine.paths
    documents = sum(s.documents for s in signals.values())
    parts = max(1, -(-documents // PART_ROWS))

    def size(group: Group) -> int:
        return sum(signals[f.table].documents for f in group.files)

    together = portions(groups, size, sum(map(size, groups)), MOST_BESIDE)
    levels = plan_levels(RECORD.itemsize * documents, len(together), parts)
    tasks = []
    for some in together:
        scanned = [signals[f.table].signals for group in some for f in group.files]
        stems = {kind: paths.mix(f"lookup/{kind}/{some[0].name}") for kind in KINDS}
        tasks.append(Task(some[0].name, shuffle_keys, (scanned, levels, stems)))
    moved = engine.run("mix.lookup_shuffle", VERSION, tasks)

    def merge(kind: str) -> Partitioned:
        files = [a for shuffled in moved for a in shuffled.files[kind]]
        step, folder = f"mix.lookup_merge.{kind}", paths.mix(f"lookup-merged/{kind}")
        return bring_together(engine, step, VERSION, files, levels, Records(RECORD), folder)

    merges: list[Callable[[], Partitioned]] = [partial(merge, kind) for kind in KINDS]
    whole = dict(zip(KINDS, engine.side_by_side(*merges), strict=True))
    places = [
        (whole[kind].of(part), paths.index(f"{kind}-{part:05d}-of-{parts:05d}.parquet"))
        for kind in KINDS
        for part in range(parts)
    ]
    engine.run(
        "mix.lookup",
        VERSION,
        [
            Task(some[0][1].stem, write_parts, tuple(zip(*some, strict=True)))
            for some in portions(places, lambda _: 1, len(places), WRITERS)
        ],
    )


@dataclass(frozen=True)
class ShuffledKeys:
    """The keys of some documents, by range."""

    files: dict[str, tuple[Artifact, ...]]
    """By kind of key."""


def shuffle_keys(signals: Sequence[Artifact], levels: Levels, stems: Mapping[str, Path]) -> ShuffledKeys:
    """Map: the keys of all documents of some files, by kind and range; `stems` says where those of a kind go."""
    files = {}
    for kind, column in KINDS.items():
        out = RecordShuffle(stems[kind], levels, RECORD)
        for (file,) in each_open(([[scanned.file]] for scanned in signals), [["doc_id", column]]):
            for batch in file.batches(["doc_id", column]):
                keys = _keys(batch.column(column))
                rows = np.empty(len(keys), RECORD)
                rows["key"], rows["id"] = keys, batch.column("doc_id").to_numpy()
                rows = rows[keys != 0]
                out.add(rows, by_hash_range(rows["key"], levels.partitions))
        files[kind] = out.close()
    return ShuffledKeys(files)


def _keys(values: pa.Array) -> np.ndarray:
    """uint64 [n]: hashes as they are, the first eight bytes of longer ones."""
    if pa.types.is_uint64(values.type):
        return values.to_numpy()
    return halves(values)[0]


@dataclass(frozen=True)
class LookupParts:
    """Sorted parts of indices."""

    files: tuple[Artifact, ...]


def write_parts(parts: Sequence[Partition], places: Sequence[Path]) -> LookupParts:
    """Reduce: the rows of some partitions, sorted, each as a file."""
    return LookupParts(tuple(_write(part, path) for part, path in zip(parts, places, strict=True)))


def _write(part: Partition, path: Path) -> Artifact:
    rows = read_records(part.files, part.place, RECORD)
    rows = rows[np.lexsort((rows["id"], rows["key"]))]
    with parquet_writer(path, _SCHEMA) as out:
        table = pa.Table.from_arrays([pa.array(rows["key"]), pa.array(rows["id"])], schema=_SCHEMA)
        for batch in table.to_batches(1 << 16):
            out.write(batch)
    return out.artifact

"""`fox1 find`: from a URL, a native id or a content hash to documents and what became of them.

Mix writes, beside the blocks of every document, an index of each kind: (key, doc_id), sorted, in parts by ranges of the
key. So a lookup reads one row group of one file, however many documents a run has.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ..engine.shuffle import RecordShuffle, by_hash_range, read_records
from ..engine.tasks import Engine, Task, TaskResult, task_key
from ..filter.exclude import index_key, read_entries
from ..run.artifacts import Artifact, RunPaths, parquet_writer, row_groups
from ..run.identity import ROW_BITS, Group
from ..signals.hashing import halves
from ..signals.scan import content_hashes
from .provenance import Placed, placed
from .run import Run, index_parts, row_of, uint64s

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


@dataclass(frozen=True)
class Found:
    """A document that was looked for, and whether it, or a copy of it, was trained on."""

    name: str
    doc_id: int
    decision: dict[str, Any]
    blocks: list[Placed]
    copy: str
    """The kept document that stands for it, where it was dropped as a duplicate."""
    copy_blocks: list[Placed]

    @property
    def trained_on(self) -> bool:
        return any(p.phase != "held_out" for p in [*self.blocks, *self.copy_blocks])


def find(run: Run, kind: str, value: str) -> list[Found]:
    """Documents with a URL (normalised as by the scan), a native id or a content hash (hexadecimal, or of a text).

    Args:
        kind: of `KINDS`, or `text`: documents with the content hash of this text.

    Raises:
        ValueError: the run has no index, or `value` is no hash.
    """
    if kind == "text":
        kind, whole = "hash", content_hashes(pa.array([value], pa.large_string()))[0].as_py()
    elif kind == "hash":
        try:
            whole = bytes.fromhex(value.removeprefix("0x"))
        except ValueError:
            whole = b""
        if len(whole) != 16:
            raise ValueError(f"{value} is no content hash: 32 hexadecimal digits, as `fox1 why` shows them")
    found = []
    for doc_id in _look_up(run, kind, index_key(kind, whole.hex() if kind == "hash" else value)):
        file = run.file(doc_id)
        if kind == "hash":
            signals = row_of(run.paths.signals(file.corpus, file.path), doc_id, ["content_hash"])
            if signals is None or signals.column("content_hash")[0].as_py() != whole:
                continue
        found.append(describe(run, doc_id))
    return found


def describe(run: Run, doc_id: int) -> Found:
    """What became of a document, and of the kept copy that stands for it."""
    file = run.file(doc_id)
    decision = row_of(run.paths.decisions(file.corpus, file.path), doc_id)
    decided = decision.to_pylist()[0] if decision else {}
    copy = int(decided.get("duplicate_of") or 0)
    return Found(
        run.name(doc_id),
        doc_id,
        decided,
        placed(run, doc_id),
        run.name(copy) if copy else "",
        placed(run, copy) if copy else [],
    )


@dataclass(frozen=True)
class Listed:
    """What the run has of an exclude list."""

    named: dict[str, list[Found]]
    """Entry -> the documents that it names; none where the run has none."""
    copies: list[Found]
    """Documents that are recorded as copies of those, or of which those are."""


def find_listed(run: Run, listed: str) -> Listed:
    """The documents that an exclude list names, and their recorded copies. Reads the decisions of the whole run.

    Raises:
        ValueError: the list cannot be read or has a line that is no entry.
    """
    named: dict[str, list[Found]] = {}
    for _, entry, kind, value in read_entries(listed):
        if kind == "row":
            doc_id = run.doc_id(value)
            file = run.files.get(doc_id >> ROW_BITS)
            there = file and row_of(run.paths.decisions(file.corpus, file.path), doc_id, ["doc_id"])
            named[entry] = [describe(run, doc_id)] if there else []
        else:
            named[entry] = find(run, kind, value)
    documents = [f for found in named.values() for f in found]
    ids = np.array([f.doc_id for f in documents], np.uint64)
    heads = np.union1d(ids, np.array([int(f.decision.get("duplicate_of") or 0) for f in documents], np.uint64))
    heads = heads[heads > 0]
    copies: list[int] = []
    for file in sorted(run.files.values(), key=lambda f: f.name) if len(heads) else ():
        table = pq.read_table(run.paths.decisions(file.corpus, file.path), columns=["doc_id", "duplicate_of"])
        own, of = uint64s(table.column("doc_id")), uint64s(table.column("duplicate_of"))
        copies += own[(np.isin(of, heads) | np.isin(own, heads)) & ~np.isin(own, ids)].tolist()
    return Listed(named, [describe(run, doc_id) for doc_id in copies])


def _look_up(run: Run, kind: str, key: int) -> list[int]:
    parts = index_parts(run.paths, run.manifest, kind)
    if not parts:
        raise ValueError(f"{run.paths.root} has no index of its documents; run `fox1 curate` again to make it")
    number = int(by_hash_range(np.array([key], np.uint64), len(parts))[0])
    found: list[int] = []
    for file, group in row_groups(parts[number], "key", key, key):
        table = file.read_row_group(group)
        mine = uint64s(table.column("key")) == key
        found += uint64s(table.column("doc_id"))[mine].tolist()
    return found

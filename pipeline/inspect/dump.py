"""`fox1 dump`: the curated documents as Parquet, with what is known of each, for use elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ...tokenize.chat import Template, rendered
from ..engine.engine import Engine
from ..engine.tasks import Task
from ..mix.index import segments_between
from ..run.artifacts import Artifact, FileSet, RunPaths, parquet_writer, read_json, remove, write_json
from ..run.identity import Group
from ..run.manifest import read_manifest
from ..run.records import StepRecords
from ..signals.content import written
from ..sources.domains import CHAT
from ..text.survivors import DecidedFile, read_survivors
from .run import index_parts, phase_named, phase_names

VERSION = 2
STATE = "__fox1"
"""Folder of records and timings inside the dump; readers of data sets skip names that begin like this."""
ALL = "all"
"""All kept documents, whether or not a phase uses them."""
FACTS = ("domain", "language", "quality", "content_hash")

SCHEMA = pa.schema(
    [
        pa.field("text", pa.large_string(), nullable=False),
        pa.field("doc_id", pa.uint64(), nullable=False),
        pa.field("corpus", pa.string(), nullable=False),
        pa.field("file", pa.string(), nullable=False),
        pa.field("row", pa.int64(), nullable=False),
        pa.field("subset", pa.string(), nullable=False),
        pa.field("domain", pa.string(), nullable=False),
        pa.field("language", pa.string(), nullable=False),
        pa.field("quality", pa.float32(), nullable=False),
        pa.field("native_id", pa.string(), nullable=False),
        pa.field("url", pa.string(), nullable=False),
        pa.field("content_hash", pa.string(), nullable=False),
        pa.field("phases", pa.list_(pa.field("item", pa.string(), nullable=False)), nullable=False),
    ]
)
"""The edited text, where it came from, its quality from 0 to 1, and the phases that train on it."""


def dump(run: RunPaths, groups: Sequence[Group], phase: str, template: Template, engine: Engine) -> tuple[int, int]:
    """Write the kept documents of the training groups as `<corpus>/<group>.parquet`; (documents, bytes).

    Args:
        phase: a name from `dumped_phase`; only documents of this phase are written.
        engine: the engine of the output folder; an unfinished dump is resumed.

    Raises:
        ValueError: the run is not finished, or the folder holds a dump of another phase.
    """
    manifest = read_manifest(run)
    names = phase_names(run)
    number = 0 if phase == ALL else names.index(phase) + 1
    _claim(engine.paths, phase)
    listed = manifest["artifacts"]
    index = FileSet.of(
        Artifact(str(p), **listed[p.relative_to(run.root).as_posix()]) for p in index_parts(run, manifest)
    )
    tasks = []
    for g in groups:
        if g.held_out:
            continue
        files = [DecidedFile.of_run(f, run, listed) for f in g.files]
        path = engine.paths.root / f"{g.name}.parquet"
        tasks.append(Task(g.name, dump_group, (files, index, names, number, template, path), max(g.text, 1)))
    dumped = engine.run("dump", VERSION, tasks)
    _remove_others(engine, {task.name for task in tasks})
    return sum(d.documents for d in dumped), sum(d.file.bytes for d in dumped if d.file)


def dumped_phase(run: RunPaths, asked: str) -> str:
    """The name of the phase that is asked for, or `ALL`.

    Raises:
        ValueError: the run has no such phase.
    """
    return ALL if asked == ALL else phase_named(phase_names(run), asked)


def _claim(paths: RunPaths, phase: str) -> None:
    """Note which phase the folder holds, so that a dump of another one cannot replace it file by file."""
    note = paths.root / STATE / "phase.json"
    before = read_json(note).get("phase", phase) if note.exists() else phase
    if before != phase:
        raise ValueError(f"{paths.root} already holds a dump of {before}; choose another folder for {phase}")
    write_json(note, {"phase": phase})


def _remove_others(engine: Engine, names: set[str]) -> None:
    """Remove what an earlier dump into the folder wrote of groups that this one does not have."""
    records = StepRecords(engine.paths, "dump")
    gone = [record for task, record in records.found.items() if task not in names]
    for name in (name for record in gone for name in record.outputs):
        remove(engine.paths.named(name))
    records.forget(record.task for record in gone)


@dataclass(frozen=True)
class DumpedGroup:
    """The kept documents of a group."""

    file: Artifact | None
    """`SCHEMA`; None where there is no document."""
    documents: int


def dump_group(
    files: Sequence[DecidedFile], index: FileSet, names: Sequence[str], phase: int, template: Template, path: Path
) -> DumpedGroup:
    """The kept documents of a group, in file and row order."""
    documents, parts = 0, tuple(index)
    with parquet_writer(path, SCHEMA) as out:
        for batch in read_survivors(files, FACTS):
            ids = batch.doc_ids
            used = segments_between(parts, int(ids[0]), int(ids[-1]))
            # Rows by document and phase, each once.
            pairs = np.unique(np.stack([used["doc_id"], used["phase"].astype(np.uint64)], 1), axis=0)
            begins = np.searchsorted(pairs[:, 0], ids)
            ends = np.searchsorted(pairs[:, 0], ids, "right")
            phases = [pairs[a:b, 1].tolist() for a, b in zip(begins, ends, strict=True)]
            keep = np.array([not phase or phase in p for p in phases], bool)
            if not keep.any():
                continue
            text = batch.text
            if batch.file.format == CHAT:
                text = pa.array([rendered(t, template) for t in text.to_pylist()], pa.large_string())
            n, facts, rows = len(ids), batch.facts, batch.rows
            columns = {
                "text": text,
                "doc_id": pa.array(ids),
                "corpus": pa.array([batch.file.corpus] * n),
                "file": pa.array([batch.file.path] * n),
                "row": rows.column("row"),
                "subset": rows.column("subset"),
                "domain": facts.column("domain").combine_chunks(),
                "language": facts.column("language").combine_chunks(),
                "quality": pc.divide(facts.column("quality").combine_chunks().cast(pa.float32()), 65_535.0).cast(
                    pa.float32()
                ),
                "native_id": rows.column("native_id"),
                "url": rows.column("url"),
                "content_hash": pa.array([written(h) for h in facts.column("content_hash").to_pylist()]),
                "phases": pa.array(
                    [[names[p - 1] for p in numbers] for numbers in phases], SCHEMA.field("phases").type
                ),
            }
            found = pa.RecordBatch.from_arrays([columns[f.name] for f in SCHEMA], schema=SCHEMA)
            found = found.filter(pa.array(keep))
            documents += found.num_rows
            out.write(found)
    if not documents:
        # Readers of a folder fail on files without rows.
        remove(path)
        return DumpedGroup(None, 0)
    return DumpedGroup(out.artifact, documents)

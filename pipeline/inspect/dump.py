"""`fox1 dump`: the curated documents as Parquet, with what is known of each, for use elsewhere; or the dropped ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ...storage.reading import Misshapen, typed
from ...storage.store import shown
from ...tokenize.chat import Template, rendered
from ..engine.engine import Engine
from ..engine.tasks import Task
from ..mix.index import segments_between
from ..run.artifacts import Artifact, parquet_writer, read_json, remove, write_json
from ..run.file_sets import FileSet
from ..run.identity import Group, SourceFile
from ..run.manifest import read_manifest
from ..run.paths import RunPaths
from ..run.records import StepRecords
from ..run.schemas import DECISION_SCHEMA
from ..signals.content import written
from ..sources.domains import CHAT
from ..text.survivors import DecidedFile, Survivors, read_survivors
from .documents import Columns, DocumentTable
from .run import index_parts, phase_named, phase_names
from .sql import Condition

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
DROPPED_SCHEMA = pa.schema(
    [
        *(field for field in SCHEMA if field.name != "phases"),
        DECISION_SCHEMA.field("reason"),
        DECISION_SCHEMA.field("reasons"),
        DECISION_SCHEMA.field("duplicate_of"),
        DECISION_SCHEMA.field("similarity"),
    ]
)
"""The same of dropped documents, with why they were."""
WITHHELD = ("licence",)
"""Reasons for which a document's text is not written either."""


@dataclass(frozen=True)
class Selected:
    """Which documents are dumped: a `Choice`."""

    dropped: bool = False
    """The dropped ones instead of the kept ones."""
    reason: str = ""
    """Of the dropped ones, those whose first failed rule this is; empty: all."""
    where: str = ""
    """Of these, those that meet it; without any text all do."""
    columns: tuple[str, ...] = ()
    """Those of `inspect/documents.py` that the condition looks at."""
    decisions: tuple[str, ...] = ("kept",)
    signals: tuple[str, ...] = ()

    @classmethod
    def of_run(
        cls, paths: RunPaths, groups: Sequence[Group], dropped: bool = False, reason: str = "", where: str = ""
    ) -> Selected:
        """What is asked for of a run.

        Args:
            reason: implies `dropped`.

        Raises:
            ValueError: the run dropped nothing for this reason, or the condition is none.
        """
        if reason and reason not in (known := _reasons(paths)):
            raise ValueError(f"--reason {reason}: the run dropped nothing for it; it has {', '.join(known)}")
        table = DocumentTable(paths, [file for group in groups for file in group.files])
        columns = Condition(where).columns(table.columns) if where else []
        reads = table.columns.reads(columns)
        along = ("kept", "reason", "reasons", "duplicate_of", "similarity") if dropped or reason else ("kept",)
        decisions = tuple(dict.fromkeys([*along, *(reads.decisions if columns else ())]))
        signals = reads.signals if columns else ()
        return cls(bool(dropped or reason), reason, where, tuple(columns), decisions, signals)

    def of(self, file: SourceFile, decisions: pa.Table, signals: pa.Table) -> pa.Array | pa.ChunkedArray:
        """Whether each document is dumped."""
        chosen = pc.invert(decisions.column("kept")) if self.dropped else decisions.column("kept")
        if self.reason:
            chosen = pc.and_(chosen, pc.equal(decisions.column("reason"), self.reason))
        if not self.where:
            return chosen
        met = np.zeros(decisions.num_rows, bool)
        names = self.columns or ("kept",)
        met[Condition(self.where).places(Columns(signals.schema).table(names, file, decisions, signals))] = True
        return pc.and_(chosen, pa.array(met))


ALL_KEPT = Selected()


def _reasons(paths: RunPaths) -> list[str]:
    """What a run dropped documents for."""
    return sorted({reason for corpus in read_json(paths.stats("funnel"))["corpora"] for reason in corpus["dropped"]})


def dump(
    run: RunPaths,
    groups: Sequence[Group],
    phase: str,
    template: Template,
    engine: Engine,
    selected: Selected = ALL_KEPT,
) -> tuple[int, int]:
    """Write documents of the training groups as `<corpus>/<group>.parquet`; (documents, bytes).

    Args:
        phase: a name from `dumped_phase`; of kept documents, only those of this phase are written.
        selected: which documents to write.
        engine: the engine of the output folder; an unfinished dump is resumed.

    Raises:
        ValueError: the run is not finished, the folder holds a dump of something else, or dropped documents are asked for by
            a phase.
    """
    if selected.dropped and phase != ALL:
        raise ValueError(
            f"--phase {phase}: no phase has dropped documents; leave out --phase, or --dropped and --reason"
        )
    manifest = read_manifest(run)
    names = phase_names(run)
    number = 0 if phase == ALL else names.index(phase) + 1
    claim(engine.paths, Asked(phase, selected.dropped, selected.reason, selected.where))
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
        tasks.append(Task(g.name, dump_group, (files, index, names, number, template, path, selected), max(g.text, 1)))
    dumped = engine.run("dump", VERSION, tasks)
    remove_others(engine, {task.name for task in tasks})
    return sum(d.documents for d in dumped), sum(d.file.bytes for d in dumped if d.file)


def dumped_phase(run: RunPaths, asked: str) -> str:
    """The name of the phase that is asked for, or `ALL`.

    Raises:
        ValueError: the run has no such phase.
    """
    return ALL if asked == ALL else phase_named(phase_names(run), asked)


@dataclass(frozen=True)
class Asked:
    """What a folder is to hold: the options of its dump."""

    phase: str
    dropped: bool = False
    reason: str = ""
    where: str = ""
    tokens: str = ""
    """Format of token files; empty: text."""

    def __str__(self) -> str:
        """What a dump holds, in the words of its options."""
        said = [f"--reason {self.reason}"] if self.reason else ["--dropped"] if self.dropped else [self.phase]
        said += [f"--where {self.where!r}"] if self.where else []
        return " ".join([*said, *([f"--tokens {self.tokens}"] if self.tokens else [])])


def claim(paths: RunPaths, asked: Asked) -> None:
    """Note what the folder holds, so that a dump of something else cannot replace it file by file.

    Raises:
        ValueError: it holds something else.
    """
    note = paths.root / STATE / "phase.json"
    if note.exists():
        try:
            before = typed(Asked, read_json(note))
        except Misshapen as error:
            raise ValueError(f"{shown(note)} is damaged ({error}); choose another folder") from None
        if before != asked:
            raise ValueError(f"{shown(paths.root)} already holds a dump of {before}; choose another folder")
    write_json(note, asdict(asked))


def remove_others(engine: Engine, names: set[str]) -> None:
    """Remove what an earlier dump into the folder wrote of groups that this one does not have."""
    records = StepRecords(engine.paths, "dump")
    gone = [record for task, record in records.found.items() if task not in names]
    for name in (name for record in gone for name in record.outputs):
        remove(engine.paths.named(name))
    records.forget(record.task for record in gone)


@dataclass(frozen=True)
class DumpedGroup:
    """The documents of a group."""

    file: Artifact | None
    """`SCHEMA`; None where there is no document."""
    documents: int


def dump_group(
    files: Sequence[DecidedFile],
    index: FileSet,
    names: Sequence[str],
    phase: int,
    template: Template,
    path: Path,
    selected: Selected = ALL_KEPT,
) -> DumpedGroup:
    """The selected documents of a group, in file and row order."""
    documents, parts = 0, tuple(index)
    schema = DROPPED_SCHEMA if selected.dropped else SCHEMA
    with parquet_writer(path, schema) as out:
        for batch in read_survivors(files, FACTS, selected):
            columns = _columns(batch, template)
            if selected.dropped:
                columns |= {
                    name: batch.facts.column(name).combine_chunks() for name in schema.names if name not in columns
                }
                withheld = pc.is_in(columns["reason"], pa.array(WITHHELD))
                columns["text"] = pc.if_else(withheld, pa.scalar("", pa.large_string()), columns["text"])
            else:
                used = _phases(parts, batch.doc_ids)
                columns["phases"] = pa.array([[names[p - 1] for p in n] for n in used], SCHEMA.field("phases").type)
            found = pa.RecordBatch.from_arrays([columns[f.name] for f in schema], schema=schema)
            if phase:
                found = found.filter(pa.array([phase in n for n in used], pa.bool_()))
            if found.num_rows:
                documents += found.num_rows
                out.write(found)
    if not documents:
        # Readers of a folder fail on files without rows.
        remove(path)
        return DumpedGroup(None, 0)
    return DumpedGroup(out.artifact, documents)


def _phases(parts: Sequence[Path], ids: np.ndarray) -> list[list[int]]:
    """The numbers of the phases that train on each of some documents, from the index of blocks."""
    used = segments_between(parts, int(ids[0]), int(ids[-1]))
    # Rows by document and phase, each once.
    pairs = np.unique(np.stack([used["doc_id"], used["phase"].astype(np.uint64)], 1), axis=0)
    begins, ends = (np.searchsorted(pairs[:, 0], ids, side) for side in ("left", "right"))
    return [pairs[a:b, 1].tolist() for a, b in zip(begins, ends, strict=True)]


def _columns(batch: Survivors, template: Template) -> dict[str, pa.Array]:
    """What a dump has of every document."""
    text, facts, rows, n = batch.text, batch.facts, batch.rows, len(batch.doc_ids)
    if batch.file.format == CHAT:
        text = pa.array([rendered(t, template) for t in text.to_pylist()], pa.large_string())
    return {
        "text": text,
        "doc_id": pa.array(batch.doc_ids),
        "corpus": pa.array([batch.file.corpus] * n),
        "file": pa.array([batch.file.path] * n),
        "row": rows.column("row"),
        "subset": rows.column("subset"),
        "domain": facts.column("domain").combine_chunks(),
        "language": facts.column("language").combine_chunks(),
        "quality": pc.divide(facts.column("quality").combine_chunks().cast(pa.float32()), 65_535.0).cast(pa.float32()),
        "native_id": rows.column("native_id"),
        "url": rows.column("url"),
        "content_hash": pa.array([written(h) for h in facts.column("content_hash").to_pylist()]),
    }

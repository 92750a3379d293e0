"""A task of extract: the rows of one source file through the steps of its corpus, into `extracted/`.

    rows -> documents -> one step after the other -> texts, with who dropped which and the hash of every raw text

Promises: rows keep their order, and each that could be read has one here, unless a step failed on it, which is counted with the
rows that could not be read. The bytes depend on the file and the steps alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from ...tokenize.spans import text_buffers
from ..engine.memory import keep_freed_memory
from ..run.artifacts import Artifact, ParquetOut, RunPaths, merge_counts, parquet_writer
from ..run.identity import SourceFile, cut_by_rows
from ..sources.extracted import SCHEMA
from ..sources.listing import check_unchanged
from ..sources.quarantine import Quarantine
from ..sources.rows import read_rows
from ..text.binding import text_hashes
from .settings import StepSettings
from .steps import Steps, Treated

GROUP_ROWS, GROUP_BYTES = 4096, 8 << 20
"""Rows of a row group, and bytes of text with which one is full."""
MOST_REASONS = 100
"""Reasons of a step that are counted by themselves; a step may put numbers into them."""
OTHER = "other reasons"


@dataclass(frozen=True)
class StepFigures:
    """What a step did with the documents of a file."""

    step: str
    given: int
    """Documents that it was given."""
    changed: int
    """Those that it handed on with another text."""
    failed: int
    """Those on which it failed: their rows are in quarantine."""
    dropped: dict[str, int]
    """By reason; the empty one is of those that it dropped without a word."""


@dataclass(frozen=True)
class ExtractedTable:
    """The stored texts of a file, or of a piece of one."""

    table: Artifact
    """`sources.extracted.SCHEMA`."""
    first: int
    """Its first row, of a file that is cut into pieces."""
    bytes: int
    """Of its texts."""


@dataclass(frozen=True)
class ExtractedFile:
    """What the steps leave of one source file, or of a piece of one."""

    tables: tuple[ExtractedTable, ...]
    """In the order of the rows. More than one where the file is large and only read from its start."""
    figures: tuple[StepFigures, ...]
    """By step, in their order."""
    quarantine: Artifact | None
    quarantined: int
    damage: str = ""
    """Why the file could not be read to its end; empty where it could."""
    intact: int = 0
    """Stored bytes before the damage."""
    cut: bool = False
    """Whether the damage is that the file ends too early."""
    times_not_understood: int = 0
    """Rows whose time is there and says nothing; their `timestamp` is 0."""


def extract_file(file: SourceFile, settings: Sequence[StepSettings], most: int, paths: RunPaths) -> ExtractedFile:
    """Give the rows of a file, or of a piece of one, to the steps of `before_scan`, and store what they make of them.

    Args:
        settings: of the steps that serve its corpus, in their order.
        most: bytes of text with which a table is full; 0: there is one.

    Raises:
        ValueError: the file changed since planning, or a step cannot be used or gave what belongs to no document.
    """
    keep_freed_memory()
    check_unchanged(file)
    steps = Steps(settings, file.name)
    quarantine = Quarantine(file, paths.quarantine(file.corpus, file.quarantine))
    batches = (treated(file, batch, steps, quarantine) for batch in read_rows(file, quarantine))
    tables = list(_tables(file, filter(len, batches), most, paths))
    check_unchanged(file)
    return ExtractedFile(
        tuple(tables),
        tuple(_figures(steps)),
        quarantine.publish(),
        quarantine.rows,
        quarantine.damage,
        quarantine.intact,
        quarantine.cut,
        quarantine.times,
    )


def treated(file: SourceFile, batch: pa.RecordBatch, steps: Steps, quarantine: Quarantine) -> pa.RecordBatch:
    """Rows of `SCHEMA` for rows of a source: what the steps make of them. Those on which a step fails go to quarantine."""
    from datatrove.data import Document

    columns = {
        name: batch.column(name).to_pylist() for name in ("row", "text", "subset", "native_id", "url", "timestamp")
    }
    documents = [
        Treated(
            row,
            Document(
                text,
                native_id or f"{file.path}/{row}",
                metadata={
                    "row": row,
                    "corpus": file.corpus,
                    "file_path": file.path,
                    "subset": subset,
                    "native_id": native_id,
                    "url": url,
                    "timestamp": timestamp,
                },
            ),
        )
        for row, text, subset, native_id, url, timestamp in zip(*columns.values(), strict=True)
    ]
    steps.treat(documents)
    for each in documents:
        if each.failed:
            quarantine.row(each.row, -1, each.failed)
    good = np.flatnonzero([not each.failed for each in documents])
    kept = [documents[i] for i in good.tolist()]
    if not kept:
        return pa.RecordBatch.from_pylist([], schema=SCHEMA)
    place = pa.array(good, pa.int64())
    raw = batch.column("text").take(place)
    made: dict[str, pa.Array] = {
        "text": pa.array([each.document.text for each in kept], pa.large_string()),
        "before_scan": pa.array([each.dropped_by for each in kept], pa.string()),
        "before_scan_reason": pa.array([each.why for each in kept], pa.string()),
        "raw_hash": text_hashes(raw),
        "raw_bytes": pa.array(np.diff(text_buffers(raw)[1]), pa.int64()),
    }
    return pa.RecordBatch.from_arrays(
        [made[f.name] if f.name in made else batch.column(f.name).take(place) for f in SCHEMA], schema=SCHEMA
    )


def _tables(
    file: SourceFile, batches: Iterator[pa.RecordBatch], most: int, paths: RunPaths
) -> Iterator[ExtractedTable]:
    """Write rows into the table of a file, or into those of its pieces, each as it is full.

    Args:
        batches: none is empty.
        most: as `extract_file` takes it.
    """
    held, first, number = next(batches, None), 0, 0
    while True:
        own = cut_by_rows(file, number, first, -1, 0) if most else file
        with parquet_writer(paths.extracted(own.corpus, own.part), SCHEMA, 1 << 62) as out:
            groups, size = _Groups(out), 0
            while held is not None and not (most and size >= most):
                size += groups.write(held)
                held = next(batches, None)
        yield ExtractedTable(out.artifact, first, size)
        if held is None:
            return
        first, number = held.column("row")[0].as_py(), number + 1


class _Groups:
    """Ends row groups of a table by the rows alone, however these arrive."""

    def __init__(self, out: ParquetOut) -> None:
        self._out = out
        self._rows = self._bytes = 0

    def write(self, batch: pa.RecordBatch) -> int:
        """Write rows; the bytes of their texts."""
        sizes = np.diff(text_buffers(batch.column("text"))[1])
        begin = 0
        for i, size in enumerate(sizes.tolist()):
            self._rows += 1
            self._bytes += size
            if self._rows == GROUP_ROWS or self._bytes >= GROUP_BYTES:
                self._out.write(batch.slice(begin, i + 1 - begin))
                self._out.end_group()
                begin, self._rows, self._bytes = i + 1, 0, 0
        if begin < batch.num_rows:
            self._out.write(batch.slice(begin))
        return int(sizes.sum())


def _figures(steps: Steps) -> Iterator[StepFigures]:
    for name, counts in steps.counts.items():
        common = sorted(counts.dropped.items(), key=lambda item: (-item[1], item[0]))
        dropped = dict(common[:MOST_REASONS])
        if rest := sum(n for _, n in common[MOST_REASONS:]):
            merge_counts(dropped, {OTHER: rest})
        yield StepFigures(name, counts.given, counts.changed, counts.failed, dict(sorted(dropped.items())))


def steps_by_corpus(figures: Mapping[str, Sequence[StepFigures]]) -> dict[str, list[dict[str, Any]]]:
    """`before_scan` of `stats/funnel.json`: by corpus what its steps, in their order, did with its documents, held-out ones
    included.

    Args:
        figures: by corpus, of its files.
    """
    corpora = {}
    for corpus, of_files in sorted(figures.items()):
        steps: dict[str, dict[str, Any]] = {}
        for each in of_files:
            sums = steps.setdefault(
                each.step, {"step": each.step, "given": 0, "changed": 0, "failed": 0, "dropped": {}}
            )
            for name in ("given", "changed", "failed"):
                sums[name] += getattr(each, name)
            merge_counts(sums["dropped"], each.dropped)
        corpora[corpus] = [{**sums, "dropped": dict(sorted(sums["dropped"].items()))} for sums in steps.values()]
    return corpora

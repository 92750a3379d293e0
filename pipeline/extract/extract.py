"""A task of extract: the rows of one source file through the steps of its corpus, into `extracted/`.

    rows -> documents -> one step after the other -> texts, with who dropped which and the hash of every raw text

Promises: rows keep their order, and each that could be read has one here, unless a step failed on it, which is counted with the
rows that could not be read. The bytes depend on the file and the steps alone.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from ...tokenize.spans import text_buffers
from ..engine.memory import keep_freed_memory
from ..engine.parts import Parts
from ..run.artifacts import Artifact, ParquetOut, merge_counts, parquet_writer
from ..run.identity import SourceFile, cut_by_rows
from ..run.paths import RunPaths
from ..sources.extracted import SCHEMA
from ..sources.listing import check_unchanged
from ..sources.quarantine import MAX_ENTRIES, Quarantine
from ..sources.rows import read_rows
from ..text.binding import text_hashes
from .settings import StepSettings
from .steps import StepCounts, Steps, Treated

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
    quarantine = Quarantine(file, paths.quarantine(file.corpus, file.quarantine))
    found = list(_parts(file, settings, quarantine, most, paths))
    check_unchanged(file)
    return ExtractedFile(
        tuple(part.table for part in found if part.table),
        tuple(_figures(settings, [part.counts for part in found])),
        quarantine.publish(),
        quarantine.rows,
        quarantine.damage,
        quarantine.intact,
        quarantine.cut,
        quarantine.times,
    )


@dataclass(frozen=True)
class FailedRow:
    """A row on which a step failed."""

    row: int
    why: str


@dataclass(frozen=True)
class ExtractedPart:
    """What the steps, made for it alone, leave of consecutive rows of a file: of all, or of those that fill a table."""

    table: ExtractedTable | None
    """None: no row is left after those of the tables before."""
    batches: int
    """In which its rows are read."""
    counts: dict[str, StepCounts]
    """By step."""
    failed: tuple[FailedRow, ...] = ()
    """The first of them; more than a quarantine names are only counted."""
    more_failed: int = 0


def _parts(
    file: SourceFile, settings: Sequence[StepSettings], quarantine: Quarantine, most: int, paths: RunPaths
) -> Iterator[ExtractedPart]:
    """Give rows to the steps and write them into the table of a file, or into those of its pieces, each as it is full. A part that
    a lost attempt has published is only read again.

    Args:
        most: as `extract_file` takes it.
    """
    parts = Parts(ExtractedPart)
    raw, number, full = read_rows(file, quarantine), 0, True
    while full:
        if part := parts.known(number) if most else None:
            _read_again(part, raw, quarantine)
        else:
            part = _Extracting(file, settings, quarantine).write(raw, number, most, paths)
            if most and part.table:
                parts.add(number, part)
        yield part
        full = bool(most and part.table and part.table.bytes >= most)
        number += 1


def _read_again(part: ExtractedPart, raw: Iterator[pa.RecordBatch], quarantine: Quarantine) -> None:
    """Read the rows of a part that is there, and say again which of them failed, where these would stand."""
    failed = deque(part.failed)
    for batch in itertools.islice(raw, part.batches):
        last = batch.column("row")[-1].as_py() if len(batch) else -1
        while failed and failed[0].row <= last:
            each = failed.popleft()
            quarantine.row(each.row, -1, each.why)
    quarantine.rows += part.more_failed


class _Extracting:
    """The rows of a part on their way through steps that are made for it, as for each piece of a file that is cut: what a step
    remembers of the rows before it, such as a seed, it remembers of the same rows whichever attempt gives them.
    """

    def __init__(self, file: SourceFile, settings: Sequence[StepSettings], quarantine: Quarantine) -> None:
        self._file, self._quarantine = file, quarantine
        self._steps = Steps(settings, file.name)
        self._failed: list[FailedRow] = []
        self._batches = self._more_failed = 0

    def write(self, raw: Iterator[pa.RecordBatch], number: int, most: int, paths: RunPaths) -> ExtractedPart:
        """Write rows until a table is full, or none is left; of the first part there is always a table."""
        batches = filter(len, map(self._treated, raw))
        held, table = next(batches, None), None
        if held is not None or not number:
            first = held.column("row")[0].as_py() if held is not None and number else 0
            own = cut_by_rows(self._file, number, first, -1, 0) if most else self._file
            with parquet_writer(paths.extracted(own.corpus, own.part), SCHEMA, 1 << 62) as out:
                groups, size = _Groups(out), 0
                while held is not None:
                    size += groups.write(held)
                    held = None if most and size >= most else next(batches, None)
            table = ExtractedTable(out.artifact, first, size)
        return ExtractedPart(table, self._batches, self._steps.counts, tuple(self._failed), self._more_failed)

    def _treated(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        self._batches += 1
        return treated(self._file, batch, self._steps, self._note)

    def _note(self, row: int, why: str) -> None:
        self._quarantine.row(row, -1, why)
        if len(self._failed) < MAX_ENTRIES:
            self._failed.append(FailedRow(row, why))
        else:
            self._more_failed += 1


def treated(
    file: SourceFile, batch: pa.RecordBatch, steps: Steps, failed: Callable[[int, str], None]
) -> pa.RecordBatch:
    """Rows of `SCHEMA` for rows of a source: what the steps make of them.

    Args:
        failed: is given each row on which a step fails, and why.
    """
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
            failed(each.row, each.failed)
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


def _figures(settings: Sequence[StepSettings], parts: Sequence[Mapping[str, StepCounts]]) -> Iterator[StepFigures]:
    """What every step did with the documents of all parts."""
    for name in (step.name for step in settings):
        of = [counts[name] for counts in parts]
        every: dict[str, int] = {}
        for counts in of:
            merge_counts(every, counts.dropped)
        common = sorted(every.items(), key=lambda item: (-item[1], item[0]))
        dropped = dict(common[:MOST_REASONS])
        if rest := sum(n for _, n in common[MOST_REASONS:]):
            merge_counts(dropped, {OTHER: rest})
        given, changed, failed = (sum(getattr(c, what) for c in of) for what in ("given", "changed", "failed"))
        yield StepFigures(name, given, changed, failed, dict(sorted(dropped.items())))


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

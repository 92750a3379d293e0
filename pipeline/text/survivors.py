"""The second read of the text: documents that the decisions keep, or others of choice, with their edits applied."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from ..run.artifacts import Artifact
from ..run.columns import open_columns
from ..run.identity import SourceFile
from ..run.parquet_rows import RowCursor
from ..run.paths import RunPaths
from ..sources.listing import check_unchanged
from ..sources.rows import read_each
from .binding import TEXT_HASH, check_scanned, check_texts, not_scanned
from .edits import apply_edits


@dataclass(frozen=True)
class DecidedFile:
    """A source file, or a piece of one, with what scan and dedupe say of its documents."""

    source: SourceFile
    signals: Artifact
    decisions: Artifact
    scores: Artifact | None = None
    """What stands beside the signals."""
    cuts: Artifact | None = None
    """Likewise: edits with the passages that were cut, in place of scan's."""

    @property
    def beside(self) -> tuple[Path, ...]:
        """The files of scores and cuts."""
        return tuple(a.file for a in (self.scores, self.cuts) if a)

    def identity(self) -> dict[str, object]:
        """What it adds to the key of a task; a run without cuts has the keys of versions that knew none."""
        found = {f.name: getattr(self, f.name) for f in fields(self)}
        return {name: value for name, value in found.items() if value is not None or name != "cuts"}

    @classmethod
    def of_run(cls, source: SourceFile, paths: RunPaths, listed: Mapping[str, Any]) -> DecidedFile:
        """A file of a finished run.

        Args:
            listed: the artifacts of its manifest.

        Raises:
            ValueError: the run has not decided the file.
        """
        places = (paths.signals(source.corpus, source.part), paths.decisions(source.corpus, source.part))
        signals, decisions = (listed_artifact(path, paths, listed) for path in places)
        further = []
        for beside in (paths.scores(source.corpus, source.part), paths.cuts(source.corpus, source.part)):
            there = beside.relative_to(paths.root).as_posix() in listed
            further.append(listed_artifact(beside, paths, listed) if there else None)
        return cls(source, signals, decisions, *further)


def listed_artifact(path: Path, paths: RunPaths, listed: Mapping[str, Any]) -> Artifact:
    """A file of a finished run, as the artifacts of its manifest list it.

    Raises:
        ValueError: they do not.
    """
    name = path.relative_to(paths.root).as_posix()
    if name not in listed:
        raise ValueError(f"{paths.root} has no {name}; finish the run with `fox1 curate`")
    return Artifact(str(path), **listed[name])


class Choice(Protocol):
    """Which documents are read, where it is not the kept ones."""

    @property
    def decisions(self) -> Sequence[str]:
        """The columns of `decisions/` that say so, and that are returned along."""

    @property
    def signals(self) -> Sequence[str]:
        """The columns of `signals/` that say so."""

    def of(self, file: SourceFile, decisions: pa.Table, signals: pa.Table) -> pa.Array | pa.ChunkedArray:
        """Whether each of some documents of a file is read, as booleans."""


@dataclass(frozen=True)
class Survivors:
    """Kept or chosen documents of a batch of rows, in row order."""

    file: SourceFile
    text: pa.LargeStringArray
    """The edited text."""
    rows: pa.RecordBatch
    """The same rows as the source has them (`TEXT_SCHEMA`), their text raw."""
    doc_ids: np.ndarray
    """uint64 [n]."""
    facts: pa.Table
    """The requested columns of `signals/`, and those of `decisions/` that a choice names."""

    subset: pa.StringArray
    """As scan stored it."""


def read_survivors(
    files: Sequence[DecidedFile], columns: Sequence[str] = (), choice: Choice | None = None
) -> Iterator[Survivors]:
    """Kept documents of some files, batch by batch; batches without any are left out.

    Args:
        columns: columns of `signals/` to return along.
        choice: which documents to read instead of the kept ones.

    Raises:
        ValueError: a source file does not hold the rows and texts that were scanned.
    """
    for survivors in survivors_of_each(files, columns, choice):
        yield from survivors


def survivors_of_each(
    files: Sequence[DecidedFile], columns: Sequence[str] = (), choice: Choice | None = None
) -> Iterator[Iterator[Survivors]]:
    """The same file by file; each one's are to be taken before the next one is."""
    kept = [_Kept(f, columns, choice) for f in files]
    read = read_each([f.source for f in files], [k.numbers for k in kept])
    for decided, known, (_, batches) in zip(files, kept, read, strict=True):
        yield _survivors(decided, known, batches)


KEPT_ROWS = 16_384
"""Rows of which is read at once whether they are kept."""


class _Kept:
    """What scan and dedupe say of the kept rows of a file, read as far as the file itself is."""

    def __init__(self, decided: DecidedFile, columns: Sequence[str], choice: Choice | None) -> None:
        """
        Args:
            columns: of `signals/`, besides those that every reader needs.
            choice: None: the kept rows.
        """
        self._decided, self._choice = decided, choice
        self._said = [name for name in choice.decisions if name not in ("row", "doc_id")] if choice else []
        self._columns = ["edits", "subset", TEXT_HASH, *columns]
        self.facts = [*columns, *self._said]
        """The columns that are returned along."""
        self._held: list[pa.Table] = []
        self.numbers = self._read()
        """Numbers of the kept rows, int64, some at a time: what is read of the file."""

    def _read(self) -> Iterator[np.ndarray]:
        looked_at = [*self._columns, *(self._choice.signals if self._choice else ())]
        signals = open_columns(self._decided.signals.file, beside=self._decided.beside)
        with open_columns(self._decided.decisions.file) as stored, signals as scan:
            decisions = RowCursor(stored, ["row", "doc_id", *(self._said if self._choice else ["kept"])])
            facts = RowCursor(scan, list(dict.fromkeys(looked_at)))
            for _ in range(0, stored.metadata.num_rows, KEPT_ROWS):
                decided, fact = decisions.take(KEPT_ROWS), facts.take(KEPT_ROWS)
                kept = self._choice.of(self._decided.source, decided, fact) if self._choice else decided.column("kept")
                decided = decided.select(["row", "doc_id", *self._said]).filter(kept)
                fact = fact.select(self._columns).filter(kept)
                for name in self._columns:
                    decided = decided.append_column(fact.schema.field(name), fact.column(name))
                self._held.append(decided)
                yield decided.column("row").to_numpy()

    def take(self, rows: int) -> pa.Table:
        """What is said of the next kept rows, which were read."""
        held = pa.concat_tables(self._held)
        self._held = [held.slice(rows)]
        return held.slice(0, rows).combine_chunks()

    def left(self) -> int:
        """How many kept rows were not taken, those that were never read included."""
        return sum(t.num_rows for t in self._held) + sum(map(len, self.numbers))


def _survivors(decided_file: DecidedFile, known: _Kept, batches: Iterator[pa.RecordBatch]) -> Iterator[Survivors]:
    """Those of one file, of the kept rows that it gives now."""
    file, signals = decided_file.source, decided_file.signals.file
    check_unchanged(file)
    check_scanned(signals)
    read = 0
    for rows in batches:
        fact = known.take(rows.num_rows)
        read += rows.num_rows
        if not fact.column("row").combine_chunks().equals(rows.column("row")):
            raise not_scanned(file.name, signals)
        hashes = fact.column(TEXT_HASH).combine_chunks()
        check_texts(file, rows.column("row"), rows.column("text"), hashes, signals)
        yield Survivors(
            file,
            apply_edits(rows.column("text"), fact.column("edits").combine_chunks()),
            rows,
            fact.column("doc_id").combine_chunks().to_numpy(),
            fact.select(known.facts),
            fact.column("subset").combine_chunks(),
        )
    check_unchanged(file)
    if left := known.left():
        # It may be a failure of the store, which ended the file too soon: the task is retried.
        raise OSError(
            f"{file.name} gave {read:,} of its {read + left:,} kept rows; put the file back as it was, or delete {signals} and "
            "run `fox1 curate` again to scan what it holds now"
        )

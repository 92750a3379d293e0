"""The second read of the text: documents that the decisions keep, with their edits applied."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from ..run.artifacts import Artifact, RunPaths
from ..run.columns import open_columns
from ..run.identity import SourceFile
from ..run.parquet_rows import RowCursor
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

    @classmethod
    def of_run(cls, source: SourceFile, paths: RunPaths, listed: Mapping[str, Any]) -> DecidedFile:
        """A file of a finished run.

        Args:
            listed: the artifacts of its manifest.

        Raises:
            ValueError: the run has not decided the file.
        """
        tables = (paths.signals(source.corpus, source.part), paths.decisions(source.corpus, source.part))
        return cls(source, *(listed_artifact(path, paths, listed) for path in tables))


def listed_artifact(path: Path, paths: RunPaths, listed: Mapping[str, Any]) -> Artifact:
    """A file of a finished run, as the artifacts of its manifest list it.

    Raises:
        ValueError: they do not.
    """
    name = path.relative_to(paths.root).as_posix()
    if name not in listed:
        raise ValueError(f"{paths.root} has no {name}; finish the run with `fox1 curate`")
    return Artifact(str(path), **listed[name])


@dataclass(frozen=True)
class Survivors:
    """Kept documents of a batch of rows, in row order."""

    file: SourceFile
    text: pa.LargeStringArray
    """The edited text."""
    rows: pa.RecordBatch
    """The same rows as the source has them (`TEXT_SCHEMA`), their text raw."""
    doc_ids: np.ndarray
    """uint64 [n]."""
    facts: pa.Table
    """The requested columns of `signals/`."""

    subset: pa.StringArray
    """As scan stored it."""


def read_survivors(files: Sequence[DecidedFile], columns: Sequence[str] = ()) -> Iterator[Survivors]:
    """Kept documents of some files, batch by batch; batches without any are left out.

    Args:
        columns: columns of `signals/` to return along.

    Raises:
        ValueError: a source file does not hold the rows and texts that were scanned.
    """
    for survivors in survivors_of_each(files, columns):
        yield from survivors


def survivors_of_each(files: Sequence[DecidedFile], columns: Sequence[str] = ()) -> Iterator[Iterator[Survivors]]:
    """The same file by file; each one's are to be taken before the next one is."""
    for decided, (_, batches) in zip(files, read_each([f.source for f in files]), strict=True):
        yield _survivors(decided, batches, columns)


def _survivors(
    decided_file: DecidedFile, batches: Iterator[pa.RecordBatch], columns: Sequence[str]
) -> Iterator[Survivors]:
    """Those of one file, of the rows that it gives now."""
    file = decided_file.source
    check_unchanged(file)
    signals = decided_file.signals.file
    check_scanned(signals)
    with open_columns(decided_file.decisions.file) as stored, open_columns(signals) as scan:
        decisions = RowCursor(stored, ["row", "doc_id", "kept"])
        facts = RowCursor(scan, ["edits", "subset", TEXT_HASH, *columns])
        read, scanned = 0, stored.metadata.num_rows
        for batch in batches:
            decided, fact = decisions.take(batch.num_rows), facts.take(batch.num_rows)
            read += batch.num_rows
            if not decided.column("row").combine_chunks().equals(batch.column("row")):
                raise not_scanned(file.name, signals)
            kept = decided.column("kept").combine_chunks()
            rows = batch.filter(kept)
            if rows.num_rows:
                fact = fact.filter(kept).combine_chunks()
                hashes = fact.column(TEXT_HASH).combine_chunks()
                check_texts(file, rows.column("row"), rows.column("text"), hashes, signals)
                yield Survivors(
                    file,
                    apply_edits(rows.column("text"), fact.column("edits").combine_chunks()),
                    rows,
                    decided.column("doc_id").combine_chunks().filter(kept).to_numpy(),
                    fact.select(columns),
                    fact.column("subset").combine_chunks(),
                )
    check_unchanged(file)
    if read != scanned:
        # It may be a failure of the store, which ended the file too soon: the task is retried.
        raise OSError(
            f"{file.name} gave {read:,} rows, but the scan had read {scanned:,}; put the file back as it was, or "
            f"delete {signals} and run `fox1 curate` again to scan what it holds now"
        )

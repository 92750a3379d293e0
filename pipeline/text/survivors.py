"""The second read of the text: documents that the decisions keep, with their edits applied."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ..run.artifacts import Artifact, RunPaths
from ..run.identity import SourceFile
from ..sources.listing import check_unchanged
from ..sources.quarantine import Quarantine
from ..sources.rows import read_rows
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
        found = []
        for path in (paths.signals(source.corpus, source.part), paths.decisions(source.corpus, source.part)):
            name = path.relative_to(paths.root).as_posix()
            if name not in listed:
                raise ValueError(f"{paths.root} has no {name}; finish the run with `fox1 curate`")
            found.append(Artifact(str(path), **listed[name]))
        return cls(source, *found)


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
    for decided_file in files:
        file = decided_file.source
        check_unchanged(file)
        decisions = pq.read_table(decided_file.decisions.file, columns=["row", "doc_id", "kept"])
        signals = decided_file.signals.file
        check_scanned(signals)
        facts = pq.read_table(signals, columns=["edits", "subset", TEXT_HASH, *columns])
        at = 0
        for batch in read_rows(file, Quarantine(file)):
            n = batch.num_rows
            decided, fact = decisions.slice(at, n).combine_chunks(), facts.slice(at, n).combine_chunks()
            at += n
            if not decided.column("row").combine_chunks().equals(batch.column("row")):
                raise not_scanned(file.name, signals)
            kept = decided.column("kept").combine_chunks()
            rows = batch.filter(kept)
            if rows.num_rows:
                stored = fact.filter(kept).combine_chunks()
                scanned = stored.column(TEXT_HASH).combine_chunks()
                check_texts(file, rows.column("row"), rows.column("text"), scanned, signals)
                yield Survivors(
                    file,
                    apply_edits(rows.column("text"), stored.column("edits").combine_chunks()),
                    rows,
                    decided.column("doc_id").combine_chunks().filter(kept).to_numpy(),
                    stored.select(columns),
                    stored.column("subset").combine_chunks(),
                )
        check_unchanged(file)
        if at != decisions.num_rows:
            # It may be a failure of the store, which ended the file too soon: the task is retried.
            raise OSError(
                f"{file.name} gave {at:,} rows, but the scan had read {decisions.num_rows:,}; put the file back as it was, or "
                f"delete {signals} and run `fox1 curate` again to scan what it holds now"
            )

"""The second read of the text: documents that the decisions keep, with their edits applied."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ..run.artifacts import RunPaths
from ..run.identity import SourceFile
from ..sources.listing import check_unchanged
from ..sources.quarantine import Quarantine
from ..sources.rows import read_rows
from .edits import apply_edits


@dataclass(frozen=True)
class Survivors:
    """Kept documents of a batch of rows, in row order."""

    file: SourceFile
    text: pa.LargeStringArray
    """Edited."""
    rows: pa.RecordBatch
    """What the source says of them (`TEXT_SCHEMA`), the text raw."""
    doc_ids: np.ndarray
    """uint64 [n]."""
    facts: pa.Table
    """The columns of signals that were asked for."""

    @property
    def subset(self) -> pa.StringArray:
        return self.rows.column("subset")


def read_survivors(files: Sequence[SourceFile], paths: RunPaths, columns: Sequence[str] = ()) -> Iterator[Survivors]:
    """Kept documents of some files, batch by batch; batches without any are left out.

    Args:
        columns: of signals.

    Raises:
        ValueError: a source file is not the one that was scanned.
    """
    for file in files:
        check_unchanged(file)
        decisions = pq.read_table(paths.decisions(file.corpus, file.path), columns=["row", "doc_id", "kept"])
        facts = pq.read_table(paths.signals(file.corpus, file.path), columns=["edits", *columns])
        at = 0
        for batch in read_rows(file, Quarantine(file)):
            n = batch.num_rows
            decided, fact = decisions.slice(at, n).combine_chunks(), facts.slice(at, n).combine_chunks()
            at += n
            if not decided.column("row").combine_chunks().equals(batch.column("row")):
                raise ValueError(f"{file.name} is not the file that was scanned; run again to plan with the new one")
            kept = decided.column("kept").combine_chunks()
            rows = batch.filter(kept)
            if rows.num_rows:
                its = fact.filter(kept).combine_chunks()
                yield Survivors(
                    file,
                    apply_edits(rows.column("text"), its.column("edits").combine_chunks()),
                    rows,
                    decided.column("doc_id").combine_chunks().filter(kept).to_numpy(),
                    its.drop_columns(["edits"]),
                )
        check_unchanged(file)
        if at != decisions.num_rows:
            # A transient failure of the store, since size and version are those of the scan.
            raise OSError(f"{file.name} gave {at} rows, the scan read {decisions.num_rows}")

"""Texts that a run has stored: what the steps of `before_scan` made of the rows of a source.

    extracted/<corpus>/<file>.parquet    the rows of a file, or of a piece of one, in their order

Everything that reads text reads this table in place of the file, so that no row is extracted twice. No row is missing that could
be read: one that a step dropped stands here as well, with the text that the step was given.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from ..run.artifacts import Artifact, row_groups
from ..run.columns import open_columns
from ..run.identity import SourceFile
from ..run.paths import RunPaths
from .text_schema import TEXT_SCHEMA

DROPPED_BY, DROPPED_WHY = "before_scan", "before_scan_reason"
"""Columns, of `signals/` as well: the step that dropped the document, and its reason; both empty where none did."""
RAW_HASH, RAW_BYTES = "raw_hash", "raw_bytes"

_READ = (*TEXT_SCHEMA.names, DROPPED_BY, DROPPED_WHY)
SCHEMA = pa.schema(
    [
        *TEXT_SCHEMA,
        pa.field(DROPPED_BY, pa.string(), nullable=False),
        pa.field(DROPPED_WHY, pa.string(), nullable=False),
        pa.field(
            RAW_HASH,
            pa.binary(16),
            nullable=False,
            metadata={"encoding": "BLAKE3 of the UTF-8 of the row's text in its file, first 128 bits; v1"},
        ),
        pa.field(RAW_BYTES, pa.int64(), nullable=False),
    ]
)
"""One row for each readable row of the file. Row groups hold at most 4,096 of them, and end with the one that brings their text to
8 MiB."""


def with_extracted(file: SourceFile, paths: RunPaths, listed: Mapping[str, Any]) -> SourceFile:
    """A file of a finished run with the texts that the run has stored of it, if it has any.

    Args:
        listed: the artifacts of its manifest.
    """
    path = paths.extracted(file.corpus, file.part)
    name = path.relative_to(paths.root).as_posix()
    return replace(file, extracted=Artifact(str(path), **listed[name])) if name in listed else file


def extracted_rows(table: Artifact) -> Iterator[pa.RecordBatch]:
    """The rows of a table as a source gives them, with `DROPPED_BY` and `DROPPED_WHY`: a row group at a time."""
    with open_columns(table.file) as file:
        for group in range(file.num_row_groups):
            rows = file.read_row_group(group, _READ).select(_READ).combine_chunks()
            yield from rows.to_batches()


def extracted_row(table: Artifact, row: int, columns: Sequence[str] = SCHEMA.names) -> pa.RecordBatch | None:
    """One row of `SCHEMA`, or some columns of it, `row` among them, by its number in the file; None if the table has none."""
    for file, group in row_groups(table.file, "row", row, row):
        rows = file.read_row_group(group, columns).select(columns)
        found = rows.filter(pc.equal(rows.column("row"), row)).combine_chunks()
        if found.num_rows:
            return found.to_batches()[0]
    return None


def only_kept(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Rows of a source without those that a step of `before_scan` dropped."""
    return batch.filter(pc.equal(batch.column(DROPPED_BY), "")) if DROPPED_BY in batch.schema.names else batch

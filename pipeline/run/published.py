"""What a run has published, as columns: a hundred bytes for each of a million files, where an `Artifact` takes five times as much.

While a run goes on, its driver holds such a table for every step; in the manifest there is one for every folder of the run
(`manifest.py`), and readers open those that they need.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import pyarrow as pa
import pyarrow.compute as pc

from .artifacts import Artifact

SCHEMA = pa.schema(
    [
        pa.field("path", pa.string(), nullable=False),
        pa.field("bytes", pa.int64(), nullable=False),
        pa.field("rows", pa.int64(), nullable=False),
        pa.field("hash", pa.string(), nullable=False),
        pa.field("modified", pa.int64(), nullable=False),
    ]
)
"""The fields of `Artifact`; paths are relative to the run."""
LISTED = pa.schema([field for field in SCHEMA if field.name != "modified"])
"""What a manifest says of a file: nothing that depends on when it was written."""


def table_of(artifacts: Iterable[tuple[str, Artifact]]) -> pa.Table:
    """Artifacts by their names in the run, as a table of `SCHEMA`."""
    facts = [(name, a.bytes, a.rows, a.hash, a.modified) for name, a in artifacts]
    columns = zip(*facts, strict=True) if facts else [()] * len(SCHEMA)
    return pa.Table.from_arrays(
        [pa.array(column, field.type) for column, field in zip(columns, SCHEMA, strict=True)], schema=SCHEMA
    )


def written_on_disk(table: pa.Table) -> Iterator[tuple[str, str, int]]:
    """(name, hash, time in nanoseconds) of the files that can be changed in place: those on a disk."""
    chosen = table.filter(pc.not_equal(table.column("modified"), 0))
    for batch in chosen.select(["path", "hash", "modified"]).to_batches(4096):
        yield from zip(*(column.to_pylist() for column in batch.columns), strict=True)


def below(table: pa.Table, folder: str) -> pa.Table:
    """The files of a folder of the run."""
    return table.filter(pc.starts_with(table.column("path"), f"{folder}/"))


def sorted_by_path(tables: Iterable[pa.Table]) -> pa.Table:
    """All files of some tables by their names, with the columns of `LISTED`; of two of one name, the later."""
    table = pa.concat_tables([LISTED.empty_table(), *(t.select(LISTED.names) for t in tables)]).combine_chunks()
    table = table.take(pc.sort_indices(table.column("path"))).combine_chunks()
    paths = table.column("path")
    if len(paths) < 2:
        return table
    last = pc.not_equal(paths.slice(0, len(paths) - 1), paths.slice(1))
    return table.filter(pa.chunked_array([*last.chunks, pa.array([True])]))

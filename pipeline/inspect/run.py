"""A finished run, opened by its manifest: from names to documents, their facts, ids and text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ...storage.store import open_root
from ...tokenize.model import TokenizerSettings
from ...tokenize.shards import token_batches
from ..run.artifacts import ROW_GROUP_ROWS, RunPaths, read_json, row_groups
from ..run.identity import MAX_ROWS, ROW_BITS, SourceFile, group_files
from ..text.excerpts import raw_text


class Run:
    """A finished run, by its manifest."""

    def __init__(self, paths: RunPaths, sources: Callable[[], Sequence[SourceFile]] = tuple) -> None:
        """`sources`: the files as planning lists them; asked for where a text is to be read."""
        self.paths = paths
        self.manifest = read_json(paths.manifest)
        self.files = {f["file_hash"]: SourceFile.from_table(f) for f in self.manifest["files"]}
        self._sources = sources
        self._opened: dict[int, SourceFile] = {}
        """File hash -> file as listed, once a text was asked for."""
        self._groups: dict[int, str] = {}
        """File hash -> name of its group in its corpus."""

    @property
    def tokenizer(self) -> TokenizerSettings:
        """How the run's text became tokens."""
        return TokenizerSettings.from_json(self.manifest["tokenizer"])

    def doc_id(self, name: str) -> int:
        """The id of `corpus/file#row`, or of an id given as a number.

        Raises:
            ValueError: the run has no such file; the message shows one it has.
        """
        if name.isdigit():
            return int(name)
        path, _, row = name.rpartition("#")
        found = next((f for f in self.files.values() if f.name == path), None)
        if found is None or not row.isdigit():
            example = next(iter(self.files.values())).name
            raise ValueError(
                f"{name}: write corpus/file#row with a file of the run, such as {example}#0, or a document id"
            )
        return found.file_hash << ROW_BITS | int(row)

    def file(self, doc_id: int) -> SourceFile:
        """Raises ValueError if no file of the run holds the document."""
        found = self.files.get(doc_id >> ROW_BITS)
        if found is None:
            raise ValueError(f"document {doc_id} is in no file of {self.paths.root}")
        return found

    def name(self, doc_id: int) -> str:
        """`corpus/file#row`; of a document of another run, its id."""
        found = self.files.get(doc_id >> ROW_BITS)
        return f"{found.name}#{doc_id % MAX_ROWS}" if found else f"document {doc_id} of the run in `against`"

    def text(self, doc_id: int) -> pa.LargeStringArray:
        """The raw text of a document, read from its source.

        Raises:
            ValueError: the source is gone or has no such row.
        """
        if not self._opened:
            self._opened = {f.file_hash: f for f in self._sources()}
        file = self._opened.get(self.file(doc_id).file_hash)
        text = raw_text(file, doc_id % MAX_ROWS) if file else None
        if text is not None:
            return text
        raise ValueError(f"{self.name(doc_id)} cannot be read from its source any more")

    def ids(self, doc_id: int, subset: str) -> list[int] | None:
        """The ids of a kept document, without BOS and EOS, from its token shard; None if the run has it no more."""
        if not self._groups:
            for group in group_files(list(self.files.values())):
                self._groups |= {f.file_hash: group.name.split("/")[1] for f in group.files}
        file = self.file(doc_id)
        shard = self.paths.tokens(file.corpus, subset, self._groups[file.file_hash])
        if not shard.exists():
            return None
        for batch in token_batches(shard):
            at = place_of(batch.column("doc_id"), doc_id)
            if at >= 0:
                found: list[int] = batch.column("input_ids")[at].as_py()
                return found
        return None


def phase_names(paths: RunPaths) -> list[str]:
    """The phases of a finished run, in order."""
    return [phase["name"] for phase in read_json(paths.stats("mixture"))["phases"]]


def phase_named(names: Sequence[str], asked: str | int) -> str:
    """The name of a phase, from its name or its number from 1.

    Raises:
        ValueError: there is none.
    """
    asked = str(asked)
    if asked in names:
        return asked
    if asked.isdigit() and 1 <= int(asked) <= len(names):
        return names[int(asked) - 1]
    raise ValueError(f"the run has no phase {asked}; it has {', '.join(names)}, by number from 1 or by name")


def shard_set(paths: RunPaths, asked: str | int) -> Path:
    """The folder of a phase by name or number, or of `held_out`.

    Raises:
        ValueError: the run has no such phase.
    """
    return paths.held_out if asked == "held_out" else paths.phase(phase_named(phase_names(paths), asked))


def stored_run(name: str) -> Path | None:
    """The folder of a run by its path or URL; None where that is something else, such as a recipe's name."""
    root = open_root(name)
    return root if RunPaths(root).recipe.exists() else None


def index_parts(paths: RunPaths, manifest: dict[str, Any], kind: str = "blocks") -> list[Path]:
    """The parts of an index of a run, in order."""
    return [paths.root / n for n in sorted(manifest["artifacts"]) if n.startswith(f"index/{kind}-")]


def take_rows(path: Path, rows: Sequence[int]) -> dict[int, pa.RecordBatch]:
    """Rows of a Parquet file of ours by their places, each row group read once."""
    found: dict[int, pa.RecordBatch] = {}
    with pq.ParquetFile(path) as file:
        for group in sorted({row // ROW_GROUP_ROWS for row in rows}):
            table = file.read_row_group(group).combine_chunks()
            for row in rows:
                if row // ROW_GROUP_ROWS == group:
                    found[row] = table.slice(row % ROW_GROUP_ROWS, 1).to_batches()[0]
    return found


def row_of(path: Path, doc_id: int, columns: Sequence[str] | None = None) -> pa.RecordBatch | None:
    """The row of a document in a Parquet file of ours, found by the statistics of its row groups.

    Args:
        columns: in this order; None: all.

    Returns:
        None if the file has no such row, or is not there (yet).
    """
    if not path.exists():
        return None
    for file, group in row_groups(path, "doc_id", doc_id, doc_id):
        at = place_of(file.read_row_group(group, columns=["doc_id"]).column(0), doc_id)
        if at >= 0:
            table = file.read_row_group(group, columns=columns).slice(at, 1).combine_chunks()
            return table.select(columns).to_batches()[0] if columns else table.to_batches()[0]
    return None


def place_of(ids: pa.Array | pa.ChunkedArray, doc_id: int) -> int:
    """Where a document first stands in a column of ids; -1 if it is not there."""
    at = np.flatnonzero(uint64s(ids) == doc_id)
    return int(at[0]) if len(at) else -1


def uint64s(column: pa.Array | pa.ChunkedArray) -> np.ndarray:
    """A column of uint64 without nulls as numpy. Not `to_numpy`: that imports pandas, which takes longer than a lookup."""
    parts = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
    views = [np.frombuffer(part.buffers()[1], np.uint64)[part.offset : part.offset + len(part)] for part in parts]
    return np.concatenate([np.empty(0, np.uint64), *views])

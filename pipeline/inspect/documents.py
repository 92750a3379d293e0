"""The documents of a run as one table, for conditions and queries: what was decided of each, and its signals.

    document       corpus/file#row, as every command takes it          doc_id        its id
    corpus, file, row, subset, domain                                  held_out      its file is held out
    host           of its URL, or empty
    language, quality (0 to 1), timestamp (seconds)
    kept           whether the run keeps it                            reason        the first rule that drops it, or empty
    reasons        all rules that it fails                             duplicate_of  id of the copy that is kept, or 0
    similarity, kind (exact, near), cluster_size
    and every signal by the name that rules bound it by: words, chars, mean_word_length, ...; plug-ins as plugin_NAME,
    scores of others as score_NAME, null where a document has none; the step before the scan that dropped the document, and its
    reason, as before_scan and before_scan_reason

A row is one document; rows that could not be read are in no table. What is read are the columns that are asked for, some rows at
a time.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ...storage.store import shown
from ..run.columns import Columns as OpenColumns
from ..run.columns import open_columns
from ..run.identity import SourceFile
from ..run.parquet_rows import RowCursor
from ..run.paths import RunPaths
from ..run.schemas import DECISION_SCHEMA
from ..signals.ratios import SIGNAL_COUNTS, SIGNALS
from ..signals.scores import PREFIX
from ..sources.extracted import DROPPED_BY, DROPPED_WHY

BATCH_ROWS = 1 << 16
"""Rows that are in memory at a time."""
_STORED = ("subset", "domain", "language", "host", "timestamp")
"""Columns of `signals/` that are handed on as they are."""
_SAID = (DROPPED_BY, DROPPED_WHY)
"""The same, but runs of earlier versions have none."""
_DECIDED = ("doc_id", "row", "kept", "reason", "reasons", "duplicate_of", "similarity", "kind", "cluster_size")
"""The same of `decisions/`."""


@dataclass(frozen=True)
class Reads:
    """What has to be read for some columns of the table."""

    decisions: tuple[str, ...]
    signals: tuple[str, ...]


class Columns:
    """The columns of the table of a run, from the schema of its `signals/`."""

    def __init__(self, signals: pa.Schema) -> None:
        """
        Args:
            signals: columns of `signals/`: all, or at least those that `reads` names.
        """
        self._counts = [name for name in SIGNAL_COUNTS if name in signals.names]
        # Runs of earlier versions have no hosts.
        stored = (name for name in _STORED if name != "host" or name in signals.names)
        said = [name for name in signals.names if name in _SAID or name.startswith(("plugin_", PREFIX))]
        plugins = {name: signals.field(name).type for name in said}
        self._plain = (*stored, *plugins)
        one = {name: np.ones(1, np.int64) for name in SIGNAL_COUNTS}
        # Runs of earlier versions lack some counts.
        formed = {name: make for name, make in SIGNALS.items() if set(counts_behind(name)) <= set(self._counts)}
        ratios = {name: pa.float64() if _is_real(make(one)) else pa.int64() for name, make in formed.items()}
        types = {
            "document": pa.string(),
            "doc_id": pa.uint64(),
            "corpus": pa.string(),
            "file": pa.string(),
            "row": pa.int64(),
            **dict.fromkeys((name for name in _STORED[:4] if name in self._plain), pa.string()),
            "quality": pa.float64(),
            **{name: DECISION_SCHEMA.field(name).type for name in _DECIDED[2:]},
            "held_out": pa.bool_(),
            "timestamp": pa.int64(),
            **{name: kind for name, kind in ratios.items() if name != "quality"},
            **plugins,
        }
        self.schema = pa.schema([pa.field(name, kind) for name, kind in types.items()])

    def named_in(self, sql: str) -> list[str]:
        """The columns that a piece of SQL may name, in the order of the table: those whose names stand in it as words; all where
        it has a star that is not that of a count."""
        if "*" in re.sub(r"count\s*\(\s*\*\s*\)", "", sql, flags=re.IGNORECASE):
            return list(self.schema.names)
        words = {word.lower() for word in re.findall(r"\w+", sql)}
        return [name for name in self.schema.names if name.lower() in words]

    def reads(self, names: Sequence[str]) -> Reads:
        """What has to be read for some columns."""
        signals = [name for name in names if name in self._plain]
        formed = {count for name in names if name in SIGNALS for count in counts_behind(name)}
        signals += [count for count in self._counts if count in formed]
        decisions = [name for name in names if name in _DECIDED]
        if "document" in names and "row" not in decisions:
            decisions.append("row")
        return Reads(tuple(decisions or ["row"]), tuple(signals))

    def table(self, names: Sequence[str], file: SourceFile, decisions: pa.Table, signals: pa.Table) -> pa.Table:
        """Some columns of documents of a file.

        Args:
            decisions, signals: what `reads` names of the same rows.
        """
        n = decisions.num_rows
        counts = {name: signals.column(name).to_numpy() for name in self._counts if name in signals.column_names}

        def column(name: str) -> Any:
            if name in _DECIDED:
                return decisions.column(name)
            if name in self._plain:
                return signals.column(name)
            if name == "document":
                rows = decisions.column("row").cast(pa.string())
                return pc.binary_join_element_wise(pa.scalar(f"{file.name}#"), rows, "")
            if name == "quality":
                return pa.array(counts["quality"] / 65_535)
            if name in SIGNALS:
                return pa.array(SIGNALS[name](counts)).cast(self.schema.field(name).type)
            of_file: Mapping[str, Any] = {"corpus": file.corpus, "file": file.path, "held_out": file.held_out}
            return pa.repeat(pa.scalar(of_file[name], self.schema.field(name).type), n)

        fields = pa.schema([self.schema.field(name) for name in names])
        return pa.table([column(name) for name in names], schema=fields)


class _Asked(dict[str, np.ndarray]):
    """Counts of a document, of which it is noted which were asked for."""

    def __missing__(self, name: str) -> np.ndarray:
        return self.setdefault(name, np.ones(1, np.int64))


@cache
def counts_behind(signal: str) -> tuple[str, ...]:
    """The stored counts that a signal is formed from."""
    asked = _Asked()
    SIGNALS[signal](asked)
    return tuple(asked)


def _is_real(values: np.ndarray) -> bool:
    return values.dtype.kind == "f"


class DocumentTable:
    """The documents of a run, read anew whenever they are asked for: an Arrow stream."""

    def __init__(self, paths: RunPaths, files: Sequence[SourceFile]) -> None:
        self._paths = paths
        self.files = tuple(sorted(files, key=lambda file: (file.corpus, file.path, file.first_id)))

    @cached_property
    def columns(self) -> Columns:
        """Raises ValueError where the run has no documents, or has not decided on them."""
        if not self.files:
            raise ValueError(f"{shown(self._paths.root)} has no documents")
        scanned, beside, _ = self._of(self.files[0])
        with open_columns(scanned, beside=beside) as signals:
            return Columns(signals.schema_arrow)

    def _of(self, file: SourceFile) -> tuple[Path, tuple[Path, ...], Path]:
        """(signals, what stands beside them, decisions) of a file."""
        places = self._paths.signals(file.corpus, file.part), self._paths.decisions(file.corpus, file.part)
        if gone := next((path for path in places if not path.exists()), None):
            raise ValueError(f"{shown(gone)} is missing; copy the whole run, or run `fox1 curate` again to finish it")
        scores = self._paths.scores(file.corpus, file.part)
        return places[0], (scores,) if scores.exists() else (), places[1]

    def batches(self, names: Sequence[str]) -> Iterator[pa.Table]:
        """Some columns of all documents, by file and row, `BATCH_ROWS` at a time."""
        for file in self.files:
            yield from self.batches_of(file, names)

    def batches_of(self, file: SourceFile, names: Sequence[str]) -> Iterator[pa.Table]:
        """The same of the documents of one file."""
        reads = self.columns.reads(names)
        scanned, beside, decided = self._of(file)
        # DuckDB has a stream read by a thread of Arrow's pool, which would wait for others of the pool.
        facts_of = open_columns(scanned, threads=False, beside=beside)
        with facts_of as signals, open_columns(decided, threads=False) as decisions:
            facts, said = RowCursor(signals, reads.signals or ["row"]), RowCursor(decisions, reads.decisions)
            while (some := said.take(BATCH_ROWS)).num_rows:
                yield self.columns.table(names, file, some, facts.take(BATCH_ROWS))

    def take(self, file: SourceFile, places: np.ndarray, names: Sequence[str]) -> pa.Table:
        """Some columns of a few documents of a file; row groups without one of them are not read.

        Args:
            places: int64, ascending: where they stand among the documents of the file.
        """
        reads = self.columns.reads(names)
        scanned, beside, decided = self._of(file)
        with open_columns(scanned, beside=beside) as signals, open_columns(decided) as decisions:
            facts = _rows_at(signals, places, reads.signals or ["row"])
            said = _rows_at(decisions, places, reads.decisions)
        return self.columns.table(names, file, said, facts)


def _rows_at(file: OpenColumns, places: np.ndarray, columns: Sequence[str]) -> pa.Table:
    """Rows of an open Parquet file by their places, which ascend."""
    parts, begin = [file.schema_arrow.empty_table().select(columns)], 0
    for group in range(file.num_row_groups):
        end = begin + file.metadata.row_group(group).num_rows
        first, last = np.searchsorted(places, [begin, end])
        if first < last:
            rows = file.read_row_group(group, columns).select(columns)
            parts.append(rows.take(pa.array(places[first:last] - begin)))
        begin = end
    return pa.concat_tables(parts).combine_chunks()

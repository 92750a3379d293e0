"""`fox1 find`: from a URL, a native id or a content hash to documents and what became of them.

`mix/lookup_index.py` writes the indices that are read here: one row group of one file per lookup.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ...storage.store import shown
from ..engine.shuffle import by_hash_range
from ..filter.exclude import host_of, index_key, read_entries
from ..filter.judge import signal_batches
from ..run.artifacts import row_groups
from ..run.identity import TOKENS
from ..run.parquet_rows import row_of, uint64s
from ..signals.content import ALGORITHM, algorithm_of, parsed, written
from ..signals.hosts import entries_above, host_key
from ..signals.scan import content_hashes
from .provenance import Placed, placed
from .run import FinishedRun, index_parts


@dataclass(frozen=True)
class Found:
    """A document that was found, and whether it or its kept copy was trained on."""

    name: str
    doc_id: int
    decision: dict[str, Any]
    blocks: list[Placed]
    copy: str
    """The kept document that stands for it, if it was dropped as a duplicate."""
    copy_blocks: list[Placed]

    @property
    def trained_on(self) -> bool:
        return bool(self.blocks or self.copy_blocks)


def find(run: FinishedRun, kind: str, value: str) -> list[Found]:
    """Documents with a URL (normalised as by the scan), a native id or a content hash (as it is written, or of a text).

    Args:
        kind: one of `mix.lookup_index.KINDS`, or `text` for the documents with this text's content hash.

    Raises:
        ValueError: the run has no index, `value` is not a hash, or the run has hashes of an earlier version.
    """
    if kind == "text":
        kind, value = "hash", written(content_hashes(pa.array([value], pa.large_string()))[0].as_py())
    if kind == "hash":
        whole = parsed(value)
        _check_hashes(run)
    found = []
    for doc_id in _look_up(run, kind, index_key(kind, value)):
        file = run.file(doc_id)
        if kind == "hash":
            signals = _row(run, run.paths.signals(file.corpus, file.part), doc_id, ["content_hash"])
            if signals is None or signals.column("content_hash")[0].as_py() != whole:
                continue
        found.append(describe(run, doc_id))
    return found


def _check_hashes(run: FinishedRun) -> None:
    """Refuse to look for a content hash in a run that has others: a document would seem not to be there."""
    file = next(iter(run.files), None)
    if file and (theirs := algorithm_of(run.paths.signals(file.corpus, file.part))) != ALGORITHM:
        raise ValueError(
            f"{run.paths.root} was scanned by an earlier version of fox1 and has content hashes of {theirs}, not {ALGORITHM}; "
            "run `fox1 curate` on it again to find documents by content"
        )


def describe(run: FinishedRun, doc_id: int) -> Found:
    """What became of a document, and of the kept copy that stands for it.

    Raises:
        ValueError: the run lacks what says so: a part of a copy is missing, or it is not finished.
    """
    file = run.file(doc_id)
    if file.format == TOKENS:
        return Found(run.name(doc_id), doc_id, {"kept": True, "reason": ""}, placed(run, doc_id), "", [])
    path = run.paths.decisions(file.corpus, file.part)
    decision = _row(run, path, doc_id)
    if decision is None:
        raise ValueError(f"{shown(path)} has no decision on {run.name(doc_id)}; run `fox1 curate` again to rebuild it")
    if not index_parts(run.paths, run.manifest):
        raise ValueError(f"{shown(run.paths.root)} has no index of its blocks; run `fox1 curate` again to finish it")
    decided = decision.to_pylist()[0]
    copy = int(decided.get("duplicate_of") or 0)
    return Found(
        run.name(doc_id),
        doc_id,
        decided,
        placed(run, doc_id),
        run.name(copy) if copy else "",
        placed(run, copy) if copy else [],
    )


@dataclass(frozen=True)
class Listed:
    """What a run holds of an exclude list."""

    named: dict[str, list[Found]]
    """Entry -> the documents that it names; empty if the run has none."""
    copies: list[Found]
    """Documents recorded as copies of those, or that those are recorded as copies of."""


def find_listed(run: FinishedRun, listed: str) -> Listed:
    """The documents that an exclude list names, and their recorded copies. Reads the decisions of the whole run.

    Raises:
        ValueError: the list cannot be read or has a line that is not an entry.
    """
    named: dict[str, list[Found]] = {}
    for _, entry, kind, value in read_entries(listed):
        if kind == "row":
            doc_id = run.doc_id(value)
            file = run.files.get(doc_id)
            if run.given.get(doc_id):
                named[entry] = [describe(run, doc_id)] if run.given_ids(doc_id) is not None else []
                continue
            there = file and _row(run, run.paths.decisions(file.corpus, file.part), doc_id, ["doc_id"])
            named[entry] = [describe(run, doc_id)] if there else []
        elif kind == "host":
            named[entry] = [describe(run, doc_id) for doc_id in _of_host(run, value)]
        else:
            named[entry] = find(run, kind, value)
    documents = [f for found in named.values() for f in found]
    ids = np.array([f.doc_id for f in documents], np.uint64)
    heads = np.union1d(ids, np.array([int(f.decision.get("duplicate_of") or 0) for f in documents], np.uint64))
    heads = heads[heads > 0]
    copies: list[int] = []
    for file in sorted(run.files, key=lambda f: f.table) if len(heads) else ():
        table = pq.read_table(run.paths.decisions(file.corpus, file.part), columns=["doc_id", "duplicate_of"])
        own, kept = uint64s(table.column("doc_id")), uint64s(table.column("duplicate_of"))
        copies += own[(np.isin(kept, heads) | np.isin(own, heads)) & ~np.isin(own, ids)].tolist()
    return Listed(named, [describe(run, doc_id) for doc_id in copies])


def _of_host(run: FinishedRun, host: str) -> list[int]:
    """The documents of URLs of a host, or of one below it. Reads the hosts of the whole run."""
    key = np.array([host_key(host_of(host))], np.uint64)
    found: list[int] = []
    for file in sorted(run.files, key=lambda f: f.table):
        for batch in signal_batches(run.copied(run.paths.signals(file.corpus, file.part)), ["doc_id", "host"]):
            below = entries_above(batch.column("host"), key) >= 0
            found += uint64s(batch.column("doc_id"))[below].tolist()
    return found


def _row(run: FinishedRun, path: Path, doc_id: int, columns: Sequence[str] | None = None) -> pa.RecordBatch | None:
    """The row of a document in one of a run's tables; None if the table has none.

    Raises:
        ValueError: the table is missing. Without it nobody can say that a document was not trained on.
    """
    if not path.exists():
        raise ValueError(
            f"{shown(path)} is missing, so what became of a document cannot be told; copy the whole run, or run `fox1 curate` "
            "again to finish it"
        )
    return row_of(path, doc_id, columns)


def _look_up(run: FinishedRun, kind: str, key: int) -> list[int]:
    parts = index_parts(run.paths, run.manifest, kind)
    if not parts:
        raise ValueError(f"{run.paths.root} has no index of its documents; run `fox1 curate` again to write it")
    number = int(by_hash_range(np.array([key], np.uint64), len(parts))[0])
    found: list[int] = []
    for file, group in row_groups(parts[number], "key", key, key):
        table = file.read_row_group(group)
        matches = uint64s(table.column("key")) == key
        found += uint64s(table.column("doc_id"))[matches].tolist()
    return found

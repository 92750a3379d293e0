"""The decision: which documents stay, which kept document stands for each that goes; and `decisions/`.

Documents are taken in the total order; one is dropped if and only if a better one that was kept is its verified
duplicate. That is the lexicographically first independent set of the verified graph: it is unique, whatever the
schedule. Each dropped document names the best-ordered kept document among its verified duplicates.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numba import njit

from ..artifacts import DECISION_SCHEMA, RunPaths, parquet_writer
from ..engine import TASK_MEMORY, TaskResult
from ..filter import signal_batches
from ..identity import ROW_BITS, Group
from ..shuffle import RecordShuffle, read_partition, read_records
from .order import ADDS, CLASS, DROP, EDGE, EXACT, NEAR, Chunks

EDGES_IN_MEMORY = TASK_MEMORY // (4 * EDGE.itemsize)
"""Edges that one task decides: with sorting they take four times their size."""
KINDS = {EXACT: "exact", NEAR: "near"}


def decide(files: Sequence[Path], chunks: Chunks, stem: Path) -> TaskResult:
    """Walk the verified edges in order; drops go to the chunk of the dropped document.

    Raises:
        ValueError: there are more edges than one task may hold.
    """
    edges = np.concatenate([np.frombuffer(read_partition(f, 0), EDGE) for f in files] or [np.empty(0, EDGE)])
    if len(edges) > EDGES_IN_MEMORY:
        raise ValueError(
            f"{len(edges)} verified pairs exceed the {EDGES_IN_MEMORY} one task decides; "
            "raise `dedupe.jaccard` or lower `dedupe.fan_out`"
        )
    edges = edges[np.lexsort((edges["better"], edges["better_order"], edges["id"], edges["order"]))]
    ids, index = np.unique(np.concatenate([edges["id"], edges["better"]]), return_inverse=True)
    chosen = _first_independent_set(index[: len(edges)], index[len(edges) :], len(ids))
    drops = np.zeros(int((chosen >= 0).sum()), DROP)
    used = edges[chosen[chosen >= 0]]
    drops["id"], drops["by"], drops["kind"] = used["id"], used["better"], NEAR
    drops["shared"], drops["examined"] = used["shared"], used["examined"]
    out = RecordShuffle(stem, len(chunks.members), DROP)
    out.add(drops, chunks.of(drops["id"]))
    corpora = len(chunks.table.corpus_names)
    pairs = np.unique(
        np.stack(
            [
                np.r_[edges["id"], edges["better"]],
                np.r_[chunks.table.corpus_of(edges["better"]), chunks.table.corpus_of(edges["id"])].astype(np.uint64),
            ]
        ),
        axis=1,
    )
    overlap = np.zeros((corpora, corpora), np.int64)
    np.add.at(overlap, (chunks.table.corpus_of(pairs[0]), pairs[1].astype(np.int64)), 1)
    counts = {"near_duplicates": len(drops), "edges": len(edges)}
    return TaskResult(tuple(out.close()), counts, {"overlap_near": overlap.tolist()})


@njit(cache=True, nogil=True)
def _first_independent_set(worse: np.ndarray, better: np.ndarray, n: int) -> np.ndarray:
    """int64 [n]: the edge that drops a document, or -1. Edges are sorted by (worse, better) in the total order."""
    chosen = np.full(n, -1, np.int64)
    for e in range(len(worse)):
        # All edges of a better document come before: its fate is known.
        if chosen[worse[e]] < 0 and chosen[better[e]] < 0:
            chosen[worse[e]] = e
    return chosen


def resolve(near: Sequence[Path], classes: Sequence[Path], chunk: int, chunks: Chunks, stem: Path) -> TaskResult:
    """What becomes of the leaders of a chunk becomes of the exact copies behind them, wherever these are."""
    drops = read_records(near, chunk, DROP)
    drops = drops[np.argsort(drops["id"])]
    members = read_records(classes, chunk, CLASS)
    at = np.searchsorted(drops["id"], members["leader"])
    found = at < len(drops)
    found[found] = drops["id"][at[found]] == members["leader"][found]
    followers = members["id"] != members["leader"]

    behind = np.zeros(int(followers.sum()), DROP)
    behind["id"], behind["by"], behind["kind"] = members["id"][followers], members["leader"][followers], EXACT
    behind["shared"] = behind["examined"] = 1
    moved = found[followers]
    source = drops[at[followers][moved]]
    for name in ("by", "shared", "examined", "kind"):
        behind[name][moved] = source[name]

    # Every dropped document, and every copy, adds one to the cluster of the kept document it names.
    every = np.concatenate([drops, behind])
    kept, count = np.unique(every["by"], return_counts=True)
    adds = np.zeros(len(kept), DROP)
    adds["id"], adds["by"], adds["kind"] = kept, count, ADDS
    out = RecordShuffle(stem, len(chunks.members), DROP)
    out.add(every, chunks.of(every["id"]))
    out.add(adds, chunks.of(adds["id"]))
    return TaskResult(tuple(out.close()))


def write_decisions(
    groups: Sequence[Group], files: Sequence[Path], chunk: int, held_out: np.ndarray, paths: RunPaths
) -> TaskResult:
    """One decision per document, as Parquet. Counts are by `<corpus>/<subset>|<reason>`, no reason meaning kept.

    Args:
        held_out: uint64 [k], sorted file hashes of the held-out files.
    """
    records = read_records(files, chunk, DROP)
    adds = records[records["kind"] == ADDS]
    adds = adds[np.argsort(adds["id"], kind="stable")]
    drops = records[records["kind"] != ADDS]
    drops = drops[np.argsort(drops["id"])]
    outputs, counts, kept_bytes = [], dict[str, int](), dict[str, int]()
    for group in groups:
        filtered = pq.read_table(paths.filtered(group.name), columns=["reason", "reasons"])
        at = 0
        for file in group.files:
            with parquet_writer(paths.decisions(file.corpus, file.path), DECISION_SCHEMA) as out:
                for batch in signal_batches(
                    paths.signals(file.corpus, file.path), ["doc_id", "row", "subset", "n_bytes"]
                ):
                    verdict = filtered.slice(at, batch.num_rows).combine_chunks()
                    at += batch.num_rows
                    decided = _decisions(batch, verdict, file.corpus, file.path, drops, adds, held_out)
                    out.write(decided)
                    _count(file.corpus, batch, decided, counts, kept_bytes)
            outputs.append(out.artifact)
    return TaskResult(tuple(outputs), counts, {"kept_bytes": kept_bytes})


def _count(
    corpus: str, batch: pa.RecordBatch, decided: pa.RecordBatch, counts: dict[str, int], kept_bytes: dict[str, int]
) -> None:
    facts = (batch.column("subset"), decided.column("reason"), batch.column("n_bytes"))
    for subset, reason, size in zip(*(f.to_pylist() for f in facts), strict=True):
        key = f"{corpus}/{subset}|{reason}"
        counts[key] = counts.get(key, 0) + 1
        if not reason:
            kept_bytes[f"{corpus}/{subset}"] = kept_bytes.get(f"{corpus}/{subset}", 0) + size


def _decisions(
    batch: pa.RecordBatch,
    verdict: pa.Table,
    corpus: str,
    path: str,
    drops: np.ndarray,
    adds: np.ndarray,
    held_out: np.ndarray,
) -> pa.RecordBatch:
    n = batch.num_rows
    ids = batch.column("doc_id").to_numpy()
    reason = verdict.column("reason").to_numpy(zero_copy_only=False).astype(object)
    reasons = verdict.column("reasons").to_pylist()
    passed = reason == ""
    at = np.minimum(np.searchsorted(drops["id"], ids), max(len(drops) - 1, 0))
    dropped = (drops["id"][at] == ids) if len(drops) else np.zeros(n, bool)
    duplicate_of = np.zeros(n, np.uint64)
    similarity = np.zeros(n, np.float32)
    kind = np.full(n, "", object)
    size = np.zeros(n, np.uint32)
    for i in np.flatnonzero(dropped):
        drop = drops[at[i]]
        duplicate_of[i] = drop["by"]
        similarity[i] = drop["shared"] / drop["examined"]
        kind[i] = KINDS[int(drop["kind"])]
        reason[i] = f"{kind[i]}_duplicate"
    behind = np.isin(duplicate_of >> np.uint64(ROW_BITS), held_out) & dropped
    if int(ids[0] >> np.uint64(ROW_BITS)) not in set(held_out.tolist()):
        reason[behind] = "held_out"
    for i in np.flatnonzero(dropped):
        reasons[i] = [reason[i]]
    begin, end = np.searchsorted(adds["id"], ids, "left"), np.searchsorted(adds["id"], ids, "right")
    total = np.r_[np.uint64(0), np.cumsum(adds["by"])]
    kept = passed & ~dropped
    size[kept] = 1 + (total[end] - total[begin])[kept]
    columns = {
        "corpus": pa.array([corpus] * n),
        "file": pa.array([path] * n),
        "row": batch.column("row"),
        "doc_id": batch.column("doc_id"),
        "kept": pa.array(kept),
        "reason": pa.array(reason, pa.string()),
        "reasons": pa.array(reasons, DECISION_SCHEMA.field("reasons").type),
        "duplicate_of": pa.array(duplicate_of),
        "similarity": pa.array(similarity),
        "kind": pa.array(kind, pa.string()),
        "cluster_size": pa.array(size),
    }
    return pa.RecordBatch.from_arrays([columns[f.name] for f in DECISION_SCHEMA], schema=DECISION_SCHEMA)

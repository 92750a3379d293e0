"""What the decision means for every document: copies go as their leaders go; `decisions/`; clusters and their overlap."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numba import njit

from ..engine.shuffle import RecordShuffle, first_of_runs, lookup, read_records
from ..filter.exclude import EXCLUDED
from ..filter.judge import Verdict, Verdicts, signal_batches
from ..run.artifacts import DECISION_SCHEMA, Artifact, FileSet, RunPaths, merge_counts, parquet_writer
from ..run.identity import ROW_BITS, Group
from .exact import OverlapCell, add_overlap, sparse
from .order import DROP, DUPLICATES, EXACT, FOLLOWER, ID, KINDS, NEAR, NOT_EXCLUDED, OF_EXCLUDED, URL, Part, Plan

MEMBER = np.dtype([("by", "<u8"), ("id", "<u8"), ("bytes", "<u4"), ("code", "<u2"), ("kind", "<u2")])
"""A dropped document, on its way to the chunk of the kept one that stands for it: 24 bytes."""
LARGEST = 5
"""Clusters that are remembered of every subset, for the report of a limit that was passed."""


@dataclass(frozen=True)
class Resolved:
    """What becomes of a chunk's documents, and of those behind them."""

    drops: tuple[Artifact, ...]
    """`DROP`, by chunk."""
    members: tuple[Artifact, ...]
    """`MEMBER`, by the chunk of the kept document that stands for them."""


def resolve(
    dropped: FileSet, followers: FileSet, kind: int, chunk: int, first: bool, plan: Plan, stem: Path
) -> Resolved:
    """What becomes of the leaders of a chunk becomes of those behind them, wherever these are.

    Args:
        dropped: of the chunk's documents, among them its leaders.
        kind: EXACT or URL, why followers of a leader that stays are dropped.
        first: whether `dropped` have not been handed on by an earlier call.
    """
    drops = read_records(dropped, chunk, DROP)
    drops = drops[np.argsort(drops["id"])]
    behind = read_records(followers, chunk, FOLLOWER)
    at, moved = lookup(drops["id"], behind["leader"])
    goes = moved | (behind["twin"] == 0)
    behind, at, moved = behind[goes], at[goes], moved[goes]
    more = np.zeros(len(behind), DROP)
    more["id"], more["by"], more["kind"] = behind["id"], behind["leader"], kind
    more["bytes"], more["code"] = behind["bytes"], behind["code"]
    if kind == EXACT:
        more["shared"] = more["examined"] = 1
        more["kind"][behind["leader_order"] < NOT_EXCLUDED] += OF_EXCLUDED
    for name in ("by", "shared", "examined", "kind"):
        more[name][moved] = drops[at[moved]][name]
    if kind == URL:  # nobody compared it
        more["shared"] = 0
        more["kind"] = URL + (more["kind"] & OF_EXCLUDED)
    every = np.concatenate([drops, more]) if first else more
    members = np.zeros(len(every), MEMBER)
    for name in MEMBER.names or ():
        members[name] = every[name]
    chunks = len(plan.chunks.members)
    out = RecordShuffle(stem.with_name(f"{stem.name}.drops"), chunks, DROP)
    out.add(every, plan.chunks.of(every["id"]))
    clusters = RecordShuffle(stem.with_name(f"{stem.name}.members"), chunks, MEMBER)
    clusters.add(members, plan.chunks.of(members["by"]))
    return Resolved(out.close(), clusters.close())


class Cluster(NamedTuple):
    """A kept document that stands for near copies of one subset."""

    leader: int
    """Its document id."""
    copies: int
    example: int
    """The document id of one of them."""


@dataclass(frozen=True)
class DecidedChunk:
    """The decisions on a chunk's documents, and what they mean for the training data by subset (`corpus/subset`)."""

    decisions: dict[str, Artifact]
    """`DECISION_SCHEMA`, by `SourceFile.table`."""
    verdicts: tuple[Verdict, ...]
    kept_bytes: dict[str, int]
    """Bytes of the edited text of what stays."""
    near_lost: dict[str, int]
    """Documents that near-dedupe drops for others of the training data."""
    sizes: dict[str, int]
    """Clusters by the power of two below their size, held-out documents included."""
    capped: int
    """Documents that stay although a cap kept them from being compared with all."""
    overlaps: dict[str, tuple[OverlapCell, ...]]
    largest: dict[str, tuple[Cluster, ...]]
    """The largest clusters of every subset."""


def write_decisions(
    parts: Sequence[Part],
    dropped: FileSet,
    clusters: FileSet,
    capped: FileSet,
    chunk: int,
    held_out: np.ndarray,
    plan: Plan,
    paths: RunPaths,
) -> DecidedChunk:
    """One decision per document, as Parquet.

    Args:
        capped: documents of this chunk that a cap kept from being compared with all.
        held_out: uint64 [k], sorted file hashes of the held-out files.
    """
    drops = read_records(dropped, chunk, DROP)
    drops = drops[np.argsort(drops["id"])]
    members = read_records(clusters, chunk, MEMBER)
    members = members[np.lexsort((members["id"], members["by"]))]
    cut_short = np.unique(read_records(capped, 0, ID)["id"])
    corpora = plan.corpora()
    decisions, counts = dict[str, Artifact](), _Counts()
    leaders: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    n_capped = 0
    code = {name: i for i, name in enumerate(plan.codes)}
    for part in parts:
        assert part.filtered
        filtered = pq.read_table(part.filtered.file, columns=["reason", "reasons"])
        at = 0
        for file, signals in zip(part.group.files, part.signals, strict=True):
            with parquet_writer(paths.decisions(file.corpus, file.part), DECISION_SCHEMA) as out:
                for batch in signal_batches(signals.file, ["doc_id", "row", "subset", "n_bytes"]):
                    verdict = filtered.slice(at, batch.num_rows).combine_chunks()
                    at += batch.num_rows
                    decided = _decisions(batch, verdict, file.corpus, file.path, drops, members, held_out)
                    out.write(decided)
                    counts.add(part.group, batch, decided)
                    size = decided.column("cluster_size").to_numpy()
                    ids = batch.column("doc_id").to_numpy()
                    kept = size > 0
                    n_capped += int(np.isin(ids[kept], cut_short).sum())
                    leads = size > 1
                    names = batch.column("subset").to_numpy(zero_copy_only=False)[leads]
                    codes = np.array([code[f"{file.corpus}/{s}"] for s in names], np.int64)
                    leaders.append((ids[leads], codes, batch.column("n_bytes").to_numpy()[leads]))
            decisions[file.table] = out.artifact
    ids, codes, size = (np.concatenate(c) for c in zip(*leaders, strict=True)) if leaders else (np.empty(0, int),) * 3
    order = np.argsort(ids)
    near = _cluster_overlap(
        ids[order],
        codes[order],
        size[order],
        members["by"],
        members["code"].astype(np.int64),
        members["bytes"],
        corpora,
    )
    overlaps = {"near_subsets": sparse(near[0]), "near_corpora": sparse(near[1])}
    return DecidedChunk(
        decisions,
        counts.verdicts.listed(),
        counts.kept_bytes,
        counts.near_lost,
        counts.sizes,
        n_capped,
        overlaps,
        _largest(members, plan),
    )


class _Counts:
    """What `DecidedChunk` counts, batch by batch."""

    def __init__(self) -> None:
        self.verdicts = Verdicts()
        self.kept_bytes: dict[str, int] = {}
        self.near_lost: dict[str, int] = {}
        self.sizes: dict[str, int] = {}

    def add(self, group: Group, batch: pa.RecordBatch, decided: pa.RecordBatch) -> None:
        table = pa.table(
            {
                "subset": batch.column("subset"),
                "reason": decided.column("reason"),
                "near": pc.equal(decided.column("kind"), KINDS[NEAR]),
                "bytes": batch.column("n_bytes"),
            }
        )
        grouped = table.group_by(["subset", "reason", "near"]).aggregate([("bytes", "sum"), ("bytes", "count")])
        for row in grouped.to_pylist():
            cell = f"{group.corpus}/{row['subset']}"
            self.verdicts[group.corpus, row["subset"], row["reason"]] += row["bytes_count"]
            if group.held_out:
                continue
            if not row["reason"]:
                merge_counts(self.kept_bytes, {cell: row["bytes_sum"]})
            elif row["near"] and row["reason"] not in ("held_out", EXCLUDED):
                merge_counts(self.near_lost, {cell: row["bytes_count"]})
        sizes, n = np.unique(decided.column("cluster_size").to_numpy(), return_counts=True)
        for size, count in zip(sizes.tolist(), n.tolist(), strict=True):
            if size:
                # By powers of two from 4 on: 1, 2, 3, 4-7, 8-15, ...
                merge_counts(self.sizes, {str(size if size < 4 else 1 << (size.bit_length() - 1)): count})


def _decisions(
    batch: pa.RecordBatch,
    verdict: pa.Table,
    corpus: str,
    path: str,
    drops: np.ndarray,
    members: np.ndarray,
    held_out: np.ndarray,
) -> pa.RecordBatch:
    n = batch.num_rows
    ids = batch.column("doc_id").to_numpy()
    at, dropped = lookup(drops["id"], ids)
    causes = drops[at[dropped]]
    by, similarity, kind = np.zeros(n, np.uint64), np.zeros(n, np.float32), np.zeros(n, np.int64)
    by[dropped], kind[dropped] = causes["by"], causes["kind"] % OF_EXCLUDED
    of_excluded = np.zeros(n, bool)
    of_excluded[dropped] = causes["kind"] >= OF_EXCLUDED
    similarity[dropped] = causes["shared"] / np.maximum(causes["examined"], 1)
    training = int(ids[0] >> np.uint64(ROW_BITS)) not in set(held_out.tolist())
    behind = dropped & np.isin(by >> np.uint64(ROW_BITS), held_out) & training
    names = pa.array(["", *DUPLICATES, "held_out", EXCLUDED])
    why = np.where(of_excluded, len(KINDS) + 2, np.where(behind, len(KINDS) + 1, kind))
    reason = pc.if_else(
        pa.array(dropped),
        names.take(pa.array(why)),
        verdict.column("reason").combine_chunks(),
    )
    list_type = DECISION_SCHEMA.field("reasons").type
    alone = pa.ListArray.from_arrays(pa.array(np.arange(n + 1, dtype=np.int32)), reason, type=list_type)
    reasons = verdict.column("reasons").combine_chunks()
    if dropped.any():
        order = np.where(dropped, np.arange(n) + n, np.arange(n))
        reasons = pa.concat_arrays([reasons, alone]).take(pa.array(order))
    begin, end = np.searchsorted(members["by"], ids, "left"), np.searchsorted(members["by"], ids, "right")
    kept = pc.equal(reason, "")
    columns = {
        "corpus": pa.repeat(corpus, n),
        "file": pa.repeat(path, n),
        "row": batch.column("row"),
        "doc_id": batch.column("doc_id"),
        "kept": kept,
        "reason": reason,
        "reasons": reasons,
        "duplicate_of": pa.array(by),
        "similarity": pa.array(similarity),
        "kind": pa.array(["", *(KINDS[k] for k in sorted(KINDS))]).take(pa.array(kind)),
        "cluster_size": pa.array(np.where(kept.to_numpy(zero_copy_only=False), 1 + end - begin, 0).astype(np.uint32)),
    }
    return pa.RecordBatch.from_arrays([columns[f.name] for f in DECISION_SCHEMA], schema=DECISION_SCHEMA)


@njit(cache=True, nogil=True)
def _cluster_overlap(
    leader: np.ndarray,
    leader_code: np.ndarray,
    leader_size: np.ndarray,
    by: np.ndarray,
    code: np.ndarray,
    size: np.ndarray,
    corpora: np.ndarray,
) -> np.ndarray:
    """int64 [2, n, n, 2]: documents (and bytes) of A in a cluster with one of B, by subset and by corpus.

    Args:
        leader: uint64 [kept documents with a cluster], ascending.
        by: uint64 [members], ascending.
    """
    n = max(len(corpora), corpora.max() + 1 if len(corpora) else 0)
    out = np.zeros((2, n, n, 2), np.int64)
    documents = np.zeros((2, n), np.int64)
    sizes = np.zeros((2, n), np.int64)
    touched = np.empty((2, n), np.int64)
    m = 0
    for i in range(len(leader)):
        while m < len(by) and by[m] < leader[i]:
            m += 1
        first = m
        while m < len(by) and by[m] == leader[i]:
            m += 1
        for k in range(2):
            used = 0
            for j in range(first - 1, m):
                c = leader_code[i] if j < first else code[j]
                cell = c if k == 0 else corpora[c]
                if documents[k, cell] == 0:
                    touched[k, used] = cell
                    used += 1
                documents[k, cell] += 1
                sizes[k, cell] += leader_size[i] if j < first else np.int64(size[j])
            add_overlap(documents[k], sizes[k], touched[k, :used], out[k])
    return out


def _largest(members: np.ndarray, plan: Plan) -> dict[str, tuple[Cluster, ...]]:
    """The clusters of every subset with the most near copies, the largest first."""
    near = members[members["kind"] == NEAR]
    key = near["code"].astype(np.uint64)
    order = np.lexsort((near["id"], near["by"], key))
    near, key = near[order], key[order]
    if not len(near):
        return {}
    first = first_of_runs(near["by"], key)
    count = np.diff(np.r_[first, len(near)])
    found: dict[str, list[Cluster]] = {}
    for i in np.lexsort((near["by"][first], -count)).tolist():
        row = near[first[i]]
        clusters = found.setdefault(plan.codes[int(row["code"])], [])
        if len(clusters) < LARGEST:
            clusters.append(Cluster(int(row["by"]), int(count[i]), int(row["id"])))
    return {name: tuple(clusters) for name, clusters in found.items()}

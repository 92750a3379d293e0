"""What the decision means for every document: copies go as their leaders go; `decisions/`; clusters and their overlap."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numba import njit

from ..engine.shuffle import Records, first_of_runs, lookup, read_records, sequential, sort_records
from ..engine.shuffle_file import Levels
from ..engine.two_level import Partition
from ..filter.exclude import EXCLUDED
from ..filter.judge import Verdict, Verdicts
from ..run.artifacts import Artifact, merge_counts, parquet_writer
from ..run.columns import each_open, read_columns
from ..run.identity import ROW_BITS, Group, SourceFile
from ..run.paths import RunPaths
from ..run.schemas import DECISION_SCHEMA
from .decide import OWN_DROPS
from .exact import CELLS, OVERLAPS, add_overlap, sparse
from .order import DROP, DUPLICATES, EXACT, FOLLOWER, ID, KINDS, NEAR, NOT_EXCLUDED, OF_EXCLUDED, URL, Part, Plan

MEMBER = np.dtype([("by", "<u8"), ("cell", "<u8"), ("id", "<u8"), ("count", "<u8"), ("bytes", "<u8")])
"""Dropped documents of one subset and kind (`cell_of`) that one kept document stands for, on their way to its chunk: how many,
their bytes, and the smallest id. So a cluster takes no more than its subsets, whatever its size."""


def cell_of(code: np.ndarray, kind: np.ndarray) -> np.ndarray:
    """uint64: code and kind as one."""
    return code.astype(np.uint64) << np.uint64(8) | kind.astype(np.uint64)


def summed(members: np.ndarray) -> np.ndarray:
    """Sorted members, those of one kept document, subset and kind together."""
    if not len(members):
        return members
    first = first_of_runs(members["by"], members["cell"])
    sums = members[first]
    for name in ("count", "bytes"):
        sums[name] = np.add.reduceat(members[name], first)
    return sums


CLUSTERS = Records(MEMBER, ("by", "cell", "id"), summed)
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
    dropped: tuple[Partition, ...],
    followers: Partition,
    kind: int,
    first: bool,
    to_chunks: Levels,
    plan: Plan,
    stem: Path,
) -> Resolved:
    """What becomes of the leaders of a chunk becomes of those behind them, wherever these are.

    Args:
        dropped: of the chunk's documents, among them its leaders.
        kind: EXACT or URL, why followers of a leader that stays are dropped.
        first: whether `dropped` have not been handed on by an earlier call.
    """
    drops = _read_all(dropped, DROP)
    drops = drops[np.argsort(drops["id"])]
    out = OWN_DROPS.writer(stem.with_name(f"{stem.name}.drops"), to_chunks)
    clusters = CLUSTERS.writer(stem.with_name(f"{stem.name}.members"), to_chunks)
    followed = (
        _moved(behind, drops, kind)
        for behind in sequential(followers.files, followers.place, FOLLOWER, plan.memory // 8)
    )
    for every in chain([drops] if first else [], followed):
        out.add(every, plan.chunks.of(every["id"]))
        members = np.empty(len(every), MEMBER)
        for name in ("by", "id", "bytes"):
            members[name] = every[name]
        members["cell"], members["count"] = cell_of(every["code"], every["kind"]), 1
        clusters.add(members, plan.chunks.of(members["by"]))
    return Resolved(out.close(), clusters.close())


def _moved(behind: np.ndarray, drops: np.ndarray, kind: int) -> np.ndarray:
    """`DROP` of those of some followers that go, with their leaders (`drops`, by id) or for them."""
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
    return more


def _read_all(sources: Sequence[Partition], dtype: np.dtype) -> np.ndarray:
    return np.concatenate(
        [np.empty(0, dtype), *(read_records(source.files, source.place, dtype) for source in sources)]
    )


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
    overlaps: tuple[Artifact, ...]
    """`OVERLAP`."""
    largest: dict[str, tuple[Cluster, ...]]
    """The largest clusters of every subset."""


@dataclass(frozen=True)
class DecisionFiles:
    """Where the decisions on files lie. Whoever cuts passages decides again, so the first ones have a place of their own: no two
    tasks write one file."""

    paths: RunPaths
    first: bool = False

    def identity(self) -> None:
        """Where a task writes adds nothing to its key."""

    def of(self, file: SourceFile) -> Path:
        place = self.paths.first_decisions if self.first else self.paths.decisions
        return place(file.corpus, file.part)


@dataclass(frozen=True)
class HeldOut:
    """Who is held out: a training document that is a copy of one says so."""

    files: np.ndarray
    """uint64, sorted: file hashes of held-out files."""
    documents: np.ndarray
    """uint64, sorted: documents of the others that are set apart."""

    def holds(self, ids: np.ndarray) -> np.ndarray:
        """bool [n]."""
        return np.asarray(np.isin(ids >> np.uint64(ROW_BITS), self.files) | np.isin(ids, self.documents))


def write_decisions(
    parts: Sequence[Part],
    dropped: Partition,
    clusters: Partition,
    capped: tuple[Partition, ...],
    held_out: HeldOut,
    place: DecisionFiles,
    plan: Plan,
    stem: Path,
) -> DecidedChunk:
    """One decision per document, as Parquet.

    Args:
        capped: documents of this chunk that a cap kept from being compared with all.
    """
    drops = read_records(dropped.files, dropped.place, DROP)
    drops = drops[np.argsort(drops["id"])]
    members = summed(sort_records(read_records(clusters.files, clusters.place, MEMBER), CLUSTERS.by))
    cut_short = np.unique(_read_all(capped, ID)["id"])
    corpora = plan.corpora()
    decisions, counts = dict[str, Artifact](), _Counts()
    leaders: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    n_capped = 0
    code = {name: i for i, name in enumerate(plan.codes)}
    columns = ["doc_id", "row", "subset", "n_bytes"]
    with closing(each_open(([[a.file]] for part in parts for a in part.signals), [columns])) as opened:
        for part in parts:
            assert part.filtered
            filtered = read_columns(part.filtered.file, ["reason", "reasons"])
            at = 0
            for file, (signals,) in zip(part.group.files, islice(opened, len(part.signals)), strict=True):
                with parquet_writer(place.of(file), DECISION_SCHEMA) as out:
                    for batch in signals.batches(columns):
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
        (members["cell"] >> np.uint64(8)).astype(np.int64),
        members["count"].astype(np.int64),
        members["bytes"].astype(np.int64),
        corpora,
    )
    overlaps = CELLS.writer(stem.with_name(f"{stem.name}.overlaps"))
    for matrix, kind in zip(near, ("near_subsets", "near_corpora"), strict=True):
        overlaps.add(sparse(matrix, OVERLAPS.index(kind)))
    return DecidedChunk(
        decisions,
        counts.verdicts.listed(),
        counts.kept_bytes,
        counts.near_lost,
        counts.sizes,
        n_capped,
        overlaps.close(),
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
    held_out: HeldOut,
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
    training = int(ids[0] >> np.uint64(ROW_BITS)) not in set(held_out.files.tolist())
    behind = dropped & held_out.holds(by) & training
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
    before = np.r_[0, np.cumsum(members["count"])]
    begin, end = (before[np.searchsorted(members["by"], ids, side)] for side in ("left", "right"))
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
    count: np.ndarray,
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
                documents[k, cell] += 1 if j < first else count[j]
                sizes[k, cell] += leader_size[i] if j < first else size[j]
            add_overlap(documents[k], sizes[k], touched[k, :used], out[k])
    return out


def _largest(members: np.ndarray, plan: Plan) -> dict[str, tuple[Cluster, ...]]:
    """The clusters of every subset with the most near copies, the largest first."""
    near = members[members["cell"] & np.uint64(255) == NEAR]
    found: dict[str, list[Cluster]] = {}
    for i in np.lexsort((near["by"], -near["count"].astype(np.int64))).tolist():
        row = near[i]
        clusters = found.setdefault(plan.codes[int(row["cell"]) >> 8], [])
        if len(clusters) < LARGEST:
            clusters.append(Cluster(int(row["by"]), int(row["count"]), int(row["id"])))
    return {name: tuple(clusters) for name, clusters in found.items()}

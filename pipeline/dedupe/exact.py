"""Classes of equal documents: one content hash, whatever the corpus; or, where the recipe says so, one URL.

The best-ordered member of a class leads; the others go as it goes. Where the scope forbids that documents of a class
stand for each other (of different corpora, of the same one, of exempt subsets), the class falls into nodes that do, and
the leaders of nodes that may are joined by edges of similarity 1. Also counts which subset holds copies of which.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numba import njit

from ..engine.shuffle import Records, Shuffled, by_hash_range, first_of_runs, merged, read_records
from ..engine.shuffle_file import Levels
from ..engine.two_level import Partition
from ..run.artifacts import Artifact
from ..signals.hashing import halves
from .order import (
    CONTENT,
    EDGE,
    EDGES,
    EXACT,
    EXEMPT,
    FOLLOWER,
    FOLLOWERS,
    INELIGIBLE,
    NOT_EXCLUDED,
    NOT_HELD_OUT,
    NOT_OLD,
    Part,
    Plan,
    may_drop,
    ordered_batches,
)
from .ranges import SAMPLES, SPAN, SPANS, Layout, sample

CONTENTS = Records(CONTENT, ("h0", "h1", "order", "id"))
OVERLAPS = ("all_subsets", "kept_subsets", "all_corpora", "kept_corpora", "near_subsets", "near_corpora")
"""Copies among all rows, or among those that filters kept, and clusters; by subset, or by corpus."""
OVERLAP = np.dtype([("kind", "<u8"), ("cell", "<u8"), ("beside", "<u8"), ("documents", "<u8"), ("bytes", "<u8")])
"""Documents of one subset (or corpus) that stand with documents of another; `kind` is a place in `OVERLAPS`."""


@dataclass(frozen=True)
class Contents:
    """The documents of a chunk by their contents, and what the layout of the run is made of."""

    files: tuple[Artifact, ...]
    """`CONTENT`."""
    spans: tuple[Artifact, ...]
    """`SPAN`."""
    samples: tuple[Artifact, ...]
    """`NODE`."""


def shuffle_contents(
    parts: Sequence[Part],
    followers: Partition,
    levels: Levels,
    documents: int,
    ranges: int,
    plan: Plan,
    stem: Path,
) -> Contents:
    """Map: every document of some parts, by ranges of its content hash. Documents that a newer copy of their URL
    replaces take no further part in dedupe.

    Args:
        documents: of the run, and `ranges` of the order that they are to be cut into.
    """
    out = CONTENTS.writer(stem.with_name(f"{stem.name}.contents"), levels)
    spans = SPANS.writer(stem.with_name(f"{stem.name}.spans"))
    samples = SAMPLES.writer(stem.with_name(f"{stem.name}.samples"))
    gone = np.sort(read_records(followers.files, followers.place, FOLLOWER)["id"])
    for part, batch, order, code in ordered_batches(parts, plan, ["content_hash"]):
        hashes = halves(batch.column("content_hash"))
        ids = batch.column("doc_id").to_numpy()
        order[np.isin(ids, gone)] |= INELIGIBLE
        records = _contents(*hashes, order, ids, batch, code)
        if part.old:
            records = records[(order & INELIGIBLE) == 0]
        out.add(records, by_hash_range(records["h0"], levels.partitions))
        spans.add(np.array([(ids[0], ids[-1])], SPAN))
        use = (order & INELIGIBLE) == 0
        samples.add(sample(order[use], ids[use], documents, ranges))
    return Contents(out.close(), spans.close(), samples.close())


def shuffle_urls(parts: Sequence[Part], levels: Levels, plan: Plan, stem: Path) -> Shuffled:
    """Map: documents of the corpora whose newest copy of a URL stays, by ranges of the URL's hash, newest first."""
    out = CONTENTS.writer(stem, levels)
    corpora = plan.corpora()
    chosen = [part for part in parts if part.group.corpus in plan.settings.url.corpora]
    for _, batch, order, code in ordered_batches(chosen, plan, ["url_hash", "timestamp"]):
        url = batch.column("url_hash").to_numpy()
        scope = corpora[code].astype(np.uint64) if plan.settings.scope == "within" else np.zeros(len(url), np.uint64)
        age = np.uint64((1 << 40) - 1) - np.minimum(batch.column("timestamp").to_numpy(), (1 << 40) - 1).astype(
            np.uint64
        )
        rank = (order & (NOT_OLD | NOT_HELD_OUT)) | age << np.uint64(20)
        records = _contents(url, scope, rank, batch.column("doc_id").to_numpy(), batch, code)
        # The newest that may stay: a document that was taken out says nothing about others with its URL.
        records = records[(url != 0) & ((order & (INELIGIBLE | EXEMPT)) == 0) & (order >= NOT_EXCLUDED)]
        out.add(records, by_hash_range(records["h0"], levels.partitions))
    return Shuffled(out.close())


def _contents(
    h0: np.ndarray, h1: np.ndarray, order: np.ndarray, ids: np.ndarray, batch: object, code: np.ndarray
) -> np.ndarray:
    records = np.empty(len(ids), CONTENT)
    records["h0"], records["h1"], records["order"], records["id"], records["code"] = h0, h1, order, ids, code
    size = batch.column("n_bytes").to_numpy()  # type: ignore[attr-defined]
    records["bytes"] = np.minimum(size, (1 << 32) - 1)
    return records


def add_up(cells: np.ndarray) -> np.ndarray:
    """Sorted overlaps, those of one cell together."""
    if not len(cells):
        return cells
    first = first_of_runs(cells["kind"], cells["cell"], cells["beside"])
    sums = cells[first]
    for name in ("documents", "bytes"):
        sums[name] = np.add.reduceat(cells[name], first)
    return sums


CELLS = Records(OVERLAP, ("kind", "cell", "beside"), add_up)


@dataclass(frozen=True)
class Classes:
    """The classes of equal documents of one partition."""

    members: tuple[Artifact, ...]
    """Followers by their own chunk."""
    leaders: tuple[Artifact, ...]
    """Followers by the chunk of their leader."""
    edges: tuple[Artifact, ...]
    """`EDGE`: leaders that may stand for each other, by range; none of classes by URL."""
    duplicates: int
    """Documents that go as their leader goes, twins apart."""
    overlaps: tuple[Artifact, ...]
    """`OVERLAP`; none of classes by URL."""


def find_classes(
    contents: Partition, layout: Layout | None, to_chunks: Levels, to_ranges: Levels, plan: Plan, stem: Path
) -> Classes:
    """Reduce: the followers of every class, its exact edges, and the overlap of subsets and corpora.

    Followers are written twice: by the chunk of their own id (`<stem>.members`), for whoever must leave them out, and
    by the chunk of their leader (`<stem>.leaders`), for whoever learns what becomes of the leader.
    """
    by_url = layout is None
    corpora = plan.corpora()
    n_codes = max(len(plan.codes), int(corpora.max(initial=0)) + 1)
    state = _OpenClass.empty(n_codes)
    members = FOLLOWERS.writer(stem.with_name(f"{stem.name}.members"), to_chunks)
    leaders = FOLLOWERS.writer(stem.with_name(f"{stem.name}.leaders"), to_chunks)
    edges = EDGES.writer(stem.with_name(f"{stem.name}.edges"), to_ranges)
    scope = ("all", "within", "across").index(plan.settings.scope)
    # What resembles a held-out document need not resemble its copies in the training data enough for them to go as well.
    apart = plan.settings.of_held_out < plan.settings.jaccard
    found = 0
    # Followers and edges of a slice come on top of it.
    for rows in merged(contents.files, contents.place, CONTENT, CONTENTS.by, plan.memory // 4):
        follows, leader, leader_order, twin, linked = _classes(
            rows["h0"], rows["h1"], rows["order"], rows["id"], rows["bytes"], rows["code"].astype(np.int64),
            corpora, scope, by_url, apart, *state,
        )  # fmt: skip
        at = np.flatnonzero(follows)
        records = np.empty(len(at), FOLLOWER)
        records["id"], records["bytes"], records["code"] = rows["id"][at], rows["bytes"][at], rows["code"][at]
        records["leader"], records["leader_order"], records["twin"] = leader[at], leader_order[at], twin[at]
        members.add(records, plan.chunks.of(records["id"]))
        leaders.add(records, plan.chunks.of(records["leader"]))
        found += int((records["twin"] == 0).sum())
        if layout:
            pairs = np.zeros(len(linked), EDGE)
            for name, column in zip(("better_order", "better", "order", "id", "code"), linked.T, strict=True):
                pairs[name] = column
            pairs["shared"] = pairs["examined"] = 1
            pairs["kind"] = EXACT
            edges.add(pairs, layout.range_of(pairs["better_order"], pairs["better"]))
    _close_class(state.documents, state.sizes, state.touched, state.n_touched, state.matrix)
    overlaps = CELLS.writer(stem.with_name(f"{stem.name}.overlaps"))
    for kind, matrix in enumerate(() if by_url else state.matrix):
        overlaps.add(sparse(matrix, kind))
    return Classes(members.close(), leaders.close(), edges.close(), found, overlaps.close())


def sparse(matrix: np.ndarray, kind: int) -> np.ndarray:
    """`OVERLAP` of the cells that hold anything, from an int64 [n, n, 2] of documents and bytes."""
    at = np.argwhere(matrix[:, :, 0])
    cells = np.empty(len(at), OVERLAP)
    cells["kind"], cells["cell"], cells["beside"] = kind, at[:, 0], at[:, 1]
    cells["documents"], cells["bytes"] = matrix[at[:, 0], at[:, 1]].T
    return cells


class _OpenClass(NamedTuple):
    """What a walk over classes carries from slice to slice, in the order in which `_classes` takes it."""

    head: np.ndarray
    """uint64 [4]: h0, h1, the number of nodes, whether a class is open."""
    nodes: np.ndarray
    """uint64 [nodes, 4]: key, the leader's order key, its id and its corpus."""
    documents: np.ndarray
    """int64 [4, n_codes]: documents of the class, for every kind of overlap."""
    sizes: np.ndarray
    """int64 [4, n_codes]: their bytes."""
    touched: np.ndarray
    """int64 [4, n_codes]: the codes that have documents."""
    n_touched: np.ndarray
    """int64 [4]: how many codes these are."""
    matrix: np.ndarray
    """int64 [4, n_codes, n_codes, 2]: the overlaps of all classes so far."""

    @classmethod
    def empty(cls, n_codes: int) -> _OpenClass:
        return cls(
            np.zeros(4, np.uint64),
            np.zeros((2 * n_codes + 4, 4), np.uint64),
            np.zeros((4, n_codes), np.int64),
            np.zeros((4, n_codes), np.int64),
            np.zeros((4, n_codes), np.int64),
            np.zeros(4, np.int64),
            np.zeros((4, n_codes, n_codes, 2), np.int64),
        )


@njit(cache=True, nogil=True)
def add_overlap(documents: np.ndarray, sizes: np.ndarray, touched: np.ndarray, matrix: np.ndarray) -> None:
    """Add documents that belong together to an overlap (int64 [n, n, 2]), and set their counts back to 0.

    A cell holds the documents of A (and their bytes) that stand with one in B; on the diagonal, with another in A itself.

    Args:
        documents: int64 [n]: how many of each there are, and `sizes` their bytes.
        touched: which of them are not 0.
    """
    for a in touched:
        for b in touched:
            if a != b or documents[a] > 1:
                matrix[a, b, 0] += documents[a]
                matrix[a, b, 1] += sizes[a]
    for a in touched:
        documents[a] = sizes[a] = 0


@njit(cache=True, nogil=True)
def _close_class(
    documents: np.ndarray, sizes: np.ndarray, touched: np.ndarray, n_touched: np.ndarray, matrix: np.ndarray
) -> None:
    """Add the open class to every kind of overlap, and open none."""
    for k in range(4):
        add_overlap(documents[k], sizes[k], touched[k, : n_touched[k]], matrix[k])
        n_touched[k] = 0


@njit(cache=True, nogil=True)
def _classes(
    h0: np.ndarray,
    h1: np.ndarray,
    order: np.ndarray,
    ids: np.ndarray,
    size: np.ndarray,
    code: np.ndarray,
    corpora: np.ndarray,
    scope: int,
    by_url: bool,
    apart: bool,
    open_class: np.ndarray,
    nodes: np.ndarray,
    documents: np.ndarray,
    sizes: np.ndarray,
    touched: np.ndarray,
    n_touched: np.ndarray,
    matrix: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """(bool [n] whether a row follows, its leader and its order key, whether as a twin, edges uint64 [m, 5])."""
    n = len(ids)
    follows = np.zeros(n, np.bool_)
    leader = np.zeros(n, np.uint64)
    leader_order = np.zeros(n, np.uint64)
    twin = np.zeros(n, np.uint16)
    edges = np.empty((64, 5), np.uint64)
    m = 0
    across = scope == 2
    for i in range(n):
        if not open_class[3] or h0[i] != open_class[0] or h1[i] != open_class[1]:
            _close_class(documents, sizes, touched, n_touched, matrix)
            open_class[0], open_class[1], open_class[2], open_class[3] = h0[i], h1[i], np.uint64(0), np.uint64(1)
        eligible = not order[i] & INELIGIBLE
        corpus = corpora[code[i]]
        if not by_url:
            for k in range(4):
                if k % 2 == 0 or (eligible and order[i] >= NOT_EXCLUDED):
                    cell = code[i] if k < 2 else corpus
                    if documents[k, cell] == 0:
                        touched[k, n_touched[k]] = cell
                        n_touched[k] += 1
                    documents[k, cell] += 1
                    sizes[k, cell] += size[i]
        if not eligible:
            continue
        held_out = not order[i] & NOT_HELD_OUT
        key = np.uint64(0)
        if order[i] & EXEMPT:
            key = np.uint64(1)
        elif scope and not held_out and not by_url:
            key = np.uint64(2 + corpus)
        elif apart and held_out and not by_url:
            key = np.uint64(1 << 33)
        if key and (across or key == 1) and not order[i] & NOT_OLD:
            # What stays together must fall together, and documents of the finished run never fall.
            key |= np.uint64(1 << 32)
        at = np.int64(-1)
        for k in range(np.int64(open_class[2])):
            if nodes[k, 0] == key:
                at = np.int64(k)
        if at >= 0:
            if order[i] & NOT_OLD and not (by_url and held_out):
                follows[i] = True
                leader[i] = nodes[at, 2]
                leader_order[i] = np.uint64(0) if by_url else nodes[at, 1]
                twin[i] = key == 1 or (across and key > 1)
            continue
        at = np.int64(open_class[2])
        for k in range(at):
            if may_drop(nodes[k, 1], order[i], nodes[k, 3] == np.uint64(corpus), across) and (
                scope != 1 or not nodes[k, 1] & order[i] & NOT_HELD_OUT
            ):
                if m == len(edges):
                    more = np.empty((2 * m, 5), np.uint64)
                    more[:m] = edges
                    edges = more
                edges[m, 0], edges[m, 1] = nodes[k, 1], nodes[k, 2]
                edges[m, 2], edges[m, 3], edges[m, 4] = order[i], ids[i], np.uint64(code[i])
                m += 1
        nodes[at, 0], nodes[at, 1], nodes[at, 2], nodes[at, 3] = key, order[i], ids[i], np.uint64(corpus)
        open_class[2] += np.uint64(1)
    return follows, leader, leader_order, twin, edges[:m].copy()

"""Candidate pairs become verified edges: sketches are joined to them by document id. No text is read.

    gather_pairs      a chunk's pairs, each once; which sketches of better documents it needs
    answer            the chunk that holds a document hands its sketch to every chunk that asked, once
    verify            a chunk compares its own sketches with those it got

A sketch is sent to a chunk once, however many of the chunk's documents are compared with its document.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numba import njit

from ..engine.shuffle import Cursor, RecordShuffle, Shuffled, distinct, lookup, merged, sequential
from ..run.artifacts import Artifact, FileSet
from ..signals.minhash import common
from .buckets import unique_pairs
from .order import (
    BY_BETTER,
    CAPPED,
    EDGE,
    ID,
    NEAR,
    NODE,
    OPEN,
    PAIR,
    REQUEST,
    Part,
    Place,
    Plan,
    id_batches,
    places_of,
    sketch_record,
)

SAMPLE = 4096
"""One edge in this many is sampled, with both its documents, to cut the decision into ranges of the order."""


@dataclass(frozen=True)
class Gathered:
    """The candidate pairs of a chunk."""

    pairs: tuple[Artifact, ...]
    """`PAIR`, each once."""
    requests: tuple[Artifact, ...]
    """`REQUEST`: for sketches, by the chunk that has them."""
    opened: tuple[Artifact, ...]
    """`NODE`: documents that are not compared with all better ones yet."""
    capped: tuple[Artifact, ...]
    """`ID`: documents that never will be."""
    candidate_pairs: int


def gather_pairs(files: FileSet, chunk: int, plan: Plan, stem: Path) -> Gathered:
    """A chunk's candidate pairs, each once (`<stem>.pairs`); requests for sketches, by the chunk that has them
    (`<stem>.requests`); documents that are not compared with all yet (`<stem>.open`), and never will be (`<stem>.capped`).
    """
    pairs = RecordShuffle(stem.with_name(f"{stem.name}.pairs"), 1, PAIR)
    requests = RecordShuffle(
        stem.with_name(f"{stem.name}.requests"), len(plan.chunks.members), REQUEST, ("id", "chunk"), distinct
    )
    opened = RecordShuffle(stem.with_name(f"{stem.name}.open"), 1, NODE, ("order", "id"), distinct)
    capped = RecordShuffle(stem.with_name(f"{stem.name}.capped"), 1, ID, ("id",), distinct)
    n = 0
    for rows in merged(files, chunk, PAIR, ("id", "better"), plan.memory // 3):
        rows = unique_pairs(rows.copy())
        for flag, out, dtype in ((OPEN, opened, NODE), (CAPPED, capped, ID)):
            flagged = rows[(rows["order"] & flag) > 0]
            records = np.empty(len(flagged), dtype)
            records["id"] = flagged["id"]
            if dtype is NODE:
                records["order"] = flagged["order"] & ~(OPEN | CAPPED)
            out.add(distinct(records))
        rows = rows[rows["better"] > 0]
        rows["order"] &= ~(OPEN | CAPPED)
        pairs.add(rows)
        wanted = np.empty(len(rows), REQUEST)
        wanted["id"], wanted["chunk"] = rows["better"], chunk
        requests.add(wanted, plan.chunks.of(wanted["id"]))
        n += len(rows)
    return Gathered(pairs.close(), requests.close(), opened.close(), capped.close(), n)


def answer(parts: Sequence[Part], files: FileSet, chunk: int, size: int, plan: Plan, stem: Path) -> Shuffled:
    """The sketches that other chunks asked this one for, by the chunk that asked."""
    dtype = sketch_record(size)
    out = RecordShuffle(stem, len(plan.chunks.members), dtype, ("id",))
    asked = Cursor(_distinct(merged(files, chunk, REQUEST, ("id", "chunk"), plan.memory // 8)), "id", REQUEST)
    for batch in id_batches(parts, ["doc_id", "n_shingles", "sketch"], asked.next_key):
        ids = batch.column("doc_id").to_numpy()
        wanted = asked.take(int(ids[-1]))
        rows = np.searchsorted(ids, wanted["id"])
        values, offsets = _sketches(batch)
        records = np.zeros(len(wanted), dtype)
        records["id"] = wanted["id"]
        records["n_shingles"] = batch.column("n_shingles").to_numpy()[rows]
        records["held"] = _copy_sketches(records["sketch"], rows, values, offsets)
        out.add(records, wanted["chunk"].astype(np.int64))
    return Shuffled(out.close())


def _distinct(slices: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
    return (distinct(rows) for rows in slices)


@njit(cache=True, nogil=True)
def _copy_sketches(into: np.ndarray, rows: np.ndarray, values: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    held = np.empty(len(rows), np.uint32)
    for i in range(len(rows)):
        sketch = values[offsets[rows[i]] : offsets[rows[i] + 1]]
        into[i, : len(sketch)] = sketch
        held[i] = len(sketch)
    return held


def _sketches(batch: pa.RecordBatch) -> tuple[np.ndarray, np.ndarray]:
    """(sketch values uint32, offsets int64 [n + 1]) of a batch."""
    column = batch.column("sketch")
    _, offsets, data = column.buffers()
    bounds = np.frombuffer(offsets, np.int32)[column.offset :][: len(column) + 1].astype(np.int64) // 4
    return (np.frombuffer(data, "<u4") if data else np.empty(0, np.uint32)), bounds


@dataclass(frozen=True)
class Verified:
    """The verified pairs of a chunk."""

    edges: tuple[Artifact, ...]
    """`EDGE`, sorted by the better document."""
    verified_pairs: int
    sample: tuple[Place, ...]
    """Both documents of one edge of `SAMPLE`."""


def verify(
    parts: Sequence[Part], pairs: FileSet, answers: FileSet, chunk: int, size: int, plan: Plan, stem: Path
) -> Verified:
    """Compare the sketches of a chunk's pairs; pairs alike enough become edges, sorted by the better document.

    Jaccard is estimated from the sketches; from it and the two numbers of shingles follows which share of the worse
    document is contained in the better one.
    """
    out = RecordShuffle(stem, 1, EDGE, BY_BETTER)
    code = {name: i for i, name in enumerate(plan.codes)}
    settings = plan.settings
    sample: list[Place] = []
    verified = 0
    # More sketches than fit are joined in several walks over the pairs, each with the next ones.
    for held in _groups(sequential(answers, chunk, sketch_record(size), plan.memory // 8), plan.memory // 3):
        by_id = np.argsort(held["id"])
        known = held["id"][by_id]
        left = Cursor(sequential(pairs, 0, PAIR, plan.memory // 8), "id", PAIR)
        for batch in id_batches(parts, ["doc_id", "subset", "n_shingles", "sketch"], left.next_key):
            ids = batch.column("doc_id").to_numpy()
            candidates = left.take(int(ids[-1]))
            at, here = lookup(known, candidates["better"])
            candidates, at = candidates[here], by_id[at[here]]
            if not len(candidates):
                continue
            rows = np.searchsorted(ids, candidates["id"])
            shared, examined = _compare(*_sketches(batch), rows, held["sketch"], held["held"], at, size)
            sizes = batch.column("n_shingles").to_numpy()[rows].astype(np.int64)
            both = sizes + held["n_shingles"][at]
            # |A n B| = (|A| + |B|) J / (1 + J), here times (shared + examined)
            inside = both * shared > settings.containment * sizes * (shared + examined)
            alike = shared >= settings.jaccard * examined
            same = np.flatnonzero(alike | inside if settings.containment < 1 else alike)
            edges = np.empty(len(same), EDGE)
            for name in PAIR.names or ():
                edges[name] = candidates[name][same]
            edges["shared"], edges["examined"] = shared[same], examined[same]
            subsets = batch.column("subset").dictionary_encode()
            corpus = plan.chunks.table.corpus_names[int(plan.chunks.table.corpus_of(ids[:1])[0])]
            codes = np.array([code[f"{corpus}/{s}"] for s in subsets.dictionary.to_pylist()], np.uint16)
            edges["code"], edges["kind"] = codes[subsets.indices.to_numpy()[rows[same]]], NEAR
            out.add(edges)
            picked = edges[SAMPLE - 1 - verified % SAMPLE :: SAMPLE]
            sample += places_of(picked, "better_order", "better")
            sample += places_of(picked, "order", "id")
            verified += len(same)
        # The next sketches come when these are gone.
        del held
    return Verified(out.close(), verified, tuple(sample))


def _groups(slices: Iterator[np.ndarray], limit: int) -> Iterator[np.ndarray]:
    """Slices together, as many as make `limit` bytes."""
    held: list[np.ndarray] = []
    for rows in slices:
        if held and sum(r.nbytes for r in held) + rows.nbytes > limit:
            yield np.concatenate(held)
            held = []
        held.append(rows)
    if held:
        yield np.concatenate(held)


@njit(cache=True, nogil=True)
def _compare(
    values: np.ndarray,
    offsets: np.ndarray,
    rows: np.ndarray,
    sketches: np.ndarray,
    held: np.ndarray,
    at: np.ndarray,
    limit: int,
) -> tuple[np.ndarray, np.ndarray]:
    """(shared, examined), int64 [n]: of the sketch of row ``rows[i]`` with ``sketches[at[i]]``."""
    shared = np.empty(len(rows), np.int64)
    examined = np.empty(len(rows), np.int64)
    for i in range(len(rows)):
        own = values[offsets[rows[i]] : offsets[rows[i] + 1]]
        other = sketches[at[i]]
        shared[i], examined[i] = common(own, other[: held[at[i]]], limit)
    return shared, examined

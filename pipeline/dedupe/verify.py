"""Candidate pairs become verified edges: sketches are joined to them by document id. No text is read.

    gather_pairs      a chunk's pairs, each once; which sketches of better documents it needs
    answer            the chunk that holds a document hands its sketch to every chunk that asked
    verify            a chunk compares its own sketches with those it got

A task does so for as many consecutive chunks as have pairs enough: in late rounds few have any.

A sketch is sent once for some thousand consecutive pairs of a chunk, however many of them are pairs with its document;
so a chunk of any size is walked once, and never holds more than the sketches of those pairs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numba import njit

from ..engine.shuffle import Cursor, Records, Shuffled, distinct, merged, sequential
from ..engine.shuffle_file import Levels
from ..engine.two_level import Partition
from ..run.artifacts import Artifact
from ..run.file_sets import FileSet
from ..run.numbers import distinct_numbers
from ..signals.minhash import common
from .buckets import PAIRS, unique_pairs
from .order import (
    CAPPED,
    EDGE,
    EDGES,
    ID,
    IDS,
    NEAR,
    OPEN,
    PAIR,
    REQUEST,
    DedupeSettings,
    Part,
    Plan,
    across_held_out,
    id_batches,
    sketch_record,
)
from .ranges import Layout

REQUESTS = Records(REQUEST, ("id", "chunk", "slot"), distinct)
OWN_PAIRS = Records(PAIR)
SLOT_PAIRS = 1 << 17
"""Consecutive pairs of a chunk whose sketches are sent, held and compared together: 70 MB at most."""


@dataclass(frozen=True)
class Gathered:
    """The candidate pairs of consecutive chunks."""

    pairs: tuple[Artifact, ...]
    """`PAIR`, each once, by place among the chunks."""
    requests: tuple[Artifact, ...]
    """`REQUEST`: for sketches, by the chunk that has them."""
    opened: tuple[Artifact, ...]
    """`EDGE` from documents to themselves, by range: they are not compared with all better ones yet."""
    capped: tuple[Artifact, ...]
    """`ID`: documents that never will be, by place among the chunks."""
    candidate_pairs: int


def answers_of(size: int) -> Records:
    """Sketches of `size` values on their way."""
    return Records(sketch_record(size), ("slot", "id"))


def gather_pairs(
    found: tuple[Partition, ...],
    first: int,
    layout: Layout,
    to_chunks: Levels,
    to_ranges: Levels,
    plan: Plan,
    stem: Path,
) -> Gathered:
    """The candidate pairs of consecutive chunks, each once (`<stem>.pairs`); requests for sketches, by the chunk that has
    them (`<stem>.requests`); documents that are not compared with all yet (`<stem>.open`), and never will be
    (`<stem>.capped`).

    Args:
        first: number of the first chunk.
    """
    pairs = OWN_PAIRS.writer(stem.with_name(f"{stem.name}.pairs"), Levels(len(found)))
    requests = REQUESTS.writer(stem.with_name(f"{stem.name}.requests"), to_chunks)
    opened = EDGES.writer(stem.with_name(f"{stem.name}.open"), to_ranges)
    capped = IDS.writer(stem.with_name(f"{stem.name}.capped"), Levels(len(found)))
    total = 0
    for place, chunk in enumerate(found):
        n = 0
        for rows in merged(chunk.files, chunk.place, PAIR, PAIRS.by, plan.memory // 3):
            rows = unique_pairs(rows.copy())
            order = rows["order"] & ~(OPEN | CAPPED)
            waiting = (rows["order"] & OPEN) > 0
            itself = np.zeros(int(waiting.sum()), EDGE)
            itself["better_order"] = itself["order"] = order[waiting]
            itself["better"] = itself["id"] = rows["id"][waiting]
            itself = distinct(itself)
            opened.add(itself, layout.range_of(itself["order"], itself["id"]))
            capped.add(distinct_numbers(rows["id"][(rows["order"] & CAPPED) > 0]).astype(ID), place)
            rows["order"] = order
            # A document that has one band twice meets itself in the bucket.
            rows = rows[(rows["better"] > 0) & (rows["better"] != rows["id"])]
            pairs.add(rows, place)
            wanted = np.empty(len(rows), REQUEST)
            wanted["id"], wanted["chunk"] = rows["better"], first + place
            wanted["slot"] = (n + np.arange(len(rows))) // SLOT_PAIRS
            requests.add(wanted, plan.chunks.of(wanted["id"]))
            n += len(rows)
        total += n
    return Gathered(pairs.close(), requests.close(), opened.close(), capped.close(), total)


def answer(
    chunks: tuple[list[Part], ...],
    requests: tuple[Partition, ...],
    size: int,
    to_chunks: Levels,
    plan: Plan,
    stem: Path,
) -> Shuffled:
    """The sketches of these chunks that others asked for, by the chunk that asked."""
    answers = answers_of(size)
    out = answers.writer(stem, to_chunks)
    for parts, wants in zip(chunks, requests, strict=True):
        asked = Cursor(
            map(distinct, merged(wants.files, wants.place, REQUEST, REQUESTS.by, plan.memory // 8)), "id", REQUEST
        )
        for batch in id_batches(parts, ["doc_id", "n_shingles", "sketch"], asked.next_key):
            ids = batch.column("doc_id").to_numpy()
            wanted = asked.take(int(ids[-1]))
            rows = np.searchsorted(ids, wanted["id"])
            values, offsets = _sketches(batch)
            records = np.zeros(len(wanted), answers.dtype)
            records["id"], records["slot"] = wanted["id"], wanted["slot"]
            records["n_shingles"] = batch.column("n_shingles").to_numpy()[rows]
            records["held"] = _copy_sketches(records["sketch"], rows, values, offsets)
            out.add(records, wanted["chunk"].astype(np.int64))
    return Shuffled(out.close())


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
    """The verified pairs of consecutive chunks."""

    edges: tuple[Artifact, ...]
    """`EDGE`, by range, sorted by the better document."""
    verified_pairs: int


def verify(
    chunks: tuple[list[Part], ...],
    pairs: FileSet,
    sketches: tuple[Partition, ...],
    size: int,
    layout: Layout,
    to_ranges: Levels,
    plan: Plan,
    stem: Path,
) -> Verified:
    """Compare the sketches of the pairs of some chunks; pairs alike enough become edges, sorted by the better document.

    Jaccard is estimated from the sketches; from it and the two numbers of shingles follows which share of the worse
    document is contained in the better one.

    Args:
        pairs: by place among the chunks.
        sketches: of the better documents.
    """
    out = EDGES.writer(stem, to_ranges)
    verified = 0
    for place, (parts, answered) in enumerate(zip(chunks, sketches, strict=True)):
        for edges in _edges(parts, Partition(pairs, place), answered, size, plan):
            out.add(edges, layout.range_of(edges["better_order"], edges["better"]))
            verified += len(edges)
    return Verified(out.close(), verified)


def _edges(parts: Sequence[Part], pairs: Partition, sketches: Partition, size: int, plan: Plan) -> Iterator[np.ndarray]:
    """The edges among the pairs of a chunk."""
    code = {name: i for i, name in enumerate(plan.codes)}
    answers = answers_of(size)
    answered = Cursor(
        merged(sketches.files, sketches.place, answers.dtype, answers.by, plan.memory // 8), "slot", answers.dtype
    )
    held, slot = np.empty(0, answers.dtype), -1
    left = Cursor(sequential(pairs.files, pairs.place, PAIR, plan.memory // 8), "id", PAIR)
    compared = 0
    for batch in id_batches(parts, ["doc_id", "subset", "n_shingles", "sketch"], left.next_key):
        ids = batch.column("doc_id").to_numpy()
        subsets = batch.column("subset").dictionary_encode()
        corpus = plan.chunks.table.corpus_names[int(plan.chunks.table.corpus_of(ids[:1])[0])]
        codes = np.array([code[f"{corpus}/{s}"] for s in subsets.dictionary.to_pylist()], np.uint16)
        codes = codes[subsets.indices.to_numpy()]
        candidates = left.take(int(ids[-1]))
        while len(candidates):
            if compared // SLOT_PAIRS != slot:
                slot = compared // SLOT_PAIRS
                held = answered.take(slot)
            piece = candidates[: (slot + 1) * SLOT_PAIRS - compared]
            candidates = candidates[len(piece) :]
            compared += len(piece)
            yield _verified(piece, batch, ids, codes, held, size, plan.settings)


def _verified(
    candidates: np.ndarray,
    batch: pa.RecordBatch,
    ids: np.ndarray,
    codes: np.ndarray,
    held: np.ndarray,
    size: int,
    settings: DedupeSettings,
) -> np.ndarray:
    """`EDGE` of the pairs that are alike enough.

    Args:
        batch: of signals, with the worse documents.
        held: sketches of the better ones, sorted by id.
    """
    at = np.searchsorted(held["id"], candidates["better"])
    rows = np.searchsorted(ids, candidates["id"])
    shared, examined = _compare(*_sketches(batch), rows, held["sketch"], held["held"], at, size)
    sizes = batch.column("n_shingles").to_numpy()[rows].astype(np.int64)
    both = sizes + held["n_shingles"][at]
    # |A n B| = (|A| + |B|) J / (1 + J), here times (shared + examined)
    inside = both * shared > settings.containment * sizes * (shared + examined)
    held_out = across_held_out(candidates["order"], candidates["better_order"])
    alike = shared >= np.where(held_out, settings.of_held_out, settings.jaccard) * examined
    same = np.flatnonzero(alike | inside if settings.containment < 1 else alike)
    edges = np.empty(len(same), EDGE)
    for name in PAIR.names or ():
        edges[name] = candidates[name][same]
    edges["shared"], edges["examined"] = shared[same], examined[same]
    edges["code"], edges["kind"] = codes[rows[same]], NEAR
    return edges


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

"""Near duplicates: buckets of equal bands -> candidate pairs -> verified edges. No text is read.

Candidates of all bands are made unique before they are verified; a pair is verified from the two stored sketches,
which are joined to it by document id in two hops (first the worse document's, then the better one's).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numba import njit

from ..artifacts import RunPaths
from ..engine import TaskResult
from ..filter import signal_batches
from ..identity import Group
from ..shuffle import RecordShuffle, by_hash_range, read_records
from ..signals.minhash import common
from .order import BAND, CLASS, EDGE, INELIGIBLE, PAIR, Chunks, DedupeSettings, ordered_batches

PAIRS_AT_ONCE = 4 << 20


def shuffle_bands(
    groups: Sequence[Group],
    classes: Sequence[Path],
    chunk: int,
    rank: dict[str, int],
    partitions: int,
    stem: Path,
    paths: RunPaths,
) -> TaskResult:
    """Map: the bands of every document that filters kept and that leads its exact class, by ranges of the band hash."""
    members = read_records(classes, chunk, CLASS)
    followers = np.sort(members["id"][members["id"] != members["leader"]])
    out = RecordShuffle(stem, partitions, BAND)
    documents = 0
    for group in groups:
        for batch, order in ordered_batches(group, paths, rank, ["band_signature"]):
            ids = batch.column("doc_id").to_numpy()
            use = ((order & INELIGIBLE) == 0) & ~np.isin(ids, followers)
            column = batch.column("band_signature")
            width = column.type.byte_width // 8
            bands = np.frombuffer(column.buffers()[1], "<u8")[width * column.offset :][: width * batch.num_rows]
            bands = bands.reshape(-1, width)[use]
            records = np.empty(bands.size, BAND)
            records["band"] = bands.ravel()
            records["order"] = np.repeat(order[use], width)
            records["id"] = np.repeat(ids[use], width)
            out.add(records, by_hash_range(records["band"], partitions))
            documents += int(use.sum())
    return TaskResult(tuple(out.close()), {"compared_documents": documents})


def find_pairs(
    files: Sequence[Path], partition: int, settings: DedupeSettings, chunks: Chunks, stem: Path
) -> TaskResult:
    """Reduce: in every bucket, each document with the best-ordered `fan_out` members before it."""
    rows = read_records(files, partition, BAND)
    rows = rows[np.lexsort((rows["id"], rows["order"], rows["band"]))]
    first = np.r_[True, rows["band"][1:] != rows["band"][:-1]] if len(rows) else np.empty(0, bool)
    begins = np.flatnonzero(first)
    sizes = np.diff(np.r_[begins, len(rows)]).astype(np.int64)
    out = RecordShuffle(stem, len(chunks.members), PAIR)
    # Buckets in slices of bounded pairs; that a pair is found in many bands is for the next step to undo.
    slices = np.cumsum(np.minimum(sizes, settings.fan_out) * sizes) // PAIRS_AT_ONCE
    for part in np.split(np.arange(len(begins)), np.flatnonzero(np.diff(slices)) + 1):
        worse, better = _pairs(begins[part], sizes[part], settings.fan_out)
        pairs = np.empty(len(worse), PAIR)
        pairs["id"], pairs["order"] = rows["id"][worse], rows["order"][worse]
        pairs["better"], pairs["better_order"] = rows["id"][better], rows["order"][better]
        out.add(pairs, chunks.of(pairs["id"]))
    capped = int((sizes > settings.fan_out + 1).sum())
    counts = {"buckets": len(begins), "capped_buckets": capped, "largest_bucket": 0}
    data = {"largest_bucket": int(sizes.max(initial=0))}
    return TaskResult(tuple(out.close()), counts, data)


@njit(cache=True, nogil=True)
def _pairs(begins: np.ndarray, sizes: np.ndarray, fan_out: int) -> tuple[np.ndarray, np.ndarray]:
    total = 0
    for size in sizes:
        head = min(size, fan_out)
        total += head * (head - 1) // 2 + (size - head) * fan_out
    worse = np.empty(total, np.int64)
    better = np.empty(total, np.int64)
    at = 0
    for k in range(len(begins)):
        for i in range(1, sizes[k]):
            for j in range(min(i, fan_out)):
                worse[at] = begins[k] + i
                better[at] = begins[k] + j
                at += 1
    return worse, better


def sketched_pair(sketch_size: int) -> np.dtype:
    """A pair that carries the worse document's sketch."""
    return np.dtype([*PAIR.descr, ("held", "<u4"), ("sketch", "<u4", (sketch_size,))])


def attach_sketches(
    groups: Sequence[Group],
    files: Sequence[Path],
    chunk: int,
    sketch_size: int,
    chunks: Chunks,
    stem: Path,
    paths: RunPaths,
) -> TaskResult:
    """First hop of the join: unique pairs of a chunk get the worse document's sketch and go to the better one's chunk."""
    pairs = np.unique(read_records(files, chunk, PAIR))
    out = RecordShuffle(stem, len(chunks.members), sketched_pair(sketch_size))
    for ids, values, offsets in _sketches(groups, pairs["id"], paths):
        begin, end = np.searchsorted(pairs["id"], ids, "left"), np.searchsorted(pairs["id"], ids, "right")
        for i in np.flatnonzero(end > begin):
            records = np.zeros(end[i] - begin[i], sketched_pair(sketch_size))
            for name in PAIR.names or ():
                records[name] = pairs[name][begin[i] : end[i]]
            sketch = values[offsets[i] : offsets[i + 1]]
            records["held"] = len(sketch)
            records["sketch"][:, : len(sketch)] = sketch
            out.add(records, chunks.of(records["better"]))
    return TaskResult(tuple(out.close()), {"candidate_pairs": len(pairs)})


def verify_pairs(
    groups: Sequence[Group],
    files: Sequence[Path],
    chunk: int,
    sketch_size: int,
    settings: DedupeSettings,
    stem: Path,
    paths: RunPaths,
) -> TaskResult:
    """Second hop: compare the two sketches of every pair; pairs similar enough become edges."""
    pairs = read_records(files, chunk, sketched_pair(sketch_size))
    # Pairs are large: they are looked up through their order, a batch of documents at a time, never sorted themselves.
    order = np.lexsort((pairs["id"], pairs["better"]))
    better = pairs["better"][order]
    out = RecordShuffle(stem, 1, EDGE)
    verified = 0
    for ids, values, offsets in _sketches(groups, np.unique(better), paths):
        begin, end = np.searchsorted(better, ids, "left"), np.searchsorted(better, ids, "right")
        rows = order[_spans(begin, end)]
        mine = pairs[rows]
        ends = np.cumsum(end - begin)
        shared, examined = _compare(
            mine["sketch"].copy(), mine["held"], ends - (end - begin), ends, values, offsets, sketch_size
        )
        same = np.flatnonzero((examined > 0) & (shared >= settings.jaccard * examined))
        edges = np.empty(len(same), EDGE)
        for name in PAIR.names or ():
            edges[name] = mine[name][same]
        edges["shared"], edges["examined"] = shared[same], examined[same]
        out.add(edges, np.zeros(len(edges), np.int64))
        verified += len(same)
    return TaskResult(tuple(out.close()), {"verified_pairs": verified})


def _spans(begin: np.ndarray, end: np.ndarray) -> np.ndarray:
    """int64: the numbers ``begin[i] .. end[i] - 1`` for every i, one after the other."""
    sizes = end - begin
    return np.arange(sizes.sum()) + np.repeat(begin - np.cumsum(sizes) + sizes, sizes)


@njit(cache=True, nogil=True)
def _compare(
    sketches: np.ndarray,
    held: np.ndarray,
    begin: np.ndarray,
    end: np.ndarray,
    values: np.ndarray,
    offsets: np.ndarray,
    limit: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Counts for the pairs ``begin[i]:end[i]`` of document i; pairs of other documents stay at 0."""
    shared = np.zeros(len(sketches), np.int64)
    examined = np.zeros(len(sketches), np.int64)
    for i in range(len(begin)):
        mine = values[offsets[i] : offsets[i + 1]]
        for p in range(begin[i], end[i]):
            shared[p], examined[p] = common(sketches[p][: held[p]], mine, limit)
    return shared, examined


def _sketches(
    groups: Sequence[Group], wanted: np.ndarray, paths: RunPaths
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """(ids, sketch values uint32, offsets) of the wanted documents of some groups, batch by batch."""
    for group in groups:
        for file in group.files:
            for batch in signal_batches(paths.signals(file.corpus, file.path), ["doc_id", "sketch"]):
                ids = batch.column("doc_id").to_numpy()
                batch = batch.filter(np.isin(ids, wanted))
                if batch.num_rows:
                    column = batch.column("sketch")
                    _, offsets, data = column.buffers()
                    bounds = np.frombuffer(offsets, np.int32)[column.offset :][: len(column) + 1].astype(np.int64) // 4
                    yield batch.column("doc_id").to_numpy(), np.frombuffer(data, "<u4"), bounds

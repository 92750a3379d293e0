"""Which documents each phase claims: by thresholds on a key per document, found from histograms.

Every document has, for each phase, a 64-bit key: what the phase prefers in the top 16 bits, a hash below. A phase
claims the documents of a pool in key order until its quota is full, so a claim is a threshold, and whether a document
is claimed depends on it and on its own facts alone: no global sort, no table of claims. Thresholds come from two
histogram passes over 16 bits each and a list of the few documents in the last bucket.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ...tokenize.shards import token_batches
from ..engine.shuffle import lookup
from ..filter.judge import signal_batches
from ..run.artifacts import Artifact, publish
from ..run.file_sets import FileSet
from ..signals.hashing import mix_array
from .budget import Cell, MixSettings, Phase

DOC = np.dtype([("id", "<u8"), ("tokens", "<u4"), ("cell", "<u2"), ("quality", "<u2")])
"""A surviving document: 16 bytes. `tokens` counts BOS and EOS."""
CLUSTERED = np.dtype([*DOC.descr, ("cluster", "<u4")])
"""The same with the number of documents that it represents, itself included, where a pool asks for it."""
LEVELS = 1 << 16
BEST = LEVELS - 1
"""The best quality."""
NOBODY = -1
SLICE_DOCUMENTS = 1 << 18
"""Documents whose facts a task holds at once, some 150 bytes each."""


@dataclass(frozen=True)
class Claim:
    """What a phase takes from one pool."""

    pool: int
    epochs: int
    """Times every document is taken, whatever its key."""
    key: int
    """Documents up to this key are taken once more."""
    last_id: int
    """The document with which the quota is full (0: none); of documents with the same key those up to it count."""
    last_take: int
    """Tokens taken of that document."""


class Band(NamedTuple):
    """A pool, and the qualities of the documents that it takes of a cell."""

    pool: int
    least: int = 0
    most: int = BEST


CellBands = tuple[tuple[Band, ...], ...]
"""By cell code: the bands of its pools; a document belongs to the first one that its quality lies in."""


@dataclass(frozen=True)
class PhaseClaims:
    """All claims of a phase."""

    phase: int
    bands: CellBands
    claims: tuple[Claim, ...]


def pools_of(phase: Phase, cells: Sequence[Cell]) -> tuple[tuple[int, ...], ...]:
    """The pools that may take documents of each cell, in order: those that match, up to the first that takes any quality."""
    pools = phase.pools
    found = []
    for cell in cells:
        own: list[int] = []
        for number, pool in enumerate(pools):
            if pool.matches(cell):
                own.append(number)
                if not pool.selects:
                    break
        found.append(tuple(own))
    return tuple(found)


class CellShard(NamedTuple):
    """A token shard with the code of its cell."""

    file: Artifact
    cell: int


@dataclass(frozen=True)
class CellCount:
    """Documents of a cell, and their tokens."""

    cell: int
    documents: int
    tokens: int


@dataclass(frozen=True)
class GroupDocuments:
    """The surviving documents of a group."""

    file: Artifact
    """An array of `DOC`."""
    cells: tuple[CellCount, ...]


def type_of(settings: MixSettings) -> np.dtype:
    """What is known of a document for a mixture."""
    return CLUSTERED if settings.by_cluster else DOC


def list_documents(
    shards: Sequence[CellShard], extra: int, out: Path, decisions: Sequence[Artifact] | None = None
) -> GroupDocuments:
    """Map: the facts of all documents of some token shards, in shard order, as an array file of `DOC`.

    Args:
        extra: tokens that BOS and EOS add to a document.
        decisions: on the documents, if it matters what they represent: the file is one of `CLUSTERED`.
    """
    dtype = DOC if decisions is None else CLUSTERED
    leaders = _leaders(decisions or ())
    counts: dict[int, list[int]] = {}
    with publish(out) as file:
        for shard, cell in shards:
            count = counts.setdefault(cell, [0, 0])
            for batch in token_batches(shard.file):
                rows = np.empty(batch.num_rows, dtype)
                rows["id"] = batch.column("doc_id").to_numpy()
                rows["tokens"] = np.diff(batch.column("input_ids").offsets.to_numpy()) + extra
                rows["cell"] = cell
                rows["quality"] = batch.column("quality").to_numpy()
                if decisions is not None:
                    at, leads = lookup(leaders["id"], rows["id"])
                    rows["cluster"] = 1
                    rows["cluster"][leads] = leaders["cluster"][at[leads]]
                file.write(rows.tobytes())
                file.rows += len(rows)
                count[0] += len(rows)
                count[1] += int(rows["tokens"].sum(dtype=np.int64))
    return GroupDocuments(file.artifact, tuple(CellCount(c, *counts[c]) for c in sorted(counts) if counts[c][0]))


def _leaders(decisions: Sequence[Artifact]) -> np.ndarray:
    """The kept documents that represent others, by id."""
    parts = [np.empty(0, np.dtype([("id", "<u8"), ("cluster", "<u4")]))]
    for file in decisions:
        for batch in signal_batches(file.file, ["doc_id", "cluster_size"]):
            size = batch.column("cluster_size").to_numpy()
            leads = np.flatnonzero(size > 1)
            part = np.empty(len(leads), parts[0].dtype)
            part["id"], part["cluster"] = batch.column("doc_id").to_numpy()[leads], size[leads]
            parts.append(part)
    rows = np.concatenate(parts)
    return rows[np.argsort(rows["id"])]


def read_documents(documents: Path, dtype: np.dtype, first: int = 0, count: int = -1) -> np.ndarray:
    """Rows of `DOC` or `CLUSTERED` from a file: all from `first` on, or `count` of them."""
    return np.fromfile(documents, dtype, count, offset=first * dtype.itemsize)


def document_slices(documents: FileSet, dtype: np.dtype) -> Iterator[np.ndarray]:
    """Rows from some files, some at a time."""
    for file in documents:
        first = 0
        while len(rows := read_documents(file, dtype, first, SLICE_DOCUMENTS)):
            yield rows
            first += len(rows)


def keys(docs: np.ndarray, phase: Phase, index: int, seed: int, number: int = 0) -> np.ndarray:
    """uint64 [n]: the order in which a phase claims documents; those that count several times have a place for each."""
    random = mix_array(docs["id"], seed * 1_000_003 + index)
    if number:
        random = mix_array(random, number)
    if phase.prefer == "any":
        return random
    if phase.prefer == "quality":
        top = np.uint64(BEST) - docs["quality"].astype(np.uint64)
    else:
        # Length classes of a factor of two: the longest class first, by hash within a class.
        top = np.uint64(63) - np.floor(np.log2(np.maximum(docs["tokens"], 1))).astype(np.uint64)
    return (top << np.uint64(48)) | (random >> np.uint64(16))


def times_of(docs: np.ndarray, pool: np.ndarray, phase: Phase) -> np.ndarray:
    """int64 [n]: how often each document counts in its pool, by the documents that it represents."""
    times = np.ones(len(docs), np.int64)
    for number, weight in enumerate(phase.pools):
        if weight.repeat:
            sizes, counts = np.array(weight.repeat, np.int64).T
            inside = pool == number
            at = np.searchsorted(sizes, docs["cluster"][inside].astype(np.int64), "right")
            times[inside] = np.r_[1, counts][at]
    return times


@dataclass(frozen=True)
class Taken:
    """What one phase takes from some documents."""

    phase: int
    pool: np.ndarray
    """int64 [n]: pool of every document; -1 if it has none or is below the pool's quality."""
    copies: np.ndarray
    """int64 [n]: times it is taken."""
    last: np.ndarray
    """int64 [n]: tokens of its last copy."""


def taken_by(docs: np.ndarray, settings: MixSettings, claims: Sequence[PhaseClaims]) -> list[Taken]:
    """What phases take from some documents, in claim order: a document that an earlier phase took is free for a later one
    only if its pool says so."""
    before: list[Taken] = []
    for phase in claims:
        pool = pool_of(docs, phase.bands)
        asked = settings.phases[phase.phase]
        times = times_of(docs, pool, asked)
        copies = np.zeros(len(docs), np.int64)
        last = docs["tokens"].astype(np.int64)
        for number in range(int(times.max(initial=1))):
            key = keys(docs, asked, phase.phase, settings.seed, number)
            for claim in phase.claims:
                in_pool = (pool == claim.pool) & (times > number)
                limit = np.uint64(claim.key)
                below = in_pool & ((key < limit) | ((key == limit) & (docs["id"] <= claim.last_id)))
                copies[in_pool] += claim.epochs
                copies[below] += 1
                last[below & (docs["id"] == claim.last_id) & (key == limit)] = claim.last_take
        copies[~_free(pool, settings, phase.phase, before)] = 0
        before.append(Taken(phase.phase, pool, copies, last))
    return before


def pool_of(docs: np.ndarray, bands: CellBands) -> np.ndarray:
    """int64 [n]: the pool of every document; -1 where there is none."""
    pool = np.full(len(docs), NOBODY, np.int64)
    # A cell has one band in nearly all recipes; the first one that fits has the last word.
    for place in reversed(range(max(map(len, bands), default=0))):
        table = np.array([own[place] if place < len(own) else Band(NOBODY, BEST + 1) for own in bands], np.int64)
        number, least, most = table[docs["cell"]].T
        fits = (docs["quality"] >= least) & (docs["quality"] <= most)
        pool[fits] = number[fits]
    return pool


def _free(pool: np.ndarray, settings: MixSettings, phase: int, before: Sequence[Taken]) -> np.ndarray:
    """bool [n]: documents that a phase may take, given what earlier ones took."""
    pools = settings.phases[phase].pools
    free = pool != NOBODY
    for other in before:
        name = settings.phases[other.phase].name
        shared = np.array([name in p.reuse for p in pools] + [False])  # the last one is NOBODY's
        free &= (other.copies == 0) | shared[pool]
    return free


@dataclass(frozen=True)
class Search:
    """The state of the search for a phase's thresholds: which bits of each pool's key are known."""

    phase: int
    bands: CellBands
    prefixes: tuple[int, ...]
    """By pool; -1 once its search is over."""
    bits: int
    """Known bits: 0, 16 or 32."""


@dataclass(frozen=True)
class Histogram:
    """Tokens by row and level of a table, as int64 (row, level, tokens) of what is not zero."""

    file: Artifact


def histogram(
    documents: FileSet, settings: MixSettings, before: Sequence[PhaseClaims], search: Search, out: Path
) -> Histogram:
    """Map: tokens by pool and next 16 bits of the key, over some `DOC` files."""
    table = np.zeros((len(search.prefixes), LEVELS), np.int64)
    for rows in document_slices(documents, type_of(settings)):
        for docs, pool, key in _candidates(rows, settings, before, search):
            level = (key >> np.uint64(48 - search.bits)) & np.uint64(LEVELS - 1)
            use = _in_prefix(pool, key, search)
            np.add.at(table, (pool[use], level[use].astype(np.int64)), docs["tokens"][use].astype(np.int64))
    return _write_table(table, out)


def _write_table(table: np.ndarray, out: Path) -> Histogram:
    """Publish an int64 [rows, 65536]."""
    row, level = np.nonzero(table)
    triples = np.stack([row, level, table[row, level]], axis=1).astype(np.int64)
    with publish(out, rows=len(triples)) as file:
        file.write(np.ascontiguousarray(triples).tobytes())
    return Histogram(file.artifact)


@dataclass(frozen=True)
class LastBucket:
    """The documents in every pool's last bucket, as uint64 (pool, key, id, tokens)."""

    file: Artifact


def last_bucket(
    documents: FileSet, settings: MixSettings, before: Sequence[PhaseClaims], search: Search, out: Path
) -> LastBucket:
    """Map: the documents in every pool's last bucket, of some `DOC` files."""
    with publish(out) as file:
        for part in document_slices(documents, type_of(settings)):
            for docs, pool, key in _candidates(part, settings, before, search):
                use = _in_prefix(pool, key, search)
                own = docs[use]
                columns = [pool[use].astype(np.uint64), key[use], own["id"], own["tokens"].astype(np.uint64)]
                rows = np.stack(columns, 1)
                file.rows += len(rows)
                file.write(np.ascontiguousarray(rows).tobytes())
    return LastBucket(file.artifact)


def join_buckets(buckets: FileSet, out: Path) -> LastBucket:
    """Reduce: the documents of several files."""
    with publish(out) as file:
        for bucket in buckets:
            rows = read_bucket(bucket)
            file.rows += len(rows)
            file.write(np.ascontiguousarray(rows).tobytes())
    return LastBucket(file.artifact)


def read_bucket(bucket: Path) -> np.ndarray:
    """uint64 [n, 4]: pool, key, id, tokens."""
    return np.fromfile(bucket, np.uint64).reshape(-1, 4)


def quality_histogram(documents: FileSet, cells: Sequence[Cell], domains: Sequence[str], *further: Any) -> Histogram:
    """Map: tokens by domain and quality, over some `DOC` files.

    Args:
        further: `True` where these are of `CLUSTERED`; then where to write.
    """
    *clustered, out = further
    domain_of = np.array([domains.index(c.domain) for c in cells] or [0], np.int64)
    table = np.zeros((len(domains), LEVELS), np.int64)
    for docs in document_slices(documents, CLUSTERED if clustered else DOC):
        levels = docs["quality"].astype(np.int64)
        np.add.at(table, (domain_of[docs["cell"]], levels), docs["tokens"].astype(np.int64))
    return _write_table(table, out)


def _candidates(
    docs: np.ndarray, settings: MixSettings, before: Sequence[PhaseClaims], search: Search
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """(documents, pools, keys) of what a phase may take; those that count several times come again with another key."""
    pool = pool_of(docs, search.bands)
    free = _free(pool, settings, search.phase, taken_by(docs, settings, before))
    docs, pool = docs[free], pool[free]
    phase = settings.phases[search.phase]
    times = times_of(docs, pool, phase)
    for number in range(int(times.max(initial=1))):
        use = times > number
        yield docs[use], pool[use], keys(docs[use], phase, search.phase, settings.seed, number)


def _in_prefix(pool: np.ndarray, key: np.ndarray, search: Search) -> np.ndarray:
    wanted = np.array(search.prefixes, np.int64)[pool]
    if search.bits == 0:
        return wanted >= 0
    return wanted == (key >> np.uint64(64 - search.bits)).astype(np.int64)


def add_tables(histograms: FileSet, rows: int, out: Path) -> Histogram:
    """Reduce: the sum of tables of so many rows."""
    total = np.zeros((rows, LEVELS), np.int64)
    for file in histograms:
        total += read_table(file, rows)
    return _write_table(total, out)


def read_table(histogram: Path, rows: int) -> np.ndarray:
    """int64 [rows, 65536]."""
    table = np.zeros((rows, LEVELS), np.int64)
    row, level, value = np.fromfile(histogram, np.int64).reshape(-1, 3).T
    table[row, level] = value
    return table


def floor_for(table: np.ndarray, share: float) -> int:
    """The least quality among the best `share` of the tokens of a domain (int64 [65536])."""
    if share >= 1:
        return 0
    from_best = np.cumsum(table[::-1])
    wanted = int(from_best[-1] * share)
    return int(BEST - np.searchsorted(from_best, wanted))


def cross(tokens: np.ndarray, left: int) -> tuple[int, int]:
    """(index at which the running sum of `tokens` reaches `left`, sum before it)."""
    total = np.cumsum(tokens)
    at = int(np.searchsorted(total, left))
    at = min(at, len(tokens) - 1)
    return at, int(total[at] - tokens[at])

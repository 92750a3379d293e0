"""Buckets of documents with an equal band, walked in rounds: who is compared with whom.

Members stand in the total order. In a round, every member is compared with the bucket's first members, its window: 1,
then 8, then `fan_out`; the first 8 of a bucket are compared with each other at once, so that small buckets need one
round. Documents that a round drops leave their buckets, and others come into the window. A bucket is walked again as
long as a member has a better one before it that stayed and that it was not compared with. Where all of a full window is
known to stay, what lies beyond is cut off by the cap: counted, and kept unless a compared one drops it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numba import njit

from ..engine.shuffle import Records, by_hash_range, distinct, first_of_runs, lookup, merged, read_records, sequential
from ..engine.shuffle_file import Levels
from ..engine.two_level import Partition
from ..run.artifacts import Artifact
from ..signals.hashing import mix64
from .order import (
    BAND,
    CAPPED,
    DROPPED,
    EXEMPT,
    FOLLOWER,
    HEAD,
    INELIGIBLE,
    NOT_HELD_OUT,
    NOT_OLD,
    OPEN,
    PAIR,
    UNKNOWN,
    UPDATE,
    DedupeSettings,
    Part,
    Plan,
    may_drop,
    ordered_batches,
)

BY_BAND = ("band", "order", "id")
LIVE = Records(BAND)
SMALL = 8
"""Members of a bucket that are compared with each other in the first round."""
MIN_SLICE = 1 << 16
"""Bytes of bucket rows that are walked at once at least."""
EXEMPT_SALT = np.uint64(0x9E3779B97F4A7C15)
URL_SALT = np.uint64(0xC2B2AE3D27D4EB4F)


def window_of(round_: int, fan_out: int) -> int:
    """How many of a bucket's first members the others are compared with by the end of a round: after that with the first one, which
    stands for most, all that there may be. A round between them would save two comparisons in a hundred."""
    return fan_out if round_ else 1


def bands_of(settings: DedupeSettings) -> Records:
    """Documents in buckets; in that of a URL one may come twice."""
    return Records(BAND, BY_BAND, distinct if settings.url.corpora else None)


@dataclass(frozen=True)
class Bands:
    """The documents of a chunk by their bands."""

    files: tuple[Artifact, ...]
    """`BAND`."""
    compared_documents: int
    """Of this run."""


def shuffle_bands(parts: Sequence[Part], followers: Partition, levels: Levels, plan: Plan, stem: Path) -> Bands:
    """Map: the bands of every document that filters kept and that leads its classes, by ranges of the band hash.

    Documents that may not stand for each other come into different buckets: those of other corpora under the scope
    `within`, and exempt ones. Held-out documents come into the buckets of all.
    """
    settings = plan.settings
    out = bands_of(settings).writer(stem, levels)
    behind = read_records(followers.files, followers.place, FOLLOWER)
    behind = behind[np.argsort(behind["id"])]
    corpora = plan.corpora()
    within = settings.scope == "within"
    salt_of = _mix(np.arange(1, corpora.max(initial=0) + 2, dtype=np.uint64)) if within else np.zeros(1, np.uint64)
    every = [*salt_of, *([EXEMPT_SALT] if settings.exempt else [])]

    def emit(bands: np.ndarray, order: np.ndarray, ids: np.ndarray, salt: np.uint64) -> None:
        """`bands` uint64 [n, width]; a band of 0 stands for none."""
        held_out, exempt = (order & NOT_HELD_OUT) == 0, (order & EXEMPT) > 0
        for rows, salts in ((held_out, every), (exempt, [EXEMPT_SALT]), (~held_out & ~exempt, [salt])):
            for bucket_salt in salts if rows.any() else ():
                chosen = bands[rows]
                records = np.empty(chosen.size, BAND)
                records["band"] = _mix(chosen.ravel() ^ bucket_salt) if bucket_salt else chosen.ravel()
                records["order"] = np.repeat(order[rows], chosen.shape[1])
                records["id"] = np.repeat(ids[rows], chosen.shape[1])
                records = records[chosen.ravel() != 0]
                out.add(records, by_hash_range(records["band"], levels.partitions))

    documents = 0
    for part, batch, order, _ in ordered_batches(parts, plan, ["band_signature", "url_hash"]):
        salt = salt_of[plan.chunks.table.corpus_names.index(part.group.corpus) if within else 0]
        ids = batch.column("doc_id").to_numpy()
        at, follows = lookup(behind["id"], ids)
        use = ((order & INELIGIBLE) == 0) & ~follows
        column = batch.column("band_signature")
        width = column.type.byte_width // 8
        bands = np.frombuffer(column.buffers()[1], "<u8")[width * column.offset :][: width * batch.num_rows]
        emit(bands.reshape(-1, width)[use], order[use], ids[use], salt)
        documents += int(use.sum())
        if part.group.corpus in settings.url.corpora:
            url = batch.column("url_hash").to_numpy()[:, None]
            url = np.where(url > 0, _mix(url ^ URL_SALT), 0)
            emit(url[use], order[use], ids[use], salt)
            # A follower goes as its leader goes, so its URL is entered for the leader.
            leaders = behind[at[follows]]
            known = leaders["leader_order"] > 0
            emit(url[follows][known], leaders["leader_order"][known], leaders["leader"][known], salt)
    return Bands(out.close(), 0 if parts[0].old else documents)


def _mix(values: np.ndarray) -> np.ndarray:
    """`mix64` of every value."""
    return _mix_all(np.ascontiguousarray(values).ravel()).reshape(values.shape)


@njit(cache=True, nogil=True)
def _mix_all(values: np.ndarray) -> np.ndarray:
    out = np.empty(len(values), np.uint64)
    for i in range(len(values)):
        out[i] = mix64(values[i])
    return out


@dataclass(frozen=True)
class Walked:
    """A round over the buckets of a partition."""

    pairs: tuple[Artifact, ...]
    """`PAIR`, candidates by the chunk of the worse document."""
    live: tuple[Artifact, ...]
    """`BAND`: what must be walked again."""
    members: tuple[Artifact, ...]
    """`UPDATE`: by chunk, who is in what must be walked again, with the number of this task."""
    buckets: int
    capped_buckets: int
    live_rows: int
    largest_bucket: int


def walk_buckets(
    rows: Partition, updates: Partition, number: int, round_: int, to_chunks: Levels, plan: Plan, stem: Path
) -> Walked:
    """One round over the buckets of a partition, or what is left of several that follow each other.

    Writes candidate pairs by the chunk of the worse document (`<stem>.pairs`), what must be walked again
    (`<stem>.live`), and by chunk who is in it (`<stem>.members`).

    Args:
        rows: bands in the first round; then what the last one left.
        updates: from the second round on: what became of its documents.
    """
    window = window_of(round_, plan.settings.fan_out)
    small = SMALL if round_ == 0 else 0
    pairs = PAIRS.writer(stem.with_name(f"{stem.name}.pairs"), to_chunks)
    live = LIVE.writer(stem.with_name(f"{stem.name}.live"))
    members = MEMBERS.writer(stem.with_name(f"{stem.name}.members"), to_chunks)
    # A row makes as many pairs as its window is wide at most, and they come on top of it.
    limit = max(MIN_SLICE, plan.memory // (2 * (1 + 2 * max(window, small // 2))))
    slices = (
        merged(rows.files, rows.place, BAND, BY_BAND, limit) if round_ == 0 else _without_dropped(rows, updates, limit)
    )
    corpus_of = plan.chunks.table.corpus_of if plan.settings.scope == "across" else None
    buckets = capped = live_rows = largest = 0
    for pair, again, seen in _walk_slices(slices, window, small, plan.settings.fan_out, corpus_of):
        pairs.add(pair, plan.chunks.of(pair["id"]))
        live.add(again)
        live_rows += len(again)
        buckets += int(seen[0])
        capped += int(seen[1])
        largest = max(largest, int(seen[2]))
        inside = np.empty(len(again), UPDATE)
        inside["id"], inside["state"] = again["id"], number
        members.add(inside, plan.chunks.of(inside["id"]))
    return Walked(pairs.close(), live.close(), members.close(), buckets, capped, live_rows, largest)


def unique_pairs(rows: np.ndarray) -> np.ndarray:
    """Each pair of sorted ones once, with the flags of all."""
    if not len(rows):
        return rows
    first = first_of_runs(rows["id"], rows["better"])
    flags = np.bitwise_or.reduceat(rows["order"] & (OPEN | CAPPED), first)
    rows = rows[first]
    rows["order"] |= flags
    return rows


PAIRS = Records(PAIR, ("id", "better"), unique_pairs)
MEMBERS = Records(UPDATE, ("id", "state"), distinct)


def _without_dropped(live: Partition, updates: Partition, limit: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Slices of a live file without the documents that were dropped, and whether each of the rest may still be."""
    changed = np.unique(read_records(updates.files, updates.place, UPDATE))
    for rows in sequential(live.files, live.place, BAND, limit):
        at, has_update = lookup(changed["id"], rows["id"])
        state = np.zeros(len(rows), np.uint64)
        state[has_update] = changed["state"][at[has_update]]
        stay = state != DROPPED
        yield rows[stay], (state == UNKNOWN)[stay]


def _walk_slices(
    slices: Iterator[np.ndarray] | Iterator[tuple[np.ndarray, np.ndarray]],
    window: int,
    small: int,
    fan_out: int,
    corpus_of: Callable[[np.ndarray], np.ndarray] | None,
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """(pairs, live rows, [buckets, capped buckets, largest bucket]) of slices that may cut a bucket anywhere.

    The first members of a cut bucket are carried into the next slice: `skip` of them, behind which `omitted` more are
    left out; `streamed` says whether they are in the live rows already.
    """
    carry, carry_unknown = np.empty(0, BAND), np.empty(0, bool)
    skip = omitted = streamed = 0
    for piece in slices:
        rows, unknown = piece if isinstance(piece, tuple) else (piece, np.zeros(len(piece), bool))
        if not len(rows):
            continue
        if skip and rows["band"][0] == carry["band"][0]:
            rows, unknown = np.concatenate([carry, rows]), np.concatenate([carry_unknown, unknown])
        else:
            skip = omitted = streamed = 0
        corpus = corpus_of(rows["id"]) if corpus_of else np.empty(0, np.uint8)
        matrix = np.ascontiguousarray(rows).view(np.uint64).reshape(-1, 3)
        pairs, live, seen, last = _walk(matrix, unknown, corpus, window, small, fan_out, skip, omitted, bool(streamed))
        yield pairs.view(PAIR).ravel(), live.view(BAND).ravel(), seen
        begin, total, streamed = last
        skip = min(len(rows) - begin, max(small, fan_out) + 1)
        carry, carry_unknown = rows[begin : begin + skip].copy(), unknown[begin : begin + skip].copy()
        omitted = total - skip


@njit(cache=True, nogil=True, inline="always")
def _may_go_on(next_order: np.uint64, order: np.uint64) -> bool:
    """Whether any member from the next one on may stand for a document: for an exempt one, only held-out ones may, and
    before these come the finished run's.
    """
    return not order & EXEMPT or not next_order & NOT_HELD_OUT or not next_order & NOT_OLD


@njit(cache=True, nogil=True)
def _walk(
    rows: np.ndarray,
    unknown: np.ndarray,
    corpus: np.ndarray,
    window: int,
    small: int,
    fan_out: int,
    skip: int,
    omitted: int,
    streamed: bool,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Pairs uint64 [m, 4], live rows uint64 [l, 3], counts, and of the last bucket: where it begins, how many members
    it has had, whether they are in the live rows.
    """
    n = len(rows)
    across = len(corpus) > 0
    pairs = np.empty((1024, 4), np.uint64)
    live = np.empty((256, 3), np.uint64)
    n_pairs = n_live = 0
    seen = np.zeros(3, np.int64)
    last = np.zeros(3, np.int64)
    begin = 0
    while begin < n:
        end = begin + 1
        while end < n and rows[end, 0] == rows[begin, 0]:
            end += 1
        if begin > 0:
            skip = omitted = 0
            streamed = False
        # The place of a member in its bucket: what was left out stands behind the carried ones.
        members = end - begin + omitted
        seen[0] += skip == 0
        seen[2] = max(seen[2], members)
        full = window == fan_out and small == 0  # in the first round (`small` > 0) no member has been a head
        for j in range(begin, min(begin + window, end)):
            if not rows[j, 1] & HEAD or unknown[j]:
                full = False
        capped = full and members > window
        seen[1] += capped and members - (end - begin - skip) <= window
        for i in range(begin + skip, end):
            place = i - begin + omitted
            width = max(window, small if place < small else 0)
            order = rows[i, 1] & ~HEAD
            flags = np.uint64(0)
            if place > width and order & NOT_OLD and _may_go_on(rows[begin + width, 1], order):
                flags = CAPPED if capped else OPEN
            while n_pairs + width + 1 > len(pairs):
                more = np.empty((2 * len(pairs), 4), np.uint64)
                more[:n_pairs] = pairs[:n_pairs]
                pairs = more
            made = n_pairs
            for j in range(begin, begin + min(place, width)):
                better = rows[j, 1] & ~HEAD
                if rows[j, 1] & HEAD or not may_drop(better, order, across and corpus[i] == corpus[j], across):
                    continue
                pairs[n_pairs, 0], pairs[n_pairs, 1] = rows[i, 2], rows[j, 2]
                pairs[n_pairs, 2], pairs[n_pairs, 3] = order, better
                n_pairs += 1
            if flags:
                if made == n_pairs:
                    pairs[n_pairs, 0], pairs[n_pairs, 1] = rows[i, 2], np.uint64(0)
                    pairs[n_pairs, 2], pairs[n_pairs, 3] = order, np.uint64(0)
                    n_pairs += 1
                pairs[made, 2] |= flags
            if flags == OPEN or streamed:
                since = i if streamed else begin
                while n_live + i + 1 - since > len(live):
                    more = np.empty((2 * len(live), 3), np.uint64)
                    more[:n_live] = live[:n_live]
                    live = more
                for j in range(since, i + 1):
                    live[n_live] = rows[j]
                    if j - begin < window:
                        live[n_live, 1] |= HEAD
                    n_live += 1
                streamed = True
        last[0], last[1], last[2] = begin, members, streamed
        begin = end
    return pairs[:n_pairs].copy(), live[:n_live].copy(), seen, last

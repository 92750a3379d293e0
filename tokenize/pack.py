"""Packing: documents of any length into blocks of one length.

`best_fit` is best-fit decreasing (Ding et al. 2024, "Fewer Truncations Improve Language Modeling"): a document is cut
only if it is longer than a block, and then at block size; every piece goes into the fullest block that still has room
for it. Blocks that best fit leaves badly filled (the tail of any bin packing) are concatenated and chunked, so that
padding is bounded by construction: at most L / 256 in a block, plus one tail block a set. `concatenate` chunks everything.

Lengths count BOS and EOS. Results are flat arrays of segments; `fill` turns them into token blocks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numba import njit

Packing = Literal["best_fit", "concatenate"]
TOLERANCE = 256
"""A block with at most L / TOLERANCE of padding counts as full."""


@dataclass(frozen=True)
class PackedSegments:
    """Pieces of documents, in the order of blocks and of offsets in them (leftovers have no block)."""

    document: np.ndarray
    """int64 [s]: index of the document in the packed lengths."""
    start: np.ndarray
    """int64 [s]: offset in the document."""
    length: np.ndarray
    """int64 [s]."""
    block: np.ndarray
    """int64 [s], ascending."""

    def __len__(self) -> int:
        return len(self.document)


@dataclass(frozen=True)
class Packed:
    """The blocks made of a list of documents, and what is left over."""

    segments: PackedSegments
    n_blocks: int
    leftover: PackedSegments
    """Segments of less than one block in all; their `block` is 0. The caller packs the leftovers of all its lists again."""
    cut: int
    """Pieces that were cut although they fit a block."""


def pack(lengths: np.ndarray, block_length: int, max_docs: int, packing: Packing, last: bool = False) -> Packed:
    """Pack documents in the given order.

    Args:
        lengths: int64 [n], tokens of each document, at least 1.
        block_length: L.
        max_docs: segments a block may hold at most.
        last: whether no other list follows: then the last block is padded instead of left over.
    """
    kernel = _best_fit if packing == "best_fit" else _concatenate
    rows, n_blocks, n_left, cut = kernel(lengths.astype(np.int64), block_length, max_docs, last)
    split = len(rows) - n_left
    return Packed(PackedSegments(*_columns(rows[:split])), n_blocks, PackedSegments(*_columns(rows[split:])), cut)


def _columns(rows: np.ndarray) -> tuple[np.ndarray, ...]:
    return tuple(np.ascontiguousarray(rows[:, k]) for k in range(4))


@njit(cache=True, nogil=True)
def _chunk(
    pieces: np.ndarray, n: int, block_length: int, max_docs: int, last: bool, out: np.ndarray, at: int, block: int
) -> tuple[int, int, int, int]:
    """Concatenate pieces (document, start, length) and chunk them; (rows written, blocks, rows left over, cuts)."""
    room, held, cut = block_length, 0, 0
    first_of_block = at
    for p in range(n):
        document, start, left = pieces[p, 0], pieces[p, 1], pieces[p, 2]
        while left > 0:
            take = min(left, room)
            out[at, 0], out[at, 1], out[at, 2], out[at, 3] = document, start, take, block
            at += 1
            held += 1
            start += take
            left -= take
            room -= take
            cut += left > 0
            if room == 0 or held == max_docs:
                block += 1
                room, held = block_length, 0
                first_of_block = at
    if held and last:
        return at, block + 1, 0, cut
    out[first_of_block:at, 3] = 0
    return at, block, at - first_of_block, cut


@njit(cache=True, nogil=True)
def _concatenate(lengths: np.ndarray, block_length: int, max_docs: int, last: bool) -> tuple[np.ndarray, int, int, int]:
    n = len(lengths)
    pieces = np.zeros((n, 3), np.int64)
    pieces[:, 0] = np.arange(n)
    pieces[:, 2] = lengths
    out = np.empty((2 * n + lengths.sum() // block_length + 1, 4), np.int64)
    at, blocks, left, cut = _chunk(pieces, n, block_length, max_docs, last, out, 0, 0)
    return out[:at], blocks, left, cut


@njit(cache=True, nogil=True)
def _fullest(occupied: np.ndarray, size: int) -> int:
    """The smallest room >= size that some block has; -1 if no block has so much."""
    word = size >> 6
    bits = occupied[word] >> np.uint64(size & 63) << np.uint64(size & 63)
    while bits == 0:
        word += 1
        if word == len(occupied):
            return -1
        bits = occupied[word]
    room = word << 6
    low = bits & (~bits + np.uint64(1))
    while low > 1:
        low >>= np.uint64(1)
        room += 1
    return room


@njit(cache=True, nogil=True)
def _best_fit(lengths: np.ndarray, block_length: int, max_docs: int, last: bool) -> tuple[np.ndarray, int, int, int]:
    n = len(lengths)
    whole = (lengths // block_length).sum()
    out = np.empty((3 * n + 2 * whole + 2, 4), np.int64)
    at = block = 0
    for d in range(n):
        for k in range(lengths[d] // block_length):
            out[at, 0], out[at, 1], out[at, 2], out[at, 3] = d, k * block_length, block_length, block
            at += 1
            block += 1
    # Pieces by falling size; of equal ones the first document first.
    tails = lengths % block_length
    order = np.argsort(-tails, kind="mergesort")
    n_pieces = np.count_nonzero(tails)
    # Open blocks as stacks by the room they have, and a bit set of the rooms that occur.
    top = np.full(block_length + 1, -1, np.int64)
    below = np.empty(n_pieces, np.int64)
    occupied = np.zeros((block_length >> 6) + 1, np.uint64)
    room_of = np.empty(n_pieces, np.int64)
    held = np.zeros(n_pieces, np.int64)
    bin_of = np.empty(n_pieces, np.int64)
    bins = 0
    for p in range(n_pieces):
        size = tails[order[p]]
        room = _fullest(occupied, size)
        if room < 0:
            b = bins
            bins += 1
            room = block_length
        else:
            b = top[room]
            top[room] = below[b]
            if top[room] < 0:
                occupied[room >> 6] &= ~(np.uint64(1) << np.uint64(room & 63))
        bin_of[p] = b
        held[b] += 1
        room -= size
        room_of[b] = room
        if held[b] < max_docs and room > 0:
            below[b] = top[room]
            top[room] = b
            occupied[room >> 6] |= np.uint64(1) << np.uint64(room & 63)
    # Pieces by block, in the order they came.
    begins = np.zeros(bins + 1, np.int64)
    for p in range(n_pieces):
        begins[bin_of[p] + 1] += 1
    for b in range(bins):
        begins[b + 1] += begins[b]
    slot = begins[:-1].copy()
    by_bin = np.empty(n_pieces, np.int64)
    for p in range(n_pieces):
        by_bin[slot[bin_of[p]]] = p
        slot[bin_of[p]] += 1
    rest = np.empty((n_pieces, 3), np.int64)
    n_rest = 0
    for b in range(bins):
        full = room_of[b] <= block_length // TOLERANCE or held[b] == max_docs
        for s in range(begins[b], begins[b + 1]):
            d = order[by_bin[s]]
            start = lengths[d] - tails[d]
            if full:
                out[at, 0], out[at, 1], out[at, 2], out[at, 3] = d, start, tails[d], block
                at += 1
            else:
                rest[n_rest, 0], rest[n_rest, 1], rest[n_rest, 2] = d, start, tails[d]
                n_rest += 1
        block += full
    at, block, left, cut = _chunk(rest, n_rest, block_length, max_docs, last, out, at, block)
    return out[:at], block, left, cut


@njit(cache=True, nogil=True)
def streams(ids: np.ndarray, offsets: np.ndarray, lengths: np.ndarray, bos: int, eos: int) -> np.ndarray:
    """Token streams of documents back to back: BOS (if `bos` >= 0), the ids, EOS (if `eos` >= 0).

    Document d gives the first ``lengths[d]`` positions of its stream: fewer than all where its budget ends in it.
    """
    out = np.empty(lengths.sum(), np.int32)
    at = 0
    for d in range(len(lengths)):
        stop = at + lengths[d]
        if bos >= 0 and at < stop:
            out[at] = bos
            at += 1
        take = min(offsets[d + 1] - offsets[d], stop - at)
        for k in range(take):
            out[at + k] = ids[offsets[d] + k]
        at += take
        if at < stop:
            assert eos >= 0 and at + 1 == stop
            out[at] = eos
            at += 1
    return out


@njit(cache=True, nogil=True)
def fill(
    document: np.ndarray,
    start: np.ndarray,
    length: np.ndarray,
    block: np.ndarray,
    n_blocks: int,
    block_length: int,
    stream: np.ndarray,
    offsets: np.ndarray,
    pad: int,
) -> tuple[np.ndarray, np.ndarray]:
    """(token blocks int32 [n_blocks, block_length], exclusive end of each segment in its block int64 [s])."""
    out = np.full((n_blocks, block_length), pad, np.int32)
    ends = np.empty(len(document), np.int64)
    at = 0
    for s in range(len(document)):
        if s > 0 and block[s] != block[s - 1]:
            at = 0
        begin = offsets[document[s]] + start[s]
        out[block[s], at : at + length[s]] = stream[begin : begin + length[s]]
        at += length[s]
        ends[s] = at
    return out, ends


@njit(cache=True, nogil=True)
def loss_spans(
    document: np.ndarray,
    start: np.ndarray,
    length: np.ndarray,
    block: np.ndarray,
    n_blocks: int,
    spans: np.ndarray,
    span_offsets: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """The spans of every block that are trained on.

    Args:
        document, start, length, block: the segments, as in `fill`.
        spans: int64 [2 m], begins and exclusive ends in a document's stream; a document without any is trained on whole.
        span_offsets: int64 [n + 1], where the spans of each document begin in `spans`.

    Returns:
        Begins and exclusive ends in the blocks, back to back, and int64 [n_blocks + 1] where those of each block begin.
    """
    most = 0
    for s in range(len(document)):
        most += max(2, span_offsets[document[s] + 1] - span_offsets[document[s]])
    out = np.empty(most, np.int64)
    bounds = np.zeros(n_blocks + 1, np.int64)
    n = at = 0
    for s in range(len(document)):
        if s > 0 and block[s] != block[s - 1]:
            at = 0
        d, first, last = document[s], n, start[s] + length[s]
        if span_offsets[d] == span_offsets[d + 1]:
            out[n], out[n + 1] = at, at + length[s]
            n += 2
        for k in range(span_offsets[d], span_offsets[d + 1], 2):
            begin, end = max(spans[k], start[s]), min(spans[k + 1], last)
            if begin < end:
                out[n], out[n + 1] = begin - start[s] + at, end - start[s] + at
                n += 2
        # Spans that touch are one.
        if first > bounds[block[s]] and n > first and out[first - 1] == out[first]:
            out[first - 1] = out[first + 1]
            out[first : n - 2] = out[first + 2 : n].copy()
            n -= 2
        at += length[s]
        bounds[block[s] + 1] = n
    for b in range(n_blocks):
        bounds[b + 1] = max(bounds[b + 1], bounds[b])
    return out[:n], bounds

"""Decontamination: which n-grams of the benchmarks' items a document holds, matched in the pass over the text.

The index is the set of word n-grams of all items (words as in segment.py: case and punctuation do not matter), sorted by
hash, with the items that have each (at most `MAX_ITEMS`). A question shorter than n words is indexed together with its
answer and with its choices; an item that is still too short is uncovered, and listed as such. GPT-3 (Brown et al. 2020,
appendix C) used n = 13.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numba import njit

from ...tokenize.spans import text_buffers
from ..run.numbers import distinct_numbers
from .hashing import mix64
from .segment import Segments, segment

INDEX_SCHEMA = pa.schema(
    [
        pa.field("gram", pa.uint64(), nullable=False),
        pa.field("items", pa.list_(pa.field("item", pa.uint32(), nullable=False)), nullable=False),
    ]
)
"""One row per distinct n-gram, ascending by hash, with the items it stands in."""


@dataclass(frozen=True)
class ContaminationIndex:
    """The n-grams of all items, as flat arrays."""

    ngram: int
    grams: np.ndarray
    """uint64 [grams], ascending."""
    item_offsets: np.ndarray
    """int64 [grams + 1]."""
    items: np.ndarray
    """uint32: items of every gram."""
    pairs: np.ndarray
    """uint64 [PAIR_BITS / 64]: a bitmap over the pairs of neighbouring words of the items, small enough for a core's cache.
    Only where n - 1 pairs in a row are in it can an n-gram match: most words of a text touch nothing else."""
    slots: np.ndarray
    """int64 [slots]: open-addressing table of indices into `grams`, -1 where empty."""


PAIR_BITS = 1 << 22
MAX_ITEMS = 64
"""Most items that a gram names, the first of those that share it: else documents that repeat what thousands of items have in
common would each be listed with all of these."""


@dataclass(frozen=True)
class Grams:
    """The n-grams of some texts."""

    hashes: np.ndarray
    """uint64 [grams]."""
    text: np.ndarray
    """int64 [grams]: index of the text of each."""
    words: np.ndarray
    """int64 [texts]."""
    pairs: np.ndarray
    """uint64 [PAIR_BITS / 64]: bitmap of their word pairs."""


def item_grams(texts: Sequence[str], ngram: int) -> Grams:
    """N-grams of texts."""
    s = segment(*text_buffers(pa.array(texts, pa.large_string())))
    grams, owner = _all_grams(s.word_offsets, s.word_hash, ngram)
    return Grams(grams, owner, np.diff(s.word_offsets), _pair_bitmap(s.word_offsets, s.word_hash))


def make_index(ngram: int, grams: np.ndarray, items: np.ndarray, word_pairs: np.ndarray) -> ContaminationIndex:
    """The index of grams with the item of each, in any order and with repeats.

    Args:
        word_pairs: the bitmap of `Grams` of all of them.
    """
    order = np.lexsort((items, grams))
    grams, items = grams[order], items[order].astype(np.uint32)
    new = np.ones(len(grams), np.bool_)
    new[1:] = (grams[1:] != grams[:-1]) | (items[1:] != items[:-1])
    grams, items = grams[new], items[new]
    _, starts, sizes = np.unique(grams, return_index=True, return_counts=True)
    few = np.arange(len(grams)) - np.repeat(starts, sizes) < MAX_ITEMS
    grams, items = grams[few], items[few]
    distinct, starts = np.unique(grams, return_index=True)
    offsets = np.append(starts, len(grams)).astype(np.int64)
    return _with_table(ngram, distinct, offsets, items, word_pairs)


def _with_table(
    ngram: int, grams: np.ndarray, offsets: np.ndarray, items: np.ndarray, pairs: np.ndarray
) -> ContaminationIndex:
    slots = 1 << max(6, (2 * len(grams)).bit_length())
    return ContaminationIndex(ngram, grams, offsets, items, pairs, _table(grams, slots))


def index_table(index: ContaminationIndex) -> pa.Table:
    """`INDEX_SCHEMA`, as stored in the run."""
    lists = pa.ListArray.from_arrays(
        pa.array(index.item_offsets, pa.int32()), pa.array(index.items), type=INDEX_SCHEMA.field("items").type
    )
    return pa.Table.from_arrays([pa.array(index.grams), lists], schema=INDEX_SCHEMA)


def read_index(path: Path, pairs: Path, ngram: int) -> ContaminationIndex:
    """Read an index: the table that `index_table` made, and the bitmap of word pairs."""
    with pa.memory_map(os.fspath(path)) as source:
        table = pa.ipc.open_file(source).read_all().combine_chunks()
    lists = table.column("items").combine_chunks()
    offsets = lists.offsets.to_numpy().astype(np.int64)
    grams = table.column("gram").to_numpy()
    return _with_table(ngram, grams, offsets, lists.values.to_numpy(), np.fromfile(pairs, "<u8"))


@dataclass(frozen=True)
class Hits:
    """What a batch of documents shares with the benchmarks."""

    spans: np.ndarray
    """int64 [spans, 3]: (document, start, end), bytes; runs of matching n-grams, merged where they touch."""
    document: np.ndarray
    """int64 [hits], ascending: one entry per document and item."""
    item: np.ndarray
    """uint32 [hits], ascending within a document."""


def find_hits(s: Segments, index: ContaminationIndex) -> Hits:
    """Match every n-gram of every document against the index."""
    document, word, gram = _match(s.word_offsets, s.word_hash, index.ngram, index.grams, index.pairs, index.slots)
    if not len(document):
        return Hits(np.empty((0, 3), np.int64), document, np.empty(0, np.uint32))
    start, end = s.word_start[word], s.word_end[word + index.ngram - 1]
    opens = np.append(True, (document[1:] != document[:-1]) | (start[1:] > end[:-1]))
    first = np.flatnonzero(opens)
    spans = np.stack([document[first], start[first], np.maximum.reduceat(end, first)], axis=1)
    # A gram that a document repeats counts once: many items may have it.
    document, gram = _unpack(distinct_numbers(_pack(document, gram)))
    sizes = np.diff(index.item_offsets)[gram]
    at = np.repeat(index.item_offsets[gram] - np.append(0, np.cumsum(sizes)[:-1]), sizes) + np.arange(sizes.sum())
    hit, item = _unpack(distinct_numbers(_pack(np.repeat(document, sizes), index.items[at])))
    return Hits(spans, hit, item.astype(np.uint32))


def _pack(high: np.ndarray, low: np.ndarray) -> np.ndarray:
    """Pairs of numbers below 2^31 and 2^32 as one, in whose order they are sorted."""
    return high.astype(np.int64) << 32 | low.astype(np.int64)


def _unpack(pairs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return pairs >> 32, pairs & 0xFFFFFFFF


_STEP = np.uint64(0xD6E8FEB86659FD93)


@njit(cache=True, nogil=True)
def _all_grams(word_offsets: np.ndarray, word_hash: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    grams = np.empty(len(word_hash), np.uint64)
    owner = np.empty(len(word_hash), np.int64)
    total = 0
    for d in range(len(word_offsets) - 1):
        for w in range(word_offsets[d], word_offsets[d + 1] - n + 1):
            h = np.uint64(0)
            for k in range(n):
                h = h * _STEP + word_hash[w + k]
            grams[total] = mix64(h)
            owner[total] = d
            total += 1
    return grams[:total].copy(), owner[:total].copy()


@njit(cache=True, nogil=True, inline="always")
def _pair_bit(a: np.uint64, b: np.uint64) -> np.uint64:
    return (a * np.uint64(0x9E3779B97F4A7C15) + b * _STEP) >> np.uint64(42)


@njit(cache=True, nogil=True)
def _pair_bitmap(word_offsets: np.ndarray, word_hash: np.ndarray) -> np.ndarray:
    bitmap = np.zeros(PAIR_BITS // 64, np.uint64)
    for d in range(len(word_offsets) - 1):
        for w in range(word_offsets[d] + 1, word_offsets[d + 1]):
            bit = _pair_bit(word_hash[w - 1], word_hash[w])
            bitmap[bit >> np.uint64(6)] |= np.uint64(1) << (bit & np.uint64(63))
    return bitmap


@njit(cache=True, nogil=True)
def _table(grams: np.ndarray, slots: int) -> np.ndarray:
    table = np.full(slots, -1, np.int64)
    for g in range(len(grams)):
        h = grams[g]
        slot = np.int64((h >> np.uint64(32)) & np.uint64(slots - 1))
        while table[slot] >= 0:
            slot = (slot + 1) & (slots - 1)
        table[slot] = g
    return table


@njit(cache=True, nogil=True)
def _match(
    word_offsets: np.ndarray,
    word_hash: np.ndarray,
    n: int,
    grams: np.ndarray,
    pairs: np.ndarray,
    table: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    slot_mask = len(table) - 1
    out = np.empty((64, 3), np.int64)
    total = 0
    for d in range(len(word_offsets) - 1):
        first, last = word_offsets[d], word_offsets[d + 1]
        if last - first < n or len(grams) == 0:
            continue
        run = np.int64(0)  # pairs of the items in a row, up to this word
        for w in range(first + 1, last):
            bit = _pair_bit(word_hash[w - 1], word_hash[w])
            run = (run + 1) * np.int64((pairs[bit >> np.uint64(6)] >> (bit & np.uint64(63))) & np.uint64(1))
            if run < n - 1:
                continue
            h = np.uint64(0)
            for k in range(w - n + 1, w + 1):
                h = h * _STEP + word_hash[k]
            key = mix64(h)
            slot = np.int64((key >> np.uint64(32)) & np.uint64(slot_mask))
            while table[slot] >= 0:
                if grams[table[slot]] == key:
                    if total == len(out):
                        more = np.empty((2 * total, 3), np.int64)
                        more[:total] = out
                        out = more
                    out[total, 0], out[total, 1], out[total, 2] = d, w - n + 1, table[slot]
                    total += 1
                    break
                slot = (slot + 1) & slot_mask
    return out[:total, 0].copy(), out[:total, 1].copy(), out[:total, 2].copy()

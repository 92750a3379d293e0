"""Decontamination: which n-grams of the benchmarks' items a document holds, matched in the pass over the text.

The index is the set of word n-grams of all items (words as in segment.py: case and punctuation do not matter), sorted by
hash, with the items that have each. A question shorter than n words is indexed together with its answer; an item that
is too short even so is uncovered, and listed as such. GPT-3 (Brown et al. 2020, appendix C) used n = 13.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numba import njit

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
    filter: np.ndarray
    """uint64: a bitmap over the hashes, 16 bits or more a gram; most words of a text touch nothing else."""
    slots: np.ndarray
    """int64 [slots]: open-addressing table of indices into `grams`, -1 where empty."""


def item_grams(texts: Sequence[str], ngram: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """N-grams of texts: (hashes uint64, text index int64 of each, words int64 of every text)."""
    column = pa.array(texts, pa.large_string())
    _, offsets, data = column.buffers()
    s = segment(np.frombuffer(data or b"", np.uint8), np.frombuffer(offsets, np.int64)[: len(texts) + 1])
    grams, owner = _all_grams(s.word_offsets, s.word_hash, ngram)
    return grams, owner, np.diff(s.word_offsets)


def make_index(ngram: int, grams: np.ndarray, items: np.ndarray) -> ContaminationIndex:
    """The index of (gram, item) pairs, in any order and with repeats."""
    pairs = np.empty(len(grams), np.dtype([("gram", np.uint64), ("item", np.uint32)]))
    pairs["gram"], pairs["item"] = grams, items
    pairs = np.unique(pairs)
    distinct, starts = np.unique(pairs["gram"], return_index=True)
    offsets = np.append(starts, len(pairs)).astype(np.int64)
    return _with_tables(ngram, distinct, offsets, np.ascontiguousarray(pairs["item"]))


def _with_tables(ngram: int, grams: np.ndarray, offsets: np.ndarray, items: np.ndarray) -> ContaminationIndex:
    bits = 1 << max(16, (16 * len(grams)).bit_length())
    slots = 1 << max(6, (2 * len(grams)).bit_length())
    return ContaminationIndex(ngram, grams, offsets, items, *_tables(grams, bits, slots))


def index_table(index: ContaminationIndex) -> pa.Table:
    """`INDEX_SCHEMA`, as stored in the run."""
    lists = pa.ListArray.from_arrays(
        pa.array(index.item_offsets, pa.int32()), pa.array(index.items), type=INDEX_SCHEMA.field("items").type
    )
    return pa.Table.from_arrays([pa.array(index.grams), lists], schema=INDEX_SCHEMA)


def read_index(path: Path, ngram: int) -> ContaminationIndex:
    """Read an index that `index_table` made."""
    with pa.memory_map(str(path)) as source:
        table = pa.ipc.open_file(source).read_all().combine_chunks()
    lists = table.column("items").combine_chunks()
    offsets = lists.offsets.to_numpy().astype(np.int64)
    grams = table.column("gram").to_numpy()
    return _with_tables(ngram, grams, offsets, lists.values.to_numpy())


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
    document, word, gram = _match(s.word_offsets, s.word_hash, index.ngram, index.grams, index.filter, index.slots)
    if not len(document):
        return Hits(np.empty((0, 3), np.int64), document, np.empty(0, np.uint32))
    start, end = s.word_start[word], s.word_end[word + index.ngram - 1]
    opens = np.append(True, (document[1:] != document[:-1]) | (start[1:] > end[:-1]))
    first = np.flatnonzero(opens)
    spans = np.stack([document[first], start[first], np.maximum.reduceat(end, first)], axis=1)
    sizes = np.diff(index.item_offsets)[gram]
    # One entry per match and item that has its gram, then distinct (document, item).
    at = np.repeat(index.item_offsets[gram] - np.append(0, np.cumsum(sizes)[:-1]), sizes) + np.arange(sizes.sum())
    pairs = np.unique(np.stack([np.repeat(document, sizes), index.items[at].astype(np.int64)]), axis=1)
    return Hits(spans, pairs[0], pairs[1].astype(np.uint32))


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


@njit(cache=True, nogil=True)
def _tables(grams: np.ndarray, bits: int, slots: int) -> tuple[np.ndarray, np.ndarray]:
    filter_ = np.zeros(bits // 64, np.uint64)
    table = np.full(slots, -1, np.int64)
    for g in range(len(grams)):
        h = grams[g]
        bit = h & np.uint64(bits - 1)
        filter_[bit >> np.uint64(6)] |= np.uint64(1) << (bit & np.uint64(63))
        slot = np.int64((h >> np.uint64(32)) & np.uint64(slots - 1))
        while table[slot] >= 0:
            slot = (slot + 1) & (slots - 1)
        table[slot] = g
    return filter_, table


@njit(cache=True, nogil=True)
def _match(
    word_offsets: np.ndarray,
    word_hash: np.ndarray,
    n: int,
    grams: np.ndarray,
    filter_: np.ndarray,
    table: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    bit_mask = np.uint64(len(filter_) * 64 - 1)
    slot_mask = len(table) - 1
    out = np.empty((64, 3), np.int64)
    total = 0
    leading = np.uint64(1)
    for _ in range(n):
        leading *= _STEP
    for d in range(len(word_offsets) - 1):
        first, last = word_offsets[d], word_offsets[d + 1]
        if last - first < n or len(grams) == 0:
            continue
        h = np.uint64(0)
        for w in range(first, first + n - 1):
            h = h * _STEP + word_hash[w]
        dropped = np.uint64(0)
        for w in range(first + n - 1, last):
            # A rolling polynomial: the word that leaves is taken out, the one that enters added.
            h = h * _STEP + word_hash[w] - dropped * leading
            dropped = word_hash[w - n + 1]
            key = mix64(h)
            bit = key & bit_mask
            if not (filter_[bit >> np.uint64(6)] >> (bit & np.uint64(63))) & np.uint64(1):
                continue
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

"""Decontamination: which n-grams of the benchmarks' items a document holds, matched in the pass over the text.

The index is the set of word n-grams of the items, sorted by hash. Words are those of segment.py (case and punctuation do not
matter) with numbers as one (numerals.py), so that an item with other numbers is found; an n-gram of numbers and a few words
that repeat says nothing and is left out. GPT-3 (Brown et al. 2020, appendix C) used n = 13.

An n-gram stands in passages: the whole of an item, where one n-gram is enough to find it; else a question, an answer or
where they meet, of which a document must hold a share. n and the share may differ between benchmarks.
"""

# mypy: disable-error-code="assignment"
# Numba infers the types of kernels; mypy knows numpy scalars and Python numbers as different things.

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numba import njit

from ..run.numbers import distinct_numbers
from .hashing import mix64
from .item_grams import MAX_NGRAM, STEP, least_words, pair_bit
from .leaf import leaf
from .numerals import NumeralTables, is_number_word, next_word, numeral_tables
from .segment import Segments

INDEX_SCHEMA = pa.schema(
    [
        pa.field("gram", pa.uint64(), nullable=False),
        pa.field("passages", pa.list_(pa.field("passage", pa.uint32(), nullable=False)), nullable=False),
    ]
)
"""One row per distinct n-gram, ascending by hash, with the passages it stands in. The metadata names every n."""
PASSAGE_SCHEMA = pa.schema(
    [pa.field("item", pa.uint32(), nullable=False), pa.field("least", pa.uint32(), nullable=False)]
)
"""One row per passage: its item, and the least distinct n-grams of it by which a document holds it."""
_NGRAMS = b"ngrams"


@dataclass(frozen=True)
class ContaminationIndex:
    """The n-grams of all items, as flat arrays."""

    ngrams: np.ndarray
    """int64: every n, ascending."""
    grams: np.ndarray
    """uint64 [grams], ascending."""
    offsets: np.ndarray
    """int64 [grams + 1]."""
    passages: np.ndarray
    """uint32: passages of every gram."""
    items: np.ndarray
    """uint32 [passages]: the item of each."""
    least: np.ndarray
    """uint32 [passages]: distinct n-grams of each that a document must hold."""
    pairs: np.ndarray
    """uint64 [PAIR_BITS / 64]: a bitmap over the pairs of neighbouring words of the n-grams, small enough for a core's cache.
    Only where n - 1 pairs in a row are in it can an n-gram match: most words of a text touch nothing else."""
    hashed: np.ndarray
    """uint64 [words]: a bitmap of some ten bits for each gram, which answers most questions for one that is in none: the
    table is far larger than the caches."""
    slots: np.ndarray
    """int32 [slots]: open-addressing table of indices into `grams`, -1 where empty."""


class _Grams(NamedTuple):
    """What kernels ask of an index; the fields are those of `ContaminationIndex`."""

    ngrams: np.ndarray
    grams: np.ndarray
    pairs: np.ndarray
    hashed: np.ndarray
    slots: np.ndarray


MAX_PASSAGES = 64
"""Most passages that a gram names, the first of those that share it: else documents that repeat what thousands of items have
in common would each be listed with all of these."""
_RING = 2 * MAX_NGRAM


def make_index(
    ngrams: Sequence[int],
    grams: np.ndarray,
    passages: np.ndarray,
    items: np.ndarray,
    overlap: np.ndarray,
    pairs: np.ndarray,
) -> ContaminationIndex:
    """The index of grams with the passage of each, in any order and with repeats.

    Args:
        ngrams: every n.
        items: int [passages]: the item of each.
        overlap: float64 [passages]: share of its distinct n-grams that a document must hold; one at least.
        pairs: the bitmap of all of them.
    """
    order = np.lexsort((passages, grams))
    grams, passages = grams[order], passages[order].astype(np.uint32)
    new = np.ones(len(grams), np.bool_)
    new[1:] = (grams[1:] != grams[:-1]) | (passages[1:] != passages[:-1])
    grams, passages = grams[new], passages[new]
    starts = _starts(grams)
    few = np.arange(len(grams)) - np.repeat(starts, np.diff(np.append(starts, len(grams)))) < MAX_PASSAGES
    grams, passages = grams[few], passages[few]
    starts = _starts(grams)
    # A share such as 0.7 of 10 is 7, whatever its last binary digit says.
    wanted = np.ceil(np.round(overlap * np.bincount(passages, minlength=len(items)), 9))
    return _with_table(
        np.unique(np.asarray(ngrams, np.int64)),
        grams[starts],
        np.append(starts, len(grams)).astype(np.int64),
        passages,
        items.astype(np.uint32),
        np.maximum(wanted, 1).astype(np.uint32),
        pairs,
    )


def _starts(ordered: np.ndarray) -> np.ndarray:
    """Where each run of equal values begins."""
    return np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1])) if len(ordered) else np.empty(0, np.int64)


def _with_table(
    ngrams: np.ndarray,
    grams: np.ndarray,
    offsets: np.ndarray,
    passages: np.ndarray,
    items: np.ndarray,
    least: np.ndarray,
    pairs: np.ndarray,
) -> ContaminationIndex:
    hashed, slots = _tables(grams, 1 << max(6, (2 * len(grams)).bit_length()))
    return ContaminationIndex(ngrams, grams, offsets, passages, items, least, pairs, hashed, slots)


def index_table(index: ContaminationIndex) -> pa.Table:
    """`INDEX_SCHEMA`, as stored in the run."""
    lists = pa.ListArray.from_arrays(
        pa.array(index.offsets, pa.int32()), pa.array(index.passages), type=INDEX_SCHEMA.field("passages").type
    )
    schema = INDEX_SCHEMA.with_metadata({_NGRAMS: " ".join(map(str, index.ngrams.tolist()))})
    return pa.Table.from_arrays([pa.array(index.grams), lists], schema=schema)


def passage_table(index: ContaminationIndex) -> pa.Table:
    """`PASSAGE_SCHEMA`, as stored in the run."""
    return pa.Table.from_arrays([pa.array(index.items), pa.array(index.least)], schema=PASSAGE_SCHEMA)


def read_index(grams: Path, passages: Path, pairs: Path) -> ContaminationIndex:
    """Read an index: the tables that `index_table` and `passage_table` made, and the bitmap of word pairs."""
    table, of = _mapped(grams), _mapped(passages)
    lists = table.column("passages").combine_chunks()
    return _with_table(
        np.array(table.schema.metadata[_NGRAMS].split(), np.int64),
        table.column("gram").to_numpy(),
        lists.offsets.to_numpy().astype(np.int64),
        lists.values.to_numpy(),
        of.column("item").to_numpy(),
        of.column("least").to_numpy(),
        np.fromfile(pairs, "<u8"),
    )


def _mapped(path: Path) -> pa.Table:
    with pa.memory_map(os.fspath(path)) as source:
        return pa.ipc.open_file(source).read_all().combine_chunks()


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
    matches = _match(
        s.text,
        s.word_offsets,
        s.word_hash,
        s.word_start,
        s.word_end,
        numeral_tables(),
        _Grams(index.ngrams, index.grams, index.pairs, index.hashed, index.slots),
    )
    document, first, last, gram = matches.T
    if not len(document):
        return Hits(np.empty((0, 3), np.int64), document, np.empty(0, np.uint32))
    # A gram that a document repeats counts once.
    places = _pack(document, gram)
    distinct = distinct_numbers(places)
    of_document, of_gram = _unpack(distinct)
    sizes = index.offsets[of_gram + 1] - index.offsets[of_gram]
    at = np.repeat(index.offsets[of_gram] - np.append(0, np.cumsum(sizes))[:-1], sizes) + np.arange(sizes.sum())
    passage = index.passages[at]
    held = _pack(np.repeat(of_document, sizes), passage)
    enough = _times(held) >= index.least[passage]
    hit, item = _unpack(distinct_numbers(_pack(held[enough] >> 32, index.items[passage[enough]])))
    counted = np.zeros(len(distinct), np.bool_)
    counted[np.repeat(np.arange(len(distinct)), sizes)[enough]] = True
    inside = counted[np.searchsorted(distinct, places)]
    spans = _spans(document[inside], s.word_start[first[inside]], s.word_end[last[inside]])
    return Hits(spans, hit, item.astype(np.uint32))


def _times(values: np.ndarray) -> np.ndarray:
    """How often each value stands in the array."""
    order = np.argsort(values, kind="stable")
    starts = _starts(values[order])
    sizes = np.diff(np.append(starts, len(values)))
    times = np.empty(len(values), np.int64)
    times[order] = np.repeat(sizes, sizes)
    return times


def _spans(document: np.ndarray, start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """Stretches of documents, by document, merged where they touch."""
    if not len(document):
        return np.empty((0, 3), np.int64)
    order = np.lexsort((end, start, document))
    document, start, end = document[order], start[order], end[order]
    # One that began before may end after: with several n, or numbers of several words, ends need not ascend.
    reach = np.maximum.accumulate(_pack(document, end)) & 0xFFFFFFFF
    opens = np.append(True, (document[1:] != document[:-1]) | (start[1:] > reach[:-1]))
    first = np.flatnonzero(opens)
    return np.stack([document[first], start[first], np.maximum.reduceat(end, first)], axis=1)


def _pack(high: np.ndarray, low: np.ndarray) -> np.ndarray:
    """Pairs of numbers below 2^31 and 2^32 as one, in whose order they are sorted."""
    return high.astype(np.int64) << 32 | low.astype(np.int64)


def _unpack(pairs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return pairs >> 32, pairs & 0xFFFFFFFF


@njit(cache=True, nogil=True)
def _tables(grams: np.ndarray, slots: int) -> tuple[np.ndarray, np.ndarray]:
    """The bitmap and the table of an index."""
    bits = 4 * slots
    hashed = np.zeros(bits // 64, np.uint64)
    table = np.full(slots, -1, np.int32)
    for g in range(len(grams)):
        h = grams[g]
        bit = h & np.uint64(bits - 1)
        hashed[bit >> np.uint64(6)] |= np.uint64(1) << (bit & np.uint64(63))
        slot = np.int64((h >> np.uint64(32)) & np.uint64(slots - 1))
        while table[slot] >= 0:
            slot = (slot + 1) & (slots - 1)
        table[slot] = g
    return hashed, table


@njit(cache=True, nogil=True, inline="always")
def _find(index: _Grams, key: np.uint64) -> np.int64:
    """The place of a gram in the index, -1 where it has none."""
    bit = key & np.uint64(64 * len(index.hashed) - 1)
    if not (index.hashed[bit >> np.uint64(6)] >> (bit & np.uint64(63))) & np.uint64(1):
        return np.int64(-1)
    mask = len(index.slots) - 1
    slot = np.int64((key >> np.uint64(32)) & np.uint64(mask))
    while index.slots[slot] >= 0 and index.grams[index.slots[slot]] != key:
        slot = (slot + 1) & mask
    return np.int64(index.slots[slot])


@njit(cache=True, nogil=True, inline="always")
def _in_bitmap(pairs: np.ndarray, a: np.uint64, b: np.uint64) -> np.int64:
    bit = pair_bit(a, b)
    return np.int64((pairs[bit >> np.uint64(6)] >> (bit & np.uint64(63))) & np.uint64(1))


@njit(cache=True, nogil=True, inline="always")
def _may_be_number(text: np.ndarray, start: int, word: np.uint64, numerals: NumeralTables) -> np.uint8:
    """1 where a word may be of a number, which only `next_word` can tell."""
    return np.uint8(numerals.leads[text[np.uint64(start)]]) | np.uint8(is_number_word(numerals, word))


@leaf
def _find_runs(
    text: np.ndarray,
    word_hash: np.ndarray,
    word_start: np.ndarray,
    numerals: NumeralTables,
    index: _Grams,
    first: int,
    last: int,
    length: int,
    meets: np.ndarray,
    runs: np.ndarray,
) -> int:
    """Find where `length` pairs in a row begin that may be in an n-gram, among the words from `first` up to `last`.

    Without a branch: half of the pairs of ordinary text are in the bitmap, so nothing could predict one, and what is read
    ahead hides that the bitmap is larger than the nearest cache.

    Args:
        meets: uint8, receives for each word whether its pair with the one before may be in an n-gram: it is in the
            bitmap, or one of the words may be of a number.
        runs: int64, receives the first word of each longest such run.

    Returns:
        How many runs there are.
    """
    found = run = 0
    before, number_before = word_hash[first], _may_be_number(text, word_start[first], word_hash[first], numerals)
    for w in range(first + 1, last):
        word = word_hash[w]
        number = _may_be_number(text, word_start[w], word, numerals)
        meet = np.uint8(_in_bitmap(index.pairs, before, word)) | number | number_before
        meets[w - first] = meet
        run = (run + 1) * np.int64(meet)
        runs[found] = w - length
        found += run == length
        before, number_before = word, number
    return found


@njit(cache=True, nogil=True)
def _match(
    text: np.ndarray,
    word_offsets: np.ndarray,
    word_hash: np.ndarray,
    word_start: np.ndarray,
    word_end: np.ndarray,
    numerals: NumeralTables,
    index: _Grams,
) -> np.ndarray:
    """int64 [matches, 4]: document, first word, last word, index of the gram; by document and last word."""
    out = np.empty((64, 4), np.int64)
    total = 0
    if len(index.grams) == 0:
        return out[:0]
    length = index.ngrams[0] - 1
    most = np.max(word_offsets[1:] - word_offsets[:-1])
    meets, runs = np.empty(most, np.uint8), np.empty(most + 1, np.int64)
    # Of the last words of a run: hash, index of its first word in the text, numbers before it.
    ring = np.empty(_RING, np.uint64), np.empty(_RING, np.int64), np.empty(_RING, np.int64)
    for d in range(len(word_offsets) - 1):
        first, last = word_offsets[d], word_offsets[d + 1]
        if last - first <= length:
            continue
        found = _find_runs(text, word_hash, word_start, numerals, index, first, last, length, meets, runs)
        for r in range(found):
            w = runs[r]
            while True:
                out, total, w = _match_run(
                    text, word_hash, word_start, word_end, numerals, index, ring, d, w, last, out, total
                )
                # Where a number was what the run had in the place of a pair, another may begin within it.
                if w == last or not meets[w - first]:
                    break
    return out[:total].copy()


@njit(cache=True, nogil=True)
def _match_run(
    text: np.ndarray,
    word_hash: np.ndarray,
    word_start: np.ndarray,
    word_end: np.ndarray,
    numerals: NumeralTables,
    index: _Grams,
    ring: tuple[np.ndarray, np.ndarray, np.ndarray],
    d: int,
    w: int,
    last: int,
    out: np.ndarray,
    total: int,
) -> tuple[np.ndarray, int, int]:
    """Match the n-grams from word w on, as far as all pairs are in the bitmap.

    Returns:
        The matches, how many there are, and the first word that was not read: no n-gram has it and the one before it.
    """
    hashes, firsts, before = ring
    k = numbers = np.int64(0)
    previous = np.uint64(0)
    while w < last:
        word, number, after = word_hash[w], False, w + 1
        if numerals.leads[text[word_start[w]]] or is_number_word(numerals, word):
            word, number, after = next_word(text, word_hash, word_start, word_end, numerals, w, last)
        if k and not _in_bitmap(index.pairs, previous, word):
            break
        at = k & (_RING - 1)
        hashes[at], firsts[at], before[at] = word, w, numbers
        numbers += number
        k += 1
        previous, w = word, after
        for n in index.ngrams:
            if k < n:
                break
            # No gram of the index: known before its hash is made.
            if n - (numbers - before[(k - n) & (_RING - 1)]) < least_words(n):
                continue
            h = np.uint64(n)
            for j in range(k - n, k):
                h = h * STEP + hashes[j & (_RING - 1)]
            gram = _find(index, mix64(h))
            if gram < 0:
                continue
            if total == len(out):
                more = np.empty((2 * total, 4), np.int64)
                more[:total] = out
                out = more
            out[total, 0], out[total, 1] = d, firsts[(k - n) & (_RING - 1)]
            out[total, 2], out[total, 3] = w - 1, gram
            total += 1
    return out, total, w

"""Decontamination: which n-grams of the benchmarks' items a document holds, matched in the pass over the text.

The index is the set of word n-grams of the items, sorted by hash. Words are those of segment.py (case and punctuation do not
matter) with numbers as one (numerals.py), so that an item with other numbers is found; an n-gram of numbers and a few words
that repeat says nothing and is left out. GPT-3 (Brown et al. 2020, appendix C) used n = 13.

An n-gram stands in passages: the whole of an item, where one n-gram is enough to find it; else a question, an answer or
where they meet, of which a document must hold a share. n and the share may differ between benchmarks.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numba import njit

from ..run.numbers import distinct_numbers
from .hashing import mix64
from .item_grams import MAX_NGRAM, STEP, least_words, pair_bit
from .numerals import NUMERAL, NumeralTables, is_joint, is_number_word, next_word, numeral_tables
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
    slots: np.ndarray
    """int32 [slots]: open-addressing table of indices into `grams`, -1 where empty."""


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
    slots = _table(grams, 1 << max(6, (2 * len(grams)).bit_length()))
    return ContaminationIndex(ngrams, grams, offsets, passages, items, least, pairs, slots)


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
        index.ngrams,
        index.grams,
        index.pairs,
        index.slots,
    )
    document, first, last, gram = matches.T
    if not len(document):
        return Hits(np.empty((0, 3), np.int64), document, np.empty(0, np.uint32))
    # A gram that a document repeats counts once.
    places = _pack(document, gram)
    distinct = distinct_numbers(places)
    of_document, of_gram = _unpack(distinct)
    sizes = np.diff(index.offsets)[of_gram]
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
def _table(grams: np.ndarray, slots: int) -> np.ndarray:
    table = np.full(slots, -1, np.int32)
    for g in range(len(grams)):
        h = grams[g]
        slot = np.int64((h >> np.uint64(32)) & np.uint64(slots - 1))
        while table[slot] >= 0:
            slot = (slot + 1) & (slots - 1)
        table[slot] = g
    return table


@njit(cache=True, nogil=True, inline="always")
def _in_bitmap(pairs: np.ndarray, a: np.uint64, b: np.uint64) -> np.int64:
    bit = pair_bit(a, b)
    return np.int64((pairs[bit >> np.uint64(6)] >> (bit & np.uint64(63))) & np.uint64(1))


@njit(cache=True, nogil=True)
def _match(
    text: np.ndarray,
    word_offsets: np.ndarray,
    word_hash: np.ndarray,
    word_start: np.ndarray,
    word_end: np.ndarray,
    numerals: NumeralTables,
    ngrams: np.ndarray,
    grams: np.ndarray,
    pairs: np.ndarray,
    table: np.ndarray,
) -> np.ndarray:
    """int64 [matches, 4]: document, first word, last word, index of the gram; by document and last word."""
    out = np.empty((64, 4), np.int64)
    total = 0
    if len(grams) == 0:
        return out[:0]
    trigger = ngrams[0] - 1
    for d in range(len(word_offsets) - 1):
        w, last = word_offsets[d], word_offsets[d + 1]
        if last - w <= trigger:
            continue
        run = np.int64(0)  # pairs of the items in a row, up to this word; most words end one, so no branch asks
        begin = w  # word with which they begin
        previous = np.uint64(0)
        while w < last:
            at, word = w, word_hash[w]
            # `next_word` only where it can make a difference: a call for each word would cost more than all else here.
            i, end = word_start[w], word_end[w]
            w += 1
            if numerals.leads[text[i]] or is_number_word(numerals, word):
                while i < end and 48 <= text[i] <= 57:
                    i += 1
                if i == end and not (w < last and word_start[w] == end + 1 and is_joint(text[end])):
                    word = NUMERAL
                else:
                    word, _, w = next_word(text, word_hash, word_start, word_end, numerals, at, last)
            known = _in_bitmap(pairs, previous, word)
            run = (run + 1) * known
            begin = at + (begin - at) * known
            previous = word
            if run < trigger:
                continue
            out, total, w, previous = _match_run(
                text,
                word_hash,
                word_start,
                word_end,
                numerals,
                ngrams,
                grams,
                pairs,
                table,
                d,
                begin,
                last,
                out,
                total,
            )
            run = np.int64(0)
    return out[:total].copy()


@njit(cache=True, nogil=True)
def _match_run(
    text: np.ndarray,
    word_hash: np.ndarray,
    word_start: np.ndarray,
    word_end: np.ndarray,
    numerals: NumeralTables,
    ngrams: np.ndarray,
    grams: np.ndarray,
    pairs: np.ndarray,
    table: np.ndarray,
    d: int,
    w: int,
    last: int,
    out: np.ndarray,
    total: int,
) -> tuple[np.ndarray, int, int, np.uint64]:
    """Match the n-grams from word w on, as far as all pairs are in the bitmap.

    Returns:
        The matches, how many there are, the first word that was not read, and the hash of the one before it.
    """
    slot_mask = len(table) - 1
    # Of the last words: hash, index of its first word in the text, numbers before it.
    hashes, firsts, before = np.empty(_RING, np.uint64), np.empty(_RING, np.int64), np.empty(_RING, np.int64)
    k = numbers = np.int64(0)
    previous = np.uint64(0)
    while w < last:
        word, number, after = word_hash[w], False, w + 1
        if numerals.leads[text[word_start[w]]] or is_number_word(numerals, word):
            word, number, after = next_word(text, word_hash, word_start, word_end, numerals, w, last)
        if k and not _in_bitmap(pairs, previous, word):
            break
        at = k & (_RING - 1)
        hashes[at], firsts[at], before[at] = word, w, numbers
        numbers += number
        k += 1
        previous, w = word, after
        for n in ngrams:
            if k < n:
                break
            # No gram of the index: known before its hash is made.
            if n - (numbers - before[(k - n) & (_RING - 1)]) < least_words(n):
                continue
            h = np.uint64(n)
            for j in range(k - n, k):
                h = h * STEP + hashes[j & (_RING - 1)]
            key = mix64(h)
            slot = np.int64((key >> np.uint64(32)) & np.uint64(slot_mask))
            while table[slot] >= 0:
                if grams[table[slot]] == key:
                    if total == len(out):
                        more = np.empty((2 * total, 4), np.int64)
                        more[:total] = out
                        out = more
                    out[total, 0], out[total, 1] = d, firsts[(k - n) & (_RING - 1)]
                    out[total, 2], out[total, 3] = w - 1, table[slot]
                    total += 1
                    break
                slot = (slot + 1) & slot_mask
    return out, total, w, previous

"""An exact cache of words in front of an encoder: most words of a text were encoded before, and looking one up is faster.

Where no piece of a model holds a space after another character, no merge crosses the place before a space, and the ids of a
text are those of its words one after the other, each with the spaces before it. The same holds around line feeds where no
piece mixes them with other characters. `Cuts.of` looks at the pieces; where they do not allow it, there is no cache.

It holds as well between any two characters that no piece has side by side. A word that is not known is cut there, by a cache of
its own: most of its parts are known (`apathetically.` is new where `apathetically` and `.` are not).

Words are compared by their bytes, never by a hash alone: up to fifteen bytes are the key itself, longer ones are kept.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numba import njit

from .spans import gather, text_buffers
from .vectors import load_eight, prefetch, trailing_zeros

SLOTS = 1 << 20
"""Of a table; a power of two. When five of eight are taken, words that were met once are forgotten, which changes no
id."""
PART_SLOTS = 1 << 19
"""The same of the table of parts of words."""
LONGEST_WORD = 64
"""Bytes of a word that is kept; longer ones are seldom seen again."""
SEGMENT_WORDS = 1 << 17
"""Words of a text that are looked up before the new ones among them are encoded, together."""

AHEAD = 32
"""Words whose place in the table is asked for before the first of them is looked up."""

Encode = Callable[[pa.LargeStringArray], tuple[np.ndarray, np.ndarray]]
"""Texts -> (ids int32 [total], offsets int64 [n + 1])."""


@dataclass(frozen=True)
class Cuts:
    """Where a text may be cut, besides before a space that follows another character."""

    line_feeds: bool
    """Before and after a run of line feeds."""

    @classmethod
    def of(cls, pieces: pa.LargeStringArray) -> Cuts | None:
        """What the pieces of a BPE model without a dummy prefix allow; None: nothing."""
        if pc.any(pc.match_substring_regex(pieces, " |[^\u2581]\u2581")).as_py():
            return None
        return cls(line_feeds=not pc.any(pc.match_substring_regex(pieces, "[^\n]\n|\n[^\n]")).as_py())


class WordCache:
    """The ids of words, or of parts of words, that were encoded before."""

    def __init__(
        self,
        encode: Encode,
        cuts: Cuts | np.ndarray,
        slots: int = SLOTS,
        segment: int = SEGMENT_WORDS,
    ) -> None:
        """
        Args:
            encode: what gives the ids of words that are not known.
            cuts: where the pieces of its model allow to cut texts into words; or words into parts, between any two characters
                that no piece has side by side: bool [128, 128], whether one has.
            slots, segment: see `SLOTS` and `SEGMENT_WORDS`; at least twice as many slots as words of a segment.
        """
        self._encode, self._slots = encode, slots
        self._line_feeds = isinstance(cuts, Cuts) and cuts.line_feeds
        self._joined = np.empty(0, np.bool_) if isinstance(cuts, Cuts) else cuts.ravel()
        self._chunks = np.empty(segment, np.int32)
        self._found = np.empty((segment, 2), np.int64)
        self._table = np.zeros(3 * slots, np.uint64)
        self._long = np.empty(1 << 16, np.uint8)
        self._state = np.zeros(2, np.int64)
        self._ids = np.empty(1 << 16, np.int32)
        self._bounds = np.zeros(1 << 16, np.int32)

    def _forget(self) -> None:
        """Forget the words that were met once since they were learnt, or since this was last done: half of the words of a text
        occur once in it. Of the others, so many are kept that there is room for new ones.
        """
        before = (self._table, self._long, self._ids, self._bounds)
        most = min(self._slots * 3 // 8, self._slots * 5 // 8 - len(self._chunks))
        self._table, self._long, self._ids, self._bounds = (np.zeros(len(b), b.dtype) for b in before)
        _keep(*before, most, self._table, self._long, self._ids, self._bounds, self._state)

    def encode(self, texts: pa.LargeStringArray) -> tuple[np.ndarray, np.ndarray]:
        """(ids int32 [total], offsets int64 [n + 1]) of documents: those that `encode` gives for the whole texts."""
        text, bounds = text_buffers(texts)
        ends = np.zeros(len(texts) + 1, np.int64)
        parts = [np.empty(0, np.int32)]
        document, at, count = 0, int(bounds[0]), 0
        while document < len(texts):
            segment = len(self._chunks)
            if self._state[0] + segment > self._slots * 5 // 8:
                self._forget()
            known, used = map(int, self._state)
            self._long = _with_room(self._long, used, segment * LONGEST_WORD)
            first = document
            document, at, chunks, new, once = _look_up(
                text,
                bounds,
                document,
                at,
                self._line_feeds,
                self._joined,
                self._table,
                self._long,
                self._state,
                self._chunks,
                self._found,
                ends,
            )
            ids, offsets_once = self._learn(text, known, new, once)
            part = _emit(
                self._chunks[:chunks], self._ids, self._bounds, ids, offsets_once, ends, first, document, count
            )
            parts.append(part)
            count += len(part)
        return (parts[1] if len(parts) == 2 else np.concatenate(parts)), ends

    def _learn(self, text: np.ndarray, known: int, new: int, once: int) -> tuple[np.ndarray, np.ndarray]:
        """Encode what was not known; (ids, offsets) of the words that are not kept.

        Args:
            known: words that were known before.
            new: words from the beginning of `_found` that are kept.
            once: words from the end of `_found` that are not.
        """
        if not new + once:
            return np.empty(0, np.int32), np.zeros(1, np.int64)
        spans = np.concatenate([self._found[:new], self._found[len(self._found) - once :][::-1]])
        begins, ends = np.ascontiguousarray(spans.T)
        data, bounds = gather(text, begins, ends - begins)
        buffers = [None, pa.py_buffer(bounds), pa.py_buffer(data)]
        ids, offsets = self._encode(pa.Array.from_buffers(pa.large_string(), len(spans), buffers))
        held, added = int(self._bounds[known]), int(offsets[new])
        self._ids = _with_room(self._ids, held, added)
        self._ids[held : held + added] = ids[:added]
        self._bounds = _with_room(self._bounds, known + 1, new)
        self._bounds[known + 1 : known + 1 + new] = held + offsets[1 : new + 1]
        return ids[added:], offsets[new:] - added


def _with_room(values: np.ndarray, used: int, more: int) -> np.ndarray:
    """An array with room for more values after those that are used."""
    if used + more <= len(values):
        return values
    larger = np.zeros(max(2 * len(values), used + more), values.dtype)
    larger[:used] = values[:used]
    return larger


@njit(cache=True, nogil=True, inline="always")
def _up_to(data: np.ndarray, at: int, size: int) -> np.uint64:
    """The first `size` bytes of ``data[at:]``, at most eight, as a little-endian number."""
    if size <= 0:
        return np.uint64(0)
    if at + 8 <= len(data):
        value = load_eight(data, at)
    else:
        value = np.uint64(0)
        for k in range(size):
            value |= np.uint64(data[at + k]) << np.uint64(8 * k)
    if size < 8:
        value &= (np.uint64(1) << np.uint64(8 * size)) - np.uint64(1)
    return value


_ONES = np.uint64(0x0101010101010101)
_HIGHS = np.uint64(0x8080808080808080)
_SPACES = np.uint64(0x2020202020202020)
_FEEDS = np.uint64(0x0A0A0A0A0A0A0A0A)
_LONG = np.uint64(0xFF) << np.uint64(56)
"""The last byte of the second key of a word that is kept elsewhere; of a short one it is its length."""
_AGAIN = np.uint64(1) << np.uint64(32)
"""The bit, beside a word's number, that it was met again."""


@njit(cache=True, nogil=True)
def _word_end(text: np.ndarray, at: int, end: int, line_feeds: bool) -> int:
    """Where the word that begins at `at`, with its spaces, ends."""
    if line_feeds and text[at] == 10:
        while at < end and text[at] == 10:
            at += 1
        return at
    while at < end and text[at] == 32:
        at += 1
    first = at
    while at < end:
        if at + 8 <= end:
            eight = load_eight(text, at)
            other = eight ^ _SPACES
            hits = (other - _ONES) & ~other & _HIGHS
            if line_feeds:
                other = eight ^ _FEEDS
                hits |= (other - _ONES) & ~other & _HIGHS
            if hits == 0:
                at += 8
                continue
            # Of all hits the lowest is right: a borrow only reaches those above.
            at += trailing_zeros(hits) >> 3
        elif text[at] != 32 and not (line_feeds and text[at] == 10):
            at += 1
            continue
        # The character that stands for a space in pieces may join the spaces after it.
        if not (at - first >= 3 and text[at - 3] == 0xE2 and text[at - 2] == 0x96 and text[at - 1] == 0x81):
            return at
        if text[at] == 10:
            return at
        while at < end and text[at] == 32:
            at += 1
    return end


@njit(cache=True, nogil=True)
def _part_end(text: np.ndarray, at: int, end: int, joined: np.ndarray) -> int:
    """Where the part of a word that begins at `at` ends."""
    before = np.int64(text[at])
    for place in range(at + 1, end):
        here = np.int64(text[place])
        if before < 128 and here < 128 and not joined[before << 7 | here]:
            return place
        before = here
    return end


@njit(cache=True, nogil=True, inline="always")
def _keys(text: np.ndarray, at: int, size: int) -> tuple[np.uint64, np.uint64]:
    """The first and the second key of a word; of a long one, the second has yet to get where it is kept."""
    first = _up_to(text, at, min(size, 8))
    if size <= 15:
        return first, _up_to(text, at + 8, size - 8) | np.uint64(size) << np.uint64(56)
    h = np.uint64(size)
    for place in range(at, at + size, 8):
        h = (h ^ _up_to(text, place, min(at + size - place, 8))) * np.uint64(0xD6E8FEB86659FD93)
        h ^= h >> np.uint64(32)
    return h, _LONG


@njit(cache=True, nogil=True, inline="always")
def _slot_of(first: np.uint64, second: np.uint64, mask: np.uint64) -> np.uint64:
    """Where a word is looked for in the table first, by its keys; of a long one, only the first key tells."""
    h = first
    if second < _LONG:
        h = first * np.uint64(0x9E3779B97F4A7C15) ^ second * np.uint64(0xD6E8FEB86659FD93)
        h ^= h >> np.uint64(29)
    h *= np.uint64(0xBF58476D1CE4E5B9)
    return ((h >> np.uint64(40)) & mask) * np.uint64(3)


@njit(cache=True, nogil=True)
def _look_up(
    text: np.ndarray,
    bounds: np.ndarray,
    document: int,
    at: int,
    line_feeds: bool,
    joined: np.ndarray,
    table: np.ndarray,
    long: np.ndarray,
    state: np.ndarray,
    chunks: np.ndarray,
    found: np.ndarray,
    ends: np.ndarray,
) -> tuple[int, int, int, int, int]:
    """Cut documents into words from a place on, until there is no room for more.

    Args:
        document, at: the document and the byte to begin with.
        joined: bool [128 x 128] of what is cut into parts, as `WordCache` takes it; empty for texts, which are cut into words.
        table: uint64 [3 slots]: the bytes of a word with its length, or its hash and where it lies in `long`; then its number
            and one, with `_AGAIN` where it was met again; 0 where the slot is free.
        state: (words that are known, bytes of `long`); changed.
        chunks: int32: gets the words by number, those that are not kept as -1 - theirs.
        found: int64 [n, 2]: gets where new words lie, from its beginning on, and those that are not kept, from its end.
        ends: int64 [documents + 1]: gets how many of `chunks` precede the end of a document, as -1 - their number.

    Returns:
        the document and the byte to go on with, and the counts of chunks, new words, and words that are not kept.
    """
    mask = np.uint64(len(table) // 3 - 1)
    count, new, once = 0, 0, 0
    documents, room = len(bounds) - 1, len(chunks)
    begins, slots = np.empty(AHEAD + 1, np.int64), np.empty(AHEAD, np.uint64)
    keys = np.empty((AHEAD, 2), np.uint64)
    while True:
        # The table is larger than what a core keeps: its slots are on their way while the next words are cut.
        words, most = 0, min(AHEAD, room - count)
        while document < documents:
            end = bounds[document + 1]
            if at == end:
                document += 1
                ends[document] = -1 - count - words
                continue
            if words == most:
                break
            stop = _part_end(text, at, end, joined) if len(joined) else _word_end(text, at, end, line_feeds)
            size = stop - at
            if size <= LONGEST_WORD:
                first, second = _keys(text, at, size)
                keys[words, 0], keys[words, 1] = first, second
                slots[words] = _slot_of(first, second, mask)
                prefetch(table, slots[words])
                prefetch(table, slots[words] + np.uint64(2))
            begins[words] = at
            words += 1
            at = begins[words] = stop
        if words == 0:
            return document, at, count, new, once
        for w in range(words):
            begin, size = begins[w], begins[w + 1] - begins[w]
            if size > LONGEST_WORD:
                once += 1
                found[len(found) - once, 0], found[len(found) - once, 1] = begin, begin + size
                chunks[count] = -once
                count += 1
                continue
            first, second, slot = keys[w, 0], keys[w, 1], slots[w]
            while True:
                word = np.int64(table[slot + np.uint64(2)])
                if word == 0:
                    break
                if table[slot] == first:
                    other = table[slot + np.uint64(1)]
                    if size <= 15:
                        if other == second:
                            break
                    elif other >= _LONG:
                        kept = np.int64(other & ~_LONG) >> 7
                        same = np.int64(other & np.uint64(127)) == size
                        for k in range(size):
                            same = same and long[kept + k] == text[begin + k]
                            if not same:
                                break
                        if same:
                            break
                slot += np.uint64(3)
                if slot == np.uint64(len(table)):
                    slot = np.uint64(0)
            if word == 0:
                if size > 15:
                    second |= np.uint64(state[1] << 7 | size)
                    for k in range(size):
                        long[state[1] + k] = text[begin + k]
                    state[1] += size
                state[0] += 1
                word = state[0]
                table[slot], table[slot + np.uint64(1)], table[slot + np.uint64(2)] = first, second, np.uint64(word)
                found[new, 0], found[new, 1] = begin, begin + size
                new += 1
            elif word < np.int64(_AGAIN):
                table[slot + np.uint64(2)] |= _AGAIN
            else:
                word -= np.int64(_AGAIN)
            chunks[count] = word - 1
            count += 1


@njit(cache=True, nogil=True)
def _keep(
    table: np.ndarray,
    long: np.ndarray,
    ids: np.ndarray,
    bounds: np.ndarray,
    most: int,
    new_table: np.ndarray,
    new_long: np.ndarray,
    new_ids: np.ndarray,
    new_bounds: np.ndarray,
    state: np.ndarray,
) -> None:
    """Enter the words that were met again into a new table, at most so many.

    Args:
        table, long: as `_look_up` leaves them; `ids` and `bounds` as `_emit` takes them.
        new_table, new_long, new_ids, new_bounds: the same, as large and empty.
        state: (words that are known, bytes of `long`); becomes that of the new ones.
    """
    mask = np.uint64(len(table) // 3 - 1)
    slots = np.full(state[0], -1, np.int32)
    for old in range(0, len(table), 3):
        if table[old + 2] >= _AGAIN:
            slots[np.int64(table[old + 2] - _AGAIN) - 1] = old
    count = used = held = 0
    # In the order in which they were learnt, so that what is met most lies together.
    for number in range(len(slots)):
        if number + 2 * AHEAD < len(slots):
            prefetch(table, max(slots[number + 2 * AHEAD], 0))
            ahead = max(slots[number + AHEAD], 0)
            prefetch(new_table, _slot_of(table[ahead], table[ahead + 1], mask))
        old = slots[number]
        if old < 0 or count == most:
            continue
        first, second = table[old], table[old + 1]
        slot = _slot_of(first, second, mask)
        if second >= _LONG:
            kept, size = np.int64(second & ~_LONG) >> 7, np.int64(second & np.uint64(127))
            new_long[used : used + size] = long[kept : kept + size]
            second = _LONG | np.uint64(used << 7 | size)
            used += int(size)
        while new_table[slot + np.uint64(2)]:
            slot += np.uint64(3)
            if slot == np.uint64(len(table)):
                slot = np.uint64(0)
        for k in range(bounds[number], bounds[number + 1]):
            new_ids[held] = ids[k]
            held += 1
        count += 1
        new_bounds[count] = held
        new_table[slot], new_table[slot + np.uint64(1)], new_table[slot + np.uint64(2)] = (
            first,
            second,
            np.uint64(count),
        )
    state[0], state[1] = count, used


@njit(cache=True, nogil=True)
def _emit(
    chunks: np.ndarray,
    ids: np.ndarray,
    bounds: np.ndarray,
    once_ids: np.ndarray,
    once_bounds: np.ndarray,
    ends: np.ndarray,
    first: int,
    last: int,
    before: int,
) -> np.ndarray:
    """The ids of words, one after the other.

    Args:
        bounds: of the words in `ids`; `once_bounds` and `once_ids` likewise of those that are not kept.
        ends: as `_look_up` leaves them; gets the number of ids before each end.
        first, last: the documents from `first` up to `last` end within these words.
        before: ids of earlier words.
    """
    total = 0
    for c in range(len(chunks)):
        prefetch(bounds, max(chunks[min(c + AHEAD, len(chunks) - 1)], 0))
        word = chunks[c]
        total += bounds[word + 1] - bounds[word] if word >= 0 else once_bounds[-word] - once_bounds[-word - 1]
    out = np.empty(total, np.int32)
    document = first + 1
    at = 0
    for c in range(len(chunks)):
        while document <= last and ends[document] == -1 - c:
            ends[document] = before + at
            document += 1
        prefetch(ids, bounds[max(chunks[min(c + AHEAD, len(chunks) - 1)], 0)])
        word = chunks[c]
        if word >= 0:
            for k in range(bounds[word], bounds[word + 1]):
                out[at] = ids[k]
                at += 1
        else:
            for k in range(once_bounds[-word - 1], once_bounds[-word]):
                out[at] = once_ids[k]
                at += 1
    while document <= last:
        ends[document] = before + at
        document += 1
    return out

"""Byte-pair encoding of words as SentencePiece does it: the pair whose piece has the highest score is merged first, of equal ones
the leftmost, until no two neighbours form a piece; a character that is no piece becomes its bytes.

User-defined pieces are found before anything is merged, from the left the longest, and join no other.

A model is served if SentencePiece itself knows no more of it than that: trained by BPE, with bytes as fallback, no unused
pieces, and each character of a piece a piece of its own. Long words are left to SentencePiece, whose work does not grow with
the square, and so are those with the character that stands for a space in pieces.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numba import njit

from .literals import Literals, literal_at, may_begin
from .pieces import BYTE, NORMAL, UNUSED, USER_DEFINED, Pieces
from .spans import taken, text_buffers

CODE_POINTS = 0x110000
LONGEST = 256
"""Bytes of a word that is merged here: the work grows with the square."""
_BPE = 2
"""Of a model."""
_NOTHING = np.int32(1 << 30)
"""The rank of a pair that forms no piece."""
PIECE_BITS = 21
"""A pair of pieces and the one that they form fit into a number."""
_FILTER_BITS = 22
"""Of a filter that tells most pairs that form nothing, and stays in a core's cache, where the table of pairs does not."""


@dataclass(frozen=True)
class WordTables:
    """What merging asks of a model's pieces."""

    rank: np.ndarray
    """int32 [pieces]: the lower, the sooner a piece is formed; 0 is the highest score."""
    characters: np.ndarray
    """int32 [code points]: the piece of each; -1: none."""
    bytes: np.ndarray
    """int32 [256]: the pieces of bytes."""
    pairs: np.ndarray
    filter: np.ndarray
    """Both as `_pairs_of` gives them."""
    defined: np.ndarray
    """uint8: the user-defined pieces, back to back: a longer one before those that it begins with."""
    defined_sizes: np.ndarray
    """int64 [n]: bytes of each."""
    defined_ids: np.ndarray
    """int32 [n]."""

    @classmethod
    def of(cls, pieces: Pieces) -> WordTables:
        """Those of the pieces of a model that `serves`."""
        normal = pieces.kinds == NORMAL
        characters = np.full(CODE_POINTS, -1, np.int32)
        single = np.flatnonzero(normal & (pieces.characters == 1))
        characters[[ord(pieces.spelled[number].as_py()) for number in single.tolist()]] = single
        of_bytes, numbers = np.empty(256, np.int32), pieces.numbers(BYTE)
        of_bytes[[int(name[3:-1], 16) for name in pieces.named(numbers)]] = numbers
        data, bounds = text_buffers(pieces.spelled)
        pairs, sieve = _pairs_of(data, bounds, normal)
        texts = {number: pieces.spelled[number].as_py().encode() for number in pieces.numbers(USER_DEFINED)}
        defined = sorted(texts, key=lambda number: -len(texts[number]))
        return cls(
            np.unique(-pieces.scores, return_inverse=True)[1].astype(np.int32),
            characters,
            of_bytes,
            pairs,
            sieve,
            np.frombuffer(b"".join(texts[i] for i in defined), np.uint8),
            np.array([len(texts[i]) for i in defined], np.int64),
            np.array(defined, np.int32),
        )


class WordEncoder:
    """Encodes words, each by itself, without their neighbours' help."""

    def __init__(self, tables: WordTables, slow: Callable[[list[str]], list[list[int]]]) -> None:
        """
        Args:
            slow: SentencePiece's encoding of some texts.
        """
        self.tables, self._slow = tables, slow
        ends = np.cumsum(tables.defined_sizes)
        data = tables.defined.tobytes()
        texts = [data[end - size : end] for end, size in zip(ends.tolist(), tables.defined_sizes.tolist(), strict=True)]
        self._defined = Literals([(text, 1) for text in texts])
        self._apart = Literals([("\u2581".encode(), 1)])

    def encode(self, words: pa.LargeStringArray) -> tuple[np.ndarray, np.ndarray]:
        """(ids int32 [total], offsets int64 [n + 1]) of words."""
        text, bounds = text_buffers(words)
        apart = self._apart.find(words).astype(np.bool_) | (np.diff(bounds) > LONGEST)
        defined, tables = self._defined, self.tables
        ids, counts = _merge(
            text,
            bounds,
            apart,
            tables.characters,
            tables.bytes,
            tables.pairs,
            tables.filter,
            tables.rank,
            tables.defined_ids,
            defined.begins,
            defined.bytes,
            defined.offsets,
        )
        if not apart.any():
            return ids, np.r_[0, np.cumsum(counts)]
        numbers = np.flatnonzero(apart)
        slow = self._slow(taken(words, numbers).to_pylist())
        counts[numbers] = [len(one) for one in slow]
        ends = np.r_[0, np.cumsum(counts)]
        together = np.empty(ends[-1], np.int32)
        together[~np.repeat(apart, counts)] = ids
        for number, one in zip(numbers.tolist(), slow, strict=True):
            together[ends[number] : ends[number + 1]] = one
        return together, ends


def serves(spec: Any, pieces: Pieces) -> bool:
    """Whether a model is one whose words are merged here.

    Args:
        spec: its `TrainerSpec`.
    """
    if spec.model_type != _BPE or not spec.byte_fallback or spec.treat_whitespace_as_suffix:
        return False
    if len(pieces) >> PIECE_BITS or pieces.numbers(UNUSED):
        return False
    normal = pieces.kinds == NORMAL
    single = set(pieces.texts.filter(_mask(normal & (pieces.characters == 1))).to_pylist())
    text, _ = text_buffers(pieces.texts.filter(_mask(normal)))
    return set(text.tobytes().decode()) <= single


def _mask(chosen: np.ndarray) -> pa.BooleanArray:
    bits = np.packbits(chosen, bitorder="little")
    return pa.BooleanArray.from_buffers(pa.bool_(), len(chosen), [None, pa.py_buffer(bits)])


@njit(cache=True, nogil=True, inline="always")
def _mixed(key: np.uint64) -> np.uint64:
    h = key * np.uint64(0x9E3779B97F4A7C15)
    return h ^ (h >> np.uint64(32))


@njit(cache=True, nogil=True)
def _find_piece(
    data: np.ndarray, bounds: np.ndarray, table: np.ndarray, hashes: np.ndarray, h: np.uint64, begin: int, end: int
) -> int:
    """The piece whose bytes are ``data[begin:end]``, which have the hash `h`; -1: there is none."""
    mask = np.uint64(len(table) - 1)
    slot = _mixed(h) & mask
    while table[slot]:
        piece = table[slot] - 1
        if hashes[piece] == h and bounds[piece + 1] - bounds[piece] == end - begin:
            same = True
            for k in range(end - begin):
                if data[bounds[piece] + k] != data[begin + k]:
                    same = False
                    break
            if same:
                return int(piece)
        slot = (slot + np.uint64(1)) & mask
    return -1


@njit(cache=True, nogil=True)
def _pairs_of(data: np.ndarray, bounds: np.ndarray, normal: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(uint64 [slots]: the first and the second piece of a pair, and the one that they form and one, in `PIECE_BITS` each, 0 where
    a slot is free; uint64: the filter of pairs)."""
    n = len(normal)
    room = 64
    while room < 2 * n:
        room *= 2
    table, hashes = np.zeros(room, np.int64), np.zeros(n, np.uint64)
    mask = np.uint64(room - 1)
    prime = np.uint64(0x100000001B3)
    for piece in range(n):
        if normal[piece]:
            h = np.uint64(0)
            for k in range(bounds[piece], bounds[piece + 1]):
                h = (h + np.uint64(data[k]) + np.uint64(1)) * prime
            hashes[piece] = h
            slot = _mixed(h) & mask
            while table[slot]:
                slot = (slot + np.uint64(1)) & mask
            table[slot] = piece + 1
    found = np.empty((4 * n + 64, 3), np.int64)
    count = 0
    for piece in range(n):
        begin, end = bounds[piece], bounds[piece + 1]
        if not normal[piece]:
            continue
        before = np.uint64(0)
        for cut in range(begin + 1, end):
            before = (before + np.uint64(data[cut - 1]) + np.uint64(1)) * prime
            if data[cut] & 0xC0 == 0x80:  # within a character
                continue
            first = _find_piece(data, bounds, table, hashes, before, begin, cut)
            if first < 0:
                continue
            after = np.uint64(0)
            for k in range(cut, end):
                after = (after + np.uint64(data[k]) + np.uint64(1)) * prime
            second = _find_piece(data, bounds, table, hashes, after, cut, end)
            if second < 0:
                continue
            if count == len(found):
                larger = np.empty((2 * count, 3), np.int64)
                larger[:count] = found
                found = larger
            found[count, 0], found[count, 1], found[count, 2] = first, second, piece
            count += 1
    room = 64
    while 3 * room < 4 * count:
        room *= 2
    pairs, sieve = np.zeros(room, np.uint64), np.zeros(1 << (_FILTER_BITS - 6), np.uint64)
    mask = np.uint64(room - 1)
    for i in range(count):
        key = np.uint64(found[i, 0]) << np.uint64(PIECE_BITS) | np.uint64(found[i, 1])
        h = _mixed(key)
        sieve[h >> np.uint64(70 - _FILTER_BITS)] |= np.uint64(1) << (
            (h >> np.uint64(64 - _FILTER_BITS)) & np.uint64(63)
        )
        slot = h & mask
        while pairs[slot]:
            slot = (slot + np.uint64(1)) & mask
        pairs[slot] = key << np.uint64(PIECE_BITS) | np.uint64(found[i, 2] + 1)
    return pairs, sieve


@njit(cache=True, nogil=True, inline="always")
def _formed(first: int, second: int, pairs: np.ndarray, sieve: np.ndarray) -> int:
    """The piece that two neighbours form; -1: none."""
    if first < 0 or second < 0:
        return -1
    key = np.uint64(first) << np.uint64(PIECE_BITS) | np.uint64(second)
    h = _mixed(key)
    if not sieve[h >> np.uint64(70 - _FILTER_BITS)] >> (
        (h >> np.uint64(64 - _FILTER_BITS)) & np.uint64(63)
    ) & np.uint64(1):
        return -1
    mask = np.uint64(len(pairs) - 1)
    slot = h & mask
    while pairs[slot]:
        if pairs[slot] >> np.uint64(PIECE_BITS) == key:
            return int(pairs[slot] & np.uint64((1 << PIECE_BITS) - 1)) - 1
        slot = (slot + np.uint64(1)) & mask
    return -1


@njit(cache=True, nogil=True)
def _merge(
    text: np.ndarray,
    bounds: np.ndarray,
    apart: np.ndarray,
    characters: np.ndarray,
    byte_ids: np.ndarray,
    pairs: np.ndarray,
    sieve: np.ndarray,
    rank: np.ndarray,
    defined: np.ndarray,
    begins_defined: np.ndarray,
    defined_bytes: np.ndarray,
    defined_offsets: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """(ids int32 [total], int64 [n]: how many each word has); nothing of the words that are `apart`.

    Args:
        characters: int32 [code points]: the piece of each; -1: none.
        byte_ids: int32 [256]: the pieces of bytes.
        rank: int32 [pieces]: the lower, the sooner a piece is formed.
        defined: int32: the user-defined pieces, longer ones first; the others are their `Literals`.
    """
    n = len(bounds) - 1
    room = 0
    for w in range(n):
        if not apart[w]:
            room += bounds[w + 1] - bounds[w]
    out, counts = np.empty(room, np.int32), np.zeros(n, np.int64)
    # Of each part of a word its piece, -2 - it of a user-defined one, which joins no other, and -1 of a character that is none.
    pieces, begins = np.empty(LONGEST + 1, np.int32), np.empty(LONGEST + 2, np.int64)
    formed, ranks = np.empty(LONGEST + 1, np.int32), np.empty(LONGEST + 1, np.int32)
    at = 0
    for w in range(n):
        if apart[w]:
            continue
        m = 0
        i, end = bounds[w], bounds[w + 1]
        while i < end:
            lead = np.int64(text[i])
            begins[m] = i
            if may_begin(text, i, end, begins_defined):
                k = 0
                while k < len(defined) and not literal_at(text, i, end, defined_bytes, defined_offsets, k):
                    k += 1
                if k < len(defined):
                    pieces[m] = -2 - defined[k]
                    i += defined_offsets[k + 1] - defined_offsets[k]
                    m += 1
                    continue
            if lead < 0x80:
                code = lead
                i += 1
            elif lead < 0xE0:
                code = (lead & 0x1F) << 6 | np.int64(text[i + 1]) & 0x3F
                i += 2
            elif lead < 0xF0:
                code = (lead & 0x0F) << 12 | (np.int64(text[i + 1]) & 0x3F) << 6 | np.int64(text[i + 2]) & 0x3F
                i += 3
            else:
                code = (lead & 0x07) << 18 | (np.int64(text[i + 1]) & 0x3F) << 12
                code |= (np.int64(text[i + 2]) & 0x3F) << 6 | np.int64(text[i + 3]) & 0x3F
                i += 4
            pieces[m] = characters[code]
            m += 1
        begins[m] = end
        for k in range(m - 1):
            formed[k] = _formed(pieces[k], pieces[k + 1], pairs, sieve)
            ranks[k] = rank[formed[k]] if formed[k] >= 0 else _NOTHING
        while True:
            lowest = _NOTHING
            for k in range(m - 1):
                lowest = min(lowest, ranks[k])
            if lowest == _NOTHING:
                break
            best = 0
            while ranks[best] != lowest:
                best += 1
            pieces[best] = formed[best]
            for k in range(best + 1, m - 1):
                pieces[k], begins[k] = pieces[k + 1], begins[k + 1]
                formed[k - 1], ranks[k - 1] = formed[k], ranks[k]
            m -= 1
            begins[m] = end
            for k in range(max(best - 1, 0), min(best + 1, m - 1)):
                formed[k] = _formed(pieces[k], pieces[k + 1], pairs, sieve)
                ranks[k] = rank[formed[k]] if formed[k] >= 0 else _NOTHING
        first = at
        for k in range(m):
            if pieces[k] != -1:
                out[at] = pieces[k] if pieces[k] >= 0 else -2 - pieces[k]
                at += 1
            else:
                for b in range(begins[k], begins[k + 1]):
                    out[at] = byte_ids[text[b]]
                    at += 1
        counts[w] = at - first
    return out[:at], counts

"""Byte-pair encoding of words as SentencePiece does it: the pair whose piece has the highest score is merged first, of equal ones
the leftmost, until no two neighbours form a piece; a character that is no piece becomes its bytes.

User-defined pieces are found before anything is merged, from the left the longest, and join no other.

A model is served if SentencePiece itself knows no more of it than that: trained by BPE, with bytes as fallback, no unused
pieces, and each character of a piece, and the one that stands for a space, a piece of its own. Long words are left to
SentencePiece, whose work does not grow with the square, and so are those with the character that stands for a space in pieces.
"""

# mypy: disable-error-code="return-value"
# Numba infers the types of kernels; mypy knows numpy scalars and Python numbers as different things.

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numba import njit

from .literals import Literals, literal_at, pair_at
from .pieces import BYTE, NORMAL, UNUSED, USER_DEFINED, Pieces
from .spans import mask_of, taken, text_buffers
from .vectors import NUMBERS, least_of

CODE_POINTS = 0x110000
LONGEST = 256
"""Bytes of a word that is merged here: the work grows with the square."""
_BPE = 2
"""Of a model."""
PIECE_BITS = 21
"""A pair of pieces and the one that they form fit into a number."""
_PLACE_BITS = 9
"""The place of a part of a word, below the rank of what it forms."""
_NOTHING = np.int32((1 << 31) - 1)
"""The turn of a pair that forms no piece."""
_FILTER_BITS = 21
"""Of a filter that tells most pairs that form nothing, and stays in a core's cache, where the table of pairs does not."""
_NEAR_BITS = 15
"""Of the slots before that table, which stay there too: for the pairs that form the pieces of lowest rank, which most do."""
_NEAR = 1 << _NEAR_BITS


@dataclass(frozen=True)
class WordTables:
    """What merging asks of a model's pieces."""

    rank: np.ndarray
    """int32 [pieces]: the lower, the sooner a piece is formed; empty where that is the order of the pieces themselves."""
    characters: np.ndarray
    """int32 [code points]: the piece of each; -1: none."""
    bytes: np.ndarray
    """int32 [256]: the pieces of bytes."""
    pairs: np.ndarray
    filter: np.ndarray
    direct: np.ndarray
    """All three as `_pairs_of` gives them."""
    joined: np.ndarray
    """bool [128, 128]: whether a piece, also a user-defined one, has two characters side by side."""
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
        longer = np.flatnonzero(normal & (pieces.characters > 1))
        rank = np.empty(0, np.int32)
        if (np.diff(pieces.scores[longer]) >= 0).any():
            rank = np.unique(-pieces.scores, return_inverse=True)[1].astype(np.int32)
        order = longer[np.argsort(pieces.characters[longer], kind="stable")]
        ranks = np.sort(rank[order] if len(rank) else order)
        near = int(ranks[_NEAR // 2]) if len(ranks) > _NEAR // 2 else len(pieces)
        pairs, sieve, direct = _pairs_of(data, bounds, order, near, characters, rank)
        texts = {number: pieces.spelled[number].as_py().encode() for number in pieces.numbers(USER_DEFINED)}
        defined = sorted(texts, key=lambda number: -len(texts[number]))
        return cls(
            rank,
            characters,
            of_bytes,
            pairs,
            sieve,
            direct,
            _joined(data, bounds, normal | (pieces.kinds == USER_DEFINED)),
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
            tables.direct,
            tables.rank,
            tables.defined_ids,
            defined.begins,
            defined.starts,
            defined.numbers,
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
    single = set(pieces.texts.filter(mask_of(normal & (pieces.characters == 1))).to_pylist())
    text, _ = text_buffers(pieces.texts.filter(mask_of(normal)))
    return {"\u2581", *text.tobytes().decode()} <= single


def _joined(data: np.ndarray, bounds: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """bool [128, 128]: which characters of ASCII some pieces have side by side.

    Args:
        data, bounds: the texts of all pieces, back to back from 0 on; `chosen` says which of them count.
    """
    ascii_only = data < 128
    side_by_side = ascii_only[:-1] & ascii_only[1:] & np.repeat(chosen, np.diff(bounds))[:-1]
    last = bounds[1:][(bounds[1:] > 0) & (bounds[1:] < len(data))] - 1
    side_by_side[last] = False
    joined = np.zeros((128, 128), np.bool_)
    joined[data[:-1][side_by_side], data[1:][side_by_side]] = True
    return joined


@njit(cache=True, nogil=True, inline="always")
def _mixed(key: np.uint64) -> np.uint64:
    h = key * np.uint64(0x9E3779B97F4A7C15)
    return h ^ (h >> np.uint64(32))


@njit(cache=True, nogil=True, inline="always")
def _key(first: int, second: int) -> np.uint64:
    return np.uint64(first) << np.uint64(PIECE_BITS) | np.uint64(second)


@njit(cache=True, nogil=True, inline="always")
def _found(slots: np.ndarray, slot: np.uint64, key: np.uint64) -> int:
    """The piece that a pair forms, by its key in some slots, of which there is a power of two; -1: it is not there."""
    piece = np.int64(-1)
    while slots[slot]:
        if slots[slot] >> np.uint64(PIECE_BITS) == key:
            piece = np.int64(slots[slot] & np.uint64((1 << PIECE_BITS) - 1)) - 1
            break
        slot = (slot + np.uint64(1)) & np.uint64(len(slots) - 1)
    return piece


@njit(cache=True, nogil=True)
def _formed(first: int, second: int, pairs: np.ndarray, sieve: np.ndarray) -> int:
    """The piece that two neighbours form; -1: none."""
    if first < 0 or second < 0:
        return -1
    key = _key(first, second)
    h = _mixed(key)
    near = _found(pairs[:_NEAR], h >> np.uint64(64 - _NEAR_BITS), key)
    if near >= 0:
        return near
    if not sieve[h >> np.uint64(70 - _FILTER_BITS)] >> (
        (h >> np.uint64(64 - _FILTER_BITS)) & np.uint64(63)
    ) & np.uint64(1):
        return -1
    far = pairs[_NEAR:]
    return _found(far, h & np.uint64(len(far) - 1), key)


@njit(cache=True, nogil=True, inline="always")
def _turn(piece: int, place: int, rank: np.ndarray) -> np.int32:
    """What is least of the pair that is merged next: by the rank of the piece that it forms, then by its place."""
    if piece < 0:
        return _NOTHING
    return np.int32((np.int64(rank[piece]) if len(rank) else piece) << _PLACE_BITS | place)


@njit(cache=True, nogil=True)
def _merge_parts(
    m: int,
    parts: np.ndarray,
    formed: np.ndarray,
    turns: np.ndarray,
    following: np.ndarray,
    before: np.ndarray,
    pairs: np.ndarray,
    sieve: np.ndarray,
    rank: np.ndarray,
) -> None:
    """Merge the first `m` parts of a word until no two neighbours form a piece.

    A part that was merged into the one before it stays where it is, and is passed over.

    Args:
        parts: int32: the piece of each; below 0: it joins none.
        formed: int32: the piece that each forms with the next; -1: none.
        turns: int32: `_turn` of that, `_NOTHING` from ``m - 1`` on, as far as the next multiple of `NUMBERS`.
        following, before: int32: become the next and the last part of each.
    """
    for k in range(m):
        following[k], before[k] = k + 1, k - 1
    while True:
        least = _NOTHING
        for k in range(0, m - 1, NUMBERS):
            least = min(least, least_of(turns, k))
        if least == _NOTHING:
            return
        place = np.int64(least) & ((1 << _PLACE_BITS) - 1)
        gone = np.int64(following[place])
        after = np.int64(following[gone])
        parts[place] = formed[place]
        following[place] = after
        turns[gone] = turns[place] = _NOTHING
        if after < m:
            before[after] = place
            formed[place] = _formed(parts[place], parts[after], pairs, sieve)
            turns[place] = _turn(formed[place], place, rank)
        last = np.int64(before[place])
        if last >= 0:
            formed[last] = _formed(parts[last], parts[place], pairs, sieve)
            turns[last] = _turn(formed[last], last, rank)


@njit(cache=True, nogil=True, inline="always")
def _code_at(text: np.ndarray, at: int) -> tuple[int, int]:
    """(the character that begins at a byte, where it ends)."""
    lead = np.int64(text[at])
    if lead < 0x80:
        return lead, at + 1
    if lead < 0xE0:
        return (lead & 0x1F) << 6 | np.int64(text[at + 1]) & 0x3F, at + 2
    if lead < 0xF0:
        code = (lead & 0x0F) << 12 | (np.int64(text[at + 1]) & 0x3F) << 6 | np.int64(text[at + 2]) & 0x3F
        return code, at + 3
    code = (lead & 0x07) << 18 | (np.int64(text[at + 1]) & 0x3F) << 12
    return code | (np.int64(text[at + 2]) & 0x3F) << 6 | np.int64(text[at + 3]) & 0x3F, at + 4


@njit(cache=True, nogil=True)
def _pairs_of(
    data: np.ndarray, bounds: np.ndarray, order: np.ndarray, near: int, characters: np.ndarray, rank: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of each piece the one pair that can form it: what merging its own text comes to before the last step.

    A pair that lies within a longer word has come about by the same steps, since none of them crossed its ends; so no word has
    any other pair of neighbours that form the piece.

    Args:
        order: int64: pieces of two and more characters, each after all that are shorter.
        near: the rank below which a piece's pair stands in the first slots.

    Returns:
        uint64 [_NEAR + slots]: the first and the second piece of a pair, and the one that they form and one, in `PIECE_BITS` each,
        0 where a slot is free; uint64: a filter of the pairs after the first slots; int32 [128 x 128]: the piece that two
        characters of ASCII form, -1: none.
    """
    room = 64
    while 3 * room < 4 * len(order):
        room *= 2
    pairs, sieve = np.zeros(_NEAR + room, np.uint64), np.zeros(1 << (_FILTER_BITS - 6), np.uint64)
    direct = np.full(1 << 14, -1, np.int32)
    parts, formed = np.empty(LONGEST + 1, np.int32), np.empty(LONGEST + 1, np.int32)
    turns = np.empty(LONGEST + NUMBERS, np.int32)
    following, before = np.empty(LONGEST + 1, np.int32), np.empty(LONGEST + 1, np.int32)
    for piece in order:
        at, end = bounds[piece], bounds[piece + 1]
        if end - at > LONGEST:
            continue
        m = 0
        while at < end:
            code, at = _code_at(data, at)
            parts[m] = characters[code]
            m += 1
        for k in range(m - 1):
            formed[k] = _formed(parts[k], parts[k + 1], pairs, sieve)
            turns[k] = _turn(formed[k], k, rank)
        turns[m - 1 : m - 1 + NUMBERS] = _NOTHING
        _merge_parts(m, parts, formed, turns, following, before, pairs, sieve, rank)
        second = following[0]
        if second == m or following[second] != m or parts[0] < 0 or parts[second] < 0:
            continue
        key = _key(parts[0], parts[second])
        h = _mixed(key)
        if (np.int64(rank[piece]) if len(rank) else piece) < near:
            slot, slots, mask = h >> np.uint64(64 - _NEAR_BITS), pairs[:_NEAR], np.uint64(_NEAR - 1)
        else:
            sieve[h >> np.uint64(70 - _FILTER_BITS)] |= np.uint64(1) << (
                (h >> np.uint64(64 - _FILTER_BITS)) & np.uint64(63)
            )
            slots, mask = pairs[_NEAR:], np.uint64(room - 1)
            slot = h & mask
        while slots[slot]:
            slot = (slot + np.uint64(1)) & mask
        slots[slot] = key << np.uint64(PIECE_BITS) | np.uint64(piece + 1)
        if bounds[piece + 1] - bounds[piece] == 2 == m:
            direct[np.int64(data[bounds[piece]]) << 7 | np.int64(data[bounds[piece] + 1])] = piece
    return pairs, sieve, direct


@njit(cache=True, nogil=True)
def _merge(
    text: np.ndarray,
    bounds: np.ndarray,
    apart: np.ndarray,
    characters: np.ndarray,
    byte_ids: np.ndarray,
    pairs: np.ndarray,
    sieve: np.ndarray,
    direct: np.ndarray,
    rank: np.ndarray,
    defined: np.ndarray,
    defined_begins: np.ndarray,
    defined_starts: np.ndarray,
    defined_numbers: np.ndarray,
    defined_bytes: np.ndarray,
    defined_offsets: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """(ids int32 [total], int64 [n]: how many each word has); nothing of the words that are `apart`.

    Args:
        characters: int32 [code points]: the piece of each; -1: none.
        byte_ids: int32 [256]: the pieces of bytes.
        rank: of `WordTables`.
        defined: int32: the user-defined pieces, longer ones first; the others are their `Literals`.
    """
    n = len(bounds) - 1
    room = 0
    for w in range(n):
        if not apart[w]:
            room += bounds[w + 1] - bounds[w]
    out, counts = np.empty(room, np.int32), np.zeros(n, np.int64)
    # Of each part of a word its piece, -2 - it of a user-defined one, which joins no other, and -1 of a character that is none.
    parts, begins = np.empty(LONGEST + 1, np.int32), np.empty(LONGEST + 2, np.int64)
    formed, turns = np.empty(LONGEST + 1, np.int32), np.empty(LONGEST + NUMBERS, np.int32)
    following, before = np.empty(LONGEST + 1, np.int32), np.empty(LONGEST + 1, np.int32)
    at = 0
    for w in range(n):
        if apart[w]:
            continue
        m = 0
        i, end = bounds[w], bounds[w + 1]
        last = 0x80
        while i < end:
            begins[m] = i
            code = 0x80
            parts[m] = -1
            pair = pair_at(text, i, end)
            if defined_begins[pair]:
                for number in range(defined_starts[pair], defined_starts[pair + 1]):
                    k = defined_numbers[number]
                    if literal_at(text, i, end, defined_bytes, defined_offsets, k):
                        parts[m] = -2 - defined[k]
                        i += defined_offsets[k + 1] - defined_offsets[k]
                        break
            if parts[m] == -1:
                code, i = _code_at(text, i)
                parts[m] = characters[code]
            if m:
                if last < 0x80 and code < 0x80:
                    formed[m - 1] = direct[last << 7 | code]
                else:
                    formed[m - 1] = _formed(parts[m - 1], parts[m], pairs, sieve)
                turns[m - 1] = _turn(formed[m - 1], m - 1, rank)
            last = code
            m += 1
        begins[m] = end
        first = at
        if m:
            turns[m - 1 : m - 1 + NUMBERS] = _NOTHING
            _merge_parts(m, parts, formed, turns, following, before, pairs, sieve, rank)
        k = 0
        while k < m:
            after = np.int64(following[k])
            if parts[k] != -1:
                out[at] = parts[k] if parts[k] >= 0 else -2 - parts[k]
                at += 1
            else:
                for b in range(begins[k], begins[after]):
                    out[at] = byte_ids[text[b]]
                    at += 1
            k = after
        counts[w] = at - first
    return out[:at], counts
